//! What a new process does before it becomes the program: descriptors, limits, owner, fence, and then the very file that was judged.
//!
//! It runs in the memory of the broker, on a stack of its own, while the broker waits: no page is copied for a process that is about to be another
//! (posix_spawn(3) does the same). So whatever takes memory is made before it begins, and it ends in execve(2) or _exit(2) without dropping anything.

use super::wire::Launch;
use crate::sys::fence::Ready;
use rustix::io::Errno;
use rustix::process::{Gid, Pid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// The descriptors that came with the request.
pub(super) struct Open {
    pub program: OwnedFd,
    pub folder: Option<OwnedFd>,
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// What is the same for every program of a run.
pub(super) struct Standing {
    /// Limits of the kernel, each with its value for soft and hard.
    /// Each with what is told of by a signal of its own, and the most.
    pub limits: [(Resource, u64, u64); 5],
    /// The priority of rex.
    pub nice: i32,
    /// The root directory.
    pub root: OwnedFd,
    /// Signals that the broker ignores and a program does not.
    pub ignored: &'static [i32],
}

/// Where the program's own file is while the kernel starts it. Nothing else of the broker has this number.
pub(super) const PROGRAM: i32 = 3;
/// How many times the memory of the run one process may ask for; threads ask for much that they never use.
const MEMORY_AT_ONCE: u64 = 4;

/// No core, the processor time of the run, and memory of one process that a look at all of them could come too late for. No more than rex's own.
pub(super) fn limits(cpu: u64, memory: u64, file_size: u64) -> [(Resource, u64, u64); 5] {
    let between = |resource, soft: u64, hard: u64| {
        let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        (resource, soft.min(most), hard.min(most))
    };
    let no_more = |resource, limit| between(resource, limit, limit);
    [
        no_more(Resource::Core, 0),
        // The first is told by SIGXCPU; who ignores that is killed a second later.
        between(Resource::Cpu, cpu.max(1), cpu.max(1).saturating_add(1)),
        no_more(Resource::Fsize, file_size),
        no_more(Resource::Data, memory.saturating_mul(MEMORY_AT_ONCE).max(1 << 30)),
        no_more(Resource::Nofile, 1024),
    ]
}

/// A process that is about to become a program, in the memory of the broker. It has to stay where it is until that memory is the broker's alone again.
pub(super) struct Start<'a> {
    pub open: &'a Open,
    pub standing: &'a Standing,
    pub fence: &'a Ready,
    launch: &'a Launch,
    groups: Vec<Gid>,
    argv: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    // What the pointers above point to.
    _strings: Vec<CString>,
    /// What stood in the way.
    failed: OnceLock<(&'static str, Errno)>,
}

enum Never {}

type Step<T> = std::result::Result<T, (&'static str, Errno)>;

impl<'a> Start<'a> {
    /// Nothing when a string holds a NUL.
    pub(super) fn new(launch: &'a Launch, open: &'a Open, standing: &'a Standing, fence: &'a Ready) -> Option<Self> {
        let strings = |items: &[Vec<u8>]| items.iter().map(|item| CString::new(item.as_slice()).ok()).collect::<Option<Vec<_>>>();
        let (mut all, environment) = (strings(&launch.argv)?, strings(&launch.environment)?);
        let pointers = |strings: &[CString]| -> Vec<*const c_char> {
            strings.iter().map(|text| text.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
        };
        let (argv, pairs) = (pointers(&all), pointers(&environment));
        all.extend(environment);
        let groups = launch.owner.iter().flat_map(|owner| &owner.groups).map(|gid| Gid::from_raw(*gid)).collect();
        let failed = OnceLock::new();
        Some(Self { open, standing, fence, launch, groups, argv, environment: pairs, _strings: all, failed })
    }

    /// The new process.
    ///
    /// # Safety
    /// Until every copy of a descriptor that closes at exec is closed in the new process, which is when it has become the program or has ended, this
    /// process may touch nothing that `self` holds, and `self` and `stack` stay where they are. No other thread may run.
    #[expect(unsafe_code, reason = "a process in the memory of this one has no safe interface")]
    pub(super) unsafe fn begin(&self, stack: &Stack) -> rustix::io::Result<Pid> {
        let own = std::ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: the stack is one that nothing else uses and large enough; the function takes what is passed to it, which the caller keeps alive.
        let pid = unsafe { libc::clone(become_program, stack.top(), libc::CLONE_VM | libc::SIGCHLD, own) };
        Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(|| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN))
    }

    /// What stood in the way, once its memory is no longer shared.
    pub(super) fn failed(&self) -> Option<(&'static str, Errno)> {
        self.failed.get().copied()
    }
}

/// Room for the steps below, and an inaccessible page for what would overflow it.
pub(super) struct Stack {
    start: *mut c_void,
}

/// Bytes of a stack. Debug builds need some 20 KiB.
const STACK: usize = 256 << 10;
/// No page is larger on the architectures that rex is built for.
const GUARD: usize = 64 << 10;

impl Stack {
    pub(super) fn new() -> rustix::io::Result<Self> {
        let failed = || Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOMEM);
        #[expect(unsafe_code, reason = "memory for a stack has no safe interface")]
        // SAFETY: a new mapping, which nothing refers to; the second call takes access to the beginning of it away.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
            let start = libc::mmap(std::ptr::null_mut(), STACK + GUARD, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            if start == libc::MAP_FAILED || libc::mprotect(start, GUARD, libc::PROT_NONE) != 0 {
                return Err(failed());
            }
            Ok(Self { start })
        }
    }
    fn top(&self) -> *mut c_void {
        self.start.wrapping_byte_add(STACK + GUARD)
    }
}

/// Becomes the program, or leaves what stood in the way where the broker finds it.
extern "C" fn become_program(start: *mut c_void) -> c_int {
    #[expect(unsafe_code, reason = "what clone(2) passes on is a bare pointer")]
    // SAFETY: it is the `self` of `begin`, which is kept alive and left alone by the broker as long as this process shares its memory.
    let start: &Start<'_> = unsafe { &*start.cast_const().cast() };
    let Err(why) = attempt(start);
    let _ = start.failed.set(why);
    #[expect(unsafe_code, reason = "this process must not run what the broker does when it ends")]
    // SAFETY: _exit(2) ends the process and touches no memory.
    unsafe {
        libc::_exit(127)
    }
}

fn attempt(start: &Start<'_>) -> Step<Never> {
    let Start { open, standing, fence, .. } = start;
    let at = |what: &'static str| move |errno: Errno| (what, errno);
    rustix::process::setsid().map_err(at("setsid"))?;
    die_with_the_broker()?;
    for (resource, soft, hard) in standing.limits {
        let limit = Rlimit { current: Some(soft), maximum: Some(hard) };
        rustix::process::setrlimit(resource, limit).map_err(at("setrlimit"))?;
    }
    rustix::process::setpriority_process(None, standing.nice).map_err(at("setpriority"))?;
    // Its own folder of /proc has a name only now.
    let paths = fence.with_own_process().map_err(|_| ("arm the fence", Errno::PERM))?;
    owner(start.launch, &start.groups)?;
    // As the owner, so that a program begins in no folder that it could not enter.
    rustix::process::fchdir(open.folder.as_ref().unwrap_or(&standing.root)).map_err(at("enter the folder"))?;
    fence.restrict(paths).map_err(|_| ("arm the fence", Errno::PERM))?;
    descriptors(open, fence.script)?;
    signals(standing.ignored);
    #[expect(unsafe_code, reason = "execveat(2) is in no safe crate of the graph")]
    // SAFETY: both are arrays of pointers to live strings that end with a null pointer; the path is empty, so the descriptor is the program.
    unsafe {
        libc::syscall(libc::SYS_execveat, PROGRAM, c"".as_ptr(), start.argv.as_ptr(), start.environment.as_ptr(), libc::AT_EMPTY_PATH);
    }
    Err(("execute", Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOEXEC)))
}

/// The program dies with the broker, which ends what is left of it when it can.
fn die_with_the_broker() -> Step<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(|errno| ("prctl", errno))
}

