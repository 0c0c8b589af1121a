//! Processes as the kernel shows them: one read of `/proc/PID`, through one handle, so that a row never mixes two processes.

use super::{inspector, int, machine, odd, open_dir, read_at};
use crate::error::{Error, Result};
use crate::policy::{Action, Granted};
use crate::resource::process::Process as Judged;
use crate::sys::stream::Check;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// What is read besides the things that every row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// [`Process::tasks`].
    pub threads: bool,
    /// [`Process::io`].
    pub io: bool,
    /// [`Process::wchan`].
    pub wchan: bool,
    /// Bytes of a command line that are kept.
    pub max_command: usize,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { threads: false, io: false, wchan: false, max_command: 4096 }
    }
}

/// A process. Everything but the numbers can be chosen by the process itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    pub pid: i64,
    pub ppid: i64,
    pub process_group: i64,
    pub session: i64,
    /// The name in `/proc/PID/comm`, at most 15 bytes but for workers of the kernel.
    pub name: String,
    /// The arguments joined by blanks, cut at [`Wanted::max_command`]; `[name]` where there are none (threads of the kernel, zombies).
    pub command: String,
    /// The arguments one by one, cut likewise.
    pub arguments: Vec<String>,
    /// Whether `command` and `arguments` were cut.
    pub command_cut: bool,
    /// Real and effective user and group.
    pub uid: i64,
    pub euid: i64,
    pub gid: i64,
    pub egid: i64,
    pub state: State,
    /// `pts/3`, `tty1`, `ttyS0`, else `major:minor`; nothing for a process without a terminal.
    pub tty: Option<String>,
    pub nice: i64,
    pub priority: i64,
    pub threads: i64,
    /// Clock ticks after the start of the machine; with the pid it identifies the process.
    pub start_ticks: u64,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    /// Processor time used, in seconds.
    pub cpu_seconds: f64,
    /// Processor time as a share of the time it has been running, in percent of one processor; what ps(1) calls %CPU.
    pub cpu_average: f64,
    /// Memory in use and address space, in bytes.
    pub memory: i64,
    pub virtual_memory: i64,
    /// Of its memory, in swap, in bytes; 0 for threads of the kernel.
    pub swap: i64,
    /// The path in the control group tree.
    pub cgroup: Option<String>,
    /// The systemd unit that it belongs to, e.g. `nginx.service`.
    pub unit: Option<String>,
    /// The container that it belongs to, as its engine names it in the control group.
    pub container: Option<String>,
    /// Where in the kernel it waits, where the kernel tells.
    pub wchan: Option<String>,
    /// Nothing where the kernel does not let this user see it.
    pub io: Option<Io>,
    pub tasks: Vec<Task>,
}

/// `/proc/PID/io`, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// Through read(2) and write(2), caches and pipes included.
    pub read_chars: i64,
    pub write_chars: i64,
    /// From and to storage.
    pub read_bytes: i64,
    pub write_bytes: i64,
}

/// A thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub tid: i64,
    pub name: String,
    pub state: State,
    pub cpu_seconds: f64,
    pub wchan: Option<String>,
}

/// What a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    Sleeping,
    /// Waits in the kernel and cannot be interrupted, mostly for a disk.
    DiskSleep,
    Stopped,
    Traced,
    Zombie,
    Dead,
    Idle,
    /// A letter newer than this program.
    Other(char),
}

impl State {
    fn of(letter: char) -> Self {
        match letter {
            'R' => Self::Running,
            'S' => Self::Sleeping,
            'D' => Self::DiskSleep,
            'T' => Self::Stopped,
            't' => Self::Traced,
            'Z' => Self::Zombie,
            'X' | 'x' => Self::Dead,
            'I' => Self::Idle,
            other => Self::Other(other),
        }
    }

    /// The letter of ps(1) and the kernel.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Running => 'R',
            Self::Sleeping => 'S',
            Self::DiskSleep => 'D',
            Self::Stopped => 'T',
            Self::Traced => 't',
            Self::Zombie => 'Z',
            Self::Dead => 'X',
            Self::Idle => 'I',
            Self::Other(letter) => letter,
        }
    }

    /// The word for scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::DiskSleep => "disk_sleep",
            Self::Stopped => "stopped",
            Self::Traced => "traced",
            Self::Zombie => "zombie",
            Self::Dead => "dead",
            Self::Idle => "idle",
            Self::Other(_) => "unknown",
        }
    }
}

