//! Running a program of this host for the owner's own commands (`rex demo`, `rex setup`, `rex doctor`): never for a script.

use crate::error::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a program gave back.
#[derive(Clone, Debug)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    /// `None` when a signal ended it.
    pub code: Option<i32>,
}

/// The absolute path of a program in the usual folders.
///
/// # Errors
/// [`Kind::Unsupported`] naming the Debian package when it is not there.
pub fn find(name: &str, package: &str) -> Result<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file()).ok_or_else(|| {
        Error::new(Kind::Unsupported, format!("`{name}` is not on this machine"))
            .with_hint(format!("install it, on Debian: apt-get install {package}"))
    })
}

/// Runs it with an empty environment, these bytes on standard input, and an end after `limit`.
///
/// # Errors
/// When it cannot be started, or does not end in time.
pub fn run(program: &Path, arguments: &[&str], input: &[u8], limit: Duration) -> Result<Ran> {
    let failed = |error: std::io::Error| Error::new(Kind::Communication, format!("{}: {error}", program.display()));
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading is no error here; its exit code tells.
        let _ = stdin.write_all(input);
    }
    let pid = rustix::process::Pid::from_child(&child);
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    match receive.recv_timeout(limit) {
        Ok(output) => {
            let output = output.map_err(failed)?;
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            Ok(Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) })
        }
        Err(_) => {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            Err(Error::new(Kind::Timeout, format!("{} did not end within {} s", program.display(), limit.as_secs())))
        }
    }
}

/// Asks a program of the host's owner for what it knows: an empty environment but for PATH, nothing on standard input, an end after `limit`, and at most
/// `max` bytes of each of its streams. It is killed when it takes longer or says more.
///
/// # Errors
/// [`Kind::Communication`] when it cannot be started, [`Kind::Timeout`], [`Kind::TooLarge`].
pub fn ask(program: &Path, arguments: &[&str], limit: Duration, max: usize) -> Result<Ran> {
    let shown = program.display();
    let failed = |error: std::io::Error| Error::new(Kind::Communication, format!("{shown}: {error}"));
    let end = Instant::now() + limit;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let outcome = listen(&mut child, end, max);
    if outcome.is_err() {
        let _ = child.kill();
    }
    // Killed, or ended as far as its pipes tell: the pidfd says when it really is.
    let ended = rustix::process::pidfd_open(rustix::process::Pid::from_child(&child), rustix::process::PidfdFlags::empty())
        .is_ok_and(|handle| ready(&handle, end.max(Instant::now() + GRACE)));
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    let (stdout, stderr) = outcome.map_err(|kind| match kind {
        Kind::TooLarge => Error::new(kind, format!("{shown} says more than {max} bytes")),
        kind => Error::new(kind, format!("{shown} did not end within {} s", limit.as_secs_f32())),
    })?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran { stdout: text(stdout), stderr: text(stderr), code: status.code() })
}

/// Runs a program that is not to be disturbed in the middle of its work, whatever becomes of this process: what it says goes into memory and not into
/// pipes whose end would end it, and signals of the terminal do not reach it.
///
/// # Errors
/// [`Kind::Communication`] when it cannot be started; [`Kind::Timeout`] when it is still at work after `limit`: it goes on then.
pub fn undisturbed(program: &Path, arguments: &[&str], limit: Duration) -> Result<Ran> {
    use std::io::{Read as _, Seek as _};
    use std::os::unix::process::CommandExt as _;
    let shown = program.display();
    let failed = |error: std::io::Error| Error::new(Kind::Communication, format!("{shown}: {error}"));
    let memory = || {
        let fd = rustix::fs::memfd_create(c"rex", rustix::fs::MemfdFlags::CLOEXEC)?;
        Ok::<_, Errno>(std::fs::File::from(fd))
    };
    let (mut out, mut err) = (memory()?, memory()?);
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(err.try_clone()?);
    let mut child = command.spawn().map_err(failed)?;
    let handle = rustix::process::pidfd_open(rustix::process::Pid::from_child(&child), rustix::process::PidfdFlags::empty())?;
    if !ready(&handle, Instant::now() + limit) {
        return Err(Error::new(Kind::Timeout, format!("{shown} did not end within {} s; it goes on", limit.as_secs())));
    }
    let code = child.wait().map_err(failed)?.code();
    let text = |file: &mut std::fs::File| -> Result<String> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.take(1 << 20).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Ran { stdout: text(&mut out)?, stderr: text(&mut err)?, code })
}

/// What a killed program gets to be gone.
const GRACE: Duration = Duration::from_millis(500);

