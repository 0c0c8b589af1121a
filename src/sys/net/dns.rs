//! The DNS on the wire (RFC 1035 and later): questions are written, answers are read, and nothing of an answer is believed that was not asked for.
//!
//! Written here rather than taken from a resolver library: the waiting has to be the run's, and a stub needs two hundred lines of it.

use crate::error::{Error, Kind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A kind of record, with its number (IANA, "Resource Record (RR) TYPEs").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Type {
    A = 1,
    Ns = 2,
    Cname = 5,
    Soa = 6,
    Ptr = 12,
    Mx = 15,
    Txt = 16,
    Aaaa = 28,
    Srv = 33,
}

/// Every kind by its word.
pub const TYPES: &[(&str, Type)] = &[
    ("A", Type::A),
    ("AAAA", Type::Aaaa),
    ("CNAME", Type::Cname),
    ("MX", Type::Mx),
    ("NS", Type::Ns),
    ("PTR", Type::Ptr),
    ("SOA", Type::Soa),
    ("SRV", Type::Srv),
    ("TXT", Type::Txt),
];

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Address(IpAddr),
    /// Of NS, CNAME and PTR.
    Name(String),
    Mx {
        preference: u16,
        exchange: String,
    },
    Txt(Vec<u8>),
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        target: String,
    },
    Soa {
        primary: String,
        mailbox: String,
        serial: u32,
        refresh: u32,
        retry: u32,
        expire: u32,
        minimum: u32,
    },
}

/// How a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What there is of the kind at the end of the chain of aliases, with the time it may be kept.
    Records(Vec<(u32, Data)>),
    /// There is no such name.
    NoName,
    /// It did not fit into a datagram.
    CutOff,
    /// The server cannot or will not.
    Refused,
}

const INTERNET: u16 = 1;
/// Room for an answer that we offer (RFC 9715 advises 1400 at most, to stay whole).
const ROOM: u16 = 1232;
/// Aliases that are followed within an answer.
const ALIASES: usize = 16;
/// Records of an answer that are looked at.
const RECORDS: usize = 4096;

/// A question as it is sent. `name` without a dot at its end.
///
/// # Errors
/// When it cannot be a name.
pub fn question(id: u16, name: &str, kind: Type) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len() + 32);
    out.extend(id.to_be_bytes());
    // Recursion desired; one question, one additional record.
    out.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.').filter(|_| !name.is_empty()) {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
        out.push(length.ok_or_else(|| crate::error::bad_argument("a part of the name is empty or longer than 63 bytes"))?);
        out.extend(label.as_bytes());
    }
    out.push(0);
    if out.len() > 12 + 255 {
        return Err(crate::error::bad_argument("the name is longer than 253 bytes"));
    }
    out.extend((kind as u16).to_be_bytes());
    out.extend(INTERNET.to_be_bytes());
    // EDNS (RFC 6891): the root, OPT, the room, nothing else.
    out.extend([0, 0, 41]);
    out.extend(ROOM.to_be_bytes());
    out.extend([0; 6]);
    Ok(out)
}

