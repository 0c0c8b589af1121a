//! Compressed files read as if they were plain: gzip, zstd, bzip2 and xz, known by their first bytes and never by their name.

use crate::error::{Error, Kind, Result};
use crate::sys::stream::{from_io, to_io};
use std::io::{self, BufRead, BufReader, Read};

/// Bytes of compressed data read at a time.
const BLOCK: usize = 64 << 10;

/// Bytes that tell the format, and bytes read first.
const MARK: usize = 6;
const HEAD: usize = 4 << 10;

/// What a stream is packed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Plain,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames.
    Zstd,
    Bzip2,
    /// The .xz format, any number of streams.
    Xz,
}

impl Format {
    /// The word for scripts: `plain`, `gzip`, `zstd`, `bzip2`, `xz`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }

    /// Tells the format by the first bytes; six are enough.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, RFC 8878 §3.1.2: pzstd and seekable files may begin with one.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::Plain,
        }
    }
}

/// What unpacking may produce and use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Bytes that may come out; more is the error `too_large`. Plain data is not counted.
    pub max_bytes: u64,
    /// Bytes out for each byte in, once more than 1 MiB came out. gzip cannot pass 1032; logs of one repeated line reach it.
    pub max_ratio: u64,
    /// Bytes of memory that a decoder may ask for.
    pub max_memory: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self { max_bytes: 16 << 30, max_ratio: 20_000, max_memory: 128 << 20 }
    }
}

/// Below so many bytes out the ratio does not matter.
const RATIO_FREE: u64 = 1 << 20;

/// The plain bytes of a reader, whatever it is packed with.
pub struct Plain<'a> {
    format: Format,
    inner: Box<dyn Read + 'a>,
}

impl<'a> Plain<'a> {
    /// Looks at the first bytes and unpacks from there on.
    ///
    /// # Errors
    /// What the reader reports.
    pub fn new<R: Read + 'a>(mut reader: R, caps: Caps) -> Result<Self> {
        // More than the mark is asked for: most of many small files are had with this one read.
        let mut head = vec![0; HEAD];
        let mut have = 0;
        while have < MARK {
            match reader.read(head.get_mut(have..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(count) => have += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(from_io(error)),
            }
        }
        head.truncate(have);
        let format = Format::of(&head);
        let whole = io::Cursor::new(head).chain(reader);
        let inner: Box<dyn Read + 'a> = match format {
            Format::Plain => Box::new(whole),
            Format::Gzip => {
                let member = Some(flate2::bufread::GzDecoder::new(counted(whole)));
                Box::new(Guarded { format, caps, out: 0, decoder: Gzip { member, taken: 0 } })
            }
            Format::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(counted(whole)).map_err(from_io)?;
                // The window is what a frame makes the decoder hold, RFC 8878 §3.1.1.1.2.
                decoder.window_log_max(caps.max_memory.max(1 << 10).ilog2().min(31)).map_err(from_io)?;
                Box::new(Guarded { format, caps, out: 0, decoder })
            }
            Format::Bzip2 => Box::new(Guarded { format, caps, out: 0, decoder: bzip2::bufread::MultiBzDecoder::new(counted(whole)) }),
            Format::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(caps.max_memory, liblzma::stream::CONCATENATED)
                    .map_err(|error| from_io(error.into()))?;
                Box::new(Guarded { format, caps, out: 0, decoder: liblzma::bufread::XzDecoder::new_stream(counted(whole), stream) })
            }
        };
        Ok(Self { format, inner })
    }

    /// What it was packed with.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }
}

impl Read for Plain<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

type Source<R> = Counted<BufReader<R>>;

fn counted<R: Read>(reader: R) -> Source<R> {
    Counted { inner: BufReader::with_capacity(BLOCK, reader), taken: 0 }
}

/// A buffered reader that counts what was taken from it.
struct Counted<B> {
    inner: B,
    taken: u64,
}

impl<B: BufRead> Read for Counted<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.taken += got as u64;
        Ok(got)
    }
}

impl<B: BufRead> BufRead for Counted<B> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }
    fn consume(&mut self, amount: usize) {
        self.taken += amount as u64;
        self.inner.consume(amount);
    }
}

/// A decoder that can say how much packed data it has taken.
trait Decoder: Read {
    fn taken(&self) -> u64;
}

impl<R: Read> Decoder for Gzip<R> {
    fn taken(&self) -> u64 {
        self.taken
    }
}
impl<R: Read> Decoder for flate2::bufread::GzDecoder<Source<R>> {
    fn taken(&self) -> u64 {
        self.get_ref().taken
    }
}
impl<R: Read> Decoder for zstd::stream::read::Decoder<'_, Source<R>> {
    fn taken(&self) -> u64 {
        self.get_ref().taken
    }
}
impl<R: Read> Decoder for bzip2::bufread::MultiBzDecoder<Source<R>> {
    fn taken(&self) -> u64 {
        self.get_ref().taken
    }
}
impl<R: Read> Decoder for liblzma::bufread::XzDecoder<Source<R>> {
    fn taken(&self) -> u64 {
        self.get_ref().taken
    }
}

