//! Paths as such, what they lead to, and which ones there are: [`Stat`] on what a path leads to, [`Read`] on folders that are searched.

use super::dir::{Room, is_passed_over};
use super::file_read::Read;
use super::file_stat::Stat;
use super::function::{Call, Example, Function, param, with1, with2, with3, with4};
use super::value::{Array, Dynamic, FromScript, IntoScript, Map, name_value, plain_type, record};
use super::walker::{Bounds, Entered, Seen, Step, Walker};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Walk, Weighed, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;
use globset::{GlobBuilder, GlobMatcher};
use rustix::fs::FileType;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub const FUNCTIONS: &[Function] = &[REALPATH, READLINK, BASENAME, DIRNAME, JOIN_PATH, MIME, GLOB, FIND_FILES, TREE];

/// Any path, absolute or not: only its text is looked at.
struct AnyPath(Vec<u8>);

impl FromScript for AnyPath {
    const TYPE: &'static str = "a path";
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is_blob() {
            return Ok(Self(value.into_blob().unwrap_or_default()));
        }
        match value.into_immutable_string() {
            Ok(text) => Ok(Self(text.as_bytes().to_vec())),
            Err(name) => Err(bad_argument(format!("expected {}, got {}", Self::TYPE, plain_type(name)))),
        }
    }
}

