//! The prompt of a login with a terminal: through a real sshd, on a real terminal. What it gives, what it refuses, and that nothing leads out of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Account, Key, Rex, Screen, Sshd, children, until};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// An account with a prompt on a host, and somebody at a terminal. (Fields are dropped in this order.)
struct Host {
    sshd: Sshd,
    key: Key,
    account: Account,
    rex: Rex,
}

const POLICY: &str = r#"
@id("all") permit(principal, action, resource);
@id("secret") @hint("for the security team")
forbid(principal, action, resource) when { resource is file_system::File && resource.path like "{data}/secret/*" };
@id("shut") forbid(principal, action, resource == file_system::Dir::"{data}/secret");
"#;

impl Host {
    fn new(settings: &str) -> Self {
        Self::with(settings, "/bin/sh", |rex| rex)
    }
    fn with(settings: &str, shell: &str, prepare: impl FnOnce(Rex) -> Rex) -> Self {
        let rex = Rex::new();
        let shell = shell.replace("{rexsh}", rex.root().join("rexsh").to_str().unwrap());
        if !shell.ends_with("/sh") {
            std::os::unix::fs::symlink(rex.program(), &shell).unwrap();
        }
        let account = Account::with_shell(shell.as_ref());
        let rex = rex.config(&format!("[interactive]\nallow = true\nhistory = \"../history\"\n{settings}")).policy(POLICY);
        let rex = prepare(rex.file("secret/key", "s3cret\n").file("open/alpha", "one\n").file("open/beta", "two\n").account(&account));
        for shared in ["history", "denials"] {
            fs::create_dir(rex.root().join(shared)).unwrap();
            fs::set_permissions(rex.root().join(shared), fs::Permissions::from_mode(0o1777)).unwrap();
        }
        std::os::unix::fs::chown(rex.path("open"), Some(account.uid), Some(account.gid)).unwrap();
        let key = Key::new(&rex, "key");
        let lines = if shell.ends_with("/sh") { "Match Group {group}\n    ForceCommand exec {rex} session --config {config}" } else { "" };
        let lines = lines.replace("{group}", &account.name);
        let sshd = if lines.is_empty() { Sshd::start_with_etc_rex(&rex, "") } else { Sshd::start(&rex, &lines) };
        sshd.authorize(&account.name, "", &key);
        Self { sshd, key, account, rex }
    }
    /// Logs in on a terminal of this name.
    #[track_caller]
    fn login_as(&self, term: &str) -> Screen {
        Screen::start(&self.rex, &self.sshd.command(&self.account.name, &self.key, &["-t"], &[]), term, (100, 40))
    }
    /// The same, and waits for the prompt.
    #[track_caller]
    fn login(&self) -> Screen {
        let screen = self.login_as("xterm-256color");
        screen.is_ready();
        screen
    }
    fn running(&self) -> Vec<u32> {
        children(&format!("{}/rex", self.rex.root().display()))
    }
    #[track_caller]
    fn is_gone(&self) {
        assert!(until(5.0, || self.running().is_empty()), "{:?} are left", self.running());
    }
    fn records(&self, event: &str) -> Vec<Value> {
        self.rex.audit().into_iter().filter(|record| record["event"] == event).collect()
    }
    fn history(&self) -> String {
        let files = fs::read_dir(self.rex.root().join("history")).unwrap();
        files.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }
}

#[test]
fn entries_are_run_one_by_one_and_what_they_define_stays() {
    needs_root!();
    let host = Host::new("");
    let screen = host.login();
    screen.shows("everything is recorded").enters("let x = 40").is_ready().enters("fn twice(n) { n * 2 }").is_ready();
    screen.enters("twice(x) + 4").shows("\n84\n").is_ready();
    screen.enters("let f = |n| n + x").is_ready().enters("f.call(1000)").shows("\n1040\n").is_ready();
    // What is open goes on in the next line.
    screen.enters("for i in 0..2 {").enters("print(`turn ${i}`)").enters("}").shows("turn 0\nturn 1\n").is_ready();
    // An open file stays open.
    screen.enters(&host.rex.fill("let h = open(\"{data}/open/alpha\")")).is_ready().enters("h.read_line()").shows("\none\n").is_ready();
    screen.enters("vars").shows("let   x: ").shows("fn    twice(n)").enters("help grep").shows("asks the policy for").is_ready();
    screen.enters("whoami").shows("principal  User::").enters("limits").shows("operations").is_ready();
    screen.enters("exit");
    assert_eq!(screen.code(10.0), 0, "{}", screen.text());
    host.is_gone();
    // The session is a run, and each entry one of its own in it.
    let starts = host.records("run_start");
    let session = starts[0]["run"].as_str().unwrap();
    assert_eq!((&starts[0]["interactive"], starts[0].get("session")), (&Value::Bool(true), None));
    assert_eq!(starts.len(), 9, "{starts:#?}");
    for start in &starts[1..] {
        assert_eq!(start["session"], session);
        assert_eq!(host.rex.audit().iter().filter(|record| record["run"] == start["run"] && record["event"] == "run_end").count(), 1);
    }
    let ends = host.records("run_end");
    assert_eq!((ends.last().unwrap()["run"].as_str(), &ends.last().unwrap()["exit"]), (Some(session), &Value::from(0)));
    let verified = host.rex.finish(host.rex.command(&["audit", "--verify", host.rex.audit_file().to_str().unwrap()]), b"");
    assert_eq!(verified.code, 0, "{verified:#?}");
}

