//! Clients as people have them: OpenSSH with its odd options, dropbear, PuTTY, curl, git, mosh, paramiko and asyncssh, against the block for sshd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Fleet, Run, Site};

const LOOK: &str =
    r#"@id("look") permit(principal == User::"alice", action in file_system::Action::"view", resource in file_system::Dir::"/srv/app");"#;

/// Two hosts, the second of which permits nothing of use; `control` stands beside them, and behind the bastion too.
fn hosts() -> Fleet {
    hosts_with("")
}

fn hosts_with(settings: &str) -> Fleet {
    let mut site = Site::behind_a_bastion(&["web01", "web02"]);
    site.wire("control", "inside", "10.77.0.2/24");
    for (host, policy) in [("web01", LOOK), ("web02", "forbid(principal, action, resource);")] {
        site.asks_rex(host, policy);
        site.only(
            host,
            "etc/rex/rex.toml",
            &format!("identity = [\"auth-info\"]\n{settings}\n[audit]\nfile = \"/var/log/rex/rex.jsonl\"\n"),
        );
    }
    site.all("srv/app/version", "release 7\n");
    let mut known = format!("@cert-authority * {}\n", site.host_authority.public);
    for host in ["bastion", "web01", "web02"] {
        known += &format!("{host} {}", site.host_key(host));
    }
    site.only("control", "root/.ssh/known_hosts", &known);
    site.only("control", "root/.ssh/config", "Host *\n    BatchMode yes\n");
    site.only("control", "root/v.rhai", "cat(\"/srv/app/version\")\n");
    let fleet = site.up();
    fleet.control("chmod 600 .ssh/id_ed25519").ends(0);
    fleet
}

/// What the last session on web01 was refused for, by its record.
#[track_caller]
fn refusal(fleet: &Fleet) -> String {
    let records = fleet.records("web01");
    records
        .iter()
        .rev()
        .find(|record| record["event"] == "refused")
        .map(|record| record["message"].as_str().unwrap().to_owned())
        .unwrap_or_default()
}

#[track_caller]
fn says(run: &Run, code: i32, text: &str) {
    assert!(run.code == code && run.stderr.contains(text), "{code} `{text}`: {run:#?}");
}

#[test]
fn openssh_with_its_options_runs_what_is_a_request_and_shows_why_not() {
    needs_namespaces!();
    let fleet = hosts();
    for line in [
        "ssh -T agent@web01 rex < v.rhai",
        "ssh -t agent@web01 rex < v.rhai",
        "ssh agent@web01 < v.rhai",
        "ssh -s agent@web01 rex < v.rhai | grep -o 'release 7' | uniq",
    ] {
        let run = fleet.control(line);
        assert_eq!((run.code, run.stdout.as_str()), (0, "release 7\n"), "{line}: {run:#?}");
    }
    let digest = fleet.control("ssh agent@web01 rex -o json --sha256 $(sha256sum < v.rhai | cut -d' ' -f1) < v.rhai");
    assert_eq!(digest.ends(0).value(), "release 7\n");
    assert_eq!(fleet.control("ssh -n agent@web01 rex -e 1").ends(0).stdout, "1\n");
    says(&fleet.control("ssh -n agent@web01 rex"), 2, "the script is empty");
    says(&fleet.control("ssh -tt agent@web01 rex < v.rhai"), 255, "PTY allocation request failed");
    says(&fleet.control("ssh -W 127.0.0.1:22 agent@web01 < /dev/null"), 255, "administratively prohibited");
    says(&fleet.control("ssh -o ExitOnForwardFailure=yes -N -R 9999:127.0.0.1:22 agent@web01"), 255, "remote port forwarding failed");
    // A local port is opened by the client itself; what comes through it meets nothing.
    let run = fleet.control("ssh -o ControlPath=/root/.ssh/l -fNM -L 9999:127.0.0.1:22 agent@web01 && ssh-keyscan -T 2 -p 9999 127.0.0.1; ssh -o ControlPath=/root/.ssh/l -O exit agent@web01");
    assert!(run.stdout.is_empty(), "{run:#?}");
    let run = fleet.control("script -qec 'ssh agent@web01' /dev/null < v.rhai");
    assert!(run.stdout.contains("PTY allocation request failed"), "{run:#?}");
}

