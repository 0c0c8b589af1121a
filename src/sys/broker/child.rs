//! What a new process does before it becomes the program: descriptors, limits, owner, fence, and then the very file that was judged.

use super::serve::Rules;
use super::wire::Launch;
use crate::sys::fence::Ready;
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The descriptors that came with the request.
pub(super) struct Open {
    pub program: OwnedFd,
    pub folder: OwnedFd,
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Where the program's own file is while the kernel starts it.
const PROGRAM: i32 = 3;
/// How many times the memory of the run one process may ask for; threads ask for much that they never use.
const MEMORY_AT_ONCE: u64 = 4;
/// Where failures are told.
const FAILURES: i32 = 4;

/// Becomes the program, or says through `failures` what stood in the way.
pub(super) fn become_program(launch: &Launch, open: &Open, rules: &Rules, fence: &Ready, failures: &OwnedFd) -> ! {
    let (what, errno) = match attempt(launch, open, rules, fence, failures) {
        Ok(never) => match never {},
        Err((what, errno)) => (what, errno.raw_os_error()),
    };
    if let Ok(text) = serde_json::to_vec(&(what, errno)) {
        // By now it may have another number.
        if rustix::io::write(failures, &text).is_err() {
            #[expect(unsafe_code, reason = "the number was given to it by this process")]
            // SAFETY: used for one write(2) just before the process ends; a number that is not open fails with EBADF.
            let again = unsafe { std::os::fd::BorrowedFd::borrow_raw(FAILURES) };
            let _ = rustix::io::write(again, &text);
        }
    }
    #[expect(unsafe_code, reason = "this copy must not run what the broker does when it ends")]
    // SAFETY: _exit(2) ends the process and touches no memory.
    unsafe {
        libc::_exit(127)
    }
}

enum Never {}

type Step<T> = std::result::Result<T, (&'static str, Errno)>;

fn attempt(launch: &Launch, open: &Open, rules: &Rules, fence: &Ready, failures: &OwnedFd) -> Step<Never> {
    let at = |what: &'static str| move |errno: Errno| (what, errno);
    let argv = strings(&launch.argv)?;
    let environment = strings(&launch.environment)?;
    rustix::process::setsid().map_err(at("setsid"))?;
    die_with_the_broker()?;
    limits(rules)?;
    rustix::process::setpriority_process(None, rules.nice).map_err(at("setpriority"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Its own folder of /proc has a name only now.
    let paths = fence.with_own_process().map_err(|_| ("arm the fence", Errno::PERM))?;
    owner(launch)?;
    // As the owner, so that a program begins in no folder that it could not enter.
    rustix::process::fchdir(&open.folder).map_err(at("enter the folder"))?;
    fence.restrict(paths).map_err(|_| ("arm the fence", Errno::PERM))?;
    descriptors(open, failures, fence.script)?;
    signals();
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|text| text.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (argv, environment) = (pointers(&argv), pointers(&environment));
    #[expect(unsafe_code, reason = "execveat(2) is in no safe crate of the graph")]
    // SAFETY: both are arrays of pointers to live strings that end with a null pointer; the path is empty, so the descriptor is the program.
    unsafe {
        libc::syscall(libc::SYS_execveat, PROGRAM, c"".as_ptr(), argv.as_ptr(), environment.as_ptr(), libc::AT_EMPTY_PATH);
    }
    Err(("execute", Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOEXEC)))
}

fn strings(items: &[Vec<u8>]) -> Step<Vec<CString>> {
    items.iter().map(|item| CString::new(item.as_slice()).map_err(|_| ("execute", Errno::INVAL))).collect()
}

/// The program dies with the broker, which ends what is left of it when it can.
fn die_with_the_broker() -> Step<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(|errno| ("prctl", errno))
}

/// No core, the processor time and file size of the run, and memory of one process that a look at all of them could come too late for.
fn limits(rules: &Rules) -> Step<()> {
    let set = |resource, soft: u64, hard: u64| {
        let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) };
        rustix::process::setrlimit(resource, limit).map_err(|errno| ("setrlimit", errno))
    };
    set(Resource::Core, 0, 0)?;
    // The first is told by a signal of its own, SIGXCPU; who ignores it is killed a second later.
    set(Resource::Cpu, rules.cpu.max(1), rules.cpu.max(1).saturating_add(1))?;
    set(Resource::Fsize, rules.file_size, rules.file_size)?;
    let data = rules.memory.saturating_mul(MEMORY_AT_ONCE).max(1 << 30);
    set(Resource::Data, data, data)?;
    set(Resource::Nofile, 1024, 1024)
}

