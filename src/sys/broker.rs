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
pub(super) mod wire;

pub use gauge::{Reading, reading};
pub use serve::Rules;
pub use wire::{Ended, Launch, Limit, Owner};

use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, SeekFrom};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use wire::{Reply, With};

/// How long the broker may take to end everything when the run is over.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way to the broker.
#[derive(Debug)]
pub struct Broker {
    socket: Option<OwnedFd>,
    /// The guard, which ends after the broker.
    pid: Pid,
    /// Readable when it has ended; behind the fence it could not be opened any more.
    process: Option<OwnedFd>,
}

/// The descriptors of a program that is started.
#[derive(Debug)]
pub struct Streams<'a> {
    /// Where it starts; without one in `/`.
    pub folder: Option<BorrowedFd<'a>>,
    /// Without one it reads nothing.
    pub stdin: Option<BorrowedFd<'a>>,
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
}

/// A program under way. Dropping it kills the program and everything that came of it.
#[derive(Debug)]
pub struct Running {
    reply: OwnedFd,
    /// Its path, for errors.
    shown: String,
}

/// Kills every process below this one, which orphans fall to (PR_SET_CHILD_SUBREAPER of prctl(2)).
pub(super) fn kill_all_below() {
    if !serve::nobody_left() {
        tree::kill(&|_| true, PATIENCE);
    }
}

impl Broker {
    /// Forks the guard, and that the broker. No thread may run yet. What takes time is left to its first request, which most runs never make.
    ///
    /// # Errors
    /// When the kernel gives no process or socket.
    pub fn start(rules: Rules<'_>) -> Result<Self> {
        let (ours, theirs) = pair()?;
        let gauge = gauge::Gauge::new()?;
        #[expect(unsafe_code, reason = "a process that goes on with the code of this one has no safe interface")]
        // SAFETY: no other thread runs, so the child has the whole state of the process and may do what any process may.
        let forked = unsafe { libc::fork() };
        match forked {
            -1 => Err(std::io::Error::last_os_error().into()),
            0 => {
                drop(ours);
                guard::guard(theirs, rules, gauge)
            }
            pid => {
                let pid = Pid::from_raw(pid).ok_or_else(|| Error::new(Kind::Internal, "fork gave no process"))?;
                gauge.keep();
                // Where the kernel has none (before Linux 5.3) its end is looked for instead.
                let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
                Ok(Self { socket: Some(ours), pid, process })
            }
        }
    }

    /// Has a granted program started: exactly the file that was judged. That it could not be comes out when it is waited for, unless `known` says to
    /// wait for its start here.
    ///
    /// # Errors
    /// [`Kind::NotAFile`]; [`Kind::Unavailable`] when the broker is gone; with `known` [`Kind::Permission`], whatever execve(2) reports, and those of
    /// `check`, which is asked while the start takes its time.
    pub fn launch<A: Action<On = File>>(
        &self,
        granted: &Granted<A>,
        launch: &Launch,
        streams: &Streams<'_>,
        known: Option<&dyn Fn() -> Result<()>>,
    ) -> Result<Running> {
        let file = granted.resource();
        let shown = file.asked().shown();
        if file.kind() != Some(rustix::fs::FileType::RegularFile) {
            return Err(Error::new(Kind::NotAFile, "is not a program").with_path(shown));
        }
        let Some(program) = file.handle() else { return Err(Error::new(Kind::NotFound, "no such file or directory").with_path(shown)) };
        let (reply, theirs) = pair()?;
        let with = With { folder: streams.folder.is_some(), stdin: streams.stdin.is_some(), tell: known.is_some() };
        let mut fds = vec![program.as_fd(), streams.stdout, streams.stderr, theirs.as_fd()];
        fds.extend(streams.folder);
        fds.extend(streams.stdin);
        let sent = self.send(&launch.to_bytes(with), &fds);
        sent.map_err(|error| if error.path.is_none() { error.with_path(&shown) } else { error })?;
        drop(theirs);
        let running = Running { reply, shown };
        if let Some(check) = known {
            let tick = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            while rustix::event::poll(&mut [PollFd::new(&running.reply, PollFlags::IN)], Some(&tick)) == Ok(0) {
                check()?;
            }
            match running.said()? {
                Reply::Started => {}
                _ => return Err(gone()),
            }
        }
        Ok(running)
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

    /// No program will be asked for any more: what is left is ended while rex goes on with its own end.
    pub fn over(&self) {
        if let Some(socket) = &self.socket {
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }

    /// Ends everything that is left and the broker itself.
    pub fn end(&mut self) {
        if self.socket.take().is_none() {
            return;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            match rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG) {
                Ok(None) | Err(Errno::INTR) => {}
                _ => return,
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let left = if self.process.is_some() { left } else { left.min(Duration::from_millis(2)) };
            let time = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(1), tv_nsec: left.subsec_nanos().into() };
            let mut ended: Vec<PollFd<'_>> = self.process.iter().map(|process| PollFd::new(process, PollFlags::IN)).collect();
            let _ = rustix::event::poll(&mut ended, Some(&time));
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
    /// That it never began: [`Kind::Permission`] and whatever execve(2) reports; [`Kind::Unavailable`] when the broker is gone.
    pub fn ended(&self) -> Result<Ended> {
        match self.said()? {
            Reply::Ended(ended) => Ok(ended),
            _ => Err(gone()),
        }
    }
    fn said(&self) -> Result<Reply> {
        match wire::receive::<Reply>(&self.reply)? {
            Some((Reply::Failed { what, errno }, _)) => Err(Error::os(&what, errno).with_path(&self.shown)),
            Some((Reply::Refused, _)) => {
                Err(Error::new(Kind::Permission, "the fence of this run does not let this program start").with_path(&self.shown))
            }
            Some((Reply::TooMany, _)) => Err(Error::new(Kind::Limit, "the limit of processes that come of programs was reached")),
            Some((reply, _)) => Ok(reply),
            None => Err(gone()),
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
