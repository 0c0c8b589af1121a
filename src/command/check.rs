//! `rex check`: what a script will ask for, found without running it, and what the policy says of it where that can be known.

use super::can::{action_text, answer_words, needs_open};
use super::verbs::write;
use crate::engine::check::{self, Known, Site};
use crate::engine::{Failure, Outcome, Runner};
use crate::error::{Error, Exit, Kind};
use crate::functions::function::{Function, Host};
use crate::functions::value::Dynamic;
use crate::limits::Watch;
use crate::output::{Form, Output};
use crate::policy::{Access, Answer, Ask, Gate, Line, Noun};
use crate::report;
use crate::resource::path::AbsPath;
use crate::run;
use crate::sys::supervise::{Ended, supervise};
use crate::terms::Terms;
use serde_json::{Value, json};
use std::sync::Arc;

/// Compiles a script and says what it uses and what the policy says of that. Runs nothing. Exit 0; 77 when some call is denied for certain; 65 when
/// it does not compile.
#[must_use]
pub fn check(terms: &Terms, script: &str, constants: &[(String, Dynamic)], form: Form) -> u8 {
    let watch = Arc::new(Watch::new(terms.limits.clone()));
    let gate = match run::gate(terms, &watch, None, &crate::os::digest::hex_sha256(script.as_bytes())) {
        Ok(gate) => gate,
        Err(error) => return report::early(error, form),
    };
    let out = Arc::new(Output::new(form, false, Arc::clone(&watch)));
    let host = Arc::new(Host { gate, watch, out: Arc::clone(&out), redaction: run::redaction(terms), broker: None });
    // Under the limits of a run: there are texts that take a compiler very long.
    let (inside, library, text, given) = (Arc::clone(&host), run::library(terms), script.to_owned(), constants.to_vec());
    let compiled = supervise(&host.watch, move || {
        Runner::new(inside, library, &text).compile(&text, &given).map(|ast| (check::functions_used(&ast), check::calls(&ast, &given)))
    });
    let failed = |failure: Failure| {
        let outcome = Outcome { failure: Some(failure), ..Outcome::failed(Error::new(Kind::Compile, "")) };
        report::write(&outcome, script, &out, &report::Facts { run: terms.run.clone(), ..report::Facts::default() })
    };
    let (functions, calls) = match compiled {
        Ok(Ended::Finished(Ok(found))) => found,
        Ok(Ended::Finished(Err(failure))) => return failed(*failure),
        Ok(Ended::Abandoned(why)) => return failed(Failure { error: why.error(&terms.limits), at: None, thrown: None }),
        Err(error) => return failed(Failure { error, at: None, thrown: None }),
    };
    let lines = host.gate.summary();
    let calls: Vec<Asked> = calls.iter().map(|site| Asked::of(&host.gate, &lines, site)).collect();
    let mut text: String = calls.iter().map(Asked::text).collect();
    let denied = calls.iter().filter(|call| call.answer == "no").count();
    text.push_str(&match denied {
        0 => "the script compiles; nothing is known to be denied\n".to_owned(),
        1 => "the script compiles; 1 call is denied\n".to_owned(),
        _ => format!("the script compiles; {denied} calls are denied\n"),
    });
    let used: Vec<Value> = functions
        .iter()
        .map(|(function, line)| {
            let general = |ask: &Ask| json!({"action": action_text(ask), "answer": in_general(&lines, ask)});
            json!({"name": function.name, "line": line, "asks": function.asks.iter().map(general).collect::<Vec<_>>()})
        })
        .collect();
    let _ = write(
        form,
        &text,
        &json!({
            "schema": "rex.check/1",
            "compiles": true,
            "functions": used,
            "calls": calls.iter().map(Asked::value).collect::<Vec<_>>(),
            "denied": denied,
            "policy": terms.policies.digest,
        }),
    );
    (if denied > 0 { Exit::Denied } else { Exit::Ok }) as u8
}

fn in_general(lines: &[Line], ask: &Ask) -> &'static str {
    let action = action_text(ask);
    lines.iter().find(|line| line.action == action).map_or("no", Line::answer)
}

/// One question of a call.
struct Question {
    action: String,
    /// On what, where that is known.
    on: Vec<String>,
    answer: &'static str,
    depends: Vec<String>,
}

/// A call with what it asks.
struct Asked {
    function: &'static Function,
    line: u32,
    column: u32,
    /// The argument as written, where it is known.
    shown: Option<String>,
    questions: Vec<Question>,
    /// `nothing` (it asks nothing), `yes`, `no`, `depends` or `unknown`.
    answer: &'static str,
}

impl Asked {
    fn of(gate: &Gate, lines: &[Line], site: &Site) -> Self {
        let function = site.function;
        let questions: Vec<Question> = function.asks.iter().map(|ask| question(gate, lines, site, ask)).collect();
        let shown = site.arguments.first().and_then(Option::as_ref).map(|known| match known {
            Known::Text(text) => format!("{text:?}"),
            Known::List(items) => format!("{items:?}"),
        });
        let all = |word: &str| questions.iter().all(|question| question.answer == word);
        // Whoever may read needs no permission to read a redacted form.
        let reads = questions.iter().any(|question| question.answer == "yes" && question.action.ends_with("::\"read\""));
        let needed = |question: &&Question| !(reads && question.action.ends_with("::\"redacted_read\""));
        // The change that a function is there for (`rm`: delete, `mv`: move, `write`: write) is asked in any case; what comes after it may not be.
        let change = |ask: &&Ask| ask.access == Access::Change && ask.name != "create";
        let always = function.asks.first().filter(change).and(questions.first()).filter(|question| !question.on.is_empty());
        let answer = match questions.len() {
            0 => "nothing",
            _ if all("no") || always.is_some_and(|question| question.answer == "no") => "no",
            _ if questions.iter().filter(needed).all(|question| question.answer == "yes") => "yes",
            _ if questions.iter().any(|question| question.on.is_empty()) => "unknown",
            _ => "depends",
        };
        Self { function, line: site.line, column: site.column, shown, questions, answer }
    }

