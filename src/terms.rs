//! The terms of a run, found out in order: configuration, identity, records, policies. Each failure is on record and nothing runs.

use crate::audit::{Audit, Decision, Effect, Event, RunInfo, RunLost, WalkSummary};
use crate::config::{Config, DICTIONARY, RedactionSettings};
use crate::error::{Denial, Error, Kind, Result};
use crate::identity::{Evidence, Identity, Principals};
use crate::limits::Limits;
use crate::os::cache::CacheFolder;
use crate::os::denials::Denials;
use crate::os::runs::{Entry, Runs};
use crate::os::shared;
use crate::os::trusted::{Owner, Trusted};
use crate::policy::{DecisionRecord, EffectRecord, Policies, Principal, Recorder, Scope, Site, Source, Store, Value, WalkRecord};
use crate::resource::closed::Closed;
use crate::sys::broker::{Broker, Rules};
use crate::sys::fence::{self, Own, Plan};
use crate::sys::redact;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub mod tested;

/// Everything that is settled before a script is looked at.
pub struct Terms {
    pub run: String,
    /// How it came in: `session`, `serve` or `local`.
    pub mode: &'static str,
    pub config: Config,
    pub identity: Identity,
    pub audit: Arc<Audit>,
    pub policies: Arc<Policies>,
    pub limits: Limits,
    pub layers: Vec<&'static str>,
    pub closed: Closed,
    pub files: OwnersFiles,
    /// Starts the programs that policy permits; none where it permits none.
    pub broker: Option<Broker>,
    /// Where callers find again what they were told.
    pub denials: Option<Arc<Denials>>,
    /// Nothing is changed: what would be is recorded and told.
    pub dry_run: bool,
    /// This run among those under way on the host.
    pub entry: Option<Entry>,
}

/// Where the owner's configuration is unless `--config` says otherwise.
pub const CONFIG: &str = "/etc/rex/rex.toml";
/// Where what was found out about policies is kept for the configuration above.
const CACHE: &str = "/var/cache/rex";
/// Where runs under way are for the configuration above; packaging/tmpfiles.d makes the folder, or root's first session.
const RUNS: &str = "/run/rex/runs";
/// The last second of the year 9999, for certificates that never expire.
const FOR_EVER: i64 = 253_402_300_799_000;
const MAX_CONFIG: u64 = 1 << 20;
/// Some twenty thousand principals.
const MAX_PRINCIPALS: u64 = 4 << 20;
const MAX_POLICY: u64 = 4 << 20;
const MAX_SCRIPT: u64 = 4 << 20;
const MAX_DICTIONARY: u64 = 1 << 20;
/// How often the policies are looked at again when they are replaced while their tests are read.
const LOOKS: u32 = 3;
/// Where the reference has its dictionary.
const REFERENCE_DICTIONARY: &str = "/etc/opt/rex/rex_redaction.config";

/// The files of the host's owner: rex.toml and what lies beside it.
#[derive(Clone, Debug)]
pub struct OwnersFiles {
    pub config: PathBuf,
    pub trusted: Trusted,
    rule: Owner,
}

