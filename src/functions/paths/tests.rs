//! Edge cases of paths, patterns and drawn trees.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
use super::super::rig::{Rig, options, strings};
use super::*;

fn rig() -> Rig {
    Rig::new("permit(principal, action, resource);")
}

fn folder() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = std::fs::canonicalize(dir.path()).unwrap().to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn last_names_and_folders_of_odd_paths() {
    let rig = rig();
    let names = |path: &str| {
        let one = |function| rig.call(function, [path.into()]).unwrap().into_string().unwrap();
        (one("basename"), one("dirname"))
    };
    for (path, base, dir) in [
        ("/a//b//", "b", "/a"),
        ("/", "/", "/"),
        ("//", "/", "/"),
        ("a", "a", "."),
        ("a/", "a", "."),
        ("a/b", "b", "a"),
        ("", "", "."),
        ("/a", "a", "/"),
        ("/a/..", "..", "/a"),
    ] {
        assert_eq!(names(path), (base.to_owned(), dir.to_owned()), "{path}");
    }
    let short = |path: &str, suffix: &str| rig.call("basename", [path.into(), suffix.into()]).unwrap().into_string().unwrap();
    assert_eq!(short("/x/.log", ".log"), ".log", "a suffix that is the whole name stays");
    let blob = rig.call("basename", [Dynamic::from_blob(b"/x/\xff".to_vec())]).unwrap();
    assert_eq!(blob.into_blob().unwrap(), b"\xff", "D22: a name of any bytes stays what it is");
}

#[test]
fn joining_never_leads_elsewhere_by_an_absolute_or_empty_part() {
    let rig = rig();
    for parts in [["/a", "/b"], ["/a", ""], ["", "b"], ["/a", "b\0c"]] {
        let error = rig.call("join_path", parts.map(Into::into)).unwrap_err();
        assert_eq!(error.kind, Kind::BadArgument, "{parts:?}");
    }
    let joined = rig.call("join_path", ["/a".into(), "../b".into(), "c".into(), "d".into()]).unwrap();
    assert_eq!(joined.into_string().unwrap(), "/a/../b/c/d");
}

#[test]
fn braces_unfold_in_order_and_within_bounds() {
    assert_eq!(unfold("a{b,c{d,e}}f").unwrap(), ["abf", "acdf", "acef"]);
    assert_eq!(unfold("{,x}y").unwrap(), ["y", "xy"]);
    assert_eq!(unfold(r"a\{b,c\}").unwrap(), [r"a\{b,c\}"]);
    assert!(unfold("a{b").is_err() && unfold("a}b").is_err());
    assert!(unfold(&"{a,b}".repeat(40)).is_err());
}

