//! What a run has used of each of its limits: what the watch counts, and what the kernel, the allocator and the broker know.

use super::{broker, memory, size};
use crate::limits::{Amount, Spent, Watch};
use std::time::Duration;

/// Every limit, in the order of rex.toml.
#[must_use]
pub fn all(watch: &Watch) -> Vec<Spent> {
    let limits = &watch.limits;
    let programs = broker::reading();
    let (own, own_most) = memory::used();
    let cpu = Amount::of_time(watch.cpu_of(cpu()));
    let count = Amount::Count;
    let file_size = count(size::reached());
    let mut rows = Vec::from(watch.counted());
    rows.extend([
        Spent { name: "cpu", limit: Amount::of_time(limits.cpu), now: cpu, most: cpu },
        // The run and its programs are held to it each for itself: what counts is who comes nearer.
        Spent {
            name: "memory",
            limit: count(limits.memory),
            now: count(own.max(programs.bytes.0)),
            most: count(own_most.max(programs.bytes.1)),
        },
        Spent { name: "file_size", limit: count(limits.file_size), now: file_size, most: file_size },
        Spent {
            name: "children",
            limit: count(limits.children.into()),
            now: count(programs.processes.0),
            most: count(programs.processes.1),
        },
    ]);
    rows.sort_by_key(|row| crate::config::limit_names().iter().position(|name| *name == row.name));
    rows
}

/// Processor time of this process and of the programs of its run.
#[must_use]
pub fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let own = Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0));
    own + broker::reading().cpu
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn every_limit_of_the_settings_is_told_in_their_order() {
        let watch = Watch::new(Limits::default());
        let names: Vec<&str> = all(&watch).iter().map(|spent| spent.name).collect();
        assert_eq!(names, crate::config::limit_names());
    }
}
