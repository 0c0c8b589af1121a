//! The broker: a small process forked before the fence goes up, which starts the programs that policy permits and ends all that came of them.
//!
//! rex itself can start nothing any more once it is fenced. It sends the broker an opened program, the argument vector and descriptors; the broker
//! refuses what the hull of the policies does not list, gives the program a fence of its own, and is the parent that every orphan of it falls
//! to (PR_SET_CHILD_SUBREAPER of prctl(2)). When a program ends, or rex goes away in whatever manner, the broker kills what is left of it.
//! A guard above the broker does the same when the broker itself is killed.

mod child;
mod gauge;
mod guard;
mod serve;
mod tree;
mod wire;

pub use gauge::{Reading, reading};
pub use serve::Rules;
pub use wire::{Ended, Launch, Limit, Owner};

use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, OFlags, SeekFrom};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, WaitOptions};
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the broker may take to end everything when the run is over.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way to the broker.
#[derive(Debug)]
pub struct Broker {
    socket: Option<OwnedFd>,
    /// The guard, which ends after the broker.
    pid: Pid,
}

/// The descriptors of a program that is started.
#[derive(Debug)]
pub struct Streams<'a> {
    pub folder: BorrowedFd<'a>,
    pub stdin: BorrowedFd<'a>,
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
}

/// A program under way. Dropping it kills the program and everything that came of it.
#[derive(Debug)]
pub struct Running {
    reply: OwnedFd,
    pub pid: i32,
}

impl Broker {
    /// Forks the guard, and that the broker. No thread may run yet.
    ///
    /// # Errors
    /// When the kernel gives no process or socket.
    pub fn start(rules: Rules) -> Result<Self> {
        let (ours, theirs) = pair()?;
        let gauge = gauge::Gauge::new()?;
        #[expect(unsafe_code, reason = "a process that goes on with the code of this one has no safe interface")]
        // SAFETY: no other thread runs, so the child has the whole state of the process and may do what any process may.
        let forked = unsafe { libc::fork() };
        match forked {
            -1 => Err(std::io::Error::last_os_error().into()),
            0 => {
                drop(ours);
                guard::guard(theirs, &rules, gauge)
            }
            pid => {
                let pid = Pid::from_raw(pid).ok_or_else(|| Error::new(Kind::Internal, "fork gave no process"))?;
                gauge.keep();
                Ok(Self { socket: Some(ours), pid })
            }
        }
    }

    /// Starts a granted program: exactly the file that was judged.
    ///
    /// # Errors
    /// [`Kind::NotAFile`], [`Kind::Permission`] and whatever execve(2) reports; [`Kind::Unavailable`] when the broker is gone; those of `check`,
    /// which is asked while the start takes its time.
    pub fn launch<A: Action<On = File>>(
        &self,
        granted: &Granted<A>,
        launch: &Launch,
        streams: &Streams<'_>,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Running> {
        let file = granted.resource();
        let shown = || file.asked().shown();
        if file.kind() != Some(rustix::fs::FileType::RegularFile) {
            return Err(Error::new(Kind::NotAFile, "is not a program").with_path(shown()));
        }
        let Some(program) = file.handle() else { return Err(Error::new(Kind::NotFound, "no such file or directory").with_path(shown())) };
        let (reply, theirs) = pair()?;
        let fds = [program.as_fd(), streams.folder, streams.stdin, streams.stdout, streams.stderr, theirs.as_fd()];
        self.send(&launch.to_bytes(), &fds).map_err(|error| if error.path.is_none() { error.with_path(shown()) } else { error })?;
        drop(theirs);
        let tick = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        while rustix::event::poll(&mut [PollFd::new(&reply, PollFlags::IN)], Some(&tick)) == Ok(0) {
            check()?;
        }
        match wire::receive::<wire::Reply>(&reply)? {
            Some((wire::Reply::Started { pid }, _)) => Ok(Running { reply, pid }),
            Some((wire::Reply::Failed { what, errno }, _)) => Err(Error::os(&what, errno).with_path(shown())),
            Some((wire::Reply::Refused, _)) => {
                Err(Error::new(Kind::Permission, "the fence of this run does not let this program start").with_path(shown()))
            }
            Some((wire::Reply::TooMany, _)) => Err(Error::new(Kind::Limit, "the limit of processes that come of programs was reached")),
            _ => Err(gone()),
        }
    }

    fn send(&self, request: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let socket = self.socket.as_ref().ok_or_else(gone)?;
        if request.len() > wire::MAX_REQUEST {
            return Err(Error::os("execute", libc::E2BIG));
        }
        if request.len() <= wire::SHORT {
            return wire::send(socket, request, fds).map_err(|_| gone());
        }
        let payload = rustix::fs::memfd_create(c"rex-request", MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(payload);
        file.write_all(request).map_err(Error::from)?;
        let payload = OwnedFd::from(file);
        rustix::fs::seek(&payload, SeekFrom::Start(0))?;
        let mut all = fds.to_vec();
        all.push(payload.as_fd());
        wire::send(socket, wire::LONG, &all).map_err(|_| gone())
    }

    /// Ends everything that is left and the broker itself.
    pub fn end(&mut self) {
        if self.socket.take().is_none() {
            return;
        }
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG) {
                Ok(None) => {
                    let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
                    let _ = rustix::event::poll(&mut [], Some(&pause));
                }
                _ => return,
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

impl Running {
    /// Readable when the program has ended.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.reply.as_fd()
    }
    /// How it ended. Waits.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the broker is gone.
    pub fn ended(&self) -> Result<Ended> {
        match wire::receive::<wire::Reply>(&self.reply)? {
            Some((wire::Reply::Ended(ended), _)) => Ok(ended),
            _ => Err(gone()),
        }
    }
    /// SIGTERM to its process group; `hard`: SIGKILL to everything that came of it.
    pub fn stop(&self, hard: bool) {
        let _ = wire::send(&self.reply, if hard { b"k" } else { b"t" }, &[]);
    }
}

fn pair() -> Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn gone() -> Error {
    Error::new(Kind::Unavailable, "the broker that starts programs is gone")
}

/// `/dev/null`, to be read or written.
///
/// # Errors
/// What open(2) reports.
pub fn null() -> Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty())?)
}

/// The root directory, where programs start.
///
/// # Errors
/// What open(2) reports.
pub fn root() -> Result<OwnedFd> {
    Ok(rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())?)
}
