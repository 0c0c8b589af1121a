//! Lints of rules beside one another and of conditions against themselves: what never matches, is forbidden anyway, stands there twice.

use super::{Item, Note, View, place_of};
use crate::policy::possible::{self, Case, Never, Statement, What, Work};
use crate::policy::shape;
use crate::policy::slice::Reach;
use cedar_policy_core::ast::{Expr, ExprKind};
use std::collections::HashMap;

/// Alternatives of one condition that are looked at one by one.
const ALTERNATIVES: usize = 256;
/// What the subject of the time is called.
const NOW: &str = "context.session.now";

pub(super) fn among(view: &View<'_>, notes: &mut [Vec<Note>]) {
    let mut never = vec![false; view.items.len()];
    for item in &view.items {
        let Some(list) = notes.get_mut(item.number) else { continue };
        if let Some(why) = item.shape.never(&view.verbs, &view.work) {
            if let Some(never) = never.get_mut(item.number) {
                *never = true;
            }
            list.push(impossible(item, &why));
        } else {
            alternatives(view, item, list);
            always(view, item, list);
            expired(view, item, list);
        }
    }
    let possible = |item: &&Item<'_>| !never.get(item.number).copied().unwrap_or(false);
    let (permits, forbids): (Vec<&Item<'_>>, Vec<&Item<'_>>) = view.items.iter().filter(possible).partition(|item| item.rule.permit);
    everything(view, &forbids, notes);
    let twice = duplicates(view, notes);
    let forbids = ByPrincipal::new(forbids);
    let all = ByPrincipal::new(permits.clone());
    for permit in permits {
        if twice.get(permit.number).copied().unwrap_or(false) {
            continue;
        }
        let Some(list) = notes.get_mut(permit.number) else { continue };
        if let Some(forbid) = forbids.of(permit).find(|forbid| takes_in(view, forbid, permit)) {
            let message =
                format!("this permit never counts: all that it permits, `{}` forbids ({})", forbid.rule.name, place(view, forbid));
            let help = "take it out, or narrow the forbid: a forbid outweighs every permit";
            list.push(Note::new("shadowed", message).help(help));
        } else if let Some(other) = all.of(permit).find(|other| other.number != permit.number && takes_in(view, other, permit)) {
            // Of two that are the same in other words, the later one.
            if other.number < permit.number || !takes_in(view, permit, other) {
                let message = format!("all that this permits, `{}` permits already ({})", other.rule.name, place(view, other));
                list.push(Note::new("redundant", message).help("take one of them out"));
            }
        }
    }
}

fn place(view: &View<'_>, item: &Item<'_>) -> String {
    let file = view.sources.get(item.placed.entry.source as usize).map_or("", |source| source.name.as_str());
    format!("{file}:{}", item.placed.entry.line)
}

fn impossible(item: &Item<'_>, why: &Never) -> Note {
    let effect = item.effect();
    let message = match &why.0 {
        None => format!("this {effect} can never match: its condition is never true"),
        Some((one, other)) if one == other => format!("this {effect} can never match: `{}` never holds", one.shown()),
        Some((one, other)) => format!("this {effect} can never match: `{}` and `{}` do not go together", one.shown(), other.shown()),
    };
    let help = "mend what contradicts, or take the rule out; `||` where either will do";
    Note::new("never-matches", message).at(item.rule.condition.as_deref().and_then(place_of)).help(help)
}

/// Parts of `a || b` that never hold where the rule applies.
fn alternatives(view: &View<'_>, item: &Item<'_>, notes: &mut Vec<Note>) {
    let mut parts: Vec<&Expr> = Vec::new();
    if let Some(condition) = item.rule.condition.as_deref() {
        flatten(condition, &mut parts);
    }
    if parts.len() < 2 {
        return;
    }
    let scope = scope(item);
    for part in parts.into_iter().take(ALTERNATIVES) {
        view.work.begin();
        let cases = possible::cases(part, true, &view.work).and_then(|cases| possible::both(vec![scope.clone()], cases, &view.work));
        if let Some(why) = cases.and_then(|cases| possible::never(&cases, &view.work)) {
            let message = match &why.0 {
                Some((one, other)) if one != other => {
                    format!("this alternative never holds: `{}` and `{}` do not go together", one.shown(), other.shown())
                }
                _ => "this alternative never holds".to_owned(),
            };
            notes.push(Note::new("never-matches", message).at(place_of(part)).help("mend it, or take it out"));
        }
    }
}

fn flatten<'a>(expr: &'a Expr, parts: &mut Vec<&'a Expr>) {
    match expr.expr_kind() {
        ExprKind::Or { left, right } => {
            flatten(left, parts);
            flatten(right, parts);
        }
        _ => parts.push(expr),
    }
}

fn scope(item: &Item<'_>) -> Case {
    let mut scope = possible::of_reach("principal", &item.principal);
    scope.extend(possible::of_reach("resource", &item.rule.reach));
    scope
}

/// Conditions that hold wherever the scope does.
fn always(view: &View<'_>, item: &Item<'_>, notes: &mut Vec<Note>) {
    let Some(condition) = item.rule.condition.as_deref() else { return };
    view.work.begin();
    let cases = possible::cases(condition, false, &view.work).and_then(|cases| possible::both(vec![scope(item)], cases, &view.work));
    if cases.is_some_and(|cases| possible::never(&cases, &view.work).is_some()) {
        let help = "take it out, if it is meant; a condition that says nothing hides what the rule is about";
        notes.push(Note::new("always-true", "this condition holds always").at(place_of(condition)).help(help));
    }
}