/// `/proc`, open, with what is needed to make sense of its numbers.
pub struct Table {
    proc: OwnedFd,
    boot_time: i64,
    ticks_per_second: u64,
    page: u64,
    uptime: f64,
}

impl Table {
    /// # Errors
    /// What opening `/proc` and reading `/proc/stat` and `/proc/uptime` reports.
    pub fn open() -> Result<Self> {
        let uptime = machine::time_up()?;
        Ok(Self {
            proc: open_dir("/proc")?,
            boot_time: uptime.boot_time,
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
            page: rustix::param::page_size() as u64,
            uptime: uptime.seconds,
        })
    }

    /// The ids of all processes, ascending.
    ///
    /// # Errors
    /// What reading `/proc` reports, and the check's reason.
    pub fn pids(&self, check: Check<'_>) -> Result<Vec<i32>> {
        let mut pids = numbers(&self.proc, "/proc", check)?;
        pids.sort_unstable();
        Ok(pids)
    }

    /// Reads a process; nothing if it is not there, or ended meanwhile.
    ///
    /// # Errors
    /// What the kernel reports, other than that it has gone.
    pub fn read(&self, pid: i32, wanted: &Wanted) -> Result<Option<Process>> {
        match self.try_read(pid, wanted) {
            Ok(process) => process.ok_or_else(|| odd(&format!("/proc/{pid}/stat"))).map(Some),
            // ENOENT: gone before it was opened; ESRCH: gone since. A /proc with hidepid hides it the same way, or with EPERM.
            Err(Errno::NOENT | Errno::SRCH | Errno::PERM) => Ok(None),
            Err(errno) => Err(Error::os("read", errno.raw_os_error()).with_path(format!("/proc/{pid}"))),
        }
    }

    fn try_read(&self, pid: i32, wanted: &Wanted) -> std::result::Result<Option<Process>, Errno> {
        // Through this handle only this process can be reached: once it ends, every read fails, even if the number is given out again.
        let dir = sub_dir(&self.proc, &pid.to_string())?;
        let Some(stat) = parse_stat(&read_at(&dir, "stat", 4096)?) else { return Ok(None) };
        let status = String::from_utf8_lossy(&read_at(&dir, "status", 64 << 10)?).into_owned();
        let (Some((uid, euid)), Some((gid, egid))) = (ids(&status, "Uid:"), ids(&status, "Gid:")) else { return Ok(None) };
        let mut line = read_at(&dir, "cmdline", wanted.max_command.saturating_add(1))?;
        let command_cut = line.len() > wanted.max_command;
        line.truncate(wanted.max_command);
        let arguments = arguments(&line);
        let command = if arguments.is_empty() { format!("[{}]", stat.name) } else { arguments.join(" ") };
        let cgroup = read_at(&dir, "cgroup", 64 << 10).ok().and_then(|text| own_cgroup(&String::from_utf8_lossy(&text)));
        let swap = field(&status, "VmSwap:").and_then(|text| text.trim_end_matches("kB").trim().parse::<u64>().ok());
        let seconds = |ticks: u64| ticks as f64 / self.ticks_per_second as f64;
        let cpu_seconds = seconds(stat.cpu_ticks);
        let age = self.uptime - seconds(stat.start_ticks);
        let judged = inspector::Judged { pid: pid.into(), start_ticks: stat.start_ticks };
        Ok(Some(Process {
            pid: pid.into(),
            ppid: stat.ppid,
            process_group: stat.process_group,
            session: stat.session,
            unit: cgroup.as_deref().and_then(unit),
            container: cgroup.as_deref().and_then(container),
            cgroup,
            name: stat.name,
            command,
            arguments,
            command_cut,
            uid,
            euid,
            gid,
            egid,
            state: stat.state,
            tty: tty(stat.tty),
            nice: stat.nice,
            priority: stat.priority,
            threads: stat.threads,
            start_ticks: stat.start_ticks,
            started_ms: self
                .boot_time
                .saturating_mul(1000)
                .saturating_add(int(stat.start_ticks.saturating_mul(1000) / self.ticks_per_second)),
            cpu_seconds,
            cpu_average: if age > 0.0 { cpu_seconds / age * 100.0 } else { 0.0 },
            memory: int(stat.pages.saturating_mul(self.page)),
            virtual_memory: int(stat.virtual_memory),
            swap: int(swap.unwrap_or(0).saturating_mul(1024)),
            wchan: if wanted.wchan { self.text(judged, inspector::Text::Waits).and_then(|text| wchan(&text)) } else { None },
            io: if wanted.io { self.text(judged, inspector::Text::Io).map(|text| parse_io(&String::from_utf8_lossy(&text))) } else { None },
            tasks: if wanted.threads { self.tasks(&dir, judged, wanted)? } else { Vec::new() },
        }))
    }

