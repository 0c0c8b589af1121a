//! Packages of the machine that runs the tests, beside what dpkg says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::Rex;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

fn has_dpkg() -> bool {
    let there = std::path::Path::new("/var/lib/dpkg/status").exists();
    if !there {
        eprintln!("skipped: this test needs a machine of dpkg");
    }
    there
}

fn dpkg(words: &[&str]) -> String {
    let run = Command::new(words[0]).args(&words[1..]).env_clear().env("PATH", "/usr/bin:/bin").output().unwrap();
    String::from_utf8_lossy(&run.stdout).into_owned()
}

const INVENTORY: &str = r#"permit(principal, action in package_system::Action::"view", resource);"#;

#[test]
fn packages_are_those_that_dpkg_knows() {
    if !has_dpkg() {
        return;
    }
    let rex = Rex::new().policy(INVENTORY);
    let run = rex.run("packages(#{removed: true}).map(|p| [p.name, p.architecture, p.version, p.status])");
    run.ends(0);
    let ours: BTreeSet<String> = run
        .value()
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" "))
        .collect();
    let told = dpkg(&["dpkg-query", "-W", "-f", "${Package} ${Architecture} ${Version} ${db:Status-Status}\n"]);
    assert_eq!(ours, told.lines().map(str::to_owned).collect());

    let package = rex.run(r#"package_info("dpkg")"#);
    package.ends(0);
    let package = package.value();
    let field = |name: &str| dpkg(&["dpkg-query", "-W", "-f", &format!("${{{name}}}"), "dpkg"]);
    for (key, name) in [
        ("version", "Version"),
        ("architecture", "Architecture"),
        ("maintainer", "Maintainer"),
        ("section", "Section"),
        ("priority", "Priority"),
        ("summary", "binary:Summary"),
    ] {
        assert_eq!(package[key], field(name), "{key}");
    }
    assert_eq!(package["installed_size"].as_u64().unwrap(), field("Installed-Size").parse::<u64>().unwrap() * 1024);
    let depends: Vec<String> = field("Depends").split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect();
    assert_eq!(package["depends"].as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>(), depends);
    for name in ["dpkg", "libc-bin", "bash"] {
        let run = rex.run(&format!("package_files(\"{name}\")"));
        run.ends(0);
        let ours: BTreeSet<String> = run.value().as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned()).collect();
        let told = dpkg(&["dpkg-query", "-L", name]);
        // Lines about files that are put aside are no paths.
        let theirs: BTreeSet<String> = told.lines().filter(|line| line.starts_with('/') && *line != "/.").map(str::to_owned).collect();
        assert_eq!(ours, theirs, "{name}");
    }
    for path in ["/usr/bin/dpkg", "/bin/bash", "/usr/bin/bash", "/usr/share/doc", "/nowhere"] {
        let run = rex.run(&format!("package_owner(\"{path}\").map(|p| p.name)"));
        run.ends(0);
        let ours: BTreeSet<String> = run.value().as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        let search = |path: &str| -> BTreeSet<String> {
            let told = dpkg(&["dpkg-query", "-S", path]);
            let line = told.lines().find(|line| line.ends_with(&format!(": {path}"))).and_then(|line| line.rsplit_once(": "));
            line.map(|(names, _)| names.split(", ").map(|name| name.split(':').next().unwrap().to_owned()).collect()).unwrap_or_default()
        };
        // dpkg of Debian 12 knows one of the two names of what is in /bin.
        let mut theirs = search(path);
        theirs.extend(path.strip_prefix("/usr").map(search).unwrap_or_default());
        assert_eq!(ours, theirs, "{path}");
    }
    rex.run(r#"try { package_info("no-such-package") } catch (e) { return e.kind }"#).gives("not_found");
}

