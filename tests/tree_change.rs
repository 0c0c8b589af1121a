//! Making, moving and removing through the binary: the faults of the reference by name, races, other filesystems, and very deep and wide trees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Account, Rex};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn forbidding(verb: &str, noun: &str, name: &str) -> String {
    format!(
        "{ALLOW_ALL} forbid(principal, action == file_system::Action::\"{verb}\", resource == file_system::{noun}::\"{{data}}/{name}\");"
    )
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A folder on another filesystem than the host's, or nothing where there is none.
fn elsewhere(rex: &Rex) -> Option<tempfile::TempDir> {
    let other = tempfile::tempdir_in("/dev/shm").ok()?;
    let differs = fs::metadata(other.path()).unwrap().dev() != fs::metadata(rex.data()).unwrap().dev();
    if !differs {
        eprintln!("skipped: /dev/shm is on the same filesystem as the test's folder");
    }
    differs.then_some(other)
}

#[test]
fn a11_and_a12_every_level_of_mkdir_is_judged_where_it_really_is() {
    let rex = Rex::new().policy(&forbidding("create", "Dir", "shut/a/b")).dir("shut").link("way", "shut");
    let run = rex.run("mkdir(\"{data}/way/a/b/c\", #{parents: true})");
    run.is_denied();
    assert!(names(&rex.data().join("shut")).is_empty());
    rex.run("mkdir(\"{data}/way/x/y\", #{parents: true}).changed").gives(true);
    assert!(rex.exists("shut/x/y"));
}

#[test]
fn a16_whoever_may_do_nothing_learns_nothing() {
    let rex = Rex::new()
        .policy("permit(principal, action, resource == file_system::File::\"/nowhere\");")
        .dir("there")
        .file("qfile", "")
        .file("other", "");
    for call in [
        "mkdir(p)",
        "mkdir([mkdir::parents], p)",
        "rmdir(p)",
        "rm(p)",
        "rm([rm::force, rm::recursive], p)",
        "mv(p, \"{data}/new\")",
        "mv(\"{data}/other\", p)",
        "ln(p, \"{data}/new\")",
        "ln(\"x\", p, #{symbolic: true})",
        "mktemp(#{dir: p})",
    ] {
        let told: Vec<String> = ["there", "qfile", "never"]
            .iter()
            .map(|name| {
                let script = format!(
                    "let p = \"{{data}}/{name}\"; let told = 0; try {{ {call} }} catch (e) {{ e.remove(\"ref\"); told = e; }} to_json(told)"
                );
                let told = rex.run(&script).ends(0).value().as_str().unwrap().replace(name, "NAME");
                // The end of a temporary name is chance.
                told.split("/tmp.").next().unwrap().to_owned()
            })
            .collect();
        assert!(told[0].contains("denied"), "{call}: {told:?}");
        assert!(told.iter().all(|one| *one == told[0]), "{call}: {told:?}");
    }
}

#[test]
fn a15_a_forbidden_file_deep_in_a_tree_keeps_the_tree_and_keep_going_the_rest() {
    let rex = Rex::new().policy(&forbidding("delete", "File", "t/a/b/keep")).file("t/a/b/keep", "x").file("t/a/c", "").file("t/d/e", "");
    rex.run("rm(\"{data}/t\", #{recursive: true})").is_denied();
    assert!(rex.exists("t/a/c") && rex.exists("t/d/e"));
    let run = rex.run("let r = rm(\"{data}/t\", #{recursive: true, keep_going: true}); [r.removed, r.refused.map(|x| [x.path, x.kind])]");
    run.gives(json!([3, [[rex.path("t/a/b/keep"), "denied"]]]));
    assert_eq!(names(&rex.data().join("t")), ["a"]);
    assert_eq!(run.denials(), 1);
    let effects: Vec<_> = run.events("effect").iter().map(|record| record["detail"].clone()).collect();
    assert_eq!(effects, ["3 names removed"], "{run:#?}");
}

#[test]
fn a17_a_file_is_not_destroyed_by_a_move_with_create_alone() {
    for verb in ["delete", "write"] {
        let rex = Rex::new().policy(&forbidding(verb, "File", "old")).file("new", "new").file("old", "old");
        rex.run("mv(\"{data}/new\", \"{data}/old\", #{force: true})").is_denied();
        let run = rex.run("mv([mv::verbose], \"{data}/new\", \"{data}/old\")");
        assert_eq!(run.ends(1).json()["error"]["kind"], "exists", "{run:#?}");
        assert_eq!((rex.read("new"), rex.read("old")), ("new".to_owned(), "old".to_owned()));
    }
}

