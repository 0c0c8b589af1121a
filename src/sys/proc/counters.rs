//! The kernel's counters as texts of proc(5) have them: processors, disks, memory, interrupts, pressure, slabs. Pure: text in, numbers out.

use super::int;
use std::collections::BTreeMap;

/// Ticks that a processor spent since the machine started, as `/proc/stat` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    pub user: u64,
    pub nice: u64,
    pub system: u64,
    pub idle: u64,
    pub iowait: u64,
    pub irq: u64,
    pub softirq: u64,
    pub stolen: u64,
    /// Part of `user` and `nice`.
    pub guest: u64,
    pub guest_nice: u64,
}

impl Ticks {
    /// All of them; guests are counted in `user` and `nice` already.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.user, self.nice, self.system, self.idle, self.iowait, self.irq, self.softirq, self.stolen]
            .iter()
            .fold(0, |sum: u64, part| sum.saturating_add(*part))
    }
    /// What was spent since an earlier look. Counters that went back (iowait can) count as nothing.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let less = |get: fn(&Self) -> u64| get(self).saturating_sub(get(earlier));
        Self {
            user: less(|ticks| ticks.user),
            nice: less(|ticks| ticks.nice),
            system: less(|ticks| ticks.system),
            idle: less(|ticks| ticks.idle),
            iowait: less(|ticks| ticks.iowait),
            irq: less(|ticks| ticks.irq),
            softirq: less(|ticks| ticks.softirq),
            stolen: less(|ticks| ticks.stolen),
            guest: less(|ticks| ticks.guest),
            guest_nice: less(|ticks| ticks.guest_nice),
        }
    }
    /// A part in percent of all, to a hundredth; 0 where nothing was spent.
    #[must_use]
    pub fn percent(&self, part: u64) -> f64 {
        let total = self.total();
        if total == 0 { 0.0 } else { (part as f64 / total as f64 * 10_000.0).round() / 100.0 }
    }
}

/// `/proc/stat`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub all: Ticks,
    /// By number of the processor.
    pub each: Vec<(i64, Ticks)>,
    pub running: i64,
    pub blocked: i64,
    pub switches: i64,
    pub interrupts: i64,
    pub forks: i64,
    /// Seconds since 1970.
    pub boot_time: i64,
}

/// Nothing for a text of another form.
#[must_use]
pub fn stat(text: &str) -> Option<Stat> {
    let mut stat = Stat::default();
    let mut found = false;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?;
        if let Some(cpu) = name.strip_prefix("cpu") {
            let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
            let [user, nice, system, idle, rest @ ..] = numbers.as_slice() else { return None };
            let at = |at: usize| rest.get(at).copied().unwrap_or(0);
            let ticks = Ticks {
                user: *user,
                nice: *nice,
                system: *system,
                idle: *idle,
                iowait: at(0),
                irq: at(1),
                softirq: at(2),
                stolen: at(3),
                guest: at(4),
                guest_nice: at(5),
            };
            if cpu.is_empty() {
                stat.all = ticks;
                found = true;
            } else {
                stat.each.push((cpu.parse().ok()?, ticks));
            }
            continue;
        }
        let number = words.next().and_then(|word| word.parse::<u64>().ok()).map_or(0, int);
        match name {
            "intr" => stat.interrupts = number,
            "ctxt" => stat.switches = number,
            "btime" => stat.boot_time = number,
            "processes" => stat.forks = number,
            "procs_running" => stat.running = number,
            "procs_blocked" => stat.blocked = number,
            _ => {}
        }
    }
    found.then_some(stat)
}

/// A line of `/proc/diskstats`; sectors are of 512 bytes whatever those of the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub name: String,
    pub reads: u64,
    pub reads_merged: u64,
    pub sectors_read: u64,
    pub read_ms: u64,
    pub writes: u64,
    pub writes_merged: u64,
    pub sectors_written: u64,
    pub write_ms: u64,
    /// Requests under way now.
    pub in_flight: u64,
    /// While at least one was under way.
    pub busy_ms: u64,
    /// The same weighed with how many.
    pub queue_ms: u64,
}

