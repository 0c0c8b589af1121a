//! Writing files that were granted: made at birth as they shall be, appended to, or replaced whole in one step.

use super::file::open_as;
use crate::error::{Error, Kind, Result};
use crate::limits::Watch;
use crate::policy::{Access, Action, Granted, Resource};
use crate::resource::file::File;
use crate::resource::path;
use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_NOW, XattrFlags};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Bytes of a file written between two looks at the watch.
const PIECE: usize = 4 << 20;
/// Bytes compared at a time.
const BLOCK: usize = 64 << 10;
/// How often the lock of a folder is tried, and the pause between.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(1);
/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;
/// An extended attribute larger than the kernel allows (XATTR_SIZE_MAX of linux/limits.h) cannot be.
const MAX_XATTR: usize = 64 << 10;

/// What writing came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub bytes: u64,
    /// Whether the file was made.
    pub created: bool,
    /// Whether every reader sees the old contents or the new, and nothing between.
    pub atomic: bool,
}

/// A grant to look is none to change: caught when rex itself is compiled.
pub(super) struct Changes<A>(std::marker::PhantomData<A>);
impl<A: Action> Changes<A> {
    pub(super) const OK: () = assert!(matches!(A::ACCESS, Access::Change), "this verb changes nothing");
}

/// Opens a granted regular file for writing, in this way besides, and takes set-user-id and set-group-id from it: what a script writes gets
/// nobody's rights. (The kernel does the same to writers without CAP_FSETID, write(2).)
///
/// # Errors
/// As [`super::file::open`].
pub(super) fn open<A: Action<On = File>>(granted: &Granted<A>, flags: OFlags) -> Result<std::fs::File> {
    let () = Changes::<A>::OK;
    let file = open_as(granted, flags)?;
    let mode = rustix::fs::fstat(&file)?.st_mode;
    if mode & SET_ID != 0 {
        match rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777 & !SET_ID)) {
            // Not the owner: the kernel takes them itself.
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(at(granted, "chmod", errno)),
        }
    }
    Ok(file)
}

pub(super) fn at<A: Action<On = File>>(granted: &Granted<A>, what: &str, errno: Errno) -> Error {
    Error::os(what, errno.raw_os_error()).with_path(granted.resource().asked().shown())
}

pub(super) fn changed<A: Action<On = File>>(granted: &Granted<A>) -> Error {
    Error::new(Kind::Changed, "it was moved or replaced after the policy was asked; nothing was done")
        .with_path(granted.resource().asked().shown())
}

/// The folder and name where a thing is to be made; the folder is still where the policy saw it.
pub(super) fn spot<A: Action<On = File>>(granted: &Granted<A>) -> Result<(&OwnedFd, &OsStr)> {
    let file = granted.resource();
    let Some((folder, name)) = file.spot() else {
        let missing = || Error::new(Kind::NotFound, "there is no such folder").with_path(file.asked().shown());
        return Err(file.obstacle().filter(|error| error.kind != Kind::NotFound).unwrap_or_else(missing));
    };
    let here = path::canonical(folder).map_err(|_| changed(granted))?;
    let above = file.place().iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    if here != file.place().get(..above.max(1)).unwrap_or_default() {
        return Err(changed(granted));
    }
    Ok((folder, OsStr::from_bytes(name)))
}

pub(super) fn born(folder: &OwnedFd, name: &OsStr, access: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)
}

/// Makes a granted file, empty, open with this access, with exactly these permission bits (the umask has no say).
///
/// # Errors
/// [`Kind::Exists`] when something has the name by now, [`Kind::NotFound`] without its folder, [`Kind::Changed`], and what open(2) reports.
pub fn create<A: Action<On = File>>(granted: &Granted<A>, mode: u32, access: OFlags) -> Result<std::fs::File> {
    let () = Changes::<A>::OK;
    let (folder, name) = spot(granted)?;
    let made = born(folder, name, access).map_err(|errno| at(granted, "create", errno))?;
    if let Err(errno) = rustix::fs::fchmod(&made, Mode::from_raw_mode(mode & 0o777)) {
        unmake(folder, name, &made);
        return Err(at(granted, "chmod", errno));
    }
    Ok(made.into())
}

/// Takes a file that this call made away again, if the name is still it.
fn unmake(folder: &OwnedFd, name: &OsStr, made: &OwnedFd) {
    if path::is_same(folder, name.as_bytes(), made) {
        let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
    }
}

