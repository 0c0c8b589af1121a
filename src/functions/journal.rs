//! Functions that read the system's journal. They ask for [`ReadLog`] on the log of a unit, of the kernel, or the whole.

use super::datetime::DateTime;
use super::function::{Call, Example, Function, param, with0, with1};
use super::service::moment;
use super::value::{Array, Dynamic, FromScript, IntoScript, Map, NotDynamic, name_value, plain_type, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, Answer, Attribute, Granted, Value, ask};
use crate::resource::journal::{LOG, Log};
use crate::resource::service::unit_name;
use crate::sys::journal::{Cursor, Entry, Filter, Found, Journal, Query, is_field_name, parse_id};
use std::collections::BTreeSet;
use std::collections::HashMap;

pub const FUNCTIONS: &[Function] = &[JOURNAL, JOURNAL_BOOTS, JOURNAL_DISK_USAGE];

/// `journal::Action::"read"`: see entries of a log.
pub enum ReadLog {}
impl Action for ReadLog {
    type On = Log;
    const NAMESPACE: &'static str = "journal";
    const NAME: &'static str = "read";
    const APPLIES_TO: &'static [&'static str] = &[LOG.name];
    const GROUPS: &'static [&'static str] = &["view"];
    const DOC: &'static str = "See entries of a log.";
    const ACCESS: Access = Access::ReadOnly;
    const CONTEXT: &'static [Attribute] = &[
        Attribute {
            name: "priority",
            cedar: "Long",
            required: true,
            fixed: false,
            doc: "The least important level asked for: 0 (emergency) to 7 (debug).",
        },
        Attribute { name: "fields", cedar: "Set<String>", required: true, fixed: false, doc: "The fields that are shown or searched." },
        Attribute { name: "all_fields", cedar: "Bool", required: true, fixed: false, doc: "Whether every field is shown." },
    ];
}

/// A moment in a call: a DateTime, text of RFC 3339, seconds since the epoch, or a distance from now.
#[derive(Clone, Copy, Debug)]
pub struct Moment(pub(super) u64);

impl FromScript for Moment {
    const TYPE: &'static str = "a moment: a DateTime, `2026-01-31T14:30:00Z`, seconds since the epoch, or `-1h30m` before now";
    fn from_script(value: Dynamic) -> Result<Self> {
        let wrong = || bad_argument(format!("expected {}", Self::TYPE));
        let us = if let Some(time) = value.clone().try_cast::<DateTime>() {
            time.0.as_microsecond()
        } else if let Ok(seconds) = value.as_int() {
            seconds.checked_mul(1_000_000).ok_or_else(wrong)?
        } else {
            let text = String::from_script(value).map_err(|_| wrong())?;
            match text.strip_prefix('-').and_then(distance) {
                Some(seconds) => seconds
                    .checked_mul(1_000_000)
                    .and_then(|us| jiff::Timestamp::now().as_microsecond().checked_sub(us))
                    .ok_or_else(wrong)?,
                None => DateTime::parse(&text, None).map_err(|_| wrong())?.0.as_microsecond(),
            }
        };
        u64::try_from(us).map(Self).map_err(|_| wrong())
    }
}

/// Seconds of `1h30m` and the like.
fn distance(text: &str) -> Option<i64> {
    let (mut total, mut rest) = (0_i64, text.trim());
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
        let number: i64 = rest.get(..digits)?.parse().ok()?;
        let tail = rest.get(digits..)?.trim_start();
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let unit = match tail.get(..end)? {
            "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = tail.get(end..)?.trim_start();
    }
    (!text.trim().is_empty()).then_some(total)
}

/// A level of syslog(3): its number or its name.
#[derive(Clone, Copy, Debug)]
pub struct Level(pub(super) u8);
pub(super) const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

