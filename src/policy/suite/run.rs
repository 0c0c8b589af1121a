//! Asks the gate what each test asks, compares, and lists the rules that no test decides.

use super::circumstances::follows;
use super::draft::gives;
use super::vocabulary::Vocabulary;
use super::{Case, Expect, Outcome, Report, Undecided};
use crate::error::{Error, Kind, Result, Why};
use crate::limits::{Limits, Watch};
use crate::policy::gate::{Gate, Open, Rules, Session, Silent, Trial};
use crate::policy::kinds;
use crate::policy::load::{self, Book, Policies, Scope, Source};
use crate::policy::slice::Thing;
use crate::policy::words::{Ask, Noun, Value};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

/// Places that are closed whatever a policy says; see [`Rules`].
pub type ClosedPlaces = Arc<dyn Fn(&Ask, &str, &str) -> Option<&'static str> + Send + Sync>;

/// What tests are run with.
pub struct Bench<'a> {
    pub vocabulary: &'a Vocabulary,
    /// The schema's text, see [`Policies::load`].
    pub schema: &'a str,
    /// As rex.toml says.
    pub open: Open,
    pub closed: ClosedPlaces,
}

/// A thing of which is known what the test says.
struct Described<'a> {
    case: &'a Case,
    /// Attributes that were asked for and that the test does not tell.
    untold: Mutex<BTreeSet<String>>,
}

impl Thing for Described<'_> {
    fn noun(&self) -> &'static Noun {
        self.case.noun
    }
    fn id(&self) -> &str {
        &self.case.id
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        const FOLDER: &str = "file_system::Dir";
        if let Some((kind, id)) = kinds::whole_of(self.case.noun.name, &self.case.id) {
            visit(kind, id);
        }
        if !self.case.noun.name.starts_with("file_system::") {
            return;
        }
        let mut rest = self.case.id.as_str();
        while let Some((above, _)) = rest.rsplit_once('/').filter(|_| rest != "/") {
            rest = if above.is_empty() { "/" } else { above };
            visit(FOLDER, rest);
        }
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        let case = self.case;
        if let Some((_, value)) = case.resource_has.iter().find(|(known, _)| *known == name) {
            return Ok(Some(value.clone()));
        }
        if let Some(value) = of_name(case.noun.name, &case.id, name) {
            return Ok(Some(value));
        }
        if case.missing {
            return Ok(None);
        }
        if let Some(value) = follows(case.noun.name, &case.resource_has, name) {
            return Ok(Some(value));
        }
        // A unit or container that a process is in may be left out: most are in none.
        if case.noun.name == "process_system::Process" && matches!(name, "unit" | "container") {
            return Ok(None);
        }
        if let Ok(mut untold) = self.untold.lock() {
            untold.insert(name.to_owned());
        }
        Err(Error::new(Kind::Internal, "the test does not tell it"))
    }
}

/// What the id alone tells.
fn of_name(noun: &str, id: &str, name: &str) -> Option<Value> {
    let text = |text: &str| Some(Value::String(text.to_owned()));
    match (noun, name) {
        ("file_system::File" | "file_system::Dir", "path") | ("sysinfo::Hostname", "hostname") => text(id),
        // A request without a query, unless the test says otherwise.
        ("network::url", "query") if id.contains("://") => text(""),
        ("network::url", name) => crate::policy::url::told_by_id(id, name),
        ("file_system::File" | "file_system::Dir", "name") => text(id.rsplit('/').next().unwrap_or(id)),
        (kind, "name") if kinds::is_name(kind) => text(id),
        ("systemd::Service" | "systemd::Unit", "kind") => text(id.rsplit('.').next().unwrap_or("")),
        ("journal::Log", "kind") => text(if matches!(id, "system" | "kernel") { id } else { "unit" }),
        ("process_system::Process", "pid") => id.parse().ok().map(Value::Long),
        _ => None,
    }
}

/// Attributes of the principal and of the session that every caller over ssh has, so that a test which leaves them out would try what never is.
const ALWAYS: (&[&str], &[&str]) = (&["unix_user", "uid", "evidence"], &["host", "layers", "script"]);

