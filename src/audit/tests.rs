//! Tests of the records and the sinks, against real sockets and files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::error::Why;
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Instant;
use tempfile::TempDir;

fn settings(dir: &TempDir) -> AuditSettings {
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    AuditSettings { syslog_socket: path("log"), journald_socket: path("journal"), ..AuditSettings::default() }
}

fn with_file(dir: &TempDir) -> AuditSettings {
    AuditSettings { file: dir.path().join("audit.jsonl").to_str().unwrap().to_string(), ..settings(dir) }
}

fn info() -> RunInfo {
    RunInfo {
        session: None,
        run: "r1".into(),
        principal: "alice".into(),
        groups: vec!["oncall".into()],
        evidence: "user".into(),
        facts: json!({"key": "SHA256:x", "via": ["a", {"b": 1}]}).as_object().unwrap().clone(),
        uid: 1000,
        client: Some("192.0.2.1".into()),
        request: "rex run\u{1b}[2J".into(),
    }
}

fn denial<'a>(resource: &'a str) -> Event<'a> {
    Event::Decision(Decision {
        action: "file_system::Action::\"read\"",
        resource,
        why: Some(Why::NotPermitted),
        policies: &["p1"],
        reference: Some("d-1"),
        function: "cat",
        line: 3,
        column: 7,
        ..Decision::default()
    })
}

fn receive(socket: &UnixDatagram) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let read = socket.recv(&mut buffer).unwrap();
    buffer.truncate(read);
    buffer
}

fn open(settings: &AuditSettings) -> Result<Audit> {
    Audit::open(settings, OnFailure::Deny, info())
}

fn fails(settings: &AuditSettings) -> String {
    let error = open(settings).err().expect("it should have been refused");
    assert_eq!(error.kind, Kind::Audit);
    error.message
}

fn file_text(settings: &AuditSettings) -> String {
    std::fs::read_to_string(&settings.file).unwrap()
}