/// Makes a granted file with these contents. One that cannot be written whole is taken away again.
///
/// # Errors
/// As [`create`], and what write(2) reports.
pub fn create_with<A: Action<On = File>>(granted: &Granted<A>, bytes: &[u8], mode: u32, sync: bool, watch: &Watch) -> Result<Written> {
    super::size::new_file(bytes.len() as u64).map_err(|error| error.with_path(granted.resource().asked().shown()))?;
    let file = create(granted, mode, OFlags::WRONLY)?;
    let done = fill(&file, bytes, watch).and_then(|()| if sync { rustix::fs::fsync(&file).map_err(Error::from) } else { Ok(()) });
    if let Err(error) = done {
        let made: OwnedFd = file.into();
        if let Ok((folder, name)) = spot(granted) {
            unmake(folder, name, &made);
        }
        return Err(error.with_path(granted.resource().asked().shown()));
    }
    if sync && let Ok((folder, _)) = spot(granted) {
        sync_folder(folder);
    }
    Ok(Written { bytes: bytes.len() as u64, created: true, atomic: false })
}

/// Writes at the place of the file's offset (or at the end, if it was opened so), in pieces between which the run can be stopped.
fn fill(mut file: &std::fs::File, bytes: &[u8], watch: &Watch) -> Result<()> {
    for piece in bytes.chunks(PIECE) {
        watch.check()?;
        file.write_all(piece).map_err(from_write)?;
    }
    Ok(())
}

pub(super) fn from_write(error: std::io::Error) -> Error {
    error.raw_os_error().map_or_else(|| Error::new(Kind::Io, "write: nothing more could be written"), |errno| Error::os("write", errno))
}

/// Adds at the end of a granted file that is there. It need not be readable; other writers that append lose nothing (O_APPEND of open(2)).
///
/// # Errors
/// As [`super::file::open`]; what write(2) reports, with how much was written before.
pub fn append<A: Action<On = File>>(granted: &Granted<A>, bytes: &[u8], sync: bool) -> Result<Written> {
    let file = open(granted, OFlags::WRONLY | OFlags::APPEND)?;
    append_to(&file, bytes).map_err(|error| error.with_path(granted.resource().asked().shown()))?;
    if sync {
        rustix::fs::fsync(&file).map_err(|errno| at(granted, "fsync", errno))?;
    }
    Ok(Written { bytes: bytes.len() as u64, created: false, atomic: false })
}

/// One write(2) where the kernel takes all of it, so that lines of several writers do not mix.
pub(super) fn append_to(mut file: &std::fs::File, bytes: &[u8]) -> Result<()> {
    super::size::grows_by(file, bytes.len() as u64)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(Error::new(Kind::Io, "write: nothing more could be written")),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                let error = from_write(error);
                let done = bytes.len() - rest.len();
                let message = if done == 0 { error.message } else { format!("{} (after {done} of {} bytes)", error.message, bytes.len()) };
                return Err(Error { message, ..error });
            }
        }
    }
    Ok(())
}

/// Replaces the contents of a granted file, or makes it: every reader sees the old or the new, and a failure leaves the old.
///
/// The new file takes over owner, group, permission bits, access lists and every other extended attribute, but not set-user-id,
/// set-group-id and file capabilities: new contents get nobody's rights. Where that is impossible (other names of the same file would keep
/// the old contents, the folder cannot be written, the owner cannot be given, the file is a mount point) it is written in place:
/// [`Written::atomic`] is then false, and what it needs of the filesystem is set aside before the old contents are touched.
///
/// # Errors
/// [`Kind::Changed`] when the name has become something else since the policy was asked; [`Kind::NoSpace`]; what the kernel reports.
pub fn replace<A: Action<On = File>>(granted: &Granted<A>, bytes: &[u8], mode: u32, sync: bool, watch: &Watch) -> Result<Written> {
    exchange(granted, None, bytes, mode, sync, watch)
}

/// Replaces the contents of a granted file as [`replace`] does, but only while it still holds what was read from it.
///
/// The last look at the old contents is right before the new take their place. Two runs of rex never both succeed with the same old contents;
/// another program that writes between the last look and the replacement is not seen.
///
/// # Errors
/// As [`replace`]; [`Kind::Changed`] also when it holds something else by now.
pub fn replace_seen<A: Action<On = File>>(granted: &Granted<A>, seen: &Seen, bytes: &[u8], sync: bool, watch: &Watch) -> Result<Written> {
    exchange(granted, Some(seen), bytes, 0, sync, watch)
}

/// What a file held when it was read: new contents that were worked out from it replace nothing else.
pub struct Seen {
    file: std::fs::File,
    bytes: Vec<u8>,
}

