//! A fleet as it is run: twenty hosts with a real sshd each, behind a bastion; ClusterShell, pssh and Ansible before them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Fleet, Key, Run, Site, until};
use std::fs;

/// What alice may see on most hosts.
const LOOK: &str =
    r#"@id("look") permit(principal == User::"alice", action in file_system::Action::"view", resource in file_system::Dir::"/srv/app");"#;
/// On one host she may only ask how it is called.
const NAME_ONLY: &str = r#"@id("name") permit(principal == User::"alice", action == sysinfo::Action::"list", resource);"#;

/// So many hosts, `web01` and so on: the last but one denies, the third has another file than the others.
fn fleet(count: usize) -> Fleet {
    let names: Vec<String> = (1..=count).map(|number| format!("web{number:02}")).collect();
    let site = Site::behind_a_bastion(&names.iter().map(String::as_str).collect::<Vec<_>>());
    site.only("control", "root/.ssh/config", &common::block("docs/fleet.md", "# ~/.ssh/config"));
    site.only("control", "etc/ansible/hosts", &common::block("docs/fleet.md", "# /etc/ansible/hosts"));
    site.all("srv/app/version", "release 7\n");
    for (at, name) in names.iter().enumerate() {
        site.asks_rex(name, if at + 2 == count { NAME_ONLY } else { LOOK });
    }
    site.only(&names[2], "srv/app/version", "release 6\n");
    site.only("control", "root/version.rhai", "cat(\"/srv/app/version\")\n");
    site.up()
}

/// Exit codes of the runs that ended on a host, oldest first.
#[track_caller]
fn ends(fleet: &Fleet, host: &str) -> Vec<i64> {
    let records = fleet.records(host);
    records.iter().filter(|record| record["event"] == "run_end").map(|record| record["exit"].as_i64().unwrap()).collect()
}

#[track_caller]
fn has(run: &Run, texts: &[&str]) {
    for text in texts {
        assert!(run.stdout.contains(text) || run.stderr.contains(text), "no `{text}`: {run:#?}");
    }
}

// ---- one script on many hosts -----------------------------------------------------------------------------------------

#[test]
fn twenty_hosts_behind_a_bastion_answer_in_groups_and_the_tools_tell_who_refused_and_who_is_down() {
    needs_namespaces!();
    let fleet = fleet(20);
    fleet.stop("web20");
    // The other way is none: no host answers to control.
    let direct = fleet.control("ssh -o ProxyJump=none -o ConnectTimeout=2 web01 rex -e 1");
    assert!(direct.code == 255 && direct.stdout.is_empty(), "{direct:#?}");
    fleet.control("ssh -fN bastion").ends(0);

    let run = fleet.control("clush -w web[01-20] -b -S rex < version.rhai");
    // The largest of the codes: ssh's own for a host that is down hides the rest, which are on stderr.
    assert_eq!(run.code, 255, "{run:#?}");
    has(&run, &["web[01-02,04-18] (17)\n---------------\nrelease 7", "web03\n---------------\nrelease 6"]);
    has(&run, &["web19: ACCESS_DENIED_EXCEPTION", "clush: web19: exited with exit code 77", "clush: web20: exited with exit code 255"]);
    // Each host has its own record of the same script; who was denied has the denial; who was down has nothing.
    let script = fleet.records("web01").iter().find(|record| record["event"] == "run_start").unwrap()["script"].clone();
    for number in 1..=19 {
        let host = format!("web{number:02}");
        let records = fleet.records(&host);
        let start = records.iter().find(|record| record["event"] == "run_start").unwrap_or_else(|| panic!("{host}: {records:#?}"));
        let facts = [&start["host"], &start["principal"], &start["client"], &start["script"]];
        assert_eq!(facts.map(|fact| fact.as_str().unwrap()), [host.as_str(), "alice", "10.77.0.1", script.as_str().unwrap()], "{start:#?}");
        let denied = records.iter().filter(|record| record["event"] == "decision" && record["decision"] == "deny").count();
        assert_eq!((ends(&fleet, &host), denied), if number == 19 { (vec![77], 1) } else { (vec![0], 0) }, "{host}");
    }

    for (line, code) in [
        ("clush -w web[01-02] -b -S rex", 0),
        ("clush -w web[01,19] -b -S rex", 77),
        ("clush -w web[01,19,20] -b rex", 0),
        ("parallel-ssh -i -I -H 'web01 web02' rex", 0),
        ("parallel-ssh -i -I -H 'web01 web19' rex", 5),
        ("parallel-ssh -i -I -H 'web01 web19 web20' rex", 4),
    ] {
        let run = fleet.control(&format!("{line} < version.rhai"));
        assert_eq!(run.code, code, "{line}: {run:#?}");
        has(&run, &["release 7"]);
    }
    let run = fleet.control("clush -w web[01-02] -L rex -o json < version.rhai");
    has(&run, &["web01: {\"schema\":", "web02: {\"schema\":"]);
}

