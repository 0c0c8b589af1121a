//! What the kernel says of interfaces, addresses, routes and neighbours: dumps of rtnetlink(7). Nothing is asked that changes anything.

use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::machine::Machine;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Of linux/rtnetlink.h: what is asked for, what comes, and how long its fixed part is.
struct Dump {
    ask: u16,
    comes: u16,
    fixed: usize,
}
const LINKS: Dump = Dump { ask: 18, comes: 16, fixed: 16 };
const ADDRESSES: Dump = Dump { ask: 22, comes: 20, fixed: 8 };
const ROUTES: Dump = Dump { ask: 26, comes: 24, fixed: 12 };
const NEIGHBOURS: Dump = Dump { ask: 30, comes: 28, fixed: 12 };

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_REQUEST | NLM_F_DUMP.
const REQUEST_DUMP: u16 = 0x301;
/// NLM_F_DUMP_INTR: it changed while it was told.
const CHANGED: u16 = 0x10;
const HEADER: usize = 16;
/// The kernel makes no larger message of a dump (NLMSG_GOODSIZE, 32 KiB, and room).
const BUFFER: usize = 64 << 10;
/// How often a dump is begun anew that changed meanwhile.
const TRIES: u32 = 5;
/// Most bytes of one dump: some hundred thousand routes.
const MOST: usize = 64 << 20;

