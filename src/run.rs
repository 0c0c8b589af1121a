//! One run on one page: what is asked → who asks → on what terms → what is allowed → the script → what comes back.

pub mod entry;

use crate::audit::{Audit, Event, PolicyChange, Refused, RunEnd, RunInfo, RunStart};
use crate::config::Config;
use crate::engine::{Library, Outcome, Runner};
use crate::error::{Error, Kind, Result};
use crate::functions::convert;
use crate::functions::function::Host;
use crate::functions::value::Dynamic;
use crate::identity::Identity;
use crate::invocation::{Argument, Source};
use crate::limits::{Limits, Stop, Watch};
use crate::os::runs::Entry;
use crate::output::{Form, Output};
use crate::policy::{Gate, Policies, Session as PolicySession};
use crate::report::{self, Facts, Near};
use crate::sys::beside;
use crate::sys::spent;
use crate::sys::supervise::{Around, Beside, Ended, supervise_with};
use crate::terms::{OwnersFiles, Terms};
use std::sync::Arc;
use std::time::Duration;

/// What to run, and how to answer.
pub struct Job {
    pub script: String,
    /// The owner's script that it is, for `run @name`.
    pub runbook: Option<String>,
    pub constants: Vec<(String, Dynamic)>,
    pub form: Form,
    pub verbose: bool,
    /// Of a learning run, which only the host's owner starts.
    pub learning: Option<crate::policy::Learning>,
}

/// Runs one script to its end: start record, script, report, end record. Gives the exit code.
#[must_use]
pub fn run(terms: Terms, job: Job) -> u8 {
    let watch = Arc::new(Watch::new(terms.limits.clone()));
    run_watched(terms, job, watch)
}

/// The same with a clock that is running already, since reading the script counts too.
#[must_use]
pub fn run_watched(mut terms: Terms, mut job: Job, watch: Arc<Watch>) -> u8 {
    let output = Arc::new(Output::new(job.form, job.verbose, Arc::clone(&watch)));
    let digest = match begin(&terms, &job.script, job.runbook.as_deref(), &watch) {
        Ok(digest) => digest,
        Err(error) => return report::write(&Outcome::failed(error), &job.script, &output, &facts(&terms, None)),
    };
    terms.entry.iter().for_each(Entry::begun);
    let gate = match gate(&terms, &watch, job.runbook.as_deref(), &digest) {
        Ok(gate) => match job.learning.take() {
            Some(learning) => gate.learning(learning),
            None => gate,
        },
        Err(error) => return end(&terms, &Outcome::failed(error), &job.script, &output, &watch, None),
    };
    let broker = terms.broker.take().map(Arc::new);
    let redaction = redaction(&terms);
    let host = Arc::new(Host { gate, watch: Arc::clone(&watch), out: Arc::clone(&output), redaction, broker });
    let script = job.script.clone();
    let (constants, library, inside) = (job.constants, library(&terms), Arc::clone(&host));
    let beside = (terms.mode != "local").then(|| rechecked(&terms, &host));
    let mut near = Near::default();
    let mut look = || near.tell(&spent::all(&watch), None, &output);
    let around = Around { beside, look: &mut look, session: None };
    let ended = supervise_with(&watch, move || Runner::new(inside, library, &script).run(&script, &constants), around);
    if let Some(broker) = &host.broker {
        broker.over();
    }
    beside::over();
    let outcome = match ended {
        Ok(Ended::Finished(outcome)) => outcome,
        Ok(Ended::Abandoned(why)) => Outcome::failed(why.error(&watch.limits)),
        Err(error) => Outcome::failed(error),
    };
    near.tell(&spent::all(&watch), watch.stopping().and_then(Stop::limit), &output);
    let exit = end(&terms, &outcome, &job.script, &output, &watch, Some(&host.gate));
    beside::end();
    exit
}

/// The start record, and the script where scripts are kept; gives the script's digest.
fn begin(terms: &Terms, script: &str, runbook: Option<&str>, watch: &Watch) -> Result<String> {
    let digest = crate::os::digest::hex_sha256(script.as_bytes());
    watch.note_script(script.len() as u64);
    terms.audit.set_script(&digest);
    let script_bytes = u64::try_from(script.len()).unwrap_or(u64::MAX);
    let start = RunStart { layers: &terms.layers, mode: terms.mode, runbook, script_bytes, interactive: false };
    terms.audit.record(&Event::RunStart(start))?;
    terms.audit.keep_script(script)?;
    Ok(digest)
}

/// How often a run that lasts looks whether the policies are still those that it runs under.
const RECHECK: Duration = Duration::from_secs(3);

/// Looks whether the policies in force are still those that a run began with, and principals.toml still means the same caller.
pub struct Recheck {
    files: OwnersFiles,
    config: Config,
    identity: Identity,
    audit: Arc<Audit>,
    known: String,
}

