//! Copying files that were granted: cloned where the filesystem can, else by the kernel, else piece by piece; holes stay holes.

use super::attributes::Time;
use super::file::open_as;
use super::write::{Changes, Temporary, at, attribute, changed, from_write, spot, sync_folder};
use crate::error::{Error, Kind, Result};
use crate::limits::Watch;
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use crate::resource::path;
use rustix::fs::{FallocateFlags, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// Bytes that the kernel is asked to copy at a time; between, the run can be stopped.
const PIECE: u64 = 16 << 20;
/// From this length on a clone is tried.
const WORTH_CLONING: u64 = 16 << 10;
/// Bytes read and written at a time where the kernel cannot copy.
const BUFFER: usize = 256 << 10;
const ACCESS_LIST: &std::ffi::CStr = c"system.posix_acl_access";

/// What a copy gets besides the contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The permission bits; nothing where what is there keeps its own.
    pub mode: Option<u32>,
    pub owner: Option<(u32, u32)>,
    /// Of the last access and change.
    pub times: Option<(Time, Time)>,
    /// Names of extended attributes to take over.
    pub xattrs: Vec<Vec<u8>>,
    /// Take over the access control list, or that there is none.
    pub list: bool,
    /// Return when it is on the disk.
    pub sync: bool,
}

/// What copying came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub bytes: u64,
    pub created: bool,
    pub atomic: bool,
}

/// The user and group that new files get from this process.
#[must_use]
pub fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Copies a granted file to a granted place. What is there is replaced in one step where that can be, as [`super::write::replace`] does it;
/// what is not there appears when it is whole. A failure leaves what was there before.
///
/// # Errors
/// [`Kind::Exists`] when something has the name by now; [`Kind::Changed`]; [`Kind::NoSpace`]; what the kernel reports.
pub fn file<R, W>(source: &Granted<R>, target: &Granted<W>, plan: &Plan, watch: &Watch) -> Result<Copied>
where
    R: Action<On = File>,
    W: Action<On = File>,
{
    let () = Changes::<W>::OK;
    let from = open_as(source, OFlags::RDONLY)?;
    let place = target.resource();
    let with_path = |error: Error| if error.path.is_none() { error.with_path(place.asked().shown()) } else { error };
    let Some(handle) = place.handle().filter(|_| place.exists()) else {
        let (folder, name) = spot(target)?;
        let temporary = Temporary::new(folder).map_err(|errno| at(target, "create", errno))?;
        let bytes = pour(&from, &temporary.file, true, watch).map_err(with_path)?;
        finish(&from, &temporary.file, plan).map_err(with_path)?;
        spot(target)?;
        temporary.publish_new(name).map_err(|errno| at(target, "create", errno))?;
        if plan.sync {
            sync_folder(folder);
        }
        return Ok(Copied { bytes, created: true, atomic: true });
    };
    // Whoever may not write it may not replace it either. A program that runs can only be replaced.
    let old = match open_as(target, OFlags::WRONLY) {
        Err(error) if error.errno == Some(libc::ETXTBSY) => open_as(target, OFlags::RDONLY),
        opened => opened,
    }?;
    let stat = rustix::fs::fstat(&old)?;
    if stat.st_nlink == 1 {
        let (folder, name) = path::parent_of(place.place()).map_err(|_| changed(target))?;
        if !path::is_same(&folder, &name, handle) {
            return Err(changed(target));
        }
        if let Some(temporary) = Temporary::like(&folder, &old, &stat).map_err(|errno| at(target, "create", errno))? {
            let bytes = pour(&from, &temporary.file, true, watch).map_err(with_path)?;
            finish(&from, &temporary.file, plan).map_err(with_path)?;
            if !path::is_same(&folder, &name, handle) {
                return Err(changed(target));
            }
            match temporary.publish_over(OsStr::from_bytes(&name)) {
                Ok(()) => {
                    if plan.sync {
                        sync_folder(&folder);
                    }
                    return Ok(Copied { bytes, created: false, atomic: true });
                }
                // Another filesystem is mounted on it.
                Err(Errno::BUSY | Errno::XDEV) => {}
                Err(errno) => return Err(at(target, "rename", errno)),
            }
        }
    }
    drop(old);
    let bytes = in_place(&from, target, plan, watch).map_err(with_path)?;
    Ok(Copied { bytes, created: false, atomic: false })
}

