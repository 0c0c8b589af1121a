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
