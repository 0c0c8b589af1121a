//! Scripts in the command style of the reference run unchanged: every command of its table with all flags and aliases, and where it is at fault,
//! what the name of the flag promises. docs/migration.md names the replacement of everything else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{ALLOW_ALL, Rex, Run};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const LOG: &str = "one INFO start\ntwo ERROR disk\nthree info again\nfour ERROR net\n";

fn host() -> Rex {
    Rex::new().policy(ALLOW_ALL).file("log", LOG)
}

/// Runs a script in which `d` is the folder to play in.
#[track_caller]
fn run(host: &Rex, script: &str) -> Run {
    host.run(&format!("const d = \"{{data}}\";\n{script}"))
}

/// Every expression gives its value. All are tried in one run, each by itself.
#[track_caller]
fn give(host: &Rex, expected: &[(&str, Value)]) {
    let script: String = expected
        .iter()
        .map(|(expression, _)| {
            // A call is read as the script writes it; what it throws is told instead of its value.
            format!("try {{ let value = {{ {expression} }}; results.push(value); }} catch (e) {{ results.push(`${{e.kind}}: ${{e.message}}`); }}\n")
        })
        .collect();
    let given = run(host, &format!("let results = [];\n{script}results"));
    given.ends(0);
    let given = given.value();
    let wrong: Vec<String> = expected
        .iter()
        .enumerate()
        .filter(|(at, (_, value))| given[*at] != *value)
        .map(|(at, (expression, value))| format!("{expression}\n  gives    {}\n  expected {value}", given[at]))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn cat() {
    let numbered = json!("     1\tone INFO start\n     2\ttwo ERROR disk\n     3\tthree info again\n     4\tfour ERROR net\n");
    give(
        &host(),
        &[
            ("cat(d + \"/log\")", json!(LOG)),
            ("cat([], d + \"/log\")", json!(LOG)),
            ("cat([cat::number], d + \"/log\")", numbered.clone()),
            ("cat([cat::n], d + \"/log\")", numbered),
        ],
    );
}

#[test]
fn cat_follows_a_link_to_a_file() {
    give(&host().link("link", "log"), &[("cat(d + \"/link\")", json!(LOG))]);
}

#[test]
fn grep() {
    let errors = json!(["two ERROR disk", "four ERROR net"]);
    let infos = json!(["one INFO start", "three info again"]);
    give(
        &host(),
        &[
            ("grep(\"ERROR\", d + \"/log\")", errors.clone()),
            ("grep([], \"E.ROR\", d + \"/log\")", errors),
            ("grep([grep::ignore_case], \"info\", d + \"/log\")", infos.clone()),
            ("grep([grep::i], \"info\", d + \"/log\")", infos.clone()),
            ("grep([grep::invert], \"ERROR\", d + \"/log\")", infos.clone()),
            ("grep([grep::v], \"ERROR\", d + \"/log\")", infos),
            ("grep([grep::max_count(1)], \"ERROR\", d + \"/log\")", json!(["two ERROR disk"])),
            ("grep([grep::m(1)], \"ERROR\", d + \"/log\")", json!(["two ERROR disk"])),
            ("grep([grep::line_number], \"disk\", d + \"/log\")", json!(["2:two ERROR disk"])),
            ("grep([grep::n], \"disk\", d + \"/log\")", json!(["2:two ERROR disk"])),
            ("grep([grep::i, grep::v, grep::n], \"info\", d + \"/log\")", json!(["2:two ERROR disk", "4:four ERROR net"])),
        ],
    );
}

#[test]
fn grep_count_is_one_number() {
    // The reference gives an array with a string in it.
    let count = |flag: &str| {
        format!(
            "let c = grep([grep::{flag}], \"ERROR\", d + \"/log\"); if type_of(c) == \"array\" {{ c[0].to_string() }} else {{ c.to_string() }}"
        )
    };
    give(&host(), &[(&count("count"), json!("2")), (&count("c"), json!("2"))]);
}

#[test]
fn tail() {
    let many: String = (1..=15).map(|n| format!("{n}\n")).collect();
    let lines = |from: u32, to: u32| json!((from..=to).map(|n| n.to_string()).collect::<Vec<_>>());
    give(
        &host().file("many", &many),
        &[
            ("tail(d + \"/many\")", lines(6, 15)),
            ("tail([], d + \"/many\")", lines(6, 15)),
            ("tail([tail::n(-5)], d + \"/many\")", lines(11, 15)),
            ("tail([tail::count(-5)], d + \"/many\")", lines(11, 15)),
            ("tail([tail::from(13)], d + \"/many\")", lines(13, 15)),
            ("tail([tail::line(13)], d + \"/many\")", lines(13, 15)),
            ("tail([tail::range(2, 4)], d + \"/many\")", lines(2, 4)),
        ],
    );
}

#[test]
fn tail_n_gives_the_last_lines_and_not_the_first() {
    let many: String = (1..=15).map(|n| format!("{n}\n")).collect();
    give(
        &host().file("many", &many),
        &[("tail([tail::n(2)], d + \"/many\")", json!(["14", "15"])), ("tail([tail::count(2)], d + \"/many\")", json!(["14", "15"]))],
    );
}

#[test]
fn sed() {
    let host = host();
    give(
        &host,
        &[
            ("sed(\"disk\", \"DISK\", d + \"/log\")", json!(LOG.replace("disk", "DISK"))),
            ("sed([], \"disk\", \"DISK\", d + \"/log\")", json!(LOG.replace("disk", "DISK"))),
            ("sed([sed::regex], \"d.sk\", \"DISK\", d + \"/log\")", json!(LOG.replace("disk", "DISK"))),
            ("sed([sed::all], \"r\", \"_\", d + \"/log\")", json!(LOG.replace('r', "_"))),
            ("sed([sed::g], \"R\", \"_\", d + \"/log\")", json!(LOG.replace('R', "_"))),
            ("sed([sed::regex, sed::g], \"(ER)ROR\", \"$1\", d + \"/log\")", json!(LOG.replace("ERROR", "ER"))),
        ],
    );
    assert_eq!(host.read("log"), LOG, "nothing of this is in place");
    for flag in ["in_place", "i"] {
        let host = self::host();
        run(&host, &format!("sed([sed::{flag}], \"disk\", \"DISK\", d + \"/log\")")).gives(LOG.replace("disk", "DISK"));
        assert_eq!(host.read("log"), LOG.replace("disk", "DISK"));
    }
}

#[test]
fn sed_takes_anchors_for_those_of_a_line() {
    give(
        &host(),
        &[("sed([sed::regex], \"^(two|four)\", \"<$1>\", d + \"/log\")", json!(LOG.replace("two", "<two>").replace("four", "<four>")))],
    );
}

#[test]
fn wc() {
    let sizes = |flag: &str| format!("wc([wc::{flag}], d + \"/log\")");
    let (lines, words, bytes) = (json!(4), json!(12), json!(LOG.len()));
    let all = host();
    run(&all, "let c = wc(d + \"/log\"); [c.lines, c.words, c.bytes]").gives(json!([lines, words, bytes]));
    run(&all, "let c = wc([], d + \"/log\"); [c.lines, c.words, c.bytes]").gives(json!([lines, words, bytes]));
    give(
        &all,
        &[
            (&sizes("lines"), json!({"lines": lines})),
            (&sizes("l"), json!({"lines": lines})),
            (&sizes("words"), json!({"words": words})),
            (&sizes("w"), json!({"words": words})),
            (&sizes("bytes"), json!({"bytes": bytes})),
            (&sizes("c"), json!({"bytes": bytes})),
            ("wc([wc::l, wc::c], d + \"/log\")", json!({"lines": lines, "bytes": bytes})),
        ],
    );
}

fn tree() -> Rex {
    host().file("t/.hidden", "h").file("t/a.log", "aaaa").file("t/b.txt", "b").file("t/sub/c.log", "cc").link("t/link", "a.log")
}

/// The names, whether a listing is a map by name or an array of entries.
fn names(call: &str) -> String {
    format!("let l = {call}; let n = if type_of(l) == \"map\" {{ l.keys() }} else {{ l.map(|e| e.name) }}; n.sort(); n")
}

#[test]
fn ls() {
    let plain = json!(["a.log", "b.txt", "link", "sub"]);
    let all = json!([".hidden", "a.log", "b.txt", "link", "sub"]);
    give(
        &tree(),
        &[
            (&names("ls(d + \"/t\")"), plain.clone()),
            (&names("ls([], d + \"/t\")"), plain.clone()),
            (&names("ls([ls::all], d + \"/t\")"), all.clone()),
            (&names("ls([ls::a], d + \"/t\")"), all),
            (&names("ls([ls::long], d + \"/t\")"), plain.clone()),
            (&names("ls([ls::l], d + \"/t\")"), plain),
        ],
    );
}

#[test]
fn ls_long_and_recursive_have_an_effect() {
    let sizes = |flag: &str| format!("ls([ls::{flag}], d + \"/t\").filter(|e| e.name == \"a.log\").map(|e| e.size)");
    let deep = |flag: &str| format!("ls([ls::{flag}], d + \"/t\").some(|e| e.path.ends_with(\"/sub/c.log\"))");
    give(&tree(), &[(&sizes("long"), json!([4])), (&sizes("l"), json!([4])), (&deep("recursive"), json!(true)), (&deep("R"), json!(true))]);
}

#[test]
fn ls_follows_a_link_to_a_directory() {
    give(&tree().link("away", "t"), &[(&names("ls(d + \"/away\")"), json!(["a.log", "b.txt", "link", "sub"]))]);
}

#[test]
fn find_files() {
    let found = |call: &str| format!("let f = {call}; f.sort(); f.map(|p| p.split(\"/\").pop())");
    give(
        &tree(),
        &[
            (&found("find_files(\"*.log\", d + \"/t\")"), json!(["a.log"])),
            (&found("find_files([], \"*.log\", d + \"/t\")"), json!(["a.log"])),
            (&found("find_files([glob::recursive], \"*.log\", d + \"/t\")"), json!(["a.log", "c.log"])),
            (&found("find_files([glob::r], \"*.log\", d + \"/t\")"), json!(["a.log", "c.log"])),
        ],
    );
}

#[test]
fn find_files_gives_paths_that_lead_to_the_files() {
    give(&tree(), &[("find_files([glob::r], \"c.log\", d + \"/t\").map(|p| cat(p))", json!(["cc"]))]);
}

#[test]
fn cp() {
    let host = host().file("old", "old");
    run(&host, "cp(d + \"/log\", d + \"/new\")").ends(0);
    assert_eq!(host.read("new"), LOG);
    assert_eq!(
        run(&host, "cp(d + \"/log\", d + \"/old\")").ends(1).json()["error"]["kind"],
        "exists",
        "no destination is lost without `force`"
    );
    assert_eq!(host.read("old"), "old");
    run(&host, "cp([cp::force], d + \"/log\", d + \"/old\")").ends(0);
    assert_eq!(host.read("old"), LOG);
    run(&host, "cp([cp::f], d + \"/new\", d + \"/old\"); cp([], d + \"/log\", d + \"/newer\")").ends(0);
    assert_eq!(host.read("newer"), LOG);
}

#[test]
fn cp_preserve_keeps_mode_and_times() {
    for flag in ["preserve", "p"] {
        let host = host();
        let from = host.data().join("log");
        fs::set_permissions(&from, fs::Permissions::from_mode(0o640)).unwrap();
        run(&host, &format!("cp([cp::{flag}], d + \"/log\", d + \"/new\")")).ends(0);
        let (from, to) = (fs::metadata(from).unwrap(), fs::metadata(host.data().join("new")).unwrap());
        assert_eq!((from.mode(), from.mtime(), from.mtime_nsec()), (to.mode(), to.mtime(), to.mtime_nsec()));
    }
}

#[test]
fn cp_of_a_file_of_procfs_is_not_empty() {
    let host = host();
    run(&host, "cp(\"/proc/version\", d + \"/version\")").ends(0);
    assert!(host.read("version").starts_with("Linux version"));
}

#[test]
fn mv() {
    let host = host();
    run(&host, "mv(d + \"/log\", d + \"/a\"); mv([], d + \"/a\", d + \"/b\"); mv([mv::verbose], d + \"/b\", d + \"/c\"); mv([mv::v], d + \"/c\", d + \"/e\")").ends(0);
    assert_eq!(host.read("e"), LOG);
    assert!(!host.exists("log") && !host.exists("a") && !host.exists("b") && !host.exists("c"));
}

#[test]
fn mv_backup_keeps_what_was_there() {
    for flag in ["backup", "b"] {
        let host = host().file("old", "old");
        run(&host, &format!("mv([mv::{flag}], d + \"/log\", d + \"/old\")")).ends(0);
        assert_eq!((host.read("old"), host.read("old~")), (LOG.to_owned(), "old".to_owned()));
    }
}

#[test]
fn mv_does_not_destroy_what_is_there_unasked() {
    let host = host().file("old", "old");
    assert_eq!(run(&host, "mv(d + \"/log\", d + \"/old\")").ends(1).json()["error"]["kind"], "exists");
    assert_eq!((host.read("log"), host.read("old")), (LOG.to_owned(), "old".to_owned()));
}

#[test]
fn rm() {
    for flags in ["", "[], ", "[rm::recursive], ", "[rm::r], ", "[rm::force], ", "[rm::f], "] {
        let host = host();
        run(&host, &format!("rm({flags}d + \"/log\")")).ends(0);
        assert!(!host.exists("log"), "{flags}");
    }
    for flags in ["[rm::recursive], ", "[rm::r, rm::f], "] {
        let host = tree();
        run(&host, &format!("rm({flags}d + \"/t\")")).ends(0);
        assert!(!host.exists("t") && host.exists("log"), "{flags}");
    }
    let host = tree();
    run(&host, "rm(d + \"/t\")").ends(1);
    assert!(host.exists("t/a.log"));
}

#[test]
fn rm_force_tolerates_absence() {
    run(&host(), "rm([rm::force], d + \"/none\"); rm([rm::f], d + \"/none\")").ends(0);
    assert_eq!(run(&host(), "rm(d + \"/none\")").ends(1).json()["error"]["kind"], "not_found");
}

#[test]
fn rm_removes_links_and_fifos_and_not_what_links_lead_to() {
    let host = tree().link("to_t", "t").link("dangling", "none");
    let fifo = std::process::Command::new("mkfifo").arg(host.data().join("fifo")).status().unwrap();
    assert!(fifo.success());
    run(&host, "rm(d + \"/to_t\"); rm(d + \"/dangling\"); rm(d + \"/fifo\")").ends(0);
    assert!(!host.exists("to_t") && !host.exists("dangling") && !host.exists("fifo"));
    assert!(host.exists("t/a.log"));
}

#[test]
fn mkdir() {
    let host = host();
    run(&host, "mkdir(d + \"/a\"); mkdir([], d + \"/b\"); mkdir([mkdir::parents], d + \"/c/x/y\"); mkdir([mkdir::p], d + \"/e/x\"); mkdir([mkdir::p], d + \"/e/x\")").ends(0);
    for path in ["a", "b", "c/x/y", "e/x"] {
        assert!(host.data().join(path).is_dir(), "{path}");
    }
    assert_eq!(run(&host, "mkdir(d + \"/f/x\")").ends(1).json()["error"]["kind"], "not_found");
    assert!(!host.exists("f"));
}

#[test]
fn touch() {
    let host = host();
    run(&host, "touch(d + \"/new\")").ends(0);
    assert_eq!(host.read("new"), "");
}

#[test]
fn touch_sets_the_time_of_a_file_that_is_there() {
    let host = host();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(host.data().join("log")).unwrap().set_modified(old).unwrap();
    run(&host, "touch(d + \"/log\")").ends(0);
    assert!(fs::metadata(host.data().join("log")).unwrap().mtime() > 1_700_000_000);
    assert_eq!(host.read("log"), LOG);
}

#[test]
fn write() {
    let host = host();
    run(&host, "write(d + \"/f\", \"1\"); write([], d + \"/f\", \"2\"); write([write::append], d + \"/f\", \"3\"); write([write::a], d + \"/f\", \"4\")").ends(0);
    assert_eq!(host.read("f"), "1234");
    run(&host, "write([write::replace], d + \"/f\", \"5\")").ends(0);
    assert_eq!(host.read("f"), "5");
    run(&host, "write([write::r], d + \"/f\", \"6\")").ends(0);
    assert_eq!(host.read("f"), "6");
}

#[test]
fn write_append_keeps_what_is_no_text() {
    let host = host();
    fs::write(host.data().join("bytes"), b"\xff\xfe\n").unwrap();
    run(&host, "write(d + \"/bytes\", \"x\")").ends(0);
    assert_eq!(fs::read(host.data().join("bytes")).unwrap(), b"\xff\xfe\nx");
}

#[test]
fn du() {
    let kilo = "x".repeat(100_000);
    let host = host().file("u/a", &kilo).file("u/v/w/b", &kilo);
    let shape = |call: &str| {
        format!(
            "let u = {call}; [u.entries.len(), u.total_size_bytes > 0, u.total_inode_count, u.entries.all(|e| e.size_bytes >= 0 && e.inode_count > 0 && e.path.starts_with(d))]"
        )
    };
    give(
        &host,
        &[
            (&shape("du(d + \"/u\")"), json!([3, true, 5, true])),
            (&shape("du([], d + \"/u\")"), json!([3, true, 5, true])),
            (&shape("du([du::summarize], d + \"/u\")"), json!([1, true, 5, true])),
            (&shape("du([du::s], d + \"/u\")"), json!([1, true, 5, true])),
            (&shape("du([du::all_files], d + \"/u\")"), json!([5, true, 5, true])),
            (&shape("du([du::a], d + \"/u\")"), json!([5, true, 5, true])),
            (&shape("du([du::max_depth(1)], d + \"/u\")"), json!([2, true, 5, true])),
            (&shape("du([du::d(1)], d + \"/u\")"), json!([2, true, 5, true])),
            (&shape("du([du::apparent_size], d + \"/u\")"), json!([3, true, 5, true])),
        ],
    );
}

#[test]
fn du_counts_every_byte_once() {
    let kilo = "x".repeat(1_000_000);
    let host = host().file("u/v/w/x/b", &kilo);
    let total = run(&host, "du([du::apparent_size], d + \"/u\").total_size_bytes").ends(0).value().as_i64().unwrap();
    assert!((1_000_000..1_200_000).contains(&total), "{total}");
}

const TABLE: &str = "alice,5,red\nbob,7,blue\ncarol,x,red\nshort\n";

#[test]
fn awk() {
    give(
        &host().file("t", TABLE),
        &[
            ("awk_split(\"a:b::c\", \":\")", json!(["a", "b", "", "c"])),
            ("awk_field(1, \",\", d + \"/t\")", json!(["alice", "bob", "carol", "short"])),
            ("awk_field(3, \",\", d + \"/t\")", json!(["red", "blue", "red"])),
            ("awk_filter(\"red\", d + \"/t\")", json!(["alice,5,red", "carol,x,red"])),
            ("awk_filter_field(1, \",\", \"o\", d + \"/t\")", json!(["bob,7,blue", "carol,x,red", "short"])),
            ("awk_filter_range(2, 3, d + \"/t\")", json!(["bob,7,blue", "carol,x,red"])),
            ("awk_sum(2, \",\", d + \"/t\")", json!(12.0)),
            ("awk_count_unique(3, \",\", d + \"/t\")", json!({"red": 2, "blue": 1})),
        ],
    );
}

#[test]
fn awk_with_one_blank_splits_at_runs_of_blanks() {
    give(
        &host().file("t", "a   1\nb\t2\n"),
        &[("awk_field(2, \" \", d + \"/t\")", json!(["1", "2"])), ("awk_split(\" a   b \", \" \")", json!(["a", "b"]))],
    );
}

#[test]
fn seq() {
    give(
        &host(),
        &[
            ("let s = []; for n in seq(1, 4) { s.push(n); } s", json!([1, 2, 3, 4])),
            ("let s = []; for n in seq([], 1, 2) { s.push(n); } s", json!([1, 2])),
            ("let s = []; for n in seq([seq::step(2)], 1, 6) { s.push(n); } s", json!([1, 3, 5])),
            ("let s = []; for n in seq([seq::n(5)], 0, 10) { s.push(n); } s", json!([0, 5, 10])),
            ("let s = []; for n in seq([seq::step(-2)], 5, 1) { s.push(n); } s", json!([5, 3, 1])),
        ],
    );
    run(&host(), "seq([seq::step(0)], 1, 2)").ends(1);
}

#[test]
fn seq_ends_at_the_largest_int() {
    give(
        &host(),
        &[("let s = []; for n in seq(9223372036854775806, 9223372036854775807) { s.push(n); } s", json!([i64::MAX - 1, i64::MAX]))],
    );
}

#[test]
fn replace_text() {
    give(&host(), &[("replace_text(\"a-b-c\", \"-\", \"+\")", json!("a+b-c"))]);
}

#[test]
fn gzip_and_back() {
    let host = host();
    run(
        &host,
        "gzip(d + \"/log\", d + \"/log.gz\"); let l = read_gzip_lines(d + \"/log.gz\"); let hits = search_gzip(\"ERROR\", d + \"/log.gz\"); \
         [l.len(), l[0], hits.map(|m| m.line_number), hits[0].line_content, gzip_info(d + \"/log.gz\").uncompressed_size_bytes]",
    )
    .gives(json!([4, "one INFO start", [2, 4], "two ERROR disk", LOG.len()]));
}

#[test]
fn a_flag_of_another_command_is_refused() {
    run(&host(), "cat([grep::count], d + \"/log\")").ends(1);
    run(&host(), "cat([1], d + \"/log\")").ends(1);
}

#[test]
fn what_the_policy_forbids_is_denied_in_this_style_too() {
    let host = Rex::new()
        .policy("permit(principal, action == file_system::Action::\"read\", resource == file_system::File::\"/none\");")
        .file("log", LOG);
    for call in [
        "cat([cat::n], d + \"/log\")",
        "grep([grep::i], \"x\", d + \"/log\")",
        "write([write::a], d + \"/log\", \"x\")",
        "wc(d + \"/log\")",
    ] {
        run(&host, call).is_denied();
    }
    assert_eq!(host.read("log"), LOG);
}

/// Words in code of the replacements column that are followed by `(` or stand alone, and are functions: each must be one.
#[test]
fn every_function_that_the_migration_page_names_is_there() {
    let page = include_str!("../docs/migration.md");
    let tables = page.split("## Functions").nth(1).expect("the part on functions");
    let mut missing = Vec::new();
    let mut named = 0;
    for row in tables.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let Some(replacement) = cells.get(1) else { continue };
        for code in replacement.split('`').skip(1).step_by(2) {
            for name in calls(code) {
                named += 1;
                if rexsh::functions::by_name(&name).is_none() && !LANGUAGE.contains(&name.as_str()) {
                    missing.push(format!("{name}: {row}"));
                }
            }
        }
    }
    assert!(named > 80, "the tables name {named} functions only");
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

/// Functions of the language itself, and operators that are written like functions.
const LANGUAGE: &[&str] = &["to_string", "to_int", "range", "sort", "keys", "len", "contains", "split", "filter", "map"];

/// The names of the functions that a piece of code calls; a single word is a call too.
fn calls(code: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if code.chars().all(is_name) && !code.is_empty() {
        return vec![code.to_owned()];
    }
    let mut found = Vec::new();
    for (at, _) in code.match_indices('(') {
        let before = &code[..at];
        let name: String = before.chars().rev().take_while(|c| is_name(*c)).collect::<String>().chars().rev().collect();
        if !name.is_empty() && !before[..before.len() - name.len()].ends_with(':') {
            found.push(name);
        }
    }
    found
}
