//! Names to addresses and other records: the host's own file first, then the servers of resolv.conf or one that was chosen.

use super::dns::{self, Answer, Data, Type};
use super::{Judged, Patience, Wire};
use crate::error::{Error, Kind, Result};
use crate::policy::url::{Host, plain};
use crate::policy::{Action, Granted};
use crate::resource::endpoint::{Endpoint, Hostname};
use rustix::net::SocketType;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// A name that was granted to be looked up.
pub struct Named<'g, A: Action<On = Hostname>>(pub &'g Granted<A>);

const HOSTS: &str = "/etc/hosts";
const RESOLV: &str = "/etc/resolv.conf";
/// Longest of these files that is read.
const LONGEST: u64 = 1 << 20;
const PORT: u16 = 53;
/// What of resolv.conf is used at most (resolv.conf(5)).
const SERVERS: usize = 3;
const DOMAINS: usize = 6;

/// The terms of resolv.conf(5).
struct Resolver {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: usize,
    stream: bool,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { servers: Vec::new(), search: Vec::new(), ndots: 1, timeout: Duration::from_secs(5), attempts: 2, stream: false }
    }
}

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut own = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // With a scope (`%eth0`) it is a server of the link; there is no name of an interface here.
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    own.servers.extend(server.filter(|_| own.servers.len() < SERVERS).map(|server| SocketAddr::new(server, PORT)));
                }
                Some("search" | "domain") => {
                    own.search = words.take(DOMAINS).map(|word| word.trim_end_matches('.').to_ascii_lowercase()).collect();
                    own.search.retain(|domain| !domain.is_empty());
                }
                Some("options") => words.for_each(|word| own.option(word)),
                _ => {}
            }
        }
        if own.servers.is_empty() {
            own.servers.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT));
        }
        own
    }
    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        let number = value.parse::<u64>().ok();
        match (name, number) {
            ("ndots", Some(number)) => self.ndots = usize::try_from(number.min(15)).unwrap_or(15),
            ("timeout", Some(number)) => self.timeout = Duration::from_secs(number.clamp(1, 30)),
            ("attempts", Some(number)) => self.attempts = usize::try_from(number.clamp(1, 5)).unwrap_or(5),
            ("use-vc" | "usevc", _) => self.stream = true,
            _ => {}
        }
    }
    /// Of one server, that was chosen.
    fn of(server: IpAddr) -> Self {
        Self { servers: vec![SocketAddr::new(server, PORT)], ..Self::default() }
    }
    fn of_host() -> Self {
        Self::parse(&read(RESOLV))
    }
    /// The names to try, in order: short ones with the domains of the host first.
    fn candidates(&self, name: &str) -> Vec<String> {
        let longer = self.search.iter().map(|domain| format!("{name}.{domain}"));
        let own = std::iter::once(name.to_owned());
        if name.matches('.').count() >= self.ndots { own.chain(longer).collect() } else { longer.chain(own).collect() }
    }
    /// What the first server says that answers.
    fn ask(&self, name: &str, kind: Type, patience: Patience<'_>) -> Result<Answer> {
        let mut last = Error::new(Kind::Unavailable, "no name server answered");
        for _ in 0..self.attempts {
            for server in &self.servers {
                match ask_one(*server, name, kind, self.stream, patience.at_most(self.timeout)) {
                    Ok(answer @ (Answer::Records(_) | Answer::NoName)) => return Ok(answer),
                    Ok(_) => last = Error::new(Kind::Unavailable, "the name server could not answer"),
                    // That is over the limit of the call, or of the run.
                    Err(_) if patience.check().is_err() => return Err(patience.check().err().unwrap_or(last)),
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }
    fn records(&self, name: &str, kind: Type, patience: Patience<'_>) -> Result<Vec<(u32, Data)>> {
        let mut known = false;
        for candidate in self.candidates(name) {
            match self.ask(&candidate, kind, patience)? {
                Answer::Records(records) if !records.is_empty() => return Ok(records),
                Answer::Records(_) => known = true,
                _ => {}
            }
        }
        if known { Ok(Vec::new()) } else { Err(dns::no_name()) }
    }
}

/// One of the host's files; what cannot be read is empty, as for the C library.
fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path);
    if file.and_then(|file| file.take(LONGEST).read_to_end(&mut bytes)).is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ask_one(server: SocketAddr, name: &str, kind: Type, stream: bool, patience: Patience<'_>) -> Result<Answer> {
    let mut id = [0u8; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let id = u16::from_be_bytes(id);
    let question = dns::question(id, name, kind)?;
    if !stream {
        // A connected socket: the kernel drops what comes from anybody else.
        let wire = Wire::open(server, SocketType::DGRAM, patience)?;
        wire.send(&question)?;
        let mut buffer = [0u8; 4096];
        loop {
            let length = wire.receive(&mut buffer)?;
            match dns::answer(buffer.get(..length).unwrap_or_default(), id, name, kind) {
                // Somebody's guess, or an answer that came too late.
                None => {}
                Some(Answer::CutOff) => break,
                Some(answer) => return Ok(answer),
            }
        }
    }
    let mut wire = Wire::open(server, SocketType::STREAM, patience)?;
    let length = u16::try_from(question.len()).unwrap_or(0).to_be_bytes();
    wire.send_all(&[&length[..], &question].concat())?;
    let mut length = [0u8; 2];
    wire.read_exact(&mut length).map_err(super::told)?;
    let mut message = vec![0u8; usize::from(u16::from_be_bytes(length))];
    wire.read_exact(&mut message).map_err(super::told)?;
    Ok(dns::answer(&message, id, name, kind).filter(|answer| *answer != Answer::CutOff).unwrap_or(Answer::Refused))
}

/// What /etc/hosts says of a name.
fn in_hosts(name: &str) -> Vec<IpAddr> {
    addresses_in(&read(HOSTS), name)
}

fn addresses_in(hosts: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        if words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// Names that are this host, and never asked of anybody (RFC 6761, section 6.3).
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Why a name of the DNS must not lead to this address: whoever answers for a name would say which service of this host, or of its link, is reached
/// under a permit for that name. Who means these says so by address or in /etc/hosts.
#[must_use]
pub fn closed_to_names(address: IpAddr) -> bool {
    match plain(address) {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_unspecified()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.octets()[0] == 0
                // Metadata of machines at Alibaba; those of others are link-local.
                || v4 == Ipv4Addr::new(100, 100, 100, 200)
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.segments()[0] & 0xFFC0 == 0xFE80
                // Metadata of machines at AWS.
                || v6 == Ipv6Addr::new(0xFD00, 0xEC2, 0, 0, 0, 0, 0, 0x254)
                // IPv4 inside: the compatible ones of old, and those of a translator (RFC 6052).
                || matches!(v6.segments(), [0, 0, 0, 0, 0, 0, a, b] | [0x64, 0xFF9B, 0, 0, 0, 0, a, b] if closed_to_names(inside(a, b)))
        }
    }
}

fn inside(high: u16, low: u16) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
}

/// The addresses of a host that is to be connected to, in the order to try them.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such name; [`Kind::BadData`] when it leads to this host or its link only; those of asking.
pub fn addresses(judged: &impl Judged, patience: Patience<'_>) -> Result<Vec<IpAddr>> {
    let name = match judged.host() {
        Host::Address(address) => return Ok(vec![address]),
        Host::Name(name) => name,
    };
    let own = in_hosts(&name);
    if !own.is_empty() {
        return Ok(own.into_iter().map(plain).collect());
    }
    if is_localhost(&name) {
        return Ok(LOOPBACK.to_vec());
    }
    let found = both(&Resolver::of_host(), &name, patience)?;
    let total = found.len();
    let open: Vec<IpAddr> = found.into_iter().map(plain).filter(|address| !closed_to_names(*address)).collect();
    match (total, open.is_empty()) {
        (0, _) => Err(Error::new(Kind::NotFound, "the name has no address")),
        (_, true) => Err(Error::new(Kind::BadData, "the name leads to this host or its link; name the address itself if that is meant")),
        _ => Ok(open),
    }
}

/// Addresses of both kinds, IPv4 first: a host without a way to the one says so at once.
fn both(resolver: &Resolver, name: &str, patience: Patience<'_>) -> Result<Vec<IpAddr>> {
    let of = |kind| -> Result<Vec<IpAddr>> {
        let records = resolver.records(name, kind, patience)?;
        Ok(records
            .into_iter()
            .filter_map(|(_, data)| match data {
                Data::Address(address) => Some(address),
                _ => None,
            })
            .collect())
    };
    let (four, six) = (of(Type::A), of(Type::Aaaa));
    match (four, six) {
        (Ok(mut four), Ok(six)) => {
            four.extend(six);
            Ok(four)
        }
        // Some servers fail at the kind that they have nothing of.
        (Ok(some), Err(_)) | (Err(_), Ok(some)) if !some.is_empty() => Ok(some),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// All addresses of a name, sorted, each once: what `resolve` tells. Nothing is connected to them.
///
/// # Errors
/// As [`addresses`], without the closed ones.
pub fn told<A: Action<On = Hostname>, C: Action<On = Endpoint>>(
    named: &Named<'_, A>,
    server: Option<&Granted<C>>,
    patience: Patience<'_>,
) -> Result<Vec<IpAddr>> {
    let Host::Name(name) = named.host() else { return Ok(Vec::new()) };
    let mut found = match server.and_then(|server| server.resource().address()) {
        Some(server) if !is_localhost(&name) => both(&Resolver::of(server), &name, patience)?,
        Some(_) => LOOPBACK.to_vec(),
        None => match in_hosts(&name) {
            own if !own.is_empty() => own,
            _ if is_localhost(&name) => LOOPBACK.to_vec(),
            _ => both(&Resolver::of_host(), &name, patience)?,
        },
    };
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Records of one kind, in the order of the server.
///
/// # Errors
/// [`Kind::NotFound`] when there is no such name; those of asking.
pub fn records<A: Action<On = Hostname>, C: Action<On = Endpoint>>(
    named: &Named<'_, A>,
    server: Option<&Granted<C>>,
    kind: Type,
    patience: Patience<'_>,
) -> Result<Vec<(u32, Data)>> {
    let Host::Name(name) = named.host() else { return Ok(Vec::new()) };
    let local = |kind: Type| -> Option<Vec<IpAddr>> {
        let all = match (server, in_hosts(&name)) {
            (None, own) if !own.is_empty() => own,
            _ if is_localhost(&name) => LOOPBACK.to_vec(),
            _ => return None,
        };
        Some(all.into_iter().filter(|address| address.is_ipv4() == (kind == Type::A)).collect())
    };
    if matches!(kind, Type::A | Type::Aaaa)
        && let Some(own) = local(kind)
    {
        return Ok(own.into_iter().map(|address| (0, Data::Address(address))).collect());
    }
    let resolver = server.and_then(|server| server.resource().address()).map_or_else(Resolver::of_host, Resolver::of);
    resolver.records(&name, kind, patience)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_its_manual_says() {
        let text = "# c\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\nsearch a.example. b.example\noptions ndots:2 timeout:1 attempts:9 use-vc x\n";
        let resolver = Resolver::parse(text);
        assert_eq!(resolver.servers, ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
        assert_eq!((resolver.ndots, resolver.timeout.as_secs(), resolver.attempts, resolver.stream), (2, 1, 5, true));
        assert_eq!(resolver.candidates("x.y"), ["x.y.a.example", "x.y.b.example", "x.y"]);
        assert_eq!(resolver.candidates("x.y.z"), ["x.y.z", "x.y.z.a.example", "x.y.z.b.example"]);
        assert_eq!(Resolver::parse("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn the_hosts_file_knows_names_and_aliases() {
        let hosts = "127.0.0.1 localhost\n192.0.2.7\tDB.example db # db2\n192.0.2.8 db\nx y\n";
        let found = |name: &str| addresses_in(hosts, name).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found("db"), ["192.0.2.7", "192.0.2.8"]);
        assert_eq!(found("db.example"), ["192.0.2.7"]);
        assert!(found("db2").is_empty());
    }

    #[test]
    fn addresses_that_names_must_not_lead_to() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "fd00:ec2::254",
            "100.100.100.200",
        ] {
            assert!(closed_to_names(text.parse().unwrap()), "{text}");
        }
        for text in ["192.0.2.1", "10.0.0.1", "192.168.1.1", "2001:db8::1", "fd00::1", "64:ff9b::192.0.2.1", "::ffff:10.0.0.1"] {
            assert!(!closed_to_names(text.parse().unwrap()), "{text}");
        }
    }
}
