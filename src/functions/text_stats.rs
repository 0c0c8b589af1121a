//! Beginnings, ends and counts of text: head, tail, wc.

use super::file_read::{line_range, size};
use super::function::{Call, Example, Function, param, with2};
use super::source::{Part, READS, Source, lines_of};
use super::value::{IntoScript, Map};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use crate::sys;
use crate::sys::text::Bounds;

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
    doc: "The first lines of a text, as an array of strings.\n\nOnly these are read; of an open file those from its place on, and it is left behind them. Line ends, `\\n` or `\\r\\n`, are not part of lines. An int instead of options is `n`.",
    body: &with2(head, [param("source", "The text: the path of a file, an open file, an array of lines, or text."), param("options", "")]),
    asks: READS,
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::NotText, Kind::Permission],
    examples: &[
        Example { given: &[("f", "a\nb\nc\n")], script: r#"head(dir + "/f", #{n: 2})"#, gives: r#"["a", "b"]"# },
        Example { given: &[("f", "a\nb\nc\n")], script: r#"head(dir + "/f", 2)"#, gives: r#"["a", "b"]"# },
        Example { given: &[("f", "a\nb\nc\n")], script: r#"head([head::n(1)], dir + "/f")"#, gives: r#"["a"]"# },
    ],
};

fn head(call: &Call<'_>, source: Source, options: HeadOptions) -> Result<Vec<String>> {
    lines_of(call, source, options.lossy, Part::From(0, options.n), bounds(options.max_bytes))
}

/// One line may be as long as all together.
fn bounds(max_bytes: u64) -> Bounds {
    Bounds { max_line: size(max_bytes), max_bytes: size(max_bytes) }
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
    doc: "The last lines of a text, as an array of strings.\n\nReads a file from its end, so that it costs the same for a large file (under redacted reading from its beginning). Of an open file only what is behind its place is looked at, lines are counted from there, and it is left at its end. Line ends, `\\n` or `\\r\\n`, are not part of lines. An int instead of options is `n`.",
    body: &with2(tail, [param("source", "The text: the path of a file, an open file, an array of lines, or text."), param("options", "")]),
    asks: READS,
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::NotText, Kind::Permission],
    examples: &[
        Example { given: &[("f", "a\nb\nc\n")], script: r#"tail(dir + "/f", #{n: 2})"#, gives: r#"["b", "c"]"# },
        Example { given: &[("f", "a\nb\nc\n")], script: r#"tail([tail::n(1)], dir + "/f")"#, gives: r#"["c"]"# },
        Example { given: &[("f", "a\nb\nc\n")], script: r#"tail([tail::n(-1)], dir + "/f")"#, gives: r#"["c"]"# },
        Example { given: &[("f", "a\nb\nc\n")], script: r#"tail(dir + "/f", #{from: 2})"#, gives: r#"["b", "c"]"# },
        Example { given: &[("f", "a\nb\nc\n")], script: r#"tail([tail::range(2, 2)], dir + "/f")"#, gives: r#"["b"]"# },
    ],
};

fn tail(call: &Call<'_>, source: Source, options: TailOptions) -> Result<Vec<String>> {
    let part = match (options.from, options.range) {
        (Some(_), Some(_)) => return Err(bad_argument("tail: give `from` or `range`, not both")),
        (Some(from), None) => {
            let from = u64::try_from(from).ok().filter(|from| *from > 0);
            Part::From(from.ok_or_else(|| bad_argument("tail: option `from`: lines are counted from 1"))? - 1, u64::MAX)
        }
        (None, Some(range)) => {
            let [first, last] = range[..] else { return Err(bad_argument("tail: option `range`: expected `[first, last]`")) };
            let (first, last) = line_range(first, last)?;
            Part::From(first - 1, last - first + 1)
        }
        (None, None) => Part::Last(0, options.n.unsigned_abs()),
    };
    lines_of(call, source, options.lossy, part, bounds(options.max_bytes))
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
    doc: "How many lines, words, bytes and characters a text has: a map of these, or of those asked for.\n\nOf an open file what is behind its place is counted, and it is left at its end. Each item of an array of lines counts with a line end. Under redacted reading the redacted text is counted.",
    body: &with2(wc, [param("source", "The text: the path of a file, an open file, an array of lines, or text."), param("options", "")]),
    asks: READS,
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::Permission],
    examples: &[
        Example { given: &[("f", "one two\nthree\n")], script: r#"wc(dir + "/f")"#, gives: "#{lines: 2, words: 3, bytes: 14, chars: 14}" },
        Example { given: &[("f", "one two\nthree\n")], script: r#"wc([wc::words], dir + "/f")"#, gives: "#{words: 3}" },
        Example { given: &[], script: r#"wc(["one two", "three"]).words"#, gives: "3" },
    ],
};

fn wc(call: &Call<'_>, source: Source, options: WcOptions) -> Result<Map> {
    let all = !(options.lines || options.words || options.bytes || options.chars);
    let (words, chars) = (all || options.words, all || options.chars);
    let counts = source.with_contents(call, |contents| sys::text::count_some(contents, words, chars, &|| call.check()))?;
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
