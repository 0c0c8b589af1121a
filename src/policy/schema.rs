//! The Cedar schema, rendered from what the functions ask for and from the table below of the words that policies for the reference use.
//!
//! Deterministic: the same asks give the same text, so that a copy can be checked in and a cache can be keyed by it.

use super::words::{Access, Ask, Attribute, Noun, Value};
use crate::error::{Error, Kind, Result};
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::RawName;
use cedar_policy_core::validator::json_schema::Fragment;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const fn attribute(name: &'static str, cedar: &'static str, required: bool, doc: &'static str) -> Attribute {
    Attribute { name, cedar, required, fixed: true, doc }
}

/// What the gate can tell about who asks.
pub const USER: Noun = Noun {
    name: "User",
    parents: &["Group"],
    attributes: &[
        attribute("unix_user", "String", false, "The Unix account the session runs as."),
        attribute("uid", "Long", false, "Its number."),
        attribute("method", "String", false, "How sshd authenticated the caller, e.g. `publickey`."),
        attribute("evidence", "String", false, "What the name was derived from: argument, record, auth-info or user."),
        attribute("key_fingerprint", "String", false, "`SHA256:` and base64, as ssh-keygen -l prints it."),
        attribute("key_type", "String", false, "e.g. `ssh-ed25519`."),
        attribute("certificate", CERTIFICATE, false, "The certificate, when one was used."),
        attribute("client_address", "__cedar::ipaddr", false, "Where the connection comes from."),
        attribute("agent", "String", false, "The program the caller says it is. Self-declared: use it only to narrow."),
        attribute("task", "String", false, "The task the caller says it works on. Self-declared: use it only to narrow."),
        attribute("on_behalf_of", "String", false, "The person a registered bastion acts for."),
        attribute("via", "String", false, "The bastion, when the caller came through one."),
    ],
    doc: "Who asks.",
};

const CERTIFICATE: &str =
    "{ key_id: String, serial: Long, authority: String, principals: Set<String>, expiry: __cedar::datetime, extensions: Set<String> }";

/// What every question carries as `context.session`.
pub const SESSION: &[Attribute] = &[
    Attribute { name: "now", cedar: "__cedar::datetime", required: true, fixed: false, doc: "The time of the question." },
    attribute("run", "String", true, "The id of the run."),
    attribute("mode", "String", true, "How the run came in: session, local, serve, mcp …"),
    attribute("interactive", "Bool", true, "Whether a person types at a prompt."),
    attribute("client_address", "__cedar::ipaddr", false, "Where the connection comes from."),
    attribute("host", "String", false, "The name of this host."),
    attribute("runbook", "String", false, "The owner's script that runs, for `rex run @name`."),
    attribute("script", "String", false, "The SHA-256 of the script, in hex."),
    attribute("layers", "Set<String>", false, "The layers of protection in force, e.g. `landlock`."),
];

/// Entity types whose objects have tags, and the type of these.
const TAGGED: &[(&str, &str)] = &[("file_system::Arguments", "String"), ("file_system::Environment", "String")];

