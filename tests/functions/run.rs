//! Running one example through the binary: a folder with its files, a policy, a configuration that records to a file, and what was left behind.

use super::server::{self, Server};
use rexsh::functions::function::Example;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// An example that takes longer than this is killed, and fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host of the owner for one example. Removed when dropped.
pub struct Host {
    root: tempfile::TempDir,
    /// For examples that talk to one: at a port, and at the socket `server.sock` of the folder.
    server: Option<Server>,
    /// The same in TLS, with a certificate that nobody vouches for.
    secured: Option<Server>,
}

/// What a run left behind.
#[derive(Default)]
pub struct Run {
    pub stdout: String,
    pub stderr: String,
    /// The exit code; 256 + the signal for a death by signal.
    pub code: i32,
    pub audit: Vec<Value>,
}

impl Host {
    /// With this policy, and the example's files in the folder `data`.
    pub fn new(policy: &str, example: &Example) -> Self {
        // Below target/: rex takes no policy from a folder like /tmp, where anybody can write.
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let secured = example.script.contains("tls_port").then(|| {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            server::secured(&server::certificate(folder.path(), "example", "IP:127.0.0.1", &[]), server::usual)
        });
        let server = ["server +", " port"].iter().any(|word| example.script.contains(word)).then(Server::new);
        let host = Self { root, server, secured };
        for folder in ["etc/policies", "data"] {
            fs::create_dir_all(host.path(folder)).unwrap();
        }
        fs::write(host.path("etc/policies/test.cedar"), policy).unwrap();
        let config = format!("[audit]\nsyslog = false\njournald = false\ndenials = \"\"\nfile = {:?}\n", host.path("audit.jsonl"));
        fs::write(host.path("etc/rex.toml"), config).unwrap();
        for (name, content) in example.given {
            let path = host.path("data").join(name);
            if name.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
        }
        if example.script.contains("server.sock") {
            // By a short name: the address of a socket holds a hundred bytes.
            let folder = fs::File::open(host.path("data")).unwrap();
            let short = format!("/proc/self/fd/{}/server.sock", std::os::fd::AsRawFd::as_raw_fd(&folder));
            server::at_socket(Path::new(&short), server::usual);
        }
        host
    }

    /// Another policy for what runs from now on.
    pub fn set_policy(&self, policy: &str) {
        fs::write(self.path("etc/policies/test.cedar"), policy).unwrap();
    }

    /// The example's folder.
    pub fn data(&self) -> String {
        self.path("data").to_string_lossy().into_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        // Canonical, so that examples may compare with what rex says about it.
        fs::canonicalize(self.root.path()).unwrap().join(name)
    }

    /// Runs the script; `dir` is a constant that holds the folder, `server` and `port` say where the server is if there is one.
    pub fn run(&self, script: &str) -> Run {
        self.run_with(script, &[])
    }

    /// The same with more options of `rex run`.
    pub fn run_with(&self, script: &str, options: &[&str]) -> Run {
        fs::write(self.path("script.rhai"), script).unwrap();
        let program = std::env::var_os("REX_TEST_BINARY").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_rex")), PathBuf::from);
        let file = |name: &str| fs::File::create(self.path(name)).unwrap();
        let mut child = Command::new(program)
            .arg("run")
            .arg(self.path("script.rhai"))
            .arg("--config")
            .arg(self.path("etc/rex.toml"))
            .arg("--policy")
            .arg(self.path("etc/policies/test.cedar"))
            .args(["-o", "json"])
            .args(options)
            .arg(format!("dir={}", self.path("data").display()))
            .args(self.server.iter().flat_map(|server| [format!("server={}", server.url("")), format!("port={}", server.port())]))
            .args(self.secured.iter().map(|server| format!("tls_port={}", server.port())))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let read = |name: &str| String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned();
        Run {
            stdout: read("stdout"),
            stderr: read("stderr"),
            code: std::os::unix::process::ExitStatusExt::signal(&status).map_or_else(|| status.code().unwrap_or(-1), |signal| 256 + signal),
            audit: read("audit.jsonl").lines().map(|line| serde_json::from_str(line).expect("a record is JSON")).collect(),
        }
    }

    /// Everything in the example's folder as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let data = self.path("data");
        snapshot.add(&data, &data);
        snapshot
    }
}

/// Names, types, modes, owners, times and contents below a folder, itself included.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<PathBuf, (BTreeMap<&'static str, i64>, Vec<u8>)>);

impl Snapshot {
    fn add(&mut self, path: &Path, root: &Path) {
        let meta = fs::symlink_metadata(path).unwrap();
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let facts = BTreeMap::from([
            ("mode", meta.mode().into()),
            ("owner", meta.uid().into()),
            ("group", meta.gid().into()),
            ("inode", number(meta.ino())),
            ("links", number(meta.nlink())),
            ("mtime", meta.mtime() * 1_000_000_000 + meta.mtime_nsec()),
            ("ctime", meta.ctime() * 1_000_000_000 + meta.ctime_nsec()),
        ]);
        let content = match meta.file_type() {
            kind if kind.is_file() => fs::read(path).unwrap(),
            kind if kind.is_symlink() => fs::read_link(path).unwrap().into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        self.0.insert(path.strip_prefix(root).unwrap().to_owned(), (facts, content));
        if meta.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.add(&entry.unwrap().path(), root);
            }
        }
    }

    /// The first thing that is different afterwards, in words.
    pub fn difference(&self, after: &Self) -> Option<String> {
        for (path, (facts, content)) in &self.0 {
            let Some((new_facts, new_content)) = after.0.get(path) else { return Some(format!("{path:?} is gone")) };
            if content != new_content {
                return Some(format!("the content of {path:?} changed"));
            }
            if let Some((name, _)) = facts.iter().find(|(name, value)| new_facts.get(*name) != Some(value)) {
                return Some(format!("the {name} of {path:?} changed"));
            }
        }
        after.0.keys().find(|path| !self.0.contains_key(*path)).map(|path| format!("{path:?} is new"))
    }
}

impl Run {
    /// The JSON document on stdout; null where there is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or(Value::Null)
    }
    pub fn value(&self) -> Value {
        self.json()["value"].clone()
    }
    pub fn error_type(&self) -> String {
        self.json()["error"]["error_type"].as_str().unwrap_or("").to_owned()
    }
    /// The kind of the error that ended it, empty when there was none.
    pub fn kind(&self) -> String {
        self.json()["error"]["kind"].as_str().unwrap_or("").to_owned()
    }
    /// Records of this kind.
    pub fn events<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'a Value> {
        self.audit.iter().filter(move |record| record["event"] == event)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}\nstdout: {}\nstderr: {}\n", self.code, self.stdout.trim(), self.stderr.trim())?;
        self.audit.iter().filter(|record| record["event"] != "run_start").try_for_each(|record| writeln!(f, "record: {record}"))
    }
}
