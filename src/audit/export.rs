//! Records in the words of other schemas: Elastic Common Schema, and the Open Cybersecurity Schema Framework. docs/audit.md has the tables.

use super::filter::{id_of, type_of};
use super::read::{Record, count, text};
use serde_json::{Map, Value, json};

/// The version of ECS that is written.
pub const ECS: &str = "8.11.0";
/// The version of OCSF that is written.
pub const OCSF: &str = "1.3.0";

/// What an action does to its resource.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Creates,
    Reads,
    Changes,
    Removes,
    Other,
}

fn does(action: &str) -> Does {
    match id_of(action) {
        "create" => Does::Creates,
        "read" | "redacted_read" | "open" | "stat" | "list" | "list_fds" | "status" | "GET" | "resolve_hostname" => Does::Reads,
        "write" | "chmod" | "chown" | "set_x_attr" | "move" | "load" | "start" | "stop" | "restart" | "reload" | "reset_failed"
        | "daemon_reload" => Does::Changes,
        "delete" => Does::Removes,
        _ => Does::Other,
    }
}

/// Puts a value where there is something to put.
fn put(into: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    let value = value.into();
    let empty = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    if !empty {
        into.insert(name.to_owned(), value);
    }
}

fn copy(from: &Record, name: &str) -> Value {
    from.get(name).cloned().unwrap_or(Value::Null)
}

/// The namespace of an action in Cedar notation.
fn namespace(action: &str) -> &str {
    action.split_once("::").map_or("", |(namespace, _)| namespace)
}

/// How it ended, where that is known. A permission alone is an attempt: what came of it the effect tells.
fn outcome(record: &Record) -> Option<bool> {
    match text(record, "event") {
        "decision" => (text(record, "decision") == "deny").then_some(false),
        "refused" => Some(false),
        "effect" => Some(text(record, "result") == "ok"),
        "run_end" => record.get("exit").and_then(Value::as_u64).map(|exit| exit == 0),
        "run_start" | "policy_change" => Some(true),
        _ => None,
    }
}

/// A name for one record: its run, and its number there.
fn id(record: &Record) -> String {
    let number = record.get("seq").and_then(Value::as_u64).map_or_else(|| format!("anchor-{}", count(record, "n")), |seq| seq.to_string());
    format!("{}-{number}", text(record, "run"))
}

/// Elastic Common Schema (elastic.co/docs/reference/ecs). The whole record is in `rex`.
pub fn ecs(record: &Record) -> Record {
    let (event, action, resource) = (text(record, "event"), text(record, "action"), text(record, "resource"));
    let category = match (event, namespace(action)) {
        ("run_start" | "run_end" | "refused" | "script", _) => "session",
        ("anchor" | "policy_change" | "note", _) => "configuration",
        (_, "file_system") => "file",
        (_, "network") => "network",
        (_, "process_system") => "process",
        (_, "sysctl") => "configuration",
        _ => "host",
    };
    let mut kinds = Vec::new();
    match event {
        "run_start" => kinds.push("start"),
        "run_end" => kinds.push("end"),
        "refused" => kinds.extend(["start", "denied"]),
        "policy_change" => kinds.push("change"),
        "decision" => kinds.push(if text(record, "decision") == "allow" { "allowed" } else { "denied" }),
        "effect" => {}
        _ => kinds.push("info"),
    }
    if matches!(event, "decision" | "effect") {
        kinds.push(match does(action) {
            Does::Creates => "creation",
            Does::Reads => "access",
            Does::Changes => "change",
            Does::Removes => "deletion",
            Does::Other => "info",
        });
    }
    let mut of_event = Map::new();
    put(&mut of_event, "kind", "event");
    put(&mut of_event, "category", json!([category]));
    put(&mut of_event, "type", json!(kinds));
    put(&mut of_event, "outcome", outcome(record).map_or("unknown", |good| if good { "success" } else { "failure" }));
    put(&mut of_event, "action", if action.is_empty() { event } else { action });
    put(&mut of_event, "code", event);
    put(&mut of_event, "module", "rex");
    put(&mut of_event, "dataset", "rex.audit");
    put(&mut of_event, "provider", "rex");
    put(&mut of_event, "id", id(record));
    put(&mut of_event, "sequence", copy(record, "seq"));
    put(&mut of_event, "reason", [text(record, "why"), text(record, "message")].into_iter().find(|text| !text.is_empty()).unwrap_or(""));
    if let Some(us) = record.get("duration_us").and_then(Value::as_u64) {
        put(&mut of_event, "duration", us.saturating_mul(1000));
    }
    let mut user = Map::new();
    put(&mut user, "id", copy(record, "uid").to_string());
    put(&mut user, "name", text(record, "principal"));
    put(&mut user, "roles", copy(record, "groups"));
    let mut out = Map::new();
    put(&mut out, "@timestamp", text(record, "time"));
    put(&mut out, "ecs", json!({ "version": ECS }));
    put(&mut out, "event", of_event);
    put(&mut out, "user", user);
    put(&mut out, "host", json!({"hostname": text(record, "host"), "name": text(record, "host")}));
    put(&mut out, "process", json!({"name": "rex", "pid": copy(record, "pid")}));
    put(&mut out, "transaction", json!({ "id": text(record, "run") }));
    if !text(record, "client").is_empty() {
        put(&mut out, "source", json!({"ip": text(record, "client")}));
        put(&mut out, "related", json!({"ip": [text(record, "client")], "user": [text(record, "principal")]}));
    }
    if type_of(resource).starts_with("file_system::") {
        put(&mut out, "file", json!({"path": id_of(resource), "type": if type_of(resource).ends_with("Dir") { "dir" } else { "file" }}));
    }
    let mut rule = Map::new();
    put(&mut rule, "id", copy(record, "policies"));
    put(&mut rule, "ruleset", text(record, "policy"));
    put(&mut out, "rule", rule);
    put(&mut out, "rex", record.clone());
    out
}