const fn noun(name: &'static str, parents: &'static [&'static str], attributes: &'static [Attribute], doc: &'static str) -> Noun {
    Noun { name, parents, attributes, doc }
}

/// The nouns of the reference. Resources add attributes to them.
pub(super) const NOUNS: &[Noun] = &[
    noun("file_system::Dir", &["file_system::Dir"], &[attribute("path", "String", true, "Its canonical path.")], "A directory."),
    noun(
        "file_system::File",
        &["file_system::Dir"],
        &[attribute("path", "String", true, "Its canonical path.")],
        "Anything in a directory but a directory.",
    ),
    noun(
        "file_system::Arguments",
        &[],
        &[
            attribute("keys", "Set<String>", true, "The names of `[name, value]` arguments."),
            attribute("flags", "Set<String>", true, "The arguments that are `[name]` alone."),
            attribute("positional_values", "Set<String>", true, "The other arguments."),
        ],
        "The arguments of a program.",
    ),
    noun(
        "file_system::Environment",
        &[],
        &[attribute("names", "Set<String>", true, "The names of its variables.")],
        "The environment of a program.",
    ),
    noun("sysinfo::Uname", &[], &[], "The kernel's name and version."),
    noun("sysinfo::Sysinfo", &[], &[], "What this host tells about itself."),
    noun("sysinfo::Hostname", &[], &[attribute("hostname", "String", true, "The name to resolve.")], "A name to resolve."),
    noun("network::url", &[], &[attribute("url", "String", true, "The whole of it.")], "An address on the network."),
    noun(
        "process_system::Process",
        &[],
        &[
            Attribute {
                name: "name",
                cedar: "String",
                required: true,
                fixed: false,
                doc: "The name of its program; the process itself can change it.",
            },
            Attribute { name: "username", cedar: "String", required: true, fixed: false, doc: "The user it runs as." },
            Attribute {
                name: "command",
                cedar: "String",
                required: true,
                fixed: false,
                doc: "Its command line; the process itself can change it.",
            },
            Attribute { name: "pid", cedar: "Long", required: true, fixed: false, doc: "Its number." },
        ],
        "A process.",
    ),
    noun("systemd::Service", &[], &[attribute("name", "String", true, "The name of the unit.")], "A unit of the service manager."),
    noun("systemd::Systemd", &[], &[], "The service manager."),
    noun("sysctl::Sysctl", &[], &[], "The kernel's settings as a whole."),
];

const FILE: &[&str] = &["file_system::File"];
const DIR: &[&str] = &["file_system::Dir"];
const FILE_OR_DIR: &[&str] = &["file_system::File", "file_system::Dir"];
const PROCESS: &[&str] = &["process_system::Process"];
const SERVICE: &[&str] = &["systemd::Service"];

/// A verb of the reference, by `namespace::name`.
const fn verb(
    (namespace, name): (&'static str, &'static str),
    applies_to: &'static [&'static str],
    groups: &'static [&'static str],
    access: Access,
    doc: &'static str,
) -> Ask {
    Ask { namespace, name, applies_to, groups, doc, access, context: &[], nouns: &[] }
}

const fn with_context(ask: Ask, context: &'static [Attribute]) -> Ask {
    Ask { context, ..ask }
}

