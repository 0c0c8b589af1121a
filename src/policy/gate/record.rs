//! What is recorded of each decision, and whom the gate tells it.

use crate::error::{Denial, Error, Kind, Result, Why};
use crate::policy::words::{Site, Value};

/// One decision, to be recorded before anything is done.
#[derive(Clone, Debug)]
pub struct DecisionRecord<'a> {
    pub allowed: bool,
    /// The real reason of a denial, also where the caller is told less.
    pub why: Option<Why>,
    /// Cedar notation.
    pub principal: &'a str,
    /// Cedar notation.
    pub action: &'a str,
    /// Entity type and canonical id of the resource; the id is free text.
    pub resource: (&'a str, &'a str),
    /// How the script named it.
    pub shown: &'a str,
    /// The policies that decided.
    pub policies: Vec<&'a str>,
    pub function: &'a str,
    /// From 1; 0 when unknown.
    pub line: u32,
    pub column: u32,
    /// Answered from memory.
    pub remembered: bool,
    /// The verb's own circumstances.
    pub context: &'a [(&'static str, Value)],
    /// What the resource has of the attributes that are recorded, see `Resource::RECORDED`.
    pub attributes: &'a [(&'static str, Value)],
    /// The reference of a denial.
    pub reference: Option<&'a str>,
    /// For the owner of the host, what no policy says: a closed place, an undeclared ask, a value that could not be had.
    pub note: Option<&'a str>,
    /// Allowed, but it cannot be done: it is missing, say.
    pub obstacle: Option<&'a Error>,
    /// What is allowed will not be done: the run is dry.
    pub dry_run: bool,
}

/// What a walk did, recorded at its end.
#[derive(Clone, Debug)]
pub struct WalkRecord<'a> {
    pub principal: &'a str,
    pub action: &'a str,
    /// Entity type and canonical id of where it began.
    pub root: (&'a str, &'a str),
    /// For each verb in Cedar notation: how often it was allowed, how often denied.
    pub counts: &'a [(String, u64, u64)],
    /// Every policy that allowed something.
    pub policies: Vec<&'a str>,
    pub function: &'a str,
    pub line: u32,
    pub column: u32,
}

/// A change that was made, or tried in vain, after it was allowed.
#[derive(Clone, Debug)]
pub struct EffectRecord<'a> {
    pub principal: &'a str,
    /// Cedar notation.
    pub action: &'a str,
    /// Entity type and canonical id; the id is free text.
    pub resource: (&'a str, &'a str),
    /// `None`: done.
    pub failed: Option<Kind>,
    /// Bytes that went in.
    pub bytes: u64,
    pub duration: std::time::Duration,
    /// What the numbers do not tell, in words of rex.
    pub detail: &'a str,
    pub function: &'a str,
    /// From 1; 0 when unknown.
    pub line: u32,
    pub column: u32,
}

/// What a change came to, see `Gate::effect`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effect<'a> {
    /// `None`: done.
    pub failed: Option<Kind>,
    pub bytes: u64,
    pub duration: std::time::Duration,
    pub detail: &'a str,
}

/// Where decisions are recorded.
pub trait Recorder: Send + Sync {
    /// # Errors
    /// When it could not be recorded; then the act does not happen.
    fn decision(&self, record: &DecisionRecord<'_>) -> Result<()>;
    /// # Errors
    /// When it could not be recorded.
    fn walk(&self, record: &WalkRecord<'_>) -> Result<()>;
    /// # Errors
    /// When it could not be recorded; the change has happened by then, and the run ends.
    fn effect(&self, record: &EffectRecord<'_>) -> Result<()>;
    /// What the caller is told of a denial that is on record; for its own use later.
    fn told(&self, _denial: &Denial, _site: &Site<'_>) {}
}

/// Records nothing: of questions that are put again, and of tests.
pub(crate) struct Silent;

impl Recorder for Silent {
    fn decision(&self, _: &DecisionRecord<'_>) -> Result<()> {
        Ok(())
    }
    fn walk(&self, _: &WalkRecord<'_>) -> Result<()> {
        Ok(())
    }
    fn effect(&self, _: &EffectRecord<'_>) -> Result<()> {
        Ok(())
    }
}
