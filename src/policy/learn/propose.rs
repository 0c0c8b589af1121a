//! The proposal: which questions become permits, how they are grouped, what is left out and why, and whether it holds what it says.

use super::write::{comment, entity, slug};
use super::{Learner, Seen, Wanted, folder, sensitive, shape, tests_for, write};
use crate::error::{Error, Kind, Result, Why};
use crate::policy::gate::Replayed;
use crate::policy::load::{Source, Whole, sha256};
use crate::policy::replay::Replay;
use crate::policy::words::Access;
use std::collections::{BTreeMap, BTreeSet};

/// A question that is not proposed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// In words of Cedar.
    pub question: String,
    pub why: String,
}

/// What comes of the records.
#[derive(Clone, Debug, Default)]
pub struct Proposal {
    /// A file of policies; empty when nothing is proposed.
    pub policy: String,
    /// The tests that go with it, in the form of `rex policy test`.
    pub tests: String,
    pub permits: usize,
    /// Questions that the present set allows already.
    pub already: usize,
    pub left: Vec<Left>,
    /// Questions that would be denied, or cannot be told, with the proposal in place.
    pub open: Vec<Left>,
}

/// Who a permit is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    User(String),
    Group(String),
}

impl Who {
    fn scope(&self) -> String {
        match self {
            Self::User(name) => format!("principal == {}", entity("User", name)),
            Self::Group(name) => format!("principal in {}", entity("Group", name)),
        }
    }
    fn name(&self) -> &str {
        match self {
            Self::User(name) | Self::Group(name) => name,
        }
    }
}

/// What a permit is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    Exactly(String, String),
    /// Of this type, in this folder, but for what keeps secrets by its name.
    Folder(String, String),
    /// Of this type, as the condition says.
    Kind(String),
}

/// One permit.
#[derive(Clone, Debug)]
pub(super) struct Permit {
    pub id: String,
    pub who: Who,
    /// Namespace and name of each verb.
    pub actions: BTreeSet<(String, String)>,
    pub about: About,
    /// Conditions that all hold.
    pub when: Vec<String>,
    pub unless: Vec<String>,
    /// The questions that it answers.
    pub(super) of: Vec<Seen>,
}

/// A question that may become a permit.
pub(super) struct Candidate {
    pub who: Who,
    pub about: About,
    pub access: Access,
    pub shape: shape::Shape,
    pub seen: Seen,
    /// Whether the verb has circumstances, so that it stands alone in its permit.
    pub alone: bool,
}

impl Learner {
    /// Makes the proposal for the set `present`, of which `replay` answers questions; `again` makes one for another set.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a folder that must not be merged; [`Kind::Internal`] when the proposal does not validate.
    pub fn propose(
        self,
        wanted: &Wanted,
        present: &[Source],
        schema: &str,
        replay: &mut Replay,
        again: &dyn Fn(&[Source]) -> Result<Replay>,
    ) -> Result<Proposal> {
        folder::check(wanted)?;
        let mut proposal = Proposal::default();
        let mut candidates = Vec::new();
        for seen in self.seen {
            match weigh(seen, wanted, replay)? {
                Weighed::Already => proposal.already += 1,
                Weighed::Left(left) => proposal.left.push(left),
                Weighed::Candidate(candidate) => candidates.push(*candidate),
            }
        }
        let taken = if present.is_empty() { BTreeSet::new() } else { Whole::load(present, schema)?.names() };
        let mut permits = folder::merge(&mut candidates, wanted);
        permits.extend(group(candidates));
        permits.sort_by(|a, b| (&a.who, &a.about, &a.actions, &a.when).cmp(&(&b.who, &b.about, &b.actions, &b.when)));
        name(&mut permits, &taken);
        proposal.permits = permits.len();
        proposal.policy = text(&permits, &proposal, self.asked);
        if !permits.is_empty() {
            let unformatted = Source { name: "proposal.cedar".to_owned(), text: std::mem::take(&mut proposal.policy) };
            proposal.policy = crate::policy::format::format(&unformatted)?;
            verify(&permits, present, schema, &mut proposal, again)?;
            proposal.tests = tests_for::write(&permits);
        }
        Ok(proposal)
    }
}

