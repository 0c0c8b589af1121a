//! Files of the operator's own, replaced in one step: whoever reads them sees the old text or the new, and nothing between.

use crate::error::{Error, Kind, Result};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::io::Write;
use std::path::Path;

use super::trusted::{read_up_to, real_path};

/// Replaces a regular file that still has the content `old`. Owner, group and mode stay; through a link, what it leads to is replaced.
///
/// # Errors
/// [`Kind::Changed`] when it has another content by now, [`Kind::NotAFile`], or the system's own error; the old file is there then as it was.
pub fn replace(path: &Path, old: &[u8], new: &[u8]) -> Result<()> {
    let real = real_path(path.to_path_buf());
    let at = |what: &'static str| move |errno: Errno| Error::os(what, errno.raw_os_error());
    let named = |error: Error| error.with_path(path.display().to_string());
    let (Some(folder), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(named(Error::new(Kind::NotAFile, "this names no file")));
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(at("open the folder"))
        .map_err(named)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let present = rustix::fs::openat(&folder, name, flags, Mode::empty()).map_err(at("open")).map_err(named)?;
    let stat = rustix::fs::fstat(&present).map_err(at("look at")).map_err(named)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(named(Error::new(Kind::NotAFile, "a regular file is needed")));
    }
    if read_up_to(&present, old.len() as u64 + 1).map_err(at("read")).map_err(named)? != old {
        return Err(named(Error::new(Kind::Changed, "somebody changed the file meanwhile; it is left as it is")));
    }
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.new", std::process::id()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd =
        rustix::fs::openat(&folder, &temporary, flags, Mode::RUSR | Mode::WUSR).map_err(at("create a file beside it")).map_err(named)?;
    let written = (|| {
        let mut file = std::fs::File::from(fd);
        file.write_all(new)?;
        let made = rustix::fs::fstat(&file)?;
        if (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid) {
            rustix::fs::fchown(&file, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        file.sync_all()?;
        rustix::fs::renameat(&folder, &temporary, &folder, name)?;
        rustix::fs::fsync(&folder)?;
        Ok::<(), std::io::Error>(())
    })();
    written.map_err(|error| {
        let _ = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
        named(error.into())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_is_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        symlink("a", folder.path().join("link")).unwrap();
        replace(&folder.path().join("link"), b"old", b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert!(folder.path().join("link").is_symlink());
        assert_eq!(replace(&path, b"old", b"newer").unwrap_err().kind, Kind::Changed);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        assert_eq!(replace(folder.path(), b"", b"").unwrap_err().kind, Kind::NotAFile);
    }
}
