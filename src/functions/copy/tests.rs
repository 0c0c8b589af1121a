//! Copying: what is allowed beside what is not, with a look at the disk, and everything that can stand in the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::functions::rig::{Rig, maps, options};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
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

fn make(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn copy<const N: usize>(rig: &Rig, from: &Path, to: &Path, rows: [(&str, Dynamic); N]) -> Result<Map> {
    rig.call("cp", [dynamic(from), dynamic(to), options(rows)]).map(Dynamic::cast)
}

fn changed(map: &Map) -> bool {
    map["changed"].as_bool().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn forbid(verb: &str, path: &Path) -> String {
    format!("{ALL} forbid(principal, action == file_system::Action::\"{verb}\", resource == file_system::File::\"{}\");", path.display())
}

#[test]
fn a_full_file_is_replaced_with_force_only_and_one_that_is_the_same_is_left_alone() {
    let (_keep, dir) = folder();
    let (a, b) = (dir.join("a"), dir.join("b"));
    make(&a, "new\n", 0o644);
    make(&b, "", 0o600);
    let rig = Rig::new(ALL);
    assert!(changed(&copy(&rig, &a, &b, []).unwrap()));
    assert!(!changed(&copy(&rig, &a, &b, []).unwrap()));
    make(&b, "old contents\n", 0o600);
    let error = copy(&rig, &a, &b, []).unwrap_err();
    assert_eq!((error.kind, fs::read_to_string(&b).unwrap()), (Kind::Exists, "old contents\n".to_owned()));
    let inode = fs::metadata(&b).unwrap().ino();
    assert!(changed(&copy(&rig, &a, &b, [("force", true.into())]).unwrap()));
    assert_eq!((fs::read_to_string(&b).unwrap(), mode(&b)), ("new\n".to_owned(), 0o600));
    assert_ne!(fs::metadata(&b).unwrap().ino(), inode, "not in one step");
    assert_eq!(names(&dir), ["a", "b"]);
    // Whoever may only write is not told whether the guess was right.
    let blind = Rig::new(&forbid("read", &b));
    assert!(changed(&copy(&blind, &a, &b, [("force", true.into())]).unwrap()));
    assert_eq!(copy(&blind, &a, &b, []).unwrap_err().kind, Kind::Exists);
}

#[test]
fn every_verb_is_needed_and_nothing_is_left_behind_without() {
    let (_keep, dir) = folder();
    let (a, b) = (dir.join("a"), dir.join("b"));
    make(&a, "x", 0o644);
    for (verb, path) in [("read", &a), ("create", &b), ("write", &b)] {
        assert_eq!(copy(&Rig::new(&forbid(verb, path)), &a, &b, []).unwrap_err().kind, Kind::Denied, "{verb}");
        assert_eq!(names(&dir), ["a"], "{verb}");
    }
    make(&b, "old", 0o644);
    assert_eq!(copy(&Rig::new(&forbid("write", &b)), &a, &b, [("force", true.into())]).unwrap_err().kind, Kind::Denied);
    assert_eq!(fs::read_to_string(&b).unwrap(), "old");
    // To replace is no making.
    drop(copy(&Rig::new(&forbid("create", &b)), &a, &b, [("force", true.into())]).unwrap());
    assert_eq!(fs::read_to_string(&b).unwrap(), "x");
}

/// Fault A18 of the reference: `preserve` copies set-user-id without any `chmod`.
#[test]
fn set_user_id_is_copied_with_a_chmod_only() {
    let (_keep, dir) = folder();
    let (a, b) = (dir.join("a"), dir.join("b"));
    make(&a, "x", 0o4777);
    let never =
        Rig::new(&format!("{ALL} forbid(principal, action == file_system::Action::\"chmod\", resource) when {{ context.set_uid }};"));
    assert_eq!(copy(&never, &a, &b, [("preserve", true.into())]).unwrap_err().kind, Kind::Denied);
    assert_eq!(names(&dir), ["a"]);
    // Without `preserve`, nobody gets its rights and nobody else may write it.
    drop(copy(&never, &a, &b, []).unwrap());
    assert_eq!(mode(&b), 0o755);
    fs::remove_file(&b).unwrap();
    drop(copy(&Rig::new(ALL), &a, &b, [("preserve", true.into())]).unwrap());
    assert_eq!(mode(&b), 0o4777);
    // A copy over a file with set-user-id takes it away.
    make(&a, "other", 0o644);
    drop(copy(&never, &a, &b, [("force", true.into())]).unwrap());
    assert_eq!(mode(&b), 0o777);
    // Bits that a copy has in any case are no `chmod`.
    let no_chmod = Rig::new(&format!("{ALL} forbid(principal, action == file_system::Action::\"chmod\", resource);"));
    make(&a, "x", 0o640);
    drop(copy(&no_chmod, &a, &dir.join("c"), [("preserve", true.into())]).unwrap());
    assert_eq!(mode(&dir.join("c")), 0o640);
}

#[test]
fn a_secret_does_not_become_readable_by_being_copied() {
    let (_keep, dir) = folder();
    make(&dir.join("key"), "s", 0o600);
    make(&dir.join("tree/key"), "s", 0o400);
    fs::set_permissions(dir.join("tree"), fs::Permissions::from_mode(0o500)).unwrap();
    let rig = Rig::new(ALL);
    drop(copy(&rig, &dir.join("key"), &dir.join("copy"), []).unwrap());
    drop(copy(&rig, &dir.join("tree"), &dir.join("other"), [("recursive", true.into())]).unwrap());
    assert_eq!((mode(&dir.join("copy")), mode(&dir.join("other")), mode(&dir.join("other/key"))), (0o600, 0o500, 0o400));
    for name in ["tree", "other"] {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn preserve_keeps_bits_times_owner_and_attributes_and_asks_for_each() {
    let (_keep, dir) = folder();
    let (a, b) = (dir.join("a"), dir.join("b"));
    make(&a, "x", 0o664);
    let noted = rustix::fs::setxattr(&a, "user.note", b"kept", rustix::fs::XattrFlags::empty()).is_ok();
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(&a, Some(4242), Some(4343)).unwrap();
    }
    let times = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(5, 7));
    fs::File::options().write(true).open(&a).unwrap().set_times(times).unwrap();
    for (verb, needed) in [("chmod", true), ("chown", root), ("set_x_attr", noted), ("stat", true)] {
        let path = if verb == "stat" { &a } else { &b };
        let done = copy(&Rig::new(&forbid(verb, path)), &a, &b, [("preserve", true.into())]);
        assert_eq!(done.is_err_and(|error| error.kind == Kind::Denied), needed, "{verb}");
        if needed {
            assert_eq!(names(&dir), ["a"], "{verb}");
        } else {
            fs::remove_file(&b).unwrap();
        }
    }
    let rig = Rig::new(ALL);
    drop(copy(&rig, &a, &b, [("preserve", true.into())]).unwrap());
    let (one, other) = (fs::metadata(&a).unwrap(), fs::metadata(&b).unwrap());
    assert_eq!((one.mode(), one.uid(), one.gid(), one.mtime(), one.mtime_nsec()), (other.mode(), other.uid(), other.gid(), 5, 7));
    assert_eq!((other.mtime(), other.mtime_nsec()), (5, 7));
    let mut value = [0; 16];
    assert_eq!(rustix::fs::getxattr(&b, "user.note", &mut value).is_ok(), noted);
    assert!(!changed(&copy(&rig, &a, &b, [("preserve", true.into())]).unwrap()));
    // Some of it only.
    let only: Dynamic = vec![Dynamic::from("times".to_owned())].into();
    drop(copy(&rig, &a, &dir.join("c"), [("preserve", only)]).unwrap());
    let meta = fs::metadata(dir.join("c")).unwrap();
    assert_eq!((meta.mtime(), meta.mode() & 0o7777, meta.uid()), (5, 0o644, rustix::process::geteuid().as_raw()));
}

/// Fault D5 of the reference: files of procfs become empty files.
#[test]
fn a_file_of_procfs_is_copied_whole() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    let map = copy(&rig, Path::new("/proc/version"), &dir.join("version"), []).unwrap();
    assert_eq!(fs::read(dir.join("version")).unwrap(), fs::read("/proc/version").unwrap());
    assert!(map["bytes"].as_int().unwrap() > 0);
    // Files of sysfs say that they are a page long.
    if Path::new("/sys/kernel/mm/transparent_hugepage/enabled").exists() {
        let source = Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
        drop(copy(&rig, source, &dir.join("huge"), []).unwrap());
        assert_eq!(fs::read(dir.join("huge")).unwrap(), fs::read(source).unwrap());
    }
}

#[test]
fn holes_stay_holes_and_the_end_of_the_file_stays_where_it_is() {
    let (_keep, dir) = folder();
    let (a, b) = (dir.join("a"), dir.join("b"));
    let file = fs::File::create(&a).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 8 << 20).unwrap();
    file.set_len(64 << 20).unwrap();
    drop(file);
    let map = copy(&Rig::new(ALL), &a, &b, []).unwrap();
    assert_eq!(map["bytes"].as_int().unwrap(), 64 << 20);
    let meta = fs::metadata(&b).unwrap();
    assert_eq!(meta.len(), 64 << 20);
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
}

