//! What dpkg did, from its log and the rotations of it.

use super::{Check, LOG, ROTATIONS, read, text};
use crate::error::{Error, Kind, Result};
use std::io::Read as _;
use std::path::Path;

/// Most bytes of one log, unpacked.
const LONGEST: u64 = 256 << 20;

/// One thing that was done to a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Milliseconds since the epoch; the log has the host's own time.
    pub time_ms: i64,
    /// install, upgrade, remove or purge.
    pub action: String,
    pub name: String,
    pub architecture: String,
    /// The version before; empty for a new package.
    pub from: String,
    /// The version after; empty for one that is gone.
    pub to: String,
}

/// # Errors
/// [`Kind::Unsupported`] where there is no log; those of `check`.
pub(super) fn steps(root: &Path, check: Check<'_>) -> Result<Vec<Step>> {
    let zone = jiff::tz::TimeZone::system();
    let mut steps = Vec::new();
    let mut any = false;
    // The oldest first.
    for place in places().rev() {
        check()?;
        let place = place.trim_start_matches('/');
        let Some(mut bytes) = read(root, place)? else { continue };
        any = true;
        if place.ends_with(".gz") {
            let mut unpacked = Vec::new();
            // What is damaged is taken as far as it goes.
            let _ = flate2::read::MultiGzDecoder::new(bytes.as_slice()).take(LONGEST).read_to_end(&mut unpacked);
            bytes = unpacked;
        }
        for line in text(&bytes).lines() {
            steps.extend(step(line, &zone));
        }
    }
    if any { Ok(steps) } else { Err(Error::new(Kind::Unsupported, "dpkg keeps no log on this host")) }
}

/// The log and its rotations, the newest first.
pub fn places() -> impl DoubleEndedIterator<Item = String> {
    std::iter::once(LOG.to_owned()).chain((1..=ROTATIONS).flat_map(|number| [format!("{LOG}.{number}"), format!("{LOG}.{number}.gz")]))
}

/// `2026-11-24 06:10:32 upgrade libc-bin:amd64 2.36-9 2.36-10`.
fn step(line: &str, zone: &jiff::tz::TimeZone) -> Option<Step> {
    let mut words = line.split(' ');
    let (day, time, action, package) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if !matches!(action, "install" | "upgrade" | "remove" | "purge") {
        return None;
    }
    let (from, to) = (words.next()?, words.next()?);
    let moment: jiff::civil::DateTime = format!("{day}T{time}").parse().ok()?;
    let version = |word: &str| if word == "<none>" { String::new() } else { word.to_owned() };
    let (name, architecture) = package.split_once(':').unwrap_or((package, ""));
    Some(Step {
        time_ms: zone.to_timestamp(moment).ok()?.as_millisecond(),
        action: action.to_owned(),
        name: name.to_owned(),
        architecture: architecture.to_owned(),
        from: version(from),
        to: version(to),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn steps_are_what_was_done_to_packages_and_nothing_else() {
        let utc = jiff::tz::TimeZone::UTC;
        let upgraded = step("2026-11-24 06:10:32 upgrade libc-bin:amd64 2.36-9 2.36-10", &utc).unwrap();
        assert_eq!((upgraded.name.as_str(), upgraded.architecture.as_str(), upgraded.time_ms), ("libc-bin", "amd64", 1_795_500_632_000));
        assert_eq!((upgraded.from.as_str(), upgraded.to.as_str()), ("2.36-9", "2.36-10"));
        assert_eq!(step("2026-11-24 06:10:32 install a:all <none> 1", &utc).unwrap().from, "");
        for other in [
            "2026-11-24 06:10:32 status installed libc-bin:amd64 2.36-9",
            "2026-11-24 06:10:32 startup archives unpack",
            "2026-11-24 06:10:32 configure a:all 1 <none>",
            "nonsense",
            "",
        ] {
            assert_eq!(step(other, &utc), None, "{other}");
        }
    }
}
