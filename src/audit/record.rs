//! One record: the events, and their JSON, written by hand into a buffer that is used again.

use super::RunInfo;
use crate::error::{Kind, Why};
use serde_json::Value;
use std::fmt::Write as _;

/// The version of the records' form.
pub const SCHEMA: &str = "rex.audit/1";

/// How a run ended that nobody saw end.
pub const UNKNOWN: &str = "unknown";

/// Longest record in bytes. Logs cut or refuse what does not fit a datagram of 8 KiB (RFC 5424 §6.1 asks for 2048 only).
const LONGEST: usize = 7 << 10;

/// Most bytes of a script in one record, as they are written there. The rest of a record of that kind is far below a kilobyte.
const PIECE: usize = 5 << 10;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A script is about to run.
    RunStart(RunStart<'a>),
    /// A piece of the script, where rex.toml wants scripts kept. Comes before the script runs.
    Script(Piece<'a>),
    /// The policy was asked.
    Decision(Decision<'a>),
    /// A walk over many things is over; its denials have records of their own.
    WalkSummary(WalkSummary<'a>),
    /// Something was changed, or the attempt failed.
    Effect(Effect<'a>),
    /// The run is over.
    RunEnd(RunEnd<'a>),
    /// A run ended without a record of it: its process was killed. A later start found that out.
    RunLost(RunLost<'a>),
    /// Nothing ran: bad identity, bad policy, a request that is none.
    Refused(Refused<'a>),
    /// Where the chain of the file of records stands: told to the other places, so that a file which is written anew is found out. It is no part of
    /// the run's own sequence.
    Anchor(Anchor<'a>),
    /// Another set of policies: put in force by the owner, or found by a run that is under way.
    PolicyChange(PolicyChange<'a>),
    /// A word of the owner's own commands: `rex doctor` tries whether records are taken.
    Note(Note<'a>),
}

#[derive(Clone, Debug, Default)]
pub struct RunStart<'a> {
    /// The layers of protection in force.
    pub layers: &'a [&'a str],
    /// How it came in: `session`, `serve` or `local`.
    pub mode: &'a str,
    /// The owner's script that it is, if it is one.
    pub runbook: Option<&'a str>,
    /// Length of the script.
    pub script_bytes: u64,
    /// A session at a prompt begins, whose entries are runs of their own.
    pub interactive: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Piece<'a> {
    /// From 1.
    pub part: u64,
    pub parts: u64,
    pub text: &'a str,
    /// In the last piece: bytes of the script that are not kept.
    pub left_out: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Anchor<'a> {
    /// The file of records.
    pub file: &'a str,
    /// The record's number in the file.
    pub n: u64,
    /// Its link.
    pub link: &'a str,
    /// `count`, `time` or `end`.
    pub reason: &'a str,
}

/// One question to the policy and its answer. Actions and resources are in Cedar notation.
#[derive(Clone, Debug, Default)]
pub struct Decision<'a> {
    pub allow: bool,
    pub action: &'a str,
    /// What was judged.
    pub resource: &'a str,
    /// What the script named, if that differs.
    pub requested: Option<&'a str>,
    /// Of a denial.
    pub why: Option<Why>,
    /// Ids of the policies that decided.
    pub policies: &'a [&'a str],
    /// Names the denial, for `rex why`.
    pub reference: Option<&'a str>,
    pub function: &'a str,
    pub line: u32,
    pub column: u32,
    /// The answer was remembered from an equal question of this run.
    pub memoized: bool,
    /// What was allowed is not done: the run is dry.
    pub dry_run: bool,
    /// The circumstances that the policy was told: arguments of a program, wanted mode ….
    pub context: Option<&'a serde_json::Map<String, Value>>,
    /// What tells more about the resource than its id: name and user of a process.
    pub attributes: Option<&'a serde_json::Map<String, Value>>,
}

#[derive(Clone, Debug, Default)]
pub struct WalkSummary<'a> {
    pub root: &'a str,
    pub action: &'a str,
    pub allowed: u64,
    pub denied: u64,
    /// Ids of the policies that allowed something on the way.
    pub policies: &'a [&'a str],
}

#[derive(Clone, Debug, Default)]
pub struct Effect<'a> {
    pub action: &'a str,
    pub resource: &'a str,
    /// `None`: done.
    pub failed: Option<Kind>,
    pub bytes: u64,
    pub duration_us: u64,
    /// E.g. the digest of a difference.
    pub detail: &'a str,
}

#[derive(Clone, Debug, Default)]
pub struct RunEnd<'a> {
    pub exit: u8,
    /// The class of the error, empty when there is none.
    pub class: &'a str,
    pub duration_us: u64,
    pub decisions: u64,
    pub denials: u64,
    pub bytes_out: u64,
}

#[derive(Clone, Debug, Default)]
pub struct RunLost<'a> {
    /// The run that found it out, whose process wrote this.
    pub found_by: &'a str,
}

#[derive(Clone, Debug)]
pub struct Refused<'a> {
    /// What was refused: `identity`, `policy`, `config`, `request`, `script` ….
    pub what: &'a str,
    pub kind: Kind,
    pub message: &'a str,
}

