//! sshd's account of how the caller authenticated (`ExposeAuthInfo`): found, opened and read with every check that can be made.

use std::path::Path;

use base64::Engine;

use super::key::Key;
use crate::error::{Error, Kind, Result};
use crate::os::private;
use crate::os::process::Environment;

/// Bytes of the whole file; a certificate with 256 principals fits.
const MAX_FILE: u64 = 64 << 10;
/// Steps of one authentication; sshd_config's AuthenticationMethods rarely name more than three.
const MAX_STEPS: usize = 16;
/// sshd.c: mkstemp("/tmp/sshauth.XXXXXXXXXXXXXXX"). Debian's sshd fills all fifteen at random, others nine X and six random.
const PREFIX: &str = "/tmp/sshauth.";
const SUFFIX_LENGTH: usize = 15;

/// A way of authenticating that sshd reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    PublicKey,
    Password,
    KeyboardInteractive,
    /// The key is that of the client's *host*: never a user's key.
    HostBased,
    GssApi,
}

impl Method {
    const ALL: [Self; 5] = [Self::PublicKey, Self::Password, Self::KeyboardInteractive, Self::HostBased, Self::GssApi];

    /// As RFC 4252 and sshd name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PublicKey => "publickey",
            Self::Password => "password",
            Self::KeyboardInteractive => "keyboard-interactive",
            Self::HostBased => "hostbased",
            Self::GssApi => "gssapi-with-mic",
        }
    }
}

/// One step that succeeded.
#[derive(Clone, Debug)]
pub struct Step {
    pub method: Method,
    /// Only for `publickey`.
    pub key: Option<Key>,
}

fn denied(message: impl Into<String>) -> Error {
    Error::new(Kind::Denied, message)
}

/// Whether there is evidence of this kind at all: the variable exists, whatever it says.
#[must_use]
pub fn is_present(environment: &Environment) -> bool {
    !environment.all("SSH_USER_AUTH").is_empty()
}

/// Finds and reads the file of a process of `uid`.
///
/// # Errors
/// [`Kind::Denied`] if the variable is missing, there twice or odd, the file is not as sshd makes it, or its content is odd.
pub fn read(environment: &Environment, uid: u32) -> Result<Vec<Step>> {
    let path = match environment.all("SSH_USER_AUTH").as_slice() {
        [] => return Err(denied("sshd gave no account of the login (SSH_USER_AUTH is missing; the host needs `ExposeAuthInfo yes`)")),
        [path] => std::str::from_utf8(path).ok().filter(|path| is_sshd_name(path)),
        _ => return Err(denied("SSH_USER_AUTH is there more than once")),
    };
    let path = path.ok_or_else(|| denied("SSH_USER_AUTH does not name a file as sshd makes it"))?;
    parse(&private::read(Path::new(path), uid, MAX_FILE)?)
}

fn is_sshd_name(path: &str) -> bool {
    path.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == SUFFIX_LENGTH && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Reads the lines: `method[/submethod][ keytype base64][ text]`, each ended by a newline (auth2.c, `auth2_update_session_info`).
///
/// # Errors
/// [`Kind::Denied`] for anything that is not exactly of that form, saying in which line.
pub fn parse(content: &[u8]) -> Result<Vec<Step>> {
    let odd = |line: usize, what: &str| denied(format!("line {} of sshd's account of the login {what}", line + 1));
    let text = std::str::from_utf8(content).map_err(|_| odd(0, "is not UTF-8"))?;
    let Some(text) = text.strip_suffix('\n') else {
        return Err(denied("sshd's account of the login is empty or does not end with a newline"));
    };
    let lines: Vec<&str> = text.split('\n').collect();
    if lines.len() > MAX_STEPS {
        return Err(denied(format!("sshd's account of the login has more than {MAX_STEPS} lines")));
    }
    lines.iter().enumerate().map(|(number, line)| step(line).map_err(|what| odd(number, &what))).collect()
}

fn step(line: &str) -> std::result::Result<Step, String> {
    if line.contains(char::is_control) {
        return Err("contains a control character".into());
    }
    let (word, rest) = line.split_once(' ').map_or((line, None), |(word, rest)| (word, Some(rest)));
    let (name, submethod) = word.split_once('/').map_or((word, None), |(name, sub)| (name, Some(sub)));
    let method = Method::ALL.into_iter().find(|method| method.name() == name).ok_or("names a method that rex does not know")?;
    let submethod_fits = match submethod {
        None => true,
        Some(sub) => {
            method == Method::KeyboardInteractive && !sub.is_empty() && sub.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        }
    };
    if !submethod_fits {
        return Err("has a variant of a method that rex does not know".into());
    }
    match (method, rest) {
        (Method::PublicKey, Some(rest)) => Ok(Step { method, key: Some(key(rest)?) }),
        (Method::PublicKey | Method::HostBased, None) => Err("lacks the key".into()),
        (Method::HostBased, Some(rest)) => key(rest).map(|_of_a_host| Step { method, key: None }),
        // A display name, free text; nobody is derived from it.
        (Method::GssApi, Some(rest)) if !rest.is_empty() => Ok(Step { method, key: None }),
        (Method::Password | Method::KeyboardInteractive | Method::GssApi, None) => Ok(Step { method, key: None }),
        (Method::Password | Method::KeyboardInteractive | Method::GssApi, Some(_)) => Err("has trailing text".into()),
    }
}

fn key(rest: &str) -> std::result::Result<Key, String> {
    let mut words = rest.split(' ');
    let (Some(kind), Some(blob), None) = (words.next(), words.next(), words.next()) else {
        return Err("lacks the key or has trailing text".into());
    };
    let blob = base64::engine::general_purpose::STANDARD.decode(blob).map_err(|_| "has a key that is not base64".to_owned())?;
    Key::from_blob(kind, &blob).map_err(|error| format!("is odd: {}", error.message))
}

#[cfg(test)]
mod tests;
