//! Reading directories that were granted: their names, from the pinned object.

use crate::error::{Error, Kind, Result};
use crate::limits::Watch;
use crate::policy::Action;
use crate::policy::Granted;
use crate::resource::file::File;
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, StatxFlags};

/// A name in a directory, with the type that the filesystem keeps beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub bytes: Vec<u8>,
    pub kind: FileType,
}

/// The names in a directory, in one piece of memory: a folder of a hundred thousand costs a few megabytes.
#[derive(Debug, Default)]
pub struct Listing {
    bytes: Vec<u8>,
    /// Where each name begins, its length and type.
    rows: Vec<(u32, u16, FileType)>,
}

impl Listing {
    /// Adds a name at the end.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] past 4 GiB of names.
    pub fn push(&mut self, name: &[u8], kind: FileType) -> Result<()> {
        let (Ok(start), Ok(length)) = (u32::try_from(self.bytes.len()), u16::try_from(name.len())) else {
            return Err(Error::new(Kind::TooLarge, "the names in this directory are more than 4 GiB"));
        };
        self.bytes.extend_from_slice(name);
        self.rows.push((start, length, kind));
        Ok(())
    }
    fn bytes_of(bytes: &[u8], row: (u32, u16, FileType)) -> &[u8] {
        let start = row.0 as usize;
        bytes.get(start..start + usize::from(row.1)).unwrap_or_default()
    }
    /// Puts them in the order of names, the last first, so that [`Listing::pop`] gives the first.
    pub fn sort_to_pop(&mut self) {
        let bytes = &self.bytes;
        self.rows.sort_unstable_by(|a, b| Self::bytes_of(bytes, *b).cmp(Self::bytes_of(bytes, *a)));
    }
    /// Turns the order round.
    pub fn reverse(&mut self) {
        self.rows.reverse();
    }
    /// Keeps those of which the answer is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], FileType) -> bool) {
        let bytes = &self.bytes;
        self.rows.retain(|row| keep(Self::bytes_of(bytes, *row), row.2));
    }
    /// Takes the last one away.
    pub fn pop(&mut self) -> Option<Name> {
        self.rows.pop().map(|row| Name { bytes: Self::bytes_of(&self.bytes, row).to_vec(), kind: row.2 })
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

/// The names in a granted directory, without `.` and `..`, at most `limit`; `true` when there were more.
///
/// # Errors
/// [`Kind::NotADirectory`]; what getdents64(2) reports; that the run has to stop.
pub fn names<A: Action<On = File>>(granted: &Granted<A>, limit: usize, watch: &Watch) -> Result<(Vec<Name>, bool)> {
    let mut names = Vec::new();
    let more = each(granted, watch, |bytes, kind| {
        if names.len() == limit {
            return Ok(false);
        }
        names.push(Name { bytes: bytes.to_vec(), kind });
        Ok(true)
    })?;
    Ok((names, more))
}

/// The same as a [`Listing`], all of them, in the order of the directory.
///
/// # Errors
/// As [`names`].
pub fn list<A: Action<On = File>>(granted: &Granted<A>, watch: &Watch) -> Result<Listing> {
    let mut listing = Listing::default();
    each(granted, watch, |bytes, kind| listing.push(bytes, kind).map(|()| true))?;
    Ok(listing)
}

/// Tells of each name until the answer is false; `true` when it was.
fn each<A: Action<On = File>>(granted: &Granted<A>, watch: &Watch, mut tell: impl FnMut(&[u8], FileType) -> Result<bool>) -> Result<bool> {
    let dir = granted.resource();
    let shown = || dir.asked().shown();
    if !dir.exists() {
        return Err(Error::new(Kind::NotFound, "no such directory").with_path(shown()));
    }
    if !dir.is_dir() {
        return Err(Error::new(Kind::NotADirectory, "is not a directory").with_path(shown()));
    }
    dir.ensure_pinned()?;
    let Some(handle) = dir.handle() else { return Err(Error::new(Kind::NotFound, "no such directory").with_path(shown())) };
    let fd = crate::resource::path::reopen(handle, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|error| error.with_path(shown()))?;
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    let mut count = 0_usize;
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|errno| Error::os("read", errno.raw_os_error()).with_path(shown()))?;
        let bytes = entry.file_name().to_bytes();
        if matches!(bytes, b"." | b"..") {
            continue;
        }
        if count.is_multiple_of(256) {
            watch.check()?;
        }
        count += 1;
        if !tell(bytes, entry.file_type())? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a granted symbolic link says.
///
/// # Errors
/// What readlink(2) reports.
pub fn link_target<A: Action<On = File>>(granted: &Granted<A>) -> Result<Vec<u8>> {
    let link = granted.resource();
    link.ensure_pinned()?;
    let Some(handle) = link.handle() else {
        return Err(Error::new(Kind::NotFound, "no such file or directory").with_path(link.asked().shown()));
    };
    Ok(rustix::fs::readlinkat(handle, c"", Vec::with_capacity(256))
        .map_err(|errno| Error::os("readlink", errno.raw_os_error()).with_path(link.asked().shown()))?
        .into_bytes())
}

/// When a granted thing was made, in seconds and nanoseconds since 1970, where the filesystem knows.
#[must_use]
pub fn birth_time<A: Action<On = File>>(granted: &Granted<A>) -> Option<(i64, u32)> {
    let handle = granted.resource().handle()?;
    let more = rustix::fs::statx(handle, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, StatxFlags::BTIME).ok()?;
    (more.stx_mask & StatxFlags::BTIME.bits() != 0).then_some((more.stx_btime.tv_sec, more.stx_btime.tv_nsec))
}
