//! Names: what is allowed beside what is not, with a look at the disk, and everything that can stand in the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::functions::rig::{Rig, options};
use crate::functions::value::Array;
use rustix::fs::{FileType as Kinds, Mode};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const ALL: &str = "permit(principal, action, resource);";

fn dynamic(path: &Path) -> Dynamic {
    name_value(path.as_os_str().as_bytes())
}

/// A folder whose name has no link in it.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let real = fs::canonicalize(dir.path()).unwrap();
    (dir, real)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn yes<const N: usize>(rows: [&str; N]) -> Dynamic {
    options(rows.map(|row| (row, true.into())))
}

fn done(result: Result<Dynamic>) -> Map {
    result.unwrap().cast::<Map>()
}

fn kind(result: Result<Dynamic>) -> Kind {
    result.map(|value| panic!("it was done: {value:?}")).unwrap_err().kind
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, Kinds::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

fn permit(rows: &[(&str, &Path)]) -> String {
    rows.iter()
        .map(|(verb, path)| {
            format!("permit(principal, action == file_system::Action::\"{verb}\", resource in file_system::Dir::\"{}\");", path.display())
        })
        .collect()
}

fn forbid(verb: &str, noun: &str, path: &Path) -> String {
    format!("{ALL} forbid(principal, action == file_system::Action::\"{verb}\", resource == file_system::{noun}::\"{}\");", path.display())
}

// --- mkdir, rmdir, mktemp ---

#[test]
fn every_missing_level_is_judged_before_the_first_is_made_a11() {
    let (_keep, dir) = folder();
    for level in ["a", "a/b", "a/b/c"] {
        let rig = Rig::new(&forbid("create", "Dir", &dir.join(level)));
        assert_eq!(kind(rig.call("mkdir", [dynamic(&dir.join("a/b/c")), yes(["parents"])])), Kind::Denied, "{level}");
        assert!(names(&dir).is_empty(), "{level}");
    }
    let map = done(Rig::new(ALL).call("mkdir", [dynamic(&dir.join("a/b/c")), yes(["parents"])]));
    assert_eq!(map["created"].clone().cast::<Array>().len(), 3);
    assert!(dir.join("a/b/c").is_dir());
}

#[test]
fn a_directory_is_made_where_a_link_on_the_way_leads_and_judged_there_a12() {
    let (_keep, dir) = folder();
    fs::create_dir_all(dir.join("open")).unwrap();
    fs::create_dir_all(dir.join("shut")).unwrap();
    symlink("../shut", dir.join("open/way")).unwrap();
    let rig = Rig::new(&permit(&[("create", &dir.join("open"))]));
    for rows in [yes([]), yes(["parents"])] {
        for path in ["open/way/x", "open/way/x/y"] {
            assert_eq!(kind(rig.call("mkdir", [dynamic(&dir.join(path)), rows.clone()])), Kind::Denied, "{path}");
        }
    }
    assert!(names(&dir.join("shut")).is_empty());
    // Who may make the last level only is told of the one before it in the script's own words.
    let text = format!("permit(principal, action, resource == file_system::Dir::\"{}\");", dir.join("shut/x/y").display());
    let error = Rig::new(&text).call("mkdir", [dynamic(&dir.join("open/way/./x/y")), yes(["parents"])]).unwrap_err();
    assert!(error.message.contains("/open/way/x\"") && !error.message.contains("shut"), "{error:?}");
    done(Rig::new(ALL).call("mkdir", [dynamic(&dir.join("open/way/x/y")), yes(["parents"])]));
    assert!(dir.join("shut/x/y").is_dir());
}

#[test]
fn what_is_there_and_what_is_missing_look_alike_to_who_may_do_nothing_a16() {
    let (_keep, dir) = folder();
    fs::create_dir(dir.join("there")).unwrap();
    fs::write(dir.join("qfile"), "").unwrap();
    let rig = Rig::new("permit(principal, action, resource == file_system::File::\"/nowhere\");");
    let told = |function: &str, name: &str, rows: Dynamic| {
        let error = rig.call(function, [dynamic(&dir.join(name)), rows]).unwrap_err();
        format!("{error:?}").replace(name, "NAME").replace(|c: char| c.is_ascii_digit(), "")
    };
    for rows in [yes([]), yes(["parents"])] {
        assert_eq!(told("mkdir", "there", rows.clone()), told("mkdir", "gone", rows.clone()));
        assert_eq!(told("mkdir", "qfile", rows.clone()), told("mkdir", "gone", rows));
    }
    for rows in [yes([]), yes(["force"]), yes(["recursive"])] {
        assert_eq!(told("rm", "there", rows.clone()), told("rm", "gone", rows.clone()));
        assert_eq!(told("rm", "qfile", rows.clone()), told("rm", "gone", rows));
    }
    let moved = |from: &str, to: &str| {
        let error = rig.call("mv", [dynamic(&dir.join(from)), dynamic(&dir.join(to))]).unwrap_err();
        format!("{error:?}").replace(from, "FROM").replace(to, "TO").replace(|c: char| c.is_ascii_digit(), "")
    };
    assert_eq!(moved("qfile", "new"), moved("gone", "new"));
    assert_eq!(moved("qfile", "there"), moved("qfile", "lost"));
}

#[test]
fn where_something_goes_does_not_tell_who_may_not_look_that_it_is_a_directory() {
    let (_keep, dir) = folder();
    fs::create_dir(dir.join("in")).unwrap();
    fs::create_dir(dir.join("out")).unwrap();
    fs::create_dir(dir.join("out/there")).unwrap();
    fs::write(dir.join("in/qfile"), "").unwrap();
    let rig = Rig::new(&permit(&[("move", &dir.join("in")), ("create", &dir.join("in"))]));
    let told = |to: &str| {
        let error = rig.call("mv", [dynamic(&dir.join("in/qfile")), dynamic(&dir.join("out").join(to))]).unwrap_err();
        format!("{error:?}").replace(to, "TO").replace(|c: char| c.is_ascii_digit(), "")
    };
    assert_eq!(told("there"), told("gone"));
    assert_eq!(told("there/"), told("gone/"));
}

#[test]
fn a_directory_that_is_there_is_an_error_without_parents_and_none_with() {
    let (_keep, dir) = folder();
    fs::create_dir(dir.join("d")).unwrap();
    fs::write(dir.join("f"), "").unwrap();
    let rig = Rig::new(ALL);
    assert_eq!(kind(rig.call("mkdir", [dynamic(&dir.join("d"))])), Kind::Exists);
    assert!(!done(rig.call("mkdir", [dynamic(&dir.join("d")), yes(["parents"])]))["changed"].as_bool().unwrap());
    for rows in [yes([]), yes(["parents"])] {
        assert_eq!(kind(rig.call("mkdir", [dynamic(&dir.join("f")), rows.clone()])), Kind::Exists);
        assert_eq!(kind(rig.call("mkdir", [dynamic(&dir.join("f/x")), rows])), Kind::NotADirectory);
    }
    assert_eq!(kind(rig.call("mkdir", [dynamic(&dir.join("no/x"))])), Kind::NotFound);
}

#[test]
fn permission_bits_of_a_new_directory_are_exact_and_set_group_id_is_handed_on() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    for bits in [0o755_i64, 0o777, 0o711, 0o700, 0o500] {
        let path = dir.join(format!("m{bits}"));
        done(rig.call("mkdir", [dynamic(&path), options([("mode", bits.into())])]));
        assert_eq!(i64::from(fs::metadata(&path).unwrap().mode() & 0o7777), bits);
    }
    done(rig.call("mkdir", [dynamic(&dir.join("plain"))]));
    assert_eq!(fs::metadata(dir.join("plain")).unwrap().mode() & 0o7777, 0o755);
    fs::set_permissions(dir.join("plain"), fs::Permissions::from_mode(0o2755)).unwrap();
    done(rig.call("mkdir", [dynamic(&dir.join("plain/inside")), options([("mode", 0o750_i64.into())])]));
    assert_eq!(fs::metadata(dir.join("plain/inside")).unwrap().mode() & 0o7777, 0o2750);
    assert_eq!(kind(rig.call("mkdir", [dynamic(&dir.join("bad")), options([("mode", 0o1777_i64.into())])])), Kind::BadArgument);
}

