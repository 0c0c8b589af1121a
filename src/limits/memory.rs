//! The memory limit: what the script's thread holds is counted, it says so when that is too much, and it is parked before it can take the machine.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Above this the run is told to end at its next check; 0 is no limit.
static SOFT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Above this the script's thread is parked where it stands, since it does not look.
static HARD: AtomicUsize = AtomicUsize::new(usize::MAX);
static OVER: AtomicBool = AtomicBool::new(false);
static PARKED: AtomicBool = AtomicBool::new(false);
/// An eventfd that wakes the supervisor.
static WAKE: OnceLock<OwnedFd> = OnceLock::new();

/// How far a single step may go past the limit before the thread is parked.
const MARGIN: usize = 32 << 20;

thread_local! {
    /// Whether this thread runs script code; only such a thread is held to the limit.
    static LIMITED: Cell<bool> = const { Cell::new(false) };
}

/// Counts `size` more bytes; parks a script's thread that has gone too far. For the allocator alone: it may not allocate.
pub fn grow(size: usize) {
    let used = USED.fetch_add(size, Ordering::Relaxed).saturating_add(size);
    PEAK.fetch_max(used, Ordering::Relaxed);
    if used > SOFT.load(Ordering::Relaxed) && LIMITED.try_with(Cell::get).unwrap_or(false) {
        OVER.store(true, Ordering::Relaxed);
        if used > HARD.load(Ordering::Relaxed) {
            park();
        }
    }
}

/// Counts `size` bytes that were given back.
pub fn shrink(size: usize) {
    USED.fetch_sub(size, Ordering::Relaxed);
}

/// Unwinding out of an allocator is not allowed and aborting would lose the report, so the thread waits here for the supervisor to end the process.
#[cold]
fn park() {
    PARKED.store(true, Ordering::SeqCst);
    if let Some(wake) = WAKE.get() {
        // Neither OnceLock::get nor rustix::io::write allocates or locks.
        let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
    }
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// Sets the limit, in bytes beyond what is in use now, and the eventfd that wakes the supervisor when a thread had to be parked.
pub fn limit(bytes: u64, wake: OwnedFd) {
    let base = USED.load(Ordering::Relaxed);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    // The first stays: there is one run in a process.
    let _ = WAKE.set(wake);
    SOFT.store(base.saturating_add(bytes), Ordering::SeqCst);
    HARD.store(base.saturating_add(bytes).saturating_add(MARGIN.min(bytes)), Ordering::SeqCst);
}

/// Holds the calling thread to the limit.
pub fn limit_this_thread() {
    LIMITED.with(|limited| limited.set(true));
}

/// Whether the limit is exceeded.
#[must_use]
pub fn over_limit() -> bool {
    OVER.load(Ordering::Relaxed)
}

/// Whether a thread was parked by the limit.
#[must_use]
pub fn parked() -> bool {
    PARKED.load(Ordering::SeqCst)
}

/// Bytes in use at the highest point.
#[must_use]
pub fn peak() -> u64 {
    PEAK.load(Ordering::Relaxed) as u64
}

/// Until dropped, the calling thread is not held to the limit: for short work under a lock that the supervisor needs too.
#[must_use]
pub fn exempt() -> Exempt {
    Exempt { was: LIMITED.try_with(|limited| limited.replace(false)).unwrap_or(false) }
}

/// See [`exempt`].
pub struct Exempt {
    was: bool,
}

impl Drop for Exempt {
    fn drop(&mut self) {
        let was = self.was;
        let _ = LIMITED.try_with(|limited| limited.set(was));
    }
}
