//! `rex serve`: an SSH server of its own for hosts without sshd. It offers what sshd's forced command offers, and nothing else.

pub mod address;
pub mod connection;
pub mod host_key;
pub mod keys;
pub mod listener;
pub mod log;
pub mod session;
pub mod stream;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use core::net::SocketAddr;
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use self::keys::KeyFile;
use self::listener::Census;
use self::log::Log;
use self::session::{Program, Stop};
use crate::error::{Error, Kind, Result};

/// What the owner of the host has set.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// Where to listen; port 0 lets the kernel choose.
    pub listen: Vec<SocketAddr>,
    /// Absolute path of the ed25519 host key; made on the first start.
    pub host_key: PathBuf,
    /// Absolute path of the keys and certificate authorities that may log in.
    pub authorized_keys: PathBuf,
    /// Absolute path of rex.toml; sessions get it as `--config`.
    pub config: PathBuf,
    pub limits: Limits,
    /// What to run instead of this program, for tests.
    pub session_program: Option<PathBuf>,
}

/// What clients may use of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time.
    pub max_connections: usize,
    /// Of these from one IPv4 address or one IPv6 /64.
    pub max_per_address: usize,
    /// Of these before login.
    pub max_unauthenticated: usize,
    /// Channels open at one time on one connection; each session is one.
    pub max_sessions: usize,
    /// From the first byte to a successful login.
    pub login_grace: Duration,
    /// Failed authentication attempts of one connection.
    pub auth_attempts: usize,
    /// How long a connection may stay without a running session.
    pub idle_timeout: Duration,
    /// How often a silent client is asked whether it is still there; after [`keepalive_max`](Self::keepalive_max) questions without an answer it is gone.
    pub keepalive: Duration,
    pub keepalive_max: usize,
    /// What running sessions get when the server is told to stop.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 64,
            max_per_address: 16,
            max_unauthenticated: 16,
            max_sessions: 10,
            login_grace: Duration::from_secs(30),
            auth_attempts: 6,
            idle_timeout: Duration::from_secs(300),
            keepalive: Duration::from_secs(15),
            keepalive_max: 3,
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

/// What connections share.
#[derive(Debug)]
pub struct Server {
    pub limits: Limits,
    pub keys: KeyFile,
    pub program: Program,
    /// `SHA256:…`.
    pub host_fingerprint: String,
    pub ssh: Arc<russh::server::Config>,
    pub log: Log,
    pub stop: watch::Sender<Stop>,
    pub census: Census,
    /// Sessions whose process has not been reaped.
    pub running: AtomicUsize,
}

/// After SIGTERM to a session and its SIGKILL three seconds later; then the server does not wait any longer.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// A client that takes nothing for so long, while the kernel's buffers are full, is given up.
const WRITE_STALL: Duration = Duration::from_secs(120);
/// Between a failed attempt and its answer. There is no password to guess; it only slows down a client that makes this server compute.
const REJECTION: Duration = Duration::from_millis(100);
/// Descriptors beside those of connections (1) and sessions (5): sockets, logs, files being read.
const SPARE_DESCRIPTORS: u64 = 64;

/// Key exchange with X25519 only, the hybrid with ML-KEM first; the last names are markers (RFC 8308, strict key exchange against CVE-2023-48795).
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
/// Authenticated encryption only, so the MACs below are never used; clients still expect the list to be filled.
const CIPHERS: &[cipher::Name] = &[cipher::CHACHA20_POLY1305, cipher::AES_256_GCM, cipher::AES_128_GCM];
const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];
/// For users' keys, announced as `server-sig-algs`; no SHA-1. Of the host keys there is only the first.
const SIGNATURES: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::SkEd25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::SkEcdsaSha2NistP256,
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// Serves until SIGTERM or SIGINT, then lets running sessions finish for `shutdown_grace`; a second signal ends them at once.
///
/// # Errors
/// [`Kind::Config`] when a key file or address is not usable (nothing was served), or the system's own error.
pub fn serve(settings: ServeSettings) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (stopper, stops) = mpsc::channel(4);
        for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
            let mut signals = signal(kind)?;
            let stopper = stopper.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    // Full: two are waiting already, and more than two mean nothing more.
                    let _ = stopper.try_send(());
                }
            });
        }
        Ready::prepare(settings)?.run(stops).await;
        Ok(())
    })
}

/// Serves in the background while `act` runs, which is told the first address; then stops.
///
/// # Errors
/// As [`serve`].
pub fn serve_during<T>(settings: ServeSettings, act: impl FnOnce(SocketAddr) -> T) -> Result<T> {
    let (stopper, stops) = mpsc::channel(4);
    let (send, receive) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let ready = Ready::prepare(settings)?;
            let _ = send.send(ready.addresses());
            ready.run(stops).await;
            Ok(())
        })
    });
    let address = receive.recv().ok().and_then(|addresses| addresses.first().copied());
    let done = address.map(act);
    // The second one says: at once.
    let _ = stopper.try_send(());
    let _ = stopper.try_send(());
    let ended = server.join().map_err(|_| Error::new(Kind::Internal, "the server failed"))?;
    match (done, ended) {
        (Some(done), _) => Ok(done),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(Error::new(Kind::Internal, "the server did not start")),
    }
}

