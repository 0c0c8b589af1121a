//! What was found out about a set of policies once: that it is valid, whom each policy concerns, and what it says.
//!
//! An entry counts only for exactly the text, schema and version it was made from; a damaged one is as good as none. It says what is permitted, so the
//! store behind it must be one that only the owner of the policies can write.

mod condition;

use super::load::Scope;
use super::slice::{Needs, Place, Reach, Reveal, Rule, Uid, VerbRow};
use std::sync::Arc;

/// Where the cache is kept.
pub trait Store {
    /// None when there is none, or when it cannot be trusted.
    fn get(&self, key: &str) -> Option<Vec<u8>>;
    /// Failing is no error: it will be made again.
    fn put(&self, key: &str, bytes: &[u8]);
}

/// The name of the entry for the policies with this digest.
pub(super) fn key_name(digest: &str) -> String {
    format!("policies-{}", digest.get(..32).unwrap_or(digest))
}

const MAGIC: &[u8] = b"rex policies 3\n";

/// Where a policy stands in the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spot {
    /// Number of the source, in the order of their names.
    pub source: u32,
    /// Bytes of the source.
    pub start: u32,
    pub end: u32,
    pub line: u32,
    /// 0 for the first policy of its line.
    pub column: u32,
}

/// Everything that was found out, before it is written.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub verbs: Vec<VerbRow>,
    pub entries: Vec<Row>,
}

/// One policy: whom it concerns, by the principal part of its scope, and what it says. A rule without an `@id` has no name here: names of files are no part of
/// what the entry is kept under.
#[derive(Debug)]
pub(super) struct Row {
    pub principal: Reach,
    pub spot: Spot,
    pub rule: Rule,
}

/// What is read back for one caller.
#[derive(Debug)]
pub(super) struct Found {
    pub verbs: Vec<VerbRow>,
    /// Policies in all.
    pub total: usize,
    /// Those that concern the caller.
    pub rules: Vec<(Spot, Rule)>,
}

/// What an entry holds for: digests of the schema and of the policies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    pub schema: &'a [u8; 32],
    pub policies: &'a [u8; 32],
}

fn header(key: Key<'_>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_text(&mut out, env!("CARGO_PKG_VERSION"));
    out.extend_from_slice(key.schema);
    out.extend_from_slice(key.policies);
    out
}

/// None when a policy holds what no validated one can.
pub(super) fn encode(findings: &Findings, key: Key<'_>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    put_number(&mut body, findings.verbs.len());
    for (namespace, name, groups) in &findings.verbs {
        put_text(&mut body, namespace);
        put_text(&mut body, name);
        put_uids(&mut body, groups);
    }
    put_number(&mut body, findings.entries.len());
    let mut one = Vec::new();
    for entry in &findings.entries {
        // The principal comes first and the length before it, so that what concerns others is stepped over.
        one.clear();
        put_reach(&mut one, &entry.principal);
        let Spot { source, start, end, line, column } = entry.spot;
        for number in [source, start, end, line, column] {
            one.extend_from_slice(&number.to_le_bytes());
        }
        put_rule(&mut one, &entry.rule)?;
        put_number(&mut body, one.len());
        body.extend_from_slice(&one);
    }
    let mut out = header(key);
    out.extend_from_slice(&super::load::sha256(&[&body]));
    out.extend_from_slice(&body);
    Some(out)
}

/// What concerns one caller. None for what was not written by [`encode`] under this key.
pub(super) fn decode(bytes: &[u8], key: Key<'_>, scope: &Scope) -> Option<Found> {
    let rest = bytes.strip_prefix(header(key).as_slice())?;
    let (sum, body) = rest.split_first_chunk::<32>()?;
    if super::load::sha256(&[body]) != *sum {
        return None;
    }
    let mut reader = Reader(body);
    let verbs = (0..reader.number()?).map(|_| Some((reader.text()?, reader.text()?, reader.uids()?))).collect::<Option<_>>()?;
    let total = reader.number()?;
    let mut rules = Vec::new();
    for _ in 0..total {
        let length = reader.number()?;
        let mut one = Reader(reader.take(length)?);
        if one.concerns(scope)? {
            let (source, start, end) = (one.number()?, one.number()?, one.number()?);
            let spot = Spot { source, start, end, line: one.number()?, column: one.number()? };
            rules.push((spot, one.rule()?));
            if !one.0.is_empty() {
                return None;
            }
        }
    }
    reader.0.is_empty().then_some(Found { verbs, total: usize::try_from(total).ok()?, rules })
}