#[test]
fn newer_versions_and_the_past_are_those_that_apt_and_dpkg_tell() {
    if !has_dpkg() {
        return;
    }
    let rex = Rex::new().policy(INVENTORY);
    let run = rex.run("package_history(#{action: \"install\", limit: 1000000}).map(|s| s.name + \" \" + s.to)");
    if run.code == 69 {
        eprintln!("skipped: dpkg keeps no log here");
    } else {
        run.ends(0);
        let log = std::fs::read_to_string("/var/log/dpkg.log").unwrap_or_default();
        let last = log.lines().rev().find(|line| line.split(' ').nth(2) == Some("install"));
        if let Some(line) = last {
            let words: Vec<&str> = line.split(' ').collect();
            let wanted = format!("{} {}", words[3].split(':').next().unwrap(), words[5]);
            assert_eq!(run.value().as_array().unwrap().last().unwrap(), &Value::from(wanted));
        }
    }
    let run = rex.run("packages(#{upgradable: true}).map(|p| p.name + \" \" + p.available)");
    if run.code == 69 {
        eprintln!("skipped: no lists of sources here");
        return;
    }
    run.ends(0);
    let ours: BTreeSet<String> = run.value().as_array().unwrap().iter().map(|row| row.as_str().unwrap().to_owned()).collect();
    // Held back, pinned or phased packages are upgradable all the same, so theirs are among ours.
    let told = dpkg(&["apt", "list", "--upgradable"]);
    for line in told.lines().filter(|line| line.contains("[upgradable")) {
        let mut words = line.split(' ');
        let name = words.next().unwrap().split('/').next().unwrap();
        assert!(ours.contains(&format!("{name} {}", words.next().unwrap())), "{line}: {ours:?}");
    }
}

#[test]
fn each_question_about_packages_needs_its_permit() {
    if !has_dpkg() {
        return;
    }
    let rex = Rex::new()
        .policy(r#"permit(principal, action == package_system::Action::"inspect", resource == package_system::Package::"dpkg");"#);
    rex.run(r#"package_info("dpkg").name"#).gives("dpkg");
    let native = dpkg(&["dpkg", "--print-architecture"]);
    rex.run(&format!("package_info(\"dpkg:{}\").name", native.trim())).gives("dpkg");
    for denied in [
        r#"package_info("bash")"#,
        r#"package_info("no-such-package")"#,
        r#"package_files("bash")"#,
        "packages()",
        "packages(#{upgradable: true})",
        r#"package_owner("/bin/bash")"#,
        "package_history()",
        r#"package_verify("dpkg")"#,
        // A permit for packages opens no file.
        r#"cat("/var/lib/dpkg/status")"#,
    ] {
        rex.run(denied).is_denied();
    }
    for odd in ["../status", "a/b", "", "a b", "dpkg:../x"] {
        rex.run(&format!("package_files(\"{odd}\")")).ends(1);
    }
}

/// One file of a package is another and one is gone, in a mount namespace of its own.
#[test]
fn changed_and_missing_files_are_found_and_no_file_is_read_without_a_permit() {
    needs_namespaces!();
    if !has_dpkg() {
        return;
    }
    let reads = r#"permit(principal, action == package_system::Action::"inspect", resource);
                   permit(principal, action == file_system::Action::"read", resource);"#;
    let rex = Rex::new().policy(reads);
    let verify = |rex: &Rex, script: &str| {
        let (program, config, policy) = (rex.program().to_str().unwrap().to_owned(), rex.config_file(), rex.policy_file());
        let inner = r#"folder=/usr/share/doc/bash; mount -t tmpfs none $folder && mount --bind "$0" /usr/bin/bash && exec "$@""#;
        let other = rex.path("other");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", inner, &other]);
        command.args([&program, "run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        rex.finish(command, script.as_bytes())
    };
    let rex = rex.file("other", "#!/bin/sh\n");
    let script = r#"let v = package_verify("bash"); [v.ok, v.changed, v.missing.len() > 0, v.missing.all(|p| p.contains("/doc/bash/")), v.unread.len()]"#;
    let run = verify(&rex, script);
    run.ends(0);
    let value = run.value();
    assert_eq!((&value[0], &value[2], &value[3], &value[4]), (&false.into(), &true.into(), &true.into(), &0.into()), "{run:#?}");
    let changed: Vec<&str> = value[1].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    assert!(changed.len() == 1 && changed[0].ends_with("/bin/bash"), "{run:#?}");
    // As it is installed.
    let run = rex.run(r#"let v = package_verify("hostname"); [v.changed, v.checked > 0]"#);
    run.gives(serde_json::json!([[], true]));
    let rex = rex.policy(&format!(
        "{reads}\nforbid(principal, action == file_system::Action::\"read\", resource == file_system::File::\"/usr/bin/bash\");"
    ));
    verify(&rex, r#"package_verify("bash")"#).is_denied();
    let run = verify(&rex, r#"let v = package_verify("bash", #{keep_going: true}); [v.ok, v.changed, v.unread.len()]"#);
    run.gives(serde_json::json!([false, [], 1]));
    assert!(run.records_denial(), "{run:#?}");
}
