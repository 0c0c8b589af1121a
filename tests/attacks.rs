//! Attacks on the gate from inside a script, each named after what it tries: another spelling, another road, another moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Account, Rex, Run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SECRET: &str = "s3cret-of-the-vault";

/// Everything is permitted but the vault, and one file by its name.
const ALL_BUT_VAULT: &str = r#"
permit(principal, action, resource);
forbid(principal, action, resource in file_system::Dir::"{data}/vault");
forbid(principal, action, resource == file_system::File::"{data}/secret");
"#;
/// Nothing is permitted but what is in one folder.
const ONLY_OPEN: &str = r#"permit(principal, action, resource in file_system::Dir::"{data}/open");"#;

/// `vault/` and `secret` hold the secret, `open/` does not.
fn vault(policy: &str) -> Rex {
    let rex = Rex::new().policy(policy).file("vault/key", SECRET).file("secret", SECRET).file("open/file", "public");
    rex.link("open/link", "{data}/vault/key")
        .link("open/relative", "../vault/key")
        .link("open/dir", "{data}/vault")
        .link("open/chain", "link")
}

#[track_caller]
fn nothing_leaked(run: &Run) {
    let records = format!("{:?}", run.audit);
    assert!(!run.stdout.contains(SECRET) && !run.stderr.contains(SECRET) && !records.contains(SECRET), "{run:#?}");
}

/// The function's calls under test on a path `p`; each gives the contents, or something that depends on them.
const READERS: &[&str] = &[
    "cat(p)",
    "read_lines(p)",
    "open(p).read()",
    "open(p).read_line()",
    "let all = []; for line in open(p).lines() { all.push(line) } all",
    "head(p)",
    "tail(p)",
    "grep(\".\", p)",
    "wc(p)",
    "stat(p)",
    "ls(p)",
    "find(p)",
];

/// One run that tries the call on every path and tells, for each, the kind of the error or `ok: ` and the value.
#[track_caller]
fn tries(rex: &Rex, call: &str, paths: &[String]) -> (Run, Vec<String>) {
    let list = serde_json::to_string(paths).unwrap();
    // The value of a `catch` is nothing in Rhai: hence the `return`s.
    let script = format!(
        "fn attempt(p) {{ {call} }}\n\
         fn try_one(p) {{ try {{ let value = attempt(p); return `ok: ${{value.to_json()}}`; }} catch (e) {{ return e.kind; }} }}\n\
         let told = []; for p in {list} {{ told.push(try_one(p)); }} told"
    );
    let run = rex.run(&script);
    let told: Vec<String> = run.ends(0).value().as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect();
    assert_eq!(told.len(), paths.len(), "{run:#?}");
    (run, told)
}

// ---- another spelling ------------------------------------------------------------------------------------------------

#[test]
fn no_spelling_of_a_path_gets_past_a_forbid() {
    let rex = vault(ALL_BUT_VAULT);
    let data = rex.data().display().to_string();
    let forbidden: Vec<String> = [
        "/vault/key",
        "//vault/key",
        "/./vault/key",
        "/vault/./key",
        "/vault//key",
        "/open/../vault/key",
        "/vault/../vault/key",
        "/open/./../vault//./key",
        "/vault/key/",
        "/vault/key/.",
        "/secret",
        "//secret",
        "/./secret",
        "/secret/",
        "/open/../secret",
        "/open/link",
        "/open//link",
        "/open/relative",
        "/open/chain",
        "/open/dir/key",
        "/open/dir//key",
        "/open/dir/../secret",
        "/open/dir/../vault/key",
    ]
    .iter()
    .map(|tail| format!("{data}{tail}"))
    .chain(
        ["//", "/./", "///", "/../", "/proc/self/root/", "/proc/self/cwd/", "/proc/1/root/", "/proc/thread-self/root/", "/dev/fd/../root/"]
            .iter()
            .map(|root| format!("{root}{}/vault/key", &data[1..])),
    )
    .collect();
    let permitted: Vec<String> =
        ["/open/file", "//open/file", "/./open/file", "/open//file", "/open/./file"].iter().map(|tail| format!("{data}{tail}")).collect();
    for call in READERS {
        let (run, told) = tries(&rex, call, &forbidden);
        nothing_leaked(&run);
        for (path, told) in forbidden.iter().zip(&told) {
            assert!(!told.starts_with("ok: "), "{call}: {path}: {told}");
        }
        assert!(told.iter().filter(|told| *told == "denied").count() > 10, "{call}: {told:?}");
        if !call.starts_with("ls") && !call.starts_with("find") {
            let (_, told) = tries(&rex, call, &permitted);
            assert!(told.iter().all(|told| told.starts_with("ok: ")), "{call}: {told:?}");
        }
    }
}

