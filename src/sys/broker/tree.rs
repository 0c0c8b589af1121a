//! The processes that came of a program: found by their parents, stopped so that none gets away, and killed.

use rustix::process::{Pid, Signal};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A process as /proc/PID/stat tells it.
pub(super) struct Process {
    pub pid: i32,
    pub parent: i32,
    /// A program begins one of its own (setsid(2)); what it starts stays in it unless it begins another.
    pub session: i32,
    group: i32,
    state: u8,
    /// Bytes of memory in use.
    resident: u64,
    /// Processor time of it and of those of its children that it has waited for.
    cpu: Duration,
}

impl Process {
    fn dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// One process (proc_pid_stat(5)).
fn process(pid: i32) -> Option<Process> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let rest = stat.get(stat.iter().rposition(|byte| *byte == b')')? + 2..)?;
    let fields: Vec<&str> = std::str::from_utf8(rest).ok()?.split(' ').collect();
    let pages: u64 = fields.get(21)?.parse().unwrap_or(0);
    // utime, stime, cutime, cstime.
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        state: *fields.first()?.as_bytes().first()?,
        resident: pages * rustix::param::page_size() as u64,
        cpu: Duration::from_millis(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1)),
    })
}

/// Every process of the host that can be seen.
fn all() -> Vec<Process> {
    let Ok(folder) = std::fs::read_dir("/proc") else { return Vec::new() };
    folder.flatten().filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// What is below this process, under those of its children that `mine` says yes to.
fn below(mine: &dyn Fn(&Process) -> bool) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all() {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found: Vec<Process> = children.remove(&own()).unwrap_or_default().into_iter().filter(mine).collect();
    let mut at = 0;
    while let Some(parent) = found.get(at).map(|process| process.pid) {
        found.extend(children.remove(&parent).unwrap_or_default());
        at += 1;
    }
    found
}

fn own() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Children of a process as the kernel lists them (CONFIG_PROC_CHILDREN): without a look at every process of the host. It may miss some while others end.
fn children(pid: i32) -> std::io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let text = std::fs::read_to_string(task.path().join("children"))?;
        found.extend(text.split(' ').filter_map(|pid| pid.trim().parse::<i32>().ok()));
    }
    Ok(found)
}

/// What is below this process, at the price of what there is. No more than so many that are alive: what forks faster than it is counted has no end.
fn look(most: u32) -> Vec<Process> {
    let Ok(first) = children(own()) else { return below(&|_| true) };
    let mut found: Vec<Process> = Vec::new();
    let mut alive = 0;
    let mut todo = first;
    while let Some(pid) = todo.pop() {
        if let Some(process) = process(pid) {
            alive += u32::from(!process.dead());
            todo.extend(children(pid).unwrap_or_default());
            found.push(process);
        }
        if alive > most {
            break;
        }
    }
    found
}

/// What programs use together.
pub(super) struct Weight {
    /// Processes; just more than asked for, when there are more.
    pub processes: u32,
    /// Bytes of memory; what several of them share counts for each.
    pub bytes: u64,
    /// Processor time of all there are and were. (Of a child that its parent does not wait for, because it ignores SIGCHLD, the kernel keeps none.)
    pub cpu: Duration,
}

/// What is below this process and what it uses. Orphans that ended are taken leave of; leaders of programs are waited for elsewhere.
pub(super) fn weigh(leaders: &HashSet<i32>, most: u32) -> Weight {
    let found = look(most);
    // Before those of them that ended are waited for, so that none counts twice.
    let mut weight = Weight { processes: 0, bytes: 0, cpu: cpu_of_the_dead() };
    for process in &found {
        weight.cpu += process.cpu;
        if !process.dead() {
            weight.processes += 1;
            weight.bytes += process.resident;
        }
    }
    reap(&found, leaders);
    weight
}

/// Processor time of what this process has waited for, and of what those had waited for (getrusage(2)).
pub(super) fn cpu_of_the_dead() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    #[expect(unsafe_code, reason = "getrusage(2) is in no safe crate of the graph")]
    // SAFETY: all zeroes is a valid rusage, and the kernel writes one to the address of a live local.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |time: libc::timeval| Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_usec * 1000).unwrap_or(0));
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Kills what is below this process under those of its children that `mine` says yes to, and takes leave of it; how many were alive. A process group
/// gets its signal as one, so that no fork in it outruns it; what makes groups of its own is stopped first, until a look finds nothing new.
/// What the kernel itself holds on to (a dead file server) is left after `patience`.
pub(super) fn kill(mine: &dyn Fn(&Process) -> bool, patience: Duration) -> u32 {
    let until = Instant::now() + patience;
    let mut alive: HashSet<i32> = HashSet::new();
    let mut groups: HashSet<i32> = HashSet::new();
    loop {
        let found = below(mine);
        let mut new = false;
        for process in found.iter().filter(|process| !process.dead()) {
            new |= alive.insert(process.pid);
            // It is in a session that began below this process, and so is all of its group.
            match Pid::from_raw(process.group) {
                Some(group) if process.group > 1 && process.session != session() => {
                    if groups.insert(process.group) || !new {
                        let _ = rustix::process::kill_process_group(group, Signal::KILL);
                    }
                }
                _ => signal(process.pid, Signal::STOP),
            }
        }
        if !new {
            found.iter().for_each(|process| signal(process.pid, Signal::KILL));
        }
        reap(&found, &HashSet::new());
        if found.is_empty() || Instant::now() >= until {
            return u32::try_from(alive.len()).unwrap_or(u32::MAX);
        }
        if !new {
            super::serve::pause(Duration::from_millis(1));
        }
    }
}

/// The session of this process.
fn session() -> i32 {
    rustix::process::getsid(None).map_or(0, |session| session.as_raw_nonzero().get())
}

fn signal(pid: i32, signal: Signal) {
    // Its parent is this process or one that is stopped, so the number is still its own.
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

fn reap(found: &[Process], leaders: &HashSet<i32>) {
    let own = own();
    for process in found.iter().filter(|process| process.parent == own && process.dead() && !leaders.contains(&process.pid)) {
        let _ = rustix::process::waitpid(Pid::from_raw(process.pid), rustix::process::WaitOptions::NOHANG);
    }
}
