//! The largest file that a run may make, `limits.file_size`. It is held here, where rex writes: the kernel's own limit (RLIMIT_FSIZE of
//! setrlimit(2)) is one of the process, so it would stop the file of the records too once that is larger. Programs get the kernel's.

use crate::error::{Error, Kind, Result};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes; one run is one process.
static MOST: AtomicU64 = AtomicU64::new(u64::MAX);
/// Where the largest file that was written ends.
static REACHED: AtomicU64 = AtomicU64::new(0);

/// Sets the limit of this process, in bytes.
pub fn limit(bytes: u64) {
    MOST.store(bytes, Ordering::Relaxed);
}

/// The size of the largest file that was written so far, in bytes.
#[must_use]
pub fn reached() -> u64 {
    REACHED.load(Ordering::Relaxed)
}

/// Asked before a file that is new is written up to `end`.
///
/// # Errors
/// [`Kind::Limit`] when that is more than the run may; nothing of it may be written then.
pub(super) fn new_file(end: u64) -> Result<()> {
    let most = MOST.load(Ordering::Relaxed);
    if end > most {
        return Err(Error::new(Kind::Limit, format!("the file size limit of {most} bytes was reached")));
    }
    REACHED.fetch_max(end, Ordering::Relaxed);
    Ok(())
}

/// Asked before an open file is written up to `end`. One that is larger already may be changed and made smaller, but does not grow.
///
/// # Errors
/// As [`new_file`]; what fstat(2) reports.
pub(super) fn grows_to(file: impl AsFd, end: u64) -> Result<()> {
    if end > MOST.load(Ordering::Relaxed) && end <= now(file)? {
        return Ok(());
    }
    new_file(end)
}

/// Asked before so many bytes are added to an open file.
///
/// # Errors
/// As [`grows_to`].
pub(super) fn grows_by(file: impl AsFd, bytes: u64) -> Result<()> {
    if bytes == 0 { Ok(()) } else { new_file(now(file)?.saturating_add(bytes)) }
}

fn now(file: impl AsFd) -> Result<u64> {
    Ok(u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0))
}
