//! `rex audit verify`: checks the chains of a file of records, and that nothing is missing between the records of a run.
//!
//! A chain shows records that were changed, removed or put in. It has no key: who can write the whole file can write a new chain, which
//! then differs from what the host's log got. So keep a second sink, and compare the last link of a run.

use super::record::visible;
use super::show::{lines, parse};
use crate::error::Result;
use serde_json::Value;
use std::collections::HashMap;
use std::io::BufRead;

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub records: u64,
    pub runs: u64,
    /// Runs without their last record, and the number of their process: still going, killed, or cut off.
    pub unfinished: Vec<(String, i64)>,
    /// Line, from 1, and what is wrong there.
    pub problems: Vec<(u64, String)>,
}

/// Where the check of one run stands.
#[derive(Default)]
struct Run {
    next: u64,
    chain: String,
    ended: bool,
    pid: i64,
}

/// Checks records in the order they were written; files that were rotated come one after another in `input`.
///
/// # Errors
/// When input cannot be read.
pub fn verify(input: impl BufRead) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut runs: HashMap<String, Run> = HashMap::new();
    lines(input, |number, line| {
        verdict.records += 1;
        let mut wrong = |what: String| verdict.problems.push((number, what));
        let record = match parse(line) {
            Ok(record) => record,
            Err(why) => {
                wrong(format!("not a record: {why}"));
                return Ok(());
            }
        };
        let id = record.get("run").and_then(Value::as_str).unwrap_or("");
        let seq = record.get("seq").and_then(Value::as_u64).unwrap_or(0);
        let run = runs.entry(id.to_string()).or_default();
        if seq != run.next {
            wrong(format!("run {}: record {} was expected, this is {seq}", visible(id), run.next));
        }
        if let Some((body, chain)) = line.and_then(chained) {
            // After a gap the link before is unknown, so only the gap is reported.
            if seq == run.next && super::link(&run.chain, body) != chain {
                wrong(format!("run {}: record {seq} was changed, or the one before it", visible(id)));
            }
            run.chain = chain.to_string();
        } else if !run.chain.is_empty() {
            wrong(format!("run {}: record {seq} has no link to the one before it", visible(id)));
        }
        run.next = seq + 1;
        run.pid = record.get("pid").and_then(Value::as_i64).unwrap_or(0);
        run.ended |= match record.get("event").and_then(Value::as_str) {
            Some("run_end" | "refused") => true,
            // The owner's change is one record; a run that sees one goes on.
            Some("policy_change") => record.get("what").and_then(Value::as_str) != Some("seen"),
            _ => false,
        };
        Ok(())
    })?;
    verdict.runs = runs.len() as u64;
    verdict.unfinished = runs.into_iter().filter(|(_, run)| !run.ended).map(|(id, run)| (visible(&id), run.pid)).collect();
    verdict.unfinished.sort();
    Ok(verdict)
}

/// A line's text before its link, and the link.
fn chained(line: &[u8]) -> Option<(&str, &str)> {
    let (body, chain) = std::str::from_utf8(line).ok()?.strip_suffix("\"}")?.rsplit_once(",\"chain\":\"")?;
    (chain.len() == 64).then_some((body, chain))
}
