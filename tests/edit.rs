//! Changing configuration files through the binary: what goes on record, what a check stops, and several runs at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{ALLOW_ALL, Rex};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn host(text: &str) -> Rex {
    Rex::new().policy(ALLOW_ALL).file("f", text)
}

/// What records of effects tell.
fn details(run: &common::Run) -> Vec<Value> {
    run.events("effect").iter().map(|record| record["detail"].clone()).collect()
}

#[test]
fn the_difference_is_on_record_without_secrets() {
    let host = host("port = 80\ndb_password = old-secret\n");
    let run = host.run("set_key(\"{data}/f\", \"port\", 8080); set_key(\"{data}/f\", \"db_password\", \"new-secret\").diff");
    run.ends(0);
    // Who may read the file sees what changed; the record is for others.
    assert!(run.value().as_str().unwrap().contains("+db_password = new-secret"));
    assert_eq!(
        details(&run),
        [json!("@@ -1 +1 @@\n-port = 80\n+port = 8080\n"), json!("@@ -2 +2 @@\n-db_password = […]\n+db_password = […]\n")]
    );
    let all = serde_json::to_string(&run.audit).unwrap();
    assert!(!all.contains("old-secret") && !all.contains("new-secret"), "{all}");
}

#[test]
fn a_long_difference_is_on_record_in_part_and_says_so() {
    let many: String = (0..5000).map(|n| format!("key{n} = value\n")).collect();
    let run = host(&many).run("edit_line(\"{data}/f\", #{pattern: \"^key\", line: \"x\", all: true}).changed");
    run.gives(true);
    let details = details(&run);
    let detail = details[0].as_str().unwrap();
    assert!(detail.contains(" more lines)") && detail.len() < 2500, "{detail}");
}

#[test]
fn control_characters_of_a_file_steer_no_terminal_through_the_record() {
    let host = host("a\x1b[2J = 1\n");
    host.run("edit_line(\"{data}/f\", #{pattern: \"^a\", line: \"b\"}).changed").gives(true);
    let record = fs::read_to_string(host.audit_file()).unwrap();
    assert!(!record.contains('\x1b') && record.contains("\\u001b"), "{record}");
}

#[test]
fn a_check_that_gives_false_or_throws_stops_the_change() {
    let host = host("port = 80\n");
    let run = host.run("set_key(\"{data}/f\", \"port\", 0, #{backup: true, check: |text| !text.contains(\"port = 0\")})");
    assert_eq!(run.ends(1).json()["error"]["kind"], "bad_data");
    let run = host.run("let r = (); try { set_key(\"{data}/f\", \"port\", 0, #{backup: true, check: |text| { throw \"no port\"; }}); } catch (e) { r = e; } r");
    assert!(run.ends(0).value().to_string().contains("no port"), "{run:#?}");
    // Nothing changes, so there is nothing to check.
    host.run("set_key(\"{data}/f\", \"port\", 80, #{check: |text| false}).changed").gives(false);
    assert_eq!(host.read("f"), "port = 80\n");
    assert_eq!(fs::read_dir(host.data()).unwrap().count(), 1);
}

#[test]
fn the_check_sees_the_whole_new_text_and_not_the_file() {
    let host = host("a = 1\nb = 2\n");
    let run = host.run("let seen = []; edit_line(\"{data}/f\", #{line: \"c = 3\", check: |text| { seen.push(text); seen.push(cat(\"{data}/f\")); true }}); seen");
    run.gives(json!(["a = 1\nb = 2\nc = 3\n", "a = 1\nb = 2\n"]));
}

#[test]
fn several_runs_at_once_lose_no_change() {
    let host = host("");
    let script = |who: u32| {
        format!(
            "for n in 0..25 {{\n  let done = false;\n  while !done {{\n    try {{ edit_line(\"{{data}}/f\", #{{line: `{who}-${{n}}`}}); done = true; }} catch (e) {{ if e.kind != \"changed\" {{ throw e; }} }}\n  }}\n}}"
        )
    };
    std::thread::scope(|scope| {
        for who in 0..4 {
            let (host, script) = (&host, script(who));
            scope.spawn(move || {
                let (config, policy) = (host.config_file(), host.policy_file());
                let all = ["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"];
                let run = common::run(host.command(&all), host.fill(&script).as_bytes(), 60);
                assert_eq!(run.code, 0, "{run:#?}");
            });
        }
    });
    let text = host.read("f");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let count = lines.len();
    lines.dedup();
    assert_eq!((count, lines.len()), (100, 100), "{text}");
    assert_eq!(fs::read_dir(host.data()).unwrap().count(), 1, "nothing is left over");
}

#[test]
fn owner_group_and_mode_stay_and_so_they_do_on_the_backup() {
    needs_root!();
    let host = host("a = 1\n");
    let file = host.data().join("f");
    std::os::unix::fs::chown(&file, Some(12), Some(34)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let run = host.run("let done = set_key(\"{data}/f\", \"a\", 2, #{backup: true}); [done.atomic, done.backup]");
    let value = run.ends(0).value();
    assert_eq!(value[0], true);
    for path in [file.to_str().unwrap(), value[1].as_str().unwrap()] {
        let meta = fs::metadata(path).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (12, 34, 0o640), "{path}");
    }
    // Two in one second have two names.
    host.run("set_key(\"{data}/f\", \"a\", 3, #{backup: true}).backup != set_key(\"{data}/f\", \"a\", 4, #{backup: true}).backup")
        .gives(true);
    assert_eq!(fs::read_dir(host.data()).unwrap().count(), 4);
}

#[test]
fn files_that_are_no_files_are_refused_without_waiting() {
    let host = host("");
    assert!(std::process::Command::new("mkfifo").arg(host.data().join("fifo")).status().unwrap().success());
    for (path, kind) in [("fifo", "not_a_file"), ("", "is_a_directory")] {
        let run = host.run(&format!("edit_line(\"{{data}}/{path}\", #{{line: \"x\"}})"));
        assert_eq!(run.ends(1).json()["error"]["kind"], kind);
        assert!(run.seconds < 20.0);
    }
}
