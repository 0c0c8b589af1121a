//! `rex audit`: the records of a file, filtered and readable, or their chain verified.

use super::cli::AuditArgs;
use crate::audit::{Filter, reader, show, verify};
use crate::error::{Error, Exit, Kind, Result};
use crate::os::trusted::Owner;
use crate::terms::OwnersFiles;
use std::path::PathBuf;

/// Shows or verifies; gives the exit code: 1 when a chain is broken or a line is no record.
#[must_use]
pub fn run(args: &AuditArgs) -> u8 {
    match try_run(args) {
        Ok(code) => code,
        Err(error) => super::local::failed(&error),
    }
}

fn files(args: &AuditArgs) -> Result<Vec<PathBuf>> {
    if !args.files.is_empty() {
        return Ok(args.files.clone());
    }
    let config = OwnersFiles::new(args.config.as_deref(), Owner::Unchecked).config()?;
    if config.audit.file.is_empty() {
        return Err(Error::new(Kind::Usage, "no file of records: `audit.file` of rex.toml is empty")
            .with_hint("name a file, or look in the system's log: `journalctl -t rex`"));
    }
    Ok(vec![PathBuf::from(&config.audit.file)])
}

fn filter(args: &AuditArgs) -> Result<Filter> {
    let time = |text: &Option<String>, option: &str| {
        text.as_deref()
            .map(|text| text.parse().map_err(|_| Error::new(Kind::Usage, format!("{option} takes a time such as 2026-01-31T14:00:00Z"))))
            .transpose()
    };
    if let Some(word) = args.decision.as_deref().filter(|word| !matches!(*word, "allow" | "deny")) {
        return Err(Error::new(Kind::Usage, format!("--decision takes `allow` or `deny`, not `{}`", word.escape_debug())));
    }
    Ok(Filter {
        run: args.run.clone(),
        principal: args.principal.clone(),
        action: args.action.clone(),
        decision: args.decision.clone(),
        event: args.event.clone(),
        since: time(&args.since, "--since")?,
        until: time(&args.until, "--until")?,
        json: args.json,
    })
}

fn try_run(args: &AuditArgs) -> Result<u8> {
    let filter = filter(args)?;
    let mut broken = false;
    for path in files(args)? {
        let file = crate::os::trusted::open_any(&path)?;
        if args.verify {
            let verdict = verify(reader(file)?)?;
            for (line, problem) in &verdict.problems {
                super::say(&format!("{}:{line}: {problem}", path.display()));
            }
            for (run, pid) in &verdict.unfinished {
                // Killed without a word, rex writes no end; nobody else writes one in its name.
                let how = if process_exists(*pid) { "it may be going on" } else { "its process is gone, how it ended is unknown" };
                super::say(&format!("{}: run {run} has no end record: {how}", path.display()));
            }
            broken |= !verdict.problems.is_empty();
            let _ = super::show(&format!(
                "{}: {} records of {} runs, {} problems\n",
                path.display(),
                verdict.records,
                verdict.runs,
                verdict.problems.len()
            ));
        } else {
            let mut out = Stdout;
            let summary = show(reader(file)?, &filter, &mut out)?;
            for (line, problem) in &summary.malformed {
                super::say(&format!("{}:{line}: {problem}", path.display()));
            }
            broken |= summary.bad > 0;
        }
    }
    Ok(if broken { Exit::ScriptFailed as u8 } else { Exit::Ok as u8 })
}

/// Whether this host has a process of that number now, perhaps another one.
fn process_exists(pid: i64) -> bool {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
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
