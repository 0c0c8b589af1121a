//! The way in: argv decides between somebody's session and the owner's own command line; one file per command.

mod audit;
mod can;
mod check;
mod cli;
mod demo;
mod doctor;
mod learning;
mod local;
mod man;
mod pam_record;
mod policy;
mod prompt;
mod serve;
mod session;
mod setup;
mod verbs;
mod why;

use crate::error::{Exit, Kind};
use crate::invocation::{Invocation, from_process};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The whole program.
#[must_use]
pub fn main() -> std::process::ExitCode {
    crate::sys::memory::one_pool();
    // Before anything is read: descriptors, core dumps, ptrace, umask.
    let environment = match crate::os::process::first_actions() {
        Ok(environment) => environment,
        Err(error) => {
            say(&format!("rex: {error}"));
            return (Exit::Internal as u8).into();
        }
    };
    crate::sys::inherit::shut();
    let argv: Vec<OsString> = std::env::args_os().collect();
    let original: Vec<OsString> =
        environment.all("SSH_ORIGINAL_COMMAND").into_iter().map(|value| OsString::from_vec(value.to_vec())).collect();
    let code = match from_process(&argv, &original) {
        Ok(Invocation::Session(session)) => session::run(&session, &environment),
        Ok(Invocation::Local(words)) => cli::run(words, &environment),
        Err(error) => {
            say(&format!("rex: {}", error.message));
            if let Some(hint) = &error.hint {
                say(&format!("  {hint}"));
            }
            // A wrong line of the owner and a wrong request differ; neither is recorded, since nobody is known yet.
            if error.kind == Kind::Config { Exit::ConfigInvalid as u8 } else { Exit::Usage as u8 }
        }
    };
    code.into()
}

/// One line on stderr.
pub(crate) fn say(line: &str) {
    let text = format!("{}\n", crate::output::neutralise(line));
    let _ = crate::output::write_all(rustix::stdio::stderr(), text.as_bytes());
}

/// Text on stdout, as it is; gives the exit code.
pub(crate) fn show(text: &str) -> u8 {
    let text = if crate::output::is_tty(rustix::stdio::stdout()) { crate::output::neutralise(text) } else { text.to_owned() };
    show_as_is(&text)
}

/// The same for a text whose control characters are rex's own.
pub(crate) fn show_as_is(text: &str) -> u8 {
    match crate::output::write_all(rustix::stdio::stdout(), text.as_bytes()) {
        Ok(()) => Exit::Ok as u8,
        // Whoever closed the pipe has read enough.
        Err(error) if error.kind == Kind::Cancelled => Exit::Ok as u8,
        Err(error) => {
            say(&format!("rex: {error}"));
            Exit::Usage as u8
        }
    }
}
