//! Makes room: removes archived files of the journal, the oldest first, as journalctl(1) does with `--vacuum-…`. Files that journald writes stay.

use super::{FILES_LIMIT, hex_id, parse_id};
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::journal::Log;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What may stay. Archived files go until all of it holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Bytes on disk.
    pub bytes: Option<u64>,
    /// Files whose first entry is older than this go, in microseconds since the epoch.
    pub since_us: Option<u64>,
    /// How many.
    pub files: Option<u64>,
}

/// What was removed, and what archived files are left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub files: u64,
    pub bytes: u64,
    pub left_files: u64,
    pub left_bytes: u64,
}

/// An archived file.
#[derive(Debug)]
struct Archived {
    folder: usize,
    name: OsString,
    /// The time of its first entry.
    first_us: u64,
    bytes: u64,
}

/// # Errors
/// [`Kind::Unsupported`] when there is no journal; [`Kind::Permission`] and what unlink(2) reports; those of `check`.
pub fn vacuum<A: Action<On = Log>>(granted: &Granted<A>, bounds: Bounds, check: &dyn Fn() -> Result<()>) -> Result<Removed> {
    granted.to_be_done()?;
    vacuum_below(Path::new("/"), bounds, check)
}

fn vacuum_below(root: &Path, bounds: Bounds, check: &dyn Fn() -> Result<()>) -> Result<Removed> {
    let machine = std::fs::read_to_string(root.join("etc/machine-id")).ok().and_then(|text| parse_id(text.trim()));
    let machine =
        machine.map(|id| hex_id(&id)).ok_or_else(|| Error::new(Kind::Unsupported, "this host has no machine id, so no journal"))?;
    let (mut folders, mut archived) = (Vec::new(), Vec::new());
    for place in ["run/log/journal", "var/log/journal"] {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match rustix::fs::open(root.join(place).join(&machine), flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => continue,
            Err(errno) => return Err(Error::os("open", errno.raw_os_error())),
        };
        list(&folder, folders.len(), &mut archived)?;
        folders.push(folder);
    }
    if folders.is_empty() {
        return Err(Error::new(Kind::Unsupported, "this host has no journal files"));
    }
    archived.sort_by(|a, b| a.first_us.cmp(&b.first_us).then_with(|| a.name.cmp(&b.name)));
    let mut done = Removed {
        left_files: archived.len() as u64,
        left_bytes: archived.iter().fold(0, |sum, file| file.bytes.saturating_add(sum)),
        ..Removed::default()
    };
    for file in &archived {
        check()?;
        let too_much = bounds.bytes.is_some_and(|most| done.left_bytes > most)
            || bounds.files.is_some_and(|most| done.left_files > most)
            || bounds.since_us.is_some_and(|since| file.first_us < since);
        if !too_much {
            break;
        }
        let Some(folder) = folders.get(file.folder) else { break };
        match rustix::fs::unlinkat(folder, &file.name, AtFlags::empty()) {
            Ok(()) => {
                done.files += 1;
                done.bytes = done.bytes.saturating_add(file.bytes);
            }
            // journald made room meanwhile.
            Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(Error::os("remove an archived file of the journal", errno.raw_os_error())),
        }
        done.left_files -= 1;
        done.left_bytes = done.left_bytes.saturating_sub(file.bytes);
    }
    Ok(done)
}

fn list(folder: &OwnedFd, number: usize, archived: &mut Vec<Archived>) -> Result<()> {
    for entry in rustix::fs::Dir::read_from(folder)?.take(FILES_LIMIT * 10) {
        let entry = entry?;
        let name = entry.file_name();
        let Some(first_us) = name.to_str().ok().and_then(first_entry) else { continue };
        let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            continue;
        }
        use std::os::unix::ffi::OsStringExt as _;
        let name = OsString::from_vec(name.to_bytes().to_vec());
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        archived.push(Archived { folder: number, name, first_us, bytes });
    }
    Ok(())
}

/// The time of the first entry, of an archived file's name: `system@<series>-<number>-<time>.journal`, or of one that was left damaged:
/// `system@<time>-<chance>.journal~`. Nothing for files in use.
fn first_entry(name: &str) -> Option<u64> {
    let hex = |text: &str, digits: usize| {
        let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
    };
    if let Some(stem) = name.strip_suffix(".journal~") {
        let (_, rest) = stem.rsplit_once('@')?;
        let (time, chance) = rest.split_once('-')?;
        hex(chance, 16)?;
        return hex(time, 16);
    }
    let stem = name.strip_suffix(".journal")?;
    let (_, rest) = stem.rsplit_once('@')?;
    let mut parts = rest.split('-');
    let (series, number, time) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || series.len() != 32 || !series.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    hex(number, 16)?;
    hex(time, 16)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::fs;

    const SERIES: &str = "0123456789abcdef0123456789abcdef";
    const MACHINE: &str = "fedcba9876543210fedcba9876543210";

    fn archived(number: u64, time: u64) -> String {
        format!("system@{SERIES}-{number:016x}-{time:016x}.journal")
    }

    /// A host with archived files of these times, 8 KiB each, and files in use.
    fn host(times: &[u64]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("var/log/journal").join(MACHINE);
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/machine-id"), format!("{MACHINE}\n")).unwrap();
        for (number, time) in (1..).zip(times) {
            fs::write(folder.join(archived(number, *time)), vec![7u8; 8192]).unwrap();
        }
        for other in ["system.journal", "user-1000.journal", "notes.txt", "system@x-y-z.journal", "fss"] {
            fs::write(folder.join(other), vec![7u8; 8192]).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.join(archived(900, 1))).unwrap();
        root
    }

    fn names(root: &tempfile::TempDir) -> usize {
        fs::read_dir(root.path().join("var/log/journal").join(MACHINE)).unwrap().count()
    }

    #[test]
    fn names_tell_archived_files_from_those_in_use() {
        assert_eq!(first_entry(&archived(3, 0x55)), Some(0x55));
        assert_eq!(first_entry("user-1000@0000000000000055-0123456789abcdef.journal~"), Some(0x55));
        for other in ["system.journal", "user-1000.journal", "system@1-2-3.journal", "system@.journal", "a", "system@55-66.journal~"] {
            assert_eq!(first_entry(other), None, "{other}");
        }
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits_and_nothing_else_does() {
        let go = || Ok(());
        let root = host(&[30, 10, 20, 40]);
        let before = names(&root);
        let each = vacuum_below(root.path(), Bounds { files: Some(4), ..Bounds::default() }, &go).unwrap();
        assert_eq!((each.files, each.left_files, names(&root)), (0, 4, before));
        let size = each.left_bytes / 4;
        let by_time = vacuum_below(root.path(), Bounds { since_us: Some(11), ..Bounds::default() }, &go).unwrap();
        assert_eq!((by_time.files, by_time.left_files), (1, 3));
        let by_size = vacuum_below(root.path(), Bounds { bytes: Some(2 * size), ..Bounds::default() }, &go).unwrap();
        assert_eq!((by_size.files, by_size.bytes, by_size.left_files), (1, size, 2));
        let all = vacuum_below(root.path(), Bounds { files: Some(0), ..Bounds::default() }, &go).unwrap();
        assert_eq!((all.files, all.left_files, all.left_bytes), (2, 0, 0));
        // Those in use, what has another name, and the link are there.
        assert_eq!(names(&root), before - 4);
    }

    #[test]
    fn a_host_without_a_journal_says_so() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(vacuum_below(root.path(), Bounds::default(), &|| Ok(())).unwrap_err().kind, Kind::Unsupported);
    }
}
