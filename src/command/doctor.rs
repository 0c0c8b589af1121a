//! `rex doctor`: judges this host, shows what was found, and with `--fix` mends what is safe to mend.

use crate::doctor::{Asked, Survey, examine, mend, show};
use crate::error::{Error, Kind};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct DoctorArgs {
    /// Accounts to judge; without any, all that can reach rex.
    users: Vec<String>,
    /// Show what is in order, too.
    #[arg(long)]
    all: bool,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
    /// Mend what is safe to mend (rex's own files and folders, user_readenv of PAM), show each change, and judge again. As root.
    #[arg(long)]
    fix: bool,
    /// The rex.toml; without it the usual one, and those that lines of the owner name.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Another sshd_config than the one that sshd reads by itself.
    #[arg(long, value_name = "FILE")]
    sshd_config: Option<PathBuf>,
}

/// Gives the exit code: 0, 1 or 78, see docs/doctor.md.
#[must_use]
pub fn run(args: &DoctorArgs) -> u8 {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let asked = Asked {
        users: args.users.clone(),
        config: args.config.as_ref().map(absolute),
        sshd_config: args.sshd_config.as_ref().map(absolute),
    };
    let mut survey = match Survey::of_host(&asked) {
        Ok(survey) => survey,
        Err(error) => return super::local::failed(&error),
    };
    if args.fix && !survey.root {
        return super::local::failed(&Error::new(Kind::Usage, "only root can mend anything").with_hint("run it as root"));
    }
    let mut report = examine(&survey);
    let mut done = Vec::new();
    if args.fix {
        let (mended, failed) = mend::all(&survey, &report);
        failed.iter().for_each(|line| super::say(&format!("rex: not mended: {line}")));
        if !args.json {
            mended.iter().for_each(|line| super::say(&format!("mended: {line}")));
        }
        if !mended.is_empty() {
            survey = match Survey::of_host(&asked) {
                Ok(survey) => survey,
                Err(error) => return super::local::failed(&error),
            };
            report = examine(&survey);
        }
        done = mended;
    }
    let shown = if args.json {
        super::show(&show::document(&report, &survey, &done))
    } else {
        let colour = crate::output::is_tty(rustix::stdio::stdout());
        super::show_as_is(&show::text(&report, &survey, args.all, colour))
    };
    if shown == 0 { report.exit() } else { shown }
}
