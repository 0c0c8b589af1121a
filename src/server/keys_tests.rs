//! The keys file: which lines are understood, and whom they admit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use ssh_key::PrivateKey;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::{Ed25519Keypair, KeypairData};

const NOW: u64 = 1_800_000_000;
const HERE: [u8; 4] = [192, 0, 2, 7];

fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
}

fn line(seed: u8) -> String {
    key(seed).public_key().to_openssh().unwrap()
}

fn roster(text: &str) -> Result<Roster> {
    Roster::parse(text.as_bytes(), Path::new("/etc/rex/authorized_keys"))
}

fn fault(text: &str) -> String {
    let error = roster(text).unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    error.to_string()
}

fn admits(text: &str, seed: u8) -> bool {
    roster(text).unwrap().judge_key(key(seed).public_key().key_data(), HERE.into(), NOW).is_ok()
}

fn certificate(change: impl FnOnce(&mut Builder)) -> Certificate {
    let mut builder = Builder::new([9_u8; 16], key(2).public_key().key_data().clone(), NOW - 60, NOW + 60).unwrap();
    change(&mut builder);
    builder.sign(&key(1)).unwrap()
}

fn named(builder: &mut Builder) {
    builder.valid_principal("alice").unwrap();
}

fn judge(text: &str, certificate: &Certificate) -> std::result::Result<(), Refusal> {
    roster(text).unwrap().judge_certificate(certificate, HERE.into(), NOW)
}

#[test]
fn a_listed_key_is_admitted_and_another_is_not() {
    let text = format!("# comment\n\n{} alice@example\n\t{}\n", line(1), line(2));
    assert!(admits(&text, 1));
    assert!(admits(&text, 2));
    assert!(!admits(&text, 3));
    assert_eq!(roster(&text).unwrap().counts(), (2, 0));
    assert!(!admits("", 1));
}

#[test]
fn every_unknown_option_is_an_error_that_names_the_line() {
    for option in
        ["command=\"/bin/sh\"", "environment=\"A=b\"", "permitopen=\"*:*\"", "no-pty", "tunnel=\"1\"", "verify-required", "pty", "x"]
    {
        let text = format!("{}\n{option} {}\n", line(1), line(2));
        let message = fault(&text);
        assert!(message.contains("unknown option") && message.ends_with("authorized_keys:2"), "{option}: {message}");
    }
}

#[test]
fn malformed_lines_are_errors() {
    for start in [
        "restrict,",
        "from=1.2.3.4",
        "from=\"\"",
        "from",
        "restrict=\"x\"",
        "from=\"1.2.3.4",
        "from=\"name.example\"",
        ",restrict",
        "from=\"::1\"x",
    ] {
        assert!(!fault(&format!("{start} {}", line(1))).is_empty(), "{start}");
    }
    for option in [
        "principals=\"a\"",
        "cert-authority,principals=\"a,,b\"",
        "from=\"::1\",from=\"::1\"",
        "expiry-time=\"2026\"",
        "expiry-time=\"20261301\"",
    ] {
        assert!(!fault(&format!("{option} {}", line(1))).is_empty(), "{option}");
    }
    for text in ["ssh-ed25519", "ssh-ed25519 AAAA", "hello", "ssh-dss AAAA", "\u{feff}#"] {
        assert!(!fault(text).is_empty(), "{text}");
    }
    // The type on the line and the one in the key differ.
    assert!(!fault(&line(1).replacen("ssh-ed25519", "ecdsa-sha2-nistp256", 1)).is_empty());
    assert!(Roster::parse(b"\xff", Path::new("/k")).is_err());
}

#[test]
fn from_and_expiry_bound_a_key() {
    let with = |options: &str| format!("{options} {}", line(1));
    assert!(admits(&with("restrict,from=\"192.0.2.0/24\""), 1));
    assert!(!admits(&with("from=\"192.0.2.0/24,!192.0.2.7\""), 1));
    assert!(!admits(&with("from=\"198.51.100.*\""), 1));
    // 1 800 000 000 is 2027-01-15 08:00:00 UTC.
    assert!(!admits(&with("expiry-time=\"20270115080000Z\""), 1));
    assert!(admits(&with("expiry-time=\"20270115080001Z\""), 1));
    assert!(!admits(&with("expiry-time=\"202701150759Z\""), 1));
    assert!(admits(&with("expiry-time=\"20270116Z\""), 1));
    assert!(!admits(&with("expiry-time=\"20270115Z\""), 1));
    assert!(admits(&with("EXPIRY-TIME=\"20270301\""), 1));
}

