//! Which functions a script can call, by the words in its text: to register the whole table for each run took longer than most scripts take.

use std::collections::HashSet;

/// Where one of these stands, a function can be called by a name that the script makes at run time: `Fn(…)`, the library's modules, and the functions on
/// arrays that also take the name of a function (`src/api/deprecated.rs` of Rhai).
const BY_NAME: &[&str] =
    &["Fn", "import", "map", "filter", "index_of", "some", "all", "dedup", "reduce", "reduce_rev", "sort", "drain", "retain"];

/// Most words of a script for which looking functions up one by one is worth it: the first call of each then takes 60 µs longer, to register Rhai's own takes 250 µs.
const FEW: usize = 3;

/// The words of a script, those in its texts and remarks too.
pub struct Names<'a> {
    /// None: any function may be called.
    words: Option<HashSet<&'a str>>,
    /// Whether a namespace may be named.
    paths: bool,
}

impl<'a> Names<'a> {
    #[must_use]
    pub fn of(script: &'a str) -> Self {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words: HashSet<&str> = script.split(|c| !word(c)).filter(|word| !word.is_empty()).collect();
        if BY_NAME.iter().any(|name| words.contains(name)) {
            return Self { words: None, paths: true };
        }
        Self { paths: script.contains("::"), words: Some(words) }
    }
    /// Whatever there is.
    #[must_use]
    pub fn all() -> Self {
        Self { words: None, paths: true }
    }
    /// Whether a function of this name may be called.
    #[must_use]
    pub fn may_call(&self, function: &str) -> bool {
        self.words.as_ref().is_none_or(|words| words.contains(function))
    }
    /// Whether next to nothing is called.
    #[must_use]
    pub fn few(&self) -> bool {
        self.words.as_ref().is_some_and(|words| words.len() <= FEW)
    }
    /// Whether something in the namespace of this name may be used.
    #[must_use]
    pub fn may_enter(&self, namespace: &str) -> bool {
        self.paths && self.may_call(namespace)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn words_are_found_wherever_they_stand() {
        for script in ["cat(p)", "p.cat()", "`${cat(p)}`", "x=cat", "é.cat", "// cat", "1cat; cat"] {
            assert!(Names::of(script).may_call("cat"), "{script}");
        }
        for script in ["", "concat(p)", "cat_2", "_cat", "\"ca\" + \"t\""] {
            assert!(!Names::of(script).may_call("cat"), "{script}");
        }
    }

    #[test]
    fn where_names_can_be_made_everything_may_be_called() {
        for script in ["Fn(x)", "import \"a\" as b;", "[1].map(f)", "x.sort(\"a\" + b)"] {
            let names = Names::of(script);
            assert!(names.may_call("cat") && names.may_enter("tail"), "{script}");
        }
    }

    #[test]
    fn few_words_are_few() {
        assert!(Names::of("1").few() && Names::of("cat(p)").few());
        assert!(!Names::of("a b c d").few() && !Names::of("Fn(x)").few());
    }

    #[test]
    fn namespaces_are_written_with_colons() {
        assert!(Names::of("tail([tail::n(5)], p)").may_enter("tail"));
        assert!(!Names::of("tail(p)").may_enter("tail"));
    }
}
