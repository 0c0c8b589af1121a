//! The policies that concern one caller, indexed by verb and by what they are about, so that a question evaluates only the few in question.

use super::values;
use super::words::{Noun, Resource, Value};
use crate::error::Result;
use cedar_policy_core::ast::{
    ActionConstraint, BinaryOp, Effect, EntityReference, EntityUID, EntityUIDEntry, Expr, ExprKind, Literal, Policy,
    PrincipalOrResourceConstraint, Var,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

/// An entity by type and id, as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Uid {
    pub kind: String,
    pub id: String,
}

impl Uid {
    pub(super) fn of(uid: &EntityUID) -> Self {
        Self { kind: uid.entity_type().to_string(), id: AsRef::<str>::as_ref(uid.eid()).to_owned() }
    }
}

/// What a policy is about: the resource part of its scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    Anything,
    /// Everything of this entity type.
    Kind(String),
    /// One thing, by entity type and id.
    Exactly(String, String),
    /// This and all that is in it.
    Within(String, String),
    /// All of an entity type that is in this.
    KindWithin(String, String, String),
}

impl Reach {
    /// The narrower, the greater.
    pub(super) fn nearness(&self) -> usize {
        match self {
            Self::Anything => 0,
            Self::Kind(_) => 1,
            // Of two folders the one with the longer path is the inner one.
            Self::Within(_, id) | Self::KindWithin(_, _, id) => 2 + id.len(),
            Self::Exactly(..) => usize::MAX,
        }
    }
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anything => f.write_str("anything"),
            Self::Kind(kind) => write!(f, "any {kind}"),
            Self::Exactly(kind, id) => f.write_str(&values::written(kind, id)),
            Self::Within(kind, id) => write!(f, "in {}", values::written(kind, id)),
            Self::KindWithin(what, kind, id) => write!(f, "any {what} in {}", values::written(kind, id)),
        }
    }
}

/// The principal or resource part of a scope. None for a template's slot, which never gets this far.
pub(super) fn reach(constraint: &PrincipalOrResourceConstraint) -> Option<Reach> {
    use PrincipalOrResourceConstraint as C;
    let entity = |reference: &EntityReference| match reference {
        EntityReference::EUID(uid) => Some(Uid::of(uid)),
        EntityReference::Slot(_) => None,
    };
    Some(match constraint {
        C::Any => Reach::Anything,
        C::Is(kind) => Reach::Kind(kind.to_string()),
        C::Eq(reference) => entity(reference).map(|uid| Reach::Exactly(uid.kind, uid.id))?,
        C::In(reference) => entity(reference).map(|uid| Reach::Within(uid.kind, uid.id))?,
        C::IsIn(kind, reference) => entity(reference).map(|uid| Reach::KindWithin(kind.to_string(), uid.kind, uid.id))?,
    })
}

/// How much of a rule a denial may tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Reveal {
    None,
    Hint,
    Rule,
}

/// Where a policy begins: the name of its source, line and column from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub source: Arc<str>,
    pub line: u32,
    pub column: u32,
    /// The policy as its author wrote it, where that is told: a condition from the cache has no places of its own.
    pub text: Option<Arc<str>>,
}

/// One policy that concerns the caller.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// `@id`, or `file:line`.
    pub name: String,
    pub place: Place,
    /// Where it begins in the text that its conditions' own places refer to.
    pub start: usize,
    pub permit: bool,
    pub hint: Option<String>,
    pub reveal: Reveal,
    pub reach: Reach,
    /// None: every verb.
    pub verbs: Option<Vec<Uid>>,
    pub condition: Option<Arc<Expr>>,
    pub needs: Needs,
}

/// What a condition looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Attributes of the resource.
    pub attributes: BTreeSet<String>,
    /// Whether it tests what the resource is in …
    pub ancestors: bool,
    /// … and against something that is not written in the policy, so that all ancestors are needed.
    pub all_ancestors: bool,
    /// `context.session.now`.
    pub time: bool,
    /// Anything of the context but `session`.
    pub context: bool,
    /// Names of all attributes that it takes of anything.
    pub mentions: BTreeSet<String>,
    /// Whether it calls a function of Cedar's extensions.
    pub extensions: bool,
}

