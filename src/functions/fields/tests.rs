//! Tests of the awk_ functions and cut: delimiters, fields that are not there, numbers, ranges, limits.
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

fn text(text: &str) -> Dynamic {
    options([("text", text.to_owned().into())])
}

fn rows(rows: &[(&str, Dynamic)]) -> Dynamic {
    Dynamic::from_map(rows.iter().map(|(key, value)| ((*key).into(), value.clone())).collect::<Map>())
}

#[test]
fn one_space_is_any_blanks_and_any_other_delimiter_is_itself() {
    // files.md D19: the reference gives empty fields between blanks.
    let rig = Rig::new(ALL);
    let split = |text: &str, delim: &str| strings(rig.call("awk_split", [text.to_owned().into(), delim.to_owned().into()]).unwrap());
    assert_eq!(split("  a \t b\tc ", " "), ["a", "b", "c"]);
    assert_eq!(split("", " "), [""; 0]);
    assert_eq!(split("", ","), [""]);
    assert_eq!(split("a,,b,", ","), ["a", "", "b", ""]);
    assert_eq!(split("a  b", "  "), ["a", "b"]);
    assert_eq!(split("a\tb c", "\t"), ["a", "b c"]);
    let field = |number: i64, delim: &str, lines: &str| {
        strings(rig.call("awk_field", [number.into(), delim.to_owned().into(), text(lines)]).unwrap())
    };
    assert_eq!(field(2, " ", " a   b \nc\n\t x\t\ty\n"), ["b", "y"]);
    assert_eq!(field(0, " ", " a  b\n\nc"), [" a  b", "", "c"]);
    assert_eq!(field(2, ":", "a:b\r\nc:d\r\n"), ["b", "d"]);
    assert_eq!(field(i64::MAX, " ", "a b\n"), [""; 0]);
    for bad in [rig.call("awk_split", ["a".into(), "".into()]), rig.call("awk_field", [1_i64.into(), "".into(), text("a")])] {
        assert_eq!(bad.unwrap_err().kind, Kind::BadArgument);
    }
    assert_eq!(field(-1, " ", " a  b \n\nc"), ["b", "c"]);
    assert_eq!(field(-2, ":", "a::b\nc"), [""]);
    assert_eq!(field(i64::MIN, " ", "a b\n"), [""; 0]);
}

#[test]
fn filters_look_for_the_text_itself_unless_told_otherwise() {
    let rig = Rig::new(ALL);
    let lines = "a.b c\nA.B c\naxb d\n";
    let filter = |pattern: &str, more: &[(&str, Dynamic)]| {
        strings(rig.call("awk_filter", [pattern.to_owned().into(), text(lines), rows(more)]).unwrap())
    };
    assert_eq!(filter("a.b", &[]), ["a.b c"]);
    assert_eq!(filter("a.b", &[("regex", Dynamic::TRUE)]), ["a.b c", "axb d"]);
    assert_eq!(filter("a.b", &[("ignore_case", Dynamic::TRUE)]), ["a.b c", "A.B c"]);
    assert_eq!(filter("a.b", &[("invert", Dynamic::TRUE)]), ["A.B c", "axb d"]);
    assert_eq!(filter("", &[("limit", 2_i64.into())]), ["a.b c", "A.B c"]);
    assert_eq!(filter("", &[("limit", 0_i64.into())]), [""; 0]);
    let field = |number: i64| strings(rig.call("awk_filter_field", [number.into(), " ".into(), "c".into(), text(lines)]).unwrap());
    assert_eq!((field(2), field(1), field(3)), (vec!["a.b c".to_owned(), "A.B c".to_owned()], vec![], vec![]));
    let error = rig.call("awk_filter", ["(".into(), text(lines), rows(&[("regex", Dynamic::TRUE)])]).unwrap_err();
    assert_eq!(error.kind, Kind::BadArgument);
}

