//! Tests of follow: growth, rotation, truncation, lines without an end, and whose decision a new file is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::error::{Kind, Result};
use crate::functions::rig::Rig;
use crate::functions::value::{Dynamic, Map};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ALL: &str = "permit(principal, action, resource);";

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    (dir, path)
}

fn append(path: &Path, bytes: &[u8]) {
    fs::OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// Follows a path while the steps are done, one every 100 ms.
fn follow(policy: &str, path: &Path, rows: &[(&str, Dynamic)], steps: Vec<Box<dyn FnOnce() + Send>>) -> Result<(i64, String, i64, String)> {
    let rig = Rig::new(policy);
    let options: Map = rows.iter().map(|(key, value)| ((*key).into(), value.clone())).chain([("poll".into(), 0.02.into())]).collect();
    let doing = std::thread::spawn(move || {
        for step in steps {
            std::thread::sleep(Duration::from_millis(100));
            step();
        }
    });
    let result = rig.call("follow", [path.to_str().unwrap().to_owned().into(), Dynamic::from_map(options)]);
    doing.join().unwrap();
    let map = result?.cast::<Map>();
    let text = |name: &str| map[name].clone().into_string().unwrap_or_default();
    Ok((map["lines"].as_int().unwrap(), text("stopped"), map["rotations"].as_int().unwrap(), text("last")))
}

fn ends(lines: i64, stopped: &str, rotations: i64, last: &str) -> (i64, String, i64, String) {
    (lines, stopped.to_owned(), rotations, last.to_owned())
}

#[test]
fn new_lines_come_and_old_ones_only_when_asked_for() {
    let (_dir, dir) = folder();
    let log = dir.join("log");
    fs::write(&log, "1\n2\n3\n").unwrap();
    let add = |text: &'static [u8]| -> Box<dyn FnOnce() + Send> {
        let log = log.clone();
        Box::new(move || append(&log, text))
    };
    let stop = ("stop_at", Dynamic::from("^end"));
    assert_eq!(
        follow(ALL, &log, std::slice::from_ref(&stop), vec![add(b"4\r\n5"), add(b"6\nend of it\nmore\n")]).unwrap(),
        ends(3, "stop_at", 0, "end of it")
    );
    for (from_end, first) in [(1, "more"), (2, "end of it"), (100, "1")] {
        let rows = [("from_end", Dynamic::from_int(from_end)), ("max_lines", 1_i64.into())];
        assert_eq!(follow(ALL, &log, &rows, vec![]).unwrap(), ends(1, "limit", 0, first), "{from_end}");
    }
    assert_eq!(follow(ALL, &log, &[("max_lines", 0_i64.into())], vec![]).unwrap(), ends(0, "limit", 0, ""));
}

#[test]
fn a_last_line_without_an_end_is_held_until_the_time_is_up() {
    let (_dir, dir) = folder();
    let log = dir.join("log");
    fs::write(&log, "one\ntwo").unwrap();
    let rows = |seconds: f64| [("from_end", Dynamic::from_int(2)), ("seconds", Dynamic::from_float(seconds))];
    assert_eq!(follow(ALL, &log, &rows(0.1), vec![]).unwrap(), ends(2, "seconds", 0, "two"));
    // No time at all: what is there now.
    assert_eq!(follow(ALL, &log, &rows(0.0), vec![]).unwrap(), ends(2, "seconds", 0, "two"));
    let log_again = log.clone();
    let step: Box<dyn FnOnce() + Send> = Box::new(move || append(&log_again, b" and more\n"));
    assert_eq!(follow(ALL, &log, &rows(0.5), vec![step]).unwrap(), ends(2, "seconds", 0, "two and more"));
}

#[test]
fn a_rotation_loses_no_line() {
    let (_dir, dir) = folder();
    let (log, old) = (dir.join("log"), dir.join("log.1"));
    fs::write(&log, "before\n").unwrap();
    let steps: Vec<Box<dyn FnOnce() + Send>> = vec![
        Box::new({
            let (log, old) = (log.clone(), old.clone());
            move || {
                append(&log, b"a\n");
                fs::rename(&log, &old).unwrap();
            }
        }),
        // The daemon still has the old one open.
        Box::new(move || append(&old, b"b\nc")),
        Box::new({
            let log = log.clone();
            move || fs::write(&log, "d\n").unwrap()
        }),
        Box::new({
            let log = log.clone();
            move || {
                fs::remove_file(&log).unwrap();
                fs::write(&log, "e\nend\n").unwrap();
            }
        }),
    ];
    // a b c d e end
    assert_eq!(follow(ALL, &log, &[("stop_at", "end".into())], steps).unwrap(), ends(6, "stop_at", 2, "end"));
}

