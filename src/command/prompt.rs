//! A session at a prompt, over ssh and for the host's owner (`rex repl`): what it needs is opened and the fence put up before the first entry.

use super::cli::ReplArgs;
use super::session::{self, Prepared};
use crate::audit::Audit;
use crate::error::{Error, Kind, Result};
use crate::invocation::{Session, Verb};
use crate::os::history::History;
use crate::os::process::Environment;
use crate::os::shared;
use crate::output::Form;
use crate::repl::{self, Seat, Setting};
use crate::run;
use crate::terms::{self, Manner, Terms};
use std::sync::Arc;

/// A prompt for a session; gives the exit code.
pub(super) fn session(prepared: Prepared, asked: &Session) -> u8 {
    let Prepared { config, files, identity, audit, run, term, .. } = prepared;
    let policies = terms::policies(&files, &config, &identity).inspect_err(|error| run::refuse(&audit, "policy", error));
    let begun = policies.and_then(|policies| {
        audit.set_policy(&policies.digest);
        let entry = files.enter(&run, &config);
        let denials = terms::denials(&config);
        let limits = config.limits_for(&identity.groups);
        let history = history(&config, &identity.name);
        let runbooks = files.runbooks();
        let seat = Seat::take()?;
        let (layers, broker) = terms::confine(&limits, &policies, &files, &config, Manner::Prompt)
            .inspect_err(|error| run::refuse(&audit, "layers", error))?;
        let closed = session::closed(&files, &config, identity.facts.uid);
        let mode = if asked.identity_fd.is_some() { "serve" } else { "session" };
        let audit = Arc::clone(&audit);
        let terms = Terms {
            run,
            mode,
            config,
            identity,
            audit,
            policies,
            limits,
            layers,
            closed,
            files,
            broker,
            denials,
            dry_run: false,
            interactive: true,
            entry,
        };
        Ok((terms, seat, history, runbooks))
    });
    match begun {
        Ok((terms, seat, history, runbooks)) => repl::run(terms, Setting { seat, term: &term, history, runbooks, answer: &answer }),
        Err(error) => session::refused(&error, Form::Human),
    }
}

fn answer(terms: &Terms, verb: Verb) -> Result<u8> {
    session::told(terms, verb, Form::Human)
}

/// That there is none is no reason not to begin.
fn history(config: &crate::config::Config, principal: &str) -> Option<History> {
    let folder = &config.interactive.history;
    if folder.is_empty() {
        return None;
    }
    History::open(&config.beside(folder), principal, || crate::resource::file::names().gid_of(shared::GROUP)).ok()
}

/// `rex repl`: the owner tries policies at a prompt, as any principal. Gives the exit code.
#[must_use]
pub fn local(args: &ReplArgs, environment: &Environment) -> u8 {
    let term = environment.all("TERM").first().map(|term| term.to_vec()).unwrap_or_default();
    match begin(args) {
        Ok((terms, seat, runbooks)) => repl::run(terms, Setting { seat, term: &term, history: None, runbooks, answer: &answer }),
        Err(error) => super::local::failed(&error),
    }
}

fn begin(args: &ReplArgs) -> Result<(Terms, Seat, Vec<String>)> {
    if !repl::is_possible() {
        return Err(
            Error::new(Kind::Usage, "a prompt needs a terminal").with_hint("`rex run` takes a script from a file or from standard input")
        );
    }
    let id = run::new_id();
    let of_a_run = args.as_of_a_run();
    let (files, config, has_config) = super::local::files(&of_a_run)?;
    let identity = super::local::identity(&of_a_run)?;
    let info = run::run_info(&id, Some(&identity), identity.facts.uid, "");
    let audit = Arc::new(if has_config { Audit::open(&config.audit, config.on_audit_failure, info)? } else { Audit::best_effort(info) });
    if audit.sinks().is_empty() {
        super::say("rex: no record is kept of this session: this host has no log, and no rex.toml that names a file of records is in use");
    }
    let sources = super::local::sources(&args.policy, &files)?;
    let policies = if args.policy.is_empty() {
        terms::accept(&sources, &files, &config, &identity)
    } else {
        terms::load_policies(&sources, &identity, Some(&files.cache_of_tries()))
    };
    let policies = policies.inspect_err(|error| run::refuse(&audit, "policy", error))?;
    audit.set_policy(&policies.digest);
    let limits = config.limits_for(&identity.groups);
    let entry = if has_config { files.enter(&id, &config) } else { None };
    let denials = if has_config { terms::denials(&config) } else { None };
    let runbooks = files.runbooks();
    let seat = Seat::take()?;
    let (layers, broker) = terms::confine(&limits, &policies, &files, &config, Manner::Prompt)?;
    let closed = session::closed(&files, &config, identity.facts.uid);
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
        denials,
        dry_run: false,
        interactive: true,
        entry,
    };
    Ok((terms, seat, runbooks))
}
