//! `rex doctor`: a table of checks over what this host really is. A check is one row (id, severity, what an attacker does with it, the mend) beside one
//! plain fn. It judges; what it cannot see it says so, and never passes.
#![forbid(unsafe_code)]

mod gate;
mod line;
mod login;
mod machine;
pub mod mend;
mod owners;
mod records;
pub mod show;
mod sshd;
pub mod survey;

pub use line::Line;
pub use survey::{Asked, Survey};

use survey::Subject;

/// How much a finding matters. The order is that of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The gate is open: somebody who may ask rex can do more than any policy says.
    Critical,
    /// It is open to whoever finds one more thing, or nothing runs.
    High,
    /// A second line of defence is missing.
    Medium,
    /// Worth setting right.
    Low,
    /// Worth knowing.
    Info,
}

impl Severity {
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Info];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Info => "info",
        }
    }
    /// Whether a monitor is to be told.
    #[must_use]
    pub fn counts(self) -> bool {
        self <= Self::Medium
    }
}

/// What looks.
#[derive(Clone, Copy, Debug)]
pub enum Judge {
    /// Once.
    Host(fn(&Survey, &mut Notes)),
    /// For each account.
    Account(fn(&Survey, &Subject, &mut Notes)),
}

/// A row of the table.
#[derive(Debug)]
pub struct Check {
    /// Stable: monitors and exceptions name it.
    pub id: &'static str,
    pub severity: Severity,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// What an attacker does with it, or what goes wrong; one sentence.
    pub attack: &'static str,
    /// A command, or a line of configuration.
    pub mend: &'static str,
    /// Whether sessions are refused while it is so: the command ends with exit 78.
    pub refuses: bool,
    /// Whether `--fix` mends it.
    pub fix: Option<mend::Fix>,
    pub judge: Judge,
}

impl Check {
    const fn row(id: &'static str, severity: Severity, texts: [&'static str; 3], judge: Judge) -> Self {
        let [title, attack, mend] = texts;
        Self { id, severity, title, attack, mend, refuses: false, fix: None, judge }
    }
    /// About the host as a whole. The texts: title, attack, mend.
    const fn host(id: &'static str, severity: Severity, texts: [&'static str; 3], judge: fn(&Survey, &mut Notes)) -> Self {
        Self::row(id, severity, texts, Judge::Host(judge))
    }
    /// About each account.
    const fn account(id: &'static str, severity: Severity, texts: [&'static str; 3], judge: fn(&Survey, &Subject, &mut Notes)) -> Self {
        Self::row(id, severity, texts, Judge::Account(judge))
    }
    const fn refuses(self) -> Self {
        Self { refuses: true, ..self }
    }
    const fn fixed_by(self, fix: mend::Fix) -> Self {
        Self { fix: Some(fix), ..self }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    pub check: &'static Check,
    pub account: Option<String>,
    /// `file:line`, a file, or a folder.
    pub place: Option<String>,
    /// What was seen.
    pub detail: String,
    /// The row's, or what fits better.
    pub mend: String,
}

impl Finding {
    pub fn at(&mut self, place: impl Into<String>) -> &mut Self {
        self.place = Some(place.into());
        self
    }
    pub fn mend(&mut self, mend: impl Into<String>) -> &mut Self {
        self.mend = mend.into();
        self
    }
}

/// Something that could not be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blind {
    pub check: &'static str,
    pub account: Option<String>,
    pub why: String,
}

/// What one check writes down.
#[derive(Debug)]
pub struct Notes {
    check: &'static Check,
    account: Option<String>,
    findings: Vec<Finding>,
    blind: Vec<Blind>,
}

impl Notes {
    pub fn found(&mut self, detail: impl Into<String>) -> &mut Finding {
        let at = self.findings.len();
        self.findings.push(Finding {
            check: self.check,
            account: self.account.clone(),
            place: None,
            detail: detail.into(),
            mend: self.check.mend.to_owned(),
        });
        #[expect(clippy::indexing_slicing, reason = "it was pushed just now")]
        &mut self.findings[at]
    }
    pub fn blind(&mut self, why: impl Into<String>) {
        self.blind.push(Blind { check: self.check.id, account: self.account.clone(), why: why.into() });
    }
}

/// What all checks came to.
#[derive(Debug, Default)]
pub struct Report {
    /// By severity, then as the table has them, then by account.
    pub findings: Vec<Finding>,
    pub blind: Vec<Blind>,
    /// Ids of the checks that saw all they need and found nothing.
    pub passed: Vec<&'static str>,
}

/// The exit code of a report: 0 nothing of medium or above; 1 findings; 78 sessions would be refused, or nothing was found but not all could be judged.
impl Report {
    #[must_use]
    pub fn exit(&self) -> u8 {
        use crate::error::Exit;
        if self.findings.iter().any(|finding| finding.check.refuses) {
            Exit::ConfigInvalid as u8
        } else if self.findings.iter().any(|finding| finding.check.severity.counts()) {
            Exit::ScriptFailed as u8
        } else if self.blind.is_empty() {
            Exit::Ok as u8
        } else {
            Exit::ConfigInvalid as u8
        }
    }
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.check.severity == severity).count()
    }
}

/// Every check, in the order of the manual.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    [sshd::HOST, gate::CHECKS, sshd::CHECKS, login::CHECKS, owners::CHECKS, records::CHECKS, machine::CHECKS].into_iter().flatten()
}

/// Runs every check.
#[must_use]
pub fn examine(survey: &Survey) -> Report {
    let mut report = Report::default();
    for check in checks() {
        let mut notes = Notes { check, account: None, findings: Vec::new(), blind: Vec::new() };
        match check.judge {
            Judge::Host(judge) => judge(survey, &mut notes),
            Judge::Account(judge) => {
                for subject in &survey.subjects {
                    notes.account = Some(subject.user.name.clone());
                    judge(survey, subject, &mut notes);
                }
            }
        }
        if notes.findings.is_empty() && notes.blind.is_empty() {
            report.passed.push(check.id);
        }
        report.findings.append(&mut notes.findings);
        report.blind.append(&mut notes.blind);
    }
    // The order of the table is kept within a severity.
    report.findings.sort_by_key(|finding| finding.check.severity);
    report
}

#[cfg(test)]
mod tests;