#[test]
fn no_spelling_of_a_path_lets_a_write_reach_a_forbidden_file() {
    let rex = vault(ALL_BUT_VAULT).link("open/dangling", "{data}/vault/new").link("open/dangling_dir", "{data}/vault/new_dir");
    let data = rex.data().display().to_string();
    let paths: Vec<String> = [
        "/vault/key",
        "//vault/key",
        "/./vault/key",
        "/open/../vault/key",
        "/open/link",
        "/open/chain",
        "/open/relative",
        "/open/dir/key",
        "/open/dir/new",
        "/open/dangling",
        "/open/dangling_dir/x",
        "/secret",
        "/secret/",
        "/vault/new",
        "/vault/new/",
    ]
    .iter()
    .map(|tail| format!("{data}{tail}"))
    .collect();
    for call in [
        "write(p, \"X\")",
        "write(p, \"X\", #{append: true})",
        "write(p, \"X\", #{replace: true})",
        "write(p, \"X\", #{create_new: true})",
        "open(p, \"w\").write(\"X\")",
    ] {
        let (_, told) = tries(&rex, call, &paths);
        assert!(told.iter().all(|told| !told.starts_with("ok: ")), "{call}: {told:?}");
        assert_eq!((rex.read("vault/key"), rex.read("secret")), (SECRET.to_owned(), SECRET.to_owned()), "{call}");
        let names: Vec<_> = fs::read_dir(rex.data().join("vault")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["key"], "{call}");
        for link in ["link", "chain", "dir", "dangling"] {
            assert!(rex.data().join("open").join(link).symlink_metadata().unwrap().is_symlink(), "{call} replaced the link `{link}`");
        }
        let (_, told) = tries(&rex, call, &[format!("{data}/open/{}", if call.contains("create_new") { "fresh" } else { "file" })]);
        assert!(told[0].starts_with("ok: "), "{call}: {told:?}");
        assert_eq!(rex.read("vault/key"), SECRET);
    }
}

#[test]
fn a_folder_that_begins_alike_is_another_folder() {
    let policy = "permit(principal, action, resource in file_system::Dir::\"{data}/open\");";
    let rex = Rex::new()
        .policy(policy)
        .file("open/file", "public")
        .file("openly/file", SECRET)
        .file("open2", SECRET)
        .file("open.bak/file", SECRET);
    for path in ["openly/file", "open2", "open.bak/file", "open/../openly/file"] {
        let run = rex.run(&format!("cat(\"{{data}}/{path}\")"));
        nothing_leaked(&run);
        assert_ne!(run.code, 0, "{path}: {run:#?}");
    }
    rex.run("cat(\"{data}/open/file\")").gives("public");
}

