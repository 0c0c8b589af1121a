//! What can be told of rules without asking them anything: which takes in which, and what a change of a set comes to at most.
//!
//! A claim is made only where scopes prove it; a condition is compared as a whole and never reasoned about.

use super::kinds;
use super::load::{Placement, Whole};
use super::slice::{Reach, Reveal, VerbRow};
use std::collections::BTreeSet;

/// How one part of a rule differs from the same part of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Same,
    /// It takes in all that the other does, and more.
    Wider,
    /// The other takes in all that it does.
    Narrower,
    /// Neither can be proved.
    Unknown,
}

impl Part {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Wider => "widened",
            Self::Narrower => "narrowed",
            Self::Unknown => "unknown",
        }
    }
    fn of(wider: bool, narrower: bool) -> Self {
        match (wider, narrower) {
            (true, true) => Self::Same,
            (true, false) => Self::Wider,
            (false, true) => Self::Narrower,
            (false, false) => Self::Unknown,
        }
    }
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Removed,
    Changed,
    /// Its words to the caller alone: `@hint`, `@reveal`.
    Reworded,
}

impl Change {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
            Self::Reworded => "reworded",
        }
    }
}

/// What a change of one rule comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comes {
    /// Something was denied and is permitted: proved.
    Permits,
    /// Something was permitted and is denied: proved.
    Denies,
    /// Nothing is newly denied by it; something may be newly permitted.
    MayPermit,
    /// Nothing is newly permitted by it; something may be newly denied.
    MayDeny,
    /// Either, or both.
    Unknown,
    Nothing,
}

impl Comes {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Permits => "newly permits",
            Self::Denies => "newly denies",
            Self::MayPermit => "may newly permit",
            Self::MayDeny => "may newly deny",
            Self::Unknown => "cannot be told",
            Self::Nothing => "changes no decision",
        }
    }
}

/// One difference between two sets.
#[derive(Clone, Debug)]
pub struct Difference {
    pub change: Change,
    /// `@id`, or `file:line`.
    pub name: String,
    pub place: String,
    pub permit: bool,
    pub comes: Comes,
    /// Why it is known.
    pub because: String,
    /// Of a changed rule: principal, action, resource, condition.
    pub parts: Option<[Part; 4]>,
    /// The scope of the rule, the new one where it changed.
    pub scope: String,
}

type Verbs = BTreeSet<(String, String)>;

/// A rule with its verbs written out.
struct Ruled<'a> {
    placed: &'a Placement,
    verbs: Verbs,
}

fn ruled<'a>(placed: &'a Placement, rows: &[VerbRow]) -> Ruled<'a> {
    let within = |(namespace, name, groups): &&VerbRow| {
        placed.rule.verbs.as_ref().is_none_or(|wanted| {
            wanted.iter().any(|verb| verb.kind == format!("{namespace}::Action") && verb.id == *name || groups.contains(verb))
        })
    };
    let verbs = rows.iter().filter(within).map(|(namespace, name, _)| (namespace.clone(), name.clone())).collect();
    Ruled { placed, verbs }
}

impl Whole {
    fn ruled(&self) -> Vec<Ruled<'_>> {
        self.rules.iter().map(|placed| ruled(placed, &self.verbs)).collect()
    }

    /// Names, effects and places of all rules, in the order of the text.
    pub fn each(&self) -> impl Iterator<Item = (&str, bool, &str)> {
        self.rules.iter().map(|placed| (placed.rule.name.as_str(), placed.rule.permit, placed.place.as_str()))
    }

    /// Rules that cannot decide anything, or that nothing depends on: the name of each, and why.
    #[must_use]
    pub fn shadowed(&self) -> Vec<(String, String)> {
        let rules = self.ruled();
        let mut found = Vec::new();
        for (at, rule) in rules.iter().enumerate() {
            let name = |other: &Ruled<'_>| format!("`{}` ({})", other.placed.rule.name, other.placed.place);
            let others = || rules.iter().enumerate().filter(|(other, _)| *other != at);
            let forbid = others().find(|(_, other)| rule.permits() && !other.permits() && other.unconditional() && other.takes_in(rule));
            if let Some((_, forbid)) = forbid {
                found.push((rule.placed.rule.name.clone(), format!("shadowed: {} forbids all of it", name(forbid))));
                continue;
            }
            // Of two that take in one another the first one counts.
            let same = |(number, other): &(usize, &Ruled<'_>)| {
                rule.permits() == other.permits()
                    && (other.unconditional() && other.takes_in(rule) || other.says_the_same(rule))
                    && !(*number > at && rule.takes_in(other) && (rule.unconditional() || rule.says_the_same(other)))
            };
            if let Some((_, other)) = others().find(same) {
                let verb = if rule.permits() { "permits" } else { "forbids" };
                found.push((rule.placed.rule.name.clone(), format!("redundant: {} {verb} all of it without it", name(other))));
            }
        }
        found
    }
}

