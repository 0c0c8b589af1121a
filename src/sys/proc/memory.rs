//! Memory and swap of the machine, and what the control group of this process allows of it.

use super::{int, odd, read_text};
use crate::error::Result;
use crate::policy::{Action, Granted};
use crate::resource::file::File;

/// free(1), in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub total: i64,
    /// Used for nothing at all.
    pub free: i64,
    /// What a new program could use without swapping; the number that matters.
    pub available: i64,
    /// `total` less `available`, as free(1) has it since procps 4.
    pub used: i64,
    pub buffers: i64,
    /// Page cache and the part of the kernel's caches that can be given back.
    pub cached: i64,
    /// Shared memory and tmpfs.
    pub shared_mem: i64,
    pub swap_total: i64,
    pub swap_free: i64,
    pub swap_used: i64,
}

/// The text of `/proc/meminfo`, understood.
///
/// # Errors
/// `bad_data` when it is something else.
pub fn of_text(text: &str) -> Result<Memory> {
    parse(text).ok_or_else(|| odd("/proc/meminfo"))
}

/// What the control groups of this process allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimit {
    /// The lowest limit of the groups this process is in, in bytes.
    pub limit: i64,
    /// What the group with that limit uses now.
    pub used: Option<i64>,
}

/// The bytes of a line of `/proc/meminfo`.
fn field(text: &str, name: &str) -> Option<i64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = rest.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(int(kib.saturating_mul(1024)))
}

fn parse(text: &str) -> Option<Memory> {
    let get = |name| field(text, name);
    let (total, free) = (get("MemTotal")?, get("MemFree")?);
    let (buffers, page_cache) = (get("Buffers").unwrap_or(0), get("Cached").unwrap_or(0));
    let cached = page_cache.saturating_add(get("SReclaimable").unwrap_or(0));
    // Kernels before 3.14 do not say what is available; this is what free(1) did for them.
    let available = get("MemAvailable").unwrap_or_else(|| free.saturating_add(buffers).saturating_add(cached)).min(total);
    let (swap_total, swap_free) = (get("SwapTotal").unwrap_or(0), get("SwapFree").unwrap_or(0));
    Some(Memory {
        total,
        free,
        available,
        used: total - available,
        buffers,
        cached,
        shared_mem: get("Shmem").unwrap_or(0),
        swap_total,
        swap_free,
        swap_used: swap_total.saturating_sub(swap_free),
    })
}

/// The path of this process in the control group tree of a controller: version 2, or else version 1.
fn own_group(controller: &str) -> Option<(bool, String)> {
    let text = read_text("/proc/self/cgroup").ok()?;
    let row = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?.to_owned(), parts.next()?.to_owned());
        Some((controllers, path))
    };
    let rows: Vec<_> = text.lines().filter_map(row).collect();
    let old = rows.iter().find(|(controllers, _)| controllers.split(',').any(|name| name == controller));
    match old {
        Some((_, path)) => Some((false, path.clone())),
        None => rows.into_iter().find(|(controllers, _)| controllers.is_empty()).map(|(_, path)| (true, path)),
    }
}

/// Every folder from the group's own up to the root of the tree, as seen from here.
fn upwards<'a>(base: &'a str, path: &'a str) -> impl Iterator<Item = String> + 'a {
    let path = path.trim_end_matches('/');
    // A path with `..` lies outside of this process's view of the tree; only the root is left to look at.
    let mut next = Some(if path.split('/').any(|part| part == "..") { "" } else { path });
    std::iter::from_fn(move || {
        let here = next?;
        next = here.rfind('/').and_then(|at| here.get(..at));
        Some(format!("{base}{here}"))
    })
}

/// The lowest memory limit above this process and what its group uses; nothing where there is no limit. The grant is on `/sys/fs/cgroup`.
#[must_use]
pub fn group_limit<A: Action<On = File>>(_: &Granted<A>) -> Option<GroupLimit> {
    let (unified, path) = own_group("memory")?;
    let (base, limit, used) = if unified {
        ("/sys/fs/cgroup", "memory.max", "memory.current")
    } else {
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
    };
    let number = |dir: &str, name: &str| read_text(&format!("{dir}/{name}")).ok()?.trim().parse::<u64>().ok();
    upwards(base, &path)
        // Version 1 says "no limit" with a number near 2^63.
        .filter_map(|dir| Some((number(&dir, limit).filter(|bytes| *bytes < 1 << 60)?, dir)))
        .min_by_key(|(bytes, _)| *bytes)
        .map(|(bytes, dir)| GroupLimit { limit: int(bytes), used: number(&dir, used).map(int) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn memory_of_this_machine_adds_up() {
        let memory = of_text(&read_text("/proc/meminfo").unwrap()).unwrap();
        assert!(memory.total > 0 && memory.free <= memory.total && memory.available <= memory.total, "{memory:?}");
        assert_eq!(memory.used, memory.total - memory.available);
        assert_eq!(memory.swap_used, memory.swap_total - memory.swap_free);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    600 kB\nBuffers: 10 kB\nCached: 200 kB\nSwapCached: 7 kB\nSwapTotal: 50 kB\nSwapFree: 20 kB\nShmem: 3 kB\nSReclaimable: 30 kB\n";
        let memory = parse(text).unwrap();
        assert_eq!((memory.total, memory.used, memory.cached), (1_024_000, 400 * 1024, 230 * 1024));
        assert_eq!((memory.swap_used, memory.shared_mem), (30 * 1024, 3 * 1024));
        assert_eq!(parse("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn groups_are_looked_at_from_the_inside_out_and_not_outside_of_the_tree() {
        assert_eq!(upwards("/base", "/a.slice/b.service").collect::<Vec<_>>(), ["/base/a.slice/b.service", "/base/a.slice", "/base"]);
        assert_eq!(upwards("/base", "/").collect::<Vec<_>>(), ["/base"]);
        assert_eq!(upwards("/base", "/../other").collect::<Vec<_>>(), ["/base"]);
    }
}
