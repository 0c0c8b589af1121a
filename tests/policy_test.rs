//! `rex policy test` and `policy_tests` of rex.toml: what tests can say, what is wrong with them, and that a set which fails them never counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Rex, Run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// A folder with one policy file and its tests.
struct Desk {
    rex: Rex,
}

const LOGS: &str = r#"
@id("logs")
permit(principal in Group::"readers", action in file_system::Action::"view", resource in file_system::Dir::"/var/log");
@id("no-logins")
@hint("ask the security team")
forbid(principal, action, resource is file_system::File) when { resource.path like "/var/log/auth.log*" };
"#;

impl Desk {
    fn new(policy: &str, tests: &str) -> Self {
        Self { rex: Rex::new().file("p/a.cedar", policy).file("p/a.test.toml", tests) }
    }
    fn folder(&self) -> String {
        self.rex.path("p")
    }
    #[track_caller]
    fn test(&self, words: &[&str]) -> Run {
        let folder = self.folder();
        let mut all = vec!["policy", "test", folder.as_str()];
        all.extend(words);
        self.rex.finish(self.rex.command(&all), b"")
    }
    /// The one document of `--json`.
    #[track_caller]
    fn json(&self) -> Value {
        self.test(&["--json"]).json()
    }
}

/// Each line of tests that must pass with this policy.
#[track_caller]
fn pass(policy: &str, tests: &str) {
    let run = Desk::new(policy, tests).test(&[]);
    assert!(run.code == 0 && run.stdout.contains("; 0 failed;"), "{run:#?}");
}

/// What the only fault of these tests says, with the place.
#[track_caller]
fn faulty(tests: &str, place: &str, says: &str) {
    let run = Desk::new(LOGS, tests).test(&[]);
    assert_eq!(run.code, 78, "{tests}: {run:#?}");
    assert!(run.stderr.contains(&format!("a.test.toml:{place}: ")), "{tests}: {}", run.stderr);
    assert!(run.stderr.contains(says), "{tests}: {}", run.stderr);
    assert_eq!(run.stdout, "");
}

/// What the first failure of these tests says.
#[track_caller]
fn fails(policy: &str, tests: &str, says: &[&str]) {
    let run = Desk::new(policy, tests).test(&[]);
    assert_eq!(run.code, 1, "{tests}: {run:#?}");
    for says in says {
        assert!(run.stdout.contains(says), "{says}: {}", run.stdout);
    }
}

#[test]
fn what_passes_and_what_fails_is_told_as_cargo_tells_it() {
    let desk = Desk::new(
        LOGS,
        "[lines]\n\"lena in readers read /var/log/x\" = \"allow by logs\"\n\"lena in readers read /var/log/auth.log\" = \"allow\"\n",
    );
    let run = desk.test(&[]);
    assert_eq!(run.code, 1, "{run:#?}");
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "running 2 tests",
            "test a.test.toml::lena in readers read /var/log/x ... ok",
            "test a.test.toml::lena in readers read /var/log/auth.log ... FAILED"
        ]
    );
    for says in [
        "/a.test.toml:3: lena in readers read /var/log/auth.log",
        "expected allow",
        "the policies say: deny forbidden by no-logins",
        "test result: FAILED. 1 passed; 1 failed; 0 filtered out; 2 of 2 rules decided",
    ] {
        assert!(run.stdout.contains(says), "{says}: {}", run.stdout);
    }
    let only = desk.test(&["--filter", "/var/log/x"]);
    assert!(only.code == 0 && only.stdout.contains("1 passed; 0 failed; 1 filtered out"), "{only:#?}");
    assert_eq!(desk.test(&["--filter", "nothing like this"]).code, 1);
    let json = desk.json();
    assert_eq!((json["schema"].as_str(), json["passed"].as_u64(), json["failed"].as_u64()), (Some("rex.policy-test/1"), Some(1), Some(1)));
    assert_eq!(json["tests"][1]["actual"]["by"], serde_json::json!(["no-logins"]));
    assert_eq!(json["tests"][1]["actual"]["hint"], "ask the security team");
}