#[test]
fn a_login_shell_gives_the_same_prompt() {
    needs_root!();
    needs_namespaces!();
    let host = Host::with("", "{rexsh}", |rex| rex);
    let screen = host.login();
    screen.enters("6 * 7").shows("\n42\n").is_ready().presses(&["C-d"]);
    assert_eq!(screen.code(10.0), 0);
    host.is_gone();
}

#[test]
fn without_the_owners_word_there_is_no_prompt_and_a_script_comes_from_no_terminal() {
    needs_root!();
    for (settings, request) in [("groups = [\"others\"]\n", &[][..]), ("", &["rex"][..]), ("", &["rex", "run"])] {
        let host = Host::new(settings);
        let run = host.sshd.begin(&host.account.name, &host.key, &["-tt"], request).finish(15);
        assert_eq!(run.code, 2, "{run:#?}");
        assert!(run.stdout.contains("-T"), "{run:#?}");
        assert_eq!(host.records("refused").len(), 1);
        assert!(host.records("run_start").is_empty());
        host.is_gone();
        // And without a terminal nothing changes.
        assert_eq!(host.sshd.ssh(&host.rex, &host.account.name, &host.key, &["-T"], &[], "6 * 7").stdout, "42\n");
    }
}

#[test]
fn what_is_denied_is_told_in_colour_recorded_and_not_done() {
    needs_root!();
    let host = Host::new("");
    let screen = host.login();
    screen
        .enters(&host.rex.fill("rm(\"{data}/secret/key\")"))
        .shows("ACCESS_DENIED_EXCEPTION")
        .shows("hint: for the security team")
        .is_ready();
    assert!(screen.coloured().contains("\u{1b}[31mACCESS_DENIED_EXCEPTION"), "{:?}", screen.coloured());
    assert_eq!(host.rex.read("secret/key"), "s3cret\n");
    let denied: Vec<Value> = host.records("decision").into_iter().filter(|record| record["decision"] == "deny").collect();
    let reference = denied[0]["ref"].as_str().unwrap();
    assert!(denied[0]["session"].is_string());
    screen.enters(&format!("why {reference}")).shows(&format!("{reference}: file_system")).is_ready();
    screen.enters(&host.rex.fill("can read {data}/secret/key")).shows("\nno\n").is_ready();
    screen.enters(&host.rex.fill("can read {data}/open/beta")).shows("\nyes\n").is_ready();
    screen.enters(&host.rex.fill("rm(\"{data}/open/beta\")")).is_ready();
    assert!(!host.rex.exists("open/beta"));
    // A command that is none, and words that belong to none.
    screen.enters("can fly /etc").shows("no action `fly`").enters("exit now").shows("takes nothing more").is_ready();
    screen.enters("exit(3)");
    assert_eq!(screen.code(10.0), 3);
}

