//! The evidence `record`: sshd's account of the key, kept by root under the kernel's audit session, on a uid that hostile neighbours share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Account, Key, Rex, Run, Sshd, until};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::Command;

/// As setup and the documents have it, for this host's rex and rex.toml.
const RECORDED: &str = r#"sed -i '/@include common-session/a session optional pam_exec.so quiet {rex} pam-record --config {config}' "$1""#;
const FORCED: &str = "ExposeAuthInfo no\nMatch Group {group}\n    ForceCommand exec {rex} session --config {config}";
/// What a caller finds who is alice.
const SECRET: &str = "cat(\"{data}/secret\")";

/// One account for all, told apart by their keys: alice may see the secret, bob may not.
struct Host {
    sshd: Sshd,
    alice: Key,
    bob: Key,
    account: Account,
    rex: Rex,
}

impl Host {
    fn new(edit: &str, lines: &str) -> Self {
        let account = Account::new();
        let rex = Rex::new()
            .config("identity = [\"record\"]\nlogin_records = \"../logins\"")
            .policy("permit(principal == User::\"alice\", action, resource);")
            .file("secret", "s3cret\n")
            .account(&account);
        let (alice, bob) = (Key::new(&rex, "alice"), Key::new(&rex, "bob"));
        let rex =
            rex.principals(&format!("default = \"refuse\"\n{}{}", common::mapped_key(&alice, "alice"), common::mapped_key(&bob, "bob")));
        let sshd = Sshd::start_with_service(&rex, edit, &lines.replace("{group}", &account.name));
        for key in [&alice, &bob] {
            sshd.authorize(&account.name, "", key);
        }
        Self { sshd, alice, bob, account, rex }
    }
    fn ssh(&self, key: &Key, options: &[&str], request: &str, stdin: &str) -> Run {
        self.sshd.ssh(&self.rex, &self.account.name, key, options, &[request], stdin)
    }
    /// Logged in as bob, without a forced command: a neighbour of the same uid with a shell.
    fn neighbour(&self, shell: &str) -> Run {
        let program = self.rex.program().display().to_string();
        let config = self.rex.config_file().display().to_string();
        let shell = self
            .rex
            .fill(shell)
            .replace("{rex}", &program)
            .replace("{config}", &config)
            .replace("{logins}", self.logins().to_str().unwrap());
        self.ssh(&self.bob, &[], &shell, SECRET)
    }
    fn logins(&self) -> PathBuf {
        self.rex.root().join("logins")
    }
    fn recorded(&self) -> Vec<PathBuf> {
        fs::read_dir(self.logins()).map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
    }
}

/// A kernel without audit gives no session: then there is nothing to test but that nobody gets in, which `without_audit…` does.
fn audited() -> bool {
    let works = Command::new("sh")
        .args(["-c", "echo 0 >/proc/self/loginuid && [ $(cat /proc/self/sessionid) != 4294967295 ]"])
        .output()
        .unwrap()
        .status
        .success();
    if !works {
        eprintln!("skipped: this kernel gives no audit sessions");
    }
    works
}

macro_rules! needs_audit {
    () => {
        if !common::is_root() || !audited() {
            return;
        }
    };
}

#[test]
fn the_key_of_the_login_decides_on_a_shared_account_and_its_record_goes_with_the_login() {
    needs_audit!();
    let host = Host::new(RECORDED, FORCED);
    let run = host.ssh(&host.alice, &[], "rex", SECRET);
    assert_eq!((run.code, run.stdout.as_str()), (0, "s3cret\n"), "{run:#?}");
    assert!(format!("{:?}", run.audit).contains("record"), "{run:#?}");
    host.ssh(&host.bob, &[], "rex", SECRET).ends(77);
    let whoami = host.ssh(&host.bob, &[], "rex whoami", "").ends(0).stdout.clone();
    assert!(whoami.contains("bob") && whoami.contains("rex pam-record") && whoami.contains(&host.bob.fingerprint()), "{whoami}");
    assert!(until(10.0, || host.recorded().is_empty()), "{:?}", host.recorded());

    // While the login lasts: root's file, and this account's group reads it.
    let session = host.sshd.begin(&host.account.name, &host.alice, &[], &["rex", "-e", "'sleep(30)'"]);
    assert!(until(10.0, || !host.recorded().is_empty()));
    let record = host.recorded().remove(0);
    let stat = record.metadata().unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (0, host.account.gid, 0o640));
    assert_eq!(host.logins().metadata().unwrap().mode() & 0o7777, 0o711);
    drop(session);
    assert!(until(10.0, || host.recorded().is_empty()));
}

