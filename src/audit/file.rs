//! A file of JSON lines, one write(2) per record.

use super::Sink;
use super::record::Frame;
use crate::error::{Error, Kind, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;
use std::time::Duration;

/// The open file. Sessions of several users append to it at once: O_APPEND makes each write(2) whole on a local filesystem (write(2), not NFS).
pub struct JsonLines {
    name: String,
    fd: OwnedFd,
    line: Vec<u8>,
    /// A record was cut, so the next one begins a line of its own.
    torn: bool,
}

impl JsonLines {
    /// Opens or makes the file, mode 0660; its group is the folder's where that has the setgid bit.
    ///
    /// # Errors
    /// [`Kind::Audit`] when it cannot be opened, is a link or no regular file, or has a second name.
    pub fn open(path: &Path) -> Result<Self> {
        let name = format!("audit file {}", path.display());
        let failed = |errno: Errno| Error { kind: Kind::Audit, ..Error::os(&name, errno.raw_os_error()) };
        // NONBLOCK so that a FIFO in its place cannot hold the session up.
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mode = Mode::from_raw_mode(0o660);
        let fd = match rustix::fs::open(path, flags, mode) {
            Err(Errno::NOENT) => match rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, mode) {
                // The umask has taken the group's bits away.
                Ok(fd) => rustix::fs::fchmod(&fd, mode).map(|()| fd),
                // Another session was first.
                Err(Errno::EXIST) => rustix::fs::open(path, flags, mode),
                other => other,
            },
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
        Ok(Self { name, fd, line: Vec::with_capacity(8192), torn: false })
    }
}

impl Sink for JsonLines {
    fn name(&self) -> &str {
        &self.name
    }
    fn write(&mut self, frame: &Frame<'_>, _patience: Duration) -> Result<()> {
        self.line.clear();
        if self.torn {
            self.line.push(b'\n');
        }
        self.line.extend_from_slice(frame.json.as_bytes());
        self.line.push(b'\n');
        loop {
            match rustix::io::write(&self.fd, &self.line) {
                Ok(written) if written == self.line.len() => {
                    self.torn = false;
                    return Ok(());
                }
                Ok(written) => {
                    self.torn |= written > 0;
                    return Err(Error::new(Kind::NoSpace, "only a part of it fits"));
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os("write", errno.raw_os_error())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::super::RunInfo;
    use super::super::record::{Common, Event};
    use super::*;

    fn write(file: &mut JsonLines, json: &str) -> Result<()> {
        let common = Common::new(&RunInfo::default());
        let event = Event::RunStart { layers: &[] };
        file.write(&Frame { json, common: &common, event: &event, time: "", seq: 0 }, Duration::ZERO)
    }

    fn over(fd: OwnedFd) -> JsonLines {
        JsonLines { name: String::new(), fd, line: Vec::new(), torn: false }
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
