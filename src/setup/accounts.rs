//! Accounts, groups and units, changed by the host's own tools, since these know what else the host keeps about them.

use super::step::Undone;
use crate::error::{Error, Kind, Result};
use crate::os::facts;
use crate::os::process::Names;
use crate::os::program::{self, Ran};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one of these tools may take. They wait for a lock of the account files; starting a unit waits for its start.
const LIMIT: Duration = Duration::from_secs(60);
/// How often something is tried that others keep busy, a second apart.
const TRIES: u32 = 10;
/// The tools that change what is taken back.
const TOOLS: &[&str] = &["groupadd", "groupdel", "useradd", "userdel", "usermod", "gpasswd", "systemctl"];
const FOLDERS: &[&str] = &["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

/// The absolute path of a tool of the owner's.
///
/// # Errors
/// [`Kind::Unsupported`] naming what to install.
pub fn tool(name: &str, package: &str) -> Result<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file()).ok_or_else(|| {
        Error::new(Kind::Unsupported, format!("`{name}` is not on this host")).with_hint(format!("install the package {package}"))
    })
}

fn run(name: &str, package: &str, arguments: &[&str]) -> Result<Ran> {
    program::undisturbed(&tool(name, package)?, arguments, LIMIT)
}

/// Runs it; its words are the error when it fails.
fn must(name: &str, package: &str, arguments: &[&str]) -> Result<()> {
    for _ in 0..TRIES {
        let ran = run(name, package, arguments)?;
        if ran.code == Some(0) {
            return Ok(());
        }
        // Another tool at the same files; these give up at once.
        if !ran.stderr.contains("cannot lock") {
            return Err(failure(name, &ran));
        }
        program::wait(Duration::from_secs(1));
    }
    Err(Error::new(Kind::Busy, format!("`{name}` finds the account files locked"))
        .with_hint("somebody else changes accounts; a lock that is left over is /etc/passwd.lock or the like"))
}

fn failure(name: &str, ran: &Ran) -> Error {
    let said = if ran.stderr.trim().is_empty() { &ran.stdout } else { &ran.stderr };
    let said = said.trim().lines().next_back().unwrap_or("it said nothing");
    let code = ran.code.map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"));
    Error::new(Kind::ProgramFailed, format!("`{name}` ended with {code}: {said}"))
}

/// Waits for tools that a setup which was killed left running: what they do must be there before it is taken back.
pub fn settle() {
    let running = || {
        let numbers = facts::names(Path::new("/proc"), 1 << 22).unwrap_or_default();
        let names = numbers.iter().filter_map(|name| name.to_str()).filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        names.filter_map(|pid| facts::kernel_says(&format!("/proc/{pid}/comm"))).any(|name| TOOLS.contains(&name.as_str()))
    };
    for _ in 0..TRIES * 10 {
        if !running() {
            return;
        }
        program::wait(Duration::from_millis(100));
    }
}

/// # Errors
/// What groupadd says.
pub fn add_group(name: &str) -> Result<()> {
    must("groupadd", "passwd (shadow-utils)", &["--system", name])
}

/// # Errors
/// What useradd says.
pub fn add_user(name: &str, home: &Path, shell: &Path, groups: &[String]) -> Result<()> {
    let (home, shell, groups) = (home.to_string_lossy(), shell.to_string_lossy(), groups.join(","));
    // `*` is no password, but not a locked account either, which sshd would refuse. The home is made by itself: it is root's.
    let mut arguments = vec!["--system", "--user-group", "--no-create-home", "--no-log-init", "--password", "*", "--comment", "rex"];
    arguments.extend(["--home-dir", &home, "--shell", &shell]);
    if !groups.is_empty() {
        arguments.extend(["--groups", &groups]);
    }
    arguments.push(name);
    must("useradd", "passwd (shadow-utils)", &arguments)
}

/// # Errors
/// What gpasswd says.
pub fn add_member(user: &str, group: &str) -> Result<()> {
    must("gpasswd", "passwd (shadow-utils)", &["--add", user, group])
}

/// # Errors
/// What usermod says.
pub fn set_shell(user: &str, shell: &Path) -> Result<()> {
    must("usermod", "passwd (shadow-utils)", &["--shell", &shell.to_string_lossy(), user])
}

/// # Errors
/// What systemctl says.
pub fn enable(unit: &str) -> Result<()> {
    reread_units()?;
    must("systemctl", "systemd", &["enable", "--now", unit])
}

/// Has systemd read its unit files again.
///
/// # Errors
/// What systemctl says.
pub fn reread_units() -> Result<()> {
    must("systemctl", "systemd", &["daemon-reload"])
}

/// # Errors
/// What systemctl says.
pub fn disable(unit: &str) -> Result<Undone> {
    let known = run("systemctl", "systemd", &["cat", unit])?;
    if known.code != Some(0) {
        return Ok(Undone::Nothing);
    }
    must("systemctl", "systemd", &["disable", "--now", unit])?;
    Ok(Undone::Done(format!("stopped and disabled {unit}")))
}

/// # Errors
/// What groupdel says.
pub fn remove_group(name: &str) -> Result<Undone> {
    let Some(group) = Names::of_host().group_named(name) else { return Ok(Undone::Nothing) };
    if !group.members.is_empty() {
        return Ok(Undone::Kept(format!("the group `{name}` has members by now: {}", group.members.join(", "))));
    }
    must("groupdel", "passwd (shadow-utils)", &[name])?;
    Ok(Undone::Done(format!("removed the group `{name}`")))
}

/// # Errors
/// [`Kind::Busy`] while a session of the account runs; what userdel says.
pub fn remove_user(name: &str, home: &Path) -> Result<Undone> {
    match Names::of_host().user_named(name) {
        None => return Ok(Undone::Nothing),
        Some(user) if user.home != home => {
            return Ok(Undone::Kept(format!("the account `{name}` has another home by now, {}", user.home.display())));
        }
        Some(_) => {}
    }
    for _ in 0..TRIES {
        let ran = run("userdel", "passwd (shadow-utils)", &[name])?;
        match ran.code {
            Some(0) => return Ok(Undone::Done(format!("removed the account `{name}`"))),
            // A session that just ended may still have a process (userdel(8): 8, user currently logged in).
            Some(8) => program::wait(Duration::from_secs(1)),
            _ => return Err(failure("userdel", &ran)),
        }
    }
    Err(Error::new(Kind::Busy, format!("the account `{name}` has a session under way")).with_hint("run this again when it has ended"))
}

/// # Errors
/// What gpasswd says.
pub fn remove_member(user: &str, group: &str) -> Result<Undone> {
    let is_in = Names::of_host().group_named(group).is_some_and(|group| group.members.iter().any(|member| member == user));
    if !is_in {
        return Ok(Undone::Nothing);
    }
    must("gpasswd", "passwd (shadow-utils)", &["--delete", user, group])?;
    Ok(Undone::Done(format!("took `{user}` out of the group `{group}`")))
}

/// # Errors
/// What usermod says.
pub fn restore_shell(user: &str, shell: &Path, before: &Path) -> Result<Undone> {
    match Names::of_host().user_named(user) {
        Some(now) if now.shell == shell => {
            set_shell(user, before)?;
            Ok(Undone::Done(format!("`{user}` has the login shell {} again", before.display())))
        }
        Some(now) if now.shell != before => Ok(Undone::Kept(format!("`{user}` has another login shell by now, {}", now.shell.display()))),
        _ => Ok(Undone::Nothing),
    }
}
