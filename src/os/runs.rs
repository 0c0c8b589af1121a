//! The runs under way on this host: a folder with one file for each, locked as long as its process lives. A file that nobody locks and that does not
//! say that its run is over tells the next start that a run ended without its end record: rex itself was killed.
//!
//! Every account that may start sessions makes files here, so nothing in it is believed but what the kernel says: a session looks only at files of its
//! own account (root at all of them), takes the account from the owner and the run from the name, and reads four bytes. It never waits, and looks at no
//! more than `NAMES` names and `LOOKS` files, whatever is in the folder. So an account can make or hide ends of runs of its own only, and who fills the folder
//! can make rex miss some: a run without an end record is then still found by `rex audit --verify`.

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RawDir};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Names that one start looks at. A host has about as many as it has runs under way.
const NAMES: usize = 512;
/// Files that it opens.
const LOOKS: usize = 16;
/// Runs whose end one start puts on record.
const LOST: usize = 4;
/// A file that says nothing is of a start that has not locked it yet. After so many seconds it is taken away.
const FORGOTTEN: i64 = 3600;
/// Longest id of a run.
const MAX_RUN: usize = 64;
/// What a file says from the start record on.
const OPEN: &[u8; 4] = b"open";
/// The same before that, and from the end record on.
const DONE: &[u8; 4] = b"done";
/// Its mode, as in packaging/tmpfiles.d.
const MODE: u32 = 0o1770;

/// A run of this process. Its lock ends with the process, however that ends.
#[derive(Debug)]
pub struct Entry {
    file: OwnedFd,
}

impl Entry {
    /// The start of the run is on record.
    pub fn begun(&self) {
        self.say(OPEN);
    }
    /// The end of the run is on record. The file itself goes at a later start: behind the fence rex may remove nothing here.
    pub fn ended(&self) {
        self.say(DONE);
    }
    fn say(&self, word: &[u8; 4]) {
        // Without it a start too many tells of this run, or none: no reason to stop anything.
        let _ = rustix::io::pwrite(&self.file, word, 0);
    }
}

/// A run that ended without a word. While this lives no other start tells of it.
#[derive(Debug)]
pub struct Lost {
    /// Its id.
    pub run: String,
    /// The account that it ran as.
    pub uid: u32,
    /// When its start was recorded, in seconds since 1970.
    pub since: i64,
    name: String,
    _lock: OwnedFd,
}

/// The folder, open.
#[derive(Debug)]
pub struct Runs {
    folder: OwnedFd,
}

impl Runs {
    /// Opens the folder where it is one that only root, or this account, can take files of others away from. With `make`, root makes it where it is missing, together with the
    /// folder above it, open to the group `gid`. Nothing: it is not used.
    #[must_use]
    pub fn open(path: &Path, make: bool, gid: impl FnOnce() -> Option<u32>) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if make && rustix::process::geteuid().is_root() {
            super::shared::make(path, MODE, gid()).ok()?;
        }
        let folder = rustix::fs::open(path, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&folder).ok()?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        let shared = mode.intersects(Mode::WGRP | Mode::WOTH);
        let sound = (stat.st_uid == 0 || stat.st_uid == own_uid()) && (!shared || mode.contains(Mode::SVTX));
        sound.then_some(Self { folder })
    }

    /// The runs of this account that ended without a word, at most `LOST` of them. What is left of others is taken away.
    #[must_use]
    pub fn lost(&self) -> Vec<Lost> {
        let names = self.names();
        let first = if names.len() > LOOKS { chance(names.len()) } else { 0 };
        let mut lost = Vec::new();
        for name in names.iter().cycle().skip(first).take(names.len().min(LOOKS)) {
            if lost.len() >= LOST {
                break;
            }
            lost.extend(self.look(name));
        }
        lost
    }

    /// Puts this run into the folder.
    #[must_use]
    pub fn enter(&self, run: &str) -> Option<Entry> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = format!("{}.{run}", own_uid());
        let file = rustix::fs::openat(&self.folder, &name, flags, Mode::RUSR | Mode::WUSR).ok()?;
        // Nobody else has a reason to lock it, and without the lock it must not say that the run is open.
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let entry = Entry { file };
                // A start that comes to nothing leaves nothing to tell of.
                entry.ended();
                Some(entry)
            }
            Err(_) => None,
        }
    }

    /// Its end is on record.
    pub fn forget(&self, lost: Lost) {
        let _ = rustix::fs::unlinkat(&self.folder, &lost.name, AtFlags::empty());
    }

    /// The names that are of this account, or of any where this is root.
    fn names(&self) -> Vec<String> {
        let Ok(listed) = rustix::fs::openat(&self.folder, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) else {
            return Vec::new();
        };
        let mut space = [MaybeUninit::uninit(); 8192];
        let mut entries = RawDir::new(listed, &mut space);
        let mut names = Vec::new();
        for _ in 0..NAMES {
            let Some(Ok(entry)) = entries.next() else { break };
            let name = entry.file_name().to_bytes();
            if let Some((uid, _)) = parts(name)
                && (own_uid() == 0 || uid == own_uid())
            {
                names.extend(std::str::from_utf8(name).map(str::to_owned));
            }
        }
        names
    }

    fn look(&self, name: &str) -> Option<Lost> {
        let (uid, run) = parts(name.as_bytes())?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, OsStr::from_bytes(name.as_bytes()), flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1 && stat.st_uid == uid;
        if !plain || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return None;
        }
        let mut word = [0u8; 4];
        let length = rustix::io::pread(&file, &mut word, 0).ok()?;
        let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs())).unwrap_or(0);
        match word.get(..length)? {
            said if said == OPEN => Some(Lost { run: run.to_owned(), uid, since: stat.st_mtime, name: name.to_owned(), _lock: file }),
            said if said == DONE || stat.st_mtime.saturating_add(FORGOTTEN) < now => {
                let _ = rustix::fs::unlinkat(&self.folder, name, AtFlags::empty());
                None
            }
            _ => None,
        }
    }
}

