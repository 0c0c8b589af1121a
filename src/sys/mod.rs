//! After the gate: what the kernel and the system's services are made to do; knows no policy.

pub mod journal;
