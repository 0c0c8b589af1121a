//! x
pub const FUNCTIONS: &[super::function::Function] = &[];