    /// When a process began, in clock ticks after the start of the machine; nothing if it is not there.
    pub(in crate::sys) fn began(&self, pid: i32) -> Option<u64> {
        self.stat(pid).map(|stat| stat.start_ticks)
    }

    /// The process that a process is a child of.
    pub(super) fn parent(&self, pid: i32) -> Option<i64> {
        self.stat(pid).map(|stat| stat.ppid)
    }

    /// Whether a process as it was judged still runs; one that has ended and whose parent has not taken notice of it does not.
    #[must_use]
    pub fn runs(&self, process: &Judged) -> bool {
        let stat = i32::try_from(process.pid).ok().and_then(|pid| self.stat(pid));
        stat.is_some_and(|stat| stat.start_ticks == process.start_ticks && !matches!(stat.state, State::Zombie | State::Dead))
    }

    /// The beginning of a file of a process's folder, if it is still that one.
    pub(super) fn file(&self, judged: inspector::Judged, name: &str, most: usize) -> std::result::Result<Vec<u8>, Errno> {
        self.still(judged).and_then(|dir| dir.ok_or(Errno::SRCH)).and_then(|dir| read_at(&dir, name, most))
    }

    fn stat(&self, pid: i32) -> Option<Stat> {
        let dir = sub_dir(&self.proc, &pid.to_string()).ok()?;
        parse_stat(&read_at(&dir, "stat", 4096).ok()?)
    }

    /// What a granted process has open and no name leads to any more: regular files that were removed. Nothing of a process that has ended.
    ///
    /// # Errors
    /// `permission` when the kernel does not show it to this user; the check's reason.
    pub fn removed_files<A: Action<On = Judged>>(&self, granted: &Granted<A>, check: Check<'_>) -> Result<Vec<RemovedFile>> {
        let process = granted.resource();
        let judged = inspector::Judged { pid: process.pid, start_ticks: process.start_ticks };
        let place = || format!("/proc/{}/fd", process.pid);
        match inspector::removed(judged) {
            Some(files) => files.map_err(|error| error.with_path(place())),
            None => self.look_removed(judged, check),
        }
    }

    /// The folder of a process in /proc, if it is still that one.
    pub(super) fn still(&self, judged: inspector::Judged) -> std::result::Result<Option<OwnedFd>, Errno> {
        let dir = sub_dir(&self.proc, &judged.pid.to_string())?;
        // The number may have been given out again since the process was judged.
        let same = parse_stat(&read_at(&dir, "stat", 4096)?).is_some_and(|stat| stat.start_ticks == judged.start_ticks);
        Ok(same.then_some(dir))
    }

    /// One of these files of a process.
    pub(super) fn look_text(&self, judged: inspector::Judged, text: inspector::Text) -> Result<Vec<u8>> {
        let (name, most) = match text {
            inspector::Text::Io => ("io".to_owned(), 4096),
            inspector::Text::Waits => ("wchan".to_owned(), 256),
            inspector::Text::ThreadWaits(tid) => (format!("task/{tid}/wchan"), 256),
            inspector::Text::Stack(tid) => (format!("task/{tid}/stack"), 16 << 10),
            inspector::Text::Environment => ("environ".to_owned(), 4 << 20),
            inspector::Text::Memory => ("smaps_rollup".to_owned(), 4096),
            inspector::Text::Program => return self.link(judged, "exe"),
            inspector::Text::Namespace(kind) => return self.link(judged, &format!("ns/{}", kind.name())),
        };
        self.file(judged, &name, most).map_err(|errno| Error::os("read", errno.raw_os_error()))
    }

