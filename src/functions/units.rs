//! Functions that look at many units, or at the start of the machine as a whole. They ask for [`List`], those about one unit for [`See`].

use super::function::{Call, Example, Function, param, with0, with1, with2};
use super::service::{FAILS_LOOK, List, NAME, See, moment, on_unit};
use super::value::{Dynamic, IntoScript, Map, record};
use crate::error::{Result, bad_argument};
use crate::options;
use crate::policy::{Answer, ask};
use crate::resource::service::Manager;
use crate::sys::systemd::{Boot, PULLS, Socket, Systemd, Timer};
use std::collections::{BTreeSet, VecDeque};

pub const FUNCTIONS: &[Function] = &[TIMERS, SOCKETS, DEPENDENCIES, BOOT_TIME, ANALYZE_BLAME];

options! {
    /// Options of `timers` and `sockets`.
    UnitsOptions {
        pattern: Vec<String> = Vec::new(), "Only units whose names match one of these patterns (`*`, `?`, `[…]`); the kind may be left out.";
        limit: u64 = 10_000, "Stop after so many.";
    }
}

const TIMERS: Function = Function {
    name: "timers",
    doc: "The timers that systemd has loaded, those that run next first.\n\nEach is a map: `name`, `description`, `activates` (the unit that it starts), `active_state`, `next` and `last` (DateTimes, or `()`), `left` (seconds until `next`), `schedule` (maps with `key`, e.g. `OnCalendar`, and `value`), `persistent`. Asks once, for the list as a whole.",
    body: &with1(timers, [param("options", "")]),
    asks: &[ask::<List>()],
    fails: FAILS_LOOK,
    examples: &[Example { given: &[], script: "timers().map(|t| [t.name, t.next])", gives: "" }],
};

