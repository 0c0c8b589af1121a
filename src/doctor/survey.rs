//! What the checks look at, found out once: sshd's answers, the accounts that reach rex, their keys and shells, PAM, the kernel, the owner's files.

use super::line::{Line, is_rex};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::host::accounts::Accounts;
use crate::host::kernel::Kernel;
use crate::host::keys::{self, KeyLine};
use crate::host::pam::{self, Stack};
use crate::host::sshd::{Connection, Effective, Sshd, Version};
use crate::host::sshd_text::{Block, Text, fits};
use crate::identity::Principals;
use crate::os::process::User;
use crate::os::trusted::Owner;
use crate::os::{facts, trusted};
use crate::terms::{CONFIG, OwnersFiles};
use std::path::{Path, PathBuf};

/// Accounts that are looked at in one go, and connections that sshd is asked about for each.
const MOST_ACCOUNTS: usize = 500;
const MOST_WAYS: usize = 8;
/// The group of accounts that are for rex only, as packaging/sysusers.d makes it.
pub const GROUP: &str = crate::os::shared::GROUP;
/// Where sshd looks for keys when nobody says otherwise.
const DEFAULT_KEYS: &str = ".ssh/authorized_keys .ssh/authorized_keys2";

/// What whoever types the command wants looked at.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Login names; none: every account that can reach rex.
    pub users: Vec<String>,
    pub config: Option<PathBuf>,
    pub sshd_config: Option<PathBuf>,
}

/// One file of keys of an account.
#[derive(Debug)]
pub struct KeyFile {
    pub path: PathBuf,
    pub exists: bool,
    pub lines: Result<Vec<KeyLine>>,
}

/// An account, and what holds for it.
#[derive(Debug)]
pub struct Subject {
    pub user: User,
    pub groups: Vec<String>,
    /// What sshd says of each connection that its configuration could tell apart.
    pub ways: Vec<(Connection, Effective)>,
    /// Why there is no such answer.
    pub unknown: Option<String>,
    pub key_files: Vec<KeyFile>,
    /// Files that name certificates' principals.
    pub principal_files: Vec<KeyFile>,
}

impl Subject {
    /// sshd's answer for a connection from the internet.
    #[must_use]
    pub fn effective(&self) -> Option<&Effective> {
        self.ways.first().map(|(_, effective)| effective)
    }
    /// Whether every connection gets a forced command of sshd_config that is rex's.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        !self.ways.is_empty() && self.ways.iter().all(|(_, effective)| effective.forced().and_then(Line::parse).is_some())
    }
    /// The forced commands of sshd_config that are rex's.
    pub fn forced(&self) -> impl Iterator<Item = Line> {
        self.ways.iter().filter_map(|(_, effective)| effective.forced().and_then(Line::parse))
    }
    /// Whether rex itself is the login shell.
    #[must_use]
    pub fn shell_is_rex(&self) -> bool {
        is_rex(&self.user.shell) || facts::link(&self.user.shell).is_some_and(|target| is_rex(&target))
    }
    /// Whether no client gets a shell: forced by sshd_config, or rex is the shell.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        self.is_forced() || self.shell_is_rex()
    }
    /// Lines of its key files that sshd takes.
    pub fn key_lines(&self) -> impl Iterator<Item = &KeyLine> {
        self.key_files.iter().filter_map(|file| file.lines.as_ref().ok()).flatten().filter(|line| line.unknown_option().is_none())
    }
    /// Lines whose forced command is rex's.
    pub fn rex_keys(&self) -> impl Iterator<Item = (&KeyLine, Line)> {
        self.key_lines().filter_map(|line| Some((line, Line::parse(line.value("command")?)?)))
    }
    /// Every line of the owner that starts rex for this account.
    #[must_use]
    pub fn rex_lines(&self) -> Vec<Line> {
        self.forced().chain(self.rex_keys().map(|(_, line)| line)).collect()
    }
}

/// The owner's files below one folder: rex.toml and what lies beside it.
#[derive(Debug)]
pub struct Owners {
    /// As a session reads them.
    pub files: OwnersFiles,
    /// The same without a look at owners and modes.
    pub any: OwnersFiles,
    pub config: Result<Config>,
    pub principals: Result<Principals>,
    /// Whether rex.toml is there.
    pub exists: bool,
}

impl Owners {
    #[must_use]
    pub fn of(config: &Path) -> Self {
        let any = OwnersFiles::new(Some(config), Owner::Unchecked);
        Self {
            files: OwnersFiles::new(Some(config), Owner::RootOnly),
            config: any.config(),
            principals: any.principals(),
            exists: facts::of(config).is_ok_and(|facts| facts.is_some()),
            any,
        }
    }
    /// The settings, or the defaults where rex.toml cannot be read (which is a finding of its own).
    #[must_use]
    pub fn settings(&self) -> Config {
        self.config.as_ref().ok().cloned().unwrap_or_default()
    }
}