/// One message: its fixed part and what follows it.
struct Message {
    fixed: Vec<u8>,
    attributes: Vec<u8>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

/// Type-length-value, each at a multiple of four (netlink(7)).
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        // The two highest bits say how it is packed.
        let kind = u16_at(rest, 2)? & 0x3FFF;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(value).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// `00:11:22:33:44:55`; nothing for what has none.
fn hardware(value: &[u8]) -> Option<String> {
    (!value.is_empty()).then(|| value.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}

fn dump(what: &Dump, check: &dyn Fn() -> Result<()>) -> Result<Vec<Message>> {
    for _ in 0..TRIES {
        if let Some(all) = dump_once(what, check)? {
            return Ok(all);
        }
    }
    Err(Error::new(Kind::Busy, "the network changes faster than it can be told"))
}

/// Nothing where it changed meanwhile.
fn dump_once(what: &Dump, check: &dyn Fn() -> Result<()>) -> Result<Option<Vec<Message>>> {
    let failed = |errno: Errno| Error::os("ask the kernel about the network", errno.raw_os_error());
    // The protocol is 0, NETLINK_ROUTE. It is not bound and not connected: what is sent without an address goes to the kernel.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, None).map_err(failed)?;
    let mut request = Vec::with_capacity(HEADER + what.fixed);
    request.extend(u32::try_from(HEADER + what.fixed).unwrap_or(0).to_ne_bytes());
    request.extend(what.ask.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend(1u32.to_ne_bytes());
    request.extend(0u32.to_ne_bytes());
    request.resize(HEADER + what.fixed, 0);
    rustix::net::send(&socket, &request, SendFlags::NOSIGNAL).map_err(failed)?;
    let mut buffer = vec![0u8; BUFFER];
    let (mut all, mut seen) = (Vec::new(), 0);
    loop {
        check()?;
        let length = match rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(failed(errno)),
        };
        seen += length;
        if length == 0 || seen > MOST {
            return Err(Error::new(Kind::TooLarge, "the kernel tells more of the network than is read"));
        }
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let (Some(length), Some(kind), Some(flags)) = (u32_at(rest, 0), u16_at(rest, 4), u16_at(rest, 6)) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some(body) = rest.get(HEADER..length) else { break };
            if flags & CHANGED != 0 {
                return Ok(None);
            }
            match kind {
                NLMSG_DONE => return Ok(Some(all)),
                NLMSG_ERROR => {
                    let errno = u32_at(body, 0).map_or(libc::EIO, |errno| errno.cast_signed().wrapping_neg());
                    return Err(Error::os("ask the kernel about the network", errno));
                }
                kind if kind == what.comes => {
                    if let (Some(fixed), Some(attributes)) = (body.get(..what.fixed), body.get(what.fixed..)) {
                        all.push(Message { fixed: fixed.to_vec(), attributes: attributes.to_vec() });
                    }
                }
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Counters of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub packets: u64,
    pub bytes: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// An interface.
#[derive(Clone, Debug)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `veth`, `bridge` …; nothing for a real one.
    pub kind: Option<String>,
    pub mac: Option<String>,
    pub mtu: u32,
    /// RFC 2863: up, down, dormant …
    pub state: &'static str,
    /// IFF_* as netdevice(7) and ip(8) name them.
    pub flags: Vec<&'static str>,
    /// The bridge or bond that it is part of, by number.
    pub master: Option<u32>,
    pub received: Counters,
    pub sent: Counters,
}

const FLAGS: &[(u32, &str)] = &[
    (0x8, "LOOPBACK"),
    (0x2, "BROADCAST"),
    (0x10, "POINTOPOINT"),
    (0x1000, "MULTICAST"),
    (0x80, "NOARP"),
    (0x100, "PROMISC"),
    (0x1, "UP"),
    (0x10000, "LOWER_UP"),
];
const STATES: &[&str] = &["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];

/// Every interface of this network namespace.
///
/// # Errors
/// When the kernel does not tell.
pub fn links<A: Action<On = Machine>>(_: &Granted<A>, check: &dyn Fn() -> Result<()>) -> Result<Vec<Link>> {
    Ok(dump(&LINKS, check)?.iter().filter_map(link).collect())
}

fn link(message: &Message) -> Option<Link> {
    let (index, flags) = (u32_at(&message.fixed, 4)?, u32_at(&message.fixed, 8)?);
    let of = |kind| attribute(&message.attributes, kind);
    let stats = of(23).unwrap_or_default();
    let count = |at: usize| u64_at(stats, at * 8).unwrap_or(0);
    Some(Link {
        index,
        name: text(of(3)?),
        kind: of(18).and_then(|info| attribute(info, 1)).map(text),
        mac: of(1).and_then(hardware),
        mtu: of(4).and_then(|value| u32_at(value, 0)).unwrap_or(0),
        state: of(16).and_then(|value| STATES.get(usize::from(*value.first()?))).copied().unwrap_or("unknown"),
        flags: FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect(),
        master: of(10).and_then(|value| u32_at(value, 0)),
        received: Counters { packets: count(0), bytes: count(2), errors: count(4), dropped: count(6) },
        sent: Counters { packets: count(1), bytes: count(3), errors: count(5), dropped: count(7) },
    })
}

/// An address of an interface.
#[derive(Clone, Debug)]
pub struct Address {
    pub index: u32,
    pub address: IpAddr,
    pub prefix: u8,
    pub scope: &'static str,
}

const fn scope(number: u8) -> &'static str {
    match number {
        0 => "global",
        200 => "site",
        253 => "link",
        254 => "host",
        255 => "nowhere",
        _ => "other",
    }
}

/// Every address of this network namespace, in the kernel's order.
///
/// # Errors
/// As [`links`].
pub fn addresses<A: Action<On = Machine>>(_: &Granted<A>, check: &dyn Fn() -> Result<()>) -> Result<Vec<Address>> {
    let all = dump(&ADDRESSES, check)?;
    let one = |message: &Message| {
        let of = |kind| attribute(&message.attributes, kind);
        // On a link between two IFA_LOCAL is this end and IFA_ADDRESS the other.
        let address = of(2).or_else(|| of(1)).and_then(address)?;
        Some(Address { index: u32_at(&message.fixed, 4)?, address, prefix: *message.fixed.get(1)?, scope: scope(*message.fixed.get(3)?) })
    };
    Ok(all.iter().filter_map(one).collect())
}

/// A route.
#[derive(Clone, Debug)]
pub struct Route {
    /// With the length of the prefix; `default` for everything.
    pub destination: String,
    pub is_ipv4: bool,
    pub kind: &'static str,
    pub table: u32,
    pub protocol: u8,
    pub scope: &'static str,
    pub gateway: Option<IpAddr>,
    pub interface: Option<u32>,
    pub source: Option<IpAddr>,
    pub metric: Option<u32>,
    /// Where there are several ways: gateway and interface of each.
    pub hops: Vec<(Option<IpAddr>, u32)>,
}

const KINDS: &[&str] =
    &["unspecified", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw", "nat"];

/// Every route of this network namespace, of all tables.
///
/// # Errors
/// As [`links`].
pub fn routes<A: Action<On = Machine>>(_: &Granted<A>, check: &dyn Fn() -> Result<()>) -> Result<Vec<Route>> {
    Ok(dump(&ROUTES, check)?.iter().filter_map(route).collect())
}

fn route(message: &Message) -> Option<Route> {
    let fixed = &message.fixed;
    let byte = |at: usize| fixed.get(at).copied();
    let is_ipv4 = match i32::from(byte(0)?) {
        libc::AF_INET => true,
        libc::AF_INET6 => false,
        _ => return None,
    };
    let of = |kind| attribute(&message.attributes, kind);
    let number = |kind| of(kind).and_then(|value: &[u8]| u32_at(value, 0));
    // RTA_VIA has the family before the address.
    let via = |attributes: &[u8]| attribute(attributes, 18).and_then(|value| address(value.get(2..)?));
    let destination = match (of(1).and_then(address), byte(1)?) {
        (None, 0) => "default".to_owned(),
        (None, length) => format!("{}/{length}", if is_ipv4 { "0.0.0.0" } else { "::" }),
        (Some(address), length) if length == if is_ipv4 { 32 } else { 128 } => address.to_string(),
        (Some(address), length) => format!("{address}/{length}"),
    };
    let mut hops = Vec::new();
    let mut rest = of(9).unwrap_or_default();
    while let (Some(length), Some(index)) = (u16_at(rest, 0).map(usize::from), u32_at(rest, 4)) {
        let Some(inside) = rest.get(8..length) else { break };
        hops.push((attribute(inside, 5).and_then(address).or_else(|| via(inside)), index));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Route {
        destination,
        is_ipv4,
        kind: KINDS.get(usize::from(byte(7)?)).copied().unwrap_or("other"),
        table: number(15).unwrap_or_else(|| byte(4).unwrap_or(0).into()),
        protocol: byte(5)?,
        scope: scope(byte(6)?),
        gateway: of(5).and_then(address).or_else(|| via(&message.attributes)),
        interface: number(4),
        source: of(7).and_then(address),
        metric: number(6),
        hops,
    })
}

/// A neighbour on a link.
#[derive(Clone, Debug)]
pub struct Neighbour {
    pub address: IpAddr,
    pub interface: u32,
    pub mac: Option<String>,
    /// As in ip-neighbour(8).
    pub state: &'static str,
}

const NEIGHBOUR_STATES: &[(u16, &str)] = &[
    (0x01, "INCOMPLETE"),
    (0x02, "REACHABLE"),
    (0x04, "STALE"),
    (0x08, "DELAY"),
    (0x10, "PROBE"),
    (0x20, "FAILED"),
    (0x40, "NOARP"),
    (0x80, "PERMANENT"),
];

/// Every neighbour that the kernel knows; those that need no asking (NOARP) are left out, as ip(8) does.
///
/// # Errors
/// As [`links`].
pub fn neighbours<A: Action<On = Machine>>(_: &Granted<A>, check: &dyn Fn() -> Result<()>) -> Result<Vec<Neighbour>> {
    let all = dump(&NEIGHBOURS, check)?;
    let one = |message: &Message| {
        let state = u16_at(&message.fixed, 8)?;
        let name = NEIGHBOUR_STATES.iter().find(|(bit, _)| state & bit != 0).map_or("NONE", |(_, name)| *name);
        if name == "NOARP" || name == "NONE" {
            return None;
        }
        let of = |kind| attribute(&message.attributes, kind);
        Some(Neighbour {
            address: of(1).and_then(address)?,
            interface: u32_at(&message.fixed, 4)?,
            mac: of(2).and_then(hardware),
            state: name,
        })
    };
    Ok(all.iter().filter_map(one).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_read_at_their_places_and_no_further() {
        let bytes = [5, 0, 3, 0, b'a', 0, 0, 0, 8, 0, 4, 0x80, 1, 0, 0, 0, 9, 0];
        assert_eq!(attribute(&bytes, 3), Some(&b"a"[..]));
        assert_eq!(attribute(&bytes, 4), Some(&[1, 0, 0, 0][..]));
        assert_eq!(attributes(&bytes).count(), 2);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_message_makes_the_readers_panic(fixed in prop::collection::vec(any::<u8>(), 0..20), attributes in prop::collection::vec(any::<u8>(), 0..100)) {
            let message = Message { fixed, attributes };
            let _ = (link(&message), route(&message));
        }
    }
}
