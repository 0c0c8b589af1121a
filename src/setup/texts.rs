//! What is written on the host: the files of config/ and packaging/, carried in the program and adapted, and the lines that files of the host get.

use crate::config::rex_toml;
use crate::error::{Error, Kind, Result};
use std::path::Path;

/// Where sshd's own configuration is, and what of it is rex's.
pub const SSHD_CONFIG: &str = "/etc/ssh/sshd_config";
pub const DROP_IN: &str = "/etc/ssh/sshd_config.d/rex.conf";
/// The forced command, as it stands in config/sshd_config.d/rex.conf.
pub const SESSION: &str = "exec /usr/bin/rex session";
/// Authorities and principals of certificates, where an account takes them.
pub const AUTHORITIES: &str = "/etc/rex/authorities";
pub const CERTIFICATE_PRINCIPALS: &str = "/etc/rex/certificate_principals";

const SSHD_BLOCK: &str = include_str!("../../config/sshd_config.d/rex.conf");
const PRINCIPALS: &str = include_str!("../../config/principals.toml");
/// The folders of rex: sessions share some of them, so their modes are part of what keeps accounts apart.
pub const TMPFILES: &str = include_str!("../../packaging/tmpfiles.d/rex.conf");
pub const UNIT: &str = include_str!("../../packaging/rex.service");

/// A policy that comes with rex.
pub struct Policy {
    pub name: &'static str,
    pub text: &'static str,
    pub tests: &'static str,
}

impl Policy {
    /// What it gives: its first sentence.
    #[must_use]
    pub fn about(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches('/').trim()
    }
}

macro_rules! policies {
    ($($name:literal)*) => {
        /// Every policy of policies/.
        pub const POLICIES: &[Policy] = &[$(Policy {
            name: $name,
            text: include_str!(concat!("../../policies/", $name, ".cedar")),
            tests: include_str!(concat!("../../policies/", $name, ".test.toml")),
        },)*];
    };
}

policies! {
    "agent-read-only" "agent-redacted" "agent-tuner" "backup-agent" "bastion-only" "break-glass" "cleaner" "config-drift" "config-editor" "container-operator" "contractors"
    "database-dump" "deploy-bot" "health-checker" "http-probes" "incident-reader" "journal-auditor" "kubernetes-node" "log-reader" "log-repair" "mail-queue" "never-setuid"
    "nginx-oncall" "night-batch" "oncall-read-only" "package-reader" "postgres-host" "process-inspector" "program-runner" "service-restarter"
}

/// The groups that a policy speaks of, in the order of the text.
#[must_use]
pub fn groups_of(policy: &str) -> Vec<String> {
    let mut groups: Vec<String> = Vec::new();
    let code = policy.lines().filter(|line| !line.trim_start().starts_with("//"));
    for name in code.flat_map(|line| line.split("Group::\"").skip(1)).filter_map(|rest| rest.split('"').next()) {
        if !groups.iter().any(|known| known == name) {
            groups.push(name.to_owned());
        }
    }
    groups
}

/// The drop-in of sshd for the accounts of the group. `subsystem`: with the line for `ssh -s`, which every account of the host then can ask for, so it
/// is there only where it is wanted. `certificates`: the group's accounts take certificates of the authorities of [`AUTHORITIES`].
#[must_use]
pub fn sshd_block(subsystem: bool, certificates: bool) -> String {
    let is_subsystem = |paragraph: &&str| paragraph.lines().any(|line| line.starts_with("Subsystem "));
    let paragraphs: Vec<&str> = SSHD_BLOCK.split("\n\n").filter(|paragraph| subsystem || !is_subsystem(paragraph)).collect();
    let mut text = paragraphs.join("\n\n");
    if certificates {
        let more = format!(
            "\n    # Certificates of these authorities, for the principals that are listed for the account. Whom one means says principals.toml.\n    \
             TrustedUserCAKeys {AUTHORITIES}\n    AuthorizedPrincipalsFile {CERTIFICATE_PRINCIPALS}/%u\n"
        );
        text.push_str(&more);
    }
    text
}

/// The drop-in where root itself is let in for forced commands only.
#[must_use]
pub fn root_block() -> String {
    "# /etc/ssh/sshd_config.d/rex.conf: root logs in with keys that have a command of their own, such as rex, and with nothing else.\n\
     PermitRootLogin forced-commands-only\n"
        .to_owned()
}

/// Settings of sshd in a drop-in: keyword in lower case, value.
pub fn directives(block: &str) -> impl Iterator<Item = (String, &str)> {
    let lines = block.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("Match "));
    lines.filter_map(|line| line.split_once(char::is_whitespace)).map(|(key, value)| (key.to_ascii_lowercase(), value.trim()))
}

