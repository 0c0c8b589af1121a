//! `rex policy`: what the owner does with policies before they count; one file per command.

mod check;
mod test;

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
    /// Run the tests that lie beside policies: NAME.test.toml files, and @test annotations of rules.
    Test(test::TestArgs),
    /// Print the Cedar schema that policies are validated against.
    Schema,
}

/// Runs the command; gives the exit code.
#[must_use]
pub fn run(command: PolicyCommand) -> u8 {
    match command {
        PolicyCommand::Check { files, config } => check::run(&files, config.as_deref()),
        PolicyCommand::Test(args) => test::run(&args),
        PolicyCommand::Schema => super::show(&crate::terms::schema()),
    }
}
