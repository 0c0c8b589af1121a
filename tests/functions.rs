//! Every function of the table, tried: its examples give what they say, are denied without a permit, and need every verb they declare.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "functions/rules.rs"]
mod rules;
#[path = "functions/run.rs"]
mod run;
#[path = "common/server.rs"]
mod server;

use libtest_mimic::{Arguments, Failed, Trial};
use rexsh::error::Kind;
use rexsh::functions::function::{Example, Function};
use rexsh::functions::manual::action;
use rexsh::policy::{Access, Ask};
use run::{Host, Run};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

const ALLOW_ALL: &str = "permit(principal, action, resource);\n";
/// What is seen of files then is redacted.
const READ_FORBIDDEN: &str =
    "permit(principal, action, resource);\nforbid(principal, action == file_system::Action::\"read\", resource);\n";
/// The verb that only counts where `read` is denied.
const REDACTED: &str = "file_system::Action::\"redacted_read\"";
const READ: &str = "file_system::Action::\"read\"";

/// A policy that permits something else. (Without any policy rex does not start at all.)
const ALLOW_NOTHING_HERE: &str =
    "permit(principal, action == file_system::Action::\"read\", resource == file_system::File::\"/nowhere/nothing\");\n";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = rules::trials();
    trials.extend(rexsh::functions::all().flat_map(trials_of));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A function with what its examples did when everything was permitted.
struct Subject {
    function: &'static Function,
    observed: OnceLock<Vec<Observed>>,
}

struct Observed {
    example: &'static Example,
    run: Run,
    /// The verbs that this function asked for.
    asked: BTreeSet<String>,
}

fn trials_of(function: &'static Function) -> Vec<Trial> {
    let subject = Arc::new(Subject { function, observed: OnceLock::new() });
    let trial = |name: String, test: fn(&Subject) -> Result<(), String>| {
        let subject = Arc::clone(&subject);
        Trial::test(format!("{}::{name}", subject.function.name), move || test(&subject).map_err(Failed::from))
    };
    let mut trials = vec![trial("gives_what_its_examples_say".to_owned(), gives_what_its_examples_say)];
    if function.asks.is_empty() {
        trials.push(trial("asks_for_nothing".to_owned(), asks_for_nothing));
        return trials;
    }
    trials.push(trial("asks_for_all_it_declares".to_owned(), asks_for_all_it_declares));
    trials
        .push(trial("gives_the_same_where_no_more_than_that_is_permitted".to_owned(), gives_the_same_where_no_more_than_that_is_permitted));
    trials.push(trial("is_denied_without_a_permit".to_owned(), is_denied_without_a_permit));
    if function.asks.iter().any(|ask| ask.access == Access::Change) {
        trials.push(trial("changes_nothing_in_a_dry_run".to_owned(), changes_nothing_in_a_dry_run));
    }
    for ask in function.asks {
        if action(ask) == REDACTED {
            trials.push(trial("shows_redacted_text_where_read_is_forbidden".to_owned(), shows_redacted_text_where_read_is_forbidden));
            continue;
        }
        let subject = Arc::clone(&subject);
        let name = format!("{}::does_not_happen_when_only_{}_{}_is_forbidden", function.name, ask.namespace, ask.name);
        trials.push(Trial::test(name, move || does_not_happen_when_one_verb_is_forbidden(&subject, ask).map_err(Failed::from)));
    }
    trials
}

/// Runs a script of an example under a policy.
fn observe(function: &'static Function, policy: &str, example: &'static Example, script: &str) -> Observed {
    let run = Host::new(policy, example).run(script);
    let own = |record: &&serde_json::Value| record["function"] == function.name;
    let mut asked: BTreeSet<String> = run.events("decision").filter(own).map(|record| text(&record["action"])).collect();
    asked.extend(run.events("walk_summary").filter(|walk| walk["allowed"].as_u64() > Some(0)).map(|walk| text(&walk["action"])));
    Observed { example, run, asked }
}

