//! What could stand where the cursor is: functions, options, what was defined, commands, runbooks; and which folder has to be listed for a path. Pure.
#![forbid(unsafe_code)]

use super::commands;
use super::lexer::{self, Kind, Token, is_word};
use crate::functions;
use crate::functions::function::Function;
use crate::os::terminal::steers_nothing;

/// Words of the language.
pub const KEYWORDS: &[&str] = &[
    "let",
    "const",
    "if",
    "else",
    "for",
    "in",
    "while",
    "loop",
    "do",
    "until",
    "fn",
    "return",
    "break",
    "continue",
    "switch",
    "throw",
    "try",
    "catch",
    "true",
    "false",
    "this",
    "import",
    "as",
    "global",
    "private",
    "is_shared",
];
/// Most suggestions that are made.
const MOST: usize = 400;

/// Something that could stand here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// What takes the place of what is typed.
    pub value: String,
    /// What it is, in a few words.
    pub about: String,
    /// From where in the line what is typed is replaced, up to the cursor.
    pub start: usize,
    /// A folder's name: more is to come behind it.
    pub folder: bool,
}

/// What is known besides the table of functions.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Variables and constants, with the type of their values.
    pub variables: Vec<(String, String)>,
    /// Functions that were defined, with their parameters.
    pub functions: Vec<(String, String)>,
    pub runbooks: Vec<String>,
    /// Verbs of the policy language.
    pub actions: Vec<String>,
}

/// What stands at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a text: a path. The folder to list, and the beginning of the name.
    Path {
        folder: String,
        name: String,
        start: usize,
        quoted: bool,
    },
    /// A key of the options of a function.
    Option {
        function: &'static str,
        name: String,
        start: usize,
    },
    Word {
        name: String,
        start: usize,
        after_dot: bool,
        first: bool,
    },
    /// Behind the word of a command.
    Argument {
        command: &'static str,
        name: String,
        start: usize,
        number: usize,
    },
    Nothing,
}

/// Finds out what stands at the end of this text.
#[must_use]
pub fn place(before: &str) -> Place {
    if let Some(place) = argument(before) {
        return place;
    }
    let reading = lexer::read(before);
    let Some(last) = reading.tokens.last().copied() else {
        return Place::Word { name: String::new(), start: 0, after_dot: false, first: true };
    };
    if reading.unfinished {
        return text(last);
    }
    if last.kind == Kind::Remark {
        return Place::Nothing;
    }
    let (name, start) = if last.kind == Kind::Word { (last.text.to_owned(), last.start) } else { (String::new(), before.len()) };
    // A number or a text that ends here has nothing behind it.
    if name.is_empty() && matches!(last.kind, Kind::Number | Kind::Text) {
        return Place::Nothing;
    }
    let earlier: Vec<Token<'_>> = reading.words().filter(|token| token.start < start).collect();
    if let Some(function) = options_of(&earlier) {
        return Place::Option { function, name, start };
    }
    let after_dot = earlier.last().is_some_and(|token| matches!(token.text, "." | "?."));
    Place::Word { name, start, after_dot, first: earlier.is_empty() }
}

/// An unfinished text that begins like a path.
fn text(token: Token<'_>) -> Place {
    let Some(inside) = token.text.strip_prefix('"') else { return Place::Nothing };
    if !inside.starts_with('/') || inside.contains('\\') {
        return Place::Nothing;
    }
    path(inside, token.start + 1, true)
}

fn path(inside: &str, at: usize, quoted: bool) -> Place {
    let cut = inside.rfind('/').map_or(0, |slash| slash + 1);
    let (folder, name) = inside.split_at_checked(cut).unwrap_or((inside, ""));
    Place::Path { folder: folder.to_owned(), name: name.to_owned(), start: at + cut, quoted }
}

