//! Lints of paths: such as no canonical path ever is, links, missing ones, files that are folders on this host.

use super::{Item, Note, Span, View, place_of};
use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, PatternElem};

/// What a host says of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The path without links, as far as something is there.
    pub real: String,
    pub exists: bool,
    pub folder: bool,
    /// What lets others than root change what the path leads to: itself, or a folder on the way.
    pub open: Option<String>,
}

/// The host that policies are for.
pub trait Host: Sync {
    /// None when it cannot be known.
    fn look(&self, path: &str) -> Option<Found>;
}

/// A path in a rule: the entity type where it is the id of one, and its place.
type Named = (String, Option<&'static str>, Option<Span>);

pub(super) fn look(view: &View<'_>, item: &Item<'_>, notes: &mut Vec<Note>) {
    let mut paths: Vec<Named> = Vec::new();
    super::broad::entities(item, &mut |uid, place| {
        letters(uid, place, notes);
        let kind = match uid.entity_type().to_string().as_str() {
            "file_system::File" => "file_system::File",
            "file_system::Dir" => "file_system::Dir",
            _ => return,
        };
        paths.push((AsRef::<str>::as_ref(uid.eid()).to_owned(), Some(kind), place));
    });
    for part in item.rule.condition.iter().flat_map(|condition| condition.subexpressions()) {
        match part.expr_kind() {
            ExprKind::BinaryApp { op: BinaryOp::Eq, arg1, arg2 } => {
                for (left, right) in [(arg1, arg2), (arg2, arg1)] {
                    if let ExprKind::Lit(Literal::String(text)) = right.expr_kind()
                        && is_path(left)
                    {
                        paths.push((text.to_string(), None, place_of(right).or_else(|| place_of(part))));
                    }
                }
            }
            ExprKind::BinaryApp { op: BinaryOp::Contains, arg1, arg2 } if is_path(arg2) => {
                let ExprKind::Set(listed) = arg1.expr_kind() else { continue };
                for one in listed.iter() {
                    if let ExprKind::Lit(Literal::String(text)) = one.expr_kind() {
                        paths.push((text.to_string(), None, place_of(one).or_else(|| place_of(part))));
                    }
                }
            }
            ExprKind::Like { expr, pattern } if is_path(expr) => like(view, item, part, pattern, notes),
            _ => {}
        }
    }
    for (path, kind, place) in paths {
        if let Some(right) = canonical(&path) {
            let message = format!("`{}` is no canonical path, so {}", path.escape_debug(), never(item));
            notes.push(Note::new("not-canonical", message).at(place).help(instead(&path, &right)));
        } else if let Some(found) = view.around.host.and_then(|host| host.look(&path)) {
            here(view, item, &path, kind, place, &found, notes);
        }
    }
}

/// What to write in place of a path that is not canonical.
fn instead(path: &str, right: &str) -> String {
    if path.starts_with('~') {
        "write the whole path, beginning with `/`; `~` is not expanded".to_owned()
    } else if path.contains('\\') || path.chars().nth(1) == Some(':') {
        "write a path of this host, beginning with `/`, with `/` between its parts".to_owned()
    } else if path.is_empty() {
        "write the whole path; the folder of all is \"/\"".to_owned()
    } else {
        format!("write \"{}\"", right.escape_debug())
    }
}

/// Ids in which a wildcard is meant, and units without their kind.
fn letters(uid: &cedar_policy_core::ast::EntityUID, place: Option<Span>, notes: &mut Vec<Note>) {
    let (kind, id) = (uid.entity_type().to_string(), AsRef::<str>::as_ref(uid.eid()));
    if id.contains('*') {
        let message = format!("`*` in `{}` is a letter, not a wildcard: the name of one thing is meant", id.escape_debug());
        let help = match kind.as_str() {
            "file_system::File" => {
                let folder = id.split('*').next().unwrap_or("").rsplit_once('/').map_or("", |(folder, _)| folder);
                let folder = if folder.is_empty() { "/" } else { folder };
                format!(
                    "write resource in file_system::Dir::\"{}\", and when {{ resource.path like \"{}\" }}",
                    folder.escape_debug(),
                    id.escape_debug()
                )
            }
            "User" | "Group" => "name each, or put them in one group".to_owned(),
            _ => format!("only `like` has wildcards: resource is {kind}, and when {{ … like \"{}\" }}", id.escape_debug()),
        };
        notes.push(Note::new("literal-wildcard", message).at(place).help(help));
    }
    if matches!(kind.as_str(), "systemd::Service" | "systemd::Unit") && !id.contains(['.', '*']) && !id.is_empty() {
        let message = format!("`{}` is no name of a unit: units are asked about with their kind", id.escape_debug());
        let help = format!("write {kind}::\"{}.service\"", id.escape_debug());
        notes.push(Note::new("unit-kind", message).at(place).help(help));
    }
}

fn never(item: &Item<'_>) -> &'static str {
    if item.rule.permit { "nothing is ever permitted by it" } else { "nothing is ever forbidden by it" }
}

fn is_path(expr: &Expr) -> bool {
    match expr.expr_kind() {
        ExprKind::GetAttr { expr, attr } => match AsRef::<str>::as_ref(attr) {
            "path" => matches!(expr.expr_kind(), ExprKind::Var(_) | ExprKind::GetAttr { .. }),
            "parent_path" => true,
            _ => false,
        },
        _ => false,
    }
}

/// What the path would be in canonical form, where it is not.
fn canonical(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let right = format!("/{}", parts.join("/"));
    (right != path).then_some(right)
}

/// Only what stands before the first `*` says where it is.
fn like(view: &View<'_>, item: &Item<'_>, part: &Expr, pattern: &cedar_policy_core::ast::Pattern, notes: &mut Vec<Note>) {
    let elements = pattern.get_elems();
    let text: String = elements.iter().map(|element| if let PatternElem::Char(c) = element { *c } else { '\0' }).collect();
    let begins = text.split('\0').next().unwrap_or("");
    let odd = ["//", "/./", "/../"].iter().find(|odd| text.contains(**odd));
    let relative = !text.starts_with(['/', '\0']);
    if let Some(odd) = odd {
        let message = format!("a canonical path never has `{odd}` in it, so {}", never(item));
        notes.push(Note::new("not-canonical", message).at(place_of(part)).help("write the path as it is without links and dots"));
    } else if relative {
        let message = format!("a canonical path begins with `/`, so {}", never(item));
        notes.push(Note::new("not-canonical", message).at(place_of(part)).help("write the whole path, or begin with `*`"));
    } else if text.contains('?') || text.split_once('[').is_some_and(|(_, rest)| rest.contains(']')) {
        let message = "only `*` is a wildcard of `like`; `?` and `[…]` are letters";
        let help = "write `*`, or name each text: like \"…\" || like \"…\"";
        notes.push(Note::new("literal-wildcard", message).at(place_of(part)).help(help));
    } else if let Some(host) = view.around.host
        && let Some((folder, rest)) = begins.rsplit_once('/')
        && !folder.is_empty()
        && let Some(found) = host.look(folder)
        && found.real != folder
    {
        let message =
            format!("`{folder}` is a link to `{}` on this host, and rules are about canonical paths: {}", found.real, never(item));
        notes.push(Note::new("link", message).at(place_of(part)).help(format!("begin with \"{}/{rest}\"", found.real)));
    }
}

fn here(
    view: &View<'_>,
    item: &Item<'_>,
    path: &str,
    kind: Option<&'static str>,
    place: Option<Span>,
    found: &Found,
    notes: &mut Vec<Note>,
) {
    if found.real != path {
        let message =
            format!("`{path}` goes through a link on this host, to `{}`, and rules are about canonical paths: {}", found.real, never(item));
        notes.push(Note::new("link", message).at(place).help(format!("write \"{}\"", found.real.escape_debug())));
    } else if !found.exists {
        // What is yet to be made need not be there, and to forbid what may come is prudent.
        let makes = item.shape.verbs.iter().filter_map(|number| view.verbs.get(*number)).any(|verb| verb.uid.id == "create");
        if item.rule.permit && !makes {
            notes.push(Note::new("missing", format!("there is no `{path}` on this host")).at(place));
        }
    } else if let Some(kind) = kind
        && (kind == "file_system::Dir") != found.folder
    {
        let (is, right) = if found.folder { ("a folder", "file_system::Dir") } else { ("no folder", "file_system::File") };
        let message = format!("`{path}` is {is} on this host, so {}", never(item));
        notes.push(Note::new("wrong-kind", message).at(place).help(format!("write {right}::\"{}\"", path.escape_debug())));
    }
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn canonical_paths_are_left_alone() {
        for path in ["/", "/a", "/a/b.c", "/a/..b", "/.a"] {
            assert_eq!(canonical(path), None, "{path}");
        }
        for (path, right) in
            [("/a/", "/a"), ("/a//b", "/a/b"), ("/a/./b", "/a/b"), ("/a/../b", "/b"), ("a", "/a"), ("", "/"), ("/..", "/"), ("//", "/")]
        {
            assert_eq!(canonical(path).as_deref(), Some(right), "{path}");
        }
    }
}
