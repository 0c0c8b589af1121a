//! Functions that change what a file is, not what is in it: mode, owner, times, room on the disk. They ask for [`Chmod`], [`Chown`] and [`Write`].

mod mode;
pub mod tree;

use super::datetime::DateTime;
use super::file_read::Read;
use super::file_write::Write;
use super::function::{Call, Example, Function, param, with2, with3};
use super::value::{Dynamic, FromScript, IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, Answer, Attribute, Granted, Resource, Value, ask};
use crate::resource::file::{File, names};
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::attributes::{Room, Time};
use mode::ModeChange;
use rustix::fs::{FileType, Stat};
use tree::{Done, Tree};

pub const FUNCTIONS: &[Function] = &[CHMOD, CHOWN, SET_TIMES, FALLOCATE];

const fn wanted(name: &'static str, cedar: &'static str, doc: &'static str) -> Attribute {
    Attribute { name, cedar, required: true, fixed: false, doc }
}

/// `file_system::Action::"chmod"`: change permission bits.
pub enum Chmod {}
impl Action for Chmod {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "chmod";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File", "file_system::Dir"];
    const GROUPS: &'static [&'static str] = &["SafeIO", "edit"];
    const DOC: &'static str = "Change the permission bits of a file or directory, or the times of a directory.";
    const ACCESS: Access = Access::Change;
    const CONTEXT: &'static [Attribute] = &[
        wanted("mode", "Long", "The permission bits it shall have, including set-user-id, set-group-id and sticky (at most 4095)."),
        wanted("set_uid", "Bool", "Whether programs shall run with its owner's rights; also true where file capabilities are set."),
        wanted("set_gid", "Bool", "Whether programs shall run with its group's rights; of a directory, whether it hands on its group."),
        wanted("sticky", "Bool", "Whether only owners may remove what is in the directory."),
        wanted("world_writable", "Bool", "Whether anyone shall be able to write it."),
    ];
    const NEEDS_OPEN: bool = true;
    // Asked too of a file that is about to be made, with bits that `create` does not cover.
    const MAY_BE_ABSENT: bool = true;
}

/// The circumstances of a `chmod`: the bits wanted.
#[must_use]
pub fn wanted_mode(mode: u32) -> Vec<(&'static str, Value)> {
    vec![
        ("mode", Value::Long((mode & 0o7777).into())),
        ("set_uid", Value::Bool(mode & 0o4000 != 0)),
        ("set_gid", Value::Bool(mode & 0o2000 != 0)),
        ("sticky", Value::Bool(mode & 0o1000 != 0)),
        ("world_writable", Value::Bool(mode & 0o002 != 0)),
    ]
}

/// `file_system::Action::"chown"`: change owner and group.
pub enum Chown {}
impl Action for Chown {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "chown";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File", "file_system::Dir"];
    const GROUPS: &'static [&'static str] = &["SafeIO", "edit"];
    const DOC: &'static str = "Change the owner or group of a file or directory.";
    const ACCESS: Access = Access::Change;
    const CONTEXT: &'static [Attribute] = &[
        wanted("uid", "Long", "The number of the owner it shall have; -1 where it stays and nothing is there."),
        wanted("gid", "Long", "The number of the group it shall have; -1 where it stays and nothing is there."),
        wanted("owner", "String", "The name of the owner it shall have, or the number where there is no name."),
        wanted("group", "String", "The name of the group it shall have, or the number where there is no name."),
    ];
    const NEEDS_OPEN: bool = true;
    const MAY_BE_ABSENT: bool = true;
}

fn user_name(uid: u32) -> String {
    names().user(uid).unwrap_or_else(|| uid.to_string())
}
fn group_name(gid: u32) -> String {
    names().group(gid).unwrap_or_else(|| gid.to_string())
}

/// The circumstances of a `chown`: who is wanted, those that stay as they are now.
#[must_use]
pub fn wanted_owner(file: &File, uid: Option<u32>, gid: Option<u32>) -> Vec<(&'static str, Value)> {
    let uid = uid.or_else(|| file.stat().map(|stat| stat.st_uid));
    let gid = gid.or_else(|| file.stat().map(|stat| stat.st_gid));
    let number = |id: Option<u32>| Value::Long(id.map_or(-1, i64::from));
    vec![
        ("uid", number(uid)),
        ("gid", number(gid)),
        ("owner", Value::String(uid.map(user_name).unwrap_or_default())),
        ("group", Value::String(gid.map(group_name).unwrap_or_default())),
    ]
}

