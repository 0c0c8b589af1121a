//! The manual of the script API, rendered from the table: text for a terminal, JSON for programs, Markdown for docs/functions.md.

use super::TOPICS;
use super::function::{Example, Function, ParamRow};
use super::value::OptionRow;
use crate::policy::{Access, Ask};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Columns of the text for a terminal.
const WIDTH: usize = 100;

/// Every function by topic, a line each.
#[must_use]
pub fn list() -> String {
    let mut out = String::new();
    for (_, about, functions) in TOPICS {
        let _ = writeln!(out, "{about}");
        for function in *functions {
            let _ = writeln!(out, "  {:<34} {}", function.signature(), bare(summary(function)));
        }
        out.push('\n');
    }
    out.push_str("rex functions NAME tells all about one.\n");
    out
}

/// All about one function, for a terminal.
#[must_use]
pub fn text(function: &Function) -> String {
    let mut out = format!("{}\n\n", function.signature());
    for paragraph in function.doc.split('\n').filter(|line| !line.is_empty()) {
        wrapped(&mut out, &bare(paragraph), "  ", "  ");
        out.push('\n');
    }
    let params = function.body.params();
    if !params.is_empty() {
        out.push_str("arguments\n");
    }
    for param in &params {
        if param.options.is_some() {
            continue;
        }
        let left = if param.optional { " (may be left out)" } else { "" };
        row(&mut out, param.name, &format!("{}{left}: {}", param.kind, bare(param.doc)));
    }
    for option in function.options().unwrap_or(&[]) {
        let default = default(option).map_or_else(String::new, |default| format!(", {default} unless given"));
        row(&mut out, &format!("#{{{}}}", option.name), &format!("{}{default}: {}", option.kind, bare(option.doc)));
    }
    if !params.is_empty() {
        out.push('\n');
    }
    out.push_str("asks the policy for\n");
    for ask in function.asks {
        row(&mut out, &format!("{} on {}", action(ask), ask.applies_to.join(" or ")), &bare(ask.doc));
    }
    if function.asks.is_empty() {
        out.push_str("  nothing\n");
    }
    if !function.fails.is_empty() {
        out.push_str("\nmay fail with\n");
        for kind in function.fails {
            row(&mut out, kind.name(), kind.doc());
        }
    }
    for example in function.examples {
        out.push_str("\nexample");
        let given = given(example);
        let _ = if given.is_empty() { writeln!(out) } else { writeln!(out, " (`dir` holds {given})") };
        for line in example.script.lines() {
            let _ = writeln!(out, "  {line}");
        }
        if !example.gives.is_empty() {
            let _ = writeln!(out, "  // gives {}", example.gives);
        }
    }
    out
}

/// Functions as data: all, or the one of that name (`None` where there is none).
#[must_use]
pub fn json(name: Option<&str>) -> Option<Value> {
    let wanted = |function: &&Function| name.is_none_or(|name| function.name == name);
    let functions: Vec<Value> = TOPICS
        .iter()
        .flat_map(|(topic, _, functions)| functions.iter().filter(wanted).map(move |function| entry(topic, function)))
        .collect();
    (name.is_none() || !functions.is_empty()).then(|| json!({"schema": "rex.functions/1", "functions": functions}))
}

fn entry(topic: &str, function: &Function) -> Value {
    let params = function.body.params();
    let params = params
        .iter()
        .filter(|param| param.options.is_none())
        .map(|param: &ParamRow| json!({"name": param.name, "type": param.kind, "optional": param.optional, "doc": param.doc}));
    let options = function.options().unwrap_or(&[]).iter().map(|option| {
        let mut value = json!({"name": option.name, "type": option.kind, "doc": option.doc});
        if let (Some(map), Some(default)) = (value.as_object_mut(), default(option)) {
            map.insert("default".to_owned(), default.into());
        }
        value
    });
    let asks = function
        .asks
        .iter()
        .map(|ask| json!({"action": action(ask), "on": ask.applies_to, "changes": ask.access == Access::Change, "doc": ask.doc}));
    let examples = function.examples.iter().map(|example| {
        let given: Map<String, Value> = example.given.iter().map(|(name, text)| ((*name).to_owned(), (*text).into())).collect();
        let mut value = json!({"given": given, "script": example.script});
        if let (Some(map), false) = (value.as_object_mut(), example.gives.is_empty()) {
            map.insert("gives".to_owned(), example.gives.into());
        }
        value
    });
    json!({
        "name": function.name,
        "topic": topic,
        "signature": function.signature(),
        "summary": summary(function),
        "doc": function.doc,
        "params": params.collect::<Vec<_>>(),
        "options": options.collect::<Vec<_>>(),
        "asks": asks.collect::<Vec<_>>(),
        "fails": function.fails.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        "examples": examples.collect::<Vec<_>>(),
    })
}

