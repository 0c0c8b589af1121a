//! One connection of loopback handed to a program on its standard input and output, as inetd(8) does it: sshd is tried so before it is asked to
//! read its configuration again, and nobody else can connect meanwhile to more than this.

use crate::error::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of what the program says on standard error.
const MAX_SAID: u64 = 1 << 20;

/// A listening socket that takes one connection.
pub struct Inetd {
    address: SocketAddr,
    talk: JoinHandle<String>,
}

impl Inetd {
    /// Waits for one connection, at most `limit`, then runs the program on it with an empty environment but for PATH.
    ///
    /// # Errors
    /// Where no socket can be had.
    pub fn wait(program: &Path, arguments: &[&str], limit: Duration) -> Result<Self> {
        let failed = |error: std::io::Error| Error::new(Kind::Communication, format!("a socket on 127.0.0.1: {error}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/").stderr(Stdio::piped());
        let talk = std::thread::spawn(move || serve(&listener, command, limit).unwrap_or_else(|error| error.to_string()));
        Ok(Self { address, talk })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the program said on standard error, once the connection has ended.
    #[must_use]
    pub fn said(self) -> String {
        self.talk.join().unwrap_or_default()
    }
}

fn serve(listener: &TcpListener, mut command: Command, limit: Duration) -> Result<String> {
    let wait = Timespec { tv_sec: i64::try_from(limit.as_secs()).unwrap_or(60), tv_nsec: 0 };
    if poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&wait))? == 0 {
        return Err(Error::new(Kind::Timeout, "nobody connected"));
    }
    let (stream, _) = listener.accept()?;
    let input = OwnedFd::from(stream.try_clone()?);
    let mut child = command.stdin(input).stdout(OwnedFd::from(stream)).spawn()?;
    // The descriptors in `command` would keep the connection open.
    drop(command);
    let said = child.stderr.take().map(|pipe| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = pipe.take(MAX_SAID).read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })
    });
    let end = Instant::now() + limit;
    let handle = rustix::process::pidfd_open(rustix::process::Pid::from_child(&child), rustix::process::PidfdFlags::empty());
    let ended = handle.is_ok_and(|handle| {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(60), tv_nsec: 0 };
        poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&left)).is_ok_and(|ready| ready > 0)
    });
    if !ended {
        let _ = child.kill();
    }
    let _ = child.wait();
    Ok(said.and_then(|thread| thread.join().ok()).unwrap_or_default())
}

/// Whether an SSH server answers there within `limit`: it speaks first (RFC 4253 section 4.2).
#[must_use]
pub fn answers(address: SocketAddr, limit: Duration) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, limit) else { return false };
    let mut first = [0_u8; 4];
    stream.set_read_timeout(Some(limit)).is_ok() && stream.read_exact(&mut first).is_ok() && first == *b"SSH-"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_connection_is_the_programs_input_and_output() {
        let inetd =
            Inetd::wait(Path::new("/bin/sh"), &["-c", "read line; echo \"SSH-$line\"; echo done >&2"], Duration::from_secs(20)).unwrap();
        let mut stream = TcpStream::connect(inetd.address()).unwrap();
        stream.write_all(b"hello\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!((answer.as_str(), inetd.said().as_str()), ("SSH-hello\n", "done\n"));
        let inetd = Inetd::wait(Path::new("/bin/sh"), &["-c", "echo SSH-2.0-x; cat >/dev/null"], Duration::from_secs(20)).unwrap();
        assert!(answers(inetd.address(), Duration::from_secs(10)));
        let _ = inetd.said();
    }
}
