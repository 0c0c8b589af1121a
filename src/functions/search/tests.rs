//! Tests of grep: forms of results, trees, compressed files, limits, both sides of the permission.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::error::Kind;
use crate::functions::rig::{Rig, maps, options, strings};
use crate::functions::value::Dynamic;
use std::io::Write as _;
use std::path::PathBuf;

const ALL: &str = "permit(principal, action, resource);";

struct Tree {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

impl Tree {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for (name, bytes) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        Self { _dir: dir, root }
    }
    fn path(&self, name: &str) -> Dynamic {
        self.root.join(name).to_str().unwrap().to_owned().into()
    }
    fn root(&self) -> Dynamic {
        self.root.to_str().unwrap().to_owned().into()
    }
}

fn text(text: &str) -> Dynamic {
    text.to_owned().into()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn results_have_the_form_that_fits_the_question() {
    let tree = Tree::new(&[("a", b"one\nhit a\ntwo\n"), ("b", b"hit b\n")]);
    let rig = Rig::new(ALL);
    assert_eq!(strings(rig.call("grep", [text("hit"), tree.path("a")]).unwrap()), ["hit a"]);
    let both = Dynamic::from_array(vec![tree.path("a"), tree.path("b")]);
    let rows = maps(rig.call("grep", [text("hit"), both.clone()]).unwrap());
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0]["line"].as_int(), rows[0]["text"].clone().into_string()), (Ok(2), Ok("hit a".into())));
    assert_eq!(rows[0]["offset"].as_int(), Ok(4));
    let one = Dynamic::from_array(vec![tree.path("b")]);
    assert_eq!(maps(rig.call("grep", [text("hit"), one]).unwrap()).len(), 1, "an array gives maps even if it has one path");
    let lines = strings(rig.call("grep", [text("hit"), both, options([("output", text("lines")), ("line_number", true.into())])]).unwrap());
    assert_eq!(lines[0], format!("{}:2:hit a", tree.root.join("a").display()));
}

#[test]
fn context_is_marked_as_grep_does() {
    let tree = Tree::new(&[("a", b"1\n2\nhit\n4\n5\n6\nhit\n")]);
    let rig = Rig::new(ALL);
    let set = options([("context", 1_i64.into()), ("line_number", true.into())]);
    let lines = strings(rig.call("grep", [text("hit"), tree.path("a"), set]).unwrap());
    assert_eq!(lines, ["2-2", "3:hit", "4-4", "--", "6-6", "7:hit"]);
}

#[test]
fn counts_and_names_of_files() {
    let tree = Tree::new(&[("a", b"hit\nhit\n"), ("b", b"miss\n")]);
    let rig = Rig::new(ALL);
    let both = || Dynamic::from_array(vec![tree.path("a"), tree.path("b")]);
    let rows = maps(rig.call("grep", [text("hit"), both(), options([("count", true.into())])]).unwrap());
    assert_eq!(rows.iter().map(|row| row["count"].as_int().unwrap()).collect::<Vec<_>>(), [2, 0]);
    let files = strings(rig.call("grep", [text("hit"), both(), options([("files_with_matches", true.into())])]).unwrap());
    assert_eq!(files, [tree.path("a").into_string().unwrap()]);
}

#[test]
fn compressed_files_are_searched_whole_and_damage_is_told() {
    // files.md D6: only the first member is seen; D7: a search of damaged data ends silently.
    let packed = [gzip(b"hit 1\n"), gzip(b"hit 2\n")].concat();
    let cut = gzip(&b"some text that is long enough\n".repeat(100));
    let tree = Tree::new(&[("log.1", &packed), ("cut", &cut[..cut.len() - 9])]);
    let rig = Rig::new(ALL);
    assert_eq!(strings(rig.call("grep", [text("hit"), tree.path("log.1")]).unwrap()), ["hit 1", "hit 2"]);
    let error = rig.call("grep", [text("nothing"), tree.path("cut")]).unwrap_err();
    assert_eq!(error.kind, Kind::BadData);
    assert!(error.path.is_some_and(|path| path.ends_with("/cut")));
    let bomb = Tree::new(&[("bomb", &gzip(&vec![0; 2 << 20]))]);
    let error = rig.call("grep", [text("x"), bomb.path("bomb"), options([("max_unpacked", (1_i64 << 20).into())])]).unwrap_err();
    assert_eq!(error.kind, Kind::TooLarge);
}

