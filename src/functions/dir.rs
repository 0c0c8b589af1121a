//! Functions that list and search directories. They ask for [`Read`] per folder and [`Stat`] per entry.

use super::file_read::Read;
use super::file_stat::{Stat, details};
use super::function::{Call, Example, Function, param, with2, with3};
use super::value::{Array, Dynamic, FnPtr, FromScript, IntoScript, Map, OptionRow, name_value, record};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use crate::policy::ask;
use crate::policy::{Answer, Granted, Walk};
use crate::resource::file::{File, kind_word, names};
use crate::resource::path::AbsPath;
use crate::sys;
use globset::{GlobBuilder, GlobMatcher};
use rustix::fs::FileType;

pub const FUNCTIONS: &[Function] = &[LS, FIND];

options! {
    /// Options of `ls`.
    LsOptions {
        all: bool = false, "Include names that begin with a dot.", flags &["all", "a"];
        long: bool = false, "Size, mode, owner, times and more of each entry; an entry whose `stat` is denied has `denied: true` instead.", flags &["long", "l"];
        recursive: bool = false, "Go into the directories below; links are not followed.", flags &["recursive", "R"];
        sort: String = "name".to_owned(), "`name`, `size`, `mtime` (both largest first) or `none`.";
        limit: u64 = 100_000, "Stop after so many entries.";
    }
}

