//! Every limit in every kind of native call: it ends the run with its code, on record, with nothing left behind; and what a run is told of its limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Account, Rex, Run, children, until};
use serde_json::{Value, json};
use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

/// A number of seconds that no other process of this host sleeps.
fn mark() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{:03}", 6000 + std::process::id() % 1000, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Work that takes minutes at least, in one native call each.
const LONG: &[(&str, &str)] = &[
    ("reading", "wc(\"{data}/huge\")"),
    ("digest", "sha256(\"{data}/huge\")"),
    ("searching", "grep(\"^(a|b|c){3,9}z$\", \"{data}/packed.gz\", #{max_unpacked: 1 << 50})"),
    ("searching what is packed", "search_gzip(\"needle\", \"{data}/packed.gz\", #{max_unpacked: 1 << 50})"),
    ("packing", "gzip(\"{data}/huge\", #{keep: true})"),
    ("an archive", "tar_create(\"{data}/made.tar\", [\"{data}/huge\"])"),
    ("a closure for each item", "let a = []; for i in 0..1000 { a.push(i) } a.map(|x| { let n = 0; while n < 1000000000 { n += 1 } n })"),
    (
        "sorting with a closure",
        "let a = []; for i in 0..100 { a.push(i) } a.sort(|x, y| { let n = 0; while n < 1000000000 { n += 1 } x - y })",
    ),
    ("branches", "parallel([|| wc(\"{data}/huge\"), || sha256(\"{data}/huge\")])"),
    ("a program", "exec(\"/bin/sh\", [\"-c\", \"while :; do :; done\"])"),
    ("programs of a program", "exec(\"/bin/sh\", [\"-c\", \"(while :; do :; done) & (while :; do :; done) & wait\"])"),
    (
        "many short programs",
        "exec(\"/bin/sh\", [\"-c\", \"while :; do /bin/sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'; done\"])",
    ),
    ("a pipeline", "pipeline([[\"/usr/bin/yes\"], [\"/usr/bin/sha256sum\"]])"),
];

/// Waiting that takes minutes, and no processor time.
const WAITING: &[(&str, &str)] = &[
    ("sleep", "sleep(1000)"),
    ("following", "follow(\"{data}/small\", #{from_end: 1, seconds: 0.1}, |line| sleep(1000))"),
    ("a lock", "let f = open(\"{data}/locked\", \"r+\"); f.lock(#{timeout: 1000})"),
    ("trying again", "retry(1000, #{delay: 100, max_delay: 100}, || throw \"x\")"),
    ("branches", "parallel([|| sleep(1000), || sleep(1000)])"),
    ("a program", "exec(\"/bin/sleep\", [\"{mark}\"], #{timeout: 1000})"),
    (
        "a program that ignores being asked",
        "exec(\"/bin/sh\", [\"-c\", \"trap '' TERM; /bin/sleep {mark}; /bin/sleep {mark}\"], #{timeout: 1000})",
    ),
    ("lines of a program", "exec_stream(\"/bin/sleep\", [\"{mark}\"], #{timeout: 1000}, |line| true)"),
];

fn host() -> Rex {
    let rex = Rex::new().file("small", "x\n").file("locked", "");
    std::fs::File::create(rex.path("huge")).unwrap().set_len(4 << 40).unwrap();
    // The same lines again and again: gzip files may be put one behind another.
    let plain = rex.path("lines");
    std::fs::write(&plain, "abcabcabcabcabcabcabcabc\n".repeat(400_000)).unwrap();
    let member = std::process::Command::new("gzip").args(["-c", &plain]).output().unwrap().stdout;
    let mut packed = std::fs::File::create(rex.path("packed.gz")).unwrap();
    for _ in 0..2000 {
        packed.write_all(&member).unwrap();
    }
    rex
}

