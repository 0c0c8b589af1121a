//! Settings of the kernel from their files: sysctl_load. It asks for [`Load`], to read each file ([`Read`]), and to write each setting ([`Write`]).

use super::edit::{for_record, unified};
use super::file_read::Read;
use super::file_write::Write;
use super::function::{Call, Example, Function, param, with2};
use super::sysctl::{Key, is_secret};
use super::value::{Array, IntoScript, Map, name_value, record};
use super::walker::{Bounds, Entered, Seen, Step, Walker};
use crate::error::{Error, Kind, Result};
use crate::options;
use crate::policy::{Access, Action, Granted, ask};
use crate::resource::file::File;
use crate::resource::machine::Settings;
use crate::resource::path::AbsPath;
use crate::sys::proc::settings::{self, Line};
use std::collections::BTreeMap;
use std::time::Instant;

pub const FUNCTIONS: &[Function] = &[SYSCTL_LOAD];

/// `sysctl::Action::"load"`: load the settings from their files.
pub enum Load {}
impl Action for Load {
    type On = Settings;
    const NAMESPACE: &'static str = "sysctl";
    const NAME: &'static str = "load";
    const APPLIES_TO: &'static [&'static str] = &["sysctl::Sysctl"];
    const GROUPS: &'static [&'static str] = &["SysctlAction", "edit"];
    const DOC: &'static str = "Load the settings from their files.";
    const ACCESS: Access = Access::Change;
}