/// Rules whose time is over.
fn expired(view: &View<'_>, item: &Item<'_>, notes: &mut Vec<Note>) {
    let (Some(now), Some(cases), true) = (view.around.now, &item.shape.cases, item.rule.needs.time) else { return };
    view.work.begin();
    let later = Statement::new(NOW, What::AtMost(now.saturating_sub(1)), false);
    let cases: Vec<Case> = cases.iter().map(|case| case.iter().cloned().chain([later.clone()]).collect()).collect();
    if possible::never(&cases, &view.work).is_some() {
        let message = format!("the time of this {} is over: it never matches again", item.effect());
        let place = item.rule.condition.as_deref().and_then(place_of);
        notes.push(Note::new("expired", message).at(place).help("take it out, or give it a new time"));
    }
}

/// A forbid for everybody, every action, everything, always.
fn everything(view: &View<'_>, forbids: &[&Item<'_>], notes: &mut [Vec<Note>]) {
    for item in forbids {
        let open = item.rule.reach == Reach::Anything && item.rule.verbs.is_none() && anybody(&item.principal);
        if !open || !holds_always(item, &view.work) {
            continue;
        }
        if let Some(list) = notes.get_mut(item.number) {
            let help = "say whom, what, or when: a forbid outweighs every permit";
            list.push(Note::new("forbids-everything", "this forbids everything to everybody; no permit counts any more").help(help));
        }
    }
}

fn anybody(principal: &Reach) -> bool {
    match principal {
        Reach::Anything => true,
        Reach::Kind(kind) => kind == "User",
        _ => false,
    }
}

fn holds_always(item: &Item<'_>, work: &Work) -> bool {
    let Some(condition) = item.rule.condition.as_deref() else { return true };
    work.begin();
    possible::cases(condition, false, work).is_some_and(|cases| possible::never(&cases, work).is_some())
}

/// Rules with the same effect, scope and condition. Gives those that are a repetition.
fn duplicates(view: &View<'_>, notes: &mut [Vec<Note>]) -> Vec<bool> {
    let mut seen: HashMap<String, &Item<'_>> = HashMap::new();
    let mut twice = vec![false; view.items.len()];
    for item in &view.items {
        let verbs = item.rule.verbs.as_ref().map(|verbs| {
            let mut verbs: Vec<String> = verbs.iter().map(|uid| format!("{}::{:?}", uid.kind, uid.id)).collect();
            verbs.sort();
            verbs
        });
        let condition = item.rule.condition.as_deref().map_or_else(String::new, ToString::to_string);
        let key = format!("{:?}", (item.rule.permit, &item.principal, verbs, &item.rule.reach, condition));
        if let Some(first) = seen.get(&key) {
            if let (Some(list), Some(twice)) = (notes.get_mut(item.number), twice.get_mut(item.number)) {
                *twice = true;
                let message = format!("this is the same rule as `{}` ({})", first.rule.name, place(view, first));
                list.push(Note::new("duplicate", message).help("take one of them out"));
            }
        } else {
            seen.insert(key, item);
        }
    }
    twice
}

/// Rules by the principal of their scope.
struct ByPrincipal<'a> {
    anybody: Vec<&'a Item<'a>>,
    by: HashMap<String, Vec<&'a Item<'a>>>,
}

impl<'a> ByPrincipal<'a> {
    fn new(items: Vec<&'a Item<'a>>) -> Self {
        let (anybody, others): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| self::anybody(&item.principal));
        let mut by: HashMap<String, Vec<&Item<'_>>> = HashMap::new();
        for item in others {
            by.entry(key(&item.principal)).or_default().push(item);
        }
        Self { anybody, by }
    }
    /// Those that concern at least the same callers.
    fn of(&self, item: &Item<'_>) -> impl Iterator<Item = &'a Item<'a>> + '_ {
        self.anybody.iter().chain(self.by.get(&key(&item.principal)).into_iter().flatten()).copied()
    }
}

fn key(principal: &Reach) -> String {
    match principal {
        // All that is in a group is a user.
        Reach::KindWithin(_, kind, id) => format!("in {kind}::{id:?}"),
        Reach::Within(kind, id) => format!("in {kind}::{id:?}"),
        other => format!("{other:?}"),
    }
}

/// Whether the one rule matches wherever the other does. (Where its condition cannot be evaluated, the gate denies.)
fn takes_in(view: &View<'_>, wide: &Item<'_>, narrow: &Item<'_>) -> bool {
    if !view.work.spend(1) {
        view.work.begin();
    }
    let within = narrow.shape.bounds.iter().all(|bound| shape::covers_bound(&wide.rule.reach, bound))
        || shape::covers(&wide.rule.reach, &narrow.rule.reach);
    if !within || narrow.shape.bounds.is_empty() || !subset(&narrow.shape.verbs, &wide.shape.verbs) {
        return false;
    }
    let Some(condition) = wide.rule.condition.as_deref() else { return true };
    // A permit that cannot be evaluated denies by itself; so it is no reason to call another one redundant unless both say the same.
    view.work.begin();
    let Some(cases) = &narrow.shape.cases else { return false };
    let otherwise =
        possible::cases(condition, false, &view.work).and_then(|otherwise| possible::both(cases.clone(), otherwise, &view.work));
    otherwise.is_some_and(|cases| possible::never(&cases, &view.work).is_some())
}

fn subset(few: &[usize], many: &[usize]) -> bool {
    let mut rest = many.iter();
    few.iter().all(|one| rest.any(|other| other == one))
}
