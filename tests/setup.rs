//! `rex setup` in sandboxes: every way in through a real sshd, what it refuses, what it takes back, and what is left when it is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Key, Rex, Run, Sandbox, Systemd, until};

struct Case {
    sandbox: Sandbox,
    key: Key,
    rex: Rex,
}

impl Case {
    #[track_caller]
    fn new() -> Self {
        let rex = Rex::new();
        let sandbox = Sandbox::boot(&rex);
        let key = Key::new(&rex, "me");
        Self { sandbox, key, rex }
    }
    #[track_caller]
    fn setup(&self, words: &[&str]) -> Run {
        let all = [&[self.rex.program().to_str().unwrap(), "setup"], words].concat();
        self.sandbox.exec(&all)
    }
    /// The same with the client's key, without asking.
    #[track_caller]
    fn yes(&self, words: &[&str]) -> Run {
        self.setup(&[&["--yes", "--key", self.public()], words].concat())
    }
    fn public(&self) -> &str {
        &self.key.public
    }
    #[track_caller]
    fn ssh(&self, name: &str, request: &[&str], stdin: &str) -> Run {
        self.sandbox.ssh(name, &self.key, &[], request, stdin)
    }
    /// What the policy oncall-read-only allows, what it denies, and that there is no shell.
    #[track_caller]
    fn works_as(&self, name: &str, principal: &str) {
        let who = self.ssh(name, &["rex", "whoami", "--json"], "");
        assert_eq!(who.ends(0).json()["identity"]["principal"], principal, "{who:#?}");
        assert_eq!(self.ssh(name, &["rex"], "cat(\"/etc/hostname\").len() > 0\n").ends(0).stdout.trim(), "true");
        let denied = self.ssh(name, &["rex"], "cat(\"/etc/shadow\")\n");
        assert!(denied.ends(77).stderr.contains("password and key files are closed"), "{denied:#?}");
        assert_eq!(self.ssh(name, &["id"], "").ends(2).stdout, "");
        let records = self.sandbox.sh("cat /var/log/rex/rex.jsonl").stdout;
        assert!(records.lines().any(|line| line.contains("\"deny\"") && line.contains("/etc/shadow")), "{records}");
    }
    /// Takes it back; everything is as in `before`.
    #[track_caller]
    fn is_taken_back_to(&self, before: &str) {
        self.setup(&["--remove", "--yes"]).ends(0);
        same(before, &self.sandbox.tree());
        assert!(self.setup(&["--remove", "--yes"]).ends(0).stdout.contains("nothing to do"));
    }
}

#[track_caller]
fn same(before: &str, after: &str) {
    let lost: Vec<&str> = before.lines().filter(|line| !after.lines().any(|other| other == *line)).collect();
    let new: Vec<&str> = after.lines().filter(|line| !before.lines().any(|other| other == *line)).collect();
    assert!(lost.is_empty() && new.is_empty(), "not as before; gone: {lost:#?}; new: {new:#?}");
}

