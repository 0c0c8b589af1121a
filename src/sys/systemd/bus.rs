//! A connection to the system bus: calls with a time limit that the run can break off, and errors as ours.

use crate::error::{Error, Kind, Result};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use zbus::{OwnedVariant, Variant};

/// Where systemd and every distribution put it. Never from the environment: DBUS_SYSTEM_BUS_ADDRESS could name anything.
const ADDRESS: &str = "unix:path=/run/dbus/system_bus_socket";
/// The longest that any answer may take; each call has its own limit besides.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How long a call that does not wait for a job may take.
const CALL: Duration = Duration::from_secs(25);
/// How often a waiting call looks whether the run has to stop.
const TICK: Duration = Duration::from_millis(50);

/// How long a run waits for the bus before it begins. What does not answer then is told to scripts that ask for it.
const AT_START: Duration = Duration::from_secs(2);

/// The one connection of this process, or why there is none. It is made before the fence goes up, since behind it no socket is opened or connected.
static SHARED: OnceLock<Result<Shared>> = OnceLock::new();

struct Shared {
    connection: zbus::Connection,
    handle: tokio::runtime::Handle,
    /// Until the first use, when a thread gets it: no thread may run before the fence is up.
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
}

impl Shared {
    fn connect(limit: Duration) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| Error::new(Kind::Unavailable, format!("the system bus: {error}")))?;
        let build =
            async { zbus::connection::Builder::address(ADDRESS).method_timeout(LONGEST).build().await.map_err(|error| failure(&error)) };
        let connection = runtime.block_on(async {
            tokio::time::timeout(limit, build)
                .await
                .unwrap_or_else(|_| Err(Error::new(Kind::Timeout, "the system bus did not answer in time")))
        })?;
        Ok(Self { connection, handle: runtime.handle().clone(), runtime: Mutex::new(Some(runtime)) })
    }
    /// Has the connection listened to from now on, whoever waits for what.
    fn run(&self) -> Result<()> {
        let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        let thread = std::thread::Builder::new().name("bus".to_owned()).spawn(move || {
            crate::limits::limit_this_thread();
            runtime.block_on(std::future::pending::<()>());
        });
        thread.map(drop).map_err(|error| Error::new(Kind::Unavailable, format!("the kernel gave no thread: {error}")))
    }
}

/// Connects while that is still possible. What goes wrong is kept for whoever asks for the bus.
pub fn prepare() {
    let _ = SHARED.get_or_init(|| Shared::connect(AT_START));
}

/// The system bus.
pub struct Bus<'a> {
    handle: &'static tokio::runtime::Handle,
    pub connection: &'static zbus::Connection,
    check: &'a dyn Fn() -> Result<()>,
}

impl<'a> Bus<'a> {
    /// # Errors
    /// [`Kind::Unsupported`] when there is no bus, [`Kind::Permission`] when it may not be used.
    pub fn connect(check: &'a dyn Fn() -> Result<()>) -> Result<Self> {
        check()?;
        let shared = SHARED.get_or_init(|| Shared::connect(CALL)).as_ref().map_err(Clone::clone)?;
        shared.run()?;
        Ok(Self { handle: &shared.handle, connection: &shared.connection, check })
    }
    /// Waits for `work`, at most so long.
    ///
    /// # Errors
    /// Its own, [`Kind::Timeout`], or why the run has to stop.
    pub fn wait<T>(&self, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        wait(self.handle, self.check, limit, work)
    }
    /// Calls a method of systemd's objects, with the default limit of time.
    ///
    /// # Errors
    /// What systemd answers; [`Kind::Timeout`]; why the run has to stop.
    pub fn call<B, R>(&self, path: &str, interface: &str, method: &str, body: &B) -> Result<R>
    where
        B: serde::Serialize + zbus::DynamicType,
        R: serde::de::DeserializeOwned + zbus::Type,
    {
        self.wait(CALL, call(self.connection, path, interface, method, body))
    }
    /// All properties of an interface of an object.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub fn properties(&self, path: &str, interface: &str) -> Result<Properties> {
        self.wait(CALL, properties(self.connection, path, interface))
    }
}

/// # Errors
/// What systemd answers.
pub async fn call<B, R>(connection: &zbus::Connection, path: &str, interface: &str, method: &str, body: &B) -> Result<R>
where
    B: serde::Serialize + zbus::DynamicType,
    R: serde::de::DeserializeOwned + zbus::Type,
{
    call_to(connection, ("org.freedesktop.systemd1", path, interface), method, body).await
}

