//! Who may authenticate: the owner's authorized_keys file, and the judgement of a key or certificate against it.

use core::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Certificate, PublicKey};

use super::address::Addresses;
use crate::error::{Error, Kind, Result};
use crate::os::trusted::{Owner, Trusted};

/// Bytes of an authorized_keys file.
const MAX_FILE: u64 = 4 << 20;
/// Shorter RSA keys are refused, of users and of authorities; NIST SP 800-131A has disallowed them since 2014.
const MIN_RSA_BITS: u32 = 2048;

/// The lines of one authorized_keys file.
///
/// The format is OpenSSH's (sshd(8), AUTHORIZED_KEYS FILE FORMAT) with the options `restrict` (what is always so here), `from`,
/// `expiry-time`, `cert-authority`, `principals` and `no-touch-required`. Any other option is an error: one that were ignored
/// (`command=`, `permitopen=` …) would leave its author with a belief that is not true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: KeyData,
    authority: bool,
    from: Option<Addresses>,
    /// Seconds since 1970; the key is good before, not at, this moment.
    expires: Option<u64>,
    principals: Option<Vec<String>>,
    touch_not_required: bool,
}

/// Why somebody was not admitted. Goes to the host's log, never to the client.
pub type Refusal = String;

impl Roster {
    /// # Errors
    /// [`Kind::Config`] naming `file`, the line and what is wrong with it.
    pub fn parse(text: &[u8], file: &Path) -> Result<Self> {
        let fault = |line: usize, what: String| Error::new(Kind::Config, what).with_path(format!("{}:{line}", file.display()));
        let text =
            std::str::from_utf8(text).map_err(|_| Error::new(Kind::Config, "not UTF-8 text").with_path(file.display().to_string()))?;
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                entries.push(entry(line).map_err(|what| fault(index + 1, what))?);
            }
        }
        Ok(Self { entries })
    }

    /// How many keys and how many certificate authorities are listed.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let authorities = self.entries.iter().filter(|entry| entry.authority).count();
        (self.entries.len() - authorities, authorities)
    }

    /// Whether it is worth a client's signature: a listed key, or any key at all where certificates are accepted, because the key of a
    /// certificate looks like a plain one at this stage.
    #[must_use]
    pub fn may_admit(&self, key: &KeyData) -> bool {
        self.entries.iter().any(|entry| entry.authority || entry.key == *key)
    }

    /// Judges a plain key whose possession has been proved. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Why no line admits it.
    pub fn judge_key(&self, key: &KeyData, from: IpAddr, now: u64) -> std::result::Result<(), Refusal> {
        self.any(|entry| !entry.authority && entry.key == *key, "the key is not listed", |entry| entry.admits(from, now))
    }

    /// Judges a certificate, of whose key the possession has been proved. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn judge_certificate(&self, certificate: &Certificate, from: IpAddr, now: u64) -> std::result::Result<(), Refusal> {
        sound(certificate, from, now)?;
        let authority = certificate.signature_key();
        self.any(
            |entry| entry.authority && entry.key == *authority,
            "the authority of the certificate is not listed",
            |entry| {
                entry.admits(from, now)?;
                if is_security_key(certificate.public_key()) && !entry.touch_not_required {
                    return Err("the authority's line lacks `no-touch-required` for a security key".into());
                }
                match &entry.principals {
                    Some(wanted) if !certificate.valid_principals().iter().any(|name| wanted.contains(name)) => {
                        Err("the certificate names none of the principals wanted".into())
                    }
                    _ => Ok(()),
                }
            },
        )
    }

    /// As sshd does, the lines are tried in order and one that admits is enough.
    fn any(
        &self,
        concerns: impl Fn(&Entry) -> bool,
        none: &str,
        admits: impl Fn(&Entry) -> std::result::Result<(), Refusal>,
    ) -> std::result::Result<(), Refusal> {
        let mut refusal = none.to_owned();
        for entry in self.entries.iter().filter(|entry| concerns(entry)) {
            match admits(entry) {
                Ok(()) => return Ok(()),
                Err(why) => refusal = why,
            }
        }
        Err(refusal)
    }
}

impl Entry {
    fn admits(&self, from: IpAddr, now: u64) -> std::result::Result<(), Refusal> {
        if self.expires.is_some_and(|expires| now >= expires) {
            return Err("the key's `expiry-time` has passed".into());
        }
        match &self.from {
            Some(addresses) if !addresses.contain(from) => Err("the key's `from` does not list this address".into()),
            _ => Ok(()),
        }
    }
}

