//! Points in time in the language: their operators and properties.

use crate::functions::datetime::DateTime;
use crate::functions::value::ImmutableString;
use rhai::{Engine, EvalAltResult};

/// Registers the type.
pub fn register(engine: &mut Engine) {
    let fail = |error: crate::error::Error| -> Box<EvalAltResult> { error.message.into() };
    engine
        .register_type_with_name::<DateTime>("DateTime")
        .register_fn("to_string", |time: &mut DateTime| time.to_string())
        .register_fn("print", |time: &mut DateTime| time.to_string())
        .register_fn("to_debug", |time: &mut DateTime| time.to_string())
        .register_fn("debug", |time: &mut DateTime| time.to_string())
        .register_fn("==", |a: DateTime, b: DateTime| a == b)
        .register_fn("!=", |a: DateTime, b: DateTime| a != b)
        .register_fn("<", |a: DateTime, b: DateTime| a < b)
        .register_fn("<=", |a: DateTime, b: DateTime| a <= b)
        .register_fn(">", |a: DateTime, b: DateTime| a > b)
        .register_fn(">=", |a: DateTime, b: DateTime| a >= b)
        .register_fn("-", |a: DateTime, b: DateTime| a.0.duration_since(b.0).as_secs())
        .register_fn("+", move |time: DateTime, seconds: i64| time.plus(seconds).map_err(fail))
        .register_fn("-", move |time: DateTime, seconds: i64| {
            seconds.checked_neg().map_or_else(|| Err("out of range".into()), |back| time.plus(back).map_err(fail))
        })
        // The reference's own names.
        .register_fn("DateTime", move |year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64, nanos: i64| {
            DateTime::new(year, month, day, hour, minute, second, nanos).map_err(fail)
        })
        .register_fn("month_str", move |time: &mut DateTime| time.format("%B", None).map_err(fail))
        .register_fn("month_str_short", move |time: &mut DateTime| time.format("%b", None).map_err(fail))
        .register_fn("to_string", move |time: &mut DateTime, format: ImmutableString| match format.as_str() {
            "RFC3339" => Ok(time.to_string()),
            "RFC2822" => time.format("%a, %d %b %Y %H:%M:%S %z", None).map_err(fail),
            format => time.format(format, None).map_err(fail),
        })
        .register_get("year", |time: &mut DateTime| i64::from(time.civil().year()))
        .register_get("month", |time: &mut DateTime| i64::from(time.civil().month()))
        .register_get("day", |time: &mut DateTime| i64::from(time.civil().day()))
        .register_get("hour", |time: &mut DateTime| i64::from(time.civil().hour()))
        .register_get("minute", |time: &mut DateTime| i64::from(time.civil().minute()))
        .register_get("second", |time: &mut DateTime| i64::from(time.civil().second()))
        .register_get("nanosecond", |time: &mut DateTime| i64::from(time.civil().subsec_nanosecond()))
        .register_get("weekday", |time: &mut DateTime| i64::from(time.civil().weekday().to_monday_one_offset()));
    let mut formats = rhai::Module::new();
    formats.set_var("RFC3339", "RFC3339");
    formats.set_var("RFC2822", "RFC2822");
    engine.register_static_module("DateTimeFormat", formats.into());
}
