//! The kernel's fence: it never refuses what policies permit, it is as tight as they are, and it says what of it is in force.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Rex};
use rexsh::policy::{Policies, Scope, Source};
use rexsh::sys::fence::{Own, Plan, Rights};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// Numbers that are the same in every run of the test (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const FOLDERS: &[&str] = &["a", "b", "a/c", "a/c/d"];
const FILES: &[&str] = &["a/f1", "a/f2.log", "b/f1", "a/c/f3", "a/c/d/f4.log", "f0"];
/// Names that nothing has yet.
const NEW: &[&str] = &["a/n1", "b/n2.log", "a/c/n3", "n4"];
const VERBS: &[&str] = &["read", "write", "create", "delete", "move", "stat", "chmod", "set_x_attr"];

fn scope(dice: &mut Dice) -> String {
    let all: Vec<&str> = FILES.iter().chain(NEW).copied().collect();
    let (file, other, folder, second) = (dice.one(&all), dice.one(&all), dice.one(FOLDERS), dice.one(FOLDERS));
    match dice.below(9) {
        0 => format!("resource == file_system::File::\"{{data}}/{file}\""),
        1 => format!("resource in file_system::Dir::\"{{data}}/{folder}\""),
        2 => format!("resource is file_system::File && resource.path like \"{{data}}/{folder}/*\""),
        3 => format!("resource is file_system::File && resource.path like \"{{data}}/{folder}/*.log\""),
        4 => format!(
            "resource is file_system::File && [file_system::File::\"{{data}}/{file}\", file_system::File::\"{{data}}/{other}\"].contains(resource)"
        ),
        5 => format!(
            "if principal has uid && principal.uid == 0 then resource in file_system::Dir::\"{{data}}/{folder}\" else resource in file_system::Dir::\"{{data}}/{second}\""
        ),
        6 => format!(
            "resource in [file_system::Dir::\"{{data}}/{folder}\", file_system::Dir::\"{{data}}/{second}\"] && !(resource == file_system::File::\"{{data}}/{file}\")"
        ),
        7 => "resource in file_system::Dir::\"{data}\"".to_owned(),
        _ => format!("resource == file_system::File::\"{{data}}/{file}\" || resource in file_system::Dir::\"{{data}}/{folder}\""),
    }
}

fn policy(dice: &mut Dice) -> String {
    let mut text = String::new();
    for _ in 0..=dice.below(3) {
        let verbs: Vec<String> = (0..=dice.below(4)).map(|_| format!("file_system::Action::\"{}\"", dice.one(VERBS))).collect();
        text.push_str(&format!("permit(principal, action in [{}], resource) when {{ {} }};\n", verbs.join(", "), scope(dice)));
    }
    text
}

fn operation(dice: &mut Dice) -> String {
    let all: Vec<&str> = FILES.iter().chain(NEW).chain(FOLDERS).copied().collect();
    let (path, other) = (dice.one(&all), dice.one(&all));
    match dice.below(16) {
        0 | 1 => format!("cat(\"{{data}}/{path}\")"),
        2 => format!("write(\"{{data}}/{path}\", \"text\\n\")"),
        3 => format!("write(\"{{data}}/{path}\", \"text\\n\", #{{replace: true}})"),
        4 => format!("append_line(\"{{data}}/{path}\", \"line\")"),
        5 => format!("mkdir(\"{{data}}/{path}x\")"),
        6 => format!("rm(\"{{data}}/{path}\")"),
        7 => format!("mv(\"{{data}}/{path}\", \"{{data}}/{other}\")"),
        8 => format!("mv(\"{{data}}/{path}\", \"{{data}}/{other}x\")"),
        9 => format!("cp(\"{{data}}/{path}\", \"{{data}}/{other}\")"),
        10 => format!("ls(\"{{data}}/{path}\")"),
        11 => format!("touch(\"{{data}}/{path}\")"),
        12 => format!("truncate(\"{{data}}/{path}\", 0)"),
        13 => format!("ln(\"{{data}}/{path}\", \"{{data}}/{other}x\")"),
        14 => format!("chmod(\"{{data}}/{path}\", \"640\")"),
        _ => format!("edit_line(\"{{data}}/{path}\", #{{pattern: \"x\", line: \"y\"}})"),
    }
}

