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
    let whole = text.lines().nth(line - 1).unwrap_or("");
    // A window around the place, for lines as long as a screen or longer.
    let skip = (column - 1).saturating_sub(SHOWN / 2);
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
    let mut before = show(&mut whole.chars().skip(skip).take(column - 1 - skip));
    let mut after = show(&mut whole.chars().skip(column - 1).take(SHOWN / 2));
    if skip > 0 {
        before.insert(0, '…');
    }
    if whole.chars().nth(column - 1 + SHOWN / 2).is_some() {
        after.push('…');
    }
    let number = line.to_string();
    let mut out = format!("{name}:{line}:{column}: {message}\n");
    let _ = writeln!(out, "{number} | {before}{after}");
    let _ = write!(out, "{} | {}^", " ".repeat(number.len()), " ".repeat(before.width()));
    out
}

/// Line and column of a byte, both from 1, the column in characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = text.get(..end).unwrap_or("");
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
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
