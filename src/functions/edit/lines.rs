//! Text as lines that can be changed one by one, everything else staying byte for byte; and the changes of `edit_line` and `replace_block`.

use crate::error::{Error, Kind, Result, bad_argument};
use regex::bytes::{Captures, Regex};
use std::borrow::Cow;

/// The mark that some editors put before UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// New contents, and the number of the line concerned.
#[derive(Debug, PartialEq, Eq)]
pub struct Edited {
    pub bytes: Vec<u8>,
    pub line: Option<usize>,
}

/// One line; a new one has no end of its own yet.
struct Row<'a> {
    text: Cow<'a, [u8]>,
    end: Option<&'a [u8]>,
}

/// The lines of a file.
pub struct Text<'a> {
    head: &'a [u8],
    rows: Vec<Row<'a>>,
    /// What most lines end with; new ones end so too.
    ending: &'static [u8],
    /// The last line has no end; the file stays so.
    open_end: bool,
}

impl<'a> Text<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let (head, body) = if bytes.starts_with(MARK) { bytes.split_at(MARK.len()) } else { bytes.split_at(0) };
        let rows: Vec<Row<'a>> = body
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| {
                let end = if line.ends_with(b"\r\n") { 2 } else { usize::from(line.ends_with(b"\n")) };
                let (text, end) = line.split_at(line.len() - end);
                Row { text: Cow::Borrowed(text), end: Some(end) }
            })
            .collect();
        let windows = rows.iter().filter(|row| row.end == Some(b"\r\n")).count();
        let ending: &[u8] = if windows * 2 > rows.len() { b"\r\n" } else { b"\n" };
        let open_end = rows.last().is_some_and(|row| row.end == Some(b""));
        // A single line without an end tells nothing, and most hosts are no Windows.
        Self { head, rows, ending, open_end }
    }
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
    /// The text of a line without its end; empty behind the last.
    #[must_use]
    pub fn line(&self, at: usize) -> &[u8] {
        self.rows.get(at).map_or(b"", |row| &row.text)
    }
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.rows.iter().map(|row| &*row.text)
    }
    pub fn insert(&mut self, at: usize, text: &[u8]) {
        self.rows.insert(at.min(self.rows.len()), Row { text: Cow::Owned(text.to_vec()), end: None });
    }
    pub fn set(&mut self, at: usize, text: &[u8]) {
        if let Some(row) = self.rows.get_mut(at) {
            row.text = Cow::Owned(text.to_vec());
        }
    }
    pub fn remove(&mut self, range: std::ops::Range<usize>) {
        self.rows.drain(range.start.min(self.rows.len())..range.end.min(self.rows.len()));
    }
    /// The file again.
    #[must_use]
    pub fn join(&self) -> Vec<u8> {
        let mut bytes = self.head.to_vec();
        for (at, row) in self.rows.iter().enumerate() {
            let last = at + 1 == self.rows.len();
            bytes.extend_from_slice(&row.text);
            bytes.extend_from_slice(match row.end {
                None if last && self.open_end => b"",
                None => self.ending,
                Some(b"") if !last => self.ending,
                Some(end) => end,
            });
        }
        bytes
    }
}

/// What `edit_line` shall do.
pub struct LineEdit<'a> {
    pub pattern: Option<Regex>,
    pub line: Option<&'a str>,
    pub absent: bool,
    pub after: Option<Regex>,
    pub before: Option<Regex>,
    pub all: Option<bool>,
}

/// The contents with the line ensured.
///
/// # Errors
/// [`Kind::BadData`] where `after`, `before` or groups refer to a line that is not there; [`Kind::BadArgument`].
pub fn edit_line(bytes: &[u8], edit: &LineEdit<'_>) -> Result<Edited> {
    let mut text = Text::new(bytes);
    let found: Vec<usize> = match (&edit.pattern, edit.line) {
        (Some(pattern), _) => places(&text, |line| pattern.is_match(line)),
        (None, Some(line)) => places(&text, |found| found == line.as_bytes()),
        (None, None) => Vec::new(),
    };
    let line = if edit.absent {
        let gone = if edit.all == Some(false) { last(&found) } else { &found };
        for at in gone.iter().rev() {
            text.remove(*at..at + 1);
        }
        gone.first().copied()
    } else {
        present(&mut text, edit, &found)?
    };
    Ok(Edited { bytes: text.join(), line: line.map(|at| at + 1) })
}

fn present(text: &mut Text<'_>, edit: &LineEdit<'_>, found: &[usize]) -> Result<Option<usize>> {
    let Some(line) = edit.line else { return Err(bad_argument("`line` is missing")) };
    if let Some(pattern) = &edit.pattern
        && !found.is_empty()
    {
        let chosen = if edit.all == Some(true) { found } else { last(found) };
        for at in chosen {
            let new = pattern.captures(text.line(*at)).map(|groups| expand(line, pattern, &groups));
            if let Some(new) = new {
                text.set(*at, &new);
            }
        }
        return Ok(chosen.last().copied());
    }
    if let Some(pattern) = &edit.pattern {
        if refers(line, pattern) {
            return Err(Error::new(Kind::BadData, "no line matches `pattern`, and `line` refers to its groups; nothing was written"));
        }
        if let Some(at) = text.lines().rposition(|found| found == line.as_bytes()) {
            return Ok(Some(at));
        }
    } else if let Some(at) = found.last() {
        return Ok(Some(*at));
    }
    let at = place(text, edit.after.as_ref(), edit.before.as_ref())?;
    text.insert(at, line.as_bytes());
    Ok(Some(at))
}

fn last(found: &[usize]) -> &[usize] {
    found.get(found.len().saturating_sub(1)..).unwrap_or_default()
}

