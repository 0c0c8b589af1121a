//! A real sshd on a spare port of 127.0.0.1, with keys and certificates, and the real ssh client before it.

use super::process::{Running, until};
use super::{Rex, Run};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A key pair of a client (or of a certificate authority), in files.
pub struct Key {
    pub file: PathBuf,
    /// `type base64`, without a comment.
    pub public: String,
}

/// A daemon with this host's configuration. Killed when dropped, with everything it started.
pub struct Sshd {
    folder: PathBuf,
    port: u16,
    daemon: Child,
}

fn tool(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Key {
    /// A fresh ed25519 pair, in the folder of this host.
    #[track_caller]
    pub fn new(rex: &Rex, name: &str) -> Self {
        let folder = rex.root().join("ssh");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(name);
        tool(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&file));
        let public = fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned();
        Self { file, public }
    }
    /// `SHA256:…`, as sshd logs it.
    #[track_caller]
    pub fn fingerprint(&self) -> String {
        let output = Command::new("ssh-keygen").args(["-l", "-E", "sha256", "-f"]).arg(self.file.with_extension("pub")).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
    }
    /// Signs the other key as a user certificate (`KEY-cert.pub`, which ssh finds by itself) with options of `ssh-keygen -s`.
    #[track_caller]
    pub fn certify(&self, key: &Self, key_id: &str, principals: &str, options: &[&str]) {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-s"]).arg(&self.file).args(["-I", key_id]);
        if !principals.is_empty() {
            command.args(["-n", principals]);
        }
        tool(command.args(options).arg(key.file.with_extension("pub")));
    }
}