impl Recheck {
    #[must_use]
    pub fn of(terms: &Terms) -> Self {
        Self {
            files: terms.files.clone(),
            config: terms.config.clone(),
            identity: terms.identity.clone(),
            audit: Arc::clone(&terms.audit),
            known: terms.policies.digest.clone(),
        }
    }

    /// The policies that came into force since the last look; that they did is on record then.
    ///
    /// # Errors
    /// When the changed set is not valid or concerns the caller no more, or principals.toml means somebody else: the permission to run has ended, which is
    /// on record then.
    pub fn look(&mut self) -> Result<Option<Arc<Policies>>> {
        let looked = self.changed();
        if let Err(error) = &looked {
            refuse(&self.audit, "policy", error);
        }
        looked
    }

    fn changed(&mut self) -> Result<Option<Arc<Policies>>> {
        if !self.files.principals()?.still_means(&self.identity) {
            return Err(Error::new(Kind::Denied, "principals.toml means somebody else by now"));
        }
        let sources = self.files.policies()?;
        let digest = Policies::digest_of(&sources);
        if digest == self.known {
            return Ok(None);
        }
        let policies = crate::terms::accept(&sources, &self.files, &self.config, &self.identity)?;
        if policies.names().next().is_none() {
            return Err(Error::new(Kind::Denied, "no policy concerns the caller any more"));
        }
        self.audit.record(&Event::PolicyChange(PolicyChange { what: "seen", from: &self.known, to: &digest }))?;
        self.known = digest;
        Ok(Some(policies))
    }
}

/// A run does nothing that the policies in force do not permit, though they changed since it began. It ends when the changed set is not valid or
/// concerns its caller no more, and when principals.toml means somebody else.
fn rechecked(terms: &Terms, host: &Arc<Host>) -> Beside {
    let (mut recheck, host) = (Recheck::of(terms), Arc::clone(host));
    let act = move || {
        let watch = &host.watch;
        while watch.check().is_ok() {
            let narrowed = recheck.look().and_then(|policies| policies.map_or(Ok(()), |policies| host.gate.narrow(policies)));
            if narrowed.is_err() {
                watch.stop(Stop::Revoked);
            }
            let _ = watch.sleep(RECHECK);
        }
    };
    (RECHECK, Box::new(act))
}

/// The end record, then the report.
fn end(terms: &Terms, outcome: &Outcome, script: &str, output: &Output, watch: &Watch, gate: Option<&Gate>) -> u8 {
    let (recorded, facts) = record_end(terms, outcome, watch, gate);
    match recorded {
        // What was done is done and on record; that its end could not be recorded is the result then.
        Err(error) if outcome.failure.is_none() => report::write(&Outcome::failed(error), script, output, &facts),
        _ => report::write(outcome, script, output, &facts),
    }
}

/// The end record, and what there is to tell besides the outcome.
fn record_end(terms: &Terms, outcome: &Outcome, watch: &Watch, gate: Option<&Gate>) -> (Result<()>, Facts) {
    let (allowed, denied) = gate.map_or((0, 0), Gate::counts);
    let record = RunEnd {
        exit: report::exit_code(outcome),
        class: outcome.failure.as_ref().map_or("", |failure| failure.error.kind.class().name()),
        duration_us: u64::try_from(watch.started().elapsed().as_micros()).unwrap_or(u64::MAX),
        decisions: allowed + denied,
        denials: denied,
        bytes_out: watch.output_so_far(),
    };
    let mut facts = facts(terms, gate);
    facts.limits = spent::all(watch);
    facts.metrics = vec![
        ("RexRunDuration", watch.started().elapsed().as_secs_f64() * 1e9, "TIME"),
        ("RexRunMemoryPeak", peak_mebibytes(), "MEGABYTES"),
    ];
    let recorded = terms.audit.record(&Event::RunEnd(record));
    // Of a session the entry under way is the session itself.
    if recorded.is_ok() && !terms.interactive {
        terms.entry.iter().for_each(Entry::ended);
    }
    (recorded, facts)
}

fn peak_mebibytes() -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let bytes = crate::sys::memory::peak() as f64;
    (bytes / 1_048_576.0 * 1000.0).round() / 1000.0
}

fn facts(terms: &Terms, gate: Option<&Gate>) -> Facts {
    Facts {
        run: terms.run.clone(),
        policy: Some(terms.policies.digest.clone()),
        layers: terms.layers.iter().map(|layer| (*layer).to_owned()).collect(),
        denials: gate.map(Gate::denials).unwrap_or_default(),
        denied: gate.map_or(0, |gate| gate.counts().1),
        withheld: gate.filter(|gate| gate.dry_run()).map(Gate::withheld),
        limits: Vec::new(),
        metrics: Vec::new(),
    }
}

