//! Templates that are wrong or hostile, and sizes and durations at their edges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::error::{Kind, Result};
use crate::functions::rig::{Rig, options};
use crate::functions::value::{Dynamic, IntoScript, record};
use proptest::prelude::*;

fn call<const N: usize>(name: &str, args: [Dynamic; N]) -> Result<Dynamic> {
    Rig::new("permit(principal, action, resource);").call(name, args)
}

fn template(text: &str) -> Result<String> {
    let values = record([("port", 80i64.into_script()), ("html", "<b>&".into_script()), ("none", Dynamic::UNIT)]);
    call("template", [text.into_script(), values.into_script()]).map(|text| text.into_string().unwrap())
}

#[test]
fn a_template_names_the_value_that_is_not_there() {
    let error = template("a\n{{ prot }}").unwrap_err();
    assert_eq!((error.kind, error.hint.as_deref()), (Kind::BadData, Some("did you mean `port`?")));
    assert!(error.message.contains("line 2") && error.message.contains("`prot`"), "{error:?}");
    assert!(template("{{ port.x.y }}").unwrap_err().message.contains("not there"));
    assert_eq!(template("{{ html }}\n").unwrap(), "<b>&\n");
    assert_eq!(template("{% if none is none %}x{% endif %}").unwrap(), "x");
}

#[test]
fn hostile_templates_end() {
    let began = std::time::Instant::now();
    for text in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as x %}",
        "{% extends 'x' %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
        "{{ x",
    ] {
        let error = template(text).expect_err(text);
        assert!(matches!(error.kind, Kind::BadData | Kind::TooLarge), "{text}: {error:?}");
    }
    assert_eq!(template(&"x".repeat(40_000)).unwrap_err().kind, Kind::TooLarge);
    assert!(began.elapsed().as_secs() < 60);
    let long = call(
        "template",
        [
            "{{ a }}".into_script(),
            record([("a", "x".repeat(11).into_script())]).into_script(),
            options([("max_bytes", 10i64.into_script())]),
        ],
    );
    assert_eq!(long.unwrap_err().kind, Kind::TooLarge);
}

#[test]
fn templates_that_nest_without_end_fit_the_stack_of_a_script() {
    // The stack that sys::supervise gives.
    std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(|| {
            let many = |part: &str, room: usize| part.repeat((room - 100) / part.len());
            let room = super::MAX_TEMPLATE;
            for text in [
                many("(", room),
                many("[", room),
                many("{% if port %}", room),
                format!("{{{{ {}", many("(", room)),
                format!("{{{{ {}", many("[", room)),
                format!("{{{{ {}", many("{a:", room)),
            ] {
                let _ = template(&text);
            }
            for chain in ["not ", "-", "1+", "1~", "1 if 1 else ", "1 and ", "1<", "2**"] {
                let _ = template(&format!("{{{{ {}1 }}}}", many(chain, room)));
            }
            for chain in ["|upper", ".a", "[0]", "()", " is defined"] {
                let _ = template(&format!("{{{{ port{} }}}}", many(chain, room)));
            }
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn sizes_at_the_edges_of_their_units() {
    let human = |bytes: f64| call("human_size", [bytes.into_script()]).unwrap().into_string().unwrap();
    for (bytes, shown) in [
        (0.0, "0 B"),
        (999.0, "999 B"),
        (1000.0, "0.98 KiB"),
        (1024.0, "1.00 KiB"),
        (1023.0 * 1024.0, "1.00 MiB"),
        (-2048.0, "-2.00 KiB"),
        (1e30, "867361737988 EiB"),
        (10.0 * 1024.0, "10.0 KiB"),
    ] {
        assert_eq!(human(bytes), shown, "{bytes}");
    }
    assert_eq!(call("human_size", [f64::NAN.into_script()]).unwrap_err().kind, Kind::BadArgument);
    for (text, bytes) in [
        ("0", 0),
        ("1K", 1024),
        ("1kb", 1000),
        ("1KiB", 1024),
        ("1 Ki", 1024),
        ("0.5k", 512),
        ("7 bytes", 7),
        ("8B", 8),
        ("7E", 7 << 60),
        ("1.0000000000000000000000001K", 1024),
        ("9223372036854775807", i64::MAX),
    ] {
        assert_eq!(call("parse_size", [text.into_script()]).unwrap().as_int().unwrap(), bytes, "{text}");
    }
    for text in
        ["", "M", "-1", "1.2.3", "1.", ".5", "1Z", "8E", "1 0", "9223372036854775808", "1KK", "99999999999999999999", "1é", "1bytesx"]
    {
        assert_eq!(call("parse_size", [text.into_script()]).map(|size| size.to_string()).expect_err(text).kind, Kind::BadData, "{text}");
    }
}

#[test]
fn time_spans_at_the_edges_of_their_units() {
    let human = |seconds: f64| call("human_duration", [seconds.into_script()]).unwrap().into_string().unwrap();
    for (seconds, shown) in [
        (0.0, "0s"),
        (1.5, "1.5s"),
        (59.0, "59s"),
        (59.999, "1m"),
        (60.0, "1m"),
        (3599.6, "1h"),
        (3600.0, "1h"),
        (86_399.0, "23h59m"),
        (86_400.0 * 400.0, "400d"),
        (1e-6, "1us"),
        (-90.0, "-1m30s"),
        (0.0005, "500us"),
        (3605.0, "1h"),
    ] {
        assert_eq!(human(seconds), shown, "{seconds}");
    }
    for (text, seconds) in [("90", "90"), ("1.5h", "5400"), ("1w 2d", "777600"), ("1m 500ms", "60.5"), ("0", "0"), ("1 minute", "60")] {
        assert_eq!(call("parse_duration", [text.into_script()]).unwrap().to_string(), seconds, "{text}");
    }
    for text in ["", "h", "1x", "-1s", "1h 5", "1 h 30", "1..5s", "9999999999999999w", "1y", "5 5"] {
        assert_eq!(
            call("parse_duration", [text.into_script()]).map(|span| span.to_string()).expect_err(text).kind,
            Kind::BadData,
            "{text}"
        );
    }
}

#[test]
fn random_words_use_all_letters_and_no_others() {
    let word = call("random_alphanumeric", [4096i64.into_script()]).unwrap().into_string().unwrap();
    let mut seen: Vec<char> = word.chars().collect();
    assert!(seen.len() == 4096 && seen.iter().all(char::is_ascii_alphanumeric));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 62);
    for count in [-1i64, 4097, i64::MAX] {
        assert_eq!(call("random_alphanumeric", [count.into_script()]).unwrap_err().kind, Kind::BadArgument);
    }
    assert_eq!(call("random_alphanumeric", [0i64.into_script()]).unwrap().to_string(), "");
    assert_ne!(call("uuid", []).unwrap().to_string(), call("uuid", []).unwrap().to_string());
    assert_eq!(call("uuid", [options([("version", 1i64.into_script())])]).unwrap_err().kind, Kind::BadArgument);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_text_makes_these_readers_panic(text in "[0-9a-zA-Z. {}%|()é-]{0,40}") {
        for name in ["parse_size", "parse_duration"] {
            if let Err(error) = call(name, [text.as_str().into_script()]) {
                prop_assert_eq!(error.kind, Kind::BadData);
            }
        }
        if let Err(error) = template(&text) {
            prop_assert!(matches!(error.kind, Kind::BadData | Kind::TooLarge));
        }
    }
}
