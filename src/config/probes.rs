//! `[probes.NAME]`: checks that the owner declares and scripts may have made by name.

use super::form::{self, Form};
use super::{Row, Section, seconds};
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::de::DeValue;

/// What a probe looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum ProbeKind {
    /// That a connection is taken.
    Tcp,
    /// That a request is answered.
    Http,
    /// That a program exits with 0.
    Command,
    /// That PING is answered with PONG.
    Redis,
}
const KINDS: &[(&str, ProbeKind)] =
    &[("tcp", ProbeKind::Tcp), ("http", ProbeKind::Http), ("command", ProbeKind::Command), ("redis", ProbeKind::Redis)];

impl ProbeKind {
    /// The word of rex.toml.
    #[must_use]
    pub fn name(self) -> &'static str {
        form::word_of(KINDS, self)
    }
}

settings! {
    /// A check of the owner's.
    struct ProbeSettings "probes.NAME" {
        kind: ProbeKind, form::word(KINDS), ProbeKind::Tcp, None,
            "What is looked at: that a connection is taken (tcp), a request answered (http), a program exits with 0 (command: also for databases, with their own clients), or PING answered (redis).";
        address: String, form::text(), String::new(), None,
            "For tcp and redis: an address and a port like \"127.0.0.1:5432\" or \"localhost:5432\" (an IPv6 address in brackets), or the absolute path of a Unix socket. Other names are not looked up.";
        url: String, form::text(), String::new(), None,
            "For http: the whole url, \"http://127.0.0.1:8080/health\"; its host is an address or localhost. For https use command with a program that speaks it.";
        status: Vec<String>, form::texts(), Vec::new(), None,
            "For http: the statuses that are good, each three digits; empty: all from 200 to 399. Redirects are not followed.";
        program: String, form::text(), String::new(), None,
            "For command: the program, an absolute path. It runs as rex does, without capabilities, in a fence of its own that no policy of the caller narrows; it and all it starts are killed after `timeout`. It must be writable by root (or the owner of the running service) alone.";
        arguments: Vec<String>, form::texts(), Vec::new(), None, "For command: its arguments.";
        environment: Vec<String>, form::texts(), Vec::new(), None, "For command: its whole environment, each NAME=value.";
        user: String, form::text(), String::new(), None, "For redis: the user that logs in; empty: the default user.";
        password_file: String, form::text(), String::new(), None,
            "For redis: a file whose first line is the password; empty: none. A relative path is beside rex.toml. It must be closed to other users than its owner and group.";
        expect: String, form::text(), String::new(), None,
            "A regular expression that has to be found in what comes back: the body, the output, or the first bytes of a tcp connection. Empty: anything will do.";
        show: u64, form::size(), 0, Some(0..=65_536),
            "Up to how many bytes of what comes back scripts see, as `output`. The password and values of the environment are replaced in it.";
        timeout: Duration, form::span(), seconds(5), Some(seconds(1)..=seconds(300)), "How long it may take.";
    }
}

/// What is wrong with a probe as a whole.
pub(super) fn check(name: &str, probe: &ProbeSettings) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || name.len() > 100 || !name.chars().all(legal) {
        return Err("a name has letters, digits and `_-.`, at most 100".to_owned());
    }
    let needs = |key: &str, value: &str| if value.is_empty() { Err(format!("kind `{}` needs `{key}`", probe.kind.name())) } else { Ok(()) };
    match probe.kind {
        ProbeKind::Tcp | ProbeKind::Redis => {
            needs("address", &probe.address)?;
            if !probe.address.starts_with('/') && socket_address(&probe.address).is_none() {
                return Err(format!("`address`: `{}` is no address with a port, and no absolute path", probe.address.escape_debug()));
            }
        }
        ProbeKind::Http => {
            needs("url", &probe.url)?;
            if http_parts(&probe.url).is_none() {
                return Err(format!("`url`: `{}` is no url like http://127.0.0.1:8080/health", probe.url.escape_debug()));
            }
            if let Some(bad) = probe.status.iter().find(|status| status.len() != 3 || !status.bytes().all(|byte| byte.is_ascii_digit())) {
                return Err(format!("`status`: `{}` is no status of three digits", bad.escape_debug()));
            }
        }
        ProbeKind::Command => {
            needs("program", &probe.program)?;
            if !probe.program.starts_with('/') {
                return Err("`program`: expected an absolute path".to_owned());
            }
            if let Some(bad) = probe.environment.iter().find(|pair| pair.split_once('=').is_none_or(|(name, _)| name.is_empty())) {
                // The value may be a secret.
                let name: String = bad.split('=').next().unwrap_or("").chars().take(60).collect();
                return Err(format!("`environment`: `{}` is not NAME=value", name.escape_debug()));
            }
        }
    }
    if regex::bytes::RegexBuilder::new(&probe.expect).size_limit(1 << 20).build().is_err() {
        return Err("`expect`: not a regular expression, or too large a one".to_owned());
    }
    Ok(())
}

