//! Unit files, timers, dependencies and the growing journal of a real systemd, beside what systemctl and journalctl say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Rex, Run, Systemd};
use serde_json::Value;

/// Everything of one service but masking it, nothing of the others.
const OK_ONLY: &str = r#"
permit(principal, action, resource) when { resource is systemd::Service && resource.name == "rextest-ok.service" };
forbid(principal, action == systemd::Action::"mask", resource);
"#;

fn text(systemd: &Systemd, words: &[&str]) -> String {
    systemd.exec(words).stdout.trim().to_owned()
}

#[track_caller]
fn value(run: &Run) -> Value {
    run.ends(0);
    run.value()
}

#[test]
fn units_are_enabled_and_masked_as_the_policy_says_and_the_host_agrees() {
    needs_namespaces!();
    let rex = Rex::new().policy(OK_ONLY);
    let also = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\nAlias=rextest-other-name.service\n";
    let systemd = Systemd::boot(&rex, &[("rextest-alias.service", also)]);
    let enabled = |unit: &str| text(&systemd, &["systemctl", "is-enabled", unit]);
    let files = || text(&systemd, &["find", "/etc/systemd/system", "/run/systemd/system", "-printf", "%p %l\n"]);
    assert_eq!(enabled("rextest-ok"), "disabled");

    let done = value(&systemd.run(&rex, r#"service_enable("rextest-ok")"#));
    assert_eq!(
        (&done["unit"], &done["changed"], &done["installable"]),
        (&"rextest-ok.service".into(), &true.into(), &true.into()),
        "{done:#}"
    );
    assert_eq!(
        (&done["before"], &done["unit_file_state"], &done["reloaded"]),
        (&"disabled".into(), &"enabled".into(), &true.into()),
        "{done:#}"
    );
    assert_eq!(done["changes"][0]["change"], "symlink", "{done:#}");
    let link = done["changes"][0]["path"].as_str().unwrap();
    assert!(text(&systemd, &["readlink", link]).ends_with("rextest-ok.service"), "{done:#}");
    assert_eq!(enabled("rextest-ok"), "enabled");
    // It was not started, and a second time changes nothing.
    assert_eq!(text(&systemd, &["systemctl", "is-active", "rextest-ok"]), "inactive");
    let again = value(&systemd.run(&rex, r#"service_enable("rextest-ok.service")"#));
    assert_eq!((&again["changed"], &again["reloaded"]), (&false.into(), &false.into()), "{again:#}");

    // What is denied leaves no link, and is on record.
    let before = files();
    for denied in [
        r#"service_mask("rextest-ok")"#,
        r#"service_mask("rextest-ok", #{runtime: true, force: true})"#,
        r#"service_enable("rextest-alias")"#,
        r#"service_enable("rextest-once.timer")"#,
        r#"service_disable("rextest-once.timer")"#,
        r#"service_unmask("rextest-nonesuch")"#,
    ] {
        systemd.run(&rex, denied).is_denied();
    }
    for odd in ["/etc/passwd", "../x.service", "rextest-ok.service/../../x", "a b.service", "*"] {
        systemd.run(&rex, &format!("service_enable(\"{odd}\")")).ends(1);
    }
    assert_eq!(files(), before);
    let run = systemd.run_with(&rex, &["--dry-run"], r#"service_disable("rextest-ok")"#);
    assert_eq!(run.json()["would_change_count"], 1, "{run:#?}");
    assert_eq!(files(), before);

    let done = systemd.run(&rex, r#"service_disable("rextest-ok")"#);
    assert_eq!(value(&done)["changes"][0]["change"], "unlink", "{done:#?}");
    assert_eq!(enabled("rextest-ok"), "disabled");
    let effect = done.events("effect");
    assert!(effect.iter().any(|record| record["detail"].as_str().unwrap_or("").contains("unlink /etc/systemd")), "{done:#?}");

    // Where a policy forbids reading unit files again, that is not done by the way.
    let rex = rex.policy(&format!("{}\nforbid(principal, action == systemd::Action::\"daemon_reload\", resource);", common::ALLOW_ALL));
    let done = value(&systemd.run(&rex, r#"service_enable("rextest-alias")"#));
    assert_eq!((&done["changed"], &done["reloaded"]), (&true.into(), &false.into()), "{done:#}");
    assert_eq!(systemd.exec(&["systemctl", "daemon-reload"]).code, 0);
    // By its alias it is the same unit, and every link of it goes.
    let done = value(&systemd.run(&rex, r#"service_disable("rextest-other-name")"#));
    assert_eq!((&done["unit"], &done["changed"]), (&"rextest-alias.service".into(), &true.into()), "{done:#}");
    assert_eq!(enabled("rextest-alias"), "disabled");

    let rex = rex.policy(common::ALLOW_ALL);
    // The unit's own file is in the way of a link in /etc, not of one in /run.
    systemd.run(&rex, r#"try { service_mask("rextest-ok") } catch (e) { return e.kind }"#).gives("exists");
    let done = value(&systemd.run(&rex, r#"service_mask("dbus.socket", #{runtime: true})"#));
    assert_eq!((&done["changed"], &done["unit_file_state"]), (&true.into(), &"masked-runtime".into()), "{done:#}");
    assert_eq!(enabled("dbus.socket"), "masked-runtime");
    assert_eq!(value(&systemd.run(&rex, r#"service_unmask("dbus.socket", #{runtime: true})"#))["changed"], true);
    assert_ne!(enabled("dbus.socket"), "masked-runtime");
    // A unit without [Install] has nothing to be enabled by.
    let done = value(&systemd.run(&rex, r#"service_enable("rextest-reload")"#));
    assert_eq!(
        (&done["changed"], &done["installable"], &done["unit_file_state"]),
        (&false.into(), &false.into(), &"static".into()),
        "{done:#}"
    );
    systemd.run(&rex, r#"try { service_enable("rextest-nonesuch") } catch (e) { return e.kind }"#).gives("not_found");
}

#[test]
fn what_systemd_tells_is_told_as_systemctl_tells_it() {
    needs_namespaces!();
    let rex = Rex::new().policy(common::ALLOW_ALL);
    let socket = "[Unit]\nDescription=A socket\n[Socket]\nListenStream=/run/rextest.sock\nAccept=yes\n[Install]\nWantedBy=sockets.target\n";
    let systemd = Systemd::boot(
        &rex,
        &[
            ("rextest-sock.socket", socket),
            ("rextest-sock@.service", "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n"),
            (
                "rextest-needs.service",
                "[Unit]\nRequires=rextest-ok.service\nWants=rextest-nonesuch.service rextest-once.service\nAfter=rextest-ok.service\n[Service]\nExecStart=/bin/sleep infinity\n",
            ),
            ("rextest-boot.timer", "[Timer]\nOnActiveSec=1h 30min\nUnit=rextest-ok.service\n"),
        ],
    );
    let drop_in = "mkdir -p /etc/systemd/system/rextest-ok.service.d && printf '[Service]\\nEnvironment=A=b\\n' >/etc/systemd/system/rextest-ok.service.d/x.conf && systemctl daemon-reload";
    assert_eq!(systemd.exec(&["sh", "-c", drop_in]).code, 0);
    assert_eq!(
        systemd.exec(&["systemctl", "start", "rextest-once.timer", "rextest-boot.timer", "rextest-sock.socket", "rextest-ok"]).code,
        0
    );

    let timers = value(&systemd.run(&rex, "timers()"));
    let names: Vec<&str> = timers.as_array().unwrap().iter().filter_map(|timer| timer["name"].as_str()).collect();
    let told = text(&systemd, &["systemctl", "list-timers", "--all", "--no-legend", "--no-pager"]);
    let theirs: Vec<&str> = told.lines().filter_map(|line| line.split_whitespace().find(|word| word.ends_with(".timer"))).collect();
    assert_eq!(names, theirs);
    let timer = |name: &str| timers.as_array().unwrap().iter().find(|timer| timer["name"] == name).unwrap().clone();
    let (daily, boot) = (timer("rextest-once.timer"), timer("rextest-boot.timer"));
    assert_eq!(
        (&daily["activates"], &daily["schedule"][0]["key"], &daily["schedule"][0]["value"]),
        (&"rextest-once.service".into(), &"OnCalendar".into(), &"*-*-* 04:00:00".into())
    );
    assert!(daily["next"].as_str().unwrap().contains(":00:00") && daily["last"].is_null(), "{daily:#}");
    assert_eq!((&boot["schedule"][0]["key"], &boot["schedule"][0]["value"]), (&"OnActiveUSec".into(), &"1h 30min".into()), "{boot:#}");
    let left = boot["left"].as_i64().unwrap();
    assert!((5_000..=5_400).contains(&left), "{boot:#}");

    let sockets = value(&systemd.run(&rex, r#"sockets(#{pattern: "rextest-*"})"#));
    assert_eq!(
        (&sockets[0]["listen"][0]["kind"], &sockets[0]["listen"][0]["address"], &sockets[0]["accept"]),
        (&"Stream".into(), &"/run/rextest.sock".into(), &true.into()),
        "{sockets:#}"
    );
    assert_eq!(sockets.as_array().unwrap().len(), 1);

    let needs = value(&systemd.run(&rex, r#"dependencies("rextest-needs", #{recursive: true})"#));
    for (key, property) in
        [("requires", "Requires"), ("wants", "Wants"), ("after", "After"), ("conflicts", "Conflicts"), ("before", "Before")]
    {
        let told = text(&systemd, &["systemctl", "show", "-P", property, "rextest-needs"]);
        let mut theirs: Vec<&str> = told.split_whitespace().collect();
        theirs.sort_unstable();
        let ours: Vec<&str> = needs[key].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(ours, theirs, "{key}");
    }
    let all: Vec<&str> = needs["all"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for unit in ["rextest-ok.service", "rextest-once.service", "rextest-nonesuch.service", "sysinit.target"] {
        assert!(all.contains(&unit), "{unit}: {all:?}");
    }
    assert_eq!(needs["not_followed"].as_array().unwrap().iter().filter(|unit| *unit == "rextest-nonesuch.service").count(), 1, "{needs:#}");
    // systemd forgets units that nothing holds.
    assert_eq!(systemd.exec(&["systemctl", "start", "rextest-needs"]).code, 0);
    assert!(
        value(&systemd.run(&rex, r#"dependencies("rextest-ok").required_by"#))
            .as_array()
            .unwrap()
            .contains(&"rextest-needs.service".into())
    );

    let file = value(&systemd.run(&rex, r#"unit_file("rextest-ok")"#));
    let cat = systemd.exec(&["systemctl", "cat", "rextest-ok"]).stdout;
    assert_eq!(file["text"].as_str().unwrap().trim(), cat.trim());
    assert_eq!(file["files"].as_array().unwrap().len(), 2, "{file:#}");
    assert_eq!(value(&systemd.run(&rex, r#"unit_file("-.slice").files"#)), Value::Array(Vec::new()));

    // As far as a container has it: its own part.
    let boot = value(&systemd.run(&rex, "boot_time()"));
    let told = text(&systemd, &["systemd-analyze", "time"]);
    let total = boot["total"].as_f64().unwrap();
    assert!(boot["kernel"].is_null() && total > 0.0, "{boot:#}");
    let seconds = |text: &str| -> f64 {
        let text = text.trim();
        if let Some(ms) = text.strip_suffix("ms") {
            ms.parse::<f64>().unwrap() / 1000.0
        } else {
            text.trim_end_matches('s').parse().unwrap()
        }
    };
    let theirs = told
        .split("finished in ")
        .nth(1)
        .and_then(|rest| rest.split(" (").next())
        .map(|text| text.split_whitespace().map(seconds).sum::<f64>());
    assert!((theirs.unwrap() - total).abs() < 0.002, "{told}: {boot:#}");
    let blame = value(&systemd.run(&rex, "analyze_blame(#{limit: 1000})"));
    let told = text(&systemd, &["systemd-analyze", "blame", "--no-pager"]);
    let ours: std::collections::BTreeSet<&str> = blame.as_array().unwrap().iter().filter_map(|unit| unit["name"].as_str()).collect();
    for line in told.lines() {
        let unit = line.split_whitespace().last().unwrap();
        assert!(ours.contains(unit), "{unit}: {ours:?}");
    }

    let status = value(&systemd.run(&rex, r#"service_status("rextest-ok", #{lines: 5})"#));
    assert_eq!(status["drop_ins"][0], "/etc/systemd/system/rextest-ok.service.d/x.conf");
    assert!(status["log"][0]["message"].as_str().unwrap().contains("rextest-ok.service"), "{status:#}");

    // Each by its own verb, and a unit's file by the file system's too.
    let rex = rex.policy(
        r#"permit(principal, action == systemd::Action::"status", resource) when { resource is systemd::Service && resource.name == "rextest-ok.service" };
           permit(principal, action == file_system::Action::"read", resource == file_system::File::"/etc/systemd/system/rextest-ok.service");"#,
    );
    for denied in [
        "timers()",
        "sockets()",
        "boot_time()",
        "analyze_blame()",
        r#"dependencies("rextest-needs")"#,
        r#"unit_file("rextest-needs")"#,
        r#"unit_file("rextest-ok")"#,
        r#"service_status("rextest-ok", #{lines: 5})"#,
    ] {
        let run = systemd.run(&rex, denied);
        run.is_denied();
        assert!(!run.stdout.contains("A=b") && !run.stdout.contains("Started"), "{run:#?}");
    }
    // What may not be looked at is not followed.
    let own = value(&systemd.run(&rex, r#"dependencies("rextest-ok", #{recursive: true})"#));
    assert_eq!(own["all"], own["not_followed"], "{own:#}");
    assert!(!own["all"].as_array().unwrap().is_empty());
}

/// What the closure got is printed; the service writes while it is followed.
const FOLLOWED: &str = r#"
let seen = [];
let end = journal_follow(#{unit: "rextest-talks", seconds: 20, poll: 0.05}, |entry| { seen.push(entry.message); entry.message != "line 3" });
[seen, end.stopped, end.entries, end.cursor != ()]"#;

#[test]
fn entries_are_followed_as_they_come_and_room_is_made_as_the_policy_says() {
    needs_namespaces!();
    let rex = Rex::new().policy(common::ALLOW_ALL);
    let talks = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'for n in 1 2 3 4; do echo line $n; sleep 0.2; done'\n";
    let whispers = "[Service]\nType=oneshot\nExecStart=/bin/echo the hidden word\n";
    let systemd = Systemd::boot(&rex, &[("rextest-talks.service", talks), ("rextest-whispers.service", whispers)]);
    let follow = |rex: &Rex, script: &str, then: &[&str]| {
        let (program, config, policy) = (rex.program().to_str().unwrap().to_owned(), rex.config_file(), rex.policy_file());
        let words = [&program, "run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"];
        let command = systemd.command(&words);
        let began = rex.audit().len();
        std::thread::scope(|scope| {
            let run = scope.spawn(|| rex.finish(command, rex.fill(script).as_bytes()));
            // It follows once the question is on record.
            assert!(common::until(20.0, || rex.audit().iter().skip(began).any(|record| record["function"] == "journal_follow")));
            std::thread::sleep(std::time::Duration::from_millis(300));
            assert_eq!(systemd.exec(then).code, 0);
            run.join().unwrap()
        })
    };
    let run = follow(&rex, FOLLOWED, &["systemctl", "start", "rextest-talks"]);
    let value = value(&run);
    let seen: Vec<&str> = value[0].as_array().unwrap().iter().filter_map(Value::as_str).filter(|line| line.starts_with("line")).collect();
    assert_eq!(seen, ["line 1", "line 2", "line 3"], "{run:#?}");
    assert_eq!((&value[1], &value[3]), (&"closure".into(), &true.into()), "{run:#?}");

    // Those that are there, a cursor to go on from, and an end.
    let script = r#"let a = []; let end = journal_follow(#{unit: "rextest-talks", identifier: "sh", lines: 4, max_entries: 2}, |e| { a.push(e.message); });
        let b = []; let rest = journal_follow(#{unit: "rextest-talks", identifier: "sh", cursor: end.cursor, seconds: 0.1}, |e| { b.push(e.message); });
        [a, end.stopped, b, rest.stopped]"#;
    systemd.run(&rex, script).gives(serde_json::json!([["line 1", "line 2"], "limit", ["line 3", "line 4"], "seconds"]));

    // A log that some policy forbids is in no other, and one that is not permitted is not followed.
    let rex = rex.policy(
        r#"permit(principal, action == journal::Action::"read", resource == journal::Log::"system");
           forbid(principal, action == journal::Action::"read", resource == journal::Log::"rextest-whispers.service");"#,
    );
    let run = follow(
        &rex,
        "let n = 0; journal_follow(#{seconds: 2, poll: 0.05}, |e| { print(e.message); n += 1; }); n",
        &["systemctl", "start", "rextest-whispers", "rextest-once"],
    );
    run.ends(0);
    assert!(run.stdout.contains("the job was done") && !run.stdout.contains("hidden") && !run.stdout.contains("whispers"), "{run:#?}");
    systemd.run(&rex, r#"journal_follow(#{unit: "rextest-whispers", lines: 5, seconds: 0.1}, |e| print(e.message))"#).is_denied();

    // Archived files go, those in use stay; and only where exactly that is permitted.
    for _ in 0..3 {
        assert_eq!(systemd.exec(&["journalctl", "--rotate"]).code, 0);
        assert_eq!(systemd.exec(&["systemctl", "start", "rextest-once"]).code, 0);
    }
    let count = |pattern: &str| text(&systemd, &["sh", "-c", &format!("find /run/log/journal -name '{pattern}' | wc -l")]);
    assert_eq!(count("*@*.journal"), "3");
    let rex = rex.policy(
        r#"permit(principal, action in journal::Action::"view", resource);
           permit(principal, action in journal::Action::"edit", resource);"#,
    );
    systemd.run(&rex, "journal_vacuum(#{files: 0})").is_denied();
    assert_eq!(count("*@*.journal"), "3");
    let rex = rex.policy(r#"permit(principal, action in [journal::Action::"vacuum", journal::Action::"read"], resource);"#);
    systemd.run(&rex, "journal_vacuum()").ends(1);
    let run = systemd.run_with(&rex, &["--dry-run"], "journal_vacuum(#{files: 0})");
    assert_eq!(run.json()["would_change_count"], 1, "{run:#?}");
    assert_eq!(count("*@*.journal"), "3");
    let run = systemd.run(&rex, "let done = journal_vacuum(#{files: 1}); [done.changed, done.files, done.left_files, done.bytes > 0]");
    run.gives(serde_json::json!([true, 2, 1, true]));
    assert!(run.events("effect").iter().any(|record| record["detail"] == "2 files removed"), "{run:#?}");
    assert_eq!((count("*@*.journal").as_str(), count("system.journal").as_str()), ("1", "1"));
    systemd.run(&rex, "journal_vacuum(#{files: 1}).changed").gives(false);
    assert!(systemd.run(&rex, "journal(#{lines: 5}).len() > 0").ends(0).stdout.contains("true"));
}