#[test]
fn a_file_of_several_names_is_written_in_place_and_gets_shorter() {
    let (_keep, dir) = folder();
    let (a, b) = (dir.join("a"), dir.join("b"));
    make(&a, "short", 0o644);
    make(&b, &"long ".repeat(100), 0o644);
    fs::hard_link(&b, dir.join("c")).unwrap();
    drop(copy(&Rig::new(ALL), &a, &b, [("force", true.into())]).unwrap());
    assert_eq!(fs::read_to_string(dir.join("c")).unwrap(), "short");
}

#[test]
fn a_tree_with_one_denied_file_leaves_nothing_and_with_keep_going_all_the_rest() {
    let (_keep, dir) = folder();
    let (from, to) = (dir.join("from"), dir.join("to"));
    for name in ["a", "sub/b", "sub/deep/c", "z"] {
        make(&from.join(name), name, 0o644);
    }
    symlink("a", from.join("link")).unwrap();
    for (verb, path) in [("read", from.join("sub/deep/c")), ("create", to.join("sub/deep/c")), ("write", to.join("z"))] {
        let rig = Rig::new(&forbid(verb, &path));
        assert_eq!(copy(&rig, &from, &to, [("recursive", true.into())]).unwrap_err().kind, Kind::Denied, "{verb}");
        assert_eq!(names(&dir), ["from"], "{verb}");
    }
    let rig = Rig::new(&forbid("read", &from.join("sub/deep/c")));
    let map = copy(&rig, &from, &to, [("recursive", true.into()), ("keep_going", true.into())]).unwrap();
    let count = |key: &str| map[key].as_int().unwrap();
    assert_eq!((count("files"), count("dirs"), count("links"), count("refused_count")), (3, 3, 1, 1));
    assert!(maps(map["refused"].clone())[0]["path"].clone().into_string().unwrap().ends_with("/from/sub/deep/c"));
    assert_eq!(names(&to), ["a", "link", "sub", "z"]);
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("a"));
    assert!(names(&to.join("sub/deep")).is_empty());
    // Once more, onto it: only what is missing is copied.
    let map = copy(&Rig::new(ALL), &from, &to, [("recursive", true.into()), ("onto", true.into())]).unwrap();
    assert_eq!((map["files"].as_int().unwrap(), map["dirs"].as_int().unwrap(), map["links"].as_int().unwrap()), (1, 0, 0));
    assert!(!changed(&copy(&Rig::new(ALL), &from, &to, [("recursive", true.into()), ("onto", true.into())]).unwrap()));
}