#[test]
fn ranges_are_by_number_or_by_text() {
    let rig = Rig::new(ALL);
    let range = |first: Dynamic, last: Dynamic, more: &[(&str, Dynamic)]| {
        rig.call("awk_filter_range", [first, last, text("1\nB\n2\nE\n3\nB E\n4\nB\n5"), rows(more)]).map(strings)
    };
    let by_number = |first: i64, last: i64| range(first.into(), last.into(), &[]).map_err(|error| error.kind);
    assert_eq!(by_number(2, 3).unwrap(), ["B", "2"]);
    assert_eq!(by_number(8, i64::MAX).unwrap(), ["B", "5"]);
    assert_eq!(by_number(100, 200).unwrap(), [""; 0]);
    for (first, last) in [(0, 1), (3, 2), (-1, 1)] {
        assert_eq!(by_number(first, last), Err(Kind::BadArgument));
    }
    assert_eq!(range("B".into(), "E".into(), &[]).unwrap(), ["B", "2", "E", "B E", "B", "5"]);
    assert_eq!(range("B".into(), 3_i64.into(), &[("limit", 3_i64.into())]).unwrap(), ["B", "2", "B E"]);
    assert_eq!(range(2_i64.into(), 8_i64.into(), &[("invert", Dynamic::TRUE)]).unwrap(), ["1", "5"]);
}

#[test]
fn sums_are_of_numbers_alone() {
    let rig = Rig::new(ALL);
    let sum = |lines: &str| rig.call("awk_sum", [1_i64.into(), ",".into(), text(lines)]).unwrap().as_float().unwrap();
    for (lines, expected) in [
        ("", 0.0),
        ("1\n2.5\n-0.5\n1e2", 103.0),
        ("12\r\n30\r\n", 42.0),
        ("x\nnan\ninf\ninfinity\n0x10\n1_000\n\n 7 \n", 7.0),
        ("1e999\n", f64::INFINITY),
        ("0.1\n0.1\n0.1\n0.1\n0.1\n0.1\n0.1\n0.1\n0.1\n0.1\n", 1.0),
    ] {
        let got = sum(lines);
        assert!((got - expected).abs() < f64::EPSILON || got.total_cmp(&expected).is_eq(), "{lines:?}: {got}");
    }
}

#[test]
fn values_are_counted_and_their_number_is_bounded() {
    let rig = Rig::new(ALL);
    let count = |lines: &str, more: &[(&str, Dynamic)]| {
        rig.call("awk_count_unique", [2_i64.into(), ",".into(), text(lines), rows(more)]).map(|map| map.cast::<Map>())
    };
    let map = count("a,x\nb,y\nc\nd,x\ne,\n", &[]).unwrap();
    let pairs: Vec<(String, i64)> = map.into_iter().map(|(key, value)| (key.to_string(), value.as_int().unwrap())).collect();
    assert_eq!(pairs, [(String::new(), 1), ("x".to_owned(), 2), ("y".to_owned(), 1)]);
    let many: String = (0..1000).map(|n| format!("a,{n}\n")).collect();
    assert_eq!(count(&many, &[]).unwrap().len(), 1000);
    assert_eq!(count(&many, &[("max_bytes", 1000_i64.into())]).unwrap_err().kind, Kind::TooLarge);
}

#[test]
fn results_and_lines_are_bounded_and_limits_stop_early() {
    let (_dir, path) = file(&[b"short\n".to_vec(), b"x".repeat(2 << 20), b"\n".to_vec()].concat());
    let rig = Rig::new(ALL);
    let field = |more: &[(&str, Dynamic)]| rig.call("awk_field", [0_i64.into(), " ".into(), path.clone(), rows(more)]);
    assert_eq!(field(&[("max_bytes", (1_i64 << 20).into())]).unwrap_err().kind, Kind::TooLarge);
    assert_eq!(strings(field(&[("max_bytes", (1_i64 << 20).into()), ("limit", 1_i64.into())]).unwrap()), ["short"]);
    assert_eq!(strings(field(&[]).unwrap())[1].len(), 2 << 20);
    // Many empty lines are not free.
    let empty = text(&"\n".repeat(1000));
    let error = rig.call("awk_field", [0_i64.into(), " ".into(), empty, rows(&[("max_bytes", 1000_i64.into())])]).unwrap_err();
    assert_eq!(error.kind, Kind::TooLarge);
}

