//! Open files: verbs by mode, one object whatever becomes of its name, lines in bounded memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::functions::rig::{Rig, options};
use std::fs;
use std::path::{Path, PathBuf};

const ALL: &str = "permit(principal, action, resource);";

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let real = fs::canonicalize(dir.path()).unwrap();
    (dir, real)
}

fn open_as(rig: &Rig, path: &Path, mode: &str) -> Result<Dynamic> {
    rig.call("open", [path.to_str().unwrap().to_owned().into(), mode.to_owned().into()])
}

fn line(rig: &Rig, file: &Dynamic) -> Result<Option<String>> {
    rig.call("read_line", [file.clone()]).map(|line| line.into_string().ok())
}

#[test]
fn every_mode_needs_its_verbs_before_anything_happens() {
    let (_keep, dir) = folder();
    let cases: [(&str, &str, &[&str]); 8] = [
        ("r", "old", &["read"]),
        ("r+", "old", &["read", "write"]),
        ("w", "old", &["write"]),
        ("w+", "old", &["read", "write"]),
        ("a", "old", &["write"]),
        ("w", "new", &["create", "write"]),
        ("w+", "new", &["create", "read", "write"]),
        ("x", "new", &["create", "write"]),
    ];
    for (mode, name, verbs) in cases {
        for missing in 0..=verbs.len() {
            fs::write(dir.join("old"), "kept").unwrap();
            let _ = fs::remove_file(dir.join("new"));
            let policy: String = verbs
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != missing)
                .map(|(_, verb)| format!("permit(principal, action == file_system::Action::\"{verb}\", resource);"))
                .collect();
            let rig = Rig::new(if policy.is_empty() { "forbid(principal, action, resource);" } else { &policy });
            let opened = open_as(&rig, &dir.join(name), mode);
            if missing == verbs.len() {
                assert!(opened.is_ok(), "{mode} {name}: {:?}", opened.err());
            } else {
                assert_eq!(opened.unwrap_err().kind, Kind::Denied, "{mode} {name} without {}", verbs[missing]);
                assert_eq!(fs::read_to_string(dir.join("old")).unwrap(), "kept");
                assert!(!dir.join("new").exists());
            }
        }
    }
}

#[test]
fn a_file_does_only_what_it_was_opened_for() {
    let (_keep, dir) = folder();
    fs::write(dir.join("f"), "text").unwrap();
    let rig = Rig::new(ALL);
    let reader = open_as(&rig, &dir.join("f"), "r").unwrap();
    assert_eq!(rig.call("write", [reader.clone(), "x".into()]).unwrap_err().kind, Kind::BadArgument);
    assert_eq!(rig.call("truncate", [reader, 0_i64.into()]).unwrap_err().kind, Kind::BadArgument);
    let writer = open_as(&rig, &dir.join("f"), "a").unwrap();
    assert_eq!(rig.call("read", [writer.clone()]).unwrap_err().kind, Kind::BadArgument);
    assert!(rig.call("close", [writer.clone()]).unwrap().as_bool().unwrap());
    assert_eq!(rig.call("write", [writer, "x".into()]).unwrap_err().kind, Kind::BadArgument);
    assert_eq!(fs::read_to_string(dir.join("f")).unwrap(), "text");
    assert_eq!(open_as(&rig, &dir.join("f"), "x").unwrap_err().kind, Kind::Exists);
    assert_eq!(open_as(&rig, &dir.join("gone"), "r+").unwrap_err().kind, Kind::NotFound);
    assert_eq!(open_as(&rig, &dir.join("f"), "rw").unwrap_err().kind, Kind::BadArgument);
    assert_eq!(open_as(&rig, Path::new("/dev/null"), "w").unwrap_err().kind, Kind::NotAFile);
}

