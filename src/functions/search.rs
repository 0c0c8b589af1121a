//! Searching in text: grep, in one file, several, or a whole tree, in an open file, lines or text; compressed files as if they were plain.

use super::dir::{Level, is_passed_over, next_dir};
use super::file_read::Read;
use super::function::{Call, Example, Function, param, with3};
use super::source::{READS, Sight, Source, sight, sight_on_walk};
use super::value::{Array, Dynamic, FromScript, IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::Walk;
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::decompress::{Caps, Plain};
use crate::sys::search::{Binary, Entry, EntryKind, Found, Options, Query};
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::fs::FileType;
use std::os::unix::ffi::OsStrExt as _;

pub const FUNCTIONS: &[Function] = &[GREP];

/// Where to search: one source, or several paths; several give maps that say where each line is from.
pub struct Where {
    list: Vec<Source>,
    many: bool,
}

impl FromScript for Where {
    const TYPE: &'static str = "an absolute path or an array of them, an open file, or text (#{text: …}, #{lines: […]})";
    fn from_script(value: Dynamic) -> Result<Self> {
        if let Some(map) = value.read_lock::<Map>().map(|map| map.clone())
            && let (1, Some(lines)) = (map.len(), map.get("lines"))
        {
            return Ok(Self { list: vec![Source::Lines(Array::from_script(lines.clone())?)], many: false });
        }
        if !value.is_array() {
            return Ok(Self { list: vec![Source::from_script(value)?], many: false });
        }
        let sources = Array::from_script(value)?.into_iter().enumerate().map(|(at, item)| {
            Source::from_script(item).map_err(|error| bad_argument(format!("item {at}: {}", error.message))).and_then(|source| match source
            {
                Source::Path(_) | Source::Open(_) => Ok(source),
                _ => Err(bad_argument(format!("item {at} is no absolute path")).with_hint("`#{lines: […]}` searches an array of lines")),
            })
        });
        Ok(Self { list: sources.collect::<Result<_>>()?, many: true })
    }
}

options! {
    /// Options of `grep`.
    GrepOptions {
        ignore_case: bool = false, "Upper and lower case are the same.", flags &["ignore_case", "i"];
        invert: bool = false, "The lines that do not match.", flags &["invert", "v"];
        count: bool = false, "How many lines match, instead of the lines.", flags &["count", "c"];
        line_number: bool = false, "Put the line's number and `:` before each line.", flags &["line_number", "n"];
        max_count: Option<i64> = None, "Stop reading a file after so many matching lines.", flags &["max_count", "m"];
        fixed: bool = false, "The pattern is the text itself, not a regular expression.", flags &["fixed", "F"];
        word: bool = false, "Matches begin and end at the edge of a word.", flags &["word", "w"];
        only_matching: bool = false, "The matching parts, each by itself, instead of their lines.", flags &["only_matching", "o"];
        files_with_matches: bool = false, "The paths of the files in which something matches.", flags &["files_with_matches", "l"];
        before: u64 = 0, "Lines of context before each match.", flags &["before", "B"];
        after: u64 = 0, "Lines of context after each match.", flags &["after", "A"];
        context: u64 = 0, "Lines of context before and after.", flags &["context", "C"];
        recursive: bool = false, "Go through directories; links in them are not followed.", flags &["recursive", "r"];
        include: Vec<String> = Vec::new(), "Of a tree, only files whose name fits one of these globs (or whose path does, where the glob has a `/`).";
        exclude: Vec<String> = Vec::new(), "Of a tree, no files and directories that fit one of these globs.";
        binary: bool = false, "Of a tree, search files with NUL bytes line by line too; else they give one result that says so.", flags &["text", "a"];
        output: Option<String> = None, "`lines`: strings; `entries`: maps `#{path, line, text, offset}`. Strings for one path, maps for several and for trees.";
        max_results: Option<u64> = None, "Stop after so many results. Without it more than 10,000 are the error `too_large`.";
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when the text of the results is more than this.";
        max_unpacked: u64 = 16 << 30, "Fail with `too_large` when a compressed file holds more than this.";
        lossy: bool = false, "Show bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const GREP: Function = Function {
    name: "grep",
    doc: "The lines that match a pattern.\n\n`pattern` is a regular expression (Rust's syntax, linear time), or an array of which one must match. Of one path the lines come back as strings; of an array of paths, and with `recursive`, as maps with `path`, `line` (number), `text`, `offset` (in bytes), and `context: true` for lines of context. Files packed with gzip, zstd, bzip2 or xz are searched as if they were plain, whatever their name; one that is cut short or damaged is the error `bad_data`. Of a tree, what may not be read is left out and on record; of files with NUL bytes there is one result with `binary: true`. An open file is searched from its place and left where the search has ended, after an error where it was; offsets are counted from that place. A line is given without its `\\n`; as for grep(1), a `\\r` before it is part of the line. Under redacted reading the redacted text is searched.",
    body: &with3(
        grep,
        [
            param("pattern", "A regular expression, or an array of them."),
            param(
                "source",
                "The path of a file, an array of paths, or with `recursive` of directories; an open file; text; `#{lines: […]}`.",
            ),
            param("options", ""),
        ],
    ),
    asks: READS,
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::NotText, Kind::BadData, Kind::Permission],
    examples: &[
        Example {
            given: &[("log", "ok\nERROR disk\nok\nerror net\n")],
            script: r#"grep("ERROR", dir + "/log")"#,
            gives: r#"["ERROR disk"]"#,
        },
        Example {
            given: &[("log", "ok\nERROR disk\n")],
            script: r#"grep([grep::i, grep::n], "error", dir + "/log")"#,
            gives: r#"["2:ERROR disk"]"#,
        },
        Example { given: &[("log", "ok\nERROR disk\n")], script: r#"grep([grep::count], "o", dir + "/log")"#, gives: r#"["1"]"# },
        Example {
            given: &[("a/x", "hit\n"), ("a/y", "miss\n")],
            script: r#"grep("hit", dir, #{recursive: true}).map(|e| `${e.line} ${e.text}`)"#,
            gives: r#"["1 hit"]"#,
        },
        Example {
            given: &[("a.log", "hit\n"), ("b.txt", "hit\n")],
            script: r#"grep("hit", dir, #{recursive: true, include: "*.log", files_with_matches: true}).len()"#,
            gives: "1",
        },
        Example {
            given: &[("l", "id=1 id=22\n")],
            script: r#"grep("id=[0-9]+", dir + "/l", #{only_matching: true})"#,
            gives: r#"["id=1", "id=22"]"#,
        },
        Example { given: &[], script: r#"grep("b", #{lines: ["abc", "xyz"]})"#, gives: r#"["abc"]"# },
    ],
};

/// Results where the script sets no limit.
const MAX_RESULTS: u64 = 10_000;

fn grep(call: &Call<'_>, patterns: Vec<String>, source: Where, options: GrepOptions) -> Result<Array> {
    let entries = match options.output.as_deref() {
        None => source.many || options.recursive,
        Some("lines") => false,
        Some("entries") => true,
        Some(_) => return Err(bad_argument("grep: option `output`: expected `lines` or `entries`")),
    };
    let named = source.many || options.recursive;
    let mut search = Search::new(call, &patterns, &options, entries, named)?;
    for source in source.list {
        match source {
            Source::Path(path) => {
                let file = File::locate(&path)?;
                if options.recursive && file.is_dir() {
                    search.tree(file)?;
                } else {
                    search.file(&sight(call, file)?, false).map_err(|error| match error.kind {
                        Kind::IsADirectory => error.with_hint("`recursive: true` searches directories"),
                        _ => error,
                    })?;
                }
            }
            Source::Open(handle) => {
                let path = handle.path().clone();
                handle.or_back(|handle| search.reader(Some(&path), handle)).map_err(|error| with_path(error, &path))?;
            }
            _ if options.files_with_matches => return Err(bad_argument("grep: `files_with_matches` needs files")),
            other => search.reader(None, other.contents(call)?)?,
        }
        if search.full {
            break;
        }
    }
    Ok(search.results)
}

fn with_path(error: Error, path: &AbsPath) -> Error {
    if error.path.is_some() { error } else { error.with_path(path.shown()) }
}

/// One `grep` under way.
struct Search<'c, 'h> {
    call: &'c Call<'h>,
    options: &'c GrepOptions,
    query: Query,
    /// The same pattern, searched in binary files of a tree.
    whether: Query,
    /// Results are maps.
    entries: bool,
    /// Results of the form of strings begin with the path.
    named: bool,
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
    results: Array,
    bytes: u64,
    limit: usize,
    /// The limit that the script set has been reached.
    full: bool,
}

impl<'c, 'h> Search<'c, 'h> {
    fn new(call: &'c Call<'h>, patterns: &[String], options: &'c GrepOptions, entries: bool, named: bool) -> Result<Self> {
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        let lines = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let limit = lines(options.max_results.unwrap_or(MAX_RESULTS));
        let settings = Options {
            fixed: options.fixed,
            word: options.word,
            ignore_case: options.ignore_case,
            invert: options.invert,
            line_number: options.line_number || entries,
            count: options.count,
            only_whether: options.files_with_matches,
            only_matching: options.only_matching,
            // The reference takes 0 and less for no limit.
            max_count: options.max_count.and_then(|count| u64::try_from(count).ok()).filter(|count| *count > 0),
            before: lines(options.before.max(options.context)),
            after: lines(options.after.max(options.context)),
            binary: Binary::Text,
            max_results: limit,
            max_bytes: lines(options.max_bytes),
            ..Options::default()
        };
        let whether = Options { only_whether: true, count: false, only_matching: false, max_line: 64 << 20, ..settings.clone() };
        let name = |error: Error| Error { message: format!("grep: pattern: {}", error.message), ..error };
        Ok(Self {
            call,
            options,
            whether: Query::new(&patterns, whether).map_err(name)?,
            query: Query::new(&patterns, settings).map_err(name)?,
            entries,
            named,
            include: globs("include", &options.include)?,
            exclude: globs("exclude", &options.exclude)?,
            results: Array::new(),
            bytes: 0,
            limit,
            full: false,
        })
    }

    /// Searches everything below a directory, in the order of names.
    fn tree(&mut self, root: File) -> Result<()> {
        let walk = self.call.walk::<Read>(&root)?;
        let mut levels: Vec<Level> = Vec::new();
        let mut root = Some(walk.permit(root)?);
        while let Some(dir) = next_dir(root.take(), &mut levels, &walk)? {
            let (mut names, _) = match sys::dir::names(&dir, usize::MAX, &self.call.host.watch) {
                Err(error) if !levels.is_empty() && is_passed_over(error.kind) => continue,
                listed => listed?,
            };
            names.sort_by(|a, b| a.bytes.cmp(&b.bytes));
            let mut below = Vec::new();
            for name in names {
                self.call.check()?;
                if self.full {
                    walk.finish()?;
                    return Ok(());
                }
                let entry = match File::entry(dir.resource(), &name.bytes) {
                    Ok(entry) => entry,
                    Err(error) if matches!(error.kind, Kind::NotFound | Kind::Permission) => continue,
                    Err(error) => return Err(error),
                };
                let (kind, path) = (entry.kind(), entry.asked().as_bytes().to_vec());
                if fits(self.exclude.as_ref(), &path) {
                    continue;
                }
                match kind {
                    Some(FileType::Directory) => below.push(name),
                    Some(FileType::RegularFile) if self.include.is_none() || fits(self.include.as_ref(), &path) => {
                        self.member(&walk, entry)?
                    }
                    _ => {}
                }
            }
            below.reverse();
            levels.push(Level { dir, todo: below });
        }
        walk.finish()
    }

    /// A file of a tree: left out if it may not be read.
    fn member(&mut self, walk: &Walk<'_, Read>, file: File) -> Result<()> {
        let result = sight_on_walk(self.call, walk, file).and_then(|file| self.file(&file, !self.options.binary));
        match result {
            Err(error) if matches!(error.kind, Kind::Denied | Kind::Permission | Kind::NotFound) => Ok(()),
            other => other,
        }
    }

    /// Searches one file. With `stop`, NUL bytes end it, and one result says whether something matches.
    fn file(&mut self, file: &Sight, stop: bool) -> Result<()> {
        let path = file.file().asked();
        let call = self.call;
        let check = || call.check();
        let place = |error: Error| with_path(error, path);
        let left = self.limit.saturating_sub(self.results.len());
        let contents = file.unpacked(call, self.caps()).map_err(place)?;
        self.query.limit(left, if stop { Binary::Stop } else { Binary::Text });
        let found = self.query.search(contents, &check).map_err(place)?;
        if found.binary_at.is_some() {
            let again = file.unpacked(call, self.caps()).map_err(place)?;
            let matched = match self.whether.search(again, &check) {
                Ok(again) => again.matched > 0,
                // A "line" of binary data can be longer than any line.
                Err(error) if error.kind == Kind::TooLarge => found.matched > 0,
                Err(error) => return Err(place(error)),
            };
            if matched {
                self.keep(Self::binary_result(path, self.entries, self.options));
            }
            return Ok(());
        }
        self.take(Some(path), found).map_err(place)
    }

    /// Searches an open file, lines or text.
    fn reader(&mut self, path: Option<&AbsPath>, contents: impl std::io::Read) -> Result<()> {
        let call = self.call;
        let contents = Plain::new(contents, self.caps())?;
        self.query.limit(self.limit.saturating_sub(self.results.len()), Binary::Text);
        let found = self.query.search(contents, &|| call.check())?;
        self.take(path, found)
    }

    fn caps(&self) -> Caps {
        Caps { max_bytes: self.options.max_unpacked, ..Caps::default() }
    }

    fn binary_result(path: &AbsPath, entries: bool, options: &GrepOptions) -> Dynamic {
        if options.files_with_matches {
            return name_value(path.as_bytes());
        }
        if entries {
            return record([("path", name_value(path.as_bytes())), ("binary", Dynamic::TRUE)]).into_script();
        }
        format!("{}: binary file matches", path.shown()).into_script()
    }

    fn keep(&mut self, result: Dynamic) {
        self.results.push(result);
        self.full = self.options.max_results.is_some() && self.results.len() >= self.limit;
    }

    /// Takes what was found in one file into the results.
    fn take(&mut self, path: Option<&AbsPath>, found: Found) -> Result<()> {
        if found.truncated {
            let too_many = found.entries.len() >= self.limit.saturating_sub(self.results.len());
            if !too_many {
                return Err(Error::new(Kind::TooLarge, format!("the results are more than `max_bytes` ({})", self.options.max_bytes)));
            }
            if self.options.max_results.is_none() {
                return Err(Error::new(Kind::TooLarge, format!("more than {MAX_RESULTS} results"))
                    .with_hint("set `max_results`, or use `max_count`, `count` or a narrower pattern"));
            }
            self.full = true;
        }
        if self.options.files_with_matches {
            if found.matched > 0
                && let Some(path) = path
            {
                self.keep(name_value(path.as_bytes()));
            }
            return Ok(());
        }
        if self.options.count {
            let count = if self.entries {
                let mut map = record([("count", found.matched.into_script())]);
                map.extend(path.map(|path| ("path".into(), name_value(path.as_bytes()))));
                map.into_script()
            } else if let Some(path) = path.filter(|_| self.named) {
                format!("{}:{}", path.shown(), found.matched).into_script()
            } else {
                found.matched.to_string().into_script()
            };
            self.keep(count);
            return Ok(());
        }
        for entry in found.entries {
            self.bytes += entry.bytes.len() as u64;
            if self.bytes > self.options.max_bytes {
                return Err(Error::new(Kind::TooLarge, format!("the results are more than `max_bytes` ({})", self.options.max_bytes)));
            }
            if entry.gap && !self.entries {
                self.results.push("--".into_script());
            }
            let result = if self.entries { self.map(path, entry)?.into_script() } else { self.line(path, entry)?.into_script() };
            self.keep(result);
        }
        Ok(())
    }

    fn map(&self, path: Option<&AbsPath>, entry: Entry) -> Result<Map> {
        let line = entry.line_number;
        let mut map = record([
            ("line", line.into_script()),
            ("text", sys::text::to_text(entry.bytes, self.options.lossy, line.unwrap_or(0))?.into_script()),
            ("offset", entry.byte_offset.into_script()),
        ]);
        map.extend(path.map(|path| ("path".into(), name_value(path.as_bytes()))));
        if entry.kind == EntryKind::Context {
            map.insert("context".into(), Dynamic::TRUE);
        }
        Ok(map)
    }

    fn line(&self, path: Option<&AbsPath>, entry: Entry) -> Result<String> {
        let mark = if entry.kind == EntryKind::Match { ':' } else { '-' };
        let mut line = String::new();
        if let Some(path) = path.filter(|_| self.named) {
            line = format!("{}{mark}", path.shown());
        }
        if let Some(number) = entry.line_number.filter(|_| self.options.line_number) {
            line.push_str(&format!("{number}{mark}"));
        }
        line.push_str(&sys::text::to_text(entry.bytes, self.options.lossy, entry.line_number.unwrap_or(0))?);
        Ok(line)
    }
}

/// Globs of one option, ready to be applied; one without `/` is meant for the name alone.
fn globs(option: &str, patterns: &[String]) -> Result<Option<GlobSet>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let wrong = |error: &globset::Error| bad_argument(format!("grep: option `{option}`: not a glob: {}", error.kind()));
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let whole = if pattern.contains('/') { pattern.clone() } else { format!("**/{pattern}") };
        let glob: Glob = GlobBuilder::new(&whole).literal_separator(true).backslash_escape(true).build().map_err(|error| wrong(&error))?;
        set.add(glob);
    }
    set.build().map(Some).map_err(|error| wrong(&error))
}

fn fits(set: Option<&GlobSet>, path: &[u8]) -> bool {
    set.is_some_and(|set| set.is_match(std::path::Path::new(std::ffi::OsStr::from_bytes(path))))
}

#[cfg(test)]
mod tests;
