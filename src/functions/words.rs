//! Text for people and from people: templates, sizes, durations, and random words. They need no permission.

use super::convert;
use super::function::{Call, Example, Function, param, with1, with2, with3};
use super::value::{Dynamic, FromScript, ImmutableString, IntoScript, Map};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::sys;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use std::io;

pub const FUNCTIONS: &[Function] = &[TEMPLATE, HUMAN_SIZE, ROUND, PARSE_SIZE, HUMAN_DURATION, PARSE_DURATION, RANDOM_ALPHANUMERIC, UUID];

/// Steps that one template may take.
const FUEL: u64 = 10_000_000;
/// Bytes of one template. Each operator of a chain can be one more frame of the stack, which the script's thread has for so many.
const MAX_TEMPLATE: usize = 32 << 10;
/// The longest random word.
const MAX_RANDOM: u64 = 4096;

options! {
    /// Options of `template`.
    TemplateOptions {
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when the text is more than this.";
    }
}

const TEMPLATE: Function = Function {
    name: "template",
    doc: "Text from a template and values, in the notation of Jinja.\n\n`{{ name }}` is a value, `{{ list | join(\", \") }}` one through a filter, `{% for x in list %}…{% endfor %}` and `{% if x %}…{% endif %}` are control. \
          A name that is not among the values is an error. Nothing is escaped. One line end at the end of the template is kept. A template has at most 32 KiB and cannot include others.",
    body: &with3(template, [param("text", "The template."), param("values", "A map."), param("options", "")]),
    asks: &[],
    fails: &[Kind::BadData, Kind::TooLarge],
    examples: &[
        Example {
            given: &[],
            script: r#"template("Listen {{ port }}\n{% for name in names %}Name {{ name }}\n{% endfor %}", #{port: 80, names: ["a", "b"]})"#,
            gives: r#""Listen 80\nName a\nName b\n""#,
        },
        Example {
            given: &[],
            script: "let why = ();\ntry { template(\"{{ prot }}\", #{port: 80}) } catch (e) { why = e.hint }\nwhy",
            gives: r#""did you mean `port`?""#,
        },
    ],
};

