//! A host to try rex on: a folder of its own, policies, accounts, a real sshd and a real systemd; and what a run did there.
#![allow(dead_code, unused_imports, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod account;
mod corral;
mod fleet;
mod machine;
mod process;
mod sandbox;
mod screen;
mod sshd;
mod systemd;

pub use account::Account;
pub use corral::Corral;
pub use fleet::{Fleet, Site, block, shipped};
pub use machine::Machine;
pub use process::{Running, alive, children, run, until};
pub use sandbox::{Sandbox, ssh_to};
pub use screen::Screen;
pub use sshd::{Key, Sshd, spare_port};
pub use systemd::Systemd;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Policies for a test that is about something else.
pub const ALLOW_ALL: &str = "permit(principal, action, resource);";

/// A running test needs root (accounts, sshd, namespaces): says so and leaves the test otherwise.
#[macro_export]
macro_rules! needs_root {
    () => {
        if !$crate::common::is_root() {
            eprintln!("skipped: this test needs root");
            return;
        }
    };
}

/// The same for tests that make mounts of their own, which some containers forbid even to root.
#[macro_export]
macro_rules! needs_namespaces {
    () => {
        $crate::needs_root!();
        if !$crate::common::may_unshare() {
            eprintln!("skipped: this test needs namespaces (CAP_SYS_ADMIN)");
            return;
        }
    };
}

pub fn may_unshare() -> bool {
    let script = "mount -t tmpfs none /srv && mount -t cgroup2 none /srv";
    Command::new("unshare").args(["--mount", "--pid", "--fork", "sh", "-c", script]).status().is_ok_and(|status| status.success())
}

