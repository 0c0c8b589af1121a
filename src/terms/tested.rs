//! Tests of the owner's policies: where they lie, what they are run with, and the demand of rex.toml that they pass before a set counts.

use super::{MAX_POLICY, OwnersFiles, as_config, schema, schema_identity, text};
use crate::config::{Config, PolicyTests};
use crate::error::{Error, Kind, Result};
use crate::os::digest::hex_sha256;
use crate::policy::suite::{self, Bench, Case, Report, Vocabulary};
use crate::policy::{Open, Source, Store};
use crate::resource::closed::Closed;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How files of tests end.
pub const ENDING: &str = ".test.toml";
/// Faults that a refusal names at most; `rex policy test` shows all.
const NAMED: usize = 5;

impl OwnersFiles {
    /// The `*.test.toml` files of a folder, or the one file; none is no error.
    ///
    /// # Errors
    /// [`Kind::Config`] when one is not the owner's alone, or no text.
    pub fn tests(&self, path: &Path) -> Result<Vec<Source>> {
        if path.to_string_lossy().ends_with(ENDING) {
            return match self.trusted.read(path, MAX_POLICY) {
                Ok(bytes) => Ok(vec![Source { text: text(bytes, path)?, name: path.to_string_lossy().into_owned() }]),
                Err(error) => Err(as_config(error)),
            };
        }
        let files = match self.trusted.read_dir(path, ENDING, MAX_POLICY) {
            Ok(files) => files,
            Err(error) if error.kind == Kind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(as_config(error)),
        };
        files.into_iter().map(|(path, bytes)| Ok(Source { text: text(bytes, &path)?, name: path.to_string_lossy().into_owned() })).collect()
    }

    /// The folder of the policies beside rex.toml.
    #[must_use]
    pub fn policy_folder(&self) -> PathBuf {
        self.folder().join("policies")
    }
}

/// The verbs that tests can ask about.
#[must_use]
pub fn vocabulary() -> Vocabulary {
    Vocabulary { asks: crate::functions::vocabulary().0 }
}

/// Where the program is installed, as far as tests go: they must say the same wherever it is that runs them.
const PROGRAM: &str = "/usr/bin/rex";

/// Places that no policy opens, of this configuration. `home`: the account's; `program`: rex itself.
#[must_use]
pub fn closed(files: &OwnersFiles, config: &Config, home: Option<PathBuf>, program: Option<PathBuf>) -> Closed {
    let canonical = crate::os::trusted::canonical;
    let mut own = vec![canonical(files.folder()), PathBuf::from(super::CACHE), PathBuf::from("/run/rex")];
    if !config.audit.denials.is_empty() {
        own.push(canonical(config.beside(&config.audit.denials)));
    }
    if !config.interactive.history.is_empty() {
        own.push(canonical(config.beside(&config.interactive.history)));
    }
    own.extend(program);
    own.push(canonical(config.beside(&config.redaction.dictionary)));
    // Who may log in to `rex serve`, and as which host it is known.
    let host_key = canonical(config.beside(&config.serve.host_key));
    own.extend([canonical(config.beside(&config.serve.authorized_keys)), host_key.clone()]);
    let records = (!config.audit.file.is_empty()).then(|| canonical(PathBuf::from(&config.audit.file)));
    own.extend(records.clone());
    let exceptions = config.allow_writes_to.iter().map(|path| canonical(PathBuf::from(path))).collect();
    Closed { home: home.map(canonical), own, records, host_key: Some(host_key), exceptions }
}

/// Runs tests as the configuration has it.
///
/// # Errors
/// [`Kind::Config`] when policies are not valid.
pub fn run(cases: &[Case], policies: &[Source], vocabulary: &Vocabulary, files: &OwnersFiles, config: &Config) -> Result<Report> {
    // Whose home is meant depends on the account; those of root and below /home are closed for every one.
    let places = closed(files, config, None, Some(PROGRAM.into()));
    let open = if config.open == crate::config::Open::Explicit { Open::Explicit } else { Open::Implied };
    let bench = Bench { vocabulary, schema: &schema(), open, closed: Arc::new(move |ask, kind, id| places.reason(ask, kind, id)) };
    suite::run(cases, policies, &bench)
}

