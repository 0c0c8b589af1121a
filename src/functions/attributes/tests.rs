//! Modes, owners and times: what is allowed beside what is not, with a look at the disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::functions::rig::{Rig, maps, options};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const ALL: &str = "permit(principal, action, resource);";

fn dynamic(path: &Path) -> Dynamic {
    path.to_str().unwrap().to_owned().into()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let real = fs::canonicalize(dir.path()).unwrap();
    (dir, real)
}

fn make(path: &Path, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

fn recursive() -> Dynamic {
    options([("recursive", true.into())])
}

#[test]
fn every_bit_can_be_set_and_a_second_time_changes_nothing() {
    let (_keep, dir) = folder();
    let file = dir.join("f");
    make(&file, 0o644);
    let rig = Rig::new(ALL);
    for bits in [0o600, 0o4755, 0o2755, 0o1777, 0o7777, 0, 0o444] {
        let map: Map = rig.call("chmod", [dynamic(&file), Dynamic::from_int(bits), Dynamic::UNIT]).unwrap().cast();
        assert_eq!((i64::from(mode(&file)), map["after"].as_int().unwrap(), map["changed"].as_bool().unwrap()), (bits, bits, true));
        let map: Map = rig.call("chmod", [dynamic(&file), Dynamic::from_int(bits), Dynamic::UNIT]).unwrap().cast();
        assert_eq!((map["changed"].as_bool().unwrap(), map["count"].as_int().unwrap()), (false, 0));
    }
}

#[test]
fn a_policy_can_say_never_set_user_id() {
    let (_keep, dir) = folder();
    let file = dir.join("f");
    make(&file, 0o755);
    let rig = Rig::new(&format!(
        "{ALL} forbid(principal, action == file_system::Action::\"chmod\", resource) when {{ context.set_uid || context.set_gid || context.world_writable }};"
    ));
    for bits in ["4755", "u+s", "2755", "g+s", "a+w", "0666"] {
        let error = rig.call("chmod", [dynamic(&file), bits.to_owned().into(), Dynamic::UNIT]).unwrap_err();
        assert_eq!((error.kind, mode(&file)), (Kind::Denied, 0o755), "{bits}");
    }
    drop(rig.call("chmod", [dynamic(&file), "700".to_owned().into(), Dynamic::UNIT]).unwrap());
    assert_eq!(mode(&file), 0o700);
    // The exact bits are told too.
    let rig = Rig::new("permit(principal, action == file_system::Action::\"chmod\", resource) when { context.mode == 416 };");
    assert_eq!(rig.call("chmod", [dynamic(&file), "0644".to_owned().into(), Dynamic::UNIT]).unwrap_err().kind, Kind::Denied);
    drop(rig.call("chmod", [dynamic(&file), "0640".to_owned().into(), Dynamic::UNIT]).unwrap());
    assert_eq!(mode(&file), 0o640);
}

/// Fault D9 of the reference: recursive changes say that all went well when every step was denied.
#[test]
fn one_denied_thing_in_a_tree_stops_the_change_of_all_of_it_unless_it_is_to_keep_going() {
    let (_keep, dir) = folder();
    for name in ["t/a", "t/b", "t/sub/c", "t/z"] {
        make(&dir.join(name), 0o644);
    }
    let rig = Rig::new(&format!(
        "{ALL} forbid(principal, action == file_system::Action::\"chmod\", resource == file_system::File::\"{}\");",
        dir.join("t/sub/c").display()
    ));
    let error = rig.call("chmod", [dynamic(&dir.join("t")), "go=".to_owned().into(), recursive()]).unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    for name in ["t/a", "t/b", "t/sub/c", "t/z"] {
        assert_eq!(mode(&dir.join(name)), 0o644, "{name}");
    }
    let rows = options([("recursive", true.into()), ("keep_going", true.into())]);
    let map: Map = rig.call("chmod", [dynamic(&dir.join("t")), "go=".to_owned().into(), rows]).unwrap().cast();
    assert_eq!((map["count"].as_int().unwrap(), map["refused_count"].as_int().unwrap()), (5, 1));
    let refused = maps(map["refused"].clone());
    assert_eq!(refused[0]["kind"].clone().into_string().unwrap(), "denied");
    assert_eq!(refused[0]["action"].clone().into_string().unwrap(), "file_system::Action::\"chmod\"");
    assert!(refused[0]["path"].clone().into_string().unwrap().ends_with("/t/sub/c"));
    assert_eq!((mode(&dir.join("t/a")), mode(&dir.join("t/sub/c")), mode(&dir.join("t/sub"))), (0o600, 0o644, 0o700));
}

#[test]
fn a_tree_is_changed_though_its_folders_lose_the_right_to_be_entered_and_links_are_left_alone() {
    let (_keep, dir) = folder();
    make(&dir.join("t/sub/deep/f"), 0o755);
    make(&dir.join("outside"), 0o644);
    symlink("../outside", dir.join("t/link")).unwrap();
    // Nothing is opened, so that this one blocks nobody.
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("t/fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let map: Map = Rig::new(ALL).call("chmod", [dynamic(&dir.join("t")), "600".to_owned().into(), recursive()]).unwrap().cast();
    assert_eq!((map["count"].as_int().unwrap(), map["skipped"].as_int().unwrap()), (5, 1));
    assert_eq!((mode(&dir.join("t")), mode(&dir.join("outside"))), (0o600, 0o644));
    fs::set_permissions(dir.join("t"), fs::Permissions::from_mode(0o700)).unwrap();
    // As text, X is for folders and programs.
    drop(Rig::new(ALL).call("chmod", [dynamic(&dir.join("t")), "u=rwX".to_owned().into(), recursive()]));
    assert_eq!(mode(&dir.join("t")), 0o700);
}

#[test]
fn links_are_followed_or_refused_and_missing_looks_like_denied() {
    let (_keep, dir) = folder();
    make(&dir.join("there"), 0o644);
    symlink("there", dir.join("link")).unwrap();
    let rig = Rig::new(ALL);
    drop(rig.call("chmod", [dynamic(&dir.join("link")), "600".to_owned().into(), Dynamic::UNIT]).unwrap());
    assert_eq!(mode(&dir.join("there")), 0o600);
    let error = rig.call("chmod", [dynamic(&dir.join("link")), "644".to_owned().into(), options([("follow", false.into())])]).unwrap_err();
    assert_eq!(error.kind, Kind::Unsupported);
    for name in ["chmod", "chown"] {
        let value: Dynamic = if name == "chmod" { "644".to_owned().into() } else { Dynamic::from_int(0) };
        let error = rig.call(name, [dynamic(&dir.join("gone")), value.clone(), Dynamic::UNIT]).unwrap_err();
        assert_eq!(error.kind, Kind::NotFound);
        let shut = Rig::new("forbid(principal, action, resource);");
        let told = |file: &str| {
            let error = shut.call(name, [dynamic(&dir.join(file)), value.clone(), Dynamic::UNIT]).unwrap_err();
            (error.kind, error.message.replace(file, "NAME"))
        };
        assert_eq!(told("there"), told("gone"), "{name}");
    }
}

#[test]
fn what_was_replaced_after_the_decision_is_not_changed() {
    let (_keep, dir) = folder();
    let file = dir.join("f");
    make(&file, 0o644);
    let rig = Rig::new(ALL);
    let call = Call::new(&rig.host, &CHMOD, None);
    let at = AbsPath::new(file.to_str().unwrap()).unwrap();
    let granted = call.permit_with::<Chmod>(File::locate(&at).unwrap(), wanted_mode(0o777)).unwrap();
    fs::rename(&file, dir.join("moved")).unwrap();
    make(&file, 0o640);
    assert_eq!(sys::attributes::set_mode(&granted, 0o777).unwrap_err().kind, Kind::Changed);
    assert_eq!(sys::attributes::set_times(&granted, Some(Time::Now), None).unwrap_err().kind, Kind::Changed);
    assert_eq!((mode(&file), mode(&dir.join("moved"))), (0o640, 0o644));
}

/// Fault D11 of the reference: ids without names cannot be given.
#[test]
fn ids_without_names_can_be_given_and_names_that_nobody_has_are_told() {
    if !root() {
        return;
    }
    let (_keep, dir) = folder();
    let file = dir.join("f");
    make(&file, 0o6755);
    let rig = Rig::new(ALL);
    let ids = |path: &Path| fs::symlink_metadata(path).map(|meta| (meta.uid(), meta.gid())).unwrap();
    let map: Map = rig.call("chown", [dynamic(&file), "3999999999:4242424".to_owned().into(), Dynamic::UNIT]).unwrap().cast();
    assert_eq!(ids(&file), (3_999_999_999, 4_242_424));
    assert_eq!(map["owner"].clone().into_string().unwrap(), "3999999999");
    // The kernel takes set-user-id and set-group-id, and the result says so.
    assert_eq!(
        (map["mode"].as_int().unwrap(), maps(Dynamic::from_array(vec![map["before"].clone()]))[0]["mode"].as_int().unwrap()),
        (0o755, 0o6755)
    );
    let again: Map = rig.call("chown", [dynamic(&file), Dynamic::from_int(3_999_999_999), Dynamic::UNIT]).unwrap().cast();
    assert!(!again["changed"].as_bool().unwrap());
    drop(rig.call("chown", [dynamic(&file), ":0".to_owned().into(), Dynamic::UNIT]).unwrap());
    assert_eq!(ids(&file), (3_999_999_999, 0));
    drop(
        rig.call("chown", [dynamic(&file), options([("user", "root".to_owned().into()), ("group", Dynamic::from_int(7))]), Dynamic::UNIT])
            .unwrap(),
    );
    assert_eq!(ids(&file), (0, 7));
    drop(rig.call("chown", [dynamic(&file), "root:".to_owned().into(), Dynamic::UNIT]).unwrap());
    assert_eq!(ids(&file), (0, 0));
    let error = rig.call("chown", [dynamic(&file), "no-such-user-here".to_owned().into(), Dynamic::UNIT]).unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    assert!(error.message.contains("knows no user"), "{error}");
    for wrong in ["", ":", "4294967295", "a:b:c", "99999999999"] {
        assert!(rig.call("chown", [dynamic(&file), wrong.to_owned().into(), Dynamic::UNIT]).is_err(), "{wrong}");
    }
    assert_eq!(ids(&file), (0, 0));
}

#[test]
fn a_policy_sees_who_is_wanted_and_a_tree_with_one_denied_thing_stays_as_it_is() {
    if !root() {
        return;
    }
    let (_keep, dir) = folder();
    make(&dir.join("t/a"), 0o644);
    make(&dir.join("t/sub/b"), 0o644);
    symlink("/etc/passwd", dir.join("t/link")).unwrap();
    let uid = |name: &str| fs::symlink_metadata(dir.join(name)).unwrap().uid();
    let never_root = Rig::new(&format!(
        "{ALL} forbid(principal, action == file_system::Action::\"chown\", resource) when {{ context.owner == \"root\" || context.gid == 0 }};"
    ));
    let call = |rig: &Rig, owner: &str| rig.call("chown", [dynamic(&dir.join("t")), owner.to_owned().into(), recursive()]);
    // The group stays 0, which is told as what it will have.
    assert_eq!(call(&never_root, "65534").unwrap_err().kind, Kind::Denied);
    let map: Map = call(&never_root, "65534:65534").unwrap().cast();
    assert_eq!(map["count"].as_int().unwrap(), 5);
    assert_eq!((uid("t"), uid("t/link"), uid("t/sub/b")), (65534, 65534, 65534));
    assert_eq!(call(&never_root, "0").unwrap_err().kind, Kind::Denied);
    assert_eq!(fs::metadata("/etc/passwd").unwrap().uid(), 0);
    let one = Rig::new(&format!(
        "{ALL} forbid(principal, action == file_system::Action::\"chown\", resource == file_system::File::\"{}\");",
        dir.join("t/sub/b").display()
    ));
    assert_eq!(call(&one, "1:1").unwrap_err().kind, Kind::Denied);
    assert_eq!((uid("t"), uid("t/a"), uid("t/sub/b")), (65534, 65534, 65534));
}

#[test]
fn times_are_set_to_the_nanosecond_also_before_the_epoch_and_of_folders_by_chmod() {
    let (_keep, dir) = folder();
    let file = dir.join("f");
    make(&file, 0o400);
    fs::create_dir(dir.join("sub")).unwrap();
    let rig = Rig::new(ALL);
    let set = |path: &Path, time: Dynamic| -> Map { rig.call("set_times", [dynamic(path), options([("mtime", time)])]).unwrap().cast() };
    let accessed = fs::metadata(&file).unwrap().atime();
    let before = DateTime::from_epoch(-3, 250_000_000).unwrap();
    assert!(set(&file, before.into_script())["changed"].as_bool().unwrap());
    let meta = fs::metadata(&file).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec(), meta.atime()), (-3, 250_000_000, accessed));
    assert!(!set(&file, before.into_script())["changed"].as_bool().unwrap());
    drop(set(&file, Dynamic::from_float(1.5)));
    assert_eq!((fs::metadata(&file).unwrap().mtime(), fs::metadata(&file).unwrap().mtime_nsec()), (1, 500_000_000));
    drop(set(&dir.join("sub"), Dynamic::from_int(77)));
    assert_eq!(fs::metadata(dir.join("sub")).unwrap().mtime(), 77);
    for (verb, of_file, of_dir) in [("write", true, false), ("chmod", false, true)] {
        let rig = Rig::new(&format!("permit(principal, action == file_system::Action::\"{verb}\", resource);"));
        let may = |path: &Path| rig.call("set_times", [dynamic(path), options([("mtime", Dynamic::from_int(5))])]).is_ok();
        assert_eq!((may(&file), may(&dir.join("sub"))), (of_file, of_dir), "{verb}");
    }
    assert_eq!(rig.call("set_times", [dynamic(&file), Dynamic::UNIT]).unwrap_err().kind, Kind::BadArgument);
    symlink("f", dir.join("link")).unwrap();
    drop(
        rig.call("set_times", [dynamic(&dir.join("link")), options([("mtime", Dynamic::from_int(9)), ("follow", false.into())])]).unwrap(),
    );
    assert_eq!((fs::symlink_metadata(dir.join("link")).unwrap().mtime(), fs::metadata(&file).unwrap().mtime()), (9, 5));
}