#[test]
fn b5_and_b10_a_backup_is_kept_and_a_move_that_happened_is_no_error() {
    let rex = Rex::new().policy(ALLOW_ALL).file("new", "new").file("old", "old");
    let run = rex.run("let m = mv([mv::backup, mv::verbose], \"{data}/new\", \"{data}/old\"); [m.changed, m.replaced, m.copied, m.backup]");
    run.gives(json!([true, true, false, rex.path("old~")]));
    assert_eq!((rex.read("old"), rex.read("old~")), ("new".to_owned(), "old".to_owned()));
    assert!(run.json()["logs"].to_string().contains("-> "), "{run:#?}");
    // Whether the thing may be looked at where it is now is asked before the deed or not at all.
    let both = forbidding("stat", "File", "b") + &forbidding("read", "File", "b");
    let rex = Rex::new().policy(&both).file("a", "x");
    rex.run("mv(\"{data}/a\", \"{data}/b\").changed").gives(true);
    let rex = Rex::new().policy(&forbidding("open", "File", "b")).file("a", "x");
    rex.run("mv(\"{data}/a\", \"{data}/b\")").is_denied();
    assert!(rex.exists("a") && !rex.exists("b"));
}

#[test]
fn b7_c3_and_d17_links_and_fifos_are_removed_themselves() {
    let rex = Rex::new().policy(ALLOW_ALL).file("target/file", "x").link("to-dir", "target").link("dangling", "gone");
    assert!(Command::new("mkfifo").arg(rex.data().join("pipe")).status().unwrap().success());
    rex.run("[rm(\"{data}/to-dir\").removed, rm([rm::recursive], \"{data}/dangling\").removed, rm(\"{data}/pipe\").removed]")
        .gives(json!([1, 1, 1]));
    rex.run("rm([rm::force], \"{data}/gone\").changed").gives(false);
    assert_eq!(names(&rex.data()), ["target"]);
    assert_eq!(rex.read("target/file"), "x");
}

#[test]
fn d9_a_removal_of_which_all_is_denied_is_no_success() {
    let rex = Rex::new().policy(&forbidding("delete", "File", "t/a")).file("t/a", "");
    rex.run("rm(\"{data}/t\", #{recursive: true})").is_denied();
    let run = rex.run("let r = rm(\"{data}/t\", #{recursive: true, keep_going: true}); [r.changed, r.refused_count]");
    run.gives(json!([false, 1]));
}

#[test]
fn d20_a_directory_is_moved_as_what_it_was_judged_to_be() {
    let rex = Rex::new().policy(&forbidding("move", "File", "work/secret")).file("work/a", "").file("decoy/secret", "");
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, data) = (Arc::clone(&stop), rex.data());
    let swapper = std::thread::spawn(move || {
        while !flag.load(Ordering::Relaxed) {
            for (from, to) in [("work", "w"), ("decoy", "work"), ("work", "decoy"), ("w", "work")] {
                let _ = fs::rename(data.join(from), data.join(to));
            }
        }
    });
    rex.run(
        r#"mkdir("{data}/out");
           for i in 0..400 {
               try { mv("{data}/work", "{data}/out/x"); } catch (e) {}
               try { mv("{data}/out/x", "{data}/work"); } catch (e) {}
           }"#,
    )
    .ends(0);
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    let out = rex.data().join("out");
    assert!(!out.join("x/secret").exists(), "{:?}", names(&out));
}

