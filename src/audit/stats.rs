//! `rex audit stats`: what records come to: runs, principals, actions, denials, resources, durations.

use super::filter::{Filter, Sieve};
use super::read::{count, records, text};
use super::record::visible;
use crate::error::{Kind, Result, counted};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::BufRead;

/// Most different names of one kind that are counted one by one; the others are counted together.
const NAMES: usize = 100_000;

/// Counts by name.
#[derive(Default)]
struct Tally {
    by: HashMap<String, [u64; 2]>,
    others: [u64; 2],
}

impl Tally {
    fn add(&mut self, name: &str, which: usize, by: u64) {
        let counts = if self.by.len() < NAMES || self.by.contains_key(name) {
            self.by.entry(name.to_owned()).or_default()
        } else {
            &mut self.others
        };
        if let Some(count) = counts.get_mut(which) {
            *count = count.saturating_add(by);
        }
    }
    /// The largest first, then by name.
    fn top(&self, most: usize) -> Vec<(&str, [u64; 2])> {
        let mut all: Vec<_> = self.by.iter().map(|(name, counts)| (name.as_str(), *counts)).collect();
        all.sort_by(|a, b| b.1.iter().sum::<u64>().cmp(&a.1.iter().sum()).then(a.0.cmp(b.0)));
        all.truncate(most);
        if self.others != [0, 0] {
            all.push(("(others)", self.others));
        }
        all
    }
    fn json(&self, most: usize, words: [&str; 2]) -> Value {
        let row = |(name, counts): (&str, [u64; 2])| {
            let mut map = Map::new();
            map.insert("name".to_owned(), name.into());
            for (word, count) in words.iter().zip(counts).filter(|(word, _)| !word.is_empty()) {
                map.insert((*word).to_owned(), count.into());
            }
            Value::Object(map)
        };
        self.top(most).into_iter().map(row).collect()
    }
}

/// What records come to.
#[derive(Default)]
pub struct Stats {
    /// Records that were read, wanted or not.
    pub read: u64,
    /// Lines that were read, records or not.
    pub lines: u64,
    records: u64,
    runs: HashSet<String>,
    ended: u64,
    exits: Tally,
    refused: Tally,
    principals: Tally,
    actions: Tally,
    why: Tally,
    policies: Tally,
    resources: Tally,
    denied: Tally,
    effects: [u64; 2],
    /// Changes that dry runs only told of.
    withheld: u64,
    bytes: u64,
    bytes_out: u64,
    lost: HashMap<String, u64>,
    durations_us: Vec<u64>,
    first: String,
    last: String,
}

