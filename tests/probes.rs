//! Checks that rex.toml declares, against servers and programs of the test; and that nothing they need to know comes out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::Rex;
use serde_json::json;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

/// A server on loopback that gives each connection to `answer`, for as long as the test lasts.
fn server(answer: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(&answer));
    port
}

/// What every client sent.
type Heard = Arc<Mutex<Vec<String>>>;

fn http(heard: &Heard) -> u16 {
    let heard = Arc::clone(heard);
    server(move |mut stream| {
        let mut line = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        // A connection alone is a check too.
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut rest = String::new();
        while rest.lines().last() != Some("") && reader.read_line(&mut rest).unwrap_or(0) > 2 {}
        heard.lock().unwrap().push(line.trim().to_owned());
        let (status, body) = match line.split(' ').nth(1).unwrap() {
            "/health" => ("200 OK", "{\"status\": \"up\"}"),
            "/moved" => ("302 Found\r\nLocation: /health", ""),
            _ => ("503 Busy", "no"),
        };
        let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    })
}

/// A Redis as far as a client notices that logs in and says PING.
fn redis(password: &'static str) -> u16 {
    server(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut known = password.is_empty();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let count: usize = line.trim().strip_prefix('*').unwrap().parse().unwrap();
            let mut words = Vec::new();
            for _ in 0..count {
                line.clear();
                reader.read_line(&mut line).unwrap();
                let mut word = vec![0u8; line.trim().strip_prefix('$').unwrap().parse::<usize>().unwrap() + 2];
                reader.read_exact(&mut word).unwrap();
                words.push(String::from_utf8(word).unwrap().trim_end().to_owned());
            }
            let answer = match words[0].as_str() {
                "AUTH" if words.last().unwrap() == password => {
                    known = true;
                    "+OK\r\n".to_owned()
                }
                "AUTH" => format!("-WRONGPASS {} is not it\r\n", words.last().unwrap()),
                "PING" if known => "+PONG\r\n".to_owned(),
                _ => "-NOAUTH Authentication required.\r\n".to_owned(),
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    })
}

const PASSWORD: &str = "correct horse battery";

