//! The owner's files: whether a session believes them, can read them, and what they say.

use super::Severity::{Critical, High, Info, Low};
use super::survey::{GROUP, Owners, Subject, Survey, open_to_others, unreadable, with_hint};
use super::{Check, Notes, mend};
use crate::config::{Evidence, PolicyTests};
use crate::error::{Error, Kind};
use crate::functions::vocabulary;
use crate::host::pam::Line;
use crate::os::facts;
use crate::policy::lint::{self, Level, Surroundings};
use crate::terms::{CONFIG, tested};
use std::path::{Path, PathBuf};

pub(super) const CHECKS: &[Check] = &[
    Check::host(
        "owner-untrusted",
        Critical,
        [
            "a session would not believe a file of the owner",
            "whoever can write it could make policy, or say who is who; so every session is refused (exit 78)",
            "chown root:root FILE && chmod go-w FILE",
        ],
        untrusted,
    )
    .refuses()
    .fixed_by(mend::ownership),
    Check::host(
        "config-invalid",
        Critical,
        ["rex.toml is not valid", "every session is refused (exit 78)", "correct the line that is named"],
        config_invalid,
    )
    .refuses(),
    Check::host(
        "config-missing",
        Info,
        ["there is no rex.toml", "the defaults hold", "install -m 644 config/rex.toml /etc/rex/rex.toml"],
        config_missing,
    ),
    Check::host(
        "principals-invalid",
        Critical,
        ["principals.toml is not valid", "every session is refused (exit 78)", "correct the line that is named"],
        principals_invalid,
    )
    .refuses(),
    Check::host(
        "principals-pass",
        Low,
        [
            "callers whom principals.toml does not describe are let in, in no group",
            "a policy for every principal is a policy for every account that reaches rex",
            "default = \"refuse\" in principals.toml",
        ],
        principals_pass,
    ),
    Check::host(
        "policy-missing",
        High,
        ["there is no policy", "nothing runs (exit 78)", "install -m 644 policies/oncall-read-only.cedar /etc/rex/policies/"],
        policy_missing,
    )
    .refuses(),
    Check::host("policy-invalid", Critical, ["the policies are not valid", "nothing runs (exit 78)", "rex policy check"], policy_invalid)
        .refuses(),
    Check::host(
        "policy-warnings",
        Low,
        [
            "the policies say what is most likely not meant",
            "see the finding; `rex policy check` shows the place of each",
            "rex policy check",
        ],
        policy_warnings,
    ),
    Check::host(
        "policy-tests-fail",
        High,
        [
            "the policies do not pass their tests",
            "they permit or forbid something else than whoever wrote the tests believes; with `policy_tests = \"require\"` nothing runs",
            "rex policy test --coverage",
        ],
        tests_fail,
    ),
    Check::host(
        "policy-tests-off",
        Low,
        [
            "policies count without passing tests",
            "a change of a policy that permits too much goes into force unseen",
            "policy_tests = \"require\" in rex.toml, when every rule has a test",
        ],
        tests_off,
    ),
    Check::account(
        "owner-unreadable",
        High,
        [
            "the account cannot read a file that its sessions need",
            "its sessions are refused (exit 78)",
            "chmod 644 FILE, and 755 for the folders above it",
        ],
        owner_unreadable,
    )
    .refuses(),
    Check::host(
        "runbook-broken",
        Low,
        ["a runbook or library does not compile", "whoever starts it gets exit 65", "rex run --dry-run FILE shows the place"],
        runbook,
    ),
    Check::host(
        "record-evidence",
        Critical,
        [
            "`identity` lists `record`, and logins leave none",
            "sessions are refused: no record of the login says who it was",
            "session optional pam_exec.so quiet /usr/bin/rex pam-record, behind pam_loginuid in /etc/pam.d/sshd",
        ],
        record_evidence,
    )
    .refuses(),
    Check::host(
        "cache-untrusted",
        Low,
        [
            "the cache of policies is not root's alone",
            "rex does not use it: every start is as slow as the first",
            "chown -R root:root /var/cache/rex && chmod -R go-w /var/cache/rex",
        ],
        cache,
    )
    .fixed_by(mend::ownership),
    Check::host(
        "run-folders",
        Low,
        [
            "a folder of /run/rex is missing, or has another mode or group",
            "callers cannot ask `rex why`, and runs that were killed get no end record",
            "systemd-tmpfiles --create rex.conf",
        ],
        run_folders,
    )
    .fixed_by(mend::run_folders),
    Check::host(
        "group-missing",
        Low,
        [
            "there is no group rexusers",
            "sessions of accounts cannot use rex's folders in /run, nor a file of records",
            "groupadd --system rexusers",
        ],
        group_missing,
    ),
];

