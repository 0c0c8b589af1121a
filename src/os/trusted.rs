//! Files of the host's owner: opened so that what was checked is what is read, and refused when anybody else could have written them.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};

/// As many symlinks as the kernel itself follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Files with the wanted suffix in one folder; more is a mistake, not a policy set.
const MAX_FILES: usize = 10_000;
const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const TO_READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Who may own, and so may change, a file that rex believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Sessions: root alone.
    RootOnly,
    /// A service (`rex serve`): root or the user it runs as. Sticky folders such as /tmp are accepted above, because nobody else
    /// can rename what these two own in them.
    RootOrSelf,
    /// The operator's own `rex run -p FILE`: whoever types the command vouches for the file, so only its kind and size are checked.
    Unchecked,
}

/// What becomes of a thing that is not to be trusted: an error, or a line of a list.
type Tell<'a> = &'a mut dyn FnMut(Error) -> Result<()>;

/// Reads files under one rule of ownership.
///
/// Under `RootOnly` and `RootOrSelf` the file, every folder above it and every symlink on the way must belong to an accepted owner,
/// and neither file nor folder may be writable by its group or by others. That covers POSIX ACLs too: with an ACL the group bits of
/// the mode are its mask, the upper bound of what any named user or group gets (acl(5), "correspondence between ACL entries and file
/// permission bits"), so an effective write entry always shows up as a group-writable mode.
#[derive(Clone, Copy, Debug)]
pub struct Trusted {
    rule: Owner,
}

/// The path without links and dots; as it is where that cannot be found out (realpath(3)).
#[must_use]
pub fn real_path(path: PathBuf) -> PathBuf {
    std::fs::canonicalize(&path).unwrap_or(path)
}

/// What was resolved: the folder that holds the last component, the component's name, and the path as it really is.
struct Place {
    parent: OwnedFd,
    name: Option<OsString>,
    real: PathBuf,
}

impl Trusted {
    #[must_use]
    pub const fn new(rule: Owner) -> Self {
        Self { rule }
    }

    /// The whole content of a regular file of at most `max` bytes.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it or a folder above is missing; [`Kind::Config`] for everything else: it is not to be trusted (path,
    /// owner, mode and the mend are in the error), not a regular file, larger than `max`, or the system refuses it (`errno` says why).
    pub fn read(&self, path: &Path, max: u64) -> Result<Vec<u8>> {
        self.read_telling(path, max, &mut Err)
    }

    /// The same for whoever wants to know all that is wrong: what is not to be trusted is added to `faults`, and read all the same.
    ///
    /// # Errors
    /// As [`read`](Self::read), for what cannot be read at all.
    pub fn read_with_faults(&self, path: &Path, max: u64, faults: &mut Vec<Error>) -> Result<Vec<u8>> {
        self.read_telling(path, max, &mut collect(faults))
    }

