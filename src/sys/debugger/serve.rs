//! The process beside the fence that starts gdb: which arguments and commands it gets, as whom it runs and what it can reach.

use super::{DEBUGGER, Ended, OUTPUT, Request, THREADS, What, is_variable};
use crate::error::{Error, Result};
use crate::sys::beside::Beside;
use crate::sys::broker::wire;
use crate::sys::fence::{self, Ready};
use crate::sys::proc::process::{Table, field};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::process::{Gid, Pid, PidfdFlags, Resource, Rlimit, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The debugger. What another path leads to is not started.
const GDB: &str = "/usr/bin/gdb";
/// Memory that it may take for itself: debug information of large programs is large.
const MEMORY: u64 = 4 << 30;
/// Whom it runs as when rex is root and it looks at files: nobody.
const NOBODY: u32 = 65_534;
/// Frames whose variables are asked for.
pub(super) const VARIABLES: usize = 4000;

pub(super) const THREAD_INFO: u64 = 1;
pub(super) const fn token_of_thread(thread: u32) -> u64 {
    1000 + thread as u64
}
pub(super) const fn token_of_frame(index: usize) -> u64 {
    100_000 + index as u64
}
pub(super) const fn token_of_name(index: usize) -> u64 {
    1_000_000 + index as u64
}

/// Settings before anything is loaded: no file of any program, folder or user says what gdb does, nothing is run, nobody is asked for more.
const SETTINGS: &[&str] = &[
    "set auto-load off",
    "set auto-load safe-path /nonexistent",
    "set debuginfod enabled off",
    "set startup-with-shell off",
    "set history save off",
    "set confirm off",
    "set pagination off",
    "set python print-stack none",
    "set sysroot /",
    "set max-value-size 65536",
    "set print elements 200",
    "set print repeats 10",
    "set print max-depth 4",
    "set print entry-values no",
    "set print object off",
    "set print static-members off",
    "set stop-on-solib-events 0",
    "set width 0",
    "set height 0",
];

/// Forks it. No thread may run yet.
///
/// # Errors
/// When the kernel gives no process or socket.
pub fn start() -> Result<()> {
    // No data is sent but whole packets, each with its descriptors.
    let beside = Beside::start(c"rex debugger", rustix::net::SocketType::SEQPACKET, serve)?;
    let _ = DEBUGGER.set(beside);
    Ok(())
}

/// A request that fits in no packet goes in a memfd.
pub(super) fn long(text: &[u8]) -> Result<Option<OwnedFd>> {
    if text.len() <= wire::SHORT {
        return Ok(None);
    }
    script(text).map(Some)
}

/// A memfd that holds this.
fn script(text: &[u8]) -> Result<OwnedFd> {
    let mut file = std::fs::File::from(rustix::fs::memfd_create(c"rex-gdb", MemfdFlags::CLOEXEC)?);
    file.write_all(text).and_then(|()| file.rewind()).map_err(Error::from)?;
    Ok(file.into())
}

fn serve(socket: &OwnedFd) {
    let mut armed = false;
    while let Ok(Some((bytes, mut fds))) = wire::packet(socket) {
        if !armed {
            if fence::arm_for_debugging().is_err() {
                return;
            }
            armed = true;
        }
        let bytes = if bytes == wire::LONG { fds.pop().and_then(wire::long) } else { Some(bytes) };
        let Some(request) = bytes.and_then(|bytes| serde_json::from_slice::<Request>(&bytes).ok()) else { return };
        let mut fds = fds.into_iter();
        let Some(output) = fds.next() else { return };
        let files: Vec<OwnedFd> = fds.collect();
        let Some(ended) = answer(socket, &request, output, &files) else { return };
        wire::tell(socket, &ended);
    }
}

/// Nothing where nobody waits for an answer any more.
fn answer(socket: &OwnedFd, request: &Request, output: OwnedFd, files: &[OwnedFd]) -> Option<Ended> {
    let Some(gdb) = gdb() else { return Some(Ended::NoDebugger) };
    let (Some(commands), Ok(table)) = (commands(request), Table::open()) else { return Some(Ended::Failed) };
    let mut command = Command::new(GDB);
    command.args(["-nx", "-nh", "-quiet", "-interpreter=mi3"]);
    for setting in SETTINGS {
        command.args(["-iex", setting]);
    }
    let role = match &request.what {
        What::Trace { pid, start_ticks, .. } => {
            let number = i32::try_from(*pid).ok()?;
            let Some(role) = Role::of(&table, number).filter(|_| table.began(number) == Some(*start_ticks)) else {
                return Some(Ended::Gone);
            };
            command.args(["-p", &pid.to_string()]);
            role
        }
        What::Core | What::Variables { .. } => {
            let [program, core] = files else { return Some(Ended::Failed) };
            let Ok(ready) = Ready::for_program(&fence::plan_of_debugger(), &gdb) else { return Some(Ended::Failed) };
            command.args([program, core].map(|file| format!("/proc/self/fd/{}", file.as_raw_fd())));
            Role::Reader { ready, files: [program.as_raw_fd(), core.as_raw_fd()] }
        }
    };
    command.env_clear().env("LC_ALL", "C.UTF-8").env("HOME", "/nonexistent").env("TERM", "dumb").current_dir("/");
    let Ok(commands) = script(commands.as_bytes()) else { return Some(Ended::Failed) };
    command.stdin(commands).stdout(output).stderr(Stdio::null());
    let seconds = request.milliseconds.div_ceil(1000).max(1);
    #[expect(unsafe_code, reason = "between fork and exec std has no safe way")]
    // SAFETY: this process has one thread, so the child has the whole state of it and may do what any process may.
    unsafe {
        command.pre_exec(move || become_it(&role, seconds).map_err(|error| std::io::Error::other(error.message)));
    }
    let Ok(mut child) = command.spawn() else { return Some(Ended::Failed) };
    drop(command);
    wait(socket, &mut child, Instant::now() + Duration::from_millis(request.milliseconds))
}

/// The program, if it is root's and nobody else can write it.
fn gdb() -> Option<OwnedFd> {
    let file = rustix::fs::open(GDB, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
    (regular && stat.st_uid == 0 && stat.st_mode & 0o022 == 0).then_some(file)
}

/// What gdb is told to do, one command a line, each with its token.
fn commands(request: &Request) -> Option<String> {
    let mut text = String::new();
    let mut say = |token: u64, command: &str| text.push_str(&format!("{token}{command}\n"));
    match &request.what {
        What::Trace { .. } | What::Core => {
            let threads = if let What::Trace { threads, .. } = request.what { threads.saturating_add(8) } else { THREADS };
            say(THREAD_INFO, "-thread-info");
            for thread in 1..=threads.min(THREADS) {
                say(token_of_thread(thread), &format!("-stack-list-frames --thread {thread} 0 {}", request.frames.max(1) - 1));
            }
        }
        What::Variables { frames, names, at } => {
            for (index, (thread, frame)) in frames.iter().enumerate() {
                say(token_of_frame(index), &format!("-stack-list-variables --thread {thread} --frame {frame} --all-values"));
            }
            for (index, name) in names.iter().enumerate() {
                // Whoever asks has looked at it too; this is where it counts.
                if !is_variable(name) {
                    return None;
                }
                say(token_of_name(index), &format!("-data-evaluate-expression --thread {} --frame {} \"{name}\"", at.0, at.1));
            }
        }
    }
    text.push_str("-gdb-exit\n");
    Some(text)
}

/// As whom gdb runs.
enum Role {
    /// As the process that it looks at, with its capabilities and no others: what a hostile program does to gdb it could do without.
    Tracer { uid: u32, gid: u32, capabilities: CapabilitySet },
    /// As nobody, who can read two files and the libraries of the host.
    Reader { ready: Ready, files: [i32; 2] },
}

impl Role {
    fn of(table: &Table, pid: i32) -> Option<Self> {
        let status = table.status(pid)?;
        let id = |name: &str| -> Option<u32> {
            let words: Vec<u32> =
                field(&status, name)?.split_ascii_whitespace().map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
            // Of one whose ids differ no user is the equal, and the kernel refuses it (ptrace(2)).
            words.first().copied()
        };
        let bits = u64::from_str_radix(field(&status, "CapPrm:")?, 16).ok()?;
        Some(Self::Tracer { uid: id("Uid:")?, gid: id("Gid:")?, capabilities: CapabilitySet::from_bits_retain(bits) })
    }
}

/// In the process that is about to become gdb.
fn become_it(role: &Role, seconds: u64) -> Result<()> {
    rustix::process::setsid()?;
    for (resource, most) in
        [(Resource::Core, 0), (Resource::Cpu, seconds), (Resource::Fsize, OUTPUT), (Resource::Data, MEMORY), (Resource::Nofile, 1024)]
    {
        let most = most.min(rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX));
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    close_at_exec();
    let is_root = rustix::process::geteuid().is_root();
    match role {
        Role::Tracer { uid, gid, capabilities } => {
            if is_root {
                let own = rustix::thread::capabilities(None)?.permitted;
                become_user(*uid, *gid, *capabilities & own)?;
            }
        }
        Role::Reader { ready, files } => {
            let mut held = Vec::new();
            for number in files {
                #[expect(unsafe_code, reason = "numbers of descriptors that the parent owns")]
                // SAFETY: they are open in this copy of the parent, and nothing closes them before the program is another.
                let file = unsafe { BorrowedFd::borrow_raw(*number) };
                rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty())?;
                held.push(file);
            }
            let confined = ready.restrict_with(&held)?;
            if is_root {
                // The right to read any file is worth two files behind Landlock, and without it all of them.
                let capabilities = if confined { CapabilitySet::DAC_READ_SEARCH } else { CapabilitySet::empty() };
                become_user(NOBODY, NOBODY, capabilities)?;
            }
        }
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

fn become_user(uid: u32, gid: u32, capabilities: CapabilitySet) -> Result<()> {
    rustix::thread::set_keep_capabilities(true)?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    let sets = CapabilitySets { effective: capabilities, permitted: capabilities, inheritable: capabilities };
    rustix::thread::set_capabilities(None, sets)?;
    for capability in capabilities.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Nothing of this process is gdb's but what it is given.
fn close_at_exec() {
    #[expect(unsafe_code, reason = "close_range(2) is in no safe crate of the graph")]
    // SAFETY: only sets a flag on descriptors.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// Waits for its end, and makes it when the time is over or nobody waits any more (then nothing is given).
fn wait(socket: &OwnedFd, child: &mut Child, until: Instant) -> Option<Ended> {
    let process =
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
    let ended = loop {
        if let Ok(Some(status)) = child.try_wait() {
            break Some(if status.success() { Ended::Done } else { Ended::Failed });
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break Some(Ended::TimedOut);
        }
        let pause = if process.is_some() { left.min(Duration::from_secs(1)) } else { Duration::from_millis(10) };
        let time = Timespec { tv_sec: i64::try_from(pause.as_secs()).unwrap_or(0), tv_nsec: pause.subsec_nanos().into() };
        let mut fds = vec![PollFd::new(socket, PollFlags::IN)];
        fds.extend(process.iter().map(|process| PollFd::new(process, PollFlags::IN)));
        let _ = rustix::event::poll(&mut fds, Some(&time));
        // Nothing is said while an answer is under way, so this is the end.
        if fds.first().is_some_and(|fd| !fd.revents().is_empty()) {
            break None;
        }
    };
    if !matches!(ended, Some(Ended::Done | Ended::Failed)) {
        // A process that was looked at goes on by itself when its debugger is gone (ptrace(2)).
        let _ = child.kill();
    }
    let _ = child.wait();
    ended
}