impl Rule {
    pub(super) fn new(policy: &Policy, name: String, place: Place) -> Option<Self> {
        let text =
            |key: &str| policy.annotations().find(|(name, _)| AsRef::<str>::as_ref(*name) == key).map(|(_, value)| value.val.to_string());
        let condition = policy.non_scope_constraints_arc().cloned();
        let mut needs = Needs::default();
        if let Some(condition) = &condition {
            needs.look(condition);
        }
        Some(Self {
            name,
            place,
            start: policy.loc().map_or(0, cedar_policy_core::parser::Loc::start),
            permit: policy.effect() == Effect::Permit,
            hint: text("hint").filter(|hint| !hint.is_empty()),
            reveal: match text("reveal").as_deref() {
                Some("none") => Reveal::None,
                Some("rule") => Reveal::Rule,
                _ => Reveal::Hint,
            },
            reach: reach(policy.resource_constraint().as_inner())?,
            verbs: match policy.action_constraint() {
                ActionConstraint::Any => None,
                ActionConstraint::Eq(uid) => Some(vec![Uid::of(uid)]),
                ActionConstraint::In(uids) => Some(uids.iter().map(|uid| Uid::of(uid)).collect()),
            },
            condition,
            needs,
        })
    }

    /// Every entity that the condition names in an `in`.
    fn each_named(&self, visit: &mut impl FnMut(&EntityUID)) {
        for part in self.condition.iter().flat_map(|condition| condition.subexpressions()) {
            if let ExprKind::Lit(Literal::EntityUID(uid)) = part.expr_kind() {
                visit(uid);
            }
        }
    }
}

impl Needs {
    pub(super) fn of(condition: &Expr) -> Self {
        let mut needs = Self::default();
        needs.look(condition);
        needs
    }

    /// Whether it may look at the context or the session as a whole; [`Needs::bare`] says both as `time`.
    fn whole(&self) -> bool {
        self.time
    }

    fn look(&mut self, condition: &Expr) {
        for part in condition.subexpressions() {
            match part.expr_kind() {
                ExprKind::GetAttr { expr, attr } | ExprKind::HasAttr { expr, attr } => {
                    self.mentions.insert(attr.to_string());
                    self.attribute(expr, &[attr]);
                }
                ExprKind::ExtHasAttr { expr, attrs } => {
                    self.mentions.extend(attrs.iter().map(ToString::to_string));
                    self.attribute(expr, &attrs.iter().map(AsRef::<str>::as_ref).collect::<Vec<_>>());
                }
                ExprKind::ExtensionFunctionApp { .. } => self.extensions = true,
                ExprKind::BinaryApp { op: BinaryOp::In, arg1, arg2 }
                    if !matches!(arg1.expr_kind(), ExprKind::Var(Var::Action | Var::Principal)) =>
                {
                    self.ancestors = true;
                    self.all_ancestors |= !literal(arg2);
                }
                _ => {}
            }
        }
        self.bare(condition);
    }

    /// `expr.first.…`
    fn attribute<S: AsRef<str>>(&mut self, expr: &Expr, names: &[S]) {
        // The whole path from the variable on.
        let mut path: Vec<&str> = names.iter().rev().map(AsRef::as_ref).collect();
        let mut root = expr;
        while let ExprKind::GetAttr { expr, attr } = root.expr_kind() {
            path.push(attr);
            root = expr;
        }
        path.reverse();
        let first = path.first().copied().unwrap_or("");
        match root.expr_kind() {
            ExprKind::Var(Var::Principal) => {}
            ExprKind::Var(Var::Context) => match (first, path.get(1).copied()) {
                ("session", Some("now")) => self.time = true,
                ("session", _) => {}
                _ => self.context = true,
            },
            ExprKind::Var(Var::Resource) => {
                self.attributes.insert(first.to_owned());
            }
            // Of something computed: it may be the resource.
            _ => self.attributes.extend(path.into_iter().map(str::to_owned)),
        }
    }

