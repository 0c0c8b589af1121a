//! Nothing of a run stays behind, however it ends: a second later no process that came of it is alive, and the record says how it ended. Bombs go off
//! in control groups that hold them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Account, Corral, Key, Rex, Running, Sshd, children, until};
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};

const EVERYTHING: &str = "permit(principal, action, resource);";

/// A number of seconds to sleep that no other process of this host sleeps, to find those of one test again.
fn mark() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{:03}", 4000 + std::process::id() % 1000, COUNT.fetch_add(1, Ordering::Relaxed))
}
/// A program that leaves much behind: children, orphans, sessions of their own, some that ignore being asked to end.
fn much(mark: &str) -> String {
    format!(
        "(/bin/sleep {mark} &) ; /usr/bin/setsid /bin/sleep {mark} & (/usr/bin/setsid /bin/sh -c 'trap \"\" TERM HUP INT; /bin/sleep {mark}; true' &) ; "
    )
}
fn script(mark: &str, end: &str) -> String {
    format!("exec(\"/bin/sh\", [\"-c\", `{}{end}`], #{{timeout: 50}})", much(mark))
}
#[track_caller]
fn appear(mark: &str, count: usize) {
    assert!(until(10.0, || children(mark).len() >= count), "only {:?} of {count} are there", children(mark));
}
#[track_caller]
fn are_gone(mark: &str) {
    assert!(until(1.0, || children(mark).is_empty()), "a second later these are alive: {:?}", children(mark));
}

/// A run of the host's owner, under way, in a control group if one is given.
fn begin(rex: &Rex, script: &str, corral: Option<&Corral>) -> Running {
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let command = rex.command(&["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"]);
    let mut running = Running::start(match corral {
        Some(corral) => corral.hold(&command),
        None => command,
    });
    running.send(script.as_bytes());
    running.end_input();
    running
}
/// The processes below one, by name.
fn below(pid: u32, name: &str) -> u32 {
    let mut all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let found = all.find(|child| comm(*child).trim() == name && (parent(*child) == pid || parent(parent(*child)) == pid));
    found.unwrap_or_else(|| panic!("no process `{name}` below {pid}"))
}

#[test]
fn what_a_program_leaves_behind_ends_with_it() {
    let (rex, mark) = (Rex::new().policy(EVERYTHING), mark());
    // Not by the end of the run: it is looked while the run goes on.
    let run = rex.run(&format!(
        "let r = {}; [r.status, r.duration < 10.0, exec(\"/usr/bin/pgrep\", [\"-f\", \"-c\", \"{mark}\"]).stdout]",
        script(&mark, "exit 7")
    ));
    assert_eq!((run.value()[0].clone(), run.value()[1].clone()), (json!(7), json!(true)), "{run:#?}");
    are_gone(&mark);
    assert!(
        run.events("effect").iter().any(|effect| effect["detail"].as_str().unwrap().contains("it left behind were killed")),
        "{run:#?}"
    );
}

#[test]
fn rex_killed_without_a_word_leaves_nothing() {
    let (rex, mark) = (Rex::new().policy(EVERYTHING), mark());
    let mut running = begin(&rex, &script(&mark, &format!("/bin/sleep {mark}")), None);
    appear(&mark, 4);
    running.kill();
    are_gone(&mark);
    assert!(until(1.0, || running.status().is_some()));
    assert!(rex.audit().iter().all(|record| record["event"] != "run_end"));
    // The check of the records tells of a run that has no end, and that nobody writes one any more.
    let told = rex.finish(rex.command(&["audit", "--verify", rex.audit_file().to_str().unwrap()]), b"");
    assert!(told.stderr.contains("has no end record: its process is gone"), "{told:#?}");
}

#[test]
fn a_signal_ends_the_run_and_all_of_it_and_is_on_record() {
    let (rex, mark) = (Rex::new().policy(EVERYTHING), mark());
    let running = begin(&rex, &script(&mark, &format!("/bin/sleep {mark}")), None);
    appear(&mark, 4);
    rustix::process::kill_process(rustix::process::Pid::from_raw(running.id() as i32).unwrap(), rustix::process::Signal::TERM).unwrap();
    are_gone(&mark);
    assert!(until(2.0, || rex.audit().iter().any(|record| record["event"] == "run_end")));
}

#[test]
fn too_many_processes_end_the_programs() {
    let (rex, mark) = (Rex::new().config("[limits]\nchildren = 20\n").policy(EVERYTHING), mark());
    let bomb = format!(
        "exec(\"/bin/sh\", [\"-c\", `n=$1; f() {{ i=0; while [ $i -lt 150 ]; do /bin/sleep {mark} & i=$((i+1)); done; wait; }}; f & f & f & f & wait`])"
    );
    let run = rex.run(&bomb);
    assert_eq!((run.ends(125).error_type(), run.json()["error"]["kind"].clone()), ("LIMIT_EXCEPTION".to_owned(), json!("limit")));
    are_gone(&mark);
    assert_eq!(run.events("run_end").len(), 1, "{run:#?}");
}

