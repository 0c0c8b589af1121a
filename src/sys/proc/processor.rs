//! The processors of the machine as lscpu(1) tells them: `/proc/cpuinfo` and `/sys/devices/system/cpu`.

use super::{int, read_text};
use crate::error::Result;
use crate::policy::{Action, Granted};
use crate::resource::machine::Machine;
use std::collections::{BTreeMap, BTreeSet};

const ROOT: &str = "/sys/devices/system/cpu";

/// What is not told is nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Processors {
    pub online: Option<String>,
    pub offline: Option<String>,
    pub count: i64,
    pub vendor: Option<String>,
    pub model_name: Option<String>,
    pub family: Option<String>,
    pub model: Option<String>,
    pub stepping: Option<String>,
    pub microcode: Option<String>,
    pub sockets: Option<i64>,
    pub cores_per_socket: Option<i64>,
    pub threads_per_core: Option<i64>,
    pub numa_nodes: Option<i64>,
    pub mhz: Option<f64>,
    pub min_mhz: Option<i64>,
    pub max_mhz: Option<i64>,
    pub caches: Vec<Cache>,
    pub flags: Vec<String>,
    /// Weaknesses that the kernel knows of, and what it does about each.
    pub vulnerabilities: Vec<(String, String)>,
}

/// A cache of the first processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    pub level: i64,
    /// Data, Instruction or Unified.
    pub kind: String,
    /// Bytes.
    pub size: i64,
    /// Processors that share it.
    pub shared_by: i64,
}

/// # Errors
/// What reading `/proc/cpuinfo` reports.
pub fn processors<A: Action<On = Machine>>(_: &Granted<A>) -> Result<Processors> {
    look()
}

fn look() -> Result<Processors> {
    let info = info(&read_text("/proc/cpuinfo")?);
    let get =
        |names: &[&str]| names.iter().find_map(|name| info.get(*name)).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let file = |name: &str| read_text(&format!("{ROOT}/{name}")).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let online = file("online");
    let numbers = online.as_deref().and_then(list).unwrap_or_default();
    let (mut sockets, mut cores) = (BTreeSet::new(), BTreeSet::new());
    for cpu in &numbers {
        let topology = |name: &str| file(&format!("cpu{cpu}/topology/{name}"));
        if let (Some(socket), Some(core)) = (topology("physical_package_id"), topology("core_id")) {
            cores.insert((socket.clone(), core));
            sockets.insert(socket);
        }
    }
    let count = |number: usize| Some(int(number as u64)).filter(|number| *number > 0);
    let per = |all: usize, of: usize| all.checked_div(of).and_then(count);
    let frequency = |name: &str| file(&format!("cpu0/cpufreq/{name}")).and_then(|text| text.parse::<i64>().ok()).map(|khz| khz / 1000);
    let flags = get(&["flags", "Features", "isa"]).unwrap_or_default();
    Ok(Processors {
        count: int(numbers.len() as u64),
        offline: file("offline"),
        vendor: get(&["vendor_id", "CPU implementer", "vendor"]),
        model_name: get(&["model name", "Model", "cpu", "uarch"]),
        family: get(&["cpu family", "CPU architecture"]),
        model: get(&["model", "CPU part"]),
        stepping: get(&["stepping", "CPU revision"]),
        microcode: get(&["microcode"]),
        sockets: count(sockets.len()),
        cores_per_socket: per(cores.len(), sockets.len()),
        threads_per_core: per(numbers.len(), cores.len()),
        numa_nodes: read_text("/sys/devices/system/node/online")
            .ok()
            .and_then(|text| list(text.trim()))
            .and_then(|nodes| count(nodes.len())),
        mhz: get(&["cpu MHz"]).and_then(|text| text.parse().ok()),
        min_mhz: frequency("cpuinfo_min_freq"),
        max_mhz: frequency("cpuinfo_max_freq"),
        caches: caches(&file),
        flags: flags.split_ascii_whitespace().map(str::to_owned).collect(),
        vulnerabilities: vulnerabilities(&file),
        online,
    })
}

/// The rows of the first processor, by name; rows behind the last one (`Hardware` of ARM) too.
fn info(text: &str) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
        rows.entry(name.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
    }
    rows
}

/// The numbers of a list like `0-3,8`; no more than a kernel can have.
fn list(text: &str) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u32, u32) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        if to >= 1 << 16 {
            return None;
        }
        found.extend(from..=to);
    }
    Some(found)
}

fn caches(file: &dyn Fn(&str) -> Option<String>) -> Vec<Cache> {
    let one = |index: u32| {
        let row = |name: &str| file(&format!("cpu0/cache/index{index}/{name}"));
        let size = row("size")?;
        let (digits, unit) = size.split_at(size.find(|c: char| !c.is_ascii_digit()).unwrap_or(size.len()));
        let unit = match unit {
            "" => 1,
            "K" => 1 << 10,
            "M" => 1 << 20,
            _ => return None,
        };
        Some(Cache {
            level: row("level")?.parse().ok()?,
            kind: row("type")?,
            size: digits.parse::<i64>().ok()?.checked_mul(unit)?,
            shared_by: row("shared_cpu_list").and_then(|text| list(&text)).map_or(1, |cpus| int(cpus.len() as u64)),
        })
    };
    (0..16).filter_map(one).collect()
}

/// A file for each (Documentation/ABI/testing/sysfs-devices-system-cpu).
fn vulnerabilities(file: &dyn Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let Ok(folder) = super::open_dir(&format!("{ROOT}/vulnerabilities")) else { return Vec::new() };
    let names = rustix::fs::Dir::read_from(folder).ok().into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned)).filter(|name| !name.starts_with('.'));
    let mut found: Vec<(String, String)> =
        names.filter_map(|name| file(&format!("vulnerabilities/{name}")).map(|text| (name, text))).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_machine_has_processors() {
        let found = look().unwrap();
        assert!(found.count >= 1 && found.online.is_some(), "{found:?}");
        assert!(found.threads_per_core.is_none_or(|threads| threads >= 1));
    }

    #[test]
    fn the_first_row_of_a_name_counts() {
        let rows = info("processor\t: 0\nmodel name\t: A B\n\nprocessor\t: 1\nmodel name\t: C\nHardware\t: X\n");
        assert_eq!((rows.get("model name").map(String::as_str), rows.get("Hardware").map(String::as_str)), (Some("A B"), Some("X")));
        assert_eq!((list("0-2,5"), list("x"), list("0-4294967295")), (Some(vec![0, 1, 2, 5]), None, None));
    }
}
