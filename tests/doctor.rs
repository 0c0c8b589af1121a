//! `rex doctor` on real hosts: each fault is found where it is, a hardened host has none, and what is called exploitable is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
#[path = "doctor/faults.rs"]
mod faults;
#[path = "doctor/host.rs"]
mod host;

use common::{Key, Run};
use faults::{BATCHES, Batch, MADE_UP};
use host::Host;
use serde_json::Value;
use std::process::Command;

/// The findings of a check.
fn of<'a>(document: &'a Value, id: &str) -> Vec<&'a Value> {
    document["findings"].as_array().unwrap().iter().filter(|finding| finding["id"] == id).collect()
}

fn ids(document: &Value) -> Vec<String> {
    let mut ids: Vec<String> =
        document["findings"].as_array().unwrap().iter().map(|finding| finding["id"].as_str().unwrap().to_owned()).collect();
    ids.dedup();
    ids
}

/// Findings that count, with what was seen.
fn grave(document: &Value) -> Vec<String> {
    let counts = |finding: &&Value| ["critical", "high", "medium"].contains(&finding["severity"].as_str().unwrap());
    document["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(counts)
        .map(|finding| format!("{}: {}", finding["id"], finding["detail"]))
        .collect()
}

/// Without Landlock, as an old kernel answers.
fn without_landlock(command: &mut Command) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    use std::os::unix::process::CommandExt as _;
    let rules = [(libc::SYS_landlock_create_ruleset, Vec::new())].into_iter().collect();
    let errno = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, std::env::consts::ARCH.try_into().unwrap()).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    // SAFETY: prctl(2) and seccomp(2) on a program that was made before the fork.
    #[expect(unsafe_code, reason = "a filter for the child alone")]
    unsafe {
        command.pre_exec(move || {
            rustix::thread::set_no_new_privs(true)?;
            seccompiler::apply_filter(&program).map_err(|_| std::io::Error::other("the filter"))
        });
    }
}

/// Spoils a hardened host, and sees each fault found at its place.
#[track_caller]
fn tries(name: &str) {
    needs_namespaces!();
    let batch: &Batch = BATCHES.iter().find(|batch| batch.name == name).unwrap();
    let host = Host::hardened();
    host.sh(batch.spoil);
    let run = host.doctor_with(batch.arguments, |command| {
        if batch.name == "layers" {
            without_landlock(command)
        }
    });
    let document = run.json();
    for (id, place) in batch.finds {
        let found = of(&document, id);
        assert!(
            !found.is_empty(),
            "{name}: {id} is not found; found: {:?}\nnot judged: {}\n{}",
            ids(&document),
            document["not_judged"],
            run.stderr
        );
        let told = |finding: &&Value| {
            format!("{}:{} {} {}", finding["file"].as_str().unwrap_or(""), finding["line"], finding["account"], finding["detail"])
        };
        assert!(found.iter().any(|finding| told(finding).contains(place)), "{name}: {id} is not told of `{place}`: {found:#?}");
    }
    let refuses = document["findings"].as_array().unwrap().iter().any(|finding| finding["refuses"] == true);
    let expected = if refuses {
        78
    } else if !grave(&document).is_empty() {
        1
    } else if document["not_judged"].as_array().unwrap().is_empty() {
        0
    } else {
        78
    };
    assert_eq!((run.code, document["exit"].as_i64().unwrap()), (expected, i64::from(expected)), "{name}: {run:#?}");
}

