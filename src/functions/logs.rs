//! Lines of logs as records: syslog, web servers, JSON, logfmt, or a pattern of the caller's.

use super::datetime::DateTime;
use super::file_read::Read;
use super::function::{Call, Example, Function, param, with3};
use super::source::Source;
use super::value::{Array, Dynamic, ImmutableString, IntoScript, Map, nearest};
use super::{convert, formats, regexes};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::ask;
use crate::sys::text::MAX_LINE;
use jiff::{Timestamp, civil, tz::TimeZone};
use regex::Regex;

pub const FUNCTIONS: &[Function] = &[PARSE_LOG, PARSE_LOG_LINE];

/// Records that one call gives unless it sets a limit.
const MOST: u64 = 100_000;

options! {
    /// Options of `parse_log`.
    ParseLogOptions {
        limit: Option<u64> = None, "So many records at most; without it more than 100,000 are the error `too_large`.";
        strict: bool = false, "Fail with `bad_data` at a line that does not fit.";
        time_format: Option<String> = None, "The strptime format of the group `time` of a pattern; RFC 3339 without it.";
        year: Option<i64> = None, "The year of times that have none; without it the latest that is not in the future.";
        zone: Option<String> = None, "The zone of times that have none, e.g. `Europe/Berlin`; without it that of this host.";
        lossy: bool = false, "Show bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const DOC: &str = "Lines of a log as an array of maps.\n\n\
`syslog` (RFC 3164 and 5424, also with RFC 3339 times) and `journal-short` give `time`, `host`, `app`, `pid`, `message` and, where they are there, `facility`, `severity`, `id` and `data`; \
`nginx` and `apache` (the common and combined forms) give `client`, `user`, `time`, `method`, `path`, `protocol`, `status`, `bytes`, `referer`, `agent` and `rest`; \
`json` and `logfmt` give what is in the line. Any other format is a regular expression with named groups. `time` is a DateTime where it can be read. What a line has a `-` for is nothing. \
A line that does not fit is `#{raw: line, unparsed: true}`; blank lines are passed over.";

const PARSE_LOG: Function = Function {
    name: "parse_log",
    doc: DOC,
    body: &with3(
        parse_log,
        [
            param(
                "source",
                "A path, an open file, an array of lines, or text; for a single line that may begin with `/` use [parse_log_line].",
            ),
            param("format", "`syslog`, `journal-short`, `nginx`, `apache`, `json`, `logfmt`, or a regular expression with named groups."),
            param("options", ""),
        ],
    ),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::NotText, Kind::Permission, Kind::TooLarge, Kind::BadData],
    examples: &[
        Example {
            given: &[("auth.log", "Jan 31 14:30:00 web sshd[4711]: Accepted publickey\nnoise\n")],
            script: r#"parse_log(dir + "/auth.log", "syslog", #{year: 2026, zone: "UTC"}).map(|r| if r.unparsed == true { r.raw } else { `${r.time} ${r.app} ${r.pid}` })"#,
            gives: r#"["2026-01-31T14:30:00Z sshd 4711", "noise"]"#,
        },
        Example {
            given: &[],
            script: r#"parse_log(["GET /a 200", "GET /b 404"], `^(?<method>\w+) (?<path>\S+) (?<status>\d+)$`)"#,
            gives: r#"[#{method: "GET", path: "/a", status: "200"}, #{method: "GET", path: "/b", status: "404"}]"#,
        },
    ],
};

options! {
    /// Options of `parse_log_line`.
    ParseLogLineOptions {
        strict: bool = false, "Fail with `bad_data` when the line does not fit.";
        time_format: Option<String> = None, "The strptime format of the group `time` of a pattern; RFC 3339 without it.";
        year: Option<i64> = None, "The year of times that have none; without it the latest that is not in the future.";
        zone: Option<String> = None, "The zone of times that have none, e.g. `Europe/Berlin`; without it that of this host.";
    }
}

const PARSE_LOG_LINE: Function = Function {
    name: "parse_log_line",
    doc: "One line of a log as a map, as [parse_log] gives it.",
    body: &with3(parse_log_line, [param("line", "The line."), param("format", "As for `parse_log`."), param("options", "")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[Example {
        given: &[],
        script: "let r = parse_log_line(`10.0.0.1 - - [31/Jan/2026:14:30:00 +0100] \"GET /x?a=1 HTTP/1.1\" 200 12 \"-\" \"curl/8\"`, \"nginx\"); [r.client, r.time.to_string(), r.method, r.path, r.status, r.bytes, r.referer, r.agent]",
        gives: r#"["10.0.0.1", "2026-01-31T13:30:00Z", "GET", "/x?a=1", 200, 12, (), "curl/8"]"#,
    }],
};

fn parse_log(call: &Call<'_>, source: Source, format: ImmutableString, options: ParseLogOptions) -> Result<Array> {
    let reader = Reader::new(&format, options.time_format, options.year, options.zone.as_deref())?;
    let mut feed = source.feed(call, MAX_LINE)?;
    let path = feed.path().cloned();
    let mut records = Array::new();
    let mut number = 0u64;
    while options.limit.is_none_or(|limit| (records.len() as u64) < limit) {
        if number.is_multiple_of(256) {
            call.check()?;
        }
        number += 1;
        let Some(line) = feed.next_line()? else { break };
        let place = |error: Error| match &path {
            Some(path) => error.with_path(path.shown()),
            None => error,
        };
        let line = crate::sys::text::to_text(line.to_vec(), options.lossy, number).map_err(place)?;
        let line = line.strip_suffix('\r').unwrap_or(&line);
        if line.trim().is_empty() {
            continue;
        }
        if records.len() as u64 >= MOST && options.limit.is_none() {
            return Err(place(
                Error::new(Kind::TooLarge, format!("more than {MOST} records")).with_hint("set `limit`, or use `parse_log_line` in a loop"),
            ));
        }
        let record = reader.line(line);
        if record.is_none() && options.strict {
            return Err(place(unfit(&format, Some(number))));
        }
        records.push(record.unwrap_or_else(|| unparsed(line)).into_script());
    }
    Ok(records)
}

fn parse_log_line(_: &Call<'_>, line: ImmutableString, format: ImmutableString, options: ParseLogLineOptions) -> Result<Map> {
    let reader = Reader::new(&format, options.time_format, options.year, options.zone.as_deref())?;
    let line = line.trim_end_matches(['\n', '\r']);
    match reader.line(line) {
        None if options.strict => Err(unfit(&format, None)),
        record => Ok(record.unwrap_or_else(|| unparsed(line))),
    }
}

fn unfit(format: &str, number: Option<u64>) -> Error {
    let format = if FORMATS.contains(&format) { format!("`{format}`") } else { "the pattern".to_owned() };
    let place = number.map(|number| format!(" {number}")).unwrap_or_default();
    Error::new(Kind::BadData, format!("line{place} does not fit {format}"))
}

fn unparsed(line: &str) -> Map {
    super::value::record([("raw", line.into_script()), ("unparsed", true.into_script())])
}

const FORMATS: &[&str] = &["syslog", "journal-short", "nginx", "apache", "json", "logfmt"];

/// How lines are read.
struct Reader {
    form: Form,
    time_format: Option<String>,
    year: Option<i16>,
    zone: TimeZone,
    now: Timestamp,
}

enum Form {
    /// Newer form first: RFC 5424, RFC 3339 times, RFC 3164.
    Syslog([Regex; 3]),
    Web(Regex),
    Json,
    Logfmt,
    Pattern(Regex),
}

/// `<34>1 2026-01-31T14:30:00Z host app pid id [data] message`
const RFC5424: &str = r"^<(?<pri>\d{1,3})>1 (?<time>\S+) (?<host>\S+) (?<app>\S+) (?<pid>\S+) (?<id>\S+) (?<data>-|(?:\[(?:[^\]\\]|\\.)*\])+)(?: \u{feff}?(?<message>.*))?$";
/// `2026-01-31T14:30:00.000+01:00 host app[pid]: message`, as rsyslog writes it.
const RFC3339: &str =
    r"^(?:<(?<pri>\d{1,3})>)?(?<time>\d{4}-\d\d-\d\d[T ]\S+) (?<host>\S+) (?:(?<app>[^\s\[\]:]+)(?:\[(?<pid>\d+)\])?: ?)?(?<message>.*)$";
/// `Jan 31 14:30:00 host app[pid]: message`
const RFC3164: &str = r"^(?:<(?<pri>\d{1,3})>)?(?<time>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (?<host>\S+) (?:(?<app>[^\s\[\]:]+)(?:\[(?<pid>\d+)\])?: ?)?(?<message>.*)$";
const WEB: &str = r#"^(?<client>\S+) (?<ident>\S+) (?<user>.*?) \[(?<time>[^\]]+)\] "(?<request>(?:[^"\\]|\\.)*)" (?<status>\d{3}) (?<bytes>\d+|-)(?: "(?<referer>(?:[^"\\]|\\.)*)" "(?<agent>(?:[^"\\]|\\.)*)")?(?: (?<rest>.*))?$"#;

const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const SEVERITIES: &[&str] = &["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

impl Reader {
    fn new(format: &ImmutableString, time_format: Option<String>, year: Option<i64>, zone: Option<&str>) -> Result<Self> {
        let regex = |text: &str| regexes::expression(&text.into());
        let form = match format.as_str() {
            "syslog" | "journal-short" => Form::Syslog([regex(RFC5424)?, regex(RFC3339)?, regex(RFC3164)?]),
            "nginx" | "apache" => Form::Web(regex(WEB)?),
            "json" => Form::Json,
            "logfmt" => Form::Logfmt,
            pattern if pattern.contains("(?<") || pattern.contains("(?P<") => Form::Pattern(regexes::expression(format)?),
            other => {
                let hint = nearest(other, FORMATS.iter().copied()).map(|name| format!("did you mean `{name}`?")).unwrap_or_default();
                let known = FORMATS.join(", ");
                return Err(bad_argument(format!("expected a format ({known}) or a regular expression with named groups")).with_hint(hint));
            }
        };
        if time_format.is_some() && !matches!(form, Form::Pattern(_)) {
            return Err(bad_argument("option `time_format` goes with a pattern"));
        }
        let year = year
            .map(|year| {
                i16::try_from(year)
                    .ok()
                    .filter(|year| (1..=9999).contains(year))
                    .ok_or_else(|| bad_argument(format!("there is no year {year}")))
            })
            .transpose()?;
        let zone = match zone {
            Some(name) => super::datetime::zone(name)?,
            None => TimeZone::try_system().unwrap_or(TimeZone::UTC),
        };
        Ok(Self { form, time_format, year, zone, now: Timestamp::now() })
    }

    /// The record of a line; nothing where it does not fit.
    fn line(&self, line: &str) -> Option<Map> {
        match &self.form {
            Form::Syslog(forms) => forms.iter().find_map(|regex| self.syslog(regex, line)),
            Form::Web(regex) => self.web(regex, line),
            Form::Json => {
                let value: serde_json::Value = serde_json::from_str(line).ok()?;
                let map = convert::from_json(&value).ok()?.try_cast::<Map>()?;
                Some(with_time(map, &["time", "timestamp", "@timestamp", "ts"]))
            }
            Form::Logfmt => {
                let map = formats::logfmt(line).ok()?;
                // A line of bare words is prose and no record.
                map.values().any(Dynamic::is_string).then(|| with_time(map, &["time", "ts", "timestamp"]))
            }
            Form::Pattern(regex) => {
                let captures = regex.captures(line)?;
                let named = regex.capture_names().flatten();
                let mut map: Map = named.map(|name| (name.into(), captures.name(name).map(|part| part.as_str()).into_script())).collect();
                let time = captures.name("time").and_then(|time| self.time(time.as_str(), self.time_format.as_deref()));
                if let Some(time) = time {
                    map.insert("time".into(), time.into_script());
                }
                Some(map)
            }
        }
    }

    fn syslog(&self, regex: &Regex, line: &str) -> Option<Map> {
        let captures = regex.captures(line)?;
        let mut map = Map::new();
        let part = |name: &str| captures.name(name).map(|part| part.as_str()).filter(|text| *text != "-");
        if let Some(pri) = part("pri") {
            let pri: usize = pri.parse().ok()?;
            map.insert("facility".into(), (*FACILITIES.get(pri / 8)?).into_script());
            map.insert("severity".into(), (*SEVERITIES.get(pri % 8)?).into_script());
        }
        let time = match part("time") {
            None => Dynamic::UNIT,
            Some(text) => self.syslog_time(text)?.into_script(),
        };
        map.insert("time".into(), time);
        for name in ["host", "app"] {
            map.insert(name.into(), part(name).into_script());
        }
        let pid = part("pid").map(|text| text.parse::<i64>().map_or_else(|_| text.into_script(), IntoScript::into_script));
        map.insert("pid".into(), pid.unwrap_or(Dynamic::UNIT));
        for name in ["id", "data"] {
            if let Some(text) = part(name) {
                map.insert(name.into(), text.into_script());
            }
        }
        map.insert("message".into(), captures.name("message").map_or("", |part| part.as_str()).into_script());
        Some(map)
    }

    fn syslog_time(&self, text: &str) -> Option<DateTime> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return self.time(text, None);
        }
        let of_year = |year: i16| {
            let text = format!("{year} {text}");
            let civil = civil::DateTime::strptime("%Y %b %e %H:%M:%S", text).ok()?;
            self.zone.to_timestamp(civil).ok()
        };
        if let Some(year) = self.year {
            return of_year(year).map(DateTime);
        }
        // Clocks differ: what is a few hours ahead is of today. The 29th of February may be years back.
        let latest = self.now.checked_add(jiff::SignedDuration::from_hours(24)).ok()?;
        let this = self.zone.to_datetime(latest).year();
        (0..9).filter_map(|back| of_year(this - back)).find(|time| *time <= latest).map(DateTime)
    }

    /// A point in time, with an offset or in the zone of this reader.
    fn time(&self, text: &str, format: Option<&str>) -> Option<DateTime> {
        match format {
            None => DateTime::parse(text, None)
                .ok()
                .or_else(|| self.zone.to_timestamp(text.parse::<civil::DateTime>().ok()?).ok().map(DateTime)),
            Some(format) => {
                let broken = jiff::fmt::strtime::parse(format, text).ok()?;
                broken.to_timestamp().ok().or_else(|| self.zone.to_timestamp(broken.to_datetime().ok()?).ok()).map(DateTime)
            }
        }
    }

    fn web(&self, regex: &Regex, line: &str) -> Option<Map> {
        let captures = regex.captures(line)?;
        let part = |name: &str| captures.name(name).map(|part| part.as_str()).filter(|text| *text != "-");
        let mut map = Map::new();
        for name in ["client", "user", "referer", "agent"] {
            map.insert(name.into(), part(name).into_script());
        }
        let number = |name: &str| part(name).and_then(|text| text.parse::<i64>().ok());
        map.insert("time".into(), self.time(part("time")?, Some("%d/%b/%Y:%H:%M:%S %z"))?.into_script());
        // What hostile clients send as a request need not be three words.
        let request = part("request").unwrap_or("");
        let words: Vec<&str> = request.split(' ').collect();
        let (method, path, protocol) = match words[..] {
            [method, path, protocol] => (Some(method), Some(path), Some(protocol)),
            _ => (None, None, None),
        };
        if method.is_none() {
            map.insert("request".into(), request.into_script());
        }
        map.insert("method".into(), method.into_script());
        map.insert("path".into(), path.into_script());
        map.insert("protocol".into(), protocol.into_script());
        map.insert("status".into(), number("status").into_script());
        map.insert("bytes".into(), number("bytes").into_script());
        if let Some(rest) = part("rest") {
            map.insert("rest".into(), rest.into_script());
        }
        Some(map)
    }
}

/// The first of these fields that is a point in time becomes `time`.
fn with_time(mut map: Map, names: &[&str]) -> Map {
    let time = names.iter().find_map(|name| DateTime::parse(map.get(*name)?.as_immutable_string_ref().ok()?.as_str(), None).ok());
    if let Some(time) = time {
        map.insert("time".into(), time.into_script());
    }
    map
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::functions::rig::{Rig, options};

    fn reader(format: &str) -> Reader {
        Reader::new(&format.into(), None, Some(2026), Some("UTC")).unwrap()
    }

    fn json(format: &str, line: &str) -> serde_json::Value {
        convert::to_json(&reader(format).line(line).expect(line).into_script())
    }

    #[test]
    fn syslog_in_its_three_forms() {
        let one = json("syslog", "<34>1 2026-01-31T14:30:00.5+01:00 web su 12 ID47 [a@1 k=\"v\\]\"][b] it's");
        let expected = serde_json::json!({"app": "su", "data": "[a@1 k=\"v\\]\"][b]", "facility": "auth", "host": "web", "id": "ID47", "message": "it's", "pid": 12, "severity": "crit", "time": "2026-01-31T13:30:00.5Z"});
        assert_eq!(one, expected);
        let two = json("syslog", "2026-01-31T14:30:00.123456+01:00 web kernel: [  1.0] up");
        assert_eq!(
            (&two["app"], &two["message"], &two["time"]),
            (&"kernel".into(), &"[  1.0] up".into(), &"2026-01-31T13:30:00.123456Z".into())
        );
        let three = json("journal-short", "Feb  3 04:05:06 web systemd[1]: Started: x.");
        assert_eq!((&three["pid"], &three["message"], &three["time"]), (&1.into(), &"Started: x.".into(), &"2026-02-03T04:05:06Z".into()));
        assert_eq!(json("syslog", "<13>Feb  3 04:05:06 web no tag here")["app"], serde_json::Value::Null);
        assert_eq!(json("syslog", "<34>1 - - - - - -")["message"], "");
        for line in ["Feb 30 04:05:06 web x: y", "<999>Feb  3 04:05:06 web x: y", "prose", "-- Boot 1 --"] {
            assert!(reader("syslog").line(line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_time_without_a_year_is_never_far_in_the_future() {
        let mut reader = reader("syslog");
        (reader.year, reader.now) = (None, "2026-01-01T00:30:00Z".parse().unwrap());
        for (text, time) in [
            ("Dec 31 23:59:59", "2025-12-31T23:59:59Z"),
            ("Jan  1 00:10:00", "2026-01-01T00:10:00Z"),
            ("Feb 29 00:00:00", "2024-02-29T00:00:00Z"),
            ("Jan  1 12:00:00", "2026-01-01T12:00:00Z"),
        ] {
            assert_eq!(reader.syslog_time(text).unwrap().to_string(), time);
        }
    }

    #[test]
    fn web_logs_with_what_clients_send() {
        let plain = json("apache", r#"::1 - bob [31/Jan/2026:14:30:00 +0000] "GET / HTTP/1.0" 304 -"#);
        assert_eq!((&plain["user"], &plain["bytes"], &plain["agent"]), (&"bob".into(), &serde_json::Value::Null, &serde_json::Value::Null));
        let odd = json("nginx", r#"1.2.3.4 - - [31/Jan/2026:14:30:00 +0000] "\x16\x03\"x" 400 0 "-" "a \"b\"" "9.9.9.9" 0.01"#);
        assert_eq!(
            (&odd["method"], &odd["request"], &odd["rest"]),
            (&serde_json::Value::Null, &"\\x16\\x03\\\"x".into(), &"\"9.9.9.9\" 0.01".into())
        );
        assert_eq!(odd["agent"], "a \\\"b\\\"");
        assert!(reader("nginx").line("2026/01/31 14:30:00 [error] 1#0: x").is_none());
    }

    #[test]
    fn lines_of_json_and_logfmt_have_their_time() {
        assert_eq!(json("json", r#"{"ts": "2026-01-31T14:30:00+01:00", "n": 1}"#)["time"], "2026-01-31T13:30:00Z");
        assert_eq!(json("json", r#"{"time": 5}"#)["time"], 5);
        assert!(reader("json").line("[1]").is_none() && reader("json").line("{").is_none());
        assert_eq!(json("logfmt", "ts=2026-01-31T14:30:00Z level=info up")["up"], true);
        assert!(reader("logfmt").line("just some words").is_none() && reader("logfmt").line("a=\"").is_none());
        let pattern =
            Reader::new(&"^(?P<time>[^ ]+ [^ ]+) (?<x>.*)$".into(), Some("%d.%m.%Y %H:%M".to_owned()), None, Some("Europe/Berlin"))
                .unwrap();
        assert_eq!(pattern.line("31.01.2026 14:30 y").unwrap()["time"].clone().cast::<DateTime>().to_string(), "2026-01-31T13:30:00Z");
    }

    #[test]
    fn lines_that_do_not_fit_are_shown_or_refused_without_their_text() {
        let rig = Rig::new("permit(principal, action, resource);");
        let text = "{\"a\":1}\n\nhunter2\n";
        let rows = rig.call("parse_log", [text.into_script(), "json".into_script()]).unwrap();
        assert_eq!(convert::to_json(&rows).to_string(), r#"[{"a":1},{"raw":"hunter2","unparsed":true}]"#);
        let strict =
            rig.call("parse_log", [text.into_script(), "json".into_script(), options([("strict", true.into_script())])]).unwrap_err();
        assert!(strict.kind == Kind::BadData && strict.message.contains("line 3") && !format!("{strict:?}").contains("hunter2"));
        let error = rig.call("parse_log", [text.into_script(), "jsno".into_script()]).unwrap_err();
        assert_eq!((error.kind, error.hint.as_deref()), (Kind::BadArgument, Some("did you mean `json`?")));
        let one = rig.call("parse_log", [text.into_script(), "json".into_script(), options([("limit", 1i64.into_script())])]).unwrap();
        assert_eq!(one.into_array().unwrap().len(), 1);
        let many = rig.call("parse_log", ["x\n".repeat(100_001).into_script(), "json".into_script()]).unwrap_err();
        assert_eq!(many.kind, Kind::TooLarge);
        let denied = Rig::new(r#"permit(principal, action == file_system::Action::"stat", resource);"#);
        assert_eq!(denied.call("parse_log", ["/etc/hostname".into_script(), "json".into_script()]).unwrap_err().kind, Kind::Denied);
        // A line is data here, whatever it begins with.
        let _ = denied.call("parse_log_line", ["/etc/hostname".into_script(), "json".into_script()]).unwrap();
    }
}