/// The same file, other contents: for files with several names, mount points, and folders that cannot be written.
fn in_place<W: Action<On = File>>(from: &std::fs::File, target: &Granted<W>, plan: &Plan, watch: &Watch) -> Result<u64> {
    let to = super::write::open(target, OFlags::WRONLY)?;
    let before = u64::try_from(rustix::fs::fstat(&to)?.st_size).unwrap_or(0);
    let length = u64::try_from(rustix::fs::fstat(from)?.st_size).unwrap_or(0);
    super::size::grows_to(&to, length)?;
    // Before the old contents are touched there has to be room for the new.
    if length > 0
        && let Err(errno @ (Errno::NOSPC | Errno::DQUOT)) = rustix::fs::fallocate(&to, FallocateFlags::KEEP_SIZE, 0, length)
    {
        if length > before {
            let _ = rustix::fs::ftruncate(&to, before);
        }
        return Err(Error::os("write", errno.raw_os_error()));
    }
    let bytes = pour(from, &to, false, watch)?;
    finish(from, &to, plan)?;
    Ok(bytes)
}

/// Copies contents; gives their length. `fresh`: the target is new and empty, so that what is not written reads as zeros.
fn pour(from: &std::fs::File, to: &std::fs::File, fresh: bool, watch: &Watch) -> Result<u64> {
    watch.check()?;
    let stat = rustix::fs::fstat(from)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size == 0 {
        // Files of procfs say so and have more.
        let length = stream(from, to, watch)?;
        set_length(to, length, fresh)?;
        return Ok(length);
    }
    super::size::grows_to(to, size)?;
    // Small files are as quickly copied as cloned, and most filesystems cannot clone.
    if fresh && size >= WORTH_CLONING && rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(u64::try_from(rustix::fs::fstat(to)?.st_size).unwrap_or(0));
    }
    // What is added to the source from now on is not copied: it might never end.
    let mut copy = Copy { from, to, at: 0, by_kernel: true, buffer: Vec::new() };
    // What takes as many blocks (of 512 bytes, stat(2)) as it is long has no holes worth looking for.
    let holes = fresh && u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < size;
    let mut filled = 0;
    while copy.at < size {
        let end = match if holes { rustix::fs::seek(from, SeekFrom::Data(copy.at)) } else { Err(Errno::INVAL) } {
            Ok(data) if data >= size => {
                copy.at = size;
                break;
            }
            Ok(data) => {
                copy.at = data;
                rustix::fs::seek(from, SeekFrom::Hole(data)).map_or(size, |hole| hole.min(size))
            }
            // Nothing but a hole up to the end, which may have come nearer.
            Err(Errno::NXIO) => {
                copy.at = u64::try_from(rustix::fs::fstat(from)?.st_size).unwrap_or(0).min(size);
                break;
            }
            Err(_) => size,
        };
        let whole = copy.up_to(end, watch)?;
        filled = copy.at;
        if !whole {
            break;
        }
    }
    // A new file is as long as what was written last reaches.
    if !fresh || filled < copy.at {
        set_length(to, copy.at, fresh)?;
    }
    Ok(copy.at)
}

/// A hole at the end of a new file, or the end of longer old contents. (Files of procfs have no length to be set.)
fn set_length(to: &std::fs::File, length: u64, fresh: bool) -> Result<()> {
    let now = u64::try_from(rustix::fs::fstat(to)?.st_size).unwrap_or(0);
    if now > length || (fresh && now < length) {
        rustix::fs::ftruncate(to, length).map_err(|errno| Error::os("truncate", errno.raw_os_error()))?;
    }
    Ok(())
}

/// A copy under way.
struct Copy<'f> {
    from: &'f std::fs::File,
    to: &'f std::fs::File,
    at: u64,
    /// Until the kernel says that it cannot.
    by_kernel: bool,
    buffer: Vec<u8>,
}

impl Copy<'_> {
    /// Copies up to this offset; `false` when the source ends before it.
    fn up_to(&mut self, end: u64, watch: &Watch) -> Result<bool> {
        while self.at < end {
            watch.check()?;
            let count = if self.by_kernel { self.kernel(end)? } else { self.own(end)? };
            match count {
                0 if self.by_kernel => self.by_kernel = false,
                0 => return Ok(false),
                count => self.at += count,
            }
        }
        Ok(true)
    }
    /// One copy_file_range(2). It says 0 at the end of the file and, on some filesystems, for what it cannot copy: reading then tells which.
    fn kernel(&self, end: u64) -> Result<u64> {
        let (mut from, mut to) = (self.at, self.at);
        let count = usize::try_from((end - self.at).min(PIECE)).unwrap_or(BUFFER);
        match rustix::fs::copy_file_range(self.from, Some(&mut from), self.to, Some(&mut to), count) {
            Ok(count) => Ok(count as u64),
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(Error::os("write", errno.raw_os_error())),
            Err(_) => Ok(0),
        }
    }
    fn own(&mut self, end: u64) -> Result<u64> {
        let room = usize::try_from(end - self.at).unwrap_or(BUFFER).min(BUFFER);
        self.buffer.resize(BUFFER, 0);
        let buffer = self.buffer.get_mut(..room).unwrap_or_default();
        let count = loop {
            match self.from.read_at(buffer, self.at) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                done => break done.map_err(from_read)?,
            }
        };
        self.to.write_all_at(buffer.get(..count).unwrap_or_default(), self.at).map_err(from_write)?;
        Ok(count as u64)
    }
}