#[test]
fn a_test_asks_about_everything_that_rules_look_at() {
    pass(
        r#"
@id("shift") permit(principal in Group::"night", action == systemd::Action::"restart", resource is systemd::Service)
    when { context.session.now.toTime() < duration("4h") && context.session has client_address && context.session.client_address.isInRange(ip("192.0.2.0/24")) };
@id("own") permit(principal, action == file_system::Action::"delete", resource in file_system::Dir::"/srv")
    when { resource has owner && resource.owner == "app" && resource has size && resource.size < 100 };
@id("runbook") permit(principal, action == systemd::Action::"start", resource) when { context.session has runbook && context.session.runbook == "start" };
@id("certificate") permit(principal, action == sysinfo::Action::"list", resource)
    when { principal has certificate && principal.certificate.principals.contains("ops") && principal.certificate.expiry > context.session.now };
@id("agents") forbid(principal, action in file_system::Action::"edit", resource) when { principal has agent };
@id("chmod") permit(principal, action == file_system::Action::"chmod", resource) when { !context.world_writable && !context.set_uid };
@id("move") permit(principal, action == file_system::Action::"move", resource) when { context.destination.parent_path == "/srv/new" };
@id("pairs") permit(principal, action == file_system::Action::"execute", resource == file_system::File::"/usr/bin/x")
    when { context.arguments.hasTag("--in") && context.arguments.getTag("--in") == "/srv/a" && context.argc == 2 };
@id("process") permit(principal, action == process_system::Action::"list", resource) when { resource.username == "app" && resource has unit };
@id("journal") permit(principal, action == journal::Action::"read", resource in journal::Log::"system") when { context.priority <= 4 };
"#,
        r#"
[lines]
"n in night restart a.service now=2026-12-01T03:00:00Z client_address=192.0.2.7" = "allow by shift"
"n in night restart a.service now=2026-12-01T04:00:00Z client_address=192.0.2.7" = "deny condition_failed by shift"
"n in night restart a.service now=2026-12-01T03:00:00Z client_address=198.51.100.7" = "deny"
"n in night restart a.service now=2026-12-01T03:00:00Z" = "deny"
"a delete /srv/x resource.owner=app resource.size=0x10" = "allow by own"
"a delete /srv/x resource.owner=app resource.size=100" = "deny"
"a delete /srv/x missing" = "deny condition_failed"
"a delete /srv/x resource.owner=app resource.size=1 principal.agent=bot" = "deny forbidden by agents"
"a start a.service session.runbook=start" = "allow"
"a start a.service" = "deny"
"a chmod /srv/x context.mode=0o640" = "allow by chmod"
"a chmod /srv/x context.mode=0o642" = "deny"
"a chmod /srv/x context.mode=0o4755" = "deny"
"a move /srv/x context.destination=/srv/new/x" = "allow"
"a move /srv/x context.destination=/srv/old/x" = "deny"
"a process_system::list 7 resource.username=app resource.unit=app.service" = "allow"
"a process_system::list 7 resource.username=app" = "deny"
"a journal::read kernel context.priority=4" = "allow"
"a journal::read a.service" = "deny"
[[test]]
principal = "c"
principal_has = { certificate = { key_id = "c", serial = 7, authority = "x", principals = ["ops"], expiry = 2026-12-02T00:00:00Z, extensions = [] } }
action = "sysinfo::list"
resource = "local"
now = 2026-12-01T00:00:00Z
expect = "allow"
by = ["certificate"]
[[test]]
principal = "c"
action = "execute"
resource = "/usr/bin/x"
context = { argv = [["--in", "/srv/a"]] }
expect = "allow"
"#,
    );
}

#[test]
fn a_table_is_every_combination_and_defaults_and_principals_are_said_once() {
    let desk = Desk::new(
        LOGS,
        r#"
[principals]
lena = ["readers"]
otto = { groups = ["others"], uid = 7 }
[defaults]
action = ["read", "stat"]
[[test]]
name = "open"
principal = "lena"
resource = ["/var/log/a", "/var/log/b/"]
expect = "allow"
by = ["logs"]
[[test]]
name = "closed"
principal = ["lena", "otto"]
resource = "/var/log/auth.log"
expect = "deny"
why = "forbidden"
hint = "ask the security team"
retry = false
"#,
    );
    let run = desk.test(&["--require-coverage"]).ends(0).stdout.clone();
    assert!(run.contains("running 8 tests") && run.contains("test a.test.toml::open (lena stat /var/log/b/) ... ok"), "{run}");
}

