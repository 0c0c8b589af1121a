//! More about the machine: its processors, its clock and zone, whether it should be started anew. They ask for [`List`].

use super::function::{Call, Example, Function, param, with0, with1};
use super::machine::{List, time};
use super::process::limits_map;
use super::processes::on_process;
use super::value::{IntoScript, Map, record};
use crate::error::{Error, Kind, Result};
use crate::policy::ask;
use crate::resource::machine::Machine;
use crate::sys;

pub const FUNCTIONS: &[Function] = &[LSCPU, REBOOT_REQUIRED, TIMEZONE, CLOCK, LIMITS];

const LSCPU: Function = Function {
    name: "lscpu",
    doc: "The processors of the machine, as lscpu(1) tells them.\n\nA map: `architecture`, `count` (running), `online` and `offline` (lists such as `0-3`), `vendor`, `model_name`, `family`, `model`, `stepping`, `microcode`, `sockets`, `cores_per_socket`, `threads_per_core`, `numa_nodes`, `mhz`, `min_mhz`, `max_mhz`, `caches` (of the first one: an array of maps `level`, `type`, `size` in bytes, `shared_by`), `flags` (an array), `virtual` (whether it is a virtual machine, `()` where processors do not tell), `vulnerabilities` (a map from each to what the kernel does about it). What is not known is `()`.",
    body: &with0(lscpu, []),
    asks: &[ask::<List>()],
    fails: &[Kind::Unsupported],
    examples: &[Example {
        given: &[],
        script: "lscpu().count == nproc(#{all: true}) && lscpu().architecture == uname().machine",
        gives: "true",
    }],
};

fn lscpu(call: &Call<'_>) -> Result<Map> {
    let machine = call.permit::<List>(Machine)?;
    let found = sys::proc::processor::processors(&machine)?;
    let architecture = sys::proc::machine::uname(&machine).machine;
    let cache = |cache: sys::proc::processor::Cache| {
        record([
            ("level", cache.level.into_script()),
            ("type", cache.kind.into_script()),
            ("size", cache.size.into_script()),
            ("shared_by", cache.shared_by.into_script()),
        ])
    };
    // Only x86 says so among its flags.
    let is_virtual = found.vendor.is_some() && matches!(architecture.as_str(), "x86_64" | "i686");
    let is_virtual = is_virtual.then(|| found.flags.iter().any(|flag| flag == "hypervisor"));
    let weak: Map = found.vulnerabilities.into_iter().map(|(name, text)| (name.into(), text.into_script())).collect();
    Ok(record([
        ("architecture", architecture.into_script()),
        ("count", found.count.into_script()),
        ("online", found.online.into_script()),
        ("offline", found.offline.into_script()),
        ("vendor", found.vendor.into_script()),
        ("model_name", found.model_name.into_script()),
        ("family", found.family.into_script()),
        ("model", found.model.into_script()),
        ("stepping", found.stepping.into_script()),
        ("microcode", found.microcode.into_script()),
        ("sockets", found.sockets.into_script()),
        ("cores_per_socket", found.cores_per_socket.into_script()),
        ("threads_per_core", found.threads_per_core.into_script()),
        ("numa_nodes", found.numa_nodes.into_script()),
        ("mhz", found.mhz.into_script()),
        ("min_mhz", found.min_mhz.into_script()),
        ("max_mhz", found.max_mhz.into_script()),
        ("caches", found.caches.into_iter().map(cache).collect::<Vec<Map>>().into_script()),
        ("flags", found.flags.into_script()),
        ("virtual", is_virtual.into_script()),
        ("vulnerabilities", weak.into_script()),
    ]))
}

const REBOOT_REQUIRED: Function = Function {
    name: "reboot_required",
    doc: "Whether the machine should be started anew after updates.\n\nA map: `required`, `reasons` (an array of words: `marked` where the package manager says so in `/run/reboot-required`, `newer_kernel` where a newer kernel is installed than the one that runs), `packages` (on whose account, as `/run/reboot-required.pkgs` names them), `running_kernel`, `newest_kernel` (`()` where none is installed, as in containers). Services that run with replaced libraries are not looked for.",
    body: &with0(reboot_required, []),
    asks: &[ask::<List>()],
    fails: &[],
    examples: &[Example {
        given: &[],
        script: "let r = reboot_required(); r.required == (r.reasons.len() > 0) && r.running_kernel == uname().kernel_release",
        gives: "true",
    }],
};