#[test]
fn a_file_that_was_cut_is_read_from_its_beginning() {
    let (_dir, dir) = folder();
    let log = dir.join("log");
    fs::write(&log, "a long line of before\n").unwrap();
    let step: Box<dyn FnOnce() + Send> = Box::new({
        let log = log.clone();
        move || {
            fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
            append(&log, b"new\n");
        }
    });
    assert_eq!(follow(ALL, &log, &[("max_lines", 1_i64.into())], vec![step]).unwrap(), ends(1, "limit", 0, "new"));
}

#[test]
fn a_new_file_is_judged_anew() {
    let (_dir, dir) = folder();
    fs::create_dir(dir.join("vault")).unwrap();
    fs::write(dir.join("vault/secret"), "s3cret\n").unwrap();
    fs::write(dir.join("log.1"), "a\n").unwrap();
    std::os::unix::fs::symlink("log.1", dir.join("log")).unwrap();
    let policy = format!("{ALL} forbid(principal, action, resource in file_system::Dir::\"{}\");", dir.join("vault").display());
    let step: Box<dyn FnOnce() + Send> = Box::new({
        let dir = dir.clone();
        move || {
            std::os::unix::fs::symlink("vault/secret", dir.join("new")).unwrap();
            fs::rename(dir.join("new"), dir.join("log")).unwrap();
        }
    });
    let error = follow(&policy, &dir.join("log"), &[], vec![step]).unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    assert!(!format!("{error:?}").contains("s3cret"));
}

#[test]
fn what_cannot_be_followed_is_an_error_at_once() {
    let (_dir, dir) = folder();
    let log = dir.join("log");
    fs::write(&log, b"\xff\n").unwrap();
    let began = Instant::now();
    let from_end = ("from_end", Dynamic::from_int(1));
    for (name, path, rows, kind) in [
        ("missing", dir.join("absent"), vec![], Kind::NotFound),
        ("directory", dir.clone(), vec![], Kind::IsADirectory),
        ("device", "/dev/zero".into(), vec![], Kind::NotAFile),
        ("no text", log.clone(), vec![from_end.clone()], Kind::NotText),
        ("no pattern", log.clone(), vec![("stop_at", "(".into())], Kind::BadArgument),
        ("too long", log.clone(), vec![("seconds", Dynamic::from_int(1_000_000))], Kind::BadArgument),
    ] {
        let result = follow(ALL, &path, &rows, vec![]);
        assert_eq!(result.map_err(|error| error.kind), Err(kind), "{name}");
    }
    fs::write(&log, b"x".repeat(100_000)).unwrap();
    let rows = [from_end.clone(), ("max_line", 50_000_i64.into())];
    assert_eq!(follow(ALL, &log, &rows, vec![]).map_err(|error| error.kind), Err(Kind::TooLarge));
    assert_eq!(
        follow("permit(principal, action == file_system::Action::\"stat\", resource);", &log, &[], vec![]).unwrap_err().kind,
        Kind::Denied
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    let lossy = [from_end, ("lossy", Dynamic::TRUE), ("seconds", Dynamic::from_float(0.0))];
    fs::write(&log, b"\xff\n").unwrap();
    assert_eq!(follow(ALL, &log, &lossy, vec![]).unwrap(), ends(1, "seconds", 0, "\u{fffd}"));
}

#[test]
fn the_last_lines_of_a_large_file_are_found_from_behind() {
    let (_dir, dir) = folder();
    let log = dir.join("log");
    let lines: String = (0..40_000).map(|n| format!("line {n} {}\n", "x".repeat(n % 50))).collect();
    fs::write(&log, &lines).unwrap();
    for count in [1_i64, 2, 1000, 39_999, 40_000, 50_000] {
        let rows = [("from_end", count.into()), ("seconds", Dynamic::from_float(0.0)), ("stop_at", "^line 39999 ".into())];
        let (got, stopped, ..) = follow(ALL, &log, &rows, vec![]).unwrap();
        assert_eq!((got, stopped.as_str()), (count.min(40_000), "stop_at"), "{count}");
    }
}
