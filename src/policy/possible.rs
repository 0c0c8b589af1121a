//! Whether a rule can apply at all, and whether a rule takes in another: conditions as cases, and a search for contradictions in each.
//!
//! Sound in one direction only: what is called impossible never happens; of what is not, nothing is known. Everything is bounded by [`Work`].

use super::pattern::Glob;
use super::slice::{Reach, Uid};
use super::values;
use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, UnaryOp, Var};
use std::cell::Cell;

/// Cases of one condition that are looked through at most.
const CASES: usize = 1024;
/// Statements of one case that are compared with one another at most.
const STATEMENTS: usize = 256;
/// Steps for one question.
const ONE: u64 = 2_000_000;
/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// How much may still be done; what is not found out within it counts as possible.
#[derive(Debug)]
pub(super) struct Work {
    all: Cell<u64>,
    one: Cell<u64>,
}

impl Work {
    pub(super) fn new(steps: u64) -> Self {
        Self { all: Cell::new(steps), one: Cell::new(ONE) }
    }
    /// Before each question.
    pub(super) fn begin(&self) {
        self.one.set(ONE);
    }
    /// Whether there is no more to spend on anything.
    pub(super) fn is_over(&self) -> bool {
        self.all.get() == 0
    }
    pub(super) fn spend(&self, steps: u64) -> bool {
        let enough = self.all.get() >= steps && self.one.get() >= steps;
        self.all.set(self.all.get().saturating_sub(steps));
        self.one.set(self.one.get().saturating_sub(steps));
        enough
    }
}

/// A constant of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Constant {
    Text(String),
    /// Also times and durations, in milliseconds.
    Number(i64),
    Bool(bool),
    Entity(Uid),
}

/// What a statement says of its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It is one of these.
    Is(Vec<Constant>),
    Like(Glob),
    /// It is one of these entities or in one of them.
    In(Vec<Uid>),
    /// It is of this entity type.
    Kind(String),
    AtMost(i64),
}

/// `subject` is so, or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// `resource.path`, `principal`, or any expression as text.
    pub of: String,
    pub what: What,
    pub holds: bool,
}

/// Statements that all hold.
pub(super) type Case = Vec<Statement>;

/// Attributes that are the id of their entity, as the docs of the nouns say.
const IDS: &[(&str, &str)] = &[
    ("file_system::File", "path"),
    ("file_system::Dir", "path"),
    ("network::url", "url"),
    ("systemd::Service", "name"),
    ("systemd::Unit", "name"),
    ("journal::Log", "name"),
    ("package_system::Package", "name"),
    ("container_system::Container", "name"),
    ("probe_system::Probe", "name"),
];

impl Statement {
    pub(super) fn new(of: impl Into<String>, what: What, holds: bool) -> Self {
        Self { of: of.into(), what, holds }
    }

    /// As a condition would say it.
    pub(super) fn shown(&self) -> String {
        let not = |text: String| if self.holds { text } else { format!("!({text})") };
        match &self.what {
            What::Is(items) => match items.as_slice() {
                [Constant::Bool(true)] if self.holds => self.of.clone(),
                [Constant::Bool(true)] => format!("!({})", self.of),
                [item] => format!("{} {} {}", self.of, if self.holds { "==" } else { "!=" }, item.shown()),
                items => not(format!("[{}].contains({})", items.iter().map(Constant::shown).collect::<Vec<_>>().join(", "), self.of)),
            },
            What::Like(glob) => not(format!("{} like {}", self.of, glob.written())),
            What::In(uids) => {
                let uids: Vec<String> = uids.iter().map(|uid| values::written(&uid.kind, &uid.id)).collect();
                not(match uids.as_slice() {
                    [one] => format!("{} in {one}", self.of),
                    _ => format!("{} in [{}]", self.of, uids.join(", ")),
                })
            }
            What::Kind(kind) => not(format!("{} is {kind}", self.of)),
            What::AtMost(most) => format!("{} {} {most}", self.of, if self.holds { "<=" } else { ">" }),
        }
    }
}

