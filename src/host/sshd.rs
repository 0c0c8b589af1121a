//! The sshd of this host: where it is, which version, whether its configuration is valid, and what really holds for a connection (`sshd -T -C`).

use super::sshd_text::{self, Text};
use crate::error::{Error, Kind, Result};
use crate::os::program::{Ran, ask};
use crate::os::{facts, trusted};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where distributions and sshd's own `make install` put it, with the configuration that each reads.
const PLACES: &[(&str, &str)] = &[
    ("/usr/sbin/sshd", "/etc/ssh/sshd_config"),
    ("/sbin/sshd", "/etc/ssh/sshd_config"),
    ("/usr/bin/sshd", "/etc/ssh/sshd_config"),
    ("/usr/local/sbin/sshd", "/usr/local/etc/sshd_config"),
];
/// Where a distribution keeps its own text while the owner has none.
const OF_VENDOR: &str = "/usr/etc/ssh/sshd_config";
/// sshd reads a few files for an answer; a home on a dead network filesystem must not hold it up.
const LIMIT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 1 << 20;

/// A program and the configuration that it is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sshd {
    pub program: PathBuf,
    /// The main file of its configuration.
    pub config: PathBuf,
    /// Whether that file was named by whoever asks (`-f`), and is not where sshd looks by itself.
    named: bool,
}

/// A release of OpenSSH, e.g. 9.2p1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    /// As sshd says it, e.g. `OpenSSH_9.2p1 Debian-2+deb12u10`.
    pub text: String,
    /// The version of the package that it is from, e.g. `1:9.2p1-2+deb12u10`, where dpkg or rpm tell.
    pub package: Option<String>,
}

impl Version {
    #[must_use]
    pub fn is_before(&self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) < (major, minor)
    }
    /// The number of the update for a Debian release, e.g. `("12", 10)` of `…+deb12u10`.
    #[must_use]
    pub fn debian_update(&self) -> Option<(&str, u32)> {
        let (release, update) = self.package.as_deref().unwrap_or(&self.text).rsplit_once("+deb")?.1.split_once('u')?;
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        Some((release, update.get(..digits(update))?.parse().ok()?))
    }
}

/// A connection to ask about, as `sshd -T -C` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub user: String,
    pub host: String,
    pub address: String,
    pub local_address: String,
    pub local_port: u16,
    /// Only for a configuration that speaks of routing domains.
    pub routing_domain: Option<String>,
}

impl Connection {
    /// From somewhere on the internet (RFC 5737) to port 22.
    #[must_use]
    pub fn of(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            host: "client.example".to_owned(),
            address: "192.0.2.1".to_owned(),
            local_address: "198.51.100.1".to_owned(),
            local_port: 22,
            routing_domain: None,
        }
    }
    /// The argument of `-C`.
    fn words(&self) -> Result<String> {
        let mut words =
            format!("user={},host={},addr={},laddr={},lport={}", self.user, self.host, self.address, self.local_address, self.local_port);
        if let Some(domain) = &self.routing_domain {
            words.push_str(",rdomain=");
            words.push_str(domain);
        }
        let parts = [&self.user, &self.host, &self.address, &self.local_address];
        if parts.iter().any(|part| part.is_empty() || part.contains(',') || part.contains(char::is_control)) {
            return Err(Error::new(Kind::BadArgument, format!("sshd cannot be asked about `{}`", words.escape_debug())));
        }
        Ok(words)
    }
}

/// The settings that hold, as `sshd -T` prints them. Keywords are compared without case; some stand more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    settings: Vec<(String, String)>,
}

impl Effective {
    /// From the lines of `sshd -T`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let settings = text.lines().filter_map(|line| {
            let (keyword, value) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
            (!keyword.is_empty()).then(|| (keyword.to_ascii_lowercase(), value.trim().to_owned()))
        });
        Self { settings: settings.collect() }
    }
    /// The keywords, in order, in lower case.
    pub fn keywords(&self) -> impl Iterator<Item = &str> {
        self.settings.iter().map(|(keyword, _)| keyword.as_str())
    }
    /// Every value of a keyword, in order.
    pub fn all<'a>(&'a self, keyword: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let keyword = keyword.to_owned();
        self.settings.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(&keyword)).map(|(_, value)| value.as_str())
    }
    /// The first value of a keyword. None: this sshd does not know it.
    #[must_use]
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.all(keyword).next()
    }
    /// Whether the keyword has this value (`yes`, `none` …), without case.
    #[must_use]
    pub fn is(&self, keyword: &str, value: &str) -> bool {
        self.get(keyword).is_some_and(|known| known.eq_ignore_ascii_case(value))
    }
    /// Words of all values of a keyword (`AcceptEnv`, `AuthorizedKeysFile` …).
    pub fn words<'a>(&'a self, keyword: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.all(keyword).flat_map(str::split_ascii_whitespace)
    }
    /// The forced command; None where there is none.
    #[must_use]
    pub fn forced(&self) -> Option<&str> {
        self.get("forcecommand").filter(|command| !command.eq_ignore_ascii_case("none"))
    }
    /// Name and command line of each subsystem.
    pub fn subsystems(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all("subsystem").map(|value| value.split_once(' ').unwrap_or((value, "")))
    }
    /// What `SetEnv` gives a variable; None where it says nothing of it. The first counts (sshd_config(5)).
    #[must_use]
    pub fn set_env(&self, name: &str) -> Option<&str> {
        // A pair on each line, its value as it is set: without quotes, perhaps with blanks.
        self.all("setenv").find_map(|pair| pair.split_once('=').filter(|(known, _)| *known == name).map(|(_, value)| value))
    }
    /// Whether `AcceptEnv` lets the client send a variable of this name.
    #[must_use]
    pub fn accepts(&self, name: &str) -> bool {
        self.words("acceptenv").any(|pattern| sshd_text::fits(pattern, name))
    }
}

