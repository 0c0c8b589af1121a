//! What the owner asks of `rex setup`, checked: which way in, for whom, with which keys, under which policies.

use super::texts::{POLICIES, groups_of};
use crate::error::{Error, Kind, Result};
use crate::identity::Key;
use crate::identity::name::fault;
use crate::os::trusted::{Owner, Trusted};
use std::path::{Path, PathBuf};

/// Bytes of a file of keys or of a policy.
const MAX: u64 = 4 << 20;

/// The way in, one of those in docs/decisions/setup.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    ForcedCommand,
    Root,
    LeastPrivilege,
    Key,
    Certificate,
    Subsystem,
    LoginShell,
    Serve,
}

impl Flavour {
    pub const ALL: &[Self] = &[
        Self::ForcedCommand,
        Self::LeastPrivilege,
        Self::Subsystem,
        Self::Certificate,
        Self::Key,
        Self::Root,
        Self::LoginShell,
        Self::Serve,
    ];

    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ForcedCommand => "forced-command",
            Self::Root => "root",
            Self::LeastPrivilege => "least-privilege",
            Self::Key => "key",
            Self::Certificate => "certificate",
            Self::Subsystem => "subsystem",
            Self::LoginShell => "login-shell",
            Self::Serve => "serve",
        }
    }

    #[must_use]
    pub const fn doc(self) -> &'static str {
        match self {
            Self::ForcedCommand => "an account that can do nothing but ask rex, by its group",
            Self::Root => "a key of root that can do nothing but ask rex",
            Self::LeastPrivilege => "as forced-command, and the account gets exactly the rights of the host that its policies need",
            Self::Key => "one more key of an account that is there; that key can do nothing but ask rex",
            Self::Certificate => "as forced-command, with certificates of an authority instead of keys",
            Self::Subsystem => "as forced-command, and `ssh -s HOST rex` too",
            Self::LoginShell => "an account whose login shell is rex; nothing is changed in sshd's configuration",
            Self::Serve => "rex's own SSH server, as a unit of systemd",
        }
    }

    /// Whether the account is held to rex by its group.
    #[must_use]
    pub const fn by_group(self) -> bool {
        matches!(self, Self::ForcedCommand | Self::LeastPrivilege | Self::Certificate | Self::Subsystem)
    }
}

/// A public key, without what may stand before or behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// `type base64`.
    pub line: String,
    pub fingerprint: String,
}

/// A policy for the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Of its file, without the ending.
    pub name: String,
    pub text: String,
    pub tests: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Wanted {
    pub flavour: Flavour,
    pub account: String,
    pub principal: String,
    /// Of principals.toml.
    pub groups: Vec<String>,
    pub keys: Vec<PublicKey>,
    /// Keys of authorities of certificates.
    pub authorities: Vec<PublicKey>,
    pub certificate_principals: Vec<String>,
    pub policies: Vec<Chosen>,
    /// Set `PermitRootLogin forced-commands-only`, though other keys of root then open no shell any more.
    pub forced_commands_only: bool,
    /// Leave `user_readenv=1` where it is.
    pub keep_pam: bool,
    /// Keep sshd's account of each login where no session can forge it, and go by that.
    pub record: bool,
}

/// The words of the command line.
#[derive(Clone, Debug, Default)]
pub struct Words {
    pub account: Option<String>,
    pub principal: Option<String>,
    pub groups: Vec<String>,
    pub keys: Vec<String>,
    pub authorities: Vec<String>,
    pub certificate_principals: Vec<String>,
    pub policies: Vec<String>,
    pub forced_commands_only: bool,
    pub keep_pam: bool,
    pub record: bool,
}

/// The account and the policy of whoever names none.
pub const ACCOUNT: &str = "agent";
pub const POLICY: &str = "oncall-read-only";

