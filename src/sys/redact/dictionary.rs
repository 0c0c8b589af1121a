//! The owner's dictionary: log formats in the notation of printf(3), each a whole line whose literal text may be shown.

use crate::error::{Error, Kind, Result};
use regex::{Regex, RegexSet, RegexSetBuilder};
use std::ops::Range;

/// Formats in one dictionary.
const MAX_FORMATS: usize = 20_000;
/// Bytes of one format as written.
const MAX_FORMAT: usize = 4 << 10;
/// The largest precision of `%s`: each character of it is a state of the compiled expression.
const MAX_PRECISION: u32 = 255;
/// Bytes that all formats together may take when compiled, and again for the automaton that is built as lines come.
const COMPILED: usize = 32 << 20;

/// The formats of a dictionary, compiled.
#[derive(Debug)]
pub struct Dictionary {
    all: RegexSet,
    /// For each format with marked conversions: its index in `all`, and the expression with one group for each of them.
    marked: Vec<(usize, Regex)>,
}

/// What a dictionary says of a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Hidden,
    /// Shown but for these places, which are in order and do not overlap.
    Shown(Vec<Range<usize>>),
}

impl Dictionary {
    /// Reads the text of a dictionary; `name` is its path, for messages.
    ///
    /// # Errors
    /// [`Kind::Config`] with `file:line` for a line that is no format, and for more than can be compiled.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let mut expressions = Vec::new();
        let mut marked = Vec::new();
        for (at, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: String| Error::new(Kind::Config, format!("{name}:{}: {what}", at + 1));
            let format = Format::of(line).map_err(wrong)?;
            if format.marks {
                let expression = Regex::new(&format.expression).map_err(|_| wrong("the format is too large".to_owned()))?;
                marked.push((expressions.len(), expression));
            }
            expressions.push(format.expression);
            if expressions.len() > MAX_FORMATS {
                return Err(wrong(format!("more than {MAX_FORMATS} formats")));
            }
        }
        let all = RegexSetBuilder::new(&expressions).size_limit(COMPILED).dfa_size_limit(COMPILED).build().map_err(|_| {
            Error::new(Kind::Config, format!("{name}: the formats together are too large to be compiled"))
                .with_hint("use fewer formats, or fewer with a precision like `%.200s`")
        })?;
        Ok(Self { all, marked })
    }

    /// Whether a line, without its end, may be shown.
    #[must_use]
    pub fn judge(&self, line: &str) -> Verdict {
        let mut fitting = self.all.matches(line).into_iter().peekable();
        if fitting.peek().is_none() {
            return Verdict::Hidden;
        }
        let mut hidden: Vec<Range<usize>> = Vec::new();
        for index in fitting {
            let Ok(at) = self.marked.binary_search_by_key(&index, |(index, _)| *index) else { continue };
            let captures = self.marked.get(at).and_then(|(_, expression)| expression.captures(line));
            hidden.extend(captures.iter().flat_map(|captures| captures.iter().skip(1).flatten().map(|part| part.range())));
        }
        Verdict::Shown(joined(hidden))
    }
}

