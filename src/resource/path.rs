//! Paths as scripts give them ([`AbsPath`]), where they really lead, and how their bytes become ids of the policy language and back.

use crate::error::{Error, Kind, Result, bad_argument};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::OnceLock;

/// The kernel's own limit on a path, PATH_MAX of limits.h.
const PATH_MAX: usize = 4096;
/// The kernel's own limit on symbolic links followed in one path, path_resolution(7).
const MAX_LINKS: usize = 40;

/// An absolute path without NUL. Any other byte is legal in a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsPath {
    bytes: Vec<u8>,
}

impl AbsPath {
    /// # Errors
    /// [`Kind::BadArgument`] for a relative path, a NUL, or more than 4,095 bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self> {
        let bytes = bytes.into();
        if bytes.first() != Some(&b'/') {
            let shown = String::from_utf8_lossy(&bytes).chars().take(60).collect::<String>();
            return Err(bad_argument(format!("expected an absolute path (beginning with `/`), got `{}`", shown.escape_debug())));
        }
        if bytes.contains(&0) {
            return Err(bad_argument("a path cannot hold a NUL byte"));
        }
        if bytes.len() >= PATH_MAX {
            return Err(bad_argument(format!("a path cannot be longer than {} bytes", PATH_MAX - 1)));
        }
        Ok(Self { bytes })
    }
    /// The path of an entry of this folder, as a directory lists it. It may be longer than the kernel takes at once: such an entry can be looked
    /// at on the way to it, but not be named.
    #[must_use]
    pub fn below(&self, name: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + name.len() + 1);
        bytes.extend_from_slice(&self.bytes);
        if bytes.last() != Some(&b'/') {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self { bytes }
    }
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
    #[must_use]
    pub fn as_os(&self) -> &OsStr {
        OsStr::from_bytes(&self.bytes)
    }
    /// As text for people and records, see [`to_id`].
    #[must_use]
    pub fn shown(&self) -> String {
        to_id(&self.bytes)
    }
}

/// The id of a path in the policy language: the path itself where it is UTF-8; each other byte as `\xNN`.
/// Reversible: a backslash that would read as such an escape is itself written `\x5c`.
#[must_use]
pub fn to_id(bytes: &[u8]) -> String {
    let plain = |text: &str| memchr::memchr(b'\\', bytes).is_none() || !text.contains("\\x");
    if let Ok(text) = std::str::from_utf8(bytes)
        && plain(text)
    {
        return text.to_owned();
    }
    let mut id = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(at) = rest.find('\\') {
            let (before, from) = rest.split_at(at);
            id.push_str(before);
            let hex = |n: usize| from.as_bytes().get(n).is_some_and(u8::is_ascii_hexdigit);
            let escape = from.as_bytes().get(1) == Some(&b'x') && hex(2) && hex(3);
            id.push_str(if escape { "\\x5c" } else { "\\" });
            rest = from.get(1..).unwrap_or("");
        }
        id.push_str(rest);
        for byte in chunk.invalid() {
            id.push_str(&format!("\\x{byte:02x}"));
        }
    }
    id
}

/// The bytes that [`to_id`] made this id of.
#[must_use]
pub fn from_id(id: &str) -> Vec<u8> {
    let bytes = id.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'\\' && bytes.get(at + 1) == Some(&b'x'))
            .then(|| {
                id.get(at + 2..at + 4)
                    .filter(|hex| hex.bytes().all(|c| c.is_ascii_hexdigit()))
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            })
            .flatten();
        out.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 4 } else { 1 };
    }
    out
}

/// `/proc/self/fd` of this process, opened once, checked to be procfs.
///
/// # Errors
/// When there is no procfs here.
pub(crate) fn own_descriptors() -> Result<&'static OwnedFd> {
    static FD: OnceLock<std::result::Result<OwnedFd, Errno>> = OnceLock::new();
    const PROC_SUPER_MAGIC: i64 = 0x9fa0; // statfs(2)
    FD.get_or_init(|| {
        let fd = rustix::fs::open("/proc/self/fd", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        #[allow(clippy::unnecessary_cast, reason = "f_type is a different integer on other architectures")]
        if rustix::fs::fstatfs(&fd)?.f_type as i64 == PROC_SUPER_MAGIC { Ok(fd) } else { Err(Errno::NODEV) }
    })
    .as_ref()
    .map_err(|errno| Error::new(Kind::Internal, format!("/proc is needed and is not usable here ({errno})")))
}

/// Opens again, with these flags, exactly the object that a path-only handle holds.
///
/// # Errors
/// What open(2) reports.
pub fn reopen(handle: &OwnedFd, flags: OFlags) -> Result<OwnedFd> {
    let mut name = itoa(handle.as_raw_fd());
    name.push('\0');
    let name = std::ffi::CStr::from_bytes_with_nul(name.as_bytes()).unwrap_or(c"-");
    rustix::fs::openat(own_descriptors()?, name, flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::empty())
        .map_err(|errno| Error::os("open", errno.raw_os_error()))
}

