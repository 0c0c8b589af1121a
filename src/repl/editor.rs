//! Where entries come from: a line editor on a thread of its own, or plain lines on terminals that can do no more.
//!
//! The editor's thread can be held up by what a terminal sends (half an escape sequence, the end of a connection). The session never waits for it: it asks
//! with one channel, is answered by another, and looks at its limits meanwhile. When the session is over the thread is left behind, and ends with the process.

use super::complete::{self, Known, Place};
use super::lexer;
use super::paint::{Activity, Colours, Sign};
use crate::error::{Error, Kind, Result};
use crate::functions::complete::Entry as Name;
use crate::os::terminal::{Line, Terminal};
use crate::run::entry::Over;
use reedline::{
    ColumnarMenu, Completer, EditCommand, Emacs, FileBackedHistory, History, HistoryItem, KeyCode, KeyModifiers, MenuBuilder, Reedline,
    ReedlineEvent, ReedlineMenu, Signal, Span, Suggestion, ValidationResult, Validator, default_emacs_keybindings,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the session looks at its limits while somebody types.
const TICK: Duration = Duration::from_millis(100);
/// How long the editor waits for names: longer than the session takes for them.
const NAMES: Duration = Duration::from_secs(5);
/// The name of the menu of completions.
const MENU: &str = "completions";

/// Terminals that are known to do what the editor asks of them (terminfo(5)): by their whole names, or by beginnings of theirs.
const TERMINALS: &[&str] = &[
    "xterm",
    "screen",
    "tmux",
    "rxvt",
    "alacritty",
    "foot",
    "kitty",
    "konsole",
    "linux",
    "wezterm",
    "vte",
    "gnome",
    "st",
    "putty",
    "iterm",
    "ghostty",
    "contour",
    "rio",
];

/// Whether a terminal of this name gets the editor, and colours. The name is the client's word: it is compared with a list, and nothing else comes of it.
#[must_use]
pub fn is_known(term: &[u8]) -> bool {
    let Ok(term) = std::str::from_utf8(term) else { return false };
    let plain = term.len() <= 40 && term.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'+' | b'_'));
    plain && TERMINALS.iter().any(|known| term.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', '+'])))
}

/// What came of waiting for an entry.
pub enum Next {
    Entry(String),
    /// Ctrl-C, or an empty line.
    Nothing,
    /// Ctrl-D.
    End,
    Over(Over),
}

/// Asked while somebody types.
pub trait Around {
    /// Whether the session is over.
    fn rest(&mut self, idle: Duration) -> Option<Over>;
    /// Names in a folder.
    ///
    /// # Errors
    /// That the session is over.
    fn names(&mut self, folder: &str) -> std::result::Result<Vec<Name>, Over>;
}

/// From the session to the editor.
enum Ask {
    Read,
    Names(Vec<Name>),
}

/// From the editor to the session.
enum Answer {
    Read(std::result::Result<Signal, String>),
    Names(String),
}

/// The editor, or what does without.
pub struct Editor {
    full: Option<Full>,
    activity: Activity,
    sign: String,
}

struct Full {
    ask: Sender<Ask>,
    answers: Receiver<Answer>,
    known: Arc<Mutex<Known>>,
    stop: Arc<AtomicBool>,
    reading: bool,
}

