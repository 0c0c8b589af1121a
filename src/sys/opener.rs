//! Files that policy names one by one. A rule of Landlock is about the file that is there when it is made; what takes the place of such a file later (a
//! log that is rotated, a configuration that is written anew) is another one, which the fence does not let rex open. A small process beside the fence opens
//! it: it knows the list of these paths, is told a number of the list and how to open, and gives the descriptor back.
//!
//! It opens nothing that a broken gate could not have opened before the file was replaced: the hull lists the path with this access.

use super::beside::Beside;
use super::fence::{self, Rights};
use crate::error::Result;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType};
use rustix::thread::CapabilitySet;
use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

struct Opener {
    beside: Arc<Beside>,
    paths: Vec<PathBuf>,
}

static OPENER: OnceLock<Opener> = OnceLock::new();
/// How a file may be opened, besides reading or writing.
const FLAGS: OFlags = OFlags::APPEND;
/// A question: the number of the path, then the flags of open(2).
const QUESTION: usize = 8;

/// Forks it, for these files and what may be done to each. No thread may run yet.
///
/// # Errors
/// When the kernel gives no process or socket.
pub fn start(named: &BTreeMap<PathBuf, Rights>, powers: CapabilitySet) -> Result<()> {
    // A folder is not opened here, however it is named.
    let folder = |path: &Path| {
        rustix::fs::lstat(path).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory)
    };
    let named: BTreeMap<PathBuf, Rights> =
        named.iter().filter(|(path, _)| !folder(path)).map(|(path, rights)| (path.clone(), *rights)).collect();
    if named.is_empty() {
        return Ok(());
    }
    let beside = Beside::start(c"rex opener", SocketType::SEQPACKET, |socket| serve(socket, &named, powers))?;
    let _ = OPENER.set(Opener { beside, paths: named.keys().cloned().collect() });
    Ok(())
}

fn serve(socket: &OwnedFd, named: &BTreeMap<PathBuf, Rights>, powers: CapabilitySet) {
    let list: Vec<(&Path, Rights)> = named.iter().map(|(path, rights)| (path.as_path(), *rights)).collect();
    let mut armed = false;
    loop {
        let mut question = [0u8; QUESTION];
        match rustix::net::recv(socket, &mut question, RecvFlags::empty()) {
            Ok((QUESTION, _)) => {}
            Err(Errno::INTR) => continue,
            _ => return,
        }
        // Most runs never ask, and pay for no more than the process.
        if !armed {
            if fence::arm_for_opening(named, powers).is_err() {
                return;
            }
            armed = true;
        }
        let (number, flags) = (word(&question, 0), word(&question, 4));
        let flags = OFlags::from_bits_retain(flags);
        let asked = usize::try_from(number).ok().and_then(|number| list.get(number));
        let opened = asked.filter(|(_, rights)| within(flags, *rights)).ok_or(Errno::ACCESS).and_then(|(path, _)| open_now(path, flags));
        if answer(socket, opened).is_err() {
            return;
        }
    }
}

fn word(bytes: &[u8; QUESTION], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(u32::MAX, u32::from_le_bytes)
}

/// Whether the hull has this access.
fn within(flags: OFlags, rights: Rights) -> bool {
    let access = flags & OFlags::ACCMODE;
    let (reads, writes) = (access == OFlags::RDONLY || access == OFlags::RDWR, access == OFlags::WRONLY || access == OFlags::RDWR);
    (flags - OFlags::ACCMODE - FLAGS).is_empty()
        && (reads || writes)
        && (!reads || rights.has(Rights::READ_FILE))
        && (!writes || rights.has(Rights::WRITE))
}

/// A regular file that has exactly this path, without a link on the way.
fn open_now(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let handle = rustix::fs::openat2(rustix::fs::CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    if rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    // Not by `resource::path`, whose handle on /proc is that of rex.
    let own = format!("/proc/self/fd/{}", handle.as_raw_fd());
    rustix::fs::open(own, flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::empty())
}

fn answer(socket: &OwnedFd, opened: rustix::io::Result<OwnedFd>) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let errno = opened.as_ref().err().map_or(0, |errno| errno.raw_os_error());
    let fds: Vec<_> = opened.iter().map(|file| file.as_fd()).collect();
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::MSGSIZE);
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&errno.to_le_bytes())], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}

/// Opens what has this canonical path now, if policy names it alone; nothing where it does not, or where it cannot be opened. Whether that is what
/// was judged is for the caller to see.
pub(super) fn open(place: &[u8], flags: OFlags) -> Option<OwnedFd> {
    let opener = OPENER.get()?;
    let number = opener.paths.iter().position(|path| path.as_os_str().as_bytes() == place)?;
    let mut question = [0u8; QUESTION];
    let (first, last) = question.split_at_mut(4);
    first.copy_from_slice(&u32::try_from(number).ok()?.to_le_bytes());
    last.copy_from_slice(&(flags & (OFlags::ACCMODE | FLAGS)).bits().to_le_bytes());
    let socket = opener.beside.socket();
    rustix::net::send(&*socket, &question, SendFlags::NOSIGNAL).ok()?;
    let mut errno = [0u8; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    loop {
        match rustix::net::recvmsg(&*socket, &mut [IoSliceMut::new(&mut errno)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) if received.bytes == errno.len() => break,
            Err(Errno::INTR) => {}
            _ => return None,
        }
    }
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_access_of_the_hull_is_opened() {
        let (read, write) = (Rights::READ_FILE, Rights::WRITE);
        assert!(within(OFlags::RDONLY, read));
        assert!(within(OFlags::WRONLY | OFlags::APPEND, write));
        assert!(within(OFlags::RDWR, read.and(write)));
        for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::RDONLY | OFlags::TRUNC, OFlags::RDONLY | OFlags::CREATE, OFlags::PATH] {
            assert!(!within(flags, read), "{flags:?}");
        }
        for flags in [OFlags::RDONLY, OFlags::RDWR, OFlags::WRONLY | OFlags::TRUNC, OFlags::ACCMODE] {
            assert!(!within(flags, write), "{flags:?}");
        }
    }

    #[test]
    fn links_and_what_is_no_file_are_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().canonicalize().unwrap().join(name);
        std::fs::write(path("file"), "x").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), Mode::RUSR).unwrap();
        assert!(open_now(&path("file"), OFlags::RDONLY).is_ok());
        for name in ["link", "fifo", "", "none", "file/x"] {
            assert!(open_now(&path(name), OFlags::RDONLY).is_err(), "{name}");
        }
    }
}
