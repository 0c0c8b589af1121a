//! Policies that change while a run goes on: what the set in force now does not permit, the run may not do any more. What it permits beyond the
//! set that the run began with counts for later runs: the kernel's fence was computed from that set.

use super::{Gate, How, Rules};
use crate::error::{Error, Kind, Result};
use crate::policy::load::Policies;
use crate::policy::words::{Action, Site, Value, ask};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock};

/// The gate of the set that is in force now, where that is another one than the run began with.
pub(super) type Successor = RwLock<Option<Arc<Gate>>>;

impl Gate {
    /// Holds the rest of the run to these policies too, in place of those given by an earlier call.
    ///
    /// # Errors
    /// [`Kind::Internal`] when they were loaded for somebody else.
    pub fn narrow(&self, policies: Arc<Policies>) -> Result<()> {
        if policies.scope != self.policies.scope {
            return Err(Error::new(Kind::Internal, "the policies were loaded for another principal"));
        }
        let next = Self {
            policies,
            principal: self.principal.clone(),
            principal_text: self.principal_text.clone(),
            principal_entity: Arc::clone(&self.principal_entity),
            session: self.session.clone(),
            plain: self.plain.clone(),
            run: self.run.clone(),
            recorder: Arc::clone(&self.recorder),
            watch: Arc::clone(&self.watch),
            rules: Rules { closed: Arc::clone(&self.rules.closed), ..self.rules },
            clock: Arc::clone(&self.clock),
            learning: None,
            memory: Mutex::default(),
            hasher: self.hasher.clone(),
            counted: Arc::clone(&self.counted),
            withheld: Arc::clone(&self.withheld),
            successor: Successor::default(),
            has_successor: false.into(),
        };
        let mut successor = self.successor.write().map_err(|_| Error::new(Kind::Internal, "the gate was broken off"))?;
        *successor = Some(Arc::new(next));
        self.has_successor.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Whether what was permitted earlier in the run, and goes on, still is by the set in force now. Only that it is not is recorded.
    ///
    /// # Errors
    /// As [`Gate::permit`].
    pub fn still<A: Action>(&self, site: &Site<'_>, on: &A::On) -> Result<()> {
        self.still_with::<A>(site, on, &[])
    }

    /// The same, for a verb whose question has circumstances.
    ///
    /// # Errors
    /// As [`Gate::still`].
    pub fn still_with<A: Action>(&self, site: &Site<'_>, on: &A::On, context: &[(&'static str, Value)]) -> Result<()> {
        let Some(next) = self.successor() else { return Ok(()) };
        let full = next.recall(&const { ask::<A>() }, A::NEEDS_OPEN, on, context).0;
        if full.verdict.why.is_none() {
            return Ok(());
        }
        next.conclude::<A>(site, on, context, &full, How { remembered: false, record_allowed: true })
    }

    /// The gate of the set in force now, if that is another one.
    pub(super) fn successor(&self) -> Option<Arc<Self>> {
        if !self.has_successor.load(Ordering::SeqCst) {
            return None;
        }
        // A lock that is poisoned is held by nobody; what it guards was whole before and after.
        self.successor.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
