//! `rex why REF`: a denial explained to the one whom it concerned, and to the host's owner from the records.

use super::can::{answer_words, needs_open, question};
use super::verbs::write;
use crate::audit::{find_denial, reader};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::limits::Watch;
use crate::os::denials::Denials;
use crate::os::trusted::Owner;
use crate::output::Form;
use crate::policy::Gate;
use crate::run;
use crate::terms::{OwnersFiles, TOLD, Terms};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Explains a denial of this caller: what was asked, what it was told, and what today's policy says.
///
/// # Errors
/// [`Kind::NotFound`] for a reference that is unknown, or somebody else's: the two look alike.
pub fn why(terms: &Terms, reference: &str, form: Form) -> Result<u8> {
    let watch = Arc::new(Watch::new(terms.limits.clone()));
    let gate = run::gate(terms, &watch, None, "")?;
    let told = terms.denials.as_deref().and_then(|denials| told(denials, reference, gate.principal()));
    let Some(told) = told else {
        return Err(Error::new(Kind::NotFound, "no denial of yours with this reference is known here")
            .with_hint("explanations are kept for a while only; the owner of the host finds it with `rex why` or `rex audit`"));
    };
    let mut document = Map::new();
    document.insert("schema".to_owned(), "rex.why/1".into());
    for name in ["ref", "run", "time", "function", "at", "denial"] {
        document.insert(name.to_owned(), told.get(name).cloned().unwrap_or_default());
    }
    let denial = told.get("denial").cloned().unwrap_or_default();
    let today = today(&gate, text(&denial, "action"), text(&denial, "resource"));
    // Programs of this account may have written any of it.
    let visible = |value: &Value, name: &str| crate::audit::visible(text(value, name));
    let mut shown = format!(
        "{}: {} on {} was not allowed\n  asked by: {} at {}, run {}, {}\n  why: {}\n",
        visible(&told, "ref"),
        visible(&denial, "action"),
        visible(&denial, "resource"),
        visible(&told, "function"),
        place(&told),
        visible(&told, "run"),
        visible(&told, "time"),
        in_words(text(&denial, "why")),
    );
    shown.push_str(&revealed(&denial));
    if let Some((answer, on)) = &today {
        let on = if on.is_empty() { String::new() } else { format!(", on {}", on.join(" and ")) };
        shown.push_str(&format!("  today: {answer}{on}\n"));
        document.insert("today".to_owned(), json!({"answer": answer, "depends_on": on_value(&today), "policy": terms.policies.digest}));
    }
    Ok(write(form, &shown, &Value::Object(document)))
}

fn on_value(today: &Option<(&'static str, Vec<String>)>) -> Vec<String> {
    today.as_ref().map(|(_, on)| on.clone()).unwrap_or_default()
}

/// What the caller was told, from the store. Lines may be anybody's of this account, and of any form.
fn told(denials: &Denials, reference: &str, principal: &str) -> Option<Value> {
    let lines = denials.lines().ok()?;
    lines.iter().filter(|line| line.contains(reference)).find_map(|line| {
        let value: Value = serde_json::from_str(line).ok()?;
        let fits = text(&value, "schema") == TOLD
            && text(&value, "ref") == reference
            && value.get("denial").is_some_and(|denial| text(denial, "principal") == principal && text(denial, "ref") == reference);
        fits.then_some(value)
    })
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

fn place(value: &Value) -> String {
    let number = |name: &str| value.pointer(&format!("/at/{name}")).and_then(Value::as_u64).unwrap_or(0);
    format!("{}:{}", number("line"), number("column"))
}

fn in_words(why: &str) -> &'static str {
    match why {
        "forbidden" => "forbidden (a policy forbids it)",
        "condition_failed" => "condition_failed (a policy permits it under a condition that did not hold)",
        "policy_error" => "policy_error (a policy could not be evaluated)",
        _ => "not_permitted (no policy permits it)",
    }
}

/// What the authors revealed, for people.
fn revealed(denial: &Value) -> String {
    let mut shown = String::new();
    for (name, label) in [("hint", "hint"), ("policy", "forbidden by policy")] {
        let said = text(denial, name);
        if !said.is_empty() {
            shown.push_str(&format!("  {label}: {}\n", crate::audit::visible(said)));
        }
    }
    if let Some(nearest) = denial.get("nearest") {
        shown.push_str(&format!("  nearest permit: policy {}\n", crate::audit::visible(text(nearest, "policy"))));
        for unmet in nearest.get("unmet").and_then(Value::as_array).into_iter().flatten() {
            let (condition, at) = (crate::audit::visible(text(unmet, "condition")), crate::audit::visible(text(unmet, "at")));
            shown.push_str(&format!("    not met: {condition} ({at})\n"));
        }
    }
    shown
}

/// What the policies say now, of the thing as it was named.
fn today(gate: &Gate, action: &str, resource: &str) -> Option<(&'static str, Vec<String>)> {
    let (ask, noun, id) = question(action, resource).ok()?;
    Some(answer_words(gate.would_ask(&ask, needs_open(&ask), noun, &id)))
}

/// `rex why REF` on the owner's command line; gives the exit code.
#[must_use]
pub fn run(reference: &str, files: &[PathBuf], config: Option<&Path>, json: bool) -> u8 {
    let config = OwnersFiles::new(config, Owner::Unchecked).config();
    let form = if json { Form::Json } else { Form::Human };
    match config.and_then(|config| of_record(&config, files, reference, form)) {
        Ok(code) => code,
        Err(error) => super::local::failed(&error),
    }
}

/// For the owner: the record of a denial, from the file of records.
///
/// # Errors
/// [`Kind::NotFound`] when no record has the reference; [`Kind::Usage`] when there is no file to look in.
fn of_record(config: &Config, files: &[PathBuf], reference: &str, form: Form) -> Result<u8> {
    let own;
    let files = if files.is_empty() && !config.audit.file.is_empty() {
        own = [config.beside(&config.audit.file)];
        &own
    } else {
        files
    };
    if files.is_empty() {
        return Err(Error::new(Kind::Usage, "no file of records: `audit.file` of rex.toml is empty")
            .with_hint(format!("name a file, or look in the system's log: `journalctl -t rex -g {reference}`")));
    }
    for path in files {
        if let Some(record) = find_denial(reader(crate::os::trusted::open_any(path)?)?, reference, None)? {
            let record = Value::Object(record);
            let policies: Vec<&str> =
                record.get("policies").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
            let visible = |name: &str| crate::audit::visible(text(&record, name));
            let number = |name: &str| record.get(name).and_then(Value::as_u64).unwrap_or(0);
            let shown = format!(
                "{}: {} on {} was not allowed\n  principal: {}, run {}, {}\n  asked by: {} at {}:{}\n  why: {}\n  policies: {}\n",
                visible("ref"),
                visible("action"),
                visible("resource"),
                visible("principal"),
                visible("run"),
                visible("time"),
                visible("function"),
                number("line"),
                number("column"),
                in_words(text(&record, "why")),
                if policies.is_empty() { "none".to_owned() } else { crate::audit::visible(&policies.join(", ")) },
            );
            return Ok(write(form, &shown, &record));
        }
    }
    Err(Error::new(Kind::NotFound, format!("no record has the reference `{reference}`")))
}