/// Nothing for a text of another form.
#[must_use]
pub fn disks(text: &str) -> Option<Vec<Disk>> {
    text.lines()
        .map(|line| {
            let mut words = line.split_ascii_whitespace().skip(2);
            let name = words.next()?.to_owned();
            let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
            let [
                reads,
                reads_merged,
                sectors_read,
                read_ms,
                writes,
                writes_merged,
                sectors_written,
                write_ms,
                in_flight,
                busy_ms,
                queue_ms,
                ..,
            ] = *numbers.as_slice()
            else {
                return None;
            };
            Some(Disk {
                name,
                reads,
                reads_merged,
                sectors_read,
                read_ms,
                writes,
                writes_merged,
                sectors_written,
                write_ms,
                in_flight,
                busy_ms,
                queue_ms,
            })
        })
        .collect()
}

/// `name number` per line: `/proc/vmstat`.
#[must_use]
pub fn pairs(text: &str) -> BTreeMap<&str, u64> {
    text.lines().filter_map(|line| line.split_once(' ')).filter_map(|(name, number)| Some((name, number.trim().parse().ok()?))).collect()
}

/// A line of `/proc/interrupts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// A number, or letters for those of the architecture (`NMI`, `LOC`).
    pub name: String,
    /// Of each processor that is running.
    pub counts: Vec<i64>,
    /// What is behind it, as the kernel writes it.
    pub source: String,
}

/// Nothing for a text of another form.
#[must_use]
pub fn interrupts(text: &str) -> Option<Vec<Interrupt>> {
    let mut lines = text.lines();
    let processors = lines.next()?.split_ascii_whitespace().filter(|word| word.starts_with("CPU")).count();
    lines
        .map(|line| {
            let (name, rest) = line.split_once(':')?;
            let words: Vec<&str> = rest.split_ascii_whitespace().collect();
            let counts: Vec<i64> = words.iter().take(processors).map_while(|word| word.parse::<u64>().ok()).map(int).collect();
            let source = words.get(counts.len()..).unwrap_or_default().join(" ");
            Some(Interrupt { name: name.trim().to_owned(), counts, source })
        })
        .collect()
}

/// A line of `/proc/pressure/*` (Documentation/accounting/psi.rst of the kernel): shares of time in percent, and microseconds since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Stalled {
    /// `some`: at least one task waited; `full`: all did.
    pub who: String,
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total_us: i64,
}

/// Nothing for a text of another form.
#[must_use]
pub fn pressure(text: &str) -> Option<Vec<Stalled>> {
    text.lines()
        .map(|line| {
            let (who, rest) = line.split_once(' ')?;
            let word = |name: &str| rest.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            let share = |name: &str| word(name)?.parse::<f64>().ok();
            Some(Stalled {
                who: who.to_owned(),
                avg10: share("avg10")?,
                avg60: share("avg60")?,
                avg300: share("avg300")?,
                total_us: int(word("total")?.parse().ok()?),
            })
        })
        .collect()
}

/// A line of `/proc/modules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    pub name: String,
    pub size: i64,
    /// How often it is in use; nothing for one that cannot be unloaded.
    pub uses: Option<i64>,
    pub used_by: Vec<String>,
    /// `live`, `loading` or `unloading`.
    pub state: String,
    /// Its letters for what it taints the kernel with, e.g. `OE`.
    pub taints: String,
}

/// Nothing for a text of another form.
#[must_use]
pub fn modules(text: &str) -> Option<Vec<Module>> {
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [name, size, uses, used_by, state, rest @ ..] = words.as_slice() else { return None };
            let taints = rest.iter().find_map(|word| word.strip_prefix('(')?.strip_suffix(')')).unwrap_or_default();
            Some(Module {
                name: (*name).to_owned(),
                size: int(size.parse().ok()?),
                uses: uses.parse::<u64>().ok().map(int),
                used_by: used_by.split(',').filter(|user| !matches!(*user, "" | "-" | "[permanent]")).map(str::to_owned).collect(),
                state: state.to_lowercase(),
                taints: taints.to_owned(),
            })
        })
        .collect()
}

