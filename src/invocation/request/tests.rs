//! The request grammar, row by row: what is accepted and as what, what is refused and how.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::super::parse_request;
use super::*;
use crate::error::Exit;

const HEX: &str = "0123456789abcdefABCDEF0123456789000000000000000000000000000000ff";

fn verb(text: &str) -> Verb {
    parse_request(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}")).verb
}

fn run(text: &str) -> Run {
    match verb(text) {
        Verb::Run(run) => run,
        other => panic!("{text}: {other:?}"),
    }
}

/// The refusal, which is exit 2 whatever its kind.
fn refused(text: &str) -> Error {
    let error = parse_request(text.as_bytes()).map(|request| panic!("{text}: accepted as {request:?}")).unwrap_err();
    assert_eq!(error.kind.exit(), Exit::Usage, "{text}: {error}");
    assert!(matches!(error.kind, Kind::Usage | Kind::Arguments), "{text}: {error}");
    assert!(!error.message.contains('\n') && !error.message.ends_with('.'), "{}", error.message);
    error
}

#[test]
fn the_verbs_of_the_grammar_are_understood() {
    let report = Some(Format::Json);
    for (text, expected) in [
        ("", Verb::Run(Run::default())),
        ("  \t", Verb::Run(Run::default())),
        ("rex", Verb::Run(Run::default())),
        ("/usr/bin/rex", Verb::Run(Run::default())),
        ("'rex' run", Verb::Run(Run::default())),
        ("rex\trun", Verb::Run(Run::default())),
        ("rex check", Verb::Check(Check::default())),
        ("rex check @a -o json", Verb::Check(Check { source: Source::Runbook("a".into()), format: report, ..Check::default() })),
        ("rex can", Verb::Can { question: None, format: None }),
        (
            "rex can 'file_system::Action::\"read\"' /etc/hosts --json",
            Verb::Can { question: Some(("file_system::Action::\"read\"".into(), "/etc/hosts".into())), format: report },
        ),
        ("rex why d-12:a.b", Verb::Why { reference: "d-12:a.b".into(), format: None }),
        ("rex functions", Verb::Functions { json: false, name: None }),
        ("rex functions --json cat", Verb::Functions { json: true, name: Some("cat".into()) }),
        ("rex whoami", Verb::Whoami { format: None }),
        ("rex whoami --output-format=ndjson", Verb::Whoami { format: Some(Format::Ndjson) }),
        ("rex mcp", Verb::Mcp),
        ("rex help", Verb::Help { topic: None }),
        ("rex help run", Verb::Help { topic: Some("run") }),
        ("rex --version", Verb::Version),
    ] {
        assert_eq!(verb(text), expected, "{text}");
    }
}

#[test]
fn every_option_of_run_is_understood_in_both_spellings() {
    let all = format!(
        "rex run -o json --arguments-json '{{\"a\":[1]}}' --timeout 2.5 --budget 1024 -v --dry-run --sha256 {HEX} --end EOF --key k-1 b=2"
    );
    let expected = Run {
        source: Source::Stdin,
        arguments: vec![("b".into(), Argument::Int(2))],
        format: Some(Format::Json),
        arguments_json: Some(json!({"a": [1]}).as_object().unwrap().clone()),
        timeout: Some(Duration::from_millis(2500)),
        budget: Some(1024),
        verbose: true,
        dry_run: true,
        sha256: Some([
            0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0xff,
        ]),
        end: Some("EOF".into()),
        key: Some("k-1".into()),
    };
    assert_eq!(run(&all), expected);
    let attached = format!(
        "rex b=2 --output-format=json --arguments-json='{{\"a\":[1]}}' --timeout=2.5 --budget=1024 --verbose --dry-run --sha256={HEX} --end=EOF --key=k-1"
    );
    assert_eq!(run(&attached), expected);
}

