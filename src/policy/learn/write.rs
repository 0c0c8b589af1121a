//! Cedar text: literals that say exactly what they are made from, and one permit as people write them.

use std::fmt::Write as _;

/// A string literal of Cedar. Whatever could steer a terminal, hide, or look like something else is written by number.
#[must_use]
pub fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if plain(c) => out.push(c),
            c => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// What is written as it is: it looks like what it is, and steers nothing.
pub(super) fn plain(c: char) -> bool {
    matches!(c, ' '..='~') || c.is_alphanumeric() && !hidden(c)
}

/// Letters by their class that show nothing: fillers of Hangul, and the like.
fn hidden(c: char) -> bool {
    matches!(c, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{17b4}' | '\u{17b5}')
}

/// An entity.
#[must_use]
pub fn entity(kind: &str, id: &str) -> String {
    format!("{kind}::{}", literal(id))
}

/// A set of string literals, or one of numbers, in the order given.
#[must_use]
pub fn set(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// What stands in a comment: one line, nothing in it that could end it.
#[must_use]
pub fn comment(text: &str) -> String {
    let text = crate::audit::visible(text);
    let mut shown: String = text.chars().take(300).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("// {shown}\n")
}

/// A part of an id: small letters, digits and dashes, at most 40 of them, the end of what is long.
#[must_use]
pub fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    let out = out.trim_end_matches('-');
    out.get(out.len().saturating_sub(40)..).unwrap_or("").trim_start_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_literal_says_what_it_is_made_from(id in any::<String>()) {
            let text = format!("permit(principal, action, resource == file_system::File::{});", literal(&id));
            let set = cedar_policy_core::parser::parse_policyset(&text).unwrap();
            let policy = set.policies().next().unwrap();
            let reach = crate::policy::slice::reach(policy.resource_constraint().as_inner()).unwrap();
            prop_assert_eq!(reach, crate::policy::Reach::Exactly("file_system::File".to_owned(), id));
            prop_assert!(!text.chars().any(|c| c.is_control()));
        }
        #[test]
        fn a_comment_is_one_line(text in any::<String>()) {
            let comment = comment(&text);
            prop_assert_eq!(comment.matches(|c: char| c.is_control() || c == '\u{2028}').count(), 1);
        }
    }

    #[test]
    fn ids_are_made_of_letters_that_everybody_can_type() {
        assert_eq!(slug("/var/log/app/x.log"), "var-log-app-x-log");
        assert_eq!(slug("\n\"ü\""), "");
        assert!(slug(&"/abc".repeat(40)).len() <= 40);
    }
}
