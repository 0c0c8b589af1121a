//! The guard: parent of the broker, and heir of everything below it. It does nothing but wait for the broker's end, and then ends what is left.
//!
//! Whoever kills one of the two leaves the other: without its guard the broker ends all programs and itself, see [`super::serve`]. Who may kill both
//! at once may kill anything here, and needs neither rex nor its programs for it (a program's fence keeps signals from all that is not its own,
//! where the kernel has that: Landlock, Linux 6.12).

use super::gauge::Gauge;
use super::serve::{self, Rules};
use super::tree;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};
use std::os::fd::OwnedFd;

/// Forks the broker and outlives it.
pub(super) fn guard(requests: OwnedFd, rules: &Rules, gauge: Gauge) -> ! {
    if let Ok((watched, alive)) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        // Before there is anything to inherit.
        && serve::prepare(c"rex guard", &[&requests, &watched, &alive]).is_ok()
    {
        #[expect(unsafe_code, reason = "a process that goes on with the code of this one has no safe interface")]
        // SAFETY: no other thread runs, so the child has the whole state of the process.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            drop(alive);
            serve::serve(&requests, &watched, rules, gauge)
        }
        // rex sees the end of the broker by these.
        drop(requests);
        drop(watched);
        if let Some(broker) = (forked > 0).then(|| Pid::from_raw(forked)).flatten() {
            while let Err(Errno::INTR) = rustix::process::waitpid(Some(broker), WaitOptions::empty()) {}
            tree::kill(&|_| true, serve::AT_LAST);
        }
    }
    #[expect(unsafe_code, reason = "the guard must not run what rex does when it ends")]
    // SAFETY: _exit(2) ends the process and touches no memory.
    unsafe {
        libc::_exit(0)
    }
}
