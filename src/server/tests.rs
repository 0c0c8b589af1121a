//! The server against a real OpenSSH client, with a stand-in for the session program that tells what it was given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod limits;
mod login;
mod requests;

use super::*;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;

/// Nothing in these tests takes so long, even on a busy machine; whatever does is killed and fails its test.
const PATIENCE: Duration = Duration::from_secs(30);

/// What runs instead of `rex session`. It is no shell: it knows these words only.
const STAND_IN: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
if [ -z "${SSH_ORIGINAL_COMMAND+set}" ]; then
    case "$*" in
        *--subsystem*) echo "subsystem: $*"; echo lost >&2; cat; exit 0 ;;
        *) echo "bare: $*"; cat; exit 0 ;;
    esac
fi
case "$SSH_ORIGINAL_COMMAND" in
    report) echo "argv: $*"; env; echo "cwd: $(readlink /proc/self/cwd)"; echo "fds:" $(ls /proc/self/fd); test -t 0 && echo terminal; cat <&3 >identity ;;
    write3) (echo x >/proc/self/fd/3) 2>/dev/null && echo written || echo sealed ;;
    cat) exec cat ;;
    slowcat) sleep 1; exec cat ;;
    streams) echo out; echo err >&2 ;;
    "exit "*) exit "${SSH_ORIGINAL_COMMAND#exit }" ;;
    kill) kill -TERM $$ ;;
    sleep) echo $$ >pid; exec sleep 60 ;;
    nap) echo $$ >pid; sleep 1; echo rested ;;
    stubborn) trap '' TERM; echo $$ >pid; while :; do sleep 1; done ;;
    leave) sleep 60 & echo $! >pid; exit 5 ;;
    whole) trap '' PIPE; echo $$ >pid; cat >script; if echo ran; then echo whole >verdict; else echo aborted >verdict; fi ;;
    *) printf 'request: %s\n' "$SSH_ORIGINAL_COMMAND" ;;
esac
"#;

/// A running server in a folder of its own.
struct Host {
    dir: tempfile::TempDir,
    address: SocketAddr,
    server: Arc<Server>,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

struct Output {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Output {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

fn settings(dir: &Path) -> ServeSettings {
    let program = dir.join("session.sh");
    fs::write(&program, STAND_IN).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    ServeSettings {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        host_key: dir.join("host/key"),
        authorized_keys: dir.join("authorized_keys"),
        config: dir.join("rex.toml"),
        limits: Limits { login_grace: Duration::from_secs(20), ..Limits::default() },
        session_program: Some(program),
    }
}

impl Host {
    fn start() -> Self {
        Self::with(|_| {})
    }

    /// One listed key, `key`; `change` sees the settings before the start.
    fn with(change: impl FnOnce(&mut ServeSettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        make_key(dir.path(), "key", &[]);
        fs::copy(dir.path().join("key.pub"), &settings.authorized_keys).unwrap();
        change(&mut settings);
        let (stop, stops) = mpsc::channel(4);
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let ready = Ready::prepare(settings).unwrap();
                tell.send((ready.addresses()[0], ready.server())).unwrap();
                ready.run(stops).await;
            });
        });
        let (address, server) = told.recv_timeout(PATIENCE).unwrap();
        let host = Self { dir, address, server, stop, thread: Some(thread) };
        let key = host_key::load_or_create(&host.path("host/key")).unwrap();
        let public = key.public_key().to_openssh().unwrap();
        fs::write(host.path("known_hosts"), format!("[127.0.0.1]:{} {public}\n", address.port())).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ssh_with(&self, key: &str, options: &[&str], request: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/ssh");
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.dir.path());
        command.args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "ConnectTimeout=10",
        ]);
        command.arg("-o").arg(format!("UserKnownHostsFile={}", self.path("known_hosts").display()));
        command.arg("-i").arg(self.path(key)).args(["-p", &self.address.port().to_string()]).args(options);
        command.arg("operator@127.0.0.1").args(request);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn ssh(&self, options: &[&str], request: &[&str]) -> Output {
        run(self.ssh_with("key", options, request), b"")
    }

    fn fed(&self, options: &[&str], request: &[&str], input: &[u8]) -> Output {
        run(self.ssh_with("key", options, request), input)
    }

    fn as_key(&self, key: &str) -> Output {
        run(self.ssh_with(key, &[], &["exit 0"]), b"")
    }

    /// Waits for the stand-in to say which process it is.
    fn pid(&self) -> i32 {
        let mut pid = None;
        wait_for("the session to start", || {
            pid = fs::read_to_string(self.path("pid")).ok().and_then(|text| text.trim().parse().ok());
            pid.is_some()
        });
        fs::remove_file(self.path("pid")).unwrap();
        pid.unwrap()
    }

    fn identity(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path("identity")).unwrap()).unwrap()
    }

    fn log(&self) -> String {
        self.server.log.lines().join("\n")
    }

    fn nobody_is_left(&self) {
        wait_for("every session and connection to end", || {
            self.server.census.is_empty() && self.server.running.load(std::sync::atomic::Ordering::SeqCst) == 0
        });
    }

    /// As SIGTERM does.
    fn tell_to_stop(&self) {
        self.stop.try_send(()).unwrap();
    }

    fn has_stopped(&self) -> bool {
        self.thread.as_ref().unwrap().is_finished()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.stop.try_send(());
        let _ = self.stop.try_send(());
        let thread = self.thread.take().unwrap();
        let since = Instant::now();
        while !thread.is_finished() && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        if !std::thread::panicking() {
            assert!(thread.is_finished(), "the server does not stop");
            thread.join().unwrap();
        }
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_alive(pid: i32) -> bool {
    // A zombie has ended; whoever is its parent has not looked yet.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Runs to the end; what takes longer than [`PATIENCE`] is killed.
fn run(mut command: Command, input: &[u8]) -> Output {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    let stdin = child.stdin.take();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(input);
            }
        });
        let out = scope.spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let err = scope.spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let code = end_of(&mut child);
        Output { code, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
    })
}

fn end_of(child: &mut Child) -> Option<i32> {
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if since.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("ssh does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn keygen(arguments: &[&str]) {
    let done = Command::new("/usr/bin/ssh-keygen").arg("-q").args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn make_key(dir: &Path, name: &str, options: &[&str]) {
    let path = dir.join(name);
    let mut arguments = vec!["-N", "", "-C", "test", "-f", path.to_str().unwrap()];
    arguments.extend(if options.is_empty() { &["-t", "ed25519"] } else { options });
    keygen(&arguments);
}

/// Signs `name`.pub with `authority`; ssh picks `name`-cert.pub up by itself.
fn certify(dir: &Path, name: &str, authority: &str, options: &[&str]) {
    let (authority, public) = (dir.join(authority), dir.join(format!("{name}.pub")));
    let mut arguments = vec!["-s", authority.to_str().unwrap(), "-I", "id \"x\""];
    arguments.extend(options);
    arguments.push(public.to_str().unwrap());
    keygen(&arguments);
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(length)
    .collect()
}
