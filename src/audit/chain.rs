//! The chain of a file of records: each record is linked to the one before it in the file, whoever wrote that.
//!
//! A line ends in `,"n":N,"link":"HEX"}`. N counts the records of the host; HEX is a SHA-256 over the link before and the line up to its own link. So the
//! file itself says how it goes on, and nothing beside it can disagree with it. Where a record does not simply follow the one before, `"after"` in it
//! says what is there instead.

use super::link;
use crate::os::digest::hex_sha256;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use std::ffi::{CStr, CString, OsStr};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Longest end of a line: `,"n":` and 20 digits, `,"link":"` and 64 digits, `"}` and a newline.
const END: u64 = 128;

/// How far back a writer looks for the last linked record: what lies between it and the end is a cut record or no record, and records are below 8 KiB.
const BACK: u64 = 32 << 10;

/// Most names that are looked at in the folder of the records.
const NAMES: usize = 10_000;

/// A record's place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number, from 1.
    pub n: u64,
    /// Its link, 64 hexadecimal digits.
    pub digest: String,
}

/// What a record follows, where that is not simply the record before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing: it is the first.
    Start,
    /// It is the first of its file; the file before was this one, and its last link that, where it could be read.
    Rotation { file: String, last: Option<Link> },
    /// Bytes that are no linked record: one that was cut (`torn`, no newline ends it), or what somebody else wrote.
    Rest { torn: bool, bytes: u64, sha256: String },
    /// So many bytes in which no linked record was found.
    Unlinked { bytes: u64 },
    /// The file got shorter than this writer had left it; so long it was when the record came.
    Truncated { last: Link, bytes: u64 },
}

impl After {
    /// Writes the field into a record.
    fn write(&self, out: &mut String) {
        // Not under the names of the line's own end: a line that is cut behind them must not look whole.
        let named = |out: &mut String, last: &Link| {
            let _ = write!(out, ",\"last_n\":{},\"last\":\"{}\"", last.n, last.digest);
        };
        out.push_str(",\"after\":{\"what\":\"");
        match self {
            Self::Start => out.push_str("start\""),
            Self::Rotation { file, last } => {
                out.push_str("rotation\",\"file\":");
                super::record::string(out, file, 256);
                if let Some(last) = last {
                    named(out, last);
                }
            }
            Self::Rest { torn, bytes, sha256 } => {
                let _ = write!(out, "{}\",\"bytes\":{bytes},\"sha256\":\"{sha256}\"", if *torn { "torn" } else { "foreign" });
            }
            Self::Unlinked { bytes } => {
                let _ = write!(out, "unlinked\",\"bytes\":{bytes}");
            }
            Self::Truncated { last, bytes } => {
                let _ = write!(out, "truncated\",\"bytes\":{bytes}");
                named(out, last);
            }
        }
        out.push('}');
    }
}

/// Where the next record goes on.
#[derive(Debug, PartialEq, Eq)]
pub struct Tail {
    pub last: Option<Link>,
    pub after: Option<After>,
    /// The file does not end in a newline.
    pub open: bool,
}

/// The end of a line (without its newline) as the place of its record: how long the text before the link is, and the place.
pub fn parse_end(line: &[u8]) -> Option<(usize, Link)> {
    let rest = line.strip_suffix(b"\"}")?;
    let (rest, digest) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
    let body = rest.strip_suffix(b",\"link\":\"")?;
    let digits = body.len() - body.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (head, number) = body.split_at_checked(digits)?;
    head.ends_with(b",\"n\":").then_some(())?;
    // A number that none can follow was not written by rex.
    let n = std::str::from_utf8(number).ok()?.parse().ok().filter(|n| *n < u64::MAX)?;
    let hex = digest.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    hex.then(|| Some((body.len(), Link { n, digest: String::from_utf8(digest.to_vec()).ok()? })))?
}

/// Links a record, given without its closing brace, to where the file stands: writes it into `out` anew and gives its place.
pub fn linked(out: &mut String, record: &str, tail: &Tail) -> Link {
    out.clear();
    out.push_str(record);
    if let Some(after) = &tail.after {
        after.write(out);
    }
    let n = tail.last.as_ref().map_or(0, |last| last.n) + 1;
    let _ = write!(out, ",\"n\":{n}");
    let digest = link(tail.last.as_ref().map_or("", |last| &last.digest), out);
    let _ = write!(out, ",\"link\":\"{digest}\"}}");
    Link { n, digest }
}

