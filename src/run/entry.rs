//! A session at a prompt, as runs: each entry is a run of its own, with records, limits and a gate of its own, on what the entries before it have defined.
//!
//! An entry runs on a thread of its own, which takes what is defined and gives it back. One that does not end although it was told to keeps it: then the
//! session is over, as a run is whose script does not end.

use super::{RECHECK, Recheck, begin, end, gate, library, record_end, redaction};
use crate::audit::{Event, RunEnd, RunStart};
use crate::engine::{Kept, Outcome, Runner};
use crate::error::{Kind, Result};
use crate::functions::complete;
use crate::functions::function::Host;
use crate::functions::value::Dynamic;
use crate::limits::{Amount, Limits, Spent, Stop, Watch};
use crate::os::runs::Entry as UnderWay;
use crate::os::terminal::make_room;
use crate::output::{Form, Output};
use crate::policy::Policies;
use crate::report::Near;
use crate::sys::broker::Broker;
use crate::sys::supervise::{Around, Beside, Ended, Signals, supervise_with};
use crate::sys::{beside, memory, spent};
use crate::terms::Terms;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

/// How often it is looked at the prompt whether the policies are still the same; before each entry it is looked in any case.
const RECHECK_AT_REST: Duration = Duration::from_secs(15);
/// How long a folder may take to be listed for completion.
const COMPLETION: Duration = Duration::from_secs(1);

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// Who sat there left, with this exit code.
    Left(u8),
    /// Nothing was typed for so long.
    Idle(Duration),
    /// It lasted as long as it may.
    Total(Duration),
    /// The terminal is gone.
    Gone,
    Signal,
    /// Policy or principals.toml changed, or the certificate expired.
    Revoked,
    /// A limit that holds for the whole session.
    Limit(&'static str),
    /// An entry did not end.
    Stuck,
}

impl Over {
    /// What is said of it, if anything is.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let minutes = |time: &Duration| match time.as_secs() {
            seconds if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
            seconds if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
            seconds => format!("{seconds} s"),
        };
        Some(match self {
            Self::Left(_) | Self::Gone => return None,
            Self::Idle(time) => format!("the session is over: nothing was typed for {}", minutes(time)),
            Self::Total(time) => format!("the session is over: it may last {}", minutes(time)),
            Self::Signal => "the session is over: it was ended by a signal".to_owned(),
            Self::Revoked => "the session is over: the permission to run has ended".to_owned(),
            Self::Limit(what) => format!("the session is over: its limit of {what} was reached"),
            Self::Stuck => "the session is over: the last entry could not be stopped, and what was defined is lost with it".to_owned(),
        })
    }

    /// Its exit code, and the class of error for the record.
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Left(_) => None,
            Self::Idle(_) | Self::Total(_) => Some(Kind::Deadline),
            Self::Gone | Self::Signal | Self::Revoked => Some(Kind::Cancelled),
            Self::Limit(_) | Self::Stuck => Some(Kind::Limit),
        }
    }

    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Self::Left(code) => *code,
            other => other.kind().map_or(0, |kind| kind.exit() as u8),
        }
    }
}

/// What is to be run.
pub struct Entry<'a> {
    pub script: &'a str,
    /// The owner's script that it is; it runs beside what is defined, not on it.
    pub runbook: Option<&'a str>,
    pub constants: Vec<(String, Dynamic)>,
    /// What was typed, for the record, where that is not the script.
    pub request: &'a str,
}

/// A session under way.
pub struct Session {
    pub terms: Terms,
    watch: Arc<Watch>,
    kept: Kept,
    broker: Option<Arc<Broker>>,
    /// Of entries: open files hold on to them, and other policies concern those too.
    hosts: Vec<Weak<Host>>,
    in_force: Arc<Mutex<InForce>>,
    signals: Signals,
    began: Instant,
    looked: Instant,
    coloured: bool,
    /// Decisions, denials, bytes of output so far.
    totals: (u64, u64, u64),
    completes: bool,
}

/// The policies of the session as they are looked at again.
struct InForce {
    /// Nothing for the host's owner, who tries policies that nobody else is held to.
    recheck: Option<Recheck>,
    /// Those that hold beside the session's own.
    narrower: Option<Arc<Policies>>,
}

