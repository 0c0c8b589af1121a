//! The services and logs of a real systemd, through the binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Rex, Systemd};

#[test]
fn the_test_hosts_systemd_boots_with_its_services_and_leaves_the_machine_alone() {
    needs_root!();
    let mark = tempfile::Builder::new().prefix("rex-mark").tempfile_in("/tmp").unwrap();
    let rex = Rex::new();
    let systemd = Systemd::boot(&rex, &[]);
    assert_eq!(systemd.exec(&["cat", "/proc/1/comm"]).ends(0).stdout, "systemd\n");
    assert_eq!(systemd.exec(&["systemctl", "start", "rextest-ok"]).code, 0);
    assert_eq!(systemd.exec(&["systemctl", "is-active", "rextest-ok"]).stdout, "active\n");
    assert_eq!(systemd.exec(&["systemctl", "start", "rextest-once"]).code, 0);
    assert_eq!(systemd.exec(&["journalctl", "-u", "rextest-once", "-o", "cat", "--no-pager", "-t", "echo"]).stdout, "the job was done\n");
    assert_eq!(systemd.exec(&["systemctl", "is-active", "rextest-fails"]).stdout, "inactive\n");
    systemd.exec(&["systemctl", "start", "rextest-fails"]);
    assert!(common::until(5.0, || systemd.exec(&["systemctl", "is-failed", "rextest-fails"]).stdout == "failed\n"));
    assert!(!systemd.exec(&["test", "-e", mark.path().to_str().unwrap()]).code.eq(&0), "the machine's /tmp is seen inside");
    let pid = systemd.pid();
    drop(systemd);
    assert!(common::until(5.0, || !common::alive(pid)));
    assert!(mark.path().exists());
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("rex-test-"), "a mount was left behind");
}
