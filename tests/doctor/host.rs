//! A host of its own for `rex doctor`: /etc, /home, /run and /var of a namespace, hardened as the documents say, to be spoiled by a test.

use super::common::{Key, Rex, Run, until};
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Makes the namespace; arguments: the host's folder, rex.
const BOOT: &str = r#"
set -eu
root=$1 rex=$2
read -r pid _ </proc/self/stat
mount -t proc none /proc
mkdir -p "$root/ns"
mount -t tmpfs -o mode=755 none "$root/ns"
mkdir "$root/ns/etc"
# Accounts of other tests come and go, and with them the files beside /etc/passwd.
cp -a /etc/. "$root/ns/etc/" 2>/dev/null || cp -a /etc/. "$root/ns/etc/" 2>/dev/null || cp -a /etc/. "$root/ns/etc/"
mount --bind "$root/ns/etc" /etc
for empty in /run /home /var/cache /var/log /var/spool; do
    mount -t tmpfs -o mode=755 none $empty
done
for mine in /etc /run /home /var/log; do
    [ "$(stat -f -c %T $mine)" = tmpfs ] && mountpoint -q $mine || { echo "$mine is not a mount of the test" >&2; exit 1; }
done
mkdir -p /run/sshd /run/lock /run/rex /var/log/rex /etc/rex
mount --bind "$root/etc" /etc/rex
sed -i '/^rext[0-9]*x/d' /etc/passwd /etc/shadow /etc/group /etc/gshadow
sed -i '/^rexusers:/d' /etc/group
echo 'rexusers:x:64990:agent' >>/etc/group
echo 'agent:x:64991:' >>/etc/group
echo 'agent:x:64991:64991::/home/agent:/bin/sh' >>/etc/passwd
echo 'agent:*:20000:0:99999:7:::' >>/etc/shadow
mkdir -m 755 /home/agent
chgrp rexusers /run/rex /var/log/rex
mkdir /run/rex/denials /run/rex/runs
chgrp rexusers /run/rex/denials /run/rex/runs
chmod 3770 /run/rex/denials; chmod 1770 /run/rex/runs; chmod 755 /run/rex; chmod 2770 /var/log/rex
printf 'passwd: files\ngroup: files\nshadow: files\n' >/etc/nsswitch.conf
: >/etc/environment
rm -f /etc/default/locale /etc/ssh/sshrc /etc/ssh/sshd_config.d/*
mkdir -p /etc/ssh/sshd_config.d
printf 'Include /etc/ssh/sshd_config.d/*.conf\nHostKey %s/ssh/host\nUsePAM yes\nKbdInteractiveAuthentication no\nX11Forwarding yes\nAcceptEnv LANG LC_*\nSubsystem sftp /usr/lib/openssh/sftp-server\n' "$root" >/etc/ssh/sshd_config
sed -i 's/user_readenv=1/user_readenv=0/' /etc/pam.d/sshd
echo "$pid" >"$root/pid.new"
mv "$root/pid.new" "$root/pid"
exec sleep 100000
"#;

/// The host. Its processes and mounts end with it.
pub struct Host {
    outer: Child,
    pid: u32,
    stop: Arc<AtomicBool>,
    log: Option<JoinHandle<()>>,
    pub key: Key,
    pub rex: Rex,
}

impl Host {
    /// As the documents say: config/sshd_config.d/rex.conf, an account with a home of root, keys of root, a log that takes records.
    #[track_caller]
    pub fn hardened() -> Self {
        let rex = Rex::new().policy("@id(\"see\")\npermit(principal == User::\"agent\", action == file_system::Action::\"read\", resource == file_system::File::\"/etc/hostname\");\n");
        let root = rex.root().to_owned();
        let socket = root.join("log.sock");
        let taken = UnixDatagram::bind(&socket).unwrap();
        fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        taken.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let file = root.join("syslog");
        let log = std::thread::spawn(move || {
            let mut buffer = [0_u8; 65536];
            let mut out = fs::File::create(file).unwrap();
            while !ended.load(Ordering::Relaxed) {
                if let Ok(count) = taken.recv(&mut buffer) {
                    let _ = out.write_all(&buffer[..count]).and_then(|()| out.write_all(b"\n"));
                }
            }
        });
        let toml = "[audit]\nsyslog = true\nsyslog_socket = \"{root}/log.sock\"\njournald = false\nfile = \"/var/log/rex/rex.jsonl\"\n";
        let toml = rex.fill(toml);
        let rex = rex.whole_config(&toml);
        let rex = rex.principals("default = \"refuse\"\n[[principal]]\nname = \"agent\"\nunix_users = [\"agent\"]\n");
        let key = Key::new(&rex, "key");
        Key::new(&rex, "host");
        fs::create_dir(root.join("etc/keys")).unwrap();
        fs::write(root.join("etc/keys/agent"), format!("{}\n", key.public)).unwrap();
        let program = rex.program().to_str().unwrap().to_owned();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-c", BOOT, "-"])
            .arg(&root)
            .arg(&program);
        let said = fs::File::create(root.join("boot")).unwrap();
        let mut outer = command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said).spawn().unwrap();
        let mut pid = None;
        until(30.0, || {
            pid = fs::read_to_string(root.join("pid")).ok().and_then(|text| text.trim().parse().ok());
            pid.is_some() || outer.try_wait().unwrap().is_some()
        });
        let pid = pid.unwrap_or_else(|| panic!("no namespace: {}", fs::read_to_string(root.join("boot")).unwrap_or_default()));
        let host = Self { outer, pid, stop, log: Some(log), key, rex };
        let drop_in = include_str!("../../config/sshd_config.d/rex.conf").replace("/usr/bin/rex ", &format!("{program} "));
        fs::write(root.join("drop-in"), drop_in).unwrap();
        host.sh("cp \"$ROOT/drop-in\" \"$D\"; chown root:root \"$D\"; chmod 644 \"$D\"");
        host
    }
    /// A command inside.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-p", "--"]).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        command
            .env("ROOT", self.rex.root())
            .env("REX", self.rex.program())
            .env("D", "/etc/ssh/sshd_config.d/rex.conf")
            .env("KEY", &self.key.public);
        command
    }
    /// A script inside, which must succeed. `$D`: the drop-in, `$REX`, `$ROOT`, `$KEY`: the public key.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Run {
        let run = super::common::run(self.command(&["sh", "-euc", script]), b"", 60);
        assert_eq!(run.code, 0, "{script}: {run:#?}");
        run
    }
    /// `rex doctor --json` inside.
    #[track_caller]
    pub fn doctor(&self, arguments: &[&str]) -> Run {
        self.doctor_with(arguments, |_| {})
    }
    #[track_caller]
    pub fn doctor_with(&self, arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Run {
        let program = self.rex.program().to_str().unwrap().to_owned();
        let mut command = self.command(&[&[program.as_str(), "doctor", "--json"], arguments].concat());
        prepare(&mut command);
        super::common::run(command, b"", 60)
    }
    /// What the log of the host took so far.
    pub fn syslog(&self) -> String {
        fs::read_to_string(self.rex.root().join("syslog")).unwrap_or_default()
    }
    /// Starts sshd inside, on a spare port.
    #[track_caller]
    pub fn sshd(&self) -> u16 {
        for _ in 0..20 {
            let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            let start = format!("/usr/sbin/sshd -o ListenAddress=127.0.0.1 -p {port} -E \"$ROOT/sshd.log\"");
            if super::common::run(self.command(&["sh", "-c", &start]), b"", 20).code == 0
                && until(10.0, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
            {
                return port;
            }
        }
        panic!("no sshd: {}", fs::read_to_string(self.rex.root().join("sshd.log")).unwrap_or_default());
    }
    pub fn end_sshd(&self) {
        self.sh("for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline 2>/dev/null || true) in 'sshd: '*listener*) kill ${p#/proc/};; esac; done");
    }
    /// `ssh NAME@host`, prepared. Options, with what follows them where that has `:/`, come first in `words`.
    pub fn ssh(&self, port: u16, key: &Key, name: &str, words: &[&str]) -> Command {
        let mut command = client("ssh", key);
        let options = words.iter().take_while(|word| word.starts_with('-') || word.contains(":/")).count();
        command.args(["-p", &port.to_string()]).args(&words[..options]).arg(format!("{name}@127.0.0.1")).args(&words[options..]);
        command
    }
    /// `sftp NAME@host` that takes its commands from standard input.
    pub fn sftp(&self, port: u16, key: &Key, name: &str) -> Command {
        let mut command = client("sftp", key);
        command.args(["-b", "-", "-P", &port.to_string()]).arg(format!("{name}@127.0.0.1"));
        command
    }
}

fn client(program: &str, key: &Key) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent").current_dir("/").args(["-F", "none", "-i"]).arg(&key.file);
    for option in [
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "BatchMode=yes",
        "ConnectTimeout=20",
        "LogLevel=ERROR",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "GlobalKnownHostsFile=/dev/null",
    ] {
        command.args(["-o", option]);
    }
    command
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid as i32) {
            // The death of the first process ends every other of its namespace, and the last of those its mounts.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = self.outer.wait();
        if let Some(log) = self.log.take() {
            let _ = log.join();
        }
    }
}
