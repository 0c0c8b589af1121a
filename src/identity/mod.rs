//! Who asks.

pub mod handover;
