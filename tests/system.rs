//! Processes and the machine through the binary: signals, waiting, settings of the kernel, its messages, disks, accounts; what is allowed is done, what is
//! denied is not, and both are on record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Rex, alive, is_root};
use std::process::{Child, Command, Stdio};

/// A process that ends with the test.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        let child = Command::new("sleep").arg("97.5").stdin(Stdio::null()).spawn().unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        while std::fs::read_to_string(&comm).unwrap().trim() != "sleep" {
            std::thread::yield_now();
        }
        Self(child)
    }
    fn pid(&self) -> u32 {
        self.0.id()
    }
    fn ended_by(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt as _;
        self.0.wait().unwrap().signal()
    }
    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn only_sleepers(verbs: &str) -> Rex {
    Rex::new().policy(&format!(
        r#"permit(principal, action in [{verbs}], resource) when {{ resource.name == "sleep" && resource.command == "sleep 97.5" }};"#
    ))
}

const KILL: &str = r#"process_system::Action::"kill""#;

#[test]
fn a_permitted_signal_is_sent_and_recorded() {
    let mut sleeper = Sleeper::new();
    let run = only_sleepers(KILL).run(&format!("kill({}).map(|row| [row.name, row.signal, row.sent])", sleeper.pid()));
    run.gives(serde_json::json!([["sleep", "SIGTERM", true]]));
    assert_eq!(sleeper.ended_by(), Some(libc::SIGTERM));
    let decision = run.events("decision")[0];
    assert_eq!((&decision["decision"], &decision["context"]["signal"]), (&"allow".into(), &"SIGTERM".into()));
    let effect = run.events("effect")[0];
    assert_eq!((&effect["result"], &effect["detail"]), (&"ok".into(), &"SIGTERM".into()));
}

#[test]
fn every_way_to_name_a_signal_sends_that_one() {
    let rex = Rex::new().policy(ALLOW_ALL);
    for (how, number) in [
        ("\"KILL\"", libc::SIGKILL),
        ("\"sigusr1\"", libc::SIGUSR1),
        ("15", libc::SIGTERM),
        ("#{signal: \"HUP\"}", libc::SIGHUP),
        ("\"SIGRTMIN+1\"", libc::SIGRTMIN() + 1),
    ] {
        let mut sleeper = Sleeper::new();
        rex.run(&format!("kill({}, {how})[0].sent", sleeper.pid())).gives(true);
        assert_eq!(sleeper.ended_by(), Some(number), "{how}");
    }
    let mut sleeper = Sleeper::new();
    rex.run(&format!("kill([kill::SIGKILL], {})[0].signal", sleeper.pid())).gives("SIGKILL");
    assert_eq!(sleeper.ended_by(), Some(libc::SIGKILL));
    for bad in ["kill(1, \"TERMINATE\")", "kill(1, 32)", "kill(0)", "kill(-1)", "kill([1, -5])", "kill(1, #{sig: 9})"] {
        let run = rex.run(bad);
        run.ends(1);
        assert_eq!(run.json()["error"]["kind"], "bad_argument", "{bad}");
        assert!(run.events("effect").is_empty(), "{bad}");
    }
}