#[test]
fn rmdir_takes_empty_directories_only() {
    let (_keep, dir) = folder();
    fs::create_dir_all(dir.join("full/x")).unwrap();
    fs::write(dir.join("file"), "").unwrap();
    symlink("full", dir.join("link")).unwrap();
    let rig = Rig::new(ALL);
    assert_eq!(kind(rig.call("rmdir", [dynamic(&dir.join("full"))])), Kind::NotEmpty);
    assert_eq!(kind(rig.call("rmdir", [dynamic(&dir.join("file"))])), Kind::NotADirectory);
    assert_eq!(kind(rig.call("rmdir", [dynamic(&dir.join("link"))])), Kind::NotADirectory);
    assert_eq!(kind(rig.call("rmdir", [dynamic(&dir.join("link/"))])), Kind::NotADirectory);
    assert_eq!(kind(rig.call("rmdir", [dynamic(&dir.join("gone"))])), Kind::NotFound);
    assert_eq!(kind(rig.call("rmdir", [dynamic(Path::new("/"))])), Kind::BadArgument);
    assert_eq!(kind(rig.call("rmdir", [dynamic(Path::new("/proc"))])), Kind::Busy);
    done(rig.call("rmdir", [dynamic(&dir.join("full/x/"))]));
    assert_eq!(names(&dir.join("full")), [""; 0]);
}

#[test]
fn temporary_files_are_new_for_one_account_and_judged_by_their_name() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    let made = |rows: Dynamic| PathBuf::from(rig.call("mktemp", [rows]).unwrap().into_string().unwrap());
    let file = made(options([("dir", dynamic(&dir)), ("prefix", "a-".into()), ("suffix", ".txt".into())]));
    assert!(file.is_file() && file.starts_with(&dir));
    assert!(file.to_str().unwrap().contains("/a-") && file.to_str().unwrap().ends_with(".txt"));
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    let folder = made(options([("dir", dynamic(&dir)), ("directory", true.into())]));
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
    let other = made(options([("dir", dynamic(&dir)), ("mode", 0o644_i64.into())]));
    assert_eq!(fs::metadata(&other).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(names(&dir).len(), 3);
    for rows in [("prefix", "../x"), ("suffix", "a/b"), ("suffix", "a\0b")] {
        assert_eq!(kind(rig.call("mktemp", [options([("dir", dynamic(&dir)), (rows.0, rows.1.into())])])), Kind::BadArgument);
    }
    assert_eq!(kind(rig.call("mktemp", [options([("dir", dynamic(&dir.join("no")))])])), Kind::NotFound);
    let narrow = Rig::new("permit(principal, action, resource) when { resource has name && resource.name like \"ok-*\" };");
    let rows = |prefix: &str| options([("dir", dynamic(&dir)), ("prefix", prefix.to_owned().into())]);
    assert_eq!(kind(narrow.call("mktemp", [rows("no-")])), Kind::Denied);
    assert!(narrow.call("mktemp", [rows("ok-")]).is_ok());
    assert_eq!(names(&dir).len(), 4);
}

