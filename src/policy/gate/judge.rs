//! The answer to a question: which rules are in question, what they need to be told, what they say.

use super::named::{FOLDER, Folder, Named, folder_of};
use super::{Answer, Gate, Open};
use crate::error::Why;
use crate::policy::slice::{Rule, Thing, Verb};
use crate::policy::words::{Ask, Value};
use crate::policy::{schema, values};
use cedar_policy_core::ast::{Context, Entity, EntityUIDEntry, Literal, Request, SlotEnv, ValueKind};
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use std::collections::HashSet;
use std::sync::Arc;

/// What the policies say.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// None: allowed.
    pub(super) why: Option<Why>,
    /// What the caller is told instead, and of which rules.
    pub(super) told: Option<(Why, Vec<u32>)>,
    /// Indices of the rules that decided.
    pub(super) deciders: Vec<u32>,
    pub(super) retry: bool,
    pub(super) note: Option<String>,
    /// Whether the answer stays true within the run.
    pub(super) lasting: bool,
}

/// A verdict on a question with everything that hangs on it.
#[derive(Debug)]
pub(super) struct Full {
    pub(super) verdict: Verdict,
    /// The verb and resource the verdict is about, where that is not the question's own: `open`, and perhaps the folder.
    pub(super) instead: Option<(String, Option<(String, String)>)>,
}

