//! Places closed to scripts whatever a policy says: what decides the next login, keys and agents, this process's own memory, and rex's own files.

use crate::policy::{Access, Ask};
use std::path::{Path, PathBuf};

/// Start-up files of shells and login helpers, directly in a home folder.
const START_UP: &[&str] = &[
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".bash_logout",
    ".bash_aliases",
    ".profile",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
    ".zlogout",
    ".cshrc",
    ".tcshrc",
    ".login",
    ".logout",
    ".kshrc",
    ".mkshrc",
    ".inputrc",
    ".pam_environment",
    ".forward",
    ".rhosts",
    ".shosts",
    ".k5login",
    ".k5users",
    ".xsessionrc",
    ".xprofile",
    ".hushlogin",
];

/// Folders in a home folder from which a login starts programs.
const START_UP_FOLDERS: &[&str] =
    &[".config/systemd", ".config/environment.d", ".config/fish", ".config/autostart", ".local/share/systemd", ".zsh", ".oh-my-zsh"];

/// What is closed in this run.
#[derive(Clone, Debug, Default)]
pub struct Closed {
    /// The home of the account, canonical.
    pub home: Option<PathBuf>,
    /// rex's own files and folders (configuration, policies, scripts, records, the program), canonical.
    pub own: Vec<PathBuf>,
    /// The file of records, canonical: files whose names begin like it are older records.
    pub records: Option<PathBuf>,
    /// The host key of `rex serve`, canonical: its sessions are of the server's own account, which can read it.
    pub host_key: Option<PathBuf>,
    /// Exceptions that rex.toml names, for writing.
    pub exceptions: Vec<PathBuf>,
}

impl Closed {
    /// Why this place is closed to this verb, if it is.
    #[must_use]
    pub fn reason(&self, ask: &Ask, noun: &str, id: &str) -> Option<&'static str> {
        if !noun.starts_with("file_system::") {
            return None;
        }
        let path = Path::new(id);
        if let Some(reason) = secret(path, id) {
            return Some(reason);
        }
        if self.host_key.as_deref() == Some(path) {
            return Some("keys are closed to scripts");
        }
        if ask.access == Access::ReadOnly {
            return None;
        }
        if self.exceptions.iter().any(|exception| path.starts_with(exception)) {
            return None;
        }
        if self.own.iter().any(|own| path.starts_with(own) || own.starts_with(path)) {
            return Some("rex's own files are closed to scripts");
        }
        let older = |records: &Path| match (records.file_name(), path.file_name()) {
            (Some(name), Some(own)) => path.parent() == records.parent() && own.as_encoded_bytes().starts_with(name.as_encoded_bytes()),
            _ => false,
        };
        if self.records.as_deref().is_some_and(older) {
            return Some("rex's own files are closed to scripts");
        }
        if path.starts_with("/var/spool/cron") {
            return Some("crontabs are closed to scripts");
        }
        if let Some(inside) = in_home(path, self.home.as_deref())
            && (START_UP.iter().any(|name| inside == Path::new(name))
                || START_UP_FOLDERS.iter().any(|folder| inside.starts_with(folder) || Path::new(folder).starts_with(inside)))
        {
            return Some("files that decide the next login are closed to scripts");
        }
        None
    }
}

