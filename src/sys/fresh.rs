//! Files made whole from a stream: written beside their place, put there in one step when complete, and gone when they are not.

use super::file::open_as;
use super::stream::{Check, to_io};
use super::write::{Changes, Temporary, at, changed, from_write, spot};
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use crate::resource::path;
use rustix::fs::{Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

/// Bytes copied between two looks at the check.
const BLOCK: usize = 128 << 10;

/// A moment as the kernel keeps it: seconds since the epoch, and nanoseconds.
pub type Moment = (i64, u32);

/// How a new file is born. One that is replaced keeps its own mode and owner.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    /// Permission bits; set-user-id, set-group-id and sticky only where they were asked for as a `chmod`.
    pub mode: u32,
    /// Who owns it, where that was asked for as a `chown`: user and group.
    pub owner: Option<(u32, u32)>,
    /// When its contents last changed; now, if left out.
    pub mtime: Option<Moment>,
    /// What it replaces was made by this call too, and keeps nothing.
    pub anew: bool,
}

impl Birth {
    /// A file of whoever runs rex.
    #[must_use]
    pub fn plain(mode: u32, mtime: Option<Moment>) -> Self {
        Self { mode: mode & 0o777, owner: None, mtime, anew: false }
    }
    /// Gives a file that has no name yet its owner and bits. The owner first: the kernel takes set-user-id from what changes hands.
    fn settle<A: Action<On = File>>(&self, granted: &Granted<A>, file: &std::fs::File) -> Result<()> {
        if let Some((uid, gid)) = self.owner {
            rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(|errno| at(granted, "chown", errno))?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode & 0o7777)).map_err(|errno| at(granted, "chmod", errno))
    }
}

/// Where the contents go while the file is not yet in its place.
pub struct Sink<'a> {
    file: &'a std::fs::File,
    bytes: u64,
}

impl Sink<'_> {
    /// The bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// Device and inode, to tell it from the files around it.
    ///
    /// # Errors
    /// What fstat(2) reports.
    pub fn identity(&self) -> Result<(u64, u64)> {
        let stat = rustix::fs::fstat(self.file)?;
        Ok((stat.st_dev, stat.st_ino))
    }
    /// Makes it longer by zeros that take no room on the disk.
    ///
    /// # Errors
    /// What ftruncate(2) and lseek(2) report.
    pub fn skip(&mut self, zeros: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(zeros);
        super::size::new_file(self.bytes)?;
        rustix::fs::ftruncate(self.file, self.bytes).map_err(|errno| Error::os("truncate", errno.raw_os_error()))?;
        rustix::fs::seek(self.file, rustix::fs::SeekFrom::Start(self.bytes)).map_err(|errno| Error::os("seek", errno.raw_os_error()))?;
        Ok(())
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        super::size::new_file(self.bytes.saturating_add(bytes.len() as u64)).map_err(to_io)?;
        let mut file = self.file;
        match file.write(bytes) {
            Ok(count) => {
                self.bytes += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            // So that it is not taken for an error of reading further up.
            Err(error) => Err(to_io(from_write(error))),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a granted file with what `fill` writes, or puts it in the place of the regular file that is there. Nothing is left of it when it fails.
///
/// # Errors
/// Those of `fill`; [`Kind::Exists`] when something else has got the name meanwhile; [`Kind::Changed`]; what the kernel reports.
pub fn make<A: Action<On = File>, T>(granted: &Granted<A>, birth: Birth, fill: impl FnOnce(&mut Sink<'_>) -> Result<T>) -> Result<T> {
    let () = Changes::<A>::OK;
    let file = granted.resource();
    let filled = |temporary: &Temporary<'_>| -> Result<T> {
        let done = fill(&mut Sink { file: &temporary.file, bytes: 0 })?;
        if let Some((tv_sec, nanos)) = birth.mtime {
            let time = Timespec { tv_sec, tv_nsec: nanos.into() };
            rustix::fs::futimens(&temporary.file, &Timestamps { last_access: time, last_modification: time })
                .map_err(|errno| at(granted, "set times", errno))?;
        }
        Ok(done)
    };
    let Some(handle) = file.handle().filter(|_| file.exists()) else {
        let (folder, name) = spot(granted)?;
        let temporary = Temporary::new(folder).map_err(|errno| at(granted, "create", errno))?;
        let done = filled(&temporary)?;
        birth.settle(granted, &temporary.file)?;
        spot(granted)?;
        temporary.publish_new(name).map_err(|errno| at(granted, "create", errno))?;
        return Ok(done);
    };
    // Whoever may not write it may not replace it either, though the folder alone would do for rename(2). A program that runs can only be replaced.
    let old = match open_as(granted, OFlags::WRONLY) {
        Err(error) if error.errno == Some(libc::ETXTBSY) => open_as(granted, OFlags::RDONLY),
        opened => opened,
    }?;
    let stat = rustix::fs::fstat(&old)?;
    let (folder, name) = path::parent_of(file.place()).map_err(|_| changed(granted))?;
    if !path::is_same(&folder, &name, handle) {
        return Err(changed(granted));
    }
    let Some(temporary) = Temporary::like(&folder, &old, &stat).map_err(|errno| at(granted, "create", errno))? else {
        return Err(
            Error::new(Kind::Permission, "it cannot be replaced with its owner, mode and attributes kept").with_path(file.asked().shown())
        );
    };
    let done = filled(&temporary)?;
    if birth.anew {
        birth.settle(granted, &temporary.file)?;
    }
    if !path::is_same(&folder, &name, handle) {
        return Err(changed(granted));
    }
    temporary.publish_over(OsStr::from_bytes(&name)).map_err(|errno| at(granted, "rename", errno))?;
    Ok(done)
}

/// Copies all there is, in pieces between which the run can be stopped; how much that was.
///
/// # Errors
/// Those of both sides and of the check.
pub fn pour(from: &mut dyn Read, to: &mut dyn Write, check: Check<'_>) -> Result<u64> {
    pour_through(&mut Vec::new(), from, to, check)
}

/// The same with a buffer of the caller's, for many small things.
///
/// # Errors
/// As [`pour`].
pub fn pour_through(buffer: &mut Vec<u8>, from: &mut dyn Read, to: &mut dyn Write, check: Check<'_>) -> Result<u64> {
    buffer.resize(BLOCK, 0);
    let mut bytes = 0;
    loop {
        check()?;
        let count = match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            done => done.map_err(super::stream::from_io)?,
        };
        if count == 0 {
            return Ok(bytes);
        }
        to.write_all(buffer.get(..count).unwrap_or_default()).map_err(super::stream::from_io)?;
        bytes += count as u64;
    }
}
