//! Reading directories that were granted: their names, from the pinned object.

use crate::error::{Error, Kind, Result};
use crate::limits::Watch;
use crate::policy::Action;
use crate::policy::Granted;
use crate::resource::file::File;
use rustix::fs::{FileType, OFlags, RawDir};

/// A name in a directory, with the type that the filesystem keeps beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub bytes: Vec<u8>,
    pub kind: FileType,
}

/// The names in a granted directory, without `.` and `..`, at most `limit`; `true` when there were more.
///
/// # Errors
/// [`Kind::NotADirectory`]; what getdents64(2) reports; that the run has to stop.
pub fn names<A: Action<On = File>>(granted: &Granted<A>, limit: usize, watch: &Watch) -> Result<(Vec<Name>, bool)> {
    let dir = granted.resource();
    let shown = || dir.asked().shown();
    let Some(handle) = dir.handle().filter(|_| dir.exists()) else {
        return Err(Error::new(Kind::NotFound, "no such directory").with_path(shown()));
    };
    if !dir.is_dir() {
        return Err(Error::new(Kind::NotADirectory, "is not a directory").with_path(shown()));
    }
    let fd = crate::resource::path::reopen(handle, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|error| error.with_path(shown()))?;
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|errno| Error::os("read", errno.raw_os_error()).with_path(shown()))?;
        let bytes = entry.file_name().to_bytes();
        if matches!(bytes, b"." | b"..") {
            continue;
        }
        if names.len() % 256 == 0 {
            watch.check()?;
        }
        if names.len() == limit {
            return Ok((names, true));
        }
        names.push(Name { bytes: bytes.to_vec(), kind: entry.file_type() });
    }
    Ok((names, false))
}

/// What a granted symbolic link says.
///
/// # Errors
/// What readlink(2) reports.
pub fn link_target<A: Action<On = File>>(granted: &Granted<A>) -> Result<Vec<u8>> {
    let link = granted.resource();
    let Some(handle) = link.handle() else {
        return Err(Error::new(Kind::NotFound, "no such file or directory").with_path(link.asked().shown()));
    };
    Ok(rustix::fs::readlinkat(handle, c"", Vec::with_capacity(256))
        .map_err(|errno| Error::os("readlink", errno.raw_os_error()).with_path(link.asked().shown()))?
        .into_bytes())
}
