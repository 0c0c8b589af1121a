//! The processes that came of a program: found by their parents, stopped so that none gets away, and killed.

use rustix::process::{Pid, Signal};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A process as /proc/PID/stat tells it.
struct Process {
    pid: i32,
    parent: i32,
    state: u8,
    /// Bytes of memory in use.
    resident: u64,
}

/// Every process of the host that can be seen. Its number, parent, state and size (proc_pid_stat(5)).
fn all() -> Vec<Process> {
    let Ok(folder) = std::fs::read_dir("/proc") else { return Vec::new() };
    let read = |name: &str| {
        let pid: i32 = name.parse().ok()?;
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything.
        let rest = stat.get(stat.iter().rposition(|byte| *byte == b')')? + 2..)?;
        let rest = std::str::from_utf8(rest).ok()?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let pages: u64 = fields.get(21)?.parse().unwrap_or(0);
        Some(Process {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            state: *fields.first()?.as_bytes().first()?,
            resident: pages * rustix::param::page_size() as u64,
        })
    };
    folder.flatten().filter_map(|entry| read(entry.file_name().to_str()?)).collect()
}

/// What is below `top`, but for what is below one of `spared`.
fn below(top: i32, spared: &HashSet<i32>) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all() {
        children.entry(process.parent).or_default().push(process);
    }
    let (mut found, mut todo) = (Vec::new(), vec![top]);
    while let Some(parent) = todo.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            if !spared.contains(&process.pid) {
                todo.push(process.pid);
                found.push(process);
            }
        }
    }
    found
}

/// How many processes there are below `top`, and how much memory they use together.
pub(super) fn weigh(top: i32) -> (u32, u64) {
    let found = below(top, &HashSet::new());
    let alive = found.iter().filter(|process| !matches!(process.state, b'Z' | b'X'));
    alive.fold((0, 0), |(count, bytes), process| (count + 1, bytes + process.resident))
}

/// Kills everything below this process but what is below `spared`, and reaps what falls to it; how many were alive. Whatever forks is stopped first, until a
/// look finds nothing new, so that no fork outruns it. What the kernel itself holds on to (a dead file server) is left after `patience`.
pub(super) fn kill(spared: &HashSet<i32>, patience: Duration) -> u32 {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let until = Instant::now() + patience;
    let mut alive: HashSet<i32> = HashSet::new();
    loop {
        let found = below(own, spared);
        let mut new = false;
        for process in found.iter().filter(|process| !matches!(process.state, b'Z' | b'X')) {
            new |= alive.insert(process.pid);
            signal(process.pid, Signal::STOP);
        }
        if !new {
            found.iter().for_each(|process| signal(process.pid, Signal::KILL));
        }
        reap(spared);
        if found.is_empty() || Instant::now() >= until {
            return u32::try_from(alive.len()).unwrap_or(u32::MAX);
        }
        if !new {
            super::serve::pause(Duration::from_millis(1));
        }
    }
}

fn signal(pid: i32, signal: Signal) {
    // Its parent is this process or one that is stopped, so the number is still its own.
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Takes the exit status of orphans that fell to this process; leaders of programs under way are waited for elsewhere.
pub(super) fn reap(leaders: &HashSet<i32>) {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    for process in all() {
        if process.parent == own && process.state == b'Z' && !leaders.contains(&process.pid) {
            let _ = rustix::process::waitpid(Pid::from_raw(process.pid), rustix::process::WaitOptions::NOHANG);
        }
    }
}