#[test]
fn the_object_stays_the_same_when_its_name_goes_to_another() {
    let (_keep, dir) = folder();
    fs::write(dir.join("f"), "first\nsecond\n").unwrap();
    let rig = Rig::new(ALL);
    let file = open_as(&rig, &dir.join("f"), "r+").unwrap();
    fs::rename(dir.join("f"), dir.join("moved")).unwrap();
    fs::write(dir.join("f"), "other\n").unwrap();
    assert_eq!(line(&rig, &file).unwrap().as_deref(), Some("first"));
    let _ = rig.call("write", [file.clone(), "SECOND".into()]).unwrap();
    let seen = rig.call("stat", [file]).unwrap().cast::<crate::functions::value::Map>();
    assert_eq!(seen["size"].as_int().unwrap(), 13);
    assert_eq!(fs::read_to_string(dir.join("moved")).unwrap(), "first\nSECOND\n");
    assert_eq!(fs::read_to_string(dir.join("f")).unwrap(), "other\n");
}

#[test]
fn lines_end_with_either_end_and_are_bounded_exactly() {
    let (_keep, dir) = folder();
    fs::write(dir.join("f"), "a\r\n\nb\rc\nlast\r").unwrap();
    let rig = Rig::new(ALL);
    let file = open_as(&rig, &dir.join("f"), "r").unwrap();
    let mut seen = Vec::new();
    while let Some(line) = line(&rig, &file).unwrap() {
        seen.push(line);
    }
    assert_eq!(seen, ["a", "", "b\rc", "last\r"]);
    for (text, fits) in
        [("12345\r\nx", true), ("12345\n", true), ("12345", true), ("123456\n", false), ("123456", false), ("1234567890\n", false)]
    {
        fs::write(dir.join("f"), text).unwrap();
        let file = open_as(&rig, &dir.join("f"), "r").unwrap();
        let answer = rig.call("read_line", [file, options([("max_line", 5_i64.into())])]);
        match answer {
            Ok(line) => assert!(fits && line.into_string().unwrap() == "12345", "{text:?}"),
            Err(error) => assert!(!fits && error.kind == Kind::TooLarge, "{text:?}"),
        }
    }
}

#[test]
fn a_long_file_is_read_by_lines_in_little_memory() {
    let (_keep, dir) = folder();
    let text = format!("{}\n", "x".repeat(99)).repeat(200_000);
    fs::write(dir.join("f"), &text).unwrap();
    let rig = Rig::new(ALL);
    let file: Handle = open_as(&rig, &dir.join("f"), "r").unwrap().cast();
    let mut count = 0;
    while file.line(1 << 20, false).unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 200_000);
    let held = file.with(|opened, _| Ok(opened.held())).unwrap();
    assert!(held <= 512 << 10, "{held}");
    fs::write(dir.join("f"), vec![b'y'; 8 << 20]).unwrap();
    let file: Handle = open_as(&rig, &dir.join("f"), "r").unwrap().cast();
    assert_eq!(file.line(1 << 20, false).unwrap_err().kind, Kind::TooLarge);
    assert!(file.with(|opened, _| Ok(opened.held())).unwrap() <= 3 << 20);
}

#[test]
fn lines_and_bytes_and_places_agree() {
    let (_keep, dir) = folder();
    fs::write(dir.join("f"), "one\ntwo\nthree\n").unwrap();
    let rig = Rig::new(ALL);
    let file = open_as(&rig, &dir.join("f"), "r+").unwrap();
    assert_eq!(line(&rig, &file).unwrap().as_deref(), Some("one"));
    let bytes = rig.call("read_bytes", [file.clone(), options([("length", 2_i64.into())])]).unwrap().into_blob().unwrap();
    assert_eq!(bytes, b"tw");
    let _ = rig.call("write", [file.clone(), "O".into()]).unwrap();
    assert_eq!(rig.call("read", [file.clone()]).unwrap().into_string().unwrap(), "\nthree\n");
    assert_eq!(rig.call("seek", [file.clone(), (-6_i64).into()]).unwrap().as_int().unwrap(), 8);
    assert_eq!(line(&rig, &file).unwrap().as_deref(), Some("three"));
    assert_eq!(line(&rig, &file).unwrap(), None);
    assert_eq!(rig.call("seek", [file, (-100_i64).into()]).unwrap_err().kind, Kind::BadArgument);
    assert_eq!(fs::read_to_string(dir.join("f")).unwrap(), "one\ntwO\nthree\n");
}

