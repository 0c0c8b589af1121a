//! Writing: what is allowed beside what is not, with a look at the disk, and everything that can stand in the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::functions::rig::{Rig, options};
use rustix::fs::{FileType as Kinds, Mode, XattrFlags};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

const ALL: &str = "permit(principal, action, resource);";

fn dynamic(path: &Path) -> Dynamic {
    path.to_str().unwrap().to_owned().into()
}

/// A folder whose name has no link in it.
fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let real = fs::canonicalize(dir.path()).unwrap();
    (dir, real)
}

fn put_text(rig: &Rig, path: &Path, text: &str, rows: Dynamic) -> Result<Map> {
    rig.call("write", [dynamic(path), text.to_owned().into(), rows]).map(Dynamic::cast)
}

fn replacing() -> Dynamic {
    options([("replace", true.into())])
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A grant as `write` gets one, so that a test can do something between the decision and the deed.
fn granted(rig: &Rig, path: &Path) -> Granted<Write> {
    let call = Call::new(&rig.host, &WRITE, None);
    call.permit::<Write>(File::locate(&AbsPath::new(path.to_str().unwrap()).unwrap()).unwrap()).unwrap()
}

#[test]
fn a_new_file_needs_both_verbs_and_is_not_made_with_one() {
    let (_keep, dir) = folder();
    let permit = |verb: &str| {
        format!("permit(principal, action == file_system::Action::\"{verb}\", resource in file_system::Dir::\"{}\");", dir.display())
    };
    for text in [permit("write"), permit("create"), String::new()] {
        for verb in ["write", "append_line", "touch"] {
            let policy = if text.is_empty() { "forbid(principal, action, resource);" } else { &text };
            let rig = Rig::new(policy);
            let error = if verb == "touch" {
                rig.call(verb, [dynamic(&dir.join("new"))])
            } else {
                rig.call(verb, [dynamic(&dir.join("new")), "x".into()])
            };
            assert_eq!(error.unwrap_err().kind, Kind::Denied, "{verb} under {policy}");
            assert!(names(&dir).is_empty());
        }
    }
    let rig = Rig::new(&(permit("write") + permit("create").as_str()));
    let map = put_text(&rig, &dir.join("new"), "x", Dynamic::UNIT).unwrap();
    assert!(map["created"].as_bool().unwrap());
    assert_eq!(fs::read_to_string(dir.join("new")).unwrap(), "x");
}

#[test]
fn a_denied_write_leaves_the_file_as_it_was() {
    let (_keep, dir) = folder();
    for name in ["open", "shut"] {
        fs::write(dir.join(name), "old").unwrap();
    }
    let rig = Rig::new(&format!("permit(principal, action, resource == file_system::File::\"{}\");", dir.join("open").display()));
    for rows in [Dynamic::UNIT, replacing()] {
        put_text(&rig, &dir.join("open"), "new", rows.clone()).unwrap();
        assert_eq!(put_text(&rig, &dir.join("shut"), "new", rows).unwrap_err().kind, Kind::Denied);
        assert_eq!(rig.call("truncate", [dynamic(&dir.join("shut"))]).unwrap_err().kind, Kind::Denied);
        assert_eq!(rig.call("open", [dynamic(&dir.join("shut")), "w".into()]).unwrap_err().kind, Kind::Denied);
    }
    assert_eq!(fs::read_to_string(dir.join("open")).unwrap(), "new");
    assert_eq!(fs::read_to_string(dir.join("shut")).unwrap(), "old");
}

#[test]
fn permission_bits_of_a_new_file_are_exact_and_set_id_is_refused() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    for (name, rows, bits) in [
        ("plain", Dynamic::UNIT, 0o644),
        ("wide", options([("mode", 0o666_i64.into())]), 0o666),
        ("whole", options([("mode", 0o640_i64.into()), ("replace", true.into())]), 0o640),
    ] {
        put_text(&rig, &dir.join(name), "x", rows).unwrap();
        assert_eq!(fs::metadata(dir.join(name)).unwrap().mode() & 0o7777, bits, "{name}");
    }
    for bits in [0o4755_i64, 0o1777, -1] {
        let error = put_text(&rig, &dir.join("bad"), "x", options([("mode", bits.into())])).unwrap_err();
        assert_eq!(error.kind, Kind::BadArgument);
    }
    assert!(!dir.join("bad").exists());
}

#[test]
fn create_new_never_touches_what_is_there() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    let rows = || options([("create_new", true.into()), ("replace", true.into())]);
    put_text(&rig, &dir.join("a"), "first", rows()).unwrap();
    assert_eq!(put_text(&rig, &dir.join("a"), "second", rows()).unwrap_err().kind, Kind::Exists);
    assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "first");
    assert_eq!(names(&dir), ["a"]);
}