    fn link(&self, judged: inspector::Judged, name: &str) -> Result<Vec<u8>> {
        let read = self.still(judged).and_then(|dir| dir.ok_or(Errno::SRCH));
        let read = read.and_then(|dir| rustix::fs::readlinkat(&dir, name, Vec::with_capacity(256)));
        read.map(std::ffi::CString::into_bytes).map_err(|errno| Error::os("read", errno.raw_os_error()))
    }

    /// `/proc/PID/status` of whatever has the number now.
    pub(in crate::sys) fn status(&self, pid: i32) -> Option<String> {
        let dir = sub_dir(&self.proc, &pid.to_string()).ok()?;
        read_at(&dir, "status", 64 << 10).ok().map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    /// How many threads it has.
    pub(in crate::sys) fn threads(&self, pid: i32) -> Option<u32> {
        self.stat(pid).and_then(|stat| u32::try_from(stat.threads).ok())
    }

    /// The same by the inspector, where there is one.
    pub(super) fn text(&self, judged: inspector::Judged, text: inspector::Text) -> Option<Vec<u8>> {
        inspector::text(judged, text).unwrap_or_else(|| self.look_text(judged, text)).ok()
    }

    pub(super) fn look_removed(&self, judged: inspector::Judged, check: Check<'_>) -> Result<Vec<RemovedFile>> {
        let gone = |errno: &Errno| matches!(*errno, Errno::NOENT | Errno::SRCH);
        let place = || format!("/proc/{}/fd", judged.pid);
        let open = || self.still(judged)?.map(|dir| sub_dir(&dir, "fd")).transpose();
        let folder = match open() {
            Ok(Some(folder)) => folder,
            Ok(None) => return Ok(Vec::new()),
            Err(errno) if gone(&errno) => return Ok(Vec::new()),
            Err(errno) => return Err(Error::os("read", errno.raw_os_error()).with_path(place())),
        };
        let mut files = Vec::new();
        for fd in numbers(&folder, "fd", check)? {
            let name = fd.to_string();
            let Ok(target) = rustix::fs::readlinkat(&folder, &name, Vec::with_capacity(256)) else { continue };
            let target = target.into_bytes();
            // Memory that is shared as a file has a name in no folder to begin with.
            let Some(path) = target.strip_suffix(b" (deleted)").filter(|path| path.starts_with(b"/") && !path.starts_with(b"/memfd:"))
            else {
                continue;
            };
            let Ok(stat) = rustix::fs::statat(&folder, &name, rustix::fs::AtFlags::NO_AUTOMOUNT) else { continue };
            let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
            if stat.st_nlink > 0 || !regular {
                continue;
            }
            let bytes = |number: i64| number.max(0);
            files.push(RemovedFile {
                fd: fd.into(),
                path: path.to_vec(),
                size: bytes(stat.st_size),
                allocated: bytes(stat.st_blocks).saturating_mul(512),
                file: (stat.st_dev, stat.st_ino),
            });
        }
        Ok(files)
    }

    fn tasks(&self, dir: &OwnedFd, judged: inspector::Judged, wanted: &Wanted) -> std::result::Result<Vec<Task>, Errno> {
        let folder = sub_dir(dir, "task")?;
        let mut tasks = Vec::new();
        let mut tids = numbers(&folder, "task", &|| Ok(())).unwrap_or_default();
        tids.sort_unstable();
        for tid in tids {
            // A thread that ended meanwhile is left out.
            let Ok(thread) = sub_dir(&folder, &tid.to_string()) else { continue };
            let Some(stat) = read_at(&thread, "stat", 4096).ok().and_then(|text| parse_stat(&text)) else { continue };
            let cpu_seconds = stat.cpu_ticks as f64 / self.ticks_per_second as f64;
            let wchan =
                if wanted.wchan { self.text(judged, inspector::Text::ThreadWaits(tid)).and_then(|text| wchan(&text)) } else { None };
            tasks.push(Task { tid: tid.into(), name: stat.name, state: stat.state, cpu_seconds, wchan });
        }
        Ok(tasks)
    }

    /// The processor time of every process as of now; [`Sample::percent`] compares with it later.
    ///
    /// # Errors
    /// As [`Table::pids`].
    pub fn sample(&self, check: Check<'_>) -> Result<Sample> {
        let mut ticks = HashMap::new();
        for pid in self.pids(check)? {
            let stat = sub_dir(&self.proc, &pid.to_string()).and_then(|dir| read_at(&dir, "stat", 4096));
            if let Some(stat) = stat.ok().and_then(|text| parse_stat(&text)) {
                ticks.insert(i64::from(pid), (stat.start_ticks, stat.cpu_ticks as f64 / self.ticks_per_second as f64));
            }
        }
        Ok(Sample { ticks, at: Instant::now() })
    }
}

/// A file that was removed while it was open.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RemovedFile {
    pub fd: i64,
    /// Where it was.
    pub path: Vec<u8>,
    /// Its length and what it takes on the disk, in bytes.
    pub size: i64,
    pub allocated: i64,
    /// Device and inode.
    pub file: (u64, u64),
}

