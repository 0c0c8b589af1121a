//! What a change of a file comes to, as a unified diff for the script and, with secrets covered, for the record.

use regex::Regex;
use similar::{ChangeTag, TextDiff};
use std::sync::LazyLock;
use std::time::Duration;

/// How long the shortest difference is looked for; after that a longer one does.
const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes of a record's difference; a record cuts what is longer than 2048.
const MOST: usize = 1800;
/// Characters of one line in a record.
const LONGEST: usize = 200;
/// Stands for what is not shown.
const COVER: &str = "[…]";

/// As `diff -u` prints it; empty where nothing differs.
#[must_use]
pub fn unified(old: &[u8], new: &[u8], path: &str) -> String {
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(&*old, &*new);
    diff.unified_diff().context_radius(3).header(path, path).to_string()
}

/// The lines that went and came, for the record. Values of keys that are named like secrets, passwords in addresses and private keys are
/// covered; `secret` covers all of it.
#[must_use]
pub fn for_record(old: &[u8], new: &[u8], secret: bool) -> String {
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(&*old, &*new);
    let mut shown = String::new();
    let mut left = 0;
    let mut key = false;
    for hunk in diff.unified_diff().context_radius(0).iter_hunks() {
        shown.push_str(&format!("{}\n", hunk.header()));
        for change in hunk.iter_changes() {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let line = change.value().trim_end_matches(['\n', '\r']);
            key |= line.contains("-----BEGIN ") && line.contains("PRIVATE KEY");
            let line = if key { COVER.to_owned() } else { covered(line, secret) };
            key &= !change.value().contains("-----END ");
            if shown.len() + line.len() > MOST {
                left += 1;
                continue;
            }
            shown.push(sign);
            shown.extend(line.chars().take(LONGEST));
            shown.push_str(if line.chars().nth(LONGEST).is_some() { "…\n" } else { "\n" });
        }
    }
    if left > 0 {
        shown.push_str(&format!("… ({left} more lines)\n"));
    }
    shown
}

/// Whether a key is one whose value is nobody's business.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    NAMES.is_match(key)
}

/// Values that are no secrets whatever they are called.
const SWITCHES: &[&str] = &["yes", "no", "true", "false", "on", "off", "0", "1"];
const WORDS: &str = r"pass(?:w(?:or)?d|phrase|code|\b|_)|pwd|secret|token|credential|auth|cookie|bearer|psk|salt|api[_-]?key|access[_-]?key|private[_-]?key|signing[_-]?key|encryption[_-]?key|license[_-]?key";

// The patterns are constants that a test compiles; one that did not would cover everything.
static NAMES: LazyLock<Pattern> = LazyLock::new(|| Pattern::new(&format!("(?i){WORDS}")));
static VALUES: LazyLock<Pattern> =
    LazyLock::new(|| Pattern::new(&format!(r#"(?i)^(.*?[\w.-]*(?:{WORDS})[\w.-]*["']?(?:\s*[=:]\s*|\s+))(\S.*)$"#)));
static ADDRESSES: LazyLock<Pattern> = LazyLock::new(|| Pattern::new(r"(://[^\s/:@]*:)[^\s/@]+@"));

struct Pattern(Option<Regex>);

impl Pattern {
    fn new(pattern: &str) -> Self {
        Self(Regex::new(pattern).ok())
    }
    fn is_match(&self, text: &str) -> bool {
        self.0.as_ref().is_none_or(|pattern| pattern.is_match(text))
    }
}

/// A line without its secrets. Of a `secret` one only what is clearly not part of the value is left.
fn covered(line: &str, secret: bool) -> String {
    let (Some(values), Some(addresses)) = (&VALUES.0, &ADDRESSES.0) else { return COVER.to_owned() };
    let value = values.captures(line).and_then(|found| Some((found.get(1)?, found.get(2)?)));
    let line = match value {
        // `PasswordAuthentication no` is no secret, and worth having on record.
        Some((_, value)) if SWITCHES.contains(&value.as_str().trim().to_ascii_lowercase().as_str()) => line.to_owned(),
        Some((key, _)) => format!("{}{COVER}", key.as_str()),
        None if secret => COVER.to_owned(),
        None => line.to_owned(),
    };
    addresses.replace_all(&line, format!("${{1}}{COVER}@")).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_patterns_are_patterns() {
        assert!(NAMES.0.is_some() && VALUES.0.is_some() && ADDRESSES.0.is_some());
    }

    #[test]
    fn a_record_shows_no_secret() {
        for line in [
            "DB_PASSWORD=hunter2",
            "  password: \"hunter2\"",
            "\"db_pass\": \"hunter2\",",
            "api-key hunter2",
            "export AWS_SECRET_ACCESS_KEY='hunter2'",
            "requirepass hunter2",
            "url = postgres://app:hunter2@db/app",
            "Authorization: Bearer hunter2",
            "#old_token = hunter2",
        ] {
            let shown = for_record(b"", format!("{line}\n").as_bytes(), false);
            assert!(!shown.contains("hunter2") && shown.contains(COVER), "{shown}");
        }
        let shown = for_record(b"", b"-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----\nafter\n", false);
        assert!(!shown.contains("hunter2") && shown.contains("+after"), "{shown}");
        assert!(!for_record(b"", b"more = \"\"\"\nhunter2\n", true).contains("hunter2"));
    }

    #[test]
    fn a_record_shows_what_is_no_secret() {
        for line in ["PasswordAuthentication no", "bypass_cache = true", "listen 80;", "net.ipv4.ip_forward = 1", "url = http://app@db/x"] {
            let shown = for_record(b"", format!("{line}\n").as_bytes(), false);
            assert_eq!(shown, format!("@@ -0,0 +1 @@\n+{line}\n"));
        }
    }

    #[test]
    fn a_record_is_bounded_and_says_so() {
        let many: String = (0..500).map(|n| format!("line {n}\n")).collect();
        let shown = for_record(b"", many.as_bytes(), false);
        assert!(shown.len() < 1900 && shown.contains(" more lines)"), "{}", shown.len());
    }
}
