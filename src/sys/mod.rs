//! After the gate: what the kernel is made to do. Takes a `Granted` and nothing else; knows no policy; the only `unsafe` of rex.

pub mod clock;
pub mod confine;
pub mod decompress;
pub mod dir;
pub mod file;
pub mod handle;
pub mod inherit;
pub mod journal;
pub mod memory;
pub mod overflow;
pub mod proc;
pub mod random;
pub mod search;
pub mod spawn;
pub mod stream;
pub mod supervise;
pub mod systemd;
pub mod text;
pub mod write;