#[derive(Clone, Debug)]
pub struct PolicyChange<'a> {
    /// `activated`, `rolled_back`, or `seen` by a run.
    pub what: &'a str,
    /// Digest of the set before; empty when there was none that is valid.
    pub from: &'a str,
    /// Digest of the set from now on.
    pub to: &'a str,
}

#[derive(Clone, Debug)]
pub struct Note<'a> {
    /// The command: `doctor`.
    pub what: &'a str,
    pub message: &'a str,
}

impl Event<'_> {
    /// The word for it in records.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RunStart(_) => "run_start",
            Self::Script(_) => "script",
            Self::Decision(_) => "decision",
            Self::WalkSummary(_) => "walk_summary",
            Self::Effect(_) => "effect",
            Self::RunEnd(_) | Self::RunLost(_) => "run_end",
            Self::Refused(_) => "refused",
            Self::Anchor(_) => "anchor",
            Self::PolicyChange(_) => "policy_change",
            Self::Note(_) => "note",
        }
    }

    /// RFC 5424 severity: 4 warning for what was refused, else 5 notice.
    #[must_use]
    pub const fn severity(&self) -> u8 {
        match self {
            Self::Decision(Decision { allow: false, .. }) | Self::Refused(_) | Self::RunLost(_) => 4,
            _ => 5,
        }
    }

    /// `allow` or `deny`, of decisions and refusals.
    pub const fn decision(&self) -> Option<&'static str> {
        match self {
            Self::Decision(Decision { allow: true, .. }) => Some("allow"),
            Self::Decision(_) | Self::Refused(_) => Some("deny"),
            _ => None,
        }
    }

    /// The action and the resource, where there are such.
    pub const fn subject(&self) -> Option<(&str, &str)> {
        match self {
            Self::Decision(it) => Some((it.action, it.resource)),
            Self::WalkSummary(it) => Some((it.action, it.root)),
            Self::Effect(it) => Some((it.action, it.resource)),
            _ => None,
        }
    }
}

/// A record with what the sinks need beside its JSON.
pub struct Frame<'a> {
    pub json: &'a str,
    pub common: &'a Common,
    pub info: &'a RunInfo,
    pub event: &'a Event<'a>,
    pub time: &'a str,
    /// Its number in the run, from 0; anchors have none.
    pub seq: Option<u64>,
}

/// The parts of a record that a run's records share, written once.
pub struct Common {
    pub host: String,
    pub pid: u32,
    pub run: String,
    pub principal: String,
    /// Digests, hexadecimal, once known.
    pub script: Option<String>,
    pub policy: Option<String>,
    fixed: String,
    rest: String,
}

