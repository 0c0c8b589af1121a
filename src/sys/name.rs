//! Names of granted things: made, taken away, given to something else. Each is looked at again right before the deed.

use super::write::{Changes, at, changed, spot};
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use crate::resource::path;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// The folder and name of a granted thing that is there; the name is still it, and the folder is where the policy saw it.
fn held<A: Action<On = File>>(granted: &Granted<A>) -> Result<(&OwnedFd, &OsStr)> {
    if let Some((folder, name)) = granted.resource().spot()
        && matches!(rustix::fs::statat(folder, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
    {
        return Err(at(granted, "stat", Errno::NOENT));
    }
    let (folder, name) = spot(granted)?;
    match granted.resource().handle() {
        Some(handle) if path::is_same(folder, name.as_bytes(), handle) => Ok((folder, name)),
        _ => Err(changed(granted)),
    }
}

/// Takes a granted name away: of a file, a link, a FIFO, a socket or a device, none of which is opened, or of an empty directory.
///
/// # Errors
/// [`Kind::Changed`], [`Kind::NotEmpty`], [`Kind::Busy`] of a mount point, and what unlink(2) and rmdir(2) report.
pub fn remove<A: Action<On = File>>(granted: &Granted<A>) -> Result<()> {
    let () = Changes::<A>::OK;
    let (folder, name) = held(granted)?;
    let flags = if granted.resource().is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    rustix::fs::unlinkat(folder, name, flags).map_err(|errno| at(granted, "remove", errno))
}

/// Makes a granted directory with exactly these permission bits, and the set-group-id bit where its folder hands that on.
///
/// # Errors
/// [`Kind::Exists`], [`Kind::NotFound`] without its folder, [`Kind::Changed`], and what mkdir(2) reports.
pub fn make_dir<A: Action<On = File>>(granted: &Granted<A>, mode: u32) -> Result<()> {
    let () = Changes::<A>::OK;
    let (folder, name) = spot(granted)?;
    // For its maker alone until it is as it shall be.
    rustix::fs::mkdirat(folder, name, Mode::RWXU).map_err(|errno| at(granted, "mkdir", errno))?;
    let set = || -> Result<()> {
        let made = open_dir(folder, name).map_err(|_| changed(granted))?;
        let stat = rustix::fs::fstat(&made).map_err(|errno| at(granted, "mkdir", errno))?;
        // A directory that somebody put in its place is another's, or looks otherwise.
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o777 != 0o700 {
            return Err(changed(granted));
        }
        let bits = (mode & 0o777) | (stat.st_mode & 0o2000);
        rustix::fs::fchmod(&made, Mode::from_raw_mode(bits)).map_err(|errno| at(granted, "chmod", errno))
    };
    set().inspect_err(|error| {
        // Only if it is empty, and not if it is something else.
        if error.kind != Kind::Changed {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR);
        }
    })
}

fn open_dir(folder: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

/// Makes a granted symbolic link with this text.
///
/// # Errors
/// As [`make_dir`]; what symlink(2) reports.
pub fn make_link<A: Action<On = File>>(granted: &Granted<A>, text: &[u8]) -> Result<()> {
    let () = Changes::<A>::OK;
    let (folder, name) = spot(granted)?;
    rustix::fs::symlinkat(OsStr::from_bytes(text), folder, name).map_err(|errno| at(granted, "symlink", errno))
}

/// Puts a symbolic link with this text in the place of a granted thing, in one step.
///
/// # Errors
/// [`Kind::Changed`]; what symlink(2) and rename(2) report.
pub fn make_link_over<A: Action<On = File>>(granted: &Granted<A>, text: &[u8]) -> Result<()> {
    let () = Changes::<A>::OK;
    over(granted, |folder, name| {
        rustix::fs::symlinkat(OsStr::from_bytes(text), folder, name).map_err(|errno| at(granted, "symlink", errno))
    })
}

/// Gives a granted file one more name, which is granted too.
///
/// # Errors
/// As [`make_dir`]; what link(2) reports, e.g. [`Kind::Permission`] where `fs.protected_hardlinks` refuses it.
pub fn hard_link<A: Action<On = File>, B: Action<On = File>>(existing: &Granted<A>, new: &Granted<B>) -> Result<()> {
    let () = Changes::<A>::OK;
    let () = Changes::<B>::OK;
    let (folder, name) = spot(new)?;
    link_pinned(existing, folder, name)
}

/// The same, in the place of a granted thing, in one step.
///
/// # Errors
/// As [`hard_link`].
pub fn hard_link_over<A: Action<On = File>, B: Action<On = File>>(existing: &Granted<A>, old: &Granted<B>) -> Result<()> {
    let () = Changes::<A>::OK;
    let () = Changes::<B>::OK;
    over(old, |folder, name| link_pinned(existing, folder, name))
}

/// Links what the handle holds, whatever its name is by now: through procfs, because AT_EMPTY_PATH needs a capability (link(2)).
fn link_pinned<A: Action<On = File>>(existing: &Granted<A>, folder: &OwnedFd, name: &OsStr) -> Result<()> {
    let Some(handle) = existing.resource().handle() else { return Err(changed(existing)) };
    let descriptor = handle.as_raw_fd().to_string();
    rustix::fs::linkat(path::own_descriptors()?, descriptor.as_str(), folder, name, AtFlags::SYMLINK_FOLLOW)
        .map_err(|errno| at(existing, "link", errno))
}

/// Gives a granted regular file another granted name, as the one it will have alone when something takes the place of the first.
/// False where no file can have two names here, or none of this kind.
///
/// # Errors
/// [`Kind::Exists`], [`Kind::Changed`].
pub fn keep_as<A: Action<On = File>, B: Action<On = File>>(old: &Granted<A>, backup: &Granted<B>) -> Result<bool> {
    if old.resource().kind() != Some(FileType::RegularFile) {
        return Ok(false);
    }
    held(old)?;
    match hard_link(old, backup) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind, Kind::Exists | Kind::Changed) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Takes the name of [`keep_as`] away again.
pub fn unkeep<A: Action<On = File>, B: Action<On = File>>(old: &Granted<A>, backup: &Granted<B>) {
    if let (Some(handle), Some((folder, name))) = (old.resource().handle(), backup.resource().spot())
        && path::is_same(folder, name, handle)
    {
        let _ = rustix::fs::unlinkat(folder, OsStr::from_bytes(name), AtFlags::empty());
    }
}

/// Gives a thing that was renamed to `backup` its name back, if nothing has it.
pub fn rename_back<A: Action<On = File>, B: Action<On = File>>(old: &Granted<A>, backup: &Granted<B>) {
    if let (Some(handle), Some((folder, name)), Some((first, own))) =
        (old.resource().handle(), backup.resource().spot(), old.resource().spot())
        && path::is_same(folder, name, handle)
    {
        let _ = without_replacing((folder, OsStr::from_bytes(name)), (first, OsStr::from_bytes(own)), false);
    }
}

/// Makes something under a name of its own beside a granted thing, and puts it in its place.
fn over<A: Action<On = File>>(old: &Granted<A>, make: impl FnOnce(&OwnedFd, &OsStr) -> Result<()>) -> Result<()> {
    let (folder, name) = held(old)?;
    let temporary = name_of_its_own()?;
    make(folder, &temporary)?;
    let put = if held(old).is_ok() {
        rustix::fs::renameat(folder, &temporary, folder, name).map_err(|errno| at(old, "rename", errno))
    } else {
        Err(changed(old))
    };
    // Also where both are the same file: then rename(2) does nothing.
    let _ = rustix::fs::unlinkat(folder, &temporary, AtFlags::empty());
    put
}

/// A name that nobody guesses.
pub(super) fn name_of_its_own() -> Result<OsString> {
    let chance = random_letters(20)?;
    Ok(format!(".rex-{chance}.tmp").into())
}

/// So many letters and digits, from the kernel.
///
/// # Errors
/// What getrandom(2) reports.
pub fn random_letters(count: usize) -> Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";
    let mut bytes = vec![0u8; count];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte % 32))).map(|byte| char::from(*byte)).collect())
}