/// The verbs of the reference, all in the group that it meant them to be in, and sorted into `view` and `edit`.
pub const VERBS: &[Ask] = &[
    verb(("file_system", "open"), FILE_OR_DIR, &["SafeIO", "view"], Access::ReadOnly, "Reach a file or directory at all."),
    verb(
        ("file_system", "read"),
        FILE_OR_DIR,
        &["SafeIO", "view"],
        Access::ReadOnly,
        "See the contents of a file, or the names in a directory.",
    ),
    verb(("file_system", "stat"), FILE_OR_DIR, &["SafeIO", "view"], Access::ReadOnly, "See size, owner, mode and times."),
    verb(
        ("file_system", "redacted_read"),
        FILE,
        &["SafeIO", "view"],
        Access::ReadOnly,
        "See the contents of a file with its secrets replaced.",
    ),
    verb(("file_system", "create"), FILE_OR_DIR, &["SafeIO", "edit"], Access::Change, "Make a file, directory or link that is not there."),
    verb(("file_system", "write"), FILE, &["SafeIO", "edit"], Access::Change, "Change the contents of a file."),
    verb(("file_system", "delete"), FILE_OR_DIR, &["SafeIO", "edit"], Access::Change, "Remove it."),
    verb(("file_system", "chmod"), FILE_OR_DIR, &["SafeIO", "edit"], Access::Change, "Change its mode."),
    verb(("file_system", "chown"), FILE_OR_DIR, &["SafeIO", "edit"], Access::Change, "Change its owner or group."),
    with_context(
        verb(("file_system", "move"), FILE_OR_DIR, &["SafeIO", "edit"], Access::Change, "Rename it or move it elsewhere."),
        &[attribute("destination", "{ path: String, name: String, parent_path: String }", true, "Where to.")],
    ),
    with_context(
        verb(("file_system", "set_x_attr"), FILE_OR_DIR, &["SafeIO", "edit"], Access::Change, "Set an extended attribute."),
        &[attribute("xattr", "{ name: String }", true, "Which one.")],
    ),
    with_context(
        verb(("file_system", "execute"), FILE, &["SafeIO"], Access::Change, "Run a program."),
        &[
            attribute("arguments", "file_system::Arguments", true, "Its arguments, as sets and tags."),
            attribute("environment", "file_system::Environment", true, "Its environment."),
            attribute("user", "{ username: String, uid: Long }", true, "The user it runs as."),
            attribute("group", "{ groupname: String, gid: Long }", true, "The group it runs as."),
            attribute("namespace", "{ target_process_id: Long }", false, "The process whose namespaces it runs in."),
        ],
    ),
    verb(("file_system", "network_namespace"), FILE, &["SafeIO"], Access::Change, "Enter the network namespace that this file names."),
    verb(("file_system", "unmount"), DIR, &["SafeIO"], Access::Change, "Unmount what is mounted there."),
    verb(
        ("sysinfo", "list"),
        &["sysinfo::Uname", "sysinfo::Sysinfo"],
        &["SysinfoAction", "view"],
        Access::ReadOnly,
        "See what this host tells about itself.",
    ),
    verb(("sysinfo", "resolve_hostname"), &["sysinfo::Hostname"], &["SysinfoAction", "view"], Access::ReadOnly, "Look a name up."),
    verb(("network", "GET"), &["network::url"], &["NetworkAction", "view"], Access::ReadOnly, "Fetch a url."),
    verb(("network", "connect"), &["network::url"], &["NetworkAction"], Access::ReadOnly, "Connect to a port."),
    verb(
        ("process_system", "list"),
        PROCESS,
        &["ProcessAction", "view"],
        Access::ReadOnly,
        "See that a process is there, and its figures.",
    ),
    verb(("process_system", "list_fds"), PROCESS, &["ProcessAction", "view"], Access::ReadOnly, "See what it has open."),
    verb(("process_system", "trace"), PROCESS, &["ProcessAction"], Access::Change, "See the stacks of its threads."),
    verb(("process_system", "kill"), PROCESS, &["ProcessAction", "edit"], Access::Change, "Send it a signal."),
    verb(("process_system", "interrupt"), PROCESS, &["ProcessAction", "edit"], Access::Change, "Send it SIGHUP."),
    verb(("process_system", "mount_namespace"), PROCESS, &["ProcessAction"], Access::Change, "Enter its mount namespace."),
    verb(("process_system", "network_namespace"), PROCESS, &["ProcessAction"], Access::Change, "Enter its network namespace."),
    verb(("systemd", "status"), SERVICE, &["SystemdAction", "view"], Access::ReadOnly, "See its state."),
    verb(("systemd", "start"), SERVICE, &["SystemdAction", "edit"], Access::Change, "Start it."),
    verb(("systemd", "stop"), SERVICE, &["SystemdAction", "edit"], Access::Change, "Stop it."),
    verb(("systemd", "restart"), SERVICE, &["SystemdAction", "edit"], Access::Change, "Restart it."),
    verb(("systemd", "daemon_reload"), &["systemd::Systemd"], &["SystemdAction", "edit"], Access::Change, "Have unit files read again."),
    verb(("sysctl", "load"), &["sysctl::Sysctl"], &["SysctlAction", "edit"], Access::Change, "Load the settings from their files."),
];

/// Groups that every namespace has, whether or not a verb is in them, so that a policy may name them anywhere.
pub(super) const GROUPS: &[(&str, &str)] =
    &[("edit", "Every verb that changes things in the ordinary way."), ("view", "Every verb that only looks.")];

