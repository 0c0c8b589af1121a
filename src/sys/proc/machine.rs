//! The machine as a whole: names, time since it started, load, processors.

use super::{int, odd, read_text};
use crate::error::Result;
use crate::policy::{Action, Granted};
use crate::resource::machine::Machine;

/// uname(2), each field as the kernel gives it; bytes that are not UTF-8 become U+FFFD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uname {
    /// e.g. `Linux`.
    pub kernel_name: String,
    pub nodename: String,
    /// e.g. `6.12.41`.
    pub kernel_release: String,
    /// Build number and date.
    pub kernel_version: String,
    /// e.g. `x86_64`.
    pub machine: String,
    /// The NIS domain; `(none)` where there is none.
    pub domainname: String,
}

#[must_use]
pub fn uname<A: Action<On = Machine>>(_: &Granted<A>) -> Uname {
    own_names()
}

fn own_names() -> Uname {
    let name = rustix::system::uname();
    let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
    Uname {
        kernel_name: text(name.sysname()),
        nodename: text(name.nodename()),
        kernel_release: text(name.release()),
        kernel_version: text(name.version()),
        machine: text(name.machine()),
        domainname: text(name.domainname()),
    }
}

/// The kernel's name of this host (or of this container's UTS namespace). No name service is asked.
#[must_use]
pub fn hostname<A: Action<On = Machine>>(_: &Granted<A>) -> String {
    own_names().nodename
}

/// Time since the machine started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uptime {
    /// Seconds since then, time asleep included.
    pub seconds: f64,
    /// Seconds that processors had nothing to do, all processors added.
    pub idle_seconds: f64,
    /// When that was, in seconds since 1970.
    pub boot_time: i64,
}

/// # Errors
/// What reading `/proc/uptime` and `/proc/stat` reports.
pub fn uptime<A: Action<On = Machine>>(_: &Granted<A>) -> Result<Uptime> {
    time_up()
}

pub(super) fn time_up() -> Result<Uptime> {
    let text = read_text("/proc/uptime")?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<f64>);
    let (Some(Ok(seconds)), Some(Ok(idle_seconds))) = (numbers.next(), numbers.next()) else { return Err(odd("/proc/uptime")) };
    Ok(Uptime { seconds, idle_seconds, boot_time: boot_time()? })
}

/// When the machine started, in seconds since 1970: `btime` of `/proc/stat`.
///
fn boot_time() -> Result<i64> {
    let text = read_text("/proc/stat")?;
    let time = text.lines().find_map(|line| line.strip_prefix("btime ")).and_then(|time| time.trim().parse().ok());
    time.ok_or_else(|| odd("/proc/stat"))
}

/// How much wants to run: `/proc/loadavg`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Averages over 1, 5 and 15 minutes of tasks that run, wait for a processor, or wait for a disk.
    pub one: f64,
    pub five: f64,
    pub fifteen: f64,
    /// Tasks that run or could, now.
    pub running: i64,
    /// Tasks there are: processes and threads.
    pub tasks: i64,
    /// The process id given out last.
    pub last_pid: i64,
}

/// # Errors
/// What reading `/proc/loadavg` reports.
pub fn load<A: Action<On = Machine>>(_: &Granted<A>) -> Result<Load> {
    loads()
}

fn loads() -> Result<Load> {
    parse_load(&read_text("/proc/loadavg")?).ok_or_else(|| odd("/proc/loadavg"))
}

fn parse_load(text: &str) -> Option<Load> {
    let mut words = text.split_ascii_whitespace();
    let mut average = || words.next()?.parse().ok();
    let (one, five, fifteen) = (average()?, average()?, average()?);
    let (running, tasks) = words.next()?.split_once('/')?;
    Some(Load { one, five, fifteen, running: running.parse().ok()?, tasks: tasks.parse().ok()?, last_pid: words.next()?.parse().ok()? })
}

/// The numbers of this process's own user and groups (credentials(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub euid: u32,
    pub gid: u32,
    pub egid: u32,
    pub groups: Vec<u32>,
}

/// # Errors
/// What getgroups(2) reports.
pub fn own_ids() -> Result<Ids> {
    use rustix::process as own;
    let groups = own::getgroups()?.into_iter().map(own::Gid::as_raw).collect();
    Ok(Ids {
        uid: own::getuid().as_raw(),
        euid: own::geteuid().as_raw(),
        gid: own::getgid().as_raw(),
        egid: own::getegid().as_raw(),
        groups,
    })
}

/// Bytes of memory that the machine has: sysinfo(2).
#[must_use]
pub fn total_memory() -> i64 {
    let info = rustix::system::sysinfo();
    int(u64::from(info.mem_unit).max(1).saturating_mul(info.totalram))
}

/// Processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    /// That this process may run on, as nproc(1) counts.
    pub available: i64,
    /// That are running in the machine.
    pub online: i64,
}

/// # Errors
/// What sched_getaffinity(2) and `/sys` report.
pub fn processors<A: Action<On = Machine>>(_: &Granted<A>) -> Result<Processors> {
    count_processors()
}

fn count_processors() -> Result<Processors> {
    let set = rustix::thread::sched_getaffinity(None);
    // More processors than the set has room for (EINVAL): all that are online.
    let online = read_text("/sys/devices/system/cpu/online").ok().and_then(|list| parse_list(&list));
    let available = match (set, online) {
        (Ok(set), _) => i64::from(set.count()),
        (Err(_), Some(online)) => online,
        (Err(errno), None) => return Err(errno.into()),
    };
    Ok(Processors { available, online: online.unwrap_or(available) })
}

/// How many numbers a list like `0-3,8` has.
fn parse_list(list: &str) -> Option<i64> {
    let mut sum = 0u64;
    for part in list.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
        sum = sum.checked_add(to.checked_sub(from)?)?.checked_add(1)?;
    }
    Some(int(sum))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_machine_tells_its_names_and_times() {
        let name = own_names();
        assert_eq!(name.kernel_name, "Linux");
        assert_eq!(name.nodename, std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
        let up = time_up().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - up.seconds - up.boot_time as f64).abs() < 5.0, "{up:?} at {now}");
        assert!(loads().unwrap().tasks > 0);
        let count = count_processors().unwrap();
        assert!(count.available >= 1 && count.online >= count.available, "{count:?}");
    }

    #[test]
    fn loads_and_lists_of_processors_are_read_or_refused() {
        let load = parse_load("0.52 0.58 0.59 2/977 31337\n").unwrap();
        assert_eq!((load.one, load.fifteen, load.running, load.tasks, load.last_pid), (0.52, 0.59, 2, 977, 31337));
        assert_eq!(parse_load("0.52 0.58"), None);
        assert_eq!(parse_list("0-3,8\n"), Some(5));
        assert_eq!(parse_list("0"), Some(1));
        assert_eq!(parse_list("3-0"), None);
        assert_eq!(parse_list("0-18446744073709551615"), None);
    }
}
