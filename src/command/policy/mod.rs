//! `rex policy`: what the owner does with policies before they count; one file per command.

mod activate;
mod check;
mod diff;
pub mod explain;
mod format;
pub mod learn;
mod records;
mod schema;
mod test;
mod unused;

use crate::error::{Error, Exit, Kind};
use activate::ActivateArgs;
use clap::Subcommand;

#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Explain one question: every policy with why it did or did not apply, and the answer. Exit 0 for allowed, 77 for denied.
    Explain(Box<explain::ExplainArgs>),
    /// Run the tests that lie beside policies: NAME.test.toml files, and @test annotations of rules.
    Test(test::TestArgs),
    /// Check, test and put a set in force at once; the set before is kept.
    Activate(ActivateArgs),
    /// Find what is wrong with policies: faults (exit 78), and what is most likely not meant.
    Check(check::CheckArgs),
    /// Write policies in one style, in place; comments stay. What does not parse is refused (exit 78), and then nothing is written.
    Format(format::FormatArgs),
    /// Propose the narrowest policy for what records show was denied.
    Learn(learn::LearnArgs),
    /// List rules that decided nothing in the records, and rules that cannot decide anything.
    Unused(unused::UnusedArgs),
    /// Show what a new set of policies permits or denies that the old one did not; exit 1 when they differ.
    Diff(diff::DiffArgs),
    /// Print the Cedar schema that policies are validated against.
    Schema(schema::SchemaArgs),
}

/// Runs the command; gives the exit code.
#[must_use]
pub fn run(command: PolicyCommand) -> u8 {
    match command {
        PolicyCommand::Explain(args) => explain::run(&args),
        PolicyCommand::Test(args) => test::run(&args),
        PolicyCommand::Activate(args) => activate::run(&args),
        PolicyCommand::Check(args) => check::run(&args),
        PolicyCommand::Format(args) => format::run(&args),
        PolicyCommand::Learn(args) => learn::run(&args),
        PolicyCommand::Unused(args) => unused::run(&args),
        PolicyCommand::Diff(args) => diff::run(&args),
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