/// Attributes by name: type, whether required, doc.
pub(super) type Shape = BTreeMap<&'static str, (&'static str, bool, &'static str)>;

#[derive(Default)]
pub(super) struct Entity {
    pub(super) parents: BTreeSet<&'static str>,
    pub(super) shape: Shape,
    pub(super) doc: &'static str,
}

#[derive(Default)]
pub(super) struct Verb {
    pub(super) applies_to: BTreeSet<&'static str>,
    pub(super) groups: BTreeSet<&'static str>,
    pub(super) context: Shape,
    /// Set as soon as the verb is known.
    pub(super) access: Option<Access>,
    pub(super) doc: &'static str,
}

#[derive(Default)]
pub(super) struct Namespace {
    pub(super) entities: BTreeMap<&'static str, Entity>,
    pub(super) verbs: BTreeMap<&'static str, Verb>,
    pub(super) groups: BTreeSet<&'static str>,
}

/// Everything that policies can name, merged from asks and tables, and where these disagree.
#[derive(Default)]
pub(super) struct Words {
    pub(super) namespaces: BTreeMap<&'static str, Namespace>,
    problems: Vec<String>,
}

impl Words {
    pub(super) fn of(asks: &[Ask], nouns: &[Noun]) -> Self {
        let mut words = Self::default();
        for ask in asks.iter().chain(VERBS) {
            words.add_verb(ask);
        }
        for noun in asks.iter().flat_map(|ask| ask.nouns).chain(nouns).chain(NOUNS) {
            words.add_noun(noun);
        }
        for namespace in words.namespaces.values_mut() {
            namespace.groups.extend(GROUPS.iter().map(|(name, _)| name));
        }
        words.find_problems();
        words.find_gaps(asks, nouns);
        words
    }

    fn add_verb(&mut self, ask: &Ask) {
        let namespace = self.namespaces.entry(ask.namespace).or_default();
        namespace.groups.extend(ask.groups);
        let verb = namespace.verbs.entry(ask.name).or_default();
        verb.applies_to.extend(ask.applies_to);
        verb.groups.extend(ask.groups);
        verb.access.get_or_insert(ask.access);
        if verb.doc.is_empty() {
            verb.doc = ask.doc;
        }
        let whole = || format!("{}::Action::\"{}\"", ask.namespace, ask.name);
        merge(&mut verb.context, ask.context, whole, &mut self.problems);
    }

    fn add_noun(&mut self, noun: &Noun) {
        let (namespace, name) = noun.name.rsplit_once("::").unwrap_or(("", noun.name));
        let entity = self.namespaces.entry(namespace).or_default().entities.entry(name).or_default();
        entity.parents.extend(noun.parents);
        if entity.doc.is_empty() {
            entity.doc = noun.doc;
        }
        merge(&mut entity.shape, noun.attributes, || noun.name.to_owned(), &mut self.problems);
    }

