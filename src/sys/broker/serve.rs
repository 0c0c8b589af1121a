//! The broker's own life: requests in, programs started, watched and ended.

use super::gauge::Gauge;
use super::wire::{Ended, LONG, Launch, Limit, Reply};
use super::{child, tree, wire};
use crate::policy::Bound;
use crate::resource::path::to_id;
use crate::sys::fence::{Plan, Ready};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
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
    /// Seconds of processor time that they may use together.
    pub cpu: u64,
    /// Bytes of a file that one of them makes.
    pub file_size: u64,
    /// The priority of rex, which programs have too.
    pub nice: i32,
}

/// A program under way.
struct Program {
    pid: Pid,
    pidfd: OwnedFd,
    reply: OwnedFd,
    limit: Option<Limit>,
}

impl Program {
    fn number(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }
}

/// Fences that are ready, by the program's file as it is now, and how often each was used.
type Fences = HashMap<[u64; 6], (Ready, u32)>;

/// The priority of the broker.
const NICE: i32 = -10;
/// How often memory and number of processes are looked at.
const LOOK: Duration = Duration::from_millis(40);
/// How long what is left of a program may take to die.
const DYING: Duration = Duration::from_secs(3);
/// The same when the run is over: nobody waits, and nobody comes after.
pub(super) const AT_LAST: Duration = Duration::from_secs(60);
/// How long a process may take to become its program. Only a file system that hangs needs longer.
const START: Duration = Duration::from_secs(10);
/// A fence grows by one rule with each use and is then made anew.
const USES: u32 = 100;
/// Fences kept ready.
const KEPT: usize = 32;