enum Weighed {
    Already,
    Left(Left),
    Candidate(Box<Candidate>),
}

fn question(seen: &Seen) -> String {
    let ((namespace, name), (kind, id)) = (&seen.asked.action, &seen.asked.resource);
    let process = || seen.asked.attributes.get("name").and_then(|name| name.as_str()).map(|name| format!(" ({name})")).unwrap_or_default();
    format!("{} {namespace}::{name} on {}{}", entity("User", &seen.caller.principal), entity(kind, id), process())
}

fn weigh(seen: Seen, wanted: &Wanted, replay: &mut Replay) -> Result<Weighed> {
    let left = |seen: &Seen, why: String| Ok(Weighed::Left(Left { question: question(seen), why }));
    let named = |rules: &[String]| rules.iter().map(|rule| format!("`{rule}`")).collect::<Vec<_>>().join(", ");
    let Some((ask, noun)) = replay.vocabulary(&seen.asked) else {
        return left(&seen, "no function of this version asks for it".to_owned());
    };
    match replay.ask(&seen.caller, &seen.asked)? {
        Replayed::Allowed(_) => return Ok(Weighed::Already),
        Replayed::Closed(why) => return left(&seen, format!("closed whatever a policy says: {why}")),
        Replayed::Denied(Why::Forbidden, rules) => {
            return left(&seen, format!("{} forbids it, and no permit undoes a forbid", named(&rules)));
        }
        Replayed::Denied(Why::PolicyError, rules) => return left(&seen, format!("{} cannot be evaluated, which denies", named(&rules))),
        Replayed::Denied(..) => {}
        Replayed::Unknown(what) if seen.why == Some(Why::Forbidden) => {
            let rules = named(&seen.policies);
            return left(&seen, format!("{rules} forbade it; whether it does now depends on {}", what.join(", ")));
        }
        Replayed::Unknown(_) => {}
    }
    if seen.why == Some(Why::Forbidden) && seen.policies.is_empty() {
        return left(&seen, "it was closed whatever a policy says".to_owned());
    }
    let (kind, id) = &seen.asked.resource;
    let file = kind.starts_with("file_system::");
    // To run a program is not to change it.
    let access = if ask.name == "execute" { Access::ReadOnly } else { ask.access };
    let sensitive = if file { sensitive::reason(id, access, &wanted.own) } else { None };
    if let Some(why) = sensitive.filter(|_| !wanted.include.iter().any(|named| named == id || *named == entity(kind, id))) {
        return left(&seen, format!("{why}; to have it all the same: --include {}", write::literal(id)));
    }
    let who = wanted.group.as_ref().map_or_else(|| Who::User(seen.caller.principal.clone()), |group| Who::Group(group.clone()));
    let (about, shape) = if noun.name == "process_system::Process" {
        match process(&seen) {
            Ok(shape) => (About::Kind(kind.clone()), shape),
            Err(why) => return left(&seen, why),
        }
    } else {
        match shape::of(&ask, &seen.asked.context, seen.asked.cut) {
            Ok(shape) => (About::Exactly(kind.clone(), id.clone()), shape),
            Err(why) => return left(&seen, why),
        }
    };
    Ok(Weighed::Candidate(Box::new(Candidate { who, about, access: ask.access, shape, alone: !ask.context.is_empty(), seen })))
}

