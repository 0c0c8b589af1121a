//! `file_system::File` and `file_system::Dir`: anything that has a path.

use super::path::{self, AbsPath, Found};
use crate::error::{Error, Kind, Result};
use crate::os::process::Names;
use crate::policy::{Attribute, Noun, Resource, Value};
use rustix::fs::{FileType, Stat};
use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, OnceLock};

const PATH: Attribute = Attribute { name: "path", cedar: "String", required: true, fixed: true, doc: "The canonical path." };
const NAME: Attribute = Attribute { name: "name", cedar: "String", required: false, fixed: true, doc: "The last component of the path." };
const fn fact(name: &'static str, cedar: &'static str, doc: &'static str) -> Attribute {
    Attribute { name, cedar, required: false, fixed: false, doc }
}

const ATTRIBUTES: &[Attribute] = &[
    PATH,
    NAME,
    fact("kind", "String", "file, dir, symlink, fifo, socket, char_device or block_device."),
    fact("owner", "String", "The owner's name, or the number where there is no name."),
    fact("group", "String", "The group's name, or the number where there is no name."),
    fact("uid", "Long", "The owner's number."),
    fact("gid", "Long", "The group's number."),
    fact("mode", "Long", "The permission bits, including setuid, setgid and sticky (at most 4095)."),
    fact("size", "Long", "Bytes."),
    fact("links", "Long", "The number of hard links."),
    fact("world_writable", "Bool", "Whether anyone may write it."),
];

pub const FILE: Noun = Noun {
    name: "file_system::File",
    parents: &["file_system::Dir"],
    attributes: ATTRIBUTES,
    doc: "Anything with a path that is not a directory.",
};
pub const DIR: Noun = Noun { name: "file_system::Dir", parents: &["file_system::Dir"], attributes: ATTRIBUTES, doc: "A directory." };

/// How often a thing that vanishes while it is looked at is looked up again.
const REPLACED: usize = 8;

/// How the object is held.
enum Hold {
    /// Nothing is there, or nothing is known of it but its path.
    Nothing,
    Pinned(Arc<OwnedFd>),
    /// Seen in its pinned folder by its name, and pinned itself once something is to be done to it. A walk sees many things and does something
    /// to few.
    Seen {
        folder: Arc<OwnedFd>,
        pin: OnceLock<Result<Arc<OwnedFd>>>,
    },
}

/// Anything that has a path: found and pinned by a handle, or the place where it would be.
pub struct File {
    /// What the script wrote.
    asked: AbsPath,
    /// The canonical path, in bytes and as the entity's id.
    place: Vec<u8>,
    id: String,
    hold: Hold,
    stat: Option<Stat>,
    /// Its folder and its name there: where only the last name is missing, for making it; where the name itself is meant, for removing and moving it.
    spot: Option<(Arc<OwnedFd>, Vec<u8>)>,
    why_not: Option<Error>,
    /// What an absent thing is taken for.
    expected: &'static Noun,
}

impl File {
    /// Finds what a path leads to, following links.
    ///
    /// # Errors
    /// Faults of rex itself. That nothing is there comes out after the policy has been asked ([`Resource::obstacle`]).
    pub fn locate(path: &AbsPath) -> Result<Self> {
        Self::find(path, true, &FILE)
    }
    /// The same, for a function that works on directories.
    ///
    /// # Errors
    /// As [`File::locate`].
    pub fn locate_dir(path: &AbsPath) -> Result<Self> {
        Self::find(path, true, &DIR)
    }
    /// The same, with the last component not followed if it is a link and `follow` is false.
    ///
    /// # Errors
    /// As [`File::locate`].
    pub fn locate_with(path: &AbsPath, follow: bool) -> Result<Self> {
        Self::find(path, follow, &FILE)
    }

    /// What has this name, whatever it is (a last link is not followed), with the folder that it is in pinned too, see [`File::spot`]: for
    /// removing, moving and linking, which are done to names.
    ///
    /// # Errors
    /// As [`File::locate`]; [`Kind::BadArgument`] for the root, which is in no folder.
    pub fn locate_name(path: &AbsPath) -> Result<Self> {
        for _ in 0..REPLACED {
            let mut found = Self::find(path, false, &FILE)?;
            let Some(handle) = found.handle() else { return Ok(found) };
            let Ok((folder, name)) = path::parent_of(&found.place) else {
                if found.place == b"/" {
                    return Err(crate::error::bad_argument("this cannot be done to the root directory").with_path(path.shown()));
                }
                continue;
            };
            if path::is_same(&folder, &name, handle) {
                found.spot = Some((Arc::new(folder), name));
                return Ok(found);
            }
        }
        Err(Error::new(Kind::Changed, "it is replaced too fast to be pinned; nothing was done").with_path(path.shown()))
    }

