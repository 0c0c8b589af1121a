//! What the host is before setup: everything that a plan depends on, looked at once.

use super::rights::Needs;
use super::texts::{self, DROP_IN, SSHD_CONFIG};
use super::wanted::{Flavour, Wanted};
use super::{
    HOME, KEYS, PAM, POLICIES, PRINCIPALS_TOML, PROGRAM, REX_TOML, ROOT_DROP_IN, RULES, SHELL, SHELLS, TMPFILES, TMPFILES_OF_PACKAGE, UNIT,
};
use crate::error::{Error, Kind, Result};
use crate::host::keys;
use crate::host::sshd::{Connection, Effective, Sshd};
use crate::os::install::{self, Thing};
use crate::os::process::{Group, Names, User};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// sshd's answers for the account.
#[derive(Clone, Debug, Default)]
pub struct OfSshd {
    /// Where it looks for keys of the account, in its order.
    pub key_files: Vec<PathBuf>,
    /// Keys of the account that are held to no command.
    pub free_keys: usize,
    pub permit_root_login: String,
    /// The command of the subsystem `sftp`.
    pub sftp: Option<String>,
}

/// The host.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub(super) things: BTreeMap<PathBuf, Thing>,
    /// The account that is wanted, where it is there.
    pub user: Option<User>,
    /// Groups that matter here, those of them that are there.
    pub groups: BTreeMap<String, Group>,
    pub systemd: bool,
    pub polkit: bool,
    /// Whether a record has a place without a file: journald or syslog.
    pub log: bool,
    /// None: there is no sshd.
    pub sshd: Option<OfSshd>,
    /// What the policies of the principal need of the host.
    pub needs: Needs,
}

impl Facts {
    /// # Errors
    /// What keeps a file from being looked at; [`Kind::Config`] where sshd's configuration is not valid as it is.
    pub fn gather(wanted: &Wanted, needs: Needs) -> Result<Self> {
        let names = Names::of_host();
        let user = names.user_named(&wanted.account);
        let groups = ["rexusers", "adm", "systemd-journal", wanted.account.as_str()];
        let groups = groups.iter().filter_map(|name| names.group_named(name).map(|group| ((*name).to_owned(), group))).collect();
        let exists = |path: &str| Path::new(path).exists();
        let mut facts = Self {
            things: BTreeMap::new(),
            user,
            groups,
            systemd: exists("/run/systemd/system"),
            polkit: exists("/etc/polkit-1/rules.d") || exists("/usr/share/polkit-1/rules.d"),
            log: exists("/run/systemd/journal/socket") || exists("/dev/log"),
            sshd: None,
            needs,
        };
        if wanted.flavour != Flavour::Serve {
            facts.sshd = sshd(wanted, facts.user.as_ref())?;
        }
        for path in facts.candidates(wanted) {
            let thing = match install::look(&path) {
                // Only rex itself is that large, and it is not looked into.
                Err(error) if error.kind == Kind::TooLarge => Thing::Other,
                thing => thing?,
            };
            facts.things.insert(path, thing);
        }
        Ok(facts)
    }

    /// Every place that a plan may touch.
    fn candidates(&self, wanted: &Wanted) -> Vec<PathBuf> {
        let fixed = [
            super::HOST_KEY,
            PROGRAM,
            super::AUDIT_FILE,
            SHELL,
            SHELLS,
            REX_TOML,
            PRINCIPALS_TOML,
            TMPFILES,
            TMPFILES_OF_PACKAGE,
            SSHD_CONFIG,
            DROP_IN,
            ROOT_DROP_IN,
            PAM,
            UNIT,
        ];
        let more = [
            "/usr/sbin/nologin",
            "/etc/ssh/sshd_config.d",
            "/etc/tmpfiles.d",
            "/usr/lib/tmpfiles.d",
            "/etc/polkit-1/rules.d",
            texts::AUTHORITIES,
            texts::CERTIFICATE_PRINCIPALS,
            super::SERVE_KEYS,
        ];
        let mut paths: Vec<PathBuf> = fixed.iter().chain(&more).map(PathBuf::from).collect();
        paths.extend(texts::folders().map(|(path, ..)| path.to_path_buf()));
        paths.push(Path::new(KEYS).join(&wanted.account));
        paths.push(Path::new(texts::CERTIFICATE_PRINCIPALS).join(&wanted.account));
        paths.push(rules_file(&wanted.account));
        for policy in &wanted.policies {
            paths.push(Path::new(POLICIES).join(format!("{}.cedar", policy.name)));
            paths.push(Path::new(POLICIES).join(format!("{}.test.toml", policy.name)));
        }
        let home = self.home(&wanted.account);
        paths.push(home.join(".ssh"));
        paths.push(home.join(".ssh/authorized_keys"));
        paths.push(home);
        paths.extend(
            self.sshd
                .iter()
                .flat_map(|sshd| sshd.key_files.iter())
                .flat_map(|file| [Some(file.clone()), file.parent().map(Path::to_path_buf)])
                .flatten(),
        );
        paths
    }

