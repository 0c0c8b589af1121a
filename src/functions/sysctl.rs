//! Settings of the kernel: sysctl. They are files below `/proc/sys`, and [`Read`] and [`Write`] are asked for those files.

use super::edit::{for_record, unified};
use super::file_read::Read;
use super::file_write::Write;
use super::function::{Call, Example, Function, param, with1, with2};
use super::lines::pattern;
use super::value::{Array, Dynamic, FromScript, IntoScript, Map, name_value, record};
use super::walker::{Bounds, Entered, Seen, Step, Walker};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::policy::ask;
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys::proc::settings;
use std::time::Instant;

pub const FUNCTIONS: &[Function] = &[SYSCTL_READ, SYSCTL_FIND, SYSCTL_WRITE];

const ROOT: &str = "/proc/sys";

/// The name of a setting: `vm.swappiness` or `vm/swappiness`.
#[derive(Clone, Debug)]
pub struct Key(String);

impl FromScript for Key {
    const TYPE: &'static str = "the name of a setting, such as \"vm.swappiness\"";
    /// The first separator says which one it is; the other one is then part of names and changes places with it, as in sysctl(8).
    fn from_script(value: Dynamic) -> Result<Self> {
        let text = String::from_script(value)?;
        let wrong = || bad_argument(format!("expected {}, got `{}`", Self::TYPE, text.chars().take(80).collect::<String>().escape_debug()));
        let key: String = if text.find('.') < text.find('/') && text.contains('.') || !text.contains('/') {
            text.chars()
                .map(|c| {
                    if c == '.' {
                        '/'
                    } else if c == '/' {
                        '.'
                    } else {
                        c
                    }
                })
                .collect()
        } else {
            text.clone()
        };
        let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        if key.len() > 1024 || !key.split('/').all(is_part) || !key.contains('/') {
            return Err(wrong());
        }
        Ok(Self(key))
    }
}

/// Whether records leave its value out.
pub(super) fn is_secret(key: &Key) -> bool {
    key.0.ends_with("key") || key.0.contains("secret")
}

impl Key {
    /// The setting with this path below the folder of settings.
    pub(super) fn of_path(path: &str) -> Result<Self> {
        Self::from_script(path.into())
    }
    pub(super) fn file(&self) -> Result<File> {
        File::locate_with(&AbsPath::new(format!("{ROOT}/{}", self.0))?, false)
    }
    pub(super) fn shown(&self) -> String {
        shown(&self.0)
    }
}

/// The name with dots of a path below the root.
fn shown(path: &str) -> String {
    path.chars()
        .map(|c| {
            if c == '/' {
                '.'
            } else if c == '.' {
                '/'
            } else {
                c
            }
        })
        .collect()
}

const KEY: &str = "The name; `net.ipv4.conf.eth0/1.forwarding` where a part has a dot in it, as in sysctl(8).";