impl Seen {
    /// Reads a granted file and keeps it open.
    ///
    /// # Errors
    /// As [`super::file::read`].
    pub fn of<A: Action<On = File>>(granted: &Granted<A>, max_bytes: u64, watch: &Watch) -> Result<Self> {
        let bytes = super::file::read(granted, 0, None, max_bytes, watch)?;
        Ok(Self { file: super::file::open(granted)?, bytes })
    }
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Whether it holds that still. All of it is compared: the times of a file are too coarse to tell two writes of one moment apart.
    fn holds(&self, watch: &Watch) -> Result<bool> {
        let mut block = vec![0; BLOCK];
        let mut rest = self.bytes.as_slice();
        let mut at = 0;
        loop {
            watch.check()?;
            let got = match self.file.read_at(&mut block, at) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                done => done?,
            };
            let part = block.get(..got).unwrap_or_default();
            let Some(after) = rest.strip_prefix(part) else { return Ok(false) };
            if part.is_empty() {
                return Ok(rest.is_empty());
            }
            rest = after;
            at += got as u64;
        }
    }
}

/// A file that [`create_like`] made, to be taken away again if what it was made for fails.
pub struct Copy<'g, A: Action<On = File>> {
    granted: &'g Granted<A>,
    file: OwnedFd,
    pub bytes: u64,
}

impl<A: Action<On = File>> Copy<'_, A> {
    pub fn take_back(self) {
        if let Ok((folder, name)) = spot(self.granted) {
            unmake(folder, name, &self.file);
        }
    }
}

/// Makes a granted file that is another as it was seen: contents, owner, group, permission bits, access lists, extended attributes. Its name
/// appears when it is complete.
///
/// # Errors
/// As [`create`]; what chown(2) reports where the owner cannot be given.
pub fn create_like<'g, A: Action<On = File>>(granted: &'g Granted<A>, seen: &Seen, sync: bool, watch: &Watch) -> Result<Copy<'g, A>> {
    let () = Changes::<A>::OK;
    let (folder, name) = spot(granted)?;
    let stat = rustix::fs::fstat(&seen.file)?;
    let temporary = Temporary::new(folder).map_err(|errno| at(granted, "create", errno))?;
    temporary.take_over(&seen.file, &stat).map_err(|errno| at(granted, "make like the original", errno))?;
    temporary.fill(&seen.bytes, sync, watch).map_err(|error| error.with_path(granted.resource().asked().shown()))?;
    let file = temporary.file.try_clone()?.into();
    spot(granted)?;
    temporary.publish_new(name).map_err(|errno| at(granted, "create", errno))?;
    if sync {
        sync_folder(folder);
    }
    Ok(Copy { granted, file, bytes: seen.bytes.len() as u64 })
}

fn exchange<A: Action<On = File>>(
    granted: &Granted<A>,
    seen: Option<&Seen>,
    bytes: &[u8],
    mode: u32,
    sync: bool,
    watch: &Watch,
) -> Result<Written> {
    let () = Changes::<A>::OK;
    let file = granted.resource();
    let with_path = |error: Error| if error.path.is_none() { error.with_path(file.asked().shown()) } else { error };
    let Some(handle) = file.handle().filter(|_| file.exists()) else {
        let (folder, name) = spot(granted)?;
        let temporary = Temporary::new(folder).map_err(|errno| at(granted, "create", errno))?;
        rustix::fs::fchmod(&temporary.file, Mode::from_raw_mode(mode & 0o777)).map_err(|errno| at(granted, "chmod", errno))?;
        temporary.fill(bytes, sync, watch).map_err(with_path)?;
        spot(granted)?;
        temporary.publish_new(name).map_err(|errno| at(granted, "create", errno))?;
        if sync {
            sync_folder(folder);
        }
        return Ok(Written { bytes: bytes.len() as u64, created: true, atomic: true });
    };
    // Whoever may not write it may not replace it either, though the folder alone would do for rename(2). A program that runs can only be replaced.
    let old = match open_as(granted, OFlags::WRONLY) {
        Err(error) if error.errno == Some(libc::ETXTBSY) => open_as(granted, OFlags::RDONLY),
        opened => opened,
    }?;
    let stat = rustix::fs::fstat(&old)?;
    let done = Written { bytes: bytes.len() as u64, created: false, atomic: true };
    let (folder, name) = path::parent_of(file.place()).map_err(|_| changed(granted))?;
    // Also where it is written in place: what has lost its name would take the new contents with it.
    if !path::is_same(&folder, &name, handle) {
        return Err(changed(granted));
    }
    // Other names of the same file would keep the old contents.
    let alike =
        if stat.st_nlink == 1 { Temporary::like(&folder, &old, &stat).map_err(|errno| at(granted, "create", errno))? } else { None };
    if let Some(temporary) = alike {
        temporary.fill(bytes, sync, watch).map_err(with_path)?;
        let _alone = seen.map(|_| alone(&folder, watch)).transpose()?;
        if !path::is_same(&folder, &name, handle) {
            return Err(changed(granted));
        }
        unchanged(granted, seen, watch)?;
        match temporary.publish_over(OsStr::from_bytes(&name)) {
            Ok(()) => {
                if sync {
                    sync_folder(&folder);
                }
                return Ok(done);
            }
            // Another filesystem is mounted on it (a single file bound into a container).
            Err(Errno::BUSY | Errno::XDEV) => {}
            Err(errno) => return Err(at(granted, "rename", errno)),
        }
    }
    drop(old);
    let _alone = seen.map(|_| alone(&folder, watch)).transpose()?;
    unchanged(granted, seen, watch)?;
    in_place(granted, bytes, sync, watch).map_err(with_path)?;
    Ok(Written { atomic: false, ..done })
}