/// User, group and supplementary groups together, and no capability but those asked for.
fn owner(launch: &Launch) -> Step<()> {
    let wanted = CapabilitySet::from_bits_retain(launch.capabilities);
    let at = |errno: Errno| ("set capabilities", errno);
    if rustix::process::geteuid().is_root() {
        // Root gets every capability by execve(2) otherwise (capabilities(7)).
        let bits = rustix::thread::CapabilitiesSecureBits::NO_ROOT | rustix::thread::CapabilitiesSecureBits::NO_ROOT_LOCKED;
        match rustix::thread::set_capabilities_secure_bits(bits) {
            // Without the right to say so, no-new-privs and the bounding set hold it.
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(at(errno)),
        }
    }
    for capability in CapabilitySet::all().difference(wanted).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(at(errno)),
        }
    }
    if let Some(owner) = &launch.owner {
        if !wanted.is_empty() {
            rustix::thread::set_keep_capabilities(true).map_err(at)?;
        }
        let groups: Vec<Gid> = owner.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        rustix::thread::set_thread_groups(&groups).map_err(|errno| ("set the groups", errno))?;
        let gid = Gid::from_raw(owner.gid);
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|errno| ("set the group", errno))?;
        let uid = Uid::from_raw(owner.uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|errno| ("set the user", errno))?;
        // It was taken away by the change of user.
        die_with_the_broker()?;
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

/// 0, 1 and 2 as given, the program on 3, and nothing else: a script's interpreter reads it there (execveat(2)).
fn descriptors(open: &Open, failures: &OwnedFd, script: bool) -> Step<()> {
    let at = |errno: Errno| ("dup", errno);
    // Out of the way first, so that none is overwritten before it is in its place.
    let high = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 16).map_err(at);
    let (program, stdin, stdout, stderr, failures) =
        (high(&open.program)?, high(&open.stdin)?, high(&open.stdout)?, high(&open.stderr)?, high(failures)?);
    rustix::stdio::dup2_stdin(&stdin).map_err(at)?;
    rustix::stdio::dup2_stdout(&stdout).map_err(at)?;
    rustix::stdio::dup2_stderr(&stderr).map_err(at)?;
    let put = |fd: &OwnedFd, number: i32, keep: bool| -> Step<()> {
        #[expect(unsafe_code, reason = "a fixed number has no owner")]
        // SAFETY: whatever had the number before is not used by this process any more; the new owner is forgotten, so that it stays open.
        let mut place = unsafe { OwnedFd::from_raw_fd(number) };
        let flags = if keep { rustix::io::DupFlags::empty() } else { rustix::io::DupFlags::CLOEXEC };
        let done = rustix::io::dup3(fd, &mut place, flags).map_err(at);
        std::mem::forget(place);
        done
    };
    put(&program, PROGRAM, script)?;
    put(&failures, FAILURES, false)?;
    #[expect(unsafe_code, reason = "close_range(2) is in no safe crate of the graph")]
    // SAFETY: only sets a flag on descriptors.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, FAILURES, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if closed < 0 {
        for number in FAILURES + 1..4096 {
            #[expect(unsafe_code, reason = "numbers without an owner")]
            // SAFETY: a borrow for one fcntl(2); on a number that is not open it fails with EBADF.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
            let _ = rustix::io::fcntl_setfd(fd.as_fd(), rustix::io::FdFlags::CLOEXEC);
        }
    }
    let _ = program.as_raw_fd();
    Ok(())
}

/// Every signal as a program expects it: nothing blocked, nothing ignored.
fn signals() {
    #[expect(unsafe_code, reason = "signal dispositions are in no safe crate of the graph")]
    // SAFETY: a set made by sigemptyset; all zeroes is SIG_DFL without flags or mask, in the kernel's own form and longer than it on any architecture.
    unsafe {
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        for signal in 1..=64 {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                // signal(3) leaves out those that the C library keeps for itself, which may have been ignored by whoever started rex.
                libc::syscall(libc::SYS_rt_sigaction, signal, [0u64; 8].as_ptr(), std::ptr::null_mut::<u64>(), 8usize);
            }
        }
    }
}