#[test]
fn a_record_reaches_the_syslog_socket_as_rfc_5424_with_json_as_its_message() {
    let dir = TempDir::new().unwrap();
    let log = UnixDatagram::bind(dir.path().join("log")).unwrap();
    let audit = open(&settings(&dir)).unwrap();
    audit.set_policy("abc");
    audit.record(&denial("file_system::File::\"/etc/\u{1b}]0;x\u{7}\u{9b}\u{202e}\n\u{fc}\"")).unwrap();
    let frame = String::from_utf8(receive(&log)).unwrap();
    assert!(frame.starts_with("<84>1 20"), "{frame}");
    assert!(frame.contains(" decision [rex@32473 run=\"r1\" seq=\"0\" principal=\"alice\" decision=\"deny\"] {\"schema\""), "{frame}");
    assert!(frame.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{frame}");
    let record: Value = serde_json::from_str(&frame[frame.find("] {").unwrap() + 2..]).unwrap();
    assert_eq!(record["schema"], "rex.audit/1");
    assert_eq!(record["resource"], "file_system::File::\"/etc/\u{1b}]0;x\u{7}\u{9b}\u{202e}\n\u{fc}\"");
    assert_eq!((&record["principal"], &record["uid"], &record["policy"]), (&json!("alice"), &json!(1000), &json!("abc")));
    assert_eq!((&record["why"], &record["line"], &record["policies"]), (&json!("not_permitted"), &json!(3), &json!(["p1"])));
    let time = record["time"].as_str().unwrap();
    assert!(time.len() == 27 && time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    audit.record(&Event::Decision(Decision { allow: true, ..Decision::default() })).unwrap();
    assert!(receive(&log).starts_with(b"<85>1 "));
}

#[test]
fn structured_data_is_escaped_and_cannot_be_left() {
    let dir = TempDir::new().unwrap();
    let log = UnixDatagram::bind(dir.path().join("log")).unwrap();
    let audit = Audit::open(&settings(&dir), OnFailure::Deny, RunInfo { principal: "a\"]\\\u{1b}".into(), ..info() }).unwrap();
    audit.record(&denial("x")).unwrap();
    let frame = String::from_utf8(receive(&log)).unwrap();
    assert!(frame.contains(r#"principal="a\"\]\\<U+001B>" decision"#), "{frame}");
}

#[test]
fn a_syslog_that_does_not_read_fails_the_record_within_a_bound_and_then_at_once() {
    let dir = TempDir::new().unwrap();
    let _log = UnixDatagram::bind(dir.path().join("log")).unwrap();
    let audit = open(&settings(&dir)).unwrap();
    let error = (0..100_000).find_map(|_| audit.record(&denial("x")).err()).unwrap();
    assert_eq!(error.kind, Kind::Audit);
    let start = Instant::now();
    assert!(audit.record(&denial("x")).is_err());
    assert!(start.elapsed() < Duration::from_millis(500));
    assert_eq!(audit.lost(), 2);
}

#[test]
fn the_wait_for_a_full_syslog_is_no_longer_than_two_seconds_and_ends_when_it_reads() {
    let dir = TempDir::new().unwrap();
    let log = UnixDatagram::bind(dir.path().join("log")).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"x", dir.path().join("log")).is_ok() {}
    let audit = open(&settings(&dir)).unwrap();
    let start = Instant::now();
    assert!(audit.record(&denial("x")).is_err());
    assert!((Duration::from_millis(1900)..Duration::from_secs(4)).contains(&start.elapsed()));
    receive(&log);
    audit.record(&denial("x")).unwrap();
    while filler.send_to(b"x", dir.path().join("log")).is_ok() {}
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        receive(&log);
        log
    });
    audit.record(&denial("x")).unwrap();
    drop(reader.join().unwrap());
}

#[test]
fn a_syslog_that_goes_away_fails_the_next_record() {
    let dir = TempDir::new().unwrap();
    let log = UnixDatagram::bind(dir.path().join("log")).unwrap();
    let audit = open(&settings(&dir)).unwrap();
    audit.record(&denial("x")).unwrap();
    drop(log);
    assert_eq!(audit.record(&denial("x")).unwrap_err().kind, Kind::Audit);
}

#[test]
fn with_on_audit_failure_allow_the_loss_is_counted_and_said_in_the_next_record() {
    let dir = TempDir::new().unwrap();
    let settings = with_file(&dir);
    let log = UnixDatagram::bind(dir.path().join("log")).unwrap();
    let audit = Audit::open(&settings, OnFailure::Allow, info()).unwrap();
    drop(log);
    audit.record(&denial("x")).unwrap();
    audit.record(&denial("y")).unwrap();
    assert_eq!(audit.lost(), 2);
    assert!(file_text(&settings).lines().nth(1).unwrap().contains("\"lost\":1"));
}

#[test]
fn without_any_sink_nothing_is_opened_unless_failures_are_allowed() {
    let dir = TempDir::new().unwrap();
    assert!(fails(&settings(&dir)).contains("no place for audit records"));
    let audit = Audit::open(&settings(&dir), OnFailure::Allow, info()).unwrap();
    assert!(audit.sinks().is_empty());
    audit.record(&denial("x")).unwrap();
}

#[test]
fn a_demanded_syslog_that_is_missing_or_served_by_nobody_is_an_error_even_beside_a_file() {
    let dir = TempDir::new().unwrap();
    let on = AuditSettings { syslog: Switch::On, ..with_file(&dir) };
    assert!(fails(&on).contains("/log: no such file"));
    drop(UnixDatagram::bind(dir.path().join("log")).unwrap());
    assert!(fails(&with_file(&dir)).contains("refused"));
    open(&AuditSettings { syslog: Switch::Off, ..with_file(&dir) }).unwrap();
}

#[test]
fn a_stream_socket_gets_one_line_per_record() {
    use std::io::BufRead;
    let dir = TempDir::new().unwrap();
    let log = UnixListener::bind(dir.path().join("log")).unwrap();
    let audit = open(&settings(&dir)).unwrap();
    audit.record(&denial("a\nb")).unwrap();
    audit.record(&denial("c")).unwrap();
    drop(audit);
    let lines: Vec<_> = std::io::BufReader::new(log.accept().unwrap().0).lines().map(|line| line.unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.starts_with("<84>1 ") && line.ends_with('}')));
}

/// The fields of a native journal message.
fn fields(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length = usize::try_from(u64::from_le_bytes(bytes[end + 1..end + 9].try_into().unwrap())).unwrap();
        fields.push((name, String::from_utf8(bytes[end + 9..end + 9 + length].to_vec()).unwrap()));
        assert_eq!(bytes[end + 9 + length], b'\n');
        bytes = &bytes[end + 10 + length..];
    }
    fields
}

