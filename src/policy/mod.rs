//! What is allowed: the owner's Cedar policies, loaded and strictly validated, and the gate that asks them. The only module that knows Cedar.

mod bounds;
mod cache;
mod gate;
mod hull;
mod launchers;
mod load;
mod pointed;
pub mod reference;
pub mod schema;
mod slice;
mod values;
mod words;

pub use cache::Store;
pub use gate::{
    Answer, Closed, Considered, DecisionRecord, Described, Effect, EffectRecord, Explanation, Fate, Gate, Granted, Open, Principal,
    Recorder, Rules, Session, Walk, WalkRecord, Weighed, Withheld, stopped,
};
pub use hull::Bound;
pub use load::{Policies, Scope, Source};
pub use pointed::pointed;
pub use slice::{Line, Part, Reach};
pub use words::{Access, Action, Ask, Attribute, Noun, Object, Resource, Site, Value, ask};
