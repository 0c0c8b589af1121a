//! What is remembered: every run, every decision and every change, to every configured sink, before the act.
#![forbid(unsafe_code)]

mod file;
mod record;
mod show;
mod syslog;
mod verify;

pub use record::{Decision, Effect, Event, PolicyChange, Refused, RunEnd, WalkSummary, visible};
pub use show::{Filter, Summary, each_record, reader, show};
pub use verify::{Verdict, verify};

use crate::config::{AuditSettings, OnFailure, Switch};
use crate::error::{Error, Kind, Result};
use record::{Common, Frame};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest wait for a sink that is full, for one record.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who runs what: the part of a record that stays the same. There is no field for the values of arguments.
#[derive(Clone, Debug, Default)]
pub struct RunInfo {
    /// The id of the run.
    pub run: String,
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
}

struct State {
    sinks: Vec<Box<dyn Sink>>,
    common: Common,
    info: RunInfo,
    script: Option<String>,
    policy: Option<String>,
    seq: u64,
    lost: u64,
    chain: Option<String>,
    json: String,
    clock: record::Clock,
    /// Zero after a failure, so that a dead sink costs its wait once.
    patience: Duration,
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
            match file::JsonLines::open(Path::new(&settings.file)) {
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
            failed => Ok(Self::with(sinks, on_failure, settings.chain, info, u64::from(failed.is_some()))),
        }
    }

    /// For the host's owner at a local command line: the host's log where there is one, and no failure stops anything.
    #[must_use]
    pub fn best_effort(info: RunInfo) -> Self {
        let nothing = Self::with(Vec::new(), OnFailure::Allow, false, info.clone(), 0);
        Self::open(&AuditSettings::default(), OnFailure::Allow, info).unwrap_or(nothing)
    }

    fn with(sinks: Vec<Box<dyn Sink>>, on_failure: OnFailure, chain: bool, info: RunInfo, lost: u64) -> Self {
        let common = Common::new(&info);
        let chain = chain.then(String::new);
        let state = State {
            sinks,
            common,
            info,
            script: None,
            policy: None,
            seq: 0,
            lost,
            chain,
            json: String::with_capacity(4096),
            clock: record::Clock::default(),
            patience: PATIENCE,
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
        state.script = Some(sha256.to_string());
        state.common.rest(&state.info, state.script.as_deref(), state.policy.as_deref());
    }

    /// The digest of the policies (hex), in every record from now on.
    pub fn set_policy(&self, digest: &str) {
        let state = &mut *self.state();
        state.policy = Some(digest.to_string());
        state.common.rest(&state.info, state.script.as_deref(), state.policy.as_deref());
    }

    /// Records one event with every sink, in order; each gets its try, however the others fare.
    ///
    /// # Errors
    /// [`Kind::Audit`] when a sink did not accept the record within two seconds, unless failures are allowed. The act must not happen.
    pub fn record(&self, event: &Event<'_>) -> Result<()> {
        let state = &mut *self.state();
        if state.sinks.is_empty() {
            state.seq += 1;
            return Ok(());
        }
        let time = state.clock.now();
        let frame = record::render(&mut state.json, &state.common, &state.info, event, time, state.seq, state.lost);
        state.seq += 1;
        if let Some(previous) = &mut state.chain {
            *previous = link(previous, &state.json);
            // The closing brace comes after the link.
            state.json.push_str(",\"chain\":\"");
            state.json.push_str(previous);
            state.json.push('"');
        }
        state.json.push('}');
        let frame = Frame { json: &state.json, common: &state.common, ..frame };
        let mut failed = None;
        for sink in &mut state.sinks {
            if let Err(error) = sink.write(&frame, state.patience) {
                failed.get_or_insert_with(|| {
                    Error::new(Kind::Audit, format!("{}: the record was not accepted: {}", sink.name(), error.message))
                });
            }
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
