//! The end of a stack of the script: values that nest too deep end the run with a report, where the runtime would abort the process.
#![expect(unsafe_code, reason = "signal handlers and the fault's address are in no safe crate of the graph")]

use crate::error::{Error, Result};
use std::cell::Cell;
use std::sync::OnceLock;

/// What is known of a thread's stack.
#[derive(Clone, Copy, Default)]
struct Stack {
    /// An address near its top; 0 where the thread is none of the script's.
    top: usize,
    size: usize,
    /// How much of it counts as memory in use: nothing on the script's own thread, whose stack every run has.
    counted: Option<usize>,
}

thread_local! {
    /// Plain numbers without a destructor: a handler may read them.
    static THIS: Cell<Stack> = const { Cell::new(Stack { top: 0, size: 0, counted: None }) };
}

/// What was done about faults before: the runtime's own handler.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// How far beyond the stack a fault may be and still come of it: guard pages, and a frame that is probed from its far end.
const BEYOND: usize = 1 << 20;

/// Makes an overflow of the calling thread's stack, of this size, the end of the run. The runtime has given the thread a stack for signals.
///
/// # Errors
/// What sigaction(2) reports.
pub fn watch_this_thread(size: usize) -> Result<()> {
    THIS.set(Stack { top: here(), size, counted: None });
    if BEFORE.get().is_some() {
        return Ok(());
    }
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
    // SAFETY: all zeros is a valid sigaction: no handler, an empty mask, no flags.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    let mut before = now;
    now.sa_sigaction = handler as usize;
    now.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY: both point to live locals; the handler calls nothing that is unsafe in a handler (signal-safety(7)).
    if unsafe { libc::sigaction(libc::SIGSEGV, &raw const now, &raw mut before) } != 0 {
        return Err(Error::from(std::io::Error::last_os_error()));
    }
    let _ = BEFORE.set(before);
    Ok(())
}

/// An address in the frame of a fn that is called now.
#[inline(never)]
fn here() -> usize {
    let here = 0u8;
    std::ptr::from_ref(std::hint::black_box(&here)) as usize
}

/// The same for a branch of the script, once the script's own thread is watched. What it uses of its stack counts as memory from then on.
pub(super) fn watch_this_branch(size: usize) {
    THIS.set(Stack { top: here(), size, counted: Some(0) });
}

/// How much more of its stack a branch uses before that is counted.
const STEP: usize = 64 << 10;

/// Counts what a branch uses of its stack, at its deepest; asked at every step of the engine.
pub fn count_stack() {
    let mut stack = THIS.get();
    if let Some(counted) = stack.counted {
        let used = stack.top.saturating_sub(here());
        if used > counted + STEP {
            stack.counted = Some(used);
            THIS.set(stack);
            super::memory::count(used - counted);
        }
    }
}

/// Before the thread of a branch ends.
pub(super) fn forget_this_branch() {
    super::memory::uncount(THIS.take().counted.unwrap_or(0));
}

/// Whether a fault at this address is the script's stack at its end.
fn is_overflow(address: usize, top: usize, size: usize) -> bool {
    top != 0 && address < top && top - address < size.saturating_add(BEYOND)
}

extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid siginfo, and for SIGSEGV it has the address (sigaction(2)).
    let address = unsafe { (*info).si_addr() } as usize;
    let stack = THIS.try_with(Cell::get).unwrap_or_default();
    if crate::limits::is_limited() && is_overflow(address, stack.top, stack.size) {
        // The thread may hold what the report needs; then the process ends without one, but it ends.
        // SAFETY: alarm(2) takes no pointers and may be called in a handler.
        unsafe { libc::alarm(5) };
        super::memory::park_at_the_end_of_the_stack();
    }
    if let Some(before) = BEFORE.get() {
        // SAFETY: a sigaction that was in force; the instruction then faults again, under it.
        unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_at_the_far_end_of_the_stack_are_overflows() {
        let (top, size) = (1 << 40, 64 << 20);
        assert!(is_overflow(top - size - 8, top, size) && is_overflow(top - size - 4096, top, size));
        for elsewhere in [0, 8, top, top + 1, top - size - BEYOND] {
            assert!(!is_overflow(elsewhere, top, size), "{elsewhere}");
        }
        assert!(!is_overflow(8, 0, size));
    }
}