#[test]
fn an_account_of_the_group_asks_rex_and_nothing_else_and_all_of_it_is_taken_back() {
    needs_namespaces!();
    let case = Case::new();
    case.sandbox.start_sshd();
    let before = case.sandbox.tree();
    let plan = case.setup(&["--dry-run", "--key", case.public()]);
    assert!(
        plan.ends(0).stdout.contains("make the account `agent`") && plan.stdout.contains("+    ForceCommand exec /usr/bin/rex session"),
        "{plan:#?}"
    );
    same(&before, &case.sandbox.tree());
    // Nobody can be asked here.
    assert!(case.setup(&["--key", case.public()]).ends(2).stderr.contains("--yes"));
    same(&before, &case.sandbox.tree());

    let done = case.yes(&[]);
    assert!(done.ends(0).stdout.contains("an sshd started for it") && done.stdout.contains("the server at 127.0.0.1"), "{done:#?}");
    case.works_as("agent", "agent");
    // Not even with the switches of the client.
    let forward = case.sandbox.ssh("agent", &case.key, &["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9"], &["rex", "whoami"], "");
    assert_ne!(forward.code, 0, "{forward:#?}");
    assert!(
        case.sandbox
            .sh("stat -c '%U %a' /home/agent /etc/rex/keys/agent; getent shadow agent | cut -d: -f2")
            .stdout
            .starts_with("root 755\nroot 644\n*\n")
    );
    // Nothing of the tries is left.
    assert_eq!(case.sandbox.sh("cat /etc/rex/keys/agent").stdout.trim(), case.public());
    assert_eq!(case.sandbox.sh("ls /run | grep rex-setup").stdout, "");

    let set_up = case.sandbox.tree();
    assert!(case.yes(&[]).ends(0).stdout.contains("nothing to do"));
    same(&set_up, &case.sandbox.tree());
    let plan = case.setup(&["--json", "--dry-run", "--key", case.public()]).json();
    assert_eq!((&plan["schema"], plan["steps"].as_array().unwrap().len()), (&"rex.setup/1".into(), 0));

    case.is_taken_back_to(&before);
    assert_eq!(case.ssh("agent", &["rex", "whoami"], "").code, 255);
    // Records are nobody's to throw away, and closed to whoever gets the number of the group next.
    assert_eq!(case.sandbox.sh("stat -c '%U:%G %a' /var/log/rex").stdout.trim(), "root:root 700");
    assert!(case.sandbox.sh("grep -c allow /var/log/rex/rex.jsonl").stdout.trim() != "0");
    // Once more, on what is left.
    case.yes(&[]).ends(0);
    case.works_as("agent", "agent");
}

#[test]
fn a_subsystem_comes_beside_the_forced_command() {
    needs_namespaces!();
    let case = Case::new();
    case.sandbox.start_sshd();
    let before = case.sandbox.tree();
    // From what another way in left to this one: the steps that are missing.
    case.yes(&["--flavour", "forced-command"]).ends(0);
    assert_ne!(case.sandbox.ssh("agent", &case.key, &["-s"], &["rex"], "1\n").code, 0);
    let more = case.yes(&["--flavour", "subsystem"]);
    assert!(more.ends(0).stdout.contains(" 1. change /etc/ssh/sshd_config.d/rex.conf") && !more.stdout.contains(" 2. "), "{more:#?}");
    assert!(case.sandbox.ssh("agent", &case.key, &["-s"], &["rex"], "40 + 2\n").ends(0).stdout.contains("42"));
    case.works_as("agent", "agent");
    case.is_taken_back_to(&before);
}

#[test]
fn certificates_of_an_authority_are_the_people_they_name() {
    needs_namespaces!();
    let case = Case::new();
    case.sandbox.start_sshd();
    let before = case.sandbox.tree();
    let (authority, other) = (Key::new(&case.rex, "ca"), Key::new(&case.rex, "other-ca"));
    let words = [
        "--flavour",
        "certificate",
        "--account",
        "ops",
        "--principal",
        "alice",
        "--certificate-principal",
        "alice@corp",
        "--yes",
        "--authority",
    ];
    case.setup(&[&words[..], &[&authority.public]].concat()).ends(0);
    assert_eq!(case.ssh("ops", &["rex", "whoami"], "").code, 255, "a key without a certificate");
    other.certify(&case.key, "alice", "alice@corp", &["-V", "-5m:+1h"]);
    assert_eq!(case.ssh("ops", &["rex", "whoami"], "").code, 255, "a certificate of somebody else");
    authority.certify(&case.key, "alice", "bob@corp", &["-V", "-5m:+1h"]);
    assert_eq!(case.ssh("ops", &["rex", "whoami"], "").code, 255, "a certificate for somebody else");
    authority.certify(&case.key, "alice", "alice@corp", &["-V", "-5m:+1h"]);
    case.works_as("ops", "alice");
    case.is_taken_back_to(&before);
}

