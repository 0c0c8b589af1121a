//! Functions about services and the other units of systemd. Each asks for the action of its name; the policy judges the unit itself, whatever alias was used.

use super::datetime::DateTime;
use super::function::{Call, Example, Function, param, with0, with1, with2};
use super::value::{Dynamic, IntoScript, Map, record};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, Granted, ask};
use crate::resource::service::{Manager, SERVICE, SYSTEMD, Service, UNIT, unit_name};
use crate::sys::systemd::{Job, Row, Status, Systemd};
use jiff::Timestamp;
use std::time::{Duration, Instant};

pub const FUNCTIONS: &[Function] = &[
    SERVICE_STATUS,
    SERVICES,
    SERVICE_START,
    SERVICE_STOP,
    SERVICE_RESTART,
    SERVICE_TRY_RESTART,
    SERVICE_RELOAD,
    SERVICE_RESET_FAILED,
    DAEMON_RELOAD,
];

pub(super) const UNITS: &[&str] = &[SERVICE.name, UNIT.name];
const LOOK: &[&str] = &["SystemdAction", "view"];
pub(super) const CHANGE: &[&str] = &["SystemdAction", "edit"];

macro_rules! verb {
    ($type:ident $name:literal $access:ident $groups:ident $on:ident $applies:ident $doc:literal) => {
        #[doc = concat!("`systemd::Action::\"", $name, "\"`: ", $doc)]
        pub enum $type {}
        impl Action for $type {
            type On = $on;
            const NAMESPACE: &'static str = "systemd";
            const NAME: &'static str = $name;
            const APPLIES_TO: &'static [&'static str] = $applies;
            const GROUPS: &'static [&'static str] = $groups;
            const DOC: &'static str = $doc;
            const ACCESS: Access = Access::$access;
        }
    };
}

pub(super) use verb;

const LOCAL: &[&str] = &[SYSTEMD.name];
verb!(See "status" ReadOnly LOOK Service UNITS "See its state.");
verb!(Start "start" Change CHANGE Service UNITS "Start it.");
verb!(Stop "stop" Change CHANGE Service UNITS "Stop it.");
verb!(Restart "restart" Change CHANGE Service UNITS "Restart it.");
verb!(Reload "reload" Change CHANGE Service UNITS "Have it read its configuration again.");
verb!(ResetFailed "reset_failed" Change CHANGE Service UNITS "Forget that it failed.");
verb!(List "list" ReadOnly LOOK Manager LOCAL "See which units there are and in which state.");
verb!(DaemonReload "daemon_reload" Change CHANGE Manager LOCAL "Have unit files read again.");

pub(super) const NAME: &str = "The unit; `nginx` means `nginx.service`.";
const FAILS: &[Kind] =
    &[Kind::NotFound, Kind::Permission, Kind::Timeout, Kind::JobFailed, Kind::Busy, Kind::Unavailable, Kind::Unsupported];
pub(super) const FAILS_LOOK: &[Kind] = &[Kind::NotFound, Kind::Permission, Kind::Timeout, Kind::Unavailable, Kind::Unsupported];

options! {
    /// Options of functions that wait for a job.
    JobOptions {
        timeout: Duration = Duration::from_secs(90), "How long to wait, in seconds.", flags &["timeout"];
        wait_active: bool = false, "Afterwards wait, within the timeout, until the unit has been active for a second without a break; `job_failed` if it is not.";
    }
}

options! {
    /// Options of `service_status`.
    StatusOptions {
        lines: u64 = 0, "Also give so many of the last entries of its log.";
    }
}

options! {
    /// Options of `services`.
    ServicesOptions {
        state: Vec<String> = Vec::new(), "Only units in one of these states: of loading (`not-found`), activity (`active`, `failed`) or the kind's own (`running`, `exited`).";
        failed: bool = false, "Only failed units.";
        pattern: Vec<String> = Vec::new(), "Only units whose names match one of these patterns (`*`, `?`, `[…]`); one without a kind matches services.";
        kind: String = "service".to_owned(), "`service`, `socket`, `timer` …, or `all`.";
        limit: u64 = 10_000, "Stop after so many.";
    }
}

