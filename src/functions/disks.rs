//! Disks and what goes to and from them: iostat, vmstat, lsblk. They ask to read ([`Read`]) the kernel's files that they are from.

use super::file_read::Read;
use super::function::{Call, Example, Function, param, with1};
use super::kernel::{Counted, lacking};
use super::value::{Array, Dynamic, IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result};
use crate::limits::Watch;
use crate::options;
use crate::policy::{Walk, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys::proc::counters::{self, Disk, Ticks};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

pub const FUNCTIONS: &[Function] = &[IOSTAT, VMSTAT, LSBLK];

options! {
    /// Options of `iostat`.
    IostatOptions {
        seconds: Option<Duration> = None, "Measure over this time; without it the averages are those since the start of the machine.";
        device: Option<Vec<String>> = None, "Only these devices, e.g. `sda`.";
        all: bool = false, "Also devices to and from which nothing ever went.";
    }
}

const IOSTAT: Function = Function {
    name: "iostat",
    doc: "What processors and disks were busy with: `/proc/stat` and `/proc/diskstats`.\n\nA map: `cpu_stats` (`user_percent`, `nice_percent`, `system_percent`, `iowait_percent`, `steal_percent`, `idle_percent`), and `device_stats`, an array of maps: `device_name`, `read_requests_per_sec`, `write_requests_per_sec`, `rrqm_per_sec`, `wrqm_per_sec` (merged into others), `rkb_per_sec`, `wkb_per_sec`, `avg_request_size` (in kB), `avg_queue_size`, `avg_wait`, `avg_read_wait`, `avg_write_wait`, `svctm` (milliseconds), `util_percent`, `in_flight`.",
    body: &with1(iostat, [param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported, Kind::BadData],
    examples: &[
        Example { given: &[], script: "iostat().cpu_stats.idle_percent <= 100.0", gives: "true" },
        Example { given: &[], script: r#"iostat(#{seconds: 0.1, device: "no-such"}).device_stats.len()"#, gives: "0" },
    ],
};

#[allow(clippy::cast_precision_loss, reason = "rates")]
fn iostat(call: &Call<'_>, options: IostatOptions) -> Result<Map> {
    let (stat, disks) = (Counted::open(call, "/proc/stat")?, Counted::open(call, "/proc/diskstats")?);
    let began = Instant::now();
    let (before, earlier) = match options.seconds {
        Some(seconds) => {
            let before = (stat.read(counters::stat)?, disks.read(counters::disks)?);
            call.host.watch.sleep(seconds)?;
            before
        }
        None => (counters::Stat::default(), Vec::new()),
    };
    let (now, rows) = (stat.read(counters::stat)?, disks.read(counters::disks)?);
    let seconds = match options.seconds {
        Some(_) => began.elapsed().as_secs_f64(),
        None => crate::sys::clock::seconds_up(),
    };
    let ticks = now.all.since(&before.all);
    let cpu = record([
        ("user_percent", ticks.percent(ticks.user).into_script()),
        ("nice_percent", ticks.percent(ticks.nice).into_script()),
        ("system_percent", ticks.percent(ticks.system.saturating_add(ticks.irq).saturating_add(ticks.softirq)).into_script()),
        ("iowait_percent", ticks.percent(ticks.iowait).into_script()),
        ("steal_percent", ticks.percent(ticks.stolen).into_script()),
        ("idle_percent", ticks.percent(ticks.idle).into_script()),
    ]);
    let earlier: HashMap<&str, &Disk> = earlier.iter().map(|disk| (disk.name.as_str(), disk)).collect();
    let wanted = |disk: &&Disk| {
        options.device.as_ref().is_none_or(|names| names.contains(&disk.name)) && (options.all || disk.reads > 0 || disk.writes > 0)
    };
    let nothing = Disk::default();
    let devices: Vec<Map> =
        rows.iter().filter(wanted).map(|disk| rates(disk, earlier.get(disk.name.as_str()).copied().unwrap_or(&nothing), seconds)).collect();
    Ok(record([("cpu_stats", cpu.into_script()), ("device_stats", devices.into_script())]))
}

/// What iostat(1) shows with -x, by the names of the reference.
#[allow(clippy::cast_precision_loss, reason = "rates")]
fn rates(now: &Disk, then: &Disk, seconds: f64) -> Map {
    let less = |get: fn(&Disk) -> u64| get(now).saturating_sub(get(then)) as f64;
    let round = |number: f64| (number * 100.0).round() / 100.0;
    let per_second = |number: f64| if seconds > 0.0 { round(number / seconds) } else { 0.0 }.into_script();
    let ratio = |part: f64, whole: f64| if whole > 0.0 { round(part / whole) } else { 0.0 }.into_script();
    let (reads, writes) = (less(|disk| disk.reads), less(|disk| disk.writes));
    let (read_ms, write_ms, busy) = (less(|disk| disk.read_ms), less(|disk| disk.write_ms), less(|disk| disk.busy_ms));
    let (read_kb, written_kb) = (less(|disk| disk.sectors_read) / 2.0, less(|disk| disk.sectors_written) / 2.0);
    record([
        ("device_name", now.name.as_str().into_script()),
        ("rrqm_per_sec", per_second(less(|disk| disk.reads_merged))),
        ("wrqm_per_sec", per_second(less(|disk| disk.writes_merged))),
        ("read_requests_per_sec", per_second(reads)),
        ("write_requests_per_sec", per_second(writes)),
        ("rkb_per_sec", per_second(read_kb)),
        ("wkb_per_sec", per_second(written_kb)),
        ("avg_request_size", ratio(read_kb + written_kb, reads + writes)),
        ("avg_queue_size", per_second(less(|disk| disk.queue_ms) / 1000.0)),
        ("avg_wait", ratio(read_ms + write_ms, reads + writes)),
        ("avg_read_wait", ratio(read_ms, reads)),
        ("avg_write_wait", ratio(write_ms, writes)),
        ("svctm", ratio(busy, reads + writes)),
        ("util_percent", if seconds > 0.0 { round((busy / 10.0 / seconds).min(100.0)) } else { 0.0 }.into_script()),
        ("in_flight", now.in_flight.into_script()),
    ])
}

options! {
    /// Options of `vmstat`.
    VmstatOptions {
        seconds: Option<Duration> = None, "Measure over this time; without it the averages are those since the start of the machine.";
    }
}

const VMSTAT: Function = Function {
    name: "vmstat",
    doc: "Tasks, memory, paging and processors in one row, as vmstat(8) shows them: `/proc/stat`, `/proc/vmstat`, `/proc/meminfo`.\n\nA map: `running`, `blocked` (tasks, now), `swap_used`, `free`, `buffers`, `cached` (bytes, now), and per second `swap_in`, `swap_out`, `bytes_in`, `bytes_out` (from and to disks), `interrupts`, `switches`, `forks`, `faults`, `major_faults`; `user`, `system`, `idle`, `iowait`, `steal` (percent), and `oom_kills` (since the start of the machine; `()` before Linux 4.13).",
    body: &with1(vmstat, [param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported, Kind::BadData],
    examples: &[Example { given: &[], script: "let v = vmstat(#{seconds: 0.1}); v.free > 0 && v.idle <= 100.0", gives: "true" }],
};

#[allow(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "rates of counters that are never negative")]
fn vmstat(call: &Call<'_>, options: VmstatOptions) -> Result<Map> {
    let (stat, paging) = (Counted::open(call, "/proc/stat")?, Counted::open(call, "/proc/vmstat")?);
    let memory = Counted::open(call, "/proc/meminfo")?;
    let owned = |text: &str| Some(counters::pairs(text).into_iter().map(|(name, number)| (name.to_owned(), number)).collect());
    let began = Instant::now();
    let (before, earlier): (counters::Stat, BTreeMap<String, u64>) = match options.seconds {
        Some(seconds) => {
            let before = (stat.read(counters::stat)?, paging.read(owned)?);
            call.host.watch.sleep(seconds)?;
            before
        }
        None => Default::default(),
    };
    let (now, pages): (counters::Stat, BTreeMap<String, u64>) = (stat.read(counters::stat)?, paging.read(owned)?);
    let memory = crate::sys::proc::memory::of_text(&memory.text()?)?;
    let seconds = options.seconds.map_or_else(crate::sys::clock::seconds_up, |_| began.elapsed().as_secs_f64()).max(0.001);
    let rate = |less: f64| ((less / seconds * 100.0).round() / 100.0).into_script();
    let paged = |name: &str, unit: f64| {
        let count = |of: &BTreeMap<String, u64>| of.get(name).copied().unwrap_or(0);
        rate(count(&pages).saturating_sub(count(&earlier)) as f64 * unit)
    };
    let counted = |now: i64, before: i64| rate(now.saturating_sub(before).max(0) as f64);
    let page = rustix::param::page_size() as f64;
    let ticks: Ticks = now.all.since(&before.all);
    Ok(record([
        ("running", now.running.into_script()),
        ("blocked", now.blocked.into_script()),
        ("swap_used", memory.swap_used.into_script()),
        ("free", memory.free.into_script()),
        ("buffers", memory.buffers.into_script()),
        ("cached", memory.cached.into_script()),
        ("swap_in", paged("pswpin", page)),
        ("swap_out", paged("pswpout", page)),
        ("bytes_in", paged("pgpgin", 1024.0)),
        ("bytes_out", paged("pgpgout", 1024.0)),
        ("faults", paged("pgfault", 1.0)),
        ("major_faults", paged("pgmajfault", 1.0)),
        ("interrupts", counted(now.interrupts, before.interrupts)),
        ("switches", counted(now.switches, before.switches)),
        ("forks", counted(now.forks, before.forks)),
        ("user", ticks.percent(ticks.user.saturating_add(ticks.nice)).into_script()),
        ("system", ticks.percent(ticks.system.saturating_add(ticks.irq).saturating_add(ticks.softirq)).into_script()),
        ("idle", ticks.percent(ticks.idle).into_script()),
        ("iowait", ticks.percent(ticks.iowait).into_script()),
        ("steal", ticks.percent(ticks.stolen).into_script()),
        ("oom_kills", pages.get("oom_kill").copied().into_script()),
    ]))
}

options! {
    /// Options of `lsblk`.
    LsblkOptions {
        all: bool = false, "Also devices of size 0, such as loop devices that are not in use.";
    }
}

const LSBLK: Function = Function {
    name: "lsblk",
    doc: "The block devices: a map from the name of each whole device to a map.\n\nEach has `name`, `type` (disk, part, loop, rom, crypt, lvm, dm, md), `maj`, `min`, `size` (bytes), `size_kib`, `removable` and `read_only` (\"0\" or \"1\", as the reference has them), `rotational` (`()` of partitions), `mount_point` (the first one, or `[SWAP]`; `()` where it is not mounted), `mount_points`, `fs_kind` (of what is mounted) and `children` (an array of such maps: partitions, and what is made of the device). A device that is made of several is below each. Asks to read `/proc/partitions`, `/proc/mounts`, `/proc/swaps` and the files of each device below `/sys`.",
    body: &with1(lsblk, [param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported, Kind::BadData],
    examples: &[Example { given: &[], script: "lsblk().values().all(|d| d.size_kib > 0)", gives: "true" }],
};

/// A device as /sys shows it.
struct Device {
    name: String,
    major: u32,
    minor: u32,
    size: u64,
    kind: String,
    removable: String,
    read_only: String,
    rotational: Option<bool>,
    /// Names of the devices that it is a part of, or made of.
    below: Vec<String>,
}

/// Devices at most; the kernel has 2²⁰ minor numbers for each kind.
const DEVICES: usize = 20_000;
/// Devices of devices at most.
const DEPTH: usize = 16;

fn lsblk(call: &Call<'_>, options: LsblkOptions) -> Result<Map> {
    let partitions = File::locate(&AbsPath::new("/proc/partitions")?)?;
    let walk = call.walk::<Read>(&partitions)?;
    let text = |file: File| -> Result<String> {
        let granted = walk.permit(file).map_err(lacking)?;
        let bytes = crate::sys::file::read(&granted, 0, None, 4 << 20, &call.host.watch).map_err(lacking)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let partitions = text(partitions)?;
    let table = walk.permit(File::locate_with(&AbsPath::new("/proc/mounts")?, false)?)?;
    let mounts = crate::sys::proc::mounts::mounts(&table)?;
    let swaps = text(File::locate(&AbsPath::new("/proc/swaps")?)?)?;
    let swaps: Vec<&str> = swaps.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next()).collect();
    let mut devices = Vec::new();
    for line in partitions.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        call.check()?;
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [major, minor, _, name] = words.as_slice() else {
            return Err(Error::new(Kind::BadData, "the kernel's file does not have the form it should have").with_path("/proc/partitions"));
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        if let Some(device) = device(&walk, &text, name, major, minor, &call.host.watch)? {
            devices.push(device);
        }
        if devices.len() > DEVICES {
            return Err(Error::new(Kind::TooLarge, format!("more than {DEVICES} block devices")));
        }
    }
    walk.finish()?;
    devices.retain(|device| options.all || device.size > 0);
    let known: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    let tops = devices.iter().filter(|device| !device.below.iter().any(|below| known.contains(&below.as_str())));
    Ok(tops.map(|device| (device.name.as_str().into(), row(device, &devices, &mounts, &swaps, DEPTH).into_script())).collect())
}

/// Reads what /sys says of a device; nothing where it has gone meanwhile.
fn device(
    walk: &Walk<'_, Read>,
    text: &dyn Fn(File) -> Result<String>,
    name: &str,
    major: u32,
    minor: u32,
    watch: &Watch,
) -> Result<Option<Device>> {
    // The link leads to the device's own folder, whose path has the device in it that a partition is on.
    let folder = File::locate_dir(&AbsPath::new(format!("/sys/dev/block/{major}:{minor}"))?)?;
    if !folder.exists() {
        return Ok(None);
    }
    let place = AbsPath::new(folder.place())?;
    let read = |file: &str| -> Result<Option<String>> {
        match text(File::locate(&place.below(file.as_bytes()))?) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::Unsupported | Kind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let Some(sectors) = read("size")? else { return Ok(None) };
    let is_part = read("partition")?.is_some();
    let mut below = Vec::new();
    if is_part {
        let above = place.as_bytes().split(|byte| *byte == b'/').rev().nth(1);
        below.extend(above.map(|name| String::from_utf8_lossy(name).into_owned()));
    } else {
        let slaves = File::locate_dir(&place.below(b"slaves"))?;
        if slaves.exists() {
            let (names, _) = crate::sys::dir::names(&walk.permit(slaves)?, 1000, watch)?;
            below.extend(names.into_iter().map(|name| String::from_utf8_lossy(&name.bytes).into_owned()));
        }
    }
    let mapped = if name.starts_with("dm-") { read("dm/uuid")? } else { None };
    let kind = match mapped.as_deref().and_then(|uuid| uuid.split('-').next()) {
        _ if is_part => "part".to_owned(),
        Some("LVM") => "lvm".to_owned(),
        Some(kind) if kind.starts_with("CRYPT") => "crypt".to_owned(),
        Some(_) => "dm".to_owned(),
        None if name.starts_with("loop") => "loop".to_owned(),
        None if name.starts_with("md") => "md".to_owned(),
        None if name.starts_with("sr") => "rom".to_owned(),
        None => "disk".to_owned(),
    };
    Ok(Some(Device {
        name: name.to_owned(),
        major,
        minor,
        // Of 512 bytes, whatever the blocks of the device.
        size: sectors.parse::<u64>().unwrap_or(0).saturating_mul(512),
        kind,
        removable: if is_part { "0".to_owned() } else { read("removable")?.unwrap_or_else(|| "0".to_owned()) },
        read_only: read("ro")?.unwrap_or_else(|| "0".to_owned()),
        rotational: if is_part { None } else { read("queue/rotational")?.map(|text| text == "1") },
        below,
    }))
}

fn row(device: &Device, all: &[Device], mounts: &[crate::sys::proc::mounts::Mount], swaps: &[&str], depth: usize) -> Map {
    let here: Vec<_> = mounts
        .iter()
        .filter(|mount| (i128::from(mount.major), i128::from(mount.minor)) == (i128::from(device.major), i128::from(device.minor)))
        .collect();
    let mut points: Array = here.iter().map(|mount| name_value(mount.mount_point.as_os_str().as_bytes())).collect();
    if swaps.iter().any(|swap| swap.strip_prefix("/dev/") == Some(device.name.as_str())) {
        points.push("[SWAP]".into_script());
    }
    let children: Vec<Map> = if depth == 0 {
        Vec::new()
    } else {
        all.iter().filter(|child| child.below.contains(&device.name)).map(|child| row(child, all, mounts, swaps, depth - 1)).collect()
    };
    record([
        ("name", device.name.as_str().into_script()),
        ("type", device.kind.as_str().into_script()),
        ("maj", device.major.into_script()),
        ("min", device.minor.into_script()),
        ("size", device.size.into_script()),
        ("size_kib", (device.size / 1024).into_script()),
        ("removable", device.removable.as_str().into_script()),
        ("read_only", device.read_only.as_str().into_script()),
        ("rotational", device.rotational.into_script()),
        ("mount_point", points.first().cloned().unwrap_or(Dynamic::UNIT)),
        ("mount_points", points.into_script()),
        ("fs_kind", here.first().map(|mount| mount.kind.as_str()).into_script()),
        ("children", children.into_script()),
    ])
}
