//! `rex policy explain`: one question, every rule with what became of it, and the answer, by the code that enforces.

use crate::audit::{Audit, Record, find_denial, find_start, reader, rotated};
use crate::command::can::{action_text, needs_open, question};
use crate::command::verbs::write;
use crate::command::{cli::OutputFormat, local};
use crate::config::Config;
use crate::error::{Error, Exit, Kind, Result};
use crate::identity::{Evidence, Facts, Identity};
use crate::limits::Watch;
use crate::os::trusted::Owner;
use crate::output::Form;
use crate::policy::{
    Ask, Attribute, Described, Explanation, Fate, Gate, Noun, Principal, Rules, Session, Source, Value, schema, told_environment,
    told_values,
};
use crate::terms::{self, OwnersFiles};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options of `rex policy explain`.
#[derive(Args)]
pub struct ExplainArgs {
    /// The action: `read`, `file_system::read` or `file_system::Action::"read"`.
    #[arg(required_unless_present = "reference")]
    pub action: Option<String>,
    /// The resource: a path, or an entity such as `systemd::Service::"nginx.service"`. Links are not followed.
    #[arg(required_unless_present = "reference")]
    pub resource: Option<String>,
    /// The question of the denial with this reference, from the file of records, with the groups, facts and circumstances on record; what is given here counts instead.
    #[arg(long = "ref", value_name = "REF", conflicts_with_all = ["action", "resource"])]
    pub reference: Option<String>,
    /// A policy file, or a folder of *.cedar files; without any, those of rex.toml.
    #[arg(short = 'p', long = "policy", value_name = "FILE|DIR")]
    pub policy: Vec<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Who asks (User::"NAME").
    #[arg(long, value_name = "NAME", required_unless_present = "reference")]
    pub principal: Option<String>,
    /// A group of that principal; may be given more than once.
    #[arg(long, value_name = "NAME")]
    pub group: Vec<String>,
    /// An attribute of the resource, e.g. `owner=root`; a set as a JSON array. May be given more than once.
    #[arg(long, value_name = "NAME=VALUE")]
    pub attribute: Vec<String>,
    /// A part of the action's context, e.g. `argc=2`, or of the session, e.g. `session.mode=local`; a record as a JSON object. May be given more
    /// than once.
    #[arg(long, value_name = "NAME=VALUE")]
    pub context: Vec<String>,
    /// The form of the answer.
    #[arg(short = 'o', long, value_enum, default_value = "human")]
    pub output_format: OutputFormat,
}

/// Explains; gives the exit code: 0 for allowed, 77 for denied.
#[must_use]
pub fn run(args: &ExplainArgs) -> u8 {
    try_run(args).unwrap_or_else(|error| {
        if error.kind == Kind::Config {
            // Pointed errors have lines of their own.
            let text = format!("rex: {}\n", error.message);
            let _ = crate::output::write_all(rustix::stdio::stderr(), crate::output::neutralise(&text).as_bytes());
            return error.kind.exit() as u8;
        }
        local::failed(&error)
    })
}

/// What is asked, by whom, in which circumstances.
struct Asked {
    principal: Principal,
    uid: u32,
    ask: Ask,
    noun: &'static Noun,
    id: String,
    attributes: Named,
    session: Named,
    context: Named,
    /// When, in milliseconds since 1970; None: now.
    time: Option<i64>,
    /// What a record does not tell.
    untold: Option<&'static str>,
}

/// The answer, with what it was found by.
struct Answered {
    gate: Gate,
    explanation: Explanation,
    /// Policies that do not concern the principal, and how many there are in all.
    others: usize,
    total: usize,
}

fn try_run(args: &ExplainArgs) -> Result<u8> {
    let files = OwnersFiles::new(args.config.as_deref(), Owner::Unchecked);
    let config = if args.config.is_some() || args.policy.is_empty() { files.config()? } else { Config::default() };
    let asked = match &args.reference {
        None => of_arguments(args)?,
        Some(reference) => {
            let (record, start) = of_records(&[file_of(&config)?], reference)?
                .ok_or_else(|| Error::new(Kind::NotFound, format!("no record has the reference `{reference}`")))?;
            if start.is_none() && args.group.is_empty() {
                let run = text(&record, "run");
                return Err(Error::new(
                    Kind::NotFound,
                    format!("the first record of {run} is not in the file, so its groups are not known"),
                )
                .with_hint("name them with --group"));
            }
            changed(args, of_record(&record, start.as_ref())?)?
        }
    };
    if args.policy.is_empty() && asked.principal.groups.is_empty() {
        tell_groups(&files, &asked.principal.name);
    }
    let answered = answer(&asked, &local::sources(&args.policy, &files)?, &files, &config)?;
    let shown = Shown { asked: &asked, answered: &answered };
    let form = match args.output_format {
        OutputFormat::Human => Form::Human,
        OutputFormat::Json | OutputFormat::Ndjson => Form::Json,
        OutputFormat::PrettyJson => Form::PrettyJson,
    };
    let _ = write(form, &shown.text(), &shown.value());
    Ok((if answered.explanation.why.is_none() { Exit::Ok } else { Exit::Denied }) as u8)
}

