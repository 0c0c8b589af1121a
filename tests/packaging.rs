//! The packages: built from the program under test, put into a Debian of their own, used, upgraded, removed; the unit in a real systemd; the container's root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Key, Machine, Rex, Run, Systemd, until};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// A command of the tree, to its end; what it printed.
#[track_caller]
fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(Path::new(HERE).join(program)).args(arguments).env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The program under test without what only a debugger reads, so that packages of it are made in a moment.
#[track_caller]
fn stripped(rex: &Rex) -> String {
    let path = rex.root().join("stripped");
    if !path.exists() {
        let status = Command::new("strip").arg("-o").arg(&path).arg(common::binary()).status().unwrap();
        assert!(status.success());
    }
    path.to_str().unwrap().to_owned()
}

/// The Debian package, in this folder.
#[track_caller]
fn deb(rex: &Rex, folder: &Path) -> PathBuf {
    tool("packaging/deb/build", &["--binary", &stripped(rex), "--compression", "none", folder.to_str().unwrap()]).into()
}

/// A Debian with the package at hand as /mnt/rexsh.deb; nothing where there is no Debian to be had.
fn debian() -> Option<(Rex, Machine)> {
    let base = Machine::base()?;
    let rex = Rex::new();
    let machine = Machine::boot(&rex, &base);
    let package = deb(&rex, &machine.shared());
    fs::rename(package, machine.shared().join("rexsh.deb")).unwrap();
    Some((rex, machine))
}

macro_rules! debian {
    () => {{
        needs_namespaces!();
        let Some(debian) = debian() else {
            eprintln!("skipped: this test needs a Debian to put packages into: tests/common/debian-root makes one");
            return;
        };
        debian
    }};
}

/// The next version of the package, with these texts in a file of its configuration in the place of those.
#[track_caller]
fn next_version(machine: &Machine, changes: &[(&str, &str, &str)]) {
    machine.sh(
        "rm -rf /tmp/next && dpkg-deb -R /mnt/rexsh.deb /tmp/next && sed -i 's/^Version: .*/Version: 99.0-1/' /tmp/next/DEBIAN/control",
    );
    for (file, from, to) in changes {
        machine.sh(&format!("grep -q '{from}' /tmp/next/{file} && sed -i 's|{from}|{to}|' /tmp/next/{file}"));
    }
    machine.sh("dpkg-deb --root-owner-group -Znone --build /tmp/next /tmp/next.deb");
}

const INSTALL: &[&str] = &["dpkg", "-i", "/mnt/rexsh.deb"];
const UPGRADE: &[&str] = &["dpkg", "--force-confdef", "--force-confold", "-i", "/tmp/next.deb"];