// --- rm ---

#[test]
fn one_forbidden_thing_deep_in_a_tree_keeps_all_of_it_a15() {
    let (_keep, dir) = folder();
    fs::create_dir_all(dir.join("t/a/b/c")).unwrap();
    fs::write(dir.join("t/a/b/c/shut"), "").unwrap();
    fs::write(dir.join("t/a/b/free"), "").unwrap();
    fs::write(dir.join("t/z"), "").unwrap();
    let rig = Rig::new(&forbid("delete", "File", &dir.join("t/a/b/c/shut")));
    assert_eq!(kind(rig.call("rm", [dynamic(&dir.join("t")), yes(["recursive"])])), Kind::Denied);
    assert!(dir.join("t/z").exists() && dir.join("t/a/b/free").exists());
    let map = done(rig.call("rm", [dynamic(&dir.join("t")), yes(["recursive", "keep_going"])]));
    assert_eq!(map["removed"].as_int().unwrap(), 2);
    let refused = map["refused"].clone().cast::<Array>();
    assert_eq!(refused.len(), 1);
    let row = refused[0].clone().cast::<Map>();
    assert_eq!(row["path"].clone().into_string().unwrap(), dir.join("t/a/b/c/shut").to_str().unwrap());
    assert_eq!(row["kind"].clone().into_string().unwrap(), "denied");
    assert!(dir.join("t/a/b/c/shut").exists() && !dir.join("t/z").exists() && !dir.join("t/a/b/free").exists());
}

#[test]
fn a_directory_that_may_not_be_read_or_deleted_keeps_what_is_in_it() {
    let (_keep, dir) = folder();
    for verb in ["read", "delete"] {
        fs::create_dir_all(dir.join("t/shut")).unwrap();
        fs::write(dir.join("t/shut/x"), "").unwrap();
        fs::write(dir.join("t/free"), "").unwrap();
        let rig = Rig::new(&forbid(verb, "Dir", &dir.join("t/shut")));
        assert_eq!(kind(rig.call("rm", [dynamic(&dir.join("t")), yes(["recursive"])])), Kind::Denied);
        assert!(dir.join("t/free").exists(), "{verb}");
        let map = done(rig.call("rm", [dynamic(&dir.join("t")), yes(["recursive", "keep_going"])]));
        assert_eq!((map["removed"].as_int().unwrap(), map["refused_count"].as_int().unwrap()), (1, 1), "{verb}");
        assert!(dir.join("t/shut/x").exists(), "{verb}");
    }
}

#[test]
fn links_are_removed_and_never_followed_b7_d17() {
    let (_keep, dir) = folder();
    fs::create_dir(dir.join("target")).unwrap();
    fs::write(dir.join("target/file"), "").unwrap();
    let rig = Rig::new(ALL);
    for (link, to) in [("dirlink", "target"), ("dangling", "nowhere"), ("filelink", "target/file"), ("loop", "loop")] {
        symlink(to, dir.join(link)).unwrap();
        for rows in [yes([]), yes(["recursive", "force"])] {
            assert_eq!(kind(rig.call("rm", [dynamic(&dir.join(link).join("")), rows])), Kind::NotADirectory, "{link}/");
        }
        assert_eq!(done(rig.call("rm", [dynamic(&dir.join(link))]))["removed"].as_int().unwrap(), 1);
        assert!(fs::symlink_metadata(dir.join(link)).is_err(), "{link}");
    }
    fs::create_dir(dir.join("tree")).unwrap();
    symlink("../target", dir.join("tree/link")).unwrap();
    done(rig.call("rm", [dynamic(&dir.join("tree")), yes(["recursive"])]));
    assert_eq!(names(&dir), ["target"]);
    assert!(dir.join("target/file").exists());
}

#[test]
fn force_tolerates_absence_and_nothing_else_d17() {
    let (_keep, dir) = folder();
    fs::write(dir.join("file"), "").unwrap();
    fs::create_dir(dir.join("d")).unwrap();
    let rig = Rig::new(ALL);
    for gone in ["gone", "no/such", "file/x"] {
        assert!(!done(rig.call("rm", [dynamic(&dir.join(gone)), yes(["force"])]))["changed"].as_bool().unwrap(), "{gone}");
    }
    assert_eq!(kind(rig.call("rm", [dynamic(&dir.join("gone"))])), Kind::NotFound);
    assert_eq!(kind(rig.call("rm", [dynamic(&dir.join("d")), yes(["force"])])), Kind::IsADirectory);
    let shut = Rig::new(&forbid("delete", "File", &dir.join("gone")));
    assert_eq!(kind(shut.call("rm", [dynamic(&dir.join("gone")), yes(["force"])])), Kind::Denied);
}

