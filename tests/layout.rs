//! The map of src/ as a test: who may import whom, where `unsafe`, Cedar, Rhai and the kernel may be named, first lines, lengths, banned calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;

/// The modules in the order of one run's flow. Each may import only those before it.
const ORDER: &[&str] = &[
    "error",
    "limits",
    "os",
    "invocation",
    "identity",
    "config",
    "audit",
    "output",
    "policy",
    "resource",
    "sys",
    "functions",
    "engine",
    "report",
    "terms",
    "run",
    "repl",
    "server",
    "host",
    "doctor",
    "setup",
    "command",
];

/// Imports against the order: from, to, why.
const UPWARD: &[(&str, &str, &str)] = &[];

/// Crates and words that may stand only in some places: the word, the places, and why those.
const CONFINED: &[(&str, &[&str], &str)] = &[
    ("unsafe", &["src/sys/"], "one folder to read for memory safety"),
    ("cedar_policy", &["src/policy/"], "everything else speaks of asks and answers"),
    ("cedar_policy_core", &["src/policy/"], "as cedar_policy"),
    ("cedar_policy_formatter", &["src/policy/"], "as cedar_policy"),
    ("miette", &["src/policy/"], "the way cedar tells where a policy is wrong"),
    ("rhai", &["src/engine/", "src/functions/value.rs", "src/functions/function.rs"], "functions deal in the values of value.rs"),
    ("clap", &["src/command/"], "the command line of the host's owner"),
    ("russh", &["src/server/"], "the embedded server"),
    ("reedline", &["src/repl/"], "the line editor of the prompt"),
    ("nu_ansi_term", &["src/repl/"], "as reedline"),
    ("crossterm", &[], "the line editor's own way to the terminal"),
];

/// Where the standard library's own ways to the host may stand besides sys/ and os/: place, what, why.
const HOST_OUTSIDE_SYS: &[(&str, &str, &str)] = &[
    ("src/main.rs", "std::process::ExitCode", "the type that main returns"),
    ("src/command/mod.rs", "std::process::ExitCode", "the type that main returns"),
    ("src/identity/declared.rs", "std::net::{IpAddr, Ipv6Addr}", "addresses as data"),
    ("src/identity/mod.rs", "std::net::IpAddr", "addresses as data"),
    ("src/functions/urls.rs", "std::net::", "addresses as data"),
    ("src/server/", "tokio::net", "the sockets of rex serve, which are there before any script and never given to one"),
    ("src/resource/closed.rs", "std::process::id", "a number that the kernel has given already"),
];

/// Longest file, in lines, its tests included.
const LONGEST: usize = 900;

/// Calls that no part of the library makes: the word and what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("println!", "say it through output or report"),
    ("print!", "say it through output or report"),
    ("eprintln!", "say it through output or report"),
    ("eprint!", "say it through output or report"),
    ("dbg!", "take it out"),
    ("todo!", "do it"),
    ("unimplemented!", "do it"),
    ("process::exit", "return an exit code"),
    ("process::abort", "return an error"),
    ("env::set_var", "rex changes no environment of its own while it runs"),
    ("env::remove_var", "rex changes no environment of its own while it runs"),
    ("thread::sleep", "wait on the watch, which ends with the run"),
    ("env::temp_dir", "TMPDIR is the caller's"),
    ("include!", "write a module"),
];

/// Banned calls that stay: file, word, why.
const BANNED_BUT: &[(&str, &str, &str)] = &[
    ("src/os/process.rs", "thread::sleep", "waits a moment for getent, up to a time of its own, before there is a run"),
    ("src/sys/memory.rs", "thread::sleep", "a parked thread inside the allocator waits for the process to end"),
];

/// One file of Rust.
struct Source {
    /// From the top of the tree, e.g. `src/policy/gate.rs`.
    path: String,
    text: String,
    /// The lines of program: number and text, without comments, test modules and what strings hold.
    code: Vec<(usize, String)>,
}

