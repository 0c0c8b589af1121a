//! Hosts on one machine, made by fleet.sh: a `control` host, a bastion before it, and behind that a fleet with a real sshd each.

use super::process::{self, Running, until};
use super::{Key, Rex, Run};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Debian's sshd_config, without its comments.
const SSHD_CONFIG: &str = "Include /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\nUsePAM yes\nX11Forwarding yes\nPrintMotd no\n\
    AcceptEnv LANG LC_*\nSubsystem sftp /usr/lib/openssh/sftp-server\n";

/// Users that every host has, and their groups. `*` is no password, but no locked account either.
const USERS: &[(&str, u32, &str, &str)] = &[
    ("root", 0, "/root", "/bin/sh"),
    ("sshd", 105, "/run/sshd", "/usr/sbin/nologin"),
    ("agent", 4001, "/home/agent", "/bin/sh"),
    ("jump", 4002, "/home/jump", "/bin/sh"),
    ("nobody", 65534, "/nonexistent", "/usr/sbin/nologin"),
];

/// What every host does at its start.
const RC: &str = "chmod 1777 /tmp && install -d -m 755 /home/agent /home/jump /run/rex /var/cache/rex
install -d -m 2770 -g rexusers /var/log/rex && install -d -m 1770 -g rexusers /run/rex/runs && install -d -m 3770 -g rexusers /run/rex/denials
chown -R 0:0 /etc/rex /etc/ssh /root && chmod 600 /etc/ssh/host /root/.ssh/id_ed25519 2>/dev/null
";

