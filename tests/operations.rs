//! The policies of policies/ that are taken from operations, each with a script as such people and programs send it: what it permits is done, what it does not is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Rex, Run, Systemd};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A policy as it is shipped, with these texts in the place of those.
#[track_caller]
fn shipped(name: &str, changes: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("policies/{name}.cedar"));
    let mut policy = fs::read_to_string(path).unwrap();
    for (from, to) in changes {
        assert!(policy.contains(from), "{name} does not name {from}");
        policy = policy.replace(from, to);
    }
    policy
}

/// A host where this is the only policy, and a member of its group.
struct Host {
    rex: Rex,
    group: &'static str,
}

impl Host {
    #[track_caller]
    fn new(name: &str, group: &'static str, changes: &[(&str, &str)]) -> Self {
        Self { rex: Rex::new().policy(&shipped(name, changes)), group }
    }
    fn with(self, more: impl FnOnce(Rex) -> Rex) -> Self {
        Self { rex: more(self.rex), ..self }
    }
    #[track_caller]
    fn run(&self, script: &str) -> Run {
        self.rex.run_with(&["--principal", "member", "--group", self.group], script)
    }
    /// Denied to the member, with this hint.
    #[track_caller]
    fn denies(&self, script: &str, hint: &str) {
        let run = self.run(script);
        assert_eq!(run.is_denied().json()["error"]["hint"].as_str().unwrap_or(""), hint, "{script}");
    }
    /// Denied to whoever is not in the group.
    #[track_caller]
    fn is_closed_to_others(&self, script: &str) {
        self.rex.run_with(&["--principal", "other"], script).is_denied();
    }
}

/// A session over ssh of a member of the group, from 192.0.2.7.
fn host_of_sessions(name: &str, group: &str, changes: &[(&str, &str)]) -> Rex {
    Rex::new()
        .config("identity = [\"argument\"]")
        .principals(&format!("[[principal]]\nname = \"member\"\ngroups = [\"{group}\"]\n[[principal]]\nname = \"other\"\n"))
        .policy(&shipped(name, changes))
}

#[track_caller]
fn session(rex: &Rex, request: &str, environment: &[(&str, &str)], script: &str) -> Run {
    let mut command = rex.session_command(None, &["--principal", "member"], Some(request));
    command.envs(environment.iter().copied());
    rex.finish(command, rex.fill(script).as_bytes())
}

#[test]
fn a_deploy_bot_puts_a_release_in_place_and_leaves_secrets_alone() {
    let host = Host::new("deploy-bot", "deploy", &[("/srv/app", "{data}/app")]).with(|rex| {
        rex.file("app/releases/41/VERSION", "41\n").file("app/secrets/db", "s3cret\n").file("app/.env", "TOKEN=x\n").file("other/x", "x\n")
    });
    let run = host.run(
        r#"
let fresh = "{data}/app/releases/.new";
mkdir(fresh);
write(fresh + "/VERSION", "42\n");
chmod(fresh + "/VERSION", 0o644);
mv(fresh, "{data}/app/releases/42");
cat("{data}/app/releases/42/VERSION")
"#,
    );
    run.gives("42\n");
    host.run("rm(\"{data}/app/releases/41\", #{recursive: true}).removed").gives(2);
    assert!(!host.rex.exists("app/releases/41") && host.rex.exists("app/releases/42/VERSION"));
    let secrets = "secrets are put in place by people, not by the bot";
    for script in [
        "cat(\"{data}/app/secrets/db\")",
        "write(\"{data}/app/secrets/db\", \"mine\", #{replace: true})",
        "write(\"{data}/app/secrets/new\", \"mine\")",
        "rm(\"{data}/app/secrets\", #{recursive: true})",
        "cat(\"{data}/app/.env\")",
    ] {
        host.denies(script, secrets);
    }
    host.denies(
        "mv(\"{data}/app/releases/42\", \"{data}/other/42\")",
        "move within /srv/app only".replace("/srv/app", &host.rex.path("app")).as_str(),
    );
    for script in [
        "write(\"{data}/other/x\", \"mine\", #{replace: true})",
        "rm(\"{data}/app\", #{recursive: true})",
        "chmod(\"{data}/app/releases/42/VERSION\", 0o4755)",
        "exec(\"/usr/bin/id\")",
    ] {
        host.run(script).is_denied();
    }
    assert_eq!((host.rex.read("app/secrets/db").as_str(), host.rex.read("other/x").as_str()), ("s3cret\n", "x\n"));
    host.is_closed_to_others("cat(\"{data}/app/releases/42/VERSION\")");
}

