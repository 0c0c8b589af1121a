//! `rex audit replay`: what one run did, step by step, and in all.

use super::filter::{id_of, type_of};
use super::read::{Record, count, records, text};
use super::record::visible;
use super::show::unwritten;
use crate::error::Result;
use crate::os::digest::hex_sha256;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::HashSet;
use std::io::{BufRead, Write};

/// Most different resources that are told apart for the total.
const RESOURCES: usize = 100_000;

/// What a timeline told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Records of the run.
    pub records: u64,
    pub allowed: u64,
    pub denied: u64,
    pub effects: u64,
    pub failed: u64,
    pub bytes: u64,
    /// Whether the end of the run is among them.
    pub ended: bool,
    /// Ids of further runs that begin like the wanted one; they are left out.
    pub others: Vec<String>,
}

/// Writes the timeline of the run whose id is, or begins with, `run`.
///
/// # Errors
/// When input cannot be read or output not written.
pub fn timeline(input: impl BufRead, run: &str, out: &mut dyn Write) -> Result<Told> {
    let mut told = Told::default();
    let mut whole = String::new();
    let mut began: Option<Timestamp> = None;
    let mut resources = HashSet::new();
    records(input, &mut 0, |record| {
        let id = text(record, "run");
        if !id.starts_with(run) || text(record, "event") == "anchor" {
            return Ok(());
        }
        if whole.is_empty() {
            whole = id.to_owned();
        }
        if id != whole {
            if told.others.len() < 20 && !told.others.iter().any(|other| other == id) {
                told.others.push(visible(id));
            }
            return Ok(());
        }
        let time = text(record, "time").parse::<Timestamp>().ok();
        let start = *began.get_or_insert(time.unwrap_or_default());
        let after = time.unwrap_or(start).duration_since(start).as_secs_f64();
        if told.records == 0 {
            head(record, out)?;
        }
        told.records += 1;
        told.add(record);
        let resource = text(record, "resource");
        if !resource.is_empty() && resources.len() < RESOURCES {
            resources.insert(resource.to_owned());
        }
        writeln!(out, "{after:>+11.6}  {}", step(record)).map_err(unwritten)
    })?;
    if told.records > 0 {
        let Told { records, allowed, denied, effects, failed, bytes, .. } = told;
        let end = if told.ended { "" } else { "\nThe records do not have its end." };
        let more = if resources.len() == RESOURCES { " or more" } else { "" };
        writeln!(
            out,
            "{records} records: {allowed} allowed, {denied} denied, {effects} changes of which {failed} failed, {bytes} bytes, {}{more} resources{end}",
            resources.len()
        )
        .map_err(unwritten)?;
    }
    Ok(told)
}

impl Told {
    fn add(&mut self, record: &Record) {
        match (text(record, "event"), text(record, "decision")) {
            ("decision", "allow") => self.allowed += 1,
            ("decision", _) => self.denied += 1,
            ("effect", _) => {
                self.effects += 1;
                self.failed += u64::from(text(record, "result") != "ok");
                self.bytes = self.bytes.saturating_add(count(record, "bytes"));
            }
            ("run_end" | "refused", _) => self.ended = true,
            _ => {}
        }
    }
}

/// Who ran what, when, how.
fn head(record: &Record, out: &mut dyn Write) -> Result<()> {
    let list = |name: &str| {
        let items = record.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        items.map(visible).collect::<Vec<_>>().join(", ")
    };
    let shown = |name: &str| visible(text(record, name));
    writeln!(out, "run {} of {} on {}, {}", shown("run"), shown("principal"), shown("host"), shown("time")).map_err(unwritten)?;
    let facts = record.get("facts").and_then(Value::as_object);
    let mut rows = vec![
        ("groups", list("groups")),
        ("evidence", shown("evidence")),
        ("client", shown("client")),
        ("uid", record.get("uid").map(ToString::to_string).unwrap_or_default()),
    ];
    for name in ["on_behalf_of", "via", "agent", "task", "method", "key_fingerprint"] {
        rows.push((name, facts.map_or(String::new(), |facts| visible(text(facts, name)))));
    }
    rows.extend([
        ("mode", shown("mode")),
        ("runbook", shown("runbook")),
        ("request", shown("request")),
        ("layers", list("layers")),
        ("script", shown("script")),
        ("policy", shown("policy")),
    ]);
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(out, "  {name:<16} {value}").map_err(unwritten)?;
    }
    Ok(())
}