/// Whether the file holds what the new contents were worked out from.
fn unchanged<A: Action<On = File>>(granted: &Granted<A>, seen: Option<&Seen>, watch: &Watch) -> Result<()> {
    match seen.map(|seen| seen.holds(watch)).transpose()? {
        Some(false) => Err(Error::new(Kind::Changed, "its contents were changed meanwhile by something else; nothing was done")
            .with_path(granted.resource().asked().shown())),
        _ => Ok(()),
    }
}

/// Takes the lock of a folder, flock(2), for the moment in which a name in it is looked at for the last time and replaced: two runs that worked
/// out new contents from the same old ones do not overwrite each other. Anybody who may read the folder can hold its lock, so it is not waited
/// for long, and where the folder cannot be read it is done without.
fn alone(folder: &OwnedFd, watch: &Watch) -> Result<Option<OwnedFd>> {
    let Ok(opened) = path::reopen(folder, OFlags::RDONLY | OFlags::DIRECTORY) else { return Ok(None) };
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(opened)),
            Err(Errno::WOULDBLOCK) => watch.sleep(LOCK_PAUSE)?,
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

/// The same file, other contents.
fn in_place<A: Action<On = File>>(granted: &Granted<A>, bytes: &[u8], sync: bool, watch: &Watch) -> Result<()> {
    let file = open(granted, OFlags::WRONLY)?;
    let before = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
    let length = bytes.len() as u64;
    super::size::grows_to(&file, length)?;
    // Filesystems that cannot set room aside (procfs, some network filesystems) say so with other errors.
    if length > 0
        && let Err(errno @ (Errno::NOSPC | Errno::DQUOT)) = rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, length)
    {
        let _ = rustix::fs::ftruncate(&file, before);
        return Err(Error::os("write", errno.raw_os_error()));
    }
    fill(&file, bytes, watch)?;
    if before > length {
        rustix::fs::ftruncate(&file, length).map_err(|errno| Error::os("truncate", errno.raw_os_error()))?;
    }
    if sync {
        match rustix::fs::fsync(&file) {
            // Nothing to sync on procfs and its like.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(Error::os("fsync", errno.raw_os_error())),
        }
    }
    Ok(())
}

/// So that a new name survives a crash. Filesystems without it (and folders that may not be read) are not asked twice.
pub(super) fn sync_folder(folder: &OwnedFd) {
    if let Ok(opened) = path::reopen(folder, OFlags::RDONLY | OFlags::DIRECTORY) {
        let _ = rustix::fs::fsync(&opened);
    }
}

/// A name that nothing has, for what is not in its place yet.
pub(super) fn temporary_name() -> rustix::io::Result<String> {
    let mut chance = [0u8; 12];
    rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty())?;
    let chance: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!(".rex-{chance}.tmp"))
}

/// A file that takes another's place when it is complete, and is gone when it is not.
pub(super) struct Temporary<'a> {
    folder: &'a OwnedFd,
    name: String,
    pub(super) file: std::fs::File,
    published: bool,
}

