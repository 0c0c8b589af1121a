//! Fields and lines of text: the awk_ functions, and cut.

use super::function::{Call, Example, Function, param, with2, with3, with4, with5};
use super::lines::{Kept, TextLines, pattern, shown};
use super::source::{READS, Source};
use super::value::{Array, Dynamic, FromScript, ImmutableString, IntoScript, Map, plain_type};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use regex::Regex;
use std::collections::HashMap;

pub const FUNCTIONS: &[Function] = &[AWK_SPLIT, AWK_FIELD, AWK_FILTER, AWK_FILTER_FIELD, AWK_FILTER_RANGE, AWK_SUM, AWK_COUNT_UNIQUE, CUT];

/// What reading text can fail with.
const TEXT_FAILS: &[Kind] = &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::NotText, Kind::Permission];

/// How a line is cut into fields.
struct Delimiter(String);

impl FromScript for Delimiter {
    const TYPE: &'static str = "a string that is not empty";
    fn from_script(value: Dynamic) -> Result<Self> {
        let text = String::from_script(value)?;
        if text.is_empty() { Err(bad_argument(format!("expected {}, got an empty one", Self::TYPE))) } else { Ok(Self(text)) }
    }
}

impl Delimiter {
    /// One space means blanks, however many, and those around the line do not count, as in awk(1).
    fn split<'t>(&'t self, line: &'t str) -> Box<dyn Iterator<Item = &'t str> + 't> {
        if self.0 == " " {
            Box::new(line.split([' ', '\t', '\n']).filter(|field| !field.is_empty()))
        } else {
            Box::new(line.split(self.0.as_str()))
        }
    }
}

/// The number of a field: 0 is the line, -1 the last one.
#[derive(Clone, Copy)]
struct Field(i64);

impl FromScript for Field {
    const TYPE: &'static str = "the number of a field: from 1, from -1 backwards, or 0 for the whole line";
    fn from_script(value: Dynamic) -> Result<Self> {
        i64::from_script(value).map(Self)
    }
}

impl Field {
    fn of<'t>(self, line: &'t str, delimiter: &'t Delimiter) -> Option<&'t str> {
        let at = usize::try_from(self.0.unsigned_abs()).ok()?;
        let Some(at) = at.checked_sub(1) else { return Some(line) };
        let blanks = delimiter.0 == " ";
        let mut words = line.split([' ', '\t', '\n']).filter(|field| !field.is_empty());
        match (blanks, self.0 < 0) {
            (true, false) => words.nth(at),
            (true, true) => words.nth_back(at),
            (false, false) => line.split(delimiter.0.as_str()).nth(at),
            (false, true) => line.rsplit(delimiter.0.as_str()).nth(at),
        }
    }
}