const LS: Function = Function {
    name: "ls",
    doc: "What is in a directory: an array of entries.\n\nEach is a map with `name`, `path` and `type`; `#{long: true}` adds what `stat` gives (without it too, where `stat` is permitted); an entry whose `stat` is denied then has `denied: true`. Of a file, the one entry of that file. A name that is not UTF-8 is a blob, which every function accepts as a path.",
    body: &with2(ls, [param("path", "The directory."), param("options", "")]),
    asks: &[ask::<Read>(), ask::<Stat>()],
    fails: &[Kind::NotFound, Kind::Permission],
    examples: &[
        Example { given: &[("b", ""), ("a", ""), (".hidden", "")], script: r#"ls(dir).map(|e| e.name)"#, gives: r#"["a", "b"]"# },
        Example { given: &[("a", "123")], script: r#"ls(dir, #{long: true})[0].size"#, gives: "3" },
    ],
};

fn ls(call: &Call<'_>, path: AbsPath, options: LsOptions) -> Result<Array> {
    let by = Sort::of(&options.sort)?;
    let found = File::locate_dir(&path)?;
    if found.exists() && !found.is_dir() {
        if call.host.gate.would::<Stat>(&found) == Answer::Yes {
            return Ok(vec![Dynamic::from_map(details(&call.permit::<Stat>(found)?))]);
        }
        // Whoever may not look at it gets the answer that a missing path gets.
        drop(call.permit::<Read>(found.taken_for_a_directory())?);
        return Ok(Array::new());
    }
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let must = options.long || matches!(by, Sort::Size | Sort::Mtime);
    let walk = call.walk::<Read>(&found)?;
    let mut entries: Vec<(SortKey, Map)> = Vec::new();
    let mut levels: Vec<Level> = Vec::new();
    let mut root = Some(walk.permit(found)?);
    'walk: while let Some(dir) = next_dir(root.take(), &mut levels, &walk)? {
        let (mut names, _) = match sys::dir::names(&dir, usize::MAX, &call.host.watch) {
            Err(error) if !levels.is_empty() && is_passed_over(error.kind) => continue,
            listed => listed?,
        };
        names.retain(|name| options.all || !name.bytes.starts_with(b"."));
        names.sort_by(|a, b| a.bytes.cmp(&b.bytes));
        let mut below = Vec::new();
        for name in names {
            if entries.len() >= limit {
                break 'walk;
            }
            call.check()?;
            let Some(entry) = still_there(File::entry(dir.resource(), &name.bytes))? else { continue };
            let mut key = SortKey { name: join(dir.resource().place(), &name.bytes), size: 0, mtime: (0, 0) };
            if let Some(stat) = entry.stat() {
                key.size = stat.st_size;
                key.mtime = (stat.st_mtime, stat.st_mtime_nsec);
            }
            let kind = entry.kind().unwrap_or(name.kind);
            match Looked::at(call, &walk, entry, kind, must)? {
                Looked::Whole(granted) => entries.push((key, details(&granted))),
                Looked::Outside(mut map) => {
                    if must {
                        map.insert("denied".into(), Dynamic::TRUE);
                        (key.size, key.mtime) = (0, (0, 0));
                    }
                    entries.push((key, map));
                }
            }
            if options.recursive && kind == FileType::Directory {
                below.push(name);
            }
        }
        below.reverse();
        levels.push(Level { dir, todo: below });
    }
    walk.finish()?;
    Ok(finish(entries, by))
}

/// Whether a walk goes on without what gave this error.
#[must_use]
pub fn is_passed_over(kind: Kind) -> bool {
    matches!(kind, Kind::Denied | Kind::Permission | Kind::NotFound | Kind::NotADirectory)
}

/// The next directory of a walk: the root, or else the next below the directories on the way to where the walk is. Only those are held open.
///
/// # Errors
/// That the run has to stop, or what the kernel reports; what is denied or vanished is passed over.
pub fn next_dir(root: Option<Granted<Read>>, levels: &mut Vec<Level>, walk: &Walk<'_, Read>) -> Result<Option<Granted<Read>>> {
    if root.is_some() {
        return Ok(root);
    }
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.todo.pop() else {
            levels.pop();
            continue;
        };
        match File::entry(level.dir.resource(), &name.bytes).and_then(|dir| walk.permit(dir)) {
            Ok(dir) => return Ok(Some(dir)),
            Err(error) if is_passed_over(error.kind) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// What a caller who may read the directory sees of an entry.
enum Looked {
    /// `stat` is permitted.
    Whole(Box<Granted<Stat>>),
    /// Only what the directory itself tells: name, path, type.
    Outside(Map),
}

impl Looked {
    /// With `must`, a `stat` that is not permitted is a denial on record; else it is not asked for.
    fn at(call: &Call<'_>, walk: &Walk<'_, Read>, entry: File, kind: FileType, must: bool) -> Result<Self> {
        let outside = record([
            ("name", name_value(entry.name())),
            ("path", name_value(entry.asked().as_bytes())),
            ("type", kind_word(kind).into_script()),
        ]);
        if !must && call.host.gate.would::<Stat>(&entry) != Answer::Yes {
            return Ok(Self::Outside(outside));
        }
        match walk.permit_as::<Stat>(entry) {
            Ok(granted) => Ok(Self::Whole(Box::new(granted))),
            Err(error) if error.kind == Kind::Denied => Ok(Self::Outside(outside)),
            Err(error) => Err(error),
        }
    }
}

/// What an entry's handle is, or nothing if it vanished between listing and looking.
fn still_there(entry: Result<File>) -> Result<Option<File>> {
    match entry {
        Ok(entry) => Ok(Some(entry)),
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

struct SortKey {
    name: Vec<u8>,
    size: i64,
    mtime: (i64, u64),
}

#[derive(Clone, Copy)]
enum Sort {
    None,
    Name,
    Size,
    Mtime,
}

impl Sort {
    fn of(word: &str) -> Result<Self> {
        match word {
            "none" => Ok(Self::None),
            "name" => Ok(Self::Name),
            "size" => Ok(Self::Size),
            "mtime" => Ok(Self::Mtime),
            _ => Err(bad_argument("option `sort`: expected `name`, `size`, `mtime` or `none`")),
        }
    }
}

fn finish(mut entries: Vec<(SortKey, Map)>, by: Sort) -> Array {
    match by {
        Sort::None => {}
        Sort::Name => entries.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name)),
        Sort::Size => entries.sort_by(|(a, _), (b, _)| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name))),
        Sort::Mtime => entries.sort_by(|(a, _), (b, _)| b.mtime.cmp(&a.mtime).then_with(|| a.name.cmp(&b.name))),
    }
    entries.into_iter().map(|(_, map)| Dynamic::from_map(map)).collect()
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = folder.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

options! {
    /// Options of `find`.
    FindOptions {
        name: Option<String> = None, "A glob on the name, e.g. `*.log`.";
        iname: Option<String> = None, "The same, whatever the case.";
        regex: Option<String> = None, "A regular expression on the whole path.";
        path: Option<String> = None, "A glob on the whole path; `**` crosses folders.";
        r#type: Option<Vec<String>> = None, "`file`, `dir`, `symlink`, `fifo`, `socket`, `char_device`, `block_device`, or find's letters `f`, `d`, `l`, `p`, `s`, `c`, `b`.";
        size: Option<Dynamic> = None, "Bytes: an int for exactly that, or text such as `>10M`, `<=4k`, `1k..2M`.";
        mtime: Option<Dynamic> = None, "Age of the last change: seconds or text such as `<1h`, `>7d`, `1d..2d`.";
        ctime: Option<Dynamic> = None, "Age of the last change of contents or attributes, in the same way.";
        user: Option<String> = None, "Owned by this user (name or number).";
        group: Option<String> = None, "Of this group (name or number).";
        perm: Option<Dynamic> = None, "Permission bits: an int for exactly these, text `-644` for all of them, `/022` for any of them.";
        empty: Option<bool> = None, "Only empty files and directories (or, with false, only others).";
        max_depth: u64 = 1000, "How far below; 0 is the path itself, 1 what is directly in it.";
        min_depth: u64 = 0, "Leave out what is nearer than this.";
        one_file_system: bool = false, "Stay on the filesystem of the path.";
        follow: bool = false, "Follow links to directories; each directory is entered once.";
        limit: u64 = 100_000, "Stop after so many results.";
    }
}

const FIND: Function = Function {
    name: "find",
    doc: "What lies at and below a path and fits: an array of entries.\n\nAn entry is what `stat` gives, or only `name`, `path` and `type` where `stat` is not permitted. The order is that of the walk: a folder before what is in it, by name. A test that needs `stat` leaves out what is denied.\n\nWith a closure each entry goes to it instead, one at a time; the walk ends when the closure returns `false`, and the result is how many it got. Directories that may not be read are left out, each denial is on record.",
    body: &with3(find, [param("path", "Where to begin."), param("options", ""), param("each", "Called with each entry.")]),
    asks: &[ask::<Read>(), ask::<Stat>()],
    fails: &[Kind::NotFound, Kind::Permission],
    examples: &[
        Example {
            given: &[("a/x.log", "1"), ("a/y.txt", ""), ("z.log", "22")],
            script: r#"find(dir, #{name: "*.log"}).map(|e| e.name)"#,
            gives: r#"["x.log", "z.log"]"#,
        },
        Example {
            given: &[("big", "0123456789"), ("small", "0")],
            script: r#"find(dir, #{type: "file", size: ">5"}).map(|e| e.name)"#,
            gives: r#"["big"]"#,
        },
        Example { given: &[("a", ""), ("b", "")], script: r#"find(dir, #{type: "file"}, |e| false)"#, gives: "1" },
    ],
};

/// The tests of one `find`, ready to be applied.
struct Tests {
    name: Option<GlobMatcher>,
    path: Option<GlobMatcher>,
    regex: Option<regex::bytes::Regex>,
    kinds: Option<Vec<FileType>>,
    size: Option<Span>,
    mtime: Option<Span>,
    ctime: Option<Span>,
    uid: Option<u32>,
    gid: Option<u32>,
    perm: Option<Perm>,
    empty: Option<bool>,
    now: i64,
}

/// A closed range of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    least: f64,
    most: f64,
}

impl Span {
    #[allow(clippy::cast_precision_loss, reason = "sizes and ages far below 2^53")]
    fn holds(&self, number: i64) -> bool {
        (self.least..=self.most).contains(&(number as f64))
    }
    /// An int, or `>N`, `>=N`, `<N`, `<=N`, `N`, `N..M`, with units.
    fn parse(value: &Dynamic, option: &str, units: &[(&str, f64)]) -> Result<Self> {
        #[allow(clippy::cast_precision_loss, reason = "a limit that a person writes")]
        if let Ok(int) = value.as_int() {
            return Ok(Self { least: int as f64, most: int as f64 });
        }
        let form = || {
            bad_argument(format!(
                "option `{option}`: expected an int or text such as `>10`, `<=4`, `1..2`, with a unit of {}",
                units.iter().map(|(unit, _)| format!("`{unit}`")).collect::<Vec<_>>().join(", ")
            ))
        };
        let text = value.as_immutable_string_ref().map_err(|_| form())?;
        let text = text.trim();
        let number = |text: &str| -> Result<f64> {
            let text = text.trim();
            let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
            let (digits, unit) = text.split_at(digits);
            let factor = if unit.is_empty() { 1.0 } else { units.iter().find(|(known, _)| *known == unit).ok_or_else(form)?.1 };
            Ok(digits.parse::<f64>().map_err(|_| form())? * factor)
        };
        if let Some((least, most)) = text.split_once("..") {
            return Ok(Self { least: number(least)?, most: number(most)? });
        }
        // Counts are whole, so the next one stands for "more" and "less".
        Ok(match (text.strip_prefix(">="), text.strip_prefix("<="), text.strip_prefix('>'), text.strip_prefix('<')) {
            (Some(rest), ..) => Self { least: number(rest)?, most: f64::INFINITY },
            (_, Some(rest), ..) => Self { least: f64::NEG_INFINITY, most: number(rest)? },
            (_, _, Some(rest), _) => Self { least: number(rest)? + 1.0, most: f64::INFINITY },
            (_, _, _, Some(rest)) => Self { least: f64::NEG_INFINITY, most: number(rest)? - 1.0 },
            _ => {
                let exact = number(text)?;
                Self { least: exact, most: exact }
            }
        })
    }
}

#[derive(Clone, Copy)]
enum Perm {
    Exactly(u32),
    All(u32),
    Any(u32),
}

impl Perm {
    fn parse(value: &Dynamic) -> Result<Self> {
        let form = || {
            bad_argument(
                "option `perm`: expected an int such as 0o644, or text such as `644`, `-644` (all of them) or `/022` (any of them)",
            )
        };
        if let Ok(int) = value.as_int() {
            return u32::try_from(int).ok().filter(|bits| *bits <= 0o7777).map(Self::Exactly).ok_or_else(form);
        }
        let text = value.as_immutable_string_ref().map_err(|_| form())?;
        let octal = |text: &str| u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777).ok_or_else(form);
        match (text.strip_prefix('-'), text.strip_prefix('/')) {
            (Some(rest), _) => octal(rest).map(Self::All),
            (_, Some(rest)) => octal(rest).map(Self::Any),
            _ => octal(&text).map(Self::Exactly),
        }
    }
    fn holds(self, mode: u32) -> bool {
        match self {
            Self::Exactly(bits) => mode == bits,
            Self::All(bits) => mode & bits == bits,
            Self::Any(bits) => bits == 0 || mode & bits != 0,
        }
    }
}

const SIZES: &[(&str, f64)] = &[
    ("b", 512.0),
    ("c", 1.0),
    ("k", 1024.0),
    ("K", 1024.0),
    ("M", 1_048_576.0),
    ("G", 1_073_741_824.0),
    ("T", 1_099_511_627_776.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("kB", 1000.0),
    ("MB", 1e6),
    ("GB", 1e9),
];
const AGES: &[(&str, f64)] = &[("s", 1.0), ("m", 60.0), ("min", 60.0), ("h", 3600.0), ("d", 86_400.0), ("w", 604_800.0)];

fn glob(pattern: &str, option: &str, ignore_case: bool, whole_path: bool) -> Result<GlobMatcher> {
    GlobBuilder::new(pattern)
        .case_insensitive(ignore_case)
        .literal_separator(whole_path)
        .backslash_escape(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| bad_argument(format!("option `{option}`: not a glob: {}", error.kind())))
}

fn kind_of_word(word: &str) -> Result<FileType> {
    Ok(match word {
        "file" | "f" => FileType::RegularFile,
        "dir" | "d" => FileType::Directory,
        "symlink" | "l" => FileType::Symlink,
        "fifo" | "p" => FileType::Fifo,
        "socket" | "s" => FileType::Socket,
        "char_device" | "c" => FileType::CharacterDevice,
        "block_device" | "b" => FileType::BlockDevice,
        _ => {
            return Err(bad_argument(
                "option `type`: expected `file`, `dir`, `symlink`, `fifo`, `socket`, `char_device` or `block_device`",
            ));
        }
    })
}

impl Tests {
    fn new(options: &FindOptions) -> Result<Self> {
        let id = |text: &str, of: &dyn Fn(&str) -> Option<u32>, what: &str| {
            text.parse()
                .ok()
                .or_else(|| of(text))
                .ok_or_else(|| bad_argument(format!("option `{what}`: no {what} `{}` on this host", text.escape_debug())))
        };
        if options.name.is_some() && options.iname.is_some() {
            return Err(bad_argument("give `name` or `iname`, not both"));
        }
        Ok(Self {
            name: match (&options.name, &options.iname) {
                (Some(pattern), _) => Some(glob(pattern, "name", false, false)?),
                (None, Some(pattern)) => Some(glob(pattern, "iname", true, false)?),
                (None, None) => None,
            },
            path: options.path.as_deref().map(|pattern| glob(pattern, "path", false, true)).transpose()?,
            regex: options
                .regex
                .as_deref()
                .map(|pattern| {
                    regex::bytes::RegexBuilder::new(pattern)
                        .size_limit(1 << 20)
                        .build()
                        .map_err(|_| bad_argument("option `regex`: not a regular expression, or too large a one"))
                })
                .transpose()?,
            kinds: options.r#type.as_ref().map(|words| words.iter().map(|word| kind_of_word(word)).collect::<Result<_>>()).transpose()?,
            size: options.size.as_ref().map(|value| Span::parse(value, "size", SIZES)).transpose()?,
            mtime: options.mtime.as_ref().map(|value| Span::parse(value, "mtime", AGES)).transpose()?,
            ctime: options.ctime.as_ref().map(|value| Span::parse(value, "ctime", AGES)).transpose()?,
            uid: options.user.as_deref().map(|user| id(user, &|name| names().uid_of(name), "user")).transpose()?,
            gid: options.group.as_deref().map(|group| id(group, &|name| names().gid_of(name), "group")).transpose()?,
            perm: options.perm.as_ref().map(Perm::parse).transpose()?,
            empty: options.empty,
            now: sys::clock::now_millis() / 1000,
        })
    }
    /// The tests that need no `stat`.
    fn name_fits(&self, name: &[u8], path: &[u8], kind: FileType) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let os = |bytes| std::path::Path::new(std::ffi::OsStr::from_bytes(bytes));
        self.name.as_ref().is_none_or(|glob| glob.is_match(os(name)))
            && self.path.as_ref().is_none_or(|glob| glob.is_match(os(path)))
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(path))
            && (kind == FileType::Unknown || self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind)))
    }
    /// Whether any test looks at more than name and type.
    fn look_at_stat(&self) -> bool {
        self.size.is_some()
            || self.mtime.is_some()
            || self.ctime.is_some()
            || self.uid.is_some()
            || self.gid.is_some()
            || self.perm.is_some()
    }
    fn stat_fits(&self, stat: &rustix::fs::Stat) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&FileType::from_raw_mode(stat.st_mode)))
            && self.size.is_none_or(|span| span.holds(stat.st_size))
            && self.mtime.is_none_or(|span| span.holds(self.now - stat.st_mtime))
            && self.ctime.is_none_or(|span| span.holds(self.now - stat.st_ctime))
            && self.uid.is_none_or(|uid| stat.st_uid == uid)
            && self.gid.is_none_or(|gid| stat.st_gid == gid)
            && self.perm.is_none_or(|perm| perm.holds(stat.st_mode & 0o7777))
    }
}

