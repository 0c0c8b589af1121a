//! What the kernel says of itself: its messages, counters, slabs, pressure, modules, mounts. Each asks to read ([`Read`]) the file that it is from.

use super::file_read::Read;
use super::function::{Call, Example, Function, param, with0, with1};
use super::journal::{LEVELS, Level, Moment};
use super::machine::time;
use super::service::moment;
use super::value::{Array, Dynamic, IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result};
use crate::options;
use crate::policy::{Granted, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys::proc::counters::{self, Ticks};
use crate::sys::proc::kmsg;
use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[DMESG, CPU_STATS, SLABINFO, INTERRUPTS, PRESSURE, MODULES, MOUNTS, IPCS, OS_RELEASE];

/// Bytes of a file of the kernel at most.
const MOST: u64 = 16 << 20;

/// A file of the kernel that may be read, as often as it has to be.
pub(super) struct Counted<'c, 'h> {
    call: &'c Call<'h>,
    file: Granted<Read>,
}

impl<'c, 'h> Counted<'c, 'h> {
    /// # Errors
    /// `denied`; `unsupported` where the kernel has no such file.
    pub fn open(call: &'c Call<'h>, path: &str) -> Result<Self> {
        let file = call.permit::<Read>(File::locate(&AbsPath::new(path)?)?).map_err(lacking)?;
        Ok(Self { call, file })
    }
    /// Its text as it is now.
    ///
    /// # Errors
    /// As [`crate::sys::file::read`].
    pub fn text(&self) -> Result<String> {
        let bytes = crate::sys::file::read(&self.file, 0, None, MOST, &self.call.host.watch).map_err(lacking)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
    /// The same, made sense of.
    ///
    /// # Errors
    /// The same, and `bad_data` where it has another form.
    pub fn read<T>(&self, parse: impl FnOnce(&str) -> Option<T>) -> Result<T> {
        let odd = || {
            Error::new(Kind::BadData, "the kernel's file does not have the form it should have")
                .with_path(self.file.resource().asked().shown())
        };
        parse(&self.text()?).ok_or_else(odd)
    }
}

/// What the kernel does not have is no fault of the caller.
pub(super) fn lacking(error: Error) -> Error {
    // EOPNOTSUPP: pressure is compiled in and switched off.
    match error.kind {
        Kind::NotFound => Error { kind: Kind::Unsupported, message: "this kernel does not offer it".into(), ..error },
        _ if error.errno == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => Error { kind: Kind::Unsupported, ..error },
        _ => error,
    }
}

options! {
    /// Options of `dmesg`.
    DmesgOptions {
        level: Option<Level> = None, "Only messages of this level or more important ones.";
        since: Option<Moment> = None, "Only messages from this moment on.";
        limit: u64 = 10_000, "Only the last so many.";
    }
}

const DMESG: Function = Function {
    name: "dmesg",
    doc: "The messages of the kernel that it still has, the oldest first: an array of maps.\n\nEach has `time` (a DateTime), `seconds` (since the start of the machine), `level` (emerg, alert, crit, err, warning, notice, info, debug), `priority` (0 to 7), `facility` (a number; 0 is the kernel), `sequence`, `message`, `fields` (a map, e.g. `SUBSYSTEM`, `DEVICE`), and `timestamp_from_system_start` (the seconds as text). The kernel's clock stands still while the machine sleeps, so `time` is early by that. Asks to read `/dev/kmsg`.",
    body: &with1(dmesg, [param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::Permission, Kind::Unsupported],
    examples: &[Example { given: &[], script: r#"dmesg(#{level: "warning", limit: 5}).len() <= 5"#, gives: "true" }],
};

fn dmesg(call: &Call<'_>, options: DmesgOptions) -> Result<Array> {
    let device = call.permit::<Read>(File::locate(&AbsPath::new("/dev/kmsg")?)?).map_err(lacking)?;
    let start = crate::sys::clock::start_us();
    let most = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let mut kept: VecDeque<kmsg::Message> = VecDeque::new();
    kmsg::each(&device, &|| call.check(), |message| {
        let at = u64::try_from(start.saturating_add(message.at_us)).unwrap_or(0);
        let wanted = options.level.is_none_or(|level| message.level <= level.0) && options.since.is_none_or(|since| at >= since.0);
        if wanted {
            kept.push_back(message);
            if kept.len() > most {
                kept.pop_front();
            }
        }
    })?;
    let row = |message: kmsg::Message| {
        #[allow(clippy::cast_precision_loss, reason = "exact to the microsecond for 285 years")]
        let seconds = message.at_us as f64 / 1e6;
        let fields: Map = message.fields.into_iter().map(|(name, value)| (name.into(), value.into_script())).collect();
        record([
            ("time", u64::try_from(start.saturating_add(message.at_us)).ok().and_then(moment).into_script()),
            ("seconds", seconds.into_script()),
            ("timestamp_from_system_start", format!("{seconds:.6}").into_script()),
            ("level", LEVELS.get(usize::from(message.level)).copied().unwrap_or_default().into_script()),
            ("priority", i64::from(message.level).into_script()),
            ("facility", message.facility.into_script()),
            ("sequence", message.sequence.into_script()),
            ("message", message.text.into_script()),
            ("fields", fields.into_script()),
        ])
        .into_script()
    };
    Ok(kept.into_iter().map(row).collect())
}

options! {
    /// Options of `cpu_stats`.
    CpuOptions {
        seconds: Option<Duration> = None, "Add `percent` over this time; without it that is over the time since the start of the machine.";
    }
}

const CPU_STATS: Function = Function {
    name: "cpu_stats",
    doc: "What processors have been doing: `/proc/stat`.\n\nA map: `percent` (of all processors: `user`, `nice`, `system`, `idle`, `iowait`, `irq`, `softirq`, `steal`), `cpus` (the same for each, with its number as `cpu`), `total_cpu_time` and `cpu_time` (since the start, each part as `user_ticks`, `user_ms` …, `stolen_ticks`, `guest_ticks`, `guest_nice_ticks`), `procs_running`, `procs_blocked`, `context_switches`, `interrupts`, `forks`, `boot_time` (a DateTime).",
    body: &with1(cpu_stats, [param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported, Kind::BadData],
    examples: &[
        Example { given: &[], script: "cpu_stats().cpus.len() == nproc(#{all: true})", gives: "true" },
        Example { given: &[], script: "cpu_stats(#{seconds: 0.1}).percent.idle <= 100.0", gives: "true" },
    ],
};

fn cpu_stats(call: &Call<'_>, options: CpuOptions) -> Result<Map> {
    let file = Counted::open(call, "/proc/stat")?;
    let before = match options.seconds {
        Some(seconds) => {
            let before = file.read(counters::stat)?;
            call.host.watch.sleep(seconds)?;
            before
        }
        None => counters::Stat::default(),
    };
    let now = file.read(counters::stat)?;
    let earlier = |cpu: i64| before.each.iter().find(|(known, _)| *known == cpu).map(|(_, ticks)| *ticks).unwrap_or_default();
    let cpus: Vec<Map> = now
        .each
        .iter()
        .map(|(cpu, ticks)| {
            let mut row = percents(&ticks.since(&earlier(*cpu)));
            row.insert("cpu".into(), (*cpu).into_script());
            row
        })
        .collect();
    let each: Vec<Map> = now.each.iter().map(|(_, ticks)| ticks_map(ticks)).collect();
    Ok(record([
        ("percent", percents(&now.all.since(&before.all)).into_script()),
        ("cpus", cpus.into_script()),
        ("total_cpu_time", ticks_map(&now.all).into_script()),
        ("cpu_time", each.into_script()),
        ("procs_running", now.running.into_script()),
        ("procs_blocked", now.blocked.into_script()),
        ("context_switches", now.switches.into_script()),
        ("interrupts", now.interrupts.into_script()),
        ("forks", now.forks.into_script()),
        ("boot_time", time(now.boot_time.saturating_mul(1000))),
    ]))
}

fn percents(ticks: &Ticks) -> Map {
    let part = |part: u64| ticks.percent(part).into_script();
    record([
        ("user", part(ticks.user)),
        ("nice", part(ticks.nice)),
        ("system", part(ticks.system)),
        ("idle", part(ticks.idle)),
        ("iowait", part(ticks.iowait)),
        ("irq", part(ticks.irq)),
        ("softirq", part(ticks.softirq)),
        ("steal", part(ticks.stolen)),
    ])
}

/// In ticks and milliseconds, by the names of the reference.
fn ticks_map(ticks: &Ticks) -> Map {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let parts = [
        ("user", ticks.user),
        ("nice", ticks.nice),
        ("system", ticks.system),
        ("idle", ticks.idle),
        ("iowait", ticks.iowait),
        ("irq", ticks.irq),
        ("softirq", ticks.softirq),
        ("stolen", ticks.stolen),
        ("guest", ticks.guest),
        ("guest_nice", ticks.guest_nice),
    ];
    parts
        .into_iter()
        .flat_map(|(name, count)| {
            let ms = count.saturating_mul(1000) / per_second;
            [(format!("{name}_ticks").into(), count.into_script()), (format!("{name}_ms").into(), ms.into_script())]
        })
        .collect()
}

const SLABINFO: Function = Function {
    name: "slabinfo",
    doc: "What the kernel's own caches take: `/proc/slabinfo`, which only root may read as a rule.\n\nA map: `slabs`, an array of maps by size, the largest first (`name`, `objs`, `active`, `slabs`, `active_slabs`, `obj_per_slab`, `pages_per_slab`, `obj_size_bytes`, `obj_size_kb`, `use_percent`, `cache_size_kb`, `active_size_kb`), and `summary` (`active_objects`, `total_objects`, `active_slabs`, `total_slabs`, `active_caches`, `total_caches`, `active_size_kb`, `total_size_kb`, `objects_usage_percent`, `slabs_usage_percent`, `caches_usage_percent`, `size_usage_percent`, `min_obj_size_kb`, `avg_obj_size_kb`, `max_obj_size_kb`).",
    body: &with0(slabinfo, []),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported, Kind::Permission, Kind::BadData],
    examples: &[Example { given: &[], script: "slabinfo().summary.total_size_kb > 0", gives: "" }],
};

#[allow(clippy::cast_precision_loss, reason = "sizes for people")]
fn slabinfo(call: &Call<'_>) -> Result<Map> {
    let mut slabs = Counted::open(call, "/proc/slabinfo")?.read(counters::slabs)?;
    let page = rustix::param::page_size() as u64 / 1024;
    let size = |slab: &counters::Slab| slab.slabs.saturating_mul(slab.pages_per_slab).saturating_mul(page);
    slabs.sort_by_key(|slab| std::cmp::Reverse(size(slab)));
    let percent = |part: f64, whole: f64| if whole > 0.0 { (part / whole * 1000.0).round() / 10.0 } else { 0.0 };
    let kb = |bytes: u64| bytes as f64 / 1024.0;
    let active_kb = |slab: &counters::Slab| kb(slab.active.saturating_mul(slab.object_size));
    let sum = |get: &dyn Fn(&counters::Slab) -> u64| slabs.iter().fold(0u64, |sum, slab| sum.saturating_add(get(slab)));
    let (active, total) = (sum(&|slab| slab.active), sum(&|slab| slab.objects));
    let (active_slabs, total_slabs) = (sum(&|slab| slab.active_slabs), sum(&|slab| slab.slabs));
    let active_caches = slabs.iter().filter(|slab| slab.active > 0).count() as u64;
    let (total_kb, active_size) = (sum(&size), slabs.iter().map(active_kb).sum::<f64>());
    let bytes = sum(&|slab| slab.objects.saturating_mul(slab.object_size));
    let sizes = || slabs.iter().map(|slab| slab.object_size);
    let summary = record([
        ("active_objects", active.into_script()),
        ("total_objects", total.into_script()),
        ("active_slabs", active_slabs.into_script()),
        ("total_slabs", total_slabs.into_script()),
        ("active_caches", active_caches.into_script()),
        ("total_caches", (slabs.len() as u64).into_script()),
        ("active_size_kb", active_size.into_script()),
        ("total_size_kb", total_kb.into_script()),
        ("objects_usage_percent", percent(active as f64, total as f64).into_script()),
        ("slabs_usage_percent", percent(active_slabs as f64, total_slabs as f64).into_script()),
        ("caches_usage_percent", percent(active_caches as f64, slabs.len() as f64).into_script()),
        ("size_usage_percent", percent(active_size, total_kb as f64).into_script()),
        ("min_obj_size_kb", kb(sizes().min().unwrap_or(0)).into_script()),
        ("avg_obj_size_kb", if total > 0 { bytes as f64 / total as f64 / 1024.0 } else { 0.0 }.into_script()),
        ("max_obj_size_kb", kb(sizes().max().unwrap_or(0)).into_script()),
    ]);
    let row = |slab: &counters::Slab| {
        record([
            ("name", slab.name.as_str().into_script()),
            ("objs", slab.objects.into_script()),
            ("active", slab.active.into_script()),
            ("slabs", slab.slabs.into_script()),
            ("active_slabs", slab.active_slabs.into_script()),
            ("obj_per_slab", slab.per_slab.into_script()),
            ("pages_per_slab", slab.pages_per_slab.into_script()),
            ("obj_size_bytes", slab.object_size.into_script()),
            ("obj_size_kb", kb(slab.object_size).into_script()),
            ("use_percent", percent(slab.active as f64, slab.objects as f64).into_script()),
            ("cache_size_kb", size(slab).into_script()),
            ("active_size_kb", active_kb(slab).into_script()),
        ])
    };
    let rows: Vec<Map> = slabs.iter().map(row).collect();
    Ok(record([("slabs", rows.into_script()), ("summary", summary.into_script())]))
}

const INTERRUPTS: Function = Function {
    name: "interrupts",
    doc: "How often each interrupt came since the start of the machine: `/proc/interrupts`.\n\nAn array of maps: `name` (a number, or letters such as `LOC`), `counts` (for each processor that is running), `total`, `source`.",
    body: &with0(interrupts, []),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported, Kind::BadData],
    examples: &[Example { given: &[], script: "interrupts().len() > 0", gives: "true" }],
};

fn interrupts(call: &Call<'_>) -> Result<Vec<Map>> {
    let rows = Counted::open(call, "/proc/interrupts")?.read(counters::interrupts)?;
    let row = |row: counters::Interrupt| {
        let total = row.counts.iter().fold(0i64, |sum, count| sum.saturating_add(*count));
        record([
            ("name", row.name.into_script()),
            ("counts", row.counts.into_script()),
            ("total", total.into_script()),
            ("source", row.source.into_script()),
        ])
    };
    Ok(rows.into_iter().map(row).collect())
}

options! {
    /// Options of `pressure`.
    PressureOptions {
        cgroup: Option<AbsPath> = None, "Of this control group, by its path in the tree, e.g. `/system.slice/nginx.service`.";
    }
}

const PRESSURE: Function = Function {
    name: "pressure",
    doc: "How much of the time tasks waited for processors, memory and disks: `/proc/pressure`.\n\nA map: `cpu`, `memory`, `io`, each a map of `some` (at least one task waited) and `full` (all of them did), and these of `avg10`, `avg60`, `avg300` (percent of the last so many seconds) and `total_us` (microseconds since the start). Of a control group, its files `cpu.pressure` and so on below `/sys/fs/cgroup`.",
    body: &with1(pressure, [param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported, Kind::BadData],
    examples: &[Example { given: &[], script: "pressure().memory.some.avg10 >= 0.0", gives: "true" }],
};

fn pressure(call: &Call<'_>, options: PressureOptions) -> Result<Map> {
    let mut result = Map::new();
    for what in ["cpu", "memory", "io"] {
        let path = match &options.cgroup {
            None => format!("/proc/pressure/{what}"),
            // The policy is asked about where it leads, whatever is in the path.
            Some(group) => format!("/sys/fs/cgroup{}/{what}.pressure", group.shown()),
        };
        let lines = Counted::open(call, &path)?.read(counters::pressure)?;
        let row = |line: &counters::Stalled| {
            record([
                ("avg10", line.avg10.into_script()),
                ("avg60", line.avg60.into_script()),
                ("avg300", line.avg300.into_script()),
                ("total_us", line.total_us.into_script()),
            ])
        };
        let rows: Map = lines.iter().map(|line| (line.who.as_str().into(), row(line).into_script())).collect();
        result.insert(what.into(), rows.into_script());
    }
    Ok(result)
}

const MODULES: Function = Function {
    name: "modules",
    doc: "The modules that the kernel has loaded: `/proc/modules`.\n\nAn array of maps: `name`, `size` (bytes), `uses` (`()` for one that cannot be unloaded), `used_by` (names of modules), `state` (live, loading, unloading), `taints` (letters such as `OE`).",
    body: &with0(modules, []),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported, Kind::BadData],
    examples: &[Example { given: &[], script: "modules().all(|m| m.size > 0)", gives: "true" }],
};

fn modules(call: &Call<'_>) -> Result<Vec<Map>> {
    let rows = Counted::open(call, "/proc/modules")?.read(counters::modules)?;
    let row = |module: counters::Module| {
        record([
            ("name", module.name.into_script()),
            ("size", module.size.into_script()),
            ("uses", module.uses.into_script()),
            ("used_by", module.used_by.into_script()),
            ("state", module.state.into_script()),
            ("taints", module.taints.into_script()),
        ])
    };
    Ok(rows.into_iter().map(row).collect())
}

const MOUNTS: Function = Function {
    name: "mounts",
    doc: "What is mounted where, in the kernel's order: `/proc/mounts`.\n\nAn array of maps: `device`, `mounted_on`, `kind`, `options`, `read_only`, `remote`, `root` (what of the filesystem is shown there; `/` unless it is a bind mount), `id`, `parent`, `major`, `minor`. No filesystem is asked anything; [df] tells how full they are.",
    body: &with0(mounts, []),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported],
    examples: &[Example { given: &[], script: r#"mounts().some(|m| m.mounted_on == "/proc" && m.kind == "proc")"#, gives: "true" }],
};

fn mounts(call: &Call<'_>) -> Result<Vec<Map>> {
    // The link itself, as `df` asks: policies name `/proc/mounts`, not the number of this process.
    let table = call.permit::<Read>(File::locate_with(&AbsPath::new("/proc/mounts")?, false)?).map_err(lacking)?;
    let row = |mount: crate::sys::proc::mounts::Mount| {
        record([
            ("read_only", mount.is_read_only().into_script()),
            ("remote", mount.is_remote().into_script()),
            ("device", name_value(&mount.device)),
            ("mounted_on", name_value(mount.mount_point.as_os_str().as_bytes())),
            ("kind", mount.kind.into_script()),
            ("options", mount.options.into_script()),
            ("root", name_value(mount.root.as_os_str().as_bytes())),
            ("id", number(mount.id)),
            ("parent", number(mount.parent)),
            ("major", number(mount.major)),
            ("minor", number(mount.minor)),
        ])
    };
    Ok(crate::sys::proc::mounts::mounts(&table)?.into_iter().map(row).collect())
}

fn number(value: impl TryInto<i64>) -> Dynamic {
    value.try_into().ok().into_script()
}

const IPCS: Function = Function {
    name: "ipcs",
    doc: "Shared memory, semaphores and message queues of System V: the files in `/proc/sysvipc` (sysvipc(7)).\n\nA map: `shared_memory`, `semaphores`, `queues`, each an array of maps with the kernel's own names of the columns (`key`, `shmid`, `perms` in octal as text, `size`, `nattch`, `uid` …). Asks to read the three files.",
    body: &with0(ipcs, []),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported, Kind::BadData],
    examples: &[Example { given: &[], script: "ipcs().shared_memory.all(|s| s.size >= 0)", gives: "true" }],
};

fn ipcs(call: &Call<'_>) -> Result<Map> {
    let mut result = Map::new();
    for (name, file) in [("shared_memory", "shm"), ("semaphores", "sem"), ("queues", "msg")] {
        let rows = Counted::open(call, &format!("/proc/sysvipc/{file}"))?.read(table)?;
        result.insert(name.into(), rows.into_script());
    }
    Ok(result)
}

/// A heading and rows of as many words. Numbers are numbers, but for permission bits, which are octal.
fn table(text: &str) -> Option<Vec<Map>> {
    let mut lines = text.lines();
    let heading: Vec<&str> = lines.next()?.split_ascii_whitespace().collect();
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let value = |name: &str, word: &str| match word.parse::<i64>() {
                Ok(number) if name != "perms" => number.into_script(),
                _ => word.into_script(),
            };
            let row = || heading.iter().zip(&words).map(|(name, word)| ((*name).into(), value(name, word))).collect();
            (words.len() == heading.len()).then(row)
        })
        .collect()
}

const OS_RELEASE: Function = Function {
    name: "os_release",
    doc: "Which distribution this is: `/etc/os-release` (os-release(5)).\n\nA map with its keys in small letters: `id`, `version_id`, `pretty_name` …",
    body: &with0(os_release, []),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported],
    examples: &[Example { given: &[], script: "os_release().id.len() > 0", gives: "true" }],
};

fn os_release(call: &Call<'_>) -> Result<Map> {
    let text = Counted::open(call, "/etc/os-release")?.text()?;
    let line = |line: &str| {
        let (key, value) = line.trim().split_once('=').filter(|(key, _)| !key.starts_with('#'))?;
        Some((key.to_ascii_lowercase().into(), unquoted(value).into_script()))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// A value as the shell reads it: in quotes or not; in double quotes and outside of quotes `\` makes the next character plain.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    if let Some(inner) = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return inner.to_owned();
    }
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        plain.push(if c == '\\' { characters.next().unwrap_or(c) } else { c });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{table, unquoted};

    #[test]
    fn tables_have_a_heading_and_rows_of_as_many_words() {
        let rows = table("  key  shmid perms\n  0  7  1600\n").unwrap_or_default();
        let shown: Vec<String> = rows.iter().flat_map(|row| row.values().map(|value| format!("{value:?}"))).collect();
        assert_eq!(shown, ["0", "\"1600\"", "7"]);
        assert!(table("").is_none() && table("a b\n1\n").is_none());
        assert!(table("a b\n").is_some_and(|rows| rows.is_empty()));
    }

    #[test]
    fn values_are_read_as_the_shell_reads_them() {
        for (text, value) in [
            ("debian", "debian"),
            ("\"Debian GNU/Linux\"", "Debian GNU/Linux"),
            ("'a \\ b'", "a \\ b"),
            ("\"a \\\" b\"", "a \" b"),
            ("", ""),
        ] {
            assert_eq!(unquoted(text), value);
        }
    }
}
