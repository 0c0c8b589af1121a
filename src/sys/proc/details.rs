//! What is told of one process besides what every row has: its limits, powers, program (proc_pid_status(5), proc_pid_limits(5)).

use super::process::{Table, field};
use super::{inspector, int};
use crate::error::{Error, Result};
use crate::policy::{Action, Granted};
use crate::resource::process::Process as Judged;
use rustix::io::Errno;

/// What is not told is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Its program, as readlink(2) gives it; ` (deleted)` at the end where that was removed.
    pub exe: Option<Vec<u8>>,
    /// In octal.
    pub umask: Option<String>,
    pub limits: Vec<Limit>,
    /// Sets of capabilities, in hexadecimal.
    pub effective: Option<String>,
    pub permitted: Option<String>,
    pub bounding: Option<String>,
    pub no_new_privileges: Option<bool>,
    pub seccomp: Option<i64>,
    pub voluntary_switches: Option<i64>,
    pub involuntary_switches: Option<i64>,
    pub oom_score: Option<i64>,
    pub oom_score_adj: Option<i64>,
    /// Bytes.
    pub memory_peak: Option<i64>,
    pub memory_locked: Option<i64>,
    pub memory_shared: Option<i64>,
}

/// A limit of getrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// e.g. `open_files`.
    pub name: String,
    /// Nothing where there is no limit.
    pub soft: Option<i64>,
    pub hard: Option<i64>,
    /// e.g. `bytes`; empty for priorities.
    pub unit: String,
}

/// Looks at a granted process, if it is still the one that was judged; nothing if it has ended.
///
/// # Errors
/// What the kernel reports, other than that it has gone.
pub fn of<A: Action<On = Judged>>(table: &Table, granted: &Granted<A>) -> Result<Option<Details>> {
    let process = granted.resource();
    let judged = inspector::Judged { pid: process.pid, start_ticks: process.start_ticks };
    let read = |name: &str, most: usize| match table.file(judged, name, most) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(Errno::ACCESS | Errno::PERM) => Ok(Some(String::new())),
        Err(errno) => Err(Error::os("read", errno.raw_os_error()).with_path(format!("/proc/{}/{name}", process.pid))),
    };
    let (Some(status), Some(limits)) = (read("status", 64 << 10)?, read("limits", 16 << 10)?) else { return Ok(None) };
    let word = |name: &str| field(&status, name).map(str::to_owned);
    let number = |name: &str| field(&status, name).and_then(|text| text.parse::<i64>().ok());
    let bytes = |name: &str| {
        let kilobytes = field(&status, name)?.trim_end_matches("kB").trim().parse::<u64>().ok()?;
        Some(int(kilobytes.saturating_mul(1024)))
    };
    let score = |name: &str| Ok::<_, Error>(read(name, 64)?.and_then(|text| text.trim().parse::<i64>().ok()));
    Ok(Some(Details {
        exe: table.text(judged, inspector::Text::Program),
        umask: word("Umask:"),
        limits: parse_limits(&limits),
        effective: word("CapEff:"),
        permitted: word("CapPrm:"),
        bounding: word("CapBnd:"),
        no_new_privileges: number("NoNewPrivs:").map(|number| number != 0),
        seccomp: number("Seccomp:"),
        voluntary_switches: number("voluntary_ctxt_switches:"),
        involuntary_switches: number("nonvoluntary_ctxt_switches:"),
        oom_score: score("oom_score")?,
        oom_score_adj: score("oom_score_adj")?,
        memory_peak: bytes("VmHWM:"),
        memory_locked: bytes("VmLck:"),
        memory_shared: bytes("RssShmem:"),
    }))
}

/// Names and values of the environment that a granted process was started with, if it is still the one that was judged; nothing if it has ended.
///
/// # Errors
/// [`crate::error::Kind::Permission`] when the kernel does not show it to this user.
pub fn environment<A: Action<On = Judged>>(table: &Table, granted: &Granted<A>) -> Result<Option<Pairs>> {
    Ok(looked(table, granted, inspector::Text::Environment)?.map(|bytes| pairs(&bytes)))
}

