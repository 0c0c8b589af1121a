//! Addresses of the network as policies see them: one spelling for each, so that what is judged is what is connected to.
//!
//! Readers of URLs differ, and every difference is a way past a policy: what one takes for the host another takes for a user, what one takes for a name
//! another takes for a number. So this one is strict. It refuses what has more than one meaning and writes the rest in one way (RFC 3986, section 6.2.2).
#![forbid(unsafe_code)]

use super::words::Value;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a URL or a name stands for: a host by name or by address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// In lower case, without a dot at its end.
    Name(String),
    Address(IpAddr),
}

/// Longest name (RFC 1035, section 2.3.4), and longest part of it.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// Longest URL.
const LONGEST: usize = 8192;

impl Host {
    /// A name or an address, IPv6 with or without brackets.
    ///
    /// # Errors
    /// What is wrong with it. Numbers that some readers take for an address (`2130706433`, `0x7f.1`, `127.1`, `010.0.0.1`) are none here.
    pub fn parse(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']')).ok_or("a bracket without the other")?;
        if inner.len() != text.len() || inner.contains(':') {
            let address: Ipv6Addr = inner.parse().map_err(|_| "no IPv6 address")?;
            return somewhere(plain(address.into())).map(Self::Address);
        }
        if !text.is_ascii() {
            return Err("a name with letters beyond ASCII; write it as it is in the DNS (xn--…)".to_owned());
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let last = name.rsplit('.').next().unwrap_or("");
        // Whatever ends like a number is an address to most readers (the URL standard calls it "ends in a number").
        if last.starts_with(|c: char| c.is_ascii_digit()) && (last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x")) {
            let address: Ipv4Addr = name.parse().map_err(|_| "a number that is no address in the form 192.0.2.1")?;
            return somewhere(address.into()).map(Self::Address);
        }
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= LONGEST_LABEL
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                && !label.starts_with('-')
        };
        if name.len() > LONGEST_NAME || !name.split('.').all(label) {
            return Err("no name of a host".to_owned());
        }
        Ok(Self::Name(name))
    }
}

/// The unspecified addresses are nobody's; the kernel takes them for this host, which policies then would not know it by.
fn somewhere(address: IpAddr) -> Result<IpAddr, String> {
    let nowhere = match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    if nowhere { Err("an address of no host".to_owned()) } else { Ok(address) }
}

/// An IPv4 address in IPv6 clothes is the IPv4 address: the kernel connects to the same.
#[must_use]
pub fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The way of talking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
    /// The port that goes without saying.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A URL of `http` or `https`, in the one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
    /// Begins with `/`; without `.` and `..`, percent-encoding only where it is needed and in capitals.
    pub path: String,
    /// What stands behind the first `?`, as it was given; empty where there is none.
    pub query: String,
}

impl Url {
    /// # Errors
    /// What is wrong with it. The message holds nothing of the text, which may hold secrets.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("longer than {LONGEST} bytes"));
        }
        let (scheme, rest) = text.split_once("://").ok_or("it has to begin with http:// or https://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err("only http and https are spoken".to_owned()),
        };
        let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, port) = authority_of(authority, scheme)?;
        if let Some(odd) = query.chars().find(|c| !is_query(*c)) {
            return Err(format!("`{}` in the query has to be percent-encoded", odd.escape_default()));
        }
        Ok(Self { scheme, host, port, path: path_of(if path.is_empty() { "/" } else { path })?, query: query.to_owned() })
    }

    /// What a `Location` means that was sent in answer to this (RFC 3986, section 5.2).
    ///
    /// # Errors
    /// As [`Url::parse`].
    pub fn join(&self, reference: &str) -> Result<Self, String> {
        let (before, _) = reference.split_once('#').unwrap_or((reference, ""));
        let until = before.find(['/', '?']).unwrap_or(before.len());
        if before.get(..until).is_some_and(|start| start.contains(':')) {
            return Self::parse(before);
        }
        let origin = format!("{}://{}", self.scheme.name(), self.authority());
        if before.starts_with("//") {
            return Self::parse(&format!("{}:{before}", self.scheme.name()));
        }
        if before.starts_with('/') {
            return Self::parse(&format!("{origin}{before}"));
        }
        if before.is_empty() || before.starts_with('?') {
            return Self::parse(&format!("{origin}{}{before}", self.path));
        }
        let folder = self.path.rfind('/').and_then(|cut| self.path.get(..=cut)).unwrap_or("/");
        Self::parse(&format!("{origin}{folder}{before}"))
    }

    /// Host and port, the port only where it does not go without saying: as it stands in a URL and in the header `Host`.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = match &self.host {
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            host => host.to_string(),
        };
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Whether the other one is at the same host and port and spoken in the same way.
    #[must_use]
    pub fn same_origin(&self, other: &Self) -> bool {
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
    }
}