#[test]
fn closed_places_and_open_are_judged_as_in_a_run() {
    let policy = "@id(\"all\") permit(principal, action, resource);\n@id(\"nobody-opens\") forbid(principal, action == file_system::Action::\"open\", resource in file_system::Dir::\"/srv/closed\");\n";
    pass(
        policy,
        r#"
[lines]
"a read /srv/x" = "allow by all"
"a read /root/.ssh/id_ed25519" = "deny closed"
"a write /etc/rex/rex.toml" = "deny closed"
"a read /proc/1/environ" = "deny forbidden"
"a read /srv/closed/x" = "deny forbidden by nobody-opens"
"#,
    );
    let reads = "@id(\"reads\") permit(principal, action == file_system::Action::\"read\", resource in file_system::Dir::\"/srv\");\n";
    pass(reads, "[lines]\n\"a read /srv/x\" = \"allow\"\n");
    pass(reads, "open = \"explicit\"\n[lines]\n\"a read /srv/x\" = \"deny not_permitted\"\n");
    // As rex.toml says, where the file says nothing.
    let desk = Desk::new(reads, "[lines]\n\"a read /srv/x\" = \"deny not_permitted\"\n");
    let rex = &desk.rex;
    fs::write(rex.config_file(), "open = \"explicit\"\n").unwrap();
    desk.test(&["--config", rex.config_file().to_str().unwrap()]).ends(0);
    desk.test(&[]).ends(1);
}

#[test]
fn a_test_that_does_not_tell_what_rules_look_at_fails_and_says_what() {
    let rule = |when: &str| format!("@id(\"r\") permit(principal, action in file_system::Action::\"view\", resource) when {{ {when} }};\n");
    let tells = |when: &str, what: &str| {
        fails(&rule(when), "[lines]\n\"a read /x\" = \"deny\"\n", &[&format!("the test does not tell `{what}`")]);
    };
    tells("resource has owner && resource.owner == \"app\"", "resource.owner");
    tells("context.session.now > datetime(\"2026-01-01\")", "now");
    tells("principal has uid && principal.uid == 0", "principal.uid");
    tells("context.session has host && context.session.host == \"a\"", "session.host");
    fails(
        "@id(\"r\") permit(principal, action == file_system::Action::\"chmod\", resource) when { context.mode == 0 };\n",
        "[lines]\n\"a chmod /x\" = \"deny\"\n",
        &["the test does not tell `context.mode`"],
    );
    // What the caller may lack is simply absent.
    pass(
        &rule("principal has agent || (context.session has runbook && context.session.runbook == \"x\")"),
        "[lines]\n\"a read /x\" = \"deny condition_failed\"\n",
    );
}

#[test]
fn a_failure_names_the_rules_and_the_part_of_the_condition_that_is_false() {
    fails(
        "@id(\"small\") permit(principal, action == file_system::Action::\"read\", resource) when { resource.path like \"/srv/*\" && resource has size && resource.size < 10 };\n",
        "[lines]\n\"a read /srv/x resource.size=11\" = \"allow\"\n",
        &[
            "expected allow",
            "the policies say: deny condition_failed by small",
            "`small` would permit it, but `resource.size < 10` is false",
        ],
    );
    fails(LOGS, "[lines]\n\"a read /etc/x\" = \"allow\"\n", &["the policies say: deny not_permitted", "no rule permits it"]);
    fails(
        LOGS,
        "[lines]\n\"a in readers read /var/log/x\" = \"allow by lgos\"\n",
        &["there is no rule `lgos` in the policies of this test"],
    );
    fails(LOGS, "[lines]\n\"a in readers read /var/log/x\" = \"deny forbidden by no-logins\"\n", &["expected deny forbidden by no-logins"]);
    let table = |more: &str| {
        format!("[[test]]\nprincipal = \"a\"\naction = \"read\"\nresource = \"/var/log/auth.log\"\nexpect = \"deny\"\n{more}\n")
    };
    fails(LOGS, &table("hint = \"other\""), &["expected the hint \"other\", and it is \"ask the security team\""]);
    fails(LOGS, &table("retry = true"), &["expected retry = true"]);
    fails(LOGS, &table("why = \"not_permitted\""), &["expected it to be denied because not_permitted"]);
    fails(LOGS, &table("by = [\"logs\"]"), &["expected `logs` to decide", "expected `no-logins` not to decide too"]);
}