#[test]
fn fifos_sockets_and_odd_names_are_removed_without_being_opened_c3() {
    let (_keep, dir) = folder();
    fs::create_dir(dir.join("t")).unwrap();
    fifo(&dir.join("t/pipe"));
    fifo(&dir.join("alone"));
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("t/socket")).unwrap();
    fs::write(dir.join("t").join(std::ffi::OsStr::from_bytes(b"\xff\n*")), "").unwrap();
    let rig = Rig::new(ALL);
    done(rig.call("rm", [dynamic(&dir.join("alone"))]));
    assert_eq!(done(rig.call("rm", [dynamic(&dir.join("t")), yes(["recursive"])]))["removed"].as_int().unwrap(), 4);
    assert!(names(&dir).is_empty());
}

#[test]
fn several_paths_are_judged_together_and_may_overlap() {
    let (_keep, dir) = folder();
    let rig = Rig::new(&forbid("delete", "File", &dir.join("shut")));
    let paths = |list: &[&str]| Dynamic::from_array(list.iter().map(|name| dynamic(&dir.join(name))).collect());
    for name in ["a", "b", "shut"] {
        fs::write(dir.join(name), "").unwrap();
    }
    assert_eq!(kind(rig.call("rm", [paths(&["a", "b", "shut"])])), Kind::Denied);
    assert_eq!(kind(rig.call("rm", [paths(&["a", "gone"])])), Kind::NotFound);
    assert_eq!(names(&dir), ["a", "b", "shut"]);
    fs::create_dir_all(dir.join("t/u")).unwrap();
    fs::write(dir.join("t/u/x"), "").unwrap();
    let map = done(rig.call("rm", [paths(&["t", "t/u", "t/u/x", "a", "a", "b"]), yes(["recursive"])]));
    assert_eq!(map["removed"].as_int().unwrap(), 5);
    assert_eq!(names(&dir), ["shut"]);
    let many: Vec<String> = (0..100).map(|number| format!("m{number}")).collect();
    for name in &many {
        fs::write(dir.join(name), "").unwrap();
    }
    let mut list: Vec<&str> = many.iter().map(String::as_str).collect();
    list.push("shut");
    assert_eq!(kind(rig.call("rm", [paths(&list)])), Kind::Denied);
    assert_eq!(names(&dir).len(), 101);
    let map = done(rig.call("rm", [paths(&list), yes(["keep_going"])]));
    assert_eq!((map["removed"].as_int().unwrap(), map["refused_count"].as_int().unwrap()), (100, 1));
    assert!(!done(rig.call("rm", [paths(&[])]))["changed"].as_bool().unwrap());
}

#[test]
fn the_root_and_mount_points_are_refused() {
    let rig = Rig::new(ALL);
    for path in ["/", "/.", "//", "/usr/.."] {
        assert_eq!(kind(rig.call("rm", [Dynamic::from(path.to_owned()), yes(["recursive", "force"])])), Kind::BadArgument, "{path}");
    }
    assert_eq!(kind(rig.call("rm", [Dynamic::from("/proc".to_owned()), yes(["recursive", "one_file_system"])])), Kind::Busy);
}

#[test]
fn what_took_the_name_after_the_decision_is_left_alone() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    let call = Call::new(&rig.host, &RM, None);
    let grant = |name: &str| {
        let path = AbsPath::new(dir.join(name).as_os_str().as_bytes()).unwrap();
        call.permit::<Delete>(File::locate_name(&path).unwrap()).unwrap()
    };
    fs::write(dir.join("a"), "old").unwrap();
    let granted = grant("a");
    fs::rename(dir.join("a"), dir.join("away")).unwrap();
    assert_eq!(sys::name::remove(&granted).unwrap_err().kind, Kind::NotFound);
    fs::write(dir.join("a"), "new").unwrap();
    assert_eq!(sys::name::remove(&granted).unwrap_err().kind, Kind::Changed);
    assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "new");
    // Its folder was moved.
    fs::create_dir(dir.join("d")).unwrap();
    fs::write(dir.join("d/x"), "").unwrap();
    let granted = grant("d/x");
    fs::rename(dir.join("d"), dir.join("e")).unwrap();
    assert_eq!(sys::name::remove(&granted).unwrap_err().kind, Kind::Changed);
    assert!(dir.join("e/x").exists());
}

#[test]
fn a_tree_a_thousand_deep_is_removed_with_few_descriptors() {
    let (_keep, dir) = folder();
    let mut here = rustix::fs::open(&dir, rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..1000 {
        rustix::fs::mkdirat(&here, c"d", Mode::RWXU).unwrap();
        here = rustix::fs::openat(&here, c"d", rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
        rustix::fs::symlinkat(c"/", &here, c"l").unwrap();
    }
    drop(here);
    let most = Arc::new(AtomicUsize::new(0));
    let (stop, seen) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&most));
    let flag = Arc::clone(&stop);
    let watcher = std::thread::spawn(move || {
        while flag.load(Ordering::Relaxed) == 0 {
            seen.fetch_max(fs::read_dir("/proc/self/fd").unwrap().count(), Ordering::Relaxed);
        }
    });
    let map = done(Rig::new(ALL).call("rm", [dynamic(&dir.join("d")), yes(["recursive"])]));
    stop.store(1, Ordering::Relaxed);
    watcher.join().unwrap();
    assert_eq!(map["removed"].as_int().unwrap(), 2000);
    assert!(names(&dir).is_empty());
    // Other tests run beside it in the same process when it is not nextest that runs them.
    assert!(most.load(Ordering::Relaxed) < 400, "{}", most.load(Ordering::Relaxed));
}

