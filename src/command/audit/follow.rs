//! `rex audit follow`: records as they are written, across rotations.

use super::args::{FollowArgs, Format};
use super::sources::configured;
use crate::audit::{Sieve, show_line};
use crate::error::{Error, Exit, Kind, Result};
use crate::os::trusted::open_any;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often it looks for more.
const EVERY: Duration = Duration::from_millis(200);

/// How long it goes on to read a file that was put away: runs that began before write there.
const OLD: Duration = Duration::from_secs(3600);

/// Longest line that is waited for.
const LONGEST: usize = 1 << 20;

/// A file that is read on.
struct Open {
    file: OwnedFd,
    id: (u64, u64),
    at: u64,
    /// The bytes before that: when others are there, the file was emptied and has grown again.
    before: Vec<u8>,
    /// The beginning of a line whose rest is not there yet.
    line: Vec<u8>,
    last: Instant,
}

/// Follows until interrupted, or until nobody reads any more.
pub fn run(args: &FollowArgs) -> Result<u8> {
    let path = args.file.clone().map_or_else(|| configured(args.config.as_deref()), Ok)?;
    let filter = args.wanted.filter()?;
    let form = super::form(if args.json { Format::Json } else { args.format });
    let from_start = args.all || filter.since.is_some();
    let mut sieve = Sieve::new(&filter);
    let mut files = vec![Open::new(&path, from_start)?];
    loop {
        let known = |files: &[Open], id: (u64, u64)| files.iter().any(|open| open.id == id);
        // The name first, then what is in the files: so the old file is read to its end of that moment before the new one.
        if identity(&path).is_some_and(|id| !known(&files, id))
            && let Ok(open) = Open::new(&path, true)
        {
            files.push(open);
        }
        for open in &mut files {
            open.read(&mut |line| match show_line(line, &mut sieve, form) {
                Some(text) => say(&text),
                None => Ok(()),
            })?;
        }
        let newest = files.last().map(|open| open.id);
        files.retain(|open| Some(open.id) == newest || open.last.elapsed() < OLD);
        if reader_is_gone_after_a_moment() {
            return Ok(Exit::Ok as u8);
        }
    }
}

fn say(text: &str) -> Result<()> {
    crate::output::write_all(rustix::stdio::stdout(), format!("{text}\n").as_bytes())
}

/// Waits for a moment; ends the wait when nobody can read standard output any more, which is all that poll(2) tells of it here.
fn reader_is_gone_after_a_moment() -> bool {
    let out = rustix::stdio::stdout();
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    let told = poll(&mut fds, Some(&Timespec::try_from(EVERY).unwrap_or_default()));
    matches!(told, Ok(ready) if ready > 0)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::stat(path).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

impl Open {
    fn new(path: &Path, from_start: bool) -> Result<Self> {
        let file = OwnedFd::from(open_any(path)?);
        let stat = rustix::fs::fstat(&file).map_err(|errno| Error::os("fstat", errno.raw_os_error()))?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Err(Error::new(Kind::NotAFile, format!("{}: it is not a regular file", path.display())));
        }
        let mut open = Self { file, id: (stat.st_dev, stat.st_ino), at: 0, before: Vec::new(), line: Vec::new(), last: Instant::now() };
        if !from_start {
            open.at = u64::try_from(stat.st_size).unwrap_or(0);
            open.before = open.bytes_before()?;
        }
        Ok(open)
    }

    /// Some bytes before the place it has read to; a record's own link is among them.
    fn bytes_before(&self) -> Result<Vec<u8>> {
        let from = self.at.saturating_sub(128);
        let mut bytes = vec![0; usize::try_from(self.at - from).unwrap_or(0)];
        let read = rustix::io::pread(&self.file, &mut bytes, from).map_err(|errno| Error::os("read", errno.raw_os_error()))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Gives every whole line that is there.
    fn read(&mut self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if self.bytes_before()? != self.before {
            // It was emptied: what is there now is new.
            self.at = 0;
            self.line.clear();
        }
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = match rustix::io::pread(&self.file, &mut buffer, self.at) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other.map_err(|errno| Error::os("read", errno.raw_os_error()))?,
            };
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                self.before = self.bytes_before()?;
                return Ok(());
            };
            self.last = Instant::now();
            self.at += read as u64;
            for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                // What is longer is no record; its end is no line either, and no record is made of it.
                if self.line.len() + part.len() <= LONGEST {
                    self.line.extend_from_slice(part);
                }
                if part.ends_with(b"\n") {
                    each(&self.line)?;
                    self.line.clear();
                }
            }
        }
    }
}
