//! Tests of diff, comm, column and strings: forms, edges, and that nothing is dropped silently.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::error::Kind;
use crate::functions::rig::{Rig, maps, options, strings};
use crate::functions::value::{Dynamic, Map};

const ALL: &str = "permit(principal, action, resource);";

fn file(text: &[u8]) -> (tempfile::TempDir, Dynamic) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("f");
    std::fs::write(&path, text).unwrap();
    (dir, path.to_str().unwrap().to_owned().into())
}

fn text(text: &str) -> Dynamic {
    options([("text", text.to_owned().into())])
}

fn rows(rows: &[(&str, Dynamic)]) -> Dynamic {
    Dynamic::from_map(rows.iter().map(|(key, value)| ((*key).into(), value.clone())).collect::<Map>())
}

fn diff(a: &str, b: &str, more: &[(&str, Dynamic)]) -> Result<String, Kind> {
    Rig::new(ALL).call("diff", [text(a), text(b), rows(more)]).map(|value| value.into_string().unwrap()).map_err(|error| error.kind)
}

#[test]
fn differences_have_the_unified_form() {
    let head = "--- a\n+++ b\n";
    let none: &[(&str, Dynamic)] = &[];
    let zero: &[(&str, Dynamic)] = &[("context", Dynamic::from_int(0))];
    for (a, b, more, expected) in [
        ("", "", none, ""),
        ("x\n", "x\n", none, ""),
        ("", "x\n", none, "@@ -0,0 +1 @@\n+x\n"),
        ("x\n", "", none, "@@ -1 +0,0 @@\n-x\n"),
        ("x", "x\n", none, "@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+x\n"),
        ("x\n", "x\r\n", none, "@@ -1 +1 @@\n-x\n+x\r\n"),
        ("1\n2\n3\n", "1\n3\n", zero, "@@ -2 +1,0 @@\n-2\n"),
        ("1\n3\n", "1\n2\n3\n", zero, "@@ -1,0 +2 @@\n+2\n"),
        ("1\n2\n3\n4\n5\n", "1\n2\nX\n4\n5\n", &[("context", Dynamic::from_int(1))], "@@ -2,3 +2,3 @@\n 2\n-3\n+X\n 4\n"),
        ("-- x\n", "++ y\n", none, "@@ -1 +1 @@\n--- x\n+++ y\n"),
    ] {
        let expected = if expected.is_empty() { String::new() } else { format!("{head}{expected}") };
        assert_eq!(diff(a, b, more).unwrap(), expected, "{a:?} {b:?}");
    }
    // Two places far apart are two hunks.
    let lines = |mark: &str| (0..30).map(|n| if n % 20 == 5 { format!("{mark}\n") } else { format!("{n}\n") }).collect::<String>();
    assert_eq!(diff(&lines("a"), &lines("b"), &[]).unwrap().matches("@@ -").count(), 2);
}

#[test]
fn what_does_not_count_is_no_difference() {
    assert_eq!(diff("a  b\nC\n", "a b\nc\n", &[("ignore_space", Dynamic::TRUE), ("ignore_case", Dynamic::TRUE)]).unwrap(), "");
    assert_eq!(diff("a b\n", "ab\r\n", &[("ignore_space", Dynamic::TRUE)]).unwrap(), "");
    let shown = diff("A\nx\n", "a\ny\n", &[("ignore_case", Dynamic::TRUE)]).unwrap();
    assert_eq!(shown, "--- a\n+++ b\n@@ -1,2 +1,2 @@\n A\n-x\n+y\n");
}

#[test]
fn labels_are_names_and_nothing_else() {
    let labels = |list: &[&str]| ("labels", Dynamic::from_array(list.iter().map(|label| (*label).to_owned().into()).collect()));
    assert!(diff("a\n", "b\n", &[labels(&["old", "new"])]).unwrap().starts_with("--- old\n+++ new\n"));
    for bad in [labels(&["one"]), labels(&["a", "b", "c"]), labels(&["a\n+++ x", "b"])] {
        assert_eq!(diff("a\n", "b\n", &[bad]), Err(Kind::BadArgument));
    }
}

