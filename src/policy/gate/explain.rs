//! One question explained to the owner of the host: every rule with what became of it, and the answer, by the code that enforces.

use super::Gate;
use super::judge::truth;
use super::named::Named;
use super::tell::conjuncts;
use crate::error::{Error, Kind, Result, Unmet, Why};
use crate::policy::slice::{Rule, Thing};
use crate::policy::values;
use crate::policy::words::{Ask, Noun, Value};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;

/// What became of one rule in one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is about another action, or about other things: the part of its scope that does not fit.
    Elsewhere(String),
    /// Its condition does not hold: the parts that do not.
    Unmet(Vec<Unmet>),
    /// Its condition could not be evaluated: what Cedar says, or what is not known.
    Failed(String),
    /// It applies.
    Applies,
}

/// One rule and its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Its id.
    pub policy: String,
    /// `file:line:column`.
    pub at: String,
    pub permit: bool,
    pub fate: Fate,
}

/// The answer to one question with everything that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// None: allowed.
    pub why: Option<Why>,
    /// The policies that decided.
    pub deciders: Vec<String>,
    /// What no policy says: a closed place, a value that could not be had.
    pub note: Option<String>,
    /// What the author of the policies tells of the denial, also where callers are not told.
    pub hint: Option<String>,
    /// Where the answer is about `open`, on the thing or its folder: action and resource.
    pub instead: Option<(String, Option<String>)>,
    pub rules: Vec<Considered>,
}

/// A thing as somebody describes it.
pub struct Described<'a> {
    pub noun: &'static Noun,
    pub id: &'a str,
    pub attributes: Vec<(&'static str, Value)>,
}

impl Thing for Described<'_> {
    fn noun(&self) -> &'static Noun {
        self.noun
    }
    fn id(&self) -> &str {
        self.id
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        Named { noun: self.noun, id: self.id }.each_ancestor(visit);
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        if let Some((_, value)) = self.attributes.iter().find(|(known, _)| *known == name) {
            return Ok(Some(value.clone()));
        }
        match (Named { noun: self.noun, id: self.id }).value(name) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::new(Kind::NotFound, format!("say `--attribute {name}=VALUE`"))),
        }
    }
}

impl Gate {
    /// Explains what the answer is and why. Nothing is recorded.
    #[must_use]
    pub fn explain(&self, ask: &Ask, needs_open: bool, thing: &Described<'_>, context: &[(&'static str, Value)]) -> Explanation {
        let full = self.judge(ask, needs_open, thing, context);
        let slice = &self.policies.slice;
        let mut rules = Vec::new();
        if let Some(verb) = slice.verb(ask.namespace, ask.name) {
            let candidates = slice.candidates(verb, thing);
            for (index, rule) in (0_u32..).zip(&slice.rules) {
                let fate = if !verb.rules.contains(&index) {
                    Fate::Elsewhere("it is about other actions".to_owned())
                } else if !candidates.contains(&index) {
                    Fate::Elsewhere(format!("it is about {}", rule.reach))
                } else {
                    self.fate(verb, thing, context, rule)
                };
                let at = format!("{}:{}:{}", rule.place.source, rule.place.line, rule.place.column);
                rules.push(Considered { policy: rule.name.clone(), at, permit: rule.permit, fate });
            }
        }
        let instead = full.instead.map(|(action, on)| (action, on.map(|(kind, id)| values::written(&kind, &id))));
        let deciders = self.names(&full.verdict.deciders).into_iter().map(str::to_owned).collect();
        let hint = full.verdict.why.and_then(|_| self.told(&full.verdict).hint());
        Explanation { why: full.verdict.why, deciders, note: full.verdict.note, hint, instead, rules }
    }

    fn fate(&self, verb: &crate::policy::slice::Verb, thing: &dyn Thing, context: &[(&'static str, Value)], rule: &Rule) -> Fate {
        let Some(condition) = &rule.condition else { return Fate::Applies };
        let (request, entities) = match self.prepare(verb, thing, context, std::iter::once(&rule.needs)) {
            Ok(prepared) => prepared,
            Err(note) => return Fate::Failed(note),
        };
        let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
        match truth(condition, &evaluator) {
            Some(true) => Fate::Applies,
            Some(false) => {
                let mut parts = Vec::new();
                conjuncts(condition, &mut parts);
                let failed = parts.into_iter().filter(|part| truth(part, &evaluator) == Some(false));
                Fate::Unmet(failed.map(|part| rule.written(part)).collect())
            }
            None => {
                let error = evaluator.interpret(condition, &cedar_policy_core::ast::SlotEnv::new()).err();
                Fate::Failed(error.map_or_else(|| "it is no truth value".to_owned(), |error| error.to_string()))
            }
        }
    }
}