impl Constant {
    fn of(expr: &Expr) -> Option<Self> {
        match expr.expr_kind() {
            ExprKind::Lit(Literal::Bool(bool)) => Some(Self::Bool(*bool)),
            ExprKind::Lit(Literal::Long(number)) => Some(Self::Number(*number)),
            ExprKind::Lit(Literal::String(text)) => Some(Self::Text(text.to_string())),
            ExprKind::Lit(Literal::EntityUID(uid)) => Some(Self::Entity(Uid::of(uid))),
            ExprKind::ExtensionFunctionApp { fn_name, args } => match (fn_name.to_string().as_str(), args.as_slice()) {
                ("datetime", [text]) => datetime(text_of(text)?).map(Self::Number),
                ("duration", [text]) => duration(text_of(text)?).map(Self::Number),
                _ => None,
            },
            _ => None,
        }
    }
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => format!("\"{}\"", text.escape_debug()),
            Self::Number(number) => number.to_string(),
            Self::Bool(bool) => bool.to_string(),
            Self::Entity(uid) => values::written(&uid.kind, &uid.id),
        }
    }
}

fn text_of(expr: &Expr) -> Option<&str> {
    match expr.expr_kind() {
        ExprKind::Lit(Literal::String(text)) => Some(text.as_str()),
        _ => None,
    }
}

/// Milliseconds since the epoch of Cedar's text form: a date, or a date and a time with an offset.
pub(super) fn datetime(text: &str) -> Option<i64> {
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == 10
    {
        return jiff::tz::TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok().map(jiff::Timestamp::as_millisecond);
    }
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// Milliseconds of Cedar's text form: `-1d2h3m4s5ms`.
fn duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut sum: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let (unit, length) = match rest.as_bytes() {
            [b'm', b's', ..] => (1, 2),
            [b'd', ..] => (DAY, 1),
            [b'h', ..] => (3_600_000, 1),
            [b'm', ..] => (60_000, 1),
            [b's', ..] => (1000, 1),
            _ => return None,
        };
        rest = rest.get(length..)?;
        sum = sum.checked_add(number.checked_mul(unit)?)?;
    }
    Some(sign * sum)
}

/// An expression as the subject of statements.
fn subject(expr: &Expr) -> String {
    match expr.expr_kind() {
        ExprKind::Var(Var::Principal) => "principal".to_owned(),
        ExprKind::Var(Var::Action) => "action".to_owned(),
        ExprKind::Var(Var::Resource) => "resource".to_owned(),
        ExprKind::Var(Var::Context) => "context".to_owned(),
        ExprKind::GetAttr { expr, attr } => format!("{}.{attr}", subject(expr)),
        _ => expr.to_string(),
    }
}

/// The cases in which the condition holds (or does not hold); any of them will do. None where there are too many.
pub(super) fn cases(condition: &Expr, holds: bool, work: &Work) -> Option<Vec<Case>> {
    if !work.spend(1) {
        return None;
    }
    match condition.expr_kind() {
        ExprKind::Lit(Literal::Bool(bool)) => Some(if *bool == holds { vec![Vec::new()] } else { Vec::new() }),
        ExprKind::UnaryApp { op: UnaryOp::Not, arg } => cases(arg, !holds, work),
        ExprKind::And { left, right } if holds => both(cases(left, true, work)?, cases(right, true, work)?, work),
        ExprKind::Or { left, right } if !holds => both(cases(left, false, work)?, cases(right, false, work)?, work),
        ExprKind::And { left, right } | ExprKind::Or { left, right } => either(cases(left, holds, work)?, cases(right, holds, work)?),
        ExprKind::If { test_expr, then_expr, else_expr } => either(
            both(cases(test_expr, true, work)?, cases(then_expr, holds, work)?, work)?,
            both(cases(test_expr, false, work)?, cases(else_expr, holds, work)?, work)?,
        ),
        ExprKind::BinaryApp { op: BinaryOp::Eq, arg1, arg2 } => match (Constant::of(arg1), Constant::of(arg2)) {
            (Some(Constant::Bool(bool)), _) => cases(arg2, bool == holds, work),
            (_, Some(Constant::Bool(bool))) => cases(arg1, bool == holds, work),
            (Some(a), Some(b)) => Some(if (a == b) == holds { vec![Vec::new()] } else { Vec::new() }),
            (Some(constant), None) => Some(vec![is(arg2, vec![constant], holds)]),
            (None, Some(constant)) => Some(vec![is(arg1, vec![constant], holds)]),
            (None, None) => opaque(condition, holds),
        },
        ExprKind::BinaryApp { op: BinaryOp::Contains, arg1, arg2 } => match arg1.expr_kind() {
            ExprKind::Set(items) => match items.iter().map(Constant::of).collect::<Option<Vec<_>>>() {
                Some(items) if items.is_empty() => Some(if holds { Vec::new() } else { vec![Vec::new()] }),
                Some(items) => Some(vec![is(arg2, items, holds)]),
                None => opaque(condition, holds),
            },
            _ => opaque(condition, holds),
        },
        ExprKind::BinaryApp { op: op @ (BinaryOp::Less | BinaryOp::LessEq), arg1, arg2 } => {
            let strict = i64::from(*op == BinaryOp::Less);
            match (Constant::of(arg1), Constant::of(arg2)) {
                (Some(Constant::Number(a)), Some(Constant::Number(b))) => {
                    Some(if (a <= b.saturating_sub(strict)) == holds { vec![Vec::new()] } else { Vec::new() })
                }
                (None, Some(Constant::Number(number))) => {
                    Some(vec![vec![Statement::new(subject(arg1), What::AtMost(number.saturating_sub(strict)), holds)]])
                }
                // n <= x is not (x <= n - 1).
                (Some(Constant::Number(number)), None) => {
                    Some(vec![vec![Statement::new(subject(arg2), What::AtMost(number.saturating_sub(1 - strict)), !holds)]])
                }
                _ => opaque(condition, holds),
            }
        }
        ExprKind::BinaryApp { op: BinaryOp::In, arg1, arg2 } => match uids(arg2) {
            Some(uids) if uids.is_empty() => Some(if holds { Vec::new() } else { vec![Vec::new()] }),
            Some(uids) => Some(vec![within(&subject(arg1), uids, holds)]),
            None => opaque(condition, holds),
        },
        ExprKind::Like { expr, pattern } => Some(vec![vec![Statement::new(subject(expr), What::Like(Glob::of(pattern)), holds)]]),
        ExprKind::Is { expr, entity_type } => Some(vec![vec![Statement::new(subject(expr), What::Kind(entity_type.to_string()), holds)]]),
        _ => opaque(condition, holds),
    }
}

