//! Messages that point at the place: `file:line:column`, the line, a caret under it.

use super::load::Source;
use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr;

/// Longest part of a source line that is shown, in characters.
const SHOWN: usize = 160;

/// Something to say about a place in a file of policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The name of the lint.
    pub lint: &'static str,
    /// Which file, by index.
    pub source: u32,
    /// Bytes: where it begins, and where it ends.
    pub offset: usize,
    pub end: usize,
    pub message: String,
}

impl Fault {
    pub(super) fn new(lint: &'static str, source: u32, offset: usize, message: impl Into<String>) -> Self {
        Self { lint, source, offset, end: offset, message: message.into() }
    }
    /// As [`pointed`].
    pub(super) fn pointed(&self, sources: &[&Source]) -> String {
        match sources.get(self.source as usize) {
            Some(source) => pointed(&source.name, &source.text, self.offset, &self.message),
            None => self.message.clone(),
        }
    }
}

/// `message`, pointing at byte `offset` of `text`, which came from the file `name`. Several lines, without a newline at the end.
/// Control characters of the source are escaped.
#[must_use]
pub fn pointed(name: &str, text: &str, offset: usize, message: &str) -> String {
    let (line, column) = position(text, offset);
    format!("{name}:{line}:{column}: {message}\n{}", excerpt(text, offset, line))
}

/// The line with this number, in which the byte is, and a caret under it: two lines, without a newline at the end.
pub(super) fn excerpt(text: &str, offset: usize, line: usize) -> String {
    let (before, after) = text.split_at(border(text, offset));
    let start = before.rsplit('\n').next().unwrap_or("");
    let rest = after.split('\n').next().unwrap_or("");
    // A line may end in a carriage return too.
    let rest = rest.strip_suffix('\r').unwrap_or(rest);
    // A window around the place, for lines as long as a screen or longer.
    let skip = start.chars().count().saturating_sub(SHOWN / 2);
    let show = |part: &mut dyn Iterator<Item = char>| {
        part.map(|c| {
            if c == '\t' {
                " ".to_owned()
            } else if c.is_control() {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect::<String>()
    };
    let mut before = show(&mut start.chars().skip(skip));
    let mut after = show(&mut rest.chars().take(SHOWN / 2));
    if skip > 0 {
        before.insert(0, '…');
    }
    if rest.chars().nth(SHOWN / 2).is_some() {
        after.push('…');
    }
    let number = line.to_string();
    let mut out = format!("{number} | {before}{after}\n");
    let _ = write!(out, "{} | {}^", " ".repeat(number.len()), " ".repeat(before.width()));
    out
}

/// The nearest place at or before the byte where a character begins.
fn border(text: &str, offset: usize) -> usize {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// Line and column of a byte, both from 1, the column in characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    position_from(text, (0, 1), offset)
}

/// The same from a place whose line is known, so that nothing before it is counted once more.
pub(super) fn position_from(text: &str, known: (usize, usize), offset: usize) -> (usize, usize) {
    let before = text.get(..border(text, offset)).unwrap_or("");
    let (from, line) = if known.0 <= before.len() { known } else { (0, 1) };
    let line = line + memchr::memchr_iter(b'\n', before.as_bytes().get(from..).unwrap_or(&[])).count();
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_place_line_and_caret() {
        let text = "permit(\n  principal, acton, resource);\n";
        let offset = text.find("acton").unwrap_or(0);
        assert_eq!(
            pointed("a.cedar", text, offset, "what?"),
            "a.cedar:2:14: what?\n2 |   principal, acton, resource);\n  |              ^"
        );
    }

    #[test]
    fn wide_characters_tabs_and_escapes_do_not_move_the_caret() {
        let text = "\t\"日本\" \u{1b}[31m x";
        let offset = text.find('x').unwrap_or(0);
        assert_eq!(pointed("a", text, offset, "m"), "a:1:13: m\n1 |  \"日本\" \\u{1b}[31m x\n  |                    ^");
    }

    #[test]
    fn an_offset_past_the_end_or_inside_a_character_is_no_fault() {
        assert!(pointed("a", "é", 1, "m").starts_with("a:1:1: m"));
        assert!(pointed("a", "é", 99, "m").starts_with("a:1:2: m"));
        assert!(pointed("a", "", 0, "m").starts_with("a:1:1: m"));
    }
}
