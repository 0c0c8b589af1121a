//! The words of a test's question: which verb, and what kind of thing, somebody means by `read /var/log/syslog`.

use crate::policy::schema;
use crate::policy::words::{Ask, Noun};

/// What can be asked: the verbs of the functions, with their nouns. Those of the reference alone are always known.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    pub asks: Vec<Ask>,
}

/// Verb, kind of thing, and which one.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub ask: Ask,
    pub noun: &'static Noun,
    pub id: String,
}

/// Kinds of unit besides services (systemd.unit(5)).
const UNITS: &[&str] = &["socket", "target", "device", "mount", "automount", "swap", "timer", "path", "slice", "scope"];

impl Vocabulary {
    /// # Errors
    /// A sentence that says what would be right.
    pub(super) fn question(&self, action: &str, resource: &str) -> Result<Question, String> {
        let asks = self.verbs(action)?;
        if let Some((kind, id)) = resource.split_once("::\"") {
            let id = unescaped(id).ok_or_else(|| format!("`{}` is no entity: write TYPE::\"ID\"", shown(resource)))?;
            let Some(ask) = asks.iter().find(|ask| ask.applies_to.contains(&kind)) else {
                let kinds: Vec<&str> = asks.iter().flat_map(|ask| ask.applies_to).copied().collect();
                return Err(format!("`{}` applies to {}, not to `{}`", shown(action), one_of(&kinds), shown(kind)));
            };
            return self.of(ask, kind, &id);
        }
        if resource.starts_with('/') {
            let Some(ask) = asks.iter().find(|ask| ask.applies_to.iter().any(|kind| kind.starts_with("file_system::"))) else {
                return Err(format!("`{}` is a path, and `{}` is not done to files", shown(resource), shown(action)));
            };
            let path = if resource == "/" { resource } else { resource.trim_end_matches('/') };
            let folder = path.len() < resource.len() || resource == "/";
            let kind = if folder || !ask.applies_to.contains(&"file_system::File") { "file_system::Dir" } else { "file_system::File" };
            if !ask.applies_to.contains(&kind) {
                return Err(format!("`{}` is done to files, not to folders: take the last `/` away", shown(action)));
            }
            return self.of(ask, kind, path);
        }
        let found: Vec<(&Ask, &str)> =
            asks.iter().flat_map(|ask| ask.applies_to.iter().filter(|kind| names(kind, resource)).map(move |kind| (*ask, *kind))).collect();
        // The same verb by functions and by the reference is one meaning.
        let mut meanings: Vec<(&Ask, &str)> = Vec::new();
        for (ask, kind) in found {
            if !meanings.iter().any(|(known, of)| (known.namespace, known.name, *of) == (ask.namespace, ask.name, kind)) {
                meanings.push((ask, kind));
            }
        }
        match meanings.as_slice() {
            [(ask, kind)] => self.of(ask, kind, resource),
            [] => Err(format!(
                "`{}` is nothing that `{}` is done to: a path begins with `/`, a unit ends in `.service` or its like, a process is a number, a package, container or probe is a word; \
                 anything else is written TYPE::\"ID\"",
                shown(resource),
                shown(action)
            )),
            many => {
                let ways: Vec<String> = many.iter().map(|(ask, _)| format!("`{}::{}`", ask.namespace, ask.name)).collect();
                Err(format!("`{}` has several meanings here: write {}", shown(action), ways.join(" or ")))
            }
        }
    }