fn opaque(expr: &Expr, holds: bool) -> Option<Vec<Case>> {
    Some(vec![vec![Statement::new(subject(expr), What::Is(vec![Constant::Bool(true)]), holds)]])
}

fn uids(expr: &Expr) -> Option<Vec<Uid>> {
    match expr.expr_kind() {
        ExprKind::Lit(Literal::EntityUID(uid)) => Some(vec![Uid::of(uid)]),
        ExprKind::Set(items) => items.iter().map(uids).collect::<Option<Vec<_>>>().map(|uids| uids.concat()),
        _ => None,
    }
}

fn is(of: &Expr, items: Vec<Constant>, holds: bool) -> Case {
    equal(&subject(of), items, holds)
}

/// That something is one of these. Of an entity that is known by an attribute, the attribute too.
pub(super) fn equal(of: &str, items: Vec<Constant>, holds: bool) -> Case {
    let mut case = Vec::new();
    let ids: Option<Vec<(&str, Constant)>> = items
        .iter()
        .map(|item| match item {
            Constant::Entity(uid) => {
                IDS.iter().find(|(kind, _)| *kind == uid.kind).map(|(_, attribute)| (*attribute, Constant::Text(uid.id.clone())))
            }
            _ => None,
        })
        .collect();
    if let Some(ids) = ids
        && holds
        && let Some((attribute, _)) = ids.first()
        && ids.iter().all(|(other, _)| other == attribute)
    {
        let of = format!("{of}.{attribute}");
        case.push(Statement::new(of, What::Is(ids.into_iter().map(|(_, id)| id).collect()), true));
    }
    case.insert(0, Statement::new(of, What::Is(items), holds));
    case
}

/// That something is in one of these. Nothing is in a `User` but itself.
fn within(of: &str, uids: Vec<Uid>, holds: bool) -> Case {
    if uids.iter().all(|uid| uid.kind == "User") {
        return equal(of, uids.into_iter().map(Constant::Entity).collect(), holds);
    }
    vec![Statement::new(of, What::In(uids), holds)]
}

/// A part of a scope.
pub(super) fn of_reach(of: &str, reach: &Reach) -> Case {
    let uid = |kind: &String, id: &String| Uid { kind: kind.clone(), id: id.clone() };
    match reach {
        Reach::Anything => Vec::new(),
        Reach::Kind(kind) => vec![Statement::new(of, What::Kind(kind.clone()), true)],
        Reach::Exactly(kind, id) => equal(of, vec![Constant::Entity(uid(kind, id))], true),
        Reach::Within(kind, id) => within(of, vec![uid(kind, id)], true),
        Reach::KindWithin(what, kind, id) => {
            let mut case = within(of, vec![uid(kind, id)], true);
            case.push(Statement::new(of, What::Kind(what.clone()), true));
            case
        }
    }
}

