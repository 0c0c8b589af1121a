//! Which words may name a principal or a group.

use crate::error::{Error, Kind, Result};

/// Bytes in a name of a principal, a group or a bastion.
pub const MAX_NAME: usize = 256;

/// Why `name` cannot name a principal or group, as the end of a sentence that begins with the name; `None` if it can. 1–256 bytes, no control characters, nothing invisible or that turns the direction of
/// the text around (a record must show who it was), no blank at either end. Quotes, `::` and commas are bytes like any other: names
/// reach Cedar as values, never as text to be parsed.
#[must_use]
pub fn fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > MAX_NAME {
        Some("is longer than 256 bytes")
    } else if name.contains(char::is_control) {
        Some("contains a control character")
    } else if name.contains(invisible) {
        Some("contains an invisible character or one that changes the direction of text")
    } else if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        Some("begins or ends with a blank")
    } else {
        None
    }
}

/// Unicode's format characters that hide or reorder text (UAX #9, zero-width characters), and its line separators.
fn invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// `name` if it may name a principal.
///
/// # Errors
/// [`Kind::Denied`] with the reason; `what` says where the name came from.
pub fn principal(name: &str, what: &str) -> Result<String> {
    match fault(name) {
        None => Ok(name.into()),
        Some(fault) => Err(Error::new(Kind::Denied, format!("{what} {fault}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn ordinary_names_and_punctuation_are_names() {
        for name in ["alice", "Zoë", "a b", "a,b", "a\"b", "User::\"root\"", "-x", &"x".repeat(256)] {
            assert_eq!(fault(name), None, "{name}");
        }
    }

    #[test]
    fn names_that_a_record_could_not_show_are_refused() {
        for name in
            ["", " a", "a ", "a\nb", "a\0", "a\u{7f}", "a\u{9b}", "a\u{202e}b", "a\u{200b}", "a\u{2028}", "\u{feff}a", &"x".repeat(257)]
        {
            assert!(fault(name).is_some(), "{name:?}");
        }
    }
}
