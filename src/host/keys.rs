//! Lines of authorized_keys(5) and of files of principals as sshd reads them: options in their order, keys, what each line lets its key do.

use crate::error::Result;
use crate::host::sshd::Effective;
use crate::os::facts;
use crate::os::process::User;
use std::path::{Path, PathBuf};

const MAX_FILE: u64 = 4 << 20;
/// Options that sshd knows, with or without a value. Another one makes it refuse the whole line (auth-options.c).
const FLAGS: &[&str] = &[
    "restrict",
    "cert-authority",
    "port-forwarding",
    "agent-forwarding",
    "x11-forwarding",
    "pty",
    "user-rc",
    "touch-required",
    "verify-required",
];
const VALUES: &[&str] = &["command", "principals", "from", "expiry-time", "environment", "permitopen", "permitlisten", "tunnel"];

/// One line that lets somebody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLine {
    pub file: PathBuf,
    pub number: usize,
    /// Names in lower case, values without their quotes, in order.
    pub options: Vec<(String, Option<String>)>,
    /// `ssh-ed25519`; empty in a file of principals.
    pub kind: String,
    /// The key in base64; the name in a file of principals.
    pub key: String,
    pub comment: String,
}

impl KeyLine {
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.number)
    }
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|(name, _)| name == option)
    }
    /// The first value of an option.
    #[must_use]
    pub fn value(&self, option: &str) -> Option<&str> {
        self.options.iter().find(|(name, _)| name == option)?.1.as_deref()
    }
    /// Whether the line leaves a thing open that is open by default: `pty`, `user-rc`, `port-forwarding`, `agent-forwarding`, `x11-forwarding`.
    #[must_use]
    pub fn leaves_open(&self, thing: &str) -> bool {
        // In order, as sshd goes through them: what stands later counts.
        self.options.iter().fold(true, |open, (name, _)| match name.as_str() {
            "restrict" => false,
            name if name == thing => true,
            name if name.strip_prefix("no-") == Some(thing) => false,
            _ => open,
        })
    }
    /// An option that sshd does not know: it ignores the line.
    #[must_use]
    pub fn unknown_option(&self) -> Option<&str> {
        let known = |name: &str, value: bool| {
            if value { VALUES.contains(&name) } else { FLAGS.contains(&name.strip_prefix("no-").unwrap_or(name)) }
        };
        self.options.iter().find(|(name, value)| !known(name, value.is_some())).map(|(name, _)| name.as_str())
    }
    /// `SHA256:…`, as sshd logs it.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        let key = ssh_key::PublicKey::from_openssh(&format!("{} {}", self.kind, self.key)).ok()?;
        Some(key.fingerprint(ssh_key::HashAlg::Sha256).to_string())
    }
}

/// The files of keys of an account, in the order in which sshd tries them (`AuthorizedKeysFile`, `AuthorizedPrincipalsFile`). Globs, which newer versions
/// know, stay as they are.
#[must_use]
pub fn files(effective: &Effective, keyword: &str, user: &User) -> Vec<PathBuf> {
    let words = effective.words(keyword).filter(|word| !word.eq_ignore_ascii_case("none"));
    words.map(|word| user.home.join(unfold(word, user))).collect()
}

/// `%h`, `%u`, `%U` and `%%` in a word of sshd_config.
#[must_use]
pub fn unfold(word: &str, user: &User) -> String {
    let mut text = String::new();
    let mut rest = word.chars();
    while let Some(c) = rest.next() {
        match (c, if c == '%' { rest.next() } else { None }) {
            ('%', Some('h')) => text.push_str(&user.home.to_string_lossy()),
            ('%', Some('u')) => text.push_str(&user.name),
            ('%', Some('U')) => text.push_str(&user.uid.to_string()),
            ('%', Some('%') | None) => text.push('%'),
            ('%', Some(other)) => text.extend(['%', other]),
            (c, _) => text.push(c),
        }
    }
    text
}

/// The lines of a file of keys; none where it is not there.
///
/// # Errors
/// What keeps it from being read.
pub fn read(file: &Path) -> Result<Vec<KeyLine>> {
    let text = facts::text(file, MAX_FILE)?.unwrap_or_default();
    Ok(text.lines().enumerate().filter_map(|(at, line)| key_line(file, at + 1, line)).collect())
}

/// The lines of a file of principals (sshd_config(5), AuthorizedPrincipalsFile).
///
/// # Errors
/// What keeps it from being read.
pub fn read_principals(file: &Path) -> Result<Vec<KeyLine>> {
    let text = facts::text(file, MAX_FILE)?.unwrap_or_default();
    Ok(text.lines().enumerate().filter_map(|(at, line)| principal_line(file, at + 1, line)).collect())
}