impl Source {
    fn module(&self) -> &str {
        let inside = self.path.trim_start_matches("src/");
        inside.split('/').next().unwrap_or("").trim_end_matches(".rs")
    }
    fn is_test(path: &str) -> bool {
        path.starts_with("tests/")
            || path.contains("/tests/")
            || path.ends_with("tests.rs")
            || path.ends_with("/fixtures.rs")
            || path.ends_with("/rig.rs")
    }
}

/// All files of Rust below a folder.
fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    collect(&root.join(folder), root, &mut found);
    assert!(!found.is_empty(), "there is nothing in {folder}");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(folder: &Path, root: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // Its build folder; cargo-fuzz keeps it beside the targets.
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, root, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = code_of(&text);
            found.push(Source { path: name, text, code });
        }
    }
}

/// The lines of program in a file. Modules of tests stand at the end of a file, so the program ends where they begin.
fn code_of(text: &str) -> Vec<(usize, String)> {
    let bare = without_comments_and_strings(text);
    let lines: Vec<&str> = bare.lines().collect();
    let tests = |at: usize| {
        lines[at].trim() == "#[cfg(test)]"
            && lines[at + 1..]
                .iter()
                .find(|line| !line.trim().starts_with("#["))
                .is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    };
    let end = (0..lines.len()).find(|at| tests(*at)).unwrap_or(lines.len());
    lines[..end].iter().enumerate().map(|(at, line)| (at + 1, (*line).to_owned())).collect()
}

/// The text with comments and the insides of strings blanked, lines kept.
fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    // Copies line ends of what is left out.
    let blank = |out: &mut String, from: usize, to: usize| out.extend(chars[from..to.min(chars.len())].iter().filter(|c| **c == '\n'));
    while at < chars.len() {
        let rest = &chars[at..];
        let start = at;
        match rest {
            ['/', '/', ..] => {
                at += rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
            }
            ['/', '*', ..] => {
                at += rest.windows(2).position(|pair| pair == ['*', '/']).map_or(rest.len(), |end| end + 2);
                blank(&mut out, start, at);
            }
            ['r', '"' | '#', ..] if is_raw_string(rest) && !is_word(at.checked_sub(1).and_then(|before| chars.get(before))) => {
                let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
                let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                let body = hashes + 2;
                at += rest[body..].windows(close.len()).position(|part| part == close).map_or(rest.len(), |end| body + end + close.len());
                blank(&mut out, start, at);
                out.push_str("\"\"");
            }
            ['"', ..] => {
                at += 1;
                while at < chars.len() && chars[at] != '"' {
                    at += if chars[at] == '\\' { 2 } else { 1 };
                }
                at += 1;
                blank(&mut out, start, at);
                out.push_str("\"\"");
            }
            ['\'', '\\', ..] => {
                at += 3 + rest[3..].iter().position(|c| *c == '\'').unwrap_or(0);
                out.push_str("' '");
            }
            ['\'', _, '\'', ..] => {
                at += 3;
                out.push_str("' '");
            }
            [c, ..] => {
                out.push(*c);
                at += 1;
            }
            [] => break,
        }
    }
    out
}

fn is_raw_string(rest: &[char]) -> bool {
    rest[1..].iter().find(|c| **c != '#') == Some(&'"')
}

fn is_word(c: Option<&char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || *c == '_')
}

/// Where `word` stands on its own in a line.
fn holds_word(line: &str, word: &str) -> bool {
    let bytes = |at: Option<usize>| at.and_then(|at| line[at..].chars().next());
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = bytes(Some(at + word.len()));
        !is_word(before.as_ref()) && !is_word(after.as_ref())
    })
}

fn none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

fn place(source: &Source, line: usize) -> String {
    format!("{}:{line}", source.path)
}

#[test]
fn modules_are_declared_in_the_order_of_the_flow() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let declared: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(declared, ORDER);
}

