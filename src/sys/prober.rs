//! Checks that the owner declares in rex.toml, made by a small process beside the fence. It knows what they need to know (addresses, passwords), is told the
//! number of one, and tells whether all is well. No credential ever is in the memory of rex.

use super::beside::Beside;
use super::http1::{Timed, Until, exchange};
use super::{broker, dialogue, fence};
use crate::config::{ProbeKind, ProbeSettings, http_parts, socket_address};
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Bound, Granted};
use crate::resource::probe::{PROBE, PROBES, Probe, Probes};
use regex::bytes::Regex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::SocketType;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Bytes of what comes back that are looked into.
const LONGEST: usize = 64 << 10;
/// Longest password.
const PASSWORD: usize = 4096;
/// Shorter values of the environment are no secrets: they would be found everywhere.
const SECRET: usize = 4;

/// The process, the names of the checks in their order, and how long each may take.
struct Prober {
    beside: Arc<Beside>,
    probes: Vec<(String, &'static str, Duration)>,
}

static PROBER: OnceLock<Prober> = OnceLock::new();

/// Forks it where checks are declared and some policy could permit one (`hull`), or to see which there are. No thread may run yet.
///
/// # Errors
/// When the kernel gives no process or socket.
pub fn start(
    declared: &BTreeMap<String, ProbeSettings>,
    hull: Vec<Bound>,
    listed: bool,
    beside_config: impl Fn(&str) -> PathBuf,
) -> Result<()> {
    if declared.is_empty() || (hull.is_empty() && !listed) {
        return Ok(());
    }
    let checks: Vec<Check> = declared
        .iter()
        .map(|(name, settings)| Check {
            permitted: hull.iter().any(|bound| holds(bound, name)),
            password: (!settings.password_file.is_empty()).then(|| beside_config(&settings.password_file)),
            settings: settings.clone(),
        })
        .collect();
    let probes = declared.iter().map(|(name, settings)| (name.clone(), settings.kind.name(), settings.timeout)).collect();
    let beside = Beside::start(c"rex probes", SocketType::STREAM, |socket| serve(socket, &checks))?;
    let _ = PROBER.set(Prober { beside, probes });
    Ok(())
}

/// Names and kinds of the checks.
///
/// # Errors
/// [`Kind::Unsupported`] where none is declared.
pub fn declared<A: Action<On = Probes>>(_: &Granted<A>) -> Result<Vec<(&'static str, &'static str)>> {
    let prober = PROBER.get().ok_or_else(none)?;
    Ok(prober.probes.iter().map(|(name, kind, _)| (name.as_str(), *kind)).collect())
}

/// Has a check made: whether all is well, and what is told of it.
///
/// # Errors
/// [`Kind::NotFound`] when it is not declared, [`Kind::Unsupported`] where none is; [`Kind::Unavailable`] when the process is gone.
pub fn probe<A: Action<On = Probe>>(granted: &Granted<A>, check: &dyn Fn() -> Result<()>) -> Result<Value> {
    granted.to_be_done()?;
    let name = granted.resource().name();
    let prober = PROBER.get().ok_or_else(none)?;
    let (number, (_, kind, timeout)) = (0u64..)
        .zip(&prober.probes)
        .find(|(_, (known, ..))| known == name)
        .ok_or_else(|| Error::new(Kind::NotFound, format!("rex.toml declares no probe `{name}`")))?;
    let mut told = dialogue::ask(&prober.beside, &json!({ "probe": number }), *timeout, check)?;
    if let Some(map) = told.as_object_mut() {
        map.insert("name".into(), name.into());
        map.insert("kind".into(), (*kind).into());
    }
    Ok(told)
}

fn none() -> Error {
    Error::new(Kind::Unsupported, "rex.toml of this host declares no probe")
}

fn holds(bound: &Bound, name: &str) -> bool {
    match bound {
        Bound::Anything => true,
        Bound::Kind(kind) => kind == PROBE.name,
        Bound::Exactly(exact) => exact == name,
        Bound::Within(kind, id) => (kind == PROBES.name && id == "local") || (kind == PROBE.name && id == name),
        Bound::Begins(start) => name.starts_with(start.as_str()),
    }
}

/// One check, as the process has it.
struct Check {
    settings: ProbeSettings,
    /// The file of the password.
    password: Option<PathBuf>,
    permitted: bool,
}

/// What was found out.
#[derive(Default)]
struct Found {
    /// A word for what is wrong; nothing when all is well.
    problem: Option<&'static str>,
    /// The status of an HTTP answer, or the exit code of a program.
    status: Option<i64>,
    output: Vec<u8>,
}

fn wrong(problem: &'static str) -> Found {
    Found { problem: Some(problem), ..Found::default() }
}

/// The life of the process.
fn serve(socket: &OwnedFd, checks: &[Check]) {
    // It ends what it started before it ends itself, so it must not die with rex: the end of the socket tells it.
    if rustix::process::set_parent_process_death_signal(None).is_err()
        || rustix::process::set_child_subreaper(Some(rustix::process::getpid())).is_err()
    {
        return;
    }
    let mut armed = false;
    while let Some(question) = dialogue::question(socket) {
        if !armed {
            if fence::arm_for_probing().is_err() {
                return;
            }
            armed = true;
        }
        let check = question.get("probe").and_then(Value::as_u64).and_then(|number| checks.get(usize::try_from(number).ok()?));
        let told = check
            .filter(|check| check.permitted)
            .map(|check| made(check, socket))
            .ok_or_else(|| Error::new(Kind::Permission, "no policy of this run could permit that"));
        if !dialogue::answer(socket, told) {
            break;
        }
    }
    broker::kill_all_below();
}

fn made(check: &Check, rex: &OwnedFd) -> Value {
    let settings = &check.settings;
    let began = Instant::now();
    let end = began + settings.timeout;
    let mut secrets: Vec<Vec<u8>> = Vec::new();
    let found = match settings.kind {
        ProbeKind::Tcp => tcp(settings, end),
        ProbeKind::Http => http(settings, end),
        ProbeKind::Redis => match check.password.as_deref().map(password).transpose() {
            Ok(password) => {
                secrets.extend(password.clone());
                redis(settings, password.as_deref(), end)
            }
            Err(problem) => wrong(problem),
        },
        ProbeKind::Command => {
            let values = settings.environment.iter().filter_map(|pair| pair.split_once('=')).map(|(_, value)| value.as_bytes().to_vec());
            secrets.extend(values.filter(|value| value.len() >= SECRET));
            command(settings, end, rex)
        }
    };
    let problem = found.problem.or_else(|| (!expected(settings, &found.output)).then_some("not_expected"));
    let mut told = json!({
        "ok": problem.is_none(),
        "problem": problem,
        "status": found.status,
        "seconds": began.elapsed().as_secs_f64(),
    });
    let most = usize::try_from(settings.show).unwrap_or(usize::MAX);
    if most > 0
        && let Some(map) = told.as_object_mut()
    {
        let output = masked(&found.output, &secrets);
        let output = output.get(..most.min(output.len())).unwrap_or_default();
        map.insert("output".into(), String::from_utf8_lossy(output).into_owned().into());
    }
    told
}

fn expected(settings: &ProbeSettings, output: &[u8]) -> bool {
    settings.expect.is_empty() || Regex::new(&settings.expect).is_ok_and(|regex| regex.is_match(output))
}

/// Without the secrets, wherever they stand.
fn masked(output: &[u8], secrets: &[Vec<u8>]) -> Vec<u8> {
    let mut output = output.to_vec();
    // What was cut off may have been cut in the middle of one.
    if output.len() >= LONGEST {
        let begun =
            |secret: &Vec<u8>| (1..secret.len()).rev().find(|length| secret.get(..*length).is_some_and(|begin| output.ends_with(begin)));
        let begun = secrets.iter().filter_map(begun).max().unwrap_or(0);
        output.truncate(output.len() - begun);
    }
    // The longest first: one may be a part of another.
    let mut secrets: Vec<&Vec<u8>> = secrets.iter().filter(|secret| !secret.is_empty()).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        let mut rest = output.as_slice();
        let mut clean = Vec::with_capacity(output.len());
        while let Some(at) = memchr::memmem::find(rest, secret) {
            clean.extend_from_slice(rest.get(..at).unwrap_or_default());
            clean.extend_from_slice(b"***");
            rest = rest.get(at + secret.len()..).unwrap_or_default();
        }
        clean.extend_from_slice(rest);
        output = clean;
    }
    output
}

