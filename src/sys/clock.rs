//! The clock: what time it is, for records and results.

/// Now, UTC, RFC 3339 with microseconds.
#[must_use]
pub fn now_rfc3339() -> String {
    let now = jiff::Timestamp::now();
    format!("{now:.6}")
}

/// Now, in milliseconds since the epoch.
#[must_use]
pub fn now_millis() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// When the clock of the kernel's messages began, in microseconds since 1970: the machine's start, later by what it slept.
#[must_use]
pub fn start_us() -> i64 {
    let running = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let up = running.tv_sec.saturating_mul(1_000_000).saturating_add(running.tv_nsec / 1000);
    jiff::Timestamp::now().as_microsecond().saturating_sub(up)
}

/// Whether something (ntpd, chrony, timesyncd) keeps the clock right, as the kernel was told; None where it does not say.
#[must_use]
pub fn is_synchronised() -> Option<bool> {
    let mut told = std::mem::MaybeUninit::<libc::timex>::zeroed();
    #[expect(unsafe_code, reason = "rustix has no such call")]
    // SAFETY: the memory is that of a whole timex; with `modes` 0, as zeroed, the call changes nothing but it (adjtimex(2)).
    let state = unsafe { libc::adjtimex(told.as_mut_ptr()) };
    if state < 0 { None } else { Some(state != libc::TIME_ERROR) }
}

/// Seconds since the machine started, time asleep included.
#[must_use]
pub fn seconds_up() -> f64 {
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    #[allow(clippy::cast_precision_loss, reason = "exact for ages")]
    let seconds = up.tv_sec as f64 + up.tv_nsec as f64 / 1e9;
    seconds
}