/// A process is another one tomorrow under the same number, so it is described by its unit, user and name.
fn process(seen: &Seen) -> std::result::Result<shape::Shape, String> {
    let text =
        |name: &str| seen.asked.attributes.get(name).and_then(|value| value.as_str()).filter(|text| !crate::policy::incomplete(text));
    let (Some(name), Some(user)) = (text("name"), text("username").filter(|user| !user.is_empty())) else {
        return Err("which processes are meant is not on record".to_owned());
    };
    let mut fixed = vec![format!("resource.username == {}", write::literal(user))];
    fixed.push(match text("unit") {
        Some(unit) => format!("resource has unit && resource.unit == {}", write::literal(unit)),
        None => "!(resource has unit)".to_owned(),
    });
    Ok(shape::Shape { fixed, pivot: Some(("resource.name".to_owned(), write::literal(name))), level: None })
}

/// One permit for everything that differs in verbs alone, or in what may be listed.
fn group(candidates: Vec<Candidate>) -> Vec<Permit> {
    type Same = (Who, About, (String, String), Vec<String>, Option<String>);
    #[derive(Default)]
    struct Group {
        values: BTreeSet<String>,
        level: Option<i64>,
        alone: bool,
        of: Vec<Seen>,
    }
    let mut groups: BTreeMap<Same, Group> = BTreeMap::new();
    for Candidate { who, about, shape, seen, alone, .. } in candidates {
        let (pivot, value) = shape.pivot.unzip();
        let group = groups.entry((who, about, seen.asked.action.clone(), shape.fixed, pivot)).or_default();
        group.values.extend(value);
        group.level = group.level.max(shape.level);
        group.alone = alone;
        group.of.push(seen);
    }
    // A verb with circumstances of its own stands alone.
    type Together = (Who, About, Vec<String>, Option<(String, String)>);
    let mut permits: BTreeMap<Together, Permit> = BTreeMap::new();
    for ((who, about, action, fixed, pivot), group) in groups {
        let when = shape::condition(&fixed, pivot.as_deref(), &group.values, group.level);
        let key = (who.clone(), about.clone(), when.clone(), group.alone.then(|| action.clone()));
        let permit = permits.entry(key).or_insert_with(|| Permit {
            id: String::new(),
            who,
            actions: BTreeSet::new(),
            about,
            when,
            unless: Vec::new(),
            of: Vec::new(),
        });
        permit.actions.insert(action);
        permit.of.extend(group.of);
    }
    permits.into_values().collect()
}

/// Ids that stay the same as long as the permit does, and say what it is about.
fn name(permits: &mut [Permit], taken: &BTreeSet<String>) {
    let mut taken = taken.clone();
    for permit in permits {
        let body = body(permit);
        let digest: String = sha256(&[body.as_bytes()]).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let verbs: Vec<&str> = permit.actions.iter().map(|(_, name)| name.as_str()).collect();
        let about = match &permit.about {
            About::Exactly(_, id) | About::Folder(_, id) => slug(id),
            About::Kind(_) => permit
                .of
                .first()
                .and_then(|seen| seen.asked.attributes.get("unit").or(seen.asked.attributes.get("name")))
                .and_then(|name| name.as_str())
                .map(slug)
                .unwrap_or_default(),
        };
        let parts = ["learned".to_owned(), slug(permit.who.name()), slug(&verbs.join("-")), about, digest];
        let id = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
        // Only one that somebody changed by hand has the same id.
        let mut unique = id.clone();
        let mut number = 2;
        while !taken.insert(unique.clone()) {
            unique = format!("{id}-{number}");
            number += 1;
        }
        permit.id = unique;
    }
}

/// The permit from its effect on.
fn body(permit: &Permit) -> String {
    let actions: Vec<String> = permit.actions.iter().map(|(namespace, name)| entity(&format!("{namespace}::Action"), name)).collect();
    let action = match actions.as_slice() {
        [one] => format!("action == {one}"),
        several => format!("action in [{}]", several.join(", ")),
    };
    let resource = match &permit.about {
        About::Exactly(kind, id) => format!("resource == {}", entity(kind, id)),
        About::Folder(kind, id) => format!("resource is {kind} in {}", entity("file_system::Dir", id)),
        About::Kind(kind) => format!("resource is {kind}"),
    };
    let mut text = format!("permit (\n    {},\n    {action},\n    {resource}\n)", permit.who.scope());
    if !permit.when.is_empty() {
        text.push_str(&format!(" when {{\n    {}\n}}", permit.when.join(" &&\n    ")));
    }
    if !permit.unless.is_empty() {
        text.push_str(&format!(" unless {{\n    {}\n}}", permit.unless.join(" ||\n    ")));
    }
    text.push_str(";\n");
    text
}