/// What is wrong with a run that a limit had to end.
fn fault(name: &str, run: &Run, code: i32) -> Option<String> {
    let ends = run.events("run_end");
    let wrong = |what: &str| Some(format!("{name}: {what}: {} {}", run.code, run.stdout.chars().take(600).collect::<String>()));
    if run.code != code || run.error_type() != "LIMIT_EXCEPTION" {
        wrong("it did not end by the limit")
    } else if run.seconds > 20.0 {
        wrong(&format!("it took {} s", run.seconds))
    } else if ends.len() != 1 || ends[0]["exit"] != code || ends[0]["class"] != "LIMIT_EXCEPTION" {
        wrong(&format!("the record says {ends:?}"))
    } else {
        None
    }
}
#[track_caller]
fn is_over(name: &str, run: &Run, code: i32) {
    if let Some(fault) = fault(name, run, code) {
        panic!("{fault}");
    }
}
/// Of all of them, so that one fault hides no other.
#[track_caller]
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_time_limit_ends_every_kind_of_work_and_of_waiting() {
    let mut faults = Vec::new();
    let rex = host().policy(ALLOW_ALL);
    let held = std::fs::File::open(rex.path("locked")).unwrap();
    held.lock().unwrap();
    for (name, script) in LONG.iter().chain(WAITING) {
        let mark = mark();
        let run = rex.run_with(&["--timeout", "1"], &script.replace("{mark}", &mark));
        faults.extend(fault(name, &run, 124));
        assert!(until(1.0, || children(&mark).is_empty()), "{name}: a program lives on");
    }
    assert!(!rex.exists("huge.gz") && !rex.exists("made.tar"));
    none(faults);
}

#[test]
fn the_limit_of_processor_time_ends_every_kind_of_work() {
    let mut faults = Vec::new();
    let rex = host().policy(ALLOW_ALL).config("[limits]\ncpu = 1\n");
    for (name, script) in LONG {
        let run = rex.run_with(&["--timeout", "60"], script);
        faults.extend(fault(name, &run, 125));
        // What was used is told, of programs too.
        let (document, said) = (run.json(), run.json()["error"]["message"].to_string());
        if !(said.contains("processor time") || said.contains("CPU time")) || document["limits"]["cpu"]["used"].as_f64() < Some(0.8) {
            faults.push(format!("{name}: {said} {}", document["limits"]["cpu"]));
        }
    }
    // Time of which none is used.
    rex.run_with(&["--timeout", "60"], "sleep(1.5); exec(\"/bin/sleep\", [\"0.2\"]).status").gives(0);
    none(faults);
}

#[test]
fn the_limit_of_steps_counts_those_of_closures_in_native_calls() {
    let mut faults = Vec::new();
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\noperations = 10000\n");
    for script in [
        "let n = 0; loop { n += 1 }",
        "let a = []; for i in 0..100 { a.push(i) } a.map(|x| { let n = 0; while n < 1000 { n += 1 } n })",
        "let a = []; for i in 0..100 { a.push(i) } a.sort(|x, y| { let n = 0; while n < 1000 { n += 1 } x - y })",
        "retry(1000, #{delay: 0}, || { let n = 0; while n < 1000 { n += 1 } throw \"x\" })",
        "exec_stream(\"/usr/bin/yes\", [], #{}, |line| { let n = 0; while n < 1000 { n += 1 } true })",
        "parallel([|| { let n = 0; while n < 1000000 { n += 1 } }, || { let n = 0; while n < 1000000 { n += 1 } }])",
    ] {
        faults.extend(fault(script, &rex.run_with(&["--timeout", "60"], script), 125));
    }
    none(faults);
}

#[test]
fn the_limit_of_memory_holds_in_native_calls_and_for_all_programs_together() {
    let mut faults = Vec::new();
    let rex = host().policy(ALLOW_ALL).config("[limits]\nmemory = \"48MiB\"\n");
    for (name, script) in [
        ("reading", "cat(\"{data}/huge\", #{max_bytes: 1 << 50})"),
        ("one line", "open(\"{data}/huge\").read_line(#{max_line: 1 << 50})"),
        ("unpacking", "read_gzip_lines(\"{data}/packed.gz\", #{max_unpacked: 1 << 50, max_bytes: 1 << 50, max_line: 1 << 50})"),
        ("one program", "exec(\"/bin/sh\", [\"-c\", \"/usr/bin/head -c1G /dev/zero | /usr/bin/tail -c1G\"])"),
        (
            "several that are each below it",
            "exec(\"/bin/sh\", [\"-c\", \"for i in 1 2 3 4 5 6; do (/usr/bin/head -c20M /dev/zero; /bin/sleep 100) | /usr/bin/tail -c20M & done; wait\"])",
        ),
    ] {
        faults.extend(fault(name, &rex.run_with(&["--timeout", "60"], script), 125));
    }
    none(faults);
}

