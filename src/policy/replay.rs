//! Recorded questions asked again of a set of policies, by the gate's own judge.

use super::cache::Store;
use super::gate::{Gate, Open, Principal, Recorded, Replayed, Rules, Session, Silent};
use super::kinds;
use super::load::{Policies, Scope, Source};
use super::recorded::{self, Asked, Caller};
use super::schema;
use super::words::{Ask, Noun, Value};
use crate::error::{Error, Kind, Result};
use crate::limits::{Limits, Watch};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

/// Callers whose policies are kept loaded.
const SCOPES: usize = 256;

/// The places that are closed to the account with this uid, whatever a policy says.
pub type ClosedTo = Arc<dyn Fn(u32, &Ask, &str, &str) -> Option<&'static str> + Send + Sync>;

/// A set of policies that recorded questions are put to.
pub struct Replay {
    sources: Vec<Source>,
    schema: String,
    asks: Vec<Ask>,
    open: Open,
    closed: ClosedTo,
    known: Validated,
    scopes: HashMap<(String, Vec<String>), Arc<Policies>>,
    /// The gate of the caller before, which most likely is that of the next one too.
    last: Option<(Caller, Prepared)>,
    watch: Arc<Watch>,
    clock: Arc<AtomicI64>,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

/// A gate, and what of its caller is not known.
struct Prepared {
    gate: Gate,
    unknown_principal: Vec<&'static str>,
    unknown_session: Vec<&'static str>,
}

impl Replay {
    /// `asks`: the verbs that functions ask for. Policies are validated here, so that a fault comes out now.
    ///
    /// # Errors
    /// As [`Policies::load`].
    pub fn new(sources: &[Source], schema: String, asks: Vec<Ask>, open: Open, closed: ClosedTo) -> Result<Self> {
        let mut replay = Self {
            sources: sources.to_vec(),
            schema,
            asks,
            open,
            closed,
            known: Validated::default(),
            scopes: HashMap::new(),
            last: None,
            watch: Arc::new(Watch::new(Limits::default())),
            clock: Arc::default(),
        };
        replay.policies(&Scope::default())?;
        Ok(replay)
    }

    /// SHA-256 of the set, see [`Policies::digest`].
    #[must_use]
    pub fn digest(&self) -> String {
        Policies::digest_of(&self.sources)
    }

    fn policies(&mut self, scope: &Scope) -> Result<Arc<Policies>> {
        let key = (scope.name.clone(), scope.groups.clone());
        if let Some(known) = self.scopes.get(&key) {
            return Ok(Arc::clone(known));
        }
        let policies = Arc::new(Policies::load(&self.sources, &self.schema, scope, Some(&self.known))?);
        if self.scopes.len() >= SCOPES {
            self.scopes.clear();
        }
        self.scopes.insert(key, Arc::clone(&policies));
        Ok(policies)
    }

    /// The verb and the noun that a record names, as functions have them now.
    #[must_use]
    pub fn vocabulary(&self, asked: &Asked) -> Option<(Ask, &'static Noun)> {
        let ask = self.asks.iter().find(|ask| (ask.namespace, ask.name) == (asked.action.0.as_str(), asked.action.1.as_str()))?;
        let noun = ask.nouns.iter().find(|noun| noun.name == asked.resource.0)?;
        Some((*ask, noun))
    }

    /// The answer that this set gives to the question.
    ///
    /// # Errors
    /// Faults of rex itself.
    pub fn ask(&mut self, caller: &Caller, asked: &Asked) -> Result<Replayed> {
        let Some((ask, noun)) = self.vocabulary(asked) else {
            let what = format!("no function asks for {}::{} on {}", asked.action.0, asked.action.1, asked.resource.0);
            return Ok(Replayed::Unknown(vec![what]));
        };
        let Some(told) = &caller.told else { return Ok(Replayed::Unknown(vec!["the groups of the principal".to_owned()])) };
        if self.last.as_ref().is_none_or(|(known, _)| known != caller) {
            let scope = Scope { name: caller.principal.clone(), groups: told.groups.clone() };
            let policies = self.policies(&scope)?;
            let prepared = self.prepare(policies, caller)?;
            self.last = Some((caller.clone(), prepared));
        }
        let Some((_, prepared)) = &self.last else { return Err(Error::new(Kind::Internal, "no gate to ask")) };
        self.clock.store(asked.time, Ordering::Relaxed);
        let id = asked.resource.1.as_str();
        let (attributes, absent) = attributes(noun, id, asked);
        let (mut context, mut unknown_context) = recorded::known(&asked.context, ask.context, !asked.cut);
        // Of an environment only the names are on record.
        let mut untold_tags = false;
        if let Some((environment, names)) = recorded::told_environment(&asked.context).filter(|_| !asked.cut) {
            unknown_context.retain(|name| *name != "environment");
            untold_tags = names != Value::Set(Vec::new());
            context.push(("environment", environment));
        }
        let recorded = Recorded {
            noun,
            id,
            attributes,
            absent,
            context,
            unknown_context,
            untold_tags,
            unknown_principal: &prepared.unknown_principal,
            unknown_session: &prepared.unknown_session,
        };
        let needs_open = ask.namespace == "file_system" && ask.name != "open";
        Ok(prepared.gate.replay(&ask, needs_open, &recorded))
    }

