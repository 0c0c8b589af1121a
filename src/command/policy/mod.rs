//! `rex policy`: what the owner does with policies before they count; one file per command.

mod activate;
mod check;
mod test;

use crate::error::{Error, Exit, Kind};
use activate::ActivateArgs;
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
    /// Check, test and put a set in force at once; the set before is kept.
    Activate(ActivateArgs),
    /// Print the Cedar schema that policies are validated against.
    Schema,
}

/// Runs the command; gives the exit code.
#[must_use]
pub fn run(command: PolicyCommand) -> u8 {
    match command {
        PolicyCommand::Check { files, config } => check::run(&files, config.as_deref()),
        PolicyCommand::Test(args) => test::run(&args),
        PolicyCommand::Activate(args) => activate::run(&args),
        PolicyCommand::Schema => super::show(&crate::terms::schema()),
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