#[test]
fn the_limit_of_output_holds_for_all_that_is_said() {
    let mut faults = Vec::new();
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\noutput = \"64KiB\"\n").file("small", "x\n");
    for script in [
        "loop { print(\"0123456789\") }",
        "loop { info(\"0123456789\") }",
        "loop { emit(#{a: \"0123456789\"}) }",
        "loop { metric(\"m\", 1) }",
        "exec_stream(\"/usr/bin/yes\", [], #{}, |line| { print(line); true })",
        "parallel([|| loop { print(\"x\") }, || loop { print(\"y\") }])",
    ] {
        let run = rex.run_with(&["--timeout", "60"], script);
        faults.extend(fault(script, &run, 125));
        assert!(run.stdout.len() < (600 << 10), "{script}: {} bytes", run.stdout.len());
    }
    none(faults);
}

#[test]
fn no_file_grows_beyond_the_limit_by_whatever_means() {
    let mut faults = Vec::new();
    let noise: Vec<u8> = (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for (name, script, file) in [
        ("write", "write(\"{data}/new\", \"x\".pad_to(100000))", "new"),
        ("replace", "write(\"{data}/old\", \"x\".pad_to(100000), #{replace: true})", "old"),
        ("append", "write(\"{data}/old\", \"x\".pad_to(65533))", "old"),
        ("append a line", "append_line(\"{data}/old\", \"x\".pad_to(65533))", "old"),
        ("an open file", "let f = open(\"{data}/new\", \"w\"); for i in 0..100 { f.write(\"x\".pad_to(1000)) }", ""),
        ("a place far behind the end", "let f = open(\"{data}/old\", \"r+\"); f.seek(1 << 40); f.write(\"x\")", "old"),
        ("truncate an open file", "let f = open(\"{data}/old\", \"r+\"); f.truncate(65537)", "old"),
        ("truncate", "truncate(\"{data}/old\", #{size: 65537})", "old"),
        ("fallocate", "fallocate(\"{data}/old\", #{length: 65537})", "old"),
        ("fallocate without size", "fallocate(\"{data}/old\", #{length: 65537, keep_size: true})", "old"),
        ("copy", "cp(\"{data}/noise\", \"{data}/new\")", "new"),
        ("copy over", "cp(\"{data}/noise\", \"{data}/old\", #{force: true})", "old"),
        ("a hole", "cp(\"{data}/hole\", \"{data}/new\")", "new"),
        ("gzip", "gzip(\"{data}/noise\", #{keep: true})", "noise.gz"),
        ("zstd", "zstd(\"{data}/noise\", #{keep: true})", "noise.zst"),
        ("tar", "tar_create(\"{data}/new\", [\"{data}/noise\"])", "new"),
        ("unpack", "tar_extract(\"{data}/noise.tar\", \"{data}/folder\")", "folder/noise"),
        ("sed", "edit_line(\"{data}/old\", #{line: \"x\".pad_to(70000)})", "old"),
        ("a program", "exec(\"/bin/sh\", [\"-c\", \"exec /usr/bin/head -c 100000 /dev/zero > {data}/by_program\"])", ""),
        ("a program that cuts", "exec(\"/usr/bin/truncate\", [\"-s\", \"1M\", \"{data}/old\"])", "old"),
    ] {
        let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\nfile_size = \"64KiB\"\n").file("old", "old\n").dir("folder");
        std::fs::write(rex.path("noise"), &noise).unwrap();
        std::fs::File::create(rex.path("hole")).unwrap().set_len(1 << 40).unwrap();
        let tar =
            std::process::Command::new("tar").args(["-C", rex.data().to_str().unwrap(), "-cf", &rex.path("noise.tar"), "noise"]).status();
        assert!(tar.unwrap().success());
        let script = format!("fn pad_to(n) {{ let s = this; s.pad(n, \"x\"); s }}\n{script}");
        let run = rex.run_with(&["--timeout", "60"], &script);
        faults.extend(fault(name, &run, 125));
        if rex.read("old") != "old\n" || !(file.is_empty() || file == "old" || !rex.exists(file)) {
            faults.push(format!("{name}: something was made"));
        }
        for left in std::fs::read_dir(rex.data()).unwrap().flatten() {
            let (name_left, size) = (left.file_name(), left.metadata().unwrap().len());
            if !(["noise", "noise.tar", "hole"].iter().any(|known| name_left == *known) || size <= 65536) {
                faults.push(format!("{name}: {name_left:?} has {size} bytes"));
            }
        }
    }
    none(faults);
}