impl Wanted {
    /// # Errors
    /// [`Kind::Usage`] for what does not go together or cannot be a name or key; what keeps a file from being read.
    pub fn of(flavour: Flavour, words: Words) -> Result<Self> {
        let Words {
            account,
            principal,
            groups,
            keys,
            authorities,
            certificate_principals,
            policies,
            forced_commands_only,
            keep_pam,
            record,
        } = words;
        let account = match (flavour, account) {
            (Flavour::Root, Some(account)) if account != "root" => return Err(usage("the way in `root` is for the account root")),
            (Flavour::Root, _) => "root".to_owned(),
            (Flavour::Serve, Some(account)) if account != "rex" => return Err(usage("packaging/rex.service runs as the account `rex`")),
            (Flavour::Serve, _) => "rex".to_owned(),
            (Flavour::Key, None) => return Err(usage("say whose key it is: --account NAME")),
            (_, account) => account.unwrap_or_else(|| ACCOUNT.to_owned()),
        };
        account_name(&account)?;
        if account == "root" && flavour != Flavour::Root {
            return Err(usage("root must not be held to rex as a whole").with_hint("--flavour root gives root a key that is"));
        }
        let principal = match (flavour, principal) {
            (_, Some(principal)) => principal,
            (Flavour::Root | Flavour::Key | Flavour::Serve, None) => {
                return Err(usage("say who it is for policies and records: --principal NAME"));
            }
            (_, None) => account.clone(),
        };
        if let Some(fault) = fault(&principal) {
            return Err(usage(format!("`{}` cannot be the name of a principal: it {fault}", principal.escape_debug())));
        }
        let keys = keys.iter().map(|word| public_keys(word)).collect::<Result<Vec<_>>>()?.concat();
        let authorities = authorities.iter().map(|word| public_keys(word)).collect::<Result<Vec<_>>>()?.concat();
        match (flavour, authorities.is_empty(), keys.is_empty()) {
            (Flavour::Certificate, true, _) => return Err(usage("say which authority signs the certificates: --authority FILE")),
            (Flavour::Certificate, _, false) => return Err(usage("an account for certificates takes no keys: leave --key out")),
            (Flavour::Certificate, ..) => {}
            (_, false, _) => return Err(usage("--authority belongs to --flavour certificate")),
            _ => {}
        }
        let certificate_principals = match (flavour, certificate_principals.is_empty()) {
            (Flavour::Certificate, true) => vec![principal.clone()],
            (Flavour::Certificate, false) => certificate_principals,
            (_, false) => return Err(usage("--certificate-principal belongs to --flavour certificate")),
            (_, true) => Vec::new(),
        };
        // A line of sshd's file of principals, which may have options in front.
        let odd = |name: &&String| {
            name.is_empty() || name.starts_with('#') || name.contains(|c: char| c.is_whitespace() || c.is_control() || "\",".contains(c))
        };
        if let Some(name) = certificate_principals.iter().find(odd) {
            return Err(usage(format!("`{}` cannot stand in sshd's list of principals", name.escape_debug())));
        }
        if forced_commands_only && flavour != Flavour::Root {
            return Err(usage("--forced-commands-only belongs to --flavour root"));
        }
        if record && !flavour.by_group() {
            return Err(usage("--record belongs to the ways in whose accounts are held by their group"));
        }
        let policies = if policies.is_empty() { vec![POLICY.to_owned()] } else { policies };
        let policies = policies.iter().map(|word| policy(word)).collect::<Result<Vec<_>>>()?;
        let groups = if groups.is_empty() {
            let mut spoken_of: Vec<String> = policies.iter().flat_map(|policy| groups_of(&policy.text)).collect();
            spoken_of.dedup();
            spoken_of
        } else {
            groups
        };
        Ok(Self {
            flavour,
            account,
            principal,
            groups,
            keys,
            authorities,
            certificate_principals,
            policies,
            forced_commands_only,
            keep_pam,
            record,
        })
    }
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(Kind::Usage, message)
}

/// A name that useradd takes everywhere (useradd(8)), and that no tool takes for an option or a number.
fn account_name(name: &str) -> Result<()> {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    if first && name.len() <= 32 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c)) {
        return Ok(());
    }
    Err(usage(format!(
        "`{}` cannot be the name of an account here: small letters, digits, `_` and `-`, a letter first, at most 32",
        name.escape_debug()
    )))
}