#[test]
fn a_module_imports_only_those_before_it() {
    let rank = |module: &str| ORDER.iter().position(|name| *name == module);
    let mut broken = Vec::new();
    let mut used = Vec::new();
    for source in sources("src").iter().filter(|source| !Source::is_test(&source.path) && !matches!(source.module(), "lib" | "main")) {
        let Some(own) = rank(source.module()) else {
            broken.push(format!("{}: `{}` has no place in the order", source.path, source.module()));
            continue;
        };
        for (number, line) in &source.code {
            for (at, _) in line.match_indices("crate::") {
                let name: String = line[at + "crate::".len()..].chars().take_while(|c| is_word(Some(c))).collect();
                // What is no module is a macro of this crate.
                let Some(other) = rank(&name) else { continue };
                if other <= own {
                    continue;
                }
                match UPWARD.iter().find(|(from, to, _)| source.path.starts_with(from) && line.contains(&format!("crate::{to}"))) {
                    Some(row) => used.push(row.0),
                    None => broken.push(format!(
                        "{}: `{}` comes before `{name}` and must not import it",
                        place(source, *number),
                        source.module()
                    )),
                }
            }
        }
    }
    broken.extend(
        UPWARD.iter().filter(|row| !used.contains(&row.0)).map(|row| format!("UPWARD: {} does not need its exception any more", row.0)),
    );
    none(broken);
}

#[test]
fn unsafe_cedar_rhai_and_their_kin_stay_where_they_belong() {
    let mut broken = Vec::new();
    for source in sources("src").iter().filter(|source| !Source::is_test(&source.path)) {
        for (number, line) in &source.code {
            for (word, places, why) in CONFINED {
                let stays = places.iter().any(|place| source.path.starts_with(place));
                if !stays && holds_word(line, word) {
                    broken.push(format!("{}: `{word}` belongs to {} ({why})", place(source, *number), places.join(", ")));
                }
            }
        }
    }
    none(broken);
}

#[test]
fn one_call_stands_in_each_unsafe_block_and_a_comment_says_why_it_is_sound() {
    let mut broken = Vec::new();
    for source in sources("src") {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in &source.code {
            if !(holds_word(line, "unsafe") && (line.contains("unsafe {") || line.contains("unsafe impl"))) {
                continue;
            }
            let above = lines[..number - 1]
                .iter()
                .rev()
                .take_while(|line| line.trim().starts_with("//") || line.trim().starts_with('#') || line.trim().ends_with('='));
            if !above.into_iter().any(|line| line.contains("// SAFETY: ")) {
                broken.push(format!("{}: no SAFETY comment above", place(&source, *number)));
            }
        }
    }
    none(broken);
}

#[test]
fn the_host_is_reached_through_sys_and_os() {
    let mut broken = Vec::new();
    let mut used = Vec::new();
    for source in sources("src").iter().filter(|source| !Source::is_test(&source.path)) {
        if source.path.starts_with("src/sys/") || source.path.starts_with("src/os/") {
            continue;
        }
        for (number, line) in &source.code {
            if !["std::fs", "std::net", "std::process", "std::os::unix::net", "tokio::fs", "tokio::net", "tokio::process"]
                .iter()
                .any(|word| holds_word(line, word))
            {
                continue;
            }
            match HOST_OUTSIDE_SYS.iter().find(|(place, what, _)| source.path.starts_with(place) && line.contains(what)) {
                Some(row) => used.push((row.0, row.1)),
                None => broken.push(format!("{}: {}", place(source, *number), line.trim())),
            }
        }
    }
    broken.extend(
        HOST_OUTSIDE_SYS
            .iter()
            .filter(|row| !used.contains(&(row.0, row.1)))
            .map(|row| format!("HOST_OUTSIDE_SYS: {} does not need `{}` any more", row.0, row.1)),
    );
    none(broken);
}

#[test]
fn the_first_line_of_a_file_says_what_it_is_for() {
    let broken = sources("src").into_iter().chain(sources("tests")).filter(|source| {
        let first = source.text.lines().next().unwrap_or("");
        !first.starts_with("//! ") || first.len() < 20
    });
    none(broken.map(|source| format!("{}: begins with {:?}", source.path, source.text.lines().next().unwrap_or(""))).collect());
}

#[test]
fn no_file_is_longer_than_a_reader_is_patient() {
    let long = sources("src").into_iter().chain(sources("tests")).filter(|source| source.text.lines().count() > LONGEST);
    none(
        long.map(|source| format!("{}: {} lines, of {LONGEST} at most: split it by idea", source.path, source.text.lines().count()))
            .collect(),
    );
}

