//! sshd itself: whether its configuration is valid, known holes of its version, what a forced command does not stop, the environment that it lets through.

use super::Severity::{High, Info, Low, Medium};
use super::gate::known;
use super::survey::{Subject, Survey, with_hint};
use super::{Check, Line, Notes};
use crate::config::Evidence;
use crate::host::sshd::{Effective, Version};
use crate::os::facts;
use std::path::Path;

pub(super) const HOST: &[Check] = &[
    Check::host(
        "sshd-missing",
        Info,
        [
            "there is no sshd on this host",
            "only `rex serve` and local runs are there to be judged",
            "on Debian: apt-get install openssh-server",
        ],
        missing,
    ),
    Check::host(
        "sshd-config-invalid",
        High,
        [
            "sshd refuses its configuration",
            "the next restart locks everybody out, and what holds for an account cannot be judged",
            "sshd -t, and correct the line that it names",
        ],
        invalid,
    ),
    Check::host(
        "sshd-other-config",
        Medium,
        [
            "a daemon was started with other options than those that were judged",
            "what was judged here is not what that daemon does",
            "rex doctor --sshd-config FILE, or start sshd without -f and -o",
        ],
        other_config,
    ),
    Check::host(
        "sshd-old",
        Medium,
        [
            "sshd is older than 9.0",
            "it has known holes, and lacks switches that the hardened block sets",
            "update the package openssh-server",
        ],
        old,
    ),
    Check::host(
        "sshd-known-hole",
        High,
        ["this version of sshd has a hole that matters here", "see the identifier in the finding", "update the package openssh-server"],
        known_holes,
    ),
    Check::host(
        "principals-command-ignored",
        High,
        [
            "sshd ignores AuthorizedPrincipalsCommand",
            "before OpenSSH 9.4 it is dropped when it stands behind AuthorizedKeysCommand: certificates are then judged without it",
            "put AuthorizedPrincipalsCommand before AuthorizedKeysCommand",
        ],
        principals_command,
    ),
    Check::host(
        "subsystem-options",
        Medium,
        [
            "the Subsystem line of rex has options",
            "under a forced command that line arrives as the request, which is refused",
            "Subsystem rex /usr/bin/rex session --subsystem",
        ],
        subsystem_options,
    ),
    Check::host(
        "user-environment",
        High,
        [
            "PermitUserEnvironment lets keys and homes set variables",
            "loads code into the shell in front of rex (LD_PRELOAD), or moves PATH",
            "PermitUserEnvironment no, in the global section",
        ],
        user_environment,
    ),
    Check::host(
        "sshrc",
        Low,
        [
            "/etc/ssh/sshrc runs in front of every session",
            "what it prints comes before rex's answer, and a program that reads that is confused",
            "rm /etc/ssh/sshrc",
        ],
        sshrc,
    ),
];

