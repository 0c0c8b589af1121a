//! The tar format: members read from a stream (ustar, GNU and pax, files with holes in all their forms), and written as GNU tar writes them.

use super::archive::{Data, Member, What};
use super::fresh::Moment;
use super::stream::{from_io, to_io};
use crate::error::{Error, Kind, Result};
use std::collections::VecDeque;
use std::io::{self, Read, Write};

pub const BLOCK: usize = 512;
/// The longest name and the longest set of pax records taken from an archive; the kernel takes names of 4 KiB.
const MAX_NAME: u64 = 64 << 10;
const MAX_PAX: u64 = 4 << 20;
/// Pieces between the holes of one file.
const MAX_PIECES: usize = 1 << 20;

type Block = [u8; BLOCK];

/// Reads members in the order in which they are stored.
pub struct Reader<R> {
    inner: R,
    /// Stored bytes of the member at hand that were not read, and the padding behind them.
    left: u64,
    padding: u64,
    /// Where the data of a file with holes belongs, offset and length; nothing for other files.
    pieces: Option<VecDeque<(u64, u64)>>,
    /// Bytes of the file that were given out, holes included, and its size.
    place: u64,
    size: u64,
    ended: bool,
}

/// What headers before a member say of it.
#[derive(Default)]
struct Told {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    pax: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Told {
    fn get(&self, key: &str) -> Option<&[u8]> {
        // The last one counts (pax(1)).
        self.pax.iter().rev().find(|(name, _)| name == key.as_bytes()).map(|(_, value)| value.as_slice())
    }
    fn number(&self, key: &str) -> Result<Option<u64>> {
        self.get(key).map(|value| decimal(value).ok_or_else(|| bad("a number in a pax header is none"))).transpose()
    }
}

fn bad(what: &str) -> Error {
    Error::new(Kind::BadData, format!("not a sound tar archive: {what}"))
}

fn cut() -> Error {
    Error::new(Kind::BadData, "the tar archive ends too early")
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// Text up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn field(block: &Block, from: usize, len: usize) -> &[u8] {
    block.get(from..from + len).unwrap_or_default()
}

/// A number of a header: octal text, or, with the first bit set, binary and big-endian in two's complement (GNU).
fn number(field: &[u8]) -> Option<i64> {
    match field.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => {
            let mut value: i128 = if first & 0x40 != 0 { -1 } else { 0 };
            value = (value << 6) | i128::from(first & 0x3f);
            for byte in rest {
                value = value.checked_mul(256)? | i128::from(*byte);
            }
            i64::try_from(value).ok()
        }
        _ => {
            let digits = field.split(|byte| *byte == 0).next().unwrap_or_default();
            let digits = std::str::from_utf8(digits).ok()?.trim();
            if digits.is_empty() { Some(0) } else { i64::from_str_radix(digits, 8).ok() }
        }
    }
}

fn size_of(field: &[u8]) -> Result<u64> {
    number(field).and_then(|size| u64::try_from(size).ok()).ok_or_else(|| bad("a size is none"))
}

