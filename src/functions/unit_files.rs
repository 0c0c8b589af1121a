//! Functions about the files of units: whether they are started with the machine, whether they can be started at all, and what is in them.

use super::function::{Call, Example, Function, param, with1, with2};
use super::service::{CHANGE, DaemonReload, NAME, See, UNITS, known, on_unit, verb};
use super::source::sight;
use super::value::{Dynamic, IntoScript, Map, record};
use crate::error::{Kind, Result, Why};
use crate::options;
use crate::policy::{Access, Action, Answer, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::resource::service::{Manager, Service};
use crate::sys::systemd::{FileJob, FilesDone};

pub const FUNCTIONS: &[Function] = &[SERVICE_ENABLE, SERVICE_DISABLE, SERVICE_MASK, SERVICE_UNMASK, UNIT_FILE];

verb!(Enable "enable" Change CHANGE Service UNITS "Have it started with what its unit file names in `[Install]`, usually the machine.");
verb!(Disable "disable" Change CHANGE Service UNITS "Have it no longer started with the machine.");
verb!(Mask "mask" Change CHANGE Service UNITS "Have it not started at all, by nobody and nothing.");
verb!(Unmask "unmask" Change CHANGE Service UNITS "Undo that it is masked.");

options! {
    /// Options of `service_enable` and `service_mask`.
    LinkOptions {
        runtime: bool = false, "Only until the next start of the machine.";
        force: bool = false, "Replace links that stand in the way.";
        reload: bool = true, "Have unit files read again afterwards, as systemctl does. Where a policy forbids `daemon_reload` that is not done.";
    }
}

options! {
    /// Options of `service_disable` and `service_unmask`.
    UnlinkOptions {
        runtime: bool = false, "Only what holds until the next start of the machine.";
        reload: bool = true, "Have unit files read again afterwards, as systemctl does. Where a policy forbids `daemon_reload` that is not done.";
    }
}

const FAILS: &[Kind] = &[
    Kind::NotFound,
    Kind::Exists,
    Kind::BadData,
    Kind::Permission,
    Kind::Timeout,
    Kind::JobFailed,
    Kind::Busy,
    Kind::Unavailable,
    Kind::Unsupported,
];

const SERVICE_ENABLE: Function = Function {
    name: "service_enable",
    doc: "Have a unit started with the machine, or with whatever its unit file names in `[Install]`. It is not started now.\n\nA map: `unit` (its own name), `changed`, `changes` (what systemd did: maps with `change`, `symlink` or `unlink`, `path` and `target`), `before` and `unit_file_state` (`enabled`, `disabled`, `static`, `masked` …), `reloaded`, `installable` (false where the unit file has no `[Install]`, so that there is nothing to do). Other units that the unit file names in `Also=` are enabled with it. Safe to repeat.",
    body: &with2(service_enable, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Enable>()],
    fails: FAILS,
    examples: &[Example { given: &[], script: r#"service_enable("systemd-tmpfiles-clean.timer").changed"#, gives: "" }],
};

const SERVICE_DISABLE: Function = Function {
    name: "service_disable",
    doc: "Have a unit no longer started with the machine. It goes on running.\n\nThe result is as for [service_enable], without `installable`.",
    body: &with2(service_disable, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Disable>()],
    fails: FAILS,
    examples: &[Example {
        given: &[],
        script: r#"service_disable("systemd-tmpfiles-clean.timer", #{runtime: true}).unit_file_state"#,
        gives: "",
    }],
};

const SERVICE_MASK: Function = Function {
    name: "service_mask",
    doc: "Have a unit not started at all, by nobody and nothing, until [service_unmask].\n\nIt goes on running. The result is as for [service_enable], without `installable`. A unit whose own file is where the link would be is the error `exists`.",
    body: &with2(service_mask, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Mask>()],
    fails: FAILS,
    examples: &[Example { given: &[], script: r#"service_mask("systemd-tmpfiles-clean", #{runtime: true}).changes"#, gives: "" }],
};

const SERVICE_UNMASK: Function = Function {
    name: "service_unmask",
    doc: "Undo [service_mask]. The result is as for [service_enable], without `installable`.",
    body: &with2(service_unmask, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Unmask>()],
    fails: FAILS,
    examples: &[Example { given: &[], script: r#"service_unmask("systemd-tmpfiles-clean", #{runtime: true}).changed"#, gives: "" }],
};

const UNIT_FILE: Function = Function {
    name: "unit_file",
    doc: "What is written in a unit's file and its drop-ins, as `systemctl cat` shows it.\n\nA map: `unit`, `files` (maps with `path` and `text`, the unit's own first, then drop-ins in the order in which they count; empty for units that systemd makes itself), `text` (all of them one after the other, each under a comment with its path). Asks for `status` on the unit, and then to read each file; where only redacted reading is permitted the texts are redacted.",
    body: &with1(unit_file, [param("name", NAME)]),
    asks: &[ask::<See>(), ask::<super::file_read::Read>(), ask::<super::file_read::RedactedRead>()],
    fails: &[
        Kind::NotFound,
        Kind::NotAFile,
        Kind::NotText,
        Kind::TooLarge,
        Kind::Permission,
        Kind::Timeout,
        Kind::Unavailable,
        Kind::Unsupported,
    ],
    examples: &[Example { given: &[], script: r#"unit_file("dbus.service").files.map(|f| f.path)"#, gives: "" }],
};

fn change<A: Action<On = Service>>(call: &Call<'_>, name: &str, job: FileJob, how: (bool, bool), reload: bool) -> Result<Map> {
    on_unit::<A, _>(call, name, |systemd, unit| {
        let closed = matches!(call.host.gate.would::<DaemonReload>(&Manager), Answer::No(Why::Forbidden | Why::PolicyError));
        let done = call.effect(unit, || systemd.change_file(unit, job, how, reload && !closed), |done| (0, told(done)))?;
        Ok(shown(unit.name(), done))
    })
}

/// What changed, for the record.
fn told(done: &FilesDone) -> String {
    let changes: Vec<String> = done.changes.iter().map(|change| format!("{} {}", change.kind, change.path)).collect();
    format!("{}{}", changes.join(", "), if done.reloaded { "; unit files read again" } else { "" })
}

fn shown(unit: &str, done: FilesDone) -> Map {
    let changes: Vec<Map> = done
        .changes
        .into_iter()
        .map(|change| {
            record([
                ("change", change.kind.into_script()),
                ("path", change.path.into_script()),
                ("target", known(change.target).into_script()),
            ])
        })
        .collect();
    let mut map = record([
        ("unit", unit.into_script()),
        ("changed", (!changes.is_empty()).into_script()),
        ("changes", changes.into_script()),
        ("before", known(done.before).into_script()),
        ("unit_file_state", known(done.after).into_script()),
        ("reloaded", done.reloaded.into_script()),
    ]);
    if let Some(installable) = done.installable {
        map.insert("installable".into(), installable.into_script());
    }
    map
}

fn service_enable(call: &Call<'_>, name: String, options: LinkOptions) -> Result<Map> {
    change::<Enable>(call, &name, FileJob::Enable, (options.runtime, options.force), options.reload)
}
fn service_disable(call: &Call<'_>, name: String, options: UnlinkOptions) -> Result<Map> {
    change::<Disable>(call, &name, FileJob::Disable, (options.runtime, false), options.reload)
}
fn service_mask(call: &Call<'_>, name: String, options: LinkOptions) -> Result<Map> {
    change::<Mask>(call, &name, FileJob::Mask, (options.runtime, options.force), options.reload)
}
fn service_unmask(call: &Call<'_>, name: String, options: UnlinkOptions) -> Result<Map> {
    change::<Unmask>(call, &name, FileJob::Unmask, (options.runtime, false), options.reload)
}

/// Longest text of one file; systemd itself reads no unit file of more than 4 MiB.
const LONGEST: u64 = 4 << 20;

fn unit_file(call: &Call<'_>, name: String) -> Result<Map> {
    let (unit, paths) = on_unit::<See, _>(call, &name, |systemd, unit| Ok((unit.name().to_owned(), systemd.files(unit)?)))?;
    let (mut files, mut whole) = (Vec::new(), String::new());
    for path in paths {
        let asked = AbsPath::new(path.as_str())?;
        let bytes = sight(call, File::locate(&asked)?)?.opened()?.bytes(None, LONGEST, &call.host.watch)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| crate::error::Error::new(Kind::NotText, "the bytes are not UTF-8 text").with_path(asked.shown()))?;
        if !whole.is_empty() {
            whole.push('\n');
        }
        whole.push_str(&format!("# {path}\n{text}"));
        files.push(record([("path", path.into_script()), ("text", text.into_script())]));
    }
    Ok(record([
        ("unit", unit.into_script()),
        ("files", Dynamic::from_array(files.into_iter().map(IntoScript::into_script).collect())),
        ("text", whole.into_script()),
    ]))
}
