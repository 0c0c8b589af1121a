//! From what is wanted and what is there to the steps in between. Pure: nothing is looked at here, and nothing is done.

use super::facts::{Facts, rules_file};
use super::step::{Before, Contents, Step};
use super::texts::{self, DROP_IN, Known, SSHD_CONFIG};
use super::wanted::{Flavour, PublicKey, Wanted};
use super::{
    AUDIT_FILE, GROUP, HOST_KEY, KEYS, PAM, POLICIES, PRINCIPALS_TOML, PROGRAM, REX_TOML, ROOT_DROP_IN, SERVE_KEYS, SHELL, SHELLS,
    TMPFILES, TMPFILES_OF_PACKAGE, UNIT,
};
use crate::config::{Config, Evidence, evidence_word};
use crate::error::{Error, Kind, Result};
use crate::identity::Principals;
use crate::os::install::Thing;
use std::path::{Path, PathBuf};

/// How a login is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    Request,
    /// `ssh -s`, after a plain request.
    Subsystem,
    /// With a certificate for this principal, in a list of principals.
    Certificate {
        principal: String,
    },
    /// At rex's own server.
    Serve,
}

/// A login that has to work before the setup counts, with a key that is made for it and gone after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    pub account: String,
    /// Whom rex has to take it for.
    pub principal: String,
    /// The file in which the key is for that long.
    pub file: PathBuf,
    /// What stands before the key there; `{key}` is the key.
    pub line: String,
    pub way: Way,
    /// Whether principals.toml has to say whose the key is.
    pub mapped: bool,
}

/// What has to hold of sshd afterwards, for an account: the settings of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub account: String,
    pub block: String,
}

/// What is going to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// What the owner should know.
    pub notes: Vec<String>,
    pub tries: Vec<Try>,
    pub checks: Vec<Check>,
    /// Accounts that can do nothing but ask rex from now on.
    pub held: Vec<String>,
}

/// # Errors
/// [`Kind::Config`] for what is on the host and does not fit, [`Kind::Unsupported`] for what is missing: each says what to do.
pub fn plan(wanted: &Wanted, facts: &Facts) -> Result<Plan> {
    let mut maker = Maker { wanted, facts, plan: Plan::default() };
    if wanted.flavour != Flavour::Serve && facts.sshd.is_none() {
        return Err(Error::new(Kind::Unsupported, "there is no sshd on this host")
            .with_hint("install it (on Debian: apt-get install openssh-server), or use rex's own server: --flavour serve"));
    }
    maker.base()?;
    match wanted.flavour {
        Flavour::ForcedCommand | Flavour::LeastPrivilege | Flavour::Certificate | Flavour::Subsystem => maker.by_group()?,
        Flavour::Root => maker.root()?,
        Flavour::Key => maker.key()?,
        Flavour::LoginShell => maker.login_shell()?,
        Flavour::Serve => maker.serve()?,
    }
    Ok(maker.plan)
}

struct Maker<'a> {
    wanted: &'a Wanted,
    facts: &'a Facts,
    plan: Plan,
}

fn config(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(Kind::Config, message).with_hint(hint)
}