#[test]
fn too_much_memory_ends_the_programs() {
    let rex = Rex::new().config("[limits]\nmemory = \"64MiB\"\n").policy(EVERYTHING);
    let run = rex.run("pipeline([[\"/usr/bin/head\", \"-c1G\", \"/dev/zero\"], [\"/usr/bin/tail\", \"-c1G\"]])");
    assert_eq!((run.ends(125).error_type(), run.json()["error"]["kind"].clone()), ("LIMIT_EXCEPTION".to_owned(), json!("limit")));
    assert!(run.seconds < 10.0, "{}", run.seconds);
}

/// A real ssh client and server, a program under way; what is killed is chosen by the test. Then everything is gone, and the end is on record if
/// rex could write it.
fn over_ssh(recorded: bool, end: impl FnOnce(&mut Running, u32)) {
    let account = Account::new();
    let rex = Rex::new().config("identity = [\"argument\", \"user\"]\n").policy(EVERYTHING).account(&account);
    let key = Key::new(&rex, "key");
    let sshd = Sshd::start(&rex, &format!("Match Group {}\n    ForceCommand exec {{rex}} session --config {{config}}", account.name));
    sshd.authorize(&account.name, "", &key);
    let mark = mark();
    let mut client = sshd.begin(&account.name, &key, &[], &["rex"]);
    client.send(script(&mark, &format!("/bin/sleep {mark}")).as_bytes());
    client.end_input();
    appear(&mark, 4);
    let own = rex.program().to_str().unwrap();
    let session =
        children(own).into_iter().find(|pid| comm(parent(*pid)).starts_with("sshd")).unwrap_or_else(|| panic!("no session of rex"));
    end(&mut client, session);
    are_gone(&mark);
    assert!(until(1.0, || children(own).is_empty()), "rex or its broker is alive");
    assert_eq!(until(1.0, || rex.audit().iter().any(|record| record["event"] == "run_end")), recorded, "{:#?}", rex.audit());
}
fn comm(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
}
fn parent(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok()).unwrap_or(0)
}
fn sigkill(pid: u32) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid as i32).unwrap(), rustix::process::Signal::KILL).unwrap();
}

#[test]
fn an_ssh_client_that_is_killed_takes_everything_with_it() {
    needs_root!();
    over_ssh(true, |client, _| client.kill());
}

#[test]
fn a_session_process_of_sshd_that_is_killed_takes_everything_with_it() {
    needs_root!();
    over_ssh(true, |_, rex| sigkill(parent(rex)));
}

#[test]
fn rex_killed_in_a_session_takes_everything_with_it() {
    needs_root!();
    over_ssh(false, |_, rex| sigkill(rex));
}

#[test]
fn whoever_kills_the_broker_or_its_guard_leaves_nothing() {
    for name in ["rex broker", "rex guard"] {
        let (rex, mark) = (Rex::new().policy(EVERYTHING), mark());
        let script =
            format!("let e = (); try {{ {} }} catch (e2) {{ e = e2.kind }} print(e); e", script(&mark, &format!("/bin/sleep {mark}")));
        let mut running = begin(&rex, &script, None);
        appear(&mark, 4);
        sigkill(below(running.id(), name));
        are_gone(&mark);
        assert!(until(1.0, || running.status().is_some()), "{name}: the run goes on");
        let run = running.finish(5);
        // The run itself is as it was: it is told, and its end is on record.
        assert_eq!(run.ends(0).value(), json!("unavailable"), "{name}: {run:#?}");
        assert!(rex.audit().iter().any(|record| record["event"] == "run_end"), "{name}");
    }
}

/// Programs that make others as fast as they can; none of them ever ends by itself.
const BOMBS: [(&str, &str); 3] = [
    ("plain", "#!/bin/sh\nwhile :; do \"$1\" \"$1\" & done\n"),
    ("a session each", "#!/bin/sh\nwhile :; do /usr/bin/setsid \"$1\" \"$1\" & done\n"),
    ("orphans", "#!/bin/sh\nwhile :; do (/usr/bin/setsid \"$1\" \"$1\" > /dev/null 2>&1 &) ; done\n"),
];

