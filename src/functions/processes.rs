//! Which processes there are and how they are doing: ps. It asks for [`List`] per process.

use super::function::{Call, Example, Function, param, with1};
use super::machine::time;
use super::value::{Array, IntoScript, Map, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, Answer, Granted, Value, ask};
use crate::resource::file::names;
use crate::resource::process::{Facts, Process};
use crate::sys::proc::process as kernel;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

pub const FUNCTIONS: &[Function] = &[PS];

/// `process_system::Action::"list"`: see a process and what it uses.
pub enum List {}
impl Action for List {
    type On = Process;
    const NAMESPACE: &'static str = "process_system";
    const NAME: &'static str = "list";
    const APPLIES_TO: &'static [&'static str] = &["process_system::Process"];
    const GROUPS: &'static [&'static str] = &["ProcessAction"];
    const DOC: &'static str = "See a process: its command line, owner, state and what it uses.";
    const ACCESS: Access = Access::ReadOnly;
}

options! {
    /// Options of `ps`.
    PsOptions {
        user: Option<Vec<String>> = None, "Only processes of these users (names or numbers, real or effective).";
        name: Option<Vec<String>> = None, "Only processes of exactly these names.";
        command: Option<String> = None, "Only processes whose command line has this text in it.";
        pid: Option<Vec<i64>> = None, "Only these process ids.";
        unit: Option<String> = None, "Only processes of this systemd unit.";
        container: Option<String> = None, "Only processes of the container whose id begins so.";
        state: Option<Vec<String>> = None, "Only processes in these states, e.g. `zombie`.";
        tree: bool = false, "Children below their parents, with `depth`.";
        threads: bool = false, "Add `tasks`, the threads: maps with `tid`, `name`, `state`, `cpu_time`.";
        io: bool = false, "Add `io` (`read_bytes`, `write_bytes`, `read_chars`, `write_chars`), `()` where the kernel does not tell.";
        wchan: bool = false, "Add `wchan`, where in the kernel it waits, `()` where the kernel does not tell.";
        seconds: Option<Duration> = None, "Measure `cpu` over this time; without it `cpu` is the average over the life of the process.";
        sort: String = "pid".to_owned(), "`pid`, `cpu`, `memory`, `cpu_time`, `started` (all but `pid` largest first) or `name`.";
        limit: u64 = 10_000, "Return so many at most.";
    }
}

const PS: Function = Function {
    name: "ps",
    doc: "The processes that the policy lets the caller see: an array of maps.\n\nEach has `pid`, `ppid`, `process_group`, `session`, `name`, `command` (at most 4096 bytes), `user` (also `username`), `uid`, `euid`, `gid`, `egid`, `state` (running, sleeping, disk_sleep, stopped, traced, zombie, dead, idle), `started` (a DateTime), `cpu` (percent of one processor), `cpu_time` (seconds), `memory` (bytes, also `memory_usage`), `memory_percent`, `virtual`, `swap`, `threads` (their number), `nice`, `priority`, `tty`, `unit`, `container`, `cgroup`. What a process does not have is `()`. Processes that the policy does not show are left out, as denials on record; if it shows none at all, that is a denial.",
    body: &with1(ps, [param("options", "")]),
    asks: &[ask::<List>()],
    fails: &[Kind::Unsupported],
    examples: &[
        Example { given: &[], script: "ps().len() > 0", gives: "true" },
        Example { given: &[], script: "ps(#{sort: \"memory\", limit: 3}).len() <= 3", gives: "true" },
    ],
};

/// Bytes of a command line that the policy judges.
pub(super) const JUDGED: usize = 128 << 10;
/// Bytes of a command line that a script gets.
const SHOWN: usize = 4096;