#[test]
fn what_is_larger_than_the_limit_can_be_read_changed_in_place_and_made_shorter() {
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\nfile_size = \"1KiB\"\n").file("big", &"0123456789".repeat(1000));
    rex.run("wc(\"{data}/big\").bytes").gives(10_000);
    rex.run("let f = open(\"{data}/big\", \"r+\"); f.seek(5000); f.write(\"x\"); f.truncate(9000); f.close(); cat(\"{data}/big\").len()")
        .gives(9000);
    rex.run("write(\"{data}/new\", \"small\"); cat(\"{data}/new\")").gives("small");
    // The records are rex's own, and longer than that.
    assert!(std::fs::metadata(rex.audit_file()).unwrap().len() > 1024);
    let run = rex.run("write(\"{data}/new\", \"small\"); limits_left().file_size");
    assert_eq!(run.ends(0).value(), json!({"limit": 1024, "used": 10, "left": 1014}));
}

#[test]
fn a_limit_of_no_programs_lets_none_start() {
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\nchildren = 0\n");
    is_over("none", &rex.run("exec(\"/bin/sh\", [\"-c\", \"echo x > {data}/made\"])"), 125);
    assert!(!rex.exists("made"));
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\nchildren = 2\n");
    rex.run("pipeline([[\"/bin/echo\", \"x\"], [\"/bin/cat\"]]).stdout").gives("x\n");
    is_over("three of two", &rex.run("pipeline([[\"/bin/sleep\", \"5\"], [\"/bin/cat\"], [\"/bin/cat\"]]).stdout"), 125);
}

/// Every limit with a value that is not its default, and how whoami shows it.
const SETTINGS: &[(&str, &str, &str, f64)] = &[
    ("wall", "\"7s\"", "wall_seconds", 7.0),
    ("cpu", "8", "cpu_seconds", 8.0),
    ("memory", "\"33MiB\"", "memory_bytes", 34_603_008.0),
    ("output", "2048", "output_bytes", 2048.0),
    ("script", "3000", "script_bytes", 3000.0),
    ("operations", "5000", "operations", 5000.0),
    ("depth", "17", "depth", 17.0),
    ("file_size", "4096", "file_size_bytes", 4096.0),
    ("open_files", "33", "open_files", 33.0),
    ("children", "3", "children", 3.0),
    ("denials", "5", "denials", 5.0),
];

#[test]
fn every_limit_is_a_groups_own_and_is_shown_to_it() {
    let lines: String = SETTINGS.iter().map(|(name, value, ..)| format!("{name} = {value}\n")).collect();
    let rex = Rex::new().policy(ALLOW_ALL).config(&format!("[groups.agents.limits]\n{lines}"));
    let run = |arguments: &[&str]| {
        rex.run_with(
            arguments,
            "let l = limits_left(); l.remove(\"warnings\"); let all = #{}; for name in l.keys() { all[name] = l[name].limit } all",
        )
    };
    let (plain, grouped) = (run(&[]).ends(0).value(), run(&["--group", "agents"]).ends(0).value());
    let names: Vec<&str> = grouped.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names.len(), SETTINGS.len(), "a limit is missing in this test: {names:?}");
    for (name, _, _, value) in SETTINGS {
        assert_eq!(grouped[name].as_f64(), Some(*value), "{name}");
        assert_ne!(plain[name].as_f64(), Some(*value), "{name}");
    }
    // The same in the result, with what was used.
    let document = rex.run_with(&["--group", "agents"], "1").ends(0).json();
    for (name, _, _, value) in SETTINGS {
        assert_eq!(document["limits"][name]["limit"].as_f64(), Some(*value), "{name}");
        assert!(document["limits"][name]["used"].is_number(), "{name}");
    }
}