    fn find(path: &AbsPath, follow: bool, expected: &'static Noun) -> Result<Self> {
        for _ in 0..REPLACED {
            // Something that was replaced between two looks at it is there all the time: what has the name now is meant.
            match path::look_up(path, follow)? {
                Found::Here(handle) => match Self::of(path.clone(), handle)? {
                    gone if !gone.exists() => {}
                    found => return Ok(Self { expected, ..found }),
                },
                Found::Not { .. } => break,
            }
        }
        match path::look_up(path, follow)? {
            Found::Here(handle) => Ok(Self { expected, ..Self::of(path.clone(), handle)? }),
            Found::Not { place, parent, leaf, why } => Ok(Self {
                id: path::to_id(&place),
                place,
                hold: Hold::Nothing,
                stat: None,
                spot: parent.map(|parent| (Arc::new(parent), leaf)),
                why_not: Some(why.with_path(path.shown())),
                asked: path.clone(),
                expected,
            }),
        }
    }

    /// A directory known by its canonical path alone; nothing is touched, so a mount point of a dead file server blocks nobody.
    /// It has no attributes but those of its path, and nothing can be done to it through the files of `sys`.
    #[must_use]
    pub fn unvisited_dir(path: AbsPath) -> Self {
        let place = path.as_bytes().to_vec();
        Self { id: path::to_id(&place), place, asked: path, hold: Hold::Nothing, stat: None, spot: None, why_not: None, expected: &DIR }
    }

    /// A file of the kernel known by the path that policies name it by, where that leads through a link that differs from process to process
    /// (`/proc/net/tcp`). Nothing is touched, and nothing can be done to it through the files of `sys`.
    #[must_use]
    pub fn unvisited(path: AbsPath) -> Self {
        Self { expected: &FILE, ..Self::unvisited_dir(path) }
    }

    /// The object that a path-only handle holds.
    ///
    /// # Errors
    /// When it is gone or not reachable from here.
    pub fn of(asked: AbsPath, handle: OwnedFd) -> Result<Self> {
        let stat = rustix::fs::fstat(&handle)?;
        let (place, standing) = path::standing(&handle)?;
        let gone = stat.st_nlink == 0 || !standing;
        Ok(Self {
            id: path::to_id(&place),
            place,
            stat: Some(stat),
            spot: None,
            why_not: gone.then(|| Error::new(Kind::NotFound, "open: no such file or directory").with_path(asked.shown())),
            hold: Hold::Pinned(Arc::new(handle)),
            asked,
            expected: &FILE,
        })
    }

    /// An entry of a directory that is itself pinned: found by name, the last link not followed.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it has vanished, or what the kernel reports.
    pub fn entry(folder: &Self, name: &[u8]) -> Result<Self> {
        let Some(at) = folder.handle() else { return Err(Error::new(Kind::NotFound, "no such directory")) };
        let handle = open_name(at, name)?;
        let stat = rustix::fs::fstat(&handle)?;
        Ok(Self::of_entry(folder, name, stat, Hold::Pinned(Arc::new(handle))))
    }

    /// The same, only seen: one system call. It is pinned when [`File::handle`] asks for it, and then only if it is still what was seen.
    ///
    /// # Errors
    /// As [`File::entry`].
    pub fn glimpse(folder: &Self, name: &[u8]) -> Result<Self> {
        let Some(at) = folder.shared() else { return Err(Error::new(Kind::NotFound, "no such directory")) };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW | rustix::fs::AtFlags::NO_AUTOMOUNT;
        let stat =
            rustix::fs::statat(at, std::ffi::OsStr::from_bytes(name), flags).map_err(|errno| Error::os("stat", errno.raw_os_error()))?;
        Ok(Self::of_entry(folder, name, stat, Hold::Seen { folder: Arc::clone(at), pin: OnceLock::new() }))
    }

    fn of_entry(folder: &Self, name: &[u8], stat: Stat, hold: Hold) -> Self {
        let place = join(&folder.place, name);
        Self {
            id: path::to_id(&place),
            place,
            asked: folder.asked.below(name),
            stat: Some(stat),
            hold,
            spot: None,
            why_not: None,
            expected: &FILE,
        }
    }