/// A directory of the walk: granted, with the names that are still to be visited, last first.
pub struct Level {
    pub dir: Granted<Read>,
    pub todo: Vec<sys::dir::Name>,
}

/// The second argument of `find`: `find(path, |entry| …)` leaves the options out.
enum FindHow {
    Options(Box<FindOptions>),
    Each(FnPtr),
}

impl FromScript for FindHow {
    const TYPE: &'static str = FindOptions::TYPE;
    const OPTIONS: Option<&'static [OptionRow]> = FindOptions::OPTIONS;
    fn absent() -> Option<Self> {
        FindOptions::absent().map(|options| Self::Options(Box::new(options)))
    }
    fn from_script(value: Dynamic) -> Result<Self> {
        match value.clone().try_cast::<FnPtr>() {
            Some(each) => Ok(Self::Each(each)),
            None => FindOptions::from_script(value).map(|options| Self::Options(Box::new(options))),
        }
    }
}

fn find(call: &Call<'_>, path: AbsPath, how: FindHow, each: Option<FnPtr>) -> Result<Dynamic> {
    let (options, each) = match (how, each) {
        (FindHow::Options(options), each) => (*options, each),
        (FindHow::Each(each), None) => (FindOptions::default(), Some(each)),
        (FindHow::Each(_), Some(_)) => return Err(bad_argument("find: options: expected a map of options, got closure")),
    };
    Finder::new(call, &options, each.as_ref())?.run(&path)
}