/// The account and the run of a name such as `1000.r-20260102T030405-0123456789`.
fn parts(name: &[u8]) -> Option<(u32, &str)> {
    let (uid, run) = std::str::from_utf8(name).ok()?.split_once('.')?;
    let plain = run.len() <= MAX_RUN && run.starts_with("r-") && run.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let number = uid.bytes().all(|byte| byte.is_ascii_digit()) && (uid == "0" || !uid.starts_with('0'));
    (plain && number).then_some((uid.parse().ok()?, run))
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Some number below `most`.
fn chance(most: usize) -> usize {
    let mut bytes = [0u8; 4];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(0) % most.max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const RUN: &str = "r-20260102T030405-0123456789";

    fn runs() -> (tempfile::TempDir, Runs) {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs::open(dir.path(), false, || None).unwrap();
        (dir, runs)
    }
    fn count(dir: &tempfile::TempDir) -> usize {
        std::fs::read_dir(dir.path()).unwrap().count()
    }
    fn left(dir: &tempfile::TempDir, run: &str, word: &str) {
        std::fs::write(dir.path().join(format!("{}.{run}", own_uid())), word).unwrap();
    }

    #[test]
    fn a_run_that_ended_without_a_word_is_found_once_and_the_others_are_not() {
        let (dir, runs) = runs();
        let entry = runs.enter(RUN).unwrap();
        assert!(runs.lost().is_empty(), "it has not begun");
        entry.begun();
        assert!(runs.lost().is_empty(), "it is locked");
        drop(entry);
        let mut lost = runs.lost();
        assert_eq!(lost.iter().map(|lost| (lost.run.as_str(), lost.uid)).collect::<Vec<_>>(), [(RUN, own_uid())]);
        assert!(runs.lost().is_empty(), "another start has found it already");
        runs.forget(lost.pop().unwrap());
        assert_eq!((runs.lost().len(), count(&dir)), (0, 0));
        let entry = runs.enter(RUN).unwrap();
        entry.begun();
        entry.ended();
        drop(entry);
        assert_eq!((runs.lost().len(), count(&dir)), (0, 0), "one that ended in order is taken away");
    }

    #[test]
    fn what_others_put_there_is_not_believed_and_not_waited_for() {
        let (dir, runs) = runs();
        let at = |name: &str| dir.path().join(name);
        let own = own_uid();
        let id = |n: u32| format!("{own}.r-20260102T030405-{n:010}");
        rustix::fs::mkfifoat(rustix::fs::CWD, at(&id(1)), Mode::from_raw_mode(0o600)).unwrap();
        std::fs::create_dir(at(&id(2))).unwrap();
        std::fs::write(at("target"), "open").unwrap();
        std::os::unix::fs::symlink("target", at(&id(3))).unwrap();
        std::fs::hard_link(at("target"), at(&id(4))).unwrap();
        for odd in [
            format!("{own}.x"),
            format!("0{own}.{RUN}"),
            format!("{own}.{RUN}\n"),
            format!("{own}.r-../../etc"),
            format!("{own}.r-{}", "a".repeat(200)),
            "4294967296.r-1".into(),
            ".r-1".into(),
        ] {
            // A name that cannot be is as good as one that is not believed.
            let _ = std::fs::write(at(&odd), "open");
        }
        std::fs::write(at(&id(5)), "open\n and a forged record").unwrap();
        std::fs::write(at(&id(6)), "openly").unwrap();
        std::fs::write(at(&id(7)), "nothing").unwrap();
        let other = if own == 0 { 1 } else { 0 };
        std::fs::write(at(&format!("{other}.{RUN}")), "open").unwrap();
        let found: Vec<String> = runs.lost().into_iter().map(|lost| lost.run).collect();
        // Four bytes count, whatever comes behind them.
        assert!(found.len() == 2 && found.iter().all(|run| run.ends_with('5') || run.ends_with('6')), "{found:?}");
    }

    #[test]
    fn a_folder_that_others_can_take_files_from_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, used) in [(0o700, true), (0o770, false), (0o1770, true), (0o777, false), (0o1777, true)] {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Runs::open(dir.path(), false, || None).is_some(), used, "{mode:o}");
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(Runs::open(&link, false, || None).is_none());
        assert!(Runs::open(&dir.path().join("missing"), false, || None).is_none());
    }

    #[test]
    fn a_hundred_thousand_files_cost_no_more_than_some() {
        let (dir, runs) = runs();
        for n in 0..3000 {
            left(&dir, &format!("r-20260102T030405-{n:010}"), "open");
        }
        assert_eq!(runs.lost().len(), LOST);
        assert_eq!(runs.names().len(), NAMES - dots(&runs));
    }
    /// Where `.` and `..` come is the filesystem's business.
    fn dots(runs: &Runs) -> usize {
        let listed = rustix::fs::openat(&runs.folder, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let mut space = [MaybeUninit::uninit(); 8192];
        let mut entries = RawDir::new(listed, &mut space);
        (0..NAMES).filter(|_| entries.next().unwrap().unwrap().file_name().to_bytes().starts_with(b".")).count()
    }
}
