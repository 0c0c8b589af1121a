//! A line of the host's owner that starts a session: `[exec] /usr/bin/rex session [--config FILE] [--principal NAME] [--subsystem]`.

use crate::host::sshd_text;
use std::path::{Path, PathBuf};

/// Characters that the login shell would make something of, outside of quotes or inside of double ones (sh(1)).
const SHELL: &[char] = &['$', '`', ';', '&', '|', '<', '>', '(', ')', '*', '?', '[', '~', '{', '#', '!', '\\', '\n'];

/// What such a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// As it is written.
    pub text: String,
    /// Whether the shell in front is replaced.
    pub exec: bool,
    /// The first word of the program.
    pub program: PathBuf,
    pub config: Option<PathBuf>,
    pub principal: Option<String>,
    pub subsystem: bool,
}

impl Line {
    /// None: it starts something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let words = sshd_text::words(text);
        let exec = words.first().is_some_and(|word| word == "exec");
        let mut rest = words.iter().skip(usize::from(exec));
        let program = PathBuf::from(rest.next()?);
        if !is_rex(&program) || rest.next()? != "session" {
            return None;
        }
        let mut line = Self { text: text.trim().to_owned(), exec, program, config: None, principal: None, subsystem: false };
        while let Some(word) = rest.next() {
            let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value.to_owned())));
            match name {
                "--subsystem" => line.subsystem = true,
                "--config" => line.config = value.or_else(|| rest.next().cloned()).map(PathBuf::from),
                "--principal" => line.principal = value.or_else(|| rest.next().cloned()),
                _ => {}
            }
        }
        Some(line)
    }
    /// Whether it has options that only the owner may give. Under rexsh as login shell they count for nothing, and the session is refused.
    #[must_use]
    pub fn has_options(&self) -> bool {
        self.config.is_some() || self.principal.is_some()
    }
    /// A character that the shell in front would make something of.
    #[must_use]
    pub fn for_the_shell(&self) -> Option<char> {
        self.text.chars().find(|c| SHELL.contains(c))
    }
}

/// Whether a path is that of rex, by its name.
#[must_use]
pub fn is_rex(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "rex" || name == "rexsh")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_of_rex_are_told_from_others() {
        let line = Line::parse("exec /usr/bin/rex session --config=/e/rex.toml --principal \"a b\"").unwrap();
        assert!(line.exec && line.has_options() && !line.subsystem && line.for_the_shell().is_none());
        assert_eq!((line.config, line.principal), (Some("/e/rex.toml".into()), Some("a b".into())));
        let line = Line::parse("rex session --subsystem").unwrap();
        assert!(!line.exec && line.subsystem && !line.has_options() && !line.program.is_absolute());
        assert_eq!(Line::parse("/usr/bin/rex session; id").and_then(|line| line.for_the_shell()), None, "`session;` is not `session`");
        assert_eq!(Line::parse("/usr/bin/rex session ; id").unwrap().for_the_shell(), Some(';'));
        for other in ["internal-sftp", "/usr/bin/rexec session", "/usr/bin/rex run", "exec", "", "none"] {
            assert_eq!(Line::parse(other), None, "{other}");
        }
    }
}
