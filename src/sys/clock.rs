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
