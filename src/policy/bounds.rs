//! Bounds on policy text, checked before Cedar's recursive parser and validator see it.

/// Largest policy file, in bytes.
pub(super) const FILE: usize = 4 << 20;
/// Largest set of policies, in bytes.
pub(super) const TOTAL: usize = 16 << 20;
/// Deepest nesting of brackets and of `if`.
pub(super) const DEPTH: usize = 64;
/// Most operators in one policy: a chain of `||` is as deep as it is long once it is parsed.
pub(super) const OPERATORS: usize = 1000;

/// What is too much, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch {
    pub offset: usize,
    pub message: String,
}

/// # Errors
/// When the text is too large, too deep, or one of its policies too long.
pub(super) fn check(text: &str) -> Result<(), TooMuch> {
    if text.len() > FILE {
        return Err(TooMuch { offset: 0, message: format!("the file is larger than {} MiB", FILE >> 20) });
    }
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut ifs, mut operators) = (0, 0_usize, 0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        let mut length = 1;
        match byte {
            b'"' => length = string(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'/') => length = comment(bytes, at),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b';' => (ifs, operators) = (0, 0),
            b'!' | b'-' | b'+' | b'*' | b'.' | b'<' | b'>' | b'=' => operators += 1,
            b'&' | b'|' => {
                operators += 1;
                length = if bytes.get(at + 1) == Some(byte) { 2 } else { 1 };
            }
            letter if letter.is_ascii_alphabetic() || *letter == b'_' => {
                length = word(bytes, at);
                match bytes.get(at..at + length) {
                    Some(b"if") => ifs += 1,
                    Some(b"has" | b"like" | b"in" | b"is") => operators += 1,
                    _ => {}
                }
            }
            _ => {}
        }
        if depth + ifs > DEPTH {
            return Err(TooMuch { offset: at, message: format!("nested deeper than {DEPTH} levels") });
        }
        if operators > OPERATORS {
            return Err(TooMuch {
                offset: at,
                message: format!("more than {OPERATORS} operators in one policy; split it, or use a set and `contains`"),
            });
        }
        at += length;
    }
    Ok(())
}

/// Length of a string literal with its quotes, to the end of the text if it is not closed.
fn string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1 - start,
            _ => at += 1,
        }
    }
    bytes.len().max(start + 1) - start
}

fn comment(bytes: &[u8], start: usize) -> usize {
    bytes.iter().skip(start).position(|byte| *byte == b'\n').unwrap_or(bytes.len() - start).max(1)
}

fn word(bytes: &[u8], start: usize) -> usize {
    bytes.iter().skip(start).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count().max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        let text = format!(
            "permit(principal, action, resource) when {{ \"{}\\\"{}\" == \"\" }}; // {}\n",
            "(".repeat(500),
            "[".repeat(500),
            "{".repeat(500)
        );
        assert_eq!(check(&text), Ok(()));
    }

    #[test]
    fn deep_brackets_ifs_and_long_chains_are_refused() {
        assert_eq!(check(&"(".repeat(100_000)).unwrap_err().offset, DEPTH);
        assert!(check(&"if true then 1 else ".repeat(100)).is_err());
        assert!(check(&"true || ".repeat(2000)).unwrap_err().message.contains("operators"));
        assert!(check(&"!".repeat(100_000)).is_err());
        assert!(check(&"a.".repeat(100_000)).is_err());
        assert!(check(&"a < ".repeat(100_000)).is_err());
    }

    #[test]
    fn each_policy_has_its_own_count_of_operators() {
        let policy = "permit(principal, action, resource) when { true || true || true };\n";
        assert_eq!(check(&policy.repeat(2000)), Ok(()));
    }

    #[test]
    fn the_text_may_end_anywhere() {
        for text in ["\"", "\"\\", "//", "/", "&", "|", "if", "i", ""] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        assert!(check(&" ".repeat(FILE + 1)).is_err());
    }
}