/// Processor times at one moment.
pub struct Sample {
    /// By process id: the start that tells whether it is still the same one, and seconds of processor time.
    ticks: HashMap<i64, (u64, f64)>,
    at: Instant,
}

impl Sample {
    /// The processor time that a process, read `now`, has used since the sample, in percent of one processor.
    /// One that began since then counts from its start.
    #[must_use]
    pub fn percent(&self, process: &Process, now: Instant) -> f64 {
        let before = self.ticks.get(&process.pid).filter(|(start, _)| *start == process.start_ticks).map_or(0.0, |(_, seconds)| *seconds);
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        if seconds > 0.0 { ((process.cpu_seconds - before) / seconds * 100.0).max(0.0) } else { 0.0 }
    }
}

pub(super) fn sub_dir(dir: &OwnedFd, name: &str) -> std::result::Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// The entries of a folder that are numbers.
pub(super) fn numbers(dir: &OwnedFd, what: &str, check: Check<'_>) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        check()?;
        let entry = entry.map_err(|errno| Error::os("read", errno.raw_os_error()).with_path(what))?;
        if let Some(number) = entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()).filter(|number| *number >= 0) {
            found.push(number);
        }
    }
    Ok(found)
}

/// What is used of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    state: State,
    ppid: i64,
    process_group: i64,
    session: i64,
    tty: i64,
    cpu_ticks: u64,
    priority: i64,
    nice: i64,
    threads: i64,
    start_ticks: u64,
    virtual_memory: u64,
    pages: u64,
}

fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    // The name may hold brackets, blanks and anything else: it ends at the last bracket of the line.
    let open = memchr::memchr(b'(', bytes)?;
    let close = memchr::memrchr(b')', bytes)?;
    let name = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Numbered as in proc_pid_stat(5), where the state is field 3.
    let field = |number: usize| words.get(number - 3).copied();
    let signed = |number| field(number)?.parse::<i64>().ok();
    let unsigned = |number| field(number)?.parse::<u64>().ok();
    Some(Stat {
        name,
        state: State::of(field(3)?.chars().next()?),
        ppid: signed(4)?,
        process_group: signed(5)?,
        session: signed(6)?,
        tty: signed(7)?,
        cpu_ticks: unsigned(14)?.saturating_add(unsigned(15)?),
        priority: signed(18)?,
        nice: signed(19)?,
        threads: signed(20)?,
        start_ticks: unsigned(22)?,
        virtual_memory: unsigned(23)?,
        pages: u64::try_from(signed(24)?).unwrap_or(0),
    })
}

/// The rest of the line of `/proc/PID/status` with this name.
pub(in crate::sys) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The real and the effective id of a line `Uid:` or `Gid:`.
fn ids(status: &str, name: &str) -> Option<(i64, i64)> {
    let mut words = field(status, name)?.split_ascii_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.next()?.ok()?))
}

fn arguments(line: &[u8]) -> Vec<String> {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    if line.is_empty() {
        return Vec::new();
    }
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The name of a terminal by its device number; Documentation/admin-guide/devices.txt of the kernel.
fn tty(number: i64) -> Option<String> {
    let number = u32::try_from(number & 0xffff_ffff).ok().filter(|number| *number != 0)?;
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
    Some(match major {
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        204 if (64..80).contains(&minor) => format!("ttyAMA{}", minor - 64),
        229 => format!("hvc{minor}"),
        _ => format!("{major}:{minor}"),
    })
}

fn wchan(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text).trim().to_owned();
    // "0": it does not wait, or this user may not know.
    (!text.is_empty() && text != "0").then_some(text)
}