pub(super) const CHECKS: &[Check] = &[
    Check::account(
        "forward-tcp",
        High,
        [
            "TCP forwarding is allowed",
            "`ssh -N -L` reaches every port that the host reaches, without a command and so without rex",
            "in the Match block: AllowTcpForwarding no",
        ],
        forward_tcp,
    ),
    Check::account(
        "forward-unix",
        High,
        [
            "forwarding of Unix sockets is allowed",
            "`ssh -N -L x:/run/docker.sock` speaks to every socket that the account may open",
            "in the Match block: AllowStreamLocalForwarding no",
        ],
        forward_unix,
    ),
    Check::account(
        "forward-agent",
        Medium,
        [
            "agent forwarding is allowed",
            "processes of the same uid use the keys of whoever logs in",
            "in the Match block: AllowAgentForwarding no",
        ],
        forward_agent,
    ),
    Check::account(
        "forward-x11",
        Medium,
        [
            "X11 forwarding is allowed",
            "opens the display of whoever logs in to processes of the same uid, and runs xauth before rex",
            "in the Match block: X11Forwarding no",
        ],
        forward_x11,
    ),
    Check::account(
        "forward-tunnel",
        High,
        ["tunnels are allowed", "`ssh -w` joins the networks of client and host", "in the Match block: PermitTunnel no"],
        forward_tunnel,
    ),
    Check::account(
        "forward-switches",
        Low,
        [
            "forwarding is held by one switch alone",
            "DisableForwarding and `restrict` have had gaps (X11, agent, tun); with each switch set, such a gap opens nothing",
            "in the Match block: DisableForwarding yes, AllowTcpForwarding no, AllowStreamLocalForwarding no, AllowAgentForwarding no, X11Forwarding no, PermitTunnel no",
        ],
        switches,
    ),
    Check::account(
        "permit-tty",
        Medium,
        [
            "terminals are allowed",
            "sends control characters where a terminal makes keys of them; a script on a terminal never ends",
            "in the Match block: PermitTTY no",
        ],
        tty,
    ),
    Check::account(
        "user-rc",
        High,
        [
            "~/.ssh/rc runs before the forced command of a key",
            "whoever can write that file runs any program at the next login",
            "put `restrict` before the key, or PermitUserRC no",
        ],
        user_rc,
    ),
    Check::account(
        "user-rc-permitted",
        Low,
        ["PermitUserRC is on", "~/.ssh/rc is held back by the ForceCommand alone", "PermitUserRC no"],
        user_rc_permitted,
    ),
    Check::account(
        "accept-env",
        High,
        [
            "clients may send variables that change what runs",
            "has the shell in front of rex load a library or a script of theirs, or forges what sshd tells of the login",
            "in the Match block: AcceptEnv LC_REX_AGENT LC_REX_TASK",
        ],
        accept_env,
    ),
    Check::account(
        "accept-env-patterns",
        Low,
        [
            "clients may send whole families of variables",
            "LC_ALL and the like reach the shell in front of rex",
            "in the Match block: AcceptEnv LC_REX_AGENT LC_REX_TASK",
        ],
        accept_patterns,
    ),
    Check::account(
        "set-env",
        Low,
        [
            "variables that change what runs are not emptied",
            "what PAM or a file in the home sets reaches the shell in front of rex",
            "in the Match block: SetEnv PATH=/usr/bin:/bin LD_PRELOAD= LD_LIBRARY_PATH= BASH_ENV= ENV=",
        ],
        set_env,
    ),
    Check::account(
        "expose-auth-info",
        High,
        [
            "`identity` lists `auth-info`, and sshd does not tell of the key",
            "with `auth-info` alone every session is refused (exit 77); with more kinds the next one decides for everybody",
            "in the Match block: ExposeAuthInfo yes",
        ],
        expose,
    ),
    Check::account(
        "max-sessions",
        Medium,
        [
            "several sessions on one connection, with `auth-info`",
            "sessions of one connection share sshd's account of the key: a process of the first changes what the second is taken for",
            "in the Match block: MaxSessions 1",
        ],
        max_sessions,
    ),
    Check::account(
        "client-alive",
        Low,
        [
            "a client that vanished is not noticed",
            "its session goes on until rex's own limits end it",
            "in the Match block: ClientAliveInterval 15",
        ],
        client_alive,
    ),
    Check::account(
        "strict-modes",
        Medium,
        ["StrictModes is off", "sshd believes key files that others can write", "StrictModes yes"],
        strict_modes,
    ),
    Check::account(
        "chroot",
        Info,
        [
            "this account has a root of its own",
            "rex, /bin/sh, rex's files and /tmp must be inside, else nothing runs; what is outside cannot be judged for it",
            "take ChrootDirectory out, or put all of them inside",
        ],
        chroot,
    ),
];

fn place(survey: &Survey, notes: &mut Notes, keyword: &str, detail: String) {
    let found = notes.found(detail);
    if let Some(place) = survey.place(keyword) {
        found.at(place);
    }
}

fn missing(survey: &Survey, notes: &mut Notes) {
    if survey.sshd.is_none() {
        notes.found("no sshd in /usr/sbin, /usr/bin or /usr/local/sbin");
    }
}

