//! Tests of the machine's functions: policies written for the reference allow and refuse the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::error::Kind;
use crate::functions::rig::{Rig, maps, options};
use crate::functions::value::{Dynamic, Map};

#[test]
fn free_is_allowed_by_reading_meminfo_and_by_nothing_else() {
    let rig = Rig::new(r#"permit(principal, action == file_system::Action::"read", resource == file_system::File::"/proc/meminfo");"#);
    let free = rig.call("free", []).unwrap().cast::<Map>();
    let memory = free["memory"].clone().cast::<Map>();
    assert!(memory["total"].as_int().unwrap() > 0);
    assert_eq!(
        rig.call("free", [options([("cgroup", true.into())])]).unwrap_err().kind,
        Kind::Denied,
        "the control group has a permission of its own"
    );
    let other = Rig::new(
        r#"permit(principal, action, resource is sysinfo::Sysinfo); permit(principal, action, resource == file_system::File::"/proc/stat");"#,
    );
    assert_eq!(other.call("free", []).unwrap_err().kind, Kind::Denied);
}

#[test]
fn names_and_load_are_allowed_by_list_on_sysinfo() {
    let rig = Rig::new(r#"permit(principal, action in sysinfo::Action::"SysinfoAction", resource is sysinfo::Sysinfo);"#);
    let none = Rig::new("permit(principal, action, resource is file_system::File);");
    for name in ["hostname", "uname", "uptime", "loadavg", "nproc"] {
        drop(rig.call(name, []).unwrap());
        assert_eq!(none.call(name, []).unwrap_err().kind, Kind::Denied, "{name}");
    }
}

#[test]
fn df_leaves_out_mounts_that_may_not_be_seen_and_fails_only_when_none_may() {
    // rest.md S11: one denied mount fails the whole df of the reference.
    let table = r#"permit(principal, action == file_system::Action::"read", resource == file_system::File::"/proc/mounts");"#;
    let root = r#"permit(principal, action == file_system::Action::"stat", resource == file_system::Dir::"/");"#;
    let rig = Rig::new(&format!("{table}{root}"));
    let rows = maps(rig.call("df", [options([("all", true.into())])]).unwrap());
    assert!(!rows.is_empty() && rows.iter().all(|row| row["mounted_on"].clone().into_string().unwrap() == "/"), "{rows:?}");
    assert!(!rig.host.gate.denials().is_empty());
    assert_eq!(Rig::new(table).call("df", []).unwrap_err().kind, Kind::Denied);
    assert_eq!(Rig::new(root).call("df", []).unwrap_err().kind, Kind::Denied);
}

#[test]
fn df_of_a_path_is_the_filesystem_that_holds_it() {
    let rig = Rig::new("permit(principal, action, resource);");
    let dir = tempfile::tempdir().unwrap();
    let path = || Dynamic::from(dir.path().to_str().unwrap().to_owned());
    let rows = maps(rig.call("df", [options([("path", path())])]).unwrap());
    let stat = rustix::fs::statvfs(dir.path()).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["size"].as_int(), Ok(i64::try_from(stat.f_blocks * stat.f_frsize).unwrap()));
    let missing: Dynamic = "/nonexistent/x".to_owned().into();
    assert_eq!(rig.call("df", [options([("path", missing)])]).unwrap_err().kind, Kind::NotFound);
}

#[test]
fn numbers_are_plain_ints() {
    // rest.md A2: the reference's cannot be compared with literals.
    let rig = Rig::new("permit(principal, action, resource);");
    for row in maps(rig.call("df", []).unwrap()) {
        for key in ["size", "used", "available", "inodes"] {
            assert!(row[key].is_int() || row["timed_out"].as_bool().unwrap() || !row["error"].is_unit(), "{key} of {row:?}");
        }
    }
}
