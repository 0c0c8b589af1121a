//! What processes have open and hold otherwise: descriptors, folders, program, mapped files (proc_pid_fd(5), proc_pid_fdinfo(5), proc_pid_maps(5)).

use super::inspector::{self, Judged};
use super::process::{Table, numbers, sub_dir};
use super::{int, read_at};
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::process::Process;
use crate::sys::stream::Check;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::os::fd::OwnedFd;

/// How a process holds a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    Fd(i64),
    /// Its working directory, root directory, program.
    Cwd,
    Root,
    Program,
    /// Mapped into its memory, e.g. a library.
    Mapped,
}

/// Something that a process has open or holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub hold: Hold,
    /// As readlink(2) gives it: a path, ` (deleted)` behind it where no name leads there any more, or e.g. `socket:[123]`.
    pub path: Vec<u8>,
    /// e.g. `REG`, as lsof(8) calls it.
    pub kind: String,
    /// Of a descriptor: read, write, both; nothing for a handle on a path alone (`O_PATH`) and for what is no descriptor.
    pub access: Option<String>,
    pub device: u64,
    pub inode: u64,
    /// Bytes; nothing where it has no length.
    pub size: Option<i64>,
    /// Where the next read or write is, in bytes.
    pub position: Option<i64>,
}

/// Files of one process at most: the kernel's own limit of descriptors (nr_open), and as many mappings.
const MOST: usize = 1 << 21;

/// What a granted process has open and holds. Nothing of a process that has ended.
///
/// # Errors
/// [`Kind::Permission`] when the kernel does not show it to this user; the check's reason.
pub fn open_by<A: Action<On = Process>>(table: &Table, granted: &Granted<A>, check: Check<'_>) -> Result<Vec<Open>> {
    let process = granted.resource();
    let judged = Judged { pid: process.pid, start_ticks: process.start_ticks };
    let looked = inspector::open(judged).unwrap_or_else(|| look(table, judged, check));
    looked.map_err(|error| error.with_path(format!("/proc/{}/fd", process.pid)))
}

/// The same, without the inspector.
pub(super) fn look(table: &Table, judged: Judged, check: Check<'_>) -> Result<Vec<Open>> {
    let failed = |errno: Errno| Error::os("read", errno.raw_os_error());
    let dir = match table.still(judged) {
        Ok(Some(dir)) => dir,
        Ok(None) | Err(Errno::NOENT | Errno::SRCH) => return Ok(Vec::new()),
        Err(errno) => return Err(failed(errno)),
    };
    let (fds, infos) = match (sub_dir(&dir, "fd"), sub_dir(&dir, "fdinfo")) {
        (Ok(fds), infos) => (fds, infos.ok()),
        (Err(Errno::NOENT | Errno::SRCH), _) => return Ok(Vec::new()),
        (Err(errno), _) => return Err(failed(errno)),
    };
    let mut all = Vec::new();
    for (name, hold) in [("cwd", Hold::Cwd), ("root", Hold::Root), ("exe", Hold::Program)] {
        all.extend(held(&dir, name, hold));
    }
    for fd in numbers(&fds, "fd", check)? {
        if all.len() >= MOST {
            return Err(Error::new(Kind::TooLarge, "the process has more open than is looked at"));
        }
        let Some(mut open) = held(&fds, &fd.to_string(), Hold::Fd(fd.into())) else { continue };
        let info = infos.as_ref().and_then(|infos| read_at(infos, &fd.to_string(), 1024).ok()).unwrap_or_default();
        let info = String::from_utf8_lossy(&info).into_owned();
        open.access = info_field(&info, "flags:").and_then(|flags| i32::from_str_radix(flags, 8).ok()).and_then(access);
        open.position = info_field(&info, "pos:").and_then(|at| at.parse().ok()).filter(|_| open.size.is_some());
        all.push(open);
    }
    let known: HashSet<(u64, u64)> = all.iter().filter(|open| open.hold == Hold::Program).map(|open| (open.device, open.inode)).collect();
    // Larger than any reasonable one; what is cut off is the end of the list of mappings.
    let maps = read_at(&dir, "maps", 32 << 20).unwrap_or_default();
    all.extend(mapped(&maps).into_iter().filter(|open| !known.contains(&(open.device, open.inode))).take(MOST));
    Ok(all)
}

/// What a link of /proc leads to; nothing where it is gone, or the kernel has none.
fn held(dir: &OwnedFd, name: &str, hold: Hold) -> Option<Open> {
    let path = rustix::fs::readlinkat(dir, name, Vec::with_capacity(256)).ok()?.into_bytes();
    // No automounter is woken and no file server asked for more than the kernel has.
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(dir, name, flags, rustix::fs::StatxFlags::BASIC_STATS).ok();
    let kind = stat.as_ref().map_or("UNK", |stat| word(FileType::from_raw_mode(stat.stx_mode.into()), &path));
    let regular = kind == "REG";
    Some(Open {
        hold,
        kind: kind.to_owned(),
        access: None,
        device: stat.as_ref().map_or(0, |stat| rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor)),
        inode: stat.as_ref().map_or(0, |stat| stat.stx_ino),
        size: stat.as_ref().filter(|_| regular).map(|stat| int(stat.stx_size)),
        position: None,
        path,
    })
}

