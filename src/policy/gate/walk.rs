//! Walks over many things: each is asked for, denials are recorded one by one, the rest as counts.

use super::{Gate, Granted, WalkRecord, undeclared, unrecorded};
use crate::error::{Error, Kind, Result};
use crate::policy::values;
use crate::policy::words::{Action, Site, Value, ask};
use std::collections::HashSet;
use std::marker::PhantomData;
use std::sync::Mutex;

/// A walk over many things, see [`Gate::walk`].
pub struct Walk<'g, A: Action> {
    pub(super) gate: &'g Gate,
    pub(super) site: Site<'g>,
    pub(super) root: (&'static str, String),
    pub(super) state: Mutex<WalkState>,
    pub(super) finished: bool,
    pub(super) verb: PhantomData<fn() -> A>,
}

/// What a walk may do with one thing.
pub enum Weighed<A: Action> {
    Granted(Granted<A>),
    /// The thing itself, which is left as it is.
    Denied(A::On),
}

#[derive(Default)]
pub(super) struct WalkState {
    /// By verb (namespace and name): allowed and denied.
    counts: Vec<((&'static str, &'static str), u64, u64)>,
    policies: HashSet<u32>,
}

impl<A: Action> std::fmt::Debug for Walk<'_, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Walk<{}::{}>({:?})", A::NAMESPACE, A::NAME, self.root.1)
    }
}

impl<A: Action> Walk<'_, A> {
    /// # Errors
    /// As [`Gate::permit`].
    pub fn permit(&self, on: A::On) -> Result<Granted<A>> {
        self.permit_as::<A>(on)
    }

    /// The same for another verb on the way, e.g. `stat` on each entry of the directories read.
    ///
    /// # Errors
    /// As [`Gate::permit`].
    pub fn permit_as<B: Action>(&self, on: B::On) -> Result<Granted<B>> {
        self.permit_with::<B>(on, &[])
    }

    /// The same for a verb whose question has circumstances.
    ///
    /// # Errors
    /// As [`Gate::permit`].
    pub fn permit_with<B: Action>(&self, on: B::On, context: &[(&'static str, Value)]) -> Result<Granted<B>> {
        self.answer::<B>(&on, context)?;
        Ok(Granted { resource: on, verb: PhantomData })
    }

    /// The same, but what is denied comes back. With `on_record` the denial is recorded as always; without it nothing is: for what a walk shows
    /// less of where more is not permitted.
    ///
    /// # Errors
    /// As [`Gate::permit`], but for the denial.
    pub fn weigh<B: Action>(&self, on: B::On, on_record: bool) -> Result<Weighed<B>> {
        self.gate.watch.check()?;
        let ask = &const { ask::<B>() };
        // A walk comes by each thing once, so the answer is not remembered.
        let full = undeclared(&self.site, ask).unwrap_or_else(|| self.gate.judge(ask, B::NEEDS_OPEN, &on, &[]));
        // What a walk can do without is not learned.
        if !on_record && (full.verdict.why.is_some() || self.gate.learned(&full)) {
            return Ok(Weighed::Denied(on));
        }
        let answer = self.gate.conclude::<B>(&self.site, &on, &full, &[], false, false);
        self.count::<B>(answer.as_ref().map(|()| full.verdict.deciders.as_slice()));
        match answer {
            Ok(()) => Ok(Weighed::Granted(Granted { resource: on, verb: PhantomData })),
            Err(error) if error.kind == Kind::Denied => Ok(Weighed::Denied(on)),
            Err(error) => Err(error),
        }
    }

    fn answer<B: Action>(&self, on: &B::On, context: &[(&'static str, Value)]) -> Result<()> {
        let answer = self.gate.decide::<B>(&self.site, on, context, false);
        self.count::<B>(answer.as_ref().map(Vec::as_slice));
        answer.map(drop)
    }

    fn count<B: Action>(&self, answer: std::result::Result<&[u32], &Error>) {
        let Ok(mut state) = self.state.lock() else { return };
        let verb = (B::NAMESPACE, B::NAME);
        let at = state.counts.iter().position(|(known, ..)| *known == verb).unwrap_or_else(|| {
            state.counts.push((verb, 0, 0));
            state.counts.len() - 1
        });
        let denied = answer.is_err_and(|error| error.kind == Kind::Denied);
        if let Some((_, allowed, denials)) = state.counts.get_mut(at) {
            if denied { *denials += 1 } else { *allowed += 1 }
        }
        for rule in answer.unwrap_or_default() {
            if !state.policies.contains(rule) {
                state.policies.insert(*rule);
            }
        }
    }

    /// Records what the walk did.
    ///
    /// # Errors
    /// [`Kind::Audit`] when that is not possible.
    pub fn finish(mut self) -> Result<()> {
        self.summarize()
    }

    fn summarize(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        let Ok(state) = self.state.lock() else { return Err(Error::new(Kind::Internal, "a walk was broken off")) };
        let mut rules: Vec<u32> = state.policies.iter().copied().collect();
        rules.sort_unstable();
        let counts: Vec<(String, u64, u64)> = state
            .counts
            .iter()
            .map(|((namespace, name), allowed, denied)| (values::written(&format!("{namespace}::Action"), name), *allowed, *denied))
            .collect();
        let record = WalkRecord {
            principal: &self.gate.principal_text,
            action: &values::written(&format!("{}::Action", A::NAMESPACE), A::NAME),
            root: (self.root.0, &self.root.1),
            counts: &counts,
            policies: self.gate.names(&rules),
            function: self.site.function,
            line: self.site.line,
            column: self.site.column,
        };
        self.gate.recorder.walk(&record).map_err(unrecorded)
    }
}

impl<A: Action> Drop for Walk<'_, A> {
    fn drop(&mut self) {
        // A walk that ends early is recorded too; that its record fails stops the next decision, whose record will fail as well.
        let _ = self.summarize();
    }
}