/// Where files of settings are, the folder whose files count most first (sysctl.d(5)).
const FOLDERS: &[&str] = &["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];
/// Read after all of them, as sysctl(8) does.
const LAST: &str = "/etc/sysctl.conf";
const SETTINGS: &str = "/proc/sys";
/// Bytes of one file, and settings of one call.
const LARGEST: u64 = 1 << 20;
const MOST: usize = 10_000;

options! {
    /// Options of `sysctl_load`.
    SysctlLoadOptions {
        keep_going: bool = false, "Set what may be set, and list what is denied; without it nothing is set when one setting is denied.";
    }
}

const SYSCTL_LOAD: Function = Function {
    name: "sysctl_load",
    doc: "Sets the settings of the kernel that files say, as `sysctl --system` does; with a path, those of that file.\n\nThe files are `*.conf` of `/etc/sysctl.d`, `/run/sysctl.d`, `/usr/local/lib/sysctl.d`, `/usr/lib/sysctl.d` and `/lib/sysctl.d`, by name, one of a name in an earlier folder in place of those in later ones, and then `/etc/sysctl.conf`. Of a setting that is there several times the last counts. Names may have `*`, `?` and `[…]` in them; `-name` without a value leaves a setting out of these, and `-` before a name means that it may fail.\n\nEvery file and every setting is asked for before anything is set. Each setting is read back, and is on record with both values.\n\nA map: `files`, `set` (an array of maps: `key`, `before`, `value`, `changed`), `changed` (their number), `missing` (names that this kernel does not have), `failed` (an array of maps: `key`, `error`, the kind; `ignored` where the file says that it may fail), `denied` (names). What fails does not keep the others from being set; settings that want CAP_SYS_ADMIN or CAP_NET_ADMIN of their writer are among it, as for [sysctl_write].",
    body: &with2(sysctl_load, [param("path", "One file to load; `()` for those of the system."), param("options", "")]),
    asks: &[ask::<Load>(), ask::<Read>(), ask::<Write>()],
    fails: &[Kind::NotFound, Kind::NotText, Kind::BadData, Kind::TooLarge, Kind::Permission],
    examples: &[
        Example {
            given: &[("own.conf", "# a comment\n; another\n-no.such.setting = 1\n")],
            script: r#"let r = sysctl_load(dir + "/own.conf"); [r.set.len(), r.missing]"#,
            gives: r#"[0, ["no.such.setting"]]"#,
        },
        Example {
            given: &[("as_it_is.conf", "vm.stat_interval = as it is\n")],
            script: "sed(\"as it is\", sysctl_read(\"vm.stat_interval\"), dir + \"/as_it_is.conf\", #{in_place: true});\nsysctl_load(dir + \"/as_it_is.conf\").failed.len() < 2",
            gives: "true",
        },
    ],
};

/// A setting that is to be made.
struct Wanted {
    key: Key,
    value: String,
    may_fail: bool,
}

fn sysctl_load(call: &Call<'_>, path: Option<AbsPath>, options: SysctlLoadOptions) -> Result<Map> {
    let load = call.permit::<Load>(Settings)?;
    let files = match &path {
        Some(path) => vec![call.permit::<Read>(File::locate(path)?)?],
        None => system_files(call)?,
    };
    let mut lines = Vec::new();
    for file in &files {
        let bytes = crate::sys::file::read(file, 0, None, LARGEST, &call.host.watch)?;
        let shown = || file.resource().asked().shown();
        let text = String::from_utf8(bytes).map_err(|_| Error::new(Kind::NotText, "is no text").with_path(shown()))?;
        lines.extend(settings::lines(&text).map_err(|error| error.with_path(shown()))?);
    }
    let (wanted, missing) = wanted(call, lines)?;
    // Everything is judged before anything is set.
    let (mut granted, mut denied) = (Vec::with_capacity(wanted.len()), Array::new());
    for setting in wanted {
        call.check()?;
        match call.permit::<Write>(setting.key.file()?) {
            Ok(may) => granted.push((setting, may)),
            Err(error) if error.kind == Kind::Denied && options.keep_going => denied.push(setting.key.shown().into_script()),
            Err(error) => return Err(error),
        }
    }
    let (mut set, mut failed, mut changed) = (Array::new(), Array::new(), 0i64);
    for (setting, may) in &granted {
        call.check()?;
        match make(call, setting, may) {
            Ok(row) => {
                changed += i64::from(row.get("changed").and_then(|changed| changed.as_bool().ok()).unwrap_or(false));
                set.push(row.into_script());
            }
            Err(error) if may.held() || matches!(error.kind, Kind::Audit | Kind::Cancelled | Kind::Deadline | Kind::Limit) => {
                if may.held() && error.kind == Kind::DryRun {
                    continue;
                }
                return Err(error);
            }
            Err(error) => failed.push(
                record([
                    ("key", setting.key.shown().into_script()),
                    ("error", error.kind.name().into_script()),
                    ("ignored", setting.may_fail.into_script()),
                ])
                .into_script(),
            ),
        }
    }
    if load.held() {
        return Err(crate::policy::stopped(&load));
    }
    Ok(record([
        ("files", files.iter().map(|file| name_value(file.resource().place())).collect::<Array>().into_script()),
        ("set", set.into_script()),
        ("changed", changed.into_script()),
        ("missing", missing.into_script()),
        ("failed", failed.into_script()),
        ("denied", denied.into_script()),
    ]))
}

/// Sets one and reads it back; told and recorded as by sysctl_write.
fn make(call: &Call<'_>, setting: &Wanted, may: &Granted<Write>) -> Result<Map> {
    let key = setting.key.shown();
    let secret = is_secret(&setting.key);
    let line = |value: &[u8]| [key.as_bytes(), b" = ", value, b"\n"].concat();
    let before = settings::read(may)?;
    let old = before.as_deref().map(line).unwrap_or_default();
    let new = line(setting.value.as_bytes());
    if may.held() {
        let told = if secret { String::new() } else { unified(&old, &new, &key) };
        return Err(call.withhold(may, &for_record(&old, &new, secret), Some(&told))?);
    }
    let began = Instant::now();
    let done = settings::write(may, setting.value.as_bytes()).and_then(|()| settings::read(may)).and_then(|now| match &now {
        Some(is) if !settings::is_same(setting.value.as_bytes(), is) => {
            Err(Error::new(Kind::BadData, format!("the kernel took the value of `{key}`, and says it is another")))
        }
        _ => Ok(now),
    });
    let failed = done.as_ref().err().map(|error| error.kind);
    let said = done.as_ref().ok().and_then(Option::as_deref).unwrap_or(setting.value.as_bytes());
    call.tell(may, began, failed, &for_record(&old, &line(said), secret))?;
    let now = done?;
    Ok(record([
        ("key", key.into_script()),
        ("changed", (before.is_none() || before != now).into_script()),
        ("before", before.map(|value| name_value(&value)).into_script()),
        ("value", now.map(|value| name_value(&value)).into_script()),
    ]))
}

/// The files of the system that there are, in the order in which they count.
fn system_files(call: &Call<'_>) -> Result<Vec<Granted<Read>>> {
    let mut named: BTreeMap<Vec<u8>, AbsPath> = BTreeMap::new();
    for folder in FOLDERS {
        let root = File::locate_dir(&AbsPath::new(*folder)?)?;
        let listed = Walker::new(call, &root, Bounds { max_depth: Some(1), ..Bounds::default() });
        let mut walker = match listed {
            // A host has some of them.
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::NotADirectory) => continue,
            walker => walker?,
        };
        walker.enter_root(root)?;
        loop {
            let name = match walker.step()? {
                Step::Name(name) => name,
                Step::Left => continue,
                Step::Done => break,
            };
            if !name.bytes.ends_with(b".conf") || name.bytes.starts_with(b".") {
                continue;
            }
            let path = [folder.as_bytes(), b"/", &name.bytes].concat();
            named.entry(name.bytes).or_insert(AbsPath::new(path)?);
        }
        walker.finish()?;
    }
    let mut files = Vec::with_capacity(named.len() + 1);
    for path in named.into_values().chain([AbsPath::new(LAST)?]) {
        match File::locate(&path).and_then(|file| call.permit::<Read>(file)) {
            // A link to /dev/null takes a file away; so does one that leads nowhere.
            Ok(file) if file.resource().place() == b"/dev/null" => {}
            Ok(file) => files.push(file),
            Err(error) if error.kind == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

/// What the lines come to: each setting once, with the last value that they say; and the names that the kernel does not have.
fn wanted(call: &Call<'_>, lines: Vec<Line>) -> Result<(Vec<Wanted>, Array)> {
    let mut order: Vec<String> = Vec::new();
    let mut values: BTreeMap<String, (String, bool)> = BTreeMap::new();
    let mut missing: Vec<String> = Vec::new();
    let left_out: Vec<&Line> = lines.iter().filter(|line| line.value.is_none()).collect();
    let mut all: Option<Vec<String>> = None;
    for line in lines.iter().filter(|line| line.value.is_some()) {
        call.check()?;
        let value = line.value.clone().unwrap_or_default();
        let names = if line.is_pattern() {
            if all.is_none() {
                all = Some(every_setting(call)?);
            }
            let pattern = line.pattern()?;
            let excluded = |name: &str| left_out.iter().any(|line| line.key == name);
            all.iter().flatten().filter(|name| pattern.is_match(name) && !excluded(name)).cloned().collect()
        } else {
            vec![line.key.clone()]
        };
        for name in names {
            order.retain(|known| *known != name);
            values.insert(name.clone(), (value.clone(), line.may_fail));
            order.push(name);
        }
        if order.len() > MOST {
            return Err(Error::new(Kind::TooLarge, format!("more than {MOST} settings")));
        }
    }
    let mut found = Vec::new();
    for name in order {
        let Some((value, may_fail)) = values.remove(&name) else { continue };
        match Key::of_path(&name) {
            Ok(key) if key.file()?.exists() => found.push(Wanted { key, value, may_fail }),
            Ok(key) => missing.push(key.shown()),
            // Every setting is in a folder.
            Err(_) => missing.push(name),
        }
    }
    Ok((found, missing.into_iter().map(IntoScript::into_script).collect()))
}

/// The settings that the caller may see in the folders of the kernel, as paths below them.
fn every_setting(call: &Call<'_>) -> Result<Vec<String>> {
    let root = File::locate_dir(&AbsPath::new(SETTINGS)?)?;
    let mut walker = Walker::new(call, &root, Bounds::default())?;
    walker.enter_root(root)?;
    let mut found = Vec::new();
    loop {
        let name = match walker.step()? {
            Step::Name(name) => name,
            Step::Left => continue,
            Step::Done => break,
        };
        let Seen::There(entry) = walker.see(&name)? else { continue };
        if entry.is_dir() {
            let (Entered::Yes | Entered::Denied | Entered::Outside | Entered::Gone) = walker.enter(*entry)?;
            continue;
        }
        let path = entry.asked().shown();
        found.extend(path.strip_prefix(SETTINGS).map(|path| path.trim_start_matches('/').to_owned()));
    }
    walker.finish()?;
    found.sort();
    Ok(found)
}