    fn read_telling(&self, path: &Path, max: u64, tell: Tell<'_>) -> Result<Vec<u8>> {
        if self.rule == Owner::Unchecked {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed("open", path, errno))?;
            return self.content(&fd, path, max, tell);
        }
        let place = self.resolve(path, tell)?;
        let Some(name) = &place.name else { return Err(not_a_file(path, FileType::Directory)) };
        let fd = openat(&place.parent, name, TO_READ, Mode::empty()).map_err(|errno| failed("open", &place.real, errno))?;
        self.content(&fd, &place.real, max, tell)
    }

    /// The files directly in the folder `path` whose names end in `suffix` (`.cedar`), each of at most `max` bytes, sorted by name.
    /// Names that begin with a dot are left out, as a shell's `*.cedar` would (editors leave such files behind).
    ///
    /// # Errors
    /// As [`read`](Self::read); one file that is not to be trusted refuses the whole folder.
    pub fn read_dir(&self, path: &Path, suffix: &str, max: u64) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let (folder, names) = self.names(path, suffix, &mut Err)?;
        let read = |name: &OsString| self.read_in(&folder, name, path, max, &mut Err);
        names.iter().map(|name| read(name).map(|bytes| (path.join(name), bytes))).collect()
    }

    /// A file of a folder that is open: when another folder takes its place meanwhile, what is read is still one set.
    fn read_in(&self, folder: &OwnedFd, name: &OsStr, path: &Path, max: u64, tell: Tell<'_>) -> Result<Vec<u8>> {
        let file = path.join(name);
        match openat(folder, name, TO_READ, Mode::empty()) {
            Ok(fd) => self.content(&fd, &file, max, tell),
            // A link is followed by the way of `read`, which judges everything on it.
            Err(Errno::LOOP) => self.read_telling(&file, max, tell),
            Err(errno) => Err(failed("open", &file, errno)),
        }
    }

    /// The same for whoever wants to know all that is wrong, see [`read_with_faults`](Self::read_with_faults). A file that cannot be read is a
    /// fault too, and left out.
    ///
    /// # Errors
    /// When the folder cannot be listed at all.
    pub fn read_dir_with_faults(&self, path: &Path, suffix: &str, max: u64, faults: &mut Vec<Error>) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let (folder, names) = self.names(path, suffix, &mut collect(faults))?;
        let mut files = Vec::new();
        for name in names {
            let read = self.read_in(&folder, &name, path, max, &mut collect(faults));
            match read {
                Ok(bytes) => files.push((path.join(name), bytes)),
                Err(error) => faults.push(error),
            }
        }
        Ok(files)
    }

    /// The folder, and the names in it.
    fn names(&self, path: &Path, suffix: &str, tell: Tell<'_>) -> Result<(OwnedFd, Vec<OsString>)> {
        let folder = self.open_folder(path, tell)?;
        let mut names = Vec::new();
        let entries = rustix::fs::Dir::read_from(&folder).map_err(|errno| failed("list", path, errno))?;
        for entry in entries {
            let entry = entry.map_err(|errno| failed("list", path, errno))?;
            let name = entry.file_name().to_bytes();
            if name.ends_with(suffix.as_bytes()) && !name.starts_with(b".") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
            if names.len() > MAX_FILES {
                return Err(refused(path, format!("more than {MAX_FILES} files end in `{suffix}`"), "move the surplus elsewhere"));
            }
        }
        names.sort();
        Ok((folder, names))
    }

    fn open_folder(&self, path: &Path, tell: Tell<'_>) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if self.rule == Owner::Unchecked {
            return rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed("open", path, errno));
        }
        let place = self.resolve(path, tell)?;
        let name = place.name.as_deref().unwrap_or(OsStr::new("."));
        let fd =
            openat(&place.parent, name, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(|errno| failed("open", &place.real, errno))?;
        let stat = fstat(&fd).map_err(|errno| failed("look at", &place.real, errno))?;
        self.judge(&fd, &stat, &place.real, false).or_else(tell)?;
        Ok(fd)
    }

    /// Walks `path` from `/` one component at a time over handles, judging each folder and each symlink before going through it.
    fn resolve(&self, path: &Path, tell: Tell<'_>) -> Result<Place> {
        if !path.is_absolute() {
            return Err(refused(path, "a relative path cannot be checked".into(), "give the path from `/` on"));
        }
        let mut todo: VecDeque<OsString> = components(path.as_os_str());
        let mut above: Vec<(OwnedFd, PathBuf)> = vec![self.root(tell)?];
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                if above.len() > 1 {
                    above.pop();
                }
                continue;
            }
            let Some((parent, parent_path)) = above.last() else { return Err(Error::new(Kind::Internal, "no folder to start from")) };
            let here = parent_path.join(&name);
            let fd = openat(parent, &name, PATH_ONLY, Mode::empty()).map_err(|errno| failed("open", &here, errno))?;
            let stat = fstat(&fd).map_err(|errno| failed("look at", &here, errno))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(refused(path, format!("more than {MAX_LINKS} symlinks on the way"), "name the file itself"));
                    }
                    self.judge_owner(&stat, &here).or_else(&mut *tell)?;
                    let target = rustix::fs::readlinkat(&fd, "", Vec::new()).map_err(|errno| failed("read the link", &here, errno))?;
                    let target = OsString::from_vec(target.into_bytes());
                    if target.as_bytes().starts_with(b"/") {
                        above.truncate(1);
                    }
                    for part in components(&target).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                FileType::Directory => {
                    if !todo.is_empty() {
                        self.judge(&fd, &stat, &here, true).or_else(&mut *tell)?;
                    }
                    above.push((fd, here));
                }
                _ if todo.is_empty() => {
                    let (parent, _) = above.pop().ok_or_else(|| Error::new(Kind::Internal, "no folder to start from"))?;
                    return Ok(Place { parent, name: Some(name), real: here });
                }
                _ => return Err(failed("open", &here, Errno::NOTDIR)),
            }
        }
        let (parent, real) = above.pop().ok_or_else(|| Error::new(Kind::Internal, "no folder to start from"))?;
        Ok(Place { parent, name: None, real })
    }

    fn root(&self, tell: Tell<'_>) -> Result<(OwnedFd, PathBuf)> {
        let path = PathBuf::from("/");
        let fd = rustix::fs::open("/", PATH_ONLY | OFlags::DIRECTORY, Mode::empty()).map_err(|errno| failed("open", &path, errno))?;
        let stat = fstat(&fd).map_err(|errno| failed("look at", &path, errno))?;
        self.judge(&fd, &stat, &path, true).or_else(tell)?;
        Ok((fd, path))
    }

    /// Checks the open file itself, then reads it whole. The handle that is judged is the handle that is read.
    fn content(&self, fd: &OwnedFd, path: &Path, max: u64, tell: Tell<'_>) -> Result<Vec<u8>> {
        let stat = fstat(fd).map_err(|errno| failed("look at", path, errno))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return Err(not_a_file(path, kind));
        }
        self.judge(fd, &stat, path, false).or_else(tell)?;
        let bytes = read_up_to(fd, max.saturating_add(1)).map_err(|errno| failed("read", path, errno))?;
        if bytes.len() as u64 > max {
            return Err(refused(path, format!("larger than {max} bytes"), "make it smaller"));
        }
        Ok(bytes)
    }

    fn judge(&self, fd: &OwnedFd, stat: &Stat, path: &Path, above: bool) -> Result<()> {
        self.judge_owner(stat, path)?;
        if let Some(fault) = fault_of_mode(self.rule, stat.st_mode, above) {
            let mend =
                if has_acl(fd) { format!("setfacl -b {0}; chmod go-w {0}", shown(path)) } else { format!("chmod go-w {}", shown(path)) };
            return Err(refused(path, format!("{fault} (mode {:04o}, owner {})", stat.st_mode & 0o7777, stat.st_uid), &mend));
        }
        Ok(())
    }

    fn judge_owner(&self, stat: &Stat, path: &Path) -> Result<()> {
        match fault_of_owner(self.rule, stat.st_uid, rustix::process::geteuid().as_raw()) {
            Some(fault) => Err(refused(
                path,
                format!("{fault} (owner {}, mode {:04o})", stat.st_uid, stat.st_mode & 0o7777),
                &format!("chown -h root:root {}", shown(path)),
            )),
            None => Ok(()),
        }
    }
}

