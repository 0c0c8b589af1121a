//! The limit of open descriptors of the running process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Error, Result};

/// Raises the soft limit to `wanted` if it is lower and the hard limit allows (getrlimit(2)). Returns the soft limit now in force;
/// `u64::MAX` stands for none.
///
/// # Errors
/// The system's own error.
pub fn allow_descriptors(wanted: u64) -> Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let soft = current.unwrap_or(u64::MAX);
    if soft >= wanted {
        return Ok(soft);
    }
    let raised = wanted.min(maximum.unwrap_or(u64::MAX));
    setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum })
        .map_err(|errno| Error::os("raise the limit of open files", errno.raw_os_error()))?;
    Ok(raised)
}