/// sshd reads its host keys first, which only root can.
fn may_ask(survey: &Survey, notes: &mut Notes) -> bool {
    if !survey.root && survey.sshd.is_some() {
        notes.blind("sshd answers only root");
    }
    survey.root && survey.sshd.is_some()
}

fn invalid(survey: &Survey, notes: &mut Notes) {
    if !may_ask(survey, notes) {
        return;
    }
    if let (Err(error), Some(sshd)) = (&survey.valid, &survey.sshd) {
        let found = notes.found(error.message.clone());
        found.at(sshd.config.display().to_string());
        if let Some(hint) = &error.hint {
            found.mend(hint.clone());
        }
    }
    for error in &survey.text.unread {
        notes.blind(with_hint(error));
    }
}

fn other_config(survey: &Survey, notes: &mut Notes) {
    let Some(sshd) = survey.sshd.as_ref().filter(|_| !survey.sshd_named) else { return };
    for daemon in sshd.daemons() {
        let other = daemon
            .words
            .iter()
            .skip(1)
            .zip(daemon.words.iter().skip(2))
            .find(|(option, value)| option.as_str() == "-o" || option.as_str() == "-f" && Path::new(value) != sshd.config);
        if let Some((option, value)) = other {
            notes.found(format!("process {}: {option} {value}", daemon.pid)).mend(match option.as_str() {
                "-f" => format!("rex doctor --sshd-config {value}"),
                _ => "put the option into sshd_config, and start sshd without it".to_owned(),
            });
        }
    }
}

fn old(survey: &Survey, notes: &mut Notes) {
    match &survey.version {
        Some(version) if version.is_before(9, 0) => {
            notes.found(version.text.clone());
        }
        None if survey.sshd.is_some() => notes.blind("sshd does not say its version"),
        _ => {}
    }
}

/// A hole of sshd: since, until (the first version without it), the first updates of Debian releases without it.
struct Hole {
    id: &'static str,
    since: (u32, u32),
    until: (u32, u32),
    debian: &'static [(&'static str, u32)],
    what: &'static str,
    matters: fn(&Survey) -> bool,
}

const HOLES: &[Hole] = &[
    Hole {
        id: "CVE-2024-6387",
        since: (8, 5),
        until: (9, 8),
        debian: &[("12", 3)],
        what: "somebody who has no key may run code as root",
        matters: |_| true,
    },
    Hole {
        id: "CVE-2025-32728",
        since: (7, 4),
        until: (10, 0),
        debian: &[("12", 6)],
        what: "DisableForwarding leaves X11 and agent forwarding on",
        matters: |survey| {
            effectives(survey).any(|effective| {
                effective.is("disableforwarding", "yes")
                    && (effective.is("x11forwarding", "yes") || effective.is("allowagentforwarding", "yes"))
            })
        },
    },
    Hole {
        id: "CVE-2026-35414",
        since: (1, 0),
        until: (10, 3),
        debian: &[("12", 10)],
        what: "a comma in the name of a certificate's principal is taken for two names",
        matters: |survey| {
            effectives(survey).any(|effective| !effective.is("trustedusercakeys", "none"))
                || survey.subjects.iter().flat_map(Subject::key_lines).any(|line| line.has("cert-authority"))
        },
    },
];

fn effectives(survey: &Survey) -> impl Iterator<Item = &Effective> {
    survey.subjects.iter().flat_map(|subject| subject.ways.iter().map(|(_, effective)| effective))
}

/// Whether a version has a hole; None: its distribution may have mended it.
fn has(hole: &Hole, version: &Version) -> Option<bool> {
    if version.is_before(hole.since.0, hole.since.1) || !version.is_before(hole.until.0, hole.until.1) {
        return Some(false);
    }
    match (&version.package, version.debian_update()) {
        (_, Some((release, update))) => hole.debian.iter().find(|(known, _)| *known == release).map(|(_, first)| update < *first),
        // Built on the host, or a package without a word of updates.
        (None, None) => Some(true),
        (Some(_), None) => None,
    }
}

