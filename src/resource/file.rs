//! `file_system::File` and `file_system::Dir`: anything that has a path.

use super::path::{self, AbsPath, Found};
use crate::error::{Error, Kind, Result};
use crate::os::process::Names;
use crate::policy::{Attribute, Noun, Resource, Value};
use rustix::fs::{FileType, Stat};
use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

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

/// Anything that has a path: found and pinned by a handle, or the place where it would be.
pub struct File {
    /// What the script wrote.
    asked: AbsPath,
    /// The canonical path, in bytes and as the entity's id.
    place: Vec<u8>,
    id: String,
    handle: Option<OwnedFd>,
    stat: Option<Stat>,
    /// Its folder and its name there: where only the last name is missing, for making it; where the name itself is meant, for removing and moving it.
    spot: Option<(OwnedFd, Vec<u8>)>,
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
            let Some(handle) = &found.handle else { return Ok(found) };
            let Ok((folder, name)) = path::parent_of(&found.place) else {
                if found.place == b"/" {
                    return Err(crate::error::bad_argument("this cannot be done to the root directory").with_path(path.shown()));
                }
                continue;
            };
            if path::is_same(&folder, &name, handle) {
                found.spot = Some((folder, name));
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
                handle: None,
                stat: None,
                spot: parent.map(|parent| (parent, leaf)),
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
        Self { id: path::to_id(&place), place, asked: path, handle: None, stat: None, spot: None, why_not: None, expected: &DIR }
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
            handle: Some(handle),
            asked,
            expected: &FILE,
        })
    }

    /// An entry of a directory that is itself pinned: found by name, the last link not followed.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it has vanished, or what the kernel reports.
    pub fn entry(folder: &Self, name: &[u8]) -> Result<Self> {
        use std::os::unix::ffi::OsStrExt;
        let Some(at) = &folder.handle else { return Err(Error::new(Kind::NotFound, "no such directory")) };
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
        let handle = rustix::fs::openat(at, std::ffi::OsStr::from_bytes(name), flags, rustix::fs::Mode::empty())
            .map_err(|errno| Error::os("open", errno.raw_os_error()))?;
        let stat = rustix::fs::fstat(&handle)?;
        let place = join(&folder.place, name);
        let asked = AbsPath::new(join(folder.asked.as_bytes(), name))?;
        Ok(Self {
            id: path::to_id(&place),
            place,
            asked,
            stat: Some(stat),
            handle: Some(handle),
            spot: None,
            why_not: None,
            expected: &FILE,
        })
    }

    /// An entry of a directory that is itself pinned, with that folder, as [`File::locate_name`] gives it.
    ///
    /// # Errors
    /// As [`File::entry`].
    pub fn entry_named(folder: &Self, name: &[u8]) -> Result<Self> {
        let mut entry = Self::entry(folder, name)?;
        let at = folder.handle.as_ref().ok_or_else(|| Error::new(Kind::NotFound, "no such directory"))?;
        entry.spot = Some((at.try_clone()?, name.to_vec()));
        Ok(entry)
    }

    /// A name in a pinned directory that nothing has yet, for making it.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] for a name that is none.
    pub fn absent_entry(folder: &Self, name: &[u8], expected: &'static Noun) -> Result<Self> {
        let Some(at) = &folder.handle else { return Err(Error::new(Kind::NotFound, "no such directory")) };
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
            handle: None,
            spot: Some((at.try_clone()?, name.to_vec())),
            expected,
        })
    }

    /// What would lie below this directory, or below the place where it is to be, for asking ahead: nothing is looked up, and nothing can be
    /// made through it.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] for a path that is too long.
    pub fn unmade_below(&self, names: &[u8], expected: &'static Noun) -> Result<Self> {
        let place = join(&self.place, names);
        let asked = AbsPath::new(join(self.asked.as_bytes(), names))?;
        Ok(Self {
            id: path::to_id(&place),
            place,
            why_not: Some(Error::new(Kind::NotFound, "open: no such file or directory").with_path(asked.shown())),
            asked,
            stat: None,
            handle: None,
            spot: None,
            expected,
        })
    }

    /// The same place taken for the directory that the caller was after, for callers who may not know what is there.
    #[must_use]
    pub fn taken_for_a_directory(self) -> Self {
        let why = Error::new(Kind::NotADirectory, "is not a directory").with_path(self.asked.shown());
        Self { handle: None, stat: None, spot: None, why_not: Some(why), expected: &DIR, ..self }
    }
    /// The handle, path-only. `sys` reopens it with the access of the verb that was granted.
    #[must_use]
    pub fn handle(&self) -> Option<&OwnedFd> {
        self.handle.as_ref()
    }
    /// What fstat(2) said when it was pinned.
    #[must_use]
    pub fn stat(&self) -> Option<&Stat> {
        self.stat.as_ref()
    }
    #[must_use]
    pub fn exists(&self) -> bool {
        self.handle.is_some() && self.why_not.is_none()
    }
    /// The pinned folder and last name: of a thing that is not there yet, and of one that was found by its name.
    #[must_use]
    pub fn spot(&self) -> Option<(&OwnedFd, &[u8])> {
        self.spot.as_ref().map(|(folder, name)| (folder, name.as_slice()))
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

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = folder.to_vec();
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
