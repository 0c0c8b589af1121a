//! Containers of Docker or Podman, over the Unix socket of their API. Whoever may write to that socket is root on this host, so rex does not: a small process
//! beside the fence does, which makes the few requests below and no others, about names that some policy could permit.
//!
//! It is told a verb and the id of a container, asks the engine itself what that one is called, and gives back what is listed in `shape`: values of
//! environment variables, say, never leave it.

mod shape;

use super::beside::Beside;
use super::dialogue;
use super::fence;
use super::http1::{Response, exchange};
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Bound, Granted};
use crate::resource::container::{CONTAINER, Container, ENGINE, Engine, is_name};
use rustix::net::SocketType;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Where the sockets are unless rex.toml says otherwise.
const USUAL: &[&str] = &["/run/docker.sock", "/run/podman/podman.sock"];
/// Verbs of `container_system` that are about one container.
const VERBS: &[&str] = &["inspect", "logs", "stats", "start", "stop", "restart"];
/// How long a request may take that waits for nothing.
const SOON: Duration = Duration::from_secs(20);
/// Longest answer that is looked into.
const LONGEST: usize = 32 << 20;

/// The process, or why there is none.
static ENGINE_BESIDE: OnceLock<Result<Arc<Beside>>> = OnceLock::new();

type Check<'a> = &'a dyn Fn() -> Result<()>;

/// What each verb could be permitted for at most.
pub type Hulls = BTreeMap<&'static str, Vec<Bound>>;

/// What the policies of a caller could permit.
#[must_use]
pub fn hulls(of: impl Fn(&str) -> Vec<Bound>) -> Hulls {
    VERBS.iter().chain(&["list"]).map(|verb| (*verb, of(verb))).filter(|(_, hull)| !hull.is_empty()).collect()
}

/// Forks it where some policy could permit something and the host has such a socket. `socket`: of rex.toml, or empty. No thread may run yet.
///
/// # Errors
/// When the kernel gives no process or socket.
pub fn start(socket: &str, hulls: Hulls) -> Result<()> {
    if hulls.is_empty() {
        return Ok(());
    }
    let is_socket = |path: &Path| {
        rustix::fs::stat(path).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket)
    };
    let places: Vec<PathBuf> = if socket.is_empty() { USUAL.iter().map(PathBuf::from).collect() } else { vec![PathBuf::from(socket)] };
    let Some(place) = places.into_iter().find(|place| is_socket(place)) else { return Ok(()) };
    let beside = Beside::start(c"rex containers", SocketType::STREAM, |socket| serve(socket, &place, &hulls))?;
    let _ = ENGINE_BESIDE.set(Ok(beside));
    Ok(())
}

fn ask(question: &Value, limit: Duration, check: Check<'_>) -> Result<Value> {
    let beside = match ENGINE_BESIDE.get() {
        Some(beside) => beside.as_ref().map_err(Clone::clone)?,
        None => return Err(Error::new(Kind::Unsupported, "there is no Docker or Podman to talk to on this host")),
    };
    dialogue::ask(beside, question, limit, check)
}

/// The container that a name, an id or the beginning of an id means; what it is the policy is asked about.
///
/// # Errors
/// Those of the way there. That there is no such container comes out after the policy has been asked.
pub fn locate(asked: &str, check: Check<'_>) -> Result<Container> {
    match ask(&json!({ "do": "find", "id": asked }), SOON, check) {
        Ok(found) => {
            let text = |key: &str| found.get(key).and_then(Value::as_str).map(str::to_owned);
            let (Some(name), Some(id)) = (text("name"), text("id")) else { return Err(senseless()) };
            Ok(Container::found(asked.to_owned(), name, id, text("image")))
        }
        Err(error) => {
            check()?;
            Ok(Container::absent(asked.to_owned(), error))
        }
    }
}

/// The containers, whether or not they run.
///
/// # Errors
/// [`Kind::Unsupported`] where there is no engine; [`Kind::Unavailable`], [`Kind::Timeout`].
pub fn list<A: Action<On = Engine>>(_: &Granted<A>, check: Check<'_>) -> Result<Value> {
    ask(&json!({ "do": "list" }), SOON, check)
}