#[test]
fn paths_are_completed_where_they_may_be_listed_and_nowhere_else() {
    needs_root!();
    let host = Host::with("", "/bin/sh", |rex| rex.file("open/a\u{1b}]2;x\u{7}b", "").dir("open/zoo"));
    let screen = host.login();
    screen
        .types(&host.rex.fill("cat(\"{data}/open/be"))
        .presses(&["Tab"])
        .shows("open/beta")
        .types("\")")
        .presses(&["Enter"])
        .shows("\ntwo\n")
        .is_ready();
    screen.types(&host.rex.fill("ls(\"{data}/open/")).presses(&["Tab"]).shows("alpha").shows("zoo/").shows("a\\u001b]2;x\\u0007b");
    screen.presses(&["C-c"]).is_ready();
    screen.types(&host.rex.fill("cat(\"{data}/secret/")).presses(&["Tab"]).presses(&["Tab"]);
    let denials =
        || host.records("decision").iter().filter(|record| record["decision"] == "deny" && record["function"] == "completion").count();
    assert!(until(10.0, || denials() == 1), "{:#?}", host.records("decision"));
    assert!(!screen.text().contains("secret/key"), "{}", screen.text());
    screen.presses(&["C-c"]).is_ready();
    let walks: Vec<Value> = host.records("walk_summary");
    assert!(!walks.is_empty(), "listing for completion is on record");
    // Words, options, runbooks.
    screen.types("gre").presses(&["Tab"]).shows("> grep(").presses(&["C-u"]).types("ls(\"/\", #{lo").presses(&["Tab"]).shows("#{long: ");
    screen.presses(&["C-c"]).is_ready().enters("let horizon = 1").is_ready().types("horiz").presses(&["Tab"]).shows("> horizon");
    screen.presses(&["C-c"]).is_ready().presses(&["C-d"]);
    assert_eq!(screen.code(10.0), 0);
}

#[test]
fn ctrl_c_stops_what_runs_and_the_session_goes_on() {
    needs_root!();
    let host = Host::new("");
    let screen = host.login();
    let follow = host.rex.fill("follow(\"{data}/open/alpha\", |line| print(line))");
    for entry in ["sleep(60)", "loop {}", "let a = []; loop { a.push(1); a.pop() }", follow.as_str(), "exec(\"/bin/sleep\", [\"61\"])"] {
        screen.enters(entry);
        assert!(until(10.0, || host.records("run_start").len() > host.records("run_end").len() + 1), "{entry}: {}", screen.text());
        screen.presses(&["C-c"]).is_ready();
        assert!(until(10.0, || host.records("run_end").last().is_some_and(|end| end["exit"] == 130)), "{entry}: {}", screen.text());
    }
    assert_eq!(screen.text().matches("\ninterrupted\n").count(), 5, "{}", screen.text());
    assert!(children("/bin/sleep 61").is_empty());
    // What is typed while something runs is there for the next line.
    screen.enters("sleep(1); print(\"slept\")").types("1000 + 1").shows("slept").presses(&["Enter"]).shows("\n1001\n").is_ready();
    screen.presses(&["C-d"]);
    assert_eq!(screen.code(10.0), 0);
    host.is_gone();
}

#[test]
fn limits_are_those_of_an_entry_and_the_session_goes_on_where_it_can() {
    needs_root!();
    let host = Host::new("[limits]\nwall = 2\nmemory = \"32MiB\"\noperations = 2000000\ndenials = 3\noutput = \"4KiB\"\n");
    let screen = host.login();
    screen.enters("sleep(60)").shows("the time limit of 2 s was reached").is_ready();
    screen.enters("loop {}").shows("operations was reached").is_ready();
    screen.enters("let s = \"\"; s.pad(5000, \"x\"); s").shows("output limit").is_ready();
    screen.enters("let a = []; loop { a.push(\"y\" + a.len()) }").shows("reached").is_ready();
    screen.enters("6 * 7").shows("\n42\n").is_ready();
    for _ in 0..3 {
        screen.enters(&host.rex.fill("cat(\"{data}/secret/key\")")).is_ready();
    }
    // Nobody finds out by trying, entry by entry.
    screen.enters(&host.rex.fill("cat(\"{data}/secret/key\")")).shows("its limit of denied operations was reached");
    assert_eq!(screen.code(10.0), 125);
    host.is_gone();
}

#[test]
fn a_session_ends_when_nothing_is_typed_and_after_its_time() {
    needs_root!();
    let host = Host::new("idle = 2\n");
    let screen = host.login();
    screen.shows("nothing was typed for 2 s");
    assert_eq!(screen.code(10.0), 124);
    drop(screen);
    // Half an escape sequence holds the editor up, and nothing else.
    let screen = host.login();
    screen.presses(&["-H", "1b", "5b"]).shows("nothing was typed for 2 s");
    assert_eq!(screen.code(10.0), 124);
    host.is_gone();
    let host = Host::new("total = 4\n");
    let screen = host.login();
    screen.enters("sleep(60)").shows("the session is over: it may last 4 s");
    assert_eq!(screen.code(10.0), 124);
    host.is_gone();
    assert_eq!(host.records("run_end").iter().filter(|end| end["exit"] == 124).count(), 2);
}