#[test]
fn a_script_is_on_stdin_or_an_expression_or_a_runbook() {
    assert_eq!(run("rex -e '1 + 1'").source, Source::Expression("1 + 1".into()));
    assert_eq!(run("rex run -e -1").source, Source::Expression("-1".into()));
    assert_eq!(run("rex -e '$(id); `id` > x'").source, Source::Expression("$(id); `id` > x".into()));
    assert_eq!(run("rex run @db/restart-1 a=1").source, Source::Runbook("db/restart-1".into()));
    assert_eq!(run("rex a=1 @x").source, Source::Runbook("x".into()));
    for text in ["rex -e 1 @x", "rex @x -e 1", "rex @x @y", "rex -e ''", "rex -e ' '", "rex -e 1 -e 2"] {
        refused(text);
    }
    for text in [format!("rex -e 1 --sha256 {HEX}"), "rex @x --end E".into()] {
        assert!(refused(&text).message.contains("script on stdin"), "{text}");
    }
}

#[test]
fn the_name_of_a_runbook_leads_nowhere_else() {
    for name in [
        "",
        ".",
        "..",
        "../x",
        "x/..",
        "x/../y",
        "/x",
        "/etc/passwd",
        "x/",
        "x//y",
        "./x",
        "x/./y",
        "x.rhai",
        "x.",
        "-x",
        "x/-y",
        "~",
        "x\\\\y",
        "'x y'",
        "ä",
        "x;id",
        "%2e",
        "$HOME",
        "*",
        "\u{2215}",
    ] {
        let error = refused(&format!("rex run @{name}"));
        assert!(error.message.contains("no name of a runbook"), "{name}: {error}");
    }
    refused(&format!("rex run @{}", "x".repeat(65)));
    refused(&format!("rex run @{}", ["x"; 65].join("/")));
}

#[test]
fn arguments_are_typed_and_given_once() {
    let arguments = run("rex run host=db1 n=3 f=1.5 b=true j:='[1,\"x\"]' 'text=a b'").arguments;
    assert_eq!(
        arguments,
        [
            ("host".into(), Argument::Text("db1".into())),
            ("n".into(), Argument::Int(3)),
            ("f".into(), Argument::Float(1.5)),
            ("b".into(), Argument::Bool(true)),
            ("j".into(), Argument::Json(json!([1, "x"]))),
            ("text".into(), Argument::Text("a b".into())),
        ]
    );
    for text in ["rex a=1 a=2", "rex a=1 a:=2", "rex a=1 --arguments-json '{\"a\":1}'", "rex check a=1 a=1"] {
        let error = refused(text);
        assert_eq!((error.kind, error.message.as_str()), (Kind::Arguments, "the argument `a` is given twice"), "{text}");
    }
    assert_eq!(refused("rex --arguments-json '{\"a\":1,\"a\":2}'").kind, Kind::Arguments);
    assert_eq!(refused("rex let=1").kind, Kind::Arguments);
    assert_eq!(refused("rex =1").kind, Kind::Arguments);
}

#[test]
fn an_option_given_twice_is_refused_also_under_its_other_name() {
    for (text, name) in [
        ("rex -o json -o json", "--output-format"),
        ("rex -o json --output-format=human", "--output-format"),
        ("rex -v --verbose", "--verbose"),
        ("rex --timeout 1 --timeout=2", "--timeout"),
        ("rex --key a --key a", "--key"),
        ("rex functions --json --json", "--json"),
    ] {
        assert_eq!(refused(text).message, format!("`{name}` is given twice"), "{text}");
    }
    assert_eq!(refused("rex whoami --json -o json").message, "the output format is given twice");
}

