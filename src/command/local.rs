//! `rex run`: a script of the host's owner, typed at a local command line. Also accepts the flags of the reference's runner.

use super::cli::{OutputFormat, RunArgs};
use super::learning::Learn;
use crate::audit::Audit;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::identity::{Evidence, Facts, Identity};
use crate::invocation::arguments::{argument, json_object};
use crate::os::process::{Credentials, Environment};
use crate::os::script::{self, Declared};
use crate::os::trusted::{Owner, Trusted};
use crate::output::Form;
use crate::run::{self, Job};
use crate::terms::{self, Manner, OwnersFiles, Terms};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One error line; gives the exit code.
#[must_use]
pub fn failed(error: &Error) -> u8 {
    super::say(&format!("rex: {error}"));
    if let Some(hint) = error.hint.as_ref().filter(|hint| !hint.is_empty()) {
        super::say(&format!("  hint: {hint}"));
    }
    error.kind.exit() as u8
}

/// Runs the script; gives its exit code.
#[must_use]
pub fn run(args: RunArgs, environment: &Environment) -> u8 {
    let form = match args.output_format {
        OutputFormat::Human => Form::Human,
        OutputFormat::Json => Form::Json,
        OutputFormat::PrettyJson => Form::PrettyJson,
        OutputFormat::Ndjson => Form::Ndjson,
    };
    let learning = match args.learn.as_ref().map(|path| Learn::begin(path, &args, environment)).transpose() {
        Ok(learning) => learning,
        Err(error) if form == Form::Human => return failed(&error),
        Err(error) => return crate::report::early(error, form),
    };
    match prepare(args, form, learning.as_ref()) {
        Ok((terms, job)) => {
            let code = run::run(terms, job);
            match learning.map(Learn::end) {
                Some(Err(error)) => failed(&error),
                _ => code,
            }
        }
        Err(error) if form == Form::Human => failed(&error),
        Err(error) => crate::report::early(error, form),
    }
}

fn prepare(args: RunArgs, form: Form, learning: Option<&Learn>) -> Result<(Terms, Job)> {
    let id = run::new_id();
    let source = Source::of(&args)?;
    let (files, config, has_config) = files(&args)?;
    let identity = identity(&args)?;
    let mut info = run::run_info(&id, Some(&identity), identity.facts.uid, "");
    if let Some(learning) = learning {
        learning.mark(&mut info);
    }
    let audit = Arc::new(if has_config { Audit::open(&config.audit, config.on_audit_failure, info)? } else { Audit::best_effort(info) });
    if audit.sinks().is_empty() {
        super::say("rex: no record is kept of this run: this host has no log, and no rex.toml that names a file of records is in use");
    }
    if let Some(learning) = learning {
        learning.needs_records(&audit)?;
    }
    let sources = match sources(&args.policy, &files) {
        // One who has no policy yet may learn the first.
        Err(error) if learning.is_some_and(Learn::is_the_first) && error.message.starts_with("no policy at all") => Ok(Vec::new()),
        other => other,
    };
    let policies = sources.and_then(|sources| match learning {
        // Under one rule more than the set has, the set's tests say nothing.
        Some(learning) => terms::load_policies(&learning.with_rule(&sources, &identity.name), &identity, None),
        None if args.policy.is_empty() => terms::accept(&sources, &files, &config, &identity),
        None => terms::load_policies(&sources, &identity, Some(&files.cache_of_tries())),
    });
    let policies = policies.inspect_err(|error| run::refuse(&audit, "policy", error))?;
    audit.set_policy(&policies.digest);
    let mut limits = config.limits_for(&identity.groups);
    let timeout = args.timeout;
    limits.wall = run::wall(&limits, timeout);
    let script = source.read(&limits, &files, &config)?;
    let constants = constants(&args, &source.arguments)?;
    let entry = if has_config { files.enter(&id, &config) } else { None };
    let denials = if has_config { terms::denials(&config) } else { None };
    let (layers, broker) = terms::confine(&limits, &policies, &files, &config, if args.dry_run { Manner::Dry } else { Manner::Run })?;
    let closed = super::session::closed(&files, &config, identity.facts.uid);
    let runbook = if let From::Runbook(name) = &source.from { Some(name.clone()) } else { None };
    let terms = Terms {
        run: id,
        mode: "local",
        config,
        identity,
        audit,
        policies,
        limits,
        layers,
        closed,
        files,
        broker,
        entry,
        denials,
        dry_run: args.dry_run,
        interactive: false,
    };
    let learning = learning.map(|learning| learning.gate(&terms));
    Ok((terms, Job { script, runbook, constants, form, verbose: args.verbose, learning }))
}

