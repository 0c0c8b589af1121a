//! `rex policy check`: every fault of the policies of this host, or of files, and what the lints find; as text, or as JSON for editors and CI.

use crate::config::RedactionSettings;
use crate::error::{Error, Exit, Kind, Result};
use crate::functions::vocabulary;
use crate::os::places;
use crate::os::trusted::Owner;
use crate::policy::Source;
use crate::policy::lint::{self, Finding, Found, Host, Level, People, Report, Surroundings};
use crate::terms::OwnersFiles;
use clap::Args;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Findings of one lint that are shown as text unless all are wanted; faults are always shown.
const SHOWN: usize = 10;
/// The version of the JSON form.
const SCHEMA: u32 = 1;

#[derive(Args)]
pub struct CheckArgs {
    /// Files, or folders of *.cedar files; without any, those of rex.toml, with the checks of owner and mode that sessions make.
    files: Vec<PathBuf>,
    /// The rex.toml; the policies and principals.toml lie beside it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The policies are for another host: ask nothing of this one, its paths and its principals.toml.
    #[arg(long)]
    elsewhere: bool,
    /// Exit 78 for warnings too.
    #[arg(long)]
    deny_warnings: bool,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
    /// Show all findings, also where many are alike.
    #[arg(long)]
    all: bool,
}

/// Parses, validates and looks through; exit 78 when the policies would stop everything.
#[must_use]
pub fn run(args: &CheckArgs) -> u8 {
    let report = match look(args) {
        Ok(report) => report,
        Err(error) => return super::fault(&error),
    };
    let bad = report.count(Level::Error) > 0 || args.deny_warnings && report.count(Level::Warning) > 0;
    let shown = if args.json { super::super::show(&document(&report)) } else { text(&report, args.all) };
    if bad { Exit::ConfigInvalid as u8 } else { shown }
}

