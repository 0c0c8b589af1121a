//! The memory limit: an allocator that counts what the script's thread holds, says so when it is too much, and parks that thread before it can take the machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

/// Counts every allocation of the process.
pub struct Counting;

/// What was in use when the limit was set.
static BASE: AtomicUsize = AtomicUsize::new(0);
static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Above this the run is told to end at its next check; 0 is no limit.
static SOFT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Above this the script's thread is parked where it stands, since it does not look.
static HARD: AtomicUsize = AtomicUsize::new(usize::MAX);
static OVER: AtomicBool = AtomicBool::new(false);
static PARKED: AtomicBool = AtomicBool::new(false);
/// Whether it was parked because its stack is used up.
static STACK_USED_UP: AtomicBool = AtomicBool::new(false);
/// An eventfd that wakes the supervisor.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// How far a single step may go past the limit before the thread is parked.
const MARGIN: usize = 32 << 20;

/// Counts `size` more bytes; parks a script's thread that has gone too far.
fn grow(size: usize) {
    let used = USED.fetch_add(size, Ordering::Relaxed).saturating_add(size);
    PEAK.fetch_max(used, Ordering::Relaxed);
    if used > SOFT.load(Ordering::Relaxed) && crate::limits::is_limited() {
        OVER.store(true, Ordering::Relaxed);
        if used > HARD.load(Ordering::Relaxed) {
            park();
        }
    }
}

/// Counts memory that no allocator gave: stacks of branches, once they are used.
pub(super) fn count(bytes: usize) {
    grow(bytes);
}

/// The other way round, when the stack is gone.
pub(super) fn uncount(bytes: usize) {
    USED.fetch_sub(bytes, Ordering::Relaxed);
}

/// Unwinding out of an allocator is not allowed and aborting would lose the report, so the thread waits here for the supervisor to end the process.
#[cold]
fn park() {
    PARKED.store(true, Ordering::SeqCst);
    let fd = WAKE.load(Ordering::SeqCst);
    if fd >= 0 {
        let one = 1u64.to_ne_bytes();
        // rustix::io::write neither allocates nor locks; the descriptor stays open as long as the process runs.
        let _ = rustix::io::write(borrowed(fd), &one);
    }
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// Parks the script's thread, from the handler of the fault at the end of its stack.
pub(super) fn park_at_the_end_of_the_stack() {
    STACK_USED_UP.store(true, Ordering::SeqCst);
    park();
}

/// Whether a thread was parked because its stack was used up.
#[must_use]
pub fn stack_used_up() -> bool {
    STACK_USED_UP.load(Ordering::SeqCst)
}

#[expect(unsafe_code, reason = "the eventfd is kept as a number because an allocator can own nothing")]
fn borrowed(fd: i32) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: `limit` stores the number of an eventfd that it leaks on purpose, so it stays open until the process ends.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}

#[expect(unsafe_code, reason = "a global allocator is an unsafe trait; every call goes to the system's allocator unchanged")]
// SAFETY: memory comes from and goes back to `System` with the layout that the caller gave; counting touches atomics and a const-initialised thread local only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller keeps the contract of GlobalAlloc::alloc, which is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller got `pointer` from this allocator, that is from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old block lives until the new one is filled, so both count for the limit.
        grow(size);
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as in `dealloc`; `size` is the caller's, checked by the contract of realloc.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Makes every thread allocate from one pool. glibc gives each new thread a pool of its own that grows by one page and one mprotect(2) at a
/// time (measured: 60 calls for the start of a script); rex has one busy thread at a time, so there is nothing to gain from many.
pub fn one_pool() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "mallopt(3) is in no safe crate of the graph")]
    // SAFETY: mallopt(3) takes two numbers and changes the allocator's own settings; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Sets the limit, in bytes beyond what is in use now, and the eventfd that wakes the supervisor when a thread had to be parked.
pub fn limit(bytes: u64, wake: std::os::fd::OwnedFd) {
    use std::os::fd::IntoRawFd;
    limit_all(bytes);
    WAKE.store(wake.into_raw_fd(), Ordering::SeqCst);
}

/// Sets the limit for all entries of a session together; each brings the eventfd that wakes its supervisor, see [`again`].
pub fn limit_all(bytes: u64) {
    let base = USED.load(Ordering::Relaxed);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    BASE.store(base, Ordering::SeqCst);
    PEAK.store(base, Ordering::SeqCst);
    SOFT.store(base.saturating_add(bytes), Ordering::SeqCst);
    HARD.store(base.saturating_add(bytes).saturating_add(MARGIN.min(bytes)), Ordering::SeqCst);
}

/// Goes on under the limit that was set, with the next entry of a session: what the session keeps still counts. Nobody may be parked, and no thread
/// that is held to the limit may be at work.
pub fn again(wake: std::os::fd::OwnedFd) {
    use std::os::fd::{FromRawFd, IntoRawFd};
    PEAK.store(USED.load(Ordering::Relaxed), Ordering::SeqCst);
    OVER.store(false, Ordering::SeqCst);
    let before = WAKE.swap(wake.into_raw_fd(), Ordering::SeqCst);
    if before >= 0 {
        #[expect(unsafe_code, reason = "the eventfd is kept as a number because an allocator can own nothing")]
        // SAFETY: the number is that of an eventfd which only this place owned, and no thread that could be parked, and would write to it, is at work.
        drop(unsafe { std::os::fd::OwnedFd::from_raw_fd(before) });
    }
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

/// Bytes in use beyond those that were when the limit was set: now, and at the highest point since.
#[must_use]
pub fn used() -> (u64, u64) {
    let base = BASE.load(Ordering::Relaxed);
    let beyond = |bytes: &AtomicUsize| bytes.load(Ordering::Relaxed).saturating_sub(base) as u64;
    (beyond(&USED), beyond(&PEAK))
}

/// Bytes in use at the highest point.
#[must_use]
pub fn peak() -> u64 {
    PEAK.load(Ordering::Relaxed) as u64
}
