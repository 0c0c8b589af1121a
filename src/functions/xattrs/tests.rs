//! Extended attributes and access lists: what is allowed beside what is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::functions::rig::{Rig, maps, strings};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const ALL: &str = "permit(principal, action, resource);";

fn dynamic(path: &Path) -> Dynamic {
    path.to_str().unwrap().to_owned().into()
}

/// A file in a folder of its own, on a filesystem with extended attributes (nothing where there is none).
fn file() -> Option<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::canonicalize(dir.path()).unwrap().join("f");
    fs::write(&file, "x").unwrap();
    rustix::fs::setxattr(&file, "user.probe", b"", rustix::fs::XattrFlags::empty()).ok()?;
    rustix::fs::removexattr(&file, "user.probe").unwrap();
    Some((dir, file))
}

fn set(rig: &Rig, path: &Path, name: &str, value: impl Into<Dynamic>) -> Result<bool> {
    rig.call("xattr_set", [dynamic(path), name.to_owned().into(), value.into(), Dynamic::UNIT])
        .map(|map| map.cast::<Map>()["changed"].as_bool().unwrap())
}

fn get(rig: &Rig, path: &Path, name: &str) -> Dynamic {
    rig.call("xattr_get", [dynamic(path), name.to_owned().into(), Dynamic::UNIT]).unwrap()
}

#[test]
fn values_of_any_bytes_are_set_listed_read_and_removed() {
    let Some((_keep, file)) = file() else { return };
    let rig = Rig::new(ALL);
    assert!(set(&rig, &file, "user.text", "words".to_owned()).unwrap());
    assert!(!set(&rig, &file, "user.text", "words".to_owned()).unwrap());
    assert!(set(&rig, &file, "user.bytes", Dynamic::from_blob(vec![0xff, 0, 1])).unwrap());
    assert!(set(&rig, &file, "user.empty", String::new()).unwrap());
    assert_eq!(get(&rig, &file, "user.text").into_string().unwrap(), "words");
    assert_eq!(get(&rig, &file, "user.bytes").into_blob().unwrap(), [0xff, 0, 1]);
    assert!(get(&rig, &file, "user.gone").is_unit());
    let listed = rig.call("xattr_list", [dynamic(&file), Dynamic::UNIT]).unwrap();
    assert_eq!(strings(listed), ["user.bytes", "user.empty", "user.text"]);
    drop(rig.call("xattr_remove", [dynamic(&file), "user.bytes".to_owned().into(), Dynamic::UNIT]).unwrap());
    assert!(get(&rig, &file, "user.bytes").is_unit());
    for name in ["note", ".note", "user.", "", "user.\0"] {
        assert_eq!(set(&rig, &file, name, "x".to_owned()).unwrap_err().kind, Kind::BadArgument, "{name:?}");
    }
    assert_eq!(set(&rig, &file, "user.big", Dynamic::from_blob(vec![0; MAX_XATTR + 1])).unwrap_err().kind, Kind::TooLarge);
}

#[test]
fn a_policy_sees_which_attribute_is_set() {
    let Some((_keep, file)) = file() else { return };
    let rig = Rig::new(
        "permit(principal, action == file_system::Action::\"set_x_attr\", resource) when { context.xattr.name == \"user.note\" };",
    );
    assert!(set(&rig, &file, "user.note", "x".to_owned()).unwrap());
    assert_eq!(set(&rig, &file, "user.other", "x".to_owned()).unwrap_err().kind, Kind::Denied);
    assert_eq!(rig.call("xattr_remove", [dynamic(&file), "user.other".to_owned().into(), Dynamic::UNIT]).unwrap_err().kind, Kind::Denied);
    assert_eq!(rig.call("xattr_get", [dynamic(&file), "user.note".to_owned().into(), Dynamic::UNIT]).unwrap_err().kind, Kind::Denied);
    // Whoever may not read a value does not learn by setting it whether a guess is right.
    assert!(set(&rig, &file, "user.note", "x".to_owned()).unwrap());
}