impl OwnersFiles {
    #[must_use]
    pub fn new(config: Option<&Path>, rule: Owner) -> Self {
        Self { config: config.unwrap_or(Path::new(CONFIG)).to_path_buf(), trusted: Trusted::new(rule), rule }
    }
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.config.parent().map(Path::to_path_buf).unwrap_or_default()
    }
    /// rex.toml; without one, the defaults.
    ///
    /// # Errors
    /// [`Kind::Config`] when it is not the owner's alone, or not valid.
    pub fn config(&self) -> Result<Config> {
        match self.trusted.read(&self.config, MAX_CONFIG) {
            Ok(bytes) => Config::parse(&text(bytes, &self.config)?, &self.config),
            Err(error) if error.kind == Kind::NotFound && self.config == Path::new(CONFIG) => Ok(Config::default()),
            Err(error) => Err(as_config(error)),
        }
    }
    /// principals.toml; without one, nobody is mapped.
    ///
    /// # Errors
    /// As [`OwnersFiles::config`].
    pub fn principals(&self) -> Result<Principals> {
        let path = self.folder().join("principals.toml");
        match self.trusted.read(&path, MAX_PRINCIPALS) {
            Ok(bytes) => {
                let text = text(bytes, &path)?;
                let known = crate::os::process::program().and_then(|program| crate::identity::principals_key(&text, program));
                let Some(key) = known else { return Principals::parse(&text, &path.to_string_lossy()) };
                let (cache, entry) = (self.cache(), format!("principals-{}", crate::os::digest::hex(&key[..16])));
                if let Some(principals) = cache.get(&entry).and_then(|bytes| Principals::unpack(&bytes, &key)) {
                    return Ok(principals);
                }
                let principals = Principals::parse(&text, &path.to_string_lossy())?;
                cache.put(&entry, &principals.pack(&key));
                Ok(principals)
            }
            Err(error) if error.kind == Kind::NotFound => Ok(Principals::absent()),
            Err(error) => Err(as_config(error)),
        }
    }
    /// Every policy beside rex.toml.
    ///
    /// # Errors
    /// [`Kind::Config`] when there is none, or one is not the owner's alone.
    pub fn policies(&self) -> Result<Vec<Source>> {
        let folder = self.folder().join("policies");
        self.sources(&folder)
    }
    /// The policies in a file, or in the `*.cedar` files of a folder.
    ///
    /// # Errors
    /// As [`OwnersFiles::policies`].
    pub fn sources(&self, path: &Path) -> Result<Vec<Source>> {
        let none = || Error::new(Kind::Config, format!("no policy at all: there is no *.cedar file in {}", path.display()));
        if path.is_dir() || path.extension().is_none_or(|extension| extension != "cedar") && !path.is_file() {
            let files = match self.trusted.read_dir(path, ".cedar", MAX_POLICY) {
                Ok(files) => files,
                Err(error) if error.kind == Kind::NotFound => return Err(none()),
                Err(error) => return Err(as_config(error)),
            };
            if files.is_empty() {
                return Err(none());
            }
            return files
                .into_iter()
                .map(|(path, bytes)| Ok(Source { text: text(bytes, &path)?, name: path.to_string_lossy().into_owned() }))
                .collect();
        }
        let bytes = self.trusted.read(path, MAX_POLICY).map_err(as_config)?;
        Ok(vec![Source { text: text(bytes, path)?, name: path.to_string_lossy().into_owned() }])
    }
    /// What [`OwnersFiles::sources`] would read, as bytes, for whoever wants to know all that is wrong: each fault is added to `faults`, and what can be
    /// read is read all the same. Without a path, the policies beside rex.toml.
    pub fn all_sources(&self, path: Option<&Path>, faults: &mut Vec<Error>) -> Vec<(String, Vec<u8>)> {
        let folder = self.folder().join("policies");
        let path = path.unwrap_or(&folder);
        let is_folder = path.is_dir() || path.extension().is_none_or(|extension| extension != "cedar") && !path.is_file();
        let read = if is_folder {
            self.trusted.read_dir_with_faults(path, ".cedar", MAX_POLICY, faults)
        } else {
            self.trusted.read_with_faults(path, MAX_POLICY, faults).map(|bytes| vec![(path.to_path_buf(), bytes)])
        };
        match read {
            Ok(files) => files.into_iter().map(|(path, bytes)| (path.to_string_lossy().into_owned(), bytes)).collect(),
            Err(error) => {
                faults.push(error);
                Vec::new()
            }
        }
    }
    /// Why sessions would not believe the file, each reason; nothing where it is not there.
    #[must_use]
    pub fn distrust(&self, path: &Path) -> Vec<Error> {
        let mut faults = Vec::new();
        match self.trusted.read_with_faults(path, MAX_CONFIG, &mut faults) {
            Err(error) if error.kind != Kind::NotFound => faults.push(error),
            _ => {}
        }
        faults
    }
    /// A runbook, `scripts/NAME.rhai`.
    ///
    /// # Errors
    /// [`Kind::Usage`] when there is none of that name.
    pub fn runbook(&self, name: &str) -> Result<String> {
        let path = self.folder().join("scripts").join(format!("{name}.rhai"));
        match self.trusted.read(&path, MAX_SCRIPT) {
            Ok(bytes) => crate::os::script::prepare(text(bytes, &path)?),
            Err(error) if error.kind == Kind::NotFound => Err(Error::new(Kind::Usage, format!("no runbook `@{name}` on this host"))),
            Err(error) => Err(as_config(error)),
        }
    }
    /// A module of the library, `scripts/lib/NAME.rhai`.
    #[must_use]
    pub fn library(&self, name: &str) -> Option<String> {
        let path = self.folder().join("scripts/lib").join(format!("{name}.rhai"));
        self.trusted.read(&path, MAX_SCRIPT).ok().and_then(|bytes| String::from_utf8(bytes).ok())
    }
    /// The rules of redacted reading, from the dictionary as it is now.
    ///
    /// # Errors
    /// [`Kind::Config`] when the dictionary is not the owner's alone, is not there though rex.toml names it, or has a line that is no format.
    pub fn redaction(&self, settings: &RedactionSettings) -> Result<redact::Rules> {
        let dictionary = self.dictionary(settings)?;
        let (bytes, name) = dictionary.map(|(path, bytes)| (bytes, path.display().to_string())).unzip();
        redact::rules(settings.lines, &settings.mask, bytes.as_deref().zip(name.as_deref()))
    }
    fn dictionary(&self, settings: &RedactionSettings) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let default = settings.dictionary == DICTIONARY;
        let mut places = vec![self.folder().join(&settings.dictionary)];
        if default && self.config == Path::new(CONFIG) {
            places.push(REFERENCE_DICTIONARY.into());
        }
        for path in places {
            match self.trusted.read(&path, MAX_DICTIONARY) {
                Ok(bytes) => return Ok(Some((path, bytes))),
                Err(error) if error.kind == Kind::NotFound && default => {}
                Err(error) => return Err(as_config(error)),
            }
        }
        Ok(None)
    }
    /// Puts a run among those under way, where this configuration has a folder for them; and puts the end of runs on record that ended without a
    /// word. Nothing of that stops a run.
    #[must_use]
    pub fn enter(&self, run: &str, config: &Config) -> Option<Entry> {
        let default = self.config == Path::new(CONFIG);
        let path = if default { PathBuf::from(RUNS) } else { self.folder().join("runs") };
        let runs = Runs::open(&path, default, || crate::resource::file::names().gid_of(shared::GROUP))?;
        for lost in runs.lost() {
            let info = RunInfo { run: lost.run.clone(), uid: lost.uid, ..RunInfo::default() };
            let told = Audit::open(&config.audit, config.on_audit_failure, info)
                .and_then(|audit| audit.record(&Event::RunLost(RunLost { found_by: run })).map(|()| audit.lost() == 0));
            match told {
                Ok(true) => runs.forget(lost),
                // A later start tells of it; this one has waited long enough.
                _ => break,
            }
        }
        runs.enter(run)
    }
    /// The folder of the policy cache that belongs to this configuration.
    #[must_use]
    pub fn cache(&self) -> Cache {
        Cache(CacheFolder::new(self.cache_folder(), self.rule))
    }
    /// The same for policies that the owner tries out: they push nothing out that is in force.
    #[must_use]
    pub fn cache_of_tries(&self) -> Cache {
        Cache(CacheFolder::new(self.cache_folder().join("tried"), self.rule))
    }
    fn cache_folder(&self) -> PathBuf {
        if self.config == Path::new(CONFIG) { PathBuf::from(CACHE) } else { self.folder().join("cache") }
    }
}