/// What root gets by execve(2), and what files give (capabilities(7)): nothing, for this process and all that come of it. Its own it keeps.
pub(super) fn no_capabilities_by_exec() -> rustix::io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let bits = rustix::thread::CapabilitiesSecureBits::NO_ROOT | rustix::thread::CapabilitiesSecureBits::NO_ROOT_LOCKED;
        match rustix::thread::set_capabilities_secure_bits(bits) {
            // Without the right to say so, no-new-privs holds it.
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    let now = rustix::thread::capabilities(None)?;
    // What is in no bounding set can be handed on only if it was inheritable before.
    rustix::thread::set_capabilities(None, CapabilitySets { inheritable: now.permitted, ..now })?;
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// User, group and supplementary groups together, and no capability but those asked for.
fn owner(launch: &Launch, groups: &[Gid]) -> Step<()> {
    let wanted = CapabilitySet::from_bits_retain(launch.capabilities);
    let at = |errno: Errno| ("set capabilities", errno);
    if let Some(owner) = &launch.owner {
        if !wanted.is_empty() {
            rustix::thread::set_keep_capabilities(true).map_err(at)?;
        }
        rustix::thread::set_thread_groups(groups).map_err(|errno| ("set the groups", errno))?;
        let gid = Gid::from_raw(owner.gid);
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|errno| ("set the group", errno))?;
        let uid = Uid::from_raw(owner.uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|errno| ("set the user", errno))?;
        // It was taken away by the change of user, which says anew whether others may look into this memory, too: they may not.
        die_with_the_broker()?;
        not_dumpable().map_err(|errno| ("prctl", errno))?;
    }
    let now = rustix::thread::capabilities(None).map_err(at)?;
    if !now.permitted.contains(wanted) {
        return Err(("set capabilities", Errno::PERM));
    }
    rustix::thread::set_capabilities(None, CapabilitySets { effective: wanted, permitted: wanted, inheritable: wanted }).map_err(at)?;
    match rustix::thread::clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(at(errno)),
    }
    for capability in wanted.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true).map_err(at)?;
    }
    Ok(())
}

