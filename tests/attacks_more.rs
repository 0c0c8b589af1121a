//! More attacks from inside a script: on what a denial tells, on names that change meanwhile, on limits, and on the end of a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Rex};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SECRET: &str = "s3cret-of-the-vault";
/// Nothing is permitted but what is in one folder.
const ONLY_OPEN: &str = r#"permit(principal, action, resource in file_system::Dir::"{data}/open");"#;

#[test]
fn a_forbidden_file_that_is_replaced_again_and_again_is_never_read() {
    let rex = Rex::new()
        .policy(r#"permit(principal, action, resource); forbid(principal, action, resource == file_system::File::"{data}/secret");"#);
    let rex = rex.file("secret", SECRET).file("other", "public");
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, data) = (Arc::clone(&stop), rex.data());
    let swapper = std::thread::spawn(move || {
        while !flag.load(Ordering::Relaxed) {
            for (name, text) in [("secret", SECRET), ("other", "public")] {
                fs::write(data.join("new"), text).unwrap();
                fs::rename(data.join("new"), data.join(name)).unwrap();
            }
        }
    });
    let run = rex.run(
        r#"let told = #{read: 0, denied: 0, other: 0, elsewhere: 0};
           for i in 0..4000 {
               try { cat("{data}/secret"); told.read += 1; } catch (e) { if e.kind == "denied" { told.denied += 1; } else { told.other += 1; } }
               try { cat("{data}/other"); } catch (e) { told.elsewhere += 1; }
           }
           told"#,
    );
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    // The other side: a file that somebody replaces in one step is there all the time.
    run.gives(serde_json::json!({"read": 0, "denied": 4000, "other": 0, "elsewhere": 0}));
}

#[test]
fn a_way_back_out_of_a_forbidden_folder_does_not_tell_what_is_in_it() {
    let rex = Rex::new().policy(ONLY_OPEN).file("open/file", "public").file("vault/key", SECRET).dir("vault/sub");
    for call in ["exists(p)", "cat(p)", "ls(p)", "stat(p).type"] {
        let told: Vec<String> = ["sub", "key", "gone"]
            .iter()
            .map(|name| {
                let script = format!(
                    "let p = \"{{data}}/vault/{name}/../../open/file\"; let told = (); try {{ told = {call}; }} catch (e) {{ told = e.kind; }} to_json(told)"
                );
                rex.run(&script).ends(0).value().to_string().replace(name, "NAME")
            })
            .collect();
        assert!(told.iter().all(|one| *one == told[0]), "{call}: {told:?}");
    }
    // The other side: the path leads where it says.
    rex.run("cat(\"{data}/open/../open/./file\")").gives("public");
    rex.run("is_dir(\"{data}/open/sub/..\")").gives(true);
}