#[test]
fn a_backup_has_everything_but_secrets_and_no_archive_is_written_over() {
    let changes = [("\"/etc", "\"{data}/etc"), ("\"/srv\"", "\"{data}/srv\""), ("\"/srv/backup", "\"{data}/srv/backup")];
    let host = Host::new("backup-agent", "backup", &changes).with(|rex| {
        rex.file("etc/app.conf", "a=1\n")
            .file("etc/shadow", "root:x\n")
            .file("etc/ssl/private/site", "key\n")
            .file("srv/app/data", "data\n")
            .file("srv/app/.env", "TOKEN=x\n")
            .dir("srv/backup")
    });
    let pack = |name: &str| {
        format!(
            "tar_create(\"{{data}}/srv/backup/{name}\", [\"{{data}}/etc\", \"{{data}}/srv/app\"], #{{relative_to: \"{{data}}\", keep_going: true}}).files"
        )
    };
    let run = host.run(&pack("one.tar.gz"));
    run.ends(0);
    let archive = host.rex.data().join("srv/backup/one.tar.gz");
    let listed = std::process::Command::new("tar").arg("-tzf").arg(&archive).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("etc/app.conf") && listed.contains("srv/app/data"), "{listed}");
    assert!(!listed.contains("shadow") && !listed.contains("private/site") && !listed.contains(".env"), "{listed}");
    let before = fs::read(&archive).unwrap();
    let again = pack("one.tar.gz").replace("keep_going: true", "keep_going: true, force: true");
    host.denies(&again, "an archive stays as it is; take another name");
    host.denies("rm(\"{data}/srv/backup/one.tar.gz\")", "old archives are removed by people");
    host.denies("cat(\"{data}/etc/shadow\")", "secrets are not part of this backup");
    host.run("write(\"{data}/srv/backup/x.sh\", \"x\")").is_denied();
    host.run("write(\"{data}/etc/app.conf\", \"x\", #{replace: true})").is_denied();
    assert_eq!((fs::read(&archive).unwrap(), host.rex.read("etc/app.conf").as_str()), (before, "a=1\n"));
    assert!(!host.rex.exists("srv/backup/x.sh"));
    host.is_closed_to_others("cat(\"{data}/srv/app/data\")");
}

#[test]
fn an_agent_sees_logs_masked_and_never_as_they_are() {
    let host = Host::new("agent-redacted", "agents-redacted", &[("/var/log/app", "{data}/log")]).with(|rex| {
        rex.config("[redaction]\nlines = \"all\"\nmask = [\"password\", \"email\"]\n")
            .file("log/app.log", "login of alice@example.org failed password=hunter2\n")
            .file("other.log", "alice@example.org\n")
    });
    let seen = host.run("grep(\"failed\", \"{data}/log/app.log\")");
    let text = seen.ends(0).stdout.clone();
    assert!(text.contains("failed") && !text.contains("alice@") && !text.contains("hunter2"), "{text}");
    host.run("ls(\"{data}/log\").map(|entry| entry.name)").gives(serde_json::json!(["app.log"]));
    host.denies("sha256(\"{data}/log/app.log\")", "agents read text masked; the file itself is closed");
    host.run("cat(\"{data}/other.log\")").is_denied();
    host.denies("append_line(\"{data}/log/app.log\", \"x\")", "agents only look; a person has to make this change");
    host.is_closed_to_others("cat(\"{data}/log/app.log\")");
    // Another policy does not take the mask away.
    let both = format!("{ALLOW_ALL}\n{}", shipped("agent-redacted", &[("/var/log/app", "{data}/log")]));
    let host = host.with(|rex| rex.policy(&both));
    let text = host.run("cat(\"{data}/log/app.log\")").ends(0).stdout.clone();
    assert!(!text.contains("alice@") && !text.contains("hunter2"), "{text}");
}