#[test]
fn whoami_shows_every_limit() {
    needs_root!();
    let account = Account::new();
    let lines: String = SETTINGS.iter().map(|(name, value, ..)| format!("{name} = {value}\n")).collect();
    let rex = Rex::new().policy(ALLOW_ALL).config(&format!("[limits]\n{lines}")).account(&account);
    let shown = rex.session(Some(&account), &[], Some("rex whoami -o json"), "").ends(0).json();
    for (name, _, key, value) in SETTINGS {
        assert_eq!(shown["limits"][key].as_f64(), Some(*value), "{name}: {shown:#}");
    }
    assert_eq!(shown["limits"].as_object().unwrap().len(), SETTINGS.len());
    let text = rex.session(Some(&account), &[], Some("rex whoami"), "").ends(0).stdout.clone();
    for word in [
        "7 s",
        "8 s of processor time",
        "33 MiB of memory",
        "2048 bytes of output",
        "3000 bytes",
        "5000 operations",
        "17 nested",
        "4096 bytes",
        "33 open",
        "3 processes",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// A script that comes near each limit, and no further.
const NEAR: &[(&str, &str, &str)] = &[
    ("wall", "wall = 3", "sleep(2.5); limits_left().warnings"),
    ("output", "output = 10000", "let s = \"x\"; s.pad(8500, \"x\"); print(s); limits_left().warnings"),
    (
        "operations",
        "operations = 100000",
        "for i in 0..28000 { } let l = limits_left(); if l.operations.used < 80000 { for i in 0..((82000 - l.operations.used) * 28 / 100) { } } while limits_left().operations.used < 80500 { } limits_left().warnings",
    ),
    ("memory", "memory = \"32MiB\"", "let b = blob(28000000, 0); let n = b.len(); limits_left().warnings"),
    ("cpu", "cpu = 2", "while limits_left().cpu.used < 1.65 { } limits_left().warnings"),
];

/// The answer to a script in this form.
fn answer(rex: &Rex, form: &str, script: &str) -> Run {
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let command = rex.command(&["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", form]);
    rex.finish(command, script.as_bytes())
}

#[test]
fn a_run_that_comes_near_a_limit_is_told_once_and_goes_on() {
    for (name, setting, script) in NEAR {
        let rex = Rex::new().policy(ALLOW_ALL).config(&format!("[limits]\n{setting}\n"));
        let told = |logs: &[Value]| {
            logs.iter().filter(|log| log["attributes"]["level"] == "WARN" && log["attributes"]["fields"]["limit"] == *name).count()
        };
        let run = rex.run(script);
        let document = run.ends(0).json();
        assert_eq!(document["value"], json!([name]), "{name}: {run:#?}");
        assert_eq!(told(document["logs"].as_array().unwrap()), 1, "{name}: {run:#?}");
        assert_eq!(document["limits"][name]["near"], true, "{name}: {run:#?}");
        assert!(!document["output"].as_str().unwrap().contains("near"), "it is no output of the script");

        let run = answer(&rex, "ndjson", script);
        let frames: Vec<Value> = run.ends(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(told(&frames.iter().filter(|frame| frame["type"] == "log").cloned().collect::<Vec<_>>()), 1, "{name}: {run:#?}");
        assert_eq!(frames.last().unwrap()["limits"][name]["near"], true);

        let run = answer(&rex, "human", script);
        let lines: Vec<&str> = run.ends(0).stderr.lines().filter(|line| line.starts_with("warn: ")).collect();
        assert_eq!(lines.len(), 1, "{name}: {run:#?}");
        assert!(lines[0].contains(&format!("`{name}`")) && !run.stdout.contains("warn"), "{name}: {run:#?}");
    }
    // Far from all of them nothing is said.
    let run = Rex::new().policy(ALLOW_ALL).run("1");
    assert_eq!((run.ends(0).json()["logs"].clone(), run.stderr.as_str()), (json!([]), ""));
}

#[test]
fn a_warning_counts_for_no_limit_and_waits_for_nobody() {
    // The warning would be beyond the limit of output if it counted.
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\noutput = 1024\n");
    let run = rex.run("let s = \"x\"; s.pad(1000, \"x\"); print(s); sleep(0.5); print(\"0123456789\"); 7");
    assert_eq!(run.ends(0).value(), json!(7));
    assert_eq!(run.json()["limits"]["output"]["used"], 1001 + 11, "{run:#?}");
}