/// Everything that says who may log in and what starts by itself.
fn ways_in(machine: &Machine) -> String {
    machine.sh("sshd -T -C user=root,host=x,addr=192.0.2.1 | sort; grep -v ^rex: /etc/passwd
         ls -lR /etc/ssh /etc/pam.d /etc/security /etc/sudoers.d /root/.ssh 2>&1 || true
         cat /etc/ssh/sshd_config /etc/pam.d/*; find /etc/systemd /etc/rc*.d /etc/init.d /etc/cron* | sort; ls /proc/[0-9]*/exe | wc -l")
}

#[test]
fn installing_lets_nobody_in_and_starts_nothing() {
    let (_rex, machine) = debian!();
    machine.sh("ssh-keygen -A >/dev/null");
    let before = ways_in(&machine);
    let accounts = machine.sh("cat /etc/group; cat /etc/shells");
    let said = machine.does(INSTALL);
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(ways_in(&machine), before);
    let now = machine.sh("cat /etc/group; cat /etc/shells");
    let added: Vec<&str> =
        now.lines().filter(|line| !accounts.lines().any(|old| old == *line)).map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(added, ["rexusers", "rex", "/usr/bin/rexsh"]);
    let account = machine.sh("getent passwd rex");
    assert!(account.ends_with(":/var/lib/rex:/usr/sbin/nologin\n"), "{account}");
    assert!(machine.sh("grep ^rex: /etc/shadow").starts_with("rex:!"), "no password");
    assert!(machine.sh("id -nG rex").split_whitespace().any(|group| group == "rexusers"));
    // No policy, so nobody may do anything, root's sessions not excepted.
    let session = machine.run(&["rex", "session"]);
    assert_eq!(session.code, 78, "{session:#?}");
    // What it made is as tmpfiles.d says, by whatever means.
    let places =
        "/etc/rex /etc/rex/policies /etc/rex/rex.toml /var/cache/rex /var/log/rex /run/rex /run/rex/runs /run/rex/denials /run/rex/logins";
    let modes = machine.sh(&format!("stat -c '%a %U:%G %n' {places}"));
    let expected = "755 root:root /etc/rex\n755 root:root /etc/rex/policies\n644 root:root /etc/rex/rex.toml\n755 root:root /var/cache/rex\n\
                    2770 root:rexusers /var/log/rex\n755 root:root /run/rex\n1770 root:rexusers /run/rex/runs\n\
                    3770 root:rexusers /run/rex/denials\n711 root:root /run/rex/logins\n";
    assert_eq!(modes, expected);
}

#[test]
fn what_is_installed_is_roots_whole_and_runs() {
    let (_rex, machine) = debian!();
    machine.does(INSTALL);
    let version = format!("rex {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(machine.does(&["rex", "--version"]), version);
    machine.does(&["dpkg", "--verify", "rexsh"]);
    let odd = machine.sh("dpkg -L rexsh | while read -r f; do [ -L \"$f\" ] || stat -c '%a %U:%G %n' \"$f\"; done | grep -vE '^(644|755) root:root ' || true");
    assert_eq!(odd, "", "files that are not root's, or have an odd mode");
    let named = machine.sh("dpkg -L rexsh");
    for file in [
        "/etc/logrotate.d/rex",
        "/etc/rex/principals.toml",
        "/usr/bin/rexsh",
        "/usr/lib/systemd/system/rex.service",
        "/usr/share/bash-completion/completions/rex",
        "/usr/share/doc/rexsh/copyright",
        "/usr/share/doc/rexsh/examples/sshd_config.d/rex.conf",
        "/usr/share/man/man5/rex.toml.5.gz",
        "/usr/share/rex/policies/oncall-read-only.cedar",
    ] {
        assert!(named.lines().any(|line| line == file), "{file} is missing");
    }
    let conffiles = machine.does(&["dpkg-query", "-W", "-f", "${Conffiles}", "rexsh"]);
    let conffiles: Vec<&str> = conffiles.split_whitespace().filter(|word| word.starts_with('/')).collect();
    assert_eq!(conffiles, ["/etc/logrotate.d/rex", "/etc/rex/principals.toml", "/etc/rex/rex.toml"]);
    // The settings are legal, the policies hold their tests, and the record can be turned.
    machine.does(&["rex", "policy", "test", "/usr/share/rex/policies"]);
    machine.sh("install -m 644 /usr/share/rex/policies/oncall-read-only.cedar /etc/rex/policies/ && rex policy check");
    machine.sh("install -m 660 -g rexusers /etc/hostname /var/log/rex/rex.jsonl && logrotate -f /etc/logrotate.d/rex");
    machine.has_but_lacks(&["/var/log/rex/rex.jsonl.1"], &[]);
    assert_eq!(machine.sh("stat -c '%a %U:%G %s' /var/log/rex/rex.jsonl"), "660 root:rexusers 0\n");
}

#[test]
fn every_page_of_the_manual_is_set_without_a_warning() {
    let (_rex, machine) = debian!();
    machine.does(INSTALL);
    let pages = machine.sh("dpkg -L rexsh | grep '/man/man./' | sort");
    assert!(pages.lines().count() > 20, "{pages}");
    let said = machine.sh(r#"export LC_ALL=C.UTF-8 MANWIDTH=80
           for page in $(dpkg -L rexsh | grep '/man/man./.'); do man --warnings=w -l "$page" 2>&1 >/dev/null | sed "s|^|$page: |"; done"#);
    assert_eq!(said, "");
    machine.sh("mandb -q");
    for (page, text) in [
        ("rex", "EXIT STATUS"),
        ("rex.toml", "identity"),
        ("principals.toml", "[[principal]]"),
        ("7 rex-functions", "cat(path, #{"),
        ("rexsh", "rex session"),
    ] {
        let set = machine.sh(&format!("LC_ALL=C.UTF-8 MANWIDTH=200 man {page} | cat"));
        assert!(set.contains(text), "{page}: {set}");
    }
    let all = machine.sh("whatis rex rex-run rex-policy-check rex.toml principals.toml rex-functions");
    assert!(all.lines().count() >= 6 && !all.contains("nothing appropriate"), "{all}");
}

#[test]
fn the_shells_complete_the_command_line() {
    let (_rex, machine) = debian!();
    machine.does(INSTALL);
    let bash = r#"source /usr/share/bash-completion/bash_completion; _completion_loader rex; complete -p rex >&2
                  COMP_WORDS=(rex pol); COMP_CWORD=1; _rex rex pol rex; echo "${COMPREPLY[@]}""#;
    assert_eq!(machine.does(&["bash", "-c", bash]), "policy\n");
    assert_eq!(
        machine.does(&["zsh", "-fc", "autoload -U compinit && compinit -D -u && print $_comps[rex] && autoload +X _rex && print loaded"]),
        "_rex\nloaded\n"
    );
    let fish = machine.does(&["fish", "-c", "complete -C 'rex pol'"]);
    assert!(fish.starts_with("policy"), "{fish}");
}

/// Puts the examples in their places as docs/operations.md says, and an account of the group `oncall` whose key is /tmp/key.
#[track_caller]
fn open_for_agent(machine: &Machine) {
    machine.sh(
        r#"cp /usr/share/doc/rexsh/examples/sshd_config.d/rex.conf /etc/ssh/sshd_config.d/
           install -m 644 /usr/share/rex/policies/oncall-read-only.cedar /etc/rex/policies/
           printf '[audit]\nsyslog = false\njournald = false\nfile = "/var/log/rex/rex.jsonl"\n' >/etc/rex/rex.toml
           printf 'default = "refuse"\n[[principal]]\nname = "agent"\ngroups = ["oncall"]\nunix_users = ["agent"]\n' >/etc/rex/principals.toml
           useradd --no-create-home --shell /bin/sh --groups rexusers --password '*' agent
           install -d -m 755 /home/agent
           ssh-keygen -A >/dev/null
           ssh-keygen -q -t ed25519 -N '' -f /tmp/key
           install -m 644 /tmp/key.pub /etc/rex/keys/agent
           echo "hello from the log" >/var/log/app.log
           sshd -t"#,
    );
}

/// A port of 127.0.0.1 that nobody listens on.
fn spare_port() -> String {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port().to_string()
}

/// Debian's own sshd in the machine; its port.
#[track_caller]
fn sshd(machine: &Machine) -> String {
    for _ in 0..10 {
        let port = spare_port();
        machine.sh(&format!("/usr/sbin/sshd -p {port} -o ListenAddress=127.0.0.1 -E /tmp/sshd.log"));
        if until(10.0, || machine.run(&["grep", "-q", "Server listening", "/tmp/sshd.log"]).code == 0) {
            return port;
        }
        machine.sh("rm -f /tmp/sshd.log");
    }
    panic!("no sshd")
}

const SSH: &[&str] = &[
    "ssh",
    "-F",
    "none",
    "-i",
    "/tmp/key",
    "-o",
    "BatchMode=yes",
    "-o",
    "StrictHostKeyChecking=accept-new",
    "-o",
    "LogLevel=ERROR",
    "-o",
    "UserKnownHostsFile=/tmp/known",
    "-o",
    "ConnectTimeout=20",
];

fn ssh(machine: &Machine, port: &str, request: &str, stdin: &str) -> Run {
    let words = [SSH, &["-p", port, "agent@127.0.0.1", request]].concat();
    common::run(machine.command(&words), stdin.as_bytes(), 60)
}

#[test]
fn with_the_examples_in_place_an_account_has_sessions_and_nothing_else() {
    let (_rex, machine) = debian!();
    machine.does(INSTALL);
    open_for_agent(&machine);
    let port = sshd(&machine);
    let whoami = ssh(&machine, &port, "rex whoami", "");
    assert!(whoami.code == 0 && whoami.stdout.starts_with("principal  User::\"agent\"\ngroups     Group::\"oncall\"\n"), "{whoami:#?}");
    let allowed = ssh(&machine, &port, "rex", "cat(\"/var/log/app.log\")");
    assert_eq!((allowed.code, allowed.stdout.as_str()), (0, "hello from the log\n"), "{allowed:#?}");
    let denied = ssh(&machine, &port, "rex", "cat(\"/etc/shadow\")");
    assert!(denied.code == 77 && denied.stdout.is_empty(), "{denied:#?}");
    let written = ssh(&machine, &port, "rex", "write(\"/tmp/agent\", \"x\")");
    assert_eq!(written.code, 77, "{written:#?}");
    let shell = ssh(&machine, &port, "id > /tmp/agent", "");
    assert_eq!(shell.code, 2, "{shell:#?}");
    machine.sh("test ! -e /tmp/agent");
    let records = machine.sh("rex audit verify /var/log/rex/rex.jsonl >/dev/null && rex audit --decision deny /var/log/rex/rex.jsonl");
    for (word, what) in [("\"read\"", "/etc/shadow"), ("\"write\"", "/tmp/agent"), ("refused", "id > /tmp/agent")] {
        assert!(records.lines().any(|line| line.contains(word) && line.contains(what)), "{what}: {records}");
    }
    // With the link as login shell the same line of sshd leads to the same session, and nothing else does.
    machine.sh("usermod --shell /usr/bin/rexsh agent");
    let login = ssh(&machine, &port, "rex", "cat(\"/var/log/app.log\")");
    assert_eq!((login.code, login.stdout.as_str()), (0, "hello from the log\n"), "{login:#?}");
    assert_eq!(ssh(&machine, &port, "id", "").code, 2);
}

#[test]
fn an_upgrade_keeps_what_the_owner_changed_and_sessions_that_are_under_way() {
    let (_rex, machine) = debian!();
    machine.does(INSTALL);
    open_for_agent(&machine);
    machine.sh("echo '// mine' >/etc/rex/scripts/mine.rhai");
    let owners = "cat /etc/rex/*.toml /etc/rex/policies/*.cedar /etc/rex/scripts/* /etc/rex/keys/* /etc/ssh/sshd_config.d/rex.conf
                  getent passwd rex; getent group rexusers; cat /etc/shells";
    let before = machine.sh(owners);
    next_version(
        &machine,
        &[
            ("etc/rex/rex.toml", "require_complete = \"none\"", "require_complete = \"end\""),
            ("etc/logrotate.d/rex", "rotate 52", "rotate 53"),
        ],
    );
    let port = sshd(&machine);
    // A run that is waiting while the program is replaced; afterwards it still goes through the gate.
    let words = [SSH, &["-p", &port, "agent@127.0.0.1", "rex"]].concat();
    let mut running = common::Running::start(machine.command(&words));
    running.send(
        br#"print("begun");
            for i in 0..600 { if exists("/var/log/go.log") { break; } sleep(0.1); }
            print(cat("/var/log/app.log"));
            try { cat("/etc/shadow") } catch (e) { print(e.kind); }"#,
    );
    running.end_input();
    assert!(until(30.0, || machine.sh("cat /var/log/rex/rex.jsonl 2>/dev/null || true").contains("run_start")), "no run");
    let said = machine.does(UPGRADE);
    assert!(said.contains("99.0-1"), "{said}");
    assert_eq!(machine.does(&["dpkg-query", "-W", "-f", "${Version}", "rexsh"]), "99.0-1");
    machine.sh("touch /var/log/go.log");
    let run = running.finish(60);
    assert_eq!((run.code, run.stdout.as_str()), (0, "begun\nhello from the log\n\ndenied\n"), "{run:#?}");
    assert_eq!(machine.sh(owners), before);
    // What the owner left alone is the new one; what the new version would have had instead lies beside the owner's.
    assert!(machine.sh("cat /etc/logrotate.d/rex").contains("rotate 53"));
    assert!(machine.sh("cat /etc/rex/rex.toml.dpkg-dist").contains("require_complete = \"end\""));
    let after = ssh(&machine, &port, "rex", "cat(\"/var/log/app.log\")");
    assert_eq!(after.code, 0, "{after:#?}");
    machine.does(&["rex", "audit", "verify", "/var/log/rex/rex.jsonl"]);
}

#[test]
fn removal_leaves_the_owners_files_and_purge_what_is_evidence() {
    let (_rex, machine) = debian!();
    machine.does(INSTALL);
    open_for_agent(&machine);
    let port = sshd(&machine);
    assert_eq!(ssh(&machine, &port, "rex", "1").code, 0);
    machine.sh("install -d -m 700 -o rex -g rex /var/lib/rex && echo key >/var/lib/rex/host_key");
    let (program, package) =
        (["/usr/bin/rex", "/usr/bin/rexsh"], ["/etc/rex/rex.toml", "/etc/rex/principals.toml", "/etc/logrotate.d/rex"]);
    let state = ["/var/lib/rex/host_key", "/var/cache/rex", "/run/rex"];
    let owners = ["/etc/rex/policies/oncall-read-only.cedar", "/etc/rex/keys/agent", "/var/log/rex/rex.jsonl"];
    machine.has_but_lacks(&[&program[..], &package, &state, &owners].concat(), &[]);
    machine.does(&["dpkg", "-r", "rexsh"]);
    machine.has_but_lacks(&[&package[..], &state, &owners].concat(), &program);
    assert!(!machine.sh("cat /etc/shells").contains("rexsh"));
    // The owner's block for sshd is still there: it names a program that is gone, and so lets nobody do anything.
    let refused = ssh(&machine, &port, "id", "");
    assert!(refused.code == 127 && refused.stdout.is_empty(), "{refused:#?}");
    let said = machine.does(&["dpkg", "-P", "rexsh"]);
    assert!(said.contains("records stay in /var/log/rex"), "{said}");
    machine.has_but_lacks(&owners, &[&package[..], &state, &["/var/lib/rex", "/etc/rex/scripts"]].concat());
    assert_eq!(machine.run(&["dpkg", "-s", "rexsh"]).code, 1);
    // And it can come back.
    machine.does(INSTALL);
    machine.sh("grep -qx /usr/bin/rexsh /etc/shells && rex policy check");
}

#[test]
fn two_builds_of_a_package_are_the_same_bytes() {
    needs_root!();
    let rex = Rex::new();
    let (one, two) = (rex.root().join("one"), rex.root().join("two"));
    for folder in [&one, &two] {
        deb(&rex, folder);
        if Path::new("/usr/bin/rpmbuild").exists() {
            tool("packaging/rpm/build", &["--binary", &stripped(&rex), "--compression", "0.gzdio", folder.to_str().unwrap()]);
        }
    }
    let names = |folder: &Path| -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&one), names(&two));
    assert!(names(&one).iter().any(|name| name.ends_with(".deb")), "{:?}", names(&one));
    for name in names(&one) {
        assert!(fs::read(one.join(&name)).unwrap() == fs::read(two.join(&name)).unwrap(), "{name} differs");
    }
}

#[test]
fn the_rpm_package_holds_the_same_files_and_its_scripts_do_the_same() {
    let (rex, machine) = debian!();
    if !Path::new("/usr/bin/rpmbuild").exists() {
        eprintln!("skipped: this test needs rpmbuild (rpm)");
        return;
    }
    let rpm = tool("packaging/rpm/build", &["--binary", &stripped(&rex), "--compression", "0.gzdio", machine.shared().to_str().unwrap()]);
    let ask =
        |arguments: &[&str]| tool("/usr/bin/rpm", &[&["--dbpath", rex.root().join("db").to_str().unwrap()], arguments, &[&rpm]].concat());
    // The same files, but for what each family of hosts keeps elsewhere.
    let normal = |text: &str| -> Vec<String> {
        let own = ["changelog", "copyright", "CHANGELOG", "/usr/share/licenses"];
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| line.replace("/zsh/site-functions", "/zsh/vendor-completions"))
            .filter(|line| !own.iter().any(|word| line.contains(word)))
            .collect();
        lines.sort();
        lines
    };
    let files = normal(&ask(&["-qlp"]));
    let debian = machine.sh("dpkg-deb -c /mnt/rexsh.deb | awk '{print $6}' | sed 's|^\\.||'");
    let ours = |line: &String| files.contains(line) || line.contains(".gz") || line.contains("rex");
    let debian: Vec<String> = normal(&debian).into_iter().filter(|line| !line.ends_with('/')).filter(ours).collect();
    let files: Vec<String> = files
        .into_iter()
        .filter(|line| {
            !["/etc/rex", "/etc/rex/keys", "/etc/rex/policies", "/etc/rex/scripts", "/usr/share/doc/rexsh", "/usr/share/rex"]
                .contains(&line.as_str())
        })
        .collect();
    assert!(debian.iter().all(|line| files.contains(line)), "{debian:#?}\n{files:#?}");
    assert_eq!(ask(&["-qcp"]), "/etc/logrotate.d/rex\n/etc/rex/principals.toml\n/etc/rex/rex.toml");
    let owners = ask(&["-qp", "--qf", "[%{FILEUSERNAME}:%{FILEGROUPNAME}\n]"]);
    assert!(owners.lines().all(|line| line == "root:root"), "{owners}");

    let install = |flags: &[&str]| {
        let words = [&["rpm", "--root", "{root}", "--dbpath", "/var/lib/rpm-test", "--nodeps"], flags].concat();
        let run = machine.beside(&words);
        assert_eq!(run.code, 0, "{words:?}: {run:#?}");
    };
    install(&["-i", &rpm]);
    machine.sh("rex --version && grep -qx /usr/bin/rexsh /etc/shells && getent passwd rex && getent group rexusers");
    assert_eq!(machine.run(&["rex", "session"]).code, 78);
    assert_eq!(machine.sh("stat -c '%a %U:%G' /var/log/rex /run/rex/runs"), "2770 root:rexusers\n1770 root:rexusers\n");
    machine.sh("echo 'read_timeout = 31' >/etc/rex/rex.toml; touch /etc/rex/policies/mine.cedar");
    install(&["-U", "--replacepkgs", &rpm]);
    machine.sh("grep -q 'read_timeout = 31' /etc/rex/rex.toml && test \"$(grep -cx /usr/bin/rexsh /etc/shells)\" = 1");
    install(&["-e", "rexsh"]);
    machine.has_but_lacks(
        &["/etc/rex/policies/mine.cedar", "/etc/rex/rex.toml.rpmsave", "/var/log/rex"],
        &["/usr/bin/rex", "/usr/bin/rexsh", "/var/cache/rex", "/run/rex"],
    );
    assert!(!machine.sh("cat /etc/shells").contains("rexsh") && machine.sh("cat /etc/rex/rex.toml.rpmsave").contains("31"));
}