#[test]
fn a_directory_swapped_for_a_link_while_a_tree_is_removed_leads_nowhere() {
    let (_keep, dir) = folder();
    fs::create_dir(dir.join("outside")).unwrap();
    for number in 0..50 {
        fs::write(dir.join(format!("outside/precious{number}")), "").unwrap();
    }
    let stop = Arc::new(AtomicUsize::new(0));
    let (flag, root) = (Arc::clone(&stop), dir.clone());
    let swapper = std::thread::spawn(move || {
        while flag.load(Ordering::Relaxed) == 0 {
            let _ = fs::rename(root.join("t/a"), root.join("hidden"));
            let _ = symlink("../outside", root.join("t/a"));
            let _ = fs::remove_file(root.join("t/a"));
            let _ = fs::rename(root.join("hidden"), root.join("t/a"));
        }
    });
    let rig = Rig::new(ALL);
    for _ in 0..60 {
        let _ = fs::create_dir_all(dir.join("t/a"));
        for number in 0..50 {
            let _ = fs::write(dir.join(format!("t/a/precious{number}")), "");
        }
        let _ = rig.call("rm", [dynamic(&dir.join("t")), yes(["recursive", "keep_going", "force"])]);
    }
    stop.store(1, Ordering::Relaxed);
    swapper.join().unwrap();
    assert_eq!(names(&dir.join("outside")).len(), 50);
}

// --- mv ---

fn context(verb: &str, path: &Path) -> String {
    format!(
        "{ALL} forbid(principal, action == file_system::Action::\"{verb}\", resource) when {{ context.destination.path == \"{}\" }};",
        path.display()
    )
}

#[test]
fn a_move_is_judged_with_its_canonical_destination() {
    let (_keep, dir) = folder();
    fs::write(dir.join("a"), "").unwrap();
    fs::create_dir(dir.join("real")).unwrap();
    symlink("real", dir.join("way")).unwrap();
    for text in [
        context("move", &dir.join("real/b")),
        format!(
            "{ALL} forbid(principal, action == file_system::Action::\"move\", resource) when {{ context.destination.name == \"b\" && context.destination.parent_path == \"{}\" }};",
            dir.join("real").display()
        ),
        forbid("create", "File", &dir.join("real/b")),
    ] {
        assert_eq!(kind(Rig::new(&text).call("mv", [dynamic(&dir.join("a")), dynamic(&dir.join("way/b"))])), Kind::Denied, "{text}");
        assert!(dir.join("a").exists());
    }
    let map = done(Rig::new(ALL).call("mv", [dynamic(&dir.join("a")), dynamic(&dir.join("way/b"))]));
    assert_eq!(map["path"].clone().into_string().unwrap(), dir.join("real/b").to_str().unwrap());
}

#[test]
fn everything_in_a_directory_is_judged_with_a_destination_of_its_own_a15() {
    let (_keep, dir) = folder();
    fs::create_dir_all(dir.join("s/a/b")).unwrap();
    fs::write(dir.join("s/a/b/x"), "").unwrap();
    for text in [
        forbid("move", "File", &dir.join("s/a/b/x")),
        forbid("move", "Dir", &dir.join("s/a/b")),
        forbid("create", "File", &dir.join("t/a/b/x")),
        forbid("create", "Dir", &dir.join("t/a")),
        forbid("read", "Dir", &dir.join("s/a")),
        context("move", &dir.join("t/a/b/x")),
    ] {
        assert_eq!(kind(Rig::new(&text).call("mv", [dynamic(&dir.join("s")), dynamic(&dir.join("t"))])), Kind::Denied, "{text}");
        assert!(dir.join("s/a/b/x").exists() && !dir.join("t").exists());
    }
    done(Rig::new(ALL).call("mv", [dynamic(&dir.join("s")), dynamic(&dir.join("t"))]));
    assert!(dir.join("t/a/b/x").exists() && !dir.join("s").exists());
}

#[test]
fn what_is_there_is_replaced_only_on_demand_and_with_its_own_verbs_a17() {
    let (_keep, dir) = folder();
    let put = || {
        fs::write(dir.join("a"), "new").unwrap();
        fs::write(dir.join("b"), "old").unwrap();
    };
    put();
    let args = |rows: Dynamic| [dynamic(&dir.join("a")), dynamic(&dir.join("b")), rows];
    assert_eq!(kind(Rig::new(ALL).call("mv", args(yes([])))), Kind::Exists);
    for verb in ["delete", "write"] {
        assert_eq!(kind(Rig::new(&forbid(verb, "File", &dir.join("b"))).call("mv", args(yes(["force"])))), Kind::Denied, "{verb}");
    }
    for text in [forbid("move", "File", &dir.join("b")), forbid("create", "File", &dir.join("b~")), context("move", &dir.join("b~"))] {
        assert_eq!(kind(Rig::new(&text).call("mv", args(yes(["backup"])))), Kind::Denied, "{text}");
    }
    assert_eq!(names(&dir), ["a", "b"]);
    assert_eq!(fs::read_to_string(dir.join("b")).unwrap(), "old");
    done(Rig::new(ALL).call("mv", args(yes(["force"]))));
    assert_eq!((names(&dir), fs::read_to_string(dir.join("b")).unwrap()), (vec!["b".to_owned()], "new".to_owned()));
}