#[test]
fn a_key_of_root_asks_rex_and_other_keys_of_root_are_as_before() {
    needs_namespaces!();
    let case = Case::new();
    case.sandbox.start_sshd();
    let other = Key::new(&case.rex, "admin");
    case.sandbox
        .sh(&format!("mkdir -m 700 /root/.ssh; echo '{}' >/root/.ssh/authorized_keys; chmod 600 /root/.ssh/authorized_keys", other.public))
        .ends(0);
    let before = case.sandbox.tree();
    let done = case.yes(&["--flavour", "root", "--principal", "alice"]);
    assert!(done.ends(0).stdout.contains("other keys of root still give a shell"), "{done:#?}");
    case.works_as("root", "alice");
    assert_eq!(case.sandbox.ssh("root", &other, &[], &["echo", "a shell"], "").ends(0).stdout.trim(), "a shell");
    // Somebody adds a key meanwhile: it stays when ours goes.
    case.is_taken_back_to(&before);
    case.yes(&["--flavour", "root", "--principal", "alice", "--forced-commands-only", "--even-me"]).ends(0);
    case.works_as("root", "alice");
    assert_eq!(case.sandbox.ssh("root", &other, &[], &["echo", "a shell"], "").code, 255);
    case.sandbox.sh("echo '# more' >>/root/.ssh/authorized_keys").ends(0);
    case.setup(&["--remove", "--yes"]).ends(0);
    assert_eq!(case.sandbox.sh("cat /root/.ssh/authorized_keys").stdout, format!("{}\n# more\n", other.public));
    assert_eq!(case.sandbox.ssh("root", &other, &[], &["echo", "a shell"], "").ends(0).stdout.trim(), "a shell");
}

#[test]
fn one_key_of_an_account_asks_rex_and_the_owners_settings_stay() {
    needs_namespaces!();
    let case = Case::new();
    case.sandbox.start_sshd();
    // A syslog of the machine, since this account cannot write the file of records.
    let log = "import socket,os\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\ns.bind('/run/log')\nos.chmod('/run/log',0o666)\nopen('/run/log.up','w')\nwhile True:\n open('/run/log.txt','ab').write(s.recv(65536)+b'\\n')\n";
    let mut syslog = common::Running::start(case.sandbox.command(&["python3", "-c", log]));
    assert!(until(20.0, || case.sandbox.sh("test -e /run/log.up").code == 0), "{:?}", syslog.status());
    case.sandbox.sh("useradd --create-home --shell /bin/sh --password '*' carol; rm -f /home/carol/.*rc; mkdir -p /etc/rex").ends(0);
    let mine = "# ours\\nidentity = [\"user\"] # for now\\n[audit]\\nsyslog = true\\njournald = false\\nsyslog_socket = \"/run/log\"\\n";
    case.sandbox.sh(&format!("printf '{mine}' >/etc/rex/rex.toml")).ends(0);
    let before = case.sandbox.tree();
    case.yes(&["--flavour", "key", "--account", "carol", "--principal", "alice"]).ends(0);
    let settings = case.sandbox.sh("cat /etc/rex/rex.toml").stdout;
    assert!(settings.starts_with("# ours\nidentity = [\"argument\", \"user\"] # for now\n"), "{settings}");
    assert_eq!(case.sandbox.sh("stat -c '%U %a' /home/carol/.ssh /home/carol/.ssh/authorized_keys").stdout, "carol 700\ncarol 600\n");
    let who = case.ssh("carol", &["rex", "whoami", "--json"], "");
    assert_eq!(who.ends(0).json()["identity"]["principal"], "alice");
    case.ssh("carol", &["rex"], "cat(\"/etc/shadow\")\n").ends(77);
    case.ssh("carol", &["id"], "").ends(2);
    assert!(case.sandbox.sh("cat /run/log.txt").stdout.contains("/etc/shadow"));
    case.sandbox.sh("rm /run/log /run/log.up /run/log.txt").ends(0);
    case.setup(&["--remove", "--yes"]).ends(0);
    case.sandbox.sh("touch /run/log.txt /run/log /run/log.up").ends(0);
    assert_eq!(case.ssh("carol", &["rex", "whoami"], "").code, 255);
    let after = case.sandbox.tree();
    let changes = |tree: &str| tree.lines().filter(|line| !line.starts_with("/run/log")).map(str::to_owned).collect::<Vec<_>>().join("\n");
    same(&changes(&before), &changes(&after));
}