#[test]
fn room_is_set_aside_and_given_back_and_contents_stay() {
    let (_keep, dir) = folder();
    let file = dir.join("f");
    fs::write(&file, vec![b'x'; 20_000]).unwrap();
    let rig = Rig::new(ALL);
    let call = |rows: Dynamic| rig.call("fallocate", [dynamic(&file), rows]).map(Dynamic::cast::<Map>);
    let map = call(options([("length", Dynamic::from_int(100_000)), ("keep_size", true.into())])).unwrap();
    assert_eq!(map["size"].as_int().unwrap(), 20_000);
    assert!(map["allocated"].as_int().unwrap() >= 100_000);
    let map =
        call(options([("length", Dynamic::from_int(4096)), ("offset", Dynamic::from_int(4096)), ("punch_hole", true.into())])).unwrap();
    assert_eq!(map["size"].as_int().unwrap(), 20_000);
    let bytes = fs::read(&file).unwrap();
    assert!(bytes[4096..8192].iter().all(|byte| *byte == 0) && bytes[8192..].iter().all(|byte| *byte == b'x'));
    let map = call(options([("length", Dynamic::from_int(30_000))])).unwrap();
    assert_eq!(map["size"].as_int().unwrap(), 30_000);
    assert!(!call(options([("length", Dynamic::from_int(30_000))])).unwrap()["changed"].as_bool().unwrap());
    // Far more than any disk has.
    let error = call(options([("length", Dynamic::from_int(1 << 42))])).unwrap_err();
    assert!(matches!(error.kind, Kind::NoSpace | Kind::TooLarge), "{error}");
    assert_eq!(fs::metadata(&file).unwrap().len(), 30_000);
    for rows in [
        Dynamic::UNIT,
        options([("length", Dynamic::from_int(0))]),
        options([("length", Dynamic::from_int(i64::MAX)), ("offset", Dynamic::from_int(1))]),
    ] {
        assert_eq!(call(rows).unwrap_err().kind, Kind::BadArgument);
    }
    assert_eq!(rig.call("fallocate", [dynamic(&dir), options([("length", Dynamic::from_int(1))])]).unwrap_err().kind, Kind::IsADirectory);
}
