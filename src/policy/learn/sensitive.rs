//! Places that no policy is proposed for unless the owner names them one by one, and that no folder is merged over.

use crate::policy::words::Access;

/// How a row names places.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// This and everything below it.
    Within(&'static str),
    /// Everything whose path begins so.
    Begins(&'static str),
    /// A component of the path, wherever.
    Component(&'static str),
    /// A last component that begins so.
    NameBegins(&'static str),
    /// A last component that ends so.
    NameEnds(&'static str),
}
use Place::{Begins, Component, NameBegins, NameEnds, Within};

/// One row: the place, whether for changing verbs only, and why.
struct Row(Place, bool, &'static str);

const PASSWORDS: &str = "it holds password hashes";
const KEYS: &str = "it holds keys or certificates with keys";
const TOKENS: &str = "it holds passwords or tokens of some program";
const LOGIN: &str = "it decides who may log in, and as whom";
const START: &str = "it decides what is started, and as whom";
const KERNEL: &str = "it is the kernel's own: what it shows and takes changes from one to the next";
const RECORDS: &str = "it tells who did what, or what they typed";

/// Every place, with the reason that a proposal gives.
const TABLE: &[Row] = &[
    Row(Begins("/etc/shadow"), false, PASSWORDS),
    Row(Begins("/etc/gshadow"), false, PASSWORDS),
    Row(Begins("/etc/passwd-"), false, PASSWORDS),
    Row(Within("/etc/security/opasswd"), false, PASSWORDS),
    Row(NameEnds("htpasswd"), false, PASSWORDS),
    Row(Within("/etc/ssh"), false, LOGIN),
    Row(Component(".ssh"), false, KEYS),
    Row(Component(".gnupg"), false, KEYS),
    Row(Within("/etc/ssl/private"), false, KEYS),
    Row(Within("/etc/pki/tls/private"), false, KEYS),
    Row(Within("/etc/letsencrypt"), false, KEYS),
    Row(Within("/etc/krb5.keytab"), false, KEYS),
    Row(Within("/etc/wireguard"), false, KEYS),
    Row(Within("/etc/ipsec.secrets"), false, KEYS),
    Row(Within("/etc/NetworkManager/system-connections"), false, KEYS),
    Row(Within("/etc/kubernetes/pki"), false, KEYS),
    Row(NameEnds(".pem"), false, KEYS),
    Row(NameEnds(".key"), false, KEYS),
    Row(NameEnds("_key"), false, KEYS),
    Row(NameEnds(".p12"), false, KEYS),
    Row(NameEnds(".pfx"), false, KEYS),
    Row(NameEnds(".jks"), false, KEYS),
    Row(NameEnds(".keystore"), false, KEYS),
    Row(NameEnds(".keytab"), false, KEYS),
    Row(NameEnds(".kdbx"), false, KEYS),
    Row(NameBegins("id_rsa"), false, KEYS),
    Row(NameBegins("id_dsa"), false, KEYS),
    Row(NameBegins("id_ecdsa"), false, KEYS),
    Row(NameBegins("id_ed25519"), false, KEYS),
    Row(NameBegins(".env"), false, TOKENS),
    Row(NameEnds(".env"), false, TOKENS),
    Row(NameBegins("kubeconfig"), false, TOKENS),
    Row(NameEnds(".kubeconfig"), false, TOKENS),
    Row(NameBegins("credentials"), false, TOKENS),
    Row(NameBegins("secret"), false, TOKENS),
    Row(NameEnds(".netrc"), false, TOKENS),
    Row(NameEnds(".pgpass"), false, TOKENS),
    Row(NameEnds(".my.cnf"), false, TOKENS),
    Row(NameEnds(".git-credentials"), false, TOKENS),
    Row(NameEnds(".vault-token"), false, TOKENS),
    Row(Component(".aws"), false, TOKENS),
    Row(Component(".azure"), false, TOKENS),
    Row(Component(".kube"), false, TOKENS),
    Row(Component(".docker"), false, TOKENS),
    Row(Component("gcloud"), false, TOKENS),
    Row(Within("/run/secrets"), false, TOKENS),
    Row(Within("/var/lib/kubelet/pods"), false, TOKENS),
    Row(Within("/root"), false, "it is root's own"),
    Row(Within("/etc/sudoers"), false, LOGIN),
    Row(Within("/etc/sudoers.d"), false, LOGIN),
    Row(Within("/etc/doas.conf"), false, LOGIN),
    Row(Within("/etc/polkit-1"), true, LOGIN),
    Row(Within("/etc/pam.d"), true, LOGIN),
    Row(Begins("/etc/pam.conf"), true, LOGIN),
    Row(Within("/etc/security"), true, LOGIN),
    Row(Within("/etc/passwd"), true, LOGIN),
    Row(Within("/etc/group"), true, LOGIN),
    Row(Begins("/etc/subuid"), true, LOGIN),
    Row(Begins("/etc/subgid"), true, LOGIN),
    Row(Within("/etc/nsswitch.conf"), true, LOGIN),
    Row(Within("/etc/crontab"), false, START),
    Row(Within("/etc/anacrontab"), false, START),
    Row(Begins("/etc/cron."), false, START),
    Row(Within("/var/spool/cron"), false, START),
    Row(Within("/var/spool/at"), false, START),
    Row(Within("/etc/systemd"), true, START),
    Row(Within("/usr/lib/systemd"), true, START),
    Row(Within("/lib/systemd"), true, START),
    Row(Within("/run/systemd"), true, START),
    Row(Within("/etc/init.d"), true, START),
    Row(Within("/etc/rc.local"), true, START),
    Row(Begins("/etc/ld.so"), true, START),
    Row(Within("/etc/profile"), true, START),
    Row(Within("/etc/profile.d"), true, START),
    Row(Within("/etc/environment"), true, START),
    Row(Begins("/etc/bash"), true, START),
    Row(Within("/etc/modprobe.d"), true, START),
    Row(Within("/etc/udev"), true, START),
    Row(Within("/etc/sysctl.d"), true, START),
    Row(Within("/boot"), true, START),
    Row(Within("/usr"), true, START),
    Row(Within("/bin"), true, START),
    Row(Within("/sbin"), true, START),
    Row(Within("/lib"), true, START),
    Row(Within("/lib64"), true, START),
    Row(Within("/opt"), true, START),
    Row(Within("/proc"), false, KERNEL),
    Row(Within("/sys"), false, KERNEL),
    Row(Within("/dev"), false, KERNEL),
    Row(Within("/etc/rex"), false, "it is rex's own"),
    Row(Within("/var/lib/rex"), false, "it is rex's own"),
    Row(Within("/var/cache/rex"), false, "it is rex's own"),
    Row(Within("/run/rex"), false, "it is rex's own"),
    Row(Within("/var/log/audit"), false, RECORDS),
    Row(Within("/var/log/journal"), false, RECORDS),
    Row(Within("/run/log/journal"), false, RECORDS),
    Row(Begins("/var/log/auth.log"), false, RECORDS),
    Row(Begins("/var/log/secure"), false, RECORDS),
    Row(Begins("/var/log/wtmp"), false, RECORDS),
    Row(Begins("/var/log/btmp"), false, RECORDS),
    Row(Begins("/var/log/lastlog"), false, RECORDS),
    Row(NameEnds("_history"), false, RECORDS),
];

/// Whether `path` is `folder` or below it.
fn within(path: &str, folder: &str) -> bool {
    path == folder || folder == "/" || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Why this path is not proposed unasked, if so. `own`: further places that are rex's own on this host.
#[must_use]
pub fn reason(path: &str, access: Access, own: &[String]) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or("").to_ascii_lowercase();
    if own.iter().any(|own| within(path, own)) {
        return Some("it is rex's own");
    }
    let lies = |place: Place| match place {
        Within(folder) => within(path, folder),
        Begins(start) => path.starts_with(start),
        Component(part) => path.split('/').any(|component| component == part),
        NameBegins(start) => name.starts_with(start),
        NameEnds(end) => name.ends_with(end),
    };
    TABLE.iter().find(|Row(place, change, _)| (!change || access == Access::Change) && lies(*place)).map(|Row(_, _, why)| *why)
}

/// A place of the table, or of rex's own, that lies in this folder, so that a permit for the folder would take it in.
#[must_use]
pub fn inside(folder: &str, access: Access, own: &[String]) -> Option<(String, &'static str)> {
    if let Some(own) = own.iter().find(|own| within(own, folder)) {
        return Some((own.clone(), "it is rex's own"));
    }
    TABLE.iter().filter(|Row(_, change, _)| !change || access == Access::Change).find_map(|Row(place, _, why)| match place {
        Within(path) | Begins(path) if within(path, folder) || folder_begins(folder, path) => Some(((*path).to_owned(), *why)),
        _ => None,
    })
}

/// `Begins("/etc/cron.")` is in `/etc`, and `/etc/cron.d` begins so.
fn folder_begins(folder: &str, start: &str) -> bool {
    folder.starts_with(start)
}

/// Patterns, as `like` takes them, of the names that a permit for a folder leaves out.
#[must_use]
pub fn patterns(access: Access) -> Vec<String> {
    let mut patterns: Vec<String> = TABLE
        .iter()
        .filter(|Row(_, change, _)| !change || access == Access::Change)
        .flat_map(|Row(place, ..)| match place {
            Component(part) => vec![format!("*/{part}"), format!("*/{part}/*")],
            NameBegins(start) => vec![format!("*/{start}*")],
            // `like` tells large letters from small ones.
            NameEnds(end) => vec![format!("*{end}"), format!("*{}", end.to_ascii_uppercase())],
            Within(_) | Begins(_) => Vec::new(),
        })
        .collect();
    patterns.sort();
    patterns.dedup();
    patterns
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn secrets_are_known_wherever_they_lie_and_neighbours_are_not() {
        let own = ["/srv/x/etc".to_owned()];
        let read = |path: &str| reason(path, Access::ReadOnly, &own);
        for path in [
            "/etc/shadow",
            "/etc/shadow-",
            "/etc/ssh/sshd_config",
            "/home/a/.ssh/config",
            "/root",
            "/root/x",
            "/srv/tls/site.pem",
            "/srv/tls/SITE.KEY",
            "/srv/app/.env.production",
            "/srv/app/prod.env",
            "/proc/meminfo",
            "/sys/kernel/x",
            "/etc/cron.d/x",
            "/etc/sudoers.d/x",
            "/srv/x/etc/rex.toml",
            "/home/a/.bash_history",
        ] {
            assert!(read(path).is_some(), "{path}");
        }
        for path in [
            "/etc/passwd",
            "/var/log/syslog",
            "/rootfs/x",
            "/srv/ssh",
            "/procx",
            "/etc/rexx",
            "/srv/keys/list",
            "/etc/pam.d/sshd",
            "/usr/bin/df",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
        assert!(reason("/etc/passwd", Access::Change, &own).is_some() && reason("/etc/systemd/system/x", Access::Change, &own).is_some());
    }

    #[test]
    fn a_folder_that_holds_one_is_known() {
        for folder in ["/", "/etc", "/etc/cron.d", "/var", "/var/log", "/root/x"] {
            let inside = inside(folder, Access::ReadOnly, &[]);
            assert!(inside.is_some() || reason(folder, Access::ReadOnly, &[]).is_some(), "{folder}");
        }
        for folder in ["/srv", "/var/log/app", "/etc/nginx", "/home/a/work"] {
            assert_eq!(inside(folder, Access::ReadOnly, &[]), None, "{folder}");
        }
        assert_eq!(inside("/srv", Access::ReadOnly, &["/srv/rex/etc".into()]).unwrap().0, "/srv/rex/etc");
    }

    #[test]
    fn what_a_folder_leaves_out_are_the_names_of_the_table() {
        let patterns = patterns(Access::ReadOnly);
        assert!(
            patterns.contains(&"*.pem".to_owned())
                && patterns.contains(&"*/.ssh/*".to_owned())
                && patterns.contains(&"*/id_rsa*".to_owned())
        );
        assert!(patterns.iter().all(|pattern| !pattern.contains('\\') && !pattern.contains('"')));
    }
}
