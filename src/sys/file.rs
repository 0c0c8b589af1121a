//! Reading files that were granted: the pinned object is opened with the access of the verb, and only as what it was judged.

use crate::error::{Error, Kind, Result};
use crate::limits::Watch;
use crate::policy::Granted;
use crate::policy::{Access, Action, Resource};
use crate::resource::file::File;
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

/// Room made for contents before any are there.
const MOST_AT_FIRST: u64 = 16 << 20;

/// Opens a granted regular file: read-only for verbs that change nothing, else for reading and writing.
///
/// # Errors
/// [`Kind::IsADirectory`], [`Kind::NotAFile`] for FIFOs, sockets and devices (they could block for ever or have side effects), or what open(2) reports.
pub fn open<A: Action<On = File>>(granted: &Granted<A>) -> Result<std::fs::File> {
    let flags = if A::ACCESS == Access::ReadOnly { OFlags::RDONLY } else { OFlags::RDWR };
    open_as(granted, flags)
}

/// Whether this user may read a granted regular file, as far as that can be told without opening it; for a walk that judges many files first and
/// opens them later.
///
/// # Errors
/// As [`open`].
pub fn may_read<A: Action<On = File>>(granted: &Granted<A>) -> Result<()> {
    let file = granted.resource();
    let (Some((folder, name)), Some(FileType::RegularFile)) = (file.seen(), file.kind()) else {
        return open_as(granted, OFlags::RDONLY).map(drop);
    };
    let flags = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::accessat(folder, std::ffi::OsStr::from_bytes(name), rustix::fs::Access::READ_OK, flags) {
        Ok(()) => Ok(()),
        // Kernels before 5.8 have no faccessat2(2).
        Err(Errno::NOSYS | Errno::INVAL) => open_as(granted, OFlags::RDONLY).map(drop),
        Err(errno) => Err(Error::os("open", errno.raw_os_error()).with_path(file.asked().shown())),
    }
}

pub(super) fn open_as<A: Action<On = File>>(granted: &Granted<A>, flags: OFlags) -> Result<std::fs::File> {
    let file = granted.resource();
    let shown = || file.asked().shown();
    match file.kind() {
        Some(FileType::RegularFile) => {}
        Some(FileType::Directory) => return Err(Error::new(Kind::IsADirectory, "is a directory").with_path(shown())),
        Some(FileType::Symlink) => return Err(Error::new(Kind::NotAFile, "is a symbolic link").with_path(shown())),
        Some(_) => return Err(Error::new(Kind::NotAFile, "is not a regular file (a FIFO, socket or device)").with_path(shown())),
        None => return Err(file.obstacle().unwrap_or_else(|| Error::new(Kind::NotFound, "no such file or directory").with_path(shown()))),
    }
    let Some(handle) = file.handle() else { return Err(Error::new(Kind::NotFound, "no such file or directory").with_path(shown())) };
    let opened = crate::resource::path::reopen(handle, flags).or_else(|error| {
        // It may have taken the place of another since the fence went up.
        let beside = if error.kind == Kind::Permission { super::opener::open(file.place(), flags) } else { None };
        beside.filter(|opened| is_same(opened, handle)).ok_or_else(|| error.with_path(shown()))
    })?;
    Ok(opened.into())
}

fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let identity = |fd: &OwnedFd| rustix::fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// Whether nobody has written to a granted file since it was pinned: what was read after that is then what replacing it takes away.
///
/// # Errors
/// What fstat(2) reports.
pub fn is_as_pinned<A: Action<On = File>>(granted: &Granted<A>) -> Result<bool> {
    let file = granted.resource();
    let (Some(handle), Some(then)) = (file.handle(), file.stat()) else { return Ok(false) };
    let now = rustix::fs::fstat(handle)?;
    let state = |stat: &rustix::fs::Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
    Ok(state(&now) == state(then))
}

/// Reads all of it, or the part asked for, at most `max_bytes`.
///
/// # Errors
/// [`Kind::TooLarge`] when there is more than `max_bytes`; what read(2) reports; that the run has to stop.
pub fn read<A: Action<On = File>>(
    granted: &Granted<A>,
    offset: u64,
    length: Option<u64>,
    max_bytes: u64,
    watch: &Watch,
) -> Result<Vec<u8>> {
    let shown = || granted.resource().asked().shown();
    let mut file = open(granted)?;
    if offset > 0 {
        use std::io::Seek;
        file.seek(std::io::SeekFrom::Start(offset)).map_err(|error| match error.raw_os_error() {
            // The kernel says no more than this, and only of a place that no file of this filesystem has.
            Some(code) if code == rustix::io::Errno::INVAL.raw_os_error() => {
                Error::new(Kind::BadArgument, format!("`offset` {offset} is beyond the largest file there can be")).with_path(shown())
            }
            _ => Error::from(error).with_path(shown()),
        })?;
    }
    let hint = granted.resource().stat().map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0).saturating_sub(offset));
    let wanted = length.unwrap_or(u64::MAX);
    if hint.min(wanted) > max_bytes {
        return Err(too_large(max_bytes).with_path(shown()));
    }
    // Files of procfs and sysfs say 0 and have more; files that grow have more than they said.
    // What a file with holes says of itself costs its maker nothing.
    let mut bytes = Vec::with_capacity(usize::try_from(hint.min(wanted).min(MOST_AT_FIRST)).unwrap_or(0).saturating_add(1).max(512));
    let mut left = wanted.min(max_bytes.saturating_add(1));
    while left > 0 {
        watch.check()?;
        if bytes.len() == bytes.capacity() {
            bytes.reserve(bytes.len().clamp(4 << 10, 1 << 20));
        }
        let room = (bytes.capacity() - bytes.len()).min(1 << 20).min(usize::try_from(left).unwrap_or(usize::MAX));
        let start = bytes.len();
        bytes.resize(start + room, 0);
        // One read at a time, so that the run can be stopped between them.
        let count = match file.read(bytes.get_mut(start..).unwrap_or_default()) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                bytes.truncate(start);
                continue;
            }
            done => done.map_err(|error| Error::from(error).with_path(shown()))?,
        };
        bytes.truncate(start + count);
        if count == 0 {
            break;
        }
        left -= count as u64;
        // A regular file of a known size that gave exactly that, and less than there was room for, has ended (read(2)); files of procfs say 0.
        if count < room && hint > 0 && bytes.len() as u64 == hint {
            break;
        }
    }
    if bytes.len() as u64 > max_bytes {
        return Err(too_large(max_bytes).with_path(shown()));
    }
    Ok(bytes)
}

fn too_large(max_bytes: u64) -> Error {
    Error::new(Kind::TooLarge, format!("larger than `max_bytes` ({max_bytes})"))
        .with_hint("raise `max_bytes`, or read a part with `offset` and `length`, `head`, `tail` or `grep`")
}