/// The kinds of lsof(8), by the names that the reference has.
fn word(kind: FileType, path: &[u8]) -> &'static str {
    match kind {
        FileType::RegularFile => "REG",
        FileType::Directory => "DIR",
        FileType::Symlink => "LNK",
        FileType::Socket => "SOCK",
        FileType::CharacterDevice => "CHR",
        FileType::BlockDevice => "BLK",
        FileType::Fifo => "FIFO",
        _ if path.starts_with(b"anon_inode:") => "ANON_INODE",
        _ => "UNK",
    }
}

fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// From the flags of open(2).
fn access(flags: i32) -> Option<String> {
    if flags & libc::O_PATH != 0 {
        return None;
    }
    Some(match flags & libc::O_ACCMODE {
        libc::O_RDONLY => "r".to_owned(),
        libc::O_WRONLY => "w".to_owned(),
        _ => "rw".to_owned(),
    })
}

/// Files in the list of mappings, each once: `address perms offset major:minor inode path`.
fn mapped(maps: &[u8]) -> Vec<Open> {
    let mut known = HashSet::new();
    let row = |line: &[u8]| {
        let mut rest = line;
        let mut words = [&b""[..]; 5];
        for word in &mut words {
            let end = rest.iter().position(|byte| *byte == b' ')?;
            let (first, more) = rest.split_at(end);
            *word = first;
            rest = more.get(1..)?;
        }
        let path = rest.get(rest.iter().position(|byte| *byte != b' ')?..)?;
        let (_, _, _, device, inode) = (words.first()?, words.get(1)?, words.get(2)?, words.get(3)?, words.get(4)?);
        let (major, minor) = std::str::from_utf8(device).ok()?.split_once(':')?;
        let number = |text: &str| u32::from_str_radix(text, 16).ok();
        let device = rustix::fs::makedev(number(major)?, number(minor)?);
        let inode = std::str::from_utf8(inode).ok()?.parse::<u64>().ok()?;
        (inode != 0 && path.starts_with(b"/") && known.insert((device, inode))).then(|| Open {
            hold: Hold::Mapped,
            path: unescaped(path),
            kind: "REG".to_owned(),
            access: None,
            device,
            inode,
            size: None,
            position: None,
        })
    };
    maps.split(|byte| *byte == b'\n').filter_map(row).collect()
}

/// The kernel writes a newline in a path as `\012`, and nothing else so (seq_file_path).
fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, more)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"\\012") {
            plain.push(b'\n');
            rest = after;
        } else {
            plain.push(*first);
            rest = more;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn mappings_are_listed_once_for_each_file() {
        let maps = b"5500-5600 r--p 00000000 08:01 42                         /usr/bin/a b\n\
            5600-5700 r-xp 00001000 08:01 42                         /usr/bin/a b\n\
            5700-5800 rw-p 00000000 00:00 0                          [heap]\n\
            5800-5900 rw-p 00000000 00:00 0 \n\
            5900-5a00 r--p 00000000 08:01 43                         /x\\012y (deleted)\nbroken\n";
        let found = mapped(maps);
        assert_eq!(
            found.iter().map(|open| (open.path.as_slice(), open.inode)).collect::<Vec<_>>(),
            [(&b"/usr/bin/a b"[..], 42), (&b"/x\ny (deleted)"[..], 43)]
        );
        assert_eq!(found[0].device, rustix::fs::makedev(8, 1));
    }

    #[test]
    fn this_process_holds_what_it_opened() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        let reader = std::fs::File::open(file.path()).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let table = Table::open().unwrap();
        let judged = Judged { pid: own.into(), start_ticks: table.began(own).unwrap() };
        let all = look(&table, judged, &|| Ok(())).unwrap();
        let fd = |fd: i32| all.iter().find(|open| open.hold == Hold::Fd(fd.into())).unwrap();
        use std::os::fd::AsRawFd as _;
        let read = fd(reader.as_raw_fd());
        assert_eq!((read.kind.as_str(), read.access.as_deref(), read.size, read.position), ("REG", Some("r"), Some(5), Some(0)));
        assert_eq!(fd(file.as_file().as_raw_fd()).access.as_deref(), Some("rw"));
        assert!(all.iter().any(|open| open.hold == Hold::Cwd && open.kind == "DIR"));
        assert!(all.iter().any(|open| open.hold == Hold::Program && open.path.starts_with(b"/")));
        let other = Judged { pid: own.into(), start_ticks: judged.start_ticks + 1 };
        assert!(look(&table, other, &|| Ok(())).unwrap().is_empty());
    }
}