#[test]
fn fifos_and_devices_are_refused_without_being_opened() {
    let (_keep, dir) = folder();
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("pipe"), Kinds::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let rig = Rig::new(ALL);
    for path in [dir.join("pipe"), "/dev/null".into()] {
        for rows in [Dynamic::UNIT, replacing()] {
            assert_eq!(put_text(&rig, &path, "x", rows).unwrap_err().kind, Kind::NotAFile, "{}", path.display());
        }
        assert_eq!(rig.call("touch", [dynamic(&path)]).unwrap_err().kind, Kind::NotAFile);
    }
    assert_eq!(put_text(&rig, &dir, "x", Dynamic::UNIT).unwrap_err().kind, Kind::IsADirectory);
    assert_eq!(put_text(&rig, &dir.join("no/such"), "x", Dynamic::UNIT).unwrap_err().kind, Kind::NotFound);
    assert_eq!(put_text(&rig, Path::new("/a\0b"), "x", Dynamic::UNIT).unwrap_err().kind, Kind::BadArgument);
}

#[test]
fn what_a_link_leads_to_is_judged_and_written_and_the_link_stays() {
    let (_keep, dir) = folder();
    for name in ["yes", "no"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    fs::write(dir.join("yes/real"), "old").unwrap();
    fs::write(dir.join("no/real"), "old").unwrap();
    for (link, to) in [("a", "yes/real"), ("b", "no/real"), ("c", "no/gone"), ("d", "yes/gone")] {
        symlink(dir.join(to), dir.join("yes").join(link)).unwrap();
    }
    let rig = Rig::new(&format!("permit(principal, action, resource in file_system::Dir::\"{}\");", dir.join("yes").display()));
    for link in ["b", "c"] {
        for rows in [Dynamic::UNIT, replacing()] {
            assert_eq!(put_text(&rig, &dir.join("yes").join(link), "new", rows).unwrap_err().kind, Kind::Denied, "{link}");
        }
    }
    for link in ["a", "d"] {
        put_text(&rig, &dir.join("yes").join(link), "new", replacing()).unwrap();
        assert!(fs::symlink_metadata(dir.join("yes").join(link)).unwrap().is_symlink());
    }
    assert_eq!(fs::read_to_string(dir.join("yes/real")).unwrap(), "new");
    assert_eq!(fs::read_to_string(dir.join("yes/gone")).unwrap(), "new");
    assert_eq!(fs::read_to_string(dir.join("no/real")).unwrap(), "old");
    assert_eq!(names(&dir.join("no")), ["real"]);
}

#[test]
fn replacing_keeps_what_belongs_to_the_file_and_drops_set_id() {
    let (_keep, dir) = folder();
    let path = dir.join("f");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4750)).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        rustix::fs::chown(&path, Some(rustix::fs::Uid::from_raw(4242)), Some(rustix::fs::Gid::from_raw(4343))).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4750)).unwrap();
    }
    let mut kept: Vec<(&std::ffi::CStr, Vec<u8>)> = vec![(c"user.note", b"kept".to_vec())];
    // acl(5) in the kernel's form, linux/posix_acl_xattr.h: version 2, then tag, permissions, id.
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in [(1_u16, 7_u16, u32::MAX), (2, 4, 1234), (4, 5, u32::MAX), (16, 5, u32::MAX), (32, 0, u32::MAX)] {
        list.extend(tag.to_le_bytes().into_iter().chain(bits.to_le_bytes()).chain(id.to_le_bytes()));
    }
    kept.push((c"system.posix_acl_access", list));
    // Filesystems without attributes have none to keep.
    kept.retain(|(name, value)| rustix::fs::setxattr(&path, *name, value, XattrFlags::empty()).is_ok());
    let before = fs::metadata(&path).unwrap();
    let rig = Rig::new(ALL);
    let map = put_text(&rig, &path, "new", replacing()).unwrap();
    assert!(map["atomic"].as_bool().unwrap());
    let after = fs::metadata(&path).unwrap();
    assert_ne!(before.ino(), after.ino());
    assert_eq!((before.uid(), before.gid()), (after.uid(), after.gid()));
    assert_eq!(after.mode() & 0o7777, before.mode() & 0o777);
    for (name, value) in kept {
        let mut buffer = vec![0; 256];
        let length = rustix::fs::getxattr(&path, name, &mut buffer).unwrap();
        assert_eq!(&buffer[..length], value, "{name:?}");
    }
    assert_eq!(names(&dir), ["f"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).unwrap();
    put_text(&rig, &path, "more", Dynamic::UNIT).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_file_with_two_names_keeps_both_and_the_result_says_how() {
    let (_keep, dir) = folder();
    fs::write(dir.join("one"), "old and long").unwrap();
    fs::hard_link(dir.join("one"), dir.join("two")).unwrap();
    let rig = Rig::new(ALL);
    let map = put_text(&rig, &dir.join("one"), "new", replacing()).unwrap();
    assert!(!map["atomic"].as_bool().unwrap());
    assert_eq!(fs::read_to_string(dir.join("two")).unwrap(), "new");
    assert_eq!(fs::metadata(dir.join("two")).unwrap().nlink(), 2);
}

#[test]
fn a_file_swapped_after_the_decision_is_not_replaced() {
    let (_keep, dir) = folder();
    fs::write(dir.join("f"), "judged").unwrap();
    fs::write(dir.join("other"), "other").unwrap();
    let rig = Rig::new(ALL);
    let grant = granted(&rig, &dir.join("f"));
    fs::rename(dir.join("f"), dir.join("moved")).unwrap();
    symlink(dir.join("other"), dir.join("f")).unwrap();
    let error = sys::write::replace(&grant, b"new", 0o644, false, &rig.host.watch).unwrap_err();
    assert_eq!(error.kind, Kind::Changed);
    assert_eq!(fs::read_to_string(dir.join("other")).unwrap(), "other");
    assert_eq!(fs::read_to_string(dir.join("moved")).unwrap(), "judged");
    // Appending follows the object that was judged, wherever its name went.
    sys::write::append(&grant, b"!", false).unwrap();
    assert_eq!(fs::read_to_string(dir.join("moved")).unwrap(), "judged!");
    assert_eq!(names(&dir), ["f", "moved", "other"]);
}

#[test]
fn nothing_is_made_in_a_folder_that_moved_after_the_decision() {
    let (_keep, dir) = folder();
    fs::create_dir(dir.join("in")).unwrap();
    let rig = Rig::new(ALL);
    let grant = granted(&rig, &dir.join("in/new"));
    fs::rename(dir.join("in"), dir.join("out")).unwrap();
    for done in [
        sys::write::create_with(&grant, b"x", 0o644, false, &rig.host.watch),
        sys::write::replace(&grant, b"x", 0o644, false, &rig.host.watch),
    ] {
        assert_eq!(done.unwrap_err().kind, Kind::Changed);
    }
    assert!(names(&dir.join("out")).is_empty());
}

#[test]
fn a_name_taken_after_the_decision_is_not_overwritten() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    let grant = granted(&rig, &dir.join("new"));
    fs::write(dir.join("new"), "somebody's").unwrap();
    for done in [
        sys::write::create_with(&grant, b"x", 0o644, false, &rig.host.watch),
        sys::write::replace(&grant, b"x", 0o644, false, &rig.host.watch),
    ] {
        assert_eq!(done.unwrap_err().kind, Kind::Exists);
    }
    assert_eq!(fs::read_to_string(dir.join("new")).unwrap(), "somebody's");
    assert_eq!(names(&dir), ["new"]);
}

