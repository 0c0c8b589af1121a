//! TLS: rustls over our own socket. Whom it trusts is the host's own bundle of authorities, or what the call names.

use super::Wire;
use crate::error::{Error, Kind, Result};
use crate::policy::url::Host;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};
use std::io::{self, Read as _};
use std::sync::{Arc, OnceLock};

/// Where systems have their bundle: Debian and Alpine, Fedora and RHEL, SUSE, OpenBSD and others.
pub const BUNDLES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];
/// Longest bundle that is read.
const LONGEST: u64 = 8 << 20;

/// Whose certificates are good.
#[derive(Clone)]
pub enum Trust {
    /// The host's own bundle.
    Host,
    /// These authorities and no others.
    These(Arc<RootCertStore>),
    /// Anybody's: who answers is not known.
    Anybody,
}

/// Authorities as PEM text.
///
/// # Errors
/// [`Kind::BadData`] when there is none in it.
pub fn authorities(pem: &[u8]) -> Result<Arc<RootCertStore>> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).map_err(|_| Error::new(Kind::BadData, "a certificate of an authority that cannot be used"))?;
    }
    Ok(Arc::new(store))
}

/// Certificates of PEM text, in order.
///
/// # Errors
/// [`Kind::BadData`] when there is none in it, or what should be one is none.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>();
    let all = all.map_err(|_| Error::new(Kind::BadData, "not PEM text"))?;
    if all.is_empty() {
        Err(Error::new(Kind::BadData, "no certificate in it: it begins with -----BEGIN CERTIFICATE-----"))
    } else {
        Ok(all)
    }
}

/// The bundle of the host, read when it is first needed.
fn of_host() -> Result<Arc<RootCertStore>> {
    static BUNDLE: OnceLock<Option<Arc<RootCertStore>>> = OnceLock::new();
    let read = || {
        let mut bytes = Vec::new();
        let file = BUNDLES.iter().find_map(|path| std::fs::File::open(path).ok())?;
        file.take(LONGEST).read_to_end(&mut bytes).ok()?;
        let mut store = RootCertStore::empty();
        // A bundle holds old ones that no verifier takes; they vouch for nobody.
        store.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).filter_map(std::result::Result::ok));
        (!store.is_empty()).then(|| Arc::new(store))
    };
    let bundle = BUNDLE.get_or_init(read);
    bundle
        .clone()
        .ok_or_else(|| Error::new(Kind::Unsupported, "this host has no bundle of authorities (ca-certificates)").with_hint("pass #{ca: …}"))
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

fn internal(error: &impl std::fmt::Display) -> Error {
    Error::new(Kind::Internal, format!("TLS cannot be set up: {error}"))
}

fn config(trust: &Trust) -> Result<ClientConfig> {
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(|error| internal(&error))?;
    Ok(match trust {
        Trust::Host => builder.with_root_certificates(of_host()?).with_no_client_auth(),
        Trust::These(roots) => builder.with_root_certificates(Arc::clone(roots)).with_no_client_auth(),
        Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth(),
    })
}

/// The name as TLS wants it.
///
/// # Errors
/// [`Kind::BadArgument`] for what cannot stand in a certificate.
pub fn server_name(host: &Host) -> Result<ServerName<'static>> {
    match host {
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Name(name) => {
            ServerName::try_from(name.clone()).map_err(|_| crate::error::bad_argument("no name that a certificate can have"))
        }
    }
}

/// A connection in TLS.
pub type Stream<'a> = StreamOwned<ClientConnection, Wire<'a>>;

/// Talks TLS on the wire from now on; the handshake is done when this returns.
///
/// # Errors
/// [`Kind::BadData`] when the certificate does not hold or the other end talks something else; those of the wire.
pub fn start<'a>(wire: Wire<'a>, host: &Host, trust: &Trust, http: bool) -> Result<Stream<'a>> {
    let mut config = config(trust)?;
    if http {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    let connection = ClientConnection::new(Arc::new(config), server_name(host)?).map_err(|error| internal(&error))?;
    let mut stream = StreamOwned::new(connection, wire);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(super::told)?;
    }
    Ok(stream)
}

/// Whether a chain holds for a name now: nothing, or why not in a few words.
///
/// # Errors
/// [`Kind::Unsupported`] when the host has no bundle of authorities.
pub fn verify(chain: &[CertificateDer<'_>], host: &Host, roots: Option<&Arc<RootCertStore>>) -> Result<Option<String>> {
    let roots = roots.map_or_else(of_host, |roots| Ok(Arc::clone(roots)))?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build().map_err(|error| internal(&error))?;
    let Some((end, between)) = chain.split_first() else { return Ok(Some("no certificate".to_owned())) };
    let verified = verifier.verify_server_cert(end, between, &server_name(host)?, &[], UnixTime::now());
    Ok(verified.err().map(|error| why(&error)))
}

/// A certificate's fault in a few words, none of them the other end's.
fn why(error: &rustls::Error) -> String {
    use rustls::CertificateError as C;
    let rustls::Error::InvalidCertificate(fault) = error else { return "it is no certificate that TLS can use".to_owned() };
    match fault {
        C::Expired | C::ExpiredContext { .. } => "it has expired",
        C::NotValidYet | C::NotValidYetContext { .. } => "it is not valid yet",
        C::UnknownIssuer => "its issuer is not trusted",
        C::NotValidForName | C::NotValidForNameContext { .. } => "it is for another name",
        C::Revoked => "it is revoked",
        C::BadSignature => "its signature is wrong",
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => "it is not for servers",
        // A self-signed one, as openssl(1) makes them; webpki tells it in its own error only.
        C::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => "it is that of an authority, not of a server",
        _ => "it cannot be verified",
    }
    .to_owned()
}

/// What went wrong inside of a TLS stream.
#[must_use]
pub fn told(error: &io::Error) -> Error {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        let message = match tls {
            rustls::Error::InvalidCertificate(_) => format!("the certificate does not hold: {}", why(tls)),
            rustls::Error::AlertReceived(_) => "the other end refused the TLS handshake".to_owned(),
            rustls::Error::InvalidMessage(_) => "the other end does not speak TLS".to_owned(),
            rustls::Error::PeerIncompatible(_) => "the other end speaks no version of TLS that is safe (1.2 or later)".to_owned(),
            _ => "TLS went wrong".to_owned(),
        };
        return Error::new(Kind::BadData, message);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::new(Kind::Unavailable, "the other end hung up in the middle"),
        _ => error.raw_os_error().map_or_else(|| Error::new(Kind::Io, "the connection failed"), |errno| Error::os("connection", errno)),
    }
}

/// Takes every certificate; that the other end has its key is still checked.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
