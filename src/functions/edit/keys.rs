//! The value of one key in files of lines: environment files, INI, plain `key value` files, the configuration of ssh.

use super::lines::{Edited, Text};
use crate::error::{Error, Kind, Result, bad_argument};
use std::ops::Range;

/// How a file of lines is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `KEY=value`, as shells, systemd's EnvironmentFile and os-release read it; the last one counts.
    Env,
    /// `[section]` and `key = value`.
    Ini,
    /// The same without comments behind values: units of systemd, desktop entries.
    Unit,
    /// `key = value`, `key: value` or `key value`, whichever the file uses.
    Conf,
    /// ssh_config(5) and sshd_config(5): `Key value`, in blocks that `Host` and `Match` begin; the first one counts.
    Ssh,
}

/// Which of several lines with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    First,
    Last,
    All,
}

/// How a value is put between quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quote {
    /// As the old one was; of a new one as the form needs it.
    Auto,
    None,
    Single,
    Double,
}

/// What shall be set.
pub struct KeyEdit<'a> {
    pub form: Form,
    pub section: Option<&'a str>,
    pub key: &'a str,
    /// Nothing: the key shall go.
    pub value: Option<&'a str>,
    pub separator: Option<&'a str>,
    pub quote: Quote,
    pub which: Option<Which>,
    /// A commented line with the key shows where a new one goes.
    pub comment: bool,
}

/// Where in an entry's text its parts are.
#[derive(Clone, Debug)]
struct Parts {
    /// Everything before the value: indent, `export`, key, separator.
    lead: Range<usize>,
    /// The separator, with the blanks around it.
    separator: Range<usize>,
    /// The value with its quotes.
    value: Range<usize>,
    /// Blanks and a comment.
    tail: Range<usize>,
}

/// Lines that belong together: one, or more where one goes on in the next.
struct Entry {
    rows: Range<usize>,
    text: Vec<u8>,
    comment: bool,
}

/// The contents with the key set.
///
/// # Errors
/// [`Kind::BadData`] where it is not clear which line is meant; [`Kind::BadArgument`] for what the form cannot hold.
pub fn set_key(bytes: &[u8], edit: &KeyEdit<'_>) -> Result<Edited> {
    edit.check()?;
    let mut text = Text::new(bytes);
    let entries = edit.entries(&text);
    let Some(region) = edit.region(&text, &entries) else {
        return edit.without_section(text, bytes);
    };
    let sign = edit.separates_with(&entries);
    let found: Vec<(&Entry, Parts)> = entries
        .iter()
        .filter(|entry| !entry.comment && region.holds(entry))
        .filter_map(|entry| Some((entry, edit.parts(&entry.text, sign)?)))
        .collect();
    if found.is_empty() {
        edit.is_no_path(&text, &entries, sign)?;
    }
    let line = match edit.value {
        None => {
            for (entry, _) in found.iter().rev() {
                text.remove(entry.rows.clone());
            }
            found.first().map(|(entry, _)| entry.rows.start)
        }
        Some(value) if found.is_empty() => {
            let (at, line) = edit.newcomer(&text, &entries, &region, value)?;
            text.insert(at, &line);
            Some(at)
        }
        Some(value) => {
            let chosen = edit.chosen(&found)?;
            for (entry, parts) in chosen.iter().rev() {
                if let Some(new) = edit.renewed(entry, parts, value)? {
                    edit.is_clear(&text, entry)?;
                    text.set(entry.rows.start, &new);
                    text.remove(entry.rows.start + 1..entry.rows.end);
                }
            }
            chosen.last().map(|(entry, _)| entry.rows.start)
        }
    };
    let new = text.join();
    edit.is_there(&new)?;
    Ok(Edited { bytes: new, line: line.map(|at| at + 1) })
}

/// The lines of a section.
struct Region {
    ranges: Vec<Range<usize>>,
}

