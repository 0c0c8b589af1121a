//! systemd over D-Bus: what units are, their state, and jobs on them. No program is run for it (org.freedesktop.systemd1(5)).

mod bus;
mod files;
mod power;
mod survey;
mod unit;

pub use bus::prepare;
pub use files::{Change, FileJob, FilesDone};
pub use power::{By, Inhibitor, Possible, Power};
pub use survey::{Boot, DEPENDENCIES, PULLS, Socket, Timer, Took};
pub use unit::{Running, Status};

use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::service::{Manager, Service, kind};
use bus::Bus;
use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, Instant};
// How zbus names its streams to the code that its own macros make; there is no other way to them without a dependency more.
use zbus::export::futures_core::Stream;

const MANAGER: (&str, &str) = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// How long a unit has to stay active to count as started, where the caller wants to know.
const STEADY: Duration = Duration::from_secs(1);
/// How often its state is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// A job on a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Start,
    Stop,
    Restart,
    /// Restarts it only if it runs.
    TryRestart,
    Reload,
    /// Reloads it, or restarts it if it cannot reload.
    ReloadOrRestart,
}

impl Job {
    const fn method(self) -> &'static str {
        match self {
            Self::Start => "StartUnit",
            Self::Stop => "StopUnit",
            Self::Restart => "RestartUnit",
            Self::TryRestart => "TryRestartUnit",
            Self::Reload => "ReloadUnit",
            Self::ReloadOrRestart => "ReloadOrRestartUnit",
        }
    }
}

/// What a job came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Whether the unit is another than before: another run of it, or another state.
    pub changed: bool,
    /// done, failed, canceled, timeout, dependency, skipped … (JobRemoved of org.freedesktop.systemd1(5)).
    pub result: String,
    pub before: Status,
    pub after: Status,
}

/// A row of the list of units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    pub description: String,
    pub load_state: String,
    pub active_state: String,
    pub sub_state: String,
    /// The kind of a job that is under way; empty without one.
    pub job: String,
}

/// A job's `JobRemoved` signal: its number, object, unit and result.
type Removed = (u32, zbus::OwnedObjectPath, String, String);
/// A row of `ListUnitsByPatterns`.
type Listed = (String, String, String, String, String, String, zbus::OwnedObjectPath, u32, String, zbus::OwnedObjectPath);

/// The service manager of the host.
pub struct Systemd<'a> {
    bus: Bus<'a>,
}

impl<'a> Systemd<'a> {
    /// `check` is asked while waiting; when it fails, so does the call.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where there is no systemd or no system bus, [`Kind::Permission`] where the bus may not be used.
    pub fn connect(check: &'a dyn Fn() -> Result<()>) -> Result<Self> {
        Ok(Self { bus: Bus::connect(check)? })
    }

    /// The unit that a full name means, following aliases; what it is the policy is asked about. Changes nothing but that systemd may load its unit file.
    ///
    /// # Errors
    /// Those of the bus. That there is no such unit comes out after the policy has been asked.
    pub fn locate(&self, name: &str) -> Result<Service> {
        let path: zbus::OwnedObjectPath = self.bus.call(MANAGER.0, MANAGER.1, "LoadUnit", &name)?;
        let path = path.as_str().to_owned();
        let unit = self.bus.properties(&path, UNIT)?;
        if unit.text("LoadState") == "not-found" {
            return Ok(Service::absent(name.to_owned(), no_such_unit()));
        }
        let id = Some(unit.text("Id")).filter(|id| !id.is_empty()).ok_or_else(no_such_unit)?;
        Ok(Service::found(name.to_owned(), id, path))
    }

    /// # Errors
    /// Those of the bus.
    pub fn status<A: Action<On = Service>>(&self, unit: &Granted<A>) -> Result<Status> {
        self.look(unit.resource())
    }