/// Whatever the gate lets through and Unix permissions would, the kernel does: no error that only the fence can have made.
fn nothing_permitted_is_refused(seeds: std::ops::Range<u64>) {
    let mut refused = Vec::new();
    let (mut allowed, mut valid) = (0, 0);
    let policies = seeds.end - seeds.start;
    for seed in seeds {
        let mut dice = Dice(seed * 7919 + 17);
        let policy = policy(&mut dice);
        let mut rex = Rex::new().policy(&policy);
        for file in FILES {
            rex = rex.file(file, "x\nsome text\n");
        }
        for folder in FOLDERS {
            rex = rex.dir(folder);
        }
        let operations: Vec<String> = (0..25).map(|_| operation(&mut dice)).collect();
        let mut script = String::from("let r = [];\n");
        for operation in &operations {
            // Numbers of lines tell records of one operation from those of the next.
            script.push_str(&format!("try {{ {operation}; r.push(\"done\"); }} catch (e) {{ r.push(if type_of(e) == \"map\" {{ e.kind + \": \" + e.message }} else {{ \"script: \" + e }}); }}\n"));
        }
        script.push('r');
        let run = rex.run(&script);
        if run.code == 78 {
            // Cedar's strict validation has no place for it, e.g. a verb that is about no folder.
            continue;
        }
        run.ends(0);
        valid += 1;
        allowed += run.events("decision").iter().filter(|record| record["decision"] == "allow").count();
        for (operation, said) in operations.iter().zip(run.value().as_array().unwrap()) {
            let said = said.as_str().unwrap();
            if ["permission", "io", "internal", "layer", "changed", "unsupported"].iter().any(|kind| said.starts_with(&format!("{kind}:")))
            {
                refused.push(format!("seed {seed}: {operation}\n   {said}\n   {}", policy.replace('\n', "\n   ")));
            }
        }
    }
    assert!(valid * 2 > policies && allowed as u64 > 3 * policies, "the policies permit too little to show anything: {valid}, {allowed}");
    assert!(refused.is_empty(), "{} of {allowed}:\n{}", refused.len(), refused[..refused.len().min(12)].join("\n"));
}

#[test]
fn what_policies_permit_the_kernel_does_not_refuse_1() {
    nothing_permitted_is_refused(0..50);
}

#[test]
fn what_policies_permit_the_kernel_does_not_refuse_2() {
    nothing_permitted_is_refused(50..100);
}

#[test]
fn what_policies_permit_the_kernel_does_not_refuse_3() {
    nothing_permitted_is_refused(100..150);
}

#[test]
fn what_policies_permit_the_kernel_does_not_refuse_4() {
    nothing_permitted_is_refused(150..200);
}

fn plan_of(file: &str, group: &str) -> Plan {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(file)).unwrap();
    let scope = Scope { name: "someone".into(), groups: vec![group.into()] };
    let policies = Policies::load(&[Source { name: file.into(), text }], &rexsh::terms::schema(), &scope, None).unwrap();
    Plan::of(&policies, Own::default())
}