fn parse_io(text: &str) -> Io {
    let get = |name| field(text, name).and_then(|number| number.parse::<u64>().ok()).map_or(0, int);
    Io { read_chars: get("rchar:"), write_chars: get("wchar:"), read_bytes: get("read_bytes:"), write_bytes: get("write_bytes:") }
}

/// The path in the unified tree, else in systemd's own, else in the first that is not the root.
fn own_cgroup(text: &str) -> Option<String> {
    let rows: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
    let path = |wanted: &str| rows.iter().find(|(name, path)| *name == wanted && *path != "/").map(|(_, path)| *path);
    let some = path("").or_else(|| path("name=systemd")).or_else(|| rows.iter().map(|(_, path)| *path).find(|path| *path != "/"));
    some.or_else(|| rows.first().map(|(_, path)| *path)).map(str::to_owned)
}

/// The unit: the first part of the path below the slices; systemd's own rule, src/basic/cgroup-util.c there.
fn unit(cgroup: &str) -> Option<String> {
    let mut parts = cgroup.split('/').filter(|part| !part.is_empty()).skip_while(|part| part.ends_with(".slice"));
    let part = parts.next()?;
    // Names that would clash with files of the kernel are written with `_` before them.
    let name = part.strip_prefix('_').unwrap_or(part);
    let kinds = [".service", ".scope", ".socket", ".mount", ".swap", ".device", ".target", ".timer", ".path", ".automount"];
    kinds.iter().any(|kind| name.len() > kind.len() && name.ends_with(kind)).then(|| name.to_owned())
}

