//! Whether it works: sshd's configuration is valid, says what it should, changed nothing for those at work here, and real logins end as they have to.

use super::accounts::tool;
use super::facts::Facts;
use super::plan::{Check, Try, Way};
use super::step::{Before, Step};
use super::texts::{self, DROP_IN, Known, SSHD_CONFIG};
use super::{PRINCIPALS_TOML, REX_TOML, ROOT_DROP_IN};
use crate::error::{Error, Kind, Result};
use crate::host::sshd::{Connection, Effective, Sshd};
use crate::os::facts;
use crate::os::inetd::{Inetd, answers};
use crate::os::install::{self, Rights, Thing};
use crate::os::program::{self, Ran, Scratch};
use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one login may take: rex in it may have policies to validate for the first time.
const LOGIN: Duration = Duration::from_secs(60);
/// How long a daemon may take to listen again after it read its configuration.
const SETTLE: u32 = 50;
/// How often its sockets are looked at until then, four times in each pause.
const ANEW: u32 = 100;
const PAUSE: Duration = Duration::from_millis(200);
/// Keywords that every sshd of the versions in docs/operations.md prints.
const KNOWN: &[&str] =
    &["forcecommand", "authorizedkeysfile", "permittty", "allowtcpforwarding", "authenticationmethods", "permitrootlogin"];
/// A name that is nobody's but for the time of a try.
const TRIED: &str = "rex-setup-try";