/// Without the query: as policies and records name it.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority(), self.path)
    }
}

fn authority_of(authority: &str, scheme: Scheme) -> Result<(Host, u16), String> {
    if authority.contains('@') {
        return Err("a user or password in it; pass them as a header".to_owned());
    }
    // A colon that no bracket follows is that of the port.
    let (host, port) = match authority.rfind(':').filter(|at| !authority.get(*at..).is_some_and(|rest| rest.contains(']'))) {
        Some(at) => (authority.get(..at).unwrap_or(""), authority.get(at + 1..)),
        None => (authority, None),
    };
    let port = match port {
        None | Some("") => scheme.port(),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port > 0).ok_or("the port is not between 1 and 65535")?
        }
        Some(_) => return Err("the port is no number".to_owned()),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err("an IPv6 address stands in brackets".to_owned());
    }
    Host::parse(host).map(|host| (host, port))
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What may stand in a path without encoding: RFC 3986's `pchar` and the slash.
const fn is_path(byte: u8) -> bool {
    is_unreserved(byte) || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'/')
}

fn is_query(c: char) -> bool {
    // `[`, `]`, `|` and others are encoded by the strict and sent as they are by everybody; nothing is decided by a query's form.
    c.is_ascii_graphic() && !matches!(c, '#' | '"' | '<' | '>' | '\\' | '`')
}

/// The path in one spelling.
fn path_of(path: &str) -> Result<String, String> {
    let bytes = path.as_bytes();
    let (mut out, mut decoded, mut at) = (String::with_capacity(path.len()), Vec::with_capacity(path.len()), 0);
    while let Some(byte) = bytes.get(at) {
        match *byte {
            b'%' => {
                let hex = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
                let hex = hex.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                let value = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).ok_or("a `%` without two hexadecimal digits")?;
                if value == 0 || value.is_ascii_control() {
                    return Err("a control character in the path".to_owned());
                }
                if is_unreserved(value) {
                    out.push(char::from(value));
                } else {
                    out.push_str(&format!("%{value:02X}"));
                }
                decoded.push(value);
                at += 3;
            }
            plain if is_path(plain) => {
                out.push(char::from(plain));
                decoded.push(plain);
                at += 1;
            }
            _ => return Err("a character in the path that has to be percent-encoded (`url_encode` does it)".to_owned()),
        }
    }
    let out = without_dots(&out);
    // `..%2fadmin`: one server decodes it and climbs, the next does not.
    let climbs = |part: &[u8]| part == b"..";
    let hidden = decoded.contains(&b'\\') || decoded.iter().filter(|byte| **byte == b'/').count() != path.matches('/').count();
    if hidden && decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(climbs) {
        return Err("`..` beside an encoded slash in the path".to_owned());
    }
    Ok(out)
}

/// RFC 3986, section 5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

