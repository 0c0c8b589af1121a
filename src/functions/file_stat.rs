//! Functions that tell about files without looking into them. They ask for [`Stat`].

use super::datetime::DateTime;
use super::function::{Call, Example, Function, param, with1, with2};
use super::handle::Target;
use super::value::{Dynamic, ImmutableString, IntoScript, Map, name_value, record};
use crate::error::{Kind, Result};
use crate::options;
use crate::policy::Granted;
use crate::policy::{Access, Action, ask};
use crate::resource::file::{File, kind_word, names};
use crate::resource::path::AbsPath;
use crate::sys;
use rustix::fs::FileType;
use std::collections::HashMap;

pub const FUNCTIONS: &[Function] = &[STAT, EXISTS, IS_FILE, IS_DIR];

/// `file_system::Action::"stat"`: see size, times, owner and mode.
pub enum Stat {}
impl Action for Stat {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "stat";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File", "file_system::Dir"];
    const GROUPS: &'static [&'static str] = &["SafeIO", "view"];
    const DOC: &'static str = "See the size, times, owner and mode of a file or directory.";
    const ACCESS: Access = Access::ReadOnly;
    const NEEDS_OPEN: bool = true;
}

options! {
    /// Options of `stat`.
    StatOptions {
        follow: bool = true, "Follow a symbolic link at the end of the path.";
    }
}

