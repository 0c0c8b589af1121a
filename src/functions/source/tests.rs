//! What reads text: through redaction where only that is permitted, with no way around it; from open files at their place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::config::Lines as Shown;
use crate::functions::rig::{Rig, maps, options, strings};
use crate::sys::redact::{HIDDEN, rules};
use std::fs;
use std::path::{Path, PathBuf};

const ALL: &str = "permit(principal, action, resource);";
/// Redacted reading only.
const VEILED: &str = "permit(principal, action == file_system::Action::\"redacted_read\", resource);";
/// Every function on text that is there, with what it needs besides the source.
const LOG: &str = "start 1\nuser joe logged in\npassword is hunter2\nend\n";
const SEEN: &str = "start 1\n[REDACTED]\n[REDACTED]\nend\n";

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let real = fs::canonicalize(dir.path()).unwrap();
    (dir, real)
}
fn at(path: &Path) -> Dynamic {
    path.to_str().unwrap().to_owned().into()
}
fn veiled() -> Rig {
    Rig::with_redaction(VEILED, || rules(Shown::Listed, &[], Some((b"start %d\nend\n", "d"))))
}
fn open(rig: &Rig, path: &Path) -> Dynamic {
    rig.call("open", [at(path)]).unwrap()
}
fn text(value: Dynamic) -> String {
    value.into_string().unwrap()
}
fn int(key: &str, n: i64) -> Dynamic {
    options([(key, n.into())])
}

#[test]
fn every_function_on_text_sees_the_redacted_text() {
    let (_keep, dir) = folder();
    let path = dir.join("log");
    fs::write(&path, LOG).unwrap();
    let rig = veiled();
    assert_eq!(text(rig.call("cat", [at(&path)]).unwrap()), SEEN);
    assert_eq!(text(rig.call("cat", [at(&path), options([("offset", 8_i64.into()), ("length", 10_i64.into())])]).unwrap()), HIDDEN);
    assert_eq!(rig.call("cat", [at(&path), int("max_bytes", SEEN.len() as i64 - 1)]).unwrap_err().kind, Kind::TooLarge);
    assert_eq!(strings(rig.call("read_lines", [at(&path)]).unwrap()), SEEN.lines().collect::<Vec<_>>());
    assert_eq!(strings(rig.call("head", [at(&path), int("n", 2)]).unwrap()), ["start 1", HIDDEN]);
    assert_eq!(strings(rig.call("tail", [at(&path), int("n", 2)]).unwrap()), [HIDDEN, "end"]);
    let counts = rig.call("wc", [at(&path)]).unwrap().cast::<Map>();
    assert_eq!((counts["lines"].as_int(), counts["bytes"].as_int()), (Ok(4), Ok(SEEN.len() as i64)));
    let file = open(&rig, &path);
    assert_eq!(text(rig.call("read", [file.clone()]).unwrap()), SEEN);
    assert_eq!(rig.call("seek", [file.clone(), (-4_i64).into()]).unwrap().as_int(), Ok(SEEN.len() as i64 - 4));
    assert_eq!(text(rig.call("read_line", [file.clone()]).unwrap()), "end");
    assert_eq!(rig.call("seek", [file.clone(), 8_i64.into()]).unwrap().as_int(), Ok(8));
    assert_eq!(strings(rig.call("grep", ["".into(), file.clone()]).unwrap()), [HIDDEN, HIDDEN, "end"]);
    assert!(rig.call("read_line", [file]).unwrap().is_unit());
}

#[test]
fn a21_redacted_text_is_no_oracle() {
    let (_keep, dir) = folder();
    let path = dir.join("log");
    fs::write(&path, LOG).unwrap();
    let rig = veiled();
    for pattern in ["hunter2", "password", "h.nter", "^user", "joe|nobody"] {
        for options in [options([]), options([("count", true.into())]), options([("only_matching", true.into())])] {
            let found = strings(rig.call("grep", [pattern.into(), at(&path), options]).unwrap());
            assert!(found.is_empty() || found == ["0"], "{pattern}: {found:?}");
        }
        assert_eq!(strings(rig.call("grep", [pattern.into(), at(&path), options([("invert", true.into())])]).unwrap()).len(), 4);
    }
    // Offsets, counts and sizes do not depend on what is hidden.
    let answers = |secret: &str| {
        fs::write(&path, format!("start 1\n{secret}\nend\n")).unwrap();
        let found = maps(rig.call("grep", ["end".into(), at(&path), options([("output", "entries".into())])]).unwrap());
        let place = rig.call("seek", [open(&rig, &path), (-1_i64).into()]).unwrap().as_int().unwrap();
        (found[0]["offset"].as_int().unwrap(), place, format!("{:?}", rig.call("wc", [at(&path)]).unwrap()))
    };
    assert_eq!(answers("x"), answers(&"a much longer secret \u{e9} ".repeat(5000)));
}

