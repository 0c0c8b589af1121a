//! Names of users and groups that other services know (sssd, LDAP …), asked of getent(1) by a small process beside the fence: behind it no program is
//! started. It takes the name of a table and a key, and starts one fixed program without any capability.

use super::beside::Beside;
use super::fence;
use crate::error::Result;
use crate::os::process;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::{Arc, OnceLock};

static NAMING: OnceLock<Arc<Beside>> = OnceLock::new();
/// A question is a table's letter and a key.
const QUESTION: usize = 320;
/// Longest answer: a line; the members of a large group may not all be in it.
const ANSWER: usize = 64 << 10;

/// Forks it where the host has other sources of names than its own files. No thread may run yet.
///
/// # Errors
/// When the kernel gives no process or socket.
pub fn start() -> Result<()> {
    if !process::other_name_services() {
        return Ok(());
    }
    let beside = Beside::start(c"rex names", SocketType::SEQPACKET, serve)?;
    let _ = NAMING.set(beside);
    process::ask_through(ask);
    Ok(())
}

fn serve(socket: &OwnedFd) {
    let mut armed = false;
    loop {
        let mut question = [0u8; QUESTION];
        let length = match rustix::net::recv(socket, &mut question, RecvFlags::empty()) {
            Ok((length, _)) if length > 0 => length,
            Err(Errno::INTR) => continue,
            _ => return,
        };
        if !armed {
            if fence::arm_for_naming().is_err() {
                return;
            }
            armed = true;
        }
        let table = match question.first() {
            Some(b'p') => "passwd",
            Some(b'g') => "group",
            _ => return,
        };
        let key = question.get(1..length).and_then(|key| std::str::from_utf8(key).ok());
        // One byte more than the answer, so that none at all is no end of the conversation.
        let (answered, mut answer) =
            match key.filter(|key| process::may_be_asked(key)).map(|key| process::getent(table, key, ends_with_this)) {
                Some(Some(answer)) => (b'+', answer),
                Some(None) => (b'!', Vec::new()),
                None => (b'+', Vec::new()),
            };
        answer.truncate(ANSWER);
        answer.insert(0, answered);
        if rustix::net::send(socket, &answer, SendFlags::NOSIGNAL).is_err() {
            return;
        }
    }
}

/// A program that hangs does not outlive the run.
fn ends_with_this(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    #[expect(unsafe_code, reason = "between fork and exec std has no safe way")]
    // SAFETY: prctl(2) by a system call of its own; nothing is allocated or locked.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?));
    }
}

/// Nothing where it did not answer in time.
fn ask(table: &str, key: &str) -> Option<Vec<u8>> {
    let socket = NAMING.get()?.socket();
    let question = [table.get(..1)?.as_bytes(), key.as_bytes()].concat();
    if question.len() > QUESTION {
        return Some(Vec::new());
    }
    rustix::net::send(&*socket, &question, SendFlags::NOSIGNAL).ok()?;
    let mut answer = vec![0u8; ANSWER + 1];
    loop {
        match rustix::net::recv(&*socket, answer.as_mut_slice(), RecvFlags::empty()) {
            Ok((length, _)) => {
                answer.truncate(length);
                break;
            }
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    match answer.split_first() {
        Some((b'+', answer)) => Some(answer.to_vec()),
        _ => None,
    }
}