#[test]
fn a_link_in_a_home_is_not_gone_through() {
    needs_namespaces!();
    let case = Case::new();
    case.sandbox
        .sh("useradd --create-home --shell /bin/sh --password '*' carol; mkdir /home/carol/real; ln -s /etc /home/carol/.ssh")
        .ends(0);
    case.sandbox.sh("mkdir -p /etc/rex; printf '[audit]\\nsyslog_socket = \"/run/log\"\\n' >/etc/rex/rex.toml").ends(0);
    let before = case.sandbox.tree();
    let refused = case.yes(&["--flavour", "key", "--account", "carol", "--principal", "alice"]);
    assert!(refused.ends(78).stderr.contains("a link on the way"), "{refused:#?}");
    same(&before, &case.sandbox.tree());
}

#[test]
fn rex_as_login_shell_needs_nothing_of_sshd() {
    needs_namespaces!();
    let case = Case::new();
    case.sandbox.start_sshd();
    let before = case.sandbox.tree();
    case.yes(&["--flavour", "login-shell"]).ends(0);
    case.works_as("agent", "agent");
    assert_eq!(case.sandbox.sh("ls /etc/ssh/sshd_config.d; getent passwd agent | cut -d: -f7").stdout.trim(), "/usr/bin/rexsh");
    case.is_taken_back_to(&before);
    case.sandbox.sh("sed -i 's|^Subsystem.*|Subsystem sftp internal-sftp|' /etc/ssh/sshd_config").ends(0);
    assert!(case.yes(&["--flavour", "login-shell"]).ends(78).stderr.contains("internal-sftp"));
}

#[test]
fn whoever_is_at_work_is_not_locked_out() {
    needs_namespaces!();
    let case = Case::new();
    case.sandbox.sh("useradd --create-home --shell /bin/bash alice && groupadd -r rexusers && gpasswd -a alice rexusers").ends(0);
    let before = case.sandbox.tree();
    let setup = format!("{} setup --yes --key '{}'", case.rex.program().display(), case.public());
    // By sudo, and by a process above that is alice's; as the account itself, and by the group that it is in already.
    for (before_it, account) in [("SUDO_USER=alice ", "--account alice"), ("SUDO_USER=alice ", "--account agent")] {
        let refused = case.sandbox.sh(&format!("{before_it}{setup} {account}"));
        assert!(refused.ends(78).stderr.contains("`alice` is at work here") && refused.stderr.contains("--even-me"), "{refused:#?}");
        same(&before, &case.sandbox.tree());
    }
    let refused = case.sandbox.sh(&format!("{setup} --account root"));
    assert!(refused.ends(2).stderr.contains("root must not be held to rex"), "{refused:#?}");
    case.sandbox.sh(&format!("SUDO_USER=bob {setup}")).ends(0);
    assert!(case.sandbox.sh(&format!("SUDO_USER=alice {setup} --account alice --even-me")).ends(0).stdout.contains("instead of /bin/bash"));
    // Not root: nothing is looked at.
    let other = case.sandbox.sh(&format!("setpriv --reuid alice --regid alice --clear-groups {setup}"));
    assert!(other.ends(2).stderr.contains("only root can do"), "{other:#?}");
}