/// docs/functions.md.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# The functions of scripts\n\n\
         <!-- Derived from the table of functions; `REX_BLESS=1 cargo test --test derived` writes it anew. -->\n\n\
         Required arguments come first, options last, as a map: `find(\"/var/log\", #{name: \"*.gz\"})`. An option that does not exist is an error.\n\
         A function that fails throws a map with `kind` and `message`; besides the kinds given with each, every function may throw `bad_argument`,\n\
         and one that asks the policy may throw `denied`. In the examples `dir` is a folder that holds the files named beside them.\n\n",
    );
    for (_, about, functions) in TOPICS {
        let names: Vec<String> = functions.iter().map(|function| format!("[{0}](#{0})", function.name)).collect();
        let _ = writeln!(out, "- **{about}**: {}", names.join(", "));
    }
    for (_, about, functions) in TOPICS {
        let _ = writeln!(out, "\n## {about}");
        for function in *functions {
            markdown_of(&mut out, function);
        }
    }
    out
}

fn markdown_of(out: &mut String, function: &Function) {
    let _ = write!(out, "\n### {}\n\n`{}`\n", function.name, function.signature());
    for paragraph in function.doc.split('\n').filter(|line| !line.is_empty()) {
        let _ = write!(out, "\n{}\n", linked(paragraph));
    }
    let params = function.body.params();
    if !params.is_empty() {
        out.push_str("\n| argument | is | |\n|---|---|---|\n");
    }
    for param in params.iter().filter(|param| param.options.is_none()) {
        let left = if param.optional { ", may be left out" } else { "" };
        let _ = writeln!(out, "| `{}` | {}{left} | {} |", param.name, cell(param.kind), cell(&linked(param.doc)));
    }
    for option in function.options().unwrap_or(&[]) {
        let default = default(option).map_or_else(String::new, |default| format!(", `{default}` unless given"));
        let _ = writeln!(out, "| `#{{{}}}` | {}{} | {} |", option.name, cell(option.kind), cell(&default), cell(&linked(option.doc)));
    }
    let asks: Vec<String> = function.asks.iter().map(|ask| format!("`{}`", action(ask))).collect();
    let _ = write!(out, "\nAsks for {}.", if asks.is_empty() { "no permission".to_owned() } else { asks.join(", ") });
    let fails: Vec<String> = function.fails.iter().map(|kind| format!("`{}`", kind.name())).collect();
    if !fails.is_empty() {
        let _ = write!(out, " May fail with {}.", fails.join(", "));
    }
    out.push('\n');
    for example in function.examples {
        out.push_str("\n```rhai\n");
        let given = given(example);
        if !given.is_empty() {
            let _ = writeln!(out, "// dir holds {given}");
        }
        let _ = writeln!(out, "{}", example.script);
        if !example.gives.is_empty() {
            let _ = writeln!(out, "// gives {}", example.gives);
        }
        out.push_str("```\n");
    }
}

/// docs/policy-reference.md: what policies can name, and which functions ask for it.
#[must_use]
pub fn policy_reference() -> String {
    let (asks, nouns) = super::vocabulary();
    crate::policy::reference::markdown(&asks, &nouns, &|namespace, name| {
        let asked = |function: &&Function| function.asks.iter().any(|ask| (ask.namespace, ask.name) == (namespace, name));
        super::all().filter(asked).map(|function| function.name).collect()
    })
}

/// The first line of its doc.
#[must_use]
pub fn summary(function: &Function) -> &'static str {
    function.doc.lines().next().unwrap_or("")
}

/// `file_system::Action::"read"`.
#[must_use]
pub fn action(ask: &Ask) -> String {
    format!("{}::Action::\"{}\"", ask.namespace, ask.name)
}

/// An option's default in the notation of scripts; `None` where leaving it out means its absence.
#[must_use]
pub fn default(option: &OptionRow) -> Option<String> {
    let text = option.default.trim();
    let text = [".to_owned()", ".to_string()", ".into()"].iter().find_map(|end| text.strip_suffix(end)).unwrap_or(text);
    let text = text.strip_prefix("Some(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(text);
    if let Some((number, shift)) = text.split_once("<<")
        && let (Ok(number), Ok(shift)) = (number.trim().parse::<u64>(), shift.trim().parse::<u32>())
    {
        return number.checked_shl(shift).map(|number| number.to_string());
    }
    if let Some((_, seconds)) = text.split_once("Duration::from_").and_then(|(_, call)| call.strip_suffix(')')?.split_once('(')) {
        let seconds = seconds.trim().replace('_', "");
        return match text.contains("from_millis") {
            true => seconds.parse::<f64>().ok().map(|millis| (millis / 1000.0).to_string()),
            false => Some(seconds),
        };
    }
    // A value in a type of its own, `Bits(0o644)`.
    let text = text
        .split_once('(')
        .filter(|(name, _)| name.chars().all(char::is_alphanumeric))
        .and_then(|(_, inner)| inner.strip_suffix(')'))
        .unwrap_or(text);
    match text {
        "None" | "" | "Dynamic::UNIT" => None,
        "Vec::new()" | "vec![]" | "Array::new()" => Some("[]".to_owned()),
        "Map::new()" | "BTreeMap::new()" => Some("#{}".to_owned()),
        "String::new()" => Some("\"\"".to_owned()),
        number if number.starts_with(|c: char| c.is_ascii_digit()) => Some(number.replace('_', "")),
        other => Some(other.to_owned()),
    }
}

/// Names in square brackets that a text refers to: `[file_lines]`, outside code.
pub fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').step_by(2).flat_map(|plain| {
        plain
            .split('[')
            .skip(1)
            .filter_map(|rest| rest.split_once(']').map(|(name, _)| name))
            .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'))
    })
}

