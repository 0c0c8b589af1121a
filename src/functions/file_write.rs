//! Functions that put contents into files. They ask for [`Write`], and for [`Create`] too where there is no file yet.

use super::function::{Call, Example, Function, param, with1, with2, with3};
use super::handle::{Handle, Target};
use super::value::{Dynamic, FromScript, ImmutableString, IntoScript, Map, name_value, plain_type, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, Answer, Granted, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::write::Written;

pub const FUNCTIONS: &[Function] = &[WRITE, APPEND_LINE, TOUCH, TRUNCATE];

/// The permission bits of a file that is made, unless `mode` says otherwise.
pub const NEW_FILE: u32 = 0o644;
/// How often something may get the name of a new file first before it is given up.
const TRIES: u32 = 4;

/// `file_system::Action::"write"`: change what is in a file.
pub enum Write {}
impl Action for Write {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "write";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File"];
    const GROUPS: &'static [&'static str] = &["SafeIO", "edit"];
    const DOC: &'static str = "Change the contents of a file.";
    const ACCESS: Access = Access::Change;
    const NEEDS_OPEN: bool = true;
    const MAY_BE_ABSENT: bool = true;
}

/// `file_system::Action::"create"`: make a file or directory.
pub enum Create {}
impl Action for Create {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "create";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File", "file_system::Dir"];
    const GROUPS: &'static [&'static str] = &["SafeIO", "edit"];
    const DOC: &'static str = "Make a file or directory where there is none.";
    const ACCESS: Access = Access::Change;
    const NEEDS_OPEN: bool = true;
    const MAY_BE_ABSENT: bool = true;
}

/// What goes into a file: text or bytes.
#[derive(Clone, Debug)]
pub enum Content {
    Text(ImmutableString),
    Bytes(Vec<u8>),
}

impl Content {
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl FromScript for Content {
    const TYPE: &'static str = "a string or a blob";
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is_blob() {
            return Ok(Self::Bytes(value.into_blob().unwrap_or_default()));
        }
        value.into_immutable_string().map(Self::Text).map_err(|name| {
            bad_argument(format!("expected {}, got {}", Self::TYPE, plain_type(name)))
                .with_hint("`to_string(value)` or `to_json(value)` makes text of it")
        })
    }
}

/// Permission bits of a new file.
#[derive(Clone, Copy, Debug)]
pub struct Bits(pub u32);

impl FromScript for Bits {
    const TYPE: &'static str = "permission bits (0 to 0o777)";
    fn from_script(value: Dynamic) -> Result<Self> {
        if let Ok(text) = value.as_immutable_string_ref() {
            let digits = text.strip_prefix("0o").unwrap_or(&text);
            let bits = u32::from_str_radix(digits, 8).ok().filter(|bits| *bits <= 0o777 && !digits.starts_with('+'));
            let wrong = || bad_argument("expected permission bits: 0 to 0o777, or octal text such as \"0750\"");
            return bits.map(Self).ok_or_else(wrong);
        }
        let bits = i64::from_script(value)?;
        u32::try_from(bits).ok().filter(|bits| *bits <= 0o777).map(Self).ok_or_else(|| {
            bad_argument(format!("expected {}, got {bits}", Self::TYPE))
                .with_hint("octal is written 0o644; set-user-id, set-group-id and sticky are for `chmod`")
        })
    }
}

options! {
    /// Options of `write`.
    WriteOptions {
        append: Option<bool> = None, "Add at the end. This is what happens unless `replace` is set.", flags &["append", "a"];
        replace: bool = false, "Put the new contents in the place of the old, in one step.", flags &["replace", "r"];
        create_new: bool = false, "Fail with `exists` if there is something already.";
        mode: Option<Bits> = None, "Permission bits of a file that this makes, 0o644 if left out; one that is there keeps its own.";
        fsync: Option<bool> = None, "Return when it is on the disk. The default is true with `replace`, else false.";
    }
}

