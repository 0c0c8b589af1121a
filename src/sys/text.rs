//! Lines of text from any reader in bounded memory: forwards, from a line on, ranges, and the last lines by reading backwards.

use crate::error::{Error, Kind, Result};
use crate::sys::stream::{Check, Checked, from_io};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt as _;

/// Bytes asked of the kernel at a time.
const BLOCK: usize = 64 << 10;

/// The longest line held unless the caller says otherwise, in bytes.
pub const MAX_LINE: usize = 1 << 20;

/// How much may be held while reading lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one line, its end of line not counted; a longer one is the error `too_large`.
    pub max_line: usize,
    /// Bytes of all lines returned together; more is the error `too_large`.
    pub max_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_line: MAX_LINE, max_bytes: 64 << 20 }
    }
}

/// Lines of a reader, one at a time.
///
/// A line ends with `\n`, which is not part of it; bytes after the last `\n` are a line too. A `\r` before the `\n` is kept, as grep(1) and
/// tail(1) keep it, unless [`Lines::without_carriage_returns`]. Memory is one block plus the longest line.
pub struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    done: bool,
    max_line: usize,
    number: u64,
    strip: bool,
}

impl<R: Read> Lines<R> {
    #[must_use]
    pub fn new(reader: R, max_line: usize) -> Self {
        Self { reader, buffer: vec![0; BLOCK], start: 0, end: 0, done: false, max_line, number: 0, strip: false }
    }

    /// Takes a `\r` before the end of line away too.
    #[must_use]
    pub fn without_carriage_returns(mut self) -> Self {
        self.strip = true;
        self
    }

    /// The 1-based number of the line that was returned last; 0 before the first.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line, or nothing at the end.
    ///
    /// # Errors
    /// `too_large` for a line over the limit, what the reader reports, and the check's reason.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>> {
        let mut searched = 0;
        let (from, to) = loop {
            let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
            let new = unread.get(searched..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', new) {
                let (from, to) = (self.start, self.start + searched + at);
                self.start = to + 1;
                break (from, to);
            }
            searched = unread.len();
            // One byte over: the `\r` that may be taken away.
            if searched > self.max_line.saturating_add(1) {
                return Err(self.too_long());
            }
            if self.done {
                if searched == 0 {
                    return Ok(None);
                }
                let from = self.start;
                self.start = self.end;
                break (from, self.end);
            }
            self.fill()?;
        };
        let mut line = self.buffer.get(from..to).unwrap_or_default();
        if self.strip {
            line = line.strip_suffix(b"\r").unwrap_or(line);
        }
        if line.len() > self.max_line {
            return Err(self.too_long());
        }
        self.number += 1;
        Ok(Some(line))
    }

    /// Passes over lines without holding them, however long they are; how many there were.
    ///
    /// # Errors
    /// What the reader reports, and the check's reason.
    pub fn skip_lines(&mut self, count: u64) -> Result<u64> {
        let mut left = count;
        let mut middle = false;
        while left > 0 {
            let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
            if unread.is_empty() {
                if self.done {
                    left -= u64::from(middle);
                    break;
                }
                self.fill()?;
                continue;
            }
            if let Some(at) = memchr::memchr(b'\n', unread) {
                self.start += at + 1;
                left -= 1;
                middle = false;
            } else {
                self.start = self.end;
                middle = true;
            }
        }
        self.number += count - left;
        Ok(count - left)
    }

    fn too_long(&self) -> Error {
        Error::new(Kind::TooLarge, format!("line {} is longer than {} bytes", self.number + 1, self.max_line))
    }

    /// Reads one more block behind the unread bytes.
    fn fill(&mut self) -> Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            // Doubling, but never more than the longest line and a block: the caller's limit is the memory's limit.
            let more = self.buffer.len().min(self.max_line.saturating_add(BLOCK).saturating_sub(self.buffer.len())).max(BLOCK);
            self.buffer.resize(self.buffer.len() + more, 0);
        }
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        let got = loop {
            match self.reader.read(free) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => break result.map_err(from_io)?,
            }
        };
        self.end += got;
        self.done = got == 0;
        Ok(())
    }
}