/// Whether the block's checksum is right; old programs added signed bytes up.
fn is_header(block: &Block) -> bool {
    let (mut plain, mut signed) = (0i64, 0i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        plain += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    number(field(block, 148, 8)).is_some_and(|sum| sum == plain || sum == signed)
}

impl<R: Read> Reader<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0, pieces: None, place: 0, size: 0, ended: false }
    }
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next block, or nothing at the very end of the stream.
    fn block(&mut self) -> Result<Option<Block>> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            match self.inner.read(block.get_mut(have..).unwrap_or_default()) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => return Err(cut()),
                Ok(count) => have += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(from_io(error)),
            }
        }
        Ok(Some(block))
    }

    fn pass(&mut self, mut bytes: u64) -> Result<()> {
        let mut buffer = [0; 16 << 10];
        while bytes > 0 {
            let part = usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
            match self.inner.read(buffer.get_mut(..part).unwrap_or_default()) {
                Ok(0) => return Err(cut()),
                Ok(count) => bytes -= count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(from_io(error)),
            }
        }
        Ok(())
    }

    /// The data of a header that describes the member behind it.
    fn whole(&mut self, size: u64, most: u64) -> Result<Vec<u8>> {
        if size > most {
            return Err(Error::new(Kind::TooLarge, format!("a name or header in the archive is longer than {most} bytes")));
        }
        let mut bytes = Vec::new();
        Read::by_ref(&mut self.inner).take(size).read_to_end(&mut bytes).map_err(from_io)?;
        if bytes.len() as u64 != size {
            return Err(cut());
        }
        self.pass(padding(size))?;
        Ok(bytes)
    }

    /// The next member; what was not read of the one before is passed over. Nothing at the end.
    ///
    /// # Errors
    /// [`Kind::BadData`] for what is no tar archive, and for one that ends without its end mark; what the stream reports.
    pub fn next_member(&mut self) -> Result<Option<Member>> {
        if self.ended {
            return Ok(None);
        }
        self.pass(self.left)?;
        self.pass(self.padding)?;
        (self.left, self.padding, self.pieces, self.place, self.size) = (0, 0, None, 0, 0);
        let mut told = Told::default();
        loop {
            // The end mark is a block of zeros (two, but one is taken for it, as others do).
            let Some(block) = self.block()? else { return Err(cut()) };
            if block.iter().all(|byte| *byte == 0) {
                self.ended = true;
                return Ok(None);
            }
            if !is_header(&block) {
                return Err(bad("a header is damaged, or it is no tar archive at all"));
            }
            let size = size_of(field(&block, 124, 12))?;
            match field(&block, 156, 1).first() {
                Some(b'L') => told.path = Some(text(&self.whole(size, MAX_NAME)?).to_vec()),
                Some(b'K') => told.target = Some(text(&self.whole(size, MAX_NAME)?).to_vec()),
                Some(b'x' | b'X') => told.pax.extend(records(&self.whole(size, MAX_PAX)?)?),
                Some(b'g') => {
                    let global = records(&self.whole(size, MAX_PAX)?)?;
                    // git writes a comment so. What would change members is not known to be written by anything.
                    if global.iter().any(|(key, _)| key != b"comment") {
                        return Err(Error::new(Kind::Unsupported, "the archive has pax headers for all its members"));
                    }
                }
                // The archive's label, no member.
                Some(b'V') => self.pass(size.checked_add(padding(size)).ok_or_else(|| bad("a size is none"))?)?,
                kind => return self.member(&block, kind.copied().unwrap_or(0), size, &told).map(Some),
            }
        }
    }

    fn member(&mut self, block: &Block, kind: u8, stored: u64, told: &Told) -> Result<Member> {
        let gnu = field(block, 257, 8) == b"ustar  \0";
        let mut path = match told.get("path").or(told.path.as_deref()) {
            Some(path) => path.to_vec(),
            None => {
                let name = text(field(block, 0, 100));
                let prefix = text(field(block, 345, 155));
                if !gnu && field(block, 257, 5) == b"ustar" && !prefix.is_empty() { [prefix, b"/", name].concat() } else { name.to_vec() }
            }
        };
        let mut what = match kind {
            b'0' | 0 | b'7' | b'S' => What::File,
            b'1' => What::HardLink,
            b'2' => What::Symlink,
            b'3' => What::CharDevice,
            b'4' => What::BlockDevice,
            b'5' | b'D' => What::Dir,
            b'6' => What::Fifo,
            _ => What::Other,
        };
        // Before there was a type for them (and still of some programs) directories are files whose names end so.
        if what == What::File && path.ends_with(b"/") {
            what = What::Dir;
        }
        let stored = told.number("size")?.unwrap_or(stored);
        // Links have no data, whatever the header says of the size of what they lead to.
        self.left = if matches!(what, What::HardLink | What::Symlink) { 0 } else { stored };
        self.padding = padding(self.left);
        self.size = self.left;
        if kind == b'S' {
            self.gnu_holes(block)?;
        } else if what == What::File {
            self.pax_holes(told)?;
            if let Some(name) = told.get("GNU.sparse.name") {
                path = name.to_vec();
            }
        }
        self.check_pieces()?;
        let id = |key: &str, from: usize| -> Result<u64> {
            Ok(match told.number(key)? {
                Some(id) => id,
                None => number(field(block, from, 8)).and_then(|id| u64::try_from(id).ok()).unwrap_or(u64::MAX),
            })
        };
        let name = |key: &str, from: usize| told.get(key).unwrap_or_else(|| text(field(block, from, 32))).to_vec();
        Ok(Member {
            size: self.size,
            mode: number(field(block, 100, 8)).and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0) & 0o7777,
            uid: id("uid", 108)?,
            gid: id("gid", 116)?,
            owner: name("uname", 265),
            group: name("gname", 297),
            mtime: match told.get("mtime") {
                Some(text) => moment(text),
                None => number(field(block, 136, 12)).map(|seconds| (seconds, 0)),
            },
            target: told.get("linkpath").or(told.target.as_deref()).unwrap_or_else(|| text(field(block, 157, 100))).to_vec(),
            obstacle: (kind == b'M').then_some("it goes on in another volume"),
            path,
            what,
        })
    }

    /// Type `S`: the map is in the header and in blocks behind it.
    fn gnu_holes(&mut self, block: &Block) -> Result<()> {
        let mut pieces = VecDeque::new();
        let mut more = field(block, 482, 1) != [0];
        add_pieces(&mut pieces, field(block, 386, 96))?;
        while more {
            let next = self.block()?.ok_or_else(cut)?;
            more = field(&next, 504, 1) != [0];
            add_pieces(&mut pieces, field(&next, 0, 504))?;
        }
        self.size = size_of(field(block, 483, 12))?;
        self.pieces = Some(pieces);
        Ok(())
    }

    /// The forms 0.0 and 0.1 (the map is in the pax header) and 1.0 (it is before the data).
    fn pax_holes(&mut self, told: &Told) -> Result<()> {
        let mut pieces = VecDeque::new();
        if told.get("GNU.sparse.major") == Some(b"1") {
            let mut lines = MapLines { reader: self, block: Vec::new() };
            let count = lines.number()?;
            if count > MAX_PIECES as u64 {
                return Err(bad("a file in it has too many holes"));
            }
            for _ in 0..count {
                let offset = lines.number()?;
                pieces.push_back((offset, lines.number()?));
            }
            self.size = told.number("GNU.sparse.realsize")?.ok_or_else(|| bad("a file with holes has no size"))?;
        } else if let Some(map) = told.get("GNU.sparse.map") {
            let mut numbers = map.split(|byte| *byte == b',').map(decimal);
            while let Some(offset) = numbers.next() {
                let (Some(offset), Some(Some(len))) = (offset, numbers.next()) else { return Err(bad("a map of holes is damaged")) };
                pieces.push_back((offset, len));
            }
            self.size = told.number("GNU.sparse.size")?.ok_or_else(|| bad("a file with holes has no size"))?;
        } else if let Some(size) = told.number("GNU.sparse.size")? {
            let mut offset = None;
            for (key, value) in &told.pax {
                let value = || decimal(value).ok_or_else(|| bad("a map of holes is damaged"));
                match key.as_slice() {
                    b"GNU.sparse.offset" => offset = Some(value()?),
                    b"GNU.sparse.numbytes" => {
                        pieces.push_back((offset.take().ok_or_else(|| bad("a map of holes is damaged"))?, value()?));
                    }
                    _ => {}
                }
            }
            self.size = size;
        } else {
            return Ok(());
        }
        self.pieces = Some(pieces);
        Ok(())
    }

    /// Whether the pieces follow one another, lie within the file and are as long as what is stored.
    fn check_pieces(&mut self) -> Result<()> {
        let Some(pieces) = &mut self.pieces else { return Ok(()) };
        pieces.retain(|(_, len)| *len > 0);
        let (mut end, mut sum) = (0, 0);
        for (offset, len) in pieces.iter() {
            if *offset < end {
                return Err(bad("a map of holes is damaged"));
            }
            end = offset.checked_add(*len).ok_or_else(|| bad("a map of holes is damaged"))?;
            sum += len;
        }
        if end > self.size || sum > self.left {
            return Err(bad("a map of holes is damaged"));
        }
        Ok(())
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn add_pieces(pieces: &mut VecDeque<(u64, u64)>, map: &[u8]) -> Result<()> {
    for entry in map.chunks_exact(24) {
        let (offset, len) = entry.split_at(12);
        if offset.first() == Some(&0) || len.first() == Some(&0) {
            break;
        }
        pieces.push_back((size_of(offset)?, size_of(len)?));
        if pieces.len() > MAX_PIECES {
            return Err(bad("a file in it has too many holes"));
        }
    }
    Ok(())
}

/// The numbers of a map in front of a file's data: decimal, each on a line, filled up to whole blocks.
struct MapLines<'a, R> {
    reader: &'a mut Reader<R>,
    block: Vec<u8>,
}