/// The policy cache in its folder.
pub struct Cache(pub CacheFolder);

impl Store for Cache {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.get(key)
    }
    fn put(&self, key: &str, bytes: &[u8]) {
        // Only the owner of the policies may vouch for them.
        if rustix::process::geteuid().is_root() {
            self.0.put(key, bytes);
        }
    }
}

fn text(bytes: Vec<u8>, path: &Path) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::new(Kind::Config, format!("{}: not UTF-8 text", path.display())))
}

/// Errors of the owner's files are errors of the configuration, whatever the system said.
fn as_config(error: Error) -> Error {
    let message = error.to_string();
    Error { kind: Kind::Config, message, path: None, ..error }
}

/// The schema that every policy is validated against: nouns and verbs of the function table.
#[must_use]
pub fn schema() -> String {
    let (asks, nouns) = crate::functions::vocabulary();
    crate::policy::schema::render(&asks, &nouns)
}

/// Stands for the text of [`schema`], which depends on nothing but the program: rendering and hashing that text was two fifths of a start.
fn schema_identity(program: [u64; 8]) -> [u8; 32] {
    let mut bytes = b"schema of the program ".to_vec();
    program.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    crate::os::digest::sha256(&bytes)
}

/// Loads the policies for one caller.
///
/// # Errors
/// As [`Policies::load`].
pub fn load_policies(sources: &[Source], identity: &Identity, cache: Option<&dyn Store>) -> Result<Arc<Policies>> {
    let scope = Scope { name: identity.name.clone(), groups: identity.groups.clone() };
    match crate::os::process::program() {
        Some(program) => Policies::load_with(sources, &schema_identity(program), &schema, &scope, cache),
        None => Policies::load(sources, &schema(), &scope, cache),
    }
    .map(Arc::new)
}

