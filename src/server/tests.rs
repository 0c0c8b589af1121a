//! The server against a real OpenSSH client, with a stand-in for the session program that tells what it was given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

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

#[test]
fn an_exec_request_gives_the_session_what_a_forced_command_gets_and_nothing_else() {
    // Not closed at exec: what this process was started with could look like this.
    let stray = rustix::io::dup(std::io::stdin()).unwrap();
    let host = Host::start();
    let out = host.ssh(&[], &["report"]);
    drop(stray);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    let text = out.text();
    let config = host.path("rex.toml");
    assert!(text.contains(&format!("argv: session --config {} --identity-fd 3\n", config.display())), "{text}");
    let mut variables: Vec<&str> = text.lines().filter(|line| line.contains('=')).map(|line| line.split('=').next().unwrap()).collect();
    variables.sort_unstable();
    // PWD and OLDPWD are the shell's own, after its cd.
    assert_eq!(variables, ["OLDPWD", "PATH", "PWD", "SSH_ORIGINAL_COMMAND"], "{text}");
    assert!(text.contains("PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"), "{text}");
    assert!(text.contains("OLDPWD=/\n"), "the session starts in /: {text}");
    // 4 is ls reading the folder.
    assert!(text.contains("fds: 0 1 2 3 4\n"), "{text}");
    assert!(!text.contains("terminal"));
    let identity = host.identity();
    assert_eq!(identity["version"], 1);
    assert_eq!(identity["user"], "operator");
    assert_eq!(identity["method"], "publickey");
    assert_eq!(identity["key"]["type"], "ssh-ed25519");
    let public = fs::read_to_string(host.path("key.pub")).unwrap();
    assert_eq!(identity["key"]["blob"], public.split(' ').nth(1).unwrap());
    assert!(identity["key"]["fingerprint"].as_str().unwrap().starts_with("SHA256:"));
    assert_eq!(identity["certificate"], serde_json::Value::Null);
    assert_eq!(identity["client_address"], "127.0.0.1");
    assert!(identity["client_port"].as_u64().unwrap() > 0);
    assert_eq!(identity["env"], serde_json::json!({}));
    assert_eq!(identity["server_fingerprint"], host.server.host_fingerprint.as_str());
    crate::identity::handover::Handover::from_json(&fs::read(host.path("identity")).unwrap()).unwrap();
    host.nobody_is_left();
}

#[test]
fn the_request_arrives_byte_for_byte_and_no_shell_sees_it() {
    let host = Host::start();
    let odd = "rex  run '$(id)' \"a b\"; id > x\n`id` \\ ü \u{1b}[31m";
    assert_eq!(host.ssh(&[], &[odd]).text(), format!("request: {odd}\n"));
    let long = "x".repeat(session::MAX_REQUEST);
    assert_eq!(host.ssh(&[], &[&long[..100_000]]).text().len(), 100_000 + 10);
    // One argument of ssh itself cannot be longer, so the rest of the way is tested in pieces.
    assert!(host.ssh(&[], &[&long[..70_000], &long[..70_000]]).code != Some(0));
    assert!(host.log().contains("over 128 KiB"), "{}", host.log());
}

#[test]
fn the_identity_cannot_be_changed_by_the_session() {
    assert_eq!(Host::start().ssh(&[], &["write3"]).text(), "sealed\n");
}

#[test]
fn the_subsystem_rex_is_served_without_its_standard_error_and_every_other_is_refused() {
    let host = Host::start();
    let out = host.fed(&["-s"], &["rex"], b"script");
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    assert!(out.text().contains("--identity-fd 3 --subsystem rex\nscript"), "{}", out.text());
    assert!(!out.stderr.contains("lost"), "{}", out.stderr);
    for name in ["sftp", "rex-mcp", "rex ", "Rex", "netconf"] {
        let out = host.fed(&["-s"], &[name], b"script");
        assert!(out.code != Some(0) && out.stdout.is_empty(), "{name}: {}", out.text());
    }
}

#[test]
fn a_bare_request_takes_its_script_from_standard_input() {
    let host = Host::start();
    let out = host.fed(&["-T"], &[], b"print(1)");
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    assert!(out.text().starts_with("bare: session --config") && out.text().ends_with("--identity-fd 3\nprint(1)"), "{}", out.text());
}

