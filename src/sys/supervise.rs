//! The supervisor: the script runs on a thread of its own, while this one watches the caller, the clock, the processor, memory and signals, and has the last word.

use crate::error::{Error, Kind, Result};
use crate::limits::{Stop, Watch};
use crate::sys::memory;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Room for the deepest nesting of calls and expressions that the engine's limits allow, with the large frames of unoptimised builds.
pub(super) const STACK: usize = 64 << 20;
/// How long a run that was told to end may take before it is left behind; the process then ends with it.
const GRACE: Duration = Duration::from_millis(400);
/// The same at a prompt, where the process is to go on.
const GRACE_AT_A_PROMPT: Duration = Duration::from_secs(3);
/// How often processor time is looked at.
const TICK: Duration = Duration::from_millis(200);

/// How the script's thread ended.
pub enum Ended<T> {
    /// By itself, perhaps because it was told to.
    Finished(T),
    /// Not in time after it was told to, or parked by the memory limit. The process must end without waiting for it.
    Abandoned(Stop),
}

/// Runs the job on a thread of its own under the limits of the watch.
///
/// # Errors
/// When the kernel gives no thread or descriptor.
pub fn supervise<T: Send + 'static>(watch: &Arc<Watch>, job: impl FnOnce() -> T + Send + 'static) -> Result<Ended<T>> {
    supervise_with(watch, job, Around { beside: None, look: &mut || {}, session: None })
}

/// What goes on beside a run that lasts: after so long, on a thread of its own, until it ends with the watch.
pub type Beside = (Duration, Box<dyn FnOnce() + Send>);

/// What goes on around a run.
pub struct Around<'a> {
    pub beside: Option<Beside>,
    /// Called on the supervising thread now and then, while the run goes on; it must not wait for anything.
    pub look: &'a mut dyn FnMut(),
    /// Of a session at a prompt: its signals. Of them SIGINT ends the run alone. The memory limit has been set before, for all entries together.
    pub session: Option<&'a Signals>,
}

/// The same, with something around it.
///
/// # Errors
/// As [`supervise`].
pub fn supervise_with<T: Send + 'static>(
    watch: &Arc<Watch>,
    job: impl FnOnce() -> T + Send + 'static,
    around: Around<'_>,
) -> Result<Ended<T>> {
    let Around { mut beside, look, session } = around;
    let own;
    let signals = match session {
        Some(signals) => signals,
        None => {
            own = Signals::block()?;
            &own
        }
    };
    let grace = if session.is_some() { GRACE_AT_A_PROMPT } else { GRACE };
    let done = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let wake = rustix::io::fcntl_dupfd_cloexec(&done, 3)?;
    if session.is_some() {
        memory::again(wake);
    } else {
        memory::limit(watch.limits.memory, wake);
    }
    let tell = rustix::io::fcntl_dupfd_cloexec(&done, 3)?;
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("script".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            crate::limits::limit_this_thread();
            let _ = super::overflow::watch_this_thread(STACK);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            let _exempt = crate::limits::exempt();
            let _ = send.send(result);
            let _ = rustix::io::write(&tell, &1u64.to_ne_bytes());
        })
        .map_err(|error| Error::new(Kind::Internal, format!("the kernel gave no thread: {error}")))?;
    let mut told: Option<Instant> = None;
    loop {
        match receive.try_recv() {
            Ok(Ok(result)) => return Ok(Ended::Finished(result)),
            // What no address space can hold ends in a panic of the standard library before it is asked of the allocator.
            Ok(Err(panic)) if is_capacity_overflow(&panic) => {
                watch.stop(Stop::Memory);
                return Ok(Ended::Abandoned(watch.stopping().unwrap_or(Stop::Memory)));
            }
            Ok(Err(_)) => return Err(Error::new(Kind::Internal, "a function failed in a way it never should")),
            Err(std::sync::mpsc::TryRecvError::Disconnected) => return Err(Error::new(Kind::Internal, "the script's thread vanished")),
            Err(std::sync::mpsc::TryRecvError::Empty) => {}
        }
        if memory::parked() {
            watch.stop(if memory::stack_used_up() { Stop::Nesting } else { Stop::Memory });
            return Ok(Ended::Abandoned(watch.stopping().unwrap_or(Stop::Memory)));
        }
        if let Some((_, act)) = beside.take_if(|(after, _)| watch.started().elapsed() >= *after) {
            // Short runs, which are most, pay for no thread.
            std::thread::spawn(act);
        }
        if let Some(why) = watch.stopping() {
            let since = *told.get_or_insert_with(Instant::now);
            if since.elapsed() >= grace {
                return Ok(Ended::Abandoned(why));
            }
        } else if watch.expired() {
            watch.stop(Stop::Revoked);
            continue;
        } else if watch.remaining().is_zero() {
            watch.stop(Stop::Deadline);
            continue;
        } else if watch.cpu_of(super::spent::cpu()) > watch.limits.cpu {
            watch.stop(Stop::Cpu);
            continue;
        } else {
            look();
        }
        let wait = if told.is_some() || watch.stopping().is_some() {
            Duration::from_millis(20)
        } else {
            watch.until_near().min(watch.remaining()).min(TICK).max(Duration::from_millis(1))
        };
        wait_for(watch, signals, session.is_some(), &done, wait);
    }
}

