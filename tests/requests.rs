//! What a session can be asked besides running the script on stdin: -e, runbooks, arguments, check, can, functions, whoami, help, version; and `rex demo`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Rex, Run};

/// One file may be read, and one more under a condition; nothing else.
const READER: &str = r#"
@id("notes") permit(principal, action == file_system::Action::"read", resource == file_system::File::"{data}/notes");
@id("small") permit(principal, action == file_system::Action::"read", resource == file_system::File::"{data}/other") when { resource has size && resource.size < 10 };
"#;

fn host() -> Rex {
    Rex::new()
        .config("identity = [\"argument\"]")
        .policy(READER)
        .file("notes", "hello\n")
        .file("other", "12345\n")
        .runbook("hello", "`hello ${name}, ${2 * count}`")
        .runbook("lib/words", "fn shout(text) { text.to_upper() + \"!\" }")
        .runbook("loud", "import \"words\" as words; words::shout(\"hey\")")
}

fn ask(rex: &Rex, request: &str, stdin: &str) -> Run {
    rex.session(None, &["--principal", "reader"], Some(&rex.fill(request)), stdin)
}

#[test]
fn an_expression_runs_with_typed_arguments_that_its_functions_see() {
    needs_root!();
    let rex = host();
    let run = ask(
        &rex,
        r#"rex -e 'fn twice() { count * 2 } [twice(), on, ratio, name, list.len()]' count=21 on=true ratio=0.5 name=x:y list:=[1,2]"#,
        "",
    );
    assert_eq!(run.ends(0).stdout, "[42, true, 0.5, \"x:y\", 2]\n");
    let run = ask(&rex, "rex -e 'count = 5' count=1", "");
    assert_eq!(run.code, 1, "a constant stays one: {run:#?}");
    let run = ask(&rex, r#"rex -o json --arguments-json '{"count": 3}' -e 'count + 1'"#, "");
    assert_eq!(run.ends(0).json()["value"], 4);
}

#[test]
fn a_runbook_of_the_owner_runs_by_its_name_and_imports_only_the_owners_library() {
    needs_root!();
    let rex = host();
    assert_eq!(ask(&rex, "rex run @hello name=you count=3", "").ends(0).stdout, "hello you, 6\n");
    assert_eq!(ask(&rex, "rex run @loud", "").ends(0).stdout, "HEY!\n");
    for request in ["rex run @nonesuch", "rex run @../policies/test", "rex run @/etc/passwd", "rex run @hello.rhai"] {
        let run = ask(&rex, request, "");
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{request}: {run:#?}");
    }
    let run = ask(&rex, "rex", "import \"../policies/test\" as x;");
    assert_eq!(run.code, 1, "{run:#?}");
}

#[test]
fn check_tells_what_a_script_uses_and_runs_nothing() {
    needs_root!();
    let rex = host();
    let run = ask(&rex, "rex check -o json", "cat(\"{data}/notes\");\nwrite(\"{data}/mark\", \"ran\");");
    let report = run.ends(77).json();
    let answers: Vec<(&str, &str)> = report["functions"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|function| function["asks"].as_array().unwrap())
        .map(|ask| (ask["action"].as_str().unwrap(), ask["answer"].as_str().unwrap()))
        .collect();
    assert!(answers.contains(&("file_system::Action::\"read\"", "some")), "{answers:?}");
    assert!(answers.contains(&("file_system::Action::\"write\"", "no")), "{answers:?}");
    assert!(!rex.exists("mark"));
    let run = ask(&rex, "rex check", "let x = ;");
    assert_eq!(run.code, 65, "{run:#?}");
    assert!(run.stderr.contains("line 1, column 9"), "{run:#?}");
}

#[test]
fn can_answers_yes_no_and_depends_by_the_policy_that_enforces() {
    needs_root!();
    let rex = host();
    for (question, code, answer) in [
        ("read {data}/notes", 0, "yes"),
        ("file_system::Action::\"read\" 'file_system::File::\"{data}/notes\"'", 0, "yes"),
        ("read {data}/other", 0, "depends"),
        ("read /etc/shadow", 77, "no"),
        ("write {data}/notes", 77, "no"),
    ] {
        let run = ask(&rex, &format!("rex can {question}"), "");
        assert_eq!(run.code, code, "{question}: {run:#?}");
        assert!(run.stdout.starts_with(answer), "{question}: {run:#?}");
    }
    let run = ask(&rex, "rex can raed /etc/shadow", "");
    assert_eq!(run.code, 2, "{run:#?}");
    assert!(run.stderr.contains("read"), "names the nearest: {run:#?}");
    let all = ask(&rex, "rex can", "");
    assert!(all.ends(0).stdout.contains("  read on file_system::File::"), "{all:#?}");
    assert!(all.stdout.contains(", under conditions"), "{all:#?}");
    assert!(!all.stdout.contains("write"), "{all:#?}");
}

#[test]
fn whoami_shows_who_how_and_on_what_terms() {
    needs_root!();
    let rex = host();
    let run = ask(&rex, "rex whoami --json", "");
    let who = run.ends(0).json();
    assert_eq!(who["identity"]["principal"], "reader");
    assert_eq!(who["identity"]["evidence"], "argument");
    assert_eq!(who["limits"]["wall_seconds"], 300.0);
    assert!(who["layers"].as_array().unwrap().iter().any(|layer| layer == "no-new-privs"), "{who:#}");
    assert_eq!(who["policy"]["total"], 2);
    assert!(ask(&rex, "rex whoami", "").ends(0).stdout.contains("User::\"reader\""));
}

#[test]
fn the_api_help_and_version_are_for_anybody_who_is_somebody() {
    needs_root!();
    let rex = host();
    let run = ask(&rex, "rex functions --json cat", "");
    assert_eq!(run.ends(0).json()["functions"][0]["name"], "cat");
    assert!(ask(&rex, "rex functions", "").ends(0).stdout.contains("grep(pattern, source"));
    let run = ask(&rex, "rex functions catt", "");
    assert_eq!(run.code, 2, "{run:#?}");
    assert!(run.stderr.contains("`cat`"), "{run:#?}");
    assert!(ask(&rex, "rex help", "").ends(0).stdout.contains("rex whoami"));
    assert!(ask(&rex, "rex --version", "").ends(0).stdout.starts_with("rex "));
    assert_eq!(rex.session(None, &["--principal", "\u{1b}"], Some("rex whoami"), "").code, 78);
}

#[test]
fn what_this_version_does_not_have_says_so_and_runs_nothing() {
    needs_root!();
    let rex = Rex::new().config("identity = [\"argument\"]").policy(ALLOW_ALL);
    for request in ["rex mcp", "rex run --key k", "rex run --budget 5"] {
        let run = rex.session(None, &["--principal", "reader"], Some(request), "write(\"{data}/mark\", \"ran\")");
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{request}: {run:#?}");
        assert!(run.stderr.contains("not available in this version"), "{request}: {run:#?}");
        assert!(!rex.exists("mark"), "{request}");
    }
}

#[test]
fn a_timeout_of_the_request_only_lowers_the_hosts() {
    needs_root!();
    let rex = Rex::new().config("identity = [\"argument\"]\n[limits]\nwall = 1").policy(ALLOW_ALL);
    let start = std::time::Instant::now();
    let run = rex.session(None, &["--principal", "reader"], Some("rex run --timeout 1000"), "sleep(20)");
    assert_eq!(run.code, 124, "{run:#?}");
    assert!(start.elapsed().as_secs_f64() < 8.0);
}

#[test]
fn a_run_that_lasts_ends_when_its_policies_go_and_keeps_them_otherwise() {
    needs_root!();
    let mine = "permit(principal == User::\"reader\", action == file_system::Action::\"read\", resource);";
    for (changed, ends) in [
        (format!("{mine}\n// a word more\n"), false),
        ("permit(principal == User::\"other\", action, resource);".to_owned(), true),
        ("permit(principal, action, resource".to_owned(), true),
    ] {
        let rex = Rex::new().config("identity = [\"argument\"]").policy(mine).file("notes", "hello\n");
        let policy = rex.policy_file();
        let run = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(1500));
                std::fs::write(&policy, &changed).unwrap();
            });
            ask(&rex, "rex", "sleep(8); cat(\"{data}/notes\")")
        });
        if ends {
            assert_eq!((run.code, run.stdout.as_str()), (130, ""), "{changed}: {run:#?}");
            assert!(run.seconds < 7.5, "{changed}: {run:#?}");
            assert_eq!(run.events("run_end").len(), 1, "{run:#?}");
        } else {
            assert_eq!((run.code, run.stdout.as_str()), (0, "hello\n"), "{changed}: {run:#?}");
        }
    }
}

#[test]
fn the_demo_shows_an_allowed_and_a_denied_operation_and_the_record_of_both() {
    let rex = Rex::new();
    let run = rex.finish(rex.command(&["demo"]), b"");
    let shown = &run.ends(0).stdout;
    for part in ["2 errors on", "exit code 0", "why: forbidden", "exit code 77", "decision=allow", "decision=deny"] {
        assert!(shown.contains(part), "{part}: {run:#?}");
    }
    assert!(!shown.contains("correct-horse"), "the secret was shown");
    let left =
        std::fs::read_dir("/tmp").unwrap().flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("rex-demo-")).count();
    assert_eq!(left, 0, "nothing is left lying about");
}
