//! What is installed on this host, from the files of its package manager: dpkg's and apk's are read, no program is started.

mod apk;
mod apt;
mod dpkg;
mod history;
mod version;

pub use history::{Step, places as logs};

use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use crate::resource::package::{Database, Package};
use rustix::fs::{FileType, Mode, OFlags};
use sha2::Digest as _;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Asked in every loop.
type Check<'a> = &'a dyn Fn() -> Result<()>;

/// Longest file of a package manager that is read as a whole; the largest known is some 10 MiB.
const LONGEST: u64 = 128 << 20;

/// What is read where a policy permits looking at packages.
pub const FILES: &[&str] = &[
    "/var/lib/dpkg/status",
    "/var/lib/dpkg/diversions",
    "/var/lib/dpkg/info",
    "/var/lib/dpkg/arch",
    "/var/lib/apt/lists",
    "/var/lib/apt/extended_states",
    "/lib/apk/db",
    "/usr/lib/apk/db",
];
/// Where dpkg writes what it does; rotations are beside it.
const LOG: &str = "/var/log/dpkg.log";
/// How many rotations of it are looked for.
const ROTATIONS: u32 = 24;

/// A package as the database has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// installed, unpacked, half-configured, half-installed, triggers-awaited, triggers-pending, config-files.
    pub status: String,
    /// Kept from being upgraded.
    pub held: bool,
    pub essential: bool,
    /// Came along with another package; `None` where nobody knows.
    pub automatic: Option<bool>,
    pub section: String,
    pub priority: String,
    pub maintainer: String,
    pub homepage: String,
    /// The source package, where it has another name.
    pub source: String,
    pub bytes: Option<u64>,
    pub summary: String,
    pub description: String,
    /// Kinds of relation in scripts' words, each with its list.
    pub relations: Vec<(&'static str, Vec<String>)>,
    pub conffiles: Vec<Digest>,
}

/// A file and what its contents should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    pub path: Vec<u8>,
    pub kind: Kinds,
    /// In hex.
    pub digest: String,
    /// A configuration file, which may be changed.
    pub conffile: bool,
}

/// How a digest is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    Md5,
    Sha1,
}

/// Which package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    Dpkg,
    Apk,
}

impl Manager {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dpkg => "dpkg",
            Self::Apk => "apk",
        }
    }
}

/// The package manager's files, below a root.
#[derive(Debug)]
pub struct Packages {
    root: PathBuf,
    manager: Manager,
    /// All of the database, read once.
    installed: Vec<Installed>,
}

impl Packages {
    /// The whole database.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where this host has no package manager whose files are known; [`Kind::Permission`]; [`Kind::BadData`].
    pub fn open<A: Action<On = Database>>(_: &Granted<A>, check: Check<'_>) -> Result<Self> {
        Self::below(Path::new("/"), check)
    }

    /// The same for what is known of one package.
    ///
    /// # Errors
    /// As [`Packages::open`].
    pub fn of<A: Action<On = Package>>(granted: &Granted<A>, check: Check<'_>) -> Result<One> {
        let packages = Self::below(Path::new("/"), check)?;
        packages.one(granted.resource())
    }

    fn below(root: &Path, check: Check<'_>) -> Result<Self> {
        if let Some(status) = read(root, "var/lib/dpkg/status")? {
            let states = read(root, "var/lib/apt/extended_states")?;
            let installed = dpkg::installed(&status, states.as_deref(), check)?;
            return Ok(Self { root: root.to_owned(), manager: Manager::Dpkg, installed });
        }
        for place in ["lib/apk/db/installed", "usr/lib/apk/db/installed"] {
            if let Some(database) = read(root, place)? {
                let installed = apk::installed(&database, check)?;
                return Ok(Self { root: root.to_owned(), manager: Manager::Apk, installed });
            }
        }
        let rpm = ["var/lib/rpm", "usr/lib/sysimage/rpm"].iter().any(|place| rustix::fs::stat(root.join(place)).is_ok());
        Err(Error::new(
            Kind::Unsupported,
            if rpm {
                "the packages of this host are managed by rpm, whose database is not read"
            } else {
                "this host has no database of dpkg or apk"
            },
        ))
    }

    #[must_use]
    pub fn manager(&self) -> Manager {
        self.manager
    }

    #[must_use]
    pub fn all(&self) -> &[Installed] {
        &self.installed
    }

    /// The newest version of each installed package that the lists of the sources have, where that is newer: the place in [`Packages::all`], and the
    /// version. What is held back or pinned is not looked at.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] for apk and for lists that are packed in a way that is not known; those of `check`.
    pub fn upgradable(&self, check: Check<'_>) -> Result<Vec<(usize, String)>> {
        match self.manager {
            Manager::Dpkg => apt::upgradable(&self.root, &self.installed, check),
            Manager::Apk => Err(Error::new(Kind::Unsupported, "the indexes of apk's sources are not read")),
        }
    }

    /// The packages that brought what has this path: name and architecture.
    ///
    /// # Errors
    /// Those of `check`; what reading the lists reports.
    pub fn owners(&self, path: &[u8], check: Check<'_>) -> Result<Vec<(String, String)>> {
        match self.manager {
            Manager::Dpkg => dpkg::owners(&self.root, &self.installed, path, check),
            Manager::Apk => {
                let database = self.apk_database()?;
                Ok(apk::owners(&database, path))
            }
        }
    }

