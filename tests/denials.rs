//! What a denial tells and to whom: the same in every form, by its reference afterwards, and beforehand through `can` and `check`; the limit of
//! denials; dry runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Account, Key, Rex, Run, Sshd};
use serde_json::Value;

/// Rules that say much, little and nothing.
const TELLING: &str = r#"
@id("open") permit(principal, action == file_system::Action::"read", resource in file_system::Dir::"{data}/open");
@id("small") @reveal("rule") @hint("only small files")
permit(principal, action == file_system::Action::"read", resource in file_system::Dir::"{data}/small")
  when { context.session.mode == "session" && resource has size && resource.size < 10 };
@id("mode") @reveal("rule")
permit(principal, action == file_system::Action::"stat", resource in file_system::Dir::"{data}")
  when { context.session.mode == "nowhere" };
@id("hinted") @hint("ask the team") forbid(principal, action, resource == file_system::File::"{data}/open/hinted");
@id("secret") @reveal("none") @hint("never seen") forbid(principal, action, resource == file_system::File::"{data}/open/secret");
"#;

fn host() -> Rex {
    Rex::new()
        .config("identity = [\"argument\"]")
        .policy(TELLING)
        .file("open/a", "hello\n")
        .file("open/hinted", "x")
        .file("open/secret", "x")
        .file("small/big", "0123456789ab\n")
}

fn ask(rex: &Rex, who: &str, request: &str, stdin: &str) -> Run {
    rex.session(None, &["--principal", who], Some(&rex.fill(request)), stdin)
}

/// The denial of a script's first line, in each form in which it can be had.
fn in_every_form(rex: &Rex, script: &str) -> (Value, Value, Value, String) {
    let json = ask(rex, "reader", "rex -o json", script).ends(77).json()["error"].clone();
    let frames = ask(rex, "reader", "rex -o ndjson", script);
    let last: Value = serde_json::from_str(frames.ends(77).stdout.lines().last().unwrap()).unwrap();
    let caught = ask(rex, "reader", "rex -o json", &format!("let e = ();\ntry {{ {script} }} catch (error) {{ e = error; }}\ne"));
    let human = ask(rex, "reader", "rex", script);
    (json, last["error"].clone(), caught.ends(0).value(), human.ends(77).stderr.clone())
}

#[test]
fn a_denial_says_the_same_in_text_json_frames_and_to_the_script() {
    needs_root!();
    let rex = host();
    for (path, why, hint, nearest) in [
        ("small/big", "condition_failed", Some("only small files"), Some("small")),
        ("open/hinted", "forbidden", Some("ask the team"), None),
        ("open/secret", "not_permitted", None, None),
        ("nowhere", "not_permitted", None, Some("small")),
    ] {
        let (json, frame, caught, human) = in_every_form(&rex, &format!("cat(\"{{data}}/{path}\")"));
        for form in [&json, &frame, &caught] {
            assert_eq!(form["why"], why, "{path}: {form:#}");
            assert_eq!(form["class"], "ACCESS_DENIED_EXCEPTION", "{form:#}");
            assert_eq!(form["action"], "file_system::Action::\"read\"", "{form:#}");
            assert_eq!(form["resource"], rex.fill(&format!("file_system::File::\"{{data}}/{path}\"")), "{form:#}");
            assert_eq!(form["principal"], "User::\"reader\"", "{form:#}");
            assert_eq!(form["hint"].as_str(), hint, "{path}: {form:#}");
            assert_eq!(form["nearest"]["policy"].as_str(), nearest, "{path}: {form:#}");
            assert!(form["ref"].as_str().unwrap().starts_with("d-"), "{form:#}");
            assert_eq!(form["message"], json["message"], "the same sentence everywhere");
            assert_eq!(form["nearest"], json["nearest"]);
        }
        assert!(human.contains(json["message"].as_str().unwrap()) && human.contains(&format!("why: {why}")), "{human}");
        assert_eq!(human.contains("nearest permit"), nearest.is_some(), "{human}");
        assert!(!human.contains("never seen") && !human.contains("`secret`"), "{human}");
    }
    let (json, ..) = in_every_form(&rex, "cat(\"{data}/small/big\")");
    let unmet = &json["nearest"]["unmet"];
    assert_eq!(unmet[0]["condition"], "resource has size", "{json:#}");
    assert_eq!(unmet[1]["condition"], "resource.size < 10", "{json:#}");
    assert!(unmet[1]["at"].as_str().unwrap().ends_with("test.cedar:5:68"), "{json:#}");
    let (json, ..) = in_every_form(&rex, "stat(\"{data}/small/big\")");
    assert_eq!(json["nearest"]["unmet"][0]["condition"], "context.session.mode == \"nowhere\"", "{json:#}");
}