#[test]
fn nobody_prints_exits_or_leaves_things_undone() {
    let mut broken = Vec::new();
    for source in sources("src").iter().filter(|source| !Source::is_test(&source.path)) {
        for (number, line) in &source.code {
            for (word, instead) in BANNED {
                let excused = BANNED_BUT.iter().any(|(path, call, _)| source.path == *path && call == word);
                let stands = line.match_indices(word).any(|(at, _)| !is_word(line[..at].chars().next_back().as_ref()));
                if stands && !excused {
                    broken.push(format!("{}: `{word}`: {instead}", place(source, *number)));
                }
            }
        }
    }
    none(broken);
}

#[test]
fn a_test_that_is_left_out_says_why() {
    let mut broken = Vec::new();
    for source in sources("src").iter().chain(&sources("tests")) {
        // The bare attribute only: one with a reason has ` = "…"` in it.
        let bare = without_comments_and_strings(&source.text);
        let lines = bare.lines().enumerate().filter(|(_, line)| line.trim() == "#[ignore]");
        broken.extend(lines.map(|(at, _)| format!("{}: an ignored test names its reason: #[ignore = \"…\"]", place(source, at + 1))));
    }
    none(broken);
}

#[test]
fn lints_are_switched_off_with_a_reason() {
    let mut broken = Vec::new();
    for source in sources("src").iter().filter(|source| !Source::is_test(&source.path)) {
        for (number, line) in &source.code {
            let switches = ["#[allow(", "#![allow(", "#[expect(", "#![expect("].iter().any(|attribute| line.contains(attribute));
            let below = source.code.iter().skip(*number).take(3).map(|(_, line)| line.as_str());
            if switches && !std::iter::once(line.as_str()).chain(below).any(|line| line.contains("reason")) {
                broken.push(format!("{}: {}", place(source, *number), line.trim()));
            }
        }
    }
    none(broken);
}

#[test]
fn no_path_of_a_builders_machine_is_in_the_tree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = root.parent().and_then(Path::to_str).filter(|parent| parent.len() > 1);
    let mut signs: Vec<String> = ["/.cargo/registry", "/.rustup/", "/tmp/brief"].map(str::to_owned).into();
    signs.extend(own.map(|own| format!("{own}/")));
    let mut broken = Vec::new();
    texts(root, root, &mut |name, text| {
        if name != "tests/layout.rs" {
            let hits = text.lines().enumerate().filter(|(_, line)| signs.iter().any(|sign| line.contains(sign)));
            broken.extend(hits.map(|(at, line)| format!("{name}:{}: {}", at + 1, line.trim())));
        }
    });
    none(broken);
}

/// Every text file of the tree, but those that builds and git make.
fn texts(folder: &Path, root: &Path, visit: &mut dyn FnMut(&str, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap_or("");
        if path.is_symlink() || [".git", "target", "corpus", "artifacts"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            texts(&path, root, visit);
        } else if let Ok(text) = fs::read_to_string(&path) {
            visit(path.strip_prefix(root).unwrap().to_str().unwrap(), &text);
        }
    }
}

#[test]
fn the_checks_of_this_file_see_what_they_look_for() {
    let text = "let a = \"std::fs\"; // unsafe\nlet b = r#\"rhai \"x\" \"#; let c = '\"'; println!();\n/* todo!\n */ x();\n#[cfg(test)]\nmod tests {\n dbg!();\n}\n";
    let code: Vec<String> = code_of(text).into_iter().map(|(_, line)| line).collect();
    assert_eq!(code, ["let a = \"\"; ", "let b = \"\"; let c = ' '; println!();", "", " x();"]);
    assert!(holds_word("use std::fs;", "std::fs") && holds_word("(std::fs::read)", "std::fs") && !holds_word("std::fs_other", "std::fs"));
    assert!(!holds_word("forbid(unsafe_code)", "unsafe") && holds_word("unsafe { x() }", "unsafe"));
    assert_eq!(code_of("let q = '\\'';\nlet r = \"a\\\"b\";\nlet l: &'a str;\n").len(), 3);
}
