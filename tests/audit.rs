//! The records as the owner reads them, through the binary: chains across sessions, crashes, full disks, rotations; shown, followed, counted, replayed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Account, Rex, Run, Running, until};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// `rex audit …` to its end.
fn audit(rex: &Rex, words: &[&str]) -> Run {
    let mut all = vec!["audit"];
    all.extend(words);
    common::run(rex.command(&all), b"", 60)
}

fn file(rex: &Rex) -> String {
    rex.audit_file().to_str().unwrap().to_owned()
}

/// The verdict on these files, as data.
fn verdict(rex: &Rex, words: &[&str]) -> Value {
    let mut all = vec!["verify", "--json"];
    all.extend(words);
    let run = audit(rex, &all);
    let verdict = run.json();
    assert_eq!(run.code == 0, verdict["good"].as_bool().unwrap(), "{run:#?}");
    verdict
}

fn told(verdict: &Value, of: &str) -> Vec<String> {
    verdict[of].as_array().unwrap().iter().map(|finding| finding["what"].as_str().unwrap().to_owned()).collect()
}

/// The whole of the file is intact; how many records it has.
#[track_caller]
fn is_intact(rex: &Rex) -> u64 {
    let verdict = verdict(rex, &[&file(rex)]);
    assert_eq!(told(&verdict, "problems"), [""; 0], "{verdict:#}");
    assert_eq!(verdict["records"], verdict["linked"], "{verdict:#}");
    verdict["records"].as_u64().unwrap()
}

#[test]
fn twenty_sessions_of_two_users_make_one_chain() {
    needs_root!();
    let account = Account::new();
    let rex = Rex::new().policy(ALLOW_ALL).account(&account);
    std::thread::scope(|scope| {
        for session in 0..20 {
            let (rex, account) = (&rex, (session % 2 == 0).then_some(&account));
            scope.spawn(move || {
                let command = rex.session_command(account, &[], Some("rex run"));
                let script = format!("for i in 0..198 {{ exists(\"/nonexistent/{session}/\" + i) }}");
                common::run(command, script.as_bytes(), 100).ends(0);
            });
        }
    });
    assert_eq!(is_intact(&rex), 20 * 200);
    let users: std::collections::HashSet<u64> = rex.audit().iter().map(|record| record["uid"].as_u64().unwrap()).collect();
    assert_eq!(users, [0, u64::from(account.uid)].into());
    let numbers: Vec<u64> = rex.audit().iter().map(|record| record["n"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=20 * 200));
}