/// The same with another service of the bus: its name, an object of it, an interface.
///
/// # Errors
/// What it answers.
pub async fn call_to<B, R>(
    connection: &zbus::Connection,
    (service, path, interface): (&str, &str, &str),
    method: &str,
    body: &B,
) -> Result<R>
where
    B: serde::Serialize + zbus::DynamicType,
    R: serde::de::DeserializeOwned + zbus::Type,
{
    let answer = connection.call_method(Some(service), path, Some(interface), method, body).await;
    let answer = answer.map_err(|error| failure(&error))?;
    answer.body().deserialize().map_err(|error| failure(&error))
}

/// Has systemd tell this connection of jobs. Those that share it may have asked before.
///
/// # Errors
/// What systemd answers.
pub async fn subscribe(connection: &zbus::Connection, path: &str, interface: &str) -> Result<()> {
    match connection.call_method(Some("org.freedesktop.systemd1"), path, Some(interface), "Subscribe", &()).await {
        Err(zbus::Error::MethodError(name, ..)) if name.as_str() == "org.freedesktop.systemd1.AlreadySubscribed" => Ok(()),
        done => done.map(drop).map_err(|error| failure(&error)),
    }
}

/// # Errors
/// What systemd answers.
pub async fn properties(connection: &zbus::Connection, path: &str, interface: &str) -> Result<Properties> {
    Ok(Properties(call(connection, path, "org.freedesktop.DBus.Properties", "GetAll", &interface).await?))
}

fn wait<T>(
    handle: &tokio::runtime::Handle,
    check: &dyn Fn() -> Result<()>,
    limit: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    check()?;
    let end = Instant::now() + limit;
    handle.block_on(async {
        let mut work = std::pin::pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(TICK, &mut work).await {
                return done;
            }
            check()?;
            if Instant::now() >= end {
                return Err(Error::new(Kind::Timeout, format!("the service manager did not answer within {} s", limit.as_secs_f64())));
            }
        }
    })
}

/// The error of the bus or of systemd as ours. Its text is not passed on: it can hold bytes of the host.
pub fn failure(error: &zbus::Error) -> Error {
    use zbus::fdo::Error as Fdo;
    let of = |kind, text: &str| Error::new(kind, text);
    match error {
        zbus::Error::Connection(cause, _) | zbus::Error::InputOutput(cause) => match cause.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => no_systemd(),
            std::io::ErrorKind::PermissionDenied => of(Kind::Permission, "the system bus may not be used by this Unix user"),
            _ => of(Kind::Unavailable, "the connection to the system bus broke"),
        },
        zbus::Error::FDO(fdo) => match &**fdo {
            Fdo::ServiceUnknown(_) | Fdo::NameHasNoOwner(_) | Fdo::NoServer(_) => no_systemd(),
            Fdo::AccessDenied(_) | Fdo::AuthFailed(_) | Fdo::InteractiveAuthorizationRequired(_) => refused(),
            Fdo::Timeout(_) | Fdo::TimedOut(_) | Fdo::NoReply(_) => of(Kind::Timeout, "the service manager did not answer in time"),
            Fdo::Disconnected(_) => of(Kind::Unavailable, "the connection to the system bus broke"),
            Fdo::InvalidArgs(_) => of(Kind::BadArgument, "the service manager does not accept this name"),
            Fdo::NotSupported(_) | Fdo::UnknownMethod(_) | Fdo::UnknownInterface(_) => of(Kind::Unsupported, "this systemd cannot do that"),
            Fdo::FileExists(_) => of(Kind::Exists, "something else is in the place of a link that this needs"),
            Fdo::FileNotFound(_) => of(Kind::NotFound, "there is no such unit file"),
            Fdo::UnknownObject(_) => of(Kind::NotFound, "there is no such unit"),
            _ => of(Kind::Io, "the service manager reported an error"),
        },
        zbus::Error::MethodError(name, ..) => match name.as_str().strip_prefix("org.freedesktop.systemd1.").unwrap_or_default() {
            "NoSuchUnit" => of(Kind::NotFound, "there is no such unit"),
            "UnitExists" | "UnitLinked" => of(Kind::Exists, "something else is in the place of a link that this needs"),
            "UnitGenerated" => of(Kind::JobFailed, "the unit file is made by a generator"),
            "BadInstallSetting" | "NoInstallInfo" | "UnitBadSetting" => {
                of(Kind::BadData, "what the unit file says in [Install] cannot be used")
            }
            "UnitMasked" => of(Kind::JobFailed, "the unit is masked"),
            "LoadFailed" | "BadUnitSetting" => of(Kind::BadData, "the unit file cannot be loaded"),
            "OnlyByDependency" => of(Kind::JobFailed, "the unit may only be started or stopped through another"),
            "JobTypeNotApplicable" => of(Kind::JobFailed, "the unit does not support this job"),
            "TransactionIsDestructive" => of(Kind::Busy, "another job stands in the way"),
            "TransactionJobsConflicting" | "TransactionOrderIsCyclic" => {
                of(Kind::JobFailed, "the jobs that this needs contradict each other")
            }
            "ShuttingDown" => of(Kind::Unavailable, "the host is shutting down"),
            _ if name.as_str() == "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => refused(),
            _ if name.as_str() == "org.freedesktop.login1.OperationInProgress" => of(Kind::Busy, "it is under way already"),
            _ if name.as_str() == "org.freedesktop.login1.BlockedByInhibitorLock" => {
                of(Kind::Busy, "somebody blocks it; `check: true` tells who")
            }
            _ if name.as_str() == "System.Error.EEXIST" => of(Kind::Exists, "something else is in the place of a link that this needs"),
            _ => of(Kind::JobFailed, "the service manager refused it"),
        },
        zbus::Error::Unsupported => of(Kind::Unsupported, "the system bus cannot be used"),
        _ => of(Kind::Io, "the system bus gave an answer that was not understood"),
    }
}