const WRITE: Function = Function {
    name: "write",
    doc: "Writes text or bytes to a file: at its end, or with `replace` instead of what it holds.\n\nLinks are followed; what they lead to is written, never the link. A file that is not there is made; its folder must be there. \
          Appending does not read the file and loses nothing that others append. `replace` puts a complete new file in the old one's place, with its owner, \
          group, permission bits, access lists and extended attributes; readers see the old contents or the new. Where that cannot be (the file has several \
          names, its folder cannot be written, it is a mount point) it is written in place, and `atomic` is false. Set-user-id, set-group-id and file \
          capabilities do not survive a change of contents.\n\nA map: `changed`, `created`, `bytes`, `path`, and with `replace` `atomic`. An open file instead of a path is written at its place, \
          without options.",
    body: &with3(
        write,
        [param("path", "The file, or an open file."), param("content", "A string, or a blob of any bytes."), param("options", "")],
    ),
    asks: &[ask::<Write>(), ask::<Create>()],
    fails: &[
        Kind::NotFound,
        Kind::Exists,
        Kind::IsADirectory,
        Kind::NotAFile,
        Kind::Permission,
        Kind::NoSpace,
        Kind::ReadOnly,
        Kind::Changed,
    ],
    examples: &[
        Example {
            given: &[],
            script: r#"write(dir + "/new", "a\n", #{replace: true}); write(dir + "/new", "b\n", #{append: true}); cat(dir + "/new")"#,
            gives: r#""a\nb\n""#,
        },
        Example { given: &[("old", "long contents\n")], script: r#"write(dir + "/old", "new\n", #{replace: true}).atomic"#, gives: "true" },
        Example {
            given: &[("old", "x")],
            script: r#"let w = write([write::replace], dir + "/old", "yz"); [w.changed, w.created, w.bytes]"#,
            gives: "[true, false, 2]",
        },
    ],
};

fn write(call: &Call<'_>, target: Target, content: Content, options: Option<WriteOptions>) -> Result<Map> {
    let path = match target {
        Target::Path(path) => path,
        Target::Open(handle) => {
            if options.is_some() {
                return Err(bad_argument("write: options are for paths; how an open file is written was decided by `open`"));
            }
            return write_open(call, &handle, content.as_bytes());
        }
    };
    let options = options.unwrap_or_default();
    if options.replace && options.append == Some(true) {
        return Err(bad_argument("write: `append` and `replace` exclude each other"));
    }
    if options.append == Some(false) && !options.replace && !options.create_new {
        return Err(bad_argument("write: `append: false` does not say what to do instead: set `replace` or `create_new`"));
    }
    let written = put(call, &path, content.as_bytes(), &options)?;
    let mut map = record([
        ("changed", (written.created || written.bytes > 0 || options.replace).into_script()),
        ("created", written.created.into_script()),
        ("bytes", written.bytes.into_script()),
        ("path", name_value(path.as_bytes())),
    ]);
    if options.replace {
        map.insert("atomic".into(), written.atomic.into_script());
    }
    Ok(map)
}

fn write_open(call: &Call<'_>, handle: &Handle, bytes: &[u8]) -> Result<Map> {
    handle.write(call, bytes)?;
    Ok(record([
        ("changed", (!bytes.is_empty()).into_script()),
        ("created", false.into_script()),
        ("bytes", (bytes.len() as u64).into_script()),
        ("path", name_value(handle.path().as_bytes())),
    ]))
}

/// Writes; when something gets the name of a new file first, it is judged and written instead.
fn put(call: &Call<'_>, path: &AbsPath, bytes: &[u8], options: &WriteOptions) -> Result<Written> {
    let watch = &call.host.watch;
    let sync = options.fsync.unwrap_or(options.replace);
    let mode = options.mode.map_or(NEW_FILE, |bits| bits.0);
    let told = |written: &Written| {
        (
            written.bytes,
            if written.created {
                "created"
            } else if written.atomic {
                "replaced"
            } else if options.replace {
                "replaced in place"
            } else {
                "appended"
            },
        )
    };
    for _ in 0..TRIES {
        let file = File::locate(path)?;
        if file.exists() {
            let file = call.permit::<Write>(file)?;
            if options.create_new {
                return Err(exists(path));
            }
            if file.held() {
                let (detail, diff) = if options.replace {
                    ("would be replaced", None)
                } else {
                    ("would be added at the end", added(path, bytes, Some("@@ at the end @@")))
                };
                return Err(call.withhold(&file, detail, diff.as_deref())?);
            }
            return call.effect(
                &file,
                || {
                    if options.replace {
                        sys::write::replace(&file, bytes, mode, sync, watch)
                    } else {
                        sys::write::append(&file, bytes, sync)
                    }
                },
                told,
            );
        }
        let file = allow_new(call, file)?;
        if file.held() {
            return Err(call.withhold(&file, "would be made", added(path, bytes, None).as_deref())?);
        }
        let done = call.effect(
            &file,
            || {
                if options.replace {
                    sys::write::replace(&file, bytes, mode, sync, watch)
                } else {
                    sys::write::create_with(&file, bytes, mode, sync, watch)
                }
            },
            told,
        );
        match done {
            Err(error) if error.kind == Kind::Exists && !options.create_new => call.check()?,
            done => return done,
        }
    }
    Err(Error::new(Kind::Changed, "it comes and goes too fast").with_path(path.shown()))
}

/// What a dry run shows of text that would be added. What is in the file is not shown: to write needs no permission to read.
fn added(path: &AbsPath, bytes: &[u8], place: Option<&str>) -> Option<String> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))?;
    let diff = super::edit::unified(b"", bytes, &path.shown());
    Some(match (place, diff.lines().find(|line| line.starts_with("@@ "))) {
        (Some(place), Some(hunk)) => diff.replacen(hunk, place, 1),
        _ => diff,
    })
}

