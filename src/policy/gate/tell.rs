//! What a denial tells its caller: why, the author's hint, the nearest permit. A policy that its author hides is as if it were not there.

use super::judge::{Full, Of, Verdict, refused, truth};
use super::{FOLDER, Gate};
use crate::error::{Nearest, Unmet, Why};
use crate::policy::load::on_big_stack;
use crate::policy::slice::{Needs, Reach, Reveal, Rule, Thing};
use crate::policy::values;
use crate::policy::words::{Ask, Noun, Value};
use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, UnaryOp};
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::parser::{Loc, parse_policyset};
use std::sync::Arc;

/// Longest text of a condition in a denial, in characters.
const SHOWN: usize = 400;

/// What is told of a denial.
pub(super) struct Told<'r> {
    pub(super) why: Why,
    /// The rules that it is told of: the forbids that apply, or the permits that are not met.
    pub(super) rules: Vec<&'r Rule>,
    pub(super) retry: bool,
}

impl<'r> Told<'r> {
    fn of(why: Why, rules: Vec<&'r Rule>) -> Self {
        Self { why, retry: rules.iter().any(|rule| rule.needs.time), rules }
    }
    /// The author's words: those of the rule nearest to the thing.
    pub(super) fn hint(&self) -> Option<String> {
        // What the author wrote of a policy that failed is not about why.
        if self.why == Why::PolicyError {
            return None;
        }
        let with = self.rules.iter().filter(|rule| rule.hint.is_some());
        with.max_by_key(|rule| (rule.reach.nearness(), std::cmp::Reverse(rule.name.as_str()))).and_then(|rule| rule.hint.clone())
    }
    /// The id of the nearest forbid, if its author reveals that.
    pub(super) fn forbid(&self) -> Option<String> {
        if self.why != Why::Forbidden {
            return None;
        }
        let open = self.rules.iter().filter(|rule| rule.reveal == Reveal::Rule);
        open.max_by_key(|rule| (rule.reach.nearness(), std::cmp::Reverse(rule.name.as_str()))).map(|rule| rule.name.clone())
    }
}

/// A question as the nearest permit is looked for.
pub(super) struct Asked<'a> {
    pub(super) ask: &'a Ask,
    pub(super) thing: &'a dyn Thing,
    pub(super) context: &'a [(&'static str, Value)],
    /// As the script named it.
    pub(super) shown_as: &'static str,
    pub(super) shown: &'a str,
}

