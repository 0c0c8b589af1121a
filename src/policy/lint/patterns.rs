//! Lints of `like`: patterns that match more than they look like. Each finding comes with a text that the rule really would let through.

use super::{Item, Note, View, place_of};
use crate::policy::pattern::Glob;
use crate::policy::possible::{self, Case, Constant, Statement, What, Work};
use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, UnaryOp, Var};

/// Patterns of one rule that are looked at.
const PATTERNS: usize = 64;

pub(super) fn look(view: &View<'_>, item: &Item<'_>, notes: &mut Vec<Note>) {
    let Some(condition) = item.rule.condition.as_deref() else { return };
    let mut found = Vec::new();
    exposing(condition, item.rule.permit, &mut found);
    if found.is_empty() {
        return;
    }
    view.work.begin();
    // What a permit lets through, or a forbid spares.
    let cases = match item.rule.permit {
        true => item.shape.cases.clone(),
        false => possible::cases(condition, false, &view.work),
    };
    let Some(cases) = cases else { return };
    for part in found.into_iter().take(PATTERNS) {
        let ExprKind::Like { expr, pattern } = part.expr_kind() else { continue };
        let Some(of) = dotted(expr) else { continue };
        let glob = Glob::of(pattern);
        let found = surprises(&of, &glob).into_iter().find(|surprise| lets_through(&cases, &of, &glob, &surprise.text, &view.work));
        if let Some(surprise) = found {
            let message = format!("{} also matches `{}`: {}", glob.written(), surprise.text.escape_debug(), surprise.why);
            notes.push(Note::new(surprise.lint, message).at(place_of(part)).help(surprise.help));
        }
    }
}

/// The patterns that widen what the rule lets through: those of a permit that must hold, those of a forbid that must not.
fn exposing<'a>(expr: &'a Expr, positive: bool, found: &mut Vec<&'a Expr>) {
    match expr.expr_kind() {
        ExprKind::Like { .. } if positive => found.push(expr),
        ExprKind::And { left, right } | ExprKind::Or { left, right } => {
            [left, right].into_iter().for_each(|part| exposing(part, positive, found))
        }
        ExprKind::UnaryApp { op: UnaryOp::Not, arg } => exposing(arg, !positive, found),
        ExprKind::If { then_expr, else_expr, .. } => [then_expr, else_expr].into_iter().for_each(|part| exposing(part, positive, found)),
        ExprKind::BinaryApp { op: BinaryOp::Eq, arg1, arg2 } => {
            for (one, other) in [(arg1, arg2), (arg2, arg1)] {
                if let ExprKind::Lit(Literal::Bool(bool)) = other.expr_kind() {
                    exposing(one, positive == *bool, found);
                }
            }
        }
        _ => {}
    }
}

/// `resource.path` and the like.
fn dotted(expr: &Expr) -> Option<String> {
    match expr.expr_kind() {
        ExprKind::Var(Var::Resource) => Some("resource".to_owned()),
        ExprKind::Var(Var::Context) => Some("context".to_owned()),
        ExprKind::GetAttr { expr, attr } => Some(format!("{}.{attr}", dotted(expr)?)),
        _ => None,
    }
}

/// Whether some case that has this pattern lets the text through.
fn lets_through(cases: &[Case], of: &str, glob: &Glob, text: &str, work: &Work) -> bool {
    let pattern = Statement::new(of, What::Like(glob.clone()), true);
    let mut more = possible::equal(of, vec![Constant::Text(text.to_owned())], true);
    if of == "context.argv" {
        let words = i64::try_from(text.split_whitespace().count()).unwrap_or(i64::MAX);
        more.extend(possible::equal("context.argc", vec![Constant::Number(words)], true));
    }
    cases.iter().filter(|case| case.contains(&pattern)).any(|case| {
        let whole: Case = case.iter().chain(&more).cloned().collect();
        possible::contradiction(&whole, work).is_none()
    })
}

/// A text that a pattern matches and that its author may not have thought of.
struct Surprise {
    lint: &'static str,
    text: String,
    why: &'static str,
    help: String,
}

fn surprises(of: &str, glob: &Glob) -> Vec<Surprise> {
    match of.rsplit('.').next().unwrap_or("") {
        "path" | "parent_path" => of_path(glob),
        "url" => of_url(glob),
        "hostname" => of_hostname(glob),
        "argv" => of_arguments(glob),
        _ => Vec::new(),
    }
}

