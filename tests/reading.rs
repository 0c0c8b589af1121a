//! Reading through the binary: odd files, redaction by the owner's dictionary, and who said no, the policy or the operating system.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Account, Rex};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

/// Reading redacted text, and nothing else.
const VEILED: &str = r#"permit(principal, action == file_system::Action::"redacted_read", resource);"#;

fn dictionary(rex: &Rex, text: &str) {
    fs::write(rex.root().join("etc/redaction"), text).unwrap();
}

#[test]
fn the_owners_dictionary_decides_which_lines_are_seen() {
    let rex = Rex::new().policy(VEILED).file("log", "start 12\nuser joe came from x\npin 1234\nstarted\n");
    let lines = r#"read_lines("{data}/log")"#;
    let hidden = "[REDACTED]";
    rex.run(lines).gives(vec![hidden, hidden, hidden, hidden]);
    dictionary(&rex, "# formats\nstart %d\n\nuser %s came from %!s\n");
    let run = rex.run(lines);
    run.gives(vec!["start 12", "user joe came from [REDACTED]", hidden, hidden]);
    let decision = run.events("decision")[0];
    assert_eq!((&decision["action"], &decision["decision"]), (&r#"file_system::Action::"redacted_read""#.into(), &"allow".into()));
    assert!(!run.records_denial());
    rex.run(r#"grep("1234|joe", "{data}/log", #{line_number: true})"#).gives(vec!["2:user joe came from [REDACTED]"]);
    rex.run(r#"read_bytes("{data}/log")"#).is_denied();
}

#[test]
fn all_lines_masked_is_a_setting_and_so_is_another_dictionary() {
    let rex = Rex::new().policy(VEILED).file("log", "ok\npassword=hunter2 x\nfrom 10.0.0.1\npin 7\n");
    fs::write(rex.root().join("etc/formats"), "pin %!d\n").unwrap();
    let rex = rex.config("[redaction]\nlines = \"all\"\nmask = [\"password\", \"ipv4\"]\ndictionary = \"formats\"\n");
    rex.run(r#"cat("{data}/log")"#).gives("ok\npassword=[REDACTED:password] x\nfrom [REDACTED:ipv4]\npin [REDACTED]\n");
    let rex = rex.config("[redaction]\ndictionary = \"/nowhere/formats\"\n");
    rex.run(r#"cat("{data}/log")"#).ends(78);
}

#[test]
fn a22_a_dictionary_that_cannot_be_used_shows_nothing_and_the_check_names_its_place() {
    let rex = Rex::new().policy(VEILED).file("log", "start 1\n");
    dictionary(&rex, "start %d\nuser %y\n");
    let run = rex.run(r#"let k = (); try { cat("{data}/log"); } catch (e) { k = e.kind; } k"#);
    run.gives("config");
    let effects = run.events("effect");
    assert!(effects.iter().any(|effect| effect.to_string().contains("config")), "{run:#?}");
    let config = rex.config_file();
    let check = rex.finish(rex.command(&["policy", "check", "--config", config.to_str().unwrap()]), b"");
    if common::is_root() {
        assert_eq!(check.code, 78, "{check:#?}");
        assert!(check.stderr.contains("etc/redaction:2: "), "{check:#?}");
        dictionary(&rex, "start %d\n");
        assert_eq!(rex.finish(rex.command(&["policy", "check", "--config", config.to_str().unwrap()]), b"").code, 0);
    }
}

#[test]
fn a_dictionary_that_others_can_write_is_not_believed_in_a_session() {
    needs_root!();
    let account = Account::new();
    let rex = Rex::new().policy(VEILED).account(&account).file("log", "start 1\n");
    dictionary(&rex, "start %d\n");
    rex.session(Some(&account), &[], Some("rex -o json"), r#"cat("{data}/log")"#).gives("start 1\n");
    fs::set_permissions(rex.root().join("etc/redaction"), fs::Permissions::from_mode(0o666)).unwrap();
    rex.session(Some(&account), &[], Some("rex -o json"), r#"cat("{data}/log")"#).ends(78);
}

#[test]
fn empty_files_missing_ends_carriage_returns_and_nuls_read_as_they_are() {
    let rex = Rex::new().policy(ALLOW_ALL).file("empty", "").file("open", "a\nb").file("crlf", "a\r\nb\r\n\r\n").file("nul", "a\0b\nc\n");
    for (script, value) in [
        (
            r#"[cat("{data}/empty"), head("{data}/empty"), tail("{data}/empty"), read_lines("{data}/empty"), grep("", "{data}/empty")]"#,
            r#"["",[],[],[],[]]"#,
        ),
        (r#"wc("{data}/empty")"#, r#"{"bytes":0,"chars":0,"lines":0,"words":0}"#),
        (r#"[open("{data}/empty").read_line(), open("{data}/empty").read()]"#, r#"[null,""]"#),
        (
            r#"[head("{data}/open"), tail("{data}/open", #{n: 1}), wc("{data}/open").lines, grep("b", "{data}/open")]"#,
            r#"[["a","b"],["b"],1,["b"]]"#,
        ),
        // One rule: functions that give lines take the whole end away; what searches works on lines as grep(1) does.
        (r#"[head("{data}/crlf"), tail("{data}/crlf"), read_lines("{data}/crlf")]"#, r#"[["a","b",""],["a","b",""],["a","b",""]]"#),
        (r#"let all = []; for line in open("{data}/crlf").lines() { all.push(line) } all"#, r#"["a","b",""]"#),
        (r#"[grep("a", "{data}/crlf"), cat("{data}/crlf")]"#, r#"[["a\r"],"a\r\nb\r\n\r\n"]"#),
        (r#"[head("{data}/nul"), grep("b", "{data}/nul"), wc("{data}/nul").lines]"#, "[[\"a\\u0000b\",\"c\"],[\"a\\u0000b\"],2]"),
    ] {
        let run = rex.run(script);
        run.ends(0);
        assert_eq!(run.value().to_string(), value, "{script}");
    }
}

#[test]
fn a_line_of_a_gibibyte_is_an_error_that_names_the_limit_and_holds_no_memory() {
    let rex = Rex::new().policy(ALLOW_ALL).file("small", "x\n");
    fs::File::create(rex.data().join("huge")).unwrap().set_len(1 << 30).unwrap();
    for script in [
        r#"head("{data}/huge")"#,
        r#"tail("{data}/huge")"#,
        r#"read_lines("{data}/huge")"#,
        r#"open("{data}/huge").read_line()"#,
        r#"for line in open("{data}/huge").lines() { print(line) }"#,
        r#"grep("x", "{data}/huge")"#,
        r#"cat("{data}/huge")"#,
    ] {
        let run = rex.run(&format!("let k = (); try {{ {script}; }} catch (e) {{ k = [e.kind, e.message]; }} k"));
        run.ends(0);
        let value = run.value();
        assert_eq!(value[0], "too_large", "{script}: {value}");
        assert!(value[1].as_str().unwrap().contains(|c: char| c.is_ascii_digit()), "{script}: {value}");
    }
    // A loop without a body does not look at errors; it ends all the same.
    rex.run(r#"for line in open("{data}/huge").lines() { } 1"#).gives(1);
    let veiled = Rex::new().policy(VEILED);
    fs::File::create(veiled.data().join("huge")).unwrap().set_len(1 << 30).unwrap();
    veiled.run(r#"cat("{data}/huge")"#).gives("[REDACTED]");
}

#[test]
fn files_of_the_kernel_that_say_they_are_empty_are_read_whole() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let version = fs::read_to_string("/proc/version").unwrap();
    rex.run(r#"cat("/proc/version")"#).gives(version.clone());
    rex.run(r#"[tail("/proc/version", #{n: 1})[0] + "\n", open("/proc/version").read(), grep("", "/proc/version")[0] + "\n"]"#)
        .gives(vec![version; 3]);
    let lines = fs::read_to_string("/proc/filesystems").unwrap().lines().count();
    rex.run(r#"wc("/proc/filesystems").lines"#).gives(lines);
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    if !online.is_empty() {
        rex.run(r#"cat("/sys/devices/system/cpu/online")"#).gives(online.clone());
        rex.run(r#"tail("/sys/devices/system/cpu/online")"#).gives(vec![online.trim_end()]);
    }
}

#[test]
fn a24_what_could_block_or_act_is_refused_before_it_is_opened() {
    let rex = Rex::new().policy(ALLOW_ALL).dir("d");
    rustix::fs::mknodat(rustix::fs::CWD, rex.data().join("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(rex.data().join("socket")).unwrap();
    for path in ["{data}/fifo", "{data}/socket", "/dev/zero"] {
        for script in
            ["cat(p)", "head(p)", "tail(p)", "wc(p)", "grep(\"x\", p)", "read_lines(p)", "open(p)", "read_bytes(p)", "elf_info(p)"]
        {
            let run = rex.run(&format!("let p = \"{path}\"; let k = (); try {{ {script}; }} catch (e) {{ k = e.kind; }} k"));
            run.gives("not_a_file");
            assert!(run.seconds < 5.0, "{path} {script}");
        }
    }
    rex.run(r#"let k = (); try { cat("{data}/d"); } catch (e) { k = e.kind; } k"#).gives("is_a_directory");
    drop(socket);
}

#[test]
fn an_error_says_whether_the_policy_or_the_system_refused() {
    needs_root!();
    let account = Account::new();
    let rex = Rex::new().policy(ALLOW_ALL).account(&account).file("root_only", "secret\n").file("log", "x\n");
    fs::set_permissions(rex.data().join("root_only"), fs::Permissions::from_mode(0o600)).unwrap();
    for call in ["cat(p)", "head(p)", "tail(p)", "wc(p)", "grep(\"x\", p)", "read_lines(p)", "open(p)", "read_bytes(p)"] {
        let script = format!("let p = \"{{data}}/root_only\"; let k = (); try {{ {call}; }} catch (e) {{ k = [e.kind, e.errno]; }} k");
        let run = rex.session(Some(&account), &[], Some("rex -o json"), &script);
        run.ends(0);
        assert_eq!(run.value().to_string(), r#"["permission",13]"#, "{call}");
        assert!(!run.records_denial(), "{call}");
    }
    let rex = rex.policy(r#"permit(principal, action, resource); forbid(principal, action in [file_system::Action::"read", file_system::Action::"redacted_read"], resource) when { resource.path like "*/log" };"#);
    rex.session(Some(&account), &[], Some("rex -o json"), r#"cat("{data}/log")"#).is_denied();
}

#[test]
fn a_file_that_changes_while_it_is_read_ends_no_run() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let path = rex.data().join("log");
    let line = "some line of a log that grows and shrinks\n";
    fs::write(&path, line.repeat(50_000)).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (end, file) = (std::sync::Arc::clone(&stop), fs::OpenOptions::new().write(true).open(&path).unwrap());
    let changer = std::thread::spawn(move || {
        let mut size = 0_u64;
        while !end.load(std::sync::atomic::Ordering::Relaxed) {
            size = (size + 777_777) % 3_000_000;
            file.set_len(size).unwrap();
            file.write_all_at(line.repeat(2000).as_bytes(), size).unwrap();
        }
    });
    for script in [
        r#"cat("{data}/log").len() >= 0"#,
        r#"tail("{data}/log", #{n: 1000}).len() <= 1000"#,
        r#"wc("{data}/log").lines >= 0"#,
        r#"grep("grows", "{data}/log", #{count: true, lossy: true}).len() == 1"#,
        r#"let n = 0; for line in open("{data}/log").lines(#{max_line: 8000000}) { n += 1; } n >= 0"#,
    ] {
        let run = rex.run(&format!("for i in 0..5 {{ {script} }} true"));
        assert!(run.code == 0, "{script}: {run:#?}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    changer.join().unwrap();
    // A file that is removed while it is open can be read to its end.
    rex.run(r#"let f = open("{data}/log"); true"#).gives(true);
    fs::remove_file(&path).unwrap();
    rex.run(r#"let k = (); try { cat("{data}/log"); } catch (e) { k = e.kind; } k"#).gives("not_found");
}

#[test]
fn the_end_of_a_long_file_costs_no_more_than_its_lines() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let text: String = (1..=5_000_000).map(|n| format!("line {n}\n")).collect();
    fs::write(rex.data().join("log"), text).unwrap();
    let run = rex.run(r#"let all = tail("{data}/log", #{n: 100000}); [all.len(), all[0]]"#);
    run.ends(0);
    assert_eq!(run.value().to_string(), r#"[100000,"line 4900001"]"#);
    assert!(run.seconds < 5.0, "{}", run.seconds);
}

#[test]
fn programs_and_libraries_are_told_apart_from_everything_else() {
    let rex = Rex::new().policy(ALLOW_ALL).file("script", "#!/bin/sh\n");
    let run = rex.run(r#"let e = elf_info("{root}/rex"); [e.class == if e.is_64bit { 64 } else { 32 }, e.type, e.machine.len() > 0, e.process, e.execfn]"#);
    run.ends(0);
    let value = run.value();
    assert_eq!(
        (&value[0], &value[2], &value[3], &value[4]),
        (&true.into(), &true.into(), &serde_json::Value::Null, &serde_json::Value::Null)
    );
    assert!(["pie", "executable"].contains(&value[1].as_str().unwrap()), "{value}");
    rex.run(r#"let k = (); try { elf_info("{data}/script"); } catch (e) { k = e.kind; } k"#).gives("bad_data");
}