fn put_number(out: &mut Vec<u8>, number: usize) {
    // Policies are bounded far below 4 GiB.
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_uid(out: &mut Vec<u8>, kind: &str, id: &str) {
    put_text(out, kind);
    put_text(out, id);
}

fn put_reach(out: &mut Vec<u8>, reach: &Reach) {
    match reach {
        Reach::Anything => out.push(0),
        Reach::Kind(kind) => {
            out.push(1);
            put_text(out, kind);
        }
        Reach::Exactly(kind, id) => {
            out.push(2);
            put_uid(out, kind, id);
        }
        Reach::Within(kind, id) => {
            out.push(3);
            put_uid(out, kind, id);
        }
        Reach::KindWithin(what, kind, id) => {
            out.push(4);
            put_text(out, what);
            put_uid(out, kind, id);
        }
    }
}

fn put_uids(out: &mut Vec<u8>, uids: &[Uid]) {
    put_number(out, uids.len());
    uids.iter().for_each(|uid| put_uid(out, &uid.kind, &uid.id));
}

fn put_texts<'a>(out: &mut Vec<u8>, texts: impl ExactSizeIterator<Item = &'a String>) {
    put_number(out, texts.len());
    texts.for_each(|text| put_text(out, text));
}

const REVEAL: [Reveal; 3] = [Reveal::None, Reveal::Hint, Reveal::Rule];

fn put_rule(out: &mut Vec<u8>, rule: &Rule) -> Option<()> {
    // Where it stands is told by its spot.
    let Rule { name, permit, hint, reveal, reach, verbs, condition, needs, place: _, start: _ } = rule;
    put_text(out, name);
    // An empty hint is none.
    put_text(out, hint.as_deref().unwrap_or_default());
    out.extend([u8::from(*permit), *reveal as u8, u8::from(verbs.is_some()), u8::from(condition.is_some())]);
    put_reach(out, reach);
    verbs.iter().for_each(|verbs| put_uids(out, verbs));
    let Needs { attributes, ancestors, all_ancestors, time, context, mentions, extensions } = needs;
    if let Some(condition) = condition {
        condition::put(out, condition)?;
        put_texts(out, attributes.iter());
        put_texts(out, mentions.iter());
        out.extend([*ancestors, *all_ancestors, *time, *context, *extensions].map(u8::from));
    }
    Some(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(bytes)
    }
    fn byte(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| *byte)
    }
    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
    fn number(&mut self) -> Option<u32> {
        self.bytes().map(|bytes| u32::from_le_bytes(*bytes))
    }
    fn take(&mut self, length: u32) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }
    fn str(&mut self) -> Option<&'a str> {
        let length = self.number()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
    fn text(&mut self) -> Option<String> {
        self.str().map(str::to_owned)
    }
    fn uid(&mut self) -> Option<Uid> {
        Some(Uid { kind: self.text()?, id: self.text()? })
    }
    fn uids(&mut self) -> Option<Vec<Uid>> {
        (0..self.number()?).map(|_| self.uid()).collect()
    }
    fn texts<C: FromIterator<String>>(&mut self) -> Option<C> {
        (0..self.number()?).map(|_| self.text()).collect()
    }
    fn reach(&mut self) -> Option<Reach> {
        Some(match self.byte()? {
            0 => Reach::Anything,
            1 => Reach::Kind(self.text()?),
            2 => Reach::Exactly(self.text()?, self.text()?),
            3 => Reach::Within(self.text()?, self.text()?),
            4 => Reach::KindWithin(self.text()?, self.text()?, self.text()?),
            _ => return None,
        })
    }
    /// Whether a policy with this principal concerns the caller, without a copy of the names: most concern others.
    fn concerns(&mut self, scope: &Scope) -> Option<bool> {
        Some(match self.byte()? {
            0 => true,
            1 => self.str()? == "User",
            2 => {
                let (kind, id) = (self.str()?, self.str()?);
                kind == "User" && id == scope.name
            }
            3 => {
                let (kind, id) = (self.str()?, self.str()?);
                scope.is_within(kind, id)
            }
            4 => {
                let (what, kind, id) = (self.str()?, self.str()?, self.str()?);
                what == "User" && scope.is_within(kind, id)
            }
            _ => return None,
        })
    }
    fn rule(&mut self) -> Option<Rule> {
        let (name, hint, permit) = (self.text()?, self.text()?, self.flag()?);
        let reveal = *REVEAL.get(usize::from(self.byte()?))?;
        let (some_verbs, conditional) = (self.flag()?, self.flag()?);
        let reach = self.reach()?;
        let verbs = if some_verbs { Some(self.uids()?) } else { None };
        let (mut condition, mut needs) = (None, Needs::default());
        if conditional {
            condition = Some(Arc::new(condition::get(self)?));
            needs = Needs {
                attributes: self.texts()?,
                mentions: self.texts()?,
                ancestors: self.flag()?,
                all_ancestors: self.flag()?,
                time: self.flag()?,
                context: self.flag()?,
                extensions: self.flag()?,
            };
        }
        Some(Rule {
            name,
            place: Place::default(),
            start: 0,
            permit,
            hint: Some(hint).filter(|hint| !hint.is_empty()),
            reveal,
            reach,
            verbs,
            condition,
            needs,
        })
    }
}

#[cfg(test)]
mod tests;
