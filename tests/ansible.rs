//! The Ansible role of packaging/ansible: what it makes of a bare host, that a second run changes nothing, dry runs, and a block that sshd refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Fleet, Run, Site};
use std::fs;
use std::path::Path;
use std::process::Command;

const POLICY: &str =
    r#"@id("look") permit(principal in Group::"oncall", action in file_system::Action::"view", resource in file_system::Dir::"/srv/app");"#;
const MORE: &str = r#"@id("name") permit(principal in Group::"oncall", action == sysinfo::Action::"list", resource);"#;

/// A bare host that root reaches by key, and `control` with the role and a program to install.
fn bare() -> Fleet {
    let mut site = Site::behind_a_bastion(&["web01"]);
    site.wire("control", "inside", "10.77.0.2/24");
    site.only("web01", "root/.ssh/authorized_keys", &format!("{}\n", site.agent.public));
    site.only("web01", "srv/app/version", "release 7\n");
    // Without rex, and without what `rexusers` would be.
    site.only("web01", "etc/bare", "");
    site.only("control", "root/.ssh/config", "Host *\n    BatchMode yes\n    User root\n");
    site.only("control", "root/hosts", "[web]\nweb01\n");
    let config = "[defaults]\ninventory = /root/hosts\nroles_path = /root/roles\nnocows = 1\nretry_files_enabled = false\n[ssh_connection]\npipelining = true\nssh_args = -o ControlMaster=auto -o ControlPersist=60s\n";
    site.only("control", "root/ansible.cfg", config);
    let key = site.agent.fingerprint();
    site.only(
        "control",
        "root/site.yml",
        &common::shipped("packaging/ansible/site.yml").replace("SHA256:0123456789012345678901234567890123456789012", &key),
    );
    site.only("control", "root/agent.pub", &format!("{}\n", site.agent.public));
    site.only("control", "root/policies/base.cedar", POLICY);
    let role = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/ansible/rex");
    let roles = site.rex.root().join("fleet/only/control/root/roles");
    fs::create_dir_all(&roles).unwrap();
    // `-L`: the block for sshd and the list of folders are links to the one place where they are.
    assert!(Command::new("cp").arg("-rL").arg(role).arg(&roles).status().unwrap().success());
    let program = site.rex.root().join("fleet/only/control/root/rex");
    assert!(Command::new("strip").arg("-o").arg(&program).arg(site.rex.program()).status().unwrap().success());
    let fleet = site.up();
    fleet.control("chmod 600 .ssh/id_ed25519").ends(0);
    fleet.sh("web01", "umount /usr/bin/rex && rm /usr/bin/rex && rm -rf /etc/rex/* /var/log/rex /run/rex && sed -i /rexusers/d /etc/group && sed -i /agent/d /etc/passwd /etc/group /etc/shadow && rm -rf /home/agent").ends(0);
    fleet
}

fn play(fleet: &Fleet, more: &str) -> Run {
    fleet.control(&format!("ansible-playbook site.yml -e rex_binary=/root/rex -e 'rex_sshd_reload=\"kill -HUP 1\"' {more}"))
}

/// How many tasks changed something, by Ansible's own count.
#[track_caller]
fn changed(run: &Run) -> u32 {
    let recap = run.stdout.lines().rev().find(|line| line.contains("changed=")).unwrap_or_else(|| panic!("{run:#?}"));
    assert!(run.code == 0 && recap.contains("failed=0"), "{run:#?}");
    recap.split("changed=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_role_makes_a_host_that_asks_rex_a_second_run_changes_nothing_and_what_is_refused_leaves_it_as_it_was() {
    needs_namespaces!();
    let fleet = bare();
    let ask = |request: &str| fleet.control(&format!("ssh -l agent web01 {request}"));
    // A dry run says so, and does nothing.
    let dry = play(&fleet, "--check");
    assert!(
        changed(&dry) > 0 && !fleet.file("web01", "/usr/bin/rex").exists() && !fleet.read("web01", "/etc/group").contains("rexusers"),
        "{dry:#?}"
    );
    assert!(changed(&play(&fleet, "")) > 5);
    let run = ask("\"rex -e 'cat(\\\"/srv/app/version\\\")'\"");
    assert_eq!(run.ends(0).stdout, "release 7\n");
    assert_eq!((ask("id").code, ask("\"rex -e 'hostname()'\"").code), (2, 77));
    // Settings, folders and accounts are such that sessions and the owner's own check are content.
    assert_eq!(fleet.on("web01", &["rex", "policy", "check"], "").code, 0);
    let again = play(&fleet, "");
    assert_eq!(changed(&again), 0, "{again:#?}");
    // A new set counts whole: what is no longer in the folder is no longer in force.
    let from = |task: &str| play(&fleet, &format!("--start-at-task 'rex : {task}'"));
    fleet.write("control", "/root/policies/more.cedar", MORE);
    fs::remove_file(fleet.file("control", "/root/policies/base.cedar")).unwrap();
    assert!(changed(&from("the policies are on the host")) > 0);
    assert_eq!(ask("\"rex -e 'hostname()'\"").ends(0).stdout, "web01\n");
    assert_eq!(ask("\"rex -e 'cat(\\\"/srv/app/version\\\")'\"").code, 77);
    // A set that is not fit stops the run, and the one in force stays.
    fleet.write("control", "/root/policies/more.cedar", "permit(principal, action == no::Action::\"such\", resource);\n");
    let run = from("the policies are on the host");
    assert!(run.code == 2 && fleet.read("web01", "/etc/rex/policies/more.cedar") == MORE, "{run:#?}");
    // So does a block that sshd refuses; sshd could start again at any time.
    let block = fleet.read("web01", "/etc/ssh/sshd_config.d/rex.conf");
    fleet.write("control", "/root/roles/rex/files/sshd-rex.conf", "NoSuchDirective yes\n");
    let run = from("the block for sshd is there");
    assert!(run.code == 2 && run.stdout.contains("sshd -t refuses the block for rex"), "{run:#?}");
    assert_eq!((fleet.read("web01", "/etc/ssh/sshd_config.d/rex.conf"), fleet.on("web01", &["/usr/sbin/sshd", "-t"], "").code), (block, 0));
    // Neither program nor package is a mistake that is found first.
    let run = fleet.control("ansible-playbook site.yml");
    assert!(run.code == 2 && run.stdout.contains("set rex_binary or rex_package"), "{run:#?}");
}
