//! The host's log: RFC 5424 over the syslog socket, and journald's native protocol. Every wait is bounded.

use super::Sink;
use super::record::{Event, Frame, visible};
use crate::config::Facility;
use crate::error::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// A connected Unix socket that never blocks by itself.
struct Socket {
    fd: OwnedFd,
    stream: bool,
    /// A frame of the stream was cut: whatever follows would be taken for its rest.
    torn: bool,
}

impl Socket {
    fn connect(path: &Path, kind: SocketType) -> rustix::io::Result<Self> {
        let fd = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
        Ok(Self { fd, stream: kind == SocketType::STREAM, torn: false })
    }

    /// Sends all of `bytes` or fails within `patience`.
    fn send(&mut self, mut bytes: &[u8], patience: Duration) -> Result<()> {
        if self.torn {
            return Err(Error::new(Kind::Io, "an earlier record was cut"));
        }
        let until = Instant::now() + patience;
        let whole = bytes.len();
        while !bytes.is_empty() {
            match rustix::net::send(&self.fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                // A datagram goes whole or not at all (unix(7)).
                Ok(sent) => bytes = if self.stream { bytes.get(sent..).unwrap_or(&[]) } else { &[] },
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        self.torn = bytes.len() < whole;
                        return Err(Error::new(Kind::Timeout, "it is full and nobody reads"));
                    }
                    // Wakes every tenth of a second: ENOBUFS is about memory, which poll(2) does not watch.
                    let wait = Timespec::try_from(left.min(Duration::from_millis(100))).unwrap_or_default();
                    let _ = poll(&mut [PollFd::new(&self.fd, PollFlags::OUT)], Some(&wait));
                }
                Err(errno) => {
                    self.torn = bytes.len() < whole;
                    return Err(Error::os("send", errno.raw_os_error()));
                }
            }
        }
        Ok(())
    }
}

fn unreachable(name: &str, errno: Errno) -> Error {
    Error { kind: Kind::Audit, ..Error::os(name, errno.raw_os_error()) }
}

/// The syslog socket. On a stream a newline ends each record, as syslog daemons that offer one expect; records hold none themselves.
pub struct Syslog {
    name: String,
    socket: Socket,
    facility: u8,
    frame: String,
}

impl Syslog {
    pub fn connect(path: &Path, facility: Facility) -> Result<Self> {
        let name = format!("syslog {}", path.display());
        let socket = match Socket::connect(path, SocketType::DGRAM) {
            Err(Errno::PROTOTYPE) => Socket::connect(path, SocketType::STREAM),
            other => other,
        };
        let socket = socket.map_err(|errno| unreachable(&name, errno))?;
        Ok(Self { name, socket, facility: facility as u8, frame: String::with_capacity(8192) })
    }
}

impl Sink for Syslog {
    fn name(&self) -> &str {
        &self.name
    }
    fn is_log(&self) -> bool {
        true
    }
    fn write(&mut self, frame: &Frame<'_>, patience: Duration) -> Result<()> {
        rfc5424(&mut self.frame, frame, self.facility);
        if self.socket.stream {
            self.frame.push('\n');
        }
        self.socket.send(self.frame.as_bytes(), patience)
    }
}

/// `<PRI>1 TIME HOST rex PID EVENT [rex@32473 …] JSON` (RFC 5424 §6). 32473 is the number that RFC 5612 keeps for documentation. The message is
/// ASCII, so it has no byte order mark. Daemons that expect the older RFC 3164 here (journald, rsyslog's special parser) read the
/// priority and show everything after it as the message.
fn rfc5424(out: &mut String, frame: &Frame<'_>, facility: u8) {
    out.clear();
    let (event, common) = (frame.event, frame.common);
    let _ = write!(out, "<{}>1 {} ", facility * 8 + event.severity(), frame.time);
    let host = out.len();
    out.extend(common.host.chars().filter(char::is_ascii_graphic).take(255));
    if out.len() == host {
        out.push('-');
    }
    let _ = write!(out, " rex {} {} [rex@32473", common.pid, event.name());
    let seq = frame.seq.map(|seq| seq.to_string());
    for (name, value) in [
        ("run", Some(common.run.as_str())),
        ("seq", seq.as_deref()),
        ("principal", Some(&common.principal)),
        ("decision", event.decision()),
    ] {
        if let Some(value) = value {
            let _ = write!(out, " {name}=\"");
            param_value(out, value);
            out.push('"');
        }
    }
    out.push_str("] ");
    out.push_str(frame.json);
}

/// RFC 5424 §6.3.3: `"`, `\` and `]` are escaped; here all that is not printable ASCII is shown by number.
fn param_value(out: &mut String, value: &str) {
    for c in value.chars().take(128) {
        match c {
            '"' | '\\' | ']' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => drop(write!(out, "<U+{:04X}>", u32::from(c))),
        }
    }
}

/// journald's own socket: records with fields (systemd's "Native Journal Protocol").
pub struct Journald {
    name: String,
    socket: Socket,
    facility: u8,
    frame: Vec<u8>,
}

impl Journald {
    pub fn connect(path: &Path, facility: Facility) -> Result<Self> {
        let name = format!("journald {}", path.display());
        let socket = Socket::connect(path, SocketType::DGRAM).map_err(|errno| unreachable(&name, errno))?;
        Ok(Self { name, socket, facility: facility as u8, frame: Vec::with_capacity(8192) })
    }
}

