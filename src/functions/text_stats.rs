//! Beginnings, ends and counts of files: head, tail, wc. They all ask for [`Read`].

use super::file_read::{Read, line_range};
use super::function::{Call, Example, Function, param, with2};
use super::value::{IntoScript, Map};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use crate::policy::ask;
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::text::{Bounds, to_text};

pub const FUNCTIONS: &[Function] = &[HEAD, TAIL, WC];

options! {
    /// Options of `head`.
    HeadOptions {
        n: u64 = 10, "How many lines.", flags &["n", "count"];
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when the lines are more than this.";
        lossy: bool = false, "Show bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const HEAD: Function = Function {
    name: "head",
    doc: "The first lines of a file, as an array of strings.\n\nOnly these are read. A line is given without its `\\n`; a `\\r` before it is kept.",
    body: &with2(head, [param("path", "The file."), param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::NotText, Kind::Permission],
    examples: &[
        Example { given: &[("f", "a\nb\nc\n")], script: r#"head(dir + "/f", #{n: 2})"#, gives: r#"["a", "b"]"# },
        Example { given: &[("f", "a\nb\nc\n")], script: r#"head([head::n(1)], dir + "/f")"#, gives: r#"["a"]"# },
    ],
};

fn head(call: &Call<'_>, path: AbsPath, options: HeadOptions) -> Result<Vec<String>> {
    lines_of(call, &path, Part::Range(1, options.n), options.max_bytes, options.lossy)
}

options! {
    /// Options of `tail`.
    TailOptions {
        n: i64 = 10, "How many lines from the end; `-5` and `5` mean the same.", flags &["n", "count"];
        from: Option<i64> = None, "Instead: from this line on, counted from 1.", flags &["from", "line"];
        range: Option<Vec<i64>> = None, "Instead: `[first, last]`, both counted from 1.", flags &["range"];
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when the lines are more than this.";
        lossy: bool = false, "Show bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const TAIL: Function = Function {
    name: "tail",
    doc: "The last lines of a file, as an array of strings.\n\nReads from the end, so that it costs the same for a large file; the lines are those that were there when it was asked. A line is given without its `\\n`; a `\\r` before it is kept.",
    body: &with2(tail, [param("path", "The file."), param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::NotText, Kind::Permission],
    examples: &[
        Example { given: &[("f", "a\nb\nc\n")], script: r#"tail(dir + "/f", #{n: 2})"#, gives: r#"["b", "c"]"# },
        Example { given: &[("f", "a\nb\nc\n")], script: r#"tail([tail::n(1)], dir + "/f")"#, gives: r#"["c"]"# },
        Example { given: &[("f", "a\nb\nc\n")], script: r#"tail([tail::n(-1)], dir + "/f")"#, gives: r#"["c"]"# },
        Example { given: &[("f", "a\nb\nc\n")], script: r#"tail(dir + "/f", #{from: 2})"#, gives: r#"["b", "c"]"# },
        Example { given: &[("f", "a\nb\nc\n")], script: r#"tail([tail::range(2, 2)], dir + "/f")"#, gives: r#"["b"]"# },
    ],
};

fn tail(call: &Call<'_>, path: AbsPath, options: TailOptions) -> Result<Vec<String>> {
    let part = match (options.from, options.range) {
        (Some(_), Some(_)) => return Err(bad_argument("tail: give `from` or `range`, not both")),
        (Some(from), None) => {
            let from = u64::try_from(from).ok().filter(|from| *from > 0);
            Part::Range(from.ok_or_else(|| bad_argument("tail: option `from`: lines are counted from 1"))?, u64::MAX)
        }
        (None, Some(range)) => {
            let [first, last] = range[..] else { return Err(bad_argument("tail: option `range`: expected `[first, last]`")) };
            let (first, last) = line_range(first, last)?;
            Part::Range(first, last)
        }
        (None, None) => Part::Last(options.n.unsigned_abs()),
    };
    lines_of(call, &path, part, options.max_bytes, options.lossy)
}

/// Which lines.
enum Part {
    Range(u64, u64),
    Last(u64),
}

fn lines_of(call: &Call<'_>, path: &AbsPath, part: Part, max_bytes: u64, lossy: bool) -> Result<Vec<String>> {
    let file = call.permit::<Read>(File::locate(path)?)?;
    let file = sys::file::open(&file)?;
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let bounds = Bounds { max_line: max_bytes, max_bytes };
    let check = || call.check();
    let (first, lines) = match part {
        Part::Range(first, last) => (first, sys::text::range(file, first, last, bounds, &check)),
        Part::Last(count) => (0, sys::text::tail(&file, count, bounds, &check)),
    };
    let numbered = lines.map_err(|error| error.with_path(path.shown()))?.into_iter().enumerate();
    numbered
        .map(|(at, line)| {
            to_text(line, lossy, if first == 0 { 0 } else { first + at as u64 }).map_err(|error| error.with_path(path.shown()))
        })
        .collect()
}

options! {
    /// Options of `wc`.
    WcOptions {
        lines: bool = false, "Give the number of newlines.", flags &["lines", "l"];
        words: bool = false, "Give the number of words: runs of bytes without ASCII white space.", flags &["words", "w"];
        bytes: bool = false, "Give the number of bytes.", flags &["bytes", "c"];
        chars: bool = false, "Give the number of UTF-8 characters.", flags &["chars", "m"];
    }
}

const WC: Function = Function {
    name: "wc",
    doc: "How many lines, words, bytes and characters a file has: a map of these, or of those asked for.",
    body: &with2(wc, [param("path", "The file."), param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::Permission],
    examples: &[
        Example { given: &[("f", "one two\nthree\n")], script: r#"wc(dir + "/f")"#, gives: "#{lines: 2, words: 3, bytes: 14, chars: 14}" },
        Example { given: &[("f", "one two\nthree\n")], script: r#"wc([wc::words], dir + "/f")"#, gives: "#{words: 3}" },
    ],
};

fn wc(call: &Call<'_>, path: AbsPath, options: WcOptions) -> Result<Map> {
    let file = call.permit::<Read>(File::locate(&path)?)?;
    let counts = sys::text::count(sys::file::open(&file)?, &|| call.check()).map_err(|error| error.with_path(path.shown()))?;
    let all = !(options.lines || options.words || options.bytes || options.chars);
    let rows = [
        ("lines", options.lines, counts.lines),
        ("words", options.words, counts.words),
        ("bytes", options.bytes, counts.bytes),
        ("chars", options.chars, counts.chars),
    ];
    Ok(rows.into_iter().filter(|(_, wanted, _)| all || *wanted).map(|(name, _, count)| (name.into(), count.into_script())).collect())
}

#[cfg(test)]
mod tests;
