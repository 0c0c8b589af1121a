//! Names through the binary, with a real name server in a network of its own: what is found, what must not be looked up, and where names must not lead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;

use common::{ALLOW_ALL, Rex, Run};
use serde_json::{Value, json};
use std::process::Command;

/// A host alone in its network: 192.0.2.7 is its own, a web server listens everywhere, dnsmasq answers for `example` and writes down what it is asked.
const ALONE: &str = r#"
ip link set lo up && ip link add d0 type veth peer name d1 && ip addr add 192.0.2.7/24 dev d0 && ip link set d0 up && ip link set d1 up || exit 99
mount --bind "$ROOT/resolv.conf" /etc/resolv.conf && mount --bind "$ROOT/hosts" /etc/hosts || exit 99
LONG=$(head -c 200 /dev/zero | tr '\0' x)
dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --listen-address=127.0.0.1 --bind-interfaces --user=root --pid-file= \
  --log-queries --log-facility="$ROOT/asked" --local=/example/ --host-record=web.example,192.0.2.7 --host-record=six.example,2001:db8::7 \
  --cname=www.example,web.example --mx-host=example,mx.example,10 --txt-record=example,v=spf1 --srv-host=_http._tcp.example,web.example,80,1,2 \
  --ptr-record=7.2.0.192.in-addr.arpa,web.example --address=/rebind.example/127.0.0.1 --address=/meta.example/169.254.169.254 \
  --address=/nowhere.example/0.0.0.0 --host-record=both.example,127.0.0.1 --host-record=both.example,192.0.2.7 \
  --txt-record=big.example,$LONG,$LONG,$LONG,$LONG,$LONG,$LONG,$LONG,$LONG &
python3 -m http.server 80 --bind 0.0.0.0 --directory "$ROOT/data" >/dev/null 2>&1 &
for _ in $(seq 400); do
  grep -q ':0035 ' /proc/net/udp && grep -q ':0050 00000000:0000 0A' /proc/net/tcp && break
  sleep 0.025
done
exec "$@"
"#;

