//! Named patterns of what is secret wherever it stands: tokens, passwords, addresses …

use crate::config::Mask;
use crate::error::{Error, Kind, Result};
use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use std::ops::Range;

/// One expression of a mask. Where it has a group, that is what is replaced, else all of it.
struct Row {
    mask: Mask,
    expression: &'static str,
    /// Whether what was found at this place of the text is one after all.
    holds: Check,
}
type Check = fn(&str, &Range<usize>) -> bool;

const fn row(mask: Mask, expression: &'static str) -> Row {
    Row { mask, expression, holds: |_, _| true }
}

/// Where a value ends is not always certain; then more is replaced rather than less.
const ROWS: &[Row] = &[
    // scheme://user:password@host; a password may hold signs that should have been escaped.
    row(Mask::UrlCredentials, r"[A-Za-z][A-Za-z0-9+.-]*://([^\s/?#]+)@"),
    row(Mask::UrlCredentials, r"[A-Za-z][A-Za-z0-9+.-]*://([^\s/:@]*:\S+)@"),
    // A JSON web token, RFC 7519: parts in base64url, of which the first is a JSON object.
    row(Mask::Jwt, r"eyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){1,4}"),
    // Access keys by their prefix, and secret keys by the name before them.
    row(Mask::AwsKey, r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"),
    row(Mask::AwsKey, r#"(?i)aws.{0,20}(?:secret|session).{0,30}?["']?\s*[:=]\s*["']?([A-Za-z0-9/+=]{40,})"#),
    // What stands behind a name that says so: `password=…`, `"passwd": "…"`, `--password …`.
    row(
        Mask::Password,
        r#"(?i)(?:pass(?:word|wd|phrase|code)?|pwd|passwort|secret|credential)s?\\?["']?(?:\s*(?:=>|:=|=|:)\s*|\s+is\s+)(\\?"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|\S+)"#,
    ),
    row(Mask::Password, r#"(?i)--?(?:pass(?:word|wd|phrase)?|pwd|secret)[\s=]+("[^"]*"?|'[^']*'?|\S+)"#),
    row(Mask::Password, r"(?i)\bIDENTIFIED\s+BY\s+(?:PASSWORD\s+)?('[^']*'?|\S+)"),
    row(
        Mask::Token,
        r#"(?i)(?:api[_-]?key|access[_-]?key|auth[_-]?key|private[_-]?key|secret[_-]?key|encryption[_-]?key|token|session[_-]?id|csrf)\\?["']?\s*(?:=>|:=|=|:)\s*(\\?"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|\S+)"#,
    ),
    // RFC 6750, RFC 7617 and RFC 6265, as in HTTP headers.
    Row { mask: Mask::Token, expression: r"(?i)\b(?:bearer|basic|negotiate|token)\s+([A-Za-z0-9._~+/=-]{8,})", holds: is_no_word },
    row(Mask::Token, r#"(?i)(?:authorization|cookie)\\?["']?\s*[:=]\s*(\S.*)"#),
    // Prefixes that issuers give their tokens so that they are recognised.
    row(
        Mask::Token,
        r"(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat)-[A-Za-z0-9_-]{16,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|\bsk-[A-Za-z0-9_-]{16,}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|\bhf_[A-Za-z0-9]{30,}|dop_v1_[a-f0-9]{60,}|\bhv[sbr]\.[A-Za-z0-9_-]{20,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})",
    ),
    row(Mask::Email, r"[\p{L}\p{N}._%+'-]+@(?:[\p{L}\p{N}](?:[\p{L}\p{N}-]*[\p{L}\p{N}])?\.)+\p{L}{2,}"),
    Row { mask: Mask::CreditCard, expression: r"[0-9](?:[ -]?[0-9]){11,}", holds: holds_card },
    Row { mask: Mask::Ipv6, expression: r"[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*", holds: is_ipv6 },
    Row {
        mask: Mask::Ipv4,
        expression: r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}",
        holds: |text, at| found(text, at).parse::<std::net::Ipv4Addr>().is_ok(),
    },
];

fn found<'t>(text: &'t str, at: &Range<usize>) -> &'t str {
    text.get(at.clone()).unwrap_or_default()
}

/// Not only `Basic authentication`.
fn is_no_word(text: &str, at: &Range<usize>) -> bool {
    found(text, at).chars().skip(1).any(|c| !c.is_ascii_lowercase())
}

/// Whether some groups of the digits, one behind the other, are the number of a card.
fn holds_card(text: &str, at: &Range<usize>) -> bool {
    let groups: Vec<&str> = found(text, at).split([' ', '-']).collect();
    (0..groups.len()).any(|first| {
        let mut number = String::new();
        groups.iter().skip(first).take(19).any(|group| {
            number.push_str(group);
            number.len() <= 19 && is_card(&number)
        })
    })
}

/// Digits that begin as cards do and end in their check digit (ISO/IEC 7812-1, annex B).
fn is_card(number: &str) -> bool {
    let digits = number.bytes().rev().map(|byte| u32::from(byte.wrapping_sub(b'0')));
    let sum: u32 = digits
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => digit,
            (_, twice) if twice > 9 => twice - 9,
            (_, twice) => twice,
        })
        .sum();
    (12..=19).contains(&number.len()) && sum.is_multiple_of(10) && number.starts_with(['2', '3', '4', '5', '6'])
}

