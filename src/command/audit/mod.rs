//! `rex audit`: records shown, followed, counted, replayed, and their chains verified.

mod args;
mod follow;
mod sources;
mod verify;

pub use args::AuditArgs;

use crate::audit::{Filter, Form, Stats, find_denial, moment, script, show, timeline};
use crate::error::{Error, Exit, Kind, Result, counted};
use args::{AuditCommand, Format, ReplayArgs, ScriptArgs, ShowArgs, StatsArgs, Wanted};
use sources::Input;
use std::io::BufRead;

/// Does what was asked for; gives the exit code: 1 when a chain is broken, a line is no record, or there is nothing of the wanted run.
#[must_use]
pub fn run(args: &AuditArgs) -> u8 {
    let done = match &args.command {
        Some(AuditCommand::Show(args)) => shown(args),
        Some(AuditCommand::Verify(args)) => verify::run(args),
        Some(AuditCommand::Follow(args)) => follow::run(args),
        Some(AuditCommand::Stats(args)) => stats(args),
        Some(AuditCommand::Replay(args)) => replay(args),
        Some(AuditCommand::Script(args)) => kept(args),
        None if args.verify => verify::run(&args.show.to_verify()),
        None => shown(&args.show),
    };
    match done {
        Ok(code) => code,
        // Whoever closed the pipe has read enough.
        Err(error) if error.kind == Kind::Cancelled => Exit::Ok as u8,
        Err(error) => super::local::failed(&error),
    }
}

fn exit(good: bool) -> u8 {
    if good { Exit::Ok as u8 } else { Exit::ScriptFailed as u8 }
}

impl Wanted {
    /// # Errors
    /// [`Kind::Usage`] for a time that is none.
    fn filter(&self) -> Result<Filter> {
        let now = jiff::Timestamp::now();
        let time = |text: &Option<String>| text.as_deref().map(|text| moment(text, now)).transpose();
        Ok(Filter {
            run: self.run.clone(),
            principal: self.principal.clone(),
            group: self.group.clone(),
            action: self.action.clone(),
            resource: self.resource.clone(),
            decision: self.decision.map(|decision| decision.word().to_owned()),
            event: self.event.clone(),
            reference: self.reference.clone(),
            since: time(&self.since)?,
            until: time(&self.until)?,
        })
    }
}

const fn form(format: Format) -> Form {
    match format {
        Format::Human => Form::Human,
        Format::Json => Form::Json,
        Format::Ecs => Form::Ecs,
        Format::Ocsf => Form::Ocsf,
    }
}

fn shown(args: &ShowArgs) -> Result<u8> {
    let filter = args.wanted.filter()?;
    if args.timeline {
        let run = args.wanted.run.clone().ok_or_else(|| Error::new(Kind::Usage, "--timeline is of one run: name it with --run"))?;
        return replay(&ReplayArgs { run, sources: args.sources.clone() });
    }
    let form = form(if args.json { Format::Json } else { args.format });
    let (mut good, mut matched, mut records) = (true, 0, 0);
    for input in args.sources.inputs(&filter)? {
        let Input { name, lines } = input?;
        let summary = show(lines, &filter, form, &mut Stdout)?;
        // For people each is told of where it stands.
        for (line, problem) in summary.malformed.iter().filter(|_| form != Form::Human) {
            super::say(&format!("{name}:{line}: {problem}"));
        }
        good &= summary.bad == 0;
        matched += summary.shown;
        records += summary.lines.saturating_sub(summary.bad);
    }
    nothing(&args.wanted, matched, records);
    Ok(exit(good))
}