    /// `context` or `context.session` as a whole may hold anything.
    fn bare(&mut self, expr: &Expr) {
        match expr.expr_kind() {
            ExprKind::Var(Var::Context) => (self.context, self.time) = (true, true),
            ExprKind::GetAttr { expr: inner, .. } | ExprKind::HasAttr { expr: inner, .. } | ExprKind::ExtHasAttr { expr: inner, .. } => {
                match inner.expr_kind() {
                    ExprKind::Var(Var::Context) => {
                        // `context.session` used as a value is found by its parent, which does not descend here when it takes an attribute of it.
                        if let ExprKind::GetAttr { attr, .. } = expr.expr_kind()
                            && attr == "session"
                        {
                            self.time = true;
                        }
                    }
                    ExprKind::GetAttr { expr: root, .. } if matches!(root.expr_kind(), ExprKind::Var(Var::Context)) => {}
                    _ => self.bare(inner),
                }
            }
            ExprKind::If { test_expr, then_expr, else_expr } => {
                [test_expr, then_expr, else_expr].into_iter().for_each(|part| self.bare(part))
            }
            ExprKind::And { left, right } | ExprKind::Or { left, right } => [left, right].into_iter().for_each(|part| self.bare(part)),
            ExprKind::UnaryApp { arg, .. } => self.bare(arg),
            ExprKind::BinaryApp { arg1, arg2, .. } => [arg1, arg2].into_iter().for_each(|part| self.bare(part)),
            ExprKind::ExtensionFunctionApp { args, .. } => args.iter().for_each(|part| self.bare(part)),
            ExprKind::Like { expr, .. } | ExprKind::Is { expr, .. } => self.bare(expr),
            ExprKind::Set(items) => items.iter().for_each(|part| self.bare(part)),
            ExprKind::Record(pairs) => pairs.values().for_each(|part| self.bare(part)),
            ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {}
        }
    }
}

fn literal(expr: &Expr) -> bool {
    match expr.expr_kind() {
        ExprKind::Lit(_) => true,
        ExprKind::Set(items) => items.iter().all(literal),
        _ => false,
    }
}

/// Where `in` stands on something whose place in the hierarchy the gate does not know: anything but the variables.
pub(super) fn misplaced_in(condition: &Expr) -> Option<usize> {
    condition.subexpressions().find_map(|part| match part.expr_kind() {
        ExprKind::BinaryApp { op: BinaryOp::In, arg1, .. } if !matches!(arg1.expr_kind(), ExprKind::Var(_)) => {
            Some(arg1.source_loc().or_else(|| part.source_loc()).map_or(0, |loc| loc.start()))
        }
        _ => None,
    })
}

/// A resource as a trait object.
pub(super) trait Thing {
    fn noun(&self) -> &'static Noun;
    fn id(&self) -> &str;
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str));
    fn attribute(&self, name: &str) -> Result<Option<Value>>;
    /// Whether its noun lists every attribute it has, so that one that is not listed is not there. Else it is unknown.
    fn complete(&self) -> bool {
        true
    }
}

impl<R: Resource> Thing for R {
    fn noun(&self) -> &'static Noun {
        Resource::noun(self)
    }
    fn id(&self) -> &str {
        Resource::id(self)
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        Resource::each_ancestor(self, visit);
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        Resource::attribute(self, name)
    }
}

/// Rules by id, for each entity type; types are few.
#[derive(Debug, Default)]
struct ById(Vec<(String, HashMap<String, Vec<u32>>)>);

impl ById {
    fn add(&mut self, kind: &str, id: &str, rule: u32) {
        let at = self.0.iter().position(|(known, _)| known == kind).unwrap_or_else(|| {
            self.0.push((kind.to_owned(), HashMap::new()));
            self.0.len() - 1
        });
        if let Some((_, ids)) = self.0.get_mut(at) {
            ids.entry(id.to_owned()).or_default().push(rule);
        }
    }
    fn get(&self, kind: &str, id: &str) -> &[u32] {
        self.0.iter().find(|(known, _)| known == kind).and_then(|(_, ids)| ids.get(id)).map_or(&[], Vec::as_slice)
    }
}

/// The rules of one verb or group of verbs, by what they are about.
#[derive(Debug, Default)]
struct Places {
    exactly: ById,
    within: ById,
    anything: Vec<u32>,
}

/// A verb of the schema.
#[derive(Debug)]
pub(super) struct Verb {
    pub namespace: String,
    pub name: String,
    /// The groups it is in, directly or not.
    pub groups: Vec<Uid>,
    text: OnceLock<String>,
    /// Indices of the [`Places`] that concern it.
    places: Vec<usize>,
    /// Every rule that concerns it.
    pub rules: Vec<u32>,
    pub some_forbid: bool,
    cedar: OnceLock<Option<(EntityUIDEntry, Arc<cedar_policy_core::ast::Entity>)>>,
}

impl Verb {
    /// Cedar notation.
    pub(super) fn text(&self) -> &str {
        self.text.get_or_init(|| values::written(&format!("{}::Action", self.namespace), &self.name))
    }

