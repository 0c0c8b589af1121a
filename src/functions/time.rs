//! Functions about time.

use super::datetime::DateTime;
use super::function::{Call, Example, Function, param, with0, with1, with2, with3};
use super::value::{Dynamic, FromScript, IntoScript, Map, record};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[
    NOW,
    NOW_NANOS,
    FROM_EPOCH_SECONDS,
    FROM_EPOCH_NANOS,
    EPOCH_SECONDS,
    NANOS,
    PARSE_DATETIME,
    STRFTIME,
    IN_ZONE,
    ADD,
    TRUNCATE_TO,
    SLEEP,
];

impl FromScript for DateTime {
    const TYPE: &'static str = "a DateTime";
    fn from_script(value: Dynamic) -> Result<Self> {
        let name = value.type_name();
        value
            .try_cast::<Self>()
            .ok_or_else(|| bad_argument(format!("expected a DateTime (as `now()` gives), got {}", super::value::plain_type(name))))
    }
}
impl IntoScript for DateTime {
    fn into_script(self) -> Dynamic {
        Dynamic::from(self)
    }
}

const fn plain(
    name: &'static str,
    doc: &'static str,
    body: &'static dyn super::function::Body,
    fails: &'static [Kind],
    examples: &'static [Example],
) -> Function {
    Function { name, doc, body, asks: &[], fails, examples }
}

