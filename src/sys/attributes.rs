//! Attributes of things that were granted: mode, owner, times, extended attributes, room on the disk. All through the pinned handle.

use super::write::{Changes, at};
use crate::error::{Error, Kind, Result};
use crate::limits::Watch;
use crate::policy::{Action, Granted, Resource};
use crate::resource::file::File;
use crate::resource::path;
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

/// Bytes set aside between two looks at the watch.
const PIECE: u64 = 64 << 20;
/// XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h.
pub const MAX_XATTR: usize = 64 << 10;

/// The pinned object.
fn pinned<A: Action<On = File>>(granted: &Granted<A>) -> Result<&OwnedFd> {
    let file = granted.resource();
    file.handle().filter(|_| file.exists()).ok_or_else(|| {
        file.obstacle().unwrap_or_else(|| Error::new(Kind::NotFound, "no such file or directory").with_path(file.asked().shown()))
    })
}

/// The pinned object, still where the policy saw it.
fn in_place<A: Action<On = File>>(granted: &Granted<A>) -> Result<&OwnedFd> {
    let () = Changes::<A>::OK;
    let handle = pinned(granted)?;
    let changed = || {
        Error::new(Kind::Changed, "it was moved or replaced after the policy was asked; nothing was done")
            .with_path(granted.resource().asked().shown())
    };
    match path::standing(handle) {
        Ok((place, true)) if place == granted.resource().place() => Ok(handle),
        _ => Err(changed()),
    }
}

/// What fstat(2) says now.
///
/// # Errors
/// What the kernel reports.
pub fn stat<A: Action<On = File>>(granted: &Granted<A>) -> Result<Stat> {
    rustix::fs::fstat(pinned(granted)?).map_err(|errno| at(granted, "stat", errno))
}

/// Sets the permission bits, with set-user-id, set-group-id and sticky.
///
/// # Errors
/// [`Kind::Unsupported`] for a symbolic link, [`Kind::Changed`], what chmod(2) reports.
pub fn set_mode<A: Action<On = File>>(granted: &Granted<A>, mode: u32) -> Result<()> {
    let handle = in_place(granted)?;
    if granted.resource().kind() == Some(FileType::Symlink) {
        // Some filesystems would do it, and nothing looks at it.
        return Err(Error::new(Kind::Unsupported, "a symbolic link has no permission bits of its own")
            .with_path(granted.resource().asked().shown()));
    }
    let (folder, name) = path::by_descriptor(handle)?;
    rustix::fs::chmodat(folder, name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty()).map_err(|errno| at(granted, "chmod", errno))
}

/// Sets owner and group; of a symbolic link, its own.
///
/// # Errors
/// [`Kind::Changed`], what chown(2) reports.
pub fn set_owner<A: Action<On = File>>(granted: &Granted<A>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let handle = in_place(granted)?;
    rustix::fs::chownat(handle, c"", uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::EMPTY_PATH)
        .map_err(|errno| at(granted, "chown", errno))
}

/// A time to be set: now, or seconds and nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    Now,
    At(i64, u32),
}

impl Time {
    fn spec(time: Option<Self>) -> Timespec {
        match time {
            None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            Some(Self::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            Some(Self::At(seconds, nanos)) => Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
        }
    }
}

/// Sets the times of the last access and change; what is left out stays.
///
/// # Errors
/// [`Kind::Changed`], what utimensat(2) reports.
pub fn set_times<A: Action<On = File>>(granted: &Granted<A>, accessed: Option<Time>, modified: Option<Time>) -> Result<()> {
    let handle = in_place(granted)?;
    let (folder, name) = path::by_descriptor(handle)?;
    let times = Timestamps { last_access: Time::spec(accessed), last_modification: Time::spec(modified) };
    rustix::fs::utimensat(folder, name, &times, AtFlags::empty()).map_err(|errno| at(granted, "utimensat", errno))
}

/// The names of its extended attributes; none where the filesystem has none.
///
/// # Errors
/// What listxattr(2) reports.
pub fn xattrs<A: Action<On = File>>(granted: &Granted<A>) -> Result<Vec<Vec<u8>>> {
    let path = path::descriptor_path(pinned(granted)?)?;
    let mut names = vec![0u8; MAX_XATTR];
    let length = match rustix::fs::listxattr(path, &mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(errno) => return Err(at(granted, "listxattr", errno)),
    };
    let names = names.get(..length).unwrap_or_default();
    Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// The value of an extended attribute; nothing where it has none of that name.
///
/// # Errors
/// What getxattr(2) reports.
pub fn xattr<A: Action<On = File>>(granted: &Granted<A>, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let path = path::descriptor_path(pinned(granted)?)?;
    let mut value = vec![0u8; MAX_XATTR];
    match rustix::fs::getxattr(path, name, &mut value) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA) => Ok(None),
        // Filesystems without them, and names that this kind of thing cannot have.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        Err(errno) => Err(at(granted, "getxattr", errno)),
    }
}

