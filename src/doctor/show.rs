//! A report as text, as JSON for monitors, and the table of checks as a manual (docs/doctor.md).

use super::{Check, Finding, Report, Severity, Survey, checks};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The version of the JSON form. Fields and checks may be added without a new one.
pub const SCHEMA: &str = "rex.doctor/1";

/// For people. `all`: what is in order, too. `colour`: only for a terminal.
#[must_use]
pub fn text(report: &Report, survey: &Survey, all: bool, colour: bool) -> String {
    let mut out = String::new();
    let accounts: Vec<&str> = survey.subjects.iter().map(|subject| subject.user.name.as_str()).collect();
    let sshd = survey.version.as_ref().map_or("no sshd", |version| version.text.as_str());
    let _ = writeln!(
        out,
        "{} on {}; accounts: {}\n",
        sshd,
        survey.kernel.release,
        if accounts.is_empty() { "none".to_owned() } else { accounts.join(", ") }
    );
    for finding in &report.findings {
        let of = finding.account.as_ref().map(|name| format!("  {name}")).unwrap_or_default();
        let level = format!("{:8}", finding.check.severity.name());
        let level = if colour { painted(finding.check.severity, &level) } else { level };
        let _ = writeln!(out, "{level}  {}{}: {}", finding.check.id, line(&of), finding.check.title);
        for (label, said) in [("seen", &finding.detail), ("attack", &finding.check.attack.to_owned()), ("mend", &finding.mend)] {
            let place = finding.place.as_ref().filter(|_| label == "seen").map(|place| format!("{place}: ")).unwrap_or_default();
            let _ = writeln!(out, "    {label:6}  {}", line(&format!("{place}{said}")));
        }
    }
    let mut whys: Vec<(&str, Vec<&str>)> = Vec::new();
    for blind in &report.blind {
        match whys.iter_mut().find(|(why, _)| *why == blind.why) {
            Some((_, ids)) if ids.contains(&blind.check) => {}
            Some((_, ids)) => ids.push(blind.check),
            None => whys.push((&blind.why, vec![blind.check])),
        }
    }
    for (why, ids) in whys {
        let _ = writeln!(out, "not judged  {}: {}", ids.join(", "), line(why));
    }
    if all {
        for id in &report.passed {
            let _ = writeln!(out, "ok        {id}");
        }
    }
    let counts: Vec<String> = Severity::ALL.into_iter().map(|severity| format!("{} {}", report.count(severity), severity.name())).collect();
    let _ = writeln!(
        out,
        "{}; {} in order, {} not judged",
        counts.join(", "),
        report.passed.len(),
        crate::error::counted(blind_checks(report), "check")
    );
    out
}

/// Checks that could not see all, each once.
fn blind_checks(report: &Report) -> u64 {
    let mut ids: Vec<&str> = report.blind.iter().map(|blind| blind.check).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.len() as u64
}

/// One line that steers no terminal, whatever a file of the host held.
fn line(text: &str) -> String {
    crate::output::neutralise(&text.replace('\n', "; "))
}

