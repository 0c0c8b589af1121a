//! The running process: its first actions, its environment as it was given, its credentials, and the names of users and groups.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use super::trusted::read_up_to;
use crate::error::{Error, Kind, Result};

/// Bytes of names and values together; beyond it nothing is looked at.
const MAX_ENVIRONMENT: usize = 4 << 20;
/// Bytes of /etc/passwd or /etc/group that are read.
const MAX_TABLE: u64 = 16 << 20;
/// Bytes of one answer of getent(1); a group of thousands of members fits.
const MAX_ANSWER: u64 = 1 << 20;
const GETENT: &str = "/usr/bin/getent";
/// Which services know names of users and groups, and those of them that are this host's own files or make no names that files have.
const NSSWITCH: &str = "/etc/nsswitch.conf";
const OWN_SOURCES: &[&str] = &["files", "compat", "systemd", "db", "altfiles", "extrausers", "myhostname"];
const GETENT_LIMIT: Duration = Duration::from_secs(2);

/// The environment the process was started with: raw bytes, in order, duplicates kept.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    umask: u32,
}

impl Environment {
    /// One made by hand: for `rex serve`, which has no client environment, and for tests.
    #[must_use]
    pub fn of(entries: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        Self { entries, umask: 0o022 }
    }

    /// Every value of `name`, in order. More than one is a sign of somebody trying something.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.entries.iter().filter(|(given, _)| given == name.as_bytes()).map(|(_, value)| value.as_slice()).collect()
    }

    /// How many variables there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The umask before rex set its own (0077).
    #[must_use]
    pub fn inherited_umask(&self) -> u32 {
        self.umask
    }

    fn check_size(self) -> Result<Self> {
        let size: usize = self.entries.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > MAX_ENVIRONMENT {
            return Err(Error::new(Kind::Usage, format!("the environment is larger than {} MiB", MAX_ENVIRONMENT >> 20)));
        }
        Ok(self)
    }
}

/// What rex does before it reads anything: 0, 1 and 2 are open, no core dump and no ptrace by neighbours of the same uid, umask 0077
/// (where another mode is wanted it is set explicitly on the handle). Returns the environment, which nothing reads again afterwards.
///
/// # Errors
/// [`Kind::Usage`] for an environment over 4 MiB; the system's own error if one of the steps fails, and then rex must not go on.
pub fn first_actions() -> Result<Environment> {
    open_standard_fds()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let umask = rustix::process::umask(Mode::RWXG | Mode::RWXO).as_raw_mode();
    // The standard library walks `environ` itself: order and duplicates are kept, entries without `=` left out.
    let entries = std::env::vars_os().map(|(name, value)| (name.into_vec(), value.into_vec())).collect();
    Environment { entries, umask }.check_size()
}

/// A file opened later must never get number 0, 1 or 2 and then receive the script's output.
fn open_standard_fds() -> Result<()> {
    loop {
        let fd = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
        if fd.as_raw_fd() > 2 {
            return Ok(());
        }
        // Kept open for the life of the process, on purpose.
        let _kept = fd.into_raw_fd();
    }
}

/// Tells this program's file from any other, also from what it was before it was written or replaced: device, inode, size, and the times of its
/// last change with nanoseconds, one of which no call can set (inode(7)). `None` where /proc does not tell.
#[must_use]
pub fn program() -> Option<[u64; 8]> {
    let stat = rustix::fs::stat("/proc/self/exe").ok()?;
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "the fields differ between architectures; only equality matters")]
    Some([
        stat.st_dev as u64,
        stat.st_ino as u64,
        stat.st_size as u64,
        stat.st_mtime as u64,
        stat.st_mtime_nsec as u64,
        stat.st_ctime as u64,
        stat.st_ctime_nsec as u64,
        u64::from(stat.st_mode),
    ])
}

/// Who the kernel says this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub gid: u32,
    pub egid: u32,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
}

impl Credentials {
    /// # Errors
    /// The system's own error from getgroups(2).
    pub fn of_this_process() -> Result<Self> {
        use rustix::process::{getegid, geteuid, getgid, getgroups, getuid};
        let mut groups: Vec<u32> = getgroups()?.into_iter().map(|gid| gid.as_raw()).collect();
        groups.sort_unstable();
        groups.dedup();
        Ok(Self { uid: getuid().as_raw(), euid: geteuid().as_raw(), gid: getgid().as_raw(), egid: getegid().as_raw(), groups })
    }
}

/// One line of passwd(5), the parts rex uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    pub shell: PathBuf,
}

/// One line of group(5). Members may be missing for groups that a directory service provides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub gid: u32,
    pub members: Vec<String>,
}