#[test]
fn differences_are_bounded_in_size_and_time() {
    assert_eq!(diff(&"a\n".repeat(100), "b\n", &[("max_bytes", 150_i64.into())]), Err(Kind::TooLarge));
    assert_eq!(diff("a\nb\n", "c\nd\n", &[("limit", 3_i64.into())]).unwrap(), "--- a\n+++ b\n@@ -1,2 +1,2 @@\n");
    // Nothing in common: the worst case of the search.
    let (a, b): (String, String) = ((0..40_000).map(|n| format!("a{n}\n")).collect(), (0..40_000).map(|n| format!("b{n}\n")).collect());
    let began = std::time::Instant::now();
    let shown = diff(&a, &b, &[]).unwrap();
    assert_eq!(shown.lines().filter(|line| line.starts_with("-a")).count(), 40_000);
    assert_eq!(shown.lines().filter(|line| line.starts_with("+b")).count(), 40_000);
    // Lines that are all the same, of which one is gone: everything could be moved.
    let same = |lines: usize| "\n".repeat(lines);
    assert_eq!(diff(&same(200_000), &same(199_999), &[]).unwrap().lines().filter(|line| *line == "-").count(), 1);
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    assert_eq!(diff(&same(500_001), "", &[]), Err(Kind::TooLarge));
}

#[test]
fn a_difference_applied_gives_the_new_text() {
    let mut seed = 7_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    for round in 0..200 {
        let mut make = || (0..next() % 12).map(|_| format!("{}\n", next() % 4)).collect::<String>();
        let (a, b) = (make(), make());
        let shown = diff(&a, &b, &[("context", Dynamic::from_int(round % 3))]).unwrap();
        assert_eq!(patched(&a, &shown), b, "{a:?} {b:?}\n{shown}");
    }
}

/// What patch(1) makes of it.
fn patched(old: &str, diff: &str) -> String {
    let old: Vec<&str> = old.split_inclusive('\n').collect();
    let (mut out, mut at) = (String::new(), 0);
    for line in diff.split_inclusive('\n').skip(2) {
        if let Some(header) = line.strip_prefix("@@ -") {
            let range = header.split(' ').next().unwrap();
            let (start, count) = range.split_once(',').map_or((range, 1), |(start, count)| (start, count.parse().unwrap()));
            let start: usize = start.parse().unwrap();
            let start = if count == 0 { start } else { start - 1 };
            out.extend(old[at..start].iter().copied());
            at = start;
            continue;
        }
        match line.split_at(1) {
            (" ", rest) => {
                assert_eq!(old[at], rest);
                out.push_str(rest);
                at += 1;
            }
            ("-", rest) => {
                assert_eq!(old[at], rest);
                at += 1;
            }
            ("+", rest) => out.push_str(rest),
            other => panic!("{other:?}"),
        }
    }
    out.extend(old[at..].iter().copied());
    out
}

#[test]
fn comm_counts_each_line_once_and_keeps_the_order() {
    let rig = Rig::new(ALL);
    let map = rig.call("comm", [text("z\na\nz\nm\r\n"), text("m\nq\nz\nq\n")]).unwrap().cast::<Map>();
    let of = |name: &str| strings(map[name].clone());
    assert_eq!((of("left"), of("right"), of("both")), (vec!["a".to_owned()], vec!["q".to_owned()], vec!["z".to_owned(), "m".to_owned()]));
    let empty = rig.call("comm", [text(""), text("")]).unwrap().cast::<Map>();
    assert!(["left", "right", "both"].iter().all(|name| strings(empty[*name].clone()).is_empty()));
    let many: String = (0..1000).map(|n| format!("{n}\n")).collect();
    let error = rig.call("comm", [text(&many), text(""), rows(&[("max_bytes", 10_000_i64.into())])]).unwrap_err();
    assert_eq!(error.kind, Kind::TooLarge);
}

