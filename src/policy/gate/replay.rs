//! A question from a record, asked again: the rules in question are those of [`Gate::judge`], and one that looks at what no record tells decides nothing.

use super::judge::{Tally, holds};
use super::named::{FOLDER, Folder, Named, folder_of};
use super::{Gate, Open};
use crate::error::{Result, Why};
use crate::policy::slice::{Rule, Thing, Verb};
use crate::policy::words::{Ask, Noun, Value};
use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, UnaryOp, Var};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use std::collections::BTreeSet;

/// The answer to a question from a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// By these rules.
    Allowed(Vec<String>),
    /// Why, and the rules that decided or whose conditions did not hold.
    Denied(Why, Vec<String>),
    /// The place is closed whatever a policy says, and why.
    Closed(String),
    /// It cannot be told from the record: what some rule looks at and is not known, e.g. `resource.owner`.
    Unknown(Vec<String>),
}

/// A question from a record with all that is known of it.
pub(in crate::policy) struct Recorded<'a> {
    pub noun: &'static Noun,
    pub id: &'a str,
    /// Attributes of the resource.
    pub attributes: Vec<(&'static str, Value)>,
    /// Attributes that it may have and is known not to have.
    pub absent: Vec<&'static str>,
    /// The verb's own circumstances.
    pub context: Vec<(&'static str, Value)>,
    /// Circumstances that are not on record.
    pub unknown_context: Vec<&'static str>,
    /// Names of variables are known and their values are not.
    pub untold_tags: bool,
    /// Attributes of the principal that are not known.
    pub unknown_principal: &'a [&'static str],
    /// Attributes of the session that are not known.
    pub unknown_session: &'a [&'static str],
}

impl Recorded<'_> {
    fn named(&self) -> Named<'_> {
        Named { noun: self.noun, id: self.id }
    }
}

impl Thing for Recorded<'_> {
    fn noun(&self) -> &'static Noun {
        self.noun
    }
    fn id(&self) -> &str {
        self.id
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        self.named().each_ancestor(visit);
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        Ok(self.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()))
    }
}

impl Gate {
    /// The answer that these policies give to a recorded question. Nothing is recorded or counted.
    pub(in crate::policy) fn replay(&self, ask: &Ask, needs_open: bool, recorded: &Recorded<'_>) -> Replayed {
        if let Some(why) = (self.rules.closed)(ask, recorded.noun.name, recorded.id) {
            return Replayed::Closed(why.to_owned());
        }
        let slice = &self.policies.slice;
        let Some(verb) = slice.verb(ask.namespace, ask.name) else { return Replayed::Denied(Why::NotPermitted, Vec::new()) };
        let itself = self.weigh_recorded(verb, recorded, recorded, false);
        let Some(open) = slice.verb("file_system", "open").filter(|_| needs_open) else { return itself };
        let only_forbids = self.rules.open == Open::Implied;
        if only_forbids && !open.some_forbid || matches!(itself, Replayed::Denied(..)) {
            return itself;
        }
        // Of `open` there are no circumstances.
        let mut answers = vec![itself, self.weigh_recorded(open, recorded, recorded, only_forbids)];
        if let Some((above, id)) = folder_of(recorded) {
            let folder = Recorded {
                noun: &FOLDER,
                id: &id,
                attributes: vec![("path", Value::String(id.clone()))],
                absent: Vec::new(),
                context: Vec::new(),
                unknown_context: Vec::new(),
                untold_tags: false,
                unknown_principal: recorded.unknown_principal,
                unknown_session: recorded.unknown_session,
            };
            answers.push(self.weigh_recorded(open, &Folder { id: &id, above: &above }, &folder, only_forbids));
        }
        let (mut rules, mut unknown) = (Vec::new(), Vec::new());
        for answer in answers {
            match answer {
                Replayed::Allowed(by) => rules.extend(by),
                Replayed::Unknown(what) => unknown.extend(what),
                denied => return denied,
            }
        }
        unknown.sort();
        unknown.dedup();
        if unknown.is_empty() { Replayed::Allowed(rules) } else { Replayed::Unknown(unknown) }
    }

    /// What the rules in question say of `thing`, of which `known` tells what is known.
    fn weigh_recorded(&self, verb: &Verb, thing: &dyn Thing, known: &Recorded<'_>, only_forbids: bool) -> Replayed {
        let slice = &self.policies.slice;
        let rules: Vec<(u32, &Rule)> = slice
            .candidates(verb, thing)
            .into_iter()
            .filter_map(|index| slice.rule(index).map(|rule| (index, rule)))
            .filter(|(_, rule)| !only_forbids || !rule.permit)
            .collect();
        let (sure, open): (Vec<_>, Vec<_>) = rules.into_iter().partition(|(_, rule)| known.lacks(rule).is_empty());
        let names = |rules: Vec<u32>| self.names(&rules).into_iter().map(str::to_owned).collect();
        let mut tally = Tally::default();
        match self.prepare(
            verb,
            thing,
            &known.context,
            sure.iter().filter(|(_, rule)| rule.condition.is_some()).map(|(_, rule)| &rule.needs),
        ) {
            Ok((request, entities)) => {
                let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
                sure.iter().for_each(|(index, rule)| tally.count(*index, rule, false, holds(rule, Some(&evaluator))));
            }
            Err(note) => return Replayed::Unknown(vec![note]),
        }
        let verdict = tally.verdict(only_forbids, false);
        // A rule that cannot be evaluated denies, also when it is a permit.
        let lacks = |permits: bool, failing: bool| {
            let of =
                open.iter().filter(|(_, rule)| rule.permit == permits && (!failing || rule.condition.as_deref().is_some_and(may_fail)));
            of.flat_map(|(_, rule)| known.lacks(rule)).collect::<Vec<String>>()
        };
        let mut unknown = match verdict.why {
            Some(why @ (Why::Forbidden | Why::PolicyError)) => return Replayed::Denied(why, names(verdict.deciders)),
            None => [lacks(false, false), lacks(true, true)].concat(),
            Some(_) if lacks(true, false).is_empty() => Vec::new(),
            Some(_) => [lacks(true, false), lacks(false, false)].concat(),
        };
        unknown.sort();
        unknown.dedup();
        match verdict.why {
            _ if !unknown.is_empty() => Replayed::Unknown(unknown),
            None => Replayed::Allowed(names(verdict.deciders)),
            Some(why) => Replayed::Denied(why, names(verdict.deciders)),
        }
    }
}

