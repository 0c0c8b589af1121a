//! Sorting lines, and what is there more than once: sort, uniq.

use super::function::{Call, Example, Function, param, with2};
use super::lines::{Kept, TextLines};
use super::source::{READS, Source};
use super::value::{Array, Dynamic, ImmutableString, IntoScript, record};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use std::cmp::Ordering;

pub const FUNCTIONS: &[Function] = &[SORT, UNIQ];

const TEXT_FAILS: &[Kind] = &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::NotText, Kind::Permission];

options! {
    /// Options of `sort`.
    SortOptions {
        numeric: bool = false, "By the number that a line begins with, 0 where there is none; exact, however long.", flags &["numeric", "n"];
        human: bool = false, "By sizes such as `2K`, `1.5G`.", flags &["human", "h"];
        version: bool = false, "By versions: `a9` before `a10`, `1.0~rc1` before `1.0`.", flags &["version", "V"];
        reverse: bool = false, "The last first.", flags &["reverse", "r"];
        unique: bool = false, "Of lines that sort as equal, only the first.", flags &["unique", "u"];
        ignore_case: bool = false, "Upper and lower case are the same.", flags &["ignore_case", "f"];
        key: Option<i64> = None, "Sort by this field, from 1, alone, instead of by the whole line.", flags &["key", "k"];
        delim: String = " ".to_owned(), "What stands between two fields; one space means blanks, however many.", flags &["delim", "t"];
        stable: bool = false, "Leave lines that sort as equal in their order, instead of sorting these by the whole line.", flags &["stable", "s"];
        limit: Option<u64> = None, "Only the first so many of the sorted lines.";
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when the lines are more than this.";
        lossy: bool = false, "Take bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const SORT: Function = Function {
    name: "sort",
    doc: "Lines in order, as a new array, as sort(1) in the C locale gives them.\n\nLines are compared byte by byte unless an option says otherwise. `sort(list)` and `list.sort()` of an array alone, without options, work on numbers too; they also sort the array where it is, as is the custom of the language. \
          `sort(list, #{})` leaves it as it is.",
    body: &with2(sort, [param("source", "A file, an open file, an array of lines, or text."), param("options", "")]),
    asks: READS,
    fails: TEXT_FAILS,
    examples: &[
        Example { given: &[("f", "b\nc\na\n")], script: r#"sort(dir + "/f")"#, gives: r#"["a", "b", "c"]"# },
        Example { given: &[("f", "x 10\ny 9\n")], script: r#"sort(dir + "/f", #{key: 2, numeric: true})"#, gives: r#"["y 9", "x 10"]"# },
        Example { given: &[], script: r#"sort(["2K", "1M", "3"], #{human: true, reverse: true})"#, gives: r#"["1M", "2K", "3"]"# },
        Example { given: &[], script: r#"sort([sort::V, sort::u], ["v10", "v9", "v10"])"#, gives: r#"["v9", "v10"]"# },
        Example { given: &[], script: "let list = [3, 1, 2]; list.sort(); list", gives: "[1, 2, 3]" },
        Example { given: &[("f", "2 b\n1 a\n")], script: r#"awk_field(2, " ", dir + "/f").sort()"#, gives: r#"["a", "b"]"# },
        Example {
            given: &[],
            script: r#"let list = ["b", "a"]; let copy = sort(list, #{}); [copy, list]"#,
            gives: r#"[["a", "b"], ["b", "a"]]"#,
        },
    ],
};

/// What a line is sorted by.
#[derive(Clone, Copy)]
enum By {
    Text,
    Number,
    Human,
    Version,
}

fn sort(call: &Call<'_>, source: Source, options: SortOptions) -> Result<Array> {
    let by = match (options.numeric, options.human, options.version) {
        (false, false, false) => By::Text,
        (true, false, false) => By::Number,
        (false, true, false) => By::Human,
        (false, false, true) => By::Version,
        _ => return Err(bad_argument("sort: `numeric`, `human` and `version` exclude each other")),
    };
    let key = match options.key.map(|key| usize::try_from(key).ok().filter(|key| *key > 0)) {
        None => None,
        Some(Some(key)) => Some(key),
        Some(None) => return Err(bad_argument("sort: option `key`: fields are counted from 1")),
    };
    if options.delim.is_empty() {
        return Err(bad_argument("sort: option `delim`: expected a string that is not empty"));
    }
    let key_of = |line: &str| -> String {
        let key = match key {
            None => line,
            Some(at) if options.delim == " " => line.split([' ', '\t']).filter(|field| !field.is_empty()).nth(at - 1).unwrap_or(""),
            Some(at) => line.split(options.delim.as_str()).nth(at - 1).unwrap_or(""),
        };
        if options.ignore_case { key.to_lowercase() } else { key.to_owned() }
    };
    // The key is the line itself where nothing is made of it.
    let plain = key.is_none() && !options.ignore_case;
    let mut held = Kept::new(options.max_bytes, None);
    let mut rows: Vec<(ImmutableString, Option<String>)> = Vec::new();
    let mut lines = TextLines::new(call, source, options.max_bytes, options.lossy)?;
    while let Some(line) = lines.next_line()? {
        let key = (!plain).then(|| key_of(&line));
        held.count(line.len() + key.as_ref().map_or(0, String::len))?;
        rows.push((ImmutableString::from(line.as_ref()), key));
    }
    let compare = |a: &(ImmutableString, Option<String>), b: &(ImmutableString, Option<String>)| -> Ordering {
        fn key(row: &(ImmutableString, Option<String>)) -> &str {
            row.1.as_deref().unwrap_or(&row.0)
        }
        let order = match by {
            By::Text => key(a).cmp(key(b)),
            By::Number => Number::of(key(a)).0.compare(&Number::of(key(b)).0),
            By::Human => compare_sizes(key(a), key(b)),
            By::Version => compare_versions(key(a), key(b)),
        };
        if options.reverse { order.reverse() } else { order }
    };
    call.check()?;
    if options.unique || options.stable {
        rows.sort_by(compare);
    } else {
        rows.sort_by(|a, b| {
            let whole = || if options.reverse { b.0.cmp(&a.0) } else { a.0.cmp(&b.0) };
            compare(a, b).then_with(whole)
        });
    }
    if options.unique {
        rows.dedup_by(|a, b| compare(a, b) == Ordering::Equal);
    }
    rows.truncate(options.limit.map_or(usize::MAX, super::lines::size));
    call.check()?;
    Ok(rows.into_iter().map(|(line, _)| line.into_script()).collect())
}

/// Sorts values where they are: all strings, all chars, all bools, or numbers.
///
/// # Errors
/// [`Kind::BadArgument`] for other values, and for those of several types.
pub fn sort_values(items: &mut [Dynamic]) -> Result<()> {
    let kind = |item: &Dynamic| match () {
        () if item.is_string() => Some(0),
        () if item.is_char() => Some(1),
        () if item.is_bool() => Some(2),
        () if item.is_int() || item.is_float() => Some(3),
        () => None,
    };
    let Some(first) = items.first().map(kind) else { return Ok(()) };
    if first.is_none() || items.iter().any(|item| kind(item) != first) {
        let error = bad_argument("sort: an array of strings, of chars, of bools or of numbers can be sorted, and nothing else");
        return Err(error.with_hint("`list.sort(|a, b| …)` takes a closure that compares: an int below 0, 0, or above 0"));
    }
    let same = Ordering::Equal;
    let ints = items.iter().all(Dynamic::is_int);
    items.sort_by(|a, b| match first {
        Some(0) => match (a.as_immutable_string_ref(), b.as_immutable_string_ref()) {
            (Ok(a), Ok(b)) => a.as_str().cmp(b.as_str()),
            _ => same,
        },
        Some(1) => a.as_char().ok().cmp(&b.as_char().ok()),
        Some(2) => a.as_bool().ok().cmp(&b.as_bool().ok()),
        // One order for all of them: what is exact for some and rounded for others is none.
        _ if ints => a.as_int().ok().cmp(&b.as_int().ok()),
        _ => compare_floats(a, b),
    });
    Ok(())
}

/// Ints as floats among floats; what is no number (NaN) last.
fn compare_floats(a: &Dynamic, b: &Dynamic) -> Ordering {
    #[allow(clippy::cast_precision_loss, reason = "as the language compares them")]
    let float = |item: &Dynamic| item.as_float().or_else(|_| item.as_int().map(|int| int as f64)).unwrap_or(f64::NAN);
    let (a, b) = (float(a), float(b));
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// A decimal number of any length, as text: compared exactly.
struct Number<'t> {
    negative: bool,
    /// Without leading zeros.
    whole: &'t str,
    /// Without trailing zeros.
    fraction: &'t str,
}

impl<'t> Number<'t> {
    /// The number at the beginning, 0 if there is none, and what follows it.
    fn of(text: &'t str) -> (Self, &'t str) {
        let text = text.trim_start_matches([' ', '\t']);
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let end = |text: &str| text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        let (whole, mut rest) = digits.split_at(end(digits));
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            (fraction, rest) = after.split_at(end(after));
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let zero = whole.is_empty() && fraction.is_empty();
        (Self { negative: negative && !zero, whole, fraction }, rest)
    }
    fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }
    fn compare(&self, other: &Self) -> Ordering {
        let size = || self.whole.len().cmp(&other.whole.len()).then(self.whole.cmp(other.whole)).then(self.fraction.cmp(other.fraction));
        match (self.negative, other.negative) {
            (false, false) => size(),
            (true, true) => size().reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

/// As sort(1) compares them: by sign, then by suffix, then by number; `1024K` comes before `1M`.
fn compare_sizes(a: &str, b: &str) -> Ordering {
    let size = |text| {
        let (number, rest) = Number::of(text);
        let suffix = rest.chars().next().and_then(|c| "KMGTPEZYRQ".find(c.to_ascii_uppercase())).map_or(0, |at| at + 1);
        let suffix = i64::try_from(if number.is_zero() { 0 } else { suffix }).unwrap_or(0);
        (if number.negative { -suffix } else { suffix }, number)
    };
    let ((suffix, number), (other_suffix, other)) = (size(a), size(b));
    let sign = |number: &Number<'_>| if number.is_zero() { 0 } else { 1 - 2 * i32::from(number.negative) };
    sign(&number).cmp(&sign(&other)).then(suffix.cmp(&other_suffix)).then_with(|| number.compare(&other))
}

/// As packages' versions are compared: digits as numbers; in what is between, `~` before the end, the end before letters, letters before other signs.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let words = |text: &str| text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
        let ((word, rest), (other, other_rest)) = (a.split_at(words(a)), b.split_at(words(b)));
        let mut signs = (word.chars(), other.chars());
        let weight = |c: Option<char>| match c {
            Some('~') => -1,
            None => 0,
            Some(c) if c.is_alphabetic() => i64::from(u32::from(c)),
            Some(c) => i64::from(u32::from(c)) + 0x0020_0000,
        };
        loop {
            let (c, d) = (signs.0.next(), signs.1.next());
            match weight(c).cmp(&weight(d)) {
                Ordering::Equal if c.is_none() && d.is_none() => break,
                Ordering::Equal => {}
                order => return order,
            }
        }
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let ((number, after), (other, other_after)) = (rest.split_at(digits(rest)), other_rest.split_at(digits(other_rest)));
        let order = Number::of(number).0.compare(&Number::of(other).0);
        if order != Ordering::Equal || (after.is_empty() && other_after.is_empty()) {
            return order;
        }
        (a, b) = (after, other_after);
    }
}

options! {
    /// Options of `uniq`.
    UniqOptions {
        count: bool = false, "Maps `#{count, line}` instead of lines.", flags &["count", "c"];
        repeated: bool = false, "Only lines that are there more than once.", flags &["repeated", "d"];
        unique: bool = false, "Only lines that are there once.", flags &["unique", "u"];
        ignore_case: bool = false, "Upper and lower case are the same; the first of equal lines is given.", flags &["ignore_case", "i"];
        limit: Option<u64> = None, "Stop after so many results.";
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when a line, or the result, is more than this.";
        lossy: bool = false, "Take bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const UNIQ: Function = Function {
    name: "uniq",
    doc: "Lines without those that are equal to the line before, as an array, as uniq(1) does.\n\nFor equal lines anywhere sort first: `uniq(sort(path))`, or count them with `awk_count_unique`.",
    body: &with2(uniq, [param("source", "A file, an open file, an array of lines, or text."), param("options", "")]),
    asks: READS,
    fails: TEXT_FAILS,
    examples: &[
        Example { given: &[("f", "a\na\nb\na\n")], script: r#"uniq(dir + "/f")"#, gives: r#"["a", "b", "a"]"# },
        Example {
            given: &[("f", "a\na\nb\n")],
            script: r#"uniq(dir + "/f", #{count: true})"#,
            gives: r#"[#{count: 2, line: "a"}, #{count: 1, line: "b"}]"#,
        },
        Example { given: &[], script: r#"uniq(["a", "a", "b"], #{repeated: true})"#, gives: r#"["a"]"# },
    ],
};

fn uniq(call: &Call<'_>, source: Source, options: UniqOptions) -> Result<Array> {
    if options.repeated && options.unique {
        return Err(bad_argument("uniq: `repeated` and `unique` exclude each other: together nothing is left"));
    }
    let mut lines = TextLines::new(call, source, options.max_bytes, options.lossy)?;
    let mut kept = Kept::new(options.max_bytes, options.limit);
    let mut group: Option<(String, String, i64)> = None;
    let keep = |kept: &mut Kept, group: Option<(String, String, i64)>| -> Result<()> {
        let Some((line, _, count)) = group else { return Ok(()) };
        if (options.repeated && count < 2) || (options.unique && count > 1) {
            return Ok(());
        }
        if !options.count {
            return kept.push_text(&line);
        }
        let bytes = line.len() + 64;
        kept.push(record([("count", count.into_script()), ("line", line.into_script())]).into_script(), bytes)
    };
    while !kept.full()
        && let Some(line) = lines.next_line()?
    {
        let key = if options.ignore_case { line.to_lowercase() } else { String::new() };
        match &mut group {
            Some((first, known, count)) if if options.ignore_case { *known == key } else { *first == line } => *count += 1,
            _ => {
                let line = line.into_owned();
                keep(&mut kept, group.replace((line, key, 1)))?;
            }
        }
    }
    if !kept.full() {
        keep(&mut kept, group)?;
    }
    Ok(kept.done())
}

#[cfg(test)]
mod tests;