/// Sets an extended attribute.
///
/// # Errors
/// [`Kind::Changed`], what setxattr(2) reports.
pub fn set_xattr<A: Action<On = File>>(granted: &Granted<A>, name: &[u8], value: &[u8]) -> Result<()> {
    let path = path::descriptor_path(in_place(granted)?)?;
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).map_err(|errno| at(granted, "setxattr", errno))
}

/// Takes an extended attribute away; `false` where it had none of that name.
///
/// # Errors
/// [`Kind::Changed`], what removexattr(2) reports.
pub fn remove_xattr<A: Action<On = File>>(granted: &Granted<A>, name: &[u8]) -> Result<bool> {
    let path = path::descriptor_path(in_place(granted)?)?;
    match rustix::fs::removexattr(path, name) {
        Ok(()) => Ok(true),
        Err(Errno::NODATA) => Ok(false),
        Err(errno) => Err(at(granted, "removexattr", errno)),
    }
}

/// What is to be done to a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Set aside, and the file grows to hold it.
    Grow,
    /// Set aside, the size stays.
    Keep,
    /// Given back; it reads as zeros.
    Hole,
}

/// Sets room aside for a granted regular file, or gives it back. When there is not enough, the file has its old size again.
///
/// # Errors
/// As [`super::file::open`]; [`Kind::NoSpace`], what fallocate(2) reports; that the run has to stop.
pub fn allocate<A: Action<On = File>>(granted: &Granted<A>, room: Room, offset: u64, length: u64, watch: &Watch) -> Result<Stat> {
    // Reading, where the account may, is for `take_back`.
    let file = super::write::open(granted, OFlags::RDWR).or_else(|_| super::write::open(granted, OFlags::WRONLY))?;
    let before = rustix::fs::fstat(&file).map_err(|errno| at(granted, "stat", errno))?;
    let mode = match room {
        Room::Grow => FallocateFlags::empty(),
        Room::Keep => FallocateFlags::KEEP_SIZE,
        Room::Hole => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
    };
    // A filesystem is not filled to its last block, if only for a moment, for what cannot fit. What the file has already may count for it.
    if room != Room::Hole {
        let disk = rustix::fs::fstatvfs(&file).map_err(|errno| at(granted, "statvfs", errno))?;
        let held = u64::try_from(before.st_blocks).unwrap_or(0).saturating_mul(512);
        if length > disk.f_bavail.saturating_mul(disk.f_frsize).saturating_add(held) {
            return Err(at(granted, "fallocate", Errno::NOSPC));
        }
    }
    // Room behind the end counts like what is written there: it fills the disk just the same.
    if room != Room::Hole {
        super::size::grows_to(&file, offset.saturating_add(length)).map_err(|error| error.with_path(granted.resource().asked().shown()))?;
    }
    let mut done = 0;
    while done < length {
        let piece = (length - done).min(PIECE);
        let result = watch
            .check()
            .and_then(|()| rustix::fs::fallocate(&file, mode, offset + done, piece).map_err(|errno| at(granted, "fallocate", errno)));
        match result {
            Ok(()) => done += piece,
            Err(error) if error.errno == Some(libc::EINTR) => {}
            Err(error) => {
                if room == Room::Grow {
                    take_back(&file, u64::try_from(before.st_size).unwrap_or(0));
                }
                return Err(error);
            }
        }
    }
    rustix::fs::fstat(&file).map_err(|errno| at(granted, "stat", errno))
}

/// Gives a file its old size again, unless somebody has written behind it meanwhile.
fn take_back(file: &std::fs::File, size: u64) {
    let Ok(now) = rustix::fs::fstat(file) else { return };
    let end = u64::try_from(now.st_size).unwrap_or(0);
    if end <= size {
        return;
    }
    // Room that nobody wrote to is a hole to lseek(2), but for the rest of the block in which the old contents end: that is data, of zeros.
    let block = u64::try_from(now.st_blksize).unwrap_or(0).clamp(1, 1 << 20);
    let next = size.next_multiple_of(block).min(end);
    let mut rest = vec![0; usize::try_from(next - size).unwrap_or(0)];
    let unwritten = file.read_exact_at(&mut rest, size).is_ok() && rest.iter().all(|byte| *byte == 0);
    if unwritten && (next == end || rustix::fs::seek(file, rustix::fs::SeekFrom::Data(next)) == Err(Errno::NXIO)) {
        let _ = rustix::fs::ftruncate(file, size);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn room_that_was_set_aside_behind_part_of_a_block_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        for (size, written, stays) in [(1_u64, None, 1), (4096, None, 4096), (1, Some(5), 1 << 20), (1, Some(500_000), 1 << 20)] {
            let path = dir.path().join("file");
            std::fs::write(&path, vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
            let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
            rustix::fs::fallocate(&file, FallocateFlags::empty(), size, 1 << 20).unwrap();
            file.set_len(1 << 20).unwrap();
            if let Some(place) = written {
                file.write_all_at(b"y", place).unwrap();
            }
            take_back(&file, size);
            assert_eq!(file.metadata().unwrap().len(), stays, "{size} {written:?}");
        }
    }
}