/// One `find` under way.
struct Finder<'c, 'h> {
    call: &'c Call<'h>,
    options: &'c FindOptions,
    tests: Tests,
    each: Option<&'c FnPtr>,
    found: Array,
    count: i64,
    device: Option<u64>,
    seen: std::collections::HashSet<(u64, u64)>,
}

impl<'c, 'h> Finder<'c, 'h> {
    fn new(call: &'c Call<'h>, options: &'c FindOptions, each: Option<&'c FnPtr>) -> Result<Self> {
        Ok(Self {
            call,
            options,
            tests: Tests::new(options)?,
            each,
            found: Array::new(),
            count: 0,
            device: None,
            seen: std::collections::HashSet::new(),
        })
    }

    fn run(mut self, path: &AbsPath) -> Result<Dynamic> {
        let root = File::locate_dir(path)?;
        self.device = root.stat().map(|stat| stat.st_dev);
        let walk = self.call.walk::<Read>(&root)?;
        let mut levels: Vec<Level> = Vec::new();
        let again = root.is_dir().then(|| File::locate_dir(path)).transpose()?;
        let mut more = self.options.min_depth > 0 || self.visit(root, &walk)?;
        if let Some(root) = again.filter(|_| more && self.options.max_depth > 0) {
            // The path itself must be readable; below it, what is not is left out.
            levels.push(self.open(root, &walk)?);
        }
        while more && let Some(level) = levels.last_mut() {
            self.call.check()?;
            let Some(name) = level.todo.pop() else {
                levels.pop();
                continue;
            };
            more = self.entry(&name, &mut levels, &walk)?;
        }
        walk.finish()?;
        Ok(if self.each.is_some() { self.count.into() } else { Dynamic::from_array(self.found) })
    }