/// A file of the owner beside rex.toml.
fn owned(rex: &Rex, name: &str, text: &str, mode: u32) {
    let path = rex.config_file().with_file_name(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn checks_tell_whether_all_is_well_and_nothing_else() {
    let heard = Heard::default();
    let (web, cache, open) = (http(&heard), redis(PASSWORD), redis(""));
    let mail = server(|mut stream| {
        let _ = stream.write_all(b"220 mail ready\r\n");
    });
    let silent = server(|stream| std::mem::forget(stream));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let rex = Rex::new().policy(r#"permit(principal, action in [probe_system::Action::"probe", probe_system::Action::"list"], resource);"#);
    let script = rex.config_file().with_file_name("check.sh");
    owned(&rex, "secret", &format!("{PASSWORD}\n"), 0o600);
    owned(&rex, "wrong", "hunter2 hunter2\n", 0o600);
    owned(&rex, "open-secret", &format!("{PASSWORD}\n"), 0o644);
    owned(&rex, "check.sh", "#!/bin/sh\necho \"$DB_PASSWORD says $1, $#\"; echo down >&2; [ \"$1\" = up ]\n", 0o755);
    let rex = rex.config(&format!(
        r#"
[probes]
web = {{ kind = "http", url = "http://127.0.0.1:{web}/health", expect = '"status": "up"', show = 100 }}
web-down = {{ kind = "http", url = "http://localhost:{web}/down" }}
web-busy = {{ kind = "http", url = "http://localhost:{web}/down", status = ["503"] }}
web-moved = {{ kind = "http", url = "http://localhost:{web}/moved" }}
web-other = {{ kind = "http", url = "http://127.0.0.1:{web}/health", expect = "gone" }}
cache = {{ kind = "redis", address = "127.0.0.1:{cache}", password_file = "secret" }}
cache-wrong = {{ kind = "redis", address = "127.0.0.1:{cache}", password_file = "wrong", show = 1000 }}
cache-none = {{ kind = "redis", address = "127.0.0.1:{cache}" }}
cache-readable = {{ kind = "redis", address = "127.0.0.1:{cache}", password_file = "open-secret" }}
cache-open = {{ kind = "redis", address = "127.0.0.1:{open}" }}
not-a-cache = {{ kind = "redis", address = "127.0.0.1:{mail}" }}
port = {{ address = "127.0.0.1:{web}" }}
closed = {{ address = "127.0.0.1:{closed}" }}
no-socket = {{ address = "/run/no-such-socket" }}
mail = {{ address = "127.0.0.1:{mail}", expect = "^220 ", show = 3 }}
silent = {{ address = "127.0.0.1:{silent}", expect = "x", timeout = 1 }}
up = {{ kind = "command", program = "{script}", arguments = ["up"], environment = ["DB_PASSWORD={PASSWORD}"], expect = "says up, 1", show = 1000 }}
down = {{ kind = "command", program = "{script}", arguments = ["down"] }}
hangs = {{ kind = "command", program = "/bin/sleep", arguments = ["1000"], timeout = 1 }}
absent = {{ kind = "command", program = "/no/such/program" }}
"#,
        script = script.display()
    ));
    let run = rex.run("let all = #{}; for p in probes() { all[p.name] = probe(p.name); } all");
    run.ends(0);
    let all = run.value();
    for (name, ok, problem, status) in [
        ("web", true, None, Some(200)),
        ("web-down", false, Some("status"), Some(503)),
        ("web-busy", true, None, Some(503)),
        ("web-moved", true, None, Some(302)),
        ("web-other", false, Some("not_expected"), Some(200)),
        ("cache", true, None, None),
        ("cache-wrong", false, Some("login"), None),
        ("cache-none", false, Some("login"), None),
        ("cache-readable", false, Some("password_file"), None),
        ("cache-open", true, None, None),
        ("not-a-cache", false, Some("protocol"), None),
        ("port", true, None, None),
        ("closed", false, Some("refused"), None),
        ("no-socket", false, Some("refused"), None),
        ("mail", true, None, None),
        ("silent", false, Some("timeout"), None),
        ("up", true, None, Some(0)),
        ("down", false, Some("exit_code"), Some(1)),
        ("hangs", false, Some("timeout"), None),
        ("absent", false, Some("program"), None),
    ] {
        let told = &all[name];
        assert_eq!((&told["ok"], &told["problem"], &told["status"]), (&json!(ok), &json!(problem), &json!(status)), "{name}: {told:#}");
    }
    assert_eq!((&all["web"]["output"], &all["mail"]["output"]), (&json!("{\"status\": \"up\"}"), &json!("220")));
    assert_eq!(all["up"]["output"], "*** says up, 1\ndown\n");
    assert!(all["down"].get("output").is_none(), "{all:#}");
    // Neither the result, nor the records, nor an error has a credential in it.
    let records = std::fs::read_to_string(rex.audit_file()).unwrap();
    for secret in [PASSWORD, "hunter2", "battery"] {
        assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret) && !records.contains(secret), "{secret}");
    }
    assert!(
        run.events("effect")
            .iter()
            .any(|record| record["resource"] == "probe_system::Probe::\"closed\"" && record["detail"] == "problem: refused"),
        "{run:#?}"
    );
    rex.run(r#"try { probe("nonesuch") } catch (e) { return e.kind }"#).gives("not_found");
    rex.run(r#"try { probe("a b") } catch (e) { return e.kind }"#).gives("bad_argument");

    // One of them, and nothing happens for the others.
    let rex = rex.policy(r#"permit(principal, action == probe_system::Action::"probe", resource == probe_system::Probe::"web");"#);
    let before = heard.lock().unwrap().len();
    for denied in [r#"probe("web-down")"#, r#"probe("cache")"#, r#"probe("nonesuch")"#, "probes()"] {
        rex.run(denied).is_denied();
    }
    let run = rex.run_with(&["--dry-run"], r#"probe("web")"#);
    assert_eq!(run.json()["would_change_count"], 1, "{run:#?}");
    assert_eq!(heard.lock().unwrap().len(), before);
    rex.run(r#"probe("web").ok"#).gives(true);
    assert_eq!(heard.lock().unwrap().len(), before + 1);
    // What it does not need to know it does not have: no address, no permit for the network or for programs comes with a probe.
    for other in [r#"exec("/bin/true")"#, r#"cat("/etc/hostname")"#] {
        rex.run(other).is_denied();
    }
}

#[test]
fn nothing_of_a_check_outlives_it_or_the_run() {
    let rex = Rex::new().policy(common::ALLOW_ALL);
    let mark = format!("9{}", std::process::id());
    // It leaves something behind, in a session of its own, and then hangs or ends.
    owned(&rex, "leaves.sh", "#!/bin/sh\nsetsid sleep \"$1\" &\n[ \"$2\" = end ] || sleep \"$1\"\n", 0o755);
    let script = rex.config_file().with_file_name("leaves.sh");
    let rex = rex.config(&format!(
        "[probes]\nends = {{ kind = \"command\", program = \"{0}\", arguments = [\"{mark}\", \"end\"] }}\nhangs = {{ kind = \"command\", program = \"{0}\", arguments = [\"{mark}\", \"hang\"], timeout = \"5m\" }}\nslow = {{ kind = \"command\", program = \"{0}\", arguments = [\"{mark}\", \"hang\"], timeout = 1 }}\n",
        script.display()
    ));
    let left = || {
        let all = std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap();
        String::from_utf8_lossy(&all.stdout).lines().filter(|line| line.starts_with("sleep ") && line.contains(&mark)).count()
    };
    rex.run(r#"let p = probe("ends"); [p.ok, p.seconds < 5.0]"#).gives(json!([true, true]));
    assert!(common::until(5.0, || left() == 0));
    rex.run(r#"probe("slow").problem"#).gives("timeout");
    assert!(common::until(5.0, || left() == 0));
    // The run's own limit ends it.
    let run = rex.run_with(&["--timeout", "2"], r#"probe("hangs")"#);
    assert_eq!(run.code, 124, "{run:#?}");
    assert!(common::until(10.0, || left() == 0));
    // And so does the death of rex, however it comes.
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let mut command =
        rex.command(&["run", "-e", "probe(\"hangs\")", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap()]);
    let mut child =
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    assert!(common::until(20.0, || left() == 2));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(common::until(10.0, || left() == 0));
}

#[test]
fn a_probe_that_makes_no_sense_stops_everything() {
    for (toml, says) in [
        ("[probes.x]\nkind = \"tcp\"\n", "needs `address`"),
        ("[probes.x]\naddress = \"db.example.org:5432\"\n", "no address with a port"),
        ("[probes.x]\nkind = \"http\"\nurl = \"https://127.0.0.1/\"\n", "`url`"),
        ("[probes.x]\nkind = \"ftp\"\n", "not `"),
        ("[probes.x]\naddres = \"127.0.0.1:1\"\n", "the nearest is `address`"),
        ("[probes.\"a b\"]\naddress = \"127.0.0.1:1\"\n", "letters, digits"),
        ("[probes.x]\naddress = \"127.0.0.1:1\"\nexpect = \"(\"\n", "`expect`"),
        ("[containers]\nsocket = \"run/docker.sock\"\n", "absolute"),
    ] {
        let run = Rex::new().policy(common::ALLOW_ALL).config(toml).run("1");
        assert_eq!(run.code, 78, "{toml}: {run:#?}");
        assert!(run.stdout.contains(says) || run.stderr.contains(says), "{toml}: {run:#?}");
    }
}

/// A program that others could have put there is not run.
#[test]
fn the_program_of_a_check_is_the_owners_alone() {
    let rex = Rex::new().policy(common::ALLOW_ALL);
    owned(&rex, "loose.sh", "#!/bin/sh\ntouch \"$1\"\n", 0o777);
    let (script, mark) = (rex.config_file().with_file_name("loose.sh"), rex.path("mark"));
    let rex = rex.config(&format!("[probes.x]\nkind = \"command\"\nprogram = \"{}\"\narguments = [\"{mark}\"]\n", script.display()));
    rex.run(r#"probe("x").problem"#).gives("program");
    assert!(!rex.exists("mark"));
}
