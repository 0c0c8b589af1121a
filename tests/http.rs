//! HTTP through the binary: what is permitted is fetched, each hop of a redirect is asked for, and tricks with addresses, headers and bodies lead nowhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
#[path = "common/server.rs"]
mod server;

use common::{ALLOW_ALL, Rex, Run};
use serde_json::json;
use server::{Request, Server, answer, usual};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Fetching from this server, and from no other.
fn only(server: &Server) -> String {
    format!("permit(principal, action == network::Action::\"GET\", resource) when {{ resource.url like \"{}\" }};\n", server.url("/*"))
}

fn kind(run: &Run) -> String {
    run.json()["error"]["kind"].as_str().unwrap_or("").to_owned()
}

fn message(run: &Run) -> String {
    run.json()["error"]["message"].as_str().unwrap_or("").to_owned()
}

#[test]
fn what_is_permitted_is_fetched_and_nobody_else_is_connected_to() {
    let (good, other) = (Server::new(), Server::new());
    let rex = Rex::new().policy(&only(&good));
    let run = rex.run(&format!("let r = http_get(\"{}\"); [r.status, r.text, r.address, r.chain.len()]", good.url("/")));
    run.gives(json!([200, "hello\n", "127.0.0.1", 0]));
    let decision = run.events("decision")[0];
    assert_eq!(decision["resource"], format!("network::url::\"{}\"", good.url("/")));
    assert_eq!((&decision["attributes"]["port"], &decision["attributes"]["address"]), (&json!(good.port()), &json!("127.0.0.1")));
    for script in [
        format!("http_get(\"{}\")", other.url("/")),
        format!("curl(\"{}\")", other.url("/?x={}/")),
        format!("http_post(\"{}\")", good.url("/")),
        format!("http_head(\"{}\")", good.url("/")),
        format!("tcp_check(\"127.0.0.1\", {})", other.port()),
        format!("http_get(\"{}\", #{{timeout: 1}})", good.url("/").replace("127.0.0.1", "localhost")),
    ] {
        rex.run(&script).is_denied();
    }
    assert_eq!((good.connections(), other.connections()), (1, 0));
}