/// Every case of one with every case of the other. None where that is too many.
pub(super) fn both(left: Vec<Case>, right: Vec<Case>, work: &Work) -> Option<Vec<Case>> {
    let count = left.len().checked_mul(right.len())?;
    let statements: usize = left.iter().chain(&right).map(Vec::len).sum();
    if count > CASES || !work.spend(count as u64 * (statements as u64 + 1) / (left.len() + right.len()).max(1) as u64) {
        return None;
    }
    // A chain of `&&` has one case: it grows in place.
    match (left.len(), right.len()) {
        (1, 1) => {
            let mut case = left.into_iter().next()?;
            case.extend(right.into_iter().next()?);
            Some(vec![case])
        }
        _ => Some(left.iter().flat_map(|a| right.iter().map(move |b| a.iter().chain(b).cloned().collect())).collect()),
    }
}

fn either(mut left: Vec<Case>, right: Vec<Case>) -> Option<Vec<Case>> {
    left.extend(right);
    (left.len() <= CASES).then_some(left)
}

/// Why no case is possible: two statements of one of them that contradict each other, or none where there is no case at all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Never(pub Option<(Statement, Statement)>);

/// Whether every case is impossible, and why.
pub(super) fn never(cases: &[Case], work: &Work) -> Option<Never> {
    let mut why = None;
    for case in cases {
        let pair = contradiction(case, work)?;
        why.get_or_insert(pair);
    }
    Some(Never(why))
}

/// Two statements of the case that contradict each other.
pub(super) fn contradiction(case: &Case, work: &Work) -> Option<(Statement, Statement)> {
    let case = case.get(..STATEMENTS).unwrap_or(case);
    for (at, first) in case.iter().enumerate() {
        if !work.spend(case.len() as u64) {
            return None;
        }
        if let Some(other) = impossible_alone(first) {
            return Some((first.clone(), other));
        }
        for second in case.iter().skip(at + 1) {
            if contradict(first, second, work) {
                return Some((first.clone(), second.clone()));
            }
        }
        // One of several: each of them may contradict another statement. The one that rules out the last of them is the one that is shown.
        let against = each_of(first).and_then(|mut each| {
            each.try_fold(None, |_, one| case.iter().find(|other| *other != first && contradict(&one, other, work)).map(Some))
        });
        if let Some(Some(last)) = against {
            return Some((first.clone(), last.clone()));
        }
    }
    None
}

/// The single statements of "is one of" and "is in one of", where there are several.
fn each_of(statement: &Statement) -> Option<impl Iterator<Item = Statement> + '_> {
    let many = match &statement.what {
        What::Is(items) => items.len(),
        What::In(uids) => uids.len(),
        _ => 0,
    };
    (statement.holds && many > 1 && many <= STATEMENTS).then(|| {
        (0..many).map(move |at| Statement {
            of: statement.of.clone(),
            what: match &statement.what {
                What::Is(items) => What::Is(items.get(at).cloned().into_iter().collect()),
                What::In(uids) => What::In(uids.get(at).cloned().into_iter().collect()),
                other => other.clone(),
            },
            holds: true,
        })
    })
}

/// What contradicts the statement by itself: every text matches `*`; a time of day is less than a day, and not less than nothing.
fn impossible_alone(statement: &Statement) -> Option<Statement> {
    let most = match &statement.what {
        What::Like(glob) if !statement.holds && glob.covers(&Glob::from_elements(vec![None])) => return Some(statement.clone()),
        What::AtMost(most) if statement.of.ends_with(".toTime()") => most,
        _ => return None,
    };
    let last = Statement::new(&statement.of, What::AtMost(DAY - 1), true);
    let first = Statement::new(&statement.of, What::AtMost(-1), false);
    match statement.holds {
        true if *most < 0 => Some(first),
        false if *most >= DAY - 1 => Some(last),
        _ => None,
    }
}

/// Whether both cannot hold at once.
fn contradict(a: &Statement, b: &Statement, work: &Work) -> bool {
    if !work.spend(1) {
        return false;
    }
    if a.of == b.of {
        return one_sided(a, b, work) || one_sided(b, a, work);
    }
    // A path and the folder that it is in.
    let path_of = |path: &Statement, entity: &Statement| path.of.strip_suffix(".path").is_some_and(|of| of == entity.of);
    path_of(a, b) && misplaced(a, b) || path_of(b, a) && misplaced(b, a)
}