/// The container: 64 hexadecimal digits (docker, containerd, CRI-O, podman), or the name below `lxc`, `lxc.payload` and `machine.slice`.
fn container(cgroup: &str) -> Option<String> {
    let parts: Vec<&str> = cgroup.split('/').filter(|part| !part.is_empty()).collect();
    for part in parts.iter().rev() {
        let word = part.strip_suffix(".scope").unwrap_or(part);
        let word = word.rsplit(['-', ':']).next().unwrap_or(word);
        if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(word.to_owned());
        }
    }
    let named = parts.iter().zip(parts.iter().skip(1)).find(|(above, _)| **above == "lxc").map(|(_, name)| (*name).to_owned());
    let payload = || parts.iter().find_map(|part| part.strip_prefix("lxc.payload.")).map(str::to_owned);
    let machine = || parts.iter().find_map(|part| part.strip_prefix("machine-")?.strip_suffix(".scope")).map(str::to_owned);
    named.or_else(payload).or_else(machine)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::time::Duration;

    fn go() -> Result<()> {
        Ok(())
    }

    #[test]
    fn this_process_is_read_whole() {
        let table = Table::open().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let wanted = Wanted { threads: true, io: true, wchan: true, ..Wanted::default() };
        let process = table.read(me, &wanted).unwrap().unwrap();
        assert_eq!((process.pid, process.ppid), (i64::from(me), i64::from(std::os::unix::process::parent_id())));
        assert_eq!(process.arguments, std::env::args().collect::<Vec<_>>());
        assert_eq!(process.euid, i64::from(rustix::process::geteuid().as_raw()));
        assert!(process.memory > 1 << 20 && process.virtual_memory > process.memory, "{process:?}");
        assert!(process.io.is_some() && process.tasks.iter().any(|task| task.tid == process.pid), "{process:?}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
        assert!((now - process.started_ms).abs() < 600_000, "{} now {now}", process.started_ms);
    }

    #[test]
    fn all_processes_are_found_and_one_that_is_gone_is_no_error() {
        let table = Table::open().unwrap();
        let pids = table.pids(&go).unwrap();
        assert!(pids.contains(&i32::try_from(std::process::id()).unwrap()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert_eq!(table.read(pid, &Wanted::default()).unwrap(), None);
        assert_eq!(table.read(i32::MAX, &Wanted::default()).unwrap(), None);
    }

    #[test]
    fn a_zombie_has_a_row_too() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let table = Table::open().unwrap();
        let row = loop {
            let row = table.read(pid, &Wanted { threads: true, ..Wanted::default() }).unwrap().unwrap();
            if row.state == State::Zombie {
                break row;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!((row.command.as_str(), row.arguments.len()), ("[true]", 0));
        child.wait().unwrap();
    }

    #[test]
    fn a_long_command_line_is_cut() {
        let mut child = std::process::Command::new("sleep").args(["60", &"0".repeat(100_000)]).spawn().unwrap();
        let table = Table::open().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // Until it has become sleep(1), the arguments are those of this test, or none.
        let row = loop {
            let row = table.read(pid, &Wanted { max_command: 100, ..Wanted::default() }).unwrap().unwrap();
            if row.arguments.first().is_some_and(|word| word == "sleep") {
                break row;
            }
        };
        assert_eq!((row.command.len(), row.command_cut, row.arguments.len()), (100, true, 3));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn processor_time_over_an_interval_is_that_of_the_interval() {
        let table = Table::open().unwrap();
        let mut child = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let sample = table.sample(&go).unwrap();
        std::thread::sleep(Duration::from_millis(1000));
        let busy = table.read(i32::try_from(child.id()).unwrap(), &Wanted::default()).unwrap().unwrap();
        let percent = sample.percent(&busy, Instant::now());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(percent > 3.0 && percent <= 115.0, "{percent}");
        let other = Process { start_ticks: busy.start_ticks + 1, cpu_seconds: 0.0, ..busy };
        assert_eq!(sample.percent(&other, Instant::now()), 0.0);
    }

    #[test]
    fn a_name_cannot_forge_the_fields_behind_it() {
        let line = b"77 (a) R 1 1 1) S 5 77 77 34817 77 0 1 2 3 4 10 20 0 0 20 -5 3 0 9000 4096 12 0";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.state, stat.ppid, stat.nice), ("a) R 1 1 1", State::Sleeping, 5, -5));
        assert_eq!((stat.cpu_ticks, stat.threads, stat.start_ticks, stat.virtual_memory, stat.pages), (30, 3, 9000, 4096, 12));
        assert_eq!(parse_stat(b"77 (a) S 5"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn terminals_have_their_names() {
        let name = |major: i64, minor: i64| tty((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12));
        assert_eq!(name(136, 3).as_deref(), Some("pts/3"));
        assert_eq!(name(136, 300).as_deref(), Some("pts/300"));
        assert_eq!(name(137, 1).as_deref(), Some("pts/257"));
        assert_eq!(name(4, 1).as_deref(), Some("tty1"));
        assert_eq!(name(4, 64).as_deref(), Some("ttyS0"));
        assert_eq!(name(5, 1).as_deref(), Some("5:1"));
        assert_eq!(tty(0), None);
    }

    #[test]
    fn units_and_containers_are_read_from_the_control_group() {
        assert_eq!(unit("/system.slice/nginx.service").as_deref(), Some("nginx.service"));
        assert_eq!(unit("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service").as_deref(), Some("user@1000.service"));
        assert_eq!(unit("/user.slice/user-0.slice/session-3.scope").as_deref(), Some("session-3.scope"));
        assert_eq!(unit("/"), None);
        assert_eq!(unit("/docker/abc"), None);
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/kubepods/burstable/pod1/{id}"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{id}"),
        ] {
            assert_eq!(container(&path).as_deref(), Some(id.as_str()), "{path}");
        }
        assert_eq!(container("/lxc/web/init.scope").as_deref(), Some("web"));
        assert_eq!(container("/lxc.payload.web/x").as_deref(), Some("web"));
        assert_eq!(container("/system.slice/nginx.service"), None);
    }

    #[test]
    fn old_and_mixed_control_groups_are_understood() {
        assert_eq!(own_cgroup("0::/a.slice\n").as_deref(), Some("/a.slice"));
        assert_eq!(
            own_cgroup("12:cpu,cpuacct:/x\n1:name=systemd:/system.slice/a.service\n0::/\n").as_deref(),
            Some("/system.slice/a.service")
        );
        assert_eq!(own_cgroup("5:memory:/docker/abc\n").as_deref(), Some("/docker/abc"));
        assert_eq!(own_cgroup("0::/\n").as_deref(), Some("/"));
        assert_eq!(own_cgroup(""), None);
    }
}
