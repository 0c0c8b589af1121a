//! Files that a script holds open: one pinned object, its place, and a buffer that never grows beyond one line and a block.

use super::redact::{Redacted, Rules};
use super::stream::{from_io, to_io};
pub use super::text::Bounds;
use super::write::{append_to, from_write};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::limits::Watch;
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes asked of the kernel at a time.
const BLOCK: usize = 64 << 10;
/// The longest pause between two tries to get a lock.
const PAUSE: Duration = Duration::from_millis(50);

/// How a file is opened, in the words of fopen(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `r`
    Read,
    /// `r+`
    Update,
    /// `w`: empty at first.
    Write,
    /// `w+`
    WriteRead,
    /// `a`
    Append,
    /// `x`: made by this call.
    New,
}

impl Mode {
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "r" => Self::Read,
            "r+" => Self::Update,
            "w" => Self::Write,
            "w+" => Self::WriteRead,
            "a" => Self::Append,
            "x" => Self::New,
            _ => return None,
        })
    }
    #[must_use]
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Update | Self::WriteRead)
    }
    #[must_use]
    pub fn writes(self) -> bool {
        self != Self::Read
    }
    /// Whether it makes a file that is not there.
    #[must_use]
    pub fn creates(self) -> bool {
        matches!(self, Self::Write | Self::WriteRead | Self::Append | Self::New)
    }
    fn access(self) -> OFlags {
        match (self.reads(), self.writes()) {
            (true, true) => OFlags::RDWR,
            (true, false) => OFlags::RDONLY,
            _ => OFlags::WRONLY,
        }
    }
}

/// An open file.
pub struct Opened {
    file: Arc<std::fs::File>,
    /// What stands between the file and who reads it; every place is then one of the redacted text.
    veil: Option<Veil>,
    mode: Mode,
    /// Where the next read or write begins.
    at: u64,
    /// Bytes read ahead: those of the file from `at` on.
    ahead: Vec<u8>,
    /// How much of `ahead` is used up.
    used: usize,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("file", &self.file).field("at", &self.at).finish_non_exhaustive()
    }
}

/// The redacted text of a file. It can only be made from the beginning on, so going back begins anew.
struct Veil {
    rules: Arc<Rules>,
    file: Arc<std::fs::File>,
    reader: Redacted<FromStart>,
    /// Bytes of redacted text read so far.
    at: u64,
}

