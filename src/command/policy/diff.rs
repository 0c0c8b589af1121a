//! `rex policy diff`: what a new set of policies permits or denies that the old one did not, by analysis and over recorded questions.

use super::learn::Present;
use super::records::RecordArgs;
use crate::error::{Error, Exit, Kind, Result};
use crate::os::trusted::Owner;
use crate::policy::compare::{Change, Comes, Difference, compare};
use crate::policy::{Replayed, Source, Whole};
use crate::terms::OwnersFiles;
use clap::Args;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

/// Different questions that are told apart; after that some are asked twice and counted twice.
const DISTINCT: usize = 1_000_000;
/// Changed questions that are shown; the rest is counted.
const SHOWN: usize = 1000;

/// Which sets, and which records.
#[derive(Args)]
pub struct DiffArgs {
    /// The old policies, a file or a folder.
    old: PathBuf,
    /// The new policies, a file or a folder.
    new: PathBuf,
    /// Put the questions of these audit records to both sets; may be given more than once.
    #[arg(long = "records", value_name = "FILE")]
    records: Vec<PathBuf>,
    /// Only questions from this time on: RFC 3339, or a time ago, e.g. 7d.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Only questions of this principal.
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// The rex.toml whose settings hold for both.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Compares; gives the exit code: 0 when no decision can differ, 1 when one differs or may, 78 when a set is not valid.
#[must_use]
pub fn run(args: &DiffArgs) -> u8 {
    match try_run(args) {
        Ok(code) => code,
        Err(error) => super::super::local::failed(&error),
    }
}

fn sources(path: &Path) -> Result<Vec<Source>> {
    if !path.exists() {
        return Err(Error::new(Kind::Config, format!("no policy at {}", path.display())));
    }
    OwnersFiles::new(None, Owner::Unchecked).sources(path)
}

/// What the records say.
#[derive(Default)]
struct Replays {
    looked: Value,
    told: String,
    permitted: Vec<String>,
    denied: Vec<String>,
    newly_permitted: u64,
    newly_denied: u64,
    still_permitted: u64,
    still_denied: u64,
    undecided: u64,
    /// What undecided questions lack, and how often.
    lacking: std::collections::BTreeMap<String, u64>,
}

fn try_run(args: &DiffArgs) -> Result<u8> {
    let (old, new) = (sources(&args.old)?, sources(&args.new)?);
    let schema = crate::terms::schema();
    let differences = compare(&Whole::load(&old, &schema)?, &Whole::load(&new, &schema)?);
    let replays = if args.records.is_empty() { None } else { Some(replay(args, &old, &new)?) };
    let differs = differences.iter().any(|difference| difference.comes != Comes::Nothing)
        || replays.as_ref().is_some_and(|replays| replays.newly_permitted + replays.newly_denied > 0);
    let _ = if args.json {
        let value = json!({
            "schema": "rex.policy.diff/1",
            "differs": differs,
            "old": whole_digest(&old),
            "new": whole_digest(&new),
            "rules": differences.iter().map(row).collect::<Vec<_>>(),
            "records": replays.as_ref().map(Replays::json),
        });
        super::super::show(&format!("{value:#}\n"))
    } else {
        super::super::show(&text(&differences, replays.as_ref(), differs))
    };
    Ok(if differs { Exit::ScriptFailed as u8 } else { Exit::Ok as u8 })
}

fn whole_digest(sources: &[Source]) -> String {
    crate::policy::Policies::digest_of(sources)
}

fn replay(args: &DiffArgs, old: &[Source], new: &[Source]) -> Result<Replays> {
    let present = Present::of(std::slice::from_ref(&args.old), args.config.as_deref())?;
    let (mut before, mut after) = (present.replay(old)?, present.replay(new)?);
    let selection =
        RecordArgs { records: args.records.clone(), since: args.since.clone(), principal: args.principal.clone(), ..RecordArgs::default() };
    let mut replays = Replays::default();
    let (mut seen, hasher): (HashSet<u64>, _) = (HashSet::new(), RandomState::new());
    let looked = selection.read(
        args.config.as_deref(),
        &mut |decision| {
            let Some(asked) = &decision.asked else {
                replays.undecided += 1;
                *replays.lacking.entry("the resource, which was cut in the record".to_owned()).or_default() += 1;
                return Ok(());
            };
            let who = (
                &decision.caller.principal,
                decision.caller.told.as_ref().map(|told| (&told.groups, json!(told.facts).to_string())),
                decision.caller.uid,
            );
            let circumstances = (json!(asked.context).to_string(), json!(asked.attributes).to_string(), asked.cut);
            // The time counts too where rules look at it, so only questions of one second are taken for the same.
            let key = hasher.hash_one((who, &asked.action, &asked.resource, circumstances, asked.time / 1000));
            if seen.len() < DISTINCT && !seen.insert(key) {
                return Ok(());
            }
            let (was, is) = (before.ask(decision.caller, asked)?, after.ask(decision.caller, asked)?);
            let question = || {
                let text = |kind: &str, id: &str| format!("{kind}::\"{}\"", crate::audit::visible(id));
                format!(
                    "{} {}::{} on {}",
                    text("User", &decision.caller.principal),
                    asked.action.0,
                    asked.action.1,
                    text(&asked.resource.0, &asked.resource.1)
                )
            };
            match (allows(&was), allows(&is)) {
                (Some(true), Some(true)) => replays.still_permitted += 1,
                (Some(false), Some(false)) => replays.still_denied += 1,
                (Some(false), Some(true)) => {
                    replays.newly_permitted += 1;
                    keep(&mut replays.permitted, format!("{}, by {}", question(), by(&is)));
                }
                (Some(true), Some(false)) => {
                    replays.newly_denied += 1;
                    keep(&mut replays.denied, format!("{}, by {}", question(), by(&is)));
                }
                _ => {
                    replays.undecided += 1;
                    for answer in [was, is] {
                        if let Replayed::Unknown(what) = answer {
                            for what in what {
                                // Bounded: what rules look at are names of the schema.
                                *replays.lacking.entry(what).or_default() += 1;
                            }
                        }
                    }
                }
            }
            Ok(())
        },
        &mut |_| Ok(()),
    )?;
    (replays.looked, replays.told) = (looked.json(), looked.told());
    Ok(replays)
}

fn keep(list: &mut Vec<String>, question: String) {
    if list.len() < SHOWN && !list.contains(&question) {
        list.push(question);
    }
}

fn allows(answer: &Replayed) -> Option<bool> {
    match answer {
        Replayed::Allowed(_) => Some(true),
        Replayed::Denied(..) | Replayed::Closed(_) => Some(false),
        Replayed::Unknown(_) => None,
    }
}

fn by(answer: &Replayed) -> String {
    match answer {
        Replayed::Allowed(rules) => rules.join(", "),
        Replayed::Denied(why, rules) if rules.is_empty() => format!("nothing ({})", why.name()),
        Replayed::Denied(why, rules) => format!("{} ({})", rules.join(", "), why.name()),
        Replayed::Closed(why) => (*why).clone(),
        Replayed::Unknown(what) => what.join(", "),
    }
}

impl Replays {
    fn json(&self) -> Value {
        json!({
            "looked_at": self.looked,
            "newly_permitted": self.newly_permitted,
            "newly_denied": self.newly_denied,
            "still_permitted": self.still_permitted,
            "still_denied": self.still_denied,
            "cannot_be_decided_from_the_record": self.undecided,
            "lacking": self.lacking,
            "permitted": self.permitted,
            "denied": self.denied,
        })
    }
}

fn row(difference: &Difference) -> Value {
    let parts = difference.parts.map(|[principal, action, resource, condition]| {
        json!({"principal": principal.name(), "action": action.name(), "resource": resource.name(), "condition": condition.name()})
    });
    json!({
        "id": difference.name,
        "at": difference.place,
        "effect": if difference.permit { "permit" } else { "forbid" },
        "change": difference.change.name(),
        "comes_to": difference.comes.name(),
        "because": difference.because,
        "scope": difference.scope,
        "parts": parts,
    })
}

fn text(differences: &[Difference], replays: Option<&Replays>, differs: bool) -> String {
    let mut text = String::new();
    for difference in differences {
        let mark = match difference.change {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Changed => '~',
            Change::Reworded => ' ',
        };
        let effect = if difference.permit { "permit" } else { "forbid" };
        text.push_str(&format!("{mark} {effect} {}  ({})\n    {}\n", difference.name, difference.place, difference.scope));
        if let Some([principal, action, resource, condition]) = difference.parts {
            text.push_str(&format!(
                "    principal {}, action {}, resource {}, condition {}\n",
                principal.name(),
                action.name(),
                resource.name(),
                condition.name()
            ));
        }
        text.push_str(&format!("    {}: {}\n", difference.comes.name(), difference.because));
    }
    if let Some(replays) = replays {
        text.push_str(&format!("\nquestions of {}:\n", replays.told));
        for (head, count, list) in
            [("newly permitted", replays.newly_permitted, &replays.permitted), ("newly denied", replays.newly_denied, &replays.denied)]
        {
            text.push_str(&format!("  {head}: {count}\n"));
            for question in list {
                text.push_str(&format!("    {question}\n"));
            }
        }
        text.push_str(&format!(
            "  still permitted: {}\n  still denied: {}\n  cannot be decided from the record: {}\n",
            replays.still_permitted, replays.still_denied, replays.undecided
        ));
        for (what, count) in &replays.lacking {
            text.push_str(&format!("    not on record: {what} ({count})\n"));
        }
    }
    text.push_str(if differs { "the sets differ\n" } else { "no decision differs\n" });
    text
}