/// The name of this handle's object in `/proc/self/fd`, with that folder: for calls that take no path-only handle (chmod, utimensat) but follow a
/// magic link to exactly the object that the handle holds.
///
/// # Errors
/// When /proc is not usable.
pub fn by_descriptor(handle: &OwnedFd) -> Result<(&'static OwnedFd, String)> {
    Ok((own_descriptors()?, itoa(handle.as_raw_fd())))
}

/// The same as one path, for calls that know no folder (those on extended attributes).
///
/// # Errors
/// As [`by_descriptor`].
pub fn descriptor_path(handle: &OwnedFd) -> Result<String> {
    by_descriptor(handle).map(|(_, name)| format!("/proc/self/fd/{name}"))
}

fn itoa(number: i32) -> String {
    number.to_string()
}

/// Where a handle's object is now, as the kernel says.
///
/// # Errors
/// When it is not reachable from this root (a detached mount, another mount namespace).
pub fn canonical(handle: &OwnedFd) -> Result<Vec<u8>> {
    standing(handle).map(|(path, _)| path)
}

/// The same, and whether the object still has that name. Of a name that was taken away the kernel says ` (deleted)` after it (proc(5),
/// /proc/pid/fd); rules that know the name have to know it then too.
///
/// # Errors
/// As [`canonical`].
pub fn standing(handle: &OwnedFd) -> Result<(Vec<u8>, bool)> {
    let mut path = rustix::fs::readlinkat(own_descriptors()?, itoa(handle.as_raw_fd()), Vec::with_capacity(256))
        .map_err(|errno| Error::os("readlink", errno.raw_os_error()))?
        .into_bytes();
    if path.first() != Some(&b'/') {
        return Err(Error::new(Kind::NotFound, "no such file or directory"));
    }
    let Some(before) = path.strip_suffix(b" (deleted)").map(<[u8]>::len) else { return Ok((path, true)) };
    // Some name does end like this.
    if parent_of(&path).is_ok_and(|(folder, name)| is_same(&folder, &name, handle)) {
        return Ok((path, true));
    }
    path.truncate(before);
    Ok((path, false))
}

/// What a path led to.
pub enum Found {
    /// The object, pinned by a path-only handle.
    Here(OwnedFd),
    /// Nothing there (or not to be reached): the canonical place where it would be, and why.
    Not { place: Vec<u8>, parent: Option<OwnedFd>, leaf: Vec<u8>, why: Error },
}

/// Looks up a path: symbolic links are followed (the last one only if `follow`), magic links of procfs never.
/// The object is pinned, not opened: nothing blocks, nothing has side effects. `..` is taken as it is written: were it walked through, a path
/// that comes back to a permitted place would tell which folders there are on the way.
///
/// # Errors
/// Only faults of rex itself; a path that leads nowhere is an answer.
pub fn look_up(path: &AbsPath, follow: bool) -> Result<Found> {
    let path = &AbsPath { bytes: without_dotdot(&path.bytes) };
    let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let opened = rustix::fs::openat2(
        rustix::fs::CWD,
        path.as_os(),
        OFlags::PATH | OFlags::CLOEXEC | nofollow,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS,
    );
    match opened {
        Ok(handle) => Ok(Found::Here(handle)),
        Err(Errno::NOSYS) => Err(Error::new(Kind::Unsupported, "this kernel lacks openat2 (Linux 5.6 or newer is needed)")),
        Err(Errno::MFILE | Errno::NFILE) => Err(Error::new(Kind::Limit, "too many open files")),
        Err(errno) => walk(path, follow, errno),
    }
}