fn from_read(error: std::io::Error) -> Error {
    error.raw_os_error().map_or_else(|| Error::from(error), |errno| Error::os("read", errno))
}

/// Reads to the end and writes it.
fn stream(mut from: &std::fs::File, to: &std::fs::File, watch: &Watch) -> Result<u64> {
    // Most files that say they are empty are; one that is not gets more room.
    let mut buffer = vec![0; 1 << 10];
    let mut length: u64 = 0;
    let mut writer = to;
    loop {
        watch.check()?;
        match from.read(&mut buffer) {
            Ok(0) => return Ok(length),
            Ok(count) => {
                super::size::grows_to(to, length + count as u64)?;
                writer.write_all(buffer.get(..count).unwrap_or_default()).map_err(from_write)?;
                length += count as u64;
                buffer.resize(BUFFER, 0);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(from_read(error)),
        }
    }
}

/// Gives a copy what belongs to it besides its contents. The owner first: a change of it takes set-user-id away; the times last.
fn finish(from: &std::fs::File, to: &std::fs::File, plan: &Plan) -> Result<()> {
    let os = |what: &'static str| move |errno: Errno| Error::os(what, errno.raw_os_error());
    if let Some((uid, gid)) = plan.owner {
        let now = rustix::fs::fstat(to)?;
        let owner = (now.st_uid != uid).then(|| Uid::from_raw(uid));
        let group = (now.st_gid != gid).then(|| Gid::from_raw(gid));
        if owner.is_some() || group.is_some() {
            rustix::fs::fchown(to, owner, group).map_err(os("chown"))?;
        }
    }
    for name in &plan.xattrs {
        let Ok(name) = CString::new(name.clone()) else { continue };
        if let Some(value) = attribute(from, &name).map_err(os("getxattr"))? {
            rustix::fs::fsetxattr(to, name.as_c_str(), &value, XattrFlags::empty()).map_err(os("setxattr"))?;
        }
    }
    if plan.list {
        match attribute(from, ACCESS_LIST).ok().flatten() {
            Some(list) => rustix::fs::fsetxattr(to, ACCESS_LIST, &list, XattrFlags::empty()).map_err(os("setxattr"))?,
            None => match rustix::fs::fremovexattr(to, ACCESS_LIST) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(errno) => return Err(os("removexattr")(errno)),
            },
        }
    }
    if let Some(mode) = plan.mode {
        rustix::fs::fchmod(to, Mode::from_raw_mode(mode & 0o7777)).map_err(os("chmod"))?;
    }
    if let Some((accessed, modified)) = plan.times {
        set_times(to, accessed, modified).map_err(os("utimensat"))?;
    }
    if plan.sync {
        rustix::fs::fsync(to).map_err(os("fsync"))?;
    }
    Ok(())
}

fn set_times(to: &std::fs::File, accessed: Time, modified: Time) -> rustix::io::Result<()> {
    let spec = |time| match time {
        Time::At(seconds, nanos) => Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
        Time::Now => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
    };
    rustix::fs::futimens(to, &Timestamps { last_access: spec(accessed), last_modification: spec(modified) })
}

/// Whether two granted files hold the same bytes.
///
/// # Errors
/// As [`super::file::open`]; what read(2) reports; that the run has to stop.
pub fn same_contents<R: Action<On = File>>(one: &Granted<R>, other: &Granted<R>, watch: &Watch) -> Result<bool> {
    let (one, other) = (open_as(one, OFlags::RDONLY)?, open_as(other, OFlags::RDONLY)?);
    let (mut a, mut b) = (vec![0; BUFFER], vec![0; BUFFER]);
    let fill = |file: &std::fs::File, buffer: &mut Vec<u8>, at: u64| -> Result<usize> {
        let mut count = 0;
        while count < buffer.len() {
            match file.read_at(buffer.get_mut(count..).unwrap_or_default(), at + count as u64) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(from_read(error)),
            }
        }
        Ok(count)
    };
    let mut at = 0;
    loop {
        watch.check()?;
        let (first, second) = (fill(&one, &mut a, at)?, fill(&other, &mut b, at)?);
        if first != second || a.get(..first) != b.get(..second) {
            return Ok(false);
        }
        if first == 0 {
            return Ok(true);
        }
        at += first as u64;
    }
}