/// Names of users and groups: /etc/passwd and /etc/group first, getent(1) for what is not in them, every answer remembered.
///
/// rex is linked statically and loads no name-service modules; getent is the host's own way to ask them. It is started with an empty
/// environment and given two seconds; after one that did not answer in time nobody is asked again, so that a broken directory
/// cannot hold up a run. Lookups never fail: what is not known is `None`.
#[derive(Debug)]
pub struct Names {
    passwd: PathBuf,
    group: PathBuf,
    getent: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    users: Option<Vec<User>>,
    groups: Option<Vec<Group>>,
    asked_users: HashMap<String, Option<User>>,
    asked_groups: HashMap<String, Option<Group>>,
    gave_up: bool,
}

impl Default for Names {
    fn default() -> Self {
        Self::of_host()
    }
}

impl Names {
    /// The host's own tables.
    #[must_use]
    pub fn of_host() -> Self {
        Self::with_files(Path::new("/etc/passwd"), Path::new("/etc/group"), Some(Path::new(GETENT)))
    }

    /// Other tables, for tests; `getent` is an absolute path or nobody is asked.
    #[must_use]
    pub fn with_files(passwd: &Path, group: &Path, getent: Option<&Path>) -> Self {
        Self { passwd: passwd.into(), group: group.into(), getent: getent.map(Into::into), state: Mutex::default() }
    }

    /// The first entry with this uid, as getpwuid(3) has it: two login names of one uid have one answer.
    #[must_use]
    pub fn user_entry(&self, uid: u32) -> Option<User> {
        self.find_user(&uid.to_string(), |user| user.uid == uid)
    }

    #[must_use]
    pub fn user_named(&self, name: &str) -> Option<User> {
        lookup_name(name).then(|| self.find_user(name, |user| user.name == name)).flatten()
    }

    #[must_use]
    pub fn group_named(&self, name: &str) -> Option<Group> {
        lookup_name(name).then(|| self.find_group(name, |group| group.name == name)).flatten()
    }

    #[must_use]
    pub fn user(&self, uid: u32) -> Option<String> {
        self.user_entry(uid).map(|user| user.name)
    }

    #[must_use]
    pub fn group(&self, gid: u32) -> Option<String> {
        self.find_group(&gid.to_string(), |group| group.gid == gid).map(|group| group.name)
    }

    #[must_use]
    pub fn uid_of(&self, name: &str) -> Option<u32> {
        self.user_named(name).map(|user| user.uid)
    }

    #[must_use]
    pub fn gid_of(&self, name: &str) -> Option<u32> {
        self.group_named(name).map(|group| group.gid)
    }

    /// From the table, never $HOME.
    #[must_use]
    pub fn home(&self, uid: u32) -> Option<PathBuf> {
        self.user_entry(uid).map(|user| user.home)
    }

    fn find_user(&self, key: &str, fits: impl Fn(&User) -> bool) -> Option<User> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let users = state.users.get_or_insert_with(|| lines(&read_table(&self.passwd)).filter_map(user_of_line).collect());
        if let Some(user) = users.iter().find(|user| fits(user)) {
            return Some(user.clone());
        }
        if let Some(known) = state.asked_users.get(key) {
            return known.clone();
        }
        let answer = self.ask(&mut state.gave_up, "passwd", key);
        let found = lines(&answer).filter_map(user_of_line).find(|user| fits(user));
        state.asked_users.insert(key.into(), found.clone());
        found
    }

    fn find_group(&self, key: &str, fits: impl Fn(&Group) -> bool) -> Option<Group> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = state.groups.get_or_insert_with(|| lines(&read_table(&self.group)).filter_map(group_of_line).collect());
        if let Some(group) = groups.iter().find(|group| fits(group)) {
            return Some(group.clone());
        }
        if let Some(known) = state.asked_groups.get(key) {
            return known.clone();
        }
        let answer = self.ask(&mut state.gave_up, "group", key);
        let found = lines(&answer).filter_map(group_of_line).find(|group| fits(group));
        state.asked_groups.insert(key.into(), found.clone());
        found
    }

    fn ask(&self, gave_up: &mut bool, table: &str, key: &str) -> Vec<u8> {
        match (&self.getent, *gave_up) {
            (Some(program), false) => {
                let answer = match ELSEWHERE.get() {
                    Some(ask) if program == Path::new(GETENT) => ask(table, key),
                    _ if program == Path::new(GETENT) => getent(table, key, |_| {}),
                    _ => run_bounded(program, &[table, key], GETENT_LIMIT, |_| {}),
                };
                answer.unwrap_or_else(|| {
                    *gave_up = true;
                    Vec::new()
                })
            }
            _ => Vec::new(),
        }
    }
}