/// A file of this repository.
#[track_caller]
pub fn shipped(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The block of a document whose first line is this comment.
#[track_caller]
pub fn block(document: &str, first: &str) -> String {
    let text = shipped(document);
    let mut blocks =
        text.split("\n```").filter_map(|block| Some(block.split_once('\n')?.1)).filter(|block| block.lines().next() == Some(first));
    let found = blocks.next().unwrap_or_else(|| panic!("{document} has no block that begins with `{first}`"));
    assert!(blocks.next().is_none(), "{document} has two blocks that begin with `{first}`");
    format!("{found}\n")
}

/// What the hosts will be, before they are up.
pub struct Site {
    pub rex: Rex,
    folder: PathBuf,
    wires: Vec<String>,
    /// Certifies the hosts to their clients.
    pub host_authority: Key,
    /// The key that the account `agent` of each host accepts, and that `control` has as its own.
    pub agent: Key,
}

impl Site {
    /// `control` — `bastion` — the hosts. Only the bastion is on both switches, and no host passes packets on.
    #[track_caller]
    pub fn behind_a_bastion(hosts: &[&str]) -> Self {
        let rex = Rex::new();
        let folder = rex.root().join("fleet");
        for part in ["all", "only", "pid", "layers"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        fs::hard_link(rex.program(), folder.join("rex")).unwrap();
        let (host_authority, agent) = (Key::new(&rex, "host-authority"), Key::new(&rex, "agent"));
        let mut site = Self { rex, folder, wires: Vec::new(), host_authority, agent };
        site.wire("control", "outside", "198.51.100.1/24");
        site.wire("bastion", "outside", "198.51.100.2/24");
        site.wire("bastion", "inside", "10.77.0.1/24");
        for (at, host) in hosts.iter().enumerate() {
            site.wire(host, "inside", &format!("10.77.0.{}/24", at + 10));
        }
        site.system();
        for host in std::iter::once("bastion").chain(hosts.iter().copied()) {
            site.daemon(host);
        }
        site.only("control", "etc/rc", &format!("{RC}echo >/run/up; exec sleep infinity\n"));
        site.only("bastion", "etc/ssh/sshd_config.d/jump.conf", &block("docs/fleet.md", "# /etc/ssh/sshd_config.d/jump.conf"));
        let key = format!("{}\n", site.agent.public);
        site.only("bastion", "etc/ssh/keys/jump", &key);
        let private = fs::read_to_string(&site.agent.file).unwrap();
        site.only("control", "root/.ssh/id_ed25519", &private);
        site.only("control", "root/.ssh/id_ed25519.pub", &key);
        site.only("control", "root/.ssh/known_hosts", &format!("@cert-authority * {}\n", site.host_authority.public));
        site
    }
    /// Plugs a host in.
    pub fn wire(&mut self, host: &str, switch: &str, address: &str) {
        self.wires.push(format!("{host} {switch} {address}"));
    }
    /// Names of the hosts in their order, each once.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.wires.iter().filter_map(|wire| wire.split(' ').next()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
    /// What every host has: users, names of hosts, sshd as Debian sets it up, rex as the documents say.
    fn system(&self) {
        let (mut passwd, mut group, mut shadow) = (String::new(), String::from("tty:x:5:\nrexusers:x:4000:agent\n"), String::new());
        for (name, id, home, shell) in USERS {
            passwd += &format!("{name}:x:{id}:{id}::{home}:{shell}\n");
            group += &format!("{name}:x:{id}:\n");
            shadow += &format!("{name}:*:19000:0:99999:7:::\n");
        }
        let known = self.wires.iter().rev().filter_map(|wire| {
            let (host, rest) = wire.split_once(' ')?;
            Some(format!("{} {host}\n", rest.split_once(' ')?.1.split_once('/')?.0))
        });
        self.all("etc/passwd", &passwd);
        self.all("etc/group", &group);
        self.all("etc/shadow", &shadow);
        self.all("etc/hosts", &format!("127.0.0.1 localhost\n{}", known.collect::<String>()));
        self.all("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n");
        self.all("etc/ssh/sshd_config", SSHD_CONFIG);
        self.all("etc/rex/rex.toml", "identity = [\"auth-info\"]\n[audit]\nfile = \"/var/log/rex/rex.jsonl\"\n");
    }
    /// One more account on a host; its lines are added to those that every host has.
    pub fn account(&self, host: &str, name: &str, id: usize, shell: &str) {
        self.append(host, "etc/passwd", &format!("{name}:x:{id}:{id}::/home/{name}:{shell}\n"));
        self.append(host, "etc/shadow", &format!("{name}:*:19000:0:99999:7:::\n"));
        self.group(host, name, id, "");
    }
    /// A group on a host; of two lines for one group the first counts, so this one goes in front.
    pub fn group(&self, host: &str, name: &str, id: usize, members: &str) {
        let rest = self.now(host, "etc/group");
        self.only(host, "etc/group", &format!("{name}:x:{id}:{members}\n{rest}"));
    }
    fn append(&self, host: &str, path: &str, text: &str) {
        self.only(host, path, &format!("{}{text}", self.now(host, path)));
    }
    /// What a file of a host is so far.
    fn now(&self, host: &str, path: &str) -> String {
        let own = fs::read_to_string(self.folder.join("only").join(host).join(path));
        own.or_else(|_| fs::read_to_string(self.folder.join("all").join(path))).unwrap_or_default()
    }
    /// A host with an sshd, as its first process, with the block for rex; its key is certified for its name.
    fn daemon(&self, host: &str) {
        self.only(host, "etc/rc", &format!("{RC}echo >/run/up; exec /usr/sbin/sshd -D -E /var/log/sshd.log\n"));
        let key = Key::new(&self.rex, &format!("host-{host}"));
        self.host_authority.certify(&key, host, host, &["-h"]);
        self.only(host, "etc/ssh/host", &fs::read_to_string(&key.file).unwrap());
        self.only(host, "etc/ssh/host.pub", &format!("{}\n", key.public));
        let certificate = key.file.with_file_name(format!("host-{host}-cert.pub"));
        self.only(host, "etc/ssh/host-cert.pub", &fs::read_to_string(certificate).unwrap());
        let lines = "HostKey /etc/ssh/host\nHostCertificate /etc/ssh/host-cert.pub\nLogLevel VERBOSE\nMaxStartups 100\n";
        self.only(host, "etc/ssh/sshd_config.d/00-host.conf", lines);
    }
    /// The public key of a host, a line.
    pub fn host_key(&self, host: &str) -> String {
        self.now(host, "etc/ssh/host.pub")
    }
    /// A host where the account `agent` is alice for rex: sshd's block as it is shipped, and these policies.
    pub fn asks_rex(&self, host: &str, policies: &str) {
        self.only(host, "etc/ssh/sshd_config.d/rex.conf", &shipped("config/sshd_config.d/rex.conf"));
        self.only(host, "etc/rex/keys/agent", &format!("{}\n", self.agent.public));
        self.only(host, "etc/rex/principals.toml", &super::mapped_key(&self.agent, "alice"));
        self.only(host, "etc/rex/policies/fleet.cedar", policies);
    }
    /// A file on every host.
    pub fn all(&self, path: &str, text: &str) {
        put(&self.folder.join("all").join(path), text);
    }
    /// A file on one host.
    pub fn only(&self, host: &str, path: &str, text: &str) {
        put(&self.folder.join("only").join(host).join(path), text);
    }
    /// Starts all hosts; they are ready when this returns.
    #[track_caller]
    pub fn up(self) -> Fleet {
        let names: Vec<String> = self.names().into_iter().map(str::to_owned).collect();
        fs::write(self.folder.join("hosts"), names.iter().map(|name| format!("{name}\n")).collect::<String>()).unwrap();
        fs::write(self.folder.join("wires"), self.wires.iter().map(|wire| format!("{wire}\n")).collect::<String>()).unwrap();
        let log = fs::File::create(self.folder.join("log")).unwrap();
        let mut command = Command::new("sh");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/fleet.sh")).arg("up").arg(&self.folder);
        let outer = command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut fleet = Fleet { outer, pids: BTreeMap::new(), folder: self.folder.clone(), site: self };
        for name in names {
            fleet.wait_for(&name);
        }
        fleet
    }
}

fn put(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
    if text.starts_with("#!") {
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Hosts that are up. All of them are gone when this is, or the test, however it ends.
pub struct Fleet {
    outer: Child,
    pids: BTreeMap<String, u32>,
    folder: PathBuf,
    pub site: Site,
}

impl Fleet {
    fn wait_for(&mut self, name: &str) {
        let said = |fleet: &Self| fs::read_to_string(fleet.folder.join("log")).unwrap_or_default();
        let mut pid = None;
        until(60.0, || {
            pid = fs::read_to_string(self.folder.join("pid").join(name)).ok().and_then(|text| text.trim().parse().ok());
            pid.is_some() || self.outer.try_wait().unwrap().is_some()
        });
        let Some(pid) = pid else { panic!("host {name} does not start: {}", said(self)) };
        self.pids.insert(name.to_owned(), pid);
        let listens = |log: String| log.is_empty() && name == "control" || log.contains("Server listening");
        let ready = until(60.0, || self.file(name, "/run/up").exists() && listens(self.read(name, "/var/log/sshd.log")));
        assert!(
            ready,
            "host {name} does not come up: {}{}{}",
            said(self),
            self.read(name, "/run/rc.log"),
            self.read(name, "/var/log/sshd.log")
        );
    }
    /// The first process of a host, as the machine numbers it.
    pub fn pid(&self, host: &str) -> u32 {
        self.pids[host]
    }
    /// What becomes of all hosts when whoever holds them is killed outright.
    pub fn kill(&mut self) {
        self.outer.kill().unwrap();
    }
    /// Where a file of a host is for the test.
    pub fn file(&self, host: &str, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pids[host]))
    }
    /// A file of a host; nothing where it is missing.
    pub fn read(&self, host: &str, path: &str) -> String {
        fs::read_to_string(self.file(host, path)).unwrap_or_default()
    }
    #[track_caller]
    pub fn write(&self, host: &str, path: &str, text: &str) {
        put(&self.file(host, path), text);
    }
    /// Records of rex on a host, oldest first.
    #[track_caller]
    pub fn records(&self, host: &str) -> Vec<serde_json::Value> {
        self.read(host, "/var/log/rex/rex.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
    /// A command of root on a host.
    pub fn command(&self, host: &str, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pids[host].to_string(), "-m", "-n", "-u", "-i", "-p", "-r", "-w", "--"]).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root").env("LANG", "C.UTF-8");
        command
    }
    /// The same, to its end.
    #[track_caller]
    pub fn on(&self, host: &str, words: &[&str], stdin: &str) -> Run {
        process::run(self.command(host, words), stdin.as_bytes(), 100)
    }
    /// A line of shell on a host, to its end.
    #[track_caller]
    pub fn sh(&self, host: &str, line: &str) -> Run {
        self.on(host, &["sh", "-c", line], "")
    }
    /// The same from `control` as a person types it.
    #[track_caller]
    pub fn control(&self, line: &str) -> Run {
        self.sh("control", &format!("cd && {line}"))
    }
    /// The host loses its power; its address stays, and nothing answers there.
    pub fn stop(&self, host: &str) {
        let pid = rustix::process::Pid::from_raw(self.pids[host] as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        assert!(until(10.0, || !super::alive(self.pids[host])));
    }
    pub fn begin(&self, host: &str, words: &[&str]) -> Running {
        Running::start(self.command(host, words))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // The end of its input ends the first process, and that all others.
        self.outer.stdin = None;
        if !until(20.0, || self.outer.try_wait().is_ok_and(|status| status.is_some())) {
            let _ = self.outer.kill();
            let _ = self.outer.wait();
        }
    }
}