/// Debian's sshd does nothing without this folder, which its service makes; where no sshd runs, nobody did.
///
/// # Errors
/// The system's own.
pub fn privilege_separation() -> Result<()> {
    let path = Path::new("/run/sshd");
    if Path::new("/run").is_dir() && !path.exists() {
        match install::make_folder(path, Rights { mode: 0o755, uid: 0, gid: 0 }) {
            Err(error) if error.kind != Kind::Exists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether sshd would take its configuration with these steps done, tried beside the real one.
///
/// # Errors
/// [`Kind::Config`] with sshd's own words: nothing has changed.
pub fn candidate(steps: &[Step], facts: &Facts) -> Result<()> {
    let texts = steps.iter().filter_map(|step| match step {
        Step::File { path, text, .. } if step.concerns_sshd() => Some((path.as_path(), text.as_str())),
        _ => None,
    });
    let texts: BTreeMap<&Path, &str> = texts.collect();
    if texts.is_empty() {
        return Ok(());
    }
    let scratch = Scratch::within(Path::new("/run"), "rex-setup")?;
    let main = texts.get(Path::new(SSHD_CONFIG)).copied().map_or_else(|| facts.text(SSHD_CONFIG).map(Option::unwrap_or_default), Ok)?;
    let mut whole = String::new();
    for (number, drop_in) in [DROP_IN, ROOT_DROP_IN].iter().enumerate() {
        if let Some(text) = texts.get(Path::new(drop_in)) {
            let beside = scratch.write(&format!("{number}.conf"), text)?;
            whole.push_str(&format!("Include {}\n", beside.display()));
        }
    }
    // One that is changed is not to be there twice: what is included beside it is left out of this try.
    let changed =
        steps.iter().any(|step| matches!(step, Step::File { path, before: Some(_), .. } if path.starts_with("/etc/ssh/sshd_config.d")));
    let kept = |line: &&str| !(line.trim_start().to_ascii_lowercase().starts_with("include") && (changed || line.contains("/rex")));
    whole.extend(main.lines().filter(kept).flat_map(|line| [line, "\n"]));
    let file = scratch.write("sshd_config", &whole)?;
    privilege_separation()?;
    Sshd::find(Some(&file))?.test().map_err(|error| Error { message: format!("sshd would not take it: {}", error.message), ..error })
}

/// Whether sshd's configuration is valid now.
///
/// # Errors
/// [`Kind::Config`] with sshd's own words.
pub fn valid() -> Result<()> {
    privilege_separation()?;
    Sshd::find(None)?.test()
}

/// Whether every setting of a drop-in holds for the account.
///
/// # Errors
/// [`Kind::Config`] naming the first that does not.
pub fn holds(check: &Check) -> Result<()> {
    let effective = Sshd::find(None)?.effective(&Connection::of(&check.account))?;
    for (keyword, wanted) in texts::directives(&check.block) {
        let wanted = if keyword == "subsystem" { wanted.split_once(' ').map_or(wanted, |(name, _)| name) } else { wanted };
        let words: Vec<&str> = effective.words(&keyword).collect();
        let has = match (words.is_empty(), keyword.as_str()) {
            // Another version may print fewer keywords; those that hold the account it prints.
            (true, known) => !KNOWN.contains(&known),
            (false, "subsystem" | "setenv" | "acceptenv") => wanted.split_whitespace().all(|word| words.contains(&word)),
            (false, _) => words.join(" ").eq_ignore_ascii_case(wanted),
        };
        if !has {
            return Err(Error::new(
                Kind::Config,
                format!("sshd has `{keyword} {}` for `{}`, not `{wanted}`: another part of its configuration comes first", words.join(" "), check.account),
            )
            .with_hint("look for a Match block or a file of sshd_config.d that stands before it; `sshd -T -C user=NAME,host=x,addr=192.0.2.1` shows what holds"));
        }
    }
    Ok(())
}

/// What sshd says of accounts: to compare it later.
///
/// # Errors
/// As [`Sshd::effective`].
pub fn of_accounts(names: &[String]) -> Result<Vec<(String, Effective)>> {
    let sshd = Sshd::find(None)?;
    names.iter().map(|name| Ok((name.clone(), sshd.effective(&Connection::of(name))?))).collect()
}

/// Whether nothing changed for them but what had to.
///
/// # Errors
/// [`Kind::Config`] naming what did.
pub fn spared(before: &[(String, Effective)], spared: &[&str]) -> Result<()> {
    let sshd = Sshd::find(None)?;
    for (name, before) in before {
        let after = sshd.effective(&Connection::of(name))?;
        let differs = before
            .keywords()
            .chain(after.keywords())
            .find(|keyword| !spared.contains(keyword) && !before.all(keyword).eq(after.all(keyword)));
        if let Some(keyword) = differs {
            return Err(Error::new(Kind::Config, format!("sshd would treat `{name}`, who is at work here, in another way: `{keyword}`")));
        }
    }
    Ok(())
}

/// Where a login is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// An sshd started for the one connection.
    Beside,
    /// The daemon that listens there.
    At(SocketAddr),
}

/// The sockets of the sshd that listens on this host; none where none does.
///
/// # Errors
/// Where there is no sshd at all.
pub fn sockets() -> Result<BTreeSet<PathBuf>> {
    let daemons = Sshd::find(None)?.daemons();
    Ok(daemons.iter().flat_map(|daemon| sockets_of(daemon.pid)).collect())
}

fn sockets_of(pid: u32) -> BTreeSet<PathBuf> {
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    let links = facts::names(&folder, 1 << 16).unwrap_or_default().into_iter().filter_map(|name| facts::link(&folder.join(name)));
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).collect()
}

/// Waits until the sshd that was asked to has started itself anew: it listens on other sockets then than `before`. Where systemd holds the sockets they
/// stay the same, so the wait has an end.
fn started_anew(before: &BTreeSet<PathBuf>) {
    for _ in 0..ANEW {
        if sockets().is_ok_and(|now| !now.is_empty() && now.is_disjoint(before)) {
            return;
        }
        program::wait(PAUSE / 4);
    }
}

/// The door of the daemon that had these sockets before it was asked to read its configuration: it starts itself anew for that, which takes a moment.
/// `asked`: whether it was.
///
/// # Errors
/// [`Kind::Unavailable`] when it does not answer any more.
pub fn daemon(before: &BTreeSet<PathBuf>, asked: bool) -> Result<Door> {
    if asked {
        started_anew(before);
    }
    let sshd = Sshd::find(None)?;
    let mut left = SETTLE;
    let running = loop {
        match sshd.daemons().into_iter().next() {
            Some(daemon) => break daemon,
            None if left == 0 => return Err(Error::new(Kind::Unavailable, "sshd ran and does not run any more")),
            None => program::wait(PAUSE),
        }
        left -= 1;
    };
    let effective = sshd.effective(&Connection::of("root"))?;
    let port =
        running.words.iter().position(|word| word == "-p").and_then(|at| running.words.get(at + 1)).and_then(|port| port.parse().ok());
    let mut addresses: Vec<SocketAddr> = effective.all("listenaddress").filter_map(|text| text.parse().ok()).collect();
    for address in &mut addresses {
        if address.ip().is_unspecified() {
            let loopback: core::net::IpAddr =
                if address.is_ipv4() { core::net::Ipv4Addr::LOCALHOST.into() } else { core::net::Ipv6Addr::LOCALHOST.into() };
            address.set_ip(loopback);
        }
        if let Some(port) = port {
            address.set_port(port);
        }
    }
    // IPv4 first: a host may have no IPv6 address at all and still be told to listen on any.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    for _ in 0..SETTLE {
        if let Some(address) = addresses.iter().find(|address| answers(**address, PAUSE * 10)) {
            return Ok(Door::At(*address));
        }
        program::wait(PAUSE);
    }
    Err(Error::new(Kind::Unavailable, "sshd runs and does not answer where its configuration says it listens"))
}

