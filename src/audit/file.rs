//! A file of JSON lines, one write(2) per record.

use super::Sink;
use super::chain::{self, After, Link, Tail};
use super::record::Frame;
use crate::error::{Error, Kind, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use std::path::Path;
use std::time::{Duration, Instant};

/// How the name of this place begins; the path follows.
const NAME: &str = "audit file ";

/// Shortest wait for the lock, also after a failure: whoever holds it in turn does so for microseconds.
const TURN: Duration = Duration::from_millis(20);

/// The open file. Sessions of several users append to it at once. O_APPEND makes each write(2) whole on a local filesystem (write(2), not NFS); where
/// records are chained, a lock (flock(2)) keeps the link and the record together.
pub struct JsonLines {
    name: String,
    fd: OwnedFd,
    line: String,
    /// A record was cut, so the next one begins a line of its own.
    torn: bool,
    chain: Option<Chain>,
}

/// What this writer knows of the chain.
struct Chain {
    /// What the first record follows if the file is still empty then.
    before: After,
    /// The last record of this writer, and the length of the file after it.
    last: Option<(Link, u64)>,
}

impl JsonLines {
    /// Opens or makes the file, mode 0660; its group is the folder's where that has the setgid bit.
    ///
    /// # Errors
    /// [`Kind::Audit`] when it cannot be opened, is a link or no regular file, or has a second name.
    pub fn open(path: &Path, chain: bool) -> Result<Self> {
        let name = format!("{NAME}{}", path.display());
        let failed = |errno: Errno| Error { kind: Kind::Audit, ..Error::os(&name, errno.raw_os_error()) };
        // A chain goes on from the end of what is there, so that must be read.
        let access = if chain { OFlags::RDWR } else { OFlags::WRONLY };
        // NONBLOCK so that a FIFO in its place cannot hold the session up.
        let flags = access | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mode = Mode::from_raw_mode(0o660);
        let fd = match rustix::fs::open(path, flags, mode) {
            Err(Errno::NOENT) => match rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, mode) {
                // The umask has taken the group's bits away.
                Ok(fd) => rustix::fs::fchmod(&fd, mode).map(|()| fd),
                // Another session was first.
                Err(Errno::EXIST) => rustix::fs::open(path, flags, mode),
                other => other,
            },
            Err(Errno::ACCESS) if chain && rustix::fs::open(path, flags & !OFlags::RDWR | OFlags::WRONLY, mode).is_ok() => {
                return Err(Error::new(Kind::Audit, format!("{name}: it may be written but not read, and a chain goes on from its end"))
                    .with_hint("give the group of the sessions mode 0660, or set `chain = false` in [audit]"));
            }
            other => other,
        };
        let fd = fd.map_err(failed)?;
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::new(Kind::Audit, format!("{name}: it is not a regular file")));
        }
        if stat.st_nlink > 1 {
            return Err(Error::new(Kind::Audit, format!("{name}: it has a second name (hard link)")));
        }
        // Here and not with the first record: then the folder may be out of reach.
        let chain = chain.then(|| Chain { before: if stat.st_size == 0 { chain::before(path) } else { After::Start }, last: None });
        Ok(Self { name, fd, line: String::with_capacity(8192), torn: false, chain })
    }

    /// Takes the lock within `patience`. There is no flock(2) with a time, so this looks again and again: others hold it for microseconds.
    fn lock(&self, patience: Duration) -> Result<()> {
        let mut until = None;
        let mut pause = Duration::from_micros(20);
        loop {
            match rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let now = Instant::now();
                    if now >= *until.get_or_insert(now + patience.max(TURN)) {
                        return Err(Error::new(Kind::Timeout, "another process holds its lock and does not let go (/proc/locks names it)"));
                    }
                    let _ = rustix::thread::nanosleep(&Timespec::try_from(pause).unwrap_or_default());
                    pause = (pause * 2).min(Duration::from_millis(2));
                }
                Err(errno) => return Err(Error::os("flock", errno.raw_os_error())),
            }
        }
    }

    /// Writes the record with its link. The lock is held.
    fn link(&mut self, json: &str, chain: &mut Chain) -> Result<()> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|errno| Error::os("fstat", errno.raw_os_error()))?;
        if stat.st_nlink == 0 {
            // Rotation that packs a file at once does this to a run that goes on: what is written here is gone when the run ends.
            return Err(Error::new(Kind::NotFound, "it was removed while the run went on"));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let tail = match &chain.last {
            Some((last, end)) if *end == size => Tail { last: Some(last.clone()), after: None, open: false },
            known => {
                let tail = chain::tail(&self.fd, size).map_err(|errno| Error::os("read", errno.raw_os_error()))?;
                match (known, tail) {
                    (Some((last, end)), tail) if size < *end => {
                        let after = Some(After::Truncated { last: last.clone(), bytes: size });
                        Tail { last: Some(last.clone()), after, open: tail.is_some_and(|tail| tail.open) }
                    }
                    (_, Some(tail)) => tail,
                    (_, None) => {
                        let last = if let After::Rotation { last, .. } = &chain.before { last.clone() } else { None };
                        Tail { last, after: Some(chain.before.clone()), open: false }
                    }
                }
            }
        };
        let link = chain::linked(&mut self.line, json, &tail);
        self.line.push('\n');
        if tail.open {
            self.line.insert(0, '\n');
        }
        self.write_line()?;
        chain.last = Some((link, size + self.line.len() as u64));
        Ok(())
    }

    fn write_line(&self) -> Result<()> {
        loop {
            match rustix::io::write(&self.fd, self.line.as_bytes()) {
                Ok(written) if written == self.line.len() => return Ok(()),
                Ok(0) => return Err(Error::new(Kind::NoSpace, "nothing of it fits")),
                Ok(_) => return Err(Error::new(Kind::NoSpace, "only a part of it fits")),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os("write", errno.raw_os_error())),
            }
        }
    }
}

