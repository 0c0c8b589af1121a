//! The form of one line: `lena in log-readers read /var/log/syslog` and `allow by log-reader-files`.

use super::draft::{Draft, Fault};
use super::values::Given;
use super::vocabulary::shown;

/// The words that say why something is denied.
pub(super) const WHYS: &[&str] = &["forbidden", "not_permitted", "condition_failed", "policy_error", "closed"];

/// Words at blanks. Single quotes keep blanks and go; double quotes keep blanks and stay, for Cedar notation.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut all, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut begun = false;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => {
                quote = None;
                if letter == '"' {
                    word.push(letter);
                }
            }
            (None, '\'' | '"') => {
                (quote, begun) = (Some(letter), true);
                if letter == '"' {
                    word.push(letter);
                }
            }
            (None, letter) if letter.is_whitespace() => {
                if begun {
                    all.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (_, letter) => {
                begun = true;
                word.push(letter);
            }
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    if begun {
        all.push(word);
    }
    Ok(all)
}

/// A text in double quotes without them.
fn bare(word: &str) -> String {
    word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(word).to_owned()
}

/// The question, over what the file says of every test. `place` is where the line begins.
///
/// # Errors
/// What is not as it should be.
pub(super) fn question(text: &str, place: usize, defaults: &Draft) -> Result<Draft, Fault> {
    let at = |wrong: String| (place, wrong);
    let (head, arguments) = match text.split_once(" -- ") {
        Some((head, arguments)) => (head, Some(arguments)),
        None => (text.strip_suffix(" --").unwrap_or(text), text.ends_with(" --").then_some("")),
    };
    let mut rest = words(head).map_err(at)?.into_iter();
    let form = || at("expected `PRINCIPAL [in GROUP,GROUP] ACTION RESOURCE [NAME=VALUE …] [missing] [-- ARGUMENT …]`".to_owned());
    let mut draft = Draft { place, name: Some(text.to_owned()), ..defaults.clone() };
    draft.principals = vec![(place, bare(&rest.next().ok_or_else(form)?))];
    let mut action = rest.next().ok_or_else(form)?;
    if action == "in" {
        let groups = rest.next().ok_or_else(form)?;
        draft.groups.extend(groups.split(',').filter(|group| !group.is_empty()).map(bare));
        action = rest.next().ok_or_else(form)?;
    }
    draft.actions = vec![(place, action)];
    draft.resources = vec![(place, rest.next().ok_or_else(form)?)];
    for word in rest {
        if word == "missing" {
            draft.missing = true;
            continue;
        }
        let Some((name, value)) = word.split_once('=') else { return Err(at(format!("`{}` is not NAME=VALUE", shown(&word)))) };
        let given = Given::Word(bare(value));
        let pairs = match name.split_once('.') {
            Some(("principal", _)) => &mut draft.principal_has,
            Some(("resource", _)) => &mut draft.resource_has,
            Some(("context", _)) => &mut draft.context,
            Some(("session", _)) => &mut draft.session,
            None if name == "now" => {
                draft.now = Some((place, given));
                continue;
            }
            None if name == "client_address" => {
                draft.client_address = Some((place, given));
                continue;
            }
            _ => {
                return Err(at(format!(
                    "`{}`: a name is `now`, `client_address`, or begins with `principal.`, `resource.`, `context.` or `session.`",
                    shown(name)
                )));
            }
        };
        let name = name.split_once('.').map_or(name, |(_, name)| name).to_owned();
        pairs.retain(|(_, known, _)| *known != name);
        pairs.push((place, name, given));
    }
    if let Some(arguments) = arguments {
        draft.context.retain(|(_, name, _)| name != "argv");
        draft.context.push((place, "argv".to_owned(), Given::Word(arguments.to_owned())));
    }
    Ok(draft)
}

/// The answer: `allow [by ID]`, or `deny [WHY] [by ID]`.
///
/// # Errors
/// What is not as it should be.
pub(super) fn answer(text: &str, place: usize, draft: &mut Draft) -> Result<(), Fault> {
    let wrong = || {
        let text = shown(text);
        (place, format!("`{text}` is no answer: expected `allow [by ID]` or `deny [WHY] [by ID]`, WHY one of {}", WHYS.join(", ")))
    };
    let text = text.trim();
    let (head, by) = match text.split_once(" by ") {
        Some((head, by)) => (head.trim(), Some(by.trim())),
        None => (text, None),
    };
    let mut words = head.split_whitespace();
    draft.allow = Some(match words.next() {
        Some("allow") => true,
        Some("deny") => false,
        _ => return Err(wrong()),
    });
    draft.why = match words.next() {
        None => None,
        Some(why) if WHYS.contains(&why) => Some(why.to_owned()),
        Some(_) => return Err(wrong()),
    };
    draft.by = by.filter(|by| !by.is_empty()).map(|by| vec![by.to_owned()]);
    draft.by_exactly = false;
    if words.next().is_some() || by == Some("") { Err(wrong()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn read(text: &str) -> Draft {
        question(text, 0, &Draft::default()).unwrap()
    }

    #[test]
    fn a_line_is_read_word_by_word() {
        let draft = read("'bob builder' in a,b file_system::read /srv/app/x resource.owner=app session.runbook=\"two words\" missing");
        assert_eq!(draft.principals[0].1, "bob builder");
        assert_eq!(draft.groups, ["a", "b"]);
        assert_eq!((draft.actions[0].1.as_str(), draft.resources[0].1.as_str()), ("file_system::read", "/srv/app/x"));
        assert_eq!(draft.resource_has[0].1, "owner");
        assert_eq!(draft.session[0].2, Given::Word("two words".to_owned()));
        assert!(draft.missing);
        assert_eq!(read("a list process_system::Process::\"1\"").resources[0].1, "process_system::Process::\"1\"");
        assert_eq!(read("a execute /bin/x -- -a 'b c'").context[0].2, Given::Word("-a 'b c'".to_owned()));
        assert_eq!(read("a execute /bin/x --").context[0].2, Given::Word(String::new()));
    }

    #[test]
    fn what_is_no_line_is_refused_with_the_form() {
        for bad in ["", "a", "a read", "a in", "a in b read", "a read /x y", "a read /x owner=b", "a read '/x"] {
            assert!(question(bad, 0, &Draft::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_are_allow_or_deny_with_why_and_by_whom() {
        let read = |text: &str| {
            let mut draft = Draft::default();
            answer(text, 0, &mut draft).map(|()| (draft.allow.unwrap(), draft.why, draft.by))
        };
        assert_eq!(read("allow").unwrap(), (true, None, None));
        assert_eq!(read("deny forbidden by a b").unwrap(), (false, Some("forbidden".into()), Some(vec!["a b".into()])));
        for bad in ["", "yes", "deny because", "allow by ", "deny forbidden closed", "denied"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