    /// The folder that a walk comes back to, held again: through `child`, which it has just left, or by its path.
    ///
    /// # Errors
    /// [`Kind::Changed`] when neither leads to the directory that it was.
    pub fn held_again(&mut self, child: Option<&Self>) -> Result<()> {
        let same = |handle: &OwnedFd| {
            let now = rustix::fs::fstat(handle).ok();
            matches!((&self.stat, now), (Some(then), Some(now)) if (then.st_dev, then.st_ino) == (now.st_dev, now.st_ino))
        };
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let above = child.and_then(Self::handle).and_then(|child| rustix::fs::openat(child, c"..", flags, rustix::fs::Mode::empty()).ok());
        let found = above.filter(same).or_else(|| match path::look_up(&self.asked, true) {
            Ok(Found::Here(handle)) => Some(handle).filter(same),
            _ => None,
        });
        let Some(found) = found else {
            return Err(Error::new(Kind::Changed, "the directory was moved or replaced while it was walked").with_path(self.asked.shown()));
        };
        self.hold = Hold::Pinned(Arc::new(found));
        Ok(())
    }
    /// Keeps the handle of what was seen and pinned, and no longer that of its folder.
    pub fn settle(&mut self) {
        if let Hold::Seen { pin, .. } = &self.hold
            && let Some(Ok(handle)) = pin.get()
        {
            self.hold = Hold::Pinned(Arc::clone(handle));
        }
    }
    /// Lets the handle go; [`File::held_again`] gets it back. Deep trees have more folders than a process may have handles.
    pub fn let_go(&mut self) {
        self.hold = Hold::Nothing;
    }

    /// An entry of a directory that is itself pinned, with that folder, as [`File::locate_name`] gives it.
    ///
    /// # Errors
    /// As [`File::entry`].
    pub fn entry_named(folder: &Self, name: &[u8]) -> Result<Self> {
        let mut entry = Self::entry(folder, name)?;
        let at = folder.shared().ok_or_else(|| Error::new(Kind::NotFound, "no such directory"))?;
        entry.spot = Some((Arc::clone(at), name.to_vec()));
        Ok(entry)
    }