impl FromScript for Level {
    const TYPE: &'static str = "0 to 7, or emerg, alert, crit, err, warning, notice, info, debug";
    fn from_script(value: Dynamic) -> Result<Self> {
        let wrong = || bad_argument(format!("expected {}", Self::TYPE));
        if let Ok(number) = value.as_int() {
            return u8::try_from(number).ok().filter(|level| *level < 8).map(Self).ok_or_else(wrong);
        }
        let text = String::from_script(value).map_err(|_| wrong())?;
        let text = match text.as_str() {
            "error" => "err",
            "warn" => "warning",
            other => other,
        };
        (0..).zip(LEVELS).find(|(_, name)| *name == text).map(|(level, _)| Self(level)).ok_or_else(wrong)
    }
}

/// A boot: its id, or 0 for the last, -1 for the one before …
#[derive(Clone, Debug)]
pub enum BootOf {
    Id(String),
    Back(usize),
}

impl FromScript for BootOf {
    const TYPE: &'static str = "the id of a boot, or 0 for the last one, -1 for the one before";
    fn from_script(value: Dynamic) -> Result<Self> {
        let wrong = |value: &Dynamic| bad_argument(format!("expected {}, got {}", Self::TYPE, plain_type(value.type_name())));
        if let Ok(number) = value.as_int() {
            return number.checked_neg().and_then(|back| usize::try_from(back).ok()).map(Self::Back).ok_or_else(|| wrong(&value));
        }
        let text = String::from_script(value.clone()).map_err(|_| wrong(&value))?;
        parse_id(&text).map(|id| Self::Id(format!("{:032x}", u128::from_be_bytes(id)))).ok_or_else(|| wrong(&value))
    }
}
impl NotDynamic for BootOf {}

options! {
    /// Options of `journal`.
    JournalOptions {
        unit: Vec<String> = Vec::new(), "The log of this unit, or of these; `nginx` means `nginx.service`. Not an alias.";
        kernel: bool = false, "The kernel's log.";
        since: Option<Moment> = None, "Only from this moment on.";
        before: Option<Moment> = None, "Only earlier than this moment.";
        priority: Option<Level> = None, "Only entries at least so important.";
        grep: Option<String> = None, "Only entries in whose message this regular expression is found; `(?i)` in front ignores case.";
        boot: Option<BootOf> = None, "Only from this start of the machine.";
        pid: Option<u64> = None, "Only from this process.";
        identifier: Vec<String> = Vec::new(), "Only with this syslog identifier (which a program chooses itself).";
        fields: Vec<String> = Vec::new(), "Also give these fields as they are, in `fields` of each entry; `*` gives all.";
        lines: u64 = 1000, "At most so many: the newest, or the first after `cursor`.";
        reverse: bool = false, "The newest first.";
        cursor: Option<String> = None, "Go on after the entry with this cursor (before it, with `reverse`).";
        max_bytes: u64 = 8 << 20, "Stop when the fields come to more.";
    }
}

/// The fields of which the entry's own keys are made.
const OWN: [&str; 7] = ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "_COMM", "_PID", "_SYSTEMD_UNIT", "UNIT"];
/// The fields that tell which logs an entry is in.
const PLACES: [&str; 5] = ["_SYSTEMD_UNIT", "UNIT", "OBJECT_SYSTEMD_UNIT", "COREDUMP_UNIT", "_TRANSPORT"];

const JOURNAL: Function = Function {
    name: "journal",
    doc: "Entries of the system's journal, the oldest first.\n\nEach is a map: `time`, `message`, `priority` (0 to 7), `identifier`, `pid`, `unit`, `boot_id`, `cursor`, and `fields` where asked for. What an entry does not have is `()`. Bytes of a message that are not UTF-8 are U+FFFD; in `fields` such a value is a blob, and a field that occurs several times is an array.\n\nWith `unit` it asks for the log of each unit, with `kernel` for that of the kernel, else for `journal::Log::\"system\"`. An entry that belongs to a log which some policy forbids is never shown, searched or counted. A warning tells how many damaged places were passed over.",
    body: &with1(journal, [param("options", "")]),
    asks: &[ask::<ReadLog>()],
    fails: &[Kind::Permission, Kind::Unsupported, Kind::NotFound],
    examples: &[Example {
        given: &[],
        script: r#"journal(#{unit: "dbus", priority: "err", since: "-1h", lines: 20}).map(|e| e.message)"#,
        gives: "",
    }],
};

