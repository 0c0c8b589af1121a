//! The form of records: every event and field, as the manual (docs/audit.md) and the JSON Schema (docs/audit.schema.json) have it.

use super::record::SCHEMA;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// What a field holds.
#[derive(Clone, Copy)]
enum Type {
    Text,
    /// A whole number, 0 or more.
    Number,
    Flag,
    Texts,
    /// 64 hexadecimal digits.
    Digest,
    /// RFC 3339, UTC, microseconds.
    Time,
    /// An object of facts about the caller.
    Facts,
    /// What a record follows in its file.
    After,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// A field: name, what it holds, whether every record of its kind has it, what it means.
struct Field(&'static str, Type, bool, &'static str);

use Type::{After, Digest, Facts, Flag, Number, Text, Texts, Time, Word};

/// In every record.
const COMMON: &[Field] = &[
    Field("schema", Word(&[SCHEMA]), true, "the version of this form; fields and events may be added without a new one"),
    Field("time", Time, true, "when it was written: before the act"),
    Field("seq", Number, false, "the record's number in its run, from 0; none in anchors"),
    Field("event", Text, true, "what happened, see below"),
    Field("host", Text, true, "the host's name (uname(2))"),
    Field("run", Text, true, "the id of the run"),
    Field("session", Text, false, "of an entry at a prompt: the id of the session, which is the run that its first and last record are of"),
    Field("pid", Number, true, "the process of the run"),
    Field("uid", Number, true, "the real Unix user"),
    Field("principal", Text, true, "who asks, as policies know it; empty while it is not known"),
    Field("evidence", Text, false, "the kind of evidence that decided who asks"),
    Field("client", Text, false, "the address of the client"),
    Field("script", Digest, false, "SHA-256 of the script"),
    Field("policy", Text, false, "digest of the set of policies"),
    Field("lost", Number, false, "how many records of this run some place did not take (on_audit_failure = \"allow\")"),
    Field("cut", Flag, false, "long values were cut more than usual, so that the record fits 7 KiB"),
    Field("chain", Digest, false, "link of the run: SHA-256 over the link of the record before in the run and this record up to here"),
    Field("after", After, false, "in the file only: what the record follows there, where that is not simply the record before"),
    Field("n", Number, false, "in the file only: the record's number there, from 1, counted on across rotations"),
    Field(
        "link",
        Digest,
        false,
        "in the file only, the last field: SHA-256 over the link of the record before in the file and this line up to here",
    ),
];

const CALLER: &[Field] = &[
    Field("groups", Texts, true, "groups of the principal"),
    Field("request", Text, true, "the request as the client sent it"),
    Field(
        "facts",
        Facts,
        true,
        "what is known of the caller: unix_user, method, key_fingerprint, key_type, certificate, client_address, agent, task, on_behalf_of, via",
    ),
];

const ACT: &[Field] =
    &[Field("action", Text, true, "in Cedar notation"), Field("resource", Text, true, "what was judged, in Cedar notation")];

/// An event: name, when it comes, fields of its own.
struct Kind(&'static str, &'static str, &'static [&'static [Field]]);

