//! The two hash functions of journal files: SipHash-2-4 under the file's own key, and Jenkins' lookup3 in older files.

/// SipHash-2-4 (Aumasson and Bernstein, 2012) of `data` under a 16-byte key.
#[must_use]
pub fn siphash24(key: &[u8; 16], data: &[u8]) -> u64 {
    let (k0, k1) = (word(key, 0), word(key, 8));
    let mut v = [k0 ^ 0x736f_6d65_7073_6575, k1 ^ 0x646f_7261_6e64_6f6d, k0 ^ 0x6c79_6765_6e65_7261, k1 ^ 0x7465_6462_7974_6573];
    let mut blocks = data.chunks_exact(8);
    for block in &mut blocks {
        let m = word(block, 0);
        v[3] ^= m;
        rounds(&mut v, 2);
        v[0] ^= m;
    }
    // The last block: what is left, zeroes, and the length in the top byte.
    let m = word(blocks.remainder(), 0) | ((data.len() as u64) << 56);
    v[3] ^= m;
    rounds(&mut v, 2);
    v[0] ^= m;
    v[2] ^= 0xff;
    rounds(&mut v, 4);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn rounds(v: &mut [u64; 4], count: u32) {
    let [mut a, mut b, mut c, mut d] = *v;
    for _ in 0..count {
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
    }
    *v = [a, b, c, d];
}

/// Up to eight bytes from `start`, little endian, zeroes where there are none.
fn word(bytes: &[u8], start: usize) -> u64 {
    bytes.iter().skip(start).take(8).enumerate().fold(0, |word, (at, byte)| word | (u64::from(*byte) << (8 * at)))
}

/// The 64-bit form of lookup3's `hashlittle2` (Bob Jenkins, 2006, public domain) with both seeds zero; the first result is the upper half.
#[must_use]
pub fn lookup3(data: &[u8]) -> u64 {
    let start = 0xdead_beef_u32.wrapping_add(data.len() as u32);
    let [mut a, mut b, mut c] = [start; 3];
    let mut rest = data;
    while rest.len() > 12 {
        a = a.wrapping_add(half(rest, 0));
        b = b.wrapping_add(half(rest, 4));
        c = c.wrapping_add(half(rest, 8));
        a = a.wrapping_sub(c) ^ c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c) ^ c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(4);
        b = b.wrapping_add(a);
        rest = rest.get(12..).unwrap_or_default();
    }
    if !rest.is_empty() {
        a = a.wrapping_add(half(rest, 0));
        b = b.wrapping_add(half(rest, 4));
        c = c.wrapping_add(half(rest, 8));
        c = (c ^ b).wrapping_sub(b.rotate_left(14));
        a = (a ^ c).wrapping_sub(c.rotate_left(11));
        b = (b ^ a).wrapping_sub(a.rotate_left(25));
        c = (c ^ b).wrapping_sub(b.rotate_left(16));
        a = (a ^ c).wrapping_sub(c.rotate_left(4));
        b = (b ^ a).wrapping_sub(a.rotate_left(14));
        c = (c ^ b).wrapping_sub(b.rotate_left(24));
    }
    (u64::from(c) << 32) | u64::from(b)
}

fn half(bytes: &[u8], start: usize) -> u32 {
    bytes.iter().skip(start).take(4).enumerate().fold(0, |word, (at, byte)| word | (u32::from(*byte) << (8 * at)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn siphash_agrees_with_the_vectors_of_its_paper() {
        let key: [u8; 16] = std::array::from_fn(|i| i as u8);
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(siphash24(&key, &input), 0xa129_ca61_49be_45e5, "appendix A");
        assert_eq!(siphash24(&key, b""), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash24(&key, &[0, 1, 2, 3, 4, 5, 6, 7]), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn lookup3_agrees_with_the_vectors_in_its_source() {
        assert_eq!(lookup3(b""), 0xdead_beef_dead_beef);
        assert_eq!(lookup3(b"Four score and seven years ago"), 0x1777_0551_ce72_26e6);
    }
}
