//! Before the gate: the nouns of the policy language, located, pinned by a handle and described to Cedar. Nothing here reads or changes what it names.

pub mod closed;
pub mod container;
pub mod endpoint;
pub mod file;
pub mod journal;
pub mod machine;
pub mod package;
pub mod path;
pub mod probe;
pub mod process;
pub mod service;
