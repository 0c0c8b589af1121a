//! Tests of head, tail and wc: the reference's faults, both sides of the permission.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::error::Kind;
use crate::functions::rig::{Rig, options, strings};
use crate::functions::value::{Dynamic, Map};

const ALL: &str = "permit(principal, action, resource);";

fn file(text: &[u8]) -> (tempfile::TempDir, Dynamic) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("f");
    std::fs::write(&path, text).unwrap();
    (dir, path.to_str().unwrap().to_owned().into())
}

#[test]
fn tail_is_the_end_whatever_the_sign_and_head_the_beginning() {
    // files.md D4: the reference's `tail::n(5)` is the beginning.
    let (_dir, path) = file(b"1\n2\n3\n4\n5\n6\n7\n");
    let rig = Rig::new(ALL);
    let tail = |n: i64| strings(rig.call("tail", [path.clone(), options([("n", n.into())])]).unwrap());
    assert_eq!(tail(2), ["6", "7"]);
    assert_eq!(tail(-2), ["6", "7"]);
    assert_eq!(tail(0), [""; 0]);
    assert_eq!(strings(rig.call("head", [path.clone(), options([("n", 2_i64.into())])]).unwrap()), ["1", "2"]);
    assert_eq!(strings(rig.call("head", [path.clone(), options([("n", 0_i64.into())])]).unwrap()), [""; 0]);
}

#[test]
fn an_absurd_count_is_no_panic() {
    // files.md C5.
    let (_dir, path) = file(b"1\n2\n");
    let rig = Rig::new(ALL);
    for n in [i64::MIN, i64::MAX] {
        assert_eq!(strings(rig.call("tail", [path.clone(), options([("n", n.into())])]).unwrap()), ["1", "2"]);
    }
}

#[test]
fn reversed_ranges_and_lines_before_the_first_are_errors() {
    // files.md D4: a reversed range reads from the end, a negative `from` gives nothing.
    let (_dir, path) = file(b"1\n2\n3\n");
    let rig = Rig::new(ALL);
    let range = |a: i64, b: i64| options([("range", Dynamic::from_array(vec![a.into(), b.into()]))]);
    assert_eq!(strings(rig.call("tail", [path.clone(), range(2, 3)]).unwrap()), ["2", "3"]);
    for bad in [range(3, 2), range(0, 1), options([("from", (-1_i64).into())]), options([("from", 0_i64.into())])] {
        assert_eq!(rig.call("tail", [path.clone(), bad]).unwrap_err().kind, Kind::BadArgument);
    }
}

#[test]
fn text_that_is_not_utf8_is_an_error_and_the_next_call_sees_the_whole_file() {
    // files.md D8: after a failed read the reference's next call sees nothing.
    let (_dir, path) = file(b"a\n\xff\nb\n");
    let rig = Rig::new(ALL);
    let error = rig.call("tail", [path.clone()]).unwrap_err();
    assert_eq!(error.kind, Kind::NotText);
    assert_eq!(strings(rig.call("tail", [path.clone(), options([("lossy", true.into())])]).unwrap()), ["a", "\u{fffd}", "b"]);
    assert_eq!(rig.call("wc", [path]).unwrap().cast::<Map>()["lines"].as_int(), Ok(3));
}

#[test]
fn a_fifo_is_refused_and_not_waited_for() {
    // files.md C3.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let rig = Rig::new(ALL);
    for name in ["head", "tail", "wc"] {
        let path: Dynamic = path.to_str().unwrap().to_owned().into();
        assert_eq!(rig.call(name, [path]).unwrap_err().kind, Kind::NotAFile, "{name}");
    }
}

#[test]
fn nothing_is_read_without_permission() {
    let (_dir, path) = file(b"1\n");
    let rig = Rig::new("permit(principal, action == file_system::Action::\"stat\", resource);");
    for name in ["head", "tail", "wc"] {
        assert_eq!(rig.call(name, [path.clone()]).unwrap_err().kind, Kind::Denied, "{name}");
    }
}

#[test]
fn limits_end_in_an_error() {
    let (_dir, path) = file(&b"0123456789\n".repeat(100));
    let rig = Rig::new(ALL);
    let few = |n: i64| options([("n", n.into()), ("max_bytes", 500_i64.into())]);
    assert_eq!(rig.call("tail", [path.clone(), few(100)]).unwrap_err().kind, Kind::TooLarge);
    assert_eq!(rig.call("tail", [path, few(3)]).unwrap().into_array().unwrap().len(), 3);
}
