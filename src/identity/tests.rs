//! From evidence to principal, end to end: what each kind proves, and that nothing falls back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::fixtures::{self, AuthFile, NOW, fingerprint, key_line};
use super::*;

const PASSWD: &str =
    "alice:x:@UID@:@UID@::/home/alice:/bin/sh\nalias:x:@UID@:@UID@::/home/alice:/bin/sh\nother:x:4000000000:1::/:/bin/sh\n";

/// One session: an account of the login if any, other variables, principals.toml.
struct Session {
    files: tempfile::TempDir,
    account: Option<AuthFile>,
    variables: Vec<(Vec<u8>, Vec<u8>)>,
    argument: Option<&'static str>,
    uid: u32,
    principals: Principals,
}

impl Session {
    fn new(principals: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        std::fs::write(files.path().join("passwd"), PASSWD.replace("@UID@", &uid.to_string())).unwrap();
        let principals = Principals::parse(principals, "principals.toml").unwrap();
        Self { files, account: None, variables: vec![], argument: None, uid, principals }
    }
    /// alice has key 1 and unix user alice; bob key 2; authority 100 maps by name; key 50 is a bastion; fixer works for alice.
    fn usual() -> Self {
        Self::new(&format!(
            "[[principal]]\nname = \"alice\"\ngroups = [\"oncall\", \"dba\"]\nunix_users = [\"alice\"]\nkeys = [\"{}\", \"{}\"]\n\
             [[principal]]\nname = \"bob\"\nkeys = [\"{}\"]\n\
             [[principal]]\nname = \"fixer\"\non_behalf_of = \"alice\"\nkeys = [\"{}\"]\n\
             [[authority]]\nname = \"corp\"\nfingerprint = \"{}\"\nmap_principals = true\n\
             [[bastion]]\nname = \"jump\"\nfingerprint = \"{}\"\nvariable = \"LC_BASTION\"\n",
            fingerprint(1),
            fingerprint(11),
            fingerprint(2),
            fingerprint(3),
            fingerprint(100),
            fingerprint(50)
        ))
    }
    fn account(mut self, text: &str) -> Self {
        let file = AuthFile::new(text.as_bytes());
        self.variables.push((b"SSH_USER_AUTH".to_vec(), file.name()));
        self.account = Some(file);
        self
    }
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }
    fn argument(mut self, name: &'static str) -> Self {
        self.argument = Some(name);
        self
    }
    fn uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }
    fn with<T>(&self, inherited: Option<&[u8]>, act: impl FnOnce(&EvidenceSources<'_>) -> T) -> T {
        let names = Names::with_files(&self.files.path().join("passwd"), &self.files.path().join("group"), None);
        let environment = Environment::of(self.variables.clone());
        let logins = self.files.path().join("logins");
        act(&EvidenceSources {
            argument: self.argument,
            environment: &environment,
            logins: &logins,
            uid: self.uid,
            names: &names,
            inherited,
        })
    }
    fn establish(&self, demanded: &[Evidence]) -> Result<Identity> {
        self.with(None, |asked| establish(asked, demanded, &self.principals, NOW))
    }
    fn denial(&self, demanded: &[Evidence]) -> String {
        let error = self.establish(demanded).unwrap_err();
        assert_eq!(error.kind, Kind::Denied, "{error}");
        error.message
    }
}

use Evidence::{Argument, AuthInfo, Record, User};

#[test]
fn the_owners_argument_names_the_principal() {
    let identity = Session::usual().argument("alice").establish(&[Argument]).unwrap();
    assert_eq!((identity.name.as_str(), identity.evidence), ("alice", Argument));
    assert_eq!(identity.groups, ["oncall", "dba"]);
    assert_eq!(identity.facts.unix_user, "alice");
    assert_eq!(Session::usual().argument("mallory").establish(&[Argument]).unwrap_err().kind, Kind::Denied);
}

#[test]
fn an_argument_where_it_does_not_count_is_a_denial_not_ignored() {
    assert!(Session::usual().argument("alice").denial(&[User]).contains("does not count"));
    assert!(Session::usual().account(&key_line(1)).argument("alice").denial(&[AuthInfo, User]).contains("does not count"));
    assert_eq!(Session::usual().establish(&[User]).unwrap().name, "alice");
}

#[test]
fn a_demanded_kind_that_is_missing_is_a_denial() {
    assert!(Session::usual().denial(&[Argument]).contains("argument"));
    assert!(Session::usual().denial(&[AuthInfo]).contains("auth-info"));
    assert!(Session::usual().account(&key_line(1)).denial(&[Argument]).contains("nothing shows"));
}

