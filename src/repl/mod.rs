//! A session at a prompt: another face of the same run. It shows who one is, takes entries, has each run, and ends by its limits.
//!
//! What an entry can do is what a script can do: it is run by [`crate::run::entry`], behind the fence that is up before the first one. Here is only what
//! makes that usable for somebody who types.
#![forbid(unsafe_code)]

pub mod commands;
pub mod complete;
pub mod editor;
pub mod lexer;
pub mod paint;

use crate::error::{Error, Exit, Kind, Result};
use crate::functions;
use crate::invocation::{Source, Verb};
use crate::os::history::History;
use crate::os::terminal::{Terminal, steers_nothing};
use crate::output::aside;
use crate::report;
use crate::run::entry::{self, Entry, Over, Session};
use crate::sys::supervise::Signals;
use crate::terms::Terms;
use commands::Command;
use editor::{Around, Editor, Next};
use std::time::Duration;

/// Longest entry.
const LONGEST: usize = 64 << 10;

/// Answers a request that runs nothing, on stdout; gives the exit code that it would have.
pub type Answer<'a> = &'a dyn Fn(&Terms, Verb) -> Result<u8>;

/// The terminal and the signals of a session, taken before the fence goes up: behind it rex cannot come to the foreground of a terminal any more.
pub struct Seat {
    signals: Signals,
    terminal: Terminal,
}

impl Seat {
    /// # Errors
    /// When standard input is no terminal, or not this process's to use.
    pub fn take() -> Result<Self> {
        let signals = Signals::block_at_a_prompt()?;
        Ok(Self { signals, terminal: Terminal::take()? })
    }
}

/// What a session has besides its terms.
pub struct Setting<'a> {
    pub seat: Seat,
    /// The name of the terminal, as the client sent it.
    pub term: &'a [u8],
    /// Opened before the fence went up.
    pub history: Option<History>,
    /// Names of the owner's runbooks.
    pub runbooks: Vec<String>,
    pub answer: Answer<'a>,
}

/// Whether there is somebody at a terminal: standard input, output and error are one.
#[must_use]
pub fn is_possible() -> bool {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()].iter().all(crate::output::is_tty)
}

/// Runs a session to its end; gives the exit code. The fence is up, and `terms.run` is the id of the session.
#[must_use]
pub fn run(terms: Terms, setting: Setting<'_>) -> u8 {
    let Setting { seat: Seat { signals, terminal }, term, mut history, runbooks, answer } = setting;
    let known = editor::is_known(term);
    let entries = history.as_ref().and_then(|history| history.entries().ok()).unwrap_or_default();
    let begun = Editor::start(sign(&terms), known, entries).and_then(|editor| Ok((editor, Session::begin(terms, signals, known)?)));
    let (editor, session) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            aside(&format!("rex: {error}"));
            return error.kind.exit() as u8;
        }
    };
    aside(&greeting(&session.terms));
    let mut prompt = At { session, editor, colours: known };
    prompt.tell_known(&runbooks);
    let over = loop {
        match prompt.next(&terminal) {
            Next::Nothing => {}
            Next::End => break Over::Left(Exit::Ok as u8),
            Next::Over(over) => break over,
            Next::Entry(text) => {
                if let Some(history) = &mut history
                    && !text.starts_with(' ')
                {
                    history.add(&text);
                }
                if let Some(over) = prompt.take(&text, answer) {
                    break over;
                }
                prompt.tell_known(&runbooks);
            }
        }
    };
    prompt.editor.leave();
    if let Some(sentence) = over.sentence() {
        aside(&sentence);
    }
    let At { session, .. } = prompt;
    let exit = session.end(&over);
    drop(terminal);
    exit
}

/// The prompt: who, and on which host.
fn sign(terms: &Terms) -> String {
    let short = |text: &str, most: usize| {
        let text = crate::output::neutralise(text);
        text.chars().take(most).collect::<String>()
    };
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    format!("{}@{}", short(&terms.identity.name, 32), short(host.split('.').next().unwrap_or_default(), 32))
}

/// What is said at the beginning.
fn greeting(terms: &Terms) -> String {
    let groups = if terms.identity.groups.is_empty() { String::new() } else { format!(" ({})", terms.identity.groups.join(", ")) };
    let count = terms.policies.names().count();
    let policies = if count == 1 { "one policy concerns you".to_owned() } else { format!("{count} policies concern you") };
    format!(
        "rex {}: you are {}{groups}, {policies}, and everything is recorded.\n`can` says what you may do, `help` what can be typed, Ctrl-D leaves.",
        env!("CARGO_PKG_VERSION"),
        terms.identity.name
    )
}

/// Somebody at the prompt.
struct At {
    session: Session,
    editor: Editor,
    colours: bool,
}

impl Around for Session {
    fn rest(&mut self, idle: Duration) -> Option<Over> {
        Self::rest(self, idle)
    }
    fn names(&mut self, folder: &str) -> std::result::Result<Vec<functions::complete::Entry>, Over> {
        Self::names(self, folder)
    }
}

impl At {
    fn next(&mut self, terminal: &Terminal) -> Next {
        self.editor.next(terminal, &mut self.session)
    }

