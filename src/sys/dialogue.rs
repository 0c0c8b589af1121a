//! Questions to a process beside the fence whose answers are long or take their time: frames of a length and that many bytes, one question at a time.

use super::beside::Beside;
use crate::error::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use serde_json::Value;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How often a waiting caller looks whether the run has to stop.
const TICK: Duration = Duration::from_millis(50);
/// What a process may take beyond the time that it was given.
const GRACE: Duration = Duration::from_secs(5);
/// Longest question.
const QUESTION: usize = 64 << 10;
/// Longest answer.
const ANSWER: usize = 64 << 20;

/// Asks and waits, at most so long and a little more.
///
/// # Errors
/// What the other side answers as one; [`Kind::Unavailable`] when it is gone; [`Kind::Timeout`]; those of `check`. After the last two it is not asked again:
/// its answer would come to the next question.
pub(super) fn ask(beside: &Beside, question: &Value, limit: Duration, check: &dyn Fn() -> Result<()>) -> Result<Value> {
    // A branch that waits for its turn ends with the run as well.
    let socket = loop {
        check()?;
        match beside.free_socket() {
            Some(socket) => break socket,
            None => std::thread::park_timeout(TICK),
        }
    };
    let answer = converse(&socket, question, Instant::now() + limit + GRACE, check);
    if answer.is_err() {
        let _ = rustix::net::shutdown(&*socket, Shutdown::Both);
    }
    let mut answer: Value = serde_json::from_slice(&answer?).map_err(|_| senseless())?;
    match answer.get("error") {
        Some(error) => Err(error_of(error)),
        None => Ok(answer.get_mut("ok").map(Value::take).unwrap_or_default()),
    }
}

fn converse(socket: &OwnedFd, question: &Value, end: Instant, check: &dyn Fn() -> Result<()>) -> Result<Vec<u8>> {
    let question = serde_json::to_vec(question).map_err(|_| senseless())?;
    if question.len() > QUESTION {
        return Err(crate::error::bad_argument("the arguments are too long"));
    }
    send(socket, &question).map_err(|_| gone())?;
    let mut all = Vec::new();
    let mut wanted = 4;
    loop {
        if all.len() >= 4 {
            wanted = 4 + length(&all).filter(|length| *length <= ANSWER).ok_or_else(senseless)?;
            if all.len() == wanted {
                return Ok(all.split_off(4));
            }
        }
        check()?;
        if Instant::now() >= end {
            return Err(Error::new(Kind::Timeout, "there was no answer in time"));
        }
        let time = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
        let _ = rustix::event::poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&time));
        let mut block = vec![0u8; (wanted - all.len()).min(256 << 10)];
        match rustix::net::recv(socket, block.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(gone()),
            Ok((count, _)) => all.extend_from_slice(block.get(..count).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return Err(gone()),
        }
    }
}

fn length(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes.first_chunk::<4>()?)).ok()
}

fn send(socket: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<()> {
    let mut all = u32::try_from(bytes.len()).map_err(|_| Errno::MSGSIZE)?.to_le_bytes().to_vec();
    all.extend_from_slice(bytes);
    let mut rest = all.as_slice();
    while !rest.is_empty() {
        match rustix::net::send(socket, rest, SendFlags::NOSIGNAL) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The next question, for the process that is asked; nothing when rex is gone.
pub(super) fn question(socket: &OwnedFd) -> Option<Value> {
    let mut head = [0u8; 4];
    whole(socket, &mut head)?;
    let length = length(&head).filter(|length| *length <= QUESTION)?;
    let mut bytes = vec![0u8; length];
    whole(socket, &mut bytes)?;
    serde_json::from_slice(&bytes).ok()
}

fn whole(socket: &OwnedFd, bytes: &mut [u8]) -> Option<()> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::net::recv(socket, bytes.get_mut(done..)?, RecvFlags::empty()) {
            Ok((0, _)) => return None,
            Ok((count, _)) => done += count,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    Some(())
}

/// Answers; whether there is still somebody to answer to.
pub(super) fn answer(socket: &OwnedFd, result: Result<Value>) -> bool {
    let answer = match result {
        Ok(value) => serde_json::json!({ "ok": value }),
        Err(error) => serde_json::json!({ "error": { "kind": error.kind.name(), "message": error.message } }),
    };
    let bytes = serde_json::to_vec(&answer).unwrap_or_default();
    let bytes = if bytes.len() > ANSWER { br#"{"error":{"kind":"too_large","message":"the answer is too long"}}"#.to_vec() } else { bytes };
    send(socket, &bytes).is_ok()
}

fn error_of(error: &Value) -> Error {
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let kind = Kind::all().find(|kind| kind.name() == text("kind")).unwrap_or(Kind::Internal);
    Error::new(kind, text("message"))
}

fn gone() -> Error {
    Error::new(Kind::Unavailable, "the process beside the fence that does this is gone")
}

fn senseless() -> Error {
    Error::new(Kind::Internal, "the process beside the fence said something that makes no sense")
}