fn places(text: &Text<'_>, is: impl Fn(&[u8]) -> bool) -> Vec<usize> {
    text.lines().enumerate().filter(|(_, line)| is(line)).map(|(at, _)| at).collect()
}

/// Where something new goes: after the last line of one kind, before the first of another, or at the end.
fn place(text: &Text<'_>, after: Option<&Regex>, before: Option<&Regex>) -> Result<usize> {
    let missing = |option: &str| {
        Error::new(Kind::BadData, format!("no line matches `{option}`; nothing was written"))
            .with_hint("without `after` and `before` it goes to the end")
    };
    match (after, before) {
        (Some(_), Some(_)) => Err(bad_argument("`after` and `before` exclude each other")),
        (Some(after), None) => text.lines().rposition(|line| after.is_match(line)).map(|at| at + 1).ok_or_else(|| missing("after")),
        // An empty file has a beginning too.
        (None, Some(before)) if text.is_empty() && before.is_match(b"") => Ok(0),
        (None, Some(before)) => text.lines().position(|line| before.is_match(line)).ok_or_else(|| missing("before")),
        (None, None) => Ok(text.len()),
    }
}

/// A part of a replacement: text, a group of the pattern, or a `$` written as `$$`.
enum Part<'t> {
    Text(&'t str),
    Group(usize),
    Dollar,
}

/// The parts of a line. Only groups that the pattern has are groups; a `$` before anything else is a `$`, as `$HOME` has to stay.
fn parts<'t>(line: &'t str, pattern: &Regex) -> Vec<Part<'t>> {
    let groups = pattern.captures_len();
    if groups < 2 {
        return vec![Part::Text(line)];
    }
    let named = |name: &str| {
        name.parse::<usize>().ok().filter(|group| *group < groups).or_else(|| pattern.capture_names().position(|found| found == Some(name)))
    };
    let mut parts = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('$') {
        parts.push(Part::Text(before));
        if let Some(after) = after.strip_prefix('$') {
            parts.push(Part::Dollar);
            rest = after;
            continue;
        }
        let braced = after.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        // `$1x` is group 1 and an x.
        let digits = after.starts_with(|c: char| c.is_ascii_digit());
        let inside = |c: char| if digits { c.is_ascii_digit() } else { c.is_ascii_alphanumeric() || c == '_' };
        let word = after.find(|c: char| !inside(c)).map_or((after, ""), |end| after.split_at(end));
        let (name, behind) = braced.unwrap_or(word);
        if let Some(group) = named(name) {
            parts.push(Part::Group(group));
            rest = behind;
        } else {
            parts.push(Part::Dollar);
            rest = after;
        }
    }
    parts.push(Part::Text(rest));
    parts
}

fn refers(line: &str, pattern: &Regex) -> bool {
    parts(line, pattern).iter().any(|part| matches!(part, Part::Group(_)))
}

fn expand(line: &str, pattern: &Regex, groups: &Captures<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts(line, pattern) {
        match part {
            Part::Text(text) => out.extend_from_slice(text.as_bytes()),
            Part::Group(group) => out.extend_from_slice(groups.get(group).map_or(b"", |found| found.as_bytes())),
            Part::Dollar => out.push(b'$'),
        }
    }
    out
}

/// What `replace_block` shall do.
pub struct BlockEdit<'a> {
    pub begin: String,
    pub end: String,
    /// Nothing: the block shall go.
    pub text: Option<&'a str>,
    pub after: Option<Regex>,
    pub before: Option<Regex>,
}

/// The contents with the block ensured.
///
/// # Errors
/// [`Kind::BadData`] where the marks are not one pair; as [`edit_line`].
pub fn replace_block(bytes: &[u8], edit: &BlockEdit<'_>) -> Result<Edited> {
    let mut text = Text::new(bytes);
    let mark = |text: &Text<'_>, mark: &str| places(text, |line| line.trim_ascii() == mark.as_bytes());
    let (begins, ends) = (mark(&text, &edit.begin), mark(&text, &edit.end));
    let old = match (&begins[..], &ends[..]) {
        ([], []) => None,
        ([begin], [end]) if begin < end => Some(*begin..end + 1),
        _ => {
            return Err(Error::new(Kind::BadData, "its marks are not one pair of lines, begin before end; nothing was written")
                .with_hint("put the lines with the marks right, or choose another name"));
        }
    };
    let Some(new) = edit.text else {
        let line = old.as_ref().map(|old| old.start + 1);
        if let Some(old) = old {
            text.remove(old);
        }
        return Ok(Edited { bytes: text.join(), line });
    };
    let new: Vec<&str> = new.lines().collect();
    if new.iter().any(|line| [edit.begin.as_str(), edit.end.as_str()].contains(&line.trim_ascii())) {
        return Err(bad_argument("the text has a line that is a mark of the block"));
    }
    let at = match old {
        // Only what differs is touched: the marks stay as they are, indented or not.
        Some(old) => {
            let inside = old.start + 1..old.end - 1;
            if text.lines().skip(inside.start).take(inside.len()).eq(new.iter().map(|line| line.as_bytes())) {
                return Ok(Edited { bytes: bytes.to_vec(), line: Some(old.start + 1) });
            }
            let at = inside.start;
            text.remove(inside);
            for (offset, line) in new.iter().enumerate() {
                text.insert(at + offset, line.as_bytes());
            }
            at - 1
        }
        None => {
            let at = place(&text, edit.after.as_ref(), edit.before.as_ref())?;
            let lines = [edit.begin.as_str()].into_iter().chain(new).chain([edit.end.as_str()]);
            for (offset, line) in lines.enumerate() {
                text.insert(at + offset, line.as_bytes());
            }
            at
        }
    };
    Ok(Edited { bytes: text.join(), line: Some(at + 1) })
}