#[test]
fn whatever_is_done_to_the_file_shows() {
    let rex = Rex::new().policy(ALLOW_ALL);
    for n in 0..3 {
        rex.run(&format!("exists(\"/nonexistent/{n}\")")).ends(0);
    }
    assert_eq!(is_intact(&rex), 9);
    let text = fs::read_to_string(rex.audit_file()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let of = |keep: &[usize]| keep.iter().map(|at| format!("{}\n", lines[*at])).collect::<String>();
    let forged = lines[4].replace("/nonexistent/1", "/etc/shadow");
    for (what, text) in [
        ("a record is changed", text.replace("/nonexistent/1", "/nonexistent/9")),
        ("a record is removed", of(&[0, 1, 2, 3, 5, 6, 7, 8])),
        ("a whole run is removed", of(&[0, 1, 2, 6, 7, 8])),
        ("the first run is removed", of(&[3, 4, 5, 6, 7, 8])),
        ("runs are swapped", of(&[3, 4, 5, 0, 1, 2, 6, 7, 8])),
        ("a record is repeated", of(&[0, 1, 1, 2, 3, 4, 5, 6, 7, 8])),
        ("a record is put in", text.replace(lines[5], &format!("{forged}\n{}", lines[5]))),
        (
            "a record without links is put in",
            text.replace(lines[5], &format!("{}\n{}", r#"{"schema":"rex.audit/1","event":"x"}"#, lines[5])),
        ),
        ("a link is changed", text.replace("\"link\":\"", "\"link\":\"0").replacen("\"link\":\"0", "\"link\":\"", 8)),
        ("rubbish is put in", text.replace(lines[5], &format!("rubbish\n{}", lines[5]))),
    ] {
        fs::write(rex.audit_file(), &text).unwrap();
        let verdict = verdict(&rex, &[&file(&rex)]);
        assert!(!told(&verdict, "problems").is_empty(), "{what}: {verdict:#}");
    }
    // Shortened by whole records: nothing in the file tells, which is what anchors are for.
    fs::write(rex.audit_file(), of(&[0, 1, 2, 3, 4, 5])).unwrap();
    assert_eq!(is_intact(&rex), 6);
    // Emptied, then written to by the next session.
    fs::write(rex.audit_file(), "").unwrap();
    rex.run("1").ends(0);
    assert_eq!(is_intact(&rex), 2);
}

#[test]
fn a_record_that_was_cut_is_noted_by_the_next_writer() {
    let rex = Rex::new().policy(ALLOW_ALL);
    rex.run("1").ends(0);
    let whole = fs::read_to_string(rex.audit_file()).unwrap();
    let piece = "{\"schema\":\"rex.audit/1\",\"time\":\"2026-11-24T08:0";
    for (cut, noted) in [(piece, true), ("{", true), ("\u{0}\u{0}\u{0}", false), ("x\n", false), ("a\nb", false)] {
        fs::write(rex.audit_file(), format!("{whole}{cut}")).unwrap();
        common::run(rex.command(&["run", "-", "--config", rex.config_file().to_str().unwrap()]), b"1", 60);
        let text = fs::read_to_string(rex.audit_file()).unwrap();
        assert!(text.starts_with(&format!("{whole}{cut}")), "{text}");
        let verdict = verdict(&rex, &[&file(&rex)]);
        assert_eq!(verdict["linked"], 4, "{cut:?}: {verdict:#}");
        if noted {
            assert_eq!(told(&verdict, "problems"), [""; 0], "{cut:?}");
            assert!(told(&verdict, "notes")[0].starts_with(&format!("{} bytes of a record that was cut", cut.len())), "{verdict:#}");
            // What the writer noted is what must be there.
            fs::write(rex.audit_file(), text.replacen(cut, &cut.replace('{', "["), 2).replacen("[\"schema", "{\"schema", 1)).unwrap();
        } else {
            assert!(told(&verdict, "problems").iter().any(|what| what.contains("no linked records")), "{cut:?}: {verdict:#}");
        }
    }
    // Whole but for its newline: nothing is missing.
    fs::write(rex.audit_file(), whole.trim_end()).unwrap();
    rex.run("1").ends(0);
    assert_eq!(is_intact(&rex), 4);
}

#[test]
fn after_kills_at_any_moment_the_chain_holds_or_says_what_was_cut() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let words = ["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
    for round in 0..12 {
        let mut all: Vec<Running> = (0..3)
            .map(|_| {
                let mut running = Running::start(rex.command(&words));
                running.send(b"let i = 0; loop { i += 1; exists(\"/nonexistent/\" + i) }");
                running.end_input();
                running
            })
            .collect();
        // Each round is killed a little further on.
        let size = || fs::metadata(rex.audit_file()).map_or(0, |meta| meta.len());
        let begun = size();
        assert!(until(30.0, || size() > begun + 10_000 + round * 3_001));
        all.iter_mut().for_each(Running::kill);
        drop(all);
    }
    rex.run("1").ends(0);
    let verdict = verdict(&rex, &[&file(&rex)]);
    assert_eq!(told(&verdict, "problems"), [""; 0], "{verdict:#}");
    assert!(told(&verdict, "notes").iter().all(|what| what.contains("record that was cut")), "{verdict:#}");
    assert!(verdict["unfinished"].as_array().unwrap().iter().all(|run| run["process_exists"] == false), "{verdict:#}");
}

#[test]
fn a_full_disk_stops_runs_and_leaves_a_chain_that_goes_on() {
    needs_namespaces!();
    let rex = Rex::new().policy(ALLOW_ALL);
    let folder = rex.root().join("audit");
    let keep = rex.root().join("keep");
    fs::create_dir(&keep).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=64k none {audit} || exit 99
         run() {{ echo \"$1\" | {rex} run - --config {config} --policy {policy} -o json; echo \"code $?\"; }}
         run 'for i in 0..1000 {{ exists(\"/nonexistent/\" + i) }}'
         cp {audit}/rex.jsonl {keep}/full
         run 'write(\"{data}/made\", \"x\")'
         mount -o remount,size=1m {audit}
         run 'write(\"{data}/made2\", \"x\")'
         cp {audit}/rex.jsonl {keep}/after",
        audit = folder.display(),
        rex = rex.program().display(),
        config = rex.config_file().display(),
        policy = rex.policy_file().display(),
        keep = keep.display(),
        data = rex.data().display(),
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    let run = common::run(command, b"", 60);
    let codes: Vec<&str> = run.stdout.lines().filter(|line| line.starts_with("code ")).collect();
    assert_eq!(codes, ["code 78", "code 78", "code 0"], "{run:#?}");
    assert!(!rex.exists("made") && rex.exists("made2"));
    let (full, after) = (keep.join("full"), keep.join("after"));
    assert!(fs::metadata(&full).unwrap().len() <= 64 << 10);
    let verdict = verdict(&rex, &[after.to_str().unwrap()]);
    assert_eq!(told(&verdict, "problems"), [""; 0], "{verdict:#}");
    let torn = !fs::read(&full).unwrap().ends_with(b"\n");
    assert_eq!(told(&verdict, "notes").iter().any(|what| what.contains("record that was cut")), torn, "{verdict:#}");
}

#[test]
fn whoever_keeps_the_lock_stops_runs_within_a_bound() {
    let rex = Rex::new().policy(ALLOW_ALL);
    rex.run("1").ends(0);
    let held = fs::File::open(rex.audit_file()).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let run = rex.run("write(\"{data}/made\", \"x\")");
    run.ends(78);
    assert!(run.stdout.contains("another process holds its lock"), "{run:#?}");
    assert!(run.audit.is_empty() && !rex.exists("made"), "{run:#?}");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::Unlock).unwrap();
    rex.run("write(\"{data}/made\", \"x\")").ends(0);
    is_intact(&rex);
}

/// A run that goes on until `data/end` is there. Given back when it has begun.
fn long_run(rex: &Rex) -> Running {
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let mut running = Running::start(rex.command(&[
        "run",
        "-",
        "--config",
        config.to_str().unwrap(),
        "--policy",
        policy.to_str().unwrap(),
        "-o",
        "json",
    ]));
    running.send(
        rex.fill("write(\"{data}/begun\", \"\"); while !exists(\"{data}/end\") { sleep(0.01) } exists(\"/nonexistent/last\")").as_bytes(),
    );
    running.end_input();
    assert!(until(30.0, || rex.exists("begun")));
    running
}

fn rotated(rex: &Rex) -> PathBuf {
    rex.root().join("audit/rex.jsonl.1")
}

#[test]
fn rotation_loses_no_record_of_a_run_that_goes_on_and_the_new_file_names_the_old_ones_link() {
    let rex = Rex::new().policy(ALLOW_ALL);
    rex.run("1").ends(0);
    let running = long_run(&rex);
    fs::rename(rex.audit_file(), rotated(&rex)).unwrap();
    rex.run("2").ends(0);
    fs::write(rex.data().join("end"), "").unwrap();
    running.finish(60).ends(0);
    rex.run("3").ends(0);
    let (new, old) = (file(&rex), rotated(&rex).to_str().unwrap().to_owned());
    let first = &rex.audit()[0];
    assert_eq!((&first["after"]["what"], &first["after"]["file"]), (&"rotation".into(), &"rex.jsonl.1".into()));
    assert_eq!(rex.audit()[1].get("after"), None);
    // In any order, and as the configured file with what rotation has put away.
    let config = rex.config_file();
    for words in [vec![old.as_str(), &new], vec![&new, &old], vec!["--config", config.to_str().unwrap()]] {
        let verdict = verdict(&rex, &words);
        assert_eq!((told(&verdict, "problems"), told(&verdict, "notes")), (vec![], vec![]), "{verdict:#}");
        assert_eq!((verdict["runs"].as_u64(), verdict["unfinished"].as_array().map(Vec::len)), (Some(4), Some(0)), "{verdict:#}");
    }
    assert!(fs::read_to_string(&old).unwrap().contains("/nonexistent/last"));
    // One file alone is good, and says what it goes on from.
    let alone = verdict(&rex, &[&new]);
    assert!(told(&alone, "problems").is_empty() && told(&alone, "notes")[0].contains("goes on from record"), "{alone:#}");
    // Another old file is not what it goes on from.
    let text = fs::read_to_string(&old).unwrap();
    let begun: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
    fs::write(&old, begun).unwrap();
    assert!(told(&verdict(&rex, &[&old, &new]), "notes")[0].contains("goes on from record"));
    // Shown together.
    let shown = audit(&rex, &["show", "--rotated", "--event", "run_start", &new]);
    assert_eq!(shown.ends(0).stdout.lines().count(), 3, "{shown:#?}");
}

#[test]
fn a_file_that_is_removed_under_a_run_stops_it() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let running = long_run(&rex);
    fs::remove_file(rex.audit_file()).unwrap();
    let run = running.finish(60);
    assert!(run.code == 78 && run.stdout.contains("it was removed while the run went on"), "{run:#?}");
}

#[test]
fn copytruncate_is_survived_and_what_falls_in_between_shows() {
    for lose in [false, true] {
        let rex = Rex::new().policy("permit(principal, action, resource);");
        let running = long_run(&rex);
        // A run that waits writes a record every hundredth of a second, so it is stopped meanwhile.
        let pid = rustix::process::Pid::from_raw(running.id() as i32).unwrap();
        let free = fs::File::open(rex.audit_file()).unwrap();
        assert!(until(30.0, || {
            rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
            assert!(until(10.0, || fs::read_to_string(format!("/proc/{}/stat", running.id())).unwrap().contains(") T ")));
            // Not in the middle of a record.
            let taken = rustix::fs::flock(&free, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
            if !taken {
                rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
            }
            taken
        }));
        drop(free);
        fs::copy(rex.audit_file(), rotated(&rex)).unwrap();
        if lose {
            rex.run("\"lost\"").ends(0);
        }
        fs::write(rex.audit_file(), "").unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
        fs::write(rex.data().join("end"), "").unwrap();
        running.finish(60).ends(0);
        let (new, old) = (file(&rex), rotated(&rex).to_str().unwrap().to_owned());
        let both = verdict(&rex, &[&old, &new]);
        if lose {
            // The run had not seen the lost records, so it goes on from what it knows; the numbers tell nothing then. Its link is in the copy.
            assert_eq!(rex.audit()[0]["after"]["what"], "truncated");
        }
        assert_eq!(told(&both, "problems"), [""; 0], "{both:#}");
        assert!(told(&both, "notes")[0].contains("was emptied after record"), "{both:#}");
        let alone = verdict(&rex, &[&new]);
        assert!(told(&alone, "problems")[0].contains("was emptied while a run went on"), "{alone:#}");
    }
}

/// A syslog that writes what it gets into a text file, as rsyslog does.
struct Log {
    path: PathBuf,
    end: Arc<AtomicBool>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Log {
    fn new(rex: &Rex) -> Self {
        let socket = UnixDatagram::bind(rex.root().join("log")).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
        let (path, end) = (rex.root().join("messages"), Arc::new(AtomicBool::new(false)));
        let mut file = fs::File::create(&path).unwrap();
        let ends = Arc::clone(&end);
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !ends.load(Ordering::Relaxed) {
                if let Ok(read) = socket.recv(&mut buffer) {
                    writeln!(file, "Nov 24 10:00:00 {}", String::from_utf8_lossy(&buffer[..read])).unwrap();
                }
            }
        });
        Self { path, end, reader: Some(reader) }
    }
    /// The text file, once it has this many anchors.
    #[track_caller]
    fn text(&self, anchors: usize) -> String {
        assert!(until(10.0, || fs::read_to_string(&self.path).unwrap().matches("\"event\":\"anchor\"").count() >= anchors));
        self.path.to_str().unwrap().to_owned()
    }
    /// It goes away.
    fn stop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.stop();
    }
}

/// With a syslog beside the file.
fn with_syslog(more: &str) -> (Rex, Log) {
    let rex = Rex::new().policy(ALLOW_ALL);
    let log = Log::new(&rex);
    let toml = format!(
        "[audit]\nfile = \"{}\"\nsyslog = true\nsyslog_socket = \"{}/log\"\njournald = false\n{more}\n",
        rex.audit_file().display(),
        rex.root().display()
    );
    (rex.whole_config(&toml), log)
}

#[test]
fn anchors_in_the_log_find_a_file_that_was_written_anew() {
    let (rex, log) = with_syslog("anchor_records = 50");
    rex.run("for i in 0..120 { exists(\"/nonexistent/\" + i) }").ends(0);
    let anchors = |rex: &Rex| {
        let text = log.text(3);
        verdict(rex, &[&file(rex), "--anchors", &text])
    };
    let good = anchors(&rex);
    assert_eq!(told(&good, "problems"), [""; 0], "{good:#}");
    // Records 50 and 100, and the end.
    assert_eq!((good["anchors"]["found"].as_u64(), good["anchors"]["records_after"].as_u64()), (Some(3), Some(0)), "{good:#}");
    let lines = audit(&rex, &["show", "--event", "anchor", &log.text(3)]);
    assert_eq!(lines.stdout.lines().filter(|line| line.contains(" anchor ")).count(), 3, "{lines:#?}");
    // The last record is taken away: nothing in the file tells.
    let text = fs::read_to_string(rex.audit_file()).unwrap();
    let all: Vec<&str> = text.lines().collect();
    fs::write(rex.audit_file(), all[..all.len() - 1].join("\n") + "\n").unwrap();
    is_intact(&rex);
    let cut = anchors(&rex);
    assert!(told(&cut, "problems")[0].contains("that record or one before it was removed or changed"), "{cut:#}");
    // A whole chain of its own, as good as the first.
    fs::remove_file(rex.audit_file()).unwrap();
    let other = Rex::new().policy(ALLOW_ALL);
    other.run("for i in 0..120 { exists(\"/nonexistent/\" + i) }").ends(0);
    let forged = fs::read_to_string(other.audit_file()).unwrap();
    let early = forged.lines().next().unwrap().split('"').nth(7).unwrap().to_owned();
    assert!(early.starts_with("20"), "{early}");
    fs::write(rex.audit_file(), forged.replace(&early, "2026-01-01T00:00:00.000000Z")).unwrap();
    let found = anchors(&rex);
    assert_eq!(told(&found, "problems").iter().filter(|what| what.contains("the anchor of")).count(), 3, "{found:#}");
}

#[test]
fn an_anchor_that_the_log_does_not_take_fails_the_run() {
    let (rex, mut log) = with_syslog("anchor_records = 2");
    rex.run("1").ends(0);
    // The log goes away for good while the file stays.
    log.stop();
    rex.run("1").ends(78);
}

#[test]
fn records_are_wanted_by_many_things() {
    needs_root!();
    let account = Account::new();
    let rex = Rex::new()
        .policy("@id(\"may-look\") permit(principal, action == file_system::Action::\"stat\", resource);")
        .principals(&format!("[[principal]]\nname = \"alice\"\nunix_users = [\"{}\"]\ngroups = [\"oncall\"]\n", account.name))
        .account(&account)
        .file("a", "text");
    let run = rex.session(Some(&account), &[], Some("rex run -o json"), "exists(\"{data}/a\"); cat(\"{data}/a\")");
    run.is_denied();
    rex.run("exists(\"/nonexistent\")").ends(0);
    let reference = run.json()["denials"][0]["ref"].as_str().unwrap().to_owned();
    let (all, id) = (file(&rex), run.audit[0]["run"].as_str().unwrap().to_owned());
    let count = |words: &[&str]| {
        let mut command = vec!["show", &all];
        command.extend(words);
        audit(&rex, &command).ends(0).stdout.lines().count()
    };
    let total = rex.audit().len();
    let of_alice = run.audit.len();
    assert!(of_alice < total);
    for (words, expected) in [
        (vec![], total),
        (vec!["--principal", "alice"], of_alice),
        (vec!["--group", "oncall"], of_alice),
        (vec!["--group", "nobody"], 0),
        (vec!["--run", &id], of_alice),
        (vec!["--event", "run_start"], 2),
        (vec!["--decision", "deny"], 1),
        (vec!["--ref", &reference], 1),
        (vec!["--ref", "d-none-1"], 0),
        (vec!["--action", "read", "--decision", "deny"], 1),
        (vec!["--resource", "/nonexistent"], 1),
        (vec!["--resource", "file_system::File::\"/nonex"], 1),
        (vec!["--since", "-1h"], total),
        (vec!["--since", "1h"], total),
        (vec!["--until", "-1h"], 0),
        (vec!["--since", "2026-01-01", "--until", "2026-01-02"], 0),
    ] {
        assert_eq!(count(&words), expected, "{words:?}");
    }
    assert_eq!(audit(&rex, &[&all]).ends(0).stdout.lines().count(), total);
    audit(&rex, &["--verify", &all]).ends(0);
    for (words, says) in [
        (vec!["show", &all, "--since", "yesterday"], "is no time"),
        (vec!["show", &all, "--decision", "perhaps"], "possible values"),
        (vec!["show", &all, "--event", "decison"], "a similar value exists: 'decision'"),
        (vec!["replay", "d-none-1", &all], "no record has the reference"),
        (vec!["show", "/nonexistent/file"], "/nonexistent/file"),
        (vec!["replay", "r-none", &all], "no record of a run"),
        (vec!["script", &id, &all], "no record keeps the script"),
    ] {
        let run = audit(&rex, &words);
        assert!(run.code != 0 && run.stderr.contains(says), "{words:?}: {run:#?}");
    }
}

#[test]
fn what_finds_nothing_says_so() {
    let rex = Rex::new().policy("@id(\"all\") permit(principal, action == file_system::Action::\"stat\", resource);");
    let denied = rex.run("cat(\"{data}\")");
    let all = file(&rex);
    let run = audit(&rex, &["show", "--action", "raed", &all]);
    assert!(run.code == 0 && run.stdout.is_empty(), "{run:#?}");
    assert!(run.stderr.contains("fits what was asked for") && run.stderr.contains("did you mean `read`?"), "{run:#?}");
    let run = audit(&rex, &["stats", "--run", "r-none", &all]);
    assert!(run.code == 0 && run.stderr.contains("fits what was asked for"), "{run:#?}");
    let other = rex.path("other");
    std::fs::write(&other, "one\ntwo\n").unwrap();
    let run = audit(&rex, &["stats", &other]);
    assert!(run.code == 1 && run.stderr.contains("none of its 2 lines is a record"), "{run:#?}");
    let run = audit(&rex, &["show", &other]);
    assert_eq!(format!("{}{}", run.stdout, run.stderr).matches("no JSON object").count(), 2, "{run:#?}");
    // The reference of a denial leads to its run.
    let reference = denied.audit.iter().find_map(|record| record["ref"].as_str()).unwrap();
    let told = audit(&rex, &["replay", reference, &all]).ends(0).stdout.clone();
    assert!(told.contains(reference), "{told}");
}

#[test]
fn a_run_is_replayed_and_counted() {
    let rex = Rex::new().policy("@id(\"all\") permit(principal, action, resource); @id(\"not-that\") forbid(principal, action, resource == file_system::File::\"{data}/secret\");");
    let rex = rex.file("secret", "s");
    let run = rex.run("write(\"{data}/made\", \"12345\"); try { cat(\"{data}/secret\") } catch { } 7");
    run.ends(0);
    let id = run.audit[0]["run"].as_str().unwrap();
    for words in [vec!["replay", id], vec!["show", "--timeline", "--run", id]] {
        let mut words = words;
        let all = file(&rex);
        words.push(&all);
        let told = audit(&rex, &words).ends(0).stdout.clone();
        for part in ["write File", "done", "5 bytes", "deny   ", "by not-that", "forbidden", "d-", "ends: exit 0", " 1 denied"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(told.lines().any(|line| line.trim_start().starts_with("+0.000000  begins")), "{told}");
    }
    let stats = audit(&rex, &["stats", "--json", &file(&rex)]).json();
    assert_eq!((stats["runs"].as_u64(), stats["ended"].as_u64(), stats["effects"]["bytes"].as_u64()), (Some(1), Some(1), Some(5)));
    assert_eq!(stats["why"][0], serde_json::json!({"name": "forbidden", "denied": 1}), "{stats:#}");
    assert!(stats["policies"].as_array().unwrap().iter().any(|row| row["name"] == "not-that" && row["denied"] == 1), "{stats:#}");
    let human = audit(&rex, &["stats", &file(&rex)]).ends(0).stdout.clone();
    assert!(human.contains("1 run, of which 1 has an end record") && human.contains("denied because"), "{human}");
}

#[test]
fn other_schemas_get_their_own_words() {
    let rex = Rex::new().policy(ALLOW_ALL).file("a", "text");
    rex.run("write(\"{data}/b\", cat(\"{data}/a\"))").ends(0);
    let lines = |format: &str| -> Vec<Value> {
        let run = audit(&rex, &["show", "--format", format, &file(&rex)]);
        run.ends(0).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (ecs, ocsf) = (lines("ecs"), lines("ocsf"));
    assert_eq!((ecs.len(), ocsf.len()), (rex.audit().len(), rex.audit().len()));
    for (ecs, ocsf) in ecs.iter().zip(&ocsf) {
        assert!(ecs["@timestamp"].is_string() && ecs["ecs"]["version"].is_string() && ecs["event"]["category"].is_array(), "{ecs:#}");
        assert_eq!((ocsf["class_uid"].as_u64(), ocsf["category_uid"].as_u64()), (Some(6003), Some(6)));
        assert_eq!(ocsf["type_uid"].as_u64().unwrap(), 600_300 + ocsf["activity_id"].as_u64().unwrap());
        for required in ["actor", "api", "src_endpoint", "metadata", "severity_id", "time"] {
            assert!(!ocsf[required].is_null(), "{required}: {ocsf:#}");
        }
        assert_eq!(ecs["rex"], ocsf["unmapped"]);
    }
    let write = ecs.iter().find(|line| line["event"]["code"] == "effect").unwrap();
    assert_eq!((&write["event"]["outcome"], &write["event"]["category"][0]), (&"success".into(), &"file".into()), "{write:#}");
    assert_eq!(write["file"]["path"], rex.path("b"));
    let read = ocsf.iter().find(|line| line["api"]["operation"] == "file_system::Action::\"read\"").unwrap();
    assert_eq!(
        (read["activity_id"].as_u64(), &read["action"], read["status_id"].as_u64()),
        (Some(2), &"Allowed".into(), Some(0)),
        "{read:#}"
    );
}

#[test]
fn hostile_text_steers_nothing_and_is_cut_where_it_shows() {
    let rex = Rex::new().policy("permit(principal, action == file_system::Action::\"stat\", resource);");
    let script = r#"
        let name = "/a\n\r\"\\\u001b]0;x\u0007\u009b31m\u2028\u202e\",\"n\":1,\"link\":\"0\"}";
        try { cat(name) } catch { }
        try { exists(name) } catch { }
        let long = "x"; while long.len() < 1048576 { long += long }
        try { exists("/" + long) } catch { }
        try { cat("/" + long.sub_string(0, 3000)) } catch { }
        try { write(name, long) } catch { }
    "#;
    let run = rex.run(script);
    run.ends(0);
    is_intact(&rex);
    let bytes = fs::read(rex.audit_file()).unwrap();
    assert!(bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
    assert!(bytes.split(|byte| *byte == b'\n').all(|line| line.len() < 8192));
    let id = run.audit[0]["run"].as_str().unwrap();
    for words in [vec!["show"], vec!["show", "--json"], vec!["show", "--format", "ecs"], vec!["replay", id], vec!["stats"], vec!["verify"]]
    {
        let mut words = words;
        let all = file(&rex);
        words.push(&all);
        let shown = audit(&rex, &words);
        let steers = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{2028}' | '\u{202e}');
        assert!(!shown.ends(0).stdout.contains(steers) && !shown.stderr.contains(steers), "{words:?}: {shown:#?}");
    }
    let long = run.audit.iter().filter(|record| record["resource"].as_str().is_some_and(|text| text.contains("…(+"))).count();
    assert!(long >= 1, "{run:#?}");
}

#[test]
fn numbers_as_large_as_can_be_stop_no_reader_and_no_writer() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let most = u64::MAX;
    let record = |event: &str, n: u64| {
        format!(
            "{{\"schema\":\"rex.audit/1\",\"time\":\"2026-01-02T03:04:05Z\",\"seq\":{most},\"event\":\"{event}\",\"run\":\"r-{event}\",\"pid\":{most},\
             \"uid\":{most},\"bytes\":{most},\"duration_us\":{most},\"bytes_out\":{most},\"lost\":{most},\"part\":{most},\"parts\":{most},\"left_out\":{most},\
             \"after\":{{\"what\":\"rotation\",\"last_n\":{most},\"last\":\"{zeros}\"}},\"n\":{n},\"link\":\"{zeros}\"}}\n",
            zeros = "0".repeat(64),
        )
    };
    let forged: String = ["effect", "effect", "run_end", "run_end", "script", "script"]
        .iter()
        .flat_map(|event| [record(event, 7), record(event, most)])
        .collect();
    fs::write(rex.audit_file(), &forged).unwrap();
    rex.run("1 + 1").gives(2);
    assert!(!told(&verdict(&rex, &[&file(&rex)]), "problems").is_empty());
    for words in [vec!["show"], vec!["stats"], vec!["stats", "--json"], vec!["replay", "r-effect"], vec!["script", "r-script"]] {
        let mut all = words.clone();
        let file = file(&rex);
        all.push(&file);
        let run = audit(&rex, &all);
        assert!(!run.stderr.contains("a fault in rex itself"), "{words:?}: {run:#?}");
    }
}

#[test]
fn scripts_are_kept_where_the_owner_wants_them_also_of_an_unprivileged_session() {
    needs_root!();
    let account = Account::new();
    let rex = Rex::new().policy(ALLOW_ALL).account(&account);
    let toml = |size: &str| {
        format!("[audit]\nfile = \"{}\"\nsyslog = false\njournald = false\nkeep_scripts = \"{size}\"\n", rex.audit_file().display())
    };
    fs::write(rex.config_file(), toml("64KiB")).unwrap();
    let comment: String = (0..2000).map(|n| format!("// line {n} \u{fc}\u{1b}\"\\\n")).collect();
    let script = format!("{comment}let x = 1; x");
    let run = rex.session(Some(&account), &[], Some("rex run secret=hunter2 -o json"), &script);
    run.gives(1);
    let id = run.audit[0]["run"].as_str().unwrap().to_owned();
    assert!(run.events("script").len() > 5 && is_intact(&rex) > 5, "{run:#?}");
    let kept = audit(&rex, &["script", &id, &file(&rex)]);
    assert_eq!(kept.ends(0).stdout, script);
    // What is longer is cut, and says so.
    fs::write(rex.config_file(), toml("1KiB")).unwrap();
    let run = rex.session(Some(&account), &[], Some("rex run"), &script);
    let id = run.ends(0).audit[0]["run"].as_str().unwrap().to_owned();
    let kept = audit(&rex, &["script", &id, &file(&rex)]);
    assert!(script.starts_with(&kept.stdout) && (1000..=1024).contains(&kept.stdout.len()), "{kept:#?}");
    assert!(kept.stderr.contains(&format!("its last {} bytes were not kept", script.len() - kept.stdout.len())), "{kept:#?}");
    // A piece that is changed shows, whoever made the chain good again.
    let text = fs::read_to_string(rex.audit_file()).unwrap();
    let other = rex.root().join("other");
    fs::write(&other, text.replace("// line 3 ", "// line 4 ")).unwrap();
    let first = rex.audit()[0]["run"].as_str().unwrap().to_owned();
    let kept = audit(&rex, &["script", &first, other.to_str().unwrap()]);
    assert!(kept.code == 1 && kept.stderr.contains("not the script that ran"), "{kept:#?}");
}

#[test]
fn records_are_followed_across_rotation() {
    let rex = Rex::new().policy(ALLOW_ALL);
    rex.run("\"before\"").ends(0);
    let all = file(&rex);
    let mut command = rex.command(&["audit", "follow", &all, "--event", "run_start", "--json"]);
    let out = rex.root().join("followed");
    command.stdin(std::process::Stdio::null()).stdout(fs::File::create(&out).unwrap());
    let mut following = command.spawn().unwrap();
    let lines = || fs::read_to_string(&out).unwrap().lines().count();
    // It begins at the end of the file as it finds it: tried until a run is seen.
    assert!(until(30.0, || {
        rex.run("1").ends(0);
        lines() > 0
    }));
    let running = long_run(&rex);
    let seen = |id: &str| until(30.0, || fs::read_to_string(&out).unwrap().contains(id));
    fs::rename(rex.audit_file(), rotated(&rex)).unwrap();
    let run = rex.run("2");
    assert!(seen(run.audit[0]["run"].as_str().unwrap()), "{run:#?}");
    fs::write(rex.data().join("end"), "").unwrap();
    running.finish(60).ends(0);
    // Emptied: what comes then is new.
    fs::write(rex.audit_file(), "").unwrap();
    let run = rex.run("3");
    let id = rex.audit()[0]["run"].as_str().unwrap().to_owned();
    run.ends(0);
    assert!(seen(&id));
    following.kill().unwrap();
    following.wait().unwrap();
    let text = fs::read_to_string(&out).unwrap();
    let ids: Vec<String> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["run"].as_str().unwrap().to_owned()).collect();
    let different: std::collections::HashSet<&String> = ids.iter().collect();
    assert_eq!(different.len(), ids.len(), "no record twice: {ids:#?}");
}

#[test]
fn following_ends_when_nobody_reads() {
    let rex = Rex::new().policy(ALLOW_ALL);
    rex.run("1").ends(0);
    let all = file(&rex);
    let mut command = rex.command(&["audit", "follow", &all, "--all"]);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut following = command.spawn().unwrap();
    drop(following.stdout.take());
    let ended = until(30.0, || following.try_wait().unwrap().is_some());
    let _ = following.kill();
    assert!(ended && following.wait().unwrap().code() == Some(0));
}

/// Whether a value is as a schema says: the words that docs/audit.schema.json uses, and no others.
fn fits(value: &Value, schema: &Value) -> Result<(), String> {
    for (word, rule) in schema.as_object().unwrap() {
        let good = match word.as_str() {
            "title" | "description" | "$schema" | "format" => true,
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_u64() || value.is_i64(),
                "boolean" => value.is_boolean(),
                other => panic!("type {other}"),
            },
            "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
            "pattern" => value.as_str().is_none_or(|text| regex::Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)),
            "enum" => rule.as_array().unwrap().contains(value),
            "const" => value == rule,
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    fits(item, rule)?;
                }
                true
            }
            "properties" => {
                for (name, of) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        fits(value, of).map_err(|why| format!("{name}: {why}"))?;
                    }
                }
                true
            }
            "required" => rule.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
            "additionalProperties" => {
                let known = schema["properties"].as_object().unwrap();
                value.as_object().unwrap().keys().all(|name| known.contains_key(name))
            }
            "oneOf" => rule.as_array().unwrap().iter().filter(|one| fits(value, one).is_ok()).count() == 1,
            other => panic!("the schema has a word that this test does not know: {other}"),
        };
        if !good {
            return Err(format!("{word} {rule}: {value}"));
        }
    }
    Ok(())
}