/// What goes wrong: what is done to the machine before, and what setup says then.
const FAULTS: &[(&str, &str, i32, &str)] = &[
    ("a broken configuration of sshd", "echo 'NoSuchKeyword yes' >>/etc/ssh/sshd_config", 78, "not valid as it is now"),
    (
        "a match that comes first",
        "printf 'Match Group rexusers\\n  ForceCommand none\\n' >/etc/ssh/sshd_config.d/a.conf",
        78,
        "another part of its configuration comes first",
    ),
    ("accounts that may log in", "echo 'AllowUsers bob' >/etc/ssh/sshd_config.d/a.conf", 78, "a login as `agent` did not end as it has to"),
    (
        "a file that cannot be replaced",
        "mkdir -p /etc/rex && touch /etc/pam.d/x && mount --bind /etc/pam.d/sshd /etc/pam.d/sshd",
        78,
        "/etc/pam.d/sshd",
    ),
    (
        "no room",
        "mkdir -p /etc/rex/keys && mount -t tmpfs -o size=4k,mode=755 none /etc/rex/keys && head -c 8192 /dev/zero >/etc/rex/keys/full; true",
        78,
        "/etc/rex/keys/agent",
    ),
    (
        "a tool that fails",
        "printf '#!/bin/sh\\necho no useradd today >&2\\nexit 9\\n' >/run/useradd; chmod 755 /run/useradd; mount --bind /run/useradd /usr/sbin/useradd",
        78,
        "no useradd today",
    ),
    ("policies that are not valid", "mkdir -p /etc/rex/policies; echo 'permit(' >/etc/rex/policies/x.cedar", 78, "x.cedar"),
    ("a folder that others can write", "mkdir -p /etc/rex; chmod 777 /etc/rex", 78, "chmod 0755 /etc/rex"),
    ("somebody's own configuration", "echo 'X11Forwarding no' >/etc/ssh/sshd_config.d/rex.conf", 78, "which setup did not write"),
    (
        "another principal of that name",
        "mkdir -p /etc/rex; printf '[[principal]]\\nname = \"agent\"\\n' >/etc/rex/principals.toml",
        78,
        "has a principal `agent` already",
    ),
    ("settings of another way in", "mkdir -p /etc/rex; printf 'identity = [\"auth-info\"]\\n' >/etc/rex/rex.toml", 78, "rests on `user`"),
];

#[test]
fn whatever_fails_is_taken_back() {
    needs_namespaces!();
    std::thread::scope(|scope| {
        for some in FAULTS.chunks(FAULTS.len().div_ceil(2)) {
            scope.spawn(move || {
                for (name, fault, code, says) in some {
                    let case = Case::new();
                    case.sandbox.sh(fault).ends(0);
                    let before = case.sandbox.tree();
                    let failed = case.yes(&[]);
                    assert!(failed.code == *code && failed.stderr.contains(says), "{name}: {failed:#?}");
                    assert!(!failed.stderr.contains("could be taken back"), "{name}: {}", failed.stderr);
                    same(&before, &case.sandbox.tree());
                    assert!(case.setup(&["--remove", "--yes"]).ends(0).stdout.contains("nothing to do"), "{name}");
                }
            });
        }
    });
}

/// How many steps the journal has when setup is killed: after the program, the group, folders, files, the account, sshd's configuration, in the try of a login.
const KILLS: &[usize] = &[1, 2, 8, 14, 17, 18, 20, 21, 22];

#[test]
fn a_setup_that_was_killed_is_told_of_and_cleaned_up() {
    needs_namespaces!();
    let case = Case::new();
    let before = case.sandbox.tree();
    for (number, at) in KILLS.iter().enumerate() {
        // The journal is written before each step. Killed by number, in the namespace of this sandbox.
        let kill = format!(
            "until [ $(grep -c '\"step\"' /var/lib/rex-setup/state.json 2>/dev/null || true) -ge {at} ] 2>/dev/null || ! kill -0 $1; do :; done; kill -9 $1; true"
        );
        let script = format!(
            "{} setup --yes --key '{}' >/dev/null 2>&1 & sh -c \"{}\" - $!",
            case.rex.program().display(),
            case.public(),
            kill.replace('"', "\\\"").replace('$', "\\$")
        );
        case.sandbox.sh(&script).ends(0);
        let told = case.setup(&["--dry-run", "--key", case.public()]);
        assert!(told.ends(78).stderr.contains("was interrupted at"), "{at}: {told:#?}");
        // Either way of going on ends well.
        if number == 3 {
            assert!(case.yes(&[]).ends(0).stderr.contains("was interrupted at"));
        }
        case.is_taken_back_to(&before);
        case.sandbox.sh("rm -rf /var/log/rex").ends(0);
    }
}

