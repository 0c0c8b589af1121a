//! Moving granted things to another filesystem: copied under a name of their own beside the place, compared, and given their name when all is whole.

use super::file::open_as;
use super::name::{name_of_its_own, without_replacing};
use super::write::{Changes, at, attribute, attributes, born, changed, from_write, spot};
use crate::error::{Error, Kind, Result};
use crate::limits::Watch;
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use crate::resource::path;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Bytes copied between two looks at the watch.
const PIECE: usize = 1 << 20;
/// Folders on the way down that stay open; those above are found again through their children.
const HELD: usize = 16;

/// An object of the kernel: filesystem and number.
type Id = (u64, u64);

/// What a source was when it was copied.
struct Seen {
    size: i64,
    mtime: (i64, u64),
    /// Where its copy is, below the top, for its other names.
    copy: Vec<u8>,
}

/// A folder being filled.
struct Level {
    folder: Option<OwnedFd>,
    id: Id,
}

/// A copy in the making. It is gone when it is not published.
pub struct Staging {
    /// Where it will get its name.
    place: OwnedFd,
    /// Its name until then.
    name: OsString,
    levels: Vec<Level>,
    /// The names of the folders on the way, below the top.
    way: Vec<Vec<u8>>,
    seen: HashMap<Id, Seen>,
    /// Bytes of files.
    bytes: u64,
    /// What it is, once it is begun.
    top: Option<OwnedFd>,
    published: bool,
}

/// What was copied whole, so that nothing else is removed from where it came.
pub struct Copied {
    seen: HashMap<Id, Seen>,
    pub bytes: u64,
}

impl Copied {
    /// Whether this is what was copied, unchanged since.
    #[must_use]
    pub fn holds(&self, file: &File) -> bool {
        file.stat().is_some_and(|stat| {
            self.seen.get(&id_of(stat)).is_some_and(|seen| seen.size == stat.st_size && seen.mtime == (stat.st_mtime, nanoseconds(stat)))
        })
    }
}

#[allow(clippy::unnecessary_cast, reason = "other integers on other architectures")]
fn id_of(stat: &Stat) -> Id {
    (stat.st_dev as u64, stat.st_ino as u64)
}

#[allow(clippy::unnecessary_cast, reason = "other integers on other architectures")]
fn nanoseconds(stat: &Stat) -> u64 {
    stat.st_mtime_nsec as u64
}

/// Whether a move to another filesystem can make such a thing there.
#[must_use]
pub fn can_copy(kind: Option<FileType>) -> bool {
    matches!(kind, Some(FileType::RegularFile | FileType::Directory | FileType::Symlink))
}

impl Staging {
    /// One beside the granted place.
    ///
    /// # Errors
    /// [`Kind::NotFound`] without a folder, [`Kind::Changed`].
    pub fn new<B: Action<On = File>>(to: &Granted<B>) -> Result<Self> {
        let () = Changes::<B>::OK;
        let (folder, _) = spot(to)?;
        let place = path::reopen(folder, OFlags::RDONLY | OFlags::DIRECTORY).or_else(|_| folder.try_clone().map_err(Error::from))?;
        Ok(Self {
            place,
            name: name_of_its_own()?,
            levels: Vec::new(),
            way: Vec::new(),
            seen: HashMap::new(),
            bytes: 0,
            top: None,
            published: false,
        })
    }

