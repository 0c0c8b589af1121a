//! What can be said of a question before one of its attributes is known: a name is not looked up for a question that is denied whatever it leads to,
//! since to look a name up is to tell somebody of it.

use super::Gate;
use super::judge::{Tally, holds};
use crate::error::Why;
use crate::policy::words::{Action, Value, ask};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use std::marker::PhantomData;

/// How a question stands that lacks an attribute.
pub enum Prospect<'a, A: Action> {
    /// The attribute has no say: the answer is what it is.
    Settled,
    /// It depends on the attribute. Whoever holds this may find it out.
    Open(Foreseen<'a, A>),
}

/// Leave to find out what a question depends on, before it is asked.
pub struct Foreseen<'a, A: Action> {
    on: &'a A::On,
    verb: PhantomData<fn() -> A>,
}

impl<A: Action> Foreseen<'_, A> {
    #[must_use]
    pub fn on(&self) -> &A::On {
        self.on
    }
}

impl Gate {
    /// Whether the answer to this question depends on the attribute `unknown`, which is not known yet. Nothing is recorded: the question is to be
    /// asked in either case.
    pub fn foresee<'a, A: Action>(&self, on: &'a A::On, context: &[(&'static str, Value)], unknown: &str) -> Prospect<'a, A> {
        let open = self.depends::<A>(on, context, unknown) || self.successor().is_some_and(|next| next.depends::<A>(on, context, unknown));
        if open { Prospect::Open(Foreseen { on, verb: PhantomData }) } else { Prospect::Settled }
    }

    fn depends<A: Action>(&self, on: &A::On, context: &[(&'static str, Value)], unknown: &str) -> bool {
        let ask = &const { ask::<A>() };
        let slice = &self.policies.slice;
        let Some(verb) = slice.verb(ask.namespace, ask.name) else { return false };
        let rules = slice.candidates(verb, on).into_iter().filter_map(|index| slice.rule(index).map(|rule| (index, rule)));
        let (looking, known): (Vec<_>, Vec<_>) = rules.partition(|(_, rule)| rule.needs.attributes.iter().any(|name| name == unknown));
        if looking.is_empty() {
            return false;
        }
        let needs = known.iter().filter(|(_, rule)| rule.condition.is_some()).map(|(_, rule)| &rule.needs);
        let Ok((request, entities)) = self.prepare(verb, on, context, needs) else { return false };
        let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
        let mut tally = Tally::default();
        known.iter().for_each(|(index, rule)| tally.count(*index, rule, false, holds(rule, Some(&evaluator))));
        match tally.verdict(false, false).why {
            // Nothing takes these back.
            Some(Why::Forbidden | Why::PolicyError) => false,
            None => true,
            Some(Why::NotPermitted | Why::ConditionFailed) => looking.iter().any(|(_, rule)| rule.permit),
        }
    }
}