/// What systemd says of the unit's walls, 0 (none is open) to 10. More is a step back.
const EXPOSURE: &str = "20";

#[test]
fn the_unit_serves_behind_its_walls_in_a_real_systemd() {
    needs_namespaces!();
    let rex = Rex::new();
    let port = spare_port();
    let unit = fs::read_to_string(Path::new(HERE).join("packaging/rex.service")).unwrap();
    let ours = unit.replace("/usr/bin/rex ", &format!("{} ", rex.program().display()));
    assert_ne!(unit, ours);
    let systemd = Systemd::boot(&rex, &[("rex.service", &ours)]);
    let does = |words: &[&str]| {
        let run = systemd.exec(words);
        assert_eq!(run.code, 0, "{words:?}: {run:#?}");
        run.stdout
    };
    // Its folders must not come into being on the machine that runs the tests.
    let had_state = Path::new("/var/lib/rex").exists();
    for folder in ["/var/lib", "/var/cache"] {
        does(&["mount", "-t", "tmpfs", "none", folder]);
    }
    does(&["systemctl", "daemon-reload"]);
    let here = |name: &str| Path::new(HERE).join(name).to_str().unwrap().to_owned();
    does(&["systemd-sysusers", &here("packaging/sysusers.d/rex.conf")]);
    does(&["systemd-tmpfiles", "--create", &here("packaging/tmpfiles.d/rex.conf")]);
    let key = Key::new(&rex, "client");
    let settings = format!(
        "identity = [\"auth-info\"]\n[audit]\nfile = \"/var/log/rex/rex.jsonl\"\n[serve]\nlisten = [\"127.0.0.1:{port}\"]\nhost_key = \"/var/lib/rex/host_key\"\n"
    );
    for (name, text) in [
        ("rex.toml", settings.as_str()),
        ("authorized_keys", &key.public),
        ("principals.toml", &common::mapped_key(&key, "agent")),
        (
            "policies/all.cedar",
            "permit(principal, action, resource);\nforbid(principal, action, resource == file_system::File::\"/etc/shadow\");",
        ),
    ] {
        let run = common::run(systemd.command(&["install", "-m", "644", "/dev/stdin", &format!("/etc/rex/{name}")]), text.as_bytes(), 30);
        assert_eq!(run.code, 0, "{run:#?}");
    }
    let said = systemd.exec(&["systemd-analyze", "verify", "--man=no", "/etc/systemd/system/rex.service"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:#?}");
    let walls = systemd.exec(&[
        "systemd-analyze",
        "security",
        "--offline=yes",
        "--no-pager",
        &format!("--threshold={EXPOSURE}"),
        "/etc/systemd/system/rex.service",
    ]);
    assert_eq!(walls.code, 0, "{walls:#?}");

    does(&["systemctl", "start", "rex.service"]);
    let log = || systemd.exec(&["journalctl", "-u", "rex", "-o", "cat", "--no-pager"]).stdout;
    assert!(until(20.0, || log().contains("listening on")), "{}", log());
    let ssh = |request: &str, script: &str| {
        let key = key.file.to_str().unwrap();
        let words = [
            "ssh",
            "-F",
            "none",
            "-i",
            key,
            "-p",
            &port,
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=accept-new",
            "-o",
            "LogLevel=ERROR",
        ];
        let words = [&words[..], &["-o", "UserKnownHostsFile=/tmp/known", "agent@127.0.0.1", request]].concat();
        common::run(systemd.command(&words), script.as_bytes(), 60)
    };
    let whoami = ssh("rex whoami -o json", "");
    assert_eq!(whoami.json()["missing_layers"], serde_json::json!([]), "{whoami:#?}");
    let layers = whoami.json()["layers"].to_string();
    for layer in ["no-new-privs", "rlimits", "landlock", "seccomp"] {
        assert!(layers.contains(layer), "{layer} is kept out by the unit: {whoami:#?}");
    }
    let read = ssh("rex", "cat(\"/etc/hostname\")");
    assert_eq!((read.code, read.stdout.trim()), (0, "rex-test"), "{read:#?}");
    // The policy permits all, and so does the folder; the unit does not.
    fs::set_permissions(rex.data(), fs::Permissions::from_mode(0o777)).unwrap();
    let run = ssh("rex -o json", &rex.fill("write(\"{data}/made\", \"x\")"));
    assert!(run.code == 1 && run.json()["error"]["kind"] == "read_only" && !rex.exists("made"), "{run:#?}");
    let made = ssh("rex -o json", "write(\"/tmp/made\", \"x\"); exec(\"/usr/bin/id\", [\"-un\"]).stdout");
    assert_eq!(made.json()["value"], "rex\n", "{made:#?}");
    assert_eq!(systemd.exec(&["test", "-e", "/tmp/made"]).code, 1, "its /tmp is its own");
    assert_eq!(
        does(&["stat", "-c", "%a %U:%G", "/var/lib/rex", "/var/lib/rex/host_key", "/var/log/rex"]),
        "700 rex:rex\n600 rex:rex\n2770 root:rexusers\n"
    );
    does(&[rex.program().to_str().unwrap(), "audit", "verify", "/var/log/rex/rex.jsonl"]);
    // A denial is found again by who was told of it, so the folder for that is open to the unit.
    let denied = ssh("rex -o json", "cat(\"/etc/shadow\")");
    let reference = denied.json()["denials"][0]["ref"].as_str().unwrap().to_owned();
    let why = ssh(&format!("rex why {reference}"), "");
    assert!(why.code == 0 && why.stdout.contains("/etc/shadow"), "{why:#?}");
    does(&["systemctl", "stop", "rex.service"]);
    assert_eq!(does(&["systemctl", "show", "-P", "Result", "rex.service"]), "success\n");
    assert!(log().contains("stopped"), "{}", log());
    assert_eq!(Path::new("/var/lib/rex").exists(), had_state, "it wrote to the machine's own folders");
}

#[test]
fn the_profile_for_apparmor_is_one() {
    let parser = Path::new("/usr/sbin/apparmor_parser");
    if !parser.exists() {
        eprintln!("skipped: this test needs apparmor_parser (apparmor)");
        return;
    }
    // Compiled whole, and given to no kernel.
    let compiles = |path: &Path| {
        let output = Command::new(parser).args(["--skip-kernel-load", "--skip-cache"]).arg(path).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let profile = Path::new(HERE).join("packaging/apparmor/rex-serve");
    let (compiled, said) = compiles(&profile);
    assert!(compiled, "{said}");
    let broken = tempfile::NamedTempFile::new().unwrap();
    fs::write(broken.path(), fs::read_to_string(profile).unwrap().replace("network inet stream,", "network everything,")).unwrap();
    assert!(!compiles(broken.path()).0);
}

#[test]
fn the_containers_root_serves_with_nothing_but_the_program_in_it() {
    needs_namespaces!();
    let rex = Rex::new();
    let (root, volumes) = (rex.root().join("image"), rex.root().join("volumes"));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    tool("packaging/oci/root", &["--binary", &stripped(&rex), "--zoneinfo", "/usr/share/zoneinfo", &path(&root)]);
    // Nothing else to start: no shell, no library.
    let programs =
        tool("/usr/bin/find", &[&path(&root), "-type", "f", "(", "-perm", "/111", "-o", "-name", "*.so*", ")", "-printf", "%P\n"]);
    assert_eq!(programs, "usr/bin/rex");

    let key = Key::new(&rex, "client");
    for folder in ["etc/policies", "state", "records"] {
        fs::create_dir_all(volumes.join(folder)).unwrap();
    }
    let policy = "permit(principal, action, resource);\nforbid(principal, action, resource == file_system::File::\"/etc/group\");\n";
    let principals = common::mapped_key(&key, "agent");
    fs::copy(root.join("etc/rex/rex.toml"), volumes.join("etc/rex.toml")).unwrap();
    for (name, text) in [("authorized_keys", key.public.as_str()), ("principals.toml", &principals), ("policies/all.cedar", policy)] {
        fs::write(volumes.join("etc").join(name), text).unwrap();
    }
    for own in ["state", "records"] {
        std::os::unix::fs::chown(volumes.join(own), Some(65532), Some(65532)).unwrap();
    }
    let port = spare_port();
    let mut command = Command::new("sh");
    command.arg(Path::new(HERE).join("tests/common/container.sh")).arg(&root).arg(&volumes);
    command.args(["/usr/bin/rex", "serve", "--config", "/etc/rex/rex.toml", "--listen", &format!("127.0.0.1:{port}")]);
    let server = common::Running::start(command);
    assert!(until(20.0, || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok()), "{:#?}", server.finish(1));

    let ssh = |request: &str, script: &str| {
        let mut command = Command::new("ssh");
        command.args([
            "-F",
            "none",
            "-i",
            key.file.to_str().unwrap(),
            "-p",
            &port,
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=accept-new",
        ]);
        command
            .args(["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20", "-o"])
            .arg(format!("UserKnownHostsFile={}/known", rex.root().display()));
        common::run(
            {
                command.args(["agent@127.0.0.1", request]);
                command
            },
            script.as_bytes(),
            60,
        )
    };
    let whoami = ssh("rex whoami -o json", "").json();
    assert_eq!(
        (whoami["identity"]["principal"].as_str(), &whoami["missing_layers"]),
        (Some("agent"), &serde_json::json!([])),
        "{whoami:#}"
    );
    for layer in ["no-new-privs", "landlock", "seccomp"] {
        assert!(whoami["layers"].to_string().contains(layer), "{whoami:#}");
    }
    let shown =
        ssh("rex", "stat(\"/etc/rex\").owner + \" \" + stat(\"/var/lib/rex\").owner + \" \" + in_zone(now(), \"Europe/Berlin\").zone");
    assert_eq!((shown.code, shown.stdout.trim()), (0, "root rex Europe/Berlin"), "{shown:#?}");
    // The server's own key is nobody's, though sessions are of its account and the policy permits all.
    let stolen = ssh("rex -o json", "cat(\"/var/lib/rex/host_key\")");
    assert!(stolen.code == 77 && !stolen.stdout.contains("PRIVATE"), "{stolen:#?}");
    let denied = ssh("rex -o json", "cat(\"/etc/group\")");
    assert_eq!(denied.code, 77, "{denied:#?}");
    let reference = denied.json()["denials"][0]["ref"].as_str().unwrap().to_owned();
    assert_eq!(ssh(&format!("rex why {reference}"), "").code, 0);
    for place in ["/usr/made", "/tmp/made", "/made"] {
        let run = ssh("rex -o json", &format!("write(\"{place}\", \"x\")"));
        assert!(run.code == 1 && run.json()["error"]["kind"] == "read_only", "{run:#?}");
    }
    let key_file = fs::metadata(volumes.join("state/host_key")).unwrap();
    assert_eq!((key_file.permissions().mode() & 0o777, std::os::unix::fs::MetadataExt::uid(&key_file)), (0o600, 65532));
    let records = volumes.join("records/rex.jsonl");
    assert!(fs::read_to_string(&records).unwrap().contains(&reference));
    rex.finish(rex.command(&["audit", "verify", records.to_str().unwrap()]), b"").ends(0);
    // Records that cannot be written, and nothing runs.
    std::os::unix::fs::chown(&records, Some(0), Some(0)).unwrap();
    fs::set_permissions(&records, fs::Permissions::from_mode(0o644)).unwrap();
    let unrecorded = ssh("rex", "print(\"ran\")");
    assert!(unrecorded.code == 78 && unrecorded.stdout.is_empty(), "{unrecorded:#?}");
    // docker stop.
    let pid: i32 = fs::read_to_string(volumes.join("pid")).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM).unwrap();
    let end = server.finish(30);
    assert!(end.code == 0 && end.stderr.contains("stopped"), "{end:#?}");
}
