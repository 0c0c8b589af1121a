//! Random bytes from the kernel.

use crate::error::{Error, Result};
use rustix::rand::{GetRandomFlags, getrandom};

/// Fills the whole buffer.
///
/// # Errors
/// What getrandom(2) reports.
pub fn fill(mut buffer: &mut [u8]) -> Result<()> {
    while !buffer.is_empty() {
        let got = getrandom(&mut *buffer, GetRandomFlags::empty()).map_err(|errno| Error::os("getrandom", errno.raw_os_error()))?;
        buffer = buffer.get_mut(got..).unwrap_or_default();
    }
    Ok(())
}
