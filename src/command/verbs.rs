//! What a session may ask besides running: check, can, functions, whoami. By the very code that enforces.

use crate::config::layer_word;
use crate::engine::{Failure, Outcome, Runner, check};
use crate::error::{Error, Exit, Kind, Result};
use crate::functions;
use crate::functions::function::Host;
use crate::functions::value::{Dynamic, nearest};
use crate::limits::Watch;
use crate::output::{Form, Output};
use crate::policy::{Answer, Ask, Gate, Noun};
use crate::report;
use crate::run;
use crate::sys::supervise::{Ended, supervise};
use crate::terms::Terms;
use serde_json::{Value, json};
use std::sync::Arc;

/// Writes an answer: JSON where a program asked, else text.
fn write(form: Form, text: &str, value: &Value) -> u8 {
    match form {
        Form::Human => super::show(text),
        Form::PrettyJson => super::show(&format!("{value:#}\n")),
        Form::Json | Form::Ndjson => super::show(&format!("{value}\n")),
    }
}

/// Compiles a script and says what it uses and what the policy says of that. Runs nothing.
#[must_use]
pub fn check(terms: &Terms, script: &str, constants: &[(String, Dynamic)], form: Form) -> u8 {
    let watch = Arc::new(Watch::new(terms.limits.clone()));
    let gate = match run::gate(terms, &watch, None, &crate::os::digest::hex_sha256(script.as_bytes())) {
        Ok(gate) => gate,
        Err(error) => return report::early(error, form),
    };
    let out = Arc::new(Output::new(form, false, Arc::clone(&watch)));
    let host = Arc::new(Host { gate, watch, out: Arc::clone(&out), redaction: run::redaction(terms), broker: None });
    // Under the limits of a run: there are texts that take a compiler very long.
    let (inside, library, text, given) = (Arc::clone(&host), run::library(terms), script.to_owned(), constants.to_vec());
    let compiled =
        supervise(&host.watch, move || Runner::new(inside, library, &text).compile(&text, &given).map(|ast| check::functions_used(&ast)));
    let failed = |failure: Failure| {
        let outcome = Outcome { failure: Some(failure), ..Outcome::failed(Error::new(Kind::Compile, "")) };
        report::write(&outcome, script, &out, &report::Facts { run: terms.run.clone(), ..report::Facts::default() })
    };
    let functions = match compiled {
        Ok(Ended::Finished(Ok(functions))) => functions,
        Ok(Ended::Finished(Err(failure))) => return failed(*failure),
        Ok(Ended::Abandoned(why)) => return failed(Failure { error: why.error(&terms.limits), at: None, thrown: None }),
        Err(error) => return failed(Failure { error, at: None, thrown: None }),
    };
    let lines = host.gate.summary();
    let mut text = String::new();
    let mut used = Vec::new();
    for (function, line) in functions {
        let asks: Vec<Value> = function
            .asks
            .iter()
            .map(|ask| {
                let action = action_text(ask);
                let answer = lines.iter().find(|line| line.action == action).map_or("no", |line| line.answer());
                text.push_str(&format!("line {line}: {} asks {action}: {answer}\n", function.name));
                json!({"action": action, "answer": answer})
            })
            .collect();
        if function.asks.is_empty() {
            text.push_str(&format!("line {line}: {} asks nothing\n", function.name));
        }
        used.push(json!({"name": function.name, "line": line, "asks": asks}));
    }
    text.push_str("the script compiles\n");
    write(form, &text, &json!({"schema": "rex.check/1", "compiles": true, "functions": used, "policy": terms.policies.digest}))
}

fn action_text(ask: &Ask) -> String {
    format!("{}::Action::\"{}\"", ask.namespace, ask.name)
}

/// What this caller may do; with a question, whether it may do that: exit 0 for yes and depends, 77 for no.
///
/// # Errors
/// [`Kind::Usage`] for an action or resource that there is not.
pub fn can(terms: &Terms, question: Option<&(String, String)>, form: Form) -> Result<u8> {
    let watch = Arc::new(Watch::new(terms.limits.clone()));
    let gate = run::gate(terms, &watch, None, "")?;
    match question {
        None => Ok(everything(&gate, form)),
        Some((action, resource)) => one(&gate, action, resource, form),
    }
}

fn everything(gate: &Gate, form: Form) -> u8 {
    let lines = gate.summary();
    let mut text = format!("{} may, on this host:\n", gate.principal());
    let mut values = Vec::new();
    for line in &lines {
        let on: Vec<String> = line.scopes.iter().map(ToString::to_string).collect();
        let except: Vec<String> = line.except.iter().map(ToString::to_string).collect();
        if line.answer() != "no" {
            let when = if line.conditional { ", under conditions" } else { "" };
            let but = if except.is_empty() { String::new() } else { format!(", with exceptions for {}", except.join(", ")) };
            text.push_str(&format!("  {} on {}{but}{when}\n", line.action, on.join(", ")));
        }
        values.push(json!({"action": line.action, "answer": line.answer(), "on": on, "except": except, "conditional": line.conditional}));
    }
    if lines.iter().all(|line| line.answer() == "no") {
        text.push_str("  nothing\n");
    }
    write(form, &text, &json!({"schema": "rex.can/1", "principal": gate.principal(), "actions": values}))
}

