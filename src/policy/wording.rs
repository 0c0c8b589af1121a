//! Faults that Cedar's parser and validator find, in words that say what would be right here.

use cedar_policy_core::validator::ValidatorSchema;

/// What the schema has, for guesses.
pub(super) struct Names {
    /// Namespace and name of every action, groups included; sorted.
    actions: Vec<(String, String)>,
    /// Every entity type but those of actions; sorted.
    kinds: Vec<String>,
}

/// Types that people look for by another name, and what they are called.
const KNOWN_AS: &[(&str, &str)] = &[
    ("folder", "Dir"),
    ("directory", "Dir"),
    ("path", "File"),
    ("unit", "Service"),
    ("pid", "Process"),
    ("user", "User"),
    ("role", "Group"),
];
/// Places of a word that are named; of more only some.
const MANY: usize = 6;

impl Names {
    pub(super) fn of(schema: &ValidatorSchema) -> Self {
        let action =
            |whole: &str| whole.split_once("Action::\"").map(|(space, id)| (space.to_owned(), id.trim_end_matches('"').to_owned()));
        let mut actions: Vec<(String, String)> = schema
            .action_ids()
            .filter_map(|action_id| action(&action_id.name().to_string()))
            .map(|(space, id)| (space.trim_end_matches("::").to_owned(), id))
            .collect();
        actions.sort();
        let mut kinds: Vec<String> = schema.entity_type_names().map(ToString::to_string).collect();
        kinds.retain(|kind| !kind.ends_with("Action"));
        kinds.sort();
        Self { actions, kinds }
    }

    /// The message with our guess in place of the validator's, which looks at how words are spelt alone.
    pub(super) fn mended(&self, message: &str) -> String {
        for (head, action) in [("unrecognized action `", true), ("unrecognized entity type `", false)] {
            let Some((before, rest)) = message.split_once(head) else { continue };
            let Some((wrong, _)) = rest.split_once('`') else { continue };
            let what = if action { "there is no action" } else { "there is no entity type" };
            let help = if action { self.action(wrong) } else { self.kind(wrong) };
            return format!("{before}{what} `{wrong}`; {help}");
        }
        message.to_owned()
    }

