//! Records of sessions as utmp(5) has them: bytes in, records out.

use super::int;

/// Where the parts of a record are. The C library keeps 32 bits for times where programs of 32 bits run on the same host (bits/utmp.h).
const WIDE: bool = cfg!(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "loongarch64"));
/// Bytes of a record.
pub const RECORD: usize = if WIDE { 400 } else { 384 };
const LINE: (usize, usize) = (8, 32);
const USER: (usize, usize) = (44, 32);
const HOST: (usize, usize) = (76, 256);
const TIME: usize = if WIDE { 344 } else { 340 };

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The machine went down, or changed its run level.
    RunLevel,
    Boot,
    Login,
    Logout,
    Other,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: Kind,
    pub pid: i64,
    /// The terminal, e.g. `pts/0`; of services `ssh:notty` and the like.
    pub line: String,
    pub user: String,
    /// Where from, as the service was told; empty for a session at the machine.
    pub host: String,
    /// Seconds since 1970.
    pub seconds: i64,
}

/// Every whole record; bytes that are no text become U+FFFD.
#[must_use]
pub fn records(bytes: &[u8]) -> Vec<Record> {
    bytes.chunks_exact(RECORD).filter_map(record).collect()
}

fn record(bytes: &[u8]) -> Option<Record> {
    let text = |(at, length): (usize, usize)| {
        let field = bytes.get(at..at + length)?;
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(length);
        Some(String::from_utf8_lossy(field.get(..end)?).into_owned())
    };
    let number = |at: usize| Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let kind = i16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let seconds = if WIDE {
        i64::from_ne_bytes(bytes.get(TIME..TIME + 8)?.try_into().ok()?)
    } else {
        // Without a sign it lasts until 2106.
        int(u64::from(number(TIME)?.cast_unsigned()))
    };
    Some(Record {
        kind: match kind {
            1 => Kind::RunLevel,
            2 => Kind::Boot,
            // A login process of btmp(5) is an attempt.
            6 | 7 => Kind::Login,
            8 => Kind::Logout,
            _ => Kind::Other,
        },
        pid: number(4)?.into(),
        line: text(LINE)?,
        user: text(USER)?,
        host: text(HOST)?,
        seconds,
    })
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub login: Record,
    /// Seconds since 1970; nothing while it lasts.
    pub end: Option<i64>,
    /// `logout`, `down` (the machine was shut down), `crash` (it started anew without that), or `logged_in`.
    pub how: &'static str,
}

/// Logins with their ends, and starts of the machine, the last one first: what last(1) makes of the records.
#[must_use]
pub fn sessions(records: &[Record]) -> Vec<Session> {
    let mut sessions = Vec::new();
    let mut ends: std::collections::HashMap<&str, i64> = std::collections::HashMap::new();
    let mut down: Option<(i64, &'static str)> = None;
    for record in records.iter().rev() {
        match record.kind {
            Kind::Logout => {
                ends.insert(&record.line, record.seconds);
            }
            Kind::RunLevel if record.user == "shutdown" => {
                ends.clear();
                down = Some((record.seconds, "down"));
            }
            Kind::Boot => {
                let (end, how) = down.map_or((None, "logged_in"), |(at, how)| (Some(at), how));
                sessions.push(Session { login: record.clone(), end, how });
                ends.clear();
                down = Some((record.seconds, "crash"));
            }
            Kind::Login if !record.user.is_empty() => {
                let logout = ends.get(record.line.as_str()).map(|at| (*at, "logout"));
                let (end, how) = logout.or(down).map_or((None, "logged_in"), |(at, how)| (Some(at), how));
                sessions.push(Session { login: record.clone(), end, how });
                // The next one on this terminal ended the one before.
                ends.insert(&record.line, record.seconds);
            }
            _ => {}
        }
    }
    sessions
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn bytes(kind: i16, line: &str, user: &str, host: &str, seconds: u32) -> Vec<u8> {
        let mut bytes = vec![0; RECORD];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, &kind.to_ne_bytes());
        put(4, &77i32.to_ne_bytes());
        put(LINE.0, line.as_bytes());
        put(USER.0, user.as_bytes());
        put(HOST.0, host.as_bytes());
        if WIDE {
            put(TIME, &i64::from(seconds).to_ne_bytes())
        } else {
            put(TIME, &seconds.to_ne_bytes())
        }
        bytes
    }

    #[test]
    fn sessions_are_paired_with_their_ends() {
        let file = [
            bytes(2, "~", "reboot", "6.1", 10),
            bytes(7, "pts/0", "ann", "192.0.2.1", 20),
            bytes(8, "pts/0", "", "", 30),
            bytes(7, "tty1", "bob", "", 40),
            bytes(1, "~", "shutdown", "6.1", 50),
            bytes(2, "~", "reboot", "6.1", 60),
            bytes(7, "pts/0", "eve", "", 70),
            bytes(2, "~", "reboot", "6.1", 4_000_000_000),
            bytes(7, "pts/1", "ann", "", 4_000_000_001),
            vec![0; 10],
        ]
        .concat();
        let shown: Vec<(String, i64, Option<i64>, &str)> = sessions(&records(&file))
            .into_iter()
            .map(|session| (session.login.user, session.login.seconds, session.end, session.how))
            .collect();
        let row = |user: &str, at, end, how| (user.to_owned(), at, end, how);
        assert_eq!(
            shown,
            [
                row("ann", 4_000_000_001, None, "logged_in"),
                row("reboot", 4_000_000_000, None, "logged_in"),
                row("eve", 70, Some(4_000_000_000), "crash"),
                row("reboot", 60, Some(4_000_000_000), "crash"),
                row("bob", 40, Some(50), "down"),
                row("ann", 20, Some(30), "logout"),
                row("reboot", 10, Some(50), "down"),
            ]
        );
        assert_eq!((records(&file)[1].host.as_str(), records(&file)[1].pid), ("192.0.2.1", 77));
        assert!(records(&[1; 100]).is_empty());
    }
}