/// Says which groups principals.toml gives the principal: a question without them is easily asked by mistake.
fn tell_groups(files: &OwnersFiles, name: &str) {
    let Ok(principals) = files.principals() else { return };
    let Some(person) = principals.people().find(|person| person.name == name && !person.groups.is_empty()) else { return };
    let options = person.groups.iter().map(|group| format!("--group {group}")).collect::<Vec<_>>().join(" ");
    crate::command::say(&format!("rex: principals.toml has {name} in {}: add {options}", person.groups.join(", ")));
}

/// The answer of these policies.
fn answer(asked: &Asked, sources: &[Source], files: &OwnersFiles, config: &Config) -> Result<Answered> {
    let identity = Identity {
        name: asked.principal.name.clone(),
        groups: asked.principal.groups.clone(),
        evidence: Evidence::Argument,
        facts: Facts::default(),
        derivation: Vec::new(),
        expires: None,
    };
    let policies = terms::load_policies(sources, &identity, None)?;
    let (others, total) = (policies.total - policies.names().count(), policies.total);
    let open = match config.open {
        crate::config::Open::Implied => crate::policy::Open::Implied,
        crate::config::Open::Explicit => crate::policy::Open::Explicit,
    };
    let watch = Arc::new(Watch::new(config.limits_for(&identity.groups)));
    let closed = crate::command::session::closed(files, config, asked.uid);
    let gate = Gate::new(
        policies,
        asked.principal.clone(),
        Session { run: "r-explain".to_owned(), attributes: asked.session.clone() },
        Box::new(terms::Records {
            audit: Arc::new(Audit::best_effort(crate::audit::RunInfo::default())),
            denials: None,
            run: String::new(),
        }),
        watch,
        Rules { open, closed: Arc::new(move |ask, noun, id| closed.reason(ask, noun, id)), dry_run: false },
    )?;
    let gate = match asked.time {
        Some(time) => gate.with_clock(move || time),
        None => gate,
    };
    let thing = Described { noun: asked.noun, id: &asked.id, attributes: asked.attributes.clone() };
    let explanation = gate.explain(&asked.ask, needs_open(&asked.ask), &thing, &asked.context);
    Ok(Answered { gate, explanation, others, total })
}

/// The author's hint about a denial on record, and what the policies beside rex.toml say of the same question today; where that can be told.
pub fn today(files: &OwnersFiles, config: &Config, record: &Record, start: Option<&Record>) -> Option<(Option<String>, &'static str)> {
    let mut asked = of_record(record, Some(start?)).ok()?;
    let sources = files.policies().ok()?;
    let then = answer(&asked, &sources, files, config).ok()?.explanation;
    asked.time = None;
    let now = answer(&asked, &sources, files, config).ok()?.explanation;
    // Records do not tell all that a rule may look at, a file's size for one.
    let untold = now.note.as_ref().is_some_and(|note| note.contains("could not be had"));
    Some((then.hint, if untold { "depends" } else { now.why.map_or("allowed", crate::error::Why::name) }))
}

/// The file of records of rex.toml.
fn file_of(config: &Config) -> Result<PathBuf> {
    if config.audit.file.is_empty() {
        return Err(Error::new(Kind::Usage, "no file of records: `audit.file` of rex.toml is empty"));
    }
    Ok(PathBuf::from(&config.audit.file))
}

/// The record of a denial and the first of its run, which may have been put away by rotation.
pub fn of_records(files: &[PathBuf], reference: &str) -> Result<Option<(Record, Option<Record>)>> {
    let open = |path: &Path| reader(crate::os::trusted::open_any(path)?);
    for path in files {
        let Some(record) = find_denial(open(path)?, reference, None)? else { continue };
        let run = text(&record, "run").to_owned();
        for path in std::iter::once(path.clone()).chain(rotated(path).into_iter().rev()) {
            if let Some(start) = find_start(open(&path)?, &run)? {
                return Ok(Some((record, Some(start))));
            }
        }
        return Ok(Some((record, None)));
    }
    Ok(None)
}