#[test]
fn what_the_owner_changed_since_is_kept() {
    needs_namespaces!();
    let case = Case::new();
    let before = case.sandbox.tree();
    case.yes(&[]).ends(0);
    case.sandbox.sh("echo '# mine' >>/etc/rex/rex.toml; echo '# mine' >>/etc/pam.d/sshd; echo x >/etc/rex/scripts/mine.rhai; useradd -r -s /bin/sh later && gpasswd -a later rexusers").ends(0);
    // Running it again leaves that alone.
    assert!(case.yes(&[]).ends(0).stdout.contains("nothing to do"));
    let removed = case.setup(&["--remove", "--yes"]);
    assert!(
        removed.ends(0).stdout.contains("/etc/rex/rex.toml.rex-saved") && removed.stdout.contains("has members by now: later"),
        "{removed:#?}"
    );
    assert!(case.sandbox.sh("tail -1 /etc/rex/rex.toml.rex-saved").stdout.contains("# mine"));
    assert_eq!(
        case.sandbox.sh("ls /etc/rex /etc/rex/scripts").stdout,
        "/etc/rex:\nrex.toml.rex-saved\nscripts\n\n/etc/rex/scripts:\nmine.rhai\n"
    );
    let pam = case.sandbox.sh("cat /etc/pam.d/sshd").stdout;
    assert!(pam.contains("user_readenv=1") && pam.ends_with("# mine\n"));
    assert!(before.contains("/etc/pam.d/sshd"));
}

#[test]
fn the_main_file_gets_an_include_where_it_has_none() {
    needs_namespaces!();
    let case = Case::new();
    case.sandbox
        .sh("sed -i '/^Include/d' /etc/ssh/sshd_config; echo 'Bad line' >/etc/ssh/sshd_config.d/unused.conf; usermod -d /home/x nobody")
        .ends(0);
    case.sandbox.start_sshd();
    let before = case.sandbox.tree();
    let done = case.yes(&[]);
    assert!(done.ends(0).stdout.contains("+Include /etc/ssh/sshd_config.d/rex.conf"), "{done:#?}");
    case.works_as("agent", "agent");
    case.is_taken_back_to(&before);
}

#[test]
fn a_login_is_gone_by_as_root_recorded_it() {
    needs_namespaces!();
    let case = Case::new();
    if case.sandbox.sh("test -e /proc/self/sessionid").code != 0 {
        eprintln!("skipped: this kernel has no audit");
        return;
    }
    case.sandbox.start_sshd();
    let before = case.sandbox.tree();
    case.yes(&["--record", "--principal", "alice"]).ends(0);
    case.works_as("agent", "alice");
    let who = case.ssh("agent", &["rex", "whoami", "--json"], "");
    assert_eq!(who.json()["identity"]["evidence"], "record");
    case.is_taken_back_to(&before);
}

const SSHD: &str =
    "[Service]\nExecStart=/usr/sbin/sshd -D\nExecReload=/bin/kill -HUP $MAINPID\nRuntimeDirectory=sshd\nRuntimeDirectoryPreserve=yes\n";
const RESTARTER: &str = "permit(principal in Group::\"restarters\", action == systemd::Action::\"restart\", resource is systemd::Service) when { resource.name == \"rextest-ok.service\" };\n\
    permit(principal in Group::\"restarters\", action in systemd::Action::\"view\", resource);\n\
    permit(principal in Group::\"restarters\", action == journal::Action::\"read\", resource == journal::Log::\"rextest-once.service\");\n\
    permit(principal in Group::\"restarters\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/var/log\");\n";

