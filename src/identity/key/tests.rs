//! What a key or certificate must be before it means anybody, with certificates of ssh-keygen and some that it would not make.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::Command;

use base64::Engine;

use super::*;
use crate::identity::fixtures::{self, NOW, blob, fingerprint};

fn checked(certificate: &fixtures::Certificate) -> Result<super::Certificate> {
    check(&certificate.sign(), true, NOW)
}

fn refusal(certificate: fixtures::Certificate) -> String {
    let error = checked(&certificate).unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    error.message
}

fn of() -> fixtures::Certificate {
    fixtures::Certificate::default()
}

#[test]
fn a_valid_certificate_gives_all_it_says() {
    let certificate = fixtures::Certificate {
        principals: vec!["alice".into(), "a,b".into(), "User::\"root\"".into()],
        key_id: "x\" || User::\"root\"".into(),
        extensions: vec![("permit-pty", ""), ("role@rex", "admin")],
        critical: vec![("force-command", "exec /usr/bin/rex session"), ("source-address", "192.0.2.0/24"), ("verify-required", "")],
        ..of()
    };
    let facts = checked(&certificate).unwrap();
    assert_eq!(facts.principals, certificate.principals);
    assert_eq!(
        (facts.key_id, facts.serial, facts.authority, facts.valid_before),
        (certificate.key_id, 42, fingerprint(100), Some(NOW + 60))
    );
    assert_eq!(facts.extensions["role@rex"], "admin");
}

#[test]
fn a_host_certificate_is_refused() {
    assert!(refusal(fixtures::Certificate { kind: CertType::Host, ..of() }).contains("not for users"));
}

#[test]
fn a_certificate_counts_from_its_first_second_to_before_its_last() {
    let certificate = fixtures::Certificate { after: NOW - 10, before: NOW + 10, ..of() }.sign();
    let at = |now: u64| check(&certificate, true, now).map_err(|error| error.message);
    assert!(at(NOW - 11).unwrap_err().contains("not valid yet"));
    assert!(at(NOW - 10).is_ok());
    assert!(at(NOW + 9).is_ok());
    assert!(at(NOW + 10).unwrap_err().contains("expired"));
    assert_eq!(checked(&fixtures::Certificate { before: u64::MAX, ..of() }).unwrap().valid_before, None);
}

#[test]
fn an_authority_that_is_not_registered_is_refused() {
    let error = check(&of().sign(), false, NOW).unwrap_err();
    assert!(error.message.contains(&fingerprint(100)) && error.message.contains("not registered"));
}

#[test]
fn no_principals_is_nobody_and_257_are_too_many() {
    assert!(refusal(fixtures::Certificate { principals: vec![], ..of() }).contains("nobody's"));
    let many = |count: usize| fixtures::Certificate { principals: (0..count).map(|n| n.to_string()).collect(), ..of() };
    assert!(checked(&many(256)).is_ok());
    assert!(refusal(many(257)).contains("more than 256"));
}

#[test]
fn principals_and_key_ids_that_a_record_could_not_show_are_refused() {
    for name in ["", "a\nb", "a\0", "\u{202e}", &"x".repeat(257)] {
        assert!(
            refusal(fixtures::Certificate { principals: vec!["alice".into(), name.into()], ..of() })
                .contains("a principal in the certificate"),
            "{name:?}"
        );
    }
    for key_id in ["a\nb", "\u{1b}[2J", "\0", &"x".repeat(4097), &"x".repeat(65536)] {
        assert!(refusal(fixtures::Certificate { key_id: key_id.into(), ..of() }).contains("key id"));
    }
    assert!(checked(&fixtures::Certificate { key_id: String::new(), ..of() }).is_ok());
}

#[test]
fn critical_options_that_nobody_enforces_are_refused() {
    assert!(refusal(fixtures::Certificate { critical: vec![("shoe-size@x", "44")], ..of() }).contains("shoe-size@x"));
    for option in ["source-address", "force-command", "verify-required"] {
        let certificate = fixtures::Certificate { critical: vec![(option, "x")], ..of() };
        assert!(checked(&certificate).is_ok());
    }
}

