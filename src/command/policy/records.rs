//! The records that `rex policy learn`, `unused` and `diff --records` read: which files, which records of them, and who asked in each.

use crate::audit::{each_record, reader};
use crate::error::{Error, Kind, Result, Why, counted};
use crate::os::trusted::Owner;
use crate::policy::{Asked, Caller, Told};
use crate::terms::OwnersFiles;
use clap::Args;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs whose beginning is remembered at a time; each ends with a record, but for those that were killed.
const RUNS: usize = 20_000;

/// Which records to read.
#[derive(Args, Clone, Default)]
pub struct RecordArgs {
    /// Files of audit records, JSON lines (rotated and gzipped ones too); without any, the file of rex.toml.
    #[arg(value_name = "RECORDS")]
    pub records: Vec<PathBuf>,
    /// Only the run with this id, or whose id begins so.
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
    /// Only what this principal asked.
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
    /// Only from this time on: RFC 3339, e.g. 2026-01-31T14:00:00Z, or a time ago, e.g. 7d or 12h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Only before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
}

/// A decision as a record tells it.
#[derive(Debug)]
pub struct Decision<'a> {
    pub caller: &'a Caller,
    /// None when the record cut it.
    pub asked: Option<Asked>,
    pub allowed: bool,
    pub why: Option<Why>,
    pub policies: Vec<&'a str>,
    /// Not every policy that decided is named.
    pub policies_cut: bool,
    pub function: &'a str,
    pub reference: Option<&'a str>,
    /// The digest of the set that decided.
    pub set: &'a str,
}

/// What a walk did.
#[derive(Debug)]
pub struct WalkOver<'a> {
    pub allowed: u64,
    /// None: not on record.
    pub policies: Option<Vec<&'a str>>,
    pub set: &'a str,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    pub records: u64,
    pub runs: u64,
    /// Lines that are no records.
    pub malformed: u64,
    /// Times of the first and the last record, as they are written.
    pub first: Option<jiff::Timestamp>,
    pub last: Option<jiff::Timestamp>,
}

impl Looked {
    /// Days between the first and the last record.
    pub fn days(&self) -> f64 {
        match (self.first, self.last) {
            #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
            (Some(first), Some(last)) => (last.as_second() - first.as_second()) as f64 / 86_400.0,
            _ => 0.0,
        }
    }
    /// In words.
    pub fn told(&self) -> String {
        let span = match (self.first, self.last) {
            (Some(first), Some(last)) => format!(", {first:.0} to {last:.0} ({:.1} days)", self.days()),
            _ => String::new(),
        };
        let bad = if self.malformed > 0 {
            format!("; {} no records", if self.malformed == 1 { "1 line is".to_owned() } else { format!("{} lines are", self.malformed) })
        } else {
            String::new()
        };
        format!("{} of {}{span}{bad}", counted(self.records, "record"), counted(self.runs, "run"))
    }
    pub fn json(&self) -> Value {
        let time = |time: Option<jiff::Timestamp>| time.map(|time| time.to_string());
        serde_json::json!({"records": self.records, "runs": self.runs, "malformed": self.malformed, "first": time(self.first), "last": time(self.last), "days": self.days()})
    }
}

/// A moment: RFC 3339, or a time ago.
pub fn moment(text: &str, option: &str) -> Result<jiff::Timestamp> {
    let wrong = || Error::new(Kind::Usage, format!("{option} takes a time such as 2026-01-31T14:00:00Z, or a time ago such as 7d or 12h"));
    if let Ok(time) = crate::audit::moment(text, jiff::Timestamp::now()) {
        return Ok(time);
    }
    let ago: jiff::Span = text.trim_start_matches('-').parse().map_err(|_| wrong())?;
    let now = jiff::Timestamp::now();
    let ago = ago.total((jiff::Unit::Second, jiff::SpanRelativeTo::days_are_24_hours())).map_err(|_| wrong())?;
    let ago = jiff::SignedDuration::try_from_secs_f64(ago.abs()).map_err(|_| wrong())?;
    now.checked_sub(ago).map_err(|_| wrong())
}

impl RecordArgs {
    /// The files to read.
    pub fn files(&self, config: Option<&Path>) -> Result<Vec<PathBuf>> {
        if !self.records.is_empty() {
            return Ok(self.records.clone());
        }
        let config = OwnersFiles::new(config, Owner::Unchecked).config()?;
        if config.audit.file.is_empty() {
            return Err(
                Error::new(Kind::Usage, "no file of records: `audit.file` of rex.toml is empty").with_hint("name a file of records")
            );
        }
        Ok(vec![PathBuf::from(&config.audit.file)])
    }

