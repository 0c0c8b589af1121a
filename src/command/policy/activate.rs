//! `rex policy activate`: a set of policies is checked, tried and put in force in one step; what was in force is kept.

use super::super::{say, show};
use crate::audit::{Audit, Event, PolicyChange};
use crate::error::{Error, Exit, Kind, Result, counted};
use crate::os::process::Credentials;
use crate::os::swap::Place;
use crate::os::trusted::{Owner, Trusted};
use crate::policy::{Policies, Scope, Source};
use crate::terms::OwnersFiles;
use crate::terms::tested;
use clap::Args;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Name of the folder of policies beside rex.toml.
const POLICIES: &str = "policies";
/// What a set consists of; other files of the folder are none of rex's business.
const SUFFIXES: &[&str] = &[".cedar", ".test.toml"];
/// Bytes of one file.
const MAX: u64 = 4 << 20;

#[derive(Args)]
pub struct ActivateArgs {
    /// The folder of the new set: its *.cedar and *.test.toml files are copied.
    #[arg(required_unless_present = "rollback", conflicts_with = "rollback")]
    folder: Option<PathBuf>,
    /// Put the set that was in force before in force again.
    #[arg(long)]
    rollback: bool,
    /// The rex.toml; the set in force lies beside it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Exit 0: in force, or it was already; 75 when another activation is at work; 78 when the set is not fit: nothing has changed then.
#[must_use]
pub fn run(args: &ActivateArgs) -> u8 {
    match try_run(args) {
        Ok(code) => code,
        Err(error) if error.kind == Kind::Busy => {
            say(&format!("rex: {error}"));
            Exit::Transient as u8
        }
        Err(error) => {
            let code = super::fault(&error);
            say("nothing has changed");
            code
        }
    }
}

fn try_run(args: &ActivateArgs) -> Result<u8> {
    let owner = if rustix::process::geteuid().is_root() { Owner::RootOnly } else { Owner::RootOrSelf };
    let files = OwnersFiles::new(args.config.as_deref(), owner);
    // Against the working folder's being elsewhere: the folder is resolved like a session does it.
    let home = crate::os::trusted::canonical(files.folder());
    let place = Place::lock(&home, POLICIES)?;
    // A set in force that is not valid is a reason to activate another one.
    let before = digest(&files.policies().and_then(|sources| load(&sources))).unwrap_or_default();
    match &args.folder {
        Some(folder) => activate(&files, &place, folder, &before),
        None => roll_back(&files, &place, &before),
    }
}

fn activate(files: &OwnersFiles, place: &Place, folder: &Path, before: &str) -> Result<u8> {
    let set = read(folder)?;
    let named = |path: &Path, bytes: &[u8]| -> Result<Source> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::new(Kind::Config, format!("{}: not UTF-8 text", path.display())))?;
        Ok(Source { name: path.to_string_lossy().into_owned(), text: text.to_owned() })
    };
    let is_policy = |name: &OsString| name.to_string_lossy().ends_with(".cedar");
    let sources =
        set.iter().filter(|(name, _)| is_policy(name)).map(|(name, bytes)| named(&folder.join(name), bytes)).collect::<Result<Vec<_>>>()?;
    if sources.is_empty() {
        return Err(Error::new(Kind::Config, format!("no policy at all: there is no *.cedar file in {}", folder.display())));
    }
    let new = load(&sources)?;
    let is_test = |name: &OsString| name.to_string_lossy().ends_with(tested::ENDING);
    let tests =
        set.iter().filter(|(name, _)| is_test(name)).map(|(name, bytes)| named(&folder.join(name), bytes)).collect::<Result<Vec<_>>>()?;
    let config = files.config()?;
    let tests = tested::tried(&sources, &tests, files, &config, folder)?;
    if same(files, &set) {
        return Ok(show(&format!("already in force: {}, digest {}\n", policies(new.total), new.digest)));
    }
    super::check::show_findings(&sources, Some(&files.config))?;
    let staged = place.stage(&set)?;
    // What was checked is what was staged, and sessions may read it there.
    let again = files.sources(&staged.path()).and_then(|sources| load(&sources))?;
    if again.digest != new.digest {
        return Err(Error::new(Kind::Internal, "the set changed while it was copied"));
    }
    record(files, "activated", before, &new.digest)?;
    let kept = staged.put_in_force()?;
    verify(files, place, &new.digest, kept)?;
    show(&format!("in force: {}, digest {} ({} passed)\n", policies(new.total), new.digest, counted(tests, "test")));
    if kept {
        show(&format!("kept: {}; `rex policy activate --rollback` puts it in force again\n", place.previous_path().display()));
    }
    Ok(Exit::Ok as u8)
}

