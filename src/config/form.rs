//! The forms that a value of rex.toml can have: how each is read, written and described.

use super::Switch;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::de::{DeArray, DeValue};

type Read<T> = Box<dyn Fn(&DeValue<'_>) -> Option<T>>;
type Bad = Box<dyn Fn(&DeArray<'_>) -> Option<String>>;
type Write<T> = Box<dyn Fn(&T) -> String>;

/// A form of value: the words for it in manuals, and how it is read and written.
pub struct Form<T> {
    pub accepts: String,
    read: Read<T>,
    /// Of a list: the first part that is not as it should be, as it is shown.
    bad: Bad,
    pub write: Write<T>,
}

fn form<T>(accepts: &str, read: impl Fn(&DeValue<'_>) -> Option<T> + 'static, write: impl Fn(&T) -> String + 'static) -> Form<T> {
    Form { accepts: accepts.to_string(), read: Box::new(read), bad: Box::new(|_| None), write: Box::new(write) }
}

impl<T: PartialOrd> Form<T> {
    /// Reads a value and holds it to its range; the error is what would be right.
    pub fn read_within(&self, value: &DeValue<'_>, range: Option<RangeInclusive<T>>) -> Result<T, String> {
        let read = (self.read)(value).ok_or_else(|| match value.as_array().and_then(|items| (self.bad)(items)) {
            Some(bad) => format!("{bad} is none of them: expected {}", self.accepts),
            None => format!("expected {}, not {}", self.accepts, shown(value)),
        })?;
        match range {
            Some(range) if !range.contains(&read) => {
                let (low, high) = ((self.write)(range.start()), (self.write)(range.end()));
                Err(format!("{} is out of range, {low} to {high}", shown(value)))
            }
            _ => Ok(read),
        }
    }
}

/// The value in the user's words, cut when long.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("`\"{}\"`", text.chars().take(60).collect::<String>().escape_debug()),
        DeValue::Integer(number) => format!("`{}`", number.as_str()),
        DeValue::Boolean(word) => format!("`{word}`"),
        DeValue::Array(items) if items.len() <= 8 => {
            format!("[{}]", items.iter().map(|item| shown(item.get_ref())).collect::<Vec<_>>().join(", "))
        }
        other => format!("a value of type {}", other.type_str()),
    }
}

fn integer(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A TOML string of this text.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_string()).to_string()
}

/// Names of units with their sizes, smallest first.
type Units = &'static [(&'static str, u64)];
const TIMES: Units = &[("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
const SIZES: Units = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

fn read_units(text: &str, units: Units) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at_checked(split)?;
    let size = units.iter().find(|(name, _)| *name == unit)?.1;
    digits.parse::<u64>().ok()?.checked_mul(size)
}

/// The value in the largest unit that divides it.
fn write_units(value: u64, units: Units) -> String {
    match units.iter().rev().find(|(_, size)| *size > 1 && value > 0 && value.is_multiple_of(*size)) {
        Some((name, size)) => format!("\"{}{name}\"", value / size),
        None => value.to_string(),
    }
}

pub fn bool() -> Form<bool> {
    form("true or false", |value| value.as_bool(), bool::to_string)
}
pub fn text() -> Form<String> {
    let plain = |text: &&str| !text.chars().any(char::is_control);
    form("text", move |value| value.as_str().filter(plain).map(str::to_string), |text| quoted(text))
}
/// A list of texts.
pub fn texts() -> Form<Vec<String>> {
    list("a list of texts", text())
}
pub fn span() -> Form<Duration> {
    let read = |value: &DeValue<'_>| integer(value).or_else(|| read_units(value.as_str()?, TIMES)).map(Duration::from_secs);
    form("seconds or text like \"90s\", \"5m\", \"1h\", \"1d\"", read, |time| write_units(time.as_secs(), TIMES))
}
pub fn size() -> Form<u64> {
    let read = |value: &DeValue<'_>| integer(value).or_else(|| read_units(value.as_str()?, SIZES));
    form("bytes or text like \"64KiB\", \"256MiB\", \"1GiB\"", read, |size| write_units(*size, SIZES))
}
pub fn count() -> Form<u64> {
    form("a whole number", integer, u64::to_string)
}
pub fn count32() -> Form<u32> {
    form("a whole number", |value| integer(value)?.try_into().ok(), u32::to_string)
}
pub fn switch() -> Form<Switch> {
    let read = |value: &DeValue<'_>| match (value.as_bool(), value.as_str()) {
        (Some(true), _) => Some(Switch::On),
        (Some(false), _) => Some(Switch::Off),
        (None, Some("auto")) => Some(Switch::Auto),
        _ => None,
    };
    let write = |switch: &Switch| match switch {
        Switch::Auto => "\"auto\"".to_string(),
        Switch::On => "true".to_string(),
        Switch::Off => "false".to_string(),
    };
    form("true, false or \"auto\"", read, write)
}

