//! The zip format, read from an open file: members that are stored or deflated.

use super::archive::{Bounds, Member, Solid, What, too_many};
use super::decompress::Caps;
use super::stream::{Check, Checked, from_io, to_io};
use crate::error::{Error, Kind, Result};
use std::io::{self, BufReader, Read, Seek};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

/// Bytes of the list of members, which is held in memory.
const MAX_DIRECTORY: u64 = 256 << 20;
/// The end record with the longest comment, APPNOTE 4.3.16.
const END: u64 = 22 + 0xffff;
/// The longest target of a symbolic link, which is stored as data; PATH_MAX of limits.h.
const MAX_TARGET: u64 = 4096;
/// Below so many bytes out the ratio does not matter.
const RATIO_FREE: u64 = 1 << 20;

fn bad(error: ZipError) -> Error {
    match error {
        ZipError::Io(error) if error.raw_os_error().is_some() || error.get_ref().is_some_and(|inner| inner.is::<Error>()) => from_io(error),
        ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) | ZipError::InvalidPassword => Error::new(
            Kind::Unsupported,
            "the archive uses a part of the zip format that is not supported (another method than stored and deflated, encryption, several volumes)",
        ),
        _ => Error::new(Kind::BadData, "not a sound zip archive"),
    }
}

/// See [`super::archive::each`].
pub(super) fn each(
    mut file: std::fs::File,
    bounds: Bounds,
    check: Check<'_>,
    visit: &mut dyn FnMut(&Member, &mut dyn super::archive::Data) -> Result<bool>,
) -> Result<()> {
    measure(&mut file, bounds.members)?;
    let mut archive = ZipArchive::new(BufReader::with_capacity(64 << 10, Stoppable { file, check })).map_err(bad)?;
    if archive.len() as u64 > bounds.members {
        return Err(too_many(bounds.members));
    }
    // The same data under many names unfolds to far more than any single member.
    if archive.has_overlapping_entries().map_err(bad)? {
        return Err(Error::new(Kind::BadData, "members of the zip archive overlap"));
    }
    let mut out = 0;
    for at in 0..archive.len() {
        check()?;
        let listed = archive.by_index_raw(at).map_err(bad)?;
        let mut member = describe(&listed);
        let readable = matches!(listed.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) && !listed.encrypted();
        let packed = listed.compressed_size();
        if listed.encrypted() {
            member.obstacle = Some("it is encrypted");
        } else if !readable {
            member.obstacle = Some("it is packed in a way that is not supported (only stored and deflated are)");
        }
        drop(listed);
        if !readable {
            if !visit(&member, &mut Solid(io::empty()))? {
                return Ok(());
            }
            continue;
        }
        let data = archive.by_index(at).map_err(bad)?;
        let mut data = Guarded { inner: data, packed, size: member.size, here: 0, out: &mut out, caps: bounds.caps };
        if member.what == What::Symlink {
            let mut target = Vec::new();
            Read::by_ref(&mut data).take(MAX_TARGET).read_to_end(&mut target).map_err(from_io)?;
            member.target = target;
            member.size = 0;
        }
        if !visit(&member, &mut Solid(Checked::new(&mut data, check)))? {
            return Ok(());
        }
        // To the end, where its checksum is.
        super::fresh::pour(&mut data, &mut io::sink(), check)?;
    }
    Ok(())
}

fn describe<R: Read>(file: &zip::read::ZipFile<'_, R>) -> Member {
    // Unix type bits of the external attributes; 0 where another system made it.
    let mode = file.unix_mode().unwrap_or(0);
    let what = match mode & 0o170_000 {
        0o120_000 => What::Symlink,
        0o040_000 => What::Dir,
        0o010_000 => What::Fifo,
        0o020_000 => What::CharDevice,
        0o060_000 => What::BlockDevice,
        0o140_000 => What::Other,
        _ if file.name_raw().ends_with(b"/") => What::Dir,
        _ => What::File,
    };
    let mut member = Member::new(what);
    member.path = file.name_raw().to_vec();
    member.size = if what == What::Dir { 0 } else { file.size() };
    member.mode = match (file.unix_mode(), what) {
        (Some(mode), _) if mode & 0o7777 != 0 => mode & 0o7777,
        (_, What::Dir) => 0o755,
        _ => 0o644,
    };
    // Of no zone; taken for UTC.
    member.mtime = file.last_modified().and_then(|time| {
        let part = |number: u8| i8::try_from(number).ok();
        let civil = jiff::civil::DateTime::new(
            i16::try_from(time.year()).ok()?,
            part(time.month())?,
            part(time.day())?,
            part(time.hour())?,
            part(time.minute())?,
            part(time.second().min(59))?,
            0,
        );
        jiff::tz::TimeZone::UTC.to_timestamp(civil.ok()?).ok().map(|time| (time.as_second(), 0))
    });
    member
}

