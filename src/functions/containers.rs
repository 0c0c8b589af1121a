//! Functions about containers of Docker or Podman. Looking, and start, stop, restart; nothing else of the engine's API can be reached.

use super::convert::from_json;
use super::datetime::DateTime;
use super::function::{Call, Example, Function, param, with1, with2};
use super::journal::Moment;
use super::value::{Array, IntoScript, Map, record};
use crate::error::{Error, Kind, Result};
use crate::options;
use crate::policy::{Access, Action, Granted, ask};
use crate::resource::container::{CONTAINER, Container, ENGINE, Engine, container_name};
use crate::sys::containers::{self, Job, Lines};
use std::time::Duration;

pub const FUNCTIONS: &[Function] =
    &[CONTAINERS, CONTAINER_, CONTAINER_LOGS, CONTAINER_STATS, CONTAINER_START, CONTAINER_STOP, CONTAINER_RESTART];

macro_rules! verb {
    ($type:ident $name:literal $access:ident $groups:expr, $on:ident $noun:ident $doc:literal) => {
        #[doc = concat!("`container_system::Action::\"", $name, "\"`: ", $doc)]
        pub enum $type {}
        impl Action for $type {
            type On = $on;
            const NAMESPACE: &'static str = "container_system";
            const NAME: &'static str = $name;
            const APPLIES_TO: &'static [&'static str] = &[$noun.name];
            const GROUPS: &'static [&'static str] = $groups;
            const DOC: &'static str = $doc;
            const ACCESS: Access = Access::$access;
        }
    };
}

verb!(List "list" ReadOnly &["view"], Engine ENGINE "See which containers there are.");
verb!(Inspect "inspect" ReadOnly &["view"], Container CONTAINER "See how it was made and how it is.");
verb!(Logs "logs" ReadOnly &["view"], Container CONTAINER "See what it writes.");
verb!(Stats "stats" ReadOnly &["view"], Container CONTAINER "See what it uses.");
verb!(Start "start" Change &["edit"], Container CONTAINER "Start it.");
verb!(Stop "stop" Change &["edit"], Container CONTAINER "Stop it.");
verb!(Restart "restart" Change &["edit"], Container CONTAINER "Stop it and start it again.");

const NAME: &str = "Its name, its id or the beginning of that. The policy is asked about its name.";
const FAILS: &[Kind] =
    &[Kind::NotFound, Kind::Unsupported, Kind::Unavailable, Kind::Permission, Kind::Timeout, Kind::JobFailed, Kind::Busy, Kind::Changed];
const FAILS_LOGS: &[Kind] = &[
    Kind::NotFound,
    Kind::Unsupported,
    Kind::Unavailable,
    Kind::Permission,
    Kind::Timeout,
    Kind::JobFailed,
    Kind::Changed,
    Kind::TooLarge,
];

options! {
    /// Options of `containers`.
    ContainersOptions {
        state: Vec<String> = Vec::new(), "Only those in one of these states: `running`, `exited`, `paused`, `created` and so on.";
        pattern: Vec<String> = Vec::new(), "Only those whose names match one of these patterns (`*`, `?`, `[…]`).";
        limit: u64 = 10_000, "Stop after so many.";
    }
}