#[test]
fn an_agent_tunes_one_file_for_a_task_with_a_backup_and_a_check() {
    needs_root!();
    let changes = [("/etc/nginx", "{data}/nginx"), ("/usr/sbin/nginx\"\n", "/usr/bin/true\"\n")];
    let rex = host_of_sessions("agent-tuner", "agents-tuning", &changes)
        .file("nginx/nginx.conf", "worker 1;\n")
        .file("nginx/conf.d/tuning.conf", "gzip off;\n")
        .file("nginx/site.key", "secret\n");
    let task = [("LC_REX_AGENT", "planner"), ("LC_REX_TASK", "CHG-1234")];
    let edit = "edit_line(\"{data}/nginx/conf.d/tuning.conf\", #{pattern: \"^gzip\", line: \"gzip on;\", backup: true}).changed";
    let hint = |run: &Run| run.is_denied().json()["error"]["hint"].as_str().unwrap_or("").to_owned();
    assert_eq!(hint(&session(&rex, "rex -o json", &[], edit)), "name the task in LC_REX_TASK");
    assert_eq!(hint(&session(&rex, "rex -o json", &[("LC_REX_TASK", "whatever")], edit)), "name the task in LC_REX_TASK");
    assert_eq!(rex.read("nginx/conf.d/tuning.conf"), "gzip off;\n");
    let whole = format!("{edit};\nexec(\"/usr/bin/true\", [\"-t\"]).ok");
    session(&rex, "rex -o json", &task, &whole).gives(true);
    assert_eq!(rex.read("nginx/conf.d/tuning.conf"), "gzip on;\n");
    assert_eq!(fs::read_dir(rex.data().join("nginx/conf.d")).unwrap().count(), 2, "the backup");
    for script in [
        "write(\"{data}/nginx/nginx.conf\", \"x\", #{replace: true})",
        "rm(\"{data}/nginx/conf.d/tuning.conf\")",
        "exec(\"/usr/bin/true\", [\"-s\", \"stop\"])",
        "cat(\"{data}/nginx/site.key\")",
    ] {
        session(&rex, "rex -o json", &task, script).is_denied();
    }
    assert_eq!(rex.read("nginx/nginx.conf"), "worker 1;\n");
}

#[test]
fn the_night_batch_writes_by_the_owners_runbook_only_and_at_night_only() {
    needs_root!();
    let changes = [("/srv/data", "{data}/in"), ("/srv/reports", "{data}/reports")];
    let runbook = "write(\"{data}/reports/\" + day + \".txt\", `${wc(\"{data}/in/a.csv\").lines} lines`).bytes";
    let all_day: Vec<(&str, &str)> = changes.iter().copied().chain([("duration(\"4h\")", "duration(\"24h\")")]).collect();
    let rex = host_of_sessions("night-batch", "batch", &all_day)
        .runbook("nightly", runbook)
        .runbook("other", runbook)
        .file("in/a.csv", "1\n2\n")
        .dir("reports");
    session(&rex, "rex run -o json @nightly day=monday", &[], "").gives(7);
    assert_eq!(rex.read("reports/monday.txt"), "2 lines");
    for (request, script) in
        [("rex run -o json @other day=tuesday", ""), ("rex -o json", "write(\"{data}/reports/tuesday.txt\", \"mine\")")]
    {
        let run = session(&rex, request, &[], script);
        assert_eq!(run.is_denied().json()["error"]["hint"], "use the runbook: rex run @nightly, between 00:00 and 04:00 UTC", "{request}");
    }
    let by_day: Vec<(&str, &str)> = changes.iter().copied().chain([("duration(\"4h\")", "duration(\"0h\")")]).collect();
    let rex = rex.policy(&shipped("night-batch", &by_day));
    let run = session(&rex, "rex run -o json @nightly day=tuesday", &[], "");
    assert_eq!(run.is_denied().json()["denials"][0]["retry"], true, "{run:#?}");
    assert!(!rex.exists("reports/tuesday.txt"));
}

