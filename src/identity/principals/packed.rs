//! principals.toml as it is kept in the cache: parsing thousands of principals takes longer than all the rest of a start.
//!
//! An entry counts only for exactly the text and the program it was made from. It says who is who, so the store behind it must be one
//! that only the owner of principals.toml can write.

use super::{Bastion, Person, Principals, Rule, Unmapped};
use crate::os::digest::sha256;
use crate::os::packed::{Packer, Unpacker};

const MAGIC: &[u8] = b"rex principals 1\n";
/// Shorter texts are parsed faster than a file is opened.
const WORTH_IT: usize = 16 << 10;

/// What an entry holds for. None: not worth keeping.
#[must_use]
pub fn key(text: &str, program: [u64; 8]) -> Option<[u8; 32]> {
    if text.len() < WORTH_IT {
        return None;
    }
    let mut bytes = MAGIC.to_vec();
    program.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    bytes.extend_from_slice(&sha256(text.as_bytes()));
    Some(sha256(&bytes))
}

impl Principals {
    /// As bytes for the cache.
    #[must_use]
    pub fn pack(&self, key: &[u8; 32]) -> Vec<u8> {
        let mut body = Packer::default();
        body.flag(self.unmapped == Unmapped::Pass);
        body.number(self.people.len());
        for person in self.people.values() {
            body.text(&person.name);
            body.texts(&person.groups);
            body.maybe(person.on_behalf_of.as_deref());
        }
        for map in [&self.unix_users, &self.keys] {
            body.number(map.len());
            for (from, to) in map {
                body.text(from);
                body.text(to);
            }
        }
        body.number(self.authorities.len());
        for (fingerprint, maps) in &self.authorities {
            body.text(fingerprint);
            body.flag(*maps);
        }
        body.number(self.certificates.len());
        for rule in &self.certificates {
            body.text(&rule.person);
            body.text(&rule.authority);
            body.maybe(rule.key_id.as_deref());
            body.texts(&rule.principals);
        }
        body.number(self.bastions.len());
        for (fingerprint, bastion) in &self.bastions {
            body.text(fingerprint);
            body.text(&bastion.name);
            body.text(&bastion.variable);
            body.flag(bastion.people.is_some());
            body.texts(bastion.people.as_deref().unwrap_or_default());
        }
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(key);
        out.extend_from_slice(&sha256(&body.0));
        out.extend_from_slice(&body.0);
        out
    }

    /// What [`Principals::pack`] wrote for the same key; None for anything else.
    #[must_use]
    pub fn unpack(bytes: &[u8], key: &[u8; 32]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(key)?;
        let (sum, body) = rest.split_first_chunk::<32>()?;
        if sha256(body) != *sum {
            return None;
        }
        let mut body = Unpacker(body);
        let mut principals = Self { unmapped: if body.flag()? { Unmapped::Pass } else { Unmapped::Refuse }, ..Self::default() };
        let people = (0..body.number()?).map(|_| {
            let person = Person { name: body.text()?, groups: body.texts()?, on_behalf_of: body.maybe()? };
            Some((person.name.clone(), person))
        });
        principals.people = people.collect::<Option<_>>()?;
        for map in [&mut principals.unix_users, &mut principals.keys] {
            *map = (0..body.number()?).map(|_| Some((body.text()?, body.text()?))).collect::<Option<_>>()?;
        }
        principals.authorities = (0..body.number()?).map(|_| Some((body.text()?, body.flag()?))).collect::<Option<_>>()?;
        let rule = |body: &mut Unpacker<'_>| {
            Some(Rule { person: body.text()?, authority: body.text()?, key_id: body.maybe()?, principals: body.texts()? })
        };
        principals.certificates = (0..body.number()?).map(|_| rule(&mut body)).collect::<Option<_>>()?;
        for _ in 0..body.number()? {
            let (fingerprint, name, variable, limited) = (body.text()?, body.text()?, body.text()?, body.flag()?);
            let people = body.texts()?;
            principals.bastions.insert(fingerprint, Bastion { name, variable, people: limited.then_some(people) });
        }
        body.is_empty().then_some(principals)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const TEXT: &str = r#"
default = "pass"
[[principal]]
name = "alice"
groups = ["oncall", "dba"]
unix_users = ["alice", "al"]
keys = ["SHA256:uNiVztksCsDhcc0u9e8BrANOGcMgfBwVR5xC5SZ6wKg"]
certificates = [{ authority = "corp", key_id = "a,b" }, { authority = "corp", principals = ["x", "y"] }]
[[principal]]
name = "fixer \"x\""
on_behalf_of = "alice"
[[authority]]
name = "corp"
fingerprint = "SHA256:AGQZD3Xc8dzS2W0Dj9ZcBQTXH0b1o7Xj0rJkCkHjqvo"
map_principals = true
[[bastion]]
name = "b"
fingerprint = "SHA256:AGQZD3Xc8dzS2W0Dj9ZcBQTXH0b1o7Xj0rJkCkHjqvo"
variable = "LC_BASTION"
people = ["alice"]
"#;

    fn shown(principals: &Principals) -> String {
        // Maps without an order are compared as sorted text.
        let mut lines: Vec<String> = format!("{principals:#?}").lines().map(str::to_owned).collect();
        lines.sort();
        lines.join("\n")
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let principals = Principals::parse(TEXT, "p").unwrap();
        let back = Principals::unpack(&principals.pack(&[1; 32]), &[1; 32]).unwrap();
        assert_eq!(shown(&back), shown(&principals));
        assert_eq!(back.certificates.len(), 2);
        assert_eq!(back.bastions.values().next().unwrap().people.as_deref(), Some(&["alice".to_owned()][..]));
    }

    #[test]
    fn another_text_or_any_changed_byte_makes_it_worthless() {
        let bytes = Principals::parse(TEXT, "p").unwrap().pack(&[1; 32]);
        assert!(Principals::unpack(&bytes, &[2; 32]).is_none());
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert!(Principals::unpack(&bytes, &[1; 32]).is_none(), "byte {at}");
            assert!(Principals::unpack(&bytes[..at], &[1; 32]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn the_key_changes_with_the_text_and_the_program() {
        let text = "#".repeat(WORTH_IT);
        let key = |text: &str, program| super::key(text, [program; 8]);
        assert_eq!(key("short", 1), None);
        assert!(key(&text, 1).is_some());
        assert_ne!(key(&text, 1), key(&text, 2));
        assert_ne!(key(&text, 1), key(&format!("{text}#"), 1));
    }
}
