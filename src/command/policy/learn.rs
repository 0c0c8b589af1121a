//! `rex policy learn`: from recorded denials to a proposed policy with its tests, shown as the difference to the present set.

use super::records::RecordArgs;
use crate::config::Config;
use crate::error::{Error, Exit, Kind, Result, counted};
use crate::os::trusted::{NewFile, Owner};
use crate::policy::learn::{Learner, Noted, Proposal, Wanted, is_learned};
use crate::policy::{ClosedTo, Open, Replay, Source};
use crate::resource::closed::Closed;
use crate::terms::OwnersFiles;
use clap::Args;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What to propose, and from which records.
#[derive(Args, Clone, Default)]
pub struct LearnArgs {
    #[command(flatten)]
    pub records: RecordArgs,
    /// Write the permits for this group, from what its members asked.
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Propose for what was allowed too, e.g. to replace a broad policy by what is used of it.
    #[arg(long)]
    pub all: bool,
    /// Make one permit of two things or more below this folder; may be given more than once. Sensitive places are never merged.
    #[arg(long, value_name = "PATH")]
    pub folder: Vec<String>,
    /// Propose this sensitive thing too: a path, or an entity in Cedar notation; may be given more than once.
    #[arg(long, value_name = "RESOURCE")]
    pub include: Vec<String>,
    /// The present policies, a file or a folder; without any, those of rex.toml.
    #[arg(short = 'p', long = "policy", value_name = "FILE|DIR")]
    pub policy: Vec<PathBuf>,
    /// The rex.toml; policies lie beside it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write the proposal here, and its tests beside it. Nothing is overwritten.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Reads, proposes, shows; gives the exit code.
#[must_use]
pub fn run(args: &LearnArgs) -> u8 {
    match try_run(args) {
        Ok(code) => code,
        Err(error) => super::super::local::failed(&error),
    }
}

/// The policies in force, and what else decides.
pub struct Present {
    pub sources: Vec<Source>,
    pub open: Open,
    pub closed: ClosedTo,
    /// rex's own places on this host.
    pub own: Vec<String>,
}

impl Present {
    /// Those of rex.toml, or those that are named. None at all is an empty set.
    ///
    /// # Errors
    /// [`Kind::Config`] when rex.toml is not valid.
    pub fn of(named: &[PathBuf], config: Option<&Path>) -> Result<Self> {
        let files = OwnersFiles::new(config, Owner::Unchecked);
        let settings = if config.is_some() || named.is_empty() { files.config()? } else { Config::default() };
        let mut sources = Vec::new();
        if named.is_empty() {
            let folder = files.folder().join("policies");
            if crate::os::trusted::canonical(folder.clone()).exists() {
                sources = match files.sources(&folder) {
                    Err(error) if error.message.starts_with("no policy at all") => Vec::new(),
                    other => other?,
                };
            }
        }
        for path in named {
            if !path.exists() {
                return Err(Error::new(Kind::Config, format!("no policy at {}", path.display())));
            }
            sources.extend(files.sources(path)?);
        }
        let own = super::super::session::closed(&files, &settings, 0);
        let own = own.own.iter().map(|path| crate::resource::path::to_id(path.as_os_str().as_encoded_bytes())).collect();
        let open = match settings.open {
            crate::config::Open::Implied => Open::Implied,
            crate::config::Open::Explicit => Open::Explicit,
        };
        // What is closed depends on the account, of which there are few.
        let accounts: Mutex<HashMap<u32, Closed>> = Mutex::default();
        let closed: ClosedTo = Arc::new(move |uid, ask, noun, id| {
            let mut accounts = accounts.lock().ok()?;
            accounts.entry(uid).or_insert_with(|| super::super::session::closed(&files, &settings, uid)).reason(ask, noun, id)
        });
        Ok(Self { sources, open, closed, own })
    }

