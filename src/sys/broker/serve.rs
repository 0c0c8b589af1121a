//! The broker's own life: requests in, programs started, watched and ended.

use super::child::{Stack, Standing, Start};
use super::gauge::Gauge;
use super::wire::{Ended, LONG, Launch, Limit, Reply};
use super::{child, tree, wire};
use crate::policy::Bound;
use crate::resource::path::to_id;
use crate::sys::fence::{Plan, Ready};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// What the broker holds to, whatever it is asked.
pub struct Rules<'a> {
    /// The hull of `execute`.
    pub programs: Vec<Bound>,
    /// The hull of everything else, which programs stay in too. Computed with the first request.
    pub plan: Box<dyn FnOnce() -> Plan + 'a>,
    /// Processes of one run at a time.
    pub children: u32,
    /// Bytes of memory that they may use together.
    pub memory: u64,
    /// Seconds of processor time that they may use together.
    pub cpu: u64,
    /// Bytes of a file that one of them makes.
    pub file_size: u64,
}

/// What is there from the first request on.
struct Armed {
    plan: Plan,
    standing: Standing,
    stack: Stack,
    fences: Fences,
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
pub(super) const NICE: i32 = -10;
/// How often memory and number of processes are looked at.
const LOOK: Duration = Duration::from_millis(40);
/// How long what is left of a program may take to die.
const DYING: Duration = Duration::from_secs(3);
/// The same when the run is over: nobody waits, and nobody comes after.
pub(super) const AT_LAST: Duration = Duration::from_secs(60);
/// How long a process may take to become its program. Only a file system that hangs needs longer.
const START: Duration = Duration::from_secs(10);
/// A fence grows by one rule with each use and is then made anew.
const USES: u32 = 24;
/// Fences kept ready.
const KEPT: usize = 32;

/// Signals that end rex, or the session that it is in, and not the one who cleans up after it.
pub(super) const IGNORED: &[i32] = &[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE, libc::SIGUSR1, libc::SIGUSR2];

/// Serves until rex is gone, then ends everything.
///
/// `guard` hangs up when the one who watches over this process is gone: then it ends too, since what it does could be left undone.
pub(super) fn serve(requests: OwnedFd, guard: OwnedFd, rules: Rules<'_>, gauge: Gauge) -> ! {
    let nice = rustix::process::getpriority_process(None).unwrap_or(0);
    if let Ok((requests, guard)) = prepare(requests, guard) {
        serve_requests(&requests, &guard, rules, gauge, nice);
    }
    if !nobody_left() {
        tree::kill(&|_| true, AT_LAST);
    }
    #[expect(unsafe_code, reason = "the broker must not run what rex does when it ends")]
    // SAFETY: _exit(2) ends the process and touches no memory.
    unsafe {
        libc::_exit(0)
    }
}

fn serve_requests(requests: &OwnedFd, guard: &OwnedFd, rules: Rules<'_>, gauge: Gauge, nice: i32) {
    let Rules { programs: permitted, plan, children, memory, cpu, file_size } = rules;
    let mut programs: Vec<Program> = Vec::new();
    let (mut plan, mut armed) = (Some(plan), None);
    let mut looked = Instant::now();
    loop {
        let (request, alone, ended, said) = wait(requests, guard, &programs);
        if alone {
            return;
        }
        if request {
            let Ok(Some((bytes, fds))) = wire::packet(requests) else { return };
            if let Some(plan) = plan.take() {
                armed = Some(arm(plan(), child::limits(cpu, memory, file_size), nice));
            }
            if let Some(armed) = &mut armed {
                let room = programs.len() < usize::try_from(children).unwrap_or(usize::MAX);
                programs.extend(start(bytes, fds, &permitted, room, armed.as_mut().map_err(|failure| failure.clone())));
                // Most programs end before they are looked at.
                gauge.tell(u32::try_from(programs.len()).unwrap_or(u32::MAX), 0);
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
            hold_limits(&mut programs, (children, memory, cpu), gauge);
            looked = Instant::now();
        }
    }
}

/// Every orphan falls to this process; nothing of rex stays open; what ends rex by a signal does not end the one who cleans up after it.
fn prepare(requests: OwnedFd, guard: OwnedFd) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    rustix::thread::set_name(c"rex broker")?;
    // A signal to rex's process group, by a terminal or whoever ends a session, is not for it.
    rustix::process::setsid()?;
    first_of_all();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    // A caller that waits for the end of the output must not wait for the broker.
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    // The numbers below are those of programs.
    let kept = rustix::io::fcntl_dupfd_cloexec(&requests, child::PROGRAM + 1)?;
    let kept_guard = rustix::io::fcntl_dupfd_cloexec(&guard, child::PROGRAM + 1)?;
    // What owned them is never used or dropped, since this process never returns to it.
    std::mem::forget((null, requests, guard));
    close_all_but(&[&kept, &kept_guard]);
    let mut place = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), child::PROGRAM)?;
    if place.as_raw_fd() != child::PROGRAM {
        #[expect(unsafe_code, reason = "a fixed number has no owner")]
        // SAFETY: whatever has the number belongs to a value of rex that this process never uses or drops.
        let number = unsafe { OwnedFd::from_raw_fd(child::PROGRAM) };
        std::mem::forget(std::mem::replace(&mut place, number));
        rustix::io::dup3(rustix::stdio::stdin(), &mut place, rustix::io::DupFlags::CLOEXEC)?;
    }
    std::mem::forget(place);
    IGNORED.iter().for_each(|signal| child::disposition(*signal, libc::SIG_IGN));
    Ok((kept, kept_guard))
}

