//! A manual page being written, in man(7): text goes in as it is, escapes and macros are this file's business.

use std::fmt::Write as _;

/// One page. Paragraphs may hold `code` in backticks, which is set in bold.
pub struct Page(String);

impl Page {
    /// Its title line. No date: the same program gives the same page on every day.
    pub fn new(name: &str, section: u8) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self(format!(".TH \"{}\" \"{section}\" \"\" \"rex {version}\" \"rex\"\n", escaped(&name.to_uppercase())))
    }

    pub fn name(&mut self, name: &str, about: &str) {
        self.heading("NAME");
        let _ = writeln!(self.0, "{} \\- {}", escaped(name), inline(about));
    }

    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.0, ".SH \"{}\"", argument(text));
    }

    pub fn subheading(&mut self, text: &str) {
        let _ = writeln!(self.0, ".SS \"{}\"", argument(text));
    }

    pub fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.0, ".PP\n{}", inline(text));
    }

    /// A term, and what it is.
    pub fn item(&mut self, term: &str, text: &str) {
        let _ = writeln!(self.0, ".TP\n\\fB{}\\fR\n{}", escaped(term), inline(text));
    }

    /// More about the item before.
    pub fn more(&mut self, text: &str) {
        let _ = writeln!(self.0, ".IP\n{}", inline(text));
    }

    /// Lines as they are.
    pub fn literal(&mut self, text: &str) {
        self.0.push_str(".PP\n.RS 4\n.EX\n");
        for line in text.lines() {
            let _ = writeln!(self.0, "{}", guarded(&escaped(line)));
        }
        self.0.push_str(".EE\n.RE\n");
    }

    /// What another writer of man(7) made.
    pub fn rendered(&mut self, bytes: &[u8]) {
        self.0.push_str(&String::from_utf8_lossy(bytes));
    }

    pub fn finish(self) -> String {
        self.0
    }
}

/// Text in which every character stands for itself. The signs that typesetters like to improve (groff_man_style(7), "Portability") are named.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '"' => out.push_str("\\(dq"),
            '…' => out.push_str("..."),
            // Control characters have no place in a page.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A line of text that a leading dot does not make a request.
fn guarded(line: &str) -> String {
    if line.starts_with('.') { format!("\\&{line}") } else { line.to_owned() }
}

fn argument(text: &str) -> String {
    escaped(text)
}

/// Running text with `code` in bold.
fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(at, part)| match at % 2 {
        1 => format!("\\fB{}\\fR", escaped(part)),
        _ => escaped(part),
    });
    guarded(&parts.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_taken_for_a_request_or_an_escape() {
        let mut page = Page::new("x", 7);
        page.paragraph(".so /etc/passwd");
        page.paragraph("a `\\fB-x` b\n.br");
        page.literal(".de x\n'tis \\n(.g \"q\" `~^");
        let text = page.finish();
        let requests: Vec<&str> = text.lines().filter(|line| line.starts_with(['.', '\''])).collect();
        assert_eq!(
            requests,
            [
                ".TH \"X\" \"7\" \"\" \"rex 0.1.0\" \"rex\"".replace("0.1.0", env!("CARGO_PKG_VERSION")).as_str(),
                ".PP",
                ".PP",
                ".PP",
                ".RS 4",
                ".EX",
                ".EE",
                ".RE"
            ]
        );
        assert!(text.contains("\na \\fB\\efB\\-x\\fR b .br\n"), "{text}");
        assert!(text.contains("\n\\&.de x\n\\(aqtis \\en(.g \\(dqq\\(dq \\(ga\\(ti\\(ha\n"), "{text}");
    }
}
