//! What is typed at the prompt, in pieces: enough of the language to see whether more lines are to come, what a word is, and where the cursor stands. Pure.
#![forbid(unsafe_code)]

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name or a keyword.
    Word,
    Number,
    /// A text or a character, with its quotes.
    Text,
    Remark,
    /// `(`, `[`, `{` or `#{`.
    Open,
    Close,
    Sign,
    Blank,
}

/// A piece, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    pub start: usize,
    pub text: &'a str,
}

impl Token<'_> {
    fn matters(&self) -> bool {
        !matches!(self.kind, Kind::Blank | Kind::Remark)
    }
}

/// A text in pieces.
#[derive(Debug, Default)]
pub struct Reading<'a> {
    pub tokens: Vec<Token<'a>>,
    /// The last piece is a text or a remark that has no end yet.
    pub unfinished: bool,
}

/// Signs of more than one character, the longest first.
const SIGNS: &[&str] = &[
    "**=", "<<=", ">>=", "..=", "?.", "??", "::", "=>", "==", "!=", "<=", ">=", "&&", "||", "+=", "-=", "*=", "/=", "%=", "**", "<<", ">>",
    "|=", "&=", "^=", "..", "->",
];
/// Signs behind which an entry cannot end.
const GO_ON: &[&str] = &[
    "+", "-", "*", "/", "%", "**", "=", "+=", "-=", "*=", "/=", "%=", "**=", "==", "!=", "<", ">", "<=", ">=", "&&", "||", "|", "&", "^",
    "<<", ">>", "??", ".", "?.", ",", "=>", "::", "|=", "&=", "^=", "<<=", ">>=",
];

/// How deep texts in backquotes are followed inside one another: each takes a frame of the stack.
const DEEPEST: usize = 16;

/// Takes a text to pieces.
#[must_use]
pub fn read(text: &str) -> Reading<'_> {
    let mut reading = Reading::default();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let (kind, length, finished) = piece(rest, 0);
        let end = (at + length.max(1)).min(text.len());
        // A piece ends between characters: whatever its length says, it is never cut.
        let end = (end..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
        reading.tokens.push(Token { kind, start: at, text: text.get(at..end).unwrap_or_default() });
        reading.unfinished = !finished;
        at = end;
    }
    reading
}

/// The kind of the first piece, its length, and whether it has an end.
fn piece(rest: &str, level: usize) -> (Kind, usize, bool) {
    let while_so = |so: fn(char) -> bool| rest.find(|c: char| !so(c)).unwrap_or(rest.len());
    let first = rest.chars().next().unwrap_or(' ');
    if first.is_whitespace() {
        return (Kind::Blank, while_so(char::is_whitespace), true);
    }
    if first.is_alphabetic() || first == '_' {
        return (Kind::Word, while_so(is_word), true);
    }
    if first.is_ascii_digit() {
        return (Kind::Number, number(rest), true);
    }
    if rest.starts_with("//") {
        return (Kind::Remark, rest.find('\n').unwrap_or(rest.len()), true);
    }
    if rest.starts_with("/*") {
        return ended(Kind::Remark, block_remark(rest), rest);
    }
    match first {
        '"' => plain_text(rest),
        '`' => ended(Kind::Text, template(rest, level), rest),
        '\'' => (Kind::Text, character(rest), true),
        '#' => match raw_text(rest) {
            Some(end) => ended(Kind::Text, end, rest),
            None if rest.starts_with("#{") => (Kind::Open, 2, true),
            None => (Kind::Sign, 1, true),
        },
        '(' | '[' | '{' => (Kind::Open, 1, true),
        ')' | ']' | '}' => (Kind::Close, 1, true),
        other => (Kind::Sign, SIGNS.iter().find(|sign| rest.starts_with(**sign)).map_or(other.len_utf8(), |sign| sign.len()), true),
    }
}

fn ended(kind: Kind, end: Option<usize>, rest: &str) -> (Kind, usize, bool) {
    (kind, end.unwrap_or(rest.len()), end.is_some())
}

/// Whether it can stand in a name.
#[must_use]
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `1_000`, `0xff`, `1.5e-3`; the dots of a range are no part of it.
fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let next = bytes.get(at + 1);
        match byte {
            b'.' if next.is_some_and(u8::is_ascii_digit) => at += 1,
            byte if byte.is_ascii_alphanumeric() || *byte == b'_' => at += 1,
            _ => break,
        }
    }
    at
}

/// A text in double quotes. It ends with its line, unless that ends in a backslash.
fn plain_text(rest: &str) -> (Kind, usize, bool) {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return (Kind::Text, at + 1, true),
            '\n' => return (Kind::Text, at, true),
            _ => {}
        }
    }
    (Kind::Text, rest.len(), false)
}

fn character(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' => return at + 1,
            '\n' => return at,
            _ => {}
        }
    }
    rest.len()
}