impl Sink for JsonLines {
    fn name(&self) -> &str {
        &self.name
    }
    fn write(&mut self, frame: &Frame<'_>, patience: Duration) -> Result<()> {
        if let Some(mut chain) = self.chain.take() {
            let written = self.lock(patience).and_then(|()| {
                let written = self.link(frame.json.strip_suffix('}').unwrap_or(frame.json), &mut chain);
                let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
                written
            });
            self.chain = Some(chain);
            return written;
        }
        self.line.clear();
        if self.torn {
            self.line.push('\n');
        }
        self.line.push_str(frame.json);
        self.line.push('\n');
        let written = self.write_line();
        // Where nothing was written, what was torn stays so.
        self.torn = match &written {
            Ok(()) => false,
            Err(error) => self.torn || error.kind == Kind::NoSpace && error.errno.is_none(),
        };
        written
    }
    fn stands_at(&self) -> Option<(&str, &Link)> {
        let (last, _) = self.chain.as_ref()?.last.as_ref()?;
        Some((self.name.strip_prefix(NAME).unwrap_or(&self.name), last))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::super::RunInfo;
    use super::super::record::{Common, Event, RunStart};
    use super::*;

    fn write(file: &mut JsonLines, json: &str) -> Result<()> {
        let info = RunInfo::default();
        let common = Common::new(&info);
        let event = Event::RunStart(RunStart::default());
        file.write(&Frame { json, common: &common, info: &info, event: &event, time: "", seq: None }, Duration::ZERO)
    }

    fn over(fd: OwnedFd) -> JsonLines {
        JsonLines { name: String::new(), fd, line: String::new(), torn: false, chain: None }
    }

    #[test]
    fn a_full_disk_fails_the_record() {
        let mut file = over(rustix::fs::open("/dev/full", OFlags::WRONLY, Mode::empty()).unwrap());
        assert_eq!(write(&mut file, "{}").unwrap_err().kind, Kind::NoSpace);
        assert!(!file.torn);
    }

    #[test]
    fn a_record_that_fits_in_part_fails_and_the_next_one_begins_a_line_of_its_own() {
        // A pipe takes a part of what is longer than PIPE_BUF (pipe(7)), as a disk does when its last block is reached.
        let (out, into) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        while rustix::io::write(&into, &[b'-'; 4096]).is_ok() {}
        rustix::io::read(&out, &mut [0; 4096]).unwrap();
        let mut file = over(into);
        assert_eq!(write(&mut file, &"x".repeat(7000)).unwrap_err().kind, Kind::NoSpace);
        assert!(write(&mut file, "{}").is_err());
        let mut rest = [0; 1 << 20];
        while rustix::io::read(&out, &mut rest).is_ok_and(|read| read > 0) {}
        write(&mut file, "{}").unwrap();
        write(&mut file, "{}").unwrap();
        let read = rustix::io::read(&out, &mut rest).unwrap();
        assert_eq!(&rest[..read], b"\n{}\n{}\n");
    }
}