/// The first line of a file that others cannot read.
fn password(path: &Path) -> std::result::Result<Vec<u8>, &'static str> {
    const UNUSABLE: &str = "password_file";
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|_| UNUSABLE)?;
    let stat = rustix::fs::fstat(&file).map_err(|_| UNUSABLE)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_mode & 0o027 != 0 {
        return Err(UNUSABLE);
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(PASSWORD as u64).read_to_end(&mut bytes).map_err(|_| UNUSABLE)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    if line.is_empty() { Err(UNUSABLE) } else { Ok(line) }
}

/// The word for what went wrong on the way.
fn problem(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "timeout",
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => "refused",
        io::ErrorKind::PermissionDenied => "permission",
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "closed",
        io::ErrorKind::InvalidData => "protocol",
        _ => "unreachable",
    }
}

/// A connection to the address of a probe.
enum Way {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl io::Read for Way {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}
impl io::Write for Way {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
impl Timed for Way {
    fn bound(&self, time: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.bound(time),
            Self::Unix(stream) => stream.bound(time),
        }
    }
}

fn connect(address: &str, end: Instant) -> io::Result<Way> {
    if address.starts_with('/') {
        return UnixStream::connect(address).map(Way::Unix);
    }
    let address = socket_address(address).ok_or(io::ErrorKind::InvalidInput)?;
    let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    TcpStream::connect_timeout(&address, left).map(Way::Tcp)
}

/// What the other side says first is only waited for where something is expected of it.
fn tcp(settings: &ProbeSettings, end: Instant) -> Found {
    let mut way = match connect(&settings.address, end) {
        Ok(way) => way,
        Err(error) => return wrong(problem(&error)),
    };
    if settings.expect.is_empty() {
        return Found::default();
    }
    let mut until = Until { stream: &mut way, end };
    let mut output = Vec::new();
    let mut block = [0u8; 4096];
    loop {
        match until.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(count) if count > 0 => {
                output.extend_from_slice(block.get(..count).unwrap_or_default());
                if expected(settings, &output) || output.len() >= LONGEST {
                    return Found { output, ..Found::default() };
                }
            }
            Err(error) if output.is_empty() => return wrong(problem(&error)),
            _ => return Found { output, ..Found::default() },
        }
    }
}

