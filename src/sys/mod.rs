//! After the gate: what the kernel is made to do. The only place of `unsafe`; knows no policy.

pub mod decompress;
pub mod proc;
pub mod search;
pub mod stream;
pub mod text;