/// Removes the hosts of tests that were killed.
fn sweep() {
    for entry in fs::read_dir("/srv").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("rex-test-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !alive(pid)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The rex under test: `REX_TEST_BINARY`, or what cargo built.
pub fn binary() -> PathBuf {
    std::env::var_os("REX_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_rex").into(), PathBuf::from)
}

/// What a run of rex (or ssh, or another program) left behind.
#[derive(Debug)]
pub struct Run {
    pub stdout: String,
    pub stderr: String,
    /// The exit code; 256 + the signal for a death by signal, so that it equals no code rex may use.
    pub code: i32,
    /// The records written meanwhile, oldest first.
    pub audit: Vec<serde_json::Value>,
    pub seconds: f64,
}

impl Run {
    /// The one JSON document on stdout.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON document on stdout ({error}): {self:#?}"))
    }
    /// `error.error_type` of the JSON result.
    #[track_caller]
    pub fn error_type(&self) -> String {
        self.json()["error"]["error_type"].as_str().unwrap_or("").to_owned()
    }
    /// The typed result.
    #[track_caller]
    pub fn value(&self) -> serde_json::Value {
        self.json()["value"].clone()
    }
    #[track_caller]
    pub fn ends(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
    /// The run succeeded and its value is this.
    #[track_caller]
    pub fn gives(&self, value: impl Into<serde_json::Value>) -> &Self {
        self.ends(0);
        assert_eq!(self.value(), value.into(), "{self:#?}");
        self
    }
    /// The run was denied, says so in the result, and the denial is on record.
    #[track_caller]
    pub fn is_denied(&self) -> &Self {
        self.ends(77);
        assert_eq!(self.error_type(), "ACCESS_DENIED_EXCEPTION", "{self:#?}");
        assert!(self.denials() >= 1, "{self:#?}");
        assert!(self.records_denial(), "the denial is not on record: {self:#?}");
        self
    }
    /// How many denials the JSON result counts; it lists as many.
    #[track_caller]
    pub fn denials(&self) -> u64 {
        let result = self.json();
        let listed = result["denials"].as_array().map_or(0, Vec::len) as u64;
        assert_eq!(result["denial_count"].as_u64(), Some(listed), "{self:#?}");
        listed
    }
    /// Whether some record tells of a refused act.
    pub fn records_denial(&self) -> bool {
        self.events("decision").iter().any(|record| record["decision"] == "deny")
    }
    /// Records of this kind (`event` is the key).
    pub fn events(&self, event: &str) -> Vec<&serde_json::Value> {
        self.audit.iter().filter(|record| record["event"] == event).collect()
    }
}

/// One host of the owner: `etc/` with rex's files, `data/` to play in, `audit/`. Removed when dropped.
///
/// It lies where only root can write, because a session of rex takes no policy from below a folder that others can write.
pub struct Rex {
    root: PathBuf,
    binary: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Rex {
    #[track_caller]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (root, temporary) = if is_root() {
            sweep();
            let root = PathBuf::from(format!("/srv/rex-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
            let _ = fs::remove_dir_all(&root);
            fs::create_dir_all(&root).unwrap();
            (root, None)
        } else {
            let folder = tempfile::tempdir().unwrap();
            (folder.path().to_owned(), Some(folder))
        };
        for (folder, mode) in
            [("", 0o755), ("etc", 0o755), ("etc/policies", 0o755), ("etc/scripts", 0o755), ("data", 0o755), ("audit", 0o700)]
        {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::set_permissions(root.join(folder), fs::Permissions::from_mode(mode)).unwrap();
        }
        // Linked or copied here, because the build folder may be closed to the accounts of the test.
        let copy = root.join("rex");
        if fs::hard_link(binary(), &copy).is_err() {
            fs::copy(binary(), &copy).expect("the rex under test");
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { root, binary: copy, _temporary: temporary }.config("")
    }

    /// With a copy of the program instead of a link to it: a link made by a test beside this one changes the file's inode, and so what the cache
    /// knows the program by.
    #[track_caller]
    pub fn own_program(self) -> Self {
        fs::remove_file(&self.binary).unwrap();
        fs::copy(binary(), &self.binary).unwrap();
        fs::set_permissions(&self.binary, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// The folder of the whole host.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// The folder for the script to play in.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }
    /// The absolute path of something in `data/`.
    pub fn path(&self, name: &str) -> String {
        self.data().join(name).to_str().unwrap().to_owned()
    }
    pub fn program(&self) -> &Path {
        &self.binary
    }
    pub fn config_file(&self) -> PathBuf {
        self.root.join("etc/rex.toml")
    }
    pub fn policy_file(&self) -> PathBuf {
        self.root.join("etc/policies/test.cedar")
    }
    pub fn audit_file(&self) -> PathBuf {
        self.root.join("audit/rex.jsonl")
    }

    /// The policies. `{data}` in them (and in every script) stands for the folder to play in, `{root}` for the whole host's.
    #[track_caller]
    pub fn policy(self, text: &str) -> Self {
        let text = self.fill(text);
        self.put("etc/policies/test.cedar", &text)
    }
    /// More lines of rex.toml: tables of their own, or keys of the top level first.
    #[track_caller]
    pub fn config(self, toml: &str) -> Self {
        let audit =
            format!("[audit]\nfile = \"{}\"\nsyslog = false\njournald = false\ndenials = \"../denials\"\n", self.audit_file().display());
        // Races try the same thing thousands of times; that this ends a run has tests of its own.
        let limits = if toml.contains("[limits]") { "" } else { "[limits]\ndenials = 1000000\n" };
        self.put("etc/rex.toml", &format!("{toml}\n{limits}{audit}"))
    }
    /// rex.toml as given, nothing added.
    #[track_caller]
    pub fn whole_config(self, toml: &str) -> Self {
        self.put("etc/rex.toml", toml)
    }
    #[track_caller]
    pub fn principals(self, toml: &str) -> Self {
        self.put("etc/principals.toml", toml)
    }
    #[track_caller]
    pub fn runbook(self, name: &str, text: &str) -> Self {
        let text = self.fill(text);
        self.put(&format!("etc/scripts/{name}.rhai"), &text)
    }
    /// A file below `data/`, with the folders above it.
    #[track_caller]
    /// Makes the folder of runs under way beside rex.toml, for every account.
    pub fn runs(self) -> Self {
        let folder = self.runs_folder();
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).unwrap();
        self
    }
    pub fn runs_folder(&self) -> PathBuf {
        self.config_file().with_file_name("runs")
    }
    pub fn file(self, path: &str, text: &str) -> Self {
        self.put(&format!("data/{path}"), text)
    }
    #[track_caller]
    pub fn dir(self, path: &str) -> Self {
        fs::create_dir_all(self.data().join(path)).unwrap();
        self
    }
    #[track_caller]
    pub fn link(self, path: &str, target: &str) -> Self {
        std::os::unix::fs::symlink(self.fill(target), self.data().join(path)).unwrap();
        self
    }
    #[track_caller]
    fn put(self, path: &str, text: &str) -> Self {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }
    pub fn fill(&self, text: &str) -> String {
        text.replace("{data}", self.data().to_str().unwrap()).replace("{root}", self.root.to_str().unwrap())
    }
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.data().join(path)).unwrap()
    }
    pub fn exists(&self, path: &str) -> bool {
        self.data().join(path).symlink_metadata().is_ok()
    }
    /// Gives the account the playground, and lets its sessions append to the audit file.
    #[track_caller]
    pub fn account(self, account: &Account) -> Self {
        chown(self.data(), Some(account.uid), Some(account.gid)).unwrap();
        let audit = self.root.join("audit");
        chown(&audit, Some(0), Some(account.gid)).unwrap();
        fs::set_permissions(&audit, fs::Permissions::from_mode(0o2770)).unwrap();
        self
    }

    /// `rex` with the arguments and an environment of two variables.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
        command
    }
    /// Runs the script as the owner of the host does: `rex run -`, JSON result.
    #[track_caller]
    pub fn run(&self, script: &str) -> Run {
        self.run_with(&[], script)
    }
    /// The same with more arguments of `rex run`.
    #[track_caller]
    pub fn run_with(&self, arguments: &[&str], script: &str) -> Run {
        let (config, policy) = (self.config_file(), self.policy_file());
        let mut all = vec!["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"];
        all.extend(arguments);
        self.finish(self.command(&all), self.fill(script).as_bytes())
    }
    /// Runs any prepared command to its end and adds the records it left.
    #[track_caller]
    pub fn finish(&self, command: Command, stdin: &[u8]) -> Run {
        let before = self.audit().len();
        let mut run = process::run(command, stdin, 60);
        run.audit = self.audit().split_off(before);
        run
    }
    /// `rex session` as sshd starts it under a forced command: pipes, and the environment that sshd builds.
    pub fn session_command(&self, account: Option<&Account>, arguments: &[&str], original_command: Option<&str>) -> Command {
        let config = self.config_file();
        let mut all = vec!["session", "--config", config.to_str().unwrap()];
        all.extend(arguments);
        let mut command = self.command(&all);
        let (name, home) = account.map_or(("root".to_owned(), "/root".into()), |account| (account.name.clone(), account.home.clone()));
        command.env("USER", &name).env("LOGNAME", &name).env("HOME", home).env("SHELL", "/bin/sh");
        command.env("SSH_CLIENT", "192.0.2.7 50022 22").env("SSH_CONNECTION", "192.0.2.7 50022 192.0.2.1 22");
        if let Some(text) = original_command {
            command.env("SSH_ORIGINAL_COMMAND", text);
        }
        if let Some(account) = account {
            account.become_(&mut command);
        }
        command
    }
    /// One such session, to its end.
    #[track_caller]
    pub fn session(&self, account: Option<&Account>, arguments: &[&str], original_command: Option<&str>, stdin: &str) -> Run {
        self.finish(self.session_command(account, arguments, original_command), self.fill(stdin).as_bytes())
    }
    /// All records so far, oldest first.
    #[track_caller]
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.audit_file()).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("record `{line}`: {error}"))).collect()
    }
}

