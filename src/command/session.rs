//! `rex session`: what sshd, the login shell and `rex serve` start. The order is the contract: configuration, identity, record, request, policies, script.

use super::verbs;
use crate::audit::Audit;
use crate::config::{Complete, Config};
use crate::error::{Error, Kind, Result};
use crate::identity::{EvidenceSources, Identity, establish};
use crate::invocation::{self, Door, Format, Request, Session, Verb};
use crate::limits::Watch;
use crate::os::process::{Credentials, Environment};
use crate::os::script::{self, Declared};
use crate::os::trusted::Owner;
use crate::output::Form;
use crate::resource::closed::Closed;
use crate::run::{self, Job};
use crate::terms::{self, OwnersFiles, Terms};
use std::sync::Arc;

/// The result form of a request's format.
#[must_use]
pub fn form(format: Format) -> Form {
    match format {
        Format::Human => Form::Human,
        Format::Json => Form::Json,
        Format::PrettyJson => Form::PrettyJson,
        Format::Ndjson => Form::Ndjson,
    }
}

/// Runs a session to its end; gives the exit code.
#[must_use]
pub fn run(session: &Session, environment: &Environment) -> u8 {
    let verb = session.verb();
    let form = answer_form(session, verb.as_ref().ok());
    // Said at once and to anybody: it tells nothing of this host.
    match &verb {
        Ok(Verb::Help { topic }) => return super::show(&invocation::help(*topic)),
        Ok(Verb::Version) => return super::show(&format!("rex {}\n", env!("CARGO_PKG_VERSION"))),
        _ => {}
    }
    match prepare(session, environment) {
        Ok(prepared) => answer(session, verb, prepared, form),
        Err(error) => refused(&error, form),
    }
}

/// In the human form a refusal is one line on stderr; a program gets its document.
fn refused(error: &Error, form: Form) -> u8 {
    match form {
        Form::Human => {
            let hint = error.hint.as_ref().filter(|hint| !hint.is_empty()).map(|hint| format!("; {hint}")).unwrap_or_default();
            super::say(&format!("rex: {error}{hint}"));
            error.kind.exit() as u8
        }
        form => crate::report::early(error.clone(), form),
    }
}

fn answer_form(session: &Session, verb: Option<&Verb>) -> Form {
    let asked = match verb {
        Some(Verb::Run(run)) => run.format,
        Some(Verb::Check(check)) => check.format,
        Some(Verb::Can { format, .. } | Verb::Why { format, .. } | Verb::Whoami { format }) => *format,
        _ => None,
    };
    // A request for another program gets no byte on stdout, whatever the way in.
    let default = if verb.is_none() { Format::Human } else { session.default_format() };
    form(asked.unwrap_or(default))
}

struct Prepared {
    config: Config,
    files: OwnersFiles,
    identity: Identity,
    audit: Arc<Audit>,
    run: String,
    clock: std::time::Instant,
}

/// Configuration, identity and the open record.
fn prepare(session: &Session, environment: &Environment) -> Result<Prepared> {
    let clock = std::time::Instant::now();
    let run = run::new_id();
    let files = OwnersFiles::new(session.config.as_deref(), owner(session));
    let uid = Credentials::of_this_process()?.uid;
    let request = request_text(session, environment);
    let config = files.config().inspect_err(|error| {
        // The record's own settings are not known then; the host's log is.
        run::refuse(&Audit::best_effort(run::run_info(&run, None, uid, &request)), "config", error);
    })?;
    let identity = identity(session, environment, &config, &files, uid);
    let audit = Audit::open(&config.audit, config.on_audit_failure, run::run_info(&run, identity.as_ref().ok(), uid, &request))?;
    let identity = identity.inspect_err(|error| run::refuse(&audit, "identity", error))?;
    Ok(Prepared { config, files, identity, audit: Arc::new(audit), run, clock })
}

/// Sessions believe files of root alone; a session of `rex serve` also those of the account that the server runs as.
fn owner(session: &Session) -> Owner {
    if session.identity_fd.is_some() { Owner::RootOrSelf } else { Owner::RootOnly }
}

fn identity(session: &Session, environment: &Environment, config: &Config, files: &OwnersFiles, uid: u32) -> Result<Identity> {
    let names = crate::resource::file::names();
    let inherited = session.identity_fd.map(crate::sys::inherit::read_identity).transpose()?;
    let logins = config.beside(&config.login_records);
    let argument = session.principal.as_deref();
    let sources = EvidenceSources { argument, environment, logins: &logins, uid, names, inherited: inherited.as_deref() };
    let now = u64::try_from(crate::sys::clock::now_millis() / 1000).unwrap_or(0);
    establish(&sources, &terms::demanded(config), &files.principals()?, now)
}

/// The request for the record, as the client sent it.
fn request_text(session: &Session, environment: &Environment) -> String {
    match session.door {
        Door::Forced | Door::LoginShellCommand => environment
            .all("SSH_ORIGINAL_COMMAND")
            .first()
            .map(|bytes| String::from_utf8_lossy(bytes).chars().take(2048).collect::<String>().escape_debug().to_string())
            .unwrap_or_default(),
        Door::LoginShellLogin => String::new(),
    }
}

