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

/// A line of a file of settings (sysctl.d(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The path below the folder of settings, or a pattern of paths.
    pub key: String,
    /// Nothing: the setting is left out of patterns.
    pub value: Option<String>,
    pub may_fail: bool,
}

impl Line {
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.key.contains(['*', '?', '['])
    }
    /// # Errors
    /// [`Kind::BadData`] where it is none.
    pub fn pattern(&self) -> Result<globset::GlobMatcher> {
        let glob = globset::GlobBuilder::new(&self.key).literal_separator(true).build();
        glob.map(|glob| glob.compile_matcher()).map_err(|_| Error::new(Kind::BadData, "a name of a setting that is no pattern"))
    }
}

/// The lines of a file of settings that say something.
///
/// # Errors
/// [`Kind::BadData`] naming the line that has another form.
pub fn lines(text: &str) -> Result<Vec<Line>> {
    let wrong = |at: usize| Error::new(Kind::BadData, format!("line {}: expected `name = value`", at + 1));
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value.trim().to_owned())));
        let name = name.trim();
        let (may_fail, name) = name.strip_prefix('-').map_or((false, name), |name| (true, name.trim()));
        let key = below(name);
        let parts = key.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        let long = value.as_ref().is_some_and(|value| value.len() >= 4096);
        if !parts || key.contains('\0') || long || (value.is_none() && !may_fail) {
            return Err(wrong(at));
        }
        found.push(Line { key, value, may_fail });
    }
    Ok(found)
}

/// The path of a name: the first separator says which one it is, and the other one is then part of names, as in sysctl(8).
fn below(name: &str) -> String {
    let dots = match (name.find('.'), name.find('/')) {
        (Some(dot), Some(slash)) => dot < slash,
        (Some(_), None) => true,
        _ => false,
    };
    let swap = |c| match c {
        '.' if dots => '/',
        '/' if dots => '.',
        c => c,
    };
    name.chars().map(swap).collect()
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_of_settings_are_read_as_sysctl_d_says() {
        let line = |key: &str, value: Option<&str>, may_fail| Line { key: key.into(), value: value.map(str::to_owned), may_fail };
        let text = "# x\n ; y\n\nvm.swappiness=10\n net/ipv4/conf/eth0.1/forwarding = 1 \n-net.ipv4.conf.*.rp_filter = 2\n\
            -net.ipv4.conf.eth0/1.rp_filter\nkernel.core_pattern = |/x %p=%s\nkernel.domainname =\n";
        assert_eq!(
            lines(text).unwrap(),
            [
                line("vm/swappiness", Some("10"), false),
                line("net/ipv4/conf/eth0.1/forwarding", Some("1"), false),
                line("net/ipv4/conf/*/rp_filter", Some("2"), true),
                line("net/ipv4/conf/eth0.1/rp_filter", None, true),
                line("kernel/core_pattern", Some("|/x %p=%s"), false),
                line("kernel/domainname", Some(""), false),
            ]
        );
        for bad in ["vm.swappiness", "= 1", "vm..x = 1", "../x = 1", "a/../b = 1", "vm.x.. = 1"] {
            assert_eq!(lines(bad).unwrap_err().kind, Kind::BadData, "{bad}");
        }
        let pattern = lines("net.*.conf.*.x = 1").unwrap().remove(0).pattern().unwrap();
        assert!(pattern.is_match("net/ipv4/conf/a/x") && !pattern.is_match("net/ipv4/conf/a/b/x"));
    }

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
