//! The value of one key of a TOML file: the text of that value is exchanged, every other byte stays.

use super::lines::Edited;
use crate::error::{Error, Kind, Result, bad_argument};
use crate::functions::value::{Array, Dynamic, Map, plain_type};
use std::ops::Range;
use toml_edit::{Document, InlineTable, Item, Key, Table, Value};

/// Deeper values are not written.
const DEEPEST: usize = 32;

/// The contents with the key set, or without it.
///
/// # Errors
/// [`Kind::NotText`]; [`Kind::BadData`] for what is not TOML, and where the key is no value of its own.
pub fn set_key(bytes: &[u8], section: &[String], key: &str, value: Option<&Value>, comment: bool) -> Result<Edited> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::new(Kind::NotText, "bytes that are not UTF-8; nothing was written"))?;
    let document = parse(text)?;
    let mut place = place(&document, section)?;
    // `server.port` is the key `port` of the table `server`, unless a key is written like that.
    let mut path = section.to_vec();
    let mut key = key;
    if place.get(key).is_none()
        && let Some((tables, last)) = key.rsplit_once('.')
    {
        path.extend(tables.split('.').map(str::to_owned));
        match self::place(&document, &path) {
            Ok(found @ (Place::Table(_) | Place::Inline(_))) if !last.is_empty() => (place, key) = (found, last),
            _ => path.truncate(section.len()),
        }
    }
    let section = path.as_slice();
    let (at, new) = match (place.get(key), value) {
        (None, None) => return Ok(Edited { bytes: bytes.to_vec(), line: None }),
        (Some(Item::Value(old)), Some(value)) if same(old, value) => {
            return Ok(Edited { bytes: bytes.to_vec(), line: old.span().map(|span| line_at(text, span.start)) });
        }
        (Some(Item::Value(old)), Some(value)) => {
            let span = old.span().ok_or_else(unclear)?;
            (span.start, spliced(text, span, &value.to_string()))
        }
        (Some(Item::Value(old)), None) => {
            if matches!(place, Place::Inline(_)) {
                return Err(inline());
            }
            let span = old.span().ok_or_else(unclear)?;
            let range = line_start(text, span.start)..line_end(text, span.end);
            (range.start, spliced(text, range, ""))
        }
        (Some(_), _) => return Err(Error::new(Kind::BadData, "the key is a table, not a value; nothing was written")),
        (None, Some(value)) => insert(text, &document, &place, section, key, value, comment)?,
    };
    // Reads it back: whatever the text looked like, only a result that says what was asked for is written.
    let check = parse(&new).map_err(|_| unclear())?;
    let right = match (self::place(&check, section).map_err(|_| unclear())?.get(key), value) {
        (None, None) => true,
        (Some(Item::Value(found)), Some(value)) => same(found, value),
        _ => false,
    };
    if !right {
        return Err(unclear());
    }
    let line = value.map_or_else(|| line_at(text, at), |_| line_at(&new, at));
    Ok(Edited { line: Some(line), bytes: new.into_bytes() })
}

fn unclear() -> Error {
    Error::new(Kind::BadData, "it is not clear where in the text this belongs; nothing was written").with_hint("`edit_line` changes lines")
}

fn inline() -> Error {
    Error::new(Kind::BadData, "its table is written on one line, between braces; nothing was written")
        .with_hint("`edit_line` changes the line")
}

fn parse(text: &str) -> Result<Document<&str>> {
    Document::parse(text).map_err(|error| {
        let place = error.span().map_or_else(String::new, |span| format!(" (line {})", line_at(text, span.start)));
        Error::new(Kind::BadData, format!("the file is not TOML{place}; nothing was written"))
    })
}

/// Where a section is.
enum Place<'d> {
    Table(&'d Table),
    Inline(&'d InlineTable),
    Nowhere,
}

impl<'d> Place<'d> {
    fn get(&self, key: &str) -> Option<&'d Item> {
        match self {
            Self::Table(table) => table.get(key).filter(|item| !item.is_none()),
            // The items of an inline table are values; `as_item` of a table is not there for them.
            Self::Inline(table) => toml_edit::TableLike::get(*table, key).filter(|item| !item.is_none()),
            Self::Nowhere => None,
        }
    }
}

fn place<'d>(document: &'d Document<&str>, section: &[String]) -> Result<Place<'d>> {
    let mut place = Place::Table(document.as_table());
    for name in section {
        place = match place.get(name) {
            None => return Ok(Place::Nowhere),
            Some(Item::Table(table)) => Place::Table(table),
            Some(Item::Value(Value::InlineTable(table))) => Place::Inline(table),
            Some(_) => return Err(Error::new(Kind::BadData, "a part of `section` is no table; nothing was written")),
        };
    }
    Ok(place)
}