/// The function whose options are open, where a key of theirs is due.
fn options_of(earlier: &[Token<'_>]) -> Option<&'static str> {
    let mut open: Vec<usize> = Vec::new();
    for (at, token) in earlier.iter().enumerate() {
        match token.kind {
            Kind::Open => open.push(at),
            Kind::Close => drop(open.pop()),
            _ => {}
        }
    }
    let map = *open.last()?;
    let call = *open.get(open.len().checked_sub(2)?)?;
    let text = |at: usize| earlier.get(at).map(|token| token.text);
    let due = matches!(earlier.last().map(|token| token.text), Some("#{" | ","));
    let name = call.checked_sub(1).and_then(|before| earlier.get(before)).filter(|token| token.kind == Kind::Word)?;
    let function = functions::by_name(name.text).filter(|function| function.options().is_some())?;
    (due && text(map) == Some("#{") && text(call) == Some("(")).then_some(function.name)
}

/// Behind the word of a command.
fn argument(before: &str) -> Option<Place> {
    let line = before.trim_start();
    let length = line.find(|c| !is_word(c))?;
    let row = commands::ROWS.iter().find(|row| Some(row.word) == line.get(..length))?;
    let rest = line.get(length..)?;
    if !rest.starts_with(' ') || !matches!(row.word, "help" | "can" | "run") {
        return None;
    }
    let from = rest.rfind(' ')? + 1;
    let name = rest.get(from..)?;
    let number = rest.split_whitespace().count() - usize::from(!name.is_empty());
    let start = before.len() - name.len();
    if row.word == "can" && number == 1 && name.starts_with('/') {
        return Some(path(name, start, false));
    }
    Some(Place::Argument { command: row.word, name: name.to_owned(), start, number })
}

/// Everything that could stand at the place, but for paths.
#[must_use]
pub fn suggestions(place: &Place, known: &Known) -> Vec<Suggestion> {
    let mut found = match place {
        Place::Path { .. } | Place::Nothing => Vec::new(),
        Place::Option { function, name, start } => {
            let rows = functions::by_name(function).and_then(Function::options).unwrap_or(&[]);
            let fits = rows.iter().filter(|row| row.name.starts_with(name.as_str()));
            fits.map(|row| suggestion(format!("{}: ", row.name), format!("{}; {}", row.kind, first_sentence(row.doc)), *start)).collect()
        }
        Place::Argument { command, name, start, number } => {
            let plain = |value: &String| suggestion(value.clone(), String::new(), *start);
            match (*command, number) {
                ("help", 0) => table(name, *start, ""),
                ("can", 0) => known.actions.iter().filter(|action| action.starts_with(name.as_str())).map(plain).collect(),
                ("run", 0) => known
                    .runbooks
                    .iter()
                    .map(|runbook| format!("@{runbook}"))
                    .filter(|word| word.starts_with(name.as_str()))
                    .map(|word| plain(&word))
                    .collect(),
                _ => Vec::new(),
            }
        }
        Place::Word { name, start, after_dot, first } => {
            let mut found = Vec::new();
            if !after_dot {
                let variables = known.variables.iter().filter(|(variable, _)| variable.starts_with(name.as_str()));
                found.extend(variables.map(|(variable, kind)| suggestion(variable.clone(), kind.clone(), *start)));
                if *first {
                    let rows = commands::ROWS.iter().filter(|row| !name.is_empty() && row.word.starts_with(name.as_str()));
                    found.extend(rows.map(|row| suggestion(row.word.to_owned(), row.doc.to_owned(), *start)));
                }
                let words = KEYWORDS.iter().filter(|word| !name.is_empty() && word.starts_with(name.as_str()));
                found.extend(words.map(|word| suggestion((*word).to_owned(), String::new(), *start)));
            }
            let own = known.functions.iter().filter(|(function, _)| function.starts_with(name.as_str()));
            found.extend(own.map(|(function, parameters)| suggestion(format!("{function}("), format!("yours: ({parameters})"), *start)));
            found.extend(table(name, *start, "("));
            found
        }
    };
    found.dedup_by(|a, b| a.value == b.value);
    found.truncate(MOST);
    found
}

/// Functions of the table.
fn table(name: &str, start: usize, behind: &str) -> Vec<Suggestion> {
    let mut found: Vec<Suggestion> = functions::all()
        .filter(|function| function.name.starts_with(name))
        .map(|function| suggestion(format!("{}{behind}", function.name), first_sentence(functions::manual::summary(function)), start))
        .collect();
    found.sort_by(|a, b| a.value.cmp(&b.value));
    found
}

fn suggestion(value: String, about: String, start: usize) -> Suggestion {
    Suggestion { value, about, start, folder: false }
}

fn first_sentence(doc: &str) -> String {
    let line = doc.lines().next().unwrap_or("");
    line.split_once(". ").map_or(line, |(first, _)| first).trim_end_matches('.').replace('`', "")
}

/// Names in a folder that fit, as they are written in a text. Hidden ones only where a dot was typed.
#[must_use]
pub fn names(listed: &[(String, bool)], name: &str, start: usize, quoted: bool) -> Vec<Suggestion> {
    let fits = |entry: &&(String, bool)| entry.0.starts_with(name) && (name.starts_with('.') || !entry.0.starts_with('.'));
    let mut found: Vec<Suggestion> = listed
        .iter()
        .filter(fits)
        .filter_map(|(entry, folder)| {
            if !quoted && !plain(entry) {
                return None;
            }
            let value = if quoted { written(entry) } else { entry.clone() };
            let end = if *folder { "/" } else { "" };
            Some(Suggestion { value: format!("{value}{end}"), about: String::new(), start, folder: *folder })
        })
        .collect();
    found.sort_by(|a, b| a.value.cmp(&b.value));
    found.truncate(MOST);
    found
}

/// A name that needs no quotes in a command.
fn plain(name: &str) -> bool {
    steers_nothing(name) && !name.contains([' ', '\t', '\n', '"', '\'', '\\'])
}

/// A name as a text of the language has it; what could steer a terminal is written as an escape.
fn written(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if crate::os::terminal::steers(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// What all of them begin with.
#[must_use]
pub fn common<'a>(mut values: impl Iterator<Item = &'a str>) -> String {
    let Some(first) = values.next() else { return String::new() };
    let mut length = first.len();
    for value in values {
        let same =
            first.char_indices().zip(value.chars()).find(|((_, a), b)| a != b).map_or(first.len().min(value.len()), |((at, _), _)| at);
        length = length.min(same);
    }
    first.get(..length).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn values(before: &str) -> Vec<String> {
        let known = Known {
            variables: vec![("logs".into(), "array".into())],
            functions: vec![("look".into(), "a, b".into())],
            runbooks: vec!["restart".into(), "net/check".into()],
            actions: vec!["read".into(), "write".into()],
        };
        suggestions(&place(before), &known).into_iter().map(|found| found.value).collect()
    }

    #[test]
    fn a_path_in_a_text_is_split_where_its_folder_ends() {
        let at = |folder: &str, name: &str, start, quoted| Place::Path { folder: folder.into(), name: name.into(), start, quoted };
        assert_eq!(place("cat(\"/var/lo"), at("/var/", "lo", 10, true));
        assert_eq!(place("cat(\"/"), at("/", "", 6, true));
        assert_eq!(place("can read /etc/pa"), at("/etc/", "pa", 14, false));
        for other in ["cat(\"var", "cat(`/var", "// \"/var", "\"/var\"", "cat(\"/a\\", "1", "'/"] {
            assert!(!matches!(place(other), Place::Path { .. }), "{other}");
        }
    }

    #[test]
    fn options_are_those_of_the_function_around() {
        assert_eq!(values("ls(\"/\", #{lo"), ["long: "]);
        assert!(values("ls(\"/\", #{all: true, ").contains(&"sort: ".to_owned()));
        for none in ["ls(\"/\", #{all: ", "let m = #{lo", "ls(\"/\", #{all: lo", "nothing(#{lo"] {
            assert!(!values(none).contains(&"long: ".to_owned()), "{none}");
        }
        assert!(values("ls(\"/\", #{all: find(\"/x\").le").iter().all(|value| !value.ends_with(": ")));
    }

    #[test]
    fn words_are_functions_variables_and_at_the_beginning_commands() {
        assert_eq!(values("lo")[..1], ["logs"]);
        assert!(values("lo").contains(&"look(".to_owned()) && values("x + lo").contains(&"logs".to_owned()));
        assert!(values("who").contains(&"whoami".to_owned()) && !values("1 + who").contains(&"whoami".to_owned()));
        assert!(!values("x.lo").contains(&"logs".to_owned()) && values("x.lo").contains(&"look(".to_owned()));
        assert!(values("gre").contains(&"grep(".to_owned()));
        assert_eq!(values("run @"), ["@restart", "@net/check"]);
        assert_eq!(values("can re"), ["read"]);
        assert!(values("help gre").contains(&"grep".to_owned()));
        assert!(values("// gre").is_empty() && values("\"gre\"").is_empty() && values("`gre").is_empty());
    }

    #[test]
    fn names_are_written_so_that_no_terminal_obeys_them() {
        let listed = [("a\u{1b}[2J".to_owned(), false), ("a\"b\\".to_owned(), true), ("b".to_owned(), false), (".a".to_owned(), false)];
        let of = |name: &str, quoted| names(&listed, name, 0, quoted).into_iter().map(|found| found.value).collect::<Vec<_>>();
        assert_eq!(of("a", true), ["a\\\"b\\\\/", "a\\u001b[2J"]);
        assert_eq!(of("", true).len(), 3);
        assert_eq!(of(".", true), [".a"]);
        assert_eq!(of("", false), ["b"]);
    }

    #[test]
    fn what_values_have_in_common_ends_between_characters() {
        assert_eq!(common(["abc", "abd", "ab"].into_iter()), "ab");
        assert_eq!(common(["éa", "èa"].into_iter()), "");
        assert_eq!(common(["é", "éa"].into_iter()), "é");
    }

    proptest! {
        #[test]
        fn every_place_is_within_the_text(before in "[a-z(){}#\"`/ .:,é\n]{0,30}") {
            let at = match place(&before) {
                Place::Path { start, .. } | Place::Option { start, .. } | Place::Word { start, .. } | Place::Argument { start, .. } => start,
                Place::Nothing => 0,
            };
            prop_assert!(before.is_char_boundary(at) && at <= before.len());
        }
    }
}