/// The pattern with the wildcard of this number replaced by one text, and the others by another.
fn filled(glob: &Glob, number: usize, with: &str, others: &str) -> String {
    let mut seen = 0;
    let mut out = String::new();
    for element in glob.elements() {
        match element {
            Some(c) => out.push(*c),
            None => {
                out.push_str(if seen == number { with } else { others });
                seen += 1;
            }
        }
    }
    out
}

/// Each wildcard: its number, its place, what stands before it.
fn wildcards(glob: &Glob) -> Vec<(usize, usize, Option<char>)> {
    let elements = glob.elements();
    let places = elements.iter().enumerate().filter(|(_, element)| element.is_none()).map(|(at, _)| at);
    places
        .enumerate()
        .map(|(number, at)| (number, at, at.checked_sub(1).and_then(|before| elements.get(before).copied().flatten())))
        .collect()
}

fn of_path(glob: &Glob) -> Vec<Surprise> {
    // What begins with `*` says of no place that it is one.
    if glob.elements().first() != Some(&Some('/')) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (number, at, before) in wildcards(glob) {
        let last = at + 1 == glob.len();
        match before {
            Some(c) if last && c.is_alphanumeric() => {
                let begins = filled(glob, number, "", "*");
                found.push(Surprise {
                    lint: "pattern-prefix",
                    text: filled(glob, number, "-x/y", "x"),
                    why: "nothing ends the name before `*`",
                    help: format!("like \"{begins}/*\" or resource in file_system::Dir::\"{begins}\" for what lies in it"),
                });
            }
            Some(_) if !last || before != Some('/') => found.push(Surprise {
                lint: "pattern-crosses-folders",
                text: filled(glob, number, "x/y", "x"),
                why: "`*` stands for `/` too, at any depth",
                help: format!("if only one folder is meant, add: && !(resource.path like \"{}\")", filled(glob, number, "*/*", "*")),
            }),
            _ => {}
        }
    }
    found
}

fn of_url(glob: &Glob) -> Vec<Surprise> {
    let elements = glob.elements();
    let text: String = elements.iter().map(|element| element.unwrap_or('*')).collect();
    let help = "name the scheme and the whole host, and end it: like \"https://api.example.com/*\"".to_owned();
    let why = "`*` stands for `/` too, so the host is not fixed";
    let surprise = |text: String| vec![Surprise { lint: "pattern-host", text, why, help: help.clone() }];
    let authority = text.find("://").map(|at| at + 3);
    let Some((number, at, before)) = wildcards(glob).into_iter().next() else { return Vec::new() };
    match authority {
        // `*example.com*`, `http*://…`
        None => surprise(filled(glob, number, "https://evil.example/", "")),
        Some(start) if elements.iter().take(at).filter_map(|element| *element).collect::<String>().len() < start => {
            surprise(filled(glob, number, if at == 0 { "https://evil.example/" } else { "://evil.example/" }, ""))
        }
        Some(start) => {
            let before_it: String = elements.iter().take(at).filter_map(|element| *element).collect();
            if before_it.get(start..).is_none_or(|host| host.contains(['/', '?', '#'])) {
                return Vec::new();
            }
            let last = at + 1 == glob.len();
            let with = match before {
                Some(':') => "x@evil.example/",
                Some('/') => "evil.example/x",
                Some('.') => "evil.example/",
                _ if last => ".evil.example/",
                _ => "evil.example/",
            };
            surprise(filled(glob, number, with, ""))
        }
    }
}

fn of_hostname(glob: &Glob) -> Vec<Surprise> {
    let help = "write names whole, or with a dot behind the first `*`: like \"*.example.com\"".to_owned();
    let mut found = Vec::new();
    for (number, at, before) in wildcards(glob) {
        let next = glob.elements().get(at + 1).copied().flatten();
        let (with, why) = match (before, next) {
            (None, Some(c)) if c != '.' => ("evil", "nothing separates `*` from the name"),
            (Some('.'), None) => ("evil.example", "what a name ends with says whose it is"),
            (Some(_), None) => (".evil.example", "what a name ends with says whose it is"),
            _ => continue,
        };
        found.push(Surprise { lint: "pattern-host", text: filled(glob, number, with, "x"), why, help: help.clone() });
    }
    found
}

fn of_arguments(glob: &Glob) -> Vec<Surprise> {
    wildcards(glob)
        .into_iter()
        .map(|(number, ..)| Surprise {
            lint: "pattern-arguments",
            text: filled(glob, number, "x y", "x"),
            why: "`*` takes in further arguments",
            help: format!("say how many there are: && context.argc == {}", filled(glob, number, "x", "x").split_whitespace().count()),
        })
        .collect()
}
