//! What the machine is and how it is doing: names, load, processors, memory, filesystems.

use super::datetime::DateTime;
use super::file_read::Read;
use super::file_stat::Stat;
use super::function::{Call, Example, Function, param, with0, with1};
use super::value::{Array, Dynamic, IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result};
use crate::options;
use crate::policy::{Access, Action, ask};
use crate::resource::file::File;
use crate::resource::machine::Machine;
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::proc::mounts::{Answer, Mount};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[HOSTNAME, UNAME, UPTIME, LOADAVG, NPROC, FREE, DF];

/// `sysinfo::Action::"list"`: see the names, load and processors of this machine.
pub enum List {}
impl Action for List {
    type On = Machine;
    const NAMESPACE: &'static str = "sysinfo";
    const NAME: &'static str = "list";
    const APPLIES_TO: &'static [&'static str] = &["sysinfo::Sysinfo"];
    const GROUPS: &'static [&'static str] = &["SysinfoAction"];
    const DOC: &'static str = "See the names, addresses, load and processors of this machine.";
    const ACCESS: Access = Access::ReadOnly;
}

const HOSTNAME: Function = Function {
    name: "hostname",
    doc: "The name of this host, as the kernel has it. No name service is asked.",
    body: &with0(hostname, []),
    asks: &[ask::<List>()],
    fails: &[],
    examples: &[Example { given: &[], script: "hostname() == uname().nodename", gives: "true" }],
};

fn hostname(call: &Call<'_>) -> Result<String> {
    Ok(sys::proc::machine::hostname(&call.permit::<List>(Machine)?))
}