/// Has the sshd that runs read its configuration again. Never restarts it. Gives what was done.
///
/// # Errors
/// What systemctl says; the system's own.
pub fn reload() -> Result<&'static str> {
    if Path::new("/run/systemd/system").is_dir() {
        let systemctl = tool("systemctl", "systemd")?;
        for unit in ["ssh.service", "sshd.service"] {
            if program::run(&systemctl, &["is-active", "--quiet", unit], b"", LOGIN)?.code == Some(0) {
                let ran = program::run(&systemctl, &["reload", unit], b"", LOGIN)?;
                if ran.code != Some(0) {
                    return Err(Error::new(Kind::ProgramFailed, format!("systemctl reload {unit}: {}", ran.stderr.trim())));
                }
                return Ok("sshd reads its configuration again (systemctl reload)");
            }
        }
    }
    let daemons = Sshd::find(None)?.daemons();
    for daemon in &daemons {
        if let Some(pid) = i32::try_from(daemon.pid).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::HUP)?;
        }
    }
    Ok(if daemons.is_empty() {
        "no sshd runs here; the next one that starts reads it"
    } else {
        "sshd reads its configuration again (SIGHUP)"
    })
}

/// A key pair for one try, in memory (/run), gone with it.
pub struct TryKey {
    scratch: Scratch,
    pub public: String,
}

impl TryKey {
    /// # Errors
    /// [`Kind::Unsupported`] without ssh-keygen.
    pub fn new() -> Result<Self> {
        let scratch = Scratch::within(Path::new("/run"), "rex-setup-try")?;
        let file = scratch.path().join("key").to_string_lossy().into_owned();
        keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", &file])?;
        let public = scratch.read("key.pub")?.trim().to_owned();
        Ok(Self { scratch, public })
    }
    fn path(&self, name: &str) -> String {
        self.scratch.path().join(name).to_string_lossy().into_owned()
    }
    fn fingerprint(&self) -> Result<String> {
        super::wanted::public_keys(&self.public)?
            .into_iter()
            .next()
            .map(|key| key.fingerprint)
            .ok_or_else(|| Error::new(Kind::Internal, "no key"))
    }
    /// Signs itself as a certificate.
    fn certify(&self, principal: &str) -> Result<()> {
        keygen(&["-q", "-s", &self.path("key"), "-I", TRIED, "-n", principal, "-V", "-5m:+15m", &self.path("key.pub")])
    }
}

fn keygen(arguments: &[&str]) -> Result<()> {
    let ran = program::run(&tool("ssh-keygen", "openssh-client")?, arguments, b"", LOGIN)?;
    if ran.code == Some(0) { Ok(()) } else { Err(Error::new(Kind::ProgramFailed, format!("ssh-keygen: {}", ran.stderr.trim()))) }
}