/// A text in backquotes, with whole expressions in it.
fn template(rest: &str, level: usize) -> Option<usize> {
    if level >= DEEPEST {
        return None;
    }
    let mut at = 1;
    let mut depth = 0usize;
    while let Some(inside) = rest.get(at..).filter(|inside| !inside.is_empty()) {
        if depth > 0 {
            // In an expression: its own texts and brackets count.
            let (kind, length, finished) = piece(inside, level + 1);
            if !finished {
                return None;
            }
            match kind {
                Kind::Open if inside.starts_with(['{', '#']) => depth += 1,
                Kind::Close if inside.starts_with('}') => depth -= 1,
                _ => {}
            }
            at += length.max(1);
        } else if inside.starts_with("${") {
            depth = 1;
            at += 2;
        } else if inside.starts_with('`') {
            // Two of them are one that is meant.
            if inside.starts_with("``") { at += 2 } else { return Some(at + 1) }
        } else {
            at += inside.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

/// `#"…"#`: where it ends, or that it does not; nothing where it is no such text.
fn raw_text(rest: &str) -> Option<Option<usize>> {
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    if rest.as_bytes().get(hashes) != Some(&b'"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    Some(rest.get(hashes + 1..).and_then(|inside| inside.find(&end)).map(|at| hashes + 1 + at + end.len()))
}

/// Remarks of this kind stand inside one another.
fn block_remark(rest: &str) -> Option<usize> {
    let (mut at, mut depth) = (0, 0usize);
    let bytes = rest.as_bytes();
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => {
                depth += 1;
                at += 2;
            }
            Some(b"*/") => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
    None
}

impl<'a> Reading<'a> {
    /// Whether more lines are to come: a bracket, a text over several lines or a remark is open, or it ends in a sign that needs something behind it.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        if self.unfinished {
            // A text in double quotes ends with its line; the engine says that its end is missing.
            let last = self.tokens.last().map_or("", |last| last.text);
            return !last.starts_with('"') || last.ends_with("\\\n") || last.ends_with('\\');
        }
        let depth = self.tokens.iter().fold(0i64, |depth, token| match token.kind {
            Kind::Open => depth + 1,
            Kind::Close => depth - 1,
            _ => depth,
        });
        let last = self.tokens.iter().rfind(|token| token.matters());
        depth > 0 || last.is_some_and(|last| last.kind == Kind::Sign && GO_ON.contains(&last.text))
    }

    /// The pieces that matter.
    pub fn words(&self) -> impl DoubleEndedIterator<Item = Token<'a>> + '_ {
        self.tokens.iter().copied().filter(Token::matters)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        read(text).words().map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn a_script_falls_into_its_pieces() {
        use Kind::{Close, Number, Open, Sign, Text, Word};
        assert_eq!(
            kinds("let x = ls(\"/a\", #{n: 1.5}); // no"),
            [
                (Word, "let"),
                (Word, "x"),
                (Sign, "="),
                (Word, "ls"),
                (Open, "("),
                (Text, "\"/a\""),
                (Sign, ","),
                (Open, "#{"),
                (Word, "n"),
                (Sign, ":"),
                (Number, "1.5"),
                (Close, "}"),
                (Close, ")"),
                (Sign, ";"),
            ]
        );
        assert_eq!(kinds("0..5"), [(Number, "0"), (Sign, ".."), (Number, "5")]);
        assert_eq!(kinds("`a ${ #{b: `}`} } c` + 1"), [(Text, "`a ${ #{b: `}`} } c`"), (Sign, "+"), (Number, "1")]);
        assert_eq!(kinds("##\"a\"# b\"## 'x' /* a /* b */ c */ 1"), [(Text, "##\"a\"# b\"##"), (Text, "'x'"), (Number, "1")]);
    }

    #[test]
    fn what_is_open_goes_on() {
        for text in
            ["f(", "[1,", "#{a: 1", "if x {", "`abc", "`a ${ b", "/* x", "#\"abc", "let x =", "1 +", "a.", "\"abc\\", "fn f(x) { // }"]
        {
            assert!(read(text).goes_on(), "{text}");
        }
        for text in ["", "1", "f()", "let x = 1;", "\"abc", "\"a(\"", "'('", "// (", "/* ( */ 1", "`(`", ")", "#\"(\"#", "x }"] {
            assert!(!read(text).goes_on(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_cut(text in ".{0,60}") {
            let reading = read(&text);
            let whole: String = reading.tokens.iter().map(|token| token.text).collect();
            prop_assert_eq!(&whole, &text);
            let _ = reading.goes_on();
        }
        #[test]
        fn nothing_is_lost_of_what_looks_like_a_script(text in "[a-z0-9\"'`${}#/*\\\\(). é\n]{0,40}") {
            let reading = read(&text);
            let whole: String = reading.tokens.iter().map(|token| token.text).collect();
            prop_assert_eq!(&whole, &text);
        }
    }
}
