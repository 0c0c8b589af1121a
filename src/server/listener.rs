//! Accepts connections within the limits, watches over each from login to goodbye, and ends them all when the server stops.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use core::net::SocketAddr;
use russh::Disconnect;
use russh::server::Handle;
use rustix::net::SendFlags;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::address::prefix;
use super::connection::{Connection, Pulse};
use super::session::{Stop, reached};
use super::stream::{Flow, Stream};
use super::{Limits, Server};
use crate::error::{Error, Kind, Result};

/// Connections that the kernel holds while this process is busy.
const BACKLOG: u32 = 128;
/// After an error of accept(2) that will not go away by itself at once (no descriptors, no memory).
const BREATH: Duration = Duration::from_millis(200);
/// How long a goodbye may take, on each of its steps.
const FAREWELL: Duration = Duration::from_secs(1);
const NO_LOGIN: &str = "the connection ended before login";
/// What a refused client sees; RFC 4253 section 4.2 allows lines before the version.
const TOO_MANY: &[u8] = b"rex: too many connections, try again later\r\n";

/// Opens a listening socket. An IPv6 one takes IPv6 only, so that `0.0.0.0` and `[::]` can stand side by side and mean what they say.
///
/// # Errors
/// [`Kind::Config`] naming the address.
pub fn listen(address: SocketAddr) -> Result<TcpListener> {
    let open = || -> std::io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if address.is_ipv6() {
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
        }
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|error| Error::new(Kind::Config, format!("cannot listen on {address}: {}", Error::from(error).message)))
}

/// Who is connected now.
#[derive(Debug, Default)]
pub struct Census {
    counts: Mutex<Counts>,
    /// Whenever somebody leaves.
    left: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    unauthenticated: usize,
    by_network: HashMap<(bool, u128), usize>,
}

/// One connection's place; dropping it frees the place.
#[derive(Debug)]
struct Seat {
    server: Arc<Server>,
    network: (bool, u128),
    authenticated: bool,
}

impl Census {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts().all == 0
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// A place for `peer`, or the limit that is reached. An IPv6 client counts by its /64: that is what one subscriber is given.
    fn take(server: &Arc<Server>, peer: SocketAddr) -> std::result::Result<Self, &'static str> {
        let Limits { max_connections, max_per_address, max_unauthenticated, .. } = server.limits;
        let address = peer.ip().to_canonical();
        let network = prefix(address, if address.is_ipv4() { 32 } else { 64 }).unwrap_or_default();
        let mut counts = server.census.counts();
        if counts.all >= max_connections {
            return Err("too many connections");
        }
        if counts.unauthenticated >= max_unauthenticated {
            return Err("too many connections that have not logged in");
        }
        let here = counts.by_network.entry(network).or_default();
        if *here >= max_per_address {
            return Err("too many connections from one address");
        }
        *here += 1;
        counts.all += 1;
        counts.unauthenticated += 1;
        Ok(Self { server: Arc::clone(server), network, authenticated: false })
    }

    fn has_authenticated(&mut self) {
        if !self.authenticated {
            self.authenticated = true;
            self.server.census.counts().unauthenticated -= 1;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.server.census.counts();
        counts.all -= 1;
        if !self.authenticated {
            counts.unauthenticated -= 1;
        }
        if let Some(here) = counts.by_network.get_mut(&self.network) {
            *here -= 1;
            if *here == 0 {
                counts.by_network.remove(&self.network);
            }
        }
        drop(counts);
        self.server.census.left.notify_one();
    }
}