/// The file.
fn text(permits: &[Permit], proposal: &Proposal, asked: u64) -> String {
    if permits.is_empty() && proposal.left.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "// Proposed by `rex policy learn` from {asked} recorded questions, to be reviewed: each permit is for exactly what was asked.\n"
    );
    for permit in permits {
        text.push('\n');
        let count: u64 = permit.of.iter().map(|seen| seen.count).sum();
        let first = permit.of.first();
        let functions: BTreeSet<&str> = permit.of.iter().map(|seen| seen.function.as_str()).filter(|name| !name.is_empty()).collect();
        let functions: Vec<&str> = functions.into_iter().take(5).collect();
        let reference =
            first.and_then(|seen| seen.reference.as_deref()).map_or_else(String::new, |reference| format!(", e.g. {reference}"));
        let run = first.map_or("", |seen| seen.caller.run.as_str());
        text.push_str(&comment(&format!(
            "Asked {} by {} (run {run}{reference}).",
            crate::error::counted(count, "time"),
            functions.join(", ")
        )));
        let nearest: BTreeSet<&str> = permit
            .of
            .iter()
            .filter(|seen| seen.why == Some(Why::ConditionFailed))
            .flat_map(|seen| seen.policies.iter().map(String::as_str))
            .collect();
        if !nearest.is_empty() {
            let nearest: Vec<String> = nearest.into_iter().take(5).map(|name| format!("`{name}`")).collect();
            text.push_str(&comment(&format!(
                "The condition of {} did not hold: see first whether that is the one to mend.",
                nearest.join(", ")
            )));
        }
        if permit.actions.iter().any(|(_, name)| name == "execute")
            && let About::Exactly(_, program) = &permit.about
            && let Some(name) = crate::policy::launchers::launcher(program)
        {
            text.push_str(&comment(&format!("`{name}` can run other programs; what it does may depend on files that its arguments name.")));
        }
        if matches!(permit.about, About::Kind(_)) {
            text.push_str("// A process chooses its own name; its user and its unit it does not.\n");
        }
        text.push_str(&format!("@id({})\n{}", write::literal(&permit.id), body(permit)));
    }
    if !proposal.left.is_empty() {
        text.push('\n');
        for left in &proposal.left {
            text.push_str(&comment(&format!("not proposed: {}: {}", left.question, left.why)));
        }
    }
    text
}

/// Puts every question to the present set and the proposal together, after strict validation.
fn verify(
    permits: &[Permit],
    present: &[Source],
    schema: &str,
    proposal: &mut Proposal,
    again: &dyn Fn(&[Source]) -> Result<Replay>,
) -> Result<()> {
    let mut together = present.to_vec();
    together.push(Source { name: "~proposal.cedar".to_owned(), text: proposal.policy.clone() });
    let fault = |error: Error| Error::new(Kind::Internal, format!("the proposal does not validate, so it is not given: {}", error.message));
    Whole::load(&together, schema).map_err(fault)?;
    let mut replay = again(&together)?;
    for seen in permits.iter().flat_map(|permit| &permit.of) {
        let why = match replay.ask(&seen.caller, &seen.asked)? {
            Replayed::Allowed(_) => continue,
            Replayed::Unknown(what) => format!("whether that is enough depends on {}", what.join(", ")),
            Replayed::Closed(why) => format!("closed whatever a policy says: {why}"),
            Replayed::Denied(why, rules) => format!("would still be denied ({}, {})", why.name(), rules.join(", ")),
        };
        proposal.open.push(Left { question: question(seen), why });
    }
    Ok(())
}
