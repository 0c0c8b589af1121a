//! `rex policy`: what the owner does with policies before they count; one file per command.

mod check;

use clap::Subcommand;

#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Find what is wrong with policies: faults (exit 78), and what is most likely not meant.
    Check(check::CheckArgs),
    /// Print the Cedar schema that policies are validated against.
    Schema,
}

/// Runs the command; gives the exit code.
#[must_use]
pub fn run(command: PolicyCommand) -> u8 {
    match command {
        PolicyCommand::Check(args) => check::run(&args),
        PolicyCommand::Schema => super::show(&crate::terms::schema()),
    }
}