#[test]
fn a_directory_that_becomes_a_link_while_it_is_removed_leads_nowhere() {
    let mut rex = Rex::new().policy(ALLOW_ALL);
    for number in 0..200 {
        rex = rex.file(&format!("outside/precious{number}"), "");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, data) = (Arc::clone(&stop), rex.data());
    let swapper = std::thread::spawn(move || {
        while !flag.load(Ordering::Relaxed) {
            let _ = fs::rename(data.join("t/a"), data.join("hidden"));
            let _ = symlink(data.join("outside"), data.join("t/a"));
            let _ = fs::remove_file(data.join("t/a"));
            let _ = fs::rename(data.join("hidden"), data.join("t/a"));
        }
    });
    for _ in 0..20 {
        let _ = fs::create_dir_all(rex.data().join("t/a"));
        for number in 0..200 {
            let _ = fs::write(rex.data().join(format!("t/a/precious{number}")), "");
        }
        let run = rex.run("try { rm(\"{data}/t\", #{recursive: true}) } catch (e) { e.kind }");
        run.ends(0);
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!(names(&rex.data().join("outside")).len(), 200);
}

#[test]
fn a_tree_a_thousand_deep_is_moved_and_removed_with_few_descriptors() {
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\nopen_files = 128\n");
    let mut deep = PathBuf::from("deep");
    for _ in 0..999 {
        deep.push("d");
    }
    fs::create_dir_all(rex.data().join(&deep)).unwrap();
    let run = rex.run("let d = \"{data}/deep\"; let m = mv(d, \"{data}/moved\"); rm(\"{data}/moved\", #{recursive: true}).removed");
    run.gives(1000);
    assert!(names(&rex.data()).is_empty());
}

#[test]
fn a_tree_of_a_hundred_thousand_names_is_removed() {
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\nopen_files = 128\n");
    for number in 0..100_000 {
        let folder = rex.data().join(format!("wide/{}", number % 10));
        if number < 10 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::File::create(folder.join(number.to_string())).unwrap();
    }
    let run = rex.run("rm(\"{data}/wide\", #{recursive: true}).removed");
    run.gives(100_011);
    eprintln!("100,011 names removed in {:.2} s", run.seconds);
    assert!(names(&rex.data()).is_empty());
}

// --- another filesystem ---

#[test]
fn b6_a_file_moved_to_another_filesystem_keeps_what_a_rename_keeps() {
    let rex = Rex::new().policy(ALLOW_ALL).file("a", "contents");
    let Some(other) = elsewhere(&rex) else { return };
    let from = rex.data().join("a");
    fs::set_permissions(&from, fs::Permissions::from_mode(0o600)).unwrap();
    if common::is_root() {
        std::os::unix::fs::chown(&from, Some(12345), Some(23456)).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o4751)).unwrap();
    }
    let attribute = rustix::fs::setxattr(&from, "user.note", b"kept", rustix::fs::XattrFlags::empty()).is_ok();
    let file = fs::File::options().write(true).open(&from).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789)).unwrap();
    drop(file);
    let before = fs::metadata(&from).unwrap();
    let to = other.path().join("b");
    let run = rex.run(&format!("mv(\"{{data}}/a\", \"{}\").copied", to.display()));
    run.gives(true);
    let after = fs::metadata(&to).unwrap();
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert_eq!((after.mtime(), after.mtime_nsec()), (before.mtime(), before.mtime_nsec()));
    let mut value = [0u8; 16];
    match rustix::fs::getxattr(&to, "user.note", &mut value) {
        Ok(length) => assert_eq!(&value[..length], b"kept"),
        Err(error) => assert!(!attribute, "{error}"),
    }
    assert_eq!(fs::read_to_string(&to).unwrap(), "contents");
    assert!(!rex.exists("a") && names(other.path()) == ["b"]);
}

#[test]
fn a25_and_b1_a_tree_moved_to_another_filesystem_is_judged_whole_and_lost_never() {
    let rex = Rex::new().policy(ALLOW_ALL).file("t/a/x", "x").file("t/b/y", "y").dir("t/empty").link("t/l", "a/x");
    let Some(other) = elsewhere(&rex) else { return };
    let to = other.path().join("t");
    fs::hard_link(rex.data().join("t/a/x"), rex.data().join("t/b/x2")).unwrap();
    fs::set_permissions(rex.data().join("t/a"), fs::Permissions::from_mode(0o2750)).unwrap();
    let script = format!("mv(\"{{data}}/t\", \"{}\").copied", to.display());
    // Something that cannot be made there: found before anything happens.
    assert!(Command::new("mkfifo").arg(rex.data().join("t/b/pipe")).status().unwrap().success());
    let run = rex.run(&script);
    assert_eq!(run.ends(69).json()["error"]["kind"], "unsupported", "{run:#?}");
    assert!(names(other.path()).is_empty() && rex.read("t/a/x") == "x" && rex.read("t/b/y") == "y");
    fs::remove_file(rex.data().join("t/b/pipe")).unwrap();
    // One place below that may not be made.
    let forbid = format!(
        "{ALLOW_ALL} forbid(principal, action == file_system::Action::\"create\", resource == file_system::Dir::\"{}/a\");",
        to.display()
    );
    let rex = rex.policy(&forbid);
    rex.run(&script).is_denied();
    assert!(names(other.path()).is_empty() && rex.read("t/a/x") == "x");
    let rex = rex.policy(ALLOW_ALL);
    rex.run(&script).gives(true);
    assert!(!rex.exists("t") && names(other.path()) == ["t"]);
    assert_eq!(names(&to), ["a", "b", "empty", "l"]);
    assert_eq!(fs::read_to_string(to.join("l")).unwrap(), "x");
    assert_eq!(fs::metadata(to.join("a")).unwrap().mode() & 0o7777, 0o2750);
    assert_eq!(fs::metadata(to.join("a/x")).unwrap().ino(), fs::metadata(to.join("b/x2")).unwrap().ino());
}