impl Sshd {
    /// Starts with `lines` of sshd_config at its end (so that they may open Match blocks). `{rex}` stands for the program,
    /// `{config}` for rex.toml, `{keys}` for the folder of [`Sshd::authorize`], `{root}` for the host's folder.
    #[track_caller]
    pub fn start(rex: &Rex, lines: &str) -> Self {
        Self::start_with(rex, "no", &[], lines)
    }
    /// The same with `UsePAM yes`, as Debian has it.
    #[track_caller]
    pub fn start_pam(rex: &Rex, lines: &str) -> Self {
        Self::start_with(rex, "yes", &[], lines)
    }
    /// The same where `/etc/rex` is this host's `etc/`: in a copy of /etc that only this daemon and its sessions see.
    #[track_caller]
    pub fn start_with_etc_rex(rex: &Rex, lines: &str) -> Self {
        let etc = rex.root().join("ssh/etc");
        fs::create_dir_all(&etc).unwrap();
        let mounts = r#"mount -t tmpfs -o mode=755 none "$1" && { cp -a /etc/. "$1" || cp -a /etc/. "$1" || cp -a /etc/. "$1"; } && mkdir -p "$1/rex" && mount --bind "$1" /etc &&
            mount --bind "$2" /etc/rex && shift 2 && exec "$@""#;
        let own = rex.root().join("etc");
        let wrapper =
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounts, "-", etc.to_str().unwrap(), own.to_str().unwrap()];
        Self::start_with(rex, "no", &wrapper, lines)
    }
    /// `UsePAM yes` with a copy of /etc in which `edit`, a shell text with `$1` for the file, has changed sshd's service; only this daemon and its sessions see it.
    /// The daemon begins outside of any audit session, as one that systemd starts.
    #[track_caller]
    pub fn start_with_service(rex: &Rex, edit: &str, lines: &str) -> Self {
        let etc = rex.root().join("ssh/etc");
        fs::create_dir_all(&etc).unwrap();
        let edit = edit.replace("{rex}", rex.program().to_str().unwrap()).replace("{config}", rex.config_file().to_str().unwrap());
        let mounts = format!(
            r#"mount -t tmpfs -o mode=755 none "$1" && {{ cp -a /etc/. "$1" || cp -a /etc/. "$1" || cp -a /etc/. "$1"; }} && mount --bind "$1" /etc && shift &&
            (set -- /etc/pam.d/sshd; {edit}) && exec "$@""#
        );
        let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &mounts, "-", etc.to_str().unwrap()];
        Self::start_with(rex, "yes", &wrapper, lines)
    }
    #[track_caller]
    fn start_with(rex: &Rex, pam: &str, wrapper: &[&str], lines: &str) -> Self {
        let folder = rex.root().join("ssh");
        fs::create_dir_all(folder.join("keys")).unwrap();
        // Debian's sshd refuses to run without its privilege separation folder.
        fs::create_dir_all("/run/sshd").unwrap();
        if !folder.join("host").exists() {
            Key::new(rex, "host");
        }
        let lines =
            rex.fill(lines).replace("{rex}", rex.program().to_str().unwrap()).replace("{keys}", folder.join("keys").to_str().unwrap());
        let lines = lines.replace("{config}", rex.config_file().to_str().unwrap());
        for _ in 0..20 {
            let port = spare_port();
            let config = format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {0}/host\nPidFile none\nUsePAM {pam}\nAuthorizedKeysFile {0}/keys/%u\n\
                 PasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\nLogLevel VERBOSE\n{lines}\n",
                folder.display()
            );
            fs::write(folder.join("sshd_config"), &config).unwrap();
            let log = fs::File::create(folder.join("log")).unwrap();
            let words = [wrapper, &["/usr/sbin/sshd"]].concat();
            let mut command = Command::new(words[0]);
            command
                .args(&words[1..])
                .args(["-D", "-e", "-f"])
                .arg(folder.join("sshd_config"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log);
            let mut daemon = command.spawn().expect("/usr/sbin/sshd");
            let said = || fs::read_to_string(folder.join("log")).unwrap_or_default();
            until(20.0, || said().contains("Server listening") || daemon.try_wait().unwrap().is_some());
            if said().contains("Server listening") && daemon.try_wait().unwrap().is_none() {
                let sshd = Self { folder, port, daemon };
                sshd.know_host();
                return sshd;
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
            assert!(said().contains("Address already in use"), "sshd does not start: {}\n{config}", said());
        }
        panic!("no spare port found")
    }
    fn know_host(&self) {
        let key = fs::read_to_string(self.folder.join("host.pub")).unwrap();
        fs::write(self.folder.join("known_hosts"), format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
    }
    pub fn folder(&self) -> &Path {
        &self.folder
    }
    /// What the daemon logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
    /// Adds a line to the account's authorized keys, with options such as `restrict,command="…"` (or none).
    #[track_caller]
    pub fn authorize(&self, name: &str, options: &str, key: &Key) {
        let file = self.folder.join("keys").join(name);
        let before = fs::read_to_string(&file).unwrap_or_default();
        fs::write(&file, format!("{before}{options} {}\n", key.public)).unwrap();
        chown(&file, Some(0), Some(0)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    /// `ssh [options] NAME@host [request]` with no configuration but its own.
    pub fn command(&self, name: &str, key: &Key, options: &[&str], request: &[&str]) -> Command {
        let mut command = self.client("/usr/bin/ssh", key);
        command.args(["-p", &self.port.to_string()]).args(options).arg(format!("{name}@127.0.0.1")).args(request);
        command
    }
    /// Another program of the family (`sftp`, `scp`), with the options that they share.
    pub fn client(&self, program: &str, key: &Key) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent").current_dir("/").args(["-F", "none"]);
        for option in [
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "ConnectTimeout=20",
            "LogLevel=ERROR",
            "GlobalKnownHostsFile=/dev/null",
        ] {
            command.args(["-o", option]);
        }
        command.arg("-o").arg(format!("UserKnownHostsFile={}/known_hosts", self.folder.display())).arg("-i").arg(&key.file);
        command
    }
    pub fn port(&self) -> u16 {
        self.port
    }
    /// Runs ssh to its end.
    #[track_caller]
    pub fn ssh(&self, rex: &Rex, name: &str, key: &Key, options: &[&str], request: &[&str], stdin: &str) -> Run {
        rex.finish(self.command(name, key, options, request), rex.fill(stdin).as_bytes())
    }
    /// Starts ssh and leaves it running.
    #[track_caller]
    pub fn begin(&self, name: &str, key: &Key, options: &[&str], request: &[&str]) -> Running {
        Running::start(self.command(name, key, options, request))
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // The daemon's children (one per connection) first, while they can be told by their parent.
        for pid in descendants(self.daemon.id()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

pub fn spare_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// All processes below this one, from /proc.
fn descendants(root: u32) -> Vec<rustix::process::Pid> {
    let parent = |pid: i32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let pids: Vec<i32> = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let (mut found, mut at) = (vec![root], 0);
    while at < found.len() {
        let above = found[at];
        found.extend(pids.iter().filter(|pid| parent(**pid) == Some(above)).map(|pid| *pid as u32));
        at += 1;
    }
    found.iter().skip(1).filter_map(|pid| rustix::process::Pid::from_raw(*pid as i32)).collect()
}