fn roll_back(files: &OwnersFiles, place: &Place, before: &str) -> Result<u8> {
    let previous = place.previous_path();
    if !previous.exists() {
        return Err(Error::new(Kind::Config, format!("there is no set to go back to: {} is missing", previous.display())));
    }
    let old = files.sources(&previous).and_then(|sources| load(&sources))?;
    record(files, "rolled_back", before, &old.digest)?;
    place.swap_with_previous()?;
    verify(files, place, &old.digest, true)?;
    Ok(show(&format!("in force again: {}, digest {}\n", policies(old.total), old.digest)))
}

/// Whether sessions find this set now, by the way they go; if not, what was in force before is again.
fn verify(files: &OwnersFiles, place: &Place, expected: &str, kept: bool) -> Result<()> {
    let found = files.policies().and_then(|sources| {
        let (cache, config) = (files.cache(), files.config()?);
        let policies = Policies::load(&sources, &crate::terms::schema(), &Scope::default(), Some(&cache))?;
        tested::demand(&sources, files, &config, Some(&cache))?;
        Ok(policies)
    });
    match digest(&found) {
        Some(digest) if digest == expected => Ok(()),
        _ => {
            let why =
                found.err().map_or_else(|| "sessions find another set than the one put in force".to_owned(), |error| error.to_string());
            if kept {
                place.swap_with_previous()?;
            }
            Err(Error::new(Kind::Config, format!("sessions could not use it: {why}")))
        }
    }
}

fn policies(count: usize) -> String {
    if count == 1 { "1 policy".to_owned() } else { format!("{count} policies") }
}

fn digest(policies: &Result<Policies>) -> Option<String> {
    policies.as_ref().ok().map(|policies| policies.digest.clone())
}

fn load(sources: &[Source]) -> Result<Policies> {
    Policies::load(sources, &crate::terms::schema(), &Scope::default(), None)
}

/// The files of a set. Whoever types the command vouches for them.
fn read(folder: &Path) -> Result<Vec<(OsString, Vec<u8>)>> {
    if !folder.is_dir() {
        return Err(Error::new(Kind::Usage, format!("{} is no folder", folder.display())).with_hint("a set is a folder of *.cedar files"));
    }
    let trusted = Trusted::new(Owner::Unchecked);
    let mut set = Vec::new();
    for suffix in SUFFIXES {
        for (path, bytes) in trusted.read_dir(folder, suffix, MAX)? {
            if let Some(name) = path.file_name() {
                set.push((name.to_owned(), bytes));
            }
        }
    }
    Ok(set)
}

/// Whether the set in force has the same files with the same content.
fn same(files: &OwnersFiles, set: &[(OsString, Vec<u8>)]) -> bool {
    files.policies().is_ok() && read(&files.folder().join(POLICIES)).is_ok_and(|current| current == set)
}

/// On record before it happens, like everything that changes what is allowed.
fn record(files: &OwnersFiles, what: &str, from: &str, to: &str) -> Result<()> {
    let config = files.config()?;
    let uid = Credentials::of_this_process()?.uid;
    let run = crate::run::new_id();
    let info = crate::run::run_info(&run, None, uid, "");
    let audit = Audit::open(&config.audit, config.on_audit_failure, info)?;
    audit.record(&Event::PolicyChange(PolicyChange { what, from, to }))
}