fn one_sided(a: &Statement, b: &Statement, work: &Work) -> bool {
    match (&a.what, a.holds, &b.what, b.holds) {
        (What::Is(some), true, What::Is(others), true) => !some.iter().any(|item| others.contains(item)),
        (What::Is(some), true, What::Is(others), false) => some.iter().all(|item| others.contains(item)),
        (What::Is(items), true, What::Like(glob), holds) => {
            let length: usize = items.iter().map(|item| if let Constant::Text(text) = item { text.len() } else { 0 }).sum();
            work.spend(glob.cost(length)) && items.iter().all(|item| matches!(item, Constant::Text(text) if glob.takes(text) != holds))
        }
        (What::Is(items), true, What::AtMost(most), holds) => {
            items.iter().all(|item| matches!(item, Constant::Number(number) if (number <= most) != holds))
        }
        (What::Is(items), true, What::Kind(kind), holds) => {
            items.iter().all(|item| matches!(item, Constant::Entity(uid) if (uid.kind == *kind) != holds))
        }
        (What::Is(items), true, What::In(uids), holds) => items.iter().all(|item| {
            let Constant::Entity(item) = item else { return false };
            match holds {
                true => uids.iter().all(|uid| place(item, uid) == Some(false)),
                false => uids.iter().any(|uid| place(item, uid) == Some(true)),
            }
        }),
        (What::Like(one), true, What::Like(other), true) => work.spend(one.cost(other.len())) && !one.meets(other),
        (What::Like(one), true, What::Like(other), false) => work.spend(one.cost(other.len())) && other.covers(one),
        (What::AtMost(most), true, What::AtMost(least), false) => most <= least,
        (What::Kind(one), true, What::Kind(other), holds) => (one == other) != holds,
        (What::In(some), true, What::In(others), true) => {
            some.iter().all(|a| others.iter().all(|b| place(a, b) == Some(false) && place(b, a) == Some(false)))
        }
        (What::In(some), true, What::In(others), false) => some.iter().all(|a| others.iter().any(|b| place(a, b) == Some(true))),
        _ => false,
    }
}

/// Whether all that is in `inner` (with itself) is in `outer`: known of the same entity, and of folders and what has a path.
fn place(inner: &Uid, outer: &Uid) -> Option<bool> {
    if inner == outer {
        return Some(true);
    }
    let has_path = |uid: &Uid| matches!(uid.kind.as_str(), "file_system::Dir" | "file_system::File") && uid.id.starts_with('/');
    if !has_path(inner) || !has_path(outer) {
        return None;
    }
    Some(outer.kind == "file_system::Dir" && below(&inner.id, &outer.id))
}

/// Whether the path lies below the folder, at any depth.
pub(super) fn below(path: &str, folder: &str) -> bool {
    match folder {
        "/" => path.len() > 1 && path.starts_with('/'),
        _ => path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')),
    }
}

/// Whether what is said of the path contradicts what is said of the folders it is in.
fn misplaced(path: &Statement, entity: &Statement) -> bool {
    let What::In(folders) = &entity.what else { return false };
    if folders.iter().any(|folder| folder.kind != "file_system::Dir" || !folder.id.starts_with('/')) {
        return false;
    }
    let inside = |folder: &str| if folder == "/" { "/".to_owned() } else { format!("{folder}/") };
    match (&path.what, path.holds, entity.holds) {
        (What::Is(items), true, holds) => items.iter().all(|item| {
            let Constant::Text(path) = item else { return false };
            match holds {
                true => folders.iter().all(|folder| *path != folder.id && !below(path, &folder.id)),
                false => folders.iter().any(|folder| below(path, &folder.id)),
            }
        }),
        (What::Like(glob), true, true) => {
            let begins = glob.begins();
            folders.iter().all(|folder| {
                let inside = inside(&folder.id);
                !begins.starts_with(&inside) && !inside.starts_with(&begins) && !glob.takes(&folder.id)
            })
        }
        (What::Like(glob), true, false) => folders.iter().any(|folder| glob.begins().starts_with(&inside(&folder.id))),
        (What::Like(glob), false, true) => folders.iter().all(|folder| {
            let all: Vec<Option<char>> = inside(&folder.id).chars().map(Some).chain([None]).collect();
            glob.takes(&folder.id) && glob.covers(&Glob::from_elements(all))
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
