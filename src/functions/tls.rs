//! Certificates: of a server, of a file, and whether they hold.

use super::datetime::DateTime;
use super::file_read::Read;
use super::function::{Call, Example, Function, param, with1, with2, with3};
use super::ports::place;
use super::reach::{self, Connect};
use super::value::{Array, Dynamic, ImmutableString, IntoScript, Map, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::ask;
use crate::policy::url::Host;
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys::net::certificate::Certificate;
use crate::sys::net::tls::{self, Trust};
use crate::sys::net::{Patience, Wire};
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[TLS_INSPECT, CERTIFICATE, VERIFY_CERTIFICATE];

const CERTIFICATE_DOC: &str = "The first certificate of a PEM file, or of PEM text: a map.\n\n`subject`, `issuer` (RFC 4514), `serial` (hex), `not_before`, `not_after` (DateTimes), `days_left` (whole days, below 0 when it has expired), `names` (what it is for: names, addresses), `is_ca`, `key` (`RSA 2048`, `EC P-256` …), `signature`, `sha256` (hex, of the whole). Nothing of it is verified; [verify_certificate] does. Asks to read the file; text needs no permission.";

/// Until 2126; the key is not kept.
const SAMPLE: &str = "-----BEGIN CERTIFICATE-----\n\
     MIIBqTCCAVCgAwIBAgIUXeFhnfUlUDO28kaJHp6q2lcFy2gwCgYIKoZIzj0EAwIw\n\
     GjEYMBYGA1UEAwwPd3d3LmV4YW1wbGUub3JnMCAXDTI2MTEyNDE4MDE0NloYDzIx\n\
     MjYxMDMxMTgwMTQ2WjAaMRgwFgYDVQQDDA93d3cuZXhhbXBsZS5vcmcwWTATBgcq\n\
     hkjOPQIBBggqhkjOPQMBBwNCAAQ4EMX2SirwSKcgXOU1fEaSNa32RPWP0lC8+TzK\n\
     vGaHw3CldFQgVLXrKfnL0VRH+IiAQz+7+HCOXadXLfLl6U5Oo3IwcDAdBgNVHQ4E\n\
     FgQUvGGL3CiKYLMhEwtGZWBiubjNXUAwHwYDVR0jBBgwFoAUvGGL3CiKYLMhEwtG\n\
     ZWBiubjNXUAwIAYDVR0RBBkwF4IPd3d3LmV4YW1wbGUub3JnhwTAAAIHMAwGA1Ud\n\
     EwEB/wQCMAAwCgYIKoZIzj0EAwIDRwAwRAIgM3wMC5qg2LZiDNFI6OOCrVpdqaD1\n\
     8elikeUjx5F0bH8CIGwCktw4sK7nb2KUsCmtIWgSmIwOkGP16z2ie6LINBzz\n\
     -----END CERTIFICATE-----\n";

options! {
    /// Options of `tls_inspect`.
    InspectOptions {
        server_name: Option<String> = None, "Ask for this name, and verify the certificate for it, instead of the host.";
        starttls: Option<String> = None, "Begin without TLS, as `smtp`, `imap`, `pop3`, `ftp` or `postgres` do.";
        ca: Option<String> = None, "Verify by these certificate authorities (PEM text) instead of those of the host.";
        timeout: Duration = Duration::from_secs(10), "How long all of it may take, in seconds.";
    }
}

const TLS_INSPECT: Function = Function {
    name: "tls_inspect",
    doc: "Whom a TLS server says it is: a map.\n\n`verified`, whether its certificate holds for the name now; `problem`, why not in a few words, or nothing; `days_left` of its own certificate; `version` (`TLSv1.3`), `cipher`, `address`; `chain`, its certificates as [certificate] gives them, its own first. A certificate that does not hold is no error: that is what is looked for. Asks for `connect` on the host; the port is an attribute of it.",
    body: &with3(tls_inspect, [param("host", "A name or an address."), param("port", "The number of the port."), param("options", "")]),
    asks: &[ask::<Connect>()],
    fails: &[Kind::NotFound, Kind::BadData, Kind::Timeout, Kind::Unavailable, Kind::Unsupported],
    examples: &[Example { given: &[], script: r#"tls_inspect("127.0.0.1", tls_port).problem"#, gives: r#""its issuer is not trusted""# }],
};

fn tls_inspect(call: &Call<'_>, host: ImmutableString, port: i64, options: InspectOptions) -> Result<Map> {
    let endpoint = place("tls_inspect", "tcp", &host, port)?;
    let name = match &options.server_name {
        None => endpoint.host().clone(),
        Some(name) => Host::parse(name).map_err(|what| bad_argument(format!("tls_inspect: option `server_name`: {what}")))?,
    };
    let starttls = match options.starttls.as_deref() {
        None => None,
        Some(word) => Some(
            STARTTLS
                .iter()
                .find(|way| way.name == word)
                .ok_or_else(|| bad_argument("tls_inspect: option `starttls`: expected `smtp`, `imap`, `pop3`, `ftp` or `postgres`"))?,
        ),
    };
    let roots = options.ca.as_ref().map(|pem| tls::authorities(pem.as_bytes())).transpose()?;
    let check = || call.check();
    let patience = Patience::new(options.timeout, &check);
    let way = reach::open::<Connect>(call, &endpoint, &[], patience)?;
    if let Some(starttls) = starttls {
        starttls.begin(&way.wire)?;
    }
    let stream = tls::start(way.wire, &name, &Trust::Anybody, false)?;
    let chain = stream.conn.peer_certificates().unwrap_or_default();
    let problem = tls::verify(chain, &name, roots.as_ref())?;
    let version = stream.conn.protocol_version().and_then(|version| version.as_str().map(|text| text.replace("TLSv1_", "TLSv1.")));
    let cipher = stream.conn.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    let certificates = chain.iter().map(|der| Certificate::read(der)).collect::<Result<Vec<_>>>()?;
    let own = certificates.first().map_or(Dynamic::UNIT, |own| days_left(own).into_script());
    let chain: Array = certificates.iter().map(|certificate| shown(certificate).into_script()).collect();
    Ok(record([
        ("verified", problem.is_none().into_script()),
        ("problem", problem.into_script()),
        ("days_left", own),
        ("version", version.into_script()),
        ("cipher", cipher.map_or(Dynamic::UNIT, IntoScript::into_script)),
        ("address", way.address.to_string().into_script()),
        ("chain", chain.into_script()),
    ]))
}

/// A protocol that begins without TLS: what is waited for and said, in turn. A line that ends an answer begins so.
struct StartTls {
    name: &'static str,
    steps: &'static [(&'static str, &'static [u8])],
    last: &'static str,
}

const STARTTLS: &[StartTls] = &[
    StartTls { name: "smtp", steps: &[("220 ", b"EHLO rex.invalid\r\n"), ("250 ", b"STARTTLS\r\n")], last: "220 " },
    StartTls { name: "imap", steps: &[("* OK", b"a STARTTLS\r\n")], last: "a OK" },
    StartTls { name: "pop3", steps: &[("+OK", b"STLS\r\n")], last: "+OK" },
    StartTls { name: "ftp", steps: &[("220 ", b"AUTH TLS\r\n")], last: "234 " },
    // SSLRequest of PostgreSQL's protocol; the answer is one letter.
    StartTls { name: "postgres", steps: &[("", &[0, 0, 0, 8, 4, 210, 22, 47])], last: "S" },
];

/// Longest line and most lines before TLS begins.
const LINE: usize = 2 << 10;
const LINES: usize = 64;

impl StartTls {
    fn begin(&self, wire: &Wire<'_>) -> Result<()> {
        for (expected, said) in self.steps {
            if !expected.is_empty() {
                wait_for(wire, expected)?;
            }
            wire.send_all(said)?;
        }
        if self.name == "postgres" {
            let mut letter = [0u8; 1];
            return if wire.receive(&mut letter)? == 1 && letter == *b"S" { Ok(()) } else { Err(no_tls()) };
        }
        wait_for(wire, self.last)
    }
}

fn no_tls() -> Error {
    Error::new(Kind::BadData, "the server does not begin TLS")
}

/// Reads lines to the one that begins so. By single bytes: what follows it is TLS already.
fn wait_for(wire: &Wire<'_>, expected: &str) -> Result<()> {
    for _ in 0..LINES {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0u8; 1];
            if line.len() >= LINE || wire.receive(&mut byte)? == 0 {
                return Err(no_tls());
            }
            line.extend(byte);
        }
        if line.starts_with(expected.as_bytes()) {
            return Ok(());
        }
        // `250-…` goes on; anything else is no.
        let goes_on = expected.get(..3).is_some_and(|code| line.starts_with(format!("{code}-").as_bytes()));
        if !goes_on && !line.starts_with(b"* ") {
            return Err(no_tls());
        }
    }
    Err(no_tls())
}

const CERTIFICATE: Function = Function {
    name: "certificate",
    doc: CERTIFICATE_DOC,
    body: &with1(certificate, [param("source", "The path of a PEM file, or PEM text.")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::NotAFile, Kind::TooLarge, Kind::BadData, Kind::Permission],
    examples: &[Example {
        given: &[("server.pem", SAMPLE)],
        script: r#"certificate(dir + "/server.pem").names"#,
        gives: r#"["www.example.org", "192.0.2.7"]"#,
    }],
};

fn certificate(call: &Call<'_>, source: ImmutableString) -> Result<Map> {
    let chain = tls::certificates(&pem(call, &source)?)?;
    let first = chain.first().ok_or_else(|| Error::new(Kind::BadData, "no certificate"))?;
    Ok(shown(&Certificate::read(first)?))
}

/// Largest file of certificates.
const MOST: u64 = 8 << 20;

/// PEM text, or that of a file.
fn pem(call: &Call<'_>, source: &str) -> Result<Vec<u8>> {
    if source.contains("-----BEGIN") {
        return Ok(source.as_bytes().to_vec());
    }
    let file = call.permit::<Read>(File::locate(&AbsPath::new(source)?)?)?;
    crate::sys::file::read(&file, 0, None, MOST, &call.host.watch)
}

options! {
    /// Options of `verify_certificate`.
    VerifyOptions {
        name: Option<String> = None, "The name that it has to hold for; without it the first that is in it.";
        ca: Option<String> = None, "The certificate authorities (PEM text or a path) instead of those of the host.";
    }
}

const VERIFY_CERTIFICATE: Function = Function {
    name: "verify_certificate",
    doc: "Whether a server's certificate holds now.\n\nA map of `valid`, `problem` (why not in a few words, or nothing), `name` (that it was verified for) and `days_left`. What follows the first certificate in the file are those between it and an authority. Asks to read the files; text needs no permission. Without `ca` the authorities of the host count, which the kernel's fence shows only where some policy is about the network.",
    body: &with2(
        verify_certificate,
        [param("source", "The path of a PEM file, or PEM text: the server's certificate first."), param("options", "")],
    ),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::NotAFile, Kind::TooLarge, Kind::BadData, Kind::Permission, Kind::Unsupported],
    examples: &[
        Example {
            given: &[("server.pem", SAMPLE)],
            script: r#"verify_certificate(dir + "/server.pem", #{ca: dir + "/server.pem", name: "mail.example.org"}).problem"#,
            gives: r#""it is for another name""#,
        },
        Example {
            given: &[("server.pem", SAMPLE)],
            script: r#"verify_certificate(dir + "/server.pem", #{ca: dir + "/server.pem"}).valid"#,
            gives: "true",
        },
    ],
};

fn verify_certificate(call: &Call<'_>, source: ImmutableString, options: VerifyOptions) -> Result<Map> {
    let chain = tls::certificates(&pem(call, &source)?)?;
    let roots = options.ca.as_ref().map(|ca| tls::authorities(&pem(call, ca)?)).transpose()?;
    let first = chain.first().ok_or_else(|| Error::new(Kind::BadData, "no certificate"))?;
    let read = Certificate::read(first)?;
    let name = options.name.or_else(|| read.names.first().map(|name| name.replacen("*.", "www.", 1)));
    let name = name.ok_or_else(|| Error::new(Kind::BadData, "no name is in it").with_hint("pass #{name: …}"))?;
    let host = Host::parse(&name).map_err(|what| bad_argument(format!("verify_certificate: option `name`: {what}")))?;
    let problem = tls::verify(&chain, &host, roots.as_ref())?;
    Ok(record([
        ("valid", problem.is_none().into_script()),
        ("problem", problem.into_script()),
        ("name", host.to_string().into_script()),
        ("days_left", days_left(&read).into_script()),
    ]))
}

fn days_left(certificate: &Certificate) -> i64 {
    let now = jiff::Timestamp::now().as_second();
    certificate.not_after.saturating_sub(now).div_euclid(86_400)
}

fn shown(certificate: &Certificate) -> Map {
    let time = |seconds: i64| jiff::Timestamp::from_second(seconds).map_or(Dynamic::UNIT, |time| DateTime(time).into_script());
    record([
        ("subject", certificate.subject.clone().into_script()),
        ("issuer", certificate.issuer.clone().into_script()),
        ("serial", certificate.serial.clone().into_script()),
        ("not_before", time(certificate.not_before)),
        ("not_after", time(certificate.not_after)),
        ("days_left", days_left(certificate).into_script()),
        ("names", certificate.names.clone().into_script()),
        ("is_ca", certificate.is_ca.into_script()),
        ("key", certificate.key.clone().into_script()),
        ("signature", certificate.signature.clone().into_script()),
        ("sha256", certificate.sha256.clone().into_script()),
    ])
}
