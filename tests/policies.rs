//! Every file of policies/ and config/, and every policy and script in the documents, loads and does what it says there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Account, Key, Rex, Run, Sshd, Systemd};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[track_caller]
fn text(path: &str) -> String {
    fs::read_to_string(tree(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of a folder with this ending, as paths from the top of the tree.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(tree(folder))
        .unwrap()
        .map(|entry| format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap()))
        .filter(|path| path.ends_with(ending))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "there is no {ending} in {folder}");
    found
}

#[track_caller]
fn check(rex: &Rex, path: &Path) -> Run {
    rex.finish(rex.command(&["policy", "check", "--elsewhere", path.to_str().unwrap()]), b"")
}

#[test]
fn every_policy_is_strictly_valid_alone_and_all_of_them_together() {
    let rex = Rex::new();
    for path in files("policies", ".cedar") {
        let run = check(&rex, &tree(&path));
        assert!(run.code == 0 && run.stderr.is_empty(), "{path}: {run:#?}");
    }
    check(&rex, &tree("policies")).ends(0);
}

#[test]
fn every_policy_is_formatted() {
    let rex = Rex::new();
    let run = rex.finish(rex.command(&["policy", "format", "--check", tree("policies").to_str().unwrap()]), b"");
    assert!(run.code == 0, "rex policy format policies/\n{}", run.stdout);
}

#[test]
fn every_policy_opens_with_a_sentence_and_names_each_of_its_rules() {
    for path in files("policies", ".cedar") {
        let text = text(&path);
        assert!(text.lines().next().unwrap().starts_with("// ") && text.lines().next().unwrap().ends_with('.'), "{path}");
        let starts = |words: &[&str]| text.lines().filter(|line| words.iter().any(|word| line.starts_with(word))).count();
        assert_eq!(starts(&["permit", "forbid"]), starts(&["@id("]), "{path}: a rule without @id");
        // Whoever is stopped by a rule is told what it means.
        for rule in text.split("\n@id(").skip(1).filter(|rule| rule.contains("\nforbid")) {
            assert!(rule.contains("\n@hint("), "{path}: a forbid without @hint: {rule}");
        }
    }
}

#[test]
fn every_policy_has_tests_that_pass_and_decide_each_of_its_rules() {
    let rex = Rex::new();
    let test = |path: &str| {
        let path = tree(path);
        rex.finish(rex.command(&["policy", "test", "--require-coverage", path.to_str().unwrap()]), b"")
    };
    for path in files("policies", ".cedar") {
        assert!(tree(&path).with_extension("test.toml").exists(), "{path} has no tests");
        let run = test(&path);
        assert!(run.code == 0 && run.stdout.contains("; 0 failed;"), "{path}: {run:#?}");
    }
    assert_eq!(files("policies", ".test.toml").len(), files("policies", ".cedar").len());
    test("policies").ends(0);
}

/// What `rex can` says to a member of the group where this is the only policy file.
struct Asked {
    rex: Rex,
    name: &'static str,
}

impl Asked {
    fn new(name: &'static str, group: &str) -> Self {
        let rex = Rex::new()
            .config("identity = [\"argument\"]")
            .policy(&text(&format!("policies/{name}.cedar")))
            .principals(&format!("[[principal]]\nname = \"member\"\ngroups = [\"{group}\"]\n[[principal]]\nname = \"other\"\n"));
        Self { rex, name }
    }
    #[track_caller]
    fn answer(&self, principal: &str, action: &str, resource: &str) -> String {
        let request = format!("rex can {action} '{resource}'");
        let run = self.rex.session(None, &["--principal", principal], Some(&request), "");
        assert_eq!(run.code, if run.stdout == "no\n" { 77 } else { 0 }, "{}: {request}: {run:#?}", self.name);
        run.stdout.trim().to_owned()
    }
    #[track_caller]
    fn says(&self, expected: &str, action: &str, resources: &[&str]) {
        for resource in resources {
            let answer = self.answer("member", action, resource);
            let word = answer.split(':').next().unwrap();
            assert_eq!(word, expected, "{}: {action} {resource}: {answer}", self.name);
            assert_eq!(self.answer("other", action, resource), "no", "{}: {action} {resource}, to somebody else", self.name);
        }
    }
}

#[test]
fn log_readers_may_read_logs_but_no_login_records() {
    needs_root!();
    let asked = Asked::new("log-reader", "log-readers");
    asked.says("yes", "read", &["/var/log/dpkg.log", "/var/log/nginx/error.log.2.gz", "nginx.service"]);
    asked.says("yes", "stat", &["/var/log/nginx"]);
    asked.says(
        "no",
        "read",
        &["/var/log/auth.log", "/var/log/auth.log.1.gz", "/var/log/wtmp", "/var/log/audit/audit.log", "/var/log/journal/x/system.journal"],
    );
    asked.says("no", "read", &["/var/logs", "/var/log2/x", "/etc/passwd", "/var", "ssh.service", "system", "kernel"]);
    asked.says("no", "write", &["/var/log/dpkg.log"]);
    asked.says("no", "list", &["local", "1"]);
}

