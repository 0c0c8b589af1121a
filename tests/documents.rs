//! Pages that people follow: the tutorial, the page for agents, troubleshooting by symptom. (Policies and scripts in all pages: policies.rs, cookbook.rs.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Account, Key, Rex, Run, Sshd};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// What stands between backticks, outside of blocks.
fn quoted(text: &str) -> Vec<String> {
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    lines.flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn scripts(text: &str) -> Vec<String> {
    text.split("```rhai\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The words before an opening parenthesis.
fn called(text: &str) -> BTreeSet<String> {
    let word = |part: &str| part.rsplit(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_')).next().unwrap_or("").to_owned();
    let parts: Vec<&str> = text.split('(').collect();
    parts
        .iter()
        .take(parts.len() - 1)
        .map(|part| word(part))
        .filter(|word| word.starts_with(|sign: char| sign.is_ascii_lowercase()))
        .collect()
}

#[test]
fn the_page_for_agents_is_short_and_names_what_there_is() {
    let page = page("agent-guide.md");
    assert!(page.lines().count() < 60, "{} lines", page.lines().count());
    let known: BTreeSet<String> = rexsh::functions::all().map(|function| function.name.to_owned()).collect();
    // The table names functions alone; elsewhere a name with a parenthesis is one, but for words of the language.
    let table = page.lines().filter(|line| line.starts_with("| ")).skip(1);
    for name in table.flat_map(|line| quoted(line.split_once(" | ").unwrap().1)).filter(|name| name != "changed") {
        let name = name.split('(').next().unwrap();
        assert!(known.contains(name), "`{name}` in the table is no function");
    }
    let language = ["f", "map", "push", "catch"];
    for text in quoted(&page).iter().chain(&scripts(&page)) {
        for name in called(text).into_iter().filter(|name| !language.contains(&name.as_str())) {
            assert!(known.contains(&name), "`{name}` in `{text}` is no function");
        }
    }
    // Exit codes and kinds of errors are those of the program.
    let codes: Vec<u8> = page
        .split_once("Exit codes: ")
        .unwrap()
        .1
        .split(". Try again")
        .next()
        .unwrap()
        .split([',', '\n'])
        .filter(|part| !part.trim().is_empty())
        .map(|part| part.trim().split(' ').next().unwrap().parse().unwrap())
        .collect();
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    for code in &codes {
        assert!(readme.contains(&format!("| {code} | ")), "{code}");
    }
    assert_eq!(codes.len(), 11);
}

#[test]
fn the_requests_of_the_page_for_agents_are_answered_and_its_scripts_run() {
    needs_root!();
    let page = page("agent-guide.md");
    let rex = Rex::new()
        .config("identity = [\"argument\"]")
        .policy(
            "permit(principal, action, resource);\nforbid(principal, action, resource == file_system::File::\"{data}/log/secret.log\");",
        )
        .file("log/dpkg.log", "one\nan ERROR\nfailed\n")
        .file("log/secret.log", "error\n")
        .runbook("restart", "`would restart ${name}`");
    let ask = |request: &str, script: &str| rex.session(None, &["--principal", "agent"], Some(request), script);
    let requests: Vec<String> = quoted(&page)
        .into_iter()
        .filter_map(|text| Some(text.strip_prefix("ssh HOST ")?.split(" < ").next().unwrap().trim_matches('"').to_owned()))
        .collect();
    assert!(requests.len() >= 9, "{requests:?}");
    for request in requests.iter().filter(|request| !request.contains("REF")) {
        let run = ask(request, "1 + 1");
        assert_eq!(run.code, 0, "{request}: {run:#?}");
    }
    let scripts = scripts(&page);
    let run = ask("rex run -o json", &scripts[1].replace("/var/log", rex.path("log").as_str()));
    let found = run.ends(0).value();
    assert_eq!(found.as_array().map(Vec::len), Some(3), "{run:#?}");
    assert!(found[2].as_str().unwrap().ends_with("secret.log: denied"), "{found}");
    // Without systemd it says so; what it does with one is for tests/systemd.rs.
    let run = ask("rex run -o json", &scripts[0]);
    assert!(run.code == 0 || run.code == 69 || run.json()["error"]["error_type"] == "SCRIPT_EXCEPTION", "{run:#?}");
    // A denial is explained by its reference.
    let denied = ask("rex run -o json", "cat(\"{data}/log/secret.log\")");
    let reference = denied.is_denied().json()["error"]["ref"].as_str().unwrap().to_owned();
    assert!(ask(&format!("rex why {reference}"), "").ends(0).stdout.contains("secret.log"));
}

/// A symptom of the page, provoked.
struct Symptom {
    heading: &'static str,
    provoked: fn() -> Run,
}

fn host() -> Rex {
    Rex::new()
        .config("identity = [\"argument\"]")
        .policy("permit(principal, action == file_system::Action::\"read\", resource);")
        .file("notes", "hello\n")
}

fn ask(rex: &Rex, request: Option<&str>, script: &str) -> Run {
    rex.session(None, &["--principal", "alice"], request, script)
}

const SYMPTOMS: &[Symptom] = &[
    Symptom { heading: "is not allowed", provoked: || ask(&host(), None, "rm(\"{data}/notes\")") },
    Symptom { heading: "a script cannot come from a terminal", provoked: on_a_terminal },
    Symptom {
        heading: "nothing shows who is asking",
        provoked: || {
            let rex = host();
            rex.session(None, &[], None, "1")
        },
    },
    Symptom { heading: "is nobody in principals.toml", provoked: || ask(&host().principals("default = \"refuse\"\n"), None, "1") },
    Symptom {
        heading: "no policy at all",
        provoked: || {
            let rex = host();
            fs::remove_file(rex.policy_file()).unwrap();
            ask(&rex, None, "1")
        },
    },
    Symptom {
        heading: "everybody can write it",
        provoked: || {
            let rex = host();
            fs::set_permissions(rex.policy_file(), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
            ask(&rex, None, "1")
        },
    },
    Symptom { heading: "unknown key", provoked: || ask(&host().config("identity = [\"argument\"]\nwal = 3"), None, "1") },
    Symptom {
        heading: "there is no place for audit records",
        provoked: || ask(&host().whole_config("identity = [\"argument\"]\n[audit]\nsyslog = false\njournald = false\n"), None, "1"),
    },
    Symptom { heading: "the script is empty", provoked: || ask(&host(), None, "") },
    Symptom { heading: "this account accepts", provoked: || ask(&host(), Some("/usr/lib/openssh/sftp-server"), "") },
    Symptom { heading: "the time limit", provoked: || ask(&host(), Some("rex run --timeout 1"), "loop { }") },
    Symptom {
        heading: "declared whole",
        provoked: || ask(&host().config("identity = [\"argument\"]\nrequire_complete = \"sha256\""), None, "1"),
    },
    Symptom { heading: "there is no record of this login", provoked: without_a_record },
    Symptom { heading: "unknown function", provoked: || ask(&host(), None, "catt(\"{data}/notes\")") },
];

fn on_a_terminal() -> Run {
    let account = Account::new();
    let rex = Rex::new().policy(common::ALLOW_ALL).account(&account);
    let key = Key::new(&rex, "key");
    let sshd = Sshd::start(&rex, &format!("Match Group {}\n    ForceCommand exec {{rex}} session --config {{config}}", account.name));
    sshd.authorize(&account.name, "", &key);
    let mut run = sshd.ssh(&rex, &account.name, &key, &["-tt"], &["rex"], "");
    // With a terminal there is one stream.
    run.stderr = format!("{}{}", run.stdout, run.stderr);
    run
}

fn without_a_record() -> Run {
    let rex = Rex::new().config("identity = [\"record\"]").policy(common::ALLOW_ALL);
    let mut command = std::process::Command::new("sh");
    // In an audit session of its own, as a login has one; a kernel without audit says something else.
    let program = rex.session_command(None, &[], None);
    command.args(["-c", "echo 0 >/proc/self/loginuid; exec \"$@\"", "-"]).arg(program.get_program()).args(program.get_args());
    rex.finish(command, b"1")
}

#[test]
fn each_symptom_of_troubleshooting_is_what_rex_says_and_has_its_exit_code() {
    needs_root!();
    let page = page("troubleshooting.md");
    let mut faults = Vec::new();
    for symptom in SYMPTOMS {
        let run = (symptom.provoked)();
        let heading = page.lines().find(|line| line.starts_with("### ") && line.contains(symptom.heading));
        let Some(heading) = heading else {
            faults.push(format!("no heading with `{}`; rex says {}: {}", symptom.heading, run.code, run.stderr));
            continue;
        };
        let said = quoted(heading).swap_remove(0).replace('…', "");
        let exit = heading.split("exit ").nth(1).and_then(|rest| rest.trim_end_matches(')').parse::<i32>().ok());
        if !said.split("  ").all(|part| run.stderr.contains(part.trim())) || exit != Some(run.code) {
            faults.push(format!("{heading}: rex says {}: {}", run.code, run.stderr));
        }
    }
    // No symptom of rex's own stands there that nobody has seen.
    let provoked = |line: &str| SYMPTOMS.iter().any(|symptom| line.contains(symptom.heading));
    faults.extend(
        page.lines()
            .filter(|line| line.starts_with("### ") && line.contains("(exit") && !provoked(line))
            .map(|line| format!("not provoked: {line}")),
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_book_has_every_page() {
    let summary = page("SUMMARY.md");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut missing = Vec::new();
    for (folder, prefix) in [(docs.clone(), ""), (docs.join("decisions"), "decisions/")] {
        for entry in fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") && name != "SUMMARY.md" && !summary.contains(&format!("({prefix}{name})")) {
                missing.push(format!("{prefix}{name}"));
            }
        }
    }
    missing.sort();
    assert!(missing.is_empty(), "docs/SUMMARY.md lacks {missing:?}");
    for target in summary.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).filter(|target| !target.is_empty()) {
        assert!(docs.join(target).exists(), "{target}");
    }
}

/// What is typed and what comes of it: the machine (`#` the host as root, `$` another one), the command, the lines after it.
fn typed(text: &str) -> Vec<(char, String, Vec<String>)> {
    let mut all: Vec<(char, String, Vec<String>)> = Vec::new();
    for block in text.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        for line in block.lines() {
            if let Some(command) = line.strip_prefix("# ").map(|it| ('#', it)).or_else(|| line.strip_prefix("$ ").map(|it| ('$', it))) {
                all.push((command.0, command.1.to_owned(), Vec::new()));
            } else if let Some(more) = line.strip_prefix('>').filter(|_| all.last().is_some_and(|(_, command, _)| command.contains("<<'")))
            {
                let command = &mut all.last_mut().unwrap().1;
                command.push('\n');
                command.push_str(more.strip_prefix(' ').unwrap_or(more));
            } else {
                all.last_mut().unwrap().2.push(line.to_owned());
            }
        }
    }
    all
}

/// Whether the text is what the page shows: `…` on a line of its own is any lines, in a line any characters.
fn shown(page: &[String], text: &[&str]) -> bool {
    let Some((first, rest)) = page.split_first() else { return text.is_empty() };
    if first == "…" {
        return (0..=text.len()).any(|skipped| shown(rest, &text[skipped..]));
    }
    let Some((line, others)) = text.split_first() else { return false };
    let mut parts = first.split('…');
    let start = parts.next().unwrap();
    let mut left = line.strip_prefix(start);
    for part in parts {
        left = left.and_then(|left| left.find(part).map(|at| if part.is_empty() { "" } else { &left[at + part.len()..] }));
    }
    left == Some("") && shown(rest, others)
}

#[test]
fn every_line_of_the_tutorial_does_on_a_fresh_debian_what_the_page_says() {
    needs_namespaces!();
    let Some(base) = common::Machine::base() else {
        eprintln!("skipped: this test needs a Debian of its own: tests/common/debian-root makes one");
        return;
    };
    let rex = Rex::new();
    let machine = common::Machine::boot(&rex, &base);
    let build = std::process::Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/deb/build"))
        .arg("--binary")
        .arg(common::binary())
        .args(["--compression", "none"])
        .arg(machine.shared())
        .output()
        .unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    // What the reader has: a host with sshd, and one that reaches it by the name web1.
    machine.sh("mkdir -p /root/.ssh /root/host; ssh-keygen -A >/dev/null; ln -s /mnt/rexsh_*.deb /root/host/
         sed -i 's/^#Port 22/Port 2222\\nListenAddress 127.0.0.1/' /etc/ssh/sshd_config; ip link set lo up 2>/dev/null || true
         printf 'Host web1\\nHostName 127.0.0.1\\nPort 2222\\nUser agent\\nIdentityFile /root/.ssh/agent\\nStrictHostKeyChecking accept-new\\nLogLevel ERROR\\n' >/root/.ssh/config
         /usr/sbin/sshd");
    let mut faults = Vec::new();
    for (prompt, command, page) in typed(&page("tutorial.md")) {
        // Between step 2 and 3 the reader copies the file.
        let prepared = if command.contains("--dry-run") { "cp /root/.ssh/agent.pub /root/host/; " } else { "" };
        let folder = if prompt == '#' { "/root/host" } else { "/root" };
        let run = machine.run(&["env", "HOME=/root", "bash", "-c", &format!("{prepared}cd {folder}; {{ {command}\n}} 2>&1")]);
        let lines: Vec<&str> = run.stdout.lines().collect();
        if !shown(&page, &lines) {
            faults.push(format!("{prompt} {command}\npage: {page:#?}\ncame: {lines:#?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}
