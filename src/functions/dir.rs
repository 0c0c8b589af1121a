//! Functions that list and search directories. They ask for [`Read`] per folder and [`Stat`] per entry.

use super::file_read::Read;
use super::file_stat::{Describer, Stat};
use super::function::{Call, Example, Function, param, with2, with3};
use super::value::{Array, Dynamic, FnPtr, FromScript, IntoScript, Map, OptionRow, name_value, record};
use super::walker::{Bounds, Seen, Step, Walker};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::ask;
use crate::policy::{Answer, Granted, Walk, Weighed};
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
        limit: Option<u64> = None, "Stop after so many entries. Without it more than 100,000 are an error (`too_large`).";
    }
}

/// Entries that a call gives where the caller set no limit.
pub const MOST: usize = 100_000;

/// The limit of a call: how many, and whether more are an error.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    most: usize,
    given: bool,
}

impl Room {
    #[must_use]
    pub fn of(limit: Option<u64>) -> Self {
        Self { most: limit.map_or(MOST, |limit| usize::try_from(limit).unwrap_or(usize::MAX)), given: limit.is_some() }
    }
    /// Whether there is room for one more than these.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] where there is none and the caller did not say where to stop.
    pub fn for_more_than(self, count: usize) -> Result<bool> {
        if count < self.most {
            return Ok(true);
        }
        if self.given {
            return Ok(false);
        }
        Err(Error::new(Kind::TooLarge, format!("more than {MOST} results"))
            .with_hint("set `limit` to get the first ones or more of them, or pass a closure where the function takes one"))
    }
}