#[test]
fn people_on_call_may_look_at_everything_but_secrets_and_change_nothing() {
    needs_root!();
    let asked = Asked::new("oncall-read-only", "oncall");
    asked.says("yes", "read", &["/etc/nginx/nginx.conf", "/var/log/auth.log", "/usr/bin/ssh", "/proc/meminfo", "system", "ssh.service"]);
    asked.says("yes", "stat", &["file_system::Dir::\"/\"", "/etc/shadow"]);
    asked.says("yes", "status", &["nginx.service"]);
    asked.says("yes", "list", &["systemd::Systemd::\"local\"", "sysinfo::Sysinfo::\"local\""]);
    asked.says(
        "no",
        "read",
        &["/etc/shadow", "/etc/shadow-", "/etc/ssh/ssh_host_ed25519_key", "/srv/tls/site.key", "/srv/app/.env", "/root/x", "/home/x/y"],
    );
    asked.says("no", "stat", &["file_system::Dir::\"/root\"", "/home/x", "/var/lib/postgresql", "/etc/ssl/private/x"]);
    asked.says("no", "read", &["/root/.ssh/id_ed25519", "/proc/1/environ", "/proc/1/mem"]);
    for verb in ["write", "create"] {
        asked.says("no", verb, &["/tmp/x"]);
    }
    asked.says("no", "restart", &["nginx.service"]);
}

