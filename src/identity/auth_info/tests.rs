//! The account of the login is taken exactly as sshd writes it, or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::identity::fixtures::{AuthFile, Certificate, blob, encoded, fingerprint, key_line};

fn refusal(content: impl AsRef<[u8]>) -> String {
    let error = parse(content.as_ref()).unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    assert!(!error.message.contains(char::is_control));
    error.message
}

fn environment(values: &[&[u8]]) -> Environment {
    Environment::of(values.iter().map(|value| (b"SSH_USER_AUTH".to_vec(), value.to_vec())).collect())
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[test]
fn lines_as_sshd_writes_them_are_read() {
    let text = key_line(1)
        + Certificate::default().line().as_str()
        + "password\nkeyboard-interactive/pam\nkeyboard-interactive\ngssapi-with-mic user@REALM\n";
    let steps = parse(text.as_bytes()).unwrap();
    let methods: Vec<&str> = steps.iter().map(|step| step.method.name()).collect();
    assert_eq!(methods, ["publickey", "publickey", "password", "keyboard-interactive", "keyboard-interactive", "gssapi-with-mic"]);
    assert_eq!(steps[0].key.as_ref().unwrap().fingerprint(), fingerprint(1));
    assert!(matches!(steps[1].key, Some(Key::Certificate(_))));
    assert!(steps[2..].iter().all(|step| step.key.is_none()));
}

#[test]
fn the_key_of_a_host_is_no_key_of_a_user() {
    let steps = parse(key_line(1).replace("publickey", "hostbased").as_bytes()).unwrap();
    assert_eq!((steps[0].method, steps[0].key.is_none()), (Method::HostBased, true));
}

#[test]
fn lines_of_any_other_form_are_refused() {
    let good = key_line(1);
    let line = good.trim_end();
    let encoded = encoded(&blob(1));
    for (text, what) in [
        (String::new(), "empty or does not end"),
        (line.to_owned(), "does not end with a newline"),
        (format!("{line}\r\n"), "control character"),
        (format!("{line}\n\n"), "line 2"),
        ("\n".into(), "line 1"),
        (format!("\n{good}"), "line 1"),
        (format!(" {good}"), "method"),
        (format!("{line} \n"), "trailing text"),
        (format!("{line} comment\n"), "trailing text"),
        (format!("publickey  ssh-ed25519 {encoded}\n"), "trailing text"),
        (format!("publickey\tssh-ed25519 {encoded}\n"), "control character"),
        (format!("Publickey ssh-ed25519 {encoded}\n"), "does not know"),
        (format!("pubkey ssh-ed25519 {encoded}\n"), "does not know"),
        (format!("publickey/x ssh-ed25519 {encoded}\n"), "variant"),
        (format!("publickey/ ssh-ed25519 {encoded}\n"), "variant"),
        ("publickey\n".into(), "lacks the key"),
        ("publickey \n".into(), "lacks the key"),
        ("publickey ssh-ed25519\n".into(), "lacks the key"),
        ("publickey ssh-ed25519 \n".into(), "another type"),
        ("publickey ssh-ed25519 !!!!\n".into(), "not base64"),
        (format!("publickey ssh-ed25519 {}\n", &encoded[..encoded.len() - 2]), "not base64"),
        (format!("publickey ssh-ed25519 {encoded}=\n"), "not base64"),
        (format!("publickey ssh-rsa {encoded}\n"), "another type"),
        (format!("publickey ssh-ed25519-cert-v01@openssh.com {encoded}\n"), "another type"),
        (Certificate::default().line().replace("-cert-v01@openssh.com", ""), "another type"),
        ("hostbased\n".into(), "lacks the key"),
        ("hostbased ssh-ed25519 AAAA\n".into(), "another type"),
        ("password \n".into(), "trailing"),
        ("password x\n".into(), "trailing"),
        ("password/x\n".into(), "variant"),
        ("keyboard-interactive/\n".into(), "variant"),
        ("keyboard-interactive/a b\n".into(), "trailing"),
        ("keyboard-interactive/a/b\n".into(), "variant"),
        ("gssapi-with-mic \n".into(), "trailing"),
        ("none\n".into(), "does not know"),
        ("x\0\n".into(), "control character"),
        ("password\n".repeat(17), "more than 16"),
    ] {
        let message = refusal(&text);
        assert!(message.contains(what), "{text:?}\n{message}");
    }
    assert!(refusal(b"password \xff\n").contains("UTF-8"));
    assert_eq!(parse("password\n".repeat(16).as_bytes()).unwrap().len(), 16);
}

#[test]
fn every_strict_prefix_of_an_account_is_refused_or_is_fewer_whole_lines() {
    let text = key_line(1) + "password\n";
    for end in 0..text.len() {
        let whole_lines = end == key_line(1).len();
        assert_eq!(parse(&text.as_bytes()[..end]).is_ok(), whole_lines, "{end}");
    }
}

#[test]
fn the_file_that_sshd_names_is_read() {
    let file = AuthFile::new(key_line(1).as_bytes());
    let environment = environment(&[&file.name()]);
    assert!(is_present(&environment));
    assert_eq!(read(&environment, me()).unwrap().len(), 1);
    assert!(read(&environment, me() + 1).unwrap_err().message.contains("another user"));
}

#[test]
fn a_variable_missing_or_there_twice_is_refused() {
    let file = AuthFile::new(key_line(1).as_bytes());
    assert!(!is_present(&environment(&[])));
    assert!(read(&environment(&[]), me()).unwrap_err().message.contains("missing"));
    let twice = environment(&[&file.name(), &file.name()]);
    assert!(is_present(&twice));
    assert!(read(&twice, me()).unwrap_err().message.contains("more than once"));
}

#[test]
fn other_names_are_not_even_opened() {
    // The same content under a name that sshd does not make.
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("sshauth.abcdefghijklmno");
    std::fs::write(&inside, key_line(1)).unwrap();
    let file = AuthFile::new(key_line(1).as_bytes());
    let name = String::from_utf8(file.name()).unwrap();
    let inside = inside.to_str().unwrap().to_owned();
    let odd = [
        String::new(),
        inside,
        name.replace("/tmp/", "/tmp//"),
        name.replace("/tmp/", "/tmp/../tmp/"),
        name.replace("/tmp/", ""),
        format!("{name}x"),
        name[..name.len() - 1].to_owned(),
        format!("{}/", &name[..name.len() - 1]),
        format!("{}\n", &name[..name.len() - 1]),
        format!("{name} "),
        "/tmp/sshauth.../../etc/pass".into(),
        "/tmp/sshauth.äbcdefghijklm".into(),
    ];
    for path in odd {
        let error = read(&environment(&[path.as_bytes()]), me()).unwrap_err();
        assert_eq!((error.kind, error.message.contains("as sshd makes it")), (Kind::Denied, true), "{path:?}: {error}");
    }
    assert!(read(&environment(&[b"/tmp/sshauth.\xff\xff"]), me()).is_err());
}

#[test]
fn a_file_larger_than_64_kib_is_refused() {
    let file = AuthFile::new(&vec![b'x'; 64 * 1024 + 1]);
    assert!(read(&environment(&[&file.name()]), me()).unwrap_err().message.contains("larger than 65536"));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_denied(content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400), cut in 0_usize..400, at in 0_usize..400) {
        let _either = parse(&content);
        // Damage in the middle of a good account.
        let good = (Certificate::default().line() + key_line(1).as_str()).into_bytes();
        let (cut, at) = (cut.min(good.len()), at.min(good.len()));
        let damaged = [&good[..cut.min(at)], content.as_slice(), &good[cut.max(at)..]].concat();
        if let Err(error) = parse(&damaged) {
            proptest::prop_assert_eq!(error.kind, Kind::Denied);
            proptest::prop_assert!(!error.message.contains(char::is_control));
        }
    }
}