    /// Looks at one name; `false` ends the walk.
    fn entry(&mut self, name: &sys::dir::Name, levels: &mut Vec<Level>, walk: &Walk<'_, Read>) -> Result<bool> {
        let depth = levels.len() as u64;
        let Some(level) = levels.last() else { return Ok(false) };
        let folder = level.dir.resource();
        let may_enter =
            matches!(name.kind, FileType::Directory | FileType::Unknown) || (self.options.follow && name.kind == FileType::Symlink);
        let enters = depth < self.options.max_depth && may_enter;
        let fits =
            depth >= self.options.min_depth && self.tests.name_fits(&name.bytes, &join(folder.asked().as_bytes(), &name.bytes), name.kind);
        if !fits && !enters {
            return Ok(true);
        }
        let look = || -> Result<Option<File>> {
            let Some(entry) = still_there(File::entry(folder, &name.bytes))? else { return Ok(None) };
            if self.options.follow && entry.kind() == Some(FileType::Symlink) {
                let followed = File::locate_dir(entry.asked())?;
                let gate = &self.call.host.gate;
                if gate.would::<Stat>(&followed) == Answer::Yes || (followed.is_dir() && gate.would::<Read>(&followed) == Answer::Yes) {
                    return Ok(Some(if followed.exists() { followed } else { entry }));
                }
                // Whoever may not look at what the link leads to learns neither its type nor whether it is there.
                match walk.permit_as::<Stat>(followed) {
                    Err(error) if error.kind != Kind::Denied => return Err(error),
                    _ => {}
                }
            }
            Ok(Some(entry))
        };
        let Some(entry) = look()? else { return Ok(true) };
        let inside = if enters && entry.is_dir() { if fits { look()? } else { None } } else { None };
        if !fits {
            if entry.is_dir() {
                self.enter(entry, levels, walk)?;
            }
            return Ok(true);
        }
        if !self.visit(entry, walk)? {
            return Ok(false);
        }
        if let Some(inside) = inside {
            self.enter(inside, levels, walk)?;
        }
        Ok(true)
    }