const AWK_SPLIT: Function = Function {
    name: "awk_split",
    doc: "The fields of a text, as an array.\n\nA delimiter of one space stands for blanks, however many, as in awk(1); any other string is itself.",
    body: &with2(awk_split, [param("text", "A string."), param("delimiter", "What stands between two fields.")]),
    asks: &[],
    fails: &[],
    examples: &[
        Example { given: &[], script: r#"awk_split("  a  b c ", " ")"#, gives: r#"["a", "b", "c"]"# },
        Example { given: &[], script: r#"awk_split("a::b", ":")"#, gives: r#"["a", "", "b"]"# },
    ],
};

fn awk_split(_: &Call<'_>, text: ImmutableString, delimiter: Delimiter) -> Result<Array> {
    Ok(delimiter.split(&text).map(IntoScript::into_script).collect())
}

options! {
    /// Options of functions that give some of the lines.
    FieldOptions {
        limit: Option<u64> = None, "Stop after so many.";
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when a line, or the result, is more than this.";
        lossy: bool = false, "Take bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const FIELD: super::function::Param = param("field", "Which field, from 1; -1 is the last one, 0 the whole line.");
const DELIMITER: super::function::Param = param("delimiter", "What stands between two fields; one space means blanks, however many.");
const SOURCE: super::function::Param = param("source", "A file, an open file, an array of lines, or text.");

const AWK_FIELD: Function = Function {
    name: "awk_field",
    doc: "One field of each line, as an array; lines that do not have it give nothing.\n\nThe lines are read one at a time, whatever the size of the file.",
    body: &with4(awk_field, [FIELD, DELIMITER, SOURCE, param("options", "")]),
    asks: READS,
    fails: TEXT_FAILS,
    examples: &[
        Example { given: &[("f", "a  1\nb\nc\t3\n")], script: r#"awk_field(2, " ", dir + "/f")"#, gives: r#"["1", "3"]"# },
        Example { given: &[("f", "a,,c\n")], script: r#"awk_field(2, ",", dir + "/f")"#, gives: r#"[""]"# },
        Example { given: &[], script: r#"awk_field(-1, " ", ["a  b", "c d e "])"#, gives: r#"["b", "e"]"# },
    ],
};

fn awk_field(call: &Call<'_>, field: Field, delimiter: Delimiter, source: Source, options: FieldOptions) -> Result<Array> {
    let mut lines = TextLines::new(call, source, options.max_bytes, options.lossy)?;
    let mut kept = Kept::new(options.max_bytes, options.limit);
    while !kept.full()
        && let Some(line) = lines.next_line()?
    {
        if let Some(text) = field.of(&line, &delimiter) {
            kept.push_text(text)?;
        }
    }
    Ok(kept.done())
}

options! {
    /// Options of the filters.
    FilterOptions {
        regex: bool = false, "The text to look for is a regular expression.", flags &["regex"];
        ignore_case: bool = false, "Upper and lower case are the same.", flags &["ignore_case"];
        invert: bool = false, "The lines that do not have it.";
        limit: Option<u64> = None, "Stop after so many lines.";
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when a line, or the result, is more than this.";
        lossy: bool = false, "Take bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

/// What a filter looks for: any text at all has the empty one in it.
fn filter_pattern(call: &Call<'_>, text: &str, regex: bool, ignore_case: bool) -> Result<Regex> {
    pattern(text, regex || text.is_empty(), ignore_case)
        .map_err(|error| Error { message: format!("{}: {}", call.function.name, error.message), ..error })
}

fn filter(call: &Call<'_>, source: Source, options: &FilterOptions, mut fits: impl FnMut(&str, u64) -> bool) -> Result<Array> {
    let mut lines = TextLines::new(call, source, options.max_bytes, options.lossy)?;
    let mut kept = Kept::new(options.max_bytes, options.limit);
    let mut number = 0;
    while !kept.full()
        && let Some(line) = lines.next_line()?
    {
        number += 1;
        if fits(&line, number) != options.invert {
            kept.push_text(&line)?;
        }
    }
    Ok(kept.done())
}

const AWK_FILTER: Function = Function {
    name: "awk_filter",
    doc: "The lines that have a text in them, as an array.",
    body: &with3(awk_filter, [param("text", "The text to look for."), SOURCE, param("options", "")]),
    asks: READS,
    fails: TEXT_FAILS,
    examples: &[
        Example { given: &[("f", "10.0.0.1 up\nlo up\n")], script: r#"awk_filter(".", dir + "/f")"#, gives: r#"["10.0.0.1 up"]"# },
        Example { given: &[], script: r#"awk_filter("^E", ["Err", "ok"], #{regex: true})"#, gives: r#"["Err"]"# },
    ],
};

fn awk_filter(call: &Call<'_>, text: ImmutableString, source: Source, options: FilterOptions) -> Result<Array> {
    let pattern = filter_pattern(call, &text, options.regex, options.ignore_case)?;
    filter(call, source, &options, |line, _| pattern.is_match(line))
}

const AWK_FILTER_FIELD: Function = Function {
    name: "awk_filter_field",
    doc: "The lines one field of which has a text in it, as an array.\n\nA line that does not have the field does not fit.",
    body: &with5(awk_filter_field, [FIELD, DELIMITER, param("text", "The text to look for."), SOURCE, param("options", "")]),
    asks: READS,
    fails: TEXT_FAILS,
    examples: &[Example {
        given: &[("f", "root  0\nroot  10\nx\n")],
        script: r#"awk_filter_field(2, " ", "1", dir + "/f")"#,
        gives: r#"["root  10"]"#,
    }],
};

fn awk_filter_field(
    call: &Call<'_>,
    field: Field,
    delimiter: Delimiter,
    text: ImmutableString,
    source: Source,
    options: FilterOptions,
) -> Result<Array> {
    let pattern = filter_pattern(call, &text, options.regex, options.ignore_case)?;
    filter(call, source, &options, |line, _| field.of(line, &delimiter).is_some_and(|field| pattern.is_match(field)))
}

/// Whether a line, with its number, is one that is looked for.
type LineTest = Box<dyn Fn(&str, u64) -> bool>;

/// An end of a range of lines: a number, or a text in the line.
enum End {
    Number(u64),
    Text(ImmutableString),
}

impl FromScript for End {
    const TYPE: &'static str = "the number of a line, from 1, or a text";
    fn from_script(value: Dynamic) -> Result<Self> {
        if let Ok(number) = value.as_int() {
            return u64::try_from(number)
                .ok()
                .filter(|number| *number > 0)
                .map(Self::Number)
                .ok_or_else(|| bad_argument(format!("expected {}, got {number}", Self::TYPE)));
        }
        ImmutableString::from_script(value).map(Self::Text).map_err(|error| bad_argument(error.message.replace("a string", Self::TYPE)))
    }
}

const AWK_FILTER_RANGE: Function = Function {
    name: "awk_filter_range",
    doc: "The lines from one to another, both included, as an array.\n\nAn end is the number of a line, or a text: then the range is from a line that has the first text to the next line that has the second (that may be the same line, as in awk(1)), \
          and another range begins after it. Where the second does not come, the range goes to the end.",
    body: &with4(
        awk_filter_range,
        [param("first", "A line number, or a text."), param("last", "A line number, or a text."), SOURCE, param("options", "")],
    ),
    asks: READS,
    fails: TEXT_FAILS,
    examples: &[
        Example { given: &[("f", "a\nb\nc\nd\n")], script: r#"awk_filter_range(2, 3, dir + "/f")"#, gives: r#"["b", "c"]"# },
        Example {
            given: &[("f", "x\nBEGIN\ny\nEND\nz\n")],
            script: r#"awk_filter_range("BEGIN", "END", dir + "/f")"#,
            gives: r#"["BEGIN", "y", "END"]"#,
        },
    ],
};

fn awk_filter_range(call: &Call<'_>, first: End, last: End, source: Source, options: FilterOptions) -> Result<Array> {
    if let (End::Number(first), End::Number(last)) = (&first, &last) {
        let (first, last) = (*first, *last);
        if last < first {
            return Err(bad_argument(format!("awk_filter_range: a range of lines goes from 1 upwards, got {first} to {last}")));
        }
        let mut lines = TextLines::new(call, source, options.max_bytes, options.lossy)?;
        let mut kept = Kept::new(options.max_bytes, options.limit);
        while !kept.full()
            && (options.invert || lines.number() < last)
            && let Some(line) = lines.next_line()?
        {
            let line = line.into_owned();
            if (first..=last).contains(&lines.number()) != options.invert {
                kept.push_text(&line)?;
            }
        }
        return Ok(kept.done());
    }
    let test = |end: End| -> Result<LineTest> {
        Ok(match end {
            End::Number(wanted) => Box::new(move |_, number| number == wanted),
            End::Text(text) => {
                let pattern = filter_pattern(call, &text, options.regex, options.ignore_case)?;
                Box::new(move |line, _| pattern.is_match(line))
            }
        })
    };
    let (begins, ends) = (test(first)?, test(last)?);
    let mut inside = false;
    filter(call, source, &options, |line, number| {
        let fits = inside || begins(line, number);
        inside = fits && !ends(line, number);
        fits
    })
}

options! {
    /// Options of functions that give one figure of all lines.
    SumOptions {
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when a line, or what has to be remembered, is more than this.";
        lossy: bool = false, "Take bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const AWK_SUM: Function = Function {
    name: "awk_sum",
    doc: "The sum of one field of all lines, as a float; fields that are no numbers do not count.\n\nThe lines are read one at a time, whatever the size of the file.",
    body: &with4(awk_sum, [FIELD, DELIMITER, SOURCE, param("options", "")]),
    asks: READS,
    fails: TEXT_FAILS,
    examples: &[
        Example { given: &[("f", "a  1\nb  2.5\nc  x\n")], script: r#"awk_sum(2, " ", dir + "/f")"#, gives: "3.5" },
        Example { given: &[], script: r#"awk_sum(0, " ", ["1", "2"])"#, gives: "3.0" },
    ],
};

fn awk_sum(call: &Call<'_>, field: Field, delimiter: Delimiter, source: Source, options: SumOptions) -> Result<f64> {
    let mut lines = TextLines::new(call, source, options.max_bytes, options.lossy)?;
    // What the additions lose is kept beside the sum (Neumaier's summation): ten times 0.1 is 1.
    let (mut sum, mut lost) = (0.0_f64, 0.0_f64);
    while let Some(line) = lines.next_line()? {
        let Some(number) = field.of(&line, &delimiter).and_then(number) else { continue };
        let total = sum + number;
        lost += if sum.abs() >= number.abs() { (sum - total) + number } else { (number - total) + sum };
        sum = total;
    }
    let exact = sum + lost;
    Ok(if exact.is_finite() { exact } else { sum })
}

/// A decimal number; words such as `inf` and `nan` are none.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    if text.contains(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')) { None } else { text.parse().ok() }
}

const AWK_COUNT_UNIQUE: Function = Function {
    name: "awk_count_unique",
    doc: "How often each value of one field is there: a map from the value to an int.\n\nThe lines are read one at a time; the different values have to fit in `max_bytes`.",
    body: &with4(awk_count_unique, [FIELD, DELIMITER, SOURCE, param("options", "")]),
    asks: READS,
    fails: TEXT_FAILS,
    examples: &[Example {
        given: &[("f", "GET /a\nGET /b\nPUT /a\n")],
        script: r#"awk_count_unique(1, " ", dir + "/f")"#,
        gives: "#{GET: 2, PUT: 1}",
    }],
};

fn awk_count_unique(call: &Call<'_>, field: Field, delimiter: Delimiter, source: Source, options: SumOptions) -> Result<Map> {
    let mut lines = TextLines::new(call, source, options.max_bytes, options.lossy)?;
    let mut held = Kept::new(options.max_bytes, None);
    let mut counts: HashMap<String, i64> = HashMap::new();
    while let Some(line) = lines.next_line()? {
        let Some(text) = field.of(&line, &delimiter) else { continue };
        if let Some(count) = counts.get_mut(text) {
            *count += 1;
        } else {
            held.count(text.len())?;
            counts.insert(text.to_owned(), 1);
        }
    }
    Ok(counts.into_iter().map(|(text, count)| (text.into(), count.into_script())).collect())
}

options! {
    /// Options of `cut`.
    CutOptions {
        fields: Option<Ranges> = None, "Which fields: an int, an array of ints, or text such as `1,3-5,7-`.";
        chars: Option<Ranges> = None, "Instead: which characters.";
        bytes: Option<Ranges> = None, "Instead: which bytes; a character that is cut in two is an error, or with `lossy` U+FFFD.";
        delim: String = "\t".to_owned(), "What stands between two fields: this text, not blanks in general (for that there is `awk_field`).";
        output_delim: Option<String> = None, "What stands between the parts of the result; the delimiter of the fields if left out, and nothing between characters and bytes.";
        only_delimited: bool = false, "Leave lines without the delimiter out, which else come back whole.";
        limit: Option<u64> = None, "Stop after so many lines.";
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when a line, or the result, is more than this.";
        lossy: bool = false, "Take bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

/// Ranges of positions from 1, both ends included, sorted and apart.
#[derive(Clone, Debug)]
pub struct Ranges(Vec<(usize, usize)>);

impl Ranges {
    fn new(mut list: Vec<(usize, usize)>) -> Result<Self> {
        let wrong = || bad_argument(format!("expected {}", Self::TYPE));
        if list.is_empty() || list.iter().any(|(first, last)| *first == 0 || first > last) {
            return Err(wrong());
        }
        list.sort_unstable();
        let mut apart: Vec<(usize, usize)> = Vec::with_capacity(list.len());
        for (first, last) in list {
            match apart.last_mut() {
                // Neighbours stay apart: between them the output delimiter stands.
                Some((_, end)) if first <= *end => *end = last.max(*end),
                _ => apart.push((first, last)),
            }
        }
        Ok(Self(apart))
    }
    fn of_text(text: &str) -> Result<Vec<(usize, usize)>> {
        let wrong = || bad_argument(format!("expected {}, got `{}`", Self::TYPE, text.chars().take(40).collect::<String>().escape_debug()));
        let number =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<usize>().ok()).flatten().ok_or_else(wrong);
        text.split(',')
            .map(|part| match part.trim().split_once('-') {
                None => number(part.trim()).map(|at| (at, at)),
                Some(("", "")) => Err(wrong()),
                Some(("", last)) => Ok((1, number(last)?)),
                Some((first, "")) => Ok((number(first)?, usize::MAX)),
                Some((first, last)) => Ok((number(first)?, number(last)?)),
            })
            .collect()
    }
}

impl FromScript for Ranges {
    const TYPE: &'static str = "positions from 1: an int, an array of them, or text such as `1,3-5,7-`";
    fn from_script(value: Dynamic) -> Result<Self> {
        let one = |value: &Dynamic| -> Result<Vec<(usize, usize)>> {
            if let Ok(at) = value.as_int() {
                let at = usize::try_from(at).map_err(|_| bad_argument(format!("expected {}, got {at}", Self::TYPE)))?;
                return Ok(vec![(at, at)]);
            }
            match value.as_immutable_string_ref() {
                Ok(text) => Self::of_text(&text),
                Err(name) => Err(bad_argument(format!("expected {}, got {}", Self::TYPE, plain_type(name)))),
            }
        };
        if !value.is_array() {
            return Self::new(one(&value)?);
        }
        let mut list = Vec::new();
        for item in value.into_array().unwrap_or_default() {
            list.extend(one(&item)?);
        }
        Self::new(list)
    }
}

const CUT: Function = Function {
    name: "cut",
    doc: "Some fields, characters or bytes of each line, as an array of lines, as cut(1) does.\n\nThey come in the order of the line, each once. A tab stands between fields unless `delim` says otherwise.",
    body: &with2(cut, [SOURCE, param("options", "")]),
    asks: READS,
    fails: TEXT_FAILS,
    examples: &[
        Example {
            given: &[("passwd", "root:x:0:0:root:/root:/bin/sh\n")],
            script: r#"cut(dir + "/passwd", #{fields: "1,6-", delim: ":"})"#,
            gives: r#"["root:/root:/bin/sh"]"#,
        },
        Example { given: &[("f", "häuser\n")], script: r#"cut(dir + "/f", #{chars: "1-3"})"#, gives: r#"["häu"]"# },
        Example {
            given: &[],
            script: r#"cut(["a b c", "d"], #{fields: [1, 3], delim: " ", output_delim: "-", only_delimited: true})"#,
            gives: r#"["a-c"]"#,
        },
    ],
};

/// What `cut` takes of each line.
enum Pieces<'o> {
    Fields(&'o Ranges),
    Chars(&'o Ranges),
    Bytes(&'o Ranges),
}

fn cut(call: &Call<'_>, source: Source, options: CutOptions) -> Result<Array> {
    let pieces = match (&options.fields, &options.chars, &options.bytes) {
        (Some(fields), None, None) => Pieces::Fields(fields),
        (None, Some(chars), None) => Pieces::Chars(chars),
        (None, None, Some(bytes)) => Pieces::Bytes(bytes),
        _ => return Err(bad_argument("cut: give one of `fields`, `chars` and `bytes`")),
    };
    if options.delim.is_empty() {
        return Err(bad_argument("cut: option `delim`: expected a string that is not empty"));
    }
    if options.only_delimited && !matches!(pieces, Pieces::Fields(_)) {
        return Err(bad_argument("cut: `only_delimited` goes with `fields`"));
    }
    let mut lines = TextLines::new(call, source, options.max_bytes, options.lossy)?;
    let mut kept = Kept::new(options.max_bytes, options.limit);
    let mut number = 0_u64;
    while !kept.full()
        && let Some(line) = lines.next_line()?
    {
        number += 1;
        match pieces {
            Pieces::Fields(_) if !line.contains(options.delim.as_str()) => {
                if !options.only_delimited {
                    kept.push_text(&line)?;
                }
            }
            Pieces::Fields(ranges) => {
                let delim = options.delim.as_str();
                kept.push_text(&fields_of(&line, ranges, delim, options.output_delim.as_deref().unwrap_or(delim)))?;
            }
            Pieces::Chars(ranges) => {
                kept.push_text(&chars_of(&line, ranges, options.output_delim.as_deref().unwrap_or("")))?;
            }
            Pieces::Bytes(ranges) => {
                let mut out = Vec::new();
                for (at, (first, last)) in ranges.0.iter().enumerate() {
                    let part = line.as_bytes().get(first - 1..line.len().min(*last)).unwrap_or_default();
                    if at > 0 && !part.is_empty() {
                        out.extend_from_slice(options.output_delim.as_deref().unwrap_or("").as_bytes());
                    }
                    out.extend_from_slice(part);
                }
                let text = shown(&out, options.lossy).ok_or_else(|| {
                    Error::new(Kind::NotText, format!("the bytes cut out of line {number} end inside a character"))
                        .with_hint("`chars` counts characters; `lossy: true` puts U+FFFD there")
                })?;
                kept.push_text(&text)?;
            }
        }
    }
    Ok(kept.done())
}

/// The fields in the ranges, each once, in the order of the line.
fn fields_of(line: &str, ranges: &Ranges, delim: &str, output: &str) -> String {
    let mut out = String::new();
    let mut wanted = ranges.0.iter().peekable();
    let mut any = false;
    for (field, at) in line.split(delim).zip(1_usize..) {
        while wanted.next_if(|(_, last)| *last < at).is_some() {}
        let Some((first, _)) = wanted.peek() else { break };
        if *first <= at {
            if any {
                out.push_str(output);
            }
            any = true;
            out.push_str(field);
        }
    }
    out
}

/// The characters in the ranges; the output delimiter between two ranges.
fn chars_of(line: &str, ranges: &Ranges, output: &str) -> String {
    let mut out = String::new();
    let mut wanted = ranges.0.iter().peekable();
    let mut range_of_last = None;
    for (c, at) in line.chars().zip(1_usize..) {
        while wanted.next_if(|(_, last)| *last < at).is_some() {}
        let Some((first, _)) = wanted.peek() else { break };
        if *first <= at {
            if range_of_last.is_some_and(|range| range != *first) {
                out.push_str(output);
            }
            range_of_last = Some(*first);
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests;