/// The owner's policies for one caller, held to their tests where rex.toml demands it.
///
/// # Errors
/// [`Kind::Config`] when they are not the owner's alone, not valid, or do not pass.
pub fn policies(files: &OwnersFiles, config: &Config, identity: &Identity) -> Result<Arc<Policies>> {
    let mut tries = 0;
    loop {
        let sources = files.policies()?;
        let accepted = accept(&sources, files, config, identity);
        // Policies and tests are two looks at the folder; another set may have taken its place between them.
        tries += 1;
        let changed = || files.policies().is_ok_and(|now| Policies::digest_of(&now) != Policies::digest_of(&sources));
        if accepted.is_ok() || tries == LOOKS || !changed() {
            return accepted;
        }
    }
}

/// The same for policies that are read already.
///
/// # Errors
/// As [`policies`].
pub fn accept(sources: &[Source], files: &OwnersFiles, config: &Config, identity: &Identity) -> Result<Arc<Policies>> {
    let cache = files.cache();
    let policies = load_policies(sources, identity, Some(&cache))?;
    tested::demand(sources, files, config, Some(&cache))?;
    Ok(policies)
}

/// The layers in force, and the broker where policy permits programs.
pub type Confined = (Vec<&'static str>, Option<Broker>);

/// Puts every layer behind the gate in force; gives the names of those that the kernel holds. There is no way back, and no thread may run yet.
///
/// # Errors
/// [`Kind::Layer`] when one that the kernel has cannot be armed, or one that rex.toml demands is missing.
pub fn confine(limits: &Limits, policies: &Policies, files: &OwnersFiles, config: &Config, dry_run: bool) -> Result<Confined> {
    let mut layers = crate::sys::confine::confine(limits)?;
    let folder = crate::os::trusted::canonical(files.folder());
    let dictionaries = [files.folder().join(&config.redaction.dictionary), PathBuf::from(REFERENCE_DICTIONARY)];
    // Of a dry run the fence knows no verb that changes anything, so that the kernel holds what the gate withholds.
    let changing = if dry_run { changing() } else { Vec::new() };
    let plan = Plan::of(policies, Own { config: Some(&folder), dictionaries: &dictionaries, without: &changing });
    let programs = if dry_run { Vec::new() } else { policies.hull("file_system", "execute") };
    let broker = if programs.is_empty() {
        None
    } else {
        // Programs are not rex: what it needs for itself is no business of theirs.
        // What may be run in any circumstances may be run by a program too; what depends on its arguments nobody could judge there.
        let plan = || Plan::of(policies, Own::default()).starting(&policies.unconditional("file_system", "execute"));
        let rules = Rules {
            programs,
            plan: Box::new(plan),
            children: limits.children,
            memory: limits.memory,
            cpu: limits.cpu.as_secs(),
            file_size: limits.file_size,
        };
        Some(Broker::start(rules)?)
    };
    if plan.calls.inspects {
        crate::sys::proc::inspector::start(plan.calls.stacks)?;
    }
    if plan.calls.debugs {
        crate::sys::debugger::start()?;
    }
    if plan.calls.unmounts {
        crate::sys::unmount::start(policies.hull("file_system", "unmount"))?;
    }
    let hull = |namespace: &str, name: &str| {
        if changing.contains(&(namespace, name)) { Vec::new() } else { policies.hull(namespace, name) }
    };
    let containers = crate::sys::containers::hulls(|verb| hull("container_system", verb));
    crate::sys::containers::start(&config.containers.socket, containers)?;
    crate::sys::prober::start(&config.probes, hull("probe_system", "probe"), !hull("probe_system", "list").is_empty(), |name| {
        config.beside(name)
    })?;
    crate::sys::opener::start(&plan.named, plan.powers)?;
    crate::sys::naming::start()?;
    if plan.calls.unix_sockets {
        crate::sys::systemd::prepare();
    }
    layers.extend(fence::arm(&plan)?);
    if dry_run && let Some(missing) = ["landlock", "seccomp"].into_iter().find(|layer| !layers.contains(layer)) {
        return Err(Error::new(
            Kind::Layer,
            format!("a dry run needs the layer `{missing}`, which is not in force on this host; nothing ran"),
        ));
    }
    match config.require_layers.iter().map(|layer| crate::config::layer_word(*layer)).find(|layer| !layers.contains(layer)) {
        None => Ok((layers, broker)),
        Some(missing) => {
            Err(Error::new(Kind::Layer, format!("the layer `{missing}` that rex.toml demands is not in force on this host; nothing ran")))
        }
    }
}

/// Where callers find again what they were told. That it cannot be used is no reason not to run.
#[must_use]
pub fn denials(config: &Config) -> Option<Arc<Denials>> {
    let folder = &config.audit.denials;
    if folder.is_empty() {
        None
    } else {
        Denials::open(&config.beside(folder), || crate::resource::file::names().gid_of(shared::GROUP)).ok().map(Arc::new)
    }
}

/// Every verb that changes something: namespace and name.
fn changing() -> Vec<(&'static str, &'static str)> {
    let (asks, _) = crate::functions::vocabulary();
    crate::policy::schema::changing(&asks)
}

/// The kinds of evidence that rex.toml demands, in the words of `identity`.
#[must_use]
pub fn demanded(config: &Config) -> Vec<Evidence> {
    config.identity.iter().filter_map(|kind| Evidence::of_word(crate::config::evidence_word(*kind))).collect()
}

/// Who asks, as the policy language sees it.
#[must_use]
pub fn principal(identity: &Identity) -> Principal {
    let facts = &identity.facts;
    let mut attributes: Vec<(&'static str, Value)> = vec![
        ("unix_user", Value::String(facts.unix_user.clone())),
        ("uid", Value::Long(facts.uid.into())),
        ("evidence", Value::String(identity.evidence.name().to_owned())),
    ];
    let texts = [
        ("method", &facts.method),
        ("key_fingerprint", &facts.key_fingerprint),
        ("key_type", &facts.key_type),
        ("agent", &facts.agent),
        ("task", &facts.task),
        ("on_behalf_of", &facts.on_behalf_of),
        ("via", &facts.via),
    ];
    attributes.extend(texts.into_iter().filter_map(|(name, text)| text.as_ref().map(|text| (name, Value::String(text.clone())))));
    if let Some(address) = facts.client_address {
        attributes.push(("client_address", Value::Ip(address.to_string())));
    }
    if let Some(certificate) = &facts.certificate {
        attributes.push((
            "certificate",
            Value::Record(vec![
                ("key_id", Value::String(certificate.key_id.clone())),
                ("serial", Value::Long(i64::try_from(certificate.serial).unwrap_or(i64::MAX))),
                ("authority", Value::String(certificate.authority.clone())),
                ("principals", Value::Set(certificate.principals.iter().cloned().map(Value::String).collect())),
                (
                    "expiry",
                    Value::Datetime(
                        certificate.valid_before.and_then(|end| i64::try_from(end.checked_mul(1000)?).ok()).unwrap_or(FOR_EVER),
                    ),
                ),
                ("extensions", Value::Set(certificate.extensions.keys().cloned().map(Value::String).collect())),
            ]),
        ));
    }
    Principal { name: identity.name.clone(), groups: identity.groups.clone(), attributes }
}

/// The circumstances of the run, as the policy language sees them.
#[must_use]
pub fn session_attributes(terms: &Terms, runbook: Option<&str>, script_digest: &str) -> Vec<(&'static str, Value)> {
    let mut attributes = vec![
        ("mode", Value::String(terms.mode.to_owned())),
        ("interactive", Value::Bool(false)),
        ("script", Value::String(script_digest.to_owned())),
        ("layers", Value::Set(terms.layers.iter().map(|layer| Value::String((*layer).to_owned())).collect())),
    ];
    if let Some(host) = rustix::system::uname().nodename().to_str().ok().filter(|name| !name.is_empty()) {
        attributes.push(("host", Value::String(host.to_owned())));
    }
    if let Some(runbook) = runbook {
        attributes.push(("runbook", Value::String(runbook.to_owned())));
    }
    if let Some(address) = terms.identity.facts.client_address {
        attributes.push(("client_address", Value::Ip(address.to_string())));
    }
    attributes
}

/// The gate's records, written to the audit; and what callers are told of denials, for `rex why`.
pub struct Records {
    pub audit: Arc<Audit>,
    pub denials: Option<Arc<Denials>>,
    pub run: String,
}

impl Recorder for Records {
    fn decision(&self, record: &DecisionRecord<'_>) -> Result<()> {
        let resource = written(record.resource);
        let requested = (record.shown != record.resource.1).then_some(record.shown);
        let (context, attributes) = (told(record.context), told(record.attributes));
        self.audit.record(&Event::Decision(Decision {
            allow: record.allowed,
            action: record.action,
            resource: &resource,
            requested,
            why: record.why,
            policies: &record.policies,
            reference: record.reference,
            function: record.function,
            line: record.line,
            column: record.column,
            memoized: record.remembered,
            dry_run: record.dry_run,
            context: context.as_ref(),
            attributes: attributes.as_ref(),
        }))
    }
    fn walk(&self, record: &WalkRecord<'_>) -> Result<()> {
        let root = written(record.root);
        for (action, allowed, denied) in record.counts {
            self.audit.record(&Event::WalkSummary(WalkSummary {
                root: &root,
                action,
                allowed: *allowed,
                denied: *denied,
                policies: &record.policies,
            }))?;
        }
        Ok(())
    }
    fn effect(&self, record: &EffectRecord<'_>) -> Result<()> {
        self.audit.record(&Event::Effect(Effect {
            action: record.action,
            resource: &written(record.resource),
            failed: record.failed,
            bytes: record.bytes,
            duration_us: u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX),
            detail: record.detail,
        }))
    }
    fn told(&self, denial: &Denial, site: &Site<'_>) {
        let Some(denials) = &self.denials else { return };
        let line = serde_json::json!({
            "schema": TOLD,
            "ref": denial.reference,
            "run": self.run,
            "time": crate::sys::clock::now_rfc3339(),
            "function": site.function,
            "at": {"line": site.line, "column": site.column},
            "denial": crate::report::denial_value(denial),
        });
        denials.add(&line.to_string());
    }
}