/// Where a file of this length stands, from its last bytes. `None`: it is empty.
///
/// # Errors
/// When it cannot be read.
pub fn tail(fd: impl AsFd, size: u64) -> rustix::io::Result<Option<Tail>> {
    if size == 0 {
        return Ok(None);
    }
    let end = read_end(&fd, size, END)?;
    let line = end.strip_suffix(b"\n").unwrap_or(&end);
    // In the last bytes of a longer line there is enough for its end.
    if let Some((_, last)) = parse_end(line.rsplit(|byte| *byte == b'\n').next().unwrap_or(line)) {
        return Ok(Some(Tail { last: Some(last), after: None, open: line.len() == end.len() }));
    }
    let end = read_end(&fd, size, BACK)?;
    let mut from = end.len();
    // Only whole lines: the newline of each is looked for from the end.
    while let Some(newline) = end.get(..from).and_then(|before| before.iter().rposition(|byte| *byte == b'\n')) {
        let begin = end.get(..newline).and_then(|before| before.iter().rposition(|byte| *byte == b'\n')).map_or(0, |at| at + 1);
        if let Some((_, last)) = end.get(begin..newline).and_then(parse_end) {
            let rest = end.get(newline + 1..).unwrap_or(&[]);
            let torn = !rest.ends_with(b"\n");
            let after = After::Rest { torn, bytes: rest.len() as u64, sha256: hex_sha256(rest) };
            return Ok(Some(Tail { last: Some(last), after: Some(after), open: torn }));
        }
        from = newline;
    }
    Ok(Some(Tail { last: None, after: Some(After::Unlinked { bytes: size }), open: !end.ends_with(b"\n") }))
}