/// What may be opened besides what every run needs: r(ead), l(ist), w(rite), m(ake), M(ake folders), d(elete), D(elete folders), f (move between folders).
fn shown(plan: &Plan) -> BTreeMap<String, String> {
    let empty = Plan::of(
        &Policies::load(
            &[Source { name: "none".into(), text: "forbid(principal, action, resource);".into() }],
            &rexsh::terms::schema(),
            &Scope { name: "someone".into(), groups: Vec::new() },
            None,
        )
        .unwrap(),
        Own::default(),
    );
    let letters = [
        (Rights::READ_FILE, 'r'),
        (Rights::READ_DIR, 'l'),
        (Rights::WRITE, 'w'),
        (Rights::MAKE_FILE, 'm'),
        (Rights::MAKE_DIR, 'M'),
        (Rights::REMOVE_FILE, 'd'),
        (Rights::REMOVE_DIR, 'D'),
        (Rights::REFER, 'f'),
        (Rights::EXECUTE, 'x'),
    ];
    let of = |rights: Rights| letters.iter().filter(|(right, _)| rights.has(*right)).map(|(_, letter)| *letter).collect::<String>();
    let own = |path: &Path| empty.paths.get(path).copied().unwrap_or_default();
    let more = plan.paths.iter().filter(|(path, rights)| own(path) != **rights && !rights.is_empty());
    more.map(|(path, rights)| (path.display().to_string(), of(*rights))).collect()
}

