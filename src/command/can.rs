//! `rex can`: what this caller may do here, and whether it may do one thing. By the very code that enforces.

use super::verbs::write;
use crate::error::{Error, Exit, Kind, Result};
use crate::functions;
use crate::functions::value::nearest;
use crate::limits::Watch;
use crate::output::Form;
use crate::policy::{Answer, Ask, Gate, Line, Noun, Part};
use crate::run;
use crate::terms::Terms;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn action_text(ask: &Ask) -> String {
    format!("{}::Action::\"{}\"", ask.namespace, ask.name)
}

/// What this caller may do; with a question, whether it may do that: exit 0 for yes and depends, 77 for no.
///
/// # Errors
/// [`Kind::Usage`] for an action or resource that there is not.
pub fn can(terms: &Terms, asked: Option<&(String, String)>, form: Form) -> Result<u8> {
    let watch = Arc::new(Watch::new(terms.limits.clone()));
    let gate = run::gate(terms, &watch, None, "")?;
    match asked {
        None => Ok(everything(&gate, form)),
        Some((action, resource)) => one(&gate, action, resource, form),
    }
}

/// Verbs of one namespace that may be used, or not, on the same things under the same conditions.
struct Group<'a> {
    namespace: &'a str,
    on: String,
    permit: bool,
    when: &'a [String],
    verbs: Vec<&'a str>,
}

fn groups(lines: &[Line]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for line in lines {
        let Some((namespace, verb)) = line.action.split_once("::Action::") else { continue };
        let verb = verb.trim_matches('"');
        let parts = line.allows.iter().map(|part| (true, part)).chain(line.except.iter().map(|part| (false, part)));
        for (permit, Part { reach, when }) in parts {
            let on = reach.to_string();
            let same = |group: &&mut Group<'_>| {
                group.namespace == namespace && group.on == on && group.permit == permit && group.when == when.as_slice()
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.verbs.push(verb),
                None => groups.push(Group { namespace, on, permit, when, verbs: vec![verb] }),
            }
        }
    }
    groups.sort_by(|a, b| (a.namespace, !a.permit, &a.on, a.when).cmp(&(b.namespace, !b.permit, &b.on, b.when)));
    groups
}

/// Conditions for people.
fn shown(when: &[String], permit: bool) -> String {
    match when {
        [] => String::new(),
        // The author says only that there are some, or gives a hint.
        [only] if only == "conditions" || only.starts_with("conditions (") => format!(", under {only}"),
        parts => format!(", {} {}", if permit { "only when" } else { "when" }, parts.join(" and ")),
    }
}

fn everything(gate: &Gate, form: Form) -> u8 {
    let lines = gate.summary();
    let groups = groups(&lines);
    let mut text = format!("{} may, on this host:\n", gate.principal());
    let mut namespace = "";
    for group in &groups {
        if group.namespace != namespace {
            namespace = group.namespace;
            text.push_str(&format!("{namespace}\n"));
        }
        let not = if group.permit { "" } else { "not " };
        text.push_str(&format!("  {not}{} on {}{}\n", group.verbs.join(", "), group.on, shown(group.when, group.permit)));
    }
    // Said always, so that it tells nobody whether there is something.
    text.push_str(if groups.is_empty() { "  nothing\n" } else { "Policies that their authors do not show may narrow this.\n" });
    let part = |part: &Part| json!({"resource": part.reach.to_string(), "when": part.when});
    let actions: Vec<Value> = lines
        .iter()
        .map(|line| {
            json!({
                "action": line.action,
                "answer": line.answer(),
                "on": line.allows.iter().map(|part| part.reach.to_string()).collect::<Vec<_>>(),
                "except": line.except.iter().map(|part| part.reach.to_string()).collect::<Vec<_>>(),
                "conditional": line.conditional(),
                "allows": line.allows.iter().map(part).collect::<Vec<_>>(),
                "forbids": line.except.iter().map(part).collect::<Vec<_>>(),
            })
        })
        .collect();
    let grouped: Vec<Value> = groups
        .iter()
        .map(|group| {
            json!({
                "namespace": group.namespace,
                "resource": group.on,
                "effect": if group.permit { "permit" } else { "forbid" },
                "actions": group.verbs,
                "when": group.when,
            })
        })
        .collect();
    write(form, &text, &json!({"schema": "rex.can/1", "principal": gate.principal(), "actions": actions, "groups": grouped}))
}