    fn text(&self) -> String {
        let call = format!("{}({})", self.function.name, self.shown.as_deref().unwrap_or("…"));
        let place = format!("{}:{}", self.line, self.column);
        if self.questions.is_empty() {
            return format!("{place}: {call} asks nothing\n");
        }
        let answer = match self.answer {
            "unknown" => "not known before it runs",
            answer => answer,
        };
        let mut text = format!("{place}: {call}: {answer}\n");
        for question in &self.questions {
            let on = if question.on.is_empty() { String::new() } else { format!(" on {}", question.on.join(", ")) };
            let answer = match question.answer {
                "some" => "on some things",
                answer => answer,
            };
            let depends = if question.depends.is_empty() { String::new() } else { format!(", on {}", question.depends.join(" and ")) };
            text.push_str(&format!("  asks {}{on}: {answer}{depends}\n", question.action));
        }
        text
    }

    fn value(&self) -> Value {
        let question = |question: &Question| json!({"action": question.action, "resources": question.on, "answer": question.answer, "depends_on": question.depends});
        json!({
            "function": self.function.name,
            "at": {"line": self.line, "column": self.column},
            "answer": self.answer,
            "asks": self.questions.iter().map(question).collect::<Vec<_>>(),
        })
    }
}

fn question(gate: &Gate, lines: &[Line], site: &Site, ask: &Ask) -> Question {
    let on = things(site, ask);
    let action = action_text(ask);
    if on.is_empty() {
        return Question { action, on, answer: in_general(lines, ask), depends: Vec::new() };
    }
    let nouns = nouns(site.function, ask);
    let mut depends = Vec::new();
    let (mut yes, mut no) = (0, 0);
    for id in &on {
        let answers: Vec<Answer> = nouns.iter().map(|noun| gate.would_ask(ask, needs_open(ask), noun, id)).collect();
        if answers.iter().all(|answer| *answer == Answer::Yes) {
            yes += 1;
        } else if answers.iter().all(|answer| matches!(answer, Answer::No(_))) {
            no += 1;
        } else {
            let on: Vec<String> = answers.into_iter().flat_map(|answer| answer_words(answer).1).collect();
            depends.extend(if on.is_empty() { vec!["whether it is a file or a directory".to_owned()] } else { on });
        }
    }
    depends.sort();
    depends.dedup();
    // All things of one call are needed: one that is denied denies it.
    let answer = match (yes, no) {
        (_, no) if no > 0 => "no",
        (yes, _) if yes == on.len() => "yes",
        _ => "depends",
    };
    let on = on.into_iter().map(|id| format!("{id:?}")).collect();
    Question { action, on, answer, depends: if answer == "depends" { depends } else { Vec::new() } }
}

/// The entity types that the thing may turn out to be.
fn nouns(function: &Function, ask: &Ask) -> Vec<&'static Noun> {
    let files_only = function.fails.contains(&Kind::IsADirectory) && !function.fails.contains(&Kind::NotADirectory);
    let folders_only = function.fails.contains(&Kind::NotADirectory) && !function.fails.contains(&Kind::IsADirectory);
    let fits = |noun: &&Noun| {
        ask.applies_to.contains(&noun.name)
            && !(files_only && noun.name == "file_system::Dir")
            && !(folders_only && noun.name == "file_system::File")
    };
    ask.nouns.iter().filter(fits).collect()
}

/// What a call asks this verb of, where its arguments are known; nothing where they are not.
fn things(site: &Site, ask: &Ask) -> Vec<String> {
    let params = site.function.body.params();
    if ask.namespace == "systemd" && ask.applies_to.contains(&"systemd::Service") {
        let named = params.first().is_some_and(|param| param.name == "name");
        return match site.arguments.first() {
            Some(Some(Known::Text(name))) if named => vec![if name.contains('.') { name.clone() } else { format!("{name}.service") }],
            _ => Vec::new(),
        };
    }
    if ask.namespace != "file_system" {
        return Vec::new();
    }
    let paths: Vec<usize> = params
        .iter()
        .enumerate()
        .filter(|(_, param)| param.kind.contains("absolute path") || matches!(param.name, "path" | "paths"))
        .map(|(at, _)| at)
        .collect();
    // Of two paths the first is what is there and the last what is made; who asks what else of which is the function's own business.
    let at = match paths.as_slice() {
        [] => return Vec::new(),
        [only] => *only,
        [first, .., last] => match (ask.access, ask.name) {
            (Access::ReadOnly, _) | (_, "move") => *first,
            (_, "create" | "write") => *last,
            _ => return Vec::new(),
        },
    };
    let given = match site.arguments.get(at) {
        Some(Some(Known::Text(text))) => std::slice::from_ref(text),
        Some(Some(Known::List(items))) => items.as_slice(),
        _ => return Vec::new(),
    };
    given.iter().map(|text| id(text)).collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// A path as policies name it; none where it leads elsewhere than it says, or is none.
fn id(text: &str) -> Option<String> {
    let path = AbsPath::new(text.as_bytes()).ok()?;
    let plain = text == "/" || text.split('/').skip(1).all(|name| !matches!(name, "" | "." | ".."));
    plain.then(|| crate::resource::path::to_id(path.as_bytes()))
}