#[test]
fn a_tree_is_searched_in_order_with_globs_and_without_following_links() {
    let tree = Tree::new(&[("b/x.log", b"hit\n"), ("a/y.txt", b"hit\n"), ("a/z.log", b"hit\n"), ("skip/q.log", b"hit\n")]);
    std::os::unix::fs::symlink(tree.root.join("b/x.log"), tree.root.join("link.log")).unwrap();
    std::os::unix::fs::symlink(&tree.root, tree.root.join("loop")).unwrap();
    let rig = Rig::new(ALL);
    let names = |set: Dynamic| -> Vec<String> {
        let rows = maps(rig.call("grep", [text("hit"), tree.root(), set]).unwrap());
        rows.iter().map(|row| row["path"].clone().into_string().unwrap().replace(tree.root.to_str().unwrap(), "")).collect()
    };
    assert_eq!(names(options([("recursive", true.into())])), ["/a/y.txt", "/a/z.log", "/b/x.log", "/skip/q.log"]);
    let set = options([("recursive", true.into()), ("include", text("*.log")), ("exclude", text("skip"))]);
    assert_eq!(names(set), ["/a/z.log", "/b/x.log"]);
    let error = rig.call("grep", [text("hit"), tree.root()]).unwrap_err();
    assert_eq!((error.kind, error.hint.as_deref()), (Kind::IsADirectory, Some("`recursive: true` searches directories")));
}

#[test]
fn what_may_not_be_read_is_left_out_of_a_tree_and_refused_by_name() {
    let tree = Tree::new(&[("open/a", b"hit\n"), ("closed/b", b"hit\n"), ("open/secret", b"hit\n")]);
    let root = tree.root.display();
    let rig = Rig::new(&format!(
        "permit(principal, action == file_system::Action::\"read\", resource in file_system::Dir::\"{root}\");
         forbid(principal, action, resource in file_system::Dir::\"{root}/closed\");
         forbid(principal, action, resource == file_system::File::\"{root}/open/secret\");"
    ));
    let rows = maps(rig.call("grep", [text("hit"), tree.root(), options([("recursive", true.into())])]).unwrap());
    assert_eq!(rows.iter().map(|row| row["path"].clone().into_string().unwrap()).collect::<Vec<_>>(), [format!("{root}/open/a")]);
    assert_eq!(rig.call("grep", [text("hit"), tree.path("closed/b")]).unwrap_err().kind, Kind::Denied);
    let named = Dynamic::from_array(vec![tree.path("open/a"), tree.path("open/secret")]);
    assert_eq!(rig.call("grep", [text("hit"), named]).unwrap_err().kind, Kind::Denied);
    assert_eq!(rig.host.gate.denials().len(), 4);
}

#[test]
fn binary_files_of_a_tree_are_told_once_and_searched_when_asked() {
    let tree = Tree::new(&[("bin", b"hit 1\n\0\0hit 2\nhit 3\n"), ("none", b"\0miss\n"), ("text", b"hit\n")]);
    let rig = Rig::new(ALL);
    let rows = maps(rig.call("grep", [text("hit"), tree.root(), options([("recursive", true.into())])]).unwrap());
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["binary"].as_bool(), Ok(true));
    let rows = maps(rig.call("grep", [text("hit"), tree.root(), options([("recursive", true.into()), ("binary", true.into())])]).unwrap());
    assert_eq!(rows.len(), 4);
    assert_eq!(strings(rig.call("grep", [text("hit"), tree.path("bin")]).unwrap()).len(), 3, "a file that is named is searched as text");
}

#[test]
fn too_many_results_are_an_error_unless_a_limit_was_asked_for() {
    // files.md E7: the reference holds everything and then cuts.
    let tree = Tree::new(&[("a", &b"hit\n".repeat(10_001)), ("b", &b"hit\n".repeat(10_000))]);
    let rig = Rig::new(ALL);
    let error = rig.call("grep", [text("hit"), tree.path("a")]).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (Kind::TooLarge, "more than 10000 results"));
    assert_eq!(strings(rig.call("grep", [text("hit"), tree.path("b")]).unwrap()).len(), 10_000);
    let limited = |n: i64| options([("max_results", n.into())]);
    assert_eq!(strings(rig.call("grep", [text("hit"), tree.path("a"), limited(3)]).unwrap()).len(), 3);
    assert_eq!(strings(rig.call("grep", [text("hit"), tree.path("a"), limited(20_000)]).unwrap()).len(), 10_001);
    let error = rig.call("grep", [text("hit"), tree.path("b"), options([("max_bytes", 100_i64.into())])]).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (Kind::TooLarge, "the results are more than `max_bytes` (100)"));
}

#[test]
fn text_that_is_not_utf8_is_an_error_or_lossy_and_never_the_silent_end() {
    let tree = Tree::new(&[("a", b"\xff\nhit\nhit \xff\n")]);
    let rig = Rig::new(ALL);
    assert_eq!(strings(rig.call("grep", [text("^hit$"), tree.path("a")]).unwrap()), ["hit"]);
    assert_eq!(rig.call("grep", [text("hit"), tree.path("a")]).unwrap_err().kind, Kind::NotText);
    assert_eq!(strings(rig.call("grep", [text("hit"), tree.path("a"), options([("lossy", true.into())])]).unwrap()).len(), 2);
}

#[test]
fn a_pattern_that_is_wrong_says_so_without_touching_the_file() {
    let rig = Rig::new(ALL);
    let error = rig.call("grep", [text("(a"), text("/nonexistent")]).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (Kind::BadArgument, "grep: pattern: not a regular expression: unclosed group"));
}
