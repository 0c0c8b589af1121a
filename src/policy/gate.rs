//! The gate: the only place where a permission comes into being. It asks the policies, writes the record, and hands out [`Granted`].

mod dry;
mod explain;
mod foresee;
mod judge;
mod learning;
mod named;
mod record;
mod trial;
mod replay;
mod successor;
mod tell;
mod walk;

pub use dry::{Withheld, stopped};
pub use explain::{Considered, Described, Explanation, Fate};
pub use foresee::{Foreseen, Prospect};
pub use learning::Learning;
pub(crate) use record::Silent;
pub use record::{DecisionRecord, Effect, EffectRecord, Recorder, WalkRecord};
pub(super) use replay::Recorded;
pub use replay::Replayed;
pub(super) use trial::Trial;
pub use walk::{Walk, Weighed};

use super::load::{Policies, Scope};
use super::schema;
use super::slice::{Line, Thing};
use super::values;
use super::words::{Access, Action, Ask, Noun, Resource, Site, Value, ask};
use crate::error::{Denial, Error, Kind, Result, Why};
use crate::limits::Watch;
use cedar_policy_core::ast::{Context, Entity, EntityUIDEntry};
use judge::{Full, context, refused};
use named::{FOLDER, Named, folder_of};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tell::Asked;

/// Decisions that a run remembers; then it forgets them all and begins anew.
const REMEMBERED: usize = 16_384;
/// Denials that a run keeps for its result; further ones are counted and recorded, but not kept.
const KEPT: usize = 1000;

/// A permission for `A` on one resource. Whoever holds it may do the deed; only [`Gate`] makes one.
#[must_use = "a permission that nothing is done with was asked for in vain"]
pub struct Granted<A: Action> {
    resource: A::On,
    verb: PhantomData<fn() -> A>,
    held: bool,
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

impl<A: Action> std::fmt::Debug for Granted<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Granted<{}::{}>({:?})", A::NAMESPACE, A::NAME, Resource::id(&self.resource))
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
pub type Closed = Arc<dyn Fn(&Ask, &str, &str) -> Option<&'static str> + Send + Sync>;

/// What the configuration says about decisions.
pub struct Rules {
    pub open: Open,
    pub closed: Closed,
    /// What changes something is judged, and not done.
    pub dry_run: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { open: Open::Implied, closed: Arc::new(|_, _, _| None), dry_run: false }
    }
}

/// An answer that does nothing and is not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No(Why),
    /// It depends on what is only known when it is done: attributes of the thing, the verb's circumstances. Names what.
    Depends(Vec<String>),
}

struct Remembered {
    /// Namespace, name, and whether it needs `open` too.
    verb: (&'static str, &'static str, bool),
    kind: &'static str,
    id: String,
    /// What was denied may be `open` on the folder instead.
    verdict: Arc<Full>,
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
    recorder: Arc<dyn Recorder>,
    watch: Arc<Watch>,
    rules: Rules,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Of a learning run of the host's owner.
    learning: Option<Learning>,
    memory: Mutex<HashMap<u64, Remembered>>,
    hasher: RandomState,
    counted: Arc<Counted>,
    withheld: Arc<dry::Kept>,
    /// Of policies that changed since the run began.
    successor: successor::Successor,
    has_successor: AtomicBool,
}