#[test]
fn an_account_gets_the_rights_that_its_policies_need_and_no_more() {
    needs_namespaces!();
    let rex = Rex::new();
    let systemd = Systemd::boot_whole(&rex, &[("ssh.service", SSHD)]);
    let port = common::spare_port();
    let key = Key::new(&rex, "me");
    std::fs::write(rex.root().join("restarter.cedar"), RESTARTER).unwrap();
    let sh = |script: &str| systemd.exec(&["sh", "-c", script]);
    sh(&format!(
        "printf 'Port {port}\\nListenAddress 127.0.0.1\\n' >>/etc/ssh/sshd_config; mkdir -p /run/sshd; systemctl start ssh rextest-ok"
    ))
    .ends(0);
    let policy = rex.root().join("restarter.cedar").to_str().unwrap().to_owned();
    let program = rex.program().to_str().unwrap();
    let done = systemd.exec(&[program, "setup", "--yes", "--flavour", "least-privilege", "--key", &key.public, "--policy", &policy]);
    assert!(done.ends(0).stdout.contains("systemctl reload") && done.stdout.contains("the server at 127.0.0.1"), "{done:#?}");
    let ssh = |script: &str| common::ssh_to(&rex, port, "agent", &key, &["rex"], script);
    // As systemd-tmpfiles does it at boot.
    sh("chgrp -R systemd-journal /run/log/journal && chmod -R g+rX /run/log/journal").ends(0);
    sh("install -m 640 -g adm /dev/stdin /var/log/app.log <<'END'\nof the app\nEND\nsystemctl start rextest-once").ends(0);
    assert_eq!(ssh("cat(\"/var/log/app.log\")\n").ends(0).stdout.trim(), "of the app");
    assert!(ssh("journal(#{unit: \"rextest-once\"}).map(|e| e.message).to_json()\n").ends(0).stdout.contains("the job was done"));
    let main = || sh("systemctl show -P MainPID rextest-ok").stdout.clone();
    let first = main();
    ssh("service_restart(\"rextest-ok\")\n").ends(0);
    assert_ne!(main(), first);
    let second = main();
    ssh("service_stop(\"rextest-ok\")\n").ends(77);
    // Nor has the account the right, whatever rex would say.
    let own = |words: &str| sh(&format!("setpriv --reuid agent --regid agent --init-groups systemctl --no-ask-password {words}"));
    assert_ne!(own("stop rextest-ok").code, 0);
    assert_ne!(own("restart rextest-reload").code, 0);
    assert_eq!(main(), second);
    own("restart rextest-ok").ends(0);
    assert_ne!(main(), second);
    let removed = systemd.exec(&[program, "setup", "--yes", "--remove"]);
    assert!(removed.ends(0).stdout.contains("50-rex-agent.rules"), "{removed:#?}");
    assert_ne!(sh("getent passwd agent; ls /etc/polkit-1/rules.d/*rex*").code, 0);
}

#[test]
fn the_server_of_rex_runs_as_a_unit() {
    needs_namespaces!();
    let rex = Rex::new();
    let systemd = Systemd::boot_whole(&rex, &[]);
    let port = common::spare_port();
    let key = Key::new(&rex, "me");
    let sh = |script: &str| systemd.exec(&["sh", "-c", script]);
    sh(&format!("mkdir -p /etc/rex; printf '[serve]\\nlisten = [\"127.0.0.1:{port}\"]\\n' >/etc/rex/rex.toml")).ends(0);
    let program = rex.program().to_str().unwrap();
    let done = systemd.exec(&[program, "setup", "--yes", "--flavour", "serve", "--principal", "alice", "--key", &key.public]);
    assert!(done.ends(0).stdout.contains("enable and start rex.service"), "{done:#?}");
    let ssh = |request: &[&str], script: &str| common::ssh_to(&rex, port, "anybody", &key, request, script);
    assert_eq!(ssh(&["rex", "whoami", "--json"], "").ends(0).json()["identity"]["principal"], "alice");
    ssh(&["rex"], "cat(\"/etc/shadow\")\n").ends(77);
    ssh(&["id"], "").ends(2);
    assert_eq!(sh("systemctl is-enabled rex; systemctl is-active rex").stdout, "enabled\nactive\n");
    systemd.exec(&[program, "setup", "--yes", "--remove"]).ends(0);
    assert_eq!(ssh(&["rex", "whoami"], "").code, 255);
    let left = sh(
        "cat /etc/rex/rex.toml; ls -d /etc/systemd/system/rex.service /etc/systemd/system/*/rex.service /var/lib/rex 2>/dev/null; getent passwd rex",
    );
    assert_eq!(left.stdout, format!("[serve]\nlisten = [\"127.0.0.1:{port}\"]\n"));
}