#[test]
fn what_is_wrong_in_a_file_is_said_with_its_place_and_what_would_be_right() {
    faulty("polices = [\"a.cedar\"]\n", "1:1", "unknown key `polices`; did you mean `policies`?");
    faulty("policies = [\"b.cedar\"]\n[lines]\n\"a read /x\" = \"deny\"\n", "1:14", "there is no `b.cedar` among the policies");
    faulty("policies = [\"../a.cedar\"]\n", "1:13", "name files of this folder");
    faulty("open = \"maybe\"\n", "1:8", "`open` is \"implied\" or \"explicit\"");
    faulty("[lines]\n\"a reed /x\" = \"deny\"\n", "2:1", "there is no action `reed`; did you mean `read`?");
    faulty("[lines]\n\"a view /x\" = \"deny\"\n", "2:1", "`view` is a group of actions; a test asks about one of them");
    faulty("[lines]\n\"a list local\" = \"deny\"\n", "2:1", "write `sysinfo::list` or `systemd::list`");
    faulty("[lines]\n\"a restart /x\" = \"deny\"\n", "2:1", "`/x` is a path, and `restart` is not done to files");
    faulty("[lines]\n'a read journal::Lug::\"x\"' = \"deny\"\n", "2:1", "not to `journal::Lug`");
    faulty("[lines]\n\"a write /x/\" = \"deny\"\n", "2:1", "take the last `/` away");
    faulty("[lines]\n\"a read /x/../y\" = \"deny\"\n", "2:1", "is no canonical path");
    faulty("[lines]\n\"a read x\" = \"deny\"\n", "2:1", "a path begins with `/`");
    faulty("[lines]\n\"a read\" = \"deny\"\n", "2:1", "expected `PRINCIPAL [in GROUP,GROUP] ACTION RESOURCE");
    faulty("[lines]\n\"a read /x\" = \"maybe\"\n", "2:15", "expected `allow [by ID]` or `deny [WHY] [by ID]`");
    faulty(
        "[lines]\n\"a read /x resource.onwer=b\" = \"deny\"\n",
        "2:1",
        "a file_system::File has no attribute `onwer`; did you mean `owner`?",
    );
    faulty("[lines]\n\"a read /x resource.size=b\" = \"deny\"\n", "2:1", "`size`: expected a whole number, not `b`");
    faulty("[lines]\n\"a read /x now=2026-12-01T00:00:00\" = \"deny\"\n", "2:1", "expected a time with its zone");
    faulty("[lines]\n\"a read /x client_address=here\" = \"deny\"\n", "2:1", "expected an address");
    faulty("[lines]\n\"a read /x session.run=b\" = \"deny\"\n", "2:1", "the id of a run is new for each");
    let test = |more: &str| format!("[[test]]\nprincipal = \"a\"\naction = \"read\"\nresource = \"/x\"\n{more}\n");
    faulty(&test(""), "1:1", "the test has no `expect`");
    faulty(&test("expect = \"maybe\""), "5:10", "`expect` is \"allow\" or \"deny\"");
    faulty(&test("expect = \"allow\"\nwhy = \"forbidden\""), "1:1", "`why`, `hint` and `retry` are about denials");
    faulty(&test("expect = \"deny\"\nwhy = \"because\""), "6:7", "`why` is one of forbidden");
    faulty(&test("expect = \"deny\"\nresuorce_has = { size = 1 }"), "6:1", "did you mean `resource_has`?");
    faulty(&test("expect = \"deny\"\nresource_has = { size = \"1\" }"), "6:18", "`size`: expected a whole number");
    faulty(&test("expect = \"deny\"\nresource_has = { size = 1.5 }"), "6:25", "policies know whole numbers only");
    faulty(&test("expect = \"deny\"\nmissing = true\nresource_has = { size = 1 }"), "1:1", "what is `missing` has no attributes");
    faulty(&test("expect = \"deny\"\nprincipal_has = { certificate = { key_id = \"x\" } }"), "6:19", "`certificate`: it lacks `serial`");
    faulty("[[test]]\nexpect = \"deny\"\n", "1:1", "the test has no `principal`");
    faulty("[lines]\n\"a read /x\" = \"deny\"\n\"a read /x\" = \"deny\"\n", "3:1", "duplicate key");
    faulty("x = \n", "1:5", "");
    faulty("[lines]\na in g read /x = \"deny\"\n", "2:3", "a question is in quotes: \"a in g read /x\" = \"allow\"");
}