/// The place of a new key, and the text with it.
fn insert(
    text: &str,
    document: &Document<&str>,
    place: &Place<'_>,
    section: &[String],
    key: &str,
    value: &Value,
    comment: bool,
) -> Result<(usize, String)> {
    let line = format!("{} = {value}", Key::new(key));
    let table = match place {
        Place::Inline(_) => return Err(inline()),
        Place::Table(table) if section.is_empty() || !(table.is_implicit() || table.is_dotted()) => table,
        Place::Table(_) | Place::Nowhere => {
            let name: Vec<String> = section.iter().map(|name| Key::new(name).to_string()).collect();
            let blank = if text.trim().is_empty() { "" } else { "\n" };
            return Ok(put(text, text.len(), &format!("{blank}[{}]\n{line}", name.join("."))));
        }
    };
    let start = if section.is_empty() { 0 } else { line_end(text, table.span().ok_or_else(unclear)?.start) };
    let end = first_header(text, document, start);
    let commented = || {
        let mut at = start;
        let mut found = None;
        for line in text.get(start..end)?.split_inclusive('\n') {
            at += line.len();
            let rest = line.trim_start().strip_prefix('#').and_then(|rest| rest.trim_start_matches('#').trim_start().strip_prefix(key));
            if rest.is_some_and(|rest| rest.trim_start().starts_with('=')) {
                found = Some(at);
            }
        }
        found
    };
    let values = table.get_values().iter().filter_map(|(_, value)| value.span()).map(|span| line_end(text, span.end)).max();
    let at = comment.then(commented).flatten().or(values).unwrap_or_else(|| {
        if !section.is_empty() {
            return start;
        }
        // Nothing but comments: behind them, but not between a header and what stands right above it.
        if end == text.len() { end } else { text.get(..end).and_then(|above| above.rfind("\n\n")).map_or(0, |at| at + 1) }
    });
    Ok(put(text, at, &line))
}

/// Where the next header of a table is, from here on.
fn first_header(text: &str, document: &Document<&str>, from: usize) -> usize {
    fn visit(table: &Table, from: usize, first: &mut usize) {
        let mut see = |table: &Table| {
            if let Some(span) = table.span().filter(|span| span.start >= from && !table.is_implicit() && !table.is_dotted()) {
                *first = (*first).min(span.start);
            }
            visit(table, from, first);
        };
        for (_, item) in table {
            match item {
                Item::Table(table) => see(table),
                Item::ArrayOfTables(tables) => tables.iter().for_each(&mut see),
                _ => {}
            }
        }
    }
    let mut first = text.len();
    visit(document.as_table(), from, &mut first);
    line_start(text, first)
}

/// Lines put in at the beginning of a line, with the line ends of the file; what had no end at the end keeps none.
fn put(text: &str, at: usize, lines: &str) -> (usize, String) {
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let lines = lines.replace('\n', ending);
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let last = lines.rfind('\n').map_or(0, |at| at + 1);
    if before.is_empty() || before.ends_with('\n') {
        (at + last, format!("{before}{lines}{ending}{after}"))
    } else {
        (at + ending.len() + last, format!("{before}{ending}{lines}{after}"))
    }
}

fn spliced(text: &str, range: Range<usize>, new: &str) -> String {
    format!("{}{new}{}", text.get(..range.start).unwrap_or_default(), text.get(range.end..).unwrap_or_default())
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1)
}

/// Behind the end of the line.
fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |found| at + found + 1)
}

fn line_at(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or_default().matches('\n').count() + 1
}

/// Whether two values say the same, however they are written.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.value() == b.value(),
        (Value::Integer(a), Value::Integer(b)) => a.value() == b.value(),
        (Value::Float(a), Value::Float(b)) => a.value().to_bits() == b.value().to_bits(),
        (Value::Boolean(a), Value::Boolean(b)) => a.value() == b.value(),
        (Value::Datetime(a), Value::Datetime(b)) => a.value() == b.value(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::InlineTable(a), Value::InlineTable(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => false,
    }
}

/// A value of the script as one of TOML.
///
/// # Errors
/// [`Kind::BadArgument`] for what TOML has no form for.
pub fn value(from: &Dynamic) -> Result<Value> {
    convert(from, 0)
}

fn convert(from: &Dynamic, depth: usize) -> Result<Value> {
    if depth > DEEPEST {
        return Err(bad_argument("`value`: nested too deep"));
    }
    if let Some(array) = from.read_lock::<Array>() {
        return Ok(Value::Array(array.iter().map(|item| convert(item, depth + 1)).collect::<Result<_>>()?));
    }
    if let Some(map) = from.read_lock::<Map>() {
        let rows = map.iter().map(|(key, value)| Ok((Key::new(key.as_str()), convert(value, depth + 1)?)));
        return Ok(Value::InlineTable(rows.collect::<Result<_>>()?));
    }
    if let Ok(value) = from.as_bool() {
        return Ok(value.into());
    }
    if let Ok(value) = from.as_int() {
        return Ok(value.into());
    }
    if let Ok(value) = from.as_float() {
        return Ok(value.into());
    }
    let text = from.clone().into_string();
    text.map(Value::from).map_err(|name| bad_argument(format!("`value`: {} cannot be written as TOML", plain_type(name))))
}