pub const LS: Function = Function {
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
    let mut describer = Describer::default();
    let found = File::locate_dir(&path)?;
    if found.exists() && !found.is_dir() {
        if call.host.gate.would::<Stat>(&found) == Answer::Yes {
            return Ok(vec![Dynamic::from_map(describer.details(&call.permit::<Stat>(found)?))]);
        }
        // Whoever may not look at it gets the answer that a missing path gets.
        drop(call.permit::<Read>(found.taken_for_a_directory())?);
        return Ok(Array::new());
    }
    let room = Room::of(options.limit);
    let must = options.long || matches!(by, Sort::Size | Sort::Mtime);
    let mut walker = Walker::new(call, &found, Bounds { max_depth: (!options.recursive).then_some(1), ..Bounds::default() })?;
    walker.hide = !options.all;
    walker.enter_root(found)?;
    let mut entries: Vec<(SortKey, Map)> = Vec::new();
    loop {
        let name = match walker.step()? {
            Step::Name(name) => name,
            Step::Left => continue,
            Step::Done => break,
        };
        // A directory is listed whole before what is below it.
        if walker.is_again() {
            if let Seen::There(dir) = walker.see(&name)?
                && dir.is_dir()
            {
                walker.enter(*dir)?;
            }
            continue;
        }
        let Some(folder) = walker.folder() else { break };
        if !room.for_more_than(entries.len())? {
            break;
        }
        // Only a recursive listing can be in an order that is not that of the walk already.
        let place =
            if options.recursive || !matches!(by, Sort::Name | Sort::None) { folder.asked().below(&name.bytes) } else { path.clone() };
        let mut key = SortKey { place, size: 0, mtime: (0, 0) };
        let denied = |mut map: Map| {
            if must {
                map.insert("denied".into(), Dynamic::TRUE);
            }
            map
        };
        let entry = match walker.see(&name)? {
            Seen::Gone => continue,
            Seen::Shut => {
                entries.push((key, denied(outside(folder, &name.bytes, name.kind))));
                continue;
            }
            Seen::There(entry) => *entry,
        };
        let (map, entry) = match look(&walker.walk, &mut describer, entry, must)? {
            Looked::Whole(map, entry) => {
                if let Some(stat) = entry.stat() {
                    key.size = stat.st_size;
                    key.mtime = (stat.st_mtime, stat.st_mtime_nsec);
                }
                (map, entry)
            }
            Looked::Outside(map, entry) => (denied(map), entry),
        };
        entries.push((key, map));
        if options.recursive && entry.is_dir() {
            walker.put_off(&name)?;
        }
    }
    walker.finish()?;
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
pub enum Looked {
    /// `stat` is permitted.
    Whole(Map, File),
    /// Only what the directory itself tells: name, path, type.
    Outside(Map, File),
}

/// Looks at an entry. With `must`, a `stat` that is not permitted is a denial on record; else it is not asked for.
///
/// # Errors
/// As [`Walk::weigh`].
pub fn look(walk: &Walk<'_, Read>, describer: &mut Describer, entry: File, must: bool) -> Result<Looked> {
    Ok(match walk.weigh::<Stat>(entry, must)? {
        Weighed::Granted(granted) => Looked::Whole(describer.details(&granted), granted.into_resource()),
        Weighed::Denied(entry) => {
            let map = record([
                ("name", name_value(entry.name())),
                ("path", name_value(entry.asked().as_bytes())),
                ("type", kind_word(entry.kind().unwrap_or(FileType::Unknown)).into_script()),
            ]);
            Looked::Outside(map, entry)
        }
    })
}

/// What the directory itself tells of an entry.
fn outside(folder: &File, name: &[u8], kind: FileType) -> Map {
    record([
        ("name", name_value(name)),
        ("path", name_value(folder.asked().below(name).as_bytes())),
        ("type", kind_word(kind).into_script()),
    ])
}

struct SortKey {
    place: AbsPath,
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
        Sort::Name => entries.sort_by(|(a, _), (b, _)| a.place.as_bytes().cmp(b.place.as_bytes())),
        Sort::Size => entries.sort_by(|(a, _), (b, _)| b.size.cmp(&a.size).then_with(|| a.place.as_bytes().cmp(b.place.as_bytes()))),
        Sort::Mtime => entries.sort_by(|(a, _), (b, _)| b.mtime.cmp(&a.mtime).then_with(|| a.place.as_bytes().cmp(b.place.as_bytes()))),
    }
    entries.into_iter().map(|(_, map)| Dynamic::from_map(map)).collect()
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
        max_depth: Option<u64> = None, "How far below; 0 is the path itself, 1 what is directly in it. Without it, folders more than 2000 deep are an error (`too_large`).";
        min_depth: u64 = 0, "Leave out what is nearer than this.";
        one_file_system: bool = false, "Stay on the filesystem of the path; a mount point is shown, what is below it is not.";
        follow: bool = false, "Follow links to directories; each directory is entered once.";
        limit: Option<u64> = None, "Stop after so many results. Without it more than 100,000 in an array are an error (`too_large`); a closure may get any number.";
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
        // As in find(1): without a unit `+25` is days there, and blocks of a size.
        if let Some((sign, rest)) = text.split_at_checked(1).filter(|(sign, _)| matches!(*sign, "+" | "-")) {
            let unit = if option == "size" { "b" } else { "d" };
            let unit = if rest.ends_with(|c: char| c.is_ascii_digit()) { unit } else { "" };
            let sign = if sign == "+" { '>' } else { '<' };
            return Err(form().with_hint(format!("`{option}: \"{sign}{}{unit}\"`", rest.escape_debug())));
        }
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

/// As long as a path: no longer one fits anything, and a very long one does not become a matcher at all.
pub const MOST_GLOB: usize = 4096;

fn glob(pattern: &str, option: &str, ignore_case: bool, whole_path: bool) -> Result<GlobMatcher> {
    if pattern.len() > MOST_GLOB {
        return Err(bad_argument(format!("option `{option}`: a glob is longer than {MOST_GLOB} bytes")));
    }
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
    fn name_fits(&self, name: &[u8], path: impl FnOnce() -> AbsPath, kind: FileType) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let os = |bytes| std::path::Path::new(std::ffi::OsStr::from_bytes(bytes));
        (kind == FileType::Unknown || self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind)))
            && self.name.as_ref().is_none_or(|glob| glob.is_match(os(name)))
            && ((self.path.is_none() && self.regex.is_none()) || self.path_fits(&path()))
    }
    fn path_fits(&self, path: &AbsPath) -> bool {
        self.path.as_ref().is_none_or(|glob| glob.is_match(std::path::Path::new(path.as_os())))
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(path.as_bytes()))
    }
    fn kind_fits(&self, kind: FileType) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }
    /// Whether any test looks at more than name and type.
    fn needs_stat(&self) -> bool {
        self.empty.is_some()
            || self.size.is_some()
            || self.mtime.is_some()
            || self.ctime.is_some()
            || self.uid.is_some()
            || self.gid.is_some()
            || self.perm.is_some()
    }
    fn stat_fits(&self, stat: &rustix::fs::Stat) -> bool {
        self.kind_fits(FileType::from_raw_mode(stat.st_mode))
            && self.size.is_none_or(|span| span.holds(stat.st_size))
            && self.mtime.is_none_or(|span| span.holds(self.now - stat.st_mtime))
            && self.ctime.is_none_or(|span| span.holds(self.now - stat.st_ctime))
            && self.uid.is_none_or(|uid| stat.st_uid == uid)
            && self.gid.is_none_or(|gid| stat.st_gid == gid)
            && self.perm.is_none_or(|perm| perm.holds(stat.st_mode & 0o7777))
    }
}