fn one(gate: &Gate, action: &str, resource: &str, form: Form) -> Result<u8> {
    let (ask, noun, id) = question(action, resource)?;
    let needs_open = ask.namespace == "file_system" && ask.name != "open";
    let (answer, code, on) = match gate.would_ask(&ask, needs_open, noun, &id) {
        Answer::Yes => ("yes", Exit::Ok, Vec::new()),
        Answer::No(_) => ("no", Exit::Denied, Vec::new()),
        Answer::Depends(on) => ("depends", Exit::Ok, on),
    };
    let text = if on.is_empty() { format!("{answer}\n") } else { format!("{answer}: on {}\n", on.join(", ")) };
    let _ = write(
        form,
        &text,
        &json!({"schema": "rex.can/1", "action": action_text(&ask), "resource": resource, "answer": answer, "depends_on": on}),
    );
    Ok(code as u8)
}

/// `read`, `file_system::read` or `file_system::Action::"read"`; a path, or an entity in Cedar notation.
fn question(action: &str, resource: &str) -> Result<(Ask, &'static Noun, String)> {
    let plain = action.replace("::Action::", "::").replace('"', "");
    let (namespace, name) = plain.rsplit_once("::").map_or((None, plain.as_str()), |(namespace, name)| (Some(namespace), name));
    let asks: Vec<Ask> = functions::all().flat_map(|function| function.asks).copied().collect();
    let fits = |ask: &&Ask| ask.name == name && namespace.is_none_or(|namespace| ask.namespace == namespace);
    let (kind, id) = match resource.split_once("::\"") {
        Some((kind, id)) => (Some(kind), id.strip_suffix('"').unwrap_or(id).to_owned()),
        None => (None, resource.to_owned()),
    };
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
        let near = nearest(name, asks.iter().map(|ask| ask.name)).map(|near| format!("did you mean `{near}`?"));
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

/// The API, from the registrations.
///
/// # Errors
/// [`Kind::Usage`] when there is no such function, naming the nearest.
pub fn functions(json: bool, name: Option<&str>) -> Result<u8> {
    let function = match name {
        None => None,
        Some(name) => Some(functions::by_name(name).ok_or_else(|| {
            let near = nearest(name, functions::all().map(|function| function.name)).map(|near| format!("did you mean `{near}`?"));
            Error::new(Kind::Usage, format!("no function `{}`", crate::invocation::words::shown(name))).with_hint(near.unwrap_or_default())
        })?),
    };
    Ok(match (json, function) {
        (true, _) => super::show(&format!("{:#}\n", functions::manual::json(name).unwrap_or_default())),
        (false, Some(function)) => super::show(&functions::manual::text(function)),
        (false, None) => super::show(&functions::manual::list()),
    })
}

/// A layer for people, e.g. `landlock (ABI 7)`.
fn shown_layer(layer: &str) -> String {
    match crate::sys::fence::landlock_abi().filter(|_| layer == "landlock") {
        Some(abi) => format!("{layer} (ABI {abi})"),
        None => layer.to_owned(),
    }
}

/// Who the caller is taken for, how that was found, and on what terms it runs.
#[must_use]
pub fn whoami(terms: &Terms, form: Form) -> u8 {
    let identity = crate::identity::whoami(&terms.identity);
    let limits = &terms.limits;
    let lacking: Vec<&str> =
        terms.config.require_layers.iter().map(|layer| layer_word(*layer)).filter(|layer| !terms.layers.contains(layer)).collect();
    let value = json!({
        "schema": "rex.whoami/1",
        "run": terms.run,
        "identity": identity,
        "mode": terms.mode,
        "limits": {
            "wall_seconds": limits.wall.as_secs_f64(), "cpu_seconds": limits.cpu.as_secs_f64(), "memory_bytes": limits.memory, "output_bytes": limits.output,
            "script_bytes": limits.script, "operations": limits.operations, "depth": limits.depth, "open_files": limits.open_files, "children": limits.children,
        },
        "layers": terms.layers,
        "landlock_abi": crate::sys::fence::landlock_abi(),
        "missing_layers": lacking,
        "policy": {"digest": terms.policies.digest, "total": terms.policies.total, "concerning_you": terms.policies.names().collect::<Vec<_>>()},
        "audit": terms.audit.sinks(),
    });
    let mut text = format!("principal  User::\"{}\"\n", terms.identity.name);
    let groups: Vec<String> = terms.identity.groups.iter().map(|group| format!("Group::\"{group}\"")).collect();
    text.push_str(&format!("groups     {}\n", if groups.is_empty() { "none".to_owned() } else { groups.join(", ") }));
    text.push_str(&format!("evidence   {}\n", terms.identity.evidence.name()));
    for (at, step) in terms.identity.derivation.iter().enumerate() {
        text.push_str(&format!("{}{step}\n", if at == 0 { "because    " } else { "           " }));
    }
    let facts = serde_json::to_value(&terms.identity.facts).unwrap_or_default();
    for (name, fact) in facts.as_object().into_iter().flatten().filter(|(_, fact)| !fact.is_null()) {
        text.push_str(&format!("           {name}: {}\n", fact.as_str().map_or_else(|| fact.to_string(), str::to_owned)));
    }
    text.push_str(&format!(
        "limits     {} s, {} MiB, {} bytes of output, script of {} bytes\n",
        limits.wall.as_secs_f64(),
        limits.memory >> 20,
        limits.output,
        limits.script
    ));
    let layers: Vec<String> = terms.layers.iter().map(|layer| shown_layer(layer)).collect();
    text.push_str(&format!("layers     {}\n", layers.join(", ")));
    text.push_str(&format!(
        "policy     {} ({} policies, {} concern you)\n",
        terms.policies.digest,
        terms.policies.total,
        terms.policies.names().count()
    ));
    text.push_str(&format!(
        "records    {}\n",
        if terms.audit.sinks().is_empty() { "none".to_owned() } else { terms.audit.sinks().join(", ") }
    ));
    write(form, &text, &value)
}