/// Names and values.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn pairs(bytes: &[u8]) -> Pairs {
    let pair = |line: &[u8]| {
        let at = line.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
        Some((line.get(..at)?.to_vec(), line.get(at + 1..)?.to_vec()))
    };
    bytes.split(|byte| *byte == 0).filter_map(pair).collect()
}

/// Which namespaces a granted process is in: by kind, the kernel's word, e.g. `net:[4026531840]`. Those that the kernel does not tell are left out.
#[must_use]
pub fn namespaces<A: Action<On = Judged>>(table: &Table, granted: &Granted<A>) -> Vec<(&'static str, String)> {
    let link = |kind: inspector::Namespace| {
        let text = looked(table, granted, inspector::Text::Namespace(kind)).ok().flatten()?;
        Some((kind.name(), String::from_utf8_lossy(&text).into_owned()))
    };
    inspector::Namespace::ALL.into_iter().filter_map(link).collect()
}

/// What the memory of a granted process is made of: the rows of `/proc/PID/smaps_rollup` in bytes. Nothing where the kernel does not tell.
#[must_use]
pub fn memory<A: Action<On = Judged>>(table: &Table, granted: &Granted<A>) -> Vec<(String, i64)> {
    let text = looked(table, granted, inspector::Text::Memory).ok().flatten().unwrap_or_default();
    rollup(&String::from_utf8_lossy(&text))
}

fn rollup(text: &str) -> Vec<(String, i64)> {
    let row = |line: &str| {
        let (name, size) = line.split_once(':')?;
        let kilobytes = size.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
        Some((name.to_ascii_lowercase(), int(kilobytes.saturating_mul(1024))))
    };
    text.lines().filter_map(row).collect()
}

/// The same file by the inspector, where there is one; nothing of a process that has ended.
fn looked<A: Action<On = Judged>>(table: &Table, granted: &Granted<A>, text: inspector::Text) -> Result<Option<Vec<u8>>> {
    let process = granted.resource();
    let judged = inspector::Judged { pid: process.pid, start_ticks: process.start_ticks };
    match inspector::text(judged, text).unwrap_or_else(|| table.look_text(judged, text)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.errno, Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        Err(error) => Err(error.with_path(format!("/proc/{}", process.pid))),
    }
}

/// Columns stand where the heading has them; names have blanks in them.
fn parse_limits(text: &str) -> Vec<Limit> {
    let mut lines = text.lines();
    let Some(heading) = lines.next() else { return Vec::new() };
    let column = |name: &str| heading.find(name);
    let (Some(soft), Some(hard), Some(unit)) = (column("Soft Limit"), column("Hard Limit"), column("Units")) else { return Vec::new() };
    let limit = |line: &str| {
        let part = |from: usize, to: usize| line.get(from..to.min(line.len())).map(str::trim);
        let number = |text: &str| text.parse::<u64>().ok().map(int);
        let name = part(0, soft)?.strip_prefix("Max ")?.replace(' ', "_");
        let unit = line.get(unit..).unwrap_or_default().trim().to_owned();
        Some(Limit { name, soft: number(part(soft, hard)?), hard: number(line.get(hard..)?.split_ascii_whitespace().next()?), unit })
    };
    lines.filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn environments_are_names_and_values() {
        let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(pairs(b"A=1\0B=x=y\0odd\0=z\0C=\0"), [pair("A", "1"), pair("B", "x=y"), pair("C", "")]);
        assert!(pairs(b"").is_empty());
        let text = "5500-7fff ---p 00000000 00:00 0  [rollup]\nRss:  8 kB\nPss_Anon:  1 kB\n";
        assert_eq!(rollup(text), [("rss".to_owned(), 8192), ("pss_anon".to_owned(), 1024)]);
    }

    #[test]
    fn limits_are_read_from_their_columns() {
        let limits = parse_limits(&std::fs::read_to_string("/proc/self/limits").unwrap());
        let files = limits.iter().find(|limit| limit.name == "open_files").unwrap();
        let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!((files.soft, files.hard, files.unit.as_str()), (own.current.map(int), own.maximum.map(int), "files"));
        assert!(limits.iter().any(|limit| limit.name == "nice_priority" && limit.unit.is_empty()), "{limits:?}");
        assert!(limits.len() >= 16);
        assert!(parse_limits("").is_empty() && parse_limits("Limit\nMax é 1\n").is_empty());
    }
}
