//! Keys and certificates as sshd accepted them: read from their wire form, and what of a certificate must hold before it means anybody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use ssh_key::certificate::CertType;
use ssh_key::{HashAlg, PublicKey};

use super::name;
use crate::error::{Error, Kind, Result};

/// Bytes in a key id; longer ones are nobody's.
const MAX_KEY_ID: usize = 4096;
/// As sshd itself has it: "principals" beyond this are refused (sshkey.c, `SSHKEY_CERT_MAX_PRINCIPALS`).
const MAX_PRINCIPALS: usize = 256;
const CERT_SUFFIX: &str = "-cert-v01@openssh.com";

/// A key or certificate that an authentication step was passed with.
#[derive(Clone, Debug)]
pub enum Key {
    Plain {
        /// `SHA256:` and 43 characters, as ssh-keygen -l prints it.
        fingerprint: String,
        /// `ssh-ed25519`, `ssh-rsa`, `sk-ssh-ed25519@openssh.com` …
        kind: String,
    },
    Certificate(Box<ssh_key::Certificate>),
}

/// What a valid certificate says, for policies and records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    pub key_id: String,
    pub serial: u64,
    /// Fingerprint of the authority's key, `SHA256:…`.
    pub authority: String,
    pub principals: Vec<String>,
    /// Unix seconds; `None` for one that never expires.
    pub valid_before: Option<u64>,
    pub extensions: BTreeMap<String, String>,
}

fn denied(message: impl Into<String>) -> Error {
    Error::new(Kind::Denied, message)
}

/// The key type that a blob says it is of (RFC 4253 section 6.6).
#[must_use]
pub fn declared_type(blob: &[u8]) -> Option<&str> {
    leading_string(blob).and_then(|name| std::str::from_utf8(name).ok())
}

impl Key {
    /// Reads `blob`, the wire form of a key whose declared type is `declared`.
    ///
    /// # Errors
    /// [`Kind::Denied`] if it is of an unknown type or another type than declared, or anything about its form is not as it should be.
    pub fn from_blob(declared: &str, blob: &[u8]) -> Result<Self> {
        let bad = || denied(format!("the `{}` key in the evidence cannot be read", declared.escape_debug()));
        if leading_string(blob) != Some(declared.as_bytes()) {
            return Err(denied("a key in the evidence is of another type than declared"));
        }
        if declared.ends_with(CERT_SUFFIX) {
            let certificate = ssh_key::Certificate::from_bytes(blob).map_err(|_| bad())?;
            // Written again it must be the same: otherwise two readers could see two different certificates in it.
            let again = certificate.to_bytes().map_err(|_| bad())?;
            return if again == blob { Ok(Self::Certificate(Box::new(certificate))) } else { Err(bad()) };
        }
        let key = PublicKey::from_bytes(blob).map_err(|_| bad())?;
        let data = key.key_data();
        if data.is_other() || data.is_dsa() || data.is_certificate() || key.to_bytes().map_err(|_| bad())? != blob {
            return Err(bad());
        }
        Ok(Self::Plain { fingerprint: key.fingerprint(HashAlg::Sha256).to_string(), kind: declared.into() })
    }

    /// Of a certificate: that of the bare key in it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        match self {
            Self::Plain { fingerprint, .. } => fingerprint.clone(),
            Self::Certificate(certificate) => certificate.public_key().fingerprint(HashAlg::Sha256).to_string(),
        }
    }

    /// The name of its type, as sshd writes it.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Plain { kind, .. } => kind.clone(),
            Self::Certificate(certificate) => certificate.algorithm().to_certificate_type(),
        }
    }
}

/// The first string of a wire form (RFC 4251 §5): a length in four bytes, then the bytes.
fn leading_string(blob: &[u8]) -> Option<&[u8]> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Fingerprint of the key that signed `certificate`.
#[must_use]
pub fn authority_of(certificate: &ssh_key::Certificate) -> String {
    certificate.signature_key().fingerprint(HashAlg::Sha256).to_string()
}

/// Everything that must hold of a certificate before its words count, given that `registered` is its authority's registration:
/// the authority is one of the owner's, its signature holds, it is for users, valid at `now` (Unix seconds), names at least one
/// principal, and has no critical option that rex does not understand.
///
/// # Errors
/// [`Kind::Denied`], saying which of them does not hold.
pub fn check(certificate: &ssh_key::Certificate, registered: bool, now: u64) -> Result<Certificate> {
    if certificate.cert_type() != CertType::User {
        return Err(denied("the certificate is not for users"));
    }
    let authority = authority_of(certificate);
    if !registered {
        return Err(denied(format!("the certificate's authority {authority} is not registered here")));
    }
    // Window and signature; the authority is compared again by the library, against itself being registered.
    let fingerprint = certificate.signature_key().fingerprint(HashAlg::Sha256);
    if certificate.valid_after() > now {
        return Err(denied("the certificate is not valid yet"));
    }
    if certificate.valid_before() <= now {
        return Err(denied("the certificate has expired"));
    }
    certificate.validate_at(now, [&fingerprint]).map_err(|_| denied("the signature on the certificate does not hold"))?;
    let principals = certificate.valid_principals();
    if principals.is_empty() {
        return Err(denied("the certificate names no principals, so it is nobody's"));
    }
    if principals.len() > MAX_PRINCIPALS {
        return Err(denied(format!("the certificate names more than {MAX_PRINCIPALS} principals")));
    }
    if let Some(fault) = principals.iter().find_map(|principal| name::fault(principal)) {
        return Err(denied(format!("a principal in the certificate {fault}")));
    }
    let key_id = certificate.key_id();
    if key_id.len() > MAX_KEY_ID || key_id.contains(char::is_control) {
        return Err(denied(format!("the certificate's key id is longer than {MAX_KEY_ID} bytes or contains a control character")));
    }
    for option in certificate.critical_options().keys() {
        // These are enforced by whoever verified the login, sshd or rex serve, which both refuse what they do not know.
        if !matches!(option.as_str(), "source-address" | "force-command" | "verify-required") {
            return Err(denied(format!(
                "the certificate has the critical option `{}`, which is not understood here",
                option.escape_debug()
            )));
        }
    }
    Ok(Certificate {
        key_id: key_id.into(),
        serial: certificate.serial(),
        authority,
        principals: principals.to_vec(),
        valid_before: (certificate.valid_before() != u64::MAX).then_some(certificate.valid_before()),
        extensions: certificate.extensions().iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
    })
}

#[cfg(test)]
mod tests;