fn known_holes(survey: &Survey, notes: &mut Notes) {
    let Some(version) = &survey.version else {
        if survey.sshd.is_some() {
            notes.blind("sshd does not say its version");
        }
        return;
    };
    for hole in HOLES.iter().filter(|hole| (hole.matters)(survey)) {
        let package = version.package.as_deref().unwrap_or("no package");
        match has(hole, version) {
            Some(true) => {
                notes.found(format!("{} ({}, {package}): {}", hole.id, version.text, hole.what));
            }
            Some(false) => {}
            None => notes.blind(format!("{}: only the distribution knows whether {package} has the mend", hole.id)),
        }
    }
}

fn principals_command(survey: &Survey, notes: &mut Notes) {
    let wanted: Vec<_> = survey.text.of("authorizedprincipalscommand").filter(|line| line.is_global() && line.rest != "none").collect();
    let Some(line) = wanted.first() else { return };
    match survey.subjects.iter().find_map(Subject::effective) {
        Some(effective) if effective.is("authorizedprincipalscommand", "none") => {
            notes.found(format!("`{}` is set, and not in force", line.rest)).at(line.place());
        }
        Some(_) => {}
        None => notes.blind("sshd gave no answer about any account"),
    }
}

fn subsystem_options(survey: &Survey, notes: &mut Notes) {
    for line in survey.text.of("subsystem") {
        let command = line.words.iter().skip(1).cloned().collect::<Vec<_>>().join(" ");
        if Line::parse(&command).is_some_and(|command| command.has_options()) {
            notes.found(format!("`{command}`")).at(line.place());
        }
    }
}

fn user_environment(survey: &Survey, notes: &mut Notes) {
    if !may_ask(survey, notes) {
        return;
    }
    match effectives(survey).next() {
        Some(effective) => {
            if !effective.is("permituserenvironment", "no") {
                let value = effective.get("permituserenvironment").unwrap_or("");
                place(survey, notes, "permituserenvironment", format!("PermitUserEnvironment is {value}"));
            }
        }
        None => {
            for line in survey.text.of("permituserenvironment").filter(|line| line.rest != "no") {
                notes.found(format!("PermitUserEnvironment is {}", line.rest)).at(line.place());
            }
        }
    }
}

fn sshrc(survey: &Survey, notes: &mut Notes) {
    if survey.sshd.is_some() && facts::of(Path::new("/etc/ssh/sshrc")).is_ok_and(|facts| facts.is_some()) {
        notes.found("it is there").at("/etc/ssh/sshrc");
    }
}

/// Forwarding of one kind: whether sshd_config lets it through, and each line of keys that does not stop it.
fn forward(
    survey: &Survey,
    subject: &Subject,
    notes: &mut Notes,
    [keyword, of_key]: [&str; 2],
    covered: fn(&Version) -> bool,
    closed: impl Fn(&Effective) -> bool,
) {
    if !known(subject, notes) {
        return;
    }
    let disabled = |effective: &Effective| effective.is("disableforwarding", "yes") && survey.version.as_ref().is_some_and(covered);
    let open = subject.ways.iter().find(|(_, effective)| {
        let value = effective.get(keyword).unwrap_or("no");
        !value.eq_ignore_ascii_case("no") && !disabled(effective) && !closed(effective)
    });
    let Some((_, effective)) = open else { return };
    let value = effective.get(keyword).unwrap_or("");
    let said = format!("{keyword} is {value}");
    // What leads to rex by keys alone: the line can close it. Every key of an account that is forced by sshd_config counts.
    let mut lines: Vec<String> =
        subject.key_lines().filter(|line| line.leaves_open(of_key)).map(crate::host::keys::KeyLine::place).collect();
    let by_keys_alone = !subject.is_gated();
    if by_keys_alone && lines.is_empty() && subject.key_lines().next().is_some() {
        return;
    }
    if by_keys_alone && !lines.is_empty() {
        lines.truncate(5);
        for line in lines {
            notes
                .found(format!("{said}, and this line does not close it"))
                .at(line)
                .mend(format!("put `restrict` before the key, or {keyword} no"));
        }
    } else {
        place(survey, notes, keyword, said);
    }
}

