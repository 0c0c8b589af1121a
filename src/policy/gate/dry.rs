//! A dry run: what changes something is judged and recorded as always, and then withheld. The kernel's fence knows none of these verbs either, so
//! that what forgot to look here is refused there.

use super::{Effect, Gate, Granted};
use crate::error::{Error, Kind, Result};
use crate::policy::values;
use crate::policy::words::{Action, Resource, Site};
use std::sync::{Mutex, PoisonError};

/// Changes that a dry run lists; further ones are counted.
const KEPT: usize = 1000;
/// Bytes of differences that a dry run keeps in all.
const DIFFS: usize = 1 << 20;

/// A change that was allowed and not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    pub function: String,
    /// From 1; 0 when unknown.
    pub line: u32,
    pub column: u32,
    /// Cedar notation.
    pub action: String,
    /// Cedar notation, in the spelling of the script.
    pub resource: String,
    /// What the verb does not tell, in words of rex.
    pub detail: String,
    /// A unified difference, where a file's text would change.
    pub diff: Option<String>,
}

/// What a dry run has withheld so far.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    list: Vec<Withheld>,
    count: u64,
    diffs: usize,
}

impl<A: Action> Granted<A> {
    /// Whether this is a dry run and the deed would change something: it must not be done.
    #[must_use]
    pub fn held(&self) -> bool {
        self.held
    }
    /// That the deed may be done: for what the kernel cannot withhold, since it is another process that does it.
    ///
    /// # Errors
    /// [`Kind::DryRun`] where it may not.
    pub fn to_be_done(&self) -> Result<()> {
        if self.held { Err(stopped(self)) } else { Ok(()) }
    }
}

impl Gate {
    /// Whether nothing may be changed in this run.
    #[must_use]
    pub fn dry_run(&self) -> bool {
        self.rules.dry_run
    }

    /// Records that an allowed change was not made, and the difference that it would make.
    ///
    /// # Errors
    /// [`Kind::Audit`] when it could not be recorded.
    pub fn withhold<A: Action>(&self, site: &Site<'_>, granted: &Granted<A>, detail: &str, diff: Option<&str>) -> Result<()> {
        self.effect::<A>(site, granted, Effect { failed: Some(Kind::DryRun), detail, ..Effect::default() })?;
        let on = granted.resource();
        let mut kept = self.withheld.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.count += 1;
        if kept.list.len() < KEPT {
            let diff = diff.filter(|diff| kept.diffs.saturating_add(diff.len()) <= DIFFS).map(str::to_owned);
            kept.diffs += diff.as_ref().map_or(0, String::len);
            kept.list.push(Withheld {
                function: site.function.to_owned(),
                line: site.line,
                column: site.column,
                action: values::written(&format!("{}::Action", A::NAMESPACE), A::NAME),
                resource: values::written(on.shown_as(), &on.shown()),
                detail: detail.to_owned(),
                diff,
            });
        }
        Ok(())
    }

    /// What was withheld so far, at most 1000 of it, and how much it was in all.
    #[must_use]
    pub fn withheld(&self) -> (Vec<Withheld>, u64) {
        let kept = self.withheld.0.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.list.clone(), kept.count)
    }
}

/// The end of a call that would change something.
#[must_use]
pub fn stopped<A: Action>(granted: &Granted<A>) -> Error {
    Error::new(Kind::DryRun, "a dry run changes nothing").with_path(Resource::shown(granted.resource()).into_owned())
}
