//! From policy text to the rules that concern one caller: bounds, digest, cache; or else parsing and strict validation, where one fault stops all.

use super::cache::{self, Findings, Row, Spot, Store};
use super::pointed::{Fault, position};
use super::slice::{self, Line, Place, Reach, Reveal, Rule, Slice, Uid};
use super::wording::{self, Names};
use super::{bounds, values};
use crate::error::{Error, Kind, Result};
use cedar_policy_core::ast::{Policy, PolicyID, PolicySet};
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::parser::parse_policyset;
use cedar_policy_core::validator::{ValidationMode, ValidationWarning, Validator, ValidatorSchema};
use miette::Diagnostic;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Faults that one message shows at most.
const SHOWN: usize = 20;
/// Cedar's parser and validator recurse. Bounded text needs far less than this, also without optimization.
const STACK: usize = 64 << 20;
/// Policies that one thread validates in one go.
const CHUNK: usize = 128;

/// Annotations that mean something here.
pub(super) const ANNOTATIONS: &[&str] = &["id", "hint", "reveal", "test", "allow", "description", "doc"];

/// One file of policies.
#[derive(Clone, Debug)]
pub struct Source {
    /// How messages name it.
    pub name: String,
    pub text: String,
}

/// Whose policies matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The id of the `User`.
    pub name: String,
    /// The ids of the `Group`s.
    pub groups: Vec<String>,
}

/// The policies of a host, valid as a whole, and those of them that concern one caller, ready to be asked.
#[derive(Debug)]
pub struct Policies {
    /// SHA-256 over the texts, in the order of the files' names, in hex. Other names for the same files in the same order change nothing.
    pub digest: String,
    /// Policies in all.
    pub total: usize,
    /// Whether the cache was used, so that nothing had to be validated.
    pub cached: bool,
    pub(super) scope: Scope,
    pub(super) slice: Slice,
}

impl Scope {
    /// Whether the caller is, or is in, this entity.
    pub(super) fn is_within(&self, kind: &str, id: &str) -> bool {
        match kind {
            "User" => id == self.name,
            "Group" => self.groups.iter().any(|group| group == id),
            _ => false,
        }
    }
}

impl Policies {
    /// Loads policies that validate strictly against `schema` (see [`super::schema::render`]).
    ///
    /// # Errors
    /// [`Kind::Config`]: the first line of the message says how many faults there are; then each with `file:line:column`, the line and a caret,
    /// at most 20. Too large (4 MiB a file, 16 MiB in all), nested too deep, not Cedar, a template, an id given twice, anything that strict
    /// validation refuses; no policy at all.
    pub fn load(sources: &[Source], schema: &str, scope: &Scope, cache: Option<&dyn Store>) -> Result<Self> {
        Self::load_with(sources, &sha256(&[schema.as_bytes()]), &|| schema.to_owned(), scope, cache)
    }

    /// The same with a schema that is written out only when the cache has nothing. `identity` stands for its text: two texts that differ must
    /// never have the same one.
    ///
    /// # Errors
    /// As [`Policies::load`].
    pub fn load_with(
        sources: &[Source],
        identity: &[u8; 32],
        schema: &dyn Fn() -> String,
        scope: &Scope,
        cache: Option<&dyn Store>,
    ) -> Result<Self> {
        let mut sources: Vec<&Source> = sources.iter().collect();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        check_sizes(&sources)?;
        let digest = digest_of(&sources);
        let key = cache::Key { schema: identity, policies: &digest };
        let hex = hex(&digest);
        let known = cache.and_then(|cache| cache.get(&cache::key_name(&hex)));
        if let Some(found) = known.and_then(|bytes| cache::decode(&bytes, key, scope)) {
            let places = Places::of(&sources);
            let rules = found.rules.into_iter().map(|(spot, rule)| places.put(rule, spot)).collect();
            return Ok(Self { digest: hex, total: found.total, cached: true, scope: scope.clone(), slice: Slice::new(rules, found.verbs) });
        }
        let (schema, keep) = (schema(), cache.is_some());
        let (findings, encoded) = on_big_stack(|| {
            let findings = examine(&sources, &schema)?;
            let encoded = keep.then(|| cache::encode(&findings, key)).flatten();
            Ok::<_, Error>((findings, encoded))
        })??;
        if let (Some(cache), Some(encoded)) = (cache, encoded) {
            cache.put(&cache::key_name(&hex), &encoded);
        }
        let Findings { verbs, entries } = findings;
        let total = entries.len();
        let mine = entries.into_iter().filter(|row| concerns(&row.principal, scope));
        let places = Places::of(&sources);
        let rules = mine.map(|row| places.put(row.rule, row.spot)).collect();
        Ok(Self { digest: hex, total, cached: false, scope: scope.clone(), slice: Slice::new(rules, verbs) })
    }