#[test]
fn a_later_line_for_the_same_key_can_admit() {
    let text = format!("from=\"198.51.100.1\" {0}\n{0}\n", line(1));
    assert!(admits(&text, 1));
}

#[test]
fn an_authority_is_no_key_and_a_key_is_no_authority() {
    let authority = format!("cert-authority {}", line(1));
    assert!(!admits(&authority, 1));
    assert!(judge(&authority, &certificate(named)).is_ok());
    assert!(judge(&line(1), &certificate(named)).unwrap_err().contains("not listed"));
    assert!(judge(&format!("cert-authority {}", line(3)), &certificate(named)).unwrap_err().contains("not listed"));
}

#[test]
fn a_certificate_needs_a_principal_and_one_that_is_wanted() {
    let any = format!("cert-authority {}", line(1));
    let wanted = format!("cert-authority,principals=\"bob,alice\" {}", line(1));
    let other = format!("cert-authority,principals=\"bob,alic,alice2\" {}", line(1));
    assert!(judge(&wanted, &certificate(named)).is_ok());
    assert!(judge(&other, &certificate(named)).unwrap_err().contains("principals"));
    let none = certificate(|builder| {
        builder.all_principals_valid().unwrap();
    });
    assert!(judge(&any, &none).unwrap_err().contains("no principal"));
    // Compared whole: a comma within a principal makes no list (CVE-2026-35414).
    let comma = certificate(|builder| {
        builder.valid_principal("bob,alice").unwrap();
    });
    assert!(judge(&wanted, &comma).is_err());
}

#[test]
fn validity_and_type_of_a_certificate_count() {
    let any = format!("cert-authority {}", line(1));
    let good = certificate(named);
    let at = |now: u64| roster(&any).unwrap().judge_certificate(&good, HERE.into(), now);
    assert!(at(NOW - 61).unwrap_err().contains("not valid yet"));
    assert!(at(NOW - 60).is_ok());
    assert!(at(NOW + 59).is_ok());
    assert!(at(NOW + 60).unwrap_err().contains("expired"));
    let host = certificate(|builder| {
        named(builder);
        builder.cert_type(CertType::Host).unwrap();
    });
    assert!(judge(&any, &host).unwrap_err().contains("not a user's"));
}

#[test]
fn critical_options_are_obeyed_or_refused() {
    let any = format!("cert-authority {}", line(1));
    let with = |name: &str, value: &str| {
        certificate(|builder| {
            named(builder);
            builder.critical_option(name, value).unwrap();
        })
    };
    assert!(judge(&any, &with("source-address", "192.0.2.0/24,::1")).is_ok());
    assert!(judge(&any, &with("source-address", "198.51.100.0/24")).is_err());
    assert!(judge(&any, &with("source-address", "*")).is_err());
    assert!(judge(&any, &with("source-address", "")).is_err());
    assert!(judge(&any, &with("force-command", "exec /usr/bin/rex session")).is_ok());
    assert!(judge(&any, &with("force-command", "/usr/bin/rex session --principal root")).is_err());
    assert!(judge(&any, &with("force-command", "/bin/sh")).is_err());
    assert!(judge(&any, &with("verify-required", "")).unwrap_err().contains("unknown critical option"));
    let extension = certificate(|builder| {
        named(builder);
        builder.extension("role@rex", "admin").unwrap();
    });
    assert!(judge(&any, &extension).is_ok());
}

#[test]
fn a_certificate_altered_after_signing_is_refused() {
    let any = format!("cert-authority {}", line(1));
    let good = certificate(named);
    let mut bytes = good.to_bytes().unwrap();
    let at = bytes.windows(5).position(|window| window == b"alice").unwrap();
    bytes[at] = b'A';
    let forged = Certificate::from_bytes(&bytes).unwrap();
    assert!(judge(&any, &good).is_ok());
    assert!(judge(&any, &forged).unwrap_err().contains("signature"));
}

#[test]
fn a_changed_file_counts_at_once_and_a_broken_one_admits_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    std::fs::write(&path, line(1)).unwrap();
    let file = KeyFile::open(&path).unwrap();
    assert_eq!(file.current().unwrap().counts(), (1, 0));
    std::fs::write(&path, format!("{}\n{}\n", line(1), line(2))).unwrap();
    assert_eq!(file.current().unwrap().counts(), (2, 0));
    std::fs::write(&path, "nonsense").unwrap();
    assert_eq!(file.current().unwrap_err().kind, Kind::Config);
    std::fs::write(&path, line(1)).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o622)).unwrap();
    assert_eq!(file.current().unwrap_err().kind, Kind::Config);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(file.current().unwrap_err().kind, Kind::Config);
}
