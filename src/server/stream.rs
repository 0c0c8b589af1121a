//! The connection as the SSH library sees it: a TCP stream that can be held (back-pressure) and cut from outside.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// The window that a channel is given, as long as sessions take their input.
pub const WINDOW: u32 = 1 << 20;
/// The window once [`LOW`] bytes wait: what the client still sends then lies between us and what it says about our output.
const NARROW: u32 = 64 << 10;
/// Bytes of input that the sessions of one connection have not taken yet. Over `LOW` the window narrows; over `HIGH` (more than `LOW` and
/// the windows given before) the stream is only sipped from; over `HARD` nothing more is read.
const LOW: usize = 256 << 10;
const HIGH: usize = 2 << 20;
const HARD: usize = 4 << 20;
/// Bytes read from a held stream per [`LOOK`].
const SIP: usize = 64 << 10;
/// How often a held stream is sipped from, and looked at for a client that has gone.
const LOOK: Duration = Duration::from_millis(50);
/// How long a client that was told goodbye may take to close. Closing at once could answer its last packet with a reset.
const FAREWELL: Duration = Duration::from_secs(1);

/// What sessions and the server do to a connection's stream.
///
/// The SSH library widens a channel's window as data arrives, not as it is consumed, and hands the data over in the one task that also
/// sends; waiting there for a slow session would stop its output too, and the two would wait for each other. So data is queued
/// without waiting, counted here, and the stream is held while the count is high: TCP then slows the client down.
///
/// A held stream must not be shut altogether, because the client's permission to send it more output comes by the same way, behind
/// its data: a session that waits for that permission before it takes input would wait for ever. Hence the narrow window and the sips.
/// A client whose session takes nothing at all ends up at `HARD`, where its answers to keepalives do not arrive either, and is cut off.
#[derive(Debug, Default)]
pub struct Flow {
    queued: AtomicUsize,
    cut: AtomicBool,
    reader: Mutex<Option<Waker>>,
    writer: Mutex<Option<Waker>>,
}

/// A number of queued bytes, given back when dropped.
#[derive(Debug)]
pub struct Credit {
    flow: Arc<Flow>,
    bytes: usize,
}

impl Flow {
    /// Counts `bytes` as queued until the credit is dropped.
    #[must_use]
    pub fn queue(self: &Arc<Self>, bytes: usize) -> Credit {
        self.queued.fetch_add(bytes, Ordering::SeqCst);
        Credit { flow: Arc::clone(self), bytes }
    }

    /// Ends the connection: reads and writes fail from now on.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        wake(&self.reader);
        wake(&self.writer);
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// The window to offer next.
    #[must_use]
    pub fn window(&self) -> u32 {
        if self.queued() > LOW { NARROW } else { WINDOW }
    }

    fn queued(&self) -> usize {
        self.queued.load(Ordering::SeqCst)
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        let before = self.flow.queued.fetch_sub(self.bytes, Ordering::SeqCst);
        if before > HIGH && before - self.bytes <= HIGH {
            wake(&self.flow.reader);
        }
    }
}

fn wake(place: &Mutex<Option<Waker>>) {
    if let Some(waker) = place.lock().unwrap_or_else(PoisonError::into_inner).take() {
        waker.wake();
    }
}

fn remember(place: &Mutex<Option<Waker>>, context: &Context<'_>) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
}

fn was_cut() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionAborted)
}

/// The stream of one connection, obeying its [`Flow`].
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    flow: Arc<Flow>,
    look: Pin<Box<Sleep>>,
    /// Bytes that may still be read from a held stream before the next look.
    sip: usize,
    closing: bool,
}

impl Stream {
    #[must_use]
    pub fn new(tcp: TcpStream, flow: Arc<Flow>) -> Self {
        Self { tcp, flow, look: Box::pin(tokio::time::sleep(LOOK)), sip: 0, closing: false }
    }

    /// Whether the client has closed its side, seen without reading what it sent before (poll(2), POLLRDHUP).
    fn client_is_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.tcp, PollFlags::RDHUP)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let polled = rustix::event::poll(&mut fds, Some(&now));
        polled.is_ok_and(|count| count > 0)
            && fds.iter().any(|fd| fd.revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        remember(&self.flow.reader, context);
        if self.flow.is_cut() {
            return Poll::Ready(Err(was_cut()));
        }
        if self.closing && self.look.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(was_cut()));
        }
        let held = self.flow.queued() > HIGH && !self.closing;
        while held && self.sip == 0 {
            if self.look.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.look.as_mut().reset(tokio::time::Instant::now() + LOOK);
            if self.client_is_gone() {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
            }
            self.sip = if self.flow.queued() > HARD { 0 } else { SIP };
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(context, buffer);
        self.sip = self.sip.saturating_sub(buffer.filled().len().saturating_sub(before));
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        remember(&self.flow.writer, context);
        if self.flow.is_cut() {
            return Poll::Ready(Err(was_cut()));
        }
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    /// The library calls it when either side has said goodbye, and would then wait for the client to close; not for long.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            self.closing = true;
            self.look.as_mut().reset(tokio::time::Instant::now() + FAREWELL);
        }
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
