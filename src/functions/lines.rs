//! What functions on text share: lines as text, results with a bound, patterns and what replaces them.

use super::function::Call;
use super::source::{Feed, Source};
use super::value::{Array, Dynamic, ImmutableString};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::resource::path::AbsPath;
use regex::{Regex, RegexBuilder};
use std::borrow::Cow;
use std::io::Read as _;

/// Bytes that a compiled pattern may use, and again for its lazy automaton.
const PATTERN_SIZE: usize = 10 << 20;
/// Brackets in brackets of a pattern.
const PATTERN_NESTING: u32 = 100;
/// Bytes of a pattern as written.
const PATTERN_LENGTH: usize = 64 << 10;
/// What holding a line costs besides its bytes: many empty lines are not free.
const OVERHEAD: u64 = 32;
/// Bytes asked for at a time.
const BLOCK: usize = 256 << 10;

/// A size of an option as the machine counts.
#[must_use]
pub fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Lines as text, without their ends, `\n` or `\r\n`.
pub struct TextLines<'c> {
    feed: Feed<'c>,
    /// The file, for errors.
    path: Option<AbsPath>,
    lossy: bool,
    number: u64,
}

impl<'c> TextLines<'c> {
    /// # Errors
    /// As [`Source::feed`].
    pub fn new(call: &'c Call<'_>, source: Source, max_line: u64, lossy: bool) -> Result<Self> {
        let path = source.path().cloned();
        Ok(Self { feed: source.feed(call, size(max_line))?, path, lossy, number: 0 })
    }
    /// The number of the line that was given last, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
    /// The next line, or nothing at the end.
    ///
    /// # Errors
    /// As [`Feed::next_line`]; [`Kind::NotText`].
    pub fn next_line(&mut self) -> Result<Option<Cow<'_, str>>> {
        let Some(line) = self.feed.next_line()? else { return Ok(None) };
        self.number += 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        shown(line, self.lossy).map(Some).ok_or_else(|| not_text(self.number, self.path.as_ref()))
    }
}

/// Bytes as text, as far as they are, or with U+FFFD for what is not.
#[must_use]
pub fn shown(bytes: &[u8], lossy: bool) -> Option<Cow<'_, str>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(Cow::Borrowed(text)),
        Err(_) if lossy => Some(String::from_utf8_lossy(bytes)),
        Err(_) => None,
    }
}

fn not_text(line: u64, path: Option<&AbsPath>) -> Error {
    let error = Error::new(Kind::NotText, format!("bytes that are not UTF-8 in line {line}")).with_hint("`lossy: true` replaces them");
    match path {
        Some(path) => error.with_path(path.shown()),
        None => error,
    }
}

/// The error for results past `max_bytes`.
#[must_use]
pub fn too_much(max_bytes: u64) -> Error {
    Error::new(Kind::TooLarge, format!("the result is more than `max_bytes` ({max_bytes})")).with_hint("raise `max_bytes`, or ask for less")
}

/// A result being collected: bounded in bytes, and in number where the script says so.
pub struct Kept {
    items: Array,
    bytes: u64,
    max_bytes: u64,
    limit: u64,
}

impl Kept {
    #[must_use]
    pub fn new(max_bytes: u64, limit: Option<u64>) -> Self {
        Self { items: Array::new(), bytes: 0, max_bytes, limit: limit.unwrap_or(u64::MAX) }
    }
    /// Whether the script's own limit is reached.
    #[must_use]
    pub fn full(&self) -> bool {
        self.items.len() as u64 >= self.limit
    }
    /// Takes an item of so many bytes.
    ///
    /// # Errors
    /// [`Kind::TooLarge`].
    pub fn push(&mut self, item: Dynamic, bytes: usize) -> Result<()> {
        self.count(bytes)?;
        self.items.push(item);
        Ok(())
    }
    /// # Errors
    /// [`Kind::TooLarge`].
    pub fn push_text(&mut self, text: &str) -> Result<()> {
        self.push(ImmutableString::from(text).into(), text.len())
    }
    /// Counts what is held elsewhere.
    ///
    /// # Errors
    /// [`Kind::TooLarge`].
    pub fn count(&mut self, bytes: usize) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes as u64).saturating_add(OVERHEAD);
        if self.bytes <= self.max_bytes {
            return Ok(());
        }
        let message = format!("the result is more than `max_bytes` ({}), each line counted with {OVERHEAD} bytes more", self.max_bytes);
        Err(Error { message, ..too_much(self.max_bytes) })
    }
    #[must_use]
    pub fn done(self) -> Array {
        self.items
    }
}

/// All of a source as text with its line ends; lines of an array get a `\n` each. An open file is where it was before if that fails.
///
/// # Errors
/// As [`Source::contents`]; [`Kind::TooLarge`], [`Kind::NotText`].
pub fn whole(call: &Call<'_>, source: Source, max_bytes: u64, lossy: bool) -> Result<String> {
    if let Source::Text(text) = &source {
        return if text.len() as u64 > max_bytes { Err(too_large_source(max_bytes)) } else { Ok(text.to_string()) };
    }
    source.with_contents(call, |mut reader| {
        let mut bytes = Vec::new();
        let mut block = vec![0; BLOCK];
        loop {
            let got = reader.read(&mut block).map_err(crate::sys::stream::from_io)?;
            if got == 0 {
                break;
            }
            if bytes.len() as u64 + got as u64 > max_bytes {
                return Err(too_large_source(max_bytes));
            }
            bytes.extend_from_slice(block.get(..got).unwrap_or_default());
        }
        as_text(bytes, lossy)
    })
}

