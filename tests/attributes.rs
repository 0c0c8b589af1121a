//! Copies, modes, owners and attributes through the binary: what the policy is told, what is left of a failure, what a race can reach.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Rex};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const NEVER_SETUID: &str = r#"permit(principal, action, resource);
@hint("programs here run with their caller's rights")
forbid(principal, action == file_system::Action::"chmod", resource) when { context.set_uid || context.set_gid };"#;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(rex: &Rex, name: &str, bits: u32) {
    fs::set_permissions(rex.data().join(name), fs::Permissions::from_mode(bits)).unwrap();
}

#[test]
fn never_set_user_id_holds_for_every_way_to_it() {
    let rex = Rex::new().policy(NEVER_SETUID).file("tool", "#!/bin/sh\n").file("tree/tool", "#!/bin/sh\n");
    set_mode(&rex, "tree/tool", 0o4755);
    for call in [
        r#"chmod("{data}/tool", 0o4755)"#,
        r#"chmod("{data}/tool", "u+s")"#,
        r#"chmod("{data}/tool", "2755")"#,
        r#"chmod("{data}", "g+s")"#,
        r#"chmod("{data}", "u+s", #{recursive: true})"#,
        r#"cp("{data}/tree/tool", "{data}/copy", #{preserve: true})"#,
        r#"cp([cp::preserve], "{data}/tree/tool", "{data}/copy")"#,
        r#"cp("{data}/tree/tool", "{data}/tool", #{preserve: ["mode"], force: true})"#,
        r#"cp("{data}/tree", "{data}/copy", #{recursive: true, preserve: true})"#,
        r#"let b = blob(20); xattr_set("{data}/tool", "security.capability", b)"#,
    ] {
        let run = rex.run(call);
        assert_eq!(run.is_denied().json()["error"]["action"], "file_system::Action::\"chmod\"", "{call}");
        assert!(run.stdout.contains("programs here run with"), "{call}: {run:#?}");
        assert_eq!((mode(&rex.data().join("tool")) & 0o7000, rex.exists("copy")), (0, false), "{call}");
    }
    // The other side.
    rex.run(r#"chmod("{data}/tool", "u+x"); cp("{data}/tree/tool", "{data}/copy"); stat("{data}/copy").mode == 0o755"#).gives(true);
    assert_eq!(mode(&rex.data().join("copy")), 0o755);
}

/// Fault D13 of the reference: what it tells as permissions cannot be set again.
#[test]
fn the_mode_that_stat_gives_can_be_set_again() {
    let rex = Rex::new().policy(ALLOW_ALL).file("a", "x").file("b", "x");
    for bits in [0o640, 0o4755, 0o1777, 0o2710] {
        set_mode(&rex, "a", bits);
        rex.run(r#"chmod("{data}/b", stat("{data}/a").mode).after == stat("{data}/a").mode"#).gives(true);
        assert_eq!(mode(&rex.data().join("b")), bits);
    }
    // An int that is octal without its prefix is a mistake, and is told as one.
    let run = rex.run(r#"chmod("{data}/b", 644)"#);
    run.ends(1);
    assert!(run.stdout.contains("0o644"), "{run:#?}");
}

#[test]
fn a_policy_sees_the_owner_that_is_wanted() {
    needs_root!();
    let policy = r#"permit(principal, action == file_system::Action::"chown", resource in file_system::Dir::"{data}")
                    when { context.uid == 65534 && context.gid == 0 };
                    permit(principal, action in [file_system::Action::"view"], resource in file_system::Dir::"{data}");"#;
    let rex = Rex::new().policy(policy).file("f", "x").file("t/a", "x").file("t/b", "x");
    rex.run(r#"chown("{data}/f", 0)"#).is_denied();
    rex.run(r#"chown("{data}/f", "65534:65534")"#).is_denied();
    rex.run(r#"chown("{data}/t", "1", #{recursive: true})"#).is_denied();
    assert_eq!(fs::metadata(rex.data().join("f")).unwrap().uid(), 0);
    rex.run(r#"chown("{data}/f", 65534).uid"#).gives(65534);
    rex.run(r#"chown("{data}/t", #{user: 65534, recursive: true}).count"#).gives(3);
}

/// Fault B8 of the reference: whoever replaces a file loses its access list and attributes.
#[test]
fn a_file_that_is_copied_over_keeps_its_owner_bits_and_attributes() {
    let rex = Rex::new().policy(ALLOW_ALL).file("new", "new\n").file("old", "old contents\n");
    set_mode(&rex, "old", 0o640);
    let script = r#"let p = "{data}/old";
        xattr_set(p, "user.note", "kept");
        xattr_set(p, "system.posix_acl_access", "u::rw-,u:4242:r--,g::r--,m::r--,o::---");
        let before = acl_get(p).text;
        let c = cp("{data}/new", p, #{force: true});
        [cat(p), c.changed, xattr_get(p, "user.note"), acl_get(p).text == before, stat(p).mode == 0o640]"#;
    let run = rex.run(script);
    if run.code == 69 {
        eprintln!("skipped: no access lists on this filesystem");
        return;
    }
    run.gives(serde_json::json!(["new\n", true, "kept", true, true]));
}

#[test]
fn a_tree_with_one_denied_file_leaves_nothing_and_says_so_on_record() {
    let policy = r#"permit(principal, action, resource);
                    forbid(principal, action == file_system::Action::"read", resource == file_system::File::"{data}/from/sub/key");"#;
    let rex = Rex::new().policy(policy).file("from/a", "a").file("from/sub/key", "s3cret").file("from/sub/b", "b");
    rex.run(r#"cp("{data}/from", "{data}/to", #{recursive: true})"#).is_denied();
    assert!(!rex.exists("to"));
    let run = rex.run(
        r#"let c = cp("{data}/from", "{data}/to", #{recursive: true, keep_going: true}); [c.files, c.refused_count, c.refused[0].kind]"#,
    );
    run.gives(serde_json::json!([2, 1, "denied"]));
    assert_eq!((run.denials(), rex.exists("to/sub/key"), rex.read("to/sub/b")), (1, false, "b".to_owned()));
    // A repeat: into the folder that is there now, unless it is meant itself.
    rex.run(r#"cp("{data}/from/sub/b", "{data}/to/sub").changed"#).gives(false);
}

#[test]
fn a_disk_that_is_full_keeps_what_was_there_and_no_part_of_what_was_not() {
    needs_namespaces!();
    let rex = Rex::new().policy(ALLOW_ALL).dir("small").dir("tree/sub");
    fs::write(rex.data().join("big"), vec![b'x'; 8 << 20]).unwrap();
    fs::write(rex.data().join("tree/sub/big"), vec![b'x'; 8 << 20]).unwrap();
    fs::write(rex.data().join("tree/a"), "a").unwrap();
    let script = r#"let told = [];
        write("{data}/small/old", "old");
        for way in [
            || cp("{data}/big", "{data}/small/new"),
            || cp("{data}/big", "{data}/small/old", #{force: true}),
            || fallocate("{data}/small/old", #{length: 1 << 30}),
            || cp("{data}/tree", "{data}/small/tree", #{recursive: true}),
        ] {
            try { way.call(); told.push("done"); } catch (e) { told.push(e.kind); }
        }
        [told, cat("{data}/small/old"), ls("{data}/small", #{recursive: true, all: true}).map(|e| e.name)]"#;
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let mut command = Command::new("unshare");
    let mount = format!("mount -t tmpfs -o size=4m none {} && exec \"$0\" \"$@\"", rex.data().join("small").display());
    command.args(["--mount", "sh", "-c", &mount]).arg(rex.program());
    command.args(["run", "-", "-o", "json", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap()]);
    let run = rex.finish(command, rex.fill(script).as_bytes());
    run.gives(serde_json::json!([["no_space", "no_space", "no_space", "no_space"], "old", ["old", "tree", "a", "sub"]]));
}

#[test]
fn a_source_that_is_swapped_for_a_link_never_brings_what_is_denied() {
    let policy = r#"permit(principal, action, resource);
                    forbid(principal, action, resource == file_system::File::"{data}/secret");"#;
    let rex = Rex::new().policy(policy).file("secret", "s3cret").file("tree/public", "public").dir("out");
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, data) = (Arc::clone(&stop), rex.data());
    let swapper = std::thread::spawn(move || {
        while !flag.load(Ordering::Relaxed) {
            std::os::unix::fs::symlink("../secret", data.join("link")).unwrap();
            fs::rename(data.join("link"), data.join("tree/public")).unwrap();
            fs::write(data.join("new"), "public").unwrap();
            fs::rename(data.join("new"), data.join("tree/public")).unwrap();
        }
    });
    let script = r#"let told = #{};
        for i in 0..300 {
            for way in [
                || cp("{data}/tree/public", "{data}/out/file", #{force: true}),
                || cp("{data}/tree", "{data}/out/tree", #{recursive: true, onto: true, force: true}),
                || chmod("{data}/tree/public", 0o644),
                || chmod("{data}/tree", "go+r", #{recursive: true}),
            ] {
                let kind = "done";
                try { way.call(); } catch (e) { kind = e.kind; }
                told[kind] = (told[kind] ?? 0) + 1;
            }
        }
        told.remove("done"); told.remove("denied"); told.remove("exists"); told.remove("changed");
        // The file that the name led to has lost it by the time it is opened, again and again.
        told.remove("not_found");
        told.keys()"#;
    let run = rex.run(script);
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!(mode(&rex.data().join("secret")), 0o644);
    for name in ["out/file", "out/tree/public"] {
        let path = rex.data().join(name);
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
            assert_eq!(fs::read_to_string(path).unwrap(), "public", "{name}");
        }
    }
    // Nothing else than these can become of it.
    run.gives(serde_json::json!([]));
}

#[test]
fn an_unprivileged_account_is_told_what_the_system_refuses() {
    needs_root!();
    let account = common::Account::new();
    let rex = Rex::new().policy(ALLOW_ALL).account(&account).file("theirs", "x").file("from/a", "x").file("from/b", "x");
    set_mode(&rex, "from/b", 0o600);
    let path = account.home.join("own");
    fs::write(&path, "x").unwrap();
    std::os::unix::fs::chown(&path, Some(account.uid), Some(account.gid)).unwrap();
    let script = format!(
        r#"let home = "{}"; let told = [];
        for way in [
            || chmod("{{data}}/theirs", 0o600),
            || chown(home + "/own", 0),
            || set_times("{{data}}/theirs", #{{mtime: 1}}),
            || cp("{{data}}/theirs", home + "/copy", #{{preserve: true}}),
            || cp("{{data}}/from", home + "/tree", #{{recursive: true}}),
        ] {{
            try {{ way.call(); told.push("done"); }} catch (e) {{ told.push(e.kind); }}
        }}
        chmod(home + "/own", "go=");
        cp("{{data}}/theirs", home + "/copy", #{{preserve: ["mode", "times"]}});
        let c = cp("{{data}}/from", home + "/tree2", #{{recursive: true, keep_going: true}});
        [told, stat(home + "/copy").uid == stat(home + "/own").uid, c.files, c.refused[0].kind, exists(home + "/tree2/b"), exists(home + "/tree")]"#,
        account.home.display()
    );
    let run = rex.session(Some(&account), &[], Some("rex -o json"), &rex.fill(&script));
    run.gives(serde_json::json!([
        ["permission", "permission", "permission", "permission", "permission"],
        true,
        1,
        "permission",
        false,
        false
    ]));
}