/// What the reference calls these still does what it did.
#[test]
fn a_script_for_the_reference_runs_under_its_own_policy() {
    let server = Server::new();
    let (url, host) = (server.url("/json"), "127.0.0.1");
    let rex = Rex::new().policy(&format!(
        "permit(principal, action == network::Action::\"GET\", resource == network::url::\"{url}\");
         permit(principal, action == network::Action::\"connect\", resource == network::url::\"{host}\");
         permit(principal, action == sysinfo::Action::\"resolve_hostname\", resource == sysinfo::Hostname::\"localhost\");
         permit(principal, action == sysinfo::Action::\"list\", resource);"
    ));
    rex.run(&format!("let r = curl(\"{url}\"); if r.status == 200 {{ r.text }} else {{ \"\" }}")).gives("{\"name\": \"engine\"}");
    rex.run(&format!("tcp_check(\"{host}\", {}).open", server.port())).gives(true);
    rex.run("resolve(\"localhost\").contains(\"127.0.0.1\")").gives(true);
    // The reference's `connect` sends nothing.
    rex.run(&format!("tcp_check(\"{host}\", {}, #{{send: \"x\"}})", server.port())).is_denied();
}

#[test]
fn every_hop_of_a_redirect_is_asked_for() {
    let hidden = Server::new();
    let target = hidden.url("/json");
    let open = Server::with(move |request: &Request| match request.path.as_str() {
        "/away" => answer(302, &format!("Location: {target}\r\n"), b""),
        _ => usual(request),
    });
    let rex = Rex::new().policy(&only(&open));
    let run = rex.run(&format!("http_get(\"{}\")", open.url("/away")));
    run.is_denied();
    assert_eq!(hidden.connections(), 0);
    let said: Vec<_> = run.events("decision").iter().map(|record| record["decision"].as_str().unwrap().to_owned()).collect();
    assert_eq!(said, ["allow", "deny"]);
    rex.run(&format!("http_get(\"{}\", #{{follow: 0}}).status", open.url("/away"))).gives(302);
    let both = Rex::new().policy(&(only(&open) + &only(&hidden)));
    both.run(&format!("let r = http_get(\"{}\"); [r.json.name, r.chain[0].status]", open.url("/away"))).gives(json!(["engine", 302]));
}

#[test]
fn what_the_script_says_to_one_host_is_not_told_to_another() {
    let away = Server::new();
    let target = away.url("/echo");
    let here = Server::with(move |request: &Request| match request.path.as_str() {
        "/away" => answer(302, &format!("Location: {target}\r\n"), b""),
        "/again" => answer(307, &format!("Location: {target}\r\n"), b""),
        "/near" => answer(302, "Location: /echo\r\n", b""),
        _ => usual(request),
    });
    let rex = Rex::new().policy(ALLOW_ALL);
    let headers = "#{headers: #{Authorization: \"Bearer s3cret\", Cookie: \"id=s3cret\", \"X-Api-Key\": \"s3cret\", Accept: \"text/x\"}}";
    let run = rex.run(&format!("http_get(\"{}\", {headers}).text", here.url("/away")));
    let text = run.ends(0).value();
    assert!(text.as_str().unwrap().contains("Accept: text/x") && !text.to_string().contains("s3cret"), "{text}");
    let run = rex.run(&format!("http_get(\"{}\", {headers}).text", here.url("/near")));
    assert_eq!(run.ends(0).value().to_string().matches("s3cret").count(), 3);
    // A body goes to nobody that the script did not name.
    let before = away.connections();
    let run = rex.run(&format!("http_post(\"{}\", #{{body: \"s3cret\"}})", here.url("/again")));
    assert_eq!((kind(&run).as_str(), away.connections()), ("bad_data", before));
    assert!(!run.audit.iter().any(|record| record.to_string().contains("s3cret")), "{run:#?}");
}

#[test]
fn redirects_to_elsewhere_are_not_followed() {
    let victim = Server::new();
    let (port, count) = (victim.port(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let locations = Arc::new(std::sync::Mutex::new(String::new()));
    let said = Arc::clone(&locations);
    let server = Server::with(move |request: &Request| match request.path.as_str() {
        "/" => {
            counted.fetch_add(1, Ordering::SeqCst);
            answer(301, &format!("Location: {}\r\n", said.lock().unwrap()), b"")
        }
        _ => usual(request),
    });
    let rex = Rex::new().policy(ALLOW_ALL);
    for location in [
        "file:///etc/passwd".to_owned(),
        "gopher://127.0.0.1/x".to_owned(),
        "ftp://127.0.0.1/".to_owned(),
        format!("http://user:s3cret@127.0.0.1:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://127.0.0.1:{port}\\@example.org/"),
        format!("http://127.1:{port}/"),
        "//[::1".to_owned(),
        "http://".to_owned(),
    ] {
        (*locations.lock().unwrap()).clone_from(&location);
        let run = rex.run(&format!("http_get(\"{}\")", server.url("/")));
        assert_eq!(kind(&run), "bad_data", "{location}: {run:#?}");
        assert!(!message(&run).contains("s3cret"), "{run:#?}");
    }
    assert_eq!(victim.connections(), 0);
    // In a circle: as often as allowed.
    *locations.lock().unwrap() = "/".to_owned();
    count.store(0, Ordering::SeqCst);
    let run = rex.run(&format!("http_get(\"{}\", #{{follow: 3}})", server.url("/")));
    assert_eq!((kind(&run).as_str(), count.load(Ordering::SeqCst)), ("bad_data", 4));
}

#[test]
fn one_address_has_one_name_for_the_policy() {
    let server = Server::new();
    let port = server.port();
    let rex = Rex::new().policy(&format!(
        "permit(principal, action in network::Action::\"view\", resource);
         forbid(principal, action, resource is network::url) when {{ resource.url like \"http://127.0.0.1:{port}/admin*\" }};
         forbid(principal, action, resource is network::url) when {{ resource.host == \"localhost\" }};"
    ));
    for url in [
        format!("http://127.0.0.1:{port}/admin"),
        format!("http://127.0.0.1:{port}/x/../admin"),
        format!("http://127.0.0.1:{port}/%61dmin"),
        format!("http://127.0.0.1:{port}/x/%2e%2e/admin"),
        format!("HTTP://[::ffff:127.0.0.1]:{port}/admin?x"),
        format!("http://[::ffff:7f00:1]:{port}/admin#x"),
        format!("http://LOCALHOST.:{port}/"),
    ] {
        rex.run(&format!("http_get(\"{url}\")")).is_denied();
    }
    for url in [
        format!("http://2130706433:{port}/"),
        format!("http://0177.0.0.1:{port}/"),
        format!("http://0x7f000001:{port}/"),
        format!("http://127.1:{port}/"),
        format!("http://x@127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}/x/..%2fadmin"),
        format!("http://127.0.0.1:{port}/a b"),
        format!("http://127.0.0.1:{port}/a\\r\\nX: y"),
        format!("http://127\u{3002}0.0.1:{port}/"),
        "file:///etc/passwd".to_owned(),
        "/etc/passwd".to_owned(),
    ] {
        assert_eq!(kind(&rex.run(&format!("http_get(\"{url}\")"))), "bad_argument", "{url}");
    }
    assert_eq!(server.connections(), 0);
    rex.run(&format!("http_get(\"http://127.0.0.1:{port}/x\").status")).gives(404);
}

/// The query is the caller's to choose, so no pattern of a url is met by it, and no record has it.
#[test]
fn the_query_is_no_part_of_the_url() {
    let server = Server::new();
    let rex = Rex::new().policy(
        "permit(principal, action == network::Action::\"GET\", resource) when { resource.url like \"http://*/health\" };
         permit(principal, action == network::Action::\"GET\", resource) when { resource.path == \"/echo\" && resource.query like \"a=*\" };",
    );
    rex.run(&format!("http_get(\"{}\")", server.url("/?x=/health"))).is_denied();
    rex.run(&format!("http_get(\"{}\")", server.url("/#/health"))).is_denied();
    rex.run(&format!("http_get(\"{}\")", server.url("/echo?b=c"))).is_denied();
    assert_eq!(server.connections(), 0);
    let run = rex.run(&format!("http_get(\"{}\").text", server.url("/echo?a=s3cret")));
    assert!(run.ends(0).value().as_str().unwrap().starts_with("GET /echo?a=s3cret HTTP/1.1\r\n"));
    assert!(!run.audit.iter().any(|record| record.to_string().contains("s3cret")), "{run:#?}");
    let run = rex.run(&format!("http_get(\"{}\")", server.url("/echo?token=s3cret")));
    run.is_denied();
    assert!(!run.stdout.contains("s3cret") && !run.audit.iter().any(|record| record.to_string().contains("s3cret")), "{run:#?}");
}

#[test]
fn nothing_is_smuggled_into_a_request() {
    let server = Server::new();
    let rex = Rex::new().policy(ALLOW_ALL);
    for (headers, sent) in [
        ("#{Host: \"other\"}", "GET"),
        ("#{\"content-length\": \"3\"}", "GET"),
        ("#{\"Transfer-Encoding\": \"chunked\"}", "POST"),
        ("#{Connection: \"Upgrade\"}", "GET"),
        ("#{\"X-A\": \"b\\r\\nHost: other\"}", "GET"),
        ("#{\"X-A\": \"b\\nc\"}", "GET"),
        ("#{\"X-A\\r\\nHost\": \"b\"}", "GET"),
        ("#{\"X A\": \"b\"}", "GET"),
        ("#{\"Proxy-Authorization\": \"b\"}", "GET"),
    ] {
        let run = rex.run(&format!("http(\"{sent}\", \"{}\", #{{headers: {headers}}})", server.url("/")));
        assert_eq!(kind(&run), "bad_argument", "{headers}: {run:#?}");
    }
    for script in
        ["http(\"GET /x HTTP/1.1\\r\\nX: y\\r\\n\\r\\nGET\", \"{url}\")", "http(\"CONNECT\", \"{url}\")", "http(\"TRACE\", \"{url}\")"]
    {
        assert_eq!(kind(&rex.run(&script.replace("{url}", &server.url("/")))), "bad_argument", "{script}");
    }
    assert_eq!(server.connections(), 0);
    let run = rex.run(&format!("http_post(\"{}\", #{{json: #{{a: [1, \"b\"]}}}}).text", server.url("/echo")));
    let text = run.ends(0).value();
    let text = text.as_str().unwrap();
    assert!(text.starts_with(&format!("POST /echo HTTP/1.1\r\nHost: {}\r\n", server.address)), "{text}");
    assert!(text.contains("Content-Type: application/json\r\n") && text.ends_with("{\"a\":[1,\"b\"]}"), "{text}");
}

/// Talks to each client as the closure says, on a thread for each.
fn raw(talk: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let talk = Arc::new(talk);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let talk = Arc::clone(&talk);
            std::thread::spawn(move || talk(stream));
        }
    });
    port
}

fn read_head(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    let mut byte = [0u8; 1];
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        bytes.push(byte[0]);
    }
}

#[test]
fn answers_without_end_and_without_beginning_end() {
    let says = |bytes: &'static [u8], again: bool| {
        raw(move |mut stream| {
            read_head(&mut stream);
            while stream.write_all(bytes).is_ok() && again {}
            if bytes.is_empty() {
                let _ = stream.read(&mut [0u8; 1]);
            }
        })
    };
    let silent = says(b"", false);
    let drips = raw(|mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"X: y\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let rex = Rex::new().policy(ALLOW_ALL);
    let fetch = |port: u16, options: &str| rex.run(&format!("http_get(\"http://127.0.0.1:{port}/\", {options})"));
    for port in [silent, drips] {
        let run = fetch(port, "#{timeout: 0.7}");
        assert_eq!((kind(&run).as_str(), run.code), ("timeout", 75), "{run:#?}");
    }
    let cases: &[(&'static [u8], bool, &str)] = &[
        (b"HTTP/1.1 200 OK\r\n\r\nxxxxxxxxxxxxxxxx", true, "too_large"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", false, "too_large"),
        (b"x", true, "too_large"),
        (b"X: y\r\n", true, "too_large"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", false, "too_large"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", false, "unavailable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", false, "bad_data"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", false, "bad_data"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", false, "bad_data"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", true, "bad_data"),
    ];
    for (bytes, again, expected) in cases {
        let run = fetch(says(bytes, *again), "#{max_bytes: 1000, timeout: 20}");
        assert_eq!(kind(&run), *expected, "{}: {run:#?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn what_is_packed_is_unpacked_and_no_further_than_allowed() {
    let pack = |size: usize| {
        let mut packed = Vec::new();
        let zeros = std::io::repeat(b'0').take(size as u64);
        flate2::read::GzEncoder::new(zeros, flate2::Compression::best()).read_to_end(&mut packed).unwrap();
        packed
    };
    let (small, bomb) = (pack(1000), pack(200 << 20));
    let server = Server::with(move |request: &Request| {
        answer(200, "Content-Encoding: gzip\r\n", if request.path == "/bomb" { &bomb } else { &small })
    });
    let rex = Rex::new().policy(ALLOW_ALL);
    rex.run(&format!("http_get(\"{}\").text.len()", server.url("/"))).gives(1000);
    let run = rex.run(&format!("http_get(\"{}\")", server.url("/bomb")));
    assert_eq!(kind(&run), "too_large", "{run:#?}");
    let chunked = Server::with(|_: &Request| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: x\r\n\r\n".to_vec()
    });
    rex.run(&format!("http_get(\"{}\").text", chunked.url("/"))).gives("abcde");
    let binary = Server::with(|_: &Request| answer(200, "", b"\xff\x00"));
    rex.run(&format!("let r = http_get(\"{}\"); [r.text == (), r.bytes.len(), r.bytes[0]]", binary.url("/"))).gives(json!([true, 2, 255]));
}

#[test]
fn a_run_that_waits_ends_when_its_caller_goes_and_at_its_own_limit() {
    let silent = raw(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let rex = Rex::new().policy(ALLOW_ALL);
    let script = format!("print(\"begun\"); http_get(\"http://127.0.0.1:{silent}/\", #{{timeout: 100}})");
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let arguments = ["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
    let mut command = rex.command(&arguments);
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0u8; 6]).unwrap();
    drop(out);
    let end = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "it still waits");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(130));
    let run = rex.run_with(&["--timeout", "1"], &format!("http_get(\"http://127.0.0.1:{silent}/\", #{{timeout: 100}})"));
    assert_eq!((run.code, run.error_type().as_str()), (124, "LIMIT_EXCEPTION"), "{run:#?}");
}

#[test]
fn no_variable_names_a_proxy() {
    let (server, proxy) = (Server::new(), Server::new());
    let rex = Rex::new().policy(ALLOW_ALL);
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let mut command = rex.command(&["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"] {
        command.env(name, proxy.url("/"));
    }
    rex.finish(command, format!("http_get(\"{}\").status", server.url("/")).as_bytes()).gives(200);
    assert_eq!((server.connections(), proxy.connections()), (1, 0));
}

#[test]
fn a_policy_judges_the_address_too() {
    let server = Server::new();
    let port = server.port();
    let rex = Rex::new().policy(
        "permit(principal, action == network::Action::\"GET\", resource);
         @id(\"not-this-host\")
         forbid(principal, action, resource is network::url) when { resource has address && resource.address.isLoopback() };",
    );
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let run = rex.run(&format!("http_get(\"http://{host}:{port}/\")"));
        run.is_denied();
        assert_eq!(run.events("decision")[0]["policies"], json!(["not-this-host"]), "{run:#?}");
    }
    assert_eq!(server.connections(), 0);
    let rex = Rex::new().policy(
        "permit(principal, action == network::Action::\"GET\", resource)
         when { resource has address && resource.address.isInRange(ip(\"127.0.0.0/8\")) };",
    );
    rex.run(&format!("http_get(\"http://localhost:{port}/\").address")).gives("127.0.0.1");
    rex.run(&format!("http_get(\"http://[::1]:{port}/\")")).is_denied();
}

#[test]
fn a_socket_of_the_host_is_closed_unless_a_policy_names_it() {
    let rex = Rex::new().dir("run").policy(
        "permit(principal, action in network::Action::\"view\", resource);
         permit(principal, action in file_system::Action::\"view\", resource);
         permit(principal, action in file_system::Action::\"edit\", resource);
         permit(principal, action == file_system::Action::\"connect\", resource == file_system::File::\"{data}/run/open.sock\")
         when { context.method == \"GET\" && context.path like \"/containers/*\" };",
    );
    let open = server::at_socket(&rex.data().join("run/open.sock"), |request| answer(200, "", request.path.as_bytes()));
    let closed = server::at_socket(&rex.data().join("run/closed.sock"), |_| answer(200, "", b""));
    let get =
        |socket: &str, path: &str| format!("http_get(\"http://engine{path}\", #{{unix_socket: \"{{data}}/run/{socket}.sock\"}}).text");
    rex.run(&get("open", "/containers/json?all=1")).gives("/containers/json?all=1");
    assert_eq!(open.load(Ordering::SeqCst), 1);
    rex.run(&get("open", "/containers/../images/json")).is_denied();
    rex.run(&get("open", "/images/json")).is_denied();
    rex.run("http_post(\"http://engine/containers/create\", #{unix_socket: \"{data}/run/open.sock\"})").is_denied();
    rex.run(&get("closed", "/containers/json")).is_denied();
    // A link of the permitted name leads to what it leads to.
    std::os::unix::fs::symlink(rex.data().join("run/closed.sock"), rex.data().join("run/link.sock")).unwrap();
    rex.run(&get("link", "/containers/json")).is_denied();
    assert_eq!((open.load(Ordering::SeqCst), closed.load(Ordering::SeqCst)), (1, 0));
    let all = Rex::new().policy(ALLOW_ALL).file("plain", "x");
    assert_eq!(kind(&all.run("http_get(\"http://engine/\", #{unix_socket: \"{data}/plain\"})")), "bad_argument");
}

#[test]
fn a_dry_run_sends_nothing_that_changes() {
    let server = Server::new();
    let rex = Rex::new().policy(ALLOW_ALL);
    let run = rex.run_with(&["--dry-run"], &format!("http_post(\"{}\", #{{body: \"x\"}})", server.url("/echo")));
    assert_eq!(run.json()["would_change_count"], 1, "{run:#?}");
    assert_eq!(server.connections(), 0);
    rex.run_with(&["--dry-run"], &format!("tcp_check(\"127.0.0.1\", {}, #{{send: \"x\"}})", server.port()));
    assert_eq!(server.connections(), 0);
    let connect = Rex::new().policy("permit(principal, action == network::Action::\"connect\", resource);");
    connect.run_with(&["--dry-run"], &format!("tcp_check(\"127.0.0.1\", {}).open", server.port())).gives(true);
    rex.run_with(&["--dry-run"], &format!("http_get(\"{}\").status", server.url("/"))).gives(200);
}

#[test]
fn a_port_is_checked_and_what_it_says_is_read() {
    let banner = raw(|mut stream| {
        let _ = stream.write_all(b"220 mail ready\r\n");
        let _ = stream.read(&mut [0u8; 10]);
    });
    let silent = raw(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let rex = Rex::new().policy(&format!(
        "permit(principal, action == network::Action::\"connect\", resource == network::url::\"127.0.0.1\")
         when {{ [1, {banner}, {silent}].contains(resource.port) }};"
    ));
    let check = |port: u16, options: &str| rex.run(&format!("tcp_check(\"127.0.0.1\", {port}, {options})"));
    let value = check(banner, "#{expect: \"220\"}").ends(0).value();
    assert_eq!((&value["open"], &value["matched"], &value["error"]), (&json!(true), &json!(true), &json!(null)), "{value}");
    let value = check(silent, "#{expect: \"220\", timeout: 0.3}").ends(0).value();
    assert_eq!((&value["open"], &value["matched"], &value["error"]), (&json!(true), &json!(false), &json!("timeout")), "{value}");
    assert_eq!(check(1, "#{}").ends(0).value()["open"], false);
    check(2, "#{}").is_denied();
    for (host, port) in [("127.1", "80"), ("a b", "80"), ("127.0.0.1", "0"), ("127.0.0.1", "65536"), ("http://127.0.0.1", "80")] {
        assert_eq!(kind(&rex.run(&format!("tcp_check(\"{host}\", {port})"))), "bad_argument", "{host} {port}");
    }
}

#[test]
fn what_is_sent_to_a_name_is_judged_at_its_address() {
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let hears = std::sync::Arc::clone(&heard);
    let port = raw(move |mut stream| {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        hears.lock().unwrap().extend(bytes);
    });
    let everything = "permit(principal, action, resource is network::url)";
    let local = "resource has address && resource.address.isInRange(ip(\"127.0.0.0/8\"))";
    let send = |policy: &str| {
        let rex = Rex::new().policy(policy);
        rex.run(&format!("tcp_check(\"localhost\", {port}, #{{send: \"x\", timeout: 2}}).open"))
    };
    let run = send(&format!("{everything}; forbid(principal, action == network::Action::\"send\", resource) when {{ {local} }};"));
    assert!(run.is_denied().records_denial(), "{run:#?}");
    assert!(heard.lock().unwrap().is_empty());
    let run = send(&format!(
        "permit(principal, action == network::Action::\"connect\", resource); permit(principal, action == network::Action::\"send\", resource) when {{ {local} }};"
    ));
    run.gives(true);
    assert!(common::until(5.0, || *heard.lock().unwrap() == b"x"));
}