/// Whether sshd reads the drop-in for everybody: an Include of it in front of any Match block.
#[must_use]
pub fn includes(sshd_config: &str, drop_in: &str) -> bool {
    for line in sshd_config.lines().map(str::trim) {
        let mut words = line.split([' ', '\t', '=']).filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { continue };
        if keyword.eq_ignore_ascii_case("match") {
            return false;
        }
        if keyword.eq_ignore_ascii_case("include") && words.any(|pattern| fits(pattern.trim_matches('"'), drop_in)) {
            return true;
        }
    }
    false
}

/// Whether a pattern of Include names the file; a relative one is in /etc/ssh (sshd_config(5)).
fn fits(pattern: &str, file: &str) -> bool {
    let pattern = if pattern.starts_with('/') { pattern.to_owned() } else { format!("/etc/ssh/{pattern}") };
    let literal = globset::GlobBuilder::new(&pattern).literal_separator(true).build();
    literal.is_ok_and(|glob| glob.compile_matcher().is_match(file))
}

/// sshd_config with an Include of the drop-in in front of all. Only of this file: whatever else lies in the folder was not in force so far.
#[must_use]
pub fn with_include(sshd_config: &str, drop_in: &str) -> String {
    format!("# Accounts and keys that may only ask rex.\nInclude {drop_in}\n\n{sshd_config}")
}

/// The file of /etc/pam.d without `user_readenv=1`, by which `~/.pam_environment` sets any variable of a session; `None` where that is not there.
#[must_use]
pub fn without_user_environment(pam: &str) -> Option<String> {
    let mend = |line: &str| {
        let active = !line.trim_start().starts_with('#') && line.contains("pam_env.so");
        if active { line.replace("user_readenv=1", "user_readenv=0") } else { line.to_owned() }
    };
    let text: String = pam.split_inclusive('\n').map(mend).collect();
    (text != pam).then_some(text)
}

/// What keeps sshd's account of a login (docs/decisions/record-evidence.md).
pub const RECORD_LINE: &str = "session optional pam_exec.so quiet /usr/bin/rex pam-record";

/// The file of /etc/pam.d with that line: after the login has its audit session and the host's own lines, in front of what reads variables of the user.
/// `None` where nothing gives it one.
#[must_use]
pub fn with_record(pam: &str) -> Option<String> {
    let active = |line: &str| !line.trim_start().starts_with('#');
    let place = |word: &str| pam.lines().enumerate().filter(|(_, line)| active(line) && line.contains(word)).map(|(at, _)| at).last();
    let login = place("pam_loginuid.so")?;
    let after = place("common-session").map_or(login, |common| common.max(login));
    let mut lines: Vec<&str> = pam.lines().collect();
    lines.insert(after + 1, RECORD_LINE);
    let mut text = lines.join("\n");
    text.push('\n');
    Some(text)
}

/// A quoted string of TOML.
fn quoted(text: &str) -> String {
    toml_edit::value(text).to_string().trim().to_owned()
}