/// One record as a step.
fn step(record: &Record) -> String {
    let shown = |name: &str| visible(text(record, name));
    let thing = || {
        let resource = text(record, "resource");
        let kind = type_of(resource).rsplit("::").next().unwrap_or("");
        format!("{} {} {}", visible(id_of(text(record, "action"))), visible(kind), visible(id_of(resource)))
    };
    let policies = || {
        let ids = record.get("policies").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        ids.map(visible).collect::<Vec<_>>().join(", ")
    };
    let milliseconds = |name: &str| {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let ms = count(record, name) as f64 / 1000.0;
        format!("{ms:.3} ms")
    };
    match text(record, "event") {
        "run_start" => "begins".to_owned(),
        "script" => format!("script, part {} of {}", count(record, "part"), count(record, "parts")),
        "decision" => {
            let mut line = format!("{:<5}  {}", shown("decision"), thing());
            if record.contains_key("requested") {
                line.push_str(&format!(" (named as {})", visible(id_of(text(record, "requested")))));
            }
            line.push_str(&format!("  {}() {}:{}", shown("function"), count(record, "line"), count(record, "column")));
            let policies = policies();
            if !policies.is_empty() {
                line.push_str(&format!("  by {policies}"));
            }
            for name in ["why", "ref"] {
                if record.contains_key(name) {
                    line.push_str(&format!("  {}", shown(name)));
                }
            }
            line
        }
        "effect" => {
            let detail = if record.contains_key("detail") { format!("  {}", shown("detail")) } else { String::new() };
            let done = if text(record, "result") == "ok" { "done".to_owned() } else { format!("failed: {}", shown("result")) };
            format!("{done}   {}  {} bytes, {}{detail}", thing(), count(record, "bytes"), milliseconds("duration_us"))
        }
        "walk_summary" => format!("walked {}: {} allowed, {} denied", thing(), count(record, "allowed"), count(record, "denied")),
        "policy_change" => format!("policies {}: from {} to {}", shown("what"), shown("from"), shown("to")),
        "run_end" if record.contains_key("how") => format!("ends: {}, found by {}", shown("how"), shown("found_by")),
        "run_end" => {
            let class = if record.contains_key("class") { format!(" {}", shown("class")) } else { String::new() };
            format!(
                "ends: exit {}{class} after {}, {} decisions, {} bytes of output",
                count(record, "exit"),
                milliseconds("duration_us"),
                count(record, "decisions"),
                count(record, "bytes_out")
            )
        }
        "note" => format!("note of rex {}: {}", shown("what"), shown("message")),
        "refused" => format!("refused: {} ({}): {}", shown("what"), shown("kind"), shown("message")),
        other => visible(other),
    }
}

/// A script that the records kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub run: String,
    pub text: String,
    /// Bytes of it that were not kept.
    pub left_out: u64,
    /// Pieces that are not there, though their number says they were written.
    pub missing: u64,
    /// Whether it is the script that ran, by its digest. Not known of one that is not whole.
    pub is_the_one: Option<bool>,
}

/// The script of the run whose id is, or begins with, `run`, as far as records kept it.
///
/// # Errors
/// When input cannot be read.
pub fn script(input: impl BufRead, run: &str) -> Result<Option<Kept>> {
    let mut kept: Option<Kept> = None;
    let (mut next, mut parts) = (1, 0);
    let mut digest = String::new();
    records(input, &mut 0, |record| {
        let id = text(record, "run");
        if text(record, "event") == "script" && id.starts_with(run) && kept.as_ref().is_none_or(|kept| kept.run == id) {
            let kept = kept.get_or_insert_with(|| Kept { run: id.to_owned(), ..Kept::default() });
            let part = count(record, "part");
            kept.missing = kept.missing.saturating_add(part.saturating_sub(next));
            next = part.saturating_add(1);
            parts = count(record, "parts");
            kept.text.push_str(text(record, "text"));
            kept.left_out = kept.left_out.saturating_add(count(record, "left_out"));
            text(record, "script").clone_into(&mut digest);
        }
        Ok(())
    })?;
    if let Some(kept) = &mut kept {
        kept.missing = kept.missing.saturating_add(parts.saturating_add(1).saturating_sub(next));
        kept.is_the_one = (kept.missing == 0 && kept.left_out == 0).then(|| hex_sha256(kept.text.as_bytes()) == digest);
    }
    Ok(kept)
}