fn calls(plan: &Plan) -> String {
    let calls = plan.calls;
    let named = [
        ("change", calls.change),
        ("chmod", calls.chmod),
        ("chown", calls.chown),
        ("xattr", calls.xattr),
        ("moves", calls.moves),
        ("unix", calls.unix_sockets),
        ("signals", calls.signals),
        ("network", calls.network),
        ("names", calls.names),
        ("interfaces", calls.interfaces),
        ("local", calls.local),
        ("programs", calls.programs),
        ("inspects", calls.inspects),
        ("debugs", calls.debugs),
        ("stacks", calls.stacks),
        ("unmounts", calls.unmounts),
        ("unmounting", calls.unmounting),
        ("clock", calls.clock),
    ];
    named.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

/// A policy, its group, what may be done where, and the calls that it adds.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

/// For each policy of policies/: what the kernel lets through, and no more.
#[test]
fn each_sample_policy_comes_to_this_fence() {
    let table: &[Row] = &[
        (
            "log-reader.cedar",
            "log-readers",
            &[("/var/log", "rl"), ("/var/log/journal", "rl"), ("/run/log/journal", "rl"), ("/etc/machine-id", "rl")],
            "",
        ),
        ("config-editor.cedar", "config-editors", &[("/etc/nginx", "rl"), ("/etc/nginx/conf.d", "rlwmMdf")], "change"),
        ("container-operator.cedar", "container-operators", &[], ""),
        ("health-checker.cedar", "health-checkers", &[], "unix"),
        (
            "service-restarter.cedar",
            "restarters",
            &[("/var/log/journal", "rl"), ("/run/log/journal", "rl"), ("/etc/machine-id", "rl")],
            "unix",
        ),
    ];
    let mut wrong = Vec::new();
    for (file, group, paths, named) in table {
        let plan = plan_of(file, group);
        let expected: BTreeMap<String, String> = paths.iter().map(|(path, rights)| ((*path).to_owned(), (*rights).to_owned())).collect();
        let (is, has) = (shown(&plan), calls(&plan));
        if is != expected || has != *named {
            wrong.push(format!("{file}: {is:?} {has}"));
        }
        assert_eq!(plan.powers.is_empty(), named.is_empty() && group != &"log-readers" || *named == "unix", "{file}: {:?}", plan.powers);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (file, group) in [("oncall-read-only.cedar", "oncall"), ("agent-read-only.cedar", "agents")] {
        let plan = plan_of(file, group);
        assert!(!plan.calls.change && !plan.calls.signals && !plan.calls.network && !plan.calls.programs, "{file}: {}", calls(&plan));
        assert!(plan.paths.values().all(|rights| !rights.has(Rights::MAKE_FILE) && !rights.has(Rights::EXECUTE)), "{file}");
        let written: Vec<_> = plan.paths.iter().filter(|(_, rights)| rights.has(Rights::WRITE)).map(|(path, _)| path).collect();
        assert_eq!(written, [Path::new("/dev/null")], "{file}");
        assert!(
            !plan.powers.contains(rustix::thread::CapabilitySet::DAC_OVERRIDE)
                && !plan.powers.contains(rustix::thread::CapabilitySet::SYS_PTRACE),
            "{file}"
        );
    }
}

/// A permit for any action on some kind of thing opens what that kind needs, and nothing that other kinds do.
#[test]
fn a_permit_for_one_kind_of_thing_opens_nothing_for_others() {
    let of = |resource: &str| {
        let text = format!("permit(principal, action, {resource});");
        let scope = Scope { name: "someone".into(), groups: Vec::new() };
        let policies = Policies::load(&[Source { name: "one".into(), text }], &rexsh::terms::schema(), &scope, None).unwrap();
        let plan = Plan::of(&policies, Own::default());
        (calls(&plan), shown(&plan).into_keys().collect::<Vec<_>>(), plan.powers.is_empty())
    };
    for resource in ["resource is systemd::Service", "resource == systemd::Service::\"nginx.service\""] {
        assert_eq!(of(resource), ("unix".to_owned(), Vec::new(), true), "{resource}");
    }
    let (named, paths, _) = of("resource is journal::Log");
    // With any verb: old files of it may be removed too.
    assert_eq!((named.as_str(), paths.len()), ("change", 3), "{paths:?}");
    // What a process beside the fence does opens nothing in it.
    for resource in ["resource is container_system::Container", "resource is probe_system::Probe"] {
        assert_eq!(of(resource), (String::new(), Vec::new(), true), "{resource}");
    }
    let (named, paths, without_powers) = of("resource is package_system::Package");
    assert!(
        named.is_empty()
            && without_powers
            && paths.iter().all(|path| path.contains("dpkg") || path.contains("apt") || path.contains("apk")),
        "{paths:?}"
    );
    assert_eq!(of("resource is network::url").0, "network names");
    assert_eq!(of("resource is sysinfo::Hostname").0, "names interfaces clock");
    assert_eq!(of("resource is process_system::Process").0, "signals inspects debugs stacks");
    assert_eq!(of("resource is sysinfo::Sysinfo").0, "names interfaces clock");
    // Unmounting, cores and files are about things of one kind; the helpers are there where some policy may permit them.
    let (named, _, _) = of("resource == file_system::Dir::\"/mnt\"");
    assert!(named.split(' ').any(|word| word == "unmounts") && !named.contains("unmounting"), "{named}");
    assert_eq!(of("resource is sysctl::Sysctl").0, "");
}

/// Looking into the journal removes nothing of it.
#[test]
fn only_a_permit_to_make_room_lets_files_of_the_journal_be_removed() {
    let of = |verb: &str| {
        let text = format!("permit(principal, action == journal::Action::\"{verb}\", resource);");
        let scope = Scope { name: "someone".into(), groups: Vec::new() };
        let policies = Policies::load(&[Source { name: "one".into(), text }], &rexsh::terms::schema(), &scope, None).unwrap();
        let plan = Plan::of(&policies, Own::default());
        (calls(&plan), shown(&plan).get("/var/log/journal").cloned().unwrap_or_default())
    };
    assert_eq!(of("read"), (String::new(), "rl".to_owned()));
    assert_eq!(of("vacuum"), ("change".to_owned(), "rld".to_owned()));
}

/// What the fence is computed from takes this for granted.
#[test]
fn verbs_are_about_things_of_their_own_namespace() {
    let (asks, nouns) = rexsh::functions::vocabulary();
    let space = |name: &str| name.rsplit_once("::").map(|(space, _)| space.to_owned());
    for ask in &asks {
        assert!(ask.applies_to.iter().all(|noun| space(noun).as_deref() == Some(ask.namespace)), "{}::{}", ask.namespace, ask.name);
    }
    for noun in &nouns {
        assert!(noun.parents.iter().all(|parent| space(parent) == space(noun.name)), "{}", noun.name);
    }
}

/// Where permits say the ports, the kernel is told; where one does not, every port is open, and only then.
#[test]
fn connections_go_to_the_ports_that_permits_name() {
    let ports = |text: &str| {
        let scope = Scope { name: "someone".into(), groups: Vec::new() };
        let policies = Policies::load(&[Source { name: "one".into(), text: text.into() }], &rexsh::terms::schema(), &scope, None).unwrap();
        let plan = Plan::of(&policies, Own::default());
        (plan.calls.names, plan.ports.map(|ports| ports.into_iter().collect::<Vec<_>>()))
    };
    let get = "permit(principal, action == network::Action::\"GET\", resource) when { resource.url like \"https://a.example/*\" };";
    let connect = "permit(principal, action == network::Action::\"connect\", resource) when { resource.port == 5432 };";
    let any = "permit(principal, action == network::Action::\"connect\", resource == network::url::\"a.example\");";
    let name = "permit(principal, action == sysinfo::Action::\"resolve_hostname\", resource);";
    assert_eq!(ports(get), (true, Some(vec![53, 443])));
    assert_eq!(ports(&format!("{get}\n{connect}")), (true, Some(vec![53, 443, 5432])));
    assert_eq!(ports(&format!("{get}\n{any}")), (true, None));
    assert_eq!(ports(name), (true, Some(vec![53])));
    assert_eq!(ports("permit(principal, action, resource is file_system::File);"), (false, None));
}

/// Nothing of the door of tests/door.rs is in a build without its feature.
#[cfg(not(feature = "raw-syscall-door"))]
#[test]
fn what_is_shipped_has_no_door() {
    let binary = fs::read(common::binary()).unwrap();
    let marker = ["rex-raw-syscall", "-door"].concat();
    assert!(!binary.windows(marker.len()).any(|window| window == marker.as_bytes()));
    let run = Rex::new().policy(ALLOW_ALL).run("raw_syscall(39, [])");
    assert_ne!(run.code, 0, "{run:#?}");
    assert!(run.stdout.contains("unknown function"), "{run:#?}");
}

/// On a kernel without Landlock: seccomp in the parent answers ENOSYS.
#[allow(unsafe_code, reason = "between fork and exec there is no safe interface")]
fn without_landlock(command: &mut Command) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules = [(libc::SYS_landlock_create_ruleset, Vec::new())].into_iter().collect();
    let errno = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, std::env::consts::ARCH.try_into().unwrap()).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    // SAFETY: prctl(2) and seccomp(2) on a program that was made before the fork.
    unsafe {
        command.pre_exec(move || {
            rustix::thread::set_no_new_privs(true)?;
            seccompiler::apply_filter(&program).map_err(|_| std::io::Error::other("the filter"))
        });
    }
}

