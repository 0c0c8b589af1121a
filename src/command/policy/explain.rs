//! `rex policy explain`: one question, every rule with what became of it, and the answer, by the code that enforces.

use crate::audit::{Audit, find_denial, reader};
use crate::command::can::{action_text, needs_open, question};
use crate::command::verbs::write;
use crate::command::{cli::OutputFormat, local};
use crate::error::{Error, Exit, Kind, Result};
use crate::identity::{Evidence, Facts, Identity};
use crate::limits::Watch;
use crate::os::trusted::Owner;
use crate::output::Form;
use crate::policy::{Ask, Attribute, Described, Explanation, Fate, Gate, Noun, Principal, Rules, Session, Value, schema};
use crate::terms::{self, OwnersFiles};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
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
    /// The question of the denial with this reference, from the file of records; attributes and context are given here.
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

/// What is asked, by whom.
struct Asked {
    principal: String,
    groups: Vec<String>,
    ask: Ask,
    noun: &'static Noun,
    id: String,
}

fn try_run(args: &ExplainArgs) -> Result<u8> {
    let files = OwnersFiles::new(args.config.as_deref(), Owner::Unchecked);
    let config = if args.config.is_some() || args.policy.is_empty() { files.config()? } else { crate::config::Config::default() };
    let asked = asked(args, &config)?;
    let sources = local::sources(&args.policy, &files)?;
    let facts = Facts { unix_user: String::new(), ..Facts::default() };
    let identity = Identity {
        name: asked.principal.clone(),
        groups: asked.groups.clone(),
        evidence: Evidence::Argument,
        facts,
        derivation: Vec::new(),
        expires: None,
    };
    let policies = terms::load_policies(&sources, &identity, None)?;
    let (others, total) = (policies.total - policies.names().count(), policies.total);
    if asked.groups.is_empty() && args.policy.is_empty() {
        let principals = files.principals().ok();
        let groups =
            principals.iter().flat_map(|known| known.people()).find(|person| person.name == asked.principal).map(|person| &person.groups);
        if let Some(groups) = groups.filter(|groups| !groups.is_empty()) {
            let options = groups.iter().map(|group| format!("--group {group}")).collect::<Vec<_>>().join(" ");
            crate::command::say(&format!("rex: principals.toml has {} in {}: add {options}", asked.principal, groups.join(", ")));
        }
    }
    let (session, context) = circumstances(args, &asked.ask)?;
    let open = match config.open {
        crate::config::Open::Implied => crate::policy::Open::Implied,
        crate::config::Open::Explicit => crate::policy::Open::Explicit,
    };
    let watch = Arc::new(Watch::new(config.limits_for(&asked.groups)));
    let closed = crate::command::session::closed(&files, &config, rustix::process::getuid().as_raw());
    let gate = Gate::new(
        policies,
        Principal { name: asked.principal.clone(), groups: asked.groups.clone(), attributes: Vec::new() },
        Session { run: "r-explain".to_owned(), attributes: session },
        Box::new(terms::Records {
            audit: Arc::new(Audit::best_effort(crate::audit::RunInfo::default())),
            denials: None,
            run: String::new(),
        }),
        watch,
        Rules { open, closed: Arc::new(move |ask, noun, id| closed.reason(ask, noun, id)), dry_run: false },
    )?;
    let attributes = args.attribute.iter().map(|text| given("attribute", text, asked.noun.attributes)).collect::<Result<Vec<_>>>()?;
    let thing = Described { noun: asked.noun, id: &asked.id, attributes };
    let explanation = gate.explain(&asked.ask, needs_open(&asked.ask), &thing, &context);
    let shown = Shown { gate: &gate, asked: &asked, explanation: &explanation, others, total };
    let form = match args.output_format {
        OutputFormat::Human => Form::Human,
        OutputFormat::Json | OutputFormat::Ndjson => Form::Json,
        OutputFormat::PrettyJson => Form::PrettyJson,
    };
    let _ = write(form, &shown.text(), &shown.value());
    Ok((if explanation.why.is_none() { Exit::Ok } else { Exit::Denied }) as u8)
}

