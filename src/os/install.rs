//! Files, folders and links that `rex setup` puts on a host and takes away again: whole or not at all, with owner and mode, through no link on the way.

use crate::error::{Error, Kind, Result};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::trusted::read_up_to;

/// Bytes of a file that is looked at; rex itself is copied, not looked at.
const MAX: u64 = 8 << 20;
/// Of a file that is not in place yet.
const ENDING: &str = ".rex-new";
/// What else a file has that is to survive its replacement: who may use it besides its owner (acl(5)), and SELinux's label.
const KEPT: &[&str] = &["system.posix_acl_access", "security.selinux"];

/// A file as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub content: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Owner and mode that something is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// What is at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    Nothing,
    File(Found),
    Folder(Rights),
    Link(PathBuf),
    /// A device, socket, FIFO.
    Other,
}

fn told<'a>(what: &'static str, path: &'a Path) -> impl Fn(Errno) -> Error + 'a {
    move |errno| Error::os(what, errno.raw_os_error()).with_path(path.display().to_string())
}

fn parts(path: &Path) -> Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if path.is_absolute() => Ok((folder, name)),
        _ => Err(Error::new(Kind::BadArgument, "this names no file from `/` on").with_path(path.display().to_string())),
    }
}

/// The folder, reached through no link: in the home of an account a link would be that account's to place.
fn folder(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS)
}

fn rights_of(stat: &Stat) -> Rights {
    Rights { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid }
}

/// What is there. A missing folder above means: nothing.
///
/// # Errors
/// The system's own, a link on the way among them; [`Kind::TooLarge`] for a file over 8 MiB.
pub fn look(path: &Path) -> Result<Thing> {
    let (above, name) = parts(path)?;
    let above = match folder(above) {
        Ok(above) => above,
        Err(Errno::NOENT) => return Ok(Thing::Nothing),
        Err(Errno::LOOP) => return Err(through_a_link(path)),
        Err(errno) => return Err(told("open the folder of", path)(errno)),
    };
    let stat = match rustix::fs::statat(&above, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(Thing::Nothing),
        Err(errno) => return Err(told("look at", path)(errno)),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(Thing::Folder(rights_of(&stat))),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&above, name, Vec::new()).map_err(told("read the link", path))?;
            Ok(Thing::Link(PathBuf::from(OsString::from(target.to_string_lossy().into_owned()))))
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&above, name, flags, Mode::empty()).map_err(told("open", path))?;
            let stat = rustix::fs::fstat(&file).map_err(told("look at", path))?;
            let content = read_up_to(&file, MAX + 1).map_err(told("read", path))?;
            if content.len() as u64 > MAX {
                return Err(Error::new(Kind::TooLarge, format!("larger than {} MiB", MAX >> 20)).with_path(path.display().to_string()));
            }
            let Rights { mode, uid, gid } = rights_of(&stat);
            Ok(Thing::File(Found { content, mode, uid, gid }))
        }
        _ => Ok(Thing::Other),
    }
}

fn through_a_link(path: &Path) -> Error {
    Error::new(Kind::Config, "there is a link on the way to it").with_path(path.display().to_string())
}

/// The path with the links of the folders above resolved: for places whose folders are the owner's, such as a linked /home.
#[must_use]
pub fn settled(path: &Path) -> PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(above), Some(name)) => std::fs::canonicalize(above).unwrap_or_else(|_| above.to_path_buf()).join(name),
        _ => path.to_path_buf(),
    }
}

/// Writes a file: whoever opens it finds the old content or the new, whole, and the disk has it when this returns.
///
/// # Errors
/// The system's own: the old file is there then as it was.
pub fn put(path: &Path, content: &[u8], rights: Rights) -> Result<()> {
    let (above, name) = parts(path)?;
    let above = folder(above).map_err(told("open the folder of", path))?;
    let temporary = temporary(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&above, &temporary, flags, Mode::RUSR | Mode::WUSR).map_err(told("make a file beside", path))?;
    let written = fill(fd, content, rights).and_then(|file| {
        keep(&above, name, &file);
        rustix::fs::fsync(&file).map_err(told("sync", path))?;
        rustix::fs::renameat(&above, &temporary, &above, name).map_err(told("put in place", path))
    });
    match written {
        // The name is the new file's already; that the folder may be written later is no reason to say it is not.
        Ok(()) => {
            let _ = rustix::fs::fsync(&above);
            Ok(())
        }
        Err(error) => {
            let _ = rustix::fs::unlinkat(&above, &temporary, AtFlags::empty());
            Err(Error { path: Some(path.display().to_string()), ..error })
        }
    }
}

fn temporary(name: &OsStr) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}{ENDING}", std::process::id()));
    temporary
}