fn stats(args: &StatsArgs) -> Result<u8> {
    let filter = args.wanted.filter()?;
    let (mut stats, mut good) = (Stats::default(), true);
    for input in args.sources.inputs(&filter)? {
        let input = input?;
        let (read, lines) = (stats.read, stats.lines);
        stats.add(input.lines, &filter)?;
        if stats.read == read && stats.lines > lines {
            super::say(&format!("{}: none of its {} is a record of rex", input.name, counted(stats.lines - lines, "line")));
            good = false;
        }
    }
    nothing(&args.wanted, stats.matched(), stats.read);
    let text = if args.json { format!("{}\n", stats.json(args.top)) } else { stats.human(args.top) };
    let shown = super::show(&text);
    Ok(if good { shown } else { exit(false) })
}

/// Says that nothing was wanted, and why that may be.
fn nothing(wanted: &Wanted, matched: u64, records: u64) {
    if matched > 0 || records == 0 {
        return;
    }
    super::say(&format!("rex: none of {} fits what was asked for", counted(records, "record")));
    if let Some(action) = &wanted.action {
        let word = action.rsplit("::").next().unwrap_or(action).trim_matches('"');
        let (asks, _) = crate::functions::vocabulary();
        let known = || asks.iter().chain(crate::policy::schema::VERBS).map(|ask| ask.name);
        if !known().any(|known| known == word) {
            let near = crate::functions::value::nearest(word, known()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            super::say(&format!("rex: there is no action `{}`{near}", crate::invocation::words::shown(word)));
        }
    }
}

/// All inputs one after another: a run can be spread over files.
fn joined(sources: &args::Sources, run: &str) -> Result<Box<dyn BufRead>> {
    let filter = Filter { run: Some(run.to_owned()), ..Filter::default() };
    let mut all: Box<dyn BufRead> = Box::new(std::io::empty());
    for input in sources.inputs(&filter)? {
        all = Box::new(std::io::Read::chain(all, input?.lines));
    }
    Ok(all)
}

fn none_of(run: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no record of a run `{}`", run.escape_debug()))
}

/// The run that had this denial.
fn run_of(sources: &args::Sources, reference: &str) -> Result<String> {
    for input in sources.inputs(&Filter { reference: Some(reference.to_owned()), ..Filter::default() })? {
        if let Some(record) = find_denial(input?.lines, reference, None)?
            && let Some(run) = record.get("run").and_then(serde_json::Value::as_str)
        {
            return Ok(run.to_owned());
        }
    }
    Err(Error::new(Kind::NotFound, format!("no record has the reference `{}`", reference.escape_debug())))
}

fn replay(args: &ReplayArgs) -> Result<u8> {
    // The reference of a denial is as good as the run that it was of.
    let run = match args.run.starts_with("d-") {
        true => run_of(&args.sources, &args.run)?,
        false => args.run.clone(),
    };
    let told = timeline(joined(&args.sources, &run)?, &run, &mut Stdout)?;
    if told.records == 0 {
        return Err(none_of(&run));
    }
    if !told.others.is_empty() {
        super::say(&format!("rex: further runs begin like that: {}", told.others.join(", ")));
    }
    Ok(Exit::Ok as u8)
}

fn kept(args: &ScriptArgs) -> Result<u8> {
    let Some(kept) = script(joined(&args.sources, &args.run)?, &args.run)? else {
        return Err(Error::new(Kind::NotFound, format!("no record keeps the script of a run `{}`", args.run.escape_debug()))
            .with_hint("scripts are kept where `keep_scripts` in [audit] of rex.toml says so"));
    };
    let code = super::show(&kept.text);
    if kept.missing > 0 {
        super::say(&format!("rex: {} pieces of it are missing", kept.missing));
    }
    if kept.left_out > 0 {
        super::say(&format!("rex: its last {} bytes were not kept", kept.left_out));
    }
    if kept.is_the_one == Some(false) {
        super::say("rex: it is not the script that ran: its digest is another one");
    }
    Ok(if kept.missing > 0 || kept.is_the_one == Some(false) { exit(false) } else { code })
}

/// Standard output for the records: a reader that closes it has seen enough.
struct Stdout;

impl std::io::Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match crate::output::write_all(rustix::stdio::stdout(), bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => Err(std::io::Error::other(error.message)),
        }
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
