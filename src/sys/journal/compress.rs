//! The compressed payloads of journal files: XZ, LZ4 and Zstandard, decoded up to a limit.

use std::io::Read;

/// The most that any decoder may allocate for its window; journald compresses with windows of at most 2 MiB (zstd level 3, xz dictionary 1 MiB).
const WINDOW_LOG: u32 = 24;
const XZ_MEMORY: u64 = 64 << 20;

/// How the payload of a data object is stored: the low bits of its flags ("Object Flags" of the journal file format).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Xz,
    Lz4,
    Zstd,
}

impl Compression {
    /// `None` when the flags name none that exists, or several at once.
    #[must_use]
    pub fn of_flags(flags: u8) -> Option<Self> {
        match flags {
            0 => Some(Self::None),
            1 => Some(Self::Xz),
            2 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }
    /// At most `limit` bytes of what `stored` unpacks to. `None` when it is damaged before that.
    #[must_use]
    pub fn unpack(self, stored: &[u8], limit: usize) -> Option<Vec<u8>> {
        match self {
            Self::None => stored.get(..limit.min(stored.len())).map(<[u8]>::to_vec),
            Self::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0).ok()?;
                take(liblzma::read::XzDecoder::new_stream(stored, stream), limit)
            }
            Self::Lz4 => lz4(stored, limit),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(stored).ok()?;
                decoder.window_log_max(WINDOW_LOG).ok()?;
                take(decoder, limit)
            }
        }
    }
}

fn take(reader: impl Read, limit: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(limit as u64).read_to_end(&mut out).ok()?;
    Some(out)
}

/// journald's LZ4: the unpacked size as a little-endian u64, then one raw LZ4 block.
fn lz4(stored: &[u8], limit: usize) -> Option<Vec<u8>> {
    let (size, input) = stored.split_first_chunk::<8>()?;
    let limit = limit.min(usize::try_from(u64::from_le_bytes(*size)).ok()?);
    let mut out: Vec<u8> = Vec::with_capacity(limit.min(1 << 16));
    lz4_block(input, &mut out, limit)?;
    (out.len() == limit).then_some(out)
}

/// Unpacks one raw LZ4 block (lz4_Block_format.md) behind what is in `out` already, until that is so long. `None` when it is damaged before that.
pub fn lz4_block(mut input: &[u8], out: &mut Vec<u8>, limit: usize) -> Option<()> {
    while out.len() < limit {
        let token = byte(&mut input)?;
        let literals = length(token >> 4, &mut input)?;
        let (copied, rest) = input.split_at_checked(literals)?;
        out.extend_from_slice(copied.get(..literals.min(limit - out.len()))?);
        input = rest;
        if input.is_empty() || out.len() >= limit {
            break;
        }
        let distance = usize::from(byte(&mut input)?) | usize::from(byte(&mut input)?) << 8;
        let run = length(token & 15, &mut input)?.checked_add(4)?;
        let start = out.len().checked_sub(distance).filter(|_| distance > 0)?;
        // A run may overlap what it writes, so it goes byte by byte.
        for at in start..start + run.min(limit - out.len()) {
            out.push(*out.get(at)?);
        }
    }
    Some(())
}

fn byte(input: &mut &[u8]) -> Option<u8> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    Some(*first)
}

fn length(nibble: u8, input: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(nibble);
    if nibble == 15 {
        loop {
            let more = byte(input)?;
            length = length.checked_add(more.into())?;
            if more != 255 {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::io::Write;

    const TEXT: &[u8] = b"MESSAGE=to be or not to be, to be or not to be, to be or not to be";

    #[test]
    fn each_compression_unpacks_whole_and_up_to_a_limit() {
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
        xz.write_all(TEXT).unwrap();
        let zstd = zstd::stream::encode_all(TEXT, 3).unwrap();
        // 28 literals, one long run at distance 20, five last literals; made by hand after the format's description.
        let mut lz4 = (TEXT.len() as u64).to_le_bytes().to_vec();
        let literals = &TEXT[..28];
        let run = TEXT.len() - 28 - 5;
        lz4.push(0xff);
        lz4.push((28 - 15) as u8);
        lz4.extend_from_slice(literals);
        lz4.extend_from_slice(&20_u16.to_le_bytes());
        lz4.push((run - 4 - 15) as u8);
        lz4.push(0x50);
        lz4.extend_from_slice(&TEXT[TEXT.len() - 5..]);
        for (how, stored) in [(Compression::Xz, xz.finish().unwrap()), (Compression::Zstd, zstd), (Compression::Lz4, lz4)] {
            assert_eq!(how.unpack(&stored, 1 << 20).unwrap(), TEXT, "{how:?}");
            assert_eq!(how.unpack(&stored, 10).unwrap(), &TEXT[..10], "{how:?}");
            assert_eq!(how.unpack(&stored, 40).unwrap(), &TEXT[..40], "{how:?}");
            assert_eq!(how.unpack(&stored[..stored.len() / 2], 1 << 20), None, "{how:?}, cut in half");
        }
    }

    #[test]
    fn a_damaged_lz4_block_is_refused_and_ends() {
        for bad in
            [&b""[..], b"12345678", &[9, 0, 0, 0, 0, 0, 0, 0, 0x0f, 0, 0, 0], &[255; 64], &[9, 0, 0, 0, 0, 0, 0, 0, 0x10, b'a', 9, 9]]
        {
            assert_eq!(Compression::Lz4.unpack(bad, 1 << 20), None);
        }
    }
}
