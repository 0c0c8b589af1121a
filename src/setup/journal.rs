//! What `rex setup` did to this host, step by step, written before each: by it everything can be taken back, whatever happened in between.

use super::step::{Step, Undone};
use crate::error::{Error, Kind, Result};
use crate::os::install::{self, Rights, Thing};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Not /var/lib/rex: that folder is the account's of rex.service, which could then tell root what to take back.
pub const FOLDER: &str = "/var/lib/rex-setup";
const FILE: &str = "state.json";
const VERSION: u32 = 1;
const ROOTS: Rights = Rights { mode: 0o600, uid: 0, gid: 0 };
const ROOTS_FOLDER: Rights = Rights { mode: 0o700, uid: 0, gid: 0 };

/// How far a run of setup came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Under way, or interrupted.
    Applying,
    Complete,
    /// Being taken back, or interrupted in it.
    Removing,
}

/// One run of setup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub at: String,
    pub flavour: String,
    pub version: String,
    pub phase: Phase,
    /// Begun, the last of them perhaps not done.
    pub steps: Vec<Step>,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    runs: Vec<Applied>,
}

/// The journal, held against other setups.
pub struct Journal {
    folder: PathBuf,
    _held: Option<OwnedFd>,
    pub runs: Vec<Applied>,
}

impl Journal {
    /// Reads it without holding it: for plans.
    ///
    /// # Errors
    /// [`Kind::Config`] when it is not root's alone, or not as rex writes it.
    pub fn read() -> Result<Vec<Applied>> {
        read(Path::new(FOLDER))
    }

    /// # Errors
    /// [`Kind::Busy`] when another setup is at work; as [`Journal::read`]; the system's own.
    pub fn hold() -> Result<Self> {
        Self::hold_at(Path::new(FOLDER), ROOTS_FOLDER)
    }

    fn hold_at(folder: &Path, rights: Rights) -> Result<Self> {
        match install::make_folder(folder, rights) {
            Err(error) if error.kind != Kind::Exists => return Err(error),
            _ => {}
        }
        let held = install::hold(folder)?;
        Ok(Self { folder: folder.to_path_buf(), _held: Some(held), runs: read(folder)? })
    }

    /// The last run, when it was interrupted.
    #[must_use]
    pub fn interrupted(runs: &[Applied]) -> Option<&Applied> {
        runs.last().filter(|run| run.phase != Phase::Complete)
    }

    /// # Errors
    /// The system's own.
    pub fn begin(&mut self, flavour: &str) -> Result<()> {
        self.runs.push(Applied {
            at: jiff::Timestamp::now().to_string(),
            flavour: flavour.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase: Phase::Applying,
            steps: Vec::new(),
        });
        self.write()
    }

    /// Writes a step down, then does it.
    ///
    /// # Errors
    /// The step's own; the system's own: nothing is done that is not written down.
    pub fn apply(&mut self, step: &Step) -> Result<()> {
        if let Some(run) = self.runs.last_mut() {
            run.steps.push(step.clone());
        }
        self.write()?;
        step.apply()
    }

    /// Takes back the last steps of the last run, down to `down_to` of them.
    ///
    /// # Errors
    /// A step's own: it and those before it are still written down then.
    pub fn undo(&mut self, down_to: usize) -> Result<Vec<Undone>> {
        let mut told = Vec::new();
        while let Some(step) = self.runs.last().filter(|run| run.steps.len() > down_to).and_then(|run| run.steps.last()).cloned() {
            told.push(step.undo()?);
            if let Some(run) = self.runs.last_mut() {
                run.steps.pop();
            }
            self.write()?;
        }
        Ok(told)
    }

    /// # Errors
    /// The system's own.
    pub fn mark(&mut self, phase: Phase) -> Result<()> {
        if let Some(run) = self.runs.last_mut() {
            run.phase = phase;
        }
        self.write()
    }

    /// Forgets the last run, of which nothing is left; with the last of all the journal itself goes.
    ///
    /// # Errors
    /// The system's own.
    pub fn forget(&mut self) -> Result<()> {
        self.runs.pop();
        if !self.runs.is_empty() {
            return self.write();
        }
        install::remove(&self.folder.join(FILE))?;
        install::sweep(&self.folder.join(FILE));
        install::remove_folder(&self.folder).map(drop)
    }

