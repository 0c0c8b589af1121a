//! Limits of a run, and the watch that holds them: flags and counters that the script's thread, native calls and the supervisor share.

use crate::error::{Error, Kind, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a run may use. Configured per group in rex.toml; a request can only lower the wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall clock of the whole run.
    pub wall: Duration,
    /// CPU time of the rex process.
    pub cpu: Duration,
    /// Bytes allocated at one time by the script and the functions it calls.
    pub memory: u64,
    /// Bytes that the run may write to its caller.
    pub output: u64,
    /// Bytes of script text.
    pub script: u64,
    /// Steps of the script engine.
    pub operations: u64,
    /// Nested calls of script functions.
    pub depth: u32,
    /// Bytes of a file that is made or made longer, by the script or a program.
    pub file_size: u64,
    /// Files a script may hold open.
    pub open_files: u32,
    /// Child processes at one time.
    pub children: u32,
    /// Denied questions of a run; what a walk leaves out does not count.
    pub denials: u64,
}

/// A quantity in the unit that its limit has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    Seconds(f64),
    /// Bytes, or how many.
    Count(u64),
}

impl Amount {
    #[must_use]
    pub fn of_time(time: Duration) -> Self {
        Self::Seconds(time.as_secs_f64())
    }
    /// As a number, for comparing and dividing.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
    pub fn number(self) -> f64 {
        match self {
            Self::Seconds(seconds) => seconds,
            Self::Count(count) => count as f64,
        }
    }
}

/// One limit and what of it is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spent {
    /// As in rex.toml.
    pub name: &'static str,
    pub limit: Amount,
    pub now: Amount,
    /// The most that was used at one time so far.
    pub most: Amount,
}

/// The part of a limit after which a run is told that it comes near to it.
const NEAR: f64 = 0.8;
/// The limits that are told of: those that long or large work comes near to, and not those of what is used at one moment.
const TOLD: &[&str] = &["wall", "cpu", "memory", "output", "operations", "denials"];

impl Spent {
    /// Whether the run has come near this limit, if it is one that is told of.
    #[must_use]
    pub fn is_near(&self) -> bool {
        TOLD.contains(&self.name) && self.most.number() >= self.limit.number() * NEAR
    }
}

/// Why a run has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stop {
    Deadline = 1,
    Cpu = 2,
    Memory = 3,
    Output = 4,
    Operations = 5,
    /// The caller went away.
    Gone = 6,
    /// A signal asked rex to end.
    Signal = 7,
    /// The caller's permission to run ended (certificate expired, policy changed).
    Revoked = 8,
    /// Values nest deeper than the stack of the script's thread can follow.
    Nesting = 9,
    /// Too much was asked for that is not allowed.
    Denials = 10,
    /// Whoever sits at the prompt pressed Ctrl-C.
    Interrupt = 11,
    /// The session at a prompt has lasted as long as it may.
    Session = 12,
}

impl Stop {
    /// The limit that was reached, as in rex.toml; nothing where it was none of them.
    #[must_use]
    pub fn limit(self) -> Option<&'static str> {
        match self {
            Self::Deadline => Some("wall"),
            Self::Cpu => Some("cpu"),
            Self::Memory => Some("memory"),
            Self::Output => Some("output"),
            Self::Operations => Some("operations"),
            Self::Denials => Some("denials"),
            Self::Gone | Self::Signal | Self::Revoked | Self::Nesting | Self::Interrupt | Self::Session => None,
        }
    }
    fn of(code: u8) -> Option<Self> {
        [
            Self::Deadline,
            Self::Cpu,
            Self::Memory,
            Self::Output,
            Self::Operations,
            Self::Gone,
            Self::Signal,
            Self::Revoked,
            Self::Nesting,
            Self::Denials,
            Self::Interrupt,
            Self::Session,
        ]
        .into_iter()
        .find(|stop| *stop as u8 == code)
    }
    /// The error that a run ends with.
    #[must_use]
    pub fn error(self, limits: &Limits) -> Error {
        match self {
            Self::Deadline => Error::new(Kind::Deadline, format!("the time limit of {} s was reached", limits.wall.as_secs_f64())),
            Self::Cpu => Error::new(Kind::Limit, format!("the limit of {} s of CPU time was reached", limits.cpu.as_secs_f64())),
            Self::Memory => Error::new(Kind::Limit, format!("the memory limit of {} MiB was reached", limits.memory >> 20)),
            Self::Output => Error::new(Kind::Limit, format!("the output limit of {} bytes was reached", limits.output)),
            Self::Operations => Error::new(Kind::Limit, format!("the limit of {} operations was reached", limits.operations)),
            Self::Nesting => Error::new(Kind::Limit, "values nest too deep"),
            Self::Denials => Error::new(Kind::Limit, format!("the limit of {} denied operations was reached", limits.denials)),
            Self::Gone => Error::new(Kind::Cancelled, "the caller went away"),
            Self::Signal => Error::new(Kind::Cancelled, "the run was stopped by a signal"),
            Self::Revoked => Error::new(Kind::Cancelled, "the permission to run has ended"),
            Self::Interrupt => Error::new(Kind::Cancelled, "interrupted"),
            Self::Session => Error::new(Kind::Deadline, "the session has lasted as long as it may"),
        }
    }
}