#[test]
fn a_terminal_that_goes_away_ends_everything() {
    needs_root!();
    for entry in ["sleep(61)", "exec(\"/bin/sleep\", [\"62\"])", ""] {
        let host = Host::new("");
        let screen = host.login();
        screen.enters(entry);
        if !entry.is_empty() {
            assert!(until(10.0, || host.records("run_start").len() == 2), "{}", screen.text());
        }
        screen.close();
        host.is_gone();
        assert!(children("/bin/sleep 62").is_empty());
        let ends = host.records("run_end");
        assert_eq!(
            (ends.len(), &ends.last().unwrap()["exit"]),
            (if entry.is_empty() { 1 } else { 2 }, &Value::from(130)),
            "{entry}: {ends:#?}"
        );
    }
}

#[test]
fn policies_that_change_hold_from_the_next_entry_on() {
    needs_root!();
    let host = Host::new("");
    let screen = host.login();
    let read = host.rex.fill("cat(\"{data}/open/alpha\")");
    screen.enters(&read).shows("\none\n").is_ready();
    screen.enters(&host.rex.fill("let h = open(\"{data}/open/beta\")")).is_ready();
    let policy = host.rex.policy_file();
    fs::write(&policy, host.rex.fill(&format!("{POLICY}\nforbid(principal, action, resource == file_system::Dir::\"{{data}}/open\");\nforbid(principal, action, resource in file_system::Dir::\"{{data}}/open\");"))).unwrap();
    screen.enters(&read).shows("the policies have changed").shows("ACCESS_DENIED_EXCEPTION").is_ready();
    // What was open before, too.
    screen.enters("h.read_line()").is_ready();
    assert!(!screen.text().contains("\ntwo\n"), "{}", screen.text());
    assert_eq!(host.records("policy_change").len(), 1);
    fs::write(&policy, "permit(principal == User::\"nobody-else\", action, resource);").unwrap();
    screen.enters("1").shows("the permission to run has ended");
    assert_eq!(screen.code(10.0), 130);
    host.is_gone();
}

#[test]
fn nothing_that_is_typed_leads_out_or_harms() {
    needs_root!();
    let host = Host::with("", "/bin/sh", |rex| rex.file("open/evil", "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}5mred\n"));
    let screen = host.login();
    // No job control, no editor, no shell.
    screen.presses(&["C-z"]).presses(&["C-\\"]).presses(&["C-o"]).presses(&["C-s"]).presses(&["C-q"]).presses(&["C-c"]).is_ready();
    screen.enters("!id").shows("EXCEPTION").is_ready().enters("sleep(1)").presses(&["C-z"]).presses(&["C-\\"]).is_ready();
    // What the host has in its files steers no terminal.
    screen.enters(&host.rex.fill("cat(\"{data}/open/evil\")")).shows("\\u{1b}[2J").is_ready();
    screen.enters("throw \"a\\x1b[2Jb\"").shows("a\\u{1b}[2Jb").is_ready();
    // A paste with control characters is no entry, and does nothing while it is shown.
    screen.pastes("print(1)\u{1}\u{2}\u{7}\u{1b}]2;x").presses(&["Enter"]).shows("no control characters").is_ready();
    screen.pastes("let pasted = 1;\nlet both = pasted + 1;\nprint(`both ${both}`)").presses(&["Enter"]).shows("both 2\n").is_ready();
    screen.enters("6 * 7").shows("\n42\n").is_ready();
    screen.presses(&["C-d"]);
    assert_eq!(screen.code(10.0), 0, "{}", screen.text());
    host.is_gone();
}

#[test]
fn a_line_of_a_megabyte_is_refused_and_the_session_goes_on() {
    needs_root!();
    let host = Host::new("");
    let screen = host.login();
    screen.pastes(&format!("\"{}\"", "x".repeat(1 << 20))).presses(&["Enter"]);
    assert!(until(40.0, || screen.text().contains("at most 65536 bytes")), "{}", screen.text().len());
    screen.is_ready().enters("6 * 7").shows("\n42\n").is_ready().presses(&["C-d"]);
    assert_eq!(screen.code(10.0), 0);
}