/// Every member of a gzip file, one after the other; zero bytes behind the last are padding (tapes, block devices), anything else is an error.
struct Gzip<R: Read> {
    /// Nothing once the end was seen.
    member: Option<flate2::bufread::GzDecoder<Source<R>>>,
    taken: u64,
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let got = member.read(buffer)?;
            self.taken = member.get_ref().taken;
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            if let Some(member) = self.member.take() {
                let mut source = member.into_inner();
                match source.fill_buf()?.first() {
                    None => {}
                    Some(0) => only_zeros(&mut source)?,
                    Some(_) => self.member = Some(flate2::bufread::GzDecoder::new(source)),
                }
            }
        }
        Ok(0)
    }
}

fn only_zeros(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = source.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(to_io(Error::new(Kind::BadData, "other bytes follow the end of the gzip data")));
        }
        let len = bytes.len();
        source.consume(len);
    }
}

/// What the members of a gzip file say and come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GzipFacts {
    pub members: u64,
    pub packed: u64,
    pub unpacked: u64,
    /// The name in the first member's header.
    pub name: Option<Vec<u8>>,
    /// The time in the first member's header; 0 is none (RFC 1952).
    pub mtime: u32,
}

/// Reads a gzip file to its end and adds up its members; the size that it says itself is that of the last one, modulo 4 GiB.
///
/// # Errors
/// [`Kind::BadData`] for what is no sound gzip file; [`Kind::TooLarge`] past the caps; what the reader reports.
pub fn gzip_facts<R: Read>(reader: R, caps: Caps) -> Result<GzipFacts> {
    let mut facts = GzipFacts::default();
    let mut source = counted(reader);
    if Format::of(source.fill_buf().map_err(from_io)?) != Format::Gzip {
        return Err(Error::new(Kind::BadData, "not a gzip file"));
    }
    let mut buffer = vec![0; BLOCK];
    loop {
        let mut member = Guarded { format: Format::Gzip, caps, out: facts.unpacked, decoder: flate2::bufread::GzDecoder::new(source) };
        loop {
            match member.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(from_io(error)),
            }
        }
        facts.members += 1;
        facts.unpacked = member.out;
        if facts.members == 1
            && let Some(header) = member.decoder.header()
        {
            facts.name = header.filename().map(<[u8]>::to_vec);
            facts.mtime = header.mtime();
        }
        source = member.decoder.into_inner();
        match source.fill_buf().map_err(from_io)?.first() {
            None => break,
            Some(0) => {
                only_zeros(&mut source).map_err(from_io)?;
                break;
            }
            Some(_) => {}
        }
    }
    facts.packed = source.taken;
    Ok(facts)
}

/// A decoder held to its caps, whose errors say what is wrong with the data.
struct Guarded<D> {
    decoder: D,
    format: Format,
    caps: Caps,
    out: u64,
}

impl<D: Decoder> Read for Guarded<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.decoder.read(buffer).map_err(|error| damaged(self.format, error))?;
        self.out += got as u64;
        if self.out > self.caps.max_bytes {
            return Err(to_io(Error::new(Kind::TooLarge, format!("unpacked it is more than {} bytes", self.caps.max_bytes))));
        }
        if self.out > RATIO_FREE && self.out / self.decoder.taken().max(1) > self.caps.max_ratio {
            return Err(to_io(Error::new(Kind::TooLarge, format!("it unpacks to more than {} times its size", self.caps.max_ratio))));
        }
        Ok(got)
    }
}

