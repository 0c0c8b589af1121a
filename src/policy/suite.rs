//! Tests of policies: what `*.test.toml` files and `@test` annotations say, and what becomes of it when the very code that enforces is asked.
//!
//! # The format
//!
//! `NAME.test.toml` lies in the folder of the policies. A test is a question (who, does what, to what, in which circumstances) and the answer that
//! the policies must give. Nothing on the host is looked at: a test says all that the rules in question look at, and one that does not fails.
//!
//! ```toml
//! # The files of this folder that are loaded for these tests. Without it: every *.cedar file of the folder.
//! policies = ["log-reader.cedar"]
//! # "implied" or "explicit"; without it as rex.toml says.
//! open = "implied"
//!
//! # Who is who in this file: groups alone, or groups and attributes of User.
//! [principals]
//! lena = ["log-readers"]
//! robot = { groups = ["agents"], agent = "planner", uid = 1500 }
//!
//! # What every test of the file says unless it says otherwise: any key of a test but `name`.
//! [defaults]
//! now = 2026-12-01T23:00:00Z
//!
//! # One line each. The question: PRINCIPAL [in GROUP,GROUP] ACTION RESOURCE [NAME=VALUE …] [missing] [-- ARGUMENT …]
//! # The answer: allow [by ID], or deny [WHY] [by ID].
//! [lines]
//! "lena read /var/log/syslog" = "allow by log-reader-files"
//! "lena read /var/log/auth.log" = "deny forbidden by log-reader-no-logins"
//! "bob in oncall,dba restart nginx.service session.runbook=restart" = "allow"
//! "bob execute /usr/bin/df -- -h" = "deny not_permitted"
//! "bob read /srv/app/x resource.owner=app resource.size=10 client_address=192.0.2.7" = "deny"
//!
//! # A table: principal, action and resource may be lists; every combination is a test.
//! [[test]]
//! name = "logs are open"
//! principal = "lena"
//! groups = ["log-readers"]                     # adds to those of [principals]
//! principal_has = { agent = "planner" }        # attributes of User; the same
//! action = ["read", "stat"]
//! resource = ["/var/log/syslog", "/var/log/nginx/", 'journal::Log::"nginx.service"']
//! missing = false                              # true: nothing is there (yet), so it has no attributes but those of its name
//! resource_has = { owner = "root", mode = 0o640, size = 100 }
//! context = { mode = 0o4755 }                  # the verb's own circumstances, see below
//! session = { mode = "serve", runbook = "restart", layers = ["landlock"], host = "web1" }
//! now = 2026-12-01T23:00:00Z                   # context.session.now
//! client_address = "192.0.2.7"                 # of the principal and of the session
//! open = "explicit"
//! expect = "allow"                             # or "deny"; the one key that must be there
//! by = "log-reader-files"                      # this rule is among those that decided; a list: these and no others did
//! # of a denial also: why, hint (what the caller is told, whole; "" for none), retry
//! ```
//!
//! *Actions* are words (`read`), with their namespace where the word alone is not clear (`systemd::list`), or Cedar notation.
//! *Resources*: a path is a file, with `/` at its end a folder; `nginx.service` a unit or, for `journal::read`, its log (`system`, `kernel`); a
//! number is a process, another word a package, container or probe; `local` is this machine, or what manages services, packages, containers or probes; anything may be in Cedar notation. Paths are canonical, as policies see them.
//! *Why*: `forbidden`, `not_permitted`, `condition_failed`, `policy_error`, or `closed` for a place that no policy opens.
//! *Context*: `argv = ["-h", ["--name", "value"]]` gives `argv`, `argc` and `arguments`; `environment = { LANG = "C" }`; what is not given is as
//! `exec` has it: no environment, no capability, no input, `cwd` is `/`, `argv0` the path, `user` the principal's. `mode` gives the flags of `chmod`.
//! `destination = "/path"` and `xattr = "user.x"` are enough for `move` and `set_x_attr`. Of a journal `priority` is 7, `fields` are none, `all_fields` is false.
//! *Session*: `mode` is `session`, `interactive` is false; what else is not given is absent.
//!
//! `@test("lena in log-readers read /var/log/syslog = allow")` stands at a rule; `;` separates several. It is in the form of a line, and where it
//! says `allow` of a permit, or `deny` of a forbid, it means by this rule.

mod circumstances;
mod draft;
mod file;
mod line;
mod run;
mod values;
mod vocabulary;

pub use run::{Bench, ClosedPlaces};
pub use vocabulary::Vocabulary;

use super::gate::{Open, Principal};
use super::load::{self, Source};
use super::pointed::{pointed, position};
use super::words::{Ask, Noun, Value};
use crate::error::{Error, Kind, Result};
use draft::Draft;
use std::collections::{BTreeMap, HashMap};

/// Faults that one message shows at most.
const SHOWN: usize = 20;

