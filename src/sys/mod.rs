//! After the gate: what the kernel is made to do. The only place of `unsafe`; knows no policy.

pub mod spawn;