    /// The verb for Cedar: in a request, and with its groups among the entities.
    pub(super) fn cedar(&self) -> Option<&(EntityUIDEntry, Arc<cedar_policy_core::ast::Entity>)> {
        let make = || {
            let uid = values::uid(&format!("{}::Action", self.namespace), &self.name)?;
            let groups: HashSet<EntityUID> = self.groups.iter().filter_map(|group| values::uid(&group.kind, &group.id)).collect();
            let entity = cedar_policy_core::ast::Entity::new_with_attr_partial_value(uid.clone(), [], HashSet::new(), groups, []);
            Some((EntityUIDEntry::known(uid, None), Arc::new(entity)))
        };
        self.cedar.get_or_init(make).as_ref()
    }
}

/// What the schema says of a verb: its namespace, its name, its groups.
pub(super) type VerbRow = (String, String, Vec<Uid>);

/// The caller's policies.
#[derive(Debug, Default)]
pub(super) struct Slice {
    pub rules: Vec<Rule>,
    places: Vec<Places>,
    verbs: HashMap<String, HashMap<String, Verb>>,
    /// Whether the author of some rule hides it.
    pub some_hidden: bool,
    /// Entities that some condition names: the only ancestors worth giving to Cedar.
    named: HashMap<String, HashSet<String>>,
    /// Attributes that some condition names.
    mentioned: HashSet<String>,
    /// Whether some condition may look at the circumstances as a whole.
    whole: bool,
}

impl Slice {
    pub(super) fn new(rules: Vec<Rule>, verbs: Vec<VerbRow>) -> Self {
        let mut slice = Self { some_hidden: rules.iter().any(|rule| rule.reveal == Reveal::None), ..Self::default() };
        // Places of a verb or group, by entity type and id; the empty one is for policies about every verb.
        let every = Uid { kind: String::new(), id: String::new() };
        let mut places: HashMap<&Uid, usize> = HashMap::new();
        for (index, rule) in (0_u32..).zip(&rules) {
            for verb in rule.verbs.as_deref().unwrap_or(std::slice::from_ref(&every)) {
                let at = *places.entry(verb).or_insert(slice.places.len());
                if at == slice.places.len() {
                    slice.places.push(Places::default());
                }
                let Some(place) = slice.places.get_mut(at) else { continue };
                match &rule.reach {
                    Reach::Anything | Reach::Kind(_) => place.anything.push(index),
                    Reach::Exactly(kind, id) => place.exactly.add(kind, id, index),
                    Reach::Within(kind, id) | Reach::KindWithin(_, kind, id) => place.within.add(kind, id, index),
                }
            }
            slice.mentioned.extend(rule.needs.mentions.iter().cloned());
            slice.whole |= rule.needs.whole();
            if rule.needs.ancestors {
                rule.each_named(&mut |uid| {
                    let uid = Uid::of(uid);
                    slice.named.entry(uid.kind).or_default().insert(uid.id);
                });
            }
        }
        for (namespace, name, groups) in verbs {
            let own = Uid { kind: format!("{namespace}::Action"), id: name };
            let mut mine: Vec<usize> = groups.iter().chain([&own, &every]).filter_map(|key| places.get(key).copied()).collect();
            mine.sort_unstable();
            mine.dedup();
            let concerned: BTreeSet<u32> = mine.iter().filter_map(|at| slice.places.get(*at)).flat_map(Places::all).collect();
            let some_forbid = concerned.iter().any(|rule| rules.get(*rule as usize).is_some_and(|rule| !rule.permit));
            let name = own.id;
            let verb = Verb {
                namespace: namespace.clone(),
                name: name.clone(),
                groups,
                text: OnceLock::new(),
                places: mine,
                rules: concerned.into_iter().collect(),
                some_forbid,
                cedar: OnceLock::new(),
            };
            slice.verbs.entry(namespace).or_default().insert(name, verb);
        }
        slice.rules = rules;
        slice
    }

    pub(super) fn verb(&self, namespace: &str, name: &str) -> Option<&Verb> {
        self.verbs.get(namespace)?.get(name)
    }

    pub(super) fn rule(&self, index: u32) -> Option<&Rule> {
        self.rules.get(index as usize)
    }

    /// Whether a condition somewhere names this entity.
    pub(super) fn names(&self, kind: &str, id: &str) -> bool {
        self.named.get(kind).is_some_and(|ids| ids.contains(id))
    }

    /// Whether some condition can look at the attribute of this name of the principal.
    pub(super) fn mentions(&self, attribute: &str) -> bool {
        self.mentioned.contains(attribute)
    }

    /// Whether some condition can look at the attribute of this name of the circumstances.
    pub(super) fn mentions_of_session(&self, attribute: &str) -> bool {
        self.whole || self.mentioned.contains(attribute)
    }