#[test]
fn a_certificate_on_record_is_judged_like_any() {
    needs_audit!();
    let host =
        Host::new(RECORDED, &format!("TrustedUserCAKeys {{root}}/ssh/ca.pub\nAuthorizedPrincipalsFile {{root}}/ssh/principals\n{FORCED}"));
    let ca = Key::new(&host.rex, "ca");
    fs::write(host.rex.root().join("ssh/principals"), "ops\n").unwrap();
    let map = common::mapped_certificate(&ca, "ops", "alice");
    fs::write(host.rex.root().join("etc/principals.toml"), format!("default = \"refuse\"\n{map}")).unwrap();
    let person = Key::new(&host.rex, "person");
    ca.certify(&person, "a person", "ops", &["-V", "-5m:+5m"]);
    assert_eq!(host.ssh(&person, &[], "rex", SECRET).ends(0).stdout, "s3cret\n");
}

#[test]
fn without_the_record_nobody_gets_in_whatever_the_client_or_the_home_says() {
    if !common::is_root() {
        return;
    }
    let genuine = |host: &Host| format!("publickey {}", host.alice.public);
    // No pam_exec line; no PAM at all; and then everything that could stand for it.
    let unrecorded = Host::new("true", &format!("AcceptEnv *\nPermitUserEnvironment yes\n{FORCED}"));
    let said = genuine(&unrecorded);
    unrecorded
        .account
        .write(".pam_environment", &format!("SSH_AUTH_INFO_0 DEFAULT=\"{said}\"\nSSH_USER_AUTH DEFAULT=/tmp/sshauth.ABCDEFGHIJKLMNO\n"));
    for key in [&unrecorded.alice, &unrecorded.bob] {
        for set in ["SetEnv LC_X=1".to_owned(), format!("SetEnv \"SSH_AUTH_INFO_0={said}\""), "SetEnv PAM_TYPE=open_session".to_owned()] {
            let run = unrecorded.ssh(key, &["-o", &set], "rex", SECRET);
            assert_eq!((run.code, run.stdout.as_str()), (77, ""), "{set}: {run:#?}");
            assert!(run.stderr.contains("record"), "{run:#?}");
            assert_eq!(run.audit.len(), 1, "the refusal is on record: {run:#?}");
        }
    }
    assert_eq!(unrecorded.recorded(), Vec::<PathBuf>::new());

    // A home with PAM variables changes nothing of what is recorded.
    if audited() {
        let host = Host::new(RECORDED, FORCED);
        let said = genuine(&host);
        host.account.write(".pam_environment", &format!("SSH_AUTH_INFO_0 DEFAULT=\"{said}\"\nPAM_TYPE DEFAULT=open_session\n"));
        host.ssh(&host.bob, &[], "rex", SECRET).ends(77);
        assert_eq!(host.ssh(&host.alice, &[], "rex", SECRET).ends(0).stdout, "s3cret\n");
    }
}