/// Whether it is an address, apart from a word before it (`addr:…`) and a sign behind it.
fn is_ipv6(text: &str, at: &Range<usize>) -> bool {
    let mut candidate = found(text, at);
    if text.get(..at.start).unwrap_or_default().ends_with(|c: char| c.is_alphanumeric() || c == '_') {
        // The end of a word whose last letters happen to be hexadecimal.
        candidate = candidate.split_once(':').map_or("", |(_, rest)| rest);
    }
    let is_one = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok_and(|address| !address.is_unspecified());
    [candidate, candidate.strip_prefix(':').unwrap_or(candidate)]
        .iter()
        .any(|text| is_one(text) || is_one(text.strip_suffix([':', '.']).unwrap_or(text)))
}

/// The chosen masks, compiled.
#[derive(Debug)]
pub struct Masks {
    /// Which of `each` can match at all.
    any: RegexSet,
    each: Vec<(Mask, Regex, Check)>,
    /// Whether blocks of private keys are masked too; they span lines, see [`Blocks`].
    pub keys: bool,
}

impl Masks {
    /// # Errors
    /// [`Kind::Internal`], when an expression of the table does not compile.
    pub fn of(chosen: &[Mask]) -> Result<Self> {
        let broken = |_| Error::new(Kind::Internal, "a mask does not compile");
        let rows: Vec<&Row> = ROWS.iter().filter(|row| chosen.contains(&row.mask)).collect();
        let any = RegexSetBuilder::new(rows.iter().map(|row| row.expression)).size_limit(32 << 20).build().map_err(broken)?;
        let each = rows
            .iter()
            .map(|row| Ok((row.mask, RegexBuilder::new(row.expression).size_limit(16 << 20).build().map_err(broken)?, row.holds)))
            .collect::<Result<_>>()?;
        Ok(Self { any, each, keys: chosen.contains(&Mask::PrivateKey) })
    }

    /// What is to be replaced in a text, and by the name of which mask; in order, without overlaps.
    #[must_use]
    pub fn find(&self, text: &str) -> Vec<(Range<usize>, Mask)> {
        let mut found: Vec<(Range<usize>, Mask)> = Vec::new();
        for at in self.any.matches(text) {
            let Some((mask, expression, holds)) = self.each.get(at) else { continue };
            for captures in expression.captures_iter(text) {
                let Some(part) = captures.get(1).or_else(|| captures.get(0)) else { continue };
                if !part.is_empty() && holds(text, &part.range()) {
                    found.push((part.range(), *mask));
                }
            }
        }
        found.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut joined: Vec<(Range<usize>, Mask)> = Vec::with_capacity(found.len());
        for (range, mask) in found {
            match joined.last_mut() {
                Some((last, _)) if range.start < last.end => last.end = last.end.max(range.end),
                _ => joined.push((range, mask)),
            }
        }
        joined
    }
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
const LABEL: &[u8] = b"PRIVATE KEY";
/// Bytes of a label at most: `-----BEGIN RSA PRIVATE KEY-----` and longer.
const LONGEST: usize = 96;
/// Lines of one key at most: the longest in use have about 300. What begins and never ends hides no more than this.
const MOST_LINES: usize = 1_000;

/// Blocks of private keys, RFC 7468, which begin in one line and end in another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blocks {
    /// Lines since the beginning of the block that this is in.
    inside: Option<usize>,
}

impl Blocks {
    /// The parts of a line that belong to private keys; goes on to the next line.
    pub fn line(&mut self, line: &[u8]) -> Vec<Range<usize>> {
        self.inside = self.inside.map(|lines| lines + 1).filter(|lines| *lines <= MOST_LINES);
        if self.inside.is_none() && memchr::memmem::find(line, BEGIN).is_none() {
            return Vec::new();
        }
        let mut parts = Vec::new();
        let mut from = 0;
        for (at, end, begins) in marks(line) {
            if begins && self.inside.is_none() {
                self.inside = Some(0);
                from = at;
            } else if !begins && self.inside.take().is_some() {
                parts.push(from..end);
                from = end;
            }
        }
        if self.inside.is_some() {
            parts.push(from..line.len());
        }
        parts
    }

    /// Goes over a piece of a line too long to be held. Pieces overlap by [`Blocks::OVERLAP`]; what is seen twice changes nothing.
    pub fn piece(&mut self, piece: &[u8]) {
        for (_, _, begins) in marks(piece) {
            self.inside = begins.then_some(0);
        }
    }

    /// Bytes by which pieces overlap, so that no mark falls between two of them.
    pub const OVERLAP: usize = LONGEST;
}

/// Where private keys begin and end in a line: the mark's range, and whether it begins one.
fn marks(line: &[u8]) -> Vec<(usize, usize, bool)> {
    let mut marks = Vec::new();
    for (mark, begins) in [(BEGIN, true), (END, false)] {
        for at in memchr::memmem::find_iter(line, mark) {
            let label = line.get(at + mark.len()..).unwrap_or_default();
            let label = label.get(..LONGEST.min(label.len())).unwrap_or_default();
            if let Some(length) = memchr::memmem::find(label, DASHES)
                && memchr::memmem::find(label.get(..length).unwrap_or_default(), LABEL).is_some()
            {
                marks.push((at, at + mark.len() + length + DASHES.len(), begins));
            }
        }
    }
    marks.sort_unstable();
    marks
}