impl Region {
    fn holds(&self, entry: &Entry) -> bool {
        self.ranges.iter().any(|range| range.contains(&entry.rows.start))
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn blanks(text: &[u8], from: usize) -> usize {
    text.iter().skip(from).take_while(|byte| is_blank(**byte)).count()
}

fn is_comment(line: &[u8]) -> bool {
    matches!(line.trim_ascii_start().first(), Some(b'#' | b';'))
}

impl KeyEdit<'_> {
    fn check(&self) -> Result<()> {
        let plain = |text: &str| !text.chars().any(char::is_control) && text.trim() == text && !text.is_empty();
        let fine = plain(self.key)
            && !self.key.starts_with(['#', ';', '[', '"', '\''])
            && !self.key.contains('=')
            && (!matches!(self.form, Form::Env | Form::Ssh) || !self.key.contains(char::is_whitespace))
            && (self.form != Form::Env || self.key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')));
        if !fine {
            return Err(bad_argument("`key` cannot be a key in this format"));
        }
        if self.section.is_some_and(|section| !plain(section) || (self.form != Form::Ssh && section.contains(['[', ']']))) {
            return Err(bad_argument("option `section`: cannot be the name of a section"));
        }
        if self.section.is_some() && matches!(self.form, Form::Env | Form::Conf) {
            return Err(
                bad_argument("option `section`: this format has no sections").with_hint("`format: \"ini\"`, or \"toml\" or \"ssh\"")
            );
        }
        if self.value.is_some_and(|value| value.contains(['\n', '\r', '\0'])) {
            return Err(bad_argument("`value`: a value of several lines cannot be written in this format").with_hint("see `replace_block`"));
        }
        if let Some(separator) = self.separator {
            let fits = match self.form {
                Form::Env => separator == "=",
                Form::Ini | Form::Unit => matches!(separator.trim(), "=" | ":"),
                Form::Conf => matches!(separator.trim(), "=" | ":" | ""),
                Form::Ssh => matches!(separator.trim(), "=" | ""),
            };
            if !fits || separator.is_empty() || !separator.bytes().all(|byte| is_blank(byte) || matches!(byte, b'=' | b':')) {
                return Err(bad_argument("option `separator`: not one of this format: blanks, or `=` or `:` with blanks around it"));
            }
        }
        Ok(())
    }

    /// The entries of a file, in order; empty lines are none.
    fn entries(&self, text: &Text<'_>) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let start = at;
            let mut whole = text.line(at).to_vec();
            at += 1;
            if whole.trim_ascii().is_empty() {
                continue;
            }
            let comment = is_comment(&whole);
            while !comment && at < text.len() && self.goes_on(&whole) {
                whole.push(b'\n');
                whole.extend_from_slice(text.line(at));
                at += 1;
            }
            entries.push(Entry { rows: start..at, text: whole, comment });
        }
        entries
    }

    /// Whether the next line belongs to this one.
    fn goes_on(&self, text: &[u8]) -> bool {
        if self.form == Form::Ssh {
            return false;
        }
        if text.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1 {
            return true;
        }
        if self.form != Form::Env {
            return false;
        }
        let Some(value) = text.iter().position(|byte| *byte == b'=').and_then(|at| text.get(at + 1..)) else { return false };
        match value.first() {
            Some(quote @ (b'"' | b'\'')) => closing(value, *quote).is_none(),
            _ => false,
        }
    }

    /// The name of the section that a line begins.
    fn header<'t>(&self, entry: &'t Entry) -> Option<&'t [u8]> {
        let line = entry.text.trim_ascii();
        match self.form {
            Form::Ini | Form::Unit if !entry.comment => {
                let inside = line.strip_prefix(b"[")?;
                let end = inside.strip_suffix(b"]").map(<[u8]>::len).or_else(|| inside.iter().position(|byte| *byte == b']'))?;
                inside.get(..end).map(<[u8]>::trim_ascii)
            }
            Form::Ssh if !entry.comment => {
                let word = line.split(|byte| is_blank(*byte) || *byte == b'=').next()?;
                (word.eq_ignore_ascii_case(b"match") || word.eq_ignore_ascii_case(b"host")).then_some(line)
            }
            _ => None,
        }
    }

    /// The lines where the key is looked for; nothing where the section is not there.
    fn region(&self, text: &Text<'_>, entries: &[Entry]) -> Option<Region> {
        let headers: Vec<(usize, &[u8])> = entries.iter().filter_map(|entry| Some((entry.rows.start, self.header(entry)?))).collect();
        let Some(section) = self.section else {
            let end = headers.first().map_or(text.len(), |(at, _)| *at);
            return Some(Region { ranges: std::iter::once(0..end).collect() });
        };
        let same = |name: &[u8]| match self.form {
            Form::Ssh => String::from_utf8_lossy(name)
                .split_ascii_whitespace()
                .map(str::to_ascii_lowercase)
                .eq(section.split_ascii_whitespace().map(str::to_ascii_lowercase)),
            _ => name == section.as_bytes(),
        };
        let ends = headers.iter().skip(1).map(|(at, _)| *at).chain([text.len()]);
        let ranges: Vec<Range<usize>> =
            headers.iter().zip(ends).filter(|((_, name), _)| same(name)).map(|((start, _), end)| *start..end).collect();
        (!ranges.is_empty()).then_some(Region { ranges })
    }

    /// Refuses a key such as `database.port` where a section `database` is there: it would be a new key before the first section.
    fn is_no_path(&self, text: &Text<'_>, entries: &[Entry], sign: Option<u8>) -> Result<()> {
        if self.section.is_some() || self.form == Form::Ssh {
            return Ok(());
        }
        let headers: Vec<&[u8]> = entries.iter().filter_map(|entry| self.header(entry)).collect();
        let mut parts = self.key.rmatch_indices('.').map(|(at, _)| self.key.split_at(at));
        let Some((section, rest)) = parts.find(|(section, _)| headers.contains(&section.as_bytes())) else { return Ok(()) };
        // php.ini has keys with the section's name in them.
        let inside = KeyEdit { section: Some(section), ..*self };
        let whole = inside.region(text, entries).is_some_and(|region| {
            entries.iter().any(|entry| !entry.comment && region.holds(entry) && inside.parts(&entry.text, sign).is_some())
        });
        let key = if whole { self.key } else { rest.trim_start_matches('.') };
        Err(bad_argument(format!("`key`: there is no key `{}`, but a section `{section}`; nothing was written", self.key))
            .with_hint(format!("set_key(path, \"{key}\", …, #{{section: \"{section}\"}})")))
    }

    /// Whether the file writes `key = value` (or `key: value`); of a plain file that is what most of its lines do.
    fn separates_with(&self, entries: &[Entry]) -> Option<u8> {
        if let Some(separator) = self.separator {
            return separator.trim().bytes().next();
        }
        match self.form {
            Form::Env | Form::Ini | Form::Unit => Some(b'='),
            Form::Ssh => None,
            Form::Conf => {
                let sign = |entry: &&Entry| {
                    let line = entry.text.trim_ascii();
                    let word = line.iter().position(|byte| is_blank(*byte) || matches!(byte, b'=' | b':')).unwrap_or(line.len());
                    line.get(word + blanks(line, word)).copied().filter(|byte| matches!(byte, b'=' | b':'))
                };
                let count =
                    |wanted: Option<u8>| entries.iter().filter(|entry| !entry.comment).filter(|entry| sign(entry) == wanted).count();
                let (equals, colons, blank) = (count(Some(b'=')), count(Some(b':')), count(None));
                if equals >= blank && equals >= colons {
                    Some(b'=')
                } else if colons >= blank {
                    Some(b':')
                } else {
                    None
                }
            }
        }
    }

    /// The parts of an entry, if it is one of the key.
    fn parts(&self, text: &[u8], sign: Option<u8>) -> Option<Parts> {
        let mut at = blanks(text, 0);
        if self.form == Form::Env && text.get(at..)?.starts_with(b"export") && blanks(text, at + 6) > 0 {
            at += 6 + blanks(text, at + 6);
        }
        let key = text.get(at..at + self.key.len())?;
        if !(key == self.key.as_bytes() || self.form == Form::Ssh && key.eq_ignore_ascii_case(self.key.as_bytes())) {
            return None;
        }
        at += self.key.len();
        let start = at;
        if self.form != Form::Env {
            at += blanks(text, at);
        }
        let fits = |byte: u8| match self.form {
            Form::Env | Form::Ssh => byte == b'=',
            // Where `=` is what the file uses, `:` is read too, as the readers of such files do; `a b = c` is another key.
            Form::Ini | Form::Unit if self.separator.is_none() => matches!(byte, b'=' | b':'),
            _ => sign == Some(byte),
        };
        match text.get(at) {
            Some(byte) if fits(*byte) => {
                at += 1;
                if self.form != Form::Env {
                    at += blanks(text, at);
                }
            }
            Some(b'\n') | None if self.form != Form::Env => {}
            Some(b'#' | b';') if at > start && self.form != Form::Env => {}
            Some(_) if at > start && (self.form == Form::Ssh || self.form == Form::Conf && sign.is_none()) => {}
            _ => return None,
        }
        let value = self.value_end(text, at);
        Some(Parts { lead: 0..at, separator: start..at, value: at..value, tail: value..text.len() })
    }

    /// Where the value ends that begins here: before the blanks and the comment behind it.
    fn value_end(&self, text: &[u8], from: usize) -> usize {
        let value = text.get(from..).unwrap_or_default();
        let trimmed = |value: &[u8]| from + value.trim_ascii_end().len();
        if self.form == Form::Unit {
            return trimmed(value);
        }
        let comment = |byte: u8| byte == b'#' || (byte == b';' && self.form == Form::Ini);
        if let Some(quote @ (b'"' | b'\'')) = value.first()
            && let Some(end) = closing(value, *quote)
        {
            let rest = value.get(end..).unwrap_or_default();
            let skipped = blanks(rest, 0);
            if rest.trim_ascii().is_empty() || skipped > 0 && rest.get(skipped).is_some_and(|byte| comment(*byte)) {
                return from + end;
            }
        }
        // A comment begins behind a blank and outside quotes; a quote that is never closed is an apostrophe.
        let mut at = 0;
        while let Some(byte) = value.get(at) {
            let behind_blank = at == 0 || value.get(at - 1).is_some_and(|byte| is_blank(*byte));
            if comment(*byte) && behind_blank {
                return trimmed(value.get(..at).unwrap_or_default());
            }
            let quoted =
                (*byte == b'"' || *byte == b'\'' && behind_blank).then(|| closing(value.get(at..).unwrap_or_default(), *byte)).flatten();
            at += quoted.unwrap_or(1);
        }
        trimmed(value)
    }

    /// The entries that are to get the value.
    fn chosen<'e>(&self, found: &'e [(&'e Entry, Parts)]) -> Result<&'e [(&'e Entry, Parts)]> {
        let which = match (self.which, self.form) {
            (Some(which), _) => which,
            (None, Form::Env) => Which::Last,
            (None, _) if found.len() > 1 => {
                let lines: Vec<String> = found.iter().map(|(entry, _)| (entry.rows.start + 1).to_string()).collect();
                return Err(Error::new(Kind::BadData, format!("lines {} all have the key; nothing was written", lines.join(", ")))
                    .with_hint("`duplicates: \"first\"`, \"last\" or \"all\" says which is meant"));
            }
            (None, _) => Which::Last,
        };
        Ok(match which {
            Which::First => found.get(..1),
            Which::Last => found.get(found.len().saturating_sub(1)..),
            Which::All => Some(found),
        }
        .unwrap_or_default())
    }

    /// The new text of an entry; nothing where it has the value already.
    fn renewed(&self, entry: &Entry, parts: &Parts, value: &str) -> Result<Option<Vec<u8>>> {
        let old = entry.text.get(parts.value.clone()).unwrap_or_default();
        let style = style_of(old);
        let wanted = match (self.quote, style) {
            // Between single quotes there is no way to write one.
            (Quote::Auto, Some(Quote::Single)) if self.form == Form::Env && value.contains('\'') => Quote::Double,
            (Quote::Auto, style) => style.unwrap_or(Quote::Auto),
            (quote, _) => quote,
        };
        if self.meaning(old) == value.as_bytes() && (self.quote == Quote::Auto || style.unwrap_or(Quote::None) == self.quote) {
            return Ok(None);
        }
        let mut new = entry.text.get(parts.lead.clone()).unwrap_or_default().to_vec();
        if parts.separator.is_empty() {
            new.extend_from_slice(self.separator.unwrap_or(self.usual()).as_bytes());
        }
        new.extend_from_slice(self.written(value, wanted)?.as_bytes());
        let tail = entry.text.get(parts.tail.clone()).unwrap_or_default();
        if tail.first().is_some_and(|byte| !is_blank(*byte)) {
            // There was no value, so the comment stood right behind the blanks before it.
            new.push(b' ');
        }
        new.extend_from_slice(tail);
        if new.contains(&b'\n') {
            return Err(Error::new(
                Kind::BadData,
                "the value goes on over several lines in a way that is not understood; nothing was written",
            ));
        }
        Ok(Some(new))
    }

    /// An INI reader may take a line that is indented more for more of the value above it: then it is not clear what to change.
    fn is_clear(&self, text: &Text<'_>, entry: &Entry) -> Result<()> {
        let next = text.line(entry.rows.end);
        let deeper = blanks(next, 0) > blanks(&entry.text, 0) && !next.trim_ascii().is_empty() && !is_comment(next);
        if self.form == Form::Ini && deeper {
            return Err(Error::new(Kind::BadData, format!("the value may go on in line {}; nothing was written", entry.rows.end + 1))
                .with_hint("`edit_line` and `replace_block` change lines whatever they mean"));
        }
        Ok(())
    }

    /// Where a new entry goes, and its text.
    fn newcomer(&self, text: &Text<'_>, entries: &[Entry], region: &Region, value: &str) -> Result<(usize, Vec<u8>)> {
        let sign = self.separates_with(entries);
        let inside = || entries.iter().filter(|entry| region.holds(entry));
        let line = |like: Option<&Entry>, separator: Option<&[u8]>| -> Result<Vec<u8>> {
            let mut line = like.map_or(Vec::new(), |entry| entry.text.get(..blanks(&entry.text, 0)).unwrap_or_default().to_vec());
            line.extend_from_slice(self.key.as_bytes());
            line.extend_from_slice(self.separator.map(str::as_bytes).or(separator).unwrap_or(match (self.form, sign) {
                (Form::Conf, Some(b':')) => b": ",
                (Form::Conf, None) => b" ",
                _ => self.usual().as_bytes(),
            }));
            line.extend_from_slice(self.written(value, self.quote)?.as_bytes());
            Ok(line)
        };
        if self.comment
            && let Some((entry, separator)) = inside().filter_map(|entry| Some((entry, self.commented(entry, sign)?))).next_back()
        {
            return Ok((entry.rows.end, line(None, Some(separator).filter(|separator| !separator.is_empty()))?));
        }
        // Like the entry above it; a header is one too, but does not lend its indent.
        let last = inside().rfind(|entry| !entry.comment);
        let like = last.filter(|entry| self.header(entry).is_none());
        let separator = entries
            .iter()
            .rev()
            .filter(|entry| !entry.comment && self.header(entry).is_none())
            .find_map(|entry| separator_of(&entry.text, sign));
        let at = match last {
            Some(entry) => entry.rows.end,
            // Nothing but comments: behind them, but before what stands right above the next section.
            None if self.section.is_none() => {
                let end = region.ranges.last().map_or(text.len(), |range| range.end);
                if end == text.len() { end } else { (0..end).rev().find(|at| text.line(*at).trim_ascii().is_empty()).unwrap_or(0) }
            }
            None => region.ranges.last().map_or(text.len(), |range| range.end),
        };
        let at = if self.section.is_none() && matches!(self.form, Form::Env | Form::Conf) { text.len() } else { at };
        let indent = if self.form == Form::Ssh && self.section.is_some() && like.is_none() { &b"    "[..] } else { b"" };
        let mut new = indent.to_vec();
        new.extend(line(like.filter(|_| !matches!(self.form, Form::Env | Form::Conf)), separator)?);
        Ok((at, new))
    }

    /// The separator of a line that is this key's default, commented out.
    fn commented<'t>(&self, entry: &'t Entry, sign: Option<u8>) -> Option<&'t [u8]> {
        if !entry.comment {
            return None;
        }
        let start = blanks(&entry.text, 0);
        let marks = entry.text.iter().skip(start).take_while(|byte| matches!(byte, b'#' | b';')).count();
        let text = entry.text.get(start + marks..)?;
        let parts = self.parts(text, sign)?;
        let separator = text.get(parts.separator.clone())?;
        // A sentence may begin with the key: where blanks separate, a default stands right behind the mark.
        let sentence = separator.trim_ascii().is_empty() && (blanks(text, 0) > 0 || parts.value.is_empty());
        (!sentence).then_some(separator)
    }

    /// A section that is not there: made for a key, and nothing to do for its removal.
    fn without_section(&self, mut text: Text<'_>, bytes: &[u8]) -> Result<Edited> {
        let (Some(section), Some(value)) = (self.section, self.value) else {
            return Ok(Edited { bytes: bytes.to_vec(), line: None });
        };
        if self.form == Form::Ssh {
            return Err(Error::new(Kind::BadData, "there is no such block; nothing was written")
                .with_hint("`section` is the whole line that begins it, such as `Match User backup`; `replace_block` makes one"));
        }
        if !text.is_empty() && !text.line(text.len() - 1).trim_ascii().is_empty() {
            text.insert(text.len(), b"");
        }
        let entries = self.entries(&text);
        let separator = entries
            .iter()
            .rev()
            .filter(|entry| !entry.comment && self.header(entry).is_none())
            .find_map(|entry| separator_of(&entry.text, Some(b'=')));
        text.insert(text.len(), format!("[{section}]").as_bytes());
        let mut line = self.key.as_bytes().to_vec();
        line.extend_from_slice(self.separator.map(str::as_bytes).or(separator).unwrap_or(self.usual().as_bytes()));
        line.extend_from_slice(self.written(value, self.quote)?.as_bytes());
        text.insert(text.len(), &line);
        let new = text.join();
        self.is_there(&new)?;
        Ok(Edited { bytes: new, line: Some(text.len()) })
    }

    /// The separator where nothing shows another.
    const fn usual(&self) -> &'static str {
        match self.form {
            Form::Env | Form::Unit => "=",
            Form::Ini | Form::Conf => " = ",
            Form::Ssh => " ",
        }
    }

    /// The value as it stands in the file.
    fn written(&self, value: &str, quote: Quote) -> Result<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+,=-".contains(c) || !c.is_ascii();
        match quote {
            Quote::None => Ok(value.to_owned()),
            Quote::Auto if self.form != Form::Env || value.chars().all(plain) => Ok(value.to_owned()),
            Quote::Single if value.contains('\'') => Err(bad_argument("`value`: has a `'`, which cannot stand between such quotes")),
            Quote::Single => Ok(format!("'{value}'")),
            Quote::Double | Quote::Auto if self.form == Form::Env => {
                let escaped: String =
                    value.chars().flat_map(|c| matches!(c, '"' | '\\' | '$' | '`').then_some('\\').into_iter().chain([c])).collect();
                Ok(format!("\"{escaped}\""))
            }
            Quote::Double | Quote::Auto if value.contains('"') || value.ends_with('\\') => {
                Err(bad_argument("`value`: cannot stand between double quotes in this format"))
            }
            Quote::Double | Quote::Auto => Ok(format!("\"{value}\"")),
        }
    }

    /// What a value in the file means.
    fn meaning(&self, written: &[u8]) -> Vec<u8> {
        match style_of(written) {
            Some(style) => {
                let inside = written.get(1..written.len() - 1).unwrap_or_default();
                if self.form != Form::Env || style == Quote::Single {
                    return inside.to_vec();
                }
                let mut meaning = Vec::new();
                let mut bytes = inside.iter().copied().peekable();
                while let Some(byte) = bytes.next() {
                    match bytes.peek() {
                        Some(next @ (b'"' | b'\\' | b'$' | b'`')) if byte == b'\\' => {
                            meaning.push(*next);
                            bytes.next();
                        }
                        _ => meaning.push(byte),
                    }
                }
                meaning
            }
            None => written.to_vec(),
        }
    }

    /// Reads the key back, as whoever reads the file will: what cannot be written so that it means the value is not written.
    fn is_there(&self, bytes: &[u8]) -> Result<()> {
        let text = Text::new(bytes);
        let entries = self.entries(&text);
        let sign = self.separates_with(&entries);
        let region = self.region(&text, &entries);
        let values: Vec<Vec<u8>> = entries
            .iter()
            .filter(|entry| !entry.comment && region.as_ref().is_some_and(|region| region.holds(entry)))
            .filter_map(|entry| self.parts(&entry.text, sign).map(|parts| self.meaning(entry.text.get(parts.value).unwrap_or_default())))
            .collect();
        let right = self.value.map_or(values.is_empty(), |value| match self.which {
            Some(Which::First) => values.first().is_some_and(|found| found == value.as_bytes()),
            Some(Which::All) => !values.is_empty() && values.iter().all(|found| found == value.as_bytes()),
            _ => values.last().is_some_and(|found| found == value.as_bytes()),
        });
        if right {
            return Ok(());
        }
        Err(bad_argument("this cannot be written so that it would be read back as it is; nothing was written")
            .with_hint("`quote: \"double\"`"))
    }
}

/// Whether a value is one piece between quotes.
fn style_of(value: &[u8]) -> Option<Quote> {
    let quote = *value.first()?;
    let style = match quote {
        b'"' => Quote::Double,
        b'\'' => Quote::Single,
        _ => return None,
    };
    (closing(value, quote) == Some(value.len())).then_some(style)
}

/// Behind the quote that closes the one a value begins with.
fn closing(value: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    while let Some(byte) = value.get(at) {
        match byte {
            b'\\' if quote == b'"' => at += 1,
            byte if *byte == quote => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The separator of any entry, with its blanks.
fn separator_of(text: &[u8], sign: Option<u8>) -> Option<&[u8]> {
    let from = blanks(text, 0);
    let at = match sign {
        Some(sign) => text.iter().position(|byte| *byte == sign)?,
        None => from + text.get(from..)?.iter().position(|byte| is_blank(*byte))?,
    };
    let start = text.get(..at)?.iter().rposition(|byte| !is_blank(*byte))? + 1;
    let end = at + usize::from(sign.is_some());
    text.get(start..end + blanks(text, end))
}
