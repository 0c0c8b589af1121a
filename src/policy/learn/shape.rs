//! The circumstances of a recorded question as conditions: what has to be equal, and the one thing of which several values may be listed.

use super::write::{literal, set};
use crate::policy::recorded;
use crate::policy::words::{Ask, Value};
use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;

/// The condition under which one question was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// All of them hold.
    pub fixed: Vec<String>,
    /// What takes several values, and this question's: in Cedar notation.
    pub pivot: Option<(String, String)>,
    /// A journal's level of importance: the least important one that was asked for.
    pub level: Option<i64>,
}

/// How the circumstances of a verb become a condition: namespace, name, what several values may be listed of, and what follows from the rest.
const SHAPES: &[(&str, &str, &str, &[&str])] = &[
    ("file_system", "execute", "argv", &["arguments", "argc", "user.username", "group.groupname", "namespace"]),
    ("file_system", "chmod", "mode", &["sticky", "world_writable"]),
    ("file_system", "chown", "", &["owner", "group"]),
    ("file_system", "move", "destination.path", &["destination.name", "destination.parent_path"]),
    ("file_system", "set_x_attr", "xattr.name", &[]),
];

/// Variables that change how a program writes, not what it does.
const HARMLESS: &[&str] = &["LANG", "LANGUAGE", "TZ", "TERM", "COLUMNS", "LINES", "NO_COLOR"];

/// # Errors
/// Why no condition can say exactly what was asked.
pub fn of(ask: &Ask, context: &Map<String, Json>, cut: bool) -> Result<Shape, String> {
    let mut shape = Shape::default();
    if ask.context.is_empty() {
        return Ok(shape);
    }
    if context.is_empty() {
        return Err("its circumstances are not on record".to_owned());
    }
    let (values, unknown) = recorded::known(context, ask.context, !cut);
    let row = SHAPES.iter().find(|(namespace, name, ..)| (*namespace, *name) == (ask.namespace, ask.name));
    let (pivot, skipped) = row.map_or(("", &[][..]), |(_, _, pivot, skipped)| (*pivot, *skipped));
    for name in unknown.into_iter().filter(|name| !skipped.contains(name)) {
        if name == "environment" {
            environment(context, &mut shape)?;
        } else {
            return Err(format!("`{name}` is not whole on record: it was secret, or too long"));
        }
    }
    if (ask.namespace, ask.name) == ("journal", "read") {
        return journal(&values);
    }
    for (name, value) in values {
        for (path, text) in flat(name, &value)? {
            if skipped.contains(&path.as_str()) {
            } else if path == pivot {
                shape.pivot = Some((format!("context.{path}"), text));
            } else {
                shape.fixed.push(equal(&format!("context.{path}"), &text));
            }
        }
    }
    Ok(shape)
}

/// Of the environment only the names are on record, so only one that cannot change what a program does is proposed.
fn environment(context: &Map<String, Json>, shape: &mut Shape) -> Result<(), String> {
    let names: Option<BTreeSet<&str>> =
        context.get("environment").and_then(|it| it.get("names")?.as_array()).and_then(|names| names.iter().map(Json::as_str).collect());
    let names = names.ok_or("its environment is not on record")?;
    if let Some(name) = names.iter().find(|name| !HARMLESS.contains(name) && !name.starts_with("LC_")) {
        return Err(format!("the value of its variable `{name}` is not on record, and may change what the program does"));
    }
    if names.is_empty() {
        shape.fixed.push("context.environment.names.isEmpty()".to_owned());
    } else {
        shape.fixed.push(format!("{}.containsAll(context.environment.names)", set(names.into_iter().map(literal))));
    }
    Ok(())
}

/// Not less important entries than these, no further fields.
fn journal(values: &[(&'static str, Value)]) -> Result<Shape, String> {
    let get = |name: &str| values.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    let (Some(Value::Long(level)), Some(Value::Set(fields)), Some(Value::Bool(all))) = (get("priority"), get("fields"), get("all_fields"))
    else {
        return Err("its circumstances are not on record".to_owned());
    };
    let mut fixed = Vec::new();
    if *all {
        fixed.push("context.all_fields".to_owned());
    } else {
        fixed.push("!context.all_fields".to_owned());
        let mut names: Vec<&str> =
            fields.iter().filter_map(|field| if let Value::String(text) = field { Some(text.as_str()) } else { None }).collect();
        names.sort_unstable();
        fixed.push(if names.is_empty() {
            "context.fields.isEmpty()".to_owned()
        } else {
            format!("{}.containsAll(context.fields)", set(names.into_iter().map(literal)))
        });
    }
    Ok(Shape { fixed, pivot: None, level: Some(*level) })
}

/// `path` equals what `text` is.
fn equal(path: &str, text: &str) -> String {
    match text {
        "true" => path.to_owned(),
        "false" => format!("!{path}"),
        "[]" => format!("{path}.isEmpty()"),
        text => format!("{path} == {text}"),
    }
}

/// A value with the records in it taken apart: paths, and Cedar notation.
fn flat(path: &str, value: &Value) -> Result<Vec<(String, String)>, String> {
    let text = match value {
        Value::Bool(bool) => bool.to_string(),
        Value::Long(long) => long.to_string(),
        Value::String(text) => literal(text),
        Value::Set(items) => {
            let mut texts = Vec::with_capacity(items.len());
            for item in items {
                match item {
                    Value::String(text) => texts.push(literal(text)),
                    Value::Long(long) => texts.push(long.to_string()),
                    _ => return Err(format!("`{path}` cannot be written down")),
                }
            }
            texts.sort();
            set(texts)
        }
        Value::Record(pairs) => {
            let parts: Result<Vec<_>, String> = pairs.iter().map(|(name, value)| flat(&format!("{path}.{name}"), value)).collect();
            return parts.map(|parts| parts.concat());
        }
        _ => return Err(format!("`{path}` cannot be written down")),
    };
    Ok(vec![(path.to_owned(), text)])
}

/// What several questions that differ in the pivot or the level alone have in common, as one condition. Empty: none.
#[must_use]
pub fn condition(fixed: &[String], pivot: Option<&str>, values: &BTreeSet<String>, level: Option<i64>) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(pivot) = pivot {
        let mut values = values.iter();
        match (values.next(), values.len()) {
            (Some(only), 0) => parts.push(equal(pivot, only)),
            (Some(first), _) => parts.push(format!("{}.contains({pivot})", set(std::iter::once(first).chain(values).cloned()))),
            (None, _) => {}
        }
    }
    parts.extend(level.map(|level| format!("context.priority <= {level}")));
    parts.extend(fixed.iter().cloned());
    parts
}
