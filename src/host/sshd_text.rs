//! The text of sshd_config(5): included files in their places, the Match block that each line stands in, file and line of each.

use crate::error::{Error, Kind, Result};
use crate::os::facts;
use std::path::{Path, PathBuf};

/// Bytes of one file, and lines and files of all.
const MAX_FILE: u64 = 1 << 20;
const MAX_LINES: usize = 100_000;
const MAX_FILES: usize = 1_000;
/// As deep as sshd goes (SERVCONF_MAX_DEPTH).
const DEPTH: usize = 16;
/// Where relative names of Include begin.
const FOLDER: &str = "/etc/ssh";

/// One line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub file: PathBuf,
    pub number: usize,
    /// Lower case.
    pub keyword: String,
    pub words: Vec<String>,
    /// What stands behind the keyword, as it is written.
    pub rest: String,
    /// The criteria of the Match blocks that it stands in, the outermost first; none: it is of the global section. An included file begins
    /// with those of its Include line, and its own blocks end with it.
    pub blocks: Vec<Block>,
}

/// A Match line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub file: PathBuf,
    pub number: usize,
    /// Criterion, lower case, and its patterns; `all` has none.
    pub criteria: Vec<(String, String)>,
}

impl Block {
    #[must_use]
    pub fn has(&self, criterion: &str) -> bool {
        self.criteria.iter().any(|(known, _)| known == criterion)
    }
}

impl Line {
    /// `file:line`, for people and programs.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.number)
    }
    /// Whether it stands outside of every Match block.
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// A whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Text {
    pub lines: Vec<Line>,
    /// Every file, in the order of reading.
    pub files: Vec<PathBuf>,
    /// What could not be read, which `sshd -t` may see otherwise.
    pub unread: Vec<Error>,
}

impl Text {
    /// The lines of a keyword, in the order in which sshd reads them: the first one that applies counts.
    pub fn of<'a>(&'a self, keyword: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.keyword.eq_ignore_ascii_case(keyword))
    }
    /// The folder whose `*.conf` files are included before the first Match block, if there is one.
    #[must_use]
    pub fn drop_ins(&self) -> Option<PathBuf> {
        let first_match = self.lines.iter().position(|line| line.keyword == "match").unwrap_or(self.lines.len());
        let before = self.lines.iter().take(first_match).filter(|line| line.keyword == "include");
        before.flat_map(|line| &line.words).find_map(|pattern| absolute(pattern).to_str()?.strip_suffix("/*.conf").map(PathBuf::from))
    }
    /// Every Match line.
    #[must_use]
    pub fn blocks(&self) -> Vec<&Block> {
        let mut blocks: Vec<&Block> = Vec::new();
        for block in self.lines.iter().filter_map(|line| line.blocks.last()) {
            if !blocks.contains(&block) {
                blocks.push(block);
            }
        }
        blocks
    }
}

/// Reads a main file and all that it includes.
///
/// # Errors
/// Where the main file cannot be read, or all together are too much.
pub fn read(main: &Path) -> Result<Text> {
    let mut text = Text::default();
    let said = facts::text(main, MAX_FILE)?;
    let said = said.ok_or_else(|| Error::new(Kind::NotFound, "there is no such file").with_path(main.display().to_string()))?;
    add(&mut text, main, &said, &[], 0)?;
    Ok(text)
}

fn add(text: &mut Text, file: &Path, said: &str, outer: &[Block], depth: usize) -> Result<()> {
    text.files.push(file.to_path_buf());
    if text.files.len() > MAX_FILES {
        return Err(Error::new(Kind::TooLarge, format!("sshd_config includes more than {MAX_FILES} files")));
    }
    let mut blocks = outer.to_vec();
    for (at, line) in said.lines().enumerate() {
        let Some((keyword, rest)) = keyword(line) else { continue };
        let words = words(rest);
        if keyword == "match" {
            blocks = outer.to_vec();
            blocks.push(Block { file: file.to_path_buf(), number: at + 1, criteria: criteria(&words) });
        }
        let include = if keyword == "include" { words.clone() } else { Vec::new() };
        text.lines.push(Line { file: file.to_path_buf(), number: at + 1, keyword, words, rest: rest.to_owned(), blocks: blocks.clone() });
        if text.lines.len() > MAX_LINES {
            return Err(Error::new(Kind::TooLarge, format!("sshd_config has more than {MAX_LINES} lines")));
        }
        for included in include.iter().flat_map(|pattern| paths(&absolute(pattern))) {
            if depth >= DEPTH {
                return Err(Error::new(Kind::BadData, "sshd_config includes files too deep").with_path(included.display().to_string()));
            }
            match facts::text(&included, MAX_FILE) {
                Ok(Some(said)) => add(text, &included, &said, &blocks, depth + 1)?,
                Ok(None) => {}
                Err(error) => text.unread.push(error),
            }
        }
    }
    Ok(())
}

fn absolute(pattern: &str) -> PathBuf {
    Path::new(FOLDER).join(pattern)
}

/// Keyword, lower case, and the rest of a line that says something.
fn keyword(line: &str) -> Option<(String, &str)> {
    let line = line.trim_matches([' ', '\t', '\r', '\u{c}']);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    // `Keyword value`, `Keyword=value`, `Keyword = value` (strdelim() of OpenSSH).
    let (keyword, rest) = line.split_at(line.find([' ', '\t', '=']).unwrap_or(line.len()));
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').map_or(rest, str::trim_start);
    Some((keyword.trim_matches('"').to_ascii_lowercase(), rest))
}