/// Everything about a certificate that does not depend on who signed it.
fn sound(certificate: &Certificate, from: IpAddr, now: u64) -> std::result::Result<(), Refusal> {
    if !certificate.cert_type().is_user() {
        return Err("the certificate is not a user's".into());
    }
    if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None }) {
        return Err("the certificate is signed with SHA-1".into());
    }
    certificate.verify_signature().map_err(|_| "the signature of the certificate is wrong".to_owned())?;
    if now < certificate.valid_after() {
        return Err("the certificate is not valid yet".into());
    }
    if now >= certificate.valid_before() {
        return Err("the certificate has expired".into());
    }
    if certificate.valid_principals().is_empty() {
        // To OpenSSH before 10.3 such a certificate is valid for every user; here it is nobody's.
        return Err("the certificate names no principal".into());
    }
    acceptable(certificate.public_key())?;
    if is_security_key(certificate.public_key()) && !certificate.extensions().contains_key("no-touch-required") {
        return Err("the certificate of a security key lacks `no-touch-required`".into());
    }
    for (name, value) in certificate.critical_options().iter() {
        match name.as_str() {
            "source-address" => {
                let allowed = Addresses::parse_networks(value).map_err(|why| format!("the certificate's `source-address`: {why}"))?;
                if !allowed.contain(from) {
                    return Err("the certificate's `source-address` does not list this address".into());
                }
            }
            // It says what is so anyway; with any other text the authority wants something else to run.
            "force-command" if is_session_line(value) => {}
            "force-command" => return Err("the certificate forces a command other than `rex session`".into()),
            other => return Err(format!("the certificate has an unknown critical option `{}`", other.escape_debug())),
        }
    }
    Ok(())
}

/// `[exec] …/rex session`, without options.
fn is_session_line(text: &str) -> bool {
    let mut words = text.split(' ').filter(|word| !word.is_empty()).peekable();
    let _ = words.next_if_eq(&"exec");
    let program = words.next().is_some_and(|word| word == "rex" || word.ends_with("/rex"));
    program && words.next() == Some("session") && words.next().is_none()
}

fn is_security_key(key: &KeyData) -> bool {
    matches!(key, KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_))
}

/// Whether signatures of this kind of key are worth believing.
fn acceptable(key: &KeyData) -> std::result::Result<(), String> {
    match key {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => Ok(()),
        KeyData::Rsa(rsa) if rsa.key_size() >= MIN_RSA_BITS => Ok(()),
        KeyData::Rsa(rsa) => Err(format!("an RSA key of {} bits is too short; {MIN_RSA_BITS} are the least", rsa.key_size())),
        _ => Err("keys of this type are not accepted".into()),
    }
}

/// One line: options if the first word is no key type, then type, key and comment.
fn entry(line: &str) -> std::result::Result<Entry, String> {
    let (options, rest) = match line.split_once([' ', '\t']) {
        Some((first, _)) if Algorithm::new(first).is_ok_and(|algorithm| !matches!(algorithm, Algorithm::Other(_))) => ("", line),
        _ => split_options(line)?,
    };
    let key = rest.trim_start();
    let mut words = key.split([' ', '\t']).filter(|word| !word.is_empty());
    let (Some(kind), Some(blob)) = (words.next(), words.next()) else {
        return Err("a key type and a key are needed, e.g. `ssh-ed25519 AAAA…`".into());
    };
    let key =
        PublicKey::from_openssh(&format!("{kind} {blob}")).map_err(|_| format!("`{}` is followed by no such key", kind.escape_debug()))?;
    let mut entry =
        Entry { key: key.key_data().clone(), authority: false, from: None, expires: None, principals: None, touch_not_required: false };
    for option in options_of(options)? {
        entry.set(&option)?;
    }
    acceptable(&entry.key)?;
    if entry.principals.is_some() && !entry.authority {
        return Err("`principals` needs `cert-authority` beside it".into());
    }
    if is_security_key(&entry.key) && !entry.authority && !entry.touch_not_required {
        return Err("whether a security key was touched cannot be verified here; add `no-touch-required` to accept it without".into());
    }
    Ok(entry)
}