/// Gives a granted thing another granted name that nothing has. Whether it crosses to another filesystem is told by EXDEV in [`Error::errno`].
///
/// # Errors
/// [`Kind::Exists`], [`Kind::Changed`], and what rename(2) reports.
pub fn rename<A: Action<On = File>, B: Action<On = File>>(from: &Granted<A>, to: &Granted<B>) -> Result<()> {
    let () = Changes::<A>::OK;
    let () = Changes::<B>::OK;
    let (folder, name) = held(from)?;
    let (new_folder, new_name) = spot(to)?;
    without_replacing((folder, name), (new_folder, new_name), from.resource().is_dir()).map_err(|errno| at(from, "rename", errno))?;
    confirm(from, (folder, name), (new_folder, new_name))
}

/// Puts a granted thing in the place of another that is granted too, in one step.
///
/// # Errors
/// [`Kind::Changed`], and what rename(2) reports.
pub fn rename_over<A: Action<On = File>, B: Action<On = File>>(from: &Granted<A>, onto: &Granted<B>) -> Result<()> {
    let () = Changes::<A>::OK;
    let () = Changes::<B>::OK;
    let (folder, name) = held(from)?;
    let (new_folder, new_name) = held(onto)?;
    rustix::fs::renameat(folder, name, new_folder, new_name).map_err(|errno| at(from, "rename", errno))?;
    // Two names of one file: rename(2) does nothing then.
    if let Some(handle) = from.resource().handle()
        && onto.resource().handle().is_some_and(|onto| same_object(handle, onto))
        && path::is_same(folder, name.as_bytes(), handle)
    {
        return rustix::fs::unlinkat(folder, name, AtFlags::empty()).map_err(|errno| at(from, "remove", errno));
    }
    Ok(())
}

