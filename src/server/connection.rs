//! One connection: who authenticates, and which requests are granted. Everything that is not listed here is refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use core::net::SocketAddr;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Pty, Sig};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Certificate, HashAlg, PublicKey};
use tokio::sync::Notify;

use super::Server;
use super::keys::Refusal;
use super::session::{self, Client, MAX_REQUEST, Port, Request, Stop};
use super::stream::Flow;
use crate::error::Exit;
use crate::identity::handover::{Handover, Key, Method, VERSION};

/// The variables that a client may declare; what they say is data, and untrusted.
const VARIABLES: &[&str] = &["LC_REX_AGENT", "LC_REX_TASK", "LC_BASTION"];
/// Bytes of one variable's value.
const MAX_VALUE: usize = 4096;
/// Bytes of a login name; LOGIN_NAME_MAX of Linux is 256 with the terminator.
const MAX_LOGIN: usize = 255;
/// Channels that one connection may open in its life. The SSH library keeps a little of each one that the server closed.
const MAX_OPENED: u32 = 4096;
const SUBSYSTEM: &str = "rex";
const NO_TERMINAL: &str =
    "rex: there is no terminal here: send a script with `ssh -T HOST < script.rhai`, or a request with `ssh HOST rex help`\r\n";

/// What the connection's task needs to know of the handler, which the SSH library owns.
#[derive(Debug, Default)]
pub struct Pulse {
    pub authenticated: AtomicBool,
    /// Sessions that run.
    pub live: AtomicUsize,
    /// Whenever one of the two changes.
    pub changed: Notify,
    /// Why the last key was not accepted. Told only if the connection ends without a login: trying several keys is normal.
    pub last_refusal: Mutex<Option<Refusal>>,
}

impl Pulse {
    fn not_accepted(&self, why: Refusal) -> Auth {
        *self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        Auth::reject()
    }
}

/// Counts one running session, on its connection and on the server. A session may outlive its connection by a few seconds.
struct Running {
    pulse: Arc<Pulse>,
    server: Arc<Server>,
}

