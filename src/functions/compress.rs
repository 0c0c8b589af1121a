//! Functions that pack and unpack files. They ask for [`Read`] of the one and [`Write`] (and [`Create`]) of the other.

use super::file_read::Read;
use super::file_write::{Create, Write, allow_new};
use super::function::{Call, Example, Function, param, with3};
use super::handle::Target;
use super::tree_change::Delete;
use super::value::{Dynamic, FromScript, IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Ask, Granted, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::compress::{Packer, Packing};
use crate::sys::decompress::{Caps, Format, Plain};
use crate::sys::fresh::{Birth, Moment};
use crate::sys::stream::Checked;
use rustix::fs::FileType;

pub const FUNCTIONS: &[Function] = &[GZIP, GUNZIP, ZSTD, UNZSTD, BUNZIP2, UNXZ];

const ASKS: &[Ask] = &[ask::<Read>(), ask::<Write>(), ask::<Create>(), ask::<Delete>()];
const FAILS: &[Kind] = &[
    Kind::NotFound,
    Kind::Exists,
    Kind::IsADirectory,
    Kind::NotAFile,
    Kind::BadData,
    Kind::TooLarge,
    Kind::Permission,
    Kind::NoSpace,
    Kind::ReadOnly,
    Kind::Changed,
];

/// The second argument of these functions: where to, or already the options.
pub enum To<O> {
    Path(AbsPath),
    Options(O),
    Beside,
}

impl<O: FromScript> FromScript for To<O> {
    const TYPE: &'static str = "an absolute path";
    fn absent() -> Option<Self> {
        Some(Self::Beside)
    }
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is_unit() {
            return Ok(Self::Beside);
        }
        if value.is_map() {
            return O::from_script(value).map(Self::Options);
        }
        AbsPath::from_script(value).map(Self::Path)
    }
}

impl<O> To<O> {
    /// The path, if one is given, and the options.
    fn split(self, options: Option<O>) -> Result<(Option<AbsPath>, Option<O>)> {
        match self {
            Self::Path(path) => Ok((Some(path), options)),
            Self::Beside => Ok((None, options)),
            Self::Options(first) if options.is_none() => Ok((None, Some(first))),
            Self::Options(_) => Err(bad_argument("two maps of options: expected the path to write to, then one map")),
        }
    }
}

/// What is written, and how.
struct Job {
    format: Format,
    /// Names that the format's files end with, and what the names of unpacked files end with then.
    suffixes: &'static [(&'static str, &'static str)],
    program: &'static str,
}

const JOB_GZIP: Job = Job { format: Format::Gzip, suffixes: &[(".gz", ""), (".tgz", ".tar")], program: "gunzip" };
const JOB_ZSTD: Job = Job { format: Format::Zstd, suffixes: &[(".zst", ""), (".tzst", ".tar")], program: "unzstd" };
const JOB_BZIP2: Job = Job { format: Format::Bzip2, suffixes: &[(".bz2", ""), (".tbz2", ".tar"), (".tbz", ".tar")], program: "bunzip2" };
const JOB_XZ: Job = Job { format: Format::Xz, suffixes: &[(".xz", ""), (".txz", ".tar")], program: "unxz" };

options! {
    /// Options of `gzip`.
    GzipOptions {
        level: u64 = 6, "1 (fast) to 9 (small).", flags &["level"];
        keep: bool = true, "Keep the file that is read. `false` removes it when the result is in its place, unless it changed meanwhile; asks `delete` before anything is made.";
        force: bool = false, "Replace what is there already.", flags &["force", "f"];
    }
}