fn list<T: 'static>(accepts: &str, item: Form<T>) -> Form<Vec<T>> {
    let Form { read, write, .. } = item;
    let read = std::rc::Rc::new(read);
    let again = std::rc::Rc::clone(&read);
    let bad = move |items: &DeArray<'_>| items.iter().find(|item| again(item.get_ref()).is_none()).map(|item| shown(item.get_ref()));
    let write_all = move |items: &Vec<T>| format!("[{}]", items.iter().map(&write).collect::<Vec<_>>().join(", "));
    let all = form(accepts, move |value| value.as_array()?.iter().map(|item| read(item.get_ref())).collect(), write_all);
    Form { bad: Box::new(bad), ..all }
}

/// Absolute paths without `..`, so that an exception covers what it seems to cover.
pub fn paths() -> Form<Vec<String>> {
    let read = |value: &DeValue<'_>| {
        let path = value.as_str()?;
        let plain =
            path.starts_with('/') && !path.chars().any(char::is_control) && !path.split('/').any(|part| part == "." || part == "..");
        plain.then(|| path.to_string())
    };
    list("a list of absolute paths without `..`", form("", read, |path: &String| quoted(path)))
}

/// Numeric addresses with ports; names are not looked up at start.
pub fn addresses() -> Form<Vec<String>> {
    let read = |value: &DeValue<'_>| value.as_str()?.parse::<core::net::SocketAddr>().ok().map(|address| address.to_string());
    let one = form("", read, |address: &String| quoted(address));
    let Form { accepts, read, bad, write } = list("a list of addresses like \"127.0.0.1:2222\" or \"[::1]:2222\", at least one", one);
    Form { accepts, read: Box::new(move |value| read(value).filter(|list| !list.is_empty())), bad, write }
}

/// The word of an enumeration's value.
pub fn word_of<T: Copy + PartialEq>(table: &'static [(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

/// One word of a table.
pub fn word<T: Copy + PartialEq + 'static>(table: &'static [(&'static str, T)]) -> Form<T> {
    let accepts = table.iter().map(|(word, _)| quoted(word)).collect::<Vec<_>>().join(", ");
    let read = |value: &DeValue<'_>| table.iter().find(|(word, _)| Some(*word) == value.as_str()).map(|(_, value)| *value);
    form(&accepts, read, |value| quoted(word_of(table, *value)))
}

/// A list of different words of a table; `least` says how many at least.
pub fn words<T: Copy + PartialEq + 'static>(table: &'static [(&'static str, T)], least: usize) -> Form<Vec<T>> {
    let one = word(table);
    let at_least = if least > 0 { ", at least one" } else { "" };
    let accepts = format!("a list of different words of {}{at_least}", one.accepts);
    let Form { accepts, read, bad, write } = list(&accepts, one);
    let different = move |list: &Vec<T>| {
        list.len() >= least && list.iter().enumerate().all(|(i, item)| !list.iter().take(i).any(|other| other == item))
    };
    Form { accepts, read: Box::new(move |value| read(value).filter(&different)), bad, write }
}