fn ps(call: &Call<'_>, options: PsOptions) -> Result<Array> {
    let order = Order::of(&options.sort)?;
    let check = || call.check();
    if call.host.gate.policies().hull(List::NAMESPACE, List::NAME).is_empty() {
        // Then the kernel keeps processes from this one too, and there is none to ask about but itself.
        drop(call.permit::<List>(Process::this())?);
    }
    let sample = match options.seconds {
        Some(seconds) => {
            let sample = kernel::Table::open()?.sample(&check)?;
            call.host.watch.sleep(seconds)?;
            Some(sample)
        }
        None => None,
    };
    let table = kernel::Table::open()?;
    // The policy comes before the script's own filter: else what is left out would tell of what may not be seen.
    let mut rows = permitted(call, &table)?;
    rows.retain(|row| wanted(row, &options));
    order.sort(&mut rows, sample.as_ref());
    let depths = if options.tree { arrange(&mut rows) } else { HashMap::new() };
    rows.truncate(usize::try_from(options.limit).unwrap_or(usize::MAX));
    let total = crate::sys::proc::machine::total_memory();
    let mut result = Array::with_capacity(rows.len());
    for row in rows {
        call.check()?;
        let mut map = map(&row, sample.as_ref(), total);
        if options.tree {
            map.insert("depth".into(), depths.get(&row.process.pid).copied().unwrap_or(0).into_script());
        }
        if options.threads || options.io || options.wchan {
            more(&mut map, &table, &row, &options)?;
        }
        result.push(map.into_script());
    }
    Ok(result)
}

/// A process that may be seen.
pub(super) struct Row {
    pub seen: Granted<List>,
    pub process: kernel::Process,
    pub user: String,
    pub read_at: Instant,
}

/// Every process that the policy shows, each asked for once.
pub(super) fn permitted(call: &Call<'_>, table: &kernel::Table) -> Result<Vec<Row>> {
    let wanted = kernel::Wanted { max_command: JUDGED, ..kernel::Wanted::default() };
    let mut users: HashMap<i64, String> = HashMap::new();
    let mut all = Vec::new();
    for pid in table.pids(&|| call.check())? {
        call.check()?;
        let Some(process) = table.read(pid, &wanted)? else { continue };
        let user = users.entry(process.uid).or_insert_with(|| user_name(process.uid)).clone();
        let resource = resource_of(&process, &user);
        all.push((resource, shortened(process), user, Instant::now()));
    }
    // The walk is recorded with the first process that may be seen as its root; where there is none, the first one's denial is the answer.
    let root = all.iter().position(|(resource, ..)| call.host.gate.would::<List>(resource) == Answer::Yes).unwrap_or(0);
    let Some((first, ..)) = all.get(root) else { return Err(Error::new(Kind::Unsupported, "this kernel shows no process")) };
    let walk = call.walk::<List>(first)?;
    let mut rows = Vec::with_capacity(all.len());
    for (resource, process, user, read_at) in all {
        call.check()?;
        match walk.permit(resource) {
            Ok(seen) => rows.push(Row { seen, process, user, read_at }),
            Err(error) if error.kind == Kind::Denied => {}
            Err(error) => return Err(error),
        }
    }
    walk.finish()?;
    Ok(rows)
}

