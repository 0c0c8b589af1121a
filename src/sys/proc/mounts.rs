//! Mounted filesystems and how full they are: df(1), with a time limit for each so that a dead file server holds nobody up.

use super::{int, odd, read_file};
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use crate::sys::stream::Check;
use rustix::fs::{AtFlags, Mode, OFlags, StatVfs, StatxFlags};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// A row of `/proc/self/mountinfo`; see proc(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub id: u64,
    pub parent: u64,
    pub major: u32,
    pub minor: u32,
    /// The folder of the filesystem that is mounted; `/` but for bind mounts and subvolumes.
    pub root: PathBuf,
    pub mount_point: PathBuf,
    /// Of the mount and of the filesystem, e.g. `rw`, `noatime`.
    pub options: Vec<String>,
    /// e.g. `ext4`.
    pub kind: String,
    /// e.g. `/dev/sda1`, `server:/export`; any word for filesystems without a device.
    pub device: Vec<u8>,
}

impl Mount {
    /// Whether it holds no files of its own: the kernel's windows, and what only shows another tree.
    #[must_use]
    pub fn is_pseudo(&self) -> bool {
        PSEUDO.contains(&self.kind.as_str())
    }

    /// Whether its files are on another host.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        REMOTE.contains(&self.kind.as_str())
    }

    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }
}

/// Filesystems without storage; tmpfs and overlay are not among them, they can be full.
const PSEUDO: &[&str] = &[
    "autofs",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
];

/// Filesystems of other hosts.
const REMOTE: &[&str] = &[
    "9p",
    "afs",
    "ceph",
    "cifs",
    "fuse.glusterfs",
    "fuse.s3fs",
    "fuse.sshfs",
    "gfs2",
    "glusterfs",
    "lustre",
    "nfs",
    "nfs4",
    "ocfs2",
    "smb3",
    "smbfs",
    "virtiofs",
];

/// Every mount that this process can see, in the kernel's order. The grant is on `/proc/mounts`, which says the same in fewer words.
///
/// # Errors
/// What reading `/proc/self/mountinfo` reports.
pub fn mounts<A: Action<On = File>>(_: &Granted<A>) -> Result<Vec<Mount>> {
    own_mounts()
}

pub(in crate::sys) fn own_mounts() -> Result<Vec<Mount>> {
    parse(&read_file("/proc/self/mountinfo")?)
}

fn parse(bytes: &[u8]) -> Result<Vec<Mount>> {
    let rows = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    rows.map(|line| parse_row(line).ok_or_else(|| odd("/proc/self/mountinfo"))).collect()
}

fn parse_row(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let mut word = || words.next();
    let text = |bytes: &[u8]| Some(String::from_utf8_lossy(&unescape(bytes)).into_owned());
    let (id, parent) = (text(word()?)?.parse().ok()?, text(word()?)?.parse().ok()?);
    let device_number = text(word()?)?;
    let (major, minor) = device_number.split_once(':')?;
    let root = path(word()?);
    let mount_point = path(word()?);
    let mut options: Vec<String> = text(word()?)?.split(',').map(str::to_owned).collect();
    // Optional fields end with a lone dash.
    while word()? != b"-" {}
    let kind = text(word()?)?;
    let device = unescape(word()?);
    for option in text(word().unwrap_or_default())?.split(',').filter(|option| !option.is_empty()) {
        if !options.iter().any(|known| known == option) {
            options.push(option.to_owned());
        }
    }
    Some(Mount { id, parent, major: major.parse().ok()?, minor: minor.parse().ok()?, root, mount_point, options, kind, device })
}

fn path(bytes: &[u8]) -> PathBuf {
    std::ffi::OsString::from_vec(unescape(bytes)).into()
}

/// Blanks, newlines and backslashes are written as `\` and three octal digits.
fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        if let ([b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..], Some(after)) = (rest, rest.get(4..)) {
            plain.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = after;
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

/// How full a filesystem is; sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    pub size: i64,
    /// Occupied by files.
    pub used: i64,
    /// What an ordinary user can still write; blocks reserved for root are neither in here nor in `used`.
    pub available: i64,
    /// `used` of `used` and `available`, rounded up, as df(1) shows it; nothing where both are 0.
    pub use_percent: Option<i64>,
    /// 0 where the filesystem makes inodes as it needs them.
    pub inodes: i64,
    pub inodes_used: i64,
    pub inodes_free: i64,
    pub inodes_use_percent: Option<i64>,
}

fn usage(stat: &StatVfs) -> Usage {
    let unit = if stat.f_frsize == 0 { stat.f_bsize } else { stat.f_frsize };
    let bytes = |blocks: u64| int(blocks.saturating_mul(unit));
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    // Past its reserve a filesystem reports less than nothing as a huge number.
    let available = if stat.f_bavail > stat.f_bfree { 0 } else { stat.f_bavail };
    let inodes_used = stat.f_files.saturating_sub(stat.f_ffree);
    Usage {
        size: bytes(stat.f_blocks),
        used: bytes(used),
        available: bytes(available),
        use_percent: percent(used, available),
        inodes: int(stat.f_files),
        inodes_used: int(inodes_used),
        inodes_free: int(stat.f_ffree),
        inodes_use_percent: percent(inodes_used, stat.f_ffree),
    }
}

