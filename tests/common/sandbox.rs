//! A sandbox for a test: /etc, /home, /root, /var, /usr/bin and /run that only its namespaces have, booted by sandbox.sh; and an sshd in it.

use super::process::{self, until};
use super::sshd::Key;
use super::{Rex, Run};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Killed with everything in it when dropped.
pub struct Sandbox {
    outer: Child,
    pid: u32,
    port: Cell<u16>,
    root: PathBuf,
}

impl Sandbox {
    #[track_caller]
    pub fn boot(rex: &Rex) -> Self {
        let folder = rex.root().join("sandbox");
        fs::create_dir_all(&folder).unwrap();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/common/sandbox.sh");
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new("sh");
        command.arg(script).arg("boot").arg(&folder).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut outer = command.spawn().unwrap();
        let mut pid = None;
        until(30.0, || {
            pid = fs::read_to_string(folder.join("pid")).ok().and_then(|text| text.trim().parse().ok());
            pid.is_some() || outer.try_wait().unwrap().is_some()
        });
        let Some(pid) = pid else {
            let _ = outer.kill();
            panic!("no sandbox: {}", fs::read_to_string(folder.join("log")).unwrap_or_default());
        };
        let sandbox = Self { outer, pid, port: Cell::new(super::sshd::spare_port()), root: rex.root().to_path_buf() };
        // Its sshd listens on loopback alone, and is what `sshd -T` says.
        sandbox.sh(&format!("printf 'Port {}\\nListenAddress 127.0.0.1\\n' >>/etc/ssh/sshd_config", sandbox.port.get())).ends(0);
        sandbox
    }
    /// A command inside, to be run by the caller.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-p", "-r", "-w", "--"]).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }
    /// A command inside, to its end.
    #[track_caller]
    pub fn exec(&self, words: &[&str]) -> Run {
        process::run(self.command(words), b"", 120)
    }
    #[track_caller]
    pub fn sh(&self, script: &str) -> Run {
        self.exec(&["sh", "-c", script])
    }
    /// Starts the machine's sshd; it is reloaded by signal, since there is no systemd.
    #[track_caller]
    pub fn start_sshd(&self) {
        for _ in 0..10 {
            self.exec(&["/usr/sbin/sshd"]);
            // It writes the file when it listens; without a port it ends.
            if until(3.0, || self.sh("test -s /run/sshd.pid && kill -0 $(cat /run/sshd.pid)").code == 0) {
                return;
            }
            let port = super::sshd::spare_port();
            self.sh(&format!("sed -i 's/^Port .*/Port {port}/' /etc/ssh/sshd_config")).ends(0);
            self.port.set(port);
        }
        panic!("no spare port found");
    }
    #[track_caller]
    pub fn ssh(&self, name: &str, key: &Key, options: &[&str], request: &[&str], stdin: &str) -> Run {
        process::run(ssh_command(&self.root, self.port.get(), name, key, options, request), stdin.as_bytes(), 60)
    }
    /// Every file, folder and link of the places that a setup may touch, with owner, mode and digest; not the copies that useradd keeps (`passwd-` …).
    #[track_caller]
    pub fn tree(&self) -> String {
        let places = "/etc /home /root /usr/bin/rex /usr/bin/rexsh /var/lib/rex-setup /var/lib/rex /var/cache/rex /run";
        let script = format!(
            "find {places} -xdev \\( -path /run/sshd.pid -o -path /run/motd.dynamic -o -path /etc/passwd- -o -path /etc/group- -o -path /etc/shadow- -o -path /etc/gshadow- \
             -o -path /etc/subuid- -o -path /etc/subgid- -o -path '/etc/*.lock' \\) -prune -o -printf '%p %y %m %U %G %l\\n' 2>/dev/null | sort
             find /etc /home /root -xdev -type f ! -name 'passwd-' ! -name 'group-' ! -name 'shadow-' ! -name 'gshadow-' ! -name 'subuid-' ! -name 'subgid-' -exec sha256sum {{}} + | sort -k 2"
        );
        self.sh(&script).ends(0).stdout.clone()
    }
    pub fn port(&self) -> u16 {
        self.port.get()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid as i32) {
            // The death of the first process ends every process of its namespace, and the last of those ends the mounts.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        if !until(10.0, || self.outer.try_wait().is_ok_and(|status| status.is_some())) {
            let _ = self.outer.kill();
            let _ = self.outer.wait();
        }
    }
}

/// `ssh` to a server on loopback that no test knew before.
fn ssh_command(root: &Path, port: u16, name: &str, key: &Key, options: &[&str], request: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/ssh");
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent").args(["-F", "none", "-p", &port.to_string()]);
    let known = format!("UserKnownHostsFile={}/known_hosts", root.display());
    for option in [
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "BatchMode=yes",
        "ConnectTimeout=20",
        "LogLevel=ERROR",
        "StrictHostKeyChecking=no",
        &known,
    ] {
        command.args(["-o", option]);
    }
    command.arg("-i").arg(&key.file).args(options).arg(format!("{name}@127.0.0.1")).args(request);
    command
}

/// `ssh` to a port of loopback, to its end.
#[track_caller]
pub fn ssh_to(rex: &Rex, port: u16, name: &str, key: &Key, request: &[&str], stdin: &str) -> Run {
    process::run(ssh_command(rex.root(), port, name, key, &[], request), stdin.as_bytes(), 60)
}