/// What was asked for, done.
fn answer(session: &Session, verb: Result<Verb>, prepared: Prepared, form: Form) -> u8 {
    let Prepared { config, files, identity, audit, run, clock } = prepared;
    let stop = |what: &str, error: Error| {
        run::refuse(&audit, what, &error);
        refused(&error, form)
    };
    let verb = match verb {
        Ok(verb) => verb,
        Err(error) => return stop("request", error),
    };
    if let Some(sentence) = invocation::unavailable(&Request { verb: verb.clone() }) {
        return stop("request", Error::new(Kind::Usage, sentence));
    }
    let reads_script = matches!(&verb, Verb::Run(run) if run.source == invocation::Source::Stdin)
        || matches!(&verb, Verb::Check(check) if check.source == invocation::Source::Stdin);
    if reads_script && script::on_a_terminal() {
        let error = Error::new(Kind::Usage, "a script cannot come from a terminal")
            .with_hint("use `ssh -T`, and send the script on standard input");
        return stop("request", error);
    }
    let uid = identity.facts.uid;
    let mut limits = config.limits_for(&identity.groups);
    if let Verb::Run(asked) = &verb {
        limits.wall = run::wall(&limits, asked.timeout);
    }
    let policies = match terms::policies(&files, &config, &identity) {
        Ok(policies) => policies,
        Err(error) => return stop("policy", error),
    };
    audit.set_policy(&policies.digest);
    let mode = if session.identity_fd.is_some() { "serve" } else { "session" };
    let entry = if matches!(verb, Verb::Run(_)) { files.enter(&run, &config) } else { None };
    let denials = terms::denials(&config);
    let dry_run = matches!(&verb, Verb::Run(asked) if asked.dry_run);
    let (layers, broker) = match terms::confine(&limits, &policies, &files, &config, dry_run) {
        Ok(confined) => confined,
        Err(error) => return stop("layers", error),
    };
    let closed = closed(&files, &config, uid);
    let terms = Terms {
        run,
        mode,
        config,
        identity,
        audit: Arc::clone(&audit),
        policies,
        limits,
        layers,
        closed,
        files,
        broker,
        entry,
        denials,
        dry_run,
    };
    match verb {
        Verb::Run(asked) => {
            let runbook = if let invocation::Source::Runbook(name) = &asked.source { Some(name.clone()) } else { None };
            let declared = Declared { sha256: asked.sha256, end: asked.end.clone() };
            let prepared = script(&terms, &asked.source, &declared, clock)
                .and_then(|script| Ok((script, run::constants(&asked.arguments, asked.arguments_json.as_ref())?)));
            match prepared {
                Ok((script, constants)) => {
                    let expires = terms
                        .identity
                        .expires
                        .and_then(|seconds| std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds)));
                    let watch = Arc::new(Watch::since(terms.limits.clone(), clock).until(expires));
                    run::run_watched(terms, Job { script, runbook, constants, form, verbose: asked.verbose, learning: None }, watch)
                }
                Err(error) => stop("script", error),
            }
        }
        Verb::Check(asked) => {
            let declared = Declared { sha256: asked.sha256, end: asked.end.clone() };
            let prepared = script(&terms, &asked.source, &declared, clock)
                .and_then(|script| Ok((script, run::constants(&asked.arguments, asked.arguments_json.as_ref())?)));
            match prepared {
                Ok((script, constants)) => super::check::check(&terms, &script, &constants, form),
                Err(error) => stop("script", error),
            }
        }
        Verb::Can { question, .. } => match super::can::can(&terms, question.as_ref(), form) {
            Ok(code) => code,
            Err(error) => stop("request", error),
        },
        Verb::Functions { json, name } => match verbs::functions(json, name.as_deref()) {
            Ok(code) => code,
            Err(error) => stop("request", error),
        },
        Verb::Whoami { .. } => verbs::whoami(&terms, form),
        Verb::Why { reference, .. } => match super::why::why(&terms, &reference, form) {
            Ok(code) => code,
            Err(error) => stop("request", error),
        },
        Verb::Mcp | Verb::Help { .. } | Verb::Version => stop("request", Error::new(Kind::Usage, "not available in this version")),
    }
}

/// The script, known to be whole.
fn script(terms: &Terms, source: &invocation::Source, declared: &Declared, clock: std::time::Instant) -> Result<String> {
    if let Some(script) = run::script_of(source, &terms.files)? {
        return Ok(script);
    }
    let enough = match terms.config.require_complete {
        Complete::None => true,
        Complete::End => declared.end.is_some() || declared.sha256.is_some(),
        Complete::Sha256 => declared.sha256.is_some(),
    };
    if !enough {
        let how = if terms.config.require_complete == Complete::Sha256 { "`--sha256 HEX`" } else { "`--end MARKER` or `--sha256 HEX`" };
        return Err(Error::new(Kind::Incomplete, format!("this host runs a script only when it is declared whole with {how}")));
    }
    let time = terms.config.read_timeout.min(terms.limits.wall.saturating_sub(clock.elapsed()));
    script::receive(terms.limits.script, time, declared)
}

/// What is closed in this session.
pub fn closed(files: &OwnersFiles, config: &Config, uid: u32) -> Closed {
    terms::tested::closed(files, config, crate::resource::file::names().home(uid), crate::sys::inherit::own_program())
}