#[test]
fn no_terminal_is_ever_given() {
    let host = Host::start();
    let at_terminal = |options: &[&str], request: &[&str]| {
        let ours = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
        rustix::pty::grantpt(&ours).unwrap();
        rustix::pty::unlockpt(&ours).unwrap();
        let name = rustix::pty::ptsname(&ours, Vec::new()).unwrap();
        let theirs = fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let mut command = host.ssh_with("key", options, request);
        command.stdin(Stdio::from(theirs));
        let out = run(command, b"");
        drop(ours);
        out
    };
    // A client that was told to insist gives up by itself.
    for option in ["-t", "-tt"] {
        let out = at_terminal(&[option], &["report"]);
        assert_eq!(out.code, Some(255));
        assert!(out.stderr.contains("PTY allocation request failed"), "{}", out.stderr);
    }
    // A login at a terminal would wait in silence for a script.
    let out = at_terminal(&[], &[]);
    assert_eq!(out.code, Some(2), "{}", out.stderr);
    assert!(out.stderr.contains("there is no terminal here") && out.stdout.is_empty(), "{}", out.stderr);
}

#[test]
fn nothing_is_forwarded() {
    let host = Host::start();
    let target = format!("127.0.0.1:{}", host.address.port());
    let out = host.ssh(&["-W", &target], &[]);
    assert!(out.code != Some(0) && out.stdout.is_empty() && out.stderr.contains("administratively prohibited"), "{}", out.stderr);
    let fatal = ["-o", "ExitOnForwardFailure=yes"];
    for remote in ["127.0.0.1:0:127.0.0.1:9", &format!("{}:127.0.0.1:9", host.path("remote.sock").display())] {
        let out = host.ssh(&[fatal[0], fatal[1], "-R", remote], &["exit 0"]);
        assert_eq!(out.code, Some(255), "{remote}: {}", out.stderr);
        assert!(out.stderr.contains("forwarding failed"), "{remote}: {}", out.stderr);
    }
    assert!(!host.path("remote.sock").exists());
    // A local forwarding opens its port here; what matters is that nothing comes of a connection to it.
    let local = host.path("local.sock");
    let mut client =
        host.ssh_with("key", &["-L", &format!("{}:{}", local.display(), host.path("target.sock").display())], &["sleep"]).spawn().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(host.path("target.sock")).unwrap();
    listener.set_nonblocking(true).unwrap();
    host.pid();
    let mut through = std::os::unix::net::UnixStream::connect(&local).unwrap();
    through.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(through.read(&mut [0]).unwrap(), 0, "the client closes what the server refused");
    assert!(listener.accept().is_err());
    client.kill().unwrap();
    client.wait().unwrap();
    host.nobody_is_left();
}

#[test]
fn no_agent_is_forwarded() {
    let host = Host::start();
    let socket = host.path("agent.sock");
    let mut agent = Command::new("/usr/bin/ssh-agent").args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    wait_for("the agent", || socket.exists());
    let mut command = host.ssh_with("key", &["-A", "-v"], &["report"]);
    command.env("SSH_AUTH_SOCK", &socket);
    let out = run(command, b"");
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    assert!(out.stderr.contains("Requesting authentication agent forwarding"), "{}", out.stderr);
    assert!(!out.text().contains("SSH_AUTH_SOCK"), "{}", out.text());
}

#[test]
fn only_the_listed_variables_are_passed_and_only_as_data() {
    let host = Host::start();
    let long = format!("LC_BASTION={}", "x".repeat(5000));
    let out = host.ssh(
        &["-o", &format!("SetEnv=LC_REX_AGENT=bot LC_REX_TASK=\"a \\\"b\\\"\" LC_ALL=C LANG=C LD_PRELOAD=/x SSH_ORIGINAL_COMMAND=y BASH_ENV=/x LC_REX_AGENT2=x {long}")],
        &["report"],
    );
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    for name in ["LC_", "LANG", "LD_PRELOAD", "BASH_ENV", "bot"] {
        assert!(!out.text().contains(name), "{name}: {}", out.text());
    }
    assert!(out.text().contains("SSH_ORIGINAL_COMMAND=report\n"));
    let env = host.identity()["env"].as_object().unwrap().clone();
    assert_eq!(env.keys().collect::<Vec<_>>(), ["LC_REX_AGENT", "LC_REX_TASK"], "{env:?}");
    assert_eq!(env["LC_REX_AGENT"], "bot");
}

