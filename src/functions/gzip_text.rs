//! Functions that read gzip files as text, without unpacking them to the disk. They ask for [`Read`], or see the text redacted.
//! `gzip_info` tells the true sizes of the whole, and asks for [`Read`] alone.

use super::compress::located;
use super::file_read::Read;
use super::function::{Call, Example, Function, param, with2, with3};
use super::handle::Target;
use super::source::{Contents, READS, sight};
use super::value::{Array, Dynamic, IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::ask;
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::decompress::Caps;
use crate::sys::stream::Checked;
use crate::sys::text::{Bounds, Lines, to_text};
use std::collections::VecDeque;

pub const FUNCTIONS: &[Function] = &[READ_GZIP_LINES, SEARCH_GZIP, SEARCH_GZIP_EXISTS, GZIP_INFO];

const FAILS: &[Kind] =
    &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::BadData, Kind::TooLarge, Kind::NotText, Kind::Permission];

/// Results where the script sets no limit.
const MAX_RESULTS: usize = 10_000;

options! {
    /// Options of `read_gzip_lines`.
    LinesOptions {
        from: Option<u64> = None, "The first line, counted from 1.";
        start: Option<u64> = None, "The same as `from`.";
        count: Option<i64> = None, "So many lines at most; negative: the last so many of those from `from` on.";
        max_line: u64 = 1 << 20, "Refuse a line of more bytes than this.";
        max_bytes: u64 = 16 << 20, "Refuse to return more than this.";
        max_unpacked: u64 = 16 << 30, "Refuse to read more than this out of the file.";
        lossy: bool = false, "Show bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const READ_GZIP_LINES: Function = Function {
    name: "read_gzip_lines",
    doc: "Lines of a gzip file as an array: all, some from a line on, or the last ones.\n\nEvery member of the file is read. With `count` reading ends at the last line asked for; the last lines are held while reading goes on, and no more than these. Line ends are not part of the lines. A file that is cut short or damaged before the lines asked for is the error `bad_data`. Where `read` is denied and `redacted_read` permitted, the unpacked text is redacted.",
    body: &with2(read_gzip_lines, [param("path", "The gzip file, or an open file."), param("options", "")]),
    asks: READS,
    fails: FAILS,
    examples: &[
        Example {
            given: &[("log", "a\nb\nc\n")],
            script: r#"gzip(dir + "/log"); let f = dir + "/log.gz"; [read_gzip_lines(f, #{from: 2}), read_gzip_lines(f, #{count: -1}), read_gzip_lines(f, #{from: 2, count: 1})]"#,
            gives: r#"[["b", "c"], ["c"], ["b"]]"#,
        },
        Example {
            given: &[("log", "plain")],
            script: r#"let k = (); try { read_gzip_lines(dir + "/log") } catch (e) { if e.kind == "denied" { throw e } k = e.kind; } k"#,
            gives: r#""bad_data""#,
        },
    ],
};

/// Asks, and opens the text of a gzip file.
fn opened<'c>(call: &'c Call<'_>, target: Target, max_unpacked: u64) -> Result<(Contents<'c>, AbsPath)> {
    let sight = sight(call, located(target)?)?;
    let path = sight.file().asked().clone();
    let caps = Caps { max_bytes: max_unpacked, ..Caps::default() };
    let text = sight.gunzipped(call, caps).map_err(|error| at(error, &path))?;
    Ok((text, path))
}