/// `part` of `part + rest` in percent, rounded up.
fn percent(part: u64, rest: u64) -> Option<i64> {
    let whole = u128::from(part) + u128::from(rest);
    if whole == 0 {
        return None;
    }
    i64::try_from((u128::from(part) * 100).div_ceil(whole)).ok()
}

/// What asking a mount for its usage gave.
#[derive(Clone, Debug)]
pub enum Answer {
    Usage(Usage),
    /// Another mount lies over it, so it cannot be reached by its path.
    Hidden,
    /// It did not answer in time.
    TimedOut,
    Failed(Error),
}

/// Asks every mount how full it is. One that does not answer within `patience` is left to itself; others still get their turn.
///
/// The rows come in the order of `mounts`.
///
/// # Errors
/// The check's reason.
pub fn usages<A: Action<On = File>>(mounts: &[(Mount, Granted<A>)], patience: Duration, check: Check<'_>) -> Result<Vec<Answer>> {
    if mounts.iter().any(|(mount, granted)| granted.resource().place() != mount.mount_point.as_os_str().as_bytes()) {
        return Err(Error::new(Kind::Internal, "a filesystem was asked for with the permission for another"));
    }
    let mounts: Vec<Mount> = mounts.iter().map(|(mount, _)| mount.clone()).collect();
    ask_each(&mounts, patience, check, ask)
}

/// Helpers that may hang at one time; a host with more dead servers than this gets `TimedOut` for the rest without another try.
const MAX_HUNG: usize = 16;

/// A thread that asks mounts, one after the other.
struct Helper {
    to: SyncSender<Mount>,
    from: Receiver<Answer>,
}

impl Helper {
    fn start(ask: fn(&Mount) -> Answer) -> Result<Self> {
        let (to, work) = sync_channel::<Mount>(1);
        let (result, from) = sync_channel(1);
        let body = move || {
            while let Ok(mount) = work.recv() {
                if result.send(ask(&mount)).is_err() {
                    return;
                }
            }
        };
        // A thread that hangs in the kernel is not waited for; the end of the process ends it.
        std::thread::Builder::new().name("df".into()).stack_size(64 << 10).spawn(body)?;
        Ok(Self { to, from })
    }
}

fn ask_each(mounts: &[Mount], patience: Duration, check: Check<'_>, ask: fn(&Mount) -> Answer) -> Result<Vec<Answer>> {
    let mut helper = None;
    let mut hung = 0;
    let mut answers = Vec::with_capacity(mounts.len());
    for mount in mounts {
        check()?;
        if hung >= MAX_HUNG {
            answers.push(Answer::TimedOut);
            continue;
        }
        let working = match helper.take() {
            Some(working) => working,
            None => Helper::start(ask)?,
        };
        let answer = match working.to.send(mount.clone()) {
            Ok(()) => wait(&working.from, patience, check)?,
            Err(_) => None,
        };
        match answer {
            Some(answer) => {
                helper = Some(working);
                answers.push(answer);
            }
            None => {
                hung += 1;
                answers.push(Answer::TimedOut);
            }
        }
    }
    Ok(answers)
}

