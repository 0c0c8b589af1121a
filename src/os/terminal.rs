//! The terminal of a session at a prompt: how it behaves while something runs, and lines for terminals that can do no more than that.
//!
//! Of the keys that make signals only Ctrl-C does here, and only while something runs: there is no job control to stop rex with, and no Ctrl-\\ that ends it.

use crate::error::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::termios::{InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::time::Duration;

/// Ctrl-C.
const INTERRUPT: u8 = 3;
/// No key at all (_POSIX_VDISABLE).
const NONE: u8 = 0;
/// The kernel keeps no more of a line that it edits itself (N_TTY_BUF_SIZE), and drops what is beyond that.
const LINE: usize = 4095;
/// How often it is asked whether the session is over.
const TICK: Duration = Duration::from_millis(200);

/// Whether a terminal takes this character for more than text: controls but line end and tab, and what turns the direction of text.
#[must_use]
pub fn steers(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// Whether text is nothing but text to a terminal.
#[must_use]
pub fn steers_nothing(text: &str) -> bool {
    !text.chars().any(steers)
}

/// The terminal on the standard descriptors. It is as it was before when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    before: Termios,
}

/// What came of waiting for a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Text(Vec<u8>),
    /// Longer than the kernel keeps: cut, and not to be used.
    TooLong,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D on an empty line, or the terminal is gone.
    End,
    /// The session is over.
    Over,
}

impl Terminal {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When standard input is none.
    pub fn take() -> Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        own_the_terminal()?;
        let terminal = Self { before };
        terminal.quiet()?;
        Ok(terminal)
    }

    /// Nothing is echoed, no key but Ctrl-C makes a signal or stops the output, what is typed is kept, and text is written as programs write it.
    fn quiet(&self) -> Result<()> {
        let mut modes = self.before.clone();
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHONL | LocalModes::IEXTEN;
        modes.local_modes |= LocalModes::ISIG | LocalModes::NOFLSH;
        modes.input_modes -= InputModes::IXON | InputModes::IXOFF | InputModes::INLCR | InputModes::IGNCR;
        modes.input_modes |= InputModes::ICRNL;
        modes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        modes.special_codes[SpecialCodeIndex::VINTR] = INTERRUPT;
        for other in [SpecialCodeIndex::VQUIT, SpecialCodeIndex::VSUSP] {
            modes.special_codes[other] = NONE;
        }
        Ok(tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &modes)?)
    }

    /// The kernel's own editing of a line, with echo; Ctrl-C ends a line as a byte.
    fn editing(&self) -> Result<()> {
        let mut modes = self.before.clone();
        modes.local_modes -= LocalModes::ISIG | LocalModes::IEXTEN;
        modes.local_modes |= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHOE | LocalModes::ECHOK | LocalModes::ECHOCTL;
        modes.input_modes -= InputModes::IXON | InputModes::IXOFF | InputModes::INLCR | InputModes::IGNCR;
        modes.input_modes |= InputModes::ICRNL;
        modes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
        modes.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        Ok(tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &modes)?)
    }

    /// Waits for a line that the kernel edits: for terminals that can do no more than that. `over` is asked while it waits.
    ///
    /// # Errors
    /// When the terminal does not do what it is told.
    pub fn line(&self, over: &dyn Fn() -> bool) -> Result<Line> {
        self.editing()?;
        let line = read_line(over);
        self.quiet()?;
        line
    }
}

/// Ctrl-C is for the processes in the foreground of the terminal. A shell that sshd put before rex would end by it, and the session with that; what rex
/// has forked beside it is in groups of its own.
fn own_the_terminal() -> Result<()> {
    let own = rustix::process::getpid();
    if rustix::process::getpgrp() != own {
        rustix::process::setpgid(None, None)?;
        // Who is not in the foreground is stopped for this, unless that signal is blocked (tcsetpgrp(3)); see `Signals`.
        rustix::termios::tcsetpgrp(rustix::stdio::stdin(), own)?;
    }
    Ok(())
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may be gone.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

fn read_line(over: &dyn Fn() -> bool) -> Result<Line> {
    let mut bytes = [0u8; LINE + 1];
    loop {
        if over() {
            return Ok(Line::Over);
        }
        let ready = wait(TICK);
        if ready.is_empty() {
            continue;
        }
        if !ready.contains(PollFlags::IN) {
            return Ok(Line::End);
        }
        return match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
            Ok(0) => Ok(Line::End),
            Ok(count) => Ok(match bytes.get(..count).unwrap_or_default() {
                [.., INTERRUPT] => Line::Interrupt,
                _ if count >= LINE => Line::TooLong,
                [line @ .., b'\n'] => Line::Text(line.to_vec()),
                line => Line::Text(line.to_vec()),
            }),
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::IO) => Ok(Line::End),
            Err(errno) => Err(Error { kind: Kind::Communication, ..Error::os("the terminal could not be read", errno.raw_os_error()) }),
        };
    }
}

/// What is there on standard input within this time.
fn wait(time: Duration) -> PollFlags {
    let stdin = rustix::stdio::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let time = Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(1), tv_nsec: time.subsec_nanos().into() };
    let _ = rustix::event::poll(&mut fds, Some(&time));
    let [fd] = fds;
    fd.revents()
}

/// How many bytes the kernel keeps of what is typed and not read yet, beyond which no key reaches rex any more, Ctrl-C neither.
const AHEAD: u64 = 3500;

/// While something runs nobody reads what is typed; it is there for the next line. Where it is so much that Ctrl-C would be stuck behind it, it is thrown away.
pub fn make_room() {
    let stdin = rustix::stdio::stdin();
    if rustix::io::ioctl_fionread(stdin).is_ok_and(|waiting| waiting > AHEAD) {
        let _ = rustix::io::read(stdin, &mut [0u8; 4096]);
    }
}
