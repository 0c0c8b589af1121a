//! `rex setup`: makes a host ready for rex, in steps that are shown, asked for, written down, tried, and taken back when one of them fails.
#![forbid(unsafe_code)]

mod accounts;
mod facts;
mod journal;
pub mod lockout;
mod plan;
mod rights;
mod step;
pub mod texts;
mod verify;
pub mod wanted;

pub use journal::{Applied, Journal, Phase};
pub use plan::Plan;
pub use step::{Step, Undone};
pub use wanted::{Flavour, Wanted, Words};

use crate::error::{Error, Kind, Result};
use crate::os::trusted::Owner;
use crate::policy::{Policies, Scope, Source};
use crate::terms::OwnersFiles;
use facts::Facts;
use lockout::Operator;
use rights::Needs;
use std::collections::BTreeSet;
use std::path::Path;
use verify::{Door, TryKey};

const PROGRAM: &str = "/usr/bin/rex";
const SHELL: &str = "/usr/bin/rexsh";
const SHELLS: &str = "/etc/shells";
const GROUP: &str = crate::os::shared::GROUP;
const HOME: &str = "/home";
const REX_TOML: &str = crate::terms::CONFIG;
const PRINCIPALS_TOML: &str = "/etc/rex/principals.toml";
const POLICIES: &str = "/etc/rex/policies";
const KEYS: &str = "/etc/rex/keys";
const SERVE_KEYS: &str = "/etc/rex/authorized_keys";
const AUDIT_FILE: &str = "/var/log/rex/rex.jsonl";
const HOST_KEY: &str = "/var/lib/rex/host_key";
const TMPFILES: &str = "/etc/tmpfiles.d/rex.conf";
const TMPFILES_OF_PACKAGE: &str = "/usr/lib/tmpfiles.d/rex.conf";
const UNIT: &str = "/etc/systemd/system/rex.service";
const PAM: &str = "/etc/pam.d/sshd";
const RULES: &str = "/etc/polkit-1/rules.d";
/// Root's way in has a file of its own: it can be there without any account of the group, and go without them.
const ROOT_DROP_IN: &str = "/etc/ssh/sshd_config.d/rex-root.conf";

/// What is going to be done, and what it rests on.
pub struct Prepared {
    pub plan: Plan,
    wanted: Wanted,
    facts: Facts,
    operators: Vec<Operator>,
}

impl Prepared {
    /// What a client types now.
    #[must_use]
    pub fn next_words(&self) -> String {
        let account = &self.wanted.account;
        match self.wanted.flavour {
            Flavour::Serve => format!("  ssh -p 2222 {account}@HOST rex < script.rhai\n"),
            Flavour::Subsystem => format!("  ssh {account}@HOST rex < script.rhai\n  ssh -s {account}@HOST rex < script.rhai\n"),
            _ => format!("  ssh {account}@HOST rex < script.rhai\n"),
        }
    }
}

/// Makes the plan. Nothing is changed.
///
/// # Errors
/// What is wanted does not fit this host; each error says what to do. [`Kind::Config`] also when somebody who is at work here would be locked out, unless
/// `even_me`.
pub fn prepare(wanted: Wanted, operators: Vec<Operator>, even_me: bool) -> Result<Prepared> {
    let needs = needs(&wanted)?;
    let facts = Facts::gather(&wanted, needs)?;
    let plan = plan::plan(&wanted, &facts)?;
    if !even_me && !plan.steps.is_empty() {
        lockout::spare(&operators, &plan.held)?;
    }
    Ok(Prepared { plan, wanted, facts, operators })
}

/// What the policies that will be there need of the host for this principal; they are validated with it.
fn needs(wanted: &Wanted) -> Result<Needs> {
    let files = OwnersFiles::new(None, Owner::RootOnly);
    let mut sources = if Path::new(POLICIES).is_dir() {
        match files.policies() {
            Err(error) if error.message.starts_with("no policy at all") => Vec::new(),
            sources => sources?,
        }
    } else {
        Vec::new()
    };
    for policy in &wanted.policies {
        let name = format!("{POLICIES}/{}.cedar", policy.name);
        if !sources.iter().any(|source| source.name == name) {
            sources.push(Source { name, text: policy.text.clone() });
        }
    }
    let scope = Scope { name: wanted.principal.clone(), groups: wanted.groups.clone() };
    Policies::load(&sources, &crate::terms::schema(), &scope, None).map(|policies| Needs::of(&policies))
}

/// Does it: each step is written down first; then everything is tried. When anything fails, all of it is taken back.
///
/// # Errors
/// What failed; its hint says when something could not be taken back.
pub fn apply(prepared: &Prepared, tell: &mut dyn FnMut(&str)) -> Result<()> {
    verify::candidate(&prepared.plan.steps, &prepared.facts)?;
    let mut journal = Journal::hold()?;
    journal.begin(prepared.wanted.flavour.word())?;
    let mut reloaded = false;
    match carry_out(prepared, &mut journal, &mut reloaded, tell).and_then(|()| journal.mark(Phase::Complete)) {
        Ok(()) => Ok(()),
        Err(error) => {
            tell(&format!("it failed ({error}); what was done is taken back:"));
            match take_back(&mut journal, reloaded, tell) {
                Ok(()) => Err(error),
                Err(second) => {
                    let hint = format!("not all could be taken back ({second}); `rex setup --remove` goes on with that");
                    Err(Error { hint: Some(error.hint.iter().cloned().chain([hint]).collect::<Vec<_>>().join("; ")), ..error })
                }
            }
        }
    }
}