    /// The folder and name for the next thing.
    fn here<'a, B: Action<On = File>>(&'a self, to: &'a Granted<B>) -> Result<(&'a OwnedFd, &'a OsStr)> {
        match self.levels.last() {
            None => Ok((&self.place, &self.name)),
            Some(level) => {
                let folder = level.folder.as_ref().ok_or_else(lost)?;
                Ok((folder, OsStr::from_bytes(to.resource().name())))
            }
        }
    }

    /// Where the next thing will be, below the top.
    fn below(&self, name: &OsStr) -> Vec<u8> {
        let mut below = self.way.join(&b'/');
        if !below.is_empty() {
            below.push(b'/');
        }
        below.extend_from_slice(name.as_bytes());
        below
    }

    /// Begins the copy of a granted directory; what is put then goes into it, until [`Self::leave`].
    ///
    /// # Errors
    /// What mkdir(2) reports.
    pub fn enter<A: Action<On = File>, B: Action<On = File>>(&mut self, _from: &Granted<A>, to: &Granted<B>) -> Result<()> {
        let () = Changes::<A>::OK;
        let () = Changes::<B>::OK;
        let (folder, name) = self.here(to)?;
        rustix::fs::mkdirat(folder, name, Mode::RWXU).map_err(|errno| at(to, "mkdir", errno))?;
        let made = open_dir(folder, name).map_err(|errno| {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR);
            at(to, "open", errno)
        })?;
        let id = id_of(&rustix::fs::fstat(&made).map_err(|errno| at(to, "stat", errno))?);
        if self.levels.is_empty() {
            self.top = Some(made.try_clone()?);
        } else {
            self.way.push(to.resource().name().to_vec());
        }
        self.levels.push(Level { folder: Some(made), id });
        if let Some(above) = self.levels.len().checked_sub(HELD + 1).and_then(|at| self.levels.get_mut(at)) {
            above.folder = None;
        }
        Ok(())
    }

    /// Ends the copy of a granted directory: it gets the owner, mode, times and extended attributes of the source.
    ///
    /// # Errors
    /// What stands against one of these.
    pub fn leave<A: Action<On = File>>(&mut self, from: &Granted<A>) -> Result<()> {
        let () = Changes::<A>::OK;
        let Some(Level { folder: Some(made), .. }) = self.levels.pop() else { return Err(lost()) };
        self.way.pop();
        if let Some(above) = self.levels.last_mut()
            && above.folder.is_none()
        {
            let up = open_dir(&made, OsStr::new("..")).map_err(|errno| at(from, "open", errno))?;
            if id_of(&rustix::fs::fstat(&up)?) != above.id {
                return Err(changed(from));
            }
            above.folder = Some(up);
        }
        let handle = from.resource().handle().ok_or_else(|| changed(from))?;
        let source: std::fs::File = path::reopen(handle, OFlags::RDONLY | OFlags::DIRECTORY)?.into();
        let stat = from.resource().stat().ok_or_else(|| changed(from))?;
        take_over(&made.into(), &source, stat).map_err(|(what, errno)| kept_not(from, what, errno))
    }

    /// Copies a granted file or symbolic link. Of a file both sides are compared.
    ///
    /// # Errors
    /// [`Kind::Changed`] when it changes meanwhile; what the kernel reports.
    pub fn put<A: Action<On = File>, B: Action<On = File>>(&mut self, from: &Granted<A>, to: &Granted<B>, watch: &Watch) -> Result<()> {
        let () = Changes::<A>::OK;
        let () = Changes::<B>::OK;
        let source = from.resource();
        let stat = source.stat().ok_or_else(|| changed(from))?;
        let id = id_of(stat);
        let (folder, name) = self.here(to)?;
        if let Some(seen) = self.seen.get(&id)
            && let Some(top) = &self.top
        {
            // One more name of what is copied already.
            return rustix::fs::linkat(top, OsStr::from_bytes(&seen.copy), folder, name, AtFlags::empty())
                .map_err(|errno| at(to, "link", errno));
        }
        let (made, stat, bytes) = match source.kind() {
            Some(FileType::RegularFile) => copy_file(from, to, (folder, name), watch)?,
            Some(FileType::Symlink) => (copy_link(from, to, (folder, name))?, *stat, 0),
            _ => return Err(Error::new(Kind::Unsupported, "this cannot be copied").with_path(source.asked().shown())),
        };
        let copy = self.below(name);
        self.seen.insert(id, Seen { size: stat.st_size, mtime: (stat.st_mtime, nanoseconds(&stat)), copy });
        self.bytes += bytes;
        if self.top.is_none() {
            self.top = Some(made);
        }
        Ok(())
    }

    /// Waits until the copy is on the disk, and gives it its name, which nothing may have.
    ///
    /// # Errors
    /// [`Kind::Exists`], [`Kind::Changed`].
    pub fn publish<B: Action<On = File>>(&mut self, to: &Granted<B>) -> Result<()> {
        self.settle(to)?;
        let (folder, name) = spot(to)?;
        without_replacing((&self.place, &self.name), (folder, name), self.is_dir()).map_err(|errno| at(to, "rename", errno))?;
        self.published = true;
        super::write::sync_folder(&self.place);
        Ok(())
    }

    /// The same, in the place of a granted thing.
    ///
    /// # Errors
    /// [`Kind::Changed`].
    pub fn publish_over<B: Action<On = File>>(&mut self, onto: &Granted<B>) -> Result<()> {
        self.settle(onto)?;
        let (folder, name) = spot(onto)?;
        if !onto.resource().handle().is_some_and(|handle| path::is_same(folder, name.as_bytes(), handle)) {
            return Err(changed(onto));
        }
        rustix::fs::renameat(&self.place, &self.name, folder, name).map_err(|errno| at(onto, "rename", errno))?;
        self.published = true;
        super::write::sync_folder(&self.place);
        Ok(())
    }

    /// What was copied.
    #[must_use]
    pub fn copied(mut self) -> Copied {
        Copied { seen: std::mem::take(&mut self.seen), bytes: self.bytes }
    }

    fn is_dir(&self) -> bool {
        let kind = self.top.as_ref().and_then(|top| rustix::fs::fstat(top).ok()).map(|stat| FileType::from_raw_mode(stat.st_mode));
        kind == Some(FileType::Directory)
    }

    /// The copy is what it was and is on the disk: the source goes next.
    fn settle<B: Action<On = File>>(&self, to: &Granted<B>) -> Result<()> {
        let Some(top) = self.top.as_ref().filter(|top| path::is_same(&self.place, self.name.as_bytes(), top)) else {
            return Err(changed(to));
        };
        match if self.is_dir() { rustix::fs::syncfs(top) } else { rustix::fs::fsync(top) } {
            // A link cannot be synced, and some filesystems have nothing to sync.
            Ok(()) | Err(Errno::BADF | Errno::INVAL) => Ok(()),
            Err(errno) => Err(at(to, "fsync", errno)),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let Some(top) = self.top.take() else { return };
        if self.is_dir_fd(&top) {
            let _ = clear(&top);
        }
        if path::is_same(&self.place, self.name.as_bytes(), &top) {
            let flags = if self.is_dir_fd(&top) { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            let _ = rustix::fs::unlinkat(&self.place, &self.name, flags);
        }
    }
}

impl Staging {
    fn is_dir_fd(&self, fd: &OwnedFd) -> bool {
        rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }
}

fn lost() -> Error {
    Error::new(Kind::Internal, "a copy lost its folder")
}

fn open_dir(folder: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(folder, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// An attribute that the other filesystem or this account cannot give to the copy.
fn kept_not<A: Action<On = File>>(from: &Granted<A>, what: &str, errno: Errno) -> Error {
    let error = at(from, what, errno);
    Error { message: format!("{} cannot be kept on the other filesystem ({})", what, error.message), ..error }
}

/// The copy of a file, what the source was, and how many bytes. What is not whole is taken away.
fn copy_file<A: Action<On = File>, B: Action<On = File>>(
    from: &Granted<A>,
    to: &Granted<B>,
    (folder, name): (&OwnedFd, &OsStr),
    watch: &Watch,
) -> Result<(OwnedFd, Stat, u64)> {
    let mut source = open_as(from, OFlags::RDONLY)?;
    let before = rustix::fs::fstat(&source).map_err(|errno| at(from, "stat", errno))?;
    let made = born(folder, name, OFlags::RDWR).map_err(|errno| at(to, "create", errno))?;
    let mut copy: std::fs::File = made.into();
    let mut whole = || -> Result<u64> {
        let (bytes, digest) = pour(&mut source, &mut copy, watch).map_err(|error| error.with_path(from.resource().asked().shown()))?;
        let after = rustix::fs::fstat(&source).map_err(|errno| at(from, "stat", errno))?;
        let times = |stat: &Stat| (stat.st_size, stat.st_mtime, nanoseconds(stat));
        if times(&before) != times(&after) {
            return Err(Error::new(Kind::Changed, "it was written to while it was copied; nothing was done")
                .with_path(from.resource().asked().shown()));
        }
        copy.seek(SeekFrom::Start(0))?;
        if digest_of(&mut copy, watch)? != (bytes, digest) {
            return Err(Error::new(Kind::Io, "the copy is not what was copied").with_path(to.resource().asked().shown()));
        }
        take_over(&copy, &source, &before).map_err(|(what, errno)| kept_not(from, what, errno))?;
        Ok(bytes)
    };
    match whole() {
        Ok(bytes) => Ok((copy.into(), before, bytes)),
        Err(error) => {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
            Err(error)
        }
    }
}

/// Everything from one file into another, holes as holes; how much, and its digest.
fn pour(source: &mut std::fs::File, copy: &mut std::fs::File, watch: &Watch) -> Result<(u64, blake3::Hash)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0u8; PIECE];
    let mut bytes = 0u64;
    // All of it is refused before any of it is copied.
    super::size::new_file(u64::try_from(rustix::fs::fstat(&*source)?.st_size).unwrap_or(0))?;
    loop {
        watch.check()?;
        let count = read(source, &mut buffer)?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
        hasher.update(piece);
        bytes += count as u64;
        super::size::new_file(bytes)?;
        if piece.iter().all(|byte| *byte == 0) {
            copy.seek(SeekFrom::Start(bytes))?;
        } else {
            copy.write_all(piece).map_err(from_write)?;
        }
    }
    copy.set_len(bytes)?;
    Ok((bytes, hasher.finalize()))
}

fn digest_of(file: &mut std::fs::File, watch: &Watch) -> Result<(u64, blake3::Hash)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0u8; PIECE];
    let mut bytes = 0u64;
    loop {
        watch.check()?;
        let count = read(file, &mut buffer)?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
        hasher.update(piece);
        bytes += count as u64;
    }
    Ok((bytes, hasher.finalize()))
}

