//! Functions on text through the binary: what is denied and written, what is on record, memory, rotations, and the language's own words beside ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Rex};
use serde_json::json;
use std::fs;
use std::io::Write as _;

const SECRET: &str = "s3cret-of-the-vault";

#[test]
fn sed_in_place_is_denied_where_only_redacted_reading_is_permitted() {
    // files.md B2: the reference writes `[REDACTED]` back into the file.
    let rex = Rex::new().file("conf", "user=me\npassword=hunter2\n").policy(
        "permit(principal, action == file_system::Action::\"redacted_read\", resource);\n\
         permit(principal, action == file_system::Action::\"write\", resource);\n\
         permit(principal, action == file_system::Action::\"create\", resource);",
    );
    for script in [
        r#"sed("me", "you", "{data}/conf", #{in_place: true})"#,
        r#"sed([sed::in_place, sed::all], "me", "you", "{data}/conf")"#,
        r#"sed("me", "you", "{data}/conf", #{in_place: true, backup: ".bak"})"#,
    ] {
        rex.run(script).is_denied();
        assert_eq!(rex.read("conf"), "user=me\npassword=hunter2\n", "{script}");
        assert!(!rex.exists("conf.bak"));
    }
}

#[test]
fn what_sed_changes_is_on_record_and_what_it_says_is_not() {
    // files.md A26: the reference logs whole results.
    let rex = Rex::new().policy(ALLOW_ALL).file("conf", &format!("key={SECRET}\n"));
    let run = rex.run(&format!(
        r#"sed("{SECRET}", "other-{SECRET}", "{{data}}/conf", #{{in_place: true}}); replace_text("{SECRET}", "s3", "S3"); ()"#
    ));
    run.ends(0);
    assert_eq!(rex.read("conf"), format!("key=other-{SECRET}\n"));
    let records = serde_json::to_string(&run.audit).unwrap();
    assert!(!records.contains("of-the-vault") && !run.stdout.contains("of-the-vault") && !run.stderr.contains("of-the-vault"), "{run:#?}");
    let effects = run.events("effect");
    assert!(effects.iter().any(|effect| effect["action"] == "file_system::Action::\"write\""), "{run:#?}");
    // A run that changes nothing leaves no deed on record.
    let run = rex.run(r#"sed("absent", "x", "{data}/conf", #{in_place: true}); ()"#);
    assert!(run.ends(0).events("effect").is_empty(), "{run:#?}");
}

#[test]
fn sums_over_a_large_file_take_no_memory() {
    // files.md E8: the reference loads the file.
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\nmemory = \"32MiB\"\n");
    let line = format!("2,{}\n", "x".repeat(1021));
    let block = line.repeat(1024);
    let mut file = fs::File::create(rex.data().join("large")).unwrap();
    for _ in 0..200 {
        file.write_all(block.as_bytes()).unwrap();
    }
    drop(file);
    rex.run(r#"awk_sum(1, ",", "{data}/large")"#).gives(409_600.0);
    rex.run(r#"awk_count_unique(1, ",", "{data}/large")"#).gives(json!({"2": 204_800}));
    let run = rex.run(r#"sed("x", "y", "{data}/large", #{in_place: true, max_bytes: 1000000000})"#);
    assert_eq!((run.code, run.error_type().as_str()), (125, "LIMIT_EXCEPTION"), "{run:#?}");
    assert_eq!(fs::metadata(rex.data().join("large")).unwrap().len(), 200 << 20);
}

#[test]
fn only_what_may_be_shown_is_worked_on_where_only_redacted_reading_is_permitted() {
    let rex = Rex::new()
        .file("log", &format!("user=alice\npassword={SECRET}\nuser=bob\n"))
        .policy("permit(principal, action == file_system::Action::\"redacted_read\", resource);");
    fs::write(rex.root().join("etc/redaction"), "user=%s\n").unwrap();
    for call in [
        "sed(\"a\", \"b\", p)",
        "sed(\"s3c\", \"FOUND\", p)",
        "awk_field(2, \"=\", p)",
        "awk_filter(\"s3cret\", p)",
        "awk_count_unique(2, \"=\", p)",
        "cut(p, #{fields: 2, delim: \"=\"})",
        "sort(p)",
        "uniq(p)",
        "join_lines(p, \",\")",
        "diff(p, \"x\\n\")",
        "comm(p, [\"password=s3cret-of-the-vault\"])",
        "column(p)",
        "strings(p)",
        "sed(\"a\", \"b\", open(p))",
        "awk_field(2, \"=\", open(p))",
    ] {
        let run = rex.run(&format!("let p = \"{{data}}/log\"; {call}"));
        assert!(!run.stdout.contains(&SECRET[..6]) || call.contains("comm("), "{call}: {run:#?}");
        assert!(!run.stdout.contains("FOUND"), "{call}: {run:#?}");
        assert_eq!(run.code, 0, "{call}: {run:#?}");
    }
    let both = rex.run("comm(\"{data}/log\", [\"password=s3cret-of-the-vault\"]).both");
    both.gives(json!([]));
    rex.run("awk_filter(\"s3cret\", \"{data}/log\")").gives(json!([]));
    rex.run("follow(\"{data}/log\", #{seconds: 0, from_end: 5})").is_denied();
}

#[test]
fn numbers_in_a_row_end_where_ints_end() {
    // files.md C6.
    let rex = Rex::new().policy(ALLOW_ALL);
    rex.run("seq(9223372036854775806, 9223372036854775807)").gives(json!([9_223_372_036_854_775_806_i64, i64::MAX]));
    let run = rex.run("seq(1, 10000000000)");
    assert_eq!((run.code, run.json()["error"]["kind"].as_str()), (1, Some("too_large")), "{run:#?}");
    rex.run("let n = 0; for i in range(1, 10 + 1, 3) { n += i } n").gives(22);
}

#[test]
fn the_languages_own_words_keep_their_sense() {
    let rex = Rex::new().policy(ALLOW_ALL).file("f", "b\na\n");
    for (script, value) in [
        ("let a = [3, 1, 2]; a.sort(); a", json!([1, 2, 3])),
        ("let a = [3, 1, 2]; a.sort(|x, y| y - x); a", json!([3, 2, 1])),
        ("let a = [\"b\", \"a\"]; let b = sort(a, #{}); [a, b]", json!([["b", "a"], ["a", "b"]])),
        ("let a = [\"b\", \"a\"]; a.sort(#{reverse: true})", json!(["b", "a"])),
        ("let a = [3, 1.5, 2]; let b = sort(a); b.push(9); [a, b]", json!([[1.5, 2, 3], [1.5, 2, 3, 9]])),
        ("let a = [9007199254740993, 9007199254740992]; a.sort()", json!([9007199254740992i64, 9007199254740993i64])),
        ("const A = [\"b\", \"a\"]; let b = sort(A); [A, b, A.sort()]", json!([["b", "a"], ["a", "b"], ["a", "b"]])),
        ("let m = #{list: [2, 1]}; m.list.sort(); m.list", json!([1, 2])),
        ("let a = [2, 1]; let f = || a.sort(); f.call(); a", json!([1, 2])),
        ("let a = [true, false, true]; a.sort()", json!([false, true, true])),
        ("[].sort()", json!([])),
        ("let k = 0; try { [1, \"a\"].sort() } catch (e) { k = e.kind } k", json!("bad_argument")),
        ("awk_field(1, \" \", \"{data}/f\").sort().len()", json!(2)),
        ("\"{data}/f\".sort()", json!(["a", "b"])),
        ("sort([], #{reverse: true})", json!([])),
        ("sort([sort::reverse], [\"a\", \"b\"])", json!(["b", "a"])),
        ("uniq([])", json!([])),
        ("cut([], #{fields: 1})", json!([])),
        ("diff([], [])", json!("")),
        ("diff([], [], #{context: 1})", json!("")),
        ("sed(\"a\", \"b\", [])", json!([])),
        ("sed([], \"a\", \"b\", \"{data}/f\")", json!("b\nb\n")),
        ("comm([], [\"a\"]).right", json!(["a"])),
        ("let s = \"a-b\"; s.replace(\"-\", \"+\"); s", json!("a+b")),
    ] {
        rex.run(script).gives(value);
    }
}

#[test]
fn functions_on_text_go_on_where_an_open_file_stands() {
    let rex = Rex::new().policy(ALLOW_ALL).file("f", "skip\n1 a\r\n2 b\nx");
    let open = "let f = open(\"{data}/f\"); f.read_line(); ";
    for (call, value) in [
        ("sed(\"a\", \"A\", f)", json!("1 A\r\n2 b\nx")),
        ("awk_field(2, \" \", f)", json!(["a", "b"])),
        ("awk_sum(1, \" \", f)", json!(3.0)),
        ("cut(f, #{chars: 1})", json!(["1", "2", "x"])),
        ("sort(f, #{reverse: true})", json!(["x", "2 b", "1 a"])),
        ("uniq(f).len()", json!(3)),
        ("join_lines(f, \"|\")", json!("1 a|2 b|x")),
        ("comm(f, [\"x\"]).both", json!(["x"])),
        ("column(f)", json!("1  a\n2  b\nx")),
        ("diff(f, f)", json!("--- {data}/f\n+++ {data}/f\n@@ -1,3 +0,0 @@\n-1 a\r\n-2 b\n-x\n\\ No newline at end of file\n")),
        ("try { sed(\"a\", \"b\", f, #{max_bytes: 3}) } catch {} f.read_line()", json!("1 a")),
        ("awk_field(1, \" \", f, #{limit: 1}) + [f.read_line()]", json!(["1", "2 b"])),
    ] {
        let value: serde_json::Value = serde_json::from_str(&rex.fill(&value.to_string())).unwrap();
        rex.run(&format!("{open}{call}")).gives(value);
    }
}

#[test]
fn a_file_is_followed_through_a_rotation_and_the_closure_ends_it() {
    let rex = Rex::new().policy(ALLOW_ALL).file("log", "old\n");
    let (log, rotated) = (rex.data().join("log"), rex.data().join("log.1"));
    let writer = std::thread::spawn(move || {
        // Once the script is there: it makes a mark.
        let mark = log.with_file_name("mark");
        assert!(common::until(10.0, || mark.exists()));
        std::thread::sleep(std::time::Duration::from_millis(300));
        fs::OpenOptions::new().append(true).open(&log).unwrap().write_all(b"a\nb").unwrap();
        fs::rename(&log, &rotated).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        fs::write(&log, "c\nlast\nnever\n").unwrap();
    });
    let script = r#"touch("{data}/mark"); let seen = []; let end = follow("{data}/log", #{seconds: 20}, |line| { seen.push(line); line != "last" }); [seen, end]"#;
    let run = rex.run(script);
    writer.join().unwrap();
    run.gives(json!([["a", "b", "c", "last"], {"lines": 4, "stopped": "closure", "rotations": 1, "last": "last"}]));
    assert!(run.seconds < 10.0, "{run:#?}");
    let run = rex.run(r#"follow("{data}/log", #{from_end: 2}, |line| { throw "mine: " + line })"#);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("mine: last"), "{run:#?}");
    // The run's own end comes first, and ends it.
    let run = rex.run_with(&["--timeout", "1"], r#"follow("{data}/log", #{seconds: 5})"#);
    assert_eq!(run.json()["error"]["kind"].as_str(), Some("bad_argument"), "{run:#?}");
}

/// The calls under test on a path `p` that may not be seen.
const CALLS: &[&str] = &[
    "sed(\"a\", \"b\", p)",
    "sed(\"a\", \"b\", p, #{in_place: true})",
    "awk_field(1, \" \", p)",
    "awk_sum(1, \" \", p)",
    "cut(p, #{chars: 1})",
    "sort(p)",
    "uniq(p)",
    "join_lines(p, \",\")",
    "diff(p, \"{data}/open/x\")",
    "comm(p, \"{data}/open/x\")",
    "column(p)",
    "strings(p)",
    "follow(p, #{seconds: 0})",
];

#[test]
fn no_link_or_spelling_leads_a_function_on_text_to_what_is_forbidden() {
    let rex = Rex::new()
        .policy("permit(principal, action, resource); forbid(principal, action, resource in file_system::Dir::\"{data}/vault\");")
        .file("vault/key", SECRET)
        .file("open/x", "x\n")
        .link("open/link", "{data}/vault/key")
        .link("open/chain", "link")
        .link("open/dir", "../vault");
    for path in ["open/link", "open/chain", "open/dir/key", "open/../vault/./key", "/open//dir//key"] {
        for call in CALLS {
            let run = rex.run(&format!("let p = \"{{data}}/{path}\"; {call}"));
            run.is_denied();
            assert!(!run.stdout.contains(SECRET) && !run.stderr.contains(SECRET), "{call} {path}: {run:#?}");
            assert_eq!(rex.read("vault/key"), SECRET, "{call} {path}");
        }
    }
}

#[test]
fn denied_and_missing_look_alike_to_functions_on_text() {
    let rex = Rex::new()
        .policy(r#"permit(principal, action, resource in file_system::Dir::"{data}/open");"#)
        .file("vault/key", SECRET)
        .file("open/x", "x\n");
    for call in CALLS {
        let told = |name: &str| {
            let run = rex.run(&format!("let p = \"{{data}}/vault/{name}\"; {call}"));
            run.is_denied();
            assert!(!run.stdout.contains(SECRET) && !run.stderr.contains(SECRET), "{run:#?}");
            let error = &run.json()["error"];
            let message = error["message"].as_str().unwrap_or("").replace(name, "NAME");
            (error["kind"].clone(), message)
        };
        assert_eq!(told("key"), told("absent"), "{call}");
    }
}
