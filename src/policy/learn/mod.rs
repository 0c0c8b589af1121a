//! From recorded questions to the narrowest policy that answers them with yes: one permit for each caller, set of verbs and thing.
//!
//! What is closed whatever a policy says is never proposed, a forbid is never undone, and what holds secrets is proposed only when it is named. The
//! proposal is validated with the set that it is for, and every question is put to both together: what is still denied then is told.

mod folder;
mod propose;
pub mod sensitive;
mod shape;
mod tests_for;
mod write;

pub use propose::{Left, Proposal};
pub use write::literal;

use super::recorded::{Asked, Caller};
use crate::error::{Error, Kind, Result, Why};
use std::collections::HashMap;

/// Questions that one proposal is made from; what is more nobody would review.
const DISTINCT: usize = 20_000;
/// Bytes that they may take.
const BYTES: usize = 64 << 20;

/// How the names of the rules begin that permit in a learning run what no other rule does: one for each namespace, named after it.
pub const LEARNING: &str = "rex-learning:";

/// Whether these are the rules that decided, and one of a learning run was alone.
#[must_use]
pub fn is_learned(policies: &[&str]) -> bool {
    matches!(policies, [only] if only.starts_with(LEARNING))
}

/// What the owner wants of a proposal.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Permits are for this group rather than for each principal.
    pub group: Option<String>,
    /// Folders whose things become one permit: canonical paths.
    pub folders: Vec<String>,
    /// Sensitive things that are proposed all the same: paths, or entities in Cedar notation.
    pub include: Vec<String>,
    /// Places that are rex's own on this host.
    pub own: Vec<String>,
}

/// What else a record tells of a question.
#[derive(Clone, Debug, Default)]
pub struct Noted<'a> {
    pub why: Option<Why>,
    pub policies: Vec<&'a str>,
    pub function: &'a str,
    pub reference: Option<&'a str>,
}

/// A question, and how often it was asked.
#[derive(Clone, Debug)]
struct Seen {
    caller: Caller,
    asked: Asked,
    why: Option<Why>,
    policies: Vec<String>,
    function: String,
    reference: Option<String>,
    count: u64,
}

/// What makes two questions the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    principal: String,
    groups: Option<Vec<String>>,
    action: (String, String),
    resource: (String, String),
    circumstances: String,
}

/// The arguments of a program, from the text that policies see: words as a shell would read them, quotes alone.
fn words_of(argv: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    let mut letters = argv.chars();
    while let Some(c) = letters.next() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            '\\' if !quoted => word.get_or_insert_default().extend(letters.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Collects questions.
#[derive(Debug, Default)]
pub struct Learner {
    seen: Vec<Seen>,
    at: HashMap<Key, usize>,
    bytes: usize,
    /// Questions in all.
    pub asked: u64,
}

impl Learner {
    /// Takes note of one question.
    ///
    /// # Errors
    /// [`Kind::Limit`] when there are more different ones than anybody would review.
    pub fn note(&mut self, caller: &Caller, asked: &Asked, noted: &Noted<'_>) -> Result<()> {
        self.asked += 1;
        let circumstances = format!("{}{}{}", serde_json::json!(asked.context), serde_json::json!(asked.attributes), asked.cut);
        // A process is known by what it is, not by its number.
        let resource = if asked.attributes.is_empty() { asked.resource.clone() } else { (asked.resource.0.clone(), String::new()) };
        let key = Key {
            principal: caller.principal.clone(),
            groups: caller.told.as_ref().map(|told| told.groups.clone()),
            action: asked.action.clone(),
            resource,
            circumstances,
        };
        if let Some(seen) = self.at.get(&key).and_then(|at| self.seen.get_mut(*at)) {
            seen.count += 1;
            return Ok(());
        }
        self.bytes += 2 * (key.circumstances.len() + key.resource.1.len()) + 512;
        if self.seen.len() >= DISTINCT || self.bytes > BYTES {
            return Err(Error::new(
                Kind::Limit,
                format!("more than {} different questions: nobody could review what comes of them", self.seen.len()),
            )
            .with_hint("narrow them with --run, --principal or --since"));
        }
        self.at.insert(key, self.seen.len());
        self.seen.push(Seen {
            caller: caller.clone(),
            asked: asked.clone(),
            why: noted.why,
            policies: noted.policies.iter().map(|name| (*name).to_owned()).collect(),
            function: noted.function.to_owned(),
            reference: noted.reference.map(str::to_owned),
            count: 1,
        });
        Ok(())
    }

    /// How many different questions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}