const EVENTS: &[Kind] = &[
    Kind(
        "run_start",
        "A script is about to run.",
        &[
            CALLER,
            &[
                Field("mode", Word(&["session", "serve", "local"]), true, "how it came in"),
                Field("runbook", Text, false, "the name of the owner's script that it is"),
                Field("script_bytes", Number, true, "length of the script"),
                Field("interactive", Flag, false, "a session at a prompt begins: its entries are runs of their own"),
                Field("layers", Texts, true, "layers of protection in force"),
            ],
        ],
    ),
    Kind(
        "script",
        "A piece of the script, before it runs; where `keep_scripts` wants it.",
        &[&[
            Field("part", Number, true, "from 1"),
            Field("parts", Number, true, "how many there are"),
            Field("text", Text, true, "the piece"),
            Field("left_out", Number, false, "in the last piece: bytes of the script that are not kept"),
        ]],
    ),
    Kind(
        "decision",
        "The policies were asked, before the act.",
        &[
            &[Field("decision", Word(&["allow", "deny"]), true, "the answer")],
            ACT,
            &[
                Field("requested", Text, false, "what the script named, where that is something else"),
                Field("why", Word(&["forbidden", "not_permitted", "condition_failed", "policy_error"]), false, "of a denial: the reason"),
                Field("policies", Texts, true, "ids (`@id`) of the policies that decided"),
                Field("ref", Text, false, "of a denial: its reference, which the caller was told"),
                Field("function", Text, true, "the function that asked"),
                Field("line", Number, true, "its place in the script"),
                Field("column", Number, true, "its place in the line"),
                Field("memoized", Flag, false, "the answer is that of an equal question of this run"),
                Field("attributes", Facts, false, "what tells more about the resource than its id: name and user of a process"),
                Field("context", Facts, false, "the circumstances that the policy was told: arguments of a program, a wanted mode"),
            ],
        ],
    ),
    Kind(
        "walk_summary",
        "A walk over many things is over; its denials have records of their own.",
        &[
            ACT,
            &[
                Field("allowed", Number, true, "how many were allowed"),
                Field("denied", Number, true, "how many were denied"),
                Field("policies", Texts, true, "ids of the policies that allowed something on the way"),
            ],
        ],
    ),
    Kind(
        "effect",
        "Something was changed, or the attempt failed.",
        &[
            ACT,
            &[
                Field("result", Text, true, "`ok`, or the kind of the error"),
                Field("bytes", Number, true, "bytes that were written"),
                Field("duration_us", Number, true, "microseconds"),
                Field("detail", Text, false, "what changed, e.g. the digest of the difference"),
            ],
        ],
    ),
    Kind(
        "run_end",
        "The run is over.",
        &[&[
            Field("exit", Number, true, "the exit code"),
            Field("class", Text, false, "the class of the error that ended it"),
            Field("duration_us", Number, true, "microseconds"),
            Field("decisions", Number, true, "how many decisions there were"),
            Field("denials", Number, true, "how many of them were denials"),
            Field("bytes_out", Number, true, "bytes of output"),
        ]],
    ),
    Kind(
        "refused",
        "Nothing ran.",
        &[
            CALLER,
            &[
                Field("decision", Word(&["deny"]), true, "always `deny`"),
                Field("what", Text, true, "what was refused: `identity`, `policy`, `config`, `request`, `layers`, `script`"),
                Field("kind", Text, true, "the kind of the error"),
                Field("message", Text, true, "the sentence about it"),
            ],
        ],
    ),
    Kind(
        "policy_change",
        "Another set of policies came into force.",
        &[&[
            Field("what", Word(&["activated", "rolled_back", "seen"]), true, "`seen`: found by a run that is under way"),
            Field("from", Text, true, "digest of the set before; empty: none that is valid"),
            Field("to", Text, true, "digest of the set from now on"),
        ]],
    ),
    Kind(
        "note",
        "A word of one of the owner's own commands; it is a run of one record.",
        &[&[
            Field("what", Word(&["doctor"]), true, "the command: `rex doctor` tries whether every place takes records"),
            Field("message", Text, true, "the sentence"),
        ]],
    ),
    Kind(
        "anchor",
        "To syslog and the journal only: where the chain of the file stands.",
        &[&[
            Field("file", Text, true, "the file of records"),
            Field("n", Number, true, "the number of its last record"),
            Field("link", Digest, true, "the link of that record"),
            Field("reason", Word(&["count", "time", "end"]), true, "`anchor_records` or `anchor_time` was reached, or the run is over"),
        ]],
    ),
];

/// The forms of `after`: what, fields, meaning.
const AFTERS: &[(&str, &str, &str)] = &[
    ("start", "", "nothing: it is the first record, of a file that follows none"),
    (
        "rotation",
        "file, last_n, last",
        "it is the first of its file. `file` was put away last beside it, and `last` is the link of its record `last_n` then; without these where that file could not be read, as when it is packed",
    ),
    (
        "torn",
        "bytes, sha256",
        "bytes of a record that was cut, by a crash or a full disk; no newline ended them. The chain goes on from the last whole record",
    ),
    (
        "foreign",
        "bytes, sha256",
        "bytes that are no linked record, written by something else. The chain goes on from the last linked record",
    ),
    ("unlinked", "bytes", "a file in whose last 32 KiB there is no linked record; a new chain begins"),
    (
        "truncated",
        "bytes, last_n, last",
        "the file was cut while this run went on; it had this length then. The chain goes on from the run's own last record",
    ),
];