#[test]
fn no_option_is_abbreviated_or_clustered_or_taken_from_the_owner() {
    for text in [
        "rex --time 5",
        "rex --sha=00",
        "rex --out json",
        "rex --verb",
        "rex -vv",
        "rex -ve 1",
        "rex -e1",
        "rex -ojson",
        "rex -o=json",
        "rex -e=1",
        "rex --dryrun",
        "rex --TIMEOUT 5",
        "rex - ",
        "rex run -",
        "rex ---",
        "rex --=x",
        "rex -",
    ] {
        assert!(refused(text).message.starts_with("unknown option `"), "{text}");
    }
    for option in
        ["--config", "--principal", "--policy", "--policy-file", "--script-file", "--script-arguments-file", "--subsystem", "--identity-fd"]
    {
        for text in [format!("rex {option} x"), format!("rex {option}=x"), format!("rex run {option}"), format!("rex whoami {option}=root")]
        {
            assert_eq!(refused(&text).message, format!("`{option}` is for the owner of this host and no part of a request"), "{text}");
        }
    }
    for text in ["rex -s x", "rex -p x", "rex -a x", "rex -c id"] {
        refused(text);
    }
}

#[test]
fn help_and_version_are_asked_by_word_and_every_stray_dash_is_refused() {
    for (text, hint) in [
        ("rex --help", "ask `rex help`"),
        ("rex -h", "ask `rex help`"),
        ("rex run --help", "ask `rex help`"),
        ("rex -V", "ask `rex --version`"),
        ("rex run --version", "ask `rex --version`"),
        ("rex whoami -V", "ask `rex --version`"),
    ] {
        assert_eq!(refused(text).hint.as_deref(), Some(hint), "{text}");
    }
    for text in [
        "rex --",
        "rex run -- x",
        "rex -- run",
        "rex --princ=x",
        "rex --version x",
        "rex --version --version",
        "rex --version=1",
        "rex help --json",
    ] {
        refused(text);
    }
    assert!(refused("rex --princ=x").hint.is_none_or(|hint| !hint.contains("--principal")), "no hint at what only the owner has");
}

#[test]
fn an_option_wants_its_value_and_a_switch_wants_none() {
    for text in
        ["rex -e", "rex -o", "rex --timeout", "rex --timeout --budget 5", "rex -e -v", "rex --end -v", "rex --key --sha256", "rex -e --"]
    {
        assert!(refused(text).message.contains("needs a value: `"), "{text}");
    }
    for text in ["rex --verbose=1", "rex --dry-run=false", "rex whoami --json=x", "rex --verbose="] {
        assert!(refused(text).message.ends_with("takes no value"), "{text}");
    }
    // A value that looks like an option can be given behind `=`.
    assert_eq!(run("rex --end=--end").end.as_deref(), Some("--end"));
}

#[test]
fn wrong_values_of_options_are_refused() {
    for text in ["0", "0.0", "-1", "+1", "1e3", "inf", "NaN", "1s", "", "1.", ".5", "1.2345", "99999999", "1 0", "0x10", "1.2.3", "٣"] {
        refused(&format!("rex --timeout='{text}'"));
    }
    assert_eq!(run("rex --timeout 0.001").timeout, Some(Duration::from_millis(1)));
    assert_eq!(run("rex --timeout 9999999.999").timeout, Some(Duration::from_millis(9_999_999_999)));
    for text in ["0", "-1", "+1", "1k", "", "18446744073709551616", "1.5"] {
        refused(&format!("rex --budget='{text}'"));
    }
    for text in ["", "00", &HEX[1..], &format!("{HEX}0"), &HEX.replace('a', "g"), &HEX.replace("01", "ä"), &format!("+{}", &HEX[1..])] {
        refused(&format!("rex --sha256='{text}'"));
    }
    for text in ["", " ", &"x".repeat(257)] {
        refused(&format!("rex --end='{text}'"));
    }
    for text in ["", "a b", "../x", ".x", "a/b", "ä", &"x".repeat(129)] {
        refused(&format!("rex --key='{text}'"));
        refused(&format!("rex why '{text}'"));
    }
    for text in ["jso", "JSON", "", "yaml", "json "] {
        refused(&format!("rex -o '{text}'"));
    }
    assert_eq!(refused("rex -o pretty").hint.as_deref(), Some("did you mean `pretty-json`?"));
    for text in ["[1]", "1", "{", "", "{\"a b\":1}"] {
        assert_eq!(refused(&format!("rex --arguments-json='{text}'")).kind, Kind::Arguments);
    }
}