#[test]
fn journald_gets_fields_that_a_newline_in_a_name_cannot_forge() {
    let dir = TempDir::new().unwrap();
    let journal = UnixDatagram::bind(dir.path().join("journal")).unwrap();
    let audit = open(&settings(&dir)).unwrap();
    audit.record(&denial("/x\nREX_DECISION=allow\nPRIORITY=7")).unwrap();
    let fields = fields(&receive(&journal));
    let all = |name: &str| fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect::<Vec<_>>();
    assert_eq!(all("REX_DECISION"), ["deny"]);
    assert_eq!(all("PRIORITY"), ["4"]);
    assert_eq!(all("SYSLOG_IDENTIFIER"), ["rex"]);
    assert_eq!(all("REX_RESOURCE"), ["/x\nREX_DECISION=allow\nPRIORITY=7"]);
    assert!(all("MESSAGE")[0].starts_with("alice: deny file_system::Action::\"read\" /x\\u{a}REX"), "{:?}", all("MESSAGE"));
    assert!(serde_json::from_str::<Value>(all("REX_RECORD")[0]).is_ok());
}

#[test]
fn a_syslog_socket_that_is_journalds_is_left_out_beside_the_native_one_only() {
    let dir = TempDir::new().unwrap();
    let _journal = UnixDatagram::bind(dir.path().join("journal")).unwrap();
    let _dev_log = UnixDatagram::bind(dir.path().join("dev-log")).unwrap();
    symlink(dir.path().join("dev-log"), dir.path().join("log")).unwrap();
    assert_eq!(open(&settings(&dir)).unwrap().sinks().len(), 1);
    let only = AuditSettings { journald: Switch::Off, ..settings(&dir) };
    assert!(open(&only).unwrap().sinks()[0].starts_with("syslog "));
    std::fs::remove_file(dir.path().join("log")).unwrap();
    let _other = UnixDatagram::bind(dir.path().join("log")).unwrap();
    assert_eq!(open(&settings(&dir)).unwrap().sinks().len(), 2);
}

#[test]
fn the_file_is_made_for_the_group_and_appended_to() {
    let dir = TempDir::new().unwrap();
    let settings = with_file(&dir);
    for _ in 0..2 {
        open(&settings).unwrap().record(&denial("x")).unwrap();
    }
    assert_eq!(std::fs::metadata(&settings.file).unwrap().permissions().mode() & 0o7777, 0o660);
    assert_eq!(file_text(&settings).lines().count(), 2);
}

#[test]
fn links_folders_fifos_and_second_names_are_no_audit_files() {
    let dir = TempDir::new().unwrap();
    let settings = with_file(&dir);
    let other = dir.path().join("other");
    std::fs::write(&other, "").unwrap();
    symlink(&other, &settings.file).unwrap();
    fails(&settings);
    std::fs::remove_file(&settings.file).unwrap();
    symlink(dir.path().join("absent"), &settings.file).unwrap();
    fails(&settings);
    assert!(!dir.path().join("absent").exists());
    std::fs::remove_file(&settings.file).unwrap();
    std::fs::hard_link(&other, &settings.file).unwrap();
    assert!(fails(&settings).contains("second name"));
    std::fs::remove_file(&settings.file).unwrap();
    std::fs::create_dir(&settings.file).unwrap();
    fails(&settings);
    std::fs::remove_dir(&settings.file).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &settings.file, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    fails(&settings);
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "");
}

#[test]
fn a_file_in_a_missing_folder_is_refused() {
    let dir = TempDir::new().unwrap();
    let settings = AuditSettings { file: dir.path().join("no/audit").to_str().unwrap().into(), ..settings(&dir) };
    assert!(fails(&settings).contains("no such file"));
}

#[test]
fn a_device_is_no_audit_file() {
    let dir = TempDir::new().unwrap();
    assert!(fails(&AuditSettings { file: "/dev/full".into(), ..settings(&dir) }).contains("not a regular file"));
}

#[test]
fn concurrent_writers_of_a_file_produce_whole_lines_and_unbroken_chains() {
    let dir = TempDir::new().unwrap();
    let settings = with_file(&dir);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let settings = &settings;
            scope.spawn(move || {
                let audit = Audit::open(settings, OnFailure::Deny, RunInfo { run: format!("r{writer}"), ..info() }).unwrap();
                for n in 0..200 {
                    audit.record(&denial(&"x".repeat(n * 7))).unwrap();
                }
                audit.record(&Event::RunEnd(RunEnd::default())).unwrap();
            });
        }
    });
    let verdict = verify(file_text(&settings).as_bytes()).unwrap();
    assert_eq!(verdict, Verdict { records: 8 * 201, linked: 8 * 201, unanchored: 8 * 201, runs: 8, ..Verdict::default() });
}