/// The slow way, for paths that lead nowhere: finds the canonical place where the thing would be, link by link,
/// so that a dangling link is judged by where it points and not by where it lies.
fn walk(path: &AbsPath, follow: bool, first: Errno) -> Result<Found> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut here = root.try_clone()?;
    let mut todo: Vec<OsString> = components(path.as_bytes());
    let mut links = 0;
    let mut why = first;
    while let Some(name) = todo.pop() {
        let last = todo.is_empty();
        match rustix::fs::openat(&here, &name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(next) => {
                let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode);
                if kind == rustix::fs::FileType::Symlink && (follow || !last) {
                    links += 1;
                    // A magic link of procfs leads where no name can say; it is never followed.
                    let on_proc = rustix::fs::fstatfs(&next).is_ok_and(|fs| fs.f_type == 0x9fa0);
                    let target = rustix::fs::readlinkat(&next, c"", Vec::with_capacity(256))?.into_bytes();
                    if links > MAX_LINKS
                        || (on_proc && first == Errno::LOOP && !matches!(name.as_bytes(), b"self" | b"thread-self" | b"mounts" | b"net"))
                    {
                        todo.push(name);
                        why = Errno::LOOP;
                        break;
                    }
                    if target.first() == Some(&b'/') {
                        here = root.try_clone()?;
                    }
                    todo.extend(components(&target));
                } else if last {
                    // It appeared meanwhile.
                    return Ok(Found::Here(next));
                } else if kind == rustix::fs::FileType::Directory {
                    here = next;
                } else {
                    todo.push(name);
                    why = Errno::NOTDIR;
                    break;
                }
            }
            Err(errno) => {
                todo.push(name);
                why = errno;
                break;
            }
        }
    }
    let mut place = canonical(&here)?;
    let alone = todo.len() == 1;
    let leaf = todo.first().cloned().unwrap_or_default().into_vec();
    while let Some(name) = todo.pop() {
        match name.as_bytes() {
            b".." => place.truncate(place.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            name => {
                if place.last() != Some(&b'/') {
                    place.push(b'/');
                }
                place.extend_from_slice(name);
            }
        }
    }
    let parent = (alone && why == Errno::NOENT && leaf != b"..").then_some(here);
    Ok(Found::Not { place, parent, leaf, why: Error::os("open", why.raw_os_error()) })
}

/// The path without `..` and the names before them. A path that says it is a directory (`/` at its end) goes on saying so.
fn without_dotdot(path: &[u8]) -> Vec<u8> {
    if !path.split(|byte| *byte == b'/').any(|name| name == b"..") {
        return path.to_vec();
    }
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let mut clean = Vec::with_capacity(path.len());
    for name in &names {
        clean.push(b'/');
        clean.extend_from_slice(name);
    }
    if names.is_empty() || path.ends_with(b"/") || path.ends_with(b"/.") || path.ends_with(b"/..") {
        clean.push(b'/');
    }
    clean
}

/// The names of a path, last first, without empty ones and `.`.
fn components(path: &[u8]) -> Vec<OsString> {
    path.split(|byte| *byte == b'/')
        .rev()
        .filter(|name| !name.is_empty() && *name != b".")
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect()
}

/// The folder that holds a canonical path, opened without following any link, and the last name.
///
/// # Errors
/// When the place has changed meanwhile.
pub fn parent_of(canonical: &[u8]) -> Result<(OwnedFd, Vec<u8>)> {
    let cut = canonical.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let (folder, name) = canonical.split_at(cut);
    let name = name.get(1..).unwrap_or_default();
    if name.is_empty() {
        return Err(bad_argument("the root directory has no parent"));
    }
    let folder = if folder.is_empty() { b"/" } else { folder };
    let handle = rustix::fs::openat2(
        rustix::fs::CWD,
        OsStr::from_bytes(folder),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS,
    )
    .map_err(|errno| Error::os("open", errno.raw_os_error()))?;
    Ok((handle, name.to_vec()))
}

/// Whether the name in this folder is (still) the object that the handle holds.
#[must_use]
pub fn is_same(folder: &OwnedFd, name: &[u8], handle: &OwnedFd) -> bool {
    let there = rustix::fs::statat(folder.as_fd(), OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW);
    matches!((there, rustix::fs::fstat(handle)), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn ids_of_any_bytes_are_reversible_and_distinct() {
        for name in [
            &b"/a"[..],
            b"/a\xff",
            b"/a\\xff",
            b"/a\\x5cxff",
            b"/\\",
            b"/\\x",
            b"/\\xg0",
            b"/\\x+f",
            "/\u{fffd}".as_bytes(),
            b"/\\x5c\xfe\\",
        ] {
            let id = to_id(name);
            assert_eq!(from_id(&id), name, "{id}");
        }
        assert_ne!(to_id(b"/a\xff"), to_id(b"/a\\xff"));
    }

    #[test]
    fn a_dangling_link_is_judged_where_it_points() {
        let dir = tempfile::tempdir().unwrap();
        let real = std::fs::canonicalize(dir.path()).unwrap();
        std::os::unix::fs::symlink(real.join("gone/x"), real.join("link")).unwrap();
        let Found::Not { place, parent, .. } =
            look_up(&AbsPath::new(real.join("link").into_os_string().into_vec()).unwrap(), true).unwrap()
        else {
            panic!("found")
        };
        assert_eq!(place, real.join("gone/x").as_os_str().as_bytes());
        assert!(parent.is_none());
    }

    #[test]
    fn magic_links_are_not_followed() {
        for path in ["/proc/self/fd/0", "/proc/self/exe", "/proc/self/cwd/x", "/proc/self/root/etc/passwd"] {
            assert!(matches!(look_up(&AbsPath::new(path).unwrap(), true).unwrap(), Found::Not { .. }), "{path}");
        }
    }
}