impl Drop for Rex {
    fn drop(&mut self) {
        if is_root() {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

/// The text with one rule's condition taken away, for each rule that has one: the rule's id, the text.
#[track_caller]
pub fn without_each_condition(text: &str) -> Vec<(String, String)> {
    let rules: Vec<&str> = text.split_inclusive("@id(").collect();
    let without = |at: usize| {
        let rule = rules[at];
        let ends = [") when", ")\nwhen", ") unless", ")\nunless"];
        let (place, end) = ends.iter().filter_map(|end| Some((rule.find(end)?, *end))).min()?;
        let (_, after) = rule[place + end.len()..].split_once("};").expect("a condition ends in `};`");
        let id = rule.split('"').nth(1).unwrap_or("").to_owned();
        Some((id, format!("{}{});{after}{}", rules[..at].concat(), &rule[..place], rules[at + 1..].concat())))
    };
    (0..rules.len()).filter_map(without).collect()
}

/// A table of principals.toml: this key is this person.
pub fn mapped_key(key: &Key, name: &str) -> String {
    format!("[[principal]]\nname = \"{name}\"\nkeys = [\"{}\"]\n", key.fingerprint())
}

/// Tables of principals.toml: a certificate of this authority with this principal is this person.
pub fn mapped_certificate(authority: &Key, principal: &str, name: &str) -> String {
    format!(
        "[[authority]]\nname = \"ca\"\nfingerprint = \"{}\"\n\
         [[principal]]\nname = \"{name}\"\ncertificates = [{{ authority = \"ca\", principals = [\"{principal}\"] }}]\n",
        authority.fingerprint()
    )
}