/// Holds the policies to their tests where rex.toml demands it. What passed is remembered with what was found out about the policies, for exactly
/// these texts, this program and these settings.
///
/// # Errors
/// [`Kind::Config`] when a test fails or is invalid, when there is none, or when a rule is decided by none.
pub fn demand(policies: &[Source], files: &OwnersFiles, config: &Config, cache: Option<&dyn Store>) -> Result<()> {
    if config.policy_tests == PolicyTests::Off {
        return Ok(());
    }
    let tests = files.tests(&files.policy_folder())?;
    let stamp = stamp(policies, &tests, files, config);
    let key = format!("tested-{}", stamp.get(..32).unwrap_or(&stamp));
    if cache.and_then(|cache| cache.get(&key)).is_some_and(|known| known == stamp.as_bytes()) {
        return Ok(());
    }
    tried(policies, &tests, files, config, &files.policy_folder())?;
    if let (Some(cache), Some(_)) = (cache, crate::os::process::program()) {
        cache.put(&key, stamp.as_bytes());
    }
    Ok(())
}

/// Runs the tests of a set that is not in force yet, and that lies in `folder`. Gives how many there are.
///
/// # Errors
/// [`Kind::Config`] when a test fails or is invalid; where rex.toml demands tests also when a rule is decided by none.
pub fn tried(policies: &[Source], tests: &[Source], files: &OwnersFiles, config: &Config, folder: &Path) -> Result<usize> {
    let demanded = config.policy_tests == PolicyTests::Require;
    let vocabulary = vocabulary();
    let cases = suite::read(tests, policies, &vocabulary)?;
    let report = run(&cases, policies, &vocabulary, files, config)?;
    let mut faults: Vec<String> = report
        .outcomes
        .iter()
        .filter(|outcome| !outcome.passed())
        .map(|outcome| {
            let says = if outcome.told { format!("; the policies say: {}", outcome.actual()) } else { String::new() };
            format!("{}:{}: {}: {}{says}", outcome.file, outcome.line, outcome.name, outcome.wrong.join("; "))
        })
        .collect();
    if demanded {
        faults.extend(report.undecided.iter().map(|rule| format!("{}:{}: no test decides `{}`", rule.file, rule.line, rule.policy)));
    }
    if faults.is_empty() {
        return Ok(report.outcomes.len());
    }
    let count = faults.len();
    faults.truncate(NAMED);
    if count > NAMED {
        faults.push(format!("… and {} more", count - NAMED));
    }
    let demands = if demanded { ", which rex.toml demands (policy_tests)" } else { "" };
    let head = format!("the policies do not pass their tests{demands}");
    Err(Error::new(Kind::Config, format!("{head}\n{}", faults.join("\n")))
        .with_hint(format!("`rex policy test --coverage {}` shows all", folder.display())))
}

/// Stands for everything that the result depends on.
fn stamp(policies: &[Source], tests: &[Source], files: &OwnersFiles, config: &Config) -> String {
    let mut bytes = b"tests of policies 1\n".to_vec();
    let mut put = |part: &[u8]| {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    };
    let program = crate::os::process::program().map(schema_identity).unwrap_or_default();
    put(&program);
    for sources in [policies, tests] {
        put(&(sources.len() as u64).to_le_bytes());
        for source in sources {
            put(source.name.as_bytes());
            put(source.text.as_bytes());
        }
    }
    put(format!("{:?} {:?}", config.open, closed(files, config, None, Some(PROGRAM.into()))).as_bytes());
    hex_sha256(&bytes)
}