#[test]
fn a_backup_is_really_kept_and_numbered_when_its_name_is_taken_b5() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    fs::write(dir.join("b"), "0").unwrap();
    for round in 1..4 {
        fs::write(dir.join("a"), round.to_string()).unwrap();
        let map = done(rig.call("mv", [dynamic(&dir.join("a")), dynamic(&dir.join("b")), yes(["backup"])]));
        let backup = map["backup"].clone().into_string().unwrap();
        assert_eq!(fs::read_to_string(backup).unwrap(), (round - 1).to_string());
        assert_eq!(fs::metadata(dir.join("b")).unwrap().nlink(), 1);
    }
    assert_eq!(names(&dir), ["b", "b.~1~", "b.~2~", "b~"]);
    // Of a link too, which has no second name.
    symlink("b", dir.join("l")).unwrap();
    fs::write(dir.join("a"), "x").unwrap();
    done(rig.call("mv", [dynamic(&dir.join("a")), dynamic(&dir.join("l")), yes(["backup"])]));
    assert!(fs::symlink_metadata(dir.join("l~")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(dir.join("l")).unwrap(), "x");
    assert_eq!(fs::read_to_string(dir.join("b")).unwrap(), "3");
}

#[test]
fn moves_that_make_no_sense_are_refused_and_change_nothing() {
    let (_keep, dir) = folder();
    fs::create_dir_all(dir.join("d/e")).unwrap();
    fs::create_dir_all(dir.join("full/d")).unwrap();
    fs::write(dir.join("f"), "f").unwrap();
    let rig = Rig::new(ALL);
    let both = |a: &str, b: &str, rows: Dynamic| kind(rig.call("mv", [dynamic(&dir.join(a)), dynamic(&dir.join(b)), rows]));
    assert_eq!(both("d", "d/e", yes([])), Kind::BadArgument);
    assert_eq!(both("d", "d/e/new", yes([])), Kind::BadArgument);
    assert_eq!(both("f", "f", yes(["force"])), Kind::BadArgument);
    assert_eq!(both("d", "full", yes([])), Kind::Exists);
    assert_eq!(both("d", "full", yes(["force"])), Kind::Exists);
    assert_eq!(both("d", "f", yes([])), Kind::Exists);
    assert_eq!(both("d", "f", yes(["force"])), Kind::NotADirectory);
    assert_eq!(both("gone", "x", yes([])), Kind::NotFound);
    assert_eq!(both("f", "no/x", yes([])), Kind::NotFound);
    assert_eq!(both("f", "new/", yes([])), Kind::NotADirectory);
    assert_eq!(both("f/", "new", yes([])), Kind::NotADirectory);
    assert_eq!(names(&dir), ["d", "f", "full"]);
    assert_eq!(kind(rig.call("mv", [dynamic(Path::new("/")), dynamic(&dir.join("x"))])), Kind::BadArgument);
}

#[test]
fn links_are_moved_and_not_followed() {
    let (_keep, dir) = folder();
    fs::create_dir(dir.join("target")).unwrap();
    symlink("target", dir.join("l")).unwrap();
    let rig = Rig::new(ALL);
    done(rig.call("mv", [dynamic(&dir.join("l")), dynamic(&dir.join("m"))]));
    assert!(fs::symlink_metadata(dir.join("m")).unwrap().is_symlink() && dir.join("target").is_dir());
    // A link to a directory as the destination is that directory.
    fs::write(dir.join("f"), "").unwrap();
    done(rig.call("mv", [dynamic(&dir.join("f")), dynamic(&dir.join("m"))]));
    assert!(dir.join("target/f").exists());
    // One to a file is replaced itself.
    fs::write(dir.join("g"), "g").unwrap();
    symlink("target/f", dir.join("n")).unwrap();
    done(rig.call("mv", [dynamic(&dir.join("g")), dynamic(&dir.join("n")), yes(["force"])]));
    assert!(fs::symlink_metadata(dir.join("n")).unwrap().is_file());
    assert_eq!(fs::read_to_string(dir.join("target/f")).unwrap(), "");
}

#[test]
fn two_names_of_one_file_become_one() {
    let (_keep, dir) = folder();
    fs::write(dir.join("a"), "x").unwrap();
    fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
    done(Rig::new(ALL).call("mv", [dynamic(&dir.join("a")), dynamic(&dir.join("b")), yes(["force"])]));
    assert_eq!(names(&dir), ["b"]);
}

#[test]
fn a_directory_that_took_the_name_of_the_one_granted_is_not_moved_d20() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    let call = Call::new(&rig.host, &moving::MV, None);
    let at = |name: &str| AbsPath::new(dir.join(name).as_os_str().as_bytes()).unwrap();
    fs::create_dir(dir.join("d")).unwrap();
    let context = vec![(
        "destination",
        crate::policy::Value::Record(
            ["path", "name", "parent_path"].map(|name| (name, crate::policy::Value::String("x".to_owned()))).into_iter().collect(),
        ),
    )];
    let from = call.permit_with::<Move>(File::locate_name(&at("d")).unwrap(), context).unwrap();
    let to = call.permit::<Create>(File::locate_dir(&at("new")).unwrap()).unwrap();
    fs::rename(dir.join("d"), dir.join("was")).unwrap();
    fs::create_dir(dir.join("d")).unwrap();
    assert_eq!(sys::name::rename(&from, &to).unwrap_err().kind, Kind::Changed);
    assert_eq!(names(&dir), ["d", "was"]);
}

// --- ln ---

