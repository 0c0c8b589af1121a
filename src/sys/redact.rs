//! Text as a caller with `redacted_read` sees it: a reader below every search, count and offset, so that none of them tells what it hides.
//!
//! A line is shown when the owner's dictionary lists its format (or `lines = "all"`), but for marked conversions and for what the masks
//! find; else it is `[REDACTED]`. Lines that are no text, or longer than [`MAX_LINE`], are hidden whatever the rules say.

mod dictionary;
mod masks;

pub use dictionary::{Dictionary, Verdict};

use crate::config::{Lines, Mask, mask_word};
use crate::error::{Error, Kind, Result};
use masks::{Blocks, Masks};
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// What stands for a hidden line, and for a marked conversion.
pub const HIDDEN: &str = "[REDACTED]";
/// Bytes of the longest line that is looked into.
pub const MAX_LINE: usize = 1 << 20;
/// Bytes asked of the reader at a time.
const BLOCK: usize = 64 << 10;

/// The owner's rules, ready to be applied.
#[derive(Debug)]
pub struct Rules {
    lines: Lines,
    dictionary: Dictionary,
    masks: Masks,
}

impl Rules {
    /// # Errors
    /// [`Kind::Internal`], when a mask does not compile.
    pub fn new(lines: Lines, dictionary: Dictionary, masks: &[Mask]) -> Result<Self> {
        Ok(Self { lines, dictionary, masks: Masks::of(masks)? })
    }

    /// Nothing but hidden lines.
    ///
    /// # Errors
    /// Never, with a table of masks that compiles.
    pub fn hide_all() -> Result<Self> {
        Self::new(Lines::Listed, Dictionary::parse("", "")?, &[])
    }
}

/// The rules as a run needs them: made when first asked for, from the owner's files as they are then, and kept for this run only.
pub struct Source {
    make: Box<dyn Fn() -> Result<Rules> + Send + Sync>,
    made: OnceLock<Result<Arc<Rules>>>,
}

impl Source {
    #[must_use]
    pub fn new(make: impl Fn() -> Result<Rules> + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), made: OnceLock::new() }
    }
    /// # Errors
    /// [`Kind::Config`] when the owner's rules cannot be used; then nothing may be shown.
    pub fn rules(&self) -> Result<Arc<Rules>> {
        self.made.get_or_init(|| (self.make)().map(Arc::new)).clone()
    }
}

/// Redacts the lines of one text, in their order.
#[derive(Clone, Debug)]
pub struct Redaction {
    rules: Arc<Rules>,
    blocks: Blocks,
}

impl Redaction {
    #[must_use]
    pub fn new(rules: Arc<Rules>) -> Self {
        Self { rules, blocks: Blocks::default() }
    }

    /// A line without its `\n`, as it may be seen; a `\r` at its end stays.
    #[must_use]
    pub fn line(&mut self, line: &[u8]) -> Vec<u8> {
        let mut seen = Vec::with_capacity(line.len() + HIDDEN.len());
        self.add(line, &mut seen);
        seen
    }

    fn add(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let (line, end) = line.strip_suffix(b"\r").map_or((line, &b""[..]), |line| (line, b"\r"));
        self.add_text(line, out);
        out.extend_from_slice(end);
    }

    fn add_text(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let keys = if self.rules.masks.keys { self.blocks.line(line) } else { Vec::new() };
        let Some(text) = std::str::from_utf8(line).ok().filter(|text| text.len() <= MAX_LINE) else {
            return out.extend_from_slice(HIDDEN.as_bytes());
        };
        let fields = match (self.rules.dictionary.judge(text), self.rules.lines) {
            (Verdict::Shown(fields), _) => fields,
            (Verdict::Hidden, Lines::All) => Vec::new(),
            (Verdict::Hidden, Lines::Listed) => return out.extend_from_slice(HIDDEN.as_bytes()),
        };
        let named = |(range, mask): (Range<usize>, Mask)| (range, Some(mask));
        let mut hidden: Vec<(Range<usize>, Option<Mask>)> = self.rules.masks.find(text).into_iter().map(named).collect();
        hidden.extend(keys.into_iter().map(|range| (range, Some(Mask::PrivateKey))));
        hidden.extend(fields.into_iter().map(|range| (range, None)));
        hidden.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut shown_to = 0;
        for (range, mask) in hidden {
            if range.start < shown_to {
                // Part of it is gone already, the rest of it goes with that.
                shown_to = shown_to.max(range.end);
                continue;
            }
            out.extend_from_slice(line.get(shown_to..range.start).unwrap_or_default());
            match mask {
                Some(mask) => out.extend_from_slice(format!("[REDACTED:{}]", mask_word(mask)).as_bytes()),
                None => out.extend_from_slice(HIDDEN.as_bytes()),
            }
            shown_to = range.end;
        }
        out.extend_from_slice(line.get(shown_to..).unwrap_or_default());
    }
}

