//! Every lint finds what its row says, and not more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::table::Needs;
use super::*;
use crate::policy::{Access, Attribute};
use proptest::prelude::*;

const fn attribute(name: &'static str, cedar: &'static str, required: bool) -> Attribute {
    Attribute { name, cedar, required, fixed: false, doc: "" }
}

const FILE: Noun = Noun {
    name: "file_system::File",
    parents: &["file_system::Dir"],
    attributes: &[
        attribute("path", "String", true),
        attribute("name", "String", false),
        attribute("size", "Long", false),
        attribute("owner", "String", false),
    ],
    doc: "",
};
const EXECUTE: Ask = Ask {
    namespace: "file_system",
    name: "execute",
    applies_to: &["file_system::File"],
    groups: &["SafeIO"],
    doc: "",
    access: Access::Change,
    context: &[
        attribute("argv", "String", true),
        attribute("argc", "Long", true),
        attribute("arguments", "file_system::Arguments", true),
        attribute("environment", "file_system::Environment", true),
        attribute("user", "{ username: String, uid: Long }", true),
        attribute("group", "{ groupname: String, gid: Long }", true),
        attribute("namespace", "{ target_process_id: Long }", false),
    ],
    nouns: &[],
};

/// A host with a link from /var/run to /run, a folder that all can write, and little else.
struct Fake;

impl Host for Fake {
    fn look(&self, path: &str) -> Option<Found> {
        let real = path.strip_prefix("/var/run").map_or_else(|| path.to_owned(), |rest| format!("/run{rest}"));
        let folder = ["/run", "/etc", "/srv", "/var/log", "/opt/tools"].contains(&real.as_str());
        let exists = folder || !real.contains("no-such");
        Some(Found { real, exists, folder, open: path.starts_with("/opt/open").then(|| "/opt/open".to_owned()) })
    }
}

fn check_with(texts: &[&str], around: Surroundings<'_>) -> Report {
    let sources: Vec<Source> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| Source { name: format!("{}.cedar", ['a', 'b', 'c'][at]), text: (*text).to_owned() })
        .collect();
    super::check(&sources, &[EXECUTE], &[FILE], around).unwrap()
}

/// What is found where nothing is known of any host.
fn found(text: &str) -> Vec<Finding> {
    check_with(&[text], Surroundings { now: Some(1_700_000_000_000), ..Surroundings::default() }).findings
}

/// The names of what is found, notes about ids left out.
fn names(text: &str) -> Vec<&'static str> {
    found(text).iter().map(|finding| finding.lint).filter(|lint| *lint != "no-id").collect()
}

/// A permit for reading with this condition.
fn reading(condition: &str) -> String {
    format!(
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource is file_system::File) when {{ {condition} }};"
    )
}

#[test]
fn each_example_of_the_table_has_its_finding_and_is_right_without_it() {
    let people = People { users: ["alice".to_owned()].into(), groups: ["ops".to_owned()].into(), others_pass: false };
    for lint in LINTS.iter().filter(|lint| !lint.wrong.is_empty()) {
        let around = Surroundings {
            host: (lint.needs == Needs::Host).then_some(&Fake as &dyn Host),
            people: (lint.needs == Needs::People).then_some(&people),
            now: Some(1_700_000_000_000),
        };
        let all = |text: &str| check_with(&[text], around).findings;
        let wrong = all(lint.wrong);
        let hit = wrong.iter().find(|finding| finding.lint == lint.name).unwrap_or_else(|| panic!("{}: {wrong:#?}", lint.name));
        assert_eq!(hit.level, lint.level, "{}", lint.name);
        assert!(hit.line > 0 || lint.name == "no-policy", "{hit:#?}");
        let right = all(lint.right);
        assert!(right.iter().all(|finding| finding.lint != lint.name), "{}: {right:#?}", lint.name);
        // An example of one mistake does not make another in passing.
        let others: Vec<&Finding> = wrong.iter().filter(|other| other.lint != lint.name && other.level != Level::Note).collect();
        assert!(others.is_empty() || lint.level == Level::Error || lint.name == "unknown-lint", "{}: {others:#?}", lint.name);
    }
}

#[test]
fn names_of_lints_are_unique_and_every_warning_has_an_example() {
    let mut names: Vec<&str> = LINTS.iter().map(|lint| lint.name).collect();
    names.sort_unstable();
    assert_eq!(names.windows(2).find(|pair| pair[0] == pair[1]), None);
    for lint in LINTS.iter().filter(|lint| lint.level != Level::Error && lint.name != "too-complex") {
        assert!(!lint.wrong.is_empty() && !lint.right.is_empty(), "{}", lint.name);
    }
}

