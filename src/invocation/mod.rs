//! What is asked: argv, argv\[0\] and SSH_ORIGINAL_COMMAND become an [`Invocation`]. Pure: no file, no system call, no look at the environment.
//!
//! Two kinds of text meet here and are never mixed. The host's owner writes argv (a forced command, a Subsystem line, an authorized_keys
//! line); only there do `--config`, `--principal`, `--subsystem` and `--identity-fd` exist. The client writes a request; it has a grammar
//! of its own ([`request`]) without such options, and without a place for them in its result.
//!
//! sshd starts a login shell with `-c TEXT` for a forced command and for a client's own words alike, so where rex is the login shell
//! ([`Door::LoginShellCommand`]) TEXT may have been written by the client and no option in it counts.
//!
//! Lines for the host's owner: `ForceCommand exec /usr/bin/rex session`, `Subsystem rex /usr/bin/rex session --subsystem` and
//! `Subsystem rex-mcp /usr/bin/rex session --subsystem mcp`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};

pub mod arguments;
pub mod request;
pub mod words;

pub use arguments::Argument;
pub use request::{Check, Format, Request, Run, Source, Verb, help, unavailable};
pub use words::MAX_REQUEST;

use words::{nearest, shown, usage};

/// How rex was started.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per process")]
pub enum Invocation {
    /// The owner's own command line: argv after argv\[0\]. It cannot begin with `session` or `-c`.
    Local(Vec<OsString>),
    /// Somebody's session through sshd, `rex serve` or the login shell.
    Session(Session),
}

/// A session. The first four fields come from the owner's argv only; through a login shell's door they are empty but for `subsystem`.
#[derive(Clone, Debug)]
pub struct Session {
    /// An absolute path.
    pub config: Option<PathBuf>,
    /// Not empty, no control characters, at most 256 bytes.
    pub principal: Option<String>,
    /// Also set where a forced session turns out to be a subsystem request that sshd diverted.
    pub subsystem: Subsystem,
    /// At least 3.
    pub identity_fd: Option<i32>,
    pub door: Door,
    pub asked: Asked,
}

/// Which subsystem the session is. sshd throws the stderr of any of them away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subsystem {
    #[default]
    None,
    Rex,
    Mcp,
}

/// The way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `rex session …`, a line of the host's owner run by a plain shell.
    Forced,
    /// rex is the login shell and got `-c TEXT`.
    LoginShellCommand,
    /// rex is the login shell and got no command.
    LoginShellLogin,
}

/// What the client said. Refusals are values, so that the session they belong to can be recorded with them.
#[derive(Clone, Debug)]
pub enum Asked {
    /// No request text: the script is on stdin.
    Stdin,
    Request(Request),
    /// A request for another program (scp, sftp-server, a shell …); its first word, escaped and cut.
    Foreign {
        first_word: String,
    },
    /// No request of the grammar; why.
    Malformed(Error),
}

impl Session {
    /// What is asked for. No text means: run the script on stdin.
    ///
    /// # Errors
    /// The refusal of a foreign or malformed request ([`Kind::Usage`] or [`Kind::Arguments`], exit 2), to be given at once: nothing on stdout,
    /// stdin not read.
    pub fn verb(&self) -> Result<Verb> {
        match &self.asked {
            Asked::Stdin if self.subsystem == Subsystem::Mcp => Ok(Verb::Mcp),
            Asked::Stdin => Ok(Verb::Run(Run::default())),
            Asked::Request(request) => Ok(request.verb.clone()),
            Asked::Foreign { first_word } => Err(foreign(first_word)),
            Asked::Malformed(error) => Err(error.clone()),
        }
    }

    /// The format of results where the request names none.
    #[must_use]
    pub fn default_format(&self) -> Format {
        if self.subsystem == Subsystem::None { Format::Human } else { Format::Json }
    }
}

/// Works out how rex was started.
///
/// `argv` is the whole argument vector; `ssh_original_command` has the value of **every** occurrence of that name in the environment. It is
/// looked at only where the owner's line, or a `rex session` text given to the login shell, says that a request may be in it; set to
/// nothing it is as if not set.
///
/// # Errors
/// [`Kind::Usage`] for an argument vector that no way in produces; [`Kind::Config`] for a wrong line of the host's owner.
pub fn from_process(argv: &[OsString], ssh_original_command: &[OsString]) -> Result<Invocation> {
    let Some((program, rest)) = argv.split_first().filter(|(program, _)| !program.is_empty()) else {
        return Err(usage("started without a program name"));
    };
    let program = program.as_bytes();
    // login(1), sshd and su mark a login shell by a dash in front of its name.
    let login = program.starts_with(b"-");
    let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if login || name == b"rexsh" || rest.first().is_some_and(|first| first == "-c") {
        return login_shell(rest, ssh_original_command).map(Invocation::Session);
    }
    match rest.split_first() {
        Some((first, options)) if first == "session" => forced(options, ssh_original_command).map(Invocation::Session),
        _ => Ok(Invocation::Local(rest.to_vec())),
    }
}

