//! What `rex policy check` looks for besides validity: a table of lints, and what was found in a set of policies.

mod broad;
mod conflicts;
mod notes;
mod patterns;
mod people;
mod places;
mod table;

pub use people::People;
pub use places::{Found, Host};
pub use table::{LINTS, Level, Lint, lint, markdown};

use super::load::{self, Examined, Placed, Source};
use super::pointed::{Fault, excerpt, position_from};
use super::possible::Work;
use super::schema;
use super::shape::{self, Shape, Verb};
use super::slice::{self, Place, Reach, Rule};
use super::suite::Vocabulary;
use super::words::{Ask, Noun};
use crate::error::Result;
use cedar_policy_core::ast::Expr;

/// Steps that one check may spend on comparing rules and conditions; some seconds.
const WORK: u64 = 400_000_000;

/// One thing to tell the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the lint.
    pub lint: &'static str,
    pub level: Level,
    pub file: String,
    /// From 1, in characters; 0 where it is about the file as a whole.
    pub line: usize,
    pub column: usize,
    /// Just behind its last character.
    pub end_line: usize,
    pub end_column: usize,
    /// The rule's `@id`, or `file:line`.
    pub policy: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// The line of the file and a caret under the place; empty where it is about the file as a whole.
    pub excerpt: String,
}

impl Finding {
    /// About a file as a whole.
    #[must_use]
    pub fn of_file(lint: &'static str, file: String, message: String, help: Option<String>) -> Self {
        Self {
            lint,
            level: Level::Error,
            file,
            line: 0,
            column: 0,
            end_line: 0,
            end_column: 0,
            policy: None,
            message,
            help,
            excerpt: String::new(),
        }
    }

    /// A fault at a byte of a file.
    #[must_use]
    pub fn at(source: &Source, lint: &'static str, offset: usize, message: String) -> Self {
        located(source, lint, Level::Error, (offset, offset), (0, 1), message)
    }

    /// `file:line:column: level: message [lint]`, the line and a caret, and what would be right. Several lines, without a newline at the end.
    #[must_use]
    pub fn text(&self) -> String {
        let place = if self.line == 0 { String::new() } else { format!(":{}:{}", self.line, self.column) };
        let mut out = format!("{}{place}: {}: {} [{}]", self.file, self.level.name(), self.message, self.lint);
        if !self.excerpt.is_empty() {
            out.push('\n');
            out.push_str(&self.excerpt);
        }
        if let Some(help) = &self.help {
            out.push_str("\n  = ");
            out.push_str(help);
        }
        out
    }
}

/// What a check came to.
#[derive(Debug, Default)]
pub struct Report {
    /// By file and place.
    pub findings: Vec<Finding>,
    /// How many an `@allow` silenced.
    pub allowed: usize,
    /// Rules in all, those of files that do not parse left out.
    pub policies: usize,
    /// See [`super::Policies::digest`].
    pub digest: String,
}

impl Report {
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}

/// What the lints may ask about besides the text.
#[derive(Clone, Copy, Default)]
pub struct Surroundings<'a> {
    /// The host that the policies are for, where it is this one.
    pub host: Option<&'a dyn Host>,
    /// Its principals.toml.
    pub people: Option<&'a People>,
    /// Milliseconds since the epoch.
    pub now: Option<i64>,
}

/// First byte of a part of the text, and the one behind it.
type Span = (usize, usize);

/// Something that a lint found.
struct Note {
    lint: &'static str,
    /// Where it is not the lint's own.
    level: Option<Level>,
    /// Bytes of the text; None: the whole rule, at its effect.
    place: Option<Span>,
    message: String,
    help: Option<String>,
}

impl Note {
    fn new(lint: &'static str, message: impl Into<String>) -> Self {
        Self { lint, level: None, place: None, message: message.into(), help: None }
    }
    fn at(self, place: Option<Span>) -> Self {
        Self { place, ..self }
    }
    fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// One rule, with all that the lints look at.
struct Item<'a> {
    number: usize,
    placed: &'a Placed,
    text: &'a str,
    rule: Rule,
    principal: Reach,
    shape: Shape,
}

impl Item<'_> {
    fn effect(&self) -> &'static str {
        if self.rule.permit { "permit" } else { "forbid" }
    }
    /// Where the word stands in the rule, outside of strings and comments.
    fn word(&self, word: &str) -> Option<Span> {
        word_at(self.text, self.placed.entry.start as usize, self.placed.entry.end as usize, word)
    }
}

/// The place of an expression.
fn place_of(expr: &Expr) -> Option<Span> {
    expr.source_loc().map(|loc| (loc.start(), loc.end()))
}

