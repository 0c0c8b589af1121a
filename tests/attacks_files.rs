//! Attacks through files: what hidden text tells, archives that lead out, names that change under a running script, and what goes on record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Rex};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SECRET: &str = "FORBIDDEN-CONTENT";
const ONLY_DATA: &str = r#"permit(principal, action, resource in file_system::Dir::"{data}");"#;

/// Everything under a folder with what a change would leave: mode, owner, links, times, contents.
fn state(folder: &Path) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(path) = left.pop() {
        let stat = path.symlink_metadata().unwrap();
        let contents = if stat.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let times = (stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec());
        let line = format!("{:o} {} {} {} {times:?} {contents:?}", stat.mode(), stat.uid(), stat.gid(), stat.nlink());
        if stat.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        told.insert(path.display().to_string(), line);
    }
    told
}

#[test]
fn no_function_tells_one_hidden_text_from_another() {
    let rex = Rex::new().policy(r#"permit(principal, action == file_system::Action::"redacted_read", resource);"#).dir("new");
    fs::write(rex.root().join("etc/redaction"), "user=%s\nfrom %!s port %d\n").unwrap();
    let script = r#"
        let p = "{data}/log"; let z = "{data}/log.gz"; let told = [];
        let guess = #{text: "user=anna\npassword is hunter2\n"};
        let ways = [
            || cat(p), || cat(p, #{offset: 20, length: 30}), || cat(p, #{max_bytes: 90}), || cat(p, #{lossy: true}),
            || read_lines(p), || read_lines(p, #{max_line: 12}), || read_lines(p, #{max_bytes: 60}), || head(p, #{n: 2, max_bytes: 30}),
            || tail(p, #{n: 2}), || wc(p), || grep("hunter", p, #{count: true}), || grep("hunter", p, #{invert: true, count: true}),
            || grep(".*", p, #{only_matching: true}), || grep("bert", p, #{before: 2, max_bytes: 60}), || sed("[a-z]", "x", p, #{regex: true, all: true}),
            || awk_field(3, " ", p), || awk_sum(2, " ", p), || awk_count_unique(1, " ", p), || awk_filter("hunter", p, #{invert: true}),
            || cut(p, #{bytes: "5-30"}), || sort(p, #{key: 3, numeric: true}), || sort(p, #{unique: true}), || uniq(p, #{count: true}),
            || join_lines(p, "|"), || diff(p, guess), || comm(p, guess), || column(p), || strings(p, #{min: 8}),
            || { let f = open(p, "r"); f.seek(25); read(f) }, || { let f = open(p, "r"); f.seek(-12); read_line(f) }, || open(p, "r").wc(),
            || read_gzip_lines(z), || read_gzip_lines(z, #{max_line: 14}), || read_gzip_lines(z, #{max_unpacked: 80}),
            || search_gzip("hunter", z), || search_gzip("bert", z, #{max_unpacked: 80}), || grep("bert", z, #{max_unpacked: 80}),
            // These would show or move the bytes themselves.
            || read_bytes(p), || hexdump(p), || sha256(p), || mime(p), || stat(p).size, || gzip_info(z), || read_bytes(open(p, "r")),
            || cp(p, "{data}/new/a"), || gzip(p, "{data}/new/b"), || tar_create("{data}/new/c", [p]), || ln(p, "{data}/new/d"),
            || mv(p, "{data}/new/e"), || gunzip(z, "{data}/new/f"), || edit_line(p, #{pattern: "hunter", line: "x", dry_run: true}),
            || sed("hunter", "x", p, #{in_place: true}), || set_key(p, "user", "x", #{dry_run: true}),
        ];
        for way in ways { try { told.push(`${way.call()}`); } catch (e) { told.push(if type_of(e) == "map" { `${e.kind}: ${e.message}` } else { `${e}` }); } }
        told"#;
    let long = "x".repeat(80_000);
    let secrets = ["hunter2", "", "17 hunter bert user=anna", "\u{1b}[31m", "ein schöner Fall", long.as_str()];
    let mut first = None;
    for secret in secrets {
        let text = format!("user=anna\npassword is {secret}\nfrom host{} port 22\nuser=bert\npin {secret}\n", secret.len());
        fs::write(rex.data().join("log"), &text).unwrap();
        let packed = Command::new("gzip").args(["-nc", &rex.path("log")]).output().unwrap();
        fs::write(rex.data().join("log.gz"), packed.stdout).unwrap();
        let run = rex.run(script);
        let told = run.ends(0).value();
        let told: Vec<String> = told.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect();
        assert!(told.iter().filter(|one| one.contains("user=anna")).count() > 8, "{told:#?}");
        assert!(!format!("{:?}", run.audit).contains("hunter2"), "{run:#?}");
        assert_eq!(fs::read_to_string(rex.data().join("log")).unwrap(), text);
        assert_eq!(fs::read_dir(rex.data().join("new")).unwrap().count(), 0);
        let first: &Vec<String> = first.get_or_insert_with(|| told.clone());
        for (number, (one, other)) in first.iter().zip(&told).enumerate() {
            assert_eq!(one, other, "way {number}");
        }
    }
}

/// One member of an archive: name, type, target of a link.
type Member<'a> = (&'a str, u8, &'a str);

/// An archive in the old form, with names just as they are given; files hold `evil`, all are set-user-id.
fn tar(members: &[Member<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, kind, target) in members {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0006777\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, if *kind == b'0' { b"00000000004\0" } else { b"00000000000\0" });
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[*kind]);
        put(157, target.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        if *kind == b'0' {
            let mut block = [0_u8; 512];
            block[..4].copy_from_slice(b"evil");
            archive.extend_from_slice(&block);
        }
    }
    archive.extend_from_slice(&[0; 1024]);
    archive
}

#[test]
fn no_archive_reaches_out_of_its_folder() {
    let rex = Rex::new().policy(ALLOW_ALL).file("x.tar", "").dir("out");
    let outside = rex.root().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), SECRET).unwrap();
    let there = outside.to_str().unwrap().to_owned();
    let (new, precious) = (format!("{there}/new"), format!("{there}/precious"));
    let attacks: &[&[Member<'_>]] = &[
        &[("../../outside/new", b'0', "")],
        &[("a/../../../outside/precious", b'0', "")],
        &[(&new, b'0', "")],
        &[("l", b'2', &there), ("l/new", b'0', "")],
        &[("l", b'2', "../../outside"), ("l/precious", b'0', "")],
        &[("l", b'2', &there), ("l", b'5', "")],
        &[("f", b'2', &precious), ("f", b'0', "")],
        &[("a", b'5', ""), ("a/b", b'2', ".."), ("a/b/c", b'2', "../.."), ("a/b/c/outside/new", b'0', "")],
        &[("x", b'2', "."), ("x/y", b'2', "../.."), ("y/outside/new", b'0', "")],
        &[("h", b'1', "../../outside/precious"), ("h", b'0', "")],
        &[("h", b'1', &precious)],
        &[("s", b'2', &precious), ("h", b'1', "s"), ("h", b'0', "")],
        &[("s", b'2', &there), ("h", b'1', "s/precious")],
        &[("h", b'1', "to-file")],
        &[("to-dir/new", b'0', "")],
        &[("to-dir", b'5', "")],
        &[("to-file", b'0', "")],
        &[("chain/new", b'0', "")],
        &[("d", b'5', ""), ("d", b'2', &there), ("d/new", b'0', "")],
        &[(".", b'2', &there), ("new", b'0', "")],
        &[("dev", b'3', ""), ("pipe", b'6', ""), ("set", b'0', "")],
    ];
    for attack in attacks {
        for options in ["", "overwrite: true, preserve_permissions: true, keep_going: true"] {
            let out = rex.data().join("out");
            fs::remove_dir_all(&out).unwrap();
            fs::create_dir(&out).unwrap();
            for (name, target) in [("to-dir", there.as_str()), ("to-file", &precious), ("chain", "to-dir")] {
                symlink(target, out.join(name)).unwrap();
            }
            fs::write(rex.data().join("x.tar"), tar(attack)).unwrap();
            let before = state(&outside);
            let run = rex.run(&format!("tar_extract(\"{{data}}/x.tar\", \"{{data}}/out\", #{{{options}}})"));
            assert!([0, 1].contains(&run.code), "{attack:?}: {run:#?}");
            assert_eq!(state(&outside), before, "{attack:?} {options}");
            for (path, line) in state(&out) {
                let mode = u32::from_str_radix(line.split(' ').next().unwrap(), 8).unwrap();
                // Regular files, folders and links; and nothing set-user-id that was not asked for.
                assert!([0o10, 0o4, 0o12].contains(&(mode >> 12)) && mode & 0o6000 == 0, "{attack:?}: {path} {line}");
            }
        }
    }
}

/// Exchanges two names until told to stop.
fn flip(one: &Path, other: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, rustix::fs::RenameFlags::EXCHANGE).unwrap();
        std::thread::yield_now();
    }
}

#[test]
fn nothing_changes_or_is_read_through_a_folder_that_flips_into_a_link() {
    let mut deeds = vec![
        r#"out += cat("{data}/w/dir/f")"#,
        r#"cp("{data}/w/dir/f", "{data}/o/c", #{force: true})"#,
        r#"cp("{data}/tree", "{data}/w/dir/t" + i, #{recursive: true, preserve: true})"#,
        r#"cp("{data}/w/dir", "{data}/o/t" + i, #{recursive: true})"#,
        r#"write("{data}/n", "x"); mv("{data}/n", "{data}/w/dir/n", #{force: true})"#,
        r#"mv("{data}/w/dir/f", "{data}/o/m", #{force: true}); mv("{data}/o/m", "{data}/w/dir/f")"#,
        r#"rm("{data}/w/dir/sub", #{recursive: true, force: true}); mkdir("{data}/w/dir/sub/deep", #{parents: true})"#,
        r#"chmod("{data}/w", if i % 2 == 0 { 0o755 } else { 0o700 }, #{recursive: true})"#,
        r#"chmod("{data}/w/dir/f", if i % 2 == 0 { 0o600 } else { 0o644 })"#,
        r#"set_times("{data}/w/dir/f", #{mtime: now()})"#,
        r#"edit_line("{data}/w/dir/f", #{line: "l" + i})"#,
        r#"set_key("{data}/w/dir/f", "k", i, #{separator: "="})"#,
        r#"write("{data}/w/dir/f", "mine" + i, #{replace: true})"#,
        r#"write("{data}/w/dir/f", "mine" + i)"#,
        r#"mkdir("{data}/w/dir/p" + i + "/q/r", #{parents: true})"#,
        r#"ln("{data}/w/dir/f", "{data}/o/l" + i)"#,
        r#"mktemp(#{dir: "{data}/w/dir"})"#,
        r#"gzip("{data}/w/dir/f", #{keep: true, force: true})"#,
        r#"tar_create("{data}/o/t.tar", ["{data}/w"], #{force: true, keep_going: true})"#,
        r#"tar_extract("{data}/o/t.tar", "{data}/w", #{overwrite: true, keep_going: true})"#,
        r#"truncate("{data}/w/dir/f", #{size: 3})"#,
    ];
    if common::is_root() {
        deeds.push(r#"chown("{data}/w", 1000 + i % 2, #{recursive: true})"#);
    }
    let rex = Rex::new().policy(ONLY_DATA).file("w/dir/f", "mine").file("w/dir/sub/deep/y", "mine").file("tree/a/b", "mine").dir("o");
    let outside = rex.root().join("outside");
    fs::create_dir_all(outside.join("sub/deep")).unwrap();
    for name in ["f", "sub/deep/y"] {
        fs::write(outside.join(name), SECRET).unwrap();
    }
    let (dir, link) = (rex.data().join("w/dir"), rex.data().join("flip"));
    symlink(&outside, &link).unwrap();
    let before = state(&outside);
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let flipper = std::thread::spawn(move || flip(&dir, &link, &flag));
    let runs: Vec<_> = deeds
        .iter()
        .map(|deed| {
            let script = format!(
                "let out = \"\"; let tried = 0; for i in 0..60 {{ tried += 1; try {{ {deed}; }} catch (e) {{ }} \
                 try {{ if !exists(\"{{data}}/w/dir/f\") {{ write(\"{{data}}/w/dir/f\", \"mine\"); }} }} catch (e) {{ }} }} [tried, out.contains(\"{SECRET}\")]"
            );
            (deed, rex.run(&script))
        })
        .collect();
    stop.store(true, Ordering::Relaxed);
    flipper.join().unwrap();
    for (deed, run) in runs {
        assert_eq!((run.code, run.value()), (0, serde_json::json!([60, false])), "{deed}: {run:#?}");
    }
    assert_eq!(state(&outside), before);
    for (path, line) in state(&rex.data()) {
        let secret = format!("{:?}", SECRET.as_bytes());
        assert!(!line.contains(secret.trim_matches(['[', ']'])), "{path}");
    }
}

#[test]
fn each_change_is_decided_on_record_before_it_is_done_and_what_is_denied_leaves_no_trace() {
    let deeds = [
        r#"write("{data}/f", "hidden-words")"#,
        r#"write("{data}/f", "hidden-words", #{replace: true})"#,
        r#"append_line("{data}/f", "hidden-words")"#,
        r#"truncate("{data}/f", #{size: 1})"#,
        r#"mkdir("{data}/new/a", #{parents: true})"#,
        r#"rm("{data}/dir", #{recursive: true})"#,
        r#"mv("{data}/f", "{data}/g")"#,
        r#"cp("{data}/dir", "{data}/copy", #{recursive: true})"#,
        r#"chmod("{data}/dir", 0o700, #{recursive: true})"#,
        r#"set_times("{data}/f", #{mtime: now()})"#,
        r#"ln("{data}/f", "{data}/l")"#,
        r#"mktemp(#{dir: "{data}/dir"})"#,
        r#"edit_line("{data}/f", #{line: "password=hidden-words", backup: true})"#,
        r#"gzip("{data}/f", #{keep: false})"#,
        r#"tar_create("{data}/t.tar", ["{data}/dir"])"#,
        r#"sed("words", "x", "{data}/f", #{in_place: true})"#,
    ];
    let host = |policy: &str| Rex::new().policy(policy).file("f", "words of the file\n").file("dir/sub/g", "words of the other\n");
    for deed in deeds {
        let rex = host(ALLOW_ALL);
        let run = rex.run(deed);
        run.ends(0);
        let events: Vec<&str> = run.audit.iter().filter_map(|record| record["event"].as_str()).collect();
        let (decided, done) = (events.iter().position(|e| *e == "decision").unwrap(), events.iter().position(|e| *e == "effect").unwrap());
        assert!(decided < done, "{deed}: {events:?}");
        let record = format!("{:?}", run.audit);
        assert!(!record.contains("words of the"), "{deed}: {record}");
        // Only that nothing may be changed: the tree may be looked at and read.
        let rex = host(
            r#"permit(principal, action in [file_system::Action::"read", file_system::Action::"stat", file_system::Action::"open"], resource);"#,
        );
        let before = state(&rex.data());
        rex.run(deed).is_denied();
        assert_eq!(state(&rex.data()), before, "{deed}");
    }
}

#[test]
fn an_offset_beyond_every_file_is_told_in_words() {
    let rex = Rex::new().policy(ALLOW_ALL).file("log", "abc\n");
    for call in ["read_bytes", "hexdump"] {
        let run = rex.run(&format!("{call}(\"{{data}}/log\", #{{offset: 9223372036854775807}})"));
        let error = run.ends(1).json()["error"].clone();
        assert_eq!(error["kind"], "bad_argument", "{error}");
        assert!(error["message"].as_str().unwrap().contains("`offset` 9223372036854775807"), "{error}");
        // The other side: behind the end there is nothing.
        rex.run(&format!("{call}(\"{{data}}/log\", #{{offset: 100}}).len() < 20")).gives(true);
    }
}

#[test]
fn a_huge_glob_or_a_huge_patience_is_no_fault_of_rex() {
    let rex = Rex::new().policy(ALLOW_ALL).file("log", "abc\n");
    let calls = [
        r#"find("{data}", #{name: big})"#,
        r#"find("{data}", #{path: big})"#,
        r#"find("{data}", #{iname: big})"#,
        r#"find_files(big, "{data}")"#,
        r#"glob("{data}/" + big + "*")"#,
        r#"df(#{path: "{data}", timeout: 9223372036854775807})"#,
    ];
    for call in calls {
        let run = rex.run(&format!(
            "let big = \"a\"; for i in 0..20 {{ big += big; }} let kind = \"none\"; try {{ {call}; }} catch (e) {{ kind = e.kind; }} kind"
        ));
        let kind = run.ends(0).value();
        assert!(["none", "bad_argument"].contains(&kind.as_str().unwrap()), "{call}: {run:#?}");
        assert_eq!(kind == "bad_argument", call.contains("big"), "{call}: {run:#?}");
    }
}
