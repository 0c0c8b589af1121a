//! Access control lists as the kernel keeps them (linux/posix_acl_xattr.h), as getfacl(1) writes them, and as maps.

use crate::error::{Error, Kind, Result, bad_argument};
use crate::functions::value::{Dynamic, IntoScript, Map, record};
use crate::resource::file::names;
use std::fmt::Write as _;

/// The version of the form: POSIX_ACL_XATTR_VERSION.
const VERSION: u32 = 2;
/// The id where there is none: ACL_UNDEFINED_ID.
const NO_ID: u32 = u32::MAX;

/// What an entry is about, with its number in the kernel's form: the constants ACL_USER_OBJ and so on of linux/posix_acl.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tag {
    Owner = 0x01,
    User = 0x02,
    Group = 0x04,
    Named = 0x08,
    Mask = 0x10,
    Other = 0x20,
}

/// One entry: who, and which of 4 (read), 2 (write), 1 (execute).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub tag: Tag,
    /// Of a named user or group.
    pub id: u32,
    pub permissions: u16,
}

impl Entry {
    fn word(self) -> &'static str {
        match self.tag {
            Tag::Owner | Tag::User => "user",
            Tag::Group | Tag::Named => "group",
            Tag::Mask => "mask",
            Tag::Other => "other",
        }
    }
    fn name(self) -> Option<String> {
        match self.tag {
            Tag::User => Some(names().user(self.id).unwrap_or_else(|| self.id.to_string())),
            Tag::Named => Some(names().group(self.id).unwrap_or_else(|| self.id.to_string())),
            _ => None,
        }
    }
    fn letters(self) -> String {
        [(4, 'r'), (2, 'w'), (1, 'x')].iter().map(|(bit, letter)| if self.permissions & bit != 0 { *letter } else { '-' }).collect()
    }
    /// As scripts get it.
    #[must_use]
    pub fn map(self) -> Map {
        let tag = match self.tag {
            Tag::Owner => "user_obj",
            Tag::User => "user",
            Tag::Group => "group_obj",
            Tag::Named => "group",
            Tag::Mask => "mask",
            Tag::Other => "other",
        };
        let mut map = record([
            ("tag", tag.into_script()),
            ("permissions", self.letters().into_script()),
            ("read", (self.permissions & 4 != 0).into_script()),
            ("write", (self.permissions & 2 != 0).into_script()),
            ("execute", (self.permissions & 1 != 0).into_script()),
        ]);
        if let Some(name) = self.name() {
            map.insert("name".into(), name.into_script());
            map.insert("id".into(), self.id.into_script());
        }
        map
    }
}

/// A whole list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl(pub Vec<Entry>);

impl Acl {
    /// The list that permission bits are.
    #[must_use]
    pub fn of_mode(mode: u32) -> Self {
        let entry = |tag, shift: u32| Entry { tag, id: NO_ID, permissions: u16::try_from((mode >> shift) & 7).unwrap_or(0) };
        Self(vec![entry(Tag::Owner, 6), entry(Tag::Group, 3), entry(Tag::Other, 0)])
    }

