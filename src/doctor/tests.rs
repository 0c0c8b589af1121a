//! Checks of what no test can make of a real host: kernels and clocks, made up.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::survey::Asked;
use super::*;

/// What one check says of this host with another kernel.
fn with(id: &str, change: impl FnOnce(&mut crate::host::kernel::Kernel)) -> Vec<String> {
    // An account that is none: nobody is looked at, sshd is not asked.
    let mut survey = Survey::of_host(&Asked { users: vec!["no such account".into()], ..Asked::default() }).unwrap();
    change(&mut survey.kernel);
    let check = checks().find(|check| check.id == id).unwrap();
    let mut notes = Notes { check, account: None, findings: Vec::new(), blind: Vec::new() };
    let Judge::Host(judge) = check.judge else { panic!("{id} is about accounts") };
    judge(&survey, &mut notes);
    notes.findings.into_iter().map(|finding| finding.detail).chain(notes.blind.into_iter().map(|blind| blind.why)).collect()
}

#[test]
fn kernels_are_judged() {
    assert_eq!(with("landlock-old", |kernel| kernel.landlock = Some(2)).len(), 1);
    assert!(
        with("landlock-old", |kernel| kernel.landlock = Some(6)).is_empty()
            && with("landlock-old", |kernel| kernel.landlock = None).is_empty()
    );
    assert_eq!(with("audit-sessions", |kernel| kernel.numbers_sessions = false).len(), 1);
    assert!(with("audit-sessions", |kernel| kernel.numbers_sessions = true).is_empty());
    assert_eq!(with("clock", |kernel| kernel.clock_synchronised = Some(false)).len(), 1);
    assert_eq!(with("clock", |kernel| kernel.clock_synchronised = None).len(), 1, "what is not known does not pass");
    assert!(with("clock", |kernel| kernel.clock_synchronised = Some(true)).is_empty());
    assert_eq!(with("layer-missing", |kernel| (kernel.landlock, kernel.seccomp) = (None, false)).len(), 2);
    assert!(with("layer-missing", |kernel| (kernel.landlock, kernel.seccomp) = (Some(1), true)).is_empty());
}

#[test]
fn every_row_says_what_it_should() {
    let mut seen = Vec::new();
    for check in checks() {
        assert!(check.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{}", check.id);
        assert!(!seen.contains(&check.id), "{} is there twice", check.id);
        seen.push(check.id);
        for text in [check.title, check.attack, check.mend] {
            assert!(!text.is_empty() && !text.ends_with('.') && !text.contains('\n'), "{}: {text}", check.id);
        }
        assert!(!check.refuses || check.severity <= Severity::High, "{}: what stops everything is high at least", check.id);
    }
}

#[test]
fn the_exit_code_tells_refusals_findings_and_what_was_not_seen_apart() {
    let finding = |id: &str| Finding {
        check: checks().find(|check| check.id == id).unwrap(),
        account: None,
        place: None,
        detail: String::new(),
        mend: String::new(),
    };
    let report = |ids: &[&str], blind: bool| Report {
        findings: ids.iter().map(|id| finding(id)).collect(),
        blind: if blind { vec![Blind { check: "clock", account: None, why: String::new() }] } else { Vec::new() },
        passed: Vec::new(),
    };
    assert_eq!(report(&[], false).exit(), 0);
    assert_eq!(report(&["clock", "keys-missing"], false).exit(), 0, "low and info");
    assert_eq!(report(&["permit-tty"], true).exit(), 1);
    assert_eq!(report(&["permit-tty", "policy-missing"], false).exit(), 78);
    assert_eq!(report(&["clock"], true).exit(), 78);
}
