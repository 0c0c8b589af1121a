//! Receiving a script: nothing of it counts before it is known to be whole.

use crate::error::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// What the client declared, so that a script cut off on the way is not run.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    pub sha256: Option<[u8; 32]>,
    /// The last line, removed from the script.
    pub end: Option<String>,
}

/// Reads stdin to its end: at most `max` bytes, within `time`.
///
/// # Errors
/// [`Kind::Limit`] when it is longer, [`Kind::Deadline`] when it takes longer, [`Kind::Cancelled`] when the caller is gone,
/// [`Kind::Incomplete`] when it is not what was declared, [`Kind::Compile`] when it is not UTF-8, [`Kind::Usage`] when it is empty.
pub fn receive(max: u64, time: Duration, declared: &Declared) -> Result<String> {
    let bytes = read_all(max, time)?;
    // A connection that died gives what had arrived, then a clean end of file; only the other end of stdout tells.
    if caller_is_gone() {
        return Err(Error::new(Kind::Cancelled, "the connection ended before the script was whole; nothing ran"));
    }
    whole(bytes, declared)
}

fn read_all(max: u64, time: Duration) -> Result<Vec<u8>> {
    let stdin = rustix::stdio::stdin();
    let end = Instant::now() + time;
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 16 << 10];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(Kind::Deadline, format!("the script did not arrive within {} s; nothing ran", time.as_secs_f64())));
        }
        let step = left.min(Duration::from_millis(500));
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        let wait = Timespec { tv_sec: i64::try_from(step.as_secs()).unwrap_or(0), tv_nsec: step.subsec_nanos().into() };
        match rustix::event::poll(&mut fds, Some(&wait)) {
            Ok(0) => {
                if caller_is_gone() {
                    return Err(Error::new(Kind::Cancelled, "the connection ended before the script was whole; nothing ran"));
                }
                continue;
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(unreadable(errno)),
        }
        match rustix::io::read(stdin, &mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(count) => {
                bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
                if bytes.len() as u64 > max {
                    return Err(Error::new(Kind::Limit, format!("the script is longer than {max} bytes; nothing ran")));
                }
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(errno) => return Err(unreadable(errno)),
        }
    }
}

fn unreadable(errno: rustix::io::Errno) -> Error {
    Error { kind: Kind::Communication, ..Error::os("the script could not be read", errno.raw_os_error()) }
}

/// Whether nobody is at the other end of stdout.
#[must_use]
pub fn caller_is_gone() -> bool {
    let stdout = rustix::stdio::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0)
        && fds.iter().any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL))
}

/// Checks what arrived against what was declared, and makes it text.
///
/// # Errors
/// As [`receive`].
pub fn whole(bytes: Vec<u8>, declared: &Declared) -> Result<String> {
    if let Some(expected) = declared.sha256
        && super::digest::sha256(&bytes) != expected
    {
        return Err(Error::new(Kind::Incomplete, "the script does not have the SHA-256 that was declared; nothing ran"));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        Error::new(
            Kind::Compile,
            format!("the script is not UTF-8 text (byte {} is no part of a character)", error.utf8_error().valid_up_to()),
        )
    })?;
    if let Some(marker) = &declared.end {
        let body = text.strip_suffix('\n').unwrap_or(&text);
        let body = body.strip_suffix('\r').unwrap_or(body);
        let (before, last) = body.rsplit_once('\n').map_or(("", body), |(before, last)| (before, last));
        if last != marker {
            return Err(Error::new(Kind::Incomplete, "the script does not end with the line that was declared; nothing ran"));
        }
        let keep = before.len();
        text.truncate(keep);
    }
    prepare(text)
}

/// Text as the engine takes it: without a byte order mark, with a `#!` line made a comment.
///
/// # Errors
/// [`Kind::Usage`] when nothing is left.
pub fn prepare(text: String) -> Result<String> {
    let mut text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    if text.starts_with("#!") {
        text.replace_range(..2, "//");
    }
    if text.trim().is_empty() {
        return Err(Error::new(Kind::Usage, "the script is empty").with_hint("send it on standard input: `ssh host rex < script.rhai`"));
    }
    Ok(text)
}

/// Whether any of the standard descriptors is a terminal.
#[must_use]
pub fn on_a_terminal() -> bool {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()].iter().any(|fd| rustix::termios::isatty(fd.as_fd()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_end_marker_must_be_the_last_line_and_is_removed() {
        let declared = Declared { sha256: None, end: Some("END".into()) };
        assert_eq!(whole(b"print(1)\nEND\n".to_vec(), &declared).unwrap(), "print(1)");
        assert_eq!(whole(b"print(1)\nEND".to_vec(), &declared).unwrap(), "print(1)");
        for cut in ["print(1)\n", "print(1)\nEN", "END\nprint(1)", "print(1) END"] {
            assert_eq!(whole(cut.as_bytes().to_vec(), &declared).unwrap_err().kind, Kind::Incomplete, "{cut}");
        }
        assert_eq!(whole(b"END".to_vec(), &declared).unwrap_err().kind, Kind::Usage);
    }

    #[test]
    fn a_digest_must_fit_every_byte() {
        let declared = Declared { sha256: Some(crate::os::digest::sha256(b"print(1)\n")), end: None };
        assert!(whole(b"print(1)\n".to_vec(), &declared).is_ok());
        assert_eq!(whole(b"print(1)".to_vec(), &declared).unwrap_err().kind, Kind::Incomplete);
    }

    #[test]
    fn bytes_that_are_not_text_are_refused_and_a_shebang_is_a_comment() {
        assert_eq!(whole(vec![b'a', 0xff], &Declared::default()).unwrap_err().kind, Kind::Compile);
        assert_eq!(prepare("#!/usr/bin/rex run\nprint(1)".into()).unwrap(), "///usr/bin/rex run\nprint(1)");
        assert_eq!(prepare("\u{feff}1".into()).unwrap(), "1");
    }
}
