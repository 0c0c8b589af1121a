//! What can be asked at the prompt besides the language: a word, and what belongs to it. The requests among them have the grammar of requests. Pure.
#![forbid(unsafe_code)]

use super::lexer::is_word;
use crate::error::{Error, Kind, Result};
use crate::invocation::{self, Source, Verb};

/// One row: the word, how it is used, what it does.
pub struct Row {
    pub word: &'static str,
    pub usage: &'static str,
    pub doc: &'static str,
}

/// Every word that is taken at the beginning of an entry.
pub const ROWS: &[Row] = &[
    Row { word: "help", usage: "help [NAME]", doc: "this, or the manual of a function" },
    Row { word: "functions", usage: "functions", doc: "every function, a line each" },
    Row { word: "can", usage: "can [ACTION RESOURCE]", doc: "what you may do here, or whether you may do this" },
    Row { word: "why", usage: "why REF", doc: "a denial explained, by its reference" },
    Row { word: "whoami", usage: "whoami", doc: "who you are taken for, and the terms of the session" },
    Row { word: "limits", usage: "limits", doc: "what the last entry used of its limits, and how long the session lasts" },
    Row { word: "vars", usage: "vars", doc: "what you have defined" },
    Row { word: "run", usage: "run @NAME [x=1 …]", doc: "a runbook of this host" },
    Row { word: "exit", usage: "exit", doc: "leave; Ctrl-D does it too" },
];

/// What an entry asks for, if it is no script.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Command {
    Help(Option<String>),
    /// A request of the grammar.
    Ask(Verb),
    Limits,
    Vars,
    Exit,
}

/// Reads an entry as a command; nothing where it is one of the language. `taken`: whether the session has defined something of that name.
///
/// # Errors
/// [`Kind::Usage`] for a command with words that do not belong to it.
pub fn read(entry: &str, taken: impl Fn(&str) -> bool) -> Result<Option<Command>> {
    let entry = entry.trim();
    let entry = entry.strip_suffix(';').map_or(entry, str::trim_end);
    let length = entry.find(|c| !is_word(c)).unwrap_or(entry.len());
    let Some((word, rest)) = entry.split_at_checked(length) else { return Ok(None) };
    let word = if word == "quit" { "exit" } else { word };
    let Some(row) = ROWS.iter().find(|row| row.word == word) else { return Ok(None) };
    let words = rest.trim_start();
    // `run.x`, `can = 1`, `help(…)` are expressions.
    let blank = rest.is_empty() || rest.starts_with([' ', '\t']);
    if !blank
        || taken(word)
        || words.starts_with(['=', '(', '[', '.', '+', '*', '<', '>', '!', '&', '|', '?', ':', ',', ';'])
        || entry.contains('\n')
    {
        return Ok(None);
    }
    let usage = |wrong: &str| Error::new(Kind::Usage, format!("{wrong}: {}", row.usage));
    let alone = |command: Command| if words.is_empty() { Ok(Some(command)) } else { Err(usage("takes nothing more")) };
    match word {
        "help" => {
            let plain = |name: &&str| !name.is_empty() && name.chars().all(is_word);
            match words {
                "" => Ok(Some(Command::Help(None))),
                name => {
                    Some(name).filter(plain).map(|name| Some(Command::Help(Some(name.to_owned())))).ok_or_else(|| usage("takes one name"))
                }
            }
        }
        "limits" => alone(Command::Limits),
        "vars" => alone(Command::Vars),
        "exit" => alone(Command::Exit),
        _ => match invocation::parse_request(format!("rex {entry}").as_bytes())?.verb {
            Verb::Run(run) if !matches!(run.source, Source::Runbook(_)) => {
                Err(usage("runs runbooks of this host; a script is typed as it is"))
            }
            Verb::Run(run) if run.dry_run || run.timeout.is_some() || run.format.is_some() => Err(usage("has no options at the prompt")),
            verb => match invocation::unavailable(&invocation::Request { verb: verb.clone() }) {
                Some(sentence) => Err(Error::new(Kind::Usage, sentence)),
                None => Ok(Some(Command::Ask(verb))),
            },
        },
    }
}

/// The text of `help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Type an expression or statements, and Enter runs them; what is open (a bracket, a block) goes on in the next line.\n\
         Variables and functions stay until you leave. Each entry is judged by the policy and recorded as a run of its own.\n\n",
    );
    for row in ROWS {
        text.push_str(&format!("  {:<22} {}\n", row.usage, row.doc));
    }
    text.push_str(
        "\n  Tab         completes functions, their options, what you defined, runbooks, and paths that you may list\n  \
         Ctrl-C      stops what runs; at the prompt it clears the line\n  \
         Ctrl-R      looks for an entry of before; Up and Down go through them\n  \
         Alt-Enter   a new line in the same entry\n\n\
         For example: ls(\"/var/log\")   tail(\"/var/log/syslog\", #{n: 5})   for p in ps() { if p.cpu > 50 { print(p.name) } }\n\
         An entry that begins with a blank is not kept in the history.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn of(entry: &str) -> Option<Command> {
        read(entry, |name| name == "vars").unwrap()
    }

    #[test]
    fn a_word_alone_or_with_what_belongs_to_it_is_a_command() {
        assert_eq!(of("help"), Some(Command::Help(None)));
        assert_eq!(of("  help ls ;"), Some(Command::Help(Some("ls".into()))));
        assert_eq!(of("exit"), Some(Command::Exit));
        assert_eq!(of("quit;"), Some(Command::Exit));
        assert!(matches!(of("can read /etc/passwd"), Some(Command::Ask(Verb::Can { question: Some(_), .. }))));
        assert!(matches!(of("run @check host=a"), Some(Command::Ask(Verb::Run(_)))));
    }

    #[test]
    fn what_the_language_can_mean_is_left_to_it() {
        for entry in [
            "exit(3)",
            "can = 1",
            "let help = 1",
            "limits.x",
            "why[0]",
            "vars",
            "whoami + 1",
            "ls(\"/\")",
            "",
            "functions(\"x\")",
            "help\n1",
        ] {
            assert_eq!(of(entry), None, "{entry}");
        }
    }

    #[test]
    fn words_that_do_not_belong_to_a_command_are_an_error() {
        for entry in
            ["exit now", "limits all", "help a b", "run script", "run -e 1", "run @x --dry-run", "can read", "why", "can --policy x"]
        {
            assert!(read(entry, |_| false).is_err(), "{entry}");
        }
    }

    #[test]
    fn help_tells_of_every_word() {
        for row in ROWS {
            assert!(help().contains(row.usage), "{}", row.word);
        }
    }
}