fn read(file: &mut std::fs::File, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            done => return Ok(done?),
        }
    }
}

/// A symbolic link with the same text, owner and times; a handle of it.
fn copy_link<A: Action<On = File>, B: Action<On = File>>(
    from: &Granted<A>,
    to: &Granted<B>,
    (folder, name): (&OwnedFd, &OsStr),
) -> Result<OwnedFd> {
    let text = super::dir::link_target(from)?;
    let stat = from.resource().stat().ok_or_else(|| changed(from))?;
    rustix::fs::symlinkat(OsStr::from_bytes(&text), folder, name).map_err(|errno| at(to, "symlink", errno))?;
    let whole = || -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(folder, name, flags, Mode::empty()).map_err(|errno| at(to, "open", errno))?;
        let own = rustix::fs::fstat(&made).map_err(|errno| at(to, "stat", errno))?;
        if let Some((owner, group)) = other_owner(&own, stat) {
            rustix::fs::chownat(folder, name, owner, group, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| kept_not(from, "owner", errno))?;
        }
        rustix::fs::utimensat(folder, name, &times_of(stat), AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| kept_not(from, "times", errno))?;
        Ok(made)
    };
    whole().inspect_err(|_| {
        let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
    })
}

fn other_owner(own: &Stat, wanted: &Stat) -> Option<(Option<Uid>, Option<Gid>)> {
    let owner = (own.st_uid != wanted.st_uid).then(|| Uid::from_raw(wanted.st_uid));
    let group = (own.st_gid != wanted.st_gid).then(|| Gid::from_raw(wanted.st_gid));
    (owner.is_some() || group.is_some()).then_some((owner, group))
}

