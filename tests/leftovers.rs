//! Nothing of a run stays behind, however it ends: a second later no process that came of it is alive, and the record says how it ended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
use common::{Account, Key, Rex, Running, Sshd, children, until};
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
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let mut running =
        Running::start(rex.command(&["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap()]));
    running.send(script(&mark, &format!("/bin/sleep {mark}")).as_bytes());
    running.end_input();
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
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let mut running =
        Running::start(rex.command(&["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap()]));
    running.send(script(&mark, &format!("/bin/sleep {mark}")).as_bytes());
    running.end_input();
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