fn read_end(fd: impl AsFd, size: u64, most: u64) -> rustix::io::Result<Vec<u8>> {
    let from = size.saturating_sub(most);
    let mut bytes = vec![0; usize::try_from(size - from).unwrap_or(0)];
    let mut filled = 0;
    while let Some(free) = bytes.get_mut(filled..).filter(|free| !free.is_empty()) {
        match rustix::io::pread(&fd, free, from + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// What an empty file of records follows: the file of that name that rotation has put away last, if there is one that may be read.
pub fn before(path: &Path) -> After {
    older(path).unwrap_or(After::Start)
}

fn older(path: &Path) -> Option<After> {
    let (folder, names) = put_away(path)?;
    let (_, name) = names.into_iter().max()?;
    let last = last_link(&folder, &name);
    Some(After::Rotation { file: name.to_string_lossy().into_owned(), last })
}

/// When a file was changed last: seconds and nanoseconds.
type Changed = (i64, i64);

/// The folder of a file of records, and what rotation has put away there: the regular files that hold something and whose names begin like its own.
fn put_away(path: &Path) -> Option<(OwnedFd, Vec<(Changed, CString)>)> {
    let own = path.file_name()?.as_encoded_bytes();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut found = Vec::new();
    for entry in Dir::read_from(&folder).ok()?.take(NAMES).flatten() {
        let name = entry.file_name();
        if name.to_bytes().len() > own.len()
            && name.to_bytes().starts_with(own)
            && let Ok(stat) = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_size > 0
        {
            #[expect(clippy::unnecessary_cast, clippy::cast_possible_wrap, reason = "the types of the fields differ between architectures")]
            let changed = (stat.st_mtime as i64, stat.st_mtime_nsec as i64);
            found.push((changed, name.to_owned()));
        }
    }
    Some((folder, found))
}

/// The files that rotation has put away beside a file of records, the oldest first.
#[must_use]
pub fn rotated(path: &Path) -> Vec<PathBuf> {
    let Some((_, mut names)) = put_away(path) else { return Vec::new() };
    names.sort();
    names.into_iter().map(|(_, name)| path.with_file_name(OsStr::from_bytes(name.as_bytes()))).collect()
}

/// The last link of a file that is not packed.
fn last_link(folder: &OwnedFd, name: &CStr) -> Option<Link> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(folder, name, flags, Mode::empty()).ok()?;
    let size = u64::try_from(rustix::fs::fstat(&fd).ok()?.st_size).ok()?;
    tail(&fd, size).ok()??.last
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::io::Write as _;

    fn of(text: &[u8]) -> Option<Tail> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        tail(&file, text.len() as u64).unwrap()
    }

    fn chain(records: &[&str]) -> (String, Vec<Link>) {
        let (mut text, mut links) = (String::new(), Vec::new());
        let mut tail = Tail { last: None, after: Some(After::Start), open: false };
        let mut line = String::new();
        for record in records {
            let link = linked(&mut line, record, &tail);
            text.push_str(&line);
            text.push('\n');
            tail = Tail { last: Some(link.clone()), after: None, open: false };
            links.push(link);
        }
        (text, links)
    }

    #[test]
    fn the_end_of_a_file_says_how_it_goes_on() {
        let (text, links) = chain(&["{\"a\":1"]);
        let last = Some(links[0].clone());
        assert_eq!(of(b""), None);
        assert_eq!(of(text.as_bytes()), Some(Tail { last: last.clone(), after: None, open: false }));
        // Whole but for its newline: nothing is missing.
        assert_eq!(of(text.trim_end().as_bytes()), Some(Tail { last: last.clone(), after: None, open: true }));
        let rest = |torn, rest: &str| Some(After::Rest { torn, bytes: rest.len() as u64, sha256: hex_sha256(rest.as_bytes()) });
        for (torn, end) in [(true, "{\"schema\":\"re"), (false, "{}\n"), (false, "\n"), (true, "x\ny\n{"), (false, "\u{0}\u{0}\n")] {
            let tail = of(format!("{text}{end}").as_bytes()).unwrap();
            assert_eq!((tail.last, tail.after, tail.open), (last.clone(), rest(torn, end), torn), "{end:?}");
        }
        for text in ["x", "\n", "{\"n\":1}\n", &"y".repeat(100_000)] {
            let tail = of(text.as_bytes()).unwrap();
            assert_eq!((tail.last, tail.after), (None, Some(After::Unlinked { bytes: text.len() as u64 })), "{text:?}");
        }
        let far = format!("{text}{}\n", "z".repeat(100_000));
        assert_eq!(of(far.as_bytes()).unwrap().after, Some(After::Unlinked { bytes: far.len() as u64 }));
    }

    #[test]
    fn only_a_whole_end_is_a_link() {
        let digest = "0".repeat(64);
        let line = format!("{{\"a\":1,\"n\":7,\"link\":\"{digest}\"}}");
        assert_eq!(parse_end(line.as_bytes()), Some((12, Link { n: 7, digest: digest.clone() })));
        for line in [
            format!("{{\"n\":7,\"link\":\"{digest}\"}}"),
            format!("{{\"a\":1,\"n\":,\"link\":\"{digest}\"}}"),
            format!("{{\"a\":1,\"n\":99999999999999999999,\"link\":\"{digest}\"}}"),
            format!("{{\"a\":1,\"n\":{},\"link\":\"{digest}\"}}", u64::MAX),
            format!("{{\"a\":1,\"n\":7,\"link\":\"{}\"}}", "G".repeat(64)),
            format!("{{\"a\":1,\"n\":7,\"link\":\"{}\"}}", "0".repeat(63)),
            format!("{{\"a\":1,\"n\":7,\"link\":\"{digest}\"}} "),
            String::new(),
        ] {
            assert_eq!(parse_end(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn an_empty_file_follows_the_one_that_was_put_away_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rex.jsonl");
        assert_eq!(before(&path), After::Start);
        let (text, links) = chain(&["{\"a\":1", "{\"a\":2"]);
        std::fs::write(dir.path().join("rex.jsonl.2.gz"), "packed").unwrap();
        std::fs::write(dir.path().join("rex.jsonl.1"), text).unwrap();
        std::fs::write(dir.path().join("rex.jsonl.0"), "").unwrap();
        std::fs::write(dir.path().join("other"), "x").unwrap();
        let old = std::fs::File::open(dir.path().join("rex.jsonl.2.gz")).unwrap();
        old.set_modified(std::time::UNIX_EPOCH).unwrap();
        let last = links.last().cloned();
        assert_eq!(before(&path), After::Rotation { file: "rex.jsonl.1".into(), last });
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
        old.set_modified(later).unwrap();
        assert_eq!(before(&path), After::Rotation { file: "rex.jsonl.2.gz".into(), last: None });
    }
}
