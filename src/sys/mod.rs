//! After the gate: what the kernel is made to do. Takes a `Granted` and nothing else; knows no policy; the only `unsafe` of rex.

pub mod attributes;
pub mod clock;
pub mod confine;
pub mod copy;
pub mod decompress;
pub mod dir;
pub mod elf;
pub mod file;
pub mod follow;
pub mod handle;
pub mod inherit;
pub mod journal;
pub mod memory;
pub mod name;
pub mod overflow;
pub mod proc;
pub mod redact;
pub mod search;
pub mod spawn;
pub mod stream;
pub mod supervise;
pub mod systemd;
pub mod text;
pub mod transfer;
pub mod write;
