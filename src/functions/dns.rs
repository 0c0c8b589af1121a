//! Looking names up.

use super::function::{Call, Example, Function, param, with2};
use super::reach::Connect;
use super::value::{Array, ImmutableString, IntoScript, Map, record};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use crate::policy::url::Host;
use crate::policy::{Access, Action, Attribute, Value, ask};
use crate::resource::endpoint::{Endpoint, HOSTNAME, Hostname};
use crate::sys::net::Patience;
use crate::sys::net::dns::{self, Data, TYPES, Type};
use crate::sys::net::lookup::{self, Named};
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[RESOLVE];

/// `sysinfo::Action::"resolve_hostname"`: look a name up.
pub enum Resolve {}
impl Action for Resolve {
    type On = Hostname;
    const NAMESPACE: &'static str = "sysinfo";
    const NAME: &'static str = "resolve_hostname";
    const APPLIES_TO: &'static [&'static str] = &[HOSTNAME.name];
    const GROUPS: &'static [&'static str] = &["SysinfoAction", "view"];
    const DOC: &'static str = "Look a name up.";
    const ACCESS: Access = Access::ReadOnly;
    const CONTEXT: &'static [Attribute] = &[Attribute {
        name: "record",
        cedar: "String",
        required: true,
        fixed: false,
        doc: "The kind of record: `A`, `MX` …; `A` as well where both kinds of address are looked for.",
    }];
}

options! {
    /// Options of `resolve`.
    ResolveOptions {
        r#type: Option<String> = None, "The kind of record: A, AAAA, CNAME, MX, NS, PTR, SOA, SRV or TXT. Without it both kinds of address.";
        server: Option<String> = None, "Ask this name server (its address) instead of the host's. Asks for `connect` on it, with port 53.";
        timeout: Duration = Duration::from_secs(5), "How long all of it may take, in seconds.";
    }
}

const RESOLVE: Function = Function {
    name: "resolve",
    doc: "What the DNS has of a name.\n\nWithout `type` the addresses, IPv4 and IPv6, sorted: `/etc/hosts` first, then the name servers of `/etc/resolv.conf` with its search domains, UDP and where that is too small TCP. With `type` an array of the records: strings for A, AAAA, CNAME, NS, PTR and TXT; maps for MX (`preference`, `exchange`), SRV (`priority`, `weight`, `port`, `target`) and SOA (`primary`, `mailbox`, `serial`, `refresh`, `retry`, `expire`, `minimum`). Names in results have no dot at their end. For PTR the name may be an address. A name that is there without such records gives an empty array; one that is not fails with `not_found`. What name services of nsswitch.conf other than files and DNS know is not found.",
    body: &with2(resolve, [param("name", "The name."), param("options", "")]),
    asks: &[ask::<Resolve>(), ask::<Connect>()],
    fails: &[Kind::NotFound, Kind::Timeout, Kind::Unavailable],
    examples: &[
        Example { given: &[], script: r#"resolve("localhost").contains("127.0.0.1")"#, gives: "true" },
        Example { given: &[], script: r#"resolve("localhost", #{type: "A", server: "127.0.0.1"})"#, gives: r#"["127.0.0.1"]"# },
    ],
};

fn resolve(call: &Call<'_>, name: ImmutableString, options: ResolveOptions) -> Result<Array> {
    let kind = match &options.r#type {
        None => None,
        Some(word) => {
            let names = || TYPES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let known = TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
            Some(known.copied().ok_or_else(|| bad_argument(format!("resolve: option `type`: expected one of {}", names())))?)
        }
    };
    let wrong = |what: String| bad_argument(format!("resolve: name: {what}"));
    let name = match (Host::parse(&name).map_err(wrong)?, kind) {
        (Host::Name(name), _) => name,
        (Host::Address(address), Some((_, Type::Ptr))) => dns::reverse(address),
        (Host::Address(_), _) => return Err(bad_argument("resolve: name: an address has only names (`type: \"PTR\"`)")),
    };
    let server = match &options.server {
        None => None,
        Some(server) => match Host::parse(server) {
            Ok(host @ Host::Address(_)) => Some(Endpoint::of_host("udp", host, 53)),
            _ => return Err(bad_argument("resolve: option `server`: expected the address of a name server")),
        },
    };
    let record_word = kind.map_or("A", |(word, _)| word);
    let granted = call.permit_with::<Resolve>(Hostname::new(name), vec![("record", Value::String(record_word.to_owned()))])?;
    let server = server.map(|server| call.permit::<Connect>(server)).transpose()?;
    let check = || call.check();
    let patience = Patience::new(options.timeout, &check);
    let named = Named(&granted);
    let Some((_, kind)) = kind else {
        let found = lookup::told(&named, server.as_ref(), patience)?;
        return Ok(found.into_iter().map(|address| address.to_string().into_script()).collect());
    };
    let records = lookup::records(&named, server.as_ref(), kind, patience)?;
    Ok(records.into_iter().map(|(_, data)| shown(data)).collect())
}

fn shown(data: Data) -> super::value::Dynamic {
    let map = |map: Map| map.into_script();
    match data {
        Data::Address(address) => address.to_string().into_script(),
        Data::Name(name) => name.into_script(),
        Data::Txt(text) => String::from_utf8_lossy(&text).into_owned().into_script(),
        Data::Mx { preference, exchange } => {
            map(record([("preference", i64::from(preference).into_script()), ("exchange", exchange.into_script())]))
        }
        Data::Srv { priority, weight, port, target } => map(record([
            ("priority", i64::from(priority).into_script()),
            ("weight", i64::from(weight).into_script()),
            ("port", i64::from(port).into_script()),
            ("target", target.into_script()),
        ])),
        Data::Soa { primary, mailbox, serial, refresh, retry, expire, minimum } => map(record([
            ("primary", primary.into_script()),
            ("mailbox", mailbox.into_script()),
            ("serial", serial.into_script()),
            ("refresh", refresh.into_script()),
            ("retry", retry.into_script()),
            ("expire", expire.into_script()),
            ("minimum", minimum.into_script()),
        ])),
    }
}