    /// Attributes that policies may name but that a noun or verb will not tell: an optional one would silently be taken for absent.
    fn find_gaps(&mut self, asks: &[Ask], nouns: &[Noun]) {
        let missing = |shape: &Shape, attributes: &[Attribute]| -> Vec<&'static str> {
            shape.keys().filter(|name| attributes.iter().all(|attribute| attribute.name != **name)).copied().collect()
        };
        for noun in asks.iter().flat_map(|ask| ask.nouns).chain(nouns) {
            let (namespace, name) = noun.name.rsplit_once("::").unwrap_or(("", noun.name));
            let Some(entity) = self.namespaces.get(namespace).and_then(|words| words.entities.get(name)) else { continue };
            for gap in missing(&entity.shape, noun.attributes) {
                self.problems.push(format!("{}: one of the nouns of this name lacks `{gap}`", noun.name));
            }
        }
        for ask in asks {
            let Some(verb) = self.namespaces.get(ask.namespace).and_then(|words| words.verbs.get(ask.name)) else { continue };
            for gap in missing(&verb.context, ask.context) {
                self.problems
                    .push(format!("{}::Action::\"{}\": one that asks for it has no `{gap}` in its context", ask.namespace, ask.name));
            }
        }
        self.problems.sort();
        self.problems.dedup();
    }

    fn find_problems(&mut self) {
        let known: BTreeSet<String> = self
            .namespaces
            .iter()
            .flat_map(|(space, words)| {
                words.entities.keys().map(move |name| if space.is_empty() { (*name).to_owned() } else { format!("{space}::{name}") })
            })
            .collect();
        for (space, words) in &self.namespaces {
            for (name, verb) in &words.verbs {
                for target in verb.applies_to.iter().filter(|target| !known.contains(**target)) {
                    self.problems.push(format!("{space}::Action::\"{name}\" applies to `{target}`, which no noun describes"));
                }
                if words.groups.contains(name) {
                    self.problems.push(format!("{space}::Action::\"{name}\" is both a verb and a group"));
                }
                if verb.context.contains_key("session") {
                    self.problems.push(format!("{space}::Action::\"{name}\" has a context attribute `session` of its own"));
                }
            }
            for (name, entity) in &words.entities {
                for parent in entity.parents.iter().filter(|parent| !known.contains(**parent)) {
                    self.problems.push(format!("{space}::{name} is in `{parent}`, which no noun describes"));
                }
            }
        }
    }
}

fn merge(shape: &mut Shape, attributes: &[Attribute], whole: impl Fn() -> String, problems: &mut Vec<String>) {
    for attribute in attributes {
        let entry = shape.entry(attribute.name).or_insert((attribute.cedar, attribute.required, attribute.doc));
        // Required as soon as one says so: policies for the reference use its attributes without asking `has` first.
        entry.1 |= attribute.required;
        if plain(entry.0) != plain(attribute.cedar) {
            problems.push(format!("{}: `{}` is `{}` in one place and `{}` in another", whole(), attribute.name, entry.0, attribute.cedar));
        }
    }
}

/// A type's text without blanks and without the prefix of built-in types, to compare it.
fn plain(cedar: &str) -> String {
    cedar.split_whitespace().collect::<String>().replace("__cedar::", "")
}

/// A value of this type of the schema from text: sets and records as JSON, moments as RFC 3339. None for a type that text cannot give, such as an
/// entity, and for text that is none.
#[must_use]
pub fn value_of(cedar: &'static str, text: &str) -> Option<Value> {
    match plain(cedar).as_str() {
        "String" => Some(Value::String(text.to_owned())),
        "Long" => text.parse().ok().map(Value::Long),
        "Bool" => text.parse().ok().map(Value::Bool),
        "datetime" => text.parse::<jiff::Timestamp>().ok().map(|time| Value::Datetime(time.as_millisecond())),
        "ipaddr" => text.parse::<core::net::IpAddr>().ok().map(|address| Value::Ip(address.to_string())),
        _ => of_json(cedar, &serde_json::from_str(text).ok()?),
    }
}

fn of_json(cedar: &'static str, json: &serde_json::Value) -> Option<Value> {
    let cedar = cedar.trim();
    if let Some(items) = cedar.strip_prefix("Set<").and_then(|rest| rest.strip_suffix('>')) {
        return json.as_array()?.iter().map(|item| of_json(items, item)).collect::<Option<Vec<_>>>().map(Value::Set);
    }
    if let Some(fields) = cedar.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        // Records of the schema hold no records.
        let known: Vec<(&'static str, &'static str)> =
            fields.split(',').map(|field| field.split_once(':').map(|(name, kind)| (name.trim(), kind.trim()))).collect::<Option<_>>()?;
        let given = json.as_object()?;
        if given.len() != known.len() {
            return None;
        }
        return known
            .into_iter()
            .map(|(name, kind)| Some((name, of_json(kind, given.get(name)?)?)))
            .collect::<Option<Vec<_>>>()
            .map(Value::Record);
    }
    match json {
        serde_json::Value::String(text) => value_of(cedar, text).filter(|_| !matches!(cedar, "Long" | "Bool")),
        serde_json::Value::Bool(flag) if cedar == "Bool" => Some(Value::Bool(*flag)),
        serde_json::Value::Number(number) if cedar == "Long" => number.as_i64().map(Value::Long),
        _ => None,
    }
}