/// What a decoder reports, in our kinds; errors of the reader below pass as they are.
fn damaged(format: Format, error: io::Error) -> io::Error {
    let below = error.raw_os_error().is_some() || error.get_ref().is_some_and(|inner| inner.is::<Error>());
    if below || error.kind() == io::ErrorKind::Interrupted {
        return error;
    }
    let name = format.name();
    to_io(if error.kind() == io::ErrorKind::UnexpectedEof {
        Error::new(Kind::BadData, format!("the {name} data ends too early"))
    } else {
        Error::new(Kind::BadData, format!("the {name} data cannot be unpacked: {}", error.to_string().to_lowercase()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::io::Write as _;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }
    fn zstd(data: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(data, 3).unwrap()
    }
    fn bzip2(data: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }
    fn xz(data: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }
    type Pack = fn(&[u8]) -> Vec<u8>;
    const PACKERS: [(Format, Pack); 4] = [(Format::Gzip, gzip), (Format::Zstd, zstd), (Format::Bzip2, bzip2), (Format::Xz, xz)];

    fn unpack(data: &[u8], caps: Caps) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        Plain::new(data, caps)?.read_to_end(&mut out).map_err(from_io)?;
        Ok(out)
    }

    /// Text that does not pack to nothing.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b' ' + (state >> 26) as u8
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    #[test]
    fn every_format_is_known_by_its_first_bytes_and_unpacked() {
        for (format, pack) in PACKERS {
            for data in [b"".to_vec(), b"hello\n".to_vec(), noise(500_000)] {
                let packed = pack(&data);
                assert_eq!(Plain::new(&packed[..], Caps::default()).unwrap().format(), format);
                assert!(unpack(&packed, Caps::default()).unwrap() == data, "{format:?}, {} bytes", data.len());
            }
        }
    }

    #[test]
    fn what_is_not_packed_comes_as_it_is_even_if_it_is_shorter_than_a_mark() {
        for data in [&b""[..], b"\x1f", b"BZh", b"BZh9 is how a bzip2 file begins\n", b"\x28\xb5", b"plain text\n"] {
            assert_eq!(unpack(data, Caps::default()).unwrap(), data);
        }
    }

    #[test]
    fn every_member_of_a_file_is_read_and_not_only_the_first() {
        // The reference sees the first gzip member only (files.md D6).
        for (format, pack) in PACKERS {
            let packed = [pack(b"first\n"), pack(b""), pack(&noise(100_000)), pack(b"last\n")].concat();
            let expected = [b"first\n".to_vec(), noise(100_000), b"last\n".to_vec()].concat();
            assert!(unpack(&packed, Caps::default()).unwrap() == expected, "{format:?}");
        }
    }

    #[test]
    fn truncated_data_is_an_error_wherever_it_is_cut() {
        // The reference ends such a search silently (files.md D7).
        for (format, pack) in PACKERS {
            let packed = pack(&noise(3000));
            for cut in (8..packed.len()).step_by(97).chain([packed.len() - 1]) {
                let error = unpack(&packed[..cut], Caps::default()).unwrap_err();
                assert_eq!(error.kind, Kind::BadData, "{format:?} cut at {cut}: {error}");
            }
        }
    }

    #[test]
    fn damaged_data_is_an_error() {
        for (format, pack) in PACKERS {
            let mut packed = pack(&noise(3000));
            let middle = packed.len() / 2;
            packed[middle] ^= 0x55;
            let result = unpack(&packed, Caps::default());
            // zstd's default frame of this encoder has no checksum, so a changed literal can pass; the length cannot.
            if format != Format::Zstd {
                assert_eq!(result.unwrap_err().kind, Kind::BadData, "{format:?}");
            }
        }
    }

    #[test]
    fn padding_behind_gzip_is_accepted_and_anything_else_is_not() {
        assert_eq!(unpack(&[gzip(b"text"), vec![0; 1000]].concat(), Caps::default()).unwrap(), b"text");
        assert_eq!(unpack(&[gzip(b"text"), b"tail".to_vec()].concat(), Caps::default()).unwrap_err().kind, Kind::BadData);
        assert_eq!(unpack(&[gzip(b"text"), vec![0, 0, 1]].concat(), Caps::default()).unwrap_err().kind, Kind::BadData);
    }

    #[test]
    fn a_bomb_ends_at_the_cap_or_at_the_ratio() {
        for (format, pack) in PACKERS {
            let packed = pack(&vec![b'a'; 4 << 20]);
            assert_eq!(unpack(&packed, Caps { max_bytes: 3 << 20, ..Caps::default() }).unwrap_err().kind, Kind::TooLarge, "{format:?}");
            assert_eq!(unpack(&packed, Caps { max_ratio: 100, ..Caps::default() }).unwrap_err().kind, Kind::TooLarge, "{format:?}");
            assert_eq!(unpack(&packed, Caps { max_ratio: 1_000_000, ..Caps::default() }).unwrap().len(), 4 << 20, "{format:?}");
        }
    }

    #[test]
    fn data_that_wants_more_memory_than_allowed_is_refused() {
        let caps = Caps { max_memory: 1 << 20, ..Caps::default() };
        assert_eq!(unpack(&xz(&noise(100)), caps).unwrap_err().kind, Kind::BadData);
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(24).unwrap();
        encoder.write_all(&noise(5 << 20)).unwrap();
        assert_eq!(unpack(&encoder.finish().unwrap(), caps).unwrap_err().kind, Kind::BadData);
    }

    #[test]
    fn an_error_of_the_reader_below_stays_what_it_is() {
        let check = || Err(Error::new(Kind::Deadline, "late"));
        let reader = crate::sys::stream::Checked::new(&b""[..], &check);
        assert_eq!(Plain::new(reader, Caps::default()).err().unwrap().kind, Kind::Deadline);
    }
}
