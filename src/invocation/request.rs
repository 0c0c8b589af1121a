//! The request grammar: all that a client can say, as a table of verbs and a table of options, and what was said as a [`Request`].
//!
//! There is no option here that names a policy, a principal or a file of the host, and [`Request`] has no place for one.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Map, Value};

use super::arguments::{self, Argument};
use super::words::{nearest, shown, usage};
use crate::error::{Error, Kind, Result};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub verb: Verb,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Run a script.
    Run(Run),
    /// Compile a script and say what it needs and what the policy says of it; run nothing.
    Check(Check),
    /// What this caller may do; with a question (action, resource; Cedar notation) whether it may do that.
    Can {
        question: Option<(String, String)>,
        format: Option<Format>,
    },
    /// Explain a denial by its reference.
    Why {
        reference: String,
        format: Option<Format>,
    },
    /// The script API, or one function of it.
    Functions {
        json: bool,
        name: Option<String>,
    },
    /// Who the caller is taken for, and on what terms.
    Whoami {
        format: Option<Format>,
    },
    /// Speak the Model Context Protocol on stdin and stdout.
    Mcp,
    /// Print [`help`] for the topic.
    Help {
        topic: Option<&'static str>,
    },
    Version,
}

/// Where the script is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    #[default]
    Stdin,
    /// The text of the expression, as sent.
    Expression(String),
    /// The name of a runbook of the host's owner: parts of letters, digits, `_` and `-` between single slashes.
    Runbook(String),
}

/// `rex run`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    pub source: Source,
    /// In the order they were given; the names are unique, also among the keys of `arguments_json`.
    pub arguments: Vec<(String, Argument)>,
    /// None: the default of the way in (`json` for a subsystem, else `human`).
    pub format: Option<Format>,
    pub arguments_json: Option<Map<String, Value>>,
    /// At least 1 ms. Can only lower the host's limit.
    pub timeout: Option<Duration>,
    /// Bytes, at least 1. Can only lower the host's limit.
    pub budget: Option<u64>,
    pub verbose: bool,
    pub dry_run: bool,
    /// The digest that the script on stdin must have. Only with [`Source::Stdin`].
    pub sha256: Option<[u8; 32]>,
    /// The last line that the script on stdin must have. Only with [`Source::Stdin`].
    pub end: Option<String>,
    /// Idempotency key: 1 to 128 letters, digits and `. _ : -`.
    pub key: Option<String>,
}

/// `rex check`; the fields mean what they mean for [`Run`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Check {
    pub source: Source,
    pub arguments: Vec<(String, Argument)>,
    pub format: Option<Format>,
    pub arguments_json: Option<Map<String, Value>>,
    pub sha256: Option<[u8; 32]>,
    pub end: Option<String>,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Human,
    Json,
    PrettyJson,
    Ndjson,
}

impl Format {
    const NAMES: &[(&str, Self)] =
        &[("human", Self::Human), ("json", Self::Json), ("pretty-json", Self::PrettyJson), ("ndjson", Self::Ndjson)];

    /// The format of this name, as it stands after `--output-format`.
    ///
    /// # Errors
    /// [`Kind::Usage`], with the nearest name.
    pub fn parse(name: &str) -> Result<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, format)| *format).ok_or_else(|| {
            let error = usage(format!("unknown output format `{}`: human, json, pretty-json or ndjson", shown(name)));
            did_you_mean(error, nearest(name, Self::NAMES.iter().map(|(known, _)| *known)))
        })
    }
}

/// The verbs by name, [`Verb`] without what was said about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Run,
    Check,
    Can,
    Why,
    Functions,
    Whoami,
    Mcp,
    Help,
}

/// One row of the table of verbs.
struct VerbRow {
    word: Word,
    name: &'static str,
    synopsis: &'static str,
    doc: &'static str,
    /// Options it takes, by the last name of their rows.
    options: &'static [&'static str],
}

