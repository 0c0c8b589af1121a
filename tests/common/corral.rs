//! A control group of a test: what runs in it cannot make more processes, or use more memory, than it may. Removed with all that is in it.

use super::until;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Corral {
    path: PathBuf,
}

impl Corral {
    /// At most so many processes; nothing where this host lets no test make control groups.
    pub fn of_processes(most: u32) -> Option<Self> {
        Self::new("pids", &[("pids.max", most.to_string())])
    }
    /// At most so many bytes of memory, and no swap; beyond that the kernel kills.
    pub fn of_memory(bytes: u64) -> Option<Self> {
        let limit = if v2() { "memory.max" } else { "memory.limit_in_bytes" };
        Self::new("memory", &[(limit, bytes.to_string())])
    }
    fn new(controller: &str, settings: &[(&str, String)]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let above = if v2() { PathBuf::from("/sys/fs/cgroup") } else { Path::new("/sys/fs/cgroup").join(controller) };
        sweep(&above);
        let path = above.join(format!("rex-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).ok()?;
        let corral = Self { path };
        settings.iter().try_for_each(|(name, value)| fs::write(corral.path.join(name), value)).ok()?;
        Some(corral)
    }
    /// The command, run in here from its first moment.
    pub fn hold(&self, command: &Command) -> Command {
        let mut held = Command::new("/bin/sh");
        let procs: OsString = self.path.join("cgroup.procs").into();
        held.args(["-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "-"]).arg(procs).arg(command.get_program()).args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            held.current_dir(folder);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => held.env(name, value),
                None => held.env_remove(name),
            };
        }
        held
    }
    /// The processes that are in here, without those that have ended.
    pub fn inside(&self) -> Vec<u32> {
        let procs = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        procs.lines().filter_map(|line| line.parse().ok()).filter(|pid| super::alive(*pid)).collect()
    }
}

impl Drop for Corral {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn remove(path: &Path) {
    until(10.0, || {
        let procs = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        fs::remove_dir(path).is_ok() || !path.exists()
    });
}

/// Removes those of tests that were killed.
fn sweep(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("rex-test-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !super::alive(pid)) {
            remove(&entry.path());
        }
    }
}
