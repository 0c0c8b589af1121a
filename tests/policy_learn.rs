//! `rex policy learn`, `unused` and `diff`: what is proposed is exactly what was asked, and nothing is claimed that the records do not show.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Account, Rex, Run};
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A set that permits nothing that the scripts here do.
const BASE: &str = "@id(\"base\") permit(principal in Group::\"oncall\", action == sysinfo::Action::\"list\", resource);";

struct Host {
    rex: Rex,
    learned: u32,
}

impl Host {
    fn new(policy: &str) -> Self {
        Self { rex: Rex::new().policy(policy), learned: 0 }
    }
    fn with(self, change: impl FnOnce(Rex) -> Rex) -> Self {
        Self { rex: change(self.rex), ..self }
    }
    /// A script of alice, who is on call, under the policies of the folder.
    #[track_caller]
    fn run(&self, script: &str) -> Run {
        self.run_as("alice", &["--group", "oncall"], script)
    }
    #[track_caller]
    fn run_as(&self, who: &str, more: &[&str], script: &str) -> Run {
        let config = self.rex.config_file();
        let mut all = vec!["run", "-", "--config", config.to_str().unwrap(), "-o", "json", "--principal", who];
        all.extend(more);
        self.rex.finish(self.rex.command(&all), self.rex.fill(script).as_bytes())
    }
    #[track_caller]
    fn policy(&self, arguments: &[&str]) -> Run {
        let config = self.rex.config_file();
        let mut all = vec!["policy"];
        all.extend(arguments);
        all.extend(["--config", config.to_str().unwrap()]);
        let filled: Vec<String> = all.iter().map(|word| self.rex.fill(word)).collect();
        self.rex.finish(self.rex.command(&filled.iter().map(String::as_str).collect::<Vec<_>>()), b"")
    }
    /// Learns into a file of the policies; gives what it says.
    #[track_caller]
    fn learn(&mut self, more: &[&str]) -> String {
        self.learned += 1;
        let file = self.folder().join(format!("learned-{}.cedar", self.learned));
        let mut all = vec!["learn", "-o", file.to_str().unwrap()];
        all.extend(more);
        let run = self.policy(&all);
        run.ends(0);
        fs::read_to_string(&file).unwrap_or_else(|_| run.stderr.clone())
    }
    fn folder(&self) -> PathBuf {
        self.rex.policy_file().parent().unwrap().to_owned()
    }
    /// Runs and learns until nothing is denied any more.
    #[track_caller]
    fn until_allowed(&mut self, script: &str) -> Run {
        for _ in 0..15 {
            let run = self.run(script);
            if run.denials() == 0 {
                return run;
            }
            self.learn(&[]);
        }
        panic!("it is denied still: {:#?}", self.run(script));
    }
    fn records(&self) -> PathBuf {
        self.rex.audit_file()
    }
}

