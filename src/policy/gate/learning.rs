//! A learning run of the host's owner: one more permit that takes no forbid away, and what only it allows is noted.

use super::judge::{Full, Verdict};
use super::{DecisionRecord, Gate};
use crate::policy::learn::LEARNING;
use crate::policy::slice::Thing;
use crate::policy::words::Ask;

/// Why the learning rule does not reach this place, if so. Told the ask, the entity type and the id.
pub type Guard = Box<dyn Fn(&Ask, &str, &str) -> Option<&'static str> + Send + Sync>;
/// Told of every decision that the policies alone would have denied, after it was recorded.
pub type Note = Box<dyn Fn(&DecisionRecord<'_>) + Send + Sync>;

/// What a gate that learns needs besides the rules themselves, which are among the policies under names that begin with [`LEARNING`].
pub struct Learning {
    rules: Vec<u32>,
    guard: Guard,
    note: Note,
}

impl Learning {
    #[must_use]
    pub fn new(guard: Guard, note: Note) -> Self {
        Self { rules: Vec::new(), guard, note }
    }
    pub(super) fn note(&self, record: &DecisionRecord<'_>) {
        (self.note)(record);
    }
}

impl Gate {
    /// The same gate, learning.
    #[must_use]
    pub fn learning(mut self, learning: Learning) -> Self {
        let rules =
            (0_u32..).zip(&self.policies.slice.rules).filter(|(_, rule)| rule.name.starts_with(LEARNING)).map(|(index, _)| index).collect();
        self.learning = Some(Learning { rules, ..learning });
        self
    }

    /// Whether the learning rule alone allowed it.
    pub(super) fn learned(&self, full: &Full) -> bool {
        full.verdict.why.is_none() && self.alone(&full.verdict)
    }

    fn alone(&self, verdict: &Verdict) -> bool {
        self.learning.as_ref().is_some_and(|learning| matches!(verdict.deciders.as_slice(), [only] if learning.rules.contains(only)))
    }

    /// Why something that the learning rule alone would allow is denied all the same.
    pub(super) fn not_learned(&self, ask: &Ask, thing: &dyn Thing, verdict: &Verdict) -> Option<String> {
        let learning = self.learning.as_ref().filter(|_| verdict.why.is_none() && self.alone(verdict))?;
        (learning.guard)(ask, thing.noun().name, thing.id()).map(|why| format!("learning does not reach it: {why}"))
    }
}