fn exists(path: &AbsPath) -> Error {
    Error::new(Kind::Exists, "it is there already").with_path(path.shown())
}

/// Asks for both verbs that a new file needs, before anything is made.
///
/// # Errors
/// [`Kind::Denied`].
pub fn allow_new(call: &Call<'_>, file: File) -> Result<Granted<Write>> {
    // Asked for first, as of a file that is there: a denial must not tell which of the two it is.
    if call.host.gate.would::<Write>(&file) != Answer::Yes {
        return call.permit::<Write>(file);
    }
    let file = call.permit::<Create>(file)?.into_resource();
    call.permit::<Write>(file)
}

const APPEND_LINE: Function = Function {
    name: "append_line",
    doc: "Adds a line at the end of a file: the text and a line end, in one step.\n\nA file that is not there is made. The same map as of `write`.",
    body: &with2(append_line, [param("path", "The file."), param("line", "The text, without its line end.")]),
    asks: &[ask::<Write>(), ask::<Create>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::Permission, Kind::NoSpace, Kind::ReadOnly],
    examples: &[
        Example { given: &[("log", "a\n")], script: r#"append_line(dir + "/log", "b"); cat(dir + "/log")"#, gives: r#""a\nb\n""# },
        Example { given: &[], script: r#"append_line(dir + "/log", "b").created"#, gives: "true" },
    ],
};

fn append_line(call: &Call<'_>, path: AbsPath, line: String) -> Result<Map> {
    write(call, Target::Path(path), Content::Text(format!("{line}\n").into()), None)
}

const TOUCH: Function = Function {
    name: "touch",
    doc: "Makes an empty file, or sets the times of one that is there to now.\n\nA map: `changed`, `created`, `path`.",
    body: &with1(touch, [param("path", "The file.")]),
    asks: &[ask::<Write>(), ask::<Create>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::Permission, Kind::NoSpace, Kind::ReadOnly],
    examples: &[
        Example { given: &[], script: r#"touch(dir + "/stamp"); stat(dir + "/stamp").size"#, gives: "0" },
        Example { given: &[("stamp", "kept")], script: r#"touch(dir + "/stamp"); cat(dir + "/stamp")"#, gives: r#""kept""# },
    ],
};

fn touch(call: &Call<'_>, path: AbsPath) -> Result<Map> {
    let result = |created: bool| {
        record([("changed", true.into_script()), ("created", created.into_script()), ("path", name_value(path.as_bytes()))])
    };
    for _ in 0..TRIES {
        let file = File::locate(&path)?;
        if file.exists() {
            let file = call.permit::<Write>(file)?;
            call.effect(&file, || sys::write::touch(&file), |()| (0, "touched"))?;
            return Ok(result(false));
        }
        let file = allow_new(call, file)?;
        match call.effect(&file, || sys::write::create_with(&file, b"", NEW_FILE, false, &call.host.watch), |_| (0, "created")) {
            Ok(_) => return Ok(result(true)),
            Err(error) if error.kind == Kind::Exists => call.check()?,
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(Kind::Changed, "it comes and goes too fast").with_path(path.shown()))
}

options! {
    /// Options of `truncate` on a path.
    TruncateOptions {
        size: u64 = 0, "Bytes it shall have.";
    }
}

/// The size for `truncate`: bytes, or the reference's map.
#[derive(Clone, Debug)]
pub struct Size(u64);

impl FromScript for Size {
    const TYPE: &'static str = "#{size: bytes}, or bytes for an open file";
    const OPTIONS: Option<&'static [super::value::OptionRow]> = TruncateOptions::OPTIONS;
    fn absent() -> Option<Self> {
        Some(Self(0))
    }
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is_map() {
            TruncateOptions::from_script(value).map(|options| Self(options.size))
        } else {
            u64::from_script(value).map(Self)
        }
    }
}

const TRUNCATE: Function = Function {
    name: "truncate",
    doc: "Sets the size of a file: cuts its end off, or fills it up with zeros.\n\nOf a path, `truncate(path, #{size: bytes})`, 0 without a size; of an open file, also `truncate(file, bytes)`. \
          (`truncate(text, length)` with a string is the language's own and shortens the string.) A map: `changed`, `path`, `size`.",
    body: &with2(truncate, [param("path", "The file, or an open file."), param("options", "")]),
    asks: &[ask::<Write>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::Permission, Kind::NoSpace, Kind::TooLarge],
    examples: &[
        Example { given: &[("log", "12345")], script: r#"truncate(dir + "/log", #{size: 2}); cat(dir + "/log")"#, gives: r#""12""# },
        Example { given: &[("log", "12345")], script: r#"truncate(dir + "/log"); stat(dir + "/log").size"#, gives: "0" },
    ],
};

fn truncate(call: &Call<'_>, target: Target, size: Size) -> Result<Map> {
    let (path, changed) = match target {
        Target::Open(handle) => (handle.path().clone(), handle.truncate(call, size.0)?),
        Target::Path(path) => {
            let file = File::locate(&path)?;
            if !file.exists() {
                let file = call.permit::<Write>(file)?;
                return Err(crate::policy::Resource::obstacle(file.resource())
                    .unwrap_or_else(|| Error::new(Kind::NotFound, "no such file").with_path(path.shown())));
            }
            let file = call.permit::<Write>(file)?;
            if file.held() {
                return Err(call.withhold(&file, &format!("would have {} bytes", size.0), None)?);
            }
            let before = file.stat().and_then(|stat| u64::try_from(stat.st_size).ok());
            call.effect(&file, || sys::write::truncate(&file, size.0), |()| (0, "truncated"))?;
            (path, before != Some(size.0))
        }
    };
    Ok(record([("changed", changed.into_script()), ("path", name_value(path.as_bytes())), ("size", size.0.into_script())]))
}

#[cfg(test)]
mod tests;