impl Stats {
    /// Adds the records that the filter wants.
    ///
    /// # Errors
    /// When input cannot be read.
    pub fn add(&mut self, input: impl BufRead, filter: &Filter) -> Result<()> {
        let mut sieve = Sieve::new(filter);
        let (mut read, mut lines) = (0, 0);
        records(input, &mut lines, |record| {
            read += 1;
            if !sieve.wants(record) || text(record, "event") == "anchor" {
                return Ok(());
            }
            let time = text(record, "time");
            if self.records == 0 || time < self.first.as_str() {
                time.clone_into(&mut self.first);
            }
            if time > self.last.as_str() {
                time.clone_into(&mut self.last);
            }
            self.records += 1;
            let (run, principal) = (text(record, "run"), text(record, "principal"));
            if !self.runs.contains(run) {
                self.runs.insert(run.to_owned());
                self.principals.add(principal, 0, 1);
            }
            if count(record, "lost") > 0 {
                self.lost.insert(run.to_owned(), count(record, "lost"));
            }
            match text(record, "event") {
                "decision" => {
                    let denied = text(record, "decision") == "deny";
                    self.actions.add(text(record, "action"), usize::from(denied), 1);
                    self.resources.add(text(record, "resource"), usize::from(denied), 1);
                    for policy in record.get("policies").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
                        self.policies.add(policy, usize::from(denied), 1);
                    }
                    if denied {
                        self.principals.add(principal, 1, 1);
                        self.why.add(text(record, "why"), 1, 1);
                        self.denied.add(text(record, "resource"), 1, 1);
                    }
                }
                "effect" if text(record, "result") == Kind::DryRun.name() => self.withheld += 1,
                "effect" => {
                    let failed = usize::from(text(record, "result") != "ok");
                    if let Some(effects) = self.effects.get_mut(failed) {
                        *effects += 1;
                    }
                    self.bytes = self.bytes.saturating_add(count(record, "bytes"));
                }
                "run_end" if record.contains_key("how") => self.exits.add("unknown", 0, 1),
                "run_end" => {
                    self.ended += 1;
                    self.exits.add(&count(record, "exit").to_string(), 0, 1);
                    self.durations_us.push(count(record, "duration_us"));
                    self.bytes_out = self.bytes_out.saturating_add(count(record, "bytes_out"));
                }
                "refused" => self.refused.add(text(record, "what"), 0, 1),
                _ => {}
            }
            Ok(())
        })?;
        self.read += read;
        self.lines += lines;
        Ok(())
    }

    /// Records that the filter wanted.
    #[must_use]
    pub const fn matched(&self) -> u64 {
        self.records
    }

    /// The smallest, middle, 95th of a hundred and largest duration in microseconds.
    fn durations(&self) -> Option<[u64; 4]> {
        let mut sorted = self.durations_us.clone();
        sorted.sort_unstable();
        let at = |hundredths: usize| sorted.get((sorted.len().saturating_sub(1)) * hundredths / 100).copied();
        Some([at(0)?, at(50)?, at(95)?, at(100)?])
    }

    /// As one JSON document; lists have the `most` largest.
    /// Records lost; what one says is whatever somebody wrote.
    fn lost(&self) -> u64 {
        self.lost.values().fold(0, |sum, lost| sum.saturating_add(*lost))
    }

    #[must_use]
    pub fn json(&self, most: usize) -> Value {
        let [done, failed] = self.effects;
        let durations = self.durations().map(|[min, median, p95, max]| json!({"min": min, "median": median, "p95": p95, "max": max}));
        json!({
            "records": self.records, "first": self.first, "last": self.last,
            "runs": self.runs.len(), "ended": self.ended, "lost": self.lost(),
            "exits": self.exits.json(most, ["runs", ""]),
            "refused": self.refused.json(most, ["runs", ""]),
            "principals": self.principals.json(most, ["runs", "denied"]),
            "actions": self.actions.json(most, ["allowed", "denied"]),
            "why": self.why.json(most, ["", "denied"]),
            "policies": self.policies.json(most, ["allowed", "denied"]),
            "resources": self.resources.json(most, ["allowed", "denied"]),
            "denied_resources": self.denied.json(most, ["", "denied"]),
            "effects": {"done": done, "failed": failed, "withheld": self.withheld, "bytes": self.bytes},
            "duration_us": durations, "bytes_out": self.bytes_out,
        })
    }

    /// As tables for people; lists have the `most` largest.
    #[must_use]
    pub fn human(&self, most: usize) -> String {
        let mut out = String::new();
        let [done, failed] = self.effects;
        let _ = writeln!(out, "{} from {} to {}", counted(self.records, "record"), or_dash(&self.first), or_dash(&self.last));
        let _ = writeln!(
            out,
            "{}, of which {} {} an end record; {} lost",
            counted(self.runs.len(), "run"),
            self.ended,
            if self.ended == 1 { "has" } else { "have" },
            counted(self.lost(), "record")
        );
        if let Some([min, median, p95, max]) = self.durations() {
            let ms = |us: u64| format!("{}.{:03}", us / 1000, us % 1000);
            let _ = writeln!(out, "durations in ms: shortest {}, middle {}, 95 % {}, longest {}", ms(min), ms(median), ms(p95), ms(max));
        }
        let _ = writeln!(
            out,
            "{} done, {failed} failed, {} withheld by dry runs, {}; {} of output",
            counted(done, "change"),
            self.withheld,
            counted(self.bytes, "byte"),
            counted(self.bytes_out, "byte")
        );
        let tables = [
            ("exit codes", &self.exits, ["runs", ""]),
            ("refused", &self.refused, ["runs", ""]),
            ("principals", &self.principals, ["runs", "denied"]),
            ("actions", &self.actions, ["allowed", "denied"]),
            ("denied because", &self.why, ["", "denied"]),
            ("policies", &self.policies, ["allowed", "denied"]),
            ("resources", &self.resources, ["allowed", "denied"]),
            ("resources denied", &self.denied, ["", "denied"]),
        ];
        for (title, tally, [one, two]) in tables {
            let rows = tally.top(most);
            if rows.is_empty() {
                continue;
            }
            let _ = writeln!(out, "\n{one:>10} {two:>10}  {title}");
            for (name, [first, second]) in rows {
                let cell = |word: &str, count: u64| if word.is_empty() { String::new() } else { count.to_string() };
                let _ = writeln!(out, "{:>10} {:>10}  {}", cell(one, first), cell(two, second), or_dash(&visible(name)));
            }
        }
        out
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
