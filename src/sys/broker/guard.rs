//! The guard: parent of the broker, and heir of everything below it. It does nothing but wait for the broker's end, and then ends what is left.
//!
//! Whoever kills one of the two leaves the other: without its guard the broker ends all programs and itself, see [`super::serve`]. Who may kill both
//! at once may kill anything here, and needs neither rex nor its programs for it (a program's fence keeps signals from all that is not its own,
//! where the kernel has that: Landlock, Linux 6.12).

use super::gauge::Gauge;
use super::serve::{self, IGNORED, Rules};
use super::{child, tree};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};
use std::os::fd::OwnedFd;

/// Forks the broker and outlives it.
pub(super) fn guard(requests: OwnedFd, rules: Rules<'_>, gauge: Gauge) -> ! {
    if let Ok((watched, alive)) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        // Before there is anything to inherit. What else is to be of this process is not to be the broker's.
        && rustix::process::set_child_subreaper(Some(rustix::process::getpid())).is_ok()
    {
        #[expect(unsafe_code, reason = "a process that goes on with the code of this one has no safe interface")]
        // SAFETY: no other thread runs, so the child has the whole state of the process.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            drop(alive);
            serve::serve(requests, watched, rules, gauge)
        }
        prepare(alive, (requests, watched));
        if let Some(broker) = (forked > 0).then(|| Pid::from_raw(forked)).flatten() {
            while let Err(Errno::INTR) = rustix::process::waitpid(Some(broker), WaitOptions::empty()) {}
            if !serve::nobody_left() {
                tree::kill(&|_| true, serve::AT_LAST);
            }
        }
    }
    #[expect(unsafe_code, reason = "the guard must not run what rex does when it ends")]
    // SAFETY: _exit(2) ends the process and touches no memory.
    unsafe {
        libc::_exit(0)
    }
}

/// Nothing of rex stays open, and what ends rex by a signal does not end this process. What of it fails is done without: the broker is at work.
fn prepare(alive: OwnedFd, of_the_broker: (OwnedFd, OwnedFd)) {
    IGNORED.iter().for_each(|signal| child::disposition(*signal, libc::SIG_IGN));
    let _ = rustix::thread::set_name(c"rex guard");
    let _ = rustix::process::setsid();
    serve::first_of_all();
    if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        // A caller that waits for the end of the output must not wait for this process.
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
        std::mem::forget(null);
    }
    // rex sees the end of the broker by these.
    drop(of_the_broker);
    serve::close_all_but(&[&alive]);
    std::mem::forget(alive);
}