    /// The verbs that this may be, of every namespace.
    fn verbs(&self, action: &str) -> Result<Vec<&Ask>, String> {
        let plain = action.replace("::Action::", "::").replace('"', "");
        let (namespace, name) = plain.rsplit_once("::").map_or((None, plain.as_str()), |(namespace, name)| (Some(namespace), name));
        let known = || self.asks.iter().chain(schema::VERBS);
        let found: Vec<&Ask> =
            known().filter(|ask| ask.name == name && namespace.is_none_or(|namespace| ask.namespace == namespace)).collect();
        // What functions ask comes first; what the reference says of the same verb adds kinds of things.
        if !found.is_empty() {
            return Ok(found
                .iter()
                .enumerate()
                .filter(|(at, ask)| {
                    let earlier = |other: &&&Ask| (other.namespace, other.name) == (ask.namespace, ask.name);
                    let before: Vec<&str> = found.iter().take(*at).filter(earlier).flat_map(|ask| ask.applies_to).copied().collect();
                    ask.applies_to.iter().any(|kind| !before.contains(kind))
                })
                .map(|(_, ask)| *ask)
                .collect());
        }
        let members: Vec<String> = known()
            .filter(|ask| ask.groups.contains(&name) && namespace.is_none_or(|namespace| ask.namespace == namespace))
            .map(|ask| ask.name.to_owned())
            .collect();
        if !members.is_empty() {
            return Err(format!(
                "`{}` is a group of actions; a test asks about one of them, e.g. `{}`",
                shown(action),
                members.first().map_or("", String::as_str)
            ));
        }
        let near = known().map(|ask| ask.name).min_by_key(|known| strsim::damerau_levenshtein(known, name));
        let near = near.filter(|near| strsim::damerau_levenshtein(near, name) <= 2);
        let help = near.map_or_else(|| "`rex functions` shows what there is".to_owned(), |near| format!("did you mean `{near}`?"));
        Err(format!("there is no action `{}`; {help}", shown(action)))
    }

    fn of(&self, ask: &Ask, kind: &str, id: &str) -> Result<Question, String> {
        if kind.starts_with("file_system::") && !canonical(id) {
            return Err(format!(
                "`{}` is no canonical path, and only such ones reach a policy: it begins with `/` and has no `//`, `.` or `..`",
                shown(id)
            ));
        }
        let known = std::iter::once(ask.nouns).chain(self.asks.iter().map(|ask| ask.nouns)).chain(std::iter::once(schema::NOUNS));
        let noun = known.flatten().find(|noun| noun.name == kind).ok_or_else(|| format!("there is no kind of thing `{}`", shown(kind)))?;
        Ok(Question { ask: *ask, noun, id: id.to_owned() })
    }
}

/// Whether a bare word names a thing of this kind.
fn names(kind: &str, word: &str) -> bool {
    let suffix = word.rsplit_once('.').map(|(_, suffix)| suffix);
    match kind {
        "systemd::Service" => suffix == Some("service"),
        "systemd::Unit" => suffix.is_some_and(|suffix| UNITS.contains(&suffix)),
        "journal::Log" => {
            matches!(word, "system" | "kernel") || suffix.is_some_and(|suffix| suffix == "service" || UNITS.contains(&suffix))
        }
        "process_system::Process" => !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()),
        "systemd::Systemd" | "sysinfo::Sysinfo" | "package_system::Database" | "container_system::Engine" | "probe_system::Probes" => {
            word == "local"
        }
        // A unit is meant where it could be one.
        "package_system::Package" | "container_system::Container" | "probe_system::Probe" => {
            let unit = suffix.is_some_and(|suffix| suffix == "service" || UNITS.contains(&suffix));
            !unit
                && word.starts_with(|c: char| c.is_ascii_alphanumeric())
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
        }
        "network::url" => word.contains("://"),
        _ => false,
    }
}

fn canonical(path: &str) -> bool {
    path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| !part.is_empty() && part != "." && part != ".."))
}

/// The inside of a Cedar string up to its closing quote.
fn unescaped(text: &str) -> Option<String> {
    let inside = text.strip_suffix('"')?;
    let mut out = String::with_capacity(inside.len());
    let mut letters = inside.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next()? {
                escaped @ ('"' | '\\' | '\'') => out.push(escaped),
                _ => return None,
            },
            '"' => return None,
            letter => out.push(letter),
        }
    }
    Some(out)
}

fn one_of(kinds: &[&str]) -> String {
    let mut kinds = kinds.to_vec();
    kinds.dedup();
    kinds.join(", ")
}

pub(super) fn shown(word: &str) -> String {
    crate::invocation::words::shown(word)
}
