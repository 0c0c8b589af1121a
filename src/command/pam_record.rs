//! `rex pam-record`: what pam_exec(8) starts at each login to keep sshd's account of the key under the kernel's audit session, and at its end to take that away.

use crate::error::{Error, Exit, Kind, Result};
use crate::identity::record::{Login, VERSION};
use crate::os::login::{self, Process};
use crate::os::process::Environment;
use crate::os::trusted::Owner;
use crate::terms::OwnersFiles;
use std::path::Path;

/// Longest account of a login that is kept.
const MAX_AUTH: usize = 64 << 10;

/// Writes or removes the record of the login that this process is part of; gives the exit code. It asks nobody and waits for nothing.
#[must_use]
pub fn run(config: Option<&Path>, environment: &Environment) -> u8 {
    match record(config, environment) {
        Ok(()) => Exit::Ok as u8,
        Err(error) => super::local::failed(&error),
    }
}

fn record(config: Option<&Path>, environment: &Environment) -> Result<()> {
    if !rustix::process::getuid().is_root() || !rustix::process::geteuid().is_root() {
        return Err(Error::new(Kind::Usage, "pam-record is started by pam_exec, as root")
            .with_hint("session optional pam_exec.so quiet /usr/bin/rex pam-record"));
    }
    let phase = one(environment, "PAM_TYPE")?;
    let config = OwnersFiles::new(config, Owner::RootOnly).config()?;
    let folder = config.beside(&config.login_records);
    let missing = |what: &str| Error::new(Kind::Unsupported, format!("this login cannot be recorded: {what}"));
    let session = login::audit_session("self")
        .ok_or_else(|| missing("the kernel gives it no audit session (kernel audit, pam_loginuid before pam_exec)"))?;
    let uid = login::login_uid().ok_or_else(|| missing("it has no login uid (pam_loginuid before pam_exec)"))?;
    let (sshd, above) = Process::parents().ok_or_else(|| missing("/proc does not tell who started pam-record"))?;
    match phase {
        "open_session" => {
            // A daemon that somebody started by hand is itself in a session: without pam_loginuid its connections would share that one.
            if login::audit_session(&above.to_string()) == Some(session) {
                return Err(missing("it has the audit session of the daemon itself, so pam_loginuid did not run before pam_exec"));
            }
            let auth = one(environment, "SSH_AUTH_INFO_0")?;
            if auth.is_empty() || auth.len() > MAX_AUTH {
                return Err(missing("sshd says nothing of how it authenticated, or too much"));
            }
            forget_what_is_over(&folder, session);
            let other = known(&folder, session).is_some_and(|login| login.sshd != sshd && login.sshd.lives());
            let login = Login { version: VERSION, session, uid, sshd, disputed: other, auth: auth.trim_end_matches('\n').to_owned() };
            let bytes = serde_json::to_vec(&login).map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
            let gid = crate::resource::file::names().user_entry(uid).map(|user| user.gid);
            login::write(&folder, session, gid, &bytes)
        }
        "close_session" => match known(&folder, session) {
            Some(login) if login.sshd == sshd => login::remove(&folder, session),
            _ => Ok(()),
        },
        other => Err(Error::new(
            Kind::Usage,
            format!("pam-record belongs to the `session` lines of PAM; it was started for `{}`", other.escape_debug()),
        )),
    }
}

/// A variable that PAM sets, there exactly once.
fn one<'a>(environment: &'a Environment, name: &str) -> Result<&'a str> {
    match environment.all(name).as_slice() {
        [value] => std::str::from_utf8(value).map_err(|_| Error::new(Kind::Usage, format!("{name} is not UTF-8"))),
        [] => Err(Error::new(
            Kind::Usage,
            format!("{name} is missing: pam-record is started by pam_exec, in a service of sshd, on a `session` line"),
        )),
        _ => Err(Error::new(Kind::Usage, format!("{name} is there more than once"))),
    }
}

fn known(folder: &Path, session: u32) -> Option<Login> {
    serde_json::from_slice(&login::read(folder, session).ok()?).ok()
}

/// Records of connections that ended without telling PAM: their sshd was killed.
fn forget_what_is_over(folder: &Path, own: u32) {
    for session in login::sessions(folder) {
        if session != own && known(folder, session).is_none_or(|login| !login.sshd.lives()) {
            let _ = login::remove(folder, session);
        }
    }
}
