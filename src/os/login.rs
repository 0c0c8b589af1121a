//! Records of logins: one file for each login under way, named after the kernel's audit session, written by root and believed only while the sshd process that
//! wrote it lives.
//!
//! The audit session is a number that the kernel gives at login (pam_loginuid(8) sets the login uid, and the kernel counts the session with it,
//! kernel/auditsc.c) and that every process of the login inherits. None but a holder of CAP_AUDIT_CONTROL changes it, and nobody chooses it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags};

use super::trusted::{Owner, Trusted, read_up_to};
use crate::error::{Error, Kind, Result};

/// What the kernel says where no session was ever begun (AUDIT_SID_UNSET, and AUDIT_UID_UNSET for the login uid).
const UNSET: u32 = u32::MAX;
/// Bytes of one record: sshd's account of the login is 64 KiB at most, as for `ExposeAuthInfo`.
pub const MAX_RECORD: u64 = 80 << 10;
/// Names that one login looks at to take away records of logins that are over without having said so.
const LOOKS: usize = 4096;
/// Mode of the folder: each account reaches the record of its own login by name, and none lists who is logged in.
const FOLDER: u32 = 0o711;

/// The audit session of a process (`self`, or a number); none where the kernel has no audit or no login was made.
#[must_use]
pub fn audit_session(process: &str) -> Option<u32> {
    number(&format!("/proc/{process}/sessionid"))
}

/// The login uid of this process; none as above.
#[must_use]
pub fn login_uid() -> Option<u32> {
    number("/proc/self/loginuid")
}

fn number(path: &str) -> Option<u32> {
    let text = small_file(path)?;
    text.trim().parse().ok().filter(|value| *value != UNSET)
}

fn small_file(path: &str) -> Option<String> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).ok()?;
    String::from_utf8(read_up_to(&file, 4096).ok()?).ok()
}

/// A process, told from a later one with the same number by the moment of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    pub pid: u32,
    /// Clock ticks after the start of the system (proc_pid_stat(5), field 22).
    pub start: u64,
}

/// What /proc says of a process.
struct Seen {
    parent: u32,
    start: u64,
    uid: u32,
}

fn look(pid: u32) -> Option<Seen> {
    let path = format!("/proc/{pid}/stat");
    let text = small_file(&path)?;
    // The name, in parentheses, may hold anything: what follows its last parenthesis are the fields from the third on.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    let uid = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    Some(Seen { parent, start, uid })
}

impl Process {
    /// The process that started this one, and the one that started that.
    #[must_use]
    pub fn parents() -> Option<(Self, u32)> {
        let pid = rustix::process::getppid()?.as_raw_nonzero().get().unsigned_abs();
        let seen = look(pid)?;
        Some((Self { pid, start: seen.start }, seen.parent))
    }

    /// Whether it lives, and is root's. Where /proc hides the processes of others (`hidepid`), that a process of this number is there and belongs to
    /// somebody else is all that can be known.
    #[must_use]
    pub fn lives(self) -> bool {
        match look(self.pid) {
            Some(seen) => seen.start == self.start && seen.uid == 0,
            None => {
                let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
                !rustix::process::geteuid().is_root()
                    && pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::PERM))
            }
        }
    }
}

/// Where the record of an audit session is.
#[must_use]
pub fn path(folder: &Path, session: u32) -> PathBuf {
    folder.join(session.to_string())
}

/// The record of an audit session, with every check of an owner's file: root wrote it, and only root can write it or a folder above it.
///
/// # Errors
/// [`Kind::NotFound`] where there is none; [`Kind::Config`] where it is not to be believed.
pub fn read(folder: &Path, session: u32) -> Result<Vec<u8>> {
    Trusted::new(Owner::RootOnly).read(&path(folder, session), MAX_RECORD)
}

/// Writes the record of a login at once and whole, readable for root and the group `gid` (of the account) alone.
///
/// # Errors
/// Those of open(2), write(2) and rename(2); [`Kind::Config`] for a folder that others can write.
pub fn write(folder: &Path, session: u32, gid: Option<u32>, record: &[u8]) -> Result<()> {
    super::shared::make(folder, FOLDER, Some(0))?;
    let stat = rustix::fs::lstat(folder)?;
    if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 || stat.st_mode & rustix::fs::FileType::Directory.as_raw_mode() == 0 {
        return Err(Error::new(Kind::Config, format!("{} must be a folder of root that nobody else can write", folder.display())));
    }
    let new = folder.join(format!(".{session}.{}", std::process::id()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let written = (|| -> Result<()> {
        let file = rustix::fs::open(&new, flags, Mode::RUSR | Mode::WUSR)?;
        let mut rest = record;
        while !rest.is_empty() {
            let count = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
            rest = rest.get(count..).unwrap_or_default();
        }
        if let Some(gid) = gid {
            rustix::fs::fchown(&file, None, Some(Gid::from_raw(gid)))?;
            rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR | Mode::RGRP)?;
        }
        rustix::fs::rename(&new, path(folder, session))?;
        Ok(())
    })();
    if written.is_err() {
        let _ = rustix::fs::unlink(&new);
    }
    written
}

/// Takes the record away; that there is none is no error.
///
/// # Errors
/// Those of unlink(2).
pub fn remove(folder: &Path, session: u32) -> Result<()> {
    match rustix::fs::unlink(path(folder, session)) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        done => Ok(done?),
    }
}

/// The audit sessions that have a record, as far as one login looks.
#[must_use]
pub fn sessions(folder: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.take(LOOKS).filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_number() {
        let (parent, above) = Process::parents().unwrap();
        let root = look(parent.pid).unwrap().uid == 0;
        assert_eq!(parent.lives(), root);
        assert_ne!(above, parent.pid);
        assert!(!Process { start: parent.start + 1, ..parent }.lives());
    }

    #[test]
    fn a_record_is_whole_and_its_group_reads_it() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let scratch = tempfile::tempdir_in("/srv").unwrap();
        std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let folder = scratch.path().join("logins");
        assert_eq!(read(&folder, 7).unwrap_err().kind, Kind::NotFound);
        write(&folder, 7, Some(12), b"one").unwrap();
        write(&folder, 7, Some(12), b"two").unwrap();
        assert_eq!(read(&folder, 7).unwrap(), b"two");
        let stat = path(&folder, 7).metadata().unwrap();
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (0, 12, 0o640));
        assert_eq!(folder.metadata().unwrap().mode() & 0o7777, 0o711);
        assert_eq!(sessions(&folder), [7]);
        remove(&folder, 7).unwrap();
        remove(&folder, 7).unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o733)).unwrap();
        assert_eq!(write(&folder, 7, None, b"").unwrap_err().kind, Kind::Config);
    }
}