fn alone(rex: &Rex, resolv: &str, script: &str) -> Run {
    std::fs::write(rex.root().join("resolv.conf"), resolv).unwrap();
    std::fs::write(rex.root().join("hosts"), "127.0.0.1 localhost\n127.0.0.1 listed.example\n").unwrap();
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", ALONE, "sh"]).arg(rex.program());
    command.args(["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("ROOT", rex.root());
    rex.finish(command, rex.fill(script).as_bytes())
}

fn asked(rex: &Rex) -> String {
    std::fs::read_to_string(rex.root().join("asked")).unwrap_or_default()
}

const OWN: &str = "nameserver 127.0.0.1\nsearch example\n";

#[test]
fn records_of_every_kind_are_found() {
    needs_namespaces!();
    let rex = Rex::new().policy("permit(principal, action == sysinfo::Action::\"resolve_hostname\", resource is sysinfo::Hostname);");
    let script = r#"
        fn of(name, kind) { try { return resolve(name, #{type: kind}); } catch (e) { return e.kind; } }
        fn plain(name) { try { return resolve(name); } catch (e) { return e.kind; } }
        #{
            plain: resolve("web.example"), six: resolve("six.example"), alias: resolve("WWW.example."), short: resolve("web"),
            listed: resolve("listed.example"), a: of("www.example", "A"), none: of("web.example", "aaaa"), cname: of("www.example", "CNAME"),
            mx: of("example", "MX"), txt: of("example", "TXT"), srv: of("_http._tcp.example", "SRV"), ptr: of("192.0.2.7", "PTR"),
            big: of("big.example", "TXT")[0].len(), missing: of("missing.example", "A"),
            gone: plain("missing.example"),
        }"#;
    let found = alone(&rex, OWN, script).ends(0).value();
    let expected = json!({
        "plain": ["192.0.2.7"], "six": ["2001:db8::7"], "alias": ["192.0.2.7"], "short": ["192.0.2.7"], "listed": ["127.0.0.1"],
        "a": ["192.0.2.7"], "none": [], "cname": ["web.example"], "mx": [{"exchange": "mx.example", "preference": 10}],
        "txt": ["v=spf1"], "srv": [{"port": 80, "priority": 1, "target": "web.example", "weight": 2}], "ptr": ["web.example"],
        "big": 1600, "missing": "not_found", "gone": "not_found",
    });
    assert_eq!(found, expected);
}

#[test]
fn what_is_denied_is_not_looked_up() {
    needs_namespaces!();
    let script = r#"
        fn get(url) { try { return http_get(url).status; } catch (e) { return e.kind; } }
        fn name(name, options) { try { return resolve(name, options); } catch (e) { return e.kind; } }
        [get("http://web.example/f"), get("http://secret.evil.example/"), get("http://secret.web.example/"),
         name("secret.example", #{}),
         name("web.example", #{server: "127.0.0.1"})]"#;
    for policy in [
        "permit(principal, action == network::Action::\"GET\", resource) when { resource.url like \"http://web.example/*\" };",
        // With a word on addresses, names have to be looked up first: those that may be permitted, and no others.
        "permit(principal, action == network::Action::\"GET\", resource) when { resource.host == \"web.example\" };
         forbid(principal, action, resource is network::url) when { resource has address && resource.address.isLoopback() };",
    ] {
        let names = "permit(principal, action == sysinfo::Action::\"resolve_hostname\", resource == sysinfo::Hostname::\"web.example\");";
        let rex = Rex::new().file("f", "x").policy(&format!("{policy}\n{names}"));
        let run = alone(&rex, OWN, script);
        run.gives(json!([200, "denied", "denied", "denied", "denied"]));
        let log = asked(&rex);
        assert!(log.contains("query[A] web.example") && !log.contains("secret"), "{log}");
    }
}

#[test]
fn a_name_does_not_lead_to_this_host_or_its_link() {
    needs_namespaces!();
    let script = r#"
        fn get(url) { try { return http_get(url, #{timeout: 2}).address; } catch (e) { return e.kind; } }
        [get("http://rebind.example/f"), get("http://meta.example/f"), get("http://nowhere.example/f"), get("http://listed.example/f"),
         get("http://localhost/f"), get("http://both.example/f"), get("http://0.0.0.0/f")]"#;
    let rex = Rex::new().file("f", "x").policy(ALLOW_ALL);
    let run = alone(&rex, OWN, script);
    let said = run.ends(0).value();
    assert_eq!(said, json!(["bad_data", "bad_data", "bad_data", "127.0.0.1", "127.0.0.1", "192.0.2.7", "bad_argument"]));
    // What a name leads to is judged too, and on record.
    let rex = Rex::new().file("f", "x").policy(
        "permit(principal, action == network::Action::\"GET\", resource);
         forbid(principal, action, resource is network::url) when { resource has address && resource.address.isInRange(ip(\"192.0.2.0/24\")) };",
    );
    let run = alone(&rex, OWN, "let said = (); try { http_get(\"http://web.example/f\") } catch (e) { said = e.kind; } said");
    run.gives("denied");
    assert_eq!(run.events("decision")[0]["attributes"], json!({"address": "192.0.2.7", "port": 80}), "{run:#?}");
}

#[test]
fn a_chosen_server_has_a_permission_of_its_own_and_a_silent_one_a_limit() {
    needs_namespaces!();
    let rex = Rex::new().policy(
        "permit(principal, action == sysinfo::Action::\"resolve_hostname\", resource);
         permit(principal, action == network::Action::\"connect\", resource == network::url::\"127.0.0.1\") when { resource.port == 53 };",
    );
    let script = r#"
        fn name(options) { try { return resolve("web.example", options); } catch (e) { return e.kind; } }
        fn ask(server) { name(#{server: server, type: "A", timeout: 0.5}) }
        [ask("127.0.0.1"), ask("192.0.2.99"), name(#{timeout: 0.5})]"#;
    // Nobody is at this address.
    let run = alone(&rex, "nameserver 192.0.2.99\n", script);
    run.gives(json!([["192.0.2.7"], "denied", "timeout"]));
    let silent: Vec<&Value> = run.audit.iter().filter(|record| record["event"] == "decision" && record["decision"] == "deny").collect();
    assert_eq!(silent[0]["resource"], "network::url::\"192.0.2.99\"");
}