#[test]
fn a_key_that_is_not_listed_is_refused_and_the_log_says_so() {
    let host = Host::start();
    make_key(host.dir.path(), "stranger", &[]);
    assert_eq!(host.as_key("key").code, Some(0));
    let out = host.as_key("stranger");
    assert_eq!(out.code, Some(255));
    assert!(out.stderr.contains("Permission denied (publickey)"), "{}", out.stderr);
    host.nobody_is_left();
    let refused: Vec<String> = host.server.log.lines().into_iter().filter(|line| line.starts_with("refused 127.0.0.1:")).collect();
    assert!(
        refused.len() == 1 && refused[0].contains("login `operator`: the key SHA256:") && refused[0].ends_with("is not listed"),
        "{refused:?}"
    );
}

#[test]
fn a_key_removed_from_the_file_cannot_start_another_session_on_a_connection_it_has() {
    let host = Host::start();
    let socket = host.path("mux");
    let mut master = host.ssh_with("key", &["-M", "-S", socket.to_str().unwrap()], &["sleep"]).spawn().unwrap();
    host.pid();
    wait_for("the master's socket", || socket.exists());
    let through = ["-S", socket.to_str().unwrap()];
    assert_eq!(host.ssh(&through, &["exit 7"]).code, Some(7));
    fs::write(host.path("authorized_keys"), "").unwrap();
    assert!(host.ssh(&through, &["exit 7"]).code != Some(7));
    assert!(host.log().contains("the key is not listed"), "{}", host.log());
    master.kill().unwrap();
    master.wait().unwrap();
    host.nobody_is_left();
}

#[test]
fn certificates_are_accepted_or_refused_by_authority_time_and_principals() {
    let host = Host::start();
    let dir = host.dir.path();
    make_key(dir, "ca", &[]);
    make_key(dir, "other-ca", &[]);
    let authority = fs::read_to_string(host.path("ca.pub")).unwrap();
    fs::write(host.path("authorized_keys"), format!("cert-authority {authority}")).unwrap();
    let cases: &[(&str, &str, &[&str], bool)] = &[
        ("good", "ca", &["-n", "alice,ops", "-V", "-1m:+5m"], true),
        ("expired", "ca", &["-n", "alice", "-V", "-2h:-1h"], false),
        ("early", "ca", &["-n", "alice", "-V", "+1h:+2h"], false),
        ("foreign", "other-ca", &["-n", "alice"], false),
        ("nobody", "ca", &[], false),
        ("hosts", "ca", &["-h", "-n", "alice"], false),
        ("forced", "ca", &["-n", "alice", "-O", "force-command=/bin/sh"], false),
        ("session", "ca", &["-n", "alice", "-O", "force-command=exec /usr/bin/rex session"], true),
        ("far", "ca", &["-n", "alice", "-O", "source-address=192.0.2.0/24"], false),
        ("near", "ca", &["-n", "alice", "-O", "source-address=127.0.0.0/8"], true),
        ("unknown", "ca", &["-n", "alice", "-O", "critical:x@example=1"], false),
    ];
    for (name, authority, options, accepted) in cases {
        make_key(dir, name, &[]);
        certify(dir, name, authority, options);
        let out = host.as_key(name);
        assert_eq!(out.code, Some(if *accepted { 0 } else { 255 }), "{name}: {} {}", out.stderr, host.log());
    }
    // The bare key of a certified one is nobody's.
    fs::remove_file(host.path("good-cert.pub")).unwrap();
    assert_eq!(host.as_key("good").code, Some(255));
    certify(dir, "good", "ca", &["-n", "alice"]);
    let report = run(host.ssh_with("good", &[], &["report"]), b"");
    assert_eq!(report.code, Some(0), "{}", report.stderr);
    let identity = host.identity();
    let file = fs::read_to_string(host.path("good-cert.pub")).unwrap();
    assert_eq!(identity["certificate"], file.split(' ').nth(1).unwrap());
    assert_eq!(identity["key"]["type"], "ssh-ed25519");
    fs::write(host.path("authorized_keys"), format!("cert-authority,principals=\"bob\" {authority}")).unwrap();
    assert_eq!(host.as_key("good").code, Some(255));
    fs::write(host.path("authorized_keys"), format!("cert-authority,principals=\"bob,alice\" {authority}")).unwrap();
    assert_eq!(host.as_key("good").code, Some(0));
}