fn fill(fd: OwnedFd, content: &[u8], rights: Rights) -> Result<std::fs::File> {
    let mut file = std::fs::File::from(fd);
    file.write_all(content)?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(rights.uid)), Some(Gid::from_raw(rights.gid)))?;
    // After the owner, whose change takes set-id bits away; and the umask has no say.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(rights.mode))?;
    Ok(file)
}

/// Carries the access control list and label of the file that is replaced over to the new one. Where a file system has none there is nothing to keep.
fn keep(above: &OwnedFd, name: &OsStr, new: &std::fs::File) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(old) = rustix::fs::openat(above, name, flags, Mode::empty()) else { return };
    for attribute in KEPT {
        let mut value = [0_u8; 4096];
        if let Ok(length) = rustix::fs::fgetxattr(&old, *attribute, &mut value)
            && let Some(value) = value.get(..length)
        {
            let _ = rustix::fs::fsetxattr(new, *attribute, value, rustix::fs::XattrFlags::empty());
        }
    }
}

/// Copies this program to a new file.
///
/// # Errors
/// [`Kind::Exists`], or the system's own.
pub fn copy_program(path: &Path, rights: Rights) -> Result<()> {
    let content = std::fs::read("/proc/self/exe").map_err(|error| Error::from(error).with_path("/proc/self/exe"))?;
    if !matches!(look(path)?, Thing::Nothing) {
        return Err(Error::new(Kind::Exists, "it is there already").with_path(path.display().to_string()));
    }
    put(path, &content, rights)
}

/// SHA-256 of a file of any size, in hex.
///
/// # Errors
/// The system's own.
pub fn digest(path: &Path) -> Result<String> {
    let content = std::fs::read(path).map_err(|error| Error::from(error).with_path(path.display().to_string()))?;
    Ok(super::digest::hex(&super::digest::sha256(&content)))
}

/// Removes a file or a link, not what it leads to. Gives whether there was one.
///
/// # Errors
/// The system's own.
pub fn remove(path: &Path) -> Result<bool> {
    let (above, name) = parts(path)?;
    let above = match folder(above) {
        Ok(above) => above,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(told("open the folder of", path)(errno)),
    };
    match rustix::fs::unlinkat(&above, name, AtFlags::empty()) {
        Ok(()) => {
            let _ = rustix::fs::fsync(&above);
            Ok(true)
        }
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(told("remove", path)(errno)),
    }
}

/// Gives a file another name in its folder, where nothing has that name.
///
/// # Errors
/// [`Kind::Exists`], or the system's own.
pub fn rename(path: &Path, name: &OsStr) -> Result<PathBuf> {
    let (above, old) = parts(path)?;
    let fd = folder(above).map_err(told("open the folder of", path))?;
    rustix::fs::renameat_with(&fd, old, &fd, name, RenameFlags::NOREPLACE).map_err(told("rename", path))?;
    Ok(above.join(name))
}

/// Makes a folder.
///
/// # Errors
/// [`Kind::Exists`], or the system's own: then it is not there.
pub fn make_folder(path: &Path, rights: Rights) -> Result<()> {
    let (above, name) = parts(path)?;
    let above = folder(above).map_err(told("open the folder above", path))?;
    rustix::fs::mkdirat(&above, name, Mode::RWXU).map_err(told("make the folder", path))?;
    let made = rustix::fs::openat(&above, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .and_then(|made| {
            rustix::fs::fchown(&made, Some(Uid::from_raw(rights.uid)), Some(Gid::from_raw(rights.gid)))?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(rights.mode))
        });
    made.map_err(|errno| {
        let _ = rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR);
        told("give the folder its owner and mode", path)(errno)
    })
}

/// Removes what a [`put`] of this file that was killed left beside it. For whoever knows that none is under way.
pub fn sweep(path: &Path) {
    let Some((folder, name)) = path.parent().zip(path.file_name()) else { return };
    let begin = format!(".{}.", name.to_string_lossy());
    for left in super::facts::names(folder, 1 << 16).unwrap_or_default() {
        let number = left.to_str().and_then(|left| left.strip_prefix(&begin)?.strip_suffix(ENDING));
        if number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())) {
            let _ = remove(&folder.join(left));
        }
    }
}

/// Gives a folder or a regular file that is there this owner and mode.
///
/// # Errors
/// The system's own.
pub fn give(path: &Path, rights: Rights) -> Result<()> {
    let (above, name) = parts(path)?;
    let above = folder(above).map_err(told("open the folder of", path))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let thing = rustix::fs::openat(&above, name, flags, Mode::empty()).map_err(told("open", path))?;
    rustix::fs::fchown(&thing, Some(Uid::from_raw(rights.uid)), Some(Gid::from_raw(rights.gid)))
        .map_err(told("change the owner of", path))?;
    rustix::fs::fchmod(&thing, Mode::from_raw_mode(rights.mode)).map_err(told("change the mode of", path))
}