fn text<'a>(record: &'a Record, name: &str) -> &'a str {
    record.get(name).and_then(serde_json::Value::as_str).unwrap_or("")
}

/// The question of the command line.
fn of_arguments(args: &ExplainArgs) -> Result<Asked> {
    let missing = || Error::new(Kind::Usage, "a principal, an action and a resource are needed");
    let (action, resource) = args.action.as_ref().zip(args.resource.as_ref()).ok_or_else(missing)?;
    let (ask, noun, id) = question(action, resource)?;
    let name = args.principal.clone().ok_or_else(missing)?;
    changed(
        args,
        Asked {
            principal: Principal { name, groups: Vec::new(), attributes: Vec::new() },
            uid: rustix::process::getuid().as_raw(),
            ask,
            noun,
            id,
            attributes: Vec::new(),
            session: vec![("mode", Value::String("session".to_owned())), ("interactive", Value::Bool(false))],
            context: Vec::new(),
            time: None,
            untold: None,
        },
    )
}

/// The question of a record, with what the first record of its run tells of the caller.
fn of_record(record: &Record, start: Option<&Record>) -> Result<Asked> {
    let (ask, noun, id) = question(text(record, "action"), text(record, "resource"))?;
    let part = |of: Option<&Record>, name: &str| of.and_then(|of| of.get(name)?.as_object().cloned()).unwrap_or_default();
    let mut facts = part(start, "facts");
    facts.insert("evidence".to_owned(), text(record, "evidence").into());
    // Its form on record is another.
    let certificate = facts.remove("certificate").is_some();
    let groups = start.and_then(|start| start.get("groups")?.as_array()).into_iter().flatten();
    let mut session = Record::new();
    session.insert("interactive".to_owned(), false.into());
    for (name, of, field) in [
        ("mode", start, "mode"),
        ("runbook", start, "runbook"),
        ("layers", start, "layers"),
        ("host", Some(record), "host"),
        ("script", Some(record), "script"),
        ("client_address", Some(record), "client"),
    ] {
        session.extend(of.and_then(|of| of.get(field)).map(|value| (name.to_owned(), value.clone())));
    }
    let context = part(Some(record), "context");
    let mut known = told_values(&context, ask.context);
    known.extend(told_environment(&context).map(|(environment, _)| ("environment", environment)));
    let uid = record.get("uid").and_then(serde_json::Value::as_u64).and_then(|uid| u32::try_from(uid).ok());
    Ok(Asked {
        principal: Principal {
            name: text(record, "principal").to_owned(),
            groups: groups.filter_map(|group| group.as_str().map(str::to_owned)).collect(),
            attributes: told_values(&facts, schema::USER.attributes),
        },
        uid: uid.unwrap_or_else(|| rustix::process::getuid().as_raw()),
        ask,
        noun,
        id,
        attributes: told_values(&part(Some(record), "attributes"), noun.attributes),
        session: told_values(&session, schema::SESSION),
        context: known,
        time: text(record, "time").parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond),
        untold: certificate
            .then_some("of the certificate of the caller, and of its attributes that rules look at, the records do not tell all"),
    })
}

/// What the command line says otherwise, or besides.
fn changed(args: &ExplainArgs, mut asked: Asked) -> Result<Asked> {
    let put = |into: &mut Named, (name, value): (&'static str, Value)| {
        into.retain(|(known, _)| *known != name);
        into.push((name, value));
    };
    if let Some(name) = &args.principal {
        asked.principal.name.clone_from(name);
    }
    if let Some(fault) = crate::identity::name::fault(&asked.principal.name) {
        return Err(Error::new(Kind::Usage, format!("--principal: {fault}")));
    }
    if !args.group.is_empty() {
        asked.principal.groups.clone_from(&args.group);
    }
    for text in &args.context {
        match text.strip_prefix("session.") {
            Some(text) => put(&mut asked.session, given("context session.", text, schema::SESSION)?),
            None => put(&mut asked.context, given("context", text, asked.ask.context)?),
        }
    }
    for text in &args.attribute {
        put(&mut asked.attributes, given("attribute", text, asked.noun.attributes)?);
    }
    Ok(asked)
}