impl Editor {
    /// `history`: the oldest entry first.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub fn start(sign: String, is_known: bool, history: Vec<String>) -> Result<Self> {
        let activity = Activity::default();
        let full = if is_known { Some(Full::start(&sign, history, activity.clone())?) } else { None };
        Ok(Self { full, activity, sign })
    }

    /// Tells the editor what there is besides the table of functions.
    pub fn set_known(&self, change: impl FnOnce(&mut Known)) {
        if let Some(full) = &self.full {
            change(&mut full.known.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Waits for an entry.
    pub fn next(&mut self, terminal: &Terminal, around: &mut dyn Around) -> Next {
        self.activity.now();
        if let Some(full) = &mut self.full {
            match full.next(&self.activity, around) {
                Ok(next) => return next,
                Err(why) => {
                    crate::output::aside(&format!("note: this terminal cannot be used for editing ({why}); lines are taken as they come"));
                    self.full = None;
                }
            }
        }
        self.plain(terminal, around)
    }

    /// Whether the editor was given up, or never there.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.full.is_none()
    }

    /// Lines that the kernel edits.
    fn plain(&self, terminal: &Terminal, around: &mut dyn Around) -> Next {
        let mut entry = String::new();
        loop {
            let sign = if entry.is_empty() { format!("{}> ", self.sign) } else { "... ".to_owned() };
            let _ = crate::output::write_all(rustix::stdio::stdout(), sign.as_bytes());
            let mut over = None;
            let shared = std::cell::RefCell::new((&mut *around, &mut over));
            let line = terminal.line(&|| {
                let (around, over) = &mut *shared.borrow_mut();
                **over = around.rest(self.activity.idle());
                over.is_some()
            });
            self.activity.now();
            match (line, over) {
                (_, Some(over)) => return Next::Over(over),
                (Ok(Line::Over) | Err(_), None) => return Next::Over(Over::Gone),
                (Ok(Line::Interrupt), None) => {
                    crate::output::aside("");
                    return Next::Nothing;
                }
                (Ok(Line::End), None) if entry.is_empty() => return Next::End,
                (Ok(Line::End), None) => return Next::Nothing,
                (Ok(Line::TooLong), None) => {
                    crate::output::aside("a line of more than 4094 bytes is cut by the terminal; nothing ran");
                    return Next::Nothing;
                }
                (Ok(Line::Text(bytes)), None) => {
                    let Ok(text) = String::from_utf8(bytes) else {
                        crate::output::aside("an entry is UTF-8 text; nothing ran");
                        return Next::Nothing;
                    };
                    entry.push_str(&text);
                    if !lexer::read(&entry).goes_on() {
                        return if entry.trim().is_empty() { Next::Nothing } else { Next::Entry(entry) };
                    }
                    entry.push('\n');
                }
            }
        }
    }

    /// Leaves the terminal as it was as far as the editor's own settings go, when its thread cannot do that any more.
    pub fn leave(&self) {
        if self.full.as_ref().is_some_and(|full| full.reading) {
            // Without bracketed paste, with a cursor, on a line of its own.
            let _ = crate::output::write_all(rustix::stdio::stdout(), b"\x1b[?2004l\x1b[?25h\r\n");
        }
    }
}

impl Full {
    fn start(sign: &str, history: Vec<String>, activity: Activity) -> Result<Self> {
        let (ask, asked) = channel();
        let (answer, answers) = channel();
        let known: Arc<Mutex<Known>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let inside = Inside { asked, answer, known: Arc::clone(&known), stop: Arc::clone(&stop), activity, sign: sign.to_owned() };
        std::thread::Builder::new()
            .name("prompt".to_owned())
            .spawn(move || inside.serve(history))
            .map_err(|error| Error::new(Kind::Internal, format!("the kernel gave no thread: {error}")))?;
        Ok(Self { ask, answers, known, stop, reading: false })
    }

    /// # Errors
    /// Why the editor cannot be used.
    fn next(&mut self, activity: &Activity, around: &mut dyn Around) -> std::result::Result<Next, String> {
        let gone = || "it ended".to_owned();
        self.ask.send(Ask::Read).map_err(|_| gone())?;
        self.reading = true;
        loop {
            if let Some(over) = around.rest(activity.idle()) {
                // It has a moment to leave the terminal as it was.
                self.stop.store(true, Ordering::SeqCst);
                if let Ok(Answer::Read(_)) = self.answers.recv_timeout(4 * TICK) {
                    self.reading = false;
                    crate::output::aside("");
                }
                return Ok(Next::Over(over));
            }
            match self.answers.recv_timeout(TICK) {
                Ok(Answer::Names(folder)) => match around.names(&folder) {
                    Ok(names) => self.ask.send(Ask::Names(names)).map_err(|_| gone())?,
                    Err(over) => return Ok(Next::Over(over)),
                },
                Ok(Answer::Read(read)) => {
                    self.reading = false;
                    return match read? {
                        Signal::Success(text) if text.trim().is_empty() => Ok(Next::Nothing),
                        Signal::Success(text) => Ok(Next::Entry(text)),
                        Signal::CtrlD => Ok(Next::End),
                        _ => Ok(Next::Nothing),
                    };
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            }
        }
    }
}

/// The editor on its own thread.
struct Inside {
    asked: Receiver<Ask>,
    answer: Sender<Answer>,
    known: Arc<Mutex<Known>>,
    stop: Arc<AtomicBool>,
    activity: Activity,
    sign: String,
}

impl Inside {
    fn serve(self, history: Vec<String>) {
        let Self { asked, answer, known, stop, activity, sign } = self;
        let asked = Arc::new(Mutex::new(asked));
        let next = || asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let completions = Completions { known, answer: answer.clone(), asked: Arc::clone(&asked), listed: None };
        let mut editor = editor(history, completions, stop, activity);
        let prompt = Sign { left: sign };
        while let Ok(ask) = next() {
            if !matches!(ask, Ask::Read) {
                continue;
            }
            let read = editor.read_line(&prompt).map_err(|error| error.to_string().to_lowercase());
            if answer.send(Answer::Read(read)).is_err() {
                return;
            }
        }
    }
}

/// A line editor that edits lines, and reaches nothing else: no editor of another kind, no command of a host, no clipboard.
fn editor(entries: Vec<String>, completions: Completions, stop: Arc<AtomicBool>, activity: Activity) -> Reedline {
    let mut keys = default_emacs_keybindings();
    keys.remove_binding(KeyModifiers::CONTROL, KeyCode::Char('o'));
    let tab = ReedlineEvent::UntilFound(vec![
        ReedlineEvent::Menu(MENU.to_owned()),
        ReedlineEvent::MenuNext,
        ReedlineEvent::Edit(vec![EditCommand::Complete]),
    ]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, tab);
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    // In memory alone: the file is the session's.
    let mut history = FileBackedHistory::new(crate::os::history::ENTRIES).unwrap_or_default();
    for entry in entries {
        let _ = history.save(HistoryItem::from_command_line(entry));
    }
    let menu = ColumnarMenu::default().with_name(MENU).with_marker("> ").with_columns(4).with_column_padding(2);
    Reedline::create()
        .with_history(Box::new(history))
        .with_history_exclusion_prefix(Some(" ".to_owned()))
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_completer(Box::new(completions))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_highlighter(Box::new(Colours { activity }))
        .with_validator(Box::new(Whole))
        .with_break_signal(stop)
        .use_bracketed_paste(true)
}

/// Whether an entry is whole.
struct Whole;

impl Validator for Whole {
    fn validate(&self, line: &str) -> ValidationResult {
        if lexer::read(line).goes_on() { ValidationResult::Incomplete } else { ValidationResult::Complete }
    }
}

struct Completions {
    known: Arc<Mutex<Known>>,
    answer: Sender<Answer>,
    asked: Arc<Mutex<Receiver<Ask>>>,
    /// The folder that was listed last: it is not listed, and recorded, anew with each key.
    listed: Option<(String, Vec<Name>, std::time::Instant)>,
}

/// How long names of a folder are taken for its names.
const FRESH: Duration = Duration::from_secs(5);

impl Completions {
    fn names(&mut self, folder: &str) -> &[Name] {
        let fresh = self.listed.as_ref().is_some_and(|(known, _, when)| known == folder && when.elapsed() < FRESH);
        if !fresh {
            let sent = self.answer.send(Answer::Names(folder.to_owned()));
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let names = match sent.ok().and_then(|()| asked.recv_timeout(NAMES).ok()) {
                Some(Ask::Names(names)) => names,
                _ => Vec::new(),
            };
            drop(asked);
            self.listed = Some((folder.to_owned(), names, std::time::Instant::now()));
        }
        self.listed.as_ref().map_or(&[], |(_, names, _)| names)
    }
}

impl Completer for Completions {
    fn complete(&mut self, line: &str, pos: usize) -> Vec<Suggestion> {
        let place = complete::place(line.get(..pos).unwrap_or_default());
        let found = match &place {
            Place::Path { folder, name, start, quoted } => complete::names(self.names(folder), name, *start, *quoted),
            other => complete::suggestions(other, &self.known.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        let suggestion = |found: complete::Suggestion| Suggestion {
            value: found.value,
            description: Some(found.about).filter(|about| !about.is_empty()),
            span: Span { start: found.start.min(pos), end: pos },
            ..Suggestion::default()
        };
        found.into_iter().map(suggestion).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_terminals_get_the_editor() {
        for term in ["xterm", "xterm-256color", "screen.xterm-256color", "tmux-256color", "linux", "st-256color"] {
            assert!(is_known(term.as_bytes()), "{term}");
        }
        for term in ["", "dumb", "emacs", "vt100", "xtermx", "stupid", "xterm\n", "xterm-\u{1b}[2J", "../xterm", "unknown"] {
            assert!(!is_known(term.as_bytes()), "{term}");
        }
        assert!(!is_known(b"xterm-\xff") && !is_known(format!("xterm-{}", "a".repeat(5000)).as_bytes()));
    }
}