    /// The rules whose scope matches: the principal's part when they were loaded, the verb and the resource here.
    pub(super) fn candidates(&self, verb: &Verb, thing: &dyn Thing) -> Vec<u32> {
        let kind = thing.noun().name;
        let mut found = Vec::new();
        let places: Vec<&Places> = verb.places.iter().filter_map(|at| self.places.get(*at)).collect();
        let mut hierarchical = false;
        for place in &places {
            found.extend(place.exactly.get(kind, thing.id()));
            found.extend(place.within.get(kind, thing.id()));
            found.extend(&place.anything);
            hierarchical |= !place.within.0.is_empty();
        }
        if hierarchical {
            thing.each_ancestor(&mut |kind, id| places.iter().for_each(|place| found.extend(place.within.get(kind, id))));
        }
        found.retain(|index| match self.rule(*index).map(|rule| &rule.reach) {
            Some(Reach::Kind(wanted) | Reach::KindWithin(wanted, _, _)) => wanted == kind,
            _ => true,
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    /// What the caller may do, verb by verb.
    pub(super) fn summary(&self) -> Vec<Line> {
        let sorted: BTreeMap<(&str, &str), &Verb> =
            self.verbs.values().flat_map(HashMap::values).map(|verb| ((verb.namespace.as_str(), verb.name.as_str()), verb)).collect();
        sorted.into_values().map(|verb| self.line(verb)).collect()
    }

    fn line(&self, verb: &Verb) -> Line {
        // What its author hides is as if it were not there.
        let rules = verb.rules.iter().filter_map(|index| self.rule(*index)).filter(|rule| rule.reveal != Reveal::None);
        let (permits, forbids): (Vec<&Rule>, Vec<&Rule>) = rules.partition(|rule| rule.permit);
        let everything_forbidden = forbids.iter().any(|rule| rule.reach == Reach::Anything && rule.condition.is_none());
        let mut line = Line { action: verb.text().to_owned(), everywhere: false, allows: Vec::new(), except: Vec::new() };
        if everything_forbidden || permits.is_empty() {
            return line;
        }
        for (list, rules) in [(&mut line.allows, &permits), (&mut line.except, &forbids)] {
            for rule in rules {
                let part = Part { reach: rule.reach.clone(), when: if rule.condition.is_some() { rule.when() } else { Vec::new() } };
                // A permit without a condition says all that one with a condition would.
                if !list.contains(&part) && !list.iter().any(|known| known.reach == part.reach && known.when.is_empty()) {
                    list.retain(|known| known.reach != part.reach || !part.when.is_empty());
                    list.push(part);
                }
            }
        }
        // Sure everywhere: one permit for anything without a condition, and nothing forbidden.
        line.everywhere = forbids.is_empty() && permits.iter().any(|rule| rule.reach == Reach::Anything && rule.condition.is_none());
        line
    }
}

impl Places {
    fn all(&self) -> impl Iterator<Item = u32> + '_ {
        let of = |ids: &'_ ById| ids.0.iter().flat_map(|(_, ids)| ids.values().flatten().copied()).collect::<Vec<u32>>();
        of(&self.exactly).into_iter().chain(of(&self.within)).chain(self.anything.iter().copied())
    }
}

/// Things that a rule is about, and under what conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub reach: Reach,
    /// As written where the author reveals it, else that there are conditions; empty: in any circumstances.
    pub when: Vec<String>,
}

/// What a caller may do with one verb, as far as the authors of the policies show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Cedar notation.
    pub action: String,
    /// Allowed on everything without any condition, and nothing forbids it anywhere.
    pub everywhere: bool,
    /// What is permitted; empty: nothing at all.
    pub allows: Vec<Part>,
    /// What is forbidden of that.
    pub except: Vec<Part>,
}

impl Line {
    /// `yes`, `some` or `no`.
    #[must_use]
    pub fn answer(&self) -> &'static str {
        match (self.everywhere, self.allows.is_empty()) {
            (true, _) => "yes",
            (false, false) => "some",
            (false, true) => "no",
        }
    }
    /// Whether some of it depends on a condition.
    #[must_use]
    pub fn conditional(&self) -> bool {
        self.allows.iter().chain(&self.except).any(|part| !part.when.is_empty())
    }
}

impl Slice {
    pub(super) fn verbs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.verbs.iter().flat_map(|(namespace, verbs)| verbs.keys().map(move |name| (namespace.as_str(), name.as_str())))
    }
}