/// All of it.
#[derive(Debug)]
pub struct Survey {
    pub root: bool,
    pub sshd: Option<Sshd>,
    /// Whether the file of sshd was named by whoever asks: the daemons that run may have another.
    pub sshd_named: bool,
    pub version: Option<Version>,
    /// `sshd -t`.
    pub valid: Result<()>,
    pub text: Text,
    pub accounts: Accounts,
    pub subjects: Vec<Subject>,
    /// More accounts reach rex than were looked at.
    pub more: usize,
    /// Login names that were asked for and are none.
    pub nobody: Vec<String>,
    pub pam: Option<Stack>,
    pub kernel: Kernel,
    pub owners: Vec<Owners>,
    /// Today, in days since 1970.
    pub today: i64,
}

impl Survey {
    /// Looks at this host. It reads, and starts sshd's own checks; nothing is changed.
    ///
    /// # Errors
    /// Where the tables of accounts cannot be read.
    pub fn of_host(asked: &Asked) -> Result<Self> {
        let sshd = Sshd::find(asked.sshd_config.as_deref()).ok();
        let text = sshd.as_ref().and_then(|sshd| sshd.text().ok()).unwrap_or_default();
        let valid = sshd.as_ref().map_or(Ok(()), Sshd::test);
        let accounts = Accounts::of_host()?;
        let (mut names, nobody) = if asked.users.is_empty() {
            (reaching(&text, &accounts), Vec::new())
        } else {
            asked.users.iter().cloned().partition(|name| accounts.user(name).is_some())
        };
        let more = names.len().saturating_sub(MOST_ACCOUNTS);
        names.truncate(MOST_ACCOUNTS);
        let subjects: Vec<Subject> =
            names.iter().filter_map(|name| Some(subject(accounts.user(name)?, sshd.as_ref(), &text, &accounts))).collect();
        let mut configs = vec![asked.config.clone().unwrap_or_else(|| PathBuf::from(CONFIG))];
        if asked.config.is_none() {
            for config in subjects.iter().flat_map(Subject::rex_lines).filter_map(|line| line.config) {
                if !configs.contains(&config) {
                    configs.push(config);
                }
            }
            // Where every line names another one, the usual place is of no matter unless something is there.
            if configs.len() > 1 && !Path::new(CONFIG).exists() {
                configs.remove(0);
            }
        }
        Ok(Self {
            root: rustix::process::geteuid().is_root(),
            version: sshd.as_ref().and_then(|sshd| sshd.version().ok()),
            valid,
            text,
            accounts,
            subjects,
            more,
            nobody,
            pam: pam::stack("sshd").ok(),
            kernel: Kernel::of_host(),
            owners: configs.iter().map(|config| Owners::of(config)).collect(),
            today: crate::sys::clock::now_millis() / 86_400_000,
            sshd_named: asked.sshd_config.is_some(),
            sshd,
        })
    }

    /// The place of the line that gives a keyword its value for accounts in Match blocks, as far as the text tells: the first of a block, else the first.
    #[must_use]
    pub fn place(&self, keyword: &str) -> Option<String> {
        let of_block = self.text.of(keyword).find(|line| !line.is_global());
        of_block.or_else(|| self.text.of(keyword).next()).map(crate::host::sshd_text::Line::place)
    }
    /// The same for a line whose words hold a text.
    #[must_use]
    pub fn place_with(&self, keyword: &str, text: &str) -> Option<String> {
        self.text.of(keyword).find(|line| line.rest.contains(text)).map(crate::host::sshd_text::Line::place)
    }
    /// Whether PAM has a say.
    #[must_use]
    pub fn uses_pam(&self) -> bool {
        let answer = self.subjects.iter().find_map(Subject::effective).and_then(|effective| effective.get("usepam").map(str::to_owned));
        answer.map_or_else(
            || self.text.of("usepam").next().is_some_and(|line| line.words.iter().any(|word| word == "yes")),
            |word| word == "yes",
        )
    }
    /// The kinds of evidence that some configuration lists.
    #[must_use]
    pub fn evidence(&self, kind: crate::config::Evidence) -> bool {
        self.owners.iter().any(|owners| owners.settings().identity.contains(&kind))
    }
}

/// Whether a pattern list fits (`a,b*,!c`): one fits, and no negated one does.
fn list_fits(list: &str, text: &str) -> bool {
    let negated = list.split(',').filter_map(|pattern| pattern.strip_prefix('!')).any(|pattern| fits(pattern, text));
    !negated && list.split(',').any(|pattern| !pattern.starts_with('!') && fits(pattern, text))
}

