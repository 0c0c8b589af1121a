//! Making what an archive holds besides files: directories and links, each by its name in a pinned folder. No link is ever followed.

use super::fresh::{Birth, Moment};
use super::write::{Changes, at, changed, spot, temporary_name};
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use crate::resource::path;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Device and inode of something that was made.
pub type Identity = (u64, u64);

/// The identity of what has been pinned.
#[must_use]
pub fn identity(file: &File) -> Option<Identity> {
    file.stat().map(|stat| (stat.st_dev, stat.st_ino))
}

/// Makes a granted directory, closed to others until [`settle`] opens it.
///
/// # Errors
/// [`Kind::Exists`], [`Kind::Changed`], and what mkdir(2) reports.
pub fn make_dir<A: Action<On = File>>(granted: &Granted<A>) -> Result<Identity> {
    let () = Changes::<A>::OK;
    let (folder, name) = spot(granted)?;
    rustix::fs::mkdirat(folder, name, Mode::RWXU).map_err(|errno| at(granted, "create", errno))?;
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| at(granted, "create", errno))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Gives a directory that this run has made its owner, mode and time. Set-user-id, set-group-id, sticky and another owner only where these were asked
/// for as `chmod` and `chown`.
///
/// # Errors
/// [`Kind::Changed`] when it is no longer the one that was made; what the kernel reports.
pub fn settle<A: Action<On = File>>(granted: &Granted<A>, made: Identity, birth: Birth) -> Result<()> {
    let () = Changes::<A>::OK;
    let dir = granted.resource();
    let Some(handle) = dir.handle().filter(|_| dir.is_dir() && identity(dir) == Some(made)) else { return Err(changed(granted)) };
    let open = path::reopen(handle, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|error| error.with_path(dir.asked().shown()))?;
    if let Some((uid, gid)) = birth.owner {
        rustix::fs::fchown(&open, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(|errno| at(granted, "chown", errno))?;
    }
    rustix::fs::fchmod(&open, Mode::from_raw_mode(birth.mode & 0o7777)).map_err(|errno| at(granted, "chmod", errno))?;
    if let Some(mtime) = birth.mtime {
        rustix::fs::futimens(&open, &times(mtime)).map_err(|errno| at(granted, "set times", errno))?;
    }
    Ok(())
}

fn times((tv_sec, nanos): Moment) -> Timestamps {
    let time = Timespec { tv_sec, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Makes a granted symbolic link, of another owner only where that was asked for as a `chown`.
///
/// # Errors
/// [`Kind::Exists`], [`Kind::Changed`], and what symlink(2) and chown(2) report.
pub fn make_symlink<A: Action<On = File>>(granted: &Granted<A>, target: &[u8], birth: Birth) -> Result<()> {
    let () = Changes::<A>::OK;
    let (folder, name) = spot(granted)?;
    rustix::fs::symlinkat(OsStr::from_bytes(target), folder, name).map_err(|errno| at(granted, "create", errno))?;
    if let Some((uid, gid)) = birth.owner {
        // What has the name by now is pinned and looked at: whoever may write the folder could have put another file there, which would be given away.
        let link = rustix::fs::openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| at(granted, "chown", errno))?;
        let stat = rustix::fs::fstat(&link).map_err(|errno| at(granted, "chown", errno))?;
        let own = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_nlink == 1;
        if !own || FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Err(changed(granted));
        }
        rustix::fs::chownat(&link, c"", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)
            .map_err(|errno| at(granted, "chown", errno))?;
    }
    if let Some(mtime) = birth.mtime {
        // Some filesystems keep no times of links.
        let _ = rustix::fs::utimensat(folder, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW);
    }
    Ok(())
}

/// Gives a file that this run has made a second, granted name; a file that has the name already loses it. `old` was found by its name.
///
/// # Errors
/// [`Kind::Changed`] when one of the names has become something else; [`Kind::Exists`], and what link(2) reports.
pub fn make_link<A: Action<On = File>>(granted: &Granted<A>, old: &File, made: Identity) -> Result<()> {
    let () = Changes::<A>::OK;
    let (folder, name) = spot(granted)?;
    let (Some((old_folder, old_name)), Some(handle)) = (old.spot(), old.handle()) else {
        return Err(Error::new(Kind::Internal, "a link to something that was not found by its name"));
    };
    if identity(old) != Some(made) {
        return Err(changed(granted));
    }
    let over = granted.resource().handle();
    let beside = over.map(|_| temporary_name()).transpose().map_err(|errno| at(granted, "link", errno))?;
    let first = beside.as_deref().map_or(name, OsStr::new);
    rustix::fs::linkat(old_folder, OsStr::from_bytes(old_name), folder, first, AtFlags::empty())
        .map_err(|errno| at(granted, "link", errno))?;
    // The kernel takes names here, so what it linked is looked at afterwards.
    let mut done = if path::is_same(folder, first.as_bytes(), handle) { Ok(()) } else { Err(changed(granted)) };
    if let (Some(over), true) = (over, done.is_ok()) {
        done = if path::is_same(folder, name.as_bytes(), over) {
            rustix::fs::renameat(folder, first, folder, name).map_err(|errno| at(granted, "rename", errno))
        } else {
            Err(changed(granted))
        };
    }
    if done.is_err() {
        let _ = rustix::fs::unlinkat(folder, first, AtFlags::empty());
    }
    done
}
