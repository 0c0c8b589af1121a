//! What is remembered: every run, every decision and every change, to every configured sink, before the act.
#![forbid(unsafe_code)]

mod chain;
mod export;
pub mod fields;
mod file;
mod filter;
mod read;
mod record;
mod show;
mod stats;
mod syslog;
mod timeline;
mod verify;

pub use chain::rotated;
pub use filter::{Filter, Sieve, moment};
pub use read::{Record, begins, each_record, find_denial, find_start, is_denial, reader};
pub use record::{Anchor, Decision, Effect, Event, Note, Piece, PolicyChange, Refused, RunEnd, RunLost, RunStart, WalkSummary, visible};
pub use show::{Form, Summary, show, show_line};
pub use stats::Stats;
pub use timeline::{Kept, Told, script, timeline};
pub use verify::{Finding, Known, Verdict, Verifier, anchors, verify};

use crate::config::{AuditSettings, OnFailure, Switch};
use crate::error::{Error, Kind, Result};
use record::{Common, Frame};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest wait for a sink that is full, for one record.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who runs what: the part of a record that stays the same. There is no field for the values of arguments.
#[derive(Clone, Debug, Default)]
pub struct RunInfo {
    /// The id of the run.
    pub run: String,
    /// The id of the session at a prompt that it is an entry of.
    pub session: Option<String>,
    /// The principal's name; empty while it is not known.
    pub principal: String,
    pub groups: Vec<String>,
    /// The kind of evidence that decided, in the words of rex.toml.
    pub evidence: String,
    /// What else is known of the caller: key fingerprint, certificate, agent ….
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// The real Unix user.
    pub uid: u32,
    pub client: Option<String>,
    /// The request as the client sent it. The caller of [`Audit::open`] leaves out values of arguments that are secret.
    pub request: String,
}

/// A place that takes records.
trait Sink: Send {
    /// What it is, for messages and `rex whoami`.
    fn name(&self) -> &str;
    /// Takes one record whole, within `patience`.
    fn write(&mut self, frame: &Frame<'_>, patience: Duration) -> Result<()>;
    /// The path of the file and the place of the record taken last, where records are chained. Such a place takes no anchors: they are about it.
    fn stands_at(&self) -> Option<(&str, &chain::Link)> {
        None
    }
    /// Whether it is a log of its own, which anchors go to.
    fn is_log(&self) -> bool {
        false
    }
}

/// When the next anchor is due.
struct Anchors {
    /// With every record of the file whose number this divides.
    records: u64,
    /// After so long.
    time: Duration,
    last: Instant,
}

struct State {
    sinks: Vec<Box<dyn Sink>>,
    common: Common,
    info: RunInfo,
    seq: u64,
    lost: u64,
    chain: Option<String>,
    json: String,
    clock: record::Clock,
    anchors: Anchors,
    /// Most bytes of a script that are kept.
    keep: usize,
    /// Zero after a failure, so that a dead sink costs its wait once.
    patience: Duration,
    /// The run that the one under way is an entry of: what its next record needs.
    outer: Option<Outer>,
}

/// A run that waits until an entry of it is over.
struct Outer {
    common: Common,
    info: RunInfo,
    seq: u64,
    chain: Option<String>,
}

/// The open sinks of one run. Everything is opened before the run is confined; a record takes clock_gettime(2), sendto(2), write(2) and,
/// when a socket is full, ppoll(2).
pub struct Audit {
    on_failure: OnFailure,
    state: Mutex<State>,
}

impl Audit {
    /// Opens every configured sink.
    ///
    /// # Errors
    /// [`Kind::Audit`] when a configured sink cannot be opened, or none is there at all, unless `on_failure` is `allow`.
    pub fn open(settings: &AuditSettings, on_failure: OnFailure, info: RunInfo) -> Result<Self> {
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        let mut failed = None;
        let journald = Path::new(&settings.journald_socket);
        let syslog = Path::new(&settings.syslog_socket);
        let mut native = false;
        if wanted(settings.journald, journald) {
            match syslog::Journald::connect(journald, settings.facility) {
                Ok(sink) => {
                    native = true;
                    sinks.push(Box::new(sink));
                }
                Err(error) => failed = Some(error),
            }
        }
        if wanted(settings.syslog, syslog) && !(native && syslog::is_journald(syslog, journald)) {
            match syslog::Syslog::connect(syslog, settings.facility) {
                Ok(sink) => sinks.push(Box::new(sink)),
                Err(error) => failed = Some(error),
            }
        }
        if !settings.file.is_empty() {
            match file::JsonLines::open(Path::new(&settings.file), settings.chain) {
                Ok(sink) => sinks.push(Box::new(sink)),
                Err(error) => failed = Some(error),
            }
        }
        if sinks.is_empty() && failed.is_none() {
            failed =
                Some(Error::new(Kind::Audit, "there is no place for audit records: no syslog, no journald, and `audit.file` is empty"));
        }
        match failed {
            Some(error) if on_failure == OnFailure::Deny => Err(error),
            failed => Ok(Self::with(sinks, on_failure, settings, info, u64::from(failed.is_some()))),
        }
    }

