//! Walks over many things: each is asked for, denials are recorded one by one, the rest as counts.

use super::{Gate, Granted, WalkRecord, unrecorded};
use crate::error::{Error, Kind, Result};
use crate::policy::values;
use crate::policy::words::{Action, Site, Value};
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

#[derive(Default)]
pub(super) struct WalkState {
    counts: Vec<(String, u64, u64)>,
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
        let answer = self.gate.decide::<B>(&self.site, &on, context, false);
        if let Ok(mut state) = self.state.lock() {
            let text = values::written(&format!("{}::Action", B::NAMESPACE), B::NAME);
            let at = state.counts.iter().position(|(known, ..)| *known == text).unwrap_or_else(|| {
                state.counts.push((text, 0, 0));
                state.counts.len() - 1
            });
            let denied = answer.as_ref().is_err_and(|error| error.kind == Kind::Denied);
            if let Some((_, allowed, denials)) = state.counts.get_mut(at) {
                if denied { *denials += 1 } else { *allowed += 1 }
            }
            if let Ok(rules) = &answer {
                state.policies.extend(rules);
            }
        }
        answer?;
        Ok(Granted { resource: on, verb: PhantomData })
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
        let record = WalkRecord {
            principal: &self.gate.principal_text,
            action: &values::written(&format!("{}::Action", A::NAMESPACE), A::NAME),
            root: (self.root.0, &self.root.1),
            counts: &state.counts,
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
