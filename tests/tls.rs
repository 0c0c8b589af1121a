//! TLS through the binary: whose certificate is taken, what is said of one, and what openssl(1) says of the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
#[path = "common/server.rs"]
mod server;

use common::{ALLOW_ALL, Rex};
use serde_json::{Value, json};
use server::{Request, Server, answer, certificate, secured, usual};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn kind(run: &common::Run) -> String {
    run.json()["error"]["kind"].as_str().unwrap_or("").to_owned()
}

/// A certificate of 2020, signed by its own key: `openssl req` makes none that is over.
fn expired(folder: &Path) -> (PathBuf, PathBuf) {
    let (_, key) = certificate(folder, "old", "IP:127.0.0.1", &[]);
    let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n[p]\n[v]\nsubjectAltName=IP:127.0.0.1\n";
    std::fs::write(folder.join("ca.conf"), config).unwrap();
    std::fs::write(folder.join("index"), "").unwrap();
    let run = |arguments: &[&str]| {
        let out = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
        assert!(out.status.success(), "{out:?}");
    };
    run(&["req", "-new", "-key", "old.key", "-subj", "/CN=old", "-out", "old.csr"]);
    run(&[
        "ca",
        "-selfsign",
        "-batch",
        "-config",
        "ca.conf",
        "-keyfile",
        "old.key",
        "-in",
        "old.csr",
        "-extensions",
        "v",
        "-startdate",
        "20200101000000Z",
        "-enddate",
        "20210101000000Z",
        "-notext",
        "-out",
        "old.pem",
    ]);
    (folder.join("old.pem"), key)
}