/// Both streams to their ends.
fn listen(child: &mut std::process::Child, end: Instant, max: usize) -> std::result::Result<(Vec<u8>, Vec<u8>), Kind> {
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else { return Err(Kind::Internal) };
    let (out, err) = (OwnedFd::from(out), OwnedFd::from(err));
    let mut streams = [(Some(out), Vec::new()), (Some(err), Vec::new())];
    while streams.iter().any(|(pipe, _)| pipe.is_some()) {
        let left = end.checked_duration_since(Instant::now()).ok_or(Kind::Timeout)?;
        let left = Timespec::try_from(left).map_err(|_| Kind::Timeout)?;
        let mut polled: Vec<PollFd<'_>> = streams.iter().filter_map(|(pipe, _)| Some(PollFd::new(pipe.as_ref()?, PollFlags::IN))).collect();
        match poll(&mut polled, Some(&left)) {
            Ok(0) => return Err(Kind::Timeout),
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Err(Kind::Communication),
        }
        let told: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        let open = streams.iter_mut().filter(|(pipe, _)| pipe.is_some());
        for ((pipe, bytes), _) in open.zip(told).filter(|(_, told)| *told) {
            let mut chunk = [0_u8; 16 * 1024];
            let Some(handle) = pipe.as_ref() else { continue };
            match rustix::io::read(handle, &mut chunk) {
                Ok(0) => *pipe = None,
                Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Kind::Communication),
            }
            if bytes.len() > max {
                return Err(Kind::TooLarge);
            }
        }
    }
    let [(_, out), (_, err)] = streams;
    Ok((out, err))
}

/// Whether it becomes readable by `end`.
fn ready(handle: &OwnedFd, end: Instant) -> bool {
    loop {
        let left = end.checked_duration_since(Instant::now()).and_then(|left| Timespec::try_from(left).ok()).unwrap_or_default();
        match poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&left)) {
            Err(Errno::INTR) => {}
            answer => return answer.is_ok_and(|count| count > 0),
        }
    }
}

/// Waits a moment, in the owner's own commands: for a daemon that reads its configuration, or a session that ends.
pub fn wait(time: Duration) {
    let _ = poll(&mut [], Timespec::try_from(time).ok().as_ref());
}

/// A new folder that only this account can enter; gone with everything in it when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// # Errors
    /// When it cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        Self::within(Path::new("/tmp"), name)
    }
    /// The same in another folder than /tmp.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn within(folder: &Path, name: &str) -> Result<Self> {
        for _ in 0..16 {
            let mut chance = [0u8; 8];
            let _ = rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty());
            let path = folder.join(format!("{name}-{:016x}", u64::from_ne_bytes(chance)));
            match rustix::fs::mkdir(&path, rustix::fs::Mode::RWXU) {
                Ok(()) => return Ok(Self(path)),
                Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(Error::os("mkdir", errno.raw_os_error()).with_path(path.to_string_lossy())),
            }
        }
        Err(Error::new(Kind::Io, format!("no free name in {}", folder.display())))
    }
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// Writes a file, and the folders above it.
    ///
    /// # Errors
    /// What the system reports.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, text)?;
        Ok(path)
    }
    /// Reads a file.
    ///
    /// # Errors
    /// What the system reports.
    pub fn read(&self, name: &str) -> Result<String> {
        Ok(std::fs::read_to_string(self.0.join(name))?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn sh(script: &str, limit: f32, max: usize) -> Result<Ran> {
        ask(Path::new("/bin/sh"), &["-c", script], Duration::from_secs_f32(limit), max)
    }

    #[test]
    fn what_a_program_says_comes_back_with_its_code() {
        let ran = sh("echo out; echo err >&2; echo ${HOME-none}; exit 3", 20.0, 100).unwrap();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str(), ran.code), ("out\nnone\n", "err\n", Some(3)));
    }

    #[test]
    fn one_that_is_not_to_be_disturbed_has_no_pipe_and_a_group_of_its_own() {
        let script = "readlink /proc/self/fd/1; cut -d' ' -f5 /proc/$$/stat; echo $$; echo err >&2; exit 3";
        let ran = undisturbed(Path::new("/bin/sh"), &["-c", script], Duration::from_secs(20)).unwrap();
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert!(lines[0].starts_with("/memfd:rex") && lines[1] == lines[2] && ran.stderr == "err\n" && ran.code == Some(3), "{ran:?}");
        assert_eq!(undisturbed(Path::new("/bin/sleep"), &["1"], Duration::from_millis(50)).unwrap_err().kind, Kind::Timeout);
    }

    #[test]
    fn one_that_does_not_end_or_says_too_much_is_ended() {
        assert_eq!(sh("exec sleep 60", 0.2, 100).unwrap_err().kind, Kind::Timeout);
        // Its streams are closed, and still it does not end.
        assert_eq!(sh("exec >&- 2>&-; exec sleep 60", 0.2, 100).unwrap().code, None);
        assert_eq!(sh("yes", 20.0, 1000).unwrap_err().kind, Kind::TooLarge);
        assert_eq!(ask(Path::new("/nonexistent/x"), &[], Duration::from_secs(1), 1).unwrap_err().kind, Kind::Communication);
    }
}