fn painted(severity: Severity, text: &str) -> String {
    let code = match severity {
        Severity::Critical | Severity::High => "31;1",
        Severity::Medium => "33",
        Severity::Low | Severity::Info => "2",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// For programs: one document.
#[must_use]
pub fn document(report: &Report, survey: &Survey, fixed: &[String]) -> String {
    let finding = |finding: &Finding| {
        let (file, line) = finding.place.as_deref().map_or((None, None), split);
        json!({
            "id": finding.check.id,
            "severity": finding.check.severity.name(),
            "account": finding.account,
            "title": finding.check.title,
            "detail": finding.detail,
            "file": file,
            "line": line,
            "attack": finding.check.attack,
            "mend": finding.mend,
            "refuses": finding.check.refuses,
            "fixable": finding.check.fix.is_some(),
        })
    };
    let blind: Vec<Value> =
        report.blind.iter().map(|blind| json!({"id": blind.check, "account": blind.account, "why": blind.why})).collect();
    let counts: serde_json::Map<String, Value> =
        Severity::ALL.into_iter().map(|severity| (severity.name().to_owned(), report.count(severity).into())).collect();
    let whole = json!({
        "schema": SCHEMA,
        "rex": env!("CARGO_PKG_VERSION"),
        "host": rustix::system::uname().nodename().to_string_lossy(),
        "time": crate::sys::clock::now_rfc3339(),
        "exit": report.exit(),
        "privileged": survey.root,
        "sshd": survey.version.as_ref().map(|version| json!({"version": version.text, "package": version.package})),
        "kernel": {"release": survey.kernel.release, "landlock": survey.kernel.landlock, "seccomp": survey.kernel.seccomp},
        "accounts": survey.subjects.iter().map(|subject| subject.user.name.as_str()).collect::<Vec<_>>(),
        "counts": counts,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "not_judged": blind,
        "ok": report.passed,
        "fixed": fixed,
    });
    format!("{whole:#}\n")
}

/// `file:line` in its parts.
fn split(place: &str) -> (Option<&str>, Option<u64>) {
    let (file, line) = place.rsplit_once(':').and_then(|(file, line)| Some((file, Some(line.parse().ok()?)))).unwrap_or((place, None));
    (Some(file), line)
}

/// docs/doctor.md.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(HEAD);
    for severity in Severity::ALL {
        let _ = write!(out, "\n## {}{}\n", severity.name().get(..1).unwrap_or("").to_uppercase(), severity.name().get(1..).unwrap_or(""));
        for check in checks().filter(|check| check.severity == severity) {
            out.push_str(&row(check));
        }
    }
    out
}

fn row(check: &Check) -> String {
    let refuses = if check.refuses { " Sessions are refused: exit 78." } else { "" };
    let fix = if check.fix.is_some() { "\n\n`--fix` does it." } else { "" };
    format!(
        "\n### {}\n\n{}{}.{refuses}\n\nWhat comes of it: {}.\n\nMend: {}.{fix}\n",
        check.id,
        check.title.get(..1).unwrap_or("").to_uppercase(),
        check.title.get(1..).unwrap_or(""),
        check.attack,
        check.mend
    )
}

const HEAD: &str = "# What `rex doctor` finds

<!-- Derived from the table of checks; `REX_BLESS=1 cargo test --test derived` writes it anew. -->

`rex doctor` looks at this host as it is: what sshd says of each account that can reach rex (`sshd -T -C`), its keys, shell, home and password, PAM, rex's own files, the places of
the records, the kernel. It changes nothing but one record `note` in each place of records, to see that it is taken; without root it leaves that out too.

```sh
rex doctor                     # every account that can reach rex, as root
rex doctor alice               # one account, also one that should reach rex and does not
rex doctor --json              # for a monitor
rex doctor --all               # what is in order, too
rex doctor --fix               # mends what is safe to mend, shows each change, keeps what was there
```

An account can reach rex by a `ForceCommand` of its group, by a key with rex's `command=`, by rexsh as its login shell, or by being in the group `rexusers`. Those of a directory (LDAP, sssd) are
found where a group in /etc/group lists them; name the others. For each account sshd is asked about a connection from the internet, and about one for each Match block that tells connections apart.
A certificate's own forced command is the authority's business and cannot be seen here.

`--config FILE` judges another rex.toml; without it the one in /etc/rex, and each that an owner's line names. `--sshd-config FILE` judges another configuration of sshd.

| exit | meaning |
|---|---|
| 0 | nothing of medium or above, and everything was judged |
| 1 | findings of medium or above |
| 78 | sessions would be refused; or nothing of medium or above was found, but some checks could not be judged (not root, sshd does not answer) |

Whoever is not root is told what could not be judged; it never counts as in order.

`--json` is one document, schema `rex.doctor/1`; fields and checks may be added without a new version:

| field | what |
|---|---|
| `exit`, `host`, `time`, `rex`, `privileged` | the exit code; where, when, with which version; whether root asked |
| `sshd` | `version`, `package`; null: there is none |
| `kernel` | `release`, `landlock` (its version or null), `seccomp` |
| `accounts` | the accounts that were judged |
| `counts` | findings by severity |
| `findings` | by severity, then in the order of this page's table, then by account: `id`, `severity`, `account`, `title`, `detail`, `file`, `line`, `attack`, `mend`, `refuses`, `fixable` |
| `not_judged` | `id`, `account`, `why` |
| `ok` | ids of the checks that found nothing |
| `fixed` | what `--fix` did, a line each |

`--fix` touches rex's own folders and files (owner root, no writing for others), the folders in /run/rex, the folder of the file of records, and `user_readenv` of pam_env. It shows each change as a difference or
a line, and keeps a changed file beside it as `FILE.rex-saved`. It never touches sshd, its configuration, accounts or homes.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_split_where_a_line_follows() {
        assert_eq!(split("/a:3"), (Some("/a"), Some(3)));
        assert_eq!(split("/a:b"), (Some("/a:b"), None));
        assert_eq!(split("/a"), (Some("/a"), None));
    }
}