/// The keys in a file, or the key that the word itself is.
///
/// # Errors
/// [`Kind::Usage`] when there is no key in it, or something that is none.
pub fn public_keys(word: &str) -> Result<Vec<PublicKey>> {
    let is_key = ["ssh-", "ecdsa-", "sk-"].iter().any(|begin| word.starts_with(begin)) && word.contains(' ');
    let text = if is_key { word.to_owned() } else { read(word)? };
    if text.contains("PRIVATE KEY-----") {
        return Err(usage(format!("{word}: this is a private key; the public one is in the file that ends in .pub")));
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys = lines
        .map(|line| public_key(line).map_err(|error| usage(format!("{}: {}", shown(word), error.message))))
        .collect::<Result<Vec<_>>>()?;
    if keys.is_empty() { Err(usage(format!("{word}: there is no key in it"))) } else { Ok(keys) }
}

fn shown(word: &str) -> String {
    word.chars().take(60).collect()
}

/// One line `type base64 comment`. Its comment is left out: it is free text from outside.
fn public_key(line: &str) -> Result<PublicKey> {
    let mut words = line.split_ascii_whitespace();
    let (Some(kind), Some(blob)) = (words.next(), words.next()) else {
        return Err(usage("no line of a public key: `ssh-ed25519 AAAA… name`"));
    };
    let fingerprint = fingerprint(kind, blob).ok_or_else(|| {
        usage(format!("`{}` is no plain public key that rex knows: `ssh-ed25519 AAAA… name`", shown(line).escape_debug()))
    })?;
    Ok(PublicKey { line: format!("{kind} {blob}"), fingerprint })
}

fn fingerprint(kind: &str, blob: &str) -> Option<String> {
    use base64::Engine as _;
    let blob = base64::engine::general_purpose::STANDARD.decode(blob).ok()?;
    match Key::from_blob(kind, &blob) {
        Ok(Key::Plain { fingerprint, .. }) => Some(fingerprint),
        _ => None,
    }
}

/// A policy of policies/ by its name, or one of a file, with the tests beside it.
fn policy(word: &str) -> Result<Chosen> {
    if let Some(known) = POLICIES.iter().find(|policy| policy.name == word) {
        return Ok(Chosen { name: word.to_owned(), text: known.text.to_owned(), tests: Some(known.tests.to_owned()) });
    }
    if !word.contains(['/', '.']) {
        let near = POLICIES.iter().min_by_key(|policy| strsim::damerau_levenshtein(policy.name, word)).map_or("", |policy| policy.name);
        return Err(usage(format!("there is no policy `{}`", word.escape_debug()))
            .with_hint(format!("`{near}`? `rex setup --list-policies` shows all; a file needs its path")));
    }
    let path = PathBuf::from(word);
    let name = path.file_stem().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.')).unwrap_or_default().to_owned();
    if path.extension().is_none_or(|ending| ending != "cedar") || name.is_empty() {
        return Err(usage(format!("{word}: a policy is a file whose name ends in .cedar")));
    }
    let tests = path.with_extension("test.toml");
    let tests = if tests.exists() { Some(read(&tests.to_string_lossy())?) } else { None };
    Ok(Chosen { name, text: read(word)?, tests })
}

/// A file that the owner names, and so vouches for.
fn read(word: &str) -> Result<String> {
    let bytes = Trusted::new(Owner::Unchecked).read(Path::new(word), MAX).map_err(|error| Error { kind: Kind::Usage, ..error })?;
    String::from_utf8(bytes).map_err(|_| usage(format!("{word}: not UTF-8 text")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn of(flavour: Flavour, words: Words) -> Result<Wanted> {
        Wanted::of(flavour, words)
    }
    fn key() -> Words {
        Words { keys: vec![format!("{KEY} me@laptop")], ..Words::default() }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let wanted = of(Flavour::ForcedCommand, key()).unwrap();
        assert_eq!((wanted.account.as_str(), wanted.principal.as_str(), wanted.groups), ("agent", "agent", vec!["oncall".to_owned()]));
        assert_eq!(wanted.keys[0].line, KEY);
        assert!(wanted.keys[0].fingerprint.starts_with("SHA256:"));
        let root = of(Flavour::Root, Words { principal: Some("alice".into()), ..key() }).unwrap();
        assert_eq!(root.account, "root");
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let some = |name: &str| Some(name.to_owned());
        for (flavour, words) in [
            (Flavour::Root, key()),
            (Flavour::Key, Words { principal: some("alice"), ..key() }),
            (Flavour::ForcedCommand, Words { account: some("root"), ..key() }),
            (Flavour::ForcedCommand, Words { account: some("-x"), ..key() }),
            (Flavour::ForcedCommand, Words { account: some("a:b"), ..key() }),
            (Flavour::ForcedCommand, Words { principal: some("a\nb"), ..key() }),
            (Flavour::ForcedCommand, Words { authorities: vec![KEY.into()], ..Words::default() }),
            (Flavour::ForcedCommand, Words { forced_commands_only: true, ..key() }),
            (Flavour::ForcedCommand, Words { policies: vec!["oncall".into()], ..key() }),
            (Flavour::Certificate, Words::default()),
            (Flavour::Certificate, Words { authorities: vec![KEY.into()], certificate_principals: vec!["a b".into()], ..Words::default() }),
            (Flavour::Serve, Words { principal: some("alice"), account: some("agent"), ..key() }),
        ] {
            assert_eq!(of(flavour, words.clone()).unwrap_err().kind, Kind::Usage, "{flavour:?} {words:?}");
        }
    }

    #[test]
    fn only_plain_public_keys_are_keys() {
        for text in ["", "x", "ssh-ed25519 x", "ssh-dss AAAA x", "restrict ssh-ed25519 AAAA", "-----BEGIN OPENSSH PRIVATE KEY-----"] {
            assert!(public_key(text).is_err(), "{text}");
        }
        // The blob of another type than the line says.
        assert!(public_key(&KEY.replace("ssh-ed25519", "ssh-rsa")).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("# mine\n\n{KEY} a'; id #\n")).unwrap();
        assert_eq!(public_keys(file.path().to_str().unwrap()).unwrap()[0].line, KEY);
    }
}
