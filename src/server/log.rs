//! The few lines that the server itself says, on standard error. What sessions do is in the audit records, not here.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use core::net::SocketAddr;

/// Lines about refused clients in one [`PERIOD`]; a flood of them must not fill the disk or hide the rest.
const MAX_LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(10);

/// Where the lines go.
#[derive(Debug)]
pub struct Log {
    state: Mutex<State>,
    #[cfg(test)]
    kept: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct State {
    since: Instant,
    lines: u32,
    dropped: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            state: Mutex::new(State { since: Instant::now(), lines: 0, dropped: 0 }),
            #[cfg(test)]
            kept: Mutex::default(),
        }
    }
}

impl Log {
    /// Says one line. A standard error that cannot be written stops nothing.
    pub fn say(&self, line: &str) {
        #[cfg(test)]
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
        // In one write, so that lines of several processes on one journal or terminal do not mix.
        let _ = std::io::stderr().write_all(format!("rex serve: {line}\n").as_bytes());
    }

    /// Says that something of a client's was refused, at most `MAX_LINES` times in `PERIOD`; how many were left out is said later.
    pub fn refused(&self, peer: SocketAddr, why: &str) {
        let left_out = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut left_out = 0;
            if state.since.elapsed() >= PERIOD {
                left_out = std::mem::take(&mut state.dropped);
                (state.since, state.lines) = (Instant::now(), 0);
            }
            if state.lines >= MAX_LINES {
                state.dropped += 1;
                return;
            }
            state.lines += 1;
            left_out
        };
        if left_out > 0 {
            self.say(&format!("{left_out} more refusals were not shown"));
        }
        self.say(&format!("refused {peer}: {why}"));
    }

    #[cfg(test)]
    pub fn lines(&self) -> Vec<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_cut_short() {
        let log = Log::default();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        for _ in 0..1000 {
            log.refused(peer, "test");
        }
        assert_eq!(log.lines().len(), MAX_LINES as usize);
    }
}