    /// What was installed, upgraded and removed, the oldest first.
    ///
    /// # Errors
    /// As [`Packages::open`]; [`Kind::Unsupported`] where no history is kept.
    pub fn history<A: Action<On = Database>>(_: &Granted<A>, check: Check<'_>) -> Result<Vec<Step>> {
        Self::below(Path::new("/"), check)?.steps(check)
    }

    fn steps(&self, check: Check<'_>) -> Result<Vec<Step>> {
        match self.manager {
            Manager::Dpkg => history::steps(&self.root, check),
            Manager::Apk => Err(Error::new(Kind::Unsupported, "apk keeps no history")),
        }
    }

    fn apk_database(&self) -> Result<Vec<u8>> {
        for place in ["lib/apk/db/installed", "usr/lib/apk/db/installed"] {
            if let Some(database) = read(&self.root, place)? {
                return Ok(database);
            }
        }
        Err(Error::new(Kind::Changed, "the database of apk is gone"))
    }

    fn one(self, wanted: &Package) -> Result<One> {
        let fits = |package: &Installed| {
            package.name == wanted.name() && wanted.architecture().is_none_or(|architecture| package.architecture == architecture)
        };
        // Of several architectures the first, which is that of the host where it has any.
        let native = dpkg::native(&self.root);
        let mut found: Vec<usize> = (0..self.installed.len()).filter(|at| self.installed.get(*at).is_some_and(fits)).collect();
        found.sort_by_key(|at| self.installed.get(*at).is_none_or(|package| Some(&package.architecture) != native.as_ref()));
        let at = found.first().copied().ok_or_else(|| Error::new(Kind::NotFound, format!("there is no package `{}`", wanted.name())))?;
        Ok(One { packages: self, at })
    }
}

/// One package of the database.
#[derive(Debug)]
pub struct One {
    packages: Packages,
    at: usize,
}

impl One {
    /// # Errors
    /// None; the place was found in the list.
    pub fn about(&self) -> Result<&Installed> {
        self.packages.installed.get(self.at).ok_or_else(|| Error::new(Kind::Internal, "a package without a place"))
    }
    #[must_use]
    pub fn manager(&self) -> Manager {
        self.packages.manager
    }
    /// Every file and folder that it brought.
    ///
    /// # Errors
    /// What reading the list reports.
    pub fn files(&self) -> Result<Vec<Vec<u8>>> {
        let package = self.about()?;
        match self.packages.manager {
            Manager::Dpkg => dpkg::files(&self.packages.root, package),
            Manager::Apk => Ok(apk::files(&self.packages.apk_database()?, &package.name)),
        }
    }
    /// What the contents of its files should be.
    ///
    /// # Errors
    /// What reading the list reports; [`Kind::BadData`].
    pub fn digests(&self) -> Result<Vec<Digest>> {
        let package = self.about()?;
        match self.packages.manager {
            Manager::Dpkg => dpkg::digests(&self.packages.root, package),
            Manager::Apk => Ok(apk::digests(&self.packages.apk_database()?, &package.name)),
        }
    }
}

/// Whether the contents of a granted file are what they should be. What is no regular file has other contents.
///
/// # Errors
/// As [`super::file::open`]; what read(2) reports; those of `check`.
pub fn is_as_installed<A: Action<On = File>>(granted: &Granted<A>, expected: &Digest, check: Check<'_>) -> Result<bool> {
    let mut file = super::file::open(granted)?;
    let (mut md5, mut sha1) = (md5::Md5::new(), sha1::Sha1::new());
    let mut block = vec![0u8; 64 << 10];
    loop {
        check()?;
        let count = match file.read(&mut block) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            done => done.map_err(Error::from)?,
        };
        let part = block.get(..count).unwrap_or_default();
        match expected.kind {
            _ if count == 0 => break,
            Kinds::Md5 => md5.update(part),
            Kinds::Sha1 => sha1.update(part),
        }
    }
    let found = match expected.kind {
        Kinds::Md5 => hex::encode(md5.finalize()),
        Kinds::Sha1 => hex::encode(sha1.finalize()),
    };
    Ok(found.eq_ignore_ascii_case(&expected.digest))
}

/// A regular file below the root, whole, through a handle on its folder; nothing where there is none. Its last name is not followed if it is a link.
fn read(root: &Path, place: &str) -> Result<Option<Vec<u8>>> {
    let path = root.join(place);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    match folder_at(folder)? {
        Some(folder) => read_in(&folder, name),
        None => Ok(None),
    }
}

fn folder_at(path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        // A folder whose list may not be read can still hold a file that may.
        Err(rustix::io::Errno::ACCESS) => match rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(folder) => Ok(Some(folder)),
            Err(errno) => Err(Error::os("open", errno.raw_os_error())),
        },
        Err(errno) => Err(Error::os("open", errno.raw_os_error())),
    }
}

fn read_in(folder: &OwnedFd, name: &std::ffi::OsStr) -> Result<Option<Vec<u8>>> {
    let Some(file) = open_in(folder, name)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(Error::from)?;
    if bytes.len() as u64 > LONGEST {
        return Err(Error::new(Kind::TooLarge, "a file of the package manager is larger than any that is known"));
    }
    Ok(Some(bytes))
}

fn open_in(folder: &OwnedFd, name: &std::ffi::OsStr) -> Result<Option<std::fs::File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => {
            let stat = rustix::fs::fstat(&file)?;
            Ok((FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| file.into()))
        }
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => Ok(None),
        Err(errno) => Err(Error::os("open", errno.raw_os_error())),
    }
}

/// Names in a folder, sorted.
fn names(folder: &OwnedFd) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        // A name that is not UTF-8 is none of a package manager.
        if let Ok(name) = entry?.file_name().to_str() {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