#[test]
fn a_failure_says_what_small_change_would_be_permitted() {
    let policy = "@id(\"logs\") permit(principal in Group::\"oncall\", action in file_system::Action::\"view\", resource == file_system::Dir::\"/var/log\");";
    let line = |question: &str| format!("[lines]\n\"{question}\" = \"allow\"\n");
    fails(
        policy,
        &line("olga in oncall read /var/log"),
        &["`/var/log` is taken for a file; the folder, which `logs` permits, is written `/var/log/`"],
    );
    fails(
        policy,
        &line("olga read /var/log/"),
        &["`logs` would permit it to the group `oncall`, which `olga` is not in here: write `olga in oncall"],
    );
}

#[test]
fn an_annotation_is_a_test_of_its_rule() {
    let rule = |test: &str| {
        format!(
            "@id(\"logs\")\n@test(\"{test}\")\npermit(principal in Group::\"readers\", action in file_system::Action::\"view\", resource in file_system::Dir::\"/var/log\");\n@id(\"more\") permit(principal, action, resource == file_system::File::\"/more\");"
        )
    };
    let desk = |test: &str| Rex::new().file("p/a.cedar", &rule(test));
    let run = |rex: &Rex| rex.finish(rex.command(&["policy", "test", &rex.path("p")]), b"");
    let good = run(&desk("lena in readers read /var/log/x = allow; otto read /var/log/x = deny not_permitted"));
    assert!(good.code == 0 && good.stdout.contains("2 passed") && good.stdout.contains("1 of 2 rules decided"), "{good:#?}");
    // `allow` at a permit means by it.
    let other = run(&desk("lena in readers read /more = allow"));
    assert!(other.code == 1 && other.stdout.contains("expected `logs` to decide"), "{other:#?}");
    let bad = run(&desk("lena in readers read /var/log/x"));
    assert!(bad.code == 78 && bad.stderr.contains("a.cedar:2:1: `@test` is QUESTION = ANSWER"), "{bad:#?}");
}

#[test]
fn coverage_lists_rules_that_no_test_decides_and_can_be_demanded() {
    let desk = Desk::new(LOGS, "[lines]\n\"lena in readers read /var/log/x\" = \"allow\"\n");
    let run = desk.test(&[]).ends(0).stdout.clone();
    assert!(run.contains("1 of 2 rules decided") && run.contains("--coverage lists"), "{run}");
    let run = desk.test(&["--coverage"]).ends(0).stdout.clone();
    assert!(run.contains("rules that no test decides:") && run.contains("/a.cedar:4: no-logins"), "{run}");
    let run = desk.test(&["--require-coverage"]).ends(1).stdout.clone();
    assert!(run.contains("test result: FAILED. 1 passed; 0 failed"), "{run}");
    assert_eq!(desk.json()["undecided"][0]["policy"], "no-logins");
    // A permit that is in question but permits nothing is not tried.
    let desk = Desk::new(
        "@id(\"r\") permit(principal, action == sysinfo::Action::\"list\", resource) when { principal has agent };",
        "[lines]\n\"a sysinfo::list local\" = \"deny condition_failed by r\"\n",
    );
    desk.test(&["--require-coverage"]).ends(1);
}

#[test]
fn invalid_policies_and_no_tests_at_all_are_no_success() {
    let desk = Desk::new("permit(principal, action, resource) when { 1 };", "[lines]\n\"a read /x\" = \"allow\"\n");
    let run = desk.test(&[]).ends(78).stderr.clone();
    assert!(run.contains("a.cedar:1:"), "{run}");
    let rex = Rex::new().file("p/a.cedar", LOGS);
    let run = rex.finish(rex.command(&["policy", "test", &rex.path("p")]), b"");
    assert!(run.code == 1 && run.stderr.contains("there is no test"), "{run:#?}");
    let run = rex.finish(rex.command(&["policy", "test", &rex.path("nowhere")]), b"");
    assert!(run.code == 78 && run.stderr.contains("there is nothing at"), "{run:#?}");
}