    fn prepare(&self, policies: Arc<Policies>, caller: &Caller) -> Result<Prepared> {
        let told = caller.told.clone().unwrap_or_default();
        let mut facts = told.facts;
        facts.insert("evidence".into(), caller.evidence.as_str().into());
        // The certificate has another form on record.
        let certificate = facts.remove("certificate");
        let (attributes, mut unknown_principal) = recorded::known(&facts, schema::USER.attributes, true);
        unknown_principal.extend(certificate.map(|_| "certificate"));
        let mut session = vec![
            // What is not on record has some value here and is never looked at, see `unknown_session`.
            ("mode", Value::String(String::new())),
            ("interactive", Value::Bool(false)),
            ("layers", Value::Set(told.layers.iter().cloned().map(Value::String).collect())),
        ];
        let texts = [("host", Some(&caller.host)), ("script", caller.script.as_ref())];
        session.extend(
            texts.into_iter().filter_map(|(name, text)| Some((name, Value::String(text.filter(|text| !text.is_empty())?.clone())))),
        );
        let address = caller.client.clone().map(Value::Ip).filter(|address| super::values::value(address, &mut Vec::new()).is_some());
        session.extend(address.map(|address| ("client_address", address)));
        let principal = Principal { name: caller.principal.clone(), groups: told.groups, attributes };
        let session = Session { run: caller.run.clone(), attributes: session };
        let (uid, closed) = (caller.uid, Arc::clone(&self.closed));
        let rules = Rules { open: self.open, closed: Arc::new(move |ask, noun, id| closed(uid, ask, noun, id)), dry_run: false };
        let clock = Arc::clone(&self.clock);
        let gate = Gate::new(policies, principal, session, Box::new(Silent), Arc::clone(&self.watch), rules)?
            .with_clock(move || clock.load(Ordering::Relaxed));
        Ok(Prepared { gate, unknown_principal, unknown_session: vec!["mode", "runbook"] })
    }
}

/// What is known of the resource: what its id tells, and what the record does. And what it is known not to have.
fn attributes(noun: &'static Noun, id: &str, asked: &Asked) -> (Vec<(&'static str, Value)>, Vec<&'static str>) {
    let (mut known, _) = recorded::known(&asked.attributes, noun.attributes, false);
    let mut absent = Vec::new();
    let text = |text: &str| Value::String(text.to_owned());
    match noun.name {
        "file_system::File" | "file_system::Dir" => {
            known.push(("path", text(id)));
            known.push(("name", text(id.rsplit('/').next().unwrap_or(""))));
        }
        "systemd::Service" | "systemd::Unit" => {
            known.push(("name", text(id)));
            known.push(("kind", text(id.rsplit_once('.').map_or("", |(_, kind)| kind))));
        }
        "journal::Log" => {
            known.push(("name", text(id)));
            known.push(("kind", text(if matches!(id, "kernel" | "system") { id } else { "unit" })));
        }
        "process_system::Process" => {
            known.extend(id.parse().ok().map(|pid| ("pid", Value::Long(pid))));
            if !asked.attributes.is_empty() && !asked.cut && !asked.attributes.contains_key("unit") {
                absent.push("unit");
            }
        }
        kind if kinds::is_name(kind) => known.push(("name", text(id))),
        _ => {}
    }
    (known, absent)
}

/// The verdict of validation, kept while the command runs.
#[derive(Default)]
struct Validated(Mutex<HashMap<String, Vec<u8>>>);

impl Store for Validated {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.lock().ok()?.get(key).cloned()
    }
    fn put(&self, key: &str, bytes: &[u8]) {
        if let Ok(mut known) = self.0.lock() {
            known.insert(key.to_owned(), bytes.to_owned());
        }
    }
}
