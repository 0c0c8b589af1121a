//! `rex run --learn`: a run of the host's owner in which one more permit holds, and the policy that is proposed from what only that permit allowed.
//!
//! The rule is a policy like others, loaded with them: forbids, closed places, the fence and the records are those of every run. It permits what
//! only looks; what changes things it permits with `--learn-changes` alone. Nobody gains by it what root at this command line does not have.

use super::cli::RunArgs;
use super::policy::learn::{LearnArgs, Present, propose, tell, tests_beside, tests_text};
use crate::audit::{Audit, RunInfo};
use crate::error::{Error, Kind, Result};
use crate::os::process::{Credentials, Environment};
use crate::os::trusted::NewFile;
use crate::policy::learn::{LEARNING, Learner, Noted, sensitive};
use crate::policy::{Access, Asked, Caller, Learning, Source, Told};
use crate::terms::Terms;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// What sshd sets in every session, whatever runs in it.
const OF_SSH: &[&str] = &["SSH_ORIGINAL_COMMAND", "SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"];

/// A learning run from its first check to its proposal.
pub struct Learn {
    path: PathBuf,
    policy: NewFile,
    tests: NewFile,
    present: Present,
    changes: bool,
    learner: Arc<Mutex<Noting>>,
}

/// What the run has noted.
#[derive(Default)]
struct Noting {
    learner: Learner,
    /// There was too much to note.
    full: Option<Error>,
}

impl Learn {
    /// Checks that it is the owner at a local command line, and makes the files, since nothing can be made once the fence is up.
    ///
    /// # Errors
    /// [`Kind::Usage`] for anybody else, over ssh, or when something has the file's name already.
    pub fn begin(path: &std::path::Path, args: &RunArgs, environment: &Environment) -> Result<Self> {
        let refused = |why: &str| {
            Err(Error::new(Kind::Usage, format!("--learn: {why}"))
                .with_hint("run the script as it is, then `rex policy learn` on the records, and again until nothing is denied"))
        };
        if let Some(name) = OF_SSH.iter().find(|name| !environment.all(name).is_empty()) {
            return refused(&format!("a learning run is for a local command line; this one came over ssh ({name} is set)"));
        }
        let credentials = Credentials::of_this_process()?;
        if credentials.uid != 0 || !rustix::process::geteuid().is_root() {
            return refused("a learning run is for root, the owner of the host's policies");
        }
        let tests_path = tests_beside(path)?;
        let present = Present::of(&args.policy, args.config.as_deref())?;
        let usage = |error: Error| Error { kind: Kind::Usage, ..error };
        for path in [path, tests_path.as_path()] {
            if path.symlink_metadata().is_ok() {
                return Err(Error::new(Kind::Usage, format!("--learn: {} is there already; nothing is overwritten", path.display()))
                    .with_hint("name a new file"));
            }
        }
        let policy = NewFile::create(path).map_err(usage)?;
        let tests = NewFile::create(&tests_path).map_err(usage)?;
        // Asked once now: later the tables of users are out of reach.
        let (asks, _) = crate::functions::vocabulary();
        for ask in asks.iter().take(1) {
            let _ = (present.closed)(credentials.uid, ask, "file_system::File", "/");
        }
        Ok(Self { path: path.to_path_buf(), policy, tests, present, changes: args.learn_changes, learner: Arc::default() })
    }

    /// Whether there is no policy at all yet.
    pub fn is_the_first(&self) -> bool {
        self.present.sources.is_empty()
    }

    /// The first record of the run says what it is.
    pub fn mark(&self, info: &mut RunInfo) {
        info.facts.insert("learning".to_owned(), if self.changes { "changes" } else { "looks" }.into());
    }

    /// # Errors
    /// [`Kind::Audit`] when no place takes records: what is permitted beyond the policies has to be on record.
    pub fn needs_records(&self, audit: &Audit) -> Result<()> {
        if audit.sinks().is_empty() {
            return Err(Error::new(Kind::Audit, "--learn: there is no place for audit records, and a learning run has to be on record"));
        }
        Ok(())
    }