/// A numeric address with its port, or `localhost`, which is 127.0.0.1 here.
#[must_use]
pub fn socket_address(text: &str) -> Option<core::net::SocketAddr> {
    let text = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse().ok()
}

/// The address, the text for `Host:`, and the target of a plain url.
#[must_use]
pub fn http_parts(url: &str) -> Option<(core::net::SocketAddr, &str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let cut = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at(cut);
    let plain = |text: &str| text.bytes().all(|byte| byte > b' ' && byte < 127 && byte != b'#');
    if !plain(rest) || host.contains('@') || target.starts_with('?') {
        return None;
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
    Some((socket_address(&with_port)?, host, if target.is_empty() { "/" } else { target }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn addresses_and_urls_are_taken_apart_without_looking_anything_up() {
        let shown = |url: &str| http_parts(url).map(|(address, host, target)| format!("{address} {host} {target}"));
        assert_eq!(shown("http://127.0.0.1:8080/health?x=1").unwrap(), "127.0.0.1:8080 127.0.0.1:8080 /health?x=1");
        assert_eq!(shown("http://localhost").unwrap(), "127.0.0.1:80 localhost /");
        assert_eq!(shown("http://[::1]/x").unwrap(), "[::1]:80 [::1] /x");
        for bad in [
            "https://127.0.0.1/",
            "http://example.org/",
            "http://u:p@127.0.0.1/",
            "http://127.0.0.1/a b",
            "http://127.0.0.1:x/",
            "http://",
            "127.0.0.1",
        ] {
            assert_eq!(shown(bad), None, "{bad}");
        }
        assert!(
            socket_address("localhost:1").is_some() && socket_address("example.org:1").is_none() && socket_address("127.0.0.1").is_none()
        );
    }

    #[test]
    fn a_probe_has_what_its_kind_needs() {
        let probe = |kind, change: fn(&mut ProbeSettings)| {
            let mut probe = ProbeSettings { kind, ..ProbeSettings::default() };
            change(&mut probe);
            check("a-b.c", &probe)
        };
        assert!(probe(ProbeKind::Tcp, |probe| probe.address = "127.0.0.1:1".into()).is_ok());
        assert!(probe(ProbeKind::Redis, |probe| probe.address = "/run/redis.sock".into()).is_ok());
        assert!(probe(ProbeKind::Command, |probe| probe.program = "/bin/true".into()).is_ok());
        assert!(probe(ProbeKind::Tcp, |_| {}).unwrap_err().contains("needs `address`"));
        assert!(probe(ProbeKind::Http, |probe| probe.url = "https://x/".into()).unwrap_err().contains("`url`"));
        assert!(probe(ProbeKind::Command, |probe| probe.program = "true".into()).unwrap_err().contains("absolute"));
        let wrong = probe(ProbeKind::Command, |probe| (probe.program, probe.environment) = ("/bin/true".into(), vec!["=hunter2".into()]));
        assert!(!wrong.unwrap_err().contains("hunter2"));
        assert!(
            probe(ProbeKind::Tcp, |probe| (probe.address, probe.expect) = ("127.0.0.1:1".into(), "(".into()))
                .unwrap_err()
                .contains("`expect`")
        );
        assert!(check("a b", &ProbeSettings::default()).is_err() && check("", &ProbeSettings::default()).is_err());
    }
}
