//! `rex policy unused`: rules that decided nothing in the records, and rules that cannot decide anything.

use super::learn::Present;
use super::records::{Looked, RecordArgs};
use crate::error::{Error, Exit, Kind, Result, counted};
use crate::policy::Whole;
use clap::Args;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Names of rules that are counted; records may name any.
const NAMES: usize = 100_000;

/// Which rules, and which records.
#[derive(Args)]
pub struct UnusedArgs {
    #[command(flatten)]
    records: RecordArgs,
    /// The policies, a file or a folder; without any, those of rex.toml.
    #[arg(short = 'p', long = "policy", value_name = "FILE|DIR")]
    policy: Vec<PathBuf>,
    /// The rex.toml; policies lie beside it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Reads and tells; gives the exit code.
#[must_use]
pub fn run(args: &UnusedArgs) -> u8 {
    match try_run(args) {
        Ok(code) => code,
        Err(error) => super::super::local::failed(&error),
    }
}

/// How often the records name each rule.
#[derive(Default)]
struct Named {
    /// Under the present set, and under others.
    counts: BTreeMap<String, (u64, u64)>,
    decisions: u64,
    sets: BTreeSet<String>,
    /// Decisions that named only a part of the rules.
    cut: u64,
    /// Walks that allowed something and do not tell by which rules.
    silent: u64,
}

impl Named {
    fn add(&mut self, policies: &[&str], set: &str, present: &str) {
        if self.sets.len() < NAMES && !set.is_empty() && !self.sets.contains(set) {
            self.sets.insert(set.to_owned());
        }
        for name in policies {
            if self.counts.len() >= NAMES && !self.counts.contains_key(*name) {
                continue;
            }
            let (now, before) = self.counts.entry((*name).to_owned()).or_default();
            if set == present { *now += 1 } else { *before += 1 }
        }
    }
}

fn try_run(args: &UnusedArgs) -> Result<u8> {
    let present = Present::of(&args.policy, args.config.as_deref())?;
    if present.sources.is_empty() {
        return Err(Error::new(Kind::Config, "no policy at all, so none that could be unused"));
    }
    let whole = Whole::load(&present.sources, &crate::terms::schema())?;
    // Two readers of the same records, one after the other.
    let named = std::cell::RefCell::new(Named::default());
    let looked = args.records.read(
        args.config.as_deref(),
        &mut |decision| {
            let mut named = named.borrow_mut();
            named.decisions += 1;
            named.cut += u64::from(decision.policies_cut);
            // A condition that did not hold is named in a denial; it decided nothing.
            if decision.why != Some(crate::error::Why::ConditionFailed) {
                named.add(&decision.policies, decision.set, &whole.digest);
            }
            Ok(())
        },
        &mut |walk| {
            let mut named = named.borrow_mut();
            match &walk.policies {
                Some(policies) => named.add(policies, walk.set, &whole.digest),
                None => named.silent += u64::from(walk.allowed > 0),
            }
            Ok(())
        },
    )?;
    Ok(tell(&whole, &named.into_inner(), &looked, args.json))
}

fn tell(whole: &Whole, named: &Named, looked: &Looked, as_json: bool) -> u8 {
    let shadowed: BTreeMap<String, String> = whole.shadowed().into_iter().collect();
    let (mut never, mut before) = (Vec::new(), Vec::new());
    for (name, permit, place) in whole.each() {
        match named.counts.get(name).copied().unwrap_or_default() {
            (0, 0) => never.push((name, permit, place)),
            (0, count) => before.push((name, permit, place, count)),
            _ => {}
        }
    }
    let mut caveats = Vec::new();
    if !never.is_empty() {
        caveats.push(
            "a rule that decided nothing yet may be meant for rare days: emergencies, ends of months, a break-glass group".to_owned(),
        );
    }
    if never.iter().any(|(_, permit, _)| !permit) {
        caveats.push("a forbid that decided nothing was not tried; that is no reason to remove it".to_owned());
    }
    if looked.malformed > 0 {
        caveats.push(format!("{} lines are no records and were passed over", looked.malformed));
    }
    if named.cut > 0 {
        caveats.push(format!("{} decisions name only a part of their rules: a rule listed here may have decided them", named.cut));
    }
    if named.silent > 0 {
        caveats
            .push(format!("{} walks do not tell by which rules they were allowed: a rule listed here may have allowed them", named.silent));
    }
    if whole.each().any(|(name, _, place)| name.starts_with(place)) {
        caveats.push("rules without @id are known by file and line, which change with the text above them".to_owned());
    }
    if named.sets.len() > 1 {
        caveats.push(format!(
            "the records are of {} sets of policies; what a rule of the same id said then may have been something else",
            named.sets.len()
        ));
    }
    let effect = |permit: bool| if permit { "permit" } else { "forbid" };
    if as_json {
        let row = |(name, permit, place): &(&str, bool, &str)| json!({"id": name, "effect": effect(*permit), "at": place, "shadowed": shadowed.get(*name)});
        let value = json!({
            "schema": "rex.policy.unused/1",
            "policy": whole.digest,
            "rules": whole.len(),
            "looked_at": looked.json(),
            "decisions": named.decisions,
            "sets": named.sets.len(),
            "unused": never.iter().map(row).collect::<Vec<_>>(),
            "used_only_under_earlier_sets": before.iter().map(|(name, permit, place, count)| json!({"id": name, "effect": effect(*permit), "at": place, "decisions": count})).collect::<Vec<_>>(),
            "shadowed": shadowed.iter().map(|(name, why)| json!({"id": name, "why": why})).collect::<Vec<_>>(),
            "caveats": caveats,
        });
        return super::super::show(&format!("{value:#}\n"));
    }
    let mut text = format!(
        "looked at {}, {}; {}, set {}\n",
        looked.told(),
        counted(named.decisions, "decision"),
        counted(whole.len(), "rule"),
        whole.digest
    );
    text.push_str(if never.is_empty() { "every rule decided something\n" } else { "\ndecided nothing in these records:\n" });
    for (name, permit, place) in &never {
        text.push_str(&format!("  {} {name}  ({place})\n", effect(*permit)));
    }
    if !before.is_empty() {
        text.push_str("\ndecided something under earlier sets alone:\n");
        for (name, permit, place, count) in &before {
            text.push_str(&format!("  {} {name}  ({place}), {}\n", effect(*permit), counted(*count, "decision")));
        }
    }
    if !shadowed.is_empty() {
        text.push_str("\ncannot decide anything, or nothing depends on it:\n");
        for (name, why) in &shadowed {
            text.push_str(&format!("  {name}  {why}\n"));
        }
    }
    if !caveats.is_empty() {
        text.push_str("\nconsider:\n");
    }
    for caveat in &caveats {
        text.push_str(&format!("  {caveat}\n"));
    }
    let _ = super::super::show(&text);
    Exit::Ok as u8
}