#[test]
fn a_glob_gives_what_fits_and_nothing_hidden_or_through_links_of_a_deep_one() {
    let (_keep, dir) = folder();
    for name in ["a.conf", "b.conf", ".c.conf", "x*y", "sub/d.conf", "sub/deep/e.conf", ".git/f.conf", "q.txt"] {
        let path = std::path::Path::new(&dir).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    std::os::unix::fs::symlink(format!("{dir}/sub"), format!("{dir}/way")).unwrap();
    let rig = rig();
    let found = |pattern: &str| -> Vec<String> {
        let all = strings(rig.call("glob", [format!("{dir}{pattern}").into()]).unwrap());
        all.into_iter().map(|path| path[dir.len()..].to_owned()).collect()
    };
    assert_eq!(found("/*.conf"), ["/a.conf", "/b.conf"]);
    assert_eq!(found("/.*.conf"), ["/.c.conf"]);
    assert_eq!(found("/?.conf"), ["/a.conf", "/b.conf"]);
    assert_eq!(found("/[!a].conf"), ["/b.conf"]);
    assert_eq!(found(r"/x\*y"), ["/x*y"]);
    assert_eq!(found("/*/d.conf"), ["/sub/d.conf", "/way/d.conf"]);
    assert_eq!(found("/**/*.conf"), ["/a.conf", "/b.conf", "/sub/d.conf", "/sub/deep/e.conf"]);
    assert_eq!(found("/**/deep/*"), ["/sub/deep/e.conf"]);
    assert_eq!(found("/*/"), ["/sub", "/way"]);
    assert_eq!(found("/{a,b,a}.conf"), ["/a.conf", "/b.conf"]);
    assert_eq!(found("/gone/*"), [""; 0]);
    assert_eq!(found("/a.conf/*"), [""; 0]);
    assert_eq!(found("/sub/**"), ["/sub/d.conf", "/sub/deep", "/sub/deep/e.conf"]);
    assert_eq!(rig.call("glob", ["etc/*".into()]).unwrap_err().kind, Kind::BadArgument);
    assert_eq!(rig.call("glob", [format!("{dir}/a**").into()]).unwrap_err().kind, Kind::BadArgument);
    let one = rig.call("glob", [format!("{dir}/*.conf").into(), options([("limit", 1_i64.into())])]).unwrap();
    assert_eq!(strings(one).len(), 1);
}

#[test]
fn a_glob_reads_only_the_folders_it_needs() {
    let (_keep, dir) = folder();
    std::fs::create_dir_all(format!("{dir}/open/in")).unwrap();
    std::fs::create_dir_all(format!("{dir}/shut")).unwrap();
    std::fs::write(format!("{dir}/open/in/x"), "").unwrap();
    std::fs::write(format!("{dir}/shut/x"), "").unwrap();
    // Neither the folder above nor the one beside is read.
    let rig =
        Rig::new(&format!(r#"permit(principal, action == file_system::Action::"read", resource == file_system::Dir::"{dir}/open/in");"#));
    assert_eq!(strings(rig.call("glob", [format!("{dir}/open/in/*").into()]).unwrap()), [format!("{dir}/open/in/x")]);
    assert_eq!(rig.call("glob", [format!("{dir}/*/x").into()]).unwrap_err().kind, Kind::Denied);
    assert_eq!(rig.call("glob", [format!("{dir}/gone/*").into()]).unwrap_err().kind, Kind::Denied, "missing and denied look alike");
}

#[test]
fn found_files_are_whole_paths_f2() {
    let (_keep, dir) = folder();
    std::fs::create_dir_all(format!("{dir}/sub")).unwrap();
    for name in ["a.log", ".b.log", "sub/a.log"] {
        std::fs::write(format!("{dir}/{name}"), "").unwrap();
    }
    let rig = rig();
    let found = strings(rig.call("find_files", ["*.log".into(), dir.clone().into(), options([("recursive", true.into())])]).unwrap());
    assert_eq!(found, [".b.log", "a.log", "sub/a.log"].map(|name| format!("{dir}/{name}")));
    assert_eq!(rig.call("find_files", ["sub/*".into(), dir.into()]).unwrap_err().kind, Kind::BadArgument);
}

#[test]
fn a_drawn_tree_marks_what_is_denied_and_escapes_what_is_no_text() {
    let (_keep, dir) = folder();
    std::fs::create_dir_all(format!("{dir}/a")).unwrap();
    std::fs::create_dir_all(format!("{dir}/secret")).unwrap();
    std::fs::write(format!("{dir}/secret/x"), "").unwrap();
    std::fs::write(format!("{dir}/a/\u{1b}[2Jz"), "").unwrap();
    std::fs::write(Path::new(&dir).join(OsStr::from_bytes(b"z\xff")), "").unwrap();
    std::os::unix::fs::symlink("a", format!("{dir}/link")).unwrap();
    let policy =
        format!(r#"permit(principal, action, resource); forbid(principal, action, resource in file_system::Dir::"{dir}/secret");"#);
    let text = Rig::new(&policy).call("tree", [dir.clone().into()]).unwrap().into_string().unwrap();
    let wanted = "├── a\n│   └── \\u{1b}[2Jz\n├── link -> a\n├── secret [denied]\n└── z\\xff\n\n2 directories, 3 files\n";
    assert_eq!(text, format!("{dir}\n{wanted}"));
}

#[test]
fn kinds_of_contents_come_from_the_first_bytes() {
    let (_keep, dir) = folder();
    let rig = rig();
    let kind = |bytes: &[u8]| {
        std::fs::write(format!("{dir}/f"), bytes).unwrap();
        let map = rig.call("mime", [format!("{dir}/f").into()]).unwrap().cast::<Map>();
        format!("{} {}", map["type"], map["charset"])
    };
    assert_eq!(kind(b""), "inode/x-empty binary");
    assert_eq!(kind("h\u{e9}".as_bytes()), "text/plain utf-8");
    assert_eq!(kind(b"\xff\xfeh\0"), "text/plain utf-16le");
    assert_eq!(kind(b"\0\x01\x02\x03"), "application/octet-stream binary");
    assert_eq!(kind(b"\x1f\x8b\x08\0\0\0\0\0"), "application/gzip binary");
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(64, 0);
    assert_eq!(kind(&elf), "application/x-executable binary");
    let cut = format!("{}\u{e9}", "x".repeat(8191));
    assert_eq!(kind(cut.as_bytes()), "text/plain utf-8", "a character cut by the end of what is looked at");
}

#[test]
fn a_link_is_read_and_other_things_are_no_links() {
    let (_keep, dir) = folder();
    std::os::unix::fs::symlink("/nowhere/x", format!("{dir}/l")).unwrap();
    let rig = rig();
    assert_eq!(rig.call("readlink", [format!("{dir}/l").into()]).unwrap().into_string().unwrap(), "/nowhere/x");
    assert_eq!(rig.call("readlink", [dir.clone().into()]).unwrap_err().kind, Kind::BadArgument);
    assert_eq!(rig.call("readlink", [format!("{dir}/gone").into()]).unwrap_err().kind, Kind::NotFound);
    assert_eq!(rig.call("realpath", [format!("{dir}/l").into()]).unwrap_err().kind, Kind::NotFound);
}
