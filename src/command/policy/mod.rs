//! `rex policy`: what the owner does with policies before they count; one file per command.

mod activate;
mod check;
mod format;
mod schema;

use crate::error::{Error, Exit, Kind};
use activate::ActivateArgs;
use clap::Subcommand;

#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Find what is wrong with policies: faults (exit 78), and what is most likely not meant.
    Check(check::CheckArgs),
    /// Write policies in one style, in place; comments stay. What does not parse is refused (exit 78), and then nothing is written.
    Format(format::FormatArgs),
    /// Check, test and put a set in force at once; the set before is kept.
    Activate(ActivateArgs),
    /// Print the Cedar schema that policies are validated against.
    Schema(schema::SchemaArgs),
}

/// Runs the command; gives the exit code.
#[must_use]
pub fn run(command: PolicyCommand) -> u8 {
    match command {
        PolicyCommand::Check(args) => check::run(&args),
        PolicyCommand::Format(args) => format::run(&args),
        PolicyCommand::Activate(args) => activate::run(&args),
        PolicyCommand::Schema(args) => schema::run(&args),
    }
}

/// Faults of policies have lines of their own, with carets; gives the exit code.
fn fault(error: &Error) -> u8 {
    let text = format!("rex: {}\n", error.message);
    let _ = crate::output::write_all(rustix::stdio::stderr(), crate::output::neutralise(&text).as_bytes());
    if let Some(hint) = error.hint.as_ref().filter(|hint| !hint.is_empty()) {
        super::say(&format!("  hint: {hint}"));
    }
    if error.kind == Kind::Config { Exit::ConfigInvalid as u8 } else { error.kind.exit() as u8 }
}