/// What the id of a `network::url` tells of an attribute by itself: of a URL all but its query, of a host's name only that.
#[must_use]
pub fn told_by_id(id: &str, name: &str) -> Option<Value> {
    let url = id.contains("://").then(|| Url::parse(id).ok()).flatten();
    match (name, url) {
        ("url", _) => Some(Value::String(id.to_owned())),
        ("scheme", Some(url)) => Some(Value::String(url.scheme.name().to_owned())),
        ("host", Some(url)) => Some(Value::String(url.host.to_string())),
        ("port", Some(url)) => Some(Value::Long(url.port.into())),
        ("path", Some(url)) => Some(Value::String(url.path)),
        ("host", None) => Some(Value::String(id.to_owned())),
        ("path", None) => Some(Value::String(String::new())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_thing_has_one_spelling() {
        for (given, written) in [
            ("HTTP://Example.ORG", "http://example.org/"),
            ("http://example.org:80/", "http://example.org/"),
            ("https://example.org:443", "https://example.org/"),
            ("https://example.org:8443/a?b=c#d", "https://example.org:8443/a"),
            ("http://example.org./a", "http://example.org/a"),
            ("http://example.org/%7euser/%61%2f", "http://example.org/~user/a%2F"),
            ("http://example.org/a/./b/../c", "http://example.org/a/c"),
            ("http://example.org/a/%2e%2E/secret", "http://example.org/secret"),
            ("http://example.org/../../x", "http://example.org/x"),
            ("http://example.org/a/..", "http://example.org/"),
            ("http://[::FFFF:127.0.0.1]/", "http://127.0.0.1/"),
            ("http://[2001:DB8:0:0::1]:8080/", "http://[2001:db8::1]:8080/"),
            ("http://example.org?a=/health", "http://example.org/"),
            ("http://a_b.example.org//x", "http://a_b.example.org//x"),
        ] {
            assert_eq!(Url::parse(given).unwrap().to_string(), written, "{given}");
        }
    }

    #[test]
    fn what_readers_disagree_on_is_refused() {
        for text in [
            "http://good.org@evil.org/",
            "http://good.org:80@evil.org/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://0.0.0.0/",
            "http://0.1.2.3/",
            "http://[::]/",
            "http://[::ffff:0.0.0.0]/",
            "http://127.0.0.1.2/",
            "http://1.2.3.4.5./",
            "http://good.org\\@evil.org/",
            "http://good.org\\.evil.org/",
            "http://good.org%2eevil.org/",
            "http://g\u{f6}\u{f6}d.org/",
            "http://good\u{3002}org/",
            "http://good.org:0/",
            "http://good.org:65536/",
            "http://good.org:+80/",
            "http://[::1/",
            "http://::1/",
            "http://[fe80::1%25eth0]/",
            "http:///x",
            "http://",
            "//good.org/",
            "file:///etc/passwd",
            "ftp://good.org/",
            "http://good.org/a b",
            "http://good.org/a\r\nX: y",
            "http://good.org/?a\r\nX: y",
            "http://good.org/%0d%0aX",
            "http://good.org/%00",
            "http://good.org/a/..%2fsecret",
            "http://good.org/a/..%5csecret",
            "http://good.org/%zz",
            "http://-good.org/",
            "http://good..org/",
            " http://good.org/",
        ] {
            assert!(Url::parse(text).is_err(), "{text}: {:?}", Url::parse(text));
        }
    }

    #[test]
    fn a_location_is_read_from_where_it_was_sent() {
        let base = Url::parse("https://example.org:8443/a/b?c").unwrap();
        for (location, leads_to, query) in [
            ("x", "https://example.org:8443/a/x", ""),
            ("/x?y", "https://example.org:8443/x", "y"),
            ("?z", "https://example.org:8443/a/b", "z"),
            ("../../x", "https://example.org:8443/x", ""),
            ("//other.org/x", "https://other.org/x", ""),
            ("http://other.org", "http://other.org/", ""),
            ("", "https://example.org:8443/a/b", ""),
            ("x/http://y", "https://example.org:8443/a/x/http://y", ""),
        ] {
            let url = base.join(location).unwrap();
            assert_eq!((url.to_string().as_str(), url.query.as_str()), (leads_to, query), "{location}");
        }
        for location in ["file:///etc/passwd", "javascript:alert(1)", "http://u:p@other.org/", "//u@other.org/", "/a b", "gopher://x/"] {
            assert!(base.join(location).is_err(), "{location}");
        }
    }

    #[test]
    fn an_id_tells_its_own_parts() {
        let told = |id: &str, name: &str| told_by_id(id, name);
        assert_eq!(told("https://example.org/a", "port"), Some(Value::Long(443)));
        assert_eq!(told("https://example.org/a", "query"), None);
        assert_eq!(told("db.example.org", "host"), Some(Value::String("db.example.org".into())));
        assert_eq!(told("db.example.org", "port"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_one_spelling_is_read_as_itself(text in "https?://[a-z0-9.:\\[\\]@%-]{0,20}(/[a-zA-Z0-9./%~\\\\-]{0,20})?(\\?[a-z/&=?]{0,10})?") {
            if let Ok(url) = Url::parse(&text) {
                let again = Url::parse(&url.to_string()).unwrap();
                prop_assert_eq!(Url { query: String::new(), ..url.clone() }, again);
                prop_assert!(!url.path.split('/').any(|part| part == ".." || part == "."));
            }
        }
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = Url::parse(&text);
            let _ = Host::parse(&text);
        }
    }
}