    fn write(&self) -> Result<()> {
        let file = File { version: VERSION, runs: self.runs.clone() };
        let mut text = serde_json::to_string_pretty(&file).map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        text.push('\n');
        let me = rustix::process::geteuid().as_raw();
        let rights = if me == 0 { ROOTS } else { Rights { uid: me, gid: rustix::process::getegid().as_raw(), ..ROOTS } };
        install::put(&self.folder.join(FILE), text.as_bytes(), rights)
    }
}

fn read(folder: &Path) -> Result<Vec<Applied>> {
    let path = folder.join(FILE);
    let refused = |what: &str| Error::new(Kind::Config, what).with_path(path.display().to_string());
    let me = rustix::process::geteuid().as_raw();
    match (install::look(folder)?, install::look(&path)?) {
        (_, Thing::Nothing) => Ok(Vec::new()),
        (Thing::Folder(rights), Thing::File(found))
            if rights.uid == me && rights.mode & 0o022 == 0 && found.uid == me && found.mode & 0o022 == 0 =>
        {
            let file: File =
                serde_json::from_slice(&found.content).map_err(|error| refused(&format!("the journal of setup is damaged ({error})")))?;
            if file.version == VERSION { Ok(file.runs) } else { Err(refused("the journal of setup was written by another version of rex")) }
        }
        _ => Err(refused("the journal of setup is not root's alone, so it is not believed")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::step::Contents;
    use super::*;

    fn mine(mode: u32) -> Rights {
        Rights { mode, uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    #[test]
    fn a_step_is_written_down_before_it_is_done_and_forgotten_after_it_is_taken_back() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().canonicalize().unwrap();
        let mut journal = Journal::hold_at(&path.join("j"), mine(0o700)).unwrap();
        assert_eq!(Journal::hold_at(&path.join("j"), mine(0o700)).err().unwrap().kind, Kind::Busy);
        journal.begin("forced-command").unwrap();
        // A step that fails is in the journal: it may have been done in part.
        let fails = Step::Link { path: path.join("no/such/folder"), target: "x".into() };
        assert!(journal.apply(&fails).is_err());
        assert_eq!(read(&path.join("j")).unwrap()[0].steps, [fails]);
        let link = Step::Link { path: path.join("l"), target: "x".into() };
        journal.apply(&link).unwrap();
        assert!(path.join("l").is_symlink());
        assert!(Journal::interrupted(&journal.runs).is_some());
        assert_eq!(journal.undo(1).unwrap(), [Undone::Done(format!("removed {}", path.join("l").display()))]);
        assert_eq!(read(&path.join("j")).unwrap()[0].steps.len(), 1);
        journal.undo(0).unwrap();
        journal.forget().unwrap();
        assert!(!path.join("j").exists());
    }

    #[test]
    fn every_step_survives_the_journal() {
        let before = super::super::step::Before { text: "a".into(), mode: 0o644, uid: 0, gid: 0 };
        let file = Step::File {
            path: "/f".into(),
            why: "w".into(),
            text: "t".into(),
            mode: 0o600,
            owner: "a".into(),
            group: "b".into(),
            before: Some(before),
        };
        let folder = Step::Folder { path: "/d".into(), mode: 0o755, owner: "root".into(), group: "root".into(), contents: Contents::Kept };
        let user = Step::User { name: "u".into(), home: "/home/u".into(), shell: "/bin/sh".into(), groups: vec!["g".into()] };
        let shell = Step::Shell { user: "u".into(), shell: "/usr/bin/rexsh".into(), before: "/bin/sh".into() };
        for step in [
            file,
            folder,
            user,
            shell,
            Step::Group { name: "g".into() },
            Step::Member { user: "u".into(), group: "g".into() },
            Step::Unit { name: "x".into() },
        ] {
            let text = serde_json::to_string(&step).unwrap();
            assert_eq!(serde_json::from_str::<Step>(&text).unwrap(), step);
        }
    }

    #[test]
    fn a_journal_that_others_could_have_written_is_not_believed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().canonicalize().unwrap().join("j");
        Journal::hold_at(&path, mine(0o700)).unwrap().begin("x").unwrap();
        assert_eq!(read(&path).unwrap().len(), 1);
        install::put(&path.join(FILE), b"{}", mine(0o600)).unwrap();
        assert!(read(&path).unwrap_err().message.contains("damaged"));
        install::put(&path.join(FILE), b"{\"version\":1,\"runs\":[]}", mine(0o666)).unwrap();
        assert!(read(&path).unwrap_err().message.contains("not believed"));
    }
}