/// Looks at the end record before the list of members is read into memory.
fn measure(file: &mut std::fs::File, members: u64) -> Result<()> {
    let none = || Error::new(Kind::BadData, "not a zip archive: it has no end record");
    let size = file.seek(io::SeekFrom::End(0)).map_err(from_io)?;
    let from = size.saturating_sub(END + 20);
    file.seek(io::SeekFrom::Start(from)).map_err(from_io)?;
    let mut tail = Vec::new();
    Read::by_ref(file).take(END + 20).read_to_end(&mut tail).map_err(from_io)?;
    let end = memchr::memmem::rfind(&tail, b"PK\x05\x06").ok_or_else(none)?;
    let number = |at: usize, len: usize| -> Option<u64> {
        let bytes = tail.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (count, length) = (number(end + 10, 2).ok_or_else(none)?, number(end + 12, 4).ok_or_else(none)?);
    // More than fits is in the record of zip64 (APPNOTE 4.3.14), whose place the locator before the end record tells.
    let (count, length) = if count == 0xffff || length == 0xffff_ffff {
        let locator = end.checked_sub(20).filter(|at| tail.get(*at..at + 4) == Some(b"PK\x06\x07"));
        match locator.and_then(|at| number(at + 8, 8)) {
            Some(place) => {
                let mut record = [0; 56];
                file.seek(io::SeekFrom::Start(place)).map_err(from_io)?;
                file.read_exact(&mut record).map_err(|_| none())?;
                let number = |at: usize| {
                    record.get(at..at + 8).unwrap_or_default().iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
                };
                (number(32), number(40))
            }
            None => (count, length),
        }
    } else {
        (count, length)
    };
    file.rewind().map_err(from_io)?;
    if count > members {
        return Err(too_many(members));
    }
    if length > MAX_DIRECTORY.min(size) {
        return Err(Error::new(Kind::BadData, "not a sound zip archive: its list of members is too long"));
    }
    Ok(())
}

/// A file that looks at the check before every read.
struct Stoppable<'a> {
    file: std::fs::File,
    check: Check<'a>,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.check)().map_err(to_io)?;
        self.file.read(buffer)
    }
}
impl Seek for Stoppable<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// The data of a member, held to the caps and to the size that the archive says; errors say what is wrong.
struct Guarded<'a, R> {
    inner: R,
    packed: u64,
    size: u64,
    here: u64,
    /// What came out of all members.
    out: &'a mut u64,
    caps: Caps,
}

impl<R: Read> Read for Guarded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.inner.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            read => read.map_err(|error| to_io(bad(ZipError::Io(error))))?,
        };
        self.here += count as u64;
        *self.out += count as u64;
        if self.here > self.size || (count == 0 && !buffer.is_empty() && self.here < self.size) {
            return Err(to_io(Error::new(Kind::BadData, "a member of the zip archive is not as long as the archive says")));
        }
        if *self.out > self.caps.max_bytes {
            return Err(to_io(Error::new(Kind::TooLarge, format!("unpacked it is more than {} bytes", self.caps.max_bytes))));
        }
        if self.here > RATIO_FREE && self.here / self.packed.max(1) > self.caps.max_ratio {
            return Err(to_io(Error::new(Kind::TooLarge, format!("it unpacks to more than {} times its size", self.caps.max_ratio))));
        }
        Ok(count)
    }
}
