//! What comes back: an [`Outcome`] becomes text or JSON on stdout, an error line with a caret on stderr, and an exit code.

use crate::engine::{Failure, Outcome};
use crate::error::{Denial, Error, Exit, Kind};
use crate::limits::{Amount, Spent};
use crate::output::{Form, Log, Output, log_value, neutralise, write_all};
use crate::policy::Withheld;
use serde_json::{Map, Value, json};

/// The version of the result document.
pub const SCHEMA: &str = "rex.result/1";
/// Characters of an error's message in a result, as scripts for the reference know it.
const MAX_MESSAGE: usize = 1024;

/// What a report says besides the outcome.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The run's id; empty where it never got one.
    pub run: String,
    pub policy: Option<String>,
    pub layers: Vec<String>,
    pub denials: Vec<Denial>,
    /// How many there were; the list holds the first thousand.
    pub denied: u64,
    /// Of a dry run: what would have been changed, and how much it was in all; the list holds the first thousand.
    pub withheld: Option<(Vec<Withheld>, u64)>,
    /// What was used of each limit.
    pub limits: Vec<Spent>,
    /// Metrics of the run itself: name, value, unit.
    pub metrics: Vec<(&'static str, f64, &'static str)>,
}

/// The exit code of an outcome.
#[must_use]
pub fn exit_code(outcome: &Outcome) -> u8 {
    match (&outcome.failure, outcome.exit) {
        (Some(failure), _) => failure.error.kind.exit() as u8,
        (None, Some(code)) => code,
        (None, None) => Exit::Ok as u8,
    }
}