fn old_kernel(rex: &Rex, script: &str) -> common::Run {
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let mut command = rex.command(&["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"]);
    without_landlock(&mut command);
    rex.finish(command, rex.fill(script).as_bytes())
}

#[test]
fn a_kernel_without_landlock_is_told_of_and_the_rest_holds() {
    let rex = Rex::new().policy(ALLOW_ALL).file("f", "text");
    let run = old_kernel(&rex, "cat(\"{data}/f\")");
    run.ends(0);
    let layers = run.json()["layers"].to_string();
    assert!(!layers.contains("landlock") && layers.contains("seccomp") && layers.contains("capabilities"), "{layers}");
    assert_eq!(run.events("run_start")[0]["layers"].to_string(), layers);
    let now = rex.run("cat(\"{data}/f\")").json()["layers"].to_string();
    assert!(now.contains("landlock"), "{now}");
}

#[test]
fn a_layer_that_is_demanded_and_missing_stops_the_run_before_it_begins() {
    let rex = Rex::new().policy(ALLOW_ALL).file("f", "text").config("require_layers = [\"landlock\"]\n");
    rex.run("cat(\"{data}/f\")").gives("text");
    let run = old_kernel(&rex, "write(\"{data}/f\", \"other\", #{replace: true})");
    run.ends(69);
    assert_eq!(rex.read("f"), "text");
}

