//! The layers behind the gate that this version puts in force before a script runs: no new privileges, not dumpable, no core, limits of the kernel.

use crate::error::Result;
use crate::limits::Limits;
use rustix::process::{Resource, Rlimit};

/// Descriptors that rex itself needs beside those of the script: standard ones, records, D-Bus, a walk's directories.
const OWN_FILES: u64 = 1024;

/// Arms what is in force for every run; there is no way back. Gives the layers' names, as results and records show them.
///
/// # Errors
/// When the kernel refuses one of them.
pub fn confine(limits: &Limits) -> Result<Vec<&'static str>> {
    // Read now what rustix wants to know of the kernel, and asks for in ways that are closed to it later.
    let _ = rustix::param::page_size();
    rustix::thread::set_no_new_privs(true)?;
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let files = (u64::from(limits.open_files) + OWN_FILES).min(hard);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: Some(files) })?;
    super::size::limit(limits.file_size);
    Ok(vec!["no-new-privs", "not-dumpable", "rlimits"])
}