impl Recorded<'_> {
    /// What the rule looks at and is not known.
    fn lacks(&self, rule: &Rule) -> Vec<String> {
        let Some(condition) = &rule.condition else { return Vec::new() };
        let mut looks = Looks::default();
        looks.look(condition);
        let mut lacking = Vec::new();
        for name in &rule.needs.attributes {
            // One that the noun does not have is not there.
            let has = self.noun.attributes.iter().any(|attribute| attribute.name == name);
            let told = self.attributes.iter().any(|(known, _)| known == name) || self.absent.iter().any(|absent| absent == name);
            if has && !told {
                lacking.push(format!("resource.{name}"));
            }
        }
        let unknown = |list: &[&str], name: &String| list.contains(&name.as_str());
        lacking.extend(looks.principal.iter().filter(|name| unknown(self.unknown_principal, name)).map(|name| format!("principal.{name}")));
        lacking
            .extend(looks.session.iter().filter(|name| unknown(self.unknown_session, name)).map(|name| format!("context.session.{name}")));
        lacking.extend(looks.context.iter().filter(|name| unknown(&self.unknown_context, name)).map(|name| format!("context.{name}")));
        let tags = |part: &Expr| matches!(part.expr_kind(), ExprKind::BinaryApp { op: BinaryOp::GetTag | BinaryOp::HasTag, .. });
        if self.untold_tags && condition.subexpressions().any(tags) {
            lacking.push("the values of context.environment".to_owned());
        }
        if looks.whole && !(self.unknown_context.is_empty() && self.unknown_session.is_empty() && self.unknown_principal.is_empty()) {
            lacking.push("context".to_owned());
        }
        lacking
    }
}

/// What a condition looks at besides the resource.
#[derive(Debug, Default)]
struct Looks {
    principal: BTreeSet<String>,
    context: BTreeSet<String>,
    session: BTreeSet<String>,
    /// `context` or `context.session` as a whole, or attributes of what is computed.
    whole: bool,
}

impl Looks {
    fn look(&mut self, expr: &Expr) {
        match expr.expr_kind() {
            ExprKind::Var(Var::Context) => self.whole = true,
            ExprKind::GetAttr { expr: inner, attr } | ExprKind::HasAttr { expr: inner, attr } => self.attribute(inner, attr, None),
            ExprKind::ExtHasAttr { expr: inner, attrs } => {
                let mut names = attrs.iter();
                let (first, second) = (names.next().map_or("", |name| name.as_str()), names.next().map(|name| name.as_str()));
                self.attribute(inner, first, second);
            }
            ExprKind::If { test_expr, then_expr, else_expr } => {
                [test_expr, then_expr, else_expr].into_iter().for_each(|part| self.look(part))
            }
            ExprKind::And { left, right } | ExprKind::Or { left, right } => [left, right].into_iter().for_each(|part| self.look(part)),
            ExprKind::UnaryApp { arg, .. } => self.look(arg),
            ExprKind::BinaryApp { arg1, arg2, .. } => [arg1, arg2].into_iter().for_each(|part| self.look(part)),
            ExprKind::ExtensionFunctionApp { args, .. } => args.iter().for_each(|part| self.look(part)),
            ExprKind::Like { expr, .. } | ExprKind::Is { expr, .. } => self.look(expr),
            ExprKind::Set(items) => items.iter().for_each(|part| self.look(part)),
            ExprKind::Record(pairs) => pairs.values().for_each(|part| self.look(part)),
            ExprKind::Lit(_) | ExprKind::Var(_) | ExprKind::Slot(_) | ExprKind::Unknown(_) => {}
        }
    }

    /// `inner.first`, or `inner has first.second`.
    fn attribute(&mut self, inner: &Expr, first: &str, second: Option<&str>) {
        match (inner.expr_kind(), second) {
            (ExprKind::Var(Var::Principal), _) => drop(self.principal.insert(first.to_owned())),
            (ExprKind::Var(Var::Resource | Var::Action), _) => {}
            (ExprKind::Var(Var::Context), Some(second)) if first == "session" => drop(self.session.insert(second.to_owned())),
            (ExprKind::Var(Var::Context), _) if first == "session" => self.whole = true,
            (ExprKind::Var(Var::Context), _) => drop(self.context.insert(first.to_owned())),
            (ExprKind::GetAttr { expr, attr }, _) if attr == "session" && matches!(expr.expr_kind(), ExprKind::Var(Var::Context)) => {
                self.session.insert(first.to_owned());
            }
            _ => self.look(inner),
        }
    }
}

/// Whether evaluating it can be an error, of what strict validation lets through: numbers that grow too large, and what is read from text.
fn may_fail(condition: &Expr) -> bool {
    condition.subexpressions().any(|part| {
        matches!(
            part.expr_kind(),
            ExprKind::BinaryApp { op: BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::GetTag, .. }
                | ExprKind::UnaryApp { op: UnaryOp::Neg, .. }
                | ExprKind::ExtensionFunctionApp { .. }
        )
    })
}