    /// Goes into a directory, unless it is on another filesystem, was entered already, or may not be read.
    fn enter(&mut self, dir: File, levels: &mut Vec<Level>, walk: &Walk<'_, Read>) -> Result<()> {
        let Some(stat) = dir.stat() else { return Ok(()) };
        if self.options.one_file_system && self.device.is_some_and(|device| device != stat.st_dev) {
            return Ok(());
        }
        if self.options.follow && !self.seen.insert((stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        match self.open(dir, walk) {
            Ok(level) => levels.push(level),
            Err(error) if is_passed_over(error.kind) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn open(&mut self, dir: File, walk: &Walk<'_, Read>) -> Result<Level> {
        let dir = walk.permit(dir)?;
        let (mut todo, _) = sys::dir::names(&dir, usize::MAX, &self.call.host.watch)?;
        todo.sort_by(|a, b| b.bytes.cmp(&a.bytes));
        Ok(Level { dir, todo })
    }

    /// Takes an entry if it fits; `false` ends the walk.
    fn visit(&mut self, entry: File, walk: &Walk<'_, Read>) -> Result<bool> {
        let kind = entry.kind().unwrap_or(FileType::Unknown);
        if !self.tests.name_fits(entry.name(), entry.asked().as_bytes(), kind) {
            return Ok(true);
        }
        let must = self.tests.look_at_stat() || self.tests.empty.is_some();
        let map = match Looked::at(self.call, walk, entry, kind, must)? {
            Looked::Whole(granted) => {
                let Some(stat) = granted.resource().stat() else { return Ok(true) };
                if !self.tests.stat_fits(stat) || (self.tests.empty.is_some() && self.is_empty(&granted, stat, walk)? != self.tests.empty) {
                    return Ok(true);
                }
                details(&granted)
            }
            Looked::Outside(_) if must => return Ok(true),
            Looked::Outside(map) => map,
        };
        self.count += 1;
        match self.each {
            Some(each) => {
                let answer = self.call.invoke(each, vec![Dynamic::from_map(map)])?;
                if answer.as_bool() == Ok(false) {
                    return Ok(false);
                }
            }
            None => self.found.push(Dynamic::from_map(map)),
        }
        Ok(u64::try_from(self.count).unwrap_or(0) < self.options.limit)
    }

    /// Whether a file or directory is empty; nothing for other types, and for directories that may not be read.
    fn is_empty(&self, entry: &Granted<Stat>, stat: &rustix::fs::Stat, walk: &Walk<'_, Read>) -> Result<Option<bool>> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Some(stat.st_size == 0)),
            FileType::Directory => {
                let dir = walk.permit(File::locate_with(entry.resource().asked(), false)?);
                match dir.and_then(|dir| sys::dir::names(&dir, 0, &self.call.host.watch)) {
                    Ok((_, more)) => Ok(Some(!more)),
                    Err(error) if matches!(error.kind, Kind::Denied | Kind::Permission) => Ok(None),
                    Err(error) => Err(error),
                }
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn spans_read_as_people_write_them() {
        let parse = |text: &str| Span::parse(&text.to_owned().into(), "size", SIZES).unwrap();
        assert!(parse(">10").holds(11) && !parse(">10").holds(10));
        assert!(parse("<=4k").holds(4096) && !parse("<=4k").holds(4097));
        assert!(parse("1k..2k").holds(1500) && !parse("1k..2k").holds(2049));
        assert!(parse("5").holds(5) && !parse("5").holds(6));
        assert!(Span::parse(&"10X".to_owned().into(), "size", SIZES).is_err());
        assert!(Perm::parse(&"-644".to_owned().into()).unwrap().holds(0o755));
        assert!(!Perm::parse(&"/022".to_owned().into()).unwrap().holds(0o755));
    }
}
