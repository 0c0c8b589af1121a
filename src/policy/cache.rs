//! What was found out about a set of policies once: that it is valid, and which policy concerns whom and where it stands in the text.
//!
//! An entry counts only for exactly the text, schema and version it was made from; a damaged one is as good as none. It says "valid", so the
//! store behind it must be one that only the owner of the policies can write.

use super::slice::{Reach, Uid, VerbRow};

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

const MAGIC: &[u8] = b"rex policies 2\n";

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Number of the source, in the order of their names.
    pub source: u32,
    pub start: u32,
    pub end: u32,
    pub line: u32,
    /// 0 for the first policy of its line.
    pub column: u32,
    /// Whom it concerns: the principal part of its scope.
    pub principal: Reach,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub verbs: Vec<VerbRow>,
    pub entries: Vec<Entry>,
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

pub(super) fn encode(findings: &Findings, key: Key<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    put_number(&mut body, findings.verbs.len());
    for (namespace, name, groups) in &findings.verbs {
        put_text(&mut body, namespace);
        put_text(&mut body, name);
        put_number(&mut body, groups.len());
        groups.iter().for_each(|group| put_uid(&mut body, &group.kind, &group.id));
    }
    put_number(&mut body, findings.entries.len());
    for entry in &findings.entries {
        for number in [entry.source, entry.start, entry.end, entry.line, entry.column] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        put_reach(&mut body, &entry.principal);
    }
    let mut out = header(key);
    out.extend_from_slice(&super::load::sha256(&[&body]));
    out.extend_from_slice(&body);
    out
}

pub(super) fn decode(bytes: &[u8], key: Key<'_>) -> Option<Findings> {
    let rest = bytes.strip_prefix(header(key).as_slice())?;
    let (sum, body) = rest.split_first_chunk::<32>()?;
    if super::load::sha256(&[body]) != *sum {
        return None;
    }
    let mut reader = Reader(body);
    let mut findings = Findings::default();
    for _ in 0..reader.number()? {
        let (namespace, name) = (reader.text()?, reader.text()?);
        let groups = (0..reader.number()?).map(|_| reader.uid()).collect::<Option<Vec<_>>>()?;
        findings.verbs.push((namespace, name, groups));
    }
    for _ in 0..reader.number()? {
        let (source, start, end) = (reader.number()?, reader.number()?, reader.number()?);
        let (line, column) = (reader.number()?, reader.number()?);
        findings.entries.push(Entry { source, start, end, line, column, principal: reader.reach()? });
    }
    reader.0.is_empty().then_some(findings)
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

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }
    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }
    fn uid(&mut self) -> Option<Uid> {
        Some(Uid { kind: self.text()?, id: self.text()? })
    }
    fn reach(&mut self) -> Option<Reach> {
        let (tag, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(match tag {
            0 => Reach::Anything,
            1 => Reach::Kind(self.text()?),
            2 => Reach::Exactly(self.text()?, self.text()?),
            3 => Reach::Within(self.text()?, self.text()?),
            4 => Reach::KindWithin(self.text()?, self.text()?, self.text()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn findings() -> Findings {
        let uid = |id: &str| Uid { kind: "file_system::Action".into(), id: id.into() };
        let entry = |principal| Entry { source: 1, start: 2, end: 3, line: 4, column: 5, principal };
        Findings {
            verbs: vec![("file_system".into(), "read".into(), vec![uid("view")])],
            entries: vec![
                entry(Reach::Anything),
                entry(Reach::Kind("User".into())),
                entry(Reach::Exactly("User".into(), "a\"b".into())),
                entry(Reach::Within("Group".into(), "g".into())),
                entry(Reach::KindWithin("User".into(), "Group".into(), "g".into())),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let key = Key { schema: &[1; 32], policies: &[2; 32] };
        assert_eq!(decode(&encode(&findings(), key), key), Some(findings()));
    }

    #[test]
    fn another_schema_or_text_or_any_changed_byte_makes_it_worthless() {
        let key = Key { schema: &[1; 32], policies: &[2; 32] };
        let bytes = encode(&findings(), key);
        assert_eq!(decode(&bytes, Key { schema: &[3; 32], policies: &[2; 32] }), None);
        assert_eq!(decode(&bytes, Key { schema: &[1; 32], policies: &[3; 32] }), None);
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(decode(&bytes, key), None, "byte {at}");
            assert_eq!(decode(&bytes[..at], key), None, "cut at {at}");
        }
    }
}