/// Bytes as text: strict UTF-8, or with U+FFFD in place of what is not.
///
/// # Errors
/// `not_text`, naming the line if `line` is not 0.
pub fn to_text(bytes: Vec<u8>, lossy: bool, line: u64) -> Result<String> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) if lossy => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        Err(_) => {
            let place = if line == 0 { String::new() } else { format!(" in line {line}") };
            Err(Error::new(Kind::NotText, format!("bytes that are not UTF-8{place}")).with_hint("`lossy: true` replaces them"))
        }
    }
}

/// Lines `from` to `to` (1-based, both included) of a reader; `count` of them at most.
///
/// # Errors
/// `bad_argument` for line 0, `too_large` past the bounds, what the reader reports, and the check's reason.
pub fn range(reader: impl Read, from: u64, to: u64, bounds: Bounds, check: Check<'_>) -> Result<Vec<Vec<u8>>> {
    if from == 0 {
        return Err(crate::error::bad_argument("lines are numbered from 1"));
    }
    let mut held = Held::new(bounds, false);
    if to < from {
        return Ok(Vec::new());
    }
    let mut lines = Lines::new(Checked::new(reader, check), bounds.max_line);
    if lines.skip_lines(from - 1)? < from - 1 {
        return Ok(Vec::new());
    }
    while lines.number() < to
        && let Some(line) = lines.next_line()?
    {
        held.push(line.to_vec())?;
    }
    Ok(held.lines.into())
}

/// The last `count` lines of a file as it is now; lines that are appended meanwhile are not among them.
///
/// Reads backwards from the end where the file has a size and can be read at any place; else (a pipe, `/proc`, `/sys`, small files) forwards,
/// holding no more than `count` lines.
///
/// # Errors
/// `too_large` past the bounds, what the file reports, and the check's reason.
pub fn tail(file: &File, count: u64, bounds: Bounds, check: Check<'_>) -> Result<Vec<Vec<u8>>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let meta = file.metadata().map_err(from_io)?;
    // Files of /sys claim a page whatever they hold, so the size of a small file is not believed.
    if meta.is_file()
        && meta.len() > BLOCK as u64
        && let Some(start) = start_of_last(file, meta.len(), count, check)?
    {
        return last(At { file, at: start, end: meta.len() }, count, bounds, check);
    }
    last(file, count, bounds, check)
}

/// The last `count` lines of a reader that can only be read forwards; holds no more than these.
///
/// # Errors
/// `too_large` past the bounds, what the reader reports, and the check's reason.
pub fn last(reader: impl Read, count: u64, bounds: Bounds, check: Check<'_>) -> Result<Vec<Vec<u8>>> {
    last_of(Lines::new(Checked::new(reader, check), bounds.max_line), count, bounds)
}

/// The same of lines some of which may have been taken already.
///
/// # Errors
/// As [`last`].
pub fn last_of(mut lines: Lines<impl Read>, count: u64, bounds: Bounds) -> Result<Vec<Vec<u8>>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut held = Held::new(bounds, true);
    while let Some(line) = lines.next_line()? {
        let reuse = held.take_first_if_full(count);
        held.push(reuse.map_or_else(
            || line.to_vec(),
            |mut old| {
                old.clear();
                old.extend_from_slice(line);
                old
            },
        ))?;
    }
    Ok(held.lines.into())
}

/// The offset at which the last `count` lines begin; nothing if the file does not let itself be read from behind.
fn start_of_last(file: &File, size: u64, count: u64, check: Check<'_>) -> Result<Option<u64>> {
    let mut block = vec![0; BLOCK];
    let mut end = size;
    let mut found = 0;
    while end > 0 {
        check()?;
        let begin = end.saturating_sub(BLOCK as u64);
        let wanted = usize::try_from(end - begin).unwrap_or(BLOCK);
        let part = block.get_mut(..wanted).unwrap_or_default();
        match file.read_exact_at(part, begin) {
            Ok(()) => {}
            // Truncated meanwhile, or a size that is not true.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(libc::ESPIPE) => {
                return Ok(None);
            }
            Err(error) => return Err(from_io(error)),
        }
        // The newline at the very end closes the last line, it does not begin one.
        let searched = if end == size { part.strip_suffix(b"\n").unwrap_or(part) } else { part };
        for at in memchr::memrchr_iter(b'\n', searched) {
            found += 1;
            if found == count {
                return Ok(Some(begin + at as u64 + 1));
            }
        }
        end = begin;
    }
    Ok(Some(0))
}

