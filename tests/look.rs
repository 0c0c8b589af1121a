//! Looking at trees through the binary: listings, walks, patterns and sums, on odd names, deep and large folders, other filesystems and things that
//! change meanwhile. The numbers in names are those of the reference's known faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Rex, Run, is_root};
use rustix::fs::{FileType, Mode, OFlags, mkdirat, mknodat, openat};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn all() -> Rex {
    Rex::new().policy(ALLOW_ALL)
}

/// A tree with everything that a sum can be wrong about.
fn odd_tree(rex: &Rex) {
    let data = rex.data();
    fs::create_dir_all(data.join("a/b/c/d")).unwrap();
    fs::write(data.join("a/b/c/d/big"), vec![7; 1_020_000]).unwrap();
    fs::write(data.join("small"), "x").unwrap();
    fs::hard_link(data.join("small"), data.join("again")).unwrap();
    symlink("small", data.join("short")).unwrap();
    symlink("x".repeat(200), data.join("a/long-link")).unwrap();
    mknodat(rustix::fs::CWD, data.join("a/fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    // A file with a hole takes less than it says.
    fs::File::create(data.join("sparse")).unwrap().set_len(50 << 20).unwrap();
}

/// What du(1) says of each path, in bytes.
fn du_of(arguments: &[&str]) -> BTreeMap<String, u64> {
    let output = Command::new("du").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_once('\t')).map(|(size, path)| (path.to_owned(), size.parse().unwrap())).collect()
}

fn entries(run: &Run, of: &str) -> BTreeMap<String, u64> {
    let rows = run.ends(0).value();
    let rows = rows["entries"].as_array().unwrap().clone();
    rows.iter().map(|row| (row["path"].as_str().unwrap().to_owned(), row[of].as_u64().unwrap())).collect()
}

#[test]
fn d1_d3_du_counts_what_du_counts() {
    let rex = all();
    odd_tree(&rex);
    let data = rex.data().to_str().unwrap().to_owned();
    for (options, of, flags) in [
        ("#{}", "size_bytes", &["--block-size=1"][..]),
        ("#{summarize: true}", "size_bytes", &["--block-size=1", "-s"]),
        ("#{max_depth: 2}", "size_bytes", &["--block-size=1", "-d2"]),
        ("#{count_hard_links: true, all: true}", "size_bytes", &["--block-size=1", "-l", "-a"]),
        ("#{}", "inode_count", &["--inodes"]),
    ] {
        let run = rex.run(&format!("du(\"{{data}}\", {options})"));
        let mut arguments = flags.to_vec();
        arguments.push(&data);
        let expected = du_of(&arguments);
        assert_eq!(entries(&run, of), expected, "{options}");
        let total = if of == "size_bytes" { "total_size_bytes" } else { "total_inode_count" };
        assert_eq!(run.value()[total].as_u64(), Some(expected[&data]), "{options}");
    }
    // Lengths: the big file, the small one once, the long and the short link, the hole.
    let run = rex.run("du(\"{data}\", #{apparent: true}).total_size_bytes");
    run.gives(1_020_000 + 1 + 200 + 5 + (50 << 20));
    // The flags of the reference.
    rex.run("du([du::summarize], \"{data}\").entries.len()").gives(1);
    rex.run("du([du::all_files, du::max_depth(1)], \"{data}\").entries.len()").gives(5);
}

#[test]
fn d2_one_file_system_shows_nothing_of_another() {
    let device = |path: &str| fs::metadata(path).map(|stat| stat.dev()).ok();
    let Some(other) = ["/dev/pts", "/dev/shm", "/dev/mqueue"].into_iter().find(|path| {
        device(path).is_some()
            && device(path) != device("/dev")
            && (*path == "/dev/pts" || fs::read_dir(path).is_ok_and(|mut all| all.next().is_some()))
    }) else {
        eprintln!("skipped: /dev has no other filesystem in it here");
        return;
    };
    let rex = all();
    let inside = format!("find(\"/dev\", #{{one_file_system: true}}).filter(|e| e.path.starts_with(\"{other}/\")).len()");
    rex.run(&inside).gives(0);
    rex.run(&inside.replace("one_file_system: true", "max_depth: 2").replace(".len()", ".len() > 0")).gives(true);
    // du leaves out the mount point too, as du -x does.
    rex.run(&format!("du(\"/dev\", #{{one_file_system: true, all: true}}).entries.filter(|e| e.path.starts_with(\"{other}\")).len()"))
        .gives(0);
}

#[test]
fn d11_an_owner_without_a_name_is_a_number_and_stops_nothing() {
    needs_root!();
    let rex = all().file("orphan", "12").file("other", "");
    std::os::unix::fs::chown(rex.data().join("orphan"), Some(3_999_999_001), Some(3_999_999_002)).unwrap();
    rex.run("let s = stat(\"{data}/orphan\"); [s.owner, s.group, s.uid, s.gid, s.size]").gives(json!([
        "3999999001",
        "3999999002",
        3_999_999_001_u64,
        3_999_999_002_u64,
        2
    ]));
    rex.run("find(\"{data}\", #{size: \">=0\", type: \"file\"}).map(|e| e.owner).len()").gives(2);
    rex.run("find(\"{data}\", #{user: \"3999999001\"}).map(|e| e.name)").gives(json!(["orphan"]));
    rex.run("ls(\"{data}\", #{long: true}).map(|e| e.group)[0]").gives("3999999002");
    rex.run("du(\"{data}\").total_inode_count").gives(3);
}

#[test]
fn d14_d23_what_is_deeper_than_max_depth_is_neither_opened_nor_asked_for() {
    let rex = Rex::new().policy(
        r#"permit(principal, action, resource);
           forbid(principal, action == file_system::Action::"read", resource == file_system::Dir::"{data}/sub");
           forbid(principal, action, resource == file_system::File::"{data}/sub/file");"#,
    );
    let rex = rex.file("sub/file", "").file("top", "");
    for (options, names) in [("#{max_depth: 0}", json!(["data"])), ("#{max_depth: 1}", json!(["data", "sub", "top"]))] {
        let run = rex.run(&format!("find(\"{{data}}\", {options}).map(|e| e.name)"));
        assert_eq!(run.gives(names).denials(), 0, "{options}: {run:#?}");
    }
    for script in ["ls(\"{data}\").len()", "tree(\"{data}\", #{max_depth: 1}).contains(\"denied\")", "find_files(\"*\", \"{data}\").len()"]
    {
        assert_eq!(rex.run(script).ends(0).denials(), 0, "{script}");
    }
    // The other side: deeper, it is asked for, denied, and the rest goes on.
    let run = rex.run("find(\"{data}\").map(|e| e.name)");
    assert_eq!(run.gives(json!(["data", "sub", "top"])).denials(), 1, "{run:#?}");
    // ctime is called what it is: the time of the last change of attributes; `btime` is when it was made.
    rex.run("let s = stat(\"{data}/top\"); !(\"btime\" in s) || s.btime <= s.ctime").gives(true);
}

#[test]
fn d18_ls_follows_its_path_and_takes_a_file() {
    let rex = all().file("real/a", "1").file("real/b", "").file("file", "123");
    let rex = rex.link("link", "real").link("gone", "nowhere");
    rex.run("ls(\"{data}/link\").map(|e| e.path.sub_string(\"{data}\".len()))").gives(json!(["/link/a", "/link/b"]));
    rex.run("ls(\"/bin\").len() > 10").gives(true);
    rex.run("ls(\"{data}/file\").map(|e| [e.name, e.size])").gives(json!([["file", 3]]));
    let run = rex.run("ls(\"{data}/gone\")");
    assert_eq!((run.code, run.json()["error"]["kind"].as_str()), (1, Some("not_found")), "{run:#?}");
    // A link to a file is that file; the entries of a directory are never followed.
    rex.run("ls(\"{data}\").filter(|e| e.name == \"link\")[0].type").gives("symlink");
}

#[test]
fn d22_names_of_every_byte_stay_apart_and_usable() {
    let rex = all();
    let mut names: Vec<Vec<u8>> = (1..=255_u8).filter(|byte| !matches!(byte, b'/' | b'.')).map(|byte| vec![byte]).collect();
    names.extend([
        b"\xff\xfe".to_vec(),
        b"a\xffb".to_vec(),
        b"a\xfeb".to_vec(),
        b"\\xff".to_vec(),
        b"\\x5cxff".to_vec(),
        b"-rf *".to_vec(),
        b"a\nb".to_vec(),
    ]);
    for name in &names {
        fs::write(rex.data().join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let count = names.len();
    rex.run("[ls(\"{data}\"), find(\"{data}\", #{type: \"f\"}), glob(\"{data}/*\"), find_files(\"*\", \"{data}\")].map(|all| all.len())")
        .gives(json!([count, count, count, count]));
    rex.run("ls(\"{data}\").filter(|e| read_bytes(e.path).len() != e.size || !exists(e.path)).len()").gives(0);
    rex.run("du(\"{data}\", #{all: true}).entries.len()").gives(count + 1);
    // Each name is the contents of its file, whether it is a string or a blob.
    rex.run(
        "ls(\"{data}\").filter(|e| (if type_of(e.name) == \"string\" { e.name.to_blob() } else { e.name }) != read_bytes(e.path)).len()",
    )
    .gives(0);
    let text = rex.run("tree(\"{data}\")").ends(0).value();
    assert_eq!(text.as_str().unwrap().lines().count(), count + 3, "each name on a line of its own");
}

#[test]
fn e6_what_may_not_be_opened_can_be_looked_at() {
    let rex = all().file("shut", "12345").dir("folder");
    mknodat(rustix::fs::CWD, rex.data().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(rex.data().join("socket")).unwrap();
    fs::set_permissions(rex.data().join("shut"), fs::Permissions::from_mode(0o000)).unwrap();
    let script = r#"[stat("{data}/shut").size, stat("{data}/fifo").type, stat("{data}/socket").type, exists("/dev/null"),
                     find("{data}", #{type: "f", size: 5}).len(), ls("{data}", #{long: true}).map(|e| e.size).len(), du("{data}").denied_count]"#;
    let expected = json!([5, "fifo", "socket", true, 1, 4, 0]);
    rex.run(script).gives(expected.clone());
    if is_root() {
        // Somebody whom the Unix permissions do not let open it.
        let (config, policy) = (rex.config_file(), rex.policy_file());
        let config = fs::read_to_string(config).unwrap().replace(rex.audit_file().to_str().unwrap(), "/dev/null");
        let rex = rex.whole_config(&config);
        let mut command =
            rex.command(&["run", "-", "--config", rex.config_file().to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"]);
        command.uid(65_534).gid(65_534);
        let run = rex.finish(command, rex.fill(script).as_bytes());
        if run.code == 78 {
            eprintln!("skipped: records cannot go to /dev/null here");
        } else {
            run.gives(expected);
        }
    }
    drop(socket);
}

#[test]
fn f2_found_files_lead_to_the_files() {
    let rex = all().file("x/one.conf", "1").file("x/y/two.conf", "2").file("three.conf", "3");
    rex.run("find_files([glob::recursive], \"*.conf\", \"{data}\").map(|p| cat(p))").gives(json!(["3", "1", "2"]));
    rex.run("let all = []; find(\"{data}\", #{name: \"*.conf\"}, |e| all.push(cat(e.path))); all").gives(json!(["3", "1", "2"]));
}

#[test]
fn f7_the_flags_of_ls_have_an_effect() {
    let rex = all().file("sub/deep/file", "123").file(".hidden", "");
    rex.run("ls([ls::long], \"{data}\")[0].owner != ()").gives(true);
    rex.run("ls([ls::recursive], \"{data}\").map(|e| e.name)").gives(json!(["sub", "deep", "file"]));
    rex.run("ls([ls::all, ls::recursive, ls::long], \"{data}\").map(|e| e.size).len()").gives(4);
    // Denied details are marked where they were asked for.
    let rex = rex.policy(r#"permit(principal, action == file_system::Action::"read", resource);"#);
    rex.run("ls([ls::long], \"{data}\").map(|e| e.denied)").gives(json!([true]));
    rex.run("ls(\"{data}\").map(|e| e.denied)").gives(json!([null]));
}

#[test]
fn scripts_for_the_map_that_the_reference_gives_find_names_and_entries() {
    let rex = all().file("b", "22").file("a", "1");
    rex.run("let names = []; for name in ls(\"{data}\").keys() { names.push(name); } names").gives(json!(["a", "b"]));
    rex.run("[ls(\"{data}\").len(), ls(\"{data}\").values().map(|e| e.size), ls(\"{data}\").get(\"b\").size, ls(\"{data}\").get(\"c\")]")
        .gives(json!([2, [1, 2], 2, null]));
    let run = rex.run("[1, 2].keys()");
    assert_eq!((run.code, run.json()["error"]["kind"].as_str()), (1, Some("bad_argument")), "{run:#?}");
}

#[test]
fn a_folder_of_a_hundred_thousand_is_listed_counted_and_walked() {
    let rex = all().dir("many");
    let many = rex.data().join("many");
    fs::write(many.join("0"), "x").unwrap();
    for number in 1..100_000 {
        // Names of few files, so that it does not take long to make them.
        if number % 10_000 == 0 {
            fs::write(many.join(number.to_string()), "x").unwrap();
        } else {
            fs::hard_link(many.join((number / 10_000 * 10_000).to_string()), many.join(number.to_string())).unwrap();
        }
    }
    rex.run("[ls(\"{data}/many\").len(), find(\"{data}/many\", #{min_depth: 1}, |e| true), du(\"{data}/many\", #{apparent: true}).total_size_bytes]")
        .gives(json!([100_000, 100_000, 10]));
    // The closure ends the walk.
    rex.run("let seen = 0; let told = find(\"{data}/many\", #{min_depth: 1}, |e| { seen += 1; seen < 3 }); [seen, told]")
        .gives(json!([3, 3]));
    // One more than a result holds is an error unless the caller says where to stop.
    fs::write(many.join("more"), "").unwrap();
    for script in [
        "ls(\"{data}/many\")",
        "glob(\"{data}/many/*\")",
        "find_files(\"*\", \"{data}/many\")",
        "du(\"{data}/many\", #{all: true, count_hard_links: true})",
    ] {
        let run = rex.run(script);
        assert_eq!((run.code, run.json()["error"]["kind"].as_str()), (1, Some("too_large")), "{script}: {}", run.stderr);
    }
    rex.run("[ls(\"{data}/many\", #{limit: 3}).map(|e| e.name), find(\"{data}/many\", #{limit: 2}).len(), glob(\"{data}/many/*\", #{limit: 4}).len()]")
        .gives(json!([["0", "1", "10"], 2, 4]));
}

#[test]
fn a_tree_a_thousand_deep_needs_few_handles_and_no_short_path() {
    let rex = all().dir("deep");
    // Names so long that the whole path is longer than the kernel takes at once.
    let mut here = openat(rustix::fs::CWD, rex.data().join("deep"), OFlags::DIRECTORY, Mode::empty()).unwrap();
    for level in 0..1000 {
        let name = format!("level-{level:04}");
        mkdirat(&here, &name, Mode::RWXU).unwrap();
        here = openat(&here, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
        if level % 100 == 0 {
            drop(openat(&here, "zz-after", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap());
        }
    }
    let config = rex.config_file();
    let policy = rex.policy_file();
    let few = |script: &str| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ulimit -n 128; exec \"$@\"", "sh"]).arg(rex.program());
        command.args(["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"]);
        rex.finish(command, rex.fill(script).as_bytes())
    };
    // What comes after the deep folder is found on the way back up.
    few("find(\"{data}/deep\", |e| true)").gives(1 + 1000 + 10);
    few("find(\"{data}/deep\", #{name: \"zz-after\"}).len()").gives(10);
    few("let d = du(\"{data}/deep\"); [d.total_inode_count, d.entries.len(), d.denied_count]").gives(json!([1011, 1001, 0]));
    few("find_files(\"zz*\", \"{data}/deep\", #{recursive: true}).len()").gives(10);
    few("tree(\"{data}/deep\").split(\"zz-after\").len()").gives(11);
    few("ls(\"{data}/deep\", #{recursive: true}).len()").gives(1010);
    // A path that is too long to be named is an error and no crash.
    let run = few("let last = \"\"; find(\"{data}/deep\", |e| { if e.path.len() > last.len() { last = e.path; } }); stat(last)");
    assert_eq!(run.json()["error"]["kind"].as_str(), Some("bad_argument"), "{run:#?}");
    drop(here);
    assert!(Command::new("rm").arg("-rf").arg(rex.data().join("deep")).status().unwrap().success());
}

#[test]
fn links_that_lead_in_circles_end_and_each_directory_is_entered_once() {
    let rex = all().file("a/b/file", "").link("a/b/up", "../..").link("a/self", "self").link("a/again", "b");
    rex.run("find(\"{data}\", #{follow: true, type: \"file\"}).len()").gives(1);
    rex.run("find(\"{data}\", #{follow: true}).map(|e| e.path.sub_string(\"{data}\".len()))").gives(json!([
        "",
        "/a",
        "/a/again",
        "/a/again/file",
        "/a/again/up",
        "/a/b",
        "/a/self"
    ]));
    // Not followed, links are shown as what they are.
    rex.run("find(\"{data}\", #{type: \"symlink\"}).map(|e| e.target).len()").gives(3);
    rex.run("let told = (); try { stat(\"{data}/a/self\") } catch (e) { told = e.kind } [told, stat(\"{data}/a/self\", #{follow: false}).target]")
        .gives(json!(["io", "self"]));
}

#[test]
fn entries_that_come_and_go_stop_no_walk() {
    let rex = all().dir("busy").file("still", "");
    let busy = rex.data().join("busy");
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let changer = std::thread::spawn(move || {
        let mut number = 0_u64;
        while !flag.load(Ordering::Relaxed) {
            number += 1;
            let (file, dir) = (busy.join(format!("f{}", number % 50)), busy.join(format!("d{}", number % 20)));
            let _ = fs::write(&file, "x");
            let _ = fs::create_dir(&dir);
            let _ = fs::write(dir.join("in"), "");
            let _ = symlink("x", busy.join(format!("l{}", number % 30)));
            let _ = fs::rename(&file, busy.join("renamed"));
            let _ = fs::remove_dir_all(&dir);
            let _ = fs::remove_file(busy.join(format!("l{}", (number + 7) % 30)));
        }
    });
    let run = rex.run(
        r#"for i in 0..150 {
               let found = find("{data}", #{size: ">=0"});
               if found.filter(|e| e.name == "still").len() != 1 { throw "lost"; }
               ls("{data}/busy", #{long: true, recursive: true});
               du("{data}", #{all: true});
               tree("{data}");
               glob("{data}/**/in");
           }
           "done""#,
    );
    stop.store(true, Ordering::Relaxed);
    changer.join().unwrap();
    run.gives("done");
}

#[test]
fn a_pattern_asks_for_the_folders_that_it_names_and_no_others() {
    let rex = Rex::new().policy(r#"permit(principal, action, resource in file_system::Dir::"{data}/open");"#);
    let rex = rex.file("open/x/on", "").file("open/y/on", "").file("shut/x/on", "");
    let run = rex.run("glob(\"{data}/open/*/on\").len()");
    assert_eq!(run.gives(2).denials(), 0, "{run:#?}");
    let told = |pattern: &str| {
        let run = rex.run(&format!("glob(\"{{data}}/{pattern}\")"));
        (run.code, run.json()["error"]["kind"].as_str().unwrap_or("").to_owned())
    };
    // What is closed looks like what is not there.
    assert_eq!(told("shut/*"), (77, "denied".to_owned()));
    assert_eq!(told("gone/*"), (77, "denied".to_owned()));
    assert_eq!(told("shut/x/on"), (77, "denied".to_owned()));
    assert_eq!(told("shut/x/off"), (77, "denied".to_owned()));
    // Within what is open, nothing is an empty answer.
    rex.run("[glob(\"{data}/open/gone/*\"), glob(\"{data}/open/gone\"), glob(\"{data}/open/x/on/*\")]").gives(json!([[], [], []]));
}