#[test]
fn a_file_of_policies_is_tried_alone_and_a_file_of_tests_with_its_folder() {
    let rex = Rex::new()
        .file("p/a.cedar", LOGS)
        .file("p/a.test.toml", "policies = [\"a.cedar\"]\n[lines]\n\"a in readers read /var/log/x\" = \"allow\"\n")
        .file("p/b.cedar", "@id(\"b\") forbid(principal, action, resource);\n")
        .file("p/b.test.toml", "[lines]\n\"a in readers read /var/log/x\" = \"deny forbidden by b\"\n");
    let test = |path: &str| rex.finish(rex.command(&["policy", "test", &rex.path(path)]), b"");
    let alone = test("p/a.cedar").ends(0).stdout.clone();
    assert!(alone.contains("1 passed") && alone.contains("1 of 2 rules"), "{alone}");
    let file = test("p/b.test.toml").ends(0).stdout.clone();
    assert!(file.contains("1 passed") && file.contains("1 of 3 rules"), "{file}");
    assert!(test("p").ends(0).stdout.contains("2 passed"));
}

/// A host whose rex.toml demands tests.
fn demanding(policy: &str, tests: &str) -> Rex {
    let rex = Rex::new().config("identity = [\"argument\"]\npolicy_tests = \"require\"").principals("default = \"pass\"\n").policy(policy);
    fs::write(rex.root().join("etc/policies/test.test.toml"), rex.fill(tests)).unwrap();
    rex
}

const DATA: &str = "@id(\"data\") permit(principal, action in file_system::Action::\"view\", resource in file_system::Dir::\"{data}\");\n";
const TRIED: &str = "[lines]\n\"a read {data}/x\" = \"allow by data\"\n\"a read /etc/passwd\" = \"deny\"\n";

#[track_caller]
fn session(rex: &Rex) -> Run {
    rex.session(None, &["--principal", "a"], Some("rex -o json"), "cat(\"{data}/x\")")
}

