//! Names come from the tables and from getent, within bounds; the environment keeps what it was given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
    alice:x:1000:1000:Alice,,,:/home/alice:/bin/sh\n\
    evil:x:1000:1000::/tmp:/bin/sh\n\
    broken:x:nonsense:0::/:/bin/sh\n\
    short:x:7\n\
    plus:x:+8:8::/:/bin/sh\n\
    +::::::\n\
    \n";
const GROUP: &str = "root:x:0:\nadm:x:4:alice,bob\nbad:x:x:\n";

fn tables(getent: Option<&str>) -> (tempfile::TempDir, Names) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("passwd"), PASSWD).unwrap();
    fs::write(path("group"), GROUP).unwrap();
    if let Some(script) = getent {
        fs::write(path("getent"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path("getent"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let names = Names::with_files(&path("passwd"), &path("group"), getent.map(|_| path("getent")).as_deref());
    (dir, names)
}

#[test]
fn the_tables_are_read() {
    let (_dir, names) = tables(None);
    assert_eq!(names.user(0).as_deref(), Some("root"));
    assert_eq!(names.uid_of("alice"), Some(1000));
    assert_eq!(names.home(1000).unwrap(), Path::new("/home/alice"));
    assert_eq!(names.group(4).as_deref(), Some("adm"));
    assert_eq!(names.gid_of("adm"), Some(4));
    assert_eq!(names.group_named("adm").unwrap().members, ["alice", "bob"]);
}

#[test]
fn two_login_names_of_one_uid_are_the_first_of_them() {
    let (_dir, names) = tables(None);
    assert_eq!(names.user(1000).as_deref(), Some("alice"));
    assert_eq!(names.uid_of("evil"), Some(1000));
}

#[test]
fn what_is_unknown_or_malformed_is_nobody() {
    let (_dir, names) = tables(None);
    assert_eq!((names.user(7), names.user(8), names.user(4242), names.group(77)), (None, None, None, None));
    for name in ["broken", "short", "plus", "+", "nobody-here", "", "-s", "1000", "a:b", "a\nb"] {
        assert_eq!((names.uid_of(name), names.gid_of(name)), (None, None), "{name:?}");
    }
    let none = Names::with_files(Path::new("/nonexistent"), Path::new("/nonexistent"), Some(Path::new("/nonexistent")));
    assert_eq!((none.user(0), none.group(0)), (None, None));
}

#[test]
fn getent_is_asked_once_for_what_is_not_in_the_tables_with_an_empty_environment() {
    let (dir, names) = tables(Some(
        "echo \"$1 $2 $(tr '\\0' ' ' < /proc/$$/environ)\" >> \"${0%/*}/log\"\n\
         case $1 in passwd) echo 'dora:*:5000:5000::/home/dora:/bin/sh' ;; group) echo 'ldap:*:6000:dora' ;; esac",
    ));
    for _ in 0..2 {
        assert_eq!(names.user(5000).as_deref(), Some("dora"));
        assert_eq!(names.group(6000).as_deref(), Some("ldap"));
        assert_eq!(names.uid_of("dora"), Some(5000));
    }
    assert_eq!(names.user(0).as_deref(), Some("root"));
    assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "passwd 5000 \ngroup 6000 \npasswd dora \n");
}

#[test]
fn an_answer_about_somebody_else_is_no_answer() {
    let (_dir, names) = tables(Some("echo 'dora:*:5000:5000::/home/dora:/bin/sh'"));
    assert_eq!(names.user(5001), None);
    assert_eq!(names.uid_of("dave"), None);
}

#[test]
fn a_getent_that_hangs_is_killed_and_not_asked_again() {
    let (dir, _) = tables(Some("sleep 60"));
    let begun = Instant::now();
    assert_eq!(run_bounded(&dir.path().join("getent"), &[], Duration::from_millis(200), |_| {}), None);
    assert!(begun.elapsed() < Duration::from_secs(2));
    let (dir, names) = tables(Some("echo x >> \"${0%/*}/log\"; exec >&-; exec sleep 60"));
    let begun = Instant::now();
    assert_eq!((names.user(5000), names.user(5001), names.group(5002)), (None, None, None));
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "x\n");
}

#[test]
fn an_endless_answer_ends_at_the_time_limit() {
    let begun = Instant::now();
    assert_eq!(run_bounded(Path::new("/usr/bin/yes"), &[], Duration::from_millis(200), |_| {}), None);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn this_hosts_root_is_known() {
    let names = Names::of_host();
    assert_eq!(names.user(0).as_deref(), Some("root"));
    assert_eq!(names.user(3_999_999_999), None);
}

#[test]
fn all_values_of_a_variable_are_kept_in_order_with_any_bytes() {
    let entry = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
    let environment = Environment::of(vec![entry(b"A", b"1"), entry(b"B\n", b""), entry(b"A", b"\xff"), entry(b"a", b"2")]);
    assert_eq!(environment.all("A"), [b"1".as_slice(), b"\xff"]);
    assert_eq!(environment.all("B\n"), [b""]);
    assert!(environment.all("C").is_empty());
}

#[test]
fn an_environment_of_four_mebibytes_is_taken_and_one_byte_more_is_not() {
    let of = |size: usize| Environment::of(vec![(b"A".to_vec(), vec![b'x'; size - 1])]);
    assert!(of(MAX_ENVIRONMENT).check_size().is_ok());
    assert_eq!(of(MAX_ENVIRONMENT + 1).check_size().unwrap_err().kind, Kind::Usage);
}

#[test]
fn credentials_are_those_of_the_process() {
    let credentials = Credentials::of_this_process().unwrap();
    assert_eq!(credentials.uid, rustix::process::getuid().as_raw());
    assert!(credentials.groups.is_sorted());
}

/// Runs in a process of its own (see below), because it changes the process for good.
#[test]
#[ignore = "the other half of `the_first_actions_hold`, which starts it"]
fn first_actions_in_a_process_of_its_own() {
    use rustix::process::{dumpable_behavior, getrlimit};
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
    let environment = first_actions().unwrap();
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
    assert_eq!((environment.inherited_umask(), rustix::process::umask(Mode::empty()).as_raw_mode()), (0o026, 0o077));
    assert_eq!(environment.all("REX_TEST"), [b"\xff x"]);
    assert_eq!(environment.len(), 1);
    let opened = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    assert!(opened.as_raw_fd() > 2);
}

#[test]
fn the_first_actions_hold() {
    let line = "umask 026; exec /usr/bin/env -i \"REX_TEST=$(printf '\\377 x')\" \"$0\" --exact --ignored os::process::tests::first_actions_in_a_process_of_its_own <&- 2>&-";
    let output = Command::new("/bin/sh").args(["-c", line]).arg(std::env::current_exe().unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn other_name_services_are_those_beyond_the_hosts_own_files() {
    for (text, other) in [
        ("passwd: files systemd\ngroup:\tfiles [SUCCESS=merge] systemd\nhosts: files dns\n", false),
        ("passwd: compat # sss\nshadow: files sss\n", false),
        ("passwd: files sss\n", true),
        ("group : files [success=return notfound=continue] ldap\n", true),
        ("passwd: files\ngroup: files winbind systemd", true),
        ("", false),
    ] {
        assert_eq!(other_sources(text), other, "{text}");
    }
}

#[test]
fn no_option_and_no_list_is_asked_for() {
    assert!(["0", "4294967295", "alice", "DOM\\\\alice", "alice@example.org"].iter().all(|key| may_be_asked(key)));
    assert!(["", "-s", "--service=x", "a:b", "a,b", "a\nb"].iter().all(|key| !may_be_asked(key)));
}
