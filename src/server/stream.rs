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

/// Bytes of input that the sessions of one connection have not taken yet, beyond which nothing more is read from the client.
const HIGH: usize = 1 << 20;
/// How often a held connection is looked at for a client that has gone.
const LOOK: Duration = Duration::from_millis(250);
/// How long a client that was told goodbye may take to close. Closing at once could answer its last packet with a reset.
const FAREWELL: Duration = Duration::from_secs(1);

/// What sessions and the server do to a connection's stream.
///
/// The SSH library widens a channel's window as data arrives, not as it is consumed, and hands the data over in the one task that also
/// sends; waiting there for a slow session would stop its output too, and the two would wait for each other. So data is queued
/// without waiting, counted here, and the stream gives nothing more while the count is over [`HIGH`]: TCP then slows the client down.
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

    fn is_held(&self) -> bool {
        self.queued.load(Ordering::SeqCst) > HIGH
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
    closing: bool,
}

impl Stream {
    #[must_use]
    pub fn new(tcp: TcpStream, flow: Arc<Flow>) -> Self {
        Self { tcp, flow, look: Box::pin(tokio::time::sleep(LOOK)), closing: false }
    }

    /// Whether the client has closed its side, seen without reading what it sent before (poll(2), POLLRDHUP).
    fn client_is_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.tcp, PollFlags::RDHUP)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let polled = rustix::event::poll(&mut fds, Some(&now));
        polled.is_ok_and(|count| count > 0) && fds.iter().any(|fd| fd.revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR))
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
        while self.flow.is_held() && !self.closing {
            if self.look.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if self.client_is_gone() {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
            }
            self.look.as_mut().reset(tokio::time::Instant::now() + LOOK);
        }
        Pin::new(&mut self.tcp).poll_read(context, buffer)
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
