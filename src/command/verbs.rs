//! What a session may ask besides running: functions, whoami. By the very code that enforces.

use crate::config::layer_word;
use crate::error::{Error, Kind, Result};
use crate::functions;
use crate::functions::value::nearest;
use crate::output::Form;
use crate::terms::Terms;
use serde_json::{Value, json};

/// Writes an answer: JSON where a program asked, else text.
pub(super) fn write(form: Form, text: &str, value: &Value) -> u8 {
    match form {
        Form::Human => super::show(text),
        Form::PrettyJson => super::show(&format!("{value:#}\n")),
        Form::Json | Form::Ndjson => super::show(&format!("{value}\n")),
    }
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
            "script_bytes": limits.script, "operations": limits.operations, "depth": limits.depth, "file_size_bytes": limits.file_size, "open_files": limits.open_files, "children": limits.children, "denials": limits.denials,
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
        "limits     {} s, {} s of processor time, {} MiB of memory, {} bytes of output, a script of {} bytes\n",
        limits.wall.as_secs_f64(),
        limits.cpu.as_secs_f64(),
        limits.memory >> 20,
        limits.output,
        limits.script
    ));
    text.push_str(&format!(
        "           {} operations, {} nested calls, files of {} bytes, {} open files, {} processes of programs, {} denials\n",
        limits.operations, limits.depth, limits.file_size, limits.open_files, limits.children, limits.denials
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