impl Maker<'_> {
    fn step(&mut self, step: Step) {
        self.plan.steps.push(step);
    }
    fn note(&mut self, note: impl Into<String>) {
        self.plan.notes.push(note.into());
    }

    /// A file that is to have this text; owner and mode of one that is there stay.
    fn file(&mut self, path: impl AsRef<Path>, why: &str, text: &str) -> Result<()> {
        self.owned(path, why, text, 0o644, "root", "root")
    }

    fn owned(&mut self, path: impl AsRef<Path>, why: &str, text: &str, mode: u32, owner: &str, group: &str) -> Result<()> {
        let path = path.as_ref();
        if self.plan.steps.iter().any(|step| matches!(step, Step::File { path: other, .. } if other == path)) {
            return Err(Error::new(Kind::Internal, "a plan writes each file once").with_path(path.display().to_string()));
        }
        let before = match (self.facts.text(path)?, self.facts.thing(path)) {
            (Some(now), _) if now == text => return Ok(()),
            (Some(now), Thing::File(found)) => Some(Before { text: now.to_owned(), mode: found.mode, uid: found.uid, gid: found.gid }),
            _ => None,
        };
        self.step(Step::File {
            path: path.to_path_buf(),
            why: why.to_owned(),
            text: text.to_owned(),
            mode,
            owner: owner.to_owned(),
            group: group.to_owned(),
            before,
        });
        Ok(())
    }

    /// A file that is the owner's once it is there.
    fn new_file(&mut self, path: impl AsRef<Path>, why: &str, text: &str) -> Result<()> {
        if self.facts.text(&path)?.is_some() { Ok(()) } else { self.file(path, why, text) }
    }

    fn folder(&mut self, path: &Path, mode: u32, owner: &str, group: &str, contents: Contents) -> Result<()> {
        match self.facts.thing(path) {
            Thing::Nothing if self.plan.steps.iter().any(|step| matches!(step, Step::Folder { path: other, .. } if other == path)) => {
                Ok(())
            }
            Thing::Nothing => {
                let (path, owner, group) = (path.to_path_buf(), owner.to_owned(), group.to_owned());
                self.step(Step::Folder { path, mode, owner, group, contents });
                Ok(())
            }
            Thing::Folder(rights) if rights.uid == 0 && rights.mode & 0o022 & !mode == 0 || owner != "root" => Ok(()),
            Thing::Folder(rights) => {
                let fault = format!("the folder is not root's alone (owner {}, mode {:04o})", rights.uid, rights.mode);
                Err(config(fault, format!("chown root:{group} {0}; chmod {mode:04o} {0}", path.display()))
                    .with_path(path.display().to_string()))
            }
            _ => Err(config("a folder is needed here, and something else is there", "move it away").with_path(path.display().to_string())),
        }
    }

    /// A folder that sessions share: with exactly this owner and mode. One that an earlier setup left with records in it is taken up again.
    fn shared_folder(&mut self, path: &Path, mode: u32, owner: &str, group: &str, contents: Contents) -> Result<()> {
        let gid = if group == "root" { Some(0) } else { self.facts.groups.get(group).map(|group| group.gid) };
        match self.facts.thing(path) {
            Thing::Folder(now) if group != "root" && now.uid == 0 && (now.mode, Some(now.gid)) != (mode, gid) => {
                let before = (now.mode, now.uid, now.gid);
                self.give(path, mode, owner, group, before);
                if let Thing::File(now) = self.facts.thing(AUDIT_FILE)
                    && Path::new(AUDIT_FILE).starts_with(path)
                {
                    let before = (now.mode, now.uid, now.gid);
                    self.give(Path::new(AUDIT_FILE), 0o660, owner, group, before);
                }
                Ok(())
            }
            _ => self.folder(path, mode, owner, group, contents),
        }
    }

    fn give(&mut self, path: &Path, mode: u32, owner: &str, group: &str, before: (u32, u32, u32)) {
        let (path, owner, group) = (path.to_path_buf(), owner.to_owned(), group.to_owned());
        self.step(Step::Rights { path, mode, owner, group, before });
    }

    fn has_group(&self, name: &str) -> bool {
        self.facts.groups.contains_key(name)
    }
    fn is_member(&self, group: &str) -> bool {
        let account = &self.wanted.account;
        self.facts.groups.get(group).is_some_and(|group| {
            group.members.iter().any(|member| member == account) || self.facts.user.as_ref().is_some_and(|user| user.gid == group.gid)
        })
    }

    /// What every way in needs.
    fn base(&mut self) -> Result<()> {
        if *self.facts.thing(PROGRAM) == Thing::Nothing {
            self.step(Step::Program { path: PROGRAM.into() });
        }
        if !self.has_group(GROUP) {
            self.step(Step::Group { name: GROUP.to_owned() });
        }
        if self.wanted.flavour == Flavour::Serve && self.facts.user.is_none() {
            self.account(Path::new("/var/lib/rex"), nologin(self.facts), &[GROUP])?;
        }
        for (path, mode, owner, group) in texts::folders() {
            let made_again = path.starts_with("/run") || path.starts_with("/var/cache");
            self.shared_folder(path, mode, owner, group, if made_again { Contents::MadeAgain } else { Contents::Kept })?;
        }
        let has_tmpfiles =
            ["/etc/tmpfiles.d", "/usr/lib/tmpfiles.d"].iter().any(|folder| matches!(self.facts.thing(folder), Thing::Folder(_)));
        if has_tmpfiles && *self.facts.thing(TMPFILES_OF_PACKAGE) == Thing::Nothing {
            if *self.facts.thing("/etc/tmpfiles.d") == Thing::Nothing {
                self.folder(Path::new("/etc/tmpfiles.d"), 0o755, "root", "root", Contents::Kept)?;
            }
            self.new_file(TMPFILES, "the folders of rex are there after each boot", texts::TMPFILES)?;
        }
        self.settings()?;
        self.principals()?;
        for policy in &self.wanted.policies {
            self.new_file(Path::new(POLICIES).join(format!("{}.cedar", policy.name)), "what is allowed", &policy.text)?;
            if let Some(tests) = &policy.tests {
                self.new_file(Path::new(POLICIES).join(format!("{}.test.toml", policy.name)), "tests of that policy", tests)?;
            }
        }
        Ok(())
    }

    /// The evidence that this way in rests on; the server of rex needs none of those.
    fn evidence(&self) -> Option<Evidence> {
        match self.wanted.flavour {
            Flavour::Serve => None,
            _ if self.wanted.record => Some(Evidence::Record),
            Flavour::Root | Flavour::Key => Some(Evidence::Argument),
            Flavour::Certificate => Some(Evidence::AuthInfo),
            _ => Some(Evidence::User),
        }
    }

    /// Whether principals.toml tells people by their keys.
    fn by_key(&self) -> bool {
        self.wanted.flavour == Flavour::Serve || self.wanted.record && self.wanted.flavour != Flavour::Certificate
    }

    fn settings(&mut self) -> Result<()> {
        let needed = self.evidence();
        let host_key = (self.wanted.flavour == Flavour::Serve).then_some(HOST_KEY);
        let now = self.facts.text(REX_TOML)?;
        let current = now.map(|now| Config::parse(now, Path::new(REX_TOML))).transpose()?;
        // Without syslog and journald, and without a file, no session could run.
        let file = (!self.facts.log && current.as_ref().is_none_or(|config| config.audit.file.is_empty())).then_some(AUDIT_FILE);
        let (Some(now), Some(current)) = (now, current) else {
            if file.is_some() && self.wanted.flavour == Flavour::Key && self.wanted.account != "root" {
                return Err(config(
                    "this host has neither journald nor syslog, and this account cannot write a file of records",
                    "start a syslog, or use --flavour forced-command, whose accounts are in the group that can",
                ));
            }
            let identity = [evidence_word(needed.unwrap_or(Evidence::User))];
            return self.file(REX_TOML, "settings", &texts::settings(&identity, file, host_key)?);
        };
        let mut text = now.to_owned();
        if let Some(file) = file {
            text = texts::with_text(&text, "audit", "file", file)?;
        }
        if let Some(identity) = needed.map(|needed| with_evidence(&current.identity, needed)).transpose()?.flatten() {
            text = texts::with_identity(&text, &identity)?;
        }
        if let Some(host_key) = host_key
            && current.serve.host_key == "host_key"
        {
            text = texts::with_text(&text, "serve", "host_key", host_key)?;
        }
        Config::parse(&text, Path::new(REX_TOML))?;
        self.file(REX_TOML, "which evidence says who is asking, where records go, and where the server's key is", &text)
    }

    fn principals(&mut self) -> Result<()> {
        let Wanted { flavour, account, principal, groups, keys, authorities, certificate_principals, .. } = self.wanted;
        let now = self.facts.text(PRINCIPALS_TOML)?;
        let known = Principals::parse(now.unwrap_or_default(), PRINCIPALS_TOML)?;
        let mut tables = String::new();
        for (number, authority) in authorities.iter().enumerate() {
            if !known.knows_authority(&authority.fingerprint) {
                tables.push_str(&texts::authority(&authority_name(number), &authority.fingerprint));
            }
        }
        let there = known.people().find(|person| person.name == *principal);
        let means_it = match flavour {
            _ if self.by_key() => keys.iter().all(|key| known.of_key(&key.fingerprint).is_some_and(|person| person.name == *principal)),
            Flavour::Root | Flavour::Key => there.is_some(),
            // The authority's name is the owner's where it was there before.
            Flavour::Certificate => there.is_some() && tables.is_empty(),
            _ => there.is_some() && known.of_unix_user(account).is_ok_and(|person| person.name == *principal),
        };
        match there {
            None => {}
            Some(person) if means_it && groups.iter().all(|group| person.groups.contains(group)) => return Ok(()),
            Some(_) => {
                return Err(config(
                    format!("principals.toml has a principal `{}` already, with other facts", principal.escape_debug()),
                    format!(
                        "give it what is missing there ({}, groups {}), or choose another name with --principal",
                        if means_it { "groups" } else { "how it is known" },
                        groups.join(", ")
                    ),
                ));
            }
        }
        let known_by = match flavour {
            _ if self.by_key() => Known::Keys(keys.iter().map(|key| key.fingerprint.clone()).collect()),
            Flavour::Root | Flavour::Key => Known::Argument,
            Flavour::Certificate => Known::Certificates {
                authorities: (0..authorities.len()).map(authority_name).collect(),
                principals: certificate_principals.clone(),
            },
            _ => Known::UnixUser(account.clone()),
        };
        tables.push_str(&texts::principal(principal, groups, &known_by));
        let text = match now {
            None => texts::principals_toml(&tables),
            Some(now) if now.ends_with('\n') || now.is_empty() => format!("{now}{tables}"),
            Some(now) => format!("{now}\n{tables}"),
        };
        Principals::parse(&text, PRINCIPALS_TOML)?;
        self.file(PRINCIPALS_TOML, "who is who", &text)
    }

    /// An account of rex's own, where there is none of that name.
    fn account(&mut self, home: &Path, shell: &str, groups: &[&str]) -> Result<()> {
        let name = self.wanted.account.clone();
        if self.has_group(&name) {
            return Err(config(
                format!("there is a group `{name}`, but no account of that name"),
                "choose another name with --account, or make the account yourself",
            ));
        }
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        self.step(Step::User { name, home: home.to_path_buf(), shell: shell.into(), groups });
        Ok(())
    }

    /// The account with this shell, in these groups, with a home that it cannot write.
    fn login(&mut self, shell: &str, groups: &[&str]) -> Result<()> {
        let account = self.wanted.account.clone();
        let home = self.facts.home(&account);
        match self.facts.user.clone() {
            None => {
                self.folder(&home, 0o755, "root", "root", Contents::Kept)?;
                let named = Path::new(super::HOME).join(&account);
                self.account(&named, shell, groups)?;
            }
            Some(user) => {
                if user.uid == 0 {
                    return Err(config(format!("`{account}` is root by another name"), "choose another account"));
                }
                for group in groups {
                    if !self.is_member(group) {
                        self.step(Step::Member { user: account.clone(), group: (*group).to_owned() });
                    }
                }
                if user.shell != Path::new(shell) {
                    self.step(Step::Shell { user: account.clone(), shell: shell.into(), before: user.shell });
                }
                if let Thing::Folder(rights) = self.facts.thing(&home)
                    && rights.uid != 0
                {
                    self.note(format!(
                        "{0} belongs to the account: whatever writes there besides rex owns its next login; `chown root:root {0}; chmod 755 {0}` closes it",
                        home.display()
                    ));
                }
            }
        }
        self.plan.held.push(account);
        Ok(())
    }

    fn by_group(&mut self) -> Result<()> {
        let Wanted { flavour, account, principal, keys, .. } = self.wanted;
        let mut groups = vec![GROUP];
        if *flavour == Flavour::LeastPrivilege {
            groups.extend(self.rights()?);
        }
        self.login("/bin/sh", &groups)?;
        // Whoever is in the group is held to rex, not this account alone.
        let others = self.facts.groups.get(GROUP).map(|group| group.members.clone()).unwrap_or_default();
        self.plan.held.extend(others.into_iter().filter(|name| name != account));
        let block = self.drop_in()?;
        let key_file = Path::new(KEYS).join(account);
        let way = match flavour {
            Flavour::Certificate => {
                self.certificates()?;
                Way::Certificate { principal: self.wanted.certificate_principals.first().cloned().unwrap_or_default() }
            }
            Flavour::Subsystem => Way::Subsystem,
            _ => Way::Request,
        };
        if *flavour != Flavour::Certificate {
            let lines = self.with_keys(&key_file, keys, "{key}")?;
            self.file(&key_file, "who may log in", &lines)?;
        }
        self.pam()?;
        let file = if matches!(way, Way::Certificate { .. }) { PathBuf::from(texts::AUTHORITIES) } else { key_file };
        self.plan.tries.push(Try {
            account: account.clone(),
            principal: principal.clone(),
            file,
            line: "{key}".to_owned(),
            way,
            mapped: self.by_key(),
        });
        self.plan.checks.push(Check { account: account.clone(), block });
        Ok(())
    }

    /// The text of a file of keys with these in it, each in a line of this form.
    fn with_keys(&self, file: &Path, keys: &[PublicKey], form: &str) -> Result<String> {
        let now = self.facts.text(file)?.unwrap_or_default();
        let mut text = now.to_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        for key in keys.iter().filter(|key| !now.contains(&key.line)) {
            text.push_str(&form.replace("{key}", &key.line));
            text.push('\n');
        }
        if text.is_empty() {
            return Err(Error::new(Kind::Usage, "say who may log in: --key FILE")
                .with_hint("the file of a public key, such as ~/.ssh/id_ed25519.pub, or the key itself"));
        }
        Ok(text)
    }

    /// The drop-in of sshd for the group; gives its text.
    fn drop_in(&mut self) -> Result<String> {
        let (subsystem, certificates) = (self.wanted.flavour == Flavour::Subsystem, self.wanted.flavour == Flavour::Certificate);
        let text = match self.facts.text(DROP_IN)? {
            None => texts::sshd_block(subsystem, certificates),
            Some(now) => {
                let forms = [(false, false), (true, false), (false, true), (true, true)];
                let form = forms.into_iter().find(|(subsystem, certificates)| now == texts::sshd_block(*subsystem, *certificates));
                let (has_subsystem, has_certificates) = form.ok_or_else(|| {
                    config(
                        "there is a configuration of sshd for rex already, which setup did not write",
                        "compare it with `rex setup --dry-run` after moving it away, or go on with it by hand (docs/operations.md)",
                    )
                    .with_path(DROP_IN)
                })?;
                texts::sshd_block(subsystem || has_subsystem, certificates || has_certificates)
            }
        };
        self.sshd_file(DROP_IN, "accounts of the group can do nothing but ask rex", &text)?;
        Ok(text)
    }

    /// A drop-in, and that sshd reads it.
    fn sshd_file(&mut self, path: &str, why: &str, text: &str) -> Result<()> {
        if *self.facts.thing("/etc/ssh/sshd_config.d") == Thing::Nothing {
            self.folder(Path::new("/etc/ssh/sshd_config.d"), 0o755, "root", "root", Contents::Kept)?;
        }
        self.file(path, why, text)?;
        let main = self.facts.text(SSHD_CONFIG)?.ok_or_else(|| {
            config("sshd has no configuration of its owner here", "copy the one of the system there, such as /usr/etc/ssh/sshd_config")
                .with_path(SSHD_CONFIG)
        })?;
        if texts::includes(main, path) {
            return Ok(());
        }
        let text = texts::with_include(main, path);
        self.file(SSHD_CONFIG, "sshd reads that file too", &text)
    }

    fn certificates(&mut self) -> Result<()> {
        let Wanted { account, authorities, certificate_principals, .. } = self.wanted;
        let text = self.with_keys(Path::new(texts::AUTHORITIES), authorities, "{key}")?;
        self.file(texts::AUTHORITIES, "authorities whose certificates sshd accepts for these accounts", &text)?;
        let folder = Path::new(texts::CERTIFICATE_PRINCIPALS);
        self.folder(folder, 0o755, "root", "root", Contents::Kept)?;
        let file = folder.join(account);
        let mut text = self.facts.text(&file)?.unwrap_or_default().to_owned();
        for name in certificate_principals {
            if !text.lines().any(|line| line.trim() == name) {
                text.push_str(name);
                text.push('\n');
            }
        }
        self.file(file, "principals of certificates that may use the account", &text)
    }

    /// Groups of the host, and a rule of polkit, that the policies need; gives the groups.
    fn rights(&mut self) -> Result<Vec<&'static str>> {
        let needs = self.facts.needs.clone();
        let account = &self.wanted.account;
        let mut groups = Vec::new();
        for (needed, group, what) in [(needs.logs, "adm", "log files"), (needs.journal, "systemd-journal", "the journal")] {
            if needed && self.has_group(group) {
                groups.push(group);
            } else if needed {
                self.note(format!(
                    "the policies let it read {what}; this host has no group `{group}` that may, so the account can read what everybody can"
                ));
            }
        }
        match needs.polkit_rule(account) {
            Some(rule) if self.facts.polkit => {
                if *self.facts.thing(super::RULES) == Thing::Nothing {
                    self.folder(Path::new(super::RULES), 0o755, "root", "root", Contents::Kept)?;
                }
                self.owned(rules_file(account), "systemd lets the account do what its policies permit", &rule, 0o644, "root", "root")?;
                if needs.jobs.contains_key(&super::rights::Units::Any) {
                    self.note("the policies permit jobs on units that they do not name, so systemd lets the account ask for any unit; the policies still decide");
                }
            }
            Some(_) => self.note("the policies permit jobs on services; this host has no polkit, so only root can have systemd do them"),
            None => {}
        }
        if !needs.beyond.is_empty() {
            self.note(format!(
                "the policies permit more than the account gets here, where its own rights on this host decide: {}",
                needs.beyond.join(", ")
            ));
        }
        Ok(groups)
    }

    /// Where the first key of an account belongs.
    fn key_file(&self) -> Result<PathBuf> {
        let files = self.facts.sshd.as_ref().map(|sshd| sshd.key_files.as_slice()).unwrap_or_default();
        files.first().cloned().ok_or_else(|| {
            config(format!("sshd looks nowhere for keys of `{}`", self.wanted.account), "AuthorizedKeysFile in sshd_config names no file")
        })
    }

    /// A forced key in the account's own file.
    fn forced_key(&mut self) -> Result<()> {
        let Wanted { account, principal, keys, .. } = self.wanted;
        let file = self.key_file()?;
        let line = texts::forced_key(principal, "{key}");
        let known = self.facts.text(&file)?.unwrap_or_default();
        for key in keys {
            if known.contains(&key.line) && !known.lines().any(|now| now == line.replace("{key}", &key.line)) {
                return Err(config(
                    format!("the key {} is in the account's file already, in a line of another form", key.fingerprint),
                    "sshd takes the first line of a key: give another key, or take that line out",
                )
                .with_path(file.display().to_string()));
            }
        }
        let text = self.with_keys(&file, keys, &line)?;
        if let Some(folder) = file.parent()
            && file.starts_with(self.facts.home(account))
        {
            self.folder(folder, 0o700, account, account, Contents::Kept)?;
        }
        self.owned(&file, "a key that can do nothing but ask rex", &text, 0o600, account, account)?;
        self.plan.tries.push(Try { account: account.clone(), principal: principal.clone(), file, line, way: Way::Request, mapped: false });
        Ok(())
    }

    fn root(&mut self) -> Result<()> {
        let sshd = self.facts.sshd.clone().unwrap_or_default();
        self.forced_key()?;
        match (sshd.permit_root_login.as_str(), self.wanted.forced_commands_only) {
            ("forced-commands-only", _) => {}
            // Nobody could log in as root so far, so nobody is locked out.
            ("no", _) | (_, true) => {
                self.sshd_file(ROOT_DROP_IN, "root logs in for forced commands only", &texts::root_block())?;
                self.plan.checks.push(Check { account: "root".to_owned(), block: texts::root_block() });
                if sshd.permit_root_login != "no" {
                    self.plan.held.push("root".to_owned());
                }
            }
            (other, false) => self.note(format!(
                "PermitRootLogin is `{other}`, and stays so: other keys of root still give a shell; --forced-commands-only ends that, for everybody who logs in as root"
            )),
        }
        self.note("everything that the policies permit is done with the rights of root; the kernel's fence holds what they do not");
        Ok(())
    }

    fn key(&mut self) -> Result<()> {
        let account = &self.wanted.account;
        let Some(user) = &self.facts.user else {
            return Err(config(
                format!("there is no account `{account}`"),
                "this way in is for an account that is there; --flavour forced-command makes one",
            ));
        };
        if self.is_member(GROUP) {
            return Err(config(
                format!("`{account}` is in the group {GROUP}, so it is held to rex already"),
                "--flavour forced-command adds a key to it",
            ));
        }
        let shell = user.shell.to_string_lossy().into_owned();
        if ["nologin", "false", "rexsh"].iter().any(|end| shell.ends_with(end)) {
            return Err(config(
                format!("the login shell of `{account}` is {shell}, which runs no forced command"),
                "choose another account",
            ));
        }
        self.forced_key()?;
        self.pam()?;
        let free = self.facts.sshd.as_ref().map_or(0, |sshd| sshd.free_keys);
        if free > 0 {
            self.note(format!(
                "`{account}` has {free} other keys that give a shell: whoever has one can act as any principal of this account"
            ));
        }
        if !shell.ends_with("/sh") && !shell.ends_with("/dash") {
            self.note(format!("the login shell of `{account}` is {shell}, which may read files of the home before the forced command"));
        }
        Ok(())
    }

    fn login_shell(&mut self) -> Result<()> {
        let Wanted { account, principal, keys, .. } = self.wanted;
        if self.facts.text(DROP_IN)?.is_some() {
            return Err(config("accounts of the group are held to rex by sshd on this host already", "--flavour forced-command adds one")
                .with_path(DROP_IN));
        }
        let sftp = self.facts.sshd.as_ref().and_then(|sshd| sshd.sftp.clone()).unwrap_or_default();
        if sftp.starts_with("internal-sftp") {
            return Err(config(
                "sshd serves sftp by itself (internal-sftp), past any login shell",
                "--flavour forced-command forces that away too",
            ));
        }
        if *self.facts.thing(SHELL) == Thing::Nothing {
            self.step(Step::Link { path: SHELL.into(), target: "rex".into() });
        }
        let shells = self.facts.text(SHELLS)?.unwrap_or_default();
        if !shells.lines().any(|line| line.trim() == SHELL) {
            let end = if shells.is_empty() || shells.ends_with('\n') { "" } else { "\n" };
            self.file(SHELLS, "rexsh is a login shell", &format!("{shells}{end}{SHELL}\n"))?;
        }
        self.login(SHELL, &[GROUP])?;
        let file = self.key_file()?;
        let (home, line) = (self.facts.home(account), "restrict {key}");
        let mine = self.facts.user.as_ref().is_some_and(|_| matches!(self.facts.thing(&home), Thing::Folder(rights) if rights.uid != 0));
        // In a home that root owns the keys are root's too.
        let (owner, folder_mode, mode) = if mine { (account.as_str(), 0o700, 0o600) } else { ("root", 0o755, 0o644) };
        if let Some(folder) = file.parent()
            && file.starts_with(&home)
        {
            self.folder(folder, folder_mode, owner, owner, Contents::Kept)?;
        }
        let text = self.with_keys(&file, keys, line)?;
        self.owned(&file, "who may log in", &text, mode, owner, owner)?;
        self.pam()?;
        self.plan.tries.push(Try {
            account: account.clone(),
            principal: principal.clone(),
            file,
            line: line.to_owned(),
            way: Way::Request,
            mapped: false,
        });
        Ok(())
    }

    fn serve(&mut self) -> Result<()> {
        let Wanted { account, principal, keys, .. } = self.wanted;
        if !self.facts.systemd {
            return Err(Error::new(Kind::Unsupported, "this host does not run systemd").with_hint(
                "start `rex serve --config /etc/rex/rex.toml` by the init system that it has; docs/operations.md says what it needs",
            ));
        }
        if *self.facts.thing(HOST_KEY) == Thing::Nothing {
            self.step(Step::Made { path: HOST_KEY.into() });
        }
        let text = self.with_keys(Path::new(SERVE_KEYS), keys, "{key}")?;
        self.file(SERVE_KEYS, "who may log in", &text)?;
        self.new_file(UNIT, "the server as a unit, held to what it needs", texts::UNIT)?;
        self.step(Step::Unit { name: "rex.service".to_owned() });
        let file = PathBuf::from(SERVE_KEYS);
        self.plan.tries.push(Try {
            account: account.clone(),
            principal: principal.clone(),
            file,
            line: "{key}".to_owned(),
            way: Way::Serve,
            mapped: true,
        });
        Ok(())
    }

    fn pam(&mut self) -> Result<()> {
        let Some(now) = self.facts.text(PAM)? else {
            return if self.wanted.record {
                Err(config("sshd has no PAM service here, so no login can be recorded", "leave --record out"))
            } else {
                Ok(())
            };
        };
        let mut why = Vec::new();
        let mut text = now.to_owned();
        match texts::without_user_environment(now) {
            Some(_) if self.wanted.keep_pam => {
                self.note("/etc/pam.d/sshd reads ~/.pam_environment: an account that can write its home sets any variable of its sessions");
            }
            Some(mended) => {
                text = mended;
                why.push("~/.pam_environment sets no variables of sessions any more, of any account");
            }
            None => {}
        }
        if self.wanted.record && !text.lines().any(|line| line == texts::RECORD_LINE) {
            text = texts::with_record(&text).ok_or_else(|| {
                config("logins have no audit session here: there is no pam_loginuid in sshd's PAM service", "add it, or leave --record out")
                    .with_path(PAM)
            })?;
            why.push("each login is recorded by root");
        }
        self.file(PAM, &why.join("; "), &text)
    }
}