/// Values of the policy language for a record. Of the environment of a program only the names are recorded, its arguments as `argv` alone.
#[must_use]
pub fn told(values: &[(&'static str, Value)]) -> Option<serde_json::Map<String, serde_json::Value>> {
    use serde_json::Value as Json;
    fn json(value: &Value) -> Json {
        match value {
            Value::Bool(bool) => Json::Bool(*bool),
            Value::Long(long) => (*long).into(),
            Value::String(text) | Value::Ip(text) | Value::Masked(_, text) => text.as_str().into(),
            Value::Set(items) => items.iter().map(json).collect(),
            Value::Record(pairs) => Json::Object(pairs.iter().map(|(name, value)| ((*name).to_owned(), json(value))).collect()),
            Value::Datetime(milliseconds) => (*milliseconds).into(),
            Value::Entity(kind, id) => written((kind, id)).into(),
            Value::Object(object) => {
                Json::Object(object.attributes.iter().map(|(name, value)| ((*name).to_owned(), json(value))).collect())
            }
        }
    }
    let kept = values.iter().filter(|(name, _)| *name != "arguments");
    let map: serde_json::Map<String, Json> = kept.map(|(name, value)| ((*name).to_owned(), json(value))).collect();
    (!map.is_empty()).then_some(map)
}

/// The version of the lines that `rex why` reads back.
pub const TOLD: &str = "rex.told/1";

/// An entity in Cedar notation.
fn written((kind, id): (&str, &str)) -> String {
    let mut text = String::with_capacity(kind.len() + id.len() + 4);
    text.push_str(kind);
    text.push_str("::\"");
    for c in id.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => text.extend(c.escape_unicode()),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
