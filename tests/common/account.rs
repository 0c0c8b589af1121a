//! Unix accounts of a test, each removed with it: a name, a uid, a group and a home of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names are `rext`, the test's process id, `x`, a number: so that leftovers of killed tests can be told and removed.
const PREFIX: &str = "rext";

/// An account that can log in (with a key; the password is none). Its home belongs to it, as homes do.
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
}

impl Account {
    #[track_caller]
    pub fn new() -> Self {
        Self::with_shell(Path::new("/bin/sh"))
    }
    #[track_caller]
    pub fn with_shell(shell: &Path) -> Self {
        Self::create(shell, &[])
    }
    /// A second login name of the same uid and group.
    #[track_caller]
    pub fn alias(&self) -> Self {
        Self::create(Path::new("/bin/sh"), &["-o", "-u", &self.uid.to_string(), "-g", &self.gid.to_string()])
    }
    #[track_caller]
    fn create(shell: &Path, options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let _lock = lock();
        sweep();
        let name = format!("{PREFIX}{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let home = PathBuf::from(format!("/srv/rex-home-{name}"));
        let _ = fs::remove_dir_all(&home);
        let mut command = Command::new("/usr/sbin/useradd");
        // `*` is no password, but not a locked account either, which sshd would refuse.
        command.args(["-r", "-M", "-p", "*", "-d"]).arg(&home).arg("-s").arg(shell);
        command.args(if options.is_empty() { &["-U"] } else { options }).arg(&name);
        let output = command.output().expect("useradd");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        let (uid, gid) = ids(&name);
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
        chown(&home, Some(uid), Some(gid)).unwrap();
        Self { name, uid, gid, home }
    }
    /// Makes the command run as this account, without further groups.
    pub fn become_(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
    /// A file of the account in its home.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        let file = self.home.join(path);
        let folder = file.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        for made in [folder, &file] {
            chown(made, Some(self.uid), Some(self.gid)).unwrap();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _lock = lock();
        remove(&self.name);
    }
}

fn remove(name: &str) {
    // `-f`: also while a process of the account is ending.
    let _ = Command::new("/usr/sbin/userdel").args(["-f", name]).output();
    let _ = fs::remove_dir_all(format!("/srv/rex-home-{name}"));
}

/// Removes the accounts of tests that were killed.
fn sweep() {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    for name in passwd.lines().filter_map(|line| line.split(':').next()) {
        let digits = name.strip_prefix(PREFIX).and_then(|rest| rest.split('x').next());
        if let Some(pid) = digits.and_then(|digits| digits.parse::<u32>().ok())
            && !super::alive(pid)
        {
            remove(name);
        }
    }
}

/// One change of the user database at a time: the tools give up when they meet another's lock.
fn lock() -> fs::File {
    let file = fs::File::create("/run/lock/rex-test-accounts").or_else(|_| fs::File::create("/run/rex-test-accounts")).unwrap();
    file.lock().unwrap();
    file
}

#[track_caller]
fn ids(name: &str) -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with(&format!("{name}:"))).expect("the account just made");
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}