#[test]
fn changes_come_through_the_bastion_whatever_else_is_permitted() {
    needs_root!();
    let rex = host_of_sessions("bastion-only", "anybody", &[]).file("f", "old\n");
    let policy = format!("{ALLOW_ALL}\n{}", shipped("bastion-only", &[]));
    let rex = rex.policy(&policy);
    let write = "write(\"{data}/f\", \"new\\n\", #{replace: true}).changed";
    let elsewhere = [("SSH_CONNECTION", "198.51.100.7 50022 192.0.2.1 22"), ("SSH_CLIENT", "198.51.100.7 50022 22")];
    let run = session(&rex, "rex -o json", &elsewhere, write);
    assert_eq!(run.is_denied().json()["error"]["hint"], "come through the bastion to change something");
    assert_eq!(rex.read("f"), "old\n");
    session(&rex, "rex -o json", &elsewhere, "cat(\"{data}/f\")").gives("old\n");
    session(&rex, "rex -o json", &[], write).gives(true);
    assert_eq!(rex.read("f"), "new\n");
}

#[test]
fn the_glass_is_broken_by_people_from_the_bastion_and_keys_stay_closed() {
    needs_root!();
    let changes = [("\"/etc\"", "\"{data}/etc\""), ("\"/etc/ssh\"", "\"{data}/etc/ssh\""), ("\"*.key\"", "\"*.key\"")];
    let rex = host_of_sessions("break-glass", "break-glass", &changes)
        .file("etc/app.conf", "a=1\n")
        .file("etc/ssh/sshd_config", "Port 22\n")
        .file("state", "broken\n")
        .file("site.key", "secret\n");
    session(&rex, "rex -o json", &[], "cat(\"{data}/state\")").gives("broken\n");
    session(&rex, "rex -o json", &[], "set_key(\"{data}/etc/app.conf\", \"a\", \"2\").changed").gives(true);
    let hint = |environment: &[(&str, &str)], script: &str| {
        session(&rex, "rex -o json", environment, script).is_denied().json()["error"]["hint"].as_str().unwrap_or("").to_owned()
    };
    assert_eq!(hint(&[("LC_REX_AGENT", "planner")], "cat(\"{data}/state\")"), "a person has to do this, from the bastion");
    assert_eq!(
        hint(&[("SSH_CONNECTION", "198.51.100.7 1 192.0.2.1 22")], "cat(\"{data}/state\")"),
        "a person has to do this, from the bastion"
    );
    assert_eq!(hint(&[], "cat(\"{data}/site.key\")"), "keys and passwords help in no emergency of this host");
    assert_eq!(
        hint(&[], "append_line(\"{data}/etc/ssh/sshd_config\", \"PermitRootLogin yes\")"),
        "accounts and what starts by itself are no emergency; that is changed in the ordinary way"
    );
    session(&rex, "rex -o json", &[], "rm(\"{data}/etc/app.conf\")").is_denied();
    assert_eq!(rex.read("etc/ssh/sshd_config"), "Port 22\n");
    assert!(rex.exists("etc/app.conf"));
}

#[test]
fn a_database_is_dumped_with_these_arguments_and_no_others() {
    // Says what it was called with, into the one file that it may write.
    let program = "/usr/bin/touch";
    let changes = [
        ("/usr/lib/postgresql/16/bin/pg_dump\"\n", "/usr/bin/touch\"\n"),
        ("\"--format=custom --file=/srv/dumps/app.dump app\" &&", "\"{data}/dumps/app.dump\" &&"),
        ("\"/srv/dumps", "\"{data}/dumps"),
        ("context.user.username == \"postgres\"", "context.user.username != \"nobody\""),
    ];
    let host = Host::new("database-dump", "dump", &changes).with(|rex| rex.dir("dumps").file("other", "x"));
    host.run(&format!("exec(\"{program}\", [\"{{data}}/dumps/app.dump\"]).status")).gives(0);
    assert!(host.rex.exists("dumps/app.dump"));
    for arguments in
        ["[\"{data}/dumps/other.dump\"]", "[\"{data}/dumps/app.dump\", \"{data}/dumps/b\"]", "[\"-m\", \"{data}/dumps/app.dump\"]", "[]"]
    {
        let run = host.run(&format!("exec(\"{program}\", {arguments})"));
        assert!(run.is_denied().events("effect").is_empty(), "{arguments}");
    }
    host.run(&format!("exec(\"{program}\", [\"{{data}}/dumps/app.dump\"], #{{env: #{{A: \"b\"}}}})")).is_denied();
    host.run(&format!("exec(\"{program}\", [\"{{data}}/dumps/app.dump\"], #{{stdin: \"x\"}})")).is_denied();
    host.denies("cat(\"{data}/dumps/app.dump\")", "dumps are read where they are restored");
    host.run("rm(\"{data}/dumps/app.dump\").removed").gives(1);
    host.run("rm(\"{data}/other\")").is_denied();
    assert_eq!(fs::read_dir(host.rex.data().join("dumps")).unwrap().count(), 0);
    host.is_closed_to_others(&format!("exec(\"{program}\", [\"{{data}}/dumps/app.dump\"])"));
}

