//! The journal of a real systemd, read through the binary, beside what journalctl says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Rex, Systemd};

const OWN_LOG: &str = r#"permit(principal, action == journal::Action::"read", resource == journal::Log::"rextest-once.service");"#;
const ALL_BUT_ONE: &str = r#"
permit(principal, action == journal::Action::"read", resource == journal::Log::"system");
forbid(principal, action == journal::Action::"read", resource == journal::Log::"rextest-once.service");
"#;
const MESSAGES_ONLY: &str = r#"
permit(principal, action == journal::Action::"read", resource) when { !context.all_fields && context.priority <= 6 && !context.fields.contains("_CMDLINE") };
"#;

#[test]
fn a_log_is_read_as_journalctl_reads_it_and_no_other_is_without_a_permit() {
    needs_namespaces!();
    let rex = Rex::new().policy(OWN_LOG);
    let systemd = Systemd::boot(&rex, &[]);
    assert_eq!(systemd.exec(&["systemctl", "start", "rextest-once", "rextest-ok"]).code, 0);
    let told = systemd.exec(&["journalctl", "-u", "rextest-once", "-o", "cat", "--no-pager"]).stdout;
    let run = systemd.run(&rex, r#"for e in journal(#{unit: "rextest-once"}) { print(e.message) }"#);
    run.ends(0);
    assert!(told.contains("the job was done"), "{told}");
    for line in told.lines() {
        assert!(run.stdout.contains(line), "journalctl tells {line:?}: {run:#?}");
    }
    assert!(!run.stdout.contains("rextest-ok"), "{run:#?}");
    for other in [
        r#"journal(#{unit: "rextest-ok"})"#,
        r#"journal(#{unit: ["rextest-once", "rextest-ok"]})"#,
        "journal()",
        "journal(#{kernel: true})",
        "journal_boots()",
        "journal_disk_usage()",
    ] {
        systemd.run(&rex, other).is_denied();
    }
}

#[test]
fn a_log_that_is_forbidden_is_not_in_the_whole_journal_either() {
    needs_namespaces!();
    let rex = Rex::new().policy(ALL_BUT_ONE);
    let systemd = Systemd::boot(&rex, &[]);
    assert_eq!(systemd.exec(&["systemctl", "start", "rextest-once", "rextest-ok"]).code, 0);
    let run = systemd.run(&rex, "for e in journal(#{lines: 10000}) { print(e.message) }");
    run.ends(0);
    assert!(run.stdout.contains("Started rextest-ok.service"), "{run:#?}");
    assert!(!run.stdout.contains("the job was done") && !run.stdout.contains("Starting rextest-once"), "{run:#?}");
    systemd.run(&rex, r#"journal(#{unit: "rextest-once"})"#).is_denied();
    // Nor does anything tell what its entries say: not a number, not the room that they take.
    let told = |pattern: &str| {
        let script = format!(
            r#"let told = []; for lines in [0, 1, 1000] {{ told.push(journal(#{{grep: "{pattern}|Started rextest-ok", lines: lines}}).len()); }} told"#
        );
        let run = systemd.run(&rex, &script);
        let result = run.ends(0).json();
        (result["value"].to_string(), result["logs"].to_string().contains("withheld"))
    };
    assert_eq!(told("the job was done"), told("nothing says this"));
    assert_eq!(told("the job was done"), ("[0,1,1]".to_owned(), false));
}

#[test]
fn a_policy_can_hold_a_caller_to_fields_and_levels() {
    needs_namespaces!();
    let rex = Rex::new().policy(MESSAGES_ONLY);
    let systemd = Systemd::boot(&rex, &[]);
    systemd.run(&rex, r#"journal(#{priority: "info", lines: 3})"#).ends(0);
    for more in
        [r#"journal(#{lines: 3})"#, r#"journal(#{priority: "info", fields: "*"})"#, r#"journal(#{priority: "info", fields: ["_CMDLINE"]})"#]
    {
        systemd.run(&rex, more).is_denied();
    }
}
