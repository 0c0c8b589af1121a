//! The record of a login: what sshd said of the key, kept by root under the kernel's audit session (`rex pam-record`), so that no process of the same uid can
//! forge it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::auth_info::{self, Step};
use crate::error::{Error, Kind, Result};
use crate::os::login::{self, Process};

/// One login, as `rex pam-record` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Of this form.
    pub version: u32,
    /// The kernel's audit session.
    pub session: u32,
    /// The login uid that pam_loginuid(8) set.
    pub uid: u32,
    /// sshd's process for the connection.
    pub sshd: Process,
    /// Two connections were found under one audit session: neither is believed.
    pub disputed: bool,
    /// `SSH_AUTH_INFO_0`: the same lines as in the file of `ExposeAuthInfo`, without the last line end.
    pub auth: String,
}

/// The form that this version writes and reads.
pub const VERSION: u32 = 1;

fn denied(message: impl Into<String>) -> Error {
    Error::new(Kind::Denied, message)
}

fn session() -> Option<u32> {
    login::audit_session("self")
}

/// Whether there is evidence of this kind at all: the kernel knows the login, and something lies where its record would be.
#[must_use]
pub fn is_present(folder: &Path) -> bool {
    session().is_some_and(|session| !matches!(login::read(folder, session), Err(error) if error.kind == Kind::NotFound))
}

/// Reads what is on record of the login that this process, of `uid`, belongs to.
///
/// # Errors
/// [`Kind::Denied`] where the kernel does not tell the login, there is no record of it, or the record is odd or of another login.
pub fn read(folder: &Path, uid: u32) -> Result<Vec<Step>> {
    let Some(session) = session() else {
        return Err(denied("the kernel knows no audit session of this login, so nobody can be told by its record").with_hint(
            "for the host's owner: a kernel with audit, `UsePAM yes`, and pam_loginuid before pam_exec in the service of sshd",
        ));
    };
    let bytes = login::read(folder, session).map_err(|error| match error.kind {
        Kind::NotFound => denied(format!("there is no record of this login (audit session {session})")).with_hint(
            "for the host's owner: `session optional pam_exec.so quiet /usr/bin/rex pam-record`, after pam_loginuid in the service of sshd",
        ),
        _ => denied(format!("the record of this login cannot be believed: {}", error.message)),
    })?;
    let login: Login = serde_json::from_slice(&bytes).map_err(|error| denied(format!("the record of this login is odd: {error}")))?;
    let odd = if login.version != VERSION {
        Some(format!("has form {}, this rex reads {VERSION}", login.version))
    } else if login.session != session {
        Some(format!("is of audit session {}, not {session}", login.session))
    } else if login.disputed {
        Some("is disputed: two connections have one audit session, so pam_loginuid is missing".to_owned())
    } else if login.uid != uid {
        Some(format!("is of user id {}, and this is {uid}", login.uid))
    } else if !login.sshd.lives() {
        Some("is of a connection that is over".to_owned())
    } else {
        None
    };
    if let Some(odd) = odd {
        return Err(denied(format!("the record of this login {odd}")));
    }
    auth_info::parse(format!("{}\n", login.auth).as_bytes())
}