/// Every file that sessions read, as far as they are there.
fn files_of(owners: &Owners) -> Vec<PathBuf> {
    let folder = owners.files.folder();
    let mut files = vec![owners.files.config.clone(), folder.join("principals.toml")];
    let settings = owners.settings();
    files.push(folder.join(&settings.redaction.dictionary));
    for (below, endings) in [("policies", [".cedar", tested::ENDING]), ("scripts", [".rhai", ".rhai"]), ("scripts/lib", [".rhai", ".rhai"])]
    {
        let names = facts::names(&folder.join(below), 20_000).unwrap_or_default();
        let names = names.into_iter().filter(|name| endings.iter().any(|ending| name.to_string_lossy().ends_with(ending)));
        files.extend(names.map(|name| folder.join(below).join(name)));
    }
    files.retain(|file| facts::of_link(file).is_ok_and(|facts| facts.is_some()));
    files
}

fn untrusted(survey: &Survey, notes: &mut Notes) {
    let mut seen: Vec<(Option<String>, String)> = Vec::new();
    for owners in &survey.owners {
        for file in files_of(owners) {
            for error in owners.files.distrust(&file) {
                let one = (error.path.clone(), error.message.clone());
                if !survey.root && error.errno.is_some() {
                    notes.blind(with_hint(&error));
                } else if !seen.contains(&one) {
                    let found = notes.found(error.message.clone());
                    found.at(error.path.clone().unwrap_or_else(|| file.display().to_string()));
                    if let Some(hint) = error.hint.clone().filter(|hint| !hint.is_empty()) {
                        found.mend(hint);
                    }
                    seen.push(one);
                }
            }
        }
    }
}

/// An error whose text begins with `file:line:column: `, as a finding; one of rights is none.
fn told(survey: &Survey, notes: &mut Notes, file: &Path, error: &Error) {
    if !survey.root && error.errno.is_some() {
        notes.blind(with_hint(error));
        return;
    }
    let shown = file.display().to_string();
    let rest = error.message.strip_prefix(&shown).and_then(|rest| rest.strip_prefix(':'));
    let line = rest.and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
    let found = notes.found(with_hint(error));
    found.at(line.map_or(shown.clone(), |line| format!("{shown}:{line}")));
}

fn config_invalid(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        // Another place than the usual one must have its rex.toml.
        if let Err(error) = &owners.config {
            told(survey, notes, &owners.files.config, error);
        }
    }
}

fn config_missing(survey: &Survey, notes: &mut Notes) {
    for owners in survey.owners.iter().filter(|owners| !owners.exists && owners.config.is_ok()) {
        notes.found("it is not there").at(owners.files.config.display().to_string());
    }
}

fn principals_invalid(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        if let Err(error) = &owners.principals {
            told(survey, notes, &owners.files.folder().join("principals.toml"), error);
        }
    }
}

fn principals_pass(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        let file = owners.files.folder().join("principals.toml");
        if owners.principals.as_ref().is_ok_and(crate::identity::Principals::others_pass) {
            let there = facts::of(&file).is_ok_and(|facts| facts.is_some());
            let detail = if there { "default = \"pass\"" } else { "there is no principals.toml" };
            notes.found(detail).at(file.display().to_string());
        }
    }
}

