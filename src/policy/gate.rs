//! The gate: the only place where a permission comes into being. It asks the policies, writes the record, and hands out [`Granted`].

use super::load::{Policies, Scope};
use super::schema;
use super::slice::{Line, Reveal, Rule, Thing, Verb};
use super::values;
use super::words::{Action, Ask, Noun, Resource, Site, Value, ask};
use crate::error::{Denial, Error, Kind, Result, Why};
use crate::limits::Watch;
use cedar_policy_core::ast::{Context, Entity, EntityUIDEntry, Literal, Request, SlotEnv, ValueKind};
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Decisions that a run remembers; then it forgets them all and begins anew.
const REMEMBERED: usize = 16_384;
/// Denials that a run keeps for its result; further ones are counted and recorded, but not kept.
const KEPT: usize = 1000;

/// A permission for `A` on one resource. Whoever holds it may do the deed; only [`Gate`] makes one.
#[derive(Debug)]
#[must_use = "a permission that nothing is done with was asked for in vain"]
pub struct Granted<A: Action> {
    resource: A::On,
    verb: PhantomData<fn() -> A>,
}

impl<A: Action> Granted<A> {
    pub fn resource(&self) -> &A::On {
        &self.resource
    }
    /// Ends the permission and gives the resource back.
    pub fn into_resource(self) -> A::On {
        self.resource
    }
}

impl<A: Action> std::ops::Deref for Granted<A> {
    type Target = A::On;
    fn deref(&self) -> &A::On {
        &self.resource
    }
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Principal {
    /// The id of the `User`; free text.
    pub name: String,
    /// The ids of its `Group`s.
    pub groups: Vec<String>,
    /// See [`schema::USER`].
    pub attributes: Vec<(&'static str, Value)>,
}

/// The run that asks.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Its id.
    pub run: String,
    /// See [`schema::SESSION`]; `run` and `now` are added by the gate.
    pub attributes: Vec<(&'static str, Value)>,
}

/// What becomes of `open` when a verb needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Open {
    /// Allowed with the verb, unless some policy forbids it.
    #[default]
    Implied,
    /// To be permitted on the file and on its folder, as for the reference.
    Explicit,
}

/// A place that is closed whatever a policy says: why, or None. Told the ask, the entity type and the id.
pub type Closed = Box<dyn Fn(&Ask, &str, &str) -> Option<&'static str> + Send + Sync>;

/// What the configuration says about decisions.
pub struct Rules {
    pub open: Open,
    pub closed: Closed,
}

impl Default for Rules {
    fn default() -> Self {
        Self { open: Open::Implied, closed: Box::new(|_, _, _| None) }
    }
}

/// One decision, to be recorded before anything is done.
#[derive(Clone, Debug)]
pub struct DecisionRecord<'a> {
    pub allowed: bool,
    /// The real reason of a denial, also where the caller is told less.
    pub why: Option<Why>,
    /// Cedar notation.
    pub principal: &'a str,
    /// Cedar notation.
    pub action: &'a str,
    /// Entity type and canonical id of the resource; the id is free text.
    pub resource: (&'a str, &'a str),
    /// How the script named it.
    pub shown: &'a str,
    /// The policies that decided.
    pub policies: Vec<&'a str>,
    pub function: &'a str,
    /// From 1; 0 when unknown.
    pub line: u32,
    pub column: u32,
    /// Answered from memory.
    pub remembered: bool,
    /// The reference of a denial.
    pub reference: Option<&'a str>,
    /// For the owner of the host, what no policy says: a closed place, an undeclared ask, a value that could not be had.
    pub note: Option<&'a str>,
    /// Allowed, but it cannot be done: it is missing, say.
    pub obstacle: Option<&'a Error>,
}

/// What a walk did, recorded at its end.
#[derive(Clone, Debug)]
pub struct WalkRecord<'a> {
    pub principal: &'a str,
    pub action: &'a str,
    /// Entity type and canonical id of where it began.
    pub root: (&'a str, &'a str),
    /// For each verb in Cedar notation: how often it was allowed, how often denied.
    pub counts: &'a [(String, u64, u64)],
    /// Every policy that allowed something.
    pub policies: Vec<&'a str>,
    pub function: &'a str,
    pub line: u32,
    pub column: u32,
}

/// A change that was made, or tried in vain, after it was allowed.
#[derive(Clone, Debug)]
pub struct EffectRecord<'a> {
    pub principal: &'a str,
    /// Cedar notation.
    pub action: &'a str,
    /// Entity type and canonical id; the id is free text.
    pub resource: (&'a str, &'a str),
    /// `None`: done.
    pub failed: Option<Kind>,
    /// Bytes that went in.
    pub bytes: u64,
    pub duration: std::time::Duration,
    /// What the numbers do not tell, in words of rex.
    pub detail: &'a str,
    pub function: &'a str,
    /// From 1; 0 when unknown.
    pub line: u32,
    pub column: u32,
}