    /// Reads all of them once, in constant memory.
    pub fn read(
        &self,
        config: Option<&Path>,
        decision: &mut dyn FnMut(Decision<'_>) -> Result<()>,
        walk: &mut dyn FnMut(WalkOver<'_>) -> Result<()>,
    ) -> Result<Looked> {
        let since = self.since.as_deref().map(|text| moment(text, "--since")).transpose()?;
        let until = self.until.as_deref().map(|text| moment(text, "--until")).transpose()?;
        let mut looked = Looked::default();
        let mut runs: HashMap<String, Arc<Caller>> = HashMap::new();
        for path in self.files(config)? {
            let file = crate::os::trusted::open_any(&path).map_err(|error| Error { kind: Kind::Usage, ..error })?;
            each_record(reader(file)?, |_, record| {
                let Ok(record) = record else {
                    looked.malformed += 1;
                    return Ok(());
                };
                let run = text(&record, "run");
                let event = text(&record, "event");
                // The beginning of a run tells who asks, also where only what came later is wanted.
                if event == "run_start" {
                    if runs.len() >= RUNS {
                        runs.clear();
                    }
                    runs.insert(run.to_owned(), Arc::new(caller(&record, told(&record))));
                }
                let time = text(&record, "time").parse::<jiff::Timestamp>().ok();
                let wanted = self.run.as_ref().is_none_or(|wanted| run.starts_with(wanted.as_str()))
                    && self.principal.as_ref().is_none_or(|wanted| text(&record, "principal") == wanted)
                    && since.is_none_or(|since| time.is_some_and(|time| time >= since))
                    && until.is_none_or(|until| time.is_some_and(|time| time < until));
                if wanted {
                    looked.records += 1;
                    looked.runs += u64::from(event == "run_start");
                    looked.first = looked.first.into_iter().chain(time).min();
                    looked.last = looked.last.into_iter().chain(time).max();
                    match event {
                        "decision" => {
                            let known = runs.get(run).cloned().unwrap_or_else(|| Arc::new(caller(&record, None)));
                            decision(of(&record, &known, time))?;
                        }
                        "walk_summary" => walk(WalkOver {
                            allowed: record.get("allowed").and_then(Value::as_u64).unwrap_or(0),
                            policies: record.get("policies").map(|_| names(&record)),
                            set: text(&record, "policy"),
                        })?,
                        _ => {}
                    }
                }
                if event == "run_end" {
                    runs.remove(run);
                }
                Ok(())
            })?;
        }
        Ok(looked)
    }
}

fn text<'a>(record: &'a Map<String, Value>, name: &str) -> &'a str {
    record.get(name).and_then(Value::as_str).unwrap_or("")
}

fn names(record: &Map<String, Value>) -> Vec<&str> {
    record.get("policies").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn caller(record: &Map<String, Value>, told: Option<Told>) -> Caller {
    let own = |name: &str| Some(text(record, name)).filter(|text| !text.is_empty()).map(str::to_owned);
    Caller {
        run: text(record, "run").to_owned(),
        principal: text(record, "principal").to_owned(),
        told,
        uid: record.get("uid").and_then(Value::as_u64).and_then(|uid| u32::try_from(uid).ok()).unwrap_or(u32::MAX),
        host: text(record, "host").to_owned(),
        script: own("script"),
        client: own("client"),
        evidence: text(record, "evidence").to_owned(),
    }
}

/// What the first record of a run tells; nothing where something of it was cut.
fn told(record: &Map<String, Value>) -> Option<Told> {
    let list = |name: &str| -> Option<Vec<String>> {
        let items = record.get(name)?.as_array()?;
        items
            .iter()
            .map(|item| item.as_str().filter(|item| !crate::policy::incomplete(item) && !item.starts_with("…(+")).map(str::to_owned))
            .collect()
    };
    if record.contains_key("cut") {
        return None;
    }
    let facts = record.get("facts").and_then(Value::as_object).cloned().unwrap_or_default();
    Some(Told { groups: list("groups")?, facts, layers: list("layers").unwrap_or_default() })
}

fn of<'a>(record: &'a Map<String, Value>, caller: &'a Caller, time: Option<jiff::Timestamp>) -> Decision<'a> {
    let part = |name: &str| record.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let asked =
        crate::policy::action(text(record, "action")).zip(crate::policy::entity(text(record, "resource"))).map(|(action, resource)| {
            Asked {
                action,
                resource,
                context: part("context"),
                attributes: part("attributes"),
                cut: record.contains_key("cut"),
                time: time.map_or(0, jiff::Timestamp::as_millisecond),
            }
        });
    let policies = names(record);
    Decision {
        caller,
        asked,
        allowed: text(record, "decision") == "allow",
        why: Why::of_name(text(record, "why")),
        policies_cut: policies.iter().any(|name| name.starts_with("…(+") || crate::policy::incomplete(name)),
        policies,
        function: text(record, "function"),
        reference: record.get("ref").and_then(Value::as_str),
        set: text(record, "policy"),
    }
}
