//! rex: policy-gated script execution over the SSH that is already there. The modules, in the order of one run's flow:

pub mod error;
pub mod sys;