const REALPATH: Function = Function {
    name: "realpath",
    doc: "The path without links, `.` and `..`, of what a path leads to.\n\nIt has to exist. This is the path that policies judge. `..` is taken as it is written: it takes away the name before it, without following a link there.",
    body: &with1(realpath, [param("path", "Any path.")]),
    asks: &[ask::<Stat>()],
    fails: &[Kind::NotFound, Kind::NotADirectory],
    examples: &[Example { given: &[("a/b", "")], script: r#"realpath(dir + "/a/../a/./b") == dir + "/a/b""#, gives: "true" }],
};

fn realpath(call: &Call<'_>, path: AbsPath) -> Result<Dynamic> {
    let file = call.permit::<Stat>(File::locate(&path)?)?;
    Ok(name_value(file.resource().place()))
}

const READLINK: Function = Function {
    name: "readlink",
    doc: "What a symbolic link says, as it stands there.\n\nIt asks for `stat` on the link; where it leads is not looked at. What is no link is an error.",
    body: &with1(readlink, [param("path", "The link.")]),
    asks: &[ask::<Stat>()],
    fails: &[Kind::NotFound, Kind::NotADirectory],
    examples: &[Example { given: &[], script: r#"readlink("/proc/self") != """#, gives: "true" }],
};

fn readlink(call: &Call<'_>, path: AbsPath) -> Result<Dynamic> {
    let link = call.permit::<Stat>(File::locate_with(&path, false)?)?;
    if link.resource().kind() != Some(FileType::Symlink) {
        return Err(bad_argument("readlink: is not a symbolic link").with_path(path.shown()));
    }
    Ok(name_value(&sys::dir::link_target(&link)?))
}

const BASENAME: Function = Function {
    name: "basename",
    doc: "The last name of a path.\n\nSlashes at the end do not count; of `/` it is `/`. Nothing is looked up.",
    body: &with2(
        basename,
        [param("path", "Any path."), param("suffix", "Taken away from the end of the name, unless it is the whole name.")],
    ),
    asks: &[],
    fails: &[],
    examples: &[
        Example {
            given: &[],
            script: r#"[basename("/var/log/syslog"), basename("/var/log/"), basename("/")]"#,
            gives: r#"["syslog", "log", "/"]"#,
        },
        Example { given: &[], script: r#"basename("/var/log/app.log", ".log")"#, gives: r#""app""# },
    ],
};

fn basename(_: &Call<'_>, path: AnyPath, suffix: Option<String>) -> Result<Dynamic> {
    let name = last_name(&path.0);
    let suffix = suffix.unwrap_or_default();
    let short = name.strip_suffix(suffix.as_bytes()).filter(|short| !short.is_empty());
    Ok(name_value(short.unwrap_or(name)))
}

/// Without the slashes at its end; `/` stays.
fn trimmed(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(usize::from(!path.is_empty()), |at| at + 1);
    path.get(..end).unwrap_or_default()
}

fn last_name(path: &[u8]) -> &[u8] {
    let path = trimmed(path);
    if path == b"/" { path } else { path.rsplit(|byte| *byte == b'/').next().unwrap_or_default() }
}

const DIRNAME: Function = Function {
    name: "dirname",
    doc: "A path without its last name.\n\nOf a name alone it is `.`, of `/` it is `/`. Nothing is looked up.",
    body: &with1(dirname, [param("path", "Any path.")]),
    asks: &[],
    fails: &[],
    examples: &[Example {
        given: &[],
        script: r#"[dirname("/var/log/syslog"), dirname("/var/log/"), dirname("/var"), dirname("x")]"#,
        gives: r#"["/var/log", "/var", "/", "."]"#,
    }],
};

fn dirname(_: &Call<'_>, path: AnyPath) -> Result<Dynamic> {
    let path = trimmed(&path.0);
    Ok(name_value(match path.iter().rposition(|byte| *byte == b'/') {
        None => b".",
        Some(cut) => trimmed(path.get(..=cut).unwrap_or_default()),
    }))
}

const JOIN_PATH: Function = Function {
    name: "join_path",
    doc: "Parts of a path put together with one slash between them.\n\nA later part that begins with a slash is an error, for it would lead elsewhere; so is an empty one. `..` is kept as it is. Nothing is looked up.",
    body: &with4(
        join_path,
        [
            param("first", "Where it begins."),
            param("second", "What comes below."),
            param("third", "The same."),
            param("fourth", "The same."),
        ],
    ),
    asks: &[],
    fails: &[],
    examples: &[
        Example { given: &[], script: r#"join_path("/var/", "log", "app/x.log")"#, gives: r#""/var/log/app/x.log""# },
        Example {
            given: &[],
            script: r#"let kind = ""; try { join_path("/srv", "/etc/passwd"); } catch(e) { kind = e.kind; } kind"#,
            gives: r#""bad_argument""#,
        },
    ],
};

fn join_path(_: &Call<'_>, first: AnyPath, second: AnyPath, third: Option<AnyPath>, fourth: Option<AnyPath>) -> Result<Dynamic> {
    let mut joined = first.0;
    for (at, part) in [Some(second), third, fourth].into_iter().enumerate().filter_map(|(at, part)| part.map(|part| (at + 2, part.0))) {
        if part.first() == Some(&b'/') {
            return Err(bad_argument(format!("join_path: part {at} begins with a slash")));
        }
        if part.is_empty() || joined.is_empty() {
            return Err(bad_argument(format!("join_path: part {} is empty", if part.is_empty() { at } else { 1 })));
        }
        if !joined.ends_with(b"/") {
            joined.push(b'/');
        }
        joined.extend_from_slice(&part);
    }
    if joined.contains(&0) {
        return Err(bad_argument("join_path: a path cannot hold a NUL byte"));
    }
    Ok(name_value(&joined))
}

const MIME: Function = Function {
    name: "mime",
    doc: "What kind of contents a file has, from its first bytes.\n\nA map: `type`, e.g. `application/gzip`, `text/plain`, `application/octet-stream` where nothing is known, `inode/x-empty` of an empty file; `charset` (`us-ascii`, `utf-8`, `utf-16le`, `utf-16be` or `binary`). The name of the file does not count.",
    body: &with1(mime, [param("path", "The file.")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::Permission],
    examples: &[
        Example {
            given: &[("notes", "plain text\n")],
            script: r#"mime(dir + "/notes")"#,
            gives: r#"#{type: "text/plain", charset: "us-ascii"}"#,
        },
        Example { given: &[("page", "<!DOCTYPE html><html></html>")], script: r#"mime(dir + "/page").type"#, gives: r#""text/html""# },
    ],
};

/// Bytes that `mime` looks at.
const FIRST: u64 = 8 << 10;

fn mime(call: &Call<'_>, path: AbsPath) -> Result<Map> {
    let file = call.permit::<Read>(File::locate(&path)?)?;
    let bytes = sys::file::read(&file, 0, Some(FIRST), FIRST, &call.host.watch)?;
    let charset = charset(&bytes, bytes.len() as u64 == FIRST);
    let kind = match infer::get(&bytes) {
        Some(known) => known.mime_type(),
        None if bytes.is_empty() => "inode/x-empty",
        None if charset == "binary" => "application/octet-stream",
        None => "text/plain",
    };
    Ok(record([("type", kind.into_script()), ("charset", charset.into_script())]))
}

/// The encoding of text; `cut`: there may be more, so that the last character may be incomplete.
fn charset(bytes: &[u8], cut: bool) -> &'static str {
    match bytes {
        [] => return "binary",
        [0xff, 0xfe, ..] => return "utf-16le",
        [0xfe, 0xff, ..] => return "utf-16be",
        _ => {}
    }
    // Control characters that text has: the blanks, backspace, form feed, and escape for colours.
    let odd = |byte: &u8| (*byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x08 | 0x0c | 0x1b)) || *byte == 0x7f;
    if bytes.iter().any(odd) {
        return "binary";
    }
    if bytes.is_ascii() {
        return "us-ascii";
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => "utf-8",
        Err(error) if cut && error.error_len().is_none() => "utf-8",
        Err(_) => "binary",
    }
}

options! {
    /// Options of `glob`.
    GlobOptions {
        limit: Option<u64> = None, "Stop after so many paths. Without it more than 100,000 are an error (`too_large`).";
    }
}

const GLOB: Function = Function {
    name: "glob",
    doc: "The paths that fit a pattern: an array, in the order of names.\n\n`*` and `?` stand for part of a name, `[a-z]` for one character, `{a,b}` for either, `**` for any number of folders, `\\` takes the meaning from the next character. Names that begin with a dot fit only where the pattern has that dot. With a slash at the end, only directories. Links are followed but not by `**`.\n\nOnly the folders that the pattern needs are read. The first one has to be permitted; below it, what is denied is left out. A last part without a wildcard asks for `stat` on each path that it makes. That nothing fits is an empty array.",
    body: &with2(glob, [param("pattern", "An absolute path with wildcards."), param("options", "")]),
    asks: &[ask::<Read>(), ask::<Stat>()],
    fails: &[Kind::Permission],
    examples: &[
        Example {
            given: &[("a.log", ""), ("b.txt", ""), (".c.log", "")],
            script: r#"glob(dir + "/*.log").map(|p| basename(p))"#,
            gives: r#"["a.log"]"#,
        },
        Example {
            given: &[("x/on", ""), ("y/on", ""), ("z/off", "")],
            script: r#"glob(dir + "/{x,z}*/on").map(|p| p.sub_string(dir.len()))"#,
            gives: r#"["/x/on"]"#,
        },
        Example { given: &[("1/2/a.rs", ""), ("b.rs", "")], script: r#"glob(dir + "/**/*.rs").len()"#, gives: "2" },
    ],
};

/// Patterns that braces may unfold to.
const MOST_ALTERNATIVES: usize = 1000;

/// A part of a pattern between slashes.
enum Part {
    /// A name, its escapes taken away.
    Plain(Vec<u8>),
    Wild {
        matcher: GlobMatcher,
        dotted: bool,
    },
    /// `**`, with all parts after it; None: it is the last.
    Deep(Option<GlobMatcher>, bool),
}

impl Part {
    fn of(text: &str) -> Result<Self> {
        if !text.contains(['*', '?', '[']) {
            return Ok(Self::Plain(unescaped(text)));
        }
        Ok(Self::Wild { matcher: matcher(text)?, dotted: text.starts_with('.') })
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    plain.into_bytes()
}

fn matcher(text: &str) -> Result<GlobMatcher> {
    if text.len() > super::dir::MOST_GLOB {
        return Err(bad_argument(format!("a glob is longer than {} bytes", super::dir::MOST_GLOB)));
    }
    GlobBuilder::new(text)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| bad_argument(format!("not a glob: {}", error.kind())))
}

fn fits(matcher: &GlobMatcher, name: &[u8]) -> bool {
    matcher.is_match(Path::new(OsStr::from_bytes(name)))
}

/// `a{b,c}d` as `abd` and `acd`; braces may stand in braces.
fn unfold(pattern: &str) -> Result<Vec<String>> {
    let mut done = Vec::new();
    let mut todo = vec![pattern.to_owned()];
    while let Some(text) = todo.pop() {
        if done.len() + todo.len() >= MOST_ALTERNATIVES {
            return Err(bad_argument(format!("glob: the braces unfold to more than {MOST_ALTERNATIVES} patterns")));
        }
        let Some((open, close, commas)) = first_braces(&text)? else {
            done.push(text);
            continue;
        };
        let (before, after) = (text.get(..open).unwrap_or(""), text.get(close + 1..).unwrap_or(""));
        let mut ends: Vec<usize> = commas;
        ends.push(close);
        let mut parts = Vec::with_capacity(ends.len());
        let mut start = open + 1;
        for end in ends {
            parts.push(format!("{before}{}{after}", text.get(start..end).unwrap_or("")));
            start = end + 1;
        }
        todo.extend(parts.into_iter().rev());
    }
    Ok(done)
}

/// Where the first braces begin and end, and the commas directly in them.
fn first_braces(text: &str) -> Result<Option<(usize, usize, Vec<usize>)>> {
    let (mut depth, mut open, mut commas, mut skip) = (0_usize, 0, Vec::new(), false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if skip => skip = false,
            b'\\' => skip = true,
            b'{' => {
                if depth == 0 {
                    open = at;
                }
                depth += 1;
            }
            b'}' if depth == 1 => return Ok(Some((open, at, commas))),
            b'}' if depth == 0 => return Err(bad_argument("glob: a `}` without a `{`; `\\}` stands for the character")),
            b'}' => depth -= 1,
            b',' if depth == 1 => commas.push(at),
            _ => {}
        }
    }
    if depth > 0 { Err(bad_argument("glob: a `{` without a `}`; `\\{` stands for the character")) } else { Ok(None) }
}

/// A pattern without braces, read: its parts, and whether only directories fit.
fn parts(pattern: &str) -> Result<(Vec<Part>, bool)> {
    let names: Vec<&str> = pattern.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    let mut parts = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if *name == "**" {
            let rest: Vec<&str> = names.iter().skip(at).skip_while(|name| **name == "**").copied().collect();
            let matcher = if rest.is_empty() { None } else { Some(matcher(&format!("**/{}", rest.join("/")))?) };
            let dotted = rest.iter().any(|name| name.starts_with('.'));
            parts.push(Part::Deep(matcher, dotted));
            break;
        }
        if name.contains("**") && !name.contains('\\') {
            return Err(bad_argument("glob: `**` is a part of its own, between slashes"));
        }
        parts.push(Part::of(name)?);
    }
    Ok((parts, pattern.ends_with('/')))
}

fn glob(call: &Call<'_>, pattern: String, options: GlobOptions) -> Result<Array> {
    AbsPath::new(pattern.as_bytes()).map_err(|error| Error { message: format!("glob: pattern: {}", error.message), ..error })?;
    let mut search = Search { call, room: Room::of(options.limit), found: Array::new(), known: None };
    let patterns = unfold(&pattern)?;
    if patterns.len() > 1 {
        search.known = Some(HashSet::new());
    }
    let patterns: Vec<(Vec<Part>, bool)> = patterns.iter().map(|pattern| parts(pattern)).collect::<Result<_>>()?;
    for (parts, dirs) in &patterns {
        if !search.pattern(parts, *dirs)? {
            break;
        }
    }
    Ok(search.found)
}

/// One `glob` under way.
struct Search<'c, 'h> {
    call: &'c Call<'h>,
    room: Room,
    found: Array,
    /// Where several patterns could fit the same path.
    known: Option<HashSet<Vec<u8>>>,
}

impl Search<'_, '_> {
    /// The paths of one pattern; `false` when the limit is reached.
    fn pattern(&mut self, parts: &[Part], dirs: bool) -> Result<bool> {
        let plain = parts.iter().take_while(|part| matches!(part, Part::Plain(_))).count();
        let mut base = b"/".to_vec();
        for part in parts.iter().take(plain) {
            if let Part::Plain(name) = part {
                append(&mut base, name);
            }
        }
        let base = AbsPath::new(base)?;
        let rest = parts.get(plain..).unwrap_or_default();
        if rest.is_empty() {
            return match self.call.permit::<Stat>(File::locate_with(&base, dirs)?) {
                Ok(file) if dirs && !file.resource().is_dir() => Ok(true),
                Ok(_) => self.keep(&base),
                Err(error) if matches!(error.kind, Kind::NotFound | Kind::NotADirectory) => Ok(true),
                Err(error) => Err(error),
            };
        }
        let root = File::locate_dir(&base)?;
        let walk = match self.call.walk::<Read>(&root) {
            Ok(walk) => walk,
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::NotADirectory) => return Ok(true),
            Err(error) => return Err(error),
        };
        let more = if root.is_dir() { self.below(&walk, &base, rest, dirs) } else { Ok(true) };
        walk.finish()?;
        more
    }

    /// What fits the rest of a pattern below a folder.
    fn below(&mut self, walk: &Walk<'_, Read>, base: &AbsPath, rest: &[Part], dirs: bool) -> Result<bool> {
        self.call.check()?;
        match rest {
            [] => Ok(true),
            [Part::Plain(name), rest @ ..] => {
                let path = base.below(name);
                if !rest.is_empty() {
                    return self.below(walk, &path, rest, dirs);
                }
                match walk.weigh::<Stat>(File::locate_with(&path, dirs)?, true) {
                    Ok(Weighed::Granted(file)) if !dirs || file.resource().is_dir() => self.keep(&path),
                    Ok(_) => Ok(true),
                    Err(error) if is_passed_over(error.kind) => Ok(true),
                    Err(error) => Err(error),
                }
            }
            [Part::Wild { matcher, dotted }, rest @ ..] => {
                let dir = File::locate_dir(base)?;
                if !dir.is_dir() {
                    return Ok(true);
                }
                let mut names = match walk.permit(dir).and_then(|dir| sys::dir::list(&dir, &self.call.host.watch)) {
                    Ok(names) => names,
                    Err(error) if is_passed_over(error.kind) => return Ok(true),
                    Err(error) => return Err(error),
                };
                names.retain(|name, kind| {
                    let goes_on = rest.is_empty() && !dirs || matches!(kind, FileType::Directory | FileType::Symlink | FileType::Unknown);
                    goes_on && (*dotted || !name.starts_with(b".")) && fits(matcher, name)
                });
                names.sort_to_pop();
                while let Some(name) = names.pop() {
                    let path = base.below(&name.bytes);
                    let more = match rest {
                        [] if !dirs || File::locate_dir(&path)?.is_dir() => self.keep(&path)?,
                        [] => true,
                        rest => self.below(walk, &path, rest, dirs)?,
                    };
                    if !more {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            [Part::Deep(matcher, dotted), ..] => self.deep(base, matcher.as_ref(), *dotted, dirs),
        }
    }

    /// Everything below a folder whose path from there fits.
    fn deep(&mut self, base: &AbsPath, matcher: Option<&GlobMatcher>, dotted: bool, dirs: bool) -> Result<bool> {
        let root = File::locate_dir(base)?;
        if !root.is_dir() {
            return Ok(true);
        }
        let mut walker = match Walker::new(self.call, &root, Bounds::default()) {
            Ok(walker) => walker,
            Err(error) if is_passed_over(error.kind) => return Ok(true),
            Err(error) => return Err(error),
        };
        walker.hide = !dotted;
        match walker.enter_root(root) {
            Err(error) if is_passed_over(error.kind) => return Ok(true),
            entered => entered?,
        }
        let start = base.as_bytes().len();
        loop {
            let name = match walker.step()? {
                Step::Name(name) => name,
                Step::Left => continue,
                Step::Done => break,
            };
            let Some(folder) = walker.folder() else { break };
            let path = folder.asked().below(&name.bytes);
            let relative = trim_start(path.as_bytes().get(start..).unwrap_or_default());
            let may_be_dir = matches!(name.kind, FileType::Directory | FileType::Unknown);
            let dir = if may_be_dir { seen_dir(&walker, &name)? } else { None };
            if (!dirs || dir.is_some()) && matcher.is_none_or(|matcher| fits(matcher, relative)) && !self.keep(&path)? {
                walker.finish()?;
                return Ok(false);
            }
            // A name with a dot is gone into only where the pattern names it.
            if let Some(dir) = dir.filter(|_| !name.bytes.starts_with(b".")) {
                walker.enter(dir)?;
            }
        }
        walker.finish()?;
        Ok(true)
    }

    fn keep(&mut self, path: &AbsPath) -> Result<bool> {
        if let Some(known) = &mut self.known
            && !known.insert(path.as_bytes().to_vec())
        {
            return Ok(true);
        }
        if !self.room.for_more_than(self.found.len())? {
            return Ok(false);
        }
        self.found.push(name_value(path.as_bytes()));
        Ok(true)
    }
}

fn trim_start(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}

fn append(path: &mut Vec<u8>, name: &[u8]) {
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// The directory behind a name, if it is one.
fn seen_dir(walker: &Walker<'_, '_>, name: &sys::dir::Name) -> Result<Option<File>> {
    Ok(match walker.see(name)? {
        Seen::There(entry) if entry.is_dir() => Some(*entry),
        _ => None,
    })
}

options! {
    /// Options of `find_files`.
    FindFilesOptions {
        recursive: bool = false, "Search the directories below too; links are not followed.", flags &["recursive", "r"];
        limit: Option<u64> = None, "Stop after so many paths. Without it more than 100,000 are an error (`too_large`).";
    }
}

const FIND_FILES: Function = Function {
    name: "find_files",
    doc: "The paths of what lies in a directory under a name that fits: an array, in the order of the walk.\n\nFiles, directories and anything else; the pattern is about the last name only, and `*` fits names that begin with a dot too. The results are whole paths, so that they lead to the files found below; [basename] gives the names. Directories that may not be read are left out, each denial is on record. [find] has more tests, [glob] patterns for the whole path.",
    body: &with3(
        find_files,
        [param("pattern", "A glob for the name, e.g. `*.conf`."), param("path", "The directory."), param("options", "")],
    ),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::NotADirectory, Kind::Permission],
    examples: &[
        Example {
            given: &[("a.log", ""), ("b.txt", ""), ("sub/c.log", "")],
            script: r#"find_files("*.log", dir).map(|p| basename(p))"#,
            gives: r#"["a.log"]"#,
        },
        Example {
            given: &[("a.log", ""), ("sub/c.log", "")],
            script: r#"find_files("*.log", dir, #{recursive: true}).map(|p| p.sub_string(dir.len()))"#,
            gives: r#"["/a.log", "/sub/c.log"]"#,
        },
    ],
};

fn find_files(call: &Call<'_>, pattern: String, path: AbsPath, options: FindFilesOptions) -> Result<Array> {
    if pattern.contains('/') {
        return Err(bad_argument("find_files: pattern: is about the last name, without `/`; `glob` takes patterns for whole paths"));
    }
    let matcher = matcher(&pattern)?;
    let room = Room::of(options.limit);
    let root = File::locate_dir(&path)?;
    let mut walker = Walker::new(call, &root, Bounds { max_depth: (!options.recursive).then_some(1), ..Bounds::default() })?;
    walker.enter_root(root)?;
    let mut found = Array::new();
    loop {
        let name = match walker.step()? {
            Step::Name(name) => name,
            Step::Left => continue,
            Step::Done => break,
        };
        let Some(folder) = walker.folder() else { break };
        if fits(&matcher, &name.bytes) {
            if !room.for_more_than(found.len())? {
                break;
            }
            found.push(name_value(folder.asked().below(&name.bytes).as_bytes()));
        }
        if walker.may_enter()
            && matches!(name.kind, FileType::Directory | FileType::Unknown)
            && let Some(dir) = seen_dir(&walker, &name)?
        {
            walker.enter(dir)?;
        }
    }
    walker.finish()?;
    Ok(found)
}

options! {
    /// Options of `tree`.
    TreeOptions {
        max_depth: Option<u64> = None, "How far below; 1 is what is directly in the directory.";
        all: bool = false, "Show names that begin with a dot.";
        limit: Option<u64> = None, "Stop after so many names. Without it more than 100,000 are an error (`too_large`).";
    }
}

const TREE: Function = Function {
    name: "tree",
    doc: "A directory and what is below it, drawn as text.\n\nOne line for each name, in the order of names, and a last line with the numbers of directories and files. A directory that may not be read has `[denied]` behind its name; a link shows where it says it leads, where `stat` on it is permitted. Bytes that are no text and control characters are shown as escapes.",
    body: &with2(tree, [param("path", "The directory."), param("options", "")]),
    asks: &[ask::<Read>(), ask::<Stat>()],
    fails: &[Kind::NotFound, Kind::NotADirectory, Kind::Permission],
    examples: &[
        Example {
            given: &[("a/x", ""), ("a/y", ""), ("b", "")],
            script: r#"tree(dir).sub_string(dir.len())"#,
            gives: r#""\n├── a\n│   ├── x\n│   └── y\n└── b\n\n1 directory, 3 files\n""#,
        },
        Example {
            given: &[("a/x", "")],
            script: r#"tree(dir, #{max_depth: 1}).sub_string(dir.len())"#,
            gives: r#""\n└── a\n\n1 directory, 0 files\n""#,
        },
    ],
};

fn tree(call: &Call<'_>, path: AbsPath, options: TreeOptions) -> Result<String> {
    let room = Room::of(options.limit);
    let root = File::locate_dir(&path)?;
    let top = call.permit::<Stat>(root)?.into_resource();
    let mut walker = Walker::new(call, &top, Bounds { max_depth: options.max_depth, ..Bounds::default() })?;
    walker.hide = !options.all;
    let mut text = format!("{}\n", shown(path.as_bytes()));
    walker.enter_root(top)?;
    let (mut dirs, mut files) = (0_usize, 0_usize);
    // For each level on the way, whether more names come after it.
    let mut lines: Vec<bool> = Vec::new();
    loop {
        let name = match walker.step()? {
            Step::Name(name) => name,
            Step::Left => {
                lines.pop();
                continue;
            }
            Step::Done => break,
        };
        if !room.for_more_than(dirs + files)? {
            break;
        }
        let more = walker.has_more();
        for goes_on in &lines {
            text.push_str(if *goes_on { "│   " } else { "    " });
        }
        text.push_str(if more { "├── " } else { "└── " });
        text.push_str(&shown(&name.bytes));
        let looks = matches!(name.kind, FileType::Directory | FileType::Symlink | FileType::Unknown);
        let entry = match if looks { walker.see(&name)? } else { Seen::Gone } {
            Seen::There(entry) => Some(*entry),
            Seen::Gone | Seen::Shut => None,
        };
        let is_dir = entry.as_ref().map_or(name.kind == FileType::Directory, File::is_dir);
        if is_dir {
            dirs += 1
        } else {
            files += 1
        }
        let Some(entry) = entry else {
            text.push('\n');
            continue;
        };
        if is_dir {
            match walker.enter(entry)? {
                Entered::Yes => lines.push(more),
                Entered::Denied => text.push_str(" [denied]"),
                Entered::Outside | Entered::Gone => {}
            }
        } else if entry.kind() == Some(FileType::Symlink)
            && let Weighed::Granted(link) = walker.walk.weigh::<Stat>(entry, false)?
            && let Ok(target) = sys::dir::link_target(&link)
        {
            text.push_str(" -> ");
            text.push_str(&shown(&target));
        }
        text.push('\n');
    }
    walker.finish()?;
    let number = |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    text.push_str(&format!("\n{}, {}\n", number(dirs, "directory", "directories"), number(files, "file", "files")));
    Ok(text)
}

/// A name as one line of text shows it: what would move the cursor or is no text, as escapes.
fn shown(name: &[u8]) -> String {
    let text = crate::resource::path::to_id(name);
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
    } else {
        text
    }
}

#[cfg(test)]
mod tests;
