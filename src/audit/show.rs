//! `rex audit`: reads records back, filtered, as lines for people or as they are.

use super::record::{ascii_json, visible};
use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader, Read, Write};

/// The longest line that is looked at; records are shorter than 8 KiB.
const LONGEST: u64 = 1 << 20;

/// Which records are wanted; what is `None` is not asked about.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The id of a run, or how it begins.
    pub run: Option<String>,
    pub principal: Option<String>,
    /// An action in Cedar notation, or its last word (`read`).
    pub action: Option<String>,
    /// `allow` or `deny`.
    pub decision: Option<String>,
    pub event: Option<String>,
    /// Records at this time or later.
    pub since: Option<jiff::Timestamp>,
    /// Records before this time.
    pub until: Option<jiff::Timestamp>,
    /// The records as they are, one JSON document a line.
    pub json: bool,
}

/// What was read and shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub lines: u64,
    pub shown: u64,
    /// Lines that are no records: their numbers, from 1, and why. At most a hundred; `bad` counts them all.
    pub malformed: Vec<(u64, String)>,
    pub bad: u64,
}

/// A reader of lines from a file of records, also one that rotation has compressed with gzip.
///
/// # Errors
/// When the file cannot be read.
pub fn reader<'a>(file: impl Read + 'a) -> Result<Box<dyn BufRead + 'a>> {
    let mut file = BufReader::new(file);
    // RFC 1952 §2.3.1.
    if file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file))));
    }
    Ok(Box::new(file))
}

/// Calls `each` with the number and bytes of every line that is not empty, `None` for one that is too long.
pub(super) fn lines(mut input: impl BufRead, mut each: impl FnMut(u64, Option<&[u8]>) -> Result<()>) -> Result<u64> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        if (&mut input).take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(number);
        }
        number += 1;
        let whole = line.last() == Some(&b'\n');
        if !whole && line.len() as u64 >= LONGEST {
            each(number, None)?;
            while line.last() != Some(&b'\n') {
                line.clear();
                if (&mut input).take(LONGEST).read_until(b'\n', &mut line)? == 0 {
                    break;
                }
            }
            continue;
        }
        let text = line.trim_ascii_end();
        if !text.is_empty() {
            each(number, Some(text))?;
        }
    }
}

/// A line as a record, or what is wrong with it.
pub(super) fn parse(line: Option<&[u8]>) -> std::result::Result<Map<String, Value>, String> {
    let line = line.ok_or("longer than 1 MiB")?;
    let record: Map<String, Value> = serde_json::from_slice(line).map_err(|error| format!("no JSON object: {error}"))?;
    match record.get("schema").and_then(Value::as_str) {
        Some(super::record::SCHEMA) => Ok(record),
        Some(other) => Err(format!("unknown schema `{}`", visible(other))),
        None => Err("no schema".to_string()),
    }
}

/// Calls `each` with the number of every line and the record that it is, or what is wrong with it; gives the number of lines.
///
/// # Errors
/// When input cannot be read, and those of `each`.
pub fn each_record(
    input: impl BufRead,
    mut each: impl FnMut(u64, std::result::Result<Map<String, Value>, String>) -> Result<()>,
) -> Result<u64> {
    lines(input, |number, line| each(number, parse(line)))
}

/// Shows the records that the filter wants. A line that is no record is reported where it stands, and in the summary.
///
/// # Errors
/// When input cannot be read or output not written.
pub fn show(input: impl BufRead, filter: &Filter, out: &mut dyn Write) -> Result<Summary> {
    let mut summary = Summary::default();
    let written = |error: std::io::Error| Error::new(Kind::Communication, format!("output: {error}"));
    summary.lines = lines(input, |number, line| {
        match parse(line) {
            Err(why) => {
                summary.bad += 1;
                if !filter.json {
                    writeln!(out, "line {number} is not a record: {why}").map_err(written)?;
                }
                if summary.malformed.len() < 100 {
                    summary.malformed.push((number, why));
                }
            }
            Ok(record) if filter.wants(&record) => {
                summary.shown += 1;
                // Written anew rather than passed on: a forged line may hold raw bytes that rex would not write.
                let text = if filter.json { ascii_json(&record) } else { human(&record) };
                writeln!(out, "{text}").map_err(written)?;
            }
            Ok(_) => {}
        }
        Ok(())
    })?;
    Ok(summary)
}

fn text<'a>(record: &'a Map<String, Value>, name: &str) -> &'a str {
    record.get(name).and_then(Value::as_str).unwrap_or("")
}

impl Filter {
    fn wants(&self, record: &Map<String, Value>) -> bool {
        let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| text(record, name) == wanted);
        let action = |wanted: &String| {
            let action = text(record, "action");
            action == wanted || action.ends_with(&format!("::\"{wanted}\""))
        };
        let time = || text(record, "time").parse::<jiff::Timestamp>().ok();
        is(&self.principal, "principal")
            && is(&self.decision, "decision")
            && is(&self.event, "event")
            && self.run.as_ref().is_none_or(|run| text(record, "run").starts_with(run.as_str()))
            && self.action.as_ref().is_none_or(action)
            && self.since.is_none_or(|since| time().is_some_and(|time| time >= since))
            && self.until.is_none_or(|until| time().is_some_and(|time| time < until))
    }
}

/// `TIME RUN PRINCIPAL EVENT name=value …`, with what is free put in quotes or shown by number.
fn human(record: &Map<String, Value>) -> String {
    let mut line = ["time", "run", "principal", "event"].map(|name| visible(text(record, name))).join(" ");
    let hidden =
        ["schema", "time", "run", "principal", "event", "seq", "host", "pid", "uid", "script", "policy", "chain", "evidence", "client"];
    for (name, value) in record.iter().filter(|(name, _)| !hidden.contains(&name.as_str())) {
        let value = match value {
            Value::String(word) if !word.is_empty() && !word.contains([' ', '=']) => visible(word),
            other => visible(&other.to_string()),
        };
        line.push_str(&format!(" {}={value}", visible(name)));
    }
    line
}
