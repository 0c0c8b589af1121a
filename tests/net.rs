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
