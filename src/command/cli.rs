//! The owner's own command line, parsed by clap: a grammar of its own that no request ever reaches.

use super::audit::AuditArgs;
use super::policy::PolicyCommand;
use crate::error::Exit;
use crate::os::process::Environment;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Policy-gated script execution over the SSH that is already there.
#[derive(Parser)]
#[command(name = "rex", version, about, disable_help_subcommand = false, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a script here, under policies: your own run, as the user you are.
    ///
    /// It decides and reports as a session does. What a session has besides, it has not: the principal is who you are or say (`--principal`), its groups
    /// are those of `--group`, principals.toml is not asked, and with `--config` or `--policy` files are believed that a session would refuse
    /// (`rex policy check` finds those).
    Run(RunArgs),
    /// Try policies at a prompt, as any principal: entry by entry, as a login with a terminal does where rex.toml gives it a prompt.
    Repl(ReplArgs),
    /// Check policies, or print their schema.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Explain a denial by its reference, from the records.
    Why {
        /// The reference, e.g. d-7f3a9c-1.
        reference: String,
        /// Files of JSON lines; without any, the file of rex.toml.
        files: Vec<PathBuf>,
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show, follow, count, replay and verify the audit records.
    Audit(Box<AuditArgs>),
    /// The script functions, or the manual of one.
    Functions {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// A function's name.
        name: Option<String>,
    },
    /// Serve sessions with the embedded SSH server (containers, bastions, demos).
    Serve {
        /// The rex.toml; policies, principals.toml and scripts lie beside it.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Listen here instead of where rex.toml says.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Vec<core::net::SocketAddr>,
    },
    /// Judge this host: sshd, accounts, keys, PAM, rex's own files, records, kernel; what an attacker does with each fault, and the mend.
    Doctor(super::doctor::DoctorArgs),
    /// Make this host ready for rex, in steps that are shown, tried and can be taken back.
    Setup(Box<super::setup::SetupArgs>),
    /// Keep sshd's account of a login for the kind of evidence `record`; pam_exec starts it.
    ///
    /// In the PAM service of sshd, after pam_loginuid: `session optional pam_exec.so quiet /usr/bin/rex pam-record`. It takes what it needs from PAM's variables (PAM_TYPE,
    /// SSH_AUTH_INFO_0) and the kernel's audit session, and removes the record when the session is closed.
    PamRecord {
        /// The rex.toml, which says where records are kept.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show the whole of it on this machine: server, policy, script, a denial, the record.
    Demo,
    /// Print completions for a shell.
    Completions { shell: clap_complete::Shell },
    /// Print a manual page (roff), e.g. `rex man rex.toml | man -l -`.
    Man {
        /// Its name, with or without the section: `rex`, `rex-run.1`, `rex.toml`, `principals.toml`, `functions`.
        #[arg(default_value = "rex")]
        page: String,
        /// The names of all pages, a line each.
        #[arg(long, conflicts_with = "page")]
        list: bool,
    },
}

/// Options of `rex run`. The short ones are those of the reference's runner.
#[derive(Args, Default)]
pub struct RunArgs {
    /// The script; `-` is standard input.
    #[arg(value_name = "SCRIPT|NAME=VALUE")]
    pub words: Vec<String>,
    /// The script.
    #[arg(short = 's', long, value_name = "FILE")]
    pub script_file: Option<PathBuf>,
    /// Run this expression.
    #[arg(short = 'e', long, value_name = "EXPR", allow_hyphen_values = true)]
    pub expression: Option<String>,
    /// A policy file, or a folder of *.cedar files; may be given more than once.
    #[arg(short = 'p', long = "policy", visible_alias = "policy-file", value_name = "FILE|DIR")]
    pub policy: Vec<PathBuf>,
    /// A JSON file of arguments, typed as for the reference's runner.
    #[arg(short = 'a', long, value_name = "FILE")]
    pub script_arguments_file: Option<PathBuf>,
    /// Arguments as a JSON object.
    #[arg(long, value_name = "TEXT")]
    pub arguments_json: Option<String>,
    /// The form of the result.
    #[arg(short = 'o', long, value_enum, default_value = "human")]
    pub output_format: OutputFormat,
    /// More on stderr.
    #[arg(short = 'v', long)]
    pub verbose: bool,
    /// The rex.toml; without it and with --policy, the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Run as this principal (User::"NAME"); without it, your Unix user.
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
    /// A group of that principal; may be given more than once.
    #[arg(long, value_name = "NAME")]
    pub group: Vec<String>,
    /// Seconds, or with a unit, e.g. `90s`, `5m`, `1h`; can only lower the limit of rex.toml.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub timeout: Option<std::time::Duration>,
    /// Change nothing: what would be changed is judged, recorded and shown.
    #[arg(long)]
    pub dry_run: bool,
    /// Learning run, for root at a local command line alone: what policies do not permit is done all the same if it only looks, recorded, and
    /// proposed in this new file. Forbids hold, closed and sensitive places stay shut.
    #[arg(long, value_name = "FILE")]
    pub learn: Option<PathBuf>,
    /// Let the learning run change things too: only for scripts that you would run as root without rex.
    #[arg(long, requires = "learn")]
    pub learn_changes: bool,
}

/// Options of `rex repl`, which mean what they mean for `rex run`.
#[derive(Args, Default)]
pub struct ReplArgs {
    /// A policy file, or a folder of *.cedar files; may be given more than once.
    #[arg(short = 'p', long = "policy", visible_alias = "policy-file", value_name = "FILE|DIR")]
    pub policy: Vec<PathBuf>,
    /// The rex.toml; without it and with --policy, the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sit there as this principal (User::"NAME"); without it, your Unix user.
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
    /// A group of that principal; may be given more than once.
    #[arg(long, value_name = "NAME")]
    pub group: Vec<String>,
}

impl ReplArgs {
    /// The same as options of `rex run`.
    #[must_use]
    pub fn as_of_a_run(&self) -> RunArgs {
        RunArgs {
            policy: self.policy.clone(),
            config: self.config.clone(),
            principal: self.principal.clone(),
            group: self.group.clone(),
            ..RunArgs::default()
        }
    }
}

/// A time: seconds, or a number with a unit.
fn span(text: &str) -> Result<std::time::Duration, String> {
    let units = [("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
    let (number, unit) = units.iter().find_map(|(name, size)| text.strip_suffix(name).map(|rest| (rest, *size))).unwrap_or((text, 1.0));
    let seconds = number.trim().parse::<f64>().ok().map(|number| number * unit);
    seconds
        .and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "expected seconds, or a time such as `90s`, `5m` or `1h`".to_owned())
}

/// What is asked over ssh, and how the owner asks it here.
const OVER_SSH: &[(&str, &str)] = &[
    ("can", "here: `rex policy explain ACTION RESOURCE --principal NAME --group GROUP`"),
    ("whoami", "here nobody is logged in through rex; `rex run --principal NAME` runs a script as somebody"),
    ("check", "here: `rex policy check` for policies, `rex run --dry-run SCRIPT` for a script"),
    ("api", "here: `rex functions --json`"),
];

/// The form of a result.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum OutputFormat {
    #[default]
    Human,
    Json,
    PrettyJson,
    Ndjson,
}

/// Runs the owner's command; gives the exit code.
#[must_use]
pub fn run(words: Vec<OsString>, environment: &Environment) -> u8 {
    let first = words.first().and_then(|word| word.to_str()).map(str::to_owned);
    let asked = first.as_deref();
    let argv = std::iter::once(OsString::from("rex")).chain(words);
    let cli = match Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render().to_string();
            return if error.use_stderr() {
                super::say(text.trim_end());
                if let Some((word, here)) = asked.and_then(|word| OVER_SSH.iter().find(|(known, _)| *known == word)) {
                    super::say(&format!("  hint: `{word}` is asked over ssh: ssh HOST rex {word}; {here}"));
                }
                Exit::Usage as u8
            } else {
                super::show(&text)
            };
        }
    };
    match cli.command {
        Command::Run(args) => super::local::run(args, environment),
        Command::Repl(args) => super::prompt::local(&args, environment),
        Command::Policy(command) => super::policy::run(command),
        Command::Why { reference, files, config, json } => super::why::run(&reference, &files, config.as_deref(), json),
        Command::Audit(args) => super::audit::run(&args),
        Command::Functions { json, name } => match super::verbs::functions(json, name.as_deref()) {
            Ok(code) => code,
            Err(error) => super::local::failed(&error),
        },
        Command::Serve { config, listen } => super::serve::run(config.as_deref(), &listen),
        Command::Doctor(args) => super::doctor::run(&args),
        Command::Setup(args) => super::setup::run(*args, environment),
        Command::PamRecord { config } => super::pam_record::run(config.as_deref(), environment),
        Command::Demo => super::demo::run(),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rex", &mut text);
            super::show(&String::from_utf8_lossy(&text))
        }
        Command::Man { list: true, .. } => super::show(&super::man::list()),
        Command::Man { page, .. } => match super::man::page(&page) {
            Ok(text) => super::show(&text),
            Err(error) => super::local::failed(&error),
        },
    }
}