#[test]
fn each_verb_takes_its_own_options_and_words_only() {
    for text in [
        "rex check --timeout 5",
        "rex check -v",
        "rex can -e 1",
        "rex why a -v",
        "rex functions -o json",
        "rex whoami --key k",
        "rex mcp -v",
        "rex help -v",
        "rex run --json",
    ] {
        assert!(refused(text).message.contains("is no option of `rex "), "{text}");
    }
    for text in [
        "rex can a",
        "rex can a b c",
        "rex can '' b",
        "rex can a ''",
        "rex why",
        "rex why a b",
        "rex functions a b",
        "rex functions a.b",
        "rex functions ''",
        "rex functions ../x",
        "rex whoami x",
        "rex whoami a=1",
        "rex mcp x",
        "rex help run run",
        "rex help nothing",
    ] {
        refused(text);
    }
}

#[test]
fn shell_syntax_is_text_and_is_refused_with_a_hint() {
    // SSH.md §5, 8.
    for text in [
        "rex ; id",
        "rex && id",
        "rex | sh",
        "rex > f",
        "rex *",
        "rex $(id)",
        "rex `id`",
        "rex run a=1 > f",
        "rex run a=1 ;id",
        "rex run a=1 && id",
        "rex run a=1 | sh",
        "rex run $(id)",
        "rex run `id`",
        "rex run 2>&1",
        "rex run <(id)",
        "rex whoami;id",
        "rex ~",
        "rex run &",
    ] {
        let error = refused(text);
        assert!(error.hint.is_some_and(|hint| hint.contains("no shell reads a request")), "{text}");
    }
    assert_eq!(run("rex a='$(id)' b=`id`").arguments[0].1, Argument::Text("$(id)".into()));
}

#[test]
fn verbs_of_the_owner_are_named_as_such_and_slips_get_the_nearest() {
    for name in ["policy", "setup", "doctor", "serve", "audit", "demo", "completions", "man"] {
        assert!(refused(&format!("rex {name}")).message.contains("is for the owner of this host"), "{name}");
    }
    for (text, hint) in [
        ("rex whomai", "did you mean `whoami`?"),
        ("rex chek", "did you mean `check`?"),
        ("rex --timout 5", "did you mean `--timeout`?"),
        ("rex --outputformat json", "did you mean `--output-format`?"),
        ("rex -v run", "the verb stands right behind `rex`"),
        ("rex -e 1 + 1", "words of one value belong in quotes that reach the host: ssh HOST \"rex -e '1 + 1'\""),
    ] {
        assert_eq!(refused(text).hint.as_deref(), Some(hint), "{text}");
    }
}

#[test]
fn an_error_repeats_words_escaped_and_cut() {
    for text in [
        format!("rex {}", "x".repeat(60_000)),
        format!("rex run {}", "\u{202e}".repeat(1000)),
        format!("rex --{}", "y".repeat(60_000)),
        format!("rex run @{}", "/".repeat(60_000)),
        format!("rex {}=1", "-".repeat(60_000)),
        format!("rex --timeout={}", "z".repeat(60_000)),
        format!("{} x", "w".repeat(60_000)),
        format!("rex help {}", "x".repeat(60_000)),
    ] {
        let error = refused(&text);
        let length = error.message.chars().count();
        assert!(length < 300 && !error.message.contains('\u{202e}'), "{length}: {}", error.message);
    }
}