#[test]
fn what_is_hidden_is_not_told_apart_from_what_is_not_there() {
    needs_root!();
    let rex = host();
    let told = |path: &str| {
        let mut error = ask(&rex, "reader", "rex -o json", &format!("cat(\"{{data}}/{path}\")")).ends(77).json()["error"].clone();
        for own in ["ref", "resource", "message", "path", "at"] {
            error.as_object_mut().unwrap().remove(own);
        }
        error
    };
    assert_eq!(told("open/secret"), {
        let mut other = told("elsewhere/x");
        // That another permit is near is told of what no permit seems to be about.
        other.as_object_mut().unwrap().remove("nearest");
        other
    });
    assert_eq!(told("small/big"), told("small/missing"), "nor whether it is there");
}

#[test]
fn control_characters_of_a_name_or_a_policy_do_not_reach_the_terminal() {
    needs_root!();
    let policy = "@hint(\"look\\u{1b}[31m here\") @reveal(\"rule\") permit(principal, action, resource in file_system::Dir::\"{data}\") when { context.session.mode == \"\\u{1b}[2J\" };";
    let rex = Rex::new().config("identity = [\"argument\"]").policy(policy);
    let run = ask(&rex, "reader", "rex", "cat(\"{data}/\\x1b[2J\")");
    assert!(run.ends(77).stderr.contains("not met: context.session.mode == "), "{run:#?}");
    assert!(!run.stderr.contains('\u{1b}'), "{run:#?}");
}

#[test]
fn probing_ends_the_run_and_listing_does_not() {
    needs_root!();
    let rex = Rex::new().config("identity = [\"argument\"]\n[limits]\ndenials = 20").policy(TELLING);
    let probe = "for n in range(0, 1000) { try { cat(`/etc/${n}`) } catch (e) {} } print(\"all\")";
    let run = ask(&rex, "reader", "rex -o json", probe);
    assert_eq!((run.ends(125).error_type().as_str(), run.json()["denial_count"].as_u64()), ("LIMIT_EXCEPTION", Some(21)), "{run:#?}");
    assert!(run.json()["error"]["message"].as_str().unwrap().contains("20 denied operations"), "{run:#?}");
    assert_eq!(run.events("decision").len(), 21, "every one is on record");
    assert_eq!(run.events("run_end")[0]["class"], "LIMIT_EXCEPTION");
    let listing = "@id(\"l\") permit(principal, action == file_system::Action::\"read\", resource == file_system::Dir::\"{data}/many\");\npermit(principal, action == file_system::Action::\"stat\", resource == file_system::Dir::\"{data}/many\");";
    let mut rex = Rex::new().config("identity = [\"argument\"]\n[limits]\ndenials = 20").policy(listing);
    for n in 0..60 {
        rex = rex.file(&format!("many/{n}"), "");
    }
    let run = ask(&rex, "reader", "rex -o json", "ls(\"{data}/many\", #{long: true}).len() + find(\"{data}/many\", #{}).len()");
    assert_eq!(run.code, 0, "{run:#?}");
}