fn policy_missing(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        let folder = owners.files.policy_folder();
        match facts::names(&folder, 20_000) {
            Ok(names) if names.iter().any(|name| name.to_string_lossy().ends_with(".cedar")) => {}
            Ok(_) => {
                notes.found("no *.cedar file").at(folder.display().to_string());
            }
            Err(error) if error.kind == Kind::NotFound => {
                notes.found("there is no such folder").at(folder.display().to_string());
            }
            Err(error) => notes.blind(with_hint(&error)),
        }
    }
}

/// What the check of policies says; nothing where there are none.
fn report(owners: &Owners, notes: &mut Notes) -> Option<lint::Report> {
    let sources = match owners.any.policies() {
        Ok(sources) => sources,
        Err(error) => {
            if error.errno.is_some() {
                notes.blind(with_hint(&error));
            }
            return None;
        }
    };
    let (asks, nouns) = vocabulary();
    let around = Surroundings { host: None, people: None, now: Some(crate::sys::clock::now_millis()) };
    match lint::check(&sources, &asks, &nouns, around) {
        Ok(report) => Some(report),
        Err(error) => {
            notes.found(with_hint(&error)).at(owners.files.policy_folder().display().to_string());
            None
        }
    }
}

fn policy_invalid(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        let Some(report) = report(owners, notes) else { continue };
        for finding in report.findings.iter().filter(|finding| finding.level == Level::Error).take(10) {
            notes.found(finding.message.clone()).at(format!("{}:{}", finding.file, finding.line));
        }
    }
}

fn policy_warnings(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        let count = report(owners, notes).map_or(0, |report| report.count(Level::Warning));
        if count > 0 {
            notes.found(crate::error::counted(count as u64, "warning")).at(owners.files.policy_folder().display().to_string());
        }
    }
}

fn tests_fail(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        let (Ok(config), Ok(sources), Ok(tests)) = (&owners.config, owners.any.policies(), owners.any.tests(&owners.files.policy_folder()))
        else {
            continue;
        };
        let demanded = config.policy_tests == PolicyTests::Require;
        if tests.is_empty() && !demanded {
            continue;
        }
        if let Err(error) = tested::tried(&sources, &tests, &owners.any, config, &owners.files.policy_folder()) {
            notes.found(with_hint(&error).replace('\n', "; ")).at(owners.files.policy_folder().display().to_string());
        }
    }
}

fn tests_off(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        if owners.config.as_ref().is_ok_and(|config| config.policy_tests == PolicyTests::Off) {
            notes.found("policy_tests is off").at(owners.files.config.display().to_string());
        }
    }
}

/// The configurations that an account's sessions use.
pub(super) fn used<'a>(survey: &'a Survey, subject: &Subject) -> Vec<&'a Owners> {
    let lines = subject.rex_lines();
    let named = |owners: &&Owners| lines.iter().any(|line| line.config.as_deref().unwrap_or(Path::new(CONFIG)) == owners.files.config);
    let used: Vec<&Owners> = survey.owners.iter().filter(named).collect();
    if used.is_empty() { survey.owners.iter().take(1).collect() } else { used }
}

fn owner_unreadable(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    for owners in used(survey, subject) {
        for file in files_of(owners) {
            match unreadable(survey, subject, &file) {
                Ok(Some(what)) => {
                    notes.found(format!("{} may not get at {}", subject.user.name, what.display())).at(file.display().to_string());
                }
                Ok(None) => {}
                Err(error) if error.kind == Kind::NotFound => {}
                Err(error) => notes.blind(with_hint(&error)),
            }
        }
    }
}

fn runbook(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        for file in files_of(owners).into_iter().filter(|file| file.extension().is_some_and(|ending| ending == "rhai")) {
            let Ok(Some(text)) = facts::text(&file, 4 << 20) else { continue };
            if let Err(error) = crate::engine::syntax(&text, &owners.settings().limits) {
                let place = error.message.split(':').next().and_then(|line| line.parse::<u32>().ok());
                let file = file.display().to_string();
                notes.found(error.message.clone()).at(place.map_or(file.clone(), |line| format!("{file}:{line}")));
            }
        }
    }
}

