//! The broker's own life: requests in, programs started, watched and ended.

use super::wire::{Ended, Launch, Limit, Reply, Request};
use super::{child, tree, wire};
use crate::policy::Bound;
use crate::resource::path::to_id;
use crate::sys::fence::Plan;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// What the broker holds to, whatever it is asked.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The hull of `execute`.
    pub programs: Vec<Bound>,
    /// The hull of everything else, which programs stay in too.
    pub plan: Plan,
    /// Processes of one run at a time.
    pub children: u32,
    /// Bytes of memory that they may use together.
    pub memory: u64,
    /// Seconds of processor time of each.
    pub cpu: u64,
}

/// A program under way.
struct Program {
    pid: Pid,
    pidfd: OwnedFd,
    reply: OwnedFd,
    limit: Option<Limit>,
}

/// How often memory and number of processes are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long what is left of a program may take to die.
const DYING: Duration = Duration::from_secs(3);

/// Serves until rex is gone, then ends everything.
pub(super) fn serve(requests: &OwnedFd, rules: &Rules) -> ! {
    let mut programs: Vec<Program> = Vec::new();
    if prepare().is_ok() {
        let mut looked = Instant::now();
        loop {
            let (request, ended, said) = wait(requests, &programs);
            if request {
                match wire::packet(requests) {
                    Ok(Some((_, fds))) => programs.extend(start(fds, rules)),
                    _ => break,
                }
            }
            for at in said.into_iter().rev() {
                if let Some(program) = programs.get(at) {
                    listen(program, &programs);
                }
            }
            for at in ended.into_iter().rev() {
                let program = programs.swap_remove(at);
                finish(&program, &programs);
            }
            if !programs.is_empty() && looked.elapsed() >= LOOK {
                looked = Instant::now();
                hold_limits(&mut programs, rules);
            }
        }
    }
    tree::kill(&HashSet::new(), DYING);
    #[expect(unsafe_code, reason = "the broker must not run what rex does when it ends")]
    // SAFETY: _exit(2) ends the process and touches no memory.
    unsafe {
        libc::_exit(0)
    }
}

/// Every orphan falls to this process; nothing of rex stays open but its standard error.
fn prepare() -> rustix::io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    rustix::thread::set_name(c"rex broker")?;
    let null = super::null().map_err(|_| rustix::io::Errno::NOENT)?;
    rustix::stdio::dup2_stdin(&null)?;
    // A caller that waits for the end of the output must not wait for the broker.
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)
}

/// Waits for anything: a request, programs that ended, rex saying something about one.
fn wait(requests: &OwnedFd, programs: &[Program]) -> (bool, Vec<usize>, Vec<usize>) {
    let mut fds = vec![PollFd::new(requests, PollFlags::IN)];
    for program in programs {
        fds.push(PollFd::new(&program.pidfd, PollFlags::IN));
        fds.push(PollFd::new(&program.reply, PollFlags::IN));
    }
    let tick = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let _ = rustix::event::poll(&mut fds, (!programs.is_empty()).then_some(&tick));
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let of = |offset: usize| (0..programs.len()).filter(|at| ready.get(1 + 2 * at + offset) == Some(&true)).collect();
    (ready.first() == Some(&true), of(0), of(1))
}

fn start(mut fds: Vec<OwnedFd>, rules: &Rules) -> Option<Program> {
    if fds.len() != 7 {
        return None;
    }
    let reply = fds.pop()?;
    let mut fds = fds.into_iter();
    let Some(Request::Launch(launch)) = fds.next().and_then(wire::request) else {
        wire::tell(&reply, &Reply::Refused);
        return None;
    };
    let (program, folder, stdin, stdout, stderr) = (fds.next()?, fds.next()?, fds.next()?, fds.next()?, fds.next()?);
    if !permitted(&program, &rules.programs) {
        wire::tell(&reply, &Reply::Refused);
        return None;
    }
    let open = child::Open { program, folder, stdin, stdout, stderr };
    match spawn(&launch, &open, rules) {
        Ok((pid, pidfd)) => {
            wire::tell(&reply, &Reply::Started { pid: pid.as_raw_nonzero().get() });
            Some(Program { pid, pidfd, reply, limit: None })
        }
        Err((what, errno)) => {
            wire::tell(&reply, &Reply::Failed { what, errno });
            None
        }
    }
}