impl Ruled<'_> {
    fn permits(&self) -> bool {
        self.placed.rule.permit
    }
    fn unconditional(&self) -> bool {
        self.placed.rule.condition.is_none()
    }
    /// Whether the scope takes in all of the other one's.
    fn takes_in(&self, other: &Ruled<'_>) -> bool {
        principals(&self.placed.principal, &other.placed.principal)
            && other.verbs.is_subset(&self.verbs)
            && resources(&self.placed.rule.reach, &other.placed.rule.reach)
    }
    /// Whether no question is about both.
    fn apart(&self, other: &Ruled<'_>) -> bool {
        principals_apart(&self.placed.principal, &other.placed.principal)
            || self.verbs.is_disjoint(&other.verbs)
            || resources_apart(&self.placed.rule.reach, &other.placed.rule.reach)
    }
    /// Whether it decides exactly as the other one does.
    fn says_the_same(&self, other: &Ruled<'_>) -> bool {
        self.permits() == other.permits()
            && self.verbs == other.verbs
            && self.takes_in(other)
            && other.takes_in(self)
            && self.placed.rule.condition == other.placed.rule.condition
    }
    /// `open` is asked along with other verbs.
    fn about_open(&self) -> bool {
        self.verbs.iter().any(|(namespace, name)| namespace == "file_system" && name == "open")
    }
    fn about_files(&self) -> bool {
        self.verbs.iter().any(|(namespace, _)| namespace == "file_system")
    }
    fn words(&self) -> (Option<&str>, Reveal) {
        (self.placed.rule.hint.as_deref(), self.placed.rule.reveal)
    }
    fn scope(&self) -> String {
        let verbs = match &self.placed.rule.verbs {
            None => "any action".to_owned(),
            Some(verbs) => verbs.iter().map(|verb| super::values::written(&verb.kind, &verb.id)).collect::<Vec<_>>().join(", "),
        };
        let who = match &self.placed.principal {
            Reach::Anything | Reach::Kind(_) => "anybody".to_owned(),
            who => who.to_string(),
        };
        let when = if self.unconditional() { "" } else { ", under a condition" };
        format!("{who}: {verbs} on {}{when}", self.placed.rule.reach)
    }
}

/// Whether a rule is known by a name of its own rather than by its place.
fn named(placed: &Placement) -> bool {
    !placed.rule.name.starts_with(&placed.place)
}