const NOW: Function = plain(
    "now",
    "The present time, UTC, to the second.\n\n`+` and `-` with ints add and take seconds, two times subtract to seconds, and they compare.\nProperties: `year`, `month`, `day`, `hour`, `minute`, `second`, `nanosecond`, `weekday` (Monday is 1). `DateTime(year, month, day, hour, minute, second, nanosecond)` makes one from the calendar; `month_str()` and `month_str_short()` name its month, `to_string(DateTimeFormat::RFC2822)` is its text in that form.",
    &with0(now, []),
    &[],
    &[
        Example { given: &[], script: "now() - now() <= 0 && now().year > 2000", gives: "true" },
        Example {
            given: &[],
            script: "let t = DateTime(2025, 8, 1, 12, 0, 0, 0); [t.month_str(), t.month_str_short(), t.to_string(DateTimeFormat::RFC2822)]",
            gives: r#"["August", "Aug", "Fri, 01 Aug 2025 12:00:00 +0000"]"#,
        },
    ],
);
const NOW_NANOS: Function = plain(
    "now_nanos",
    "The present time, UTC, to the nanosecond.",
    &with0(now_nanos, []),
    &[],
    &[Example { given: &[], script: "now_nanos() >= now()", gives: "true" }],
);
const FROM_EPOCH_SECONDS: Function = plain(
    "from_epoch_seconds",
    "The point in time so many seconds after 1970-01-01T00:00:00Z.",
    &with1(from_epoch_seconds, [param("seconds", "An int; may be negative.")]),
    &[],
    &[Example { given: &[], script: "from_epoch_seconds(86400).to_string()", gives: r#""1970-01-02T00:00:00Z""# }],
);
const EPOCH_SECONDS: Function = plain(
    "epoch_seconds",
    "Seconds from 1970-01-01T00:00:00Z to this point in time.",
    &with1(epoch_seconds, [param("time", "A DateTime.")]),
    &[],
    &[Example { given: &[], script: "from_epoch_seconds(5).epoch_seconds()", gives: "5" }],
);
const PARSE_DATETIME: Function = plain(
    "parse_datetime",
    "A point in time from text.\n\nThe offset in the text counts. Without a format the text is RFC 3339, or a date, or a date and time of UTC; `RFC2822` or a strptime format may be given.",
    &with3(
        parse_datetime,
        [
            param("text", "e.g. `2026-01-31T14:30:00+05:00`."),
            param("format", "`RFC3339`, `RFC2822`, or e.g. `%Y-%m-%d %H:%M:%S`."),
            param("zone", "With a strptime format: the zone of a text without an offset, such as `Europe/Berlin`; UTC without one."),
        ],
    ),
    &[Kind::BadData],
    &[
        Example { given: &[], script: r#"parse_datetime("2026-01-31T14:30:00+05:00").to_string()"#, gives: r#""2026-01-31T09:30:00Z""# },
        Example { given: &[], script: r#"parse_datetime("2026-11-24 06:00:00").to_string()"#, gives: r#""2026-11-24T06:00:00Z""# },
        Example { given: &[], script: r#"parse_datetime("2026-01-01").to_string()"#, gives: r#""2026-01-01T00:00:00Z""# },
        Example { given: &[], script: r#"parse_datetime("31/01/2026 08:05", "%d/%m/%Y %H:%M").minute"#, gives: "5" },
        Example {
            given: &[],
            script: r#"parse_datetime("2026-07-01 12:00", "%Y-%m-%d %H:%M", "Europe/Berlin").to_string()"#,
            gives: r#""2026-07-01T10:00:00Z""#,
        },
    ],
);
const STRFTIME: Function = plain(
    "strftime",
    "A point in time as text in a strftime format.",
    &with3(
        strftime,
        [
            param("time", "A DateTime."),
            param("format", "e.g. `%Y-%m-%d %H:%M`."),
            param("zone", "A zone such as `Europe/Berlin`; UTC without one."),
        ],
    ),
    &[],
    &[Example { given: &[], script: r#"strftime(from_epoch_seconds(0), "%Y/%m/%d")"#, gives: r#""1970/01/01""# }],
);
const FROM_EPOCH_NANOS: Function = plain(
    "from_epoch_nanos",
    "The point in time so many seconds and nanoseconds after 1970-01-01T00:00:00Z.",
    &with2(from_epoch_nanos, [param("seconds", "An int; may be negative."), param("nanos", "From 0 to 999999999, always onwards.")]),
    &[],
    &[Example { given: &[], script: "from_epoch_nanos(-1, 500000000).to_string()", gives: r#""1969-12-31T23:59:59.5Z""# }],
);
const NANOS: Function = plain(
    "nanos",
    "The nanoseconds of a point in time beyond its last whole second.",
    &with1(nanos, [param("time", "A DateTime.")]),
    &[],
    &[Example { given: &[], script: "from_epoch_nanos(7, 5).nanos()", gives: "5" }],
);
const IN_ZONE: Function = plain(
    "in_zone",
    "What calendar and clock show in a zone at a point in time: a map.\n\nKeys: `year`, `month`, `day`, `hour`, `minute`, `second`, `nanosecond`, `weekday` (Monday is 1), `offset` (seconds east of UTC), `zone`, `abbreviation`, `text` (RFC 3339). For text alone see [strftime].",
    &with2(in_zone, [param("time", "A DateTime."), param("zone", "A zone such as `Europe/Berlin`.")]),
    &[],
    &[Example {
        given: &[],
        script: r#"let t = in_zone(from_epoch_seconds(1783080000), "Europe/Berlin"); [t.hour, t.offset, t.abbreviation, t.text]"#,
        gives: r#"[14, 7200, "CEST", "2026-07-03T14:00:00+02:00"]"#,
    }],
);

options! {
    /// Spans for `add`.
    AddOptions {
        years: i64 = 0, "Years.";
        months: i64 = 0, "Months.";
        weeks: i64 = 0, "Weeks.";
        days: i64 = 0, "Days.";
        hours: i64 = 0, "Hours.";
        minutes: i64 = 0, "Minutes.";
        seconds: i64 = 0, "Seconds.";
        zone: Option<String> = None, "The zone whose calendar counts, in which a day can have 23 or 25 hours; UTC without one.";
    }
}

const ADD: Function = plain(
    "add",
    "A point in time later, or with negative numbers earlier, by spans of calendar and clock.\n\nThe largest unit goes first. A month later is the same day of the next month, or its last day.",
    &with2(add, [param("time", "A DateTime."), param("spans", "")]),
    &[],
    &[
        Example {
            given: &[],
            script: r#"parse_datetime("2026-01-31T12:00:00Z").add(#{months: 1, hours: -1}).to_string()"#,
            gives: r#""2026-02-28T11:00:00Z""#,
        },
        Example {
            given: &[],
            script: r#"parse_datetime("2026-03-28T12:00:00Z").add(#{days: 1, zone: "Europe/Berlin"}).to_string()"#,
            gives: r#""2026-03-29T11:00:00Z""#,
        },
    ],
);
const TRUNCATE_TO: Function = plain(
    "truncate_to",
    "The beginning of the second, minute, hour, day, week, month or year that a point in time is in.\n\nWeeks begin on Monday.",
    &with3(
        truncate_to,
        [
            param("time", "A DateTime."),
            param("unit", "`second`, `minute`, `hour`, `day`, `week`, `month` or `year`."),
            param("zone", "The zone whose calendar counts; UTC without one."),
        ],
    ),
    &[],
    &[
        Example {
            given: &[],
            script: r#"parse_datetime("2026-01-31T14:30:00Z").truncate_to("hour").to_string()"#,
            gives: r#""2026-01-31T14:00:00Z""#,
        },
        Example {
            given: &[],
            script: r#"parse_datetime("2026-07-01T12:00:00Z").truncate_to("day", "Europe/Berlin").to_string()"#,
            gives: r#""2026-06-30T22:00:00Z""#,
        },
    ],
);
const SLEEP: Function = plain(
    "sleep",
    "Waits; ends at once when the run has to.",
    &with1(sleep, [param("seconds", "An int or a float.")]),
    &[],
    &[Example { given: &[], script: "sleep(0.01)", gives: "()" }],
);

fn now(_: &Call<'_>) -> Result<DateTime> {
    DateTime::from_epoch(jiff::Timestamp::now().as_second(), 0)
}
fn now_nanos(_: &Call<'_>) -> Result<DateTime> {
    Ok(DateTime(jiff::Timestamp::now()))
}
fn from_epoch_seconds(_: &Call<'_>, seconds: i64) -> Result<DateTime> {
    DateTime::from_epoch(seconds, 0)
}
fn epoch_seconds(_: &Call<'_>, time: DateTime) -> Result<i64> {
    Ok(time.0.as_second())
}
fn parse_datetime(_: &Call<'_>, text: String, format: Option<String>, zone: Option<String>) -> Result<DateTime> {
    if zone.is_some() && matches!(format.as_deref(), None | Some("RFC3339" | "RFC2822")) {
        return Err(bad_argument("parse_datetime: zone: goes with a strptime format; in the others the text has its offset"));
    }
    DateTime::parse_in(&text, format.as_deref(), &zone_of(zone.as_deref())?)
}
fn zone_of(name: Option<&str>) -> Result<jiff::tz::TimeZone> {
    name.map_or(Ok(jiff::tz::TimeZone::UTC), super::datetime::zone)
}
fn from_epoch_nanos(_: &Call<'_>, seconds: i64, nanos: i64) -> Result<DateTime> {
    DateTime::from_epoch(seconds, nanos)
}
fn nanos(_: &Call<'_>, time: DateTime) -> Result<i64> {
    Ok(time.civil().subsec_nanosecond().into())
}
fn in_zone(_: &Call<'_>, time: DateTime, zone: String) -> Result<Map> {
    let zoned = time.zoned(super::datetime::zone(&zone)?);
    let civil = zoned.datetime();
    Ok(record([
        ("year", i64::from(civil.year()).into_script()),
        ("month", i64::from(civil.month()).into_script()),
        ("day", i64::from(civil.day()).into_script()),
        ("hour", i64::from(civil.hour()).into_script()),
        ("minute", i64::from(civil.minute()).into_script()),
        ("second", i64::from(civil.second()).into_script()),
        ("nanosecond", i64::from(civil.subsec_nanosecond()).into_script()),
        ("weekday", i64::from(civil.weekday().to_monday_one_offset()).into_script()),
        ("offset", i64::from(zoned.offset().seconds()).into_script()),
        ("zone", zone.as_str().into_script()),
        ("abbreviation", time.format("%Z", Some(&zone))?.into_script()),
        ("text", time.format("%Y-%m-%dT%H:%M:%S%.f%:z", Some(&zone))?.into_script()),
    ]))
}
fn add(_: &Call<'_>, time: DateTime, spans: AddOptions) -> Result<DateTime> {
    let AddOptions { years, months, weeks, days, hours, minutes, seconds, zone } = spans;
    let shift = super::datetime::Shift { years, months, weeks, days, hours, minutes, seconds };
    time.shift(shift, &zone_of(zone.as_deref())?)
}
fn truncate_to(_: &Call<'_>, time: DateTime, unit: String, zone: Option<String>) -> Result<DateTime> {
    time.truncate(&unit, &zone_of(zone.as_deref())?)
}
fn strftime(_: &Call<'_>, time: DateTime, format: String, zone: Option<String>) -> Result<String> {
    time.format(&format, zone.as_deref())
}
fn sleep(call: &Call<'_>, time: Duration) -> Result<()> {
    call.host.watch.sleep(time)
}