/// Removes a folder that is empty. Gives whether it is gone.
///
/// # Errors
/// The system's own, but for a folder that is not empty.
pub fn remove_folder(path: &Path) -> Result<bool> {
    let (above, name) = parts(path)?;
    let above = match folder(above) {
        Ok(above) => above,
        Err(Errno::NOENT) => return Ok(true),
        Err(errno) => return Err(told("open the folder above", path)(errno)),
    };
    match rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(told("remove the folder", path)(errno)),
    }
}

/// Removes a folder of what rex made itself, and can make again, with all in it.
///
/// # Errors
/// The system's own.
pub fn remove_made(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::from(error).with_path(path.display().to_string())),
        _ => Ok(()),
    }
}

/// Holds a folder against another process of rex that holds it too, until this is dropped (flock(2)).
///
/// # Errors
/// [`Kind::Busy`], or the system's own.
pub fn hold(path: &Path) -> Result<OwnedFd> {
    let held = folder(path).map_err(told("open", path))?;
    match rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(held),
        Err(Errno::WOULDBLOCK) => Err(Error::new(Kind::Busy, "another setup is at work").with_path(path.display().to_string())),
        Err(errno) => Err(told("lock", path)(errno)),
    }
}

/// Makes a symbolic link.
///
/// # Errors
/// [`Kind::Exists`], or the system's own.
pub fn link(path: &Path, target: &Path) -> Result<()> {
    let (above, name) = parts(path)?;
    let above = folder(above).map_err(told("open the folder of", path))?;
    rustix::fs::symlinkat(target, above.as_fd(), name).map_err(told("link", path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        (folder, path)
    }
    fn mine(mode: u32) -> Rights {
        Rights { mode, uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    #[test]
    fn a_file_is_written_replaced_and_removed() {
        let (_folder, path) = place();
        let file = path.join("a");
        assert_eq!(look(&file).unwrap(), Thing::Nothing);
        put(&file, b"one", mine(0o640)).unwrap();
        put(&file, b"two", mine(0o644)).unwrap();
        let Thing::File(found) = look(&file).unwrap() else { panic!() };
        assert_eq!((found.content.as_slice(), found.mode), (&b"two"[..], 0o644));
        assert_eq!(rename(&file, OsStr::new("b")).unwrap(), path.join("b"));
        for left in [".b.12.rex-new", ".b.x.rex-new", ".bb.12.rex-new"] {
            std::fs::write(path.join(left), "").unwrap();
        }
        sweep(&path.join("b"));
        assert!(
            !path.join(".b.12.rex-new").exists()
                && remove(&path.join(".b.x.rex-new")).unwrap()
                && remove(&path.join(".bb.12.rex-new")).unwrap()
        );
        assert!(remove(&path.join("b")).unwrap() && !remove(&path.join("b")).unwrap());
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn links_are_seen_and_never_gone_through() {
        let (_folder, path) = place();
        std::fs::create_dir(path.join("real")).unwrap();
        std::fs::write(path.join("real/secret"), "x").unwrap();
        symlink("real", path.join("way")).unwrap();
        symlink("real/secret", path.join("last")).unwrap();
        assert_eq!(look(&path.join("last")).unwrap(), Thing::Link("real/secret".into()));
        assert!(look(&path.join("way/secret")).unwrap_err().message.contains("a link on the way"));
        assert!(put(&path.join("way/new"), b"x", mine(0o600)).is_err() && !path.join("real/new").exists());
        assert!(remove(&path.join("way/secret")).is_err() && path.join("real/secret").exists());
        // What replaces a link is a file; what it led to stays.
        put(&path.join("last"), b"y", mine(0o600)).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("real/secret")).unwrap(), "x");
        assert_eq!(settled(&path.join("way/secret")), path.join("real/secret"));
    }

    #[test]
    fn folders_have_their_mode_and_go_only_when_empty() {
        let (_folder, path) = place();
        let made = path.join("made");
        make_folder(&made, mine(0o2770)).unwrap();
        assert_eq!(std::fs::metadata(&made).unwrap().mode() & 0o7777, 0o2770);
        assert_eq!(make_folder(&made, mine(0o755)).unwrap_err().kind, Kind::Exists);
        std::fs::write(made.join("record"), "x").unwrap();
        assert!(!remove_folder(&made).unwrap());
        remove_made(&made).unwrap();
        assert!(remove_folder(&made).unwrap());
        link(&path.join("l"), Path::new("made")).unwrap();
        assert_eq!(look(&path.join("l")).unwrap(), Thing::Link("made".into()));
    }

    #[test]
    fn nothing_is_left_when_a_file_cannot_be_put_in_place() {
        let (_folder, path) = place();
        std::fs::create_dir(path.join("a")).unwrap();
        std::fs::write(path.join("a/b"), "").unwrap();
        assert!(put(&path.join("a"), b"x", mine(0o600)).is_err());
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
}
