//! What is counted how often, what is denied, and what is removed but open.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
use super::super::rig::{Rig, maps, options, strings};
use super::*;
use crate::functions::value::Dynamic;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

fn folder() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = fs::canonicalize(dir.path()).unwrap().to_str().unwrap().to_owned();
    (dir, path)
}

fn du<const N: usize>(rig: &Rig, path: &str, rows: [(&str, Dynamic); N]) -> Map {
    rig.call("du", [path.into(), options(rows)]).unwrap().cast::<Map>()
}

fn int(map: &Map, key: &str) -> i64 {
    map[key].as_int().unwrap()
}

fn all() -> Rig {
    Rig::new("permit(principal, action, resource);")
}

#[test]
fn a_file_far_below_is_counted_once_d1() {
    let (_keep, dir) = folder();
    fs::create_dir_all(format!("{dir}/1/2/3/4")).unwrap();
    fs::write(format!("{dir}/1/2/3/4/big"), vec![1; 1_000_000]).unwrap();
    let result = du(&all(), &dir, [("apparent", true.into())]);
    assert_eq!((int(&result, "total_size_bytes"), int(&result, "total_inode_count")), (1_000_000, 6));
    let entries = maps(result["entries"].clone());
    assert_eq!(entries.len(), 5);
    assert!(entries.iter().all(|entry| int(entry, "size_bytes") == 1_000_000));
    // A directory comes after what is in it.
    assert_eq!(entries.iter().map(|entry| int(entry, "inode_count")).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
}

#[test]
fn links_fifos_and_second_names_are_counted_as_what_they_are_d3() {
    let (_keep, dir) = folder();
    fs::write(format!("{dir}/file"), "12345").unwrap();
    fs::hard_link(format!("{dir}/file"), format!("{dir}/other-name")).unwrap();
    std::os::unix::fs::symlink("file", format!("{dir}/link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, format!("{dir}/fifo"), FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let rig = all();
    let apparent = du(&rig, &dir, [("apparent", true.into())]);
    assert_eq!((int(&apparent, "total_size_bytes"), int(&apparent, "total_inode_count")), (9, 4));
    let each = du(&rig, &dir, [("apparent", true.into()), ("count_hard_links", true.into()), ("all", true.into())]);
    assert_eq!((int(&each, "total_size_bytes"), int(&each, "total_inode_count")), (14, 5));
    assert_eq!(each["entries"].as_array_ref().unwrap().len(), 5);
    let blocks: u64 =
        ["", "/file", "/link", "/fifo"].map(|name| fs::symlink_metadata(format!("{dir}{name}")).unwrap().blocks()).iter().sum();
    assert_eq!(int(&du(&rig, &dir, []), "total_size_bytes") as u64, blocks * 512);
    // A slash at the end or a file as the path changes nothing.
    assert_eq!(int(&du(&rig, &format!("{dir}/"), []), "total_inode_count"), 4);
    let file = du(&rig, &format!("{dir}/file"), [("apparent", true.into())]);
    assert_eq!((int(&file, "total_size_bytes"), file["entries"].as_array_ref().unwrap().len()), (5, 1));
}

#[test]
fn what_is_listed_does_not_change_what_is_counted() {
    let (_keep, dir) = folder();
    fs::create_dir_all(format!("{dir}/a/b/c")).unwrap();
    fs::write(format!("{dir}/a/b/c/x"), "123").unwrap();
    let rig = all();
    let entries = |rows: [(&str, Dynamic); 1]| {
        let result = du(&rig, &dir, rows);
        assert_eq!(int(&result, "total_inode_count"), 5);
        maps(result["entries"].clone())
            .iter()
            .map(|entry| entry["path"].to_string().trim_start_matches(&dir).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(entries([("summarize", true.into())]), [""]);
    assert_eq!(entries([("max_depth", 0_i64.into())]), [""]);
    assert_eq!(entries([("max_depth", 1_i64.into())]), ["/a", ""]);
    assert_eq!(entries([("top", 0_i64.into())]), [""; 0]);
    assert_eq!(entries([("limit", 1_i64.into())]), ["/a/b/c"]);
    assert_eq!(entries([("all", true.into())]), ["/a/b/c/x", "/a/b/c", "/a/b", "/a", ""]);
    let error = rig.call("du", [dir.as_str().into(), options([("summarize", true.into()), ("all", true.into())])]).unwrap_err();
    assert_eq!(error.kind, Kind::BadArgument);
}

#[test]
fn what_is_denied_is_told_and_not_counted() {
    let (_keep, dir) = folder();
    fs::create_dir_all(format!("{dir}/open")).unwrap();
    fs::create_dir_all(format!("{dir}/shut/in")).unwrap();
    fs::write(format!("{dir}/shut/x"), vec![1; 5000]).unwrap();
    fs::write(format!("{dir}/open/y"), "1").unwrap();
    let forbid = |verb: &str| {
        let action = format!(r#"file_system::Action::"{verb}""#);
        Rig::new(&format!(
            r#"permit(principal, action, resource); forbid(principal, action == {action}, resource == file_system::Dir::"{dir}/shut");"#
        ))
    };
    for (verb, inodes) in [("read", 4), ("stat", 3)] {
        let result = du(&forbid(verb), &dir, [("apparent", true.into())]);
        assert_eq!((int(&result, "total_size_bytes"), int(&result, "total_inode_count")), (1, inodes), "{verb}");
        assert_eq!(strings(result["denied"].clone()), [format!("{dir}/shut")], "{verb}");
        assert_eq!(int(&result, "denied_count"), 1);
    }
}

#[test]
fn a_removed_file_that_is_open_is_found_with_its_size() {
    let (_keep, dir) = folder();
    let path = format!("{dir}/log");
    fs::write(&path, vec![1; 70_000]).unwrap();
    let open = fs::File::open(&path).unwrap();
    let rig = all();
    let mine = || {
        let rows = maps(rig.call("deleted_but_open", [options([("pid", i64::from(std::process::id()).into())])]).unwrap());
        rows.into_iter().filter(|row| row["path"].to_string() == path).collect::<Vec<_>>()
    };
    assert!(mine().is_empty(), "it is not removed yet");
    fs::remove_file(&path).unwrap();
    let rows = mine();
    assert_eq!((rows.len(), int(&rows[0], "size")), (1, 70_000));
    assert!(int(&rows[0], "allocated") >= 70_000);
    drop(open);
    assert!(mine().is_empty());
    let denied = Rig::new(r#"permit(principal, action == file_system::Action::"read", resource);"#);
    assert_eq!(denied.call("deleted_but_open", []).unwrap_err().kind, Kind::Denied);
}

#[test]
fn inodes_are_those_that_df_shows() {
    let rows = maps(all().call("inodes", ["/".into()]).unwrap());
    let stat = rustix::fs::statvfs("/").unwrap();
    assert_eq!((rows.len(), int(&rows[0], "inodes")), (1, stat.f_files as i64));
}
