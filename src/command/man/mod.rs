//! `rex man`: manual pages. Those of commands from the command line's own table, those of files and functions from theirs.

mod roff;
mod topics;

use super::cli::Cli;
use crate::error::{EXITS, Error, Kind, Result};
use clap::CommandFactory;
use roff::Page;

/// One page of the manual.
struct Entry {
    name: String,
    section: u8,
    source: Source,
}

enum Source {
    Command(Box<clap::Command>),
    Topic(Write),
}

/// Writes the page of that name.
type Write = fn(&str) -> String;

impl Entry {
    /// `rex-run.1`, as its file is called.
    fn file(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }
    fn text(&self) -> Result<String> {
        match &self.source {
            Source::Command(command) => of_command(&self.name, command),
            Source::Topic(write) => Ok(write(&self.name)),
        }
    }
}

/// Every page: topics first, because `functions` means the functions of scripts rather than the command that lists them.
fn entries() -> Vec<Entry> {
    let topics: [(&str, u8, Write); 3] =
        [("rex.toml", 5, topics::settings), ("principals.toml", 5, topics::principals), ("rex-functions", 7, topics::functions)];
    let mut entries: Vec<Entry> =
        topics.into_iter().map(|(name, section, write)| Entry { name: name.to_owned(), section, source: Source::Topic(write) }).collect();
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    collect(program, &mut entries);
    entries
}

fn collect(command: clap::Command, entries: &mut Vec<Entry>) {
    let below: Vec<clap::Command> = command.get_subcommands().filter(|one| !one.is_hide_set()).cloned().collect();
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    entries.push(Entry { name, section: 1, source: Source::Command(Box::new(command)) });
    below.into_iter().for_each(|command| collect(command, entries));
}

/// The page of that name: `rex-run.1`, `rex-run` or `run`.
///
/// # Errors
/// [`Kind::Usage`] when there is none.
pub fn page(name: &str) -> Result<String> {
    let entries = entries();
    let found = entries
        .iter()
        .find(|entry| entry.file() == name)
        .or_else(|| entries.iter().find(|entry| entry.name == name))
        .or_else(|| entries.iter().find(|entry| entry.name.strip_prefix("rex-") == Some(name)));
    match found {
        Some(entry) => entry.text(),
        None => {
            let known: Vec<String> = entries.iter().map(Entry::file).collect();
            Err(Error::new(Kind::Usage, format!("no page `{}`", crate::invocation::words::shown(name)))
                .with_hint(format!("the pages are {}", known.join(", "))))
        }
    }
}

/// The names of all pages as files, a line each.
#[must_use]
pub fn list() -> String {
    entries().iter().map(|entry| entry.file() + "\n").collect()
}

/// A command's page.
fn of_command(name: &str, command: &clap::Command) -> Result<String> {
    let mut page = Page::new(name, 1);
    let man = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut text)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    page.rendered(&text);
    if name == "rex" {
        of_the_whole(&mut page);
    } else {
        page.heading("SEE ALSO");
        page.paragraph(if name == "rex-functions" { "`rex(1)`, `rex-functions(7)`" } else { "`rex(1)`" });
    }
    Ok(page.finish())
}

/// What `rex(1)` has besides the commands: how sessions begin, codes, files.
fn of_the_whole(page: &mut Page) {
    page.heading("SESSIONS");
    page.paragraph(
        "`rex session [--config FILE] [--principal NAME] [--subsystem]` is what the owner of a host has sshd run: by `ForceCommand exec /usr/bin/rex \
         session` under \
         a `Match Group` of sshd_config(5), by `command=` of a key or certificate, or by `Subsystem rex /usr/bin/rex session --subsystem` beside one \
         of these. With \
         `/usr/bin/rexsh`, a link to rex, as login shell of an account it needs no line. Nothing that a client sends is taken for one of those options.",
    );
    page.paragraph("What a client can ask is told by `ssh HOST rex help`.");
    page.heading("EXIT STATUS");
    for (exit, meaning) in EXITS {
        page.item(&(*exit as u8).to_string(), meaning);
    }
    page.heading("FILES");
    for (path, what) in [
        ("/etc/rex/rex.toml", "Settings: rex.toml(5). `--config` moves it, and with it what lies beside it."),
        ("/etc/rex/principals.toml", "Who is who: principals.toml(5)."),
        ("/etc/rex/policies/*.cedar", "Policies; `*.test.toml` beside them are their tests. Without a policy nothing runs."),
        ("/etc/rex/scripts/*.rhai", "Runbooks, for `rex run @NAME`."),
        ("/var/cache/rex", "What was found out about policies. It can be removed at any time."),
        ("/run/rex", "Runs under way, and what callers were told of their denials."),
    ] {
        page.item(path, what);
    }
    page.paragraph("A session uses none of the owner's files if anyone but root can write it, or a folder above it.");
    page.heading("SEE ALSO");
    page.paragraph("`rex.toml(5)`, `principals.toml(5)`, `rex-functions(7)`, `ssh(1)`, `sshd_config(5)`");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn every_listed_page_is_there_under_its_own_name_and_no_two_share_one() {
        let list = list();
        let names: Vec<&str> = list.lines().collect();
        let different: std::collections::BTreeSet<&&str> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        for name in &names {
            let (title, section) = name.rsplit_once('.').unwrap();
            let text = page(name).unwrap();
            let first = text.lines().next().unwrap();
            assert_eq!(first.replace("\\-", "-").split('"').nth(1).unwrap(), title.to_uppercase(), "{name}");
            assert!(first.contains(&format!("\" \"{section}\" \"")), "{first}");
            assert!(text.contains("NAME"), "{name}");
        }
        for name in ["rex.1", "rex-run.1", "rex-policy-check.1", "rex.toml.5", "principals.toml.5", "rex-functions.7", "rex-functions.1"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        assert_eq!(page("functions").unwrap(), page("rex-functions.7").unwrap());
        assert_eq!(page("policy-check").unwrap(), page("rex-policy-check.1").unwrap());
        assert!(page("rex-nothing").unwrap_err().hint.unwrap().contains("rex-run.1"));
    }

    #[test]
    fn settings_functions_and_principals_are_on_their_pages_whole() {
        let plain = |text: String| text.replace("\\-", "-").replace("\\(aq", "'").replace("\\(dq", "\"");
        let settings = plain(page("rex.toml").unwrap());
        for row in crate::config::manual() {
            assert!(settings.contains(&format!("\\fB{} = {}\\fR\n", row.name, row.default)), "{}", row.name);
        }
        let functions = plain(page("functions").unwrap());
        for function in crate::functions::all() {
            assert!(functions.contains(&format!(".SS \"{}\"\n", function.signature().replace('…', "..."))), "{}", function.name);
        }
        let principals = plain(page("principals.toml").unwrap());
        for line in include_str!("../../../config/principals.toml").lines().filter(|line| line.starts_with('#') && line.len() > 2) {
            let words = line.trim_start_matches("# ").trim_start_matches("/etc/rex/principals.toml: ").trim_start_matches('#');
            let words = words.split('`').next().unwrap().trim();
            assert!(principals.contains(words), "{line:?}");
        }
    }
}
