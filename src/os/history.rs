//! What was typed at prompts, kept for the one who typed it: one bounded file for each principal of each Unix account, in a folder that all accounts may write to.
//!
//! It serves editing only and decides nothing: whoever runs as the account may have written what is in its file, so every line is looked at before it is
//! shown. The file is opened before the fence goes up, and from then on it is only appended to.

use super::terminal::steers_nothing as is_plain;
use super::trusted::read_up_to;
use crate::error::Result;
use rustix::fd::OwnedFd;
use rustix::fs::FlockOperation;
use std::path::Path;

/// The mode of the folder, as in packaging/tmpfiles.d: new files get its group, and only their owners remove them.
const MODE: u32 = 0o3770;
/// Bytes of a file at which its older half goes, when a session begins.
const FULL: u64 = 256 << 10;
/// Bytes that one session adds.
const OF_A_SESSION: usize = 256 << 10;
/// The longest entry, as it is written.
const LINE: usize = 8 << 10;
/// Entries that a session has at hand.
pub const ENTRIES: usize = 1000;
/// Bytes that are read: sessions side by side may be beyond the bound.
const READ: u64 = 2 << 20;

/// The open file.
#[derive(Debug)]
pub struct History {
    fd: OwnedFd,
    /// What this session may still add.
    left: usize,
}

impl History {
    /// Opens the file of this principal; see [`super::shared::own_file`].
    ///
    /// # Errors
    /// As there.
    pub fn open(folder: &Path, principal: &str, gid: impl FnOnce() -> Option<u32>) -> Result<Self> {
        // Principals of one account are told apart, and a name is free text.
        let of = super::digest::hex_sha256(principal.as_bytes());
        let name = format!("{}.{}", rustix::process::geteuid().as_raw(), of.get(..16).unwrap_or_default());
        let (fd, stat) = super::shared::own_file(folder, MODE, gid, &name)?;
        let history = Self { fd, left: OF_A_SESSION };
        if u64::try_from(stat.st_size).unwrap_or(0) > FULL {
            history.halve()?;
        }
        Ok(history)
    }

    /// Keeps the newer half. Sessions side by side wait for each other by the lock of the file; one that writes meanwhile may lose its line.
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

    /// The newest entries, the oldest of them first. What could steer a terminal, or is no entry, is left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn entries(&self) -> Result<Vec<String>> {
        let bytes = self.read()?;
        let entry = |line: &[u8]| serde_json::from_slice::<String>(line).ok().filter(|entry| is_plain(entry) && !entry.trim().is_empty());
        let mut entries: Vec<String> =
            bytes.split(|byte| *byte == b'\n').rev().filter(|line| line.len() < LINE).filter_map(entry).take(ENTRIES).collect();
        entries.reverse();
        Ok(entries)
    }

    /// Adds an entry. What does not fit is left out.
    pub fn add(&mut self, entry: &str) {
        let Ok(line) = serde_json::to_string(entry) else { return };
        if line.len() + 1 >= LINE || line.len() + 1 > self.left || !is_plain(entry) {
            return;
        }
        self.left -= line.len() + 1;
        let _ = rustix::io::write(&self.fd, format!("{line}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
        dir
    }

    #[test]
    fn entries_come_back_in_order_to_the_one_who_typed_them() {
        let dir = folder();
        let mut alice = History::open(dir.path(), "alice", || None).unwrap();
        alice.add("let a = 1;\nlet b = 2;");
        alice.add("a + b");
        History::open(dir.path(), "bob", || None).unwrap().add("of bob");
        let again = History::open(dir.path(), "alice", || None).unwrap();
        assert_eq!(again.entries().unwrap(), ["let a = 1;\nlet b = 2;", "a + b"]);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_others_wrote_into_it_is_shown_only_where_it_is_plain_text() {
        let dir = folder();
        let mut history = History::open(dir.path(), "alice", || None).unwrap();
        history.add("fine");
        history.add("\u{1b}]0;title\u{7}");
        let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let mut text = std::fs::read(&file).unwrap();
        text.extend(b"no json\n\"\\u001b[2J\"\n\xff\xfe\n\"\\u202e\"\n\"last\"\n\"cut");
        std::fs::write(&file, text).unwrap();
        assert_eq!(history.entries().unwrap(), ["fine", "last"]);
    }

    #[test]
    fn it_is_bounded() {
        let dir = folder();
        let mut history = History::open(dir.path(), "alice", || None).unwrap();
        (0..1000).for_each(|_| history.add(&"x".repeat(1000)));
        history.add(&"y".repeat(LINE));
        let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let size = file.metadata().unwrap().len();
        assert!(size <= OF_A_SESSION as u64 && size > OF_A_SESSION as u64 - 2000, "{size}");
        History::open(dir.path(), "alice", || None).unwrap().add("1");
        History::open(dir.path(), "alice", || None).unwrap().add(&"z".repeat(2000));
        History::open(dir.path(), "alice", || None).unwrap();
        assert!(file.metadata().unwrap().len() <= FULL / 2 + 4000);
    }

    #[test]
    fn a_link_in_its_place_is_not_used() {
        let dir = folder();
        History::open(dir.path(), "alice", || None).unwrap().add("1");
        let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let target = dir.path().join("target");
        std::fs::rename(&file, &target).unwrap();
        symlink(&target, &file).unwrap();
        assert!(History::open(dir.path(), "alice", || None).is_err());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "\"1\"\n");
    }
}