/// A daemon that listens, as /proc shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    pub pid: u32,
    /// Its command line as it was started, the program first.
    pub words: Vec<String>,
}

impl Sshd {
    /// The sshd of this host. `config`: another main file than the one that it reads by itself.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where there is none.
    pub fn find(config: Option<&Path>) -> Result<Self> {
        let (program, own) = PLACES.iter().find(|(program, _)| Path::new(program).is_file()).ok_or_else(|| {
            Error::new(Kind::Unsupported, "`sshd` is not on this machine")
                .with_hint("install it, on Debian: apt-get install openssh-server")
        })?;
        let own = if !Path::new(own).exists() && Path::new(OF_VENDOR).exists() { OF_VENDOR } else { own };
        Ok(Self {
            program: PathBuf::from(program),
            config: config.map_or_else(|| PathBuf::from(own), Path::to_path_buf),
            named: config.is_some(),
        })
    }

    fn ask(&self, arguments: &[&str]) -> Result<Ran> {
        let config = self.config.to_string_lossy();
        let mut all = arguments.to_vec();
        if self.named {
            all.extend(["-f", &config]);
        }
        ask(&self.program, &all, LIMIT, MAX_ANSWER)
    }

    /// # Errors
    /// Where it does not say what it is.
    pub fn version(&self) -> Result<Version> {
        // Older versions do not know -V, and say what they are when they complain of it.
        let ran = ask(&self.program, &["-V"], LIMIT, MAX_ANSWER)?;
        let said = format!("{}\n{}", ran.stderr, ran.stdout);
        let line = said.lines().find(|line| line.starts_with("OpenSSH_"));
        let line = line.ok_or_else(|| Error::new(Kind::BadData, format!("{} does not say its version", self.program.display())))?;
        let text = line.split(", ").next().unwrap_or(line).trim().to_owned();
        let (major, minor) = number(&text).ok_or_else(|| Error::new(Kind::BadData, format!("`{}` is no version", text.escape_debug())))?;
        Ok(Version { major, minor, text, package: self.package() })
    }

    fn package(&self) -> Option<String> {
        let asked: [(&str, &[&str]); 2] = [
            ("/usr/bin/dpkg-query", &["-W", "-f", "${Version}", "openssh-server"]),
            ("/usr/bin/rpm", &["-q", "--qf", "%{VERSION}-%{RELEASE}", "openssh-server"]),
        ];
        // One that was built on the host is not the package's.
        if !self.program.starts_with("/usr/sbin") && !self.program.starts_with("/usr/bin") && !self.program.starts_with("/sbin") {
            return None;
        }
        asked.iter().filter(|(program, _)| Path::new(program).is_file()).find_map(|(program, arguments)| {
            let ran = ask(Path::new(program), arguments, LIMIT, 4096).ok().filter(|ran| ran.code == Some(0))?;
            Some(ran.stdout.trim().to_owned()).filter(|version| !version.is_empty())
        })
    }

    /// Whether the configuration is valid (`sshd -t`). As root: it reads the host keys.
    ///
    /// # Errors
    /// [`Kind::Config`] with sshd's own words.
    pub fn test(&self) -> Result<()> {
        let ran = self.ask(&["-t"])?;
        if ran.code == Some(0) { Ok(()) } else { Err(refused("sshd -t", &ran)) }
    }

    /// What holds for a connection, every Match block considered. As root.
    ///
    /// # Errors
    /// [`Kind::Config`] with sshd's own words, where the configuration is not valid or sshd may not look.
    pub fn effective(&self, connection: &Connection) -> Result<Effective> {
        let ran = self.ask(&["-T", "-C", &connection.words()?])?;
        if ran.code == Some(0) { Ok(Effective::parse(&ran.stdout)) } else { Err(refused("sshd -T", &ran)) }
    }

    /// The lines of its configuration, included files in their places.
    ///
    /// # Errors
    /// Where the main file cannot be read.
    pub fn text(&self) -> Result<Text> {
        sshd_text::read(&self.config)
    }

