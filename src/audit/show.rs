//! `rex audit`: reads records back, filtered, as lines for people or as they are.

use super::read::{lines, parse, text};
use super::record::{ascii_json, visible};
use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value};
use std::io::{BufRead, Write};

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