#[test]
fn access_lists_are_set_as_text_read_as_maps_and_are_a_matter_of_chmod() {
    let Some((_keep, file)) = file() else { return };
    let bits = || fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
    let list = "u::rw-,u:4242:rw-,g::r--,m::rw-,o::---";
    let only = Rig::new("permit(principal, action == file_system::Action::\"set_x_attr\", resource);");
    assert_eq!(set(&only, &file, "system.posix_acl_access", list.to_owned()).unwrap_err().kind, Kind::Denied);
    assert_eq!(set(&only, &file, "security.capability", Dynamic::from_blob(vec![0; 20])).unwrap_err().kind, Kind::Denied);
    let never = Rig::new(&format!(
        "{ALL} forbid(principal, action == file_system::Action::\"chmod\", resource) when {{ context.world_writable || context.set_uid }};"
    ));
    assert_eq!(set(&never, &file, "system.posix_acl_access", "u::rw,g::r,o::rw".to_owned()).unwrap_err().kind, Kind::Denied);
    assert_eq!(set(&never, &file, "security.capability", Dynamic::from_blob(vec![0; 20])).unwrap_err().kind, Kind::Denied);
    let rig = Rig::new(ALL);
    match set(&never, &file, "system.posix_acl_access", list.to_owned()) {
        Err(error) if error.kind == Kind::Unsupported => return,
        done => assert!(done.unwrap()),
    }
    assert_eq!(bits(), 0o660);
    let acl: Map = rig.call("acl_get", [dynamic(&file), Dynamic::UNIT]).unwrap().cast();
    assert_eq!(acl["text"].clone().into_string().unwrap(), "user::rw-\nuser:4242:rw-\ngroup::r--\nmask::rw-\nother::---\n");
    assert!(acl["extended"].as_bool().unwrap());
    let named = &maps(acl["access"].clone())[1];
    assert_eq!((named["id"].as_int().unwrap(), named["tag"].clone().into_string().unwrap()), (4242, "user".to_owned()));
    // As text it goes in again.
    let folder = file.parent().unwrap();
    assert!(set(&rig, folder, "system.posix_acl_default", acl["text"].clone()).unwrap());
    let acl: Map = rig.call("acl_get", [dynamic(folder), Dynamic::UNIT]).unwrap().cast();
    assert!(acl["text"].clone().into_string().unwrap().contains("default:user:4242:rw-\n"));
    assert_eq!(maps(acl["default"].clone()).len(), 5);
    assert_eq!(set(&rig, &file, "system.posix_acl_access", "nonsense".to_owned()).unwrap_err().kind, Kind::BadArgument);
    drop(rig.call("xattr_remove", [dynamic(&file), "system.posix_acl_access".to_owned().into(), Dynamic::UNIT]).unwrap());
    let acl: Map = rig.call("acl_get", [dynamic(&file), Dynamic::UNIT]).unwrap().cast();
    assert!(!acl["extended"].as_bool().unwrap());
}

/// Fault D21 of the reference: labels with categories are rejected.
#[test]
fn a_label_keeps_its_categories_and_single_parts_can_be_replaced() {
    let text = |now: Option<&str>, parts: &[(&str, &str)]| {
        let parts: Map = parts.iter().map(|(key, value)| ((*key).into(), Dynamic::from((*value).to_owned()))).collect();
        label(now.map(str::as_bytes), &parts).map(|label| String::from_utf8(label).unwrap())
    };
    let now = Some("system_u:object_r:httpd_t:s0:c1,c2");
    assert_eq!(text(now, &[("type", "var_log_t")]).unwrap(), "system_u:object_r:var_log_t:s0:c1,c2");
    assert_eq!(text(now, &[("level", "s0-s0:c0.c1023")]).unwrap(), "system_u:object_r:httpd_t:s0-s0:c0.c1023");
    assert_eq!(text(Some("u:r:t\0"), &[("selinux_level", "s0:c3")]).unwrap(), "u:r:t:s0:c3");
    assert!(text(None, &[("type", "t")]).is_err());
    assert!(text(now, &[("type", "a:b")]).is_err());
    assert!(text(now, &[("kind", "t")]).is_err());
}
