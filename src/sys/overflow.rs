//! The end of the script's stack: values that nest too deep end the run with a report, where the runtime would abort the process.
#![expect(unsafe_code, reason = "signal handlers and the fault's address are in no safe crate of the graph")]

use crate::error::{Error, Result};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An address near the top of the script's stack, and the size of that.
static TOP: AtomicUsize = AtomicUsize::new(0);
static SIZE: AtomicUsize = AtomicUsize::new(0);
/// What was done about faults before: the runtime's own handler.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// How far beyond the stack a fault may be and still come of it: guard pages, and a frame that is probed from its far end.
const BEYOND: usize = 1 << 20;

/// Makes an overflow of the calling thread's stack, of this size, the end of the run. The runtime has given the thread a stack for signals.
///
/// # Errors
/// What sigaction(2) reports.
pub fn watch_this_thread(size: usize) -> Result<()> {
    let here = 0u8;
    TOP.store(std::ptr::from_ref(&here) as usize, Ordering::SeqCst);
    SIZE.store(size, Ordering::SeqCst);
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

/// Whether a fault at this address is the script's stack at its end.
fn is_overflow(address: usize, top: usize, size: usize) -> bool {
    top != 0 && address < top && top - address < size.saturating_add(BEYOND)
}

extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid siginfo, and for SIGSEGV it has the address (sigaction(2)).
    let address = unsafe { (*info).si_addr() } as usize;
    if crate::limits::is_limited() && is_overflow(address, TOP.load(Ordering::SeqCst), SIZE.load(Ordering::SeqCst)) {
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
