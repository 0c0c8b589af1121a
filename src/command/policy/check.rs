//! `rex policy check`: parses and validates policies, and prints every fault with its place.

use crate::error::{Error, Kind, Result};
use crate::os::trusted::Owner;
use crate::policy::{Policies, Scope};
use crate::terms::OwnersFiles;
use std::path::{Path, PathBuf};

/// Parses and validates; prints every fault with its place. Exit 78 when there is one.
#[must_use]
pub fn run(files: &[PathBuf], config: Option<&Path>) -> u8 {
    match try_check(files, config) {
        Ok(policies) => {
            for warning in &policies.warnings {
                super::super::say(&format!("warning: {}", warning.trim_end()));
            }
            super::super::show(&format!(
                "{} policies are valid ({} warnings), digest {}\n",
                policies.total,
                policies.warnings.len(),
                policies.digest
            ))
        }
        Err(error) => super::fault(&error),
    }
}

fn try_check(named: &[PathBuf], config: Option<&Path>) -> Result<Policies> {
    // Files that are named may lie anywhere; those of rex.toml must be fit for sessions.
    let owner = if named.is_empty() { Owner::RootOnly } else { Owner::Unchecked };
    let files = OwnersFiles::new(config, owner);
    let mut sources = Vec::new();
    if named.is_empty() {
        sources = files.policies()?;
        // A dictionary that cannot be used is better known now than when somebody needs it.
        files.redaction(&files.config()?.redaction)?;
    }
    for path in named {
        if !path.exists() {
            return Err(Error::new(Kind::Config, format!("no policy at {}", path.display())));
        }
        sources.extend(files.sources(path)?);
    }
    Policies::load(&sources, &crate::terms::schema(), &Scope::default(), None)
}