#[test]
fn bytes_need_read_and_what_is_denied_is_read() {
    let (_keep, dir) = folder();
    let path = dir.join("log");
    fs::write(&path, LOG).unwrap();
    let rig = veiled();
    for name in ["read_bytes", "elf_info"] {
        assert_eq!(rig.call(name, [at(&path)]).unwrap_err().kind, Kind::Denied, "{name}");
        assert_eq!(rig.call(name, [open(&rig, &path)]).unwrap_err().kind, Kind::Denied, "{name}");
    }
    for mode in ["r+", "w+", "a"] {
        assert_eq!(rig.call("open", [at(&path), mode.into()]).unwrap_err().kind, Kind::Denied, "{mode}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), LOG);
    let neither = Rig::new("permit(principal, action == file_system::Action::\"stat\", resource);");
    for name in ["cat", "read_lines", "head", "tail", "wc", "open"] {
        let denial = neither.call(name, [at(&path)]).unwrap_err();
        assert_eq!((denial.kind, denial.denial.unwrap().action.as_str()), (Kind::Denied, "file_system::Action::\"read\""), "{name}");
    }
    let whole = Rig::new(ALL);
    assert_eq!(text(whole.call("cat", [at(&path)]).unwrap()), LOG);
    // A directory has no text to be redacted.
    assert_eq!(rig.call("grep", ["x".into(), at(&dir), options([("recursive", true.into())])]).unwrap_err().kind, Kind::Denied);
    let missing = rig.call("cat", [at(&dir.join("missing"))]).unwrap_err();
    assert_eq!(missing.kind, Kind::NotFound);
}

#[test]
fn rules_that_cannot_be_used_show_nothing() {
    let (_keep, dir) = folder();
    let path = dir.join("log");
    fs::write(&path, LOG).unwrap();
    let rig = Rig::with_redaction(VEILED, || rules(Shown::Listed, &[], Some((b"start %d\n%y\n", "/etc/rex/redaction"))));
    for name in ["cat", "read_lines", "head", "tail", "wc", "open"] {
        let error = rig.call(name, [at(&path)]).unwrap_err();
        assert_eq!(error.kind, Kind::Config, "{name}");
        assert!(error.message.starts_with("/etc/rex/redaction:2: "), "{}", error.message);
    }
    let whole = Rig::with_redaction(ALL, || Err(Error::new(Kind::Config, "never asked for")));
    assert_eq!(text(whole.call("cat", [at(&path)]).unwrap()), LOG);
}

#[test]
fn packed_files_are_unpacked_before_they_are_redacted_and_searched() {
    use std::io::Write as _;
    let (_keep, dir) = folder();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(LOG.as_bytes()).unwrap();
    fs::write(dir.join("log.gz"), packed.finish().unwrap()).unwrap();
    let rig = veiled();
    assert!(strings(rig.call("grep", ["hunter2".into(), at(&dir.join("log.gz"))]).unwrap()).is_empty());
    assert_eq!(strings(rig.call("grep", ["start|end".into(), at(&dir.join("log.gz"))]).unwrap()), ["start 1", "end"]);
    assert_eq!(strings(Rig::new(ALL).call("grep", ["hunter2".into(), at(&dir.join("log.gz"))]).unwrap()).len(), 1);
}

#[test]
fn a_tree_is_searched_file_by_file_as_each_may_be_seen() {
    let (_keep, dir) = folder();
    for name in ["clear", "veiled", "closed"] {
        fs::write(dir.join(name), LOG).unwrap();
    }
    let policy = "permit(principal, action == file_system::Action::\"read\", resource) when { resource.path like \"*/clear\" || resource is file_system::Dir };
         permit(principal, action == file_system::Action::\"redacted_read\", resource) when { resource.path like \"*/veiled\" };";
    let rig = Rig::with_redaction(policy, || rules(Shown::Listed, &[], Some((b"end", "d"))));
    let found = |pattern: &str| {
        let rows = maps(rig.call("grep", [pattern.into(), at(&dir), options([("recursive", true.into())])]).unwrap());
        rows.iter().map(|row| text(row["path"].clone()).rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found("hunter2"), ["clear"]);
    assert_eq!(found("^end$"), ["clear", "veiled"]);
}

#[test]
fn places_in_redacted_text_can_be_gone_to_in_any_order() {
    let (_keep, dir) = folder();
    let path = dir.join("log");
    let log: String =
        (0..20_000).map(|n| if n % 3 == 0 { format!("start {n}\n") } else { format!("secret {}\n", "s".repeat(n % 50)) }).collect();
    let seen: String = (0..20_000).map(|n| if n % 3 == 0 { format!("start {n}\n") } else { format!("{HIDDEN}\n") }).collect();
    fs::write(&path, &log).unwrap();
    let rig = veiled();
    let file = open(&rig, &path);
    for place in [seen.len() - 5, 100_000, 99_999, 3, 150_000, 0] {
        let _ = rig.call("seek", [file.clone(), i64::try_from(place).unwrap().into()]).unwrap();
        assert_eq!(text(rig.call("read", [file.clone()]).unwrap()), seen[place..], "{place}");
    }
    let last: Vec<&str> = seen.lines().rev().take(30).collect();
    let got = strings(rig.call("tail", [at(&path), int("n", 30)]).unwrap());
    assert_eq!(got.iter().rev().map(String::as_str).collect::<Vec<_>>(), last);
}

#[test]
fn e10_an_open_file_gives_page_after_page_and_is_left_behind_each() {
    let (_keep, dir) = folder();
    fs::write(dir.join("f"), "1\n2\r\n3\n4\n5").unwrap();
    let rig = Rig::new(ALL);
    let file = open(&rig, &dir.join("f"));
    let page = |n: i64| strings(rig.call("read_lines", [file.clone(), int("count", n)]).unwrap());
    assert_eq!(
        (page(2), page(2), page(2), page(2)),
        (vec!["1".into(), "2".into()], vec!["3".into(), "4".into()], vec!["5".into()], vec![])
    );
    let _ = rig.call("seek", [file.clone(), 2_i64.into()]).unwrap();
    assert_eq!(strings(rig.call("head", [file.clone(), int("n", 1)]).unwrap()), ["2"]);
    assert_eq!(strings(rig.call("tail", [file.clone(), int("n", 9)]).unwrap()), ["3", "4", "5"]);
    assert_eq!(strings(rig.call("tail", [file.clone(), int("n", 9)]).unwrap()), [""; 0]);
    let _ = rig.call("seek", [file.clone(), 5_i64.into()]).unwrap();
    assert_eq!(rig.call("wc", [file.clone()]).unwrap().cast::<Map>()["lines"].as_int(), Ok(2));
    let _ = rig.call("seek", [file.clone(), 5_i64.into()]).unwrap();
    assert_eq!(strings(rig.call("grep", [".".into(), file.clone()]).unwrap()), ["3", "4", "5"]);
    assert!(rig.call("read_line", [file]).unwrap().is_unit());
}

#[test]
fn d8_after_an_error_an_open_file_is_where_it_was() {
    let (_keep, dir) = folder();
    fs::write(dir.join("f"), b"one\ntwo\n\xff\xfe\nfour\n").unwrap();
    let rig = Rig::new(ALL);
    let file = open(&rig, &dir.join("f"));
    assert_eq!(text(rig.call("read_line", [file.clone()]).unwrap()), "one");
    let fails = |name: &str, kind: Kind, options: Dynamic| {
        let args = if name == "grep" { vec!["".into(), file.clone(), options] } else { vec![file.clone(), options] };
        let error = match args.len() {
            3 => rig.call(name, <[Dynamic; 3]>::try_from(args).unwrap()),
            _ => rig.call(name, <[Dynamic; 2]>::try_from(args).unwrap()),
        };
        assert_eq!(error.unwrap_err().kind, kind, "{name}");
        assert_eq!(rig.call("wc", [file.clone()]).unwrap().cast::<Map>()["lines"].as_int(), Ok(3), "{name}");
        let _ = rig.call("seek", [file.clone(), 4_i64.into()]).unwrap();
    };
    fails("read", Kind::NotText, options([]));
    fails("read_lines", Kind::NotText, options([]));
    fails("head", Kind::NotText, options([]));
    fails("tail", Kind::NotText, options([]));
    fails("grep", Kind::NotText, options([]));
    fails("grep", Kind::TooLarge, options([("max_bytes", 1_i64.into()), ("lossy", true.into())]));
    fails("read_lines", Kind::TooLarge, int("max_line", 2));
    fails("read", Kind::TooLarge, int("max_bytes", 3));
}

#[test]
fn lines_and_text_are_taken_like_files() {
    let rig = Rig::new("forbid(principal, action, resource);");
    let lines = || Dynamic::from_array(vec!["a b".into(), "c".into(), "/etc/passwd".into()]);
    assert_eq!(strings(rig.call("head", [lines(), int("n", 1)]).unwrap()), ["a b"]);
    assert_eq!(strings(rig.call("tail", [lines(), int("n", 1)]).unwrap()), ["/etc/passwd"]);
    assert_eq!(strings(rig.call("tail", [lines(), int("from", 2)]).unwrap()), ["c", "/etc/passwd"]);
    assert_eq!(
        strings(rig.call("read_lines", [lines(), options([("from", 2_i64.into()), ("count", (-1_i64).into())])]).unwrap()),
        ["/etc/passwd"]
    );
    assert_eq!(rig.call("wc", [lines()]).unwrap().cast::<Map>()["words"].as_int(), Ok(4));
    assert_eq!(strings(rig.call("head", ["a\r\nb\n".into()]).unwrap()), ["a", "b"]);
    assert_eq!(strings(rig.call("grep", ["b".into(), options([("lines", lines())])]).unwrap()), ["a b"]);
    assert_eq!(strings(rig.call("grep", ["b".into(), options([("text", "/x\n/b".into())])]).unwrap()), ["/b"]);
    let mixed = rig.call("grep", ["b".into(), Dynamic::from_array(vec!["abc\n".into()])]).unwrap_err();
    assert_eq!((mixed.kind, mixed.hint.is_some()), (Kind::BadArgument, true));
    assert_eq!(rig.call("wc", ["./passwd".into()]).unwrap_err().kind, Kind::BadArgument);
    assert_eq!(rig.call("wc", [Dynamic::from_array(vec![1_i64.into()])]).unwrap_err().kind, Kind::BadArgument);
}
