//! Searching in files: grep, in one file, several, or a whole tree; compressed files as if they were plain. It asks for [`Read`].

use super::dir::{Level, is_passed_over, next_dir};
use super::file_read::Read;
use super::function::{Call, Example, Function, param, with3};
use super::value::{Array, Dynamic, FromScript, IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Granted, Walk, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::decompress::{Caps, Plain};
use crate::sys::search::{Binary, Entry, EntryKind, Found, Options, Query};
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::fs::FileType;
use std::os::unix::ffi::OsStrExt as _;

pub const FUNCTIONS: &[Function] = &[GREP];

/// One path or several; several give maps that say where each line is from.
pub struct Paths {
    list: Vec<AbsPath>,
    many: bool,
}

impl FromScript for Paths {
    const TYPE: &'static str = "an absolute path or an array of them";
    fn from_script(value: Dynamic) -> Result<Self> {
        let many = value.is_array();
        Ok(Self { list: Vec::<AbsPath>::from_script(value)?, many })
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
    doc: "The lines that match a pattern.\n\n`pattern` is a regular expression (Rust's syntax, linear time), or an array of which one must match. Of one path the lines come back as strings; of an array of paths, and with `recursive`, as maps with `path`, `line` (number), `text`, `offset` (in bytes), and `context: true` for lines of context. Files packed with gzip, zstd, bzip2 or xz are searched as if they were plain, whatever their name; one that is cut short or damaged is the error `bad_data`. Of a tree, what may not be read is left out and on record; of files with NUL bytes there is one result with `binary: true`. A line is given without its `\\n`.",
    body: &with3(
        grep,
        [
            param("pattern", "A regular expression, or an array of them."),
            param("path", "A file, an array of files, or with `recursive` a directory."),
            param("options", ""),
        ],
    ),
    asks: &[ask::<Read>()],
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
    ],
};

/// Results where the script sets no limit.
const MAX_RESULTS: u64 = 10_000;

fn grep(call: &Call<'_>, patterns: Vec<String>, paths: Paths, options: GrepOptions) -> Result<Array> {
    let entries = match options.output.as_deref() {
        None => paths.many || options.recursive,
        Some("lines") => false,
        Some("entries") => true,
        Some(_) => return Err(bad_argument("grep: option `output`: expected `lines` or `entries`")),
    };
    let named = paths.many || options.recursive;
    let mut search = Search::new(call, &patterns, &options, entries, named)?;
    for path in &paths.list {
        let file = File::locate(path)?;
        if options.recursive && file.is_dir() {
            search.tree(file)?;
        } else {
            let file = call.permit::<Read>(file)?;
            search.file(&file, false).map_err(|error| match error.kind {
                Kind::IsADirectory => error.with_hint("`recursive: true` searches directories"),
                _ => error,
            })?;
        }
        if search.full {
            break;
        }
    }
    Ok(search.results)
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
        let result = walk.permit(file).and_then(|file| self.file(&file, !self.options.binary));
        match result {
            Err(error) if matches!(error.kind, Kind::Denied | Kind::Permission | Kind::NotFound) => Ok(()),
            other => other,
        }
    }

    /// Searches one file. With `stop`, NUL bytes end it, and one result says whether something matches.
    fn file(&mut self, file: &Granted<Read>, stop: bool) -> Result<()> {
        let path = file.resource().asked();
        let place = |error: Error| if error.path.is_some() { error } else { error.with_path(path.shown()) };
        let check = || self.call.check();
        let caps = Caps { max_bytes: self.options.max_unpacked, ..Caps::default() };
        let open = || Plain::new(sys::file::open(file)?, caps);
        let left = self.limit.saturating_sub(self.results.len());
        self.query.limit(left, if stop { Binary::Stop } else { Binary::Text });
        let found = self.query.search(open().map_err(place)?, &check).map_err(place)?;
        if found.binary_at.is_some() {
            let again = self.whether.search(open().map_err(place)?, &check);
            let matched = match again {
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
        self.take(path, found).map_err(place)
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
    fn take(&mut self, path: &AbsPath, found: Found) -> Result<()> {
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
            if found.matched > 0 {
                self.keep(name_value(path.as_bytes()));
            }
            return Ok(());
        }
        if self.options.count {
            let count = if self.entries {
                record([("path", name_value(path.as_bytes())), ("count", found.matched.into_script())]).into_script()
            } else if self.named {
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

    fn map(&self, path: &AbsPath, entry: Entry) -> Result<Map> {
        let line = entry.line_number;
        let mut map = record([
            ("path", name_value(path.as_bytes())),
            ("line", line.into_script()),
            ("text", sys::text::to_text(entry.bytes, self.options.lossy, line.unwrap_or(0))?.into_script()),
            ("offset", entry.byte_offset.into_script()),
        ]);
        if entry.kind == EntryKind::Context {
            map.insert("context".into(), Dynamic::TRUE);
        }
        Ok(map)
    }

    fn line(&self, path: &AbsPath, entry: Entry) -> Result<String> {
        let mark = if entry.kind == EntryKind::Match { ':' } else { '-' };
        let mut line = String::new();
        if self.named {
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