/// What has to be on the host for a try: taken back right after it.
///
/// # Errors
/// What keeps a file from being read.
pub fn for_the_try(wanted: &Try, key: &TryKey) -> Result<Vec<Step>> {
    let passing = "a key that is there for the time of a try";
    let mut steps = Vec::new();
    let principals = match &wanted.way {
        Way::Certificate { principal } => {
            key.certify(principal)?;
            steps.push(with_line(&wanted.file, passing, &key.public)?);
            let known = Known::Certificates { authorities: vec![TRIED.to_owned()], principals: vec![principal.clone()] };
            format!("{}{}", texts::authority(TRIED, &key.fingerprint()?), texts::principal(TRIED, &[], &known))
        }
        _ if wanted.mapped => {
            steps.push(with_line(&wanted.file, passing, &short_lived(&wanted.line, &key.public))?);
            texts::principal(TRIED, &[], &Known::Keys(vec![key.fingerprint()?]))
        }
        _ => {
            steps.push(with_line(&wanted.file, passing, &short_lived(&wanted.line, &key.public))?);
            return Ok(steps);
        }
    };
    steps.push(with_line(Path::new(PRINCIPALS_TOML), "who has that key", principals.trim_end())?);
    Ok(steps)
}

/// A line of a key that counts on this host only, and for two days at most whatever happens to this process.
fn short_lived(line: &str, key: &str) -> String {
    let day = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    let end = day.checked_add(jiff::Span::new().days(2)).unwrap_or(day);
    let options = format!("from=\"127.0.0.1,::1\",expiry-time=\"{}\"", end.strftime("%Y%m%d"));
    let separator = if line.starts_with('{') { ' ' } else { ',' };
    format!("{options}{separator}{}", line.replace("{key}", key))
}

/// The file with a line more, as it is now.
fn with_line(path: &Path, why: &str, line: &str) -> Result<Step> {
    let Thing::File(found) = install::look(path)? else {
        return Err(Error::new(Kind::Changed, "the file that was just written is not there").with_path(path.display().to_string()));
    };
    let text =
        String::from_utf8(found.content).map_err(|_| Error::new(Kind::Config, "not UTF-8 text").with_path(path.display().to_string()))?;
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let step = super::step::file(path, why, format!("{text}{end}{line}\n"));
    let Step::File { path, why, text: new, mode, owner, group, .. } = step else { return Err(Error::new(Kind::Internal, "no file")) };
    let before = Some(Before { text, mode: found.mode, uid: found.uid, gid: found.gid });
    Ok(Step::File { path, why, text: new, mode, owner, group, before })
}

/// Logs in and asks: who am I, a small script, and something that is refused. What [`for_the_try`] says must be on the host.
///
/// # Errors
/// [`Kind::Config`] with what came back instead, and what sshd said.
pub fn login(wanted: &Try, key: &TryKey, door: Door) -> Result<()> {
    let principal = if wanted.mapped || matches!(wanted.way, Way::Certificate { .. }) { TRIED } else { &wanted.principal };
    let asked = |what: &str, arguments: &[&str], input: &str, right: &dyn Fn(&Ran) -> bool| -> Result<()> {
        let (ran, said) = ssh(wanted, key, door, arguments, input)?;
        if right(&ran) { Ok(()) } else { Err(failure(wanted, what, &ran, &said)) }
    };
    let is_principal = |ran: &Ran| {
        let answer: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
        let seen = answer.pointer("/identity/principal").or_else(|| answer.pointer("/value/identity/principal"));
        ran.code == Some(0) && seen.and_then(serde_json::Value::as_str) == Some(principal)
    };
    asked(&format!("be `{principal}`"), &["rex", "whoami", "--json"], "", &is_principal)?;
    asked("run a script", &["rex"], "40 + 2\n", &|ran| ran.code == Some(0) && ran.stdout.trim() == "42")?;
    asked("be refused a shell", &["id"], "", &|ran| ran.code == Some(2) && ran.stdout.is_empty())?;
    if wanted.way == Way::Subsystem {
        let answer = |ran: &Ran| ran.code == Some(0) && ran.stdout.contains("42");
        asked("run a script through the subsystem", &["-s", "rex"], "40 + 2\n", &answer)?;
    }
    Ok(())
}