#[test]
fn ansible_runs_requests_raw_once_it_asks_for_no_terminal() {
    needs_namespaces!();
    let fleet = fleet(4);
    fleet.stop("web04");
    let raw =
        |hosts: &str, more: &str| fleet.control(&format!("ansible '{hosts}' {more} -m raw -a \"rex -e 'cat(\\\"/srv/app/version\\\")'\""));
    let run = raw("web01", "");
    assert_eq!(run.code, 0, "{run:#?}");
    has(&run, &["web01 | CHANGED | rc=0", "release 7"]);
    let run = raw("web01:web03", "");
    assert_eq!(run.code, 2, "{run:#?}");
    has(&run, &["web03 | FAILED | rc=77", "why: not_permitted"]);
    let run = raw("web0*", "");
    assert_eq!(run.code, 4, "{run:#?}");
    has(&run, &["web04 | UNREACHABLE!", "web03 | FAILED | rc=77", "web01 | CHANGED | rc=0"]);
    // Modules are programs for a shell, and there is none.
    let run = fleet.control("ansible web01 -m ping");
    assert_eq!(run.code, 4, "{run:#?}");
    assert!(fleet.records("web01").iter().any(|record| record["message"].as_str().is_some_and(|text| text.contains("`/bin/sh` is none"))));
    // As it is by default: the client gives up where it gets no terminal.
    let run = raw("web01", "-e ansible_ssh_use_tty=true");
    assert!(run.code == 2 && !run.stdout.contains("release 7"), "{run:#?}");
}

#[test]
fn one_connection_carries_one_session_at_a_time_and_a_second_one_goes_its_own_way() {
    needs_namespaces!();
    let fleet = fleet(3);
    let mux = "-o ControlPath=~/.ssh/host-%C";
    // web01 denies, but for names; what is asked here needs no permission.
    let master = fleet.begin("control", &["sh", "-c", &format!("exec ssh -MN {mux} web02")]);
    assert!(until(20.0, || fleet.control(&format!("ssh -O check {mux} web02")).code == 0));
    for number in 1..=3 {
        let run = fleet.control(&format!("ssh {mux} web02 rex -e {number}"));
        assert_eq!((run.code, run.stdout.trim()), (0, number.to_string().as_str()), "{run:#?}");
    }
    let logins = |fleet: &Fleet| fleet.read("web02", "/var/log/sshd.log").matches("Accepted publickey").count();
    assert_eq!(logins(&fleet), 1, "three sessions, one after the other, are one login");
    let long = fleet.begin("control", &["sh", "-c", &format!("ssh {mux} web02 'rex -e \"sleep(60)\"'")]);
    assert!(until(20.0, || fleet.records("web02").iter().filter(|record| record["event"] == "run_start").count() == 4));
    let run = fleet.control(&format!("ssh {mux} web02 rex -e 4"));
    assert_eq!((run.code, run.stdout.trim()), (0, "4"), "{run:#?}");
    has(&run, &["Session open refused by peer"]);
    assert_eq!(logins(&fleet), 2, "a second session at the same time is a second login");
    // Where there is no second way, it is an error and nothing runs.
    let before = fleet.records("web02").len();
    let run = fleet.control(&format!("ssh {mux} -o ProxyJump=none -o ProxyCommand=false web02 rex -e 5"));
    assert!(run.code == 255 && run.stdout.is_empty() && fleet.records("web02").len() == before, "{run:#?}");
    drop((long, master));
}

#[test]
fn the_digests_of_all_hosts_are_compared_in_one_line() {
    needs_namespaces!();
    let fleet = fleet(4);
    let line = common::block("docs/fleet.md", "# which policies are in force where").replace("web[01-20]", "web[01-04]");
    let run = fleet.control(&line);
    has(&run, &["web[01-02,04] (3)", "web03\n"]);
    let digest = |host: &str| {
        let said: serde_json::Value = serde_json::from_str(&fleet.on(host, &["rex", "policy", "check", "--json"], "").stdout).unwrap();
        said["digest"].as_str().unwrap().to_owned()
    };
    // What a caller is told is what the owner finds.
    has(&run, &[&digest("web01"), &digest("web03")]);
    assert_ne!(digest("web01"), digest("web03"));
}

// ---- certificates ------------------------------------------------------------------------------------------------------