/// Adds each fault to the list, once.
fn collect(faults: &mut Vec<Error>) -> impl FnMut(Error) -> Result<()> + '_ {
    |error| {
        if !faults.iter().any(|known| known.path == error.path && known.message == error.message) {
            faults.push(error);
        }
        Ok(())
    }
}

/// Why files of `owner` are not believed by a process of `me`, if so.
fn fault_of_owner(rule: Owner, owner: u32, me: u32) -> Option<&'static str> {
    match rule {
        Owner::Unchecked => None,
        Owner::RootOnly => (owner != 0).then_some("it does not belong to root"),
        Owner::RootOrSelf => (owner != 0 && owner != me).then_some("it belongs neither to root nor to the user this service runs as"),
    }
}

/// Why the mode bits let somebody else change the thing, if so. `above`: a folder on the way to the file.
fn fault_of_mode(rule: Owner, mode: u32, above: bool) -> Option<&'static str> {
    let sticky_above = rule == Owner::RootOrSelf && above && mode & 0o1000 != 0;
    if rule == Owner::Unchecked || sticky_above {
        return None;
    }
    if mode & 0o002 != 0 {
        Some("everybody can write it")
    } else if mode & 0o020 != 0 {
        Some("its group, or somebody named in its access control list, can write it")
    } else {
        None
    }
}

