//! `rex policy schema`: what policies are validated against, for people and for editors.

use clap::Args;

#[derive(Args)]
pub struct SchemaArgs {
    /// In Cedar's JSON syntax, which some editors and tools want; without it, in Cedar's own.
    #[arg(long)]
    json: bool,
}

/// Prints it.
#[must_use]
pub fn run(args: &SchemaArgs) -> u8 {
    let text = crate::terms::schema();
    if !args.json {
        return super::super::show(&text);
    }
    match crate::policy::schema::to_json(&text) {
        Ok(json) => super::super::show(&json),
        Err(error) => super::super::local::failed(&error),
    }
}