/// The owner's files for a command line, what rex.toml says, and whether there is one.
pub(super) fn files(args: &RunArgs) -> Result<(OwnersFiles, Config, bool)> {
    // Whoever types the command vouches for the files that it names; what lies in /etc/rex is believed only from root.
    let named = args.config.is_some() || !args.policy.is_empty();
    let files = OwnersFiles::new(args.config.as_deref(), if named { Owner::Unchecked } else { Owner::RootOnly });
    let configured = args.config.is_some() || args.policy.is_empty();
    let config = if configured { files.config()? } else { Config::default() };
    let has_config = configured && (args.config.is_some() || files.config.exists());
    Ok((files, config, has_config))
}

/// Where the script is, and the words that are arguments.
struct Source {
    from: From,
    arguments: Vec<String>,
}

enum From {
    Stdin,
    File(PathBuf),
    Expression(String),
    Runbook(String),
}

impl Source {
    fn of(args: &RunArgs) -> Result<Self> {
        let mut words = args.words.clone();
        let from = match (&args.script_file, &args.expression) {
            (Some(_), Some(_)) => return Err(Error::new(Kind::Usage, "give -s or -e, not both")),
            (Some(file), None) => From::File(file.clone()),
            (None, Some(text)) => From::Expression(text.clone()),
            (None, None) => match words.first().map(String::as_str) {
                None => From::Stdin,
                Some("-") => {
                    words.remove(0);
                    From::Stdin
                }
                Some(name) if name.starts_with('@') => {
                    let name = name.trim_start_matches('@').to_owned();
                    words.remove(0);
                    From::Runbook(name)
                }
                Some(word) if !word.contains('=') || Path::new(word).exists() => {
                    let file = PathBuf::from(words.remove(0));
                    From::File(file)
                }
                Some(_) => From::Stdin,
            },
        };
        Ok(Self { from, arguments: words })
    }

    fn read(&self, limits: &crate::limits::Limits, files: &OwnersFiles, config: &Config) -> Result<String> {
        let too_long = |bytes: usize| bytes as u64 > limits.script;
        match &self.from {
            From::Stdin if crate::output::is_tty(rustix::stdio::stdin()) => {
                Err(Error::new(Kind::Usage, "no script").with_hint("name a file, use -e EXPR, or send the script on standard input"))
            }
            From::Stdin => script::receive(limits.script, config.read_timeout.max(limits.wall), &Declared::default()),
            From::Expression(text) => script::prepare(text.clone()),
            From::Runbook(name) => files.runbook(name),
            From::File(path) => {
                let bytes = match Trusted::new(Owner::Unchecked).read(path, limits.script.saturating_add(1)) {
                    Ok(bytes) => bytes,
                    Err(error) if error.kind == Kind::NotFound => {
                        return Err(Error::new(Kind::Communication, format!("no script at {}", path.display())));
                    }
                    Err(error) => return Err(Error { kind: Kind::Communication, ..error }),
                };
                if too_long(bytes.len()) {
                    return Err(Error::new(Kind::Limit, format!("the script is longer than {} bytes", limits.script)));
                }
                script::whole(bytes, &Declared::default())
            }
        }
    }
}