const JOURNAL_BOOTS: Function = Function {
    name: "journal_boots",
    doc: "The starts of the machine that the journal knows, the oldest first.\n\nMaps with `index` (0 is the last), `boot_id`, `first` and `last` (times of entries).",
    body: &with0(journal_boots, []),
    asks: &[ask::<ReadLog>()],
    fails: &[Kind::Permission, Kind::Unsupported],
    examples: &[Example { given: &[], script: "journal_boots().map(|b| b.boot_id)", gives: "" }],
};

const JOURNAL_DISK_USAGE: Function = Function {
    name: "journal_disk_usage",
    doc: "How much the journal occupies: a map with `bytes` and `files`.",
    body: &with0(journal_disk_usage, []),
    asks: &[ask::<ReadLog>()],
    fails: &[Kind::Permission, Kind::Unsupported],
    examples: &[Example { given: &[], script: "journal_disk_usage().bytes", gives: "" }],
};

fn context(level: u8, fields: &BTreeSet<String>, all: bool) -> Vec<(&'static str, Value)> {
    let fields = fields.iter().map(|field| Value::String(field.clone())).collect();
    vec![("priority", Value::Long(level.into())), ("fields", Value::Set(fields)), ("all_fields", Value::Bool(all))]
}

/// Which entries a call is about, as scripts say it.
pub(super) struct Choice<'o> {
    pub unit: &'o [String],
    pub kernel: bool,
    pub priority: Option<Level>,
    pub grep: Option<&'o str>,
    pub pid: Option<u64>,
    pub identifier: &'o [String],
    pub fields: &'o [String],
}

/// The same, permitted.
pub(super) struct Wanted {
    granted: Vec<Granted<ReadLog>>,
    circumstances: Vec<(&'static str, Value)>,
    filters: Vec<Filter>,
    grep: Option<regex::bytes::Regex>,
    /// Those that are read, all when `None`.
    fields: Option<Vec<String>>,
    /// Those that are shown as they are.
    shown: Vec<String>,
    /// Logs of entries met so far, and whether some policy forbids them.
    forbidden: HashMap<String, bool>,
}

impl Wanted {
    /// Asks for every log.
    ///
    /// # Errors
    /// [`Kind::BadArgument`]; as [`Call::permit`].
    pub(super) fn ask(call: &Call<'_>, choice: &Choice<'_>) -> Result<Self> {
        let bad = |name: &str, what: &str| bad_argument(format!("option `{name}`: {what}"));
        let logs: Vec<Log> = match (choice.unit.is_empty(), choice.kernel) {
            (false, true) => return Err(bad("kernel", "no unit has a log of the kernel; leave out one of `unit` and `kernel`")),
            (true, true) => vec![Log::Kernel],
            (true, false) => vec![Log::System],
            (false, false) => choice.unit.iter().map(|name| unit_name(name).map(Log::Unit)).collect::<Result<_>>()?,
        };
        if choice.unit.len() > 100 {
            return Err(bad("unit", "at most 100"));
        }
        let all = choice.fields.iter().any(|field| field == "*");
        if let Some(field) = choice.fields.iter().find(|field| *field != "*" && !is_field_name(field)) {
            return Err(bad("fields", &format!("`{}` is no name of a field; they are like `MESSAGE`", field.escape_debug())));
        }
        let grep = match choice.grep {
            None => None,
            Some(pattern) => {
                let built = regex::bytes::RegexBuilder::new(pattern).size_limit(4 << 20).build();
                Some(built.map_err(|_| bad("grep", "not a regular expression, or too large a one"))?)
            }
        };
        let mut wanted: BTreeSet<String> = OWN.iter().map(|name| (*name).to_owned()).collect();
        wanted.extend(choice.fields.iter().filter(|field| *field != "*").cloned());
        let level = choice.priority.map_or(7, |level| level.0);
        let circumstances = context(level, &wanted, all);

        let mut granted = Vec::new();
        for log in logs {
            granted.push(call.permit_with::<ReadLog>(log, circumstances.clone())?);
        }
        let mut filters: Vec<Filter> = Vec::new();
        let places: Vec<Filter> = granted
            .iter()
            .filter_map(|log| match log.resource() {
                Log::Unit(name) => Some(Filter::unit(name)),
                Log::Kernel => Some(Filter::has("_TRANSPORT", "kernel")),
                Log::System => None,
            })
            .collect();
        if !places.is_empty() {
            filters.push(Filter::Any(places));
        }
        if level < 7 {
            filters.push(Filter::Any((0..=level).map(|level| Filter::has("PRIORITY", level)).collect()));
        }
        if let Some(pid) = choice.pid {
            filters.push(Filter::has("_PID", pid));
        }
        if !choice.identifier.is_empty() {
            filters.push(Filter::Any(choice.identifier.iter().map(|name| Filter::has("SYSLOG_IDENTIFIER", name)).collect()));
        }
        let fields = (!all).then(|| wanted.into_iter().chain(PLACES.iter().map(|name| (*name).to_owned())).collect());
        Ok(Self { granted, circumstances, filters, grep, fields, shown: choice.fields.to_vec(), forbidden: HashMap::new() })
    }

