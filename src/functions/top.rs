//! Which processes use most: top. It asks for [`List`] per process.

use super::function::{Call, Example, Function, param, with1};
use super::processes::{List, map, permitted};
use super::value::{Array, IntoScript, Map, record};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Action, ask};
use crate::resource::process::Process;
use crate::sys::proc::process as kernel;
use std::collections::HashMap;
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[TOP];

options! {
    /// Options of `top`.
    TopOptions {
        seconds: Duration = Duration::from_secs(1), "Measure over this time.";
        by: String = "cpu".to_owned(), "What counts: `cpu`, `memory`, `swap`, `io` (bytes read from and written to disks meanwhile) or `threads`.";
        limit: u64 = 10, "How many processes.";
    }
}

const TOP: Function = Function {
    name: "top",
    doc: "The processes that use most, measured over a time: an array of maps, the largest first.\n\nThe keys are those of [ps], with `cpu` over that time. By `io` also `read_rate` and `write_rate` (bytes a second; `()` where the kernel does not tell this user, and those come last). Processes that the policy does not show are left out, as denials on record; if it shows none at all, that is a denial. What all of them use together is told by [cpu_stats], [free] and [iostat].",
    body: &with1(top, [param("options", "")]),
    asks: &[ask::<List>()],
    fails: &[Kind::Unsupported],
    examples: &[
        Example {
            given: &[],
            script: "let t = top(#{seconds: 0.05, limit: 3}); t.len() <= 3 && t[0].cpu >= t[t.len() - 1].cpu",
            gives: "true",
        },
        Example { given: &[], script: r#"top(#{seconds: 0, by: "memory", limit: 1}).len()"#, gives: "1" },
        Example { given: &[], script: r#"top(#{seconds: 0.05, by: "io", limit: 2}).len() <= 2"#, gives: "true" },
    ],
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Cpu,
    Memory,
    Swap,
    Io,
    Threads,
}

fn top(call: &Call<'_>, options: TopOptions) -> Result<Array> {
    let by = match options.by.as_str() {
        "cpu" => By::Cpu,
        "memory" => By::Memory,
        "swap" => By::Swap,
        "io" => By::Io,
        "threads" => By::Threads,
        _ => return Err(bad_argument("top: option `by`: expected `cpu`, `memory`, `swap`, `io` or `threads`")),
    };
    if call.host.gate.policies().hull(List::NAMESPACE, List::NAME).is_empty() {
        // Then the kernel keeps processes from this one too, and there is none to ask about but itself.
        drop(call.permit::<List>(Process::this())?);
    }
    let table = kernel::Table::open()?;
    let sample = table.sample(&|| call.check())?;
    let began = std::time::Instant::now();
    let before = if by == By::Io { traffic(call, &table)? } else { HashMap::new() };
    if !options.seconds.is_zero() {
        call.host.watch.sleep(options.seconds)?;
    }
    let table = kernel::Table::open()?;
    let rows = permitted(call, &table)?;
    let after = if by == By::Io { traffic(call, &table)? } else { HashMap::new() };
    let seconds = began.elapsed().as_secs_f64().max(1e-3);
    #[allow(clippy::cast_precision_loss, reason = "rates")]
    let rate = |row: &super::processes::Row| {
        let key = (row.process.pid, row.process.start_ticks);
        let now = after.get(&key)?;
        // What began meanwhile counts from its start.
        let then = before.get(&key).copied().unwrap_or_default();
        let per = |now: i64, then: i64| now.saturating_sub(then).max(0) as f64 / seconds;
        Some((per(now.0, then.0), per(now.1, then.1)))
    };
    #[allow(clippy::cast_precision_loss, reason = "only their order matters")]
    let weight = |row: &super::processes::Row| match by {
        By::Cpu => sample.percent(&row.process, row.read_at),
        By::Memory => row.process.memory as f64,
        By::Swap => row.process.swap as f64,
        By::Threads => row.process.threads as f64,
        By::Io => rate(row).map_or(-1.0, |(read, written)| read + written),
    };
    let mut ranked: Vec<(f64, super::processes::Row)> = rows.into_iter().map(|row| (weight(&row), row)).collect();
    ranked.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    ranked.truncate(usize::try_from(options.limit).unwrap_or(usize::MAX));
    let total = crate::sys::proc::machine::total_memory();
    let shown = |(_, row): &(f64, super::processes::Row)| {
        let mut map: Map = map(row, Some(&sample), total);
        if by == By::Io {
            let (read, written) = rate(row).unzip();
            map.extend(record([("read_rate", read.into_script()), ("write_rate", written.into_script())]));
        }
        map.into_script()
    };
    Ok(ranked.iter().map(shown).collect())
}

/// Bytes read from and written to disks so far, of each process whose figures the kernel tells.
fn traffic(call: &Call<'_>, table: &kernel::Table) -> Result<HashMap<(i64, u64), (i64, i64)>> {
    let wanted = kernel::Wanted { io: true, max_command: 0, ..kernel::Wanted::default() };
    let mut found = HashMap::new();
    for pid in table.pids(&|| call.check())? {
        call.check()?;
        let Some(process) = table.read(pid, &wanted)? else { continue };
        if let Some(io) = process.io {
            found.insert((process.pid, process.start_ticks), (io.read_bytes, io.write_bytes));
        }
    }
    Ok(found)
}