/// Closed to every verb.
fn secret(path: &Path, id: &str) -> Option<&'static str> {
    // Wherever the home of an account is: the name says enough.
    if id.contains(".ssh") && path.components().any(|part| part.as_os_str() == ".ssh") {
        return Some("keys are closed to scripts");
    }
    let rest = id.strip_prefix("/tmp/").or_else(|| id.strip_prefix("/var/tmp/"));
    if rest.is_some_and(|name| name.starts_with("sshauth.") || (name.starts_with("ssh-") && name.contains("/agent."))) {
        return Some("sshd's own files are closed to scripts");
    }
    if let Some(rest) = id.strip_prefix("/proc/") {
        let mut parts = rest.split('/');
        let pid = parts.next().unwrap_or("");
        let own = is_own(pid);
        let leaf = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if own && parts.next().is_some() && !matches!(leaf, "mountinfo" | "mounts" | "status" | "stat" | "limits" | "cgroup") {
            return Some("rex's own process is closed to scripts");
        }
        if pid.bytes().all(|byte| byte.is_ascii_digit()) && matches!(leaf, "mem" | "environ" | "auxv" | "syscall" | "pagemap") {
            return Some("the memory and environment of processes are closed to scripts");
        }
        if matches!(rest, "kcore" | "kmem" | "kpagecgroup" | "vmcore") {
            return Some("the memory of the kernel is closed to scripts");
        }
    }
    matches!(id, "/dev/mem" | "/dev/kmem" | "/dev/port").then_some("the memory of the kernel is closed to scripts")
}

/// Whether this number is this process or one of its threads: each has a folder in /proc, though only that of the process is listed (proc(5)).
fn is_own(pid: &str) -> bool {
    let thread = || rustix::fs::access(format!("/proc/self/task/{pid}"), rustix::fs::Access::EXISTS).is_ok();
    pid.bytes().all(|byte| byte.is_ascii_digit()) && !pid.is_empty() && (pid == std::process::id().to_string() || thread())
}

/// The path within a home folder: the account's own, root's, or one in /home.
fn in_home<'a>(path: &'a Path, home: Option<&Path>) -> Option<&'a Path> {
    let own = home.filter(|home| home.parent().is_some()).and_then(|home| path.strip_prefix(home).ok());
    own.or_else(|| path.strip_prefix("/root").ok()).or_else(|| {
        let inside = path.strip_prefix("/home").ok()?;
        let mut parts = inside.components();
        parts.next()?;
        Some(parts.as_path())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(access: Access) -> Ask {
        Ask { namespace: "file_system", name: "x", applies_to: &[], groups: &[], doc: "", access, context: &[], nouns: &[] }
    }

    #[test]
    fn places_that_decide_the_next_login_are_closed_to_writing_and_keys_to_everything() {
        let closed = Closed {
            home: Some("/srv/agent".into()),
            own: vec!["/etc/rex".into()],
            records: Some("/var/log/rex.jsonl".into()),
            host_key: Some("/var/lib/rex/host_key".into()),
            exceptions: vec!["/home/x/.config/systemd/user/y.service".into()],
        };
        let writes = |path: &str| closed.reason(&ask(Access::Change), "file_system::File", path).is_some();
        let reads = |path: &str| closed.reason(&ask(Access::ReadOnly), "file_system::File", path).is_some();
        for path in [
            "/srv/agent/.bashrc",
            "/root/.profile",
            "/home/x/.config/systemd/user/z.service",
            "/etc/rex/policies/a.cedar",
            "/etc/rex",
            "/etc",
            "/var/spool/cron/crontabs/x",
            "/var/log/rex.jsonl",
            "/var/log/rex.jsonl.2.gz",
        ] {
            assert!(writes(path), "{path}");
            assert!(!reads(path), "{path}");
        }
        for path in [
            "/root/.ssh/id_ed25519",
            "/var/lib/rex/host_key",
            "/home/x/.ssh",
            "/srv/agent/.ssh/agent/s",
            "/var/lib/other/.ssh/id_rsa",
            "/proc/vmcore",
            "/tmp/sshauth.ABCDEFGHIJKLMNO",
            "/tmp/ssh-AAAA/agent.1",
            "/proc/1/mem",
            "/proc/1/environ",
            "/proc/1/task/1/environ",
        ] {
            assert!(writes(path) && reads(path), "{path}");
        }
        for path in [
            "/srv/agent2/.bashrc",
            "/var/log/other.jsonl",
            "/srv/agent/notes",
            "/etc/rexfoo",
            "/home/x/.config/systemd/user/y.service",
            "/proc/1/status",
        ] {
            assert!(!writes(path), "{path}");
        }
    }
}
