//! How what is typed looks: the prompt, and the pieces of a script in a few quiet colours.
#![forbid(unsafe_code)]

use super::complete::KEYWORDS;
use super::lexer::{self, Kind};
use crate::functions;
use crate::os::terminal::{steers, steers_nothing};
use nu_ansi_term::{Color, Style};
use reedline::{Highlighter, Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, StyledText};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Longer texts are shown as they are: colours would have to be found anew with each key.
const COLOURED: usize = 16 << 10;

/// When a key was pressed last, told by whatever is asked with each key.
#[derive(Clone, Debug)]
pub struct Activity {
    since: Instant,
    /// Milliseconds after that.
    last: Arc<AtomicU64>,
}

impl Default for Activity {
    fn default() -> Self {
        Self { since: Instant::now(), last: Arc::default() }
    }
}

impl Activity {
    pub fn now(&self) {
        self.last.store(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    /// How long ago.
    #[must_use]
    pub fn idle(&self) -> std::time::Duration {
        self.since.elapsed().saturating_sub(std::time::Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// Colours for a script.
pub struct Colours {
    pub activity: Activity,
}

impl Highlighter for Colours {
    fn highlight(&self, line: &str, _: usize) -> StyledText {
        self.activity.now();
        let mut styled = StyledText::new();
        if line.len() > COLOURED {
            styled.push((Style::new(), harmless(line).into_owned()));
            return styled;
        }
        for token in lexer::read(line).tokens {
            let style = match token.kind {
                Kind::Text => Style::new().fg(Color::Green),
                Kind::Remark => Style::new().fg(Color::DarkGray),
                Kind::Word if KEYWORDS.contains(&token.text) => Style::new().fg(Color::Purple),
                Kind::Word if functions::by_name(token.text).is_some() => Style::new().fg(Color::Cyan),
                _ => Style::new(),
            };
            styled.push((style, harmless(token.text).into_owned()));
        }
        styled
    }
}

/// A pasted text in which nothing steers the terminal. Each character is replaced by one as long, since places in the line are counted in bytes.
fn harmless(text: &str) -> Cow<'_, str> {
    if steers_nothing(text) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match (steers(c), c.len_utf8()) {
        (false, _) => c,
        (true, 1) => '?',
        (true, 2) => '\u{b7}',
        (true, _) => '\u{fffd}',
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// What stands in front of a line.
pub struct Sign {
    /// Who, and where.
    pub left: String,
}

impl Prompt for Sign {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.left)
    }
    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }
    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("... ")
    }
    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = if matches!(search.status, PromptHistorySearchStatus::Failing) { "nothing for " } else { "" };
        Cow::Owned(format!(" ({failing}`{}`) ", harmless(&search.term)))
    }
    fn get_prompt_color(&self) -> reedline::Color {
        reedline::Color::DarkCyan
    }
    fn get_indicator_color(&self) -> reedline::Color {
        reedline::Color::DarkGrey
    }
    fn get_prompt_multiline_color(&self) -> Color {
        Color::DarkGray
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_as_long_as_what_was_typed_and_steers_nothing() {
        for text in ["a\u{1b}[2Jb", "\u{9b}x", "\u{202e}abc", "plain \u{e9}", "\u{7f}\r\u{0}"] {
            let shown = harmless(text);
            assert_eq!(shown.len(), text.len());
            assert!(steers_nothing(&shown), "{shown:?}");
        }
    }
}