fn carry_out(prepared: &Prepared, journal: &mut Journal, reloaded: &mut bool, tell: &mut dyn FnMut(&str)) -> Result<()> {
    let Prepared { plan, wanted, operators, .. } = prepared;
    let ssh = wanted.flavour != Flavour::Serve;
    let at_work: Vec<String> = operators.iter().map(|operator| operator.name.clone()).filter(|name| !plan.held.contains(name)).collect();
    let before = if ssh { verify::of_accounts(&at_work)? } else { Vec::new() };
    for step in &plan.steps {
        journal.apply(step)?;
        tell(&format!("done: {}", step.describe()));
    }
    if ssh {
        verify::valid()?;
        plan.checks.iter().try_for_each(verify::holds)?;
        // These are for every account of the host, and shown in the plan.
        verify::spared(&before, &["permituserenvironment", "subsystem"])?;
        tell("sshd's configuration is valid, says what it should, and nothing changed for those at work here");
        tries(plan, journal, Door::Beside, tell)?;
    }
    let sockets = if ssh { verify::sockets()? } else { BTreeSet::new() };
    let asked = plan.steps.iter().any(Step::concerns_sshd);
    if asked {
        *reloaded = true;
        tell(verify::reload()?);
    }
    if ssh && sockets.is_empty() {
        return Ok(());
    }
    let door = if ssh { verify::daemon(&sockets, asked)? } else { verify::server()? };
    tries(plan, journal, door, tell)
}

/// Real logins, with a key that is there for that long.
fn tries(plan: &Plan, journal: &mut Journal, door: Door, tell: &mut dyn FnMut(&str)) -> Result<()> {
    for wanted in &plan.tries {
        let key = TryKey::new()?;
        let kept = journal.runs.last().map_or(0, |run| run.steps.len());
        for step in verify::for_the_try(wanted, &key)? {
            journal.apply(&step)?;
        }
        let tried = verify::login(wanted, &key, door);
        journal.undo(kept)?;
        tried?;
        let place = match door {
            Door::Beside => "an sshd started for it".to_owned(),
            Door::At(address) => format!("the server at {address}"),
        };
        tell(&format!("a login as `{}` through {place}: is `{}`, runs a script, gets no shell", wanted.account, wanted.principal));
    }
    Ok(())
}

/// Takes the last run back.
fn take_back(journal: &mut Journal, reloaded: bool, tell: &mut dyn FnMut(&str)) -> Result<()> {
    journal.mark(Phase::Removing)?;
    let steps = journal.runs.last().map(|run| run.steps.clone()).unwrap_or_default();
    // A key that was there for a try first, whatever else can be taken back.
    for undone in journal.undo(0)? {
        match undone {
            Undone::Done(what) => tell(&what),
            Undone::Kept(why) => tell(&format!("kept: {why}")),
            Undone::Nothing => {}
        }
    }
    verify::sweep();
    if steps.iter().any(Step::concerns_systemd) && Path::new("/run/systemd/system").is_dir() {
        accounts::reread_units()?;
    }
    if reloaded && steps.iter().any(Step::concerns_sshd) {
        verify::valid()?;
        let sockets = verify::sockets()?;
        tell(verify::reload()?);
        if !sockets.is_empty() {
            verify::daemon(&sockets, true)?;
        }
    }
    journal.forget()
}

/// What setup did to this host so far; the last of it may have been interrupted.
///
/// # Errors
/// [`Kind::Config`] when the journal is not believed.
pub fn applied() -> Result<Vec<Applied>> {
    Journal::read()
}

/// Takes back the last run, when it was interrupted.
///
/// # Errors
/// The system's own, or a tool's.
pub fn clean_up(tell: &mut dyn FnMut(&str)) -> Result<()> {
    let mut journal = Journal::hold()?;
    accounts::settle();
    if Journal::interrupted(&journal.runs).is_some() { take_back(&mut journal, true, tell) } else { Ok(()) }
}

/// Takes back everything that setup did.
///
/// # Errors
/// The system's own, or a tool's; what is not taken back yet is still in the journal.
pub fn remove(tell: &mut dyn FnMut(&str)) -> Result<()> {
    let mut journal = Journal::hold()?;
    if journal.runs.is_empty() {
        return journal.forget();
    }
    if Journal::interrupted(&journal.runs).is_some() {
        accounts::settle();
    }
    while !journal.runs.is_empty() {
        take_back(&mut journal, true, tell)?;
    }
    Ok(())
}

/// # Errors
/// [`Kind::Usage`] for anybody but root.
pub fn needs_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, "rex setup changes this host, which only root can do").with_hint("sudo rex setup …"))
}