#[test]
fn a_certificate_of_the_authority_names_the_person_on_every_host() {
    needs_namespaces!();
    let site = Site::behind_a_bastion(&["web01", "web02"]);
    let authority = Key::new(&site.rex, "authority");
    let (alice, mallory) = (Key::new(&site.rex, "alice"), Key::new(&site.rex, "mallory"));
    authority.certify(&alice, "alice@laptop", "alice", &["-V", "+1h"]);
    mallory.certify(&mallory, "alice@laptop", "alice", &["-V", "+1h"]);
    site.only("control", "root/.ssh/config", &common::block("docs/fleet.md", "# ~/.ssh/config"));
    for (name, key) in [("alice", &alice), ("mallory", &mallory)] {
        site.only("control", &format!("root/.ssh/{name}"), &fs::read_to_string(&key.file).unwrap());
        site.only("control", &format!("root/.ssh/{name}.pub"), &format!("{}\n", key.public));
        let certificate = key.file.with_file_name(format!("{name}-cert.pub"));
        site.only("control", &format!("root/.ssh/{name}-cert.pub"), &fs::read_to_string(certificate).unwrap());
    }
    for host in ["web01", "web02"] {
        site.asks_rex(host, LOOK);
        site.only(host, "srv/app/version", "release 7\n");
        site.only(host, "etc/rex/keys/agent", "");
        site.only(host, "etc/ssh/user-authority.pub", &format!("{}\n", authority.public));
        site.only(host, "etc/rex/authorized_principals", "alice\nbob\n");
        let block = common::block("docs/fleet.md", "# /etc/ssh/sshd_config.d/rex-certificates.conf");
        site.only(host, "etc/ssh/sshd_config.d/rex-certificates.conf", &block);
        site.only(host, "etc/rex/principals.toml", &common::mapped_certificate(&authority, "alice", "alice"));
    }
    let fleet = site.up();
    // Root alone reads the private keys.
    fleet.control("chmod 600 .ssh/alice .ssh/mallory").ends(0);
    for host in ["web01", "web02"] {
        let ask = |key: &str| fleet.control(&format!("echo 'cat(\"/srv/app/version\")' | ssh -i ~/.ssh/{key} {host} rex"));
        assert_eq!(ask("alice").ends(0).stdout, "release 7\n", "{host}");
        // Signed by nobody whom the host knows, though it says the same.
        let before = fleet.records(host).len();
        let run = ask("mallory");
        assert!(run.code == 255 && run.stderr.contains("Permission denied"), "{run:#?}");
        assert_eq!(fleet.records(host).len(), before);
        let start = &fleet.records(host)[0];
        assert_eq!(
            (&start["principal"], &start["facts"]["certificate"]["key_id"]),
            (&"alice".into(), &"alice@laptop".into()),
            "{start:#?}"
        );
    }
}

// ---- bastions that log in themselves -----------------------------------------------------------------------------------

/// What the shell of an account on OVH's The Bastion comes to (bin/shell/osh.pl and connect.pl): the words in front of `--` are the host and the
/// bastion's own options, those behind it the request; the variables are set by it; ssh gets its words, and its exit code is the bastion's.
/// (ttyrec between the two passes bytes on; it is not here.)
const THE_BASTION: &str = r#"#!/bin/sh
[ "$1" = -c ] || exit 100
before=${2%% -- *} command=${2#* -- } tty= host=
for word in $before; do
    case $word in -t) tty=-t ;; -T) tty=-T ;; -*) ;; *) host=$word ;; esac
done
export LC_BASTION="$USER" LC_BASTION_DETAILS="[{"account":"$USER","version":"3.0"}]"
/usr/bin/ssh "${host#*@}" -l "${host%@*}" -p 22 -i /home/keys/group $tty -o PreferredAuthentications=publickey -- "$command"
exit $?
"#;
/// The directives of its ssh_config that decide what is sent.
const ITS_SSH_CONFIG: &str = "ForwardAgent no\nControlMaster no\nEscapeChar none\nIdentitiesOnly yes\nIdentityFile /dev/non/existent/file\n\
    SendEnv LANG LC_*\nStrictHostKeyChecking yes\nUserKnownHostsFile /etc/ssh/known_hosts\n";