#[test]
fn agents_may_diagnose_and_nothing_else() {
    needs_root!();
    let asked = Asked::new("agent-read-only", "agents");
    asked.says("yes", "read", &["/var/log/dpkg.log", "/etc/nginx/nginx.conf", "/etc/passwd", "/proc/meminfo", "/proc/7/mounts"]);
    asked.says("yes", "stat", &["file_system::Dir::\"/srv\"", "/var/log/dpkg.log"]);
    asked.says("yes", "status", &["nginx.service", "ssh.service"]);
    asked.says("yes", "list", &["systemd::Systemd::\"local\"", "sysinfo::Sysinfo::\"local\"", "process_system::Process::\"1\""]);
    asked.says("no", "read", &["ssh.service", "sshd.service", "systemd-logind.service"]);
    asked.says("depends", "read", &["nginx.service", "system", "kernel"]);
    asked.says(
        "no",
        "read",
        &["/etc/shadow", "/etc/gshadow", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssl/private/site.pem", "/etc/nginx/htpasswd"],
    );
    asked.says(
        "no",
        "read",
        &["/home/x/notes", "/root/x", "/srv/x", "/var/lib/x", "/var/log/auth.log", "/proc/cmdline", "/proc/1/environ"],
    );
    for verb in ["write", "create"] {
        asked.says("no", verb, &["/var/log/dpkg.log"]);
    }
    for verb in ["start", "stop", "restart", "reload"] {
        asked.says("no", verb, &["nginx.service"]);
    }
}

#[test]
fn no_other_policy_lets_an_agent_change_anything() {
    needs_root!();
    let both = Rex::new().policy(&format!("{ALLOW_ALL}\n{}", text("policies/agent-read-only.cedar"))).file("old", "old\n");
    for script in [
        "write(\"{data}/old\", \"new\")",
        "write(\"{data}/new\", \"new\")",
        "append_line(\"{data}/old\", \"new\")",
        "truncate(\"{data}/old\")",
    ] {
        let run = both.run_with(&["--principal", "a", "--group", "agents"], script);
        assert_eq!(run.is_denied().json()["error"]["hint"], "agents only look; a person has to make this change", "{script}");
        assert!(both.read("old") == "old\n" && !both.exists("new"), "{script}");
    }
    both.run_with(&["--principal", "a", "--group", "people"], "write(\"{data}/new\", \"new\").bytes").gives(3);
    assert_eq!(both.read("new"), "new");
}

#[test]
fn restarters_may_restart_nginx_only() {
    needs_root!();
    let asked = Asked::new("service-restarter", "restarters");
    asked.says("yes", "restart", &["nginx.service"]);
    asked.says("no", "restart", &["ssh.service", "systemd::Unit::\"nginx.service\"", "systemd::Unit::\"reboot.target\""]);
    asked.says("yes", "status", &["nginx.service", "ssh.service"]);
    asked.says("no", "stop", &["nginx.service"]);
    asked.says("no", "start", &["nginx.service"]);
    asked.says("yes", "read", &["nginx.service"]);
    asked.says("no", "read", &["ssh.service", "system", "/var/log/nginx/error.log"]);
}

#[test]
fn restarters_and_agents_meet_a_real_systemd_as_their_policies_say() {
    needs_namespaces!();
    let unit = |said: &str| format!("[Service]\nExecStartPre=/bin/echo {said}\nExecStart=/bin/sleep infinity\n");
    let rex = Rex::new()
        .file("restarters.cedar", &text("policies/service-restarter.cedar"))
        .file("agents.cedar", &text("policies/agent-read-only.cedar"));
    let (nginx, database, ssh) = (unit("of-nginx"), unit("of-database"), unit("of-ssh"));
    let systemd =
        Systemd::boot(&rex, &[("nginx.service", nginx.as_str()), ("database.service", database.as_str()), ("ssh.service", ssh.as_str())]);
    let run = |group: &str, script: &str| {
        let (program, config, policy) = (rex.program().to_str().unwrap(), rex.config_file(), rex.path(&format!("{group}.cedar")));
        let words = [
            program,
            "run",
            "-",
            "--config",
            config.to_str().unwrap(),
            "--policy",
            &policy,
            "-o",
            "json",
            "--principal",
            "member",
            "--group",
            group,
        ];
        rex.finish(systemd.command(&words), script.as_bytes())
    };
    let hint = |run: &Run| run.is_denied().json()["error"]["hint"].as_str().unwrap_or("").to_owned();
    for unit in ["nginx", "database", "ssh"] {
        systemd.exec(&["systemctl", "start", unit]).ends(0);
    }
    let pid = |unit: &str| systemd.exec(&["systemctl", "show", "-P", "MainPID", unit]).stdout;
    let before = (pid("nginx"), pid("database"));
    run("restarters", "service_restart(\"nginx\").active_state").gives("active");
    assert_ne!(pid("nginx"), before.0);
    assert_eq!(
        hint(&run("restarters", "service_restart(\"database\")")),
        "only nginx.service may be restarted; for others call the people on call"
    );
    run("restarters", "service_stop(\"nginx\")").is_denied();
    run("restarters", "services().len() > 1").gives(true);

    let after = pid("nginx");
    run("agents", "service_status(\"nginx\").active").gives(true);
    for script in ["service_restart(\"nginx\")", "service_stop(\"nginx\")", "service_start(\"database\")", "daemon_reload()"] {
        assert_eq!(hint(&run("agents", script)), "agents only look; a person has to make this change", "{script}");
    }
    assert_eq!((pid("nginx"), pid("database")), (after, before.1));
    let said = |unit: &str| run("agents", &format!("journal(#{{unit: \"{unit}\"}}).map(|entry| entry.message)"));
    assert!(common::until(10.0, || said("nginx").stdout.contains("of-nginx")), "{:#?}", said("nginx"));
    assert_eq!(hint(&said("ssh")), "the journal of logins is closed to agents");
    assert_eq!(hint(&run("agents", "journal(#{})")), "ask for one unit, or for priority \"warning\" and above");
    let warnings = run("agents", "journal(#{priority: \"warning\"}).len() >= 0");
    assert!(warnings.code == 0 && !warnings.stdout.contains("of-ssh"), "{warnings:#?}");
}

/// The policy with its folders moved into the playground.
fn moved(name: &str, folders: &[(&str, &str)]) -> String {
    let mut policy = text(&format!("policies/{name}.cedar"));
    for (from, to) in folders {
        assert!(policy.contains(&format!("\"{from}")), "{name} does not name {from}");
        policy = policy.replace(&format!("\"{from}"), &format!("\"{to}"));
    }
    policy
}

#[test]
fn a_config_editor_writes_conf_files_of_one_folder_and_the_disk_agrees() {
    let rex = Rex::new()
        .policy(&moved("config-editor", &[("/etc/nginx", "{data}/nginx")]))
        .file("nginx/nginx.conf", "main\n")
        .file("nginx/conf.d/site.conf", "old\n")
        .file("nginx/conf.d/site.key", "secret\n")
        .file("outside.conf", "outside\n")
        .link("nginx/conf.d/link.conf", "{data}/outside.conf");
    let run = |script: &str| rex.run_with(&["--principal", "e", "--group", "config-editors"], script);
    run("cat(\"{data}/nginx/nginx.conf\")").gives("main\n");
    run("write(\"{data}/nginx/conf.d/site.conf\", \"new\\n\", #{replace: true}).changed").gives(true);
    run("write(\"{data}/nginx/conf.d/more.conf\", \"more\\n\").created").gives(true);
    assert_eq!((rex.read("nginx/conf.d/site.conf"), rex.read("nginx/conf.d/more.conf")), ("new\n".to_owned(), "more\n".to_owned()));
    for path in [
        "nginx/nginx.conf",
        "nginx/conf.d/script.sh",
        "nginx/conf.d/site.key",
        "outside.conf",
        "nginx/conf.d/link.conf",
        "nginx/conf.d/../x.conf",
    ] {
        run(&format!("write(\"{{data}}/{path}\", \"new\\n\")")).is_denied();
    }
    run("truncate(\"{data}/nginx/nginx.conf\")").is_denied();
    assert_eq!((rex.read("nginx/nginx.conf"), rex.read("outside.conf")), ("main\n".to_owned(), "outside\n".to_owned()));
    assert!(!rex.exists("nginx/conf.d/script.sh") && !rex.exists("nginx/x.conf"));
    let run = run("cat(\"{data}/nginx/conf.d/site.key\")");
    assert_eq!(run.is_denied().json()["error"]["hint"], "keys and password files are managed elsewhere");
    assert!(!run.stdout.contains("secret"));
    rex.run_with(&["--principal", "x"], "cat(\"{data}/nginx/nginx.conf\")").is_denied();
}

#[test]
fn a_config_editor_changes_a_line_with_a_backup_that_stays() {
    let rex = Rex::new()
        .policy(&moved("config-editor", &[("/etc/nginx", "{data}/nginx")]))
        .file("nginx/nginx.conf", "worker 1\n")
        .file("nginx/conf.d/site.conf", "gzip off;\n");
    let run = |script: &str| rex.run_with(&["--principal", "e", "--group", "config-editors"], script);
    let edit = |path: &str| format!("edit_line(\"{{data}}/{path}\", #{{pattern: \"^gzip\", line: \"gzip on;\", backup: true}})");
    let edited = run(&edit("nginx/conf.d/site.conf"));
    let backup = edited.ends(0).json()["value"]["backup"].as_str().unwrap().to_owned();
    assert_eq!((rex.read("nginx/conf.d/site.conf").as_str(), fs::read_to_string(&backup).unwrap().as_str()), ("gzip on;\n", "gzip off;\n"));
    for script in [
        format!("write(\"{backup}\", \"x\", #{{replace: true}})"),
        format!("append_line(\"{backup}\", \"x\")"),
        format!("rm(\"{backup}\")"),
        edit("nginx/nginx.conf"),
    ] {
        run(&script).is_denied();
    }
    assert_eq!((rex.read("nginx/nginx.conf").as_str(), fs::read_to_string(&backup).unwrap().as_str()), ("worker 1\n", "gzip off;\n"));
    assert_eq!(fs::read_dir(rex.data().join("nginx/conf.d")).unwrap().count(), 2);
}

#[test]
fn a_cleaner_deletes_and_packs_in_one_folder_and_makes_nothing_with_other_rights() {
    let rex = Rex::new()
        .policy(&moved("cleaner", &[("/var/tmp", "{data}/tmp")]))
        .file("tmp/old/a", "a")
        .file("tmp/old/b", "b")
        .file("tmp/big.log", "text\n")
        .file("tmp/tool", "x")
        .file("tmp/systemd-private-1/tmp/x", "x")
        .file("kept", "kept")
        .link("tmp/link", "{data}/kept");
    let run = |script: &str| rex.run_with(&["--principal", "c", "--group", "cleaners"], script);
    let mode = |path: &str| fs::metadata(rex.data().join(path)).unwrap().permissions().mode() & 0o7777;
    run("rm(\"{data}/tmp/old\", #{recursive: true}).removed").gives(3);
    run("gzip(\"{data}/tmp/big.log\", #{keep: false}).removed").gives(true);
    assert!(!rex.exists("tmp/old") && !rex.exists("tmp/big.log") && rex.exists("tmp/big.log.gz"));
    // A link goes, and what it leads to stays.
    run("rm(\"{data}/tmp/link\").removed").gives(1);
    for (script, hint) in [
        ("rm(\"{data}/kept\")", "only what lies below /var/tmp may be deleted"),
        ("rm(\"{data}/tmp\", #{recursive: true})", "only what lies below /var/tmp may be deleted"),
        ("rm(\"{data}/tmp/systemd-private-1\", #{recursive: true})", "systemd removes the private folders of its services itself"),
        ("gzip(\"{data}/tmp/tool\", \"{data}/tool.gz\")", "packed files are named *.gz or *.zst and lie below /var/tmp"),
        ("chmod(\"{data}/tmp/tool\", 0o4755)", "cleaners do not make programs that run with other rights"),
        ("chmod(\"{data}/tmp/tool\", \"g+s\")", "cleaners do not make programs that run with other rights"),
    ] {
        assert_eq!(run(script).is_denied().json()["error"]["hint"], hint, "{script}");
    }
    for script in [
        "chmod(\"{data}/tmp/tool\", 0o666)",
        "write(\"{data}/tmp/x.sh\", \"x\")",
        "mkdir(\"{data}/tmp/d\")",
        "mv(\"{data}/tmp/tool\", \"{data}/tmp/t\")",
    ] {
        run(script).is_denied();
    }
    assert!(rex.exists("tmp/tool") && rex.exists("tmp/systemd-private-1/tmp/x") && rex.read("kept") == "kept" && !rex.exists("tool.gz"));
    assert_eq!(mode("tmp/tool") & 0o7000, 0);
    run("chmod(\"{data}/tmp/tool\", 0o600).changed").gives(true);
    assert_eq!(mode("tmp/tool"), 0o600);
    rex.run_with(&["--principal", "x"], "rm(\"{data}/tmp/tool\")").is_denied();
}

#[test]
fn nobody_makes_a_file_with_other_rights_beside_the_policy_that_forbids_it() {
    let rex = Rex::new()
        .policy(&format!("{ALLOW_ALL}\n{}", text("policies/never-setuid.cedar")))
        .file("tool", "x")
        .file("suid", "x")
        .dir("shared");
    fs::set_permissions(rex.data().join("suid"), fs::Permissions::from_mode(0o4755)).unwrap();
    for script in [
        "chmod(\"{data}/tool\", 0o4755)",
        "chmod(\"{data}/tool\", \"u+s\")",
        "chmod(\"{data}/tool\", \"g+s\")",
        "cp(\"{data}/suid\", \"{data}/copy\", #{preserve: true})",
        "tar_create(\"{data}/x.tar\", \"{data}/suid\", #{relative_to: \"{data}\", force: true}); tar_extract(\"{data}/x.tar\", \"{data}/out\", #{set_id: true})",
    ] {
        let hint = rex.run(script).is_denied().json()["error"]["hint"].as_str().unwrap_or("").to_owned();
        assert!(hint.contains("come with packages") || hint.contains("comes with packages"), "{script}: {hint}");
    }
    assert!(!rex.exists("copy") && !rex.exists("out"));
    let mode = |path: &str| fs::metadata(rex.data().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("tool") & 0o7000, 0);
    rex.run("chmod(\"{data}/tool\", 0o750).changed").gives(true);
    rex.run("chmod(\"{data}/shared\", 0o2770).changed").gives(true);
    assert_eq!((mode("tool"), mode("shared")), (0o750, 0o2770));
}

#[test]
fn a_program_runner_runs_what_is_written_and_nothing_else() {
    let policy =
        text("policies/program-runner.cedar").replace("/usr/sbin/nginx", "/usr/bin/echo").replace("/usr/bin/openssl", "/usr/bin/basename");
    let rex = Rex::new().policy(&policy);
    let run = |script: &str| rex.run_with(&["--principal", "p", "--group", "program-runners"], script);
    run(r#"exec("/usr/bin/echo", ["-t"]).stdout"#).gives("-t\n");
    run(r#"exec("/usr/bin/df", ["-h"]).stderr"#).ends(0);
    run(r#"exec("/usr/bin/basename", ["x509", "-noout", "-enddate", "-in", "/etc/ssl/certs/a.pem"]).status"#).ends(0);
    for refused in [
        r#"exec("/usr/bin/echo", ["-t", "-g", "x"])"#,
        r#"exec("/usr/bin/echo")"#,
        r#"exec("/usr/bin/df", ["-h", "/etc"])"#,
        r#"exec("/usr/bin/df", ["-h"], #{env: #{LD_PRELOAD: "/x"}})"#,
        r#"exec("/usr/bin/df", ["-h"], #{capabilities: ["CAP_SYS_ADMIN"]})"#,
        r#"exec("/usr/bin/basename", ["x509", "-noout", "-enddate", "-in", "/etc/ssl/certs/a.pem -engine x.pem"])"#,
        r#"exec("/usr/bin/basename", ["x509", "-noout", "-enddate", "-in", "/etc/ssl/certs/../private/a.pem"])"#,
        r#"exec("/usr/bin/basename", ["x509", "-noout", "-enddate", "-in", "/etc/ssl/certs/a", "-out", "/etc/x.pem"])"#,
        r#"exec("/usr/bin/id")"#,
    ] {
        assert!(run(refused).is_denied().events("effect").is_empty(), "{refused}");
    }
    rex.run_with(&["--principal", "x"], r#"exec("/usr/bin/echo", ["-t"])"#).is_denied();
}

#[test]
fn a_permit_for_a_program_that_runs_others_is_warned_of() {
    let warned = |policy: &str| {
        let rex = Rex::new().policy(&format!("@id(\"x\") {policy}"));
        check(&rex, &rex.policy_file()).ends(0).stderr.clone()
    };
    let execute =
        |resource: &str| format!("permit(principal in Group::\"g\", action == file_system::Action::\"execute\", resource{resource});");
    let bash = warned(&execute(" == file_system::File::\"/usr/bin/bash\""));
    assert!(
        bash.contains("test.cedar:1:84: warning: permits `bash`, a program that can run others, with any arguments [runs-others]"),
        "{bash}"
    );
    assert!(warned(&execute(" in file_system::Dir::\"/usr/bin\"")).contains("among them sh, python3"));
    assert!(warned(&execute(" in file_system::Dir::\"/usr\"")).contains("every program in /usr/bin"));
    assert_eq!(warned(&execute(" == file_system::File::\"/usr/sbin/nginx\"")), "");
    assert_eq!(warned(&execute(" in file_system::Dir::\"/opt/tools\"")), "");
    assert_eq!(warned(&execute(" == file_system::File::\"/usr/bin/bash\"").replace(";", " when { context.argv == \"--version\" };")), "");
    assert_eq!(
        warned("permit(principal in Group::\"g\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/usr/bin\");"),
        ""
    );
}

#[test]
fn a_log_reader_searches_the_logs_without_seeing_login_records() {
    let rex = Rex::new()
        .policy(&moved("log-reader", &[("/var/log", "{data}/log")]))
        .file("log/app/error.log", "needle in app\n")
        .file("log/auth.log", "needle in auth\n")
        .file("log/audit/audit.log", "needle in audit\n");
    let run = |script: &str| rex.run_with(&["--principal", "l", "--group", "log-readers"], script);
    let found = run("grep(\"needle\", \"{data}/log\", #{recursive: true}).map(|hit| hit.text)");
    found.gives(serde_json::json!(["needle in app"]));
    assert!(found.denials() >= 2, "{found:#?}");
    assert_eq!(run("cat(\"{data}/log/auth.log\")").is_denied().json()["error"]["hint"], "login records are for the security team");
}

#[test]
fn the_settings_and_principals_as_shipped_are_accepted() {
    let settings = text("config/rex.toml");
    let rex = Rex::new().whole_config(&settings).principals(&text("config/principals.toml")).policy(ALLOW_ALL);
    // This machine may have no log; that is then the only complaint.
    let run = rex.run("1 + 1");
    let no_log = run.code == 78 && run.stdout.contains("there is no place for audit records");
    assert!(no_log || run.code == 0 && run.value() == 2, "{run:#?}");
    let config = rex.config_file();
    let broken = Rex::new().whole_config(&format!("no_such_setting = 1\n{settings}"));
    assert_eq!(broken.run("1").code, 78, "a wrong setting is accepted: {}", config.display());
}

#[test]
fn every_example_of_principals_toml_is_accepted_when_its_sign_is_removed() {
    needs_root!();
    let uncommented: String = text("config/principals.toml")
        .lines()
        .map(|line| format!("{}\n", if line.starts_with("# ") || line == "#" { "" } else { line.trim_start_matches('#') }))
        .collect();
    assert!(uncommented.contains("[[bastion]]") && uncommented.contains("[[authority]]"), "{uncommented}");
    let rex = Rex::new().config("identity = [\"argument\"]").principals(&uncommented).policy(ALLOW_ALL);
    let run = rex.session(None, &["--principal", "alice"], Some("rex whoami"), "");
    assert!(run.code == 0 && run.stdout.contains("Group::\"oncall\", Group::\"dba\""), "{run:#?}");
    assert_eq!(rex.session(None, &["--principal", "mallory"], Some("rex whoami"), "").code, 77);
}

#[test]
fn the_block_for_sshd_lets_its_group_do_nothing_but_ask_rex() {
    needs_root!();
    let account = Account::new();
    let rex = Rex::new().config("identity = [\"auth-info\"]").policy(ALLOW_ALL).account(&account);
    let key = Key::new(&rex, "key");
    let rex = rex.principals(&common::mapped_key(&key, "alice"));
    let block = text("config/sshd_config.d/rex.conf")
        .replace("ForceCommand exec /usr/bin/rex session", "ForceCommand exec {rex} session --config {config}")
        .replace("Subsystem rex /usr/bin/rex", "Subsystem rex {rex}")
        .replace("Match Group rexusers", &format!("Match Group {}", account.name))
        .replace("/etc/rex/keys/", "{keys}/");
    let sshd = Sshd::start(&rex, &block);
    sshd.authorize(&account.name, "", &key);
    let ssh = |options: &[&str], request: &[&str], script: &str| sshd.ssh(&rex, &account.name, &key, options, request, script);
    assert_eq!(ssh(&[], &["rex"], "1 + 1").ends(0).stdout, "2\n");
    let who = ssh(&[], &["rex", "whoami"], "").ends(0).stdout.clone();
    assert!(who.contains("User::\"alice\"") && who.contains("auth-info"), "{who}");
    assert_eq!(ssh(&["-s"], &["rex"], "1 + 1").json()["value"], 2);
    for request in [&["id"][..], &["rex;", "id"], &["sh", "-c", "id"]] {
        let run = ssh(&[], request, "");
        assert!(run.code == 2 && run.stdout.is_empty(), "{request:?}: {run:#?}");
    }
    let run = ssh(&["-o", "ExitOnForwardFailure=yes", "-W", &format!("127.0.0.1:{}", sshd.port())], &[], "");
    assert!(run.code == 255 && run.stdout.is_empty() && run.stderr.contains("forwarding failed"), "{run:#?}");
    let effective = Command::new("/usr/sbin/sshd")
        .args(["-T", "-C", &format!("user={},host=x,addr=192.0.2.1", account.name), "-f"])
        .arg(sshd.folder().join("sshd_config"))
        .output()
        .unwrap();
    let effective = String::from_utf8(effective.stdout).unwrap();
    for line in [
        "allowtcpforwarding no",
        "allowstreamlocalforwarding no",
        "allowagentforwarding no",
        "x11forwarding no",
        "permittunnel no",
        "permittty no",
        "permituserrc no",
        "permituserenvironment no",
        "disableforwarding yes",
        "exposeauthinfo yes",
        "maxsessions 1",
        "acceptenv LC_REX_TASK",
        "setenv LD_PRELOAD=",
    ] {
        assert!(effective.lines().any(|known| known == line), "{line}: {effective}");
    }
    assert!(!effective.contains("acceptenv LANG") && !effective.contains("acceptenv LC_*"), "{effective}");
}

/// The blocks of this language in a document, with the line they begin at.
fn blocks(path: &str, language: &str) -> Vec<(usize, String)> {
    let (mut found, mut inside) = (Vec::new(), None);
    for (at, line) in text(path).lines().enumerate() {
        match &mut inside {
            None if line == format!("```{language}") => inside = Some((at + 2, String::new())),
            Some(_) if line == "```" => found.extend(inside.take()),
            Some((_, block)) => block.push_str(&format!("{line}\n")),
            None => {}
        }
    }
    found
}

fn documents() -> Vec<String> {
    let mut all = files("docs", ".md");
    all.extend(files("docs/decisions", ".md"));
    all.extend(["README.md", "CHANGELOG.md", "tests/README.md"].map(str::to_owned));
    all
}

#[test]
fn every_policy_in_the_documents_is_strictly_valid() {
    let rex = Rex::new().dir("blocks");
    let mut count = 0;
    // The page of lints shows what is wrong; its examples are tried one by one beside the lints.
    for document in documents().into_iter().filter(|document| document != "docs/policy-lints.md") {
        for (line, block) in blocks(&document, "cedar") {
            let file = rex.data().join("blocks").join("block.cedar");
            fs::write(&file, &block).unwrap();
            let run = check(&rex, &file);
            // The course shows also what is not to be done, and rules for everybody.
            let may_warn = document == "docs/policy-guide.md";
            assert!(run.code == 0 && (may_warn || run.stderr.is_empty()), "{document}:{line}: {run:#?}");
            count += 1;
        }
    }
    assert!(count >= 8, "{count}");
}

/// The rules of the course, each block with the tests that follow it: line of the document, rules, tests.
fn lessons() -> Vec<(usize, String, String)> {
    let tests = blocks("docs/policy-guide.md", "toml");
    let rules = blocks("docs/policy-guide.md", "cedar");
    let next = |at: usize| rules.get(at + 1).map_or(usize::MAX, |(line, _)| *line);
    let pairs = rules.iter().enumerate().map(|(at, (line, rules))| {
        let own: Vec<&String> = tests.iter().filter(|(place, _)| place > line && *place < next(at)).map(|(_, text)| text).collect();
        assert!(
            own.len() == 1 || own.is_empty() && rules.contains("@test("),
            "docs/policy-guide.md:{line}: {} blocks of tests follow",
            own.len()
        );
        (*line, rules.clone(), own.first().map_or_else(String::new, |text| (*text).clone()))
    });
    pairs.collect()
}

#[test]
fn every_rule_of_the_course_does_what_the_tests_below_it_say() {
    let rex = Rex::new().dir("lesson");
    let (cedar, toml) = (rex.data().join("lesson/lesson.cedar"), rex.data().join("lesson/lesson.test.toml"));
    let test = |rules: &str, tests: &str| {
        fs::write(&cedar, rules).unwrap();
        fs::write(&toml, tests).unwrap();
        rex.finish(rex.command(&["policy", "test", "--require-coverage", cedar.to_str().unwrap()]), b"")
    };
    let lessons = lessons();
    assert!(lessons.len() >= 18, "{}", lessons.len());
    let mut careless = Vec::new();
    for (line, rules, tests) in lessons {
        let run = test(&rules, &tests);
        assert!(run.code == 0 && run.stdout.contains("; 0 failed;"), "docs/policy-guide.md:{line}: {run:#?}");
        // As the course demands it: none of the conditions can go unnoticed.
        for (rule, without) in common::without_each_condition(&rules) {
            let run = test(&without, &tests);
            if run.code != 1 {
                careless.push(format!("docs/policy-guide.md:{line}: {rule}: {}", run.stderr));
            }
        }
    }
    assert!(careless.is_empty(), "without its condition nothing fails:\n{}", careless.join("\n"));
}

#[test]
fn what_the_course_shows_of_rex_policy_test_is_what_it_prints() {
    let rex = Rex::new().dir("lesson");
    let shown = |starts: &str| {
        let found = blocks("docs/policy-guide.md", "console").into_iter().find(|(_, block)| block.starts_with(starts)).unwrap().1;
        found.split_once('\n').unwrap().1.trim_start_matches("…\n").to_owned()
    };
    let run = |name: &str, rules: &str, tests: &str| {
        let folder = rex.data().join("lesson");
        fs::write(folder.join(format!("{name}.cedar")), rules).unwrap();
        fs::write(folder.join(format!("{name}.test.toml")), tests).unwrap();
        let mut command = rex.command(&["policy", "test", &format!("{name}.cedar")]);
        command.current_dir(&folder);
        rex.finish(command, b"").stdout
    };
    let (_, rules, tests) = lessons().swap_remove(0);
    assert_eq!(run("motd", &rules, &tests), shown("$ rex policy test motd.cedar"));
    let rules = "@id(\"small\") permit(principal, action == file_system::Action::\"read\", resource) when { resource has size && resource.size < 10 };\n";
    let printed = run("app", rules, "[lines]\n\"robot read /srv/app/x resource.size=11\" = \"allow\"\n");
    assert!(printed.contains(&shown("$ rex policy test app.cedar")), "{printed}");
}

#[test]
fn every_script_in_the_documents_compiles_and_uses_functions_that_there_are() {
    needs_root!();
    let rex = Rex::new().config("identity = [\"argument\"]").principals("default = \"pass\"\n").policy(ALLOW_ALL);
    let mut count = 0;
    // The examples of docs/functions.md are run, each by a test of its own (tests/functions.rs).
    for document in documents().into_iter().filter(|document| document != "docs/functions.md") {
        for (line, block) in blocks(&document, "rhai") {
            let run = rex.session(None, &["--principal", "reader"], Some("rex check service=nginx count:=5"), &block);
            assert_eq!(run.code, 0, "{document}:{line}: {run:#?}");
            count += 1;
        }
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    for document in documents() {
        let folder = tree(&document).parent().unwrap().to_path_buf();
        for target in text(&document).split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target)) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                assert!(folder.join(file).exists(), "{document}: {target}");
            }
        }
    }
}

/// The first policy of the README, and what the README shows of it.
#[test]
fn the_first_policy_of_the_readme_does_what_the_readme_shows() {
    let first = blocks("README.md", "cedar").swap_remove(0).1.replace("/var/log", "{data}/log");
    let rex = Rex::new().policy(&first).file("log/dpkg.log", "one\ntwo\n").file("log/wtmp", "logins\n").file("log/kept", "kept\n");
    let run = |script: &str| rex.run_with(&["--principal", "alice", "--group", "oncall"], script);
    run("tail(\"{data}/log/dpkg.log\", #{n: 1})[0]").gives("two");
    let denied = run("cat(\"{data}/log/wtmp\")");
    let error = denied.is_denied().json()["error"].clone();
    assert_eq!((error["why"].as_str(), error["hint"].as_str()), (Some("forbidden"), Some("login records are for the security team")));
    let script = blocks("README.md", "rhai").swap_remove(0).1.replace("/var/log", "{data}/log");
    let run = run(&script);
    assert_eq!(run.ends(0).json()["output"], rex.fill("{data}/log/dpkg.log: 2 lines"));
    assert_eq!(run.json()["logs"][0]["attributes"]["fields"]["why"], "not_permitted");
}
