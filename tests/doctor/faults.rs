//! What spoils a hardened host, and which checks must see it, where.

/// Faults that one host can have together.
pub struct Batch {
    pub name: &'static str,
    /// A script inside the host: `$D` is the drop-in of sshd, `$KEY` the account's public key.
    pub spoil: &'static str,
    pub arguments: &'static [&'static str],
    /// The check, and a part of `file:line "account" detail`.
    pub finds: &'static [(&'static str, &'static str)],
}

/// Checks of what no host can be made to be: tried in src/doctor/tests.rs.
pub const MADE_UP: &[&str] = &["landlock-old", "audit-sessions", "clock"];

const fn batch(name: &'static str, spoil: &'static str, finds: &'static [(&'static str, &'static str)]) -> Batch {
    Batch { name, spoil, arguments: &[], finds }
}

pub const BATCHES: &[Batch] = &[
    batch(
        "switches",
        r#"sed -i -e 's/DisableForwarding yes/DisableForwarding no/' -e 's/\(AllowTcpForwarding\|AllowStreamLocalForwarding\|AllowAgentForwarding\|X11Forwarding\|PermitTunnel\) no/\1 yes/' \
            -e '/PermitOpen/d' -e '/PermitListen/d' -e 's/PermitTTY no/PermitTTY yes/' -e 's/PermitUserRC no/PermitUserRC yes/' -e 's/AcceptEnv .*/AcceptEnv */' -e '/SetEnv/d' -e 's/ExposeAuthInfo yes/ExposeAuthInfo no/' \
            -e 's/MaxSessions 1/MaxSessions 10/' -e 's/ClientAliveInterval 15/ClientAliveInterval 0/' -e 's/AuthenticationMethods publickey/AuthenticationMethods any/' \
            -e 's/^PermitUserEnvironment no/PermitUserEnvironment yes/' "$D"
        echo 'StrictModes no' >>/etc/ssh/sshd_config; : >/etc/ssh/sshrc; sed -i '1i identity = ["auth-info"]' /etc/rex/rex.toml"#,
        &[
            ("forward-tcp", "rex.conf:"),
            ("forward-unix", "rex.conf:"),
            ("forward-agent", "\"agent\""),
            ("forward-x11", "rex.conf:"),
            ("forward-tunnel", "permittunnel is yes"),
            ("forward-switches", "disableforwarding (off)"),
            ("permit-tty", "rex.conf:"),
            ("user-rc-permitted", "rex.conf:"),
            ("accept-env", "LD_PRELOAD"),
            ("accept-env-patterns", "*"),
            ("set-env", "BASH_ENV"),
            ("expose-auth-info", "rex.conf:"),
            ("max-sessions", "MaxSessions is 10"),
            ("client-alive", "rex.conf:"),
            ("strict-modes", "sshd_config:"),
            ("other-methods", "password"),
            ("user-environment", "rex.conf:"),
            ("sshrc", "/etc/ssh/sshrc"),
            ("policy-tests-off", "rex.toml"),
        ],
    ),
    batch(
        "open_home",
        r#"sed -i -e '/ForceCommand/d' -e 's#AuthorizedKeysFile .*#AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2#' "$D"; chown agent /home/agent
        sed -i 's#/home/agent:/bin/sh#/home/agent:/bin/bash#' /etc/passwd; : >/home/agent/.bashrc; chown agent /home/agent/.bashrc"#,
        &[
            ("no-gate", "a Subsystem of rex"),
            ("keys-writable", ".ssh/authorized_keys"),
            ("authorized-keys2", "rex.conf:"),
            ("keys-missing", "no key in"),
            ("home-writable", "/home/agent: it belongs to uid 64991"),
            ("shell-startup", "/bin/bash"),
            ("home-startup-files", "/home/agent/.bashrc"),
        ],
    ),
    batch(
        "match_user",
        r#"sed -i 's/^Match Group rexusers/Match User agent/' "$D"; echo 'other:x:64991:64991::/home/agent:/bin/sh' >>/etc/passwd"#,
        &[("force-command-match-user", "rex.conf:"), ("alias-escapes", "other"), ("alias-uid", "agent, other")],
    ),
    batch(
        "by_connection",
        r#"sed -i 's#^Match Group rexusers#Match Group rexusers Address 10.0.0.0/8#' "$D""#,
        &[("force-command-by-connection", "from 192.0.2.1")],
    ),
    batch(
        "odd_line",
        r#"sed -i -e 's#ForceCommand .*#ForceCommand rex session $EXTRA#' -e 's#^Subsystem rex .*#Subsystem rex /usr/bin/rex session --principal boss#' "$D""#,
        &[
            ("force-command-relative", "rex.conf:"),
            ("force-command-shell", "`$` in"),
            ("force-command-no-exec", "rex session"),
            ("subsystem-options", "rex.conf:"),
        ],
    ),
    batch(
        "no_program",
        r#"sed -i 's#ForceCommand .*#ForceCommand exec /nonexistent/rex session#' "$D""#,
        &[("force-command-program", "/nonexistent/rex is not there")],
    ),
    batch(
        "keys",
        r#"sed -i -e '/ForceCommand/d' -e 's/PermitUserRC no/PermitUserRC yes/' -e 's/DisableForwarding yes/DisableForwarding no/' -e 's/AllowTcpForwarding no/AllowTcpForwarding yes/' -e '/PermitOpen/d' "$D"
        sed -i '1i identity = ["argument", "user"]' /etc/rex/rex.toml
        { printf 'command="exec %s session --principal a" %s\n' "$REX" "$KEY"; printf 'restrict %s\n' "$KEY"; cat "$ROOT/ssh/host.pub"
          printf 'no-such-option %s\n' "$KEY"; printf 'cert-authority,command="exec %s session" %s\n' "$REX" "$KEY"; } >/etc/rex/keys/agent"#,
        &[
            ("key-unforced", "/etc/rex/keys/agent:3"),
            ("user-rc", "/etc/rex/keys/agent:1"),
            ("forward-tcp", "/etc/rex/keys/agent:1"),
            ("key-twice", "/etc/rex/keys/agent:2"),
            ("key-ignored", "/etc/rex/keys/agent:4"),
            ("ca-no-principals", "/etc/rex/keys/agent:5"),
            ("argument-unsound", "is not forced"),
        ],
    ),
    batch(
        "rexsh_with_options",
        r#"ln -s rex "$ROOT/rexsh"; sed -i "s#/home/agent:/bin/sh#/home/agent:$ROOT/rexsh#" /etc/passwd; sed -i 's#rex session$#rex session --principal boss#' "$D""#,
        &[("rexsh-options", "--principal boss")],
    ),
    batch(
        "rexsh_and_sftp",
        r#"ln -s rex "$ROOT/rexsh"; sed -i "s#/home/agent:/bin/sh#/home/agent:$ROOT/rexsh#" /etc/passwd; sed -i '/ForceCommand/d' "$D"
        sed -i 's#^Subsystem sftp.*#Subsystem sftp internal-sftp#' /etc/ssh/sshd_config"#,
        &[("internal-sftp", "sshd_config:")],
    ),
    batch(
        "shells",
        r#"n=65001; for one in a:/usr/sbin/nologin b:/nonexistent/sh c:/bin/bash; do
            name=rexshell${one%%:*}; echo "$name:x:$n:64991::/home/$name:${one#*:}" >>/etc/passwd; echo "$name:*:20000:0:99999:7:::" >>/etc/shadow
            sed -i "s/^rexusers:.*/&,$name/" /etc/group; n=$((n+1)); done
        echo "$KEY" >/etc/rex/keys/rexshella; mkdir /home/rexshella /home/rexshellc; echo 'auth required pam_shells.so' >>/etc/pam.d/sshd"#,
        &[
            ("shell-nologin", "rexshella"),
            ("shell-missing", "rexshellb"),
            ("shell-unlisted", "rexshellb"),
            ("shell-not-sh", "rexshellc"),
            ("home-missing", "rexshellb"),
        ],
    ),
    batch(
        "passwords",
        r#"n=65001; for one in 'a:$y$j9T$abcdefghijk$lmnopqrstuvwxyz:20000:0:99999:7:::' 'b::20000:0:99999:7:::' 'c:*:0:0:99999:7:::' 'd:*:20000:0:99999:7::10000:'; do
            name=rexpass${one%%:*}; echo "$name:x:$n:64991::/home/agent:/bin/sh" >>/etc/passwd; echo "$name:${one#*:}" >>/etc/shadow
            sed -i "s/^rexusers:.*/&,$name/" /etc/group; n=$((n+1)); done
        echo 'docker:x:64980:agent' >>/etc/group; mkdir -p /var/spool/cron/crontabs; : >/var/spool/cron/crontabs/agent"#,
        &[
            ("password-set", "rexpassa"),
            ("password-empty", "rexpassb"),
            ("password-expired", "rexpassc"),
            ("account-expired", "rexpassd"),
            ("strong-groups", "`docker`"),
            ("own-jobs", "crontabs/agent"),
        ],
    ),
    batch(
        "locked",
        r#"sed -i 's/UsePAM yes/UsePAM no/' /etc/ssh/sshd_config; sed -i 's/^agent:\*/agent:!*/' /etc/shadow"#,
        &[("password-locked", "agent")],
    ),
    batch(
        "pam",
        r#"sed -i 's/user_readenv=0/user_readenv=1/' /etc/pam.d/sshd; echo 'LD_PRELOAD=/tmp/x.so' >>/etc/environment"#,
        &[("pam-user-environment", "/etc/pam.d/sshd:"), ("environment-files", "/etc/environment:1")],
    ),
    batch(
        "owners",
        r#"chmod 664 /etc/rex/principals.toml; chgrp 64991 /etc/rex/principals.toml; sed -i 's/refuse/pass/' /etc/rex/principals.toml; mkdir -m 777 /var/cache/rex; rm -r /run/rex/denials
        echo 'let = 1;' >/etc/rex/scripts/bad.rhai; sed -i -e '1i on_audit_failure = "allow"' -e 's/syslog = true/syslog = false/' -e '/audit/a chain = false' /etc/rex/rex.toml
        printf '[[test]]\nname = "n"\nprincipal = "nobody"\naction = "file_system::read"\nresource = "/etc/hostname"\nexpect = "allow"\n' >/etc/rex/policies/p.test.toml
        printf '@id("never")\npermit(principal == User::"a", action == file_system::Action::"read", resource == file_system::File::"/etc/shadow");\n@id("double")\nforbid(principal, action, resource) when { true && false };\n' >/etc/rex/policies/w.cedar
        : >/var/log/rex/rex.jsonl; chmod 666 /var/log/rex/rex.jsonl; chmod 2775 /var/log/rex"#,
        &[
            ("owner-untrusted", "principals.toml"),
            ("principals-pass", "principals.toml"),
            ("cache-untrusted", "/var/cache/rex"),
            ("run-folders", "/run/rex/denials"),
            ("runbook-broken", "bad.rhai:1"),
            ("audit-allow", "rex.toml"),
            ("audit-file-alone", "rex.jsonl"),
            ("audit-chain", "rex.toml"),
            ("audit-readable", "rex.jsonl"),
            ("policy-tests-fail", "policies"),
            ("policy-warnings", "policies"),
        ],
    ),
    batch(
        "unreadable",
        r#"chmod 600 /etc/rex/keys/agent /etc/rex/policies/test.cedar; chmod 2700 /var/log/rex"#,
        &[("keys-unreadable", "keys/agent"), ("owner-unreadable", "test.cedar"), ("audit-folder", "/var/log/rex")],
    ),
    batch(
        "invalid",
        r#"printf 'identity = ["user"]\nno_such_key = 1\n' >/etc/rex/rex.toml; echo 'nonsense' >/etc/rex/principals.toml; echo 'permit(' >/etc/rex/policies/test.cedar"#,
        &[("config-invalid", "rex.toml:2"), ("principals-invalid", "principals.toml:1"), ("policy-invalid", "test.cedar:")],
    ),
    batch(
        "nothing_there",
        r#"rm /etc/rex/rex.toml /etc/rex/principals.toml /etc/rex/policies/*"#,
        &[("config-missing", "rex.toml"), ("principals-pass", "there is no"), ("policy-missing", "policies")],
    ),
    batch(
        "records",
        r#"sed -i 's|file = .*|file = "/var/log/no/such/rex.jsonl"|' /etc/rex/rex.toml"#,
        &[("audit-refuses", "/var/log/no/such/rex.jsonl")],
    ),
    batch(
        "records_full",
        r#"mount -t tmpfs -o size=1m none /var/log/rex; chgrp rexusers /var/log/rex; chmod 2770 /var/log/rex; head -c 1000000 /dev/zero >/var/log/rex/fill"#,
        &[("audit-space", "MiB")],
    ),
    batch("record_evidence", r#"sed -i '1i identity = ["record"]' /etc/rex/rex.toml"#, &[("record-evidence", "no pam_exec line")]),
    batch("broken_sshd", r#"echo 'NoSuchKeyword yes' >>/etc/ssh/sshd_config"#, &[("sshd-config-invalid", "NoSuchKeyword")]),
    batch("no_sshd", r#"mount --bind /dev/null /usr/sbin/sshd"#, &[("sshd-missing", "no sshd in")]),
    batch(
        "other_daemon",
        r#"cp /etc/ssh/sshd_config "$ROOT/other_config"; for port in 20022 20023 20024 20122 20222 21022 22022; do
            /usr/sbin/sshd -f "$ROOT/other_config" -o ListenAddress=127.0.0.1 -p $port -o PidFile=none && break || true; done
        for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do grep -qas listener /proc/[0-9]*/cmdline && exit 0; sleep 0.2; done; exit 1"#,
        &[("sshd-other-config", "other_config")],
    ),
    batch(
        "old_sshd",
        r#"cp /usr/sbin/sshd "$ROOT/sshd.real"; mount --bind /dev/null /usr/bin/dpkg-query
        printf '#!/bin/sh\n[ "$1" != -V ] || { echo OpenSSH_8.9p1, OpenSSL >&2; exit 0; }\nexec %s/sshd.real "$@"\n' "$ROOT" >"$ROOT/sshd.old"; chmod 755 "$ROOT/sshd.old"
        mount --bind "$ROOT/sshd.old" /usr/sbin/sshd"#,
        &[("sshd-old", "OpenSSH_8.9p1"), ("sshd-known-hole", "CVE-2024-6387")],
    ),
    batch(
        "principals_command",
        // As sshd before 9.4 answers, whichever version is here.
        r#"cp /usr/sbin/sshd "$ROOT/sshd.real"
        printf 'AuthorizedKeysCommand /bin/true\nAuthorizedKeysCommandUser nobody\nAuthorizedPrincipalsCommand /bin/true\nAuthorizedPrincipalsCommandUser nobody\n' >"$ROOT/commands"
        cat /etc/ssh/sshd_config >>"$ROOT/commands"; cp "$ROOT/commands" /etc/ssh/sshd_config
        printf '#!/bin/sh\n%s/sshd.real "$@" | sed "s#^authorizedprincipalscommand .*#authorizedprincipalscommand none#"\n' "$ROOT" >"$ROOT/sshd.old"; chmod 755 "$ROOT/sshd.old"
        sshd -T -C user=agent,host=x,addr=192.0.2.1,laddr=192.0.2.2,lport=22 | grep -q '^authorizedprincipalscommand none' || mount --bind "$ROOT/sshd.old" /usr/sbin/sshd"#,
        &[("principals-command-ignored", "sshd_config:3")],
    ),
    batch(
        "program",
        r#"mkdir "$ROOT/bin"; cp /bin/true "$ROOT/bin/rex"; chmod 4777 "$ROOT/bin/rex"; sed -i "s#ForceCommand .*#ForceCommand exec $ROOT/bin/rex session#" "$D""#,
        &[("program-writable", "/bin/rex"), ("program-set-id", "mode 4777"), ("program-dynamic", "/bin/rex")],
    ),
    batch(
        "layers",
        r#"sed -i '1i require_layers = ["landlock"]' /etc/rex/rex.toml; echo 0 >"$ROOT/scope"
        [ ! -e /proc/sys/kernel/yama/ptrace_scope ] || mount --bind "$ROOT/scope" /proc/sys/kernel/yama/ptrace_scope"#,
        &[("layer-missing", "`landlock`"), ("layer-required", "rex.toml"), ("ptrace-scope", "")],
    ),
    batch("no_group", r#"sed -i '/^rexusers:/d' /etc/group"#, &[("group-missing", "/etc/group"), ("nobody", "no group")]),
    batch(
        "root_login",
        r#"printf 'PermitRootLogin yes\nAuthorizedKeysFile /etc/rex/keys/%%u\n' >>/etc/ssh/sshd_config
        printf 'restrict,command="exec %s session" %s\n' "$REX" "$KEY" >/etc/rex/keys/root"#,
        &[("root-login", "sshd_config:")],
    ),
    batch(
        "shared",
        r#"sed -i '1i identity = ["auth-info"]' /etc/rex/rex.toml; cat "$ROOT/ssh/host.pub" >>/etc/rex/keys/agent
        for one in key host; do printf '[[principal]]\nname = "%s"\nkeys = ["%s"]\n' $one "$(ssh-keygen -lf "$ROOT/ssh/$one.pub" | cut -d' ' -f2)" >>/etc/rex/principals.toml; done"#,
        &[("shared-uid", "host, key")],
    ),
    batch(
        "elsewhere",
        r#"sed -i 's/passwd: files/passwd: files sss/' /etc/nsswitch.conf"#,
        &[("accounts-elsewhere", "/etc/nsswitch.conf")],
    ),
    Batch { arguments: &["nosuchname"], ..batch("unknown", "true", &[("unknown-account", "nosuchname")]) },
    batch("cut_root", r#"echo '    ChrootDirectory /srv' >>"$D""#, &[("chroot", "/srv"), ("force-command-program", "/srv/")]),
];
