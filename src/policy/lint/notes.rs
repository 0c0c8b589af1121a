//! Lints of annotations: misspelt ones, hints that nobody will see, rules without an id, and what `@allow` silences.

use super::{Item, LINTS, Level, Note, Span, View, lint};
use crate::policy::load::{ANNOTATIONS, place_of_annotation};
use crate::policy::slice::Reveal;
use crate::policy::suite::faults_of_annotation;

pub(super) fn look(view: &View<'_>, item: &Item<'_>, notes: &mut Vec<Note>) {
    let policy = &item.placed.policy;
    let mut named = false;
    for (name, _) in policy.annotations() {
        let name: &str = name.as_ref();
        named |= name == "id";
        if !ANNOTATIONS.contains(&name) {
            let note = Note::new("unknown-annotation", format!("the annotation `@{name}` means nothing here")).at(at(item, name));
            let near = nearest(name, ANNOTATIONS.iter().copied());
            notes.push(note.help(match near {
                Some(near) => format!("did you mean `@{near}`?"),
                None => format!("known ones are {}", ANNOTATIONS.iter().map(|name| format!("`@{name}`")).collect::<Vec<_>>().join(", ")),
            }));
        }
    }
    if !named {
        let help = "add @id(\"…\"): records and denials name the rule by it, wherever it moves";
        notes.push(Note::new("no-id", "this rule has no id of its own").help(help));
    }
    unseen(item, notes);
    let tests = policy.annotations().find(|(name, _)| AsRef::<str>::as_ref(*name) == "test");
    for wrong in
        tests.iter().flat_map(|(_, test)| faults_of_annotation(&item.rule.name, item.rule.permit, test.val.as_str(), &view.vocabulary))
    {
        let help = "sessions ignore it unless rex.toml has policy_tests, but `rex policy test` and `activate` refuse the set";
        notes.push(Note::new("bad-test", wrong).at(at(item, "test")).help(help));
    }
}

fn unseen(item: &Item<'_>, notes: &mut Vec<Note>) {
    let empty = |(name, value): &(&cedar_policy_core::ast::AnyId, &cedar_policy_core::ast::Annotation)| {
        AsRef::<str>::as_ref(*name) == "hint" && value.val.trim().is_empty()
    };
    if item.placed.policy.annotations().any(|pair| empty(&pair)) {
        let message = "this `@hint` says nothing";
        notes.push(Note::new("hint-unseen", message).at(at(item, "hint")).help("give it a text: @hint(\"only nginx may be restarted\")"));
        return;
    }
    let has = |key: &str| item.placed.policy.annotations().any(|(name, _)| AsRef::<str>::as_ref(name) == key);
    if item.rule.permit && item.rule.condition.is_none() {
        // A permit is told of only where its condition failed.
        for key in ["hint", "reveal"] {
            if has(key) {
                let message =
                    format!("nobody will ever see what this `@{key}` is about: a permit without a condition is never a reason to deny");
                let help = "take it out, or move what the scope says of the resource into `when { … }`";
                notes.push(Note::new("hint-unseen", message).at(at(item, key)).help(help));
            }
        }
    } else if has("hint") && item.rule.reveal == Reveal::None {
        let message = "nobody will ever see this hint: `@reveal(\"none\")` keeps it back";
        notes.push(Note::new("hint-unseen", message).at(at(item, "hint")).help("take out the one or the other"));
    }
}

fn at(item: &Item<'_>, key: &str) -> Option<Span> {
    let start = place_of_annotation(item.placed, key);
    Some((start, start))
}

/// The known word that this one is a slip of, if any.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let far = if word.chars().count() < 5 { 1 } else { 2 };
    known
        .map(|known| (strsim::damerau_levenshtein(known, word), known))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// What no `@allow` of the rule silences, and what is wrong with that annotation. Only warnings and notes can be silenced.
pub(super) fn not_allowed(item: &Item<'_>, notes: Vec<Note>, allowed: &mut usize, looked: &dyn Fn(&str) -> bool) -> Vec<Note> {
    let text = item.placed.policy.annotations().find(|(name, _)| AsRef::<str>::as_ref(*name) == "allow");
    let Some(text) = text.map(|(_, value)| value.val.to_string()) else { return notes };
    let names: Vec<&str> = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|name| !name.is_empty()).collect();
    let before = notes.len();
    let mut used = vec![false; names.len()];
    let mut left: Vec<Note> = Vec::new();
    for note in notes {
        match names.iter().position(|name| *name == note.lint) {
            Some(number) => {
                if let Some(used) = used.get_mut(number) {
                    *used = true;
                }
            }
            None => left.push(note),
        }
    }
    *allowed += before - left.len();
    if names.is_empty() {
        left.push(Note::new("unknown-lint", "this `@allow` names no lint").at(at(item, "allow")).help("@allow(\"any-resource\"), say"));
    }
    for (name, used) in names.into_iter().zip(used) {
        match lint(name) {
            None => {
                let note = Note::new("unknown-lint", format!("there is no lint `{name}`")).at(at(item, "allow"));
                let near = nearest(name, LINTS.iter().map(|lint| lint.name));
                left.push(note.help(match near {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "docs/policy-lints.md lists them".to_owned(),
                }));
            }
            Some(lint) if lint.level == Level::Error => {
                let message = format!("`{name}` is a fault and stops everything; nothing can allow it");
                left.push(Note::new("unknown-lint", message).at(at(item, "allow")));
            }
            Some(_) if !used && looked(name) => {
                let message = format!("this `@allow` silences nothing: the rule gives no reason for `{name}`");
                left.push(Note::new("unused-allow", message).at(at(item, "allow")).help("take it out"));
            }
            Some(_) => {}
        }
    }
    left
}
