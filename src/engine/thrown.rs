//! Errors on their way through a script: the map that the script can catch, and the original that the map's tag leads back to.

use crate::error::{Error, Kind};
use crate::functions::value::{Dynamic, IntoScript, Map, record};
use crate::limits::Watch;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Originals kept; a script that catches more than this and rethrows an ancient one gets the class of its own throw.
const KEPT: usize = 1024;

/// The errors of a run that went into the script.
pub struct Thrown {
    state: Mutex<State>,
    /// Told when `fatal` or `exit` is set: one load for every step of the engine, and the script's other threads end.
    watch: Arc<Watch>,
}

#[derive(Default)]
struct State {
    /// Number of the first one kept; numbers begin with 1 since 0 is what every other value has.
    first: i32,
    kept: VecDeque<Error>,
    fatal: Option<Error>,
    exit: Option<u8>,
}

impl Thrown {
    pub fn new(watch: Arc<Watch>) -> Self {
        Self { state: Mutex::default(), watch }
    }
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
    /// The value to throw for an error: a map whose tag, which scripts can neither see nor set, names the original.
    pub fn throw(&self, error: Error, at: (u32, u32)) -> Dynamic {
        let mut value = Dynamic::from_map(as_map(&error, at));
        let mut state = self.state();
        if state.kept.len() == KEPT {
            state.kept.pop_front();
            state.first += 1;
        }
        state.kept.push_back(error);
        let number = state.first.saturating_add(i32::try_from(state.kept.len()).unwrap_or(i32::MAX));
        value.set_tag(number);
        value
    }
    /// The error that a thrown value came from, if it came from one.
    pub fn original(&self, value: &Dynamic) -> Option<Error> {
        let state = self.state();
        let at = value.tag().checked_sub(1)?.checked_sub(state.first)?;
        state.kept.get(usize::try_from(at).ok()?).cloned()
    }
    /// Remembers an error that no script may catch, unless the script has ended already.
    pub fn set_fatal(&self, error: Error) {
        let mut state = self.state();
        if self.watch.end() {
            state.fatal = Some(error);
        }
    }
    pub fn fatal(&self) -> Option<Error> {
        self.state().fatal.clone()
    }
    pub fn set_exit(&self, code: u8) {
        let mut state = self.state();
        if self.watch.end() {
            state.exit = Some(code);
        }
    }
    /// Whether the script has ended, whatever swallows the error that says so: `sort` takes no notice of errors of its closure.
    pub fn ended(&self) -> bool {
        self.watch.ended()
    }
    pub fn exit(&self) -> Option<u8> {
        self.state().exit
    }
}

/// Whether an error ends the run whatever the script does.
pub fn is_fatal(kind: Kind) -> bool {
    matches!(kind, Kind::Deadline | Kind::Limit | Kind::Cancelled | Kind::Audit | Kind::Layer)
}

/// The map that scripts catch.
fn as_map(error: &Error, at: (u32, u32)) -> Map {
    let mut map = Map::new();
    let mut set = |key: &str, value: Dynamic| {
        map.insert(key.into(), value);
    };
    set("kind", error.kind.name().into_script());
    set("message", error.message.clone().into_script());
    if at.0 > 0 {
        let place = record([("line", at.0.into_script()), ("column", at.1.into_script())]);
        set("at", place.into_script());
    }
    if let Some(path) = &error.path {
        set("path", path.clone().into_script());
    }
    if let Some(errno) = error.errno {
        set("errno", errno.into_script());
    }
    if let Some(hint) = error.hint.as_ref().filter(|hint| !hint.is_empty()) {
        set("hint", hint.clone().into_script());
    }
    if let Some(denial) = &error.denial {
        set("class", error.kind.class().name().into_script());
        set("why", denial.why.name().into_script());
        set("action", denial.action.clone().into_script());
        set("resource", denial.resource.clone().into_script());
        set("principal", denial.principal.clone().into_script());
        set("retry", denial.retry.into_script());
        set("ref", denial.reference.clone().into_script());
        if let Some(policy) = &denial.policy {
            set("policy", policy.clone().into_script());
        }
        if let Some(nearest) = &denial.nearest {
            let unmet = |unmet: &crate::error::Unmet| {
                record([("condition", unmet.condition.clone().into_script()), ("at", unmet.at.clone().into_script())]).into_script()
            };
            let unmet: Vec<Dynamic> = nearest.unmet.iter().map(unmet).collect();
            set("nearest", record([("policy", nearest.policy.clone().into_script()), ("unmet", unmet.into_script())]).into_script());
        }
    }
    map
}
