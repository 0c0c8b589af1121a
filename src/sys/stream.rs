//! Readers that can be stopped: the run's check on every read, and rex's own errors carried through `std::io::Read`.

use crate::error::{Error, Kind, Result};
use std::io::{self, Read};

/// Asked in every loop over data; the reason to stop, if there is one.
pub type Check<'a> = &'a dyn Fn() -> Result<()>;

/// An error of ours as an I/O error, for the way through `Read`; [`from_io`] gets it back whole.
#[must_use]
pub fn to_io(error: Error) -> io::Error {
    io::Error::other(error)
}

/// The error that travelled through `Read`: ours if it was one of ours, else the operating system's.
#[must_use]
pub fn from_io(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(other) => {
            other.raw_os_error().map_or_else(|| Error::new(Kind::Io, other.to_string().to_lowercase()), |errno| Error::os("read", errno))
        }
    }
}

/// A reader that asks the check before every read, so that no loop over it outlives its run.
pub struct Checked<'a, R> {
    inner: R,
    check: Check<'a>,
}

impl<'a, R: Read> Checked<'a, R> {
    #[must_use]
    pub fn new(inner: R, check: Check<'a>) -> Self {
        Self { inner, check }
    }
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            (self.check)().map_err(to_io)?;
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// Gives all of a reader away in pieces of one block of memory; how many bytes there were.
///
/// # Errors
/// What the reader reports, and the check's reason.
pub fn each_block(reader: impl Read, check: Check<'_>, mut take: impl FnMut(&[u8])) -> Result<u64> {
    let mut reader = Checked::new(reader, check);
    let mut block = vec![0; 128 << 10];
    let mut count = 0;
    loop {
        let got = reader.read(&mut block).map_err(from_io)?;
        if got == 0 {
            return Ok(count);
        }
        count += got as u64;
        take(block.get(..got).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn an_error_of_ours_survives_the_way_through_read() {
        let check = || Err(Error::new(Kind::Deadline, "the time limit of 1 s was reached").with_hint("wait"));
        let error = from_io(Checked::new(&b"abc"[..], &check).read(&mut [0; 8]).unwrap_err());
        assert_eq!((error.kind, error.hint.as_deref()), (Kind::Deadline, Some("wait")));
    }

    #[test]
    fn an_error_of_the_system_keeps_its_number() {
        let error = from_io(io::Error::from_raw_os_error(libc::EISDIR));
        assert_eq!((error.kind, error.errno), (Kind::IsADirectory, Some(libc::EISDIR)));
    }
}