/// Before what is to be ended, however much of it there is; without the right to, like everything else.
pub(super) fn first_of_all() {
    let _ = rustix::process::setpriority_process(None, NICE);
    // Where the kernel shares the processor among sessions (sched(7), autogroup), a bomb that makes many of them would leave this one next to nothing.
    let _ = std::fs::write("/proc/self/autogroup", NICE.to_string());
}

/// Closes every descriptor but the standard ones and these.
pub(super) fn close_all_but(keep: &[&OwnedFd]) {
    let mut kept: Vec<libc::c_uint> = keep.iter().filter_map(|fd| libc::c_uint::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut from = 3;
    for until in kept.into_iter().chain(std::iter::once(libc::c_uint::MAX)) {
        if until > from {
            #[expect(unsafe_code, reason = "close_range(2) is in no safe crate of the graph")]
            // SAFETY: the descriptors belong to values of rex that this process never uses or drops.
            unsafe {
                // Where the call is missing (before Linux 5.9) they stay open and are still closed when a program begins.
                libc::syscall(libc::SYS_close_range, from, until - 1, 0);
            }
        }
        from = until.saturating_add(1);
    }
}

/// What only runs that start programs pay for. Nothing of it takes a power away that ending programs needs.
fn arm(plan: Plan, limits: [(rustix::process::Resource, u64, u64); 5], nice: i32) -> Result<Armed, Failure> {
    let failed = |errno: Errno| ("start".to_owned(), errno.raw_os_error());
    for signal in (1..=64).filter(|signal| !IGNORED.contains(signal) && !matches!(*signal, libc::SIGKILL | libc::SIGSTOP)) {
        child::disposition(signal, libc::SIG_DFL);
    }
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty()).map_err(failed)?;
    let standing = Standing { limits, nice, root, ignored: IGNORED };
    child::no_capabilities_by_exec().map_err(failed)?;
    crate::sys::fence::refuse_calls_of_programs(&plan).map_err(|_| ("arm the fence".to_owned(), libc::EPERM))?;
    Ok(Armed { plan, standing, stack: Stack::new().map_err(failed)?, fences: Fences::new() })
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

fn start(bytes: Vec<u8>, mut fds: Vec<OwnedFd>, permitted: &[Bound], room: bool, armed: Result<&mut Armed, Failure>) -> Option<Program> {
    let bytes = if bytes == LONG { wire::long(fds.pop()?)? } else { bytes };
    let launch = Launch::of_bytes(&bytes).filter(|(_, with)| with.descriptors() == fds.len());
    let mut fds = fds.into_iter();
    let (program, stdout, stderr, reply) = (fds.next()?, fds.next()?, fds.next()?, fds.next()?);
    let Some((launch, with)) = launch.filter(|_| lists(permitted, &program)) else {
        wire::tell(&reply, &Reply::Refused);
        return None;
    };
    if !room {
        wire::tell(&reply, &Reply::TooMany);
        return None;
    }
    let open = child::Open {
        program,
        folder: with.folder.then(|| fds.next()).flatten(),
        stdin: with.stdin.then(|| fds.next()).flatten(),
        stdout,
        stderr,
    };
    let started = armed.and_then(|armed| {
        let fence = fence(&open.program, &armed.plan, &mut armed.fences)?;
        spawn(&launch, &open, &armed.standing, fence, &mut armed.stack)
    });
    match started {
        Ok((pid, pidfd)) => {
            if with.tell {
                wire::tell(&reply, &Reply::Started);
            }
            Some(Program { pid, pidfd, reply, limit: None })
        }
        Err((what, errno)) => {
            wire::tell(&reply, &Reply::Failed { what, errno });
            None
        }
    }
}

/// Whether the hull lists this very file.
fn lists(permitted: &[Bound], program: &OwnedFd) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(path) = crate::sys::fence::place(program) else { return false };
    let id = to_id(path.as_os_str().as_bytes());
    permitted.iter().any(|bound| match bound {
        Bound::Anything => true,
        Bound::Kind(kind) => kind == "file_system::File",
        Bound::Begins(start) => id.starts_with(start),
        Bound::Within(_, folder) => folder == "/" || id.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/')),
        Bound::Exactly(exact) => *exact == id,
    })
}

