//! Keys, certificates and sshd's files, made for tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use base64::Engine;
use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{HashAlg, PrivateKey};

/// The time at which all these certificates are valid, Unix seconds.
pub(crate) const NOW: u64 = 1_800_000_000;

/// The key that `seed` gives.
pub(crate) fn private(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
}

pub(crate) fn fingerprint(seed: u8) -> String {
    private(seed).public_key().fingerprint(HashAlg::Sha256).to_string()
}

pub(crate) fn blob(seed: u8) -> Vec<u8> {
    private(seed).public_key().to_bytes().unwrap()
}

pub(crate) fn encoded(blob: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(blob)
}

/// sshd's line for the plain key `seed`.
pub(crate) fn key_line(seed: u8) -> String {
    format!("publickey ssh-ed25519 {}\n", encoded(&blob(seed)))
}

/// What a certificate says; change what a test is about.
pub(crate) struct Certificate {
    pub(crate) key: u8,
    pub(crate) authority: u8,
    pub(crate) kind: CertType,
    pub(crate) key_id: String,
    pub(crate) principals: Vec<String>,
    pub(crate) after: u64,
    pub(crate) before: u64,
    pub(crate) critical: Vec<(&'static str, &'static str)>,
    pub(crate) extensions: Vec<(&'static str, &'static str)>,
}

impl Default for Certificate {
    fn default() -> Self {
        Self {
            key: 1,
            authority: 100,
            kind: CertType::User,
            key_id: "alice@laptop".into(),
            principals: vec!["alice".into()],
            after: NOW - 60,
            before: NOW + 60,
            critical: vec![],
            extensions: vec![("permit-pty", "")],
        }
    }
}

impl Certificate {
    pub(crate) fn sign(&self) -> ssh_key::Certificate {
        let mut builder = Builder::new(vec![7; 32], private(self.key).public_key(), self.after, self.before).unwrap();
        builder.serial(42).unwrap().cert_type(self.kind).unwrap().key_id(self.key_id.as_str()).unwrap();
        if self.principals.is_empty() {
            builder.all_principals_valid().unwrap();
        }
        for principal in &self.principals {
            builder.valid_principal(principal.as_str()).unwrap();
        }
        for (name, value) in &self.critical {
            builder.critical_option(*name, *value).unwrap();
        }
        for (name, value) in &self.extensions {
            builder.extension(*name, *value).unwrap();
        }
        builder.sign(&private(self.authority)).unwrap()
    }

    pub(crate) fn blob(&self) -> Vec<u8> {
        self.sign().to_bytes().unwrap()
    }

    pub(crate) fn line(&self) -> String {
        format!("publickey ssh-ed25519-cert-v01@openssh.com {}\n", encoded(&self.blob()))
    }
}

/// A file as sshd makes it, removed in the end.
pub(crate) struct AuthFile(pub(crate) PathBuf);

impl AuthFile {
    pub(crate) fn new(content: &[u8]) -> Self {
        let made = tempfile::Builder::new()
            .prefix("sshauth.")
            .rand_bytes(15)
            .make_in("/tmp", |path| std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path));
        let (mut file, path) = made.unwrap().keep().unwrap();
        file.write_all(content).unwrap();
        Self(path)
    }

    pub(crate) fn name(&self) -> Vec<u8> {
        self.0.to_str().unwrap().as_bytes().to_vec()
    }
}

impl Drop for AuthFile {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}
