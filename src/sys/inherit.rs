//! What rex was started with: the identity that `rex serve` hands over on a descriptor, and the program's own file.

use crate::error::{Error, Kind, Result};
use std::os::fd::{FromRawFd, OwnedFd};

/// Reads what `rex serve` wrote, to its end, and closes the descriptor.
///
/// # Errors
/// [`Kind::Config`] when the descriptor that the line names is not open; [`Kind::Denied`] when nothing readable is in it.
pub fn read_identity(number: i32) -> Result<Vec<u8>> {
    let fd = take(number)?;
    crate::os::trusted::read_up_to(&fd, 1 << 20).map_err(|_| Error::new(Kind::Denied, "the identity handed over could not be read"))
}

fn take(number: i32) -> Result<OwnedFd> {
    // fcntl(2) tells whether the number is open before it is believed.
    let open = rustix::io::fcntl_getfd(borrow(number)).is_ok();
    if number < 3 || !open {
        return Err(Error::new(Kind::Config, format!("--identity-fd {number}: no such open descriptor")));
    }
    #[expect(unsafe_code, reason = "a descriptor inherited by number has no owner yet")]
    // SAFETY: it is open, above the standard three, named by the line of the host's owner, and taken once, before anything else was opened under that number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[expect(unsafe_code, reason = "asking whether a number is an open descriptor needs it borrowed first")]
fn borrow(number: i32) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: only handed to fcntl(F_GETFD), which reports EBADF for a number that is not open; -1 is excluded because the parser takes 3 and above.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(number.max(3)) }
}

/// The file of the running program.
#[must_use]
pub fn own_program() -> Option<std::path::PathBuf> {
    std::env::current_exe().ok()
}

/// Empties the environment, once it was read, and keeps every other inherited descriptor from children. Call before any thread is started.
pub fn shut() {
    #[expect(unsafe_code, reason = "clearenv(3) and close_range(2) are in no safe crate of the graph")]
    // SAFETY: no other thread runs yet, so nothing reads the environment meanwhile; close_range with CLOSE_RANGE_CLOEXEC only sets a flag on descriptors.
    unsafe {
        libc::clearenv();
        // Kernels before 5.11 know no such flag; descriptors opened by rex itself have theirs set from birth.
        libc::close_range(3, libc::c_uint::MAX, 4);
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        let _ = rustix::io::write(rustix::stdio::stderr(), format!("rex: a fault in rex itself at {place}; please report it\n").as_bytes());
    }));
}