/// Every verb that changes something, of these and of the reference's: namespace and name.
#[must_use]
pub fn changing(asks: &[Ask]) -> Vec<(&'static str, &'static str)> {
    asks.iter().chain(VERBS).filter(|ask| ask.access == Access::Change).map(|ask| (ask.namespace, ask.name)).collect()
}

/// The schema of the policy language, in Cedar's own notation.
///
/// `asks` are the verbs that functions ask for, with their nouns; `nouns` are further ones. The words of the reference are always in it.
#[must_use]
pub fn render(asks: &[Ask], nouns: &[Noun]) -> String {
    let words = Words::of(asks, nouns);
    let mut out = String::from(
        "// What policies of rex can name. Derived from the functions by `rex policy schema`; do not edit.\n\n// What every question carries as `context.session`.\ntype Session = {\n",
    );
    write_shape(&mut out, "  ", &shape_of(SESSION));
    out.push_str("};\n\n// People and programs with something in common.\nentity Group;\n\n// ");
    out.push_str(USER.doc);
    out.push_str("\nentity User in [Group] {\n");
    write_shape(&mut out, "  ", &shape_of(USER.attributes));
    out.push_str("};\n");
    for (name, namespace) in &words.namespaces {
        if name.is_empty() {
            write_namespace(&mut out, "", "", namespace);
        } else {
            let _ = write!(out, "\nnamespace {name} {{");
            write_namespace(&mut out, name, "  ", namespace);
            out.push_str("}\n");
        }
    }
    out
}

/// The same schema in Cedar's JSON syntax (comments are not part of that).
///
/// # Errors
/// [`Kind::Internal`] when the text is no schema.
pub fn to_json(schema: &str) -> Result<String> {
    let wrong =
        |error: &dyn std::fmt::Display| Error::new(Kind::Internal, format!("the schema of the policy language is invalid: {error}"));
    let (fragment, _) = Fragment::<RawName>::from_cedarschema_str(schema, Extensions::all_available()).map_err(|error| wrong(&error))?;
    serde_json::to_string_pretty(&fragment).map(|json| json + "\n").map_err(|error| wrong(&error))
}

/// Where asks, nouns and the reference's words contradict one another. Empty in a sound build; a test over the functions' table says so.
#[must_use]
pub fn problems(asks: &[Ask], nouns: &[Noun]) -> Vec<String> {
    Words::of(asks, nouns).problems
}

pub(super) fn shape_of(attributes: &[Attribute]) -> Shape {
    attributes.iter().map(|attribute| (attribute.name, (attribute.cedar, attribute.required, attribute.doc))).collect()
}

fn write_shape(out: &mut String, indent: &str, shape: &Shape) {
    for (name, (cedar, required, doc)) in shape {
        let mark = if *required { "" } else { "?" };
        let doc = one_line(doc);
        let _ = if doc.is_empty() {
            writeln!(out, "{indent}{name}{mark}: {cedar},")
        } else {
            writeln!(out, "{indent}{name}{mark}: {cedar}, // {doc}")
        };
    }
}

