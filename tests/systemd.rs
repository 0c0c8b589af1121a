//! The services and logs of a real systemd, through the binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Rex, Systemd};

#[test]
fn the_test_hosts_systemd_boots_with_its_services_and_leaves_the_machine_alone() {
    needs_namespaces!();
    let mark = tempfile::Builder::new().prefix("rex-mark").tempfile_in("/tmp").unwrap();
    let rex = Rex::new();
    let systemd = Systemd::boot(&rex, &[]);
    assert_eq!(systemd.exec(&["cat", "/proc/1/comm"]).ends(0).stdout, "systemd\n");
    assert_eq!(systemd.exec(&["systemctl", "start", "rextest-ok"]).code, 0);
    assert_eq!(systemd.exec(&["systemctl", "is-active", "rextest-ok"]).stdout, "active\n");
    assert_eq!(systemd.exec(&["systemctl", "start", "rextest-once"]).code, 0);
    assert_eq!(systemd.exec(&["journalctl", "-u", "rextest-once", "-o", "cat", "--no-pager", "-t", "echo"]).stdout, "the job was done\n");
    assert_eq!(systemd.exec(&["systemctl", "is-active", "rextest-fails"]).stdout, "inactive\n");
    systemd.exec(&["systemctl", "start", "rextest-fails"]);
    assert!(common::until(5.0, || systemd.exec(&["systemctl", "is-failed", "rextest-fails"]).stdout == "failed\n"));
    assert!(!systemd.exec(&["test", "-e", mark.path().to_str().unwrap()]).code.eq(&0), "the machine's /tmp is seen inside");
    let pid = systemd.pid();
    drop(systemd);
    assert!(common::until(5.0, || !common::alive(pid)));
    assert!(mark.path().exists());
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("rex-test-"), "a mount was left behind");
}

/// Everything of one service but stopping it, nothing of the others.
const OK_ONLY: &str = r#"
permit(principal, action, resource) when { resource is systemd::Service && resource.name == "rextest-ok.service" };
forbid(principal, action == systemd::Action::"stop", resource);
"#;

#[test]
fn services_are_started_and_stopped_as_the_policy_says_and_the_host_agrees() {
    needs_namespaces!();
    let rex = Rex::new().policy(OK_ONLY);
    let systemd = Systemd::boot(&rex, &[]);
    let state = |unit: &str| systemd.exec(&["systemctl", "is-active", unit]).stdout.trim().to_owned();
    assert_eq!(state("rextest-ok"), "inactive");
    assert_eq!(systemd.run(&rex, "service_start(\"rextest-ok.service\")").code, 0);
    assert_eq!(state("rextest-ok"), "active");
    let pid = |unit: &str| systemd.exec(&["systemctl", "show", "-P", "MainPID", unit]).stdout;
    let before = pid("rextest-ok");
    assert_eq!(systemd.run(&rex, "service_restart(\"rextest-ok.service\")").code, 0);
    assert_ne!(pid("rextest-ok"), before, "the service was not restarted");
    assert!(systemd.run(&rex, "service_status(\"rextest-ok.service\").to_json()").ends(0).stdout.contains("active"));

    systemd.run(&rex, "service_stop(\"rextest-ok.service\")").is_denied();
    assert_eq!(state("rextest-ok"), "active");
    for spelling in [
        "rextest-once.service",
        "rextest-once",
        "rextest-once.timer",
        "reboot.target",
        "rextest-ok.service/../rextest-once.service",
        "rextest-ok.service rextest-once.service",
    ] {
        let run = systemd.run(&rex, &format!("service_start(\"{spelling}\")"));
        assert!([1, 77].contains(&run.code), "{spelling}: {run:#?}");
    }
    assert_eq!(systemd.exec(&["journalctl", "-u", "rextest-once", "-o", "cat", "--no-pager", "-q"]).stdout, "", "the other service ran");
}

