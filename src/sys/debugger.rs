//! gdb, started by a small process beside the fence: stacks of a process that runs ([`trace`]), and what a core dump holds ([`core()`]).
//!
//! It is forked before the fence goes up, only where policy permits one of the two, and builds gdb's arguments and commands itself: what reaches it is a
//! process or two open files, numbers, and names of variables that it checks. gdb reads no start-up file, loads nothing by itself, asks no server, and has
//! none of the system calls that no program of a run gets, but for those that look at a process. Looking at a process it is that process's own user with
//! its capabilities; looking at a core dump it is nobody, and Landlock leaves it the two files and the libraries of the host.

mod mi;
mod serve;

pub use serve::start;

use super::beside::Beside;
use super::broker::wire;
use super::proc::process::Table;
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use crate::resource::process::Process;
use crate::sys::stream::Check;
use mi::Value;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The way to it; none where nothing that policy permits needs it.
static DEBUGGER: OnceLock<Arc<Beside>> = OnceLock::new();

/// Threads that are looked at.
pub const THREADS: u32 = 512;
/// Bytes of what gdb says at most.
const OUTPUT: u64 = 16 << 20;

/// What is asked of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Request {
    what: What,
    /// Frames of a thread.
    frames: u32,
    milliseconds: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum What {
    /// A process as it was judged, and how many threads it has.
    Trace { pid: i64, start_ticks: u64, threads: u32 },
    /// The threads of a core dump.
    Core,
    /// The variables of these frames, by thread and frame; and the values of these names in one of them.
    Variables { frames: Vec<(u32, u32)>, names: Vec<String>, at: (u32, u32) },
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Ended {
    Done,
    /// There is no gdb that is root's alone.
    NoDebugger,
    Gone,
    TimedOut,
    /// The kernel or gdb did not do it.
    Failed,
}

/// A thread as gdb sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// gdb's number.
    pub id: i64,
    /// The kernel's, where gdb tells.
    pub tid: Option<i64>,
    pub frames: Vec<Frame>,
}

/// A call under way. What is not known is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub number: i64,
    pub address: Option<String>,
    pub function: Option<String>,
    pub source: Option<String>,
    pub line: Option<i64>,
    /// The library or program that it is in, where there is no source.
    pub library: Option<String>,
    /// Local variables and arguments: name and value.
    pub variables: Vec<(String, Option<String>)>,
}

/// The stacks of a granted process, if it is still the one that was judged. It stands still meanwhile.
///
/// # Errors
/// [`Kind::Unsupported`] without gdb, [`Kind::NotFound`] when the process has ended, [`Kind::Permission`] when the kernel does not let gdb look,
/// [`Kind::Timeout`]; the check's reason.
pub fn trace<A: Action<On = Process>>(granted: &Granted<A>, frames: u32, timeout: Duration, check: Check<'_>) -> Result<Vec<Thread>> {
    granted.to_be_done()?;
    let process = granted.resource();
    let table = Table::open()?;
    let pid = i32::try_from(process.pid).unwrap_or(0);
    let threads = table.threads(pid).unwrap_or(1).min(THREADS);
    let what = What::Trace { pid: process.pid, start_ticks: process.start_ticks, threads };
    let (ended, output) = ask(&Request { what, frames, milliseconds: milliseconds(timeout) }, &[], timeout, check)?;
    if table.began(pid) != Some(process.start_ticks) {
        return Err(Error::new(Kind::NotFound, format!("process {} has ended", process.pid)));
    }
    done(ended, timeout, "the process")?;
    let threads = threads_of(&output);
    if threads.iter().all(|thread| thread.frames.is_empty()) {
        return Err(Error::new(Kind::Permission, "gdb could not look at the process"));
    }
    Ok(threads)
}

/// The threads of a core dump of this program.
///
/// # Errors
/// [`Kind::Unsupported`] without gdb, [`Kind::BadData`] when gdb makes nothing of the files, [`Kind::Timeout`]; the check's reason.
pub fn core<E: Action<On = File>, C: Action<On = File>>(
    program: &Granted<E>,
    core: &Granted<C>,
    frames: u32,
    timeout: Duration,
    check: Check<'_>,
) -> Result<Vec<Thread>> {
    let files = [opened(program)?, opened(core)?];
    let (ended, output) = ask(&Request { what: What::Core, frames, milliseconds: milliseconds(timeout) }, &files, timeout, check)?;
    done(ended, timeout, "the core dump")?;
    let threads = threads_of(&output);
    if threads.iter().all(|thread| thread.frames.is_empty()) {
        return Err(Error::new(Kind::BadData, "gdb finds no thread: it is no core dump, or none of this program")
            .with_path(core.resource().asked().shown()));
    }
    Ok(threads)
}