fn about(verb: &str, container: &Container) -> Value {
    json!({ "do": verb, "id": container.own_id(), "name": container.name() })
}

/// All that is shown of a container.
///
/// # Errors
/// As [`list`]; [`Kind::Changed`] when it has another name by now.
pub fn inspect<A: Action<On = Container>>(granted: &Granted<A>, check: Check<'_>) -> Result<Value> {
    ask(&about("inspect", granted.resource()), SOON, check)
}

/// Which lines of its output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    /// The last so many.
    pub last: u64,
    /// In seconds since the epoch.
    pub since: Option<u64>,
    pub until: Option<u64>,
    /// At most so many bytes, with what the engine adds.
    pub max_bytes: u64,
}

/// Lines that it wrote.
///
/// # Errors
/// As [`inspect`]; [`Kind::TooLarge`].
pub fn logs<A: Action<On = Container>>(granted: &Granted<A>, lines: Lines, check: Check<'_>) -> Result<Value> {
    let mut question = about("logs", granted.resource());
    if let Some(map) = question.as_object_mut() {
        map.insert("last".into(), lines.last.into());
        map.insert("since".into(), lines.since.into());
        map.insert("until".into(), lines.until.into());
        map.insert("max_bytes".into(), lines.max_bytes.into());
    }
    ask(&question, SOON, check)
}

/// What it uses, measured over a second or so.
///
/// # Errors
/// As [`inspect`]; [`Kind::JobFailed`] when it does not run.
pub fn stats<A: Action<On = Container>>(granted: &Granted<A>, check: Check<'_>) -> Result<Value> {
    ask(&about("stats", granted.resource()), SOON, check)
}

/// What is done to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Start,
    Stop,
    Restart,
}

impl Job {
    const fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// Does it and waits. Gives its states before and after, and whether the engine had anything to do.
///
/// # Errors
/// As [`inspect`]; [`Kind::JobFailed`].
pub fn job<A: Action<On = Container>>(granted: &Granted<A>, job: Job, grace: u64, limit: Duration, check: Check<'_>) -> Result<Value> {
    granted.to_be_done()?;
    let mut question = about(job.verb(), granted.resource());
    if let Some(map) = question.as_object_mut() {
        map.insert("grace".into(), grace.into());
        map.insert("milliseconds".into(), u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).into());
    }
    ask(&question, limit, check)
}

fn senseless() -> Error {
    Error::new(Kind::Unavailable, "the container engine gave an answer that was not understood")
}

/// The life of the process.
fn serve(socket: &OwnedFd, place: &Path, hulls: &Hulls) {
    let mut armed = false;
    while let Some(question) = dialogue::question(socket) {
        // Most runs never ask, and pay for no more than the process.
        if !armed {
            if fence::arm_for_unix_sockets().is_err() {
                return;
            }
            armed = true;
        }
        if !dialogue::answer(socket, answer(&question, place, hulls)) {
            return;
        }
    }
}

