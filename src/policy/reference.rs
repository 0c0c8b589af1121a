//! The reference of the policy language, docs/policy-reference.md: every noun, verb and group, from the same words as the schema.

use super::schema::{Entity, GROUPS, Namespace, SESSION, Shape, USER, Verb, Words, shape_of};
use super::words::{Access, Ask, Noun};
use std::fmt::Write as _;

/// The document. `users` gives the names of the functions that ask for a verb, by namespace and name.
#[must_use]
pub fn markdown(asks: &[Ask], nouns: &[Noun], users: &dyn Fn(&str, &str) -> Vec<&'static str>) -> String {
    let words = Words::of(asks, nouns);
    let mut out = String::from(
        "# What policies can name\n\n\
         <!-- Derived from the functions and the schema; `REX_BLESS=1 cargo test --test derived` writes it anew. -->\n\n\
         A policy is written in [Cedar](https://docs.cedarpolicy.com/) and checked strictly against `policies/rex.cedarschema`. What no `permit` allows is denied,\n\
         and a `forbid` overrides every `permit`.\n\n\
         ```cedar\n\
         @id(\"oncall-views-logs\")\npermit(\n    principal in Group::\"oncall\",\n    action in [file_system::Action::\"view\"],\n    resource in file_system::Dir::\"/var/log\"\n);\n\
         ```\n\n\
         An attribute with a question mark may be missing: ask `has` first.\n\n\
         ## Who asks: `User`\n\n\
         A `User` is in its `Group`s: `principal in Group::\"oncall\"`.\n\n",
    );
    attributes(&mut out, &shape_of(USER.attributes));
    out.push_str("\n## The circumstances: `context.session`\n\n");
    attributes(&mut out, &shape_of(SESSION));
    for (name, namespace) in &words.namespaces {
        section(&mut out, name, namespace, users);
    }
    out
}

fn section(out: &mut String, name: &str, namespace: &Namespace, users: &dyn Fn(&str, &str) -> Vec<&'static str>) {
    let _ = write!(out, "\n## {}\n", if name.is_empty() { "Without a namespace" } else { name });
    if !namespace.verbs.is_empty() {
        out.push_str("\n| action | on | asked by | |\n|---|---|---|---|\n");
    }
    for (verb, words) in &namespace.verbs {
        let functions: Vec<String> = users(name, verb).iter().map(|name| format!("[{name}](functions.md#{name})")).collect();
        let changes = if words.access == Some(Access::Change) { " *Changes things.*" } else { "" };
        let _ = writeln!(
            out,
            "| `{name}::Action::\"{verb}\"` | {} | {} | {}{changes} |",
            codes(words.applies_to.iter().copied()),
            if functions.is_empty() { "–".to_owned() } else { functions.join(", ") },
            cell(words.doc)
        );
    }
    for (verb, words) in namespace.verbs.iter().filter(|(_, words)| !words.context.is_empty()) {
        context(out, name, verb, words);
    }
    groups(out, name, namespace);
    for (entity, words) in &namespace.entities {
        noun(out, name, entity, words);
    }
}

fn context(out: &mut String, namespace: &str, verb: &str, words: &Verb) {
    let _ = write!(out, "\nWith `{namespace}::Action::\"{verb}\"`, `context` also has:\n\n");
    attributes(out, &words.context);
}

fn groups(out: &mut String, name: &str, namespace: &Namespace) {
    let members = |group: &str| -> Vec<&str> {
        namespace.verbs.iter().filter(|(_, verb)| verb.groups.contains(group)).map(|(name, _)| *name).collect()
    };
    let filled: Vec<(&str, Vec<&str>)> =
        namespace.groups.iter().map(|group| (*group, members(group))).filter(|(_, members)| !members.is_empty()).collect();
    if filled.is_empty() {
        return;
    }
    out.push_str("\n| group | its actions | |\n|---|---|---|\n");
    for (group, members) in filled {
        let doc = GROUPS.iter().find(|(known, _)| *known == group).map_or("", |(_, doc)| *doc);
        let _ = writeln!(out, "| `{name}::Action::\"{group}\"` | {} | {} |", codes(members.into_iter()), cell(doc));
    }
}

fn noun(out: &mut String, namespace: &str, entity: &str, words: &Entity) {
    let whole = if namespace.is_empty() { entity.to_owned() } else { format!("{namespace}::{entity}") };
    let _ = write!(out, "\n### `{whole}`\n\n{}", words.doc);
    if !words.parents.is_empty() {
        let _ = write!(out, " May be `in` {}.", codes(words.parents.iter().copied()));
    }
    out.push('\n');
    if !words.shape.is_empty() {
        out.push('\n');
        attributes(out, &words.shape);
    }
}

fn attributes(out: &mut String, shape: &Shape) {
    out.push_str("| attribute | type | |\n|---|---|---|\n");
    for (name, (cedar, required, doc)) in shape {
        let mark = if *required { "" } else { "?" };
        let _ = writeln!(out, "| `{name}{mark}` | `{}` | {} |", cedar.replace("__cedar::", ""), cell(doc));
    }
}

fn codes<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Text for a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn every_verb_noun_and_group_of_the_schema_is_in_the_reference() {
        let users: &dyn Fn(&str, &str) -> Vec<&'static str> = &|_, name| if name == "read" { vec!["cat"] } else { Vec::new() };
        let text = markdown(&[], &[], users);
        for part in [
            "| `file_system::Action::\"read\"` | `file_system::Dir`, `file_system::File` | [cat](functions.md#cat) |",
            "`context` also has:\n\n| attribute | type | |\n|---|---|---|\n| `destination`",
            "| `file_system::Action::\"view\"` | `open`, `read`, `redacted_read`, `stat` |",
            "### `process_system::Process`",
            "| `client_address?` | `ipaddr` |",
            "*Changes things.*",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
}
