//! `rex demo`: the whole of it on this machine, with a real SSH client: a server, a policy, what it allows, what it denies, and the record of both.

use crate::audit::{Filter, Form, reader, show};
use crate::error::{Error, Kind, Result};
use crate::os::program::{Ran, Scratch, find, run as run_program};
use crate::server::{Limits, ServeSettings, serve_during};
use std::path::Path;
use std::time::Duration;

const POLICY: &str = r#"// The agent reads the application's logs and asks how the machine is. Nothing else.
@id("agent-reads-app-logs")
permit (
    principal in Group::"agents",
    action in [file_system::Action::"read", file_system::Action::"stat"],
    resource in file_system::Dir::"LOGS"
);

@id("agent-sees-the-machine")
permit (principal in Group::"agents", action == sysinfo::Action::"list", resource);

@id("secrets-stay-closed")
@hint("credentials are for the people on call")
forbid (principal, action, resource) when { resource has path && resource.path like "*/secrets.env" };
"#;

const ALLOWED: &str = r#"let errors = grep("ERROR", LOGS + "/app.log");
print(`${errors.len()} errors on ${hostname()}, the last one:`);
errors[errors.len() - 1]
"#;

const DENIED: &str = r#"cat(LOGS + "/secrets.env")
"#;

const LOG: &str = "2026-01-31T14:00:01Z INFO  started\n2026-01-31T14:02:17Z ERROR connection to db1 refused\n2026-01-31T14:02:20Z ERROR connection to db1 refused\n2026-01-31T14:02:26Z INFO  connected to db1\n";

/// Shows it; gives the exit code: 0 when everything went as it should.
#[must_use]
pub fn run() -> u8 {
    match try_run() {
        Ok(()) => 0,
        Err(error) => super::local::failed(&error),
    }
}

fn try_run() -> Result<()> {
    let ssh = find("ssh", "openssh-client")?;
    let keygen = find("ssh-keygen", "openssh-client")?;
    let place = Scratch::new("rex-demo")?;
    let root = place.path().to_string_lossy().into_owned();
    let logs = format!("{root}/srv/app");
    place.write("srv/app/app.log", LOG)?;
    place.write("srv/app/secrets.env", "DB_PASSWORD=correct-horse\n")?;
    let key = format!("{root}/id");
    succeeded(
        &run_program(&keygen, &["-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f", &key], b"", Duration::from_secs(20))?,
        "ssh-keygen",
    )?;
    let public = place.read("id.pub")?;
    let listed = run_program(&keygen, &["-lf", &format!("{key}.pub")], b"", Duration::from_secs(20))?;
    let fingerprint = listed.stdout.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let policy = POLICY.replace("LOGS", &logs);
    place.write("etc/rex/policies/agent.cedar", &policy)?;
    place.write(
        "etc/rex/principals.toml",
        &format!("[[principal]]\nname = \"demo-agent\"\ngroups = [\"agents\"]\nkeys = [\"{fingerprint}\"]\n"),
    )?;
    let config = place.write("etc/rex/rex.toml", &format!("[audit]\nsyslog = false\njournald = false\nfile = \"{root}/audit.jsonl\"\n"))?;
    let keys = place.write("etc/rex/authorized_keys", &format!("restrict {public}"))?;

    say("A policy of this host's owner:")?;
    block(&policy)?;
    let settings = ServeSettings {
        listen: vec![core::net::SocketAddr::from(([127, 0, 0, 1], 0))],
        host_key: place.path().join("host_key"),
        authorized_keys: keys,
        config,
        limits: Limits::default(),
        session_program: None,
    };
    serve_during(settings, |address| {
        let client = Client { ssh: &ssh, key: &key, known: format!("{root}/known_hosts"), port: address.port().to_string() };
        say("\nAllowed: the logs of the application.")?;
        let ran = client.run(&ALLOWED.replace("LOGS", &format!("\"{logs}\"")))?;
        expect(&ran, 0, "what the policy permits")?;
        say("\nDenied: the file of secrets beside them.")?;
        let ran = client.run(&DENIED.replace("LOGS", &format!("\"{logs}\"")))?;
        expect(&ran, 77, "what the policy forbids")
    })??;
    say("\nThe record of both (rex audit):")?;
    let mut text = Vec::new();
    show(reader(crate::os::trusted::open_any(&place.path().join("audit.jsonl"))?)?, &Filter::default(), Form::Human, &mut text)?;
    block(&String::from_utf8_lossy(&text))
}

/// The real SSH client.
struct Client<'a> {
    ssh: &'a Path,
    key: &'a str,
    known: String,
    port: String,
}

impl Client<'_> {
    /// `ssh … rex < script`, shown as it is typed.
    fn run(&self, script: &str) -> Result<Ran> {
        say(&format!("$ ssh -p {} demo@127.0.0.1 rex < script.rhai", self.port))?;
        block(script)?;
        let known = format!("UserKnownHostsFile={}", self.known);
        let arguments = [
            "-F",
            "none",
            "-T",
            "-p",
            &self.port,
            "-i",
            self.key,
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "IdentityAgent=none",
            "-o",
            "StrictHostKeyChecking=accept-new",
            "-o",
            &known,
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=10",
            "-o",
            "LogLevel=ERROR",
            "demo@127.0.0.1",
            "rex",
        ];
        let ran = run_program(self.ssh, &arguments, script.as_bytes(), Duration::from_secs(60))?;
        let answer = format!("{}{}", ran.stdout, ran.stderr);
        block(answer.trim_end())?;
        say(&format!("exit code {}", ran.code.map_or_else(|| "none".to_owned(), |code| code.to_string())))?;
        Ok(ran)
    }
}

fn expect(ran: &Ran, code: i32, what: &str) -> Result<()> {
    if ran.code == Some(code) { Ok(()) } else { Err(Error::new(Kind::Internal, format!("{what} should end with exit code {code}"))) }
}

fn succeeded(ran: &Ran, what: &str) -> Result<()> {
    if ran.code == Some(0) { Ok(()) } else { Err(Error::new(Kind::Communication, format!("{what} failed: {}", ran.stderr.trim()))) }
}

fn say(line: &str) -> Result<()> {
    if super::show(&format!("{line}\n")) == 0 { Ok(()) } else { Err(Error::new(Kind::Communication, "nobody reads the demo")) }
}

/// Text, set in a little.
fn block(text: &str) -> Result<()> {
    text.lines().try_for_each(|line| say(&format!("    {line}")))
}