/// Takes text up to a limit.
struct Bounded {
    text: Vec<u8>,
    room: u64,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() as u64 + bytes.len() as u64 > self.room {
            self.full = true;
            return Err(io::Error::other("too large"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn template(call: &Call<'_>, text: ImmutableString, values: Map, options: TemplateOptions) -> Result<String> {
    if text.len() > MAX_TEMPLATE {
        return Err(Error::new(Kind::TooLarge, format!("template: the template is larger than {MAX_TEMPLATE} bytes"))
            .with_hint("use several, one for each part"));
    }
    if text.starts_with('/') && !text.contains(char::is_whitespace) && !["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) {
        return Err(bad_argument("template: text: this is a path, and a template is text").with_hint("template(cat(path), #{…})"));
    }
    let values = Dynamic::from_map(values);
    convert::check_depth(&values)?;
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_syntax(
        minijinja::syntax::SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .build()
            .map_err(|_| Error::new(Kind::Internal, "the notation of templates is wrong"))?,
    );
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(64);
    environment.set_debug(false);
    let parsed = environment.template_from_str(&text).map_err(|error| refusal(&error, &text, &values))?;
    let mut out = Bounded { text: Vec::new(), room: options.max_bytes, full: false };
    let done = parsed.render_captured_to(value_of(&values), &mut out).map(|_| ());
    call.check()?;
    if out.full {
        return Err(Error::new(Kind::TooLarge, format!("the text is larger than `max_bytes` ({})", options.max_bytes)));
    }
    done.map_err(|error| refusal(&error, &text, &values))?;
    String::from_utf8(out.text).map_err(|_| Error::new(Kind::Internal, "a template that gives no text"))
}

/// A value of the script as one of the template.
fn value_of(value: &Dynamic) -> minijinja::Value {
    if let Ok(map) = value.as_map_ref() {
        return minijinja::Value::from_pairs(map.iter().map(|(key, item)| (key.to_string(), value_of(item))));
    }
    if let Ok(items) = value.as_array_ref() {
        return minijinja::Value::from(items.iter().map(value_of).collect::<Vec<_>>());
    }
    match (value.is_unit(), value.as_bool(), value.as_int(), value.as_float()) {
        (true, ..) => minijinja::Value::from(()),
        (_, Ok(flag), ..) => flag.into(),
        (_, _, Ok(int), _) => int.into(),
        (_, _, _, Ok(float)) => float.into(),
        _ => convert::display(value).into(),
    }
}

fn refusal(error: &minijinja::Error, text: &str, values: &Dynamic) -> Error {
    let place = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
    let what = match error.kind() {
        ErrorKind::UndefinedError => {
            // The expression is the template's own text.
            let name: String = error.range().and_then(|range| text.get(range)).unwrap_or("").chars().take(60).collect();
            let near = values.as_map_ref().ok().and_then(|map| {
                let word = name.split(['.', '[', ' ', '|']).find(|word| !word.is_empty())?;
                super::value::nearest(word, map.keys().map(|key| key.as_str())).map(str::to_owned)
            });
            let hint = near.map(|near| format!("did you mean `{near}`?")).unwrap_or_default();
            let shown = if name.is_empty() { String::new() } else { format!(": `{}`", name.escape_debug()) };
            return Error::new(Kind::BadData, format!("template: a value that is not there is used{place}{shown}")).with_hint(hint);
        }
        ErrorKind::OutOfFuel => "it takes too many steps",
        ErrorKind::SyntaxError => "it is not well-formed",
        ErrorKind::UnknownFilter => "there is no such filter",
        ErrorKind::UnknownTest => "there is no such test",
        ErrorKind::UnknownFunction => "there is no such function",
        ErrorKind::UnknownMethod => "there is no such method",
        ErrorKind::TemplateNotFound => "templates cannot include others",
        _ => "it does not fit its values",
    };
    Error::new(Kind::BadData, format!("template: {what}{place}"))
}

options! {
    /// Options of `human_size`.
    HumanSizeOptions {
        si: bool = false, "Powers of 1000 (`kB`, `MB`) instead of 1024 (`KiB`, `MiB`).";
    }
}

const HUMAN_SIZE: Function = Function {
    name: "human_size",
    doc: "A number of bytes for people, to three digits.",
    body: &with2(human_size, [param("bytes", "An int or a float."), param("options", "")]),
    asks: &[],
    fails: &[],
    examples: &[
        Example { given: &[], script: "human_size(1536)", gives: r#""1.50 KiB""# },
        Example { given: &[], script: "human_size(1500000, #{si: true})", gives: r#""1.50 MB""# },
        Example { given: &[], script: "human_size(999)", gives: r#""999 B""# },
    ],
};

fn human_size(_: &Call<'_>, bytes: f64, options: HumanSizeOptions) -> Result<String> {
    if !bytes.is_finite() {
        return Err(bad_argument("human_size: bytes: expected a finite number"));
    }
    let (base, units) = if options.si {
        (1000.0, ["B", "kB", "MB", "GB", "TB", "PB", "EB"])
    } else {
        (1024.0, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
    };
    let mut left = bytes.abs();
    let mut units = units.into_iter();
    let mut unit = units.next().unwrap_or("B");
    // What would be shown as 1000 of a unit is 1 of the next, or 0.98.
    while left >= 999.5 {
        let Some(next) = units.next() else { break };
        left /= base;
        unit = next;
    }
    let digits = match () {
        () if unit == "B" && left.fract() == 0.0 => 0,
        () if left < 9.995 => 2,
        () if left < 99.95 => 1,
        () => 0,
    };
    let sign = if bytes < 0.0 { "-" } else { "" };
    Ok(format!("{sign}{left:.digits$} {unit}"))
}

const ROUND: Function = Function {
    name: "round",
    doc: "A number rounded, to a whole one or to so many digits behind the point.\n\nAn int stays as it is.",
    body: &with2(round, [param("number", "An int or a float."), param("digits", "0 to 15; none if left out.")]),
    asks: &[],
    fails: &[],
    examples: &[
        Example { given: &[], script: "round(2.345678, 2)", gives: "2.35" },
        Example { given: &[], script: "round(2.5)", gives: "3.0" },
        Example { given: &[], script: "round(7, 2)", gives: "7" },
    ],
};

fn round(_: &Call<'_>, number: Dynamic, digits: Option<u64>) -> Result<Dynamic> {
    if number.is_int() {
        return Ok(number);
    }
    let float = f64::from_script(number).map_err(|error| Error { message: format!("round: number: {}", error.message), ..error })?;
    match digits.map(usize::try_from) {
        None => Ok(float.round().into_script()),
        // By way of the decimal form, so that the result is the number that is written like that.
        Some(Ok(digits @ 0..=15)) => Ok(format!("{float:.digits$}").parse().unwrap_or(float).into_script()),
        Some(_) => Err(bad_argument("round: digits: expected 0 to 15")),
    }
}

const PARSE_SIZE: Function = Function {
    name: "parse_size",
    doc: "A size as people write it, in bytes.\n\nAs in GNU tools `K`, `M`, `G`, `T`, `P`, `E` and `KiB`, `MiB` … are powers of 1024, `kB`, `KB`, `MB` … powers of 1000. A fraction of a byte is rounded.",
    body: &with1(parse_size, [param("text", "e.g. `10M`, `1.5 GiB`, `512`.")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[
        Example { given: &[], script: r#"parse_size("10M")"#, gives: "10485760" },
        Example { given: &[], script: r#"parse_size("1.5 kB")"#, gives: "1500" },
    ],
};

fn parse_size(_: &Call<'_>, text: String) -> Result<i64> {
    let wrong = || Error::new(Kind::BadData, "not a size such as `10M` or `1.5 GiB`");
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at_checked(split).ok_or_else(wrong)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let (letter, rest) = unit.split_at_checked(usize::from(!unit.is_empty() && unit != "b" && unit != "bytes")).ok_or_else(wrong)?;
    let power = match letter {
        "" => 0,
        letter => "kmgtpe".find(letter).ok_or_else(wrong)? as u32 + 1,
    };
    let base: i128 = match (power, rest) {
        (0, "" | "b" | "bytes") | (_, "" | "i" | "ib") => 1024,
        (_, "b") => 1000,
        _ => return Err(wrong()),
    };
    let factor = base.checked_pow(power).ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || number.ends_with('.') || fraction.contains('.') || whole.len() > 19 {
        return Err(wrong());
    }
    let whole: i128 = whole.parse().map_err(|_| wrong())?;
    // Digits beyond the eighteenth are less than a byte of any unit that fits.
    let fraction = fraction.get(..fraction.len().min(18)).unwrap_or("");
    let parts = if fraction.is_empty() { 0 } else { fraction.parse::<i128>().map_err(|_| wrong())? };
    let scale = 10i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let bytes = whole * factor + (parts * factor * 2 + scale) / (scale * 2);
    i64::try_from(bytes).map_err(|_| Error::new(Kind::BadData, "a size over 2^63 - 1 bytes"))
}

const HUMAN_DURATION: Function = Function {
    name: "human_duration",
    doc: "A number of seconds for people, in its two largest units.",
    body: &with1(human_duration, [param("seconds", "An int or a float.")]),
    asks: &[],
    fails: &[],
    examples: &[
        Example { given: &[], script: "human_duration(5400)", gives: r#""1h30m""# },
        Example { given: &[], script: "human_duration(0.25)", gives: r#""250ms""# },
        Example { given: &[], script: "human_duration(90061)", gives: r#""1d1h""# },
    ],
};

fn human_duration(_: &Call<'_>, seconds: f64) -> Result<String> {
    if !seconds.is_finite() || seconds.abs() > 1e15 {
        return Err(bad_argument("human_duration: seconds: expected a finite number of less than 1e15"));
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    let size = seconds.abs();
    let small = [(1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")];
    if size < 59.995 {
        if size == 0.0 {
            return Ok("0s".to_owned());
        }
        let (unit, name) = small.into_iter().find(|(unit, _)| size >= unit * 0.9995).unwrap_or((1e-9, "ns"));
        let number = format!("{:.2}", size / unit);
        return Ok(format!("{sign}{}{name}", number.trim_end_matches('0').trim_end_matches('.')));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative and below 1e15")]
    let mut left = size.round() as u64;
    let mut parts = Vec::new();
    for (unit, name) in [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")] {
        if left >= unit || !parts.is_empty() {
            parts.push((left / unit, name));
            left %= unit;
        }
    }
    let shown: String = parts.iter().take(2).filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count}{name}")).collect();
    Ok(format!("{sign}{shown}"))
}

const PARSE_DURATION: Function = Function {
    name: "parse_duration",
    doc: "A time span as people write it, in seconds: an int, or a float where there are fractions of a second.\n\nUnits are `ns`, `us`, `ms`, `s`, `m` or `min`, `h`, `d`, `w`, and their words (`minutes`). A number alone is seconds.",
    body: &with1(parse_duration, [param("text", "e.g. `1h30m`, `250ms`, `2 days 4 hours`.")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[
        Example { given: &[], script: r#"parse_duration("1h30m")"#, gives: "5400" },
        Example { given: &[], script: r#"parse_duration("250ms")"#, gives: "0.25" },
        Example { given: &[], script: r#"parse_duration("2 days 4 hours")"#, gives: "187200" },
    ],
};

/// Nanoseconds of a unit.
fn unit_of_time(word: &str) -> Option<i128> {
    Some(match word {
        "ns" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "μs" | "usec" | "microsecond" | "microseconds" => 1_000,
        "ms" | "msec" | "millisecond" | "milliseconds" => 1_000_000,
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000_000,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000_000_000,
        "d" | "day" | "days" => 86_400_000_000_000,
        "w" | "week" | "weeks" => 604_800_000_000_000,
        _ => return None,
    })
}

fn parse_duration(_: &Call<'_>, text: String) -> Result<Dynamic> {
    let wrong = || Error::new(Kind::BadData, "not a time span such as `1h30m` or `250ms`");
    let mut rest = text.trim();
    let mut nanos: i128 = 0;
    let mut first = true;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let after = after.trim_start();
        let (unit, after) = after.split_at_checked(after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len())).ok_or_else(wrong)?;
        // Only a number that stands alone needs no unit.
        if unit.is_empty() && !(first && after.is_empty()) {
            return Err(wrong());
        }
        let size = unit_of_time(unit).ok_or_else(wrong)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || number.ends_with('.') || fraction.contains('.') || whole.len() > 15 || fraction.len() > 15 {
            return Err(wrong());
        }
        let scale = 10i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let parts: i128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| wrong())? };
        nanos += whole.parse::<i128>().map_err(|_| wrong())? * size + parts * size / scale;
        rest = after.trim_start();
        first = false;
    }
    if nanos % 1_000_000_000 == 0 {
        return i64::try_from(nanos / 1_000_000_000).map(IntoScript::into_script).map_err(|_| wrong());
    }
    #[allow(clippy::cast_precision_loss, reason = "a float is what fractions are given in")]
    Ok((nanos as f64 / 1e9).into_script())
}

const RANDOM_ALPHANUMERIC: Function = Function {
    name: "random_alphanumeric",
    doc: "Random letters and digits from the kernel's generator, fit for passwords: each of the 62 is equally likely.",
    body: &with1(random_alphanumeric, [param("count", "How many, at most 4096.")]),
    asks: &[],
    fails: &[],
    examples: &[Example { given: &[], script: "random_alphanumeric(20).len()", gives: "20" }],
};

fn random_alphanumeric(_: &Call<'_>, count: u64) -> Result<String> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    if count > MAX_RANDOM {
        return Err(bad_argument(format!("random_alphanumeric: count: at most {MAX_RANDOM}, got {count}")));
    }
    let count = usize::try_from(count).unwrap_or(0);
    let mut word = String::with_capacity(count);
    let mut bytes = [0; 256];
    while word.len() < count {
        sys::random::fill(&mut bytes)?;
        // Six bits each; what is beyond the 62 is thrown away, since to fold it back would make some letters likelier.
        let letters = bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 63)));
        word.extend(letters.take(count - word.len()).map(|letter| char::from(*letter)));
    }
    Ok(word)
}

options! {
    /// Options of `uuid`.
    UuidOptions {
        version: u64 = 4, "4: random. 7: begins with the time, so that later ones sort after earlier ones.";
    }
}

const UUID: Function = Function {
    name: "uuid",
    doc: "A new UUID as text.",
    body: &with1(uuid, [param("options", "")]),
    asks: &[],
    fails: &[],
    examples: &[
        Example { given: &[], script: "uuid().len()", gives: "36" },
        Example { given: &[], script: "uuid(#{version: 7})[14]", gives: "'7'" },
    ],
};

fn uuid(_: &Call<'_>, options: UuidOptions) -> Result<String> {
    match options.version {
        4 => Ok(uuid::Uuid::new_v4().to_string()),
        7 => Ok(uuid::Uuid::now_v7().to_string()),
        _ => Err(bad_argument("uuid: option `version`: expected 4 or 7")),
    }
}

#[cfg(test)]
mod tests;