#[test]
fn a_finding_points_at_its_place() {
    let text = "@id(\"a\")\npermit (\n    principal in Group::\"ops\",\n    action == file_system::Action::\"write\",\n    resource\n);\n";
    let findings = found(text);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    let finding = &findings[0];
    assert_eq!((finding.line, finding.column, finding.end_line, finding.end_column), (5, 5, 5, 13));
    assert_eq!(finding.policy.as_deref(), Some("a"));
    assert_eq!(
        finding.text(),
        "a.cedar:5:5: warning: this permits `write` on everything there is [any-resource]\n5 |     resource\n  |     ^\n  = say on what: resource in file_system::Dir::\"…\", resource == systemd::Service::\"…\""
    );
}

#[test]
fn every_fault_of_every_file_is_found() {
    let report = check_with(
        &[
            "permit(principal, action resource);",
            "@id(\"x\") permit(principal in Group::\"ops\", action == file_system::Action::\"raed\", resource);\n@reveal(\"no\") permit(principal, action, resource is file_system::Fyle);",
            "@id(\"x\") forbid(principal == ?principal, action, resource);\n@id(\"x\") forbid(principal, action in file_system::Action::\"edit\", resource);",
        ],
        Surroundings::default(),
    );
    let errors: Vec<(&str, usize, &str)> = report
        .findings
        .iter()
        .filter(|finding| finding.level == Level::Error)
        .map(|finding| (finding.file.as_str(), finding.line, finding.lint))
        .collect();
    assert_eq!(
        errors,
        [
            ("a.cedar", 1, "syntax"),
            ("b.cedar", 1, "invalid"),
            ("b.cedar", 2, "bad-reveal"),
            ("b.cedar", 2, "invalid"),
            ("c.cedar", 1, "template"),
            ("c.cedar", 2, "duplicate-id"),
        ],
        "{:#?}",
        report.findings
    );
}

#[test]
fn contradictions_are_found() {
    for condition in [
        "resource.path like \"/a/*\" && resource.path like \"/b/*\"",
        "resource.path == \"/a\" && resource in file_system::Dir::\"/b\"",
        "resource in file_system::Dir::\"/a\" && resource in file_system::Dir::\"/b\"",
        "resource in file_system::Dir::\"/a/b\" && !(resource in file_system::Dir::\"/a\")",
        "resource == file_system::File::\"/a\" && resource.path like \"*.log\"",
        "resource has size && resource.size < 5 && resource.size > 9",
        "resource has size && resource.size == 5 && resource.size != 5",
        "resource has name && !(resource has name)",
        "[\"/a\", \"/b\"].contains(resource.path) && resource.path like \"/c*\"",
        "context.session.now.toTime() > duration(\"22h\") && context.session.now.toTime() < duration(\"4h\")",
        "context.session.now > datetime(\"2027-02-01\") && context.session.now < datetime(\"2027-01-01T00:00:00Z\")",
        "context.session.now.toTime() >= duration(\"24h\")",
        "if resource.path like \"/a/*\" then resource.path == \"/b\" else resource.path like \"/a/x*\"",
        "principal == User::\"a\" && principal == User::\"b\"",
        "action == file_system::Action::\"stat\" && resource.path like \"/a/*\"",
        "context.session.mode == \"session\" && context.session.mode == \"local\"",
    ] {
        assert_eq!(names(&reading(condition)), ["never-matches"], "{condition}: {:#?}", found(&reading(condition)));
    }
    // The scope counts too.
    let scope = "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/var/log\") when { resource.path like \"/etc/*\" };";
    assert_eq!(names(scope), ["never-matches"]);
    let forbid = "forbid(principal, action, resource is file_system::File in file_system::Dir::\"/a\") when { resource.path == \"/b\" };";
    assert_eq!(names(forbid), ["never-matches"]);
}