#[test]
fn why_explains_a_denial_to_the_one_whom_it_concerned_and_to_nobody_else() {
    needs_root!();
    let rex = host();
    let denied = ask(&rex, "reader", "rex -o json", "\n  cat(\"{data}/small/big\")");
    let error = denied.ends(77).json()["error"].clone();
    let reference = error["ref"].as_str().unwrap();
    let run = ask(&rex, "reader", &format!("rex why {reference}"), "");
    for part in ["was not allowed", "by: cat at 2:3", "condition_failed", "only small files", "not met: resource.size < 10", "today: "] {
        assert!(run.ends(0).stdout.contains(part), "{part}: {run:#?}");
    }
    let json = ask(&rex, "reader", &format!("rex why --json {reference}"), "").ends(0).json();
    assert_eq!(json["schema"], "rex.why/1");
    for (name, value) in json["denial"].as_object().unwrap() {
        assert_eq!(value, &error[name], "what was told then, and no more");
    }
    assert_eq!(json["today"]["answer"], "depends", "{json:#}");
    let foreign = ask(&rex, "other", &format!("rex why {reference}"), "");
    let unknown = ask(&rex, "other", "rex why d-000000-1", "");
    assert_eq!((foreign.code, &foreign.stdout, &foreign.stderr), (unknown.code, &unknown.stdout, &unknown.stderr));
    assert_ne!(foreign.code, 0);
    // The hidden rule stays hidden to the caller, and is shown to the owner.
    let hidden = ask(&rex, "reader", "rex -o json", "cat(\"{data}/open/secret\")").json()["error"]["ref"].as_str().unwrap().to_owned();
    let run = ask(&rex, "reader", &format!("rex why {hidden}"), "");
    assert!(
        run.ends(0).stdout.contains("not_permitted") && !run.stdout.contains("never seen") && !run.stdout.contains("policies"),
        "{run:#?}"
    );
    let config = rex.config_file();
    let owner = rex.finish(rex.command(&["why", &hidden, "--config", config.to_str().unwrap()]), b"");
    assert!(owner.ends(0).stdout.contains("forbidden") && owner.stdout.contains("policies: secret"), "{owner:#?}");
    let owner = rex.finish(rex.command(&["why", "d-none-1", "--config", config.to_str().unwrap()]), b"");
    assert_eq!(owner.code, 1, "{owner:#?}");
}

#[test]
fn the_owners_answers_know_what_is_on_record_of_the_caller_and_the_thing() {
    needs_root!();
    let policy = "@id(\"crew\") @hint(\"only small ones\") @reveal(\"none\") permit(principal in Group::\"crew\", action == file_system::Action::\"read\", resource in file_system::Dir::\"{data}\") when { principal has evidence && principal.evidence == \"argument\" && context.session.mode == \"session\" && resource has size && resource.size < 3 };";
    let rex = Rex::new()
        .config("identity = [\"argument\"]")
        .principals("[[principal]]\nname = \"olga\"\ngroups = [\"crew\"]\n")
        .policy(policy)
        .file("big", "0123456789");
    let denied = ask(&rex, "olga", "rex -o json", "cat(\"{data}/big\")");
    let reference = denied.is_denied().json()["error"]["ref"].as_str().unwrap().to_owned();
    let config = rex.config_file();
    let owner = |words: &[&str]| rex.finish(rex.command(&[words, &["--config", config.to_str().unwrap()]].concat()), b"");
    let run = owner(&["policy", "explain", "--ref", &reference, "--attribute", "size=10"]);
    for part in ["denied: condition_failed by crew", "false: resource.size < 3", "hint: only small ones"] {
        assert!(run.ends(77).stdout.contains(part), "{part}: {run:#?}");
    }
    assert!(!run.stdout.contains("other principals") && run.stdout.matches("false: ").count() == 1, "{run:#?}");
    assert!(owner(&["policy", "explain", "--ref", &reference, "--attribute", "size=1"]).ends(0).stdout.contains("allowed by crew"));
    let run = owner(&["policy", "explain", "--ref", &reference, "--group", "others"]);
    assert!(run.ends(77).stdout.contains("denied: not_permitted"), "{run:#?}");
    let run = owner(&["why", &reference]);
    for part in ["policies: crew", "hint: only small ones", "today: depends"] {
        assert!(run.ends(0).stdout.contains(part), "{part}: {run:#?}");
    }
    std::fs::write(rex.policy_file(), "@id(\"all\") permit(principal, action, resource);").unwrap();
    let run = owner(&["why", "--json", &reference]);
    assert_eq!(run.ends(0).json()["today"]["answer"], "allowed", "{run:#?}");
    // Without the first record of the run nothing is made up.
    let lines = std::fs::read_to_string(rex.audit_file()).unwrap();
    let rest: String = lines.lines().filter(|line| !line.contains("run_start")).map(|line| format!("{line}\n")).collect();
    std::fs::write(rex.audit_file(), rest).unwrap();
    let run = owner(&["policy", "explain", "--ref", &reference]);
    assert!(run.code != 0 && run.stderr.contains("--group"), "{run:#?}");
    assert!(owner(&["why", &reference]).ends(0).stdout.contains("today: not known"));
}