    /// The policies with the rule of learning.
    pub fn with_rule(&self, sources: &[Source], principal: &str) -> Vec<Source> {
        let (asks, _) = crate::functions::vocabulary();
        let who = crate::policy::learn::literal(principal);
        let mut verbs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ask in asks.iter().filter(|ask| self.changes || ask.access == Access::ReadOnly) {
            verbs.entry(ask.namespace).or_default().push(format!("{}::Action::\"{}\"", ask.namespace, ask.name));
        }
        let rule = |(namespace, verbs): (&&str, &Vec<String>)| {
            format!("@id(\"{LEARNING}{namespace}\")\npermit (principal == User::{who}, action in [{}], resource);\n", verbs.join(", "))
        };
        let text = verbs.iter().map(rule).collect();
        // Its name sorts first, so that a policy that took its id is the one that is complained of.
        sources.iter().cloned().chain([Source { name: "(--learn)".to_owned(), text }]).collect()
    }

    /// What the gate needs.
    pub fn gate(&self, terms: &Terms) -> Learning {
        let own = self.present.own.clone();
        let guard = move |ask: &crate::policy::Ask, noun: &str, id: &str| {
            let access = if ask.name == "execute" { Access::ReadOnly } else { ask.access };
            if noun.starts_with("file_system::") { sensitive::reason(id, access, &own) } else { None }
        };
        let facts = match serde_json::to_value(&terms.identity.facts) {
            Ok(serde_json::Value::Object(facts)) => facts.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            _ => serde_json::Map::new(),
        };
        let caller = Caller {
            run: terms.run.clone(),
            principal: terms.identity.name.clone(),
            told: Some(Told {
                groups: terms.identity.groups.clone(),
                facts,
                layers: terms.layers.iter().map(|layer| (*layer).to_owned()).collect(),
            }),
            uid: terms.identity.facts.uid,
            evidence: terms.identity.evidence.name().to_owned(),
            ..Caller::default()
        };
        let noting = Arc::clone(&self.learner);
        let note = move |record: &crate::policy::DecisionRecord<'_>| {
            let Some(action) = crate::policy::action(record.action) else { return };
            let asked = Asked {
                action,
                resource: (record.resource.0.to_owned(), record.resource.1.to_owned()),
                context: crate::terms::told(record.context).unwrap_or_default(),
                attributes: crate::terms::told(record.attributes).unwrap_or_default(),
                cut: false,
                time: jiff::Timestamp::now().as_millisecond(),
            };
            let noted =
                Noted { why: record.why, policies: record.policies.clone(), function: record.function, reference: record.reference };
            if let Ok(mut noting) = noting.lock()
                && noting.full.is_none()
                && let Err(error) = noting.learner.note(&caller, &asked, &noted)
            {
                noting.full = Some(error);
            }
        };
        Learning::new(Box::new(guard), Box::new(note))
    }

    /// Writes the proposal.
    ///
    /// # Errors
    /// When there was too much to learn, or the files cannot be written.
    pub fn end(self) -> Result<()> {
        let noting = self.learner.lock().map(|mut noting| std::mem::take(&mut *noting));
        let noting = noting.map_err(|_| Error::new(Kind::Internal, "what was learned is lost"))?;
        if let Some(error) = noting.full {
            return Err(error);
        }
        let proposal = propose(noting.learner, &LearnArgs::default(), &self.present)?;
        tell(&proposal);
        let nothing = "// Nothing was asked that the policies do not permit already.\n";
        let text = if proposal.policy.is_empty() { nothing } else { &proposal.policy };
        let tests = if proposal.permits == 0 { String::new() } else { tests_text(&proposal, &self.path) };
        self.policy.fill(text)?;
        self.tests.fill(&tests)?;
        super::say(&match proposal.permits {
            0 => format!("learned: nothing, {} has no policy; the policies in force permit what was asked", self.path.display()),
            permits => format!(
                "learned: {} in {}; review them, then move them to the policies",
                crate::error::counted(permits, "permit"),
                self.path.display()
            ),
        });
        Ok(())
    }
}