impl<'a> Temporary<'a> {
    pub(super) fn new(folder: &'a OwnedFd) -> rustix::io::Result<Self> {
        let name = temporary_name()?;
        let file = born(folder, OsStr::new(&name), OFlags::WRONLY)?.into();
        Ok(Self { folder, name, file, published: false })
    }
    /// One with everything that belongs to the old file; nothing where that cannot be had here.
    pub(super) fn like(folder: &'a OwnedFd, old: &std::fs::File, stat: &Stat) -> rustix::io::Result<Option<Self>> {
        let new = match Self::new(folder) {
            Ok(new) => new,
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => return Err(errno),
            Err(_) => return Ok(None),
        };
        Ok(new.take_over(old, stat).is_ok().then_some(new))
    }
    fn take_over(&self, old: &std::fs::File, stat: &Stat) -> rustix::io::Result<()> {
        let own = rustix::fs::fstat(&self.file)?;
        if (own.st_uid, own.st_gid) != (stat.st_uid, stat.st_gid) {
            let owner = (own.st_uid != stat.st_uid).then(|| rustix::fs::Uid::from_raw(stat.st_uid));
            let group = (own.st_gid != stat.st_gid).then(|| rustix::fs::Gid::from_raw(stat.st_gid));
            rustix::fs::fchown(&self.file, owner, group)?;
        }
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(stat.st_mode & 0o7777 & !SET_ID))?;
        let mut lists = false;
        for name in attributes(old)? {
            if matches!(name.to_bytes(), b"security.capability" | b"security.ima" | b"security.evm") {
                // Rights of the old contents, and digests of them.
                continue;
            }
            lists |= name.to_bytes() == b"system.posix_acl_access";
            let Some(value) = attribute(old, &name)? else { continue };
            if attribute(&self.file, &name).ok().flatten().as_ref() != Some(&value) {
                rustix::fs::fsetxattr(&self.file, name.as_c_str(), &value, XattrFlags::empty())?;
            }
        }
        if !lists {
            // What the folder's default list gave.
            match rustix::fs::fremovexattr(&self.file, c"system.posix_acl_access") {
                Ok(()) => rustix::fs::fchmod(&self.file, Mode::from_raw_mode(stat.st_mode & 0o7777 & !SET_ID))?,
                Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
    fn fill(&self, bytes: &[u8], sync: bool, watch: &Watch) -> Result<()> {
        super::size::new_file(bytes.len() as u64)?;
        fill(&self.file, bytes, watch)?;
        if sync {
            rustix::fs::fsync(&self.file).map_err(|errno| Error::os("fsync", errno.raw_os_error()))?;
        }
        Ok(())
    }
    pub(super) fn publish_over(mut self, name: &OsStr) -> rustix::io::Result<()> {
        rustix::fs::renameat(self.folder, &self.name, self.folder, name)?;
        self.published = true;
        Ok(())
    }
    /// Only where nothing has the name.
    pub(super) fn publish_new(mut self, name: &OsStr) -> rustix::io::Result<()> {
        match rustix::fs::renameat_with(self.folder, &self.name, self.folder, name, RenameFlags::NOREPLACE) {
            Ok(()) => self.published = true,
            // Filesystems without it: a second name, and then the first one goes.
            Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::linkat(self.folder, &self.name, self.folder, name, AtFlags::empty())?,
            Err(errno) => return Err(errno),
        }
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.published {
            let _ = rustix::fs::unlinkat(self.folder, &self.name, AtFlags::empty());
        }
    }
}

/// The names of a file's extended attributes, listxattr(2); none where the filesystem has none.
pub(super) fn attributes(file: &std::fs::File) -> rustix::io::Result<Vec<std::ffi::CString>> {
    let mut names = vec![0u8; MAX_XATTR];
    let length = match rustix::fs::flistxattr(file, &mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(errno) => return Err(errno),
    };
    let names = names.get(..length).unwrap_or_default();
    Ok(names.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok()).map(CStr::to_owned).collect())
}

pub(super) fn attribute(file: &std::fs::File, name: &CStr) -> rustix::io::Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; MAX_XATTR];
    match rustix::fs::fgetxattr(file, name, &mut value) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        // It went meanwhile.
        Err(Errno::NODATA) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sets the time of the last change of a granted file to now.
///
/// # Errors
/// As [`super::file::open`]; what utimensat(2) reports.
pub fn touch<A: Action<On = File>>(granted: &Granted<A>) -> Result<()> {
    let () = Changes::<A>::OK;
    let file = open_as(granted, OFlags::WRONLY | OFlags::APPEND)?;
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    rustix::fs::futimens(&file, &Timestamps { last_access: now, last_modification: now }).map_err(|errno| at(granted, "touch", errno))
}

/// Sets the size of a granted file: cut off, or filled with zeros.
///
/// # Errors
/// As [`super::file::open`]; what truncate(2) reports.
pub fn truncate<A: Action<On = File>>(granted: &Granted<A>, size: u64) -> Result<()> {
    let file = open(granted, OFlags::WRONLY)?;
    super::size::grows_to(&file, size).map_err(|error| error.with_path(granted.resource().asked().shown()))?;
    rustix::fs::ftruncate(&file, size).map_err(|errno| at(granted, "truncate", errno))
}