#[test]
fn what_may_hold_is_no_contradiction() {
    for condition in [
        "resource.path like \"/a/*\" && resource.path like \"*/b\"",
        "resource.path like \"/a/*\" && !(resource.path like \"/a/b/*\")",
        "resource in file_system::Dir::\"/a\" && resource in file_system::Dir::\"/a/b\"",
        "resource in file_system::Dir::\"/\" && resource.path == \"/a\"",
        "resource has size && resource.size >= 5 && resource.size <= 5",
        "resource.path == \"/a\" || resource.path == \"/b\"",
        "[\"/a\", \"/b\"].contains(resource.path) && resource.path != \"/a\"",
        "context.session.now.toTime() > duration(\"22h\") || context.session.now.toTime() < duration(\"4h\")",
        "context.session.now > datetime(\"2027-01-01\") && context.session.now < datetime(\"2027-01-02T00:00:00+0100\")",
        "principal == User::\"a\" && principal in Group::\"ops\"",
        "resource has name && resource.name == \"a\" && resource.path like \"/x/*\"",
        "resource.path like \"/a/*\" && (resource has size || resource has owner)",
    ] {
        assert!(!names(&reading(condition)).contains(&"never-matches"), "{condition}: {:#?}", found(&reading(condition)));
    }
}

#[test]
fn an_alternative_that_never_holds_is_pointed_at() {
    let text = "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/srv\")\nwhen { resource.path like \"/srv/a/*\" ||\n  resource.path like \"/etc/*\" };";
    let findings = found(text);
    let finding = findings.iter().find(|finding| finding.lint == "never-matches").unwrap();
    assert_eq!((finding.line, finding.column), (3, 3), "{findings:#?}");
}

#[test]
fn a_permit_is_shadowed_only_by_what_takes_in_all_of_it() {
    let permit =
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/srv/a\");\n";
    for (forbid, shadowed) in [
        ("forbid(principal, action, resource in file_system::Dir::\"/srv\");", true),
        ("forbid(principal in Group::\"ops\", action in file_system::Action::\"view\", resource in file_system::Dir::\"/srv/a\");", true),
        ("forbid(principal is User, action, resource) when { resource in file_system::Dir::\"/srv\" };", true),
        ("forbid(principal, action, resource) unless { resource in file_system::Dir::\"/etc\" };", true),
        ("forbid(principal in Group::\"others\", action, resource in file_system::Dir::\"/srv\");", false),
        ("forbid(principal, action == file_system::Action::\"stat\", resource in file_system::Dir::\"/srv\");", false),
        ("forbid(principal, action, resource in file_system::Dir::\"/srv/a/b\");", false),
        ("forbid(principal, action, resource is file_system::File in file_system::Dir::\"/srv\");", false),
        ("forbid(principal, action, resource) when { resource.path like \"*.key\" };", false),
        ("forbid(principal, action, resource in file_system::Dir::\"/srv\") when { principal has agent };", false),
    ] {
        let found = names(&format!("{permit}{forbid}"));
        assert_eq!(found.contains(&"shadowed"), shadowed, "{forbid}: {found:?}");
    }
}

#[test]
fn permits_that_say_the_same_in_other_words_are_named_once() {
    let text = "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/srv\");\n\
                permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource) when { resource in file_system::Dir::\"/srv\" };";
    let findings = found(text);
    let redundant: Vec<usize> = findings.iter().filter(|finding| finding.lint == "redundant").map(|finding| finding.line).collect();
    assert_eq!(redundant, [2], "{findings:#?}");
}

#[test]
fn patterns_are_named_with_what_they_let_through() {
    let execute = |condition: &str| {
        format!(
            "permit(principal in Group::\"ops\", action == file_system::Action::\"execute\", resource == file_system::File::\"/usr/bin/df\") when {{ {condition} }};"
        )
    };
    let get = |condition: &str| {
        format!("permit(principal in Group::\"ops\", action == network::Action::\"GET\", resource) when {{ {condition} }};")
    };
    let resolve = |condition: &str| {
        format!("permit(principal in Group::\"ops\", action == sysinfo::Action::\"resolve_hostname\", resource) when {{ {condition} }};")
    };
    for (text, text_let_through) in [
        (reading("resource.path like \"/var/log/*.log\""), "/var/log/x/y.log"),
        (reading("resource.path like \"/proc/*/mounts\""), "/proc/x/y/mounts"),
        (reading("resource.path like \"/srv/app*\""), "/srv/app-x/y"),
        (execute("context.argv like \"-h *\""), "-h x y"),
        (get("resource.url like \"https://*/health\""), "https://evil.example/x/health"),
        (get("resource.url like \"https://*.example.com/*\""), "https://evil.example/x.example.com/"),
        (get("resource.url like \"https://api.example.com*\""), "https://api.example.com.evil.example/"),
        (get("resource.url like \"https://api.example.com:*\""), "https://api.example.com:x@evil.example/"),
        (get("resource.url like \"*example.com*\""), "https://evil.example/example.com"),
        (resolve("resource.hostname like \"*example.com\""), "evilexample.com"),
        (resolve("resource.hostname like \"db.*\""), "db.evil.example"),
    ] {
        let findings = found(&text);
        let told = findings
            .iter()
            .any(|finding| finding.lint.starts_with("pattern-") && finding.message.contains(&format!("`{text_let_through}`")));
        assert!(told, "{text}: {findings:#?}");
    }
}

