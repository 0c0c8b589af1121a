//! What the kernel shows of other processes to no process behind Landlock (ptrace(2), "access mode checking"; landlock(7)): what they have open, their
//! input and output, where they wait. A small process forked before the fence goes up looks at exactly these, and at nothing else.

use super::fds::{self, Open};
use super::process::{RemovedFile, Table};
use crate::error::{Error, Kind, Result};
use crate::sys::beside::Beside;
use crate::sys::fence;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};

/// A process as it was judged: the number may have been given out again.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Judged {
    pub pid: i64,
    pub start_ticks: u64,
}

/// A file of the process's folder in /proc that is read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Text {
    Io,
    Waits,
    /// Of one of its threads.
    ThreadWaits(i32),
    /// Where its program is: the link `exe`.
    Program,
    /// Where one of its threads is in the kernel.
    Stack(i32),
    /// Which namespace of this kind it is in: a link such as `mnt`.
    Namespace(Namespace),
    /// The environment that it was started with.
    Environment,
    /// What its memory is made of, in sum.
    Memory,
}

/// Kinds of namespaces (namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    Cgroup,
    Ipc,
    Mount,
    Net,
    Pid,
    Time,
    User,
    Uts,
}

impl Namespace {
    pub const ALL: [Self; 8] = [Self::Cgroup, Self::Ipc, Self::Mount, Self::Net, Self::Pid, Self::Time, Self::User, Self::Uts];

    /// As the kernel calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Mount => "mnt",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::Time => "time",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Removed(Judged),
    Open(Judged),
    Text(Judged, Text),
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply<T> {
    Done(T),
    Errno(i32),
}

/// The way to it; none where nothing that policy permits needs it.
static INSPECTOR: OnceLock<Arc<Beside>> = OnceLock::new();
/// Longest request.
const REQUEST: usize = 256;
/// Longest reply: descriptors of a process are limited by the kernel (nr_open), each is less than a path.
const REPLY: u32 = 256 << 20;

/// Forks it. No thread may run yet. `stacks`: it is also asked where in the kernel processes are.
///
/// # Errors
/// When the kernel gives no process or socket.
pub fn start(stacks: bool) -> Result<()> {
    let beside = Beside::start(c"rex inspector", SocketType::STREAM, |socket| serve(socket, stacks))?;
    let _ = INSPECTOR.set(beside);
    Ok(())
}

fn serve(socket: &OwnedFd, stacks: bool) {
    // Every layer of the fence but the one that stands in the way.
    if fence::arm_for_inspection(stacks).is_err() {
        return;
    }
    // Its own handle on /proc: what was open has been closed.
    let Ok(table) = Table::open() else { return };
    let mut buffer = [0u8; REQUEST];
    loop {
        let length = match rustix::net::recv(socket, &mut buffer, RecvFlags::empty()) {
            Ok((length, _)) if length > 0 => length,
            Err(Errno::INTR) => continue,
            _ => return,
        };
        let said = buffer.get(..length).and_then(|text| serde_json::from_slice::<Request>(text).ok());
        let text = match said {
            Some(Request::Removed(judged)) => serde_json::to_vec(&answer(table.look_removed(judged, &|| Ok(())))),
            Some(Request::Open(judged)) => serde_json::to_vec(&answer(fds::look(&table, judged, &|| Ok(())))),
            Some(Request::Text(judged, text)) => serde_json::to_vec(&answer(table.look_text(judged, text))),
            None => return,
        };
        let Ok(text) = text else { return };
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
        if put(socket, &length).and_then(|()| put(socket, &text)).is_err() {
            return;
        }
    }
}

fn answer<T>(looked: Result<T>) -> Reply<T> {
    match looked {
        Ok(done) => Reply::Done(done),
        Err(error) => Reply::Errno(error.errno.unwrap_or(libc::EIO)),
    }
}

fn put(socket: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(&socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn get(socket: impl AsFd, bytes: &mut [u8]) -> rustix::io::Result<()> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::net::recv(&socket, rest, RecvFlags::empty()) {
            Ok((0, _)) => return Err(Errno::PIPE),
            Ok((got, _)) => done += got,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Asks it; nothing where there is none, and this process has to look itself.
fn ask<T: DeserializeOwned>(request: &Request) -> Option<Result<T>> {
    let socket = INSPECTOR.get()?.socket();
    let gone = || Error::new(Kind::Unavailable, "the process that looks at others is gone");
    let exchange = || -> Option<Reply<T>> {
        put(&*socket, &serde_json::to_vec(request).ok()?).ok()?;
        let mut length = [0u8; 4];
        get(&*socket, &mut length).ok()?;
        let length = Some(u32::from_le_bytes(length)).filter(|length| *length <= REPLY)?;
        let mut text = vec![0u8; usize::try_from(length).ok()?];
        get(&*socket, &mut text).ok()?;
        serde_json::from_slice(&text).ok()
    };
    Some(match exchange() {
        Some(Reply::Done(done)) => Ok(done),
        Some(Reply::Errno(errno)) => Err(Error::os("read", errno)),
        None => Err(gone()),
    })
}

pub(super) fn removed(judged: Judged) -> Option<Result<Vec<RemovedFile>>> {
    ask(&Request::Removed(judged))
}

pub(super) fn open(judged: Judged) -> Option<Result<Vec<Open>>> {
    ask(&Request::Open(judged))
}

pub(super) fn text(judged: Judged, text: Text) -> Option<Result<Vec<u8>>> {
    ask(&Request::Text(judged, text))
}