#[test]
fn records_of_real_runs_are_as_the_schema_says() {
    let text = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/audit.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let (rex, log) = with_syslog("keep_scripts = \"1KiB\"");
    let rex = rex.file("a", "text").dir("d/e").policy(
        "@id(\"all\") permit(principal, action, resource); forbid(principal, action == file_system::Action::\"delete\", resource);",
    );
    let script = "cat(\"{data}/a\"); exists(\"{data}/a\"); write(\"{data}/b\", \"x\"); for p in find(\"{data}\") { } try { rm(\"{data}/b\") } catch { } throw 1";
    rex.run(script).ends(1);
    let old = fs::read_to_string(rex.audit_file()).unwrap();
    // Each way to follow something.
    fs::rename(rex.audit_file(), rotated(&rex)).unwrap();
    rex.run("1").ends(0);
    let first = fs::read_to_string(rex.audit_file()).unwrap();
    for rest in ["{\"sch", "foreign\n"] {
        fs::write(rex.audit_file(), format!("{first}{rest}")).unwrap();
        let config = rex.config_file();
        common::run(rex.command(&["run", "-", "--config", config.to_str().unwrap(), "-e", "1"]), b"", 60);
    }
    let new = fs::read_to_string(rex.audit_file()).unwrap();
    // Nothing runs: a script that is no request.
    rex.session_command(None, &[], Some("ls -l")).output().unwrap();
    let refused = fs::read_to_string(rex.audit_file()).unwrap();
    let logged = fs::read_to_string(log.text(3)).unwrap();
    let quoted = logged.lines().filter_map(|line| line.find("{\"schema\"").map(|at| &line[at..]));
    let mut seen = std::collections::BTreeSet::new();
    for line in old.lines().chain(new.lines()).chain(refused.lines()).chain(quoted) {
        let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
        let kind = schema["oneOf"].as_array().unwrap().iter().find(|kind| kind["title"] == record["event"]);
        let kind = kind.unwrap_or_else(|| panic!("no such event: {line}"));
        fits(&record, kind).unwrap_or_else(|why| panic!("{why}\n{line}"));
        fits(&record, &schema).unwrap_or_else(|why| panic!("{why}\n{line}"));
        seen.insert(record["event"].as_str().unwrap().to_owned());
        if let Some(after) = record.get("after") {
            seen.insert(after["what"].as_str().unwrap().to_owned());
        }
    }
    for wanted in ["run_start", "script", "decision", "effect", "run_end", "refused", "anchor", "start", "rotation"] {
        assert!(seen.contains(wanted), "{wanted}: {seen:?}");
    }
    // A schema that takes everything would prove nothing.
    let mut record: Value = serde_json::from_str(old.lines().next().unwrap()).unwrap();
    record["surprise"] = 1.into();
    assert!(fits(&record, &schema).is_err());
}

