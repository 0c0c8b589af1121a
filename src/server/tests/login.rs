//! Who gets in: keys, certificates, algorithms, and the files that say so.

use super::*;

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
fn a_server_does_not_start_on_keys_that_others_can_touch_or_lines_it_does_not_understand() {
    let refused = |change: &dyn Fn(&mut ServeSettings)| {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        make_key(dir.path(), "key", &[]);
        fs::copy(dir.path().join("key.pub"), &settings.authorized_keys).unwrap();
        change(&mut settings);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        Ready::prepare(settings).err().map(|error| (error.kind.exit(), error.to_string()))
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
