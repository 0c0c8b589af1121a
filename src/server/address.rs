//! Lists of client addresses, as `from=` of a key and `source-address` of a certificate write them.

use core::net::IpAddr;

/// A list such as `10.0.0.0/8,!10.1.*,2001:db8::/32`: an address fits if some pattern fits and no negated one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    patterns: Vec<(bool, Pattern)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// The first `bits` bits of the address.
    Network { address: IpAddr, bits: u32 },
    /// `*` and `?` over the address as text.
    Glob(String),
}

impl Addresses {
    /// As in `from=` of authorized_keys (sshd(8), ssh_config(5) PATTERNS): networks, addresses, `*` and `?`, negation with `!`.
    /// Host names are refused: a name is only as true as the resolver, and nothing here looks one up.
    ///
    /// # Errors
    /// A sentence that quotes the bad part.
    pub fn parse(text: &str) -> Result<Self, String> {
        let patterns = text.split(',').map(|part| match part.strip_prefix('!') {
            Some(rest) => pattern(rest).map(|pattern| (true, pattern)),
            None => pattern(part).map(|pattern| (false, pattern)),
        });
        Ok(Self { patterns: patterns.collect::<Result<_, _>>()? })
    }

    /// As in the critical option `source-address` (PROTOCOL.certkeys): addresses and networks only.
    ///
    /// # Errors
    /// A sentence that quotes the bad part.
    pub fn parse_networks(text: &str) -> Result<Self, String> {
        let patterns = text.split(',').map(|part| network(part).map(|pattern| (false, pattern)));
        Ok(Self { patterns: patterns.collect::<Result<_, _>>()? })
    }

    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let text = address.to_string();
        let fits = |wanted: bool| self.patterns.iter().any(|(negated, pattern)| *negated == wanted && pattern.fits(address, &text));
        fits(false) && !fits(true)
    }
}

impl Pattern {
    fn fits(&self, address: IpAddr, text: &str) -> bool {
        match self {
            Self::Network { address: network, bits } => {
                prefix(address, *bits).is_some_and(|prefix| Some(prefix) == self::prefix(*network, *bits))
            }
            Self::Glob(glob) => glob_fits(glob.as_bytes(), text.as_bytes()),
        }
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    if !text.contains(['*', '?']) {
        return network(text);
    }
    if text.bytes().all(|byte| byte.is_ascii_hexdigit() || b".:*?".contains(&byte)) {
        Ok(Pattern::Glob(text.to_ascii_lowercase()))
    } else {
        Err(format!("`{}` is no pattern of addresses; names are not looked up here", text.escape_debug()))
    }
}

fn network(text: &str) -> Result<Pattern, String> {
    let wrong = || format!("`{}` is neither an address nor a network; names are not looked up here", text.escape_debug());
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => width,
        Some(bits) if !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().map_err(|_| wrong())?,
        Some(_) => return Err(wrong()),
    };
    if bits > width {
        return Err(wrong());
    }
    if prefix(address, bits) != Some((address.is_ipv4(), number(address))) {
        return Err(format!("`{}` has bits set outside its network", text.escape_debug()));
    }
    Ok(Pattern::Network { address, bits })
}

/// The family and the first `bits` bits of `address`, the others zero. `None` for more bits than it has.
#[must_use]
pub fn prefix(address: IpAddr, bits: u32) -> Option<(bool, u128)> {
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let low = width.checked_sub(bits)?;
    let mask = u128::MAX.checked_shl(low).unwrap_or(0);
    Some((address.is_ipv4(), number(address) & mask))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Linear in the product of the lengths, without recursion: the pattern is the owner's, but the habit is cheap.
fn glob_fits(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut here, mut star) = (0, 0, None);
    while here < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, here));
                at += 1;
            }
            Some(byte) if *byte == b'?' || Some(byte) == text.get(here) => {
                at += 1;
                here += 1;
            }
            _ => match star {
                Some((star_at, star_here)) => {
                    at = star_at + 1;
                    here = star_here + 1;
                    star = Some((star_at, here));
                }
                None => return false,
            },
        }
    }
    glob.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn fits(list: &str, address: &str) -> bool {
        Addresses::parse(list).unwrap().contain(address.parse().unwrap())
    }

    #[test]
    fn networks_addresses_and_wildcards_fit_what_they_say() {
        assert!(fits("10.0.0.0/8", "10.255.0.1"));
        assert!(!fits("10.0.0.0/8", "11.0.0.1"));
        assert!(fits("0.0.0.0/0", "1.2.3.4"));
        assert!(!fits("0.0.0.0/0", "::1"));
        assert!(fits("::/0", "::1"));
        assert!(fits("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!fits("2001:db8::/33", "2001:db8:8000::1"));
        assert!(fits("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(fits("192.168.?.*", "192.168.3.77"));
        assert!(!fits("192.168.?.*", "192.168.33.7"));
        assert!(!fits("1.2.3.4", "1.2.3.40"));
        assert!(fits("2001:DB8:*", "2001:db8::1"));
    }

    #[test]
    fn a_negated_pattern_wins_and_alone_admits_nobody() {
        assert!(fits("10.0.0.0/8,!10.1.0.0/16", "10.2.0.1"));
        assert!(!fits("10.0.0.0/8,!10.1.0.0/16", "10.1.0.1"));
        assert!(!fits("!10.1.0.0/16,*", "10.1.0.1"));
        assert!(!fits("!10.1.0.0/16", "10.2.0.1"));
    }

    #[test]
    fn names_holes_and_bad_masks_are_refused() {
        for bad in [
            "host.example",
            "",
            "10.0.0.0/8,",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::/129",
            "*.example.org",
            "!!1.2.3.4",
            "1.2.3",
        ] {
            assert!(Addresses::parse(bad).is_err(), "{bad}");
        }
        for bad in ["*", "!10.0.0.0/8", "10.*"] {
            assert!(Addresses::parse_networks(bad).is_err(), "{bad}");
        }
    }
}