/// One connection serves them all, and what waits for a job holds up nobody else.
#[test]
fn branches_use_the_bus_side_by_side() {
    needs_namespaces!();
    let rex = Rex::new().policy(common::ALLOW_ALL);
    let slow = "[Service]\nType=oneshot\nExecStart=/bin/sleep 30\n";
    let systemd = Systemd::boot(&rex, &[("rextest-slow.service", slow)]);
    let run = systemd.run(
        &rex,
        r#"parallel([
            || { try { service_start("rextest-slow.service", #{timeout: 3}) } catch (e) { return e.kind } },
            || { let n = 0; for i in 0..20 { if service_status("rextest-slow.service").active_state == "activating" { n += 1; } } n > 0 },
            || service_start("rextest-ok.service").result,
            || services(#{pattern: ["rextest-*"]}).len() > 1,
        ])"#,
    );
    run.ends(0);
    assert!(run.stdout.contains("timeout") && run.stdout.contains("done"), "{run:#?}");
}

#[test]
fn a_service_that_fails_or_takes_its_time_is_reported_as_it_is() {
    needs_namespaces!();
    let rex = Rex::new().policy(common::ALLOW_ALL);
    let systemd = Systemd::boot(&rex, &[("rextest-bad.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n")]);
    let run = systemd.run(&rex, "service_start(\"rextest-bad.service\")");
    assert!(run.code == 1 && run.stdout.contains("job_failed"), "{run:#?}");
    let run = systemd.run(&rex, "service_start(\"rextest-slow.service\")");
    assert!(run.code == 0 && run.seconds >= 2.5, "the job was not waited for: {run:#?}");
    let run = systemd.run(&rex, "service_restart(\"rextest-slow.service\", #{timeout: 1})");
    assert!(run.code == 75 && run.seconds < 2.9, "{run:#?}");
    let run = systemd.run(&rex, "service_status(\"rextest-nonesuch.service\")");
    assert!(run.code == 1 && run.stdout.contains("not_found") || run.code == 0, "{run:#?}");
}

#[test]
fn the_journal_is_read_as_far_as_the_policy_goes() {
    needs_namespaces!();
    let rex = Rex::new().policy(common::ALLOW_ALL);
    let systemd = Systemd::boot(&rex, &[]);
    assert_eq!(systemd.exec(&["systemctl", "start", "rextest-once"]).code, 0);
    let script = "journal(#{unit: \"rextest-once.service\"}).to_json()";
    assert!(common::until(10.0, || systemd.run(&rex, script).stdout.contains("the job was done")), "{:#?}", systemd.run(&rex, script));
    let rex = rex.policy("permit(principal, action == sysinfo::Action::\"list\", resource);");
    let run = systemd.run(&rex, script);
    run.is_denied();
    assert!(!run.stdout.contains("the job was done"), "{run:#?}");
}

#[test]
fn without_systemd_its_functions_say_so() {
    let rex = Rex::new().policy(common::ALLOW_ALL);
    if std::path::Path::new("/run/systemd/system").exists() {
        eprintln!("skipped: this machine runs systemd");
        return;
    }
    assert_eq!(rex.run("service_status(\"x.service\")").code, 69);
    rex.run("try { service_status(\"x.service\") } catch (e) { return e.kind }").gives("unsupported");
}

#[test]
fn an_alias_is_judged_as_the_unit_that_it_stands_for() {
    needs_namespaces!();
    let policy = r#"permit(principal, action, resource) when { resource is systemd::Service && resource.name == "harmless.service" };"#;
    let rex = Rex::new().policy(policy);
    let systemd = Systemd::boot(&rex, &[]);
    assert_eq!(systemd.exec(&["ln", "-s", "rextest-ok.service", "/etc/systemd/system/harmless.service"]).code, 0);
    assert_eq!(systemd.exec(&["systemctl", "daemon-reload"]).code, 0);
    systemd.run(&rex, r#"service_start("harmless.service")"#).is_denied();
    assert_eq!(systemd.exec(&["systemctl", "is-active", "rextest-ok"]).stdout, "inactive\n");
    let rex = Rex::new().policy(OK_ONLY);
    let systemd = Systemd::boot(&rex, &[]);
    assert_eq!(systemd.exec(&["ln", "-s", "rextest-ok.service", "/etc/systemd/system/harmless.service"]).code, 0);
    assert_eq!(systemd.exec(&["systemctl", "daemon-reload"]).code, 0);
    assert!(systemd.run(&rex, r#"service_start("harmless.service").unit"#).ends(0).stdout.contains("rextest-ok.service"));
    assert_eq!(systemd.exec(&["systemctl", "is-active", "rextest-ok"]).stdout, "active\n");
}