#[test]
fn the_first_kind_present_decides_alone() {
    let both = Session::usual().account(&key_line(2)).argument("alice");
    assert_eq!(both.establish(&[Argument, AuthInfo, User]).unwrap().name, "alice");
    let identity = both.establish(&[AuthInfo, Argument, User]).unwrap();
    assert_eq!((identity.name.as_str(), identity.evidence), ("bob", AuthInfo));
    assert_eq!(Session::usual().establish(&[Argument, AuthInfo, User]).unwrap().evidence, User);
}

#[test]
fn present_but_odd_evidence_never_falls_back() {
    for account in ["", "publickey\n", "password\n", &key_line(99), &key_line(1).replace('\n', "\r\n")] {
        Session::usual().account(account).denial(&[AuthInfo, Argument, User]);
    }
    Session::usual().variable("SSH_USER_AUTH", "").denial(&[AuthInfo, User]);
    Session::usual().variable("SSH_USER_AUTH", "/tmp/sshauth.0000000missing").denial(&[AuthInfo, User]);
    Session::usual().argument("").denial(&[Argument, User]);
    Session::usual().argument("mallory").denial(&[Argument, User]);
}

#[test]
fn a_login_without_a_record_is_nobody_where_the_record_is_demanded_and_the_next_kind_decides_where_it_is_listed_after_it() {
    assert!(Session::usual().denial(&[Record]).contains("record"));
    assert_eq!(Session::usual().establish(&[Record, User]).unwrap().evidence, User);
    assert_eq!(Session::usual().establish(&[]).unwrap_err().kind, Kind::Config);
    assert_eq!(Session::usual().establish(&[Evidence::Inherited]).unwrap_err().kind, Kind::Config);
}

#[test]
fn the_words_of_the_configuration_are_these() {
    for kind in Evidence::LISTABLE {
        assert_eq!(Evidence::of_word(kind.name()), Some(kind));
    }
    for word in ["inherited", "", "Argument", "auth_info"] {
        assert_eq!(Evidence::of_word(word), None);
    }
}

#[test]
fn a_key_is_its_principal_with_all_its_facts() {
    let identity = Session::usual()
        .account(&key_line(3))
        .variable("SSH_CONNECTION", "2001:db8::7 50000 2001:db8::1 22")
        .variable("LC_REX_AGENT", "fixer/2")
        .variable("LC_REX_TASK", "INC-7")
        .establish(&[AuthInfo])
        .unwrap();
    assert_eq!((identity.name.as_str(), identity.expires), ("fixer", None));
    let facts = &identity.facts;
    assert_eq!(facts.key_fingerprint.as_deref(), Some(fingerprint(3).as_str()));
    assert_eq!((facts.key_type.as_deref(), facts.method.as_deref()), (Some("ssh-ed25519"), Some("publickey")));
    assert_eq!(
        (facts.agent.as_deref(), facts.task.as_deref(), facts.on_behalf_of.as_deref()),
        (Some("fixer/2"), Some("INC-7"), Some("alice"))
    );
    assert_eq!(facts.client_address, Some("2001:db8::7".parse().unwrap()));
    let shown = serde_json::to_value(whoami(&identity)).unwrap();
    assert_eq!((shown["principal"].as_str(), shown["evidence"].as_str()), (Some("fixer"), Some("auth-info")));
}

#[test]
fn an_unmapped_key_is_nobody_whatever_the_default() {
    for default in ["refuse", "pass"] {
        let session = Session::new(&format!("default = \"{default}\"\n")).account(&key_line(1));
        assert!(session.denial(&[AuthInfo]).contains("means nobody"));
    }
    let mut session = Session::usual().account(&key_line(1));
    session.principals = Principals::absent();
    session.denial(&[AuthInfo]);
}

#[test]
fn two_keys_give_the_same_answer_in_both_orders() {
    let of = |a: &str, b: &str| Session::usual().account(&(a.to_owned() + b)).establish(&[AuthInfo]);
    assert_eq!(of(&key_line(1), &key_line(11)).unwrap(), of(&key_line(11), &key_line(1)).unwrap());
    assert_eq!(of(&key_line(1), &key_line(11)).unwrap().name, "alice");
    for (a, b) in [(1, 2), (1, 99)] {
        for (a, b) in [(a, b), (b, a)] {
            assert_eq!(of(&key_line(a), &key_line(b)).unwrap_err().kind, Kind::Denied);
        }
    }
    let certificate = fixtures::Certificate::default().line();
    let identity = of(&certificate, &key_line(11)).unwrap();
    assert_eq!(identity, of(&key_line(11), &certificate).unwrap());
    assert!(identity.facts.certificate.is_some() && identity.expires == Some(NOW + 60));
}