#[test]
fn patterns_that_are_what_they_look_like_are_left_alone() {
    for condition in [
        "resource.path like \"/var/log/*\"",
        "resource.path like \"*.log\"",
        "resource.path like \"/var/log/*.log\" && !(resource.path like \"/var/log/*/*\")",
        "resource.path like \"/srv/app*\" && resource in file_system::Dir::\"/srv/app\"",
        "resource in file_system::Dir::\"/srv\" && !(resource.path like \"/srv/*.key\")",
        "resource.path == \"/srv/a\" && resource.path like \"/srv/*\"",
    ] {
        let found = names(&reading(condition));
        assert!(found.iter().all(|lint| !lint.starts_with("pattern-")), "{condition}: {found:?}");
    }
    // What a forbid catches is no danger; what it spares is.
    let forbid = |condition: &str| {
        names(&format!("forbid(principal, action == file_system::Action::\"read\", resource is file_system::File) {condition};"))
    };
    assert!(forbid("when { resource.path like \"/etc/shadow*\" }").is_empty());
    assert_eq!(forbid("unless { resource.path like \"/srv/app*\" }"), ["pattern-prefix"]);
}

#[test]
fn changing_needs_a_place_and_a_condition_can_be_one() {
    let write = |rest: &str| names(&format!("permit(principal in Group::\"ops\", action == file_system::Action::\"write\", {rest};"));
    for wide in [
        "resource)",
        "resource is file_system::File)",
        "resource in file_system::Dir::\"/\")",
        "resource) when { resource.path like \"*.conf\" }",
    ] {
        assert_eq!(write(wide), ["any-resource"], "{wide}");
    }
    for narrow in [
        "resource in file_system::Dir::\"/srv\")",
        "resource) when { resource.path like \"/srv/*\" }",
        "resource) when { resource has owner && resource.owner == \"app\" }",
        "resource) when { resource == file_system::File::\"/a\" || resource == file_system::File::\"/b\" }",
    ] {
        assert_eq!(write(narrow), [""; 0], "{narrow}");
    }
    // There is one of it.
    assert_eq!(names("permit(principal in Group::\"ops\", action == sysctl::Action::\"load\", resource);"), [""; 0]);
    assert_eq!(names("permit(principal in Group::\"ops\", action == systemd::Action::\"restart\", resource);"), ["any-resource"]);
}

#[test]
fn an_allow_silences_one_rule_and_is_checked_itself() {
    let rule = "permit(principal, action == file_system::Action::\"write\", resource);\n";
    let report =
        check_with(&[&format!("@id(\"a\")\n@allow(\"any-principal, any-resource\")\n{rule}@id(\"b\")\n{rule}")], Surroundings::default());
    let lines: Vec<(usize, &str)> = report.findings.iter().map(|finding| (finding.line, finding.lint)).collect();
    assert_eq!((report.allowed, lines), (2, vec![(5, "duplicate"), (5, "any-principal"), (5, "any-resource")]), "{:#?}", report.findings);
    let odd = found(&format!("@allow(\"any-ressource no-such syntax\")\n{rule}"));
    let messages: Vec<(&str, Option<&str>)> = odd
        .iter()
        .filter(|finding| finding.lint == "unknown-lint")
        .map(|finding| (finding.message.as_str(), finding.help.as_deref()))
        .collect();
    assert_eq!(
        messages,
        [
            ("there is no lint `any-ressource`", Some("did you mean \"any-resource\"?")),
            ("there is no lint `no-such`", Some("docs/policy-lints.md lists them")),
            ("`syntax` is a fault and stops everything; nothing can allow it", None),
        ],
        "{odd:#?}"
    );
    // What was not looked for is not called unused.
    let link = "@allow(\"link\")\npermit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/run\");";
    assert_eq!(names(link), [""; 0]);
    assert_eq!(
        check_with(&[link], Surroundings { host: Some(&Fake), ..Surroundings::default() })
            .findings
            .iter()
            .filter(|f| f.lint == "unused-allow")
            .count(),
        1
    );
}

