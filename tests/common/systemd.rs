//! A real systemd in namespaces of its own, booted by systemd.sh; commands run inside it through nsenter.

use super::process::{self, until};
use super::{Rex, Run};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Unit files that every booted host has.
const UNITS: &[(&str, &str)] = &[
    (
        "rextest-ok.service",
        "[Unit]\nDescription=A service that runs\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "rextest-reload.service",
        "[Unit]\nDescription=A service that can be reloaded\n[Service]\nExecStart=/bin/sleep infinity\nExecReload=/bin/true\n",
    ),
    ("rextest-fails.service", "[Unit]\nDescription=A service that fails\n[Service]\nExecStart=/bin/sh -c 'echo went wrong >&2; exit 3'\n"),
    (
        "rextest-slow.service",
        "[Unit]\nDescription=A service that takes its time\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 3\n",
    ),
    ("rextest-once.service", "[Unit]\nDescription=A job\n[Service]\nType=oneshot\nExecStart=/bin/echo the job was done\n"),
    (
        "rextest-once.timer",
        "[Unit]\nDescription=When the job runs\n[Timer]\nOnCalendar=*-*-* 04:00:00\n[Install]\nWantedBy=timers.target\n",
    ),
];

/// The booted system. Killed with everything in it when dropped.
pub struct Systemd {
    outer: Child,
    pid: u32,
}

impl Systemd {
    /// Boots; `units` are further unit files (name, text). The host's folder is the same inside.
    #[track_caller]
    pub fn boot(rex: &Rex, units: &[(&str, &str)]) -> Self {
        let folder = rex.root().join("systemd");
        fs::create_dir_all(folder.join("units")).unwrap();
        for (name, text) in UNITS.iter().chain(units) {
            fs::write(folder.join("units").join(name), text).unwrap();
        }
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/common/systemd.sh");
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new("sh");
        command.arg(script).arg("boot").arg(&folder).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut outer = command.spawn().unwrap();
        let mut pid = None;
        until(30.0, || {
            pid = fs::read_to_string(folder.join("pid")).ok().and_then(|text| text.trim().parse().ok());
            pid.is_some() || outer.try_wait().unwrap().is_some()
        });
        let said = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        let Some(pid) = pid else {
            let _ = outer.kill();
            panic!("no systemd: {}", said());
        };
        let systemd = Self { outer, pid };
        // `degraded` would be a unit of the boot that failed: the test's own are not started by it.
        let mut state = String::new();
        let settled = until(60.0, || {
            state = systemd.exec(&["systemctl", "is-system-running"]).stdout;
            state.trim() == "running"
        });
        assert!(settled, "systemd is `{}`: {}{:#?}", state.trim(), said(), systemd.exec(&["systemctl", "--failed", "--no-pager"]));
        systemd
    }
    /// Boots a whole machine: with programs, homes and an own polkit, so that `rex setup` may change it.
    #[track_caller]
    pub fn boot_whole(rex: &Rex, units: &[(&str, &str)]) -> Self {
        let folder = rex.root().join("systemd");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("whole"), "").unwrap();
        Self::boot(rex, units)
    }
    /// PID 1 inside, as this side numbers it.
    pub fn pid(&self) -> u32 {
        self.pid
    }
    /// A command inside, to be run by the caller.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-u", "-i", "-p", "-C", "-r", "-w", "--"]).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }
    /// A command inside, to its end.
    #[track_caller]
    pub fn exec(&self, words: &[&str]) -> Run {
        process::run(self.command(words), b"", 60)
    }
    /// `rex run -` inside, as [`Rex::run`] does outside.
    #[track_caller]
    pub fn run(&self, rex: &Rex, script: &str) -> Run {
        self.run_with(rex, &[], script)
    }
    /// The same with more arguments of `rex run`.
    #[track_caller]
    pub fn run_with(&self, rex: &Rex, arguments: &[&str], script: &str) -> Run {
        let (program, config, policy) = (rex.program().to_str().unwrap(), rex.config_file(), rex.policy_file());
        let mut words = vec![program, "run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"];
        words.extend(arguments);
        rex.finish(self.command(&words), rex.fill(script).as_bytes())
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid as i32) {
            // The death of PID 1 ends every process of its namespace, and the last of those ends the mounts.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        if !until(10.0, || self.outer.try_wait().is_ok_and(|status| status.is_some())) {
            let _ = self.outer.kill();
            let _ = self.outer.wait();
        }
    }
}
