//! Answers of an engine as its API gives them, and what may be asked of it at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

const ID: &str = "4f2a9c0000000000000000000000000000000000000000000000000000000001";

/// An engine that knows the container `/web` and keeps what it was asked.
fn engine(questions: usize) -> (tempfile::TempDir, PathBuf, std::thread::JoinHandle<Vec<String>>) {
    use std::io::{Read as _, Write as _};
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("sock");
    let listener = std::os::unix::net::UnixListener::bind(&place).unwrap();
    let server = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for _ in 0..questions {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0u8; 4096];
            let count = stream.read(&mut request).unwrap();
            let line = String::from_utf8_lossy(&request[..count]).lines().next().unwrap().to_owned();
            let body = json!({"Id": ID, "Name": "/web", "Config": {"Image": "nginx:1", "Env": ["PASSWORD=hunter2", "PATH=/bin"]}, "State": {"Status": "running", "Running": true}});
            let body = if line.contains("/json") { body.to_string() } else { String::new() };
            let status = if line.contains("/web/json") || line.contains(ID) { "200 OK" } else { "404 Not Found" };
            // Whoever only said the end listens no more.
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            asked.push(line);
        }
        asked
    });
    (folder, place, server)
}

fn only(verb: &str, bound: Bound) -> Hulls {
    hulls(|name| if name == verb { vec![bound.clone()] } else { Vec::new() })
}

#[test]
fn only_what_some_policy_could_permit_is_asked_of_the_engine() {
    let web = || only("inspect", Bound::Exactly("web".into()));
    let question = |verb: &str, id: &str| json!({"do": verb, "id": id, "name": "web"});
    // None of these reaches the engine with anything but a look at what has the name.
    for (hulls, question) in [
        (web(), question("stop", ID)),
        (web(), question("exec", ID)),
        (web(), question("list", "")),
        (only("stop", Bound::Exactly("other".into())), question("stop", ID)),
        (only("stop", Bound::Begins("x".into())), question("stop", ID)),
        (web(), question("inspect", "../images/json?")),
        (web(), question("inspect", "web/exec")),
        (web(), json!({"do": "inspect"})),
    ] {
        let (_folder, place, server) = engine(1);
        let error = answer(&question, &place, &hulls).unwrap_err();
        assert_eq!(error.kind, Kind::Permission, "{question}: {error}");
        // The server waits for its one question.
        let _ = UnixStream::connect(&place).map(|mut stream| std::io::Write::write_all(&mut stream, b"END"));
        let asked = server.join().unwrap();
        assert!(asked[0] == "END" || asked[0] == format!("GET /containers/{ID}/json HTTP/1.1"), "{asked:?}");
    }
}

#[test]
fn what_was_judged_is_what_it_is_done_to() {
    let (_folder, place, server) = engine(5);
    let hulls = only("stop", Bound::Exactly("web".into()));
    let stop =
        |id: &str, name: &str| answer(&json!({"do": "stop", "id": id, "name": name, "grace": 3, "milliseconds": 5000}), &place, &hulls);
    // Found by its name, but judged under another; found under another id.
    assert_eq!(stop(ID, "db").unwrap_err().kind, Kind::Changed);
    assert_eq!(stop("web", "web").unwrap_err().kind, Kind::Changed);
    let done = stop(ID, "web").unwrap();
    assert_eq!(done, json!({"before": "running", "state": "running", "changed": true}));
    let asked = server.join().unwrap();
    assert_eq!(
        asked.iter().filter(|line| line.starts_with("POST")).collect::<Vec<_>>(),
        [&format!("POST /containers/{ID}/stop?t=3 HTTP/1.1")]
    );
}

#[test]
fn values_of_the_environment_stay_where_they_are() {
    let (_folder, place, server) = engine(1);
    let shown = answer(&json!({"do": "inspect", "id": ID, "name": "web"}), &place, &only("inspect", Bound::Anything)).unwrap();
    assert_eq!((&shown["name"], &shown["environment"], &shown["running"]), (&json!("web"), &json!(["PASSWORD", "PATH"]), &json!(true)));
    assert!(!shown.to_string().contains("hunter2"));
    server.join().unwrap();
}

#[test]
fn bounds_of_policies_hold_names() {
    for (bound, held) in [
        (Bound::Anything, true),
        (Bound::Kind("container_system::Container".into()), true),
        (Bound::Kind("file_system::File".into()), false),
        (Bound::Within("container_system::Engine".into(), "local".into()), true),
        (Bound::Within("container_system::Container".into(), "web".into()), true),
        (Bound::Within("file_system::Dir".into(), "/".into()), false),
        (Bound::Exactly("web".into()), true),
        (Bound::Exactly("we".into()), false),
    ] {
        assert_eq!(holds(&bound, "web"), held, "{bound:?}");
    }
}

#[test]
fn output_comes_in_frames_or_as_it_is() {
    let frame = |stream: u8, text: &str| [&[stream, 0, 0, 0][..], &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat();
    let framed = [
        frame(1, "2026-01-01T00:00:00.5Z out 1\n"),
        frame(2, "2026-01-01T00:00:01Z err\n"),
        frame(1, "2026-01-01T00:00:02Z a long "),
        frame(1, "line\n"),
        frame(1, "2026-01-01T00:00:03.000000000Z \n"),
    ]
    .concat();
    let rows = shape::lines(&framed, false);
    let told: Vec<(&str, &str)> =
        rows.as_array().unwrap().iter().map(|row| (row["stream"].as_str().unwrap(), row["text"].as_str().unwrap())).collect();
    assert_eq!(told, [("stdout", "out 1"), ("stderr", "err"), ("stdout", "a long line"), ("stdout", "")]);
    assert_eq!(rows[0]["time"], "2026-01-01T00:00:00.5Z");
    let terminal = shape::lines(b"2026-01-01T00:00:00Z typed\r\n2026-01-01T00:00:00Z more\r\n", true);
    assert_eq!((&terminal[0]["text"], &terminal[1]["text"]), (&json!("typed"), &json!("more")));
    // Cut in the middle of a frame.
    for end in 0..framed.len() {
        shape::lines(&framed[..end], false);
    }
}

#[test]
fn figures_are_counted_as_docker_counts_them() {
    let stats = json!({
        "read": "2026-01-01T00:00:00Z",
        "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 4},
        "precpu_stats": {"cpu_usage": {"total_usage": 200}, "system_cpu_usage": 1000},
        "memory_stats": {"usage": 1000, "limit": 4000, "stats": {"inactive_file": 200}},
        "pids_stats": {"current": 3},
        "networks": {"eth0": {"rx_bytes": 5, "tx_bytes": 6}, "eth1": {"rx_bytes": 1, "tx_bytes": 1}},
        "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 7}, {"op": "write", "value": 8}]},
    });
    let shown = shape::stats(&stats);
    assert_eq!((&shown["cpu_percent"], &shown["memory"], &shown["memory_percent"]), (&json!(40.0), &json!(800), &json!(20.0)));
    assert_eq!(
        (&shown["received"], &shown["sent"], &shown["read"], &shown["written"], &shown["processes"]),
        (&json!(6), &json!(7), &json!(7), &json!(8), &json!(3))
    );
    assert_eq!(shape::stats(&json!({}))["cpu_percent"], Value::Null);
}