#[test]
fn a_walk_that_follows_links_does_not_tell_what_they_lead_to_out_of_bounds() {
    let rex = Rex::new().policy(ONLY_OPEN).file("open/dir/file", "public").file("vault/key", SECRET).dir("vault/sub");
    let rex = rex.link("open/to-key", "../vault/key").link("open/to-sub", "../vault/sub").link("open/to-gone", "../vault/gone");
    let rex = rex.link("open/within", "dir");
    let run = rex.run(r#"find("{data}/open", #{follow: true, max_depth: 1, min_depth: 1}).map(|e| `${e.name} ${e.type}`)"#);
    run.gives(serde_json::json!(["dir dir", "to-gone symlink", "to-key symlink", "to-sub symlink", "dir dir"]));
    // As many denials for what is there as for what is not.
    assert_eq!(run.denials(), 3, "{run:#?}");
    for kind in ["file", "dir"] {
        let run = rex.run(&format!(r#"find("{{data}}/open", #{{follow: true, type: "{kind}"}}).filter(|e| e.path.contains("to-")).len()"#));
        run.gives(0);
    }
}

#[test]
fn a_forbid_that_looks_at_the_thing_tells_nobody_else_that_it_is_there() {
    let rex = Rex::new().policy(&format!(
        "{ONLY_OPEN}\n@hint(\"not this one\") forbid(principal, action, resource) when {{ resource has size && resource.size > 3 }};"
    ));
    let rex = rex.file("open/file", "long").file("vault/isthere", SECRET);
    let told = |name: &str| {
        let script = format!("let told = (); try {{ cat(\"{{data}}/vault/{name}\") }} catch (e) {{ e.remove(\"ref\"); told = e; }} told");
        rex.run(&script).ends(0).value().to_string().replace(name, "NAME")
    };
    assert_eq!(told("isthere"), told("missing"));
    // The other side: whoever may look at the place is told of the forbid.
    let run = rex.run("cat(\"{data}/open/file\")");
    assert_eq!(run.is_denied().json()["error"]["why"], "forbidden", "{run:#?}");
}

#[test]
fn threads_of_rex_are_as_closed_as_rex_itself() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let script = r#"
        let ids = stat("/proc/thread-self", #{follow: false}).target.split("/");
        let told = [];
        for id in [ids[0], ids[2]] {
            for name in ["maps", "fd", "fdinfo", "task", "comm", "oom_score_adj", "mem", "environ", "stack"] {
                let path = `/proc/${id}/${name}`;
                for way in [|p| ls(p), |p| cat(p), |p| stat(p), |p| write(p, "x")] {
                    let kind = "done";
                    try { way.call(path); } catch (e) { kind = e.kind; }
                    told.push(kind);
                }
            }
        }
        [ids[0] != ids[2], told.filter(|kind| kind != "denied")]"#;
    rex.run(script).gives(serde_json::json!([true, []]));
    // The other side.
    rex.run("cat(\"/proc/self/status\").len() > 0 && cat(\"/proc/1/status\").len() > 0").gives(true);
}

#[test]
fn a_folder_of_very_many_folders_is_walked_whole() {
    let mut rex = Rex::new().policy(ALLOW_ALL);
    for number in 0..2000 {
        rex = rex.file(&format!("many/d{number}/file"), "hit\n");
    }
    for call in ["ls(p, #{recursive: true}).len() / 2", "find(p, #{type: \"file\"}).len()", "grep(\"hit\", p, #{recursive: true}).len()"] {
        rex.run(&format!("let p = \"{{data}}/many\"; {call}")).gives(2000);
    }
    let told = rex.run("ls(\"{data}/many\", #{recursive: true, sort: \"none\"}).map(|e| e.path)").ends(0).value();
    assert!(told[0].as_str().unwrap().ends_with("/d0") && told[2000].as_str().unwrap().ends_with("/d0/file"), "{}", told[2000]);
}

#[test]
fn what_log_lines_carry_counts_as_output() {
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\noutput = \"1MiB\"\n");
    let script = r#"let s = "x"; s.pad(100000, "y"); for i in 0..100 { info("m", #{field: s}); }"#;
    for form in ["json", "ndjson", "human"] {
        let (config, policy) = (rex.config_file(), rex.policy_file());
        let words = ["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", form];
        let run = rex.finish(rex.command(&words), script.as_bytes());
        run.ends(125);
        assert!(run.stdout.len() + run.stderr.len() < 3 << 20, "{form}: {}", run.stdout.len() + run.stderr.len());
    }
    rex.run(r#"let s = "x"; s.pad(100000, "y"); for i in 0..5 { info("m", #{field: s}); } 1"#).gives(1);
}

#[test]
fn values_that_nest_without_end_are_a_limit_and_no_crash() {
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\nmemory = \"2GiB\"\n");
    let run = rex.run("let f = 1; for i in 0..3000000 { let prev = f; f = || prev; } 5");
    run.ends(125);
    assert_eq!(run.json()["error"]["kind"], "limit", "{run:#?}");
    assert_eq!(run.events("run_end").len(), 1, "{:#?}", run.audit);
    rex.run("let f = 1; for i in 0..1000 { let prev = f; f = || prev; } 5").gives(5);
}

#[test]
fn a_file_that_says_it_is_as_large_as_can_be_is_a_limit_and_no_crash() {
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\nwall = 3\n");
    // A filesystem in memory takes files of any size that have nothing in them.
    let Ok(file) = tempfile::NamedTempFile::new_in("/dev/shm") else { return };
    let Some(size) = [i64::MAX as u64, 1 << 62, 1 << 42].into_iter().find(|size| file.as_file().set_len(*size).is_ok()) else { return };
    let path = file.path().display();
    for call in ["cat(p, #{max_bytes: most})", "read_bytes(p, #{max_bytes: most})", "open(p).read(#{max_bytes: most})", "tail(p, #{n: 1})"]
    {
        let run = rex.run(&format!("let p = \"{path}\"; let most = 9223372036854775807; {call}; 1"));
        assert!([1, 124, 125].contains(&run.code), "{size} {call}: {run:#?}");
    }
    rex.run(&format!("read_bytes(\"{path}\", #{{length: 3}}).len()")).gives(3);
}

#[test]
fn a_check_of_a_script_that_takes_the_compiler_long_ends_at_the_limits_of_a_run() {
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\nwall = 2\n");
    let many: String = (0..70_000).map(|number| format!("let a{number}=z;")).collect();
    for verb in ["rex check --output-format json", "rex run --output-format json"] {
        let run = rex.session(None, &[], Some(verb), &format!("let z=1;{many}"));
        assert!([0, 124, 125].contains(&run.code) && run.seconds < 10.0, "{verb}: {} {}", run.code, run.seconds);
    }
    let run = rex.session(None, &[], Some("rex check --output-format json"), "cat(\"/x\")");
    assert_eq!(run.ends(0).json()["compiles"], true, "{run:#?}");
    assert_eq!(rex.session(None, &[], Some("rex check"), "let = ;").code, 65);
}

#[test]
fn an_exit_in_a_closure_ends_the_script_whoever_called_it() {
    let rex = Rex::new().policy(ALLOW_ALL).file("a/x", "").file("a/y", "");
    for call in [
        "[3, 1, 2].sort(|a, b| exit(7))",
        "[3, 1, 2].sort(|a, b| { try { exit(7); } catch { } 0 })",
        "[3, 1, 2].dedup(|a, b| exit(7))",
        "[3, 1, 2].map(|a| exit(7))",
        "find(\"{data}/a\", |e| exit(7))",
        "[3, 1, 2].reduce(|a, b| exit(7))",
    ] {
        let run = rex.run(&format!("{call}; write(\"{{data}}/after\", \"x\")"));
        assert_eq!((run.code, rex.exists("after")), (7, false), "{call}: {run:#?}");
    }
    let run = rex.run("[3, 1, 2].sort(|a, b| exit(7))");
    assert_eq!(run.code, 7, "{run:#?}");
}

#[test]
fn a_file_that_is_open_is_read_and_written_no_more_once_the_policies_in_force_forbid_it() {
    needs_root!();
    let rex =
        Rex::new().config("identity = [\"argument\"]\n[limits]\nwall = 40").policy(ALLOW_ALL).file("read", "hidden\n").file("written", "");
    // It says when it has the files, and goes on until both are denied: in the end the limit of time would tell.
    let script = "let r = open(\"{data}/read\"); let w = open(\"{data}/written\", \"a\"); let last = [];\n\
         r.read(); w.write_line(\"x\"); write(\"{data}/ready\", \"\");\n\
         while last != [\"denied\", \"denied\"] {\n\
           sleep(0.05); last = [];\n\
           try { r.seek(0); r.read(); } catch (e) { last.push(e.kind); }\n\
           try { w.write_line(\"x\"); } catch (e) { last.push(e.kind); }\n\
         }\n\
         last";
    let mut session = common::Running::start(rex.session_command(None, &["--principal", "x"], Some("rex -o json")));
    session.send(rex.fill(script).as_bytes());
    session.end_input();
    assert!(common::until(60.0, || rex.exists("ready")));
    let rex = rex.policy(&format!(
        "{ALLOW_ALL}\n@id(\"no\") forbid(principal, action in [file_system::Action::\"read\", file_system::Action::\"write\"], resource in file_system::Dir::\"{{data}}\");"
    ));
    let run = session.finish(90);
    run.gives(serde_json::json!(["denied", "denied"]));
    let denied = rex.audit().iter().filter(|record| record["decision"] == "deny" && record["policies"][0] == "no").count();
    assert!(denied >= 2, "on record");
}