#[test]
fn programs_for_files_and_shells_get_one_line_and_their_own_failure() {
    needs_namespaces!();
    let fleet = hosts();
    let line =
        |program: &str| format!("this account accepts only rex requests, and `{program}` is none; `rex help` lists what can be asked");
    let before = fleet.control("ls -R /root").stdout;
    for (command, code, said, record) in [
        ("ssh agent@web01 id", 2, line("id"), "id"),
        ("scp -O v.rhai agent@web01:/tmp/", 1, line("scp"), "scp"),
        ("rsync -e ssh v.rhai agent@web01:/tmp/", 12, line("rsync"), "rsync"),
        ("git ls-remote agent@web01:x.git", 128, line("git-upload-pack"), "git-upload-pack"),
        ("TERM=xterm mosh --no-ssh-pty agent@web01", 10, line("mosh-server"), "mosh-server"),
        // sshd keeps what a subsystem says to itself; the record has it.
        ("echo ls | sftp -b - agent@web01", 255, "Connection closed".to_owned(), "/usr/lib/openssh/sftp-server"),
        ("scp v.rhai agent@web01:/tmp/", 255, "Connection closed".to_owned(), "/usr/lib/openssh/sftp-server"),
        (
            "curl -sS --max-time 10 --pubkey .ssh/id_ed25519.pub --key .ssh/id_ed25519 sftp://agent@web01/srv/app/version",
            28,
            "timed out".to_owned(),
            "/usr/lib/openssh/sftp-server",
        ),
        // curl calls it a success; nothing came.
        (
            "curl -sS --max-time 10 --pubkey .ssh/id_ed25519.pub --key .ssh/id_ed25519 scp://agent@web01/srv/app/version",
            0,
            String::new(),
            "scp",
        ),
        (
            "curl -sS --max-time 10 --pubkey .ssh/id_ed25519.pub --key .ssh/id_ed25519 -T v.rhai scp://agent@web01/tmp/x",
            0,
            String::new(),
            "scp",
        ),
    ] {
        let refused = fleet.records("web01").len();
        let run = fleet.control(command);
        // mosh shows on standard output what ssh said on standard error.
        let shown = if record == "mosh-server" { &run.stdout } else { &run.stderr };
        assert!(run.code == code && shown.contains(&said) && (record == "mosh-server" || run.stdout.is_empty()), "{command}: {run:#?}");
        assert!(
            fleet.records("web01").len() > refused && refusal(&fleet).contains(&format!("`{record}` is none")),
            "{command}: {}",
            refusal(&fleet)
        );
    }
    assert!(!fleet.file("web01", "/tmp/v.rhai").exists() && !fleet.file("web01", "/tmp/x").exists());
    assert_eq!(fleet.control("ls -R /root").stdout, before);
    let run = fleet.control("TERM=xterm mosh agent@web01");
    assert!(run.code == 10 && run.stdout.contains("PTY allocation request failed"), "{run:#?}");
}

#[test]
fn dropbear_and_putty_run_scripts_and_pass_the_code_on() {
    needs_namespaces!();
    let fleet = hosts();
    fleet.control("dropbearconvert openssh dropbear .ssh/id_ed25519 .ssh/dropbear && puttygen .ssh/id_ed25519 -O private -o .ssh/key.ppk --new-passphrase /dev/null").ends(0);
    let print = fleet.control("ssh-keyscan -t ed25519 web01 2>/dev/null | ssh-keygen -lf - | cut -d' ' -f2").stdout;
    let plink = format!("plink -batch -hostkey {} -i .ssh/key.ppk", print.trim());
    for client in ["dbclient -T -i .ssh/dropbear", &plink, &format!("{plink} -T")] {
        let run = fleet.control(&format!("{client} agent@web01 rex < v.rhai"));
        assert_eq!((run.code, run.stdout.as_str()), (0, "release 7\n"), "{client}: {run:#?}");
        let run = fleet.control(&format!("{client} agent@web01 \"rex -e 'cat(\\\"/etc/shadow\\\")'\" < /dev/null"));
        assert!(run.code == 77 && run.stdout.is_empty() && run.stderr.contains("why: not_permitted"), "{client}: {run:#?}");
        says(&fleet.control(&format!("{client} agent@web01 id < /dev/null")), 2, "`id` is none");
        let run = fleet.control(&format!("{client} -s agent@web01 rex < v.rhai"));
        assert_eq!(run.ends(0).value(), "release 7\n");
    }
    let run = fleet.control(&format!("{plink} -t agent@web01 rex < v.rhai"));
    assert!(run.code == 0 && run.stderr.contains("refused to allocate pty") && run.stdout == "release 7\n", "{run:#?}");
}

