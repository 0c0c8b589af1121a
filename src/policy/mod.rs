//! What is allowed: the owner's Cedar policies, loaded and strictly validated, and the gate that asks them. The only module that knows Cedar.

mod arguments;
mod bounds;
mod cache;
pub mod compare;
pub mod format;
mod gate;
mod hull;
mod kinds;
mod launchers;
pub mod learn;
pub mod lint;
mod load;
mod pattern;
mod pointed;
mod possible;
mod recorded;
pub mod reference;
mod replay;
pub mod schema;
mod shape;
mod slice;
pub mod suite;
pub mod url;
mod values;
mod wording;
mod words;

pub use arguments::{Arguments, environment};
pub use cache::Store;
#[cfg(test)]
pub(crate) use gate::Silent;
pub use gate::{
    Answer, Closed, Considered, DecisionRecord, Described, Effect, EffectRecord, Explanation, Fate, Foreseen, Gate, Granted, Learning,
    Open, Principal, Prospect, Recorder, Replayed, Rules, Session, Walk, WalkRecord, Weighed, Withheld, stopped,
};
pub use hull::Bound;
pub use load::{Policies, Scope, Source, Whole};
pub use pointed::pointed;
pub use recorded::{Asked, Caller, Told, action, entity, incomplete, told_environment, told_values};
pub use replay::{ClosedTo, Replay};
pub use slice::{Line, Part, Reach};
pub use words::{Access, Action, Ask, Attribute, Noun, Object, Resource, Site, Value, ask};