/// The permission for `A` on the process of that number, and the process. Where there is none the policy is asked about the number alone; the errors are
/// those of [`Call::permit`], `not_found` after an allow.
pub(super) fn on_process<A: Action<On = Process>>(
    call: &Call<'_>,
    pid: i64,
    context: Vec<(&'static str, Value)>,
) -> Result<(Granted<A>, Option<kernel::Process>, String)> {
    let found = find::<A>(call, pid)?;
    let (resource, process, user) = match found {
        Some((process, user)) => (resource_of(&process, &user), Some(shortened(process)), user),
        None => (Process::absent(pid), None, String::new()),
    };
    Ok((call.permit_with::<A>(resource, context)?, process, user))
}

/// The process of that number, as far as the policy lets anything of this verb be seen at all.
pub(super) fn find<A: Action<On = Process>>(call: &Call<'_>, pid: i64) -> Result<Option<(kernel::Process, String)>> {
    if call.host.gate.policies().hull(A::NAMESPACE, A::NAME).is_empty() {
        // Then the kernel keeps processes from this one too.
        return Ok(None);
    }
    let Some(number) = i32::try_from(pid).ok().filter(|pid| *pid > 0) else { return Ok(None) };
    let wanted = kernel::Wanted { max_command: JUDGED, ..kernel::Wanted::default() };
    let process = kernel::Table::open()?.read(number, &wanted)?;
    Ok(process.map(|process| {
        let user = user_name(process.uid);
        (process, user)
    }))
}

/// A process as policies see it.
pub(super) fn resource_of(process: &kernel::Process, user: &str) -> Process {
    Process::new(&Facts {
        pid: process.pid,
        start_ticks: process.start_ticks,
        name: &process.name,
        username: user,
        arguments: &process.arguments,
        uid: process.uid,
        euid: process.euid,
        unit: process.unit.as_deref(),
        container: process.container.as_deref(),
    })
}

pub(super) fn user_name(uid: i64) -> String {
    u32::try_from(uid).ok().and_then(|uid| names().user(uid)).unwrap_or_else(|| uid.to_string())
}

/// The policy has seen the whole command line; the script gets the beginning of a long one.
pub(super) fn shortened(mut process: kernel::Process) -> kernel::Process {
    if process.command.len() > SHOWN {
        let end = (0..=SHOWN).rev().find(|end| process.command.is_char_boundary(*end)).unwrap_or(0);
        process.command.truncate(end);
        process.command_cut = true;
    }
    process.arguments = Vec::new();
    process
}

fn wanted(row: &Row, options: &PsOptions) -> bool {
    let process = &row.process;
    let user = |wanted: &String| {
        *wanted == row.user || [process.uid, process.euid].iter().any(|id| *wanted == id.to_string() || *wanted == user_name(*id))
    };
    options.user.as_ref().is_none_or(|users| users.iter().any(user))
        && options.name.as_ref().is_none_or(|names| names.contains(&process.name))
        && options.command.as_ref().is_none_or(|text| process.command.contains(text.as_str()))
        && options.pid.as_ref().is_none_or(|pids| pids.contains(&process.pid))
        && options.unit.as_ref().is_none_or(|unit| process.unit.as_ref() == Some(unit))
        && options
            .container
            .as_ref()
            .is_none_or(|id| !id.is_empty() && process.container.as_ref().is_some_and(|known| known.starts_with(id.as_str())))
        && options.state.as_ref().is_none_or(|states| states.iter().any(|state| state == process.state.name()))
}

#[derive(Clone, Copy)]
enum Order {
    Pid,
    Cpu,
    Memory,
    CpuTime,
    Started,
    Name,
}

impl Order {
    fn of(word: &str) -> Result<Self> {
        Ok(match word {
            "pid" => Self::Pid,
            "cpu" => Self::Cpu,
            "memory" => Self::Memory,
            "cpu_time" => Self::CpuTime,
            "started" => Self::Started,
            "name" => Self::Name,
            _ => return Err(bad_argument("ps: option `sort`: expected `pid`, `cpu`, `memory`, `cpu_time`, `started` or `name`")),
        })
    }

    /// Rows come in by pid, and stay so among equals.
    fn sort(self, rows: &mut [Row], sample: Option<&kernel::Sample>) {
        match self {
            Self::Pid => {}
            Self::Cpu => rows.sort_by(|a, b| cpu(b, sample).total_cmp(&cpu(a, sample))),
            Self::Memory => rows.sort_by_key(|row| std::cmp::Reverse(row.process.memory)),
            Self::CpuTime => rows.sort_by(|a, b| b.process.cpu_seconds.total_cmp(&a.process.cpu_seconds)),
            Self::Started => rows.sort_by_key(|row| std::cmp::Reverse(row.process.start_ticks)),
            Self::Name => rows.sort_by(|a, b| a.process.name.cmp(&b.process.name)),
        }
    }
}

fn cpu(row: &Row, sample: Option<&kernel::Sample>) -> f64 {
    sample.map_or(row.process.cpu_average, |sample| sample.percent(&row.process, row.read_at))
}

/// Puts children below their parents, in the order they have; how deep each one is.
fn arrange(rows: &mut [Row]) -> HashMap<i64, i64> {
    let known: HashSet<i64> = rows.iter().map(|row| row.process.pid).collect();
    let mut children: HashMap<i64, Vec<i64>> = HashMap::new();
    let mut todo = Vec::new();
    for process in rows.iter().map(|row| &row.process) {
        if known.contains(&process.ppid) && process.ppid != process.pid {
            children.entry(process.ppid).or_default().push(process.pid);
        } else {
            todo.push((process.pid, 0));
        }
    }
    todo.reverse();
    let (mut places, mut depths) = (HashMap::new(), HashMap::new());
    while let Some((pid, depth)) = todo.pop() {
        places.insert(pid, places.len());
        depths.insert(pid, depth);
        todo.extend(children.remove(&pid).unwrap_or_default().into_iter().rev().map(|child| (child, depth + 1)));
    }
    // Parents that were read at different moments can form a ring; such rows come last.
    rows.sort_by_key(|row| places.get(&row.process.pid).copied().unwrap_or(usize::MAX));
    depths
}

pub(super) fn map(row: &Row, sample: Option<&kernel::Sample>, total: i64) -> Map {
    let process = &row.process;
    #[allow(clippy::cast_precision_loss, reason = "a percentage")]
    let memory_percent = if total > 0 { (process.memory as f64 / total as f64 * 10_000.0).round() / 100.0 } else { 0.0 };
    record([
        ("pid", process.pid.into_script()),
        ("ppid", process.ppid.into_script()),
        ("process_group", process.process_group.into_script()),
        ("session", process.session.into_script()),
        ("name", process.name.clone().into_script()),
        ("command", process.command.clone().into_script()),
        ("user", row.user.clone().into_script()),
        ("username", row.user.clone().into_script()),
        ("uid", process.uid.into_script()),
        ("euid", process.euid.into_script()),
        ("gid", process.gid.into_script()),
        ("egid", process.egid.into_script()),
        ("state", process.state.name().into_script()),
        ("started", time(process.started_ms)),
        ("cpu", ((cpu(row, sample) * 100.0).round() / 100.0).into_script()),
        ("cpu_time", process.cpu_seconds.into_script()),
        ("memory", process.memory.into_script()),
        ("memory_usage", process.memory.into_script()),
        ("memory_percent", memory_percent.into_script()),
        ("virtual", process.virtual_memory.into_script()),
        ("swap", process.swap.into_script()),
        ("threads", process.threads.into_script()),
        ("nice", process.nice.into_script()),
        ("priority", process.priority.into_script()),
        ("tty", process.tty.clone().into_script()),
        ("unit", process.unit.clone().into_script()),
        ("container", process.container.clone().into_script()),
        ("cgroup", process.cgroup.clone().into_script()),
    ])
}

/// What is read only for the processes that are returned, if they are still the same.
pub(super) fn more(map: &mut Map, table: &kernel::Table, row: &Row, options: &PsOptions) -> Result<()> {
    let wanted = kernel::Wanted { threads: options.threads, io: options.io, wchan: options.wchan, max_command: 0 };
    let seen = row.seen.resource();
    let again = table.read(i32::try_from(seen.pid).unwrap_or(0), &wanted)?.filter(|again| again.start_ticks == seen.start_ticks);
    if options.io {
        let io = again.as_ref().and_then(|process| process.io).map(|io| {
            record([
                ("read_bytes", io.read_bytes.into_script()),
                ("write_bytes", io.write_bytes.into_script()),
                ("read_chars", io.read_chars.into_script()),
                ("write_chars", io.write_chars.into_script()),
            ])
        });
        map.insert("io".into(), io.into_script());
    }
    if options.wchan {
        map.insert("wchan".into(), again.as_ref().and_then(|process| process.wchan.clone()).into_script());
    }
    if options.threads {
        let task = |task: &kernel::Task| {
            record([
                ("tid", task.tid.into_script()),
                ("name", task.name.clone().into_script()),
                ("state", task.state.name().into_script()),
                ("cpu_time", task.cpu_seconds.into_script()),
                ("wchan", task.wchan.clone().into_script()),
            ])
        };
        let tasks: Vec<Map> = again.iter().flat_map(|process| process.tasks.iter().map(task)).collect();
        map.insert("tasks".into(), tasks.into_script());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
