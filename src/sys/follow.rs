//! A granted file that grows: what was added since the last look, and whether it was cut or is another file by now.

use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use crate::sys::stream::{Check, from_io};
use std::os::unix::fs::FileExt as _;

/// Bytes read at a time.
const BLOCK: usize = 64 << 10;

/// An open file and how far it was read.
pub struct Growing {
    file: std::fs::File,
    id: (u64, u64),
    at: u64,
    /// Files of procfs and its like say 0 and have more, so their size does not tell that they were cut.
    sized: bool,
    /// Bytes after the last line end.
    partial: Vec<u8>,
    max_line: usize,
}

/// What a look at the file brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    More,
    Nothing,
    /// It is shorter than what was read: it begins again.
    Cut,
}

impl Growing {
    /// Opens a granted regular file: at its beginning, or so many lines before its end.
    ///
    /// # Errors
    /// As [`super::file::open`]; what read(2) reports.
    pub fn open<A: Action<On = File>>(granted: &Granted<A>, last_lines: Option<u64>, max_line: usize, check: Check<'_>) -> Result<Self> {
        let file = super::file::open(granted)?;
        let stat = rustix::fs::fstat(&file)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let at = match last_lines {
            None => 0,
            Some(count) => start_of_last(&file, size, count, check)?,
        };
        Ok(Self { file, id: (stat.st_dev, stat.st_ino), at, sized: true, partial: Vec::new(), max_line })
    }

    /// Whether this is the file that is open.
    #[must_use]
    pub fn is(&self, file: &File) -> bool {
        file.stat().is_some_and(|stat| (stat.st_dev, stat.st_ino) == self.id)
    }

    /// Reads what is there now, at most one block, and gives the lines that are complete by it.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] for a line over the limit; what read(2) reports.
    pub fn look(&mut self, lines: &mut Vec<Vec<u8>>) -> Result<Look> {
        let before = size_of(&self.file)?;
        let mut block = vec![0; BLOCK];
        let got = loop {
            match self.file.read_at(&mut block, self.at) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                done => break done.map_err(from_io)?,
            }
        };
        if got == 0 {
            if self.sized && size_of(&self.file)? < self.at {
                self.at = 0;
                return Ok(Look::Cut);
            }
            return Ok(Look::Nothing);
        }
        self.at += got as u64;
        self.sized = self.sized && (before > 0 || size_of(&self.file)? > 0);
        let mut rest = block.get(..got).unwrap_or_default();
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(rest.get(..end).unwrap_or_default());
            self.fits(line.len())?;
            lines.push(line);
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        self.partial.extend_from_slice(rest);
        self.fits(self.partial.len())?;
        Ok(Look::More)
    }

    fn fits(&self, length: usize) -> Result<()> {
        if length <= self.max_line {
            return Ok(());
        }
        Err(Error::new(Kind::TooLarge, format!("a line is longer than {} bytes", self.max_line)))
    }

    /// The last line, which has no end: for when there will be none.
    pub fn unfinished(&mut self) -> Option<Vec<u8>> {
        if self.partial.is_empty() { None } else { Some(std::mem::take(&mut self.partial)) }
    }
}

fn size_of(file: &std::fs::File) -> Result<u64> {
    Ok(u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0))
}

/// Where the last `count` lines of the first `size` bytes begin.
fn start_of_last(file: &std::fs::File, size: u64, count: u64, check: Check<'_>) -> Result<u64> {
    if count == 0 {
        return Ok(size);
    }
    let mut block = vec![0; BLOCK];
    let (mut end, mut left) = (size, count);
    while end > 0 {
        check()?;
        let start = end.saturating_sub(BLOCK as u64);
        let wanted = usize::try_from(end - start).unwrap_or(BLOCK).min(BLOCK);
        let part = block.get_mut(..wanted).unwrap_or_default();
        match file.read_exact_at(part, start) {
            // Cut meanwhile: what is there now is all new.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(0),
            done => done.map_err(from_io)?,
        }
        for at in memchr::memrchr_iter(b'\n', part) {
            // The end of the last line begins no line.
            if start + at as u64 + 1 == size {
                continue;
            }
            left -= 1;
            if left == 0 {
                return Ok(start + at as u64 + 1);
            }
        }
        end = start;
    }
    Ok(0)
}