#[test]
fn other_steps_beside_a_key_do_not_change_who_it_is() {
    let identity =
        Session::usual().account(&format!("{}password\nkeyboard-interactive/pam\n", key_line(1))).establish(&[AuthInfo]).unwrap();
    assert_eq!((identity.name.as_str(), identity.facts.method.as_deref()), ("alice", Some("keyboard-interactive,password,publickey")));
}

#[test]
fn without_a_users_key_there_is_no_key_principal() {
    for account in ["password\n", "keyboard-interactive/pam\n", &key_line(1).replace("publickey", "hostbased"), "gssapi-with-mic alice@R\n"]
    {
        assert!(Session::usual().account(account).denial(&[AuthInfo]).contains("not made with a user's key"));
    }
}

#[test]
fn a_certificate_is_its_principal_until_it_expires() {
    let identity = Session::usual().account(&fixtures::Certificate::default().line()).establish(&[AuthInfo]).unwrap();
    assert_eq!((identity.name.as_str(), identity.expires), ("alice", Some(NOW + 60)));
    assert_eq!(identity.facts.certificate.unwrap().key_id, "alice@laptop");
    assert_eq!(identity.facts.key_fingerprint, Some(fingerprint(1)));
}

#[test]
fn certificates_that_prove_nobody_are_denied() {
    let of = fixtures::Certificate::default;
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    for (certificate, what) in [
        (fixtures::Certificate { authority: 101, ..of() }, "not registered"),
        (fixtures::Certificate { before: NOW, ..of() }, "expired"),
        (fixtures::Certificate { after: NOW + 1, ..of() }, "not valid yet"),
        (fixtures::Certificate { principals: names(&[]), ..of() }, "nobody's"),
        (fixtures::Certificate { principals: names(&["mallory"]), ..of() }, "means nobody"),
        (fixtures::Certificate { principals: names(&["alice,bob"]), ..of() }, "means nobody"),
        (fixtures::Certificate { principals: names(&["alice", "bob"]), ..of() }, "2 principals"),
        (fixtures::Certificate { critical: vec![("x", "")], ..of() }, "critical option"),
    ] {
        let message = Session::usual().account(&certificate.line()).denial(&[AuthInfo, User]);
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn the_bare_key_of_a_certificate_is_not_looked_up() {
    // Key 1 is alice's, but this certificate for it maps to nobody.
    let certificate = fixtures::Certificate { key: 1, principals: vec!["mallory".into()], ..fixtures::Certificate::default() };
    Session::usual().account(&certificate.line()).denial(&[AuthInfo]);
}

#[test]
fn only_the_bastions_key_may_name_the_person() {
    let identity = Session::usual().account(&key_line(50)).variable("LC_BASTION", "bob").establish(&[AuthInfo]).unwrap();
    assert_eq!((identity.name.as_str(), identity.facts.via.as_deref()), ("bob", Some("jump")));
    assert_eq!(identity.facts.key_fingerprint, Some(fingerprint(50)));
    let identity = Session::usual().account(&key_line(1)).variable("LC_BASTION", "bob").establish(&[AuthInfo]).unwrap();
    assert_eq!((identity.name.as_str(), identity.facts.via), ("alice", None));
    assert!(Session::usual().account(&key_line(50)).denial(&[AuthInfo, User]).contains("without LC_BASTION"));
    let twice = Session::usual().account(&key_line(50)).variable("LC_BASTION", "bob").variable("LC_BASTION", "bob");
    assert!(twice.denial(&[AuthInfo]).contains("more than once"));
    for name in ["", "mallory", "bob\n", "jump"] {
        Session::usual().account(&key_line(50)).variable("LC_BASTION", name).denial(&[AuthInfo, User]);
    }
}

#[test]
fn the_unix_user_is_the_kernels_and_never_a_variables() {
    let identity = Session::usual()
        .variable("USER", "root")
        .variable("LOGNAME", "root")
        .variable("HOME", "/root")
        .variable("REX_PRINCIPAL", "bob")
        .variable("LC_BASTION", "bob")
        .establish(&[User])
        .unwrap();
    assert_eq!((identity.name.as_str(), identity.facts.unix_user.as_str()), ("alice", "alice"));
    assert_eq!(identity.facts.via, None);
}

#[test]
fn a_uid_without_a_name_or_mapping_is_nobody() {
    assert!(Session::usual().uid(4_000_000_001).denial(&[User]).contains("4000000001"));
    assert!(Session::usual().uid(4_000_000_000).denial(&[User]).contains("`other`"));
    assert_eq!(Session::usual().uid(4_000_000_001).argument("bob").establish(&[Argument]).unwrap().facts.unix_user, "uid:4000000001");
}

#[test]
fn without_principals_toml_arguments_and_users_are_themselves() {
    let mut session = Session::usual();
    session.principals = Principals::absent();
    let identity = session.establish(&[User]).unwrap();
    assert_eq!((identity.name.as_str(), identity.groups.len()), ("alice", 0));
    assert_eq!(session.argument("carol").establish(&[Argument]).unwrap().name, "carol");
}

#[test]
fn variables_that_are_read_and_there_twice_deny() {
    for name in ["SSH_CONNECTION", "LC_REX_AGENT", "LC_REX_TASK"] {
        let session = Session::usual().variable(name, "x").variable(name, "x");
        assert!(session.denial(&[User]).contains("more than once"), "{name}");
    }
    assert!(Session::usual().variable("LC_OTHER", "x").variable("LC_OTHER", "y").establish(&[User]).is_ok());
}

#[test]
fn odd_words_of_the_client_are_left_out_and_noted() {
    let identity = Session::usual().variable("LC_REX_AGENT", "a\u{1b}[2J").establish(&[User]).unwrap();
    assert_eq!(identity.facts.agent, None);
    assert!(identity.derivation.iter().any(|note| note.contains("LC_REX_AGENT was ignored")));
    assert!(identity.derivation.iter().all(|note| !note.contains(char::is_control)));
}

#[test]
fn an_account_rewritten_later_does_not_change_an_argument() {
    let session = Session::usual().account(&key_line(2)).argument("alice");
    let before = session.establish(&[Argument, AuthInfo]).unwrap();
    std::fs::write(&session.account.as_ref().unwrap().0, "rubbish").unwrap();
    assert_eq!(session.establish(&[Argument, AuthInfo]).unwrap(), before);
}

/// What `rex serve` would hand over for this key or certificate.
fn handover(key: &[u8], certificate: Option<&[u8]>) -> String {
    use base64::Engine;
    let text = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    serde_json::json!({
        "version": 1, "user": "whoever", "method": "publickey",
        "key": {"type": "ssh-ed25519", "blob": text(key), "fingerprint": "SHA256:unused"},
        "certificate": certificate.map(text), "client_address": "192.0.2.7", "client_port": 4000,
        "env": {"LC_REX_AGENT": "helper"}, "server_fingerprint": "SHA256:unused",
    })
    .to_string()
}

#[test]
fn what_rex_serve_hands_over_means_the_same_principal_as_sshds_account() {
    let session = Session::usual().variable("SSH_CONNECTION", "192.0.2.66 1 192.0.2.1 22");
    let by = |json: &str, now: u64| session.with(Some(json.as_bytes()), |asked| establish(asked, &[User], &session.principals, now));
    let plain = by(&handover(&fixtures::blob(1), None), NOW).unwrap();
    assert_eq!((plain.name.as_str(), plain.evidence), ("alice", Evidence::Inherited));
    assert_eq!(plain.facts.client_address, "192.0.2.7".parse().ok());
    assert_eq!(plain.facts.agent.as_deref(), Some("helper"));
    let json = handover(&fixtures::blob(1), Some(&fixtures::Certificate::default().blob()));
    assert_eq!(by(&json, NOW).unwrap().name, "alice");
    assert!(by(&json, NOW + 3600 * 24 * 365).unwrap_err().message.contains("expired"));
    assert_eq!(by(&handover(&fixtures::blob(9), None), NOW).unwrap_err().kind, Kind::Denied);
}

#[test]
fn a_handover_of_another_form_is_denied() {
    let session = Session::usual();
    let good = handover(&fixtures::blob(1), None);
    let odd = [
        String::new(),
        "{}".into(),
        format!("{good}x"),
        good.replace("\"version\":1", "\"version\":2"),
        good.replace("\"ssh-ed25519\"", "\"ssh-rsa\""),
        good.replace("\"blob\":\"", "\"blob\":\"!"),
        good.replace("\"user\":", "\"extra\":1,\"user\":"),
    ];
    for json in odd {
        assert_ne!(json, good);
        let error = session.with(Some(json.as_bytes()), |asked| establish(asked, &[User], &session.principals, NOW)).unwrap_err();
        assert_eq!(error.kind, Kind::Denied, "{json}");
    }
    let both = session.argument("alice");
    assert!(both.with(Some(good.as_bytes()), |asked| establish(asked, &[Argument], &both.principals, NOW)).is_err());
}