/// The gate of this run.
///
/// # Errors
/// As [`Gate::new`].
pub fn gate(terms: &Terms, watch: &Arc<Watch>, runbook: Option<&str>, script_digest: &str) -> Result<Gate> {
    let closed = terms.closed.clone();
    let open = match terms.config.open {
        crate::config::Open::Implied => crate::policy::Open::Implied,
        crate::config::Open::Explicit => crate::policy::Open::Explicit,
    };
    Gate::new(
        Arc::clone(&terms.policies),
        crate::terms::principal(&terms.identity),
        PolicySession { run: terms.run.clone(), attributes: crate::terms::session_attributes(terms, runbook, script_digest) },
        Box::new(crate::terms::Records { audit: Arc::clone(&terms.audit), denials: terms.denials.clone(), run: terms.run.clone() }),
        Arc::clone(watch),
        crate::policy::Rules { open, closed: Arc::new(move |ask, noun, id| closed.reason(ask, noun, id)), dry_run: terms.dry_run },
    )
}

/// What callers see of files whom the policy permits redacted reading only.
#[must_use]
pub fn redaction(terms: &Terms) -> crate::sys::redact::Source {
    let (files, settings) = (terms.files.clone(), terms.config.redaction.clone());
    crate::sys::redact::Source::new(move || files.redaction(&settings))
}

/// The owner's library for `import`.
#[must_use]
pub fn library(terms: &Terms) -> Option<Library> {
    let files = terms.files.clone();
    Some(Library { lookup: Box::new(move |name| files.library(name)) })
}

/// The script of a request whose source is not stdin.
///
/// # Errors
/// [`Kind::Usage`] when there is no such runbook; [`Kind::Config`] when it is not the owner's alone.
pub fn script_of(source: &Source, files: &crate::terms::OwnersFiles) -> Result<Option<String>> {
    match source {
        Source::Stdin => Ok(None),
        Source::Expression(text) => Ok(Some(text.clone())),
        Source::Runbook(name) => files.runbook(name).map(Some),
    }
}

/// Arguments as constants of the script.
///
/// # Errors
/// [`Kind::Arguments`] for a value that no script can hold.
pub fn constants(
    arguments: &[(String, Argument)],
    json: Option<&serde_json::Map<String, serde_json::Value>>,
) -> Result<Vec<(String, Dynamic)>> {
    let typed = |name: &str, value: &serde_json::Value| {
        convert::from_json(value)
            .map(|value| (name.to_owned(), value))
            .map_err(|error| Error::new(Kind::Arguments, format!("`{name}`: {}", error.message)))
    };
    let mut constants = Vec::with_capacity(arguments.len());
    for (name, argument) in arguments {
        constants.push(match argument {
            Argument::Int(int) => (name.clone(), Dynamic::from_int(*int)),
            Argument::Float(float) => (name.clone(), Dynamic::from_float(*float)),
            Argument::Bool(flag) => (name.clone(), Dynamic::from_bool(*flag)),
            Argument::Text(text) => (name.clone(), text.clone().into()),
            Argument::Json(value) => typed(name, value)?,
        });
    }
    for (name, value) in json.into_iter().flatten() {
        constants.push(typed(name, value)?);
    }
    Ok(constants)
}

/// Records that nothing ran.
pub fn refuse(audit: &Audit, what: &str, error: &Error) {
    // A session that is refused stays refused whether or not that can be recorded.
    let _ = audit.record(&Event::Refused(Refused { what, kind: error.kind, message: &error.message }));
}

/// A new id for a run: the time, so that ids sort, and chance.
#[must_use]
pub fn new_id() -> String {
    let mut chance = [0u8; 5];
    let _ = rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty());
    let chance: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("r-{}-{chance}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S"))
}

/// The record's standing part.
#[must_use]
pub fn run_info(run: &str, identity: Option<&Identity>, uid: u32, request: &str) -> RunInfo {
    let mut info = RunInfo { run: run.to_owned(), uid, request: request.to_owned(), ..RunInfo::default() };
    if let Some(identity) = identity {
        info.principal.clone_from(&identity.name);
        info.groups.clone_from(&identity.groups);
        info.evidence = identity.evidence.name().to_owned();
        info.client = identity.facts.client_address.map(|address| address.to_string());
        if let Ok(serde_json::Value::Object(facts)) = serde_json::to_value(&identity.facts) {
            info.facts = facts.into_iter().filter(|(_, value)| !value.is_null()).collect();
        }
    }
    info
}

/// The wall clock that a request asks for: never more than the host's.
#[must_use]
pub fn wall(limits: &Limits, asked: Option<Duration>) -> Duration {
    asked.map_or(limits.wall, |asked| asked.min(limits.wall))
}
