//! Policies from a signed git repository: packaging/fleet/rex-policy-pull takes what may be taken, and refuses everything else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Account, Key, Rex, Run, Systemd};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const FIRST: &str = "@id(\"first\") permit(principal == User::\"alice\", action == sysinfo::Action::\"list\", resource);\n";
const SECOND: &str = "@id(\"second\") permit(principal == User::\"bob\", action == sysinfo::Action::\"list\", resource);\n";
const TEST: &str = "[[test]]\nname = \"alice may\"\nprincipal = \"alice\"\naction = 'sysinfo::Action::\"list\"'\nresource = \"local\"\nexpect = \"allow\"\n";

/// A host, and the repository that it pulls from, with the key of somebody who may sign.
struct Site {
    rex: Rex,
    signer: Key,
}

impl Site {
    fn new() -> Self {
        let rex = Rex::new();
        let signer = Key::new(&rex, "signer");
        let site = Self { signer, rex };
        fs::write(site.file("signers"), format!("releases@example namespaces=\"git\" {}\n", site.signer.public)).unwrap();
        site.configure("");
        site.git(&["init", "-q", "-b", "main", site.path("work").as_str()]);
        // The program under test is what the script finds as `rex`.
        fs::create_dir_all(site.file("bin")).unwrap();
        let script =
            common::shipped("packaging/fleet/rex-policy-pull").replace("PATH=/usr/sbin", &format!("PATH={}:/usr/sbin", site.path("bin")));
        fs::hard_link(site.rex.program(), site.file("bin/rex")).unwrap();
        fs::write(site.file("pull"), script).unwrap();
        fs::write(
            site.rex.policy_file(),
            "@id(\"old\") permit(principal == User::\"carol\", action == sysinfo::Action::\"list\", resource);\n",
        )
        .unwrap();
        site
    }
    fn file(&self, name: &str) -> PathBuf {
        self.rex.root().join(name)
    }
    fn path(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }
    fn configure(&self, more: &str) {
        let paths = [("repository", "work"), ("signers", "signers"), ("state", "state"), ("hold", "hold"), ("rex_config", "etc/rex.toml")];
        let lines: String = paths.iter().map(|(name, path)| format!("{name}={}\n", self.path(path))).collect();
        fs::write(self.file("pull.conf"), format!("# of a test\n{lines}{more}\n")).unwrap();
    }
    /// git as somebody who works on the policies.
    #[track_caller]
    fn git(&self, words: &[&str]) -> String {
        let mut command = Command::new("git");
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("GIT_CONFIG_GLOBAL", "/dev/null").env("HOME", "/nonexistent");
        for (name, who) in [("GIT_AUTHOR", "releases"), ("GIT_COMMITTER", "releases")] {
            command.env(format!("{name}_NAME"), who).env(format!("{name}_EMAIL"), "releases@example");
        }
        if words[0] != "init" {
            command.args(["-C", &self.path("work")]);
        }
        let output = command.args(["-c", "gpg.format=ssh"]).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
    /// A commit with these policies, signed with this key; its id.
    #[track_caller]
    fn commit(&self, policies: &str, key: Option<&Key>) -> String {
        self.put("policies/test.cedar", policies);
        self.commit_all(key)
    }
    fn put(&self, path: &str, text: &str) {
        let file = self.file("work").join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    #[track_caller]
    fn commit_all(&self, key: Option<&Key>) -> String {
        self.git(&["add", "-A"]);
        match key {
            Some(key) => {
                let signing = format!("user.signingKey={}", key.file.display());
                self.git(&["-c", &signing, "commit", "-q", "-S", "--allow-empty", "-m", "policies"])
            }
            None => self.git(&["commit", "-q", "--allow-empty", "-m", "policies"]),
        };
        self.git(&["rev-parse", "HEAD"])
    }
    #[track_caller]
    fn pull(&self) -> Run {
        let mut command = Command::new("sh");
        command.args([self.path("pull"), self.path("pull.conf")]).env_clear().env("PATH", "/usr/bin:/bin");
        self.rex.finish(command, b"")
    }
    fn in_force(&self) -> String {
        fs::read_to_string(self.rex.policy_file()).unwrap()
    }
    /// It is refused for this reason, and everything is as it was.
    #[track_caller]
    fn refuses(&self, code: i32, why: &str) {
        let before = (self.in_force(), fs::read_to_string(self.file("state/status")).ok());
        let run = self.pull();
        assert!(run.code == code && run.stderr.contains(why) && run.stderr.contains("nothing has changed"), "{why}: {run:#?}");
        assert_eq!(before, (self.in_force(), fs::read_to_string(self.file("state/status")).ok()), "{run:#?}");
        assert!(run.events("policy_change").is_empty(), "{run:#?}");
    }
}

#[test]
fn a_signed_set_counts_and_the_next_one_after_it() {
    needs_root!();
    let site = Site::new();
    site.put("policies/test.test.toml", TEST);
    let first = site.commit(FIRST, Some(&site.signer));
    let run = site.pull();
    assert!(run.code == 0 && run.stderr.contains(&format!("commit {first} of releases@example: in force: 1 policy")), "{run:#?}");
    assert_eq!((site.in_force().as_str(), run.events("policy_change").len()), (FIRST, 1));
    // What becomes permitted and what no more is said before it is.
    assert!(run.stderr.contains("first") && run.stderr.contains("old"), "{run:#?}");
    let status = fs::read_to_string(site.file("state/status")).unwrap();
    let checked: serde_json::Value = serde_json::from_str(
        &common::run(site.rex.command(&["policy", "check", "--json", "--config", site.rex.config_file().to_str().unwrap()]), b"", 60)
            .stdout,
    )
    .unwrap();
    assert_eq!(status, format!("commit={first}\nsigner=releases@example\ndigest={}\n", checked["digest"].as_str().unwrap()));
    // Again: nothing to do, nothing on record.
    let run = site.pull();
    assert!(run.code == 0 && run.stderr.contains("already in force") && run.events("policy_change").is_empty(), "{run:#?}");
    let both = format!("{FIRST}{SECOND}");
    site.commit(&both, Some(&site.signer));
    assert_eq!((site.pull().code, site.in_force()), (0, both));
}

#[test]
fn what_is_not_signed_by_somebody_who_may_is_refused() {
    needs_root!();
    let site = Site::new();
    site.commit(FIRST, Some(&site.signer));
    assert_eq!(site.pull().code, 0);
    let stranger = Key::new(&site.rex, "stranger");
    let good = site.git(&["rev-parse", "HEAD"]);
    site.commit(SECOND, None);
    site.refuses(77, "no signature of somebody");
    site.git(&["reset", "-q", "--hard", &good]);
    site.commit(SECOND, Some(&stranger));
    site.refuses(77, "no signature of somebody");
    // Tampered: the commit of somebody who may, with another tree in it.
    site.git(&["reset", "-q", "--hard", &good]);
    let signed = site.commit(SECOND, Some(&site.signer));
    let text = site.git(&["cat-file", "commit", &signed]);
    site.put("policies/test.cedar", "permit(principal, action, resource);\n");
    site.git(&["add", "-A"]);
    let tree = site.git(&["write-tree"]);
    let forged =
        text.lines().map(|line| if line.starts_with("tree ") { format!("tree {tree}\n") } else { format!("{line}\n") }).collect::<String>();
    fs::write(site.file("forged"), forged).unwrap();
    let forged = site.git(&["hash-object", "-t", "commit", "-w", &site.path("forged")]);
    site.git(&["update-ref", "refs/heads/main", &forged]);
    site.refuses(77, "no signature of somebody");
    // A key that may sign files or mails, but not for git.
    site.git(&["reset", "-q", "--hard", &good]);
    // Whoever signs chooses the date that a time limit would be held against.
    fs::write(site.file("signers"), format!("releases@example namespaces=\"git\",valid-before=\"20250101Z\" {}\n", site.signer.public))
        .unwrap();
    site.refuses(78, "valid-before");
    fs::write(site.file("signers"), format!("releases@example namespaces=\"file\" {}\n", site.signer.public)).unwrap();
    site.commit(SECOND, Some(&site.signer));
    site.refuses(77, "no signature of somebody");
    fs::write(site.file("signers"), format!("releases@example namespaces=\"git\" {}\n", site.signer.public)).unwrap();
    assert_eq!((site.pull().code, site.in_force().as_str()), (0, SECOND));
}

#[test]
fn an_older_commit_and_another_history_are_refused_though_they_are_signed() {
    needs_root!();
    let site = Site::new();
    let first = site.commit(FIRST, Some(&site.signer));
    let second = site.commit(SECOND, Some(&site.signer));
    assert_eq!((site.pull().code, site.in_force().as_str()), (0, SECOND));
    site.git(&["reset", "-q", "--hard", &first]);
    site.refuses(77, "does not come after");
    // Built on the older one, beside the one in force.
    site.commit(&format!("{FIRST}{SECOND}"), Some(&site.signer));
    site.refuses(77, "does not come after");
    site.git(&["reset", "-q", "--hard", &second]);
    assert_eq!(site.pull().code, 0);
    // A host that knows of none yet is told where the history begins.
    fs::remove_dir_all(site.file("state")).unwrap();
    site.git(&["reset", "-q", "--hard", &first]);
    site.configure(&format!("minimum={second}"));
    site.refuses(77, "does not come after");
    site.git(&["reset", "-q", "--hard", &second]);
    assert_eq!(site.pull().code, 0);
}

#[test]
fn sets_that_are_not_fit_and_odd_files_are_refused() {
    needs_root!();
    let site = Site::new();
    site.commit(FIRST, Some(&site.signer));
    assert_eq!(site.pull().code, 0);
    let good = site.git(&["rev-parse", "HEAD"]);
    let refused = |why: &str| {
        site.commit_all(Some(&site.signer));
        site.refuses(78, why);
        site.git(&["reset", "-q", "--hard", &good]);
    };
    site.put("policies/test.cedar", "permit(principal, action == no::Action::\"such\", resource);\n");
    refused("not valid");
    site.put("policies/test.test.toml", &TEST.replace("\"alice\"", "\"mallory\""));
    refused("tests of the policies fail");
    std::os::unix::fs::symlink("/etc/passwd", site.file("work/policies/link.cedar")).unwrap();
    refused("is no plain file");
    site.put("policies/a b.cedar", FIRST);
    refused("no name for a policy");
    // git writes such a name in quotes; a forbid must not go missing for it.
    site.put("policies/d\u{e9}fense.cedar", FIRST);
    refused("no name for a policy");
    fs::remove_dir_all(site.file("work/policies")).unwrap();
    site.put("other", "");
    refused("has no folder policies");
    assert_eq!((site.pull().code, site.in_force().as_str()), (0, FIRST));
}

#[test]
fn the_configuration_must_be_roots_and_say_what_is_known() {
    needs_root!();
    let site = Site::new();
    site.commit(FIRST, Some(&site.signer));
    for (more, why) in [
        ("branch=-x", "characters"),
        ("branch=a;b", "characters"),
        ("repository=ext::sh\u{a0}x", "characters"),
        ("no_such=1", "not understood"),
        ("repository=ext::true", "cannot fetch"),
        ("branch=missing", "cannot fetch"),
    ] {
        site.configure(more);
        site.refuses(if why == "cannot fetch" { 75 } else { 78 }, why);
    }
    site.configure("");
    let account = Account::new();
    for file in ["pull.conf", "signers"] {
        std::os::unix::fs::chown(site.file(file), Some(account.uid), None).unwrap();
        site.refuses(78, "others than root can write it");
        std::os::unix::fs::chown(site.file(file), Some(0), None).unwrap();
    }
    assert_eq!(site.pull().code, 0);
}

#[test]
fn what_was_changed_on_the_host_is_said_and_put_right_unless_it_is_held() {
    needs_root!();
    let site = Site::new();
    site.commit(FIRST, Some(&site.signer));
    assert_eq!(site.pull().code, 0);
    fs::write(site.rex.policy_file(), SECOND).unwrap();
    fs::write(site.file("hold"), "").unwrap();
    let run = site.pull();
    assert!(run.code == 0 && run.stderr.contains("held by") && site.in_force() == SECOND, "{run:#?}");
    fs::remove_file(site.file("hold")).unwrap();
    let run = site.pull();
    assert!(run.code == 0 && run.stderr.contains("drift"), "{run:#?}");
    assert_eq!((site.in_force().as_str(), run.events("policy_change").len()), (FIRST, 1));
}

#[test]
fn the_unit_pulls_within_its_own_walls_under_a_real_systemd() {
    needs_namespaces!();
    let site = Site::new();
    site.commit(FIRST, Some(&site.signer));
    // Records that a session of an account began are among those that it appends to.
    let account = Account::new();
    fs::write(site.rex.audit_file(), "").unwrap();
    std::os::unix::fs::chown(site.rex.audit_file(), Some(account.uid), Some(account.gid)).unwrap();
    let unit = common::shipped("packaging/fleet/rex-policy-pull.service")
        .replace("/usr/lib/rex/rex-policy-pull", &format!("/bin/sh {} {}", site.path("pull"), site.path("pull.conf")))
        .replace("ConditionPathExists=/etc/rex/policy-pull.conf\n", "")
        .replace("After=network-online.target\nWants=network-online.target\n", "")
        .replace(
            "ReadWritePaths=/etc/rex -/var/log/rex",
            &format!("ReadWritePaths={} {} {}", site.path("etc"), site.path("audit"), site.path("state")),
        );
    fs::create_dir_all(site.file("state")).unwrap();
    let timer = common::shipped("packaging/fleet/rex-policy-pull.timer");
    let systemd = Systemd::boot(&site.rex, &[("rex-policy-pull.service", &unit), ("rex-policy-pull.timer", &timer)]);
    let run = systemd.exec(&["systemctl", "start", "rex-policy-pull.service"]);
    let log = systemd.exec(&["journalctl", "-u", "rex-policy-pull", "--no-pager"]);
    assert_eq!((run.code, site.in_force().as_str()), (0, FIRST), "{run:#?}{log:#?}");
    site.commit(SECOND, None);
    let run = systemd.exec(&["systemctl", "start", "rex-policy-pull.service"]);
    assert!(run.code != 0 && site.in_force() == FIRST, "{run:#?}");
    let failed = systemd.exec(&["systemctl", "--failed", "--plain", "--no-legend"]);
    assert!(failed.stdout.contains("rex-policy-pull.service"), "{failed:#?}");
    let timers = systemd.exec(&["sh", "-c", "systemctl enable --now rex-policy-pull.timer && systemctl list-timers --all --no-pager"]);
    assert!(timers.stdout.contains("rex-policy-pull.timer"), "{timers:#?}");
}
