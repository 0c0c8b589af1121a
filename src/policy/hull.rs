//! The outer hull of what a caller may do: for each verb, bounds that no permitted resource lies outside of. The kernel is told to hold them.
//!
//! A bound may be wider than the policy and never narrower: what a condition says is used only where it surely confines the resource, and
//! forbids are not looked at.

use super::load::Policies;
use super::slice::{Reach, Rule, Uid};
use super::url::Url;
use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, Literal, PatternElem, Var};
use std::collections::BTreeSet;

/// Something that resources lie within.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    Anything,
    /// Everything of this entity type.
    Kind(String),
    /// What has an id that begins so.
    Begins(String),
    /// This and all that is in it, by entity type and id.
    Within(String, String),
    /// One thing, by id.
    Exactly(String),
}

impl Bound {
    /// Whether something of this entity type and id can lie within: for whoever does the deed, and asks no policy again.
    #[must_use]
    pub fn may_hold(&self, kind: &str, id: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::Kind(known) => known == kind,
            Self::Begins(start) => id.starts_with(start.as_str()),
            Self::Within(_, folder) => {
                folder == "/" || id.strip_prefix(folder.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Exactly(exact) => exact == id,
        }
    }

    /// The narrower, the greater.
    fn nearness(&self) -> (u8, usize) {
        match self {
            Self::Anything => (0, 0),
            Self::Kind(_) => (1, 0),
            Self::Begins(id) | Self::Within(_, id) => (2, id.len()),
            Self::Exactly(id) => (3, id.len()),
        }
    }
}

/// A union of bounds; no bound at all: nothing.
type Bounds = Vec<Bound>;

fn anything() -> Bounds {
    vec![Bound::Anything]
}

/// The narrower of two unions that both hold: either alone would be sound.
fn both(left: Bounds, right: Bounds) -> Bounds {
    let widest = |bounds: &Bounds| bounds.iter().map(Bound::nearness).min();
    match (widest(&left), widest(&right)) {
        (None, _) => left,
        (_, None) => right,
        (Some(a), Some(b)) if a >= b => left,
        _ => right,
    }
}

fn either(mut left: Bounds, right: Bounds) -> Bounds {
    left.extend(right);
    left
}

impl Policies {
    /// What permits for a verb reach at most, e.g. `("file_system", "write")`. Empty: nothing at all.
    #[must_use]
    pub fn hull(&self, namespace: &str, name: &str) -> Vec<Bound> {
        let rules = self.slice.verb(namespace, name).map_or(&[][..], |verb| verb.rules.as_slice());
        let mut bounds: Bounds = Vec::new();
        for rule in rules.iter().filter_map(|index| self.slice.rule(*index)).filter(|rule| rule.permit) {
            bounds.extend(of_rule(rule, Some(namespace)));
        }
        if bounds.contains(&Bound::Anything) {
            return anything();
        }
        bounds.sort();
        bounds.dedup();
        bounds
    }
    /// The ports that permits for a verb of the network reach at most; nothing where they are not bounded.
    #[must_use]
    pub fn ports(&self, name: &str) -> Option<BTreeSet<u16>> {
        let rules = self.slice.verb("network", name).map_or(&[][..], |verb| verb.rules.as_slice());
        let mut all = BTreeSet::new();
        for rule in rules.iter().filter_map(|index| self.slice.rule(*index)).filter(|rule| rule.permit) {
            if of_rule(rule, Some("network")).is_empty() {
                continue;
            }
            let scope = match &rule.reach {
                Reach::Exactly(_, id) => port_of(id),
                _ => None,
            };
            let condition = || rule.condition.as_ref().and_then(|condition| ports_of(condition));
            all.extend(scope.map(|port| BTreeSet::from([port])).or_else(condition)?);
        }
        Some(all)
    }
    /// What permits for a verb reach in any circumstances, so that nobody has to be asked again: those without a condition. Nothing where a forbid
    /// has a say, since what it takes away cannot be taken away from a bound.
    #[must_use]
    pub fn unconditional(&self, namespace: &str, name: &str) -> Vec<Bound> {
        let rules = self.slice.verb(namespace, name).map_or(&[][..], |verb| verb.rules.as_slice());
        let mut bounds: Bounds = Vec::new();
        for rule in rules.iter().filter_map(|index| self.slice.rule(*index)) {
            if !rule.permit {
                return Vec::new();
            }
            if rule.condition.is_none() {
                bounds.extend(of_rule(rule, Some(namespace)));
            }
        }
        bounds
    }
}

/// A verb is about things of its own namespace only (a test of the vocabulary holds that), so a rule about others says nothing of it.
/// `namespace`: of the verb; without one, wherever the rule reaches with any verb.
pub(super) fn of_rule(rule: &Rule, namespace: Option<&str>) -> Bounds {
    let own = |kind: &str| namespace.is_none_or(|namespace| kind.rsplit_once("::").is_some_and(|(space, _)| space == namespace));
    let scope = match &rule.reach {
        Reach::Anything => Bound::Anything,
        Reach::Kind(kind) => Bound::Kind(kind.clone()),
        Reach::Exactly(kind, _) if !own(kind) => return Vec::new(),
        Reach::Exactly(_, id) => Bound::Exactly(id.clone()),
        Reach::Within(kind, id) | Reach::KindWithin(_, kind, id) => Bound::Within(kind.clone(), id.clone()),
    };
    let mut bounds = match &rule.condition {
        Some(condition) => both(vec![scope], of_condition(condition, namespace)),
        None => vec![scope],
    };
    bounds.retain(|bound| match bound {
        Bound::Kind(kind) | Bound::Within(kind, _) => own(kind),
        Bound::Anything | Bound::Begins(_) | Bound::Exactly(_) => true,
    });
    bounds
}

/// Where the resource lies whenever the condition holds.
fn of_condition(condition: &Expr, namespace: Option<&str>) -> Bounds {
    let of_condition = |condition: &Expr| of_condition(condition, namespace);
    let is_id = |expr: &Expr| is_id(expr, namespace);
    let equal = |left: &Expr, right: &Expr| equal(left, right, &is_id);
    match condition.expr_kind() {
        ExprKind::Lit(Literal::Bool(false)) => Vec::new(),
        ExprKind::And { left, right } => both(of_condition(left), of_condition(right)),
        ExprKind::Or { left, right } => either(of_condition(left), of_condition(right)),
        ExprKind::If { test_expr, then_expr, else_expr } => {
            either(both(of_condition(test_expr), of_condition(then_expr)), of_condition(else_expr))
        }
        ExprKind::BinaryApp { op: BinaryOp::Eq, arg1, arg2 } => equal(arg1, arg2).or_else(|| equal(arg2, arg1)).unwrap_or_else(anything),
        ExprKind::BinaryApp { op: BinaryOp::In, arg1, arg2 } if is_resource(arg1) => within(arg2).unwrap_or_else(anything),
        ExprKind::BinaryApp { op: BinaryOp::Contains, arg1, arg2 } => listed(arg1, arg2, &is_id).unwrap_or_else(anything),
        ExprKind::Is { expr, entity_type } if is_resource(expr) => vec![Bound::Kind(entity_type.to_string())],
        ExprKind::Like { expr, pattern } if is_id(expr) => {
            let mut begins = String::new();
            for element in pattern.iter() {
                match element {
                    PatternElem::Char(c) => begins.push(*c),
                    PatternElem::Wildcard if begins.is_empty() => return anything(),
                    PatternElem::Wildcard => return vec![Bound::Begins(begins)],
                }
            }
            vec![Bound::Exactly(begins)]
        }
        _ => anything(),
    }
}

/// The port of a whole URL. A host alone has any.
fn port_of(id: &str) -> Option<u16> {
    Url::parse(id).ok().map(|url| url.port)
}

/// The ports that a condition surely confines the resource to.
fn ports_of(condition: &Expr) -> Option<BTreeSet<u16>> {
    match condition.expr_kind() {
        ExprKind::Lit(Literal::Bool(false)) => Some(BTreeSet::new()),
        ExprKind::And { left, right } => match (ports_of(left), ports_of(right)) {
            (Some(left), Some(right)) => Some(left.intersection(&right).copied().collect()),
            (left, right) => left.or(right),
        },
        ExprKind::Or { left, right } => Some(ports_of(left)?.union(&ports_of(right)?).copied().collect()),
        ExprKind::If { test_expr, then_expr, else_expr } => {
            let then = match (ports_of(test_expr), ports_of(then_expr)) {
                (Some(test), Some(then)) => test.intersection(&then).copied().collect(),
                (test, then) => test.or(then)?,
            };
            Some(then.union(&ports_of(else_expr)?).copied().collect())
        }
        ExprKind::BinaryApp { op: BinaryOp::Eq, arg1, arg2 } => {
            one_port(arg1, arg2).or_else(|| one_port(arg2, arg1)).map(|port| [port].into())
        }
        ExprKind::BinaryApp { op: BinaryOp::Contains, arg1, arg2 } => match arg1.expr_kind() {
            ExprKind::Set(items) => items.iter().map(|item| one_port(arg2, item)).collect(),
            _ => None,
        },
        ExprKind::Like { expr, pattern } if is_id(expr, None) => {
            let fixed: String = pattern
                .iter()
                .map_while(|element| match element {
                    PatternElem::Char(c) => Some(*c),
                    PatternElem::Wildcard => None,
                })
                .collect();
            // Where the path has begun, the port stands before it or goes without saying.
            let path = fixed.find("://").map_or(0, |at| at + 3);
            fixed.get(path..).filter(|rest| path > 0 && rest.contains('/')).and_then(|_| port_of(&fixed)).map(|port| [port].into())
        }
        _ => None,
    }
}

/// `resource.port == 443`, `resource.url == "https://h/"`, `resource == network::url::"https://h/"`.
fn one_port(left: &Expr, right: &Expr) -> Option<u16> {
    let is_port = matches!(left.expr_kind(), ExprKind::GetAttr { expr, attr } if is_resource(expr) && AsRef::<str>::as_ref(attr) == "port");
    match right.expr_kind() {
        ExprKind::Lit(Literal::Long(port)) if is_port => u16::try_from(*port).ok(),
        ExprKind::Lit(Literal::String(text)) if is_id(left, None) => port_of(text),
        ExprKind::Lit(Literal::EntityUID(uid)) if is_resource(left) => port_of(&Uid::of(uid).id),
        _ => None,
    }
}

fn is_resource(expr: &Expr) -> bool {
    matches!(expr.expr_kind(), ExprKind::Var(Var::Resource))
}

/// `resource.path` and `resource.url`, and `resource.name` of units: attributes that are the id itself.
fn is_id(expr: &Expr, namespace: Option<&str>) -> bool {
    let names = |attr: &str| matches!(attr, "path" | "url") || attr == "name" && namespace == Some("systemd");
    matches!(expr.expr_kind(), ExprKind::GetAttr { expr, attr } if is_resource(expr) && names(attr.as_ref()))
}

/// `resource == Entity::"id"` and `resource.path == "id"`.
fn equal(left: &Expr, right: &Expr, is_id: &dyn Fn(&Expr) -> bool) -> Option<Bounds> {
    match right.expr_kind() {
        ExprKind::Lit(Literal::EntityUID(uid)) if is_resource(left) => Some(vec![Bound::Exactly(Uid::of(uid).id)]),
        ExprKind::Lit(Literal::String(text)) if is_id(left) => Some(vec![Bound::Exactly(text.to_string())]),
        _ => None,
    }
}

/// `resource in Entity::"id"`, or in one of a set of them.
fn within(container: &Expr) -> Option<Bounds> {
    match container.expr_kind() {
        ExprKind::Lit(Literal::EntityUID(uid)) => {
            let Uid { kind, id } = Uid::of(uid);
            Some(vec![Bound::Within(kind, id)])
        }
        ExprKind::Set(items) => items.iter().map(within).collect::<Option<Vec<Bounds>>>().map(|bounds| bounds.concat()),
        _ => None,
    }
}

/// `["a", "b"].contains(resource.path)`, or of entities.
fn listed(set: &Expr, item: &Expr, is_id: &dyn Fn(&Expr) -> bool) -> Option<Bounds> {
    match set.expr_kind() {
        ExprKind::Set(items) => {
            items.iter().map(|listed| equal(item, listed, is_id)).collect::<Option<Vec<Bounds>>>().map(|bounds| bounds.concat())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::policy::{Attribute, Noun, Scope, Source};

    fn hull(text: &str) -> Vec<Bound> {
        load(text).hull("file_system", "read")
    }
    fn load(text: &str) -> Policies {
        const fn attribute(name: &'static str, cedar: &'static str, required: bool) -> Attribute {
            Attribute { name, cedar, required, fixed: false, doc: "" }
        }
        const FILE: Noun = Noun {
            name: "file_system::File",
            parents: &["file_system::Dir"],
            attributes: &[attribute("path", "String", true), attribute("name", "String", false), attribute("size", "Long", false)],
            doc: "",
        };
        let schema = crate::policy::schema::render(&[], &[FILE]);
        let scope = Scope { name: "alice".into(), groups: Vec::new() };
        Policies::load(&[Source { name: "t.cedar".into(), text: text.into() }], &schema, &scope, None).unwrap()
    }
    fn of(condition: &str) -> Vec<Bound> {
        hull(&format!("permit(principal, action == file_system::Action::\"read\", resource is file_system::File) when {{ {condition} }};"))
    }
    fn exactly(id: &str) -> Bound {
        Bound::Exactly(id.into())
    }
    fn within(id: &str) -> Bound {
        Bound::Within("file_system::Dir".into(), id.into())
    }
    fn kind() -> Bound {
        Bound::Kind("file_system::File".into())
    }

    #[test]
    fn only_permits_without_a_condition_hold_in_any_circumstances() {
        let unconditional = |text: &str| load(text).unconditional("file_system", "read");
        let plain = "permit(principal, action, resource in file_system::Dir::\"/a\");";
        let conditional = "permit(principal, action, resource) when { principal has uid && principal.uid == 0 };";
        assert_eq!(unconditional(plain), [within("/a")]);
        assert_eq!(unconditional(&format!("{plain}\n{conditional}")), [within("/a")]);
        assert_eq!(unconditional(conditional), []);
        assert_eq!(unconditional(&format!("{plain}\nforbid(principal, action, resource == file_system::File::\"/a/b\");")), []);
        assert_eq!(unconditional(&format!("{plain}\nforbid(principal == User::\"bob\", action, resource);")), [within("/a")]);
    }

    #[test]
    fn scopes_bound() {
        assert_eq!(hull("permit(principal, action, resource);"), [Bound::Anything]);
        assert_eq!(hull("permit(principal, action, resource in file_system::Dir::\"/var/log\");"), [within("/var/log")]);
        assert_eq!(hull("permit(principal, action, resource == file_system::File::\"/etc/motd\");"), [exactly("/etc/motd")]);
        assert_eq!(hull("permit(principal == User::\"bob\", action, resource);"), []);
        assert_eq!(hull("forbid(principal, action, resource);"), []);
    }

    #[test]
    fn conditions_bound_where_they_surely_do() {
        assert_eq!(of("resource.path like \"/srv/app-*.log\""), [Bound::Begins("/srv/app-".into())]);
        assert_eq!(of("resource.path == \"/a\" || \"/b\" == resource.path"), [exactly("/a"), exactly("/b")]);
        assert_eq!(of("[\"/a\", \"/b\"].contains(resource.path)"), [exactly("/a"), exactly("/b")]);
        assert_eq!(of("resource in [file_system::Dir::\"/a\", file_system::Dir::\"/b\"]"), [within("/a"), within("/b")]);
        assert_eq!(of("principal has uid && principal.uid == 0 && resource.path like \"/a/*\""), [Bound::Begins("/a/".into())]);
        assert_eq!(of("resource has size && resource.size < 9 && resource == file_system::File::\"/a\""), [exactly("/a")]);
        assert_eq!(
            of(
                "if principal has uid && principal.uid == 0 then resource in file_system::Dir::\"/a\" else resource in file_system::Dir::\"/b\""
            ),
            [within("/a"), within("/b")]
        );
    }

    #[test]
    fn ports_are_known_where_permits_say_them() {
        let ports = |scope: &str, condition: &str| {
            let schema = crate::policy::schema::render(&[], &[crate::resource::endpoint::URL]);
            let text = format!("permit(principal, action == network::Action::\"connect\", {scope}) when {{ {condition} }};");
            let user = Scope { name: "alice".into(), groups: Vec::new() };
            let policies = Policies::load(&[Source { name: "t.cedar".into(), text }], &schema, &user, None).unwrap();
            policies.ports("connect").map(|ports| ports.into_iter().collect::<Vec<_>>())
        };
        let of = |condition: &str| ports("resource", condition);
        assert_eq!(of("resource.port == 5432"), Some(vec![5432]));
        assert_eq!(of("resource.host == \"db\" && [5432, 6379].contains(resource.port)"), Some(vec![5432, 6379]));
        assert_eq!(of("resource.port == 1 || resource.port == 2"), Some(vec![1, 2]));
        assert_eq!(of("resource.url like \"https://api.example.com/*\""), Some(vec![443]));
        assert_eq!(of("resource.url like \"https://api.example.com:8443/v1/*\""), Some(vec![8443]));
        assert_eq!(of("resource.url == \"http://h:81/\""), Some(vec![81]));
        assert_eq!(ports("resource == network::url::\"http://h:82/\"", "true"), Some(vec![82]));
        for open in [
            "resource.port > 1000",
            "resource.port == 1 || resource.host == \"h\"",
            "!(resource.port == 1)",
            "resource.url like \"https://api.example.com*\"",
            "resource.url like \"https://*/\"",
            "resource.host == \"h\"",
            "resource.port == 1 == false",
        ] {
            assert_eq!(of(open), None, "{open}");
        }
        assert_eq!(ports("resource == network::url::\"h\"", "true"), None);
        assert_eq!(ports("resource is network::url", "false"), Some(Vec::new()));
    }

    #[test]
    fn what_is_about_other_things_says_nothing_of_a_verb() {
        let policies = load(
            "permit(principal, action, resource is file_system::File);
             permit(principal, action, resource in file_system::Dir::\"/a\");
             permit(principal, action, resource == file_system::File::\"/b\");
             permit(principal, action, resource) when { resource is file_system::File };",
        );
        assert_eq!(policies.hull("file_system", "read"), [kind(), within("/a"), exactly("/b")]);
        // A verb that some permit names in every namespace: these are not about what it is about.
        for rule in policies.slice.verb("file_system", "read").unwrap().rules.iter().filter_map(|index| policies.slice.rule(*index)) {
            assert_eq!(of_rule(rule, Some("network")), [], "{rule:?}");
        }
    }

    #[test]
    fn conditions_that_do_not_surely_bound_leave_the_scope() {
        for condition in [
            "!(resource.path like \"/srv/*\")",
            "resource.path like \"/a/*\" || principal has uid && principal.uid == 0",
            "resource.path like \"*.log\" || resource.path like \"/a/*\"",
            "resource.name like \"a*\"",
            "principal has uid && principal.uid == 0",
            "(resource.path == \"/a\") == false",
        ] {
            let bounds = of(&format!("resource has name && ({condition})"));
            assert_eq!(bounds, [kind()], "{condition}");
        }
        let unless = hull("permit(principal, action, resource is file_system::File) unless { resource.path like \"/secret/*\" };");
        assert_eq!(unless, [kind()]);
    }
}
