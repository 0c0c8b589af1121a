//! Where threads are in the kernel (proc_pid_stack(5)), which it tells only who administers the machine.

use super::inspector::{Judged, Text};
use super::process::{State, Table, Task, Wanted};
use crate::error::Result;
use crate::policy::{Action, Granted};
use crate::resource::process::Process;

/// A thread and where it is in the kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    pub tid: i64,
    pub name: String,
    pub state: State,
    /// Functions of the kernel, the innermost first; nothing where the kernel does not tell. Empty for a thread that runs its own code.
    pub frames: Option<Vec<String>>,
}

/// The threads of a granted process; nothing if it has ended.
///
/// # Errors
/// As [`Table::read`].
pub fn kernel<A: Action<On = Process>>(table: &Table, granted: &Granted<A>) -> Result<Option<Vec<Kernel>>> {
    let process = granted.resource();
    let judged = Judged { pid: process.pid, start_ticks: process.start_ticks };
    let wanted = Wanted { threads: true, max_command: 0, ..Wanted::default() };
    let found = table.read(i32::try_from(process.pid).unwrap_or(0), &wanted)?.filter(|found| found.start_ticks == process.start_ticks);
    let thread = |task: Task| {
        let tid = i32::try_from(task.tid).unwrap_or(0);
        let frames = table.text(judged, Text::Stack(tid)).map(|text| symbols(&String::from_utf8_lossy(&text)));
        Kernel { tid: task.tid, name: task.name, state: task.state, frames }
    };
    Ok(found.map(|found| found.tasks.into_iter().map(thread).collect()))
}

/// `[<0>] futex_wait_queue+0x60/0x90`, a line each.
fn symbols(text: &str) -> Vec<String> {
    let symbol = |line: &str| {
        let rest = line.trim().strip_prefix("[<")?;
        let name = rest.get(rest.find(">]")? + 2..)?.trim();
        (!name.is_empty() && !name.starts_with("0xffff")).then(|| name.to_owned())
    };
    text.lines().filter_map(symbol).collect()
}

#[cfg(test)]
mod tests {
    use super::symbols;

    #[test]
    fn each_line_is_a_function_of_the_kernel() {
        let text = "[<0>] do_poll+0x1/0x2\n[<ffffffff81>] __x64_sys_poll+0x3/0x4 [mod]\n[<ffffffffffffffff>] 0xffffffffffffffff\nodd\n";
        assert_eq!(symbols(text), ["do_poll+0x1/0x2", "__x64_sys_poll+0x3/0x4 [mod]"]);
        assert!(symbols("").is_empty());
    }
}