/// Words as argv_split() of OpenSSH makes them: quotes of both kinds, a backslash before a quote, a backslash or (outside of quotes) a blank; `#` at the
/// beginning of a word ends the line.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        match rest.peek() {
            None | Some('#') => return words,
            _ => {}
        }
        let (mut word, mut quote) = (String::new(), None);
        while let Some(c) = rest.next() {
            match (c, quote) {
                ('\\', _) if rest.peek().is_some_and(|next| matches!(next, '\'' | '"' | '\\') || quote.is_none() && *next == ' ') => {
                    word.extend(rest.next());
                }
                (' ' | '\t', None) => break,
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, _) => word.push(c),
            }
        }
        words.push(word);
    }
}

/// Criterion and patterns of a Match line: `User a,b`, `User=a`, `all`.
fn criteria(words: &[String]) -> Vec<(String, String)> {
    let mut criteria = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value.to_owned())));
        let name = name.to_ascii_lowercase();
        let value = match (name.as_str(), value) {
            ("all" | "invalid-user", _) => String::new(),
            (_, Some(value)) if !value.is_empty() => value,
            _ => rest.next().cloned().unwrap_or_default(),
        };
        criteria.push((name, value));
    }
    criteria
}

/// Whether a pattern of sshd fits: `*` for any text, `?` for one character (ssh_config(5), PATTERNS).
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Where the last star was, and how much of the text it has taken.
    let (mut at, mut place, mut star) = (0, 0, None);
    while place < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(c) if *c == '?' || text.get(place) == Some(c) => {
                at += 1;
                place += 1;
            }
            _ => match star {
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    place = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|c| *c == '*')
}

/// What a pattern of glob(3) leads to on this host, sorted as sshd reads it. A path without a pattern is itself.
fn paths(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.components().skip(1) {
        let part = part.as_os_str().to_string_lossy().into_owned();
        let step = |folder: PathBuf| -> Vec<PathBuf> {
            if !part.contains(['*', '?', '[']) {
                return vec![folder.join(&part)];
            }
            let Ok(glob) = globset::GlobBuilder::new(&part).literal_separator(true).build() else { return Vec::new() };
            let matcher = glob.compile_matcher();
            let names = facts::names(&folder, MAX_FILES).unwrap_or_default();
            // A star takes no dot at the beginning (glob(7)).
            let hidden = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with('.') && !part.starts_with('.');
            names.into_iter().filter(|name| matcher.is_match(name) && !hidden(name)).map(|name| folder.join(name)).collect()
        };
        found = found.into_iter().flat_map(step).collect();
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn lines_are_split_as_sshd_splits_them() {
        assert_eq!(keyword("  ForceCommand = exec x "), Some(("forcecommand".into(), "exec x")));
        assert_eq!(keyword("Port=22"), Some(("port".into(), "22")));
        assert_eq!((keyword("# Port 22"), keyword("  ")), (None, None));
        assert_eq!(words(r#"a "b c" 'd e' f\ g h\"i # no"#), ["a", "b c", "d e", "f g", "h\"i"]);
        assert_eq!(words("LC_* x#y"), ["LC_*", "x#y"]);
        assert_eq!(
            criteria(&words("User a,b Group=c all")),
            [("user".into(), "a,b".into()), ("group".into(), "c".into()), ("all".into(), String::new())]
        );
    }

    #[test]
    fn patterns_fit_as_in_sshd() {
        for (pattern, text, fit) in [
            ("LC_*", "LC_ALL", true),
            ("*", "", true),
            ("L?", "LC", true),
            ("L?", "L", false),
            ("a*b*c", "aXbYbc", true),
            ("a*b", "abc", false),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, text), fit, "{pattern} {text}");
        }
    }

    #[test]
    fn included_files_stand_in_their_places_and_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("d/b.conf"), "PermitTTY no\nMatch User u\nX11Forwarding no\n").unwrap();
        std::fs::write(at("d/a.conf"), "Port 1\n").unwrap();
        std::fs::write(at("d/.c.conf"), "Port 9\n").unwrap();
        let main = format!(
            "Include {0}/d/*.conf\nPort 2\nMatch Group g Address 10.0.0.0/8\n  Include {0}/d/b.conf\n  ForceCommand x\n",
            dir.path().display()
        );
        std::fs::write(at("main"), main).unwrap();
        let text = read(&at("main")).unwrap();
        assert_eq!(text.drop_ins(), Some(at("d")));
        assert_eq!(text.of("port").map(|line| (line.rest.as_str(), line.is_global())).collect::<Vec<_>>(), [("1", true), ("2", true)]);
        let forced = text.of("ForceCommand").next().unwrap();
        assert_eq!((forced.place(), forced.blocks.len()), (format!("{}/main:5", dir.path().display()), 1));
        assert!(forced.blocks[0].has("group") && forced.blocks[0].has("address") && !forced.blocks[0].has("user"));
        let inner: Vec<usize> = text.of("x11forwarding").map(|line| line.blocks.len()).collect();
        assert_eq!(inner, [1, 2], "the block of an included file is within that of its Include line");
        assert_eq!(text.blocks().len(), 2, "one Match line is one block, however often its file is included");
        assert_eq!(read(&at("none")).unwrap_err().kind, Kind::NotFound);
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("main");
        std::fs::write(&main, format!("Include {}\n", main.display())).unwrap();
        assert_eq!(read(&main).unwrap_err().kind, Kind::BadData);
    }
}