#[test]
fn database_administrators_see_how_large_the_data_is_and_not_the_data() {
    let changes = [("/etc/postgresql", "{data}/conf"), ("/var/log/postgresql", "{data}/log"), ("/var/lib/postgresql", "{data}/lib")];
    let host = Host::new("postgres-host", "dba", &changes).with(|rex| {
        rex.file("conf/postgresql.conf", "port = 5432\n")
            .file("conf/server.key", "key\n")
            .file("log/main.log", "ready\n")
            .file("lib/base/1/2", "rows\n")
    });
    host.run("parse_ini(cat(\"{data}/conf/postgresql.conf\"))[\"\"].port").ends(0);
    host.run("tail(\"{data}/log/main.log\")").gives(serde_json::json!(["ready"]));
    host.run("du(\"{data}/lib\").bytes > 0").ends(0);
    host.run("ls(\"{data}/lib/base/1\").map(|entry| entry.name)").gives(serde_json::json!(["2"]));
    host.denies("cat(\"{data}/lib/base/1/2\")", "files of the database are not read past it; use psql");
    host.denies("cat(\"{data}/conf/server.key\")", "passwords and keys of the server are for its installer alone");
    host.run("append_line(\"{data}/conf/postgresql.conf\", \"x\")").is_denied();
    assert_eq!(host.rex.read("conf/postgresql.conf"), "port = 5432\n");
    host.is_closed_to_others("cat(\"{data}/log/main.log\")");
}

#[test]
fn the_queue_of_mail_is_counted_and_no_letter_is_opened() {
    let changes = [("/var/spool/postfix", "{data}/spool/postfix"), ("\"/var/spool\"", "\"{data}/spool\""), ("\"/var/log", "\"{data}/log")];
    let host = Host::new("mail-queue", "mail-watchers", &changes).with(|rex| {
        rex.config("[redaction]\nlines = \"all\"\nmask = [\"email\"]\n")
            .file("spool/postfix/deferred/A/A1", "Dear Bob\n")
            .file("spool/postfix/deferred/B/B2", "Dear Eve\n")
            .file("log/mail.log", "to=<bob@example.org> deferred\n")
            .file("log/auth.log", "login\n")
    });
    host.run("find(\"{data}/spool/postfix/deferred\").filter(|e| e.type == \"file\").len()").gives(2);
    let text = host.run("cat(\"{data}/log/mail.log\")").ends(0).stdout.clone();
    assert!(text.contains("deferred") && !text.contains("bob@"), "{text}");
    host.denies(
        "cat(\"{data}/spool/postfix/deferred/A/A1\")",
        &format!("letters are closed; the queue is counted: find(\"{}\")", host.rex.path("spool/postfix/deferred")),
    );
    host.run("cat(\"{data}/log/auth.log\")").is_denied();
    host.run("rm(\"{data}/spool/postfix/deferred/A/A1\")").is_denied();
    assert!(host.rex.exists("spool/postfix/deferred/A/A1"));
    host.is_closed_to_others("ls(\"{data}/spool/postfix\")");
}

