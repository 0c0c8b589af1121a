//! `rex policy check`, `format` and `schema`: what they print, what they exit with, what they leave as it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Rex, Run};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::process::Command;

const GOOD: &str = "@id(\"a\")\npermit (\n    principal in Group::\"ops\",\n    action == file_system::Action::\"read\",\n    resource in file_system::Dir::\"/etc\"\n);\n";

#[track_caller]
fn rex(host: &Rex, words: &[&str]) -> Run {
    host.finish(host.command(words), b"")
}

/// Checks the policies of the host, as its owner would.
#[track_caller]
fn check(host: &Rex, more: &[&str]) -> Run {
    let config = host.config_file();
    let mut words = vec!["policy", "check", "--config", config.to_str().unwrap()];
    words.extend(more);
    rex(host, &words)
}

#[test]
fn a_sound_set_is_valid_and_says_so_in_one_line() {
    needs_root!();
    let host = Rex::new().policy(GOOD).principals("[[principal]]\nname = \"alice\"\ngroups = [\"ops\"]\n");
    let run = check(&host, &["--deny-warnings"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:#?}");
    assert!(run.stdout.starts_with("1 policy, valid: 0 errors, 0 warnings, 0 notes, digest "), "{run:#?}");
}

#[test]
fn every_fault_of_every_file_has_its_place_and_the_exit_code_is_78() {
    let host = Rex::new()
        .file("a.cedar", "permit(principal, action resource);\n")
        .file("b.cedar", "@id(\"b\")\nforbid(principal, action == file_system::Action::\"raed\",\n  resource);\n@reveal(\"some\") forbid(principal, action, resource in file_system::Dir::\"/x\");\n");
    fs::write(host.data().join("c.cedar"), b"// \xff\n").unwrap();
    let run = rex(&host, &["policy", "check", host.data().to_str().unwrap()]);
    assert_eq!(run.code, 78, "{run:#?}");
    let data = host.data();
    let data = data.display();
    for part in [
        format!("{data}/a.cedar:1:26: error: "),
        "1 | permit(principal, action resource);\n  |                          ^".to_owned(),
        format!("{data}/b.cedar:2:"),
        "[invalid]".to_owned(),
        format!("{data}/b.cedar:4:1: error: `@reveal` is \"none\", \"hint\" or \"rule\" [bad-reveal]"),
        format!("{data}/c.cedar:1:4: error: this byte is not UTF-8 text [syntax]"),
    ] {
        assert!(run.stderr.contains(&part), "{part}: {run:#?}");
    }
    assert!(run.stdout.contains("invalid: 4 errors"), "{run:#?}");
    let gone = rex(&host, &["policy", "check", "/no/such/file.cedar"]);
    assert!(gone.code == 78 && gone.stderr.contains("/no/such/file.cedar: error: there is no such file"), "{gone:#?}");
}

#[test]
fn owner_and_mode_are_judged_as_a_session_judges_them_each_place_with_its_mend() {
    needs_root!();
    let host = Rex::new().policy(GOOD).principals("");
    let folder = host.root().join("etc/policies");
    fs::write(folder.join("second.cedar"), GOOD.replace("\"a\"", "\"b\"")).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(host.policy_file(), fs::Permissions::from_mode(0o664)).unwrap();
    chown(folder.join("second.cedar"), Some(12345), None).unwrap();
    fs::set_permissions(host.root().join("etc/principals.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    let run = check(&host, &[]);
    assert_eq!(run.code, 78, "{run:#?}");
    let policies = folder.display();
    for (place, mend) in [
        (format!("{policies}: error: everybody can write it"), format!("chmod go-w {policies}")),
        (format!("{policies}/test.cedar: error: its group"), format!("chmod go-w {policies}/test.cedar")),
        (format!("{policies}/second.cedar: error: it does not belong to root"), format!("chown -h root:root {policies}/second.cedar")),
        (format!("{}/etc/principals.toml: error: everybody", host.root().display()), "principals.toml".to_owned()),
    ] {
        assert!(run.stderr.contains(&place) && run.stderr.contains(&mend), "{place} {mend}: {run:#?}");
    }
    // Each once, though both files lie in that folder; and the policies themselves were looked through all the same.
    assert_eq!(run.stderr.matches("everybody can write it").count(), 2, "{run:#?}");
    assert!(run.stdout.starts_with("2 policies, invalid: 4 errors"), "{run:#?}");
    // A session takes none of it.
    host.session(None, &["--principal", "alice"], Some("rex -e 1"), "").ends(78);
    // Whoever names files vouches for them.
    rex(&host, &["policy", "check", "--elsewhere", folder.to_str().unwrap()]).ends(0);
}

#[test]
fn settings_that_sessions_could_not_use_are_found_with_their_places() {
    needs_root!();
    let host = Rex::new().policy(GOOD).principals("[[principal]]\nname = \"alice\"\ngroup = [\"ops\"]\n");
    let run = check(&host, &[]);
    assert!(run.code == 78 && run.stderr.contains("principals.toml:3:1: error: ") && run.stderr.contains("[settings]"), "{run:#?}");
    let host = Rex::new().policy(GOOD).config("no_such_key = 1");
    let run = check(&host, &[]);
    assert!(run.code == 78 && run.stderr.contains("rex.toml") && run.stderr.contains("[settings]"), "{run:#?}");
}

#[test]
fn this_host_is_asked_about_links_kinds_and_people_and_another_is_not() {
    needs_root!();
    let host = Rex::new()
        .file("real/file", "x")
        .link("link", "{data}/real")
        .principals("[[principal]]\nname = \"alice\"\ngroups = [\"oncall\"]\n")
        .policy(
            "@id(\"l\") permit(principal in Group::\"oncal\", action == file_system::Action::\"read\", resource in file_system::Dir::\"{data}/link\");\n\
             @id(\"k\") permit(principal == User::\"bob\", action == file_system::Action::\"read\", resource == file_system::File::\"{data}/real\");\n\
             @id(\"m\") permit(principal in Group::\"oncall\", action == file_system::Action::\"read\", resource == file_system::File::\"{data}/gone\");\n",
        );
    let run = check(&host, &["--json"]);
    run.ends(0);
    let json = run.json();
    let found: Vec<(String, String, String)> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap_or("").to_owned();
            (text("policy"), text("lint"), text("help"))
        })
        .collect();
    let expected = [
        ("l", "nobody", "did you mean `oncall`?".to_owned()),
        ("l", "link", format!("write \"{}\"", host.path("real"))),
        ("k", "nobody", "describe them there: [[principal]] name = \"bob\"".to_owned()),
        ("k", "wrong-kind", format!("write file_system::Dir::\"{}\"", host.path("real"))),
        ("m", "missing", String::new()),
    ];
    assert_eq!(found, expected.map(|(policy, lint, help)| (policy.to_owned(), lint.to_owned(), help)), "{json:#}");
    assert_eq!((json["valid"].as_bool(), json["warnings"].as_u64(), json["notes"].as_u64()), (Some(true), Some(4), Some(1)), "{json:#}");
    check(&host, &["--deny-warnings"]).ends(78);
    // What the link really does: the rule never matches.
    host.session(None, &["--principal", "alice"], Some("rex -e 'cat(\"{data}/link/file\")'"), "").ends(77);
    let elsewhere = check(&host, &["--elsewhere", "--deny-warnings"]);
    assert_eq!((elsewhere.code, elsewhere.stderr.as_str()), (0, ""), "{elsewhere:#?}");
}

#[test]
fn findings_end_with_the_lint_and_an_allow_silences_it() {
    let rule = "permit(principal, action == file_system::Action::\"write\", resource);\n";
    let host = Rex::new()
        .file("a.cedar", &format!("@id(\"a\")\n{rule}"))
        .file("b.cedar", &format!("@id(\"b\")\n@allow(\"any-principal, any-resource\")\n{rule}"));
    let run = rex(&host, &["policy", "check", "--elsewhere", &host.path("a.cedar")]);
    assert!(
        run.code == 0 && run.stderr.contains("a.cedar:2:8: warning: ") && run.stderr.contains("[any-principal]\n2 | permit(principal,"),
        "{run:#?}"
    );
    rex(&host, &["policy", "check", "--elsewhere", "--deny-warnings", &host.path("a.cedar")]).ends(78);
    let run = rex(&host, &["policy", "check", "--elsewhere", "--deny-warnings", &host.path("b.cedar")]);
    assert!(run.code == 0 && run.stderr.is_empty() && run.stdout.contains("0 warnings, 0 notes (2 allowed)"), "{run:#?}");
}

#[test]
fn many_alike_are_cut_short_unless_all_are_wanted() {
    let rules: String = (0..30).map(|n| format!("forbid(principal, action, resource in file_system::Dir::\"/x/{n}\");\n")).collect();
    let host = Rex::new().file("a.cedar", &rules);
    let run = rex(&host, &["policy", "check", "--elsewhere", &host.path("a.cedar")]);
    assert!(run.stderr.matches("[no-id]").count() == 11 && run.stderr.contains("… and 20 more of [no-id]; --all shows them"), "{run:#?}");
    let run = rex(&host, &["policy", "check", "--elsewhere", "--all", &host.path("a.cedar")]);
    assert_eq!(run.stderr.matches("[no-id]").count(), 30, "{run:#?}");
}

#[test]
fn the_json_form_is_one_document_with_places() {
    let host =
        Rex::new().file("a.cedar", "@id(\"a\")\npermit(principal in Group::\"ops\", action == file_system::Action::\"raed\", resource);\n");
    let run = rex(&host, &["policy", "check", "--json", &host.path("a.cedar")]);
    assert_eq!((run.code, run.stderr.as_str()), (78, ""), "{run:#?}");
    let json = run.json();
    assert_eq!((json["schema"].as_u64(), json["valid"].as_bool(), json["errors"].as_u64()), (Some(1), Some(false), Some(1)), "{json:#}");
    let error = &json["findings"][0];
    assert_eq!(
        (error["level"].as_str(), error["lint"].as_str(), error["line"].as_u64()),
        (Some("error"), Some("invalid"), Some(2)),
        "{json:#}"
    );
    assert!(error["file"].as_str().unwrap().ends_with("/a.cedar") && error["end_column"].as_u64() > error["column"].as_u64(), "{json:#}");
}

#[test]
fn formatting_is_done_in_place_and_only_once() {
    let host = Rex::new().file("a.cedar", "// About it.\n\n@id(\"a\") permit(principal, action,resource); // why\n").file("b.cedar", GOOD);
    fs::set_permissions(host.path("a.cedar"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("a.cedar", host.data().join("link.cedar")).unwrap();
    let format = |words: &[&str]| rex(&host, &[&["policy", "format"], words].concat());
    let check = format(&["--check", &host.path("a.cedar"), &host.path("b.cedar")]);
    assert_eq!(check.code, 1, "{check:#?}");
    assert!(
        check.stdout.contains(
            "-@id(\"a\") permit(principal, action,resource); // why\n+@id(\"a\")\n+permit (principal, action, resource); // why\n"
        ),
        "{check:#?}"
    );
    assert!(host.read("a.cedar").contains("action,resource"), "--check changes nothing");
    format(&[&host.path("link.cedar")]).ends(0);
    assert_eq!(host.read("a.cedar"), "// About it.\n\n@id(\"a\")\npermit (principal, action, resource); // why\n");
    assert_eq!(fs::metadata(host.path("a.cedar")).unwrap().permissions().mode() & 0o7777, 0o640);
    assert!(host.data().join("link.cedar").is_symlink());
    // The whole folder, now that it is done.
    let before = fs::metadata(host.path("b.cedar")).unwrap().modified().unwrap();
    let run = format(&[host.data().to_str().unwrap()]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", ""), "{run:#?}");
    assert_eq!(fs::metadata(host.path("b.cedar")).unwrap().modified().unwrap(), before);
    format(&["--check", host.data().to_str().unwrap()]).ends(0);
    assert_eq!(fs::read_dir(host.data()).unwrap().count(), 3, "nothing is left over");
}

#[test]
fn what_does_not_parse_is_refused_and_then_nothing_is_written() {
    let ugly = "permit(principal,action,resource);";
    let host = Rex::new().file("a.cedar", ugly).file("b.cedar", "permit(principal, action resource);\n");
    let run = rex(&host, &["policy", "format", &host.path("a.cedar"), &host.path("b.cedar"), "/no/such.cedar"]);
    assert!(
        run.code == 78 && run.stderr.contains("b.cedar:1:26: ") && run.stderr.contains('^') && run.stderr.contains("/no/such.cedar"),
        "{run:#?}"
    );
    assert_eq!(host.read("a.cedar"), ugly);
    rex(&host, &["policy", "format"]).ends(2);
}

#[test]
fn standard_input_is_formatted_to_standard_output() {
    let host = Rex::new();
    let run = host.finish(host.command(&["policy", "format", "-"]), b"permit(principal,action,resource);");
    assert_eq!((run.code, run.stdout.as_str()), (0, "permit (principal, action, resource);\n"), "{run:#?}");
    let run = host.finish(host.command(&["policy", "format", "--check", "-"]), b"permit(principal,action,resource);");
    assert!(run.code == 1 && run.stdout.contains("--- <stdin>"), "{run:#?}");
    host.finish(host.command(&["policy", "format", "-"]), b"permit(").ends(78);
    host.finish(host.command(&["policy", "format", "-"]), b"\xff\xfe").ends(78);
}

#[test]
fn a_file_that_cannot_be_written_stays_whole() {
    needs_namespaces!();
    let ugly = "permit(principal,action,resource);";
    let host = Rex::new().file("a.cedar", ugly);
    // A folder on a filesystem without a free block.
    let script = format!(
        "mount -t tmpfs -o size=64k none {0} && printf %s '{ugly}' > {0}/a.cedar && dd if=/dev/zero of={0}/fill bs=4k 2>/dev/null; {1} policy format {0}/a.cedar; echo $?; cat {0}/a.cedar; ls -A {0} | tr '\\n' ' '",
        host.data().display(),
        host.program().display()
    );
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let code: i32 = stdout.lines().next().unwrap().parse().unwrap();
    assert!(code != 0 && stdout.contains(ugly) && stdout.ends_with("a.cedar fill "), "{output:#?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("a.cedar"), "{output:#?}");
}

#[test]
fn the_schema_comes_in_both_notations_and_they_are_the_same() {
    let host = Rex::new();
    let cedar = rex(&host, &["policy", "schema"]);
    let json = rex(&host, &["policy", "schema", "--json"]);
    assert_eq!(cedar.stdout, fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/rex.cedarschema")).unwrap());
    let document = json.ends(0).json();
    assert_eq!(document["file_system"]["actions"]["write"]["appliesTo"]["resourceTypes"][0], "file_system::File", "{document:#}");
    assert!(document["file_system"]["entityTypes"]["Dir"]["shape"]["attributes"]["path"].is_object(), "{document:#}");
    // Whoever reads the one reads the other.
    let read = cedar_policy::Schema::from_json_str(&json.stdout).unwrap();
    let (other, _) = cedar_policy::Schema::from_cedarschema_str(&cedar.stdout).unwrap();
    let names = |schema: &cedar_policy::Schema| {
        let mut names: Vec<String> =
            schema.actions().map(ToString::to_string).chain(schema.entity_types().map(ToString::to_string)).collect();
        names.sort();
        names
    };
    assert_eq!(names(&read), names(&other));
    assert!(names(&read).len() > 40);
}

/// What `check` says of one file of this text.
#[track_caller]
fn said(text: &str) -> String {
    let host = Rex::new();
    fs::write(host.data().join("a.cedar"), text).unwrap();
    let run = rex(&host, &["policy", "check", "--elsewhere", host.data().join("a.cedar").to_str().unwrap()]);
    format!("{}{}", run.stderr, run.stdout)
}

#[test]
fn what_does_not_parse_or_validate_says_what_would_be_right() {
    let permit = |action: &str, resource: &str| format!("@id(\"a\") permit(principal in Group::\"g\", action == {action}, {resource});");
    let read = |resource: &str| permit("file_system::Action::\"read\"", resource);
    for (text, says) in [
        (permit("file_system::Action::\"veiw\"", "resource"), "did you mean `file_system::Action::\"view\"`?"),
        (permit("filesystem::Action::\"read\"", "resource"), "did you mean `file_system::Action::\"read\"`?"),
        (permit("Action::\"read\"", "resource"), "did you mean one of `file_system::Action::\"read\"`"),
        (
            permit("file_system::Action::\"restart\"", "resource"),
            "did you mean one of `container_system::Action::\"restart\"`, `systemd::Action::\"restart\"`?",
        ),
        (read("resource in file_system::Folder::\"/x\""), "did you mean `file_system::Dir`?"),
        (format!("# why\n{}", read("resource")), "comments begin with `//`"),
        (read("resource").replace("@id(\"a\")", "@id(“a”)"), "write straight double quotes"),
        (
            format!("{}\n{}", read("resource == file_system::File::\"/x").replace("\"a\"", "\"c\""), read("resource")),
            "a.cedar:1:112: error: this text is not closed",
        ),
        (
            read("resource == systemd::Service::\"x.service\""),
            "it is for file_system::Dir, file_system::File; what is done to a systemd::Service is of systemd",
        ),
        (read("resource").replace("principal in", "principal =="), "write principal in Group::\"g\""),
        (read("resource == file_system::File::\"/var/log/*.log\""), "is a letter, not a wildcard"),
        (read("resource) when { resource.path like \"/var/log/a.?\" }; //"), "only `*` is a wildcard of `like`"),
        (read("resource == file_system::File::\"~/x\""), "`~` is not expanded"),
        (read("resource == file_system::File::\"C:\\\\x\""), "write a path of this host"),
        (permit("systemd::Action::\"restart\"", "resource == systemd::Service::\"nginx\""), "write systemd::Service::\"nginx.service\""),
        (format!("@hint {}", read("resource in file_system::Dir::\"/x\"")), "this `@hint` says nothing"),
        (format!("@test(\"a reed /x = allow\") {}", read("resource")), "there is no action `reed`; did you mean `read`?"),
    ] {
        let said = said(&text);
        assert!(said.contains(says), "{says}: {text}\n{said}");
    }
    // A byte order mark is no fault, neither here nor in a run, and the formatter takes it away.
    let marked = format!("\u{feff}{}", GOOD);
    assert!(said(&marked).contains("valid: 0 errors, 0 warnings"), "{}", said(&marked));
    let host = Rex::new();
    let file = host.data().join("a.cedar");
    fs::write(&file, &marked).unwrap();
    rex(&host, &["policy", "format", file.to_str().unwrap()]).ends(0);
    assert!(fs::read_to_string(&file).unwrap().starts_with("@id"));
}

#[test]
fn settings_of_the_wrong_form_are_told_with_the_word_and_what_is_accepted() {
    needs_root!();
    for (config, principals, says) in [
        ("open = implied", "", "`open`: expected \"implied\", \"explicit\", not `implied`"),
        ("identity = [\"usr\"]", "", "`\"usr\"` is none of them: expected a list of different words of"),
        ("", "[principal]\nname = \"a\"\n", "write [[principal]]"),
        ("", "[[principal]]\nname = \"a\"\ngroups = \"oncall\"\n", "`groups` is a list: write groups = [\"oncall\"]"),
        ("", "default = \"maybe\"\n", "`default` is \"refuse\" or \"pass\""),
    ] {
        let host = Rex::new().policy(GOOD).principals(principals);
        let host = if config.is_empty() { host } else { host.config(config) };
        let run = check(&host, &[]);
        assert!(run.code == 78 && run.stderr.contains(says), "{says}: {run:#?}");
    }
}

#[test]
fn owners_commands_say_how_to_ask() {
    let host = Rex::new().policy(GOOD);
    let config = host.config_file();
    let config = config.to_str().unwrap();
    for (words, code, says) in [
        (vec!["can"], 2, "asked over ssh: ssh HOST rex can; here: `rex policy explain"),
        (vec!["whoami"], 2, "asked over ssh"),
        (vec!["check"], 2, "`rex policy check` for policies"),
        (vec!["session", "--help"], 78, "what sshd starts for a login"),
        (vec!["policy", "explain", "--config", config, "--principal", "a", "read", "etc/x"], 2, "a path begins with `/`"),
        (vec!["policy", "explain", "--config", config, "--principal", "a", "remove", "/x"], 2, "did you mean `delete`?"),
        (vec!["run", "-p", "/no/such", "-e", "1"], 78, "there is no such file or folder"),
        (vec!["run", "--timeout", "5x", "-e", "1"], 2, "`90s`, `5m` or `1h`"),
    ] {
        let run = rex(&host, &words);
        assert!(run.code == code && run.stderr.contains(says), "{words:?} {says}: {run:#?}");
    }
    let policy = host.policy_file();
    rex(&host, &["run", "-p", policy.to_str().unwrap(), "--timeout", "5m", "-e", "1"]).ends(0);
    // A log and a unit need no type.
    rex(&host, &["policy", "explain", "--config", config, "--principal", "a", "read", "nginx.service"]).ends(77);
}
