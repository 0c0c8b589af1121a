//! Functions with which a script says something: log lines, records, progress, alarms, metrics, tables. (`print`, `debug` with one argument and `exit` are the language's own.)

use super::convert::{display, to_json};
use super::function::{Call, Example, Function, param, with1, with2, with3, with4};
use super::value::{Array, Dynamic, ImmutableString, Map};
use crate::error::{Result, bad_argument};
use crate::options;
use crate::output::Log;
use serde_json::json;
use unicode_width::UnicodeWidthStr;

pub const FUNCTIONS: &[Function] = &[INFO, WARN, ERROR, DEBUG, TRACE, PROGRESS, EMIT, ALARM, METRIC, TABLE];

const fn logger(name: &'static str, doc: &'static str, body: &'static dyn super::function::Body, example: &'static [Example]) -> Function {
    Function { name, doc, body, asks: &[], fails: &[], examples: example }
}

const INFO: Function = logger(
    "info",
    "A log line of the script, level INFO; fields go with it.\n\nTo stderr in human output, into `logs` of a result.",
    &with2(info, [param("message", "The text; any value is shown as `print` shows it."), param("fields", "More, as a map.")]),
    &[Example { given: &[], script: r#"info("rotated", #{files: 3})"#, gives: "()" }],
);
const WARN: Function = logger(
    "warn",
    "A log line of the script, level WARN.",
    &with2(warn, [param("message", "The text."), param("fields", "More, as a map.")]),
    &[],
);
const ERROR: Function = logger(
    "error",
    "A log line of the script, level ERROR.",
    &with2(error, [param("message", "The text."), param("fields", "More, as a map.")]),
    &[],
);
const DEBUG: Function = logger(
    "debug",
    "A log line of the script, level DEBUG.",
    &with2(debug, [param("message", "The text."), param("fields", "More, as a map.")]),
    &[],
);
const TRACE: Function = logger(
    "trace",
    "A log line of the script, level TRACE.",
    &with2(trace, [param("message", "The text."), param("fields", "More, as a map.")]),
    &[],
);

fn log(call: &Call<'_>, level: &'static str, message: &Dynamic, fields: Option<Map>) -> Result<()> {
    let fields = fields.unwrap_or_default().iter().map(|(key, value)| (key.to_string(), to_json(value))).collect();
    call.host.out.log(Log {
        level,
        message: display(message),
        fields,
        line: call.line,
        function: None,
        time: crate::sys::clock::now_rfc3339(),
    })
}
fn info(call: &Call<'_>, message: Dynamic, fields: Option<Map>) -> Result<()> {
    log(call, "INFO", &message, fields)
}
fn warn(call: &Call<'_>, message: Dynamic, fields: Option<Map>) -> Result<()> {
    log(call, "WARN", &message, fields)
}
fn error(call: &Call<'_>, message: Dynamic, fields: Option<Map>) -> Result<()> {
    log(call, "ERROR", &message, fields)
}
fn debug(call: &Call<'_>, message: Dynamic, fields: Option<Map>) -> Result<()> {
    log(call, "DEBUG", &message, fields)
}
fn trace(call: &Call<'_>, message: Dynamic, fields: Option<Map>) -> Result<()> {
    log(call, "TRACE", &message, fields)
}

const PROGRESS: Function = Function {
    name: "progress",
    doc: "How far a long piece of work is: a bar on a terminal, a frame in ndjson, nothing elsewhere.",
    body: &with3(progress, [param("done", "Units done."), param("total", "Units in all."), param("text", "What is being done.")]),
    asks: &[],
    fails: &[],
    examples: &[Example { given: &[], script: r#"progress(1, 2, "half")"#, gives: "()" }],
};

fn progress(call: &Call<'_>, done: i64, total: i64, text: Option<String>) -> Result<()> {
    call.host.out.progress(done, total, &text.unwrap_or_default())
}

const EMIT: Function = Function {
    name: "emit",
    doc: "A record for a program to read: a `record` frame in ndjson, a line of JSON elsewhere.",
    body: &with1(emit, [param("value", "Any value.")]),
    asks: &[],
    fails: &[],
    examples: &[Example { given: &[], script: r#"emit(#{host: "a", up: true})"#, gives: "()" }],
};

fn emit(call: &Call<'_>, value: Dynamic) -> Result<()> {
    call.host.out.emit(&to_json(&value))
}

const ALARM: Function = Function {
    name: "alarm",
    doc: "Raises an alarm in the result.",
    body: &with2(alarm, [param("type", "Its type; names that begin with `rex` are rex's own."), param("details", "What about it.")]),
    asks: &[],
    fails: &[],
    examples: &[Example { given: &[], script: r#"alarm("DiskFull", "/var at 98 %")"#, gives: "()" }],
};

fn alarm(call: &Call<'_>, kind: String, details: Option<String>) -> Result<()> {
    own_name(&kind, "an alarm")?;
    let mut alarm = json!({ "alarm_type": kind });
    if let (Some(object), Some(details)) = (alarm.as_object_mut(), details) {
        object.insert("alarm_details".to_owned(), details.into());
    }
    call.host.out.alarm(alarm)
}

const METRIC: Function = Function {
    name: "metric",
    doc: "Adds a metric to the result.",
    body: &with4(
        metric,
        [
            param("name", "Its name; names that begin with `rex` are rex's own."),
            param("value", "A number."),
            param("unit", "COUNT, TIME (nanoseconds), MEGABYTES, PERCENT or UNDEFINED, or a unit of your own."),
            param("dimensions", "Names and values as a map."),
        ],
    ),
    asks: &[],
    fails: &[],
    examples: &[Example { given: &[], script: r#"metric("requests", 3, "COUNT", #{host: "a"})"#, gives: "()" }],
};

fn metric(call: &Call<'_>, name: String, value: f64, unit: Option<String>, dimensions: Option<Map>) -> Result<()> {
    own_name(&name, "a metric")?;
    let dimensions: serde_json::Map<_, _> =
        dimensions.unwrap_or_default().iter().map(|(key, value)| (key.to_string(), display(value).into())).collect();
    call.host.out.metric(json!({
        "metric_name": name,
        "metric_value": value,
        "metric_unit": unit.unwrap_or_else(|| "UNDEFINED".to_owned()),
        "metric_dimension": dimensions,
        "metric_timestamp": crate::sys::clock::now_rfc3339(),
    }))
}

fn own_name(name: &str, what: &str) -> Result<()> {
    if name.is_empty() {
        return Err(bad_argument(format!("{what} needs a name")));
    }
    if name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("rex")) {
        return Err(bad_argument(format!("{what} cannot have a name that begins with `rex`: those are rex's own")));
    }
    Ok(())
}

options! {
    /// Options of `table`.
    TableOptions {
        columns: Option<Vec<String>> = None, "Which keys, in which order; without it all keys of the first row, sorted.";
        header: bool = true, "Begin with a line of names.";
        max_width: u64 = 80, "Cut longer cells, with an ellipsis.";
    }
}

const TABLE: Function = Function {
    name: "table",
    doc: "Rows as aligned text.\n\nEach row is a map (or an array). Numbers stand right.",
    body: &with2(table, [param("rows", "An array of maps or arrays."), param("options", "")]),
    asks: &[],
    fails: &[],
    examples: &[Example {
        given: &[],
        script: r#"table([#{name: "a", size: 5}, #{name: "bb", size: 10}])"#,
        gives: r#""name  size\na        5\nbb      10""#,
    }],
};

fn table(call: &Call<'_>, rows: Array, options: TableOptions) -> Result<ImmutableString> {
    let maps = rows.first().is_none_or(rhai_is_map);
    let columns: Vec<String> = match (&options.columns, rows.first()) {
        (Some(columns), _) => columns.clone(),
        (None, Some(first)) if maps => first.as_map_ref().map(|map| map.keys().map(ToString::to_string).collect()).unwrap_or_default(),
        (None, Some(first)) => first.as_array_ref().map(|row| (1..=row.len()).map(|at| at.to_string()).collect()).unwrap_or_default(),
        (None, None) => Vec::new(),
    };
    let limit = usize::try_from(options.max_width).unwrap_or(80).max(1);
    let mut cells: Vec<Vec<(String, bool)>> = Vec::with_capacity(rows.len() + 1);
    if options.header && maps {
        cells.push(columns.iter().map(|name| (name.clone(), false)).collect());
    }
    for (at, row) in rows.iter().enumerate() {
        if at % 256 == 0 {
            call.check()?;
        }
        let values: Vec<Dynamic> = if let Ok(map) = row.as_map_ref() {
            columns.iter().map(|name| map.get(name.as_str()).cloned().unwrap_or(Dynamic::UNIT)).collect()
        } else if let Ok(row) = row.as_array_ref() {
            row.to_vec()
        } else {
            return Err(bad_argument(format!("table: row {at} is neither a map nor an array")));
        };
        cells.push(values.iter().map(|value| (cell(value, limit), value.is_int() || value.is_float())).collect());
    }
    Ok(align(&cells, options.header && maps, "  ").join("\n").into())
}

/// Rows of cells as lines in which the columns stand below one another; a cell with `true` is a number. The first row may be the names of the columns.
#[must_use]
pub fn align(cells: &[Vec<(String, bool)>], header: bool, separator: &str) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for row in cells {
        for (at, (text, _)) in row.iter().enumerate() {
            match widths.get_mut(at) {
                Some(width) => *width = (*width).max(text.width()),
                None => widths.push(text.width()),
            }
        }
    }
    // A column's name stands where its numbers stand.
    let numeric: Vec<bool> = (0..widths.len())
        .map(|at| cells.iter().skip(usize::from(header)).any(|row| row.get(at).is_some_and(|(_, number)| *number)))
        .collect();
    cells
        .iter()
        .map(|row| {
            let mut line = String::new();
            for (at, (text, number)) in row.iter().enumerate() {
                let pad = " ".repeat(widths.get(at).copied().unwrap_or(0).saturating_sub(text.width()));
                let right = *number || numeric.get(at).copied().unwrap_or(false);
                if at > 0 {
                    line.push_str(separator);
                }
                if right {
                    line.push_str(&pad);
                }
                line.push_str(text);
                if !right {
                    line.push_str(&pad);
                }
            }
            line.trim_end().to_owned()
        })
        .collect()
}

/// Columns of a table for people; with more the lines would not fit.
const MOST_COLUMNS: usize = 12;
/// A wider cell would push all others aside, and nothing is cut off in the value of a run.
const WIDEST: usize = 120;

/// A final value for people: maps with the same keys as a table, one map as a line for each key. Nothing for what is better shown as it is.
#[must_use]
pub fn sheet(value: &Dynamic) -> Option<String> {
    let plain = |value: &Dynamic| if value.is_unit() { String::new() } else { display(value) };
    if let Some(map) = value.read_lock::<Map>() {
        // An error that was caught reads as a sentence.
        let error = map.contains_key("kind") && map.contains_key("message");
        let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}: {}", plain(value))).collect();
        let flat = lines.iter().all(|line| !line.contains(char::is_control));
        return (flat && !error && !lines.is_empty()).then(|| lines.join("\n"));
    }
    let rows = value.read_lock::<Array>()?;
    let columns: Vec<_> = rows.first()?.read_lock::<Map>()?.keys().cloned().collect();
    if columns.is_empty() || columns.len() > MOST_COLUMNS {
        return None;
    }
    let mut cells = vec![columns.iter().map(|name| (name.to_string(), false)).collect::<Vec<_>>()];
    for row in rows.iter() {
        let row = row.read_lock::<Map>()?;
        if !row.keys().eq(columns.iter()) {
            return None;
        }
        let line: Vec<(String, bool)> = row.values().map(|value| (plain(value), value.is_int() || value.is_float())).collect();
        if line.iter().any(|(text, _)| text.width() > WIDEST || text.contains(char::is_control)) {
            return None;
        }
        cells.push(line);
    }
    Some(align(&cells, true, "  ").join("\n"))
}

fn rhai_is_map(value: &Dynamic) -> bool {
    value.is_map()
}

/// One value in one cell: a line, cut where it is too wide.
pub fn cell(value: &Dynamic, limit: usize) -> String {
    let text = if value.is_unit() { String::new() } else { display(value) };
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.width() <= limit {
        return text;
    }
    let mut cut = String::new();
    for c in text.chars() {
        if cut.width() + 2 > limit {
            break;
        }
        cut.push(c);
    }
    cut.push('…');
    cut
}
