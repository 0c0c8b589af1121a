//! What lies on this host, for the owner's own commands: kinds, owners, modes, names in folders, texts of bounded size. Never for a script.

use crate::error::{Error, Kind, Result};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::trusted::{Owner, Trusted};

/// What stat(2) says of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub kind: FileType,
    pub uid: u32,
    pub gid: u32,
    /// Permission bits, with set-user-id and the like.
    pub mode: u32,
    pub size: u64,
    /// Of its last change of contents, in seconds since 1970.
    pub modified: i64,
}

impl Facts {
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.kind == FileType::Directory
    }
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile
    }
}

/// The facts of what the path leads to; None where nothing is there.
///
/// # Errors
/// The system's own, where it does not tell.
pub fn of(path: &Path) -> Result<Option<Facts>> {
    found(path, rustix::fs::stat(path))
}

/// The same of a link itself.
///
/// # Errors
/// As [`of`].
pub fn of_link(path: &Path) -> Result<Option<Facts>> {
    found(path, rustix::fs::lstat(path))
}

fn found(path: &Path, stat: rustix::io::Result<Stat>) -> Result<Option<Facts>> {
    match stat {
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_sign_loss,
            reason = "the fields differ between architectures; no file has a negative size"
        )]
        Ok(stat) => Ok(Some(Facts {
            kind: FileType::from_raw_mode(stat.st_mode),
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            size: stat.st_size as u64,
            modified: stat.st_mtime as i64,
        })),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(told("look at", path, errno)),
    }
}

/// The names in a folder, sorted; at most so many.
///
/// # Errors
/// [`Kind::NotFound`], [`Kind::TooLarge`], or the system's own.
pub fn names(folder: &Path, most: usize) -> Result<Vec<OsString>> {
    let failed = |error: std::io::Error| Error::from(error).with_path(folder.display().to_string());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name());
        if names.len() > most {
            return Err(Error::new(Kind::TooLarge, format!("more than {most} names in a folder")).with_path(folder.display().to_string()));
        }
    }
    names.sort();
    Ok(names)
}

/// Where a link leads, as it is written; None where the path is no link.
#[must_use]
pub fn link(path: &Path) -> Option<PathBuf> {
    std::fs::read_link(path).ok()
}

/// The text of a regular file of at most `max` bytes, whoever owns it; bytes that are no UTF-8 are replaced. None where nothing is there.
///
/// # Errors
/// What keeps it from being read.
pub fn text(path: &Path, max: u64) -> Result<Option<String>> {
    match Trusted::new(Owner::Unchecked).read(path, max) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What files of /proc and /sys say in one line, without the end of the line.
#[must_use]
pub fn kernel_says(path: &str) -> Option<String> {
    text(Path::new(path), 1 << 16).ok().flatten().map(|text| text.trim().to_owned())
}

/// Room on the filesystem of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes for accounts without rights.
    pub free: u64,
    pub total: u64,
    /// Files that can still be made; None where the filesystem does not count them.
    pub files: Option<u64>,
    pub read_only: bool,
}

/// None where the path is not there.
#[must_use]
pub fn room(path: &Path) -> Option<Room> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(Room {
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
        files: (stat.f_files > 0).then_some(stat.f_favail),
        read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

fn told(what: &str, path: &Path, errno: Errno) -> Error {
    Error::os(what, errno.raw_os_error()).with_path(path.display().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_there_is_told_and_what_is_not_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("b"), "text\n").unwrap();
        std::fs::set_permissions(at("b"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("b", at("a")).unwrap();
        let facts = of(&at("a")).unwrap().unwrap();
        assert_eq!((facts.is_file(), facts.mode, facts.size), (true, 0o640, 5));
        assert_eq!(of_link(&at("a")).unwrap().unwrap().kind, FileType::Symlink);
        assert_eq!(link(&at("a")), Some("b".into()));
        assert_eq!((of(&at("c")).unwrap(), of(&at("b/c")).unwrap()), (None, None));
        assert_eq!(names(dir.path(), 2).unwrap(), ["a", "b"]);
        assert_eq!(names(dir.path(), 1).unwrap_err().kind, Kind::TooLarge);
        assert_eq!((text(&at("b"), 5).unwrap(), text(&at("c"), 5).unwrap()), (Some("text\n".into()), None));
        assert!(text(&at("b"), 4).is_err() && text(dir.path(), 4).is_err());
        assert!(room(dir.path()).unwrap().total > 0);
    }
}