    /// The account's home, or where it will be; links above it resolved.
    #[must_use]
    pub fn home(&self, account: &str) -> PathBuf {
        let home = self.user.as_ref().map_or_else(|| Path::new(HOME).join(account), |user| user.home.clone());
        install::settled(&home)
    }

    #[must_use]
    pub fn thing(&self, path: impl AsRef<Path>) -> &Thing {
        self.things.get(path.as_ref()).unwrap_or(&Thing::Nothing)
    }

    /// The text of a file; `None` where there is none.
    ///
    /// # Errors
    /// [`Kind::Config`] for what is no file of text.
    pub fn text(&self, path: impl AsRef<Path>) -> Result<Option<&str>> {
        let path = path.as_ref();
        let refused = |what: &str| Err(Error::new(Kind::Config, what).with_path(path.display().to_string()));
        match self.thing(path) {
            Thing::Nothing => Ok(None),
            Thing::File(found) => std::str::from_utf8(&found.content).map_or_else(|_| refused("not UTF-8 text"), |text| Ok(Some(text))),
            _ => refused("a regular file is needed here, and something else is there"),
        }
    }

    #[cfg(test)]
    pub fn put(&mut self, path: &str, thing: Thing) {
        self.things.insert(path.into(), thing);
    }
}

/// The polkit rule of an account.
#[must_use]
pub fn rules_file(account: &str) -> PathBuf {
    Path::new(RULES).join(format!("50-rex-{account}.rules"))
}

fn sshd(wanted: &Wanted, user: Option<&User>) -> Result<Option<OfSshd>> {
    let sshd = match Sshd::find(None) {
        Ok(sshd) => sshd,
        Err(error) if error.kind == Kind::Unsupported => return Ok(None),
        Err(error) => return Err(error),
    };
    super::verify::privilege_separation()?;
    sshd.test().map_err(|error| Error {
        hint: Some("sshd's configuration is not valid as it is now: mend that first; nothing has changed".to_owned()),
        ..error
    })?;
    let effective = sshd.effective(&Connection::of(&wanted.account))?;
    // An account that is not there yet is asked about as it will be.
    let (name, home) = (wanted.account.clone(), Path::new(HOME).join(&wanted.account));
    let new = User { name, uid: u32::MAX, gid: u32::MAX, home, shell: PathBuf::new() };
    let key_files: Vec<PathBuf> =
        keys::files(&effective, "AuthorizedKeysFile", user.unwrap_or(&new)).iter().map(|file| in_home(file)).collect();
    let lines = key_files.iter().flat_map(|file| keys::read(file).unwrap_or_default());
    let free_keys = lines
        .filter(|line| !line.has("command") && !wanted.keys.iter().any(|key| Some(&key.fingerprint) == line.fingerprint().as_ref()))
        .count();
    Ok(Some(OfSshd {
        key_files,
        free_keys,
        permit_root_login: effective.get("permitrootlogin").unwrap_or_default().to_owned(),
        sftp: sftp(&effective),
    }))
}

/// The file of keys with the links above the home resolved; those in the home are the account's, and are not gone through.
fn in_home(file: &Path) -> PathBuf {
    match (file.parent().and_then(Path::parent), file.parent().and_then(Path::file_name), file.file_name()) {
        (Some(home), Some(folder), Some(name)) => install::settled(home).join(folder).join(name),
        _ => file.to_path_buf(),
    }
}

fn sftp(effective: &Effective) -> Option<String> {
    effective.subsystems().find(|(name, _)| *name == "sftp").map(|(_, command)| command.to_owned())
}
