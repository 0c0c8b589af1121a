//! What systemd tells about many units, or about itself: timers, sockets, dependencies, how long the start of the machine took.

use super::bus::Properties;
use super::{Listed, MANAGER, Systemd, UNIT, unit};
use crate::error::Result;
use crate::policy::{Action, Granted};
use crate::resource::service::{Manager, Service, kind};
use rustix::time::{ClockId, clock_gettime};

/// A timer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    pub id: String,
    pub description: String,
    pub active_state: String,
    /// What it starts.
    pub activates: String,
    /// Microseconds since the epoch.
    pub next_us: Option<u64>,
    pub last_us: Option<u64>,
    /// As in the unit file: `OnCalendar` and its like, and the value.
    pub schedule: Vec<(String, String)>,
    pub persistent: bool,
}

/// A socket unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    pub id: String,
    pub description: String,
    pub active_state: String,
    pub sub_state: String,
    /// Kind (`Stream`, `Datagram` …) and address.
    pub listen: Vec<(String, String)>,
    pub activates: Vec<String>,
    /// One instance of the service for each connection.
    pub accept: bool,
    pub connections: Option<u64>,
    pub accepted: Option<u64>,
}

/// How a start of the machine went, in microseconds of the monotonic clock; 0 where there is no such part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// Before the kernel: these count backwards from it.
    pub firmware: u64,
    pub loader: u64,
    /// The kernel's own start, in microseconds since the epoch; 0 in a container.
    pub kernel_realtime: u64,
    pub initrd: u64,
    pub userspace: u64,
    pub finish: u64,
    /// In microseconds since the epoch.
    pub userspace_realtime: u64,
    pub finish_realtime: u64,
}

/// How long a unit took to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Took {
    pub id: String,
    pub microseconds: u64,
}

/// Kinds of dependency: the key that scripts see, and the property (org.freedesktop.systemd1(5)).
pub const DEPENDENCIES: &[(&str, &str)] = &[
    ("requires", "Requires"),
    ("requisite", "Requisite"),
    ("wants", "Wants"),
    ("binds_to", "BindsTo"),
    ("part_of", "PartOf"),
    ("upholds", "Upholds"),
    ("conflicts", "Conflicts"),
    ("before", "Before"),
    ("after", "After"),
    ("on_failure", "OnFailure"),
    ("on_success", "OnSuccess"),
    ("triggers", "Triggers"),
    ("required_by", "RequiredBy"),
    ("requisite_of", "RequisiteOf"),
    ("wanted_by", "WantedBy"),
    ("bound_by", "BoundBy"),
    ("consists_of", "ConsistsOf"),
    ("upheld_by", "UpheldBy"),
    ("conflicted_by", "ConflictedBy"),
    ("on_failure_of", "OnFailureOf"),
    ("triggered_by", "TriggeredBy"),
];
/// Those that start a unit, or hold it up, when another is started.
pub const PULLS: &[&str] = &["requires", "requisite", "wants", "binds_to", "upholds"];

