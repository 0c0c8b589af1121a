//! What is allowed: the owner's Cedar policies, loaded and strictly validated, and the gate that asks them. The only module that knows Cedar.

mod bounds;
mod cache;
pub mod format;
mod gate;
mod hull;
mod launchers;
pub mod lint;
mod load;
mod pattern;
mod pointed;
mod possible;
pub mod reference;
pub mod schema;
mod shape;
mod slice;
mod values;
mod words;

pub use cache::Store;
pub use gate::{
    Answer, Closed, DecisionRecord, Effect, EffectRecord, Gate, Granted, Open, Principal, Recorder, Rules, Session, Walk, WalkRecord,
    Weighed,
};
pub use hull::Bound;
pub use load::{Policies, Scope, Source};
pub use pointed::pointed;
pub use slice::{Line, Reach};
pub use words::{Access, Action, Ask, Attribute, Noun, Object, Resource, Site, Value, ask};