#[test]
fn a_policy_can_demand_a_layer() {
    let rex = Rex::new().policy(
        "permit(principal, action, resource) when { context has session && context.session has layers && context.session.layers.contains(\"landlock\") };",
    );
    let rex = rex.file("f", "text");
    rex.run("cat(\"{data}/f\")").gives("text");
    old_kernel(&rex, "cat(\"{data}/f\")").is_denied();
}

/// The kernel hides this from every process behind Landlock; it is permitted, so it is seen.
#[test]
fn open_files_of_other_processes_are_seen_where_that_is_permitted() {
    let rex = Rex::new()
        .policy("permit(principal, action in [process_system::Action::\"list\", process_system::Action::\"list_fds\"], resource);");
    let rex = rex.file("removed", "some text");
    let path = rex.data().join("removed");
    let mut holder = Command::new("sleep").arg("60").stdin(fs::File::open(&path).unwrap()).spawn().unwrap();
    fs::remove_file(&path).unwrap();
    let run = rex.run(&format!(
        "let f = deleted_but_open(#{{pid: [{0}]}}); let p = ps(#{{pid: {0}, io: true}}); [f.len(), f[0].size, p[0].io != ()]",
        holder.id()
    ));
    let _ = holder.kill();
    let _ = holder.wait();
    run.ends(0);
    let value = run.value();
    assert_eq!((value[0].as_i64(), value[1].as_i64()), (Some(1), Some(9)), "{run:#?}");
    if common::is_root() {
        assert_eq!(value[2], true, "{run:#?}");
    }
}

/// A rule of Landlock is about the file that is there when the run begins; what takes its place is opened all the same, for what is permitted and no more.
#[test]
fn a_file_that_is_replaced_meanwhile_is_the_one_that_is_meant() {
    for scope in [
        "resource in file_system::Dir::\"{data}/logs\"",
        "resource == file_system::File::\"{data}/logs/app.log\"",
        "resource is file_system::File && resource.path == \"{data}/logs/app.log\"",
    ] {
        let policy = format!("permit(principal, action == file_system::Action::\"read\", resource) when {{ {scope} }};");
        let rex = Rex::new().policy(&policy).file("logs/app.log", "old\n").file("next", "new\n").file("logs/other", "other\n");
        let run = meanwhile(&rex, "cat(\"{data}/logs/app.log\")", || {
            fs::rename(rex.data().join("next"), rex.data().join("logs/app.log")).unwrap();
        });
        assert_eq!(run.value()["before"], "old\n", "{scope}");
        assert_eq!(run.value()["after"], "new\n", "{scope}: {run:#?}");
        rex.run("write(\"{data}/logs/app.log\", \"x\")").is_denied();
    }
}

/// The same for a file that was not there at all, and for writing.
#[test]
fn a_named_file_that_comes_later_is_read_and_written() {
    let policy = "permit(principal, action in [file_system::Action::\"read\", file_system::Action::\"write\"], resource == file_system::File::\"{data}/f\");\n\
                  permit(principal, action == file_system::Action::\"read\", resource == file_system::File::\"{data}/only\");";
    let rex = Rex::new().policy(policy).file("next", "new\n").file("only", "x");
    let run =
        meanwhile(&rex, "try { append_line(\"{data}/f\", \"more\"); return cat(\"{data}/f\"); } catch (e) { return e.kind; }", || {
            fs::rename(rex.data().join("next"), rex.data().join("f")).unwrap();
        });
    assert_eq!((run.value()["before"].as_str(), run.value()["after"].as_str()), (Some("denied"), Some("new\nmore\n")), "{run:#?}");
    // What takes the place of a file and is another thing is not opened, nor what the account may not read.
    for (other, kind) in [("fifo", "not_a_file"), ("link", "denied")] {
        let rex = Rex::new().policy(policy).file("f", "old\n").file("secret", "secret\n");
        let run = meanwhile(&rex, "try { cat(\"{data}/f\") } catch (e) { return e.kind }", || {
            let path = rex.data().join("other");
            match other {
                "fifo" => rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap(),
                _ => std::os::unix::fs::symlink(rex.data().join("secret"), &path).unwrap(),
            }
            fs::rename(path, rex.data().join("f")).unwrap();
        });
        assert_eq!(run.value()["after"], kind, "{other}: {run:#?}");
    }
}