impl Common {
    pub fn new(info: &RunInfo) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let pid = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
        let mut fixed = String::new();
        field(&mut fixed, "host", &host, 256);
        field(&mut fixed, "run", &info.run, 128);
        if let Some(session) = &info.session {
            field(&mut fixed, "session", session, 128);
        }
        number(&mut fixed, "pid", u64::from(pid));
        number(&mut fixed, "uid", u64::from(info.uid));
        field(&mut fixed, "principal", &info.principal, 256);
        let mut common = Self {
            host,
            pid,
            run: info.run.clone(),
            principal: info.principal.clone(),
            script: None,
            policy: None,
            fixed,
            rest: String::new(),
        };
        common.rest(info);
        common
    }

    /// Writes the part that becomes known later.
    pub fn rest(&mut self, info: &RunInfo) {
        self.rest.clear();
        for (name, value) in [
            ("evidence", Some(info.evidence.as_str())),
            ("client", info.client.as_deref()),
            ("script", self.script.as_deref()),
            ("policy", self.policy.as_deref()),
        ] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                field(&mut self.rest, name, value, 128);
            }
        }
    }
}

/// The time, RFC 3339 in UTC with microseconds. The calendar is asked once a second; in between only the fraction is written anew.
#[derive(Debug, Default)]
pub struct Clock {
    second: i64,
    text: String,
}

/// `.123456Z`
const FRACTION: usize = 8;

impl Clock {
    pub fn now(&mut self) -> &str {
        self.at(jiff::Timestamp::now())
    }

    fn at(&mut self, time: jiff::Timestamp) -> &str {
        let (second, nanosecond) = (time.as_second(), time.subsec_nanosecond());
        if nanosecond < 0 || self.text.is_empty() || second != self.second {
            self.text = format!("{time:.6}");
            // Before 1970 the fraction counts backwards; such a time is written whole, each time.
            self.second = if nanosecond < 0 { i64::MIN } else { second };
        } else {
            self.text.truncate(self.text.len().saturating_sub(FRACTION));
            let _ = write!(self.text, ".{:06}Z", nanosecond / 1000);
        }
        &self.text
    }
}

/// Writes a record without its closing brace into `out`. What does not fit is cut where it shows: text ends in `…(+N bytes)`.
pub fn render<'a>(
    out: &mut String,
    common: &'a Common,
    info: &'a RunInfo,
    event: &'a Event<'a>,
    time: &'a str,
    seq: Option<u64>,
    lost: u64,
) -> Frame<'a> {
    for cap in [2048, 512, 128, 32] {
        out.clear();
        let _ = write!(out, "{{\"schema\":\"{SCHEMA}\",\"time\":\"{time}\"");
        if let Some(seq) = seq {
            number(out, "seq", seq);
        }
        let _ = write!(out, ",\"event\":\"{}\"", event.name());
        out.push_str(&common.fixed);
        out.push_str(&common.rest);
        if lost > 0 {
            number(out, "lost", lost);
        }
        if matches!(event, Event::RunStart(_) | Event::Refused(_)) {
            list(out, "groups", &info.groups, cap);
            field(out, "request", &info.request, cap);
            out.push_str(",\"facts\":");
            object(out, &info.facts, cap, 4);
        }
        body(out, event, cap);
        if cap < 2048 {
            out.push_str(",\"cut\":true");
        }
        if out.len() <= LONGEST {
            break;
        }
    }
    Frame { json: "", common, info, event, time, seq }
}