#[test]
fn rotation_that_failed_is_mended_and_records_stay() {
    let host = Host::new("log-repair", "log-menders", &[("/var/log", "{data}/log"), ("1073741824", "1000")]).with(|rex| {
        rex.file("log/app.log", &"line\n".repeat(1000))
            .file("log/small.log", "line\n")
            .file("log/app.log.1", "old\n")
            .file("log/app.log.2.gz", "older")
            .file("log/auth.log.1", "logins\n")
            .file("kept.log.1", "x")
    });
    host.run("gzip(\"{data}/log/app.log.1\", #{keep: false}).removed").gives(true);
    host.run("rm(\"{data}/log/app.log.2.gz\").removed").gives(1);
    host.run("truncate(\"{data}/log/app.log\").changed").ends(0);
    assert_eq!(host.rex.read("log/app.log"), "");
    assert!(host.rex.exists("log/app.log.1.gz") && !host.rex.exists("log/app.log.1") && !host.rex.exists("log/app.log.2.gz"));
    host.run("truncate(\"{data}/log/small.log\")").is_denied();
    host.run("rm(\"{data}/log/small.log\")").is_denied();
    host.denies("rm(\"{data}/log/auth.log.1\")", "login records and audit trails stay as they are; call the security team");
    host.denies("gzip(\"{data}/log/auth.log.1\")", "login records and audit trails stay as they are; call the security team");
    host.run("rm(\"{data}/kept.log.1\")").is_denied();
    assert_eq!((host.rex.read("log/small.log").as_str(), host.rex.read("log/auth.log.1").as_str()), ("line\n", "logins\n"));
    host.is_closed_to_others("rm(\"{data}/log/app.log.1.gz\")");
}

#[test]
fn drift_is_reported_and_not_corrected() {
    let changes = [
        ("\"/etc", "\"{data}/etc"),
        ("\"/srv/baseline\"", "\"{data}/baseline\""),
        ("== \"/srv/drift/report.json\"", "== \"{data}/report.json\""),
    ];
    let host = Host::new("config-drift", "drift", &changes)
        .with(|rex| rex.file("etc/app.conf", "a=2\n").file("baseline/app.conf", "a=1\n").file("etc/shadow", "root:x\n"));
    let script = r#"
let found = [];
for name in ["app.conf"] {
    if sha256("{data}/etc/" + name) != sha256("{data}/baseline/" + name) { found.push(name); }
}
write("{data}/report.json", to_json(found)).bytes
"#;
    host.run(script).ends(0);
    assert_eq!(host.rex.read("report.json"), "[\"app.conf\"]");
    host.denies("sha256(\"{data}/etc/shadow\")", "secrets are not compared");
    host.run("cp(\"{data}/baseline/app.conf\", \"{data}/etc/app.conf\", #{force: true})").is_denied();
    host.run("write(\"{data}/other.json\", \"[]\")").is_denied();
    assert_eq!(host.rex.read("etc/app.conf"), "a=2\n");
    host.is_closed_to_others("sha256(\"{data}/etc/app.conf\")");
}

#[test]
fn packages_are_read_from_files_and_passwords_of_sources_are_not() {
    let changes = [("/var/lib/dpkg", "{data}/dpkg"), ("\"/etc/apt", "\"{data}/apt"), ("\"/usr/lib/os-release\"", "\"{data}/os-release\"")];
    let host = Host::new("package-reader", "inventory", &changes).with(|rex| {
        rex.file("dpkg/status", "Package: bash\nStatus: install ok installed\n\nPackage: zsh\n")
            .file("dpkg/lock", "")
            .file("apt/sources.list", "deb x\n")
            .file("apt/auth.conf", "password x\n")
            .file("os-release", "ID=debian\n")
    });
    host.run("grep(\"^Package: \", \"{data}/dpkg/status\").map(|line| line.sub_string(9))").gives(serde_json::json!(["bash", "zsh"]));
    host.run("parse_kv(cat(\"{data}/os-release\")).ID").gives("debian");
    host.run("cat(\"{data}/apt/sources.list\")").gives("deb x\n");
    host.denies("cat(\"{data}/apt/auth.conf\")", "passwords of package sources are closed");
    host.run("cat(\"{data}/dpkg/lock\")").is_denied();
    host.run("exec(\"/usr/bin/dpkg\", [\"-l\"])").is_denied();
    host.is_closed_to_others("cat(\"{data}/dpkg/status\")");
}

#[test]
fn processes_are_inspected_without_their_environments() {
    let host = Host::new("process-inspector", "process-inspectors", &[]);
    host.run("ps().len() > 1").gives(true);
    host.run("cat(\"/proc/1/status\").contains(\"Name:\")").gives(true);
    host.run("cat(\"/proc/1/environ\")").is_denied();
    host.denies("cat(\"/proc/1/maps\")", "environments and memory of processes are closed");
    host.run("cat(\"/proc/1/cmdline\")").is_denied();
    host.run("cat(\"/etc/hostname\")").is_denied();
    host.is_closed_to_others("cat(\"/proc/1/status\")");
}

