//! Starts the process of one session of `rex serve`: three pipes, the identity on descriptor 3, nothing else inherited.
#![expect(unsafe_code, reason = "descriptor 3 has to be set up between fork and exec, for which std has no safe way")]

use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, SeekFrom};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;

use crate::error::{Error, Kind, Result};

/// The number under which the session finds its identity.
pub const IDENTITY_FD: RawFd = 3;
/// The program that is running now, even if the file it came from has been replaced or removed meanwhile (proc_pid_exe(5)).
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// What to start. The environment is exactly `environment`; the working folder is `/`.
#[derive(Debug)]
pub struct Launch<'a> {
    pub program: &'a Path,
    /// `argv[0]` as the program sees it.
    pub name: &'a OsStr,
    pub arguments: &'a [OsString],
    pub environment: &'a [(OsString, OsString)],
    /// Becomes a sealed memfd, at its beginning, on descriptor [`IDENTITY_FD`].
    pub identity: &'a [u8],
}

/// This side of the three pipes, without blocking; the session's side blocks as usual.
#[derive(Debug)]
pub struct Pipes {
    pub stdin: pipe::Sender,
    pub stdout: pipe::Receiver,
    pub stderr: pipe::Receiver,
}

/// How a session's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Code(u8),
    Signal { number: i32, core_dumped: bool },
}

/// A session's process, leader of a process group of its own. Dropping it kills the group and reaps the leader.
#[derive(Debug)]
pub struct SessionProcess {
    child: Child,
    pid: Pid,
    /// Readable once the process has ended; it stays a zombie, and its number its own, until [`reap`](Self::reap).
    pidfd: AsyncFd<OwnedFd>,
    reaped: bool,
}

/// Starts `launch`. Must be called within a tokio runtime that has I/O enabled.
///
/// # Errors
/// The system's own error from memfd_create(2), pipe(2), fork(2), execve(2) or pidfd_open(2) (Linux 5.3).
pub fn spawn_session(launch: &Launch<'_>) -> Result<(SessionProcess, Pipes)> {
    let identity = sealed(launch.identity)?;
    let number = identity.as_raw_fd();
    let mut command = Command::new(launch.program);
    command.arg0(launch.name).args(launch.arguments).env_clear().current_dir("/").process_group(0);
    command.envs(launch.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: the closure runs between fork and exec of a process that may have threads, so it may only make async-signal-safe calls
    // and must not allocate or panic (fork(2), signal-safety(7)): `hand_over` makes dup2, fcntl and close_range only.
    unsafe { command.pre_exec(move || hand_over(number)) };
    let mut child = command.spawn().map_err(|error| Error::from(error).with_path(launch.program.display().to_string()))?;
    drop(identity);
    let process = watch(&child);
    let (pid, pidfd) = match process {
        Ok(both) => both,
        Err(error) => {
            // Without a handle on it the process cannot be kept; it has not been reaped, so the number is still its own.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    };
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let process = SessionProcess { child, pid, pidfd, reaped: false };
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(Error::new(Kind::Internal, "the session has no pipes"));
    };
    let pipes = Pipes {
        stdin: pipe::Sender::from_owned_fd(stdin.into())?,
        stdout: pipe::Receiver::from_owned_fd(stdout.into())?,
        stderr: pipe::Receiver::from_owned_fd(stderr.into())?,
    };
    Ok((process, pipes))
}

fn watch(child: &Child) -> Result<(Pid, AsyncFd<OwnedFd>)> {
    let pid = Pid::from_child(child);
    let pidfd =
        rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| Error::os("watch the session", errno.raw_os_error()))?;
    // SAFETY: the AsyncFd owns the descriptor, which is open, and an OwnedFd gives the same number until it is dropped with the AsyncFd.
    let registered = unsafe { AsyncFd::register_with_interest(pidfd, tokio::io::Interest::READABLE) };
    Ok((pid, registered.map_err(|error| Error::from(error.into_parts().1))?))
}

/// A memfd that nobody can change any more, positioned at its beginning.
fn sealed(content: &[u8]) -> Result<OwnedFd> {
    const NAME: &CStr = c"rex-identity";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match rustix::fs::memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know the flag.
        Err(Errno::INVAL) => rustix::fs::memfd_create(NAME, flags)?,
        other => other?,
    };
    let mut rest = content;
    while !rest.is_empty() {
        let written = rustix::io::write(&fd, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    rustix::fs::fcntl_add_seals(&fd, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    rustix::fs::seek(&fd, SeekFrom::Start(0))?;
    // Numbers are given out lowest first, so with 0–2 open this one is 3 or 3 is taken by something else. Either way the pipe on which
    // std reports a failed exec, made later, is not 3, and `hand_over` cannot close it.
    Ok(fd)
}

/// In the child, after its standard descriptors are in place: the identity becomes number 3, everything above closes at exec.
fn hand_over(identity: RawFd) -> std::io::Result<()> {
    if identity == IDENTITY_FD {
        // SAFETY: fcntl(F_SETFD) on an open descriptor changes a flag of it and touches no memory.
        if unsafe { libc::fcntl(IDENTITY_FD, libc::F_SETFD, 0) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    } else {
        // SAFETY: dup2 on an open descriptor touches no memory; whatever 3 was is not used by this child any more.
        if unsafe { libc::dup2(identity, IDENTITY_FD) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    let first = IDENTITY_FD as libc::c_uint + 1;
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC only sets a flag on open descriptors; three plain numbers, no memory.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done < 0 {
        // Before Linux 5.11, or where a filter hides the call: one by one. 65536 is above any limit rex sets for itself.
        for number in IDENTITY_FD + 1..65536 {
            // SAFETY: fcntl(F_SETFD) touches no memory; on a closed number it fails with EBADF and nothing happens.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

impl SessionProcess {
    #[must_use]
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until the process has ended. It is not reaped by that, and waiting may be given up and taken up again.
    pub async fn exited(&self) {
        // An error of the readiness queue cannot be told from the end here; `reap` waits for the real one.
        let _ = self.pidfd.readable().await;
    }

    /// SIGKILL for everything in the process group: what the session has left behind when it has ended, or all of it.
    pub fn kill_group(&self) {
        if !self.reaped {
            // Not reaped, so the number cannot belong to another group. ESRCH: nothing is left.
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Ends the process: after `patience` SIGTERM to the leader, after `grace` more SIGKILL to the group; then reaps it.
    pub async fn end(&mut self, patience: Duration, grace: Duration) {
        if tokio::time::timeout(patience, self.exited()).await.is_err() {
            let _ = rustix::process::pidfd_send_signal(self.pidfd.get_ref().as_fd(), Signal::TERM);
            if tokio::time::timeout(grace, self.exited()).await.is_err() {
                self.kill_group();
                self.exited().await;
            }
        }
        let _ = self.reap();
    }

    /// Kills what is left of the group and takes the exit status. Waits if the process still runs: call it after [`exited`](Self::exited).
    ///
    /// # Errors
    /// The system's own error from waitpid(2).
    pub fn reap(&mut self) -> Result<Ended> {
        self.kill_group();
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
            (None, signal) => Ended::Signal { number: signal.unwrap_or(0), core_dumped: status.core_dumped() },
        })
    }
}

impl Drop for SessionProcess {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill_group();
            let _ = self.child.wait();
        }
    }
}