    /// The journal that it is in, as it is now.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub(super) fn open(&self) -> Result<Journal> {
        let Some(first) = self.granted.first() else { return Err(Error::new(Kind::Internal, "no log was asked for")) };
        Journal::open(first)
    }

    /// Whether the policies in force now still permit it.
    ///
    /// # Errors
    /// As [`Call::permit`].
    pub(super) fn still(&mut self, call: &Call<'_>) -> Result<()> {
        self.forbidden.clear();
        self.granted.iter().try_for_each(|log| call.host.gate.still_with::<ReadLog>(&call.site(), log.resource(), &self.circumstances))
    }

    /// A query for it, of all times.
    pub(super) fn query(&self) -> Query {
        Query { filters: self.filters.clone(), grep: self.grep.clone(), fields: self.fields.clone(), ..Query::default() }
    }

    /// The entries of a query; none of a log that some policy forbids.
    ///
    /// # Errors
    /// As [`Journal::read_where`].
    pub(super) fn read(&mut self, call: &Call<'_>, journal: &Journal, query: &Query) -> Result<Found> {
        let (forbidden, circumstances) = (&mut self.forbidden, &self.circumstances);
        let mut closed = |log: Log| {
            use crate::policy::Resource as _;
            *forbidden.entry(log.id().to_owned()).or_insert_with(|| {
                // That it is not permitted by itself does not matter: what was asked for is. That it is forbidden does.
                let answer = call.host.gate.would_with::<ReadLog>(&log, circumstances);
                matches!(answer, Answer::No(crate::error::Why::Forbidden | crate::error::Why::PolicyError))
            })
        };
        // Not counted either: how many forbidden entries match is what they say, one question at a time.
        journal.read_where(query, &mut |entry| !logs_of(entry).into_iter().any(&mut closed), &|| call.check())
    }

    /// As scripts get it.
    pub(super) fn show(&self, entry: &Entry) -> Dynamic {
        Dynamic::from_map(shown(entry, &self.shown, self.fields.is_none()))
    }
}