/// A part of a file, read without moving its offset.
pub struct At<'a> {
    pub file: &'a File,
    pub at: u64,
    /// Where the part ends.
    pub end: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let room = buffer.len().min(left);
        let got = self.file.read_at(buffer.get_mut(..room).unwrap_or_default(), self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

/// Lines being collected, and their bytes together.
struct Held {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    bounds: Bounds,
    ring: bool,
}

impl Held {
    fn new(bounds: Bounds, ring: bool) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, bounds, ring }
    }
    fn take_first_if_full(&mut self, count: u64) -> Option<Vec<u8>> {
        if (self.lines.len() as u64) < count {
            return None;
        }
        let first = self.lines.pop_front()?;
        self.bytes -= first.len() + OVERHEAD;
        Some(first)
    }
    fn push(&mut self, line: Vec<u8>) -> Result<()> {
        self.bytes += line.len() + OVERHEAD;
        if self.bytes > self.bounds.max_bytes {
            let what = if self.ring { "the last lines" } else { "the lines" };
            return Err(Error::new(Kind::TooLarge, format!("{what} are more than {} bytes", self.bounds.max_bytes))
                .with_hint("ask for fewer lines"));
        }
        self.lines.push_back(line);
        Ok(())
    }
}

/// What holding a line costs besides its bytes: many empty lines are not free.
const OVERHEAD: usize = size_of::<Vec<u8>>();

/// What wc(1) counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Newlines; bytes after the last one are no line here.
    pub lines: u64,
    /// Runs of bytes without ASCII white space (blank, `\t`, `\n`, `\v`, `\f`, `\r`).
    pub words: u64,
    pub bytes: u64,
    /// UTF-8 characters: bytes that do not continue one.
    pub chars: u64,
}

/// Counts a whole reader, in one block of memory.
///
/// # Errors
/// What the reader reports, and the check's reason.
pub fn count(reader: impl Read, check: Check<'_>) -> Result<Counts> {
    count_some(reader, true, true, check)
}

/// The same; words and characters, which cost more than lines and bytes, only where they are wanted.
///
/// # Errors
/// As [`count`].
pub fn count_some(reader: impl Read, words: bool, chars: bool, check: Check<'_>) -> Result<Counts> {
    let mut reader = Checked::new(reader, check);
    let mut block = vec![0; BLOCK];
    let mut counts = Counts::default();
    // Whether the byte before is white space; the beginning counts as such.
    let mut blank = true;
    loop {
        let got = reader.read(&mut block).map_err(from_io)?;
        let part = block.get(..got).unwrap_or_default();
        let Some(last) = part.last() else { return Ok(counts) };
        counts.bytes += got as u64;
        counts.lines += memchr::memchr_iter(b'\n', part).count() as u64;
        if chars {
            counts.chars += part.chunks(255).map(|chunk| tally(chunk.iter().map(|byte| !is_continuation(*byte)))).sum::<u64>();
        }
        if !words {
            continue;
        }
        counts.words += u64::from(part.first().is_some_and(|byte| blank && !is_blank(*byte)));
        let pairs = part.chunks(255).zip(part.get(1..).unwrap_or_default().chunks(255));
        counts.words += pairs
            .map(|(before, bytes)| tally(before.iter().zip(bytes).map(|(before, byte)| is_blank(*before) & !is_blank(*byte))))
            .sum::<u64>();
        blank = is_blank(*last);
    }
}

/// isspace(3) in the C locale.
const fn is_blank(byte: u8) -> bool {
    (byte == b' ') | (byte.wrapping_sub(b'\t') < 5)
}

/// Whether a byte continues a UTF-8 character: `10xxxxxx`.
const fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// How many of at most 255 flags are true: a sum in one byte, which the compiler can make with vectors.
fn tally(flags: impl Iterator<Item = bool>) -> u64 {
    u64::from(flags.fold(0u8, |sum, flag| sum.wrapping_add(u8::from(flag))))
}

#[cfg(test)]
mod tests;
