//! The clock: what time it is, for records and results; how it is kept, for scripts.

use crate::error::Result;
use crate::policy::{Action, Granted};
use crate::resource::machine::Machine;

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

/// How the clock is kept (adjtimex(2)). What keeps it, if anything does, tells the kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kept {
    /// Whether something keeps it right: NTP, PTP or a hypervisor.
    pub synchronized: bool,
    /// What is still to be set right, in seconds.
    pub offset: f64,
    /// How far off it can be and is thought to be, in seconds.
    pub max_error: f64,
    pub estimated_error: f64,
    /// By how much it is made faster, in millionths.
    pub frequency_ppm: f64,
    /// Seconds that TAI is ahead of UTC, where the kernel was told.
    pub tai_offset: i64,
    /// insert or delete: a leap second at the end of the day.
    pub leap: Option<&'static str>,
}

/// Asks the kernel how it keeps the clock. Changes nothing.
///
/// # Errors
/// What adjtimex(2) reports.
pub fn kept<A: Action<On = Machine>>(_: &Granted<A>) -> Result<Kept> {
    #[expect(unsafe_code, reason = "adjtimex(2) is in no safe crate of the graph")]
    // SAFETY: all zeroes is a valid timex, whose `modes` 0 changes nothing; the kernel writes one to the address of a live local.
    let (state, told) = unsafe {
        let mut told = std::mem::MaybeUninit::<libc::timex>::zeroed();
        let state = libc::adjtimex(told.as_mut_ptr());
        (state, told.assume_init())
    };
    if state < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let nanos = told.status & libc::STA_NANO != 0;
    #[allow(clippy::cast_precision_loss, clippy::unnecessary_cast, reason = "figures for people; the fields differ between architectures")]
    let (micro, offset, ppm) = (
        |value: libc::c_long| value as f64 / 1e6,
        told.offset as f64 / if nanos { 1e9 } else { 1e6 },
        // With 16 bits behind the point.
        told.freq as f64 / 65_536.0,
    );
    Ok(Kept {
        synchronized: told.status & libc::STA_UNSYNC == 0 && state != libc::TIME_ERROR,
        offset,
        max_error: micro(told.maxerror),
        estimated_error: micro(told.esterror),
        frequency_ppm: ppm,
        tai_offset: told.tai.into(),
        leap: if told.status & libc::STA_INS != 0 {
            Some("insert")
        } else if told.status & libc::STA_DEL != 0 {
            Some("delete")
        } else {
            None
        },
    })
}

/// The zone of this host: its name where it has one, what it is called now, seconds east of UTC, whether it is summer time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    pub name: Option<String>,
    pub abbreviation: String,
    pub offset: i64,
    pub summer: bool,
}

/// The zone that `/etc/localtime` names. UTC where it names none.
#[must_use]
pub fn zone<A: Action<On = Machine>>(_: &Granted<A>) -> Zone {
    let zone = jiff::tz::TimeZone::try_system().unwrap_or(jiff::tz::TimeZone::UTC);
    let info = zone.to_offset_info(jiff::Timestamp::now());
    Zone {
        name: zone.iana_name().map(str::to_owned),
        abbreviation: info.abbreviation().to_owned(),
        offset: info.offset().seconds().into(),
        summer: info.dst().is_dst(),
    }
}
