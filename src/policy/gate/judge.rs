//! The answer to a question: which rules are in question, what they need to be told, what they say.

use super::named::{FOLDER, Folder, Named, folder_of};
use super::{Answer, Gate, Open};
use crate::error::Why;
use crate::policy::slice::{Needs, Reveal, Rule, Thing, Verb};
use crate::policy::words::{Ask, Value};
use crate::policy::{schema, values};
use cedar_policy_core::ast::{Context, Entity, EntityUIDEntry, Expr, Literal, Request, SlotEnv, ValueKind};
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
    /// Indices of the rules that decided.
    pub(super) deciders: Vec<u32>,
    /// Of a denial: the rules in question by what became of them, from which follows what the caller is told. Of a thing that could not be looked
    /// at, as if it were there and no rule that looks at it held.
    pub(super) tally: Tally,
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

/// Which policies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    All,
    /// Those that their authors do not hide.
    Shown,
}

impl Gate {
    /// The answer: closed places, the verb itself, and `open` where the verb needs it.
    pub(super) fn judge(&self, ask: &Ask, needs_open: bool, thing: &dyn Thing, context: &[(&'static str, Value)]) -> Full {
        self.judge_by(Of::All, ask, needs_open, thing, context)
    }

    /// The same by a part of the policies: what is told of a denial is what it would be if those that their authors hide were not there.
    pub(super) fn judge_by(&self, of: Of, ask: &Ask, needs_open: bool, thing: &dyn Thing, context: &[(&'static str, Value)]) -> Full {
        if let Some(why) = (self.rules.closed)(ask, thing.noun().name, thing.id()) {
            return Full { verdict: refused(Why::Forbidden, why.to_owned()), instead: None };
        }
        let Some(verb) = self.policies.slice.verb(ask.namespace, ask.name) else {
            return Full { verdict: refused(Why::NotPermitted, "the schema does not know this action".to_owned()), instead: None };
        };
        let mut verdict = self.evaluate(of, verb, thing, context, false);
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
        let itself = self.evaluate(of, open, thing, &[], only_forbids);
        if itself.why.is_some() {
            return Full { verdict: itself, instead: Some((open.text().to_owned(), None)) };
        }
        let mut parts = vec![itself];
        if let Some((above, id)) = folder_of(thing) {
            let folder = Folder { id: &id, above: &above };
            let answer = self.evaluate(of, open, &folder, &[], only_forbids);
            if answer.why.is_some() {
                return Full { verdict: answer, instead: Some((open.text().to_owned(), Some((FOLDER.name.to_owned(), id)))) };
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
    fn evaluate(&self, of: Of, verb: &Verb, thing: &dyn Thing, context: &[(&'static str, Value)], only_forbids: bool) -> Verdict {
        let slice = &self.policies.slice;
        let mut candidates = slice.candidates(verb, thing);
        if only_forbids {
            candidates.retain(|index| slice.rule(*index).is_some_and(|rule| !rule.permit));
        }
        if of == Of::Shown {
            candidates.retain(|index| slice.rule(*index).is_some_and(|rule| rule.reveal != Reveal::None));
        }
        let rules = || candidates.iter().filter_map(|index| slice.rule(*index).map(|rule| (*index, rule)));
        // Whether a rule looks at what only a thing that is there has.
        let looks = |rule: &Rule| {
            let fixed = |name: &String| thing.noun().attributes.iter().all(|attribute| attribute.name != name || attribute.fixed);
            !rule.needs.attributes.iter().all(fixed)
        };
        let lasting = rules().all(|(_, rule)| !rule.needs.time && !rule.needs.context && !looks(rule));
        let prepared = if rules().any(|(_, rule)| rule.condition.is_some()) {
            match self.prepare(verb, thing, context, rules().filter(|(_, rule)| rule.condition.is_some()).map(|(_, rule)| &rule.needs)) {
                Ok(prepared) => Some(prepared),
                Err(note) => {
                    // Something that is missing has no attributes. Who may not look is told what is told of a thing that is there: rules that look
                    // at nothing which only such a thing has are as they are, the others do not hold.
                    let mut tally = Tally::default();
                    let plain = || rules().filter(|(_, rule)| !looks(rule));
                    let prepared = self.prepare(
                        verb,
                        thing,
                        context,
                        plain().filter(|(_, rule)| rule.condition.is_some()).map(|(_, rule)| &rule.needs),
                    );
                    if let Ok((request, entities)) = prepared {
                        let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
                        plain().for_each(|(index, rule)| tally.count(index, rule, false, holds(rule, Some(&evaluator))));
                    }
                    tally.unmet.extend(rules().filter(|(_, rule)| rule.permit && looks(rule)).map(|(index, _)| index));
                    let deciders = rules().filter(|(_, rule)| rule.condition.is_some()).map(|(index, _)| index).collect();
                    return Verdict { why: Some(Why::PolicyError), deciders, tally, note: Some(note), lasting: false };
                }
            }
        } else {
            None
        };
        let mut tally = Tally::default();
        // They are built when they are first needed, which takes longer than a hundred decisions. Only calls of their functions need them.
        let extensions = if rules().any(|(_, rule)| rule.needs.extensions) { Extensions::all_available() } else { Extensions::none() };
        let evaluator = prepared.as_ref().map(|(request, entities)| Evaluator::new(request.clone(), entities, extensions));
        for (index, rule) in rules() {
            tally.count(index, rule, looks(rule), holds(rule, evaluator.as_ref()));
        }
        tally.verdict(only_forbids, lasting)
    }

    /// Everything that the conditions of these rules look at, and nothing else.
    pub(super) fn prepare<'r>(
        &self,
        verb: &Verb,
        thing: &dyn Thing,
        own: &[(&'static str, Value)],
        needs: impl Iterator<Item = &'r Needs>,
    ) -> std::result::Result<(Request, Entities), String> {
        let (mut wanted, mut ancestors, mut all, mut time, mut circumstances) = (Vec::new(), false, false, false, false);
        for needs in needs {
            wanted.extend(needs.attributes.iter().map(String::as_str));
            ancestors |= needs.ancestors;
            all |= needs.all_ancestors;
            time |= needs.time;
            circumstances |= needs.context;
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
            .add_entities(entities, None::<&NoEntitiesSchema>, TCComputation::AssumeAlreadyComputed, Extensions::none())
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
        let has = |name: &str| named.noun.attributes.iter().any(|attribute| attribute.name == name);
        let known = |name: &String| named.value(name).is_some() || (!folder && !has(name));
        let decidable = |rule: &Rule| !rule.needs.context && rule.needs.attributes.iter().all(known);
        let (known, unknown): (Vec<_>, Vec<_>) = rules.into_iter().partition(|(_, rule)| decidable(rule));
        let mut tally = Tally::default();
        match self.prepare(verb, named, &[], known.iter().filter(|(_, rule)| rule.condition.is_some()).map(|(_, rule)| &rule.needs)) {
            Ok((request, entities)) => {
                let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
                known.iter().for_each(|(index, rule)| tally.count(*index, rule, false, holds(rule, Some(&evaluator))));
            }
            Err(_) => return Answer::No(Why::PolicyError),
        }
        let sure = tally.verdict(only_forbids, false);
        let open =
            |permit: bool| unknown.iter().filter(|(_, rule)| rule.permit == permit).flat_map(|(_, rule)| rule.when()).collect::<Vec<_>>();
        match sure.why {
            Some(why @ (Why::Forbidden | Why::PolicyError)) => Answer::No(why),
            None => {
                let mut on = open(false);
                // A permit that fails denies, whatever another one permits.
                on.extend(unknown.iter().filter(|(_, rule)| rule.permit && rule.may_fail()).flat_map(|(_, rule)| rule.when()));
                if on.is_empty() { Answer::Yes } else { Answer::Depends(on) }
            }
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
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) permits: Vec<u32>,
    pub(super) forbids: Vec<u32>,
    /// Forbids that apply and look at what only a thing that is there has.
    pub(super) looking: Vec<u32>,
    pub(super) errors: Vec<u32>,
    pub(super) unmet: Vec<u32>,
}

impl Tally {
    pub(super) fn count(&mut self, index: u32, rule: &Rule, looks: bool, holds: Option<bool>) {
        match (holds, rule.permit) {
            (None, _) => self.errors.push(index),
            (Some(true), true) => self.permits.push(index),
            (Some(true), false) if looks => self.looking.push(index),
            (Some(true), false) => self.forbids.push(index),
            (Some(false), true) => self.unmet.push(index),
            (Some(false), false) => {}
        }
    }

    pub(super) fn verdict(self, only_forbids: bool, lasting: bool) -> Verdict {
        let verdict = |why, deciders, tally| Verdict { why, deciders, tally, note: None, lasting };
        let forbids = || {
            let mut forbids = [self.forbids.as_slice(), self.looking.as_slice()].concat();
            forbids.sort_unstable();
            forbids
        };
        if !self.forbids.is_empty() || !self.looking.is_empty() {
            verdict(Some(Why::Forbidden), forbids(), self)
        } else if !self.errors.is_empty() {
            verdict(Some(Why::PolicyError), self.errors.clone(), self)
        } else if !self.permits.is_empty() || only_forbids {
            verdict(None, self.permits, Self::default())
        } else if !self.unmet.is_empty() {
            verdict(Some(Why::ConditionFailed), self.unmet.clone(), self)
        } else {
            verdict(Some(Why::NotPermitted), Vec::new(), self)
        }
    }
}

/// Whether the condition of a rule holds. None: it could not be told.
pub(super) fn holds(rule: &Rule, evaluator: Option<&Evaluator<'_>>) -> Option<bool> {
    let Some(condition) = &rule.condition else { return Some(true) };
    truth(condition, evaluator?)
}

/// What an expression comes to, if it can be told and is a truth value.
pub(super) fn truth(expression: &Expr, evaluator: &Evaluator<'_>) -> Option<bool> {
    let value = evaluator.interpret(expression, &SlotEnv::new()).ok()?;
    match value.value {
        ValueKind::Lit(Literal::Bool(holds)) => Some(holds),
        _ => None,
    }
}

pub(super) fn refused(why: Why, note: String) -> Verdict {
    Verdict { why: Some(why), deciders: Vec::new(), tally: Tally::default(), note: Some(note), lasting: false }
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
