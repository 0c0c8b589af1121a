//! What a session is given, what is refused, and how it ends with its client.

use super::*;

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
fn without_another_program_the_session_is_this_very_binary() {
    // Which is the test harness here; it knows no such option.
    let out = Host::with(|settings| settings.session_program = None).ssh(&[], &["report"]);
    assert_eq!(out.code, Some(101), "{}", out.stderr);
    assert!(format!("{}{}", out.text(), out.stderr).contains("Unrecognized option: 'config'"), "{} {}", out.text(), out.stderr);
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
