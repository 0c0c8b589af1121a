//! What denials tell: never what an author hides, never whether a thing is there; and that `would_ask` and the gate agree.

use super::against_cedar::{destination, pick, policy};
use super::*;
use proptest::prelude::*;

/// A denial without its reference.
fn plain(denial: Denial) -> Denial {
    Denial { reference: String::new(), ..denial }
}

#[test]
fn a_condition_that_failed_is_shown_as_written_with_its_place_where_the_author_reveals_it() {
    let text = "\n  @id(\"mine\") @reveal(\"rule\") @hint(\"be ann\")\n  permit(principal, action == file_system::Action::\"stat\", resource in file_system::Dir::\"/a\")\n    when { context.session.mode == \"local\" &&\n           resource.path like \"/a/x*\" };";
    let told = denial(bench(text).gate.permit::<Stat>(&SITE, file("/a/b")));
    assert_eq!((told.why, told.hint.as_deref(), told.policy), (Why::ConditionFailed, Some("be ann"), None));
    let nearest = told.nearest.unwrap();
    assert_eq!(nearest.policy, "mine");
    let unmet: Vec<(&str, &str)> = nearest.unmet.iter().map(|unmet| (unmet.condition.as_str(), unmet.at.as_str())).collect();
    assert_eq!(unmet, [("resource.path like \"/a/x*\"", "p:5:12")]);
    let hidden = denial(bench(&text.replace("rule", "hint")).gate.permit::<Stat>(&SITE, file("/a/b")));
    assert_eq!((hidden.why, hidden.hint.as_deref(), hidden.nearest), (Why::ConditionFailed, Some("be ann"), None));
    let hidden = denial(bench(&text.replace("rule", "none")).gate.permit::<Stat>(&SITE, file("/a/b")));
    assert_eq!((hidden.why, hidden.hint, hidden.nearest), (Why::NotPermitted, None, None));
}

#[test]
fn a_condition_after_unless_is_shown_too() {
    let text = "@id(\"x\") @reveal(\"rule\") permit(principal, action == file_system::Action::\"stat\", resource) unless { resource.path like \"/a*\" };";
    let nearest = denial(bench(text).gate.permit::<Stat>(&SITE, file("/a/b"))).nearest.unwrap();
    assert_eq!(nearest.unmet.len(), 1, "{nearest:?}");
    assert!(nearest.unmet[0].condition.contains("resource.path like \"/a*\""), "{nearest:?}");
    assert!(nearest.unmet[0].at.starts_with("p:1:"), "{nearest:?}");
}

#[test]
fn the_nearest_permit_elsewhere_is_found_by_the_spelling_of_the_script_and_shown_only_where_revealed() {
    let permit = |id: &str, reveal: &str, place: &str| {
        format!(
            "@id(\"{id}\") @reveal(\"{reveal}\") permit(principal, action == file_system::Action::\"stat\", resource in file_system::Dir::\"{place}\");\n"
        )
    };
    let text = [
        permit("far", "rule", "/srv"),
        permit("near", "rule", "/var/log/app"),
        permit("nearer", "hint", "/var/log/db"),
        permit("secret", "none", "/var/log/db/x"),
    ]
    .concat();
    let told = denial(bench(&text).gate.permit::<Stat>(&SITE, file("/var/log/db2")));
    assert_eq!(told.why, Why::NotPermitted);
    let nearest = told.nearest.unwrap();
    assert_eq!((nearest.policy.as_str(), nearest.unmet[0].condition.as_str()), ("near", "resource in file_system::Dir::\"/var/log/app\""));
    assert_eq!(nearest.unmet[0].at, "p:2:1");
    assert_eq!(denial(bench(&text).gate.permit::<Delete>(&SITE, file("/var/log/db2"))).nearest, None, "another verb");
    assert_eq!(denial(bench(&text[text.find("@id(\"nearer").unwrap()..]).gate.permit::<Stat>(&SITE, file("/etc/x"))).nearest, None);
}

