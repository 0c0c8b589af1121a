//! `rex policy test`: runs the tests that lie beside policies, by the code that enforces, and says what became of each.

use super::super::{say, show};
use crate::config::Config;
use crate::error::{Error, Exit, Kind, Result, counted};
use crate::os::trusted::Owner;
use crate::policy::suite::{self, Outcome, Report};
use crate::policy::{Policies, Scope, Source};
use crate::terms::OwnersFiles;
use crate::terms::tested::{self, ENDING};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Which tests to run, and how to tell of them.
#[derive(Args)]
pub struct TestArgs {
    /// Folders, *.cedar files or *.test.toml files; without any, the policies of rex.toml. A *.cedar file is tried alone, by its @test annotations
    /// and the NAME.test.toml beside it.
    pub files: Vec<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only tests whose FILE::NAME holds this text.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// One JSON document instead of lines.
    #[arg(long)]
    pub json: bool,
    /// List the rules that no test decides.
    #[arg(long, conflicts_with = "filter")]
    pub coverage: bool,
    /// Fail when there is a rule that no test decides.
    #[arg(long, conflicts_with = "filter")]
    pub require_coverage: bool,
}

/// Runs the tests. Exit 0 when all pass, 1 when one fails or there is none, 78 when policies or tests are invalid.
#[must_use]
pub fn run(args: &TestArgs) -> u8 {
    match try_run(args) {
        Ok(code) => code,
        Err(error) => super::fault(&error),
    }
}

fn try_run(args: &TestArgs) -> Result<u8> {
    // Files that are named may lie anywhere; those of rex.toml must be fit for sessions.
    let owner = if args.files.is_empty() { Owner::RootOnly } else { Owner::Unchecked };
    let files = OwnersFiles::new(args.config.as_deref(), owner);
    let config = if args.files.is_empty() || args.config.is_some() { files.config()? } else { Config::default() };
    let (policies, tests) = gather(&args.files, &files)?;
    // All of them must be valid, not only those that some test is about.
    Policies::load(&policies, &crate::terms::schema(), &Scope::default(), None)?;
    let vocabulary = tested::vocabulary();
    let mut cases = suite::read(&tests, &policies, &vocabulary)?;
    if cases.is_empty() {
        say(&format!("rex: there is no test: no *{ENDING} file, and no @test at a rule"));
        return Ok(Exit::ScriptFailed as u8);
    }
    let all = cases.len();
    if let Some(text) = &args.filter {
        cases.retain(|case| format!("{}::{}", leaf(&case.file), case.name).contains(text.as_str()));
        if cases.is_empty() {
            say(&format!("rex: none of the {all} tests has `{}` in its name", crate::invocation::words::shown(text)));
            return Ok(Exit::ScriptFailed as u8);
        }
    }
    let report = tested::run(&cases, &policies, &vocabulary, &files, &config)?;
    let failed = report.outcomes.iter().filter(|outcome| !outcome.passed()).count();
    let good = failed == 0 && (report.undecided.is_empty() || !args.require_coverage);
    let text = if args.json { as_json(&report, good, all) } else { as_text(&report, args, failed, good, all) };
    let shown = show(&text);
    Ok(if shown != 0 || good { shown } else { Exit::ScriptFailed as u8 })
}

/// The policies and the files of tests.
fn gather(named: &[PathBuf], files: &OwnersFiles) -> Result<(Vec<Source>, Vec<Source>)> {
    if named.is_empty() {
        return Ok((files.policies()?, files.tests(&files.policy_folder())?));
    }
    let (mut policies, mut tests) = (Vec::new(), Vec::new());
    for path in named {
        if !path.exists() {
            return Err(Error::new(Kind::Config, format!("there is nothing at {}", path.display())));
        }
        let name = path.to_string_lossy();
        if path.is_dir() {
            policies.extend(files.sources(path)?);
            tests.extend(files.tests(path)?);
        } else if name.ends_with(ENDING) {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // As the folder is written: file names are compared with theirs.
            policies.extend(files.sources(folder)?.into_iter().map(|source| Source { name: beside(path, &source.name), ..source }));
            tests.extend(files.tests(path)?);
        } else {
            policies.extend(files.sources(path)?);
            let beside = path.with_extension(ENDING.trim_start_matches('.'));
            if beside.exists() {
                tests.extend(files.tests(&beside)?);
            }
        }
    }
    for sources in [&mut policies, &mut tests] {
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        sources.dedup_by(|a, b| a.name == b.name);
    }
    Ok((policies, tests))
}

