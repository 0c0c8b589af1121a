//! Settings of the kernel below `/proc/sys` (proc_sys(5)): one write each, since a second one would be another value.

use super::odd;
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use crate::sys::file::open_as;
use crate::sys::write::Changes;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::os::unix::fs::FileExt as _;

/// Bytes of a setting at most; the kernel takes no more than a page at once.
pub const MAX: usize = 64 << 10;

/// What a granted setting is, line ends at its end left out; nothing for one that can only be written.
///
/// # Errors
/// As [`crate::sys::file::open`], and what read(2) reports.
pub fn read<A: Action<On = File>>(granted: &Granted<A>) -> Result<Option<Vec<u8>>> {
    let shown = || granted.resource().asked().shown();
    if granted.resource().stat().is_some_and(|stat| stat.st_mode & 0o444 == 0) {
        return Ok(None);
    }
    let file = open_as(granted, OFlags::RDONLY)?;
    let mut bytes = vec![0; MAX];
    let mut length = 0;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, length as u64) {
            Ok(0) => break,
            Ok(got) => length += got,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::from(error).with_path(shown())),
        }
    }
    if length == MAX {
        return Err(odd(&shown()));
    }
    bytes.truncate(length);
    while bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(Some(bytes))
}

/// Gives a granted setting a value.
///
/// # Errors
/// [`Kind::BadArgument`] for a value that the kernel does not take, [`Kind::Permission`], and what else write(2) reports.
pub fn write<A: Action<On = File>>(granted: &Granted<A>, value: &[u8]) -> Result<()> {
    let () = Changes::<A>::OK;
    let shown = || granted.resource().asked().shown();
    let file = open_as(granted, OFlags::WRONLY)?;
    let line = [value, b"\n"].concat();
    match file.write_at(&line, 0) {
        Ok(written) if written == line.len() => Ok(()),
        Ok(_) => Err(Error::new(Kind::Io, "the kernel took only a part of the value").with_path(shown())),
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            Err(Error::new(Kind::BadArgument, "the kernel does not take this value for this setting").with_path(shown()))
        }
        Err(error) => Err(Error::from(error).with_path(shown())),
    }
}

/// Whether the kernel says of a setting what was written, numbers in whatever form: it writes them its own way.
#[must_use]
pub fn is_same(written: &[u8], read: &[u8]) -> bool {
    let words = |bytes: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(bytes)
            .split_ascii_whitespace()
            .map(|word| number(word).map_or_else(|| word.to_owned(), |n| n.to_string()))
            .collect()
    };
    words(written) == words(read)
}

/// As strtoul(3) reads it with base 0.
fn number(word: &str) -> Option<i128> {
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| i128::from_str_radix(digits, radix).ok()).flatten().map(|n| sign * n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_way_of_writing_a_value_is_the_same_value() {
        for (written, read) in [("10", "10"), ("0x10", "16"), ("010", "8"), ("1024 65000", "1024\t65000"), ("-1", "-1"), ("fq", "fq")] {
            assert!(is_same(written.as_bytes(), read.as_bytes()), "{written} {read}");
        }
        for (written, read) in [("10", "11"), ("1 2", "1"), ("cubic", "reno"), ("", "0"), ("+1", "2")] {
            assert!(!is_same(written.as_bytes(), read.as_bytes()), "{written} {read}");
        }
    }
}