#[test]
fn what_cannot_be_copied_is_found_before_anything_is_made() {
    let (_keep, dir) = folder();
    let (from, to) = (dir.join("from"), dir.join("to"));
    make(&from.join("a"), "a", 0o644);
    rustix::fs::mknodat(rustix::fs::CWD, from.join("z-fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let rig = Rig::new(ALL);
    assert_eq!(copy(&rig, &from, &to, [("recursive", true.into())]).unwrap_err().kind, Kind::NotAFile);
    assert_eq!(names(&dir), ["from"]);
    let map = copy(&rig, &from, &to, [("recursive", true.into()), ("keep_going", true.into())]).unwrap();
    assert_eq!((map["files"].as_int().unwrap(), map["refused_count"].as_int().unwrap()), (1, 1));
    assert_eq!(copy(&rig, &from, &dir.join("x"), []).unwrap_err().kind, Kind::IsADirectory);
    assert_eq!(copy(&rig, &from.join("z-fifo"), &dir.join("x"), []).unwrap_err().kind, Kind::NotAFile);
    assert_eq!(copy(&rig, &dir.join("gone"), &dir.join("x"), []).unwrap_err().kind, Kind::NotFound);
    assert_eq!(copy(&rig, &from.join("a"), &dir.join("no/x"), []).unwrap_err().kind, Kind::NotFound);
    assert_eq!(copy(&rig, &to, &dir.join("no/x"), [("recursive", true.into())]).unwrap_err().kind, Kind::NotFound);
    assert_eq!(copy(&rig, &from.join("a"), Path::new(&format!("{}/gone/", dir.display())), []).unwrap_err().kind, Kind::NotFound);
    assert_eq!(names(&dir), ["from", "to"]);
}

#[test]
fn nothing_is_copied_onto_or_into_itself() {
    let (_keep, dir) = folder();
    make(&dir.join("a"), "a", 0o644);
    make(&dir.join("t/sub/f"), "f", 0o644);
    symlink("a", dir.join("link")).unwrap();
    symlink("t/sub", dir.join("in")).unwrap();
    fs::hard_link(dir.join("a"), dir.join("hard")).unwrap();
    let rig = Rig::new(ALL);
    for to in ["a", "link", "hard", "."] {
        let error = copy(&rig, &dir.join("a"), &dir.join(to), [("force", true.into())]).unwrap_err();
        assert_eq!(error.kind, Kind::BadArgument, "{to}");
    }
    for to in ["t", "t/new", "t/sub", "t/sub/new", "in", "in/new"] {
        let error = copy(&rig, &dir.join("t"), &dir.join(to), [("recursive", true.into())]).unwrap_err();
        assert_eq!(error.kind, Kind::BadArgument, "{to}");
    }
    assert_eq!((names(&dir.join("t")), names(&dir.join("t/sub"))), (vec!["sub".to_owned()], vec!["f".to_owned()]));
    assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "a");
}

#[test]
fn a_link_in_the_way_of_a_tree_is_not_written_through() {
    let (_keep, dir) = folder();
    make(&dir.join("from/f"), "new", 0o644);
    make(&dir.join("from/sub/g"), "new", 0o644);
    make(&dir.join("victim"), "old", 0o644);
    fs::create_dir_all(dir.join("to/from")).unwrap();
    fs::create_dir(dir.join("elsewhere")).unwrap();
    let rig = Rig::new(ALL);
    let all = || copy(&rig, &dir.join("from"), &dir.join("to"), [("recursive", true.into()), ("force", true.into())]);
    symlink("../../victim", dir.join("to/from/f")).unwrap();
    assert_eq!(all().unwrap_err().kind, Kind::Exists);
    fs::remove_file(dir.join("to/from/f")).unwrap();
    symlink("../../elsewhere", dir.join("to/from/sub")).unwrap();
    assert_eq!(all().unwrap_err().kind, Kind::NotADirectory);
    assert_eq!((fs::read_to_string(dir.join("victim")).unwrap(), names(&dir.join("elsewhere")).len()), ("old".to_owned(), 0));
    fs::remove_file(dir.join("to/from/sub")).unwrap();
    assert_eq!(all().unwrap()["files"].as_int().unwrap(), 2);
}

#[test]
fn into_a_folder_it_goes_under_its_own_name_and_the_folder_is_not_told_to_strangers() {
    let (_keep, dir) = folder();
    make(&dir.join("a"), "a", 0o644);
    make(&dir.join("real name"), "r", 0o644);
    symlink("real name", dir.join("link")).unwrap();
    fs::create_dir(dir.join("into")).unwrap();
    let rig = Rig::new(ALL);
    let map = copy(&rig, &dir.join("a"), &dir.join("into"), []).unwrap();
    assert!(map["path"].clone().into_string().unwrap().ends_with("/into/a"));
    drop(copy(&rig, &dir.join("link"), &dir.join("into"), []).unwrap());
    assert_eq!(names(&dir.join("into")), ["a", "link"]);
    assert!(fs::symlink_metadata(dir.join("into/link")).unwrap().is_file());
    assert_eq!(copy(&rig, &dir.join("a"), &dir.join("into"), [("onto", true.into())]).unwrap_err().kind, Kind::IsADirectory);
    let reader = Rig::new(&format!(
        "permit(principal, action == file_system::Action::\"read\", resource == file_system::File::\"{}\");",
        dir.join("a").display()
    ));
    for rows in [false, true] {
        let told = |name: &str| {
            let error = copy(&reader, &dir.join("a"), &dir.join(name), [("force", rows.into())]).unwrap_err();
            (error.kind, error.message.replace(name, "NAME"))
        };
        assert_eq!(told("into"), told("gone"));
        assert_eq!(told("link"), told("gone"));
    }
}

#[test]
fn a_source_that_is_replaced_by_a_link_after_the_decision_is_the_one_that_was_judged() {
    let (_keep, dir) = folder();
    make(&dir.join("a"), "judged", 0o644);
    make(&dir.join("secret"), "secret", 0o600);
    let rig = Rig::new(ALL);
    let call = Call::new(&rig.host, &CP, None);
    let locate = |name: &str| File::locate(&AbsPath::new(dir.join(name).to_str().unwrap()).unwrap()).unwrap();
    let from = call.permit::<Read>(locate("a")).unwrap();
    let to = call.permit::<Write>(locate("b")).unwrap();
    fs::remove_file(dir.join("a")).unwrap();
    symlink("secret", dir.join("a")).unwrap();
    let _ = sys::copy::file(&from, &to, &Plan { mode: Some(0o644), ..Plan::default() }, &rig.host.watch).unwrap();
    assert_eq!(fs::read_to_string(dir.join("b")).unwrap(), "judged");
    // And what got the name of the copy meanwhile is not overwritten.
    let to = call.permit::<Write>(locate("c")).unwrap();
    symlink("secret", dir.join("c")).unwrap();
    let error = sys::copy::file(&from, &to, &Plan::default(), &rig.host.watch).unwrap_err();
    assert_eq!((error.kind, fs::read_to_string(dir.join("secret")).unwrap()), (Kind::Exists, "secret".to_owned()));
    let mut left = names(&dir);
    left.sort();
    assert_eq!(left, ["a", "b", "c", "secret"]);
}

#[test]
fn a_tree_that_is_too_deep_is_found_before_anything_is_made() {
    let (_keep, dir) = folder();
    let mut path = dir.join("from");
    for _ in 0..500 {
        path.push("d");
    }
    fs::create_dir_all(&path).unwrap();
    let rig = Rig::new(ALL);
    assert_eq!(copy(&rig, &dir.join("from"), &dir.join("to"), [("recursive", true.into())]).unwrap_err().kind, Kind::TooLarge);
    assert_eq!(
        rig.call("chmod", [dynamic(&dir.join("from")), "go=".to_owned().into(), options([("recursive", true.into())])]).unwrap_err().kind,
        Kind::TooLarge
    );
    assert_eq!((names(&dir), mode(&dir.join("from"))), (vec!["from".to_owned()], 0o755));
}

#[test]
fn an_access_list_is_kept_with_a_chmod_only_and_never_comes_from_the_folder_then() {
    let (_keep, dir) = folder();
    let (a, b) = (dir.join("a"), dir.join("into/b"));
    make(&a, "x", 0o640);
    fs::create_dir(dir.join("into")).unwrap();
    let rig = Rig::new(ALL);
    let set = |path: &Path, name: &str| {
        let list = "u::rw-,u:4242:r--,g::r--,m::r--,o::---".to_owned();
        rig.call("xattr_set", [dynamic(path), name.to_owned().into(), list.into(), Dynamic::UNIT])
    };
    let list = |path: &Path| -> String {
        let acl: Map = rig.call("acl_get", [dynamic(path), Dynamic::UNIT]).unwrap().cast();
        acl["text"].clone().into_string().unwrap()
    };
    if set(&dir.join("into"), "system.posix_acl_default").is_err_and(|error| error.kind == Kind::Unsupported) {
        return;
    }
    drop(copy(&rig, &a, &b, [("preserve", true.into())]).unwrap());
    assert_eq!((list(&b), mode(&b)), (list(&a), 0o640));
    drop(set(&a, "system.posix_acl_access").unwrap());
    assert_eq!(
        copy(&Rig::new(&forbid("chmod", &b)), &a, &b, [("preserve", true.into()), ("force", true.into())]).unwrap_err().kind,
        Kind::Denied
    );
    drop(copy(&rig, &a, &b, [("preserve", true.into()), ("force", true.into())]).unwrap());
    assert_eq!(list(&b), list(&a));
    assert!(list(&b).contains("user:4242:r--"));
}

/// What only `redacted_read` is permitted of is not copied whole.
#[test]
fn a_file_that_may_be_read_redacted_only_is_not_copied() {
    let (_keep, dir) = folder();
    let (a, b) = (dir.join("a"), dir.join("b"));
    make(&a, "x", 0o644);
    assert_eq!(copy(&Rig::new(&forbid("read", &a)), &a, &b, []).unwrap_err().kind, Kind::Denied);
    assert_eq!(names(&dir), ["a"]);
}