/// Why nothing can be done to what is not there; verbs that may be asked of it do not say so themselves.
///
/// # Errors
/// The obstacle.
pub fn must_exist(file: &File) -> Result<()> {
    if file.exists() {
        return Ok(());
    }
    Err(file.obstacle().unwrap_or_else(|| Error::new(Kind::NotFound, "no such file or directory").with_path(file.asked().shown())))
}

fn is_link(file: &File) -> bool {
    file.kind() == Some(FileType::Symlink)
}

options! {
    /// Options of `chmod`.
    ChmodOptions {
        recursive: bool = false, "Everything at and below the directory; links in it are left as they are.", flags &["recursive", "R"];
        follow: bool = true, "Follow a symbolic link at the end of the path.";
        keep_going: bool = false, "Go on after what is refused, and report it in `refused`; without it nothing is changed unless everything may be.";
    }
}

const CHMOD: Function = Function {
    name: "chmod",
    doc: "Sets the permission bits of a file or directory.\n\nThe bits are an int (`0o644`), the same as text (`\"0644\"`), or steps as for chmod(1): `\"u+rwX,go-w\"`. Numbers are set exactly \
          as they are, set-user-id, set-group-id and sticky included; what `stat` gives as `mode` can be set again. A step that names nobody means everybody, but gives `w` to the owner \
          only. The policy is told the bits that are wanted (`context.mode`, `context.set_uid` …).\n\nA map: `changed`, `count` (how many were changed), `path`, `before` and `after` \
          (bits of the path itself), and with `recursive` `skipped` (links), `refused` (maps with `path`, `kind`, `message`, `action`; the first 1,000) and `refused_count`. With `recursive`, everything is \
          judged before anything is changed.",
    body: &with3(
        chmod,
        [param("path", "The file or directory."), param("mode", "The bits: an int, or octal or symbolic text."), param("options", "")],
    ),
    asks: &[ask::<Chmod>(), ask::<Read>()],
    fails: &[Kind::NotFound, Kind::Permission, Kind::ReadOnly, Kind::Unsupported, Kind::TooLarge, Kind::Changed],
    examples: &[
        Example { given: &[("key", "x")], script: r#"chmod(dir + "/key", 0o600); stat(dir + "/key").mode == 0o600"#, gives: "true" },
        Example {
            given: &[("run", "")],
            script: r#"chmod(dir + "/run", "0640"); chmod(dir + "/run", "u+x,o=").after == 0o740"#,
            gives: "true",
        },
        Example {
            given: &[("web/a", ""), ("web/sub/b", "")],
            script: r#"chmod(dir + "/web", "u=rwX,go=rX", #{recursive: true}); [stat(dir + "/web/sub").mode == 0o755, stat(dir + "/web/sub/b").mode == 0o644]"#,
            gives: "[true, true]",
        },
    ],
};

fn chmod(call: &Call<'_>, path: AbsPath, mode: ModeChange, options: ChmodOptions) -> Result<Map> {
    let file = File::locate_with(&path, options.follow)?;
    let wanted = |file: &File| mode.of(file.stat().map_or(0, |stat| stat.st_mode & 0o7777), file.is_dir());
    let context = |file: &File| wanted_mode(wanted(file));
    let before = file.stat().map(|stat| stat.st_mode & 0o7777);
    let deed = |granted: &Granted<Chmod>| {
        let now = sys::attributes::stat(granted)?.st_mode & 0o7777;
        // Steps were judged with the bits that it had then.
        let wanted = wanted(granted.resource());
        if now == wanted && !is_link(granted.resource()) {
            return Ok(false);
        }
        call.effect(granted, || sys::attributes::set_mode(granted, wanted), |()| (0, format!("mode {now:04o} to {wanted:04o}")))?;
        Ok(true)
    };
    let (done, recursive) = if options.recursive && file.is_dir() {
        let tree = Tree::<Chmod> { path: &path, links: false, keep_going: options.keep_going, context: &context, deed: &deed };
        (tree.change(call, &file)?, true)
    } else {
        let circumstances = context(&file);
        let granted = call.permit_with::<Chmod>(file, circumstances)?;
        must_exist(granted.resource())?;
        (Done::of_one(&granted, deed(&granted)?)?, options.recursive)
    };
    let after = done.after.map(|stat| stat.st_mode & 0o7777);
    let mut map = record([
        ("changed", (done.changed > 0).into_script()),
        ("count", done.changed.into_script()),
        ("path", name_value(path.as_bytes())),
        ("before", before.into_script()),
        ("after", after.into_script()),
    ]);
    if recursive {
        map.insert("skipped".into(), done.skipped.into_script());
        done.refused.tell(&mut map);
    }
    Ok(map)
}

/// A user or group: a name, or its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    Name(String),
    Id(u32),
}

