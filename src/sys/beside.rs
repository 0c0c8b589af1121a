//! Small processes beside the fence: forked before it goes up, each for one thing that rex cannot do behind it any more. Each is asked over a socket, takes
//! as little as it needs to be told, and ends with rex.

use crate::error::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long all of them together may take to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to one of them. One question at a time.
#[derive(Debug)]
pub(super) struct Beside {
    socket: Mutex<OwnedFd>,
    pid: Pid,
    /// Readable when it has ended; where the kernel has none it is not waited for.
    process: Option<OwnedFd>,
}

static ALL: Mutex<Vec<Arc<Beside>>> = Mutex::new(Vec::new());

impl Beside {
    /// Forks a process that serves the other end of the socket and then ends. No thread may run yet. What takes time is best left to its first
    /// question.
    ///
    /// # Errors
    /// When the kernel gives no process or socket.
    pub(super) fn start(name: &CStr, kind: SocketType, serve: impl FnOnce(&OwnedFd)) -> Result<Arc<Self>> {
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        #[expect(unsafe_code, reason = "a process that goes on with the code of this one has no safe interface")]
        // SAFETY: no other thread runs, so the child has the whole state of the process and may do what any process may.
        let forked = unsafe { libc::fork() };
        match forked {
            -1 => Err(std::io::Error::last_os_error().into()),
            0 => {
                std::mem::forget(ours);
                if let Some(socket) = alone(name, theirs) {
                    serve(&socket);
                }
                #[expect(unsafe_code, reason = "this copy must not run what rex does when it ends")]
                // SAFETY: _exit(2) ends the process and touches no memory.
                unsafe {
                    libc::_exit(0)
                }
            }
            pid => {
                let pid = Pid::from_raw(pid).ok_or_else(|| Error::new(Kind::Internal, "fork gave no process"))?;
                let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
                let beside = Arc::new(Self { socket: Mutex::new(ours), pid, process });
                ALL.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&beside));
                Ok(beside)
            }
        }
    }

    /// The socket, unless another question is under way.
    pub(super) fn free_socket(&self) -> Option<MutexGuard<'_, OwnedFd>> {
        match self.socket.try_lock() {
            Ok(socket) => Some(socket),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
    pub(super) fn socket(&self) -> MutexGuard<'_, OwnedFd> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing of rex stays open but the socket.
fn alone(name: &CStr, socket: OwnedFd) -> Option<OwnedFd> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).ok()?;
    rustix::thread::set_name(name).ok()?;
    // A session of its own: a signal of the terminal is for rex.
    rustix::process::setsid().ok()?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty()).ok()?;
    rustix::stdio::dup2_stdin(&null).ok()?;
    // A caller that waits for the end of the output must not wait for this process.
    rustix::stdio::dup2_stdout(&null).ok()?;
    rustix::stdio::dup2_stderr(&null).ok()?;
    drop(null);
    let high = rustix::io::fcntl_dupfd_cloexec(&socket, 3).ok()?;
    let number = high.as_raw_fd();
    #[expect(unsafe_code, reason = "descriptors of the process that this one was forked from have owners here that never act again")]
    // SAFETY: all numbers but those of the standard streams and of `high` are closed; what owned them in this copy is not used any more, and is never dropped,
    // because this process ends by _exit(2). `socket` is forgotten for the same reason.
    unsafe {
        std::mem::forget(socket);
        if number > 3 {
            libc::syscall(libc::SYS_close_range, 3, number - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, number + 1, libc::c_uint::MAX, 0);
        std::mem::forget(high);
        Some(OwnedFd::from_raw_fd(number))
    }
}

/// Nothing will be asked any more: they end while rex goes on with its own end.
pub fn over() {
    for beside in ALL.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // A question that nobody gets an answer to any more holds the lock, and its process ends with rex.
        if let Ok(socket) = beside.socket.try_lock() {
            let _ = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Both);
        }
    }
}

/// Takes leave of those that have ended, so that none is left to whoever started rex.
pub fn end() {
    over();
    let until = Instant::now() + PATIENCE;
    for beside in std::mem::take(&mut *ALL.lock().unwrap_or_else(PoisonError::into_inner)) {
        let left = until.saturating_duration_since(Instant::now());
        let time = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(0), tv_nsec: left.subsec_nanos().into() };
        if let Some(process) = &beside.process {
            let _ = rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&time));
        }
        let _ = rustix::process::waitpid(Some(beside.pid), WaitOptions::NOHANG);
    }
}