/// A file read from its start on, whatever its offset is.
struct FromStart {
    file: Arc<std::fs::File>,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl Veil {
    fn new(file: Arc<std::fs::File>, rules: Arc<Rules>) -> Self {
        let reader = Redacted::new(FromStart { file: Arc::clone(&file), at: 0 }, Arc::clone(&rules));
        Self { rules, file, reader, at: 0 }
    }
    fn read_at(&mut self, buffer: &mut [u8], place: u64, watch: &Watch) -> io::Result<usize> {
        if place < self.at {
            *self = Self::new(Arc::clone(&self.file), Arc::clone(&self.rules));
        }
        self.skip_to(place, watch)?;
        if self.at < place {
            return Ok(0);
        }
        let got = self.reader.read(buffer)?;
        self.at += got as u64;
        Ok(got)
    }
    /// Goes forward to a place, or to the end.
    fn skip_to(&mut self, place: u64, watch: &Watch) -> io::Result<()> {
        let mut scratch = vec![0; if self.at < place { BLOCK } else { 0 }];
        while self.at < place {
            watch.check().map_err(to_io)?;
            let room = usize::try_from(place - self.at).unwrap_or(BLOCK).min(BLOCK);
            match self.reader.read(scratch.get_mut(..room).unwrap_or_default())? {
                0 => break,
                got => self.at += got as u64,
            }
        }
        Ok(())
    }
}

/// One read at a place, of the file or of what may be seen of it.
fn read_at(file: &std::fs::File, veil: &mut Option<Veil>, buffer: &mut [u8], place: u64, watch: &Watch) -> Result<usize> {
    loop {
        let got = match veil {
            None => file.read_at(buffer, place),
            Some(veil) => veil.read_at(buffer, place, watch),
        };
        match got {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => watch.check()?,
            got => return got.map_err(from_io),
        }
    }
}

impl Opened {
    /// Opens a granted file that is there, to read it only.
    ///
    /// # Errors
    /// As [`super::file::open`].
    pub fn to_read<A: Action<On = File>>(granted: &Granted<A>) -> Result<Self> {
        Ok(Self::new(super::file::open_as(granted, OFlags::RDONLY)?, Mode::Read))
    }
    /// The same, to read it only as the owner's rules show it.
    ///
    /// # Errors
    /// As [`super::file::open`].
    pub fn to_read_redacted<A: Action<On = File>>(granted: &Granted<A>, rules: Arc<Rules>) -> Result<Self> {
        let mut opened = Self::to_read(granted)?;
        opened.veil = Some(Veil::new(Arc::clone(&opened.file), rules));
        Ok(opened)
    }
    /// Whether it shows redacted text.
    #[must_use]
    pub fn is_redacted(&self) -> bool {
        self.veil.is_some()
    }
    /// Opens a granted file that is there, to change it; `w` and `w+` empty it.
    ///
    /// # Errors
    /// As [`super::file::open`].
    pub fn to_write<A: Action<On = File>>(granted: &Granted<A>, mode: Mode) -> Result<Self> {
        let append = if mode == Mode::Append { OFlags::APPEND } else { OFlags::empty() };
        let file = super::write::open(granted, mode.access() | append)?;
        if matches!(mode, Mode::Write | Mode::WriteRead) {
            rustix::fs::ftruncate(&file, 0)
                .map_err(|errno| Error::os("truncate", errno.raw_os_error()).with_path(granted.resource().asked().shown()))?;
        }
        Ok(Self::new(file, mode))
    }
    /// Makes a granted file.
    ///
    /// # Errors
    /// As [`super::write::create`].
    pub fn made<A: Action<On = File>>(granted: &Granted<A>, mode: Mode, bits: u32) -> Result<Self> {
        let append = if mode == Mode::Append { OFlags::APPEND } else { OFlags::empty() };
        Ok(Self::new(super::write::create(granted, bits, mode.access() | append)?, mode))
    }
    fn new(file: std::fs::File, mode: Mode) -> Self {
        Self { file: Arc::new(file), veil: None, mode, at: 0, ahead: Vec::new(), used: 0 }
    }

    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }
    /// The same object again, for looking at it.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn same(&self) -> Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(&self.file, 3)?)
    }

    /// The same object by a path-only handle: it keeps no lock.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn pinned(&self) -> Result<OwnedFd> {
        crate::resource::path::reopen(&self.same()?, OFlags::PATH)
    }

    /// Bytes of memory held for reading ahead.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.ahead.capacity()
    }

    fn readable(&self) -> Result<()> {
        if self.mode.reads() {
            Ok(())
        } else {
            Err(bad_argument("this file was not opened for reading: open it with \"r\", \"r+\" or \"w+\""))
        }
    }
    fn writable(&self) -> Result<()> {
        if self.mode.writes() {
            Ok(())
        } else {
            Err(bad_argument("this file was not opened for writing: open it with \"w\", \"a\", \"x\" or \"r+\""))
        }
    }
    fn unused(&self) -> &[u8] {
        self.ahead.get(self.used..).unwrap_or_default()
    }
    fn forget_ahead(&mut self) {
        self.ahead = Vec::new();
        self.used = 0;
    }
    fn take(&mut self, count: usize) {
        self.used += count;
        self.at += count as u64;
    }
    /// Reads one more block behind the unused bytes; `false` at the end of the file.
    fn more(&mut self, watch: &Watch) -> Result<bool> {
        watch.check()?;
        self.ahead.drain(..self.used);
        self.used = 0;
        let start = self.ahead.len();
        self.ahead.resize(start + BLOCK, 0);
        let room = self.ahead.get_mut(start..).unwrap_or_default();
        let got = read_at(&self.file, &mut self.veil, room, self.at + start as u64, watch);
        self.ahead.truncate(start + got.as_ref().map_or(0, |count| *count));
        got.map(|count| count > 0)
    }

    /// The next line without its end (`\n` or `\r\n`), or nothing at the end of the file. `max` bounds its bytes.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] for a longer line, of which nothing is used up; what read(2) reports; that the run has to stop.
    pub fn line(&mut self, max: usize, watch: &Watch) -> Result<Option<&[u8]>> {
        self.next(max, true, watch)
    }

    /// The same, with a `\r` before the `\n` kept, as grep(1) and sed(1) keep it.
    ///
    /// # Errors
    /// As [`Opened::line`].
    pub fn line_as_it_is(&mut self, max: usize, watch: &Watch) -> Result<Option<&[u8]>> {
        self.next(max, false, watch)
    }

    fn next(&mut self, max: usize, strip: bool, watch: &Watch) -> Result<Option<&[u8]>> {
        self.readable()?;
        let mut searched = 0;
        let (length, end) = loop {
            let unused = self.unused();
            if let Some(found) = memchr::memchr(b'\n', unused.get(searched..).unwrap_or_default()) {
                break (searched + found, 1);
            }
            searched = unused.len();
            // One more is the `\r` that may belong to the end.
            if searched > max.saturating_add(1) {
                return Err(too_long(max));
            }
            if !self.more(watch)? {
                if searched == 0 {
                    return Ok(None);
                }
                break (searched, 0);
            }
        };
        let start = self.used;
        let line = self.ahead.get(start..start + length).unwrap_or_default();
        let carriage = strip && end == 1 && line.last() == Some(&b'\r');
        let kept = length - usize::from(carriage);
        if kept > max {
            return Err(too_long(max));
        }
        self.take(length + end);
        Ok(self.ahead.get(start..start + kept))
    }

    /// Goes on behind so many lines, however long they are; how many there were.
    ///
    /// # Errors
    /// What read(2) reports; that the run has to stop.
    pub fn skip_lines(&mut self, count: u64, watch: &Watch) -> Result<u64> {
        self.readable()?;
        let (mut done, mut inside) = (0, false);
        while done < count {
            let unused = self.unused();
            if let Some(found) = memchr::memchr(b'\n', unused) {
                self.take(found + 1);
                (done, inside) = (done + 1, false);
                continue;
            }
            inside |= !unused.is_empty();
            self.take(unused.len());
            if !self.more(watch)? {
                done += u64::from(inside);
                break;
            }
        }
        Ok(done)
    }

    /// Bytes from here on: so many, or all to the end; more than `max` is an error, of which nothing is used up.
    ///
    /// # Errors
    /// [`Kind::TooLarge`]; what read(2) reports; that the run has to stop.
    pub fn bytes(&mut self, wanted: Option<u64>, max: u64, watch: &Watch) -> Result<Vec<u8>> {
        self.readable()?;
        let limit = usize::try_from(wanted.unwrap_or(u64::MAX).min(max.saturating_add(1))).unwrap_or(usize::MAX);
        let from = self.at;
        let mut bytes = self.unused().get(..limit.min(self.unused().len())).unwrap_or_default().to_vec();
        while bytes.len() < limit {
            watch.check()?;
            let start = bytes.len();
            let room = (limit - start).min(BLOCK.max(start).min(1 << 20));
            bytes.resize(start + room, 0);
            let got = read_at(&self.file, &mut self.veil, bytes.get_mut(start..).unwrap_or_default(), from + start as u64, watch)?;
            bytes.truncate(start + got);
            if got == 0 {
                break;
            }
        }
        if bytes.len() as u64 > max {
            return Err(
                Error::new(Kind::TooLarge, format!("more than `max_bytes` ({max})")).with_hint("raise `max_bytes`, or read line by line")
            );
        }
        self.forget_ahead();
        self.at = from + bytes.len() as u64;
        Ok(bytes)
    }

    /// Some bytes from here on, as read(2) gives them; none at the end.
    ///
    /// # Errors
    /// What read(2) reports; that the run has to stop.
    pub fn some(&mut self, buffer: &mut [u8], watch: &Watch) -> Result<usize> {
        self.readable()?;
        let unused = self.unused();
        let count = if unused.is_empty() {
            watch.check()?;
            self.forget_ahead();
            let got = read_at(&self.file, &mut self.veil, buffer, self.at, watch)?;
            self.at += got as u64;
            return Ok(got);
        } else {
            unused.len().min(buffer.len())
        };
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), unused.get(..count)) {
            to.copy_from_slice(from);
        }
        self.take(count);
        Ok(count)
    }

    /// Writes at this place (at the end, if opened with `a`) and goes on behind it.
    ///
    /// # Errors
    /// What write(2) reports; that the run has to stop.
    pub fn write(&mut self, bytes: &[u8], watch: &Watch) -> Result<()> {
        self.writable()?;
        watch.check()?;
        self.forget_ahead();
        if self.mode == Mode::Append {
            append_to(&self.file, bytes)?;
            self.at = rustix::fs::tell(&self.file).unwrap_or(self.at + bytes.len() as u64);
            return Ok(());
        }
        super::size::grows_to(&self.file, self.at.saturating_add(bytes.len() as u64))?;
        for piece in bytes.chunks(4 << 20) {
            watch.check()?;
            self.file.write_all_at(piece, self.at).map_err(from_write)?;
            self.at += piece.len() as u64;
        }
        Ok(())
    }

    /// Goes to a place: bytes from the start, or, if negative, from the end. The place.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] before the start.
    pub fn seek(&mut self, to: i64, watch: &Watch) -> Result<u64> {
        let place = match u64::try_from(to) {
            Ok(place) => place,
            Err(_) => {
                let size = self.size(watch)?;
                size.checked_sub(to.unsigned_abs())
                    .ok_or_else(|| bad_argument(format!("{to} is before the start of a file of {size} bytes")))?
            }
        };
        self.go_to(place);
        Ok(place)
    }
    /// Goes to a place, counted from the start. What was read ahead is forgotten, so that a file that has changed is read anew.
    pub fn go_to(&mut self, place: u64) {
        self.forget_ahead();
        self.at = place;
    }
    /// Goes back to a place where this was a moment ago; what is known of it is not read again.
    pub fn return_to(&mut self, place: u64) {
        let start = self.at - self.used as u64;
        match place.checked_sub(start).and_then(|used| usize::try_from(used).ok()) {
            Some(used) if used <= self.ahead.len() => {
                self.used = used;
                self.at = place;
            }
            _ => self.go_to(place),
        }
    }
    /// The size of what can be read.
    fn size(&mut self, watch: &Watch) -> Result<u64> {
        match &mut self.veil {
            None => Ok(u64::try_from(rustix::fs::fstat(&self.file)?.st_size).unwrap_or(0)),
            Some(veil) => {
                veil.skip_to(u64::MAX, watch).map_err(from_io)?;
                Ok(veil.at)
            }
        }
    }
    #[must_use]
    pub fn place(&self) -> u64 {
        self.at
    }

    /// Sets the size; the place stays. Whether it was another.
    ///
    /// # Errors
    /// What ftruncate(2) reports.
    pub fn truncate(&mut self, size: u64) -> Result<bool> {
        self.writable()?;
        self.forget_ahead();
        let before = u64::try_from(rustix::fs::fstat(&self.file)?.st_size).ok();
        super::size::grows_to(&self.file, size)?;
        rustix::fs::ftruncate(&self.file, size).map_err(|errno| Error::os("truncate", errno.raw_os_error()))?;
        Ok(before != Some(size))
    }

    /// Waits for flock(2) at most so long; it ends when the file is closed.
    ///
    /// # Errors
    /// [`Kind::Timeout`]; that the run has to stop.
    pub fn lock(&self, exclusive: bool, wait: Duration, watch: &Watch) -> Result<()> {
        let how = if exclusive { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::NonBlockingLockShared };
        // Not cut to what the run has left: the end of that is told by the check.
        let end = Instant::now() + wait.min(Duration::from_secs(u32::MAX.into()));
        let mut pause = Duration::from_millis(1);
        loop {
            match rustix::fs::flock(&self.file, how) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(Error::os("lock", errno.raw_os_error())),
            }
            watch.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(Kind::Timeout, format!("somebody else has held the lock for {} s", wait.as_secs_f64())));
            }
            watch.sleep(pause.min(left))?;
            pause = (pause * 2).min(PAUSE);
        }
    }

    /// Waits until what was written is on the disk.
    ///
    /// # Errors
    /// What fsync(2) reports.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.file).map_err(|errno| Error::os("fsync", errno.raw_os_error()))
    }
}