#[test]
fn a_symbolic_link_needs_create_only_and_its_text_is_free() {
    let (_keep, dir) = folder();
    let rig = Rig::new(&permit(&[("create", &dir)]));
    let make = |rig: &Rig, text: &str, rows: Dynamic| rig.call("ln", [text.to_owned().into(), dynamic(&dir.join("l")), rows]);
    done(make(&rig, "no/such\u{1}", yes(["symbolic"])));
    assert_eq!(fs::read_link(dir.join("l")).unwrap(), Path::new("no/such\u{1}"));
    assert_eq!(kind(make(&rig, "x", yes(["symbolic"]))), Kind::Exists);
    assert_eq!(kind(make(&rig, "x", yes(["symbolic", "force"]))), Kind::Denied);
    assert_eq!(fs::read_link(dir.join("l")).unwrap(), Path::new("no/such\u{1}"));
    let all = Rig::new(ALL);
    let map = done(make(&all, "x", yes(["symbolic", "force"])));
    assert!(map["changed"].as_bool().unwrap() && map["replaced"].as_bool().unwrap());
    assert!(!done(make(&all, "x", yes(["symbolic", "force"])))["changed"].as_bool().unwrap());
    assert_eq!(names(&dir), ["l"]);
    fs::create_dir(dir.join("d")).unwrap();
    let over = all.call("ln", ["x".into(), dynamic(&dir.join("d")), yes(["symbolic", "force"])]);
    assert_eq!(kind(over), Kind::IsADirectory);
    for text in ["", "a\0b"] {
        assert_eq!(kind(make(&all, text, yes(["symbolic"]))), Kind::BadArgument);
    }
}

#[test]
fn a_hard_link_opens_no_way_around_the_policy() {
    let (_keep, dir) = folder();
    for name in ["in", "out"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    fs::write(dir.join("in/file"), "x").unwrap();
    let (inside, outside) = (dir.join("in"), dir.join("out"));
    let link = |text: &str| {
        let result = Rig::new(text).call("ln", [dynamic(&inside.join("file")), dynamic(&outside.join("name"))]);
        let linked = outside.join("name").exists();
        let _ = fs::remove_file(outside.join("name"));
        assert_eq!(result.is_ok(), linked);
        result.map(|_| ()).map_err(|error| error.kind)
    };
    let base = [("read", &*inside), ("write", &inside), ("create", &outside)];
    assert_eq!(link(&permit(&base)), Ok(()));
    assert_eq!(link(&permit(&base[1..])), Err(Kind::Denied));
    assert_eq!(link(&permit(&[base[0], base[2]])), Err(Kind::Denied));
    assert_eq!(link(&permit(&base[..2])), Err(Kind::Denied));
    for verb in ["chmod", "chown", "set_x_attr", "execute", "stat"] {
        let mut wider = base.to_vec();
        wider.push((verb, &outside));
        assert_eq!(link(&permit(&wider)), Err(Kind::Denied), "{verb}");
        wider.push((verb, &inside));
        assert_eq!(link(&permit(&wider)), Ok(()), "{verb}");
    }
    let unsure = format!(
        "{} permit(principal, action == file_system::Action::\"chmod\", resource) when {{ resource has size && resource.size < 9 }};",
        permit(&base)
    );
    assert_eq!(link(&unsure), Err(Kind::Denied));
}

#[test]
fn hard_links_are_made_to_files_only_and_replace_in_one_step() {
    let (_keep, dir) = folder();
    fs::write(dir.join("f"), "x").unwrap();
    fs::write(dir.join("old"), "y").unwrap();
    fs::create_dir(dir.join("d")).unwrap();
    fifo(&dir.join("pipe"));
    symlink("f", dir.join("l")).unwrap();
    let rig = Rig::new(ALL);
    let make = |from: &str, to: &str, rows: Dynamic| rig.call("ln", [dynamic(&dir.join(from)), dynamic(&dir.join(to)), rows]);
    assert_eq!(kind(make("d", "n", yes([]))), Kind::IsADirectory);
    assert_eq!(kind(make("pipe", "n", yes([]))), Kind::NotAFile);
    assert_eq!(kind(make("gone", "n", yes([]))), Kind::NotFound);
    assert_eq!(kind(make("f", "old", yes([]))), Kind::Exists);
    assert_eq!(kind(make("f", "n/", yes([]))), Kind::BadArgument);
    done(make("l", "n", yes([])));
    assert!(fs::symlink_metadata(dir.join("n")).unwrap().is_file());
    done(make("f", "old", yes(["force"])));
    assert_eq!(fs::read_to_string(dir.join("old")).unwrap(), "x");
    assert_eq!(fs::metadata(dir.join("f")).unwrap().nlink(), 3);
    assert!(!done(make("f", "old", yes(["force"])))["changed"].as_bool().unwrap());
    assert_eq!(names(&dir), ["d", "f", "l", "n", "old", "pipe"]);
}

// --- to another filesystem ---

/// Grants as `mv` gets them.
fn move_grants(rig: &Rig, from: &Path, to: &Path) -> (Granted<Move>, Granted<Create>) {
    let call = Call::new(&rig.host, &moving::MV, None);
    let at = |path: &Path| AbsPath::new(path.as_os_str().as_bytes()).unwrap();
    let text = || crate::policy::Value::String("x".to_owned());
    let destination = vec![("path", text()), ("name", text()), ("parent_path", text())];
    let context = vec![("destination", crate::policy::Value::Record(destination))];
    (
        call.permit_with::<Move>(File::locate_name(&at(from)).unwrap(), context).unwrap(),
        call.permit::<Create>(File::locate_name(&at(to)).unwrap()).unwrap(),
    )
}

#[test]
fn only_what_was_copied_and_did_not_change_since_is_taken_for_copied() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    fs::write(dir.join("a"), "contents").unwrap();
    fs::write(dir.join("b"), "contents").unwrap();
    let (from, to) = move_grants(&rig, &dir.join("a"), &dir.join("copy"));
    let mut staging = sys::transfer::Staging::new(&to).unwrap();
    staging.put(&from, &to, &rig.host.watch).unwrap();
    assert!(!dir.join("copy").exists());
    staging.publish(&to).unwrap();
    let copied = staging.copied();
    assert_eq!((fs::read_to_string(dir.join("copy")).unwrap(), copied.bytes), ("contents".to_owned(), 8));
    let now = |name: &str| File::locate(&AbsPath::new(dir.join(name).as_os_str().as_bytes()).unwrap()).unwrap();
    assert!(copied.holds(&now("a")));
    assert!(!copied.holds(&now("b")));
    fs::write(dir.join("a"), "CONTENTS").unwrap();
    assert!(!copied.holds(&now("a")));
}