impl Running {
    fn start(pulse: &Arc<Pulse>, server: &Arc<Server>) -> Self {
        pulse.live.fetch_add(1, Ordering::SeqCst);
        server.running.fetch_add(1, Ordering::SeqCst);
        Self { pulse: Arc::clone(pulse), server: Arc::clone(server) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.pulse.live.fetch_sub(1, Ordering::SeqCst);
        self.pulse.changed.notify_one();
        self.server.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Who has authenticated, and with what.
#[derive(Clone, Debug)]
struct Login {
    user: String,
    proof: Proof,
}

#[derive(Clone, Debug)]
enum Proof {
    Key(KeyData),
    Certificate(Box<Certificate>),
}

/// One open channel.
#[derive(Debug)]
struct Slot {
    /// Taken by the session.
    channel: Option<ChannelWriteHalf<Msg>>,
    env: BTreeMap<String, String>,
    terminal_wanted: bool,
    port: Option<Port>,
}

/// The rules of one connection.
#[derive(Debug)]
pub struct Connection {
    server: Arc<Server>,
    peer: SocketAddr,
    flow: Arc<Flow>,
    pulse: Arc<Pulse>,
    login: Option<Login>,
    slots: HashMap<ChannelId, Slot>,
    opened: u32,
}

impl Connection {
    #[must_use]
    pub fn new(server: Arc<Server>, peer: SocketAddr, flow: Arc<Flow>, pulse: Arc<Pulse>) -> Self {
        Self { server, peer, flow, pulse, login: None, slots: HashMap::new(), opened: 0 }
    }

    /// Whether the keys file as it is now admits `proof` from this address.
    fn judge(&self, proof: &Proof) -> Result<(), Refusal> {
        let roster = self.server.keys.current().map_err(|error| error.to_string())?;
        let (from, now) = (self.peer.ip(), now());
        match proof {
            Proof::Key(key) => roster.judge_key(key, from, now),
            Proof::Certificate(certificate) => roster.judge_certificate(certificate, from, now),
        }
    }

    fn authenticate(&mut self, user: &str, proof: Proof) -> Auth {
        if let Err(why) = self.judge(&proof) {
            return self.pulse.not_accepted(format!("login `{}`: {why}", shown(user)));
        }
        self.login = Some(Login { user: user.to_owned(), proof });
        Auth::Accept
    }

    /// Grants or refuses one of the three requests that start a session.
    fn start(&mut self, id: ChannelId, request: Request, session: &mut Session) -> Result<(), russh::Error> {
        match self.try_start(id, request, session) {
            Ok(()) => Ok(()),
            Err(why) => {
                self.server.log.refused(self.peer, &why);
                session.channel_failure(id)
            }
        }
    }

    fn try_start(&mut self, id: ChannelId, request: Request, session: &mut Session) -> Result<(), Refusal> {
        let login = self.login.clone().ok_or("a request before authentication")?;
        if *self.server.stop.borrow() != Stop::Running {
            return Err("the server is shutting down".into());
        }
        // Removed keys and expired certificates end here, even on a connection that was authenticated before.
        self.judge(&login.proof).map_err(|why| format!("login `{}`: {why}", shown(&login.user)))?;
        if let Request::Exec(text) = &request
            && (text.contains(&0) || text.len() > MAX_REQUEST)
        {
            return Err("a request with a NUL or over 128 KiB".into());
        }
        let slot = self.slots.get_mut(&id).ok_or("a request on an unknown channel")?;
        let channel = slot.channel.take().ok_or("a second request on one channel")?;
        let identity = handover(&login, self.peer, &slot.env, &self.server.host_fingerprint).map_err(|error| error.to_string())?;
        let (process, pipes) = match self.server.program.start(&request, &identity) {
            Ok(started) => started,
            Err(error) => return Err(format!("the session cannot be started: {error}")),
        };
        let (port, lines) = Port::new(Arc::clone(&self.flow));
        slot.port = Some(port);
        let client = Client { channel, handle: session.handle() };
        let running = Running::start(&self.pulse, &self.server);
        let stop = self.server.stop.subscribe();
        tokio::spawn(async move {
            session::run(request, process, pipes, lines, client, stop).await;
            drop(running);
        });
        session.channel_success(id).map_err(|error| error.to_string())
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        let refusal = if user.len() > MAX_LOGIN || user.chars().any(char::is_control) {
            "a login name with control characters or over 255 bytes".to_owned()
        } else if matches!(offer.algorithm, Algorithm::Rsa { hash: None }) {
            format!("login `{}`: a signature with SHA-1", shown(user))
        } else {
            match self.server.keys.current() {
                Ok(roster) if roster.may_admit(offer.public_key.key_data()) => return Ok(Auth::Accept),
                Ok(_) => format!("login `{}`: the key {} is not listed", shown(user), offer.public_key.fingerprint(HashAlg::Sha256)),
                Err(error) => error.to_string(),
            }
        };
        Ok(self.pulse.not_accepted(refusal))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(self.authenticate(user, Proof::Key(key.public_key.key_data().clone())))
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Self::Error> {
        Ok(self.authenticate(user, Proof::Certificate(Box::new(certificate.clone()))))
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), Self::Error> {
        self.pulse.authenticated.store(true, Ordering::SeqCst);
        self.pulse.changed.notify_one();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.slots.retain(|_, slot| !slot.port.as_ref().is_some_and(Port::is_done));
        self.opened = self.opened.saturating_add(1);
        if self.slots.len() >= self.server.limits.max_sessions || self.opened > MAX_OPENED {
            self.server.log.refused(self.peer, "too many sessions on one connection");
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        // The reading half is dropped: the library would wait for it to be emptied, in the task that also sends. Data comes by `data`.
        let (_, channel) = channel.split();
        self.slots.insert(channel.id(), Slot { channel: Some(channel), env: BTreeMap::new(), terminal_wanted: false, port: None });
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.slots.remove(&channel);
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        if let Some(port) = self.slots.get_mut(&channel).and_then(|slot| slot.port.as_mut()) {
            port.end_of_input();
        }
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _session: &mut Session) -> Result<(), Self::Error> {
        if let Some(port) = self.slots.get(&channel).and_then(|slot| slot.port.as_ref()) {
            port.data(data);
        }
        Ok(())
    }

    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        self.flow.window()
    }

    async fn exec_request(&mut self, channel: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        self.start(channel, Request::Exec(data.to_vec()), session)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        let at_terminal = self.slots.get(&channel).is_some_and(|slot| slot.terminal_wanted && slot.channel.is_some());
        if !at_terminal {
            return self.start(channel, Request::Shell, session);
        }
        // Somebody at a terminal, who would otherwise face a server that waits in silence for a script.
        self.slots.remove(&channel);
        session.channel_success(channel)?;
        session.extended_data(channel, 1, NO_TERMINAL)?;
        session.exit_status_request(channel, Exit::Usage as u32)?;
        session.eof(channel)?;
        session.close(channel)
    }

    async fn subsystem_request(&mut self, channel: ChannelId, name: &str, session: &mut Session) -> Result<(), Self::Error> {
        if name == SUBSYSTEM {
            return self.start(channel, Request::Subsystem, session);
        }
        self.server.log.refused(self.peer, &format!("subsystem `{}`", shown(name)));
        session.channel_failure(channel)
    }

    async fn env_request(&mut self, channel: ChannelId, name: &str, value: &str, session: &mut Session) -> Result<(), Self::Error> {
        let known = VARIABLES.contains(&name) && value.len() <= MAX_VALUE && !value.contains('\0');
        match self.slots.get_mut(&channel) {
            // The first value stands; a second one for the same name is refused, so that nobody reads one and judges by the other.
            Some(slot) if known && slot.port.is_none() && !slot.env.contains_key(name) => {
                slot.env.insert(name.to_owned(), value.to_owned());
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(slot) = self.slots.get_mut(&channel) {
            slot.terminal_wanted = true;
        }
        session.channel_failure(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    /// As sshd does under a forced command: a client cannot signal the session, only go.
    async fn signal(&mut self, channel: ChannelId, _signal: Sig, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn agent_request(&mut self, _channel: ChannelId, _session: &mut Session) -> Result<bool, Self::Error> {
        Ok(false)
    }

    async fn tcpip_forward(&mut self, _address: &str, _port: &mut u32, _session: &mut Session) -> Result<bool, Self::Error> {
        Ok(false)
    }

    async fn streamlocal_forward(&mut self, _path: &str, _session: &mut Session) -> Result<bool, Self::Error> {
        Ok(false)
    }
    // Channels of any other type (X11, direct-tcpip, direct-streamlocal …): the library's default drops the reply, which refuses them.
}

fn handover(login: &Login, peer: SocketAddr, env: &BTreeMap<String, String>, host: &str) -> crate::error::Result<Vec<u8>> {
    let (key, certificate) = match &login.proof {
        Proof::Key(key) => (key, None),
        Proof::Certificate(certificate) => (certificate.public_key(), Some(certificate)),
    };
    let encoding =
        |error: ssh_key::Error| crate::error::Error::new(crate::error::Kind::Internal, format!("a key cannot be written: {error}"));
    let key = PublicKey::new(key.clone(), "");
    let handover = Handover {
        version: VERSION,
        user: login.user.clone(),
        method: Method::PublicKey,
        key: Key {
            kind: key.algorithm().as_str().to_owned(),
            blob: STANDARD.encode(key.to_bytes().map_err(encoding)?),
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        },
        certificate: certificate.map(|it| it.to_bytes().map_err(encoding)).transpose()?.map(|bytes| STANDARD.encode(bytes)),
        client_address: peer.ip().to_string(),
        client_port: peer.port(),
        env: env.clone(),
        server_fingerprint: host.to_owned(),
    };
    handover.to_json()
}

/// Seconds since 1970. A clock before that makes every certificate not yet valid.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Text from outside, for a line of the log: escaped and short.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}