/// The names of the accounts that have a way to rex, sorted.
fn reaching(text: &Text, accounts: &Accounts) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let forced = text.of("forcecommand").filter(|line| Line::parse(&line.rest).is_some());
    for line in forced {
        let criterion = |name: &str| -> Vec<&str> {
            line.blocks.iter().flat_map(|block| &block.criteria).filter(|(known, _)| known == name).map(|(_, list)| list.as_str()).collect()
        };
        let (groups, users) = (criterion("group"), criterion("user"));
        let listed = accounts.users().filter(|user| {
            let mut of = accounts.groups_of(user).into_iter();
            let in_groups = groups.is_empty() || of.any(|group| groups.iter().all(|list| list_fits(list, &group)));
            let is_user = users.iter().all(|list| list_fits(list, &user.name));
            // A line for everybody is about those who can log in.
            in_groups && is_user && (!groups.is_empty() || !users.is_empty() || can_log_in(user))
        });
        names.extend(listed.map(|user| user.name.clone()));
        // Accounts of a directory are found where groups of this host list them.
        let of_groups = accounts.groups().iter().filter(|group| groups.iter().any(|list| list_fits(list, &group.name)));
        names.extend(of_groups.flat_map(|group| accounts.members(group)).map(|user| user.name));
    }
    names.extend(accounts.group(GROUP).iter().flat_map(|group| accounts.members(group)).map(|user| user.name));
    let patterns: Vec<String> = text.of("authorizedkeysfile").flat_map(|line| line.words.clone()).collect();
    let patterns = if patterns.is_empty() { DEFAULT_KEYS.split(' ').map(str::to_owned).collect() } else { patterns };
    for user in accounts.users() {
        let files = patterns.iter().map(|pattern| user.home.join(keys::unfold(pattern, user)));
        let has_line = |file: PathBuf| {
            keys::read(&file).is_ok_and(|lines| lines.iter().any(|line| line.value("command").and_then(Line::parse).is_some()))
        };
        let shell = is_rex(&user.shell) || facts::link(&user.shell).is_some_and(|target| is_rex(&target));
        if shell || files.into_iter().any(has_line) {
            names.push(user.name.clone());
        }
    }
    names.sort();
    names.dedup();
    names
}

/// Whether the shell is one.
fn can_log_in(user: &User) -> bool {
    let name = user.shell.file_name().and_then(|name| name.to_str()).unwrap_or("sh");
    !["nologin", "false", "sync", "halt", "shutdown"].contains(&name)
}

fn subject(user: User, sshd: Option<&Sshd>, text: &Text, accounts: &Accounts) -> Subject {
    let groups = accounts.groups_of(&user);
    let mut ways = Vec::new();
    let mut unknown = None;
    if let Some(sshd) = sshd {
        for connection in connections(&user.name, text) {
            match sshd.effective(&connection) {
                Ok(effective) => ways.push((connection, effective)),
                Err(error) => {
                    unknown.get_or_insert_with(|| with_hint(&error));
                    break;
                }
            }
        }
    } else {
        unknown = Some("there is no sshd on this host".to_owned());
    }
    let mut key_files: Vec<KeyFile> = Vec::new();
    let mut principal_files: Vec<KeyFile> = Vec::new();
    for (_, effective) in &ways {
        for path in keys::files(effective, "authorizedkeysfile", &user) {
            if !key_files.iter().any(|known| known.path == path) {
                key_files.push(key_file(path, keys::read));
            }
        }
        for path in keys::files(effective, "authorizedprincipalsfile", &user) {
            if !principal_files.iter().any(|known| known.path == path) {
                principal_files.push(key_file(path, keys::read_principals));
            }
        }
    }
    Subject { user, groups, ways, unknown, key_files, principal_files }
}

fn key_file(path: PathBuf, read: fn(&Path) -> Result<Vec<KeyLine>>) -> KeyFile {
    let there = facts::of(&path);
    let exists = there.as_ref().is_ok_and(Option::is_some);
    let lines = there.and_then(|_| read(&path));
    KeyFile { exists, lines, path }
}

/// An error in one line, with what would help.
#[must_use]
pub fn with_hint(error: &Error) -> String {
    error.hint.as_ref().filter(|hint| !hint.is_empty()).map_or_else(|| error.to_string(), |hint| format!("{error} ({hint})"))
}

/// The connections that the Match blocks could tell apart, the plain one first.
fn connections(user: &str, text: &Text) -> Vec<Connection> {
    let mut plain = Connection::of(user);
    if text.blocks().iter().any(|block| block.has("rdomain")) {
        plain.routing_domain = Some("none-of-this-host".to_owned());
    }
    let mut all = vec![plain.clone()];
    for block in text.blocks() {
        let mut one = plain.clone();
        for (criterion, list) in &block.criteria {
            let Some(example) = list.split(',').find(|pattern| !pattern.starts_with('!')).and_then(|pattern| example(criterion, pattern))
            else {
                continue;
            };
            match criterion.as_str() {
                "address" => one.address = example,
                "host" => one.host = example,
                "localaddress" => one.local_address = example,
                "localport" => one.local_port = example.parse().unwrap_or(22),
                "rdomain" => one.routing_domain = Some(example),
                _ => {}
            }
        }
        if !all.contains(&one) && all.len() < MOST_WAYS {
            all.push(one);
        }
    }
    all
}

