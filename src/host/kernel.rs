//! The kernel of this host: layers that a run can be put behind, audit sessions, the clock.

use crate::os::facts;

/// The value of `/proc/self/sessionid` and `loginuid` of a process that no login made (audit(7): AUDIT_SID_UNSET).
const UNSET: u32 = u32::MAX;

/// What the kernel has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// E.g. `6.1.0-13-amd64`.
    pub release: String,
    /// The version of Landlock (landlock(7)); None: it has none, or it is switched off.
    pub landlock: Option<u32>,
    /// Filters of system calls (seccomp(2)).
    pub seccomp: bool,
    /// The security modules in use, as securityfs lists them, where it is mounted.
    pub modules: Option<String>,
    /// Whether it numbers login sessions (CONFIG_AUDIT): `/proc/self/sessionid` is there.
    pub numbers_sessions: bool,
    /// The number of the session of this process; None where no login made it.
    pub session: Option<u32>,
    /// The uid that this process logged in as; None as above.
    pub login_uid: Option<u32>,
    /// Who may trace whom (Yama); None: it has no such rule, and processes of one uid may trace one another.
    pub ptrace_scope: Option<u32>,
    /// Whether something keeps the clock right; None where the kernel does not tell.
    pub clock_synchronised: Option<bool>,
}

impl Kernel {
    #[must_use]
    pub fn of_host() -> Self {
        let number = |path: &str| facts::kernel_says(path)?.parse::<u32>().ok();
        let session = number("/proc/self/sessionid");
        Self {
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
            landlock: crate::sys::fence::landlock_of_kernel(),
            seccomp: facts::kernel_says("/proc/sys/kernel/seccomp/actions_avail").is_some_and(|actions| actions.contains("errno")),
            modules: facts::kernel_says("/sys/kernel/security/lsm"),
            numbers_sessions: session.is_some(),
            session: session.filter(|number| *number != UNSET),
            login_uid: number("/proc/self/loginuid").filter(|uid| *uid != UNSET),
            ptrace_scope: number("/proc/sys/kernel/yama/ptrace_scope"),
            clock_synchronised: crate::sys::clock::is_synchronised(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_tells_of_itself() {
        let kernel = Kernel::of_host();
        assert!(!kernel.release.is_empty());
        assert!(kernel.landlock != Some(0));
    }
}