#[test]
fn records_go_beside_rex_toml_wherever_a_session_begins() {
    needs_root!();
    let settings = "identity = [\"argument\"]\n[audit]\nfile = \"records.jsonl\"\nsyslog = false\njournald = false\ndenials = \"\"\n";
    let rex = Rex::new().whole_config(settings).policy(ALLOW_ALL).dir("elsewhere");
    let mut command = rex.session_command(None, &["--principal", "reader"], Some("rex"));
    command.current_dir(rex.path("elsewhere"));
    let file = rex.config_file().with_file_name("records.jsonl");
    assert_eq!(common::run(command, rex.fill("write(\"{data}/a\", \"x\").bytes").as_bytes(), 60).code, 0);
    assert!(std::fs::read_to_string(&file).unwrap().contains("run_end"));
    assert_eq!(std::fs::read_dir(rex.path("elsewhere")).unwrap().count(), 0);
    let config = rex.config_file();
    let stats = rex.finish(rex.command(&["audit", "stats", "--config", config.to_str().unwrap()]), b"");
    assert!(stats.ends(0).stdout.contains("1 change done, 0 failed, 0 withheld by dry runs"), "{stats:#?}");
    let script = format!("write({:?}, \"x\")", file.to_str().unwrap());
    let run = rex.finish(rex.session_command(None, &["--principal", "reader"], Some("rex")), script.as_bytes());
    assert_eq!(run.code, 77, "rex's own file: {run:#?}");
    let dry = rex.finish(
        rex.session_command(None, &["--principal", "reader"], Some("rex --dry-run")),
        rex.fill("append_line(\"{data}/a\", \"new\"); truncate(\"{data}/a\"); ()").as_bytes(),
    );
    assert!(dry.ends(0).stderr.contains("+new") && dry.stderr.contains("would have 0 bytes"), "{dry:#?}");
    let stats = rex.finish(rex.command(&["audit", "stats", "--config", config.to_str().unwrap()]), b"");
    assert!(stats.ends(0).stdout.contains("0 failed, 2 withheld by dry runs"), "{stats:#?}");
}