/// The policies named, or those beside rex.toml.
pub(super) fn sources(named: &[PathBuf], files: &OwnersFiles) -> Result<Vec<crate::policy::Source>> {
    if named.is_empty() {
        return files.policies();
    }
    let mut sources = Vec::new();
    for path in named {
        if !path.exists() {
            return Err(Error::new(Kind::Config, format!("{}: there is no such file or folder", path.display()))
                .with_hint("-p names a file of policies, or a folder of *.cedar files"));
        }
        sources.extend(files.sources(path)?);
    }
    Ok(sources)
}

/// The principal that the owner names, or the Unix user.
pub(super) fn identity(args: &RunArgs) -> Result<Identity> {
    let uid = Credentials::of_this_process()?.uid;
    let unix_user = crate::resource::file::names().user(uid).unwrap_or_else(|| uid.to_string());
    let (name, evidence, reason) = match &args.principal {
        Some(name) => (name.clone(), Evidence::Argument, "named on the command line".to_owned()),
        None => (unix_user.clone(), Evidence::User, format!("the Unix user {unix_user} (uid {uid})")),
    };
    if let Some(fault) = crate::identity::name::fault(&name) {
        return Err(Error::new(Kind::Usage, format!("--principal: {fault}")));
    }
    let facts = Facts { unix_user, uid, ..Facts::default() };
    Ok(Identity { name, groups: args.group.clone(), evidence, facts, derivation: vec![reason], expires: None })
}

/// Arguments of the command line and of files, as constants.
fn constants(args: &RunArgs, words: &[String]) -> Result<Vec<(String, crate::functions::value::Dynamic)>> {
    let arguments = words.iter().map(|word| argument(word)).collect::<Result<Vec<_>>>()?;
    let mut json = args.arguments_json.as_deref().map(json_object).transpose()?.unwrap_or_default();
    if let Some(path) = &args.script_arguments_file {
        let unreadable = |error: Error| Error { kind: Kind::Communication, ..error };
        let bytes = Trusted::new(Owner::Unchecked).read(path, 16 << 20).map_err(unreadable)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::new(Kind::Communication, format!("{}: not UTF-8 text", path.display())))?;
        for (name, value) in json_object(&text)? {
            crate::invocation::arguments::name(&name)?;
            json.insert(name.clone(), typed(&name, &value)?);
        }
    }
    for (name, _) in &json {
        crate::invocation::arguments::name(name)?;
        if arguments.iter().any(|(known, _)| known == name) {
            return Err(Error::new(Kind::Arguments, format!("`{name}` is given twice")));
        }
    }
    run::constants(&arguments, Some(&json))
}

/// The reference's typed form, `{"stringValue": "x"}` and its kin, as plain JSON.
fn typed(name: &str, value: &serde_json::Value) -> Result<serde_json::Value> {
    use serde_json::Value;
    let wrong = || {
        Error::new(
            Kind::Arguments,
            format!("`{name}`: expected one of stringValue, integerValue, longValue, doubleValue, booleanValue, listValue, mapValue"),
        )
    };
    let fields = value.as_object().filter(|fields| fields.len() == 1).ok_or_else(wrong)?;
    let (kind, inner) = fields.iter().next().ok_or_else(wrong)?;
    match (kind.as_str(), inner) {
        ("stringValue", Value::String(_)) | ("booleanValue", Value::Bool(_)) => Ok(inner.clone()),
        ("integerValue", Value::Number(number)) if number.as_i64().is_some_and(|int| i32::try_from(int).is_ok()) => Ok(inner.clone()),
        ("longValue", Value::Number(number)) if number.is_i64() => Ok(inner.clone()),
        ("doubleValue", Value::Number(number)) => Ok(serde_json::json!(number.as_f64().ok_or_else(wrong)?)),
        ("listValue", Value::Array(items)) => items.iter().map(|item| typed(name, item)).collect::<Result<Vec<_>>>().map(Value::Array),
        ("mapValue", Value::Object(fields)) => fields
            .iter()
            .map(|(key, item)| Ok((key.clone(), typed(name, item)?)))
            .collect::<Result<serde_json::Map<_, _>>>()
            .map(Value::Object),
        _ => Err(wrong()),
    }
}