/// What a line of authorized_keys says; None for comments and for what names no key.
#[must_use]
pub fn key_line(file: &Path, number: usize, line: &str) -> Option<KeyLine> {
    let line = line.trim_matches([' ', '\t', '\r']);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    // sshd first takes the line for a key, then for options and a key (auth2-pubkeyfile.c).
    let (options, rest) = if is_key(line) { ("", line) } else { line.split_at(end_of_options(line)) };
    let rest = rest.trim_start();
    if !is_key(rest) {
        return None;
    }
    let mut words = rest.splitn(3, [' ', '\t']);
    let (kind, key) = (words.next()?, words.next()?);
    Some(KeyLine {
        file: file.to_path_buf(),
        number,
        options: parse_options(options),
        kind: kind.to_owned(),
        key: key.trim().to_owned(),
        comment: words.next().unwrap_or("").trim().to_owned(),
    })
}

fn principal_line(file: &Path, number: usize, line: &str) -> Option<KeyLine> {
    let line = line.split('#').next().unwrap_or("").trim();
    if line.is_empty() {
        return None;
    }
    // The last word is the name, what stands before it options.
    let (options, name) = line.rsplit_once([' ', '\t']).map_or(("", line), |(options, name)| (options.trim(), name));
    let options = parse_options(options);
    Some(KeyLine { file: file.to_path_buf(), number, options, kind: String::new(), key: name.to_owned(), comment: String::new() })
}

fn is_key(text: &str) -> bool {
    let mut words = text.split([' ', '\t']).filter(|word| !word.is_empty());
    let kind = words.next().unwrap_or("");
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|start| kind.starts_with(start))
        && !kind.contains([',', '=', '"'])
        && words.next().is_some()
}

/// The first blank that no quotes enclose.
fn end_of_options(line: &str) -> usize {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => return at,
            _ => {}
        }
        escaped = false;
    }
    line.len()
}

fn parse_options(text: &str) -> Vec<(String, Option<String>)> {
    let mut options = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = end_of_option(rest);
        let (option, after) = rest.split_at(end);
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let value = value.map(|value| {
            let inside = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            inside.replace("\\\"", "\"")
        });
        if !name.trim().is_empty() {
            options.push((name.trim().to_ascii_lowercase(), value));
        }
        rest = after.strip_prefix(',').unwrap_or("");
    }
    options
}

/// The first comma that no quotes enclose.
fn end_of_option(text: &str) -> usize {
    let (mut quoted, mut before) = (false, ' ');
    for (at, c) in text.char_indices() {
        match c {
            '"' if before != '\\' => quoted = !quoted,
            ',' if !quoted => return at,
            _ => {}
        }
        before = c;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHSmQ9tZ5sH1KXj5PzX2bKfF7fP4m8oQ4m5sJrVb2x6Q";

    fn line(text: &str) -> KeyLine {
        key_line(Path::new("/k"), 3, text).unwrap()
    }

    #[test]
    fn options_and_keys_are_told_apart() {
        let plain = line(&format!("{KEY} a comment"));
        assert_eq!((plain.options.len(), plain.kind.as_str(), plain.comment.as_str()), (0, "ssh-ed25519", "a comment"));
        assert!(plain.fingerprint().unwrap().starts_with("SHA256:"));
        let forced = line(&format!("restrict,Command=\"exec /usr/bin/rex session --principal \\\"a, b\\\"\",from=\"10.0.0.0/8\" {KEY}"));
        assert_eq!(forced.value("command"), Some("exec /usr/bin/rex session --principal \"a, b\""));
        assert_eq!((forced.value("from"), forced.place().as_str(), forced.unknown_option()), (Some("10.0.0.0/8"), "/k:3", None));
        assert_eq!(line(&format!("no-such-thing {KEY}")).unknown_option(), Some("no-such-thing"));
        for nothing in ["# x", "", "command=\"x\"", "just words here"] {
            assert_eq!(key_line(Path::new("/k"), 1, nothing), None, "{nothing}");
        }
    }

    #[test]
    fn what_stands_later_counts() {
        for (options, open) in [
            ("no-x11-forwarding", true),
            ("restrict", false),
            ("restrict,pty", true),
            ("pty,restrict", false),
            ("no-pty", false),
            ("no-pty,pty", true),
        ] {
            assert_eq!(line(&format!("{options} {KEY}")).leaves_open("pty"), open, "{options}");
        }
    }

    #[test]
    fn files_are_where_sshd_looks() {
        let user = User { name: "u".into(), uid: 7, gid: 7, home: "/h".into(), shell: "/bin/sh".into() };
        let effective = Effective::parse("authorizedkeysfile .ssh/a /k/%u %h/x/%U/100%%\nauthorizedprincipalsfile none\n");
        assert_eq!(files(&effective, "authorizedkeysfile", &user), [PathBuf::from("/h/.ssh/a"), "/k/u".into(), "/h/x/7/100%".into()]);
        assert!(files(&effective, "authorizedprincipalsfile", &user).is_empty());
    }

    #[test]
    fn principals_have_options_too() {
        let line = principal_line(Path::new("/p"), 1, "restrict,command=\"a b\" ops # who").unwrap();
        assert_eq!((line.key.as_str(), line.value("command")), ("ops", Some("a b")));
        assert_eq!(principal_line(Path::new("/p"), 1, " ops").unwrap().key, "ops");
    }
}