fn look(args: &CheckArgs) -> Result<Report> {
    // Files that are named may lie anywhere; those of rex.toml must be fit for sessions.
    let owner = if args.files.is_empty() { Owner::RootOnly } else { Owner::Unchecked };
    let files = OwnersFiles::new(args.config.as_deref(), owner);
    let mut faults: Vec<Finding> = Vec::new();
    let mut bytes = Vec::new();
    let mut errors = Vec::new();
    if args.files.is_empty() {
        bytes = files.all_sources(None, &mut errors);
        settings(args, &files, &mut faults);
    }
    for path in &args.files {
        if path.exists() {
            bytes.extend(files.all_sources(Some(path), &mut errors));
        } else {
            errors.push(Error::new(Kind::NotFound, "there is no such file or folder").with_path(path.display().to_string()));
        }
    }
    let lint_of = |error: &Error| if error.kind == Kind::NotFound { "no-policy" } else { "untrusted" };
    for fault in errors.iter().map(|error| of_error(lint_of(error), error, "")) {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    let mut sources = Vec::new();
    for (name, bytes) in bytes {
        match String::from_utf8(bytes) {
            Ok(text) => sources.push(Source { name, text }),
            Err(error) => {
                let (offset, bytes) = (error.utf8_error().valid_up_to(), error.into_bytes());
                let source = Source { name, text: String::from_utf8_lossy(&bytes).into_owned() };
                faults.push(Finding::at(&source, "syntax", offset, "this byte is not UTF-8 text".to_owned()));
            }
        }
    }
    // A file that is named twice is one file.
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    sources.dedup_by(|a, b| a.name == b.name);
    if sources.is_empty() && faults.is_empty() {
        let place = args.files.first().cloned().unwrap_or_else(|| files.folder().join("policies"));
        let message = "no policy at all: there is no *.cedar file".to_owned();
        faults.push(Finding::of_file("no-policy", place.to_string_lossy().into_owned(), message, None));
    }
    let people = if args.elsewhere { None } else { people(args.config.as_deref()) };
    let mut report =
        if sources.is_empty() && !faults.is_empty() { Report::default() } else { lint(&sources, people.as_ref(), args.elsewhere)? };
    faults.append(&mut report.findings);
    report.findings = faults;
    Ok(report)
}

/// What the lints find. `elsewhere`: nothing is asked of this host.
fn lint(sources: &[Source], people: Option<&People>, elsewhere: bool) -> Result<Report> {
    let host = ThisHost::default();
    let around =
        Surroundings { host: (!elsewhere).then_some(&host as &dyn Host), people, now: Some(jiff::Timestamp::now().as_millisecond()) };
    let (asks, nouns) = vocabulary();
    lint::check(sources, &asks, &nouns, around)
}

/// Shows what the lints find in a set that is about to be put in force on this host.
pub(super) fn show_findings(sources: &[Source], config: Option<&Path>) -> Result<()> {
    let report = lint(sources, people(config).as_ref(), false)?;
    text(&report, false);
    Ok(())
}

/// What a session needs besides policies: whether it would believe the files, and what they say.
fn settings(args: &CheckArgs, files: &OwnersFiles, faults: &mut Vec<Finding>) {
    let any = OwnersFiles::new(args.config.as_deref(), Owner::Unchecked);
    let folder = files.folder();
    let mut add = |file: &Path, error: &Error| faults.push(of_error("settings", error, &file.to_string_lossy()));
    let redaction = match any.config() {
        Ok(config) => config.redaction,
        Err(error) => {
            add(&files.config, &error);
            RedactionSettings::default()
        }
    };
    let (principals, dictionary) = (folder.join("principals.toml"), folder.join(&redaction.dictionary));
    if let Err(error) = any.principals() {
        add(&principals, &error);
    }
    // A dictionary that cannot be used is better known now than when somebody needs it.
    if let Err(error) = any.redaction(&redaction) {
        add(&dictionary, &error);
    }
    for file in [&files.config, &principals, &dictionary] {
        for error in files.distrust(file) {
            let fault = of_error("untrusted", &error, &file.to_string_lossy());
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
}

/// Whom principals.toml describes; None where there is none, or it cannot be used (which is a finding of its own).
fn people(config: Option<&Path>) -> Option<People> {
    let files = OwnersFiles::new(config, Owner::Unchecked);
    if !files.folder().join("principals.toml").is_file() {
        return None;
    }
    let principals = files.principals().ok()?;
    Some(People {
        users: principals.people().map(|person| person.name.clone()).collect(),
        groups: principals.people().flat_map(|person| person.groups.iter().cloned()).collect(),
        others_pass: principals.others_pass(),
    })
}

/// An error about a file, whose message may begin with `file:line:column: `.
fn of_error(lint: &'static str, error: &Error, file: &str) -> Finding {
    let file = error.path.clone().unwrap_or_else(|| file.to_owned());
    let mut finding = Finding::of_file(lint, file.clone(), error.message.clone(), error.hint.clone().filter(|hint| !hint.is_empty()));
    let place = error.message.strip_prefix(&file).and_then(|rest| rest.strip_prefix(':')).and_then(|rest| {
        let mut parts = rest.splitn(3, ':');
        Some((parts.next()?.parse::<usize>().ok()?, parts.next()?.parse::<usize>().ok()?, parts.next()?.trim_start().to_owned()))
    });
    match place {
        Some((line, column, message)) => {
            (finding.line, finding.column, finding.end_line, finding.end_column, finding.message) = (line, column, line, column, message);
        }
        // The file is in front of the line already.
        None => {
            if let Some(rest) =
                error.message.strip_suffix(&format!(": {file}")).or_else(|| error.message.strip_prefix(&format!("{file}: ")))
            {
                finding.message = rest.to_owned();
            }
        }
    }
    finding
}

/// Asked once about each path.
#[derive(Default)]
struct ThisHost {
    known: Mutex<HashMap<String, Option<Found>>>,
}

impl Host for ThisHost {
    fn look(&self, path: &str) -> Option<Found> {
        let mut known = self.known.lock().ok()?;
        known
            .entry(path.to_owned())
            .or_insert_with(|| {
                let bytes = crate::resource::path::from_id(path);
                let text = String::from_utf8(bytes).ok()?;
                places::look(&text).map(|place| Found { real: place.real, exists: place.exists, folder: place.folder, open: place.open })
            })
            .clone()
    }
}

/// Findings on stderr, the sum on stdout.
fn text(report: &Report, all: bool) -> u8 {
    let mut out = String::new();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for finding in &report.findings {
        let count = seen.entry(finding.lint).or_default();
        *count += 1;
        if all || finding.level == Level::Error || *count <= SHOWN {
            out.push_str(&finding.text());
            out.push('\n');
        }
    }
    for lint in lint::LINTS.iter().filter(|lint| !all && lint.level != Level::Error) {
        if let Some(more) = seen.get(lint.name).and_then(|count| count.checked_sub(SHOWN)).filter(|more| *more > 0) {
            out.push_str(&format!("… and {more} more of [{}]; --all shows them\n", lint.name));
        }
    }
    let _ = crate::output::write_all(rustix::stdio::stderr(), crate::output::neutralise(&out).as_bytes());
    super::super::show(&format!("{}\n", sum(report)))
}

fn sum(report: &Report) -> String {
    let count = |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    let findings =
        [(Level::Error, "error"), (Level::Warning, "warning"), (Level::Note, "note")].map(|(level, name)| count(report.count(level), name));
    let policies = if report.policies == 1 { "1 policy".to_owned() } else { format!("{} policies", report.policies) };
    let valid = if report.count(Level::Error) > 0 { "invalid" } else { "valid" };
    let allowed = if report.allowed > 0 { format!(" ({} allowed)", report.allowed) } else { String::new() };
    let digest = if report.digest.is_empty() { String::new() } else { format!(", digest {}", report.digest) };
    format!("{policies}, {valid}: {}{allowed}{digest}", findings.join(", "))
}

fn document(report: &Report) -> String {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "level": finding.level.name(),
                "lint": finding.lint,
                "file": finding.file,
                "line": finding.line,
                "column": finding.column,
                "end_line": finding.end_line,
                "end_column": finding.end_column,
                "policy": finding.policy,
                "message": finding.message,
                "help": finding.help,
            })
        })
        .collect();
    let whole = json!({
        "schema": SCHEMA,
        "valid": report.count(Level::Error) == 0,
        "policies": report.policies,
        "digest": report.digest,
        "errors": report.count(Level::Error),
        "warnings": report.count(Level::Warning),
        "notes": report.count(Level::Note),
        "allowed": report.allowed,
        "findings": findings,
    });
    format!("{whole:#}\n")
}