/// One question with the answer it must have.
#[derive(Clone, Debug)]
pub struct Case {
    pub file: String,
    pub line: usize,
    /// What the file calls it, or the question itself.
    pub name: String,
    /// Files of its folder that are loaded for it; None: all policies.
    policies: Option<Vec<String>>,
    open: Option<Open>,
    principal: Principal,
    session: Vec<(&'static str, Value)>,
    /// Milliseconds since the epoch.
    now: Option<i64>,
    ask: Ask,
    noun: &'static Noun,
    id: String,
    missing: bool,
    resource_has: Vec<(&'static str, Value)>,
    context: Vec<(&'static str, Value)>,
    expect: Expect,
}

/// The answer that a test demands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    pub allow: bool,
    pub by: Option<Vec<String>>,
    by_exactly: bool,
    pub why: Option<String>,
    pub hint: Option<String>,
    pub retry: Option<bool>,
}

/// What became of one test.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub file: String,
    pub line: usize,
    pub name: String,
    pub expect: Expect,
    /// What the policies say.
    pub allowed: bool,
    /// Why not, in the words of `why`.
    pub why: Option<&'static str>,
    /// The rules that decided.
    pub by: Vec<String>,
    /// What a caller would be told.
    pub hint: Option<String>,
    /// What differs from what is expected; empty: the test passed.
    pub wrong: Vec<String>,
    /// Whether the test told enough for an answer.
    pub told: bool,
    /// What helps to find out why.
    pub details: Vec<String>,
    /// Permits that concern it and whose condition does not hold, with the part that is false.
    pub unmet: BTreeMap<String, String>,
}

impl Outcome {
    #[must_use]
    pub fn passed(&self) -> bool {
        self.wrong.is_empty()
    }
    /// What the policies say, in the form of a line.
    #[must_use]
    pub fn actual(&self) -> String {
        answer(self.allowed, self.why, &self.by)
    }
}

/// A rule that no test decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    pub policy: String,
    pub file: String,
    pub line: u32,
}

/// What became of all tests.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub outcomes: Vec<Outcome>,
    /// Rules that no test decides, in the order of the text.
    pub undecided: Vec<Undecided>,
    /// Rules in all.
    pub rules: usize,
}

/// `allow by a, b`, `deny forbidden by c`.
fn answer(allowed: bool, why: Option<&str>, by: &[String]) -> String {
    let mut text = if allowed { "allow".to_owned() } else { "deny".to_owned() };
    if let Some(why) = why {
        text.push(' ');
        text.push_str(why);
    }
    if !by.is_empty() {
        text.push_str(" by ");
        text.push_str(&by.join(", "));
    }
    text
}

/// Reads tests: those of the files, and those that annotations of the policies hold.
///
/// # Errors
/// [`Kind::Config`] with every fault at its place (at most 20 are shown); also when a policy is not Cedar.
pub fn read(tests: &[Source], policies: &[Source], vocabulary: &Vocabulary) -> Result<Vec<Case>> {
    let mut faults = Vec::new();
    let mut cases = Vec::new();
    for source in tests {
        let made = file::read(source, vocabulary, &mut faults);
        for case in &made {
            let present = |name: &String| {
                policies.iter().any(|policy| {
                    policy.name.rsplit_once('/').map_or((policy.name.as_str(), ""), |(folder, leaf)| (leaf, folder))
                        == (name.as_str(), source.name.rsplit_once('/').map_or("", |(folder, _)| folder))
                })
            };
            if let Some(absent) = case.policies.iter().flatten().find(|name| !present(name)) {
                let place = source.text.find(absent.as_str()).unwrap_or(0);
                faults.push(pointed(&source.name, &source.text, place, &format!("there is no `{absent}` among the policies")));
                break;
            }
        }
        cases.extend(made);
    }
    for rule in load::written(policies)? {
        let Some(source) = policies.iter().find(|source| source.name == rule.file) else { continue };
        let Some((place, text)) = &rule.tests else { continue };
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match annotation(part, *place, &rule, vocabulary) {
                Ok(made) => cases.extend(made.into_iter().map(|case| Case {
                    file: source.name.clone(),
                    line: position(&source.text, *place).0,
                    ..case
                })),
                Err((place, wrong)) => faults.push(pointed(&source.name, &source.text, place, &wrong)),
            }
        }
    }
    if faults.is_empty() {
        return Ok(cases);
    }
    let count = faults.len();
    faults.truncate(SHOWN);
    if count > SHOWN {
        faults.push(format!("… and {} more", count - SHOWN));
    }
    let head = if count == 1 { "the tests are invalid: 1 fault".to_owned() } else { format!("the tests are invalid: {count} faults") };
    Err(Error::new(Kind::Config, format!("{head}\n{}", faults.join("\n"))))
}

/// One test of `@test`. Where it is about what the rule does, it means by this rule.
fn annotation(text: &str, place: usize, rule: &load::Written, vocabulary: &Vocabulary) -> std::result::Result<Vec<Case>, draft::Fault> {
    let form = || (place, "`@test` is QUESTION = ANSWER, e.g. \"alice read /etc/motd = allow\"; `;` separates several".to_owned());
    let (question, answer) = text.rsplit_once(" = ").ok_or_else(form)?;
    let mut draft = line::question(question.trim(), place, &Draft::default())?;
    line::answer(answer, place, &mut draft)?;
    if draft.allow == Some(rule.permit) && draft.by.is_none() && draft.why.is_none() {
        draft.by = Some(vec![rule.name.clone()]);
    }
    draft.cases(&HashMap::new(), vocabulary)
}

/// What is wrong with the `@test` of a rule, each part of it.
pub(super) fn faults_of_annotation(name: &str, permit: bool, text: &str, vocabulary: &Vocabulary) -> Vec<String> {
    let rule = load::Written { name: name.to_owned(), permit, file: String::new(), line: 0, tests: None };
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    parts.filter_map(|part| annotation(part, 0, &rule, vocabulary).err()).map(|(_, wrong)| wrong).collect()
}

/// Runs tests against policies.
///
/// # Errors
/// [`Kind::Config`] as [`super::Policies::load`].
pub fn run(cases: &[Case], policies: &[Source], bench: &Bench<'_>) -> Result<Report> {
    run::run(cases, policies, bench)
}