#[test]
fn a_neighbour_cannot_disturb_explanations_and_forged_ones_decide_nothing() {
    needs_root!();
    let rex = host();
    let store = rex.root().join("denials");
    std::fs::create_dir(&store).unwrap();
    std::fs::set_permissions(&store, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, store.join("0"), rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o666), 0).unwrap();
    let denied = ask(&rex, "reader", "rex -o json", "cat(\"{data}/nowhere\")");
    let reference = denied.is_denied().json()["error"]["ref"].as_str().unwrap().to_owned();
    assert_ne!(ask(&rex, "reader", &format!("rex why {reference}"), "").code, 0, "nothing was kept");
    std::fs::remove_file(store.join("0")).unwrap();
    let forged = format!(
        "{{\"schema\":\"rex.told/1\",\"ref\":\"d-forged-1\",\"run\":\"\\u001b[2J\",\"time\":\"\\u001b[2J\",\"function\":\"\\u001b[2J\",\"denial\":{{\"principal\":\"User::\\\"reader\\\"\",\"ref\":\"d-forged-1\",\"hint\":\"\\u001b[31m\",\"action\":\"file_system::Action::\\\"read\\\"\",\"resource\":\"{}\"}}}}\nnot json\n",
        rex.path("nowhere")
    );
    // What is no path of this host is shown, too.
    let odd =
        forged.replace("d-forged-1", "d-forged-2").replace(&rex.path("nowhere"), "\\u001b[2J").replace("Action::", "\\u001b[2JAction::");
    std::fs::write(store.join("0"), forged + &odd).unwrap();
    std::fs::set_permissions(store.join("0"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let run = ask(&rex, "reader", "rex why d-forged-1", "");
    assert!(run.ends(0).stdout.contains("today: no") && !run.stdout.contains('\u{1b}'), "{run:#?}");
    let run = ask(&rex, "reader", "rex why d-forged-2", "");
    assert!(run.ends(0).stdout.contains("was not allowed") && !run.stdout.contains('\u{1b}'), "{run:#?}");
    ask(&rex, "reader", "rex -o json", "cat(\"{data}/nowhere\")").is_denied();
}

#[test]
fn can_shows_what_is_permitted_where_and_when_and_nothing_that_is_hidden() {
    needs_root!();
    let rex = host();
    let run = ask(&rex, "reader", "rex can", "");
    let text = &run.ends(0).stdout;
    for part in [
        "file_system\n",
        &rex.fill("  read on in file_system::Dir::\"{data}/open\"\n"),
        "only when context.session.mode == \"session\" and resource has size and resource.size < 10",
        &rex.fill("  not read, stat on file_system::File::\"{data}/open/hinted\"\n"),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("secret") && !text.contains("never seen"), "{text}");
    let json = ask(&rex, "reader", "rex can -o json", "").ends(0).json();
    assert!(!json.to_string().contains("secret"), "{json:#}");
    let read = json["actions"].as_array().unwrap().iter().find(|line| line["action"] == "file_system::Action::\"read\"").unwrap();
    assert_eq!((read["answer"].as_str(), read["conditional"].as_bool()), (Some("some"), Some(true)), "{read:#}");
    let one = ask(&rex, "reader", "rex can read {data}/small/x", "");
    assert!(one.ends(0).stdout.starts_with("depends: on context.session.mode") || one.stdout.contains("resource.size < 10"), "{one:#?}");
}

#[test]
fn check_tells_what_each_call_will_be_answered_where_its_argument_is_known() {
    needs_root!();
    let rex = host();
    let script = "const BASE = \"{data}/open\";\nlet name = \"a\";\ncat(BASE + \"/a\");\ncat(`${BASE}/hinted`);\ncat(BASE + \"/\" + name);\nprint(\"x\");\ncat(given)";
    let run = ask(&rex, "reader", "rex check -o json given={data}/elsewhere", script);
    let calls = run.ends(77).json()["calls"].clone();
    let answers: Vec<(u64, &str)> = calls
        .as_array()
        .unwrap()
        .iter()
        .filter(|call| call["function"] == "cat")
        .map(|call| (call["at"]["line"].as_u64().unwrap(), call["answer"].as_str().unwrap()))
        .collect();
    assert_eq!(answers, [(3, "yes"), (4, "no"), (5, "unknown"), (7, "no")], "{calls:#}");
    assert_eq!(calls[0]["asks"][0]["resources"][0], format!("{:?}", rex.path("open/a")), "{calls:#}");
    let changes = Rex::new().config("identity = [\"argument\"]").policy(
        "permit(principal, action == file_system::Action::\"delete\", resource in file_system::Dir::\"{data}/cores\"); permit(principal, action == file_system::Action::\"read\", resource);",
    );
    for (call, code, says) in [
        ("rm(\"{data}/cores/x\")", 0, "\"delete\" on \"{data}/cores/x\": yes"),
        ("rm(\"{data}/other\")", 77, "\"delete\" on \"{data}/other\": no"),
        ("rm([\"{data}/cores/x\", \"{data}/other\"])", 77, ": no"),
        ("mv(\"{data}/cores/x\", \"{data}/y\")", 77, "\"move\" on \"{data}/cores/x\": no"),
    ] {
        let run = ask(&changes, "reader", "rex check", call);
        assert!(run.ends(code).stdout.contains(&changes.fill(says)), "{call}: {run:#?}");
    }
    let text = ask(&rex, "reader", "rex check", "cat(\"/etc/shadow\")");
    assert!(text.ends(77).stdout.starts_with("1:1: cat(\"/etc/shadow\"): no\n"), "{text:#?}");
    assert_eq!(ask(&rex, "reader", "rex check", "cat(\"{data}/open/a\")").ends(0).denials_on_record(), 0);
    // A name that means different things at different places is not known.
    let run = ask(&rex, "reader", "rex check -o json", "const P = \"/etc/shadow\"; fn f(P) { cat(P) } f(\"{data}/open/a\")");
    assert_eq!(run.ends(0).json()["calls"][0]["answer"], "unknown", "{run:#?}");
}

trait OnRecord {
    fn denials_on_record(&self) -> usize;
}
impl OnRecord for Run {
    fn denials_on_record(&self) -> usize {
        self.events("decision").len()
    }
}

#[test]
fn explain_shows_every_rule_and_decides_as_the_gate_does() {
    needs_root!();
    let rex = host();
    let config = rex.config_file();
    let explain = |arguments: &[&str]| {
        let filled: Vec<String> = arguments.iter().map(|argument| rex.fill(argument)).collect();
        let mut all = vec!["policy", "explain", "--config", config.to_str().unwrap()];
        all.extend(filled.iter().map(String::as_str));
        rex.finish(rex.command(&all), b"")
    };
    let run = explain(&["--principal", "reader", "read", "{data}/small/big", "--attribute", "size=13"]);
    for part in [
        "permit small",
        "does not apply: its condition does not hold",
        "false: resource.size < 10",
        "permit open",
        "does not apply: it is about",
        "denied: condition_failed by small",
    ] {
        assert!(run.ends(77).stdout.contains(part), "{part}: {run:#?}");
    }
    assert!(
        explain(&["--principal", "reader", "read", "{data}/small/x", "--attribute", "size=3"]).ends(0).stdout.contains("allowed by small")
    );
    let run = explain(&["--principal", "reader", "read", "{data}/open/secret", "-o", "json"]);
    assert_eq!((run.ends(77).json()["why"].as_str(), run.json()["policies"][0].as_str()), (Some("forbidden"), Some("secret")), "{run:#?}");
    let run = explain(&["--principal", "reader", "stat", "{data}/x", "--context", "session.mode=nowhere"]);
    assert!(run.ends(0).stdout.contains("allowed by mode"), "{run:#?}");
    assert_eq!(explain(&["--principal", "reader", "read", "/x", "--attribute", "sise=3"]).code, 2);
    assert_eq!(explain(&["--principal", "reader", "read", "/x", "--attribute", "size=three"]).code, 2);
    let reference = ask(&rex, "reader", "rex -o json", "cat(\"{data}/open/secret\")").json()["error"]["ref"].as_str().unwrap().to_owned();
    let run = explain(&["--ref", &reference]);
    assert!(run.ends(77).stdout.contains("denied: forbidden by secret"), "{run:#?}");
}

#[test]
fn a_dry_run_reads_judges_and_shows_and_changes_nothing() {
    needs_root!();
    let policy = format!(
        "{ALLOW_ALL}\n@hint(\"not this\") forbid(principal, action == file_system::Action::\"delete\", resource == file_system::File::\"{{data}}/tree/keep\");"
    );
    let rex = Rex::new()
        .config("identity = [\"argument\"]")
        .policy(&policy)
        .file("conf", "a=1\n")
        .file("tree/a", "")
        .file("tree/keep", "")
        .file("other/x/y", "");
    let script = "let seen = cat(\"{data}/conf\");\nlet set = set_key(\"{data}/conf\", \"a\", \"2\");\nwrite(\"{data}/new\", \"text\");\nlet gone = rm(\"{data}/other\", #{recursive: true});\nlet ran = exec(\"/usr/bin/touch\", [\"{data}/touched\"]);\n[seen, set.changed, gone.removed, ran.dry_run]";
    let run = ask(&rex, "reader", "rex run --dry-run -o json", script);
    run.gives(serde_json::json!(["a=1\n", true, 3, true]));
    assert_eq!(run.json()["dry_run"], true);
    let would = run.json()["would_change"].clone();
    let told: Vec<(u64, &str)> =
        would.as_array().unwrap().iter().map(|it| (it["at"]["line"].as_u64().unwrap(), it["function"].as_str().unwrap())).collect();
    assert_eq!(told, [(2, "set_key"), (3, "write"), (4, "rm"), (5, "exec")], "{would:#}");
    assert!(would[0]["diff"].as_str().unwrap().contains("-a=1\n+a=2\n"), "{would:#}");
    assert_eq!(rex.read("conf"), "a=1\n");
    assert!(rex.exists("other/x/y") && !rex.exists("new") && !rex.exists("touched"));
    let effects = run.events("effect");
    assert!(effects.len() == 4 && effects.iter().all(|effect| effect["result"] == "dry_run"), "{effects:#?}");
    assert!(effects[0]["detail"].as_str().unwrap().contains("a=2"), "the difference is on record: {effects:#?}");
    // What would be denied is denied.
    let run = ask(&rex, "reader", "rex run --dry-run -o json", "rm(\"{data}/tree\", #{recursive: true})");
    assert_eq!(run.is_denied().json()["error"]["hint"], "not this");
    let human = ask(&rex, "reader", "rex --dry-run", "write(\"{data}/conf\", \"b=2\\n\"); ()");
    assert!(
        human
            .ends(0)
            .stderr
            .contains("dry run: nothing was changed; 1 change would be made:\n  line 1: write: file_system::Action::\"write\" on"),
        "{human:#?}"
    );
    // The same through the real door and for an account without rights.
    assert_eq!(rex.read("conf"), "a=1\n");
    let owner = rex.run_with(&["--dry-run"], "write(\"{data}/conf\", \"x\"); 1");
    assert_eq!(owner.ends(0).json()["would_change_count"], 1);
    assert_eq!(rex.read("conf"), "a=1\n");
}

#[test]
fn through_ssh_an_account_without_rights_is_denied_asks_why_and_runs_dry() {
    needs_root!();
    let account = Account::new();
    let rex = host().account(&account);
    let key = Key::new(&rex, "key");
    let store = rex.root().join("denials");
    std::fs::create_dir(&store).unwrap();
    std::os::unix::fs::chown(&store, Some(0), Some(account.gid)).unwrap();
    std::fs::set_permissions(&store, std::os::unix::fs::PermissionsExt::from_mode(0o3770)).unwrap();
    let sshd = Sshd::start(&rex, "");
    let (program, config) = (rex.program().display().to_string(), rex.config_file().display().to_string());
    sshd.authorize(&account.name, &format!("restrict,command=\"exec {program} session --config {config} --principal reader\""), &key);
    let ssh = |rex: &Rex, request: &[&str], script: &str| sshd.ssh(rex, &account.name, &key, &["-T"], request, script);
    let denied = ssh(&rex, &["rex", "-o", "json"], "cat(\"{data}/small/big\")");
    let error = denied.ends(77).json()["error"].clone();
    assert_eq!(error["nearest"]["policy"], "small", "{denied:#?}");
    let why = ssh(&rex, &["rex", "why", error["ref"].as_str().unwrap()], "");
    assert!(why.ends(0).stdout.contains("not met: resource.size < 10"), "{why:#?}");
    let can = ssh(&rex, &["rex", "can"], "");
    assert!(can.ends(0).stdout.contains("  read on in "), "{can:#?}");
    let rex = rex.policy(ALLOW_ALL);
    let dry = ssh(&rex, &["rex", "run", "--dry-run", "-o", "json"], "write(\"{data}/new\", \"x\"); 1");
    assert_eq!(dry.ends(0).json()["would_change_count"], 1, "{dry:#?}");
    assert!(!rex.exists("new"));
}
