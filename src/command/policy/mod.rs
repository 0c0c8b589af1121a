//! `rex policy`: what the owner does with policies before they count; one file per command.

mod check;
mod diff;
pub mod learn;
mod records;
mod unused;

use clap::Subcommand;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Parse and strictly validate policies; exit 78 when they would stop everything.
    Check {
        /// Files, or folders of *.cedar files; without any, those of rex.toml.
        files: Vec<PathBuf>,
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Propose the narrowest policy for what records show was denied.
    Learn(learn::LearnArgs),
    /// List rules that decided nothing in the records, and rules that cannot decide anything.
    Unused(unused::UnusedArgs),
    /// Show what a new set of policies permits or denies that the old one did not; exit 1 when they differ.
    Diff(diff::DiffArgs),
    /// Print the Cedar schema that policies are validated against.
    Schema,
}

/// Runs the command; gives the exit code.
#[must_use]
pub fn run(command: PolicyCommand) -> u8 {
    match command {
        PolicyCommand::Check { files, config } => check::run(&files, config.as_deref()),
        PolicyCommand::Learn(args) => learn::run(&args),
        PolicyCommand::Unused(args) => unused::run(&args),
        PolicyCommand::Diff(args) => diff::run(&args),
        PolicyCommand::Schema => super::show(&crate::terms::schema()),
    }
}