/// A line of `/proc/slabinfo` (slabinfo(5)), version 2.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slab {
    pub name: String,
    pub active: u64,
    pub objects: u64,
    /// Bytes of an object.
    pub object_size: u64,
    pub per_slab: u64,
    pub pages_per_slab: u64,
    pub active_slabs: u64,
    pub slabs: u64,
}

/// Nothing for a text of another form or version.
#[must_use]
pub fn slabs(text: &str) -> Option<Vec<Slab>> {
    let mut lines = text.lines();
    if lines.next()?.trim() != "slabinfo - version: 2.1" {
        return None;
    }
    lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (front, back) = line.split_once(": slabdata")?;
            let words: Vec<&str> = front.split_ascii_whitespace().collect();
            // Names of caches have no blank in them, but nothing forbids it: the numbers are counted from the colon.
            let numbers = words.iter().position(|word| *word == ":")?;
            let at = |back: usize| numbers.checked_sub(back).and_then(|at| words.get(at)?.parse::<u64>().ok());
            let name = words.get(..numbers.checked_sub(5)?)?.join(" ");
            let mut data = back.split_ascii_whitespace().map(str::parse::<u64>);
            Some(Slab {
                name,
                active: at(5)?,
                objects: at(4)?,
                object_size: at(3)?,
                per_slab: at(2)?,
                pages_per_slab: at(1)?,
                active_slabs: data.next()?.ok()?,
                slabs: data.next()?.ok()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_texts_of_this_kernel_are_read() {
        let text = |path: &str| std::fs::read_to_string(path).ok();
        let is = stat(&text("/proc/stat").unwrap()).unwrap();
        assert!(is.all.total() > 0 && !is.each.is_empty() && is.switches > 0 && is.boot_time > 0, "{is:?}");
        assert!(text("/proc/diskstats").is_none_or(|text| disks(&text).is_some()));
        assert!(text("/proc/interrupts").is_none_or(|text| interrupts(&text).is_some_and(|rows| !rows.is_empty())));
        assert!(text("/proc/pressure/memory").is_none_or(|text| pressure(&text).is_some_and(|rows| rows[0].who == "some")));
        assert!(text("/proc/slabinfo").is_none_or(|text| slabs(&text).is_some_and(|rows| rows.len() > 10)));
        assert!(pairs(&text("/proc/vmstat").unwrap()).contains_key("pgpgin"));
    }

    #[test]
    fn odd_lines_are_refused_or_read_as_they_are() {
        assert_eq!(stat("cpu 1 2 3\n"), None);
        assert_eq!(stat(""), None);
        let old = stat("cpu 1 2 3 4\nbtime 5\n").unwrap();
        assert_eq!((old.all.total(), old.all.percent(1), old.boot_time), (10, 10.0, 5));
        assert_eq!(old.all.since(&Ticks { user: 7, ..Ticks::default() }).user, 0);
        assert_eq!(disks("8 0 sda 1 2 3\n"), None);
        let rows = interrupts("    CPU0 CPU1\n  1: 2 3 IO-APIC 1-edge i8042\nERR: 0\n").unwrap();
        assert_eq!(
            (rows[0].counts.as_slice(), rows[0].source.as_str(), rows[1].counts.as_slice()),
            (&[2, 3][..], "IO-APIC 1-edge i8042", &[0][..])
        );
        assert_eq!(pressure("some avg10=x\n"), None);
        let rows = modules("vboxdrv 524288 2 vboxnetadp,vboxnetflt, Live 0x0 (OE)\nloop 4096 0 - Live 0x0\n").unwrap();
        assert_eq!((rows[0].taints.as_str(), rows[0].used_by.len(), rows[1].used_by.len(), rows[1].uses), ("OE", 2, 0, Some(0)));
        assert_eq!(slabs("slabinfo - version: 1.0\n"), None);
        let rows = slabs("slabinfo - version: 2.1\n# name\nkmalloc 8 7 16 256 1 : tunables 0 0 0 : slabdata 1 2 0\n").unwrap();
        assert_eq!((rows[0].name.as_str(), rows[0].active, rows[0].objects, rows[0].slabs), ("kmalloc", 8, 7, 2));
    }
}
