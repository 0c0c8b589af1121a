//! The messages of the kernel, from `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg): one record per read, the oldest that is left first.

use super::int;
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted, Resource as _};
use crate::resource::file::File;
use crate::resource::path;
use crate::sys::stream::Check;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

/// The device: memory devices, number 11.
const DEVICE: (u32, u32) = (1, 11);
/// The kernel gives no record longer than this (CONSOLE_EXT_LOG_MAX).
const RECORD: usize = 8192;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// 0 (emergency) to 7 (debug).
    pub level: u8,
    /// e.g. 0 for the kernel, 3 for daemons.
    pub facility: i64,
    pub sequence: i64,
    /// Microseconds since the start of the machine, time asleep not counted.
    pub at_us: i64,
    /// Bytes that are no text are written `\xNN` by the kernel.
    pub text: String,
    /// e.g. `SUBSYSTEM`, `DEVICE`.
    pub fields: Vec<(String, String)>,
}

/// Every message that is left, each handed over as it comes.
///
/// # Errors
/// [`Kind::NotAFile`] for anything but that device, [`Kind::Permission`] where `kernel.dmesg_restrict` keeps this user out, what read(2) reports, and the reason
/// of the check.
pub fn each<A: Action<On = File>>(granted: &Granted<A>, check: Check<'_>, mut take: impl FnMut(Message)) -> Result<()> {
    let file = granted.resource();
    let shown = || file.asked().shown();
    let missing = || file.obstacle().unwrap_or_else(|| Error::new(Kind::NotFound, "no such device").with_path(shown()));
    let (Some(handle), Some(stat)) = (file.handle(), file.stat()) else { return Err(missing()) };
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || device != DEVICE {
        return Err(Error::new(Kind::NotAFile, "is not the device of the kernel's messages").with_path(shown()));
    }
    let opened = path::reopen(handle, OFlags::RDONLY | OFlags::NONBLOCK).map_err(|error| error.with_path(shown()))?;
    let mut buffer = vec![0; RECORD];
    loop {
        check()?;
        match rustix::io::read(&opened, &mut buffer) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(()),
            Ok(length) => {
                if let Some(message) = buffer.get(..length).and_then(|bytes| parse(&String::from_utf8_lossy(bytes))) {
                    take(message);
                }
            }
            // EPIPE: messages were overwritten before they were read; the next read gives the oldest that is left.
            Err(Errno::INTR | Errno::PIPE) => {}
            Err(errno) => return Err(Error::os("read", errno.raw_os_error()).with_path(shown())),
        }
    }
}

fn parse(text: &str) -> Option<Message> {
    let (head, rest) = text.split_once(';')?;
    let mut lines = rest.split('\n');
    let message = lines.next()?.to_owned();
    let mut numbers = head.split(',').map(str::parse::<u64>);
    let (priority, sequence, at_us) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    let fields = lines.filter_map(|line| line.strip_prefix(' ')?.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned()));
    Some(Message {
        level: u8::try_from(priority & 7).ok()?,
        facility: int(priority >> 3),
        sequence: int(sequence),
        at_us: int(at_us),
        text: message,
        fields: fields.collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn records_are_read_as_the_kernel_writes_them() {
        let message = parse("30,1234,5678901,-;eth0: link is up; full\n SUBSYSTEM=net\n DEVICE=n2\n").unwrap();
        assert_eq!((message.level, message.facility, message.sequence, message.at_us), (6, 3, 1234, 5_678_901));
        assert_eq!(message.text, "eth0: link is up; full");
        assert_eq!(message.fields, [("SUBSYSTEM".to_owned(), "net".to_owned()), ("DEVICE".to_owned(), "n2".to_owned())]);
        assert_eq!(parse("6,1,2,-,caller=T1;x\n").unwrap().text, "x");
        for odd in ["", "6,1;x", "a,b,c;x", "6,1,2,-"] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }
}