fn at(error: Error, path: &AbsPath) -> Error {
    if error.path.is_some() { error } else { error.with_path(path.shown()) }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn read_gzip_lines(call: &Call<'_>, target: Target, options: LinesOptions) -> Result<Vec<String>> {
    let from = match (options.from, options.start) {
        (Some(_), Some(_)) => return Err(bad_argument("read_gzip_lines: `from` and `start` are the same: give one of them")),
        (from, start) => from.or(start).unwrap_or(1),
    };
    if from == 0 {
        return Err(bad_argument("read_gzip_lines: lines are counted from 1, got 0"));
    }
    let check = || call.check();
    let (mut plain, path) = opened(call, target, options.max_unpacked)?;
    let bounds = Bounds { max_line: size(options.max_line), max_bytes: size(options.max_bytes) };
    let lines = match options.count {
        Some(count) if count < 0 => last_lines(&mut plain, from, count.unsigned_abs(), bounds),
        Some(0) => Ok(Vec::new()),
        Some(count) => sys::text::range(&mut plain, from, (from - 1).saturating_add(count.unsigned_abs()), bounds, &check),
        None => sys::text::range(&mut plain, from, u64::MAX, bounds, &check),
    };
    let lines = lines.map_err(|error| at(error, &path))?;
    lines
        .into_iter()
        .map(|mut line| {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            to_text(line, options.lossy, 0).map_err(|error| at(error, &path))
        })
        .collect()
}

/// The last lines of those from one on: only these are held, whatever the count.
fn last_lines(plain: &mut Contents<'_>, from: u64, count: u64, bounds: Bounds) -> Result<Vec<Vec<u8>>> {
    let mut lines = Lines::new(plain, bounds.max_line);
    if lines.skip_lines(from - 1)? < from - 1 {
        return Ok(Vec::new());
    }
    let mut kept = Kept::new(count, bounds.max_bytes as u64);
    while let Some(line) = lines.next_line()? {
        kept.push(line.len() as u64, || line.to_vec());
    }
    kept.finish()
}

/// The last so many of many things, bounded in number and bytes.
struct Kept<T> {
    items: VecDeque<(u64, T)>,
    count: u64,
    bytes: u64,
    max_bytes: u64,
    /// How many came, and the number of the last one that had to go for want of room.
    seen: u64,
    lost: u64,
}

impl<T> Kept<T> {
    fn new(count: u64, max_bytes: u64) -> Self {
        Self { items: VecDeque::new(), count, bytes: 0, max_bytes, seen: 0, lost: 0 }
    }
    fn push(&mut self, bytes: u64, item: impl FnOnce() -> T) {
        self.seen += 1;
        self.items.push_back((bytes, item()));
        self.bytes += bytes;
        while self.items.len() as u64 > self.count || self.bytes > self.max_bytes {
            let full = self.items.len() as u64 > self.count;
            let Some((bytes, _)) = self.items.pop_front() else { break };
            self.bytes -= bytes;
            if !full {
                self.lost = self.seen - self.items.len() as u64;
            }
        }
    }
    fn finish(self) -> Result<Vec<T>> {
        if self.lost > self.seen.saturating_sub(self.count) {
            return Err(Error::new(Kind::TooLarge, format!("more than `max_bytes` ({})", self.max_bytes)));
        }
        Ok(self.items.into_iter().map(|(_, item)| item).collect())
    }
}

options! {
    /// Options of `search_gzip`.
    SearchOptions {
        exclude_pattern: Option<String> = None, "Leave out lines that match this one too.";
        case_insensitive: bool = false, "Upper and lower case are the same.";
        max_results: Option<i64> = None, "Stop after so many; 0: all of them; negative: the last so many. Without it more than 10,000 are the error `too_large`.";
        max_line: u64 = 1 << 20, "Refuse a line of more bytes than this.";
        max_bytes: u64 = 16 << 20, "Refuse to return more text than this.";
        max_unpacked: u64 = 16 << 30, "Refuse to read more than this out of the file.";
        lossy: bool = false, "Show bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const SEARCH_GZIP: Function = Function {
    name: "search_gzip",
    doc: "The lines of a gzip file that match a pattern.\n\nAn array of maps with `line_number` (from 1) and `line_content`. The pattern is a regular expression in Rust's syntax, in linear time. Every member of the file is searched. One that is cut short or damaged is the error `bad_data`, never a result that looks complete. Where `read` is denied and `redacted_read` permitted, the redacted text is searched. `grep` searches packed files of every kind too.",
    body: &with3(
        search_gzip,
        [param("pattern", "A regular expression."), param("path", "The gzip file, or an open file."), param("options", "")],
    ),
    asks: READS,
    fails: FAILS,
    examples: &[
        Example {
            given: &[("log", "ok\nERROR disk\nERROR net\n")],
            script: r#"gzip(dir + "/log"); search_gzip("error", dir + "/log.gz", #{case_insensitive: true, exclude_pattern: "net"}).map(|m| `${m.line_number} ${m.line_content}`)"#,
            gives: r#"["2 ERROR disk"]"#,
        },
        Example {
            given: &[("log", "plain")],
            script: r#"let k = (); try { search_gzip("p", dir + "/log") } catch (e) { if e.kind == "denied" { throw e } k = e.kind; } k"#,
            gives: r#""bad_data""#,
        },
    ],
};

/// What is searched for.
struct Query {
    wanted: regex::bytes::Regex,
    unwanted: Option<regex::bytes::Regex>,
}

impl Query {
    fn new(pattern: &str, options: &SearchOptions) -> Result<Self> {
        let regex = |pattern: &str, what: &str| {
            regex::bytes::RegexBuilder::new(pattern)
                .case_insensitive(options.case_insensitive)
                .size_limit(1 << 20)
                .build()
                .map_err(|_| bad_argument(format!("{what}: not a regular expression, or too large a one")))
        };
        Ok(Self {
            wanted: regex(pattern, "pattern")?,
            unwanted: options.exclude_pattern.as_deref().map(|pattern| regex(pattern, "option `exclude_pattern`")).transpose()?,
        })
    }
    fn fits(&self, line: &[u8]) -> bool {
        self.wanted.is_match(line) && !self.unwanted.as_ref().is_some_and(|unwanted| unwanted.is_match(line))
    }
}

fn search_gzip(call: &Call<'_>, pattern: String, target: Target, options: SearchOptions) -> Result<Array> {
    let query = Query::new(&pattern, &options)?;
    let check = || call.check();
    let (plain, path) = opened(call, target, options.max_unpacked)?;
    let found = matches(plain, &query, &options, &check).map_err(|error| at(error, &path))?;
    found
        .into_iter()
        .map(|(number, line)| {
            let text = to_text(line, options.lossy, number).map_err(|error| at(error, &path))?;
            Ok(Dynamic::from_map(record([("line_number", number.into_script()), ("line_content", text.into_script())])))
        })
        .collect()
}

fn matches(plain: Contents<'_>, query: &Query, options: &SearchOptions, check: &dyn Fn() -> Result<()>) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut lines = Lines::new(plain, size(options.max_line)).without_carriage_returns();
    let (mut found, mut bytes) = (Vec::new(), 0);
    if let Some(last) = options.max_results.filter(|most| *most < 0) {
        let mut kept = Kept::new(last.unsigned_abs(), options.max_bytes);
        let mut number = 0;
        while let Some(line) = lines.next_line()? {
            number += 1;
            if query.fits(line) {
                kept.push(line.len() as u64, || (number, line.to_vec()));
            }
        }
        return kept.finish();
    }
    let most = options.max_results.and_then(|most| usize::try_from(most).ok());
    let mut number = 0;
    while most.is_none_or(|most| most == 0 || found.len() < most) {
        let Some(line) = lines.next_line()? else { break };
        number += 1;
        if number % 1024 == 0 {
            check()?;
        }
        if !query.fits(line) {
            continue;
        }
        bytes += line.len() as u64;
        if bytes > options.max_bytes {
            return Err(Error::new(Kind::TooLarge, format!("more than `max_bytes` ({})", options.max_bytes)));
        }
        if most.is_none() && found.len() == MAX_RESULTS {
            return Err(
                Error::new(Kind::TooLarge, format!("more than {MAX_RESULTS} lines match")).with_hint("`max_results` sets another limit")
            );
        }
        found.push((number, line.to_vec()));
    }
    Ok(found)
}

const SEARCH_GZIP_EXISTS: Function = Function {
    name: "search_gzip_exists",
    doc: "Whether some line of a gzip file matches a pattern; reading ends at the first one.\n\nThe same options as `search_gzip`.",
    body: &with3(
        search_gzip_exists,
        [param("pattern", "A regular expression."), param("path", "The gzip file, or an open file."), param("options", "")],
    ),
    asks: READS,
    fails: FAILS,
    examples: &[
        Example {
            given: &[("log", "ok\nERROR disk\n")],
            script: r#"gzip(dir + "/log"); let f = dir + "/log.gz"; [search_gzip_exists("disk", f), search_gzip_exists("net", f)]"#,
            gives: "[true, false]",
        },
        Example {
            given: &[("log", "plain")],
            script: r#"let k = (); try { search_gzip_exists("p", dir + "/log") } catch (e) { if e.kind == "denied" { throw e } k = e.kind; } k"#,
            gives: r#""bad_data""#,
        },
    ],
};

fn search_gzip_exists(call: &Call<'_>, pattern: String, target: Target, options: SearchOptions) -> Result<bool> {
    let query = Query::new(&pattern, &options)?;
    let check = || call.check();
    let (plain, path) = opened(call, target, options.max_unpacked)?;
    let first = SearchOptions { max_results: Some(1), max_bytes: u64::MAX, ..options };
    matches(plain, &query, &first, &check).map(|found| !found.is_empty()).map_err(|error| at(error, &path))
}

options! {
    /// Options of `gzip_info`.
    InfoOptions {
        max_unpacked: u64 = 16 << 30, "Refuse to read more than this out of the file.";
    }
}

const GZIP_INFO: Function = Function {
    name: "gzip_info",
    doc: "What a gzip file holds: its sizes, members and header.\n\nThe file is read to its end, so the sizes are true for files of several members and of more than 4 GiB, and damage is found. It asks `read`: the sizes are those of the whole text. A map: `compressed_size_bytes`, `uncompressed_size_bytes`, `compression_ratio` (unpacked to packed), `members`, and `name` and `mtime` (seconds since the epoch) where the first header has them, else nothing. What is no gzip file is the error `bad_data`.",
    body: &with2(gzip_info, [param("path", "The gzip file, or an open file."), param("options", "")]),
    asks: &[ask::<Read>()],
    fails: FAILS,
    examples: &[
        Example {
            given: &[("log", "aaaaaaaaaa\n")],
            script: r#"gzip(dir + "/log"); let i = gzip_info(dir + "/log.gz"); [i.uncompressed_size_bytes, i.members, i.name]"#,
            gives: r#"[11, 1, "log"]"#,
        },
        Example {
            given: &[("log", "plain")],
            script: r#"let k = (); try { gzip_info(dir + "/log") } catch (e) { if e.kind == "denied" { throw e } k = e.kind; } k"#,
            gives: r#""bad_data""#,
        },
    ],
};

fn gzip_info(call: &Call<'_>, target: Target, options: InfoOptions) -> Result<Map> {
    let file = call.permit::<Read>(located(target)?)?;
    let path = file.resource().asked();
    let check = || call.check();
    let caps = Caps { max_bytes: options.max_unpacked, ..Caps::default() };
    let facts = sys::decompress::gzip_facts(Checked::new(sys::file::open(&file)?, &check), caps).map_err(|error| at(error, path))?;
    #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
    let ratio = if facts.packed == 0 { 0.0 } else { facts.unpacked as f64 / facts.packed as f64 };
    Ok(record([
        ("compressed_size_bytes", facts.packed.into_script()),
        ("uncompressed_size_bytes", facts.unpacked.into_script()),
        ("compression_ratio", ratio.into_script()),
        ("members", facts.members.into_script()),
        ("name", facts.name.as_deref().map_or(Dynamic::UNIT, name_value)),
        ("mtime", if facts.mtime == 0 { Dynamic::UNIT } else { facts.mtime.into_script() }),
    ]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_is_among_the_last_counts_for_the_bound() {
        let last = |count: u64, max: u64, sizes: &[u64]| {
            let mut kept = Kept::new(count, max);
            for size in sizes {
                kept.push(*size, || *size);
            }
            kept.finish()
        };
        assert_eq!(last(2, 10, &[100, 100, 5, 5]).unwrap(), [5, 5]);
        assert_eq!(last(3, 10, &[100, 5, 5]).unwrap_err().kind, Kind::TooLarge);
        assert_eq!(last(2, 10, &[5, 6]).unwrap_err().kind, Kind::TooLarge);
        assert_eq!(last(u64::MAX, 10, &[5, 5]).unwrap(), [5, 5]);
        assert_eq!(last(u64::MAX, 10, &[5, 6, 1]).unwrap_err().kind, Kind::TooLarge);
        assert!(last(1, 0, &[]).unwrap().is_empty());
    }
}