impl<R: Read> MapLines<'_, R> {
    fn number(&mut self) -> Result<u64> {
        let mut digits = Vec::new();
        loop {
            if self.block.is_empty() {
                let block = self.reader.block()?.ok_or_else(cut)?;
                self.reader.left = self.reader.left.checked_sub(BLOCK as u64).ok_or_else(|| bad("a map of holes is damaged"))?;
                self.block = block.iter().rev().copied().collect();
            }
            match self.block.pop() {
                Some(b'\n') => return decimal(&digits).ok_or_else(|| bad("a map of holes is damaged")),
                Some(digit) if digit.is_ascii_digit() && digits.len() < 20 => digits.push(digit),
                _ => return Err(bad("a map of holes is damaged")),
            }
        }
    }
}

/// `length key=value\n`, pax(1).
fn records(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let broken = || bad("a pax header is damaged");
    let mut rest = bytes;
    let mut found = Vec::new();
    while !rest.is_empty() && rest.first() != Some(&0) {
        let blank = rest.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
        let length = rest.get(..blank).and_then(decimal).and_then(|length| usize::try_from(length).ok()).ok_or_else(broken)?;
        let record = rest.get(blank + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(broken)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
        let (key, value) = record.split_at(equals);
        found.push((key.to_vec(), value.get(1..).unwrap_or_default().to_vec()));
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(found)
}

/// `1700000000.25`, pax(1).
fn moment(text: &[u8]) -> Option<Moment> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = part.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    // The part after the point counts away from zero.
    if whole.starts_with('-') && nanos > 0 { Some((seconds - 1, 1_000_000_000 - nanos)) } else { Some((seconds, nanos)) }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.place >= self.size {
            return Ok(0);
        }
        let want = match &mut self.pieces {
            None => self.left,
            Some(pieces) => match pieces.front() {
                Some((offset, len)) if *offset <= self.place => offset + len - self.place,
                hole => {
                    let until = hole.map_or(self.size, |(offset, _)| *offset);
                    let count = usize::try_from(until - self.place).unwrap_or(usize::MAX).min(buffer.len());
                    buffer.get_mut(..count).unwrap_or_default().fill(0);
                    self.place += count as u64;
                    return Ok(count);
                }
            },
        };
        let count = usize::try_from(want).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(buffer.get_mut(..count).unwrap_or_default())?;
        if count == 0 {
            return Err(to_io(cut()));
        }
        self.left = self.left.saturating_sub(count as u64);
        self.place += count as u64;
        if let Some(pieces) = &mut self.pieces
            && pieces.front().is_some_and(|(offset, len)| offset + len <= self.place)
        {
            pieces.pop_front();
        }
        Ok(count)
    }
}