/// Asks for a line of a table by a key.
type Ask = fn(&str, &str) -> Option<Vec<u8>>;
/// Who asks getent from now on, since this process starts no programs any more.
static ELSEWHERE: OnceLock<Ask> = OnceLock::new();

/// Has somebody else ask getent, for as long as this process lives.
pub(crate) fn ask_through(ask: Ask) {
    let _ = ELSEWHERE.set(ask);
}

/// What getent(1) says; nothing when it did not in time, or when the program is not its owner's alone. `prepare`: what else it is to be started with.
pub(crate) fn getent(table: &str, key: &str, prepare: fn(&mut Command)) -> Option<Vec<u8>> {
    let stat = rustix::fs::lstat(GETENT).ok()?;
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
    let owners = regular && stat.st_uid == 0 && stat.st_mode & 0o022 == 0;
    owners.then(|| run_bounded(Path::new(GETENT), &[table, key], GETENT_LIMIT, prepare)).flatten()
}

/// Whether getent may be asked for this key: a number, or a name that it takes for one.
pub(crate) fn may_be_asked(key: &str) -> bool {
    lookup_name(key) || decimal(key).is_some() && !key.is_empty()
}

/// Whether the host knows users or groups from elsewhere than its own files (nsswitch.conf(5)).
pub(crate) fn other_name_services() -> bool {
    String::from_utf8(read_table(Path::new(NSSWITCH))).is_ok_and(|text| other_sources(&text))
}

fn other_sources(nsswitch: &str) -> bool {
    nsswitch.lines().filter_map(|line| line.split('#').next()?.split_once(':')).any(|(table, sources)| {
        matches!(table.trim(), "passwd" | "group")
            && sources.split_whitespace().any(|source| !source.contains(['[', ']', '=']) && !OWN_SOURCES.contains(&source))
    })
}

/// A name that may be handed to getent: no option, no field separator, no number (getent would take that for an id).
fn lookup_name(name: &str) -> bool {
    let number = name.bytes().all(|byte| byte.is_ascii_digit());
    !name.is_empty()
        && name.len() <= 256
        && !number
        && !name.starts_with('-')
        && !name.contains([':', ','])
        && !name.contains(char::is_control)
}

fn read_table(path: &Path) -> Vec<u8> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).and_then(|fd| read_up_to(&fd, MAX_TABLE)).unwrap_or_default()
}

fn lines(table: &[u8]) -> impl Iterator<Item = &str> {
    table.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

/// `name:password:uid:gid:comment:home:shell`, see passwd(5). A line of another form is nobody.
pub(crate) fn user_of_line(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
    let (uid, gid) = (decimal(uid)?, decimal(gid)?);
    (!name.is_empty() && !name.starts_with(['+', '-', '#'])).then(|| User {
        name: (*name).into(),
        uid,
        gid,
        home: PathBuf::from(OsString::from(home)),
        shell: PathBuf::from(OsString::from(shell)),
    })
}

/// `name:password:gid:member,member`, see group(5).
pub(crate) fn group_of_line(line: &str) -> Option<Group> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, gid, members] = fields.as_slice() else { return None };
    let gid = decimal(gid)?;
    let members = members.split(',').filter(|member| !member.is_empty()).map(Into::into).collect();
    (!name.is_empty() && !name.starts_with(['+', '-', '#'])).then(|| Group { name: (*name).into(), gid, members })
}

/// Digits only: `parse` alone would take `+1`.
fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Standard output of a program started with an empty environment, or `None` if it could not be run or took longer than `limit`
/// (it is killed then). What it says beyond 1 MiB is dropped.
fn run_bounded(program: &Path, arguments: &[&str], limit: Duration, prepare: fn(&mut Command)) -> Option<Vec<u8>> {
    let end = Instant::now() + limit;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    prepare(&mut command);
    let mut child = command.spawn().ok()?;
    let answer = child.stdout.take().and_then(|pipe| read_until(&pipe, end));
    // End of file on the pipe is not the end of the process; it gets what is left of the time.
    while answer.is_some() && Instant::now() < end {
        match child.try_wait() {
            Ok(Some(_)) => return answer,
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Err(_) => break,
        }
    }
    let _already_gone = child.kill();
    let _status = child.wait();
    None
}

/// All that comes from a pipe, or `None` if it did not end by `end`.
fn read_until(pipe: &impl std::os::fd::AsFd, end: Instant) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        let left = end.checked_duration_since(Instant::now())?;
        let left = rustix::event::Timespec::try_from(left).ok()?;
        let mut polled = [rustix::event::PollFd::new(pipe, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&left)) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return None,
        }
        match rustix::io::read(pipe, &mut chunk) {
            Ok(0) => return Some(bytes),
            Ok(count) if (bytes.len() as u64) < MAX_ANSWER => bytes.extend_from_slice(chunk.get(..count)?),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests;