impl Type {
    fn schema(self) -> Value {
        match self {
            Text => json!({"type": "string"}),
            Number => json!({"type": "integer", "minimum": 0}),
            Flag => json!({"type": "boolean"}),
            Texts => json!({"type": "array", "items": {"type": "string"}}),
            Digest => json!({"type": "string", "pattern": "^[0-9a-f]{64}$"}),
            Time => {
                json!({"type": "string", "format": "date-time", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z$"})
            }
            Facts => json!({"type": "object"}),
            After => json!({
                "type": "object",
                "properties": {
                    "what": {"enum": AFTERS.iter().map(|(what, _, _)| *what).collect::<Vec<_>>()},
                    "file": {"type": "string"},
                    "bytes": Number.schema(),
                    "sha256": Digest.schema(),
                    "last_n": Number.schema(),
                    "last": Digest.schema(),
                },
                "required": ["what"],
                "additionalProperties": false,
            }),
            Word(words) => json!({ "enum": words }),
        }
    }
    fn shown(self) -> String {
        match self {
            Text => "text".to_owned(),
            Number => "number".to_owned(),
            Flag => "true".to_owned(),
            Texts => "list of texts".to_owned(),
            Digest => "64 hexadecimal digits".to_owned(),
            Time => "RFC 3339, UTC, microseconds".to_owned(),
            Facts | After => "object".to_owned(),
            Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        }
    }
}

fn table(out: &mut String, fields: &[&[Field]]) {
    out.push_str("\n| field | holds | always | meaning |\n|---|---|---|---|\n");
    for Field(name, holds, always, meaning) in fields.iter().copied().flatten() {
        let _ = writeln!(out, "| `{name}` | {} | {} | {meaning} |", holds.shown(), if *always { "yes" } else { "" });
    }
}

/// The part of docs/audit.md about events and fields.
#[must_use]
pub fn markdown() -> String {
    let mut out = format!("The version of the form is `{SCHEMA}`. Every record has these fields:\n");
    table(&mut out, &[COMMON]);
    for Kind(name, when, fields) in EVENTS {
        let _ = write!(out, "\n### {name}\n\n{when}\n");
        table(&mut out, fields);
    }
    out.push_str("\n### What `after` says\n\n| what | with | meaning |\n|---|---|---|\n");
    for (what, with, meaning) in AFTERS {
        let _ = writeln!(out, "| `{what}` | {with} | {meaning} |");
    }
    out
}

/// docs/audit.schema.json: JSON Schema, draft 2020-12.
#[must_use]
pub fn json_schema() -> String {
    let kinds = EVENTS.iter().map(|Kind(name, when, fields)| {
        let own = || fields.iter().copied().flatten();
        let mut properties = Map::new();
        for Field(name, holds, _, meaning) in COMMON.iter().chain(own()) {
            let mut schema = holds.schema();
            if let Some(schema) = schema.as_object_mut() {
                schema.insert("description".to_owned(), (*meaning).into());
            }
            properties.insert((*name).to_owned(), schema);
        }
        properties.insert("event".to_owned(), json!({ "const": name }));
        let sequence = (*name != "anchor").then_some("seq");
        let required: Vec<&str> =
            COMMON.iter().chain(own()).filter(|Field(_, _, always, _)| *always).map(|Field(name, ..)| *name).chain(sequence).collect();
        json!({"title": name, "description": when, "type": "object", "properties": properties, "required": required, "additionalProperties": false})
    });
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("Audit record of rex, {SCHEMA}"),
        "oneOf": kinds.collect::<Vec<_>>(),
    });
    serde_json::to_string_pretty(&schema).map_or_else(|_| String::new(), |text| text + "\n")
}