/// What a change came to, see [`Gate::effect`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Effect<'a> {
    /// `None`: done.
    pub failed: Option<Kind>,
    pub bytes: u64,
    pub duration: std::time::Duration,
    pub detail: &'a str,
}

/// Where decisions are recorded.
pub trait Recorder: Send + Sync {
    /// # Errors
    /// When it could not be recorded; then the act does not happen.
    fn decision(&self, record: &DecisionRecord<'_>) -> Result<()>;
    /// # Errors
    /// When it could not be recorded.
    fn walk(&self, record: &WalkRecord<'_>) -> Result<()>;
    /// # Errors
    /// When it could not be recorded; the change has happened by then, and the run ends.
    fn effect(&self, record: &EffectRecord<'_>) -> Result<()>;
}

/// An answer that does nothing and is not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No(Why),
    /// It depends on what is only known when it is done: attributes of the thing, the verb's circumstances. Names what.
    Depends(Vec<String>),
}

/// What the policies say.
#[derive(Clone, Debug)]
struct Verdict {
    /// None: allowed.
    why: Option<Why>,
    /// Indices of the rules that decided.
    deciders: Vec<u32>,
    retry: bool,
    note: Option<String>,
    /// Whether the answer stays true within the run.
    lasting: bool,
}

struct Remembered {
    verb: (&'static str, &'static str),
    kind: &'static str,
    id: String,
    /// What was denied may be `open` on the folder instead.
    verdict: Arc<Full>,
}

/// A verdict on a question with everything that hangs on it.
#[derive(Debug)]
struct Full {
    verdict: Verdict,
    /// The verb and resource the verdict is about, where that is not the question's own: `open`, and perhaps the folder.
    instead: Option<(String, Option<(String, String)>)>,
}

/// The gate of one run.
pub struct Gate {
    policies: Arc<Policies>,
    principal: EntityUIDEntry,
    principal_text: String,
    principal_entity: Arc<Entity>,
    /// `session` without `now`.
    session: Vec<(&'static str, Value)>,
    /// The context of questions that have none of their own and do not look at the time.
    plain: Context,
    run: String,
    recorder: Box<dyn Recorder>,
    watch: Arc<Watch>,
    rules: Rules,
    clock: fn() -> i64,
    memory: Mutex<HashMap<u64, Remembered>>,
    hasher: RandomState,
    denials: Mutex<Vec<Denial>>,
    allowed: AtomicU64,
    denied: AtomicU64,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("principal", &self.principal_text).field("run", &self.run).finish_non_exhaustive()
    }
}

/// Milliseconds since the epoch.
fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Gate {
    /// # Errors
    /// [`Kind::Internal`] when the policies were loaded for somebody else, or when the attributes of principal or session are not what the
    /// schema says they are: a policy would silently not apply.
    pub fn new(
        policies: Arc<Policies>,
        principal: Principal,
        session: Session,
        recorder: Box<dyn Recorder>,
        watch: Arc<Watch>,
        rules: Rules,
    ) -> Result<Self> {
        let internal = |what: String| Error::new(Kind::Internal, what);
        if policies.scope != (Scope { name: principal.name.clone(), groups: principal.groups.clone() }) {
            return Err(internal("the policies were loaded for another principal".to_owned()));
        }
        let mut attributes = session.attributes;
        attributes.retain(|(name, _)| *name != "now" && *name != "run");
        attributes.push(("run", Value::String(session.run.clone())));
        conforms("session", &attributes, schema::SESSION, &["now"])?;
        conforms("principal", &principal.attributes, schema::USER.attributes, &[])?;
        let uid = values::uid("User", &principal.name).ok_or_else(|| internal("no principal".to_owned()))?;
        let groups: HashSet<_> = principal.groups.iter().filter_map(|group| values::uid("Group", group)).collect();
        let mut pairs = Vec::new();
        for (name, value) in &principal.attributes {
            let value = values::value(value, &mut Vec::new())
                .ok_or_else(|| internal(format!("the principal's `{name}` is no value of the policy language")))?;
            pairs.push(((*name).into(), value.into()));
        }
        let entity = Entity::new_with_attr_partial_value(uid.clone(), pairs, HashSet::new(), groups, []);
        let plain = context(&attributes, &[], &mut Vec::new())
            .ok_or_else(|| internal("an attribute of the session is no value of the policy language".to_owned()))?;
        Ok(Self {
            policies,
            principal_text: values::written("User", &principal.name),
            principal: EntityUIDEntry::known(uid, None),
            principal_entity: Arc::new(entity),
            session: attributes,
            plain,
            run: session.run,
            recorder,
            watch,
            rules,
            clock: now,
            memory: Mutex::default(),
            hasher: RandomState::new(),
            denials: Mutex::default(),
            allowed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
        })
    }

    #[cfg(test)]
    fn with_clock(mut self, clock: fn() -> i64) -> Self {
        self.clock = clock;
        self
    }

    /// Asks whether `A` may be done to `on`, records the answer, and only then gives the permission.
    ///
    /// # Errors
    /// [`Kind::Denied`] with the denial as data; [`Kind::Audit`] when it could not be recorded; the resource's obstacle when the policy allows
    /// what cannot be done; the reason when the run has to stop.
    pub fn permit<A: Action>(&self, site: &Site<'_>, on: A::On) -> Result<Granted<A>> {
        self.permit_with::<A>(site, on, Vec::new())
    }

    /// The same for a verb whose question has circumstances, see [`Action::CONTEXT`].
    ///
    /// # Errors
    /// As [`Gate::permit`].
    pub fn permit_with<A: Action>(&self, site: &Site<'_>, on: A::On, context: Vec<(&'static str, Value)>) -> Result<Granted<A>> {
        self.decide::<A>(site, &on, &context, Some(&mut |_| ()))?;
        Ok(Granted { resource: on, verb: PhantomData })
    }

    /// Begins a walk: asks for the root, and then for each thing on the way with [`Walk::permit`]. The root and every denial are recorded one
    /// by one, the rest as counts at the end.
    ///
    /// # Errors
    /// As [`Gate::permit`], for the root.
    pub fn walk<'g, A: Action>(&'g self, site: &Site<'g>, root: &A::On) -> Result<Walk<'g, A>> {
        self.decide::<A>(site, root, &[], Some(&mut |_| ()))?;
        let root = (Resource::noun(root).name, Resource::id(root).to_owned());
        Ok(Walk { gate: self, site: *site, root, state: Mutex::default(), finished: false, verb: PhantomData })
    }

    /// Records what became of an allowed deed on this resource.
    ///
    /// # Errors
    /// [`Kind::Audit`] when it could not be recorded.
    pub fn effect<A: Action>(&self, site: &Site<'_>, on: &A::On, effect: Effect<'_>) -> Result<()> {
        let record = EffectRecord {
            principal: &self.principal_text,
            action: &values::written(&format!("{}::Action", A::NAMESPACE), A::NAME),
            resource: (Resource::noun(on).name, Resource::id(on)),
            failed: effect.failed,
            bytes: effect.bytes,
            duration: effect.duration,
            detail: effect.detail,
            function: site.function,
            line: site.line,
            column: site.column,
        };
        self.recorder.effect(&record).map_err(unrecorded)
    }

    /// What the answer would be. Nothing is recorded.
    pub fn would<A: Action>(&self, on: &A::On) -> Answer {
        let full = self.judge(&const { ask::<A>() }, A::NEEDS_OPEN, on, &[]);
        full.verdict.why.map_or(Answer::Yes, Answer::No)
    }

    /// What the answer would be for a thing that is only named: entity type and id. Paths are taken as they are written, links are not followed.
    /// Nothing is recorded.
    #[must_use]
    pub fn would_ask(&self, ask: &Ask, needs_open: bool, noun: &'static Noun, id: &str) -> Answer {
        let named = Named { noun, id };
        if (self.rules.closed)(ask, noun.name, id).is_some() {
            return Answer::No(Why::Forbidden);
        }
        let mut questions = vec![(ask.namespace, ask.name, false, id.to_owned(), noun)];
        if needs_open {
            let only_forbids = self.rules.open == Open::Implied;
            questions.push(("file_system", "open", only_forbids, id.to_owned(), noun));
            if let Some((_, folder)) = folder_of(&named) {
                questions.push(("file_system", "open", only_forbids, folder, &FOLDER));
            }
        }
        let mut unknown = Vec::new();
        for (namespace, name, only_forbids, id, noun) in questions {
            match self.guess(namespace, name, only_forbids, &Named { noun, id: &id }) {
                Answer::Yes => {}
                Answer::No(why) => return Answer::No(why),
                Answer::Depends(on) => unknown.extend(on),
            }
        }
        unknown.sort();
        unknown.dedup();
        if unknown.is_empty() { Answer::Yes } else { Answer::Depends(unknown) }
    }

    /// What this caller may do, by verb.
    #[must_use]
    pub fn summary(&self) -> Vec<Line> {
        self.policies.summary()
    }

    #[must_use]
    pub fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    #[must_use]
    pub fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// The principal in Cedar notation.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.principal_text
    }