type Failure = (String, i32);

/// The fence of a program, made once for a file that stays as it is.
fn fence<'f>(program: &OwnedFd, plan: &Plan, fences: &'f mut Fences) -> Result<&'f Ready, Failure> {
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
            let ready = Ready::for_program(plan, program)
                .map_err(|error| (error.message.split(": ").next().unwrap_or_default().to_owned(), error.errno.unwrap_or(libc::EPERM)))?;
            place.insert((ready, 0))
        }
    };
    slot.1 += 1;
    Ok(&slot.0)
}

/// The program in a process of its own. It has begun when the kernel has closed a pipe that no program keeps.
fn spawn(launch: &Launch, open: &child::Open, standing: &Standing, fence: &Ready, stack: &mut Stack) -> Result<(Pid, OwnedFd), Failure> {
    let failed = |errno: Errno| ("start".to_owned(), errno.raw_os_error());
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed)?;
    let start = Start::new(launch, open, standing, fence).ok_or_else(|| failed(Errno::INVAL))?;
    #[expect(unsafe_code, reason = "a process in the memory of this one has no safe interface")]
    // SAFETY: the broker has one thread, and waits below until the pipe is closed in the new process; where it waits no longer, `start` and the
    // stack are left to it for good.
    let pid = unsafe { start.begin(stack) }.map_err(failed)?;
    drop(write);
    let until = Instant::now() + START;
    let begun = loop {
        let left = until.saturating_duration_since(Instant::now());
        let time = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(0), tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut [PollFd::new(&read, PollFlags::IN)], Some(&time)) {
            Err(Errno::INTR) => {}
            done => break done == Ok(1),
        }
    };
    let abandon = || {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        // One that the kernel itself holds on to is not waited for.
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
    };
    if !begun {
        abandon();
        // It may still hold on to them.
        std::mem::forget(start);
        if let Ok(other) = Stack::new() {
            *stack = other;
            return Err(failed(Errno::TIMEDOUT));
        }
        // Without a stack nothing can be started any more, and what is under way is ended.
        tree::kill(&|_| true, AT_LAST);
        #[expect(unsafe_code, reason = "the broker must not run what rex does when it ends")]
        // SAFETY: _exit(2) ends the process and touches no memory.
        unsafe {
            libc::_exit(1)
        }
    }
    if let Some((what, errno)) = start.failed() {
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        return Err((what.to_owned(), errno.raw_os_error()));
    }
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).map(|pidfd| (pid, pidfd)).map_err(|errno| {
        abandon();
        failed(errno)
    })
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
pub(super) fn nobody_left() -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return true,
            _ => return false,
        }
    }
}

fn hold_limits(programs: &mut [Program], (children, memory, cpu): (u32, u64, u64), gauge: Gauge) {
    let leaders: HashSet<i32> = programs.iter().map(Program::number).collect();
    let weight = tree::weigh(&leaders, children);
    gauge.tell(weight.processes, weight.bytes);
    gauge.tell_cpu(weight.cpu);
    let limit = if weight.processes > children {
        Limit::Children
    } else if weight.bytes > memory {
        Limit::Memory
    } else if weight.cpu.as_secs() >= cpu.max(1) {
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