    /// For the host's owner at a local command line: the host's log where there is one, and no failure stops anything.
    #[must_use]
    pub fn best_effort(info: RunInfo) -> Self {
        let settings = AuditSettings::default();
        let nothing = Self::with(Vec::new(), OnFailure::Allow, &settings, info.clone(), 0);
        Self::open(&settings, OnFailure::Allow, info).unwrap_or(nothing)
    }

    fn with(sinks: Vec<Box<dyn Sink>>, on_failure: OnFailure, settings: &AuditSettings, info: RunInfo, lost: u64) -> Self {
        let common = Common::new(&info);
        let anchors = Anchors { records: settings.anchor_records, time: settings.anchor_time, last: Instant::now() };
        let state = State {
            sinks,
            common,
            info,
            seq: 0,
            lost,
            chain: settings.chain.then(String::new),
            anchors,
            keep: usize::try_from(settings.keep_scripts).unwrap_or(usize::MAX),
            json: String::with_capacity(4096),
            clock: record::Clock::default(),
            patience: PATIENCE,
            outer: None,
        };
        Self { on_failure, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not end the records; each record is built from nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digest of the script (hex), in every record from now on.
    pub fn set_script(&self, sha256: &str) {
        let state = &mut *self.state();
        state.common.script = Some(sha256.to_string());
        state.common.rest(&state.info);
    }

    /// The digest of the policies (hex), in every record from now on.
    pub fn set_policy(&self, digest: &str) {
        let state = &mut *self.state();
        state.common.policy = Some(digest.to_string());
        state.common.rest(&state.info);
    }

    /// Begins an entry of a session: a run of its own of this id, with a sequence and a chain of its own, until [`Audit::leave`].
    pub fn enter(&self, run: &str, request: &str) {
        let state = &mut *self.state();
        let session = Some(state.info.run.clone());
        let info = RunInfo { run: run.to_owned(), session, request: request.to_owned(), ..state.info.clone() };
        let mut common = Common::new(&info);
        common.policy.clone_from(&state.common.policy);
        common.rest(&info);
        let outer = Outer {
            common: std::mem::replace(&mut state.common, common),
            info: std::mem::replace(&mut state.info, info),
            seq: std::mem::take(&mut state.seq),
            chain: state.chain.as_mut().map(std::mem::take),
        };
        state.outer = Some(outer);
    }

    /// The entry is over: records are of the session again.
    pub fn leave(&self) {
        let state = &mut *self.state();
        if let Some(outer) = state.outer.take() {
            (state.common, state.info, state.seq, state.chain) = (outer.common, outer.info, outer.seq, outer.chain);
        }
    }

    /// Records one event with every sink, in order; each gets its try, however the others fare. Where an anchor is due, the logs get that too.
    ///
    /// # Errors
    /// [`Kind::Audit`] when a sink did not accept the record within two seconds, unless failures are allowed. The act must not happen.
    pub fn record(&self, event: &Event<'_>) -> Result<()> {
        let state = &mut *self.state();
        let (seq, lost) = (state.seq, state.lost);
        state.seq += 1;
        if state.sinks.is_empty() {
            return Ok(());
        }
        let time = state.clock.now();
        let frame = record::render(&mut state.json, &state.common, &state.info, event, time, Some(seq), lost);
        if let Some(previous) = &mut state.chain {
            *previous = link(previous, &state.json);
            // The closing brace comes after the link.
            state.json.push_str(",\"chain\":\"");
            state.json.push_str(previous);
            state.json.push('"');
        }
        state.json.push('}');
        let frame = Frame { json: &state.json, ..frame };
        let mut failed = None;
        for sink in &mut state.sinks {
            if let Err(error) = sink.write(&frame, state.patience) {
                failed.get_or_insert_with(|| unaccepted(&**sink, &error));
            }
        }
        if failed.is_none() {
            failed = state.anchor(event).err();
        }
        state.patience = if failed.is_some() { Duration::ZERO } else { PATIENCE };
        match failed {
            None => Ok(()),
            Some(error) => {
                state.lost += 1;
                if self.on_failure == OnFailure::Allow { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Keeps the script, in pieces, as far as rex.toml wants it kept.
    ///
    /// # Errors
    /// As [`Audit::record`].
    pub fn keep_script(&self, script: &str) -> Result<()> {
        let most = self.state().keep;
        let whole = (0..=most.min(script.len())).rev().find(|at| script.is_char_boundary(*at));
        let kept = whole.and_then(|at| script.get(..at)).unwrap_or("");
        let mut pieces = Vec::new();
        let mut rest = kept;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(record::piece(rest).len());
            pieces.push(piece);
            rest = more;
        }
        let parts = pieces.len() as u64;
        for (part, text) in (1..).zip(pieces) {
            let left_out = if part == parts { (script.len() - kept.len()) as u64 } else { 0 };
            self.record(&Event::Script(Piece { part, parts, text, left_out }))?;
        }
        Ok(())
    }

    /// The sinks that are open, e.g. `syslog /dev/log`.
    #[must_use]
    pub fn sinks(&self) -> Vec<String> {
        self.state().sinks.iter().map(|sink| sink.name().to_string()).collect()
    }

    /// How many records some sink did not accept.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.state().lost
    }
}

impl State {
    /// Tells the logs where the chain of the file stands, if that is due.
    fn anchor(&mut self, event: &Event<'_>) -> Result<()> {
        let Some((file, at)) = self.sinks.iter().find_map(|sink| sink.stands_at()) else { return Ok(()) };
        let reason = if matches!(event, Event::RunEnd(_) | Event::Refused(_) | Event::PolicyChange(_)) {
            "end"
        } else if at.n.is_multiple_of(self.anchors.records) {
            "count"
        } else if self.anchors.last.elapsed() >= self.anchors.time {
            "time"
        } else {
            return Ok(());
        };
        self.anchors.last = Instant::now();
        let (file, at) = (file.to_owned(), at.clone());
        let event = Event::Anchor(Anchor { file: &file, n: at.n, link: &at.digest, reason });
        let time = self.clock.now();
        let frame = record::render(&mut self.json, &self.common, &self.info, &event, time, None, 0);
        self.json.push('}');
        let frame = Frame { json: &self.json, ..frame };
        let mut done = Ok(());
        for sink in self.sinks.iter_mut().filter(|sink| sink.is_log()) {
            if let Err(error) = sink.write(&frame, self.patience) {
                done = done.and(Err(unaccepted(&**sink, &error)));
            }
        }
        done
    }
}

fn unaccepted(sink: &dyn Sink, error: &Error) -> Error {
    Error::new(Kind::Audit, format!("{}: the record was not accepted: {}", sink.name(), error.message))
}

fn wanted(switch: Switch, socket: &Path) -> bool {
    match switch {
        Switch::On => true,
        Switch::Off => false,
        // Whatever is at that path counts: a socket that nobody serves, or that is out of reach, is a failure, not a reason to keep no records.
        Switch::Auto => !matches!(rustix::fs::stat(socket), Err(Errno::NOENT | Errno::NOTDIR)),
    }
}

/// The next link of a chain: a digest over the last link and the record up to its own link.
fn link(previous: &str, record: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::new().chain_update(previous).chain_update(record).finalize();
    let nibble = |n: u8| char::from(HEX.get(usize::from(n & 15)).copied().unwrap_or(b'0'));
    digest.iter().flat_map(|byte| [nibble(byte >> 4), nibble(*byte)]).collect()
}

#[cfg(test)]
mod tests;
