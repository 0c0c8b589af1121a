//! The fence: what no policy of this caller could ever permit, the kernel refuses too, whatever runs in this process.
//!
//! [`Plan`] is computed from the outer hull of the caller's policies and is plain data; [`arm`] puts it in force. Three layers, each by itself
//! narrower than the account's rights: Landlock confines paths (landlock(7)), seccomp system calls (seccomp(2)), and capabilities what root
//! may do besides (capabilities(7)). There is no way back. It is armed before a thread is started, so that every thread is behind it.

mod calls;
mod filter;
mod paths;
mod plan;
mod powers;
mod program;

pub use plan::{Own, Plan, Rights};
pub(super) use program::{Ready, place, refuse_calls_of_programs};

use crate::error::Result;
use rustix::thread::CapabilitySet;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The version of Landlock that is in force.
static ABI: std::sync::OnceLock<u32> = std::sync::OnceLock::new();

/// The version of Landlock that is in force; what each has is in landlock(7).
#[must_use]
pub fn landlock_abi() -> Option<u32> {
    ABI.get().copied()
}

/// The version of Landlock that the kernel has; None: none.
#[must_use]
pub fn landlock_of_kernel() -> Option<u32> {
    Some(paths::abi()).filter(|abi| *abi > 0)
}

/// Arms every layer that the kernel has; gives the names of those in force.
///
/// # Errors
/// When a layer that the kernel has cannot be armed: what would be half a fence is none.
pub fn arm(plan: &Plan) -> Result<Vec<&'static str>> {
    let mut layers = Vec::new();
    // Behind the fence these can no longer be asked for where the kernel's files are closed; they are kept from the first time on.
    let _ = (rustix::param::page_size(), rustix::param::clock_ticks_per_second());
    // Capabilities first: opening the folders of the rules needs no more than what a permitted operation needs.
    let paths = paths::prepare(plan)?;
    if powers::drop_all_but(plan.powers)? {
        layers.push("capabilities");
    }
    let abi = paths::abi();
    if paths::restrict(paths)? {
        layers.push("landlock");
        let _ = ABI.set(abi);
    }
    if calls::restrict(plan, &records(), &sockets())? {
        layers.push("seccomp");
    }
    Ok(layers)
}

/// Every layer but Landlock, for the process that looks at others in /proc: the calls that read, and what root needs for it. `stacks`: where in the kernel
/// they are, too.
pub(super) fn arm_for_inspection(stacks: bool) -> Result<()> {
    let plan = Plan::of_inspector(stacks);
    powers::drop_all_but(plan.powers)?;
    calls::restrict(&plan, &[], &[]).map(drop)
}

/// For the process that starts gdb: the system calls of programs, and those that look at a process. gdb itself gets less, see [`super::debugger`].
pub(super) fn arm_for_debugging() -> Result<()> {
    refuse_calls_of_programs(&plan_of_debugger())
}

/// What gdb may reach when it looks at files, besides what it needs to start.
pub(super) fn plan_of_debugger() -> Plan {
    Plan::of_debugger()
}

/// For the process that unmounts: what it needs for that, and no call that changes anything else. No Landlock: behind it nothing is unmounted.
pub(super) fn arm_for_unmounting() -> Result<()> {
    let plan = Plan::of_unmount();
    powers::drop_all_but(plan.powers)?;
    calls::restrict(&plan, &[], &[]).map(drop)
}

/// For the process that opens files which policy names one by one.
pub(super) fn arm_for_opening(named: &BTreeMap<PathBuf, Rights>, powers: CapabilitySet) -> Result<()> {
    let plan = Plan::of_opener(named, powers);
    let paths = paths::prepare(&plan)?;
    powers::drop_all_but(plan.powers)?;
    paths::restrict(paths)?;
    calls::restrict(&plan, &[], &[]).map(drop)
}

/// For the process that speaks to sockets of this host: no capability, no path, and of all sockets those of this host alone.
pub(super) fn arm_for_unix_sockets() -> Result<()> {
    let plan = Plan::of_connector();
    let paths = paths::prepare(&plan)?;
    powers::drop_all_but(plan.powers)?;
    paths::restrict(paths)?;
    calls::restrict(&plan, &[], &[]).map(drop)
}

/// For the process that makes the owner's checks: no capability, and of system calls what programs have.
pub(super) fn arm_for_probing() -> Result<()> {
    let plan = Plan::of_naming();
    powers::drop_all_but(plan.powers)?;
    refuse_calls_of_programs(&plan)
}

/// For the process that asks getent(1) for names: no capability, and of system calls what programs have.
pub(super) fn arm_for_naming() -> Result<()> {
    let plan = Plan::of_naming();
    powers::drop_all_but(plan.powers)?;
    refuse_calls_of_programs(&plan)
}

/// Most descriptors that are looked at; all that rex opens before a run have low numbers.
const LOW: i32 = 64;

/// The sockets of this host that are open: what the log is written to, the system bus, the processes beside.
fn sockets() -> Vec<i32> {
    let is_one = |number: &i32| {
        #[expect(unsafe_code, reason = "numbers without an owner at hand")]
        // SAFETY: a borrow for one getsockopt(2) that changes nothing; on a number that is not open it fails with EBADF.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(*number) };
        rustix::net::sockopt::socket_domain(fd).is_ok_and(|family| family == rustix::net::AddressFamily::UNIX)
    };
    (0..LOW).filter(is_one).collect()
}

/// The descriptors that only append: the files of the records.
fn records() -> Vec<i32> {
    let appends = |number: &i32| {
        #[expect(unsafe_code, reason = "numbers without an owner at hand")]
        // SAFETY: a borrow for one fcntl(2) that changes nothing; on a number that is not open it fails with EBADF.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(*number) };
        rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::APPEND))
    };
    (3..LOW).filter(appends).collect()
}