/// The differences between two sets, and what each comes to at most.
#[must_use]
pub fn compare(old: &Whole, new: &Whole) -> Vec<Difference> {
    let (old, new) = (old.ruled(), new.ruled());
    let mut used: BTreeSet<usize> = BTreeSet::new();
    let (mut gone, mut found) = (Vec::new(), Vec::new());
    for rule in &old {
        let same: Vec<usize> =
            new.iter().enumerate().filter(|(at, other)| !used.contains(at) && rule.says_the_same(other)).map(|(at, _)| at).collect();
        // One of the same name first.
        let by_name = same.iter().find(|at| new.get(**at).is_some_and(|other| other.placed.rule.name == rule.placed.rule.name));
        match by_name.or(same.first()).and_then(|at| Some((*at, new.get(*at)?))) {
            Some((at, other)) => {
                used.insert(at);
                if rule.words() != other.words() {
                    found.push(difference(
                        Change::Reworded,
                        other,
                        Comes::Nothing,
                        "only what callers are told of it differs".to_owned(),
                        None,
                    ));
                }
            }
            None => gone.push(rule),
        }
    }
    let come: Vec<(usize, &Ruled<'_>)> = new.iter().enumerate().filter(|(at, _)| !used.contains(at)).collect();
    let mut paired: BTreeSet<usize> = BTreeSet::new();
    for rule in gone {
        let after = come.iter().find(|(at, other)| {
            !paired.contains(at)
                && named(rule.placed)
                && named(other.placed)
                && other.placed.rule.name == rule.placed.rule.name
                && rule.permits() == other.permits()
        });
        match after {
            Some((at, after)) => {
                paired.insert(*at);
                found.push(changed(rule, after, &old, &new));
            }
            None => {
                let (comes, because) = if rule.permits() { less(rule, &new, &old) } else { more(rule, &old, &new) };
                found.push(difference(Change::Removed, rule, comes, because, None));
            }
        }
    }
    for (_, rule) in come.iter().filter(|(at, _)| !paired.contains(at)) {
        let (comes, because) = if rule.permits() { more(rule, &old, &new) } else { less(rule, &new, &old) };
        found.push(difference(Change::Added, rule, comes, because, None));
    }
    found
}

fn difference(change: Change, rule: &Ruled<'_>, comes: Comes, because: String, parts: Option<[Part; 4]>) -> Difference {
    let placed = rule.placed;
    Difference {
        change,
        name: placed.rule.name.clone(),
        place: placed.place.clone(),
        permit: placed.rule.permit,
        comes,
        because,
        parts,
        scope: rule.scope(),
    }
}

/// A permit that comes, or a forbid that goes: nothing is newly denied by it.
fn more(rule: &Ruled<'_>, old: &[Ruled<'_>], new: &[Ruled<'_>]) -> (Comes, String) {
    let name = |other: &Ruled<'_>| format!("`{}`", other.placed.rule.name);
    let covers = |other: &&Ruled<'_>, permit: bool| other.permits() == permit && other.unconditional() && other.takes_in(rule);
    if let Some(forbid) = new.iter().find(|other| covers(other, false)) {
        return (Comes::Nothing, format!("{} forbids all of it", name(forbid)));
    }
    if rule.permits() {
        if let Some(permit) = old.iter().find(|other| covers(other, true)) {
            return (Comes::Nothing, format!("{} permitted all of it already", name(permit)));
        }
        let free =
            new.iter().filter(|other| !other.permits()).all(|forbid| rule.apart(forbid) && !(rule.about_files() && forbid.about_open()));
        if rule.unconditional() && free && old.iter().filter(|other| other.permits()).all(|permit| rule.apart(permit)) {
            return (Comes::Permits, "nothing permitted any of it, and no forbid concerns it; closed places stay closed".to_owned());
        }
        return (Comes::MayPermit, "as far as nothing permitted it before and no forbid concerns it".to_owned());
    }
    if !rule.about_open() && new.iter().filter(|other| other.permits()).all(|permit| rule.apart(permit)) {
        return (Comes::Nothing, "no permit concerns any of it".to_owned());
    }
    (Comes::MayPermit, "as far as some permit concerns it and no other forbid does".to_owned())
}

/// A permit that goes, or a forbid that comes: nothing is newly permitted by it. `after` and `before` are the sets.
fn less(rule: &Ruled<'_>, after: &[Ruled<'_>], before: &[Ruled<'_>]) -> (Comes, String) {
    let name = |other: &Ruled<'_>| format!("`{}`", other.placed.rule.name);
    let covers = |other: &&Ruled<'_>, permit: bool| other.permits() == permit && other.unconditional() && other.takes_in(rule);
    if let Some(forbid) = before.iter().find(|other| covers(other, false)) {
        return (Comes::Nothing, format!("{} forbade all of it already", name(forbid)));
    }
    if rule.permits() {
        if let Some(permit) = after.iter().find(|other| covers(other, true)) {
            return (Comes::Nothing, format!("{} still permits all of it", name(permit)));
        }
        let free =
            before.iter().filter(|other| !other.permits()).all(|forbid| rule.apart(forbid) && !(rule.about_files() && forbid.about_open()));
        if rule.unconditional() && free && after.iter().filter(|other| other.permits()).all(|permit| rule.apart(permit)) {
            return (Comes::Denies, "nothing else permits any of it".to_owned());
        }
        return (Comes::MayDeny, "as far as nothing else permits it".to_owned());
    }
    if !rule.about_open() && before.iter().filter(|other| other.permits()).all(|permit| rule.apart(permit)) {
        return (Comes::Nothing, "no permit concerned any of it".to_owned());
    }
    (Comes::MayDeny, "as far as some permit concerned it and no other forbid did".to_owned())
}

/// The same rule with another content.
fn changed(before: &Ruled<'_>, after: &Ruled<'_>, old: &[Ruled<'_>], new: &[Ruled<'_>]) -> Difference {
    let (a, b) = (before.placed, after.placed);
    let condition = match (&a.rule.condition, &b.rule.condition) {
        (x, y) if x == y => Part::Same,
        (Some(_), None) => Part::Wider,
        (None, Some(_)) => Part::Narrower,
        _ => Part::Unknown,
    };
    let parts = [
        Part::of(principals(&b.principal, &a.principal), principals(&a.principal, &b.principal)),
        Part::of(before.verbs.is_subset(&after.verbs), after.verbs.is_subset(&before.verbs)),
        Part::of(resources(&b.rule.reach, &a.rule.reach), resources(&a.rule.reach, &b.rule.reach)),
        condition,
    ];
    let all = |allowed: Part| parts.iter().all(|part| *part == Part::Same || *part == allowed);
    let (comes, because) = match (all(Part::Wider), all(Part::Narrower), after.permits()) {
        // Wider: as if the new one came; narrower: as if the old one went.
        (true, _, true) => {
            let (comes, because) = more(after, old, new);
            (if comes == Comes::Permits { Comes::MayPermit } else { comes }, because)
        }
        (_, true, true) => {
            let (comes, because) = less(before, new, old);
            (if comes == Comes::Denies { Comes::MayDeny } else { comes }, because)
        }
        (true, _, false) => less(after, new, old),
        (_, true, false) => more(before, old, new),
        (false, false, _) => (Comes::Unknown, "it is neither wider nor narrower in every part".to_owned()),
    };
    difference(Change::Changed, after, comes, because, Some(parts))
}

/// A user that a scope names, as one.
fn user(reach: &Reach) -> Option<&str> {
    match reach {
        // Nothing is in a user but itself.
        Reach::Exactly(kind, id) | Reach::Within(kind, id) if kind == "User" => Some(id),
        Reach::KindWithin(what, kind, id) if what == "User" && kind == "User" => Some(id),
        _ => None,
    }
}

fn group(reach: &Reach) -> Option<&str> {
    match reach {
        Reach::Within(kind, id) if kind == "Group" => Some(id),
        Reach::KindWithin(what, kind, id) if what == "User" && kind == "Group" => Some(id),
        _ => None,
    }
}

/// Whether `a` takes in every principal that `b` does. Principals are users.
fn principals(a: &Reach, b: &Reach) -> bool {
    match a {
        Reach::Anything => true,
        Reach::Kind(kind) => kind == "User",
        _ => user(a).is_some() && user(a) == user(b) || group(a).is_some() && group(a) == group(b) || a == b,
    }
}

fn principals_apart(a: &Reach, b: &Reach) -> bool {
    matches!((user(a), user(b)), (Some(a), Some(b)) if a != b)
}

/// Whether the thing is this container or in it. Only places whose hierarchy follows from the ids.
fn inside(container: (&str, &str), thing: (&str, &str)) -> bool {
    let (kind, id) = container;
    match kind {
        _ if container == thing => true,
        "file_system::Dir" if thing.0.starts_with("file_system::") => {
            id == "/" || thing.1.strip_prefix(id).is_some_and(|rest| rest.starts_with('/'))
        }
        _ => kinds::whole_of(thing.0, thing.1) == Some(container),
    }
}

/// Whether a type can be in a container of that type.
fn resources(a: &Reach, b: &Reach) -> bool {
    match (a, b) {
        (Reach::Anything, _) => true,
        (Reach::Kind(kind), Reach::Kind(other) | Reach::Exactly(other, _) | Reach::KindWithin(other, ..)) => kind == other,
        (Reach::Exactly(kind, id), Reach::Exactly(other, same)) => kind == other && id == same,
        (Reach::Within(kind, id), Reach::Exactly(other, thing) | Reach::Within(other, thing) | Reach::KindWithin(_, other, thing)) => {
            inside((kind, id), (other, thing))
        }
        (Reach::KindWithin(what, kind, id), Reach::Exactly(other, thing)) => what == other && inside((kind, id), (other, thing)),
        (Reach::KindWithin(what, kind, id), Reach::KindWithin(of, other, thing)) => what == of && inside((kind, id), (other, thing)),
        _ => false,
    }
}

fn resources_apart(a: &Reach, b: &Reach) -> bool {
    let kind = |reach: &Reach| match reach {
        Reach::Kind(kind) | Reach::Exactly(kind, _) | Reach::KindWithin(kind, ..) => Some(kind.clone()),
        // What is in a folder is a file or a folder; the rest has one type for both.
        Reach::Anything | Reach::Within(..) => None,
    };
    if matches!((kind(a), kind(b)), (Some(a), Some(b)) if a != b) {
        return true;
    }
    let place = |reach: &Reach| match reach {
        Reach::Exactly(kind, id) => Some((kind.clone(), id.clone(), true)),
        Reach::Within(kind, id) | Reach::KindWithin(_, kind, id) => Some((kind.clone(), id.clone(), false)),
        Reach::Anything | Reach::Kind(_) => None,
    };
    let (Some((kind_a, a, one_a)), Some((kind_b, b, one_b))) = (place(a), place(b)) else { return false };
    let namespace = |kind: &str| kind.split("::").next().unwrap_or("").to_owned();
    if namespace(&kind_a) != namespace(&kind_b) {
        return true;
    }
    match (one_a, one_b) {
        (true, true) => (kind_a, a) != (kind_b, b),
        (false, true) => known(&kind_a) && !inside((&kind_a, &a), (&kind_b, &b)),
        (true, false) => known(&kind_b) && !inside((&kind_b, &b), (&kind_a, &a)),
        (false, false) => {
            known(&kind_a) && known(&kind_b) && !inside((&kind_a, &a), (&kind_b, &b)) && !inside((&kind_b, &b), (&kind_a, &a))
        }
    }
}

/// Whether what is in things of this type follows from the ids.
fn known(kind: &str) -> bool {
    kind == "file_system::Dir" || kinds::is_whole(kind)
}

#[cfg(test)]
mod tests;