    /// A name in a pinned directory that nothing has yet, for making it.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] for a name that is none.
    pub fn absent_entry(folder: &Self, name: &[u8], expected: &'static Noun) -> Result<Self> {
        let Some(at) = folder.shared() else { return Err(Error::new(Kind::NotFound, "no such directory")) };
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
            return Err(crate::error::bad_argument(format!("`{}` is no name for a file", String::from_utf8_lossy(name).escape_debug())));
        }
        let place = join(&folder.place, name);
        let asked = AbsPath::new(join(folder.asked.as_bytes(), name))?;
        Ok(Self {
            id: path::to_id(&place),
            place,
            why_not: Some(Error::new(Kind::NotFound, "open: no such file or directory").with_path(asked.shown())),
            asked,
            stat: None,
            hold: Hold::Nothing,
            spot: Some((Arc::clone(at), name.to_vec())),
            expected,
        })
    }

    /// A name below a folder that is not there yet itself, to be asked about only: there is nothing to make it in.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] for a path that is too long.
    pub fn absent_below(folder: &Self, name: &[u8], expected: &'static Noun) -> Result<Self> {
        let place = join(&folder.place, name);
        let asked = AbsPath::new(join(folder.asked.as_bytes(), name))?;
        let why = Error::new(Kind::NotFound, "open: no such file or directory").with_path(asked.shown());
        Ok(Self { id: path::to_id(&place), place, asked, hold: Hold::Nothing, stat: None, spot: None, why_not: Some(why), expected })
    }

    /// The same pinned object once more, for a second verb on it.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn twin(&self) -> Result<Self> {
        Ok(Self {
            asked: self.asked.clone(),
            place: self.place.clone(),
            id: self.id.clone(),
            hold: self.shared().map_or(Hold::Nothing, |handle| Hold::Pinned(Arc::clone(handle))),
            stat: self.stat,
            spot: self.spot.clone(),
            why_not: self.why_not.clone(),
            expected: self.expected,
        })
    }

    /// The same place taken for the directory that the caller was after, for callers who may not know what is there.
    #[must_use]
    pub fn taken_for_a_directory(self) -> Self {
        let why = Error::new(Kind::NotADirectory, "is not a directory").with_path(self.asked.shown());
        Self { hold: Hold::Nothing, stat: None, spot: None, why_not: Some(why), expected: &DIR, ..self }
    }
    /// The handle, path-only. `sys` reopens it with the access of the verb that was granted.
    #[must_use]
    pub fn handle(&self) -> Option<&OwnedFd> {
        self.shared().map(Arc::as_ref)
    }
    fn shared(&self) -> Option<&Arc<OwnedFd>> {
        self.pinned().ok()
    }
    /// The handle, or why there is none: nothing is there, or what was seen was replaced before it was pinned.
    fn pinned(&self) -> Result<&Arc<OwnedFd>> {
        match &self.hold {
            Hold::Pinned(handle) => Ok(handle),
            Hold::Seen { folder, pin } => pin.get_or_init(|| self.pin(folder).map(Arc::new)).as_ref().map_err(Clone::clone),
            Hold::Nothing => Err(Error::new(Kind::NotFound, "open: no such file or directory")),
        }
    }
    /// Pins what was seen, if the name is still that object with the attributes that it was judged by. The number of a removed file may be given
    /// out again, so the number alone is not enough.
    fn pin(&self, folder: &OwnedFd) -> Result<OwnedFd> {
        let handle = open_name(folder, self.name())?;
        let now = rustix::fs::fstat(&handle)?;
        let judged = |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
        if self.stat.as_ref().is_none_or(|then| judged(then) != judged(&now)) {
            return Err(Error::new(Kind::Changed, "it was replaced while it was looked at").with_path(self.asked.shown()));
        }
        Ok(handle)
    }
    /// The handle of something that was only seen so far.
    ///
    /// # Errors
    /// [`Kind::Changed`] when it was replaced since, [`Kind::NotFound`] when it has vanished.
    pub fn ensure_pinned(&self) -> Result<()> {
        self.pinned().map(drop)
    }
    /// What fstat(2) said when it was pinned.
    #[must_use]
    pub fn stat(&self) -> Option<&Stat> {
        self.stat.as_ref()
    }
    #[must_use]
    pub fn exists(&self) -> bool {
        !matches!(self.hold, Hold::Nothing) && self.why_not.is_none()
    }
    /// The pinned folder and last name: of a thing that is not there yet, and of one that was found by its name.
    #[must_use]
    pub fn spot(&self) -> Option<(&OwnedFd, &[u8])> {
        self.spot.as_ref().map(|(folder, name)| (folder.as_ref(), name.as_slice()))
    }
    /// Where a thing is that was only seen and is not pinned: for asking the kernel more about the name.
    #[must_use]
    pub fn seen(&self) -> Option<(&OwnedFd, &[u8])> {
        match &self.hold {
            Hold::Seen { folder, pin } if pin.get().is_none() => Some((folder, self.name())),
            _ => None,
        }
    }
    #[must_use]
    pub fn kind(&self) -> Option<FileType> {
        self.stat.as_ref().map(|stat| FileType::from_raw_mode(stat.st_mode))
    }
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind() == Some(FileType::Directory)
    }
    /// The path as the script wrote it.
    #[must_use]
    pub fn asked(&self) -> &AbsPath {
        &self.asked
    }
    /// The canonical path.
    #[must_use]
    pub fn place(&self) -> &[u8] {
        &self.place
    }
    /// The folder it is in, as a resource of its own (pinned, no link followed).
    ///
    /// # Errors
    /// When that has changed meanwhile; the root has none.
    pub fn folder(&self) -> Result<Self> {
        let (handle, _) = path::parent_of(&self.place)?;
        let asked = AbsPath::new(path::canonical(&handle)?)?;
        Self::of(asked, handle)
    }
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.place.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// Pins a name in a folder, whatever it is.
fn open_name(folder: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::openat(folder, std::ffi::OsStr::from_bytes(name), flags, rustix::fs::Mode::empty())
        .map_err(|errno| Error::os("open", errno.raw_os_error()))
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(folder.len() + name.len() + 1);
    joined.extend_from_slice(folder);
    if joined.last() != Some(&b'/') {
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    joined
}

/// The host's names of users and groups, read once a run.
pub fn names() -> &'static Names {
    static NAMES: OnceLock<Names> = OnceLock::new();
    NAMES.get_or_init(Names::of_host)
}

/// The word for a file's type.
#[must_use]
pub fn kind_word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "dir",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "char_device",
        FileType::BlockDevice => "block_device",
        FileType::Unknown => "unknown",
    }
}

