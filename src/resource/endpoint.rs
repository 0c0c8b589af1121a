//! `network::url` and `sysinfo::Hostname`: what is reached over the network, and a name to look up.

use crate::error::{Error, Result};
use crate::policy::url::{Host, Url};
use crate::policy::{Attribute, Noun, Resource, Value};
use crate::resource::file::File;
use core::net::IpAddr;

const fn attribute(name: &'static str, cedar: &'static str, required: bool, fixed: bool, doc: &'static str) -> Attribute {
    Attribute { name, cedar, required, fixed, doc }
}

pub const URL: Noun = Noun {
    name: "network::url",
    parents: &[],
    attributes: &[
        attribute("url", "String", true, true, "Its id."),
        attribute("scheme", "String", true, false, "`http` or `https`; for a host `tcp`, `udp` or `icmp`."),
        attribute("host", "String", true, true, "The name in lower case, or the address."),
        attribute("port", "Long", true, false, "The port, also where the URL does not name it; 0 where there is none (icmp)."),
        attribute(
            "path",
            "String",
            true,
            true,
            "The path in one spelling: no `..`, nothing encoded without need; of a host the empty text.",
        ),
        attribute("query", "String", true, false, "What stands behind the `?`, as given; the empty text where there is none."),
        attribute(
            "address",
            "__cedar::ipaddr",
            false,
            false,
            "The address that is connected to. Of a name it is looked up only where a policy asks for it and nothing else decides.",
        ),
    ],
    doc: "Something on the network. For HTTP its id is the URL in one spelling, without user, query and fragment: `https://api.example.com:8443/v1/items`. For connections it is the host alone, a name or an address: `db.example.com`; the port is an attribute.",
};

pub const HOSTNAME: Noun = Noun {
    name: "sysinfo::Hostname",
    parents: &[],
    attributes: &[attribute("hostname", "String", true, true, "The name to look up, in lower case.")],
    doc: "A name to look up in the DNS.",
};

/// Something on the network.
#[derive(Clone, Debug)]
pub struct Endpoint {
    id: String,
    scheme: &'static str,
    host: Host,
    port: u16,
    path: String,
    query: String,
    address: Option<IpAddr>,
    why_not: Option<Error>,
}

impl Endpoint {
    #[must_use]
    pub fn of_url(url: &Url) -> Self {
        Self {
            id: url.to_string(),
            scheme: url.scheme.name(),
            address: literal(&url.host),
            host: url.host.clone(),
            port: url.port,
            path: url.path.clone(),
            query: url.query.clone(),
            why_not: None,
        }
    }
    /// A port of a host; `scheme` is `tcp`, `udp` or `icmp`.
    #[must_use]
    pub fn of_host(scheme: &'static str, host: Host, port: u16) -> Self {
        let (id, address) = (host.to_string(), literal(&host));
        Self { id, scheme, host, port, path: String::new(), query: String::new(), address, why_not: None }
    }
    /// The same at this address of its name.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Self {
        Self { address: Some(address), ..self.clone() }
    }
    /// The same, with what stands in the way of using it.
    #[must_use]
    pub fn unreachable(&self, why_not: Error) -> Self {
        Self { why_not: Some(why_not), ..self.clone() }
    }
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
    /// The address, where the host is one or was looked up before it was judged.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

fn literal(host: &Host) -> Option<IpAddr> {
    match host {
        Host::Address(address) => Some(*address),
        Host::Name(_) => None,
    }
}

impl Resource for Endpoint {
    const NOUNS: &'static [Noun] = &[URL];
    const RECORDED: &'static [&'static str] = &["port", "address"];
    fn noun(&self) -> &'static Noun {
        &URL
    }
    fn id(&self) -> &str {
        &self.id
    }
    fn each_ancestor(&self, _: &mut dyn FnMut(&'static str, &str)) {}
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        Ok(match name {
            "url" => Some(Value::String(self.id.clone())),
            "scheme" => Some(Value::String(self.scheme.to_owned())),
            "host" => Some(Value::String(self.host.to_string())),
            "port" => Some(Value::Long(self.port.into())),
            "path" => Some(Value::String(self.path.clone())),
            "query" => Some(Value::String(self.query.clone())),
            "address" => self.address.map(|address| Value::Ip(address.to_string())),
            _ => None,
        })
    }
    fn obstacle(&self) -> Option<Error> {
        self.why_not.clone()
    }
}

/// A name to look up.
#[derive(Clone, Debug)]
pub struct Hostname(String);

impl Hostname {
    /// The name in its one spelling: lower case, no dot at the end.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self(name)
    }
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Resource for Hostname {
    const NOUNS: &'static [Noun] = &[HOSTNAME];
    fn noun(&self) -> &'static Noun {
        &HOSTNAME
    }
    fn id(&self) -> &str {
        &self.0
    }
    fn each_ancestor(&self, _: &mut dyn FnMut(&'static str, &str)) {}
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        Ok((name == "hostname").then(|| Value::String(self.0.clone())))
    }
}

/// What HTTP is spoken to.
pub trait Reached {
    /// Whether it is what this URL leads to.
    fn is_way_to(&self, url: &Url) -> bool;
    /// Whether it is on the network, and not a socket of this host.
    fn is_network(&self) -> bool;
}
impl Reached for Endpoint {
    fn is_way_to(&self, url: &Url) -> bool {
        self.id == url.to_string() && self.host == url.host && self.port == url.port && self.query == url.query
    }
    fn is_network(&self) -> bool {
        true
    }
}
/// A socket of this host: the URL's host is a word for whoever listens there.
impl Reached for File {
    fn is_way_to(&self, _: &Url) -> bool {
        true
    }
    fn is_network(&self) -> bool {
        false
    }
}