#[test]
fn a_chain_shows_records_that_were_changed_removed_swapped_or_cut() {
    let dir = TempDir::new().unwrap();
    let settings = with_file(&dir);
    let audit = open(&settings).unwrap();
    audit.record(&Event::RunStart(RunStart { layers: &["seccomp"], ..RunStart::default() })).unwrap();
    for path in ["/a", "/b", "/c"] {
        audit.record(&denial(path)).unwrap();
    }
    audit.record(&Event::RunEnd(RunEnd { exit: 77, denials: 3, ..RunEnd::default() })).unwrap();
    let text = file_text(&settings);
    let problems = |text: &str| verify(text.as_bytes()).unwrap().problems;
    assert_eq!(verify(text.as_bytes()).unwrap(), Verdict { records: 5, linked: 5, unanchored: 5, runs: 1, ..Verdict::default() });
    let lines: Vec<&str> = text.lines().collect();
    let without =
        |skip: usize| lines.iter().enumerate().filter(|(i, _)| *i != skip).map(|(_, line)| format!("{line}\n")).collect::<String>();
    assert_eq!(problems(&text.replace("\"/b\"", "\"/d\""))[0].line, 3);
    assert_eq!(problems(&without(2))[0].line, 3);
    assert_eq!(problems(&without(0))[0].line, 1);
    assert_eq!(verify(without(4).as_bytes()).unwrap().unfinished.iter().map(|(run, _)| run.as_str()).collect::<Vec<_>>(), ["r1"]);
    assert!(!problems(&[lines[0], lines[2], lines[1], lines[3], lines[4]].join("\n")).is_empty());
    assert_eq!(problems(&text[..text.len() - 20]).len(), 1);
    let unchained = lines[1].split_once(",\"chain\"").unwrap().0.to_string() + "}";
    assert!(!problems(&text.replace(lines[1], &unchained)).is_empty());
}

#[test]
fn a_long_record_is_cut_where_it_shows_and_stays_json() {
    let dir = TempDir::new().unwrap();
    let settings = with_file(&dir);
    let log = UnixDatagram::bind(dir.path().join("log")).unwrap();
    let many: Vec<Value> = (0..5000).map(|n| json!({"\u{1b}".repeat(300): [n, "\u{fc}".repeat(5000)]})).collect();
    let facts = json!({"a": many, "b": many}).as_object().unwrap().clone();
    let groups = (0..5000).map(|n| format!("group{n}{}", "\u{1f600}".repeat(100))).collect();
    let info =
        RunInfo { request: "\u{7}".repeat(60_000), principal: "p".repeat(9000), groups, facts, client: Some("c".repeat(9000)), ..info() };
    let audit = Audit::open(&settings, OnFailure::Deny, info).unwrap();
    audit.record(&Event::RunStart(RunStart::default())).unwrap();
    assert!(receive(&log).len() < 8192);
    let long = "\u{e9}".repeat(50_000);
    let ids: Vec<&str> = (0..1000).map(|_| long.as_str()).collect();
    audit
        .record(&Event::Decision(Decision {
            action: &long,
            resource: &long,
            requested: Some(&long),
            policies: &ids,
            ..Decision::default()
        }))
        .unwrap();
    assert!(receive(&log).len() < 8192);
    for line in file_text(&settings).lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["cut"], true);
    }
    assert!(file_text(&settings).contains("\\u2026(+"));
}

