//! What rex and the broker say to each other: one packet with descriptors; what is long goes in a memfd.

use crate::error::{Error, Kind, Result};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Longest packet; long requests are in a memfd.
const PACKET: usize = 8192;
/// Longest request: ARG_MAX of Linux is a quarter of the stack, mostly 2 MiB; numbers as text take four times that.
const MAX_REQUEST: u64 = 16 << 20;
/// Most descriptors in one packet.
const MAX_FDS: usize = 8;

/// Whom a program runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// A program to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// argv, its first item included, without NUL bytes.
    pub argv: Vec<Vec<u8>>,
    /// The whole environment, `NAME=value`.
    pub environment: Vec<Vec<u8>>,
    /// Nothing: as rex itself.
    pub owner: Option<Owner>,
    /// Capabilities that it has, as bits (capabilities(7)).
    pub capabilities: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Request {
    Launch(Launch),
}

/// A limit of the run that a program and its children reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    Memory,
    Children,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The exit code, or nothing if a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// Set where the broker killed it for this.
    pub limit: Option<Limit>,
    /// Processes it had left behind, which were killed.
    pub left: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Reply {
    Started {
        pid: i32,
    },
    Failed {
        what: String,
        errno: i32,
    },
    /// The hull does not list it.
    Refused,
    Ended(Ended),
}

/// One packet.
pub(super) fn send(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE);
    }
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            done => return done.map(drop),
        }
    }
}

/// A value in one packet.
pub(super) fn tell<T: Serialize>(socket: &OwnedFd, value: &T) {
    if let Ok(text) = serde_json::to_vec(value) {
        let _ = send(socket, &text, &[]);
    }
}

/// One packet and its descriptors; nothing at the end.
pub(super) fn packet(socket: &OwnedFd) -> rustix::io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut buffer = vec![0u8; PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    buffer.truncate(received.bytes);
    Ok(Some((buffer, fds)))
}

/// A value that came in one packet.
pub(super) fn receive<T: DeserializeOwned>(socket: &OwnedFd) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let Some((bytes, fds)) = packet(socket)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(|value| Some((value, fds)))
        .map_err(|_| Error::new(Kind::Internal, "the broker said something that makes no sense"))
}

/// A request from its memfd.
pub(super) fn request(payload: OwnedFd) -> Option<Request> {
    let mut text = Vec::new();
    std::fs::File::from(payload).take(MAX_REQUEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
