//! A question for a test of policies: the answer of [`Gate::judge`] with everything that it hangs on. Nothing is done by it.

use super::judge::{holds, truth};
use super::named::{Folder, folder_of};
use super::{Gate, Open, Question};
use crate::error::{Denial, Why};
use crate::policy::slice::{Rule, Thing, Verb};
use crate::policy::words::{Ask, Site, Value};
use cedar_policy_core::ast::{Expr, ExprKind, UnaryOp, Var};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use std::collections::BTreeSet;

/// The answer to a test's question.
#[derive(Clone, Debug)]
pub(in crate::policy) struct Trial {
    /// None: allowed.
    pub why: Option<Why>,
    /// Whether that is because the place is closed whatever a policy says.
    pub closed: bool,
    /// What the caller is told of a denial.
    pub told: Option<Denial>,
    /// Names of the rules that decided.
    pub by: Vec<String>,
    /// Why a rule could not be evaluated, or why the place is closed.
    pub note: Option<String>,
    /// The question that was denied, in Cedar notation, where it is not the test's own: `open`.
    pub instead: Option<String>,
    /// Permits in question whose condition does not hold: name, and the first part of the condition that is false.
    pub unmet: Vec<(String, String)>,
}

/// What the conditions of the rules in question look at besides the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::policy) struct Looks {
    /// Attributes of the principal.
    pub principal: BTreeSet<String>,
    /// Of the context, `session` aside.
    pub context: BTreeSet<String>,
    /// Of `context.session`.
    pub session: BTreeSet<String>,
    /// `context` as a whole.
    pub whole_context: bool,
}

