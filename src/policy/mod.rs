//! What is allowed: the owner's Cedar policies, loaded and strictly validated, and the gate that asks them. The only module that knows Cedar.

mod arguments;
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
pub mod suite;
mod values;
mod words;

pub use arguments::{Arguments, environment};
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