/// PermitOpen and PermitListen with `none` close both directions.
fn forward_tcp(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    let closed = |effective: &Effective| effective.is("permitopen", "none") && effective.is("permitlisten", "none");
    forward(survey, subject, notes, ["allowtcpforwarding", "port-forwarding"], |_| true, closed);
}
/// Two switches of TCP close the way to sockets of this host, too, where that was seen: 9.2, whose channels know one permission for both.
fn forward_unix(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    let seen = survey.version.as_ref().is_some_and(|version| version.is_before(9, 3));
    let closed = |effective: &Effective| {
        seen && (effective.is("permitopen", "none") || ["no", "remote"].iter().any(|value| effective.is("allowtcpforwarding", value)))
    };
    forward(survey, subject, notes, ["allowstreamlocalforwarding", "port-forwarding"], |_| true, closed);
}
/// DisableForwarding stops agent and X11 from 10.0 on, and in Debian 12 from its sixth update on (CVE-2025-32728).
fn disables_all(version: &Version) -> bool {
    !version.is_before(10, 0) || version.debian_update().is_some_and(|(release, update)| release == "12" && update >= 6)
}
fn forward_agent(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    forward(survey, subject, notes, ["allowagentforwarding", "agent-forwarding"], disables_all, |_| false);
}
fn forward_x11(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    forward(survey, subject, notes, ["x11forwarding", "x11-forwarding"], disables_all, |_| false);
}
/// Neither DisableForwarding (before 10.4) nor `restrict` (before 10.5) stops tunnels.
fn forward_tunnel(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    let covers = |effective: &Effective| {
        effective.is("disableforwarding", "yes") && survey.version.as_ref().is_some_and(|version| !version.is_before(10, 4))
    };
    if let Some((_, effective)) = subject.ways.iter().find(|(_, effective)| !effective.is("permittunnel", "no") && !covers(effective)) {
        place(survey, notes, "permittunnel", format!("permittunnel is {}", effective.get("permittunnel").unwrap_or("")));
    }
}

fn switches(_: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    let Some(effective) = subject.effective() else { return };
    let mut on: Vec<&str> = ["allowtcpforwarding", "allowstreamlocalforwarding", "allowagentforwarding", "x11forwarding", "permittunnel"]
        .into_iter()
        .filter(|keyword| !effective.is(keyword, "no"))
        .collect();
    if !effective.is("disableforwarding", "yes") {
        on.push("disableforwarding (off)");
    }
    if !on.is_empty() {
        notes.found(on.join(", "));
    }
}

fn tty(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    let open = subject.ways.iter().any(|(_, effective)| !effective.is("permittty", "no"));
    let closed_by_keys =
        !subject.is_gated() && subject.key_lines().next().is_some() && subject.key_lines().all(|line| !line.leaves_open("pty"));
    if open && !closed_by_keys {
        place(survey, notes, "permittty", "PermitTTY is yes".to_owned());
    }
}

fn user_rc(_: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) || subject.is_forced() {
        return;
    }
    if subject.ways.iter().any(|(_, effective)| !effective.is("permituserrc", "no")) {
        for (line, _) in subject.rex_keys().filter(|(line, _)| line.leaves_open("user-rc")) {
            notes.found("neither `restrict` nor `no-user-rc` stands before the key").at(line.place());
        }
    }
}

fn user_rc_permitted(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) || !subject.is_forced() {
        return;
    }
    if subject.ways.iter().any(|(_, effective)| !effective.is("permituserrc", "no")) {
        place(survey, notes, "permituserrc", "PermitUserRC is yes".to_owned());
    }
}