fn journal(call: &Call<'_>, options: JournalOptions) -> Result<Array> {
    let mut wanted = Wanted::ask(
        call,
        &Choice {
            unit: &options.unit,
            kernel: options.kernel,
            priority: options.priority,
            grep: options.grep.as_deref(),
            pid: options.pid,
            identifier: &options.identifier,
            fields: &options.fields,
        },
    )?;
    let journal = wanted.open()?;
    let mut query = Query {
        since_us: options.since.map(|moment| moment.0),
        before_us: options.before.map(|moment| moment.0),
        cursor: options.cursor.as_deref().map(Cursor::parse).transpose()?,
        reverse: options.reverse,
        lines: usize::try_from(options.lines).unwrap_or(usize::MAX),
        max_bytes: usize::try_from(options.max_bytes).unwrap_or(usize::MAX),
        ..wanted.query()
    };
    match &options.boot {
        None => {}
        Some(BootOf::Id(id)) => query.filters.push(Filter::has("_BOOT_ID", id)),
        Some(BootOf::Back(back)) => {
            let boots = journal.boots(&|| call.check())?;
            let boot = boots.len().checked_sub(back.saturating_add(1)).and_then(|at| boots.get(at));
            let boot = boot.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("the journal does not know a boot so long ago: it has {}", boots.len()))
            })?;
            query.filters.push(Filter::has("_BOOT_ID", &boot.id));
        }
    }
    let found = wanted.read(call, &journal, &query)?;
    let entries = found.entries.iter().map(|entry| wanted.show(entry)).collect();
    warn(call, "damaged places in the journal passed over", found.faults)?;
    warn(call, "journal files that cannot be read", journal.unreadable + journal.unusable)?;
    Ok(entries)
}

/// The last entries of a unit's log.
///
/// # Errors
/// As the script function.
pub(super) fn last_of_unit(call: &Call<'_>, unit: &str, lines: u64) -> Result<Array> {
    journal(call, JournalOptions { unit: vec![unit.to_owned()], lines, ..JournalOptions::default() })
}

pub(super) fn warn(call: &Call<'_>, what: &str, count: u64) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let message = format!("{}: {what}: {count}", call.function.name);
    call.host.out.log(crate::output::Log {
        level: "WARN",
        message,
        fields: Default::default(),
        line: call.line,
        function: Some(call.function.name),
        time: crate::sys::clock::now_rfc3339(),
    })
}

fn first<'e>(entry: &'e Entry, name: &str) -> Option<&'e [u8]> {
    entry.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_slice())
}

fn text(entry: &Entry, name: &str) -> Option<String> {
    first(entry, name).map(|value| String::from_utf8_lossy(value).into_owned())
}

/// The logs that an entry is in, by every field that may say so: rather too many than one too few, as they can only take it away.
fn logs_of(entry: &Entry) -> Vec<Log> {
    let units = entry.fields.iter().filter(|(name, _)| name != "_TRANSPORT" && PLACES.contains(&name.as_str()));
    let mut logs: Vec<Log> = units.map(|(_, value)| Log::Unit(String::from_utf8_lossy(value).into_owned())).collect();
    if first(entry, "_TRANSPORT") == Some(b"kernel") {
        logs.push(Log::Kernel);
    }
    logs
}

fn shown(entry: &Entry, fields: &[String], all: bool) -> Map {
    let number = |name| text(entry, name).and_then(|text| text.trim().parse::<u64>().ok());
    // What PID 1 says about a unit is of that unit, as it counts for the policy.
    let about = text(entry, "UNIT").filter(|_| first(entry, "_PID") == Some(b"1"));
    let mut map = record([
        ("time", moment(entry.realtime_us).into_script()),
        ("message", text(entry, "MESSAGE").into_script()),
        ("priority", number("PRIORITY").into_script()),
        ("identifier", text(entry, "SYSLOG_IDENTIFIER").or_else(|| text(entry, "_COMM")).into_script()),
        ("pid", number("_PID").into_script()),
        ("unit", about.or_else(|| text(entry, "_SYSTEMD_UNIT")).into_script()),
        ("boot_id", entry.boot_id.clone().into_script()),
        ("cursor", entry.cursor.to_string().into_script()),
    ]);
    if !fields.is_empty() {
        let mut raw = Map::new();
        for (name, value) in entry.fields.iter().filter(|(name, _)| all || fields.contains(name)) {
            let value = name_value(value);
            match raw.remove(name.as_str()) {
                None => raw.insert(name.as_str().into(), value),
                Some(before) => {
                    let mut several = if before.is_array() { before.into_array().unwrap_or_default() } else { vec![before] };
                    several.push(value);
                    raw.insert(name.as_str().into(), Dynamic::from_array(several))
                }
            };
        }
        map.insert("fields".into(), Dynamic::from_map(raw));
        map.insert("cut".into(), entry.cut.clone().into_script());
    }
    map
}