fn same_object(a: &OwnedFd, b: &OwnedFd) -> bool {
    matches!((rustix::fs::fstat(a), rustix::fs::fstat(b)), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

pub(super) fn without_replacing(from: (&OwnedFd, &OsStr), to: (&OwnedFd, &OsStr), directory: bool) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
        // Filesystems without it.
        Err(Errno::INVAL | Errno::NOSYS) if !directory => {
            rustix::fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty())?;
            rustix::fs::unlinkat(from.0, from.1, AtFlags::empty())
        }
        // A directory takes the place of none but an empty one, rename(2).
        Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(from.0, from.1, to.0, to.1),
        done => done,
    }
}

/// That what was renamed is what was granted: the name could be given to something else between the look and the deed. That is put back.
fn confirm<A: Action<On = File>>(from: &Granted<A>, old: (&OwnedFd, &OsStr), new: (&OwnedFd, &OsStr)) -> Result<()> {
    let Some(handle) = from.resource().handle() else { return Ok(()) };
    let there = rustix::fs::statat(new.0, new.1, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    // What has no name there any more was taken on by somebody who waited for it.
    if !there || path::is_same(new.0, new.1.as_bytes(), handle) {
        return Ok(());
    }
    let _ = rustix::fs::renameat_with(new.0, new.1, old.0, old.1, RenameFlags::NOREPLACE);
    Err(changed(from))
}

/// Whether something is mounted on a granted thing.
///
/// # Errors
/// What statx(2) reports.
pub fn is_mount_point<A: Action<On = File>>(granted: &Granted<A>) -> Result<bool> {
    let file = granted.resource();
    let Some(handle) = file.handle() else { return Ok(false) };
    match rustix::fs::statx(handle, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS) {
        Ok(told) if told.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Ok(told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        // Linux before 5.8: another filesystem than the folder's.
        Ok(_) | Err(Errno::NOSYS) => {
            let above = file.spot().and_then(|(folder, _)| rustix::fs::fstat(folder).ok());
            Ok(matches!((above, file.stat()), (Some(above), Some(own)) if above.st_dev != own.st_dev))
        }
        Err(errno) => Err(at(granted, "stat", errno)),
    }
}

/// Whether this account may take names out of a granted directory. (Immutable files and sticky folders can still refuse.)
pub fn may_empty<A: Action<On = File>>(granted: &Granted<A>) -> bool {
    granted.resource().handle().is_some_and(may_change)
}

/// The same of the folder that a granted thing is in.
pub fn may_leave<A: Action<On = File>>(granted: &Granted<A>) -> bool {
    granted.resource().spot().is_some_and(|(folder, _)| may_change(folder))
}

fn may_change(folder: &OwnedFd) -> bool {
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::accessat(folder, c".", access, AtFlags::EACCESS).is_ok()
}

/// The error of a thing that cannot be where something is mounted.
#[must_use]
pub fn busy(file: &File) -> Error {
    Error::new(Kind::Busy, "something is mounted on it").with_path(file.asked().shown())
}
