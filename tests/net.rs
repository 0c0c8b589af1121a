//! Looking at the network through the binary: which sockets there are, behind the fence, and what a policy shows of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Rex};
use serde_json::{Value, json};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;

/// What a policy for the reference permits for its `netstat`.
const NETSTAT: &str = r#"permit(principal, action in [file_system::Action::"open", file_system::Action::"read"], resource)
when { ["/proc", "/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6", "/proc/net/unix"].contains(resource.path) };"#;

fn rows(value: &Value) -> Vec<Value> {
    value.as_array().unwrap().clone()
}

#[test]
fn sockets_of_every_kind_are_seen_with_both_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let near = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let far = near.local_addr().unwrap().to_string();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let open = datagrams.local_addr().unwrap();
    for policy in [ALLOW_ALL, NETSTAT] {
        let rex = Rex::new().policy(policy);
        let found = rows(&rex.run(&format!("ss(#{{port: {port}, protocol: [\"tcp\"]}})")).ends(0).value());
        let of = |state: &str, local: &str| {
            found.iter().find(|row| row["state"] == state && row["local_address"] == local).cloned().unwrap_or_else(|| panic!("{found:#?}"))
        };
        let here = format!("127.0.0.1:{port}");
        assert_eq!(of("LISTEN", &here)["uid"], json!(rustix::process::getuid().as_raw()));
        assert_eq!(of("LISTEN", &here)["local_port"], json!(port));
        assert_eq!(of("ESTABLISHED", &here)["remote_address"], json!(far));
        assert_eq!(of("ESTABLISHED", &far)["remote_ip"], "127.0.0.1");
        let listening = rows(&rex.run(&format!("ss(#{{port: {port}, listening: true}})")).ends(0).value());
        assert_eq!(listening.len(), 1, "{listening:#?}");
        let udp = rows(&rex.run(&format!("ss(#{{port: {}, protocol: [\"udp\"], listening: true}})", open.port())).ends(0).value());
        assert_eq!((udp.len(), &udp[0]["local_address"]), (1, &json!(open.to_string())), "{udp:#?}");
    }
    drop((listener, near));
}

#[test]
fn netstat_has_the_sockets_of_this_host_too() {
    let rex = Rex::new().policy(NETSTAT).dir("box");
    let path = rex.data().join("box/a b");
    let socket = UnixListener::bind(&path).unwrap();
    let shown = rows(&rex.run("netstat(#{listening: true, limit: 1000000}).unix").ends(0).value());
    let row = shown.iter().find(|row| row["path"] == json!(path.to_str().unwrap())).unwrap_or_else(|| panic!("{shown:#?}"));
    assert_eq!((&row["kind"], &row["listening"], &row["protocol"]), (&json!("STREAM"), &json!(true), &json!("unix")));
    drop(socket);
}