/// Writes the report and gives the exit code. A caller who is gone hears nothing; that is no error.
#[must_use]
pub fn write(outcome: &Outcome, script: &str, output: &Output, facts: &Facts) -> u8 {
    let code = exit_code(outcome);
    match output.form() {
        Form::Human => human(outcome, script, output, facts),
        form => {
            let mut document = document(outcome, output, facts, code);
            if form == Form::Ndjson
                && let Some(object) = document.as_object_mut()
            {
                // What was streamed already is not told twice.
                for key in ["logs", "alarms"] {
                    object.remove(key);
                }
                object.shift_insert(0, "type".to_owned(), json!("result"));
            }
            let text = if form == Form::PrettyJson { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
            let _ = write_all(rustix::stdio::stdout(), format!("{}\n", text.unwrap_or_default()).as_bytes());
        }
    }
    code
}

fn human(outcome: &Outcome, script: &str, output: &Output, facts: &Facts) {
    if let Some(text) = &outcome.text
        // Text that ends its last line itself, as that of a file does, gets no second end.
        && output.print(text.strip_suffix('\n').unwrap_or(text)).is_err()
    {
        return;
    }
    let mut lines = String::new();
    if let Some(failure) = &outcome.failure {
        lines.push_str(&pointed(failure, script));
    } else if !facts.denials.is_empty() {
        lines.push_str(&format!("note: {} denied {}\n", facts.denied, if facts.denied == 1 { "operation" } else { "operations" }));
    }
    if let Some((withheld, count)) = &facts.withheld {
        lines.push_str(&dry_run(withheld, *count));
    }
    let lines = neutralise(&lines);
    let lines = if output.has_colours() { coloured(&lines) } else { lines };
    let _ = write_all(rustix::stdio::stderr(), lines.as_bytes());
}

/// An error that belongs to no run, on stderr.
pub fn aside(failure: &Failure, colours: bool) {
    let lines = neutralise(&pointed(failure, ""));
    let _ = write_all(rustix::stdio::stderr(), if colours { coloured(&lines) } else { lines }.as_bytes());
}

/// An error as text, with its first words, caret and the names of what follows set off. The text has no escapes of its own any more.
fn coloured(lines: &str) -> String {
    const RED: &str = "\x1b[31m";
    const DIM: &str = "\x1b[2m";
    const PLAIN: &str = "\x1b[0m";
    let line = |line: &str| match line.split_once(": ") {
        _ if line.trim_end().ends_with('^') && line.starts_with("      | ") => {
            format!("{DIM}      |{PLAIN}{RED}{}{PLAIN}", line.get(7..).unwrap_or(""))
        }
        _ if line.get(5..8) == Some(" | ") => format!("{DIM}{}{PLAIN}{}", line.get(..7).unwrap_or(""), line.get(7..).unwrap_or("")),
        Some((class, rest)) if class.ends_with("_EXCEPTION") => format!("{RED}{class}{PLAIN}: {rest}"),
        Some((name, rest)) if name.starts_with("  ") => format!("{DIM}{name}:{PLAIN} {rest}"),
        Some(("note", rest)) => format!("{DIM}note:{PLAIN} {rest}"),
        _ => line.to_owned(),
    };
    lines.split_inclusive('\n').map(|whole| line(whole.trim_end_matches('\n')) + if whole.ends_with('\n') { "\n" } else { "" }).collect()
}

/// What a dry run would have changed, for people.
fn dry_run(withheld: &[Withheld], count: u64) -> String {
    let mut text = match count {
        0 => "dry run: it would change nothing\n".to_owned(),
        1 => "dry run: nothing was changed; 1 change would be made:\n".to_owned(),
        _ => format!("dry run: nothing was changed; {count} changes would be made:\n"),
    };
    for change in withheld {
        let detail =
            if change.detail.is_empty() || change.diff.is_some() { String::new() } else { format!(" ({})", one_line(&change.detail)) };
        text.push_str(&format!("  line {}: {}: {} on {}{detail}\n", change.line, change.function, change.action, change.resource));
        if let Some(diff) = &change.diff {
            diff.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
        }
    }
    text
}

/// An error as one line, then the source line with a caret.
#[must_use]
pub fn pointed(failure: &Failure, script: &str) -> String {
    let error = &failure.error;
    let mut text = match failure.at {
        Some((line, column)) => format!("{}: {} (line {line}, column {column})\n", error.kind.class().name(), one_line(&error.to_string())),
        None => format!("{}: {}\n", error.kind.class().name(), one_line(&error.to_string())),
    };
    if let Some((line, column)) = failure.at
        && let Some(source) = script.lines().nth(line as usize - 1)
    {
        let (shown, at) = excerpt(source, column as usize);
        text.push_str(&format!("{line:>5} | {shown}\n      | {}^\n", " ".repeat(at)));
    }
    if let Some(denial) = &error.denial {
        text.push_str(&format!("  why: {}, ref: {}\n", denial.why.name(), denial.reference));
    }
    if let Some(hint) = error.hint.as_ref().filter(|hint| !hint.is_empty()) {
        text.push_str(&format!("  hint: {}\n", one_line(hint)));
    }
    if let Some(denial) = &error.denial {
        text.push_str(&revealed(denial));
    }
    text
}

/// What the authors of policies reveal about a denial, for people.
#[must_use]
pub fn revealed(denial: &Denial) -> String {
    let mut text = String::new();
    if let Some(policy) = &denial.policy {
        text.push_str(&format!("  forbidden by: policy `{}`\n", one_line(policy)));
    }
    if let Some(nearest) = &denial.nearest {
        text.push_str(&format!("  nearest permit: policy `{}`\n", one_line(&nearest.policy)));
        for unmet in &nearest.unmet {
            text.push_str(&format!("    not met: {} ({})\n", one_line(&unmet.condition), one_line(&unmet.at)));
        }
    }
    text
}

fn withheld_value(change: &Withheld) -> Value {
    let mut value = json!({
        "function": change.function,
        "at": {"line": change.line, "column": change.column},
        "action": change.action,
        "resource": change.resource,
    });
    if let Some(object) = value.as_object_mut() {
        if !change.detail.is_empty() {
            object.insert("detail".to_owned(), change.detail.clone().into());
        }
        if let Some(diff) = &change.diff {
            object.insert("diff".to_owned(), diff.clone().into());
        }
    }
    value
}

/// A part of a long line around the column, and where the caret goes.
fn excerpt(source: &str, column: usize) -> (String, usize) {
    const WIDTH: usize = 100;
    let chars: Vec<char> = source.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
    let at = column.saturating_sub(1).min(chars.len());
    let start = at.saturating_sub(WIDTH / 2);
    let shown: String = chars.iter().skip(start).take(WIDTH).collect();
    (shown, at - start)
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn document(outcome: &Outcome, output: &Output, facts: &Facts, code: u8) -> Value {
    let said = output.said();
    let mut document = Map::new();
    let mut set = |key: &str, value: Value| {
        document.insert(key.to_owned(), value);
    };
    let mut text = said.printed.clone();
    text.push_str(outcome.text.as_deref().unwrap_or(""));
    if outcome.text.is_none() && text.ends_with('\n') {
        text.pop();
    }
    set("schema", SCHEMA.into());
    set("run", facts.run.clone().into());
    set("output", text.into());
    set("status", if outcome.failure.is_some() { "ERROR" } else { "SUCCESS" }.into());
    set("exit_code", code.into());
    if let Some(failure) = &outcome.failure {
        set("error", error_value(failure));
    }
    set("value", outcome.value.clone());
    if !facts.denials.is_empty() {
        set("denials", facts.denials.iter().map(denial_value).collect());
    }
    set("denial_count", facts.denied.into());
    if let Some((withheld, count)) = &facts.withheld {
        set("dry_run", true.into());
        set("would_change", withheld.iter().map(withheld_value).collect());
        set("would_change_count", (*count).into());
    }
    set("logs", said.logs.iter().map(log_value).collect());
    if said.logs_dropped > 0 {
        set("logs_dropped", said.logs_dropped.into());
    }
    let time = crate::sys::clock::now_rfc3339();
    let own = facts.metrics.iter().map(|(name, value, unit)| {
        json!({"metric_name": name, "metric_value": value, "metric_unit": unit, "metric_dimension": {}, "metric_timestamp": time})
    });
    set("metrics", said.metrics.iter().cloned().chain(own).collect());
    if !said.alarms.is_empty() {
        set("alarms", said.alarms.clone().into());
    }
    if let Some(policy) = &facts.policy {
        set("policy", policy.clone().into());
    }
    set("layers", facts.layers.clone().into());
    if !facts.limits.is_empty() {
        set("limits", facts.limits.iter().map(|spent| (spent.name.to_owned(), limit_value(spent))).collect::<Map<_, _>>().into());
    }
    set("truncated", said.truncated.into());
    Value::Object(document)
}

/// A quantity as JSON: seconds as a fraction, everything else whole.
#[must_use]
pub fn amount_value(amount: Amount) -> Value {
    match amount {
        Amount::Seconds(seconds) => json!((seconds * 1e6).round() / 1e6),
        Amount::Count(count) => count.into(),
    }
}

fn limit_value(spent: &Spent) -> Value {
    let mut value = json!({"limit": amount_value(spent.limit), "used": amount_value(spent.most)});
    if let (true, Some(object)) = (spent.is_near(), value.as_object_mut()) {
        object.insert("near".to_owned(), true.into());
    }
    value
}

/// Tells, once for each limit, that the run comes near to it.
#[derive(Debug, Default)]
pub struct Near {
    told: Vec<&'static str>,
}

impl Near {
    /// Tells what is new. What cannot be written now is left for the next time. Not the limit that has ended the run: that is told as an error.
    pub fn tell(&mut self, limits: &[Spent], reached: Option<&str>, output: &Output) {
        for spent in limits.iter().filter(|spent| spent.is_near() && reached != Some(spent.name)) {
            if !self.told.contains(&spent.name) && output.notice(&near_log(spent)) {
                self.told.push(spent.name);
            }
        }
    }
}

fn near_log(spent: &Spent) -> Log {
    let shown = match (spent.most, spent.limit, spent.name) {
        (Amount::Seconds(used), Amount::Seconds(limit), _) => format!("{used:.1} of {limit} s"),
        (_, _, "memory" | "output") => format!("{} of {} bytes", spent.most.number(), spent.limit.number()),
        _ => format!("{} of {}", spent.most.number(), spent.limit.number()),
    };
    let (used, limit) = (amount_value(spent.most), amount_value(spent.limit));
    let fields = Map::from_iter([("limit".to_owned(), spent.name.into()), ("used".to_owned(), used), ("of".to_owned(), limit)]);
    Log {
        level: "WARN",
        message: format!("the run comes near its limit `{}`: {shown} used", spent.name),
        fields,
        line: 0,
        function: None,
        time: crate::sys::clock::now_rfc3339(),
    }
}

fn error_value(failure: &Failure) -> Value {
    let error = &failure.error;
    let mut map = Map::new();
    let mut set = |key: &str, value: Value| {
        map.insert(key.to_owned(), value);
    };
    set("error_type", error.kind.class().name().into());
    set("kind", error.kind.name().into());
    set("message", one_line(&error.message).chars().take(MAX_MESSAGE).collect::<String>().into());
    if let Some((line, column)) = failure.at {
        set("at", json!({"line": line, "column": column}));
    }
    if let Some(path) = &error.path {
        set("path", path.clone().into());
    }
    if let Some(errno) = error.errno {
        set("errno", errno.into());
    }
    if let Some(denial) = &error.denial
        && let Value::Object(fields) = denial_value(denial)
    {
        for (key, value) in fields {
            set(&key, value);
        }
    } else if let Some(hint) = error.hint.as_ref().filter(|hint| !hint.is_empty()) {
        set("hint", hint.clone().into());
    }
    if let Some(thrown) = &failure.thrown {
        set("thrown", thrown.clone());
    }
    Value::Object(map)
}

/// A denial, as data.
#[must_use]
pub fn denial_value(denial: &Denial) -> Value {
    let mut value = json!({
        "class": Kind::Denied.class().name(),
        "why": denial.why.name(),
        "action": denial.action,
        "resource": denial.resource,
        "principal": denial.principal,
        "retry": denial.retry,
        "ref": denial.reference,
    });
    if let Some(object) = value.as_object_mut() {
        let mut set = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
        if let Some(hint) = &denial.hint {
            set("hint", hint.clone().into());
        }
        if let Some(policy) = &denial.policy {
            set("policy", policy.clone().into());
        }
        if let Some(nearest) = &denial.nearest {
            let unmet: Vec<Value> = nearest.unmet.iter().map(|unmet| json!({"condition": unmet.condition, "at": unmet.at})).collect();
            set("nearest", json!({"policy": nearest.policy, "unmet": unmet}));
        }
    }
    value
}

/// An error before any script: one line on stderr, and the document on stdout where one was asked for.
#[must_use]
pub fn early(error: Error, form: Form) -> u8 {
    let watch = std::sync::Arc::new(crate::limits::Watch::new(crate::limits::Limits::default()));
    let output = Output::new(form, false, watch);
    write(&Outcome::failed(error), "", &output, &Facts::default())
}