const UNAME: Function = Function {
    name: "uname",
    doc: "What uname(2) tells.\n\nA map: `kernel_name`, `nodename`, `kernel_release`, `kernel_version`, `machine`, `domainname`; `processor` and `hardware_platform` repeat `machine`, `operating_system` is `GNU/Linux`, as in uname(1).",
    body: &with0(uname, []),
    asks: &[ask::<List>()],
    fails: &[],
    examples: &[Example { given: &[], script: "uname().kernel_name", gives: r#""Linux""# }],
};

fn uname(call: &Call<'_>) -> Result<Map> {
    let name = sys::proc::machine::uname(&call.permit::<List>(Machine)?);
    Ok(record([
        ("kernel_name", name.kernel_name.into_script()),
        ("nodename", name.nodename.into_script()),
        ("kernel_release", name.kernel_release.into_script()),
        ("kernel_version", name.kernel_version.into_script()),
        ("processor", name.machine.clone().into_script()),
        ("hardware_platform", name.machine.clone().into_script()),
        ("machine", name.machine.into_script()),
        ("operating_system", "GNU/Linux".into_script()),
        ("domainname", name.domainname.into_script()),
    ]))
}

const UPTIME: Function = Function {
    name: "uptime",
    doc: "How long the machine has been running.\n\nA map: `seconds`, `boot_time` (a DateTime), `idle_seconds` (of all processors together), and the averages of [loadavg] as `one`, `five`, `fifteen`.",
    body: &with0(uptime, []),
    asks: &[ask::<List>()],
    fails: &[Kind::Unsupported],
    examples: &[Example { given: &[], script: "uptime().seconds > 0.0", gives: "true" }],
};

fn uptime(call: &Call<'_>) -> Result<Map> {
    let machine = call.permit::<List>(Machine)?;
    let (up, load) = (sys::proc::machine::uptime(&machine)?, sys::proc::machine::load(&machine)?);
    Ok(record([
        ("seconds", up.seconds.into_script()),
        ("boot_time", time(up.boot_time.saturating_mul(1000))),
        ("idle_seconds", up.idle_seconds.into_script()),
        ("one", load.one.into_script()),
        ("five", load.five.into_script()),
        ("fifteen", load.fifteen.into_script()),
    ]))
}

/// Milliseconds since 1970 as a script's DateTime.
pub(super) fn time(millis: i64) -> Dynamic {
    DateTime::from_epoch(millis.div_euclid(1000), millis.rem_euclid(1000) * 1_000_000).map_or(Dynamic::UNIT, IntoScript::into_script)
}

const LOADAVG: Function = Function {
    name: "loadavg",
    doc: "How much wants to run: `/proc/loadavg`.\n\nA map: `one`, `five`, `fifteen` (averages over so many minutes), `running` and `tasks` (now), `last_pid`.",
    body: &with0(loadavg, []),
    asks: &[ask::<List>()],
    fails: &[Kind::Unsupported],
    examples: &[Example { given: &[], script: "loadavg().tasks > 0", gives: "true" }],
};

fn loadavg(call: &Call<'_>) -> Result<Map> {
    let machine = call.permit::<List>(Machine)?;
    let load = sys::proc::machine::load(&machine)?;
    Ok(record([
        ("one", load.one.into_script()),
        ("five", load.five.into_script()),
        ("fifteen", load.fifteen.into_script()),
        ("running", load.running.into_script()),
        ("tasks", load.tasks.into_script()),
        ("last_pid", load.last_pid.into_script()),
    ]))
}

options! {
    /// Options of `nproc`.
    NprocOptions {
        all: bool = false, "All processors that are running, also those that this process may not use.";
    }
}

const NPROC: Function = Function {
    name: "nproc",
    doc: "How many processors there are to run on.",
    body: &with1(nproc, [param("options", "")]),
    asks: &[ask::<List>()],
    fails: &[Kind::Unsupported],
    examples: &[Example { given: &[], script: "nproc() >= 1 && nproc(#{all: true}) >= nproc()", gives: "true" }],
};

fn nproc(call: &Call<'_>, options: NprocOptions) -> Result<i64> {
    let machine = call.permit::<List>(Machine)?;
    let processors = sys::proc::machine::processors(&machine)?;
    Ok(if options.all { processors.online } else { processors.available })
}

options! {
    /// Options of `free`.
    FreeOptions {
        cgroup: bool = false, "Add `cgroup`: the lowest memory limit of the control groups that rex runs in and what is used of it, or `()`. Asks to read `/sys/fs/cgroup` too.";
    }
}

const FREE: Function = Function {
    name: "free",
    doc: "Memory and swap, in bytes.\n\nA map: `memory` with `total`, `used` (total less available), `free`, `available`, `buffers`, `cached`, `shared_mem`, and `swap` with `total`, `used`, `free`. Asks to read `/proc/meminfo`.",
    body: &with1(free, [param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::BadData],
    examples: &[Example { given: &[], script: "let m = free().memory; m.total == m.used + m.available", gives: "true" }],
};

fn free(call: &Call<'_>, options: FreeOptions) -> Result<Map> {
    let file = call.permit::<Read>(File::locate(&AbsPath::new("/proc/meminfo")?)?)?;
    let text = sys::file::read(&file, 0, None, 1 << 20, &call.host.watch)?;
    let memory = sys::proc::memory::of_text(&String::from_utf8_lossy(&text))?;
    let main = record([
        ("total", memory.total.into_script()),
        ("used", memory.used.into_script()),
        ("free", memory.free.into_script()),
        ("available", memory.available.into_script()),
        ("buffers", memory.buffers.into_script()),
        ("cached", memory.cached.into_script()),
        ("shared_mem", memory.shared_mem.into_script()),
    ]);
    let swap = record([
        ("total", memory.swap_total.into_script()),
        ("used", memory.swap_used.into_script()),
        ("free", memory.swap_free.into_script()),
    ]);
    let mut result = record([("memory", main.into_script()), ("swap", swap.into_script())]);
    if options.cgroup {
        let tree = call.permit::<Read>(File::locate_dir(&AbsPath::new("/sys/fs/cgroup")?)?)?;
        let limit = sys::proc::memory::group_limit(&tree);
        let limit = limit.map(|group| record([("limit", group.limit.into_script()), ("used", group.used.into_script())]));
        result.insert("cgroup".into(), limit.into_script());
    }
    Ok(result)
}

options! {
    /// Options of `df`.
    DfOptions {
        path: Option<AbsPath> = None, "Only the filesystem that holds this path.";
        all: bool = false, "Also filesystems without storage (proc, sysfs …), hidden ones and bind mounts of what is listed already.";
        local: bool = false, "Leave filesystems of other hosts out.";
        kind: Option<Vec<String>> = None, "Only these kinds, e.g. `ext4`.";
        timeout: Duration = Duration::from_secs(3), "How long one filesystem may take to answer.";
    }
}

const DF: Function = Function {
    name: "df",
    doc: "How full the filesystems are: an array of maps.\n\nEach has `device`, `kind`, `mounted_on`, `size`, `used`, `available` (bytes; what is reserved for root is in neither), `use_percent` (of used and available, rounded up, as df(1) shows it), `inodes`, `inodes_used`, `inodes_free`, `inodes_use_percent`, `options`, `read_only`, `remote`, `timed_out`. One that does not answer in time has `timed_out: true`, one that fails `error`, and their numbers are `()`. The reference's names (`fs_device`, `fs_kind`, `block_used`, `block_available`, `block_use_percent`, `iused`, `ifree`, `iuse_percent`, `kb_blocks`, `mb_blocks`, `mount_options`) are there as well. Asks to read `/proc/mounts`, and for `stat` on each mount point; those that are denied are left out.",
    body: &with1(df, [param("options", "")]),
    asks: &[ask::<Read>(), ask::<Stat>()],
    fails: &[Kind::NotFound, Kind::Unsupported],
    examples: &[
        Example { given: &[], script: "df(#{path: dir}).len()", gives: "1" },
        Example { given: &[], script: "df(#{path: dir})[0].size >= df(#{path: dir})[0].used", gives: "true" },
    ],
};

fn df(call: &Call<'_>, options: DfOptions) -> Result<Array> {
    Ok(mounts(call, &options)?.iter().map(|(mount, answer)| row(mount, answer).into_script()).collect())
}

/// The filesystems that the options and the policy leave, and how full they are.
pub(super) fn mounts(call: &Call<'_>, options: &DfOptions) -> Result<Vec<(Mount, Answer)>> {
    // The link itself, not where it leads: policies name `/proc/mounts`, not the number of this process.
    let table = File::locate_with(&AbsPath::new("/proc/mounts")?, false)?;
    let walk = call.walk::<Read>(&table)?;
    let mut mounts = sys::proc::mounts::mounts(&walk.permit(table)?)?;
    if let Some(path) = &options.path {
        let place = walk.permit_as::<Stat>(File::locate(path)?)?;
        let held = sys::proc::mounts::holding(&mounts, std::ffi::OsStr::from_bytes(place.resource().place())).cloned();
        mounts = held.into_iter().collect();
    }
    mounts.retain(|mount| wanted(mount, options));
    let mut denied = None;
    let mut permitted = Vec::with_capacity(mounts.len());
    for mount in mounts {
        call.check()?;
        // A mount point of the kernel's table is canonical; it is not looked at, for it might never answer.
        match walk.permit_as::<Stat>(File::unvisited_dir(AbsPath::new(mount.mount_point.as_os_str().as_bytes())?)) {
            Ok(granted) => permitted.push((mount, granted)),
            Err(error) if error.kind == Kind::Denied => denied = denied.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    if let (true, Some(error)) = (permitted.is_empty(), denied) {
        return Err(error);
    }
    let answers = sys::proc::mounts::usages(&permitted, options.timeout, &|| call.check())?;
    walk.finish()?;
    let mut seen = std::collections::HashSet::new();
    let mut rows = Vec::new();
    for ((mount, _), answer) in permitted.into_iter().zip(answers) {
        if matches!(answer, Answer::Hidden) && !options.all {
            continue;
        }
        // A bind mount shows the same filesystem again; the first mount stands for it, as in df(1).
        if !options.all && options.path.is_none() && !seen.insert((mount.major, mount.minor)) {
            continue;
        }
        rows.push((mount, answer));
    }
    Ok(rows)
}

fn wanted(mount: &Mount, options: &DfOptions) -> bool {
    (options.all || options.path.is_some() || !mount.is_pseudo())
        && !(options.local && mount.is_remote())
        && options.kind.as_ref().is_none_or(|kinds| kinds.contains(&mount.kind))
}

fn row(mount: &Mount, answer: &Answer) -> Map {
    let usage = if let Answer::Usage(usage) = answer { Some(usage) } else { None };
    let number = |get: fn(&sys::proc::mounts::Usage) -> i64| usage.map(get).into_script();
    let (device, kind) = (name_value(&mount.device), mount.kind.clone().into_script());
    let percent = usage.and_then(|usage| usage.use_percent).into_script();
    let inode_percent = usage.and_then(|usage| usage.inodes_use_percent).into_script();
    #[allow(clippy::cast_precision_loss, reason = "a percentage")]
    let float = |percent: Option<i64>| percent.map(|percent| percent as f64).into_script();
    let options = mount.options.clone().into_script();
    record([
        ("device", device.clone()),
        ("kind", kind.clone()),
        ("mounted_on", name_value(mount.mount_point.as_os_str().as_bytes())),
        ("size", number(|usage| usage.size)),
        ("used", number(|usage| usage.used)),
        ("available", number(|usage| usage.available)),
        ("use_percent", percent),
        ("inodes", number(|usage| usage.inodes)),
        ("inodes_used", number(|usage| usage.inodes_used)),
        ("inodes_free", number(|usage| usage.inodes_free)),
        ("inodes_use_percent", inode_percent),
        ("options", options.clone()),
        ("read_only", mount.is_read_only().into_script()),
        ("remote", mount.is_remote().into_script()),
        ("timed_out", matches!(answer, Answer::TimedOut).into_script()),
        ("hidden", matches!(answer, Answer::Hidden).into_script()),
        ("error", if let Answer::Failed(Error { message, .. }) = answer { message.clone().into_script() } else { Dynamic::UNIT }),
        ("fs_device", device),
        ("fs_kind", kind),
        ("block_used", number(|usage| usage.used)),
        ("block_available", number(|usage| usage.available)),
        ("block_use_percent", float(usage.and_then(|usage| usage.use_percent))),
        ("iused", number(|usage| usage.inodes_used)),
        ("ifree", number(|usage| usage.inodes_free)),
        ("iuse_percent", float(usage.and_then(|usage| usage.inodes_use_percent))),
        ("kb_blocks", number(|usage| usage.size / 1024)),
        ("mb_blocks", number(|usage| usage.size / (1 << 20))),
        ("mount_options", options),
    ])
}

#[cfg(test)]
mod tests;