    /// A set that recorded questions can be put to: these sources under the settings of this host.
    ///
    /// # Errors
    /// [`Kind::Config`] when they are not valid.
    pub fn replay(&self, sources: &[Source]) -> Result<Replay> {
        let (asks, _) = crate::functions::vocabulary();
        Replay::new(sources, crate::terms::schema(), asks, self.open, Arc::clone(&self.closed))
    }
}

/// A set that permits nothing: there has to be some policy, and this one says what is true anyway.
const NOTHING: &str = "forbid(principal, action, resource) when { false };";

fn try_run(args: &LearnArgs) -> Result<u8> {
    let tests = args.output.as_deref().map(tests_beside).transpose()?;
    for path in args.output.iter().chain(&tests) {
        if path.symlink_metadata().is_ok() {
            return Err(Error::new(Kind::Usage, format!("{} is there already; nothing is overwritten", path.display())));
        }
    }
    let present = Present::of(&args.policy, args.config.as_deref())?;
    let mut learner = Learner::default();
    let (mut cut, mut strangers, mut walked) = (0_u64, 0_u64, 0_u64);
    let looked = args.records.read(
        args.config.as_deref(),
        &mut |decision| {
            // What a learning run alone allowed the policies deny.
            let learned = is_learned(&decision.policies);
            if decision.allowed && !args.all && !learned {
                return Ok(());
            }
            if let Some(group) = &args.group
                && args.records.principal.is_none()
                && !decision.caller.told.as_ref().is_some_and(|told| told.groups.contains(group))
            {
                strangers += 1;
                return Ok(());
            }
            let Some(asked) = &decision.asked else {
                cut += 1;
                return Ok(());
            };
            let noted = Noted {
                why: decision.why,
                policies: decision.policies.clone(),
                function: decision.function,
                reference: decision.reference,
            };
            learner.note(decision.caller, asked, &noted)
        },
        &mut |walk| {
            walked += walk.allowed;
            Ok(())
        },
    )?;
    super::super::say(&format!("read {}", looked.told()));
    if cut > 0 {
        super::super::say(&format!("{cut} questions were cut in their records and are not proposed"));
    }
    if strangers > 0 {
        super::super::say(&format!(
            "{strangers} questions of others than members of the group are left out; --principal NAME takes theirs"
        ));
    }
    if args.all && walked > 0 {
        super::super::say(&format!(
            "{walked} things that walks came by were allowed and only counted; name their folder in a permit of your own"
        ));
    }
    let proposal = propose(learner, args, &present)?;
    tell(&proposal);
    if proposal.permits == 0 {
        super::super::say("nothing to propose");
        return Ok(Exit::Ok as u8);
    }
    let name = args.output.as_ref().map_or_else(|| "learned.cedar".to_owned(), |path| path.display().to_string());
    let tests_name = tests.as_ref().map_or_else(|| "learned.test.toml".to_owned(), |path| path.display().to_string());
    if let (Some(path), Some(tests)) = (&args.output, &tests) {
        create(path, &proposal.policy)?;
        create(tests, &tests_text(&proposal, path))?;
        super::super::say(&format!(
            "{} written to {name}, their tests to {tests_name}; review them, then move them to the policies",
            counted(proposal.permits, "permit")
        ));
    }
    let file = args.output.clone().unwrap_or_else(|| PathBuf::from("learned.cedar"));
    Ok(super::super::show(&format!("{}{}", added(&name, &proposal.policy), added(&tests_name, &tests_text(&proposal, &file)))))
}

/// The proposal for what was noted.
///
/// # Errors
/// As [`Learner::propose`].
pub fn propose(learner: Learner, args: &LearnArgs, present: &Present) -> Result<Proposal> {
    let wanted =
        Wanted { group: args.group.clone(), folders: args.folder.clone(), include: args.include.clone(), own: present.own.clone() };
    let nothing = [Source { name: "nothing".to_owned(), text: NOTHING.to_owned() }];
    let mut replay = present.replay(if present.sources.is_empty() { &nothing } else { &present.sources })?;
    learner.propose(&wanted, &present.sources, &crate::terms::schema(), &mut replay, &|sources| present.replay(sources))
}

/// What is not proposed and what would not be enough, on stderr.
pub fn tell(proposal: &Proposal) {
    if proposal.already > 0 {
        super::super::say(&format!("{} different questions are allowed by the present policies already", proposal.already));
    }
    for left in &proposal.left {
        super::super::say(&format!("not proposed: {}: {}", left.question, left.why));
    }
    for open in &proposal.open {
        super::super::say(&format!("warning: {}: {}", open.question, open.why));
    }
}

/// The tests load the proposal alone, by its name.
pub fn tests_text(proposal: &Proposal, file: &Path) -> String {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (first, rest) = proposal.tests.split_once('\n').unwrap_or((&proposal.tests, ""));
    format!("{first}\npolicies = [{}]\n{rest}", toml::Value::String(name))
}

/// `NAME.cedar` has its tests in `NAME.test.toml`.
pub fn tests_beside(path: &Path) -> Result<PathBuf> {
    match path.extension() {
        Some(extension) if extension == "cedar" => Ok(path.with_extension("test.toml")),
        _ => Err(Error::new(Kind::Usage, "the file of a proposal has to be called NAME.cedar, else rex would never load it")),
    }
}

fn create(path: &Path, text: &str) -> Result<()> {
    let failed = |error: Error| Error { kind: Kind::Communication, ..error };
    NewFile::create(path).and_then(|file| file.fill(text)).map_err(failed)
}

/// A new file as diff(1) shows it.
fn added(name: &str, text: &str) -> String {
    let lines = text.lines().count();
    let body: String = text.lines().map(|line| format!("+{line}\n")).collect();
    format!("--- /dev/null\n+++ {}\n@@ -0,0 +1,{lines} @@\n{body}", crate::audit::visible(name))
}
