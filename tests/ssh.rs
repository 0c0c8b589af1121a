//! rex behind a real sshd: every way in, what comes back, and what a client may try on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Account, Key, Rex, Run, Sshd, until};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

/// An account on a host, its key, and the daemon. (Fields are dropped in this order.)
struct Host {
    sshd: Sshd,
    key: Key,
    account: Account,
    rex: Rex,
}

/// Everything allowed but `{data}/secret`, so that a test can tell a judged run from one that was not judged.
const ALL_BUT_SECRET: &str = r#"
permit(principal, action, resource);
forbid(principal, action, resource == file_system::File::"{data}/secret");
"#;
/// The owner's line of a forced command for the whole group of the account.
const FORCED: &str = "Match Group {group}\n    ForceCommand exec {rex} session --config {config}";

impl Host {
    fn new(lines: &str) -> Self {
        Self::with(lines, |rex| rex, Sshd::start)
    }
    fn with(lines: &str, prepare: impl FnOnce(Rex) -> Rex, start: impl FnOnce(&Rex, &str) -> Sshd) -> Self {
        let account = Account::new();
        let rex = prepare(
            Rex::new().config("identity = [\"argument\", \"user\"]").policy(ALL_BUT_SECRET).file("secret", "s3cret\n").account(&account),
        );
        let key = Key::new(&rex, "key");
        let sshd = start(&rex, &lines.replace("{group}", &account.name).replace("{user}", &account.name));
        Self { sshd, key, account, rex }
    }
    /// The key may log in, under these options.
    fn authorized(self, options: &str) -> Self {
        let options = self.rex.fill(options).replace("{rex}", self.rex.program().to_str().unwrap());
        let options = options.replace("{config}", self.rex.config_file().to_str().unwrap());
        self.sshd.authorize(&self.account.name, &options, &self.key);
        self
    }
    fn ssh(&self, options: &[&str], request: &[&str], script: &str) -> Run {
        self.sshd.ssh(&self.rex, &self.account.name, &self.key, options, request, script)
    }
    /// Processes of rex on this host.
    fn running(&self) -> Vec<u32> {
        common::children(&format!("{}/rex", self.rex.root().display()))
    }
    fn gone_within(&self, seconds: f64) -> bool {
        until(seconds, || self.running().is_empty())
    }
}

fn forced() -> Host {
    Host::new(FORCED).authorized("")
}

// ---- every way in ---------------------------------------------------------------------------------------------------

