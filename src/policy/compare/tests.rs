//! Claims about scopes, each against what the gate says of every question of a small world.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::policy::learn::literal;
use crate::policy::recorded::{Asked, Caller, Told};
use crate::policy::{Open, Replay, Replayed, Source};
use proptest::prelude::*;
use std::sync::Arc;

fn source(text: &str) -> Vec<Source> {
    vec![Source { name: "t.cedar".into(), text: text.into() }]
}

fn schema() -> String {
    crate::terms::schema()
}

fn replay(text: &str) -> Replay {
    let asks = crate::functions::vocabulary().0;
    Replay::new(&source(text), schema(), asks, Open::Implied, Arc::new(|_, _, _, _| None)).unwrap()
}

/// Every question of the world, and whether it is allowed.
fn answers(text: &str) -> Vec<bool> {
    let mut replay = replay(text);
    let mut all = Vec::new();
    for (name, groups) in [("a", vec!["g"]), ("b", vec!["g", "h"]), ("c", vec![])] {
        let told = Told { groups: groups.into_iter().map(str::to_owned).collect(), ..Told::default() };
        let caller = Caller { principal: name.into(), told: Some(told), ..Caller::default() };
        for verb in ["read", "stat", "write"] {
            for (kind, id) in [("File", "/x/a"), ("File", "/x/y/a"), ("File", "/z"), ("Dir", "/x"), ("Dir", "/x/y")] {
                if (verb, kind) == ("write", "Dir") {
                    continue;
                }
                let resource = (format!("file_system::{kind}"), id.to_owned());
                let asked = Asked { action: ("file_system".into(), verb.into()), resource, ..Asked::default() };
                all.push(match replay.ask(&caller, &asked).unwrap() {
                    Replayed::Allowed(_) => true,
                    Replayed::Denied(..) => false,
                    other => panic!("{other:?}"),
                });
            }
        }
    }
    all
}

fn rule() -> impl Strategy<Value = String> {
    let principal = prop_oneof![
        Just("principal"),
        Just("principal == User::\"a\""),
        Just("principal in Group::\"g\""),
        Just("principal in Group::\"h\""),
        Just("principal is User"),
        Just("principal is User in Group::\"g\"")
    ];
    let action = prop_oneof![
        Just("action == file_system::Action::\"read\""),
        Just("action in [file_system::Action::\"read\", file_system::Action::\"stat\"]"),
        Just("action in file_system::Action::\"view\""),
        Just("action == file_system::Action::\"write\""),
        Just("action == file_system::Action::\"open\"")
    ];
    let resource = prop_oneof![
        Just("resource"),
        Just("resource == file_system::File::\"/x/a\""),
        Just("resource in file_system::Dir::\"/x\""),
        Just("resource in file_system::Dir::\"/x/y\""),
        Just("resource in file_system::Dir::\"/\""),
        Just("resource is file_system::File"),
        Just("resource is file_system::File in file_system::Dir::\"/x\""),
        Just("resource == file_system::Dir::\"/x\"")
    ];
    let rest = prop_oneof![3 => Just(""), 1 => Just(" when { resource.path like \"*/a\" }")];
    (prop_oneof![3 => Just("permit"), 1 => Just("forbid")], principal, action, resource, rest)
        .prop_map(|(effect, principal, action, resource, rest)| format!("{effect}({principal}, {action}, {resource}){rest};"))
}