    /// The denials of the run so far, caught by the script or not; at most 1000 of them.
    #[must_use]
    pub fn denials(&self) -> Vec<Denial> {
        self.denials.lock().map(|denials| denials.clone()).unwrap_or_default()
    }

    /// How many questions were allowed, and how many denied.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.allowed.load(Ordering::Relaxed), self.denied.load(Ordering::Relaxed))
    }

    /// The one way to an answer. `on_allowed` is told the rules that allowed; `recorded`: whether an allowed question gets a record of its own.
    fn decide<A: Action>(
        &self,
        site: &Site<'_>,
        on: &A::On,
        context: &[(&'static str, Value)],
        record_allowed: Option<&mut dyn FnMut(&[u32])>,
    ) -> Result<Vec<u32>> {
        self.watch.check()?;
        let ask = &const { ask::<A>() };
        let declared = site.asks.iter().any(|declared| declared.namespace == ask.namespace && declared.name == ask.name);
        let (full, remembered) = if declared {
            self.recall(ask, A::NEEDS_OPEN, on, context)
        } else {
            let note = format!("`{}` did not declare that it asks for this", site.function);
            (Arc::new(Full { verdict: refused(Why::NotPermitted, note), instead: None }), false)
        };
        let shown = on.shown();
        let question = Question { site, ask, kind: Resource::noun(on).name, id: Resource::id(on), shown: &shown, remembered };
        if full.verdict.why.is_some() {
            return Err(self.deny(&question, &full));
        }
        let obstacle = if A::MAY_BE_ABSENT { on.obstacle().filter(|error| error.kind != Kind::NotFound) } else { on.obstacle() };
        if record_allowed.is_some() || obstacle.is_some() {
            self.record(&question, &full, None, obstacle.as_ref())?;
        }
        self.allowed.fetch_add(1, Ordering::Relaxed);
        match obstacle {
            Some(error) => Err(error),
            None => Ok(full.verdict.deciders.clone()),
        }
    }

    fn record(&self, question: &Question<'_>, full: &Full, reference: Option<&str>, obstacle: Option<&Error>) -> Result<()> {
        let own;
        let (action, resource) = match &full.instead {
            Some((action, Some((kind, id)))) => (action.as_str(), (kind.as_str(), id.as_str())),
            Some((action, None)) => (action.as_str(), (question.kind, question.id)),
            None => match self.policies.slice.verb(question.ask.namespace, question.ask.name) {
                Some(verb) => (verb.text.as_str(), (question.kind, question.id)),
                None => {
                    own = values::written(&format!("{}::Action", question.ask.namespace), question.ask.name);
                    (own.as_str(), (question.kind, question.id))
                }
            },
        };
        let record = DecisionRecord {
            allowed: full.verdict.why.is_none(),
            why: full.verdict.why,
            principal: &self.principal_text,
            action,
            resource,
            shown: question.shown,
            policies: self.names(&full.verdict.deciders),
            function: question.site.function,
            line: question.site.line,
            column: question.site.column,
            remembered: question.remembered,
            reference,
            note: full.verdict.note.as_deref(),
            obstacle,
        };
        self.recorder.decision(&record).map_err(unrecorded)
    }

    fn names(&self, rules: &[u32]) -> Vec<&str> {
        rules.iter().filter_map(|index| self.policies.slice.rule(*index)).map(|rule| rule.name.as_str()).collect()
    }

    /// Records a denial and makes it an error.
    fn deny(&self, question: &Question<'_>, full: &Full) -> Error {
        let number = self.denied.fetch_add(1, Ordering::Relaxed) + 1;
        let reference = format!("d-{}-{number}", short(&self.run));
        if let Err(error) = self.record(question, full, Some(&reference), None) {
            return error;
        }
        let deciders: Vec<&Rule> = full.verdict.deciders.iter().filter_map(|index| self.policies.slice.rule(*index)).collect();
        let silent = deciders.iter().any(|rule| rule.reveal == Reveal::None);
        let telling = deciders.iter().find(|rule| rule.hint.is_some()).or(deciders.first());
        let hint = telling.and_then(|rule| match (rule.reveal, &rule.hint) {
            (Reveal::Rule, Some(hint)) => Some(format!("{hint} (policy `{}`)", rule.name)),
            (Reveal::Rule, None) => Some(format!("policy `{}`", rule.name)),
            (_, hint) => hint.clone(),
        });
        let own = || values::written(&format!("{}::Action", question.ask.namespace), question.ask.name);
        let denial = Denial {
            why: if silent { Why::NotPermitted } else { full.verdict.why.unwrap_or(Why::NotPermitted) },
            // A caller is told of the verb it asked for, on what it named: that `open` on a folder was the matter may tell what the name leads to.
            action: full.instead.as_ref().map_or_else(own, |(action, _)| action.clone()),
            resource: values::written(question.kind, question.shown),
            principal: self.principal_text.clone(),
            hint: if silent { None } else { hint },
            retry: !silent && full.verdict.retry,
            reference,
        };
        if let Ok(mut denials) = self.denials.lock()
            && denials.len() < KEPT
        {
            denials.push(denial.clone());
        }
        Error::denied(denial)
    }

    /// The answer from memory, or a new one.
    fn recall(&self, ask: &Ask, needs_open: bool, thing: &dyn Thing, context: &[(&'static str, Value)]) -> (Arc<Full>, bool) {
        let (kind, id) = (thing.noun().name, thing.id());
        let verb = (ask.namespace, ask.name);
        let key = self.hasher.hash_one((verb, kind, id));
        // What a verb's circumstances change is never remembered; what they do not change is the same with any.
        if let Ok(memory) = self.memory.lock()
            && let Some(known) = memory.get(&key)
            && known.verb == verb
            && known.kind == kind
            && known.id == id
        {
            return (Arc::clone(&known.verdict), true);
        }
        let full = Arc::new(self.judge(ask, needs_open, thing, context));
        if full.verdict.lasting
            && let Ok(mut memory) = self.memory.lock()
        {
            if memory.len() >= REMEMBERED {
                memory.clear();
            }
            memory.insert(key, Remembered { verb, kind, id: id.to_owned(), verdict: Arc::clone(&full) });
        }
        (full, false)
    }

    /// The answer: closed places, the verb itself, and `open` where the verb needs it.
    fn judge(&self, ask: &Ask, needs_open: bool, thing: &dyn Thing, context: &[(&'static str, Value)]) -> Full {
        if let Some(why) = (self.rules.closed)(ask, thing.noun().name, thing.id()) {
            return Full { verdict: refused(Why::Forbidden, why.to_owned()), instead: None };
        }
        let Some(verb) = self.policies.slice.verb(ask.namespace, ask.name) else {
            return Full { verdict: refused(Why::NotPermitted, "the schema does not know this action".to_owned()), instead: None };
        };
        let mut verdict = self.evaluate(verb, thing, context, false);
        if verdict.why.is_some() || !needs_open {
            return Full { verdict, instead: None };
        }
        let Some(open) = self.policies.slice.verb("file_system", "open") else { return Full { verdict, instead: None } };
        let only_forbids = self.rules.open == Open::Implied;
        if only_forbids && !open.some_forbid {
            return Full { verdict, instead: None };
        }
        let itself = self.evaluate(open, thing, &[], only_forbids);
        if itself.why.is_some() {
            return Full { verdict: itself, instead: Some((open.text.clone(), None)) };
        }
        let mut parts = vec![itself];
        if let Some((above, id)) = folder_of(thing) {
            let folder = Folder { id: &id, above: &above };
            let answer = self.evaluate(open, &folder, &[], only_forbids);
            if answer.why.is_some() {
                return Full { verdict: answer, instead: Some((open.text.clone(), Some((FOLDER.name.to_owned(), id)))) };
            }
            parts.push(answer);
        }
        for part in parts {
            verdict.lasting &= part.lasting;
            verdict.deciders.extend(part.deciders);
        }
        verdict.deciders.sort_unstable();
        verdict.deciders.dedup();
        Full { verdict, instead: None }
    }

    /// What the rules in question say. `only_forbids`: permitted unless forbidden.
    fn evaluate(&self, verb: &Verb, thing: &dyn Thing, context: &[(&'static str, Value)], only_forbids: bool) -> Verdict {
        let slice = &self.policies.slice;
        let mut candidates = slice.candidates(verb, thing);
        if only_forbids {
            candidates.retain(|index| slice.rule(*index).is_some_and(|rule| !rule.permit));
        }
        let rules = || candidates.iter().filter_map(|index| slice.rule(*index).map(|rule| (*index, rule)));
        let lasting = rules().all(|(_, rule)| {
            let fixed = |name: &String| thing.noun().attributes.iter().all(|attribute| attribute.name != name || attribute.fixed);
            !rule.needs.time && !rule.needs.context && rule.needs.attributes.iter().all(fixed)
        });
        let prepared = if rules().any(|(_, rule)| rule.condition.is_some()) {
            match self.prepare(verb, thing, context, rules().map(|(_, rule)| rule)) {
                Ok(prepared) => Some(prepared),
                Err(note) => {
                    let deciders = rules().filter(|(_, rule)| rule.condition.is_some()).map(|(index, _)| index).collect();
                    return Verdict { why: Some(Why::PolicyError), deciders, retry: false, note: Some(note), lasting: false };
                }
            }
        } else {
            None
        };
        let mut tally = Tally::default();
        let evaluator = prepared.as_ref().map(|(request, entities)| Evaluator::new(request.clone(), entities, Extensions::all_available()));
        for (index, rule) in rules() {
            tally.count(index, rule, holds(rule, evaluator.as_ref()));
        }
        tally.verdict(only_forbids, lasting, |index| slice.rule(index).is_some_and(|rule| rule.needs.time))
    }

    /// Everything that the conditions of these rules look at, and nothing else.
    fn prepare<'r>(
        &self,
        verb: &Verb,
        thing: &dyn Thing,
        own: &[(&'static str, Value)],
        rules: impl Iterator<Item = &'r Rule>,
    ) -> std::result::Result<(Request, Entities), String> {
        let (mut wanted, mut ancestors, mut all, mut time, mut circumstances) = (Vec::new(), false, false, false, false);
        for rule in rules.filter(|rule| rule.condition.is_some()) {
            wanted.extend(rule.needs.attributes.iter().map(String::as_str));
            ancestors |= rule.needs.ancestors;
            all |= rule.needs.all_ancestors;
            time |= rule.needs.time;
            circumstances |= rule.needs.context;
        }
        wanted.sort_unstable();
        wanted.dedup();
        let noun = thing.noun();
        let mut attributes = Vec::new();
        for attribute in noun.attributes.iter().filter(|attribute| wanted.binary_search(&attribute.name).is_ok()) {
            let value = thing
                .attribute(attribute.name)
                .map_err(|error| format!("the attribute `{}` could not be had: {}", attribute.name, error.message))?;
            match value {
                Some(value) if schema::fits(&value, attribute.cedar) => {
                    let value = values::value(&value, &mut Vec::new())
                        .ok_or_else(|| format!("the attribute `{}` is no value of the policy language", attribute.name))?;
                    attributes.push((attribute.name.into(), value.into()));
                }
                Some(_) => return Err(format!("the attribute `{}` is not of its type", attribute.name)),
                None if attribute.required => return Err(format!("the attribute `{}` is missing", attribute.name)),
                None => {}
            }
        }
        let mut parents = HashSet::new();
        if ancestors {
            thing.each_ancestor(&mut |kind, id| {
                if all || self.policies.slice.names(kind, id) {
                    parents.extend(values::uid(kind, id));
                }
            });
        }
        let mut objects = Vec::new();
        let context = if time || circumstances {
            let mut session = self.session.clone();
            session.push(("now", Value::Datetime((self.clock)())));
            context(&session, own, &mut objects).ok_or("the circumstances are no values of the policy language")?
        } else {
            self.plain.clone()
        };
        let uid = values::uid(noun.name, thing.id()).ok_or_else(|| format!("`{}` is no entity type", noun.name))?;
        let (action, action_entity) = verb.cedar().ok_or("the action has no name in the policy language")?;
        let resource = Entity::new_with_attr_partial_value(uid.clone(), attributes, HashSet::new(), parents, []);
        let entities = [Arc::clone(&self.principal_entity), Arc::clone(action_entity), Arc::new(resource)]
            .into_iter()
            .chain(objects.into_iter().map(Arc::new));
        let entities = Entities::new()
            .add_entities(entities, None::<&NoEntitiesSchema>, TCComputation::AssumeAlreadyComputed, Extensions::all_available())
            .map_err(|error| error.to_string())?;
        let request = Request::new_unchecked(self.principal.clone(), action.clone(), EntityUIDEntry::known(uid, None), Some(context));
        Ok((request, entities))
    }

    /// Like [`Gate::evaluate`] for a thing that is only named: rules that look at what is not known decide nothing yet.
    fn guess(&self, namespace: &str, name: &str, only_forbids: bool, named: &Named<'_>) -> Answer {
        let slice = &self.policies.slice;
        let Some(verb) = slice.verb(namespace, name) else { return Answer::No(Why::NotPermitted) };
        let rules: Vec<(u32, &Rule)> = slice
            .candidates(verb, named)
            .into_iter()
            .filter_map(|index| slice.rule(index).map(|rule| (index, rule)))
            .filter(|(_, rule)| !only_forbids || !rule.permit)
            .collect();
        let unknown_of = |rule: &Rule| {
            let mut unknown: Vec<String> =
                rule.needs.attributes.iter().filter(|name| named.value(name).is_none()).map(|name| format!("resource.{name}")).collect();
            if rule.needs.context {
                unknown.push("context".to_owned());
            }
            unknown
        };
        let (known, unknown): (Vec<_>, Vec<_>) = rules.into_iter().partition(|(_, rule)| unknown_of(rule).is_empty());
        let mut tally = Tally::default();
        match self.prepare(verb, named, &[], known.iter().map(|(_, rule)| *rule)) {
            Ok((request, entities)) => {
                let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
                known.iter().for_each(|(index, rule)| tally.count(*index, rule, holds(rule, Some(&evaluator))));
            }
            Err(_) => return Answer::No(Why::PolicyError),
        }
        let sure = tally.verdict(only_forbids, false, |_| false);
        let open = |permit: bool| {
            unknown.iter().filter(|(_, rule)| rule.permit == permit).flat_map(|(_, rule)| unknown_of(rule)).collect::<Vec<_>>()
        };
        match sure.why {
            Some(why @ (Why::Forbidden | Why::PolicyError)) => Answer::No(why),
            None => match open(false) {
                forbids if forbids.is_empty() => Answer::Yes,
                forbids => Answer::Depends(forbids),
            },
            Some(why) => match open(true) {
                permits if permits.is_empty() => Answer::No(why),
                mut permits => {
                    permits.extend(open(false));
                    Answer::Depends(permits)
                }
            },
        }
    }
}

/// A question as it is recorded.
struct Question<'a> {
    site: &'a Site<'a>,
    ask: &'a Ask,
    kind: &'static str,
    id: &'a str,
    shown: &'a str,
    remembered: bool,
}

/// Rules by what became of them.
#[derive(Default)]
struct Tally {
    permits: Vec<u32>,
    forbids: Vec<u32>,
    errors: Vec<u32>,
    unmet: Vec<u32>,
}

impl Tally {
    fn count(&mut self, index: u32, rule: &Rule, holds: Option<bool>) {
        match (holds, rule.permit) {
            (None, _) => self.errors.push(index),
            (Some(true), true) => self.permits.push(index),
            (Some(true), false) => self.forbids.push(index),
            (Some(false), true) => self.unmet.push(index),
            (Some(false), false) => {}
        }
    }

    fn verdict(self, only_forbids: bool, lasting: bool, timed: impl Fn(u32) -> bool) -> Verdict {
        let (why, deciders) = if !self.forbids.is_empty() {
            (Some(Why::Forbidden), self.forbids)
        } else if !self.errors.is_empty() {
            (Some(Why::PolicyError), self.errors)
        } else if !self.permits.is_empty() || only_forbids {
            (None, self.permits)
        } else if !self.unmet.is_empty() {
            (Some(Why::ConditionFailed), self.unmet)
        } else {
            (Some(Why::NotPermitted), Vec::new())
        };
        let retry = why.is_some() && deciders.iter().any(|index| timed(*index));
        Verdict { why, deciders, retry, note: None, lasting }
    }
}

/// Whether the condition of a rule holds. None: it could not be told.
fn holds(rule: &Rule, evaluator: Option<&Evaluator<'_>>) -> Option<bool> {
    let Some(condition) = &rule.condition else { return Some(true) };
    let value = evaluator?.interpret(condition, &SlotEnv::new()).ok()?;
    match value.value {
        ValueKind::Lit(Literal::Bool(holds)) => Some(holds),
        _ => None,
    }
}

fn refused(why: Why, note: String) -> Verdict {
    Verdict { why: Some(why), deciders: Vec::new(), retry: false, note: Some(note), lasting: false }
}

fn unrecorded(error: Error) -> Error {
    if error.kind == Kind::Audit {
        error
    } else {
        Error::new(Kind::Audit, format!("the decision could not be recorded: {}", error.message))
    }
}

fn context(session: &[(&'static str, Value)], own: &[(&'static str, Value)], objects: &mut Vec<Entity>) -> Option<Context> {
    let mut pairs = vec![("session", values::record(session, objects)?)];
    for (name, value) in own.iter().filter(|(name, _)| *name != "session") {
        pairs.push((*name, values::value(value, objects)?));
    }
    match cedar_policy_core::ast::Value::record(pairs, None).value {
        ValueKind::Record(record) => Some(Context::Value(record)),
        _ => None,
    }
}

/// Whether the values are what the schema says. `later`: attributes that are added with each question.
fn conforms(what: &str, values: &[(&'static str, Value)], attributes: &[super::words::Attribute], later: &[&str]) -> Result<()> {
    let wrong = |name: &str, how: &str| Err(Error::new(Kind::Internal, format!("the {what}'s attribute `{name}` {how}")));
    for (name, value) in values {
        match attributes.iter().find(|attribute| attribute.name == *name) {
            None => return wrong(name, "is not in the schema"),
            Some(attribute) if !schema::fits(value, attribute.cedar) => return wrong(name, "is not of its type"),
            Some(_) => {}
        }
    }
    match attributes
        .iter()
        .find(|attribute| attribute.required && !later.contains(&attribute.name) && values.iter().all(|(name, _)| *name != attribute.name))
    {
        Some(missing) => wrong(missing.name, "is missing"),
        None => Ok(()),
    }
}

/// The last six letters or digits of a run's id: ids that begin with a time differ at the end.
fn short(run: &str) -> String {
    let letters: Vec<char> = run.chars().filter(char::is_ascii_alphanumeric).collect();
    letters.iter().skip(letters.len().saturating_sub(6)).collect()
}

/// The folder as far as its path tells: all that a question about `open` on it may need.
const FOLDER: Noun = Noun {
    name: "file_system::Dir",
    parents: &["file_system::Dir"],
    attributes: &[super::words::Attribute { name: "path", cedar: "String", required: true, fixed: true, doc: "Its canonical path." }],
    doc: "The folder of the thing in question.",
};

/// The folder that a thing is in, with what is above it.
fn folder_of(thing: &dyn Thing) -> Option<(Vec<String>, String)> {
    let mut folders = Vec::new();
    thing.each_ancestor(&mut |kind, id| {
        if kind == FOLDER.name {
            folders.push(id.to_owned());
        }
    });
    let mut folders = folders.into_iter();
    let nearest = folders.next()?;
    Some((folders.collect(), nearest))
}

struct Folder<'a> {
    id: &'a str,
    above: &'a [String],
}

impl Thing for Folder<'_> {
    fn noun(&self) -> &'static Noun {
        &FOLDER
    }
    fn id(&self) -> &str {
        self.id
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        self.above.iter().for_each(|id| visit(FOLDER.name, id));
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        if name == "path" {
            return Ok(Some(Value::String(self.id.to_owned())));
        }
        Err(Error::new(Kind::Internal, "only the path of a folder is known"))
    }
}

/// A thing that is only named.
struct Named<'a> {
    noun: &'static Noun,
    id: &'a str,
}

impl Named<'_> {
    /// What the name alone tells.
    fn value(&self, name: &str) -> Option<Value> {
        let own = matches!(
            (self.noun.name, name),
            ("file_system::File" | "file_system::Dir", "path")
                | ("network::url", "url")
                | ("sysinfo::Hostname", "hostname")
                | ("systemd::Service", "name")
        );
        own.then(|| Value::String(self.id.to_owned()))
    }
}

impl Thing for Named<'_> {
    fn noun(&self) -> &'static Noun {
        self.noun
    }
    fn id(&self) -> &str {
        self.id
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        if !self.noun.parents.contains(&FOLDER.name) {
            return;
        }
        let mut rest = self.id;
        while let Some((above, _)) = rest.rsplit_once('/').filter(|_| rest != "/") {
            visit(FOLDER.name, if above.is_empty() { "/" } else { above });
            if above.is_empty() {
                break;
            }
            rest = above;
        }
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        Ok(self.value(name))
    }
}

/// A walk over many things, see [`Gate::walk`].
pub struct Walk<'g, A: Action> {
    gate: &'g Gate,
    site: Site<'g>,
    root: (&'static str, String),
    state: Mutex<WalkState>,
    finished: bool,
    verb: PhantomData<fn() -> A>,
}

#[derive(Default)]
struct WalkState {
    counts: Vec<(String, u64, u64)>,
    policies: HashSet<u32>,
}

impl<A: Action> Walk<'_, A> {
    /// # Errors
    /// As [`Gate::permit`].
    pub fn permit(&self, on: A::On) -> Result<Granted<A>> {
        self.permit_as::<A>(on)
    }

    /// The same for another verb on the way, e.g. `stat` on each entry of the directories read.
    ///
    /// # Errors
    /// As [`Gate::permit`].
    pub fn permit_as<B: Action>(&self, on: B::On) -> Result<Granted<B>> {
        let answer = self.gate.decide::<B>(&self.site, &on, &[], None);
        if let Ok(mut state) = self.state.lock() {
            let text = values::written(&format!("{}::Action", B::NAMESPACE), B::NAME);
            let at = state.counts.iter().position(|(known, ..)| *known == text).unwrap_or_else(|| {
                state.counts.push((text, 0, 0));
                state.counts.len() - 1
            });
            let denied = answer.as_ref().is_err_and(|error| error.kind == Kind::Denied);
            if let Some((_, allowed, denials)) = state.counts.get_mut(at) {
                if denied { *denials += 1 } else { *allowed += 1 }
            }
            if let Ok(rules) = &answer {
                state.policies.extend(rules);
            }
        }
        answer?;
        Ok(Granted { resource: on, verb: PhantomData })
    }

    /// Records what the walk did.
    ///
    /// # Errors
    /// [`Kind::Audit`] when that is not possible.
    pub fn finish(mut self) -> Result<()> {
        self.summarize()
    }

    fn summarize(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        let Ok(state) = self.state.lock() else { return Err(Error::new(Kind::Internal, "a walk was broken off")) };
        let mut rules: Vec<u32> = state.policies.iter().copied().collect();
        rules.sort_unstable();
        let record = WalkRecord {
            principal: &self.gate.principal_text,
            action: &values::written(&format!("{}::Action", A::NAMESPACE), A::NAME),
            root: (self.root.0, &self.root.1),
            counts: &state.counts,
            policies: self.gate.names(&rules),
            function: self.site.function,
            line: self.site.line,
            column: self.site.column,
        };
        self.gate.recorder.walk(&record).map_err(unrecorded)
    }
}

impl<A: Action> Drop for Walk<'_, A> {
    fn drop(&mut self) {
        // A walk that ends early is recorded too; that its record fails stops the next decision, whose record will fail as well.
        let _ = self.summarize();
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