fn write_namespace(out: &mut String, namespace: &str, indent: &str, words: &Namespace) {
    out.push('\n');
    let inner = format!("{indent}  ");
    for (name, entity) in &words.entities {
        let _ = writeln!(out, "{indent}// {}", one_line(entity.doc));
        let _ = write!(out, "{indent}entity {name}");
        if !entity.parents.is_empty() {
            let parents: Vec<&str> = entity.parents.iter().copied().collect();
            let _ = write!(out, " in [{}]", parents.join(", "));
        }
        if !entity.shape.is_empty() {
            out.push_str(" {\n");
            write_shape(out, &inner, &entity.shape);
            let _ = write!(out, "{indent}}}");
        }
        let whole = format!("{namespace}::{name}");
        if let Some((_, tags)) = TAGGED.iter().find(|(tagged, _)| *tagged == whole) {
            let _ = write!(out, " tags {tags}");
        }
        out.push_str(";\n");
    }
    for group in &words.groups {
        if let Some((_, doc)) = GROUPS.iter().find(|(name, _)| name == group) {
            let _ = writeln!(out, "{indent}// {doc}");
        }
        let _ = writeln!(out, "{indent}action \"{group}\";");
    }
    for (name, verb) in &words.verbs {
        let _ = writeln!(out, "{indent}// {}", one_line(verb.doc));
        let _ = write!(out, "{indent}action \"{name}\"");
        if !verb.groups.is_empty() {
            let groups: Vec<String> = verb.groups.iter().map(|group| format!("\"{group}\"")).collect();
            let _ = write!(out, " in [{}]", groups.join(", "));
        }
        let targets: Vec<&str> = verb.applies_to.iter().copied().collect();
        let _ = writeln!(out, " appliesTo {{\n{inner}principal: [User],\n{inner}resource: [{}],\n{inner}context: {{", targets.join(", "));
        write_shape(out, &format!("{inner}  "), &verb.context);
        let _ = writeln!(out, "{inner}  session: Session,\n{inner}}},\n{indent}}};");
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a value has this type. Cedar checks none while it evaluates, and a comparison of unlike things is silently false,
/// which would make a `forbid` not apply.
pub(super) fn fits(value: &Value, cedar: &str) -> bool {
    let cedar = cedar.trim();
    let name = cedar.strip_prefix("__cedar::").unwrap_or(cedar);
    match value {
        Value::Bool(_) => name == "Bool",
        Value::Long(_) => name == "Long",
        Value::String(_) | Value::Masked(..) => name == "String",
        Value::Datetime(_) => name == "datetime",
        Value::Ip(_) => name == "ipaddr",
        Value::Entity(noun, _) => *noun == cedar,
        Value::Object(object) => object.noun == cedar && object_fits(object),
        Value::Set(items) => {
            let inner = name.strip_prefix("Set<").and_then(|rest| rest.strip_suffix('>'));
            inner.is_some_and(|inner| items.iter().all(|item| fits(item, inner)))
        }
        Value::Record(pairs) => {
            let Some(inner) = cedar.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else { return false };
            let fields = fields(inner);
            let known = pairs.iter().all(|(name, value)| fields.iter().any(|(field, _, cedar)| field == name && fits(value, cedar)));
            known && fields.iter().all(|(field, required, _)| !required || pairs.iter().any(|(name, _)| name == field))
        }
    }
}

fn object_fits(object: &super::words::Object) -> bool {
    let Some(noun) = NOUNS.iter().find(|noun| noun.name == object.noun) else { return false };
    let tagged = object.tags.is_empty() || TAGGED.iter().any(|(name, _)| *name == object.noun);
    tagged
        && noun
            .attributes
            .iter()
            .all(|attribute| object.attributes.iter().any(|(name, value)| *name == attribute.name && fits(value, attribute.cedar)))
}

/// The fields of a record type's inside: name, whether required, type.
pub(super) fn fields(inner: &str) -> Vec<(&str, bool, &str)> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' | '<' => depth += 1,
            '}' | '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(inner.get(start..at).unwrap_or(""));
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(inner.get(start..).unwrap_or(""));
    parts
        .into_iter()
        .filter_map(|part| part.split_once(':'))
        .map(|(name, cedar)| {
            let name = name.trim();
            (name.strip_suffix('?').unwrap_or(name).trim_matches('"'), !name.ends_with('?'), cedar.trim())
        })
        .collect()
}