#[test]
fn a_node_shows_logs_of_pods_and_neither_keys_nor_volumes() {
    let changes = [
        ("\"/var/log/pods", "\"{data}/pods"),
        ("\"/var/log/containers", "\"{data}/containers"),
        ("\"/etc/kubernetes", "\"{data}/kubernetes"),
        ("\"/var/lib/kubelet", "\"{data}/kubelet"),
    ];
    let host = Host::new("kubernetes-node", "node-readers", &changes).with(|rex| {
        rex.file("pods/default_web_1/web/0.log", "started\n")
            .dir("containers")
            .link("containers/web.log", "{data}/pods/default_web_1/web/0.log")
            .file("kubernetes/manifests/etcd.yaml", "kind: Pod\n")
            .file("kubernetes/admin.conf", "token: x\n")
            .file("kubernetes/pki/ca.key", "key\n")
            .file("kubelet/pods/1/volumes/secret/password", "hunter2\n")
            .link("containers/sly.log", "{data}/kubelet/pods/1/volumes/secret/password")
    });
    host.run("cat(\"{data}/containers/web.log\")").gives("started\n");
    host.run("parse_yaml(cat(\"{data}/kubernetes/manifests/etcd.yaml\")).kind").gives("Pod");
    for path in ["kubernetes/admin.conf", "kubernetes/pki/ca.key"] {
        host.denies(&format!("cat(\"{{data}}/{path}\")"), "keys and tokens of the node are closed; ask the people who run the cluster");
    }
    for path in ["kubelet/pods/1/volumes/secret/password", "containers/sly.log"] {
        let run = host.run(&format!("cat(\"{{data}}/{path}\")"));
        assert!(!run.is_denied().stdout.contains("hunter2"), "{path}");
    }
    host.is_closed_to_others("cat(\"{data}/containers/web.log\")");
}

#[test]
fn auditors_read_login_records_as_people_and_change_nothing() {
    needs_root!();
    let rex = host_of_sessions("journal-auditor", "auditors", &[("\"/var/log", "\"{data}/log")])
        .file("log/auth.log", "login\n")
        .file("log/rex/rex.jsonl", "{}\n")
        .file("log/syslog", "other\n");
    session(&rex, "rex -o json", &[], "cat(\"{data}/log/auth.log\")").gives("login\n");
    session(&rex, "rex -o json", &[], "cat(\"{data}/log/rex/rex.jsonl\")").gives("{}\n");
    let hint = |environment: &[(&str, &str)], script: &str| {
        session(&rex, "rex -o json", environment, script).is_denied().json()["error"]["hint"].as_str().unwrap_or("").to_owned()
    };
    assert_eq!(hint(&[("LC_REX_AGENT", "planner")], "cat(\"{data}/log/auth.log\")"), "audits are done by people");
    assert_eq!(hint(&[], "append_line(\"{data}/log/auth.log\", \"x\")"), "auditors change nothing; whoever does cannot be an auditor here");
    session(&rex, "rex -o json", &[], "cat(\"{data}/log/syslog\")").is_denied();
    assert_eq!(rex.read("log/auth.log"), "login\n");
}