/// Accepts until the server stops.
pub async fn accept(server: Arc<Server>, listener: TcpListener) {
    let mut stop = server.stop.subscribe();
    loop {
        let accepted = tokio::select! {
            biased;
            () = reached(&mut stop, Stop::Finishing) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => match Seat::take(&server, peer) {
                Ok(seat) => {
                    tokio::spawn(attend(tcp, peer, seat));
                }
                Err(why) => {
                    // A fresh socket's buffer is empty, so this does not wait; if it fails, the client learns less.
                    let _ = rustix::net::send(&tcp, TOO_MANY, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
                    server.log.refused(peer, why);
                }
            },
            Err(error) => {
                server.log.say(&format!("a connection could not be accepted: {error}"));
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// Tells the connections to end as far as `server.stop` says and waits until all have gone and no session is left. Gives up after `limit`.
pub async fn wait_for_all(server: &Server, limit: Duration) -> bool {
    let all = async {
        while !(server.census.is_empty() && server.running.load(Ordering::SeqCst) == 0) {
            // Sessions may outlive their connection; the short sleep covers their end.
            let _ = tokio::time::timeout(Duration::from_millis(50), server.census.left.notified()).await;
        }
    };
    tokio::time::timeout(limit, all).await.is_ok()
}

/// One connection from its first byte to its last.
async fn attend(tcp: TcpStream, peer: SocketAddr, mut seat: Seat) {
    let server = Arc::clone(&seat.server);
    let flow = Arc::new(Flow::default());
    let pulse = Arc::new(Pulse::default());
    // Requests and answers are small; waiting to fill a packet only adds latency.
    let _ = tcp.set_nodelay(true);
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let handler = Connection::new(Arc::clone(&server), peer, Arc::clone(&flow), Arc::clone(&pulse));
    let mut stop = server.stop.subscribe();
    let mut login_deadline = pin!(tokio::time::sleep(server.limits.login_grace));
    let late = || server.log.refused(peer, &format!("no login within {} s", server.limits.login_grace.as_secs()));

    let starting = russh::server::run_stream(Arc::clone(&server.ssh), Stream::new(tcp, Arc::clone(&flow)), handler);
    let running = tokio::select! {
        started = starting => match started {
            Ok(running) => running,
            Err(error) => return server.log.refused(peer, &reason(&error)),
        },
        () = &mut login_deadline => return late(),
        () = reached(&mut stop, Stop::Finishing) => return,
    };
    let handle = running.handle();
    let mut running = pin!(running);
    let mut idle_since: Option<Instant> = None;
    let mut leaving: Option<Instant> = None;
    loop {
        let authenticated = pulse.authenticated.load(Ordering::SeqCst);
        let live = pulse.live.load(Ordering::SeqCst);
        if authenticated {
            seat.has_authenticated();
        }
        idle_since = (authenticated && live == 0).then(|| idle_since.unwrap_or_else(Instant::now));
        let stopping = *stop.borrow_and_update() >= Stop::Finishing;
        // A client whose last session has ended hangs up by itself, and is told goodbye only if it does not.
        let patience = if stopping { FAREWELL.min(server.limits.idle_timeout) } else { server.limits.idle_timeout };
        let idle_until = idle_since.map(|since| since + patience);
        let idle = idle_until.is_some_and(|until| Instant::now() >= until);
        if leaving.is_none() && (idle || (stopping && !authenticated)) {
            say_goodbye(&handle, if stopping { "the server is shutting down" } else { "idle" }).await;
            leaving = Some(Instant::now() + FAREWELL);
        }
        if leaving.is_some_and(|until| Instant::now() >= until) {
            flow.cut();
            let _ = tokio::time::timeout(FAREWELL, &mut running).await;
            return;
        }
        tokio::select! {
            result = &mut running => {
                if !pulse.authenticated.load(Ordering::SeqCst) {
                    let last = pulse.last_refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let why = last.unwrap_or_else(|| result.map_or_else(|error| reason(&error), |()| NO_LOGIN.to_owned()));
                    server.log.refused(peer, &why);
                }
                return;
            }
            () = &mut login_deadline, if !authenticated => {
                late();
                flow.cut();
                let _ = tokio::time::timeout(FAREWELL, &mut running).await;
                return;
            }
            () = pulse.changed.notified() => {}
            () = moved_on(&mut stop) => {}
            () = until(leaving.or(idle_until)) => {}
        }
    }
}

async fn moved_on(stop: &mut watch::Receiver<Stop>) {
    if stop.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn say_goodbye(handle: &Handle, why: &str) {
    // Queued behind the last session's output and exit status, so nothing of theirs is lost. A full queue is not waited for.
    let _ = tokio::time::timeout(FAREWELL, handle.disconnect(Disconnect::ByApplication, why.to_owned(), "en".to_owned())).await;
}

/// Why a connection failed before its login, for the log. The library's texts are short and hold no secrets.
fn reason(error: &russh::Error) -> String {
    match error {
        russh::Error::IO(_) | russh::Error::HUP | russh::Error::Disconnect => NO_LOGIN.into(),
        russh::Error::NoCommonAlgo { kind, .. } => format!("no common algorithm ({kind:?})"),
        other => other.to_string().chars().take(200).flat_map(char::escape_debug).collect(),
    }
}