    /// From the value of `system.posix_acl_access` or `system.posix_acl_default`.
    ///
    /// # Errors
    /// [`Kind::BadData`] when it is not in the form of the kernel.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let wrong = || Error::new(Kind::BadData, "this is no access control list in the form of the kernel");
        let (version, entries) = bytes.split_first_chunk::<4>().ok_or_else(wrong)?;
        let (entries, rest) = entries.as_chunks::<8>();
        if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
            return Err(wrong());
        }
        let entry = |[a, b, c, d, e, f, g, h]: &[u8; 8]| {
            let tag = match u16::from_le_bytes([*a, *b]) {
                0x01 => Tag::Owner,
                0x02 => Tag::User,
                0x04 => Tag::Group,
                0x08 => Tag::Named,
                0x10 => Tag::Mask,
                0x20 => Tag::Other,
                _ => return Err(wrong()),
            };
            let permissions = u16::from_le_bytes([*c, *d]);
            if permissions > 7 {
                return Err(wrong());
            }
            Ok(Entry { tag, id: u32::from_le_bytes([*e, *f, *g, *h]), permissions })
        };
        entries.iter().map(entry).collect::<Result<_>>().map(Self)
    }

    /// In the form of the kernel.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            bytes.extend((entry.tag as u16).to_le_bytes());
            bytes.extend(entry.permissions.to_le_bytes());
            bytes.extend(entry.id.to_le_bytes());
        }
        bytes
    }

    /// As getfacl(1) writes it, each line after this word.
    #[must_use]
    pub fn text(&self, before: &str) -> String {
        let mut out = String::new();
        for entry in &self.0 {
            let _ = writeln!(out, "{before}{}:{}:{}", entry.word(), entry.name().unwrap_or_default(), entry.letters());
        }
        out
    }

    /// As setfacl(1) takes it: entries apart by commas or lines, `user:NAME:rw-`, `u::rw`, `m::r`, `other::-`.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] for what is no list, or not a whole one; [`Kind::NotFound`] for unknown names.
    pub fn parse(text: &str) -> Result<Self> {
        let mut entries = Vec::new();
        for line in text.split([',', '\n']) {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let wrong = || {
                bad_argument(format!(
                    "`{}` is no entry of an access control list",
                    line.chars().take(60).collect::<String>().escape_debug()
                ))
                .with_hint("expected e.g. `user::rw-`, `user:NAME:r--`, `group::r--`, `mask::r--`, `other::---`")
            };
            let mut parts = line.split(':');
            let (Some(kind), Some(name), Some(letters), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
                return Err(wrong());
            };
            let unknown = |what: &str| Error::new(Kind::NotFound, format!("this host knows no {what} `{}`", name.escape_debug()));
            let number = || name.parse().ok().filter(|id| *id != NO_ID);
            let (tag, id) = match (kind, name) {
                ("user" | "u", "") => (Tag::Owner, NO_ID),
                ("user" | "u", _) => (Tag::User, number().or_else(|| names().uid_of(name)).ok_or_else(|| unknown("user"))?),
                ("group" | "g", "") => (Tag::Group, NO_ID),
                ("group" | "g", _) => (Tag::Named, number().or_else(|| names().gid_of(name)).ok_or_else(|| unknown("group"))?),
                ("mask" | "m", "") => (Tag::Mask, NO_ID),
                ("other" | "o", "") => (Tag::Other, NO_ID),
                _ => return Err(wrong()),
            };
            let mut permissions = 0;
            for letter in letters.chars() {
                permissions |= match letter {
                    'r' => 4,
                    'w' => 2,
                    'x' => 1,
                    '-' => 0,
                    _ => return Err(wrong()),
                };
            }
            entries.push(Entry { tag, id, permissions });
        }
        // The order that the kernel wants (posix_acl_valid).
        entries.sort();
        Self(entries).checked()
    }

    /// Whether it is whole, by the rules of the kernel.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] when it is not.
    pub fn checked(self) -> Result<Self> {
        let count = |tag| self.0.iter().filter(|entry| entry.tag == tag).count();
        let named = count(Tag::User) + count(Tag::Named);
        let ordered = self.0.windows(2).all(|pair| matches!(pair, [a, b] if (a.tag, a.id) < (b.tag, b.id)));
        if count(Tag::Owner) != 1 || count(Tag::Group) != 1 || count(Tag::Other) != 1 {
            return Err(bad_argument("an access control list has one entry each for `user::`, `group::` and `other::`"));
        }
        if count(Tag::Mask) > 1 || (named > 0 && count(Tag::Mask) == 0) {
            return Err(bad_argument("an access control list with named users or groups has one entry `mask::`"));
        }
        if !ordered {
            return Err(bad_argument("an access control list names each user and group once"));
        }
        Ok(self)
    }

    /// The permission bits that a file with this list has.
    #[must_use]
    pub fn mode(&self) -> u32 {
        let of = |tag| self.0.iter().find(|entry| entry.tag == tag).map(|entry| u32::from(entry.permissions));
        let group = of(Tag::Mask).or_else(|| of(Tag::Group)).unwrap_or(0);
        (of(Tag::Owner).unwrap_or(0) << 6) | (group << 3) | of(Tag::Other).unwrap_or(0)
    }

    /// As scripts get it.
    pub fn maps(&self) -> Dynamic {
        Dynamic::from_array(self.0.iter().map(|entry| Dynamic::from_map(entry.map())).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_go_through_the_form_of_the_kernel_and_come_back() {
        let acl = Acl::parse("u::rw-,other::---\ngroup::r-x, u:4242:rwx,m::rw,g:4343:r").unwrap();
        assert_eq!(acl.text(""), "user::rw-\nuser:4242:rwx\ngroup::r-x\ngroup:4343:r--\nmask::rw-\nother::---\n");
        assert_eq!(Acl::from_bytes(&acl.to_bytes()).unwrap(), acl);
        assert_eq!(acl.mode(), 0o660);
        assert_eq!(Acl::parse(&acl.text("")).unwrap(), acl);
        assert_eq!(Acl::of_mode(0o754).text(""), "user::rwx\ngroup::r-x\nother::r--\n");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "",
            "u::rw-",
            "u::rw,g::r,o::r,u:1:r",
            "u::rw,g::r,o::r,m::r,m::w",
            "u::q,g::r,o::r",
            "x::r,u::r,g::r,o::r",
            "u:1:r:x,u::r,g::r,o::r",
            "mask:a:r,u::r,g::r,o::r",
            "u::r,g::r,o::r,m::r,u:1:r,u:1:w",
        ] {
            assert!(Acl::parse(text).is_err(), "{text}");
        }
        for bytes in
            [&b""[..], b"\x02\0\0", b"\x01\0\0\0", b"\x02\0\0\0\x01\0", b"\x02\0\0\0\x03\0\0\0\0\0\0\0", b"\x02\0\0\0\x01\0\x08\0\0\0\0\0"]
        {
            assert!(Acl::from_bytes(bytes).is_err(), "{bytes:?}");
        }
    }
}