    /// The digest that these sources would have, see [`Policies::digest`]: whether they changed.
    #[must_use]
    pub fn digest_of(sources: &[Source]) -> String {
        let mut sources: Vec<&Source> = sources.iter().collect();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        hex(&digest_of(&sources))
    }

    /// Names of the policies that concern the caller: `@id`, or `file:line`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.slice.rules.iter().map(|rule| rule.name.as_str())
    }

    /// What the caller may do, by verb, in alphabetical order.
    #[must_use]
    pub fn summary(&self) -> Vec<Line> {
        self.slice.summary()
    }

    /// What permits for a verb reach, e.g. `("file_system", "write")`; conditions and forbids are not looked at, so it is an outer hull.
    #[must_use]
    pub fn reaches(&self, namespace: &str, name: &str) -> Vec<Reach> {
        let rules = self.slice.verb(namespace, name).map_or(&[][..], |verb| verb.rules.as_slice());
        let mut reaches: Vec<Reach> = Vec::new();
        for rule in rules.iter().filter_map(|index| self.slice.rule(*index)).filter(|rule| rule.permit) {
            if !reaches.contains(&rule.reach) {
                reaches.push(rule.reach.clone());
            }
        }
        reaches
    }

    /// The verbs of the schema: namespace and name.
    pub fn verbs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.slice.verbs()
    }
}

/// A set of policies as a whole, whomever they concern: what the owner's tools look at.
#[derive(Debug)]
pub struct Whole {
    /// See [`Policies::digest`].
    pub digest: String,
    pub(super) rules: Vec<Placement>,
    /// Verbs with their namespace and the groups that they are in.
    pub(super) verbs: Vec<slice::VerbRow>,
}

/// A rule, whom it concerns and where it stands.
#[derive(Debug)]
pub(super) struct Placement {
    pub rule: Rule,
    pub principal: Reach,
    /// `file:line`.
    pub place: String,
}

impl Whole {
    /// # Errors
    /// As [`Policies::load`].
    pub fn load(sources: &[Source], schema: &str) -> Result<Self> {
        let mut sources: Vec<&Source> = sources.iter().collect();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        check_sizes(&sources)?;
        let digest = hex(&digest_of(&sources));
        let findings = on_big_stack(|| examine(&sources, schema))??;
        let places = Places::of(&sources);
        let placed = |row: Row| {
            let rule = places.put(row.rule, row.spot);
            Placement { place: format!("{}:{}", rule.place.source, rule.place.line), principal: row.principal, rule }
        };
        let rules = findings.entries.into_iter().map(placed).collect();
        Ok(Self { digest, rules, verbs: findings.verbs })
    }

