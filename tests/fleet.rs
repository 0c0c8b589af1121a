//! A fleet as it is run: twenty hosts with a real sshd each, behind a bastion; ClusterShell, pssh and Ansible before them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Fleet, Run, Site};

/// What alice may see on most hosts.
const LOOK: &str = r#"@id("look") permit(principal == User::"alice", action in file_system::Action::"view", resource in file_system::Dir::"/srv/app");"#;
/// On one host she may only ask how it is called.
const NAME_ONLY: &str = r#"@id("name") permit(principal == User::"alice", action == sysinfo::Action::"list", resource);"#;

/// `web01` and so on.
fn names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("web{number:02}")).collect()
}

/// So many hosts: the last but one denies, the last is down.
fn fleet(count: usize) -> Fleet {
    let names = names(count);
    let site = Site::behind_a_bastion(&names.iter().map(String::as_str).collect::<Vec<_>>());
    site.only("control", "root/.ssh/config", &common::block("docs/fleet.md", "# ~/.ssh/config"));
    site.all("srv/app/version", "release 7\n");
    for (at, name) in names.iter().enumerate() {
        site.asks_rex(name, if at + 2 == count { NAME_ONLY } else { LOOK });
    }
    site.only(&names[2], "srv/app/version", "release 6\n");
    site.only("control", "root/version.rhai", "cat(\"/srv/app/version\")\n");
    let fleet = site.up();
    fleet.stop(&names[count - 1]);
    fleet
}

/// What a run of rex said is in this host's records.
#[track_caller]
fn ended(fleet: &Fleet, host: &str) -> Vec<i64> {
    let records = fleet.records(host);
    records.iter().filter(|record| record["event"] == "run_end").map(|record| record["exit"].as_i64().unwrap()).collect()
}

#[test]
fn hold() {
    let fleet = fleet(20);
    fleet.control("ssh -fN bastion");
    std::fs::write("/tmp/fleet-pids", format!("{:?}", fleet)).unwrap();
    while std::path::Path::new("/tmp/fleet-pids").exists() { std::thread::sleep(std::time::Duration::from_secs(1)); }
}