#[allow(clippy::unnecessary_cast, clippy::cast_possible_wrap, reason = "other integers on other architectures; nanoseconds are below 10^9")]
fn times_of(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

/// Owner, group, mode, access lists, other extended attributes and times, as a rename keeps them. Or which of them it could not be.
fn take_over(copy: &std::fs::File, source: &std::fs::File, times: &Stat) -> std::result::Result<(), (&'static str, Errno)> {
    let because = |what: &'static str| move |errno: Errno| (what, errno);
    let stat = rustix::fs::fstat(source).map_err(because("stat"))?;
    let own = rustix::fs::fstat(copy).map_err(because("stat"))?;
    if let Some((owner, group)) = other_owner(&own, &stat) {
        rustix::fs::fchown(copy, owner, group).map_err(because("owner"))?;
    }
    let wanted = attributes(source).map_err(because("extended attributes"))?;
    for name in attributes(copy).map_err(because("extended attributes"))? {
        // Lists that the folder handed on.
        if name.to_bytes().starts_with(b"system.posix_acl") && !wanted.contains(&name) {
            rustix::fs::fremovexattr(copy, name.as_c_str()).map_err(because("access lists"))?;
        }
    }
    for name in wanted {
        if name.to_bytes().starts_with(b"btrfs.") {
            // A setting of that filesystem, and nothing of the file.
            continue;
        }
        let Some(value) = attribute(source, &name).map_err(because("extended attributes"))? else { continue };
        if attribute(copy, &name).ok().flatten().as_ref() != Some(&value) {
            rustix::fs::fsetxattr(copy, name.as_c_str(), &value, XattrFlags::empty()).map_err(because("extended attributes"))?;
        }
    }
    // After the owner, which takes set-user-id away.
    rustix::fs::fchmod(copy, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(because("mode"))?;
    rustix::fs::futimens(copy, &times_of(times)).map_err(because("times"))
}

/// Empties a directory that was made here, however deep: one is open at a time, and the way back up is checked.
fn clear(top: &OwnedFd) -> rustix::io::Result<()> {
    let mut here = open_dir(top, OsStr::new("."))?;
    let mut way: Vec<(Id, OsString)> = Vec::new();
    loop {
        match first_folder(&here)? {
            Some(name) => {
                let id = id_of(&rustix::fs::fstat(&here)?);
                // Attributes of the source may be on it already.
                let down = match open_dir(&here, &name) {
                    Err(Errno::ACCESS) => {
                        rustix::fs::chmodat(&here, &name, Mode::RWXU, AtFlags::empty())?;
                        open_dir(&here, &name)?
                    }
                    opened => opened?,
                };
                if rustix::fs::fstat(&down)?.st_mode & 0o300 != 0o300 {
                    rustix::fs::fchmod(&down, Mode::RWXU)?;
                }
                way.push((id, name));
                here = down;
            }
            None => {
                let Some((id, name)) = way.pop() else { return Ok(()) };
                let up = open_dir(&here, OsStr::new(".."))?;
                if id_of(&rustix::fs::fstat(&up)?) != id {
                    return Err(Errno::STALE);
                }
                rustix::fs::unlinkat(&up, &name, AtFlags::REMOVEDIR)?;
                here = up;
            }
        }
    }
}

/// Removes what is no directory, up to the first one, whose name is returned.
fn first_folder(folder: &OwnedFd) -> rustix::io::Result<Option<OsString>> {
    let listed = open_dir(folder, OsStr::new("."))?;
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut entries = RawDir::new(listed, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let name = OsStr::from_bytes(name);
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => return Ok(Some(OsString::from_vec(name.as_bytes().to_vec()))),
            done => done?,
        }
    }
    Ok(None)
}
