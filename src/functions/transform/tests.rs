//! Tests of sed, replace_text, join_lines and seq: the reference's faults, line ends, limits, what is written and what is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::error::Kind;
use crate::functions::rig::{Rig, options, strings};
use crate::functions::value::{Dynamic, Map};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

const ALL: &str = "permit(principal, action, resource);";

fn file(text: &[u8]) -> (tempfile::TempDir, PathBuf, Dynamic) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("f");
    std::fs::write(&path, text).unwrap();
    let name = path.to_str().unwrap().to_owned().into();
    (dir, path, name)
}

fn text(text: &str) -> Dynamic {
    options([("text", text.to_owned().into())])
}

fn array<const N: usize>(lines: [&str; N]) -> Dynamic {
    Dynamic::from_array(lines.iter().map(|line| (*line).to_owned().into()).collect())
}

fn sed<const N: usize>(rig: &Rig, pattern: &str, new: &str, source: Dynamic, rows: [(&str, Dynamic); N]) -> crate::error::Result<Dynamic> {
    rig.call("sed", [pattern.to_owned().into(), new.to_owned().into(), source, options(rows)])
}

#[test]
fn anchors_and_the_first_match_are_those_of_each_line() {
    // files.md D19: the reference matches the whole text at once.
    let rig = Rig::new(ALL);
    let get = |pattern: &str, new: &str, rows: &[(&str, Dynamic)]| {
        let rows = Dynamic::from_map(rows.iter().map(|(key, value)| ((*key).into(), value.clone())).collect::<Map>());
        rig.call("sed", [pattern.to_owned().into(), new.to_owned().into(), text("aa\naa\nba\n"), rows]).unwrap().into_string().unwrap()
    };
    let regex = ("regex", Dynamic::TRUE);
    assert_eq!(get("^a", "X", std::slice::from_ref(&regex)), "Xa\nXa\nba\n");
    assert_eq!(get("a$", "X", std::slice::from_ref(&regex)), "aX\naX\nbX\n");
    assert_eq!(get("a", "X", &[]), "Xa\nXa\nbX\n");
    assert_eq!(get("a", "X", &[("all", Dynamic::TRUE)]), "XX\nXX\nbX\n");
    assert_eq!(get("A", "X", &[("ignore_case", Dynamic::TRUE), ("lines", 2_i64.into())]), "aa\nXa\nba\n");
    assert_eq!(get("a", "X", &[("lines", (-1_i64).into())]), "aa\naa\nbX\n");
    assert_eq!(get("a", "X", &[("lines", Dynamic::from_array(vec![2_i64.into(), (-1_i64).into()]))]), "aa\nXa\nbX\n");
    assert_eq!(get("^$", "X", &[regex]), "aa\naa\nba\n");
}

#[test]
fn line_ends_stay_as_they_are() {
    let rig = Rig::new(ALL);
    for (old, new) in [
        ("", ""),
        ("a", "b"),
        ("a\n", "b\n"),
        ("a\r\na", "b\r\nb"),
        ("a\r\n\r\na\n\n", "b\r\n\r\nb\n\n"),
        ("\n\n", "\n\n"),
        ("x\0a\n", "x\0b\n"),
        ("a\ra\n", "a\rb\n"),
    ] {
        let got = sed(&rig, "a$", "b", text(old), [("regex", Dynamic::TRUE)]).unwrap();
        assert_eq!(got.into_string().unwrap(), new, "{old:?}");
    }
    assert_eq!(strings(sed(&rig, "a", "b", array(["a", "ca", ""]), []).unwrap()), ["b", "cb", ""]);
    assert_eq!(strings(sed(&rig, "a", "b", array([]), []).unwrap()), [""; 0]);
}

#[test]
fn a_replacement_is_taken_as_it_is_unless_the_pattern_is_a_regular_expression() {
    let rig = Rig::new(ALL);
    assert_eq!(sed(&rig, "a.c", "$0 $HOME ${1}", text("abc a.c"), []).unwrap().into_string().unwrap(), "abc $0 $HOME ${1}");
    let regex = || [("regex", Dynamic::TRUE)];
    let get = |pattern: &str, new: &str| sed(&rig, pattern, new, text("k=v"), regex());
    assert_eq!(get(r"(\w)=(?P<value>\w)", "${value}=$1 $$ $ 5$").unwrap().into_string().unwrap(), "v=k $ $ 5$");
    assert_eq!(get(r"(\w)=(\w)", "${1}x$2").unwrap().into_string().unwrap(), "kxv");
    assert_eq!(get("(x)?k", "[$1]").unwrap().into_string().unwrap(), "[]=v");
    // A group that is none would take text away unseen.
    for bad in ["$HOME", "$2", "$1x", "${nothing}"] {
        let error = get(r"(\w)=", bad).unwrap_err();
        assert_eq!(error.kind, Kind::BadArgument, "{bad}");
    }
}

