//! Lints of permits that are wider than they need be: everybody, every action, everything, programs that run others, places that all can write.

use super::{Item, Note, Span, View, place_of};
use crate::policy::hull::Bound;
use crate::policy::launchers;
use crate::policy::possible::{self, Case, What};
use crate::policy::slice::Reach;
use cedar_policy_core::ast::{EntityUID, Expr, ExprKind, Var};

/// Entity types of which a host has one thing only, or which are no more than the host itself.
const SINGLE: &[&str] = &[
    "sysctl::Sysctl",
    "systemd::Systemd",
    "sysinfo::Sysinfo",
    "sysinfo::Uname",
    "package_system::Database",
    "container_system::Engine",
    "probe_system::Probes",
];
/// Where everybody can make files (hier(7)).
const OPEN: &[&str] = &["/tmp", "/var/tmp", "/dev/shm", "/run/lock"];
/// Verbs that one message names at most.
const NAMED: usize = 4;

pub(super) fn look(view: &View<'_>, item: &Item<'_>, notes: &mut Vec<Note>) {
    if !item.rule.permit {
        return;
    }
    any_principal(item, notes);
    any_action(item, notes);
    any_resource(view, item, notes);
    if let Some(message) = launchers::warning(&item.rule) {
        let help = "say which arguments: when { context.argv == \"…\" }";
        notes.push(Note::new("runs-others", message).at(item.word("resource")).help(help));
    }
    open_to_all(view, item, notes);
}

fn any_principal(item: &Item<'_>, notes: &mut Vec<Note>) {
    let open = matches!(&item.principal, Reach::Anything | Reach::Kind(_));
    if open && !mentions(item.rule.condition.as_deref(), Var::Principal) {
        let help = "name a group: principal in Group::\"…\"";
        notes.push(Note::new("any-principal", "this permits everybody who gets in at all").at(item.word("principal")).help(help));
    }
}

fn any_action(item: &Item<'_>, notes: &mut Vec<Note>) {
    if item.rule.verbs.is_none() && !mentions(item.rule.condition.as_deref(), Var::Action) {
        let message = "this permits every action, those of later versions too";
        let help = "name them: action in file_system::Action::\"view\", or a list of one namespace's";
        notes.push(Note::new("any-action", message).at(item.word("action")).help(help));
    }
}

fn mentions(condition: Option<&Expr>, var: Var) -> bool {
    condition
        .is_some_and(|condition| condition.subexpressions().any(|part| matches!(part.expr_kind(), ExprKind::Var(found) if *found == var)))
}

/// Verbs that change things, on whatever there is.
fn any_resource(view: &View<'_>, item: &Item<'_>, notes: &mut Vec<Note>) {
    let loose = |bound: &Bound| match bound {
        Bound::Anything => true,
        Bound::Kind(kind) => !SINGLE.contains(&kind.as_str()),
        Bound::Within(_, id) => id == "/",
        Bound::Begins(id) => id.is_empty() || id == "/",
        Bound::Exactly(_) => false,
    };
    if !item.shape.bounds.iter().any(loose) {
        return;
    }
    let mut changing: Vec<&str> = Vec::new();
    for verb in item.shape.verbs.iter().filter_map(|number| view.verbs.get(*number)) {
        if verb.changes && !verb.kinds.iter().all(|kind| SINGLE.contains(kind)) {
            changing.push(&verb.uid.id);
        }
    }
    let told = item.shape.cases.as_ref().is_some_and(|cases| !cases.is_empty() && cases.iter().all(confines));
    if changing.is_empty() || told {
        return;
    }
    let more = if changing.len() > NAMED { format!(" and {} more", changing.len() - NAMED) } else { String::new() };
    let shown: Vec<String> = changing.iter().take(NAMED).map(|verb| format!("`{verb}`")).collect();
    let message = format!("this permits {}{more} on everything there is", shown.join(", "));
    let help = "say on what: resource in file_system::Dir::\"…\", resource == systemd::Service::\"…\"";
    notes.push(Note::new("any-resource", message).at(item.word("resource")).help(help));
}

/// Whether the case says something about the resource that not just anything is: a fact of it, or a path that begins somewhere. In a runbook of
/// the owner's, the owner's script says on what.
fn confines(case: &Case) -> bool {
    case.iter().any(|statement| {
        let of_resource = statement.of == "resource" || statement.of.starts_with("resource.") || statement.of == "context.session.runbook";
        of_resource
            && statement.holds
            && match &statement.what {
                What::Is(_) => true,
                What::Like(glob) => glob.begins().len() > 1,
                What::In(uids) => uids.iter().all(|uid| uid.id != "/"),
                What::Kind(kind) => SINGLE.contains(&kind.as_str()),
                What::AtMost(_) => false,
            }
    })
}

/// Programs from where everybody can put them; settings from there.
fn open_to_all(view: &View<'_>, item: &Item<'_>, notes: &mut Vec<Note>) {
    let asks = |name: &str| {
        item.shape
            .verbs
            .iter()
            .filter_map(|number| view.verbs.get(*number))
            .any(|verb| verb.uid.kind == "file_system::Action" && verb.uid.id == name)
    };
    if !asks("execute") {
        return;
    }
    for bound in &item.shape.bounds {
        let path = match bound {
            Bound::Within(kind, id) if kind == "file_system::Dir" => id,
            Bound::Begins(id) | Bound::Exactly(id) if id.starts_with('/') => id,
            _ => continue,
        };
        if let Some(open) = OPEN.iter().find(|open| path == *open || possible::below(path, open)) {
            let message = format!("this permits to run what lies in {open}, where everybody can put programs");
            let help = "keep programs where only root can write, such as /usr/local/bin";
            notes.push(Note::new("open-to-all", message).at(item.word("resource")).help(help));
            return;
        }
        if let Some(host) = view.around.host
            && let Some(found) = host.look(path)
            && let Some(open) = found.open
        {
            let message = format!("this permits to run what others than root can change on this host: {open}");
            let help = format!("chmod o-w {open}, or keep the program elsewhere");
            notes.push(Note::new("open-to-all", message).at(item.word("resource")).help(help));
            return;
        }
    }
}

/// Called with an entity and its place.
type Visit<'a> = &'a mut dyn FnMut(&EntityUID, Option<Span>);

/// The literal of an entity in the scope or a condition, with its place.
pub(super) fn entities(item: &Item<'_>, visit: Visit<'_>) {
    use cedar_policy_core::ast::{EntityReference, Literal, PrincipalOrResourceConstraint as C};
    let policy = &item.placed.policy;
    for constraint in [policy.principal_constraint().as_inner(), policy.resource_constraint().as_inner()] {
        if let C::Eq(EntityReference::EUID(uid)) | C::In(EntityReference::EUID(uid)) | C::IsIn(_, EntityReference::EUID(uid)) = constraint {
            visit(uid, uid.loc().map(|loc| (loc.start(), loc.end())));
        }
    }
    for part in item.rule.condition.iter().flat_map(|condition| condition.subexpressions()) {
        if let ExprKind::Lit(Literal::EntityUID(uid)) = part.expr_kind() {
            visit(uid, place_of(part).or_else(|| uid.loc().map(|loc| (loc.start(), loc.end()))));
        }
    }
}