macro_rules! batches { ($($name:ident)*) => { $(#[test] fn $name() { tries(stringify!($name)); })* const TRIED: &[&str] = &[$(stringify!($name)),*]; } }
batches! {
    switches open_home match_user by_connection odd_line no_program keys rexsh_with_options rexsh_and_sftp shells passwords locked pam
    owners unreadable invalid nothing_there records records_full record_evidence broken_sshd no_sshd other_daemon old_sshd principals_command program layers
    no_group root_login shared elsewhere unknown cut_root
}

#[test]
fn every_check_is_provoked_by_some_fault() {
    let batches: Vec<&str> = BATCHES.iter().map(|batch| batch.name).collect();
    assert_eq!(batches, TRIED, "each batch is a test");
    let provoked: Vec<&str> = BATCHES.iter().flat_map(|batch| batch.finds).map(|(id, _)| *id).chain(MADE_UP.iter().copied()).collect();
    let missing: Vec<&str> = rexsh::doctor::checks().map(|check| check.id).filter(|id| !provoked.contains(id)).collect();
    assert!(missing.is_empty(), "no fault provokes {missing:?}");
    let unknown: Vec<&&str> = provoked.iter().filter(|id| !rexsh::doctor::checks().any(|check| check.id == **id)).collect();
    assert!(unknown.is_empty(), "no such checks: {unknown:?}");
}

#[test]
fn a_hardened_host_has_nothing_that_counts_and_its_records_were_tried() {
    needs_namespaces!();
    let host = Host::hardened();
    let run = host.doctor(&[]);
    let document = run.json();
    assert!(grave(&document).is_empty(), "{:#?}", document["findings"]);
    assert_eq!((run.code, document["not_judged"].as_array().unwrap().len()), (0, 0), "{run:#?}");
    assert_eq!(document["accounts"], serde_json::json!(["agent"]));
    assert!(host.syslog().contains("\"event\":\"note\"") || host.syslog().contains("rex doctor looks"), "{}", host.syslog());
    let file = host.sh("cat /var/log/rex/rex.jsonl").stdout;
    assert!(file.contains("\"event\":\"note\"") && file.contains("\"what\":\"doctor\""), "{file}");
    let verified = common::run(host.command(&[host.rex.program().to_str().unwrap(), "audit", "verify", "/var/log/rex/rex.jsonl"]), b"", 60);
    assert_eq!(verified.code, 0, "{verified:#?}");
    // The same twice, but for the time: monitors compare.
    let again = host.doctor(&[]).json();
    assert_eq!(document["findings"], again["findings"]);
    // For people: no colour where nobody watches, and what is in order when asked.
    let program = host.rex.program().to_str().unwrap();
    let text = common::run(host.command(&[program, "doctor", "--all"]), b"", 60);
    assert!(text.code == 0 && !text.stdout.contains('\u{1b}') && text.stdout.contains("ok        forward-tcp"), "{text:#?}");
}

#[test]
fn whoever_is_not_root_is_told_what_was_not_judged() {
    needs_namespaces!();
    let host = Host::hardened();
    let program = host.rex.program().to_str().unwrap().to_owned();
    let run = common::run(
        host.command(&["setpriv", "--reuid", "64991", "--regid", "64991", "--clear-groups", &program, "doctor", "--json", "agent"]),
        b"",
        60,
    );
    let document = run.json();
    assert_eq!((run.code, document["privileged"].as_bool()), (78, Some(false)), "{run:#?}");
    let blind: Vec<&str> = document["not_judged"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    for id in ["no-gate", "forward-tcp", "password-set", "audit-refuses", "sshd-config-invalid", "own-jobs"] {
        assert!(blind.contains(&id), "{id}: {blind:?}");
        assert!(!document["ok"].as_array().unwrap().iter().any(|ok| ok == id), "{id} passed unseen");
    }
    let fix = common::run(
        host.command(&["setpriv", "--reuid", "64991", "--regid", "64991", "--clear-groups", &program, "doctor", "--fix"]),
        b"",
        60,
    );
    assert_eq!(fix.code, 2, "{fix:#?}");
}

#[test]
fn fix_mends_what_is_rexs_own_keeps_what_was_there_and_leaves_the_rest() {
    needs_namespaces!();
    let host = Host::hardened();
    host.sh("sed -i 's/user_readenv=0/user_readenv=1/' /etc/pam.d/sshd; cp /etc/pam.d/sshd \"$ROOT/pam.before\"; chmod 666 /etc/rex/rex.toml; chown 64991 /etc/rex/policies/test.cedar
        rm -r /run/rex/denials; chmod 777 /run/rex/runs; chgrp root /var/log/rex; chmod 00755 /var/log/rex; mkdir -m 777 /var/cache/rex; chown agent /home/agent; echo 'PermitTunnel yes' >>/etc/ssh/sshd_config");
    let before = host.doctor(&[]);
    assert_eq!(before.code, 78, "{before:#?}");
    let state = host.sh("sha256sum /etc/ssh/sshd_config \"$D\" /etc/passwd /etc/shadow; stat -c '%u %a' /home/agent").stdout;
    let run = host.doctor(&["--fix"]);
    let document = run.json();
    for id in ["owner-untrusted", "pam-user-environment", "run-folders", "audit-folder", "cache-untrusted"] {
        assert!(!of(&before.json(), id).is_empty(), "{id} was not found");
        assert!(of(&document, id).is_empty(), "{id} is still found: {document:#}");
    }
    assert!(!of(&document, "home-writable").is_empty(), "homes are the owner's business");
    let fixed: Vec<&str> = document["fixed"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert!(fixed.iter().any(|line| line.contains("+session") && line.contains("user_readenv=0")), "{fixed:#?}");
    host.sh("cmp /etc/pam.d/sshd.rex-saved \"$ROOT/pam.before\"; ! grep -q user_readenv=1 /etc/pam.d/sshd
        [ \"$(stat -c '%U:%G %a' /run/rex/denials)\" = 'root:rexusers 3770' ]; [ \"$(stat -c '%U:%G %a' /run/rex/runs)\" = 'root:rexusers 1770' ]
        [ \"$(stat -c '%U:%G %a' /var/log/rex)\" = 'root:rexusers 2770' ]; [ \"$(stat -c '%u %a' /etc/rex/rex.toml)\" = '0 644' ]");
    assert_eq!(host.sh("sha256sum /etc/ssh/sshd_config \"$D\" /etc/passwd /etc/shadow; stat -c '%u %a' /home/agent").stdout, state);
    // Once more: nothing to do.
    assert!(host.doctor(&["--fix"]).json()["fixed"].as_array().unwrap().is_empty());
}

// ---- what is called exploitable is ---------------------------------------------------------------------------------

/// The login as the attacker does it, before and after the mend.
#[track_caller]
fn exploit(host: &Host, id: &str, attack: impl Fn(u16) -> Run, works: impl Fn(&Run) -> bool, mend: &str) {
    let found = host.doctor(&[]).json();
    assert!(!of(&found, id).is_empty(), "{id} is not found: {:?}", ids(&found));
    let run = attack(host.sshd());
    assert!(works(&run), "{id}: what doctor calls exploitable does not work: {run:#?}");
    host.end_sshd();
    host.sh(mend);
    let found = host.doctor(&[]).json();
    assert!(of(&found, id).is_empty(), "{id} is still found: {:#?}", of(&found, id));
    let run = attack(host.sshd());
    assert!(!works(&run), "{id}: it works after the mend: {run:#?}");
}

#[test]
fn a_second_login_name_really_escapes_match_user() {
    needs_namespaces!();
    let host = Host::hardened();
    host.sh("sed -i 's/^Match Group rexusers/Match User agent/' \"$D\"; echo 'other:x:64991:64991::/home/agent:/bin/sh' >>/etc/passwd; echo 'other:*:20000:0:99999:7:::' >>/etc/shadow
        cp /etc/rex/keys/agent /etc/rex/keys/other; echo 'AuthorizedKeysFile /etc/rex/keys/%u' >>/etc/ssh/sshd_config");
    exploit(
        &host,
        "alias-escapes",
        |port| common::run(host.ssh(port, &host.key, "other", &["id", "-u"]), b"", 30),
        |run| run.stdout == "64991\n",
        "sed -i 's/^Match User agent/Match Group rexusers/' \"$D\"; sed -i 's/^rexusers:.*/&,other/' /etc/group",
    );
}

#[test]
fn a_key_without_the_forced_command_is_really_anybody() {
    needs_namespaces!();
    let host = Host::hardened();
    host.sh("sed -i '/ForceCommand/d' \"$D\"; sed -i '1i identity = [\"argument\"]' /etc/rex/rex.toml; printf '[[principal]]\\nname = \"boss\"\\n' >>/etc/rex/principals.toml
        printf '@id(\"all\")\\npermit(principal == User::\"boss\", action, resource);\\n' >/etc/rex/policies/boss.cedar
        printf 'restrict,command=\"exec %s session --principal agent\" %s\\n' \"$REX\" \"$KEY\" >/etc/rex/keys/agent");
    let second = Key::new(&host.rex, "second");
    host.sh("cat \"$ROOT/ssh/second.pub\" >>/etc/rex/keys/agent");
    let program = host.rex.program().to_str().unwrap().to_owned();
    let attack = |port| {
        common::run(host.ssh(port, &second, "agent", &[&program, "session", "--principal", "boss"]), b"cat(\"/etc/passwd\").len() > 10", 30)
    };
    let gate = host.doctor(&[]).json();
    assert!(!of(&gate, "argument-unsound").is_empty(), "{gate:#}");
    exploit(&host, "key-unforced", attack, |run| run.stdout == "true\n", "sed -i '2d' /etc/rex/keys/agent");
}

#[test]
fn forwarding_to_a_unix_socket_really_needs_no_command() {
    needs_namespaces!();
    let host = Host::hardened();
    host.sh("sed -i -e 's/DisableForwarding yes/DisableForwarding no/' -e 's/\\(AllowTcpForwarding\\|AllowStreamLocalForwarding\\) no/\\1 yes/' -e '/PermitOpen/d' \"$D\"");
    let socket = host.rex.root().join("service.sock");
    let service = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = service.accept() {
            let _ = std::io::Write::write_all(&mut client, b"secret of the service");
        }
    });
    let attack = |port| {
        let own = host.rex.root().join("mine.sock");
        let _ = std::fs::remove_file(&own);
        let forward = format!("{}:{}", own.display(), socket.display());
        let running = common::Running::start(host.ssh(port, &host.key, "agent", &["-N", "-L", &forward]));
        common::until(20.0, || own.exists());
        let mut said = String::new();
        if let Ok(mut client) = std::os::unix::net::UnixStream::connect(&own) {
            let _ = client.set_read_timeout(Some(std::time::Duration::from_secs(20)));
            let _ = std::io::Read::read_to_string(&mut client, &mut said);
        }
        drop(running);
        Run { stdout: said, stderr: String::new(), code: 0, audit: Vec::new(), seconds: 0.0 }
    };
    exploit(
        &host,
        "forward-unix",
        attack,
        |run| run.stdout.contains("secret"),
        "sed -i 's/AllowStreamLocalForwarding yes/AllowStreamLocalForwarding no/' \"$D\"",
    );
}

#[test]
fn start_up_files_really_run_in_front_of_rex() {
    needs_namespaces!();
    let host = Host::hardened();
    host.sh("sed -i 's#/home/agent:/bin/sh#/home/agent:/bin/bash#' /etc/passwd; chown agent /home/agent; echo 'echo the start-up file ran' >/home/agent/.bashrc; chown agent /home/agent/.bashrc");
    let attack = |port| common::run(host.ssh(port, &host.key, "agent", &["rex", "-e", "1"]), b"", 30);
    exploit(
        &host,
        "shell-startup",
        attack,
        |run| run.stdout.contains("the start-up file ran"),
        "sed -i 's#/home/agent:/bin/bash#/home/agent:/bin/sh#' /etc/passwd",
    );
}

#[test]
fn the_rc_file_of_a_key_without_restrict_really_runs() {
    needs_namespaces!();
    let host = Host::hardened();
    host.sh("sed -i -e '/ForceCommand/d' -e 's/PermitUserRC no/PermitUserRC yes/' \"$D\"; printf 'command=\"exec %s session\" %s\\n' \"$REX\" \"$KEY\" >/etc/rex/keys/agent
        mkdir /home/agent/.ssh; echo 'echo the rc file ran >&2' >/home/agent/.ssh/rc; chmod 755 /home/agent/.ssh; chmod 644 /home/agent/.ssh/rc");
    let attack = |port| common::run(host.ssh(port, &host.key, "agent", &["rex", "-e", "1"]), b"", 30);
    exploit(
        &host,
        "user-rc",
        attack,
        |run| run.stderr.contains("the rc file ran"),
        "sed -i 's/^command/restrict,command/' /etc/rex/keys/agent",
    );
}

#[test]
fn the_built_in_sftp_really_passes_by_rexsh() {
    needs_namespaces!();
    let host = Host::hardened();
    host.sh("ln -s rex \"$ROOT/rexsh\"; sed -i \"s#/home/agent:/bin/sh#/home/agent:$ROOT/rexsh#\" /etc/passwd; sed -i '/ForceCommand/d' \"$D\"; sed -i 's#^Subsystem sftp.*#Subsystem sftp internal-sftp#' /etc/ssh/sshd_config");
    let attack = |port| common::run(host.sftp(port, &host.key, "agent"), b"ls /etc/hostname\n", 30);
    exploit(
        &host,
        "internal-sftp",
        attack,
        |run| run.code == 0 && run.stdout.contains("/etc/hostname"),
        "sed -i 's#internal-sftp#/usr/lib/openssh/sftp-server#' /etc/ssh/sshd_config",
    );
}