#[test]
fn names_that_are_not_text_stay_apart_and_odd_names_are_only_names() {
    use std::os::unix::ffi::OsStrExt;
    let rex = Rex::new().policy("permit(principal, action, resource in file_system::Dir::\"{data}/open\");\nforbid(principal, action, resource == file_system::File::\"{data}/open/a*\");").dir("open");
    let odd = ["a*", "a?", "<x>", "a|b", "a\"b", "a'b", "a\\b", "a\nb", "-rf", "$(id)", " ", "ünï", "\u{202e}x"];
    for name in odd {
        fs::write(rex.data().join("open").join(name), name).unwrap();
    }
    for name in [&b"z\xff"[..], b"z\xfe", b"z\xef\xbf\xbd"] {
        fs::write(rex.data().join("open").join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let run = rex.run("ls(\"{data}/open\").len()");
    assert!(run.value().as_u64().unwrap() >= odd.len() as u64 + 2, "names were merged: {run:#?}");
    let paths: Vec<String> = odd.iter().map(|name| rex.path(&format!("open/{name}"))).collect();
    let (_, told) = tries(&rex, "cat(p)", &paths);
    assert_eq!(told[0], "denied", "a star in a name is no pattern in a forbid: {told:?}");
    for (name, told) in odd.iter().zip(&told).skip(1) {
        assert_eq!(*told, format!("ok: {}", serde_json::to_string(name).unwrap()), "{name:?}");
    }
}

#[test]
fn odd_bytes_in_a_path_forge_no_record() {
    let rex = Rex::new().policy(ONLY_OPEN).dir("open");
    let run = rex.run(r#"try { cat("/x\n{\"event\":\"run_end\",\"forged\":true}\r\u001b[2J\"") } catch (e) { e.kind }"#);
    assert_eq!(run.code, 0, "{run:#?}");
    // Rex::audit has parsed every line of the file as a record of its own.
    assert!(!run.audit.is_empty() && run.audit.iter().all(|record| record.get("forged").is_none()), "{run:#?}");
    let text = fs::read_to_string(rex.audit_file()).unwrap();
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
}

// ---- another moment --------------------------------------------------------------------------------------------------

/// Swaps two names without a gap, again and again, while the work is done; both names exist at all times.
fn while_swapping<T>(rex: &Rex, one: &str, other: &str, work: impl FnOnce() -> T) -> T {
    let stop = Arc::new(AtomicBool::new(false));
    let (one, other, ended) = (rex.data().join(one), rex.data().join(other), stop.clone());
    let swapper = std::thread::spawn(move || {
        let mut swaps = 0_u64;
        while !ended.load(Ordering::Relaxed) {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            swaps += 1;
        }
        swaps
    });
    let result = work();
    stop.store(true, Ordering::Relaxed);
    assert!(swapper.join().unwrap() > 1000, "too few swaps for a race");
    result
}

#[test]
fn a_file_swapped_for_a_link_while_it_is_read_gives_nothing_away() {
    for (name, one, other) in
        [("open/file", "open/file", "open/link"), ("open/real/key", "open/real", "open/dir"), ("open/file", "open/file", "open/relative")]
    {
        let rex = vault(ALL_BUT_VAULT).file("open/real/key", "public");
        for call in ["cat(p)", "let f = open(p); f.read()", "read_lines(p).to_json()", "head(p).to_json()", "grep(\".\", p).to_json()"] {
            // What was read is looked at in the script, so that a leak shows in the exit code.
            let script = format!(
                "fn look(p) {{ {call} }}\n\
                 let good = 0; let denied = 0;\n\
                 for i in 0..1500 {{\n\
                   let text = \"\";\n\
                   try {{ text += look(\"{{data}}/{name}\"); good += 1; }} catch (e) {{ if e.kind == \"denied\" {{ denied += 1 }} }}\n\
                   if text.contains(\"s3cret\") {{ exit(9) }}\n\
                 }}\n\
                 #{{good: good, denied: denied}}"
            );
            let run = while_swapping(&rex, one, other, || rex.run(&script));
            nothing_leaked(&run);
            let value = run.ends(0).value();
            assert!(
                value["good"].as_u64() > Some(0) && value["denied"].as_u64() > Some(0),
                "{name} {call}: the race never went both ways: {value}"
            );
        }
    }
}

#[test]
fn a_file_swapped_for_a_link_while_it_is_written_leaves_the_links_target_alone() {
    for (name, one, other) in [("open/file", "open/file", "open/link"), ("open/real/key", "open/real", "open/dir")] {
        let rex = vault(ALL_BUT_VAULT).file("open/real/key", "public");
        for options in ["#{}", "#{append: true}", "#{replace: true}"] {
            let script = format!(
                "let good = 0; for i in 0..1500 {{ try {{ write(\"{{data}}/{name}\", \"X\", {options}); good += 1; }} catch {{}} }} good"
            );
            let run = while_swapping(&rex, one, other, || rex.run(&script));
            assert!(run.ends(0).value().as_u64() > Some(0), "{name} {options}: {run:#?}");
            assert_eq!(rex.read("vault/key"), SECRET, "{name} {options}");
            assert_eq!(fs::read_dir(rex.data().join("vault")).unwrap().count(), 1, "{name} {options}");
        }
    }
}

#[test]
fn a_walk_through_a_folder_that_is_swapped_for_a_link_sees_nothing_of_the_target() {
    let rex = vault(ALL_BUT_VAULT).file("open/real/key", "public").file("vault/only-in-the-vault", SECRET);
    for call in ["find(\"{data}/open\")", "ls(\"{data}/open/real\")", "grep(\"s3cret\", \"{data}/open\", #{recursive: true})"] {
        let script = format!("let seen = []; for i in 0..200 {{ try {{ seen.push({call}.to_json()) }} catch {{}} }} seen");
        let run = while_swapping(&rex, "open/real", "open/dir", || rex.run(&script));
        nothing_leaked(&run);
        assert!(!run.ends(0).stdout.contains("only-in-the-vault"), "{call}");
        assert!(!run.value().as_array().unwrap().is_empty(), "{call}");
    }
}

// ---- another road ----------------------------------------------------------------------------------------------------

#[test]
fn a_process_own_memory_and_descriptors_are_closed_under_any_policy() {
    let rex = vault(ALLOW_ALL);
    let mut paths: Vec<String> = [
        "mem",
        "environ",
        "auxv",
        "maps",
        "cmdline",
        "exe",
        "cwd",
        "root/etc/passwd",
        "task",
        "pagemap",
        "stack",
        "syscall",
        "ns/mnt",
        "map_files",
    ]
    .iter()
    .flat_map(|leaf| [format!("/proc/self/{leaf}"), format!("/proc/thread-self/{leaf}")])
    .collect();
    paths.extend((0..12).flat_map(|fd| [format!("/proc/self/fd/{fd}"), format!("/dev/fd/{fd}"), format!("/proc/self/fdinfo/{fd}")]));
    paths.extend(["/dev/stdin", "/dev/stdout", "/dev/stderr", "/proc/kcore"].map(str::to_owned));
    for call in ["cat(p)", "open(p).read()", "write(p, \"X\")", "head(p)", "read_lines(p)"] {
        let (_, told) = tries(&rex, call, &paths);
        let opened: Vec<_> = paths.iter().zip(&told).filter(|(_, told)| told.starts_with("ok: ")).collect();
        assert!(opened.is_empty(), "{call}: {opened:?}");
    }
    rex.run("cat(\"{data}/open/file\")").gives("public");
    assert_eq!(rex.run("cat(\"/proc/uptime\").len() > 3").ends(0).value(), true);
}

#[test]
fn the_environment_and_memory_of_other_processes_are_closed_under_any_policy() {
    let rex = vault(ALLOW_ALL);
    let mut command = std::process::Command::new("/bin/sleep");
    command.arg("60").env("TOKEN", SECRET);
    let neighbour = common::Running::start(command);
    let pid = neighbour.id();
    // The kernel wakes the parent of a new program before it has set up the place of its environment.
    let there = || fs::read(format!("/proc/{pid}/environ")).unwrap().windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    assert!(common::until(5.0, there), "the neighbour has a secret");
    let paths: Vec<String> = ["environ", "mem", "task/PID/environ", "task/PID/mem", "fd/0", "cwd", "root/etc/passwd", "exe"]
        .iter()
        .map(|leaf| format!("/proc/{pid}/{}", leaf.replace("PID", &pid.to_string())))
        .collect();
    for call in ["cat(p)", "open(p).read()", "grep(\"TOKEN\", p)"] {
        let (run, told) = tries(&rex, call, &paths);
        nothing_leaked(&run);
        assert!(told.iter().all(|told| !told.starts_with("ok: ")), "{call}: {told:?}");
    }
    let run = rex.run("ps()");
    nothing_leaked(&run);
    assert!(run.ends(0).stdout.contains(&pid.to_string()), "the other side: the process itself may be seen");
}

#[test]
fn fifos_sockets_and_devices_block_nobody_and_are_no_files() {
    needs_root!();
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let rex = Rex::new().policy(ALLOW_ALL).file("file", "public");
    mknodat(CWD, rex.path("fifo"), FileType::Fifo, Mode::from(0o666), 0).unwrap();
    mknodat(CWD, rex.path("zero"), FileType::CharacterDevice, Mode::from(0o666), makedev(1, 5)).unwrap();
    mknodat(CWD, rex.path("tty"), FileType::CharacterDevice, Mode::from(0o666), makedev(5, 0)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(rex.path("socket")).unwrap();
    symlink("fifo", rex.path("link")).unwrap();
    let paths: Vec<String> = ["fifo", "zero", "tty", "socket", "link"]
        .iter()
        .map(|name| rex.path(name))
        .chain(["/dev/zero".into(), "/dev/random".into()])
        .collect();
    for call in READERS.iter().filter(|call| !["stat", "ls", "find"].iter().any(|walk| call.starts_with(walk))).chain(&[
        "write(p, \"X\")",
        "write(p, \"X\", #{append: true})",
        "open(p, \"w\")",
    ]) {
        let (run, told) = tries(&rex, call, &paths);
        assert!(told.iter().all(|told| told == "not_a_file"), "{call}: {told:?}");
        assert!(run.seconds < 20.0, "{call}: {run:#?}");
    }
    // Replacing the name would be no blocking either, but it would not be what was asked.
    let (_, _) = tries(&rex, "write(p, \"X\", #{replace: true})", &paths[..4]);
    assert!(fs::symlink_metadata(rex.path("zero")).is_ok_and(|found| !found.is_file()));
    // The other side: they can be looked at.
    let (_, told) = tries(&rex, "stat(p).type", &paths[..1]);
    assert_eq!(told, ["ok: \"fifo\""]);
}

#[test]
fn walks_follow_no_link_out_and_show_nothing_that_is_forbidden() {
    let rex =
        vault(ALL_BUT_VAULT).link("open/loop", "{data}/open").file("vault/only-in-the-vault", SECRET).file("open/deep/er/leaf", "public");
    for call in [
        "find(\"{data}\")",
        "ls(\"{data}\", #{all: true, recursive: true})",
        "grep(\"s3cret\", \"{data}\", #{recursive: true})",
        "grep(\"public\", \"{data}\", #{recursive: true})",
    ] {
        let run = rex.run(&format!("{call}.to_json()"));
        nothing_leaked(&run);
        assert!(!run.ends(0).stdout.contains("only-in-the-vault"), "{call}: {run:#?}");
        assert!(run.stdout.contains("leaf") || call.contains("s3cret"), "{call}: {run:#?}");
        assert!(run.records_denial(), "{call}: a denied part of a walk is on record: {run:#?}");
    }
}

#[test]
fn a_script_imports_and_evaluates_nothing_but_itself() {
    let rex = vault(ONLY_OPEN).file("open/library.rhai", "const X = 1; export const Y = 2;").link("open/module.rhai", "{data}/vault/key");
    for script in [
        "import \"{data}/open/library\" as l; l::Y",
        "import \"{data}/open/module\" as l; l::Y",
        "import \"/etc/passwd\" as l; l::Y",
        "import \"../open/library\" as l; l::Y",
        "let name = \"{data}/open/library\"; import name as l; l::Y",
        "eval(\"40 + 2\")",
        "let f = Fn(\"eval\"); call(f, \"40 + 2\")",
        "eval_file(\"{data}/open/library.rhai\")",
    ] {
        let run = rex.run(script);
        nothing_leaked(&run);
        assert!([1, 65, 77].contains(&run.code), "{script}: {run:#?}");
        assert!(!run.stdout.contains("root:x") && !run.stderr.contains("root:x"), "{script}: {run:#?}");
    }
    rex.run("fn twice(x) { x * 2 } twice(21)").gives(42);
}

// ---- telling too much ------------------------------------------------------------------------------------------------

#[test]
fn missing_and_denied_look_alike_to_whoever_may_not_look() {
    let rex = Rex::new().policy(ONLY_OPEN).dir("open").file("vault/isthere", SECRET).dir("vault/folder1");
    let rex = rex.link("open/to-isthere", "{data}/vault/isthere").link("open/to-missing", "{data}/vault/missing");
    symlink("isthere", rex.path("vault/linked1")).unwrap();
    symlink("linked2", rex.path("vault/linked2")).unwrap(); // a loop
    let calls = [
        "cat(p)",
        "read_lines(p)",
        "open(p)",
        "head(p)",
        "tail(p)",
        "grep(\"x\", p)",
        "wc(p)",
        "ls(p)",
        "find(p)",
        "stat(p)",
        "exists(p)",
        "is_file(p)",
        "is_dir(p)",
        "realpath(p)",
        "readlink(p)",
        "write(p, \"X\")",
        "write(p, \"X\", #{create_new: true})",
        "write(p, \"X\", #{append: true})",
    ];
    for (there, missing) in [
        ("vault/isthere", "vault/missing"),
        ("vault/folder1", "vault/missing"),
        ("vault/isthere/x", "vault/missing/x"),
        ("vault/isthere/", "vault/missing/"),
        ("vault/linked1", "vault/missing"),
        ("vault/linked2", "vault/missing"),
        ("vault/linked2/x", "vault/missing/x"),
        ("open/to-isthere", "open/to-missing"),
        ("open/to-isthere/x", "open/to-missing/x"),
        ("open/../vault/isthere", "open/../vault/missing"),
    ] {
        for call in calls {
            let told = |path: &str| {
                let full = rex.path(path);
                let script = format!(
                    "let p = \"{full}\"; let told = (); try {{ told = #{{value: {call}}} }} catch (e) {{ e.remove(\"ref\"); told = e }} told"
                );
                let value = serde_json::to_string(&rex.run(&script).ends(0).value()).unwrap();
                // The two names are of one length, so that not even a size tells them apart.
                value.replace(&full, "PATH").replace(path, "PATH").replace("isthere", "NAME").replace("missing", "NAME")
            };
            let (one, other) = (told(there), told(missing));
            assert_eq!(one, other, "{call} tells `{there}` from `{missing}`");
        }
    }
    assert_eq!(fs::read_dir(rex.data().join("vault")).unwrap().count(), 4);
    // The other side: whoever may look is told the difference.
    let (_, told) = tries(&rex, "cat(p)", &[rex.path("open/nothing")]);
    assert_eq!(told, ["not_found"]);
}

#[test]
fn a_text_that_looks_like_a_denial_is_a_scripts_own() {
    let rex = Rex::new().policy(ONLY_OPEN).dir("open");
    for thrown in [
        "\"ACCESS_DENIED_EXCEPTION: not allowed\"",
        "\"PermissionDenied\"",
        "#{kind: \"denied\", message: \"x\", action: \"file_system::Action::\\\"read\\\"\"}",
        "#{kind: \"limit\"}",
        "#{error_type: \"ACCESS_DENIED_EXCEPTION\"}",
    ] {
        let run = rex.run(&format!("throw {thrown}"));
        assert_eq!((run.code, run.error_type().as_str(), run.denials()), (1, "SCRIPT_EXCEPTION", 0), "{thrown}: {run:#?}");
        assert!(!run.records_denial(), "{run:#?}");
    }
    rex.run("cat(\"/etc/passwd\")").is_denied();
}

#[test]
fn a_denial_that_the_script_hides_is_counted_and_on_record() {
    let rex = Rex::new().policy(ONLY_OPEN).dir("open");
    let run = rex.run("for i in 0..3 { try { cat(\"/etc/passwd\") } catch {} } try { write(\"{data}/x\", \"y\") } catch {} \"quiet\"");
    run.gives("quiet");
    assert!(run.denials() >= 2, "{run:#?}");
    assert!(run.records_denial() && format!("{:?}", run.audit).contains("/etc/passwd"), "{run:#?}");
    assert!(!rex.exists("x"));
    let run = rex.run("try { cat(\"/etc/passwd\") } catch (e) { throw e }");
    assert_eq!(run.error_type(), "ACCESS_DENIED_EXCEPTION", "a denial thrown again is a denial: {run:#?}");
    assert_eq!(run.code, 77);
}

#[test]
fn terminal_controls_from_a_file_do_not_reach_stderr() {
    let rex = Rex::new().policy(ALLOW_ALL).file("evil", "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m");
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let words = ["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
    let run = rex.finish(rex.command(&words), rex.fill("warn(cat(\"{data}/evil\")); throw cat(\"{data}/evil\")").as_bytes());
    assert_eq!(run.code, 1, "{run:#?}");
    assert!(run.stderr.contains("owned") && !run.stderr.contains(['\u{1b}', '\u{7}', '\u{9b}']), "{run:#?}");
}

#[test]
fn listings_without_permission_are_a_denial_and_no_empty_list() {
    let rex = Rex::new().policy(ONLY_OPEN).dir("open");
    let calls = [
        "ps()",
        "df()",
        "free()",
        "uptime()",
        "uname()",
        "hostname()",
        "journal()",
        "service_status(\"x.service\")",
        "service_stop(\"x.service\")",
        "ls(\"{data}\")",
        "find(\"{data}\")",
    ];
    for call in calls {
        rex.run(call).is_denied();
    }
    let rex = Rex::new().policy(ALLOW_ALL);
    for call in ["ps().len() > 0", "free() != ()", "uptime() != ()", "uname() != ()", "hostname().len() > 0", "ls(\"{data}\").len() == 0"] {
        rex.run(call).gives(true);
    }
}

// ---- the owner's files -----------------------------------------------------------------------------------------------

#[test]
fn a_policy_that_is_not_valid_to_the_letter_stops_everything_before_it_starts() {
    let deep = format!("permit(principal, action, resource) when {{ {}true{} }};", "(".repeat(20_000), ")".repeat(20_000));
    let nots = format!("permit(principal, action, resource) when {{ {}true }};", "!".repeat(20_000));
    for policy in [
        "",
        "permit(principal, action, resource)",
        "forbid(principal, action, resource) when { resource.pathh == \"/etc/passwd\" };\npermit(principal, action, resource);",
        "forbid(principal, action, resource) when { resource.path == 7 };\npermit(principal, action, resource);",
        "forbid(principal, action == file_system::Action::\"raed\", resource);\npermit(principal, action, resource);",
        "forbid(principal, action == filesystem::Action::\"read\", resource);\npermit(principal, action, resource);",
        "forbid(principal, action, resource == file_system::Fil::\"/etc/passwd\");\npermit(principal, action, resource);",
        "forbid(principal == user::\"root\", action, resource);\npermit(principal, action, resource);",
        "permit(principal == ?principal, action, resource);",
        "permit(principal, action, resource in ?resource);",
        "permit(principal, action, resource) unless { context.nonesuch };",
        deep.as_str(),
        &nots,
        "\u{0}permit(principal, action, resource);",
    ] {
        let rex = Rex::new().policy(policy);
        let run = rex.run("write(\"{data}/mark\", \"ran\")");
        let shown: String = policy.chars().take(90).collect();
        assert_eq!((run.code, rex.exists("mark")), (78, false), "{shown}: {run:#?}");
        assert_eq!(run.error_type(), "VALIDATION_EXCEPTION", "{shown}: {run:#?}");
        assert!(!run.audit.is_empty(), "{shown}: a refused policy is on record");
    }
    let rex = Rex::new().policy(ALLOW_ALL);
    assert_eq!(rex.run("write(\"{data}/mark\", \"ran\")").code, 0);
    assert_eq!(rex.read("mark"), "ran");
}

#[test]
fn files_of_the_owner_that_others_can_write_stop_a_session() {
    needs_root!();
    let account = Account::new();
    let rex = Rex::new()
        .config("identity = [\"user\"]")
        .policy(ALLOW_ALL)
        .runbook("book", "1")
        .principals("default = \"pass\"\n")
        .account(&account);
    let etc = rex.root().join("etc");
    let start = || {
        let run = rex.session(Some(&account), &[], Some("rex"), "write(\"{data}/mark\", \"ran\")");
        let ran = rex.exists("mark");
        let _ = fs::remove_file(rex.path("mark"));
        (run.code, ran)
    };
    assert_eq!(start(), (0, true), "as it should be");
    for (path, right) in [("rex.toml", 0o644), ("principals.toml", 0o644), ("policies/test.cedar", 0o644), ("policies", 0o755), ("", 0o755)]
    {
        let file = etc.join(path);
        for wrong in [right | 0o020, right | 0o002, right | 0o222] {
            fs::set_permissions(&file, fs::Permissions::from_mode(wrong)).unwrap();
            assert_eq!(start(), (78, false), "`{path}` with mode {wrong:o}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(right)).unwrap();
        std::os::unix::fs::chown(&file, Some(account.uid), None).unwrap();
        assert_eq!(start(), (78, false), "`{path}` belongs to the caller");
        std::os::unix::fs::chown(&file, Some(0), None).unwrap();
        assert_eq!(start(), (0, true), "`{path}` as it should be again");
    }
    // A link to what the caller can write is no better, nor is a folder above all of it.
    fs::write(rex.path("own.cedar"), ALLOW_ALL).unwrap();
    std::os::unix::fs::chown(rex.path("own.cedar"), Some(account.uid), None).unwrap();
    symlink(rex.path("own.cedar"), etc.join("policies/more.cedar")).unwrap();
    assert_eq!(start(), (78, false), "a policy that is a link to the caller's file");
    fs::remove_file(etc.join("policies/more.cedar")).unwrap();
    fs::set_permissions(rex.root(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(start(), (78, false), "a folder above that everyone can write");
    fs::set_permissions(rex.root(), fs::Permissions::from_mode(0o755)).unwrap();
    // No policy at all, an unknown key, an unreadable file.
    fs::rename(rex.policy_file(), etc.join("aside")).unwrap();
    assert_eq!(start(), (78, false), "no policy at all");
    fs::rename(etc.join("aside"), rex.policy_file()).unwrap();
    let good = fs::read_to_string(rex.config_file()).unwrap();
    fs::write(rex.config_file(), format!("no_such_key = 1\n{good}")).unwrap();
    assert_eq!(start(), (78, false), "an unknown key");
    fs::write(rex.config_file(), &good).unwrap();
    fs::set_permissions(rex.policy_file(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(start(), (78, false), "a policy that the session cannot read");
    fs::set_permissions(rex.policy_file(), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(start(), (0, true));
}

#[test]
fn without_a_record_nothing_is_done() {
    for (case, sink) in [
        ("a full device", "/dev/full"),
        ("no such folder", "{root}/none/rex.jsonl"),
        ("a folder", "{root}/etc"),
        ("a FIFO without a reader", "{root}/fifo"),
    ] {
        let rex = Rex::new().policy(ALLOW_ALL);
        rustix::fs::mknodat(rustix::fs::CWD, rex.root().join("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600), 0)
            .unwrap();
        let config = rex.fill(&format!("[audit]\nfile = \"{sink}\"\nsyslog = false\njournald = false\n"));
        let rex = rex.whole_config(&config);
        let run = rex.run("write(\"{data}/mark\", \"ran\")");
        assert_eq!((run.code, rex.exists("mark")), (78, false), "{case}: {run:#?}");
    }
    let rex = Rex::new().policy(ALLOW_ALL);
    let run = rex.run("write(\"{data}/mark\", \"ran\")");
    assert_eq!((run.code, rex.exists("mark")), (0, true), "{run:#?}");
    assert!(format!("{:?}", run.audit).contains("/mark"), "{run:#?}");
}

#[test]
fn what_decides_the_next_login_is_closed_even_to_a_policy_that_permits_everything() {
    needs_root!();
    let account = Account::new();
    let rex = Rex::new().config("identity = [\"user\"]").policy(ALLOW_ALL).account(&account);
    account.write(".bashrc", "# mine\n");
    account.write(".ssh/id_ed25519", SECRET);
    let home = account.home.display().to_string();
    symlink(format!("{home}/.bashrc"), rex.path("to-bashrc")).unwrap();
    symlink(format!("{home}/.ssh"), rex.path("to-ssh")).unwrap();
    symlink(format!("{home}/.profile"), rex.path("to-profile")).unwrap();
    let mut paths: Vec<String> = [
        ".ssh/authorized_keys",
        ".ssh/authorized_keys2",
        ".ssh/rc",
        ".ssh/environment",
        ".ssh/config",
        ".ssh/new",
        ".pam_environment",
        ".bashrc",
        ".bash_profile",
        ".bash_login",
        ".bash_logout",
        ".profile",
        ".zshenv",
        ".zshrc",
        ".cshrc",
        ".kshrc",
        ".forward",
        ".rhosts",
        ".config/systemd/user/x.service",
        ".config/fish/config.fish",
        ".config/environment.d/x.conf",
        "./.bashrc",
        "../{name}/.bashrc",
    ]
    .iter()
    .map(|name| format!("{home}/{}", name.replace("../{name}", &format!("../rex-home-{}", account.name))))
    .collect();
    paths.extend(["to-bashrc", "to-ssh/authorized_keys", "to-profile"].map(|name| rex.path(name)));
    paths.push(format!("/var/spool/cron/crontabs/{}", account.name));
    let before = account_files(&account);
    for options in ["#{}", "#{append: true}", "#{replace: true}", "#{create_new: true}"] {
        for path in &paths {
            let run = rex.session(Some(&account), &[], Some("rex -o json"), &format!("write(\"{path}\", \"evil\", {options})"));
            assert_ne!(run.code, 0, "{path} {options}: {run:#?}");
            assert!(run.code == 77 || run.code == 1, "{path} {options}: {run:#?}");
        }
        assert_eq!(account_files(&account), before, "{options}");
    }
    for path in [format!("{home}/.ssh/id_ed25519"), rex.path("to-ssh/id_ed25519")] {
        let run = rex.session(Some(&account), &[], Some("rex -o json"), &format!("cat(\"{path}\")"));
        nothing_leaked(&run);
        run.is_denied();
    }
    // The other side: another file of the same home is the policy's business, and that permits everything.
    let run = rex.session(Some(&account), &[], Some("rex -o json"), &format!("write(\"{home}/notes\", \"mine\")"));
    assert_eq!((run.code, fs::read_to_string(account.home.join("notes")).unwrap().as_str()), (0, "mine"), "{run:#?}");
}

/// Names and contents below the home, sorted.
fn account_files(account: &Account) -> Vec<(String, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![account.home.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap_or_default()));
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn rexs_own_files_are_closed_to_writing_even_to_a_policy_that_permits_everything() {
    let rex = Rex::new().policy(ALLOW_ALL).runbook("book", "1").principals("default = \"pass\"\n");
    rex.run("1").ends(0);
    let snapshot = || -> Vec<(String, Vec<u8>)> {
        ["etc/rex.toml", "etc/principals.toml", "etc/policies/test.cedar", "etc/scripts/book.rhai"]
            .iter()
            .map(|name| ((*name).to_owned(), fs::read(rex.root().join(name)).unwrap()))
            .collect()
    };
    let before = snapshot();
    symlink(rex.root().join("etc/policies"), rex.path("link")).unwrap();
    let targets = [
        "{root}/etc/rex.toml",
        "{root}/etc/principals.toml",
        "{root}/etc/policies/test.cedar",
        "{root}/etc/policies/more.cedar",
        "{root}/etc/scripts/book.rhai",
        "{root}/etc/scripts/new.rhai",
        "{root}/audit/rex.jsonl",
        "{root}/rex",
        "{data}/link/test.cedar",
        "{data}/link/more.cedar",
        "{data}/../etc/policies/more.cedar",
    ];
    for target in targets {
        for options in ["#{}", "#{append: true}", "#{replace: true}"] {
            let run = rex.run(&format!("write(\"{target}\", \"permit(principal, action, resource);\", {options})"));
            assert_eq!(run.code, 77, "{target} {options}: {run:#?}");
        }
    }
    assert_eq!(snapshot(), before);
    assert!(!rex.root().join("etc/policies/more.cedar").exists() && !rex.root().join("etc/scripts/new.rhai").exists());
    assert_eq!(rex.run("write(\"{data}/mark\", \"ran\")").code, 0);
}

// ---- the rest -------------------------------------------------------------------------------------------------------

#[test]
fn appending_keeps_what_cannot_be_read_as_text() {
    let rex = Rex::new().policy(ALLOW_ALL);
    fs::write(rex.path("bytes"), b"\xff\xfe\x00binary").unwrap();
    rex.run("write(\"{data}/bytes\", \"+\", #{append: true})").ends(0);
    assert_eq!(fs::read(rex.path("bytes")).unwrap(), b"\xff\xfe\x00binary+");
}

#[test]
fn the_owners_environment_is_not_the_scripts_either() {
    let rex = vault(ONLY_OPEN);
    let all = rex.root().join("all.cedar");
    fs::write(&all, ALLOW_ALL).unwrap();
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let words = ["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"];
    for (name, value) in [
        ("REX_POLICY", all.to_str().unwrap()),
        ("REX_PRINCIPAL", "root"),
        ("USER", "root"),
        ("RUST_LOG", "trace"),
        ("RUST_BACKTRACE", "full"),
        ("LC_ALL", "../../x"),
    ] {
        let mut command = rex.command(&words);
        command.env(name, value);
        let run = rex.finish(command, rex.fill("cat(\"{data}/secret\")").as_bytes());
        nothing_leaked(&run);
        assert_eq!((run.code, run.error_type().as_str()), (77, "ACCESS_DENIED_EXCEPTION"), "{name}: {run:#?}");
        assert_eq!(run.json()["value"], Value::Null, "{name}");
    }
}