impl Sink for Journald {
    fn name(&self) -> &str {
        &self.name
    }
    fn is_log(&self) -> bool {
        true
    }
    fn write(&mut self, frame: &Frame<'_>, patience: Duration) -> Result<()> {
        let out = &mut self.frame;
        out.clear();
        let (event, common) = (frame.event, frame.common);
        entry(out, "MESSAGE", &sentence(frame));
        entry(out, "PRIORITY", &event.severity().to_string());
        entry(out, "SYSLOG_FACILITY", &self.facility.to_string());
        entry(out, "SYSLOG_IDENTIFIER", "rex");
        entry(out, "SYSLOG_PID", &common.pid.to_string());
        native(out, frame);
        entry(out, "REX_RECORD", frame.json);
        self.socket.send(&self.frame, patience)
    }
}

/// The fields of a record under names of their own, for `journalctl REX_…=`: those that entries are looked for by. All the others are in REX_RECORD.
fn native(out: &mut Vec<u8>, frame: &Frame<'_>) {
    let (event, common, info) = (frame.event, frame.common, frame.info);
    let mut text = |name: &str, value: &str| {
        if !value.is_empty() {
            entry(out, name, cut(value));
        }
    };
    text("REX_RUN", &common.run);
    text("REX_EVENT", event.name());
    text("REX_PRINCIPAL", &common.principal);
    text("REX_UID", &info.uid.to_string());
    text("REX_EVIDENCE", &info.evidence);
    text("REX_CLIENT", info.client.as_deref().unwrap_or(""));
    text("REX_SCRIPT", common.script.as_deref().unwrap_or(""));
    text("REX_POLICY", common.policy.as_deref().unwrap_or(""));
    if let Some(seq) = frame.seq {
        text("REX_SEQ", &seq.to_string());
    }
    if let Some((action, resource)) = event.subject() {
        text("REX_ACTION", action);
        text("REX_RESOURCE", resource);
    }
    text("REX_DECISION", event.decision().unwrap_or(""));
    match event {
        Event::RunStart(it) => {
            text("REX_MODE", it.mode);
            text("REX_RUNBOOK", it.runbook.unwrap_or(""));
            info.groups.iter().take(64).for_each(|group| text("REX_GROUP", group));
            for (name, field) in
                [("REX_AGENT", "agent"), ("REX_ON_BEHALF_OF", "on_behalf_of"), ("REX_VIA", "via"), ("REX_KEY", "key_fingerprint")]
            {
                text(name, info.facts.get(field).and_then(serde_json::Value::as_str).unwrap_or(""));
            }
        }
        Event::Decision(it) => {
            text("REX_WHY", it.why.map_or("", |why| why.name()));
            text("REX_REF", it.reference.unwrap_or(""));
            text("REX_FUNCTION", it.function);
            it.policies.iter().take(64).for_each(|policy| text("REX_RULE", policy));
        }
        Event::Effect(it) => {
            text("REX_RESULT", it.failed.map_or("ok", crate::error::Kind::name));
            text("REX_BYTES", &it.bytes.to_string());
        }
        Event::RunEnd(it) => {
            text("REX_EXIT", &it.exit.to_string());
            text("REX_CLASS", it.class);
            text("REX_DURATION_US", &it.duration_us.to_string());
        }
        Event::RunLost(it) => text("REX_FOUND_BY", it.found_by),
        Event::Refused(it) => text("REX_KIND", it.kind.name()),
        Event::Anchor(it) => {
            text("REX_N", &it.n.to_string());
            text("REX_LINK", it.link);
        }
        Event::PolicyChange(it) => text("REX_TO", it.to),
        Event::WalkSummary(_) | Event::Script(_) | Event::Note(_) => {}
    }
}

/// One field. The form with a length is used for every value, so no byte of a value can begin another field.
fn entry(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

fn cut(text: &str) -> &str {
    text.char_indices().nth(512).map_or(text, |(at, _)| text.get(..at).unwrap_or(text))
}

/// A record in one line for people.
fn sentence(frame: &Frame<'_>) -> String {
    let who = visible(cut(&frame.common.principal));
    let event = frame.event;
    let subject =
        event.subject().map(|(action, resource)| format!(" {} {}", visible(cut(action)), visible(cut(resource)))).unwrap_or_default();
    let more = match event {
        Event::Decision(it) => it.why.map(|why| format!(" ({})", why.name())).unwrap_or_default(),
        Event::RunEnd(it) => format!(" exit {}, {} denied", it.exit, it.denials),
        Event::Refused(it) => format!(" {}: {}", visible(it.what), visible(cut(it.message))),
        Event::Anchor(it) => format!(" record {} of {} has link {}", it.n, visible(cut(it.file)), it.link),
        Event::Script(it) => format!(" part {} of {}", it.part, it.parts),
        _ => String::new(),
    };
    let what = match event {
        Event::Decision(_) => event.decision().unwrap_or(""),
        _ => event.name(),
    };
    format!("{who}: {what}{subject}{more}")
}

/// Whether the syslog socket is journald's, which stands beside its native one: then a record to both would be there twice.
pub fn is_journald(syslog: &Path, journald: &Path) -> bool {
    let same = |a: &Path, b: &Path| match (rustix::fs::stat(a), rustix::fs::stat(b)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    };
    same(syslog, &journald.with_file_name("dev-log"))
}