    /// The folder of drop-ins, where the main file includes one (`Include FOLDER/*.conf`) before its first Match block.
    ///
    /// # Errors
    /// As [`Sshd::text`].
    pub fn drop_ins(&self) -> Result<Option<PathBuf>> {
        Ok(self.text()?.drop_ins())
    }

    /// The daemons of this program that listen now.
    #[must_use]
    pub fn daemons(&self) -> Vec<Daemon> {
        let pids = facts::names(Path::new("/proc"), 1 << 22).unwrap_or_default();
        let pids = pids.iter().filter_map(|name| name.to_str()?.parse::<u32>().ok());
        let own = trusted::real_path(self.program.clone());
        pids.filter_map(|pid| {
            // sshd writes over its command line: `sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups`.
            let line = facts::text(Path::new(&format!("/proc/{pid}/cmdline")), 1 << 16).ok().flatten()?;
            let (words, _) = line.strip_prefix("sshd: ")?.split_once(" [listener]")?;
            let exe = facts::link(Path::new(&format!("/proc/{pid}/exe")));
            // Without the right to look at it, its name must do.
            let same = exe.is_none_or(|exe| exe == own || exe.to_string_lossy() == format!("{} (deleted)", own.display()));
            same.then(|| Daemon { pid, words: words.split_ascii_whitespace().map(str::to_owned).collect() })
        })
        .collect()
    }
}

/// `OpenSSH_9.2p1` → 9, 2.
fn number(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.strip_prefix("OpenSSH_")?.split_once('.')?;
    let minor = rest.get(..rest.bytes().take_while(u8::is_ascii_digit).count())?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn refused(what: &str, ran: &Ran) -> Error {
    let said: Vec<&str> = ran.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).take(5).collect();
    let said = if said.is_empty() { "it says nothing".to_owned() } else { said.join("; ") };
    let error = Error::new(Kind::Config, format!("{what}: {said}"));
    if said.contains("privilege separation directory") {
        // Debian makes it when the service starts; with socket activation there is none in between (debian bug 864190 and others).
        return error.with_hint("install -d -m 755 /run/sshd");
    }
    if said.contains("no hostkeys available") { error.with_hint("run it as root: sshd looks at its host keys first") } else { error }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        assert_eq!(number("OpenSSH_9.2p1 Debian-2+deb12u10"), Some((9, 2)));
        assert_eq!(number("OpenSSH_10.0p2"), Some((10, 0)));
        assert_eq!(number("OpenSSH_for_Windows"), None);
        let version = Version { major: 9, minor: 2, text: "OpenSSH_9.2".into(), package: Some("1:9.2p1-2+deb12u10".into()) };
        assert!(version.is_before(9, 4) && version.is_before(10, 0) && !version.is_before(9, 2) && !version.is_before(8, 9));
        assert_eq!(version.debian_update(), Some(("12", 10)));
        assert_eq!(Version { package: Some("9.6p1-3ubuntu13".into()), ..version }.debian_update(), None);
    }

    #[test]
    fn settings_are_found_without_case_and_more_than_once() {
        let effective = Effective::parse(
            "port 22\nForceCommand exec /usr/bin/rex session\nacceptenv LANG\nacceptenv LC_*\nsetenv PATH=/usr/bin:/bin\nsetenv LD_PRELOAD=\n\
             setenv LANG=a b\nsubsystem sftp internal-sftp -l INFO\npermittty no\nbanner none\nauthorizedkeysfile a b\n",
        );
        assert_eq!((effective.get("Port"), effective.get("nothing")), (Some("22"), None));
        assert_eq!(effective.forced(), Some("exec /usr/bin/rex session"));
        assert_eq!(Effective::parse("forcecommand none\n").forced(), None);
        assert!(effective.is("permitTTY", "NO") && !effective.is("banner", "no"));
        assert!(effective.accepts("LC_ALL") && effective.accepts("LANG") && !effective.accepts("LANGUAGE"));
        assert_eq!(
            (effective.set_env("LD_PRELOAD"), effective.set_env("PATH"), effective.set_env("ENV")),
            (Some(""), Some("/usr/bin:/bin"), None)
        );
        assert_eq!(effective.subsystems().collect::<Vec<_>>(), [("sftp", "internal-sftp -l INFO")]);
        assert_eq!(effective.words("AuthorizedKeysFile").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_name_that_would_be_another_question_is_not_asked() {
        assert_eq!(Connection::of("a").words().unwrap(), "user=a,host=client.example,addr=192.0.2.1,laddr=198.51.100.1,lport=22");
        assert!(Connection::of("a,addr=127.0.0.1").words().is_err() && Connection::of("").words().is_err());
    }

    #[test]
    fn the_sshd_of_this_host_answers() {
        let Ok(sshd) = Sshd::find(None) else { return };
        assert!(sshd.version().unwrap().major >= 7);
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("sshd_config");
        std::fs::write(&config, "HostKey /nonexistent/key\nNoSuchKeyword yes\n").unwrap();
        let error = Sshd::find(Some(&config)).unwrap().test().unwrap_err();
        assert!(error.kind == Kind::Config, "{error:?}");
    }
}