/// What chown(2) takes for "leave it".
const NOBODY: u32 = u32::MAX;

impl Who {
    fn of(text: &str) -> Result<Self> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            return text
                .parse()
                .ok()
                .filter(|id| *id != NOBODY)
                .map(Self::Id)
                .ok_or_else(|| bad_argument(format!("no id is as large as {text}")));
        }
        if text.is_empty() || text.contains(['\0', ':', '/', '\n']) {
            return Err(bad_argument(format!(
                "`{}` is no name of a user or group",
                text.chars().take(40).collect::<String>().escape_debug()
            )));
        }
        Ok(Self::Name(text.to_owned()))
    }
    fn id(&self, what: &str, look_up: impl Fn(&str) -> Option<u32>) -> Result<u32> {
        match self {
            Self::Id(id) => Ok(*id),
            Self::Name(name) => look_up(name).ok_or_else(|| {
                Error::new(Kind::NotFound, format!("this host knows no {what} `{}`", name.escape_debug()))
                    .with_hint(format!("a {what} without a name is given by its number"))
            }),
        }
    }
}

impl FromScript for Who {
    const TYPE: &'static str = "a name or number";
    fn from_script(value: Dynamic) -> Result<Self> {
        if let Ok(int) = value.as_int() {
            return u32::try_from(int).ok().filter(|id| *id != NOBODY).map(Self::Id).ok_or_else(|| bad_argument(format!("{int} is no id")));
        }
        String::from_script(value).map_err(|_| bad_argument(format!("expected {}", Self::TYPE))).and_then(|text| Self::of(&text))
    }
}

options! {
    /// Options of `chown`.
    ChownOptions {
        user: Option<Who> = None, "The owner: a name or number.";
        group: Option<Who> = None, "The group: a name or number.";
        recursive: bool = false, "Everything at and below the directory; of links in it, the links themselves.", flags &["recursive", "R"];
        follow: bool = true, "Follow a symbolic link at the end of the path.";
        keep_going: bool = false, "Go on after what is refused, and report it in `refused`; without it nothing is changed unless everything may be.";
    }
}

/// The second argument of `chown`: whom, or only options.
pub enum Owner {
    Words { user: Option<Who>, group: Option<Who>, login: bool },
    Options(Box<ChownOptions>),
}

impl FromScript for Owner {
    const TYPE: &'static str = "\"user\", \"user:group\", \":group\", a uid, or a map of options";
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is_map() {
            return ChownOptions::from_script(value).map(|options| Self::Options(Box::new(options)));
        }
        if value.is_int() {
            return Who::from_script(value).map(|user| Self::Words { user: Some(user), group: None, login: false });
        }
        let text = String::from_script(value).map_err(|_| bad_argument(format!("expected {}", Self::TYPE)))?;
        let (user, group) = text.split_once(':').map_or((text.as_str(), None), |(user, group)| (user, Some(group)));
        let some = |word: &str| if word.is_empty() { Ok(None) } else { Who::of(word).map(Some) };
        let (user, group, login) = (some(user)?, some(group.unwrap_or(""))?, group == Some(""));
        if user.is_none() && group.is_none() {
            return Err(bad_argument(format!("expected {}", Self::TYPE)));
        }
        Ok(Self::Words { login: login && user.is_some(), user, group })
    }
}

