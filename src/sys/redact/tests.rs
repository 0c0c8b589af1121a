//! What redacted text shows: formats anchored and literal, marked conversions, masks, lines that are none; in pieces of any size.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

fn listed(dictionary: &str) -> Arc<Rules> {
    Arc::new(rules(Lines::Listed, &[], Some((dictionary.as_bytes(), "d"))).unwrap())
}
fn masked(masks: &[Mask]) -> Arc<Rules> {
    Arc::new(rules(Lines::All, masks, None).unwrap())
}
fn seen(rules: &Arc<Rules>, text: impl AsRef<[u8]>) -> String {
    let mut out = Vec::new();
    Redacted::new(text.as_ref(), Arc::clone(rules)).read_to_end(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}
#[track_caller]
fn shows(format: &str, line: &str) {
    assert_eq!(seen(&listed(format), line), line, "{format:?} should fit {line:?}");
}
#[track_caller]
fn hides(format: &str, line: &str) {
    assert_eq!(seen(&listed(format), line), HIDDEN, "{format:?} should not fit {line:?}");
}

#[test]
fn a22_a_format_is_a_whole_line_and_its_text_is_literal() {
    hides("started", "xstarted");
    hides("started", "started with password x");
    hides("a.c", "abc");
    hides("(ok|secret)", "secret");
    shows("(ok|secret)", "(ok|secret)");
    shows("a.c*[x]", "a.c*[x]");
    hides("user %d", "user 1 secret");
    shows("100%% of %d", "100% of 7");
    hides("ok", " ok");
    hides("ok", "OK");
    hides("%d", "1\r2");
}

#[test]
fn conversions_fit_what_printf_prints_and_nothing_else() {
    for (format, fits, not) in [
        ("n=%d", &["n=1", "n=-12", "n=+3"][..], &["n=", "n=a", "n=1.5", "n= 1"][..]),
        ("n=%5ld|", &["n=   12|", "n=123456|"], &["n=12   |"]),
        ("n=%-5d|", &["n=12   |"], &["n=   12|"]),
        ("n=%'u", &["n=1,234,567", "n=12"], &["n=,"]),
        ("n=%08x", &["n=0000beef"], &["n=BEEF", "n=xyz"]),
        ("n=%#X", &["n=0XBEEF"], &["n=beef"]),
        ("n=%o", &["n=17"], &["n=8"]),
        ("t=%.3f", &["t=1.250", "t=-0.001", "t=nan"], &["t=1.2.3", "t=x"]),
        ("t=%e", &["t=1.25e-03"], &["t=e"]),
        ("p=%p", &["p=0x7ffe12", "p=(nil)"], &["p=12"]),
        ("c=%c", &["c=x", "c=ß"], &["c=", "c=xy"]),
        ("open: %m", &["open: No such file or directory", "open: Permission denied"], &["open: ", "open: <x>"]),
        ("user %s in", &["user joe in", "user a b c in", "user  in"], &["user joe out"]),
        ("id %.4s", &["id abcd", "id "], &["id abcde"]),
        ("%2$s and %1$d", &["x and 1"], &["x and y"]),
        ("[%*d]", &["[  7]"], &["[x]"]),
        ("%zu bytes, %hhd, %lld, %Lf", &["1 bytes, 2, 3, 4.0"], &["1 bytes"]),
    ] {
        fits.iter().for_each(|line| shows(format, line));
        not.iter().for_each(|line| hides(format, line));
    }
}

#[test]
fn a_marked_conversion_is_replaced_and_takes_as_much_as_it_can() {
    let rules = listed("login %s key %!s\nport %!d open\n%!s failed for %s");
    assert_eq!(seen(&rules, "login joe key hunter2"), "login joe key [REDACTED]");
    // The writer of the first argument cannot make a part of the marked one visible.
    assert_eq!(seen(&rules, "login joe key a key hunter2"), "login joe key [REDACTED]");
    assert_eq!(seen(&rules, "x failed for y failed for z"), "[REDACTED] failed for z");
    assert_eq!(seen(&rules, "port 22 open"), "port [REDACTED] open");
    assert_eq!(seen(&rules, "port x open"), HIDDEN);
    // A format without marks does not undo the one that has them.
    assert_eq!(seen(&listed("pin %s\npin %!d"), "pin 1234\npin x"), "pin [REDACTED]\npin x");
}

#[test]
fn a_line_of_the_dictionary_that_is_no_format_is_an_error_with_its_place() {
    for (line, reason) in [
        ("%y", "conversion"),
        ("%", "at the end"),
        ("n %n", "conversion"),
        ("%s", "every line"),
        ("%s %s %c", "every line"),
        ("a %.999s", "precision"),
        ("%5%", "flags"),
    ] {
        let error = Dictionary::parse(&format!("# comment\n\nok %d\n{line}\n"), "/x/redaction").err().unwrap();
        assert_eq!(error.kind, Kind::Config);
        assert!(error.message.starts_with("/x/redaction:4: ") && error.message.contains(reason), "{line:?}: {}", error.message);
    }
    assert!(Dictionary::parse(&"x".repeat(5000), "d").is_err());
    assert!(rules(Lines::Listed, &[], Some((b"\xff", "d"))).is_err());
}

#[test]
fn ends_of_lines_stay_what_they_are() {
    let rules = listed("ok");
    assert_eq!(seen(&rules, ""), "");
    assert_eq!(seen(&rules, "ok"), "ok");
    assert_eq!(seen(&rules, "ok\r\nno\r\nok"), "ok\r\n[REDACTED]\r\nok");
    assert_eq!(seen(&rules, "\n\nno\n"), "[REDACTED]\n[REDACTED]\n[REDACTED]\n");
}

#[test]
fn lines_that_are_no_text_or_too_long_are_hidden_in_little_memory() {
    let all = masked(&[]);
    assert_eq!(seen(&all, b"a\n\xff\xfe\nb\0c\n"), "a\n[REDACTED]\nb\0c\n");
    for (length, hidden) in [(MAX_LINE, false), (MAX_LINE + 1, true), (3 * MAX_LINE, true)] {
        let text = format!("a\n{}\r\nb\n", "x".repeat(length));
        let shown = seen(&all, &text);
        assert_eq!(shown == "a\n[REDACTED]\r\nb\n", hidden, "{length}");
        assert_eq!(shown == text, !hidden, "{length}");
    }
    let mut reader = Redacted::new(io::repeat(b'x').take(1 << 30), all);
    let mut out = Vec::new();
    reader.read_to_end(&mut out).unwrap();
    assert_eq!(out, HIDDEN.as_bytes());
    assert!(reader.line.capacity() + reader.out.capacity() < 4 * MAX_LINE);
}

#[test]
fn the_size_of_the_pieces_read_changes_nothing() {
    struct Pieces<'a>(&'a [u8], usize);
    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(buffer.len());
            self.0.read(&mut buffer[..most])
        }
    }
    let rules = Arc::new(rules(Lines::Listed, &[Mask::PrivateKey], Some((b"ok %s\nline %!d\n", "d"))).unwrap());
    let text =
        "ok 1\nline 22\nsecret\n-----BEGIN PRIVATE KEY-----\nok\n-----END PRIVATE KEY-----\nok -----BEGIN PRIVATE KEY-----\nok x\r\nlast";
    let whole = seen(&rules, text);
    assert!(whole.starts_with("ok 1\nline [REDACTED]\n[REDACTED]\n"), "{whole}");
    assert!(whole.ends_with("ok [REDACTED:private_key]\n[REDACTED:private_key]\r\n[REDACTED]"), "{whole}");
    for size in 1..40 {
        let mut reader = Redacted::new(Pieces(text.as_bytes(), size), Arc::clone(&rules));
        let mut out = Vec::new();
        let mut buffer = vec![0; size];
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => break,
                got => out.extend_from_slice(&buffer[..got]),
            }
        }
        assert_eq!(String::from_utf8(out).unwrap(), whole, "{size}");
    }
}

