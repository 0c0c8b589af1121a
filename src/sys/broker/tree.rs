//! The processes that came of a program: found by their parents, stopped so that none gets away, and killed.

use rustix::fs::{Mode, OFlags};
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
    fn stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// One process (proc_pid_stat(5)). While a bomb goes off there is no time to lose: no more is read and taken apart than is needed.
fn process(pid: i32) -> Option<Process> {
    let file = rustix::fs::open(format!("/proc/{pid}/stat"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut buffer = [0u8; 1024];
    let length = rustix::io::read(&file, &mut buffer).ok()?;
    let stat = buffer.get(..length)?;
    // The name in parentheses may hold anything.
    let rest = stat.get(stat.iter().rposition(|byte| *byte == b')')? + 2..)?;
    let mut fields = [0u64; 22];
    let mut words = rest.split(|byte| *byte == b' ');
    let state = *words.next()?.first()?;
    for field in fields.iter_mut().skip(1) {
        // Some are negative, and none of those is looked at.
        *field = words
            .next()?
            .iter()
            .try_fold(0u64, |sum, byte| Some(sum.wrapping_mul(10).wrapping_add(u64::from(byte.checked_sub(b'0')?))))
            .unwrap_or(0);
    }
    let number = |at: usize| i32::try_from(*fields.get(at)?).ok();
    // utime, stime, cutime, cstime.
    let ticks: u64 = fields.get(11..15)?.iter().sum();
    Some(Process {
        pid,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        state,
        resident: fields.get(21)? * rustix::param::page_size() as u64,
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
    let time =
        |time: libc::timeval| Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_usec * 1000).unwrap_or(0));
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// So many processes may be a bomb: of those that come and go, one look at /proc misses some.
const MANY: usize = 16;
/// Looks in a row that find nothing new before many processes are killed.
const LOOKS: u32 = 3;

/// Kills what is below this process under those of its children that `mine` says yes to, and takes leave of it; how many were alive.
///
/// All of it is stopped first, until looks find nothing new: what is killed while others of it fork makes room for more, and a process that starts
/// each of its children in a session of its own is in no group with them. A group gets its signal as one, so that no fork in it outruns it. What the kernel itself holds on to (a dead file server) is left after `patience`.
pub(super) fn kill(mine: &dyn Fn(&Process) -> bool, patience: Duration) -> u32 {
    let until = Instant::now() + patience;
    let mut alive: HashSet<i32> = HashSet::new();
    let mut quiet = 0;
    loop {
        let found = below(mine);
        let mut new = false;
        let mut groups: HashSet<i32> = HashSet::new();
        for process in found.iter().filter(|process| !process.dead()) {
            new |= alive.insert(process.pid);
            if process.stopped() {
                continue;
            }
            signal(process.pid, Signal::STOP);
            // It is in a session that began below this process, and so is all of its group.
            if process.group > 1
                && process.session != session()
                && groups.insert(process.group)
                && let Some(group) = Pid::from_raw(process.group)
            {
                let _ = rustix::process::kill_process_group(group, Signal::STOP);
            }
        }
        let late = Instant::now() >= until;
        quiet = if new { 0 } else { quiet + 1 };
        let still = quiet >= if alive.len() < MANY { 1 } else { LOOKS };
        if still || late {
            found.iter().for_each(|process| signal(process.pid, Signal::KILL));
        }
        reap(&found, &HashSet::new());
        if found.is_empty() || late {
            return u32::try_from(alive.len()).unwrap_or(u32::MAX);
        }
        if still {
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
