//! Keys with values in text: INI files, files of shell variables, logfmt.

use super::{ParseIniOptions, not_in_form};
use crate::error::Result;
use crate::functions::function::Call;
use crate::functions::value::{Array, Dynamic, IntoScript, Map};
use std::borrow::Cow;

/// INI text as sections of keys.
///
/// # Errors
/// [`crate::error::Kind::BadData`] with the line that is neither section, key, comment nor blank.
pub fn ini(call: &Call<'_>, text: &str, options: &ParseIniOptions) -> Result<Map> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut sections = Map::new();
    let mut name = String::new();
    let mut section = Map::new();
    let mut lines = text.lines().zip(1u64..);
    while let Some((line, number)) = lines.next() {
        if number.is_multiple_of(4096) {
            call.check()?;
        }
        let mut line = Cow::Borrowed(line.trim());
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        while options.continued && line.ends_with('\\') {
            let mut longer = line.trim_end_matches('\\').trim_end().to_owned();
            // Comments between the parts are passed over, as systemd does.
            let Some((next, _)) = lines.by_ref().find(|(next, _)| !next.trim_start().starts_with(['#', ';'])) else {
                line = longer.into();
                break;
            };
            longer.push(' ');
            longer.push_str(next.trim());
            line = longer.into();
        }
        if let Some(inner) = line.strip_prefix('[') {
            let Some(inner) = inner.strip_suffix(']') else {
                return Err(not_in_form("INI", number, None).with_hint("a section has no `]` at its end"));
            };
            store(&mut sections, &name, section);
            name = inner.trim().to_owned();
            // A section that is there again goes on.
            section = sections.remove(name.as_str()).and_then(Dynamic::try_cast::<Map>).unwrap_or_default();
            // Sections without keys are there too.
            sections.insert(name.as_str().into(), Map::new().into_script());
            continue;
        }
        let (key, value) = match line.split_once(options.delim.as_str()) {
            Some((key, value)) => (key.trim(), value_of(value.trim(), options.unquote).into_script()),
            None if options.bare_keys => (&*line, Dynamic::UNIT),
            None => {
                let hint = format!("a line is neither a section, a comment, nor a key with `{}`", options.delim.escape_debug());
                return Err(not_in_form("INI", number, None).with_hint(hint));
            }
        };
        if !options.all {
            section.insert(key.into(), value);
            continue;
        }
        let values = section.entry(key.into()).or_insert_with(|| Array::new().into_script());
        if let Ok(mut values) = values.as_array_mut() {
            values.push(value);
        }
    }
    store(&mut sections, &name, section);
    Ok(sections)
}

/// Puts a section where it belongs; the one without a name only when it has keys.
fn store(sections: &mut Map, name: &str, section: Map) {
    if !name.is_empty() || !section.is_empty() {
        sections.insert(name.into(), section.into_script());
    }
}

fn value_of(value: &str, unquote: bool) -> &str {
    let inner = |quote: char| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
    if unquote { inner('"').or_else(|| inner('\'')).unwrap_or(value) } else { value }
}

/// Lines of `key=value` as a shell reads them.
///
/// # Errors
/// [`crate::error::Kind::BadData`] for a line that has no key, and for quotes that do not close.
pub fn lines(call: &Call<'_>, text: &str, delim: &str, quotes: bool) -> Result<Map> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut map = Map::new();
    let mut number = 1u64;
    while !rest.is_empty() {
        if number.is_multiple_of(4096) {
            call.check()?;
        }
        let line = rest.split('\n').next().unwrap_or("");
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with('#') {
            rest = rest.get(line.len() + 1..).unwrap_or("");
            number += 1;
            continue;
        }
        let Some((key, value)) = line.split_once(delim) else {
            let hint = format!("a line is neither a comment nor a key with `{}`", delim.escape_debug());
            return Err(not_in_form("keys with values", number, None).with_hint(hint));
        };
        let key = key.trim();
        let key = key.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).map_or(key, str::trim);
        if key.is_empty() {
            return Err(not_in_form("keys with values", number, None).with_hint("a line has no key"));
        }
        if !quotes {
            map.insert(key.into(), value.trim().into_script());
            rest = rest.get(line.len() + 1..).unwrap_or("");
            number += 1;
            continue;
        }
        let from = line.len() - value.len();
        let Some((value, used)) = shell_value(rest.get(from..).unwrap_or("")) else {
            return Err(not_in_form("keys with values", number, None).with_hint("quotes do not close"));
        };
        map.insert(key.into(), value.into_script());
        let (done, left) = rest.split_at_checked(from + used).unwrap_or((rest, ""));
        number += done.matches('\n').count() as u64;
        rest = left;
    }
    Ok(map)
}

/// A value from the delimiter on, and how many bytes of the text it takes with its line end; nothing where quotes do not close.
fn shell_value(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    // What was quoted or escaped stays whatever it is.
    let mut kept = 0;
    let mut chars = text.char_indices();
    let mut blank = true;
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' => return Some((trimmed(value, kept), at + 1)),
            '#' if blank => {
                let end = text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |end| at + end + 1);
                return Some((trimmed(value, kept), end));
            }
            '\'' => loop {
                match chars.next()?.1 {
                    '\'' => break,
                    c => value.push(c),
                }
            },
            '"' => loop {
                match chars.next()?.1 {
                    '"' => break,
                    '\\' => match chars.next()?.1 {
                        c @ ('"' | '\\' | '$' | '`') => value.push(c),
                        '\n' => {}
                        c => value.extend(['\\', c]),
                    },
                    c => value.push(c),
                }
            },
            '\\' => match chars.next() {
                Some((_, '\n')) | None => {}
                Some((_, c)) => value.push(c),
            },
            c if c.is_whitespace() => {
                // Spaces before the value are not part of it.
                if !value.is_empty() || kept > 0 {
                    value.push(c);
                }
                blank = true;
                continue;
            }
            c => value.push(c),
        }
        blank = false;
        kept = value.len();
    }
    Some((trimmed(value, kept), text.len()))
}

fn trimmed(mut value: String, kept: usize) -> String {
    value.truncate(kept);
    value
}

/// A line of logfmt.
///
/// # Errors
/// [`crate::error::Kind::BadData`] when quotes do not close or a pair has no key.
pub fn logfmt(text: &str, delim: &str, quotes: bool) -> Result<Map> {
    let wrong = |hint: &str| Err(not_in_form("keys with values", 1, None).with_hint(hint));
    let mut map = Map::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let word = rest.get(..end).unwrap_or("");
        let Some(at) = word.find(delim) else {
            map.insert(word.into(), true.into_script());
            rest = rest.get(end..).unwrap_or("").trim_start();
            continue;
        };
        let key = word.get(..at).unwrap_or("");
        if key.is_empty() {
            return wrong("a pair has no key");
        }
        let value = rest.get(at + delim.len()..).unwrap_or("");
        if quotes && value.starts_with('"') {
            let Some((value, used)) = quoted(value) else { return wrong("quotes do not close") };
            map.insert(key.into(), value.into_script());
            rest = rest.get(at + delim.len() + used..).unwrap_or("").trim_start();
        } else {
            map.insert(key.into(), word.get(at + delim.len()..).unwrap_or("").into_script());
            rest = rest.get(end..).unwrap_or("").trim_start();
        }
    }
    Ok(map)
}

/// Text in double quotes at the beginning, and how many bytes it takes.
fn quoted(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, at + 1)),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                c => c,
            }),
            (_, c) => value.push(c),
        }
    }
}