impl VerbRow {
    fn takes(&self, option: &OptionRow) -> bool {
        self.options.contains(&option.name())
    }
}

const VERBS: &[VerbRow] = &[
    VerbRow {
        word: Word::Run,
        name: "run",
        synopsis: "rex [run] [OPTION …] [-e EXPR | @RUNBOOK] [name=value …] [name:=JSON …]",
        doc: "Run the script on stdin, the expression, or a runbook of the host's owner.",
        options: &[
            "-e",
            "--output-format",
            "--arguments-json",
            "--timeout",
            "--budget",
            "--verbose",
            "--dry-run",
            "--sha256",
            "--end",
            "--key",
        ],
    },
    VerbRow {
        word: Word::Check,
        name: "check",
        synopsis: "rex check [OPTION …] [-e EXPR | @RUNBOOK] [name=value …] [name:=JSON …]",
        doc: "Compile a script, list what it uses and what the policy says of that; run nothing.",
        options: &["-e", "--output-format", "--json", "--arguments-json", "--sha256", "--end"],
    },
    VerbRow {
        word: Word::Can,
        name: "can",
        synopsis: "rex can [OPTION …] [ACTION RESOURCE]",
        doc: "Say what you may do here, or whether you may do this.",
        options: &["--output-format", "--json"],
    },
    VerbRow {
        word: Word::Why,
        name: "why",
        synopsis: "rex why [OPTION …] REF",
        doc: "Explain a denial by its reference.",
        options: &["--output-format", "--json"],
    },
    VerbRow {
        word: Word::Functions,
        name: "functions",
        synopsis: "rex functions [--json] [NAME]",
        doc: "List the functions that scripts have, or describe one.",
        options: &["--json"],
    },
    VerbRow {
        word: Word::Whoami,
        name: "whoami",
        synopsis: "rex whoami [OPTION …]",
        doc: "Say who you are taken for, how that was found, and the limits and protections of your runs.",
        options: &["--output-format", "--json"],
    },
    VerbRow {
        word: Word::Mcp,
        name: "mcp",
        synopsis: "rex mcp",
        doc: "Speak the Model Context Protocol on stdin and stdout.",
        options: &[],
    },
    VerbRow { word: Word::Help, name: "help", synopsis: "rex help [VERB]", doc: "Print this, or more about a verb.", options: &[] },
];

/// One row of the table of options.
struct OptionRow {
    /// The short name first; the last is the one that errors and [`VERBS`] use.
    names: &'static [&'static str],
    /// What its value is called; none for a switch.
    value: Option<&'static str>,
    doc: &'static str,
    take: fn(&mut Draft, &str) -> Result<()>,
}

impl OptionRow {
    fn name(&self) -> &'static str {
        self.names.last().copied().unwrap_or_default()
    }
}

