//! A secret file of rex's own (the host key): read only when nobody else can read it, and created whole or not at all.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::trusted::{Owner, Trusted};
use crate::error::{Error, Kind, Result};

/// The content of a secret: a regular file (no symlink) of the user this process runs as, with no permission for group or others,
/// in folders that nobody else can write ([`Trusted`]). `None` when there is no such file.
///
/// # Errors
/// [`Kind::Config`] with what is wrong and how to mend it; the system's own error otherwise.
pub fn read_secret(path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    let stat = match rustix::fs::lstat(path) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(at(path, Error::os("look at", errno.raw_os_error()))),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refused(path, "a secret must be a regular file, not a link or anything else".into(), "name the file itself"));
    }
    let me = rustix::process::geteuid().as_raw();
    if stat.st_uid != me {
        return Err(refused(path, format!("a secret must belong to the user that uses it (owner {}, user {me})", stat.st_uid), "chown it"));
    }
    if stat.st_mode & 0o077 != 0 {
        let mode = stat.st_mode & 0o7777;
        return Err(refused(
            path,
            format!("others can read or write this secret (mode {mode:04o})"),
            "chmod 0600, and make a new key if it was ever read",
        ));
    }
    // The folders and the file are judged again by Trusted; between the two looks only root or this user could have changed anything.
    Trusted::new(Owner::RootOrSelf).read(path, max).map(Some)
}

/// Writes a new secret with mode 0600; missing folders are created with mode 0700. The file appears whole or not at all, and an
/// existing one is never replaced. Returns false when there was one already (another process was quicker).
///
/// # Errors
/// The system's own error; nothing is left behind then.
pub fn create_secret(path: &Path, content: &[u8]) -> Result<bool> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refused(path, "this names no file".into(), "give the path of a file, from `/` on"));
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| at(folder, error.into()))?;
    let fail = |what: &'static str| move |errno: Errno| at(path, Error::os(what, errno.raw_os_error()));
    let folder_fd =
        rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(fail("open the folder"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.new", std::process::id()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&folder_fd, &temporary, flags, Mode::RUSR | Mode::WUSR).map_err(fail("create"))?;
    let mut file = std::fs::File::from(fd);
    let written = file.write_all(content).and_then(|()| file.sync_all()).map_err(|error| at(path, error.into()));
    // link(2) fails where the name exists; rename(2) would replace it.
    let linked = written.and_then(|()| match rustix::fs::linkat(&folder_fd, &temporary, &folder_fd, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(fail("create")(errno)),
    });
    rustix::fs::unlinkat(&folder_fd, &temporary, AtFlags::empty()).map_err(fail("remove the temporary file of"))?;
    rustix::fs::fsync(&folder_fd).map_err(fail("sync the folder of"))?;
    linked
}

fn at(path: &Path, error: Error) -> Error {
    error.with_path(path.display().to_string())
}

fn refused(path: &Path, fault: String, mend: &str) -> Error {
    at(path, Error::new(Kind::Config, fault).with_hint(mend))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_new_secret_is_0600_in_a_0700_folder_and_nothing_else_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/host");
        assert!(create_secret(&path, b"one").unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(read_secret(&path, 100).unwrap().unwrap(), b"one");
    }

    #[test]
    fn an_existing_secret_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host");
        assert!(create_secret(&path, b"one").unwrap());
        assert!(!create_secret(&path, b"two").unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_that_others_can_read_or_that_is_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host");
        assert!(read_secret(&path, 100).unwrap().is_none());
        create_secret(&path, b"one").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_secret(&path, 100).unwrap_err().kind, Kind::Config, "mode {mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read_secret(&path, 100).unwrap().is_some());
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(read_secret(&link, 100).unwrap_err().kind, Kind::Config);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(read_secret(&path, 100).unwrap_err().kind, Kind::Config, "a folder that everybody can write");
    }
}