#[test]
fn a_deep_tree_a_large_sparse_file_and_a_backup_cross_to_another_filesystem() {
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\nopen_files = 128\n").file("new", "new");
    let Some(other) = elsewhere(&rex) else { return };
    let to = other.path().display().to_string();
    let mut deep = rex.data().join("deep");
    for _ in 0..300 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "b").unwrap();
    let sparse = fs::File::create(rex.data().join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (64 << 20) - 3).unwrap();
    drop(sparse);
    rex.run(&format!("mv(\"{{data}}/deep\", \"{to}\").path")).gives(format!("{to}/deep"));
    assert!(!rex.exists("deep"));
    let mut below = other.path().join("deep");
    for _ in 0..300 {
        below.push("d");
    }
    assert_eq!(fs::read_to_string(below.join("bottom")).unwrap(), "b");
    rex.run(&format!("mv(\"{{data}}/sparse\", \"{to}\").copied")).gives(true);
    let meta = fs::metadata(other.path().join("sparse")).unwrap();
    assert_eq!(meta.len(), 64 << 20);
    assert!(meta.blocks() * 512 < 8 << 20, "{}", meta.blocks());
    fs::write(other.path().join("old"), "old").unwrap();
    rex.run(&format!("mv(\"{{data}}/new\", \"{to}/old\", #{{backup: true}}).backup")).gives(format!("{to}/old~"));
    assert_eq!(fs::read_to_string(other.path().join("old")).unwrap(), "new");
    assert_eq!(fs::read_to_string(other.path().join("old~")).unwrap(), "old");
    assert_eq!(names(other.path()), ["deep", "old", "old~", "sparse"]);
}

#[test]
fn a_full_filesystem_stops_a_move_and_leaves_both_sides_as_they_were() {
    needs_namespaces!();
    let rex = Rex::new().policy(ALLOW_ALL).file("t/small", "s").dir("full");
    fs::write(rex.data().join("t/zlarge"), vec![7u8; 3 << 20]).unwrap();
    let run = inside_mounts(
        &rex,
        "mount -t tmpfs -o size=1m none $DATA/full",
        r#"let k = ""; try { mv("{data}/t", "{data}/full"); } catch (e) { k = e.kind; } [k, ls("{data}/full", #{all: true}).len(), ls("{data}/t").len()]"#,
    );
    run.gives(json!(["no_space", 0, 2]));
}