#[test]
fn what_a_script_was_denied_is_learned_until_it_runs_and_nothing_beside_it() {
    for (script, neighbour) in [
        (r#"cat("{data}/a.log")"#, r#"cat("{data}/b.log")"#),
        (r#"[stat("{data}/a.log").size, exists("{data}/b.log")]"#, r#"cat("{data}/b.log")"#),
        (r#"write("{data}/new", "text"); chmod("{data}/new", 0o600); cat("{data}/new")"#, r#"write("{data}/other", "text")"#),
        (r#"chmod("{data}/a.log", 0o640)"#, r#"chmod("{data}/a.log", 0o666)"#),
        (r#"if !is_dir("{data}/d") { mkdir("{data}/d") } mv("{data}/a.log", "{data}/d/a.log")"#, r#"mv("{data}/b.log", "{data}/d/b.log")"#),
        (r#"rm("{data}/a.log")"#, r#"rm("{data}/b.log")"#),
        (r#"find("{data}").len()"#, r#"find("{root}").len()"#),
        (r#"exec("/bin/echo", ["it's", "a \"b\"", "*"]).stdout"#, r#"exec("/bin/echo", ["it's", "a \"b\"", "x"]).stdout"#),
        (
            r#"exec("/bin/echo", [], #{env: #{LANG: "C"}, stdin: "x"}).status"#,
            r#"exec("/bin/echo", [], #{env: #{PATH: "C"}, stdin: "x"}).status"#,
        ),
    ] {
        let mut host = Host::new(BASE).with(|rex| rex.file("a.log", "one\n").file("b.log", "two\n"));
        host.run(script).is_denied();
        host.until_allowed(script).ends(0);
        let before = fs::read_dir(host.rex.data()).unwrap().count();
        host.run(neighbour).is_denied();
        assert_eq!(fs::read_dir(host.rex.data()).unwrap().count(), before, "{neighbour}");
        assert!(host.run_as("bob", &["--group", "oncall"], neighbour).code != 0, "{neighbour}");
        // It is in the style of `rex policy format`.
        let learned = host.folder().join("learned-1.cedar");
        let learned = learned.to_str().unwrap();
        host.rex.finish(host.rex.command(&["policy", "format", "--check", learned]), b"").ends(0);
        // The whole set is strictly valid, and learning again has nothing to add.
        host.policy(&["check"]).ends(0);
        let again = host.policy(&["learn", "--run", "r-"]);
        assert!(again.ends(0).stderr.contains("allowed by the present policies already"), "{again:#?}");
    }
}

#[test]
fn hostile_names_are_written_exactly() {
    let names: &[&[u8]] = &[
        b"plain",
        b"plain2",
        b"with \"quotes\"",
        b"with \"quotes",
        b"line\nbreak",
        b"line",
        b"*",
        b"a*",
        b"back\\slash",
        b"back\\\\slash",
        b"\\u{41}",
        b"A",
        b"\\x41",
        b"\x1b[31m",
        b"caf\xc3\xa9",
        b"cafe\xcc\x81",
        b"\xff\xfe",
        b"\\xff",
        "\u{202e}gnp.exe".as_bytes(),
        "\u{200b}".as_bytes(),
        b"\"); permit(principal, action, resource); #",
        b"?principal",
        b" ",
        b"$(x)`",
    ];
    let mut host = Host::new(BASE);
    let path = |name: &[u8]| host.rex.data().join(std::ffi::OsStr::from_bytes(name));
    for name in names {
        fs::write(path(name), name).unwrap();
    }
    // Every other one is asked for, by its bytes.
    let list = |which: usize| {
        let blobs = names.iter().enumerate().filter(|(at, _)| at % 2 == which).map(|(_, name)| {
            let bytes: Vec<String> = path(name).as_os_str().as_bytes().iter().map(u8::to_string).collect();
            format!("[{}]", bytes.join(","))
        });
        let all: Vec<String> = blobs.collect();
        format!(
            "let no = 0; for bytes in [{}] {{ let b = blob(); for x in bytes {{ b.push(x); }} try {{ read_bytes(b); }} catch(e) {{ if e.kind == \"denied\" {{ no += 1 }} else {{ throw e }} }} }} no",
            all.join(",")
        )
    };
    let (asked, others) = (list(0), list(1));
    let half = i64::try_from(names.len() / 2).unwrap();
    host.run(&asked).gives(half);
    let text = host.learn(&[]);
    assert_eq!(text.matches("@id(").count(), names.len() / 2, "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}' || c == '\u{200b}'), "{text:?}");
    host.run(&asked).gives(0);
    host.run(&others).gives(half);
}

#[test]
fn what_is_sensitive_closed_or_forbidden_is_named_and_not_proposed() {
    let policy = format!("{BASE}\n@id(\"never\") forbid(principal, action, resource == file_system::File::\"{{data}}/never\");");
    let mut host = Host::new(&policy).with(|rex| rex.file("never", "").file("site.pem", "").file("plain", ""));
    let script = r#"
        for path in ["/etc/shadow", "/etc/ssh/x", "/root/x", "/root/.ssh/id_rsa", "/proc/meminfo", "/etc/sudoers.d/x", "/etc/cron.d/x", "{root}/etc/rex.toml", "{data}/site.pem", "{data}/never", "{data}/plain"] {
            try { cat(path) } catch {}
        }
        try { write("/etc/passwd", "") } catch {}
        try { ps() } catch {}
        try { exec("/bin/echo", ["password"], #{secret: [0]}) } catch {}
        try { exec("/bin/echo", [], #{env: #{LD_PRELOAD: "/x"}}) } catch {}
    "#;
    host.run(script);
    let text = host.learn(&[]);
    assert_eq!(text.matches("@id(").count(), 1, "{text}");
    assert!(text.contains("{data}/plain".replace("{data}", host.rex.data().to_str().unwrap()).as_str()));
    assert!(!text.contains("password\""), "{text}");
    for (what, why) in [
        ("/etc/shadow", "password hashes"),
        ("/etc/ssh/x", "log in"),
        ("/root/x", "root's own"),
        ("/root/.ssh/id_rsa", "closed whatever a policy says"),
        ("/proc/meminfo", "kernel's own"),
        ("/etc/sudoers.d/x", "log in"),
        ("/etc/cron.d/x", "started"),
        ("etc/rex.toml", "rex's own"),
        ("site.pem", "keys"),
        ("data/never", "`never` forbids it"),
        ("/etc/passwd", "log in"),
        ("Process", "not on record"),
        ("/bin/echo", "secret"),
        ("/bin/echo", "LD_PRELOAD"),
    ] {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("// not proposed: ") && line.contains(what)).collect();
        assert!(lines.iter().any(|line| line.contains(why)), "{what}: {why}: {text}");
    }
    host.run(r#"cat("{data}/plain")"#).ends(0);
    // Named one by one, it is proposed; what no policy opens is not, and no forbid is undone.
    let pem = host.rex.path("site.pem");
    let text = host.learn(&["--include", &pem, "--include", "/root/.ssh/id_rsa", "--include", &host.rex.path("never")]);
    assert_eq!(text.matches("@id(").count(), 1, "{text}");
    host.run(r#"cat("{data}/site.pem")"#).ends(0);
    host.run(r#"cat("{data}/never")"#).is_denied();
}

#[test]
fn a_folder_is_merged_only_where_asked_and_never_over_sensitive_places() {
    let mut host = Host::new(BASE)
        .with(|rex| rex.file("log/a", "").file("log/b", "").file("log/c", "").file("log/key.pem", "").file("one/x", "").file("log2/a", ""));
    let script = r#"for path in ["log/a", "log/b", "one/x", "log2/a"] { try { cat("{data}/" + path) } catch {} }"#;
    host.run(script);
    for (folder, says) in [
        ("/", "canonical"),
        ("/etc", "is in it"),
        ("/root", "sensitive"),
        ("{data}/log/", "canonical"),
        ("{root}", "is in it"),
        ("log", "canonical"),
    ] {
        let run = host.policy(&["learn", "--folder", folder]);
        assert!(run.ends(2).stderr.contains(says), "{folder}: {run:#?}");
        assert!(run.stdout.is_empty(), "{run:#?}");
    }
    let text = host.learn(&["--folder", "{data}/log", "--folder", "{data}/one"]);
    assert_eq!(text.matches("@id(").count(), 3, "{text}");
    assert_eq!(text.matches("resource is file_system::File in").count(), 1, "{text}");
    host.run(script).ends(0);
    host.run(r#"cat("{data}/log/c")"#).ends(0);
    for path in ["log/key.pem", "log", "log2/b", "one/y"] {
        host.run(&format!("cat(\"{{data}}/{path}\")")).is_denied();
    }
    host.run(r#"write("{data}/log/a", "x")"#).is_denied();
}

#[test]
fn permits_for_a_group_come_of_what_its_members_asked() {
    let mut host = Host::new(BASE).with(|rex| rex.file("a", "").file("b", ""));
    host.run(r#"cat("{data}/a")"#).is_denied();
    host.run_as("bob", &["--group", "others"], r#"cat("{data}/b")"#).is_denied();
    let text = host.learn(&["--group", "oncall"]);
    assert!(text.contains("principal in Group::\"oncall\"") && text.matches("@id(").count() == 1, "{text}");
    host.run_as("carol", &["--group", "oncall"], r#"cat("{data}/a")"#).ends(0);
    host.run_as("bob", &["--group", "others"], r#"cat("{data}/a")"#).is_denied();
    host.run(r#"cat("{data}/b")"#).is_denied();
    let text = host.learn(&["--principal", "bob"]);
    assert!(text.contains("principal == User::\"bob\"") && text.contains("data/b"), "{text}");
}

#[test]
fn records_may_be_packed_cut_or_no_records_and_nothing_is_overwritten() {
    let host = Host::new(BASE).with(|rex| rex.file("a", ""));
    host.run(r#"cat("{data}/a")"#).is_denied();
    let long = format!("{}/{}", host.rex.data().display(), "x".repeat(200)).repeat(20);
    host.run(&format!("try {{ cat(\"{}\") }} catch {{}}", long.chars().take(4000).collect::<String>()));
    let plain = fs::read(host.records()).unwrap();
    let packed = host.rex.data().join("records.gz");
    let mut gzip = flate2::write::GzEncoder::new(fs::File::create(&packed).unwrap(), flate2::Compression::default());
    gzip.write_all(b"no record\n{\"schema\":\"other/1\"}\n\xff\xff\n").unwrap();
    gzip.write_all(&plain).unwrap();
    gzip.write_all(b"{\"schema\":\"rex.audit/1\",\"event\":\"decision\",\"decision\":\"deny\",\"action\":\"x\"").unwrap();
    gzip.finish().unwrap();
    let run = host.policy(&["learn", packed.to_str().unwrap()]);
    assert!(run.ends(0).stderr.contains("4 lines are no records"), "{run:#?}");
    assert!(run.stderr.contains("1 questions were cut"), "{run:#?}");
    assert_eq!(run.stdout.matches("+@id(").count(), 1, "{run:#?}");
    let file = host.rex.data().join("p.cedar");
    fs::write(&file, "mine").unwrap();
    assert!(host.policy(&["learn", "-o", file.to_str().unwrap()]).ends(2).stderr.contains("nothing is overwritten"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let wrong = host.policy(&["learn", "-o", host.rex.data().join("p.txt").to_str().unwrap()]);
    assert!(wrong.ends(2).stderr.contains("NAME.cedar"), "{wrong:#?}");
    assert_eq!(host.policy(&["learn", "/nonexistent"]).code, 2);
    assert_eq!(host.policy(&["learn", "--since", "tomorrow"]).code, 2);
    assert!(host.policy(&["learn", "--since", "2999-01-01T00:00:00Z"]).ends(0).stderr.contains("nothing to propose"));
    assert!(host.policy(&["learn", "--since", "1h"]).ends(0).stdout.contains("+@id("));
}

#[test]
fn records_of_any_size_are_read_in_bounded_memory() {
    let host = Host::new(BASE).with(|rex| rex.file("a", ""));
    host.run(r#"cat("{data}/a")"#).is_denied();
    let one = fs::read(host.records()).unwrap();
    let big = host.rex.data().join("big.jsonl");
    let mut file = std::io::BufWriter::new(fs::File::create(&big).unwrap());
    let (mut size, target) = (0, 48 << 20);
    while size < target {
        file.write_all(&one).unwrap();
        size += one.len();
    }
    file.into_inner().unwrap();
    // The program is large itself in a debug build, and validation has a stack of 64 MiB on each of its threads.
    let script = format!("ulimit -v 1200000; exec {} \"$@\"", host.rex.program().display());
    let (records, config) = (big.to_str().unwrap(), host.rex.config_file());
    let folder = host.folder();
    let limited = |arguments: &[&str]| {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &script, "sh", "policy"]).args(arguments).args(["--config", config.to_str().unwrap()]);
        host.rex.finish(command, b"")
    };
    let learned = limited(&["learn", records]);
    assert_eq!(learned.ends(0).stdout.matches("+@id(").count(), 1, "{learned:#?}");
    assert!(limited(&["unused", records]).ends(0).stdout.contains("base"));
    let same = folder.to_str().unwrap();
    assert!(limited(&["diff", same, same, "--records", records]).ends(0).stdout.contains("no decision differs"));
}

/// A learning run at the local command line.
#[track_caller]
fn learning(host: &Host, more: &[&str], script: &str) -> (Run, PathBuf) {
    let file = host.rex.root().join("proposal.cedar");
    let _ = (fs::remove_file(&file), fs::remove_file(file.with_extension("test.toml")));
    let mut all = vec!["--group", "oncall", "--learn", file.to_str().unwrap()];
    all.extend(more);
    (host.run_as("alice", &all, script), file)
}

#[test]
fn a_learning_run_looks_at_what_is_not_permitted_and_is_on_record() {
    needs_root!();
    let policy = format!("{BASE}\n@id(\"never\") forbid(principal, action, resource == file_system::File::\"{{data}}/never\");");
    let host = Host::new(&policy).with(|rex| rex.file("d/a", "one").file("d/b", "").file("never", "").file("x.pem", ""));
    let script = r#"
        let kinds = [];
        for path in ["never", "x.pem"] { try { cat("{data}/" + path) } catch(e) { kinds.push(e.kind) } }
        try { cat("/etc/shadow") } catch(e) { kinds.push(e.kind) }
        try { write("{data}/new", "x") } catch(e) { kinds.push(e.kind) }
        [cat("{data}/d/a"), find("{data}/d").len(), kinds]
    "#;
    let (run, file) = learning(&host, &[], script);
    run.ends(0);
    assert_eq!(run.value()[0], "one", "{run:#?}");
    assert_eq!(run.value()[2], serde_json::json!(["denied", "denied", "denied", "denied"]), "{run:#?}");
    assert!(!host.rex.exists("new"));
    assert_eq!(run.events("run_start")[0]["facts"]["learning"], "looks");
    let learned: Vec<_> = run.events("decision").into_iter().filter(|record| record["decision"] == "allow").collect();
    assert!(
        !learned.is_empty() && learned.iter().all(|record| record["policies"] == serde_json::json!(["rex-learning:file_system"])),
        "{run:#?}"
    );
    // What was written on the way is proposed too, since it was denied; with the proposal in place the script runs without learning.
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("data/d/a") && text.contains("data/new") && text.contains("`never` forbids it"), "{text}");
    fs::copy(&file, host.folder().join("proposal.cedar")).unwrap();
    host.run(r#"[cat("{data}/d/a"), find("{data}/d").len()]"#).ends(0);
    host.run(r#"cat("{data}/d/b")"#).is_denied();
    // Records of a learning run are records of what policies deny.
    let again = host.policy(&["learn", "--run", "r-"]);
    assert!(again.ends(0).stderr.contains("already"), "{again:#?}");
}

#[test]
fn a_learning_run_changes_things_only_where_that_is_said_too() {
    needs_root!();
    let host = Host::new(BASE);
    let script = r#"write("{data}/new", "x"); exec("/bin/echo", ["hi"]).stdout"#;
    learning(&host, &[], script).0.is_denied();
    assert!(!host.rex.exists("new"));
    let (run, file) = learning(&host, &["--learn-changes"], script);
    run.gives("hi\n");
    assert_eq!(run.events("run_start")[0]["facts"]["learning"], "changes");
    fs::copy(&file, host.folder().join("proposal.cedar")).unwrap();
    host.run(script).gives("hi\n");
    host.run(r#"exec("/bin/echo", ["ho"])"#).is_denied();
    // Even then, what decides the next login is shut.
    let (run, _) = learning(
        &host,
        &["--learn-changes"],
        r#"let no = 0; for path in ["/etc/passwd", "/root/.bashrc", "/etc/cron.d/x", "/usr/bin/rex-x"] { try { write(path, "") } catch(e) { if e.kind == "denied" { no += 1 } } } no"#,
    );
    run.gives(4);
}

#[test]
fn no_one_learns_in_a_session_or_over_ssh_or_without_records() {
    needs_root!();
    let account = Account::new();
    let host = Host::new(ALLOW_ALL).with(|rex| rex.account(&account));
    let file = host.rex.root().join("proposal.cedar");
    let path = file.to_str().unwrap();
    let config = host.rex.config_file();
    for request in [
        format!("rex run --learn {path}"),
        format!("rex --learn {path}"),
        format!("--learn {path}"),
        format!("rex run --learn={path}"),
        format!("run --learn {path} --learn-changes"),
        format!("rex -e 1 --learn {path}"),
        format!("rex run @book --learn {path}"),
        format!("rex check --learn {path}"),
        format!("rex can --learn {path}"),
        "rex policy learn".to_owned(),
        format!("rex policy learn -o {path}"),
        "rex policy unused".to_owned(),
        "rex policy diff a b".to_owned(),
    ] {
        let run = host.rex.session(None, &[], Some(&request), "1");
        assert_eq!(run.code, 2, "{request}: {run:#?}");
        assert!(!file.exists(), "{request}");
    }
    let local = ["run", "-e", "1", "--config", config.to_str().unwrap(), "--learn", path];
    for name in ["SSH_ORIGINAL_COMMAND", "SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"] {
        let mut command = host.rex.command(&local);
        command.env(name, "x");
        let run = host.rex.finish(command, b"");
        assert!(run.ends(2).stderr.contains("over ssh"), "{run:#?}");
    }
    let mut command = host.rex.command(&local);
    account.become_(&mut command);
    let run = host.rex.finish(command, b"");
    assert!(run.ends(2).stderr.contains("for root"), "{run:#?}");
    assert!(!file.exists() && run.audit.is_empty());
    // Something of that name, also a dangling link, is left alone.
    std::os::unix::fs::symlink("/nonexistent/x", &file).unwrap();
    host.rex.finish(host.rex.command(&local), b"").ends(2);
    fs::remove_file(&file).unwrap();
    // A policy of the owner that does not load stops it, and no file stays.
    let host = host.with(|rex| rex.policy("permit("));
    host.rex.finish(host.rex.command(&local), b"").ends(78);
    assert!(!file.exists() && !file.with_extension("test.toml").exists());
    host.rex.finish(host.rex.command(&["run", "-e", "1", "--learn-changes"]), b"").ends(2);
}

#[test]
fn rules_that_decided_nothing_are_listed_and_those_that_cannot() {
    let policy = r#"
@id("read-a") permit(principal == User::"alice", action == file_system::Action::"read", resource == file_system::File::"{data}/a");
@id("walked") permit(principal, action == file_system::Action::"read", resource in file_system::Dir::"{data}/d");
@id("idle") permit(principal == User::"carol", action, resource in file_system::Dir::"{data}/never");
@id("covered") permit(principal == User::"alice", action == file_system::Action::"read", resource == file_system::File::"{data}/d/x");
@id("no") forbid(principal, action, resource == file_system::File::"{data}/no");
@id("dead") permit(principal == User::"alice", action, resource == file_system::File::"{data}/no");
"#;
    let host = Host::new(policy).with(|rex| rex.file("a", "").file("no", "").file("d/x", "").file("d/e/y", ""));
    host.run(r#"cat("{data}/a"); find("{data}/d").len()"#).ends(0);
    host.run(r#"cat("{data}/no")"#).is_denied();
    let run = host.policy(&["unused"]);
    let (unused, shadowed) = run.ends(0).stdout.split_once("cannot decide anything").unwrap();
    assert!(unused.contains("permit idle") && unused.contains("2 runs"), "{run:#?}");
    for used in ["read-a", "walked", "forbid no"] {
        assert!(!unused.contains(used), "{used}: {run:#?}");
    }
    assert!(shadowed.contains("dead  shadowed: `no`") && shadowed.contains("covered  redundant: `walked`"), "{run:#?}");
    let json = host.policy(&["unused", "--json"]).ends(0).json();
    assert_eq!(json["schema"], "rex.policy.unused/1");
    assert_eq!(json["rules"], 6);
    let ids: Vec<&str> = json["unused"].as_array().unwrap().iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"idle") && !ids.contains(&"walked"), "{json:#}");
    // After a change of the set, what was used was used under another one.
    let before = host.policy(&["unused"]).stdout;
    let host = host.with(|rex| rex.policy(&format!("{policy}\n// changed")));
    let after = host.policy(&["unused"]).ends(0).stdout.clone();
    assert!(!before.contains("under earlier sets alone") && after.contains("under earlier sets alone"), "{after}");
    assert!(host.policy(&["unused", "--since", "2999-01-01T00:00:00Z"]).ends(0).stdout.contains("0 records"));
}

fn set(host: &Host, name: &str, text: &str) -> String {
    let path = host.rex.root().join(name);
    fs::write(&path, host.rex.fill(text)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_difference_says_what_is_proved_and_no_more() {
    let host = Host::new(BASE);
    let old = set(
        &host,
        "old.cedar",
        "@id(\"a\") permit(principal in Group::\"g\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/srv/a\");",
    );
    let says = |new: &str, code: i32, says: &[&str]| {
        let run = host.policy(&["diff", &old, &set(&host, "new.cedar", new)]);
        assert_eq!(run.code, code, "{new}: {run:#?}");
        for text in says {
            assert!(run.stdout.contains(text), "{text}: {run:#?}");
        }
    };
    // The same content in other words, another order, another file.
    says(
        "// hello\n@id(\"b\")\npermit (principal in Group::\"g\",\n  action in [file_system::Action::\"read\"],\n  resource in file_system::Dir::\"/srv/a\");",
        0,
        &["no decision differs"],
    );
    says(
        "@id(\"a\") @hint(\"x\") permit(principal in Group::\"g\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/srv/a\");",
        0,
        &["changes no decision", "no decision differs"],
    );
    let a = |resource: &str, rest: &str| {
        format!("@id(\"a\") permit(principal in Group::\"g\", action == file_system::Action::\"read\", {resource}){rest};")
    };
    says(&a("resource in file_system::Dir::\"/srv\"", ""), 1, &["resource widened", "may newly permit", "the sets differ"]);
    says(&a("resource == file_system::File::\"/srv/a/x\"", ""), 1, &["resource narrowed", "may newly deny"]);
    says(&a("resource in file_system::Dir::\"/srv/a\"", " when { resource has owner }"), 1, &["condition narrowed", "may newly deny"]);
    says(&a("resource in file_system::Dir::\"/opt\"", ""), 1, &["resource unknown", "cannot be told"]);
    let with = |more: &str| format!("{}\n{more}", a("resource in file_system::Dir::\"/srv/a\"", ""));
    says(
        &with(
            "@id(\"n\") permit(principal == User::\"x\", action == file_system::Action::\"write\", resource == file_system::File::\"/srv/b\");",
        ),
        1,
        &["newly permits", "+ permit n"],
    );
    says(
        &with(
            "@id(\"n\") permit(principal in Group::\"g\", action == file_system::Action::\"read\", resource == file_system::File::\"/srv/a/x\");",
        ),
        0,
        &["permitted all of it already"],
    );
    says(
        &with("@id(\"n\") forbid(principal, action == file_system::Action::\"read\", resource == file_system::File::\"/srv/a/x\");"),
        1,
        &["may newly deny"],
    );
    says(
        &with("@id(\"n\") forbid(principal, action == file_system::Action::\"read\", resource == file_system::File::\"/srv/b\");"),
        0,
        &["no permit concerned any of it"],
    );
    says("@id(\"z\") permit(principal, action == sysinfo::Action::\"list\", resource);", 1, &["- permit a", "newly denies", "+ permit z"]);
    says("permit(", 78, &[]);
    says("permit(principal, action == file_system::Action::\"raed\", resource);", 78, &[]);
    assert_eq!(host.policy(&["diff", &old, "/nonexistent"]).code, 78);
    let json = host.policy(&["diff", &old, &set(&host, "new.cedar", &with("@id(\"n\") permit(principal, action, resource);")), "--json"]);
    let json = json.ends(1).json();
    assert_eq!((json["schema"].as_str().unwrap(), &json["differs"]), ("rex.policy.diff/1", &true.into()));
    assert_eq!(json["rules"][0]["change"], "added");
}

#[test]
fn recorded_questions_are_put_to_both_sets() {
    let host = Host::new(ALLOW_ALL).with(|rex| rex.file("a", "").file("b", "").file("c", ""));
    host.run(r#"cat("{data}/a"); cat("{data}/b"); cat("{data}/c"); try { exec("/bin/echo", ["-n"]) } catch {}"#);
    host.run_as("bob", &[], r#"cat("{data}/a")"#).ends(0);
    let records = host.records();
    let records = records.to_str().unwrap();
    let old = set(
        &host,
        "old.cedar",
        "@id(\"a\") permit(principal in Group::\"oncall\", action == file_system::Action::\"read\", resource == file_system::File::\"{data}/a\");",
    );
    let new = set(
        &host,
        "new.cedar",
        "@id(\"b\") permit(principal in Group::\"oncall\", action == file_system::Action::\"read\", resource == file_system::File::\"{data}/b\");
         @id(\"c\") permit(principal, action == file_system::Action::\"read\", resource == file_system::File::\"{data}/c\") when { resource has owner && resource.owner == \"root\" };
         @id(\"e\") permit(principal, action == file_system::Action::\"execute\", resource) when { context.argv == \"-n\" && context.user.uid == 0 };",
    );
    let run = host.policy(&["diff", &old, &new, "--records", records, "--json"]);
    let json = run.ends(1).json();
    let found = &json["records"];
    assert_eq!(found["newly_permitted"], 2, "{json:#}");
    assert_eq!(found["newly_denied"], 1, "{json:#}");
    assert_eq!(found["still_denied"], 1, "{json:#}");
    assert_eq!(found["cannot_be_decided_from_the_record"], 1, "{json:#}");
    assert!(found["lacking"].as_object().unwrap().contains_key("resource.owner"), "{json:#}");
    let text = host.policy(&["diff", &old, &new, "--records", records]);
    assert!(text.ends(1).stdout.contains("cannot be decided from the record: 1"), "{text:#?}");
    assert!(text.stdout.contains("newly denied: 1\n    User::\"alice\" file_system::read on"), "{text:#?}");
    // Nothing differs for bob.
    let json = host.policy(&["diff", &old, &new, "--records", records, "--principal", "bob", "--json"]).json();
    assert_eq!((&json["records"]["newly_permitted"], &json["records"]["newly_denied"]), (&0.into(), &0.into()), "{json:#}");
}

#[test]
fn what_is_shown_is_the_difference_to_the_present_set() {
    let host = Host::new(BASE).with(|rex| rex.file("a", ""));
    host.run(r#"cat("{data}/a")"#).is_denied();
    let run = host.policy(&["learn"]);
    assert!(run.ends(0).stdout.starts_with("--- /dev/null\n+++ learned.cedar\n@@ -0,0 +1,"), "{run:#?}");
    assert!(run.stdout.contains("+++ learned.test.toml"), "{run:#?}");
    assert!(!Path::new("/learned.cedar").exists());
    // A diff as patch(1) takes it.
    let folder = host.rex.root().join("patched");
    fs::create_dir(&folder).unwrap();
    let mut patch = std::process::Command::new("patch");
    patch.args(["-p0", "-d", folder.to_str().unwrap()]);
    if Path::new("/usr/bin/patch").exists() {
        assert_eq!(host.rex.finish(patch, run.stdout.as_bytes()).code, 0);
        assert!(fs::read_to_string(folder.join("learned.cedar")).unwrap().contains("permit ("));
    }
}