/// The first place of a word between two bytes of the text, outside of strings, comments and annotations.
fn word_at(text: &str, start: usize, end: usize, word: &str) -> Option<Span> {
    let bytes = text.as_bytes();
    let mut at = start;
    while at < end {
        match bytes.get(at)? {
            b'"' => {
                at += 1;
                while *bytes.get(at)? != b'"' {
                    at += if bytes.get(at) == Some(&b'\\') { 2 } else { 1 };
                }
                at += 1;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < end && bytes.get(at) != Some(&b'\n') {
                    at += 1;
                }
            }
            byte if byte.is_ascii_alphabetic() || *byte == b'_' => {
                let length = bytes.iter().skip(at).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
                let annotation = at > start && bytes.get(at - 1) == Some(&b'@');
                if !annotation && bytes.get(at..at + length) == Some(word.as_bytes()) {
                    return Some((at, at + length));
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

/// What every lint sees.
struct View<'a> {
    items: Vec<Item<'a>>,
    sources: &'a [&'a Source],
    verbs: Vec<Verb>,
    vocabulary: Vocabulary,
    around: Surroundings<'a>,
    work: Work,
}

/// Looks through policies, valid or not: every fault, and in the rules that can be read, what every lint finds.
///
/// # Errors
/// [`crate::error::Kind::Config`] when the policies are larger than 16 MiB in all.
pub fn check(sources: &[Source], asks: &[Ask], nouns: &[Noun], around: Surroundings<'_>) -> Result<Report> {
    let digest = super::Policies::digest_of(sources);
    let mut sorted: Vec<&Source> = sources.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    load::check_sizes(&sorted)?;
    let schema = schema::render(asks, nouns);
    load::on_big_stack(|| {
        let examined = load::look_through(&sorted, &schema)?;
        let vocabulary = Vocabulary { asks: asks.to_vec() };
        let mut report = look(&examined, &sorted, shape::verbs(asks, nouns), vocabulary, around);
        report.digest = digest;
        Ok(report)
    })?
}

/// Runs every lint.
fn look(examined: &Examined, sources: &[&Source], verbs: Vec<Verb>, vocabulary: Vocabulary, around: Surroundings<'_>) -> Report {
    let work = Work::new(WORK);
    let mut items: Vec<Item<'_>> = Vec::with_capacity(examined.placed.len());
    for placed in &examined.placed {
        let Some(source) = sources.get(placed.entry.source as usize) else { continue };
        let rule = Rule::new(&placed.policy, placed.name.clone(), Place::default());
        let principal = slice::reach(placed.policy.principal_constraint().as_inner());
        let (Some(rule), Some(principal)) = (rule, principal) else { continue };
        let shape = Shape::new(&rule, &principal, &verbs, &work);
        items.push(Item { number: items.len(), placed, text: &source.text, rule, principal, shape });
    }
    let view = View { items, sources, verbs, vocabulary, around, work };
    // By rule: what was found in it.
    let mut notes: Vec<Vec<Note>> = view.items.iter().map(|item| each(&view, item)).collect();
    conflicts::among(&view, &mut notes);
    let mut invalid = vec![false; view.items.len()];
    for fault in &examined.wrong {
        if let Some(invalid) = item_of(&view.items, fault).and_then(|item| invalid.get_mut(item.number)) {
            *invalid = true;
        }
    }
    for fault in &examined.odd {
        let Some(item) = item_of(&view.items, fault) else { continue };
        let Some(list) = notes.get_mut(item.number) else { continue };
        // Of a rule that is invalid nothing more is known. What the validator warns of where a lint of ours says so too is the same thing.
        let known = fault.lint == "never-matches" && list.iter().any(|note| note.lint == "never-matches");
        if !known && !invalid.get(item.number).copied().unwrap_or(false) {
            let message = fault.message.replace(&format!("for policy `{}`, ", item.rule.name), "");
            let (message, help) = match scope_never(item, &view.verbs).filter(|_| fault.lint == "never-matches") {
                Some((why, help)) => (why, Some(help)),
                None => (message, None),
            };
            list.push(Note { help, ..Note::new(fault.lint, message) }.at((fault.end > fault.offset).then_some((fault.offset, fault.end))));
        }
    }
    let mut report = Report { policies: view.items.len(), ..Report::default() };
    let mut found: Vec<(u32, usize, Finding)> = Vec::new();
    for (item, list) in view.items.iter().zip(notes) {
        for note in notes::not_allowed(item, list, &mut report.allowed, &|lint| looked(lint, around)) {
            found.extend(finding(item, &note, sources));
        }
    }
    for fault in &examined.wrong {
        let Some(source) = sources.get(fault.source as usize) else { continue };
        let policy = item_of(&view.items, fault).map(|item| item.rule.name.clone());
        let what = lint(fault.lint);
        let mut finding = located(source, fault.lint, Level::Error, (fault.offset, fault.end), (0, 1), fault.message.clone());
        finding.policy = policy;
        finding.help = what.filter(|lint| !lint.mend.is_empty()).map(|lint| lint.mend.to_owned());
        found.push((fault.source, fault.offset, finding));
    }
    if examined.placed.is_empty() && examined.wrong.is_empty() {
        let file = sources.first().map_or_else(String::new, |source| source.name.clone());
        let message = "no policy at all: nothing would be allowed to anybody".to_owned();
        found.push((0, 0, Finding::of_file("no-policy", file, message, None)));
    }
    found.sort_by(|a, b| (a.0, a.1, a.2.level, a.2.lint).cmp(&(b.0, b.1, b.2.level, b.2.lint)));
    report.findings = found.into_iter().map(|(.., finding)| finding).collect();
    if view.work.is_over() {
        let file = sources.first().map_or_else(String::new, |source| source.name.clone());
        let message = "these rules are too many or too complex for all comparisons; some lints did not look at all of them".to_owned();
        report.findings.push(Finding { level: Level::Note, ..Finding::of_file("too-complex", file, message, None) });
    }
    report
}

/// Why the scope of a rule fits nothing that is ever asked, and what would be right.
fn scope_never(item: &Item<'_>, verbs: &[Verb]) -> Option<(String, String)> {
    if let Reach::Exactly(kind, id) = &item.principal
        && kind != "User"
    {
        let message = format!("who asks is a User, never a {kind}, so this never matches anything");
        let help = match kind.as_str() {
            "Group" => format!("write principal in Group::\"{}\"", id.escape_debug()),
            _ => "write principal == User::\"…\" or principal in Group::\"…\"".to_owned(),
        };
        return Some((message, help));
    }
    let kind = match &item.rule.reach {
        Reach::Kind(kind) | Reach::Exactly(kind, _) | Reach::KindWithin(kind, _, _) => kind.as_str(),
        Reach::Anything | Reach::Within(..) => return None,
    };
    let named = item.rule.verbs.as_ref()?;
    let about: Vec<&Verb> = verbs.iter().filter(|verb| named.iter().any(|uid| verb.uid == *uid || verb.groups.contains(uid))).collect();
    if about.iter().any(|verb| verb.kinds.contains(&kind)) {
        return None;
    }
    let mut kinds: Vec<&str> = about.iter().flat_map(|verb| verb.kinds.iter().copied()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let words = named.iter().map(|uid| format!("`{}::\"{}\"`", uid.kind, uid.id)).take(3).collect::<Vec<_>>().join(", ");
    let of_kind = verbs.iter().filter(|verb| verb.kinds.contains(&kind)).map(|verb| verb.uid.kind.as_str().trim_end_matches("::Action"));
    let spaces: std::collections::BTreeSet<&str> = of_kind.collect();
    let also = match spaces.into_iter().collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        spaces => format!("; what is done to a {kind} is of {}", spaces.join(", ")),
    };
    Some((format!("{words} is never done to a {kind}, so this never matches anything"), format!("it is for {}{also}", kinds.join(", "))))
}

/// Whether the lint could find anything here.
fn looked(name: &str, around: Surroundings<'_>) -> bool {
    lint(name).is_some_and(|lint| match lint.needs {
        table::Needs::Text => true,
        table::Needs::Host => around.host.is_some(),
        table::Needs::People => around.people.is_some(),
    })
}

/// The lints that look at one rule.
fn each(view: &View<'_>, item: &Item<'_>) -> Vec<Note> {
    let mut notes = Vec::new();
    notes::look(view, item, &mut notes);
    broad::look(view, item, &mut notes);
    patterns::look(view, item, &mut notes);
    places::look(view, item, &mut notes);
    people::look(view, item, &mut notes);
    notes
}

/// The rule that a fault is in. Items stand in the order of the text.
fn item_of<'a, 'b>(items: &'a [Item<'b>], fault: &Fault) -> Option<&'a Item<'b>> {
    let behind = items.partition_point(|item| (item.placed.entry.source, item.placed.entry.start as usize) <= (fault.source, fault.offset));
    let item = items.get(behind.checked_sub(1)?)?;
    (item.placed.entry.source == fault.source && fault.offset <= item.placed.entry.end as usize).then_some(item)
}

fn finding(item: &Item<'_>, note: &Note, sources: &[&Source]) -> Option<(u32, usize, Finding)> {
    let source = sources.get(item.placed.entry.source as usize)?;
    let place =
        note.place.or_else(|| item.word(item.effect())).unwrap_or((item.placed.entry.start as usize, item.placed.entry.end as usize));
    let level = note.level.or_else(|| lint(note.lint).map(|lint| lint.level)).unwrap_or(Level::Warning);
    // Nothing of a large file is counted for each of its rules.
    let known = (item.placed.entry.start as usize, item.placed.entry.line as usize);
    let mut finding = located(source, note.lint, level, place, known, note.message.clone());
    finding.policy = Some(item.rule.name.clone());
    finding.help.clone_from(&note.help);
    Some((item.placed.entry.source, place.0, finding))
}

/// `known`: a byte before it whose line is known, and that line.
fn located(source: &Source, lint: &'static str, level: Level, (start, end): Span, known: (usize, usize), message: String) -> Finding {
    let (line, column) = position_from(&source.text, known, start);
    let (end_line, end_column) = position_from(&source.text, (start, line), end.max(start));
    let excerpt = excerpt(&source.text, start, line);
    Finding {
        line,
        column,
        end_line,
        end_column,
        excerpt,
        ..Finding { level, ..Finding::of_file(lint, source.name.clone(), message, None) }
    }
}

#[cfg(test)]
mod tests;