#[test]
fn ten_thousand_appends_are_quick_and_whole() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    let began = std::time::Instant::now();
    for _ in 0..10_000 {
        let _ = rig.call("append_line", [dynamic(&dir.join("log")), "0123456789".into()]).unwrap();
    }
    // A quadratic append took the reference 26 s for as much; a debug build on a busy machine stays far below.
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    assert_eq!(fs::read_to_string(dir.join("log")).unwrap(), "0123456789\n".repeat(10_000));
}

#[test]
fn bytes_that_are_no_text_are_written_as_they_are() {
    let (_keep, dir) = folder();
    let rig = Rig::new(ALL);
    let bytes = vec![0_u8, 0xff, 0xfe, b'\n', 0];
    let _ = rig.call("write", [dynamic(&dir.join("b")), Dynamic::from_blob(bytes.clone())]).unwrap();
    assert_eq!(fs::read(dir.join("b")).unwrap(), bytes);
    assert_eq!(rig.call("write", [dynamic(&dir.join("b")), 5_i64.into()]).unwrap_err().kind, Kind::BadArgument);
}

struct Mounted(std::path::PathBuf);
impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_filesystem_leaves_the_old_contents_and_no_temporary_file() {
    let (_keep, dir) = folder();
    // Needs root and a kernel that lets it mount.
    if rustix::mount::mount("tmpfs", &dir, "tmpfs", rustix::mount::MountFlags::empty(), c"size=64k").is_err() {
        return;
    }
    let _mounted = Mounted(dir.clone());
    let rig = Rig::new(ALL);
    let much = "x".repeat(1 << 20);
    for (name, link) in [("single", false), ("linked", true)] {
        fs::write(dir.join(name), "old").unwrap();
        if link {
            fs::hard_link(dir.join(name), dir.join("second")).unwrap();
        }
        assert_eq!(put_text(&rig, &dir.join(name), &much, replacing()).unwrap_err().kind, Kind::NoSpace, "{name}");
        assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), "old", "{name}");
    }
    for rows in [Dynamic::UNIT, replacing()] {
        assert_eq!(put_text(&rig, &dir.join("new"), &much, rows).unwrap_err().kind, Kind::NoSpace);
    }
    assert_eq!(names(&dir), ["linked", "second", "single"]);
    // A filesystem mounted over one file, as containers do: replaced in place.
    fs::write(dir.join("over"), "under").unwrap();
    if rustix::mount::mount_bind(dir.join("single"), dir.join("over")).is_ok() {
        let _over = Mounted(dir.join("over"));
        let map = put_text(&rig, &dir.join("over"), "new", replacing()).unwrap();
        assert!(!map["atomic"].as_bool().unwrap());
        assert_eq!(fs::read_to_string(dir.join("single")).unwrap(), "new");
    }
}
