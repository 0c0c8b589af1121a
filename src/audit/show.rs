//! Records shown: as lines for people, as they are, or in the words of another schema.

use super::export::{ecs, ocsf};
use super::filter::{Filter, Sieve};
use super::read::{Record, lines, parse, quoted, text};
use super::record::{ascii_json, visible};
use crate::error::{Error, Kind, Result};
use serde_json::Value;
use std::io::{BufRead, Write};

/// The form of records that are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A line for people.
    #[default]
    Human,
    /// The record as it is, one JSON document a line.
    Json,
    /// Elastic Common Schema.
    Ecs,
    /// Open Cybersecurity Schema Framework.
    Ocsf,
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

pub(super) fn unwritten(error: std::io::Error) -> Error {
    Error::new(Kind::Communication, format!("output: {error}"))
}

/// Shows the records that the filter wants. A line that is no record is reported where it stands, and in the summary.
///
/// # Errors
/// When input cannot be read or output not written.
pub fn show(input: impl BufRead, filter: &Filter, form: Form, out: &mut dyn Write) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut sieve = Sieve::new(filter);
    summary.lines = lines(input, |number, line| {
        let record = parse(line).or_else(|why| parse(line.and_then(quoted)).map_err(|_| why));
        match record {
            Err(why) => {
                summary.bad += 1;
                if form == Form::Human {
                    writeln!(out, "line {number} is not a record: {why}").map_err(unwritten)?;
                }
                if summary.malformed.len() < 100 {
                    summary.malformed.push((number, why));
                }
            }
            Ok(record) if sieve.wants(&record) => {
                summary.shown += 1;
                writeln!(out, "{}", line_of(&record, form)).map_err(unwritten)?;
            }
            Ok(_) => {}
        }
        Ok(())
    })?;
    Ok(summary)
}

/// One line as it is shown, if it is a record that is wanted.
pub fn show_line(line: &[u8], sieve: &mut Sieve<'_>, form: Form) -> Option<String> {
    let record = parse(Some(line.trim_ascii_end())).ok()?;
    sieve.wants(&record).then(|| line_of(&record, form))
}

/// Written anew rather than passed on: a forged line may hold raw bytes that rex would not write.
fn line_of(record: &Record, form: Form) -> String {
    match form {
        Form::Human => human(record),
        Form::Json => ascii_json(record),
        Form::Ecs => ascii_json(&ecs(record)),
        Form::Ocsf => ascii_json(&ocsf(record)),
    }
}

/// `TIME RUN PRINCIPAL EVENT name=value …`, with what is free put in quotes or shown by number.
fn human(record: &Record) -> String {
    const HIDDEN: &[&str] = &[
        "schema",
        "time",
        "run",
        "principal",
        "event",
        "seq",
        "host",
        "pid",
        "uid",
        "script",
        "policy",
        "chain",
        "n",
        "link",
        "evidence",
        "client",
    ];
    let mut line = ["time", "run", "principal", "event"].map(|name| visible(text(record, name))).join(" ");
    let anchor = text(record, "event") == "anchor";
    for (name, value) in
        record.iter().filter(|(name, _)| !HIDDEN.contains(&name.as_str()) || anchor && matches!(name.as_str(), "n" | "link"))
    {
        let value = match value {
            Value::String(word) if !word.is_empty() && !word.contains([' ', '=']) => visible(word),
            other => visible(&other.to_string()),
        };
        line.push_str(&format!(" {}={value}", visible(name)));
    }
    line
}