#[test]
fn a_set_counts_only_when_its_tests_pass_where_rex_toml_demands_it() {
    needs_root!();
    let rex = demanding(DATA, TRIED).file("x", "text\n");
    session(&rex).gives("text\n");
    // The second start takes the result of the first.
    session(&rex).gives("text\n");
    let refused = |rex: &Rex, says: &str| {
        let run = session(rex);
        assert_eq!(run.code, 78, "{run:#?}");
        assert!(run.stdout.contains(says), "{says}: {run:#?}");
        assert!(run.events("refused").iter().any(|record| record["what"] == "policy"), "{run:#?}");
        assert!(!run.stdout.contains("text\\n"), "{run:#?}");
    };
    let refused_too = |rex: &Rex| {
        let local = rex.finish(rex.command(&["run", "--config", rex.config_file().to_str().unwrap(), "-e", "1"]), b"");
        assert_eq!(local.code, 78, "{local:#?}");
    };
    let tests = rex.root().join("etc/policies/test.test.toml");
    // A test that fails, though the policies are as they were and known to be valid.
    fs::write(&tests, rex.fill("[lines]\n\"a read {data}/x\" = \"deny\"\n")).unwrap();
    refused(&rex, "the policies do not pass their tests");
    refused_too(&rex);
    fs::write(&tests, "[lines]\n\"a reed /x\" = \"deny\"\n").unwrap();
    refused(&rex, "there is no action `reed`");
    fs::remove_file(&tests).unwrap();
    refused(&rex, "no test decides `data`");
    fs::write(&tests, rex.fill(TRIED)).unwrap();
    session(&rex).gives("text\n");
    // A new rule without a test.
    let policy = format!("{DATA}@id(\"more\") permit(principal, action == sysinfo::Action::\"list\", resource);\n");
    let rex = rex.policy(&policy);
    refused(&rex, "no test decides `more`");
    // Tests of others.
    let rex = demanding(DATA, TRIED).file("x", "text\n");
    fs::set_permissions(rex.root().join("etc/policies/test.test.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    refused(&rex, "everybody can write it");
}

#[test]
fn a_result_is_remembered_for_the_same_texts_only_and_from_root_alone() {
    needs_root!();
    let rex = demanding(DATA, TRIED).file("x", "text\n").own_program();
    session(&rex).gives("text\n");
    let cache = rex.root().join("etc/cache");
    let entries = || {
        let names = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("tested-")).collect::<Vec<_>>()
    };
    let first = entries();
    assert_eq!(first.len(), 1, "{first:?}");
    session(&rex).gives("text\n");
    assert_eq!(entries(), first);
    // An entry that says nothing, or the wrong thing, is as good as none.
    fs::write(&first[0], "yes").unwrap();
    session(&rex).gives("text\n");
    // An entry of another set under the name of this one does not count.
    let tests = rex.root().join("etc/policies/test.test.toml");
    let known = fs::read(&first[0]).unwrap();
    fs::write(&tests, rex.fill("[lines]\n\"a read {data}/x\" = \"deny\"\n")).unwrap();
    for entry in entries() {
        fs::write(entry, &known).unwrap();
    }
    assert_eq!(session(&rex).code, 78);
}

#[test]
fn tests_are_off_unless_demanded() {
    needs_root!();
    let rex = Rex::new().config("identity = [\"argument\"]").principals("default = \"pass\"\n").policy(DATA).file("x", "text\n");
    fs::write(rex.root().join("etc/policies/test.test.toml"), "nonsense").unwrap();
    session(&rex).gives("text\n");
    let run = rex.finish(rex.command(&["policy", "test", "--config", rex.config_file().to_str().unwrap()]), b"");
    assert_eq!(run.code, 78, "{run:#?}");
    fs::write(rex.root().join("etc/policies/test.test.toml"), rex.fill(TRIED)).unwrap();
    let run = rex.finish(rex.command(&["policy", "test", "--config", rex.config_file().to_str().unwrap()]), b"");
    assert!(run.code == 0 && run.stdout.contains("2 passed"), "{run:#?}");
}

#[test]
fn a_set_that_fails_its_tests_is_not_put_in_force() {
    needs_root!();
    let rex = Rex::new().config("identity = [\"argument\"]").principals("default = \"pass\"\n").policy(DATA).file("x", "text\n");
    let activate = |folder: &str| {
        let folder = rex.root().join(folder);
        let words = ["policy", "activate", "--config", rex.config_file().to_str().unwrap(), folder.to_str().unwrap()].map(str::to_owned);
        rex.finish(rex.command(&words.each_ref().map(String::as_str)), b"")
    };
    let set = |name: &str, tests: Option<&str>| {
        let folder = rex.root().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("new.cedar"), rex.fill(&format!("{DATA}// Another text.\n"))).unwrap();
        if let Some(tests) = tests {
            fs::write(folder.join("new.test.toml"), rex.fill(tests)).unwrap();
        }
    };
    set("fails", Some("[lines]\n\"a read {data}/x\" = \"deny\"\n"));
    set("passes", Some(TRIED));
    set("untried", None);
    let run = activate("fails");
    assert!(run.code == 78 && run.stderr.contains("do not pass their tests") && run.stderr.contains("nothing has changed"), "{run:#?}");
    assert!(rex.root().join("etc/policies/test.cedar").exists());
    let run = activate("passes");
    assert!(run.code == 0 && run.stdout.contains("2 tests passed"), "{run:#?}");
    session(&rex).gives("text\n");
    activate("untried").ends(0);
    // Where tests are demanded, a set without any is none.
    let rex = demanding(DATA, TRIED).file("x", "text\n");
    let set = rex.root().join("untried");
    fs::create_dir_all(&set).unwrap();
    fs::write(set.join("new.cedar"), rex.fill(&format!("{DATA}// Another text.\n"))).unwrap();
    let config = rex.config_file();
    let run = rex.finish(rex.command(&["policy", "activate", "--config", config.to_str().unwrap(), set.to_str().unwrap()]), b"");
    assert!(run.code == 78 && run.stderr.contains("no test decides `data`"), "{run:#?}");
    session(&rex).gives("text\n");
}