#[test]
fn the_largest_requests_are_answered_in_bounded_time() {
    let start = Instant::now();
    // CVE-2022-39260: a million words, and the longest that sshd lets through, do not even reach the splitter.
    assert!(refused(&"a ".repeat(1 << 20)).message.contains("at most 65536 are accepted"));
    assert!(refused(&"x".repeat(128 * 1024 - 1)).message.contains("at most 65536 are accepted"));
    let fill = |piece: &str| piece.repeat((super::super::MAX_REQUEST - 4) / piece.len());
    for text in [fill("a "), fill("a=1 "), fill("'' "), fill("@"), fill("--x "), fill("\"\\"), fill("\\a"), fill("'")] {
        _ = parse_request(format!("rex {text}").as_bytes());
    }
    let many = (0..7000).map(|number| format!("a{number}=1 ")).collect::<String>();
    assert_eq!(run(&format!("rex {many}")).arguments.len(), 7000);
    // Far above what it takes, far below what quadratic work would take.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn what_this_version_cannot_do_is_said_and_the_rest_is_not() {
    for (text, name) in [("rex mcp", "rex mcp"), ("rex --key k", "--key"), ("rex --budget 1", "--budget")] {
        assert_eq!(unavailable(&parse_request(text.as_bytes()).unwrap()), Some(format!("`{name}` is not available in this version")));
    }
    for text in [
        "rex",
        "rex -e 1 --timeout 5 -v -o json a=1",
        "rex run @a",
        "rex check",
        "rex why d-1",
        "rex --dry-run",
        "rex can",
        "rex functions",
        "rex whoami",
        "rex help",
        "rex --version",
    ] {
        assert_eq!(unavailable(&parse_request(text.as_bytes()).unwrap()), None, "{text}");
    }
    assert_eq!(help(None).matches("Not in this version").count(), 1);
    assert_eq!(help(Some("run")).matches("Not in this version").count(), 2);
}

#[test]
fn the_tables_agree_with_each_other() {
    let names: Vec<_> = OPTIONS.iter().flat_map(|option| option.names).collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "each name is one option");
    assert_eq!(VERBS[0].word, Word::Run);
    for row in VERBS {
        for option in row.options {
            assert!(OPTIONS.iter().any(|known| known.name() == *option), "{} {option}", row.name);
        }
        assert!(help(None).contains(row.synopsis) && help(None).contains(row.doc));
        assert!(help(Some(row.name)).starts_with(row.synopsis));
        assert!(matches!(row.synopsis.strip_prefix("rex "), Some(rest) if rest.contains(row.name)));
    }
    for option in OPTIONS {
        let rows: Vec<_> = VERBS.iter().filter(|row| row.takes(option)).collect();
        assert!(!rows.is_empty(), "{} is taken by some verb", option.name());
        assert!(rows.iter().all(|row| help(Some(row.name)).contains(option.doc)));
        assert!(!OWNERS_OPTIONS.contains(&option.name()));
    }
    assert!(NOT_YET.iter().all(|name| OPTIONS.iter().any(|option| option.name() == *name) || VERBS.iter().any(|row| row.name == *name)));
}

/// Words that get deep into the grammar more often than chance does.
fn piece() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "rex",
        "run",
        "check",
        "can",
        "why",
        "-e",
        "-o",
        "json",
        "-v",
        "--timeout",
        "--end",
        "=",
        "a=1",
        "a:=",
        "@a",
        "'",
        "\"",
        "\\",
        " ",
        "exec",
        "session",
        "--subsystem",
        "--principal",
        "root",
    ];
    prop_oneof![4 => prop::sample::select(KNOWN).prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        _ = parse_request(&bytes);
    }

    #[test]
    fn no_words_panic_and_errors_are_one_printable_line(pieces in prop::collection::vec(piece(), 0..12)) {
        if let Err(error) = parse_request(format!("rex {}", pieces.join(" ")).as_bytes()) {
            prop_assert_eq!(error.kind.exit(), Exit::Usage);
            prop_assert!(!error.message.chars().any(char::is_control), "{}", error.message);
        }
    }

    #[test]
    fn an_expression_arrives_as_it_was_sent(text in "[^\\p{Cc}]{1,40}") {
        prop_assume!(!text.trim().is_empty());
        let request = format!("rex -e '{}'", text.replace('\'', r"'\''"));
        match parse_request(request.as_bytes()) {
            Ok(request) => prop_assert_eq!(request.verb, Verb::Run(Run { source: Source::Expression(text), ..Run::default() })),
            Err(_) => prop_assert!(text.starts_with("--") || option_row(&text).is_some()),
        }
    }
}