#[test]
fn the_programs_of_the_page_run_scripts_and_tell_refusals_from_failures() {
    needs_namespaces!();
    let fleet = hosts();
    let paramiko =
        "# with_paramiko.py HOST KEY SCRIPT: runs the script on the host, through the bastion; prints the JSON result; ends as it ended.";
    let asyncssh =
        "# with_asyncssh.py KEY SCRIPT HOST …: runs the script on all hosts at once; one line for each; ends with the largest code.";
    fleet.write("control", "/root/with_paramiko.py", &common::block("docs/clients.md", paramiko));
    fleet.write("control", "/root/with_asyncssh.py", &common::block("docs/clients.md", asyncssh));
    fleet.write("control", "/root/big.rhai", "for i in 0..30000 { print(\"0123456789\"); }\n");
    let run = fleet.control("/usr/bin/python3 with_paramiko.py web01 .ssh/id_ed25519 v.rhai");
    assert_eq!(run.ends(0).value(), "release 7\n");
    let run = fleet.control("/usr/bin/python3 with_paramiko.py web02 .ssh/id_ed25519 v.rhai");
    assert!(run.code == 77 && run.error_type() == "ACCESS_DENIED_EXCEPTION" && run.json()["denials"][0]["action"].is_string(), "{run:#?}");
    // Much of it, whole.
    let run = fleet.control("/usr/bin/python3 with_paramiko.py web01 .ssh/id_ed25519 big.rhai");
    assert!(run.ends(0).json()["output"].as_str().is_some_and(|output| output.len() > 300_000));
    let run = fleet.control("/usr/bin/python3 with_asyncssh.py .ssh/id_ed25519 v.rhai web01 web02");
    assert_eq!(run.code, 77, "{run:#?}");
    assert!(run.stdout.contains("web01: 0 \"release 7\\n\"\n") && run.stdout.contains("web02: 77 null file_system::Action"), "{run:#?}");
    fleet.stop("web02");
    let run = fleet.control("/usr/bin/python3 with_asyncssh.py .ssh/id_ed25519 v.rhai web01 web02");
    assert!(run.code == 255 && run.stdout.contains("web02: out of reach") && run.stdout.contains("web01: 0"), "{run:#?}");
}

#[test]
fn an_input_that_is_not_ended_or_closed_whole_runs_nothing() {
    needs_namespaces!();
    let fleet = hosts_with("read_timeout = 5");
    let python = |end: &str, request: &str| {
        let text = format!(
            "import paramiko, sys, time\nclient = paramiko.SSHClient()\nclient.load_system_host_keys()\n\
             client.connect('web01', username='agent', key_filename='/root/.ssh/id_ed25519', allow_agent=False, look_for_keys=False)\n\
             stdin, stdout, stderr = client.exec_command('{request}')\nchannel = stdout.channel\nstdin.write('print(\"first\");\\n')\nstdin.flush()\n{end}\n\
             sys.stdout.write(stdout.read().decode())\nsys.stderr.write(stderr.read().decode())\nsys.exit(channel.recv_exit_status() % 256)\n"
        );
        fleet.write("control", "/root/odd.py", &text);
        fleet.control("/usr/bin/python3 odd.py")
    };
    let ran = || fleet.records("web01").iter().filter(|record| record["event"] == "run_end" && record["exit"] == 0).count();
    let run = python("", "rex");
    assert!(run.code == 124 && run.stdout.is_empty(), "{run:#?}");
    python("channel.close()", "rex");
    python("client.close(); sys.exit(0)", "rex");
    python("channel.shutdown_write()", "rex --sha256 0000000000000000000000000000000000000000000000000000000000000000");
    assert_eq!(ran(), 0, "{:#?}", fleet.records("web01"));
    for (at, end) in ["channel.shutdown_write()", "stdin.close()"].iter().enumerate() {
        let run = python(end, "rex");
        assert_eq!((run.code, run.stdout.as_str(), ran()), (0, "first\n", at + 1), "{run:#?}");
    }
}