#[test]
fn a_neighbour_with_a_shell_on_the_same_uid_is_only_ever_himself() {
    needs_audit!();
    let host = Host::new(RECORDED, "AcceptEnv *\nExposeAuthInfo yes");
    // Bob's own session is bob, alice's is alice, without a forced command too.
    host.neighbour("{rex} session --config {config}").ends(77);
    assert!(
        host.neighbour("{rex} -c 'rex whoami'; SSH_ORIGINAL_COMMAND='rex whoami' {rex} session --config {config}").stdout.contains("bob")
    );

    // Alice is logged in meanwhile, so that there is a record of hers to get at.
    assert!(until(10.0, || host.recorded().is_empty()));
    let alice = host.sshd.begin(&host.account.name, &host.alice, &[], &["sleep", "60"]);
    assert!(until(10.0, || !host.recorded().is_empty()));
    let hers = host.recorded().remove(0);
    let before = (fs::read(&hers).unwrap(), hers.metadata().unwrap().ino());
    let id = hers.file_name().unwrap().to_str().unwrap().to_owned();
    let forgeries = [
        // The number that the kernel knows the login by.
        format!("echo {id} >/proc/self/sessionid; {{rex}} session --config {{config}}"),
        "echo 0 >/proc/self/loginuid; {rex} session --config {config}".to_owned(),
        "echo 4294967295 >/proc/self/loginuid; {rex} session --config {config}".to_owned(),
        "unshare -r {rex} session --config {config}".to_owned(),
        "unshare -rpf --mount-proc {rex} session --config {config}".to_owned(),
        // The files.
        format!("cp {{logins}}/{id} {{logins}}/$(cat /proc/self/sessionid); {{rex}} session --config {{config}}"),
        format!("cat {{logins}}/{id} >{{logins}}/$(cat /proc/self/sessionid); {{rex}} session --config {{config}}"),
        format!("mv {{logins}}/{id} {{logins}}/$(cat /proc/self/sessionid); {{rex}} session --config {{config}}"),
        format!(
            "rm -f {{logins}}/$(cat /proc/self/sessionid); ln {{logins}}/{id} {{logins}}/$(cat /proc/self/sessionid); {{rex}} session --config {{config}}"
        ),
        format!("ln -sf {id} {{logins}}/$(cat /proc/self/sessionid); {{rex}} session --config {{config}}"),
        "mv {logins} {logins}.old; mkdir {logins}; {rex} session --config {config}".to_owned(),
        // A file of sshd's form, and sshd's own file of alice's connection.
        "for f in /tmp/sshauth.*; do SSH_USER_AUTH=$f {rex} session --config {config} <&0; done".to_owned(),
        format!(
            "f=/tmp/sshauth.NEIGHBOURNEIGHB; umask 077; echo 'publickey {}' >$f; SSH_USER_AUTH=$f {{rex}} session --config {{config}}; r=$?; rm -f $f; exit $r",
            host.alice.public
        ),
        // The helper.
        format!(
            "PAM_TYPE=open_session SSH_AUTH_INFO_0='publickey {}' {{rex}} pam-record --config {{config}}; {{rex}} session --config {{config}}",
            host.alice.public
        ),
        "PAM_TYPE=close_session {rex} pam-record --config {config}; {rex} session --config {config}".to_owned(),
        // Alice's own processes: her shell's memory and descriptors are what ptrace guards; her rex is not dumpable.
        "{rex} session --config {config} --principal alice".to_owned(),
    ];
    for forgery in &forgeries {
        let run = host.neighbour(forgery);
        assert!(run.code != 0 && !run.stdout.contains("s3cret"), "{forgery}: {run:#?}");
        assert!(!run.audit.iter().any(|record| record["principal"] == "alice"), "{forgery}: {run:#?}");
        assert_eq!((fs::read(&hers).unwrap(), hers.metadata().unwrap().ino()), before, "{forgery}");
    }
    drop(alice);
}