fn http(settings: &ProbeSettings, end: Instant) -> Found {
    let Some((address, host, target)) = http_parts(&settings.url) else { return wrong("unreachable") };
    let left = end.saturating_duration_since(Instant::now());
    let answer = TcpStream::connect_timeout(&address, left).and_then(|mut stream| exchange(&mut stream, "GET", target, host, LONGEST, end));
    match answer {
        Ok(response) => {
            let good = if settings.status.is_empty() {
                (200..400).contains(&response.status)
            } else {
                settings.status.iter().any(|status| *status == response.status.to_string())
            };
            Found { problem: (!good).then_some("status"), status: Some(response.status.into()), output: response.body }
        }
        Err(error) => wrong(problem(&error)),
    }
}

/// RESP, as every version of Redis and its kin speaks it.
fn redis(settings: &ProbeSettings, password: Option<&[u8]>, end: Instant) -> Found {
    let mut way = match connect(&settings.address, end) {
        Ok(way) => way,
        Err(error) => return wrong(problem(&error)),
    };
    let mut until = Until { stream: &mut way, end };
    let mut say = |words: &[&[u8]]| -> io::Result<Vec<u8>> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        until.write_all(&request)?;
        let mut line = Vec::new();
        let mut byte = [0u8; 1];
        while !line.ends_with(b"\r\n") && line.len() < 4096 {
            until.read_exact(&mut byte)?;
            line.extend_from_slice(&byte);
        }
        Ok(line)
    };
    let talk = || -> io::Result<Found> {
        if let Some(password) = password {
            let user = settings.user.as_bytes();
            let answer = if user.is_empty() { say(&[b"AUTH", password]) } else { say(&[b"AUTH", user, password]) }?;
            if !answer.starts_with(b"+") {
                return Ok(wrong("login"));
            }
        }
        let answer = say(&[b"PING"])?;
        Ok(match answer.as_slice() {
            b"+PONG\r\n" => Found { output: b"PONG".to_vec(), ..Found::default() },
            refused if refused.starts_with(b"-NOAUTH") || refused.starts_with(b"-WRONGPASS") || refused.starts_with(b"-NOPERM") => {
                wrong("login")
            }
            // It is there, and busy with something (loading, say).
            other if other.starts_with(b"-") => wrong("not_ready"),
            _ => wrong("protocol"),
        })
    };
    let mut talk = talk;
    talk().unwrap_or_else(|error| wrong(problem(&error)))
}