impl Systemd<'_> {
    /// The timers that are loaded, those that run next first, as systemctl(1) lists them.
    ///
    /// # Errors
    /// Those of the bus.
    pub fn timers<A: Action<On = Manager>>(&self, _: &Granted<A>, patterns: &[String]) -> Result<Vec<Timer>> {
        let mut timers = Vec::new();
        for (row, every) in self.of_kind("timer", patterns)? {
            let own = self.bus.properties(row.6.as_str(), "org.freedesktop.systemd1.Timer")?;
            timers.push(timer(row, &every, &own, now()));
        }
        timers.sort_by(|a, b| (a.next_us.is_none(), a.next_us, &a.id).cmp(&(b.next_us.is_none(), b.next_us, &b.id)));
        Ok(timers)
    }

    /// The socket units that are loaded, by name.
    ///
    /// # Errors
    /// Those of the bus.
    pub fn sockets<A: Action<On = Manager>>(&self, _: &Granted<A>, patterns: &[String]) -> Result<Vec<Socket>> {
        let mut sockets = Vec::new();
        for (row, every) in self.of_kind("socket", patterns)? {
            let own = self.bus.properties(row.6.as_str(), "org.freedesktop.systemd1.Socket")?;
            sockets.push(Socket {
                listen: own.pairs("Listen"),
                activates: every.texts("Triggers"),
                accept: own.flag("Accept"),
                connections: own.number("NConnections"),
                accepted: own.number("NAccepted"),
                id: row.0,
                description: row.1,
                active_state: row.3,
                sub_state: row.4,
            });
        }
        sockets.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(sockets)
    }

    /// The loaded units of a kind whose names match one of these patterns, with what systemd knows of each.
    fn of_kind(&self, wanted: &str, patterns: &[String]) -> Result<Vec<(Listed, Properties)>> {
        let every = [format!("*.{wanted}")];
        let patterns = if patterns.is_empty() { &every[..] } else { patterns };
        let rows: Vec<Listed> = self.bus.call(MANAGER.0, MANAGER.1, "ListUnitsByPatterns", &(&[] as &[String], patterns))?;
        let rows = rows.into_iter().filter(|row| kind(&row.0) == wanted);
        rows.map(|row| Ok((self.bus.properties(row.6.as_str(), UNIT)?, row))).map(|done| done.map(|(every, row)| (row, every))).collect()
    }

    /// What the unit depends on and what depends on it: a list for each of [`DEPENDENCIES`].
    ///
    /// # Errors
    /// Those of the bus.
    pub fn dependencies<A: Action<On = Service>>(&self, unit: &Granted<A>) -> Result<Vec<(&'static str, Vec<String>)>> {
        let every = self.bus.properties(unit.resource().path(), UNIT)?;
        let sorted = |property| {
            let mut names = every.texts(property);
            names.sort();
            names
        };
        Ok(DEPENDENCIES.iter().map(|(key, property)| (*key, sorted(property))).collect())
    }

    /// The unit's own file and its drop-ins, in the order in which they count. A unit that systemd made itself has none.
    ///
    /// # Errors
    /// Those of the bus.
    pub fn files<A: Action<On = Service>>(&self, unit: &Granted<A>) -> Result<Vec<String>> {
        let every = self.bus.properties(unit.resource().path(), UNIT)?;
        // The file of a masked unit is a link to /dev/null.
        let own = Some(every.text("FragmentPath")).filter(|path| !path.is_empty() && every.text("LoadState") != "masked");
        Ok(own.into_iter().chain(every.texts("DropInPaths")).collect())
    }

    /// # Errors
    /// Those of the bus.
    pub fn boot<A: Action<On = Manager>>(&self, _: &Granted<A>) -> Result<Boot> {
        let own = self.bus.properties(MANAGER.0, MANAGER.1)?;
        let number = |name| own.number(name).unwrap_or(0);
        Ok(Boot {
            firmware: number("FirmwareTimestampMonotonic"),
            loader: number("LoaderTimestampMonotonic"),
            kernel_realtime: number("KernelTimestamp"),
            initrd: number("InitRDTimestampMonotonic"),
            userspace: number("UserspaceTimestampMonotonic"),
            finish: number("FinishTimestampMonotonic"),
            userspace_realtime: number("UserspaceTimestamp"),
            finish_realtime: number("FinishTimestamp"),
        })
    }

    /// How long the units that were started with the machine took, the slowest first, as systemd-analyze(1) blames them.
    ///
    /// # Errors
    /// Those of the bus; that the run has to stop.
    pub fn blame<A: Action<On = Manager>>(&self, _: &Granted<A>) -> Result<Vec<Took>> {
        let rows: Vec<Listed> = self.bus.call(MANAGER.0, MANAGER.1, "ListUnits", &())?;
        let mut took = Vec::new();
        for row in rows.into_iter().filter(|row| unit::interface_of(kind(&row.0)).is_some()) {
            let every = self.bus.properties(row.6.as_str(), UNIT)?;
            let number = |name| every.number(name).unwrap_or(0);
            let times = (
                number("InactiveExitTimestampMonotonic"),
                number("ActiveEnterTimestampMonotonic"),
                number("ActiveExitTimestampMonotonic"),
                number("InactiveEnterTimestampMonotonic"),
            );
            if let Some(microseconds) = duration(times) {
                took.push(Took { id: row.0, microseconds });
            }
        }
        took.sort_by(|a, b| b.microseconds.cmp(&a.microseconds).then_with(|| a.id.cmp(&b.id)));
        Ok(took)
    }
}

/// From the beginning of its start until it was up; a unit that never was up counts until its end, as for systemd-analyze.
fn duration((activating, activated, deactivating, deactivated): (u64, u64, u64, u64)) -> Option<u64> {
    let end = if activated >= activating {
        activated
    } else if deactivated >= activating {
        deactivated
    } else {
        deactivating
    };
    (activating > 0).then(|| end.saturating_sub(activating)).filter(|time| *time > 0)
}

/// The wall clock and the monotonic one, in microseconds.
fn now() -> (u64, u64) {
    let us = |clock| {
        let time = clock_gettime(clock);
        u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0) / 1000)
    };
    (us(ClockId::Realtime), us(ClockId::Monotonic))
}

fn timer(row: Listed, every: &Properties, own: &Properties, (realtime, monotonic): (u64, u64)) -> Timer {
    let positive = |name| own.number(name).filter(|us| *us > 0);
    // Of the two clocks what comes first.
    let by_monotonic = positive("NextElapseUSecMonotonic").map(|us| (realtime + us).saturating_sub(monotonic));
    let next = [positive("NextElapseUSecRealtime"), by_monotonic].into_iter().flatten().min();
    let calendar = own.triples("TimersCalendar").into_iter().map(|(base, spec, _)| (base, spec));
    let spans = own.numbered("TimersMonotonic").into_iter().map(|(base, us)| (base, span(us)));
    Timer {
        activates: own.text("Unit"),
        next_us: next,
        last_us: positive("LastTriggerUSec"),
        schedule: calendar.chain(spans).collect(),
        persistent: own.flag("Persistent"),
        description: every.text("Description"),
        active_state: row.3,
        id: row.0,
    }
}

/// A span as systemd.time(7) writes it: `1h 30min`.
fn span(us: u64) -> String {
    const UNITS: &[(u64, &str)] = &[
        (604_800_000_000, "w"),
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "min"),
        (1_000_000, "s"),
        (1000, "ms"),
        (1, "us"),
    ];
    let mut left = us;
    let mut parts = Vec::new();
    for (size, name) in UNITS {
        if left >= *size {
            parts.push(format!("{}{name}", left / size));
            left %= size;
        }
    }
    if parts.is_empty() { "0".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_systemd_writes_them() {
        for (us, text) in
            [(0, "0"), (900_000_000, "15min"), (5_400_000_000, "1h 30min"), (604_800_000_001, "1w 1us"), (1_500_000, "1s 500ms")]
        {
            assert_eq!(span(us), text);
        }
    }

    #[test]
    fn a_start_lasts_until_the_unit_is_up_or_ends() {
        assert_eq!(duration((10, 25, 0, 0)), Some(15));
        assert_eq!(duration((10, 0, 0, 14)), Some(4));
        assert_eq!(duration((10, 10, 0, 0)), None);
        assert_eq!(duration((0, 0, 0, 0)), None);
    }
}
