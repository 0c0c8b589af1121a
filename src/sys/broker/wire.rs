//! What rex and the broker say to each other: one packet with descriptors; a request that is long goes in a memfd.

use crate::error::{Error, Kind, Result};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Longest packet; longer requests are in a memfd.
const PACKET: usize = 8192;
/// Longest request in the packet itself.
pub(in crate::sys) const SHORT: usize = PACKET - 64;
/// What stands in the packet of a long request; no request is that short.
pub(in crate::sys) const LONG: &[u8] = b"long";
/// Longest request: execve(2) takes three quarters of 8 MiB at most, whatever the size of the stack.
pub(super) const MAX_REQUEST: usize = 8 << 20;
/// Most descriptors in one packet.
const MAX_FDS: usize = 8;

/// Whom a program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// A program to start.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// What comes with a request besides the program, its outputs and the way to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct With {
    /// A folder to start in; without one it is `/`.
    pub folder: bool,
    /// Input; without it there is none.
    pub stdin: bool,
    /// Say when it has started, not only how it ended.
    pub tell: bool,
}

impl With {
    fn bits(self) -> u64 {
        u64::from(self.folder) | u64::from(self.stdin) << 1 | u64::from(self.tell) << 2
    }
    fn of_bits(bits: u64) -> Option<Self> {
        (bits < 8).then_some(Self { folder: bits & 1 != 0, stdin: bits & 2 != 0, tell: bits & 4 != 0 })
    }
    /// Descriptors of the request: program, stdout, stderr, the way to answer, and those above.
    pub(super) fn descriptors(self) -> usize {
        4 + usize::from(self.folder) + usize::from(self.stdin)
    }
}

impl Launch {
    /// As bytes: numbers, then every string with a NUL behind it.
    pub(super) fn to_bytes(&self, with: With) -> Vec<u8> {
        let strings = self.argv.iter().chain(&self.environment);
        let mut bytes = Vec::with_capacity(64 + strings.clone().map(|text| text.len() + 1).sum::<usize>());
        let mut number = |value: u64| bytes.extend_from_slice(&value.to_le_bytes());
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        number(with.bits());
        number(self.capabilities);
        number(u64::from(self.owner.is_some()));
        if let Some(owner) = &self.owner {
            number(owner.uid.into());
            number(owner.gid.into());
            number(count(owner.groups.len()));
            owner.groups.iter().for_each(|group| number((*group).into()));
        }
        number(count(self.argv.len()));
        number(count(self.environment.len()));
        for text in strings {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
        bytes
    }
    /// Nothing where it is not whole, or more than whole.
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<(Self, With)> {
        let mut rest = bytes;
        let mut number = || {
            let (first, more) = rest.split_first_chunk::<8>()?;
            rest = more;
            Some(u64::from_le_bytes(*first))
        };
        let with = With::of_bits(number()?)?;
        let capabilities = number()?;
        let owner = if number()? == 1 {
            let (uid, gid) = (u32::try_from(number()?).ok()?, u32::try_from(number()?).ok()?);
            let count = number()?;
            let groups = (0..count).map(|_| u32::try_from(number()?).ok()).collect::<Option<_>>()?;
            Some(Owner { uid, gid, groups })
        } else {
            None
        };
        let (argv, environment) = (usize::try_from(number()?).ok()?, usize::try_from(number()?).ok()?);
        let mut strings: Vec<Vec<u8>> = rest.strip_suffix(&[0])?.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        if argv == 0 || strings.len() != argv.checked_add(environment)? {
            return None;
        }
        let environment = strings.split_off(argv);
        Some((Self { argv: strings, environment, owner, capabilities }, with))
    }
}

/// A limit of the run that a program and its children reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    Memory,
    Children,
    Cpu,
    FileSize,
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
    Started,
    Failed {
        what: String,
        errno: i32,
    },
    /// The hull does not list it.
    Refused,
    /// There are as many as there may be.
    TooMany,
    Ended(Ended),
}

/// One packet.
pub(in crate::sys) fn send(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
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
pub(in crate::sys) fn tell<T: Serialize>(socket: &OwnedFd, value: &T) {
    if let Ok(text) = serde_json::to_vec(value) {
        let _ = send(socket, &text, &[]);
    }
}

/// One packet and its descriptors; nothing at the end.
pub(in crate::sys) fn packet(socket: &OwnedFd) -> rustix::io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
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
pub(in crate::sys) fn receive<T: DeserializeOwned>(socket: &OwnedFd) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let Some((bytes, fds)) = packet(socket)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(|value| Some((value, fds)))
        .map_err(|_| Error::new(Kind::Internal, "the broker said something that makes no sense"))
}

/// A request from its memfd.
pub(in crate::sys) fn long(payload: OwnedFd) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::from(payload).take(MAX_REQUEST as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_request_comes_out_as_it_went_in_and_half_of_one_does_not() {
        let text = |text: &str| text.as_bytes().to_vec();
        let owner = Owner { uid: 7, gid: 8, groups: vec![8, 9] };
        let launch =
            Launch { argv: vec![text("/x"), text(""), vec![255, 10]], environment: vec![text("A=")], owner: Some(owner), capabilities: 5 };
        let with = With { folder: true, stdin: false, tell: true };
        let bytes = launch.to_bytes(with);
        assert_eq!(Launch::of_bytes(&bytes).unwrap(), (launch.clone(), with));
        for length in 0..bytes.len() {
            assert_eq!(Launch::of_bytes(bytes.get(..length).unwrap()), None, "{length}");
        }
        let more = [bytes.as_slice(), b"more\0"].concat();
        assert_eq!(Launch::of_bytes(&more), None);
        let plain = Launch { owner: None, environment: Vec::new(), ..launch };
        assert_eq!(Launch::of_bytes(&plain.to_bytes(With::default())).unwrap(), (plain, With::default()));
        let mut odd = bytes;
        odd[0] = 8;
        assert_eq!(Launch::of_bytes(&odd), None);
    }
}