/// Whether a verb asks for `open` too.
pub(super) fn needs_open(ask: &Ask) -> bool {
    ask.namespace == "file_system" && ask.name != "open"
}

/// The word for an answer, and on what it depends.
pub(super) fn answer_words(answer: Answer) -> (&'static str, Vec<String>) {
    match answer {
        Answer::Yes => ("yes", Vec::new()),
        Answer::No(_) => ("no", Vec::new()),
        Answer::Depends(on) => ("depends", on),
    }
}

fn one(gate: &Gate, action: &str, resource: &str, form: Form) -> Result<u8> {
    let (ask, noun, id) = question(action, resource)?;
    let (answer, on) = answer_words(gate.would_ask(&ask, needs_open(&ask), noun, &id));
    let code = if answer == "no" { Exit::Denied } else { Exit::Ok };
    let text = if on.is_empty() { format!("{answer}\n") } else { format!("{answer}: on {}\n", on.join(" and ")) };
    let _ = write(
        form,
        &text,
        &json!({"schema": "rex.can/1", "action": action_text(&ask), "resource": resource, "answer": answer, "depends_on": on}),
    );
    Ok(code as u8)
}

/// Whether a word without a type may be something else than a path: a unit, a log, a process, a URL, this host.
fn is_other(word: &str) -> bool {
    let unit = !word.contains('/') && crate::resource::service::KINDS.iter().any(|kind| word.ends_with(&format!(".{kind}")));
    unit || matches!(word, "system" | "kernel" | "local") || word.contains("://") || word.bytes().all(|byte| byte.is_ascii_digit())
}

/// What people call verbs by the names of commands.
const CALLED: &[(&str, &str)] = &[
    ("remove", "delete"),
    ("rm", "delete"),
    ("unlink", "delete"),
    ("ls", "open"),
    ("cat", "read"),
    ("run", "execute"),
    ("exec", "execute"),
];

/// `read`, `file_system::read` or `file_system::Action::"read"`; a path, or an entity in Cedar notation.
pub(super) fn question(action: &str, resource: &str) -> Result<(Ask, &'static Noun, String)> {
    let plain = action.replace("::Action::", "::").replace('"', "");
    let (namespace, name) = plain.rsplit_once("::").map_or((None, plain.as_str()), |(namespace, name)| (Some(namespace), name));
    let asks: Vec<Ask> = functions::all().flat_map(|function| function.asks).copied().collect();
    let fits = |ask: &&Ask| ask.name == name && namespace.is_none_or(|namespace| ask.namespace == namespace);
    let (kind, id) = match resource.split_once("::\"") {
        Some((kind, id)) => (Some(kind), id.strip_suffix('"').unwrap_or(id).to_owned()),
        None => (None, resource.to_owned()),
    };
    if kind.is_none() && !id.starts_with('/') && asks.iter().any(|ask| fits(&ask) && ask.namespace == "file_system") && !is_other(&id) {
        return Err(Error::new(Kind::Usage, format!("`{}` is no path: a path begins with `/`", crate::invocation::words::shown(&id)))
            .with_hint("anything else is written TYPE::\"ID\", such as journal::Log::\"nginx.service\""));
    }
    let nouns = |ask: &Ask| ask.nouns.iter().filter(|noun| ask.applies_to.contains(&noun.name)).collect::<Vec<_>>();
    // Of several verbs of one name, the one whose nouns fit the resource.
    let ask = asks
        .iter()
        .filter(fits)
        .find(|ask| {
            kind.is_none_or(|kind| nouns(ask).iter().any(|noun| noun.name == kind))
                && (kind.is_some() || id.starts_with('/') == (ask.namespace == "file_system"))
        })
        .or_else(|| asks.iter().find(fits));
    let Some(ask) = ask else {
        let called = CALLED.iter().find(|(called, _)| *called == name).map(|(_, verb)| *verb);
        let near = called.or_else(|| nearest(name, asks.iter().map(|ask| ask.name))).map(|near| format!("did you mean `{near}`?"));
        return Err(
            Error::new(Kind::Usage, format!("no action `{}`", crate::invocation::words::shown(action))).with_hint(near.unwrap_or_default())
        );
    };
    let known = nouns(ask);
    let noun = match kind {
        Some(kind) => known.iter().find(|noun| noun.name == kind).copied(),
        None => known.first().copied(),
    };
    let noun = noun.ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|noun| noun.name).collect();
        Error::new(Kind::Usage, format!("{} applies to {}", action_text(ask), names.join(", ")))
    })?;
    Ok((*ask, noun, id))
}