#[test]
fn arguments_that_make_no_sense_are_errors() {
    let rig = Rig::new(ALL);
    let (_dir, _, path) = file(b"a\n");
    let regex = || ("regex", Dynamic::TRUE);
    let in_place = || ("in_place", Dynamic::TRUE);
    let pair = |a: i64, b: i64| ("lines", Dynamic::from_array(vec![a.into(), b.into()]));
    for (name, result) in [
        ("empty", sed(&rig, "", "b", path.clone(), [])),
        ("newline", sed(&rig, "a\n", "b", path.clone(), [])),
        ("no regex", sed(&rig, "(", "b", path.clone(), [regex()])),
        ("huge regex", sed(&rig, &"\\w{1000}".repeat(100), "b", path.clone(), [regex()])),
        ("long pattern", sed(&rig, &"a".repeat(1 << 20), "b", path.clone(), [])),
        ("line 0", sed(&rig, "a", "b", path.clone(), [("lines", 0_i64.into())])),
        ("reversed", sed(&rig, "a", "b", path.clone(), [pair(3, 2)])),
        ("lossy in place", sed(&rig, "a", "b", path.clone(), [in_place(), ("lossy", Dynamic::TRUE)])),
        ("in place of text", sed(&rig, "a", "b", text("a"), [in_place()])),
        ("in place of lines", sed(&rig, "a", "b", array(["a"]), [in_place()])),
        ("backup of nothing", sed(&rig, "a", "b", path.clone(), [("backup", ".bak".into())])),
        ("backup elsewhere", sed(&rig, "a", "b", path.clone(), [in_place(), ("backup", "/../x".into())])),
        ("empty backup", sed(&rig, "a", "b", path.clone(), [in_place(), ("backup", "".into())])),
    ] {
        assert_eq!(result.map_err(|error| error.kind).map(|_| ()), Err(Kind::BadArgument), "{name}");
    }
}

