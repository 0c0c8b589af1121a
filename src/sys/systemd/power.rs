//! Reboot and shutdown: by logind where there is one, which knows who must not be interrupted (org.freedesktop.login1(5)), else by systemd itself.

use super::{MANAGER, Systemd, bus};
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::service::Manager;
use std::time::Duration;

const LOGIN: (&str, &str, &str) = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager");
/// That inhibitors hold root back too (SD_LOGIND_ROOT_CHECK_INHIBITORS).
const CHECK_INHIBITORS: u64 = 1;

/// What becomes of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    Reboot,
    Off,
}

impl Power {
    const fn method(self) -> &'static str {
        match self {
            Self::Reboot => "Reboot",
            Self::Off => "PowerOff",
        }
    }
    /// As logind schedules it.
    const fn word(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Off => "poweroff",
        }
    }
    const fn target(self) -> &'static str {
        match self {
            Self::Reboot => "reboot.target",
            Self::Off => "poweroff.target",
        }
    }
}

/// Someone who must not be interrupted, or wants to know first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inhibitor {
    pub who: String,
    pub why: String,
    /// block or delay.
    pub mode: String,
    pub uid: u32,
    pub pid: u32,
}

/// Whether it could be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Possible {
    /// yes, no, challenge (after authentication), na.
    pub answer: String,
    pub by: By,
    pub inhibitors: Vec<Inhibitor>,
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Logind,
    Systemd,
}

impl By {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logind => "logind",
            Self::Systemd => "systemd",
        }
    }
}

/// A row of `ListInhibitors`: what, who, why, mode, user, process.
type Row = (String, String, String, String, u32, u32);

/// Whether it is about the end of the machine, and not about sleep or a key.
fn concerns(row: &Row) -> bool {
    row.0.split(':').any(|what| what == "shutdown")
}

impl Systemd<'_> {
    /// Asks whether it could be done, and who stands in the way. Changes nothing.
    ///
    /// # Errors
    /// Those of the bus.
    pub fn can_power<A: Action<On = Manager>>(&self, _: &Granted<A>, power: Power) -> Result<Possible> {
        let answer: String = match self.login(&format!("Can{}", power.method()), &()) {
            Ok(answer) => answer,
            Err(error) if error.kind == Kind::Unsupported => {
                // Who may do it without logind is root.
                let path: Result<zbus::OwnedObjectPath> = self.bus.call(MANAGER.0, MANAGER.1, "LoadUnit", &power.target());
                path?;
                let answer = if rustix::process::geteuid().is_root() { "yes" } else { "no" };
                return Ok(Possible { answer: answer.to_owned(), by: By::Systemd, inhibitors: Vec::new() });
            }
            Err(error) => return Err(error),
        };
        let rows: Vec<Row> = self.login("ListInhibitors", &())?;
        let inhibitor = |(_, who, why, mode, uid, pid)| Inhibitor { who, why, mode, uid, pid };
        Ok(Possible { answer, by: By::Logind, inhibitors: rows.into_iter().filter(concerns).map(inhibitor).collect() })
    }

    /// Does it now, unless somebody blocks it.
    ///
    /// # Errors
    /// [`Kind::Busy`] when somebody blocks it, [`Kind::Permission`], and those of the bus.
    pub fn power<A: Action<On = Manager>>(&self, manager: &Granted<A>, power: Power) -> Result<By> {
        manager.to_be_done()?;
        // logind itself lets a user pass who holds the lock, and an older one lets root pass: a backup that root started would not count.
        let rows = match self.login::<_, Vec<Row>>("ListInhibitors", &()) {
            Err(error) if error.kind == Kind::Unsupported => Vec::new(),
            rows => rows?,
        };
        if rows.iter().any(|row| row.3 == "block" && concerns(row)) {
            return Err(Error::new(Kind::Busy, "somebody blocks it; `check: true` tells who"));
        }
        match self.login::<_, ()>(&format!("{}WithFlags", power.method()), &CHECK_INHIBITORS) {
            Ok(()) => return Ok(By::Logind),
            Err(error) if error.kind == Kind::Unsupported => {}
            Err(error) => return Err(error),
        }
        match self.login::<_, ()>(power.method(), &false) {
            Ok(()) => return Ok(By::Logind),
            Err(error) if error.kind == Kind::Unsupported => {}
            Err(error) => return Err(error),
        }
        let _: zbus::OwnedObjectPath = self.bus.call(MANAGER.0, MANAGER.1, "StartUnit", &(power.target(), "replace-irreversibly"))?;
        Ok(By::Systemd)
    }

    /// Has it done at a moment (microseconds since 1970). Those who are logged in are told then.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] without logind, and those of the bus.
    pub fn schedule<A: Action<On = Manager>>(&self, manager: &Granted<A>, power: Power, at_us: u64) -> Result<()> {
        manager.to_be_done()?;
        self.login("ScheduleShutdown", &(power.word(), at_us))
    }

    /// Takes back what was scheduled; whether anything was.
    ///
    /// # Errors
    /// As [`Systemd::schedule`].
    pub fn unschedule<A: Action<On = Manager>>(&self, manager: &Granted<A>) -> Result<bool> {
        manager.to_be_done()?;
        self.login("CancelScheduledShutdown", &())
    }

    fn login<B, R>(&self, method: &str, body: &B) -> Result<R>
    where
        B: serde::Serialize + zbus::DynamicType,
        R: serde::de::DeserializeOwned + zbus::Type,
    {
        let call = bus::call_to(self.bus.connection, LOGIN, method, body);
        self.bus.wait(Duration::from_secs(25), call).map_err(|error| match error.kind {
            // The bus would have systemd start it, and there is no unit for it.
            Kind::NotFound => Error { kind: Kind::Unsupported, message: "there is no logind on this host".into(), ..error },
            _ => error,
        })
    }
}