/// Whether a POSIX ACL is set; asked only to word the mend. Through /proc, because extended attributes cannot be read from `O_PATH`.
fn has_acl(fd: &OwnedFd) -> bool {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut buffer = [0_u8; 4096];
    rustix::fs::getxattr(link, "system.posix_acl_access", &mut buffer).is_ok()
}

/// At most `max` bytes of an open file.
///
/// # Errors
/// The errno of read(2); `EINTR` is retried.
pub fn read_up_to(fd: impl AsFd, max: u64) -> std::result::Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let mut chunk = [0_u8; 16 * 1024];
    while (bytes.len() as u64) < max {
        let room = usize::try_from(max - bytes.len() as u64).unwrap_or(usize::MAX).min(chunk.len());
        let Some(window) = chunk.get_mut(..room) else { break };
        match rustix::io::read(&fd, &mut *window) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(window.get(..count).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(bytes)
}

fn components(path: &OsStr) -> VecDeque<OsString> {
    path.as_bytes()
        .split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| OsStr::from_bytes(part).to_owned())
        .collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn refused(path: &Path, fault: String, mend: &str) -> Error {
    Error::new(Kind::Config, fault).with_path(shown(path)).with_hint(mend)
}

fn not_a_file(path: &Path, kind: FileType) -> Error {
    let what = match kind {
        FileType::Directory => "a folder",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Symlink => "a symlink",
        _ => "something else",
    };
    refused(path, format!("a regular file is needed, this is {what}"), "put a regular file there")
}

fn failed(what: &str, path: &Path, errno: Errno) -> Error {
    // A socket cannot be opened at all; say what it is rather than "no such device or address" (open(2), ENXIO).
    if errno == Errno::NXIO {
        return not_a_file(path, FileType::Socket);
    }
    let error = Error::os(what, errno.raw_os_error()).with_path(shown(path));
    // Whatever keeps rex from its owner's files is a fault of the host's configuration; only "not there" may have a default.
    if error.kind == Kind::NotFound { error } else { Error { kind: Kind::Config, ..error } }
}

#[cfg(test)]
mod tests;

/// Opens a file that whoever types the command vouches for.
///
/// # Errors
/// [`Kind::NotFound`], or the system's own error.
pub fn open_any(path: &Path) -> Result<std::fs::File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(std::fs::File::from).map_err(|errno| failed("open", path, errno))
}

/// A file that was made now, to be filled once; it goes again if it is not.
#[derive(Debug)]
pub struct NewFile {
    file: std::fs::File,
    path: PathBuf,
    filled: bool,
}

impl NewFile {
    /// Makes it, readable for everybody as policies are; whoever types the command vouches for the folder.
    ///
    /// # Errors
    /// [`Kind::Exists`] when something has that name, also a dangling link; else the system's own error.
    pub fn create(path: &Path) -> Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::open(path, flags, Mode::from_raw_mode(0o640));
        let file = made.map(std::fs::File::from).map_err(|errno| Error::os("make", errno.raw_os_error()).with_path(shown(path)))?;
        // Whatever the umask: sessions of any account read the policies.
        let _ = rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644));
        Ok(Self { file, path: path.to_path_buf(), filled: false })
    }

    /// Writes the whole of it, to the disk.
    ///
    /// # Errors
    /// The system's own.
    pub fn fill(mut self, text: &str) -> Result<()> {
        use std::io::Write as _;
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(|error| Error::from(error).with_path(shown(&self.path)))?;
        self.filled = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.filled {
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

/// The path without links and dots; what is not there yet is below what is.
#[must_use]
pub fn canonical(path: PathBuf) -> PathBuf {
    match (std::fs::canonicalize(&path), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(above), Some(name)) if !above.as_os_str().is_empty() => canonical(above.to_path_buf()).join(name),
        _ => path,
    }
}
