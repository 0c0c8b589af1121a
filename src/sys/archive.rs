//! What is in an archive, whatever its form: one member after the other, each with its data as a stream.

use super::decompress::{Caps, Format, Plain};
use super::fresh::Moment;
use super::stream::{Check, Checked};
use super::{tar, zip};
use crate::error::{Error, Kind, Result};
use std::io::{self, Read};

/// Bytes of an archive read at a time.
const BLOCK: usize = 128 << 10;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    File,
    Dir,
    Symlink,
    /// Another name of a member before it.
    HardLink,
    Fifo,
    CharDevice,
    BlockDevice,
    /// Nothing that can be extracted: a type that only some programs know.
    Other,
}

impl What {
    /// The word for scripts, as `stat` has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
            Self::HardLink => "hard_link",
            Self::Fifo => "fifo",
            Self::CharDevice => "char_device",
            Self::BlockDevice => "block_device",
            Self::Other => "unknown",
        }
    }
}

/// One member as the archive describes it. Nothing of it is to be believed.
#[derive(Clone, Debug)]
pub struct Member {
    pub path: Vec<u8>,
    pub what: What,
    /// The bytes that its data comes to.
    pub size: u64,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub owner: Vec<u8>,
    pub group: Vec<u8>,
    pub mtime: Option<Moment>,
    /// Where a link leads.
    pub target: Vec<u8>,
    /// A form of packing that is not known here, or what else stands in the way of its data.
    pub obstacle: Option<&'static str>,
}

impl Member {
    #[must_use]
    pub fn new(what: What) -> Self {
        Self {
            path: Vec::new(),
            what,
            size: 0,
            mode: 0,
            uid: 0,
            gid: 0,
            owner: Vec::new(),
            group: Vec::new(),
            mtime: None,
            target: Vec::new(),
            obstacle: None,
        }
    }
}

/// The forms of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Plain, or packed with gzip, zstd, bzip2 or xz.
    Tar,
    Zip,
}

/// The data of a member: its bytes, and where it has holes, how long those are.
pub trait Data: Read {
    /// The zeros that come next and are not stored, to be passed over at once; 0 where bytes come next. They count as read.
    fn hole(&mut self) -> u64 {
        0
    }
}

/// Data without holes.
pub struct Solid<R>(pub R);

impl<R: Read> Read for Solid<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}
impl<R: Read> Data for Solid<R> {}

/// What an archive may come to.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub members: u64,
    pub caps: Caps,
}

/// Visits every member of an open archive from its beginning; a visitor that says `false` ends it. Data that the visitor leaves is passed over.
///
/// # Errors
/// [`Kind::BadData`] when it is none, is damaged or ends too early; [`Kind::TooLarge`] past the bounds; those of the visitor and of the check.
pub fn each(
    mut file: std::fs::File,
    form: Form,
    bounds: Bounds,
    check: Check<'_>,
    visit: &mut dyn FnMut(&Member, &mut dyn Data) -> Result<bool>,
) -> Result<()> {
    io::Seek::rewind(&mut file).map_err(super::stream::from_io)?;
    match form {
        Form::Zip => zip::each(file, bounds, check, visit),
        Form::Tar => {
            let plain = Plain::new(Checked::new(file, check), bounds.caps)?;
            let packed = plain.format() != Format::Plain;
            // Headers are small, and so are most members.
            let mut reader = tar::Reader::new(io::BufReader::with_capacity(BLOCK, plain));
            let mut count = 0;
            while let Some(member) = reader.next_member()? {
                count += 1;
                if count > bounds.members {
                    return Err(too_many(bounds.members));
                }
                if !visit(&member, &mut reader)? {
                    return Ok(());
                }
            }
            if packed {
                // To the end of what is packed, where its checksum is.
                super::fresh::pour(&mut reader.into_inner(), &mut io::sink(), check)?;
            }
            Ok(())
        }
    }
}

pub(super) fn too_many(limit: u64) -> Error {
    Error::new(Kind::TooLarge, format!("the archive has more than {limit} members")).with_hint("raise `max_members`")
}