/// Whether a panic is that of the standard library for more than any address space can hold.
pub(super) fn is_capacity_overflow(panic: &Box<dyn std::any::Any + Send>) -> bool {
    panic.downcast_ref::<&str>().is_some_and(|text| text.contains("capacity overflow"))
}

/// Waits for anything to happen; tells the watch what did.
fn wait_for(watch: &Watch, signals: &Signals, at_a_prompt: bool, done: &OwnedFd, time: Duration) {
    let stdout = rustix::stdio::stdout();
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    let mut fds = [PollFd::new(&signals.fd, PollFlags::IN), PollFd::new(done, PollFlags::IN), PollFd::new(&stdout, PollFlags::empty())];
    // While the run is ending, a caller that is gone would make poll return at once, again and again.
    let count = if watch.stopping().is_some() { 2 } else { 3 };
    let time = Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(1), tv_nsec: time.subsec_nanos().into() };
    let Some(watched) = fds.get_mut(..count) else { return };
    if rustix::event::poll(watched, Some(&time)).is_err() {
        return;
    }
    let [signal, finished, caller] = fds.map(|fd| fd.revents());
    if finished.contains(PollFlags::IN) {
        let _ = rustix::io::read(done, &mut [0u8; 8]);
    }
    if signal.contains(PollFlags::IN) {
        match signals.next() {
            Some(libc::SIGINT) if at_a_prompt => watch.stop(Stop::Interrupt),
            Some(libc::SIGQUIT | libc::SIGTTOU) if at_a_prompt => {}
            Some(libc::SIGTTOU) | None => {}
            Some(_) => watch.stop(Stop::Signal),
        }
    }
    // There is no signal when an SSH client goes away: only the other end of stdout is closed.
    if count == 3 && caller.intersects(gone) {
        watch.stop(Stop::Gone);
    }
}

/// The signals that ask a process to end, as a descriptor that reports them. Threads that are started later inherit the block.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// # Errors
    /// When the kernel gives no descriptor.
    pub fn block() -> Result<Self> {
        Self::of(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT])
    }

    /// The same for a session at a prompt, which takes the terminal over.
    ///
    /// # Errors
    /// As [`Signals::block`].
    pub fn block_at_a_prompt() -> Result<Self> {
        Self::of(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGTTOU])
    }

    fn of(signals: &[libc::c_int]) -> Result<Self> {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        #[expect(unsafe_code, reason = "signalfd(2) is in no safe crate of the graph")]
        // SAFETY: sigemptyset(3) initialises the set that the others then use; the pointers are to a live local; signalfd gives a new descriptor that nothing else owns.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), *signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(std::io::Error::last_os_error().into());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { fd })
    }

    /// The number of a signal that came, if one did.
    #[must_use]
    pub fn next(&self) -> Option<libc::c_int> {
        // signalfd_siginfo of signalfd(2): the number comes first.
        let mut info = [0u8; 128];
        let count = rustix::io::read(&self.fd, &mut info).ok()?;
        let number = info.first_chunk::<4>().filter(|_| count >= 4).map(|bytes| u32::from_ne_bytes(*bytes))?;
        libc::c_int::try_from(number).ok()
    }

    /// Readable when a signal came.
    #[must_use]
    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
