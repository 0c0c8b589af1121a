//! seccomp: the system calls that rex makes, and no others. What is not listed fails with EPERM.

use super::filter::{Answers, Rules, compile};
use super::plan::{Calls, Plan};
use crate::error::{Error, Kind, Result};
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompRule, TargetArch};

/// Calls that work on what is open, on this process's memory, threads and clocks, and on names without changing them.
const ALWAYS: &[i64] = &[
    // Descriptors.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_lseek,
    libc::SYS_flock,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_signalfd4,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    // Looking.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    // Memory; never to be run as code, see below.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_membarrier,
    // Threads and signals of this process.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_capget,
    libc::SYS_getrusage,
    libc::SYS_getpriority,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // Clocks, chance, the host.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_memfd_create,
    // Sockets that are open already: the host's log, the broker. What is sent where, see below.
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
];

/// The older forms that only this architecture has, and libraries still use.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_pipe,
    libc::SYS_epoll_wait,
    libc::SYS_getpgrp,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// Where some permitted operation changes files. Landlock says which.
const CHANGE: &[i64] = &[
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_renameat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_utimensat,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
];
/// The same on what is open, but for the files of the records.
const CHANGE_OPEN: &[i64] = &[libc::SYS_ftruncate, libc::SYS_fallocate];
/// A replaced file takes owner and attributes over from the old one, so these come with changing files. Landlock knows nothing of them: the forms that
/// take a path reach every file of the account, so only those on open files are here, and what can be opened Landlock does say.
const OWNERS_OPEN: &[i64] = &[libc::SYS_fchown];
const ATTRIBUTES_OPEN: &[i64] = &[libc::SYS_fsetxattr, libc::SYS_fremovexattr];
const OWNERS: &[i64] = &[libc::SYS_fchownat];
const ATTRIBUTES: &[i64] = &[libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_removexattr, libc::SYS_lremovexattr];
/// fchmodat2(2), which libc does not know on every architecture; its number is the same on all (Linux 6.6).
const FCHMODAT2: i64 = 452;
const CHMOD: &[i64] = &[libc::SYS_fchmodat, FCHMODAT2];
/// The forms that only this architecture has are left out where a library has another.
#[cfg(target_arch = "x86_64")]
const DUP: &[i64] = &[libc::SYS_dup, libc::SYS_dup2, libc::SYS_dup3];
#[cfg(not(target_arch = "x86_64"))]
const DUP: &[i64] = &[libc::SYS_dup, libc::SYS_dup3];
/// What is done to descriptors by number. Not among them: new flags (F_SETFL would let a record be overwritten) and whom a descriptor
/// sends signals to (F_SETOWN, F_SETSIG).
const FCNTL: &[i32] = &[
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
    libc::F_ADD_SEALS,
    libc::F_GET_SEALS,
    libc::F_GETPIPE_SZ,
    libc::F_SETPIPE_SZ,
];
const SIGNALS: &[i64] = &[libc::SYS_kill, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal];

/// What no program needs that is started for a script, and much else is attacked through: other processes, the kernel's own machinery, namespaces.
const NO_PROGRAM: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_personality,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
];
/// What of these a debugger needs.
const DEBUGGER: &[i64] = &[libc::SYS_ptrace, libc::SYS_process_vm_readv];
/// A new user namespace, which would give a process capabilities of its own (clone(2)).
const CLONE_NEWUSER: u64 = 0x1000_0000;

/// The filter of a program, compiled; none where seccomp does not know this architecture.
pub(super) type Filters = Option<BpfProgram>;

/// Bit of the calls of the x32 ABI, which the kernel counts as this architecture's own (syscall(2)).
const X32: i64 = 0x4000_0000;
/// Calls that have another number there: ioctl, ptrace, kexec_load, process_vm_readv, process_vm_writev, as arch/x86/entry/syscalls/syscall_64.tbl has them.
const X32_IOCTL: i64 = 514;
const X32_REFUSED: &[i64] = &[521, 528, 539, 540];