fn not_dumpable() -> rustix::io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
}

/// 0, 1 and 2 as given, the program on 3, and nothing else: a script's interpreter reads it there (execveat(2)).
fn descriptors(open: &Open, script: bool) -> Step<()> {
    let at = |errno: Errno| ("dup", errno);
    // The broker's own 0 to 3 are nothing, so none is overwritten before it is in its place.
    if let Some(stdin) = &open.stdin {
        rustix::stdio::dup2_stdin(stdin).map_err(at)?;
    }
    rustix::stdio::dup2_stdout(&open.stdout).map_err(at)?;
    rustix::stdio::dup2_stderr(&open.stderr).map_err(at)?;
    #[expect(unsafe_code, reason = "a fixed number has no owner")]
    // SAFETY: the number is the broker's and means nothing there; the new owner is forgotten, so that it stays open.
    let mut place = unsafe { OwnedFd::from_raw_fd(PROGRAM) };
    let flags = if script { rustix::io::DupFlags::empty() } else { rustix::io::DupFlags::CLOEXEC };
    let done = rustix::io::dup3(&open.program, &mut place, flags).map_err(at);
    std::mem::forget(place);
    done?;
    #[expect(unsafe_code, reason = "close_range(2) is in no safe crate of the graph")]
    // SAFETY: only sets a flag on descriptors.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, PROGRAM + 1, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if closed < 0 {
        for number in PROGRAM + 1..4096 {
            #[expect(unsafe_code, reason = "numbers without an owner")]
            // SAFETY: a borrow for one fcntl(2); on a number that is not open it fails with EBADF.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            let _ = rustix::io::fcntl_setfd(fd.as_fd(), rustix::io::FdFlags::CLOEXEC);
        }
    }
    Ok(())
}

/// Every signal as a program expects it: nothing blocked, nothing ignored. The broker has let go of all but these before.
fn signals(ignored: &[i32]) {
    unblock_all();
    ignored.iter().for_each(|signal| disposition(*signal, libc::SIG_DFL));
}

pub(super) fn unblock_all() {
    #[expect(unsafe_code, reason = "signal masks are in no safe crate of the graph")]
    // SAFETY: a set made by sigemptyset(3).
    unsafe {
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// SIG_DFL or SIG_IGN for a signal.
pub(super) fn disposition(signal: i32, what: libc::sighandler_t) {
    let action = [what as u64, 0, 0, 0, 0, 0, 0, 0];
    #[expect(unsafe_code, reason = "signal dispositions are in no safe crate of the graph")]
    // SAFETY: a disposition without flags or mask, in the kernel's own form and longer than it on any architecture; it is no handler. signal(3) leaves out
    // those that the C library keeps for itself, which may have been ignored by whoever started rex.
    unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), std::ptr::null_mut::<u64>(), 8usize);
    }
}
