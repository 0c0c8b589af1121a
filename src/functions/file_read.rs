//! Functions that look into files. They all ask for [`Read`], or where that is denied for [`RedactedRead`].

use super::function::{Call, Example, Function, param, with2};
use super::source::{Part, READS, Sight, Source, lines_of, sight};
use super::value::ImmutableString;
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::text::Bounds;

pub const FUNCTIONS: &[Function] = &[CAT, READ_LINES];

/// `file_system::Action::"read"`: see what is in a file, or the names in a directory.
pub enum Read {}
impl Action for Read {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "read";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File", "file_system::Dir"];
    const GROUPS: &'static [&'static str] = &["SafeIO", "view"];
    const DOC: &'static str = "See the contents of a file, or the names in a directory.";
    const ACCESS: Access = Access::ReadOnly;
    const NEEDS_OPEN: bool = true;
}

/// `file_system::Action::"redacted_read"`: see the text of a file as the owner's rules show it, see [`crate::sys::redact`].
pub enum RedactedRead {}
impl Action for RedactedRead {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "redacted_read";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File"];
    const GROUPS: &'static [&'static str] = &["SafeIO", "view"];
    const DOC: &'static str = "See the text of a file with what the owner's rules do not show replaced, where `read` is not permitted.";
    const ACCESS: Access = Access::ReadOnly;
    const NEEDS_OPEN: bool = true;
}

options! {
    /// Options of `cat`.
    CatOptions {
        number: bool = false, "Number the lines, as `cat -n` does.", flags &["number", "n"];
        offset: u64 = 0, "Begin at this byte.";
        length: Option<u64> = None, "Read this many bytes at most.";
        max_bytes: u64 = 16 << 20, "Refuse a file larger than this.";
        lossy: bool = false, "Show bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const CAT: Function = Function {
    name: "cat",
    doc: "The whole text of a file.\n\nFollows links. Under redacted reading `offset`, `length` and `max_bytes` count bytes of the redacted text. `number` puts the line's number before each line.",
    body: &with2(cat, [param("path", "The file."), param("options", "")]),
    asks: READS,
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::NotText, Kind::Permission],
    examples: &[
        Example { given: &[("greeting", "hello\n")], script: r#"cat(dir + "/greeting")"#, gives: r#""hello\n""# },
        Example { given: &[("two", "a\nb\n")], script: r#"cat(dir + "/two", #{number: true})"#, gives: r#""     1\ta\n     2\tb\n""# },
    ],
};

fn cat(call: &Call<'_>, path: AbsPath, options: CatOptions) -> Result<ImmutableString> {
    let watch = &call.host.watch;
    let bytes = match sight(call, File::locate(&path)?)? {
        Sight::Whole(file) => sys::file::read(&file, options.offset, options.length, options.max_bytes, watch)?,
        redacted => {
            let mut opened = redacted.opened()?;
            opened.go_to(options.offset);
            opened.bytes(options.length, options.max_bytes, watch).map_err(|error| error.with_path(path.shown()))?
        }
    };
    let text = text(bytes, options.lossy, &path)?;
    if !options.number {
        return Ok(text.into());
    }
    let numbered: String = text.split_inclusive('\n').enumerate().map(|(at, line)| format!("{:>6}\t{line}", at + 1)).collect();
    Ok(numbered.into())
}

options! {
    /// Options of `read_lines`.
    ReadLinesOptions {
        from: u64 = 1, "The first line, counted from 1.";
        count: Option<i64> = None, "So many lines at most; negative: the last so many of those from `from` on.";
        max_line: u64 = 1 << 20, "Refuse a line of more bytes than this.";
        max_bytes: u64 = 16 << 20, "Refuse to return more than this.";
        lossy: bool = false, "Show bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const READ_LINES: Function = Function {
    name: "read_lines",
    doc: "Lines of a file as an array: all, some from a line on, or the last ones.\n\nOf an open file they are counted from its place, and it is left behind them: `read_lines(file, #{count: 100})` gives page after page, and an empty array at the end. Line ends, `\\n` or `\\r\\n`, are not part of lines. For a file of any size use `for line in open(path).lines()`.",
    body: &with2(read_lines, [param("source", "The file: its path, or an open file."), param("options", "")]),
    asks: READS,
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::NotText, Kind::Permission],
    examples: &[
        Example { given: &[("three", "a\nb\nc")], script: r#"read_lines(dir + "/three", #{from: 2})"#, gives: r#"["b", "c"]"# },
        Example { given: &[("three", "a\nb\nc\n")], script: r#"read_lines(dir + "/three", #{count: -2})"#, gives: r#"["b", "c"]"# },
        Example { given: &[("three", "a\nb\nc\n")], script: r#"read_lines(dir + "/three", #{from: 2, count: 1})"#, gives: r#"["b"]"# },
        Example {
            given: &[("three", "a\nb\nc\n")],
            script: r#"let f = open(dir + "/three"); [read_lines(f, #{count: 2}), read_lines(f, #{count: 2}), read_lines(f, #{count: 2})]"#,
            gives: r#"[["a", "b"], ["c"], []]"#,
        },
    ],
};

fn read_lines(call: &Call<'_>, source: Source, options: ReadLinesOptions) -> Result<Vec<String>> {
    call.check()?;
    let skipped = options.from.checked_sub(1).ok_or_else(|| bad_argument("read_lines: lines are counted from 1, got `from` 0"))?;
    let bounds = Bounds { max_line: size(options.max_line), max_bytes: size(options.max_bytes) };
    let part = match options.count {
        None => Part::From(skipped, u64::MAX),
        Some(count) if count >= 0 => Part::From(skipped, count.unsigned_abs()),
        Some(count) => Part::Last(skipped, count.unsigned_abs()),
    };
    lines_of(call, source, options.lossy, part, bounds)
}

/// A size of the host in memory.
#[must_use]
pub fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Bytes as text.
///
/// # Errors
/// [`Kind::NotText`] unless `lossy`.
pub fn text(bytes: Vec<u8>, lossy: bool, path: &AbsPath) -> Result<String> {
    String::from_utf8(bytes).or_else(|error| {
        if lossy {
            return Ok(String::from_utf8_lossy(error.as_bytes()).into_owned());
        }
        Err(Error::new(Kind::NotText, format!("not UTF-8 text (byte {} is no part of a character)", error.utf8_error().valid_up_to()))
            .with_path(path.shown())
            .with_hint("pass #{lossy: true}, or read bytes with `read_bytes`"))
    })
}

/// A range given as `[first, last]`, both counted from 1.
///
/// # Errors
/// [`Kind::BadArgument`] for anything else.
pub fn line_range(first: i64, last: i64) -> Result<(u64, u64)> {
    match (u64::try_from(first), u64::try_from(last)) {
        (Ok(first), Ok(last)) if first >= 1 && last >= first => Ok((first, last)),
        _ => Err(bad_argument(format!("a range of lines goes from 1 upwards, got {first} to {last}"))),
    }
}