/// The answer, if it comes in time; looks at the check meanwhile.
fn wait(from: &Receiver<Answer>, patience: Duration, check: Check<'_>) -> Result<Option<Answer>> {
    // The clock does not reach as far as an option can.
    let end = Instant::now() + patience.min(Duration::from_secs(86_400));
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        match from.recv_timeout(left.min(Duration::from_millis(50))) {
            Ok(answer) => return Ok(Some(answer)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Asks one mount, by a handle that reads nothing, and only if it is really the one at its path.
fn ask(mount: &Mount) -> Answer {
    let answer = || -> std::result::Result<Answer, rustix::io::Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&mount.mount_point, flags, Mode::empty())?;
        // Kernels before 5.8 do not tell the mount's id; there what lies on top answers, as with df(1).
        if let Ok(found) = rustix::fs::statx(&handle, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)
            && found.stx_mask & StatxFlags::MNT_ID.bits() != 0
            && found.stx_mnt_id != mount.id
        {
            return Ok(Answer::Hidden);
        }
        Ok(Answer::Usage(usage(&rustix::fs::fstatvfs(&handle)?)))
    };
    answer()
        .unwrap_or_else(|errno| Answer::Failed(Error::os("statfs", errno.raw_os_error()).with_path(mount.mount_point.to_string_lossy())))
}

/// The mount that holds a path, which must be absolute and canonical: the longest mount point above it, the last of equal ones.
#[must_use]
pub fn holding<'a>(mounts: &'a [Mount], path: &OsStr) -> Option<&'a Mount> {
    let path = std::path::Path::new(path);
    mounts.iter().filter(|mount| path.starts_with(&mount.mount_point)).max_by_key(|mount| mount.mount_point.as_os_str().as_bytes().len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn go() -> Result<()> {
        Ok(())
    }

    const TEXT: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
        23 22 0:21 / /proc rw,nosuid - proc proc rw\n\
        40 22 0:45 /export /mnt/my\\040disk ro shared:2 master:3 - nfs4 server:/a\\134b rw,vers=4.2\n";

    #[test]
    fn rows_of_mountinfo_are_read_with_their_odd_names() {
        let mounts = parse(TEXT).unwrap();
        assert_eq!(mounts[0].options, ["rw", "relatime", "errors=remount-ro"]);
        assert!(mounts[1].is_pseudo() && !mounts[0].is_pseudo());
        assert_eq!(mounts[2].mount_point, PathBuf::from("/mnt/my disk"));
        assert_eq!((mounts[2].device.as_slice(), mounts[2].is_remote(), mounts[2].is_read_only()), (&b"server:/a\\b"[..], true, true));
        assert_eq!(parse(b"22 1 8:1 / /\n").unwrap_err().kind, Kind::BadData);
        assert_eq!(parse(b"22 1 8:1 / / rw - \n").unwrap_err().kind, Kind::BadData);
    }

    #[test]
    fn a_path_is_held_by_the_nearest_mount_and_not_by_a_like_named_one() {
        // The reference compares names as text, so `/data` is `/database` to it (rest.md S13).
        let mut mounts = parse(TEXT).unwrap();
        mounts[1].mount_point = "/data".into();
        let point = |path: &str| holding(&mounts, OsStr::new(path)).unwrap().mount_point.clone();
        assert_eq!(point("/data/x"), PathBuf::from("/data"));
        assert_eq!(point("/database"), PathBuf::from("/"));
    }

    #[test]
    fn blocks_reserved_for_root_are_not_counted_as_used() {
        // The reference counts them as used (rest.md S13); the numbers are those of `df` for such a filesystem.
        let mut stat = rustix::fs::statvfs("/").unwrap();
        (stat.f_frsize, stat.f_blocks, stat.f_bfree, stat.f_bavail) = (4096, 1000, 300, 250);
        (stat.f_files, stat.f_ffree) = (100, 99);
        let usage = usage(&stat);
        assert_eq!((usage.used, usage.available, usage.size), (700 * 4096, 250 * 4096, 1000 * 4096));
        assert_eq!((usage.use_percent, usage.inodes_use_percent), (Some(74), Some(1)));
        assert_eq!(percent(0, 0), None);
        assert_eq!(percent(u64::MAX, 0), Some(100));
    }

    #[test]
    fn every_mount_of_this_machine_answers_or_says_why_not() {
        // One odd mount fails the whole df of the reference (rest.md S11).
        let mounts = own_mounts().unwrap();
        let answers = ask_each(&mounts, Duration::from_secs(5), &go, ask).unwrap();
        assert_eq!(answers.len(), mounts.len());
        let root = mounts.iter().rposition(|mount| mount.mount_point.as_os_str() == "/").unwrap();
        let Answer::Usage(usage) = &answers[root] else { panic!("{:?}", answers[root]) };
        let stat = rustix::fs::statvfs("/").unwrap();
        assert_eq!(usage.size, int(stat.f_blocks * stat.f_frsize));
    }

    #[test]
    fn a_mount_that_hangs_costs_its_time_and_not_the_others() {
        fn hang(mount: &Mount) -> Answer {
            if mount.kind == "nfs4" {
                std::thread::sleep(Duration::from_secs(3));
            }
            Answer::Hidden
        }
        let mut mounts = parse(TEXT).unwrap();
        mounts.swap(1, 2);
        let start = Instant::now();
        let answers = ask_each(&mounts, Duration::from_millis(100), &go, hang).unwrap();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert!(matches!(answers[..], [Answer::Hidden, Answer::TimedOut, Answer::Hidden]), "{answers:?}");
    }

    #[test]
    fn many_that_hang_are_not_all_waited_for() {
        fn hang(_: &Mount) -> Answer {
            std::thread::sleep(Duration::from_secs(1));
            Answer::Hidden
        }
        let many = vec![parse(TEXT).unwrap().remove(0); 200];
        let start = Instant::now();
        let answers = ask_each(&many, Duration::from_millis(5), &go, hang).unwrap();
        assert!(start.elapsed() < Duration::from_secs(1) && answers.iter().all(|answer| matches!(answer, Answer::TimedOut)));
    }

    #[test]
    fn a_stop_ends_the_waiting() {
        fn hang(_: &Mount) -> Answer {
            std::thread::sleep(Duration::from_secs(2));
            Answer::Hidden
        }
        let start = Instant::now();
        let check = || if start.elapsed() > Duration::from_millis(100) { Err(Error::new(Kind::Deadline, "late")) } else { Ok(()) };
        let error = ask_each(&parse(TEXT).unwrap(), Duration::from_secs(60), &check, hang).unwrap_err();
        assert_eq!(error.kind, Kind::Deadline);
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