/// What became of the questions of a run so far.
#[derive(Debug, Default)]
struct Counted {
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
        // What no condition can look at is left out: Cedar makes addresses and times with functions that it has to build first.
        let slice = &policies.slice;
        attributes.retain(|(name, _)| slice.mentions_of_session(name));
        for (name, value) in principal.attributes.iter().filter(|(name, _)| slice.mentions(name)) {
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
            recorder: recorder.into(),
            watch,
            rules,
            clock: Arc::new(now),
            learning: None,
            memory: Mutex::default(),
            hasher: RandomState::new(),
            counted: Arc::default(),
            withheld: Arc::default(),
            successor: successor::Successor::default(),
            has_successor: AtomicBool::new(false),
        })
    }

    /// The same with another clock than the host's, for tests of policies.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
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
        self.decide::<A>(site, &on, &context, true)?;
        Ok(self.granted(on))
    }

    /// The permission for what was allowed and recorded.
    fn granted<A: Action>(&self, on: A::On) -> Granted<A> {
        Granted { resource: on, verb: PhantomData, held: self.rules.dry_run && A::ACCESS == Access::Change }
    }

    /// Begins a walk: asks for the root, and then for each thing on the way with [`Walk::permit`]. The root and every denial are recorded one
    /// by one, the rest as counts at the end.
    ///
    /// # Errors
    /// As [`Gate::permit`], for the root.
    pub fn walk<'g, A: Action>(&'g self, site: &Site<'g>, root: &A::On) -> Result<Walk<'g, A>> {
        self.decide::<A>(site, root, &[], true)?;
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
        self.would_with::<A>(on, &[])
    }

    /// The same, for a verb whose question has circumstances.
    pub fn would_with<A: Action>(&self, on: &A::On, context: &[(&'static str, Value)]) -> Answer {
        let full = self.judge(&const { ask::<A>() }, A::NEEDS_OPEN, on, context);
        match (full.verdict.why, self.successor()) {
            (Some(why), _) => Answer::No(why),
            (None, Some(next)) => next.would_with::<A>(on, context),
            (None, None) => Answer::Yes,
        }
    }

    /// What the answer would be for a thing that is only named: entity type and id. Paths are taken as they are written, links are not followed.
    /// Nothing is recorded.
    #[must_use]
    pub fn would_ask(&self, ask: &Ask, needs_open: bool, noun: &'static Noun, id: &str) -> Answer {
        let named = Named { noun, id };
        if (self.rules.closed)(ask, noun.name, id).is_some() {
            return Answer::No(Why::Forbidden);
        }
        let only_forbids = needs_open && self.rules.open == Open::Implied;
        let mut answers = vec![self.guess(ask.namespace, ask.name, false, &named, false)];
        if needs_open {
            answers.push(self.guess("file_system", "open", only_forbids, &named, false));
            if let Some((_, id)) = folder_of(&named) {
                answers.push(self.guess("file_system", "open", only_forbids, &Named { noun: &FOLDER, id: &id }, true));
            }
        }
        let mut unknown = Vec::new();
        for answer in answers {
            match answer {
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
        self.counted.denials.lock().map(|denials| denials.clone()).unwrap_or_default()
    }

    /// How many questions were allowed, and how many denied.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.counted.allowed.load(Ordering::Relaxed), self.counted.denied.load(Ordering::Relaxed))
    }

    /// The one way to an answer: the rules that allowed. `record_allowed`: whether an allowed question gets a record of its own.
    fn decide<A: Action>(&self, site: &Site<'_>, on: &A::On, context: &[(&'static str, Value)], record_allowed: bool) -> Result<Vec<u32>> {
        self.watch.check()?;
        let ask = &const { ask::<A>() };
        let (full, remembered) = if let Some(fault) = undeclared(site, ask) {
            (Arc::new(fault), false)
        } else if let Err(error) = conforms("question", context, ask.context, &[]) {
            (Arc::new(Full { verdict: refused(Why::PolicyError, error.message), instead: None }), false)
        } else {
            self.recall(ask, A::NEEDS_OPEN, on, context)
        };
        self.conclude::<A>(site, on, context, &full, How { remembered, record_allowed }).map(|()| full.verdict.deciders.clone())
    }

    /// What follows from an answer: its record, and the error if it is a denial or something stands in the way.
    fn conclude<A: Action>(&self, site: &Site<'_>, on: &A::On, context: &[(&'static str, Value)], full: &Full, how: How) -> Result<()> {
        let ask = &const { ask::<A>() };
        let How { remembered, record_allowed } = how;
        if full.verdict.why.is_none()
            && let Some(next) = self.successor()
        {
            let narrower = next.recall(ask, A::NEEDS_OPEN, on, context).0;
            if narrower.verdict.why.is_some() {
                return next.conclude::<A>(site, on, context, &narrower, How { remembered: false, record_allowed });
            }
        }
        let obstacle = if A::MAY_BE_ABSENT { on.obstacle().filter(|error| error.kind != Kind::NotFound) } else { on.obstacle() };
        let denied = full.verdict.why.is_some();
        if denied || record_allowed || obstacle.is_some() || self.learned(full) {
            let shown = on.shown();
            // An attribute that cannot be had is not on record.
            let attributes: Vec<(&'static str, Value)> =
                A::On::RECORDED.iter().filter_map(|name| Some((*name, Resource::attribute(on, name).ok()??))).collect();
            let question = Question {
                site,
                ask,
                thing: on,
                context,
                needs_open: A::NEEDS_OPEN,
                kind: Resource::noun(on).name,
                id: Resource::id(on),
                shown_as: on.shown_as(),
                shown: &shown,
                attributes: &attributes,
                remembered,
            };
            if denied {
                return Err(self.deny(&question, full, record_allowed));
            }
            self.record(&question, full, None, obstacle.as_ref())?;
        }
        self.counted.allowed.fetch_add(1, Ordering::Relaxed);
        obstacle.map_or(Ok(()), Err)
    }

    fn record(&self, question: &Question<'_>, full: &Full, reference: Option<&str>, obstacle: Option<&Error>) -> Result<()> {
        let own;
        let (action, resource) = match &full.instead {
            Some((action, Some((kind, id)))) => (action.as_str(), (kind.as_str(), id.as_str())),
            Some((action, None)) => (action.as_str(), (question.kind, question.id)),
            None => match self.policies.slice.verb(question.ask.namespace, question.ask.name) {
                Some(verb) => (verb.text(), (question.kind, question.id)),
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
            context: if full.instead.is_none() { question.context } else { &[] },
            attributes: question.attributes,
            reference,
            note: full.verdict.note.as_deref(),
            obstacle,
            dry_run: self.rules.dry_run && question.ask.access == Access::Change,
        };
        self.recorder.decision(&record).map_err(unrecorded)?;
        if let Some(learning) = self.learning.as_ref().filter(|_| full.verdict.why.is_some() || self.learned(full)) {
            learning.note(&record);
        }
        Ok(())
    }

    fn names(&self, rules: &[u32]) -> Vec<&str> {
        rules.iter().filter_map(|index| self.policies.slice.rule(*index)).map(|rule| rule.name.as_str()).collect()
    }

    /// Records a denial and makes it an error.
    ///
    /// `asked`: it was asked for itself. Too many of these end the run: somebody is trying what is there.
    fn deny(&self, question: &Question<'_>, full: &Full, asked: bool) -> Error {
        let number = self.counted.denied.fetch_add(1, Ordering::Relaxed) + 1;
        let reference = format!("d-{}-{number}", short(&self.run));
        if let Err(error) = self.record(question, full, Some(&reference), None) {
            return error;
        }
        if asked && let Err(error) = self.watch.count_denial() {
            return error;
        }
        let shown;
        let full = if self.policies.slice.some_hidden {
            shown = self.as_shown(&question.asked(), question.needs_open);
            &shown
        } else {
            full
        };
        let told = self.told(&full.verdict);
        // That `open` was the matter, and perhaps of the folder, is about another question.
        let nearest = if full.instead.is_none() { self.nearest(&question.asked(), &told) } else { None };
        let own = || values::written(&format!("{}::Action", question.ask.namespace), question.ask.name);
        let denial = Denial {
            why: told.why,
            // A caller is told of the verb it asked for, on what it named: that `open` on a folder was the matter may tell what the name leads to.
            action: full.instead.as_ref().map_or_else(own, |(action, _)| action.clone()),
            resource: values::written(question.shown_as, question.shown),
            principal: self.principal_text.clone(),
            hint: told.hint(),
            policy: told.forbid(),
            nearest,
            retry: told.retry,
            reference,
        };
        self.recorder.told(&denial, question.site);
        if let Ok(mut denials) = self.counted.denials.lock()
            && denials.len() < KEPT
        {
            denials.push(denial.clone());
        }
        Error::denied(denial)
    }

    /// The answer from memory, or a new one.
    fn recall(&self, ask: &Ask, needs_open: bool, thing: &dyn Thing, context: &[(&'static str, Value)]) -> (Arc<Full>, bool) {
        let (kind, id) = (thing.noun().name, thing.id());
        let verb = (ask.namespace, ask.name, needs_open);
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
}

/// The refusal of what a function did not declare that it asks for.
fn undeclared(site: &Site<'_>, ask: &Ask) -> Option<Full> {
    let declared = site.asks.iter().any(|declared| declared.namespace == ask.namespace && declared.name == ask.name);
    let note = || format!("`{}` did not declare that it asks for this", site.function);
    (!declared).then(|| Full { verdict: refused(Why::NotPermitted, note()), instead: None })
}

/// How an answer came about, and what becomes of it.
#[derive(Clone, Copy)]
struct How {
    remembered: bool,
    /// Whether an allowed question gets a record of its own.
    record_allowed: bool,
}

/// A question as it is recorded.
struct Question<'a> {
    site: &'a Site<'a>,
    ask: &'a Ask,
    thing: &'a dyn Thing,
    context: &'a [(&'static str, Value)],
    needs_open: bool,
    kind: &'static str,
    id: &'a str,
    shown_as: &'static str,
    shown: &'a str,
    attributes: &'a [(&'static str, Value)],
    remembered: bool,
}

impl Question<'_> {
    fn asked(&self) -> Asked<'_> {
        Asked { ask: self.ask, thing: self.thing, context: self.context, shown_as: self.shown_as, shown: self.shown }
    }
}

fn unrecorded(error: Error) -> Error {
    if error.kind == Kind::Audit {
        error
    } else {
        Error::new(Kind::Audit, format!("the decision could not be recorded: {}", error.message))
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

#[cfg(test)]
mod tests;