fn too_large_source(max_bytes: u64) -> Error {
    Error::new(Kind::TooLarge, format!("larger than `max_bytes` ({max_bytes})")).with_hint("raise `max_bytes`")
}

/// # Errors
/// [`Kind::NotText`] unless `lossy`.
pub fn as_text(bytes: Vec<u8>, lossy: bool) -> Result<String> {
    String::from_utf8(bytes).or_else(|error| {
        if lossy {
            return Ok(String::from_utf8_lossy(error.as_bytes()).into_owned());
        }
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        Err(not_text(memchr::memchr_iter(b'\n', valid).count() as u64 + 1, None))
    })
}

/// A pattern: the text itself, or a regular expression in linear time.
///
/// # Errors
/// [`Kind::BadArgument`] for one that is none or too large, and for text that is empty.
pub fn pattern(text: &str, regex: bool, ignore_case: bool) -> Result<Regex> {
    if text.len() > PATTERN_LENGTH {
        return Err(bad_argument(format!("the pattern is longer than {PATTERN_LENGTH} bytes")));
    }
    if text.is_empty() && !regex {
        return Err(bad_argument("the text to look for is empty"));
    }
    let escaped = if regex { Cow::Borrowed(text) } else { Cow::Owned(regex::escape(text)) };
    RegexBuilder::new(&escaped)
        .case_insensitive(ignore_case)
        .size_limit(PATTERN_SIZE)
        .dfa_size_limit(PATTERN_SIZE)
        .nest_limit(PATTERN_NESTING)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => bad_argument("the pattern is too large"),
            // The last line of its message says what is wrong; those before draw the pattern.
            error => bad_argument(format!(
                "not a regular expression: {}",
                error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ")
            )),
        })
}

/// What takes the place of a match.
enum Part {
    Text(String),
    Group(usize),
}

/// A pattern with its replacement.
pub struct Substitution {
    pattern: Regex,
    parts: Vec<Part>,
    groups: bool,
}

impl Substitution {
    /// With a regular expression `$1` and `${name}` in the replacement stand for its groups and `$$` for a dollar sign; without, it is taken as it is.
    ///
    /// # Errors
    /// As [`pattern`]; [`Kind::BadArgument`] for a group that the pattern does not have.
    pub fn new(text: &str, replacement: &str, regex: bool, ignore_case: bool) -> Result<Self> {
        let pattern = pattern(text, regex, ignore_case)?;
        let parts = if regex { parts(replacement, &pattern)? } else { vec![Part::Text(replacement.to_owned())] };
        let groups = parts.iter().any(|part| matches!(part, Part::Group(group) if *group > 0));
        Ok(Self { pattern, parts, groups })
    }

    /// Adds the text to `out`, its first match or all of them replaced; how many were.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] when `out` gets longer than `max_bytes`; that the run has to stop.
    pub fn apply(&self, call: &Call<'_>, text: &str, all: bool, out: &mut String, max_bytes: u64) -> Result<u64> {
        let add = |out: &mut String, piece: &str| {
            if out.len() as u64 + piece.len() as u64 > max_bytes {
                return Err(too_much(max_bytes));
            }
            out.push_str(piece);
            Ok(())
        };
        let (mut count, mut last) = (0_u64, 0);
        let limit = if all { usize::MAX } else { 1 };
        let mut put =
            |out: &mut String, whole: std::ops::Range<usize>, group: &dyn Fn(usize) -> Option<std::ops::Range<usize>>| -> Result<()> {
                count += 1;
                if count % 1024 == 0 {
                    call.check()?;
                }
                add(out, text.get(last..whole.start).unwrap_or_default())?;
                last = whole.end;
                for part in &self.parts {
                    match part {
                        Part::Text(piece) => add(out, piece)?,
                        Part::Group(0) => add(out, text.get(whole.clone()).unwrap_or_default())?,
                        Part::Group(number) => add(out, group(*number).and_then(|range| text.get(range)).unwrap_or_default())?,
                    }
                }
                Ok(())
            };
        if self.groups {
            for found in self.pattern.captures_iter(text).take(limit) {
                let Some(whole) = found.get(0) else { continue };
                let range = whole.range();
                put(out, range, &|number| found.get(number).map(|group| group.range()))?;
            }
        } else {
            for found in self.pattern.find_iter(text).take(limit) {
                put(out, found.range(), &|_| None)?;
            }
        }
        add(out, text.get(last..).unwrap_or_default())?;
        Ok(count)
    }
}

/// The parts of a replacement. A name that is no group is an error, not nothing: it would take text away unseen.
fn parts(replacement: &str, pattern: &Regex) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        plain.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + 1..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix('$') {
            plain.push('$');
            rest = after;
            continue;
        }
        let braced = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, after) = braced.unwrap_or_else(|| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            rest.split_at(end)
        });
        if name.is_empty() {
            plain.push('$');
            continue;
        }
        let number = match name.parse::<usize>() {
            Ok(number) => Some(number).filter(|number| *number < pattern.captures_len()),
            Err(_) => pattern.capture_names().position(|group| group == Some(name)),
        };
        let number = number.ok_or_else(|| {
            let name: String = name.chars().take(40).collect();
            bad_argument(format!("the replacement names the group `{}`, which the pattern does not have", name.escape_debug()))
                .with_hint("a dollar sign is written `$$`; a group before more letters is written `${1}`")
        })?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Group(number));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// A line and its end (`\n`, `\r\n` or nothing).
#[must_use]
pub fn split_end(line: &str) -> (&str, &str) {
    let body = line.strip_suffix('\n').map_or(line, |body| body.strip_suffix('\r').unwrap_or(body));
    line.split_at(body.len())
}