const SERVICE_STATUS: Function = Function {
    name: "service_status",
    doc: "The state of a service or other unit.\n\nA map: `name` (its own, not an alias), `names`, `description`, `documentation`, `load_state`, `active` (bool), `active_state`, `sub_state`, `since`, `unit_file`, `unit_file_state`, `preset`, `drop_ins`, `need_daemon_reload`, `triggers`, `triggered_by`, `requires`, `wants`, `invocation_id`, `job` (one is under way), `conditions_held`; and for units with processes `result`, `type`, `restart`, `main_pid`, `exit_code` (`exited`, `killed`, `dumped`), `exit_status`, `started`, `ended`, `restarts`, `status_text`, `memory` and `memory_peak` (bytes), `tasks`, `cpu_seconds`, `control_group`. What systemd does not know is `()`. With `lines` also `log`: the last entries of its log, as [journal] gives them, for which the policy is asked as by [journal].",
    body: &with2(service_status, [param("name", NAME), param("options", "")]),
    asks: &[ask::<See>(), ask::<super::journal::ReadLog>()],
    fails: FAILS_LOOK,
    examples: &[
        Example { given: &[], script: r#"service_status("dbus.service").active_state"#, gives: "" },
        Example { given: &[], script: r#"service_status("dbus.service", #{lines: 5}).log"#, gives: "" },
    ],
};

const SERVICES: Function = Function {
    name: "services",
    doc: "The units that systemd has loaded, by name.\n\nEach is a map with `name`, `description`, `load_state`, `active_state`, `sub_state` and `job`. Asks once, for the list as a whole.",
    body: &with1(services, [param("options", "")]),
    asks: &[ask::<List>()],
    fails: FAILS_LOOK,
    examples: &[Example { given: &[], script: "services(#{failed: true}).map(|s| s.name)", gives: "" }],
};

const SERVICE_START: Function = Function {
    name: "service_start",
    doc: "Start a unit.\n\nWaits for the job. Gives a map: `unit` (its own name), `changed`, `result` (`done`, or `skipped` where there was nothing to do), `before` and `active_state` (states), `sub_state`, `main_pid`. A job that does not succeed is the error `job_failed`; one that takes longer than `timeout` is `timeout`, and goes on.",
    body: &with2(service_start, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Start>()],
    fails: FAILS,
    examples: &[Example { given: &[], script: r#"service_start("systemd-tmpfiles-clean").changed"#, gives: "" }],
};

const SERVICE_STOP: Function = Function {
    name: "service_stop",
    doc: "Stop a unit. The result is as for [service_start].",
    body: &with2(service_stop, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Stop>()],
    fails: FAILS,
    examples: &[Example { given: &[], script: r#"service_stop("systemd-tmpfiles-clean", #{timeout: 30}).active_state"#, gives: "" }],
};

const SERVICE_RESTART: Function = Function {
    name: "service_restart",
    doc: "Stop a unit and start it again; starts it where it does not run. The result is as for [service_start].",
    body: &with2(service_restart, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Restart>()],
    fails: FAILS,
    examples: &[Example { given: &[], script: r#"service_restart("systemd-tmpfiles-clean").result"#, gives: "" }],
};

const SERVICE_TRY_RESTART: Function = Function {
    name: "service_try_restart",
    doc: "Restart a unit if it runs; else nothing happens. The result is as for [service_start].",
    body: &with2(service_try_restart, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Restart>()],
    fails: FAILS,
    examples: &[Example { given: &[], script: r#"service_try_restart("systemd-tmpfiles-clean").changed"#, gives: "" }],
};

const SERVICE_RELOAD: Function = Function {
    name: "service_reload",
    doc: "Have a service read its configuration again, without a break.\n\nThe result is as for [service_start]; a unit that cannot is the error `job_failed`.",
    body: &with2(service_reload, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Reload>()],
    fails: FAILS,
    examples: &[Example { given: &[], script: r#"service_reload("dbus").active_state"#, gives: "" }],
};

const SERVICE_RESET_FAILED: Function = Function {
    name: "service_reset_failed",
    doc: "Forget that a unit failed and how often it was restarted.\n\nA map: `unit`, `changed` (whether it had failed).",
    body: &with1(service_reset_failed, [param("name", NAME)]),
    asks: &[ask::<ResetFailed>()],
    fails: FAILS_LOOK,
    examples: &[Example { given: &[], script: r#"service_reset_failed("systemd-tmpfiles-clean").changed"#, gives: "" }],
};

const DAEMON_RELOAD: Function = Function {
    name: "daemon_reload",
    doc: "Have systemd read all unit files again.",
    body: &with0(daemon_reload, []),
    asks: &[ask::<DaemonReload>()],
    fails: FAILS_LOOK,
    examples: &[Example { given: &[], script: r#"daemon_reload()"#, gives: "" }],
};

/// Calls `with` with the service manager and the permission for `A` on the unit of that name. Where there is no service manager the policy is asked about the
/// name, so that who may do nothing learns nothing.
pub(super) fn on_unit<A: Action<On = Service>, T>(
    call: &Call<'_>,
    name: &str,
    with: impl FnOnce(&Systemd<'_>, &Granted<A>) -> Result<T>,
) -> Result<T> {
    let name = unit_name(name)?;
    let check = || call.check();
    let systemd = match Systemd::connect(&check) {
        Ok(systemd) => systemd,
        Err(error) => {
            call.check()?;
            let _granted = call.permit::<A>(Service::absent(name, error.clone()))?;
            return Err(error);
        }
    };
    let unit = match systemd.locate(&name) {
        Ok(unit) => unit,
        Err(error) => {
            call.check()?;
            Service::absent(name, error)
        }
    };
    with(&systemd, &call.permit::<A>(unit)?)
}

fn job<A: Action<On = Service>>(call: &Call<'_>, name: &str, job: Job, options: &JobOptions) -> Result<Map> {
    if options.wait_active && matches!(job, Job::Stop) {
        return Err(bad_argument("`wait_active` makes no sense for what is stopped"));
    }
    let end = Instant::now() + options.timeout.min(Duration::from_secs(7 * 86_400));
    on_unit::<A, _>(call, name, |systemd, unit| {
        if unit.held() {
            return Err(call.withhold(unit, "", None)?);
        }
        let done = systemd.job(unit, job, end.saturating_duration_since(Instant::now()))?;
        let nothing_to_wait_for = job == Job::TryRestart && !done.changed;
        let after = if options.wait_active && !nothing_to_wait_for {
            systemd.wait_active(unit, end.saturating_duration_since(Instant::now()))?
        } else {
            done.after
        };
        Ok(record([
            ("unit", unit.name().into_script()),
            ("changed", done.changed.into_script()),
            ("result", done.result.into_script()),
            ("before", done.before.active_state.into_script()),
            ("active_state", after.active_state.into_script()),
            ("sub_state", after.sub_state.into_script()),
            ("main_pid", after.running.main_pid.into_script()),
        ]))
    })
}

fn service_status(call: &Call<'_>, name: String, options: StatusOptions) -> Result<Map> {
    on_unit::<See, _>(call, &name, |systemd, unit| {
        let mut map = status(systemd.status(unit)?);
        if options.lines > 0 {
            map.insert("log".into(), Dynamic::from_array(super::journal::last_of_unit(call, unit.name(), options.lines)?));
        }
        Ok(map)
    })
}
fn service_start(call: &Call<'_>, name: String, options: JobOptions) -> Result<Map> {
    job::<Start>(call, &name, Job::Start, &options)
}
fn service_stop(call: &Call<'_>, name: String, options: JobOptions) -> Result<Map> {
    job::<Stop>(call, &name, Job::Stop, &options)
}
fn service_restart(call: &Call<'_>, name: String, options: JobOptions) -> Result<Map> {
    job::<Restart>(call, &name, Job::Restart, &options)
}
fn service_try_restart(call: &Call<'_>, name: String, options: JobOptions) -> Result<Map> {
    job::<Restart>(call, &name, Job::TryRestart, &options)
}
fn service_reload(call: &Call<'_>, name: String, options: JobOptions) -> Result<Map> {
    job::<Reload>(call, &name, Job::Reload, &options)
}
fn service_reset_failed(call: &Call<'_>, name: String) -> Result<Map> {
    on_unit::<ResetFailed, _>(call, &name, |systemd, unit| {
        if unit.held() {
            return Err(call.withhold(unit, "", None)?);
        }
        let changed = systemd.reset_failed(unit)?;
        Ok(record([("unit", unit.name().into_script()), ("changed", changed.into_script())]))
    })
}

fn daemon_reload(call: &Call<'_>) -> Result<()> {
    let granted = call.permit::<DaemonReload>(Manager)?;
    if granted.held() {
        return Err(call.withhold(&granted, "", None)?);
    }
    Systemd::connect(&|| call.check())?.daemon_reload(&granted, Duration::from_secs(90))
}

fn services(call: &Call<'_>, options: ServicesOptions) -> Result<Vec<Map>> {
    let mut states = options.state;
    if options.failed {
        states.push("failed".to_owned());
    }
    if let Some(bad) = states.iter().find(|state| state.is_empty() || !state.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
    {
        return Err(bad_argument(format!("option `state`: `{}` is no state", bad.escape_debug())));
    }
    let suffix = format!(".{}", options.kind);
    if options.kind != "all" && !unit_name(&format!("x{suffix}")).is_ok_and(|name| name == format!("x{suffix}")) {
        return Err(bad_argument(format!(
            "option `kind`: `{}` is no kind of unit; they are service, socket, timer, target, mount …",
            options.kind.escape_debug()
        )));
    }
    let of_kind = |name: &str| options.kind == "all" || name.ends_with(&suffix);
    let patterns: Vec<String> = options
        .pattern
        .iter()
        .map(|pattern| {
            if options.kind == "all" || pattern.ends_with(&suffix) || pattern.ends_with('*') {
                pattern.clone()
            } else {
                format!("{pattern}{suffix}")
            }
        })
        .collect();
    let granted = call.permit::<List>(Manager)?;
    let check = || call.check();
    let rows = Systemd::connect(&check)?.list(&granted, &states, &patterns)?;
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    Ok(rows.into_iter().filter(|row| of_kind(&row.id)).take(limit).map(row).collect())
}

fn row(row: Row) -> Map {
    record([
        ("name", row.id.into_script()),
        ("description", row.description.into_script()),
        ("load_state", row.load_state.into_script()),
        ("active_state", row.active_state.into_script()),
        ("sub_state", row.sub_state.into_script()),
        ("job", row.job.into_script()),
    ])
}

/// A moment in microseconds since the epoch.
pub fn moment(us: u64) -> Option<DateTime> {
    i64::try_from(us).ok().and_then(|us| Timestamp::from_microsecond(us).ok()).map(DateTime)
}

pub(super) fn known(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn status(status: Status) -> Map {
    let mut map = record([
        ("name", status.id.clone().into_script()),
        ("names", status.names.into_script()),
        ("description", status.description.into_script()),
        ("documentation", status.documentation.into_script()),
        ("load_state", status.load_state.into_script()),
        ("active", matches!(status.active_state.as_str(), "active" | "reloading" | "refreshing").into_script()),
        ("active_state", status.active_state.into_script()),
        ("sub_state", status.sub_state.into_script()),
        ("since", status.since_us.and_then(moment).into_script()),
        ("unit_file", known(status.unit_file).into_script()),
        ("unit_file_state", known(status.unit_file_state).into_script()),
        ("preset", known(status.preset).into_script()),
        ("drop_ins", status.drop_ins.into_script()),
        ("need_daemon_reload", status.need_daemon_reload.into_script()),
        ("triggers", status.triggers.into_script()),
        ("triggered_by", status.triggered_by.into_script()),
        ("requires", status.requires.into_script()),
        ("wants", status.wants.into_script()),
        ("invocation_id", known(status.invocation).into_script()),
        ("job", status.job.into_script()),
        ("conditions_held", status.conditions_held.into_script()),
    ]);
    let running = status.running;
    #[allow(clippy::cast_precision_loss, reason = "CPU time to the microsecond is exact for 285 years")]
    let cpu_seconds = running.cpu_ns.map(|ns| (ns / 1000) as f64 / 1e6);
    let more: [(&str, Dynamic); 15] = [
        ("result", known(running.result).into_script()),
        ("type", known(running.service_type).into_script()),
        ("restart", known(running.restart).into_script()),
        ("main_pid", running.main_pid.into_script()),
        ("exit_code", known(running.exit_code.to_owned()).into_script()),
        ("exit_status", running.exit_status.into_script()),
        ("started", running.main_started_us.and_then(moment).into_script()),
        ("ended", running.main_ended_us.and_then(moment).into_script()),
        ("restarts", running.restarts.into_script()),
        ("status_text", known(running.status_text).into_script()),
        ("memory", running.memory.into_script()),
        ("memory_peak", running.memory_peak.into_script()),
        ("tasks", running.tasks.into_script()),
        ("cpu_seconds", cpu_seconds.into_script()),
        ("control_group", known(running.control_group).into_script()),
    ];
    map.extend(more.into_iter().map(|(key, value)| (key.into(), value)));
    map
}
