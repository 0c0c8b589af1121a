//! Packing a stream: gzip, zstd and xz. (Unpacking is in `decompress`.)

use super::decompress::Format;
use super::stream::from_io;
use crate::error::{Error, Kind, Result};
use std::io::{self, Write};

/// Bytes of a plain stream written at a time: the parts of an archive are small.
const BLOCK: usize = 128 << 10;

/// What is packed into, and how well.
#[derive(Clone, Debug)]
pub struct Packing {
    pub format: Format,
    pub level: u32,
    /// For gzip's header (RFC 1952): the name, without NUL, and the time of the file that is packed.
    pub name: Option<Vec<u8>>,
    pub mtime: i64,
}

impl Packing {
    /// The level that the format's own program takes when it is told none.
    #[must_use]
    pub fn usual(format: Format) -> Self {
        Self { format, level: if format == Format::Zstd { 3 } else { 6 }, name: None, mtime: 0 }
    }
}

/// A writer whose bytes come out packed.
pub enum Packer<W: Write> {
    Plain(io::BufWriter<W>),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
    Xz(liblzma::write::XzEncoder<W>),
}

impl<W: Write> Packer<W> {
    /// # Errors
    /// [`Kind::Unsupported`] for bzip2, which is only read; what the library reports.
    pub fn new(to: W, packing: &Packing) -> Result<Self> {
        Ok(match packing.format {
            Format::Plain => Self::Plain(io::BufWriter::with_capacity(BLOCK, to)),
            Format::Gzip => {
                let mut header = flate2::GzBuilder::new().mtime(u32::try_from(packing.mtime).unwrap_or(0));
                if let Some(name) = &packing.name {
                    header = header.filename(name.as_slice());
                }
                Self::Gzip(header.write(to, flate2::Compression::new(packing.level)))
            }
            Format::Zstd => {
                let level = i32::try_from(packing.level).unwrap_or(3);
                let mut encoder = zstd::stream::write::Encoder::new(to, level).map_err(from_io)?;
                encoder.include_checksum(true).map_err(from_io)?;
                Self::Zstd(encoder)
            }
            Format::Xz => Self::Xz(liblzma::write::XzEncoder::new(to, packing.level)),
            Format::Bzip2 => return Err(Error::new(Kind::Unsupported, "bzip2 is read, not written")),
        })
    }
    /// Writes what is still held back.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(self) -> Result<W> {
        match self {
            Self::Plain(to) => to.into_inner().map_err(io::IntoInnerError::into_error),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Xz(encoder) => encoder.finish(),
        }
        .map_err(from_io)
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(to) => to.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
            Self::Xz(encoder) => encoder.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(to) => to.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
            Self::Xz(encoder) => encoder.flush(),
        }
    }
}
