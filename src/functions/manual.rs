//! The manual of the functions, from the table.

use super::function::Function;
use serde_json::{Value, json};

/// One line a function, by topic.
#[must_use]
pub fn list() -> String {
    let mut text = String::new();
    for (_, title, functions) in super::TOPICS {
        text.push_str(&format!("{title}\n"));
        for function in *functions {
            text.push_str(&format!("  {:<40} {}\n", function.signature(), function.doc.lines().next().unwrap_or("")));
        }
    }
    text
}

/// The manual of one function.
#[must_use]
pub fn text(name: &str) -> String {
    super::by_name(name).map(|function| format!("{}\n\n{}\n", function.signature(), function.doc)).unwrap_or_default()
}

/// As data.
#[must_use]
pub fn json(name: Option<&str>) -> Value {
    super::all().filter(|function| name.is_none_or(|name| name == function.name)).map(one).collect()
}

fn one(function: &Function) -> Value {
    json!({"name": function.name, "signature": function.signature(), "doc": function.doc})
}