#[test]
fn columns_line_up_for_any_script_and_stay_in_bounds() {
    let rig = Rig::new(ALL);
    let column = |value: Dynamic, more: &[(&str, Dynamic)]| {
        rig.call("column", [value, rows(more)]).map(|value| value.into_string().unwrap()).map_err(|error| error.kind)
    };
    assert_eq!(column(text("日本 x\na yy\n"), &[]).unwrap(), "日本  x\na     yy");
    assert_eq!(column(text("a:b c:d\n\nlong:e\n"), &[("delim", ":".into())]).unwrap(), "a     b c  d\n\nlong  e");
    assert_eq!(column(text(""), &[]).unwrap(), "");
    assert_eq!(column(Dynamic::from_array(vec![]), &[]).unwrap(), "");
    let mixed = Dynamic::from_array(vec![Dynamic::from_array(vec![1_i64.into()]), "text".into()]);
    assert_eq!(column(mixed, &[]), Err(Kind::BadArgument));
    // Control characters of the host do not reach a terminal as such.
    assert_eq!(column(text("a\u{1b}[31m b\n"), &[]).unwrap(), "a [31m  b");
    // One wide cell would make every line long.
    let wide = format!("{}\n{}", "w".repeat(1000), "x y\n".repeat(5000));
    assert_eq!(column(text(&wide), &[("max_bytes", 100_000_i64.into())]), Err(Kind::TooLarge));
}

#[test]
fn strings_gives_the_last_run_too() {
    // files.md D7: the reference drops it.
    let rig = Rig::new(ALL);
    let find = |bytes: &[u8], more: &[(&str, Dynamic)]| {
        let (_dir, path) = file(bytes);
        rig.call("strings", [path, rows(more)]).map(strings).map_err(|error| error.kind)
    };
    assert_eq!(find(b"abcd", &[]).unwrap(), ["abcd"]);
    assert_eq!(find(b"\0abcd\xffabc\n\tend of it", &[]).unwrap(), ["abcd", "\tend of it"]);
    assert_eq!(find(b"", &[]).unwrap(), [""; 0]);
    assert_eq!(find(b"a\0bc\0", &[("min", 1_i64.into())]).unwrap(), ["a", "bc"]);
    assert_eq!(find(b"abcd\0efgh\0ijkl", &[("limit", 2_i64.into())]).unwrap(), ["abcd", "efgh"]);
    assert_eq!(find(b"abcd", &[("min", 0_i64.into())]), Err(Kind::BadArgument));
    assert_eq!(find(b"abcd", &[("encoding", "ebcdic".into())]), Err(Kind::BadArgument));
    assert_eq!(find(&b"a".repeat(1000), &[("max_bytes", 500_i64.into())]), Err(Kind::TooLarge));
    // Over the edge of a block.
    let long = [b"\0".repeat((64 << 10) - 2), b"edges".to_vec(), b"\0".repeat(70_000), b"again".to_vec()].concat();
    assert_eq!(find(&long, &[]).unwrap(), ["edges", "again"]);
}

#[test]
fn strings_finds_characters_of_two_bytes_at_any_place() {
    let rig = Rig::new(ALL);
    let units = |text: &str, little: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
    };
    for (encoding, little) in [("utf16le", true), ("utf16be", false)] {
        for before in 0..3_usize {
            let bytes = [vec![0xff; before], units("hello", little), vec![0xff; 3], units("world", little)].concat();
            let (_dir, path) = file(&bytes);
            let found = maps(rig.call("strings", [path, rows(&[("encoding", encoding.into()), ("offset", Dynamic::TRUE)])]).unwrap());
            let found: Vec<(i64, String)> =
                found.iter().map(|row| (row["offset"].as_int().unwrap(), row["text"].clone().into_string().unwrap())).collect();
            let at = i64::try_from(before).unwrap();
            assert_eq!(found, [(at, "hello".to_owned()), (at + 13, "world".to_owned())], "{encoding} {before}");
        }
    }
}

#[test]
fn strings_of_what_cannot_be_read_is_an_error() {
    let rig = Rig::new(ALL);
    // A file whose reading fails in the middle: memory of this process that is not there.
    let error = rig.call("strings", ["/proc/self/mem".into()]).unwrap_err();
    assert!(matches!(error.kind, Kind::Io | Kind::Denied | Kind::Permission), "{error:?}");
}