/// Serves until rex is gone, then ends everything.
///
/// `guard` hangs up when the one who watches over this process is gone: then it ends too, since what it does could be left undone.
pub(super) fn serve(requests: &OwnedFd, guard: &OwnedFd, rules: &Rules, gauge: Gauge) -> ! {
    let mut programs: Vec<Program> = Vec::new();
    if prepare(c"rex broker", &[requests, guard]).is_ok() {
        let mut fences = Fences::new();
        let mut looked = Instant::now();
        loop {
            let (request, alone, ended, said) = wait(requests, guard, &programs);
            if alone {
                break;
            }
            if request {
                match wire::packet(requests) {
                    Ok(Some((bytes, fds))) => {
                        let room = programs.len() < usize::try_from(rules.children).unwrap_or(usize::MAX);
                        programs.extend(start(bytes, fds, rules, room, &mut fences));
                        // Most programs end before they are looked at.
                        gauge.tell(u32::try_from(programs.len()).unwrap_or(u32::MAX), 0);
                    }
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
                finish(&program, &programs, gauge);
            }
            if !programs.is_empty() && looked.elapsed() >= LOOK {
                hold_limits(&mut programs, rules, gauge);
                looked = Instant::now();
            }
        }
    }
    tree::kill(&|_| true, AT_LAST);
    #[expect(unsafe_code, reason = "the broker must not run what rex does when it ends")]
    // SAFETY: _exit(2) ends the process and touches no memory.
    unsafe {
        libc::_exit(0)
    }
}

/// Every orphan falls to this process; nothing of rex stays open; what ends rex by a signal does not end the one who cleans up after it.
pub(super) fn prepare(name: &CStr, keep: &[&OwnedFd]) -> rustix::io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    rustix::thread::set_name(name)?;
    // A signal to rex's process group, by a terminal or whoever ends a session, is not for it.
    rustix::process::setsid()?;
    // Before what it has to end, however much of it there is; without the right to, like everything else.
    let _ = rustix::process::setpriority_process(None, NICE);
    // Where the kernel shares the processor among sessions (sched(7), autogroup), a bomb that makes many of them would leave this one next to nothing.
    let _ = std::fs::write("/proc/self/autogroup", NICE.to_string());
    let null = super::null().map_err(|_| Errno::NOENT)?;
    rustix::stdio::dup2_stdin(&null)?;
    // A caller that waits for the end of the output must not wait for the broker.
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    let mut kept: Vec<libc::c_uint> = keep.iter().filter_map(|fd| libc::c_uint::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    #[expect(unsafe_code, reason = "close_range(2) and signal dispositions are in no safe crate of the graph")]
    // SAFETY: the descriptors belong to values of rex that this process never uses or drops, since it never returns from here; SIG_IGN is no handler.
    unsafe {
        // Where the call is missing (before Linux 5.9) they stay open and are still closed when a program begins.
        let mut from = 3;
        for own in kept {
            if own > from {
                libc::syscall(libc::SYS_close_range, from, own - 1, 0);
            }
            from = own + 1;
        }
        libc::syscall(libc::SYS_close_range, from, libc::c_uint::MAX, 0);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE, libc::SIGUSR1, libc::SIGUSR2] {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
    Ok(())
}

/// Waits for anything: a request, the guard's end, programs that ended, rex saying something about one.
fn wait(requests: &OwnedFd, guard: &OwnedFd, programs: &[Program]) -> (bool, bool, Vec<usize>, Vec<usize>) {
    let mut fds = vec![PollFd::new(requests, PollFlags::IN), PollFd::new(guard, PollFlags::IN)];
    for program in programs {
        fds.push(PollFd::new(&program.pidfd, PollFlags::IN));
        fds.push(PollFd::new(&program.reply, PollFlags::IN));
    }
    let tick = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
    let _ = rustix::event::poll(&mut fds, (!programs.is_empty()).then_some(&tick));
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let of = |offset: usize| (0..programs.len()).filter(|at| ready.get(2 + 2 * at + offset) == Some(&true)).collect();
    (ready.first() == Some(&true), ready.get(1) == Some(&true), of(0), of(1))
}

fn start(bytes: Vec<u8>, mut fds: Vec<OwnedFd>, rules: &Rules, room: bool, fences: &mut Fences) -> Option<Program> {
    let bytes = if bytes == LONG && fds.len() == 7 { wire::long(fds.pop()?)? } else { bytes };
    if fds.len() != 6 {
        return None;
    }
    let reply = fds.pop()?;
    let mut fds = fds.into_iter();
    let (program, folder, stdin, stdout, stderr) = (fds.next()?, fds.next()?, fds.next()?, fds.next()?, fds.next()?);
    let Some(launch) = Launch::of_bytes(&bytes).filter(|_| permitted(&program, &rules.programs)) else {
        wire::tell(&reply, &Reply::Refused);
        return None;
    };
    if !room {
        wire::tell(&reply, &Reply::TooMany);
        return None;
    }
    let open = child::Open { program, folder, stdin, stdout, stderr };
    let started = fence(&open.program, rules, fences).and_then(|fence| spawn(&launch, &open, rules, fence));
    match started {
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

/// The fence of a program, made once for a file that stays as it is.
fn fence<'f>(program: &OwnedFd, rules: &Rules, fences: &'f mut Fences) -> Result<&'f Ready, Failure> {
    let stat = rustix::fs::fstat(program).map_err(|errno| ("start".to_owned(), errno.raw_os_error()))?;
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "the fields differ between architectures; only equality matters")]
    let key =
        [stat.st_dev as u64, stat.st_ino as u64, stat.st_size as u64, stat.st_ctime as u64, stat.st_ctime_nsec as u64, stat.st_mode.into()];
    if fences.get(&key).is_some_and(|(_, uses)| *uses >= USES) {
        fences.remove(&key);
    }
    if fences.len() >= KEPT {
        fences.clear();
    }
    let slot = match fences.entry(key) {
        std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
        std::collections::hash_map::Entry::Vacant(place) => {
            let ready = Ready::for_program(&rules.plan, program)
                .map_err(|error| (error.message.split(": ").next().unwrap_or_default().to_owned(), error.errno.unwrap_or(libc::EPERM)))?;
            place.insert((ready, 0))
        }
    };
    slot.1 += 1;
    Ok(&slot.0)
}

