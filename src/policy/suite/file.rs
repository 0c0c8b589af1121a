//! A `*.test.toml` as cases, every fault of it with its place.

use super::Case;
use super::draft::{Draft, Fault, Pairs, Person, Word, over};
use super::line::{self, WHYS};
use super::values::Given;
use super::vocabulary::{Vocabulary, shown};
use crate::policy::gate::Open;
use crate::policy::load::Source;
use crate::policy::pointed::{pointed, position};
use std::collections::HashMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Keys of a test, as messages name them.
const KEYS: &[&str] = &[
    "name",
    "principal",
    "groups",
    "principal_has",
    "action",
    "resource",
    "missing",
    "resource_has",
    "context",
    "session",
    "now",
    "client_address",
    "open",
    "expect",
    "by",
    "why",
    "hint",
    "retry",
];
const TOP: &[&str] = &["policies", "open", "principals", "defaults", "lines", "test"];

type Entry<'t, 'i> = &'t Spanned<DeValue<'i>>;

/// Reads the file. Every fault is a pointed message.
pub(super) fn read(source: &Source, vocabulary: &Vocabulary, faults: &mut Vec<String>) -> Vec<Case> {
    let at = |(place, message): Fault| pointed(&source.name, &source.text, place, &message);
    let document = match DeTable::parse(&source.text) {
        Ok(document) => document,
        Err(error) => {
            let mut message = error.message().trim().replace('\n', ", ");
            let place = error.span().map_or(0, |span| span.start);
            if let Some(question) = unquoted(&source.text, place) {
                message = format!("a question is in quotes: \"{question}\" = \"allow\"");
            }
            faults.push(at((error.span().map_or(0, |span| span.start), message)));
            return Vec::new();
        }
    };
    let mut file = File::default();
    let mut entries: Vec<(&str, usize, Entry<'_, '_>)> =
        document.get_ref().iter().map(|(key, value)| (key.get_ref().as_ref(), key.span().start, value)).collect();
    // What the tests build on is read first, wherever it stands.
    entries.sort_by_key(|(key, place, _)| (TOP.iter().position(|known| known == key), *place));
    for (key, place, value) in entries {
        if let Err(fault) = file.take(key, place, value, faults, &at) {
            faults.push(at(fault));
        }
    }
    let mut cases = Vec::new();
    file.drafts.sort_by_key(|draft| draft.place);
    for draft in &file.drafts {
        match draft.cases(&file.people, vocabulary) {
            Ok(made) => cases.extend(made.into_iter().map(|case| Case {
                file: source.name.clone(),
                line: position(&source.text, draft.place).0,
                policies: file.policies.clone(),
                ..case
            })),
            Err(fault) => faults.push(at(fault)),
        }
    }
    cases
}

#[derive(Default)]
struct File {
    policies: Option<Vec<String>>,
    people: HashMap<String, Person>,
    defaults: Draft,
    drafts: Vec<Draft>,
}

impl File {
    fn take(
        &mut self,
        key: &str,
        place: usize,
        value: Entry<'_, '_>,
        faults: &mut Vec<String>,
        at: &dyn Fn(Fault) -> String,
    ) -> Result<(), Fault> {
        match key {
            "policies" => {
                let names = texts(value, key)?;
                if let Some((place, name)) = names.iter().find(|(_, name)| name.contains('/') || !name.ends_with(".cedar")) {
                    return Err((*place, format!("`{}`: name files of this folder, e.g. \"log-reader.cedar\"", shown(name))));
                }
                self.policies = Some(names.into_iter().map(|(_, name)| name).collect());
            }
            "open" => self.defaults.open = Some(open(value)?),
            "principals" => {
                for (name, entry) in table(value, key)? {
                    let person = person(entry)?;
                    self.people.insert(name.get_ref().to_string(), person);
                }
            }
            "defaults" => fill(&mut self.defaults, value, key, true)?,
            "lines" => {
                for (question, entry) in table(value, key)? {
                    let place = question.span().start;
                    let read = text(entry, "the answer").and_then(|(answer_place, answer)| {
                        let mut draft = line::question(question.get_ref(), place, &self.defaults)?;
                        line::answer(&answer, answer_place, &mut draft)?;
                        Ok(draft)
                    });
                    match read {
                        Ok(draft) => self.drafts.push(draft),
                        Err(fault) => faults.push(at(fault)),
                    }
                }
            }
            "test" => {
                let wrong = || (value.span().start, "tests are written [[test]]".to_owned());
                for entry in value.get_ref().as_array().ok_or_else(wrong)? {
                    let mut draft = Draft { place: entry.span().start, ..self.defaults.clone() };
                    match fill(&mut draft, entry, key, false) {
                        Ok(()) => self.drafts.push(draft),
                        Err(fault) => faults.push(at(fault)),
                    }
                }
            }
            other => return Err((place, unknown(other, TOP))),
        }
        Ok(())
    }
}

/// The line at a byte, if it is a question that lacks its quotes.
fn unquoted(text: &str, place: usize) -> Option<String> {
    let line = text.lines().nth(position(text, place).0 - 1)?.trim();
    let question = line.split_once(" = ").map_or(line, |(question, _)| question).trim();
    let bare = !question.starts_with(['"', '\'', '[', '#']) && !question.contains('"');
    (bare && question.split_whitespace().count() >= 3).then(|| shown(question))
}