fn text(rules: &[String]) -> String {
    // Something is always there, and everything is named.
    let all: Vec<String> = rules.iter().enumerate().map(|(at, rule)| format!("@id(\"r{at}\") {rule}")).collect();
    format!("@id(\"base\") forbid(principal, action == sysinfo::Action::\"list\", resource);\n{}", all.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn no_difference_claims_what_is_not_so(old in prop::collection::vec(rule(), 0..4), new in prop::collection::vec(rule(), 0..4)) {
        let (old, new) = (text(&old), text(&new));
        let differences = compare(&Whole::load(&source(&old), &schema()).unwrap(), &Whole::load(&source(&new), &schema()).unwrap());
        let (before, after) = (answers(&old), answers(&new));
        let permits = before.iter().zip(&after).any(|(was, is)| !was && *is);
        let denies = before.iter().zip(&after).any(|(was, is)| *was && !is);
        let may = |kinds: &[Comes]| differences.iter().any(|difference| kinds.contains(&difference.comes));
        prop_assert!(!permits || may(&[Comes::Permits, Comes::MayPermit, Comes::Unknown]), "{old}\n{new}\n{differences:#?}");
        prop_assert!(!denies || may(&[Comes::Denies, Comes::MayDeny, Comes::Unknown]), "{old}\n{new}\n{differences:#?}");
    }

    #[test]
    fn a_shadowed_rule_can_go(rules in prop::collection::vec(rule(), 1..5)) {
        let whole = text(&rules);
        let shadowed = Whole::load(&source(&whole), &schema()).unwrap().shadowed();
        let before = answers(&whole);
        for (name, _) in shadowed {
            let Some(at) = name.strip_prefix('r').and_then(|at| at.parse::<usize>().ok()) else { continue };
            let mut rest = rules.clone();
            rest.remove(at);
            prop_assert_eq!(&answers(&text(&rest)), &before, "{} of {}", name, whole);
        }
    }

    #[test]
    fn an_exact_permit_permits_exactly_that(ids in prop::collection::hash_set("[^\0/]{1,12}", 2..8)) {
        let ids: Vec<String> = ids.into_iter().map(|id| format!("/srv/{id}")).collect();
        let half = ids.len() / 2;
        let text: String = ids.iter().take(half).map(|id| format!("permit(principal, action == file_system::Action::\"read\", resource == file_system::File::{});\n", literal(id))).collect();
        let mut replay = replay(&text);
        let caller = Caller { principal: "a".into(), told: Some(Told::default()), ..Caller::default() };
        for (at, id) in ids.iter().enumerate() {
            let asked = Asked { action: ("file_system".into(), "read".into()), resource: ("file_system::File".into(), id.clone()), ..Asked::default() };
            prop_assert_eq!(matches!(replay.ask(&caller, &asked).unwrap(), Replayed::Allowed(_)), at < half, "{:?}", id);
        }
    }
}

#[test]
fn what_was_proved_to_be_new_is_new() {
    let old =
        "@id(\"a\") permit(principal == User::\"a\", action == file_system::Action::\"read\", resource == file_system::File::\"/x/a\");";
    let new = format!(
        "{old} @id(\"b\") permit(principal == User::\"b\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/x\");"
    );
    let (before, after) = (Whole::load(&source(old), &schema()).unwrap(), Whole::load(&source(&new), &schema()).unwrap());
    let comes = |differences: Vec<Difference>| differences.iter().map(|difference| difference.comes).collect::<Vec<_>>();
    assert_eq!(comes(compare(&before, &after)), [Comes::Permits]);
    assert_eq!(comes(compare(&after, &before)), [Comes::Denies]);
    assert!(compare(&before, &before).is_empty());
    assert!(answers(&new).iter().filter(|allowed| **allowed).count() > answers(old).iter().filter(|allowed| **allowed).count());
}

#[test]
fn users_groups_and_places_take_in_what_they_do() {
    let exactly = |kind: &str, id: &str| Reach::Exactly(kind.into(), id.into());
    let within = |kind: &str, id: &str| Reach::Within(kind.into(), id.into());
    assert!(principals(&Reach::Anything, &exactly("User", "a")) && !principals(&exactly("User", "a"), &Reach::Anything));
    assert!(principals(&within("Group", "g"), &Reach::KindWithin("User".into(), "Group".into(), "g".into())));
    assert!(!principals(&within("Group", "g"), &exactly("User", "a")), "who is in a group is not in the policies");
    assert!(resources(&within("file_system::Dir", "/a"), &within("file_system::Dir", "/a/b")));
    assert!(!resources(&within("file_system::Dir", "/a"), &within("file_system::Dir", "/ab")));
    assert!(resources(&within("journal::Log", "system"), &exactly("journal::Log", "x.service")));
    assert!(!resources_apart(&within("file_system::Dir", "/a"), &Reach::Kind("file_system::File".into())));
    assert!(resources_apart(&within("file_system::Dir", "/a"), &exactly("systemd::Service", "x.service")));
    assert!(!resources_apart(&within("file_system::Dir", "/a"), &within("file_system::Dir", "/a/b")));
}