fn body(out: &mut String, event: &Event<'_>, cap: usize) {
    if let Some(decision) = event.decision() {
        field(out, "decision", decision, cap);
    }
    if let Some((action, resource)) = event.subject() {
        field(out, "action", action, cap);
        field(out, "resource", resource, cap);
    }
    match event {
        Event::RunStart(it) => {
            field(out, "mode", it.mode, cap);
            if let Some(runbook) = it.runbook {
                field(out, "runbook", runbook, cap);
            }
            number(out, "script_bytes", it.script_bytes);
            if it.interactive {
                out.push_str(",\"interactive\":true");
            }
            list(out, "layers", it.layers, cap);
        }
        Event::Script(it) => {
            number(out, "part", it.part);
            number(out, "parts", it.parts);
            field(out, "text", it.text, PIECE);
            if it.left_out > 0 {
                number(out, "left_out", it.left_out);
            }
        }
        Event::Decision(it) => {
            if let Some(requested) = it.requested {
                field(out, "requested", requested, cap);
            }
            if let Some(why) = it.why {
                field(out, "why", why.name(), cap);
            }
            list(out, "policies", it.policies, cap);
            if let Some(reference) = it.reference {
                field(out, "ref", reference, cap);
            }
            field(out, "function", it.function, cap);
            number(out, "line", u64::from(it.line));
            number(out, "column", u64::from(it.column));
            if it.memoized {
                out.push_str(",\"memoized\":true");
            }
            if it.dry_run {
                out.push_str(",\"dry_run\":true");
            }
            for (name, map) in [("attributes", it.attributes), ("context", it.context)] {
                if let Some(map) = map {
                    let _ = write!(out, ",\"{name}\":");
                    object(out, map, cap, 4);
                }
            }
        }
        Event::WalkSummary(it) => {
            number(out, "allowed", it.allowed);
            number(out, "denied", it.denied);
            list(out, "policies", it.policies, cap);
        }
        Event::Effect(it) => {
            field(out, "result", it.failed.map_or("ok", Kind::name), cap);
            number(out, "bytes", it.bytes);
            number(out, "duration_us", it.duration_us);
            if !it.detail.is_empty() {
                field(out, "detail", it.detail, cap);
            }
        }
        Event::RunEnd(it) => {
            number(out, "exit", u64::from(it.exit));
            if !it.class.is_empty() {
                field(out, "class", it.class, cap);
            }
            number(out, "duration_us", it.duration_us);
            number(out, "decisions", it.decisions);
            number(out, "denials", it.denials);
            number(out, "bytes_out", it.bytes_out);
        }
        Event::RunLost(it) => {
            field(out, "how", UNKNOWN, cap);
            field(out, "found_by", it.found_by, cap);
        }
        Event::Refused(it) => {
            field(out, "what", it.what, cap);
            field(out, "kind", it.kind.name(), cap);
            field(out, "message", it.message, cap);
        }
        Event::Anchor(it) => {
            field(out, "file", it.file, cap);
            number(out, "n", it.n);
            field(out, "link", it.link, cap);
            field(out, "reason", it.reason, cap);
        }
        Event::PolicyChange(it) => {
            field(out, "what", it.what, cap);
            field(out, "from", it.from, cap);
            field(out, "to", it.to, cap);
        }
        Event::Note(it) => {
            field(out, "what", it.what, cap);
            field(out, "message", it.message, cap);
        }
    }
}

/// The next piece of a text that fits a record: as much of it as is at most [`PIECE`] bytes there.
pub fn piece(text: &str) -> &str {
    let mut bytes = 0;
    for (at, c) in text.char_indices() {
        bytes += match c {
            '"' | '\\' | '\n' => 2,
            ' '..='~' => 1,
            c => 6 * c.len_utf16(),
        };
        if bytes > PIECE {
            return text.get(..at).unwrap_or(text);
        }
    }
    text
}

fn number(out: &mut String, name: &str, value: u64) {
    let _ = write!(out, ",\"{name}\":{value}");
}

fn field(out: &mut String, name: &str, value: &str, cap: usize) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
    string(out, value, cap);
}

