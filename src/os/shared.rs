//! Folders that root makes where tmpfiles.d(5) has not: with the modes of packaging/tmpfiles.d, so that other accounts can use them; and the file of an
//! account in such a folder.

use crate::error::{Error, Kind, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Gid, Mode, OFlags, Stat, fstat};
use rustix::io::Errno;
use std::path::Path;

/// The group whose sessions may use what is made; packaging/sysusers.d makes it.
pub const GROUP: &str = "rexusers";
/// Where no such group is, root alone may use it, until there is one.
const ALONE: u32 = 0o700;
const ABOVE: u32 = 0o755;

/// Makes the folder with this mode for the group `gid`, and the folders above it where they are missing; the name of the folder may not be a link.
/// A folder that is there stays as it is, but for one that was made while there was no such group.
///
/// # Errors
/// Those of mkdir(2), open(2), fchown(2) and fchmod(2).
pub fn make(path: &Path, mode: u32, gid: Option<u32>) -> rustix::io::Result<()> {
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_above(above)?;
    }
    let made = match rustix::fs::mkdir(path, Mode::from_raw_mode(ALONE)) {
        Err(Errno::EXIST) => false,
        done => done.map(|()| true)?,
    };
    let Some(gid) = gid else { return Ok(()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = fstat(&folder)?;
    if own(&stat) && (made || stat.st_gid == 0 && stat.st_mode & 0o7777 == ALONE) {
        rustix::fs::fchown(&folder, None, Some(Gid::from_raw(gid)))?;
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode))?;
    }
    Ok(())
}

/// Opens a file of this process's account in a folder that several accounts write to, for reading and for writing at its end, and makes it where it is
/// not there. Root makes the folder too.
///
/// # Errors
/// When the folder is not there or anybody could replace what is in it, or when the file is not this account's alone.
pub fn own_file(folder: &Path, mode: u32, gid: impl FnOnce() -> Option<u32>, name: &str) -> Result<(OwnedFd, Stat)> {
    let uid = rustix::process::geteuid();
    if uid.is_root() && folder.is_absolute() {
        make(folder, mode, gid())?;
    }
    let odd = |what: &str| Error::new(Kind::Config, format!("{}: {what}", folder.display()));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::open(folder, flags, Mode::empty())?;
    let stat = fstat(&place)?;
    if stat.st_uid != 0 && stat.st_uid != uid.as_raw() {
        return Err(odd("belongs to another user"));
    }
    if stat.st_mode & 0o022 != 0 && stat.st_mode & 0o1000 == 0 {
        return Err(odd("others can remove what is in it: it needs the sticky bit"));
    }
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = |flags| rustix::fs::openat(&place, name, flags, Mode::from_raw_mode(0o600));
    let fd = match open(flags) {
        Err(Errno::NOENT) => open(flags | OFlags::CREATE | OFlags::EXCL).or_else(|_| open(flags))?,
        other => other?,
    };
    let stat = fstat(&fd)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !regular || stat.st_uid != uid.as_raw() || stat.st_nlink != 1 || stat.st_mode & 0o022 != 0 {
        return Err(odd("the file of this account is not its own"));
    }
    Ok((fd, stat))
}

fn make_above(path: &Path) -> rustix::io::Result<()> {
    // Links above are the owner's business.
    if path.exists() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make_above(above)?;
    }
    match rustix::fs::mkdir(path, Mode::from_raw_mode(ALONE)) {
        // Another start was first, and gives it its mode.
        Err(Errno::EXIST) => return Ok(()),
        done => done?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    if own(&fstat(&folder)?) {
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(ABOVE))?;
    }
    Ok(())
}

/// What was put in the place of a folder that was just made is not touched.
fn own(stat: &Stat) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn what_is_made_is_open_to_the_group_and_what_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let gid = rustix::process::getegid().as_raw();
        let at = |name: &str| dir.path().join(name);
        let mode = |name: &str| at(name).metadata().unwrap().mode() & 0o7777;
        make(&at("a/b/c"), 0o3770, Some(gid)).unwrap();
        assert_eq!((mode("a"), mode("a/b"), mode("a/b/c")), (0o755, 0o755, 0o3770));
        std::fs::create_dir(at("there")).unwrap();
        std::fs::set_permissions(at("there"), std::fs::Permissions::from_mode(0o750)).unwrap();
        make(&at("there"), 0o3770, Some(gid)).unwrap();
        assert_eq!(mode("there"), 0o750);
        make(&at("alone"), 0o3770, None).unwrap();
        assert_eq!(mode("alone"), 0o700, "there is no group");
        if rustix::process::geteuid().is_root() {
            make(&at("alone"), 0o1770, Some(7)).unwrap();
            assert_eq!((mode("alone"), at("alone").metadata().unwrap().gid()), (0o1770, 7), "there is one by now");
        }
        symlink("there", at("link")).unwrap();
        assert!(make(&at("link"), 0o3770, Some(gid)).is_err());
        assert_eq!(mode("there"), 0o750);
    }
}