    fn action(&self, wrong: &str) -> String {
        let (space, word) = wrong.split_once("Action::\"").unwrap_or(("", wrong));
        let (space, word) = (space.trim_end_matches("::"), word.trim_end_matches('"'));
        let of = |space: &str| self.actions.iter().filter(move |(of, _)| of == space).map(|(_, word)| word.as_str()).collect::<Vec<_>>();
        let shown = |space: &str, word: &str| format!("`{space}::Action::\"{word}\"`");
        let own = of(space);
        if let Some(near) = nearest(word, own.iter().copied()) {
            return format!("did you mean {}?", shown(space, near));
        }
        let having: Vec<&str> = self.actions.iter().filter(|(_, known)| known == word).map(|(space, _)| space.as_str()).collect();
        if own.is_empty()
            && let Some(space) = nearest(space, self.actions.iter().map(|(space, _)| space.as_str()))
        {
            return match nearest(word, of(space).into_iter()) {
                Some(near) => format!("did you mean {}?", shown(space, near)),
                None => format!("did you mean the namespace `{space}`? It has {}", listed(&of(space))),
            };
        }
        match having.as_slice() {
            [] if own.is_empty() => format!("the namespaces are {}", listed(&self.spaces())),
            [] => format!("`{space}` has {}", listed(&own)),
            [only] => format!("did you mean {}?", shown(only, word)),
            many => {
                format!("did you mean one of {}?", many.iter().take(MANY).map(|space| shown(space, word)).collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn spaces(&self) -> Vec<&str> {
        let mut spaces: Vec<&str> = self.actions.iter().map(|(space, _)| space.as_str()).collect();
        spaces.dedup();
        spaces
    }

    fn kind(&self, wrong: &str) -> String {
        let parts = |kind: &str| {
            kind.rsplit_once("::").map_or((String::new(), kind.to_owned()), |(space, word)| (space.to_owned(), word.to_owned()))
        };
        let (space, word) = parts(wrong);
        let own: Vec<(String, &str)> =
            self.kinds.iter().filter(|kind| parts(kind).0 == space).map(|kind| (parts(kind).1, kind.as_str())).collect();
        let whole = |word: &str| own.iter().find(|(known, _)| known == word).map(|(_, kind)| *kind);
        let called = KNOWN_AS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)).map(|(_, right)| *right);
        let near = nearest(&word, own.iter().map(|(word, _)| word.as_str())).or(called).and_then(whole);
        if let Some(kind) = near {
            return format!("did you mean `{kind}`?");
        }
        let same: Vec<&str> = self
            .kinds
            .iter()
            .filter(|kind| {
                let known = parts(kind).1;
                known.eq_ignore_ascii_case(&word) || called == Some(known.as_str())
            })
            .map(String::as_str)
            .collect();
        match same.as_slice() {
            [] if own.is_empty() => format!("the types are {}", listed(&self.kinds.iter().map(String::as_str).collect::<Vec<_>>())),
            [] => format!("the types there are {}", listed(&own.iter().map(|(_, kind)| *kind).collect::<Vec<_>>())),
            [only] => format!("did you mean `{only}`?"),
            many => format!("did you mean one of {}?", listed(many)),
        }
    }
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// The known word that this one is a slip of, if any.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let far = match word.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    let lower = word.to_lowercase();
    known
        .map(|known| (strsim::damerau_levenshtein(&known.to_lowercase(), &lower), known))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// The text as the parser takes it, of the same length: a byte order mark at its beginning is blank.
pub(super) fn without_mark(text: &str) -> std::borrow::Cow<'_, str> {
    match text.strip_prefix('\u{feff}') {
        Some(rest) => format!("   {rest}").into(),
        None => text.into(),
    }
}

/// A fault of syntax: the byte to point at, and what to say, where more can be said than the parser does.
pub(super) fn syntax(text: &str, offset: usize, message: &str) -> Option<(usize, String)> {
    let unclosed = message.contains("strings are closed");
    if unclosed && let Some(start) = unclosed_string(text, offset) {
        return Some((start, "this text is not closed: its second `\"` is missing on this line".to_owned()));
    }
    let words = match text.get(offset..)?.chars().next()? {
        '#' => "`#` begins no comment; comments begin with `//`".to_owned(),
        quote @ ('“' | '”' | '„' | '«' | '»' | '‘' | '’' | '‚' | '″' | '＂') => {
            format!("`{quote}` is no quotation mark of Cedar; write straight double quotes, as in \"text\"")
        }
        '\u{feff}' => "a byte order mark in the middle of the text; take it out".to_owned(),
        '\u{a0}' => "a no-break space; write a plain one".to_owned(),
        _ => return None,
    };
    Some((offset, words))
}

/// Where the first string that goes on past the end of its line begins. `limit`: where the parser gave up.
fn unclosed_string(text: &str, limit: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at <= limit {
        match bytes.get(at)? {
            b'"' => {
                let start = at;
                at += 1;
                loop {
                    match bytes.get(at) {
                        Some(b'"') => break,
                        Some(b'\\') => at += 2,
                        None | Some(b'\n') => return Some(start),
                        Some(_) => at += 1,
                    }
                }
                at += 1;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while bytes.get(at).is_some_and(|byte| *byte != b'\n') {
                    at += 1;
                }
            }
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn names() -> Names {
        let pair = |(space, word): &(&str, &str)| ((*space).to_owned(), (*word).to_owned());
        let actions = [
            ("file_system", "read"),
            ("file_system", "view"),
            ("journal", "read"),
            ("sysctl", "view"),
            ("systemd", "restart"),
            ("systemd", "start"),
        ];
        let kinds = ["Group", "User", "file_system::Dir", "file_system::File", "systemd::Service"];
        Names { actions: actions.iter().map(pair).collect(), kinds: kinds.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn a_guess_is_of_the_same_namespace_first_then_the_same_word() {
        for (wrong, says) in [
            ("file_system::Action::\"veiw\"", "did you mean `file_system::Action::\"view\"`?"),
            ("filesystem::Action::\"read\"", "did you mean `file_system::Action::\"read\"`?"),
            ("Action::\"read\"", "did you mean one of `file_system::Action::\"read\"`, `journal::Action::\"read\"`?"),
            ("file_system::Action::\"restart\"", "did you mean `systemd::Action::\"restart\"`?"),
            ("systemd::Action::\"reboot\"", "`systemd` has `restart`, `start`"),
            ("other::Action::\"x\"", "the namespaces are `file_system`, `journal`, `sysctl`, `systemd`"),
        ] {
            let said = names().mended(&format!("for policy `a`, unrecognized action `{wrong}`; did you mean `zzz`?"));
            assert_eq!(said, format!("for policy `a`, there is no action `{wrong}`; {says}"));
        }
        for (wrong, says) in [
            ("file_system::Folder", "did you mean `file_system::Dir`?"),
            ("Dir", "did you mean `file_system::Dir`?"),
            ("group", "did you mean `Group`?"),
            ("file_system::Socket", "the types there are `file_system::Dir`, `file_system::File`"),
        ] {
            assert_eq!(
                names().mended(&format!("unrecognized entity type `{wrong}`")),
                format!("there is no entity type `{wrong}`; {says}")
            );
        }
        assert_eq!(names().mended("something else"), "something else");
    }

    #[test]
    fn a_text_that_is_not_closed_is_pointed_at_where_it_begins() {
        let text = "@id(\"a\") // \"\npermit(principal, action, resource == X::\"/x);\n@id(\"b\")";
        let open = text.find("\"/x").unwrap();
        assert_eq!(syntax(text, text.len() - 2, "invalid token; try checking that all strings are closed properly").unwrap().0, open);
        assert_eq!(syntax("permit", 0, "invalid token"), None);
        assert_eq!(syntax("permit", 99, "invalid token"), None);
    }
}