impl<R: Read> Data for Reader<R> {
    fn hole(&mut self) -> u64 {
        let Some(pieces) = &self.pieces else { return 0 };
        let until = pieces.front().map_or(self.size, |(offset, _)| *offset);
        let zeros = until.saturating_sub(self.place);
        self.place += zeros;
        zeros
    }
}

/// Writes members one after the other, in GNU tar's own form: names of any length and bytes, sizes and times without bounds.
pub struct Writer<W> {
    inner: W,
    /// Bytes of the member at hand that are still to come.
    left: u64,
    padding: u64,
    written: u64,
}

impl<W: Write> Writer<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, left: 0, padding: 0, written: 0 }
    }

    /// Begins a member; exactly `size` bytes of data are written next.
    ///
    /// # Errors
    /// Those of the writer below; [`Kind::Internal`] when the member before is not complete.
    pub fn begin(&mut self, member: &Member) -> Result<()> {
        if self.left > 0 {
            return Err(Error::new(Kind::Internal, "a member of the archive is not complete"));
        }
        let path = &member.path;
        for (kind, name) in [(b'K', &member.target), (b'L', path)] {
            if name.len() > 100 {
                let mut long = Member::new(What::Other);
                long.path = b"././@LongLink".to_vec();
                long.size = name.len() as u64 + 1;
                self.put(&header(&long, kind))?;
                self.put(name)?;
                self.put(&vec![0; 1 + usize::try_from(padding(long.size)).unwrap_or(0)])?;
            }
        }
        let kind = match member.what {
            What::File | What::Other => b'0',
            What::HardLink => b'1',
            What::Symlink => b'2',
            What::CharDevice => b'3',
            What::BlockDevice => b'4',
            What::Dir => b'5',
            What::Fifo => b'6',
        };
        self.put(&header(member, kind))?;
        self.left = member.size;
        self.padding = padding(member.size);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        self.inner.write_all(bytes).map_err(from_io)
    }

    /// Fills the member at hand up to whole blocks.
    ///
    /// # Errors
    /// [`Kind::Changed`] when fewer bytes came than its header says.
    pub fn end_member(&mut self) -> Result<()> {
        if self.left > 0 {
            return Err(Error::new(Kind::Changed, "it became shorter while it was read"));
        }
        let zeros = [0; BLOCK];
        let padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or(0);
        self.put(zeros.get(..padding).unwrap_or_default())
    }

    /// Writes the end mark, filled up to a record of 20 blocks as tar(1) does.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn finish(mut self) -> Result<W> {
        let so_far = self.written;
        let record = 20 * BLOCK as u64;
        let mark = 2 * BLOCK as u64;
        let end = (so_far + mark).next_multiple_of(record);
        self.put(&vec![0; usize::try_from(end - so_far).unwrap_or(2 * BLOCK)])?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let count = self.inner.write(bytes.get(..most).unwrap_or_default())?;
        self.left -= count as u64;
        self.written += count as u64;
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn header(member: &Member, kind: u8) -> Block {
    let mut block = [0; BLOCK];
    let mut set = |from: usize, len: usize, bytes: &[u8]| {
        for (place, byte) in block.iter_mut().skip(from).take(len).zip(bytes) {
            *place = *byte;
        }
    };
    set(0, 100, &member.path);
    set(100, 8, &octal(i128::from(member.mode), 8));
    set(108, 8, &octal(i128::from(member.uid), 8));
    set(116, 8, &octal(i128::from(member.gid), 8));
    set(124, 12, &octal(i128::from(member.size), 12));
    set(136, 12, &octal(member.mtime.map_or(0, |(seconds, _)| i128::from(seconds)), 12));
    set(148, 8, b"        ");
    set(156, 1, &[kind]);
    set(157, 100, &member.target);
    set(257, 8, b"ustar  \0");
    set(265, 31, &member.owner);
    set(297, 31, &member.group);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    for (place, byte) in block.iter_mut().skip(148).zip(sum.as_bytes()) {
        *place = *byte;
    }
    block
}