fn reboot_required(call: &Call<'_>) -> Result<Map> {
    let found = sys::proc::restart::required(&call.permit::<List>(Machine)?);
    let mut reasons = Vec::new();
    if found.marked {
        reasons.push("marked".to_owned());
    }
    if found.newer_kernel() {
        reasons.push("newer_kernel".to_owned());
    }
    Ok(record([
        ("required", (!reasons.is_empty()).into_script()),
        ("reasons", reasons.into_script()),
        ("packages", found.packages.into_script()),
        ("running_kernel", found.running.into_script()),
        ("newest_kernel", found.newest.into_script()),
    ]))
}

const TIMEZONE: Function = Function {
    name: "timezone",
    doc: "The time zone of this host, as `/etc/localtime` has it.\n\nA map: `name` (such as `Europe/Berlin`; `()` where the file does not tell), `abbreviation` and `offset` (now; seconds east of UTC), `summer_time`.",
    body: &with0(timezone, []),
    asks: &[ask::<List>()],
    fails: &[],
    examples: &[Example { given: &[], script: "timezone().offset.abs() <= 50400", gives: "true" }],
};

fn timezone(call: &Call<'_>) -> Result<Map> {
    let zone = sys::clock::zone(&call.permit::<List>(Machine)?);
    Ok(record([
        ("name", zone.name.into_script()),
        ("abbreviation", zone.abbreviation.into_script()),
        ("offset", zone.offset.into_script()),
        ("summer_time", zone.summer.into_script()),
    ]))
}

const CLOCK: Function = Function {
    name: "clock",
    doc: "How the clock of this host is kept: adjtimex(2).\n\nA map: `now` (a DateTime), `synchronized` (whether NTP, PTP or a hypervisor keeps it right), `offset` (seconds that are still to be set right), `max_error` and `estimated_error` (seconds), `frequency_ppm`, `tai_offset` (seconds; 0 where the kernel was not told), `leap` (`insert` or `delete` where the day ends with a leap second, else `()`). Another clock is not asked.",
    body: &with0(clock, []),
    asks: &[ask::<List>()],
    fails: &[Kind::Permission, Kind::Unsupported],
    examples: &[Example { given: &[], script: "clock().max_error >= 0.0", gives: "true" }],
};

fn clock(call: &Call<'_>) -> Result<Map> {
    let kept = sys::clock::kept(&call.permit::<List>(Machine)?)?;
    Ok(record([
        ("now", time(sys::clock::now_millis())),
        ("synchronized", kept.synchronized.into_script()),
        ("offset", kept.offset.into_script()),
        ("max_error", kept.max_error.into_script()),
        ("estimated_error", kept.estimated_error.into_script()),
        ("frequency_ppm", kept.frequency_ppm.into_script()),
        ("tai_offset", kept.tai_offset.into_script()),
        ("leap", kept.leap.map(str::to_owned).into_script()),
    ]))
}

const LIMITS: Function = Function {
    name: "limits",
    doc: "The limits that the kernel holds a process to (getrlimit(2)); without a number, rex itself.\n\nA map from the name of each, such as `open_files`, to a map `soft`, `hard`, `unit`; `()` is unlimited. What a run may use is told by [limits_left].",
    body: &with1(limits, [param("pid", "The process id; rex itself if left out.")]),
    asks: &[ask::<super::processes::List>()],
    fails: &[Kind::NotFound, Kind::Unsupported],
    examples: &[
        Example { given: &[], script: "limits().core_file_size.hard", gives: "0" },
        Example { given: &[], script: "limits(1).open_files.unit", gives: r#""files""# },
    ],
};

fn limits(call: &Call<'_>, pid: Option<i64>) -> Result<Map> {
    let pid = pid.unwrap_or_else(|| crate::resource::process::Process::this().pid);
    let (seen, ..) = on_process::<super::processes::List>(call, pid, Vec::new())?;
    let table = sys::proc::process::Table::open()?;
    let found = sys::proc::details::of(&table, &seen)?.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no process {pid}")))?;
    Ok(limits_map(found.limits))
}