/// The shared state of a run. Native calls ask [`Watch::check`] in every loop and before every wait.
#[derive(Debug)]
pub struct Watch {
    pub limits: Limits,
    /// When it was made.
    made: Instant,
    /// When the run began, in nanoseconds after that.
    begun: AtomicU64,
    /// Microseconds of processor time that were used before the run began.
    cpu_before: AtomicU64,
    /// When the caller's evidence expires.
    until: Option<std::time::SystemTime>,
    stop: AtomicU8,
    /// Set when any stop is set; one load in the hot path.
    stopped: AtomicBool,
    /// Set when the script has ended by its own doing while others of its threads may be at work.
    ended: AtomicBool,
    /// Steps of the engine so far, on all threads.
    operations: AtomicU64,
    /// Threads beside the script's own that are at work for it.
    branches: AtomicU32,
    output: AtomicU64,
    /// Denials of what was asked for itself: not of what a walk left out.
    denials: AtomicU64,
    open_files: AtomicU64,
    most_open_files: AtomicU64,
    /// Bytes of the script.
    script: AtomicU64,
    /// The deepest nesting of calls at which a function of rex was called.
    depth: AtomicU64,
    waiter: Mutex<Vec<std::thread::Thread>>,
}

impl Watch {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::since(limits, Instant::now())
    }
    /// With a clock that is running already.
    #[must_use]
    pub fn since(limits: Limits, started: Instant) -> Self {
        Self {
            limits,
            made: started,
            begun: AtomicU64::new(0),
            cpu_before: AtomicU64::new(0),
            until: None,
            stop: AtomicU8::new(0),
            stopped: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            branches: AtomicU32::new(0),
            output: AtomicU64::new(0),
            denials: AtomicU64::new(0),
            open_files: AtomicU64::new(0),
            most_open_files: AtomicU64::new(0),
            script: AtomicU64::new(0),
            depth: AtomicU64::new(0),
            waiter: Mutex::new(Vec::new()),
        }
    }
    /// Ends the run at this moment too: the caller's certificate expires.
    #[must_use]
    pub fn until(mut self, moment: Option<std::time::SystemTime>) -> Self {
        self.until = moment;
        self
    }
    /// Whether the caller's evidence has expired.
    #[must_use]
    pub fn expired(&self) -> bool {
        self.until.is_some_and(|until| std::time::SystemTime::now() >= until)
    }
    /// Begins anew with the next entry of a session, of which `cpu` was used so far. What the session holds on to goes on: open files, and denials, so
    /// that nobody finds out by trying, entry by entry, what is there. No thread of the entry before may be at work any more.
    pub fn again(&self, cpu: Duration) {
        self.begun.store(u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
        self.cpu_before.store(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
        for count in [&self.operations, &self.output, &self.script, &self.depth] {
            count.store(0, Ordering::SeqCst);
        }
        self.most_open_files.store(self.open_files.load(Ordering::SeqCst), Ordering::SeqCst);
        self.ended.store(false, Ordering::SeqCst);
        self.stop.store(0, Ordering::SeqCst);
        self.stopped.store(false, Ordering::SeqCst);
    }
    #[must_use]
    pub fn started(&self) -> Instant {
        self.made + Duration::from_nanos(self.begun.load(Ordering::Relaxed))
    }
    /// Processor time of this run, when that of the process is `cpu`.
    #[must_use]
    pub fn cpu_of(&self, cpu: Duration) -> Duration {
        cpu.saturating_sub(Duration::from_micros(self.cpu_before.load(Ordering::Relaxed)))
    }
    /// Time left until the deadline.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.limits.wall.saturating_sub(self.started().elapsed())
    }
    /// Time left until the run comes near the deadline; longer than any run when it is past that.
    #[must_use]
    pub fn until_near(&self) -> Duration {
        self.limits.wall.mul_f64(NEAR).checked_sub(self.started().elapsed()).unwrap_or(Duration::MAX)
    }
    /// Ends the run for this reason, unless it is ending already; wakes sleepers.
    pub fn stop(&self, why: Stop) {
        if self.stop.compare_exchange(0, why as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.stopped.store(true, Ordering::SeqCst);
            self.wake();
        }
    }
    fn wake(&self) {
        if let Ok(waiters) = self.waiter.lock() {
            waiters.iter().for_each(std::thread::Thread::unpark);
        }
    }
    /// Says that the script has ended by its own doing: with `exit`, or with an error that no script may catch. Every thread of it ends at its next
    /// check; sleepers wake. True for the first who says so.
    pub fn end(&self) -> bool {
        let first = !self.ended.swap(true, Ordering::SeqCst);
        self.wake();
        first
    }
    /// Whether the script has ended, see [`Watch::end`].
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
    /// Counts a step of the engine on this thread; beyond the limit the run ends. Rhai itself counts anew in each closure that a function calls.
    pub fn step(&self) {
        let due = STEPS.try_with(|steps| {
            let count = steps.get() + 1;
            steps.set(if count < STEPS_AT_ONCE { count } else { 0 });
            count
        });
        if due.is_ok_and(|count| count >= STEPS_AT_ONCE) {
            self.count_operations(STEPS_AT_ONCE);
        }
    }
    /// Counts what [`Watch::step`] has not yet: before a thread ends.
    pub fn settle(&self) {
        if let Ok(count) = STEPS.try_with(|steps| steps.replace(0)) {
            self.count_operations(count);
        }
    }
    fn count_operations(&self, count: u32) {
        let before = self.operations.fetch_add(count.into(), Ordering::Relaxed);
        if self.limits.operations > 0 && before.saturating_add(count.into()) > self.limits.operations {
            self.stop(Stop::Operations);
        }
    }
    /// Takes so many threads for branches of the script, or as many as are left; give them back with [`Watch::give_branches`].
    #[must_use]
    pub fn take_branches(&self, wanted: u32) -> u32 {
        let take = |taken: u32| Some(taken + wanted.min((MAX_BRANCHES - 1).saturating_sub(taken)));
        let before = self.branches.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).unwrap_or(0);
        wanted.min((MAX_BRANCHES - 1).saturating_sub(before))
    }
    pub fn give_branches(&self, count: u32) {
        self.branches.fetch_sub(count, Ordering::SeqCst);
    }
    /// Why the run has to stop, if it has to.
    #[must_use]
    pub fn stopping(&self) -> Option<Stop> {
        if self.stopped.load(Ordering::Relaxed) { Stop::of(self.stop.load(Ordering::SeqCst)) } else { None }
    }
    /// # Errors
    /// The reason, when the run has to stop.
    pub fn check(&self) -> Result<()> {
        match self.stopping() {
            None if self.ended() => Err(Error::new(Kind::Cancelled, "the script has ended")),
            None => Ok(()),
            Some(why) => Err(why.error(&self.limits)),
        }
    }
    /// Waits so long, or until the run has to stop.
    ///
    /// # Errors
    /// The reason, when the run has to stop.
    pub fn sleep(&self, time: Duration) -> Result<()> {
        if let Ok(mut waiters) = self.waiter.lock() {
            waiters.push(std::thread::current());
        }
        let end = Instant::now() + time.min(Duration::from_secs(u32::MAX.into()));
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::park_timeout(left.min(Duration::from_millis(500)));
        }
        let me = std::thread::current().id();
        if let Ok(mut waiters) = self.waiter.lock() {
            waiters.retain(|thread| thread.id() != me);
        }
        Ok(())
    }
    /// Counts bytes going to the caller.
    ///
    /// # Errors
    /// [`Kind::Limit`] when that is more than allowed; nothing of these bytes may be written then.
    pub fn count_output(&self, bytes: u64) -> Result<()> {
        if self.output.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes) > self.limits.output {
            self.stop(Stop::Output);
            return Err(Stop::Output.error(&self.limits));
        }
        Ok(())
    }
    /// Bytes that went to the caller so far.
    #[must_use]
    pub fn output_so_far(&self) -> u64 {
        self.output.load(Ordering::Relaxed)
    }
    /// Takes one of the open files a script may hold; give it back with [`Watch::file_closed`].
    ///
    /// # Errors
    /// [`Kind::Limit`] when all are taken.
    pub fn file_opened(&self) -> Result<()> {
        let before = self.open_files.fetch_add(1, Ordering::SeqCst);
        if before < u64::from(self.limits.open_files) {
            self.most_open_files.fetch_max(before + 1, Ordering::Relaxed);
        } else {
            self.file_closed();
            return Err(Error::new(Kind::Limit, format!("the limit of {} open files was reached", self.limits.open_files)));
        }
        Ok(())
    }
    pub fn file_closed(&self) {
        self.open_files.fetch_sub(1, Ordering::SeqCst);
    }
    /// How long the script is, in bytes.
    pub fn note_script(&self, bytes: u64) {
        self.script.store(bytes, Ordering::Relaxed);
    }
    /// How deep the calls of script functions are nested at this moment.
    pub fn note_depth(&self, level: u64) {
        self.depth.fetch_max(level, Ordering::Relaxed);
    }
    /// Counts a denial of what was asked for itself; with one more than the limit the run ends.
    ///
    /// # Errors
    /// [`Kind::Limit`], when that is one too many.
    pub fn count_denial(&self) -> Result<()> {
        if self.denials.fetch_add(1, Ordering::SeqCst) < self.limits.denials {
            return Ok(());
        }
        self.stop(Stop::Denials);
        Err(Stop::Denials.error(&self.limits))
    }
    /// The limits whose use is counted here. What the kernel, the allocator and programs use is counted in [`crate::sys::spent`].
    #[must_use]
    pub fn counted(&self) -> [Spent; 7] {
        let of = |count: &AtomicU64| Amount::Count(count.load(Ordering::Relaxed));
        let row = |name, limit, used| Spent { name, limit, now: used, most: used };
        let limits = &self.limits;
        [
            row("wall", Amount::of_time(limits.wall), Amount::of_time(self.started().elapsed())),
            row("output", Amount::Count(limits.output), of(&self.output)),
            row("script", Amount::Count(limits.script), of(&self.script)),
            row("operations", Amount::Count(limits.operations), of(&self.operations)),
            row("depth", Amount::Count(limits.depth.into()), of(&self.depth)),
            row("denials", Amount::Count(limits.denials), of(&self.denials)),
            Spent { most: of(&self.most_open_files), ..row("open_files", Amount::Count(limits.open_files.into()), of(&self.open_files)) },
        ]
    }
}

/// How many threads of a script work at one time, its own among them.
pub const MAX_BRANCHES: u32 = 16;

/// Steps that a thread counts for itself before it adds them to those of the run.
const STEPS_AT_ONCE: u32 = 256;

thread_local! {
    /// Steps of this thread that are not yet counted for the run.
    static STEPS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    /// Whether this thread runs script code, and so is held to the memory limit.
    static LIMITED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Holds the calling thread to the memory limit.
pub fn limit_this_thread() {
    LIMITED.with(|limited| limited.set(true));
}

/// Whether the calling thread is held to the memory limit.
#[must_use]
pub fn is_limited() -> bool {
    LIMITED.try_with(std::cell::Cell::get).unwrap_or(false)
}

/// Until dropped, the calling thread is not held to the memory limit: for short work under a lock that the supervisor needs too.
#[must_use]
pub fn exempt() -> Exempt {
    Exempt { was: LIMITED.try_with(|limited| limited.replace(false)).unwrap_or(false) }
}

/// See [`exempt`].
#[derive(Debug)]
pub struct Exempt {
    was: bool,
}

impl Drop for Exempt {
    fn drop(&mut self) {
        let was = self.was;
        let _ = LIMITED.try_with(|limited| limited.set(was));
    }
}