impl InForce {
    /// Whether others came into force.
    fn look(&mut self) -> Result<bool> {
        let Some(recheck) = &mut self.recheck else { return Ok(false) };
        let policies = recheck.look()?;
        let others = policies.is_some();
        if others {
            self.narrower = policies;
        }
        Ok(others)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Begins a session: its start is on record. `terms.run` is the id of the session. The fence is up.
    ///
    /// # Errors
    /// When the record is not accepted.
    pub fn begin(mut terms: Terms, signals: Signals, coloured: bool) -> Result<Self> {
        let start = RunStart { layers: &terms.layers, mode: terms.mode, runbook: None, script_bytes: 0, interactive: true };
        terms.audit.record(&Event::RunStart(start))?;
        terms.entry.iter().for_each(UnderWay::begun);
        let expires = terms.identity.expires.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        let watch = Arc::new(Watch::new(terms.limits.clone()).until(expires));
        let broker = terms.broker.take().map(Arc::new);
        let recheck = (terms.mode != "local").then(|| Recheck::of(&terms));
        memory::limit_all(terms.limits.memory);
        Ok(Self {
            terms,
            watch,
            kept: Kept::default(),
            broker,
            hosts: Vec::new(),
            in_force: Arc::new(Mutex::new(InForce { recheck, narrower: None })),
            signals,
            began: Instant::now(),
            looked: Instant::now(),
            coloured,
            totals: (0, 0, 0),
            completes: true,
        })
    }

    /// What entries have defined.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The signals of the session.
    #[must_use]
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    /// How long it lasts so far.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        self.began.elapsed()
    }