#[test]
fn services_and_journals_of_a_real_systemd_are_open_as_far_as_the_policies_say() {
    needs_namespaces!();
    let groups = ["incident-reader", "nginx-oncall", "deploy-bot", "postgres-host", "kubernetes-node"];
    let mut rex = Rex::new();
    for name in groups {
        rex = rex.file(&format!("{name}.cedar"), &shipped(name, &[]));
    }
    let unit = |said: &str| format!("[Service]\nExecStartPre=/bin/echo {said}\nExecStart=/bin/sleep infinity\nExecReload=/bin/true\n");
    let units: Vec<(String, String)> = ["nginx", "app", "postgresql", "kubelet", "ssh"]
        .iter()
        .map(|name| (format!("{name}.service"), unit(&format!("of-{name}"))))
        .collect();
    let units: Vec<(&str, &str)> = units.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let systemd = Systemd::boot(&rex, &units);
    for (name, _) in &units {
        systemd.exec(&["systemctl", "start", name]).ends(0);
    }
    let run = |policy: &str, group: &str, script: &str| {
        let (program, config, policy) = (rex.program().to_str().unwrap(), rex.config_file(), rex.path(&format!("{policy}.cedar")));
        let config = config.to_str().unwrap();
        let words = [program, "run", "-", "--config", config, "--policy", &policy, "-o", "json", "--principal", "member", "--group", group];
        rex.finish(systemd.command(&words), script.as_bytes())
    };
    let said = |policy: &str, group: &str, unit: &str| {
        let script = format!("journal(#{{unit: \"{unit}\"}}).map(|entry| entry.message)");
        assert!(common::until(10.0, || run(policy, group, &script).stdout.contains(&format!("of-{unit}"))), "{policy} {unit}");
    };
    said("incident-reader", "incident", "app");
    said("nginx-oncall", "nginx-oncall", "nginx");
    said("postgres-host", "dba", "postgresql");
    said("kubernetes-node", "node-readers", "kubelet");
    run("nginx-oncall", "nginx-oncall", "service_reload(\"nginx\").active_state").gives("active");
    run("postgres-host", "dba", "service_reload(\"postgresql\").active_state").gives("active");
    run("deploy-bot", "deploy", "service_restart(\"app\").active_state").gives("active");
    run("kubernetes-node", "node-readers", "service_status(\"kubelet\").active").gives(true);
    let pid = |unit: &str| systemd.exec(&["systemctl", "show", "-P", "MainPID", unit]).stdout;
    let before: Vec<String> = units.iter().map(|(name, _)| pid(name)).collect();
    for (policy, group, script) in [
        ("incident-reader", "incident", "journal(#{unit: \"ssh\"})"),
        ("incident-reader", "incident", "journal(#{})"),
        ("incident-reader", "incident", "service_restart(\"app\")"),
        ("nginx-oncall", "nginx-oncall", "service_restart(\"nginx\")"),
        ("nginx-oncall", "nginx-oncall", "service_reload(\"app\")"),
        ("nginx-oncall", "nginx-oncall", "journal(#{unit: \"app\"})"),
        ("deploy-bot", "deploy", "service_restart(\"nginx\")"),
        ("deploy-bot", "deploy", "service_stop(\"app\")"),
        ("postgres-host", "dba", "service_restart(\"postgresql\")"),
        ("kubernetes-node", "node-readers", "service_restart(\"kubelet\")"),
        ("kubernetes-node", "node-readers", "journal(#{unit: \"ssh\"})"),
    ] {
        assert!(!run(policy, group, script).is_denied().stdout.contains("of-"), "{policy}: {script}");
    }
    assert_eq!(units.iter().map(|(name, _)| pid(name)).collect::<Vec<_>>(), before);
}

/// What a file of tests says of its policy is more than that it loads: take one rule's condition away, and some test fails.
#[test]
fn no_condition_of_a_shipped_policy_can_go_without_a_test_that_fails() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let rex = Rex::new();
    let (mut tried, mut passed) = (0, Vec::new());
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "cedar"));
    names.sort();
    for path in names {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let tests = fs::read_to_string(folder.join(format!("{name}.test.toml"))).unwrap();
        for (rule, without) in common::without_each_condition(&text) {
            let host = rex.data().join("mutant");
            fs::create_dir_all(&host).unwrap();
            fs::write(host.join(format!("{name}.cedar")), without).unwrap();
            fs::write(host.join(format!("{name}.test.toml")), &tests).unwrap();
            fs::set_permissions(&host, fs::Permissions::from_mode(0o755)).unwrap();
            let run = rex.finish(rex.command(&["policy", "test", host.to_str().unwrap()]), b"");
            tried += 1;
            match run.code {
                1 => {}
                0 => passed.push(format!("{name}: {rule}")),
                _ => panic!("{name}: {run:#?}"),
            }
            fs::remove_dir_all(&host).unwrap();
        }
    }
    assert!(tried > 60, "{tried}");
    assert!(passed.is_empty(), "without its condition nothing fails:\n{}", passed.join("\n"));
}
