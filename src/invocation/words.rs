//! A request as words: what bytes it may hold, how quotes and backslashes split it, how its words are shown in errors.

use crate::error::{Error, Kind, Result};

/// The longest request, in bytes. sshd itself passes on a little under 128 KiB.
pub const MAX_REQUEST: usize = 64 * 1024;

/// The longest piece of a caller's word that an error repeats, in characters after escaping.
const SHOWN: usize = 80;

/// A [`Kind::Usage`] error: the request is wrong (exit 2).
pub(super) fn usage(message: impl Into<String>) -> Error {
    Error::new(Kind::Usage, message)
}

/// A caller's word as errors and records show it: escaped, so that it cannot move a cursor or forge a line, and cut to 80 characters.
#[must_use]
pub fn shown(word: &str) -> String {
    // 80 characters of output come from at most 80 of input, so a word of any length costs the same.
    let mut escaped = word.chars().take(SHOWN + 1).collect::<String>().escape_debug().to_string();
    if let Some((cut, _)) = escaped.char_indices().nth(SHOWN) {
        escaped.truncate(cut);
        escaped.push('…');
    }
    escaped
}

/// The request as text: at most 64 KiB of UTF-8 without control characters other than tab.
///
/// # Errors
/// [`Kind::Usage`] otherwise. Nothing is repaired or left out: two readers of one request must never see two requests.
pub fn text(request: &[u8]) -> Result<&str> {
    if request.len() > MAX_REQUEST {
        return Err(usage(format!("the request has {} bytes, at most {MAX_REQUEST} are accepted", request.len()))
            .with_hint("send the script on stdin"));
    }
    let text = std::str::from_utf8(request)
        .map_err(|error| usage(format!("the request is not UTF-8 text: the byte at position {} is wrong", error.valid_up_to() + 1)))?;
    // `char::is_control` is Unicode's Cc, which is C0, DEL and C1; some terminals act on C1 as they do on escapes.
    if let Some((place, control)) = text.char_indices().find(|(_, character)| character.is_control() && *character != '\t') {
        return Err(usage(format!(
            "the request holds the control character U+{:04X} at position {}, which no request may",
            u32::from(control),
            place + 1
        ))
        .with_hint("a request is one line; send the script on stdin"));
    }
    Ok(text)
}