    /// The names of all policies, see [`Policies::names`].
    #[must_use]
    pub fn names(&self) -> std::collections::BTreeSet<String> {
        self.rules.iter().map(|placed| placed.rule.name.clone()).collect()
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

fn digest_of(sources: &[&Source]) -> [u8; 32] {
    // Lengths keep the borders between files apart.
    let lengths: Vec<[u8; 8]> = sources.iter().map(|source| (source.text.len() as u64).to_le_bytes()).collect();
    let parts: Vec<&[u8]> = lengths.iter().zip(sources).flat_map(|(length, source)| [length.as_slice(), source.text.as_bytes()]).collect();
    sha256(&parts)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn check_sizes(sources: &[&Source]) -> Result<()> {
    if sources.iter().map(|source| source.text.len()).sum::<usize>() > bounds::TOTAL {
        return Err(Error::new(Kind::Config, format!("the policies are larger than {} MiB in all", bounds::TOTAL >> 20)));
    }
    Ok(())
}

/// One error for many faults.
fn faults(wrong: &[Fault], sources: &[&Source]) -> Error {
    let count = wrong.len();
    let mut all: Vec<String> = wrong.iter().take(SHOWN).map(|fault| fault.pointed(sources)).collect();
    if count > SHOWN {
        all.push(format!("… and {} more", count - SHOWN));
    }
    let head =
        if count == 1 { "the policies are invalid: 1 fault".to_owned() } else { format!("the policies are invalid: {count} faults") };
    Error::new(Kind::Config, format!("{head}\n{}", all.join("\n")))
}

/// Runs it on a thread whose stack is large enough for Cedar's recursion, whatever the caller's is.
pub(super) fn on_big_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("policies".to_owned()).stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::new(Kind::Internal, format!("no thread to load policies on: {error}")))?;
        thread.join().map_err(|_| Error::new(Kind::Internal, "the policies could not be loaded"))
    })
}

fn concerns(principal: &Reach, scope: &Scope) -> bool {
    match principal {
        Reach::Anything => true,
        Reach::Kind(kind) => kind == "User",
        Reach::Exactly(kind, id) => kind == "User" && *id == scope.name,
        Reach::Within(kind, id) => scope.is_within(kind, id),
        Reach::KindWithin(what, kind, id) => what == "User" && scope.is_within(kind, id),
    }
}

/// The sources, for the places of policies in them: one copy of each name serves all policies of its source.
struct Places<'a>(Vec<(Arc<str>, &'a Source)>);

impl<'a> Places<'a> {
    fn of(sources: &[&'a Source]) -> Self {
        Self(sources.iter().map(|source| (Arc::from(source.name.as_str()), *source)).collect())
    }
    /// The rule with what only its source tells: where it stands, its name if it has no `@id`, and its text if its author reveals it.
    fn put(&self, mut rule: Rule, spot: Spot) -> Rule {
        let Some((name, source)) = self.0.get(spot.source as usize) else { return rule };
        if rule.name.is_empty() {
            rule.name = name_by_place(source, spot);
        }
        let before = source.text.get(..spot.start as usize).unwrap_or("");
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let told = rule.reveal == Reveal::Rule && rule.condition.is_some();
        let text = if told { source.text.get(spot.start as usize..spot.end as usize).map(Arc::from) } else { None };
        rule.place = Place { source: Arc::clone(name), line: spot.line, column: u32::try_from(column).unwrap_or(u32::MAX), text };
        rule
    }
}

pub(super) fn annotation(policy: &Policy, key: &str) -> Option<String> {
    policy.annotations().find(|(name, _)| AsRef::<str>::as_ref(*name) == key).map(|(_, value)| value.val.to_string())
}

/// Where a policy stands, and whom it concerns.
pub(super) struct Entry {
    /// Number of the source, in the order of their names.
    pub source: u32,
    pub start: u32,
    pub end: u32,
    pub line: u32,
    /// 0 for the first policy of its line.
    pub column: u32,
    /// The principal part of its scope.
    pub principal: Reach,
}

impl Entry {
    fn spot(&self) -> Spot {
        Spot { source: self.source, start: self.start, end: self.end, line: self.line, column: self.column }
    }
}

/// A policy with its place.
pub(super) struct Placed {
    pub entry: Entry,
    pub name: String,
    pub policy: Policy,
}

/// Policies that were validated once, for many callers.
pub(super) struct Book<'a> {
    sources: Vec<&'a Source>,
    digest: String,
    findings: Findings,
}