/// The name of a file of the folder that `path` is in.
fn beside(path: &Path, name: &str) -> String {
    path.with_file_name(leaf(name)).to_string_lossy().into_owned()
}

fn leaf(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn as_text(report: &Report, args: &TestArgs, failed: usize, good: bool, all: usize) -> String {
    let mut text = format!("running {}\n", counted(report.outcomes.len(), "test"));
    for outcome in &report.outcomes {
        let word = if outcome.passed() { "ok" } else { "FAILED" };
        text.push_str(&format!("test {}::{} ... {word}\n", leaf(&outcome.file), outcome.name));
    }
    if failed > 0 {
        text.push_str("\nfailures:\n");
        report.outcomes.iter().filter(|outcome| !outcome.passed()).for_each(|outcome| failure(&mut text, outcome));
    }
    let list = (args.coverage || args.require_coverage) && !report.undecided.is_empty();
    if list {
        text.push_str("\nrules that no test decides:\n");
        report.undecided.iter().for_each(|rule| text.push_str(&format!("  {}:{}: {}\n", rule.file, rule.line, rule.policy)));
    }
    text.push_str(&format!(
        "\ntest result: {}. {} passed; {failed} failed; {} filtered out; {} of {} rules decided\n",
        if good { "ok" } else { "FAILED" },
        report.outcomes.len() - failed,
        all - report.outcomes.len(),
        report.rules - report.undecided.len(),
        report.rules
    ));
    if !list && args.filter.is_none() && !report.undecided.is_empty() {
        text.push_str("--coverage lists the rules that no test decides\n");
    }
    text
}

fn failure(text: &mut String, outcome: &Outcome) {
    text.push_str(&format!("\n{}:{}: {}\n", outcome.file, outcome.line, outcome.name));
    outcome.wrong.iter().for_each(|wrong| text.push_str(&format!("  {wrong}\n")));
    if outcome.told {
        text.push_str(&format!("  the policies say: {}\n", outcome.actual()));
    }
    outcome.details.iter().for_each(|detail| text.push_str(&format!("  {detail}\n")));
}

fn as_json(report: &Report, good: bool, all: usize) -> String {
    let tests: Vec<_> = report
        .outcomes
        .iter()
        .map(|outcome| {
            let expect = &outcome.expect;
            json!({
                "file": outcome.file, "line": outcome.line, "name": outcome.name, "ok": outcome.passed(),
                "expected": {"decision": decision(expect.allow), "by": expect.by, "why": expect.why, "hint": expect.hint, "retry": expect.retry},
                "actual": {"decision": decision(outcome.allowed), "by": outcome.by, "why": outcome.why, "hint": outcome.hint, "unmet": outcome.unmet},
                "wrong": outcome.wrong, "details": outcome.details,
            })
        })
        .collect();
    let undecided: Vec<_> =
        report.undecided.iter().map(|rule| json!({"policy": rule.policy, "file": rule.file, "line": rule.line})).collect();
    let passed = report.outcomes.iter().filter(|outcome| outcome.passed()).count();
    let value = json!({
        "schema": "rex.policy-test/1", "ok": good, "passed": passed, "failed": tests.len() - passed, "filtered_out": all - tests.len(),
        "rules": report.rules, "undecided": undecided, "tests": tests,
    });
    format!("{value:#}\n")
}

fn decision(allow: bool) -> &'static str {
    if allow { "allow" } else { "deny" }
}
