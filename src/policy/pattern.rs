//! Patterns of `like`, compared with one another: whether a text can match both, and whether all that matches one matches the other.

use cedar_policy_core::ast::{Pattern, PatternElem};

/// A pattern of `like`: characters, and wildcards that stand for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob(Vec<Option<char>>);

impl Glob {
    pub(super) fn of(pattern: &Pattern) -> Self {
        Self(
            pattern
                .iter()
                .map(|element| match element {
                    PatternElem::Char(c) => Some(*c),
                    PatternElem::Wildcard => None,
                })
                .collect(),
        )
    }
    pub(super) fn from_elements(elements: Vec<Option<char>>) -> Self {
        Self(elements)
    }
    #[cfg(test)]
    pub(super) fn parse(text: &str) -> Self {
        Self(text.chars().map(|c| (c != '*').then_some(c)).collect())
    }
    /// Each character, or None for a wildcard.
    pub(super) fn elements(&self) -> &[Option<char>] {
        &self.0
    }
    /// How much work a comparison with another is, at most.
    pub(super) fn cost(&self, other: usize) -> u64 {
        (self.0.len() as u64 + 1).saturating_mul(other as u64 + 1)
    }
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
    /// What every text that matches begins with.
    pub(super) fn begins(&self) -> String {
        self.0.iter().map_while(|element| *element).collect()
    }
    /// Whether the text matches.
    pub(super) fn takes(&self, text: &str) -> bool {
        let text: Vec<Option<char>> = text.chars().map(Some).collect();
        covers(&self.0, &text)
    }
    /// Whether all that matches `other` surely matches this too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        covers(&self.0, &other.0)
    }
    /// Whether some text can match both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        // row[j]: whether what is left of `a` and what is left of `b` from j on can be one text.
        let mut row = vec![false; b.len() + 1];
        for (i, left) in std::iter::once(&None).chain(a.iter().rev()).enumerate() {
            let mut next = vec![false; b.len() + 1];
            for j in (0..=b.len()).rev() {
                let right = b.get(j);
                let below = row.get(j).copied().unwrap_or(false);
                let beside = next.get(j + 1).copied().unwrap_or(false);
                let across = row.get(j + 1).copied().unwrap_or(false);
                let value = if i == 0 {
                    // `a` is at its end.
                    right.is_none() || right == Some(&None) && beside
                } else {
                    match (left, right) {
                        (None, None) => below,
                        (Some(_), None) => false,
                        (None, Some(_)) => below || beside,
                        (Some(_), Some(None)) => beside || below,
                        (Some(c), Some(Some(d))) => c == d && across,
                    }
                };
                if let Some(cell) = next.get_mut(j) {
                    *cell = value;
                }
            }
            row = next;
        }
        row.first().copied().unwrap_or(false)
    }
    /// As Cedar writes it.
    pub(super) fn written(&self) -> String {
        let mut out = String::from("\"");
        for element in &self.0 {
            match element {
                None => out.push('*'),
                Some('*') => out.push_str("\\*"),
                Some(c) => out.extend(c.escape_debug()),
            }
        }
        out.push('"');
        out
    }
}

/// Greedy matching: a wildcard takes anything, also a wildcard; a character takes only itself.
fn covers(pattern: &[Option<char>], text: &[Option<char>]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), text.get(t)) {
            (Some(None), _) => {
                back = Some((p + 1, t));
                p += 1;
            }
            (Some(Some(c)), Some(Some(d))) if c == d => (p, t) = (p + 1, t + 1),
            _ => match back {
                Some((after, from)) => {
                    back = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(Option::is_none)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn glob(text: &str) -> Glob {
        Glob::parse(text)
    }

    #[test]
    fn patterns_meet_where_a_text_matches_both() {
        for (a, b, meet) in [
            ("/a/*", "/b/*", false),
            ("/a/*", "*/b", true),
            ("*.log", "*.gz", false),
            ("*", "", true),
            ("", "a", false),
            ("a*b", "ab", true),
            ("a*b*c", "*bc", true),
            ("/srv/*", "/srv", false),
        ] {
            assert_eq!((glob(a).meets(&glob(b)), glob(b).meets(&glob(a))), (meet, meet), "{a} {b}");
        }
    }

    #[test]
    fn one_pattern_covers_another() {
        for (wide, narrow, covers) in [
            ("*", "/a/*", true),
            ("/a*", "/a/*", true),
            ("/a/*", "/a*", false),
            ("*.log", "/var/*.log", true),
            ("*.log", "*", false),
            ("a*c", "a*b*c", true),
        ] {
            assert_eq!(glob(wide).covers(&glob(narrow)), covers, "{wide} {narrow}");
        }
    }

    proptest! {
        #[test]
        fn what_matches_is_never_denied_to_match(a in "[ab*]{0,6}", b in "[ab*]{0,6}", text in "[ab]{0,6}") {
            let (a, b) = (glob(&a), glob(&b));
            if a.takes(&text) && b.takes(&text) {
                prop_assert!(a.meets(&b));
            }
            if a.covers(&b) && b.takes(&text) {
                prop_assert!(a.takes(&text));
            }
        }

        #[test]
        fn meeting_patterns_have_a_common_text(a in "[ab*]{0,4}", b in "[ab*]{0,4}") {
            let texts = (0..=8_u32).flat_map(|length| (0..2_u32.pow(length)).map(move |bits| {
                (0..length).map(|at| if bits >> at & 1 == 1 { 'a' } else { 'b' }).collect::<String>()
            }));
            let (a, b) = (glob(&a), glob(&b));
            prop_assert_eq!(a.meets(&b), texts.into_iter().any(|text| a.takes(&text) && b.takes(&text)));
        }
    }
}