/// What a run itself puts in the place of a file it goes on with, however the policy names it.
#[test]
fn a_run_reads_back_what_it_replaced() {
    let verbs = "[file_system::Action::\"read\", file_system::Action::\"write\", file_system::Action::\"create\"]";
    for (verbs, atomic) in [(verbs, true), ("[file_system::Action::\"read\", file_system::Action::\"write\"]", false)] {
        let rex = Rex::new()
            .policy(&format!("permit(principal, action in {verbs}, resource == file_system::File::\"{{data}}/f\");"))
            .file("f", "old line\n");
        let run = rex.run(
            r#"let w = write("{data}/f", "one line\n", #{replace: true}); let a = cat("{data}/f"); edit_line("{data}/f", #{pattern: "^one", line: "two line"});
               append_line("{data}/f", "more"); [a, cat("{data}/f"), w.atomic]"#,
        );
        run.ends(0);
        assert_eq!(run.value(), serde_json::json!(["one line\n", "two line\nmore\n", atomic]), "{run:#?}");
        assert_eq!(rex.read("f"), "two line\nmore\n");
    }
}

fn hanging() -> bool {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.ends_with(b"60.54322\0")))
}

/// Other name services are asked beside the fence, and only where the host has some.
#[test]
fn users_and_groups_of_other_name_services_have_their_names() {
    needs_namespaces!();
    let getent = "#!/bin/sh\ngrep -q '^CapEff:.0000000000000000$' /proc/self/status || exit 3\necho \"$*\" >> {data}/asked\ncase \"$*\" in\n\
        'passwd 54321' | 'passwd remote') echo 'remote:*:54321:54321::/:/bin/sh' ;;\n'group 54321') echo 'people:*:54321:remote' ;;\n\
        'passwd 54322') exec sleep 60.54322 ;;\n*) exit 2 ;;\nesac\n";
    for (sources, expected) in [
        ("passwd: files sss\ngroup: files sss\n", serde_json::json!(["remote", "people", "54323", "54322"])),
        ("passwd: files systemd\ngroup: files systemd\n", serde_json::json!(["54321", "54321", "54323", "54322"])),
    ] {
        let rex = Rex::new().policy("permit(principal, action == file_system::Action::\"stat\", resource);").file("asked", "");
        let rex = rex.file("nsswitch.conf", sources).file("f", "").file("g", "").file("h", "");
        let text = rex.fill(getent);
        let rex = rex.file("getent", &text);
        fs::set_permissions(rex.path("getent"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::set_permissions(rex.path("asked"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        for (name, id) in [("f", 54321), ("g", 54323), ("h", 54322)] {
            std::os::unix::fs::chown(rex.path(name), Some(id), Some(id)).unwrap();
        }
        let script = "let f = stat(\"{data}/f\"); [f.owner, f.group, stat(\"{data}/g\").owner, stat(\"{data}/h\").owner]";
        let mounts = "mount --bind \"$0/nsswitch.conf\" /etc/nsswitch.conf && mount --bind \"$0/getent\" /usr/bin/getent && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", mounts, rex.data().to_str().unwrap(), common::binary().to_str().unwrap()]);
        command.args([
            "run",
            "-",
            "--config",
            rex.config_file().to_str().unwrap(),
            "--policy",
            rex.policy_file().to_str().unwrap(),
            "-o",
            "json",
        ]);
        let run = rex.finish(command, rex.fill(script).as_bytes());
        run.ends(0);
        assert_eq!(run.value(), expected, "{sources}: {} {run:#?}", rex.read("asked"));
        assert_eq!(rex.read("asked").is_empty(), sources.contains("systemd"), "{}", rex.read("asked"));
        // Not even what hangs when the run ends is left.
        assert!(!hanging(), "getent outlives the time it has");
        if !sources.contains("systemd") {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", mounts, rex.data().to_str().unwrap(), common::binary().to_str().unwrap()]);
            command.args(["run", "-", "--config", rex.config_file().to_str().unwrap(), "--policy", rex.policy_file().to_str().unwrap()]);
            command.args(["--timeout", "1"]);
            assert_eq!(rex.finish(command, rex.fill("stat(\"{data}/h\").owner").as_bytes()).code, 124);
            assert!(common::until(1.0, || !hanging()), "getent outlives the run");
        }
    }
}

/// Does something to the host between two evaluations of an expression in one run: a map of what came `before` and `after`.
fn meanwhile(rex: &Rex, expression: &str, act: impl FnOnce()) -> common::Run {
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let script = rex.fill(&format!(
        "fn look() {{ {expression} }} let before = look(); print(\"ready\"); sleep(0.3); let after = look(); \
         for i in 0..200 {{ if after != before {{ break; }} sleep(0.05); after = look(); }} #{{before: before, after: after}}"
    ));
    let command = rex.command(&["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"]);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| rex.finish(command, script.as_bytes()));
        // What was looked at first is on record.
        let looked = || fs::read_to_string(rex.audit_file()).is_ok_and(|text| text.contains("\"decision\""));
        assert!(common::until(20.0, looked), "the run did not begin");
        std::thread::sleep(std::time::Duration::from_millis(100));
        act();
        let run = running.join().unwrap();
        run.ends(0);
        run
    })
}