/// Makes a granted directory with these permission bits and gives it back pinned.
///
/// # Errors
/// [`Kind::Exists`] when something has the name by now; [`Kind::NotFound`] without its folder; [`Kind::Changed`]; what mkdir(2) reports.
pub fn make_dir<A: Action<On = File>>(granted: &Granted<A>, mode: u32) -> Result<OwnedFd> {
    let () = Changes::<A>::OK;
    let (folder, name) = spot(granted)?;
    rustix::fs::mkdirat(folder, name, Mode::RWXU).map_err(|errno| at(granted, "mkdir", errno))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(folder, name, flags, Mode::empty()).map_err(|errno| at(granted, "open", errno))?;
    let stat = rustix::fs::fstat(&made)?;
    if stat.st_uid != own_ids().0 {
        return Err(changed(granted));
    }
    // A folder with set-group-id hands it on.
    let mode = (mode & 0o777) | (stat.st_mode & 0o2000);
    rustix::fs::fchmod(&made, Mode::from_raw_mode(mode)).map_err(|errno| at(granted, "chmod", errno))?;
    path::reopen(&made, OFlags::PATH | OFlags::DIRECTORY).map_err(|error| error.with_path(granted.resource().asked().shown()))
}

/// Gives a directory that this call made what belongs to it, when everything is in it.
///
/// # Errors
/// What the kernel reports.
pub fn finish_dir<R, A>(source: &Granted<R>, made: &Granted<A>, plan: &Plan) -> Result<()>
where
    R: Action<On = File>,
    A: Action<On = File>,
{
    let () = Changes::<A>::OK;
    let open = |file: &File| {
        let handle = file.handle().ok_or_else(|| Error::new(Kind::NotFound, "no such directory"))?;
        path::reopen(handle, OFlags::RDONLY | OFlags::DIRECTORY).map(std::fs::File::from)
    };
    let shown = || made.resource().asked().shown();
    let (from, to) = (open(source.resource())?, open(made.resource()).map_err(|error| error.with_path(shown()))?);
    finish(&from, &to, &Plan { sync: false, ..plan.clone() }).map_err(|error| error.with_path(shown()))
}

/// Makes a granted symbolic link.
///
/// # Errors
/// [`Kind::Exists`] when something has the name by now; [`Kind::Changed`]; what symlink(2) reports.
pub fn make_link<A: Action<On = File>>(granted: &Granted<A>, target: &[u8]) -> Result<()> {
    let () = Changes::<A>::OK;
    let (folder, name) = spot(granted)?;
    rustix::fs::symlinkat(OsStr::from_bytes(target), folder, name).map_err(|errno| at(granted, "symlink", errno))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::limits::Limits;

    /// Fault C2 of the reference: a source that ends early makes it copy for ever.
    #[test]
    fn a_source_that_ends_before_it_said_it_would_ends_the_copy() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::new(Limits::default());
        std::fs::write(dir.path().join("from"), vec![b'x'; 300_000]).unwrap();
        for by_kernel in [true, false] {
            let from = std::fs::File::open(dir.path().join("from")).unwrap();
            let to = std::fs::File::create(dir.path().join("to")).unwrap();
            let mut copy = Copy { from: &from, to: &to, at: 0, by_kernel, buffer: Vec::new() };
            // As if it had been longer when it was looked at.
            assert!(!copy.up_to(1 << 30, &watch).unwrap());
            assert_eq!(copy.at, 300_000);
            assert_eq!(std::fs::read(dir.path().join("to")).unwrap(), vec![b'x'; 300_000]);
        }
    }

    #[test]
    fn contents_are_the_same_whichever_way_they_are_copied() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::new(Limits::default());
        let bytes: Vec<u8> = (0..1_000_003_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
        std::fs::write(dir.path().join("from"), &bytes).unwrap();
        let from = std::fs::File::open(dir.path().join("from")).unwrap();
        for fresh in [true, false] {
            let to = std::fs::File::create(dir.path().join("to")).unwrap();
            to.set_len(if fresh { 0 } else { 2_000_000 }).unwrap();
            assert_eq!(pour(&from, &to, fresh, &watch).unwrap(), bytes.len() as u64);
            assert_eq!(std::fs::read(dir.path().join("to")).unwrap(), bytes);
        }
        let to = std::fs::File::create(dir.path().join("to")).unwrap();
        let mut copy = Copy { from: &from, to: &to, at: 0, by_kernel: false, buffer: Vec::new() };
        assert!(copy.up_to(bytes.len() as u64, &watch).unwrap());
        assert_eq!(std::fs::read(dir.path().join("to")).unwrap(), bytes);
    }
}
