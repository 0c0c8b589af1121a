//! Who is at work on this host right now: whoever sets rex up must still be able to log in afterwards.

use crate::error::{Error, Kind, Result};
use crate::os::facts;
use crate::os::process::{Environment, Names};
use std::path::Path;

/// Processes above this one; more is no chain of a login.
const MOST: usize = 64;
/// The login uid of a process that nobody logged in for (audit(8)).
const UNSET: u32 = u32::MAX;

/// Somebody who is at work here, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    pub name: String,
    pub uid: Option<u32>,
    pub how: &'static str,
}

/// Everybody in whose name this process may have been started. One of them too many does no harm.
#[must_use]
pub fn operators(environment: &Environment) -> Vec<Operator> {
    let names = Names::of_host();
    let mut found: Vec<Operator> = Vec::new();
    let mut add = |name: String, uid: Option<u32>, how| {
        if !found.iter().any(|known| known.name == name) {
            found.push(Operator { name, uid, how });
        }
    };
    let by_uid = |uid: u32| names.user(uid).unwrap_or_else(|| uid.to_string());
    for (variable, how) in [("SUDO_USER", "sudo"), ("DOAS_USER", "doas")] {
        for value in environment.all(variable) {
            let name = String::from_utf8_lossy(value).into_owned();
            add(name.clone(), names.uid_of(&name), how);
        }
    }
    if let Some(uid) = facts::kernel_says("/proc/self/loginuid").and_then(|text| text.parse().ok()).filter(|uid| *uid != UNSET) {
        add(by_uid(uid), Some(uid), "the login");
    }
    let (mut pid, mut over_ssh, mut others) = (rustix::process::getpid().as_raw_nonzero().get().unsigned_abs(), false, false);
    for _ in 0..MOST {
        let Some(status) = facts::text(Path::new(&format!("/proc/{pid}/status")), 1 << 16).ok().flatten() else { break };
        let process = Process::of(&status);
        if process.uid != 0 {
            others = true;
            add(by_uid(process.uid), Some(process.uid), "a process above this one");
        }
        over_ssh |= process.name.starts_with("sshd");
        if process.parent <= 1 {
            break;
        }
        pid = process.parent;
    }
    if over_ssh && !others {
        add("root".to_owned(), Some(0), "ssh");
    }
    found
}

struct Process {
    name: String,
    parent: u32,
    uid: u32,
}

impl Process {
    /// From /proc/PID/status.
    fn of(status: &str) -> Self {
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap_or_default();
        let number = |text: &str| text.split_ascii_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0);
        Self { name: value("Name:").to_owned(), parent: number(value("PPid:")), uid: number(value("Uid:")) }
    }
}

/// # Errors
/// [`Kind::Config`] when one of those at work here is among those who are held to rex from now on.
pub fn spare(operators: &[Operator], held: &[String]) -> Result<()> {
    let names = Names::of_host();
    for name in held {
        let uid = names.uid_of(name);
        if let Some(operator) = operators.iter().find(|operator| operator.name == *name || uid.is_some() && operator.uid == uid) {
            return Err(Error::new(
                Kind::Config,
                format!(
                    "`{}` is at work here (known by {}), and `{name}` could do nothing but ask rex from now on",
                    operator.name, operator.how
                ),
            )
            .with_hint("choose an account of its own; if you have another way in, and mean it: --even-me"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whoever_is_at_work_is_not_held() {
        let environment = Environment::of(vec![(b"SUDO_USER".to_vec(), b"alice".to_vec()), (b"SUDO_USER".to_vec(), b"bob".to_vec())]);
        let found = operators(&environment);
        // Two values are a sign of somebody trying something: both count.
        assert!(["alice", "bob"].iter().all(|name| found.iter().any(|operator| operator.name == *name && operator.how == "sudo")));
        assert!(spare(&found, &["agent".to_owned()]).is_ok());
        assert!(spare(&found, &["agent".to_owned(), "bob".to_owned()]).unwrap_err().message.contains("`bob` is at work here"));
        let alias = Operator { name: "other".into(), uid: Some(0), how: "ssh" };
        assert!(spare(&[alias], &["root".to_owned()]).is_err());
    }

    #[test]
    fn a_process_is_read_from_its_status() {
        let process = Process::of("Name:\tsshd-session\nPPid:\t7\nUid:\t1000\t1000\t1000\t1000\n");
        assert_eq!((process.name.as_str(), process.parent, process.uid), ("sshd-session", 7, 1000));
    }
}
