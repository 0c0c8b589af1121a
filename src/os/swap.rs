//! A folder of files put in the place of another in one step: whoever opens the name finds the old set or the new one, whole.

use crate::error::{Error, Kind, Result};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Entries of a folder that this module removes: it removes what it made, not whatever somebody put there.
const MOST: usize = 20_000;

/// The folder that holds the set, locked against others who put a set in place (flock(2)). The lock goes with it.
pub struct Place {
    above: OwnedFd,
    path: PathBuf,
    /// The name of the set in force.
    name: OsString,
}

/// A set that is written and synced, under a name that nobody reads; removed unless it is put in force.
pub struct Staged<'p> {
    place: &'p Place,
    name: OsString,
    kept: bool,
}

impl Place {
    /// # Errors
    /// [`Kind::NotFound`] when there is no such folder; [`Kind::Busy`] when another activation is at work; the system's own error.
    pub fn lock(above: &Path, name: &str) -> Result<Self> {
        let told = |what: &str, errno: Errno| Error::os(what, errno.raw_os_error()).with_path(above.display().to_string());
        let folder = rustix::fs::open(above, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty()).map_err(|errno| told("open", errno))?;
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { above: folder, path: above.to_path_buf(), name: name.into() }),
            Err(Errno::WOULDBLOCK) => Err(Error::new(Kind::Busy, "another activation is at work").with_path(above.display().to_string())),
            Err(errno) => Err(told("lock", errno)),
        }
    }

    fn told(&self, what: &str, name: &OsStr, errno: Errno) -> Error {
        Error::os(what, errno.raw_os_error()).with_path(self.path.join(name).display().to_string())
    }

    /// The name under which the set that was in force before is kept.
    fn previous(&self) -> OsString {
        let mut name = self.name.clone();
        name.push(".previous");
        name
    }

    /// Where the set that was in force before is kept.
    #[must_use]
    pub fn previous_path(&self) -> PathBuf {
        self.path.join(self.previous())
    }

    /// Writes files into a new folder, mode 0755 and 0644, and waits until the disk has them.
    ///
    /// # Errors
    /// The system's own: then nothing is left.
    pub fn stage(&self, files: &[(OsString, Vec<u8>)]) -> Result<Staged<'_>> {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(format!(".{}", std::process::id()));
        // What an activation that was killed left under this name.
        remove(&self.above, &name);
        rustix::fs::mkdirat(&self.above, &name, Mode::from_raw_mode(0o700)).map_err(|errno| self.told("make", &name, errno))?;
        let staged = Staged { place: self, name, kept: false };
        staged.fill(files)?;
        Ok(staged)
    }

    /// Puts what was in force before in force again; what is in force now is kept in its place, so that the same call undoes itself.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when nothing was kept; the system's own error: then nothing has changed.
    pub fn swap_with_previous(&self) -> Result<()> {
        let previous = self.previous();
        rustix::fs::renameat_with(&self.above, &previous, &self.above, &self.name, RenameFlags::EXCHANGE)
            .map_err(|errno| self.told("exchange", &previous, errno))?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.above).map_err(|errno| self.told("sync", OsStr::new(""), errno))
    }
}

impl Staged<'_> {
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.place.path.join(&self.name)
    }

    fn fill(&self, files: &[(OsString, Vec<u8>)]) -> Result<()> {
        let place = self.place;
        let folder =
            rustix::fs::openat(&place.above, &self.name, FOLDER, Mode::empty()).map_err(|errno| place.told("open", &self.name, errno))?;
        for (name, bytes) in files {
            let told =
                |what: &str, errno: Errno| Error::os(what, errno.raw_os_error()).with_path(self.path().join(name).display().to_string());
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o600)).map_err(|errno| told("make", errno))?;
            let mut file = std::fs::File::from(fd);
            file.write_all(bytes)?;
            // The umask of rex is 0077; sessions of other accounts read the files.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644)).map_err(|errno| told("change the mode of", errno))?;
            rustix::fs::fsync(&file).map_err(|errno| told("sync", errno))?;
        }
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o755)).map_err(|errno| place.told("change the mode of", &self.name, errno))?;
        rustix::fs::fsync(&folder).map_err(|errno| place.told("sync", &self.name, errno))
    }

    /// Exchanges the names (renameat2(2), `RENAME_EXCHANGE`). What was in force is kept as the previous set, in place of the one kept so far.
    /// Gives whether there was a set before.
    ///
    /// # Errors
    /// The system's own: then what was in force still is.
    pub fn put_in_force(mut self) -> Result<bool> {
        let place = self.place;
        let rename = |from: &OsStr, to: &OsStr, flags| rustix::fs::renameat_with(&place.above, from, &place.above, to, flags);
        let had = match rename(&self.name, &place.name, RenameFlags::EXCHANGE) {
            Ok(()) => true,
            Err(Errno::NOENT) => {
                rename(&self.name, &place.name, RenameFlags::NOREPLACE).map_err(|errno| place.told("rename", &self.name, errno))?;
                false
            }
            Err(errno) => return Err(place.told("exchange", &self.name, errno)),
        };
        if had {
            // From here on the new set is in force; the staged name holds the old one.
            let previous = place.previous();
            // The staged name then holds the set before the old one, which nobody needs any more, or nothing.
            let kept = rename(&self.name, &previous, RenameFlags::EXCHANGE)
                .or_else(|_| rename(&self.name, &previous, RenameFlags::NOREPLACE).inspect(|()| self.kept = true));
            if let Err(errno) = kept {
                // What cannot be kept stays in force: the staged name is removed, and must hold the new set then.
                if rename(&self.name, &place.name, RenameFlags::EXCHANGE).is_err() {
                    self.kept = true;
                }
                return Err(place.told("keep", &previous, errno));
            }
        } else {
            self.kept = true;
        }
        place.sync()?;
        Ok(had)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.place.above, &self.name);
        }
    }
}

/// Removes a folder of files, or a link to one; never what lies in folders below it.
fn remove(above: &OwnedFd, name: &OsStr) {
    if let Ok(folder) = rustix::fs::openat(above, name, FOLDER, Mode::empty())
        && let Ok(entries) = rustix::fs::Dir::read_from(&folder)
    {
        for entry in entries.flatten().take(MOST) {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                let _ = rustix::fs::unlinkat(&folder, name, AtFlags::empty());
            }
        }
        drop(folder);
        let _ = rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR);
    } else {
        let _ = rustix::fs::unlinkat(above, name, AtFlags::empty());
    }
}