/// Runs a script with mounts of its own.
fn inside_mounts(rex: &Rex, mounts: &str, script: &str) -> common::Run {
    let shell = format!("{mounts} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &shell, "sh"]).arg(rex.program()).args(["run", "-", "-o", "json", "--config"]);
    command.arg(rex.config_file()).arg("--policy").arg(rex.policy_file()).env("DATA", rex.data());
    rex.finish(command, rex.fill(script).as_bytes())
}

#[test]
fn what_is_mounted_in_a_tree_is_busy_and_one_file_system_leaves_it_alone() {
    needs_namespaces!();
    for (make, path) in [
        ("mount -t tmpfs none $DATA/t/m && touch $DATA/t/m/inside", "t/m"),
        ("mount --bind $DATA/other $DATA/t/m", "t/m"),
        ("mount --bind $DATA/other/x $DATA/t/file", "t/file"),
    ] {
        let rex = Rex::new().policy(ALLOW_ALL).dir("t/m").file("t/file", "").file("t/a/b", "").file("other/x", "x");
        let script = r#"let told = [];
            for act in [|| rm("{data}/t", #{recursive: true}), || rm("{data}/t/m", #{recursive: true, one_file_system: true}), || mv("{data}/t", "{data}/u")] {
                try { act.call(); told.push("done"); } catch (e) { told.push(e.kind); }
            }
            let before = exists("{data}/t/a/b");
            let r = rm("{data}/t", #{recursive: true, one_file_system: true});
            [told, before, r.refused.map(|x| x.path), exists("{data}/t/a/b")]"#;
        let run = inside_mounts(&rex, make, script);
        let second = if path == "t/m" { "busy" } else { "done" };
        run.gives(json!([["busy", second, "busy"], true, [rex.path(path)], false]));
        assert_eq!(rex.read("other/x"), "x");
    }
}

#[test]
fn a_filesystem_that_is_read_only_says_so() {
    needs_namespaces!();
    let rex = Rex::new().policy(ALLOW_ALL).file("ro/file", "x").dir("ro/d").file("free", "");
    let script = r#"let told = [];
        for act in [|| rm("{data}/ro/file"), || rmdir("{data}/ro/d"), || mkdir("{data}/ro/n"), || mv("{data}/ro/file", "{data}/ro/g"),
                     || mv("{data}/free", "{data}/ro/free"), || ln("x", "{data}/ro/l", #{symbolic: true}), || mktemp(#{dir: "{data}/ro"})] {
            try { act.call(); told.push("done"); } catch (e) { told.push(e.kind); }
        }
        told"#;
    let run = inside_mounts(&rex, "mount --bind $DATA/ro $DATA/ro && mount -o remount,bind,ro $DATA/ro", script);
    run.gives(json!(vec!["read_only"; 7]));
    assert!(rex.exists("free") && rex.exists("ro/file"));
}

#[test]
fn what_the_operating_system_refuses_is_told_with_what_was_done_before() {
    needs_root!();
    let rex = Rex::new().policy(ALLOW_ALL).file("t/a", "").file("t/b/fixed", "");
    let fixed = rex.data().join("t/b/fixed");
    if !Command::new("chattr").arg("+i").arg(&fixed).stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: this filesystem has no immutable files, or chattr is missing");
        return;
    }
    let run = rex.run("rm(\"{data}/t\", #{recursive: true})");
    let going = rex.run("rm(\"{data}/t\", #{recursive: true, keep_going: true}).refused.map(|x| x.kind)");
    assert!(Command::new("chattr").arg("-i").arg(&fixed).status().unwrap().success());
    assert_eq!(run.ends(1).json()["error"]["kind"], "permission", "{run:#?}");
    assert!(run.json()["error"]["message"].as_str().unwrap().contains("1 name removed"), "{run:#?}");
    going.gives(json!(["permission"]));
}

#[test]
fn an_account_that_cannot_keep_what_belongs_to_a_file_moves_nothing_elsewhere() {
    needs_root!();
    let account = Account::new();
    let rex = Rex::new().config("identity = [\"user\"]").policy(ALLOW_ALL).file("foreign", "x").file("t/closed", "x").file("t/own", "x");
    let rex = rex.file("fixed/file", "x").dir("mine").account(&account);
    let Some(other) = elsewhere(&rex) else { return };
    fs::set_permissions(other.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    for name in ["t", "t/own", "mine"] {
        std::os::unix::fs::chown(rex.data().join(name), Some(account.uid), Some(account.gid)).unwrap();
    }
    fs::set_permissions(rex.data().join("t/closed"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(other.path().join("sticky"), "").unwrap();
    let to = other.path().display();
    let script = format!(
        r#"let told = [];
        for act in [|| mv("{{data}}/foreign", "{to}"), || mv("{{data}}/t", "{to}"), || mv("{{data}}/fixed/file", "{to}"), || mv("{{data}}/fixed", "{to}"),
                    || rm("{{data}}/fixed/file"), || rm("{to}/sticky"), || mkdir("{{data}}/fixed/d"), || mv("{{data}}/mine", "{to}/moved")] {{
            try {{ act.call(); told.push("done"); }} catch (e) {{ told.push(e.kind); }}
        }}
        to_json(told)"#
    );
    let run = rex.session(Some(&account), &[], Some("rex run -o json"), &script);
    let told: serde_json::Value = serde_json::from_str(run.ends(0).value().as_str().unwrap()).unwrap();
    let mut expected = vec!["permission"; 7];
    expected.push("done");
    assert_eq!(told, json!(expected), "{run:#?}");
    assert_eq!(names(other.path()), ["moved", "sticky"]);
    assert_eq!(names(&rex.data()), ["fixed", "foreign", "t"]);
    assert_eq!(names(&rex.data().join("t")), ["closed", "own"]);
    assert_eq!(fs::metadata(other.path().join("moved")).unwrap().uid(), account.uid);
}