/// The filter of a program: a list of what it may not do, since what programs do is theirs to say.
pub(super) fn of_program(plan: &Plan) -> Result<Filters> {
    let Some(arch) = target() else { return Ok(None) };
    let mut refused = Rules::new();
    for call in NO_PROGRAM.iter().filter(|call| !plan.calls.debugs || !DEBUGGER.contains(call)) {
        refused.insert(*call, Vec::new());
    }
    refused.insert(libc::SYS_clone, vec![when(vec![is(0, Op::MaskedEq(CLONE_NEWUSER), CLONE_NEWUSER)?])?]);
    refused.insert(libc::SYS_socket, other_sockets(plan.calls)?);
    // Typing into the caller's terminal.
    let terminals = each(1, &[libc::TIOCSTI as i32, libc::TIOCSETD as i32, libc::TIOCLINUX as i32])?;
    refused.insert(libc::SYS_ioctl, terminals.clone());
    if !plan.calls.chmod && !plan.calls.change {
        CHMOD.iter().chain([&libc::SYS_fchmod]).for_each(|call| drop(refused.insert(*call, Vec::new())));
    }
    if cfg!(target_arch = "x86_64") {
        let same: Vec<(i64, Vec<SeccompRule>)> = refused.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        refused.extend(same);
        refused.insert(X32_IOCTL | X32, terminals);
        refused.extend(X32_REFUSED.iter().map(|call| (call | X32, Vec::new())));
    }
    let own = vec![(libc::SYS_clone3, no_such_call()), (libc::SYS_clone3 | X32, no_such_call())];
    Ok(Some(compile(refused, &Answers { otherwise: SeccompAction::Allow, matched: not_permitted(), own }, arch)?))
}

/// Sockets that no permitted operation needs. Those of this host (AF_UNIX) lead to services that do as root what they are told, so they need a permit
/// for services, the journal or the network too.
fn other_sockets(calls: Calls) -> Result<Vec<SeccompRule>> {
    let families: &[i32] = match (calls.network, calls.unix_sockets) {
        (true, _) => &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK],
        (false, true) => &[libc::AF_UNIX],
        (false, false) => return Ok(Vec::new()),
    };
    Ok(vec![when(families.iter().map(|family| is(0, Op::Ne, u64::from(family.unsigned_abs()))).collect::<Result<_>>()?)?])
}

/// Whether the kernel has it.
pub(super) fn restrict_program(filters: &Filters) -> Result<bool> {
    filters.as_ref().map_or(Ok(false), apply)
}

/// Whether the kernel has it.
fn apply(program: &BpfProgram) -> Result<bool> {
    match seccompiler::apply_filter(program) {
        Ok(()) => Ok(true),
        Err(seccompiler::Error::Seccomp(error)) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => Ok(false),
        Err(error) => Err(failed(&error.to_string())),
    }
}

/// Set-user-id and set-group-id, which no file gets unless some policy permits changing modes.
const SET_ID: u64 = 0o6000;

/// Whether the kernel has it.
///
/// `records` and `sockets` are descriptors: the files of the records, and what is connected to services of this host.
pub(super) fn restrict(plan: &Plan, records: &[i32], sockets: &[i32]) -> Result<bool> {
    let Some(arch) = target() else { return Ok(false) };
    let pid = u64::try_from(rustix::process::getpid().as_raw_nonzero().get()).unwrap_or(0);
    // The flags of clone3(2) are in memory, where no filter sees them; told that there is no such call, libraries make threads with clone(2).
    let own = vec![(libc::SYS_clone3, no_such_call())];
    let answers = Answers { otherwise: not_permitted(), matched: SeccompAction::Allow, own };
    apply(&compile(rules(plan.calls, pid, records, sockets)?, &answers, arch)?)
}

fn not_permitted() -> SeccompAction {
    SeccompAction::Errno(libc::EPERM.unsigned_abs())
}

fn no_such_call() -> SeccompAction {
    SeccompAction::Errno(libc::ENOSYS.unsigned_abs())
}

pub(super) fn failed(why: &str) -> Error {
    Error::new(Kind::Layer, format!("the layer `seccomp` cannot be armed: {why}"))
}