#[test]
fn no_permit_is_named_for_a_thing_that_it_seems_to_be_about() {
    let text = "@id(\"logs\") @reveal(\"rule\") permit(principal, action == file_system::Action::\"stat\", resource in file_system::Dir::\"/var/log\");
         @reveal(\"none\") forbid(principal, action, resource in file_system::Dir::\"/var/log/audit\");";
    let told = denial(bench(text).gate.permit::<Stat>(&SITE, file("/var/log/audit/a")));
    assert_eq!((told.why, told.nearest), (Why::NotPermitted, None));
}

#[test]
fn what_is_revealed_of_a_condition_on_the_thing_does_not_tell_whether_it_is_there() {
    let text = "@reveal(\"rule\") permit(principal, action == file_system::Action::\"stat\", resource)
         when { context.session.mode == \"local\" && resource.owner == \"ann\" && resource has size && resource.size < 5 };";
    let bench = bench(text);
    let here = plain(denial(bench.gate.permit::<Stat>(&SITE, file("/a"))));
    let other = plain(denial(bench.gate.permit::<Stat>(&SITE, Paper { owner: "ann".into(), ..file("/a") })));
    let gone = plain(denial(bench.gate.permit::<Stat>(&SITE, Paper { broken: true, missing: true, ..file("/a") })));
    assert_eq!((&here, &here), (&other, &gone));
    assert_eq!(here.nearest.unwrap().unmet.len(), 3);
}

#[test]
fn a_forbid_that_does_not_look_at_the_thing_is_told_of_a_missing_one_too() {
    let text = "@hint(\"f\") @reveal(\"rule\") @id(\"f\") forbid(principal, action, resource in file_system::Dir::\"/a\");
         permit(principal, action == file_system::Action::\"stat\", resource) when { resource.owner == \"root\" };";
    let bench = bench(text);
    let here = plain(denial(bench.gate.permit::<Stat>(&SITE, file("/a/b"))));
    let gone = plain(denial(bench.gate.permit::<Stat>(&SITE, Paper { broken: true, missing: true, ..file("/a/b") })));
    assert_eq!(here, gone);
    assert_eq!((here.why, here.hint.as_deref(), here.policy.as_deref()), (Why::Forbidden, Some("f"), Some("f")));
}

#[test]
fn too_many_denials_end_the_run_and_those_that_a_walk_leaves_out_do_not_count() {
    let gate = Gate::new(
        policies(READ_LOGS),
        principal(),
        session(),
        Box::new(Notes::default()),
        Arc::new(Watch::new(Limits { denials: 3, ..Limits::default() })),
        Rules::default(),
    )
    .unwrap();
    let walk = gate.walk::<Read>(&SITE, &dir("/var/log")).unwrap();
    for _ in 0..20 {
        assert!(walk.permit(file("/etc/passwd")).is_err());
    }
    walk.finish().unwrap();
    for _ in 0..3 {
        assert_eq!(gate.permit::<Read>(&SITE, file("/etc/passwd")).unwrap_err().kind, Kind::Denied);
    }
    assert_eq!(gate.permit::<Read>(&SITE, file("/etc/passwd")).unwrap_err().kind, Kind::Limit);
    assert_eq!(gate.permit::<Read>(&SITE, file("/var/log/a")).unwrap_err().kind, Kind::Limit, "and nothing is granted from then on");
    assert_eq!(gate.watch().stopping(), Some(Stop::Denials));
    assert_eq!(gate.counts(), (1, 24), "all are counted and recorded");
}

fn gate_of(text: &str) -> Gate {
    // Somebody else's, so that there is always one.
    let text = format!("{text}\npermit(principal == User::\"nobody\", action, resource);");
    Gate::new(
        policies(&text),
        principal(),
        session(),
        Box::new(Notes::default()),
        Arc::new(Watch::new(Limits { denials: 1_000_000, ..Limits::default() })),
        Rules::default(),
    )
    .unwrap()
}

const PAPERS: [fn() -> Paper; 8] = [
    || file("/a/b"),
    || dir("/a/b"),
    || file("/a/b/c"),
    || file("/c"),
    || dir("/"),
    || Paper { owner: "ann".into(), size: None, ..file("/a/b/c/d") },
    || Paper { size: Some(1), ..dir("/a") },
    || Paper { broken: true, missing: true, ..file("/a/b") },
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_policy_that_its_author_hides_changes_nothing_in_any_denial(
        texts in proptest::collection::vec((policy(), pick(&["", "", "@reveal(\"none\")", "@reveal(\"none\") @hint(\"n\")", "@reveal(\"hint\") @hint(\"h\")", "@reveal(\"rule\")", "@reveal(\"rule\") @hint(\"r\")"])), 1..8)
    ) {
        let with = |hidden: bool| -> String {
            texts.iter().map(|(policy, annotations)| {
                // An empty line, so that the places of the others stay.
                if !hidden && annotations.contains("none") { "\n".to_owned() } else { format!("{annotations} {policy}") }
            }).collect()
        };
        let (all, shown) = (gate_of(&with(true)), gate_of(&with(false)));
        for paper in PAPERS {
            let pairs = [
                (all.permit::<Stat>(&SITE, paper()).err(), shown.permit::<Stat>(&SITE, paper()).err()),
                (all.permit::<Read>(&SITE, paper()).err(), shown.permit::<Read>(&SITE, paper()).err()),
                (all.permit_with::<Move>(&SITE, paper(), destination()).err(), shown.permit_with::<Move>(&SITE, paper(), destination()).err()),
            ];
            for (with, without) in pairs {
                if let (Some(with), Some(without)) = (with.and_then(|error| error.denial), without.and_then(|error| error.denial)) {
                    prop_assert_eq!(plain(*with), plain(*without), "{:?}\n{}", paper(), self::join(&texts));
                }
            }
        }
        for (a, b) in all.summary().iter().zip(shown.summary()) {
            prop_assert_eq!(a, &b);
        }
    }

    #[test]
    fn what_is_said_beforehand_is_what_the_gate_does(texts in proptest::collection::vec(policy(), 1..8)) {
        let gate = gate_of(&texts.concat());
        for paper in PAPERS.iter().take(7) {
            for (ask, open) in [(const { ask::<Stat>() }, false), (const { ask::<Read>() }, true), (const { ask::<Move>() }, false)] {
                let thing = paper();
                let said = gate.would_ask(&ask, open, Resource::noun(&thing), &thing.path);
                let done = match ask.name {
                    "stat" => gate.permit::<Stat>(&SITE, thing).is_ok(),
                    "read" => gate.permit::<Read>(&SITE, thing).is_ok(),
                    _ => gate.permit_with::<Move>(&SITE, thing, destination()).is_ok(),
                };
                match said {
                    Answer::Yes => prop_assert!(done, "yes, and denied: {} {:?}\n{}", ask.name, paper(), texts.concat()),
                    Answer::No(_) => prop_assert!(!done, "no, and permitted: {} {:?}\n{}", ask.name, paper(), texts.concat()),
                    Answer::Depends(on) => prop_assert!(!on.is_empty()),
                }
            }
        }
    }

    #[test]
    fn an_explanation_is_the_decision(texts in proptest::collection::vec(policy(), 1..8)) {
        let gate = gate_of(&texts.concat());
        for paper in PAPERS.iter().take(7) {
            let thing = paper();
            let mut attributes = vec![("owner", Value::String(thing.owner.clone())), ("links", Value::Long(2))];
            attributes.extend(thing.size.map(|size| ("size", Value::Long(size))));
            // What is not given of an attribute that may be missing cannot be told apart from one that is not known.
            if thing.size.is_none() { continue }
            let described = Described { noun: Resource::noun(&thing), id: &thing.path, attributes };
            let it = gate.explain(&const { ask::<Stat>() }, false, &described, &[]);
            let applies = |permit: bool| it.rules.iter().any(|rule| rule.permit == permit && rule.fate == Fate::Applies);
            let fails = it.rules.iter().any(|rule| matches!(rule.fate, Fate::Failed(_)));
            prop_assert_eq!(it.why.is_none(), applies(true) && !applies(false) && !fails, "{:?}\n{}", it, texts.concat());
            prop_assert_eq!(it.why.is_none(), gate.permit::<Stat>(&SITE, paper()).is_ok());
        }
    }
}

fn join(texts: &[(String, &'static str)]) -> String {
    texts.iter().map(|(policy, annotations)| format!("{annotations} {policy}")).collect()
}