/// The ancestors of a canonical path, nearest first.
pub fn each_folder(id: &str, visit: &mut dyn FnMut(&'static str, &str)) {
    let mut rest = id;
    while let Some(cut) = rest.rfind('/') {
        rest = rest.get(..cut).unwrap_or("");
        if rest.is_empty() {
            if id != "/" {
                visit(DIR.name, "/");
            }
            break;
        }
        visit(DIR.name, rest);
    }
}

impl Resource for File {
    const NOUNS: &'static [Noun] = &[FILE, DIR];

    fn noun(&self) -> &'static Noun {
        match &self.stat {
            Some(_) if self.is_dir() => &DIR,
            Some(_) => &FILE,
            None => self.expected,
        }
    }
    fn id(&self) -> &str {
        &self.id
    }
    fn shown(&self) -> Cow<'_, str> {
        Cow::Owned(self.asked.shown())
    }
    fn shown_as(&self) -> &'static str {
        self.expected.name
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        each_folder(&self.id, visit);
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        match name {
            "path" => return Ok(Some(Value::String(self.id.clone()))),
            "name" => return Ok(Some(Value::String(path::to_id(self.name())))),
            _ => {}
        }
        // Attributes of what is not there do not exist; a policy that needs them then denies.
        let Some(stat) = &self.stat else { return Ok(None) };
        let long = |number: u64| Value::Long(i64::try_from(number).unwrap_or(i64::MAX));
        let mode = stat.st_mode & 0o7777;
        Ok(Some(match name {
            "kind" => Value::String(kind_word(FileType::from_raw_mode(stat.st_mode)).to_owned()),
            "owner" => Value::String(names().user(stat.st_uid).unwrap_or_else(|| stat.st_uid.to_string())),
            "group" => Value::String(names().group(stat.st_gid).unwrap_or_else(|| stat.st_gid.to_string())),
            "uid" => Value::Long(stat.st_uid.into()),
            "gid" => Value::Long(stat.st_gid.into()),
            "mode" => Value::Long(mode.into()),
            "size" => long(u64::try_from(stat.st_size).unwrap_or(0)),
            "links" => long(stat.st_nlink),
            "world_writable" => Value::Bool(mode & 0o002 != 0 && FileType::from_raw_mode(stat.st_mode) != FileType::Symlink),
            _ => return Ok(None),
        }))
    }
    fn obstacle(&self) -> Option<Error> {
        self.why_not.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn folder() -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().unwrap();
        let path = std::fs::canonicalize(dir.path()).unwrap();
        let file = File::locate_dir(&AbsPath::new(path.as_os_str().as_bytes()).unwrap()).unwrap();
        (dir, file)
    }

    #[test]
    fn what_was_seen_is_pinned_only_while_it_is_still_that_object_as_it_was_judged() {
        let (dir, root) = folder();
        let path = dir.path().join("f");
        let replace: [&dyn Fn(); 4] = [
            &|| std::fs::rename(dir.path().join("other"), &path).unwrap(),
            &|| {
                std::fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
            },
            &|| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap(),
            &|| std::fs::remove_file(&path).unwrap(),
        ];
        for (replace, kind) in replace.iter().zip([Kind::Changed, Kind::Changed, Kind::Changed, Kind::NotFound]) {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, "seen").unwrap();
            std::fs::write(dir.path().join("other"), "other").unwrap();
            let (pinned, seen) = (File::glimpse(&root, b"f").unwrap(), File::glimpse(&root, b"f").unwrap());
            assert!(pinned.ensure_pinned().is_ok() && pinned.handle().is_some());
            replace();
            assert_eq!(seen.ensure_pinned().unwrap_err().kind, kind);
            assert!(seen.handle().is_none(), "nothing can be done to what came in its place");
            assert!(pinned.handle().is_some(), "what was pinned stays what it was");
        }
    }

    #[test]
    fn a_folder_that_was_let_go_is_held_again_only_if_it_is_the_same() {
        let (dir, root) = folder();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let mut above = File::entry(&root, b"a").unwrap();
        let child = File::entry(&above, b"b").unwrap();
        above.let_go();
        assert!(!above.exists());
        above.held_again(Some(&child)).unwrap();
        assert!(File::glimpse(&above, b"b").is_ok());
        // Moved below another folder, the way up leads elsewhere; the path still leads to it.
        above.let_go();
        std::fs::rename(dir.path().join("a/b"), dir.path().join("b")).unwrap();
        above.held_again(Some(&child)).unwrap();
        // Replaced, neither does.
        above.let_go();
        std::fs::rename(dir.path().join("a"), dir.path().join("gone")).unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        assert_eq!(above.held_again(Some(&child)).unwrap_err().kind, Kind::Changed);
        assert!(!above.exists());
    }
}