/// Where a line of pam_exec starts `rex pam-record` as the record needs it: for every session, and as root.
fn records_login(line: &Line) -> bool {
    let named = line.arguments.iter().position(|word| word.starts_with('/'));
    let program = named.and_then(|at| line.arguments.get(at)).is_some_and(|program| super::line::is_rex(Path::new(program)));
    program && named.and_then(|at| line.arguments.get(at + 1)).is_some_and(|word| word == "pam-record")
}

fn record_evidence(survey: &Survey, notes: &mut Notes) {
    if !survey.evidence(Evidence::Record) {
        return;
    }
    if !survey.uses_pam() {
        notes.found("UsePAM is no").mend("UsePAM yes, in the global section of sshd_config");
    }
    if !survey.kernel.numbers_sessions {
        notes.found("the kernel numbers no login sessions (CONFIG_AUDIT)").mend("a kernel with CONFIG_AUDIT");
    }
    let Some(stack) = &survey.pam else {
        notes.blind("PAM's stack for sshd cannot be read");
        return;
    };
    let own = stack.files.first().map(|file| file.display().to_string()).unwrap_or_default();
    if stack.login_uid().is_none() {
        notes
            .found("no pam_loginuid in the session phase: the session has no number")
            .at(own.clone())
            .mend("session required pam_loginuid.so");
    }
    match stack.programs().find(|line| records_login(line)) {
        None => {
            notes.found("no pam_exec line starts `rex pam-record`").at(own);
        }
        Some(line) => {
            let number = stack.lines.iter().position(|one| one == line);
            if number < stack.lines.iter().position(|one| Some(one) == stack.login_uid()) {
                notes.found("it stands before pam_loginuid, so the session has no number yet").at(line.place());
            }
        }
    }
}

/// The cache of a configuration.
pub(super) fn cache_of(owners: &Owners) -> PathBuf {
    if owners.files.config == Path::new(CONFIG) { PathBuf::from("/var/cache/rex") } else { owners.files.folder().join("cache") }
}

fn cache(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        let folder = cache_of(owners);
        if facts::of(&folder).is_ok_and(|facts| facts.is_none()) {
            continue;
        }
        match open_to_others(&folder) {
            Ok(Some((what, why))) => {
                notes.found(format!("{}: {why}", what.display())).at(folder.display().to_string());
            }
            Ok(None) => {}
            Err(error) => notes.blind(with_hint(&error)),
        }
    }
}

/// The folders that tmpfiles.d makes: path and mode.
pub(super) fn shared_folders(owners: &Owners) -> Vec<(PathBuf, u32)> {
    let settings = owners.settings();
    let mut folders = Vec::new();
    if !settings.audit.denials.is_empty() {
        folders.push((settings.beside(&settings.audit.denials), 0o3770));
    }
    if owners.files.config == Path::new(CONFIG) {
        folders.push((PathBuf::from("/run/rex/runs"), 0o1770));
    }
    folders
}

fn run_folders(survey: &Survey, notes: &mut Notes) {
    let Some(group) = survey.accounts.group(GROUP) else { return };
    for (folder, mode) in survey.owners.iter().flat_map(shared_folders) {
        match facts::of_link(&folder) {
            Ok(None) => {
                notes.found("it is not there").at(folder.display().to_string());
            }
            Ok(Some(facts)) if !facts.is_folder() || facts.uid != 0 || facts.gid != group.gid || facts.mode != mode => {
                let said = format!("owner {}, group {}, mode {:04o}; root:{GROUP}, {mode:04o} is right", facts.uid, facts.gid, facts.mode);
                notes.found(said).at(folder.display().to_string());
            }
            Ok(Some(_)) => {}
            Err(error) => notes.blind(with_hint(&error)),
        }
    }
}

fn group_missing(survey: &Survey, notes: &mut Notes) {
    if survey.accounts.group(GROUP).is_none() {
        notes.found("neither /etc/group nor a directory has it").at("/etc/group");
    }
}