/// Variables that change which code runs (ld.so(8), sh(1), bash(1)), or that only sshd may set.
const DANGEROUS: &[&str] = &[
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "LD_AUDIT",
    "GLIBC_TUNABLES",
    "BASH_ENV",
    "ENV",
    "PATH",
    "SHELLOPTS",
    "IFS",
    "HOME",
    "SSH_ORIGINAL_COMMAND",
    "SSH_USER_AUTH",
];
/// Those that SetEnv empties in the hardened block.
const EMPTIED: &[&str] = &["PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "ENV"];

fn accept_env(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    for (_, effective) in subject.ways.iter().take(1) {
        let accepted: Vec<&str> = DANGEROUS.iter().copied().filter(|name| effective.accepts(name)).collect();
        if !accepted.is_empty() {
            place(survey, notes, "acceptenv", format!("accepted: {}", accepted.join(", ")));
        }
    }
}

fn accept_patterns(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    if let Some(effective) = subject.effective() {
        let patterns: Vec<&str> =
            effective.words("acceptenv").filter(|word| word.contains(['*', '?']) || *word == "LANG" || *word == "LC_ALL").collect();
        if !patterns.is_empty() {
            place(survey, notes, "acceptenv", patterns.join(" "));
        }
    }
}

fn set_env(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) || subject.shell_is_rex() {
        return;
    }
    if let Some(effective) = subject.effective() {
        let open: Vec<&str> = EMPTIED.iter().copied().filter(|name| effective.set_env(name).is_none()).collect();
        if !open.is_empty() {
            place(survey, notes, "setenv", open.join(", "));
        }
    }
}

fn expose(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !survey.evidence(Evidence::AuthInfo) || !known(subject, notes) {
        return;
    }
    if subject.ways.iter().any(|(_, effective)| !effective.is("exposeauthinfo", "yes")) {
        place(survey, notes, "exposeauthinfo", "ExposeAuthInfo is no".to_owned());
    }
}

fn max_sessions(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !survey.evidence(Evidence::AuthInfo) || !known(subject, notes) {
        return;
    }
    if let Some(most) = subject.effective().and_then(|effective| effective.get("maxsessions")).filter(|most| *most != "1") {
        place(survey, notes, "maxsessions", format!("MaxSessions is {most}"));
    }
}

fn client_alive(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    if subject.effective().is_some_and(|effective| effective.is("clientaliveinterval", "0")) {
        place(survey, notes, "clientaliveinterval", "ClientAliveInterval is 0".to_owned());
    }
}

fn strict_modes(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    if subject.effective().is_some_and(|effective| effective.is("strictmodes", "no")) {
        place(survey, notes, "strictmodes", "StrictModes is no".to_owned());
    }
}

fn chroot(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    if let Some(root) =
        subject.effective().and_then(|effective| effective.get("chrootdirectory")).filter(|root| !root.eq_ignore_ascii_case("none"))
    {
        place(survey, notes, "chrootdirectory", format!("ChrootDirectory is {root}"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn version(major: u32, minor: u32, package: Option<&str>) -> Version {
        Version { major, minor, text: format!("OpenSSH_{major}.{minor}"), package: package.map(str::to_owned) }
    }

    #[test]
    fn holes_are_known_by_version_and_update() {
        let hole = |id: &str| HOLES.iter().find(|hole| hole.id == id).unwrap();
        let regresshion = hole("CVE-2024-6387");
        for (major, minor, package, there) in [
            (9, 2, Some("1:9.2p1-2+deb12u2"), Some(true)),
            (9, 2, Some("1:9.2p1-2+deb12u3"), Some(false)),
            (9, 2, None, Some(true)),
            (9, 8, None, Some(false)),
            (8, 4, Some("1:8.4p1-5+deb11u3"), Some(false)),
            (9, 6, Some("1:9.6p1-3ubuntu13.5"), None),
        ] {
            assert_eq!(has(regresshion, &version(major, minor, package)), there, "{major}.{minor} {package:?}");
        }
        assert_eq!(has(hole("CVE-2026-35414"), &version(9, 2, Some("1:9.2p1-2+deb12u9"))), Some(true));
        assert_eq!(has(hole("CVE-2026-35414"), &version(10, 0, Some("1:10.0p1-7+deb13u1"))), None);
        assert!(disables_all(&version(9, 2, Some("1:9.2p1-2+deb12u6"))) && !disables_all(&version(9, 2, Some("1:9.2p1-2+deb12u5"))));
    }
}
