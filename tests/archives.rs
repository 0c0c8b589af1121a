//! Packed files and archives through the binary: what others' programs make is read, what ours makes they read, and hostile archives get nowhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Rex, Run};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

/// Runs a shell line in the host's folder; false where a program for it is missing.
#[track_caller]
fn shell(rex: &Rex, line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap();
    if Command::new("sh").args(["-c", &format!("command -v {first} >/dev/null")]).status().is_ok_and(|status| !status.success()) {
        eprintln!("skipped: there is no {first} here");
        return false;
    }
    let output = Command::new("sh").args(["-ec", line]).current_dir(rex.data()).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

/// One member of a tar archive, by hand.
struct Entry<'a> {
    kind: u8,
    name: &'a [u8],
    target: &'a [u8],
    mode: u32,
    data: &'a [u8],
}

const FILE: Entry<'_> = Entry { kind: b'0', name: b"f", target: b"", mode: 0o644, data: b"" };

fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let mut block = [0u8; 512];
        let mut set = |from: usize, bytes: &[u8]| block[from..from + bytes.len()].copy_from_slice(bytes);
        set(0, entry.name);
        set(100, format!("{:07o}\0", entry.mode).as_bytes());
        set(108, b"0000000\x000000000\0");
        set(124, format!("{:011o}\x0014000000000\0        ", entry.data.len()).as_bytes());
        set(156, &[entry.kind]);
        set(157, entry.target);
        set(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(block);
        out.extend(entry.data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend([0; 1024]);
    out
}

fn host(entries: &[Entry<'_>]) -> Rex {
    let rex = Rex::new().policy(ALLOW_ALL);
    fs::write(rex.data().join("x.tar"), tar(entries)).unwrap();
    rex
}

/// Extracts `x.tar` into `out`, which is there, and expects an error of this kind and that nothing was made.
#[track_caller]
fn is_refused(rex: &Rex, kind: &str) -> Run {
    fs::create_dir_all(rex.data().join("out")).unwrap();
    let before = listing(&rex.data());
    let run = rex.run(r#"tar_extract("{data}/x.tar", "{data}/out")"#);
    run.ends(if kind == "unsupported" { 69 } else { 1 });
    assert_eq!(run.json()["error"]["kind"], kind, "{run:#?}");
    assert_eq!(listing(&rex.data()), before, "{run:#?}");
    run
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        names.push(path.display().to_string());
        if path.is_dir() && !path.is_symlink() {
            names.extend(listing(&path));
        }
    }
    names.sort();
    names
}

// What the reference gets wrong, by the number it has in the survey.

#[test]
fn a19_set_id_bits_of_an_archive_are_not_given_to_files() {
    let rex = host(&[Entry { name: b"suid", mode: 0o6755, data: b"x", ..FILE }, Entry { kind: b'5', name: b"dir/", mode: 0o7777, ..FILE }]);
    rex.run(r#"tar_extract("{data}/x.tar", "{data}/out").files"#).gives(1);
    let mode = |name: &str| fs::metadata(rex.data().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("out/suid"), mode("out/dir")), (0o755, 0o777));
}

/// Whether this test can give files to other users.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

const NO_SPECIAL: &str = r#"permit(principal, action, resource);
forbid(principal, action == file_system::Action::"chmod", resource) when { context.set_uid || context.set_gid };
forbid(principal, action == file_system::Action::"chown", resource) when { context.uid == 0 };
"#;

#[test]
fn a19_set_id_bits_are_given_only_where_chmod_is_permitted_with_them() {
    let members = [
        Entry { name: b"plain", mode: 0o640, data: b"p", ..FILE },
        Entry { kind: b'5', name: b"dir/", mode: 0o2750, ..FILE },
        Entry { name: b"dir/suid", mode: 0o4755, data: b"x", ..FILE },
    ];
    let mode = |rex: &Rex, name: &str| fs::metadata(rex.data().join(name)).unwrap().permissions().mode() & 0o7777;
    let rex = host(&members);
    let asked = rex.run(r#"tar_extract("{data}/x.tar", "{data}/out", #{set_id: true}).files"#);
    asked.gives(2);
    assert_eq!((mode(&rex, "out/plain"), mode(&rex, "out/dir"), mode(&rex, "out/dir/suid")), (0o640, 0o2750, 0o4755));
    let chmods: Vec<_> =
        asked.events("decision").into_iter().filter(|record| record["action"] == r#"file_system::Action::"chmod""#).collect();
    assert!(chmods.len() >= 2, "{chmods:#?}");

    let rex = host(&members).policy(NO_SPECIAL).dir("out");
    let before = listing(&rex.data());
    let denied = rex.run(r#"tar_extract("{data}/x.tar", "{data}/out", #{set_id: true})"#);
    assert_eq!(denied.is_denied().json()["error"]["action"], r#"file_system::Action::"chmod""#);
    assert_eq!(listing(&rex.data()), before, "{denied:#?}");
    rex.run(r#"tar_extract([tar_extract::preserve_permissions], "{data}/x.tar", "{data}/out").files"#).gives(2);
    assert_eq!((mode(&rex, "out/dir"), mode(&rex, "out/dir/suid")), (0o750, 0o755));

    let rex = host(&members).policy(NO_SPECIAL);
    let run = rex.run(r#"let r = tar_extract("{data}/x.tar", "{data}/out", #{set_id: true, keep_going: true}); [r.files, r.skipped.map(|s| [s.path, s.kind])]"#);
    run.gives(json!([1, [["dir/", "denied"], ["dir/suid", "denied"]]]));
    assert!(!rex.data().join("out/dir/suid").exists());
    rex.run(r#"tar_extract("{data}/x.tar", "{data}/y", #{set_id: true, preserve_permissions: false})"#).ends(1);
    assert!(!rex.data().join("y").exists());
}

#[test]
fn a_member_that_comes_twice_has_the_bits_of_the_last_one() {
    let rex =
        host(&[Entry { name: b"f", mode: 0o4755, data: b"first", ..FILE }, Entry { name: b"f", mode: 0o600, data: b"second", ..FILE }]);
    rex.run(r#"tar_extract("{data}/x.tar", "{data}/out", #{set_id: true}); cat("{data}/out/f")"#).gives("second");
    assert_eq!(fs::metadata(rex.data().join("out/f")).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn what_is_there_keeps_its_owner_and_bits_when_it_is_overwritten() {
    let rex = host(&[Entry { name: b"f", mode: 0o4755, data: b"new", ..FILE }]).file("out/f", "old");
    fs::set_permissions(rex.data().join("out/f"), fs::Permissions::from_mode(0o640)).unwrap();
    rex.run(
        r#"tar_extract("{data}/x.tar", "{data}/out", #{set_id: true, preserve_ownership: true, overwrite: true}); cat("{data}/out/f")"#,
    )
    .gives("new");
    assert_eq!(fs::metadata(rex.data().join("out/f")).unwrap().permissions().mode() & 0o7777, 0o640);
    // Also where it comes twice.
    let rex = host(&[Entry { name: b"f", data: b"first", ..FILE }, Entry { name: b"f", mode: 0o4755, data: b"new", ..FILE }])
        .file("out/f", "old");
    fs::set_permissions(rex.data().join("out/f"), fs::Permissions::from_mode(0o600)).unwrap();
    rex.run(r#"tar_extract("{data}/x.tar", "{data}/out", #{set_id: true, overwrite: true}); cat("{data}/out/f")"#).gives("new");
    assert_eq!(fs::metadata(rex.data().join("out/f")).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn owners_of_an_archive_are_given_only_where_chown_is_permitted() {
    let rex = Rex::new().policy(ALLOW_ALL).file("d/a", "1").link("d/l", "a");
    if !is_root() || !shell(&rex, "tar --owner=:4711 --group=:4712 --mode=u+s -cf x.tar d") {
        return;
    }
    let owner = |rex: &Rex, name: &str| {
        let meta = fs::symlink_metadata(rex.data().join(name)).unwrap();
        (meta.uid(), meta.gid(), meta.mode() & 0o7000)
    };
    rex.run(r#"tar_extract("{data}/x.tar", "{data}/plain").files"#).gives(1);
    assert_eq!((owner(&rex, "plain/d"), owner(&rex, "plain/d/a"), owner(&rex, "plain/d/l").0), ((0, 0, 0), (0, 0, 0), 0));
    rex.run(r#"tar_extract("{data}/x.tar", "{data}/own", #{preserve_ownership: true}).files"#).gives(1);
    assert_eq!((owner(&rex, "own/d"), owner(&rex, "own/d/a")), ((4711, 4712, 0), (4711, 4712, 0)));
    assert_eq!((owner(&rex, "own/d/l").0, owner(&rex, "own/d/l").1), (4711, 4712));
    // With both, set-user-id outlives the change of owner.
    rex.run(r#"tar_extract("{data}/x.tar", "{data}/both", #{preserve_ownership: true, set_id: true}).files"#).gives(1);
    assert_eq!(owner(&rex, "both/d/a"), (4711, 4712, 0o4000));

    let rex = rex.policy(r#"permit(principal, action, resource); forbid(principal, action == file_system::Action::"chown", resource);"#);
    let denied = rex.run(r#"tar_extract("{data}/x.tar", "{data}/no", #{preserve_ownership: true})"#);
    assert_eq!(denied.is_denied().json()["error"]["action"], r#"file_system::Action::"chown""#);
    assert!(!rex.data().join("no").exists(), "{denied:#?}");
    // The policy is told who is wanted, and a name of the archive counts before its number.
    if !shell(&rex, "tar --owner=root:4711 --group=root:4711 -cf y.tar d") {
        return;
    }
    let rex = rex.policy(NO_SPECIAL);
    rex.run(r#"tar_extract("{data}/x.tar", "{data}/yes", #{preserve_ownership: true}).files"#).gives(1);
    rex.run(r#"tar_extract("{data}/y.tar", "{data}/no", #{preserve_ownership: true})"#).is_denied();
    assert!(!rex.data().join("no").exists());
    for option in ["preserve_ownership", "set_id"] {
        let run = rex.run(&format!(r#"zip_extract("{{data}}/x.tar", "{{data}}/no", #{{{option}: true}})"#));
        assert_eq!(run.ends(1).json()["error"]["kind"], "bad_argument");
    }
}

#[test]
fn a_source_that_is_not_kept_goes_only_where_delete_is_permitted_and_after_the_result_is_there() {
    let no_delete = r#"permit(principal, action, resource); forbid(principal, action == file_system::Action::"delete", resource);"#;
    let rex = Rex::new().policy(no_delete).file("log", "text\n");
    for script in [r#"gzip("{data}/log", #{keep: false})"#, r#"zstd("{data}/log", "{data}/x", #{keep: false})"#] {
        let before = listing(&rex.data());
        assert_eq!(rex.run(script).is_denied().json()["error"]["action"], r#"file_system::Action::"delete""#);
        assert_eq!(listing(&rex.data()), before);
    }
    let rex = rex.policy(ALLOW_ALL);
    rex.run(r#"gzip("{data}/log", #{keep: false}).removed"#).gives(true);
    assert!(!rex.exists("log"));
    rex.run(r#"gunzip("{data}/log.gz", #{keep: false}).removed"#).gives(true);
    assert!(rex.read("log") == "text\n" && !rex.exists("log.gz"));
    // A result that cannot be made costs nothing.
    let rex = rex.file("log.zst", "there already").file("bad.gz", "no gzip data");
    rex.run(r#"zstd("{data}/log", #{keep: false})"#).ends(1);
    rex.run(r#"gunzip("{data}/bad.gz", #{keep: false})"#).ends(1);
    assert!(rex.exists("log") && rex.exists("bad.gz") && !rex.exists("bad"));
    // Neither a link nor what it leads to goes.
    let rex = rex.link("link", "log");
    let run = rex.run(r#"gzip("{data}/link", "{data}/l.gz", #{keep: false})"#);
    assert_eq!(run.ends(1).json()["error"]["kind"], "not_a_file");
    assert!(rex.exists("link") && rex.exists("log") && !rex.exists("l.gz"));
}

#[test]
fn a_source_that_is_written_to_meanwhile_stays() {
    let rex = Rex::new().policy(ALLOW_ALL).file("log", &"some text that takes a while to pack\n".repeat(1_500_000));
    let path = rex.data().join("log");
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Once the new file is being written, the old one grows.
            let begun = || fs::read_dir(rex.data()).unwrap().flatten().any(|entry| entry.file_name().to_string_lossy().starts_with('.'));
            common::until(20.0, begun);
            use std::io::Write as _;
            fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"late\n").unwrap();
        });
        rex.run(r#"zstd("{data}/log", #{level: 15, keep: false})"#)
    });
    let error = &run.ends(1).json()["error"];
    assert_eq!(error["kind"], "changed", "{run:#?}");
    assert!(error["message"].as_str().unwrap().contains("the old one stays"), "{error}");
    assert!(rex.exists("log") && rex.exists("log.zst"));
}

#[test]
fn gzip_text_is_redacted_where_only_redacted_reading_is_permitted() {
    let rex = Rex::new().policy(ALLOW_ALL).file("log", "user=anna\npassword is secret\nuser=bert\n");
    rex.run(r#"gzip("{data}/log").changed"#).gives(true);
    let rex = rex.policy(r#"permit(principal, action == file_system::Action::"redacted_read", resource);"#);
    fs::write(rex.root().join("etc/redaction"), "user=%s\n").unwrap();
    rex.run(r#"read_gzip_lines("{data}/log.gz")"#).gives(json!(["user=anna", "[REDACTED]", "user=bert"]));
    rex.run(r#"read_gzip_lines("{data}/log.gz", #{count: -2})"#).gives(json!(["[REDACTED]", "user=bert"]));
    rex.run(r#"[search_gzip("secret", "{data}/log.gz").len(), search_gzip("user", "{data}/log.gz").len()]"#).gives(json!([0, 2]));
    rex.run(r#"[search_gzip_exists("secret", "{data}/log.gz"), search_gzip_exists("bert", "{data}/log.gz")]"#).gives(json!([false, true]));
    // Nor do limits tell how long what is hidden is: this is what is seen, and one byte less.
    let seen = "user=anna\n[REDACTED]\nuser=bert\n".len();
    let with = |limit: usize| rex.run(&format!(r#"read_gzip_lines("{{data}}/log.gz", #{{max_unpacked: {limit}}}).len()"#));
    with(seen).gives(3);
    assert_eq!(with(seen - 1).ends(1).json()["error"]["kind"], "too_large");
    rex.run(r#"gzip_info("{data}/log.gz")"#).is_denied();
    // Nor is it unpacked to where it can be read.
    rex.run(r#"gunzip("{data}/log.gz", "{data}/copy")"#).is_denied();
    assert!(!rex.exists("copy"));
}

#[test]
fn a20_a_link_in_the_destination_is_not_followed() {
    let rex = host(&[Entry { name: b"sub/file", data: b"evil", ..FILE }]).dir("out").dir("elsewhere");
    let rex = rex.link("out/sub", "../elsewhere");
    is_refused(&rex, "not_a_directory");
    assert!(!rex.data().join("elsewhere/file").exists());
    // The last name too.
    let rex = host(&[Entry { name: b"file", data: b"evil", ..FILE }]).file("precious", "kept").dir("out").link("out/file", "../precious");
    is_refused(&rex, "exists");
    let run = rex.run(r#"tar_extract("{data}/x.tar", "{data}/out", #{overwrite: true})"#);
    run.ends(1);
    assert_eq!(fs::read_to_string(rex.data().join("precious")).unwrap(), "kept", "{run:#?}");
}

#[test]
fn b9_a_shorter_result_leaves_nothing_of_the_longer_file_before_it() {
    let rex = Rex::new().policy(ALLOW_ALL).file("log", "short\n").file("log.gz", &"long and old ".repeat(2000));
    rex.run(r#"gzip("{data}/log")"#).ends(1);
    rex.run(r#"gzip("{data}/log", #{force: true}).created"#).gives(false);
    assert!(fs::metadata(rex.data().join("log.gz")).unwrap().len() < 100);
    if shell(&rex, "gzip -t log.gz") {
        shell(&rex, "gzip -dc log.gz | cmp - log");
    }
}

#[test]
fn c5_huge_negative_counts_are_no_trouble() {
    let rex = Rex::new().policy(ALLOW_ALL).file("log", "a\nb\n");
    rex.run(r#"gzip("{data}/log"); read_gzip_lines("{data}/log.gz", #{count: -9223372036854775807})"#).gives(json!(["a", "b"]));
    rex.run(r#"search_gzip("b", "{data}/log.gz", #{max_results: -9223372036854775807}).len()"#).gives(1);
}

#[test]
fn d6_every_member_of_a_gzip_file_is_read() {
    let rex = Rex::new().policy(ALLOW_ALL).file("a", "first\n").file("b", "second\n");
    if !shell(&rex, "gzip -c a > x.gz; gzip -c b >> x.gz") {
        return;
    }
    rex.run(r#"read_gzip_lines("{data}/x.gz")"#).gives(json!(["first", "second"]));
    rex.run(r#"search_gzip("second", "{data}/x.gz")[0].line_number"#).gives(2);
    rex.run(r#"let i = gzip_info("{data}/x.gz"); [i.members, i.uncompressed_size_bytes]"#).gives(json!([2, 13]));
    rex.run(r#"gunzip("{data}/x.gz"); cat("{data}/x")"#).gives("first\nsecond\n");
}

#[test]
fn d7_a_damaged_gzip_file_is_an_error_and_not_a_short_result() {
    let text: String = (0..20_000).map(|n| format!("line {} {n}\n", n * 7919 % 10_007)).collect();
    let rex = Rex::new().policy(ALLOW_ALL).file("log", &text);
    rex.run(r#"gzip("{data}/log")"#).ends(0);
    let whole = fs::read(rex.data().join("log.gz")).unwrap();
    fs::write(rex.data().join("cut.gz"), &whole[..whole.len() / 2]).unwrap();
    let mut bent = whole.clone();
    let middle = bent.len() - 20;
    bent[middle] ^= 0x10;
    fs::write(rex.data().join("bent.gz"), bent).unwrap();
    for name in ["cut", "bent"] {
        for call in [
            "search_gzip(\"line\", p, #{max_results: 0})",
            "read_gzip_lines(p)",
            "read_gzip_lines(p, #{count: -1})",
            "gunzip(p)",
            "gzip_info(p)",
        ] {
            let run = rex.run(&format!("let p = \"{{data}}/{name}.gz\"; {call}"));
            run.ends(1);
            assert_eq!(run.json()["error"]["kind"], "bad_data", "{name} {call}: {run:#?}");
        }
        assert!(!rex.data().join(name).exists());
    }
}

#[test]
fn d9_an_extraction_that_is_denied_is_an_error_and_makes_nothing() {
    let policy = r#"permit(principal, action, resource);
        forbid(principal, action == file_system::Action::"create", resource == file_system::File::"{data}/out/last");"#;
    let rex = Rex::new().policy(policy).dir("out");
    let entries = [
        Entry { name: b"first", data: b"1", ..FILE },
        Entry { name: b"sub/second", data: b"2", ..FILE },
        Entry { name: b"last", data: b"3", ..FILE },
    ];
    fs::write(rex.data().join("x.tar"), tar(&entries)).unwrap();
    rex.run(r#"tar_extract("{data}/x.tar", "{data}/out")"#).is_denied();
    assert_eq!(fs::read_dir(rex.data().join("out")).unwrap().count(), 0);
    // The other side: what is permitted, and each refusal told.
    let run = rex.run(
        r#"let r = tar_extract("{data}/x.tar", "{data}/out", #{keep_going: true}); [r.files, r.skipped.map(|s| [s.path, s.kind]), r.skipped_count]"#,
    );
    run.gives(json!([2, [["last", "denied"]], 1]));
    assert_eq!(run.denials(), 1);
}

#[test]
fn d10_every_form_of_tar_is_extracted_and_twice_from_one_handle() {
    let rex = Rex::new().policy(ALLOW_ALL).file("d/a", "1\n").file("d/b", "2\n");
    for (name, options) in [("p.tar", ""), ("g", "z"), ("b", "j"), ("x", "J"), ("s", "--zstd")] {
        let flag = if options.starts_with('-') { options.to_owned() } else { format!("-{options}").trim_end_matches('-').to_owned() };
        if !shell(&rex, &format!("tar {flag} -cf {name} d")) {
            continue;
        }
        rex.run(&format!(
            r#"let h = open("{{data}}/{name}"); tar_extract(h, "{{data}}/{name}-1"); tar_extract(h, "{{data}}/{name}-2");
               [cat("{{data}}/{name}-1/d/a"), cat("{{data}}/{name}-2/d/b"), tar_list(h).len()]"#
        ))
        .gives(json!(["1\n", "2\n", 3]));
    }
}

#[test]
fn d24_what_is_no_gzip_file_has_no_gzip_info() {
    let rex = Rex::new().policy(ALLOW_ALL).file("log", "plain text that is long enough to have four last bytes\n");
    let run = rex.run(r#"gzip_info("{data}/log")"#);
    run.ends(1);
    assert_eq!(run.json()["error"]["kind"], "bad_data");
}

#[test]
fn e9_the_last_lines_are_read_with_flat_memory() {
    let text: String = (0..300_000).map(|n| format!("a line of some length, number {n}\n")).collect();
    let rex = Rex::new().policy(ALLOW_ALL).file("log", &text);
    rex.run(r#"gzip("{data}/log"); read_gzip_lines("{data}/log.gz", #{count: -2, max_bytes: 1000})"#)
        .gives(json!(["a line of some length, number 299998", "a line of some length, number 299999"]));
    // More than the bound is told, never cut silently.
    let run = rex.run(r#"read_gzip_lines("{data}/log.gz", #{count: -200, max_bytes: 1000})"#);
    run.ends(1);
    assert_eq!(run.json()["error"]["kind"], "too_large");
}

// Others' archives.

#[test]
fn what_gnu_tar_makes_is_extracted_as_gnu_tar_would() {
    let long = "a".repeat(150);
    let rex = Rex::new().policy(ALLOW_ALL).file(&format!("d/{long}/{long}"), "long").file("d/first", "linked").file("d/empty", "");
    let rex = rex.dir("d/sub").link("d/link", "first").link("d/sub/up", "../first").link("d/long-link", &format!("{long}/{long}"));
    if !shell(
        &rex,
        "tar --version >/dev/null; ln d/first d/second; truncate -s 3M d/holes; printf end >> d/holes; printf mid | dd of=d/holes bs=1 seek=1000000 conv=notrunc status=none; chmod 750 d/sub; touch -d '2020-01-02 03:04:05' d/first d/sub; printf x > \"d/$(printf 'b\\377d')\"",
    ) {
        return;
    }
    for (at, format) in [
        "gnu",
        "pax",
        "ustar --exclude=aaa* --exclude=long-link",
        "pax --sparse",
        "gnu --sparse",
        "pax --sparse --sparse-version=0.1",
        "pax --sparse --sparse-version=0.0",
    ]
    .iter()
    .enumerate()
    {
        shell(&rex, &format!("tar --format={format} -cf x{at}.tar d; mkdir t{at}; tar -xf x{at}.tar -C t{at}"));
        let run = rex.run(&format!(r#"tar_extract("{{data}}/x{at}.tar", "{{data}}/o{at}")"#));
        run.ends(0);
        shell(&rex, &format!("diff -r --no-dereference t{at} o{at}"));
        let same = |name: &str| {
            let of = |folder: &str| {
                let meta = fs::symlink_metadata(rex.data().join(format!("{folder}{at}/d/{name}"))).unwrap();
                (meta.mode(), meta.mtime(), meta.len(), meta.nlink())
            };
            assert_eq!(of("t"), of("o"), "{format}: {name}");
        };
        ["first", "second", "sub", "holes", "link", "empty"].iter().for_each(|name| same(name));
        let holes = fs::metadata(rex.data().join(format!("o{at}/d/holes"))).unwrap();
        assert!(!format.contains("sparse") || holes.blocks() < 2000, "{format}: {} blocks", holes.blocks());
    }
}

#[test]
fn what_is_made_here_is_listed_and_extracted_by_gnu_tar() {
    let long = "é".repeat(100);
    let rex =
        Rex::new().policy(ALLOW_ALL).file(&format!("d/{long}"), "long").file("d/first", "linked").file("d/.git/x", "out").file("d/b/c", "");
    let rex = rex.link("d/link", &"l".repeat(140));
    if !shell(
        &rex,
        "tar --version >/dev/null; ln d/first d/second; mkfifo d/fifo; chmod 2755 d/b; touch -d '1950-01-02 03:04:05' d/first; printf x > \"d/$(printf 'b\\377d')\"",
    ) {
        return;
    }
    for name in ["x.tar", "x.tar.gz", "x.tgz", "x.tar.zst", "x.tar.xz"] {
        let run = rex.run(&format!(
            r#"let r = tar_create("{{data}}/{name}", "{{data}}/d", #{{relative_to: "{{data}}", exclude: [".git"]}}); [r.files, r.skipped.map(|s| s.kind)]"#
        ));
        run.gives(json!([8, ["fifo"]]));
        shell(
            &rex,
            &format!(
                "rm -rf t; mkdir t; tar -xpf {name} -C t; rm -rf e; cp -a d e; rm -r e/.git e/fifo; diff -r --no-dereference e t/d; tar -tf {name} > list; test $(wc -l < list) = 8"
            ),
        );
        let meta = |name: &str| fs::metadata(rex.data().join(name)).unwrap();
        assert_eq!((meta("t/d/first").mtime(), meta("t/d/first").nlink()), (meta("d/first").mtime(), 2));
        assert_eq!(meta("t/d/b").mode(), meta("d/b").mode());
    }
    rex.run(r#"tar_list("{data}/x.tar.xz").map(|m| m.type)"#).gives(json!([
        "dir",
        "dir",
        "file",
        "file",
        "file",
        "symlink",
        "hard_link",
        "file"
    ]));
    // The same tree gives the same bytes.
    rex.run(r#"tar_create("{data}/y.tar", "{data}/d", #{relative_to: "{data}", exclude: ".git"}).files"#).gives(8);
    assert!(fs::read(rex.data().join("x.tar")).unwrap() == fs::read(rex.data().join("y.tar")).unwrap());
}

#[test]
fn an_archive_of_a_folder_does_not_hold_itself() {
    let rex = Rex::new().policy(ALLOW_ALL).file("d/a", "1");
    for _ in 0..2 {
        rex.run(r#"tar_create("{data}/d/x.tar", "{data}/d", #{force: true}).files"#).gives(2);
    }
    assert_eq!(fs::read_dir(rex.data().join("d")).unwrap().count(), 2);
}

#[test]
fn a_member_that_may_not_be_read_leaves_no_archive() {
    let policy = r#"permit(principal, action, resource); forbid(principal, action == file_system::Action::"read", resource == file_system::File::"{data}/d/secret");"#;
    let rex = Rex::new().policy(policy).file("d/a", "1").file("d/secret", "2");
    rex.run(r#"tar_create("{data}/x.tar", "{data}/d")"#).is_denied();
    assert_eq!(fs::read_dir(rex.data()).unwrap().count(), 1);
    let run = rex.run(r#"let r = tar_create("{data}/x.tar", "{data}/d", #{keep_going: true, relative_to: "{data}"}); [r.files, r.skipped[0].kind, tar_list("{data}/x.tar").map(|m| m.path)]"#);
    run.gives(json!([2, "denied", ["d", "d/a"]]));
}

#[test]
fn a_zip_archive_is_extracted_with_modes_links_and_times() {
    let rex = Rex::new()
        .policy(ALLOW_ALL)
        .file("d/a", &"text ".repeat(1000))
        .file("d/sub/run", "#!/bin/sh\n")
        .link("d/link", "sub/run")
        .dir("d/none");
    if !shell(&rex, "zip -v >/dev/null; chmod 755 d/sub/run; touch -d '2020-01-02 03:04:06 UTC' d/a; TZ=UTC zip -qry x.zip d") {
        return;
    }
    let run = rex.run(r#"let r = zip_extract("{data}/x.zip", "{data}/out"); [r.files, r.dirs, r.links]"#);
    run.gives(json!([2, 4, 1]));
    shell(&rex, "diff -r --no-dereference d out/d");
    let meta = |name: &str| fs::metadata(rex.data().join(name)).unwrap();
    assert_eq!(meta("out/d/sub/run").mode(), meta("d/sub/run").mode());
    assert_eq!(meta("out/d/a").mtime(), meta("d/a").mtime());
    rex.run(r#"zip_list("{data}/x.zip").filter(|m| m.type == "symlink").map(|m| [m.path, m.target])"#)
        .gives(json!([["d/link", "sub/run"]]));
}

// Hostile archives.

#[test]
fn names_that_lead_out_are_refused() {
    for name in [&b"../evil"[..], b"/evil", b"a/../../evil", b"a/..", b".."] {
        let run = is_refused(&host(&[Entry { name: b"good", ..FILE }, Entry { name, data: b"x", ..FILE }]), "bad_data");
        assert_eq!(run.json()["error"]["path"].as_str().map(str::as_bytes), Some(name), "{run:#?}");
    }
}

#[test]
fn links_that_lead_out_are_refused_and_links_within_are_not() {
    for (name, target) in
        [(&b"l"[..], &b"/etc"[..]), (b"l", b"../x"), (b"a/l", b"../../x"), (b"l", b"a/../../x"), (b"l", b"a/.."), (b"l", b"")]
    {
        is_refused(&host(&[Entry { kind: b'2', name, target, ..FILE }]), "bad_data");
    }
    let rex = host(&[
        Entry { name: b"x", data: b"1", ..FILE },
        Entry { kind: b'2', name: b"a/b/l", target: b"../../x", ..FILE },
        Entry { kind: b'2', name: b"m", target: b"./a/b", ..FILE },
    ]);
    rex.run(r#"[tar_extract("{data}/x.tar", "{data}/out").links, cat("{data}/out/a/b/l"), cat("{data}/out/m/l")]"#)
        .gives(json!([2, "1", "1"]));
    // Again: what is the same is no error, where it may be written.
    rex.run(r#"tar_extract("{data}/x.tar", "{data}/out", #{overwrite: true}).links"#).gives(0);
}

#[test]
fn what_goes_through_a_link_of_the_archive_is_refused() {
    for target in [&b"/etc"[..], b"sub"] {
        is_refused(
            &host(&[
                Entry { kind: b'5', name: b"sub", mode: 0o755, ..FILE },
                Entry { kind: b'2', name: b"l", target, ..FILE },
                Entry { name: b"l/x", ..FILE },
            ]),
            "bad_data",
        );
    }
    is_refused(&host(&[Entry { name: b"l/x", ..FILE }, Entry { kind: b'2', name: b"l", target: b"sub", ..FILE }]), "bad_data");
    is_refused(&host(&[Entry { name: b"f", ..FILE }, Entry { name: b"f/x", ..FILE }]), "bad_data");
}

#[test]
fn hard_links_lead_to_what_was_extracted_before_and_to_nothing_else() {
    for target in [&b"/etc/passwd"[..], b"../x.tar", b"precious", b"later"] {
        let entries = [Entry { kind: b'1', name: b"l", target, ..FILE }, Entry { name: b"later", ..FILE }];
        is_refused(&host(&entries).file("out/precious", "kept"), "bad_data");
    }
    let rex = host(&[Entry { name: b"a", data: b"1", ..FILE }, Entry { kind: b'1', name: b"d/b", target: b"a", ..FILE }]);
    rex.run(r#"let r = tar_extract("{data}/x.tar", "{data}/out"); [r.links, stat("{data}/out/d/b").links]"#).gives(json!([1, 2]));
    // Again, over what is there: the two names are of one file again, and nothing else lies around.
    rex.run(r#"let r = tar_extract("{data}/x.tar", "{data}/out", #{overwrite: true}); [r.files, r.links, stat("{data}/out/a").links]"#)
        .gives(json!([1, 1, 2]));
    assert_eq!(listing(&rex.data().join("out")).len(), 3);
}

#[test]
fn devices_and_fifos_are_refused_or_told() {
    for kind in [b'3', b'4', b'6', b'9'] {
        let rex = host(&[Entry { kind, name: b"dev", ..FILE }, Entry { data: b"1", ..FILE }]);
        is_refused(&rex, "bad_data");
        rex.run(
            r#"let r = tar_extract("{data}/x.tar", "{data}/out", #{keep_going: true}); [r.files, r.skipped[0].path, r.skipped[0].kind]"#,
        )
        .gives(json!([1, "dev", "bad_data"]));
    }
}

#[test]
fn bombs_end_at_the_limits_before_anything_is_made() {
    let rex = Rex::new().policy(ALLOW_ALL).dir("out");
    if !shell(&rex, "tar --version >/dev/null; truncate -s 50M zeros; tar -czf bytes.tar zeros; tar -Sczf holes.tar zeros; rm zeros") {
        return;
    }
    for name in ["bytes", "holes"] {
        for options in ["max_bytes: 10000000", "max_members: 0"] {
            let run = rex.run(&format!(r#"tar_extract("{{data}}/{name}.tar", "{{data}}/out", #{{{options}}})"#));
            run.ends(1);
            assert_eq!(run.json()["error"]["kind"], "too_large", "{run:#?}");
        }
    }
    let run = rex.run(r#"tar_extract("{data}/bytes.tar", "{data}/out", #{max_ratio: 50})"#);
    assert_eq!(run.json()["error"]["kind"], "too_large", "{run:#?}");
    assert_eq!(fs::read_dir(rex.data().join("out")).unwrap().count(), 0);
    // A name of a gigabyte in a header is not held in memory.
    let mut name = tar(&[Entry { kind: b'L', name: b"././@LongLink", ..FILE }]);
    name[124..136].copy_from_slice(b"10000000000\0");
    let sum: u32 = name[..512].iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
    name[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    fs::write(rex.data().join("x.tar"), name).unwrap();
    is_refused(&rex, "too_large");
}

#[test]
fn an_archive_that_is_cut_short_makes_nothing_wherever_it_is_cut() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let whole = tar(&[Entry { name: b"a", data: &[b'x'; 1000], ..FILE }, Entry { name: b"b", data: b"2", ..FILE }]);
    for cut in [0, 100, 512, 1000, 1536, 2048, 2100, 2560, whole.len() - 1024] {
        fs::write(rex.data().join("x.tar"), &whole[..cut]).unwrap();
        is_refused(&rex, "bad_data");
    }
    fs::write(rex.data().join("x.tar"), &whole[..whole.len() - 512]).unwrap();
    rex.run(r#"tar_extract("{data}/x.tar", "{data}/out").files"#).gives(2);
}

#[test]
fn a_zip_archive_may_not_do_what_a_tar_archive_may_not() {
    let rex = Rex::new().policy(ALLOW_ALL).file("d/evil", "x").dir("out").link("out-link", "/etc");
    if !shell(
        &rex,
        "zip -v >/dev/null; cd d; zip -q ../up.zip ../d/evil; ln -s /etc abs; zip -qy ../abs.zip abs; cp evil 'back\\slash'; zip -q ../back.zip 'back\\slash'; zip -q -P secret ../crypt.zip evil; head -c 60 ../up.zip > ../cut.zip",
    ) {
        return;
    }
    for (name, kind) in [("up", "bad_data"), ("abs", "bad_data"), ("back", "bad_data"), ("crypt", "unsupported"), ("cut", "bad_data")] {
        let run = rex.run(&format!(r#"zip_extract("{{data}}/{name}.zip", "{{data}}/out")"#));
        assert_eq!(run.json()["error"]["kind"], kind, "{name}: {run:#?}");
        assert_eq!(fs::read_dir(rex.data().join("out")).unwrap().count(), 0);
    }
}

#[test]
fn fifty_thousand_members_take_little_memory() {
    // Less than the members' names and data together; the run would end at the limit.
    let rex = Rex::new().policy(ALLOW_ALL).config("[limits]\nmemory = \"32MiB\"\n").dir("d");
    let names: Vec<String> = (0..50_000).map(|n| format!("folder{}/a-file-with-a-name-of-some-length-{n}", n / 500)).collect();
    let data = vec![b'1'; 600];
    let entries: Vec<Entry<'_>> = names.iter().map(|name| Entry { name: name.as_bytes(), data: &data, ..FILE }).collect();
    fs::write(rex.data().join("x.tar"), tar(&entries)).unwrap();
    // A part is extracted: the rest is read all the same.
    let run = rex.run(
        r#"let r = tar_extract("{data}/x.tar", "{data}/out", #{members: "folder[0-9]"}); [r.files, r.dirs, tar_list("{data}/x.tar", #{limit: 3}).len()]"#,
    );
    run.gives(json!([5000, 11, 3]));
    rex.run(r#"tar_create("{data}/y.tar.zst", "{data}/out").files"#).gives(5011);
}

#[test]
fn a_full_filesystem_is_told_with_what_was_made() {
    needs_namespaces!();
    let rex = host(&[Entry { name: b"small", data: b"1", ..FILE }, Entry { name: b"large", data: &[b'x'; 300_000], ..FILE }]).dir("out");
    let line = format!(
        r#"mount -t tmpfs -o size=128k none out && exec {} run --policy {} -o json -"#,
        rex.program().display(),
        rex.policy_file().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &line]).current_dir(rex.data());
    let run = rex.finish(command, rex.fill(r#"tar_extract("{data}/x.tar", "{data}/out")"#).as_bytes());
    assert_eq!(run.json()["error"]["kind"], "no_space", "{run:#?}");
    assert!(run.json()["error"]["message"].as_str().unwrap().contains("after 1 files"), "{run:#?}");
}

#[test]
fn folders_that_are_swapped_for_links_meanwhile_lead_nowhere() {
    let rex = Rex::new().policy(ALLOW_ALL).dir("out").dir("target");
    let names: Vec<String> = (0..400).map(|n| format!("sub/file{n}")).collect();
    let entries: Vec<Entry<'_>> = names.iter().map(|name| Entry { name: name.as_bytes(), data: b"1", ..FILE }).collect();
    fs::write(rex.data().join("x.tar"), tar(&entries)).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (flag, data) = (std::sync::Arc::clone(&stop), rex.data());
    let swapper = std::thread::spawn(move || {
        while !flag.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = fs::rename(data.join("out/sub"), data.join("aside"));
            let _ = std::os::unix::fs::symlink(data.join("target"), data.join("out/sub"));
            let _ = fs::remove_file(data.join("out/sub"));
            let _ = fs::rename(data.join("aside"), data.join("out/sub"));
        }
    });
    for _ in 0..5 {
        rex.run(r#"tar_extract("{data}/x.tar", "{data}/out", #{overwrite: true, keep_going: true}).skipped_count"#);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!(fs::read_dir(rex.data().join("target")).unwrap().count(), 0);
}

#[test]
fn an_extraction_tells_nobody_which_folders_are_there() {
    let policy = r#"permit(principal, action, resource); forbid(principal, action, resource in file_system::Dir::"{data}/vault");"#;
    let rex = Rex::new().policy(policy).dir("vault/sub");
    for (name, entries) in [
        ("dir", &[Entry { kind: b'5', name: b"sub", mode: 0o755, ..FILE }][..]),
        ("file", &[Entry { name: b"sub/x", ..FILE }]),
        ("through", &[Entry { name: b"sub/x/y", ..FILE }]),
        ("none", &[]),
    ] {
        fs::write(rex.data().join("x.tar"), tar(entries)).unwrap();
        for place in ["", "/sub", "/gone"] {
            rex.run(&format!(r#"tar_extract("{{data}}/x.tar", "{{data}}/vault{place}")"#)).is_denied();
            let run = rex.run(&format!(r#"tar_extract("{{data}}/x.tar", "{{data}}/vault{place}", #{{keep_going: true}})"#));
            run.is_denied();
        }
        assert_eq!(listing(&rex.data().join("vault")).len(), 1, "{name}");
    }
}