impl Gate {
    /// What is told of a denial.
    pub(super) fn told(&self, verdict: &Verdict) -> Told<'_> {
        let tally = &verdict.tally;
        // No policy says it: a place that is closed, an ask that was not declared.
        if verdict.deciders.is_empty() {
            return Told { why: verdict.why.unwrap_or(Why::NotPermitted), rules: Vec::new(), retry: false };
        }
        let rules = |rules: &[u32]| -> Vec<&Rule> { rules.iter().filter_map(|index| self.policies.slice.rule(*index)).collect() };
        if !tally.forbids.is_empty() {
            return Told::of(Why::Forbidden, rules(&tally.forbids));
        }
        // Of a thing that is not there these say nothing. Who may not look at it in any case is told what is told then.
        if !tally.looking.is_empty() && !tally.permits.is_empty() {
            return Told::of(Why::Forbidden, rules(&tally.looking));
        }
        if tally.looking.is_empty() && !tally.errors.is_empty() {
            return Told::of(Why::PolicyError, rules(&tally.errors));
        }
        Told::of(if tally.unmet.is_empty() { Why::NotPermitted } else { Why::ConditionFailed }, rules(&tally.unmet))
    }

    /// The denial as the caller is to see it: what it would be without the policies that their authors hide. Nothing at all, where it would be none.
    pub(super) fn as_shown(&self, asked: &Asked<'_>, needs_open: bool) -> Full {
        let full = self.judge_by(Of::Shown, asked.ask, needs_open, asked.thing, asked.context);
        if full.verdict.why.is_some() { full } else { Full { verdict: refused(Why::NotPermitted, String::new()), instead: None } }
    }

    /// The nearest permit whose author reveals it, and what of it was not met.
    pub(super) fn nearest(&self, asked: &Asked<'_>, told: &Told<'_>) -> Option<Nearest> {
        match told.why {
            Why::ConditionFailed => {
                let open = told.rules.iter().filter(|rule| rule.permit && rule.reveal == Reveal::Rule);
                let rule = open.max_by_key(|rule| (rule.reach.nearness(), std::cmp::Reverse(rule.name.as_str())))?;
                Some(Nearest { policy: rule.name.clone(), unmet: self.unmet(asked, rule) })
            }
            Why::NotPermitted => self.nearest_elsewhere(asked),
            Why::Forbidden | Why::PolicyError => None,
        }
    }

    /// A permit for the verb that is about other things. By the script's own spelling: it must not tell where a name leads.
    fn nearest_elsewhere(&self, asked: &Asked<'_>) -> Option<Nearest> {
        let slice = &self.policies.slice;
        let verb = slice.verb(asked.ask.namespace, asked.ask.name)?;
        let permits = verb.rules.iter().filter_map(|index| slice.rule(*index)).filter(|rule| rule.permit && rule.reveal != Reveal::None);
        let permits: Vec<&Rule> = permits.collect();
        // Where one seems to be about the thing and still does not permit it, the name of any other would be misleading, or tell of what is hidden.
        if permits.iter().any(|rule| about(&rule.reach, asked.shown_as, asked.shown)) {
            return None;
        }
        let open = permits.into_iter().filter(|rule| rule.reveal == Reveal::Rule);
        let rule = open.max_by_key(|rule| (in_common(&rule.reach, asked.shown), std::cmp::Reverse(rule.name.as_str())))?;
        let condition = match &rule.reach {
            Reach::Anything => return None,
            Reach::Kind(kind) => format!("resource is {kind}"),
            Reach::Exactly(kind, id) => format!("resource == {}", values::written(kind, id)),
            Reach::Within(kind, id) => format!("resource in {}", values::written(kind, id)),
            Reach::KindWithin(what, kind, id) => format!("resource is {what} in {}", values::written(kind, id)),
        };
        let at = format!("{}:{}:{}", rule.place.source, rule.place.line, rule.place.column);
        Some(Nearest { policy: rule.name.clone(), unmet: vec![Unmet { condition, at }] })
    }

    /// The parts of its condition that do not hold. Those that look at what only a thing that is there has are not evaluated: when all others
    /// hold, all of them are named.
    fn unmet(&self, asked: &Asked<'_>, rule: &Rule) -> Vec<Unmet> {
        let noun = asked.thing.noun();
        let mut parts = Vec::new();
        let condition = rule.as_written();
        condition.iter().for_each(|condition| conjuncts(condition, &mut parts));
        let (looking, plain): (Vec<&Expr>, Vec<&Expr>) = parts.into_iter().partition(|part| looks(noun, &Needs::of(part)));
        let show = |parts: Vec<&Expr>| parts.into_iter().map(|part| rule.written(part)).collect::<Vec<_>>();
        if plain.is_empty() {
            return show(looking);
        }
        let Some(verb) = self.policies.slice.verb(asked.ask.namespace, asked.ask.name) else { return Vec::new() };
        let needs: Vec<Needs> = plain.iter().map(|part| Needs::of(part)).collect();
        let Ok((request, entities)) = self.prepare(verb, asked.thing, asked.context, needs.iter()) else {
            return show(looking);
        };
        let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
        let fails = |part: &&Expr| truth(part, &evaluator) == Some(false);
        match plain.into_iter().filter(fails).collect::<Vec<_>>() {
            failed if failed.is_empty() => show(looking),
            failed => show(failed),
        }
    }
}

/// Whether something is looked at that only a thing that is there has.
fn looks(noun: &'static Noun, needs: &Needs) -> bool {
    let fixed = |name: &String| noun.attributes.iter().all(|attribute| attribute.name != name || attribute.fixed);
    !needs.attributes.iter().all(fixed)
}

/// The parts of a condition that must all hold, in their order.
pub(super) fn conjuncts<'e>(condition: &'e Expr, parts: &mut Vec<&'e Expr>) {
    match condition.expr_kind() {
        ExprKind::And { left, right } => {
            conjuncts(left, parts);
            conjuncts(right, parts);
        }
        // Where a policy has no `when`, Cedar puts a `true`, which is nobody's words.
        _ if condition.source_loc().is_none() && matches!(condition.expr_kind(), ExprKind::Lit(_)) => {}
        _ => parts.push(condition),
    }
}

