//! A point in time as scripts hold it: always UTC, to the nanosecond.

use crate::error::{Error, Kind, Result, bad_argument};
use jiff::{Timestamp, civil, tz::TimeZone};

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DateTime(pub Timestamp);

impl std::fmt::Display for DateTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn out_of_range() -> Error {
    bad_argument("a point in time outside the years -9999 to 9999")
}

/// A zone of the IANA database.
///
/// # Errors
/// [`Kind::BadArgument`] when this host has none of that name.
pub fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| bad_argument(format!("no time zone `{}` on this host", name.escape_debug())))
}

/// Spans of the calendar and the clock, as a script gives them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shift {
    pub years: i64,
    pub months: i64,
    pub weeks: i64,
    pub days: i64,
    pub hours: i64,
    pub minutes: i64,
    pub seconds: i64,
}

impl DateTime {
    /// From the calendar, UTC.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] when there is no such day or time.
    pub fn new(year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64, nanos: i64) -> Result<Self> {
        let small = |number: i64, what: &str| i8::try_from(number).map_err(|_| bad_argument(format!("there is no {what} {number}")));
        let year16 = i16::try_from(year).map_err(|_| out_of_range())?;
        let nanos = i32::try_from(nanos).map_err(|_| bad_argument("nanoseconds go from 0 to 999,999,999"))?;
        let time = civil::DateTime::new(
            year16,
            small(month, "month")?,
            small(day, "day")?,
            small(hour, "hour")?,
            small(minute, "minute")?,
            small(second, "second")?,
            nanos,
        )
        .map_err(|_| bad_argument(format!("there is no {year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")))?;
        Ok(Self(TimeZone::UTC.to_timestamp(time).map_err(|_| out_of_range())?))
    }
    /// From seconds since 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] outside the years -9999 to 9999.
    pub fn from_epoch(seconds: i64, nanos: i64) -> Result<Self> {
        let nanos = i32::try_from(nanos)
            .ok()
            .filter(|nanos| (0..1_000_000_000).contains(nanos))
            .ok_or_else(|| bad_argument("nanoseconds go from 0 to 999,999,999"))?;
        Timestamp::new(seconds, nanos).map(Self).map_err(|_| out_of_range())
    }
    /// From text: RFC 3339 (with its offset), RFC 2822, or a strptime(3) format.
    ///
    /// # Errors
    /// [`Kind::BadData`] when it is not in that form.
    pub fn parse(text: &str, format: Option<&str>) -> Result<Self> {
        Self::parse_in(text, format, &TimeZone::UTC)
    }
    /// The same, where text of a strptime(3) format without an offset is in this zone.
    ///
    /// # Errors
    /// As [`DateTime::parse`].
    pub fn parse_in(text: &str, format: Option<&str>, zone: &TimeZone) -> Result<Self> {
        let wrong = |form: &str| Error::new(Kind::BadData, format!("not a point in time in the form {form}"));
        match format {
            // A civil time is taken as one of UTC, but not one that names another zone.
            None if !text.contains('[') && text.parse::<Timestamp>().is_err() => {
                let civil: civil::DateTime =
                    text.parse().map_err(|_| wrong("of RFC 3339, e.g. `2026-01-31T14:30:00+05:00`, or `2026-01-31 14:30:00`"))?;
                Ok(Self(TimeZone::UTC.to_timestamp(civil).map_err(|_| out_of_range())?))
            }
            None | Some("RFC3339") => text.parse().map(Self).map_err(|_| wrong("of RFC 3339, e.g. `2026-01-31T14:30:00+05:00`")),
            Some("RFC2822") => jiff::fmt::rfc2822::parse(text).map(|time| Self(time.timestamp())).map_err(|_| wrong("of RFC 2822")),
            Some(format) => {
                let broken = jiff::fmt::strtime::parse(format, text).map_err(|_| wrong(&format!("`{}`", format.escape_debug())))?;
                if let Ok(time) = broken.to_timestamp() {
                    return Ok(Self(time));
                }
                let civil = broken.to_datetime().map_err(|_| wrong(&format!("`{}`", format.escape_debug())))?;
                Ok(Self(zone.to_timestamp(civil).map_err(|_| out_of_range())?))
            }
        }
    }
    /// In a strftime(3) format, in a zone of the IANA database (UTC without one).
    ///
    /// # Errors
    /// [`Kind::BadArgument`] for an unknown zone or conversion.
    pub fn format(&self, format: &str, zone: Option<&str>) -> Result<String> {
        let zone = zone.map_or(Ok(TimeZone::UTC), self::zone)?;
        jiff::fmt::strtime::format(format, &self.0.to_zoned_datetime(zone))
            .map_err(|_| bad_argument(format!("`{}` is not a strftime format", format.escape_debug())))
    }
    /// Later (or earlier) by so many seconds.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] outside the years -9999 to 9999.
    pub fn plus(&self, seconds: i64) -> Result<Self> {
        self.0.checked_add(jiff::SignedDuration::from_secs(seconds)).map(Self).map_err(|_| out_of_range())
    }
    /// Later (or earlier) by spans of the calendar: a month later is the same day of the next month, or its last day.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] outside the years -9999 to 9999.
    pub fn shift(&self, by: Shift, zone: &TimeZone) -> Result<Self> {
        // Each unit on its own: jiff gives all parts of one span the same sign.
        let sum = |parts: &[(i64, i64)]| {
            parts.iter().try_fold(0i64, |sum, (count, size)| sum.checked_add(count.checked_mul(*size)?)).ok_or_else(out_of_range)
        };
        let months = jiff::Span::new().try_months(sum(&[(by.years, 12), (by.months, 1)])?).map_err(|_| out_of_range())?;
        let days = jiff::Span::new().try_days(sum(&[(by.weeks, 7), (by.days, 1)])?).map_err(|_| out_of_range())?;
        let seconds = sum(&[(by.hours, 3600), (by.minutes, 60), (by.seconds, 1)])?;
        let time = self.0.to_zoned_datetime(zone.clone()).checked_add(months).and_then(|time| time.checked_add(days));
        Self(time.map_err(|_| out_of_range())?.timestamp()).plus(seconds)
    }
    /// The beginning of the minute, hour, day, week (Monday), month or year that it is in.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] for another word.
    pub fn truncate(&self, to: &str, zone: &TimeZone) -> Result<Self> {
        let now = zone.to_datetime(self.0);
        let date = now.date();
        let begin = match to {
            "second" => now.with().subsec_nanosecond(0).build(),
            "minute" => now.with().second(0).subsec_nanosecond(0).build(),
            "hour" => now.with().minute(0).second(0).subsec_nanosecond(0).build(),
            "day" => Ok(date.at(0, 0, 0, 0)),
            "week" => {
                date.checked_sub(jiff::Span::new().days(i64::from(date.weekday().to_monday_zero_offset()))).map(|date| date.at(0, 0, 0, 0))
            }
            "month" => Ok(date.first_of_month().at(0, 0, 0, 0)),
            "year" => Ok(date.first_of_year().at(0, 0, 0, 0)),
            _ => return Err(bad_argument("expected `second`, `minute`, `hour`, `day`, `week`, `month` or `year`")),
        };
        let begin = begin.map_err(|_| out_of_range())?;
        // Within an hour that a clock change repeats, or that is cut by one, the clock's own reading says which it is.
        if matches!(to, "second" | "minute" | "hour") {
            let offset = zone.to_offset(self.0);
            return offset.to_timestamp(begin).map(Self).map_err(|_| out_of_range());
        }
        zone.to_timestamp(begin).map(Self).map_err(|_| out_of_range())
    }
    /// What a calendar and a clock in that zone show.
    #[must_use]
    pub fn zoned(&self, zone: TimeZone) -> jiff::ZonedDateTime {
        self.0.to_zoned_datetime(zone)
    }
    /// The calendar fields, UTC.
    #[must_use]
    pub fn civil(&self) -> civil::DateTime {
        TimeZone::UTC.to_datetime(self.0)
    }
}