#[test]
fn rsa_and_ecdsa_keys_work_with_modern_signatures_only() {
    let host = Host::start();
    make_key(host.dir.path(), "rsa", &["-t", "rsa", "-b", "2048"]);
    make_key(host.dir.path(), "ec", &["-t", "ecdsa", "-b", "256"]);
    let both = ["rsa.pub", "ec.pub"].map(|name| fs::read_to_string(host.path(name)).unwrap()).concat();
    fs::write(host.path("authorized_keys"), both).unwrap();
    assert_eq!(host.as_key("ec").code, Some(0));
    let rsa = |algorithm: &str| run(host.ssh_with("rsa", &["-o", &format!("PubkeyAcceptedAlgorithms={algorithm}")], &["exit 0"]), b"").code;
    assert_eq!(rsa("rsa-sha2-512"), Some(0));
    assert_eq!(rsa("rsa-sha2-256"), Some(0));
    assert_eq!(rsa("ssh-rsa"), Some(255));
    make_key(host.dir.path(), "short", &["-t", "rsa", "-b", "1024"]);
    fs::copy(host.path("short.pub"), host.path("authorized_keys")).unwrap();
    assert_eq!(host.as_key("short").code, Some(255));
    host.nobody_is_left();
    assert!(host.log().contains("too short"), "{}", host.log());
}

#[test]
fn old_algorithms_are_not_offered() {
    let host = Host::start();
    for good in [
        "Ciphers=chacha20-poly1305@openssh.com",
        "Ciphers=aes256-gcm@openssh.com",
        "Ciphers=aes128-gcm@openssh.com",
        "KexAlgorithms=curve25519-sha256",
    ] {
        let out = host.ssh(&["-o", good], &["exit 0"]);
        assert_eq!(out.code, Some(0), "{good}: {}", out.stderr);
    }
    let old =
        ["Ciphers=aes256-ctr", "Ciphers=aes128-cbc", "KexAlgorithms=diffie-hellman-group14-sha256", "KexAlgorithms=ecdh-sha2-nistp256"];
    for bad in old {
        let out = host.ssh(&["-o", bad], &["exit 0"]);
        assert_eq!(out.code, Some(255), "{bad}");
        assert!(out.stderr.contains("no matching"), "{bad}: {}", out.stderr);
    }
}

#[test]
fn the_session_dies_with_its_client() {
    let host = Host::start();
    let mut client = host.ssh_with("key", &[], &["sleep"]).spawn().unwrap();
    let pid = host.pid();
    assert!(is_alive(pid));
    let since = Instant::now();
    client.kill().unwrap();
    client.wait().unwrap();
    wait_for("the session to die", || !is_alive(pid));
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    host.nobody_is_left();

    let mut client = host.ssh_with("key", &[], &["stubborn"]).spawn().unwrap();
    let pid = host.pid();
    client.kill().unwrap();
    client.wait().unwrap();
    wait_for("the stubborn session to be killed", || !is_alive(pid));
    host.nobody_is_left();
}

#[test]
fn what_a_session_leaves_behind_is_killed_and_not_waited_for() {
    let host = Host::start();
    let since = Instant::now();
    let out = host.ssh(&[], &["leave"]);
    assert_eq!(out.code, Some(5), "{}", out.stderr);
    assert!(since.elapsed() < Duration::from_secs(10));
    let pid = host.pid();
    wait_for("the descendant to die", || !is_alive(pid));
}

#[test]
fn a_script_cut_off_by_its_clients_death_is_seen_as_cut_off() {
    let host = Host::start();
    let mut command = host.ssh_with("key", &[], &["whole"]);
    command.stdin(Stdio::piped());
    let mut client = command.spawn().unwrap();
    host.pid();
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"half of a script").unwrap();
    wait_for("the half to arrive", || fs::read(host.path("script")).is_ok_and(|text| !text.is_empty()));
    client.kill().unwrap();
    client.wait().unwrap();
    drop(stdin);
    host.nobody_is_left();
    assert!(!fs::read_to_string(host.path("verdict")).is_ok_and(|verdict| verdict == "whole\n"));

    let out = host.fed(&[], &["whole"], b"a whole script");
    assert_eq!((out.code, out.text().as_str()), (Some(0), "ran\n"), "{}", out.stderr);
    assert_eq!(fs::read_to_string(host.path("verdict")).unwrap(), "whole\n");
}

