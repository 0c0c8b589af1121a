//! Signals to granted processes, by a handle of the process: its number cannot be given out again between the look and the deed (pidfd_open(2)).

use super::process::Table;
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::process::Process;
use crate::sys::write::Changes;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

/// A signal of signal(7), or 0, which asks only whether one could be sent (kill(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(i32);

/// The signals that have a name, in the order of their numbers on x86.
const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];
/// Other names of the same ones.
const ALIASES: &[(&str, i32)] = &[("IOT", libc::SIGABRT), ("CLD", libc::SIGCHLD), ("POLL", libc::SIGIO)];

impl Signal {
    pub const TERM: Self = Self(libc::SIGTERM);
    /// Sends nothing.
    pub const NONE: Self = Self(0);

    /// By name, with or without `SIG`, in any case: `TERM`, `SIGTERM`, `RTMIN`, `RTMIN+3`, `RTMAX-1`.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        let named = NAMES.iter().chain(ALIASES).find(|(known, _)| *known == name).map(|(_, number)| *number);
        let steps = |text: &str, sign: char| match text.strip_prefix(sign) {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<i32>().ok(),
            None if text.is_empty() => Some(0),
            _ => None,
        };
        let real_time = || {
            let up = name.strip_prefix("RTMIN").and_then(|rest| steps(rest, '+')).and_then(|steps| libc::SIGRTMIN().checked_add(steps));
            up.or_else(|| {
                name.strip_prefix("RTMAX").and_then(|rest| steps(rest, '-')).and_then(|steps| libc::SIGRTMAX().checked_sub(steps))
            })
        };
        let is_real_time = |number: &i32| (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(number);
        named.or_else(|| real_time().filter(is_real_time)).map(Self)
    }

    /// By number; 0 is [`Signal::NONE`].
    #[must_use]
    pub fn of_number(number: i64) -> Option<Self> {
        let number = i32::try_from(number).ok()?;
        let known =
            number == 0 || NAMES.iter().any(|(_, known)| *known == number) || (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number);
        known.then_some(Self(number))
    }

    /// Its name, e.g. `SIGTERM`, `SIGRTMIN+3`; of [`Signal::NONE`] `0`.
    #[must_use]
    pub fn name(self) -> String {
        if let Some((name, _)) = NAMES.iter().find(|(_, number)| *number == self.0) {
            return format!("SIG{name}");
        }
        match self.0 - libc::SIGRTMIN() {
            _ if self.0 == 0 => "0".to_owned(),
            0 => "SIGRTMIN".to_owned(),
            steps => format!("SIGRTMIN+{steps}"),
        }
    }

    #[must_use]
    pub fn is_hangup(self) -> bool {
        self.0 == libc::SIGHUP
    }
}

/// Sends a signal to a granted process, if it is still the one that was judged.
///
/// # Errors
/// [`Kind::NotFound`] when it has ended, [`Kind::Permission`] when the kernel does not let this user signal it, [`Kind::Unsupported`] before Linux 5.3.
pub fn send<A: Action<On = Process>>(granted: &Granted<A>, signal: Signal) -> Result<()> {
    let () = Changes::<A>::OK;
    let process = granted.resource();
    let gone = || Error::new(Kind::NotFound, format!("process {} has ended", process.pid));
    let failed = |errno: Errno| match errno {
        Errno::SRCH => gone(),
        Errno::NOSYS => Error::new(Kind::Unsupported, "this kernel has no handles of processes (pidfd_open(2), Linux 5.3)"),
        other => Error::os("kill", other.raw_os_error()),
    };
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
    // The handle is of whatever has the number now; that it is the judged one is seen through the time at which it began.
    if Table::open()?.began(pid.as_raw_nonzero().get()) != Some(process.start_ticks) {
        return Err(gone());
    }
    if signal == Signal::NONE {
        return rustix::process::test_kill_process(pid).map_err(failed);
    }
    #[expect(unsafe_code, reason = "the checked constructors know no real-time signals")]
    // SAFETY: `Signal` holds signals that have a name and SIGRTMIN to SIGRTMAX, none of those that the C library keeps for itself, and not 0 here.
    let signal = unsafe { rustix::process::Signal::from_raw_unchecked(signal.0) };
    rustix::process::pidfd_send_signal(&handle, signal).map_err(failed)
}

/// This process and those that it hangs on, up to the first of the machine: what a session ends with if one of them ends. Also what it started for itself.
///
/// # Errors
/// What reading `/proc` reports.
pub fn is_own(table: &Table, pid: i64) -> Result<bool> {
    let own = i64::from(rustix::process::getpid().as_raw_nonzero().get());
    let parent = |pid: i64| i32::try_from(pid).ok().and_then(|pid| table.parent(pid));
    if pid == own || parent(pid) == Some(own) {
        return Ok(true);
    }
    let mut above = own;
    // No chain of processes is longer than there are numbers; a ring cannot be, since parents are older.
    for _ in 0..4096 {
        match parent(above) {
            Some(next) if next == pid => return Ok(true),
            Some(next) if next > 0 && next != above => above = next,
            _ => break,
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number_and_others_are_refused() {
        for (word, number) in [("TERM", 15), ("sigterm", 15), ("SIGKILL", 9), ("hup", 1), ("IOT", 6), ("cld", libc::SIGCHLD)] {
            assert_eq!(Signal::of_name(word), Some(Signal(number)), "{word}");
        }
        assert_eq!(Signal::of_name("RTMIN+3"), Some(Signal(libc::SIGRTMIN() + 3)));
        assert_eq!(Signal::of_name("SIGRTMAX-0"), Some(Signal(libc::SIGRTMAX())));
        assert_eq!(Signal::of_name("RTMAX-1").unwrap().name(), format!("SIGRTMIN+{}", libc::SIGRTMAX() - 1 - libc::SIGRTMIN()));
        for word in ["", "SIG", "TERMINATE", "RTMIN+99", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMIN+99999999999", "15"] {
            assert_eq!(Signal::of_name(word), None, "{word}");
        }
        assert_eq!(Signal::of_number(15).unwrap().name(), "SIGTERM");
        assert_eq!(Signal::of_number(0).unwrap().name(), "0");
        // 32 and 33 belong to the C library.
        for number in [-1, 32, 33, 65, 1 << 40] {
            assert_eq!(Signal::of_number(number), None, "{number}");
        }
        for (name, number) in NAMES {
            assert_eq!(Signal::of_number((*number).into()).unwrap().name(), format!("SIG{name}"));
        }
    }

    #[test]
    fn this_process_and_its_ancestors_are_its_own() {
        let table = Table::open().unwrap();
        let own = i64::from(std::process::id());
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get().into();
        assert!(is_own(&table, own).unwrap() && is_own(&table, parent).unwrap());
        assert!(!is_own(&table, i64::from(i32::MAX)).unwrap());
    }
}
