//! Formats at their edges: round trips, hostile text, places of errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::error::{Error, Kind, Result};
use crate::functions::convert;
use crate::functions::rig::{Rig, options};
use crate::functions::value::{Array, Dynamic, IntoScript, Map, record};
use proptest::prelude::*;

fn rig() -> Rig {
    Rig::new("permit(principal, action, resource);")
}

fn parse(name: &str, text: &str) -> Result<Dynamic> {
    rig().call(name, [text.into_script()])
}

fn parse_with<const N: usize>(name: &str, text: &str, rows: [(&str, Dynamic); N]) -> Result<Dynamic> {
    rig().call(name, [text.into_script(), options(rows)])
}

fn json(value: Result<Dynamic>) -> String {
    convert::to_json(&value.unwrap()).to_string()
}

fn refused(value: Result<Dynamic>) -> Error {
    let error = value.expect_err("it was taken");
    assert_eq!(error.kind, Kind::BadData, "{error:?}");
    error
}

#[test]
fn yaml_keeps_what_other_readers_take_for_something_else() {
    let text = "country: NO\nmode: 0644\nanswer: yes\nbig: 1_000\ntime: 12:30\nnothing: ~\nfloat: 1.5\n1: one\ntrue: x\n";
    let expected =
        r#"{"1":"one","answer":"yes","big":"1_000","country":"NO","float":1.5,"mode":"0644","nothing":null,"time":"12:30","true":"x"}"#;
    assert_eq!(json(parse("parse_yaml", text)), expected);
    assert_eq!(json(parse("parse_yaml", "a: &x {k: 1}\nb: *x\nc:\n  <<: *x\n  m: 2\n")), r#"{"a":{"k":1},"b":{"k":1},"c":{"k":1,"m":2}}"#);
    assert_eq!(json(parse("parse_yaml", "")), "null");
    assert_eq!(json(parse("parse_yaml", "text: |\n  a\n  b\nfold: >-\n  a\n  b\n")), r#"{"fold":"a b","text":"a\nb\n"}"#);
    assert_eq!(json(parse_with("parse_yaml", "a\n---\n- 1\n", [("all", true.into_script())])), r#"["a",[1]]"#);
}

#[test]
fn yaml_that_is_wrong_tells_the_place_and_not_the_text() {
    for (text, place) in [
        ("ok: 1\nsecret: [hunter2\n", "line "),
        ("secret: hunter2\nsecret: hunter2\n", "line 2"),
        ("a: *hunter2\n", "line 1"),
        ("hunter2: a\n---\nb: 1\n", "line "),
        ("? [hunter2]\n: 1\n", "not YAML"),
        ("1: hunter2\n\"1\": b\n", "not YAML"),
    ] {
        let error = refused(parse("parse_yaml", text));
        assert!(error.message.contains(place) && !format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    assert_eq!(refused(parse("parse_yaml", "a: 1\n---\nb: 1\n")).hint.unwrap(), "there is more than one document: pass #{all: true}");
}

#[test]
fn yaml_that_unfolds_without_end_is_refused_at_once() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", before.trim_end_matches(", ")));
    }
    let began = std::time::Instant::now();
    refused(parse("parse_yaml", &bomb));
    assert!(began.elapsed().as_secs() < 20);
}

#[test]
fn nesting_without_end_is_an_error_in_every_format() {
    // On a small stack: what overflows ends the process.
    std::thread::Builder::new()
        .stack_size(4 << 20)
        .spawn(|| {
            let many = 100_000;
            refused(parse("parse_yaml", &"[".repeat(many)));
            refused(parse("parse_yaml", &"{a: ".repeat(many)));
            refused(parse("parse_yaml", &"- ".repeat(many)));
            refused(parse("parse_json", &"[".repeat(many)));
            refused(parse("parse_json", &"{\"a\":".repeat(many)));
            refused(parse("parse_toml", &format!("a = {}", "[".repeat(many))));
            refused(parse("parse_toml", &format!("a = {}", "{a = ".repeat(many))));
            refused(parse("parse_toml", &format!("{}a = 1", "a.".repeat(many))));
            refused(parse("parse_toml", &format!("[{}a]", "a.".repeat(many))));
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn values_that_nest_too_deep_are_refused_and_not_cut() {
    let mut deep = Dynamic::UNIT;
    for _ in 0..200 {
        deep = Dynamic::from_map(record([("a", deep)]));
    }
    for name in ["to_json", "to_yaml", "to_toml"] {
        assert_eq!(rig().call(name, [deep.clone()]).map(|_| ()).expect_err(name).kind, Kind::BadData, "{name}");
    }
}

#[test]
fn toml_dates_are_points_in_time_where_they_can_be() {
    let map = parse("parse_toml", "at = 2026-01-31T14:30:00+05:00\nday = 2026-01-31\nlocal = 2026-01-31T14:30:00\n").unwrap();
    assert_eq!(json(Ok(map)), r#"{"at":"2026-01-31T09:30:00Z","day":"2026-01-31","local":"2026-01-31T14:30:00"}"#);
    let error = refused(parse("parse_toml", "a = 1\nb = \"hunter2\n"));
    assert!(error.message.contains("line 2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
    let time = rig().call("from_epoch_seconds", [0i64.into_script()]).unwrap();
    let value = record([("at", time), ("gone", Dynamic::UNIT), ("inf", f64::INFINITY.into_script()), ("whole", 2.0.into_script())]);
    assert_eq!(
        rig().call("to_toml", [value.into_script()]).unwrap().into_string().unwrap(),
        "at = 1970-01-01T00:00:00Z\ninf = inf\nwhole = 2.0\n"
    );
}

#[test]
fn ini_files_of_all_kinds() {
    assert_eq!(json(parse("parse_ini", "\u{feff}[a]\r\nk = v # kept\r\n[b]\n[a]\nk2=\n")), r##"{"a":{"k":"v # kept","k2":""},"b":{}}"##);
    assert_eq!(json(parse("parse_ini", "")), "{}");
    let flag = |name| [(name, true.into_script())];
    assert_eq!(
        json(parse_with("parse_ini", "[mysqld]\nskip-name-resolve\n", flag("bare_keys"))),
        r#"{"mysqld":{"skip-name-resolve":null}}"#
    );
    assert_eq!(json(parse_with("parse_ini", "a = \"x y\"\nb='z'\nc=\"q'\n", flag("unquote"))), r#"{"":{"a":"x y","b":"z","c":"\"q'"}}"#);
    let unit = "[Service]\nExecStart=/bin/a \\\n  # a note\n  --long \\\n  --more\nUser=x\n";
    assert_eq!(json(parse_with("parse_ini", unit, flag("continued"))), r#"{"Service":{"ExecStart":"/bin/a --long --more","User":"x"}}"#);
    assert!(refused(parse("parse_ini", "[a]\nk=1\nhunter2\n")).message.contains("line 3"));
    assert!(refused(parse("parse_ini", "[a\n")).message.contains("line 1"));
    assert_eq!(json(parse_with("parse_ini", "a: b = c\n", [("delim", ":".into_script())])), r#"{"":{"a":"b = c"}}"#);
}

#[test]
fn variables_are_read_as_a_shell_reads_them() {
    let text = "# c\n\nA=plain\nB=\"a \\\"q\\\" \\$x \\n\"\nC='it''s'\nexport D=x\\ y  \nE=a#b # c\nF=\"two\nlines\"\nG=\n  H = 'pad ' \nexported=1\n";
    let expected =
        r##"{"A":"plain","B":"a \"q\" $x \\n","C":"its","D":"x y","E":"a#b","F":"two\nlines","G":"","H":"pad ","exported":"1"}"##;
    assert_eq!(json(parse("parse_kv", text)), expected);
    assert!(refused(parse("parse_kv", "A=1\nB=\"hunter2\nC=3\n")).message.contains("line 2"));
    assert!(refused(parse("parse_kv", "A=1\nnothing\n")).message.contains("line 2"));
    assert!(refused(parse("parse_kv", "A=\"1\n\n\"\n=x\n")).message.contains("line 4"));
    assert_eq!(json(parse_with("parse_kv", "A=\"x\n", [("quotes", false.into_script())])), r#"{"A":"\"x"}"#);
    let logfmt = |text: &str| parse_with("parse_kv", text, [("separator", "spaces".into_script())]);
    assert_eq!(json(logfmt(" a=1  b=\"x\\ty\"c= d ")), r#"{"a":"1","b":"x\ty","c":"","d":true}"#);
    refused(logfmt("a=\"x"));
    refused(logfmt("=x"));
    assert_eq!(parse_with("parse_kv", "a", [("separator", "tabs".into_script())]).unwrap_err().kind, Kind::BadArgument);
}

#[test]
fn csv_rows_keep_their_shape() {
    assert_eq!(json(parse("parse_csv", "")), "[]");
    assert_eq!(json(parse("parse_csv", "\u{feff}a,b\r\n1,\"x\r\n\"\"y\"\"\"\r\n")), r#"[{"a":"1","b":"x\r\n\"y\""}]"#);
    assert!(refused(parse("parse_csv", "a,b\n1,2\nhunter2\n")).message.contains("line 3"));
    assert!(refused(parse("parse_csv", "a,b,a\n")).message.contains("columns 1 and 3"));
    let limited = parse_with("parse_csv", "a\n1\n2\n3\n", [("limit", 2i64.into_script())]);
    assert_eq!(json(limited), r#"[{"a":"1"},{"a":"2"}]"#);
    let named =
        parse_with("parse_csv", "1\t2\n", [("columns", vec!["x".to_owned(), "y".to_owned()].into_script()), ("delim", "\t".into_script())]);
    assert_eq!(json(named), r#"[{"x":"1","y":"2"}]"#);
    refused(parse_with("parse_csv", "1,2\n", [("columns", vec!["x".to_owned()].into_script())]));
    for delim in ["", ",,", "é", "\n"] {
        let error = parse_with("parse_csv", "a\n", [("delim", delim.into_script())]).unwrap_err();
        assert_eq!(error.kind, Kind::BadArgument, "{delim:?}");
    }
}

#[test]
fn a_line_of_ten_mebibytes_is_a_row_like_any_other() {
    let text = "x,".repeat(5 << 20) + "x\n";
    let rows = parse_with("parse_csv", &text, [("headers", false.into_script())]).unwrap();
    let row = rows.into_array().unwrap().remove(0).into_array().unwrap();
    assert_eq!(row.len(), (5 << 20) + 1);
    let one = format!("a\n\"{}\"\n", "y".repeat(10 << 20));
    assert_eq!(parse("parse_csv", &one).unwrap().into_array().unwrap().len(), 1);
}

/// Values of data: what every format can hold.
fn values() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_filter("JSON has no others", |float| float.is_finite()).prop_map(Into::into),
        "\\PC{0,12}".prop_map(Into::into),
        prop::sample::select(vec![
            "yes",
            "~",
            "null",
            "1e3",
            "0x1f",
            "- a",
            "a: b",
            "#",
            "",
            " x ",
            "\n",
            "a\nb\n",
            "2026-01-01",
            ".inf",
            "<<",
            "'"
        ])
        .prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map("[\\PC]{0,6}", inner, 0..5).prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Without nothing, which TOML lacks.
fn something(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => false,
        serde_json::Value::Array(items) => items.iter().all(something),
        serde_json::Value::Object(fields) => fields.values().all(something),
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_written_is_read_back(value in values()) {
        let rig = rig();
        let script = convert::from_json(&value).unwrap();
        for (write, read) in [("to_json", "parse_json"), ("to_yaml", "parse_yaml")] {
            let text = rig.call(write, [script.clone()]).unwrap();
            let back = rig.call(read, [text.clone()]).unwrap_or_else(|error| panic!("{error:?}: {text}"));
            prop_assert_eq!(convert::to_json(&back), convert::to_json(&script), "{}", text);
        }
        if something(&value) {
            let map = Dynamic::from_map(record([("k", script)]));
            let text = rig.call("to_toml", [map.clone()]).unwrap();
            let back = rig.call("parse_toml", [text.clone()]).unwrap_or_else(|error| panic!("{error:?}: {text}"));
            prop_assert_eq!(convert::to_json(&back), convert::to_json(&map), "{}", text);
        }
    }
    #[test]
    fn tables_are_read_back(rows in (1usize..5).prop_flat_map(|width| prop::collection::vec(prop::collection::vec("[a-c,;\"\n\r\t ]{0,6}", width), 1..6))) {
        let rig = rig();
        let array: Array = rows.iter().map(|row| row.iter().map(|field| field.as_str().into_script()).collect::<Array>().into_script()).collect();
        let text = rig.call("to_csv", [array.clone().into_script()]).unwrap();
        let back = rig.call("parse_csv", [text, options([("headers", false.into_script())])]).unwrap();
        prop_assert_eq!(convert::to_json(&back), convert::to_json(&array.into_script()));
    }
    #[test]
    fn no_text_makes_a_reader_fail_otherwise_than_with_bad_data(text in "[\\PC\n\t\\[\\]{}:,'\"=#&*!|>-]{0,80}") {
        for name in ["parse_yaml", "parse_toml", "parse_ini", "parse_kv", "parse_csv", "parse_json"] {
            if let Err(error) = parse(name, &text) {
                prop_assert_eq!(error.kind, Kind::BadData);
            }
        }
    }
}

#[test]
fn rows_of_different_maps_have_all_columns() {
    let rows: Array = vec![record([("a", 1i64.into_script())]).into_script(), record([("b", vec![1i64].into_script())]).into_script()];
    let text = rig().call("to_csv", [rows.into_script()]).unwrap().into_string().unwrap();
    assert_eq!(text, "a,b\n1,\n,[1]\n");
    let mixed: Array = vec![Map::new().into_script(), Array::new().into_script()];
    assert_eq!(rig().call("to_csv", [mixed.into_script()]).unwrap_err().kind, Kind::BadArgument);
}