fn failure(wanted: &Try, what: &str, ran: &Ran, said: &str) -> Error {
    let cut = |text: &str| text.trim().chars().take(1500).collect::<String>();
    let code = ran.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
    // Of sshd's own words the last are those that say why.
    let tail: Vec<&str> = said.lines().rev().take(8).collect();
    let tail = tail.into_iter().rev().map(|line| format!("\n  sshd: {}", line.trim())).collect::<String>();
    Error::new(
        Kind::Config,
        format!(
            "a login as `{}` did not end as it has to ({what}): exit code {code}: {} {}",
            wanted.account,
            cut(&ran.stdout),
            cut(&ran.stderr)
        ),
    )
    .with_hint(format!("AllowUsers, AllowGroups, access.conf or a firewall may keep the account out{tail}"))
}

/// One connection; gives also what sshd said where it was started for it.
fn ssh(wanted: &Try, key: &TryKey, door: Door, arguments: &[&str], input: &str) -> Result<(Ran, String)> {
    let client = tool("ssh", "openssh-client")?;
    let (inetd, address) = match door {
        Door::At(address) => (None, address),
        Door::Beside => {
            let sshd = Sshd::find(None)?;
            let config = sshd.config.to_string_lossy().into_owned();
            let inetd = Inetd::wait(&sshd.program, &["-i", "-e", "-f", &config, "-o", "LogLevel=VERBOSE"], LOGIN)?;
            let address = inetd.address();
            (Some(inetd), address)
        }
    };
    let (known, identity) = (format!("UserKnownHostsFile={}", key.path("known_hosts")), key.path("key"));
    let (port, host) = (address.port().to_string(), format!("{}@{}", wanted.account, address.ip()));
    let mut all = vec!["-F", "none", "-T", "-p", &port, "-i", &identity];
    for option in [
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "BatchMode=yes",
        "ConnectTimeout=20",
        "LogLevel=ERROR",
        "StrictHostKeyChecking=no",
        "GlobalKnownHostsFile=/dev/null",
        "ControlPath=none",
        &known,
    ] {
        all.extend(["-o", option]);
    }
    let (options, request): (Vec<&str>, Vec<&str>) = arguments.iter().partition(|word| **word == "-s");
    all.extend(options);
    all.push(&host);
    all.extend(request);
    let ran = program::run(&client, &all, input.as_bytes(), LOGIN);
    // Where the client failed before it connected, nobody else does.
    if let Some(inetd) = &inetd {
        let _ = answers(inetd.address(), PAUSE);
    }
    Ok((ran?, inetd.map(Inetd::said).unwrap_or_default()))
}

/// Where rex's own server listens, by rex.toml.
///
/// # Errors
/// [`Kind::Unavailable`] when it does not answer.
pub fn server() -> Result<Door> {
    let text = crate::os::facts::text(Path::new(REX_TOML), 1 << 20)?.unwrap_or_default();
    let config = crate::config::Config::parse(&text, Path::new(REX_TOML))?;
    let addresses: Vec<SocketAddr> = config.serve.listen.iter().filter_map(|text| text.parse().ok()).collect();
    for _ in 0..SETTLE {
        if let Some(address) = addresses.iter().find(|address| answers(**address, PAUSE * 10)) {
            return Ok(Door::At(*address));
        }
        program::wait(PAUSE);
    }
    Err(Error::new(Kind::Unavailable, "rex serve does not answer where rex.toml says it listens")
        .with_hint("`journalctl -u rex.service` says why"))
}

/// What is left of tries that were killed: folders with keys that nobody uses.
pub fn sweep() {
    for name in crate::os::facts::names(Path::new("/run"), 1 << 16).unwrap_or_default() {
        if name.to_string_lossy().starts_with("rex-setup") {
            let _ = install::remove_made(&PathBuf::from("/run").join(name));
        }
    }
}