const SYSCTL_READ: Function = Function {
    name: "sysctl_read",
    doc: "The value of a setting of the kernel, as text without its line end. Asks to read the file under `/proc/sys`.",
    body: &with1(sysctl_read, [param("key", KEY)]),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::Permission],
    examples: &[
        Example { given: &[], script: r#"sysctl_read("kernel.ostype")"#, gives: r#""Linux""# },
        Example { given: &[], script: r#"sysctl_read("kernel/ostype")"#, gives: r#""Linux""# },
    ],
};

fn sysctl_read(call: &Call<'_>, key: Key) -> Result<String> {
    let file = call.permit::<Read>(key.file()?)?;
    match settings::read(&file)? {
        Some(value) => Ok(String::from_utf8_lossy(&value).into_owned()),
        None => Err(Error::new(Kind::Permission, format!("`{}` can only be written", key.shown()))),
    }
}

const SYSCTL_FIND: Function = Function {
    name: "sysctl_find",
    doc: "The settings of the kernel whose names match: an array of maps with `key` and `value`, by name.\n\nThe pattern is a regular expression for any part of the name with dots. A value that this user may not see, or that can only be written, is `()`. Asks to read `/proc/sys`, its directories, and the files whose names match; those that are denied are left out.",
    body: &with1(sysctl_find, [param("pattern", "A regular expression.")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound],
    examples: &[Example {
        given: &[],
        script: r#"sysctl_find("^kernel\\.ostype$")"#,
        gives: r#"[#{key: "kernel.ostype", value: "Linux"}]"#,
    }],
};

fn sysctl_find(call: &Call<'_>, text: String) -> Result<Array> {
    let wanted = pattern(&text, true, false)?;
    let root = File::locate_dir(&AbsPath::new(ROOT)?)?;
    let mut walker = Walker::new(call, &root, Bounds::default())?;
    walker.enter_root(root)?;
    let mut found: Vec<(String, Dynamic)> = Vec::new();
    loop {
        let name = match walker.step()? {
            Step::Name(name) => name,
            Step::Left => continue,
            Step::Done => break,
        };
        let Seen::There(entry) = walker.see(&name)? else { continue };
        if entry.is_dir() {
            // What is denied is on record; what is gone has no settings.
            let (Entered::Yes | Entered::Denied | Entered::Outside | Entered::Gone) = walker.enter(*entry)?;
            continue;
        }
        let path = entry.asked().shown();
        let key = shown(path.strip_prefix(ROOT).unwrap_or(&path).trim_start_matches('/'));
        if !wanted.is_match(&key) {
            continue;
        }
        let value = match walker.walk.permit(*entry) {
            Err(error) if error.kind == Kind::Denied => continue,
            granted => settings::read(&granted?),
        };
        // Some settings cannot be read on some machines, with an error of their own each (EIO, EINVAL …).
        let value = match value {
            Ok(value) => value.map(|value| name_value(&value)),
            Err(error) if error.kind == Kind::NotFound => continue,
            Err(error) if matches!(error.kind, Kind::Permission | Kind::Io | Kind::BadArgument | Kind::Unsupported) => None,
            Err(error) => return Err(error),
        };
        found.push((key, value.into_script()));
    }
    walker.finish()?;
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found.into_iter().map(|(key, value)| record([("key", key.into_script()), ("value", value)]).into_script()).collect())
}

/// A value: text, or a number, or true and false as 1 and 0.
#[derive(Clone, Debug)]
pub struct Setting(String);

impl FromScript for Setting {
    const TYPE: &'static str = "a string, an int, or true or false";
    fn from_script(value: Dynamic) -> Result<Self> {
        if let Ok(number) = value.as_int() {
            return Ok(Self(number.to_string()));
        }
        if let Ok(switch) = value.as_bool() {
            return Ok(Self(i64::from(switch).to_string()));
        }
        let text = String::from_script(value).map_err(|error| bad_argument(error.message.replace(String::TYPE, Self::TYPE)))?;
        if text.len() >= 4096 || text.contains(['\0', '\n']) {
            return Err(bad_argument("a setting is one line of fewer than 4,096 bytes, without a NUL"));
        }
        Ok(Self(text))
    }
}

const SYSCTL_WRITE: Function = Function {
    name: "sysctl_write",
    doc: "Sets a setting of the kernel, until the machine starts anew, and reads it back.\n\nIf the kernel then says something else than was written, that is the error `bad_data` (numbers count by their value, whatever their form). The old and the new value are on record, except of settings that are keys. Asks to write the file under `/proc/sys`. Settings that want CAP_SYS_ADMIN or CAP_NET_ADMIN of their writer cannot be set: rex gives those up.\n\nA map: `key`, `before`, `value` (as the kernel says it now), `changed`; `()` for what can only be written.",
    body: &with2(sysctl_write, [param("key", KEY), param("value", "What it shall be.")]),
    asks: &[ask::<Write>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::Permission, Kind::ReadOnly, Kind::BadData],
    examples: &[Example { given: &[], script: r#"sysctl_write("vm.stat_interval", sysctl_read("vm.stat_interval")).changed"#, gives: "" }],
};

fn sysctl_write(call: &Call<'_>, key: Key, value: Setting) -> Result<Map> {
    let file = key.file()?;
    let there = file.exists();
    let granted = call.permit::<Write>(file)?;
    if !there {
        // Nothing is made below /proc/sys; the verb would permit it elsewhere.
        return Err(Error::new(Kind::NotFound, format!("this kernel has no setting `{}`", key.shown())));
    }
    let before = settings::read(&granted)?;
    let line = |value: &[u8]| [key.shown().as_bytes(), b" = ", value, b"\n"].concat();
    let old = before.as_deref().map(line).unwrap_or_default();
    let secret = is_secret(&key);
    let diff = |new: &[u8]| for_record(&old, &line(new), secret);
    if granted.held() {
        let new = line(value.0.as_bytes());
        let told = if secret { String::new() } else { unified(&old, &new, &key.shown()) };
        return Err(call.withhold(&granted, &diff(value.0.as_bytes()), Some(&told))?);
    }
    let began = Instant::now();
    let done = settings::write(&granted, value.0.as_bytes()).and_then(|()| settings::read(&granted));
    let checked = done.and_then(|now| match &now {
        Some(is) if !settings::is_same(value.0.as_bytes(), is) => {
            let is = if secret { "***".into() } else { String::from_utf8_lossy(is) };
            Err(Error::new(
                Kind::BadData,
                format!("the kernel took the value of `{}`, and says it is `{}`", key.shown(), is.escape_debug()),
            ))
        }
        _ => Ok(now),
    });
    let failed = checked.as_ref().err().map(|error| error.kind);
    let said = checked.as_ref().ok().and_then(Option::as_deref).unwrap_or(value.0.as_bytes());
    call.tell(&granted, began, failed, &diff(said))?;
    let now = checked?;
    Ok(record([
        ("key", key.shown().into_script()),
        ("changed", (before.is_none() || before != now).into_script()),
        ("before", before.map(|value| name_value(&value)).into_script()),
        ("value", now.map(|value| name_value(&value)).into_script()),
    ]))
}
