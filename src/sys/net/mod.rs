//! Connections to what a policy let through: sockets that wait no longer than the run and the call allow, and end when the caller goes away.

pub mod certificate;
pub mod dns;
pub mod http;
pub mod lookup;
pub mod netlink;
pub mod tls;

use crate::error::{Error, Kind, Result};
use crate::policy::url::Host;
use crate::policy::{Action, Foreseen, Granted};
use crate::resource::endpoint::{Endpoint, Hostname};
use crate::resource::file::File;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How often a waiting call looks whether the run has to stop.
const TICK: Duration = Duration::from_millis(50);

/// How long a call may wait: to a moment, and as long as the run goes on.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    check: &'a dyn Fn() -> Result<()>,
    end: Instant,
    /// For messages.
    time: Duration,
}

impl<'a> Patience<'a> {
    #[must_use]
    pub fn new(time: Duration, check: &'a dyn Fn() -> Result<()>) -> Self {
        // What is longer than a run is as long as one.
        let time = time.min(Duration::from_secs(7 * 86_400));
        Self { check, end: Instant::now() + time, time }
    }
    /// The same, or so long from now if that is shorter.
    #[must_use]
    pub fn at_most(self, time: Duration) -> Self {
        let end = Instant::now() + time;
        if end < self.end { Self { end, time, ..self } } else { self }
    }
    /// What is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }
    /// # Errors
    /// [`Kind::Timeout`], or why the run has to stop.
    pub fn check(&self) -> Result<()> {
        (self.check)()?;
        if self.left().is_zero() {
            return Err(Error::new(Kind::Timeout, format!("no answer within {} s", self.time.as_secs_f64())));
        }
        Ok(())
    }
    /// Waits until something can be done with the socket.
    ///
    /// # Errors
    /// As [`Patience::check`].
    fn wait(&self, socket: &OwnedFd, what: PollFlags) -> Result<()> {
        loop {
            self.check()?;
            let tick = self.left().min(TICK);
            let time = Timespec { tv_sec: 0, tv_nsec: tick.subsec_nanos().into() };
            match rustix::event::poll(&mut [PollFd::new(socket, what)], Some(&time)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// What the policy was asked about, or is about to be: it says which host may be looked up.
pub trait Judged {
    fn host(&self) -> Host;
}
impl<A: Action<On = Endpoint>> Judged for Granted<A> {
    fn host(&self) -> Host {
        self.resource().host().clone()
    }
}
impl<A: Action<On = Endpoint>> Judged for Foreseen<'_, A> {
    fn host(&self) -> Host {
        self.on().host().clone()
    }
}
impl<A: Action<On = Hostname>> Judged for lookup::Named<'_, A> {
    fn host(&self) -> Host {
        Host::Name(self.0.resource().name().to_owned())
    }
}

/// Connects to this address of what was granted.
///
/// # Errors
/// [`Kind::Unavailable`] when nobody answers there, [`Kind::Timeout`], why the run has to stop; [`Kind::Internal`] when another address was judged.
pub fn connect<'a, A: Action<On = Endpoint>>(granted: &Granted<A>, address: IpAddr, patience: Patience<'a>) -> Result<Wire<'a>> {
    granted.to_be_done()?;
    let on = granted.resource();
    if on.address().is_some_and(|judged| judged != address) {
        return Err(Error::new(Kind::Internal, "another address was judged"));
    }
    Wire::open(SocketAddr::new(address, on.port()), SocketType::STREAM, patience)
}

/// Connects to this socket of the host, by its handle: what was judged, whatever has its name by now.
///
/// # Errors
/// [`Kind::Unavailable`] when nobody listens, [`Kind::Permission`] when the account may not, those of waiting.
pub fn connect_local<'a, A: Action<On = File>>(granted: &Granted<A>, patience: Patience<'a>) -> Result<Wire<'a>> {
    granted.to_be_done()?;
    let on = granted.resource();
    let handle = on.handle().filter(|_| on.kind() == Some(rustix::fs::FileType::Socket));
    let handle = handle.ok_or_else(|| Error::new(Kind::BadArgument, "it is no socket").with_path(on.asked().shown()))?;
    let address = SocketAddrUnix::new(crate::resource::path::descriptor_path(handle)?)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| Error::os("socket", errno.raw_os_error()))?;
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(Wire { socket, patience }),
            // As many wait for it as may; it takes the next one when it has time (connect(2)).
            Err(Errno::AGAIN) => {
                patience.check()?;
                let _ = rustix::event::poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 }));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(unreachable(errno)),
        }
    }
}

/// A connected socket.
pub struct Wire<'a> {
    socket: OwnedFd,
    pub patience: Patience<'a>,
}

impl<'a> Wire<'a> {
    fn open(to: SocketAddr, kind: SocketType, patience: Patience<'a>) -> Result<Self> {
        patience.check()?;
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket =
            rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None).map_err(|errno| match errno {
                Errno::AFNOSUPPORT => Error::new(Kind::Unavailable, "this host does not speak that protocol"),
                errno => Error::os("socket", errno.raw_os_error()),
            })?;
        match rustix::net::connect(&socket, &to) {
            Ok(()) => {}
            Err(Errno::INPROGRESS) => {
                patience.wait(&socket, PollFlags::OUT)?;
                rustix::net::sockopt::socket_error(&socket)?.map_err(|errno| unreachable(errno))?;
            }
            Err(errno) => return Err(unreachable(errno)),
        }
        Ok(Self { socket, patience })
    }
    /// What is there, up to the size of the buffer; 0 at the end.
    ///
    /// # Errors
    /// Those of the connection and of waiting.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.patience.wait(&self.socket, PollFlags::IN)?,
                Err(errno) => return Err(unreachable(errno)),
            }
        }
    }
    /// # Errors
    /// Those of the connection and of waiting.
    pub fn send(&self, bytes: &[u8]) -> Result<usize> {
        loop {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(length) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.patience.wait(&self.socket, PollFlags::OUT)?,
                Err(errno) => return Err(unreachable(errno)),
            }
        }
    }
    /// # Errors
    /// As [`Wire::send`].
    pub fn send_all(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let sent = self.send(bytes)?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }
}

impl io::Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer).map_err(io::Error::other)
    }
}

impl io::Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes).map_err(io::Error::other)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The error of a connection in the words of scripts.
fn unreachable(errno: Errno) -> Error {
    let kind = match errno {
        Errno::TIMEDOUT => Kind::Timeout,
        Errno::CONNREFUSED | Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE | Errno::NOTCONN => Kind::Unavailable,
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::HOSTDOWN | Errno::ADDRNOTAVAIL => Kind::Unavailable,
        errno => return Error::os("connect", errno.raw_os_error()),
    };
    Error { kind, ..Error::os("connect", errno.raw_os_error()) }
}

/// What went wrong inside of a reader or writer: an error of ours as it was, TLS in the words of [`tls`].
#[must_use]
pub fn told(error: io::Error) -> Error {
    if let Some(own) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return own.clone();
    }
    tls::told(&error)
}
