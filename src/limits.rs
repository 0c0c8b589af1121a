//! The limits of a run, as plain numbers: what a run may use before it is ended.

use std::time::Duration;

/// What one run may use. Reaching one ends the run with exit 124 (`wall`) or 125 (the others); defaults are in [`crate::config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time from the start of the session to its end, waiting for the script included.
    pub wall: Duration,
    /// Processor time of the run, its children not counted.
    pub cpu: Duration,
    /// Bytes of memory that the run may hold.
    pub memory: u64,
    /// Bytes of output, standard output and error together.
    pub output: u64,
    /// Bytes of the script's text.
    pub script: u64,
    /// Steps of the script engine.
    pub operations: u64,
    /// Function calls inside one another.
    pub depth: u32,
    /// Files that are open at once.
    pub open_files: u32,
    /// Child processes that live at once.
    pub children: u32,
}