    /// The files that its unit takes variables from, as its properties name them.
    ///
    /// # Errors
    /// Those of the bus.
    pub fn environment_files<A: Action<On = Service>>(&self, unit: &Granted<A>) -> Result<Vec<String>> {
        let unit = unit.resource();
        let Some(interface) = unit::interface_of(kind(unit.name())) else { return Ok(Vec::new()) };
        Ok(self.bus.properties(unit.path(), &interface)?.first_texts("EnvironmentFiles"))
    }

    fn look(&self, unit: &Service) -> Result<Status> {
        let every = self.bus.properties(unit.path(), UNIT)?;
        let own = match unit::interface_of(kind(unit.name())) {
            Some(interface) => Some(self.bus.properties(unit.path(), &interface)?),
            None => None,
        };
        Ok(Status::of(&every, own.as_ref()))
    }

    /// The loaded units in one of these states (load, active or sub state; all when empty) whose names match one of these patterns (fnmatch(3); all
    /// when empty).
    ///
    /// # Errors
    /// Those of the bus.
    pub fn list<A: Action<On = Manager>>(&self, _: &Granted<A>, states: &[String], patterns: &[String]) -> Result<Vec<Row>> {
        let rows: Vec<Listed> = self.bus.call(MANAGER.0, MANAGER.1, "ListUnitsByPatterns", &(states, patterns))?;
        let mut rows: Vec<Row> = rows
            .into_iter()
            .map(|(id, description, load_state, active_state, sub_state, _, _, _, job, _)| Row {
                id,
                description,
                load_state,
                active_state,
                sub_state,
                job,
            })
            .collect();
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(rows)
    }

    /// Does a job and waits for its end.
    ///
    /// # Errors
    /// [`Kind::JobFailed`] when it does not succeed, [`Kind::Timeout`] when it takes longer (it goes on then), [`Kind::NotFound`] when there is no such
    /// unit, [`Kind::Permission`] when systemd or polkit refuses it, and why the run has to stop.
    pub fn job<A: Action<On = Service>>(&self, unit: &Granted<A>, job: Job, timeout: Duration) -> Result<Done> {
        unit.to_be_done()?;
        let unit = unit.resource();
        let before = self.look(unit)?;
        let result = self.bus.wait(timeout, self.run_job(unit, job)).map_err(|error| match error.kind {
            Kind::Timeout => Error::new(Kind::Timeout, format!("the job was not done within {:.1} s; it goes on", timeout.as_secs_f64())),
            _ => error,
        })?;
        let after = self.look(unit)?;
        if !matches!(result.as_str(), "done" | "skipped") {
            return Err(job_failed(&result, &after));
        }
        let changed = match job {
            Job::Reload => true,
            Job::ReloadOrRestart => result == "done",
            _ => before.invocation != after.invocation || is_up(&before) != is_up(&after),
        };
        Ok(Done { changed, result, before, after })
    }

    async fn run_job(&self, unit: &Service, job: Job) -> Result<String> {
        let connection = self.bus.connection;
        // systemd tells of jobs only those who subscribed; and the ear has to be open before the job exists, or its end could be missed.
        let rule = zbus::MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender("org.freedesktop.systemd1")
            .path(MANAGER.0)
            .interface(MANAGER.1)
            .member("JobRemoved")
            .build()
            .map_err(|error| bus::failure(&error))?;
        let signals = zbus::MessageStream::for_match_rule(rule, connection, None).await.map_err(|error| bus::failure(&error))?;
        let mut signals = pin!(signals);
        bus::subscribe(connection, MANAGER.0, MANAGER.1).await?;
        let path: zbus::OwnedObjectPath = bus::call(connection, MANAGER.0, MANAGER.1, job.method(), &(unit.name(), "replace")).await?;
        while let Some(signal) = poll_fn(|context| signals.as_mut().poll_next(context)).await {
            let signal = signal.map_err(|error| bus::failure(&error))?;
            let Ok((_, which, _, result)) = signal.body().deserialize::<Removed>() else { continue };
            if which == path {
                return Ok(result);
            }
        }
        Err(Error::new(Kind::Unavailable, "the connection to the system bus broke while a job was under way"))
    }