#[test]
fn bytes_that_are_no_text_are_an_error_with_their_line() {
    let (_dir, path) = file(b"1 ok\n2 \xff\n3 \0\n");
    let rig = Rig::new(ALL);
    let error = rig.call("awk_sum", [1_i64.into(), " ".into(), path.clone()]).unwrap_err();
    assert_eq!((error.kind, error.message.contains("line 2"), error.path.is_some()), (Kind::NotText, true, true));
    let lossy = || rows(&[("lossy", Dynamic::TRUE)]);
    assert_eq!(strings(rig.call("awk_field", [2_i64.into(), " ".into(), path.clone(), lossy()]).unwrap()), ["ok", "\u{fffd}", "\0"]);
    assert!((rig.call("awk_sum", [1_i64.into(), " ".into(), path, lossy()]).unwrap().as_float().unwrap() - 6.0).abs() < f64::EPSILON);
}

#[test]
fn what_an_array_holds_besides_strings_is_an_error() {
    let rig = Rig::new(ALL);
    let lines = Dynamic::from_array(vec!["a".into(), 1_i64.into()]);
    assert_eq!(rig.call("awk_filter", ["a".into(), lines]).unwrap_err().kind, Kind::BadArgument);
}

#[test]
fn cut_takes_positions_once_and_in_the_order_of_the_line() {
    let rig = Rig::new(ALL);
    let cut = |lines: &str, more: &[(&str, Dynamic)]| rig.call("cut", [text(lines), rows(more)]).map(strings).map_err(|error| error.kind);
    let colon = ("delim", Dynamic::from(":"));
    let fields = |list: &str| ("fields", Dynamic::from(list.to_owned()));
    for (list, expected) in
        [("1", "a"), ("3,1", "a:c"), ("2-3", "b:c"), ("-2", "a:b"), ("3-", "c:d"), ("1,1,1-2,2-3", "a:b:c"), ("4-9", "d"), ("9", "")]
    {
        assert_eq!(cut("a:b:c:d\n", &[colon.clone(), fields(list)]).unwrap(), [expected], "{list}");
    }
    assert_eq!(cut("a:b\nnone\n", &[colon.clone(), fields("2")]).unwrap(), ["b", "none"]);
    assert_eq!(cut("a:b\nnone\n", &[colon.clone(), fields("2"), ("only_delimited", Dynamic::TRUE)]).unwrap(), ["b"]);
    assert_eq!(cut("a\tb\r\n", &[fields("2")]).unwrap(), ["b"]);
    assert_eq!(cut("añb\n", &[("chars", "2".into())]).unwrap(), ["ñ"]);
    assert_eq!(cut("abcdef\n", &[("chars", "1-2,5".into()), ("output_delim", "|".into())]).unwrap(), ["ab|e"]);
    assert_eq!(cut("abcdef\n", &[("bytes", Dynamic::from_array(vec![1_i64.into(), "4-".into()]))]).unwrap(), ["adef"]);
    assert_eq!(cut("añb\n", &[("bytes", 2_i64.into())]), Err(Kind::NotText));
    assert_eq!(cut("añb\n", &[("bytes", 2_i64.into()), ("lossy", Dynamic::TRUE)]).unwrap(), ["\u{fffd}"]);
    assert_eq!(cut("ab\n", &[("bytes", "5-".into())]).unwrap(), [""]);
    for bad in ["", "0", "3-2", "-", "a", "1,", "1-2-3", "99999999999999999999999", "+1", "-0"] {
        assert_eq!(cut("a:b\n", &[colon.clone(), fields(bad)]), Err(Kind::BadArgument), "{bad}");
    }
    assert_eq!(cut("a\n", &[]), Err(Kind::BadArgument));
    assert_eq!(cut("a\n", &[fields("1"), ("chars", 1_i64.into())]), Err(Kind::BadArgument));
    assert_eq!(cut("a\n", &[fields("1"), ("delim", "".into())]), Err(Kind::BadArgument));
    assert_eq!(cut("a\n", &[("chars", 1_i64.into()), ("only_delimited", Dynamic::TRUE)]), Err(Kind::BadArgument));
    assert_eq!(cut("a\n", &[("fields", 0_i64.into())]), Err(Kind::BadArgument));
}
