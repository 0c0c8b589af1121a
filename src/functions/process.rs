//! One process at length, and processes by what they are called. They ask for [`List`].

use super::function::{Call, Example, Function, param, with1, with2};
use super::lines::pattern as expression;
use super::processes::{List, PsOptions, Row, map, more, on_process, permitted, user_name};
use super::value::{IntoScript, Map, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::ask;
use crate::resource::process::Process;
use crate::sys::proc::details;
use crate::sys::proc::process as kernel;
use std::time::Instant;

pub const FUNCTIONS: &[Function] = &[PROCESS, PGREP];

const PROCESS: Function = Function {
    name: "process",
    doc: "All about one process: a map.\n\nThe keys of a row of [ps], `io`, `wchan` and `tasks` as with its options, and `exe` (its program, `()` where the kernel does not tell this user), `umask`, `limits` (a map from the name of \
          each limit, such as `open_files`, to `soft`, `hard` and `unit`; `()` is unlimited), `capabilities` (`effective`, `permitted`, `bounding`, as hexadecimal numbers), `no_new_privileges`, `seccomp` (0 none, 1 strict, 2 filter), \
          `voluntary_switches`, `involuntary_switches`, `oom_score`, `oom_score_adj`, `memory_peak`, `memory_locked` and `memory_shared` (bytes), `memory_parts` (a map of bytes: `rss`, `pss`, `private_dirty`, `swap` …, as in proc_pid_smaps(5); empty where the kernel does not tell), \
          `namespaces` (a map from `net`, `mnt`, `pid` … to the kernel's name of it; two processes with the same name share it). What the kernel does not tell is `()`. What it has open is told by [open_files], its environment by [env_of_process], what it is in the middle of by [stacks].",
    body: &with1(process, [param("pid", "The process id.")]),
    asks: &[ask::<List>()],
    fails: &[Kind::NotFound, Kind::Unsupported],
    examples: &[Example { given: &[], script: "process(ps()[0].pid).limits.open_files.unit", gives: r#""files""# }],
};

fn process(call: &Call<'_>, pid: i64) -> Result<Map> {
    let (seen, found, user) = on_process::<List>(call, pid, Vec::new())?;
    let gone = || Error::new(Kind::NotFound, format!("there is no process {pid}"));
    let row = Row { seen, process: found.ok_or_else(gone)?, user, read_at: Instant::now() };
    let table = kernel::Table::open()?;
    let mut map = map(&row, None, crate::sys::proc::machine::total_memory());
    more(&mut map, &table, &row, &PsOptions { io: true, wchan: true, threads: true, ..PsOptions::default() })?;
    let more = details::of(&table, &row.seen)?.ok_or_else(gone)?;
    let limits = limits_map(more.limits);
    let capabilities = record([
        ("effective", more.effective.into_script()),
        ("permitted", more.permitted.into_script()),
        ("bounding", more.bounding.into_script()),
    ]);
    let namespaces: Map =
        details::namespaces(&table, &row.seen).into_iter().map(|(kind, name)| (kind.into(), name.into_script())).collect();
    let parts: Map = details::memory(&table, &row.seen).into_iter().map(|(name, bytes)| (name.into(), bytes.into_script())).collect();
    map.extend(record([
        ("namespaces", namespaces.into_script()),
        ("memory_parts", parts.into_script()),
        ("exe", more.exe.map(|exe| super::value::name_value(&exe)).into_script()),
        ("umask", more.umask.into_script()),
        ("limits", limits.into_script()),
        ("capabilities", capabilities.into_script()),
        ("no_new_privileges", more.no_new_privileges.into_script()),
        ("seccomp", more.seccomp.into_script()),
        ("voluntary_switches", more.voluntary_switches.into_script()),
        ("involuntary_switches", more.involuntary_switches.into_script()),
        ("oom_score", more.oom_score.into_script()),
        ("oom_score_adj", more.oom_score_adj.into_script()),
        ("memory_peak", more.memory_peak.into_script()),
        ("memory_locked", more.memory_locked.into_script()),
        ("memory_shared", more.memory_shared.into_script()),
    ]));
    Ok(map)
}

/// From the name of each to what it is.
pub(super) fn limits_map(limits: Vec<details::Limit>) -> Map {
    let row = |limit: details::Limit| {
        let row = record([("soft", limit.soft.into_script()), ("hard", limit.hard.into_script()), ("unit", limit.unit.into_script())]);
        (limit.name.into(), row.into_script())
    };
    limits.into_iter().map(row).collect()
}

options! {
    /// Options of `pgrep`.
    PgrepOptions {
        full: bool = false, "Search the command line instead of the name, which has at most 15 bytes.", flags &["full", "f"];
        exact: bool = false, "The pattern fits all of it.", flags &["exact", "x"];
        ignore_case: bool = false, "Capital and small letters are the same.", flags &["ignore_case", "i"];
        user: Option<Vec<String>> = None, "Only processes of these users (names or numbers of the real user).";
        parent: Option<Vec<i64>> = None, "Only children of these processes.";
        newest: bool = false, "Only the one that began last.", flags &["newest", "n"];
        oldest: bool = false, "Only the one that began first.", flags &["oldest", "o"];
    }
}

const PGREP: Function = Function {
    name: "pgrep",
    doc: "The ids of processes by what they are called: an array, ascending.\n\nThe pattern is a regular expression. rex itself is never among them. Processes that the policy does not show are left out, as denials on record; if it shows none at all, that is a denial.",
    body: &with2(pgrep, [param("pattern", "A regular expression."), param("options", "")]),
    asks: &[ask::<List>()],
    fails: &[Kind::Unsupported],
    examples: &[
        Example { given: &[], script: r#"pgrep("no such process").len()"#, gives: "0" },
        Example { given: &[], script: r#"pgrep(".", #{oldest: true})"#, gives: "[1]" },
    ],
};

fn pgrep(call: &Call<'_>, pattern: String, options: PgrepOptions) -> Result<Vec<i64>> {
    if options.newest && options.oldest {
        return Err(bad_argument("pgrep: `newest` and `oldest` exclude each other"));
    }
    let text = if options.exact { format!("^(?:{pattern})$") } else { pattern };
    let pattern = expression(&text, true, options.ignore_case)?;
    if call.host.gate.policies().hull("process_system", "list").is_empty() {
        drop(call.permit::<List>(Process::this())?);
    }
    let own = Process::this().pid;
    let mut rows = permitted(call, &kernel::Table::open()?)?;
    rows.retain(|row| {
        let process = &row.process;
        let users = |users: &Vec<String>| users.iter().any(|user| *user == process.uid.to_string() || *user == user_name(process.uid));
        let subject = if options.full { &process.command } else { &process.name };
        process.pid != own
            && options.user.as_ref().is_none_or(users)
            && options.parent.as_ref().is_none_or(|pids| pids.contains(&process.ppid))
            && pattern.is_match(subject)
    });
    let age = |row: &&Row| (row.process.start_ticks, row.process.pid);
    let one = match (options.newest, options.oldest) {
        (true, _) => rows.iter().max_by_key(age),
        (_, true) => rows.iter().min_by_key(age),
        _ => return Ok(rows.iter().map(|row| row.process.pid).collect()),
    };
    Ok(one.map(|row| row.process.pid).into_iter().collect())
}