impl<'a> Book<'a> {
    /// # Errors
    /// As [`Policies::load`].
    pub(super) fn open(sources: &[&'a Source], schema: &str) -> Result<Self> {
        let mut sources = sources.to_vec();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        check_sizes(&sources)?;
        let findings = on_big_stack(|| examine(&sources, schema))??;
        Ok(Self { digest: hex(&digest_of(&sources)), sources, findings })
    }

    /// The groups that rules are about.
    pub(super) fn groups(&self) -> std::collections::BTreeSet<String> {
        let group = |row: &Row| match &row.principal {
            Reach::Within(kind, id) | Reach::KindWithin(_, kind, id) if kind == "Group" => Some(id.clone()),
            _ => None,
        };
        self.findings.entries.iter().filter_map(group).collect()
    }

    /// What [`Policies::load`] gives for one caller.
    pub(super) fn policies(&self, scope: &Scope) -> Policies {
        let places = Places::of(&self.sources);
        let mine = self.findings.entries.iter().filter(|row| concerns(&row.principal, scope));
        let rules = mine.map(|row| places.put(row.rule.clone(), row.spot)).collect();
        Policies {
            digest: self.digest.clone(),
            total: self.findings.entries.len(),
            cached: false,
            scope: scope.clone(),
            slice: Slice::new(rules, self.findings.verbs.clone()),
        }
    }
}

/// A rule as it is written, whomever it concerns.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// `@id`, or `file:line`.
    pub name: String,
    pub permit: bool,
    pub file: String,
    pub line: u32,
    /// What `@test` says, and at which byte.
    pub tests: Option<(usize, String)>,
}

/// Every rule of these sources, in the order of their names and texts.
///
/// # Errors
/// [`Kind::Config`] when one is too much or no Cedar; what strict validation refuses is not looked for here.
pub(super) fn written(sources: &[Source]) -> Result<Vec<Written>> {
    let mut sources: Vec<&Source> = sources.iter().collect();
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    check_sizes(&sources)?;
    let placed = on_big_stack(|| {
        let (mut placed, mut wrong) = (Vec::new(), Vec::new());
        for (index, source) in (0_u32..).zip(&sources) {
            parse(index, source, &mut placed, &mut wrong);
        }
        if wrong.is_empty() { Ok(placed) } else { Err(faults(&wrong, &sources)) }
    })??;
    let rules = placed.into_iter().map(|item| {
        let file = sources.get(item.entry.source as usize).map_or_else(String::new, |source| source.name.clone());
        let tests = annotation(&item.policy, "test").map(|text| (place_of_annotation(&item, "test"), text));
        Written {
            permit: item.policy.effect() == cedar_policy_core::ast::Effect::Permit,
            name: item.name,
            file,
            line: item.entry.line,
            tests,
        }
    });
    Ok(rules.collect())
}

/// What parsing and strict validation found.
#[derive(Default)]
pub(super) struct Examined {
    /// The policies of every file that parses.
    pub placed: Vec<Placed>,
    /// What makes them invalid, in the order of the text.
    pub wrong: Vec<Fault>,
    /// What the validator only warns of.
    pub odd: Vec<Fault>,
    pub verbs: Vec<slice::VerbRow>,
}