/// A directory of a walk: granted, with the names that are still to be visited, last first.
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
    describer: Describer,
    room: Room,
    found: Array,
    count: usize,
}

/// What became of an entry that was looked at: itself, to go into it, and whether the walk goes on.
struct Visited {
    entry: File,
    more: bool,
}

impl<'c, 'h> Finder<'c, 'h> {
    fn new(call: &'c Call<'h>, options: &'c FindOptions, each: Option<&'c FnPtr>) -> Result<Self> {
        let room = match (options.limit, each) {
            // What a closure gets is held by nobody.
            (None, Some(_)) => Room { most: usize::MAX, given: true },
            (limit, _) => Room::of(limit),
        };
        Ok(Self { call, options, tests: Tests::new(options)?, each, describer: Describer::default(), room, found: Array::new(), count: 0 })
    }

    fn run(mut self, path: &AbsPath) -> Result<Dynamic> {
        let root = File::locate_dir(path)?;
        let (one_file_system, follow, max_depth) = (self.options.one_file_system, self.options.follow, self.options.max_depth);
        let mut walker = Walker::new(self.call, &root, Bounds { one_file_system, follow, max_depth })?;
        let fits =
            self.options.min_depth == 0 && self.tests.name_fits(root.name(), || path.clone(), root.kind().unwrap_or(FileType::Unknown));
        let Visited { entry: root, more } = if fits { self.visit(root, &walker)? } else { Visited { entry: root, more: true } };
        if more && walker.may_enter() && root.is_dir() {
            // The path itself must be readable; below it, what is not is left out.
            walker.enter_root(root)?;
        }
        if more {
            loop {
                match walker.step()? {
                    Step::Done => break,
                    Step::Left => {}
                    Step::Name(name) if self.entry(&name, &mut walker)? => {}
                    Step::Name(_) => break,
                }
            }
        }
        walker.finish()?;
        Ok(if self.each.is_some() { u64::try_from(self.count).unwrap_or(u64::MAX).into_script() } else { Dynamic::from_array(self.found) })
    }

    /// Looks at one name; `false` ends the walk.
    fn entry(&mut self, name: &sys::dir::Name, walker: &mut Walker<'_, '_>) -> Result<bool> {
        let depth = walker.depth();
        let Some(folder) = walker.folder() else { return Ok(false) };
        let may_be_dir =
            matches!(name.kind, FileType::Directory | FileType::Unknown) || (self.options.follow && name.kind == FileType::Symlink);
        let enters = walker.may_enter() && may_be_dir;
        let wanted =
            |kind| depth >= self.options.min_depth && self.tests.name_fits(&name.bytes, || folder.asked().below(&name.bytes), kind);
        // What a followed link leads to is of another type.
        let fits = wanted(if self.options.follow && name.kind == FileType::Symlink { FileType::Unknown } else { name.kind });
        if !fits && !enters {
            return Ok(true);
        }
        let entry = match walker.see(name)? {
            Seen::Gone => return Ok(true),
            Seen::Shut if fits && !self.tests.needs_stat() => return self.take(outside(folder, &name.bytes, name.kind)),
            Seen::Shut => return Ok(true),
            Seen::There(entry) => self.followed(*entry, walker)?,
        };
        let entry = if fits && self.tests.kind_fits(entry.kind().unwrap_or(FileType::Unknown)) {
            let Visited { entry, more } = self.visit(entry, walker)?;
            if !more {
                return Ok(false);
            }
            entry
        } else {
            entry
        };
        if enters && entry.is_dir() {
            walker.enter(entry)?;
        }
        Ok(true)
    }

