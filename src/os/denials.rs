//! What callers were told of their denials, kept for `rex why`: one bounded file for each Unix account in a folder that all of them may write to.
//!
//! It serves explanations only and decides nothing: whoever runs as the account may have written what is in its file. What another account put
//! there (a link, a FIFO, a file of its own) is not read and not written.

use super::trusted::read_up_to;
use crate::error::Result;
use rustix::fd::OwnedFd;
use rustix::fs::FlockOperation;
use std::path::Path;
use std::sync::Mutex;

/// The mode of the folder, as in packaging/tmpfiles.d: new files get its group, and only their owners remove them.
const MODE: u32 = 0o3770;
/// Bytes of a file at which its older half goes, when a run begins.
const FULL: u64 = 512 << 10;
/// Bytes that one run adds.
const OF_A_RUN: usize = 256 << 10;
/// The longest line.
const LINE: usize = 8 << 10;
/// Bytes that are read: a few runs at one time may be beyond the bound.
const READ: u64 = 8 << 20;

/// The open file of this account.
#[derive(Debug)]
pub struct Denials {
    fd: OwnedFd,
    /// What this run may still add.
    left: Mutex<usize>,
}

impl Denials {
    /// Opens the file of this process's account in the folder, and makes it where it is not there; root makes the folder too, open to the group `gid`.
    ///
    /// # Errors
    /// When the folder is not there or anybody could replace what is in it, or when the file is not this account's alone.
    pub fn open(folder: &Path, gid: impl FnOnce() -> Option<u32>) -> Result<Self> {
        let (fd, stat) = super::shared::own_file(folder, MODE, gid, &rustix::process::geteuid().as_raw().to_string())?;
        let denials = Self { fd, left: Mutex::new(OF_A_RUN) };
        if u64::try_from(stat.st_size).unwrap_or(0) > FULL {
            denials.halve()?;
        }
        Ok(denials)
    }

    /// Keeps the newer half. Runs side by side wait for each other by the lock of the file; one that writes meanwhile may lose its line.
    fn halve(&self) -> Result<()> {
        if rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        let done = self.read().and_then(|bytes| {
            let from = bytes.len().saturating_sub(usize::try_from(FULL / 2).unwrap_or(0));
            let kept = bytes.get(from..).unwrap_or_default();
            let line = kept.iter().position(|byte| *byte == b'\n').map_or(kept.len(), |end| end + 1);
            rustix::fs::ftruncate(&self.fd, 0)?;
            rustix::io::write(&self.fd, kept.get(line..).unwrap_or_default())?;
            Ok(())
        });
        let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
        done
    }

    fn read(&self) -> Result<Vec<u8>> {
        rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Start(0))?;
        Ok(read_up_to(&self.fd, READ)?)
    }

    /// Adds one line, without its end. What does not fit is left out: an explanation is a service and no record.
    pub fn add(&self, line: &str) {
        let Ok(mut left) = self.left.lock() else { return };
        if line.len() >= LINE || line.len() >= *left || line.contains('\n') {
            return;
        }
        *left -= line.len() + 1;
        let _ = rustix::io::write(&self.fd, format!("{line}\n").as_bytes());
    }

    /// The lines, the newest first; what is no text is left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn lines(&self) -> Result<Vec<String>> {
        let bytes = self.read()?;
        let lines = bytes.split(|byte| *byte == b'\n').rev().filter(|line| !line.is_empty() && line.len() < LINE);
        Ok(lines.filter_map(|line| String::from_utf8(line.to_vec()).ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use rustix::fs::{FileType, Mode};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("denials");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o1777)).unwrap();
        let mine = folder.join(rustix::process::geteuid().as_raw().to_string());
        (dir, mine)
    }

    #[test]
    fn lines_come_back_the_newest_first() {
        let (_dir, mine) = folder();
        let store = Denials::open(mine.parent().unwrap(), || None).unwrap();
        store.add("one");
        store.add("two\nlines");
        Denials::open(mine.parent().unwrap(), || None).unwrap().add("three");
        assert_eq!(store.lines().unwrap(), ["three", "one"]);
        assert_eq!(mine.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_run_adds_only_so_much_and_a_full_file_loses_its_older_half() {
        let (_dir, mine) = folder();
        let store = Denials::open(mine.parent().unwrap(), || None).unwrap();
        (0..1000).for_each(|_| store.add(&"x".repeat(1000)));
        let size = mine.metadata().unwrap().len();
        assert!(size <= OF_A_RUN as u64 && size > OF_A_RUN as u64 - 2000, "{size}");
        std::fs::write(&mine, format!("{}last\n", format!("{}\n", "y".repeat(99)).repeat(6000))).unwrap();
        let store = Denials::open(mine.parent().unwrap(), || None).unwrap();
        assert!(mine.metadata().unwrap().len() <= FULL / 2);
        let lines = store.lines().unwrap();
        assert_eq!(lines[0], "last");
        assert!(lines[1..].iter().all(|line| line.len() == 99));
    }

    #[test]
    fn what_a_neighbour_put_there_is_not_used() {
        let (dir, mine) = folder();
        let target = dir.path().join("target");
        std::fs::write(&target, "theirs\n").unwrap();
        symlink(&target, &mine).unwrap();
        assert!(Denials::open(mine.parent().unwrap(), || None).is_err(), "a link");
        std::fs::remove_file(&mine).unwrap();
        std::fs::hard_link(&target, &mine).unwrap();
        assert!(Denials::open(mine.parent().unwrap(), || None).is_err(), "another name of a file");
        std::fs::remove_file(&mine).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &mine, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(Denials::open(mine.parent().unwrap(), || None).is_err(), "a FIFO");
        std::fs::remove_file(&mine).unwrap();
        if rustix::process::geteuid().is_root() {
            std::fs::write(&mine, "forged\n").unwrap();
            std::os::unix::fs::chown(&mine, Some(1), Some(1)).unwrap();
            assert!(Denials::open(mine.parent().unwrap(), || None).is_err(), "a file of somebody else");
            std::fs::remove_file(&mine).unwrap();
        }
        std::fs::set_permissions(mine.parent().unwrap(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Denials::open(mine.parent().unwrap(), || None).is_err(), "a folder in which others can rename");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "theirs\n");
    }
}
