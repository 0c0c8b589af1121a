//! Tests of sort and uniq: orders, keys, equal lines, limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::error::Kind;
use crate::functions::rig::{Rig, maps, options, strings};
use crate::functions::value::{Dynamic, Map};

const ALL: &str = "permit(principal, action, resource);";

fn text(text: &str) -> Dynamic {
    options([("text", text.to_owned().into())])
}

fn call(name: &str, lines: &[&str], more: &[(&str, Dynamic)]) -> Result<Dynamic, Kind> {
    let rows = Dynamic::from_map(more.iter().map(|(key, value)| ((*key).into(), value.clone())).collect::<Map>());
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Rig::new(ALL).call(name, [text(&lines), rows]).map_err(|error| error.kind)
}

fn sort(lines: &[&str], more: &[(&str, Dynamic)]) -> Vec<String> {
    strings(call("sort", lines, more).unwrap())
}

fn on(name: &str) -> (&str, Dynamic) {
    (name, Dynamic::TRUE)
}

#[test]
fn lines_are_sorted_by_bytes_unless_told_otherwise() {
    assert_eq!(sort(&["b", "B", "a", "ä", "", "10", "9"], &[]), ["", "10", "9", "B", "a", "b", "ä"]);
    assert_eq!(sort(&["b", "c", "a"], &[on("reverse")]), ["c", "b", "a"]);
    assert_eq!(sort(&["b", "A", "a", "B"], &[on("ignore_case")]), ["A", "a", "B", "b"]);
    assert_eq!(sort(&["b", "A", "a", "B"], &[on("ignore_case"), on("stable")]), ["A", "a", "b", "B"]);
    assert_eq!(sort(&["b", "A", "a", "B"], &[on("ignore_case"), on("unique")]), ["A", "b"]);
    assert_eq!(sort(&["c", "a", "b"], &[("limit", 2_i64.into())]), ["a", "b"]);
    assert_eq!(sort(&[], &[]), [""; 0]);
}

#[test]
fn numbers_are_compared_exactly_however_long() {
    let lines = ["10", "9", "-1", "x", "9007199254740993", "9007199254740992", "0.5", " 2", "-10", "00007", "1.05", "1.5"];
    let sorted = ["-10", "-1", "x", "0.5", "1.05", "1.5", " 2", "00007", "9", "10", "9007199254740992", "9007199254740993"];
    assert_eq!(sort(&lines, &[on("numeric")]), sorted);
    let long = format!("1{}", "0".repeat(400));
    assert_eq!(sort(&[&long, "2"], &[on("numeric")]), ["2", &long]);
    assert_eq!(sort(&["-0", "0", "-0.0"], &[on("numeric"), on("unique")]), ["-0"]);
}

#[test]
fn sizes_and_versions_have_their_own_orders() {
    let sizes = ["1M", "1023K", "2G", "512", "-1K", "0", "1.5M", "-2"];
    assert_eq!(sort(&sizes, &[on("human")]), ["-1K", "-2", "0", "512", "1023K", "1M", "1.5M", "2G"]);
    let versions = ["v10", "v9", "1.0", "1.0~rc1", "1.0.1", "1.0a", "v9.1", "1.00"];
    assert_eq!(sort(&versions, &[on("version")]), ["1.0~rc1", "1.0", "1.00", "1.0a", "1.0.1", "v9", "v9.1", "v10"]);
    assert_eq!(call("sort", &["a"], &[on("version"), on("numeric")]).map(|_| ()), Err(Kind::BadArgument));
}

#[test]
fn a_key_is_one_field_and_missing_ones_are_empty() {
    let lines = ["x  10", "y 9", "z", "w\t9"];
    assert_eq!(sort(&lines, &[("key", 2_i64.into()), on("numeric")]), ["z", "w\t9", "y 9", "x  10"]);
    assert_eq!(sort(&lines, &[("key", 2_i64.into()), on("numeric"), on("stable")]), ["z", "y 9", "w\t9", "x  10"]);
    assert_eq!(sort(&["b:1", "a:2"], &[("key", 2_i64.into()), ("delim", ":".into()), on("reverse")]), ["a:2", "b:1"]);
    for key in [0, -1] {
        assert_eq!(call("sort", &["a"], &[("key", key.into())]).map(|_| ()), Err(Kind::BadArgument));
    }
}

#[test]
fn an_order_of_any_lines_is_consistent() {
    // The standard library may panic where an order contradicts itself.
    let mut seed = 42_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let signs: Vec<char> = "0129.-~aKMG \u{e4}".chars().collect();
    let lines: Vec<String> = (0..3000).map(|_| (0..next() % 7).map(|_| signs[next() % signs.len()]).collect()).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for by in ["numeric", "human", "version", "ignore_case"] {
        for also in ["unique", "stable", "reverse"] {
            let sorted = sort(&lines, &[on(by), on(also)]);
            let again: Vec<&str> = sorted.iter().map(String::as_str).collect();
            assert_eq!(sort(&again, &[on(by), on(also)]), sorted, "{by} {also}");
        }
    }
}

#[test]
fn uniq_is_about_neighbours() {
    let lines = ["a", "a", "A", "b", "a"];
    let uniq = |more: &[(&str, Dynamic)]| strings(call("uniq", &lines, more).unwrap());
    assert_eq!(uniq(&[]), ["a", "A", "b", "a"]);
    assert_eq!(uniq(&[on("ignore_case")]), ["a", "b", "a"]);
    assert_eq!(uniq(&[on("repeated")]), ["a"]);
    assert_eq!(uniq(&[on("unique")]), ["A", "b", "a"]);
    assert_eq!(uniq(&[("limit", 2_i64.into())]), ["a", "A"]);
    let counted = maps(call("uniq", &lines, &[on("count"), on("ignore_case")]).unwrap());
    let counted: Vec<(i64, String)> =
        counted.iter().map(|row| (row["count"].as_int().unwrap(), row["line"].clone().into_string().unwrap())).collect();
    assert_eq!(counted, [(3, "a".to_owned()), (1, "b".to_owned()), (1, "a".to_owned())]);
    assert_eq!(call("uniq", &lines, &[on("repeated"), on("unique")]).map(|_| ()), Err(Kind::BadArgument));
    assert_eq!(strings(call("uniq", &[], &[]).unwrap()), [""; 0]);
    assert_eq!(strings(call("uniq", &["", ""], &[]).unwrap()), [""]);
}

#[test]
fn lines_past_the_bound_are_an_error() {
    let long = "x".repeat(1000);
    for name in ["sort", "uniq"] {
        let lines: Vec<String> = (0..10).map(|n| format!("{n}{long}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(call(name, &lines, &[("max_bytes", 5000_i64.into())]).map(|_| ()), Err(Kind::TooLarge));
        assert_eq!(strings(call(name, &lines, &[]).unwrap()).len(), 10);
    }
}