/// `control` — The Bastion, with accounts alice and bob — `web01`, which knows the bastion's key.
fn the_bastion(more: &str) -> Fleet {
    let mut site = Site::behind_a_bastion(&["web01"]);
    site.wire("control", "inside", "10.77.0.2/24");
    let group = Key::new(&site.rex, "group");
    for (at, account) in ["alice", "bob"].iter().enumerate() {
        site.account("bastion", account, 5000 + at, "/usr/bin/the-bastion");
        site.only("bastion", &format!("etc/ssh/keys/{account}"), &format!("{}\n", site.agent.public));
    }
    site.only("bastion", "usr/bin/the-bastion", THE_BASTION);
    site.only("bastion", "home/keys/group", &fs::read_to_string(&group.file).unwrap());
    site.only("bastion", "etc/ssh/ssh_config", ITS_SSH_CONFIG);
    site.only("bastion", "etc/ssh/known_hosts", &format!("@cert-authority * {}\n", site.host_authority.public));
    site.only("bastion", "etc/ssh/sshd_config.d/accounts.conf", "AuthorizedKeysFile /etc/ssh/keys/%u\n");
    site.asks_rex("web01", &LOOK.replace("principal == User::\"alice\"", "principal in Group::\"oncall\""));
    site.only("web01", "srv/app/version", "release 7\n");
    site.only("web01", "etc/rex/keys/agent", &format!("{}\n{}\n", group.public, site.agent.public));
    let block = common::shipped("config/sshd_config.d/rex-bastion.conf").replace("192.0.2.10", "10.77.0.1");
    site.only("web01", "etc/ssh/sshd_config.d/rex-bastion.conf", &block);
    let bastion = format!("[[bastion]]\nname = \"gate\"\nfingerprint = \"{}\"\nvariable = \"LC_BASTION\"\n", group.fingerprint());
    let own = common::mapped_key(&site.agent, "carol");
    let people = "[[principal]]\nname = \"alice\"\ngroups = [\"oncall\"]\n[[principal]]\nname = \"bob\"\n";
    site.only("web01", "etc/rex/principals.toml", &format!("default = \"refuse\"\n{people}{own}{bastion}"));
    if !more.is_empty() {
        let settings = format!("identity = [\"auth-info\"]\n{more}\n[audit]\nfile = \"/var/log/rex/rex.jsonl\"\n");
        site.only("web01", "etc/rex/rex.toml", &settings);
    }
    let fleet = site.up();
    // The key is the bastion's, for each of its accounts.
    fleet.sh("bastion", "chmod 644 /home/keys/group; for user in alice bob; do install -d -o $user /home/$user; done").ends(0);
    fleet
}

#[test]
fn the_bastion_names_its_user_by_its_own_key_alone() {
    needs_namespaces!();
    let fleet = the_bastion("");
    let through = |user: &str, options: &str| {
        let options = format!("{options} -o BatchMode=yes -o SendEnv=LC_*");
        fleet.control(&format!(
            "echo 'cat(\"/srv/app/version\")' | LC_BASTION=alice ssh {options} {user}@bastion -- agent@web01 -- rex -o json"
        ))
    };
    let run = through("alice", "");
    assert_eq!(run.ends(0).value(), "release 7\n");
    // An alias with `-t` asks for a terminal only where the caller has one.
    through("alice", "-t").ends(0);
    // Bob is bob, whatever he sends to the bastion; the exit code comes through it.
    let run = through("bob", "");
    assert_eq!((run.code, run.error_type().as_str()), (77, "ACCESS_DENIED_EXCEPTION"));
    let starts: Vec<_> = fleet.records("web01").into_iter().filter(|record| record["event"] == "run_start").collect();
    let who: Vec<_> = starts.iter().map(|record| (record["principal"].as_str().unwrap(), record["facts"]["via"].as_str())).collect();
    assert_eq!(who, [("alice", Some("gate")), ("alice", Some("gate")), ("bob", Some("gate"))]);
    // From the bastion's address with another key, and from elsewhere: the variable names nobody.
    for (options, from) in [("-J jump@bastion", "through the bastion"), ("", "directly")] {
        let line = format!("LC_BASTION=alice ssh {options} -o BatchMode=yes -o SendEnv=LC_* agent@web01 rex whoami -o json");
        let said: serde_json::Value = serde_json::from_str(&fleet.control(&line).stdout).unwrap();
        assert_eq!(said["identity"]["principal"], "carol", "{from}: {said:#}");
    }
    // Its own key from another address: the variable is not accepted, and without it the key is nobody.
    let key = fleet.read("bastion", "/home/keys/group");
    fleet.write("control", "/root/.ssh/group", &key);
    let line = "chmod 600 .ssh/group && LC_BASTION=alice ssh -i .ssh/group -o IdentitiesOnly=yes -o BatchMode=yes -o SendEnv=LC_* agent@web01 rex -e 1";
    let run = fleet.control(line);
    assert_eq!((run.code, run.stdout.as_str()), (77, ""), "{run:#?}");
    assert!(run.stderr.contains("LC_BASTION"), "{run:#?}");
}

