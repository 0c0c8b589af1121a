//! `rex policy`: what the owner does with policies before they count; one file per command.

mod check;
mod explain;

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
    /// Explain one question: every policy with why it did or did not apply, and the answer. Exit 0 for allowed, 77 for denied.
    Explain(Box<explain::ExplainArgs>),
    /// Print the Cedar schema that policies are validated against.
    Schema,
}

/// Runs the command; gives the exit code.
#[must_use]
pub fn run(command: PolicyCommand) -> u8 {
    match command {
        PolicyCommand::Check { files, config } => check::run(&files, config.as_deref()),
        PolicyCommand::Explain(args) => explain::run(&args),
        PolicyCommand::Schema => super::show(&crate::terms::schema()),
    }
}
