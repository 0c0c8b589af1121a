//! Functions about time.

use super::datetime::DateTime;
use super::function::{Call, Example, Function, param, with0, with1, with2, with3};
use super::value::{Dynamic, FromScript, IntoScript};
use crate::error::{Kind, Result, bad_argument};
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[NOW, NOW_NANOS, FROM_EPOCH_SECONDS, EPOCH_SECONDS, PARSE_DATETIME, STRFTIME, SLEEP];

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
    "The present time, UTC, to the second.\n\n`+` and `-` with ints add and take seconds, two times subtract to seconds, and they compare.\nProperties: `year`, `month`, `day`, `hour`, `minute`, `second`, `nanosecond`, `weekday` (Monday is 1).",
    &with0(now, []),
    &[],
    &[Example { given: &[], script: "now() - now() <= 0 && now().year > 2000", gives: "true" }],
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
    "A point in time from text.\n\nThe offset in the text counts. Without a format the text is RFC 3339; `RFC2822` or a strptime format may be given.",
    &with2(
        parse_datetime,
        [param("text", "e.g. `2026-01-31T14:30:00+05:00`."), param("format", "`RFC3339`, `RFC2822`, or e.g. `%Y-%m-%d %H:%M:%S`.")],
    ),
    &[Kind::BadData],
    &[
        Example { given: &[], script: r#"parse_datetime("2026-01-31T14:30:00+05:00").to_string()"#, gives: r#""2026-01-31T09:30:00Z""# },
        Example { given: &[], script: r#"parse_datetime("31/01/2026 08:05", "%d/%m/%Y %H:%M").minute"#, gives: "5" },
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
fn parse_datetime(_: &Call<'_>, text: String, format: Option<String>) -> Result<DateTime> {
    DateTime::parse(&text, format.as_deref())
}
fn strftime(_: &Call<'_>, time: DateTime, format: String, zone: Option<String>) -> Result<String> {
    time.format(&format, zone.as_deref())
}
fn sleep(call: &Call<'_>, time: Duration) -> Result<()> {
    call.host.watch.sleep(time)
}
