//! What a rule can match: its verbs, where its resource can lie, and the cases in which its condition holds.

use super::hull::{self, Bound};
use super::possible::{self, Case, Never, What, Work};
use super::schema::Words;
use super::slice::{Reach, Rule, Uid};
use super::words::{Access, Ask, Noun};

/// A verb that the schema has.
#[derive(Clone, Debug)]
pub(super) struct Verb {
    pub uid: Uid,
    pub groups: Vec<Uid>,
    /// The entity types that it applies to.
    pub kinds: Vec<&'static str>,
    /// Whether it changes the host.
    pub changes: bool,
}

/// Every verb, in alphabetical order.
pub(super) fn verbs(asks: &[Ask], nouns: &[Noun]) -> Vec<Verb> {
    let words = Words::of(asks, nouns);
    let mut found = Vec::new();
    for (namespace, words) in &words.namespaces {
        let uid = |name: &str| Uid { kind: format!("{namespace}::Action"), id: name.to_owned() };
        for (name, verb) in &words.verbs {
            found.push(Verb {
                uid: uid(name),
                groups: verb.groups.iter().map(|group| uid(group)).collect(),
                kinds: verb.applies_to.iter().copied().collect(),
                changes: verb.access == Some(Access::Change),
            });
        }
    }
    found
}

/// What a rule can match.
#[derive(Debug)]
pub(super) struct Shape {
    /// The verbs it is about, by number, in ascending order; those that its scope names and that apply to what its scope names.
    pub verbs: Vec<usize>,
    /// Whatever matches lies in one of these.
    pub bounds: Vec<Bound>,
    /// The cases in which it matches, its scope included (the action's part apart). None where there are too many.
    pub cases: Option<Vec<Case>>,
}

impl Shape {
    pub(super) fn new(rule: &Rule, principal: &Reach, all: &[Verb], work: &Work) -> Self {
        work.begin();
        let kind = match &rule.reach {
            Reach::Kind(kind) | Reach::Exactly(kind, _) | Reach::KindWithin(kind, _, _) => Some(kind.as_str()),
            Reach::Anything | Reach::Within(..) => None,
        };
        let named = |verb: &Verb, uid: &Uid| verb.uid == *uid || verb.groups.contains(uid);
        let verbs = all
            .iter()
            .enumerate()
            .filter(|(_, verb)| rule.verbs.as_ref().is_none_or(|uids| uids.iter().any(|uid| named(verb, uid))))
            .filter(|(_, verb)| kind.is_none_or(|kind| verb.kinds.contains(&kind)))
            .map(|(number, _)| number)
            .collect();
        let mut scope = possible::of_reach("principal", principal);
        scope.extend(possible::of_reach("resource", &rule.reach));
        let cases = match &rule.condition {
            None => Some(vec![scope]),
            Some(condition) => possible::cases(condition, true, work).and_then(|cases| possible::both(vec![scope], cases, work)),
        };
        Self { verbs, bounds: hull::of_rule(rule), cases }
    }

    /// Why it can never match.
    pub(super) fn never(&self, all: &[Verb], work: &Work) -> Option<Never> {
        work.begin();
        let cases = self.cases.as_ref()?;
        let mut why = None;
        for case in cases {
            match possible::contradiction(case, work) {
                Some(pair) => why = why.or(Some(pair)),
                None if self.no_verb_left(case, all) => {}
                None => return None,
            }
        }
        Some(Never(why))
    }

    /// Whether the case asks of the action what none of the rule's verbs is.
    fn no_verb_left(&self, case: &Case, all: &[Verb]) -> bool {
        let asked: Vec<_> = case.iter().filter(|statement| statement.of == "action").collect();
        !asked.is_empty()
            && self.verbs.iter().filter_map(|number| all.get(*number)).all(|verb| {
                asked.iter().any(|statement| {
                    let is_so = match &statement.what {
                        What::Is(items) => items.iter().any(|item| matches!(item, possible::Constant::Entity(uid) if *uid == verb.uid)),
                        What::In(uids) => uids.iter().any(|uid| *uid == verb.uid || verb.groups.contains(uid)),
                        _ => statement.holds,
                    };
                    is_so != statement.holds
                })
            })
    }
}

/// Whether everything that the one part of a scope names, the other names too.
pub(super) fn covers(wide: &Reach, narrow: &Reach) -> bool {
    let inside = |kind: &str, id: &str, outer: &str, folder: &str| {
        kind == outer && id == folder
            || outer == "file_system::Dir" && matches!(kind, "file_system::Dir" | "file_system::File") && possible::below(id, folder)
    };
    match (wide, narrow) {
        (Reach::Anything, _) => true,
        (Reach::Kind(kind), Reach::Kind(of) | Reach::Exactly(of, _) | Reach::KindWithin(of, _, _)) => kind == of,
        (Reach::Exactly(..), _) => wide == narrow,
        (Reach::Within(kind, id), Reach::Exactly(of, what) | Reach::Within(of, what) | Reach::KindWithin(_, of, what)) => {
            inside(of, what, kind, id)
        }
        (Reach::KindWithin(only, kind, id), Reach::Exactly(of, what)) => only == of && inside(of, what, kind, id),
        (Reach::KindWithin(only, kind, id), Reach::KindWithin(also, of, what)) => only == also && inside(of, what, kind, id),
        _ => false,
    }
}

/// Whether everything within the bound is named by the part of a scope.
pub(super) fn covers_bound(wide: &Reach, bound: &Bound) -> bool {
    match (wide, bound) {
        (Reach::Anything, _) => true,
        (Reach::Kind(kind), Bound::Kind(of)) => kind == of,
        (Reach::Within(kind, id), Bound::Within(of, what)) => {
            covers(&Reach::Within(kind.clone(), id.clone()), &Reach::Within(of.clone(), what.clone()))
        }
        (Reach::Within(kind, id), Bound::Exactly(path) | Bound::Begins(path)) => kind == "file_system::Dir" && possible::below(path, id),
        _ => false,
    }
}