const OPTIONS: &[OptionRow] = &[
    OptionRow { names: &["-e"], value: Some("EXPR"), doc: "The script is this expression.", take: |draft, value| draft.expression(value) },
    OptionRow {
        names: &["-o", "--output-format"],
        value: Some("FORMAT"),
        doc: "human, json, pretty-json or ndjson.",
        take: |draft, value| draft.format(Format::parse(value)?),
    },
    OptionRow { names: &["--json"], value: None, doc: "The same as --output-format json.", take: |draft, _| draft.format(Format::Json) },
    OptionRow {
        names: &["--arguments-json"],
        value: Some("TEXT"),
        doc: "Arguments as one JSON object.",
        take: |draft, value| keep(&mut draft.arguments_json, arguments::json_object(value)?),
    },
    OptionRow {
        names: &["--timeout"],
        value: Some("SECONDS"),
        doc: "Stop the run after this time; can only lower the host's limit.",
        take: |draft, value| keep(&mut draft.timeout, seconds(value)?),
    },
    OptionRow {
        names: &["--budget"],
        value: Some("BYTES"),
        doc: "Stop the run at this many bytes; can only lower the host's limit.",
        take: |draft, value| keep(&mut draft.budget, bytes(value)?),
    },
    OptionRow {
        names: &["-v", "--verbose"],
        value: None,
        doc: "Say more in human output.",
        take: |draft, _| {
            draft.verbose = true;
            Ok(())
        },
    },
    OptionRow {
        names: &["--dry-run"],
        value: None,
        doc: "Change nothing; say what would be done.",
        take: |draft, _| {
            draft.dry_run = true;
            Ok(())
        },
    },
    OptionRow {
        names: &["--sha256"],
        value: Some("HEX"),
        doc: "Run the script on stdin only if it has this digest.",
        take: |draft, value| keep(&mut draft.sha256, digest(value)?),
    },
    OptionRow {
        names: &["--end"],
        value: Some("MARKER"),
        doc: "Run the script on stdin only if this is its last line, which is then removed.",
        take: |draft, value| keep(&mut draft.end, marker(value)?),
    },
    OptionRow {
        names: &["--key"],
        value: Some("K"),
        doc: "Run once only for this key; later requests get the result of the first.",
        take: |draft, value| keep(&mut draft.key, token(value)?),
    },
];

/// Verbs that only the host's owner has, on the host's own command line.
const OWNERS_VERBS: &[&str] = &["session", "policy", "setup", "doctor", "serve", "audit", "demo", "completions", "man", "pam-record"];

/// Options that only the host's owner has.
const OWNERS_OPTIONS: &[&str] =
    &["--config", "--principal", "--policy", "--policy-file", "--script-file", "--script-arguments-file", "--subsystem", "--identity-fd"];

/// Options of most programs that are none here, and what to ask instead.
const INSTEAD: &[(&str, &str)] = &[("--help", "rex help"), ("-h", "rex help"), ("--version", "rex --version"), ("-V", "rex --version")];

/// Verbs and options that the grammar has and this version cannot do.
const NOT_YET: &[&str] = &["mcp", "--key", "--budget"];

/// What has been said so far.
#[derive(Default)]
struct Draft {
    source: Source,
    arguments: Vec<(String, Argument)>,
    format: Option<Format>,
    arguments_json: Option<Map<String, Value>>,
    timeout: Option<Duration>,
    budget: Option<u64>,
    verbose: bool,
    dry_run: bool,
    sha256: Option<[u8; 32]>,
    end: Option<String>,
    key: Option<String>,
    /// What is neither an option nor something about the script.
    words: Vec<String>,
}

impl Draft {
    fn expression(&mut self, text: &str) -> Result<()> {
        if text.trim().is_empty() {
            return Err(usage("`-e` needs an expression"));
        }
        self.source(Source::Expression(text.to_owned()))
    }

    fn source(&mut self, source: Source) -> Result<()> {
        if self.source != Source::Stdin {
            return Err(usage("a request has one script: `-e EXPR` or one `@RUNBOOK`"));
        }
        self.source = source;
        Ok(())
    }

    fn format(&mut self, format: Format) -> Result<()> {
        if self.format.is_some() {
            return Err(usage("the output format is given twice"));
        }
        keep(&mut self.format, format)
    }

    /// A word about the script: `@RUNBOOK`, `name=value` or `name:=JSON`.
    fn about_script(&mut self, word: &str) -> Result<()> {
        if let Some(name) = word.strip_prefix('@') {
            return self.source(Source::Runbook(runbook(name)?));
        }
        if !word.contains('=') {
            return Err(unexpected(word));
        }
        self.arguments.push(arguments::argument(word)?);
        Ok(())
    }