/// Parses and validates everything; one fault stops all.
fn examine(sources: &[&Source], schema: &str) -> Result<Findings> {
    let Examined { placed, wrong, verbs, .. } = look_through(sources, schema)?;
    if !wrong.is_empty() {
        return Err(faults(&wrong, sources));
    }
    if placed.is_empty() {
        return Err(Error::new(Kind::Config, "no policy at all: nothing would be allowed to anybody"));
    }
    let row = |placed: Placed| {
        // The name is that of the place unless it is the policy's own.
        let rule = Rule::new(&placed.policy, annotation(&placed.policy, "id").unwrap_or_default(), Place::default())?;
        Some(Row { spot: placed.entry.spot(), principal: placed.entry.principal, rule })
    };
    let entries = placed.into_iter().map(row).collect::<Option<Vec<_>>>();
    let entries = entries.ok_or_else(|| Error::new(Kind::Internal, "a policy has a slot but is no template"))?;
    Ok(Findings { verbs, entries })
}

/// Parses and validates everything. A fault in one file does not keep those of the others from being found.
pub(super) fn look_through(sources: &[&Source], schema: &str) -> Result<Examined> {
    let Examined { mut placed, mut wrong, mut odd, .. } = Examined::default();
    for (index, source) in (0_u32..).zip(sources) {
        parse(index, source, &mut placed, &mut wrong);
    }
    look_at_annotations(&placed, sources, &mut wrong);
    look_at_conditions(&placed, &mut wrong);
    let schema = ValidatorSchema::from_cedarschema_str(schema, Extensions::all_available())
        .map_err(|error| Error::new(Kind::Internal, format!("the schema of the policy language is invalid: {error}")))?
        .0;
    let verbs = verbs_of(&schema)?;
    validate(&placed, sources, schema, &mut wrong, &mut odd)?;
    wrong.sort_by_key(|fault| (fault.source, fault.offset));
    Ok(Examined { placed, wrong, odd, verbs })
}

/// Parses one file, if it is not too much for the parser.
fn parse(index: u32, source: &Source, placed: &mut Vec<Placed>, wrong: &mut Vec<Fault>) {
    if let Err(much) = bounds::check(&source.text) {
        wrong.push(Fault::new("too-large", index, much.offset, much.message));
        return;
    }
    match parse_policyset(&wording::without_mark(&source.text)) {
        Ok(set) => place(index, source, set, placed, wrong),
        Err(errors) => wrong.extend(errors.iter().map(|error| syntax_fault(index, source, error))),
    }
}

/// Policies of one file in the order of the text; templates are faults.
fn place(index: u32, source: &Source, set: PolicySet, placed: &mut Vec<Placed>, wrong: &mut Vec<Fault>) {
    for template in set.templates() {
        let offset = template.slots().find_map(|slot| slot.loc.as_ref().map(cedar_policy_core::parser::Loc::start)).unwrap_or(0);
        wrong.push(Fault::new("template", index, offset, "templates (`?principal`, `?resource`) are not supported"));
    }
    let mut lines = Lines::of(&source.text);
    let mut policies: Vec<(usize, usize, Policy)> = set
        .into_policies()
        .filter(Policy::is_static)
        .map(|policy| (policy.loc().map_or(0, |loc| loc.start()), policy.loc().map_or(0, |loc| loc.end()), policy))
        .collect();
    policies.sort_by_key(|(start, ..)| *start);
    for (start, end, policy) in policies {
        let Some(principal) = slice::reach(policy.principal_constraint().as_inner()) else { continue };
        let line = lines.at(start);
        // Bounded to 4 MiB above.
        let number = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
        let not_first = placed.last().is_some_and(|last| last.entry.source == index && last.entry.line == line);
        let column = if not_first { number(position(&source.text, start).1) } else { 0 };
        let entry = Entry { source: index, start: number(start), end: number(end), line, column, principal };
        let name = annotation(&policy, "id").unwrap_or_else(|| name_by_place(source, entry.spot()));
        let policy = policy.new_id(PolicyID::from_string(&name));
        placed.push(Placed { entry, name, policy });
    }
}

/// `file:line`, with the column for the second policy of a line and those after it.
fn name_by_place(source: &Source, spot: Spot) -> String {
    match spot.column {
        0 => format!("{}:{}", source.name, spot.line),
        column => format!("{}:{}:{column}", source.name, spot.line),
    }
}

