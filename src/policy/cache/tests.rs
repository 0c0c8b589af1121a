//! The cache: what is written is read back, for those whom it concerns, and nothing else is believed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use cedar_policy_core::parser::parse_policyset;

const TEXTS: &[&str] = &[
    "permit(principal, action, resource);",
    "@hint(\"é\") @reveal(\"rule\") forbid(principal is User, action == a::Action::\"x\", resource is n::T);",
    "@id(\"one\") permit(principal == User::\"a\\\"b\", action in [a::Action::\"x\", a::Action::\"y\"], resource == n::T::\"i\");",
    "@reveal(\"none\") permit(principal in Group::\"g\", action, resource in n::T::\"i\") when { resource has a && context.session.now < resource.a };",
    "permit(principal is User in Group::\"g\", action, resource is n::T in n::T::\"i\") unless { ip(\"::1\").isLoopback() || resource in principal.all };",
];

fn findings() -> Findings {
    let uid = |id: &str| Uid { kind: "file_system::Action".into(), id: id.into() };
    let entry = |text: &&str| {
        let policy = parse_policyset(text).unwrap().into_policies().next().unwrap();
        let principal = crate::policy::slice::reach(policy.principal_constraint().as_inner()).unwrap();
        Row {
            principal,
            spot: Spot { source: 1, start: 2, end: 3, line: 4, column: 5 },
            rule: Rule::new(&policy, String::new(), Place::default()).unwrap(),
        }
    };
    Findings { verbs: vec![("file_system".into(), "read".into(), vec![uid("view")])], entries: TEXTS.iter().map(entry).collect() }
}

fn scope(name: &str, groups: &[&str]) -> Scope {
    Scope { name: name.into(), groups: groups.iter().map(|group| (*group).to_owned()).collect() }
}

const KEY: Key<'static> = Key { schema: &[1; 32], policies: &[2; 32] };

/// Without the places in the text that conditions came from.
fn shown(rule: &Rule) -> String {
    let Rule { name, permit, hint, reveal, reach, verbs, condition, needs, place: _, start: _ } = rule;
    let condition = condition.as_ref().map(|condition| condition.to_string());
    format!("{:?}", (name, permit, hint, reveal, reach, verbs, condition, needs))
}

#[test]
fn what_is_written_is_read_back() {
    let findings = findings();
    let found = decode(&encode(&findings, KEY).unwrap(), KEY, &scope("a\"b", &["g"])).unwrap();
    assert_eq!((found.verbs, found.total), (findings.verbs, TEXTS.len()));
    let all: Vec<_> = found.rules.iter().map(|(place, rule)| (*place, shown(rule))).collect();
    assert_eq!(all, findings.entries.iter().map(|entry| (entry.spot, shown(&entry.rule))).collect::<Vec<_>>());
}

#[test]
fn what_concerns_others_is_stepped_over() {
    let bytes = encode(&findings(), KEY).unwrap();
    let mine = |name: &str, groups: &[&str]| decode(&bytes, KEY, &scope(name, groups)).unwrap().rules.len();
    assert_eq!([mine("ann", &[]), mine("a\"b", &[]), mine("ann", &["g"]), mine("g", &["a\"b"])], [2, 3, 4, 2]);
}

#[test]
fn another_schema_or_text_or_any_changed_byte_makes_it_worthless() {
    let bytes = encode(&findings(), KEY).unwrap();
    let who = scope("ann", &["g"]);
    let worthless = |bytes: &[u8], key| decode(bytes, key, &who).is_none();
    assert!(worthless(&bytes, Key { schema: &[3; 32], ..KEY }));
    assert!(worthless(&bytes, Key { policies: &[3; 32], ..KEY }));
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        assert!(worthless(&bytes, KEY), "byte {at}");
        assert!(worthless(&bytes[..at], KEY), "cut at {at}");
    }
}