    /// What one option or word alone cannot show to be wrong.
    fn check(&self) -> Result<()> {
        if self.source != Source::Stdin && (self.sha256.is_some() || self.end.is_some()) {
            return Err(usage("`--sha256` and `--end` are about a script on stdin, and this request has its script elsewhere"));
        }
        let mut names: HashSet<&str> = self.arguments_json.iter().flat_map(Map::keys).map(String::as_str).collect();
        match self.arguments.iter().find(|(name, _)| !names.insert(name)) {
            Some((name, _)) => Err(Error::new(Kind::Arguments, format!("the argument `{name}` is given twice"))),
            None => Ok(()),
        }
    }

    fn into_verb(mut self, row: &VerbRow) -> Result<Verb> {
        self.check()?;
        let surplus = |words: &[String], allowed: usize| words.get(allowed).map_or(Ok(()), |word| Err(unexpected(word)));
        let mut words = std::mem::take(&mut self.words);
        Ok(match row.word {
            Word::Run => Verb::Run(Run {
                source: self.source,
                arguments: self.arguments,
                format: self.format,
                arguments_json: self.arguments_json,
                timeout: self.timeout,
                budget: self.budget,
                verbose: self.verbose,
                dry_run: self.dry_run,
                sha256: self.sha256,
                end: self.end,
                key: self.key,
            }),
            Word::Check => Verb::Check(Check {
                source: self.source,
                arguments: self.arguments,
                format: self.format,
                arguments_json: self.arguments_json,
                sha256: self.sha256,
                end: self.end,
            }),
            Word::Can => {
                surplus(&words, 2)?;
                let question = match (words.pop(), words.pop()) {
                    (None, _) => None,
                    (Some(resource), Some(action)) if !resource.is_empty() && !action.is_empty() => Some((action, resource)),
                    _ => return Err(usage("`rex can` takes an action and a resource, or neither")),
                };
                Verb::Can { question, format: self.format }
            }
            Word::Why => {
                surplus(&words, 1)?;
                let reference = words.pop().ok_or_else(|| usage("`rex why` needs the reference of a denial"))?;
                Verb::Why { reference: token(&reference)?, format: self.format }
            }
            Word::Functions => {
                surplus(&words, 1)?;
                let name = words.pop();
                if let Some(name) = name.as_deref().filter(|name| !plain(name, 64, "_")) {
                    return Err(usage(format!("`{}` is no name of a function", shown(name))));
                }
                Verb::Functions { json: self.format.is_some(), name }
            }
            Word::Whoami => {
                surplus(&words, 0)?;
                Verb::Whoami { format: self.format }
            }
            Word::Mcp => {
                surplus(&words, 0)?;
                Verb::Mcp
            }
            Word::Help => {
                surplus(&words, 1)?;
                Verb::Help { topic: words.pop().map(|word| verb_row(&word).map(|row| row.name)).transpose()? }
            }
        })
    }
}

/// Reads the words after `rex`.
pub(super) fn parse(words: &[String]) -> Result<Request> {
    let row = match words.first().map(String::as_str) {
        Some("--version") => {
            return words.get(1).map_or(Ok(Request { verb: Verb::Version }), |word| Err(unexpected(word)));
        }
        Some(first) if !first.starts_with(['-', '@']) && !first.contains('=') => Some(verb_row(first)?),
        _ => None,
    };
    let rest = if row.is_some() { words.get(1..) } else { Some(words) };
    // The first row is `run`.
    let Some((row, rest)) = row.or(VERBS.first()).zip(rest) else { return Err(usage("nothing is asked")) };
    let mut draft = Draft::default();
    let mut seen = Vec::new();
    let mut rest = rest.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        if word.starts_with('-') {
            take_option(row, word, &mut rest, &mut draft, &mut seen)?;
        } else if matches!(row.word, Word::Run | Word::Check) {
            draft.about_script(word)?;
        } else {
            draft.words.push(word.to_owned());
        }
    }
    Ok(Request { verb: draft.into_verb(row)? })
}

