//! The tests that go with a proposal: what was learned is allowed, and its neighbours are not.

use super::propose::{About, Permit, Who};
use std::fmt::Write as _;

/// A TOML string on one line, with whatever could hide in it written by number.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if super::write::plain(c) => out.push(c),
            c => drop(write!(out, "\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// An entity as tests write it: the quote and the backslash escaped, everything else as it is.
fn entity(kind: &str, id: &str) -> String {
    format!("{kind}::\"{}\"", id.replace('\\', "\\\\").replace('"', "\\\""))
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().map(|item| quoted(&item)).collect::<Vec<_>>().join(", "))
}

/// The file, in the form of `rex policy test`. It loads the proposal alone, so that it says nothing of other files.
pub(super) fn write(permits: &[Permit]) -> String {
    let mut text = String::from("# What `rex policy learn` proposed is allowed, and what lies beside it is not.\n");
    for permit in permits {
        let who = who(permit);
        let verbs = list(permit.actions.iter().map(|(namespace, name)| format!("{namespace}::{name}")));
        for (number, case) in allowed(permit).into_iter().enumerate() {
            let name = format!("{} {}", permit.id, number + 1);
            let _ = writeln!(
                text,
                "\n[[test]]\nname = {}\n{who}\naction = {verbs}\n{case}expect = \"allow\"\nby = {}",
                quoted(&name),
                quoted(&permit.id)
            );
        }
        for (number, (verbs, case)) in denied(permit, permits).into_iter().enumerate() {
            let name = format!("{} not {}", permit.id, number + 1);
            let _ = writeln!(text, "\n[[test]]\nname = {}\n{who}\naction = {verbs}\n{case}expect = \"deny\"", quoted(&name));
        }
        if let Some(case) = allowed(permit).into_iter().next() {
            let name = format!("{} not for others", permit.id);
            let _ = writeln!(
                text,
                "\n[[test]]\nname = {}\nprincipal = \"somebody-else\"\naction = {verbs}\n{case}expect = \"deny\"",
                quoted(&name)
            );
        }
    }
    text
}

fn who(permit: &Permit) -> String {
    match &permit.who {
        Who::User(name) => format!("principal = {}", quoted(name)),
        Who::Group(name) => format!("principal = \"a-member\"\ngroups = [{}]", quoted(name)),
    }
}

/// The circumstances of a question, as tests give them.
fn circumstances(seen: &super::Seen, more: Option<&str>) -> String {
    let context = &seen.asked.context;
    let mut text = String::new();
    if !seen.asked.attributes.is_empty() {
        let pairs = seen.asked.attributes.iter().filter_map(|(name, value)| Some(format!("{name} = {}", quoted(value.as_str()?))));
        let _ = writeln!(text, "resource_has = {{ {} }}", pairs.collect::<Vec<_>>().join(", "));
    }
    let mut pairs: Vec<String> = Vec::new();
    for (name, value) in context {
        match (name.as_str(), value) {
            ("argv", serde_json::Value::String(argv)) => {
                let mut words = super::words_of(argv);
                words.extend(more.map(str::to_owned));
                pairs.push(format!("argv = {}", list(words)));
            }
            // These follow from the arguments, or from the mode.
            ("argc" | "arguments" | "set_uid" | "set_gid" | "sticky" | "world_writable", _) => {}
            ("environment", value) => {
                let names = value["names"].as_array().cloned().unwrap_or_default();
                let variables = names.iter().filter_map(|name| Some(format!("{} = \"\"", quoted(name.as_str()?))));
                pairs.push(format!("environment = {{ {} }}", variables.collect::<Vec<_>>().join(", ")));
            }
            ("destination", value) => pairs.extend(value["path"].as_str().map(|path| format!("destination = {}", quoted(path)))),
            ("xattr", value) => pairs.extend(value["name"].as_str().map(|name| format!("xattr = {}", quoted(name)))),
            (name, value) => pairs.push(format!("{name} = {}", toml(value))),
        }
    }
    if !pairs.is_empty() {
        let _ = writeln!(text, "context = {{ {} }}", pairs.join(", "));
    }
    text
}

fn toml(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(pairs) => format!(
            "{{ {} }}",
            pairs.iter().map(|(name, value)| format!("{} = {}", quoted(name), toml(value))).collect::<Vec<_>>().join(", ")
        ),
        plain => plain.to_string(),
    }
}