/// Only the file is open to writing, so nothing can take its place; it is written where it is.
#[test]
fn one_file_that_may_be_written_is_written_in_place() {
    let rex = Rex::new().policy(
        "permit(principal, action in [file_system::Action::\"read\", file_system::Action::\"write\"], resource == file_system::File::\"{data}/f\");",
    );
    let rex = rex.file("f", "a long old text\n");
    let run = rex.run("write(\"{data}/f\", \"new\\n\", #{replace: true})");
    run.ends(0);
    assert_eq!(rex.read("f"), "new\n");
    assert_eq!(run.value()["atomic"], false, "{run:#?}");
}

#[test]
fn whoami_tells_the_layers_and_the_version_of_landlock() {
    let rex = Rex::new().policy(ALLOW_ALL).config("identity = [\"argument\"]\n");
    let run = rex.session(None, &["--principal", "someone"], Some("rex whoami"), "");
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.stdout.contains("landlock (ABI ") && run.stdout.contains("seccomp"), "{run:#?}");
}

/// The kernel's messages need a power of root, and the list of mounts a file beside the one that is asked for: nothing else opens them.
#[test]
fn the_kernels_own_files_bring_what_reading_them_needs_and_no_other_does() {
    let of = |path: &str| {
        let text = format!(r#"permit(principal, action == file_system::Action::"read", resource == file_system::File::"{path}");"#);
        let scope = Scope { name: "someone".into(), groups: Vec::new() };
        let policies = Policies::load(&[Source { name: "one".into(), text }], &rexsh::terms::schema(), &scope, None).unwrap();
        let plan = Plan::of(&policies, Own::default());
        let mountinfo = plan.paths.keys().any(|path| path.ends_with("mountinfo"));
        (plan.powers.contains(rustix::thread::CapabilitySet::SYSLOG), mountinfo, calls(&plan))
    };
    assert_eq!(of("/dev/kmsg"), (true, false, String::new()));
    assert_eq!(of("/proc/mounts"), (false, true, String::new()));
    assert_eq!(of("/proc/stat"), (false, false, String::new()));
}