/// Line numbers of offsets that only grow.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        Self { text: text.as_bytes(), at: 0, line: 1 }
    }
    fn at(&mut self, offset: usize) -> u32 {
        let passed = self.text.get(self.at..offset).unwrap_or(&[]);
        self.line = self.line.saturating_add(u32::try_from(passed.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u32::MAX));
        self.at = self.at.max(offset);
        self.line
    }
}

fn syntax_fault(index: u32, source: &Source, error: &dyn Diagnostic) -> Fault {
    let fault = fault_of("syntax", index, source, error);
    match wording::syntax(&source.text, fault.offset, &fault.message) {
        Some((offset, message)) => Fault::new("syntax", index, offset, message),
        None => fault,
    }
}

fn fault_of(lint: &'static str, index: u32, source: &Source, error: &dyn Diagnostic) -> Fault {
    let (offset, length) = error.labels().and_then(|mut labels| labels.next()).map_or((0, 0), |label| (label.offset(), label.len()));
    let label = error.labels().and_then(|mut labels| labels.find_map(|label| label.label().map(str::to_owned)));
    let more: Vec<String> = label.into_iter().chain(error.help().map(|help| help.to_string())).collect();
    let mut message = error.to_string();
    // The place says which policy it is, unless that has a name of its own.
    if let Some((name, rest)) = message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, "))
        && name.starts_with(&format!("{}:", source.name))
    {
        message = rest.to_owned();
    }
    for more in more {
        message.push_str("; ");
        message.push_str(&more);
    }
    Fault { end: offset + length, ..Fault::new(lint, index, offset, message) }
}

/// Where the value of an annotation stands, else where the policy begins.
pub(super) fn place_of_annotation(item: &Placed, key: &str) -> usize {
    let found = item.policy.annotations().find(|(name, _)| AsRef::<str>::as_ref(*name) == key);
    found.and_then(|(_, value)| value.loc.as_ref().map(cedar_policy_core::parser::Loc::start)).unwrap_or(item.entry.start as usize)
}

fn look_at_annotations(placed: &[Placed], sources: &[&Source], wrong: &mut Vec<Fault>) {
    let mut seen: HashMap<&str, &Placed> = HashMap::new();
    for item in placed {
        let mut at = |lint: &'static str, key: &str, message: &str| {
            wrong.push(Fault::new(lint, item.entry.source, place_of_annotation(item, key), message));
        };
        for (name, value) in item.policy.annotations() {
            let value = value.val.as_str();
            match AsRef::<str>::as_ref(name) {
                "id" if value.is_empty() || value.chars().any(char::is_control) => {
                    at("bad-id", "id", "an id is one line of text, and not empty");
                }
                "reveal" if !["none", "hint", "rule"].contains(&value) => {
                    at("bad-reveal", "reveal", "`@reveal` is \"none\", \"hint\" or \"rule\"");
                }
                _ => {}
            }
        }
        if let Some(other) = seen.insert(&item.name, item) {
            let place = sources.get(other.entry.source as usize).map_or("", |source| source.name.as_str());
            at("duplicate-id", "id", &format!("the id `{}` is taken already, at {place}:{}", item.name, other.entry.line));
        }
    }
}

fn look_at_conditions(placed: &[Placed], wrong: &mut Vec<Fault>) {
    for item in placed {
        if let Some(offset) = item.policy.non_scope_constraints().and_then(slice::misplaced_in) {
            let message = "`in` tells where `principal`, `action` or `resource` belongs, nothing else";
            wrong.push(Fault::new("misplaced-in", item.entry.source, offset, message));
        }
    }
}

