//! The host's own side of the network: interfaces, addresses, routes, neighbours, and how many connections the firewall follows.

use super::file_read::Read;
use super::function::param;
use super::function::{Call, Example, Function, with0, with1};
use super::machine::List;
use super::value::{Array, Dynamic, IntoScript, Map, record};
use crate::error::{Error, Kind, Result};
use crate::options;
use crate::policy::{Granted, ask};
use crate::resource::file::File;
use crate::resource::machine::Machine;
use crate::resource::path::AbsPath;
use crate::sys::net::netlink::{self, Counters, Link};
use std::collections::BTreeMap;

pub const FUNCTIONS: &[Function] = &[IP_ADDR, IP_LINK, IP_ROUTE, IP_NEIGH, CONNTRACK_COUNT];

const IP_ADDR: Function = Function {
    name: "ip_addr",
    doc: "The interfaces of this network namespace with their addresses: an array of maps.\n\n`interface_name`, `index`, `state` (`up`, `down`, `unknown` …), `mtu`, `mac` (or nothing), `addresses` (strings), `networks` (the same with the length of the prefix, `192.0.2.7/24`) and `scopes` (of each: `global`, `link`, `host`).",
    body: &with0(ip_addr, []),
    asks: &[ask::<List>()],
    fails: &[Kind::Busy],
    examples: &[Example { given: &[], script: r#"ip_addr().find(|i| i.interface_name == "lo").index"#, gives: "1" }],
};

fn ip_addr(call: &Call<'_>) -> Result<Array> {
    let granted = call.permit::<List>(Machine)?;
    let check = || call.check();
    let links = netlink::links(&granted, &check)?;
    let all = netlink::addresses(&granted, &check)?;
    let one = |link: &Link| {
        let own = || all.iter().filter(|address| address.index == link.index);
        let addresses: Vec<String> = own().map(|address| address.address.to_string()).collect();
        let networks: Vec<String> = own().map(|address| format!("{}/{}", address.address, address.prefix)).collect();
        let scopes: Array = own().map(|address| address.scope.into_script()).collect();
        record([
            ("interface_name", link.name.clone().into_script()),
            ("index", link.index.into_script()),
            ("state", link.state.into_script()),
            ("mtu", link.mtu.into_script()),
            ("mac", link.mac.clone().into_script()),
            ("addresses", addresses.into_script()),
            ("networks", networks.into_script()),
            ("scopes", scopes.into_script()),
        ])
        .into_script()
    };
    Ok(links.iter().map(one).collect())
}

const IP_LINK: Function = Function {
    name: "ip_link",
    doc: "The interfaces of this network namespace with their counters: an array of maps.\n\n`name`, `index`, `kind` (`veth`, `bridge`, `vlan` …, nothing for a real one), `mac` (or nothing), `mtu`, `state`, `up`, `flags` (as ip(8) names them), `master` (the name of the bridge or bond that it is part of, or nothing), and `rx_bytes`, `rx_packets`, `rx_errors`, `rx_dropped`, `tx_bytes`, `tx_packets`, `tx_errors`, `tx_dropped` since it is there.",
    body: &with0(ip_link, []),
    asks: &[ask::<List>()],
    fails: &[Kind::Busy],
    examples: &[Example { given: &[], script: r#"ip_link().find(|i| i.name == "lo").flags.contains("LOOPBACK")"#, gives: "true" }],
};

fn ip_link(call: &Call<'_>) -> Result<Array> {
    let granted = call.permit::<List>(Machine)?;
    let links = netlink::links(&granted, &|| call.check())?;
    let names = names(&links);
    let one = |link: &Link| {
        let flags: Array = link.flags.iter().map(|flag| flag.into_script()).collect();
        let mut map = record([
            ("name", link.name.clone().into_script()),
            ("index", link.index.into_script()),
            ("kind", link.kind.clone().into_script()),
            ("mac", link.mac.clone().into_script()),
            ("mtu", link.mtu.into_script()),
            ("state", link.state.into_script()),
            ("up", link.flags.contains(&"UP").into_script()),
            ("flags", flags.into_script()),
            ("master", link.master.map_or(Dynamic::UNIT, |master| name(&names, master))),
        ]);
        counters(&mut map, "rx", link.received);
        counters(&mut map, "tx", link.sent);
        map.into_script()
    };
    Ok(links.iter().map(one).collect())
}

fn counters(map: &mut Map, way: &str, counters: Counters) {
    for (what, count) in
        [("bytes", counters.bytes), ("packets", counters.packets), ("errors", counters.errors), ("dropped", counters.dropped)]
    {
        map.insert(format!("{way}_{what}").into(), count.into_script());
    }
}

fn names(links: &[Link]) -> BTreeMap<u32, String> {
    links.iter().map(|link| (link.index, link.name.clone())).collect()
}

fn name(names: &BTreeMap<u32, String>, index: u32) -> Dynamic {
    names.get(&index).cloned().unwrap_or_else(|| format!("if{index}")).into_script()
}

fn names_of(call: &Call<'_>, granted: &Granted<List>) -> Result<BTreeMap<u32, String>> {
    Ok(names(&netlink::links(granted, &|| call.check())?))
}

options! {
    /// Options of `ip_route`.
    RouteOptions {
        table: u64 = 254, "The number of the table; 254 is `main`, 255 `local`, 0 all of them.";
        limit: u64 = 10_000, "Return so many at most.";
    }
}

/// Who made a route (linux/rtnetlink.h, /etc/iproute2/rt_protos).
const PROTOCOLS: &[(u8, &str)] = &[
    (1, "redirect"),
    (2, "kernel"),
    (3, "boot"),
    (4, "static"),
    (9, "ra"),
    (11, "zebra"),
    (12, "bird"),
    (16, "dhcp"),
    (186, "bgp"),
    (188, "ospf"),
];
/// Those of the cache, which ip(8) does not show either.
const MAIN: u64 = 254;

const IP_ROUTE: Function = Function {
    name: "ip_route",
    doc: "The routes of this network namespace, IPv4 and IPv6: an array of maps.\n\n`family` (4 or 6), `destination` (`default`, `192.0.2.0/24`, `192.0.2.7`), `gateway`, `interface`, `source`, `metric` (each of them nothing where the route has none), `hops` (where there are several ways: maps of `gateway` and `interface`), `type` (`unicast`, `local`, `blackhole` …), `scope`, `protocol` (who made it: `kernel`, `dhcp`, `static` …, or a number), `table`.",
    body: &with1(ip_route, [param("options", "")]),
    asks: &[ask::<List>()],
    fails: &[Kind::Busy],
    examples: &[Example {
        given: &[],
        script: "ip_route(#{table: 255}).some(|r| r.destination == \"127.0.0.1\" && r.interface == \"lo\")",
        gives: "true",
    }],
};

fn ip_route(call: &Call<'_>, options: RouteOptions) -> Result<Array> {
    let granted = call.permit::<List>(Machine)?;
    let names = names_of(call, &granted)?;
    let interface = |index: Option<u32>| index.map_or(Dynamic::UNIT, |index| name(&names, index));
    let text = |address: Option<core::net::IpAddr>| address.map(|address| address.to_string()).into_script();
    let routes = netlink::routes(&granted, &|| call.check())?;
    let wanted = routes.into_iter().filter(|route| options.table == 0 || u64::from(route.table) == options.table);
    // ip(8) shows these of the tables of its own only when it is asked for them.
    let wanted = wanted.filter(|route| options.table != MAIN || route.kind != "local");
    let most = usize::try_from(options.limit).unwrap_or(usize::MAX);
    Ok(wanted
        .take(most)
        .map(|route| {
            let hops: Array = route
                .hops
                .iter()
                .map(|(gateway, index)| record([("gateway", text(*gateway)), ("interface", name(&names, *index))]).into_script())
                .collect();
            let known = PROTOCOLS.iter().find(|(number, _)| *number == route.protocol);
            record([
                ("family", (if route.is_ipv4 { 4_i64 } else { 6 }).into_script()),
                ("destination", route.destination.into_script()),
                ("gateway", text(route.gateway)),
                ("interface", interface(route.interface)),
                ("source", text(route.source)),
                ("metric", route.metric.into_script()),
                ("hops", hops.into_script()),
                ("type", route.kind.into_script()),
                ("scope", route.scope.into_script()),
                ("protocol", known.map_or_else(|| route.protocol.to_string().into_script(), |(_, name)| name.into_script())),
                ("table", route.table.into_script()),
            ])
            .into_script()
        })
        .collect())
}

const IP_NEIGH: Function = Function {
    name: "ip_neigh",
    doc: "The neighbours on the links of this network namespace (ARP and its like for IPv6): an array of maps.\n\n`address`, `interface`, `mac` (or nothing), `state` (`REACHABLE`, `STALE`, `FAILED`, `PERMANENT` …).",
    body: &with0(ip_neigh, []),
    asks: &[ask::<List>()],
    fails: &[Kind::Busy],
    examples: &[Example { given: &[], script: r#"ip_neigh().filter(|n| n.state == "FAILED")"#, gives: "" }],
};

fn ip_neigh(call: &Call<'_>) -> Result<Array> {
    let granted = call.permit::<List>(Machine)?;
    let names = names_of(call, &granted)?;
    let all = netlink::neighbours(&granted, &|| call.check())?;
    Ok(all
        .into_iter()
        .map(|neighbour| {
            record([
                ("address", neighbour.address.to_string().into_script()),
                ("interface", name(&names, neighbour.interface)),
                ("mac", neighbour.mac.into_script()),
                ("state", neighbour.state.into_script()),
            ])
            .into_script()
        })
        .collect())
}

const CONNTRACK_COUNT: Function = Function {
    name: "conntrack_count",
    doc: "How many connections the kernel's firewall follows, and how many it can: a map of `count` and `max`.\n\nA table that is full drops new connections. Asks to read the two files of `/proc/sys/net/netfilter`; `unsupported` where nothing follows connections.",
    body: &with0(conntrack_count, []),
    asks: &[ask::<Read>()],
    fails: &[Kind::Unsupported, Kind::BadData],
    examples: &[Example { given: &[], script: "conntrack_count().keys()", gives: r#"["count", "max"]"# }],
};

fn conntrack_count(call: &Call<'_>) -> Result<Map> {
    let number = |name: &str| -> Result<i64> {
        let path = AbsPath::new(format!("/proc/sys/net/netfilter/{name}").as_str())?;
        let file = call.permit::<Read>(File::locate(&path)?).map_err(|error| match error.kind {
            Kind::NotFound => Error::new(Kind::Unsupported, "the kernel of this host follows no connections (nf_conntrack)"),
            _ => error,
        })?;
        let bytes = crate::sys::file::read(&file, 0, None, 64, &call.host.watch)?;
        let text = String::from_utf8_lossy(&bytes);
        text.trim().parse().map_err(|_| Error::new(Kind::BadData, "the kernel gave no number"))
    };
    Ok(record([("count", number("nf_conntrack_count")?.into_script()), ("max", number("nf_conntrack_max")?.into_script())]))
}