/// A reader that gives what may be seen of another.
pub struct Redacted<R> {
    inner: BufReader<R>,
    redaction: Redaction,
    /// What was read of the line that is not complete yet; of a line too long to be held, its end.
    line: Vec<u8>,
    too_long: bool,
    /// What may be seen: bytes from `used` on.
    out: Vec<u8>,
    used: usize,
    done: bool,
}

impl<R: Read> Redacted<R> {
    #[must_use]
    pub fn new(inner: R, rules: Arc<Rules>) -> Self {
        Self {
            inner: BufReader::with_capacity(BLOCK, inner),
            redaction: Redaction::new(rules),
            line: Vec::new(),
            too_long: false,
            out: Vec::new(),
            used: 0,
            done: false,
        }
    }

    /// Takes one block of the inner reader and redacts the lines that it completes.
    fn more(&mut self) -> io::Result<()> {
        self.out.clear();
        self.used = 0;
        let block = self.inner.fill_buf()?;
        let taken = block.len();
        if taken == 0 {
            self.done = true;
            if self.too_long || !self.line.is_empty() {
                Self::finish(&mut self.redaction, &mut self.line, &mut self.too_long, &mut self.out);
            }
            return Ok(());
        }
        let mut rest = block;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (piece, after) = rest.split_at(at);
            if self.line.is_empty() && !self.too_long {
                // The common case: a line within the block, not copied before it is looked at.
                self.redaction.add(piece, &mut self.out);
            } else {
                Self::gather(&mut self.redaction, &mut self.line, &mut self.too_long, piece);
                Self::finish(&mut self.redaction, &mut self.line, &mut self.too_long, &mut self.out);
            }
            self.out.push(b'\n');
            rest = after.get(1..).unwrap_or_default();
        }
        if !rest.is_empty() {
            Self::gather(&mut self.redaction, &mut self.line, &mut self.too_long, rest);
        }
        self.inner.consume(taken);
        Ok(())
    }

    /// Adds to the line under way; one that gets too long is let go but for its end, where a private key's mark may be half read.
    fn gather(redaction: &mut Redaction, line: &mut Vec<u8>, too_long: &mut bool, piece: &[u8]) {
        line.extend_from_slice(piece);
        // One more is the `\r` of its end.
        if *too_long || line.len() > MAX_LINE + 1 {
            *too_long = true;
            redaction.blocks.piece(line);
            let end = line.len().saturating_sub(Blocks::OVERLAP);
            line.drain(..end);
            line.shrink_to(BLOCK);
        }
    }

    fn finish(redaction: &mut Redaction, line: &mut Vec<u8>, too_long: &mut bool, out: &mut Vec<u8>) {
        if std::mem::take(too_long) {
            out.extend_from_slice(HIDDEN.as_bytes());
            if line.ends_with(b"\r") {
                out.push(b'\r');
            }
        } else {
            redaction.add(line, out);
        }
        line.clear();
    }
}

impl<R: Read> Read for Redacted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.used == self.out.len() && !self.done {
            self.more()?;
        }
        let ready = self.out.get(self.used..).unwrap_or_default();
        let count = ready.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), ready.get(..count)) {
            to.copy_from_slice(from);
        }
        self.used += count;
        Ok(count)
    }
}

/// The rules of a dictionary's text; `name` is its path, for messages.
///
/// # Errors
/// As [`Dictionary::parse`]; [`Kind::Config`] when it is not UTF-8 text.
pub fn rules(lines: Lines, masks: &[Mask], dictionary: Option<(&[u8], &str)>) -> Result<Rules> {
    let dictionary = match dictionary {
        None => Dictionary::parse("", "")?,
        Some((bytes, name)) => {
            let text = std::str::from_utf8(bytes).map_err(|_| Error::new(Kind::Config, format!("{name}: not UTF-8 text")))?;
            Dictionary::parse(text, name)?
        }
    };
    Rules::new(lines, dictionary, masks)
}

#[cfg(test)]
mod tests;