#[test]
fn a_copy_that_is_not_published_leaves_nothing_however_deep_it_was() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    fs::create_dir(dir.join("s")).unwrap();
    fs::write(dir.join("s/f"), "x").unwrap();
    fs::set_permissions(dir.join("s"), fs::Permissions::from_mode(0o500)).unwrap();
    let (from, to) = move_grants(&rig, &dir.join("s"), &dir.join("t"));
    let (file, copy) = move_grants(&rig, &dir.join("s/f"), &dir.join("f"));
    let mut staging = sys::transfer::Staging::new(&to).unwrap();
    for _ in 0..100 {
        staging.enter(&from, &to).unwrap();
        staging.put(&file, &copy, &rig.host.watch).unwrap();
    }
    for _ in 0..50 {
        staging.leave(&from).unwrap();
    }
    assert_eq!(names(&dir).len(), 2);
    drop(staging);
    assert_eq!(names(&dir), ["s"]);
    // The other side: what has got the name meanwhile is an error and stays.
    let mut staging = sys::transfer::Staging::new(&copy).unwrap();
    staging.put(&file, &copy, &rig.host.watch).unwrap();
    fs::write(dir.join("f"), "other").unwrap();
    assert_eq!(staging.publish(&copy).unwrap_err().kind, Kind::Exists);
    drop(staging);
    assert_eq!((names(&dir), fs::read_to_string(dir.join("f")).unwrap()), (vec!["f".to_owned(), "s".to_owned()], "other".to_owned()));
}

#[test]
fn what_appears_or_changes_at_the_destination_after_the_decision_is_not_lost() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    fs::write(dir.join("a"), "a").unwrap();
    let (from, to) = move_grants(&rig, &dir.join("a"), &dir.join("new"));
    fs::write(dir.join("new"), "appeared").unwrap();
    assert_eq!(sys::name::rename(&from, &to).unwrap_err().kind, Kind::Exists);
    assert_eq!(fs::read_to_string(dir.join("new")).unwrap(), "appeared");
    // What is to be replaced was replaced by somebody else.
    let (onto, _) = move_grants(&rig, &dir.join("new"), &dir.join("x"));
    fs::write(dir.join("other"), "other").unwrap();
    fs::rename(dir.join("other"), dir.join("new")).unwrap();
    assert_eq!(sys::name::rename_over(&from, &onto).unwrap_err().kind, Kind::Changed);
    assert_eq!((fs::read_to_string(dir.join("new")).unwrap(), fs::read_to_string(dir.join("a")).unwrap()), ("other".into(), "a".into()));
}

#[test]
fn a_backup_for_a_move_that_fails_is_taken_back() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    fs::write(dir.join("b"), "old").unwrap();
    let (old, backup) = move_grants(&rig, &dir.join("b"), &dir.join("b~"));
    assert!(sys::name::keep_as(&old, &backup).unwrap());
    assert_eq!(names(&dir), ["b", "b~"]);
    sys::name::unkeep(&old, &backup);
    assert_eq!(names(&dir), ["b"]);
    sys::name::rename(&old, &backup).unwrap();
    assert_eq!(names(&dir), ["b~"]);
    sys::name::rename_back(&old, &backup);
    assert_eq!(names(&dir), ["b"]);
    // Not over what came meanwhile, and only what was kept.
    sys::name::rename(&old, &backup).unwrap();
    fs::write(dir.join("b"), "newer").unwrap();
    sys::name::rename_back(&old, &backup);
    assert_eq!((fs::read_to_string(dir.join("b")).unwrap(), fs::read_to_string(dir.join("b~")).unwrap()), ("newer".into(), "old".into()));
    symlink("b", dir.join("l")).unwrap();
    let (link, second) = move_grants(&rig, &dir.join("l"), &dir.join("l~"));
    assert!(!sys::name::keep_as(&link, &second).unwrap());
}

#[test]
fn a_path_and_its_end_mean_what_they_say() {
    let told = |path: &str| {
        let named = Named::of(&AbsPath::new(path).unwrap()).unwrap();
        (named.path.shown(), named.directory)
    };
    assert_eq!(told("/a/b"), ("/a/b".to_owned(), false));
    for path in ["/a/b/", "/a/b/.", "//a/./b//", "/a/b/c/.."] {
        assert_eq!(told(path), ("/a/b".to_owned(), true), "{path}");
    }
    assert_eq!(told("/a/../.."), ("/".to_owned(), true));
}