/// One option with its value, which is behind `=` or is the next word.
fn take_option<'a>(
    row: &VerbRow,
    word: &str,
    rest: &mut impl Iterator<Item = &'a str>,
    draft: &mut Draft,
    seen: &mut Vec<&'static str>,
) -> Result<()> {
    let (name, attached) = match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => (name, Some(value)),
        _ => (word, None),
    };
    let Some(option) = option_row(name).filter(|option| row.takes(option)) else { return Err(no_such_option(row, name)) };
    let known = option.name();
    if seen.contains(&known) {
        return Err(usage(format!("`{known}` is given twice")));
    }
    seen.push(known);
    let value = match (option.value, attached) {
        (None, None) => "",
        (None, Some(_)) => return Err(usage(format!("`{known}` takes no value"))),
        (Some(_), Some(value)) => value,
        (Some(what), None) => rest
            .next()
            // An option that is forgotten its value must not swallow the next option.
            .filter(|value| !value.starts_with("--") && option_row(value).is_none())
            .ok_or_else(|| usage(format!("`{name}` needs a value: `{name} {what}`")))?,
    };
    (option.take)(draft, value)
}

fn option_row(name: &str) -> Option<&'static OptionRow> {
    OPTIONS.iter().find(|option| option.names.contains(&name))
}

fn verb_row(name: &str) -> Result<&'static VerbRow> {
    VERBS.iter().find(|row| row.name == name).ok_or_else(|| {
        if OWNERS_VERBS.contains(&name) {
            return usage(format!("`rex {name}` is for the owner of this host, on its own command line, and no part of a request"));
        }
        let near = nearest(name, VERBS.iter().map(|row| row.name)).map(|near| format!("did you mean `{near}`?"));
        let error = usage(format!("unknown verb `{}`", shown(name)));
        with_shell_hint(error, name, near.as_deref().unwrap_or("`rex help` lists what can be asked"))
    })
}

fn no_such_option(row: &VerbRow, name: &str) -> Error {
    if OWNERS_OPTIONS.contains(&name) {
        return usage(format!("`{name}` is for the owner of this host and no part of a request"));
    }
    if let Some((_, instead)) = INSTEAD.iter().find(|(option, _)| *option == name) {
        return usage(format!("`{name}` is no option here")).with_hint(format!("ask `{instead}`"));
    }
    if option_row(name).is_some() {
        return usage(format!("`{name}` is no option of `rex {}`", row.name));
    }
    did_you_mean(usage(format!("unknown option `{}`", shown(name))), nearest(name, row.options.iter().copied()))
}

fn unexpected(word: &str) -> Error {
    let hint = if VERBS.iter().any(|row| row.name == word) {
        "the verb stands right behind `rex`"
    } else {
        "words of one value belong in quotes that reach the host: ssh HOST \"rex -e '1 + 1'\""
    };
    with_shell_hint(usage(format!("unexpected word `{}`", shown(word))), word, hint)
}

/// Most words that fit nowhere were meant for a shell.
fn with_shell_hint(error: Error, word: &str, otherwise: &str) -> Error {
    if word.contains([';', '&', '|', '$', '`', '<', '>', '*', '?', '(', ')', '~']) {
        return error.with_hint("no shell reads a request: of its signs only quotes and backslashes mean something");
    }
    error.with_hint(otherwise)
}

fn did_you_mean(error: Error, name: Option<&str>) -> Error {
    match name {
        Some(name) => error.with_hint(format!("did you mean `{name}`?")),
        None => error,
    }
}

/// Keeps the value; that an option is there once only is checked before.
fn keep<T>(place: &mut Option<T>, value: T) -> Result<()> {
    *place = Some(value);
    Ok(())
}

/// Whether it is 1 to `most` ASCII letters, digits and `others`, the first a letter or digit or `_`.
fn plain(text: &str, most: usize, others: &str) -> bool {
    (1..=most).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text.chars().all(|character| character.is_ascii_alphanumeric() || others.contains(character))
}

