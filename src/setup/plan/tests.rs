//! Plans, from hosts made by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::super::facts::OfSshd;
use super::super::wanted::Words;
use super::*;
use crate::os::install::{Found, Rights};
use crate::os::process::{Group, User};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

fn wanted(flavour: Flavour, change: impl FnOnce(&mut Words)) -> Wanted {
    let mut words = Words { keys: vec![KEY.into()], ..Words::default() };
    change(&mut words);
    Wanted::of(flavour, words).unwrap()
}
fn file(text: &str) -> Thing {
    Thing::File(Found { content: text.into(), mode: 0o644, uid: 0, gid: 0 })
}
fn folder(mode: u32, uid: u32, gid: u32) -> Thing {
    Thing::Folder(Rights { mode, uid, gid })
}
/// A Debian host as it is installed.
fn debian() -> Facts {
    let mut facts = Facts { log: true, systemd: true, polkit: true, ..Facts::default() };
    facts.put(SSHD_CONFIG, file("Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n"));
    facts.put("/etc/ssh/sshd_config.d", folder(0o755, 0, 0));
    facts.put("/usr/lib/tmpfiles.d", folder(0o755, 0, 0));
    facts.put("/etc/tmpfiles.d", folder(0o755, 0, 0));
    facts.put("/etc/polkit-1/rules.d", folder(0o755, 0, 0));
    facts.put(PAM, file("session required pam_env.so user_readenv=1\n"));
    facts.sshd = Some(OfSshd {
        key_files: vec!["/home/agent/.ssh/authorized_keys".into()],
        permit_root_login: "prohibit-password".into(),
        ..OfSshd::default()
    });
    facts
}
fn group(name: &str, gid: u32, members: &[&str]) -> (String, Group) {
    (name.into(), Group { name: name.into(), gid, members: members.iter().map(|name| (*name).to_owned()).collect() })
}
fn user(name: &str, shell: &str) -> User {
    User { name: name.into(), uid: 1000, gid: 1000, home: format!("/home/{name}").into(), shell: shell.into() }
}
fn text_of<'a>(plan: &'a Plan, path: &str) -> &'a str {
    let found = plan.steps.iter().find_map(|step| match step {
        Step::File { path: at, text, .. } if at == Path::new(path) => Some(text.as_str()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{path} is not written: {:#?}", plan.steps.iter().map(Step::describe).collect::<Vec<_>>()))
}
fn refused(wanted: &Wanted, facts: &Facts) -> String {
    plan(wanted, facts).unwrap_err().message
}

#[test]
fn a_plan_is_in_an_order_in_which_each_step_can_be_done() {
    let plan = plan(&wanted(Flavour::ForcedCommand, |_| {}), &debian()).unwrap();
    let at = |what: &str| plan.steps.iter().position(|step| step.describe().contains(what)).unwrap_or_else(|| panic!("{what}"));
    assert_eq!(at("copy this program"), 0);
    assert!(at("the group `rexusers`") < at("/var/log/rex") && at("the folder /etc/rex ") < at("the folder /etc/rex/keys"));
    assert!(at("the folder /home/agent") < at("the account `agent`") && at("the account `agent`") < at("sshd_config.d/rex.conf"));
    let mut paths: Vec<String> = plan.steps.iter().map(Step::describe).collect();
    let all = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), all, "nothing is done twice");
    assert_eq!(text_of(&plan, "/etc/rex/rex.toml"), crate::config::rex_toml());
    assert_eq!(plan.held, ["agent"]);
}

#[test]
fn records_have_a_place_on_a_host_without_a_log() {
    let facts = Facts { log: false, ..debian() };
    let plan = plan(&wanted(Flavour::ForcedCommand, |_| {}), &facts).unwrap();
    assert!(text_of(&plan, "/etc/rex/rex.toml").contains("\nfile = \"/var/log/rex/rex.jsonl\"\n"));
    let key = wanted(Flavour::Key, |words| (words.account, words.principal) = (Some("carol".into()), Some("alice".into())));
    let facts = Facts { user: Some(user("carol", "/bin/sh")), ..facts };
    assert!(refused(&key, &facts).contains("cannot write a file of records"));
}

#[test]
fn evidence_is_added_where_it_changes_nothing_for_others() {
    let with = |now: &[Evidence], needed| with_evidence(now, needed).map_err(|error| error.message);
    assert_eq!(with(&[Evidence::User], Evidence::User), Ok(None));
    assert_eq!(with(&[Evidence::User], Evidence::Argument), Ok(Some(vec!["argument", "user"])));
    assert_eq!(with(&[Evidence::Argument], Evidence::User), Ok(Some(vec!["argument", "user"])));
    assert_eq!(with(&[Evidence::Argument, Evidence::AuthInfo], Evidence::AuthInfo), Ok(None));
    for (now, needed) in [
        (&[Evidence::AuthInfo, Evidence::User][..], Evidence::User),
        (&[Evidence::AuthInfo], Evidence::User),
        (&[Evidence::Record], Evidence::User),
        (&[Evidence::User], Evidence::AuthInfo),
        (&[Evidence::User, Evidence::AuthInfo], Evidence::AuthInfo),
    ] {
        assert!(with(now, needed).is_err(), "{now:?} {needed:?}");
    }
}

#[test]
fn rights_of_the_host_follow_the_policies() {
    let mut facts = debian();
    facts.groups.extend([group("adm", 4, &[])]);
    facts.needs.logs = true;
    facts.needs.journal = true;
    facts.needs.jobs.insert(super::super::rights::Units::Named("nginx.service".into()), ["restart"].into());
    let made = plan(&wanted(Flavour::LeastPrivilege, |_| {}), &facts).unwrap();
    assert!(made.steps.iter().any(|step| matches!(step, Step::User { groups, .. } if *groups == ["rexusers", "adm"])));
    assert!(made.notes.iter().any(|note| note.contains("systemd-journal")), "{:?}", made.notes);
    assert!(text_of(&made, "/etc/polkit-1/rules.d/50-rex-agent.rules").contains("\"nginx.service\": [\"restart\"]"));
    // Another way in gives no rights.
    let plain = plan(&wanted(Flavour::ForcedCommand, |_| {}), &facts).unwrap();
    assert!(plain.steps.iter().any(|step| matches!(step, Step::User { groups, .. } if *groups == ["rexusers"])));
    assert!(!plain.steps.iter().any(|step| step.describe().contains("polkit")));
}

#[test]
fn root_is_held_only_when_the_owner_says_so() {
    let root = |change: fn(&mut Words)| {
        wanted(Flavour::Root, |words| {
            words.principal = Some("alice".into());
            change(words);
        })
    };
    let mut facts = Facts { user: Some(User { uid: 0, gid: 0, home: "/root".into(), ..user("root", "/bin/bash") }), ..debian() };
    facts.sshd.as_mut().unwrap().key_files = vec!["/root/.ssh/authorized_keys".into()];
    facts.put("/root/.ssh", folder(0o700, 0, 0));
    let soft = plan(&root(|_| {}), &facts).unwrap();
    assert!(soft.held.is_empty() && soft.checks.is_empty() && soft.notes[0].contains("stays so"));
    assert!(
        text_of(&soft, "/root/.ssh/authorized_keys")
            .starts_with("restrict,command=\"exec /usr/bin/rex session --principal alice\" ssh-ed25519 ")
    );
    let hard = plan(&root(|words| words.forced_commands_only = true), &facts).unwrap();
    assert_eq!(hard.held, ["root"]);
    text_of(&hard, ROOT_DROP_IN);
    // Where root could not log in at all, a forced command is more, and locks nobody out.
    facts.sshd.as_mut().unwrap().permit_root_login = "no".into();
    let more = plan(&root(|_| {}), &facts).unwrap();
    assert!(more.held.is_empty() && text_of(&more, ROOT_DROP_IN).contains("forced-commands-only"));
}

#[test]
fn accounts_that_are_there_are_taken_as_they_are_or_refused() {
    let mut facts = Facts { user: Some(user("agent", "/bin/bash")), ..debian() };
    facts.put("/home/agent", folder(0o755, 1000, 1000));
    facts.groups.extend([group("rexusers", 990, &["old"])]);
    let made = plan(&wanted(Flavour::ForcedCommand, |_| {}), &facts).unwrap();
    assert!(made.steps.contains(&Step::Member { user: "agent".into(), group: "rexusers".into() }));
    assert!(made.steps.contains(&Step::Shell { user: "agent".into(), shell: "/bin/sh".into(), before: "/bin/bash".into() }));
    assert_eq!(made.held, ["agent", "old"]);
    assert!(made.notes.iter().any(|note| note.contains("chown root:root /home/agent")));
    let zero = Facts { user: Some(User { uid: 0, ..user("agent", "/bin/sh") }), ..facts.clone() };
    assert!(refused(&wanted(Flavour::ForcedCommand, |_| {}), &zero).contains("root by another name"));
    let alone = Facts { user: None, groups: [group("agent", 1000, &[])].into(), ..debian() };
    assert!(refused(&wanted(Flavour::ForcedCommand, |_| {}), &alone).contains("there is a group `agent`"));
    let key = |name: &str| wanted(Flavour::Key, |words| (words.account, words.principal) = (Some(name.into()), Some("alice".into())));
    assert!(refused(&key("nobody"), &Facts { user: None, ..debian() }).contains("there is no account"));
    let shell = Facts { user: Some(user("carol", "/usr/sbin/nologin")), ..debian() };
    assert!(refused(&key("carol"), &shell).contains("runs no forced command"));
}

#[test]
fn folders_that_sessions_share_get_their_group_back() {
    let mut facts = debian();
    facts.groups.extend([group("rexusers", 990, &[])]);
    facts.put("/var/log/rex", folder(0o700, 0, 0));
    facts.put(super::super::AUDIT_FILE, Thing::File(Found { content: b"{}\n".to_vec(), mode: 0o660, uid: 999, gid: 995 }));
    let made = plan(&wanted(Flavour::ForcedCommand, |_| {}), &facts).unwrap();
    let given: Vec<String> = made.steps.iter().filter(|step| matches!(step, Step::Rights { .. })).map(Step::describe).collect();
    assert_eq!(given, ["give /var/log/rex to root:rexusers, 2770", "give /var/log/rex/rex.jsonl to root:rexusers, 0660"]);
    facts.put("/var/log/rex", folder(0o2770, 0, 990));
    assert!(!plan(&wanted(Flavour::ForcedCommand, |_| {}), &facts).unwrap().steps.iter().any(|step| matches!(step, Step::Rights { .. })));
    facts.put("/etc/rex", folder(0o775, 0, 0));
    assert!(refused(&wanted(Flavour::ForcedCommand, |_| {}), &facts).contains("not root's alone"));
}

#[test]
fn what_the_host_lacks_is_said() {
    let none = Facts { sshd: None, ..debian() };
    assert!(refused(&wanted(Flavour::ForcedCommand, |_| {}), &none).contains("no sshd"));
    let serve = wanted(Flavour::Serve, |words| words.principal = Some("alice".into()));
    assert!(refused(&serve, &Facts { systemd: false, ..none.clone() }).contains("systemd"));
    let made = plan(&serve, &none).unwrap();
    assert!(
        made.steps.ends_with(&[Step::Unit { name: "rex.service".into() }])
            && made.steps.contains(&Step::Made { path: "/var/lib/rex/host_key".into() })
    );
    assert!(text_of(&made, "/etc/rex/rex.toml").contains("host_key = \"/var/lib/rex/host_key\""));
    let mut shell = debian();
    shell.sshd.as_mut().unwrap().sftp = Some("internal-sftp -l INFO".into());
    assert!(refused(&wanted(Flavour::LoginShell, |_| {}), &shell).contains("internal-sftp"));
}