#[test]
fn what_is_denied_gets_no_signal() {
    let mut sleeper = Sleeper::new();
    let pid = sleeper.pid();
    // SIGHUP is another verb; a policy may leave signals out.
    only_sleepers(KILL).run(&format!("kill({pid}, \"HUP\")")).is_denied();
    only_sleepers(r#"process_system::Action::"interrupt""#).run(&format!("kill({pid})")).is_denied();
    let term = Rex::new().policy(&format!(r#"permit(principal, action == {KILL}, resource) when {{ context.signal == "SIGTERM" }};"#));
    term.run(&format!("kill({pid}, \"KILL\")")).is_denied();
    Rex::new()
        .policy(&format!(r#"permit(principal, action == {KILL}, resource) when {{ resource.name == "other" }};"#))
        .run(&format!("kill({pid})"))
        .is_denied();
    // Of several, one that is denied keeps the others from it too.
    only_sleepers(KILL).run(&format!("kill([{pid}, 1])")).is_denied();
    assert!(sleeper.runs());
    // A number that nobody has tells nothing to whom it is denied.
    only_sleepers(KILL).run("kill(2147483647)").is_denied();
    let absent = term.run("kill(2147483647)");
    absent.ends(1);
    assert_eq!(absent.json()["error"]["kind"], "not_found");
}

#[test]
fn a_dry_run_sends_nothing_and_tells_of_it() {
    let mut sleeper = Sleeper::new();
    let run = Rex::new().policy(ALLOW_ALL).run_with(&["--dry-run"], &format!("kill({})", sleeper.pid()));
    assert_eq!(run.json()["would_change_count"], 1, "{run:#?}");
    assert!(sleeper.runs());
}

#[test]
fn rex_and_what_it_hangs_on_are_spared_unless_a_policy_names_them() {
    let own = std::process::id();
    // This test is the parent of the run.
    let run = Rex::new().policy(ALLOW_ALL).run(&format!("kill({own}, \"TERM\")"));
    run.ends(1);
    assert_eq!(run.json()["error"]["kind"], "bad_argument");
    assert!(run.events("effect").is_empty());
    Rex::new().policy(ALLOW_ALL).run(&format!("kill({own}, 0)[0].sent")).gives(true);
    let named = format!(r#"permit(principal, action == {KILL}, resource == process_system::Process::"{own}");"#);
    // SIGURG does nothing to whoever does not ask for it.
    Rex::new().policy(&named).run(&format!("kill({own}, \"URG\")[0].sent")).gives(true);
    // Its own helpers are spared too.
    let run = Rex::new()
        .policy(ALLOW_ALL)
        .run("let own = ps(#{name: \"rex inspector\"}).map(|p| p.pid); if own.is_empty() { exit(true) } kill(own)");
    assert!(alive(own), "{run:#?}");
}

#[test]
fn waiting_ends_with_the_process_or_with_the_time() {
    let sleeper = Sleeper::new();
    let pid = sleeper.pid();
    let rex = Rex::new().policy(ALLOW_ALL);
    rex.run(&format!("wait_for({pid}, 0.05).ended")).gives(false);
    // The killed process is a zombie until this test takes notice of it: it has ended all the same.
    rex.run(&format!("kill({pid}, \"KILL\"); wait_for({pid}, 20).ended")).gives(true);
    Rex::new().policy("permit(principal, action, resource is file_system::File);").run(&format!("wait_for({pid}, 1)")).is_denied();
}

#[test]
fn processes_are_found_by_name_and_told_of_at_length() {
    let sleeper = Sleeper::new();
    let pid = sleeper.pid();
    let rex = only_sleepers(r#"process_system::Action::"list""#);
    rex.run(&format!("pgrep(\"^sleep 97\\\\.5$\", #{{full: true}}).contains({pid})")).gives(true);
    rex.run("pgrep(\"sle\", #{exact: true}).len()").gives(0);
    let run = rex.run(&format!("let p = process({pid}); [p.name, p.limits.open_files.unit, p.exe != (), p.no_new_privileges]"));
    let value = run.ends(0).value();
    assert_eq!((&value[0], &value[1], &value[3]), (&"sleep".into(), &"files".into(), &false.into()));
    if is_root() {
        assert_eq!(value[2], true);
    }
    rex.run("process(1)").is_denied();
    Rex::new().policy(ALLOW_ALL).run("process(2147483647)").ends(1);
}

fn sysctl(verbs: &str, path: &str) -> Rex {
    Rex::new().policy(&format!(r#"permit(principal, action in [{verbs}], resource == file_system::File::"{path}");"#))
}

#[test]
fn a_setting_is_read_and_written_only_where_its_file_may_be() {
    needs_root!();
    const PATH: &str = "/proc/sys/vm/stat_interval";
    const WRITE: &str = r#"file_system::Action::"write""#;
    let before = std::fs::read_to_string(PATH).unwrap().trim().to_owned();
    let rex = sysctl(r#"file_system::Action::"read""#, PATH);
    rex.run("sysctl_read(\"vm.stat_interval\")").gives(before.as_str());
    rex.run("sysctl_read(\"kernel.ostype\")").is_denied();
    rex.run(&format!("sysctl_write(\"vm.stat_interval\", {before})")).is_denied();
    let run = sysctl(WRITE, PATH).run(&format!("let w = sysctl_write(\"vm/stat_interval\", {before}); [w.key, w.value, w.changed]"));
    run.gives(serde_json::json!(["vm.stat_interval", before, false]));
    assert_eq!(run.events("effect")[0]["result"], "ok");
    // What the kernel does not take is an error and changes nothing.
    let run = sysctl(WRITE, PATH).run("sysctl_write(\"vm.stat_interval\", \"many\")");
    run.ends(1);
    assert_eq!(run.json()["error"]["kind"], "bad_argument");
    assert_eq!(std::fs::read_to_string(PATH).unwrap().trim(), before);
    for bad in ["../../etc/passwd", "vm..stat", "/vm/x", "vm", "", "vm/../kernel/ostype"] {
        let run = Rex::new().policy(ALLOW_ALL).run(&format!("sysctl_read(\"{bad}\")"));
        run.ends(1);
        assert_eq!(run.json()["error"]["kind"], "bad_argument", "{bad}");
    }
    let run = Rex::new().policy(ALLOW_ALL).run("sysctl_write(\"vm.no_such_setting\", 1)");
    run.ends(1);
    assert_eq!(run.json()["error"]["kind"], "not_found");
}

#[test]
fn a_changed_setting_is_on_record_with_both_values() {
    needs_root!();
    const PATH: &str = "/proc/sys/vm/stat_interval";
    let before: i64 = std::fs::read_to_string(PATH).unwrap().trim().parse().unwrap();
    let after = before + 1;
    let run = Rex::new().policy(ALLOW_ALL).run(&format!(
        "let w = sysctl_write(\"vm.stat_interval\", {after}); sysctl_write(\"vm.stat_interval\", {before}); [w.before, w.value, w.changed]"
    ));
    std::fs::write(PATH, before.to_string()).unwrap();
    run.gives(serde_json::json!([before.to_string(), after.to_string(), true]));
    let detail = run.events("effect")[0]["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains(&format!("-vm.stat_interval = {before}")) && detail.contains(&format!("+vm.stat_interval = {after}")),
        "{detail}"
    );
}

#[test]
fn the_messages_of_the_kernel_are_shown_where_the_device_may_be_read() {
    let rex = sysctl(r#"file_system::Action::"read""#, "/dev/kmsg");
    let run = rex.run("dmesg(#{limit: 2}).all(|m| m.seconds >= 0.0 && m.priority <= 7)");
    if run.code != 0 {
        assert!(["unsupported", "permission"].contains(&run.json()["error"]["kind"].as_str().unwrap()), "{run:#?}");
        return;
    }
    run.gives(true);
    sysctl(r#"file_system::Action::"read""#, "/proc/stat").run("dmesg()").is_denied();
}

#[test]
fn figures_agree_with_the_files_that_they_are_from() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let boot = std::fs::read_to_string("/proc/stat").unwrap();
    let cpus = boot.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    rex.run("cpu_stats().cpus.len()").gives(cpus as u64);
    let release = std::fs::read_to_string("/etc/os-release").unwrap();
    let id = release.lines().find_map(|line| line.strip_prefix("ID=")).unwrap().trim_matches('"').to_owned();
    rex.run("os_release().id").gives(id);
    rex.run("user(\"root\").groups.contains(\"root\") && users().len() > 0 && group(0).name == \"root\"").gives(true);
    rex.run("id().euid").gives(u64::from(rustix::process::geteuid().as_raw()));
}