fn list<S: AsRef<str>>(out: &mut String, name: &str, items: &[S], cap: usize) {
    let _ = write!(out, ",\"{name}\":[");
    let most = (cap / 16).max(2);
    for (i, item) in items.iter().take(most).enumerate() {
        if i > 0 {
            out.push(',');
        }
        string(out, item.as_ref(), cap.min(256));
    }
    if let Some(more) = items.len().checked_sub(most).filter(|more| *more > 0) {
        let _ = write!(out, ",\"\\u2026(+{more})\"");
    }
    out.push(']');
}

fn object(out: &mut String, map: &serde_json::Map<String, Value>, cap: usize, depth: usize) {
    out.push('{');
    let most = (cap / 16).max(2);
    for (i, (key, item)) in map.iter().take(most).enumerate() {
        if i > 0 {
            out.push(',');
        }
        string(out, key, cap);
        out.push(':');
        value(out, item, cap, depth);
    }
    if let Some(more) = map.len().checked_sub(most).filter(|more| *more > 0) {
        let _ = write!(out, ",\"\\u2026\":\"\\u2026(+{more})\"");
    }
    out.push('}');
}

fn value(out: &mut String, item: &Value, cap: usize, depth: usize) {
    match item {
        Value::String(text) => string(out, text, cap),
        Value::Array(_) | Value::Object(_) if depth == 0 => out.push_str("\"\\u2026\""),
        Value::Array(items) => {
            out.push('[');
            let most = (cap / 16).max(2);
            for (i, item) in items.iter().take(most).enumerate() {
                if i > 0 {
                    out.push(',');
                }
                value(out, item, cap, depth - 1);
            }
            if let Some(more) = items.len().checked_sub(most).filter(|more| *more > 0) {
                let _ = write!(out, ",\"\\u2026(+{more})\"");
            }
            out.push(']');
        }
        Value::Object(map) => object(out, map, cap, depth - 1),
        plain => drop(write!(out, "{plain}")),
    }
}

/// A JSON string of ASCII only: nothing in it can steer a terminal, break a line, or need a byte order mark (RFC 5424 §6.4).
pub fn string(out: &mut String, text: &str, cap: usize) {
    out.push('"');
    // Nearly all of them are like this.
    if text.len() <= cap && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        out.push_str(text);
        out.push('"');
        return;
    }
    let start = out.len();
    let mut done = 0;
    for (at, c) in text.char_indices() {
        if !matches!(c, ' '..='~') || c == '"' || c == '\\' {
            out.push_str(text.get(done..at).unwrap_or(""));
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
            }
            done = at + c.len_utf8();
        }
        if out.len() - start + (at + c.len_utf8() - done) > cap {
            let end = at + c.len_utf8();
            out.push_str(text.get(done..end).unwrap_or(""));
            if let Some(left) = text.len().checked_sub(end).filter(|left| *left > 0) {
                let _ = write!(out, "\\u2026(+{left} bytes)");
            }
            done = text.len();
            break;
        }
    }
    out.push_str(text.get(done..).unwrap_or(""));
    out.push('"');
}

/// A record that was read back, as one line of ASCII JSON.
pub fn ascii_json(map: &serde_json::Map<String, Value>) -> String {
    let mut out = String::new();
    // serde_json reads at most 128 levels.
    object(&mut out, map, usize::MAX, 128);
    out
}

/// Text that cannot steer a terminal: control, invisible and direction characters are written as `\u{…}`.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
            _ if c.is_control() => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Clock;

    #[test]
    fn the_clock_writes_what_the_calendar_says_within_a_second_and_across() {
        let mut clock = Clock::default();
        let second = 1_800_000_000_i64;
        for (second, nanosecond) in [
            (second, 0),
            (second, 999),
            (second, 1000),
            (second, 999_999_999),
            (second + 1, 5_000),
            (second, 7),
            (-5, 0),
            (-5, -1_000),
            (-5, -2_000),
            (0, 1_000),
        ] {
            let time = jiff::Timestamp::new(second, nanosecond).unwrap();
            assert_eq!(clock.at(time), format!("{time:.6}"));
        }
    }
}
