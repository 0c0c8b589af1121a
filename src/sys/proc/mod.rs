//! What the kernel tells about processes, filesystems, memory and the machine, read from its fixed files. See proc(5).

pub mod counters;
pub mod details;
pub mod fds;
pub mod inspector;
pub mod kmsg;
pub mod machine;
pub mod memory;
pub mod mounts;
pub mod process;
pub mod processor;
pub mod restart;
pub mod settings;
pub mod signal;
pub mod sockets;
pub mod stacks;
pub mod utmp;

use crate::error::{Error, Kind, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes read of one file of the kernel at most.
const MAX_FILE: usize = 4 << 20;

/// Opens a folder of the kernel by its fixed path.
fn open_dir(path: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| missing(path, errno))
}

/// The bytes of a fixed file of the kernel.
fn read_file(path: &str) -> Result<Vec<u8>> {
    read_at(rustix::fs::CWD, path, MAX_FILE).map_err(|errno| missing(path, errno))
}

/// The text of a fixed file of the kernel.
fn read_text(path: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&read_file(path)?).into_owned())
}

/// The first bytes of a file in a folder of the kernel, up to a limit.
fn read_at(dir: impl AsFd, name: &str, limit: usize) -> std::result::Result<Vec<u8>, Errno> {
    let file = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::with_capacity(limit.min(4 << 10));
    while bytes.len() < limit {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(bytes.len().max(1 << 10));
        }
        let room = limit - bytes.len();
        let got = if room >= bytes.capacity() - bytes.len() {
            rustix::io::retry_on_intr(|| rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)))?
        } else {
            let mut rest = vec![0; room];
            let got = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut rest))?;
            rest.truncate(got);
            bytes.extend_from_slice(&rest);
            got
        };
        if got == 0 {
            break;
        }
    }
    Ok(bytes)
}

fn missing(path: &str, errno: Errno) -> Error {
    if errno == Errno::NOENT {
        return Error::new(Kind::Unsupported, format!("this kernel does not offer `{path}`"));
    }
    Error::os("read", errno.raw_os_error()).with_path(path)
}

fn odd(path: &str) -> Error {
    Error::new(Kind::BadData, "the kernel's file does not have the form it should have").with_path(path)
}

/// Sizes as scripts see them.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