#[test]
fn text_that_is_no_text_is_an_error_and_can_be_read_as_bytes_after() {
    let (_keep, dir) = folder();
    fs::write(dir.join("f"), b"ok\n\xff\xfe\n").unwrap();
    let rig = Rig::new(ALL);
    let file = open_as(&rig, &dir.join("f"), "r").unwrap();
    assert_eq!(rig.call("read", [file.clone()]).unwrap_err().kind, Kind::NotText);
    assert_eq!(rig.call("read_bytes", [file]).unwrap().into_blob().unwrap(), b"ok\n\xff\xfe\n");
    let path: Dynamic = dir.join("f").to_str().unwrap().to_owned().into();
    assert_eq!(rig.call("read_lines", [path.clone()]).unwrap_err().kind, Kind::NotText);
    let lines = rig.call("read_lines", [path, options([("lossy", true.into())])]).unwrap().into_array().unwrap();
    assert_eq!(lines[1].clone().into_string().unwrap(), "\u{fffd}\u{fffd}");
}

#[test]
fn the_last_lines_of_a_long_file_and_of_proc_are_right() {
    let (_keep, dir) = folder();
    let text: String = (1..=50_000).map(|n| format!("line {n}\n")).collect();
    fs::write(dir.join("f"), &text).unwrap();
    let rig = Rig::new(ALL);
    let read = |path: &Path, rows| {
        crate::functions::rig::strings(rig.call("read_lines", [path.to_str().unwrap().to_owned().into(), rows]).unwrap())
    };
    assert_eq!(read(&dir.join("f"), options([("count", (-2_i64).into())])), ["line 49999", "line 50000"]);
    assert_eq!(read(&dir.join("f"), options([("count", (-2_i64).into()), ("from", 50_000_i64.into())])), ["line 50000"]);
    assert_eq!(read(&dir.join("f"), options([("from", 49_999_i64.into()), ("count", 1_i64.into())])), ["line 49999"]);
    assert!(read(&dir.join("f"), options([("from", 50_001_i64.into())])).is_empty());
    assert_eq!(read(&dir.join("f"), options([("count", (-20_000_i64).into())])).len(), 20_000);
    // Files of procfs say that their size is 0.
    let whole = fs::read_to_string("/proc/filesystems").unwrap();
    assert_eq!(read(Path::new("/proc/filesystems"), options([("count", (-1_i64).into())])), [whole.lines().last().unwrap()]);
}

#[test]
fn open_files_are_limited_and_closing_gives_one_back() {
    let (_keep, dir) = folder();
    fs::write(dir.join("f"), "").unwrap();
    let rig = Rig::new(ALL);
    let limit = usize::try_from(rig.host.watch.limits.open_files).unwrap();
    let mut held: Vec<Dynamic> = (0..limit).map(|_| open_as(&rig, &dir.join("f"), "r").unwrap()).collect();
    assert_eq!(open_as(&rig, &dir.join("f"), "r").unwrap_err().kind, Kind::Limit);
    let _ = rig.call("close", [held[0].clone()]).unwrap();
    held.push(open_as(&rig, &dir.join("f"), "r").unwrap());
    assert_eq!(open_as(&rig, &dir.join("f"), "r").unwrap_err().kind, Kind::Limit);
    drop(held);
    assert_eq!(open_as(&rig, &dir.join("gone"), "r").unwrap_err().kind, Kind::NotFound);
    let again: Vec<Dynamic> = (0..limit).map(|_| open_as(&rig, &dir.join("f"), "r").unwrap()).collect();
    assert_eq!(again.len(), limit);
}

#[test]
fn a_lock_is_waited_for_no_longer_than_asked_and_freed_by_closing() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    let first = open_as(&rig, &dir.join("f"), "x").unwrap();
    let second = open_as(&rig, &dir.join("f"), "r").unwrap();
    let short = || options([("timeout", 0.1.into())]);
    let _ = rig.call("lock", [first.clone(), short()]).unwrap();
    assert_eq!(rig.call("lock", [second.clone(), short()]).unwrap_err().kind, Kind::Timeout);
    let _ = rig.call("close", [first.clone()]).unwrap();
    let _ = rig.call("lock", [second, short()]).unwrap();
    drop(first);
}