    /// What was used of each limit: by the last entry, and where it is kept by the session.
    #[must_use]
    pub fn spent(&self) -> Vec<Spent> {
        spent::all(&self.watch)
    }

    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.watch.limits
    }

    /// The policies that hold now, where they are not those of the beginning any more.
    #[must_use]
    pub fn narrower(&self) -> Option<Arc<Policies>> {
        locked(&self.in_force).narrower.clone()
    }

    /// Asked now and then while nothing runs: whether the session is over.
    pub fn rest(&mut self, idle: Duration) -> Option<Over> {
        let settings = &self.terms.config.interactive;
        while let Some(signal) = self.signals.next() {
            if matches!(signal, libc::SIGTERM | libc::SIGHUP) {
                return Some(if crate::os::script::caller_is_gone() { Over::Gone } else { Over::Signal });
            }
        }
        if crate::os::script::caller_is_gone() {
            return Some(Over::Gone);
        }
        if self.watch.expired() {
            return Some(Over::Revoked);
        }
        if self.began.elapsed() >= settings.total {
            return Some(Over::Total(settings.total));
        }
        if idle >= settings.idle {
            return Some(Over::Idle(settings.idle));
        }
        // What is typed is in memory too, and takes processor time to show.
        if memory::used().0 > self.watch.limits.memory {
            return Some(Over::Limit("memory"));
        }
        if self.watch.cpu_of(spent::cpu()) > self.watch.limits.cpu {
            return Some(Over::Limit("processor time"));
        }
        if self.looked.elapsed() >= RECHECK_AT_REST {
            return self.recheck().err();
        }
        None
    }

    /// Looks whether other policies are in force; then they hold for what is open, too.
    fn recheck(&mut self) -> std::result::Result<bool, Over> {
        self.looked = Instant::now();
        self.hosts.retain(|host| host.strong_count() > 0);
        let mut in_force = locked(&self.in_force);
        let others = in_force.look().map_err(|_| Over::Revoked)?;
        if others {
            narrow(&self.hosts, in_force.narrower.as_ref()).map_err(|_| Over::Revoked)?;
        }
        Ok(others)
    }

    /// Runs an entry to its end, says what came of it, and whether the session is over with it.
    pub fn run(&mut self, entry: Entry<'_>) -> Option<Over> {
        match self.recheck() {
            Err(over) => return Some(over),
            Ok(true) => crate::output::aside(
                "note: the policies have changed; what they do not permit any more is denied, what they permit now needs a new login",
            ),
            Ok(false) => {}
        }
        self.watch.again(spent::cpu());
        let run = super::new_id();
        self.terms.audit.enter(&run, entry.request);
        let session = std::mem::replace(&mut self.terms.run, run);
        let over = self.run_recorded(entry);
        self.terms.run = session;
        self.terms.audit.leave();
        over
    }

    fn run_recorded(&mut self, entry: Entry<'_>) -> Option<Over> {
        let Entry { script, runbook, constants, .. } = entry;
        let output = Arc::new(Output::new(Form::Human, false, Arc::clone(&self.watch)).coloured(self.coloured));
        let begun = begin(&self.terms, script, runbook, &self.watch).and_then(|digest| self.host(&self.watch, &output, runbook, &digest));
        let host = match begun {
            Ok(host) => host,
            Err(error) => {
                let _ = end(&self.terms, &Outcome::failed(error), script, &output, &self.watch, None);
                return None;
            }
        };
        self.hosts.push(Arc::downgrade(&host));
        let (inside, library, text) = (Arc::clone(&host), library(&self.terms), script.to_owned());
        let kept = std::mem::take(&mut self.kept);
        let alone = runbook.is_some();
        let job = move || {
            if alone {
                return (kept, Runner::new(inside, library, &text).run(&text, &constants));
            }
            Runner::with_everything(inside, library).run_entry(kept, &text)
        };
        let (total, began) = (self.terms.config.interactive.total, self.began);
        let mut near = Near::default();
        let mut look = || {
            make_room();
            if began.elapsed() >= total {
                self.watch.stop(Stop::Session);
            }
            near.tell(&spent::all(&self.watch), None, &output);
        };
        let ended = Arc::new(AtomicBool::new(false));
        let beside = self.rechecked(&ended);
        let around = Around { beside: Some(beside), look: &mut look, session: Some(&self.signals) };
        let result = supervise_with(&self.watch, job, around);
        ended.store(true, Ordering::SeqCst);
        let stopped = self.watch.stopping();
        let (outcome, stuck) = match result {
            Ok(Ended::Finished((kept, outcome))) => {
                self.kept = kept;
                (outcome, false)
            }
            Ok(Ended::Abandoned(why)) => (Outcome::failed(why.error(&self.watch.limits)), true),
            Err(error) => (Outcome::failed(error), true),
        };
        near.tell(&spent::all(&self.watch), stopped.and_then(Stop::limit), &output);
        if stopped == Some(Stop::Interrupt) && !stuck {
            // Who pressed the key needs no report of it.
            let _ = record_end(&self.terms, &outcome, &self.watch, Some(&host.gate));
            crate::output::aside("interrupted");
        } else {
            let _ = end(&self.terms, &outcome, script, &output, &self.watch, Some(&host.gate));
            if stopped.is_none() && self.watch.stopping() == Some(Stop::Output) {
                // The value alone is more than may be shown.
                crate::output::aside(&Stop::Output.error(&self.watch.limits).message);
            }
        }
        let (allowed, denied) = host.gate.counts();
        self.totals.0 += allowed + denied;
        self.totals.1 += denied;
        self.totals.2 += self.watch.output_so_far();
        if stuck {
            return Some(Over::Stuck);
        }
        drop(host);
        self.hold_memory();
        match (stopped, outcome.exit) {
            (Some(Stop::Gone), _) => Some(Over::Gone),
            (Some(Stop::Signal), _) => Some(Over::Signal),
            (Some(Stop::Revoked), _) => Some(Over::Revoked),
            (Some(Stop::Session), _) => Some(Over::Total(total)),
            (Some(Stop::Denials), _) => Some(Over::Limit("denied operations")),
            (_, Some(code)) => Some(Over::Left(code)),
            _ => None,
        }
    }

    /// What is defined may not take more than the memory of the session.
    fn hold_memory(&mut self) {
        if memory::used().0 > self.watch.limits.memory {
            self.kept.forget_values();
            crate::output::aside("note: the variables took more than the memory of the session and were dropped");
        }
    }

    fn host(&self, watch: &Arc<Watch>, output: &Arc<Output>, runbook: Option<&str>, digest: &str) -> Result<Arc<Host>> {
        let gate = gate(&self.terms, watch, runbook, digest)?;
        if let Some(policies) = self.narrower() {
            gate.narrow(policies)?;
        }
        let (watch, out) = (Arc::clone(watch), Arc::clone(output));
        Ok(Arc::new(Host { gate, watch, out, redaction: redaction(&self.terms), broker: self.broker.clone() }))
    }

    /// Looks at the policies again while an entry lasts.
    fn rechecked(&self, ended: &Arc<AtomicBool>) -> Beside {
        let (in_force, hosts, watch, ended) = (Arc::clone(&self.in_force), self.hosts.clone(), Arc::clone(&self.watch), Arc::clone(ended));
        let act = move || {
            while !ended.load(Ordering::SeqCst) && watch.check().is_ok() {
                let mut in_force = locked(&in_force);
                let looked = in_force.look().and_then(|others| if others { narrow(&hosts, in_force.narrower.as_ref()) } else { Ok(()) });
                drop(in_force);
                if looked.is_err() {
                    watch.stop(Stop::Revoked);
                }
                let _ = watch.sleep(RECHECK);
            }
        };
        (RECHECK, Box::new(act))
    }

    /// Names in a folder for completion, judged and recorded as those of `ls`; nothing where they may not be seen.
    pub fn names(&mut self, folder: &str) -> std::result::Result<Vec<complete::Entry>, Over> {
        if !self.completes {
            return Ok(Vec::new());
        }
        let watch = Arc::new(Watch::new(Limits { wall: COMPLETION, ..self.terms.limits.clone() }));
        let output = Arc::new(Output::new(Form::Json, false, Arc::clone(&watch)));
        let Ok(host) = self.host(&watch, &output, None, "") else { return Ok(Vec::new()) };
        let (inside, folder) = (Arc::clone(&host), folder.to_owned());
        let around = Around { beside: None, look: &mut || {}, session: Some(&self.signals) };
        let result = supervise_with(&watch, move || complete::names(&inside, &folder), around);
        let (allowed, denied) = host.gate.counts();
        self.totals.0 += allowed + denied;
        self.totals.1 += denied;
        // Trying folder by folder what is there is trying.
        if (0..denied).any(|_| self.watch.count_denial().is_err()) {
            return Err(Over::Limit("denied operations"));
        }
        match watch.stopping() {
            Some(Stop::Signal) => return Err(Over::Signal),
            Some(Stop::Gone) => return Err(Over::Gone),
            _ => {}
        }
        match result {
            Ok(Ended::Finished(names)) => Ok(names.unwrap_or_default()),
            _ => {
                // A file system hangs. Its thread ends when that does, and no further one is left behind.
                self.completes = false;
                Ok(Vec::new())
            }
        }
    }

    /// Ends the session: nothing of it goes on, and that is on record.
    pub fn end(mut self, over: &Over) -> u8 {
        // Files that are open are closed, with their records.
        self.kept = Kept::default();
        if let Some(broker) = &self.broker {
            broker.over();
        }
        beside::over();
        let record = RunEnd {
            exit: over.exit(),
            class: over.kind().map_or("", |kind| kind.class().name()),
            duration_us: u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            decisions: self.totals.0,
            denials: self.totals.1,
            bytes_out: self.totals.2,
        };
        let mut exit = over.exit();
        match self.terms.audit.record(&Event::RunEnd(record)) {
            Ok(()) => self.terms.entry.iter().for_each(UnderWay::ended),
            Err(error) => exit = error.kind.exit() as u8,
        }
        drop(self.broker);
        beside::end();
        exit
    }
}

fn narrow(hosts: &[Weak<Host>], policies: Option<&Arc<Policies>>) -> Result<()> {
    let Some(policies) = policies else { return Ok(()) };
    hosts.iter().filter_map(Weak::upgrade).try_for_each(|host| host.gate.narrow(Arc::clone(policies)))
}

/// A limit for people: what it is, and what is used of it.
#[must_use]
pub fn shown(spent: &Spent) -> String {
    let amount = |amount: Amount| match (amount, spent.name) {
        (Amount::Seconds(seconds), _) => format!("{seconds:.1} s"),
        (Amount::Count(bytes), "memory" | "output" | "script" | "file_size") if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        (Amount::Count(bytes), "memory" | "output" | "script" | "file_size") if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
        (Amount::Count(count), _) => count.to_string(),
    };
    format!("{:<12} {:>12} of {}", spent.name, amount(spent.most), amount(spent.limit))
}