/// A server that listens but does not accept yet.
pub struct Ready {
    server: Arc<Server>,
    listeners: Vec<tokio::net::TcpListener>,
}

impl Ready {
    /// Reads keys, opens the sockets, and says on standard error where it listens. Needs a tokio runtime.
    ///
    /// # Errors
    /// As [`serve`].
    pub fn prepare(settings: ServeSettings) -> Result<Self> {
        let ServeSettings { listen, host_key, authorized_keys, config, limits, session_program } = settings;
        if listen.is_empty() {
            return Err(Error::new(Kind::Config, "no address to listen on"));
        }
        for path in [&host_key, &authorized_keys, &config] {
            if !path.is_absolute() {
                return Err(Error::new(Kind::Config, "a path must be given from `/` on").with_path(path.display().to_string()));
            }
        }
        let key = host_key::load_or_create(&host_key).map_err(as_config)?;
        let keys = KeyFile::open(&authorized_keys)?;
        let (plain, authorities) = keys.current()?.counts();
        let listeners = listen.into_iter().map(listener::listen).collect::<Result<Vec<_>>>()?;
        let per_connection = 1 + 5 * limits.max_sessions as u64;
        let wanted = SPARE_DESCRIPTORS.saturating_add(per_connection.saturating_mul(limits.max_connections as u64));
        let allowed = crate::os::descriptors::allow_descriptors(wanted)?;
        let host_fingerprint = host_key::fingerprint(&key);
        let log = Log::default();
        let addresses: Vec<String> = listeners.iter().filter_map(|it| it.local_addr().ok()).map(|it| it.to_string()).collect();
        log.say(&format!(
            "listening on {}, host key {host_fingerprint}, {plain} keys and {authorities} certificate authorities may log in",
            addresses.join(" and ")
        ));
        if allowed < wanted {
            log.say(&format!("only {allowed} open files are allowed; {wanted} would be needed if every limit were reached"));
        }
        let server = Arc::new(Server {
            ssh: Arc::new(ssh_config(key, &limits)),
            limits,
            keys,
            program: Program { path: session_program, config },
            host_fingerprint,
            log,
            stop: watch::Sender::new(Stop::Running),
            census: Census::default(),
            running: AtomicUsize::new(0),
        });
        Ok(Self { server, listeners })
    }

    /// Where it listens, with the ports that the kernel chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    #[must_use]
    pub fn server(&self) -> Arc<Server> {
        Arc::clone(&self.server)
    }

    /// Serves until `stops` yields, or its sender is gone: the first message stops gently, a second one at once.
    pub async fn run(self, mut stops: mpsc::Receiver<()>) {
        let Self { server, listeners } = self;
        for listener in listeners {
            tokio::spawn(listener::accept(Arc::clone(&server), listener));
        }
        stops.recv().await;
        let grace = server.limits.shutdown_grace;
        server.log.say(&format!("stopping; running sessions have {} s", grace.as_secs()));
        let mut stages = [(Stop::Finishing, grace), (Stop::Ending, LAST_WAIT), (Stop::Now, LAST_WAIT)].into_iter().peekable();
        let mut hurried = false;
        while let Some((stage, limit)) = stages.next() {
            if hurried && stages.peek().is_some() {
                continue;
            }
            server.stop.send_replace(stage);
            tokio::select! {
                all_gone = listener::wait_for_all(&server, limit) => if all_gone { break },
                Some(()) = stops.recv(), if !hurried => hurried = true,
            }
        }
        server.log.say("stopped");
    }
}

fn as_config(error: Error) -> Error {
    // Whatever keeps the host key from being used, nothing can be served.
    Error { kind: Kind::Config, ..error }
}

fn ssh_config(key: PrivateKey, limits: &Limits) -> russh::server::Config {
    russh::server::Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-rex")),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: REJECTION,
        // Every OpenSSH client begins with `none` to learn the methods.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key],
        // The opening `none` counts as a failure to the library.
        max_auth_attempts: limits.auth_attempts.saturating_add(1),
        inactivity_timeout: Some(WRITE_STALL.max(limits.login_grace)),
        window_size: stream::WINDOW,
        keepalive_interval: Some(limits.keepalive),
        keepalive_max: limits.keepalive_max,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            key: Cow::Borrowed(SIGNATURES),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        ..russh::server::Config::default()
    }
}

#[cfg(test)]
mod tests;