/// What holding a line costs besides its bytes: many empty lines are not free.
const HELD: usize = size_of::<Vec<u8>>();

impl Opened {
    /// So many lines behind the first `skipped` ones.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] past the bounds; what read(2) reports; that the run has to stop.
    pub fn first_lines(&mut self, skipped: u64, count: u64, bounds: Bounds, watch: &Watch) -> Result<Vec<Vec<u8>>> {
        self.skip_lines(skipped, watch)?;
        let (mut lines, mut held) = (Vec::new(), 0);
        while (lines.len() as u64) < count {
            let Some(line) = self.line(bounds.max_line, watch)? else { break };
            held += line.len() + HELD;
            if held > bounds.max_bytes {
                return Err(too_many(bounds));
            }
            lines.push(line.to_vec());
        }
        Ok(lines)
    }
    /// The last so many lines of those from here on and behind the first `skipped` ones. Reads backwards from the end where nothing is skipped
    /// and the file has a size.
    ///
    /// # Errors
    /// As [`Opened::first_lines`].
    pub fn last_lines(&mut self, skipped: u64, count: u64, bounds: Bounds, watch: &Watch) -> Result<Vec<Vec<u8>>> {
        self.readable()?;
        if count == 0 {
            return Ok(Vec::new());
        }
        if skipped == 0 {
            let start = self.start_of_last(count, bounds, watch)?;
            if start > self.at {
                self.forget_ahead();
                self.at = start;
            }
        } else {
            self.skip_lines(skipped, watch)?;
        }
        let (mut lines, mut held) = (std::collections::VecDeque::new(), 0);
        while let Some(line) = self.line(bounds.max_line, watch)? {
            let line = line.to_vec();
            held += line.len() + HELD;
            lines.push_back(line);
            if lines.len() as u64 > count {
                held -= lines.pop_front().map_or(0, |line: Vec<u8>| line.len() + HELD);
            }
            if held > bounds.max_bytes {
                return Err(too_many(bounds));
            }
        }
        Ok(lines.into())
    }
    /// Where the last so many lines begin, at the latest; 0 where the file does not tell its size truly (procfs, sysfs).
    fn start_of_last(&self, count: u64, bounds: Bounds, watch: &Watch) -> Result<u64> {
        let size = u64::try_from(rustix::fs::fstat(&self.file)?.st_size).unwrap_or(0);
        if size <= BLOCK as u64 || self.veil.is_some() {
            return Ok(0);
        }
        let mut block = vec![0; BLOCK];
        let (mut end, mut found) = (size, 0);
        while end > 0 {
            watch.check()?;
            let begin = end.saturating_sub(BLOCK as u64);
            let part = block.get_mut(..usize::try_from(end - begin).unwrap_or(BLOCK)).unwrap_or_default();
            if self.file.read_exact_at(part, begin).is_err() {
                return Ok(0);
            }
            // The line end at the very end ends the last line and begins none.
            let searched = if end == size { part.strip_suffix(b"\n").unwrap_or(part) } else { part };
            for place in memchr::memrchr_iter(b'\n', searched) {
                found += 1;
                if found == count {
                    return Ok(begin + place as u64 + 1);
                }
            }
            end = begin;
            if size - end > bounds.max_bytes as u64 + 1 && end >= self.at {
                return Err(too_many(bounds));
            }
        }
        Ok(0)
    }
}

fn too_many(bounds: Bounds) -> Error {
    Error::new(Kind::TooLarge, format!("the lines are more than `max_bytes` ({})", bounds.max_bytes))
        .with_hint("ask for fewer, or use `for line in open(path).lines()`")
}

fn too_long(max: usize) -> Error {
    Error::new(Kind::TooLarge, format!("a line is longer than {max} bytes")).with_hint("raise `max_line`, or read bytes with `read_bytes`")
}