const STAT: Function = Function {
    name: "stat",
    doc: "What the filesystem knows about a file.\n\nA map: `name`, `path`, `type` (file, dir, symlink, fifo, socket, char_device, block_device), `size`, `mode` (permission bits), `owner`, `group`, `uid`, `gid`, `mtime`, `atime`, `ctime` (DateTimes), `btime` (when it was made, where the filesystem keeps that), `inode`, `links`, `blocks` (of 512 bytes), `device`, and `target` of a symbolic link.",
    body: &with2(stat, [param("path", "The file or directory, or an open file."), param("options", "")]),
    asks: &[ask::<Stat>()],
    fails: &[Kind::NotFound, Kind::Permission],
    examples: &[
        Example { given: &[("five", "12345")], script: r#"stat(dir + "/five").size"#, gives: "5" },
        Example { given: &[("sub/", "")], script: r#"stat(dir + "/sub").type"#, gives: r#""dir""# },
    ],
};

fn stat(call: &Call<'_>, target: Target, options: StatOptions) -> Result<Map> {
    let file = match target {
        Target::Path(path) => File::locate_with(&path, options.follow)?,
        Target::Open(handle) => handle.again()?,
    };
    let file = call.permit::<Stat>(file)?;
    let mut map = Describer::default().details(&file);
    if let Some((seconds, nanos)) = sys::dir::birth_time(&file) {
        map.insert("btime".into(), DateTime::from_epoch(seconds, nanos.into()).map_or(Dynamic::UNIT, IntoScript::into_script));
    }
    Ok(map)
}

const EXISTS: Function = Function {
    name: "exists",
    doc: "Whether there is something at this path.\n\nA link that leads nowhere does not exist; `#{follow: false}` looks at the link itself.",
    body: &with2(exists, [param("path", "Any path."), param("options", "")]),
    asks: &[ask::<Stat>()],
    fails: &[],
    examples: &[
        Example { given: &[("here", "")], script: r#"exists(dir + "/here")"#, gives: "true" },
        Example { given: &[], script: r#"exists(dir + "/gone")"#, gives: "false" },
    ],
};

fn exists(call: &Call<'_>, path: AbsPath, options: StatOptions) -> Result<bool> {
    Ok(kind_of(call, &path, options.follow)?.is_some())
}

const IS_FILE: Function = Function {
    name: "is_file",
    doc: "Whether there is a regular file at this path (links are followed).",
    body: &with1(is_file, [param("path", "Any path.")]),
    asks: &[ask::<Stat>()],
    fails: &[],
    examples: &[Example {
        given: &[("here", ""), ("sub/", "")],
        script: r#"[is_file(dir + "/here"), is_file(dir + "/sub"), is_file(dir + "/gone")]"#,
        gives: "[true, false, false]",
    }],
};

fn is_file(call: &Call<'_>, path: AbsPath) -> Result<bool> {
    Ok(kind_of(call, &path, true)? == Some(FileType::RegularFile))
}

const IS_DIR: Function = Function {
    name: "is_dir",
    doc: "Whether there is a directory at this path (links are followed).",
    body: &with1(is_dir, [param("path", "Any path.")]),
    asks: &[ask::<Stat>()],
    fails: &[],
    examples: &[Example {
        given: &[("here", ""), ("sub/", "")],
        script: r#"[is_dir(dir + "/here"), is_dir(dir + "/sub")]"#,
        gives: "[false, true]",
    }],
};

fn is_dir(call: &Call<'_>, path: AbsPath) -> Result<bool> {
    Ok(kind_of(call, &path, true)? == Some(FileType::Directory))
}

/// The type of what is there, or nothing; a denial stays an error.
fn kind_of(call: &Call<'_>, path: &AbsPath, follow: bool) -> Result<Option<FileType>> {
    match call.permit::<Stat>(File::locate_with(path, follow)?) {
        Ok(file) => Ok(file.resource().kind()),
        Err(error) if matches!(error.kind, Kind::NotFound | Kind::NotADirectory) => Ok(None),
        // Links that lead in a circle lead nowhere. In /proc the same errno is for links that rex does not follow.
        Err(error) if error.errno == Some(libc::ELOOP) && !path.as_bytes().starts_with(b"/proc/") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the maps of many entries; it remembers the names of the users and groups that it met.
#[derive(Default)]
pub struct Describer {
    users: HashMap<u32, ImmutableString>,
    groups: HashMap<u32, ImmutableString>,
}

impl Describer {
    /// Everything stat(2) says, for scripts.
    pub fn details(&mut self, file: &Granted<Stat>) -> Map {
        let Some(stat) = file.resource().stat() else { return Map::new() };
        let time = |seconds: i64, nanos: u64| {
            DateTime::from_epoch(seconds, i64::try_from(nanos).unwrap_or(0)).map_or(Dynamic::UNIT, IntoScript::into_script)
        };
        // A number without a name is its own name: files of users that are gone, or of another host.
        let number = |id: u32| ImmutableString::from(id.to_string());
        let owner =
            self.users.entry(stat.st_uid).or_insert_with(|| names().user(stat.st_uid).map_or_else(|| number(stat.st_uid), Into::into));
        let group =
            self.groups.entry(stat.st_gid).or_insert_with(|| names().group(stat.st_gid).map_or_else(|| number(stat.st_gid), Into::into));
        let mut map = record([
            ("name", name_value(file.resource().name())),
            ("path", name_value(file.resource().asked().as_bytes())),
            ("type", kind_word(FileType::from_raw_mode(stat.st_mode)).into_script()),
            ("size", stat.st_size.into_script()),
            ("mode", (stat.st_mode & 0o7777).into_script()),
            ("owner", owner.clone().into_script()),
            ("group", group.clone().into_script()),
            ("uid", stat.st_uid.into_script()),
            ("gid", stat.st_gid.into_script()),
            ("mtime", time(stat.st_mtime, stat.st_mtime_nsec)),
            ("atime", time(stat.st_atime, stat.st_atime_nsec)),
            ("ctime", time(stat.st_ctime, stat.st_ctime_nsec)),
            ("inode", stat.st_ino.into_script()),
            ("links", stat.st_nlink.into_script()),
            ("blocks", stat.st_blocks.into_script()),
            ("device", stat.st_dev.into_script()),
        ]);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
            && let Ok(target) = sys::dir::link_target(file)
        {
            map.insert("target".into(), name_value(&target));
        }
        map
    }
}
