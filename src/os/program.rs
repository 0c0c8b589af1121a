//! Running a program of this host for the owner's own commands (`rex demo`): never for a script.

use crate::error::{Error, Kind, Result};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

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

/// A new folder in /tmp that only this account can enter; gone with everything in it when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// # Errors
    /// When it cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        for _ in 0..16 {
            let mut chance = [0u8; 8];
            let _ = rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty());
            let path = PathBuf::from(format!("/tmp/{name}-{:016x}", u64::from_ne_bytes(chance)));
            match rustix::fs::mkdir(&path, rustix::fs::Mode::RWXU) {
                Ok(()) => return Ok(Self(path)),
                Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(Error::os("mkdir", errno.raw_os_error()).with_path(path.to_string_lossy())),
            }
        }
        Err(Error::new(Kind::Io, "no free name in /tmp"))
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