/// Splits text as a POSIX shell splits an unexpanded line: blanks and tabs part words, `'…'` is literal, in `"…"` a backslash escapes
/// `$`, `` ` ``, `"` and itself only, elsewhere it escapes any character. Everything else, `;` `$` `*` `#` `~` included, is plain text.
/// (POSIX.1-2024, Shell Command Language, 2.2 Quoting.)
///
/// # Errors
/// [`Kind::Usage`] for a quote that is never closed and for a backslash at the end.
pub fn split(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        if matches!(character, ' ' | '\t') {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match character {
            '\'' | '"' => quoted(character, &mut characters, word)
                .ok_or_else(|| usage(format!("the quote `{character}` at position {} is never closed", place + 1)))?,
            '\\' => {
                let (_, escaped) = characters.next().ok_or_else(|| usage("the backslash at the end escapes nothing"))?;
                word.push(escaped);
            }
            plain => word.push(plain),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Reads up to and with the closing `quote`; nothing if there is none.
fn quoted(quote: char, characters: &mut std::str::CharIndices<'_>, word: &mut String) -> Option<()> {
    loop {
        match characters.next()?.1 {
            character if character == quote => return Some(()),
            '\\' if quote == '"' => {
                let escaped = characters.next()?.1;
                if !matches!(escaped, '$' | '`' | '"' | '\\') {
                    word.push('\\');
                }
                word.push(escaped);
            }
            character => word.push(character),
        }
    }
}

/// The nearest of some names to what was typed, for a hint; none if nothing is near.
pub(super) fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A long word is no slip of the fingers, and its distance would cost time.
    if typed.len() > 64 {
        return None;
    }
    names
        .into_iter()
        .map(|name| (name, strsim::jaro_winkler(typed, name)))
        .filter(|(_, likeness)| *likeness >= 0.8)
        .max_by(|one, other| one.1.total_cmp(&other.1))
        .map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    /// The plainest quoting there is: all in single quotes, each single quote outside of them behind a backslash.
    fn quote(word: &str) -> String {
        format!("'{}'", word.replace('\'', r"'\''"))
    }

    #[test]
    fn quotes_and_backslashes_split_as_posix_says() {
        for (text, words) in [
            ("", &[] as &[&str]),
            (" \t ", &[]),
            ("rex run", &["rex", "run"]),
            ("\trex\t\trun ", &["rex", "run"]),
            (r#"a'b c'd"e f"g"#, &["ab cde fg"]),
            (r"a\ b \'", &["a b", "'"]),
            (r#"'' """#, &["", ""]),
            (r"'\n'", &[r"\n"]),
            (r#""\n \\ \" \$ \`""#, &[r#"\n \ " $ `"#]),
            ("a\\\tb 'c\td'", &["a\tb", "c\td"]),
            ("$HOME $(id) `id` ~ * ? {a,b} #x", &["$HOME", "$(id)", "`id`", "~", "*", "?", "{a,b}", "#x"]),
            ("a;b a&&b a|b >f 2>&1", &["a;b", "a&&b", "a|b", ">f", "2>&1"]),
            ("'ä' \u{2028}", &["ä", "\u{2028}"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text:?}");
        }
    }

    #[test]
    fn an_open_quote_is_an_error_that_says_where() {
        for (text, message) in [
            ("rex 'a", "the quote `'` at position 5 is never closed"),
            ("rex \"a", "the quote `\"` at position 5 is never closed"),
            ("rex \"a\\", "the quote `\"` at position 5 is never closed"),
            ("it's", "the quote `'` at position 3 is never closed"),
            ("rex \\", "the backslash at the end escapes nothing"),
        ] {
            let error = split(text).unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (Kind::Usage, message));
        }
    }

    #[test]
    fn every_control_character_but_tab_refuses_the_whole_request() {
        for code in (0..=0x1f).chain(0x7f..=0x9f) {
            let control = char::from_u32(code).unwrap();
            let request = format!("rex -e '1{control}'");
            if control == '\t' {
                assert_eq!(text(request.as_bytes()).unwrap(), request);
            } else {
                let error = text(request.as_bytes()).unwrap_err();
                assert_eq!(error.kind, Kind::Usage);
                assert!(error.message.contains(&format!("U+{code:04X} at position 10")), "{}", error.message);
            }
        }
        assert!(text("rex -e '\u{a0}ä\u{fffd}'".as_bytes()).is_ok(), "the neighbours of C1 are text");
    }

    #[test]
    fn invalid_utf8_is_refused_and_never_converted() {
        for bytes in [&b"rex \xff"[..], b"rex \xc0\xaf", b"rex \xed\xa0\x80", b"rex \xf8\x88\x80\x80\x80", b"rex \xe2\x82"] {
            let error = text(bytes).unwrap_err();
            assert_eq!(error.kind, Kind::Usage);
            assert!(error.message.ends_with("the byte at position 5 is wrong"), "{}", error.message);
        }
        // A C1 control as one raw byte is no UTF-8; as UTF-8 it is a control.
        assert!(text(b"rex \x9b").is_err() && text("rex \u{9b}".as_bytes()).is_err());
    }

    #[test]
    fn a_request_of_64_kib_is_the_longest() {
        let mut request = vec![b'a'; MAX_REQUEST];
        assert!(text(&request).is_ok());
        request.push(b'a');
        assert_eq!(text(&request).unwrap_err().message, "the request has 65537 bytes, at most 65536 are accepted");
    }

    #[test]
    fn a_shown_word_is_short_and_holds_no_control_character() {
        assert_eq!(shown("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(shown("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(shown(&"x".repeat(80)), "x".repeat(80));
        assert_eq!(shown(&"x".repeat(81)), format!("{}…", "x".repeat(80)));
        assert_eq!(shown(&"\n".repeat(1 << 20)).chars().count(), 81);
    }

    #[test]
    fn a_slip_has_a_nearest_name_and_nonsense_has_none() {
        let names = ["--timeout", "--budget"];
        assert_eq!(nearest("--timout", names), Some("--timeout"));
        assert_eq!(nearest("zzz", names), None);
        assert_eq!(nearest(&"--timeout".repeat(10), names), None);
    }

    proptest! {
        #[test]
        fn words_that_are_quoted_come_back_as_they_were(words in prop::collection::vec(any::<String>(), 0..8)) {
            let text = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(&text).unwrap(), words);
        }

        #[test]
        fn words_with_every_character_escaped_come_back_as_they_were(words in prop::collection::vec(".{1,20}", 0..8)) {
            let escape = |word: &String| word.chars().flat_map(|character| ['\\', character]).collect::<String>();
            prop_assert_eq!(split(&words.iter().map(escape).collect::<Vec<_>>().join("\t")).unwrap(), words);
        }

        #[test]
        fn splitting_never_adds_a_character(text in any::<String>()) {
            if let Ok(words) = split(&text) {
                prop_assert!(words.iter().map(String::len).sum::<usize>() <= text.len());
            }
        }

        #[test]
        fn accepted_bytes_are_passed_on_unchanged(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(accepted) = text(&bytes) {
                prop_assert_eq!(accepted.as_bytes(), &bytes[..]);
                prop_assert!(!accepted.chars().any(|character| character.is_control() && character != '\t'));
            }
        }

        #[test]
        fn no_shown_word_breaks_a_line(word in any::<String>()) {
            prop_assert!(!shown(&word).chars().any(char::is_control));
        }
    }
}