fn unknown(key: &str, known: &[&str]) -> String {
    let near = known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, key));
    match near.filter(|near| strsim::damerau_levenshtein(near, key) <= 2) {
        Some(near) => format!("unknown key `{}`; did you mean `{near}`?", shown(key)),
        None => format!("unknown key `{}`; the keys here are {}", shown(key), known.join(", ")),
    }
}

fn table<'t, 'i>(value: Entry<'t, 'i>, key: &str) -> Result<&'t DeTable<'i>, Fault> {
    value.get_ref().as_table().ok_or_else(|| (value.span().start, format!("`{key}` must be a table")))
}

fn text(value: Entry<'_, '_>, key: &str) -> Result<Word, Fault> {
    let wrong = || (value.span().start, format!("{key}: expected a text, not {}", value.get_ref().type_str()));
    value.get_ref().as_str().map(|text| (value.span().start, text.to_owned())).ok_or_else(wrong)
}

/// A text, or a list of texts that is not empty.
fn texts(value: Entry<'_, '_>, key: &str) -> Result<Vec<Word>, Fault> {
    let Some(items) = value.get_ref().as_array() else { return text(value, &format!("`{key}`")).map(|word| vec![word]) };
    if items.is_empty() {
        return Err((value.span().start, format!("`{key}` is an empty list")));
    }
    items.iter().map(|item| text(item, &format!("`{key}`"))).collect()
}

fn flag(value: Entry<'_, '_>, key: &str) -> Result<bool, Fault> {
    value.get_ref().as_bool().ok_or_else(|| (value.span().start, format!("`{key}`: expected true or false")))
}

fn open(value: Entry<'_, '_>) -> Result<Open, Fault> {
    match text(value, "`open`")?.1.as_str() {
        "implied" => Ok(Open::Implied),
        "explicit" => Ok(Open::Explicit),
        other => Err((value.span().start, format!("`open` is \"implied\" or \"explicit\", not `{}`", shown(other)))),
    }
}

fn pairs(value: Entry<'_, '_>, key: &str) -> Result<Pairs, Fault> {
    table(value, key)?
        .iter()
        .map(|(name, item)| {
            let given = Given::of(item.get_ref()).map_err(|wrong| (item.span().start, wrong))?;
            Ok((name.span().start, name.get_ref().to_string(), given))
        })
        .collect()
}

fn groups(value: Entry<'_, '_>) -> Result<Vec<String>, Fault> {
    let wrong = || (value.span().start, "groups are a list of texts, e.g. [\"oncall\"]".to_owned());
    let items = value.get_ref().as_array().ok_or_else(wrong)?;
    items.iter().map(|item| text(item, "a group").map(|(_, group)| group)).collect()
}

fn person(value: Entry<'_, '_>) -> Result<Person, Fault> {
    let Some(table) = value.get_ref().as_table() else { return Ok(Person { groups: groups(value)?, has: Pairs::new() }) };
    let mut person = Person { groups: Vec::new(), has: pairs(value, "a principal")? };
    person.has.retain(|(_, name, _)| name != "groups");
    for (name, entry) in table {
        if name.get_ref() == "groups" {
            person.groups = groups(entry)?;
        }
    }
    Ok(person)
}

/// The keys of a test, over what the draft says already.
fn fill(draft: &mut Draft, value: Entry<'_, '_>, what: &str, defaults: bool) -> Result<(), Fault> {
    for (key, entry) in table(value, what)? {
        let place = entry.span().start;
        let known: &str = key.get_ref().as_ref();
        match known {
            "name" if !defaults => draft.name = Some(text(entry, "`name`")?.1),
            "principal" => draft.principals = texts(entry, known)?,
            "groups" => draft.groups = groups(entry)?,
            "action" => draft.actions = texts(entry, known)?,
            "resource" => draft.resources = texts(entry, known)?,
            "missing" => draft.missing = flag(entry, known)?,
            "principal_has" => draft.principal_has = over(&draft.principal_has, &pairs(entry, known)?),
            "resource_has" => draft.resource_has = over(&draft.resource_has, &pairs(entry, known)?),
            "context" => draft.context = over(&draft.context, &pairs(entry, known)?),
            "session" => draft.session = over(&draft.session, &pairs(entry, known)?),
            "now" => draft.now = Some((place, Given::of(entry.get_ref()).map_err(|wrong| (place, wrong))?)),
            "client_address" => draft.client_address = Some((place, Given::Text(text(entry, "`client_address`")?.1))),
            "open" => draft.open = Some(open(entry)?),
            "expect" => {
                draft.allow = Some(match text(entry, "`expect`")?.1.as_str() {
                    "allow" => true,
                    "deny" => false,
                    other => return Err((place, format!("`expect` is \"allow\" or \"deny\", not `{}`", shown(other)))),
                });
            }
            "by" => {
                draft.by_exactly = entry.get_ref().as_array().is_some();
                draft.by = Some(texts(entry, known)?.into_iter().map(|(_, id)| id).collect());
            }
            "why" => {
                let (_, why) = text(entry, "`why`")?;
                if !WHYS.contains(&why.as_str()) {
                    return Err((place, format!("`why` is one of {}, not `{}`", WHYS.join(", "), shown(&why))));
                }
                draft.why = Some(why);
            }
            "hint" => draft.hint = Some(text(entry, "`hint`")?.1),
            "retry" => draft.retry = Some(flag(entry, known)?),
            other => return Err((key.span().start, unknown(other, KEYS))),
        }
    }
    Ok(())
}