impl Gate {
    /// The answer: closed places, the verb itself, and `open` where the verb needs it.
    pub(super) fn judge(&self, ask: &Ask, needs_open: bool, thing: &dyn Thing, context: &[(&'static str, Value)]) -> Full {
        if let Some(why) = (self.rules.closed)(ask, thing.noun().name, thing.id()) {
            return Full { verdict: refused(Why::Forbidden, why.to_owned()), instead: None };
        }
        let Some(verb) = self.policies.slice.verb(ask.namespace, ask.name) else {
            return Full { verdict: refused(Why::NotPermitted, "the schema does not know this action".to_owned()), instead: None };
        };
        let mut verdict = self.evaluate(verb, thing, context, false);
        if let Some(why) = self.not_learned(ask, thing, &verdict) {
            return Full { verdict: refused(Why::NotPermitted, why), instead: None };
        }
        if verdict.why.is_some() || !needs_open {
            return Full { verdict, instead: None };
        }
        let Some(open) = self.policies.slice.verb("file_system", "open") else { return Full { verdict, instead: None } };
        let only_forbids = self.rules.open == Open::Implied;
        if only_forbids && !open.some_forbid {
            return Full { verdict, instead: None };
        }
        let itself = self.evaluate(open, thing, &[], only_forbids);
        if itself.why.is_some() {
            return Full { verdict: itself, instead: Some((open.text.clone(), None)) };
        }
        let mut parts = vec![itself];
        if let Some((above, id)) = folder_of(thing) {
            let folder = Folder { id: &id, above: &above };
            let answer = self.evaluate(open, &folder, &[], only_forbids);
            if answer.why.is_some() {
                return Full { verdict: answer, instead: Some((open.text.clone(), Some((FOLDER.name.to_owned(), id)))) };
            }
            parts.push(answer);
        }
        for part in parts {
            verdict.lasting &= part.lasting;
            verdict.deciders.extend(part.deciders);
        }
        verdict.deciders.sort_unstable();
        verdict.deciders.dedup();
        Full { verdict, instead: None }
    }

    /// What the rules in question say. `only_forbids`: permitted unless forbidden.
    fn evaluate(&self, verb: &Verb, thing: &dyn Thing, context: &[(&'static str, Value)], only_forbids: bool) -> Verdict {
        let slice = &self.policies.slice;
        let mut candidates = slice.candidates(verb, thing);
        if only_forbids {
            candidates.retain(|index| slice.rule(*index).is_some_and(|rule| !rule.permit));
        }
        let rules = || candidates.iter().filter_map(|index| slice.rule(*index).map(|rule| (*index, rule)));
        // Whether a rule looks at what only a thing that is there has.
        let looks = |rule: &Rule| {
            let fixed = |name: &String| thing.noun().attributes.iter().all(|attribute| attribute.name != name || attribute.fixed);
            !rule.needs.attributes.iter().all(fixed)
        };
        let lasting = rules().all(|(_, rule)| !rule.needs.time && !rule.needs.context && !looks(rule));
        let prepared = if rules().any(|(_, rule)| rule.condition.is_some()) {
            match self.prepare(verb, thing, context, rules().map(|(_, rule)| rule)) {
                Ok(prepared) => Some(prepared),
                Err(note) => {
                    // Something that is missing has no attributes. Who may not look is told what is told of a thing that is there.
                    let of = |permits: bool| {
                        rules().filter(|(_, rule)| rule.condition.is_some() && (rule.permit || !permits)).map(|(index, _)| index).collect()
                    };
                    let some_permit = rules().any(|(_, rule)| rule.permit);
                    let told = if some_permit { (Why::ConditionFailed, of(true)) } else { (Why::NotPermitted, Vec::new()) };
                    return Verdict {
                        why: Some(Why::PolicyError),
                        told: Some(told),
                        deciders: of(false),
                        retry: false,
                        note: Some(note),
                        lasting: false,
                    };
                }
            }
        } else {
            None
        };
        let mut tally = Tally::default();
        let evaluator = prepared.as_ref().map(|(request, entities)| Evaluator::new(request.clone(), entities, Extensions::all_available()));
        for (index, rule) in rules() {
            tally.count(index, rule, holds(rule, evaluator.as_ref()));
        }
        // Of a thing that is not there these forbids say nothing. Who may not look at it in any case is told what is told then.
        let hides = |index: &u32| slice.rule(*index).is_some_and(looks);
        let told = (!only_forbids && tally.permits.is_empty() && !tally.forbids.is_empty() && tally.forbids.iter().all(hides)).then(|| {
            let why = if tally.unmet.is_empty() { Why::NotPermitted } else { Why::ConditionFailed };
            (why, tally.unmet.clone())
        });
        let timed = |index| slice.rule(index).is_some_and(|rule| rule.needs.time);
        let retry = told.as_ref().map(|(_, rules)| rules.iter().any(|index| timed(*index)));
        let verdict = tally.verdict(only_forbids, lasting, timed);
        Verdict { told, retry: retry.unwrap_or(verdict.retry), ..verdict }
    }

    /// Everything that the conditions of these rules look at, and nothing else.
    pub(super) fn prepare<'r>(
        &self,
        verb: &Verb,
        thing: &dyn Thing,
        own: &[(&'static str, Value)],
        rules: impl Iterator<Item = &'r Rule>,
    ) -> std::result::Result<(Request, Entities), String> {
        let (mut wanted, mut ancestors, mut all, mut time, mut circumstances) = (Vec::new(), false, false, false, false);
        for rule in rules.filter(|rule| rule.condition.is_some()) {
            wanted.extend(rule.needs.attributes.iter().map(String::as_str));
            ancestors |= rule.needs.ancestors;
            all |= rule.needs.all_ancestors;
            time |= rule.needs.time;
            circumstances |= rule.needs.context;
        }
        wanted.sort_unstable();
        wanted.dedup();
        let noun = thing.noun();
        if !thing.complete()
            && let Some(unknown) = wanted.iter().find(|name| noun.attributes.iter().all(|attribute| attribute.name != **name))
        {
            return Err(format!("the attribute `{unknown}` is not known here"));
        }
        let mut attributes = Vec::new();
        for attribute in noun.attributes.iter().filter(|attribute| wanted.binary_search(&attribute.name).is_ok()) {
            let value = thing
                .attribute(attribute.name)
                .map_err(|error| format!("the attribute `{}` could not be had: {}", attribute.name, error.message))?;
            match value {
                Some(value) if schema::fits(&value, attribute.cedar) => {
                    let value = values::value(&value, &mut Vec::new())
                        .ok_or_else(|| format!("the attribute `{}` is no value of the policy language", attribute.name))?;
                    attributes.push((attribute.name.into(), value.into()));
                }
                Some(_) => return Err(format!("the attribute `{}` is not of its type", attribute.name)),
                None if attribute.required => return Err(format!("the attribute `{}` is missing", attribute.name)),
                None => {}
            }
        }
        let mut parents = HashSet::new();
        if ancestors {
            thing.each_ancestor(&mut |kind, id| {
                if all || self.policies.slice.names(kind, id) {
                    parents.extend(values::uid(kind, id));
                }
            });
        }
        let mut objects = Vec::new();
        let context = if time || circumstances {
            let mut session = self.session.clone();
            session.push(("now", Value::Datetime((self.clock)())));
            context(&session, own, &mut objects).ok_or("the circumstances are no values of the policy language")?
        } else {
            self.plain.clone()
        };
        let uid = values::uid(noun.name, thing.id()).ok_or_else(|| format!("`{}` is no entity type", noun.name))?;
        let (action, action_entity) = verb.cedar().ok_or("the action has no name in the policy language")?;
        let resource = Entity::new_with_attr_partial_value(uid.clone(), attributes, HashSet::new(), parents, []);
        let entities = [Arc::clone(&self.principal_entity), Arc::clone(action_entity), Arc::new(resource)]
            .into_iter()
            .chain(objects.into_iter().map(Arc::new));
        let entities = Entities::new()
            .add_entities(entities, None::<&NoEntitiesSchema>, TCComputation::AssumeAlreadyComputed, Extensions::all_available())
            .map_err(|error| error.to_string())?;
        let request = Request::new_unchecked(self.principal.clone(), action.clone(), EntityUIDEntry::known(uid, None), Some(context));
        Ok((request, entities))
    }

    /// Like [`Gate::evaluate`] for a thing that is only named: rules that look at what is not known decide nothing yet.
    pub(super) fn guess(&self, namespace: &str, name: &str, only_forbids: bool, named: &Named<'_>, folder: bool) -> Answer {
        let slice = &self.policies.slice;
        let Some(verb) = slice.verb(namespace, name) else { return Answer::No(Why::NotPermitted) };
        let rules: Vec<(u32, &Rule)> = slice
            .candidates(verb, named)
            .into_iter()
            .filter_map(|index| slice.rule(index).map(|rule| (index, rule)))
            .filter(|(_, rule)| !only_forbids || !rule.permit)
            .collect();
        let unknown_of = |rule: &Rule| {
            let has = |name: &str| named.noun.attributes.iter().any(|attribute| attribute.name == name);
            let known = |name: &str| named.value(name).is_some() || (!folder && !has(name));
            let mut unknown: Vec<String> =
                rule.needs.attributes.iter().filter(|name| !known(name)).map(|name| format!("resource.{name}")).collect();
            if rule.needs.context {
                unknown.push("context".to_owned());
            }
            unknown
        };
        let (known, unknown): (Vec<_>, Vec<_>) = rules.into_iter().partition(|(_, rule)| unknown_of(rule).is_empty());
        let mut tally = Tally::default();
        match self.prepare(verb, named, &[], known.iter().map(|(_, rule)| *rule)) {
            Ok((request, entities)) => {
                let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
                known.iter().for_each(|(index, rule)| tally.count(*index, rule, holds(rule, Some(&evaluator))));
            }
            Err(_) => return Answer::No(Why::PolicyError),
        }
        let sure = tally.verdict(only_forbids, false, |_| false);
        let open = |permit: bool| {
            unknown.iter().filter(|(_, rule)| rule.permit == permit).flat_map(|(_, rule)| unknown_of(rule)).collect::<Vec<_>>()
        };
        match sure.why {
            Some(why @ (Why::Forbidden | Why::PolicyError)) => Answer::No(why),
            None => match open(false) {
                forbids if forbids.is_empty() => Answer::Yes,
                forbids => Answer::Depends(forbids),
            },
            Some(why) => match open(true) {
                permits if permits.is_empty() => Answer::No(why),
                mut permits => {
                    permits.extend(open(false));
                    Answer::Depends(permits)
                }
            },
        }
    }
}

/// Rules by what became of them.
#[derive(Default)]
pub(super) struct Tally {
    permits: Vec<u32>,
    forbids: Vec<u32>,
    errors: Vec<u32>,
    unmet: Vec<u32>,
}

impl Tally {
    pub(super) fn count(&mut self, index: u32, rule: &Rule, holds: Option<bool>) {
        match (holds, rule.permit) {
            (None, _) => self.errors.push(index),
            (Some(true), true) => self.permits.push(index),
            (Some(true), false) => self.forbids.push(index),
            (Some(false), true) => self.unmet.push(index),
            (Some(false), false) => {}
        }
    }

    pub(super) fn verdict(self, only_forbids: bool, lasting: bool, timed: impl Fn(u32) -> bool) -> Verdict {
        let (why, deciders) = if !self.forbids.is_empty() {
            (Some(Why::Forbidden), self.forbids)
        } else if !self.errors.is_empty() {
            (Some(Why::PolicyError), self.errors)
        } else if !self.permits.is_empty() || only_forbids {
            (None, self.permits)
        } else if !self.unmet.is_empty() {
            (Some(Why::ConditionFailed), self.unmet)
        } else {
            (Some(Why::NotPermitted), Vec::new())
        };
        let retry = why.is_some() && deciders.iter().any(|index| timed(*index));
        Verdict { why, told: None, deciders, retry, note: None, lasting }
    }
}

/// Whether the condition of a rule holds. None: it could not be told.
pub(super) fn holds(rule: &Rule, evaluator: Option<&Evaluator<'_>>) -> Option<bool> {
    let Some(condition) = &rule.condition else { return Some(true) };
    let value = evaluator?.interpret(condition, &SlotEnv::new()).ok()?;
    match value.value {
        ValueKind::Lit(Literal::Bool(holds)) => Some(holds),
        _ => None,
    }
}

pub(super) fn refused(why: Why, note: String) -> Verdict {
    Verdict { why: Some(why), told: None, deciders: Vec::new(), retry: false, note: Some(note), lasting: false }
}

pub(super) fn context(session: &[(&'static str, Value)], own: &[(&'static str, Value)], objects: &mut Vec<Entity>) -> Option<Context> {
    let mut pairs = vec![("session", values::record(session, objects)?)];
    for (name, value) in own.iter().filter(|(name, _)| *name != "session") {
        pairs.push((*name, values::value(value, objects)?));
    }
    match cedar_policy_core::ast::Value::record(pairs, None).value {
        ValueKind::Record(record) => Some(Context::Value(record)),
        _ => None,
    }
}