/// API Activity (6003) of the Open Cybersecurity Schema Framework (schema.ocsf.io), with its profile `security_control` for decisions. The whole record is
/// in `unmapped`.
pub fn ocsf(record: &Record) -> Record {
    let (event, action, resource) = (text(record, "event"), text(record, "action"), text(record, "resource"));
    let (activity, name) = match does(action) {
        _ if action.is_empty() => (99, event),
        Does::Creates => (1, "Create"),
        Does::Reads => (2, "Read"),
        Does::Changes => (3, "Update"),
        Does::Removes => (4, "Delete"),
        Does::Other => (99, id_of(action)),
    };
    let (status_id, status) = match outcome(record) {
        Some(true) => (1, "Success"),
        Some(false) => (2, "Failure"),
        None => (0, "Unknown"),
    };
    let time = text(record, "time");
    let denied = text(record, "decision") == "deny";
    let mut out = Map::new();
    put(&mut out, "category_uid", 6);
    put(&mut out, "category_name", "Application Activity");
    put(&mut out, "class_uid", 6003);
    put(&mut out, "class_name", "API Activity");
    put(&mut out, "activity_id", activity);
    put(&mut out, "activity_name", name);
    put(&mut out, "type_uid", 6003 * 100 + activity);
    put(&mut out, "type_name", format!("API Activity: {name}"));
    put(&mut out, "severity_id", if denied { 2 } else { 1 });
    put(&mut out, "severity", if denied { "Low" } else { "Informational" });
    put(&mut out, "status_id", status_id);
    put(&mut out, "status", status);
    put(&mut out, "status_detail", [text(record, "why"), text(record, "message")].into_iter().find(|text| !text.is_empty()).unwrap_or(""));
    put(&mut out, "time", time.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_millisecond));
    if let Some(us) = record.get("duration_us").and_then(Value::as_u64) {
        put(&mut out, "duration", us / 1000);
    }
    let mut metadata = Map::new();
    put(&mut metadata, "version", OCSF);
    put(&mut metadata, "product", json!({"name": "rex", "vendor_name": "rex", "version": env!("CARGO_PKG_VERSION")}));
    put(&mut metadata, "profiles", json!(["security_control"]));
    put(&mut metadata, "uid", id(record));
    put(&mut metadata, "correlation_uid", text(record, "run"));
    put(&mut metadata, "event_code", event);
    put(&mut metadata, "log_name", "rex.audit");
    put(&mut metadata, "original_time", time);
    put(&mut metadata, "sequence", copy(record, "seq"));
    put(&mut out, "metadata", metadata);
    let groups = record.get("groups").and_then(Value::as_array).into_iter().flatten();
    let mut user = Map::new();
    put(&mut user, "name", text(record, "principal"));
    put(&mut user, "uid", copy(record, "uid").to_string());
    put(&mut user, "groups", groups.map(|group| json!({ "name": group })).collect::<Vec<_>>());
    let actor = json!({"user": user, "process": {"name": "rex", "pid": copy(record, "pid")}, "session": {"uid": text(record, "run")}});
    put(&mut out, "actor", actor);
    let mut api = Map::new();
    put(&mut api, "operation", if action.is_empty() { event } else { action });
    put(&mut api, "service", json!({"name": "rex"}));
    put(&mut api, "request", json!({ "uid": id(record) }));
    put(&mut out, "api", api);
    // Required: where no client is known, the request came from the host itself.
    let client = text(record, "client");
    put(&mut out, "src_endpoint", if client.is_empty() { json!({"hostname": text(record, "host")}) } else { json!({ "ip": client }) });
    put(&mut out, "device", json!({"hostname": text(record, "host"), "type_id": 0}));
    if !resource.is_empty() {
        put(&mut out, "resources", json!([{"name": id_of(resource), "type": type_of(resource)}]));
    }
    if !text(record, "decision").is_empty() {
        put(&mut out, "action_id", if denied { 2 } else { 1 });
        put(&mut out, "action", if denied { "Denied" } else { "Allowed" });
        put(&mut out, "disposition_id", if denied { 2 } else { 1 });
        put(&mut out, "disposition", if denied { "Blocked" } else { "Allowed" });
        let rules = record.get("policies").and_then(Value::as_array).into_iter().flatten();
        let decision = text(record, "decision");
        put(
            &mut out,
            "authorizations",
            rules.map(|rule| json!({"decision": decision, "policy": {"uid": rule, "name": rule}})).collect::<Vec<_>>(),
        );
        put(&mut out, "policy", if text(record, "policy").is_empty() { Value::Null } else { json!({"uid": text(record, "policy")}) });
    }
    put(&mut out, "unmapped", record.clone());
    out
}