impl Subject {
    /// The examples under a policy that permits everything. Run once, however many tests look at the result.
    fn observed(&self) -> &[Observed] {
        self.observed.get_or_init(|| {
            self.function.examples.iter().map(|example| observe(self.function, ALLOW_ALL, example, &with_expectation(example))).collect()
        })
    }
    /// Whether this host lacks what the example is about, which its function says can be.
    fn is_lacking(&self, example: &Example, run: &Run) -> bool {
        let lacks = |kind: Kind| self.function.fails.contains(&kind) && run.kind() == kind.name();
        // What an unprivileged user may not see is no reason to give another value than promised.
        lacks(Kind::Unsupported) || (example.gives.is_empty() && lacks(Kind::Permission))
    }
    /// What is tried where it has to be denied: examples that ask for what `asks` tells, or would if the host had it.
    fn to_be_denied(&self, asks: impl Fn(&Observed) -> bool) -> Result<Vec<&'static Example>, String> {
        let observed = self.observed().iter().filter(|observed| asks(observed) || self.is_lacking(observed.example, &observed.run));
        let examples: Vec<&'static Example> = observed.map(|observed| observed.example).collect();
        if examples.is_empty() { Err("no example asks for it, so nothing shows that it can be denied".to_owned()) } else { Ok(examples) }
    }
    /// Whether the manual says what happens to things of which a verb is denied, as for `ls`, which then shows less of an entry.
    fn tolerates_denials(&self) -> bool {
        let options = self.function.options().unwrap_or(&[]);
        self.function.doc.contains("denied") || options.iter().any(|option| option.doc.contains("denied"))
    }
}

