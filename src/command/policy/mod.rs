//! `rex policy`: what the owner does with policies before they count; one file per command.

mod check;
mod format;
mod schema;

use clap::Subcommand;

#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Find what is wrong with policies: faults (exit 78), and what is most likely not meant.
    Check(check::CheckArgs),
    /// Write policies in one style, in place; comments stay. What does not parse is refused (exit 78), and then nothing is written.
    Format(format::FormatArgs),
    /// Print the Cedar schema that policies are validated against.
    Schema(schema::SchemaArgs),
}

/// Runs the command; gives the exit code.
#[must_use]
pub fn run(command: PolicyCommand) -> u8 {
    match command {
        PolicyCommand::Check(args) => check::run(&args),
        PolicyCommand::Format(args) => format::run(&args),
        PolicyCommand::Schema(args) => schema::run(&args),
    }
}