    /// With `follow`, what a link leads to, where the caller may look at that; else the link itself.
    fn followed(&self, entry: File, walker: &Walker<'_, '_>) -> Result<File> {
        if !self.options.follow || entry.kind() != Some(FileType::Symlink) {
            return Ok(entry);
        }
        let target = File::locate_dir(entry.asked())?;
        let gate = &self.call.host.gate;
        if gate.would::<Stat>(&target) == Answer::Yes || (target.is_dir() && gate.would::<Read>(&target) == Answer::Yes) {
            return Ok(if target.exists() { target } else { entry });
        }
        // Whoever may not look at what the link leads to learns neither its type nor whether it is there.
        match walker.walk.permit_as::<Stat>(target) {
            Err(error) if error.kind != Kind::Denied => Err(error),
            _ => Ok(entry),
        }
    }

    /// Takes an entry if it fits.
    fn visit(&mut self, entry: File, walker: &Walker<'_, '_>) -> Result<Visited> {
        let must = self.tests.needs_stat();
        let whole = match walker.walk.weigh::<Stat>(entry, must)? {
            Weighed::Granted(granted) => granted,
            Weighed::Denied(entry) if must => return Ok(Visited { entry, more: true }),
            Weighed::Denied(entry) => {
                let map = record([
                    ("name", name_value(entry.name())),
                    ("path", name_value(entry.asked().as_bytes())),
                    ("type", kind_word(entry.kind().unwrap_or(FileType::Unknown)).into_script()),
                ]);
                return Ok(Visited { entry, more: self.take(map)? });
            }
        };
        let Some(stat) = whole.resource().stat() else { return Ok(Visited { entry: whole.into_resource(), more: true }) };
        if !self.tests.stat_fits(stat) {
            return Ok(Visited { entry: whole.into_resource(), more: true });
        }
        let (size, kind) = (stat.st_size, FileType::from_raw_mode(stat.st_mode));
        let map = self.describer.details(&whole);
        let mut entry = whole.into_resource();
        if self.tests.empty.is_some() {
            let empty;
            (empty, entry) = self.is_empty(entry, kind, size, walker)?;
            if empty != self.tests.empty {
                return Ok(Visited { entry, more: true });
            }
        }
        Ok(Visited { entry, more: self.take(map)? })
    }

    /// Hands an entry to the closure or keeps it; `false` ends the walk.
    fn take(&mut self, map: Map) -> Result<bool> {
        if !self.room.for_more_than(self.count)? {
            return Ok(false);
        }
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
        Ok(!self.room.given || self.count < self.room.most)
    }

    /// Whether a file or directory is empty; nothing for other types, and for directories that may not be read.
    fn is_empty(&self, entry: File, kind: FileType, size: i64, walker: &Walker<'_, '_>) -> Result<(Option<bool>, File)> {
        match kind {
            FileType::RegularFile => Ok((Some(size == 0), entry)),
            FileType::Directory => {
                let dir = match walker.walk.weigh::<Read>(entry, true)? {
                    Weighed::Granted(dir) => dir,
                    Weighed::Denied(entry) => return Ok((None, entry)),
                };
                let empty = match sys::dir::names(&dir, 0, &self.call.host.watch) {
                    Ok((_, more)) => Some(!more),
                    Err(error) if is_passed_over(error.kind) || error.kind == Kind::Changed => None,
                    Err(error) => return Err(error),
                };
                Ok((empty, dir.into_resource()))
            }
            _ => Ok((None, entry)),
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