/// Whether the hull lists this very file.
fn permitted(program: &OwnedFd, programs: &[Bound]) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(path) = crate::sys::fence::place(program) else { return false };
    let id = to_id(path.as_os_str().as_bytes());
    programs.iter().any(|bound| match bound {
        Bound::Anything => true,
        Bound::Kind(kind) => kind == "file_system::File",
        Bound::Begins(start) => id.starts_with(start),
        Bound::Within(_, folder) => folder == "/" || id.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/')),
        Bound::Exactly(exact) => *exact == id,
    })
}

type Failure = (String, i32);

/// The program in a process of its own; what goes wrong before it begins comes back through a pipe that its beginning closes.
fn spawn(launch: &Launch, open: &child::Open, rules: &Rules) -> Result<(Pid, OwnedFd), Failure> {
    let failed = |errno: rustix::io::Errno| ("start".to_owned(), errno.raw_os_error());
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed)?;
    #[expect(unsafe_code, reason = "between fork and exec there is work that no safe interface offers")]
    // SAFETY: the broker has one thread, so the child has the whole state of the process.
    let forked = unsafe { libc::fork() };
    match forked {
        -1 => Err(failed(rustix::io::Errno::AGAIN)),
        0 => {
            drop(read);
            child::become_program(launch, open, rules, &write)
        }
        pid => {
            drop(write);
            let pid = Pid::from_raw(pid).ok_or_else(|| failed(rustix::io::Errno::AGAIN))?;
            let mut said = Vec::new();
            let _ = std::io::Read::read_to_end(&mut std::fs::File::from(read), &mut said);
            if !said.is_empty() {
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
                return Err(serde_json::from_slice(&said).unwrap_or_else(|_| failed(rustix::io::Errno::IO)));
            }
            match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                Ok(pidfd) => Ok((pid, pidfd)),
                Err(errno) => {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                    let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
                    Err(failed(errno))
                }
            }
        }
    }
}

/// rex says to end it, or has let go of it.
fn listen(program: &Program, programs: &[Program]) {
    match wire::packet(&program.reply) {
        Ok(Some((said, _))) if said == b"t" => {
            let _ = rustix::process::kill_process_group(program.pid, Signal::TERM);
        }
        _ => {
            let _ = rustix::process::pidfd_send_signal(program.pidfd.as_fd(), Signal::KILL);
            let others = programs.iter().filter(|other| other.pid != program.pid).map(|other| other.pid.as_raw_nonzero().get()).collect();
            tree::kill(&others, DYING);
        }
    }
}

/// What is left of a program that ended is killed, and rex is told.
fn finish(program: &Program, others: &[Program]) {
    let status = rustix::process::waitpid(Some(program.pid), WaitOptions::NOHANG).ok().flatten().map(|(_, status)| status);
    let spared: HashSet<i32> = others.iter().map(|other| other.pid.as_raw_nonzero().get()).collect();
    let left = tree::kill(&spared, DYING);
    let ended = Ended {
        code: status.and_then(|status| status.exit_status()),
        signal: status.and_then(|status| status.terminating_signal()).or(if status.is_none() { Some(libc::SIGKILL) } else { None }),
        limit: program.limit,
        left,
    };
    wire::tell(&program.reply, &Reply::Ended(ended));
}

fn hold_limits(programs: &mut [Program], rules: &Rules) {
    tree::reap(&programs.iter().map(|program| program.pid.as_raw_nonzero().get()).collect());
    let (count, bytes) = tree::weigh(rustix::process::getpid().as_raw_nonzero().get());
    let limit = if count > rules.children {
        Limit::Children
    } else if bytes > rules.memory {
        Limit::Memory
    } else {
        return;
    };
    for program in programs {
        program.limit = Some(limit);
    }
    // The leaders end with the rest, and are then reported.
    tree::kill(&HashSet::new(), DYING);
}

/// Sleeps.
pub(super) fn pause(time: Duration) {
    let time = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
    let _ = rustix::event::poll(&mut [], Some(&time));
}