    /// Tells the editor what is defined by now.
    fn tell_known(&self, runbooks: &[String]) {
        let kept = self.session.kept();
        let variables = kept.variables().map(|(name, _, kind)| (name.to_owned(), kind.to_owned())).collect();
        let own = kept.functions().map(|(name, parameters)| (name, parameters.join(", "))).collect();
        self.editor.set_known(|known| {
            known.variables = variables;
            known.functions = own;
            if known.actions.is_empty() {
                known.runbooks = runbooks.to_vec();
                let (asks, _) = functions::vocabulary();
                known.actions = asks.iter().map(|ask| ask.name.to_owned()).collect();
                known.actions.sort();
                known.actions.dedup();
            }
        });
    }

    /// Does what an entry says; whether the session is over with it.
    fn take(&mut self, text: &str, answer: Answer<'_>) -> Option<Over> {
        let command = self.sound(text).and_then(|()| commands::read(text, |name| self.session.kept().has(name)));
        let outcome = match command {
            Ok(None) => return self.session.run(Entry { script: text, runbook: None, constants: Vec::new(), request: "" }),
            Ok(Some(Command::Exit)) => return Some(Over::Left(Exit::Ok as u8)),
            Ok(Some(Command::Ask(Verb::Run(run)))) => match self.runbook(&run, text) {
                Ok(over) => return over,
                Err(error) => Err(error),
            },
            Ok(Some(command)) => self.answer(command, answer),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            self.say(&error);
        }
        None
    }

    /// Whether an entry is one that may be run: typed text of a sensible length.
    fn sound(&self, text: &str) -> Result<()> {
        let most = LONGEST.min(usize::try_from(self.session.limits().script).unwrap_or(usize::MAX));
        if text.len() > most {
            return Err(Error::new(Kind::Limit, format!("an entry has at most {most} bytes; nothing ran"))
                .with_hint("send a script on standard input: `ssh -T host rex < script.rhai`"));
        }
        if !steers_nothing(text) {
            return Err(Error::new(Kind::Usage, "an entry has no control characters; nothing ran")
                .with_hint("in a text they are written as escapes: \"\\x1b\", \"\\u0007\""));
        }
        Ok(())
    }

    fn runbook(&mut self, run: &crate::invocation::Run, text: &str) -> Result<Option<Over>> {
        let Source::Runbook(name) = &run.source else { return Ok(None) };
        let script = self.session.terms.files.runbook(name)?;
        let constants = crate::run::constants(&run.arguments, run.arguments_json.as_ref())?;
        Ok(self.session.run(Entry { script: &script, runbook: Some(name), constants, request: text }))
    }

    fn answer(&mut self, command: Command, answer: Answer<'_>) -> Result<()> {
        let show = |text: &str| drop(crate::output::write_all(rustix::stdio::stdout(), crate::output::neutralise(text).as_bytes()));
        match command {
            Command::Help(None) => show(&commands::help()),
            Command::Help(Some(name)) => match commands::ROWS.iter().find(|row| row.word == name) {
                Some(row) if functions::by_name(&name).is_none() => show(&format!("{}\n  {}\n", row.usage, row.doc)),
                _ => drop(answer(&self.session.terms, Verb::Functions { json: false, name: Some(name) })?),
            },
            Command::Limits => show(&self.limits()),
            Command::Vars => show(&self.vars()),
            Command::Ask(verb) => {
                // What counts now is what the policies in force say, not those of the beginning.
                let now = self.session.narrower();
                let then = now.map(|policies| std::mem::replace(&mut self.session.terms.policies, policies));
                let answered = answer(&self.session.terms, verb);
                if let Some(policies) = then {
                    self.session.terms.policies = policies;
                }
                answered?;
            }
            Command::Exit => {}
        }
        Ok(())
    }

    fn limits(&self) -> String {
        let settings = &self.session.terms.config.interactive;
        let mut text = String::from("the last entry (memory, open files and denials: the session)\n");
        for spent in self.session.spent() {
            text.push_str(&format!("  {}\n", entry::shown(&spent)));
        }
        let seconds = |time: Duration| format!("{} s", time.as_secs());
        text.push_str(&format!(
            "the session\n  {:<12} {:>12} of {}\n  {:<12} {:>12} of {}\n",
            "total",
            seconds(self.session.lasts()),
            seconds(settings.total),
            "idle",
            "-",
            seconds(settings.idle)
        ));
        text
    }

    fn vars(&self) -> String {
        let kept = self.session.kept();
        let mut text = String::new();
        for (name, constant, kind) in kept.variables() {
            text.push_str(&format!("{} {name}: {kind}\n", if constant { "const" } else { "let  " }));
        }
        for (name, parameters) in kept.functions() {
            text.push_str(&format!("fn    {name}({})\n", parameters.join(", ")));
        }
        if text.is_empty() { "nothing yet\n".to_owned() } else { text }
    }

    /// An error of the prompt itself, in the form of those of a run.
    fn say(&self, error: &Error) {
        let failure = crate::engine::Failure { error: error.clone(), at: None, thrown: None };
        report::aside(&failure, self.colours);
    }
}