impl Entry {
    fn set(&mut self, option: &Opt<'_>) -> std::result::Result<(), String> {
        let name = option.name.to_ascii_lowercase();
        let flag = |it: &Opt<'_>| if it.value.is_some() { Err(format!("`{name}` takes no value")) } else { Ok(()) };
        let value = || match option.value.as_deref() {
            Some("") | None => Err(format!("`{name}` needs a value: {name}=\"…\"")),
            Some(value) => Ok(value),
        };
        let once = |given: bool| if given { Err(format!("`{name}` is given twice")) } else { Ok(()) };
        match name.as_str() {
            "restrict" => flag(option)?,
            "cert-authority" => {
                flag(option)?;
                self.authority = true;
            }
            "no-touch-required" => {
                flag(option)?;
                self.touch_not_required = true;
            }
            "from" => {
                once(self.from.is_some())?;
                self.from = Some(Addresses::parse(value()?).map_err(|why| format!("`from`: {why}"))?);
            }
            "expiry-time" => {
                once(self.expires.is_some())?;
                self.expires = Some(moment(value()?)?);
            }
            "principals" => {
                once(self.principals.is_some())?;
                let names: Vec<String> = value()?.split(',').map(str::to_owned).collect();
                if names.iter().any(String::is_empty) {
                    return Err("`principals` has an empty name in its list".into());
                }
                self.principals = Some(names);
            }
            _ => {
                return Err(format!(
                    "unknown option `{}`; known are restrict, from, expiry-time, cert-authority, principals, no-touch-required",
                    option.name.escape_debug()
                ));
            }
        }
        Ok(())
    }
}

struct Opt<'a> {
    name: &'a str,
    value: Option<String>,
}

/// Cuts the options off at the first blank outside quotes.
fn split_options(line: &str) -> std::result::Result<(&str, &str), String> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => return Ok(line.split_at(at)),
            _ => {}
        }
    }
    Err(if quoted { "a quote is not closed".into() } else { "a key type and a key are needed, e.g. `ssh-ed25519 AAAA…`".into() })
}

/// `name,name="value",…`; within quotes only `\"` means something else than itself, as in sshd(8).
fn options_of(text: &str) -> std::result::Result<Vec<Opt<'_>>, String> {
    let mut options = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find([',', '=']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() || name.contains('"') {
            return Err("an option without a name".into());
        }
        let mut value = None;
        rest = after;
        if let Some(quoted) = after.strip_prefix('=') {
            let Some(inner) = quoted.strip_prefix('"') else { return Err(format!("the value of `{}` needs quotes", name.escape_debug())) };
            let (text, after) = unquote(inner)?;
            value = Some(text);
            rest = after;
        }
        options.push(Opt { name, value });
        match rest.strip_prefix(',') {
            Some("") => return Err("an option is missing after the last comma".into()),
            Some(next) => rest = next,
            None if rest.is_empty() => {}
            None => return Err("options are separated by commas".into()),
        }
    }
    Ok(options)
}

/// Up to the closing quote, and what comes after it.
fn unquote(text: &str) -> std::result::Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' if chars.next_if(|(_, next)| *next == '"').is_some() => value.push('"'),
            _ => value.push(c),
        }
    }
    Err("a quote is not closed".into())
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, in the host's time zone or with `Z` in UTC, as sshd(8) has it. In seconds since 1970.
fn moment(text: &str) -> std::result::Result<u64, String> {
    let wrong = || format!("`expiry-time`: `{}` is not YYYYMMDD[HHMM[SS]][Z]", text.escape_debug());
    let (digits, zone) = match text.strip_suffix('Z') {
        Some(digits) => (digits, jiff::tz::TimeZone::UTC),
        None => (text, jiff::tz::TimeZone::system()),
    };
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let part = |from: usize, to: usize| digits.get(from..to).map_or(Ok(0), |part| part.parse::<i16>().map_err(|_| wrong()));
    let small = |from: usize, to: usize| part(from, to).and_then(|number| i8::try_from(number).map_err(|_| wrong()));
    let time = jiff::civil::DateTime::new(part(0, 4)?, small(4, 6)?, small(6, 8)?, small(8, 10)?, small(10, 12)?, small(12, 14)?, 0)
        .map_err(|_| wrong())?;
    let seconds = zone.to_timestamp(time).map_err(|_| wrong())?.as_second();
    u64::try_from(seconds).map_err(|_| wrong())
}

/// The file, read anew for every authentication, so that a removed key is refused at once and without a restart.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    last: Mutex<(Vec<u8>, Arc<Roster>)>,
}

impl KeyFile {
    /// # Errors
    /// As [`current`](Self::current).
    pub fn open(path: &Path) -> Result<Self> {
        let file = Self { path: path.to_owned(), last: Mutex::default() };
        file.current()?;
        Ok(file)
    }

    /// What the file says now. It must belong to root or to the user the server runs as, with nobody else able to write it or a folder above it.
    ///
    /// # Errors
    /// [`Kind::Config`] when it is missing, not to be trusted or wrong: then nobody is admitted.
    pub fn current(&self) -> Result<Arc<Roster>> {
        let text = Trusted::new(Owner::RootOrSelf).read(&self.path, MAX_FILE).map_err(|error| Error { kind: Kind::Config, ..error })?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != text {
            let roster = Arc::new(Roster::parse(&text, &self.path)?);
            *last = (text, roster);
        }
        Ok(Arc::clone(&last.1))
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