#[test]
fn a_script_whose_sender_died_reaches_the_host_cut_and_ended_so_it_must_be_declared_whole() {
    needs_namespaces!();
    for (settings, request, runs) in [("", "rex", true), ("require_complete = \"end\"", "rex", false), ("", "rex --end DONE", false)] {
        let fleet = the_bastion(settings);
        let line = ["ssh", "-o", "BatchMode=yes", "alice@bastion", "--", "agent@web01", "--", request];
        let mut ssh = fleet.begin("control", &line);
        let comment = format!("// {}\n", "x".repeat(97)).repeat(4000);
        ssh.send(format!("print(\"the first half\");\n{comment}").as_bytes());
        assert!(until(20.0, || fleet.read("web01", "/var/log/sshd.log").contains("Starting session")));
        // All of it has arrived: as much was read by a rex there.
        let line = "for pid in $(pgrep -x rex); do sed -n 's/^rchar: //p' /proc/$pid/io; done";
        let arrived = || fleet.sh("web01", line).stdout.lines().any(|bytes| bytes.parse().is_ok_and(|bytes: usize| bytes >= comment.len()));
        let over = |record: &serde_json::Value| record["event"] == "run_end" || record["event"] == "refused";
        assert!(until(20.0, || arrived() || fleet.records("web01").iter().any(over)), "{:#?}", fleet.records("web01"));
        // What is not declared is refused without being waited for; then there is no client any more.
        fleet.control("pkill -KILL -x ssh");
        assert!(until(20.0, || fleet.records("web01").iter().any(over)), "{}", fleet.read("web01", "/var/log/sshd.log"));
        // rex sees a clean end of the script: what tells the two apart on a direct way is gone behind a second client.
        assert_eq!(ends(&fleet, "web01"), if runs { vec![0] } else { vec![] }, "{settings} {request}: {:#?}", fleet.records("web01"));
    }
}

#[test]
fn a_proxy_that_logs_in_as_the_person_is_told_by_the_account() {
    needs_namespaces!();
    let mut site = Site::behind_a_bastion(&["web01"]);
    site.wire("control", "inside", "10.77.0.2/24");
    site.asks_rex("web01", LOOK);
    site.only("web01", "srv/app/version", "release 7\n");
    site.only("web01", "etc/rex/rex.toml", "identity = [\"user\"]\n[audit]\nfile = \"/var/log/rex/rex.jsonl\"\n");
    site.only("web01", "etc/rex/principals.toml", &common::block("docs/fleet.md", "# /etc/rex/principals.toml, behind Warpgate"));
    for (at, account) in ["alice", "bob"].iter().enumerate() {
        site.account("web01", account, 5000 + at, "/bin/sh");
        // One key for all of them: the proxy's.
        site.only("web01", &format!("etc/rex/keys/{account}"), &format!("{}\n", site.agent.public));
    }
    site.group("web01", "rexusers", 4000, "agent,alice,bob");
    let fleet = site.up();
    // What Warpgate's client sends (client/channel_session.rs): the variables of its user as they are, the request, the bytes, their end.
    let through = |user: &str| {
        let variables = "LC_BASTION=alice WARPGATE_USERNAME=alice";
        fleet.control(&format!(
            "echo 'cat(\"/srv/app/version\")' | {variables} ssh -o BatchMode=yes -o SendEnv=LC_* -o SendEnv=WARPGATE_* {user}@web01 rex"
        ))
    };
    assert_eq!(through("alice").ends(0).stdout, "release 7\n");
    let run = through("bob");
    assert_eq!((run.code, run.stdout.as_str()), (77, ""), "{run:#?}");
    let who: Vec<String> = fleet
        .records("web01")
        .iter()
        .filter(|record| record["event"] == "run_start")
        .map(|record| record["principal"].to_string())
        .collect();
    assert_eq!(who, ["\"alice\"", "\"bob\""]);
}

// ---- hosts of a test ---------------------------------------------------------------------------------------------------

#[test]
fn hosts_end_with_their_test_however_it_ends() {
    needs_namespaces!();
    for killed in [false, true] {
        let mut fleet = fleet(3);
        let processes: Vec<u32> = ["control", "bastion", "web01", "web02"].iter().map(|host| fleet.pid(host)).collect();
        assert!(processes.iter().all(|pid| common::alive(*pid)));
        if killed {
            fleet.kill();
        } else {
            drop(fleet);
        }
        assert!(until(20.0, || !processes.iter().any(|pid| common::alive(*pid))), "killed: {killed}");
    }
}