#[test]
fn what_outlives_its_login_or_is_of_another_uid_is_nobody() {
    needs_audit!();
    let host = Host::new(RECORDED, "ClientAliveInterval 0");
    // A process of alice's login that stays when her connection is over.
    let late = "setsid sh -c 'sleep 3; {rex} session --config {config} <{data}/script >{data}/late 2>&1; echo done $? >>{data}/late' >/dev/null 2>&1 </dev/null &";
    fs::write(host.rex.path("script"), host.rex.fill(SECRET)).unwrap();
    fs::write(host.rex.path("late"), "").unwrap();
    chown(host.rex.path("late"), Some(host.account.uid), None).unwrap();
    let fill = |text: &str| {
        host.rex
            .fill(text)
            .replace("{rex}", host.rex.program().to_str().unwrap())
            .replace("{config}", host.rex.config_file().to_str().unwrap())
    };
    host.ssh(&host.alice, &[], &fill(late), "").ends(0);
    assert!(until(20.0, || host.rex.read("late").contains("done")));
    let said = host.rex.read("late");
    assert!(said.contains("done 77") && !said.contains("s3cret"), "{said}");

    // sshd is killed: nobody takes the record away, and it counts no more.
    assert!(until(10.0, || host.recorded().is_empty()));
    fs::write(host.rex.path("late"), "").unwrap();
    let request = fill(&format!("echo up >{{data}}/late; {late} sleep 60"));
    let alice = host.sshd.begin(&host.account.name, &host.alice, &[], &[&request]);
    assert!(until(10.0, || host.rex.read("late").contains("up")));
    let left = host.recorded().remove(0);
    let login: serde_json::Value = serde_json::from_slice(&fs::read(&left).unwrap()).unwrap();
    let sshd = i32::try_from(login["sshd"]["pid"].as_i64().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(sshd).unwrap(), rustix::process::Signal::KILL).unwrap();
    assert!(until(20.0, || host.rex.read("late").contains("done")), "{:?} {}", host.rex.read("late"), host.sshd.log());
    let said = host.rex.read("late");
    assert!(said.contains("done 77") && said.contains("over"), "{said}");
    assert!(left.exists());
    drop(alice);
    // The next login clears up.
    host.ssh(&host.bob, &[], "true", "").ends(0);
    assert!(until(10.0, || host.recorded().is_empty()), "{:?}", host.recorded());
}

#[test]
fn a_service_without_pam_loginuid_gives_nobody_a_record() {
    needs_audit!();
    // The daemon of an owner who started it by hand: it is in a session itself, which its connections then share.
    let edit = format!("echo 0 >/proc/self/loginuid; {RECORDED} && sed -i '/pam_loginuid/d' \"$1\"");
    let host = Host::new(&edit, FORCED);
    for key in [&host.alice, &host.bob] {
        let run = host.ssh(key, &[], "rex", SECRET);
        assert_eq!((run.code, run.stdout.as_str()), (77, ""), "{run:#?}");
    }
    assert_eq!(host.recorded(), Vec::<PathBuf>::new());
}

#[test]
fn a_folder_that_others_can_write_or_that_is_a_link_of_theirs_is_no_evidence() {
    needs_audit!();
    let host = Host::new(RECORDED, FORCED);
    assert_eq!(host.ssh(&host.alice, &[], "rex", SECRET).ends(0).stdout, "s3cret\n");
    fs::set_permissions(host.logins(), fs::Permissions::from_mode(0o777)).unwrap();
    host.ssh(&host.alice, &[], "rex", SECRET).ends(77);
    fs::remove_dir_all(host.logins()).unwrap();
    let elsewhere = host.account.home.join("logins");
    fs::create_dir(&elsewhere).unwrap();
    chown(&elsewhere, Some(host.account.uid), None).unwrap();
    symlink(&elsewhere, host.logins()).unwrap();
    host.ssh(&host.alice, &[], "rex", SECRET).ends(77);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "nothing was written where the account can change it");
}

#[test]
fn the_helper_says_what_it_lacks_and_writes_nothing() {
    let rex = Rex::new().config("login_records = \"../logins\"");
    let config = rex.config_file();
    let words = ["pam-record", "--config", config.to_str().unwrap()];
    for (variables, said) in [
        (vec![], "PAM_TYPE"),
        (vec![("PAM_TYPE", "auth")], "session"),
        (vec![("PAM_TYPE", "open_session")], if common::is_root() { "" } else { "root" }),
    ] {
        let mut command = rex.command(&words);
        command.envs(variables.clone());
        let run = rex.finish(command, b"");
        assert!(run.code != 0, "{variables:?}: {run:#?}");
        assert!(run.stderr.contains(said) || !common::is_root(), "{variables:?}: {run:#?}");
        assert!(!rex.root().join("logins").exists());
    }
}
