//! What is in a certificate (RFC 5280), for people and programs. Nothing is verified here.

use crate::error::{Error, Kind, Result};
use std::net::IpAddr;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};

/// The parts that operations ask about.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// In hex.
    pub serial: String,
    /// Seconds since the epoch.
    pub not_before: i64,
    pub not_after: i64,
    /// Names and addresses that it is for.
    pub names: Vec<String>,
    pub is_ca: bool,
    /// `RSA 2048`, `EC P-256`, `Ed25519`.
    pub key: String,
    pub signature: String,
    /// SHA-256 of the whole, in hex.
    pub sha256: String,
}

/// Kinds of key and signature, by their numbers (RFC 3279, RFC 5758, RFC 8410).
const ALGORITHMS: &[(&str, &str)] = &[
    ("1.2.840.113549.1.1.1", "RSA"),
    ("1.2.840.10045.2.1", "EC"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
    ("1.2.840.10045.3.1.7", "P-256"),
    ("1.3.132.0.34", "P-384"),
    ("1.3.132.0.35", "P-521"),
    ("1.2.840.113549.1.1.5", "sha1WithRSA"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
    ("1.2.840.113549.1.1.11", "sha256WithRSA"),
    ("1.2.840.113549.1.1.12", "sha384WithRSA"),
    ("1.2.840.113549.1.1.13", "sha512WithRSA"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
];

fn named(number: &str) -> String {
    ALGORITHMS.iter().find(|(known, _)| *known == number).map_or(number, |(_, name)| name).to_owned()
}

impl Certificate {
    /// # Errors
    /// [`Kind::BadData`] when it is none.
    pub fn read(der: &[u8]) -> Result<Self> {
        let wrong = |_| Error::new(Kind::BadData, "what should be a certificate is none");
        let certificate = CertificateInner::<Raw>::from_der(der).map_err(wrong)?;
        let inner = certificate.tbs_certificate();
        let seconds = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        let names = inner.get_extension::<SubjectAltName>().ok().flatten().map(|(_, names)| names.0).unwrap_or_default();
        let is_ca = inner.get_extension::<BasicConstraints>().ok().flatten().is_some_and(|(_, basic)| basic.ca);
        Ok(Self {
            subject: inner.subject().to_string(),
            issuer: inner.issuer().to_string(),
            serial: hex::encode(inner.serial_number().as_bytes()),
            not_before: seconds(inner.validity().not_before),
            not_after: seconds(inner.validity().not_after),
            names: names.iter().filter_map(name).collect(),
            is_ca,
            key: key(inner.subject_public_key_info()),
            signature: named(&certificate.signature_algorithm().oid.to_string()),
            sha256: crate::os::digest::hex_sha256(der),
        })
    }
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(text) | GeneralName::Rfc822Name(text) | GeneralName::UniformResourceIdentifier(text) => Some(text.to_string()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn key(info: &x509_cert::spki::SubjectPublicKeyInfoOwned) -> String {
    let kind = named(&info.algorithm.oid.to_string());
    let detail = match kind.as_str() {
        "RSA" => info.subject_public_key.as_bytes().and_then(modulus_bits).map(|bits| bits.to_string()),
        "EC" => {
            let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.to_der().ok());
            let number = curve.and_then(|der| <x509_cert::spki::ObjectIdentifier>::from_der(&der).ok());
            number.map(|number| named(&number.to_string()))
        }
        _ => None,
    };
    detail.map_or_else(|| kind.clone(), |detail| format!("{kind} {detail}"))
}

/// The length of an RSA key: `SEQUENCE { modulus INTEGER, … }` (RFC 8017).
fn modulus_bits(der: &[u8]) -> Option<usize> {
    let (_, inside) = value(der, 0x30)?;
    let (modulus, _) = value(inside, 0x02).map(|(rest, number)| (number, rest))?;
    let first = modulus.iter().position(|byte| *byte != 0)?;
    let digits = modulus.get(first..)?;
    Some(digits.len() * 8 - digits.first()?.leading_zeros() as usize)
}

/// What follows a value with this tag, and the value (X.690, section 8.1).
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first().filter(|(first, _)| **first == tag)?;
    let _ = first;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = if *length < 0x80 {
        (usize::from(*length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7F)).filter(|(digits, _)| digits.len() <= 4)?;
        (digits.iter().fold(0, |all, digit| (all << 8) | usize::from(*digit)), rest)
    };
    rest.split_at_checked(length).map(|(value, after)| (after, value))
}