/// The file's name without its folder.
fn leaf(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Runs the tests. `cover` are the files whose rules are to be decided by some test.
///
/// # Errors
/// [`Kind::Config`] as [`Policies::load`] for the policies that some test names.
pub(super) fn run(cases: &[Case], sources: &[Source], bench: &Bench<'_>) -> Result<Report> {
    let everything = load::written(sources)?;
    let by_name: HashMap<&str, &load::Written> = everything.iter().map(|rule| (rule.name.as_str(), rule)).collect();
    // By the files, the principal's name and its groups.
    type Key<'a> = (Vec<&'a str>, String, Vec<String>);
    let mut books: HashMap<Vec<&str>, Book<'_>> = HashMap::new();
    let mut loaded: HashMap<Key<'_>, Arc<Policies>> = HashMap::new();
    let mut report = Report::default();
    let mut decided: BTreeSet<&str> = BTreeSet::new();
    for case in cases {
        let chosen: Vec<&Source> = match &case.policies {
            None => sources.iter().collect(),
            Some(names) => sources
                .iter()
                .filter(|source| folder(&source.name) == folder(&case.file) && names.iter().any(|name| name == leaf(&source.name)))
                .collect(),
        };
        let key = (
            chosen.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(),
            case.principal.name.clone(),
            case.principal.groups.clone(),
        );
        let policies = match loaded.get(&key) {
            Some(policies) => Arc::clone(policies),
            None => {
                let scope = Scope { name: case.principal.name.clone(), groups: case.principal.groups.clone() };
                let book = match books.entry(key.0.clone()) {
                    Entry::Occupied(book) => book.into_mut(),
                    Entry::Vacant(place) => place.insert(Book::open(&chosen, bench.schema)?),
                };
                let policies = Arc::new(book.policies(&scope));
                loaded.insert(key.clone(), Arc::clone(&policies));
                policies
            }
        };
        let known = |id: &str| by_name.get(id).is_some_and(|rule| key.0.contains(&rule.file.as_str()));
        let mut outcome = ask(case, &policies, bench, &known)?;
        if !outcome.passed()
            && outcome.why == Some("not_permitted")
            && case.expect.allow
            && let Some(book) = books.get(&key.0)
        {
            outcome.details.extend(would_do(case, &policies, book, bench, &known)?);
        }
        // A permit decides where it permits, a forbid where it forbids.
        let deciding = outcome.by.iter().filter_map(|name| by_name.get(name.as_str())).filter(|rule| rule.permit == outcome.allowed);
        decided.extend(deciding.map(|rule| rule.name.as_str()));
        report.outcomes.push(outcome);
    }
    report.undecided = everything
        .iter()
        .filter(|rule| !decided.contains(rule.name.as_str()))
        .map(|rule| Undecided { policy: rule.name.clone(), file: rule.file.clone(), line: rule.line })
        .collect();
    report.rules = everything.len();
    Ok(report)
}

/// Groups that are tried for a hint.
const GROUPS: usize = 20;