fn answer(question: &Value, place: &Path, hulls: &Hulls) -> Result<Value> {
    let text = |key: &str| question.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| question.get(key).and_then(Value::as_u64);
    let refused = || Error::new(Kind::Permission, "no policy of this run could permit that");
    let get = |target: &str, most: usize| request(place, "GET", target, most, SOON);
    let verb = text("do");
    if verb == "list" {
        if !hulls.contains_key("list") {
            return Err(refused());
        }
        return Ok(shape::list(&parsed(get("/containers/json?all=true", LONGEST)?)?));
    }
    let asked = text("id");
    if !is_name(asked) {
        return Err(refused());
    }
    let whole = parsed(get(&format!("/containers/{asked}/json"), LONGEST)?)?;
    let (id, name) = shape::identity(&whole).filter(|(id, name)| is_name(id) && is_name(name)).ok_or_else(senseless)?;
    if verb == "find" {
        return Ok(json!({ "id": id, "name": name, "image": whole.pointer("/Config/Image") }));
    }
    let hull = VERBS.iter().find(|known| **known == verb).and_then(|verb| hulls.get(verb)).ok_or_else(refused)?;
    if !hull.iter().any(|bound| holds(bound, &name)) {
        return Err(refused());
    }
    if id != asked || name != text("name") {
        return Err(Error::new(Kind::Changed, "the container has another name by now; nothing was done"));
    }
    match verb {
        "inspect" => Ok(shape::details(&whole, &name)),
        "stats" if whole.pointer("/State/Running") != Some(&Value::Bool(true)) => {
            Err(Error::new(Kind::JobFailed, "the container does not run"))
        }
        "stats" => Ok(shape::stats(&parsed(get(&format!("/containers/{id}/stats?stream=false"), LONGEST)?)?)),
        "logs" => {
            let mut target =
                format!("/containers/{id}/logs?stdout=true&stderr=true&timestamps=true&tail={}", number("last").unwrap_or(100));
            for key in ["since", "until"] {
                if let Some(seconds) = number(key) {
                    target.push_str(&format!("&{key}={seconds}"));
                }
            }
            let most = usize::try_from(number("max_bytes").unwrap_or(0)).unwrap_or(usize::MAX).min(LONGEST);
            let response = get(&target, most)?;
            if response.truncated {
                return Err(Error::new(Kind::TooLarge, format!("more than {most} bytes")).with_hint("ask for fewer `lines`"));
            }
            let terminal = whole.pointer("/Config/Tty") == Some(&Value::Bool(true));
            Ok(shape::lines(&succeeded(response)?.body, terminal))
        }
        _ => {
            let before = shape::state(&whole);
            let limit = Duration::from_millis(number("milliseconds").unwrap_or(0));
            let grace = if verb == "start" { String::new() } else { format!("?t={}", number("grace").unwrap_or(10)) };
            let response = request(place, "POST", &format!("/containers/{id}/{verb}{grace}"), 64 << 10, limit)?;
            let changed = response.status != 304;
            if changed {
                succeeded(response)?;
            }
            let after = shape::state(&parsed(get(&format!("/containers/{id}/json"), LONGEST)?)?);
            Ok(json!({ "before": before, "state": after, "changed": changed }))
        }
    }
}

/// Whether a bound of the policies lets a container of this name be.
fn holds(bound: &Bound, name: &str) -> bool {
    match bound {
        Bound::Anything => true,
        Bound::Kind(kind) => kind == CONTAINER.name,
        Bound::Exactly(exact) => exact == name,
        Bound::Within(kind, id) => (kind == ENGINE.name && id == "local") || (kind == CONTAINER.name && id == name),
        Bound::Begins(start) => name.starts_with(start.as_str()),
    }
}

fn request(place: &Path, method: &str, target: &str, most: usize, limit: Duration) -> Result<Response> {
    let end = Instant::now() + limit;
    let mut stream = UnixStream::connect(place).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Error::new(Kind::Permission, "the container engine's socket may not be used by this Unix user")
        }
        _ => Error::new(Kind::Unavailable, "the container engine does not answer"),
    })?;
    exchange(&mut stream, method, target, "localhost", most, end).map_err(|error| match error.kind() {
        std::io::ErrorKind::TimedOut => {
            Error::new(Kind::Timeout, format!("the container engine did not answer within {:.1} s", limit.as_secs_f64()))
        }
        std::io::ErrorKind::InvalidData => senseless(),
        _ => Error::new(Kind::Unavailable, "the connection to the container engine broke"),
    })
}

/// The engine's own words are not passed on: they can hold bytes of the host.
fn succeeded(response: Response) -> Result<Response> {
    let of = |kind, text: &str| Err(Error::new(kind, text));
    match response.status {
        200..=299 => Ok(response),
        404 => of(Kind::NotFound, "there is no such container"),
        409 => of(Kind::Busy, "the container is in no state in which that can be done"),
        400 | 403 => of(Kind::Unsupported, "the container engine does not accept the request"),
        _ => of(Kind::JobFailed, "the container engine could not do it"),
    }
}

fn parsed(response: Response) -> Result<Value> {
    let response = succeeded(response)?;
    if response.truncated {
        return Err(Error::new(Kind::TooLarge, "the container engine's answer is too long"));
    }
    serde_json::from_slice(&response.body).map_err(|_| senseless())
}

#[cfg(test)]
mod tests;