#[test]
fn one_table_that_is_denied_denies_the_whole_and_is_on_record() {
    let rex =
        Rex::new().policy(r#"permit(principal, action == file_system::Action::"read", resource == file_system::File::"/proc/net/tcp");"#);
    rex.run("ss(#{protocol: [\"tcp\"], limit: 1}).len() <= 1").gives(true);
    for script in ["ss()", "netstat()", "ss(#{protocol: [\"tcp\", \"udp\"]})"] {
        let run = rex.run(script);
        assert!(run.is_denied().records_denial(), "{script}: {run:#?}");
        let denied = run.json()["error"].to_string();
        assert!(denied.contains("/proc/net/"), "{denied}");
    }
    // A run that may read something else altogether sees none.
    let closed = Rex::new().policy(r#"permit(principal, action == file_system::Action::"read", resource in file_system::Dir::"/etc");"#);
    assert!(closed.run("ss()").is_denied().records_denial());
}

#[test]
fn options_that_are_wrong_are_said_to_be() {
    let rex = Rex::new().policy(ALLOW_ALL);
    for (script, says) in [
        ("ss(#{protocol: [\"sctp\"]})", "expected `tcp`, `tcp6`, `udp`, `udp6` or `unix`, not `sctp`"),
        ("ss(#{port: 70000})", "expected a number from 0 to 65535"),
        ("netstat(#{protocol: [\"../tcp\"]})", "not `../tcp`"),
    ] {
        let run = rex.run(script);
        assert_eq!(run.json()["error"]["kind"], "bad_argument", "{run:#?}");
        assert!(run.json()["error"]["message"].as_str().unwrap().contains(says), "{run:#?}");
    }
    rex.run("ss(#{limit: 0}).len()").gives(0);
}

/// In a network namespace of its own: the same program twice, and ip(8) as the witness.
fn beside_ip(script: &str, what: &[&str]) -> (Value, Value) {
    const OWN: &str = "ip link set lo up && ip link add d0 type veth peer name d1 && ip link add b0 type bridge \
        && ip link add v0 type veth peer name v1 && ip link set v0 master b0 && for i in d0 d1 b0 v0; do ip link set $i addrgenmode none; done \
        && ip link set d0 mtu 1400 address 02:00:00:00:00:07 up && ip link set d1 up && ip link set v0 up && ip addr add 192.0.2.7/24 dev d0 && ip addr add 2001:db8::7/64 dev d0 nodad \
        && ip route add 198.51.100.0/24 via 192.0.2.1 metric 7 && ip route add default via 192.0.2.1 && ip route add blackhole 203.0.113.0/24 \
        && ip route add 198.51.101.0/24 nexthop via 192.0.2.1 dev d0 nexthop via 192.0.2.2 dev d0 \
        && ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev d0 nud permanent && ip -j $WHAT > \"$OUT\" || exit 99; exec \"$@\"";
    let rex = Rex::new().policy("permit(principal, action == sysinfo::Action::\"list\", resource);");
    let out = rex.root().join("ip.json");
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let mut command = std::process::Command::new("unshare");
    command.args(["--net", "sh", "-c", OWN, "sh"]).arg(rex.program());
    command.args(["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("WHAT", what.join(" ")).env("OUT", &out);
    let ours = rex.finish(command, script.as_bytes()).ends(0).value();
    (ours, serde_json::from_str(&std::fs::read_to_string(out).unwrap()).unwrap())
}

#[test]
fn interfaces_and_addresses_are_those_of_ip() {
    needs_namespaces!();
    let (ours, theirs) = beside_ip("ip_addr()", &["addr"]);
    let theirs: Vec<Value> = rows(&theirs)
        .iter()
        .map(|link| {
            let all = rows(&link["addr_info"]);
            let networks: Vec<String> = all.iter().map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"])).collect();
            let scopes: Vec<Value> = all.iter().map(|a| a["scope"].clone()).collect();
            json!([
                link["ifname"],
                link["ifindex"],
                link["mtu"],
                link["address"],
                link["operstate"].as_str().unwrap().to_lowercase(),
                networks,
                scopes
            ])
        })
        .collect();
    let ours: Vec<Value> = rows(&ours)
        .iter()
        .map(|i| json!([i["interface_name"], i["index"], i["mtu"], i["mac"], i["state"], i["networks"], i["scopes"]]))
        .collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 6, "{ours:#?}");
    let (ours, theirs) = beside_ip("ip_link()", &["-s", "-d", "link"]);
    let flags = |value: &Value| {
        let mut all: Vec<String> = rows(value).iter().map(|flag| flag.as_str().unwrap().to_owned()).collect();
        all.retain(|flag| flag != "NO-CARRIER" && flag != "M-DOWN");
        all.sort();
        all
    };
    for (own, other) in rows(&ours).iter().zip(rows(&theirs)) {
        assert_eq!((&own["name"], &own["mac"], flags(&own["flags"])), (&other["ifname"], &other["address"], flags(&other["flags"])));
        assert_eq!((&own["kind"], &own["master"]), (&other["linkinfo"]["info_kind"], &other["master"]));
        for (way, counter) in [("rx", "packets"), ("rx", "bytes"), ("tx", "packets"), ("tx", "bytes"), ("tx", "errors")] {
            // The kernel goes on sending neighbour discovery between the two looks.
            assert!(own[format!("{way}_{counter}")].as_u64() >= other["stats64"][way][counter].as_u64(), "{own} {other}");
        }
    }
}

#[test]
fn routes_and_neighbours_are_those_of_ip() {
    needs_namespaces!();
    let (ours, theirs) = beside_ip("ip_route().filter(|r| r.family == 4)", &["-4", "route"]);
    let theirs: Vec<Value> = rows(&theirs)
        .iter()
        .map(|r| {
            let hops = r["nexthops"].as_array().map_or(0, Vec::len);
            let kind = if r["type"].is_null() { json!("unicast") } else { r["type"].clone() };
            json!([r["dst"], r["gateway"], r["dev"], r["metric"], r["prefsrc"], kind, hops])
        })
        .collect();
    let ours: Vec<Value> = rows(&ours)
        .iter()
        .map(|r| {
            json!([
                r["destination"],
                r["gateway"],
                r["interface"],
                r["metric"],
                r["source"],
                r["type"],
                r["hops"].as_array().unwrap().len()
            ])
        })
        .collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 5, "{ours:#?}");
    let (ours, theirs) = beside_ip("ip_neigh()", &["neigh"]);
    let theirs: Vec<Value> = rows(&theirs).iter().map(|n| json!([n["dst"], n["dev"], n["lladdr"], n["state"][0]])).collect();
    let ours: Vec<Value> = rows(&ours).iter().map(|n| json!([n["address"], n["interface"], n["mac"], n["state"]])).collect();
    assert!(ours.contains(&json!(["192.0.2.1", "d0", "02:00:00:00:00:01", "PERMANENT"])), "{ours:#?}");
    assert_eq!(ours, theirs);
}

#[test]
fn the_hosts_own_network_is_told_to_whom_policy_permits() {
    let closed = Rex::new().policy(r#"permit(principal, action == network::Action::"GET", resource);"#);
    for script in ["ip_addr()", "ip_link()", "ip_route()", "ip_neigh()", "conntrack_count()"] {
        closed.run(script).is_denied();
    }
}