/// The program in a process of its own; what goes wrong before it begins comes back through a pipe that its beginning closes.
fn spawn(launch: &Launch, open: &child::Open, rules: &Rules, fence: &Ready) -> Result<(Pid, OwnedFd), Failure> {
    let failed = |errno: Errno| ("start".to_owned(), errno.raw_os_error());
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed)?;
    #[expect(unsafe_code, reason = "between fork and exec there is work that no safe interface offers")]
    // SAFETY: the broker has one thread, so the child has the whole state of the process.
    let forked = unsafe { libc::fork() };
    match forked {
        -1 => Err(failed(Errno::AGAIN)),
        0 => {
            drop(read);
            child::become_program(launch, open, rules, fence, &write)
        }
        pid => {
            drop(write);
            let pid = Pid::from_raw(pid).ok_or_else(|| failed(Errno::AGAIN))?;
            let abandon = || {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                // One that the kernel itself holds on to is not waited for.
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
            };
            let time = Timespec { tv_sec: i64::try_from(START.as_secs()).unwrap_or(10), tv_nsec: 0 };
            if !matches!(rustix::event::poll(&mut [PollFd::new(&read, PollFlags::IN)], Some(&time)), Ok(1)) {
                abandon();
                return Err(failed(Errno::TIMEDOUT));
            }
            let mut said = Vec::new();
            let _ = std::fs::File::from(read).read_to_end(&mut said);
            if !said.is_empty() {
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
                return Err(serde_json::from_slice(&said).unwrap_or_else(|_| failed(Errno::IO)));
            }
            rustix::process::pidfd_open(pid, PidfdFlags::empty()).map(|pidfd| (pid, pidfd)).map_err(|errno| {
                abandon();
                failed(errno)
            })
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
            let alone = programs.len() == 1;
            tree::kill(&|child| alone || child.pid == program.number() || child.session == program.number(), DYING);
        }
    }
}

/// What is left of a program that ended is killed, and rex is told.
fn finish(program: &Program, others: &[Program], gauge: Gauge) {
    let status = rustix::process::waitpid(Some(program.pid), WaitOptions::NOHANG).ok().flatten().map(|(_, status)| status);
    let left = if others.is_empty() {
        if nobody_left() { 0 } else { tree::kill(&|_| true, DYING) }
    } else {
        // Orphans in sessions of their own may be of any program: they go with the last one at the latest.
        tree::kill(&|child| child.session == program.number(), DYING)
    };
    let ended = Ended {
        code: status.and_then(|status| status.exit_status()),
        signal: status.and_then(|status| status.terminating_signal()).or(if status.is_none() { Some(libc::SIGKILL) } else { None }),
        limit: program.limit.or(match status.and_then(|status| status.terminating_signal()) {
            // The kernel's own words for these two limits (setrlimit(2)).
            Some(libc::SIGXCPU) => Some(Limit::Cpu),
            Some(libc::SIGXFSZ) => Some(Limit::FileSize),
            _ => None,
        }),
        left,
    };
    if others.is_empty() {
        gauge.tell(0, 0);
    }
    gauge.tell_cpu(tree::cpu_of_the_dead());
    wire::tell(&program.reply, &Reply::Ended(ended));
}

/// Whether this process has no child any more, and so nothing at all below it: the kernel itself says so (wait(2)).
fn nobody_left() -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return true,
            _ => return false,
        }
    }
}

fn hold_limits(programs: &mut [Program], rules: &Rules, gauge: Gauge) {
    let leaders: HashSet<i32> = programs.iter().map(Program::number).collect();
    let weight = tree::weigh(&leaders, rules.children);
    gauge.tell(weight.processes, weight.bytes);
    gauge.tell_cpu(weight.cpu);
    let limit = if weight.processes > rules.children {
        Limit::Children
    } else if weight.bytes > rules.memory {
        Limit::Memory
    } else if weight.cpu.as_secs() >= rules.cpu.max(1) {
        Limit::Cpu
    } else {
        return;
    };
    for program in programs.iter_mut() {
        program.limit = Some(limit);
    }
    for program in programs.iter() {
        // At once, before anything is looked for.
        let _ = rustix::process::kill_process_group(program.pid, Signal::KILL);
    }
    // The leaders end with the rest, and are then reported.
    tree::kill(&|_| true, DYING);
}

/// Sleeps.
pub(super) fn pause(time: Duration) {
    let time = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
    let _ = rustix::event::poll(&mut [], Some(&time));
}