/// The example's script; with its expected value beside it, where it has one.
fn with_expectation(example: &Example) -> String {
    if example.gives.is_empty() {
        return example.script.to_owned();
    }
    format!("let example_value = {{\n{}\n}};\n[example_value, {}]", example.script, example.gives)
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

/// Whether the script is one expression, so that nothing of it may have happened before a denial.
fn is_one_step(example: &Example) -> bool {
    !example.script.contains([';', '\n'])
}

fn gives_what_its_examples_say(subject: &Subject) -> Result<(), String> {
    for observed in subject.observed() {
        let (example, run) = (observed.example, &observed.run);
        if subject.is_lacking(example, run) {
            continue;
        }
        if run.code != 0 {
            return Err(format!("the example fails: {}\n{run}", example.script));
        }
        if !example.gives.is_empty() {
            let value = run.value();
            if value[0] != value[1] {
                return Err(format!("{}\ngives {}\ninstead of {} ({})", example.script, value[0], value[1], example.gives));
            }
        }
    }
    Ok(())
}

/// The kernel's fence follows from the policy: with the narrowest that permits the example, it is at its tightest, and everything has to go on as before.
fn gives_the_same_where_no_more_than_that_is_permitted(subject: &Subject) -> Result<(), String> {
    for observed in subject.observed() {
        let (example, before) = (observed.example, &observed.run);
        if subject.is_lacking(example, before) || before.code != 0 {
            continue;
        }
        let host = Host::new(ALLOW_NOTHING_HERE, example);
        let (mut policy, data) = (narrowest(before, &host.data()), host.data());
        let mut run = Run { code: 77, ..Run::default() };
        // What fails otherwise when all is permitted can be denied first when it is not: then that is permitted as well.
        for _ in 0..6 {
            host.set_policy(&policy);
            run = host.run(&with_expectation(example));
            let denied = text(&run.json()["error"]["action"]);
            if run.code != 77 || denied.is_empty() {
                break;
            }
            policy.push_str(&format!("permit(principal, action == {denied}, resource in file_system::Dir::\"{data}\");\n"));
        }
        if run.code != 0 {
            return Err(format!("fails where only what it needs is permitted: {}\n{policy}\n{run}", example.script));
        }
        if !example.gives.is_empty() && run.value()[0] != run.value()[1] {
            return Err(format!("{}\ngives {}\ninstead of {} ({})", example.script, run.value()[0], run.value()[1], example.gives));
        }
    }
    Ok(())
}

/// Permits for what a run was allowed, and no more: files in the example's folder by that folder, others one by one, everything else by its kind.
fn narrowest(run: &Run, folder: &str) -> String {
    let mut permits = BTreeSet::from([ALLOW_NOTHING_HERE.to_owned()]);
    let allowed = run.events("decision").filter(|record| record["decision"] == "allow").chain(run.events("walk_summary"));
    for record in allowed {
        let (action, resource) = (text(&record["action"]), text(&record["resource"]));
        let permit = match resource.split_once("::\"").map(|(kind, id)| (kind, id.trim_end_matches('"'))) {
            // The folder of the run before had another name; below it all was given as it is now.
            Some((kind, id)) if kind.starts_with("file_system::") => match id.split_once("/data") {
                Some((before, _)) if before.contains("/target/tmp/") => format!("resource in file_system::Dir::\"{folder}\""),
                // What a walk from elsewhere came to is not on record one by one.
                _ if record["event"] == "walk_summary" => "true".to_owned(),
                _ => format!("resource in file_system::Dir::\"{id}\" || resource == file_system::File::\"{id}\""),
            },
            Some((kind, _)) => format!("resource is {kind}"),
            None => "true".to_owned(),
        };
        permits.insert(format!("permit(principal, action == {action}, resource) when {{ {permit} }};\n"));
    }
    if permits.iter().any(|permit| permit.contains("Action::\"execute\"")) {
        // A program stays within what the run may do, and those of the examples look at the folder.
        permits.insert(format!("permit(principal, action == {READ}, resource in file_system::Dir::\"{folder}\");\n"));
    }
    permits.into_iter().collect()
}

fn asks_for_nothing(subject: &Subject) -> Result<(), String> {
    for observed in subject.observed() {
        if !observed.asked.is_empty() {
            return Err(format!("asks for {:?} without having declared it: {}", observed.asked, observed.example.script));
        }
    }
    Ok(())
}

fn asks_for_all_it_declares(subject: &Subject) -> Result<(), String> {
    if subject.observed().iter().any(|observed| subject.is_lacking(observed.example, &observed.run)) {
        return Ok(());
    }
    for ask in subject.function.asks.iter().filter(|ask| action(ask) != REDACTED) {
        if !subject.observed().iter().any(|observed| observed.asked.contains(&action(ask))) {
            return Err(format!("declares {} but no example asks for it: add an example that does, or take it out of `asks`", action(ask)));
        }
    }
    Ok(())
}

/// With `read` forbidden and no dictionary, every line of every file is `[REDACTED]`: nothing of a file comes out, in results or in errors.
fn shows_redacted_text_where_read_is_forbidden(subject: &Subject) -> Result<(), String> {
    let mut asked = false;
    for example in subject.function.examples {
        let Observed { run, asked: verbs, .. } = observe(subject.function, READ_FORBIDDEN, example, example.script);
        asked |= verbs.contains(REDACTED);
        let secrets = example.given.iter().flat_map(|(_, content)| content.lines()).filter(|line| line.len() > 1);
        for secret in secrets.filter(|line| !example.script.contains(line)) {
            if run.stdout.contains(secret) || run.stderr.contains(secret) {
                return Err(format!("{secret:?} is seen though `read` is forbidden: {}\n{run}", example.script));
            }
        }
    }
    if asked { Ok(()) } else { Err("with `read` forbidden, no example asks for `redacted_read`".to_owned()) }
}

fn is_denied_without_a_permit(subject: &Subject) -> Result<(), String> {
    for example in subject.to_be_denied(|observed| !observed.asked.is_empty())? {
        let host = Host::new(ALLOW_NOTHING_HERE, example);
        let before = host.snapshot();
        let run = host.run(example.script);
        let wrong = |what: &str| Err(format!("{what}: {}\n{run}", example.script));
        if subject.is_lacking(example, &run) && run.events("decision").next().is_none() {
            continue;
        }
        if run.code != 77 || run.error_type() != "ACCESS_DENIED_EXCEPTION" {
            return wrong("is not denied");
        }
        if !run.events("decision").any(|record| record["decision"] == "deny") {
            return wrong("the denial is not on record");
        }
        if run.events("decision").any(|record| record["decision"] == "allow") {
            return wrong("something was allowed");
        }
        if let Some(difference) = before.difference(&host.snapshot()) {
            return wrong(&format!("denied, yet {difference}"));
        }
    }
    Ok(())
}

/// With everything permitted, a dry run asks, has the decision on record, tells what it would change, and changes nothing. That the kernel had to
/// refuse something would show in the error.
fn changes_nothing_in_a_dry_run(subject: &Subject) -> Result<(), String> {
    let changing: Vec<String> = subject.function.asks.iter().filter(|ask| ask.access == Access::Change).map(action).collect();
    let mut withheld = 0;
    for observed in subject.observed() {
        let example = observed.example;
        let host = Host::new(ALLOW_ALL, example);
        let before = host.snapshot();
        let run = host.run_with(example.script, &["--dry-run"]);
        let wrong = |what: &str| Err(format!("{what}: {}\n{run}", example.script));
        if let Some(difference) = before.difference(&host.snapshot()) {
            return wrong(&format!("a dry run, yet {difference}"));
        }
        if run.json()["dry_run"] != true {
            return wrong("the result does not say that it was a dry run");
        }
        if ["permission", "io", "denied", "internal", "dry_run", "layer"].contains(&run.kind().as_str()) {
            return wrong("something else than the gate held it back");
        }
        let changes = |record: &&serde_json::Value| changing.contains(&text(&record["action"]));
        let asked = run.events("decision").filter(changes).any(|record| record["dry_run"] == true && record["decision"] == "allow")
            || run.events("walk_summary").any(|record| changing.contains(&text(&record["action"])));
        let told = run.json()["would_change_count"].as_u64() > Some(0);
        // An example about something that goes wrong has nothing to withhold.
        let done = observed.run.events("effect").any(|record| record["result"] == "ok");
        withheld += u64::from(asked && (told || !done));
        if run.events("decision").filter(changes).any(|record| record["dry_run"] != true) {
            return wrong("a decision does not say that it is of a dry run");
        }
        if run.events("effect").any(|record| record["result"] == "ok") {
            return wrong("something was done");
        }
        // A first step that changes is withheld for certain; what follows may have nothing left to change.
        if is_one_step(example) && observed.run.code == 0 && changing.iter().any(|action| observed.asked.contains(action)) && !asked {
            return wrong("the decision is not on record");
        }
    }
    let lacking = subject.observed().iter().any(|observed| subject.is_lacking(observed.example, &observed.run));
    if withheld == 0 && !lacking { Err("no example has a change that a dry run withholds".to_owned()) } else { Ok(()) }
}

fn does_not_happen_when_one_verb_is_forbidden(subject: &Subject, ask: &Ask) -> Result<(), String> {
    let forbidden = action(ask);
    let mut policy = format!("{ALLOW_ALL}forbid(principal, action == {forbidden}, resource);\n");
    if forbidden == READ && subject.function.asks.iter().any(|ask| action(ask) == REDACTED) {
        policy.push_str(&format!("forbid(principal, action == {REDACTED}, resource);\n"));
    }
    let mut denials = 0;
    for example in subject.to_be_denied(|observed| observed.asked.contains(&forbidden))? {
        let host = Host::new(&policy, example);
        let before = host.snapshot();
        let run = host.run(example.script);
        let wrong = |what: &str| Err(format!("with {forbidden} forbidden, {what}: {}\n{run}", example.script));
        let of_this = |record: &&serde_json::Value| text(&record["action"]) == forbidden;
        let in_walk = run.events("walk_summary").filter(of_this).any(|walk| walk["allowed"].as_u64() > Some(0));
        if in_walk || run.events("decision").filter(of_this).any(|record| record["decision"] == "allow") {
            return wrong("it was allowed");
        }
        if subject.is_lacking(example, &run) {
            denials += 1;
            continue;
        }
        let recorded = run.events("decision").filter(of_this).any(|record| record["decision"] == "deny");
        denials += usize::from(recorded);
        let denied = run.code == 77 && run.json()["error"]["action"] == forbidden;
        // To leave out what may not be looked at is fair where the manual says so; to change things is not.
        if !denied && (ask.access == Access::Change || !subject.tolerates_denials()) {
            return wrong("the call is not denied (a function that goes on without it says `denied` in its doc)");
        }
        if denied && !recorded {
            return wrong("the denial is not on record");
        }
        if denied
            && is_one_step(example)
            && let Some(difference) = before.difference(&host.snapshot())
        {
            return wrong(&format!("the call is denied, yet {difference}"));
        }
    }
    // What can be left out silently (an entry's details in a listing) has to be refused aloud at least once.
    if denials == 0 { Err(format!("with {forbidden} forbidden, no example leaves a denial on record")) } else { Ok(()) }
}