fn authority_name(number: usize) -> String {
    if number == 0 { "authority".to_owned() } else { format!("authority-{}", number + 1) }
}

fn nologin(facts: &Facts) -> &'static str {
    if *facts.thing("/usr/sbin/nologin") == Thing::Nothing { "/sbin/nologin" } else { "/usr/sbin/nologin" }
}

/// `identity` of rex.toml with one kind more; `None` where it counts already.
fn with_evidence(now: &[Evidence], needed: Evidence) -> Result<Option<Vec<&'static str>>> {
    let words = || now.iter().map(|kind| evidence_word(*kind)).collect::<Vec<_>>();
    let clash = || {
        config(
            format!("rex.toml has identity = {:?}, and this way in rests on `{}`", words(), evidence_word(needed)),
            "of several kinds the first that is present decides for all accounts: choose one way, or change `identity` yourself",
        )
        .with_path(REX_TOML)
    };
    // sshd gives every session of a held account its key, so that where keys count they decide before the account does.
    let keys_first = |kinds: &[Evidence]| kinds.iter().any(|kind| matches!(kind, Evidence::AuthInfo | Evidence::Record));
    let at = now.iter().position(|kind| *kind == needed);
    match (needed, at) {
        (Evidence::User, Some(at)) if keys_first(now.get(..at).unwrap_or_default()) => Err(clash()),
        (Evidence::AuthInfo, Some(at)) if at > 0 && now.first() != Some(&Evidence::Argument) => Err(clash()),
        (Evidence::Record, Some(at)) if at > 0 => Err(clash()),
        (_, Some(_)) => Ok(None),
        (Evidence::Argument, None) => Ok(Some([vec!["argument"], words()].concat())),
        (Evidence::User, None) if !keys_first(now) => Ok(Some([words(), vec!["user"]].concat())),
        _ => Err(clash()),
    }
}

#[cfg(test)]
mod tests;
