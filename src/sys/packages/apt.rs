//! What the sources of packages offer, from the lists that apt has fetched, packed or not.

use super::dpkg::{paragraph, paragraphs};
use super::{Check, Installed, folder_at, names, open_in, version};
use crate::error::{Error, Kind, Result};
use crate::sys::journal::lz4_block;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;

/// Most bytes of one list, unpacked; that of Debian's main section is some 60 MB.
const LONGEST: u64 = 1 << 30;
/// Read at a time.
const BLOCK: usize = 256 << 10;
/// The longest paragraph there is room for.
const PARAGRAPH: usize = 4 << 20;

/// The place of each package that has a newer version, and that version.
pub(super) fn upgradable(root: &Path, installed: &[Installed], check: Check<'_>) -> Result<Vec<(usize, String)>> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, package) in installed.iter().enumerate().filter(|(_, package)| package.status != "config-files") {
        places.entry(&package.name).or_default().push(at);
    }
    let mut newest: HashMap<usize, String> = HashMap::new();
    let lists = root.join("var/lib/apt/lists");
    let Some(folder) = folder_at(&lists)? else { return Err(none()) };
    let mut any = false;
    for name in names(&folder)? {
        let Some((_, packing)) = name.split_once("_Packages") else { continue };
        let Some(file) = open_in(&folder, OsStr::new(&name))? else { continue };
        let reader: Box<dyn Read> = match packing {
            "" => Box::new(file),
            ".lz4" => Box::new(Lz4::new(file)),
            ".gz" => Box::new(flate2::read::MultiGzDecoder::new(file)),
            ".xz" => Box::new(liblzma::read::XzDecoder::new(file)),
            ".bz2" => Box::new(bzip2::read::MultiBzDecoder::new(file)),
            ".zst" => Box::new(zstd::stream::read::Decoder::new(file).map_err(Error::from)?),
            // What is fetched in part.
            _ => continue,
        };
        any = true;
        each(reader.take(LONGEST), check, &mut |part| {
            let name = part.strip_prefix("Package: ").and_then(|rest| rest.split('\n').next()).map(str::trim);
            let Some(found) = name.and_then(|name| places.get(name)) else { return };
            let fields = paragraph(part);
            let (offered, architecture) = (fields.get("Version"), fields.get("Architecture"));
            for at in found {
                let Some(package) = installed.get(*at) else { continue };
                let same = package.architecture == architecture || architecture == "all" || package.architecture == "all";
                let known = newest.get(at).map_or(package.version.as_str(), String::as_str);
                if same && version::compare(offered, known) == Ordering::Greater {
                    newest.insert(*at, offered.to_owned());
                }
            }
        })?;
    }
    if !any {
        return Err(none());
    }
    let mut newest: Vec<(usize, String)> = newest.into_iter().collect();
    newest.sort();
    Ok(newest)
}

fn none() -> Error {
    Error::new(Kind::Unsupported, "this host has no lists of what its sources offer").with_hint("apt-get update fetches them")
}

/// Each paragraph of a list.
fn each(mut reader: impl Read, check: Check<'_>, take: &mut dyn FnMut(&str)) -> Result<()> {
    let mut text: Vec<u8> = Vec::new();
    let mut block = vec![0u8; BLOCK];
    loop {
        check()?;
        let count = match reader.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(Error::new(Kind::BadData, "a list of a source cannot be unpacked")),
            Ok(count) => count,
        };
        text.extend_from_slice(block.get(..count).unwrap_or_default());
        let whole = if count == 0 { text.len() } else { memchr::memmem::rfind(&text, b"\n\n").map_or(0, |at| at + 2) };
        let ready: Vec<u8> = text.drain(..whole).collect();
        paragraphs(&String::from_utf8_lossy(&ready)).for_each(&mut *take);
        if count == 0 {
            return Ok(());
        }
        if text.len() > PARAGRAPH {
            return Err(Error::new(Kind::BadData, "a list of a source has an entry without end"));
        }
    }
}

/// The frames of lz4(1) (LZ4 Frame Format), as apt packs its lists.
struct Lz4<R> {
    from: R,
    /// What was unpacked; blocks refer to the last 64 KiB before them.
    out: Vec<u8>,
    given: usize,
    frame: Option<Frame>,
}

#[derive(Clone, Copy)]
struct Frame {
    block_sums: bool,
    content_sum: bool,
    largest: usize,
}

const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const WINDOW: usize = 64 << 10;

impl<R: Read> Lz4<R> {
    fn new(from: R) -> Self {
        Self { from, out: Vec::new(), given: 0, frame: None }
    }
    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0u8; N];
        self.from.read_exact(&mut bytes).map(|()| bytes)
    }
    /// The head of a frame; none at the end of the file.
    fn head(&mut self) -> io::Result<Option<Frame>> {
        let mut magic = [0u8; 4];
        let first = loop {
            match self.from.read(magic.get_mut(..1).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        if first == 0 {
            return Ok(None);
        }
        self.from.read_exact(magic.get_mut(1..).unwrap_or_default())?;
        let [flags, size] = self.bytes::<2>()?;
        // Version 1, and no dictionary.
        if magic != MAGIC || flags >> 6 != 1 || flags & 1 != 0 {
            return Err(damaged());
        }
        if flags & 8 != 0 {
            self.bytes::<8>()?;
        }
        self.bytes::<1>()?;
        let largest = match size >> 4 & 7 {
            exponent @ 4..=7 => 1usize << (8 + 2 * exponent),
            _ => return Err(damaged()),
        };
        Ok(Some(Frame { block_sums: flags & 16 != 0, content_sum: flags & 4 != 0, largest }))
    }
    /// Unpacks a block behind what is kept of those before it; false at the end.
    fn block(&mut self) -> io::Result<bool> {
        let frame = match self.frame {
            Some(frame) => frame,
            None => match self.head()? {
                Some(frame) => *self.frame.insert(frame),
                None => return Ok(false),
            },
        };
        let kept = self.out.len().saturating_sub(WINDOW);
        self.out.drain(..kept);
        self.given = self.out.len();
        let size = u32::from_le_bytes(self.bytes::<4>()?);
        if size == 0 {
            if frame.content_sum {
                self.bytes::<4>()?;
            }
            self.frame = None;
            self.out.clear();
            self.given = 0;
            return Ok(true);
        }
        let length = usize::try_from(size & 0x7fff_ffff).map_err(|_| damaged())?;
        if length > frame.largest {
            return Err(damaged());
        }
        let mut block = vec![0u8; length];
        self.from.read_exact(&mut block)?;
        if size & 0x8000_0000 != 0 {
            self.out.extend_from_slice(&block);
        } else {
            let most = self.out.len() + frame.largest;
            lz4_block(&block, &mut self.out, most).ok_or_else(damaged)?;
        }
        if frame.block_sums {
            self.bytes::<4>()?;
        }
        Ok(true)
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no LZ4 frame")
}

impl<R: Read> Read for Lz4<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.out.len() {
            if !self.block()? {
                return Ok(0);
            }
        }
        let ready = self.out.get(self.given..).unwrap_or_default();
        let count = ready.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), ready.get(..count)) {
            to.copy_from_slice(from);
        }
        self.given += count;
        Ok(count)
    }
}
