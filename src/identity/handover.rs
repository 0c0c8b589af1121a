//! What `rex serve` tells a session about its caller: one JSON document on an inherited descriptor, in place of sshd's evidence.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// The only version there is. A session refuses any other, so that a server and a binary of different releases cannot misunderstand
/// each other.
pub const VERSION: u32 = 1;
/// Bytes of a whole document; a certificate with 256 principals fits many times.
pub const MAX_BYTES: usize = 1 << 20;

/// The evidence of one authenticated connection, made by `rex serve` and never by a client.
///
/// It travels in a sealed memfd (memfd_create(2), F_SEAL_WRITE) whose number the server puts on the session's command line; a client
/// has no way to write either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// [`VERSION`].
    pub version: u32,
    /// The login name that the client gave. Recorded; it decides nothing.
    pub user: String,
    /// How the client authenticated.
    pub method: Method,
    /// The key whose possession was proved: for a certificate the certified key, as a bare one.
    pub key: Key,
    /// The whole certificate (wire format of PROTOCOL.certkeys, base64 with padding), whose signature, authority, validity, principals
    /// and critical options the server has checked against its `authorized_keys`. `None` for a plain key.
    pub certificate: Option<String>,
    /// The last hop, as the server sees it; IPv4-mapped IPv6 addresses are unwrapped.
    pub client_address: String,
    pub client_port: u16,
    /// What the client declares about itself, of a closed list of names (`LC_REX_AGENT`, `LC_REX_TASK`, `LC_BASTION`). Untrusted data.
    pub env: BTreeMap<String, String>,
    /// `SHA256:…` of the host key that the client saw.
    pub server_fingerprint: String,
}

/// The authentication methods of `rex serve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// RFC 4252 section 7, with a plain key or an OpenSSH user certificate.
    PublicKey,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ssh-rsa` (whatever the hash of the signature), `sk-ssh-ed25519@openssh.com` …
    #[serde(rename = "type")]
    pub kind: String,
    /// Wire format (RFC 4253 section 6.6), base64 with padding.
    pub blob: String,
    /// `SHA256:…`, base64 without padding, as ssh-keygen(1) prints it.
    pub fingerprint: String,
}

impl Handover {
    /// # Errors
    /// [`Kind::Internal`] if it is larger than [`MAX_BYTES`].
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let bytes =
            serde_json::to_vec(self).map_err(|error| Error::new(Kind::Internal, format!("the handover cannot be written: {error}")))?;
        if bytes.len() > MAX_BYTES {
            return Err(Error::new(Kind::Internal, format!("the handover is larger than {MAX_BYTES} bytes")));
        }
        Ok(bytes)
    }

    /// # Errors
    /// [`Kind::Denied`] for anything but one whole document of this version: odd evidence is a denial.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let odd = |what: String| Error::new(Kind::Denied, format!("the identity handed over by the server is odd: {what}"));
        if bytes.len() > MAX_BYTES {
            return Err(odd(format!("larger than {MAX_BYTES} bytes")));
        }
        let handover: Self = serde_json::from_slice(bytes).map_err(|error| odd(error.to_string()))?;
        if handover.version != VERSION {
            return Err(odd(format!("version {} instead of {VERSION}", handover.version)));
        }
        Ok(handover)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn sample() -> Handover {
        Handover {
            version: VERSION,
            user: "o\"'\n".into(),
            method: Method::PublicKey,
            key: Key { kind: "ssh-ed25519".into(), blob: "AAAA".into(), fingerprint: "SHA256:x".into() },
            certificate: None,
            client_address: "2001:db8::1".into(),
            client_port: 40000,
            env: BTreeMap::from([("LC_REX_TASK".into(), "\u{1b}[31m".into())]),
            server_fingerprint: "SHA256:y".into(),
        }
    }

    #[test]
    fn a_handover_survives_the_way_to_the_session() {
        assert_eq!(Handover::from_json(&sample().to_json().unwrap()).unwrap(), sample());
    }

    #[test]
    fn the_names_in_the_document_are_fixed() {
        let json: serde_json::Value = serde_json::from_slice(&sample().to_json().unwrap()).unwrap();
        assert_eq!(json["method"], "publickey");
        assert_eq!(json["key"]["type"], "ssh-ed25519");
        assert_eq!(json["certificate"], serde_json::Value::Null);
    }

    #[test]
    fn another_version_an_unknown_field_or_trailing_text_is_a_denial() {
        let good = String::from_utf8(sample().to_json().unwrap()).unwrap();
        let version = good.replace("\"version\":1", "\"version\":2");
        let unknown = good.replace("\"version\":1", "\"version\":1,\"root\":true");
        for bad in [version, unknown, format!("{good}{{}}"), String::new(), good[..good.len() - 1].to_owned()] {
            assert_eq!(Handover::from_json(bad.as_bytes()).unwrap_err().kind, Kind::Denied, "{bad}");
        }
    }
}