/// Seconds, whole or with up to three digits behind a point; from 1 ms to 9999999 s.
fn seconds(text: &str) -> Result<Duration> {
    let wrong = || usage(format!("`--timeout` needs seconds such as `30` or `2.5`, not `{}`", shown(text)));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str, most| (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole, 7) || !digits(fraction, 3) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let thousandths: u64 = format!("{fraction:0<3}").parse().map_err(|_| wrong())?;
    match Duration::from_millis(whole * 1000 + thousandths) {
        Duration::ZERO => Err(wrong()),
        time => Ok(time),
    }
}

fn bytes(text: &str) -> Result<u64> {
    match text.parse() {
        Ok(number) if number > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err(usage(format!("`--budget` needs a number of bytes such as `1048576`, not `{}`", shown(text)))),
    }
}

fn digest(text: &str) -> Result<[u8; 32]> {
    let wrong = || usage("`--sha256` needs the digest as 64 hexadecimal digits");
    let digits = text.as_bytes();
    let mut digest = [0; 32];
    if digits.len() != 64 {
        return Err(wrong());
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).ok_or_else(wrong)?;
            *byte = *byte << 4 | value;
        }
    }
    Ok(digest)
}

fn marker(text: &str) -> Result<String> {
    if text.trim().is_empty() || text.len() > 256 {
        return Err(usage("`--end` needs a line of 1 to 256 bytes that is not blank"));
    }
    Ok(text.to_owned())
}

/// An idempotency key, or the reference of a denial.
fn token(text: &str) -> Result<String> {
    if !plain(text, 128, "._:-") {
        return Err(usage(format!("`{}` is no key or reference: 1 to 128 letters, digits and `. _ : -`", shown(text))));
    }
    Ok(text.to_owned())
}

/// The name of a runbook. What is no plain name cannot lead out of the owner's folder: no dot, no empty part, no leading dash.
fn runbook(name: &str) -> Result<String> {
    if name.len() > 128 || !name.split('/').all(|part| plain(part, 64, "_-")) {
        return Err(usage(format!(
            "`@{}` is no name of a runbook: letters, digits, `_` and `-`, with single slashes between",
            shown(name)
        )));
    }
    Ok(name.to_owned())
}

/// What of the request this version cannot do although the grammar has it: a sentence for the caller (exit 2), or nothing.
#[must_use]
pub fn unavailable(request: &Request) -> Option<String> {
    let said: &[(bool, &str)] = match &request.verb {
        Verb::Mcp => &[(true, "mcp")],
        Verb::Run(run) => &[(run.key.is_some(), "--key"), (run.budget.is_some(), "--budget")],
        _ => &[],
    };
    let (_, name) = said.iter().find(|(said, name)| *said && NOT_YET.contains(name))?;
    let verb = if name.starts_with('-') { "" } else { "rex " };
    Some(format!("`{verb}{name}` is not available in this version"))
}

/// The text of `rex help`, from the tables; ends with a line feed. `topic` is the name of a verb; without one, or with another, all verbs.
#[must_use]
pub fn help(topic: Option<&str>) -> String {
    let not_yet = |name: &str| if NOT_YET.contains(&name) { " Not in this version." } else { "" };
    let Some(row) = VERBS.iter().find(|row| Some(row.name) == topic) else {
        let verbs: String = VERBS.iter().map(|row| format!("  {}\n      {}{}\n", row.synopsis, row.doc, not_yet(row.name))).collect();
        return format!("What can be asked of this host:\n\n{verbs}  rex --version\n      Print the version.\n");
    };
    let mut text = format!("{}\n\n{}{}\n", row.synopsis, row.doc, not_yet(row.name));
    for option in OPTIONS.iter().filter(|option| row.takes(option)) {
        let value = option.value.map(|value| format!(" {value}")).unwrap_or_default();
        text.push_str(&format!("\n  {}{value}\n      {}{}\n", option.names.join(", "), option.doc, not_yet(option.name())));
    }
    text
}

#[cfg(test)]
mod tests;