#[test]
fn records_are_shown_filtered_and_lines_that_are_none_are_reported() {
    let dir = TempDir::new().unwrap();
    let settings = with_file(&dir);
    let audit = open(&settings).unwrap();
    audit.record(&Event::RunStart(RunStart { layers: &["seccomp"], ..RunStart::default() })).unwrap();
    audit.record(&denial("/x\u{1b}[31m")).unwrap();
    audit.record(&Event::Effect(Effect { action: "a", resource: "/y", failed: Some(Kind::NoSpace), ..Effect::default() })).unwrap();
    let text = file_text(&settings) + "rubbish \u{1b}[0m\n{\"schema\":\"other\u{9b}\"}\n{}\n";
    let run_as = |filter: Filter, form: Form| {
        let mut out = Vec::new();
        let summary = show(text.as_bytes(), &filter, form, &mut out).unwrap();
        (summary, String::from_utf8(out).unwrap())
    };
    let run = |filter: Filter| run_as(filter, Form::Human);
    let (summary, out) = run(Filter::default());
    assert_eq!((summary.lines, summary.shown, summary.bad), (6, 3, 3));
    assert_eq!(summary.malformed.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [4, 5, 6]);
    assert!(out.contains("line 4 is not a record") && !out.contains('\u{1b}') && !out.contains('\u{9b}'), "{out}");
    assert!(out.contains("resource=/x\\u{1b}[31m"), "{out}");
    let shown = |filter: Filter| run(filter).0.shown;
    let some = |text: &str| Some(text.to_string());
    assert_eq!(shown(Filter { decision: some("deny"), ..Filter::default() }), 1);
    assert_eq!(shown(Filter { action: some("read"), ..Filter::default() }), 1);
    assert_eq!(shown(Filter { action: some("ead"), ..Filter::default() }), 0);
    assert_eq!(shown(Filter { run: some("r"), ..Filter::default() }), 3);
    assert_eq!(shown(Filter { principal: some("bob"), ..Filter::default() }), 0);
    assert_eq!(shown(Filter { event: some("effect"), ..Filter::default() }), 1);
    let now = jiff::Timestamp::now();
    assert_eq!(shown(Filter { until: Some(now), ..Filter::default() }), 3);
    assert_eq!(shown(Filter { since: Some(now), ..Filter::default() }), 0);
    let (_, json) = run_as(Filter::default(), Form::Json);
    assert!(json.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    assert_eq!(json.lines().count(), 3);
}

#[test]
fn a_gzipped_file_is_read_and_a_line_without_end_is_not_held_in_memory() {
    use std::io::Write;
    let dir = TempDir::new().unwrap();
    let settings = with_file(&dir);
    open(&settings).unwrap().record(&denial("x")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&vec![b'x'; 5 << 20]).unwrap();
    gzip.write_all(b"\n").unwrap();
    gzip.write_all(file_text(&settings).as_bytes()).unwrap();
    let packed = gzip.finish().unwrap();
    let mut out = Vec::new();
    let summary = show(reader(packed.as_slice()).unwrap(), &Filter::default(), Form::Human, &mut out).unwrap();
    assert_eq!((summary.lines, summary.shown, summary.malformed), (2, 1, vec![(1, "longer than 1 MiB".to_string())]));
}

#[test]
fn a_denial_is_found_by_its_reference_in_records_and_in_a_log_that_quotes_them() {
    use std::io::Write;
    let dir = TempDir::new().unwrap();
    let settings = with_file(&dir);
    let audit = open(&settings).unwrap();
    for path in ["/a", "/b"] {
        audit.record(&denial(path)).unwrap();
    }
    let text = file_text(&settings);
    let found = |text: &str, reference: &str, principal: Option<&str>| {
        let input = reader(text.as_bytes()).unwrap();
        find_denial(input, reference, principal).unwrap().map(|record| record["resource"].as_str().unwrap().to_string())
    };
    assert_eq!(found(&text, "d-1", None).as_deref(), Some("/b"));
    assert_eq!(found(&text, "d-1", Some("alice")).as_deref(), Some("/b"));
    assert_eq!(found(&text, "d-1", Some("bob")), None);
    assert_eq!(found(&text, "d-", None), None);
    let log: String = text.lines().map(|line| format!("Nov 24 10:00:00 host rex: [rex@32473 run=\"r1\"] {line}\n")).collect();
    assert_eq!(found(&log, "d-1", Some("alice")).as_deref(), Some("/b"));
    let mut packed = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    packed.write_all(text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    assert!(find_denial(reader(packed.as_slice()).unwrap(), "d-1", Some("alice")).unwrap().is_some());
}

#[test]
#[ignore = "a measurement: cargo test --release audit -- --ignored --nocapture"]
fn one_record_takes_microseconds() {
    let dir = TempDir::new().unwrap();
    for chain in [true, false] {
        let audit = open(&AuditSettings { chain, ..with_file(&dir) }).unwrap();
        let start = Instant::now();
        for _ in 0..20_000 {
            audit.record(&denial("file_system::File::\"/var/log/syslog\"")).unwrap();
        }
        std::io::Write::write_all(&mut std::io::stderr(), format!("chain {chain}: {:?} each\n", start.elapsed() / 20_000).as_bytes())
            .unwrap();
    }
}