impl Rule {
    /// Whether evaluating it can fail although it is valid: numbers and moments can grow too large.
    pub(super) fn may_fail(&self) -> bool {
        let fails = |part: &Expr| match part.expr_kind() {
            ExprKind::BinaryApp { op, .. } => matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::GetTag),
            ExprKind::UnaryApp { op, .. } => matches!(op, UnaryOp::Neg),
            ExprKind::ExtensionFunctionApp { args, .. } => !args.iter().all(|part| matches!(part.expr_kind(), ExprKind::Lit(_))),
            _ => false,
        };
        self.condition.iter().any(|condition| condition.subexpressions().any(fails))
    }
    /// On what it depends, as far as its author reveals: its conditions as written, or only that it has some.
    pub(in crate::policy) fn when(&self) -> Vec<String> {
        let mut parts = Vec::new();
        let condition = self.as_written();
        condition.iter().for_each(|condition| conjuncts(condition, &mut parts));
        match (self.reveal, &self.hint) {
            (Reveal::Rule, _) if !parts.is_empty() => parts.into_iter().map(|part| self.written(part).condition).collect(),
            (Reveal::Hint, Some(hint)) => vec![format!("conditions ({hint})")],
            _ => vec!["conditions".to_owned()],
        }
    }
    /// The condition with the places of its parts: what comes from the cache has none, and is read from the author's text once more.
    fn as_written(&self) -> Option<Arc<Expr>> {
        let condition = self.condition.as_ref()?;
        let placed = condition.subexpressions().any(|part| part.source_loc().is_some());
        let again = self.place.text.as_ref().filter(|_| !placed).and_then(|text| {
            let read = || Some(parse_policyset(text).ok()?.into_policies().next()?.non_scope_constraints_arc()?.clone());
            on_big_stack(read).ok().flatten()
        });
        Some(again.unwrap_or_else(|| Arc::clone(condition)))
    }
    /// A part of the condition as its author wrote it, with its place.
    pub(super) fn written(&self, part: &Expr) -> Unmet {
        let place = |offset: usize, text: &str| {
            // Places count from where the policy begins: the text at hand may be more than its file.
            let before = text.get(self.start..offset).unwrap_or("");
            let lines = u32::try_from(before.matches('\n').count()).unwrap_or(0);
            let last = u32::try_from(before.rsplit('\n').next().unwrap_or("").chars().count()).unwrap_or(0);
            let column = if lines == 0 { self.place.column.saturating_add(last) } else { last + 1 };
            format!("{}:{}:{column}", self.place.source, self.place.line.saturating_add(lines))
        };
        let loc: Option<&Loc> = part.source_loc();
        let text = loc.and_then(Loc::snippet).map_or_else(|| part.to_string(), str::to_owned);
        let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut condition: String = text.chars().take(SHOWN).collect();
        if condition.len() < text.len() {
            condition.push('…');
        }
        let at = loc.map_or_else(|| place(self.start, ""), |loc| place(loc.start(), &loc.src));
        Unmet { condition, at }
    }
}

/// Whether a rule seems to be about the thing of this name, as its name is written.
fn about(reach: &Reach, kind: &str, id: &str) -> bool {
    let below =
        |folder: &str| id.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || folder.ends_with('/'));
    match reach {
        Reach::Anything => true,
        Reach::Kind(of) => of == kind,
        Reach::Exactly(of, name) => of == kind && name == id,
        Reach::Within(of, name) => (of == kind && name == id) || (of == FOLDER.name && below(name)),
        Reach::KindWithin(what, _, name) => what == kind && below(name),
    }
}

/// How many components of a path, or else characters of an id, it has in common with what the rule is about.
fn in_common(reach: &Reach, shown: &str) -> usize {
    match reach {
        Reach::Anything | Reach::Kind(_) => 0,
        Reach::Exactly(_, id) | Reach::Within(_, id) | Reach::KindWithin(_, _, id) => {
            id.split('/').zip(shown.split('/')).take_while(|(a, b)| a == b).count()
        }
    }
}