fn list<S: AsRef<str>>(items: &[S]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// By what a principal is known.
pub enum Known {
    UnixUser(String),
    /// By `--principal` on the host's own line.
    Argument,
    Keys(Vec<String>),
    /// The certificate principals, of the authorities of these names.
    Certificates {
        authorities: Vec<String>,
        principals: Vec<String>,
    },
}

/// A `[[principal]]` of principals.toml.
#[must_use]
pub fn principal(name: &str, groups: &[String], known: &Known) -> String {
    let mut text = format!("\n[[principal]]\nname = {}\ngroups = {}\n", quoted(name), list(groups));
    match known {
        Known::UnixUser(user) => text.push_str(&format!("unix_users = {}\n", list(&[user]))),
        Known::Argument => {}
        Known::Keys(fingerprints) => text.push_str(&format!("keys = {}\n", list(fingerprints))),
        Known::Certificates { authorities, principals } => {
            let rows = authorities.iter().map(|name| format!("{{ authority = {}, principals = {} }}", quoted(name), list(principals)));
            text.push_str(&format!("certificates = [{}]\n", rows.collect::<Vec<_>>().join(", ")));
        }
    }
    text
}

/// An `[[authority]]` of principals.toml.
#[must_use]
pub fn authority(name: &str, fingerprint: &str) -> String {
    format!("\n[[authority]]\nname = {}\nfingerprint = {}\n", quoted(name), quoted(fingerprint))
}

/// A new principals.toml: the one of config/, with its explanations, and these tables.
#[must_use]
pub fn principals_toml(tables: &str) -> String {
    format!("{PRINCIPALS}{tables}")
}

/// A new rex.toml: every setting at its default, but for these.
///
/// # Errors
/// [`Kind::Internal`] when the settings are not as this function knows them.
pub fn settings(identity: &[&str], audit_file: Option<&str>, host_key: Option<&str>) -> Result<String> {
    let mut text = rex_toml();
    let mut set = |default: &str, value: &str| {
        let fault = || Error::new(Kind::Internal, format!("rex.toml has no line `{default}`"));
        let at = text.find(&format!("\n{default}\n")).ok_or_else(fault)? + 1;
        text.replace_range(at..at + default.len(), value);
        Ok::<(), Error>(())
    };
    set("identity = [\"user\"]", &format!("identity = {}", list(identity)))?;
    if let Some(file) = audit_file {
        set("file = \"\"", &format!("file = {}", quoted(file)))?;
    }
    if let Some(host_key) = host_key {
        set("host_key = \"host_key\"", &format!("host_key = {}", quoted(host_key)))?;
    }
    Ok(text)
}

/// The text of a rex.toml with another `identity`; the rest of it, comments too, stays.
///
/// # Errors
/// [`Kind::Config`] when it is not TOML.
pub fn with_identity(text: &str, identity: &[&str]) -> Result<String> {
    let mut document: toml_edit::DocumentMut =
        text.parse().map_err(|_| Error::new(Kind::Config, "rex.toml is not valid: `rex policy check` says why"))?;
    let mut array = toml_edit::Array::new();
    identity.iter().for_each(|kind| array.push(*kind));
    match document.get_mut("identity").and_then(toml_edit::Item::as_value_mut) {
        Some(value) => {
            let decor = value.decor().clone();
            *value = toml_edit::Value::Array(array);
            *value.decor_mut() = decor;
        }
        None => drop(document.insert("identity", toml_edit::value(array))),
    }
    Ok(document.to_string())
}

/// The text of a rex.toml with another text for a key of one of its tables.
///
/// # Errors
/// [`Kind::Config`] when it is not TOML.
pub fn with_text(text: &str, table: &str, key: &str, to: &str) -> Result<String> {
    let mut document: toml_edit::DocumentMut =
        text.parse().map_err(|_| Error::new(Kind::Config, "rex.toml is not valid: `rex policy check` says why"))?;
    let item = document.entry(table).or_insert_with(toml_edit::table);
    if let Some(table) = item.as_table_like_mut() {
        match table.get_mut(key).and_then(toml_edit::Item::as_value_mut) {
            Some(value) => {
                let decor = value.decor().clone();
                *value = to.into();
                *value.decor_mut() = decor;
            }
            None => drop(table.insert(key, toml_edit::value(to))),
        }
    }
    Ok(document.to_string())
}

/// A line of authorized_keys for a session that says whose it is. The name is quoted for the shell that sshd hands the command to, and for sshd.
#[must_use]
pub fn forced_key(principal: &str, key: &str) -> String {
    format!("restrict,command=\"{} --principal {}\" {key}", SESSION, shell_quoted(principal).replace('"', "\\\""))
}

fn shell_quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The folders of [`TMPFILES`]: path, mode, owner, group.
pub fn folders() -> impl Iterator<Item = (&'static Path, u32, &'static str, &'static str)> {
    TMPFILES.lines().filter(|line| line.starts_with("d ")).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (path, mode, owner, group) = (words.next()?, words.next()?, words.next()?, words.next()?);
        Some((Path::new(path), u32::from_str_radix(mode, 8).ok()?, owner, group))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::config::Config;
    use crate::identity::Principals;

    #[test]
    fn every_policy_of_the_tree_is_carried() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".cedar")?.to_owned()))
            .collect();
        names.sort();
        assert_eq!(POLICIES.iter().map(|policy| policy.name).collect::<Vec<_>>(), names);
        assert!(POLICIES.iter().all(|policy| policy.about().len() > 40 && !policy.about().starts_with('/')));
        assert_eq!(groups_of(POLICIES.iter().find(|policy| policy.name == "oncall-read-only").unwrap().text), ["oncall"]);
    }

    #[test]
    fn the_block_is_that_of_config_and_the_subsystem_comes_only_where_wanted() {
        assert_eq!(sshd_block(true, false), SSHD_BLOCK);
        let plain = sshd_block(false, false);
        assert!(!plain.contains("Subsystem ") && !plain.contains("ssh -s"));
        let wanted: Vec<(String, &str)> = directives(SSHD_BLOCK).filter(|(key, _)| key != "subsystem").collect();
        assert_eq!(directives(&plain).collect::<Vec<_>>(), wanted);
        assert!(wanted.iter().any(|(key, value)| key == "forcecommand" && *value == SESSION) && wanted.len() > 20);
        let more = sshd_block(false, true);
        assert!(more.starts_with(&plain) && directives(&more).any(|(key, value)| key == "trustedusercakeys" && value == AUTHORITIES));
    }

    #[test]
    fn an_include_counts_in_front_of_match_blocks_only() {
        for (text, expected) in [
            ("Include /etc/ssh/sshd_config.d/*.conf\n", true),
            ("  include sshd_config.d/*.conf\n", true),
            ("Include /a /etc/ssh/sshd_config.d/rex.conf\n", true),
            ("Include=/etc/ssh/sshd_config.d/*\n", true),
            ("#Include /etc/ssh/sshd_config.d/*.conf\n", false),
            ("Match User x\nInclude /etc/ssh/sshd_config.d/*.conf\n", false),
            ("Include /etc/ssh/*.conf\n", false),
            ("Include /etc/ssh/sshd_config.d/5*.conf\nUsePAM yes\n", false),
        ] {
            assert_eq!(includes(text, DROP_IN), expected, "{text}");
        }
        assert!(includes(&with_include("UsePAM yes\n", DROP_IN), DROP_IN));
    }

    #[test]
    fn variables_from_the_home_are_switched_off_and_nothing_else() {
        let pam = "# pam_env.so user_readenv=1\nsession required pam_env.so user_readenv=1 envfile=/etc/default/locale\nsession required pam_x.so user_readenv=1\n";
        let mended = without_user_environment(pam).unwrap();
        assert_eq!(mended, pam.replace("pam_env.so user_readenv=1 envfile", "pam_env.so user_readenv=0 envfile"));
        assert_eq!(without_user_environment(&mended), None);
    }

    #[test]
    fn a_login_is_recorded_once_it_has_its_audit_session() {
        let debian = "session required pam_loginuid.so\n@include common-session\nsession required pam_env.so\n";
        let fedora = "session required pam_loginuid.so\nsession include password-auth\n";
        assert_eq!(with_record(debian).unwrap(), debian.replace("common-session\n", &format!("common-session\n{RECORD_LINE}\n")));
        assert_eq!(with_record(fedora).unwrap(), fedora.replace("loginuid.so\n", &format!("loginuid.so\n{RECORD_LINE}\n")));
        assert_eq!(with_record("#session required pam_loginuid.so\n@include common-session\n"), None);
    }

    #[test]
    fn settings_are_the_shipped_ones_but_for_what_is_asked() {
        let text = settings(&["argument", "user"], Some("/var/log/rex/rex.jsonl"), Some("/var/lib/rex/host_key")).unwrap();
        let config = Config::parse(&text, Path::new("/etc/rex/rex.toml")).unwrap();
        assert_eq!(config.audit.file, "/var/log/rex/rex.jsonl");
        assert_eq!(config.serve.host_key, "/var/lib/rex/host_key");
        assert_eq!(config.identity.len(), 2);
        assert_eq!(settings(&["user"], None, None).unwrap(), rex_toml());
        let mine = "# mine\nidentity = [\"user\"] # why\nopen = \"explicit\"\n";
        assert_eq!(
            with_identity(mine, &["argument", "user"]).unwrap(),
            "# mine\nidentity = [\"argument\", \"user\"] # why\nopen = \"explicit\"\n"
        );
        assert!(Config::parse(&with_identity("[limits]\nwall = 9\n", &["argument"]).unwrap(), Path::new("/x")).is_ok());
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        let odd = "a\"b'c\\d $(id)";
        let tables = principal(odd, &["g\"".to_owned()], &Known::UnixUser("agent".to_owned()));
        let principals = Principals::parse(&principals_toml(&tables), "x").unwrap();
        assert_eq!(principals.of_unix_user("agent").unwrap().name, odd);
        assert_eq!(forced_key("alice", "K"), "restrict,command=\"exec /usr/bin/rex session --principal alice\" K");
        assert_eq!(forced_key("a\"b'c", "K"), "restrict,command=\"exec /usr/bin/rex session --principal 'a\\\"b'\\''c'\" K");
        let certificates = Known::Certificates { authorities: vec!["corp".into()], principals: vec!["alice".into()] };
        let mut tables = authority("corp", "SHA256:JQ6FV0rf7qqJHZqIj4zNH8eV0oB8KLKh9Pph3FTD98g");
        tables.push_str(&principal("alice", &[], &certificates));
        assert!(
            Principals::parse(&principals_toml(&tables), "x")
                .unwrap()
                .knows_authority("SHA256:JQ6FV0rf7qqJHZqIj4zNH8eV0oB8KLKh9Pph3FTD98g")
        );
    }

    #[test]
    fn the_folders_are_those_of_packaging() {
        let folders: Vec<_> = folders().collect();
        assert_eq!(folders.len(), TMPFILES.lines().filter(|line| line.starts_with("d ")).count());
        assert!(folders.contains(&(Path::new("/var/log/rex"), 0o2770, "root", "rexusers")));
    }
}