fn no_systemd() -> Error {
    Error::new(Kind::Unsupported, "there is no systemd to talk to on this host")
}

fn refused() -> Error {
    Error::new(Kind::Permission, "the service manager does not allow it to this Unix user")
}

/// Properties of a D-Bus object.
pub struct Properties(HashMap<String, OwnedVariant>);

impl Properties {
    /// A string or object path; empty where there is none.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        match self.0.get(name).map(|value| &**value) {
            Some(Variant::Str(text)) => text.as_str().to_owned(),
            Some(Variant::ObjectPath(path)) => path.as_str().to_owned(),
            _ => String::new(),
        }
    }
    /// A number; `None` where there is none, and for the largest value of its type, which systemd uses for "not set".
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.0.get(name).map(|value| &**value)? {
            Variant::U64(u64::MAX) | Variant::U32(u32::MAX) => None,
            Variant::U64(number) => Some(*number),
            Variant::U32(number) => Some((*number).into()),
            Variant::I32(number) => u64::try_from(*number).ok(),
            Variant::I64(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.0.get(name).map(|value| &**value), Some(Variant::Bool(true)))
    }
    /// An array of strings.
    #[must_use]
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.0.get(name).and_then(|value| value.try_clone().ok()).and_then(|value| Vec::<String>::try_from(value).ok()).unwrap_or_default()
    }
    /// The texts of an array of pairs of a text and a flag.
    #[must_use]
    pub fn first_texts(&self, name: &str) -> Vec<String> {
        let value = self.0.get(name).and_then(|value| value.try_clone().ok());
        let pairs = value.and_then(|value| Vec::<(String, bool)>::try_from(value).ok()).unwrap_or_default();
        pairs.into_iter().map(|(text, _)| text).collect()
    }
    /// An array of pairs of strings.
    #[must_use]
    pub fn pairs(&self, name: &str) -> Vec<(String, String)> {
        self.list(name)
    }
    /// Of timers by the calendar: what, when, and the next time.
    #[must_use]
    pub fn triples(&self, name: &str) -> Vec<(String, String, u64)> {
        self.list(name)
    }
    /// Of timers by the monotonic clock: what, and the span.
    #[must_use]
    pub fn numbered(&self, name: &str) -> Vec<(String, u64)> {
        self.list::<(String, u64, u64)>(name).into_iter().map(|(what, span, _)| (what, span)).collect()
    }
    /// An array of structures; empty where it is something else.
    fn list<T>(&self, name: &str) -> Vec<T>
    where
        T: TryFrom<Variant<'static>>,
        T::Error: Into<zbus::Error>,
    {
        self.0.get(name).and_then(|value| value.try_clone().ok()).and_then(|value| Vec::<T>::try_from(value).ok()).unwrap_or_default()
    }
    /// An array of bytes.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.0.get(name).and_then(|value| value.try_clone().ok()).and_then(|value| Vec::<u8>::try_from(value).ok()).unwrap_or_default()
    }
}