impl Gate {
    /// The answer to this question. Nothing is recorded or counted towards a run.
    pub(in crate::policy) fn trial(&self, ask: &Ask, needs_open: bool, thing: &dyn Thing, context: &[(&'static str, Value)]) -> Trial {
        let closed = (self.rules.closed)(ask, thing.noun().name, thing.id()).is_some();
        let full = self.judge(ask, needs_open, thing, context);
        let asks = [*ask];
        let site = Site { function: "rex policy test", asks: &asks, line: 0, column: 0 };
        let kind = thing.noun().name;
        let question = Question {
            site: &site,
            ask,
            thing,
            context,
            needs_open,
            kind,
            id: thing.id(),
            shown_as: kind,
            shown: thing.id(),
            attributes: &[],
            remembered: false,
        };
        let told = full.verdict.why.and_then(|_| self.deny(&question, &full, false).denial).map(|denial| *denial);
        let instead = full.instead.as_ref().map(|(action, on)| match on {
            Some((kind, id)) => format!("{action} on {}", super::values::written(kind, id)),
            None => action.clone(),
        });
        let unmet = if full.verdict.why.is_some() && !closed { self.all_unmet(ask, needs_open, thing, context) } else { Vec::new() };
        Trial {
            why: full.verdict.why,
            closed,
            told,
            by: self.names(&full.verdict.deciders).into_iter().map(str::to_owned).collect(),
            note: full.verdict.note,
            instead,
            unmet,
        }
    }

    /// What the conditions of the rules in question look at.
    pub(in crate::policy) fn looks(&self, ask: &Ask, needs_open: bool, thing: &dyn Thing) -> Looks {
        let mut looks = Looks::default();
        for (_, rule) in self.in_question(ask, needs_open, thing) {
            rule.condition.iter().for_each(|condition| looks.look(condition));
        }
        looks
    }

    /// The rules that concern the verb on this thing, and `open` on it and on its folder, where those are asked too.
    fn in_question(&self, ask: &Ask, needs_open: bool, thing: &dyn Thing) -> Vec<(u32, &Rule)> {
        let slice = &self.policies.slice;
        let mut found: Vec<u32> = Vec::new();
        if let Some(verb) = slice.verb(ask.namespace, ask.name) {
            found.extend(slice.candidates(verb, thing));
        }
        if let Some(open) = slice.verb("file_system", "open").filter(|_| needs_open) {
            found.extend(slice.candidates(open, thing).into_iter().filter(|index| self.matters_to_open(*index)));
            if let Some((above, id)) = folder_of(thing) {
                let on_folder = slice.candidates(open, &Folder { id: &id, above: &above });
                found.extend(on_folder.into_iter().filter(|index| self.matters_to_open(*index)));
            }
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|index| Some((index, slice.rule(index)?))).collect()
    }

    fn matters_to_open(&self, index: u32) -> bool {
        self.rules.open == Open::Explicit || self.policies.slice.rule(index).is_some_and(|rule| !rule.permit)
    }

    /// Permits whose condition is false, with the part that is.
    fn all_unmet(&self, ask: &Ask, needs_open: bool, thing: &dyn Thing, context: &[(&'static str, Value)]) -> Vec<(String, String)> {
        let slice = &self.policies.slice;
        let Some(verb) = slice.verb(ask.namespace, ask.name) else { return Vec::new() };
        let mut found = self.unmet_of(verb, thing, context);
        if let Some(open) = slice.verb("file_system", "open").filter(|_| needs_open && self.rules.open == Open::Explicit) {
            found.extend(self.unmet_of(open, thing, &[]));
            if let Some((above, id)) = folder_of(thing) {
                found.extend(self.unmet_of(open, &Folder { id: &id, above: &above }, &[]));
            }
        }
        found.dedup();
        found
    }

    fn unmet_of(&self, verb: &Verb, thing: &dyn Thing, context: &[(&'static str, Value)]) -> Vec<(String, String)> {
        let slice = &self.policies.slice;
        let permits: Vec<&Rule> = slice
            .candidates(verb, thing)
            .into_iter()
            .filter_map(|index| slice.rule(index))
            .filter(|rule| rule.permit && rule.condition.is_some())
            .collect();
        let Ok((request, entities)) = self.prepare(verb, thing, context, permits.iter().map(|rule| &rule.needs)) else { return Vec::new() };
        let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
        permits
            .into_iter()
            .filter(|rule| holds(rule, Some(&evaluator)) == Some(false))
            .filter_map(|rule| Some((rule.name.clone(), false_part(rule.condition.as_ref()?, &evaluator)?)))
            .collect()
    }
}

/// The first part of `a && b && c` that is false, as its author wrote it.
fn false_part(condition: &Expr, evaluator: &Evaluator<'_>) -> Option<String> {
    if truth(condition, evaluator)? {
        return None;
    }
    match condition.expr_kind() {
        ExprKind::And { left, right } => false_part(left, evaluator).or_else(|| false_part(right, evaluator)),
        // `unless { … }` has no text of its own as a whole.
        ExprKind::UnaryApp { op: UnaryOp::Not, arg } if condition.source_loc().is_none() => Some(format!("unless {{ {} }}", text_of(arg)?)),
        _ => text_of(condition),
    }
}

/// Longest part of a condition that is shown, in characters.
const SHOWN: usize = 160;

/// The text of a part on one line.
fn text_of(part: &Expr) -> Option<String> {
    let text = part.source_loc().and_then(|loc| loc.snippet())?.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut = text.char_indices().nth(SHOWN).map(|(at, _)| at);
    Some(cut.and_then(|at| text.get(..at)).map_or_else(|| text.clone(), |start| format!("{start}…")))
}

impl Looks {
    fn look(&mut self, condition: &Expr) {
        let mut taken = 0_usize;
        let mut mentioned = 0_usize;
        for part in condition.subexpressions() {
            match part.expr_kind() {
                ExprKind::Var(Var::Context) => mentioned += 1,
                ExprKind::GetAttr { expr, attr } | ExprKind::HasAttr { expr, attr } => self.attribute(expr, &[attr.as_str()], &mut taken),
                ExprKind::ExtHasAttr { expr, attrs } => {
                    self.attribute(expr, &attrs.iter().map(|attr| attr.as_str()).collect::<Vec<_>>(), &mut taken)
                }
                _ => {}
            }
        }
        self.whole_context |= mentioned > taken;
    }

    /// `expr.names…`
    fn attribute(&mut self, expr: &Expr, names: &[&str], taken: &mut usize) {
        let first = names.first().copied().unwrap_or("");
        match expr.expr_kind() {
            ExprKind::Var(Var::Principal) => {
                self.principal.insert(first.to_owned());
            }
            ExprKind::Var(Var::Context) => {
                *taken += 1;
                match (first, names.get(1)) {
                    ("session", Some(name)) => {
                        self.session.insert((*name).to_owned());
                    }
                    ("session", None) => {}
                    _ => {
                        self.context.insert(first.to_owned());
                    }
                }
            }
            ExprKind::GetAttr { expr, attr } if matches!(expr.expr_kind(), ExprKind::Var(Var::Context)) && attr == "session" => {
                self.session.insert(first.to_owned());
            }
            _ => {}
        }
    }
}