#[test]
fn the_host_is_asked_about_paths() {
    let here = |text: &str| {
        let report = check_with(&[text], Surroundings { host: Some(&Fake), ..Surroundings::default() });
        report
            .findings
            .into_iter()
            .filter(|finding| finding.lint != "no-id")
            .map(|finding| (finding.lint, finding.help))
            .collect::<Vec<_>>()
    };
    let link = here("forbid(principal, action, resource) when { resource in file_system::Dir::\"/var/run/x\" };");
    assert_eq!(link, [("link", Some("write \"/run/x\"".to_owned()))]);
    assert_eq!(here(&reading("resource.path like \"/var/run/x/*\"")), [("link", Some("begin with \"/run/x/\"".to_owned()))]);
    assert_eq!(here(&reading("resource.path == \"/var/run/x\"")), [("link", Some("write \"/run/x\"".to_owned()))]);
    assert_eq!(here(&reading("resource.path == \"/no-such\""))[0].0, "missing");
    let execute = "permit(principal in Group::\"ops\", action == file_system::Action::\"execute\", resource == file_system::File::\"/opt/open/tool\");";
    assert_eq!(here(execute)[0].0, "open-to-all");
    let create =
        "permit(principal in Group::\"ops\", action == file_system::Action::\"create\", resource == file_system::File::\"/srv/no-such\");";
    assert!(here(create).is_empty());
}

#[test]
fn people_are_asked_about_names() {
    let people = People { users: ["alice".to_owned()].into(), groups: ["oncall".to_owned()].into(), others_pass: true };
    let look = |text: &str, people: &People| {
        let report = check_with(&[text], Surroundings { people: Some(people), ..Surroundings::default() });
        report.findings.into_iter().filter(|finding| finding.lint == "nobody").map(|finding| finding.help.unwrap()).collect::<Vec<_>>()
    };
    let group = "forbid(principal, action == sysctl::Action::\"load\", resource) unless { principal in Group::\"onccall\" };";
    assert_eq!(look(group, &people), ["did you mean `oncall`?"]);
    let user = "forbid(principal == User::\"mallory\", action == sysctl::Action::\"load\", resource);";
    assert_eq!(look(user, &people), [""; 0]);
    assert_eq!(look(user, &People { others_pass: false, ..people }).len(), 1);
}

#[test]
fn many_rules_and_hostile_ones_end() {
    let many: String = (0..2000)
        .map(|n| format!("@id(\"p{n}\") permit(principal in Group::\"g{}\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/srv/{n}\") when {{ resource.path like \"*.log\" }};\n", n % 7))
        .collect();
    assert_eq!(check_with(&[&many], Surroundings::default()).count(Level::Warning), 0);
    let alternatives =
        (0..400).map(|n| format!("(resource.path like \"*a{n}*\" || resource.path like \"*b{n}*\")")).collect::<Vec<_>>().join(" && ");
    let stars = format!("resource.path like \"{}\" && resource.path like \"{}\"", "*a".repeat(20_000), "*b".repeat(20_000));
    for condition in [alternatives, stars] {
        let text = format!("{}\n", reading(&condition));
        check_with(&[&text], Surroundings::default());
    }
}

/// Words of policies, in any order.
fn soup() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "permit",
        "forbid",
        "(",
        ")",
        "principal",
        "action",
        "resource",
        ",",
        ";",
        "when",
        "unless",
        "{",
        "}",
        "==",
        "!=",
        "in",
        "is",
        "has",
        "like",
        "&&",
        "||",
        "!",
        "\"/a/*\"",
        "\"\"",
        "1",
        "file_system::Dir::\"/a\"",
        "resource.path",
        "context.session.now",
        "[",
        "]",
        ".contains",
        "if",
        "then",
        "else",
        "@id",
        "@allow",
        "(\"x\")",
        "// c\n",
        "\n",
        "é",
        "\"",
        "datetime(\"2020-01-01\")",
        "true",
        "<",
        "-",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![soup(), "\\PC{0,80}".prop_map(|text| text), soup().prop_map(|text| reading(&text))]) {
        let people = People::default();
        let report = check_with(&[&text], Surroundings { host: Some(&Fake), people: Some(&people), now: Some(0) });
        for finding in &report.findings {
            prop_assert!(lint(finding.lint).is_some() && !finding.text().is_empty(), "{finding:?}");
        }
    }
}