const SOCKETS: Function = Function {
    name: "sockets",
    doc: "The socket units that systemd has loaded, by name: what it listens on for services.\n\n[ss] gives the sockets of all programs. Each is a map: `name`, `description`, `listen` (maps with `kind`, e.g. `Stream`, and `address`), `activates` (units), `active_state`, `sub_state`, `accept` (an instance of the service for each connection), `connections` and `accepted` (now, and since it listens). Asks once, for the list as a whole.",
    body: &with1(sockets, [param("options", "")]),
    asks: &[ask::<List>()],
    fails: FAILS_LOOK,
    examples: &[Example { given: &[], script: r#"sockets(#{pattern: "dbus*"}).map(|s| s.listen)"#, gives: "" }],
};

options! {
    /// Options of `dependencies`.
    DependenciesOptions {
        recursive: bool = false, "Also give `all`: every unit that is started with it, over any number of steps.";
        limit: u64 = 1_000, "With `recursive`, look at so many units at most.";
    }
}

const DEPENDENCIES: Function = Function {
    name: "dependencies",
    doc: "What a unit depends on, and what depends on it.\n\nA map with `unit` and an array of names for each kind of dependency of systemd.unit(5): `requires`, `requisite`, `wants`, `binds_to`, `part_of`, `upholds`, `conflicts`, `before`, `after`, `on_failure`, `on_success`, `triggers`; and the other way round `required_by`, `requisite_of`, `wanted_by`, `bound_by`, `consists_of`, `upheld_by`, `conflicted_by`, `on_failure_of`, `triggered_by`. With `recursive` also `all`, what is started with it (by `requires`, `requisite`, `wants`, `binds_to`, `upholds`), and `not_followed`: those of `all` whose `status` is denied or that could not be looked at, and where the limit was reached.",
    body: &with2(dependencies, [param("name", NAME), param("options", "")]),
    asks: &[ask::<See>()],
    fails: FAILS_LOOK,
    examples: &[Example { given: &[], script: r#"dependencies("dbus.service", #{recursive: true}).requires"#, gives: "" }],
};

const BOOT_TIME: Function = Function {
    name: "boot_time",
    doc: "When the machine started, and how long that took, as `systemd-analyze time` tells it.\n\nA map: `started` (a DateTime: the kernel's start, in a container that of systemd), `finished` (a DateTime; `()` while it goes on), and seconds, `()` for a part that there was not: `firmware`, `loader`, `kernel`, `initrd`, `userspace`, `total`.",
    body: &with0(boot_time, []),
    asks: &[ask::<List>()],
    fails: FAILS_LOOK,
    examples: &[Example { given: &[], script: "boot_time().total", gives: "" }],
};

options! {
    /// Options of `analyze_blame`.
    BlameOptions {
        limit: u64 = 50, "The slowest so many.";
    }
}

const ANALYZE_BLAME: Function = Function {
    name: "analyze_blame",
    doc: "How long units took to start, the slowest first, as `systemd-analyze blame` tells it: maps with `name` and `seconds`.\n\nA unit that waits for another is not to blame for it, so read it with [dependencies].",
    body: &with1(analyze_blame, [param("options", "")]),
    asks: &[ask::<List>()],
    fails: FAILS_LOOK,
    examples: &[Example { given: &[], script: "analyze_blame(#{limit: 10}).map(|u| u.name)", gives: "" }],
};

/// The patterns, each with the kind at its end.
fn patterns(given: Vec<String>, kind: &str) -> Vec<String> {
    let suffix = format!(".{kind}");
    given.into_iter().map(|pattern| if pattern.ends_with(&suffix) { pattern } else { format!("{pattern}{suffix}") }).collect()
}

fn most(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn timers(call: &Call<'_>, options: UnitsOptions) -> Result<Vec<Map>> {
    let granted = call.permit::<List>(Manager)?;
    let check = || call.check();
    let timers = Systemd::connect(&check)?.timers(&granted, &patterns(options.pattern, "timer"))?;
    let now = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0);
    Ok(timers.into_iter().take(most(options.limit)).map(|timer| of_timer(timer, now)).collect())
}

fn of_timer(timer: Timer, now: u64) -> Map {
    let pair = |(key, value): (String, String)| record([("key", key.into_script()), ("value", value.into_script())]);
    record([
        ("name", timer.id.into_script()),
        ("description", timer.description.into_script()),
        ("activates", timer.activates.into_script()),
        ("active_state", timer.active_state.into_script()),
        ("next", timer.next_us.and_then(moment).into_script()),
        ("last", timer.last_us.and_then(moment).into_script()),
        ("left", timer.next_us.map(|next| next.saturating_sub(now) / 1_000_000).into_script()),
        ("schedule", timer.schedule.into_iter().map(pair).collect::<Vec<Map>>().into_script()),
        ("persistent", timer.persistent.into_script()),
    ])
}

fn sockets(call: &Call<'_>, options: UnitsOptions) -> Result<Vec<Map>> {
    let granted = call.permit::<List>(Manager)?;
    let check = || call.check();
    let sockets = Systemd::connect(&check)?.sockets(&granted, &patterns(options.pattern, "socket"))?;
    Ok(sockets.into_iter().take(most(options.limit)).map(of_socket).collect())
}

fn of_socket(socket: Socket) -> Map {
    let pair = |(kind, address): (String, String)| record([("kind", kind.into_script()), ("address", address.into_script())]);
    record([
        ("name", socket.id.into_script()),
        ("description", socket.description.into_script()),
        ("listen", socket.listen.into_iter().map(pair).collect::<Vec<Map>>().into_script()),
        ("activates", socket.activates.into_script()),
        ("active_state", socket.active_state.into_script()),
        ("sub_state", socket.sub_state.into_script()),
        ("accept", socket.accept.into_script()),
        ("connections", socket.connections.into_script()),
        ("accepted", socket.accepted.into_script()),
    ])
}

fn dependencies(call: &Call<'_>, name: String, options: DependenciesOptions) -> Result<Map> {
    if options.limit == 0 {
        return Err(bad_argument("dependencies: option `limit`: expected 1 or more"));
    }
    let (unit, lists) = on_unit::<See, _>(call, &name, |systemd, unit| Ok((unit.name().to_owned(), systemd.dependencies(unit)?)))?;
    let mut map = record([("unit", unit.clone().into_script())]);
    if options.recursive {
        let (all, not_followed) = all_of(call, &unit, &lists, options.limit)?;
        map.insert("all".into(), all.into_script());
        map.insert("not_followed".into(), not_followed.into_script());
    }
    map.extend(lists.into_iter().map(|(key, names)| (key.into(), names.into_script())));
    Ok(map)
}

type Lists = Vec<(&'static str, Vec<String>)>;

/// Everything that is started with a unit, and of that what was not followed further.
fn all_of(call: &Call<'_>, unit: &str, lists: &Lists, limit: u64) -> Result<(Vec<String>, Vec<String>)> {
    let pulled = |lists: &Lists| -> Vec<String> {
        lists.iter().filter(|(key, _)| PULLS.contains(key)).flat_map(|(_, names)| names.iter().cloned()).collect()
    };
    let mut known = BTreeSet::from([unit.to_owned()]);
    let (mut all, mut not_followed) = (Vec::new(), Vec::new());
    let mut next: VecDeque<String> = pulled(lists).into();
    let mut looked = 1;
    let check = || call.check();
    let systemd = Systemd::connect(&check)?;
    while let Some(name) = next.pop_front() {
        if !known.insert(name.clone()) {
            continue;
        }
        all.push(name.clone());
        call.check()?;
        // Its name stands in what was permitted already; what it is, is asked for.
        let found = if looked < limit { systemd.locate(&name).ok() } else { None };
        match found {
            Some(unit) if matches!(call.host.gate.would::<See>(&unit), Answer::Yes) => {
                looked += 1;
                // That there is none of this name is no error here: units may wish for what is not installed.
                match call.permit::<See>(unit).and_then(|unit| systemd.dependencies(&unit)) {
                    Ok(lists) => next.extend(pulled(&lists)),
                    Err(error) if error.kind == crate::error::Kind::NotFound => not_followed.push(name),
                    Err(error) => return Err(error),
                }
            }
            _ => not_followed.push(name),
        }
    }
    all.sort();
    not_followed.sort();
    Ok((all, not_followed))
}

fn boot_time(call: &Call<'_>) -> Result<Map> {
    let granted = call.permit::<List>(Manager)?;
    let check = || call.check();
    Ok(of_boot(Systemd::connect(&check)?.boot(&granted)?))
}

/// The parts as systemd-analyze(1) tells them apart.
fn of_boot(boot: Boot) -> Map {
    #[allow(clippy::cast_precision_loss, reason = "a start takes no 285 years")]
    let seconds = |us: u64| us as f64 / 1e6;
    let part = |there: bool, us: u64| if there { seconds(us).into_script() } else { Dynamic::UNIT };
    let (on_machine, done) = (boot.kernel_realtime > 0, boot.finish > 0);
    let kernel = if boot.initrd > 0 { boot.initrd } else { boot.userspace };
    // In a container the clock of the kernel began long before.
    let total = if on_machine { boot.firmware.saturating_add(boot.finish) } else { boot.finish.saturating_sub(boot.userspace) };
    record([
        ("started", moment(if on_machine { boot.kernel_realtime } else { boot.userspace_realtime }).into_script()),
        ("finished", Some(boot.finish_realtime).filter(|us| done && *us > 0).and_then(moment).into_script()),
        ("firmware", part(on_machine && boot.firmware > 0, boot.firmware.saturating_sub(boot.loader))),
        ("loader", part(on_machine && boot.loader > 0, boot.loader)),
        ("kernel", part(on_machine, kernel)),
        ("initrd", part(on_machine && boot.initrd > 0, boot.userspace.saturating_sub(boot.initrd))),
        ("userspace", part(done, boot.finish.saturating_sub(boot.userspace))),
        ("total", part(done, total)),
    ])
}

fn analyze_blame(call: &Call<'_>, options: BlameOptions) -> Result<Vec<Map>> {
    let granted = call.permit::<List>(Manager)?;
    let check = || call.check();
    let took = Systemd::connect(&check)?.blame(&granted)?;
    #[allow(clippy::cast_precision_loss, reason = "a start takes no 285 years")]
    let row = |unit: crate::sys::systemd::Took| {
        record([("name", unit.id.into_script()), ("seconds", (unit.microseconds as f64 / 1e6).into_script())])
    };
    Ok(took.into_iter().take(most(options.limit)).map(row).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_parts_of_a_start_are_those_of_systemd_analyze() {
        let machine = Boot {
            firmware: 5_000_000,
            loader: 2_000_000,
            kernel_realtime: 1_700_000_000_000_000,
            initrd: 1_000_000,
            userspace: 4_000_000,
            finish: 14_000_000,
            userspace_realtime: 1_700_000_004_000_000,
            finish_realtime: 1_700_000_014_000_000,
        };
        let shown = of_boot(machine);
        let number = |key: &str| shown[key].as_float().unwrap();
        assert_eq!(["firmware", "loader", "kernel", "initrd", "userspace", "total"].map(number), [3.0, 2.0, 1.0, 3.0, 10.0, 19.0]);
        // A container: no kernel of its own, and the clock has run for days.
        let inside = Boot { kernel_realtime: 0, firmware: 0, loader: 0, initrd: 0, userspace: 900_000_000, finish: 901_500_000, ..machine };
        let shown = of_boot(inside);
        assert!(["firmware", "loader", "kernel", "initrd"].iter().all(|key| shown[*key].is_unit()));
        assert_eq!((shown["userspace"].as_float().unwrap(), shown["total"].as_float().unwrap()), (1.5, 1.5));
        assert!(of_boot(Boot { finish: 0, ..inside })["total"].is_unit());
    }
}