#[test]
fn in_place_replaces_in_one_step_and_touches_nothing_where_nothing_matches() {
    let (dir, path, name) = file(b"old\r\nold");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let rig = Rig::new(ALL);
    let before = path.metadata().unwrap();
    assert_eq!(sed(&rig, "absent", "x", name.clone(), [("in_place", Dynamic::TRUE)]).unwrap().into_string().unwrap(), "old\r\nold");
    let after = path.metadata().unwrap();
    assert_eq!((before.ino(), before.mtime_nsec(), before.ctime_nsec()), (after.ino(), after.mtime_nsec(), after.ctime_nsec()));
    let new = sed(&rig, "old", "new text", name.clone(), [("in_place", Dynamic::TRUE), ("backup", "~".into())]).unwrap();
    assert_eq!(
        (new.into_string().unwrap().as_str(), std::fs::read(&path).unwrap().as_slice()),
        ("new text\r\nnew text", &b"new text\r\nnew text"[..])
    );
    let after = path.metadata().unwrap();
    assert_ne!(before.ino(), after.ino());
    assert_eq!(after.mode() & 0o7777, 0o640);
    // The backup shows the old text to nobody who might not see the file.
    let backup = dir.path().join("f~");
    assert_eq!(std::fs::read(&backup).unwrap(), b"old\r\nold");
    assert_eq!(backup.metadata().unwrap().mode() & 0o7777, 0o640);
    // Again: the backup is now of the text before.
    let _ = sed(&rig, "new", "newer", name, [("in_place", Dynamic::TRUE), ("backup", "~".into())]).unwrap();
    assert_eq!(std::fs::read(&backup).unwrap(), b"new text\r\nnew text");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_backup_goes_to_nothing_that_others_could_read() {
    let (dir, path, name) = file(b"secret\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let rig = Rig::new(ALL);
    let backup = dir.path().join("f.bak");
    let tries = || sed(&rig, "secret", "public", name.clone(), [("in_place", Dynamic::TRUE), ("backup", ".bak".into())]);
    std::fs::write(&backup, "theirs").unwrap();
    std::fs::set_permissions(&backup, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(tries().unwrap_err().kind, Kind::Exists);
    assert_eq!(std::fs::read(&backup).unwrap(), b"theirs");
    std::fs::remove_file(&backup).unwrap();
    std::fs::write(dir.path().join("other"), "other").unwrap();
    std::os::unix::fs::symlink("other", &backup).unwrap();
    assert_eq!(tries().unwrap_err().kind, Kind::Exists);
    assert_eq!(std::fs::read(dir.path().join("other")).unwrap(), b"other");
    assert_eq!(std::fs::read(&path).unwrap(), b"secret\n");
}

#[test]
fn in_place_changes_what_a_link_leads_to() {
    let (dir, path, _) = file(b"a\n");
    let link = dir.path().canonicalize().unwrap().join("link");
    std::os::unix::fs::symlink("f", &link).unwrap();
    let rig = Rig::new(ALL);
    let _ = sed(&rig, "a", "b", link.to_str().unwrap().to_owned().into(), [("in_place", Dynamic::TRUE)]).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"b\n");
    assert!(link.symlink_metadata().unwrap().is_symlink());
}

#[test]
fn in_place_needs_both_read_and_write_and_denied_writes_nothing() {
    let (_dir, path, name) = file(b"a\n");
    for policy in [
        "permit(principal, action == file_system::Action::\"read\", resource);",
        "permit(principal, action == file_system::Action::\"write\", resource);",
        "permit(principal, action, resource); forbid(principal, action == file_system::Action::\"create\", resource);",
    ] {
        let result = sed(&Rig::new(policy), "a", "b", name.clone(), [("in_place", Dynamic::TRUE), ("backup", ".bak".into())]);
        assert_eq!(result.unwrap_err().kind, Kind::Denied, "{policy}");
        assert_eq!(std::fs::read(&path).unwrap(), b"a\n");
    }
}

#[test]
fn text_that_is_none_is_an_error_and_never_written_back() {
    let (_dir, path, name) = file(b"ok\na\xff\n");
    let rig = Rig::new(ALL);
    for in_place in [false, true] {
        let error = sed(&rig, "a", "b", name.clone(), [("in_place", in_place.into())]).unwrap_err();
        assert_eq!(error.kind, Kind::NotText);
        assert!(error.message.contains("line 2"), "{}", error.message);
        assert!(error.path.is_some());
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"ok\na\xff\n");
    assert_eq!(sed(&rig, "a", "b", name, [("lossy", Dynamic::TRUE)]).unwrap().into_string().unwrap(), "ok\nb\u{fffd}\n");
}

#[test]
fn results_have_a_bound() {
    let (_dir, path, name) = file(&b"aaaaaaaaaa\n".repeat(100));
    let rig = Rig::new(ALL);
    let bound = |bytes: i64| ("max_bytes", Dynamic::from_int(bytes));
    for (name_of, result) in [
        ("source", sed(&rig, "a", "b", name.clone(), [bound(100)])),
        ("in place", sed(&rig, "a", "b", name.clone(), [bound(100), ("in_place", Dynamic::TRUE)])),
        ("result", sed(&rig, "a", &"x".repeat(100), name.clone(), [bound(5000), ("all", Dynamic::TRUE)])),
        ("groups", sed(&rig, "(a+)", &"$1".repeat(10_000), name.clone(), [bound(50_000), ("regex", Dynamic::TRUE)])),
        (
            "result in place",
            sed(&rig, "a", &"x".repeat(100), name.clone(), [bound(5000), ("all", Dynamic::TRUE), ("in_place", Dynamic::TRUE)]),
        ),
        ("array", sed(&rig, "a", &"x".repeat(100), array(["a", "a"]), [bound(150)])),
        (
            "replace_text",
            rig.call("replace_text", ["aa".into(), "a".into(), "xxxxxxxxxx".into(), options([("all", Dynamic::TRUE), bound(15)])]),
        ),
        ("join_lines", rig.call("join_lines", [array(["aaaa", "bbbb"]), ",".into(), options([bound(8)])])),
    ] {
        assert_eq!(result.map_err(|error| error.kind).map(|_| ()), Err(Kind::TooLarge), "{name_of}");
    }
    assert_eq!(std::fs::read(path).unwrap(), b"aaaaaaaaaa\n".repeat(100));
    assert_eq!(
        rig.call("join_lines", [array(["aaaa", "bbbb"]), ",".into(), options([bound(9)])]).unwrap().into_string().unwrap(),
        "aaaa,bbbb"
    );
}

#[test]
fn a_line_of_a_mebibyte_is_a_line() {
    let (_dir, _, name) = file(&[b"a".repeat(1 << 20), b"\nb".to_vec()].concat());
    let rig = Rig::new(ALL);
    let got = sed(&rig, "a$", "X", name, [("regex", Dynamic::TRUE)]).unwrap().into_string().unwrap();
    assert_eq!((got.len(), &got[got.len() - 4..]), ((1 << 20) + 2, "aX\nb"));
}

#[test]
fn replace_text_is_about_the_whole_text() {
    let rig = Rig::new(ALL);
    let get = |rows: &[(&str, Dynamic)], old: &str, new: &str| {
        let rows = Dynamic::from_map(rows.iter().map(|(key, value)| ((*key).into(), value.clone())).collect::<Map>());
        rig.call("replace_text", ["a\nab\n".into(), old.to_owned().into(), new.to_owned().into(), rows]).unwrap().into_string().unwrap()
    };
    assert_eq!(get(&[], "a", "X"), "X\nab\n");
    assert_eq!(get(&[("replace_all", Dynamic::TRUE)], "a", "X"), "X\nXb\n");
    assert_eq!(get(&[("is_regex", Dynamic::TRUE), ("all", Dynamic::TRUE)], "^a", "X"), "X\nab\n");
    assert_eq!(get(&[("regex", Dynamic::TRUE), ("all", Dynamic::TRUE)], "(?m)^a", "X"), "X\nXb\n");
    assert_eq!(get(&[("regex", Dynamic::TRUE), ("all", Dynamic::TRUE)], "x*", "-"), "-a-\n-a-b-\n-");
    assert_eq!(get(&[], "absent", "X"), "a\nab\n");
}

#[test]
fn seq_neither_wraps_nor_grows_without_end() {
    // files.md C6.
    let rig = Rig::new(ALL);
    let seq = |first: i64, last: i64, step: i64| {
        let result = rig.call("seq", [first.into(), last.into(), options([("step", step.into())])]);
        result.map_err(|error| error.kind).map(|list| list.into_typed_array::<i64>().unwrap())
    };
    assert_eq!(seq(1, 3, 1), Ok(vec![1, 2, 3]));
    assert_eq!(seq(3, 1, -1), Ok(vec![3, 2, 1]));
    assert_eq!(seq(1, 6, 2), Ok(vec![1, 3, 5]));
    assert_eq!((seq(3, 1, 1), seq(1, 3, -1)), (Ok(vec![]), Ok(vec![])));
    assert_eq!((seq(5, 5, 1), seq(5, 5, -7)), (Ok(vec![5]), Ok(vec![5])));
    assert_eq!(seq(i64::MAX - 1, i64::MAX, 1), Ok(vec![i64::MAX - 1, i64::MAX]));
    assert_eq!(seq(i64::MAX - 2, i64::MAX, 4), Ok(vec![i64::MAX - 2]));
    assert_eq!(seq(i64::MIN + 1, i64::MIN, -1), Ok(vec![i64::MIN + 1, i64::MIN]));
    assert_eq!(seq(i64::MIN, i64::MAX, i64::MAX), Ok(vec![i64::MIN, -1, i64::MAX - 1]));
    assert_eq!(seq(i64::MAX, i64::MIN, i64::MIN), Ok(vec![i64::MAX, -1]));
    assert_eq!(seq(1, 100_000, 1).map(|list| list.len()), Ok(100_000));
    for (first, last) in [(1, 100_001), (1, 10_000_000_000), (i64::MIN, i64::MAX)] {
        assert_eq!(seq(first, last, 1), Err(Kind::TooLarge));
    }
    assert_eq!(seq(1, 2, 0), Err(Kind::BadArgument));
}

#[test]
fn a_file_that_somebody_else_wrote_to_is_not_as_it_was_pinned() {
    use crate::functions::function::Call;
    let (_dir, path, _) = file(b"a\n");
    let rig = Rig::new(ALL);
    let call = Call::new(&rig.host, crate::functions::by_name("sed").unwrap(), None);
    let pinned = || {
        let name = crate::resource::path::AbsPath::new(path.to_str().unwrap()).unwrap();
        call.permit::<crate::functions::file_write::Write>(crate::resource::file::File::locate(&name).unwrap()).unwrap()
    };
    let granted = pinned();
    assert!(crate::sys::file::is_as_pinned(&granted).unwrap());
    let append = || std::io::Write::write_all(&mut std::fs::OpenOptions::new().append(true).open(&path).unwrap(), b"b\n").unwrap();
    append();
    assert!(!crate::sys::file::is_as_pinned(&granted).unwrap());
    assert!(crate::sys::file::is_as_pinned(&pinned()).unwrap());
}