/// What every door must do alike: streams, exit codes, the policy, the record.
#[track_caller]
fn behaves(host: &Host, door: &str, principal: &str) {
    let run = host.ssh(&[], &["rex"], "print(\"out\"); warn(\"be careful\"); 40 + 2");
    assert_eq!((run.code, run.stdout.as_str()), (0, "out\n42\n"), "{door}: {run:#?}");
    assert!(run.stderr.contains("be careful"), "{door}: {run:#?}");
    assert!(format!("{:?}", run.audit).contains(principal), "{door}: the caller is not on record: {run:#?}");

    // Without a request, stdin is the script as well.
    let run = host.ssh(&["-T"], &[], "6 * 7");
    assert_eq!((run.code, run.stdout.as_str()), (0, "42\n"), "{door}: {run:#?}");

    for (script, code) in [
        ("throw \"no\"", 1),
        ("exit(7)", 7),
        ("exit(300)", 1),
        ("let = ", 65),
        ("cat(\"{data}/secret\")", 77),
        ("try { cat(\"{data}/secret\") } catch {} 1", 0),
    ] {
        let run = host.ssh(&[], &["rex"], script);
        assert_eq!(run.code, code, "{door}: {script}: {run:#?}");
        assert!(!run.stdout.contains("s3cret") && !run.stderr.contains("s3cret"), "{door}: {run:#?}");
    }
    let run = host.ssh(&[], &["rex", "--timeout", "1"], "loop {}");
    assert_eq!(run.code, 124, "{door}: {run:#?}");
    let run = host.ssh(&[], &["rex", "-o", "json", "who=world", "n=3"], "`hello ${who} ${n + 1}`");
    assert_eq!((run.code, run.value().as_str()), (0, Some("hello world 4")), "{door}: {run:#?}");
    let run = host.ssh(&[], &["rex", "-e", "'1 + 1'"], "");
    assert_eq!((run.code, run.stdout.as_str()), (0, "2\n"), "{door}: {run:#?}");
    let run = host.ssh(&[], &["id"], "");
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{door}: {run:#?}");
}

#[test]
fn a_forced_command_of_the_server_runs_scripts() {
    needs_root!();
    let host = forced();
    behaves(&host, "ForceCommand", &host.account.name);
}

#[test]
fn a_forced_command_of_a_key_runs_scripts_as_the_principal_that_the_line_names() {
    needs_root!();
    let host = Host::new("").authorized("restrict,command=\"exec {rex} session --config {config} --principal alice\"");
    behaves(&host, "command=", "alice");
}

#[test]
fn a_forced_command_of_a_certificate_runs_scripts() {
    needs_root!();
    let host = Host::new("TrustedUserCAKeys {root}/ssh/ca.pub");
    let authority = Key::new(&host.rex, "ca");
    let command = format!("force-command=exec {} session --config {}", host.rex.program().display(), host.rex.config_file().display());
    authority.certify(&host.key, "a person", &host.account.name, &["-V", "+1h", "-O", "clear", "-O", &command]);
    behaves(&host, "certificate", &host.account.name);
    // The other side: the same key without its certificate is nobody.
    fs::remove_file(host.rex.root().join("ssh/key-cert.pub")).unwrap();
    assert_eq!(host.ssh(&[], &["rex"], "1").code, 255);
}

#[test]
fn the_login_shell_runs_scripts_as_the_unix_user_and_honours_no_option() {
    needs_namespaces!();
    let rex = Rex::new().config("identity = [\"user\"]").policy(ALL_BUT_SECRET).file("secret", "s3cret\n");
    let shell = rex.root().join("rexsh");
    std::os::unix::fs::symlink(rex.program(), &shell).unwrap();
    let account = Account::with_shell(&shell);
    let rex = rex.account(&account);
    let key = Key::new(&rex, "key");
    let sshd = Sshd::start_with_etc_rex(&rex, "");
    let host = Host { sshd, key, account, rex }.authorized("");
    behaves(&host, "login shell", &host.account.name);
    // What a client types is no owner's line, however much it looks like one.
    let open = host.rex.root().join("open.toml");
    fs::write(&open, "").unwrap();
    for request in [
        "rex session --principal root".to_owned(),
        format!("rex session --config {}", open.display()),
        format!("exec {} session --principal root", host.rex.program().display()),
    ] {
        let run = host.ssh(&[], &[&request], "1");
        assert_eq!((run.code, run.stdout.as_str()), (78, ""), "{request}: {run:#?}");
    }
    // The other side: the line without options is a request whose script is on stdin.
    let run = host.ssh(&[], &["exec /usr/bin/rex session"], "6 * 7");
    assert!(run.code == 0 && run.stdout.contains("42"), "{run:#?}");
}

#[test]
fn a_subsystem_gives_the_whole_result_as_json_on_stdout() {
    needs_root!();
    let beside = format!("Subsystem rex {{rex}} session --subsystem\n{FORCED}");
    for (door, lines) in [("alone", "Subsystem rex {rex} session --config {config} --subsystem"), ("beside a forced command", &beside)] {
        let host = Host::new(lines).authorized("");
        let run = host.ssh(&["-s"], &["rex"], "print(\"out\"); warn(\"careful\"); 42");
        let result = run.ends(0).json();
        assert_eq!((result["status"].as_str(), result["value"].as_i64()), (Some("SUCCESS"), Some(42)), "{door}: {run:#?}");
        assert_eq!(run.stderr, "", "{door}: sshd throws it away, so nothing may be said there alone");
        assert!(run.stdout.contains("careful"), "{door}: {run:#?}");
        // Errors of every kind arrive the same way, since stderr does not.
        for (script, code, class) in [
            ("throw 1", 1, "SCRIPT_EXCEPTION"),
            ("let = ", 65, "SCRIPT_EXCEPTION"),
            ("cat(\"{data}/secret\")", 77, "ACCESS_DENIED_EXCEPTION"),
            ("", 2, "VALIDATION_EXCEPTION"),
        ] {
            let run = host.ssh(&["-s"], &["rex"], script);
            assert_eq!((run.code, run.error_type().as_str()), (code, class), "{door}: {script}: {run:#?}");
        }
    }
}

#[test]
fn a_client_that_types_the_subsystems_line_gets_no_more_than_the_subsystem() {
    needs_root!();
    let host = forced();
    let line = format!("{} session --subsystem", host.rex.program().display());
    let run = host.ssh(&[], &[&line], "42");
    assert_eq!(run.value(), 42, "{run:#?}");
    // Its options are nothing: not another principal, not another configuration.
    let open = host.rex.root().join("open.toml");
    fs::write(&open, "").unwrap();
    for options in ["--principal root".to_owned(), format!("--config {}", open.display())] {
        let run = host.ssh(&[], &[&format!("{} session {options}", host.rex.program().display())], "cat(\"{data}/secret\")");
        assert_ne!(run.code, 0, "{options}: {run:#?}");
        assert!(!run.stdout.contains("s3cret"), "{options}: {run:#?}");
        assert!(run.audit.iter().all(|record| record["principal"] != "root"), "{options}: {run:#?}");
    }
}

#[test]
fn ten_channels_of_one_connection_are_ten_runs_on_record() {
    needs_root!();
    let host = Host::new(&format!("MaxSessions 20\n{FORCED}")).authorized("");
    let socket = host.rex.root().join("ssh/control");
    let control = format!("ControlPath={}", socket.display());
    let mut master = host.sshd.begin(&host.account.name, &host.key, &["-o", &control, "-M", "-N"], &[]);
    assert!(until(20.0, || socket.exists()), "no master connection");
    let before = host.rex.audit().len();
    let channels: Vec<_> = (0..10)
        .map(|number: i32| {
            let mut ssh =
                host.sshd.begin(&host.account.name, &host.key, &["-o", &control, "-o", "ControlMaster=no"], &["rex", "-o", "json"]);
            ssh.send(format!("sleep(0.2); {number} * {number}").as_bytes());
            ssh.end_input();
            ssh
        })
        .collect();
    for (number, ssh) in channels.into_iter().enumerate() {
        let run = ssh.finish(60);
        assert_eq!((run.code, run.value()), (0, (number * number).into()), "{run:#?}");
    }
    master.kill();
    let records = host.rex.audit().split_off(before);
    assert_eq!(records.iter().filter(|record| record["event"] == "run_start").count(), 10, "{records:#?}");
    assert_eq!(records.iter().filter(|record| record["event"] == "run_end").count(), 10, "{records:#?}");
}

// ---- a script runs only when it is whole -----------------------------------------------------------------------------

#[test]
fn a_script_whose_sender_died_never_ran_wherever_it_was_cut() {
    needs_root!();
    let host = forced();
    let script =
        host.rex.fill("write(\"{data}/mark\", \"ran\");\n") + &"// padding to fill more than one packet and one pipe\n".repeat(4000);
    let first = script.find('\n').unwrap() + 1;
    for sent in [first, first + 1, 4096, 65536, script.len() / 2, script.len()] {
        let mut ssh = host.sshd.begin(&host.account.name, &host.key, &[], &["rex"]);
        ssh.send(&script.as_bytes()[..sent]);
        assert!(until(20.0, || !host.running().is_empty()), "rex was not started");
        std::thread::sleep(std::time::Duration::from_millis(150));
        ssh.kill();
        assert!(host.gone_within(5.0), "rex still waits, {sent} bytes sent");
        assert!(!host.rex.exists("mark"), "ran after {sent} of {} bytes", script.len());
    }
    // The other side: with its end, it runs.
    assert_eq!(host.ssh(&[], &["rex"], &script).code, 0);
    assert_eq!(host.rex.read("mark"), "ran");
}

#[test]
fn a_declared_digest_or_end_must_be_there() {
    needs_root!();
    use sha2::Digest;
    let host = forced();
    let script = host.rex.fill("write(\"{data}/mark\", \"ran\")\n");
    let digest: String = sha2::Sha256::digest(script.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let cut = &script[..script.len() - 1];
    let marked = format!("{script}THE-END\n");
    let marker_inside = format!("THE-END\n{script}");
    for (options, text, runs) in [
        (vec!["--sha256", digest.as_str()], script.as_str(), true),
        (vec!["--sha256", &digest], cut, false),
        (vec!["--sha256", &digest[1..]], &script, false),
        (vec!["--end", "THE-END"], &marked, true),
        (vec!["--end", "THE-END"], &script, false),
        (vec!["--end", "THE-END"], &marker_inside, false),
    ] {
        let run = host.ssh(&[], &[&["rex"], options.as_slice()].concat(), text);
        assert_eq!((run.code, host.rex.exists("mark")), if runs { (0, true) } else { (2, false) }, "{options:?}: {text:?}: {run:#?}");
        let _ = fs::remove_file(host.rex.path("mark"));
    }
}

#[test]
fn the_owner_can_demand_that_scripts_are_known_to_be_whole() {
    needs_root!();
    let own = "identity = [\"user\"]\nrequire_complete = \"end\"";
    let host = Host::with(FORCED, |rex| rex.config(own), Sshd::start).authorized("");
    let run = host.ssh(&[], &["rex"], "1");
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:#?}");
    assert_eq!(host.ssh(&[], &["rex", "--end", "E"], "1\nE\n").ends(0).stdout, "1\n");
}

#[test]
fn an_empty_script_is_a_mistake_and_no_success() {
    needs_root!();
    let host = forced();
    for request in [&["rex"][..], &[]] {
        let run = host.ssh(&["-T"], request, "");
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:#?}");
    }
}

// ---- terminals -------------------------------------------------------------------------------------------------------

#[test]
fn a_script_on_a_terminal_is_refused_at_once_with_the_remedy() {
    needs_root!();
    let host = forced();
    for request in [&["rex"][..], &["rex", "run"], &[]] {
        let mut ssh = host.sshd.begin(&host.account.name, &host.key, &["-tt"], request);
        ssh.send(host.rex.fill("write(\"{data}/mark\", \"ran\")\n").as_bytes());
        // Its stdin stays open: a terminal's end of file never arrives.
        let run = ssh.finish(15);
        assert_eq!(run.code, 2, "{request:?}: {run:#?}");
        assert!(run.stdout.contains("-T"), "{request:?}: {run:#?}");
        assert!(!host.rex.exists("mark") && host.gone_within(2.0));
    }
    assert_eq!(host.ssh(&["-T"], &["rex"], "write(\"{data}/mark\", \"ran\")").code, 0);
}

// ---- foreign requests ------------------------------------------------------------------------------------------------

#[test]
fn requests_for_other_programs_are_refused_before_stdin_is_read_with_nothing_on_stdout() {
    needs_root!();
    let host = forced();
    let long = "x ".repeat(60_000);
    for request in [
        "scp -t /tmp",
        "scp -f /etc/passwd",
        "rsync --server -logDtpre.iLsfxC . /tmp",
        "git-upload-pack '/srv/x.git'",
        "git-shell --help",
        "/usr/lib/openssh/sftp-server",
        "internal-sftp",
        "/bin/sh",
        "/bin/sh .ssh/rc",
        "bash -i",
        "id",
        "rex; id",
        "rex && id",
        "rex | sh",
        "rex > /tmp/rex-test-out",
        "rex $(id)",
        "rex `id`",
        "rex *",
        "rex < /etc/passwd",
        "rex --help; id",
        "--help",
        "-V",
        "-c id",
        "--",
        "rex --princ=root",
        "rex --principal root",
        "rex run --policy /tmp/x",
        "rex run --config /tmp/x",
        "rex run -p /tmp/x",
        "rex serve",
        "rex setup",
        "rex run /etc/passwd",
        "rex run @../../etc/passwd",
        "rex run @/etc/passwd",
        "rex policy check /etc/shadow",
        "rex completions bash",
        "rex run --time 5",
        "() { :;}; touch /tmp/rex-shellshock",
        "rex \u{1b}[2J",
        "rex 'a\nb'",
        "rex \u{202e}x",
        long.as_str(),
    ] {
        // Directly, without the second or so of a login each. Stdin stays open: nobody waits for it.
        let command = host.rex.session_command(Some(&host.account), &[], Some(request));
        let run = common::Running::start(command).finish(10);
        let shown: String = request.chars().take(60).collect();
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{shown}: {run:#?}");
        assert_eq!(run.stderr.trim_end().lines().count(), 1, "one line says what this account accepts: {shown}: {run:#?}");
        assert!(!run.stderr.contains('\u{1b}'), "{shown}: {run:#?}");
    }
    // Bytes that are no text.
    use std::os::unix::ffi::OsStrExt;
    let mut command = host.rex.session_command(Some(&host.account), &[], None);
    command.env("SSH_ORIGINAL_COMMAND", std::ffi::OsStr::from_bytes(b"rex \xff\xfe"));
    let run = common::Running::start(command).finish(10);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:#?}");
    // The other side: the same way in runs what it should.
    assert_eq!(host.rex.session(Some(&host.account), &[], Some("rex"), "6 * 7").ends(0).stdout, "42\n");
}

#[test]
fn the_real_sftp_scp_and_git_clients_get_nothing_not_even_a_byte() {
    needs_root!();
    let host = Host::new(&format!("Subsystem sftp /usr/lib/openssh/sftp-server\n{FORCED}")).authorized("");
    let run = host.ssh(&["-s"], &["sftp"], "");
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:#?}");

    let target = format!("{}@127.0.0.1", host.account.name);
    let mut sftp = host.sshd.client("sftp", &host.key);
    sftp.args(["-P", &host.sshd.port().to_string(), "-b", "-", &target]);
    let run = host.rex.finish(sftp, b"ls /\n");
    assert_ne!(run.code, 0, "{run:#?}");
    assert!(!run.stderr.contains("message too long"), "something was said on stdout: {run:#?}");

    let local = host.rex.root().join("copy");
    for protocol in ["-O", "-s"] {
        let mut scp = host.sshd.client("scp", &host.key);
        let source = format!("{target}:{}", host.rex.path("secret"));
        scp.args(["-P", &host.sshd.port().to_string(), protocol, &source]).arg(&local);
        let run = host.rex.finish(scp, b"");
        assert!(run.code != 0 && !local.exists(), "{protocol}: {run:#?}");
    }
    assert_eq!(host.ssh(&[], &["rex"], "1").ends(0).stdout, "1\n");
}

// ---- who is asking ---------------------------------------------------------------------------------------------------

/// A library for LD_PRELOAD and LD_AUDIT: programs called `rex` or `sh` that load it leave `{data}/loaded-NAME`.
fn trap(rex: &Rex) -> String {
    let (source, library, mark) = (rex.root().join("trap.c"), rex.root().join("trap.so"), rex.path("loaded-"));
    let text = format!(
        "#define _GNU_SOURCE\n#include <errno.h>\n#include <fcntl.h>\n#include <string.h>\n\
         unsigned la_version(unsigned v) {{ return v; }}\n\
         __attribute__((constructor)) static void loaded(void) {{\n\
           if (!strcmp(program_invocation_short_name, \"rex\")) open(\"{mark}rex\", O_CREAT | O_WRONLY, 0666);\n\
           if (!strcmp(program_invocation_short_name, \"sh\")) open(\"{mark}sh\", O_CREAT | O_WRONLY, 0666);\n}}\n"
    );
    fs::write(&source, text).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(made.success());
    library.to_str().unwrap().to_owned()
}

/// Variables that would make somebody else of the caller, or run something, if rex believed them.
fn forgeries(rex: &Rex, library: &str) -> Vec<(&'static str, String)> {
    let open = rex.root().join("open");
    [
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("HOME", "/root"),
        ("SHELL", "/bin/bash"),
        ("LD_PRELOAD", library),
        ("LD_AUDIT", library),
        ("REX_CONFIG", open.to_str().unwrap()),
        ("REX_PRINCIPAL", "root"),
        ("REX_POLICY", open.to_str().unwrap()),
        ("XDG_CONFIG_HOME", open.to_str().unwrap()),
        ("TMPDIR", open.to_str().unwrap()),
        ("RUST_LOG", "trace"),
        ("RUST_BACKTRACE", "full"),
        ("LC_ALL", "../../x"),
        ("PAGER", "id"),
        ("http_proxy", "http://127.0.0.1:1"),
        ("SUDO_USER", "root"),
        ("SSH_TTY", "/dev/pts/0"),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.to_owned()))
    .collect()
}

/// The policy knows two people: `root`, who may everything, and the caller, who may read one file.
fn for_root_and(name: &str) -> String {
    format!(
        "permit(principal == User::\"root\", action, resource);\n\
         permit(principal == User::\"{name}\", action in [file_system::Action::\"open\", file_system::Action::\"read\"], resource == file_system::File::\"{{data}}/mine\");\n"
    )
}

#[test]
fn no_variable_of_the_client_or_of_its_home_changes_who_is_asking_or_loads_code() {
    needs_root!();
    for leak in ["AcceptEnv", "environment=", "~/.ssh/environment", "~/.pam_environment"] {
        let lines = format!("AcceptEnv *\nPermitUserEnvironment yes\n{FORCED}");
        let start = if leak == "~/.pam_environment" { Sshd::start_pam } else { Sshd::start };
        let host = Host::with(&lines, |rex| rex.config("identity = [\"user\"]").file("mine", "mine\n"), start);
        fs::write(host.rex.policy_file(), host.rex.fill(&for_root_and(&host.account.name))).unwrap();
        let library = trap(&host.rex);
        fs::create_dir_all(host.rex.root().join("open/policies")).unwrap();
        fs::write(host.rex.root().join("open/policies/all.cedar"), ALLOW_ALL).unwrap();
        let forged = forgeries(&host.rex, &library);

        let (mut key_options, mut client) = (String::new(), String::new());
        match leak {
            "AcceptEnv" => client = forged.iter().fold("SetEnv".to_owned(), |all, (name, value)| format!("{all} \"{name}={value}\"")),
            "environment=" => {
                key_options = forged.iter().map(|(name, value)| format!("environment=\"{name}={value}\"")).collect::<Vec<_>>().join(",");
            }
            "~/.ssh/environment" => {
                let lines: String = forged.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
                host.account.write(".ssh/environment", &lines);
            }
            _ => {
                let lines: String = forged.iter().map(|(name, value)| format!("{name} DEFAULT={value}\n")).collect();
                host.account.write(".pam_environment", &lines);
            }
        }
        let host = host.authorized(&key_options);
        let options: &[&str] = if client.is_empty() { &[] } else { &["-o", &client] };
        let run = host.ssh(options, &["rex", "-o", "json"], "cat(\"{data}/secret\")");
        assert_eq!((run.code, run.error_type().as_str()), (77, "ACCESS_DENIED_EXCEPTION"), "{leak}: {run:#?}");
        assert!(!run.stderr.contains("TRACE") && !run.stderr.contains("backtrace"), "{leak}: {run:#?}");
        let run = host.ssh(options, &["rex", "-o", "json"], "cat(\"{data}/mine\")");
        assert_eq!((run.code, run.value().as_str()), (0, Some("mine\n")), "{leak}: {run:#?}");
        assert!(host.rex.exists("loaded-sh"), "{leak}: this sshd leaks nothing, so nothing was tested");
        assert!(!host.rex.exists("loaded-rex"), "{leak}: code was loaded into rex");
    }
    // The trap is a real one: it catches a dynamic program of that name.
    let rex = Rex::new();
    let library = trap(&rex);
    fs::create_dir(rex.root().join("dynamic")).unwrap();
    fs::copy("/bin/true", rex.root().join("dynamic/rex")).unwrap();
    assert!(Command::new(rex.root().join("dynamic/rex")).env("LD_PRELOAD", &library).status().unwrap().success());
    assert!(rex.exists("loaded-rex"));
}

#[test]
fn a_forged_original_command_on_a_shell_request_is_no_more_than_a_request() {
    needs_root!();
    let host = Host::with(
        &format!("AcceptEnv *\n{FORCED}"),
        |rex| rex.config("identity = [\"argument\", \"user\"]").file("mine", "mine\n"),
        Sshd::start,
    )
    .authorized("");
    fs::write(host.rex.policy_file(), host.rex.fill(&for_root_and(&host.account.name))).unwrap();
    let program = host.rex.program().display();
    for forged in [format!("{program} session --principal root"), "rex --principal root".to_owned(), "session --principal root".to_owned()]
    {
        let set = format!("SetEnv \"SSH_ORIGINAL_COMMAND={forged}\"");
        let run = host.ssh(&["-T", "-o", &set], &[], "cat(\"{data}/secret\")");
        assert!([2, 77, 78].contains(&run.code) && !run.stdout.contains("s3cret"), "{forged}: {run:#?}");
    }
    let run = host.ssh(&["-T"], &[], "cat(\"{data}/mine\")");
    assert_eq!((run.code, run.stdout.as_str()), (0, "mine\n"), "{run:#?}");
}

#[test]
fn duplicate_variables_that_rex_reads_are_a_denial() {
    needs_root!();
    // env(1) and shells drop duplicates, so a tiny program passes them on.
    let host = forced();
    let (source, program) = (host.rex.root().join("twice.c"), host.rex.root().join("twice"));
    let text = "#include <unistd.h>\nint main(int n, char **a) { char *e[] = {\"SSH_ORIGINAL_COMMAND=rex -e 1\", \"SSH_ORIGINAL_COMMAND=rex -e 2\", \
                \"SSH_CONNECTION=192.0.2.7 5 192.0.2.1 22\", 0}; return execve(a[1], a + 1, e); }\n";
    fs::write(&source, text).unwrap();
    assert!(Command::new("cc").arg("-o").arg(&program).arg(&source).status().unwrap().success());
    let mut command = Command::new(&program);
    command.arg(host.rex.program()).args(["session", "--config"]).arg(host.rex.config_file());
    host.account.become_(&mut command);
    let run = host.rex.finish(command, b"3");
    assert!([2, 77, 78].contains(&run.code), "{run:#?}");
    assert_eq!(run.stdout, "", "{run:#?}");
    assert_eq!(host.rex.session(Some(&host.account), &[], Some("rex -e 1"), "").ends(0).stdout, "1\n");
}

/// A host whose callers are known by their keys: `alice` may see the secret, `bob` may not.
fn by_key(lines: &str) -> (Host, Key) {
    let host = Host::with(lines, |rex| rex.config("identity = [\"auth-info\"]"), Sshd::start);
    let bob = Key::new(&host.rex, "bob");
    let map = format!("default = \"refuse\"\n{}{}", common::mapped_key(&host.key, "alice"), common::mapped_key(&bob, "bob"));
    fs::write(host.rex.root().join("etc/principals.toml"), map).unwrap();
    fs::write(host.rex.policy_file(), "permit(principal == User::\"alice\", action, resource);").unwrap();
    (host.authorized(""), bob)
}

#[test]
fn sshds_own_word_about_the_key_decides_and_a_forged_one_is_a_denial() {
    needs_root!();
    let (host, bob) = by_key(&format!("ExposeAuthInfo yes\n{FORCED}"));
    host.sshd.authorize(&host.account.name, "", &bob);
    let stranger = Key::new(&host.rex, "stranger");
    host.sshd.authorize(&host.account.name, "", &stranger);
    let read = |key: &Key| host.sshd.ssh(&host.rex, &host.account.name, key, &[], &["rex"], "cat(\"{data}/secret\")");
    assert_eq!(read(&host.key).ends(0).stdout, "s3cret\n");
    assert_eq!(read(&bob).ends(77).stdout, "");
    assert_eq!(read(&stranger).ends(77).stdout, "");

    // Without sshd's file, a perfect imitation of it from the client is nothing.
    let (host, _) = by_key(&format!("AcceptEnv *\n{FORCED}"));
    let forged = "/tmp/sshauth.ABCDEFGHIJKLMNO";
    let plain = host.ssh(&[], &["rex"], "cat(\"{data}/secret\")");
    assert_eq!((plain.code, plain.stdout.as_str()), (77, ""), "missing evidence is a denial: {plain:#?}");
    let set = format!("SetEnv SSH_USER_AUTH={forged}");
    // The file belongs to another than the caller, is a link, a FIFO, a folder, is not there.
    let make = |kind: &str| {
        let _ = fs::remove_file(forged);
        let _ = fs::remove_dir(forged);
        let genuine = format!("publickey {}\n", host.key.public);
        match kind {
            "of another" => fs::write(forged, genuine).unwrap(),
            "a link" => {
                fs::write(host.rex.path("evidence"), genuine).unwrap();
                std::os::unix::fs::chown(host.rex.path("evidence"), Some(host.account.uid), Some(host.account.gid)).unwrap();
                std::os::unix::fs::symlink(host.rex.path("evidence"), forged).unwrap();
            }
            "a FIFO" => rustix::fs::mknodat(rustix::fs::CWD, forged, rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o666), 0).unwrap(),
            "a folder" => fs::create_dir(forged).unwrap(),
            _ => {}
        }
    };
    for kind in ["of another", "a link", "a FIFO", "a folder", "missing"] {
        make(kind);
        let run = host.ssh(&["-o", &set], &["rex"], "cat(\"{data}/secret\")");
        make("missing");
        assert_eq!((run.code, run.stdout.as_str()), (77, ""), "{kind}: {run:#?}");
        assert!(run.seconds < 10.0, "{kind}: {run:#?}");
    }
    for wrong in ["/etc/passwd", "/dev/zero", "relative", "", "/tmp/../tmp/sshauth.ABCDEFGHIJKLMNO"] {
        let run = host.ssh(&["-o", &format!("SetEnv \"SSH_USER_AUTH={wrong}\"")], &["rex"], "cat(\"{data}/secret\")");
        assert_eq!((run.code, run.stdout.as_str()), (77, ""), "{wrong}: {run:#?}");
    }
}

#[test]
fn two_keys_are_judged_alike_in_both_orders() {
    needs_root!();
    let (host, bob) = by_key(&format!("ExposeAuthInfo yes\nAuthenticationMethods publickey,publickey\n{FORCED}"));
    host.sshd.authorize(&host.account.name, "", &bob);
    let bob_file = bob.file.to_str().unwrap().to_owned();
    let own_file = host.key.file.to_str().unwrap().to_owned();
    let one = host.sshd.ssh(&host.rex, &host.account.name, &host.key, &["-i", &bob_file], &["rex"], "cat(\"{data}/secret\")");
    let other = host.sshd.ssh(&host.rex, &host.account.name, &bob, &["-i", &own_file], &["rex"], "cat(\"{data}/secret\")");
    // They are two people: so this is nobody.
    assert_eq!((one.code, one.stdout.as_str()), (77, ""), "{one:#?}");
    assert_eq!((other.code, other.stdout.as_str()), (77, ""), "{other:#?}");
}

#[test]
fn a_certificates_principals_are_compared_whole_and_one_without_any_is_nobody() {
    needs_root!();
    let (host, _) = by_key(&format!(
        "ExposeAuthInfo yes\nTrustedUserCAKeys {{root}}/ssh/ca.pub\nAuthorizedPrincipalsFile {{root}}/ssh/names\n{FORCED}"
    ));
    fs::write(host.rex.root().join("ssh/names"), "alice\nalice2\n").unwrap();
    let authority = Key::new(&host.rex, "ca");
    let map = format!("default = \"refuse\"\n{}", common::mapped_certificate(&authority, "alice", "alice"));
    fs::write(host.rex.root().join("etc/principals.toml"), map).unwrap();
    let holder = Key::new(&host.rex, "holder");
    for (id, principals, code) in [
        ("id \"with\" ::odd bytes", "alice", 0),
        ("plain", "alice2", 77),
        ("plain", "alice2,alice", 0),
        // What cannot be shown as it is means nobody.
        ("id with\u{1b} bytes", "alice", 77),
    ] {
        authority.certify(&holder, id, principals, &["-V", "+1h"]);
        let run = host.sshd.ssh(&host.rex, &host.account.name, &holder, &[], &["rex"], "cat(\"{data}/secret\")");
        assert_eq!(run.code, code, "{id} {principals}: {run:#?}");
    }
}

#[test]
fn a_run_ends_when_the_certificate_that_it_came_with_expires() {
    needs_root!();
    let (host, _) = by_key(&format!(
        "ExposeAuthInfo yes\nTrustedUserCAKeys {{root}}/ssh/ca.pub\nAuthorizedPrincipalsFile {{root}}/ssh/names\n{FORCED}"
    ));
    fs::write(host.rex.root().join("ssh/names"), "alice\n").unwrap();
    let authority = Key::new(&host.rex, "ca");
    let map = format!("default = \"refuse\"\n{}", common::mapped_certificate(&authority, "alice", "alice"));
    fs::write(host.rex.root().join("etc/principals.toml"), map).unwrap();
    let holder = Key::new(&host.rex, "holder");
    authority.certify(&holder, "short", "alice", &["-V", "+6s"]);
    let start = std::time::Instant::now();
    let run = host.sshd.ssh(&host.rex, &host.account.name, &holder, &[], &["rex"], "print(\"begun\"); sleep(60); print(\"still here\")");
    assert_eq!((run.code, run.stdout.as_str()), (130, "begun\n"), "{run:#?}");
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

#[test]
fn a_second_login_name_of_the_same_uid_is_the_same_person_or_nobody() {
    needs_root!();
    let host = Host::with(FORCED, |rex| rex.config("identity = [\"user\"]"), Sshd::start).authorized("");
    let alias = host.account.alias();
    host.sshd.authorize(&alias.name, "", &host.key);
    fs::write(host.rex.policy_file(), format!("permit(principal == User::\"{}\", action, resource);", alias.name)).unwrap();
    let run = host.sshd.ssh(&host.rex, &alias.name, &host.key, &[], &["rex"], "cat(\"{data}/secret\")");
    assert_eq!((run.code, run.stdout.as_str()), (77, ""), "the alias is a person of its own: {run:#?}");
    fs::write(host.rex.policy_file(), format!("permit(principal == User::\"{}\", action, resource);", host.account.name)).unwrap();
    assert_eq!(host.ssh(&[], &["rex"], "cat(\"{data}/secret\")").ends(0).stdout, "s3cret\n");
}

#[test]
fn start_up_files_of_the_home_do_not_run_beside_a_restricted_key() {
    needs_root!();
    let host = Host::new("PermitUserRC no").authorized("restrict,command=\"exec {rex} session --config {config} --principal alice\"");
    let mark = host.rex.path("rc-ran");
    for file in [".ssh/rc", ".profile", ".bashrc", ".bash_profile", ".environment"] {
        host.account.write(file, &format!("touch {mark}\n"));
    }
    let run = host.ssh(&[], &["rex"], "42");
    assert_eq!((run.code, run.stdout.as_str()), (0, "42\n"), "{run:#?}");
    assert!(!host.rex.exists("rc-ran"));
}

// ---- clients that go away --------------------------------------------------------------------------------------------

#[test]
fn a_run_ends_within_a_second_of_its_clients_death_and_its_end_is_on_record() {
    needs_root!();
    let host = forced();
    for (case, work) in
        [("asleep", "sleep(30)"), ("busy", "loop {}"), ("printing", "loop { print(\"y\"); sleep(0.01) }"), ("waiting", "sleep(30); 1")]
    {
        for options in [&["-T"][..], &["-tt"]] {
            let _ = fs::remove_file(host.rex.path("started"));
            let script = host.rex.fill(&format!("write(\"{{data}}/started\", \"\"); {work}"));
            let before = host.rex.audit().len();
            // A terminal takes no script, so there it comes with the request (which may be refused at once as well).
            let quoted = format!("'{script}'");
            let request: &[&str] = if options == ["-tt"] { &["rex", "-e", &quoted] } else { &["rex"] };
            let mut ssh = host.sshd.begin(&host.account.name, &host.key, options, request);
            if options != ["-tt"] {
                ssh.send(script.as_bytes());
                ssh.end_input();
            }
            assert!(until(20.0, || host.rex.exists("started") || ssh.status().is_some()), "{case} {options:?}: never started");
            if options == ["-T"] {
                assert!(host.rex.exists("started") && ssh.status().is_none(), "{case}: {:#?}", ssh.finish(5));
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
            ssh.kill();
            assert!(host.gone_within(1.0), "{case} {options:?}: still runs a second after its client was killed");
            let records = host.rex.audit().split_off(before);
            let (starts, ends) = (
                records.iter().filter(|record| record["event"] == "run_start").count(),
                records.iter().filter(|record| record["event"] == "run_end").count(),
            );
            assert_eq!(starts, ends, "{case} {options:?}: {records:#?}");
            assert!(options == ["-tt"] || ends == 1, "{case} {options:?}: {records:#?}");
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_run_without_a_crash() {
    needs_root!();
    let host = forced();
    let mut command = host.sshd.command(&host.account.name, &host.key, &["-T"], &["rex"]);
    let mut ssh = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    use std::io::Write;
    ssh.stdin.take().unwrap().write_all(b"loop { print(\"yes\") }").unwrap();
    let mut line = String::new();
    BufReader::new(ssh.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "yes\n");
    // The pipe is closed by now, as `| head -1` closes it.
    assert!(host.gone_within(3.0), "still runs for a reader that has gone");
    let mut said = String::new();
    assert!(until(10.0, || ssh.try_wait().unwrap().is_some()));
    ssh.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    let ends = host.rex.audit().into_iter().filter(|record| record["event"] == "run_end").count();
    assert_eq!(ends, 1, "{:#?}", host.rex.audit());
}

#[test]
fn closed_standard_streams_are_neither_a_crash_nor_somebody_elses_file() {
    needs_root!();
    let host = forced();
    for closing in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("exec \"$@\" {closing}")).arg("-").arg(host.rex.program());
        command.args(["session", "--config"]).arg(host.rex.config_file()).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("SSH_ORIGINAL_COMMAND", "rex").env("SSH_CONNECTION", "192.0.2.7 5 192.0.2.1 22");
        host.account.become_(&mut command);
        let run = host
            .rex
            .finish(command, host.rex.fill("write(\"{data}/mark\", \"ran\"); print(\"to nobody\"); warn(\"to nobody\")").as_bytes());
        assert!((0..=130).contains(&run.code) && run.code != 101, "{closing}: {run:#?}");
        // A script that cannot be read does not run; one whose output goes nowhere does, as under `> /dev/null`.
        let ran = host.rex.exists("mark");
        assert_eq!(ran, !closing.contains("<&-"), "{closing}: {run:#?}");
        assert_eq!(run.code == 0, ran, "{closing}: {run:#?}");
        if ran {
            assert_eq!(host.rex.read("mark"), "ran", "{closing}: another's output went into the file");
        }
        // Every record is whole: rex's own files did not become somebody's stdout.
        host.rex.audit();
        let _ = fs::remove_file(host.rex.path("mark"));
    }
}