#[test]
fn the_journal_has_the_records_and_knows_what_the_file_should_be() {
    needs_namespaces!();
    let rex = Rex::new().policy("@id(\"looks\") permit(principal, action == file_system::Action::\"stat\", resource);");
    let toml = format!("[audit]\nfile = \"{}\"\nsyslog = false\njournald = true\n", rex.audit_file().display());
    let rex = rex.whole_config(&toml);
    let systemd = common::Systemd::boot(&rex, &[]);
    let run = systemd.run(&rex, "exists(\"/nonexistent\"); cat(\"/nonexistent/secret\")");
    run.ends(77);
    let id = run.audit[0]["run"].as_str().unwrap().to_owned();
    let reference = run.json()["denials"][0]["ref"].as_str().unwrap().to_owned();
    let program = rex.program().to_str().unwrap().to_owned();
    let audit = |words: &[&str]| {
        let mut all = vec![program.as_str(), "audit"];
        all.extend(words);
        systemd.exec(&all)
    };
    // journald takes a moment.
    let all = run.audit.len();
    let shown = || audit(&["show", "--journal", "--json", "--run", &id]);
    assert!(until(20.0, || shown().stdout.lines().count() == all + 1), "{:#?}", shown());
    let of_ref = audit(&["show", "--journal", "--ref", &reference]);
    assert_eq!(of_ref.ends(0).stdout.lines().count(), 1, "{of_ref:#?}");
    assert!(audit(&["replay", "--journal", &id]).ends(0).stdout.contains("1 allowed, "), "replay");
    let verified = audit(&["verify", "--journal"]);
    assert!(verified.ends(0).stdout.contains("0 problems"), "{verified:#?}");
    let by_field = systemd.exec(&["journalctl", &format!("REX_REF={reference}"), "-o", "cat", "--no-pager"]);
    assert_eq!(by_field.stdout.lines().count(), 1, "{by_field:#?}");
    // The file against the journal.
    let path = file(&rex);
    let anchored = audit(&["verify", &path, "--anchors", "journal"]);
    assert!(anchored.ends(0).stdout.contains("1 anchors found, 0 records after"), "{anchored:#?}");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&path, lines[..lines.len() - 1].join("\n") + "\n").unwrap();
    audit(&["verify", &path]).ends(0);
    let anchored = audit(&["verify", &path, "--anchors", "journal"]);
    assert!(anchored.ends(1).stderr.contains("was removed or changed"), "{anchored:#?}");
    // Anybody may send an entry that looks like a record; only its true sender's counts.
    let forged = text.lines().next().unwrap().replace("\"uid\":0", "\"uid\":12345");
    let entry = format!("SYSLOG_IDENTIFIER=rex\nREX_EVENT=run_start\nREX_RECORD={forged}\nMESSAGE=x\n");
    fs::write(rex.root().join("entry"), entry).unwrap();
    systemd.exec(&["sh", "-c", &format!("logger --journald={}", rex.root().join("entry").display())]).ends(0);
    let left_out = || audit(&["show", "--journal", "--event", "run_start"]);
    assert!(until(20.0, || left_out().stderr.contains("1 entries of the journal are left out")), "{:#?}", left_out());
    assert!(!left_out().stdout.contains("12345"));
}