/// The local variables of every frame, put where they belong; and the values of these names in one frame, nothing for those that are not known there.
///
/// # Errors
/// As [`core()`].
pub fn variables<E: Action<On = File>, C: Action<On = File>>(
    (program, core): (&Granted<E>, &Granted<C>),
    threads: &mut [Thread],
    locals: bool,
    (names, at): (&[String], (u32, u32)),
    timeout: Duration,
    check: Check<'_>,
) -> Result<Vec<Option<String>>> {
    let files = [opened(program)?, opened(core)?];
    let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let all = threads.iter().flat_map(|thread| thread.frames.iter().map(|frame| (number(thread.id), number(frame.number))));
    // Frames without source have no variables that gdb could tell.
    let frames: Vec<(u32, u32)> = if locals { all.take(serve::VARIABLES).collect() } else { Vec::new() };
    let what = What::Variables { frames: frames.clone(), names: names.to_vec(), at };
    let (ended, output) = ask(&Request { what, frames: 0, milliseconds: milliseconds(timeout) }, &files, timeout, check)?;
    done(ended, timeout, "the core dump")?;
    let answers = mi::answers(&output);
    let results = |token: u64| answers.iter().find(|answer| answer.token == token).and_then(|answer| answer.results.as_ref());
    for (index, (thread, frame)) in frames.iter().enumerate() {
        let Some(list) = results(serve::token_of_frame(index)).and_then(|results| results.get("variables")) else { continue };
        let place = threads
            .iter_mut()
            .find(|known| number(known.id) == *thread)
            .and_then(|known| known.frames.iter_mut().find(|known| number(known.number) == *frame));
        if let Some(place) = place {
            let variable = |item: &Value| Some((item.text("name")?.to_owned(), item.text("value").map(str::to_owned)));
            place.variables = list.items().filter_map(variable).collect();
        }
    }
    let value = |index: usize| results(serve::token_of_name(index)).and_then(|results| results.text("value")).map(str::to_owned);
    Ok((0..names.len()).map(value).collect())
}

/// A name or a way to a part of a variable: `count`, `list->next`, `table[3].name`, `Class::member`, `*pointer`. Nothing that gdb would compute, call, convert
/// or keep.
#[must_use]
pub fn is_variable(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.->[]:".contains(&byte);
    let rest = name.trim_start_matches('*');
    let begins = rest.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    // `a-b` and `a>b` are no ways to a part, `a->b` is.
    let arrows = rest.replace("->", "");
    name.len() <= 256 && begins && rest.bytes().all(plain) && !arrows.contains(['-', '>'])
}

fn milliseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
}

fn opened<A: Action<On = File>>(granted: &Granted<A>) -> Result<OwnedFd> {
    let file = super::file::open(granted)?;
    if !file.metadata().map_err(Error::from)?.is_file() {
        return Err(Error::new(Kind::NotAFile, "is no regular file").with_path(granted.resource().asked().shown()));
    }
    Ok(file.into())
}

fn done(ended: Ended, timeout: Duration, what: &str) -> Result<()> {
    Err(match ended {
        Ended::Done => return Ok(()),
        Ended::NoDebugger => no_debugger(),
        Ended::Gone => Error::new(Kind::NotFound, "the process has ended"),
        Ended::TimedOut => Error::new(Kind::Timeout, format!("gdb was not done within {} s", timeout.as_secs_f64())),
        Ended::Failed => Error::new(Kind::Io, format!("gdb failed to look at {what}")),
    })
}

fn no_debugger() -> Error {
    Error::new(Kind::Unsupported, "this host has no gdb")
        .with_hint("the package `gdb` has it; it has to be root's, and nobody else's to write")
}