/// A bomb under way in a control group of its own, then the end that the test chooses; a second later it is empty.
fn bomb(children: u32, end: impl Fn(&mut Running, &Corral)) {
    needs_root!();
    for (name, text) in BOMBS {
        let Some(corral) = Corral::of_processes(300) else {
            eprintln!("skipped: no control groups here");
            return;
        };
        let rex = Rex::new().config(&format!("[limits]\nchildren = {children}\n")).policy(EVERYTHING).file("bomb", text);
        std::fs::set_permissions(rex.path("bomb"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        // The program itself stays whatever happens to the bomb: who cannot fork any more ends.
        let script = format!("exec(\"/bin/sh\", [\"-c\", `{0} {0} & exec /bin/sleep 4000`])", rex.path("bomb"));
        let mut running = begin(&rex, &script, Some(&corral));
        end(&mut running, &corral);
        // Those that are there when it goes off are not all yet: the second begins when rex has said so.
        assert!(until(10.0, || running.status().is_some()), "{name}: the run goes on");
        assert!(until(1.0, || corral.inside().is_empty()), "{name}: a second later there are {} processes", corral.inside().len());
    }
}

#[test]
fn a_fork_bomb_ends_at_the_limit() {
    bomb(20, |_, _| {});
}

#[test]
fn a_fork_bomb_ends_with_rex_that_is_killed() {
    // More than there can be, so that no limit ends it.
    bomb(4000, |running, corral| {
        assert!(until(10.0, || corral.inside().len() > 100), "the bomb does not go off");
        running.kill();
    });
}

#[test]
fn a_fork_bomb_ends_with_the_broker_that_is_killed() {
    bomb(4000, |running, corral| {
        assert!(until(10.0, || corral.inside().len() > 100), "the bomb does not go off");
        sigkill(below(running.id(), "rex broker"));
    });
}

#[test]
fn a_child_that_the_kernel_kills_for_memory_takes_only_itself_along() {
    needs_root!();
    let Some(corral) = Corral::of_memory(96 << 20) else {
        eprintln!("skipped: no control groups here");
        return;
    };
    let (rex, mark) = (Rex::new().config("[limits]\nmemory = \"1GiB\"\n").policy(EVERYTHING), mark());
    let hog = format!("{} /usr/bin/head -c1G /dev/zero | /usr/bin/tail -c1G > /dev/null; true", much(&mark));
    let run =
        begin(&rex, &format!("let r = exec(\"/bin/sh\", [\"-c\", `{hog}`], #{{timeout: 50}}); [r.status, 7]"), Some(&corral)).finish(60);
    assert_eq!(run.ends(0).value(), json!([0, 7]), "{run:#?}");
    are_gone(&mark);
    assert!(until(1.0, || corral.inside().is_empty()));
}

#[test]
fn the_next_start_records_the_end_of_a_run_that_was_killed() {
    let (rex, mark) = (Rex::new().policy(EVERYTHING).runs(), mark());
    let mut running = begin(&rex, &script(&mark, &format!("/bin/sleep {mark}")), None);
    appear(&mark, 4);
    let id = rex.audit()[0]["run"].clone();
    // While it runs it is no business of others.
    assert_eq!(rex.run("1").ends(0).events("run_end").len(), 1);
    running.kill();
    are_gone(&mark);
    assert!(until(1.0, || running.status().is_some()));
    let next = rex.run("2");
    let lost: Vec<_> = next.events("run_end").into_iter().filter(|record| record["how"] == "unknown").collect();
    assert_eq!(lost.len(), 1, "{next:#?}");
    assert_eq!((&lost[0]["run"], &lost[0]["found_by"]), (&id, &next.json()["run"]));
    assert!(lost[0].get("exit").is_none(), "{lost:?}");
    // Once.
    assert_eq!(rex.run("3").ends(0).events("run_end").len(), 1);
    let told = rex.finish(rex.command(&["audit", "--verify", rex.audit_file().to_str().unwrap()]), b"");
    assert!(!told.ends(0).stderr.contains("no end record"), "{told:#?}");
    // Runs that end in order leave nothing to tell of, and their files go.
    assert_eq!(std::fs::read_dir(rex.runs_folder()).unwrap().count(), 1);
}

#[test]
fn an_account_tells_of_its_own_runs_only_and_root_of_all() {
    needs_root!();
    let (account, other) = (Account::new(), Account::new());
    let rex = Rex::new().config("identity = [\"argument\", \"user\"]\n").policy(EVERYTHING).runs().account(&account);
    let put = |owner: &Account, name: String, text: &str| {
        let path = rex.runs_folder().join(name);
        std::fs::write(&path, text).unwrap();
        std::os::unix::fs::chown(&path, Some(owner.uid), Some(owner.gid)).unwrap();
    };
    let unknown = |run: &common::Run| {
        run.events("run_end")
            .iter()
            .filter(|record| record["how"] == "unknown")
            .map(|record| record["uid"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let session = |account: Option<&Account>| rex.session(account, &[], Some("rex -o json"), "1");
    put(&account, format!("{}.r-20260101T000000-0000000001", account.uid), "open");
    // A file that says it is somebody else's.
    put(&other, format!("{}.r-20260101T000000-0000000002", account.uid), "open");
    put(&other, "0.r-20260101T000000-0000000003".into(), "open");
    let run = session(Some(&account));
    assert_eq!(unknown(run.ends(0)), [u64::from(account.uid)], "{run:#?}");
    put(&other, format!("{}.r-20260101T000000-0000000004", other.uid), "open");
    assert_eq!(unknown(session(None).ends(0)), [u64::from(other.uid)]);
    // A flood of another account holds up nobody, and is not told of by others.
    for n in 0..2000 {
        put(&other, format!("{}.r-20260102T000000-{n:010}", other.uid), "open");
    }
    let run = session(Some(&account));
    assert!(unknown(run.ends(0)).is_empty() && run.seconds < 5.0, "{run:#?}");
    // Whoever may write everywhere may not write here.
    let run = rex.run(&format!("write(\"{}/x\", \"open\")", rex.runs_folder().display()));
    run.is_denied();
}