/// Reads the text of a request, e.g. an exec request of an SSH channel. No words, or the line of a subsystem, mean: script on stdin.
///
/// # Errors
/// [`Kind::Usage`] or [`Kind::Arguments`] (both exit 2) for anything that is not in the grammar.
pub fn parse_request(text: &[u8]) -> Result<Request> {
    Session::bare(Door::Forced).with_line(read(text)).verb().map(|verb| Request { verb })
}

/// The refusal of a request for another program; `first_word` as in [`Asked::Foreign`].
fn foreign(first_word: &str) -> Error {
    usage(format!("this account accepts only rex requests, and `{first_word}` is none"))
        .with_hint("`rex help` lists what can be asked; ssh HOST rex < script.rhai runs a script")
}

/// What a text from outside turns out to be.
#[expect(clippy::large_enum_variant, reason = "there is one per process")]
enum Line {
    Nothing,
    /// `[exec] …/rex session …`: a line of the host's owner, or something that looks like one; the words behind `session`.
    Session(Vec<String>),
    Request(Request),
    Foreign(String),
}

fn read(text: &[u8]) -> Result<Line> {
    let words = words::split(words::text(text)?)?;
    let Some((first, rest)) = words.split_first() else { return Ok(Line::Nothing) };
    let program = |word: &str, name: &str| word == name || word.strip_suffix(name).is_some_and(|folder| folder.ends_with('/'));
    let line = if first == "exec" { rest } else { &words };
    if let [called, session, options @ ..] = line
        && (program(called, "rex") || program(called, "rexsh"))
        && session == "session"
    {
        return Ok(Line::Session(options.to_vec()));
    }
    if program(first, "rex") { request::parse(rest).map(Line::Request) } else { Ok(Line::Foreign(shown(first))) }
}

impl Session {
    fn bare(door: Door) -> Self {
        Self { config: None, principal: None, subsystem: Subsystem::None, identity_fd: None, door, asked: Asked::Stdin }
    }

    /// Adds what the client's text turned out to be.
    fn with_line(mut self, line: Result<Line>) -> Self {
        self.asked = match line {
            Ok(Line::Nothing) => Asked::Stdin,
            Ok(Line::Session(options)) => match subsystem_only(&options) {
                Ok(subsystem) => {
                    // The owner's own word, where there is one, is not changed by the client's.
                    if self.subsystem == Subsystem::None {
                        self.subsystem = if subsystem == Subsystem::None { Subsystem::Rex } else { subsystem };
                    }
                    Asked::Stdin
                }
                Err(option) => Asked::Malformed(usage(format!(
                    "`{}` behind `rex session` is for the owner of this host and no part of a request",
                    shown(option)
                ))),
            },
            Ok(Line::Request(_) | Line::Foreign(_)) if self.subsystem != Subsystem::None => {
                Asked::Malformed(usage("this is a subsystem session: it takes its script from stdin and no request"))
            }
            Ok(Line::Request(request)) => Asked::Request(request),
            Ok(Line::Foreign(first_word)) => Asked::Foreign { first_word },
            Err(error) => Asked::Malformed(error),
        };
        self
    }

    /// Adds what is in SSH_ORIGINAL_COMMAND.
    fn with_original_command(self, occurrences: &[OsString]) -> Self {
        match occurrences {
            [] => self,
            [one] => self.with_line(read(one.as_bytes())),
            // sshd sets it once; which of two a program sees depends on who looks.
            _ => self.with_line(Err(usage("SSH_ORIGINAL_COMMAND is set more than once"))),
        }
    }
}

/// The subsystem that the options of a `rex session` line name, if they do nothing else; else the option that does.
fn subsystem_only(options: &[String]) -> std::result::Result<Subsystem, &str> {
    match options.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(Subsystem::None),
        ["--subsystem"] | ["--subsystem", "rex"] | ["--subsystem=rex"] => Ok(Subsystem::Rex),
        ["--subsystem", "mcp"] | ["--subsystem=mcp"] => Ok(Subsystem::Mcp),
        ["--subsystem", other, ..] | [other, ..] => Err(other),
    }
}

