//! `rex demo`: the whole of it on this machine.

/// Shows it; gives the exit code.
#[must_use]
pub fn run() -> u8 {
    super::say("rex: not yet");
    2
}