/// What small change of the question would be permitted: the folder for the file, one more group.
fn would_do(
    case: &Case,
    policies: &Arc<Policies>,
    book: &Book<'_>,
    bench: &Bench<'_>,
    known: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>> {
    let mut details = Vec::new();
    let with = |case: &Case, policies: &Arc<Policies>| -> Result<Option<String>> {
        let outcome = ask(case, policies, bench, known)?;
        Ok(outcome.allowed.then(|| outcome.by.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")))
    };
    let folder = || bench.vocabulary.question(&format!("{}::{}", case.ask.namespace, case.ask.name), &format!("{}/", case.id)).ok();
    if case.noun.name == "file_system::File"
        && let Some(question) = folder()
        && let Some(by) = with(&Case { noun: question.noun, ask: question.ask, ..case.clone() }, policies)?
    {
        details.push(format!("`{0}` is taken for a file; the folder, which {by} permits, is written `{0}/`", case.id));
    }
    for group in book.groups().into_iter().filter(|group| !case.principal.groups.contains(group)).take(GROUPS) {
        let mut groups = case.principal.groups.clone();
        groups.push(group.clone());
        let scope = Scope { name: case.principal.name.clone(), groups: groups.clone() };
        let mut member = case.clone();
        member.principal.groups = groups;
        if let Some(by) = with(&member, &Arc::new(book.policies(&scope)))? {
            let (name, group) = (&case.principal.name, group.escape_debug());
            details
                .push(format!("{by} would permit it to the group `{group}`, which `{name}` is not in here: write `{name} in {group} …`"));
        }
    }
    Ok(details)
}

fn ask(case: &Case, policies: &Arc<Policies>, bench: &Bench<'_>, known: &dyn Fn(&str) -> bool) -> Result<Outcome> {
    let session = Session { run: "test".to_owned(), attributes: case.session.clone() };
    let watch = Arc::new(Watch::new(Limits::default()));
    let closed = Arc::clone(&bench.closed);
    let rules =
        Rules { open: case.open.unwrap_or(bench.open), closed: Arc::new(move |ask, kind, id| closed(ask, kind, id)), dry_run: false };
    let now = case.now.unwrap_or(0);
    let gate = Gate::new(Arc::clone(policies), case.principal.clone(), session, Box::new(Silent), watch, rules)?.with_clock(move || now);
    let thing = Described { case, untold: Mutex::default() };
    let needs_open = case.ask.namespace == "file_system" && case.ask.name != "open";
    let mut untold = untold(case, &gate, needs_open, &thing);
    let trial = gate.trial(&case.ask, needs_open, &thing, &case.context);
    untold.extend(
        thing.untold.lock().map(|names| names.iter().map(|name| format!("resource.{name}")).collect::<Vec<_>>()).unwrap_or_default(),
    );
    Ok(outcome(case, &trial, &untold, known))
}

/// What the rules in question look at and the test does not tell.
fn untold(case: &Case, gate: &Gate, needs_open: bool, thing: &Described<'_>) -> Vec<String> {
    let looks = gate.looks(&case.ask, needs_open, thing);
    let mut untold = Vec::new();
    let (always, session) = ALWAYS;
    let lacks = |name: &&&str| !gives(&case.principal.attributes, name);
    untold.extend(always.iter().filter(|name| looks.principal.contains(**name)).filter(lacks).map(|name| format!("principal.{name}")));
    let lacks = |name: &&&str| !gives(&case.session, name);
    let looked = session.iter().filter(|name| looks.session.contains(**name));
    untold.extend(looked.filter(lacks).map(|name| format!("session.{name}")));
    if case.now.is_none() && (looks.session.contains("now") || looks.whole_context) {
        untold.push("now".to_owned());
    }
    for attribute in case.ask.context.iter().filter(|attribute| attribute.required) {
        if (looks.whole_context || looks.context.contains(attribute.name)) && !gives(&case.context, attribute.name) {
            untold.push(format!("context.{}", attribute.name));
        }
    }
    untold
}

fn word(why: Why, closed: bool) -> &'static str {
    match why {
        _ if closed => "closed",
        Why::Forbidden => "forbidden",
        Why::NotPermitted => "not_permitted",
        Why::ConditionFailed => "condition_failed",
        Why::PolicyError => "policy_error",
    }
}

fn outcome(case: &Case, trial: &Trial, untold: &[String], known: &dyn Fn(&str) -> bool) -> Outcome {
    let allowed = trial.why.is_none();
    let why = trial.why.map(|why| word(why, trial.closed));
    let hint = trial.told.as_ref().and_then(|denial| denial.hint.clone());
    let retry = trial.told.as_ref().is_some_and(|denial| denial.retry);
    let mut wrong = Vec::new();
    if !untold.is_empty() {
        let names = untold.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let or = if untold.iter().any(|name| name.starts_with("resource.")) { ", or say `missing`" } else { "" };
        wrong.push(format!("the test does not tell {names}, which the rules in question look at; give each{or}"));
    }
    let Expect { by, by_exactly, .. } = &case.expect;
    for id in by.iter().flatten().filter(|id| !known(id)) {
        wrong.push(format!("there is no rule `{id}` in the policies of this test"));
    }
    if wrong.is_empty() {
        compare(case, allowed, why, &trial.by, hint.as_deref().unwrap_or(""), retry, *by_exactly, &mut wrong);
    }
    let mut details = Vec::new();
    if !wrong.is_empty() && untold.is_empty() {
        details.extend(trial.instead.iter().map(|instead| format!("what was denied is {instead}, which is asked too")));
        details.extend(trial.note.iter().cloned());
        details.extend(trial.unmet.iter().map(|(rule, part)| format!("`{rule}` would permit it, but `{part}` is false")));
        if why == Some("not_permitted") && trial.unmet.is_empty() {
            details.push("no rule permits it".to_owned());
        }
    }
    Outcome {
        file: case.file.clone(),
        line: case.line,
        name: case.name.clone(),
        allowed,
        why,
        by: trial.by.clone(),
        hint,
        wrong,
        told: untold.is_empty(),
        details,
        unmet: trial.unmet.iter().cloned().collect::<BTreeMap<_, _>>(),
        expect: case.expect.clone(),
    }
}

#[allow(clippy::too_many_arguments, reason = "what is expected against what is")]
fn compare(case: &Case, allowed: bool, why: Option<&str>, by: &[String], hint: &str, retry: bool, exactly: bool, wrong: &mut Vec<String>) {
    let expect = &case.expect;
    if allowed != expect.allow {
        wrong.push(format!("expected {}", super::answer(expect.allow, expect.why.as_deref(), expect.by.as_deref().unwrap_or(&[]))));
        return;
    }
    if let Some(expected) =
        expect.why.as_deref().filter(|expected| Some(*expected) != why && !(*expected == "forbidden" && why == Some("closed")))
    {
        wrong.push(format!("expected it to be denied because {expected}"));
    }
    if let Some(ids) = &expect.by {
        let lacking: Vec<&String> = ids.iter().filter(|id| !by.contains(id)).collect();
        let beyond: Vec<&String> = by.iter().filter(|id| exactly && !ids.contains(id)).collect();
        wrong.extend(lacking.iter().map(|id| format!("expected `{id}` to decide")));
        wrong.extend(beyond.iter().map(|id| format!("expected `{id}` not to decide too")));
    }
    if let Some(expected) = expect.hint.as_deref().filter(|expected| *expected != hint) {
        wrong.push(format!("expected the hint {expected:?}, and it is {hint:?}"));
    }
    if let Some(expected) = expect.retry.filter(|expected| *expected != retry) {
        wrong.push(format!("expected retry = {expected}"));
    }
}