    /// Waits until the unit is active and has stayed so for a second, so that a service which dies at once is not taken for started.
    ///
    /// # Errors
    /// [`Kind::JobFailed`] when it is not active any more, [`Kind::Timeout`].
    pub fn wait_active<A: Action<On = Service>>(&self, unit: &Granted<A>, timeout: Duration) -> Result<Status> {
        let end = Instant::now() + timeout;
        let mut steady: Option<(Instant, String)> = None;
        loop {
            let status = self.look(unit.resource())?;
            match status.active_state.as_str() {
                "active" | "reloading" | "refreshing" => match &steady {
                    Some((since, run)) if *run == status.invocation => {
                        if since.elapsed() >= STEADY {
                            return Ok(status);
                        }
                    }
                    _ => steady = Some((Instant::now(), status.invocation.clone())),
                },
                "activating" => steady = None,
                _ => return Err(job_failed("failed", &status)),
            }
            if Instant::now() >= end {
                return Err(Error::new(Kind::Timeout, format!("the unit was not steadily active within {:.1} s", timeout.as_secs_f64())));
            }
            self.bus.wait(STEADY, async {
                tokio::time::sleep(LOOK).await;
                Ok(())
            })?;
        }
    }

    /// Forgets that the unit failed, and how often it was restarted. Gives whether it had failed.
    ///
    /// # Errors
    /// Those of the bus.
    pub fn reset_failed<A: Action<On = Service>>(&self, unit: &Granted<A>) -> Result<bool> {
        unit.to_be_done()?;
        let unit = unit.resource();
        let before = self.look(unit)?;
        self.bus.call::<_, ()>(MANAGER.0, MANAGER.1, "ResetFailedUnit", &unit.name())?;
        Ok(before.active_state == "failed")
    }

    /// Has systemd read all unit files again.
    ///
    /// # Errors
    /// Those of the bus; [`Kind::Timeout`] when it takes longer than `timeout`.
    pub fn daemon_reload<A: Action<On = Manager>>(&self, manager: &Granted<A>, timeout: Duration) -> Result<()> {
        manager.to_be_done()?;
        self.bus.wait(timeout, bus::call(self.bus.connection, MANAGER.0, MANAGER.1, "Reload", &()))
    }
}

fn no_such_unit() -> Error {
    Error::new(Kind::NotFound, "there is no such unit")
}

fn is_up(status: &Status) -> bool {
    matches!(status.active_state.as_str(), "active" | "reloading" | "refreshing" | "activating")
}

/// Why a job did not succeed, in words; the data of it is in the unit's status.
fn job_failed(result: &str, after: &Status) -> Error {
    let running = &after.running;
    let text = match result {
        "timeout" => "the job timed out in the service manager".to_owned(),
        "canceled" => "the job was cancelled by another".to_owned(),
        "dependency" => "a unit that it depends on failed".to_owned(),
        "invalid" => "the unit is in no state in which that can be done".to_owned(),
        "assert" => "an assertion of its unit file does not hold".to_owned(),
        _ => match (running.result.as_str(), running.exit_code, running.exit_status) {
            ("exit-code", "exited", Some(status)) => format!("its process ended with status {status}"),
            (_, "killed" | "dumped", Some(signal)) => format!("its process was ended by signal {signal}"),
            ("timeout", ..) => "it did not come up in time".to_owned(),
            _ => "the job failed".to_owned(),
        },
    };
    Error::new(Kind::JobFailed, format!("{text}; the unit is {} ({})", plain(&after.active_state), plain(&after.sub_state)))
}

/// A state's name, which systemd chooses from a fixed list; anything else is not repeated.
fn plain(state: &str) -> &str {
    if !state.is_empty() && state.len() < 40 && state.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
        state
    } else {
        "unknown"
    }
}
