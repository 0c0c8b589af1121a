//! Programs run to their end within a time, watched, and ended.

use super::Run;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A program that runs in a process group of its own; the group is killed when this is dropped.
pub struct Running {
    child: Child,
    out: Option<JoinHandle<Vec<u8>>>,
    err: Option<JoinHandle<Vec<u8>>>,
    begun: Instant,
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

impl Running {
    /// Starts it with pipes; what it writes is collected from now on.
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (out, err) = (child.stdout.take().map(drain), child.stderr.take().map(drain));
        Self { child, out, err, begun: Instant::now() }
    }
    pub fn id(&self) -> u32 {
        self.child.id()
    }
    /// Writes to its stdin, which stays open; a reader that is gone is no error here.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Some(pipe) = &mut self.child.stdin {
            let _ = pipe.write_all(bytes).and_then(|()| pipe.flush());
        }
    }
    pub fn end_input(&mut self) {
        self.child.stdin = None;
    }
    /// SIGKILL to the program alone: no handler, no goodbye.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
    /// Its end, which must come within so many seconds.
    #[track_caller]
    pub fn finish(mut self, seconds: u64) -> Run {
        let end = self.begun + Duration::from_secs(seconds);
        let ended = loop {
            match self.status() {
                None if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
                ended => break ended,
            }
        };
        let seconds_taken = self.begun.elapsed().as_secs_f64();
        // The pipes can outlive it in descendants: end those before reading to the end.
        self.kill_group();
        let text = |thread: Option<JoinHandle<Vec<u8>>>| {
            String::from_utf8_lossy(&thread.map(|thread| thread.join().unwrap()).unwrap_or_default()).into_owned()
        };
        let (stdout, stderr) = (text(self.out.take()), text(self.err.take()));
        let Some(status) = ended else { panic!("still running after {seconds} s; stdout: {stdout:?}; stderr: {stderr:?}") };
        let code = status.code().unwrap_or_else(|| 256 + status.signal().unwrap_or(0));
        Run { stdout, stderr, code, audit: Vec::new(), seconds: seconds_taken }
    }
    fn kill_group(&mut self) {
        if let Some(group) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Runs the command with this input to its end, within so many seconds.
#[track_caller]
pub fn run(command: Command, stdin: &[u8], seconds: u64) -> Run {
    let mut running = Running::start(command);
    let mut pipe = running.child.stdin.take();
    let bytes = stdin.to_vec();
    let writer = std::thread::spawn(move || {
        if let Some(pipe) = &mut pipe {
            let _ = pipe.write_all(&bytes);
        }
    });
    let run = running.finish(seconds);
    let _ = writer.join();
    run
}

/// Waits until it holds, at most so many seconds; whether it does.
pub fn until(seconds: f64, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the process exists and has not ended (a zombie has).
pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// All processes whose command line has the text, found in /proc.
pub fn children(text: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let matches = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    };
    pids.filter(|pid| *pid != std::process::id()).filter(matches).filter(|pid| alive(*pid)).collect()
}