#[test]
fn exit_codes_and_signals_reach_the_client() {
    let host = Host::start();
    for code in [0, 1, 2, 65, 77, 78, 124, 130, 254] {
        assert_eq!(host.ssh(&[], &[&format!("exit {code}")]).code, Some(code));
    }
    let out = host.ssh(&["-v"], &["kill"]);
    assert_eq!(out.code, Some(255));
    assert!(out.stderr.contains("exit-signal"), "{}", out.stderr);
}

#[test]
fn standard_output_and_error_stay_apart() {
    let out = Host::start().ssh(&[], &["streams"]);
    assert_eq!((out.text().as_str(), out.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_mebibyte_goes_both_ways_unharmed_and_more_is_held_back_until_it_is_taken() {
    let host = Host::start();
    let small = noise(1 << 20);
    let out = host.fed(&[], &["cat"], &small);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    assert!(out.stdout == small);
    // Ten times what is queued, to a session that takes nothing for a second.
    let large = noise(10 << 20);
    let out = host.fed(&[], &["slowcat"], &large);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    assert!(out.stdout == large);
    host.nobody_is_left();
}

#[test]
fn a_client_that_goes_while_it_is_held_back_is_noticed() {
    let host = Host::start();
    let mut command = host.ssh_with("key", &[], &["sleep"]);
    command.stdin(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let pid = host.pid();
    let mut stdin = client.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || while stdin.write_all(&[0; 65536]).is_ok() {});
    std::thread::sleep(Duration::from_millis(700));
    client.kill().unwrap();
    client.wait().unwrap();
    feeder.join().unwrap();
    wait_for("the session to die", || !is_alive(pid));
    host.nobody_is_left();
}

#[test]
fn connections_beyond_the_limits_are_refused_and_places_are_given_back() {
    for limits in [Limits { max_connections: 2, ..Limits::default() }, Limits { max_per_address: 2, ..Limits::default() }] {
        let host = Host::with(|settings| settings.limits = limits);
        let mut clients: Vec<Child> = (0..2)
            .map(|_| {
                let client = host.ssh_with("key", &[], &["sleep"]).spawn().unwrap();
                host.pid();
                client
            })
            .collect();
        let out = host.as_key("key");
        assert_eq!(out.code, Some(255));
        assert!(host.log().contains("too many connections"), "{}", host.log());
        let mut first = clients.remove(0);
        first.kill().unwrap();
        first.wait().unwrap();
        wait_for("the place to be free", || host.as_key("key").code == Some(0));
        clients[0].kill().unwrap();
        clients[0].wait().unwrap();
        host.nobody_is_left();
    }
}

#[test]
fn clients_that_do_not_log_in_are_few_and_not_for_long() {
    let host = Host::with(|settings| {
        settings.limits = Limits { max_unauthenticated: 3, login_grace: Duration::from_secs(2), ..Limits::default() }
    });
    let mut silent: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(host.address).unwrap()).collect();
    wait_for("the silent ones to be counted", || host.as_key("key").code == Some(255));
    assert!(host.log().contains("have not logged in"), "{}", host.log());
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        assert!(all.starts_with(b"SSH-2.0-rex\r\n"));
    }
    assert_eq!(host.as_key("key").code, Some(0));
    assert!(host.log().contains("no login within 2 s"), "{}", host.log());
    host.nobody_is_left();
}

#[test]
fn failed_attempts_are_counted() {
    let host = Host::with(|settings| settings.limits.auth_attempts = 2);
    let names = ["a", "b", "c"];
    for name in names {
        make_key(host.dir.path(), name, &[]);
    }
    let identities: Vec<String> = names.iter().map(|name| host.path(name).display().to_string()).collect();
    let try_after = |wrong: &[String]| {
        let mut options: Vec<&str> = Vec::new();
        for identity in wrong {
            options.extend(["-i", identity.as_str()]);
        }
        // ssh tries the files in the order given, so the right one comes last.
        let key = host.path("key").display().to_string();
        options.extend(["-i", key.as_str()]);
        run(host.ssh_with("a", &options, &["exit 0"]), b"").code
    };
    assert_eq!(try_after(&[]), Some(0), "one wrong key");
    assert_eq!(try_after(&identities[1..]), Some(255), "three wrong keys");
}

#[test]
fn sessions_of_one_connection_are_limited() {
    let host = Host::with(|settings| settings.limits = Limits { max_sessions: 1, max_connections: 1, ..Limits::default() });
    let socket = host.path("mux");
    let mut master = host.ssh_with("key", &["-M", "-S", socket.to_str().unwrap()], &["sleep"]).spawn().unwrap();
    host.pid();
    wait_for("the master's socket", || socket.exists());
    assert_eq!(host.ssh(&["-S", socket.to_str().unwrap()], &["exit 0"]).code, Some(255));
    assert!(host.log().contains("too many sessions"), "{}", host.log());
    master.kill().unwrap();
    master.wait().unwrap();
    host.nobody_is_left();
}

#[test]
fn a_connection_without_a_session_is_closed_and_one_with_a_quiet_session_is_not() {
    let host = Host::with(|settings| settings.limits.idle_timeout = Duration::from_millis(500));
    let since = Instant::now();
    assert_eq!(host.ssh(&["-N"], &[]).code, Some(255));
    assert!(since.elapsed() < Duration::from_secs(10));
    assert_eq!(host.ssh(&[], &["nap"]).text(), "rested\n");
}

#[test]
fn a_stopping_server_lets_sessions_finish_and_accepts_nothing_new() {
    let host = Host::start();
    let client = host.ssh_with("key", &[], &["nap"]);
    let napping = std::thread::spawn(move || run(client, b""));
    host.pid();
    host.tell_to_stop();
    wait_for("the socket to close", || TcpStream::connect(host.address).is_err());
    let out = napping.join().unwrap();
    assert_eq!((out.code, out.text().as_str()), (Some(0), "rested\n"), "{}", out.stderr);
    wait_for("the server to stop", || host.has_stopped());
}

#[test]
fn a_session_that_does_not_finish_is_ended_after_the_grace_or_at_once_when_asked_twice() {
    for (grace, twice) in [(Duration::from_millis(300), false), (PATIENCE * 10, true)] {
        let host = Host::with(|settings| settings.limits.shutdown_grace = grace);
        let mut client = host.ssh_with("key", &[], &[if twice { "stubborn" } else { "sleep" }]).spawn().unwrap();
        let pid = host.pid();
        host.tell_to_stop();
        if twice {
            host.tell_to_stop();
        }
        wait_for("the server to stop", || host.has_stopped());
        assert!(!is_alive(pid));
        assert_eq!(end_of(&mut client), Some(255));
    }
}

#[test]
fn a_server_does_not_start_on_keys_that_others_can_touch_or_lines_it_does_not_understand() {
    let refused = |change: &dyn Fn(&mut ServeSettings)| {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        make_key(dir.path(), "key", &[]);
        fs::copy(dir.path().join("key.pub"), &settings.authorized_keys).unwrap();
        change(&mut settings);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        let error = Ready::prepare(settings).err().map(|error| (error.kind.exit(), error.to_string()));
        error
    };
    assert_eq!(refused(&|_| {}), None);
    let bad: &[&dyn Fn(&mut ServeSettings)] = &[
        &|settings| {
            fs::create_dir(settings.host_key.parent().unwrap()).unwrap();
            fs::copy(settings.authorized_keys.with_file_name("key"), &settings.host_key).unwrap();
            fs::set_permissions(&settings.host_key, fs::Permissions::from_mode(0o640)).unwrap();
        },
        &|settings| {
            fs::create_dir(settings.host_key.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(settings.authorized_keys.with_file_name("key"), &settings.host_key).unwrap();
        },
        &|settings| fs::set_permissions(&settings.authorized_keys, fs::Permissions::from_mode(0o666)).unwrap(),
        &|settings| fs::remove_file(&settings.authorized_keys).unwrap(),
        &|settings| fs::write(&settings.authorized_keys, "command=\"x\" ssh-ed25519 AAAA").unwrap(),
        &|settings| settings.listen.clear(),
        &|settings| settings.config = "rex.toml".into(),
        &|settings| settings.listen = vec![SocketAddr::from(([192, 0, 2, 1], 1))],
    ];
    for (number, change) in bad.iter().enumerate() {
        let (exit, message) = refused(change).unwrap_or_else(|| panic!("case {number} was accepted"));
        assert_eq!(exit, crate::error::Exit::ConfigInvalid, "case {number}: {message}");
    }
}