#[test]
fn a_terminal_of_no_known_name_gets_plain_lines_without_an_escape() {
    needs_root!();
    let host = Host::new("");
    for term in ["dumb", "vt100", "../../x"] {
        let screen = host.login_as(term);
        let raw = host.rex.root().join("raw");
        screen.copies_to(&raw);
        screen.is_ready().enters("6 * 7").shows("\n42\n").is_ready();
        screen.enters("for i in 0..2 {").goes_on().enters("print(`n${i}`)").goes_on().enters("}").shows("\nn0\nn1\n").is_ready();
        screen.enters(&host.rex.fill("cat(\"{data}/secret/key\")")).shows("ACCESS_DENIED").is_ready();
        // Ctrl-C clears a line, stops what runs, and Ctrl-D leaves.
        screen.types("print(\"half").shows("> print(\"half").presses(&["C-c"]).is_ready().enters("sleep(60)");
        assert!(until(10.0, || host.records("run_start").len() > host.records("run_end").len() + 1), "{}", screen.text());
        screen.presses(&["C-c"]).shows("\ninterrupted\n").is_ready();
        // What the kernel cuts is not run.
        screen.types("print(\"r\" + \"an\"); // ").types(&"x".repeat(5000)).presses(&["Enter"]).shows("nothing ran").is_ready();
        assert!(!screen.text().contains("\nran"), "{}", screen.text());
        screen.enters("exit(4)");
        assert_eq!(screen.code(10.0), 4, "{}", screen.text());
        let sent = fs::read_to_string(&raw).unwrap();
        assert!(sent.contains("42") && !sent.contains('\u{1b}'), "{sent:?}");
    }
    host.is_gone();
}

#[test]
fn the_history_is_the_callers_own_and_not_what_others_put_there() {
    needs_root!();
    let host = Host::new("");
    let screen = host.login();
    screen.enters("1 + 1234").shows("\n1235\n").is_ready().enters(" \"secret word\"").shows("\nsecret word\n").is_ready().presses(&["C-d"]);
    assert_eq!(screen.code(10.0), 0);
    drop(screen);
    assert!(host.history().contains("1 + 1234") && !host.history().contains("secret word"), "{}", host.history());
    let screen = host.login();
    screen.presses(&["Up"]).shows("> 1 + 1234").presses(&["C-c"]).is_ready().presses(&["C-d"]);
    assert_eq!(screen.code(10.0), 0);
    drop(screen);
    // A link in its place is not followed, nor is a file of somebody else written to: the history is in memory then.
    let file = fs::read_dir(host.rex.root().join("history")).unwrap().next().unwrap().unwrap().path();
    let target = host.rex.root().join("target");
    for odd in ["link", "owner"] {
        fs::remove_file(&file).unwrap();
        fs::write(&target, "kept\n").unwrap();
        if odd == "link" {
            std::os::unix::fs::symlink(&target, &file).unwrap()
        } else {
            fs::copy(&target, &file).map(drop).unwrap()
        }
        let screen = host.login();
        screen
            .enters("2 + 2345")
            .shows("\n2347\n")
            .is_ready()
            .presses(&["Up"])
            .shows("> 2 + 2345")
            .presses(&["C-c"])
            .is_ready()
            .presses(&["C-d"]);
        assert_eq!(screen.code(10.0), 0, "{odd}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept\n", "{odd}");
    }
    // Scripts do not reach it, whatever a policy says.
    let screen = host.login();
    screen.enters(&format!("write({:?}, \"x\")", file.to_str().unwrap())).shows("ACCESS_DENIED_EXCEPTION").is_ready();
}

#[test]
fn the_line_is_drawn_anew_when_the_window_changes() {
    needs_root!();
    let host = Host::new("");
    let screen = host.login();
    screen.types("let long = \"one two three four five six seven eight nine ten eleven twelve thirteen\"");
    screen.resize(50, 20);
    screen.shows("thirteen\"").presses(&["Enter"]).is_ready().enters("long.len()").shows("\n71\n").is_ready();
    screen.resize(120, 40);
    screen.enters("6 * 7").shows("\n42\n").is_ready().presses(&["C-d"]);
    assert_eq!(screen.code(10.0), 0);
}

#[test]
fn the_owner_tries_policies_at_a_prompt() {
    let rex = Rex::new()
        .policy(POLICY)
        .file("secret/key", "s3cret\n")
        .file("open/alpha", "one\n")
        .runbook("count", "print(`from ${a} on`); a + 1");
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let command = rex.command(&[
        "repl",
        "--config",
        config.to_str().unwrap(),
        "-p",
        policy.to_str().unwrap(),
        "--principal",
        "alice",
        "--group",
        "oncall",
    ]);
    let screen = Screen::start(&rex, &command, "xterm-256color", (100, 40));
    screen.is_ready().shows("alice@").enters("run @count a=7").shows("from 7 on\n8\n").is_ready();
    screen.enters(&rex.fill("cat(\"{data}/secret/key\")")).shows("ACCESS_DENIED_EXCEPTION").is_ready();
    screen.enters(&rex.fill("cat(\"{data}/open/alpha\")")).shows("\none\n").is_ready().presses(&["C-d"]);
    assert_eq!(screen.code(10.0), 0);
    let run = rex.finish(rex.command(&["repl"]), b"1\n");
    assert_eq!(run.code, 2, "{run:#?}");
}