const CHOWN: Function = Function {
    name: "chown",
    doc: "Sets the owner and group of a file or directory.\n\n`chown(path, \"user:group\")`, `chown(path, \"user\")`, `chown(path, \":group\")`, `chown(path, \"user:\")` (with the user's own group), \
          `chown(path, 1000)`, or `chown(path, #{user: …, group: …})`. Names have to be known to this host; numbers need not be. The policy is told who is wanted (`context.owner`, `context.uid` …). \
          The kernel takes set-user-id and set-group-id from a file that changes hands; `mode` tells what is left.\n\nA map: `changed`, `count` (how many were changed), `path`, `owner`, `group`, `uid`, \
          `gid`, `mode` (as they are now), `before` (a map of the same), and with `recursive` `refused` (maps with `path`, `kind`, `message`, `action`; the first 1,000) and `refused_count`. With `recursive`, everything is judged \
          before anything is changed.",
    body: &with3(
        chown,
        [
            param("path", "The file or directory."),
            param("owner", "`user`, `user:group`, `:group`, a uid, or the options."),
            param("options", ""),
        ],
    ),
    asks: &[ask::<Chown>(), ask::<Read>()],
    fails: &[Kind::NotFound, Kind::Permission, Kind::ReadOnly, Kind::TooLarge, Kind::Changed],
    examples: &[
        Example {
            given: &[("file", "")],
            script: r#"let s = stat(dir + "/file"); chown(dir + "/file", `${s.uid}:${s.gid}`).changed"#,
            gives: "false",
        },
        Example { given: &[("file", "")], script: r#"chown(dir + "/file", #{user: stat(dir + "/file").uid}).count"#, gives: "0" },
        Example { given: &[("web/a", "")], script: r#"chown(dir + "/web", "65534:65534", #{recursive: true}).count"#, gives: "" },
    ],
};

fn chown(call: &Call<'_>, path: AbsPath, owner: Owner, options: Option<ChownOptions>) -> Result<Map> {
    let (user, group, login, options) = match (owner, options) {
        (Owner::Options(given), None) => (given.user.clone(), given.group.clone(), false, *given),
        (Owner::Options(_), Some(_)) => return Err(bad_argument("chown: more than one map of options")),
        (Owner::Words { user, group, login }, options) => {
            let options = options.unwrap_or_default();
            let twice = (user.is_some() && options.user.is_some()) || (group.is_some() && options.group.is_some());
            if twice {
                return Err(bad_argument("chown: the owner or group is given twice"));
            }
            (user.or_else(|| options.user.clone()), group.or_else(|| options.group.clone()), login, options)
        }
    };
    if user.is_none() && group.is_none() {
        return Err(bad_argument("chown: neither `user` nor `group` is given"));
    }
    let uid = user.map(|user| user.id("user", |name| names().uid_of(name))).transpose()?;
    let gid = match group {
        None if login => {
            let own = uid.and_then(|uid| names().user_entry(uid)).map(|entry| entry.gid);
            Some(own.ok_or_else(|| Error::new(Kind::NotFound, "this user has no group of its own that this host knows"))?)
        }
        group => group.map(|group| group.id("group", |name| names().gid_of(name))).transpose()?,
    };
    let file = File::locate_with(&path, options.follow)?;
    let before = file.stat().copied();
    let context = |file: &File| wanted_owner(file, uid, gid);
    let deed = |granted: &Granted<Chown>| {
        let now = sys::attributes::stat(granted)?;
        let (uid, gid) = (uid.filter(|uid| *uid != now.st_uid), gid.filter(|gid| *gid != now.st_gid));
        if uid.is_none() && gid.is_none() {
            return Ok(false);
        }
        let tell = format!("{}:{} to {}:{}", now.st_uid, now.st_gid, uid.unwrap_or(now.st_uid), gid.unwrap_or(now.st_gid));
        call.effect(granted, || sys::attributes::set_owner(granted, uid, gid), |()| (0, tell))?;
        Ok(true)
    };
    let done = if options.recursive && file.is_dir() {
        Tree::<Chown> { path: &path, links: true, keep_going: options.keep_going, context: &context, deed: &deed }.change(call, &file)?
    } else {
        let circumstances = context(&file);
        let granted = call.permit_with::<Chown>(file, circumstances)?;
        must_exist(granted.resource())?;
        Done::of_one(&granted, deed(&granted)?)?
    };
    let mut map = record([
        ("changed", (done.changed > 0).into_script()),
        ("count", done.changed.into_script()),
        ("path", name_value(path.as_bytes())),
        ("before", before.map(|stat| Map::from_iter(owned(&stat))).into_script()),
    ]);
    map.extend(done.after.iter().flat_map(owned));
    if options.recursive {
        done.refused.tell(&mut map);
    }
    Ok(map)
}

/// Whose a file is, for scripts.
fn owned(stat: &Stat) -> Map {
    record([
        ("owner", user_name(stat.st_uid).into_script()),
        ("group", group_name(stat.st_gid).into_script()),
        ("uid", stat.st_uid.into_script()),
        ("gid", stat.st_gid.into_script()),
        ("mode", (stat.st_mode & 0o7777).into_script()),
    ])
}

impl FromScript for Time {
    const TYPE: &'static str = "a DateTime, seconds since the epoch, or \"now\"";
    fn from_script(value: Dynamic) -> Result<Self> {
        let wrong = || bad_argument(format!("expected {}", Self::TYPE));
        if let Ok(seconds) = value.as_int() {
            return Ok(Self::At(seconds, 0));
        }
        if let Ok(seconds) = value.as_float() {
            let whole = seconds.floor();
            // What a float holds exactly, and a file can too.
            if !(-9.0e15..9.0e15).contains(&whole) {
                return Err(wrong());
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole numbers within these bounds")]
            return Ok(Self::At(whole as i64, (((seconds - whole) * 1e9) as u32).min(999_999_999)));
        }
        if value.is_string() {
            return if value.into_immutable_string().is_ok_and(|text| text == "now") { Ok(Self::Now) } else { Err(wrong()) };
        }
        let time = DateTime::from_script(value).map_err(|_| wrong())?;
        let (seconds, nanos) = (time.0.as_second(), time.0.subsec_nanosecond());
        // Before the epoch both count backwards.
        let (seconds, nanos) = if nanos < 0 { (seconds - 1, nanos + 1_000_000_000) } else { (seconds, nanos) };
        Ok(Self::At(seconds, u32::try_from(nanos).unwrap_or(0)))
    }
}

options! {
    /// Options of `set_times`.
    SetTimesOptions {
        mtime: Option<Time> = None, "The time of the last change.";
        atime: Option<Time> = None, "The time of the last access.";
        follow: bool = true, "Follow a symbolic link at the end of the path.";
    }
}

const SET_TIMES: Function = Function {
    name: "set_times",
    doc: "Sets the times that a file or directory says it was last changed and accessed.\n\nEach is a DateTime, seconds since the epoch, or `\"now\"`; what is left out stays. Of a file this is a \
          `write`; a directory cannot be written, so there it is a `chmod` to the bits that it has.\n\nA map: `changed`, `path`, `mtime`, `atime`.",
    body: &with2(set_times, [param("path", "The file or directory."), param("options", "")]),
    asks: &[ask::<Write>(), ask::<Chmod>()],
    fails: &[Kind::NotFound, Kind::Permission, Kind::ReadOnly, Kind::Changed],
    examples: &[
        Example {
            given: &[("old", "")],
            script: r#"set_times(dir + "/old", #{mtime: 1000000000}); stat(dir + "/old").mtime == from_epoch_seconds(1000000000)"#,
            gives: "true",
        },
        Example {
            given: &[("old", ""), ("new", "")],
            script: r#"set_times(dir + "/old", #{mtime: 5}); let t = stat(dir + "/old").mtime; set_times(dir + "/new", #{mtime: t}); stat(dir + "/new").mtime == t"#,
            gives: "true",
        },
        Example {
            given: &[("sub/", "")],
            script: r#"set_times(dir + "/sub", #{mtime: "now", atime: 7}).atime.epoch_seconds()"#,
            gives: "7",
        },
    ],
};

fn set_times(call: &Call<'_>, path: AbsPath, options: SetTimesOptions) -> Result<Map> {
    if options.mtime.is_none() && options.atime.is_none() {
        return Err(bad_argument("set_times: neither `mtime` nor `atime` is given"));
    }
    let file = File::locate_with(&path, options.follow)?;
    let before = file.stat().copied();
    let context = wanted_mode(before.map_or(0, |stat| stat.st_mode));
    let gate = &call.host.gate;
    let may_know =
        |file: &File| gate.would::<super::file_stat::Stat>(file) == Answer::Yes || gate.would_with::<Chmod>(file, &context) == Answer::Yes;
    let after = if file.is_dir() && may_know(&file) {
        let granted = call.permit_with::<Chmod>(file, context)?;
        call.effect(&granted, || sys::attributes::set_times(&granted, options.atime, options.mtime), |()| (0, "times set"))?;
        sys::attributes::stat(&granted)?
    } else {
        // Who may not look at it is not told that it is a directory: that is denied as a file would be.
        let granted = call.permit::<Write>(file)?;
        must_exist(granted.resource())?;
        if granted.resource().is_dir() {
            drop(call.permit_with::<Chmod>(granted.resource().twin()?, context)?);
        }
        call.effect(&granted, || sys::attributes::set_times(&granted, options.atime, options.mtime), |()| (0, "times set"))?;
        sys::attributes::stat(&granted)?
    };
    let times = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec, stat.st_atime, stat.st_atime_nsec);
    let time = |seconds: i64, nanos: u64| {
        DateTime::from_epoch(seconds, i64::try_from(nanos).unwrap_or(0)).map_or(Dynamic::UNIT, IntoScript::into_script)
    };
    Ok(record([
        ("changed", (before.as_ref().map(times) != Some(times(&after))).into_script()),
        ("path", name_value(path.as_bytes())),
        ("mtime", time(after.st_mtime, after.st_mtime_nsec)),
        ("atime", time(after.st_atime, after.st_atime_nsec)),
    ]))
}

options! {
    /// Options of `fallocate`.
    FallocateOptions {
        length: Option<u64> = None, "Bytes to set aside or give back; more than 0.";
        offset: u64 = 0, "Where in the file they begin.";
        keep_size: bool = false, "The size of the file stays, also where the room goes beyond its end.";
        punch_hole: bool = false, "Give the room back instead: this part then reads as zeros, and the size stays.";
    }
}

const FALLOCATE: Function = Function {
    name: "fallocate",
    doc: "Sets room on the disk aside for a file, so that writing to it later cannot run out of space.\n\nWhat is in the file stays (except with `punch_hole`). A file that is too short grows to the end of the \
          room, unless `keep_size`. Where there is not enough space the error is `no_space` and the file has its old size.\n\nA map: `changed`, `path`, `size`, `allocated` (bytes on the disk).",
    body: &with2(fallocate, [param("path", "The file."), param("options", "")]),
    asks: &[ask::<Write>()],
    fails: &[
        Kind::NotFound,
        Kind::IsADirectory,
        Kind::NotAFile,
        Kind::Permission,
        Kind::NoSpace,
        Kind::TooLarge,
        Kind::ReadOnly,
        Kind::Unsupported,
    ],
    examples: &[
        Example { given: &[("data", "abc")], script: r#"fallocate(dir + "/data", #{length: 10000}).size"#, gives: "10000" },
        Example {
            given: &[("data", "abcdef")],
            script: r#"fallocate(dir + "/data", #{length: 1 << 20, keep_size: true}).size"#,
            gives: "6",
        },
    ],
};

fn fallocate(call: &Call<'_>, path: AbsPath, options: FallocateOptions) -> Result<Map> {
    let length =
        options.length.filter(|length| *length > 0).ok_or_else(|| bad_argument("fallocate: option `length`: more than 0 is needed"))?;
    let end = options.offset.checked_add(length).and_then(|end| i64::try_from(end).ok());
    if end.is_none() {
        return Err(bad_argument("fallocate: no file is as large as `offset` + `length`"));
    }
    let room = match (options.punch_hole, options.keep_size) {
        (true, _) => Room::Hole,
        (false, true) => Room::Keep,
        (false, false) => Room::Grow,
    };
    let granted = call.permit::<Write>(File::locate(&path)?)?;
    must_exist(granted.resource())?;
    let before = granted.resource().stat().map(|stat| (stat.st_size, stat.st_blocks));
    let after = call.effect(
        &granted,
        || sys::attributes::allocate(&granted, room, options.offset, length, &call.host.watch),
        |_| (0, if room == Room::Hole { "gave room back" } else { "set room aside" }),
    )?;
    let changed = room == Room::Hole || before != Some((after.st_size, after.st_blocks));
    Ok(record([
        ("changed", changed.into_script()),
        ("path", name_value(path.as_bytes())),
        ("size", after.st_size.into_script()),
        ("allocated", after.st_blocks.saturating_mul(512).into_script()),
    ]))
}

#[cfg(test)]
mod tests;