/// Verbs and their groups, sorted.
fn verbs_of(schema: &ValidatorSchema) -> Result<Vec<(String, String, Vec<Uid>)>> {
    let entities =
        schema.action_entities().map_err(|error| Error::new(Kind::Internal, format!("the actions of the schema are invalid: {error}")))?;
    let mut verbs: Vec<_> = entities
        .iter()
        .map(|entity| {
            let uid = Uid::of(entity.uid());
            let namespace = uid.kind.strip_suffix("::Action").unwrap_or("").to_owned();
            let mut groups: Vec<Uid> = entity.ancestors().map(Uid::of).collect();
            groups.sort();
            (namespace, uid.id, groups)
        })
        // Groups apply to nothing themselves.
        .filter(|(namespace, name, _)| {
            let uid = values::uid(&format!("{namespace}::Action"), name);
            uid.and_then(|uid| schema.resources_for_action(&uid).map(|mut kinds| kinds.next().is_some())).unwrap_or(false)
        })
        .collect();
    verbs.sort();
    Ok(verbs)
}

/// Strict validation, on all processors.
fn validate(placed: &[Placed], sources: &[&Source], schema: ValidatorSchema, wrong: &mut Vec<Fault>, odd: &mut Vec<Fault>) -> Result<()> {
    let names = Names::of(&schema);
    let validator = Validator::new(schema);
    let chunks: Vec<&[Placed]> = placed.chunk_by(|a, b| a.entry.source == b.entry.source).flat_map(|file| file.chunks(CHUNK)).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(chunks.len()).min(8);
    let next = AtomicUsize::new(0);
    // (chunk, whether an error, fault): sorted below, so that the order is always the same.
    let found: Mutex<Vec<(usize, bool, Fault)>> = Mutex::default();
    let failed = Mutex::new(None);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = chunks.get(number) else { break };
            let Some(index) = chunk.first().map(|first| first.entry.source) else { break };
            let source = sources.get(index as usize);
            let mut set = PolicySet::new();
            // Ids that are taken twice were reported already; the first of them stands for both.
            chunk.iter().for_each(|item| drop(set.add(item.policy.clone())));
            let result = validator.validate(&set, ValidationMode::Strict);
            let (Some(source), Ok(mut found)) = (source, found.lock()) else {
                if let Ok(mut failed) = failed.lock() {
                    *failed = Some(Error::new(Kind::Internal, "validation failed"));
                }
                break;
            };
            found.extend(result.validation_errors().map(|error| {
                let fault = fault_of("invalid", index, source, error);
                (number, true, Fault { message: names.mended(&fault.message), ..fault })
            }));
            found.extend(result.validation_warnings().map(|warning| (number, false, fault_of(lint_of(warning), index, source, warning))));
        }
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = (1..threads)
            .map_while(|_| std::thread::Builder::new().name("policies".to_owned()).stack_size(STACK).spawn_scoped(scope, work).ok())
            .collect();
        work();
        if started.into_iter().any(|thread| thread.join().is_err())
            && let Ok(mut failed) = failed.lock()
        {
            *failed = Some(Error::new(Kind::Internal, "validation failed"));
        }
    });
    if let Some(error) = failed.into_inner().ok().flatten() {
        return Err(error);
    }
    let mut found = found.into_inner().map_err(|_| Error::new(Kind::Internal, "validation failed"))?;
    found.sort_by(|a, b| (a.0, a.2.offset, a.1, &a.2.message).cmp(&(b.0, b.2.offset, b.1, &b.2.message)));
    // The same place is at fault once, however many entity types it is at fault for.
    found.dedup_by(|later, first| later.2.offset > 0 && (later.0, later.2.offset, later.1) == (first.0, first.2.offset, first.1));
    for (_, error, fault) in found {
        if error { wrong.push(fault) } else { odd.push(fault) }
    }
    Ok(())
}

/// The lint that a warning of the validator is shown as.
fn lint_of(warning: &ValidationWarning) -> &'static str {
    match warning {
        ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_) => "never-matches",
        _ => "odd-characters",
    }
}

#[cfg(test)]
mod tests;
