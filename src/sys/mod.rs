//! After the gate: what the kernel is made to do. Takes a `Granted` and nothing else; knows no policy; the only `unsafe` of rex.

pub mod clock;
pub mod confine;
pub mod dir;
pub mod file;
pub mod handle;
pub mod inherit;
pub mod memory;
pub mod spawn;
pub mod supervise;
pub mod write;