const GZIP: Function = Function {
    name: "gzip",
    doc: "Packs a file with gzip into a new file; the file itself stays.\n\nWithout `to` the name is that of the file with `.gz` added. `keep: false` has the file removed at the end: under the name that was given, if that is still the file that was read. A link is not removed. \
          The new file has the permission bits and the time of the old one. It gets its name when it is complete, so a result that is cut short or has old bytes at its end cannot be. \
          What is there already is the error `exists`, or with `force` replaced, with its owner and mode kept.\n\n\
          A map: `changed`, `created`, `path`, `bytes_in`, `bytes_out`, `removed` (whether the file that was read is gone).",
    body: &with3(gzip, PARAMS),
    asks: ASKS,
    fails: FAILS,
    examples: &[
        Example {
            given: &[("log", "aaaa\nbbbb\n")],
            script: r#"let r = gzip(dir + "/log"); [r.changed, r.bytes_in, read_gzip_lines(dir + "/log.gz")]"#,
            gives: r#"[true, 10, ["aaaa", "bbbb"]]"#,
        },
        Example {
            given: &[("log", "new\n"), ("old.gz", "something much longer than the result, which must not show at its end")],
            script: r#"gzip(dir + "/log", dir + "/old.gz", #{level: 9, force: true}); read_gzip_lines(dir + "/old.gz")"#,
            gives: r#"["new"]"#,
        },
        Example { given: &[("log", "a\n")], script: r#"gzip(dir + "/log").created"#, gives: "true" },
        Example {
            given: &[("log", "a\n")],
            script: r#"gzip(dir + "/log", #{keep: false}).removed && !exists(dir + "/log")"#,
            gives: "true",
        },
    ],
};

const PARAMS: [super::function::Param; 3] = [
    param("path", "The file, or an open file."),
    param("to", "The file to make. Left out: beside the file, with the ending added or taken away."),
    param("options", ""),
];

fn gzip(call: &Call<'_>, from: Target, to: To<GzipOptions>, options: Option<GzipOptions>) -> Result<Map> {
    let (to, options) = to.split(options)?;
    let options = options.unwrap_or_default();
    pack(call, from, to, &JOB_GZIP, level(options.level, 9)?, Manner { force: options.force, keep: options.keep })
}

options! {
    /// Options of `zstd`.
    ZstdOptions {
        level: u64 = 3, "1 (fast) to 19 (small).";
        keep: bool = true, "Keep the file that is read. `false` removes it when the result is in its place, unless it changed meanwhile; asks `delete` before anything is made.";
        force: bool = false, "Replace what is there already.", flags &["force", "f"];
    }
}

const ZSTD: Function = Function {
    name: "zstd",
    doc: "Packs a file with zstd into a new file, with a checksum of its contents.\n\nWithout `to` the name is that of the file with `.zst` added. Otherwise as `gzip`.",
    body: &with3(zstd, PARAMS),
    asks: ASKS,
    fails: FAILS,
    examples: &[
        Example {
            given: &[("log", "aaaa\n")],
            script: r#"zstd(dir + "/log"); unzstd(dir + "/log.zst", dir + "/copy"); cat(dir + "/copy")"#,
            gives: r#""aaaa\n""#,
        },
        Example { given: &[("log", "a\n")], script: r#"zstd(dir + "/log", #{level: 19}).bytes_in"#, gives: "2" },
        Example { given: &[("log", "a\n")], script: r#"zstd(dir + "/log", #{keep: false}).removed"#, gives: "true" },
    ],
};

fn zstd(call: &Call<'_>, from: Target, to: To<ZstdOptions>, options: Option<ZstdOptions>) -> Result<Map> {
    let (to, options) = to.split(options)?;
    let options = options.unwrap_or_default();
    pack(call, from, to, &JOB_ZSTD, level(options.level, 19)?, Manner { force: options.force, keep: options.keep })
}

fn level(level: u64, most: u32) -> Result<u32> {
    u32::try_from(level)
        .ok()
        .filter(|level| (1..=most).contains(level))
        .ok_or_else(|| bad_argument(format!("option `level`: expected 1 to {most}, got {level}")))
}

options! {
    /// Options of `gunzip`, `unzstd`, `bunzip2` and `unxz`.
    UnpackOptions {
        keep: bool = true, "Keep the file that is read. `false` removes it when the result is in its place, unless it changed meanwhile; asks `delete` before anything is made.";
        force: bool = false, "Replace what is there already.", flags &["force", "f"];
        max_bytes: u64 = 16 << 30, "Fail with `too_large` when more than this comes out; nothing is left of it then.";
        max_ratio: u64 = 20_000, "Fail with `too_large` when so many times the packed size comes out (looked at from 1 MiB on).";
    }
}

macro_rules! unpacker {
    ($const:ident $fn:ident $name:literal $job:ident $doc:literal $examples:expr) => {
        const $const: Function =
            Function { name: $name, doc: $doc, body: &with3($fn, PARAMS), asks: ASKS, fails: FAILS, examples: $examples };
        fn $fn(call: &Call<'_>, from: Target, to: To<UnpackOptions>, options: Option<UnpackOptions>) -> Result<Map> {
            unpack(call, from, to, options, &$job)
        }
    };
}

unpacker! { GUNZIP gunzip "gunzip" JOB_GZIP
    "Unpacks a gzip file into a new file, every member of it.\n\nWithout `to` the ending `.gz` is taken away (`.tgz` becomes `.tar`). The packed file stays, unless `keep: false` has it removed. A file that is packed in another way is the error `bad_data`, which names the function for it; so is one that is cut short or damaged, and then nothing is made. What is there already is the error `exists`, or with `force` replaced.\n\nA map: `changed`, `created`, `path`, `bytes_in`, `bytes_out`, `removed`."
    &[
        Example {
            given: &[("log", "aaaa\n")],
            script: r#"gzip(dir + "/log", dir + "/x.gz"); gunzip(dir + "/x.gz"); cat(dir + "/x")"#,
            gives: r#""aaaa\n""#,
        },
        Example {
            given: &[("plain.gz", "no gzip data")],
            script: r#"let k = (); try { gunzip(dir + "/plain.gz") } catch (e) { if e.kind == "denied" { throw e } k = [e.kind, exists(dir + "/plain")]; } k"#,
            gives: r#"["bad_data", false]"#,
        },
        Example {
            given: &[("log", "a\n")],
            script: r#"gzip(dir + "/log", #{keep: false}); gunzip(dir + "/log.gz", #{keep: false}); [exists(dir + "/log"), exists(dir + "/log.gz")]"#,
            gives: "[true, false]",
        },
    ]
}
unpacker! { UNZSTD unzstd "unzstd" JOB_ZSTD
    "Unpacks a zstd file into a new file, every frame of it.\n\nWithout `to` the ending `.zst` is taken away. Otherwise as `gunzip`."
    &[Example {
        given: &[("log", "aaaa\n")],
        script: r#"zstd(dir + "/log", dir + "/x.zst"); unzstd(dir + "/x.zst", #{keep: false}).bytes_out"#,
        gives: "5",
    }]
}
unpacker! { BUNZIP2 bunzip2 "bunzip2" JOB_BZIP2
    "Unpacks a bzip2 file into a new file.\n\nWithout `to` the ending `.bz2` is taken away. Otherwise as `gunzip`. Packing with bzip2 is not offered: zstd is better at everything."
    &[Example {
        given: &[("x.bz2", "no bzip2 data")],
        script: r#"let k = (); try { bunzip2(dir + "/x.bz2", #{keep: false}) } catch (e) { if e.kind == "denied" { throw e } k = e.kind; } [k, exists(dir + "/x.bz2")]"#,
        gives: r#"["bad_data", true]"#,
    }]
}
unpacker! { UNXZ unxz "unxz" JOB_XZ
    "Unpacks an xz file into a new file, every stream of it.\n\nWithout `to` the ending `.xz` is taken away. Otherwise as `gunzip`."
    &[Example {
        given: &[("x.xz", "no xz data")],
        script: r#"let k = (); try { unxz(dir + "/x.xz", #{keep: false}) } catch (e) { if e.kind == "denied" { throw e } k = e.kind; } [k, exists(dir + "/x.xz")]"#,
        gives: r#"["bad_data", true]"#,
    }]
}

/// Finds what a path or an open file is.
///
/// # Errors
/// As [`File::locate`].
pub fn located(target: Target) -> Result<File> {
    match target {
        Target::Path(path) => File::locate(&path),
        Target::Open(handle) => handle.again(),
    }
}

/// Asks for the file that is to be made, before anything is read or made.
///
/// # Errors
/// [`Kind::Denied`]; [`Kind::Exists`] without `force`; [`Kind::BadArgument`] where it is the file that is read.
pub fn allow(call: &Call<'_>, to: &AbsPath, force: bool, from: Option<&File>) -> Result<Granted<Write>> {
    let file = File::locate(to)?;
    if !file.exists() {
        return allow_new(call, file);
    }
    let file = call.permit::<Write>(file)?;
    if from.is_some_and(|from| sys::extract::identity(from) == sys::extract::identity(file.resource())) {
        return Err(bad_argument("the file that is to be made is the one that is read").with_path(to.shown()));
    }
    if !force {
        return Err(Error::new(Kind::Exists, "it is there already").with_path(to.shown()).with_hint("`force: true` replaces it"));
    }
    Ok(file)
}

/// The mode and time of the file that is read, for the one that is made.
fn birth(from: &File) -> Birth {
    let stat = from.stat();
    Birth::plain(stat.map_or(0o644, |stat| stat.st_mode & 0o777), stat.and_then(moment))
}

fn moment(stat: &rustix::fs::Stat) -> Option<Moment> {
    u32::try_from(stat.st_mtime_nsec).ok().map(|nanos| (stat.st_mtime, nanos))
}

fn told(to: &Granted<Write>, bytes_in: u64, bytes_out: u64, removed: bool) -> Map {
    record([
        ("changed", true.into_script()),
        ("created", (!to.resource().exists()).into_script()),
        ("path", name_value(to.resource().asked().as_bytes())),
        ("bytes_in", bytes_in.into_script()),
        ("bytes_out", bytes_out.into_script()),
        ("removed", removed.into_script()),
    ])
}

/// What becomes of the file that is there already, and of the one that is read.
#[derive(Clone, Copy)]
struct Manner {
    force: bool,
    keep: bool,
}

/// The name of the file that is read, permitted to be removed, where it is not to be kept.
fn doomed(call: &Call<'_>, from: &File, keep: bool) -> Result<Option<Granted<Delete>>> {
    if keep {
        return Ok(None);
    }
    let path = from.asked();
    let granted = call.permit::<Delete>(File::locate_name(path)?)?;
    if granted.resource().kind() == Some(FileType::Symlink) {
        let error = Error::new(Kind::NotAFile, "it is a symbolic link, and `keep: false` would remove that instead of the file");
        return Err(error.with_path(path.shown()));
    }
    if sys::extract::identity(granted.resource()) != sys::extract::identity(from) {
        return Err(Error::new(Kind::Changed, "it was replaced while the policy was asked").with_path(path.shown()));
    }
    Ok(Some(granted))
}

/// Removes it, unless somebody wrote to it since: that would be lost.
fn remove(call: &Call<'_>, doomed: Option<&Granted<Delete>>) -> Result<bool> {
    let Some(doomed) = doomed else { return Ok(false) };
    let deed = || {
        let facts = |stat: &rustix::fs::Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
        let now = sys::attributes::stat(doomed)?;
        if doomed.resource().stat().map(facts) != Some(facts(&now)) {
            return Err(Error::new(Kind::Changed, "it was written to while it was read").with_path(doomed.resource().asked().shown()));
        }
        sys::name::remove(doomed)
    };
    call.effect(doomed, deed, |()| (0, "removed, its contents are in the new file"))
        .map_err(|error| Error { message: format!("{} (the new file is in its place, and the old one stays)", error.message), ..error })?;
    Ok(true)
}

fn pack(call: &Call<'_>, from: Target, to: Option<AbsPath>, job: &Job, level: u32, manner: Manner) -> Result<Map> {
    let from = call.permit::<Read>(located(from)?)?;
    let path = from.resource().asked().clone();
    let to = match to {
        Some(to) => to,
        None => {
            let suffix = job.suffixes.first().map_or("", |(suffix, _)| suffix);
            if path.as_bytes().ends_with(suffix.as_bytes()) {
                return Err(bad_argument(format!("its name ends in `{suffix}` already")).with_path(path.shown()));
            }
            AbsPath::new([path.as_bytes(), suffix.as_bytes()].concat())?
        }
    };
    let doomed = doomed(call, from.resource(), manner.keep)?;
    let mut source = sys::file::open(&from)?;
    let to = allow(call, &to, manner.force, Some(from.resource()))?;
    let birth = birth(from.resource());
    let name = Some(from.resource().name().to_vec()).filter(|_| job.format == Format::Gzip);
    let packing = Packing { format: job.format, level, name, mtime: birth.mtime.map_or(0, |(seconds, _)| seconds) };
    let check = || call.check();
    let (bytes_in, bytes_out) = call.effect(
        &to,
        || {
            sys::fresh::make(&to, birth, |sink| {
                let mut packer = Packer::new(sink, &packing)?;
                let bytes_in = sys::fresh::pour(&mut source, &mut packer, &check).map_err(|error| at(error, &path))?;
                Ok((bytes_in, packer.finish()?.bytes()))
            })
        },
        |(_, bytes)| (*bytes, "packed"),
    )?;
    let removed = remove(call, doomed.as_ref())?;
    Ok(told(&to, bytes_in, bytes_out, removed))
}

fn at(error: Error, path: &AbsPath) -> Error {
    if error.path.is_some() { error } else { error.with_path(path.shown()) }
}

fn unpack(call: &Call<'_>, from: Target, to: To<UnpackOptions>, options: Option<UnpackOptions>, job: &Job) -> Result<Map> {
    let (to, options) = to.split(options)?;
    let options = options.unwrap_or_default();
    let from = call.permit::<Read>(located(from)?)?;
    let path = from.resource().asked().clone();
    let to = match to {
        Some(to) => to,
        None => {
            let bytes = path.as_bytes();
            let cut = job.suffixes.iter().find_map(|(suffix, then)| {
                let stem = bytes.strip_suffix(suffix.as_bytes()).filter(|stem| !stem.ends_with(b"/"))?;
                Some([stem, then.as_bytes()].concat())
            });
            let suffix = job.suffixes.first().map_or("", |(suffix, _)| suffix);
            AbsPath::new(cut.ok_or_else(|| {
                bad_argument(format!("its name does not end in `{suffix}`: say what the new file shall be called")).with_path(path.shown())
            })?)?
        }
    };
    let doomed = doomed(call, from.resource(), options.keep)?;
    let source = sys::file::open(&from)?;
    let to = allow(call, &to, options.force, Some(from.resource()))?;
    let check = || call.check();
    let caps = Caps { max_bytes: options.max_bytes, max_ratio: options.max_ratio, ..Caps::default() };
    let mut plain = Plain::new(Checked::new(source, &check), caps).map_err(|error| at(error, &path))?;
    if plain.format() != job.format {
        return Err(other_format(plain.format(), job.format).with_path(path.shown()));
    }
    let bytes_out = call.effect(
        &to,
        || {
            sys::fresh::make(&to, birth(from.resource()), |sink| {
                sys::fresh::pour(&mut plain, sink, &check).map_err(|error| at(error, &path))
            })
        },
        |bytes| (*bytes, "unpacked"),
    )?;
    let bytes_in = from.resource().stat().and_then(|stat| u64::try_from(stat.st_size).ok()).unwrap_or(0);
    let removed = remove(call, doomed.as_ref())?;
    Ok(told(&to, bytes_in, bytes_out, removed))
}

/// Says what a file is instead of what was expected.
#[must_use]
pub fn other_format(found: Format, expected: Format) -> Error {
    let error = Error::new(Kind::BadData, format!("not a {} file but {}", expected.name(), found.name()));
    match [JOB_GZIP, JOB_ZSTD, JOB_BZIP2, JOB_XZ].iter().find(|job| job.format == found) {
        Some(job) => error.with_hint(format!("`{}` is for it", job.program)),
        None => error,
    }
}