type Named = Vec<(&'static str, Value)>;

/// `name=value` for one of these attributes.
fn given(option: &str, text: &str, attributes: &[Attribute]) -> Result<(&'static str, Value)> {
    let wrong = |what: String| Error::new(Kind::Usage, format!("--{option}: {what}"));
    let (name, value) = text.split_once('=').ok_or_else(|| wrong(format!("`{}` is not NAME=VALUE", text.escape_debug())))?;
    let attribute = attributes.iter().find(|attribute| attribute.name == name).ok_or_else(|| {
        let known: Vec<&str> = attributes.iter().map(|attribute| attribute.name).collect();
        wrong(format!(
            "there is no `{}`; there is {}",
            name.escape_debug(),
            if known.is_empty() { "none".into() } else { known.join(", ") }
        ))
    })?;
    let value = schema::value_of(attribute.cedar, value).ok_or_else(|| {
        wrong(format!("`{}` is no value of `{name}`, which is {}", value.escape_debug(), attribute.cedar.replace("__cedar::", "")))
    })?;
    Ok((attribute.name, value))
}

struct Shown<'a> {
    asked: &'a Asked,
    answered: &'a Answered,
}

impl Shown<'_> {
    fn resource(&self) -> String {
        format!("{}::\"{}\"", self.asked.noun.name, self.asked.id.escape_debug())
    }

    fn text(&self) -> String {
        let it = &self.answered.explanation;
        let mut text = format!("{} asks {} on {}\n", self.answered.gate.principal(), action_text(&self.asked.ask), self.resource());
        for rule in &it.rules {
            let effect = if rule.permit { "permit" } else { "forbid" };
            let (word, parts) = match &rule.fate {
                Fate::Applies => ("applies".to_owned(), &[][..]),
                Fate::Elsewhere(why) => (format!("does not apply: {why}"), &[][..]),
                Fate::Unmet(parts) => ("does not apply: its condition does not hold".to_owned(), parts.as_slice()),
                Fate::Failed(why) => (format!("fails: {why}"), &[][..]),
            };
            text.push_str(&format!("  {effect} {} ({}): {word}\n", rule.policy, rule.at));
            for part in parts {
                text.push_str(&format!("      false: {} ({})\n", part.condition, part.at));
            }
        }
        if self.answered.others > 0 {
            text.push_str(&format!("  {} of {} policies are about other principals\n", self.answered.others, self.answered.total));
        }
        if let Some((action, on)) = &it.instead {
            text.push_str(&format!(
                "the verb itself is allowed; what it needs is not: {action} on {}\n",
                on.clone().unwrap_or_else(|| self.resource())
            ));
        }
        if let Some(note) = &it.note {
            text.push_str(&format!("note: {note}\n"));
        }
        if let Some(untold) = self.asked.untold {
            text.push_str(&format!("note: {untold}\n"));
        }
        if let Some(hint) = &it.hint {
            text.push_str(&format!("hint: {}\n", crate::audit::visible(hint)));
        }
        let by = if it.deciders.is_empty() { String::new() } else { format!(" by {}", it.deciders.join(", ")) };
        text.push_str(&match it.why {
            None => format!("allowed{by}\n"),
            Some(why) => format!("denied: {}{by}\n", why.name()),
        });
        text
    }

    fn value(&self) -> serde_json::Value {
        let it = &self.answered.explanation;
        let rules: Vec<serde_json::Value> = it
            .rules
            .iter()
            .map(|rule| {
                let (fate, detail) = match &rule.fate {
                    Fate::Applies => ("applies", json!(null)),
                    Fate::Elsewhere(why) => ("elsewhere", json!(why)),
                    Fate::Unmet(parts) => ("unmet", parts.iter().map(|part| json!({"condition": part.condition, "at": part.at})).collect()),
                    Fate::Failed(why) => ("failed", json!(why)),
                };
                let effect = if rule.permit { "permit" } else { "forbid" };
                json!({"policy": rule.policy, "at": rule.at, "effect": effect, "fate": fate, "detail": detail})
            })
            .collect();
        json!({
            "schema": "rex.explain/1",
            "principal": self.answered.gate.principal(),
            "action": action_text(&self.asked.ask),
            "resource": self.resource(),
            "decision": if it.why.is_none() { "allow" } else { "deny" },
            "why": it.why.map(crate::error::Why::name),
            "policies": it.deciders,
            "note": it.note.as_deref().or(self.asked.untold),
            "hint": it.hint,
            "rules": rules,
            "other_principals": self.answered.others,
        })
    }
}
