//! Accounts of the host and who uses them. They ask to read ([`Read`]) the tables that they are from.

use super::file_read::Read;
use super::function::{Call, Example, Function, param, with0, with1};
use super::machine::time;
use super::value::{Dynamic, FromScript, IntoScript, Map, name_value, plain_type, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::os::process::{Group, User};
use crate::policy::ask;
use crate::resource::file::{File, names};
use crate::resource::path::AbsPath;
use crate::sys::proc::utmp;
use std::os::unix::ffi::OsStrExt as _;

pub const FUNCTIONS: &[Function] = &[USER, GROUP, USERS, ID, WHO, LAST, FAILED_LOGINS];

const PASSWD: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// An account or group, by name or number.
#[derive(Clone, Debug)]
pub enum Named {
    Name(String),
    Number(u32),
}

impl FromScript for Named {
    const TYPE: &'static str = "a name, or a number of 0 or more";
    fn from_script(value: Dynamic) -> Result<Self> {
        let wrong = |what: &str| bad_argument(format!("expected {}, got {what}", Self::TYPE));
        if let Ok(number) = value.as_int() {
            return u32::try_from(number).map(Self::Number).map_err(|_| wrong(&number.to_string()));
        }
        value.into_string().map(Self::Name).map_err(|name| wrong(plain_type(name)))
    }
}

impl Named {
    fn shown(&self) -> String {
        match self {
            Self::Name(name) => name.chars().take(60).collect::<String>().escape_debug().to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// A table of the host's own, as text.
fn table(call: &Call<'_>, path: &str) -> Result<String> {
    let file = call.permit::<Read>(File::locate(&AbsPath::new(path)?)?)?;
    let bytes = crate::sys::file::read(&file, 0, None, 64 << 20, &call.host.watch)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

const USER_DOC: &str = "An account of the host: a map.\n\n`name`, `uid`, `gid`, `group` (the name of its own group), `groups` (names of all groups that it is in, its own first, as far as `/etc/group` tells), `home`, `shell`. Accounts that the host knows from elsewhere (LDAP, sssd) are found too. Asks to read `/etc/passwd` and `/etc/group`.";

const USER: Function = Function {
    name: "user",
    doc: USER_DOC,
    body: &with1(user, [param("name", "Its name or number.")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound],
    examples: &[
        Example { given: &[], script: r#"user("root").uid"#, gives: "0" },
        Example { given: &[], script: "user(0).name", gives: r#""root""# },
    ],
};

fn user(call: &Call<'_>, name: Named) -> Result<Map> {
    table(call, PASSWD)?;
    let groups = table(call, GROUPS)?;
    let found: Option<User> = match &name {
        Named::Name(name) => names().user_named(name),
        Named::Number(uid) => names().user_entry(*uid),
    };
    let user = found.ok_or_else(|| Error::new(Kind::NotFound, format!("this host knows no user `{}`", name.shown())))?;
    let own = names().group(user.gid);
    let mut all: Vec<String> = own.clone().into_iter().collect();
    for line in groups.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [group, _, _, members] = fields.as_slice() else { continue };
        if members.split(',').any(|member| member == user.name) && !all.iter().any(|known| known == group) {
            all.push((*group).to_owned());
        }
    }
    Ok(record([
        ("name", user.name.into_script()),
        ("uid", user.uid.into_script()),
        ("gid", user.gid.into_script()),
        ("group", own.into_script()),
        ("groups", all.into_script()),
        ("home", name_value(user.home.as_os_str().as_bytes())),
        ("shell", name_value(user.shell.as_os_str().as_bytes())),
    ]))
}

const GROUP: Function = Function {
    name: "group",
    doc: "A group of the host: a map.\n\n`name`, `gid`, `members` (names; those whose own group it is are not among them, as in group(5)). Groups that the host knows from elsewhere are found too, perhaps without all members. Asks to read `/etc/group`.",
    body: &with1(group, [param("name", "Its name or number.")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound],
    examples: &[Example { given: &[], script: r#"group("root").gid"#, gives: "0" }],
};

fn group(call: &Call<'_>, name: Named) -> Result<Map> {
    table(call, GROUPS)?;
    let found: Option<Group> = match &name {
        Named::Name(name) => names().group_named(name),
        Named::Number(gid) => names().group(*gid).and_then(|name| names().group_named(&name)),
    };
    let group = found.ok_or_else(|| Error::new(Kind::NotFound, format!("this host knows no group `{}`", name.shown())))?;
    Ok(record([("name", group.name.into_script()), ("gid", group.gid.into_script()), ("members", group.members.into_script())]))
}

const USERS: Function = Function {
    name: "users",
    doc: "The accounts in `/etc/passwd`, in its order: an array of maps.\n\nEach has `name`, `uid`, `gid`, `comment`, `home`, `shell`. Those that the host knows from elsewhere cannot be listed; [user] finds them by name. Asks to read `/etc/passwd`.",
    body: &with0(users, []),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound],
    examples: &[Example { given: &[], script: r#"users().filter(|u| u.name == "root").map(|u| u.uid)"#, gives: "[0]" }],
};

fn users(call: &Call<'_>) -> Result<Vec<Map>> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, comment, home, shell] = fields.as_slice() else { return None };
        let (uid, gid): (u32, u32) = (uid.parse().ok()?, gid.parse().ok()?);
        (!name.is_empty() && !name.starts_with(['+', '-', '#'])).then(|| {
            record([
                ("name", (*name).into_script()),
                ("uid", uid.into_script()),
                ("gid", gid.into_script()),
                ("comment", (*comment).into_script()),
                ("home", (*home).into_script()),
                ("shell", (*shell).into_script()),
            ])
        })
    };
    Ok(table(call, PASSWD)?.lines().filter_map(row).collect())
}

const ID: Function = Function {
    name: "id",
    doc: "Who this run is to the operating system: a map.\n\n`uid`, `user`, `euid`, `gid`, `group`, `egid`, `groups` (numbers of the other groups), `group_names`. What has no name has its number as text.",
    body: &with0(id, []),
    asks: &[],
    fails: &[],
    examples: &[Example { given: &[], script: "id().uid >= 0", gives: "true" }],
};

fn id(_: &Call<'_>) -> Result<Map> {
    let own = crate::sys::proc::machine::own_ids()?;
    let user = |uid: u32| names().user(uid).unwrap_or_else(|| uid.to_string());
    let group = |gid: u32| names().group(gid).unwrap_or_else(|| gid.to_string());
    let groups: Vec<i64> = own.groups.iter().map(|gid| i64::from(*gid)).collect();
    let group_names: Vec<String> = own.groups.iter().map(|gid| group(*gid)).collect();
    Ok(record([
        ("uid", own.uid.into_script()),
        ("user", user(own.uid).into_script()),
        ("euid", own.euid.into_script()),
        ("gid", own.gid.into_script()),
        ("group", group(own.gid).into_script()),
        ("egid", own.egid.into_script()),
        ("groups", groups.into_script()),
        ("group_names", group_names.into_script()),
    ]))
}

/// Records of sessions of which no more than the last so many bytes are looked at: some forty thousand.
const MOST: u64 = 16 << 20;

fn records(call: &Call<'_>, path: &str) -> Result<Vec<utmp::Record>> {
    let lacking = |error: Error| match error.kind {
        Kind::NotFound => Error::new(Kind::Unsupported, "this host keeps no such records").with_path(path),
        _ => error,
    };
    let file = call.permit::<Read>(File::locate(&AbsPath::new(path)?)?).map_err(lacking)?;
    let size = file.resource().stat().map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
    // From a whole record on.
    let record = utmp::RECORD as u64;
    let offset = size.saturating_sub(MOST).div_ceil(record) * record;
    let bytes = crate::sys::file::read(&file, offset, Some(MOST + record), MOST + record, &call.host.watch)?;
    Ok(utmp::records(&bytes))
}

const WHO: Function = Function {
    name: "who",
    doc: "Who is logged in, as `/run/utmp` has it.\n\nAn array of maps: `user`, `line` (the terminal), `host` (where from; empty at the machine itself), `since` (a DateTime), `pid`. Hosts without that file (newer ones ask logind) end in `unsupported`. Asks to read it.",
    body: &with0(who, []),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported, Kind::Permission],
    examples: &[Example { given: &[], script: "who().all(|session| session.pid > 0)", gives: "" }],
};

fn who(call: &Call<'_>) -> Result<Vec<Map>> {
    let rows = records(call, "/run/utmp")?;
    let row = |row: utmp::Record| {
        record([
            ("user", row.user.into_script()),
            ("line", row.line.into_script()),
            ("host", row.host.into_script()),
            ("since", time(row.seconds.saturating_mul(1000))),
            ("pid", row.pid.into_script()),
        ])
    };
    Ok(rows.into_iter().filter(|record| record.kind == utmp::Kind::Login && !record.user.is_empty()).map(row).collect())
}

options! {
    /// Options of `last` and `failed_logins`.
    LastOptions {
        user: Option<Vec<String>> = None, "Only of these users; starts of the machine are of `reboot`.";
        limit: u64 = 1_000, "The last so many.";
    }
}

const LAST: Function = Function {
    name: "last",
    doc: "Past and present logins, and starts of the machine, the last one first: `/var/log/wtmp`.\n\nAn array of maps: `user` (`reboot` for a start of the machine, with its kernel as `host`), `line`, `host`, `login` and `logout` (DateTimes; `()` while it lasts), `seconds`, `how` (logged_in, logout, down, crash), `pid`. Only the last 16 MiB of the records are looked at. Asks to read the file; a host without it ends in `unsupported`.",
    body: &with1(last, [param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported, Kind::Permission],
    examples: &[Example { given: &[], script: "last(#{limit: 3}).len() <= 3", gives: "" }],
};

fn last(call: &Call<'_>, options: LastOptions) -> Result<Vec<Map>> {
    let records = records(call, "/var/log/wtmp")?;
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let wanted = |session: &utmp::Session| options.user.as_ref().is_none_or(|users| users.contains(&session.login.user));
    let row = |session: utmp::Session| {
        let login = session.login;
        record([
            ("seconds", session.end.map(|end| end.saturating_sub(login.seconds).max(0)).into_script()),
            ("user", login.user.into_script()),
            ("line", login.line.into_script()),
            ("host", login.host.into_script()),
            ("login", time(login.seconds.saturating_mul(1000))),
            ("logout", session.end.map_or(Dynamic::UNIT, |end| time(end.saturating_mul(1000)))),
            ("how", session.how.into_script()),
            ("pid", login.pid.into_script()),
        ])
    };
    Ok(utmp::sessions(&records).into_iter().filter(wanted).take(limit).map(row).collect())
}

const FAILED_LOGINS: Function = Function {
    name: "failed_logins",
    doc: "Logins that failed, the last one first: `/var/log/btmp`.\n\nAn array of maps: `user` (as it was typed; sometimes a password), `line`, `host`, `time` (a DateTime), `pid`. Only the last 16 MiB of the records are looked at. Asks to read the file; a host without it ends in `unsupported`.",
    body: &with1(failed_logins, [param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported, Kind::Permission],
    examples: &[Example { given: &[], script: "failed_logins(#{limit: 3}).len() <= 3", gives: "" }],
};

fn failed_logins(call: &Call<'_>, options: LastOptions) -> Result<Vec<Map>> {
    let records = records(call, "/var/log/btmp")?;
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let wanted =
        |record: &utmp::Record| record.kind == utmp::Kind::Login && options.user.as_ref().is_none_or(|users| users.contains(&record.user));
    let row = |row: utmp::Record| {
        record([
            ("user", row.user.into_script()),
            ("line", row.line.into_script()),
            ("host", row.host.into_script()),
            ("time", time(row.seconds.saturating_mul(1000))),
            ("pid", row.pid.into_script()),
        ])
    };
    Ok(records.into_iter().rev().filter(wanted).take(limit).map(row).collect())
}