/// One case for each question with circumstances, one for all things without.
fn allowed(permit: &Permit) -> Vec<String> {
    let resource = |seen: &super::Seen| entity(&seen.asked.resource.0, &seen.asked.resource.1);
    let plain = |seen: &&super::Seen| seen.asked.context.is_empty() && seen.asked.attributes.is_empty();
    let mut things: Vec<String> = permit.of.iter().filter(plain).map(resource).collect();
    things.sort();
    things.dedup();
    let mut cases = Vec::new();
    if !things.is_empty() {
        cases.push(format!("resource = {}\n", list(things)));
    }
    let mut special: Vec<String> = permit
        .of
        .iter()
        .filter(|seen| !plain(seen))
        .map(|seen| format!("resource = {}\n{}", quoted(&resource(seen)), circumstances(seen, None)))
        .collect();
    special.sort();
    special.dedup();
    cases.extend(special);
    cases
}

/// Whether a permit may be about this verb on the file with this path.
fn concerns(permit: &Permit, verb: &str, path: &str) -> bool {
    let there = match &permit.about {
        About::Exactly(_, id) => id == path,
        About::Folder(_, folder) => path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/')),
        About::Kind(_) => false,
    };
    there && permit.actions.iter().any(|(_, name)| name == verb)
}

/// What lies beside: another thing, another verb, another argument. With the verbs to ask for.
fn denied(permit: &Permit, all: &[Permit]) -> Vec<(String, String)> {
    let verbs = list(permit.actions.iter().map(|(namespace, name)| format!("{namespace}::{name}")));
    let Some(seen) = permit.of.first() else { return Vec::new() };
    let resource = |kind: &str, id: &str| format!("resource = {}\n", quoted(&entity(kind, id)));
    let mut cases = Vec::new();
    match &permit.about {
        About::Exactly(kind, id) => {
            let near = match id.rsplit_once('.') {
                Some((stem, kind_of)) if !kind.starts_with("file_system::") => format!("{stem}-neighbour.{kind_of}"),
                _ => format!("{id}-neighbour"),
            };
            // Another permit of the proposal may be for just that.
            if !all.iter().any(|known| permit.actions.iter().any(|(_, verb)| concerns(known, verb, &near))) {
                cases.push((verbs.clone(), format!("{}{}", resource(kind, &near), circumstances(seen, None))));
            }
        }
        About::Folder(kind, folder) => {
            cases.push((verbs.clone(), resource(kind, &format!("{folder}-neighbour/x"))));
            cases.push((verbs.clone(), resource(kind, &format!("{folder}/neighbour.pem"))));
        }
        About::Kind(kind) => {
            let user = seen.asked.attributes.get("username").and_then(|user| user.as_str()).unwrap_or("");
            let has = format!("resource_has = {{ name = \"neighbour\", username = {} }}\n", quoted(user));
            cases.push((verbs.clone(), format!("{}{has}", resource(kind, &seen.asked.resource.1))));
        }
    }
    if let (About::Exactly(kind, id), true) = (&permit.about, seen.asked.context.contains_key("argv")) {
        cases.push((verbs, format!("{}{}", resource(kind, id), circumstances(seen, Some("--neighbour")))));
    }
    if let About::Exactly(kind, id) = &permit.about
        && kind.starts_with("file_system::")
        && let Some(other) = ["read", "delete"].iter().find(|other| !all.iter().any(|known| concerns(known, other, id)))
    {
        cases.push((list([format!("file_system::{other}")]), resource(kind, id)));
    }
    cases
}