/// rex as login shell. Nothing that it is given can be told from what a client may have typed, so there are no options.
fn login_shell(rest: &[OsString], original: &[OsString]) -> Result<Session> {
    match rest {
        [] => Ok(Session::bare(Door::LoginShellLogin)),
        [option, text] if option == "-c" => {
            let session = Session::bare(Door::LoginShellCommand);
            match read(text.as_bytes()) {
                Ok(Line::Session(options)) => {
                    let subsystem = subsystem_only(&options).map_err(|option| {
                        Error::new(
                            Kind::Config,
                            format!("`{}` behind `rex session` has no effect where rex is the login shell, so nothing runs", shown(option)),
                        )
                        .with_hint("give the account /bin/sh as its shell and keep the line as its forced command")
                    })?;
                    Ok(Session { subsystem, ..session }.with_original_command(original))
                }
                line => Ok(session.with_line(line)),
            }
        }
        _ => Err(usage("as a login shell rex takes `-c REQUEST` or nothing")),
    }
}

/// `rex session …`: the options of the owner's line, then the client's request.
fn forced(options: &[OsString], original: &[OsString]) -> Result<Session> {
    let mut session = Session::bare(Door::Forced);
    let mut options = options.iter().map(OsString::as_os_str).peekable();
    while let Some(word) = options.next() {
        let (name, attached) = split_option(word);
        let mut value =
            || attached.or_else(|| options.next_if(|next| !next.as_bytes().starts_with(b"-"))).filter(|value| !value.is_empty());
        let again = match name {
            b"--config" => {
                let path = value().map(PathBuf::from).filter(|path| path.is_absolute());
                session.config.replace(path.ok_or_else(|| owners("`--config` needs the absolute path of a file"))?).is_some()
            }
            b"--principal" => {
                let name = value().and_then(OsStr::to_str).filter(|name| name.len() <= 256 && !name.contains(char::is_control));
                let name = name.ok_or_else(|| owners("`--principal` needs a name of 1 to 256 bytes of text without control characters"))?;
                session.principal.replace(name.to_owned()).is_some()
            }
            b"--subsystem" => {
                let subsystem = match value().map(OsStr::as_bytes) {
                    None if attached.is_none() => Subsystem::Rex,
                    Some(b"rex") => Subsystem::Rex,
                    Some(b"mcp") => Subsystem::Mcp,
                    _ => return Err(owners("`--subsystem` is `rex` or `mcp`")),
                };
                std::mem::replace(&mut session.subsystem, subsystem) != Subsystem::None
            }
            b"--identity-fd" => {
                let number = value().and_then(OsStr::to_str).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let number = number.and_then(|text| text.parse().ok()).filter(|number| *number >= 3);
                let number = number.ok_or_else(|| owners("`--identity-fd` needs the number of an open file, 3 or more"))?;
                session.identity_fd.replace(number).is_some()
            }
            _ => return Err(no_such_session_option(word)),
        };
        if again {
            return Err(owners(format!("`{}` is there twice", String::from_utf8_lossy(name))));
        }
    }
    Ok(session.with_original_command(original))
}

/// `--name=value` as name and value, anything else as a name.
fn split_option(word: &OsStr) -> (&[u8], Option<&OsStr>) {
    let bytes = word.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=').and_then(|place| bytes.split_at_checked(place)) {
        Some((name, value)) if name.starts_with(b"--") => (name, value.get(1..).map(OsStr::from_bytes)),
        _ => (bytes, None),
    }
}

/// An error in the line that the host's owner wrote for `rex session`; its reader is the owner, who sees it through a client.
fn owners(message: impl std::fmt::Display) -> Error {
    Error::new(Kind::Config, format!("this host's line for `rex session` is wrong: {message}"))
}

fn no_such_session_option(word: &OsStr) -> Error {
    let word = word.to_string_lossy();
    let name = word.split('=').next().unwrap_or_default();
    if matches!(name, "--help" | "-h" | "help") {
        return Error::new(Kind::Config, "`rex session` is what sshd starts for a login, and takes no `--help`")
            .with_hint("its options are --config FILE, --principal NAME, --subsystem NAME and --identity-fd N; `rex --help` lists the owner's commands");
    }
    let error = owners(format!("unknown word `{}`", shown(name)));
    match nearest(name, ["--config", "--principal", "--subsystem", "--identity-fd"]) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None => error,
    }
}

#[cfg(test)]
mod tests;