/// Reads what came back; nothing where it is no answer to this question.
#[must_use]
pub fn answer(message: &[u8], id: u16, name: &str, kind: Type) -> Option<Answer> {
    let mut reader = Reader { message, at: 0 };
    let (its_id, flags) = (reader.u16()?, reader.u16()?);
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    reader.at += 4;
    // An answer, to a question of the ordinary sort.
    if its_id != id || flags & 0xF800 != 0x8000 || questions != 1 {
        return None;
    }
    if !reader.name()?.eq_ignore_ascii_case(name) || reader.u16()? != kind as u16 || reader.u16()? != INTERNET {
        return None;
    }
    match flags & 0xF {
        _ if flags & 0x0200 != 0 => return Some(Answer::CutOff),
        0 => {}
        3 => return Some(Answer::NoName),
        _ => return Some(Answer::Refused),
    }
    let mut all = Vec::new();
    for _ in 0..usize::from(answers).min(RECORDS) {
        let owner = reader.name()?.to_ascii_lowercase();
        let (its_kind, class, ttl, length) = (reader.u16()?, reader.u16()?, reader.u32()?, usize::from(reader.u16()?));
        let end = reader.at.checked_add(length).filter(|end| *end <= message.len())?;
        if class == INTERNET {
            let known = TYPES.iter().find(|(_, known)| *known as u16 == its_kind).map(|(_, known)| *known);
            if let Some(known) = known.filter(|known| *known == kind || *known == Type::Cname) {
                let mut inner = Reader { message: message.get(..end)?, at: reader.at };
                all.push((owner, known, ttl, inner.data(known)?));
            }
        }
        reader.at = end;
    }
    // What is not at the name, or at what the name is an alias of, was not asked for.
    let mut current = name.to_ascii_lowercase();
    let mut followed = 0;
    while kind != Type::Cname && followed < ALIASES {
        let next = all.iter().find_map(|(owner, kind, _, data)| match data {
            Data::Name(next) if *kind == Type::Cname && *owner == current => Some(next.to_ascii_lowercase()),
            _ => None,
        });
        let Some(next) = next else { break };
        current = next;
        followed += 1;
    }
    let records = all.into_iter().filter(|(owner, its_kind, ..)| *owner == current && *its_kind == kind);
    Some(Answer::Records(records.map(|(_, _, ttl, data)| (ttl, data)).collect()))
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let bytes = self.message.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }
    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }
    /// A name as text, without a dot at its end; bytes that do not belong in one are written `\DDD` (RFC 4343).
    fn name(&mut self) -> Option<String> {
        let mut text = String::new();
        let (mut at, mut after) = (self.at, None);
        // Each jump goes back, so a message of this length has no more of them.
        let mut limit = self.at;
        loop {
            let length = *self.message.get(at)?;
            match length {
                0 => break,
                1..=63 => {
                    let label = self.message.get(at + 1..at + 1 + usize::from(length))?;
                    if !text.is_empty() {
                        text.push('.');
                    }
                    for byte in label {
                        match byte {
                            b'.' | b'\\' => text.extend(['\\', char::from(*byte)]),
                            33..=126 => text.push(char::from(*byte)),
                            byte => text.push_str(&format!("\\{byte:03}")),
                        }
                    }
                    if text.len() > 1024 {
                        return None;
                    }
                    at += 1 + usize::from(length);
                }
                0xC0.. => {
                    let low = *self.message.get(at + 1)?;
                    after.get_or_insert(at + 2);
                    let target = usize::from(u16::from_be_bytes([length & 0x3F, low]));
                    if target >= limit {
                        return None;
                    }
                    limit = target;
                    at = target;
                }
                _ => return None,
            }
        }
        self.at = after.unwrap_or(at + 1);
        Some(text)
    }
    /// The data of a record; the message ends where the record does.
    fn data(&mut self, kind: Type) -> Option<Data> {
        Some(match kind {
            Type::A => Data::Address(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(self.rest()).ok()?))),
            Type::Aaaa => Data::Address(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(self.rest()).ok()?))),
            Type::Ns | Type::Cname | Type::Ptr => Data::Name(self.name()?),
            Type::Mx => Data::Mx { preference: self.u16()?, exchange: self.name()? },
            Type::Txt => {
                let mut text = Vec::new();
                while self.at < self.message.len() {
                    let length = self.u8()?;
                    text.extend_from_slice(self.take(length.into())?);
                }
                Data::Txt(text)
            }
            Type::Srv => Data::Srv { priority: self.u16()?, weight: self.u16()?, port: self.u16()?, target: self.name()? },
            Type::Soa => Data::Soa {
                primary: self.name()?,
                mailbox: self.name()?,
                serial: self.u32()?,
                refresh: self.u32()?,
                retry: self.u32()?,
                expire: self.u32()?,
                minimum: self.u32()?,
            },
        })
    }
    fn rest(&mut self) -> &'a [u8] {
        let rest = self.message.get(self.at..).unwrap_or_default();
        self.at = self.message.len();
        rest
    }
}