/// A number in a field of this length: octal text and a NUL, or binary where that is too short.
fn octal(value: i128, len: usize) -> Vec<u8> {
    let text = format!("{value:0width$o}", width = len - 1);
    if value >= 0 && text.len() < len {
        let mut field = text.into_bytes();
        field.push(0);
        return field;
    }
    let bytes = value.to_be_bytes();
    let mut field = bytes.get(bytes.len() - len..).unwrap_or_default().to_vec();
    if let Some(first) = field.first_mut() {
        *first = if value < 0 { 0xff } else { 0x80 };
    }
    field
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn written(members: &[Member], data: &[u8]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for member in members {
            writer.begin(member).unwrap();
            writer.write_all(&data[..usize::try_from(member.size).unwrap()]).unwrap();
            writer.end_member().unwrap();
        }
        writer.finish().unwrap()
    }

    fn member(path: &[u8], size: u64) -> Member {
        Member { path: path.to_vec(), size, mode: 0o640, uid: 7, gid: 8, mtime: Some((1, 0)), ..Member::new(What::File) }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = [b"\xff".as_slice(), &[b'n'; 5000]].concat();
        let mut link = Member { target: long.clone(), ..member(b"link", 0) };
        link.what = What::Symlink;
        let far = Member { uid: 1 << 40, mtime: Some((-5, 0)), ..member(&long, 513) };
        let bytes = written(&[member(b"a", 0), far, link, member(&[b'e'; 100], 512)], &[b'd'; 600]);
        assert_eq!(bytes.len() % (20 * BLOCK), 0);
        let mut reader = Reader::new(&bytes[..]);
        let first = reader.next_member().unwrap().unwrap();
        assert_eq!((first.path.as_slice(), first.mode, first.uid, first.gid), (&b"a"[..], 0o640, 7, 8));
        let second = reader.next_member().unwrap().unwrap();
        assert_eq!((second.path == long, second.uid, second.mtime, second.size), (true, 1 << 40, Some((-5, 0)), 513));
        let mut data = Vec::new();
        reader.read_to_end(&mut data).unwrap();
        assert_eq!(data, [b'd'; 513]);
        let third = reader.next_member().unwrap().unwrap();
        assert_eq!((third.what, third.target == long), (What::Symlink, true));
        assert_eq!(reader.next_member().unwrap().unwrap().path, [b'e'; 100]);
        assert!(reader.next_member().unwrap().is_none() && reader.next_member().unwrap().is_none());
    }

    #[test]
    fn numbers_are_octal_or_binary_and_nothing_else() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b" 644 \0\0\0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"89\0"), None);
        for value in [0, 1, 0o777_7777, 1 << 33, i64::MAX >> 1, -1, -1 << 40] {
            assert_eq!(number(&octal(value.into(), 12)), Some(value), "{value}");
        }
        assert_eq!(number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn times_of_pax_headers_have_parts_of_seconds() {
        assert_eq!(moment(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(moment(b"-12.25"), Some((-13, 750_000_000)));
        assert_eq!(moment(b"12"), Some((12, 0)));
        assert_eq!(moment(b"12.x"), None);
    }

    #[test]
    fn damaged_pax_headers_are_errors() {
        assert_eq!(records(b"11 path=ab\n").unwrap(), [(b"path".to_vec(), b"ab".to_vec())]);
        assert_eq!(records(b"13 path=a\nb\n\n").unwrap(), [(b"path".to_vec(), b"a\nb\n".to_vec())]);
        for broken in [&b"11 path=ab"[..], b"99 path=ab\n", b"1 path=ab\n", b"x path=ab\n", b"8 pathab\n", b"18446744073709551615 a=b\n"] {
            assert_eq!(records(broken).unwrap_err().kind, Kind::BadData, "{}", String::from_utf8_lossy(broken));
        }
    }

    #[test]
    fn any_byte_of_a_header_may_be_wrong_without_harm() {
        let bytes = written(&[member(b"a", 3), Member { target: vec![b't'; 200], ..member(&[b'n'; 300], 600) }], &[b'd'; 600]);
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bent = bytes.clone();
                bent[at] ^= flip;
                let mut reader = Reader::new(&bent[..]);
                let mut out = 0;
                while let Ok(Some(_)) = reader.next_member() {
                    out += io::copy(&mut reader, &mut io::sink()).unwrap_or(0);
                }
                assert!(out <= bytes.len() as u64);
            }
        }
    }

    #[test]
    fn maps_of_holes_that_are_not_true_are_errors() {
        let sparse = |map: &str, size: &str| {
            let body = format!("GNU.sparse.size={size}");
            let records: String = [body, format!("GNU.sparse.map={map}")]
                .iter()
                .map(|record| {
                    let mut length = record.len() + 3;
                    length = record.len() + 2 + length.to_string().len();
                    format!("{length} {record}\n")
                })
                .collect();
            let mut head = member(b"pax", records.len() as u64);
            head.what = What::File;
            let mut bytes = header(&head, b'x').to_vec();
            bytes.extend(records.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
            bytes.extend(written(&[member(b"f", 10)], b"0123456789"));
            bytes
        };
        let bytes = sparse("2,5,20,5", "30");
        let mut reader = Reader::new(&bytes[..]);
        let member = reader.next_member().unwrap().unwrap();
        let mut data = Vec::new();
        reader.read_to_end(&mut data).unwrap();
        assert_eq!((member.size, data.as_slice()), (30, &b"\0\x0001234\0\0\0\0\0\0\0\0\0\0\0\0\x0056789\0\0\0\0\0"[..]));
        for (map, size) in
            [("2,5,6,5", "30"), ("2,5,26,5", "30"), ("2,5,20,6", "30"), ("2,18446744073709551615", "30"), ("2", "30"), ("a,b", "30")]
        {
            let bytes = sparse(map, size);
            assert_eq!(Reader::new(&bytes[..]).next_member().unwrap_err().kind, Kind::BadData, "{map}");
        }
    }
}