fn asked(args: &ExplainArgs, config: &crate::config::Config) -> Result<Asked> {
    let (principal, groups, action, resource) = match &args.reference {
        None => (args.principal.clone(), args.group.clone(), args.action.clone(), args.resource.clone()),
        Some(reference) => {
            if config.audit.file.is_empty() {
                return Err(Error::new(Kind::Usage, "no file of records: `audit.file` of rex.toml is empty"));
            }
            let file = crate::os::trusted::open_any(&config.beside(&config.audit.file))?;
            let record = find_denial(reader(file)?, reference, None)?
                .ok_or_else(|| Error::new(Kind::NotFound, format!("no record has the reference `{reference}`")))?;
            let text = |name: &str| record.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
            let groups = record.get("groups").and_then(serde_json::Value::as_array).into_iter().flatten();
            let groups: Vec<String> = groups.filter_map(|group| group.as_str().map(str::to_owned)).collect();
            let groups = if args.group.is_empty() { groups } else { args.group.clone() };
            (args.principal.clone().or_else(|| text("principal")), groups, text("action"), text("resource"))
        }
    };
    let missing = || Error::new(Kind::Usage, "a principal, an action and a resource are needed");
    let (principal, action, resource) = (principal.ok_or_else(missing)?, action.ok_or_else(missing)?, resource.ok_or_else(missing)?);
    if let Some(fault) = crate::identity::name::fault(&principal) {
        return Err(Error::new(Kind::Usage, format!("--principal: {fault}")));
    }
    let (ask, noun, id) = question(&action, &resource)?;
    Ok(Asked { principal, groups, ask, noun, id })
}

type Named = Vec<(&'static str, Value)>;

/// The session's attributes and the action's own context, from `--context`.
fn circumstances(args: &ExplainArgs, ask: &Ask) -> Result<(Named, Named)> {
    let mut session: Named = vec![("mode", Value::String("session".to_owned())), ("interactive", Value::Bool(false))];
    let mut context = Vec::new();
    for text in &args.context {
        match text.strip_prefix("session.") {
            Some(text) => {
                let (name, value) = given("context session.", text, schema::SESSION)?;
                session.retain(|(known, _)| *known != name);
                session.push((name, value));
            }
            None => context.push(given("context", text, ask.context)?),
        }
    }
    Ok((session, context))
}

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
    gate: &'a Gate,
    asked: &'a Asked,
    explanation: &'a Explanation,
    /// Policies that do not concern the principal, and how many there are in all.
    others: usize,
    total: usize,
}

impl Shown<'_> {
    fn resource(&self) -> String {
        format!("{}::\"{}\"", self.asked.noun.name, self.asked.id.escape_debug())
    }

    fn text(&self) -> String {
        let it = self.explanation;
        let mut text = format!("{} asks {} on {}\n", self.gate.principal(), action_text(&self.asked.ask), self.resource());
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
        if self.others > 0 {
            text.push_str(&format!("  {} of {} policies are about other principals\n", self.others, self.total));
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
        let by = if it.deciders.is_empty() { String::new() } else { format!(" by {}", it.deciders.join(", ")) };
        text.push_str(&match it.why {
            None => format!("allowed{by}\n"),
            Some(why) => format!("denied: {}{by}\n", why.name()),
        });
        text
    }

    fn value(&self) -> serde_json::Value {
        let it = self.explanation;
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
            "principal": self.gate.principal(),
            "action": action_text(&self.asked.ask),
            "resource": self.resource(),
            "decision": if it.why.is_none() { "allow" } else { "deny" },
            "why": it.why.map(crate::error::Why::name),
            "policies": it.deciders,
            "note": it.note,
            "rules": rules,
            "other_principals": self.others,
        })
    }
}
