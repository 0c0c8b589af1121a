//! `rex audit verify`: the verdict on files of records.

use super::args::VerifyArgs;
use super::sources::{Input, journal};
use crate::audit::{Filter, Finding, Known, Verdict, Verifier, anchors, reader};
use crate::error::Result;
use serde_json::json;
use std::path::Path;

/// Gives the exit code: 1 when there is a problem.
pub fn run(args: &VerifyArgs) -> Result<u8> {
    let mut verifier = Verifier::default();
    let inputs = args.sources.in_order()?;
    if let Some(from) = &args.anchors {
        verifier.expect(of_these(known(from)?, &inputs));
    }
    let mut names = Vec::new();
    for Input { name, lines } in inputs {
        verifier.file(&name, lines)?;
        names.push(name);
    }
    let verdict = verifier.finish();
    let good = verdict.problems.is_empty();
    if args.json {
        return Ok(match super::super::show(&format!("{}\n", document(&verdict, &names))) {
            0 => super::exit(good),
            code => code,
        });
    }
    for finding in verdict.problems.iter().chain(&verdict.notes) {
        super::super::say(&place(finding));
    }
    for (run, pid) in &verdict.unfinished {
        super::super::say(&format!("{}: run {run} has no end record: {}", names.join(", "), how(*pid)));
    }
    let mut text =
        format!("{}: {} records of {} runs, {} problems", names.join(", "), verdict.records, verdict.runs, verdict.problems.len());
    if args.anchors.is_some() {
        text.push_str(&format!(", {} anchors found, {} records after the last of them", verdict.anchored, verdict.unanchored));
    }
    text.push('\n');
    let _ = super::super::show(&text);
    Ok(super::exit(good))
}

/// What the system's log knows.
fn known(from: &Path) -> Result<Vec<Known>> {
    if from == Path::new("journal") {
        let filter = Filter { event: Some("anchor".to_owned()), ..Filter::default() };
        return anchors(journal(&filter)?.lines);
    }
    anchors(reader(crate::os::trusted::open_any(from)?)?)
}

/// The anchors of these files, where they can be told by their names: a host may have had records elsewhere.
fn of_these(known: Vec<Known>, inputs: &[Input]) -> Vec<Known> {
    let of = |known: &Known| inputs.iter().any(|input| input.name.starts_with(&known.file));
    if known.iter().any(of) { known.into_iter().filter(of).collect() } else { known }
}

fn place(finding: &Finding) -> String {
    if finding.line == 0 {
        return format!("{}: {}", finding.file, finding.what);
    }
    format!("{}:{}: {}", finding.file, finding.line, finding.what)
}

/// Killed without a word, rex writes no end.
fn how(pid: i64) -> &'static str {
    if process_exists(pid) { "it may be going on" } else { "its process is gone, how it ended is unknown" }
}

/// Whether this host has a process of that number now, perhaps another one.
fn process_exists(pid: i64) -> bool {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

fn document(verdict: &Verdict, names: &[String]) -> serde_json::Value {
    let findings = |findings: &[Finding]| {
        findings.iter().map(|finding| json!({"file": finding.file, "line": finding.line, "what": finding.what})).collect::<Vec<_>>()
    };
    let unfinished = |(run, pid): &(String, i64)| json!({"run": run, "pid": pid, "process_exists": process_exists(*pid)});
    json!({
        "files": names, "good": verdict.problems.is_empty(),
        "records": verdict.records, "linked": verdict.linked, "runs": verdict.runs,
        "problems": findings(&verdict.problems), "notes": findings(&verdict.notes),
        "unfinished": verdict.unfinished.iter().map(unfinished).collect::<Vec<_>>(),
        "anchors": {"found": verdict.anchored, "older": verdict.older_anchors, "records_after": verdict.unanchored},
    })
}