/// Something that a pattern fits.
fn example(criterion: &str, pattern: &str) -> Option<String> {
    match criterion {
        // The last bit of a network's own address is set, so that it is a host's.
        "address" | "localaddress" => match pattern.split_once('/') {
            Some((network, _)) => match network.parse::<core::net::IpAddr>().ok()? {
                core::net::IpAddr::V4(address) => Some(core::net::Ipv4Addr::from(u32::from(address) | 1).to_string()),
                core::net::IpAddr::V6(address) => Some(core::net::Ipv6Addr::from(u128::from(address) | 1).to_string()),
            },
            None => Some(pattern.replace(['*', '?'], "1")),
        },
        "host" | "rdomain" => Some(pattern.replace(['*', '?'], "x")),
        "localport" => Some(pattern.to_owned()),
        _ => None,
    }
}

/// The Match block of a line, for words.
#[must_use]
pub fn shown(block: &Block) -> String {
    block.criteria.iter().map(|(name, list)| format!("{name} {list}")).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// The first thing on a path, itself included, that somebody else than root can write: what it is, and why. A path that is not there yet is judged by the
/// folders above it.
///
/// # Errors
/// Where this process may not look.
pub fn open_to_others(path: &Path) -> Result<Option<(PathBuf, String)>> {
    let mut seen: Vec<PathBuf> = path.ancestors().map(Path::to_path_buf).collect();
    let real = trusted::canonical(path.to_path_buf());
    seen.extend(real.ancestors().map(Path::to_path_buf).filter(|one| !path.starts_with(one)));
    seen.sort_by_key(|one| one.components().count());
    for one in seen.iter().filter(|one| !one.as_os_str().is_empty()) {
        let is_link = facts::of_link(one)?.is_some_and(|facts| facts.kind == rustix::fs::FileType::Symlink);
        let Some(facts) = (if is_link { facts::of_link(one)? } else { facts::of(one)? }) else { continue };
        let sticky = facts.is_folder() && facts.mode & 0o1000 != 0 && one != path;
        let why = if facts.uid != 0 {
            Some(format!("it belongs to uid {}", facts.uid))
        } else if is_link || sticky {
            None
        } else if facts.mode & 0o002 != 0 {
            Some(format!("everybody can write it (mode {:04o})", facts.mode))
        } else if facts.mode & 0o020 != 0 && facts.gid != 0 {
            Some(format!("its group {} can write it (mode {:04o})", facts.gid, facts.mode))
        } else {
            None
        };
        if let Some(why) = why {
            return Ok(Some((one.clone(), why)));
        }
    }
    Ok(None)
}

/// Whether an account may write a thing, by owner, group and mode.
#[must_use]
pub fn may(facts: &facts::Facts, user: &User, gids: &[u32], bit: u32) -> bool {
    let (owner, group, other) = (bit << 6, bit << 3, bit);
    if user.uid == 0 {
        return true;
    }
    if facts.uid == user.uid {
        return facts.mode & owner != 0;
    }
    if facts.gid == user.gid || gids.contains(&facts.gid) {
        return facts.mode & group != 0;
    }
    facts.mode & other != 0
}

/// The numbers of an account's groups.
#[must_use]
pub fn gids(survey: &Survey, subject: &Subject) -> Vec<u32> {
    let of = |name: &String| survey.accounts.group(name).map(|group| group.gid);
    subject.groups.iter().filter_map(of).collect()
}

/// Why an account cannot read a file: the first thing on the way that it may not enter or read. None: it can.
///
/// # Errors
/// Where this process may not look.
pub fn unreadable(survey: &Survey, subject: &Subject, path: &Path) -> Result<Option<PathBuf>> {
    let gids = gids(survey, subject);
    let real = trusted::canonical(path.to_path_buf());
    let mut above: Vec<&Path> = real.ancestors().skip(1).collect();
    above.reverse();
    for folder in above {
        if facts::of(folder)?.is_some_and(|facts| !may(&facts, &subject.user, &gids, 1)) {
            return Ok(Some(folder.to_path_buf()));
        }
    }
    match facts::of(&real)? {
        Some(facts) if !may(&facts, &subject.user, &gids, 4) => Ok(Some(real)),
        Some(_) => Ok(None),
        None => Err(Error::new(Kind::NotFound, "there is no such file").with_path(path.display().to_string())),
    }
}
