//! Comparing texts, laying them out, and looking for text in what is none: diff, comm, column, strings.

use super::function::{Call, Example, Function, param, with2, with3};
use super::lines::{Kept, TextLines, too_much, whole};
use super::say::{align, cell};
use super::source::{READS, Source};
use super::value::{Array, Dynamic, FromScript, IntoScript, Map, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices_deadline, group_diff_ops};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

pub const FUNCTIONS: &[Function] = &[DIFF, COMM, COLUMN, STRINGS];

const TEXT_FAILS: &[Kind] = &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::NotText, Kind::Permission];

/// How long the shortest difference is looked for before a longer one will do.
const SEARCH: Duration = Duration::from_secs(5);

/// Lines that are compared at most.
const MOST_LINES: usize = 500_000;

options! {
    /// Options of `diff`.
    DiffOptions {
        context: u64 = 3, "Equal lines shown before and after each difference.";
        ignore_space: bool = false, "White space does not count.";
        ignore_case: bool = false, "Upper and lower case are the same.";
        labels: Option<Vec<String>> = None, "Two names for the first lines of the result; the paths, or `a` and `b`, if left out.";
        limit: Option<u64> = None, "Stop after so many lines of the result.";
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when a text, or the result, is more than this.";
        lossy: bool = false, "Take bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const DIFF: Function = Function {
    name: "diff",
    doc: "The difference of two texts in the unified form of diff(1), or an empty string where there is none.\n\nEach has at most 500,000 lines. The result is right in any case; of texts in which nearly everything differs it may be longer than it had to be.",
    body: &with3(
        diff,
        [param("a", "The old one: a file, an open file, an array of lines, or text."), param("b", "The new one."), param("options", "")],
    ),
    asks: READS,
    fails: TEXT_FAILS,
    examples: &[
        Example {
            given: &[("a", "1\n2\n3\n"), ("b", "1\ntwo\n3\n")],
            script: r#"diff(dir + "/a", dir + "/b", #{labels: ["a", "b"]})"#,
            gives: r#""--- a\n+++ b\n@@ -1,3 +1,3 @@\n 1\n-2\n+two\n 3\n""#,
        },
        Example { given: &[("a", "x  y\n")], script: r#"diff(dir + "/a", "x y\n", #{ignore_space: true})"#, gives: r#""""# },
        Example { given: &[], script: r#"diff(["a"], ["b"], #{context: 0})"#, gives: r#""--- a\n+++ b\n@@ -1 +1 @@\n-a\n+b\n""# },
    ],
};

fn diff(call: &Call<'_>, a: Source, b: Source, options: DiffOptions) -> Result<String> {
    let label = |source: &Source, word: &str| match source {
        Source::Path(path) => path.shown(),
        Source::Open(handle) => handle.path().shown(),
        Source::Lines(_) | Source::Text(_) => word.to_owned(),
    };
    let labels = match &options.labels {
        None => [label(&a, "a"), label(&b, "b")],
        Some(labels) => match &labels[..] {
            [a, b] if !labels.iter().any(|label| label.contains(char::is_control)) => [a.clone(), b.clone()],
            _ => return Err(bad_argument("diff: option `labels`: expected two strings without control characters")),
        },
    };
    let (old, new) = (whole(call, a, options.max_bytes, options.lossy)?, whole(call, b, options.max_bytes, options.lossy)?);
    if old == new {
        return Ok(String::new());
    }
    if [&old, &new].iter().any(|text| memchr::memchr_iter(b'\n', text.as_bytes()).count() > MOST_LINES) {
        return Err(Error::new(Kind::TooLarge, format!("diff: more than {MOST_LINES} lines")));
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    // Lines as numbers, equal ones with the same.
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let mut number = |line: &&str| -> u32 {
        let mut key = if options.ignore_space { line.chars().filter(|c| !c.is_whitespace()).collect() } else { (*line).to_owned() };
        if options.ignore_case {
            key = key.to_lowercase();
        }
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        *numbers.entry(key).or_insert(next)
    };
    let (old_keys, new_keys): (Vec<u32>, Vec<u32>) = (old.iter().map(&mut number).collect(), new.iter().map(&mut number).collect());
    drop(numbers);
    call.check()?;
    let deadline = Instant::now() + SEARCH.min(call.host.watch.remaining());
    let ops = capture_diff_slices_deadline(Algorithm::Myers, &old_keys, &new_keys, Some(deadline));
    call.check()?;
    if ops.iter().all(|op| op.tag() == DiffTag::Equal) {
        return Ok(String::new());
    }
    let context = usize::try_from(options.context).unwrap_or(usize::MAX).min(old.len().max(new.len()));
    let mut result = Unified { out: String::new(), left: options.limit.unwrap_or(u64::MAX), max_bytes: options.max_bytes };
    result.line("--- ", &labels[0])?;
    result.line("+++ ", &labels[1])?;
    for group in group_diff_ops(ops, context) {
        call.check()?;
        result.hunk(&group, &old, &new)?;
        if result.left == 0 {
            break;
        }
    }
    Ok(result.out)
}

/// A difference being written in the unified form.
struct Unified {
    out: String,
    /// Lines that may still be added.
    left: u64,
    max_bytes: u64,
}

impl Unified {
    fn line(&mut self, sign: &str, line: &str) -> Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        self.out.push_str(sign);
        self.out.push_str(line);
        if !line.ends_with('\n') {
            self.out.push('\n');
        }
        if self.out.len() as u64 > self.max_bytes { Err(too_much(self.max_bytes)) } else { Ok(()) }
    }
    fn text_line(&mut self, sign: &str, line: &str) -> Result<()> {
        self.line(sign, line)?;
        if line.ends_with('\n') { Ok(()) } else { self.line("\\ ", "No newline at end of file") }
    }
    fn hunk(&mut self, group: &[DiffOp], old: &[&str], new: &[&str]) -> Result<()> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
        let range = |from: usize, to: usize| match to - from {
            0 => format!("{from},0"),
            1 => format!("{}", from + 1),
            count => format!("{},{count}", from + 1),
        };
        let lines = |place: std::ops::Range<usize>, end: std::ops::Range<usize>| range(place.start, end.end);
        let header = format!("{} +{} @@", lines(first.old_range(), last.old_range()), lines(first.new_range(), last.new_range()));
        self.line("@@ -", &header)?;
        for op in group {
            let (tag, from, to) = op.as_tag_tuple();
            if tag == DiffTag::Equal {
                // Where lines only count as equal, the old ones are shown, as diff(1) does.
                for line in old.get(from).unwrap_or_default() {
                    self.text_line(" ", line)?;
                }
                continue;
            }
            for line in old.get(from).unwrap_or_default() {
                self.text_line("-", line)?;
            }
            for line in new.get(to).unwrap_or_default() {
                self.text_line("+", line)?;
            }
        }
        Ok(())
    }
}

options! {
    /// Options of `comm`.
    CommOptions {
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when the lines are more than this.";
        lossy: bool = false, "Take bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const COMM: Function = Function {
    name: "comm",
    doc: "Which lines are only in one of two texts, and which in both: a map of `left`, `right` and `both`, three arrays.\n\nThe lines need not be sorted: each different line counts once, and stands where it is first in its text (those of `both` as in the first).",
    body: &with3(
        comm,
        [param("a", "A file, an open file, an array of lines, or text."), param("b", "The other one."), param("options", "")],
    ),
    asks: READS,
    fails: TEXT_FAILS,
    examples: &[Example {
        given: &[("a", "x\ny\n"), ("b", "z\ny\n")],
        script: r#"comm(dir + "/a", dir + "/b")"#,
        gives: r#"#{left: ["x"], right: ["z"], both: ["y"]}"#,
    }],
};

fn comm(call: &Call<'_>, a: Source, b: Source, options: CommOptions) -> Result<Map> {
    let mut held = Kept::new(options.max_bytes, None);
    let mut read = |source: Source| -> Result<(Vec<String>, HashSet<String>)> {
        let mut lines = TextLines::new(call, source, options.max_bytes, options.lossy)?;
        let (mut order, mut seen) = (Vec::new(), HashSet::new());
        while let Some(line) = lines.next_line()? {
            if !seen.contains(line.as_ref()) {
                // Held twice: in order, and to be found.
                held.count(line.len())?;
                held.count(line.len())?;
                seen.insert(line.clone().into_owned());
                order.push(line.into_owned());
            }
        }
        Ok((order, seen))
    };
    let ((a, in_a), (b, in_b)) = (read(a)?, read(b)?);
    let (both, left): (Vec<String>, Vec<String>) = a.into_iter().partition(|line| in_b.contains(line));
    let right: Vec<String> = b.into_iter().filter(|line| !in_a.contains(line)).collect();
    Ok(record([("left", left.into_script()), ("right", right.into_script()), ("both", both.into_script())]))
}

options! {
    /// Options of `column`.
    ColumnOptions {
        separator: String = "  ".to_owned(), "What stands between two columns.";
        headers: Option<Vec<String>> = None, "A first line of names; of maps, also which keys, in which order.";
        delim: String = " ".to_owned(), "What stands between two cells of a line of text; one space means blanks, however many.";
        max_width: u64 = 1000, "Cut wider cells, with an ellipsis.";
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when the text, or the result, is more than this.";
        lossy: bool = false, "Take bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

/// What `column` lays out.
pub enum Rows {
    /// Arrays and maps.
    Values(Array),
    Lines(Source),
}

impl FromScript for Rows {
    const TYPE: &'static str = "an array of arrays, of maps or of lines, a path, an open file, or text";
    fn from_script(value: Dynamic) -> Result<Self> {
        let cells = |rows: &Array| rows.iter().any(|row| row.is_array() || row.is_map());
        if value.as_array_ref().is_ok_and(|rows| cells(&rows)) {
            return Array::from_script(value).map(Self::Values);
        }
        Source::from_script(value).map(Self::Lines)
    }
}

const COLUMN: Function = Function {
    name: "column",
    doc: "Rows as text in which the columns stand below one another.\n\nA row is an array, a map, or a line of text that is cut into cells. Numbers stand right, wide characters count as wide. (`table` is the same for maps, with the names of their keys.)",
    body: &with2(column, [param("rows", "An array of arrays, maps or lines; a file, an open file, or text."), param("options", "")]),
    asks: READS,
    fails: TEXT_FAILS,
    examples: &[
        Example { given: &[("f", "a bb c\nddd e f\n")], script: r#"column(dir + "/f")"#, gives: r#""a    bb  c\nddd  e   f""# },
        Example {
            given: &[],
            script: r#"column([["eth0", 5], ["lo", 10]], #{headers: ["name", "n"], separator: " | "})"#,
            gives: r#""name |  n\neth0 |  5\nlo   | 10""#,
        },
        Example { given: &[], script: r#"column([#{b: 1, a: "x"}], #{headers: ["b", "a"]})"#, gives: r#""b  a\n1  x""# },
    ],
};

fn column(call: &Call<'_>, rows: Rows, options: ColumnOptions) -> Result<String> {
    if options.delim.is_empty() {
        return Err(bad_argument("column: option `delim`: expected a string that is not empty"));
    }
    let limit = usize::try_from(options.max_width).unwrap_or(usize::MAX).max(1);
    let mut cells: Vec<Vec<(String, bool)>> = Vec::new();
    if let Some(headers) = &options.headers {
        cells.push(headers.iter().map(|name| (cell(&name.as_str().into_script(), limit), false)).collect());
    }
    let mut held = Kept::new(options.max_bytes, None);
    let mut add = |row: Vec<(String, bool)>| {
        for (text, _) in &row {
            held.count(text.len())?;
        }
        held.count(0)?;
        cells.push(row);
        Ok::<(), Error>(())
    };
    match rows {
        Rows::Values(rows) => {
            for (at, row) in rows.iter().enumerate() {
                if at % 256 == 0 {
                    call.check()?;
                }
                let of = |value: &Dynamic| (cell(value, limit), value.is_int() || value.is_float());
                let row = if let Ok(map) = row.as_map_ref() {
                    match &options.headers {
                        Some(headers) => {
                            headers.iter().map(|name| map.get(name.as_str()).map_or_else(|| (String::new(), false), &of)).collect()
                        }
                        None => map.values().map(of).collect(),
                    }
                } else if let Ok(row) = row.as_array_ref() {
                    row.iter().map(of).collect()
                } else {
                    return Err(bad_argument(format!("column: row {at} is neither an array nor a map, as others are")));
                };
                add(row)?;
            }
        }
        Rows::Lines(source) => {
            let mut lines = TextLines::new(call, source, options.max_bytes, options.lossy)?;
            while let Some(line) = lines.next_line()? {
                let text = |text: &str| (cell(&text.into_script(), limit), false);
                add(if options.delim == " " {
                    line.split([' ', '\t']).filter(|field| !field.is_empty()).map(text).collect()
                } else {
                    line.split(options.delim.as_str()).map(text).collect()
                })?;
            }
        }
    }
    // Every row gets as wide as the widest cells are: one wide cell makes many rows long.
    let width = |text: &str| unicode_width::UnicodeWidthStr::width(text) as u64;
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let widest: u64 =
        (0..columns).map(|at| cells.iter().filter_map(|row| row.get(at)).map(|(text, _)| width(text)).max().unwrap_or(0)).sum();
    let separators = (options.separator.len() as u64).saturating_mul(columns as u64);
    if widest.saturating_add(separators).saturating_mul(cells.len() as u64) > options.max_bytes.saturating_mul(4) {
        return Err(too_much(options.max_bytes));
    }
    call.check()?;
    let text = align(&cells, options.headers.is_some(), &options.separator).join("\n");
    if text.len() as u64 > options.max_bytes { Err(too_much(options.max_bytes)) } else { Ok(text) }
}

options! {
    /// Options of `strings`.
    StringsOptions {
        min: u64 = 4, "The fewest characters that count as text.";
        encoding: String = "ascii".to_owned(), "`ascii`: printable ASCII characters and tabs; `utf16le`, `utf16be`: the same in two bytes each.";
        offset: bool = false, "Maps `#{offset, text}` that say at which byte each begins.";
        limit: Option<u64> = None, "Stop after so many.";
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when the result is more than this.";
    }
}

const STRINGS: Function = Function {
    name: "strings",
    doc: "The runs of printable characters in a file of any kind, as an array, as strings(1) finds them.\n\nThe file is read as a stream, whatever its size.",
    body: &with2(strings, [param("source", "A file, an open file, or text."), param("options", "")]),
    asks: READS,
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::Permission, Kind::Io],
    examples: &[
        Example {
            given: &[("core", "\u{1}abcd\u{0}abc\u{0}lib.so.6")],
            script: r#"strings(dir + "/core")"#,
            gives: r#"["abcd", "lib.so.6"]"#,
        },
        Example {
            given: &[("core", "\u{0}a\u{0}b\u{0}")],
            script: r#"strings(dir + "/core", #{encoding: "utf16be", min: 2, offset: true})"#,
            gives: r#"[#{offset: 0, text: "ab"}]"#,
        },
    ],
};

/// Which bytes are a character.
#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Ascii,
    Little,
    Big,
}

/// Bytes of a file looked at together.
const BLOCK: usize = 64 << 10;

fn strings(call: &Call<'_>, source: Source, options: StringsOptions) -> Result<Array> {
    let unit = match options.encoding.as_str() {
        "ascii" => Unit::Ascii,
        "utf16le" => Unit::Little,
        "utf16be" => Unit::Big,
        _ => return Err(bad_argument("strings: option `encoding`: expected `ascii`, `utf16le` or `utf16be`")),
    };
    if options.min == 0 {
        return Err(bad_argument("strings: option `min`: expected an int of 1 or more"));
    }
    source.with_contents(call, |reader| runs_of(reader, unit, &options))
}

fn runs_of(mut reader: impl std::io::Read, unit: Unit, options: &StringsOptions) -> Result<Array> {
    let mut runs = Runs { run: String::new(), begin: 0, kept: Kept::new(options.max_bytes, options.limit), options };
    let mut block = vec![0; BLOCK];
    // Bytes of the block that are there; where it begins in the file.
    let (mut held, mut offset) = (0_usize, 0_u64);
    loop {
        let got = reader.read(block.get_mut(held..).unwrap_or_default()).map_err(crate::sys::stream::from_io)?;
        held += got;
        let bytes = block.get(..held).unwrap_or_default();
        let mut at = 0;
        while at < held && !runs.kept.full() {
            let here = offset + at as u64;
            if unit == Unit::Ascii {
                runs.take(bytes.get(at).copied().filter(|byte| is_printable(*byte)), here)?;
                at += 1;
                continue;
            }
            let Some([first, second]) = bytes.get(at..at + 2) else { break };
            let (low, high) = if unit == Unit::Little { (*first, *second) } else { (*second, *first) };
            let character = Some(low).filter(|low| high == 0 && is_printable(*low));
            at += if character.is_some() { 2 } else { 1 };
            runs.take(character, here)?;
        }
        if got == 0 || runs.kept.full() {
            break;
        }
        block.copy_within(at..held, 0);
        held -= at;
        offset += at as u64;
    }
    runs.end()?;
    Ok(runs.kept.done())
}

/// A printable ASCII character or a tab.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t')
}

/// Runs of characters being collected.
struct Runs<'o> {
    run: String,
    /// Where the run begins.
    begin: u64,
    kept: Kept,
    options: &'o StringsOptions,
}

impl Runs<'_> {
    fn take(&mut self, character: Option<u8>, at: u64) -> Result<()> {
        let Some(character) = character else { return self.end() };
        if self.run.is_empty() {
            self.begin = at;
        }
        self.run.push(char::from(character));
        if self.run.len() as u64 > self.options.max_bytes { Err(too_much(self.options.max_bytes)) } else { Ok(()) }
    }
    fn end(&mut self) -> Result<()> {
        let run = std::mem::take(&mut self.run);
        if (run.len() as u64) < self.options.min || self.kept.full() {
            return Ok(());
        }
        if !self.options.offset {
            return self.kept.push_text(&run);
        }
        let bytes = run.len() + 64;
        self.kept.push(record([("offset", self.begin.into_script()), ("text", run.into_script())]).into_script(), bytes)
    }
}

#[cfg(test)]
mod tests;
