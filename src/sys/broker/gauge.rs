//! What programs use, as the broker tells rex: a page of memory that both have. The broker writes and never reads it.

use crate::error::{Error, Result};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What programs of a run use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Processes at one time: now, and at most so far.
    pub processes: (u64, u64),
    /// Bytes of memory: now, and at most so far.
    pub bytes: (u64, u64),
    /// Processor time so far.
    pub cpu: Duration,
}

#[derive(Debug, Default)]
#[repr(C)]
struct Page {
    processes: AtomicU64,
    most_processes: AtomicU64,
    bytes: AtomicU64,
    most_bytes: AtomicU64,
    /// Microseconds.
    cpu: AtomicU64,
}

/// That of this process's run.
static OWN: OnceLock<Gauge> = OnceLock::new();

/// What programs of this run use, as of the last look at them; nothing where there can be none.
#[must_use]
pub fn reading() -> Reading {
    OWN.get().map(Gauge::read).unwrap_or_default()
}

/// One page for both processes; it lasts as long as they do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gauge(&'static Page);

impl Gauge {
    /// Made before the broker is forked.
    ///
    /// # Errors
    /// When the kernel gives no memory.
    pub(super) fn new() -> Result<Self> {
        #[expect(unsafe_code, reason = "shared memory is in no safe crate of the graph")]
        // SAFETY: a new mapping that nothing else has, of zeroes, which are valid atomics; page-aligned, at least as long as `Page`, and never unmapped.
        unsafe {
            let length = std::mem::size_of::<Page>();
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            let place = libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            if place == libc::MAP_FAILED {
                return Err(Error::from(std::io::Error::last_os_error()));
            }
            Ok(Self(&*place.cast::<Page>()))
        }
    }
    /// Of the broker: what there is now.
    pub(super) fn tell(&self, processes: u32, bytes: u64) {
        self.0.processes.store(processes.into(), Ordering::Relaxed);
        self.0.most_processes.fetch_max(processes.into(), Ordering::Relaxed);
        self.0.bytes.store(bytes, Ordering::Relaxed);
        self.0.most_bytes.fetch_max(bytes, Ordering::Relaxed);
    }
    /// Of the broker: processor time so far.
    pub(super) fn tell_cpu(&self, cpu: Duration) {
        self.0.cpu.fetch_max(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    /// Of rex: this one is to be read from now on.
    pub(super) fn keep(self) {
        let _ = OWN.set(self);
    }
    fn read(&self) -> Reading {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Reading {
            processes: (of(&self.0.processes), of(&self.0.most_processes)),
            bytes: (of(&self.0.bytes), of(&self.0.most_bytes)),
            cpu: Duration::from_micros(of(&self.0.cpu)),
        }
    }
}