#[test]
fn a_certificate_changed_after_signing_is_refused_at_every_byte() {
    let good = of().blob();
    let declared = "ssh-ed25519-cert-v01@openssh.com";
    assert!(matches!(Key::from_blob(declared, &good), Ok(Key::Certificate(certificate)) if check(&certificate, true, NOW).is_ok()));
    for index in 0..good.len() {
        let mut bad = good.clone();
        bad[index] ^= 1;
        if let Ok(Key::Certificate(certificate)) = Key::from_blob(declared, &bad) {
            assert!(check(&certificate, true, NOW).is_err(), "byte {index}");
        }
    }
}

#[test]
fn bytes_before_or_after_a_key_are_refused() {
    for (declared, good) in [("ssh-ed25519", blob(1)), ("ssh-ed25519-cert-v01@openssh.com", of().blob())] {
        assert!(Key::from_blob(declared, &good).is_ok());
        assert!(Key::from_blob(declared, &[good.as_slice(), &[0]].concat()).is_err());
        assert!(Key::from_blob(declared, &good[..good.len() - 1]).is_err());
        assert!(Key::from_blob(declared, &good[1..]).is_err());
        assert!(Key::from_blob(declared, &[]).is_err());
    }
}

#[test]
fn a_type_that_rex_does_not_know_is_refused() {
    for declared in ["ssh-shoe", "ssh-shoe-cert-v01@openssh.com", "ssh-dss", ""] {
        let mut blob = u32::try_from(declared.len()).unwrap().to_be_bytes().to_vec();
        blob.extend(declared.as_bytes());
        blob.extend([0, 0, 0, 1, 5]);
        assert_eq!(Key::from_blob(declared, &blob).unwrap_err().kind, Kind::Denied, "{declared}");
    }
}

/// Runs ssh-keygen quietly in `dir`.
fn ssh_keygen(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("/usr/bin/ssh-keygen").args(arguments).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn read(path: &Path) -> (String, Vec<u8>) {
    let text = std::fs::read_to_string(path).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    (words[0].into(), base64::engine::general_purpose::STANDARD.decode(words[1]).unwrap())
}

#[test]
fn keys_and_certificates_of_ssh_keygen_have_the_fingerprints_it_prints() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, kind: &str, bits: &str| ssh_keygen(dir.path(), &["-q", "-t", kind, "-b", bits, "-N", "", "-C", "", "-f", name]);
    for (name, kind, bits) in
        [("e", "ed25519", "256"), ("p256", "ecdsa", "256"), ("p384", "ecdsa", "384"), ("p521", "ecdsa", "521"), ("r", "rsa", "2048")]
    {
        make(name, kind, bits);
        let public = dir.path().join(format!("{name}.pub"));
        let (declared, blob) = read(&public);
        let key = Key::from_blob(&declared, &blob).unwrap();
        let printed = ssh_keygen(dir.path(), &["-lf", public.to_str().unwrap()]);
        assert_eq!(printed.split(' ').nth(1), Some(key.fingerprint().as_str()));
        assert_eq!(key.kind(), declared);
    }
    for authority in ["e", "p256", "p384", "p521", "r"] {
        for subject in ["e", "p256", "r"] {
            ssh_keygen(
                dir.path(),
                &["-q", "-s", authority, "-I", "id \"x\"", "-n", "alice,bob", "-V", "-1h:+1h", "-z", "7", &format!("{subject}.pub")],
            );
            let (declared, blob) = read(&dir.path().join(format!("{subject}-cert.pub")));
            let Key::Certificate(certificate) = Key::from_blob(&declared, &blob).unwrap() else { panic!("a plain key") };
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            let facts = check(&certificate, true, now).unwrap();
            assert_eq!((facts.key_id.as_str(), facts.serial), ("id \"x\"", 7));
            assert_eq!(facts.principals, ["alice", "bob"]);
            let printed = ssh_keygen(dir.path(), &["-lf", &format!("{authority}.pub")]);
            assert_eq!(printed.split(' ').nth(1), Some(facts.authority.as_str()));
        }
    }
}
