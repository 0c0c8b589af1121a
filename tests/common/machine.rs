//! A small Debian in namespaces of its own, for tests of packages: made by debian-root, started by machine.sh; commands run inside it through nsenter.

use super::process::{self, until};
use super::{Rex, Run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The Debian, running. Gone with all that it wrote when dropped.
pub struct Machine {
    outer: Child,
    pid: u32,
    folder: PathBuf,
}

impl Machine {
    /// Where the root of such machines is; None where none has been made (`./test` makes it as root, or tests/common/debian-root).
    ///
    /// # Panics
    /// Where the build service runs without one: a check that is left out there is none.
    pub fn base() -> Option<PathBuf> {
        let output = Command::new(script("debian-root")).arg("--made").output().unwrap();
        let path = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        assert!(output.status.success() || std::env::var_os("CI").is_none(), "no Debian to put packages into: tests/common/debian-root");
        output.status.success().then(|| path.into())
    }
    #[track_caller]
    pub fn boot(rex: &Rex, base: &Path) -> Self {
        let folder = rex.root().join("machine");
        fs::create_dir_all(folder.join("shared")).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new("sh");
        command.arg(script("machine.sh")).arg("boot").arg(base).arg(&folder);
        let mut outer = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut pid = None;
        until(60.0, || {
            pid = fs::read_to_string(folder.join("pid")).ok().and_then(|text| text.trim().parse::<u32>().ok());
            pid.is_some() || outer.try_wait().unwrap().is_some()
        });
        let Some(pid) = pid else {
            let _ = outer.kill();
            panic!("no machine: {}", fs::read_to_string(folder.join("log")).unwrap_or_default());
        };
        let machine = Self { outer, pid, folder };
        // Its own root is in force only when the process has become the one inside.
        assert!(
            until(10.0, || machine.run(&["test", "-e", "/.made"]).code == 0),
            "{}",
            fs::read_to_string(machine.folder.join("log")).unwrap()
        );
        machine
    }
    /// A folder that is /mnt inside.
    pub fn shared(&self) -> PathBuf {
        self.folder.join("shared")
    }
    /// A command inside, to be run by the caller.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-u", "-i", "-p", "-r", "-w", "--"]).args(words);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("HOME", "/nonexistent");
        command
    }
    /// A command inside, to its end.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Run {
        process::run(self.command(words), b"", 60)
    }
    /// The same, which must succeed; what it wrote.
    #[track_caller]
    pub fn does(&self, words: &[&str]) -> String {
        let run = self.run(words);
        assert_eq!(run.code, 0, "{words:?}: {run:#?}");
        run.stdout
    }
    /// The same with a shell.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.does(&["sh", "-ec", script])
    }
    /// Whether something is at this path inside.
    pub fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(format!("/proc/{}/root{path}", self.pid)).is_ok()
    }
    /// All of the first are there, and none of the others.
    #[track_caller]
    pub fn has_but_lacks(&self, there: &[&str], gone: &[&str]) {
        let wrong: Vec<&&str> = there.iter().filter(|path| !self.has(path)).chain(gone.iter().filter(|path| self.has(path))).collect();
        assert!(wrong.is_empty(), "gone, or still there: {wrong:?}");
    }
    /// A command with the host's own root, in the machine's mounts: `{root}` in its words is the machine's root.
    #[track_caller]
    pub fn beside(&self, words: &[&str]) -> Run {
        let root = self.folder.join("root");
        let words: Vec<String> = words.iter().map(|word| word.replace("{root}", root.to_str().unwrap())).collect();
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "--"]).args(words);
        process::run(command, b"", 60)
    }
}

impl Drop for Machine {
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

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common").join(name)
}
