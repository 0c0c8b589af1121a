//! What is called impossible never happens, as Cedar itself evaluates it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use cedar_policy_core::parser::parse_policy;
use proptest::prelude::*;

fn condition(text: &str) -> Expr {
    let policy = parse_policy(None, &format!("permit(principal, action, resource) when {{ {text} }};")).unwrap();
    policy.non_scope_constraints().unwrap().clone()
}

fn is_impossible(text: &str) -> bool {
    let work = Work::new(u64::MAX);
    cases(&condition(text), true, &work).is_some_and(|cases| never(&cases, &work).is_some())
}

/// Paths that exist in this small world, each with the folders above it.
const PATHS: &[&str] = &["/a", "/a/b", "/a/b/c", "/b", "/b/a.log", "/ab"];

/// Whether Cedar finds the condition true for some resource, some size and some time of day.
fn happens(text: &str) -> bool {
    use cedar_policy::{Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression};
    let uid = |kind: &str, id: &str| EntityUid::from_type_name_and_id(kind.parse().unwrap(), cedar_policy::EntityId::new(id));
    let policies: PolicySet = format!("permit(principal, action, resource) when {{ {text} }};").parse().unwrap();
    let principal = uid("User", "u");
    PATHS.iter().any(|path| {
        (-1..4).any(|size| {
            let above = path.match_indices('/').map(|(at, _)| if at == 0 { "/" } else { &path[..at] });
            let parents = above.map(|folder| uid("file_system::Dir", folder)).collect();
            let attributes = [
                ("path".to_owned(), RestrictedExpression::new_string((*path).to_owned())),
                ("size".to_owned(), RestrictedExpression::new_long(size)),
                ("open".to_owned(), RestrictedExpression::new_bool(size > 1)),
            ];
            let resource = uid("file_system::File", path);
            let entity = Entity::new(resource.clone(), attributes.into(), parents).unwrap();
            let groups = [uid("Group", "g")].into();
            let user = Entity::new(principal.clone(), [].into(), groups).unwrap();
            let entities = Entities::from_entities([entity, user], None).unwrap();
            let request = Request::new(principal.clone(), uid("Action", "x"), resource, Context::empty(), None).unwrap();
            Authorizer::new().is_authorized(&request, &policies, &entities).decision() == Decision::Allow
        })
    })
}

/// A simple statement about that world.
fn statement() -> impl Strategy<Value = String> {
    let path = prop::sample::select(PATHS);
    let pattern = prop::sample::select(vec!["*", "/a*", "/a/*", "*/b*", "*.log", "/b/*.log", "/*/*", "/a", "*b*"]);
    let folder = prop::sample::select(vec!["/", "/a", "/a/b", "/b", "/c"]);
    let number = -1_i64..4;
    prop_oneof![
        path.clone().prop_map(|path| format!("resource.path == \"{path}\"")),
        path.clone().prop_map(|path| format!("resource == file_system::File::\"{path}\"")),
        (path.clone(), path.clone()).prop_map(|(a, b)| format!("[\"{a}\", \"{b}\"].contains(resource.path)")),
        (path.clone(), path).prop_map(|(a, b)| format!("[file_system::File::\"{a}\", file_system::File::\"{b}\"].contains(resource)")),
        pattern.prop_map(|pattern| format!("resource.path like \"{pattern}\"")),
        folder.clone().prop_map(|folder| format!("resource in file_system::Dir::\"{folder}\"")),
        (folder.clone(), folder).prop_map(|(a, b)| format!("resource in [file_system::Dir::\"{a}\", file_system::Dir::\"{b}\"]")),
        number.clone().prop_map(|number| format!("resource.size < {number}")),
        number.clone().prop_map(|number| format!("resource.size >= {number}")),
        number.clone().prop_map(|number| format!("{number} <= resource.size")),
        number.clone().prop_map(|number| format!("{number} > resource.size")),
        number.prop_map(|number| format!("resource.size != {number}")),
        Just("resource is file_system::File".to_owned()),
        Just("resource is file_system::Dir".to_owned()),
        Just("principal in Group::\"g\"".to_owned()),
        Just("principal == User::\"u\"".to_owned()),
        Just("principal in User::\"u\"".to_owned()),
        Just("principal == User::\"v\"".to_owned()),
        Just("resource.open".to_owned()),
        Just("resource.open == false".to_owned()),
        Just("[].contains(resource.path)".to_owned()),
        Just("resource has owner".to_owned()),
        Just("true".to_owned()),
    ]
}

fn any_condition() -> impl Strategy<Value = String> {
    statement().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("(if {a} then {b} else {c})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn what_is_called_impossible_never_happens(text in any_condition()) {
        if is_impossible(&text) {
            prop_assert!(!happens(&text), "{text}");
        }
        // What always holds never fails.
        let negated = format!("!({text})");
        if is_impossible(&negated) {
            prop_assert!(!happens(&negated), "{negated}");
        }
    }
}

#[test]
fn the_search_ends_within_its_bounds() {
    let many =
        (0..300).map(|n| format!("(resource.path like \"*a{n}*\" || resource.path like \"*b{n}*\")")).collect::<Vec<_>>().join(" && ");
    assert!(!is_impossible(&many));
    let small = Work::new(10);
    assert!(cases(&condition(&many), true, &small).is_none() && small.is_over());
}

#[test]
fn times_are_read_as_cedar_reads_them() {
    for (text, milliseconds) in [
        ("1970-01-01", Some(0)),
        ("1970-01-02T00:00:00Z", Some(DAY)),
        ("1970-01-01T01:00:00.500Z", Some(3_600_500)),
        ("1970-01-01T01:00:00+0100", Some(0)),
        ("1970-01-01T00:00:00.001-0030", Some(1_800_001)),
        ("yesterday", None),
    ] {
        assert_eq!(datetime(text), milliseconds, "{text}");
    }
    for (text, milliseconds) in
        [("1d2h3m4s5ms", Some(93_784_005)), ("-1h", Some(-3_600_000)), ("4h", Some(14_400_000)), ("4", None), ("h", None)]
    {
        assert_eq!(duration(text), milliseconds, "{text}");
    }
}