/// Ranges in order, those that touch joined.
pub(super) fn joined(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// One format as a regular expression over a whole line.
struct Format {
    expression: String,
    /// Whether a conversion is marked with `!`.
    marks: bool,
}

impl Format {
    fn of(line: &str) -> std::result::Result<Self, String> {
        if line.len() > MAX_FORMAT {
            return Err(format!("the format is longer than {MAX_FORMAT} bytes"));
        }
        let mut expression = String::from(r"\A");
        let (mut marks, mut says_something) = (false, false);
        let mut literal = String::new();
        let mut rest = line.chars().peekable();
        while let Some(c) = rest.next() {
            if c != '%' {
                literal.push(c);
                continue;
            }
            let conversion = Conversion::of(&mut rest)?;
            if conversion.kind == '%' {
                literal.push('%');
                continue;
            }
            says_something |= !literal.trim().is_empty() || !matches!(conversion.kind, 's' | 'S' | 'c' | 'C');
            expression.push_str(&regex::escape(&std::mem::take(&mut literal)));
            conversion.write(&mut expression)?;
            marks |= conversion.marked;
        }
        says_something |= !literal.trim().is_empty();
        if !says_something {
            return Err("a format without any text of its own would show every line".to_owned());
        }
        expression.push_str(&regex::escape(&literal));
        expression.push_str(r"\z");
        Ok(Self { expression, marks })
    }
}

/// One conversion: `%[!][N$][flags][width][.precision][length]letter`.
struct Conversion {
    /// `!`: what it stands for is replaced.
    marked: bool,
    flags: String,
    width: bool,
    precision: Option<u32>,
    kind: char,
}

impl Conversion {
    fn of(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> std::result::Result<Self, String> {
        let number = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut digits = String::new();
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            digits
        };
        let mut conversion =
            Self { marked: rest.next_if_eq(&'!').is_some(), flags: String::new(), width: false, precision: None, kind: '%' };
        // `N$` names the argument; where it stands in the line does not change.
        let mut ahead = rest.clone();
        if !number(&mut ahead).is_empty() && ahead.next_if_eq(&'$').is_some() {
            *rest = ahead;
        }
        while let Some(flag) = rest.next_if(|c| "-+ #0'".contains(*c)) {
            conversion.flags.push(flag);
        }
        conversion.width = rest.next_if_eq(&'*').is_some() || !number(rest).is_empty();
        if rest.next_if_eq(&'.').is_some() && rest.next_if_eq(&'*').is_none() {
            let digits = number(rest);
            let precision = if digits.is_empty() { Some(0) } else { digits.parse().ok() };
            conversion.precision = Some(
                precision
                    .filter(|precision| *precision <= MAX_PRECISION)
                    .ok_or_else(|| format!("a precision is at most {MAX_PRECISION}"))?,
            );
        }
        while rest.next_if(|c| "hlLqjzt".contains(*c)).is_some() {}
        conversion.kind = rest.next().ok_or("a `%` at the end: write `%%` for the sign itself")?;
        if conversion.kind == '%'
            && (conversion.marked || conversion.width || !conversion.flags.is_empty() || conversion.precision.is_some())
        {
            return Err("`%%` takes no flags".to_owned());
        }
        Ok(conversion)
    }

    /// What it can print, as a regular expression.
    fn write(&self, into: &mut String) -> std::result::Result<(), String> {
        // A line that can be read in more than one way is read so that marked conversions take as much as they can.
        let lazy = if self.marked { "" } else { "?" };
        let alternate = self.flags.contains('#');
        let whole = if self.flags.contains('\'') { "[0-9][0-9.,' \u{a0}\u{202f}]*" } else { "[0-9]+" };
        let body = match self.kind {
            // Free text: an argument may hold blanks.
            's' | 'S' => match self.precision {
                Some(most) => format!(".{{0,{most}}}{lazy}"),
                None => format!(".*{lazy}"),
            },
            'c' | 'C' => ".".to_owned(),
            // The texts of strerror(3), in any language.
            'm' => format!(r"\p{{L}}[\p{{L}}\p{{M}}0-9 ()/,.:'’_-]*{lazy}"),
            'd' | 'i' => format!("[+-]?{whole}"),
            'u' => whole.to_owned(),
            'o' => "[0-7]+".to_owned(),
            'b' | 'B' => if alternate { "(?:0[bB])?[01]+" } else { "[01]+" }.to_owned(),
            'x' => if alternate { "(?:0x)?[0-9a-f]+" } else { "[0-9a-f]+" }.to_owned(),
            'X' => if alternate { "(?:0X)?[0-9A-F]+" } else { "[0-9A-F]+" }.to_owned(),
            'p' => r"(?:0x[0-9a-f]+|\(nil\))".to_owned(),
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                format!(r"[+-]?(?:{whole}(?:[.,][0-9]*)?(?:[eE][+-]?[0-9]+)?|(?i:inf|infinity|nan))")
            }
            'a' | 'A' => r"[+-]?(?:0[xX][0-9a-fA-F]+(?:\.[0-9a-fA-F]*)?[pP][+-]?[0-9]+|(?i:inf|infinity|nan))".to_owned(),
            other => return Err(format!("`%{}` is no conversion of printf that can be used here", other.escape_debug())),
        };
        // What pads a field to its width stands on one side of it.
        let number = !matches!(self.kind, 's' | 'S' | 'c' | 'C' | 'm');
        let before = if (self.width && !self.flags.contains('-')) || (number && self.flags.contains(' ')) { " *" } else { "" };
        let after = if self.width && self.flags.contains('-') { " *" } else { "" };
        into.push_str(before);
        if self.marked {
            into.push('(');
        }
        into.push_str(&body);
        if self.marked {
            into.push(')');
        }
        into.push_str(after);
        Ok(())
    }
}