#[test]
fn only_a_certificate_that_holds_is_talked_to() {
    let rex = Rex::new().policy(
        "permit(principal, action == network::Action::\"GET\", resource);
         forbid(principal, action == network::Action::\"GET\", resource) when { context.insecure && resource.path like \"/admin*\" };
         permit(principal, action == file_system::Action::\"read\", resource in file_system::Dir::\"{data}\");",
    );
    let folder = rex.data();
    let good = certificate(&folder, "good", "DNS:localhost,IP:127.0.0.1", &[]);
    let other = certificate(&folder, "other", "DNS:other.example", &[]);
    let old = expired(&folder);
    let servers: Vec<Server> = [&good, &other, &old].map(|own| secured(own, usual)).into();
    let get = |server: &Server, path: &str, options: &str| {
        rex.run(&format!("http_get(\"https://127.0.0.1:{}{path}\", #{{{options}}}).text", server.port()))
    };
    get(&servers[0], "/", "ca: cat(\"{data}/good.pem\")").gives("hello\n");
    for (server, options, says) in [
        (&servers[0], "ca: cat(\"{data}/other.pem\")", "its issuer is not trusted"),
        (&servers[0], "", "its issuer is not trusted"),
        (&servers[1], "ca: cat(\"{data}/other.pem\")", "it is for another name"),
        (&servers[2], "ca: cat(\"{data}/old.pem\")", "it has expired"),
    ] {
        let run = get(server, "/s3cret", options);
        let error = run.json()["error"].clone();
        // A host without ca-certificates has nobody to trust.
        let none = options.is_empty() && error["kind"] == "unsupported";
        assert!(none || (error["kind"] == "bad_data" && error["message"].as_str().unwrap().contains(says)), "{options}: {run:#?}");
    }
    assert!(servers[1].requests().is_empty() && servers[2].requests().is_empty() && servers[0].requests().len() == 1);
    let run = get(&servers[1], "/", "insecure: true");
    run.gives("hello\n");
    assert_eq!(run.events("decision")[0]["context"], json!({"insecure": true}));
    get(&servers[1], "/admin", "insecure: true").is_denied();
    let plain = Server::new();
    assert_eq!(kind(&get(&plain, "/", "insecure: true")), "bad_data");
}

#[test]
fn a_redirect_does_not_leave_tls() {
    let plain = Server::new();
    let target = plain.url("/");
    let rex = Rex::new().policy(ALLOW_ALL);
    let own = certificate(&rex.data(), "own", "IP:127.0.0.1", &[]);
    let server = secured(&own, move |_: &Request| answer(302, &format!("Location: {target}\r\n"), b""));
    let run = rex.run(&format!("http_get(\"https://127.0.0.1:{}/\", #{{insecure: true}})", server.port()));
    assert_eq!((kind(&run).as_str(), plain.connections()), ("bad_data", 0), "{run:#?}");
}

fn openssl(arguments: &[&str]) -> String {
    let out = Command::new("openssl").args(arguments).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn what_is_said_of_a_certificate_is_what_openssl_says() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let (file, _) = certificate(&rex.data(), "own.example", "DNS:own.example,DNS:*.own.example,IP:192.0.2.7", &["-days", "90"]);
    let path = file.to_str().unwrap();
    let theirs = |what: &[&str]| openssl(&[&["x509", "-in", path, "-noout"], what].concat()).trim().to_owned();
    let own = rex.run(&format!("let c = certificate(\"{path}\"); c.not_after = epoch_seconds(c.not_after); c")).ends(0).value();
    assert_eq!(theirs(&["-serial"]).to_lowercase(), format!("serial={}", own["serial"].as_str().unwrap().trim_start_matches("00")));
    assert_eq!(theirs(&["-subject", "-nameopt", "RFC2253"]), format!("subject={}", own["subject"].as_str().unwrap()));
    let fingerprint = theirs(&["-fingerprint", "-sha256"]).rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(own["sha256"], fingerprint);
    let end = theirs(&["-enddate", "-dateopt", "iso_8601"]).trim_start_matches("notAfter=").replace(' ', "T");
    assert_eq!(own["not_after"], end.parse::<jiff::Timestamp>().unwrap().as_second());
    assert_eq!(own["names"], json!(["own.example", "*.own.example", "192.0.2.7"]));
    assert_eq!((&own["key"], &own["is_ca"]), (&json!("EC P-256"), &json!(false)));
    // Whole days: 90, and one less as soon as a second has gone.
    assert!([89, 90].contains(&own["days_left"].as_i64().unwrap()), "{own}");
    let rsa = rex.data().join("rsa.pem");
    let arguments = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", "/dev/null", "-out"];
    openssl(&[&arguments[..], &[rsa.to_str().unwrap()]].concat());
    rex.run("certificate(\"{data}/rsa.pem\").key").gives("RSA 2048");
    // Text and files of other things.
    for source in [
        "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n",
        "-----BEGIN CERTIFICATE-----\\n%\\n",
        "{data}/own.example.key",
    ] {
        assert_eq!(kind(&rex.run(&format!("certificate(\"{source}\")"))), "bad_data", "{source}");
    }
}

#[test]
fn a_server_is_looked_at_whoever_it_is() {
    let rex = Rex::new().policy(
        "permit(principal, action == network::Action::\"connect\", resource == network::url::\"127.0.0.1\");
         permit(principal, action == file_system::Action::\"read\", resource in file_system::Dir::\"{data}\");",
    );
    let own = certificate(&rex.data(), "own", "DNS:own.example,IP:127.0.0.1", &["-days", "30"]);
    let server = secured(&own, usual);
    let inspect = |options: &str| rex.run(&format!("tls_inspect(\"127.0.0.1\", {}, #{{{options}}})", server.port())).ends(0).value();
    let trusted = inspect("ca: cat(\"{data}/own.pem\"), server_name: \"own.example\"");
    assert_eq!((&trusted["verified"], &trusted["problem"]), (&json!(true), &Value::Null), "{trusted}");
    assert_eq!(trusted["days_left"], trusted["chain"][0]["days_left"]);
    assert_eq!((&trusted["version"], &trusted["chain"][0]["subject"]), (&json!("TLSv1.3"), &json!("CN=own")), "{trusted}");
    let other = inspect("ca: cat(\"{data}/own.pem\"), server_name: \"other.example\"");
    assert_eq!((&other["verified"], &other["problem"]), (&json!(false), &json!("it is for another name")), "{other}");
    let denied = rex.run(&format!("tls_inspect(\"localhost\", {})", server.port()));
    denied.is_denied();
    // Behind a protocol that begins without TLS.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mail = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mail_port = mail.local_addr().unwrap().port();
    let behind = server.address;
    std::thread::spawn(move || {
        use std::io::{BufRead as _, BufReader, Write as _};
        for stream in mail.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut stream = stream;
            let mut line = String::new();
            let _ = stream.write_all(b"220 mail ready\r\n");
            let _ = reader.read_line(&mut line);
            let _ = stream.write_all(b"250-mail\r\n250 STARTTLS\r\n");
            let _ = reader.read_line(&mut line);
            assert_eq!(line, "EHLO rex.invalid\r\nSTARTTLS\r\n");
            let _ = stream.write_all(b"220 go\r\n");
            let far = std::net::TcpStream::connect(behind).unwrap();
            let (mut to, mut from) = (far.try_clone().unwrap(), stream.try_clone().unwrap());
            std::thread::spawn(move || drop(std::io::copy(&mut reader, &mut to)));
            std::thread::spawn(move || drop(std::io::copy(&mut { far }, &mut from)));
        }
    });
    let script = format!("tls_inspect(\"127.0.0.1\", {mail_port}, #{{starttls: \"smtp\", ca: cat(\"{{data}}/own.pem\")}}).verified");
    rex.run(&script).gives(true);
    assert_eq!(kind(&rex.run(&format!("tls_inspect(\"127.0.0.1\", {mail_port}, #{{starttls: \"imap\"}})"))), "bad_data");
    assert_eq!(kind(&rex.run(&format!("tls_inspect(\"127.0.0.1\", {port})"))), "unavailable");
}

/// A real one of another make.
#[test]
fn openssls_own_server_is_understood() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let (file, key) = certificate(&rex.data(), "own", "IP:127.0.0.1", &[]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-www", "-tls1_2", "-accept", &format!("127.0.0.1:{port}"), "-cert"])
        .arg(&file)
        .arg("-key")
        .arg(&key)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..200 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    let script = format!(
        "let ca = cat(\"{{data}}/own.pem\"); let r = http_get(\"https://127.0.0.1:{port}/\", #{{ca: ca}});
         [r.status, r.text.contains(\"TLSv1.2\"), tls_inspect(\"127.0.0.1\", {port}, #{{ca: ca}}).version]"
    );
    let run = rex.run(&script);
    let _ = server.kill();
    let _ = server.wait();
    run.gives(json!([200, true, "TLSv1.2"]));
}