/// The text with every reference in the form that `as_link` gives it.
fn referring(text: &str, as_link: impl Fn(&str) -> String) -> String {
    let mut out = text.to_owned();
    for name in links(text) {
        out = out.replace(&format!("[{name}]"), &as_link(name));
    }
    out
}

fn linked(text: &str) -> String {
    referring(text, |name| format!("[{name}](#{name})"))
}

/// The text with references as code: `[cat]` becomes `` `cat` ``.
#[must_use]
pub fn bare(text: &str) -> String {
    referring(text, |name| format!("`{name}`"))
}

/// The files that an example is given, in a few words.
#[must_use]
pub fn given(example: &Example) -> String {
    let shown = |(name, text): &(&str, &str)| match *text {
        _ if name.ends_with('/') => (*name).to_owned(),
        "" => format!("{name} (empty)"),
        text if text.len() > 60 => format!("{name} ({} bytes)", text.len()),
        text => format!("{name} ({text:?})"),
    };
    example.given.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// Text for a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// A name and what it is, the second in a column of its own.
fn row(out: &mut String, name: &str, what: &str) {
    const COLUMN: usize = 18;
    let first = format!("  {name:<COLUMN$} ");
    let rest = " ".repeat(COLUMN + 3);
    if name.len() > COLUMN {
        let _ = writeln!(out, "  {name}");
        wrapped(out, what, &rest, &rest);
    } else {
        wrapped(out, what, &first, &rest);
    }
}

/// Words filled into lines of [`WIDTH`] columns.
fn wrapped(out: &mut String, text: &str, first: &str, rest: &str) {
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + word.chars().count() + 1 > WIDTH {
            let _ = writeln!(out, "{}", line.trim_end());
            rest.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn shown(text: &'static str) -> Option<String> {
        default(&OptionRow { name: "x", kind: "", default: text, doc: "", flags: &[] })
    }

    #[test]
    fn defaults_are_shown_as_a_script_would_write_them() {
        for (rust, script) in [
            ("false", "false"),
            ("16 << 20", "16777216"),
            ("100_000", "100000"),
            ("\"name\".to_owned()", "\"name\""),
            ("\"r\".into()", "\"r\""),
            ("String::new()", "\"\""),
            ("Vec::new()", "[]"),
            ("Duration::from_secs(5)", "5"),
            ("Duration::from_millis(500)", "0.5"),
            ("Some(3)", "3"),
            ("-1", "-1"),
            ("Bits(0o644)", "0o644"),
        ] {
            assert_eq!(shown(rust).as_deref(), Some(script), "{rust}");
        }
        assert_eq!(shown("None"), None);
    }

    #[test]
    fn references_are_found_outside_code_only() {
        assert_eq!(links("as [cat] and `[ls]` and [first, last] and [find]").collect::<Vec<_>>(), ["cat", "find"]);
        assert_eq!(linked("as [cat] does"), "as [cat](#cat) does");
    }

    #[test]
    fn one_function_is_shown_whole() {
        let text = text(crate::functions::by_name("cat").unwrap());
        for part in ["cat(path, #{…})", "#{max_bytes}", "16777216", "file_system::Action::\"read\"", "not_text", "// gives \"hello\\n\""]
        {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH || !line.contains(' ')), "{text}");
    }

    #[test]
    fn the_list_and_the_json_hold_every_function() {
        let (list, all) = (list(), json(None).unwrap());
        for function in crate::functions::all() {
            assert!(list.contains(&format!("\n  {}", function.signature())), "{}", function.name);
            assert!(all["functions"].as_array().unwrap().iter().any(|entry| entry["name"] == function.name));
        }
        assert_eq!(json(Some("cat")).unwrap()["functions"].as_array().unwrap().len(), 1);
        assert_eq!(json(Some("no_such_function")), None);
    }
}