/// Runs it until it ends, its time is over, or rex is gone; nothing of it is left then.
fn command(settings: &ProbeSettings, end: Instant, rex: &OwnedFd) -> Found {
    if !is_the_owners(Path::new(&settings.program)) {
        return wrong("program");
    }
    let Ok((ours, theirs)) = io::pipe() else { return wrong("program") };
    let Ok(errors) = theirs.try_clone() else { return wrong("program") };
    let mut command = Command::new(&settings.program);
    command.args(&settings.arguments).env_clear().current_dir("/").stdin(Stdio::null()).stdout(theirs).stderr(errors);
    command.envs(settings.environment.iter().filter_map(|pair| pair.split_once('=')));
    ends_with_this(&mut command);
    let spawned = command.spawn();
    // Its ends of the pipe are in it.
    drop(command);
    let Ok(mut child) = spawned else { return wrong("program") };
    let found = watched(&mut child, ours, end, rex);
    broker::kill_all_below();
    let _ = child.wait();
    found
}

/// A session of its own, which dies with this process.
fn ends_with_this(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    #[expect(unsafe_code, reason = "between fork and exec std has no safe way")]
    // SAFETY: system calls of their own; nothing is allocated or locked.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
        });
    }
}

fn watched(child: &mut std::process::Child, mut from: io::PipeReader, end: Instant, rex: &OwnedFd) -> Found {
    let mut output = Vec::new();
    let mut open = rustix::io::ioctl_fionbio(&from, true).is_ok();
    loop {
        let ended = child.try_wait();
        // What is there when it has ended is read; what something it left behind may write later is not waited for.
        while open {
            let mut block = [0u8; 4096];
            match from.read(&mut block) {
                Ok(count) if count > 0 => {
                    // The rest is read and forgotten, so that the program does not wait for it.
                    let room = LONGEST.saturating_sub(output.len()).min(count);
                    output.extend_from_slice(block.get(..room).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                _ => open = false,
            }
            if Instant::now() >= end {
                break;
            }
        }
        match ended {
            Ok(None) => {}
            Ok(Some(status)) => {
                let code = status.code();
                return Found {
                    problem: (code != Some(0)).then_some(if code.is_some() { "exit_code" } else { "signal" }),
                    status: code.map(i64::from),
                    output,
                };
            }
            Err(_) => return wrong("program"),
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Found { output, ..wrong("timeout") };
        }
        // Of rex only its end is listened for: it says nothing while it waits.
        let tick = Timespec { tv_sec: 0, tv_nsec: left.min(Duration::from_millis(20)).subsec_nanos().into() };
        let mut fds = vec![PollFd::new(rex, PollFlags::RDHUP)];
        if open {
            fds.push(PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN));
        }
        let _ = rustix::event::poll(&mut fds, Some(&tick));
        if fds.first().is_some_and(|fd| !fd.revents().is_empty()) {
            return wrong("timeout");
        }
    }
}

/// Whether nobody but root, or who rex runs as, can have put it there.
fn is_the_owners(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let safe = |path: &Path| rustix::fs::stat(path).is_ok_and(|stat| (stat.st_uid == 0 || stat.st_uid == own) && stat.st_mode & 0o022 == 0);
    let regular = rustix::fs::stat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    let Ok(real) = std::fs::canonicalize(path) else { return false };
    regular && real.ancestors().all(safe) && path.parent().is_some_and(|folder| folder.ancestors().all(safe))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let secrets = vec![b"hunter2".to_vec(), Vec::new()];
        assert_eq!(masked(b"hunter2 and hunter2hunter2, hunter", &secrets), b"*** and ******, hunter");
        let within = [b"admin".to_vec(), b"admin-s3cr3t".to_vec()];
        assert_eq!(masked(b"admin admin-s3cr3t", &within), b"*** ***");
        let cut = [vec![b'.'; LONGEST - 6], b"hunter".to_vec()].concat();
        assert_eq!(masked(&cut, &secrets), vec![b'.'; LONGEST - 6]);
    }

    #[test]
    fn a_password_is_in_a_file_that_others_cannot_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "hunter2\r\nmore\n").unwrap();
        let with = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            password(&path)
        };
        assert_eq!(with(0o600).unwrap(), b"hunter2");
        assert_eq!(with(0o640).unwrap(), b"hunter2");
        for mode in [0o644, 0o604, 0o660, 0o602] {
            assert!(with(mode).is_err(), "{mode:o}");
        }
        std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
        with(0o600).unwrap();
        assert!(password(&folder.path().join("link")).is_err() && password(&folder.path().join("none")).is_err());
    }
}
