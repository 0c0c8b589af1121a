//! Programs: what the policy is asked, what the program then is and has, and that nothing else comes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
use common::{Account, Rex, Run};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;

const EVERYTHING: &str = "permit(principal, action, resource);";
/// May look at everything, and run what is in the usual folders under a condition.
fn when(condition: &str) -> String {
    format!(
        "permit(principal, action in [file_system::Action::\"stat\", file_system::Action::\"read\"], resource);\n\
         permit(principal, action == file_system::Action::\"execute\", resource) when {{ {condition} }};"
    )
}
fn executable(rex: Rex, name: &str, text: &str) -> Rex {
    let rex = rex.file(name, text);
    std::fs::set_permissions(rex.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    rex
}
/// Lines of /proc/self/status of a program run with these options.
fn status(rex: &Rex, options: &str) -> Run {
    rex.run(&format!(
        r#"exec("/bin/grep", ["-E", "^(Uid|Gid|Groups|Cap...|NoNewPrivs|SigIgn|SigBlk):", "/proc/self/status"], #{{{options}}}).stdout"#
    ))
}
fn line<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.split_whitespace().skip(1).collect()
}

#[test]
fn the_policy_decides_on_the_order_of_arguments() {
    let rex = Rex::new().policy(&when(r#"context.argv == "-n 'two words' --x=1" && context.argc == 3"#));
    rex.run(r#"exec("/bin/echo", ["-n", "two words", "--x=1"]).stdout"#).gives("two words --x=1");
    for other in [r#"["--x=1", "-n", "two words"]"#, r#"["-n", "two", "words", "--x=1"]"#, r#"["-n", "two words", "--x=1", ""]"#, "[]"] {
        rex.run(&format!(r#"exec("/bin/echo", {other}).stdout"#)).is_denied();
    }
}

#[test]
fn a4_a_pair_does_not_hide_a_flag_from_the_policy() {
    let rex = Rex::new().policy(&format!(
        "{}\nforbid(principal, action == file_system::Action::\"execute\", resource) when {{ context.arguments.flags.contains(\"-c\") }};",
        when("true")
    ));
    rex.run(r#"exec("/bin/echo", ["-u", "-c"]).stdout"#).is_denied();
    let run = rex.run(r#"exec("/bin/echo", [["-u", "-c"]]).stdout"#);
    assert_eq!(run.error_type(), "SCRIPT_EXCEPTION", "{run:#?}");
    assert!(run.json()["error"]["message"].as_str().unwrap().contains("begins with `-`"), "{run:#?}");
    assert!(run.events("effect").is_empty());
    rex.run(r#"exec("/bin/echo", [["-u", "c"]]).stdout"#).gives("-u c\n");
}

#[test]
fn a5_a_name_given_twice_runs_nothing() {
    let rex = Rex::new().policy(&when(
        r#"context.arguments.keys.contains("-f") && context.arguments.hasTag("-f") && context.arguments.getTag("-f") == "safe""#,
    ));
    rex.run(r#"exec("/bin/echo", [["-f", "safe"]]).stdout"#).gives("-f safe\n");
    rex.run(r#"exec("/bin/echo", [["-f", "evil"]]).stdout"#).is_denied();
    for twice in [
        r#"[["-f", "evil"], ["-f", "safe"]]"#,
        r#"["-f", ["-f", "safe"]]"#,
        r#"[["-f", "safe"], "-f"]"#,
        r#"[["$ARG0", "x"], "y"]"#,
        r#"["$ARG0"]"#,
    ] {
        let run = rex.run(&format!(r#"let k = (); try {{ exec("/bin/echo", {twice}) }} catch (e) {{ k = e.kind }} k"#));
        run.gives("bad_argument");
        assert!(run.events("effect").is_empty(), "{run:#?}");
    }
}

#[test]
fn the_policy_decides_on_environment_user_group_folder_input_and_name() {
    let sides = [
        (r#"context.environment.names == ["LANG"]"#, r#"env: #{LANG: "C"}"#, r#"env: #{LANG: "C", LD_PRELOAD: "/x"}"#),
        (r#"context.environment.hasTag("A") && context.environment.getTag("A") == "1""#, r#"env: #{A: "1"}"#, r#"env: #{A: "2"}"#),
        ("context.user.uid == 65534", r#"user: "nobody""#, "user: 0, group: 0"),
        (r#"context.user.username == "nobody""#, "user: 65534", "user: 65533, group: 65534"),
        ("context.group.gid == 12345", "group: 12345", "group: 0"),
        (r#"context.capabilities == ["CAP_NET_RAW"]"#, r#"capabilities: ["net_raw"]"#, r#"capabilities: ["CAP_NET_RAW", "CAP_SYS_ADMIN"]"#),
        (r#"context.cwd == "/usr""#, r#"cwd: "/usr""#, r#"cwd: "/etc""#),
        ("!context.stdin", "", r#"stdin: "x""#),
    ];
    needs_root!();
    for (condition, yes, no) in sides {
        let rex = Rex::new().policy(&when(condition));
        rex.run(&format!(r#"exec("/bin/true", [], #{{{yes}}}).status"#)).gives(0);
        rex.run(&format!(r#"exec("/bin/true", [], #{{{no}}}).status"#)).is_denied();
    }
    let rex = Rex::new().policy(&when(r#"context.argv0 == "{data}/true""#)).link("true", "/bin/true").link("sh", "/bin/true");
    rex.run(r#"exec("{data}/true").status"#).gives(0);
    rex.run(r#"exec("{data}/sh").status"#).is_denied();
}

#[test]
fn a6_capabilities_are_what_the_policy_saw_and_root_has_none_by_itself() {
    needs_root!();
    let rex = Rex::new().policy(EVERYTHING);
    let run = status(&rex, "");
    let text = run.value().as_str().unwrap().to_owned();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(line(&text, set), ["0000000000000000"], "{text}");
    }
    assert_eq!(line(&text, "NoNewPrivs"), ["1"]);
    assert_eq!((line(&text, "SigIgn"), line(&text, "SigBlk")), (vec!["0000000000000000"], vec!["0000000000000000"]));
    for options in [r#"capabilities: ["CAP_NET_RAW"]"#, r#"capabilities: ["CAP_NET_RAW"], user: "nobody""#] {
        let text = status(&rex, options).value().as_str().unwrap().to_owned();
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(line(&text, set), ["0000000000002000"], "{options}: {text}");
        }
        // What it has it was given: no file that it executes adds to it.
        assert_eq!(line(&text, "CapBnd"), ["0000000000000000"], "{options}: {text}");
    }
}

#[test]
fn a7_user_group_and_supplementary_groups_change_together() {
    needs_root!();
    let rex = Rex::new().policy(EVERYTHING);
    let text = status(&rex, r#"user: "nobody""#).value().as_str().unwrap().to_owned();
    assert_eq!((line(&text, "Uid"), line(&text, "Gid")), (vec!["65534"; 4], vec!["65534"; 4]));
    assert_eq!(line(&text, "Groups"), ["65534"]);
    let text = status(&rex, "user: 12345, group: 54321").value().as_str().unwrap().to_owned();
    assert_eq!((line(&text, "Uid"), line(&text, "Gid"), line(&text, "Groups")), (vec!["12345"; 4], vec!["54321"; 4], vec!["54321"]));
    rex.run(r#"let k = (); try { exec("/bin/true", [], #{user: 12345}) } catch (e) { k = e.kind } k"#).gives("bad_argument");
    rex.run(r#"let k = (); try { exec("/bin/true", [], #{user: "no-such-user"}) } catch (e) { k = e.kind } k"#).gives("not_found");
}

#[test]
fn a8_no_descriptor_and_no_variable_is_inherited() {
    let rex = Rex::new().policy(EVERYTHING).file("f", "x");
    let run = rex.run(
        r#"let f = open("{data}/f"); let list = exec("/bin/ls", ["/proc/self/fd"]).stdout; f.close(); [list, exec("/usr/bin/env").stdout, exec("/bin/sh", ["-c", "umask"]).stdout]"#,
    );
    // 3 is the folder that ls lists.
    run.gives(json!(["0\n1\n2\n3\n", "", "0022\n"]));
}

#[test]
fn c4_a_child_that_holds_the_output_open_is_not_waited_for() {
    let rex = Rex::new().policy(EVERYTHING);
    let run = rex.run(r#"let r = exec("/bin/sh", ["-c", "sleep 30 & echo started"]); [r.stdout, r.duration < 5.0]"#);
    run.gives(json!(["started\n", true]));
    let told = run.events("effect").iter().any(|effect| effect["detail"].as_str().unwrap_or("").contains("1 processes it left behind"));
    assert!(told, "{run:#?}");
}

#[test]
fn e5_twenty_programs_take_no_twenty_pauses() {
    let rex = Rex::new().policy(EVERYTHING);
    let run = rex.run(r#"for i in 0..20 { exec("/bin/true") } 1"#);
    run.gives(1);
    assert!(run.seconds < 1.5, "{}", run.seconds);
}

#[test]
fn f9_input_output_bytes_empty_words_and_checks() {
    let rex = Rex::new().policy(EVERYTHING);
    rex.run(r#"exec("/bin/cat", [], #{stdin: "a\nb"}).stdout"#).gives("a\nb");
    rex.run(r#"exec("/usr/bin/printf", ["[%s]", "", "x"], #{env: #{EMPTY: ""}}).stdout"#).gives("[][x]");
    rex.run(
        r#"let r = exec("/usr/bin/printf", ["\\377\\000a"], #{binary: true}); [type_of(r.stdout), r.stdout.len(), r.stdout[0], r.lossy]"#,
    )
    .gives(json!(["blob", 3, 255, false]));
    rex.run(r#"let r = exec("/usr/bin/printf", ["\\377"]); [r.stdout, r.lossy]"#).gives(json!(["\u{fffd}", true]));
    rex.run(
        r#"let r = exec("/bin/sh", ["-c", "echo o; echo e >&2; exit 3"], #{merge_stderr: true}); [r.stdout, r.stderr, r.status, r.ok]"#,
    )
    .gives(json!(["o\ne\n", "", 3, false]));
    rex.run(r#"let k = (); try { exec("/bin/false", [], #{check: true}) } catch (e) { k = e.kind } k"#).gives("program_failed");
    rex.run(r#"let r = exec("/bin/sh", ["-c", "kill -9 $$"]); [r.status, r.signal, r.exit_code]"#).gives(json!([null, 9, -9]));
    rex.run(r#"let t = ""; for i in 0..17 { t = if t == "" { "0123456789abcdef" } else { t + t } } exec("/usr/bin/wc", ["-c"], #{stdin: t}).stdout.trim(); exec("/usr/bin/wc", ["-c"], #{stdin: t}).stdout"#)
        .gives("1048576\n");
    // What does not want all of it is no fault.
    rex.run(r#"let t = ""; for i in 0..17 { t = if t == "" { "0123456789abcdef" } else { t + t } } exec("/usr/bin/head", ["-c1"], #{stdin: t}).stdout"#).gives("0");
}

#[test]
fn output_without_end_takes_no_memory_and_ends_with_the_time() {
    let rex = Rex::new().policy(EVERYTHING);
    let run = rex.run(r#"let k = (); try { exec("/usr/bin/yes", [], #{max_output: 10, timeout: 1}) } catch (e) { k = e.kind } k"#);
    run.gives("timeout");
    assert!((0.9..5.0).contains(&run.seconds), "{}", run.seconds);
    let peak = run.json()["metrics"].as_array().unwrap().iter().find(|metric| metric["metric_name"] == "RexRunMemoryPeak").unwrap()["metric_value"].as_f64();
    assert!(peak.unwrap() < 8.0, "{peak:?}");
    rex.run(r#"let r = exec("/usr/bin/seq", ["100000"], #{max_output: 5}); [r.stdout, r.truncated, r.ok]"#)
        .gives(json!(["1\n2\n3", true, true]));
}

#[test]
fn a_program_that_ignores_being_asked_is_killed() {
    let rex = Rex::new().policy(EVERYTHING);
    let run = rex.run(r#"let k = (); try { exec("/bin/sh", ["-c", "trap '' TERM; while :; do sleep 1; done"], #{timeout: 0.3}) } catch (e) { k = e.kind } k"#);
    run.gives("timeout");
    assert!((2.0..6.0).contains(&run.seconds), "{}", run.seconds);
    let run = rex.run(r#"let k = (); try { exec("/bin/sleep", ["60"], #{timeout: 0.3}) } catch (e) { k = e.kind } k"#);
    run.gives("timeout");
    assert!(run.seconds < 2.0, "asked, it ends at once: {}", run.seconds);
}

#[test]
fn scripts_run_by_their_first_line_and_nothing_else_does() {
    let rex = executable(Rex::new().policy(EVERYTHING), "script", "#!/bin/sh\necho \"$#:$1\"\n");
    let rex = executable(rex, "no-first-line", "echo x\n");
    let rex = executable(rex, "no-interpreter", "#!/nonexistent/interpreter\n");
    let rex = rex.file("not-executable", "#!/bin/sh\n").dir("folder");
    rex.run(r#"exec("{data}/script", ["a b", "c"]).stdout"#).gives("2:a b\n");
    for (name, kind) in [
        ("no-first-line", "bad_data"),
        ("no-interpreter", "not_found"),
        ("not-executable", "permission"),
        ("folder", "not_a_file"),
        ("missing", "not_found"),
    ] {
        rex.run(&format!(r#"let k = (); try {{ exec("{{data}}/{name}") }} catch (e) {{ k = e.kind }} k"#)).gives(kind);
    }
    let long = r#"let t = "x"; for i in 0..18 { t += t } let k = (); try { exec("/bin/true", [t]) } catch (e) { k = e.kind } k"#;
    rex.run(long).gives("too_large");
    rex.run(r#"let a = []; for i in 0..24 { let t = "x"; for j in 0..16 { t += t } a.push(t) } exec("/bin/true", a).status"#).gives(0);
    rex.run(r#"let k = (); try { exec("/bin/echo", ["a\u0000b"]) } catch (e) { k = e.kind } k"#).gives("bad_argument");
}

#[test]
fn a_program_does_what_policy_permits_and_no_more() {
    let rex = Rex::new().file("open/f", "yes").file("closed/f", "no").policy(
        "permit(principal, action == file_system::Action::\"execute\", resource) when { context.argc > 0 };\n\
         permit(principal, action == file_system::Action::\"read\", resource in file_system::Dir::\"{data}/open\");",
    );
    rex.run(r#"exec("/bin/cat", ["{data}/open/f"]).stdout"#).gives("yes");
    for refused in [
        r#"exec("/bin/cat", ["{data}/closed/f"]).status"#,
        r#"exec("/usr/bin/touch", ["{data}/open/new"]).status"#,
        r#"exec("/bin/rm", ["-f", "{data}/open/f"]).status"#,
        r#"exec("/bin/sh", ["-c", "/bin/true"]).status"#,
        r#"exec("/bin/sh", ["-c", "exec /bin/cat {data}/open/f"]).status"#,
        r#"exec("/bin/cat", ["/etc/shadow"]).status"#,
        r#"exec("/bin/cat", ["/proc/1/status"]).status"#,
    ] {
        let run = rex.run(refused);
        assert!(run.value().as_i64().unwrap() > 0, "{refused}: {run:#?}");
    }
    assert!(rex.exists("open/f") && !rex.exists("open/new"));
    // A permit without a condition holds for what a program starts too; a forbid makes it hold for nothing.
    let rex = rex.policy(EVERYTHING);
    rex.run(r#"exec("/bin/sh", ["-c", "/bin/cat {data}/closed/f"]).stdout"#).gives("no");
    let rex = rex.policy(&format!("{EVERYTHING}\nforbid(principal, action, resource == file_system::File::\"/usr/bin/id\");"));
    let run = rex.run(r#"exec("/bin/sh", ["-c", "/bin/cat {data}/closed/f"]).status"#);
    run.gives(126);
}

#[test]
fn a_program_reaches_no_service_and_no_network_that_policy_does_not_name() {
    let python = "import socket\\nfor f in (socket.AF_UNIX, socket.AF_INET, socket.AF_NETLINK, 38):\\n  try:\\n    socket.socket(f, socket.SOCK_STREAM if f != 38 and f != socket.AF_NETLINK else (5 if f == 38 else 3))\\n    print('open')\\n  except OSError as e: print(e.errno)";
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return;
    }
    let rex = Rex::new().policy(&when("context.argc > 0"));
    let run = rex.run(&format!(r#"exec("/usr/bin/python3", ["-I", "-c", "{python}"]).stdout"#));
    run.gives("1\n1\n1\n1\n");
    let rex = rex.policy(&format!(
        "{}\npermit(principal, action == systemd::Action::\"status\", resource is systemd::Service);",
        when("context.argc > 0")
    ));
    let run = rex.run(&format!(r#"exec("/usr/bin/python3", ["-I", "-c", "{python}"]).stdout"#));
    run.gives("open\n1\n1\n1\n");
}

#[test]
fn lines_come_as_they_are_written_and_false_stops() {
    let rex = Rex::new().policy(EVERYTHING);
    rex.run(r#"let all = []; let r = exec_stream("/bin/sh", ["-c", "echo a; echo b; echo e >&2; printf c"], |line| { all.push(line); }); [all, r.lines, r.stderr, r.stopped, r.status]"#)
        .gives(json!([["a", "b", "c"], 3, "e\n", false, 0]));
    let run = rex.run(r#"let n = 0; let r = exec_stream("/usr/bin/yes", [], #{check: true}, |line| { n += 1; n < 1000 }); [n, r.lines, r.stopped, r.signal]"#);
    run.gives(json!([1000, 1000, true, 15]));
    rex.run(r#"let k = (); try { exec_stream("/usr/bin/yes", [], |line| { throw "mine" }) } catch (e) { k = e } k"#).gives("mine");
    rex.run(r#"let k = (); try { exec_stream("/usr/bin/head", ["-c2000000", "/dev/zero"], |line| true) } catch (e) { k = e.kind } k"#)
        .gives("too_large");
    rex.run(r#"let k = (); try { exec_stream("/usr/bin/printf", ["\\377\\n"], |line| true) } catch (e) { k = e.kind } k"#)
        .gives("not_text");
    rex.run(r#"let all = []; exec_stream("/usr/bin/printf", ["\\377\\n"], #{lossy: true}, |line| { all.push(line); }); all"#)
        .gives(json!(["\u{fffd}"]));
}

#[test]
fn a_pipeline_is_judged_whole_before_it_starts() {
    let rex = Rex::new().policy(&when(r#"context.argv != "-rf x""#)).file("f", "b\na\n");
    rex.run(r#"pipeline([["/bin/cat", "{data}/f"], ["/usr/bin/sort"], ["/usr/bin/tr", "a-z", "A-Z"]]).stdout"#).gives("A\nB\n");
    let run = rex.run(r#"pipeline([["/usr/bin/touch", "{data}/made"], ["/bin/rm", "-rf", "x"]]).status"#);
    run.is_denied();
    assert!(!rex.exists("made") && run.events("effect").is_empty());
    rex.run(r#"let r = pipeline([["/bin/false"], ["/bin/cat"]]); [r.statuses, r.ok, r.status]"#).gives(json!([[1, 0], false, 0]));
    rex.run(r#"let r = pipeline([["/usr/bin/yes"], ["/usr/bin/head", "-n1"]], #{check: true}); [r.stdout, r.ok]"#)
        .gives(json!(["y\n", true]));
    rex.run(r#"pipeline([["/bin/cat"], ["/bin/cat"]], #{stdin: "through"}).stdout"#).gives("through");
    rex.run(r#"let k = (); try { pipeline([["/bin/sleep", "9"], ["/bin/cat"]], #{timeout: 0.3}) } catch (e) { k = e.kind } k"#)
        .gives("timeout");
    // A program that was started is ended when the next cannot be.
    rex.run(r#"let k = (); try { pipeline([["/bin/sleep", "9"], ["/nonexistent"]]) } catch (e) { k = e.kind } k"#).gives("not_found");
}

#[test]
fn arguments_are_on_record_and_secrets_and_the_environment_are_not() {
    let rex = Rex::new().policy(EVERYTHING);
    let run = rex.run(r#"exec("/bin/true", ["--token", "hunter2", "plain"], #{secret: [1], env: #{PASSWORD: "swordfish"}}).status"#);
    run.gives(0);
    let effects = run.events("effect");
    assert!(effects.iter().any(|effect| effect["detail"] == "argv: --token *** plain; exit code 0"), "{effects:#?}");
    let records = serde_json::to_string(&run.audit).unwrap();
    assert!(!records.contains("hunter2") && !records.contains("swordfish"), "{records}");
    rex.run(r#"let k = (); try { exec("/bin/true", ["a"], #{secret: [1]}) } catch (e) { k = e.kind } k"#).gives("bad_argument");
}

#[test]
fn without_a_permit_nothing_runs() {
    let rex = Rex::new().policy("permit(principal, action == file_system::Action::\"read\", resource);");
    for call in [
        r#"exec("/usr/bin/touch", ["{data}/made"])"#,
        r#"exec_stream("/usr/bin/touch", ["{data}/made"], |line| true)"#,
        r#"pipeline([["/usr/bin/touch", "{data}/made"]])"#,
    ] {
        rex.run(call).is_denied();
    }
    assert!(!rex.exists("made"));
}

#[test]
fn an_account_without_rights_runs_programs_as_itself_and_as_nobody_else() {
    needs_root!();
    let account = Account::new();
    let rex = Rex::new().policy(EVERYTHING).account(&account);
    let (uid, gid) = (account.uid, account.gid);
    let script = format!(
        r#"let kinds = [];
           for who in [[0, 0], [{uid}, 0], [65534, 65534]] {{ try {{ exec("/bin/true", [], #{{user: who[0], group: who[1]}}); kinds.push("ran") }} catch (e) {{ kinds.push(e.kind) }} }}
           try {{ exec("/bin/true", [], #{{capabilities: ["CAP_CHOWN"]}}); kinds.push("ran") }} catch (e) {{ kinds.push(e.kind) }}
           emit([exec("/usr/bin/id", ["-u"]).stdout, exec("/usr/bin/id", ["-g"], #{{user: {uid}, group: {gid}}}).stdout, kinds]);"#
    );
    let run = rex.session(Some(&account), &[], None, &script);
    assert_eq!(run.code, 0, "{run:#?}");
    let said: serde_json::Value = serde_json::from_str(run.stdout.trim()).unwrap_or_else(|_| panic!("{run:#?}"));
    assert_eq!(said, json!([format!("{uid}\n"), format!("{gid}\n"), ["permission", "permission", "permission", "permission"]]), "{run:#?}");
}