fn target() -> Option<TargetArch> {
    std::env::consts::ARCH.try_into().ok()
}

fn rules(calls: Calls, pid: u64, records: &[i32], sockets: &[i32]) -> Result<Rules> {
    let mut rules = Rules::new();
    let mut all = |list: &[i64]| {
        for call in list {
            rules.insert(*call, Vec::new());
        }
    };
    all(ALWAYS);
    all(OLDER);
    if calls.change {
        all(CHANGE);
    }
    if calls.chown || calls.moves {
        all(OWNERS);
    }
    if calls.xattr {
        all(ATTRIBUTES);
    }
    if calls.chmod {
        // Times are attributes too.
        all(&[libc::SYS_utimensat]);
    }
    if calls.chmod || calls.moves {
        all(CHMOD);
    }
    if calls.signals {
        all(SIGNALS);
    }
    if calls.unmounting {
        all(&[libc::SYS_umount2, libc::SYS_fchdir, libc::SYS_chdir]);
    }
    if calls.clock {
        // The C libraries differ in which of the two they make of it.
        all(&[libc::SYS_adjtimex, libc::SYS_clock_adjtime]);
    }
    if calls.unix_sockets || calls.programs || calls.debugs || calls.unmounts {
        // Whom it goes to stands in memory, so where nothing needs it there is none of it.
        all(&[libc::SYS_sendmsg]);
    }
    let connects = calls.names || calls.network || calls.local;
    // Where something may be connected, it is not what leads to the host's services already: the log's socket would take another address.
    let kept: Vec<i32> = if connects { records.iter().chain(sockets).copied().collect() } else { records.to_vec() };
    let other = |kept: &[i32]| kept.iter().map(|fd| is(0, Op::Ne, u64::from(fd.cast_unsigned()))).collect::<Result<Vec<_>>>();
    if connects {
        let other = other(sockets)?;
        rules.insert(libc::SYS_connect, if other.is_empty() { Vec::new() } else { vec![when(other)?] });
    }
    let mut opened = Vec::new();
    let mut open = |family: i32, kind: i32, protocol: Option<i32>| -> Result<()> {
        let mut conditions =
            vec![is(0, Op::Eq, u64::from(family.unsigned_abs()))?, is(1, Op::MaskedEq(0xf), u64::from(kind.unsigned_abs()))?];
        if let Some(protocol) = protocol {
            conditions.push(is(2, Op::Eq, u64::from(protocol.unsigned_abs()))?);
        }
        opened.push(when(conditions)?);
        Ok(())
    };
    for family in [libc::AF_INET, libc::AF_INET6] {
        if calls.names {
            open(family, libc::SOCK_STREAM, Some(0))?;
            open(family, libc::SOCK_DGRAM, Some(0))?;
        }
    }
    if calls.interfaces {
        // The kernel takes changes only from who may administrate the network, and that capability is gone.
        open(libc::AF_NETLINK, libc::SOCK_DGRAM, Some(libc::NETLINK_ROUTE))?;
    }
    if calls.local {
        open(libc::AF_UNIX, libc::SOCK_STREAM, Some(0))?;
    }
    if !opened.is_empty() {
        rules.insert(libc::SYS_socket, opened);
    }
    // The descriptors of the records are written to and closed, and that is all: nothing cuts them off, and there is no second one to do it by.
    let mut beside = |list: &[i64]| -> Result<()> {
        let other = other(records)?;
        let rule = if other.is_empty() { Vec::new() } else { vec![when(other)?] };
        for call in list {
            rules.insert(*call, rule.clone());
        }
        Ok(())
    };
    let again = other(&kept)?;
    let again = if again.is_empty() { Vec::new() } else { vec![when(again)?] };
    if calls.change {
        beside(CHANGE_OPEN)?;
    }
    if calls.change || calls.chown {
        beside(OWNERS_OPEN)?;
    }
    if calls.change || calls.xattr {
        beside(ATTRIBUTES_OPEN)?;
    }
    if calls.chmod || calls.moves {
        beside(&[libc::SYS_fchmod])?;
    } else if calls.change {
        let mut conditions = vec![is(1, Op::MaskedEq(SET_ID), 0)?];
        for fd in records {
            conditions.push(is(0, Op::Ne, u64::from(fd.cast_unsigned()))?);
        }
        rules.insert(libc::SYS_fchmod, vec![when(conditions)?]);
    }
    for call in DUP {
        rules.insert(*call, again.clone());
    }
    let mut fcntl = each(1, FCNTL)?;
    for command in [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC] {
        let mut conditions = vec![is(1, Op::Eq, u64::from(command.cast_unsigned()))?];
        conditions.extend(other(&kept)?);
        fcntl.push(when(conditions)?);
    }
    rules.insert(libc::SYS_fcntl, fcntl);
    // To the other end that there is, and no other: an address of its own would reach every socket of the host that takes datagrams.
    rules.insert(libc::SYS_sendto, vec![when(vec![nothing(4)?])?]);
    // No memory that is code: nothing here makes any.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![when(vec![is(2, Op::MaskedEq(libc::PROT_EXEC.unsigned_abs().into()), 0)?])?]);
    }
    // Threads and no processes.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(libc::SYS_clone, vec![when(vec![is(0, Op::MaskedEq(thread), thread)?])?]);
    // Signals to itself: what ends a process whose stack is used up.
    rules.insert(libc::SYS_tgkill, vec![when(vec![is(0, Op::Eq, pid)?])?]);
    // Limits are looked at, and of this process only.
    rules.insert(libc::SYS_prlimit64, vec![when(vec![is(0, Op::Eq, 0)?])?, when(vec![is(0, Op::Eq, pid)?])?]);
    rules.insert(
        libc::SYS_prctl,
        each(
            0,
            &[
                libc::PR_SET_NAME,
                libc::PR_GET_NAME,
                libc::PR_GET_DUMPABLE,
                libc::PR_GET_NO_NEW_PRIVS,
                libc::PR_CAPBSET_READ,
                libc::PR_SET_VMA,
            ],
        )?,
    );
    let ioctls = [libc::TCGETS as i32, libc::TIOCGWINSZ as i32, libc::FIONREAD as i32, libc::FIOCLEX as i32, libc::FIONBIO as i32];
    let mut ioctls = each(1, &ioctls)?;
    if calls.change {
        // FICLONE of linux/fs.h: a copy that shares its blocks.
        ioctls.push(when(vec![is(1, Op::Eq, 0x4004_9409)?])?);
    }
    rules.insert(libc::SYS_ioctl, ioctls);
    // Between this process and itself: what the broker answers through. No datagrams, which could be sent elsewhere. No socket is opened or connected:
    // the host's log and the system bus are before the fence goes up.
    let kinds = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET];
    let unix = |kind: libc::c_int| -> Result<SeccompRule> {
        when(vec![is(0, Op::Eq, libc::AF_UNIX.unsigned_abs().into())?, is(1, Op::MaskedEq(0xf), kind.unsigned_abs().into())?])
    };
    if calls.connects {
        rules.insert(libc::SYS_socket, vec![unix(libc::SOCK_STREAM)?]);
        rules.insert(libc::SYS_connect, Vec::new());
    }
    rules.insert(libc::SYS_socketpair, kinds.into_iter().map(unix).collect::<Result<Vec<_>>>()?);
    Ok(rules)
}

/// One of these values as this argument.
fn each(argument: u8, values: &[i32]) -> Result<Vec<SeccompRule>> {
    values.iter().map(|value| when(vec![is(argument, Op::Eq, u64::from(value.cast_unsigned()))?])).collect()
}

fn when(conditions: Vec<SeccompCondition>) -> Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(|error| failed(&error.to_string()))
}

fn is(argument: u8, operator: Op, value: u64) -> Result<SeccompCondition> {
    SeccompCondition::new(argument, Len::Dword, operator, value).map_err(|error| failed(&error.to_string()))
}

/// This argument, a pointer, is null.
fn nothing(argument: u8) -> Result<SeccompCondition> {
    SeccompCondition::new(argument, Len::Qword, Op::Eq, 0).map_err(|error| failed(&error.to_string()))
}