#[track_caller]
fn masks(mask: Mask, cases: &[(&str, &str)]) {
    let rules = masked(&[mask]);
    let mark = format!("[REDACTED:{}]", mask_word(mask));
    for (line, expected) in cases {
        assert_eq!(seen(&rules, line), expected.replace("<>", &mark), "{line:?}");
    }
}

#[test]
fn each_mask_finds_what_it_is_named_after() {
    masks(
        Mask::Password,
        &[
            ("password=hunter2 user=joe", "password=<> user=joe"),
            ("db_passwd: 'a b' x", "db_passwd: <> x"),
            (r#"{"password": "a\"b c", "u": 1}"#, r#"{"password": <>, "u": 1}"#),
            (r#"{\"password\":\"abc\"}"#, r#"{\"password\":<>"#),
            ("mysql --password hunter2 -h db", "mysql --password <> -h db"),
            ("CREATE USER x IDENTIFIED BY 'y z'", "CREATE USER x IDENTIFIED BY <>"),
            ("Failed password for root", "Failed password for root"),
            ("the password is hunter2", "the password is <>"),
        ],
    );
    masks(
        Mask::Token,
        &[
            ("api_key=abc123 ok", "api_key=<> ok"),
            ("Authorization: Bearer abc.def-1234", "Authorization: <>"),
            ("curl -H 'x: bearer abcdefgh1'", "curl -H 'x: bearer <>'"),
            ("basic functionality works", "basic functionality works"),
            ("cookie: a=b; c=d", "cookie: <>"),
            ("use ghp_abcdefghijklmnopqrst123456 now", "use <> now"),
        ],
    );
    masks(Mask::Jwt, &[("t eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-_x end", "t <> end"), ("eyJust.a word", "eyJust.a word")]);
    masks(
        Mask::AwsKey,
        &[
            ("id AKIAIOSFODNN7EXAMPLE x", "id <> x"),
            ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_access_key = <>"),
        ],
    );
    masks(
        Mask::UrlCredentials,
        &[
            ("get https://joe:pw@host/x", "get https://<>@host/x"),
            ("amqp://u:p@ss/w@host:1/", "amqp://<>@host:1/"),
            ("https://host/x", "https://host/x"),
            ("https://tok@host", "https://<>@host"),
        ],
    );
    masks(Mask::Email, &[("to joe.doe+x@mail.example.org.", "to <>."), ("user@host", "user@host")]);
    masks(
        Mask::Ipv4,
        &[("from 10.1.2.3:80 to 255.255.255.255", "from <>:80 to <>"), ("v 1.2.3", "v 1.2.3"), ("300.1.1.999", "300.1.1.999")],
    );
    masks(
        Mask::Ipv6,
        &[
            ("from [2001:db8::1]:443", "from [<>]:443"),
            ("addr:2001:db8::1", "addr<>"),
            ("a fe80::1%eth0 ::1 x", "a <>%eth0 <> x"),
            ("at 12:34:56 std::io 00:11:22:33:44:55", "at 12:34:56 std::io 00:11:22:33:44:55"),
            ("::ffff:10.0.0.1 2001:db8:: end.", "<> <> end."),
        ],
    );
    masks(
        Mask::CreditCard,
        &[
            ("card 4111 1111 1111 1111 ok", "card <> ok"),
            ("card 4111111111111111", "card <>"),
            ("n 12 4111-1111-1111-1111", "n <>"),
            ("n 4111111111111112", "n 4111111111111112"),
            ("at 1700000000000", "at 1700000000000"),
        ],
    );
}

#[test]
fn a_private_key_is_masked_from_its_beginning_to_its_end() {
    let text = "a\nx -----BEGIN RSA PRIVATE KEY-----\nMIIE\nsecret\n-----END RSA PRIVATE KEY----- y\nb\n-----BEGIN CERTIFICATE-----\nc\n";
    let mark = "[REDACTED:private_key]";
    let expected = format!("a\nx {mark}\n{mark}\n{mark}\n{mark} y\nb\n-----BEGIN CERTIFICATE-----\nc\n");
    assert_eq!(seen(&masked(&[Mask::PrivateKey]), text), expected);
    let one = r#"{"k":"-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\n","z":1}"#;
    assert_eq!(seen(&masked(&[Mask::PrivateKey]), one), format!(r#"{{"k":"{mark}\n","z":1}}"#));
    // A key that never ends hides a bounded number of lines; one that begins in a line too long to be shown is known too.
    let lines = seen(&masked(&[Mask::PrivateKey]), format!("-----BEGIN PRIVATE KEY-----\n{}", "x\n".repeat(2000)));
    assert_eq!(lines.lines().filter(|line| *line == "x").count(), 1000);
    let long = format!("{}-----BEGIN PRIVATE KEY-----{}\nMIIE\n", "x".repeat(2 * MAX_LINE - 10), "y".repeat(MAX_LINE));
    assert_eq!(seen(&masked(&[Mask::PrivateKey]), long), format!("{HIDDEN}\n{mark}\n"));
}

#[test]
fn masks_that_overlap_leave_nothing_between_them() {
    let rules = masked(&[Mask::Password, Mask::UrlCredentials, Mask::Email, Mask::Token, Mask::Ipv4]);
    let line = seen(&rules, "password=https://joe:token=abc@10.0.0.1/ tail");
    assert!(!line.contains("joe") && !line.contains("abc") && line.ends_with(" tail"), "{line}");
    let rules = Arc::new(super::rules(Lines::Listed, &[Mask::Email], Some((b"mail %!s to %s", "d"))).unwrap());
    assert_eq!(seen(&rules, "mail joe@example.org to a@example.org"), "mail [REDACTED:email] to [REDACTED:email]");
}

#[test]
fn rules_are_made_once_a_run_and_their_error_stays() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static MADE: AtomicU32 = AtomicU32::new(0);
    let source = Source::new(|| {
        MADE.fetch_add(1, Ordering::Relaxed);
        Err(Error::new(Kind::Config, "bad"))
    });
    for _ in 0..3 {
        assert_eq!(source.rules().unwrap_err().kind, Kind::Config);
    }
    assert_eq!(MADE.load(Ordering::Relaxed), 1);
}