fn journal_boots(call: &Call<'_>) -> Result<Vec<Map>> {
    let fields = BTreeSet::from(["_BOOT_ID".to_owned()]);
    let granted = call.permit_with::<ReadLog>(Log::System, context(7, &fields, false))?;
    let boots = Journal::open(&granted)?.boots(&|| call.check())?;
    let last = i64::try_from(boots.len()).unwrap_or(i64::MAX) - 1;
    let rows = (0..).zip(boots).map(|(at, boot): (i64, _)| {
        record([
            ("index", (at - last).into_script()),
            ("boot_id", boot.id.into_script()),
            ("first", moment(boot.first_us).into_script()),
            ("last", moment(boot.last_us).into_script()),
        ])
    });
    Ok(rows.collect())
}

fn journal_disk_usage(call: &Call<'_>) -> Result<Map> {
    let granted = call.permit_with::<ReadLog>(Log::System, context(7, &BTreeSet::new(), false))?;
    let journal = Journal::open(&granted)?;
    Ok(record([("bytes", journal.disk_bytes.into_script()), ("files", (journal.files() as u64).into_script())]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn distances_are_read_whole_or_not_at_all() {
        for (text, seconds) in [("90s", 90), ("1h30m", 5400), ("1 hour 5 min", 3900), ("2d", 172_800), ("1w", 604_800)] {
            assert_eq!(distance(text), Some(seconds), "{text}");
        }
        for bad in ["", "h", "1", "1x", "1h x", "1.5h", "-1h", "99999999999999999999s", "9223372036854775807w"] {
            assert_eq!(distance(bad), None, "{bad}");
        }
    }

    #[test]
    fn levels_are_numbers_or_names() {
        let level = |value: Dynamic| Level::from_script(value).map(|level| level.0);
        assert_eq!(level(Dynamic::from_int(3)).unwrap(), 3);
        assert_eq!(level(Dynamic::from("error")).unwrap(), 3);
        assert_eq!(level(Dynamic::from("debug")).unwrap(), 7);
        for bad in [Dynamic::from_int(8), Dynamic::from_int(-1), Dynamic::from("loud"), Dynamic::TRUE] {
            assert_eq!(level(bad).unwrap_err().kind, Kind::BadArgument);
        }
    }

    #[test]
    fn moments_are_times_texts_numbers_or_distances() {
        let moment = |value: Dynamic| Moment::from_script(value).map(|moment| moment.0);
        assert_eq!(moment(Dynamic::from_int(5)).unwrap(), 5_000_000);
        assert_eq!(moment(Dynamic::from("1970-01-01T00:00:05Z")).unwrap(), 5_000_000);
        let hour = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap() - 3_600_000_000;
        assert!(moment(Dynamic::from("-1h")).unwrap().abs_diff(hour) < 60_000_000);
        for bad in [Dynamic::from_int(-1), Dynamic::from("yesterdayish"), Dynamic::TRUE, Dynamic::from_int(i64::MAX)] {
            assert_eq!(moment(bad).unwrap_err().kind, Kind::BadArgument);
        }
    }
}
