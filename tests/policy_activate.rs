//! `rex policy activate`: a set counts at once and whole, or not at all; what was in force can be had back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Rex, Run, is_root};
use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

const NAMES: &str = r#"@id("names") permit(principal, action == file_system::Action::"read", resource == file_system::File::"{data}/a");"#;
const OTHERS: &str =
    r#"@id("others") permit(principal, action == file_system::Action::"read", resource == file_system::File::"{data}/b");"#;

/// A host with the policy `NAMES` in force, and a function that writes a set elsewhere.
fn host() -> Rex {
    Rex::new().policy(NAMES).file("a", "A").file("b", "B")
}

fn set(rex: &Rex, name: &str, files: &[(&str, &str)]) -> String {
    let folder = rex.root().join(name);
    fs::create_dir_all(&folder).unwrap();
    for (file, text) in files {
        fs::write(folder.join(file), rex.fill(text)).unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

fn activate(rex: &Rex, arguments: &[&str]) -> Run {
    let config = rex.config_file();
    let mut words = vec!["policy", "activate", "--config", config.to_str().unwrap()];
    words.extend(arguments);
    rex.finish(rex.command(&words), b"")
}

/// What a session may read now: of `a` and `b`.
fn may(rex: &Rex) -> String {
    let read = |name: &str| rex.session(None, &[], Some(&format!("rex -e 'cat(\"{}\")'", rex.path(name))), "").code == 0;
    ["a", "b"].iter().filter(|name| read(name)).copied().collect()
}

#[test]
fn a_set_is_put_in_force_and_can_be_taken_back() {
    if !is_root() {
        return;
    }
    let rex = host();
    assert_eq!(may(&rex), "a");
    let new = set(&rex, "new", &[("others.cedar", OTHERS), ("README", "no policy"), (".hidden.cedar", "nonsense")]);
    let done = activate(&rex, &[&new]);
    done.ends(0);
    assert!(done.stdout.contains("in force: 1 policy") && done.stdout.contains("--rollback"), "{}", done.stdout);
    assert_eq!(may(&rex), "b");
    // Only what is a set was copied.
    let mut names: Vec<String> =
        fs::read_dir(rex.root().join("etc/policies")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["others.cedar"]);
    let again = activate(&rex, &[&new]);
    again.ends(0);
    assert!(again.stdout.starts_with("already in force"), "{}", again.stdout);
    activate(&rex, &["--rollback"]).ends(0);
    assert_eq!(may(&rex), "a");
    activate(&rex, &["--rollback"]).ends(0);
    assert_eq!(may(&rex), "b");
    // Each change is on record with what it changes.
    let changes: Vec<_> = rex.audit().into_iter().filter(|record| record["event"] == "policy_change").collect();
    let what: Vec<_> = changes.iter().map(|record| record["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["activated", "rolled_back", "rolled_back"]);
    assert_eq!(changes[0]["to"], changes[1]["from"]);
    assert_eq!(changes[0]["from"], changes[1]["to"]);
    // Nothing is left of the way there.
    let left: Vec<_> = fs::read_dir(rex.root().join("etc")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
}

#[test]
fn an_unfit_set_changes_nothing_and_says_why() {
    if !is_root() {
        return;
    }
    let rex = host();
    for (name, files, exit, says) in [
        ("broken", &[("x.cedar", "permit(principal")][..], 78, "x.cedar:1"),
        ("invalid", &[("x.cedar", r#"permit(principal, action == file_system::Action::"raed", resource);"#)][..], 78, "raed"),
        ("empty", &[("notes.txt", "")][..], 78, "no *.cedar file"),
    ] {
        let folder = set(&rex, name, files);
        let refused = activate(&rex, &[&folder]);
        refused.ends(exit);
        assert!(refused.stderr.contains(says) && refused.stderr.contains("nothing has changed"), "{}", refused.stderr);
        assert_eq!(may(&rex), "a");
    }
    activate(&rex, &["/nowhere"]).ends(2);
    activate(&rex, &["--rollback"]).ends(78);
    assert_eq!(may(&rex), "a");
    assert!(!rex.root().join("etc/policies.previous").exists());
}

#[test]
fn without_a_record_nothing_is_activated() {
    if !is_root() {
        return;
    }
    let rex = host();
    let new = set(&rex, "new", &[("others.cedar", OTHERS)]);
    let config = fs::read_to_string(rex.config_file()).unwrap();
    let audit = rex.audit_file();
    fs::write(rex.config_file(), config.replace(audit.to_str().unwrap(), "/dev/full")).unwrap();
    activate(&rex, &[&new]).ends(78);
    fs::write(rex.config_file(), config).unwrap();
    assert_eq!(may(&rex), "a");
}

#[test]
fn a_set_that_is_invalid_now_can_be_replaced() {
    if !is_root() {
        return;
    }
    let rex = host();
    fs::write(rex.policy_file(), "nonsense").unwrap();
    assert_eq!(may(&rex), "");
    let new = set(&rex, "new", &[("others.cedar", OTHERS)]);
    activate(&rex, &[&new]).ends(0);
    assert_eq!(may(&rex), "b");
    // Going back to what is not valid is refused.
    activate(&rex, &["--rollback"]).ends(78);
    assert_eq!(may(&rex), "b");
}

#[test]
fn sessions_see_one_set_or_the_other_while_sets_change() {
    if !is_root() {
        return;
    }
    let rex = host();
    // Each set is valid only as a whole: its two files share no id, a mixture of two sets has ids twice.
    let files = |one: &str, other: &str| {
        [("1.cedar", OTHERS.replace("others", one)), ("2.cedar", OTHERS.replace("others", other))].map(|(name, text)| (name, text))
    };
    let one = files("x", "y");
    let two = files("y", "x");
    let one = set(&rex, "one", &one.each_ref().map(|(name, text)| (*name, text.as_str())));
    let two = set(&rex, "two", &two.each_ref().map(|(name, text)| (*name, text.as_str())));
    activate(&rex, &[&one]).ends(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..30 {
                activate(&rex, &[&two]).ends(0);
                activate(&rex, &[&one]).ends(0);
            }
            stop.store(true, Ordering::SeqCst);
        });
        let mut seen = 0;
        while !stop.load(Ordering::SeqCst) || seen < 5 {
            rex.session(None, &[], Some("rex -e 1"), "").ends(0);
            seen += 1;
        }
    });
}

#[test]
fn two_activations_at_one_time_do_not_mix() {
    if !is_root() {
        return;
    }
    let rex = host();
    let folder = fs::File::open(rex.root().join("etc")).unwrap();
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let new = set(&rex, "new", &[("others.cedar", OTHERS)]);
    let busy = activate(&rex, &[&new]);
    busy.ends(75);
    assert!(busy.stderr.contains("another activation"), "{}", busy.stderr);
    drop(folder);
    activate(&rex, &[&new]).ends(0);
}

/// A session of root that does `each` ten times a second for at most 20 seconds, and what it gave; `change` happens once it has begun.
fn while_running(rex: &Rex, arguments: &[&str], each: &str, change: impl FnOnce()) -> Run {
    let script = rex.fill(&format!("print(\"begun\"); for i in 0..200 {{ {each} sleep(0.1); }} print(\"to the end\");"));
    let before = rex.audit().len();
    let mut command = rex.session_command(None, arguments, Some("rex"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    // It has begun when a decision of it is on record.
    let begun = std::time::Instant::now();
    while !rex.audit().iter().skip(before).any(|record| record["event"] == "decision") {
        assert!(begun.elapsed().as_secs() < 20, "it never began");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    change();
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        audit: rex.audit().split_off(before),
        seconds: begun.elapsed().as_secs_f64(),
    }
}

#[test]
fn what_is_revoked_stops_working_in_a_session_that_is_under_way() {
    if !is_root() {
        return;
    }
    let rex = host().policy(&format!("{NAMES}\n{OTHERS}"));
    let left = set(&rex, "left", &[("left.cedar", OTHERS)]);
    // `b` is permitted before and after, `a` no more.
    let each = "cat(\"{data}/b\"); try { cat(\"{data}/a\"); } catch (e) { print(e.kind + \" \" + i); cat(\"{data}/b\"); exit(0); }";
    let run = while_running(&rex, &[], each, || {
        activate(&rex, &[&left]).ends(0);
    });
    run.ends(0);
    assert!(run.stdout.contains("denied "), "{run:#?}");
    let seen: Vec<_> = run.audit.iter().filter(|record| record["event"] == "policy_change" && record["what"] == "seen").collect();
    assert_eq!(seen.len(), 1, "{run:#?}");
    let denial = run.audit.iter().find(|record| record["decision"] == "deny").unwrap();
    assert_eq!(denial["why"], "not_permitted");
    assert_eq!(run.events("run_end")[0]["denials"], 1);
}

#[test]
fn following_a_file_ends_when_it_is_revoked() {
    if !is_root() {
        return;
    }
    let rex = host().policy(&format!("{NAMES}\n{OTHERS}"));
    let left = set(&rex, "left", &[("left.cedar", OTHERS)]);
    let each = "try { follow(\"{data}/a\", #{seconds: 30}); } catch (e) { print(e.kind); exit(0); }";
    let run = while_running(&rex, &[], each, || {
        activate(&rex, &[&left]).ends(0);
    });
    run.ends(0);
    assert!(run.stdout.contains("denied"), "{run:#?}");
}

#[test]
fn what_is_permitted_later_counts_for_later_sessions_only() {
    if !is_root() {
        return;
    }
    let rex = host();
    let more = set(&rex, "more", &[("more.cedar", &format!("{NAMES}\n{OTHERS}"))]);
    let each = "cat(\"{data}/a\"); try { cat(\"{data}/b\"); print(\"got it\"); } catch (e) { } if i > 60 { exit(0); }";
    let run = while_running(&rex, &[], each, || {
        activate(&rex, &[&more]).ends(0);
    });
    run.ends(0);
    assert!(!run.stdout.contains("got it"), "{run:#?}");
    assert!(run.audit.iter().any(|record| record["what"] == "seen"), "{run:#?}");
    assert_eq!(may(&rex), "ab");
}

#[test]
fn a_session_ends_when_the_set_is_invalid_or_its_caller_is_somebody_else() {
    if !is_root() {
        return;
    }
    let people = |groups: &str| format!("default = \"refuse\"\n[[principal]]\nname = \"alice\"\ngroups = [{groups}]\n");
    let rex = Rex::new().config("identity = [\"argument\"]\n").policy(NAMES).principals(&people("\"oncall\"")).file("a", "A");
    let each = "cat(\"{data}/a\");";
    let arguments = ["--principal", "alice"];
    let invalid = while_running(&rex, &arguments, each, || fs::write(rex.policy_file(), "nonsense").unwrap());
    invalid.ends(130);
    fs::write(rex.policy_file(), rex.fill(NAMES)).unwrap();
    let outside = while_running(&rex, &arguments, each, || fs::write(rex.root().join("etc/principals.toml"), people("")).unwrap());
    outside.ends(130);
    assert!(!outside.stdout.contains("to the end"), "{outside:#?}");
    assert!(outside.events("refused").iter().any(|record| record["message"].as_str().unwrap().contains("principals.toml")), "{outside:#?}");
}