/// Asks it and waits for its end; what gdb said.
fn ask(request: &Request, files: &[OwnedFd], timeout: Duration, check: Check<'_>) -> Result<(Ended, String)> {
    check()?;
    let gone = || Error::new(Kind::Unavailable, "the process that starts gdb is gone");
    let beside = DEBUGGER.get().ok_or_else(no_debugger)?;
    let output = rustix::fs::memfd_create(c"rex-gdb", MemfdFlags::CLOEXEC)?;
    let text = serde_json::to_vec(request).map_err(|_| Error::new(Kind::Internal, "a request that cannot be written"))?;
    let (_, theirs) = (&output, output.as_fd());
    let mut fds = vec![theirs];
    fds.extend(files.iter().map(|file| file.as_fd()));
    let payload = serve::long(&text)?;
    fds.extend(payload.as_ref().map(|payload| payload.as_fd()));
    let socket = beside.socket();
    wire::send(&socket, if payload.is_some() { wire::LONG } else { &text }, &fds).map_err(|_| gone())?;
    // It ends gdb by itself at that time; this is for when it does not answer at all.
    let until = std::time::Instant::now() + timeout + Duration::from_secs(5);
    let tick = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while rustix::event::poll(&mut [PollFd::new(&*socket, PollFlags::IN)], Some(&tick)) == Ok(0) {
        if let Err(stop) = check() {
            // Nobody waits for this answer any more, and a later question must not get it: the way to it is closed, and gdb ends with it.
            let _ = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Both);
            return Err(stop);
        }
        if std::time::Instant::now() >= until {
            let _ = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Both);
            return Err(gone());
        }
    }
    let Some((ended, _)) = wire::receive::<Ended>(&socket)? else { return Err(gone()) };
    let output = std::fs::File::from(output);
    let length = output.metadata().map_err(Error::from)?.len().min(OUTPUT);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    output.read_exact_at(&mut bytes, 0).map_err(Error::from)?;
    Ok((ended, String::from_utf8_lossy(&bytes).into_owned()))
}

/// The threads and their frames.
fn threads_of(output: &str) -> Vec<Thread> {
    let answers = mi::answers(output);
    let results = |token: u64| answers.iter().find(|answer| answer.token == token).and_then(|answer| answer.results.as_ref());
    let known = results(serve::THREAD_INFO).and_then(|results| results.get("threads"));
    let mut threads: Vec<Thread> = known
        .into_iter()
        .flat_map(Value::items)
        .filter_map(|thread| {
            let id: u32 = thread.text("id")?.parse().ok()?;
            let frames = results(serve::token_of_thread(id)).and_then(|results| results.get("stack"));
            let frames = frames.into_iter().flat_map(Value::items).filter_map(frame).collect();
            Some(Thread { id: id.into(), tid: thread.text("target-id").and_then(tid), frames })
        })
        .collect();
    threads.sort_by_key(|thread| thread.id);
    threads
}

/// `LWP 12`, `Thread 0x7f.. (LWP 12)`, `process 12`.
fn tid(target: &str) -> Option<i64> {
    let from = target.rfind("LWP ").map(|at| at + 4).or_else(|| target.strip_prefix("process ").map(|_| 8))?;
    let digits: String = target.get(from..)?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn frame(frame: &Value) -> Option<Frame> {
    let text = |name: &str| frame.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Frame {
        number: frame.text("level")?.parse().ok()?,
        address: text("addr"),
        function: text("func").filter(|name| name != "??"),
        source: text("fullname").or_else(|| text("file")),
        line: frame.text("line").and_then(|line| line.parse().ok()),
        library: text("from"),
        variables: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_ways_to_parts_are_variables() {
        for good in ["x", "_x1", "list->next->value", "table[3].name", "Class::member", "*pointer", "**p"] {
            assert!(is_variable(good), "{good}");
        }
        for bad in [
            "",
            "1",
            "$_shell(\"id\")",
            "system(\"id\")",
            "x=1",
            "x,y",
            "a-b",
            "a>b",
            "x y",
            "x\ny",
            "\"",
            "(char)x",
            "x+1",
            "@",
            "-x",
            "&x",
            "x\\",
            "*",
            "$rip",
            "--x",
            "{int}x",
        ] {
            assert!(!is_variable(bad), "{bad}");
        }
        assert!(!is_variable(&"x".repeat(300)));
    }

    #[test]
    fn threads_get_their_own_frames() {
        let output = "1^done,threads=[{id=\"2\",target-id=\"Thread 0x7f (LWP 12)\",frame={level=\"0\"}},{id=\"1\",target-id=\"LWP 11\"}],current-thread-id=\"1\"\n\
            1001^done,stack=[frame={level=\"0\",addr=\"0x1\",func=\"main\",file=\"a.c\",fullname=\"/src/a.c\",line=\"3\"}]\n\
            1002^done,stack=[frame={level=\"0\",addr=\"0x2\",func=\"??\",from=\"/lib/x.so\"}]\n";
        let threads = threads_of(output);
        assert_eq!(threads.iter().map(|thread| (thread.id, thread.tid)).collect::<Vec<_>>(), [(1, Some(11)), (2, Some(12))]);
        let first = threads.first().and_then(|thread| thread.frames.first()).cloned().unwrap_or_default();
        assert_eq!((first.function.as_deref(), first.source.as_deref(), first.line), (Some("main"), Some("/src/a.c"), Some(3)));
        let second = threads.get(1).and_then(|thread| thread.frames.first()).cloned().unwrap_or_default();
        assert_eq!((second.function, second.library.as_deref()), (None, Some("/lib/x.so")));
    }
}