const CONTAINERS: Function = Function {
    name: "containers",
    doc: "The containers of Docker or Podman, running or not, by name.\n\nEach is a map: `id`, `name`, `image`, `command`, `created` (a DateTime), `state`, `status` (for people: `Up 3 hours`), `ports` (maps with `port`, `protocol`, `host_ip`, `host_port`), `labels`. Asks once, for the list as a whole. A host without the engine's socket ends in `unsupported`; `containers.socket` of rex.toml says where it is.",
    body: &with1(containers, [param("options", "")]),
    asks: &[ask::<List>()],
    fails: FAILS,
    examples: &[Example { given: &[], script: r#"containers(#{state: "running"}).map(|c| [c.name, c.image])"#, gives: "" }],
};

const CONTAINER_: Function = Function {
    name: "container",
    doc: "How a container was made and how it is.\n\nA map: `id`, `name`, `image`, `image_id`, `created`, `state`, `running`, `paused`, `restarting`, `oom_killed`, `pid`, `exit_code`, `error`, `started`, `finished` (DateTimes), `health` (`healthy`, `unhealthy`, `starting`; `()` without a check), `restarts`, `command` (an array), `user`, `working_dir`, `environment` (names only), `labels`, `ports`, `mounts` (maps with `type`, `source`, `destination`, `read_only`), `networks` (maps with `name`, `ip_address`, `gateway`, `mac_address`), `network_mode`, `restart_policy`, `privileged`, `added_capabilities`, `dropped_capabilities`, `read_only`, `memory_limit`, `log_driver`. What the engine does not know is `()`.",
    body: &with1(container, [param("name", NAME)]),
    asks: &[ask::<Inspect>()],
    fails: FAILS,
    examples: &[Example {
        given: &[],
        script: r#"try { container("web").state } catch (e) { if e.kind != "not_found" { throw e; } }"#,
        gives: "",
    }],
};

options! {
    /// Options of `container_logs`.
    ContainerLogsOptions {
        lines: u64 = 100, "The last so many.";
        since: Option<Moment> = None, "Only from this moment on.";
        before: Option<Moment> = None, "Only earlier than this moment.";
        stream: Option<String> = None, "Only `stdout` or `stderr`.";
        max_bytes: u64 = 4 << 20, "Fail with `too_large` when they come to more.";
    }
}

const CONTAINER_LOGS: Function = Function {
    name: "container_logs",
    doc: "The last lines that a container wrote to its standard output and error, as the engine keeps them.\n\nMaps with `time` (a DateTime), `stream` (`stdout` or `stderr`; with a terminal all are `stdout`) and `text`. Bytes that are not UTF-8 are U+FFFD.",
    body: &with2(container_logs, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Logs>()],
    fails: FAILS_LOGS,
    examples: &[Example {
        given: &[],
        script: r#"try { container_logs("web", #{lines: 20}).map(|l| l.text) } catch (e) { if e.kind != "not_found" { throw e; } }"#,
        gives: "",
    }],
};

const CONTAINER_STATS: Function = Function {
    name: "container_stats",
    doc: "What a running container uses, measured over a second or so.\n\nA map: `time`, `cpu_percent` (of one processor, as `docker stats` shows it), `memory`, `memory_limit` (bytes), `memory_percent`, `processes`, and bytes since it was started: `received`, `sent` (network), `read`, `written` (disks). One that does not run is the error `job_failed`.",
    body: &with1(container_stats, [param("name", NAME)]),
    asks: &[ask::<Stats>()],
    fails: FAILS,
    examples: &[Example {
        given: &[],
        script: r#"try { container_stats("web").memory } catch (e) { if e.kind != "not_found" { throw e; } }"#,
        gives: "",
    }],
};

options! {
    /// Options of `container_start`.
    ContainerStartOptions {
        timeout: Duration = Duration::from_secs(60), "How long to wait for the engine, in seconds.";
    }
}

options! {
    /// Options of `container_stop` and `container_restart`.
    ContainerJobOptions {
        grace: u64 = 10, "Seconds between the signal that asks it to end and the one that kills it.";
        timeout: Duration = Duration::from_secs(60), "How long to wait for the engine, in seconds; `grace` is to be within it.";
    }
}

const CONTAINER_START: Function = Function {
    name: "container_start",
    doc: "Start a container that is there.\n\nA map: `name`, `id`, `changed` (false where it ran already), `before` and `state`. The engine does it with its own rights, with what the container was made with.",
    body: &with2(container_start, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Start>()],
    fails: FAILS,
    examples: &[Example {
        given: &[],
        script: r#"try { container_start("web").state } catch (e) { if e.kind != "not_found" { throw e; } }"#,
        gives: "",
    }],
};

const CONTAINER_STOP: Function = Function {
    name: "container_stop",
    doc: "Stop a container. The result is as for [container_start].",
    body: &with2(container_stop, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Stop>()],
    fails: FAILS,
    examples: &[Example {
        given: &[],
        script: r#"try { container_stop("web", #{grace: 30}).changed } catch (e) { if e.kind != "not_found" { throw e; } }"#,
        gives: "",
    }],
};

const CONTAINER_RESTART: Function = Function {
    name: "container_restart",
    doc: "Stop a container and start it again; starts it where it does not run. The result is as for [container_start].",
    body: &with2(container_restart, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Restart>()],
    fails: FAILS,
    examples: &[Example {
        given: &[],
        script: r#"try { container_restart("web").state } catch (e) { if e.kind != "not_found" { throw e; } }"#,
        gives: "",
    }],
};

/// The permission for `A` on the container that a name means. What stands in the way is told only to whom the policy permits it.
fn permitted<A: Action<On = Container>>(call: &Call<'_>, name: &str) -> Result<Granted<A>> {
    let name = container_name(name)?;
    call.permit::<A>(containers::locate(name, &|| call.check())?)
}

/// The engine's answer for scripts, with DateTimes in the place of their texts.
fn shown(answer: &serde_json::Value, moments: &[&str]) -> Result<Map> {
    let value = from_json(answer)?;
    let mut map = value.try_cast::<Map>().ok_or_else(|| Error::new(Kind::Internal, "an answer that is no map"))?;
    for key in moments {
        if let Some(value) = map.get_mut(*key) {
            let text = value.clone().into_string().ok();
            if let Some(time) = text.and_then(|text| DateTime::parse(&text, None).ok()) {
                *value = time.into_script();
            }
        }
    }
    Ok(map)
}

fn containers(call: &Call<'_>, options: ContainersOptions) -> Result<Vec<Map>> {
    let mut patterns = Vec::new();
    for pattern in &options.pattern {
        let glob = globset::Glob::new(pattern);
        let wrong = |_| crate::error::bad_argument(format!("containers: option `pattern`: `{}` is no pattern", pattern.escape_debug()));
        patterns.push(glob.map_err(wrong)?.compile_matcher());
    }
    let granted = call.permit::<List>(Engine)?;
    let rows = containers::list(&granted, &|| call.check())?;
    let text = |row: &serde_json::Value, key: &str| row.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let wanted = |row: &&serde_json::Value| {
        (options.state.is_empty() || options.state.contains(&text(row, "state")))
            && (patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_match(text(row, "name"))))
    };
    let rows = rows.as_array().into_iter().flatten().filter(wanted).take(usize::try_from(options.limit).unwrap_or(usize::MAX));
    rows.map(|row| {
        let mut map = shown(row, &["created"])?;
        // Docker writes seconds, Podman in some versions a text.
        if let Some(seconds) = row.get("created").and_then(serde_json::Value::as_u64) {
            map.insert("created".into(), super::service::moment(seconds.saturating_mul(1_000_000)).into_script());
        }
        Ok(map)
    })
    .collect()
}

fn container(call: &Call<'_>, name: String) -> Result<Map> {
    let granted = permitted::<Inspect>(call, &name)?;
    shown(&containers::inspect(&granted, &|| call.check())?, &["created", "started", "finished"])
}

fn container_logs(call: &Call<'_>, name: String, options: ContainerLogsOptions) -> Result<Array> {
    if let Some(stream) = options.stream.as_deref().filter(|stream| !matches!(*stream, "stdout" | "stderr")) {
        let stream: String = stream.chars().take(40).collect();
        return Err(crate::error::bad_argument(format!(
            "container_logs: option `stream`: expected `stdout` or `stderr`, not `{}`",
            stream.escape_debug()
        )));
    }
    let granted = permitted::<Logs>(call, &name)?;
    let lines = Lines {
        last: options.lines,
        since: options.since.map(|moment| moment.0 / 1_000_000),
        // The engine knows whole seconds: one more, and the rest is left out below.
        until: options.before.map(|moment| moment.0.div_ceil(1_000_000)),
        max_bytes: options.max_bytes,
    };
    let rows = containers::logs(&granted, lines, &|| call.check())?;
    let mut shown_rows = Array::new();
    for row in rows.as_array().into_iter().flatten() {
        if options.stream.as_deref().is_some_and(|stream| row.get("stream").and_then(serde_json::Value::as_str) != Some(stream)) {
            continue;
        }
        let map = shown(row, &["time"])?;
        let time = map.get("time").and_then(|time| time.clone().try_cast::<DateTime>()).map(|time| time.0.as_microsecond());
        let time = time.and_then(|us| u64::try_from(us).ok());
        let early = options.since.is_some_and(|since| time.is_some_and(|time| time < since.0));
        let late = options.before.is_some_and(|before| time.is_some_and(|time| time >= before.0));
        if !early && !late {
            shown_rows.push(map.into_script());
        }
    }
    Ok(shown_rows)
}

fn container_stats(call: &Call<'_>, name: String) -> Result<Map> {
    let granted = permitted::<Stats>(call, &name)?;
    shown(&containers::stats(&granted, &|| call.check())?, &["time"])
}

fn job<A: Action<On = Container>>(call: &Call<'_>, name: &str, job: Job, grace: u64, timeout: Duration) -> Result<Map> {
    let timeout = timeout.min(Duration::from_secs(86_400));
    if Duration::from_secs(grace) > timeout {
        return Err(crate::error::bad_argument(format!("{}: option `grace`: {grace} is more than `timeout`", call.function.name)));
    }
    let granted = permitted::<A>(call, name)?;
    let check = || call.check();
    let deed = || containers::job(&granted, job, grace, timeout, &check);
    let done = call.effect(&granted, deed, |done| (0, format!("{} after {}", done["state"], done["before"])))?;
    let mut map = record([("name", granted.name().into_script()), ("id", granted.own_id().into_script())]);
    map.extend(shown(&done, &[])?);
    Ok(map)
}

fn container_start(call: &Call<'_>, name: String, options: ContainerStartOptions) -> Result<Map> {
    job::<Start>(call, &name, Job::Start, 0, options.timeout)
}
fn container_stop(call: &Call<'_>, name: String, options: ContainerJobOptions) -> Result<Map> {
    job::<Stop>(call, &name, Job::Stop, options.grace, options.timeout)
}
fn container_restart(call: &Call<'_>, name: String, options: ContainerJobOptions) -> Result<Map> {
    job::<Restart>(call, &name, Job::Restart, options.grace, options.timeout)
}