/// The name under which the DNS has the names of an address (RFC 1035, section 3.5; RFC 3596).
#[must_use]
pub fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|byte| [byte & 0xF, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// The error of an answer that has nothing.
#[must_use]
pub fn no_name() -> Error {
    Error::new(Kind::NotFound, "there is no such name")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    /// An answer: the question again, and these records (name as a pointer or as it stands).
    fn reply(name: &str, kind: Type, flags: u16, records: &[(Vec<u8>, u16, Vec<u8>)]) -> Vec<u8> {
        let mut out = question(7, name, kind).unwrap();
        out.truncate(out.len() - 11);
        out[2..4].copy_from_slice(&flags.to_be_bytes());
        out[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
        out[10..12].copy_from_slice(&[0, 0]);
        for (owner, kind, data) in records {
            out.extend(owner);
            out.extend(kind.to_be_bytes());
            out.extend([0, 1, 0, 0, 0, 60]);
            out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            out.extend(data);
        }
        out
    }
    fn name(text: &str) -> Vec<u8> {
        let mut out: Vec<u8> =
            text.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat()).collect();
        out.push(0);
        out
    }
    const SELF: [u8; 2] = [0xC0, 12];
    const FINE: u16 = 0x8180;

    #[test]
    fn an_address_is_found_through_aliases_and_what_is_beside_them_is_not_believed() {
        let message = reply(
            "www.example.org",
            Type::A,
            FINE,
            &[
                (SELF.to_vec(), 5, name("web.example.org")),
                (name("WEB.example.org"), 1, vec![192, 0, 2, 1]),
                (name("bank.example"), 1, vec![192, 0, 2, 66]),
                (name("web.example.org"), 28, vec![0; 16]),
            ],
        );
        let found = answer(&message, 7, "www.example.org", Type::A).unwrap();
        assert_eq!(found, Answer::Records(vec![(60, Data::Address("192.0.2.1".parse().unwrap()))]));
    }

    #[test]
    fn what_does_not_belong_to_the_question_is_no_answer() {
        let message = reply("a.example", Type::A, FINE, &[(SELF.to_vec(), 1, vec![192, 0, 2, 1])]);
        assert!(answer(&message, 7, "A.example", Type::A).is_some());
        assert!(answer(&message, 8, "a.example", Type::A).is_none());
        assert!(answer(&message, 7, "b.example", Type::A).is_none());
        assert!(answer(&message, 7, "a.example", Type::Aaaa).is_none());
        // Not an answer but a question.
        assert!(answer(&reply("a.example", Type::A, 0x0100, &[]), 7, "a.example", Type::A).is_none());
        assert_eq!(answer(&reply("a.example", Type::A, 0x8183, &[]), 7, "a.example", Type::A), Some(Answer::NoName));
        assert_eq!(answer(&reply("a.example", Type::A, 0x8382, &[]), 7, "a.example", Type::A), Some(Answer::CutOff));
        assert_eq!(answer(&reply("a.example", Type::A, 0x8182, &[]), 7, "a.example", Type::A), Some(Answer::Refused));
    }

    #[test]
    fn names_that_lead_to_themselves_end() {
        for data in [vec![0xC0, 12 + 9 + 4 + 12], vec![0xFF, 0xFF], vec![0xC0], vec![63], vec![1, b'a', 0xC0, 0x7F]] {
            let message = reply("a.exampl", Type::Cname, FINE, &[(SELF.to_vec(), 5, data.clone())]);
            assert_eq!(answer(&message, 7, "a.exampl", Type::Cname), None, "{data:?}");
        }
        let around = reply("a.b", Type::A, FINE, &[(SELF.to_vec(), 5, name("c.d")), (name("c.d"), 5, name("a.b"))]);
        assert_eq!(answer(&around, 7, "a.b", Type::A), Some(Answer::Records(Vec::new())));
    }

    #[test]
    fn the_other_kinds_are_read() {
        let one = |kind: Type, data: Vec<u8>| match answer(&reply("a.b", kind, FINE, &[(SELF.to_vec(), kind as u16, data)]), 7, "a.b", kind)
        {
            Some(Answer::Records(mut records)) => records.remove(0).1,
            other => panic!("{other:?}"),
        };
        assert_eq!(one(Type::Txt, b"\x03one\x03two".to_vec()), Data::Txt(b"onetwo".to_vec()));
        assert_eq!(one(Type::Mx, [&[0, 10][..], &name("mx.b")].concat()), Data::Mx { preference: 10, exchange: "mx.b".into() });
        assert_eq!(
            one(Type::Srv, [&[0, 1, 0, 2, 0, 80][..], &name("srv.b")].concat()),
            Data::Srv { priority: 1, weight: 2, port: 80, target: "srv.b".into() }
        );
        assert_eq!(one(Type::Ptr, name("host.b")), Data::Name("host.b".into()));
        assert_eq!(one(Type::Ns, b"\x04a.\\\x01\x00".to_vec()), Data::Name("a\\.\\\\\\001".into()));
    }

    #[test]
    fn addresses_have_names_of_their_own() {
        assert_eq!(reverse("192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa");
        assert!(reverse("2001:db8::1".parse().unwrap()).starts_with("1.0.0.0."));
        assert!(reverse("2001:db8::1".parse().unwrap()).ends_with("8.b.d.0.1.0.0.2.ip6.arpa"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_message_makes_the_reader_panic_or_hang(mut tail in prop::collection::vec(any::<u8>(), 0..300), records in 0u8..5, kind in 0usize..9) {
            let kind = TYPES[kind].1;
            let mut message = reply("a.example", kind, FINE, &[]);
            message[7] = records;
            message.append(&mut tail);
            let _ = answer(&message, 7, "a.example", kind);
        }
    }
}
