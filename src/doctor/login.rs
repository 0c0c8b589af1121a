//! What happens at a login besides rex: shells and their start-up files, homes, passwords, PAM, groups that are as good as root.

use super::Severity::{Critical, High, Info, Low, Medium};
use super::survey::{Subject, Survey, open_to_others, with_hint};
use super::{Check, Notes, mend};
use crate::host::accounts::Password;
use crate::os::facts::{self, Facts};
use std::path::{Path, PathBuf};

pub(super) const CHECKS: &[Check] = &[
    Check::host(
        "nobody",
        Info,
        [
            "no account reaches rex",
            "nobody is judged; `rex doctor NAME` judges an account that is to reach it",
            "docs/operations.md, Accounts and sshd",
        ],
        nobody,
    ),
    Check::host(
        "unknown-account",
        High,
        ["there is no such account", "it was not judged", "rex doctor, with a login name of this host"],
        unknown,
    ),
    Check::host(
        "accounts-elsewhere",
        Info,
        [
            "this host knows accounts from a directory too",
            "those that no group of /etc/group lists are not found by themselves",
            "rex doctor NAME, for each of them",
        ],
        elsewhere,
    ),
    Check::account(
        "shell-missing",
        High,
        ["the login shell is not there", "sshd refuses every login of the account", "usermod --shell /bin/sh ACCOUNT"],
        shell_missing,
    )
    .refuses(),
    Check::account(
        "shell-nologin",
        High,
        [
            "the login shell runs nothing",
            "sshd starts the forced command through it, so every session ends with `This account is currently not available`",
            "usermod --shell /bin/sh ACCOUNT",
        ],
        shell_nologin,
    )
    .refuses(),
    Check::account(
        "shell-startup",
        High,
        [
            "the login shell reads start-up files of a home that others than root can write",
            "whoever can write there runs any program in front of rex at the next login",
            "usermod --shell /bin/sh ACCOUNT, and chown root:root HOME",
        ],
        shell_startup,
    ),
    Check::account(
        "shell-not-sh",
        Low,
        [
            "the login shell is not a plain sh",
            "it reads start-up files in front of rex; the home is root's now, so they cannot be made",
            "usermod --shell /bin/sh ACCOUNT",
        ],
        shell_not_sh,
    ),
    Check::account(
        "shell-unlisted",
        Medium,
        [
            "the login shell is not in /etc/shells, and PAM asks for that",
            "pam_shells refuses every login of the account",
            "echo SHELL >>/etc/shells",
        ],
        shell_unlisted,
    ),
    Check::account(
        "home-writable",
        Medium,
        [
            "the home, or a folder above it, can be written by others than root",
            "a file in it decides the next login (.ssh, .pam_environment, start-up files): whoever writes it owns the account",
            "chown root:root HOME && chmod 755 HOME",
        ],
        home_writable,
    ),
    Check::account(
        "home-startup-files",
        Medium,
        [
            "a file that decides the next login is not root's",
            "runs what it says at the next login, where the shell, PAM or sshd reads it",
            "rm FILE",
        ],
        startup_files,
    ),
    Check::account(
        "home-missing",
        Low,
        ["the home is not there", "sessions begin in / with a warning on standard error", "install -d -m 755 HOME"],
        home_missing,
    ),
    Check::account(
        "password-set",
        Medium,
        [
            "the account has a password",
            "it opens su, a console, or sshd itself where that takes passwords",
            "usermod --password '*' ACCOUNT",
        ],
        password_set,
    ),
    Check::account(
        "password-empty",
        Critical,
        [
            "the account has an empty password",
            "anybody is that account, by su or at a console, and by sshd where PermitEmptyPasswords is set",
            "usermod --password '*' ACCOUNT",
        ],
        password_empty,
    ),
    Check::account(
        "password-locked",
        High,
        ["the account is locked, and sshd decides without PAM", "sshd refuses every login, keys too", "usermod --password '*' ACCOUNT"],
        password_locked,
    )
    .refuses(),
    Check::account(
        "password-expired",
        High,
        [
            "the password has expired",
            "sshd ends the session, or runs passwd in place of rex on a terminal",
            "chage --maxdays -1 --lastday -1 ACCOUNT",
        ],
        password_expired,
    )
    .refuses(),
    Check::account(
        "account-expired",
        High,
        ["the account has expired", "every login is refused", "chage --expiredate -1 ACCOUNT"],
        account_expired,
    )
    .refuses(),
    Check::account(
        "alias-uid",
        Low,
        [
            "there are several login names of this uid",
            "they are one account to the kernel; with `identity = [\"user\"]` all of them are the first",
            "userdel the names that are not needed",
        ],
        alias_uid,
    ),
    Check::account(
        "strong-groups",
        Medium,
        [
            "the account is in a group that is as good as root",
            "what a fault of rex gives away is all that this group may do",
            "gpasswd --delete ACCOUNT GROUP",
        ],
        strong_groups,
    ),
    Check::account(
        "own-jobs",
        Low,
        [
            "the account has jobs of its own (crontab)",
            "they run without rex, and whoever once wrote them still acts",
            "crontab -r -u ACCOUNT",
        ],
        own_jobs,
    ),
    Check::host(
        "pam-user-environment",
        High,
        [
            "PAM lets ~/.pam_environment set any variable",
            "loads code into the shell in front of rex (LD_PRELOAD), or moves HOME, whatever PermitUserEnvironment says",
            "write user_readenv=0 in the line of pam_env.so",
        ],
        pam_environment,
    )
    .fixed_by(mend::pam_environment),
    Check::host(
        "environment-files",
        Medium,
        [
            "a file of PAM's environment sets a variable that changes what runs, or is not root's alone",
            "the shell in front of rex starts with it",
            "take the line out, chown root:root and chmod 644",
        ],
        environment_files,
    ),
];

fn nobody(survey: &Survey, notes: &mut Notes) {
    if survey.subjects.is_empty() && survey.nobody.is_empty() {
        notes.found("no group with a ForceCommand of rex, no key with its command, no rexsh as shell");
    }
    if survey.more > 0 {
        notes.blind(format!("{} more accounts reach rex than are judged in one go; name them", survey.more));
    }
}

fn unknown(survey: &Survey, notes: &mut Notes) {
    for name in &survey.nobody {
        notes.found(format!("`{name}`"));
    }
}

fn elsewhere(survey: &Survey, notes: &mut Notes) {
    if survey.accounts.others_exist() {
        notes.found("/etc/nsswitch.conf names other sources").at("/etc/nsswitch.conf");
    }
}

/// The shell, as its links lead.
fn real_shell(subject: &Subject) -> PathBuf {
    // An empty field is /bin/sh (passwd(5)).
    let shell = if subject.user.shell.as_os_str().is_empty() { Path::new("/bin/sh") } else { &subject.user.shell };
    crate::os::trusted::real_path(shell.to_path_buf())
}

fn shell_name(subject: &Subject) -> String {
    real_shell(subject).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn shell_missing(_: &Survey, subject: &Subject, notes: &mut Notes) {
    let shell = real_shell(subject);
    match facts::of(&shell) {
        Ok(Some(facts)) if facts.is_file() && facts.mode & 0o111 != 0 => {}
        Ok(_) => {
            notes.found(format!("{} is no program", shell.display())).at(place(subject));
        }
        Err(error) => notes.blind(with_hint(&error)),
    }
}

fn place(subject: &Subject) -> String {
    format!("/etc/passwd ({})", subject.user.name)
}

const NOTHING: &[&str] = &["nologin", "false", "true", "sync", "git-shell", "rssh"];

fn shell_nologin(_: &Survey, subject: &Subject, notes: &mut Notes) {
    // An account that runs a service (rex.service) is in the group for its folders, and is to have no login.
    let service = !subject.key_files.is_empty() && super::gate::nobody_logs_in(subject);
    if !service && NOTHING.contains(&shell_name(subject).as_str()) {
        notes.found(subject.user.shell.display().to_string()).at(place(subject));
    }
}

/// Shells that read no file of the user in front of `-c` (dash(1), busybox).
const PLAIN: &[&str] = &["sh", "dash", "busybox", "rex", "rexsh"];

fn is_plain(subject: &Subject) -> bool {
    let name = shell_name(subject);
    PLAIN.contains(&name.as_str()) || NOTHING.contains(&name.as_str()) || subject.shell_is_rex()
}

/// Who can write the home: None, nobody but root.
fn open_home(subject: &Subject, notes: &mut Notes) -> Option<(PathBuf, String)> {
    // Root's own home is root's.
    match open_to_others(&subject.user.home) {
        Ok(open) => open,
        Err(error) => {
            notes.blind(with_hint(&error));
            None
        }
    }
}

fn shell_startup(_: &Survey, subject: &Subject, notes: &mut Notes) {
    if is_plain(subject) {
        return;
    }
    if let Some((what, why)) = open_home(subject, notes) {
        notes.found(format!("{}, and {}: {why}", subject.user.shell.display(), what.display())).at(place(subject));
    } else if let Some((file, _)) = startup(subject).into_iter().next() {
        notes.found(format!("{}, and {} is not root's", subject.user.shell.display(), file.display())).at(place(subject));
    }
}

fn shell_not_sh(_: &Survey, subject: &Subject, notes: &mut Notes) {
    if !is_plain(subject) && open_home(subject, notes).is_none() && startup(subject).is_empty() {
        notes.found(subject.user.shell.display().to_string()).at(place(subject));
    }
}

fn shell_unlisted(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    let asked = survey.uses_pam() && survey.pam.as_ref().is_some_and(|stack| stack.of("pam_shells").next().is_some());
    if asked && !survey.accounts.is_listed_shell(&subject.user.shell) {
        notes.found(subject.user.shell.display().to_string()).at("/etc/shells");
    }
}

fn home_writable(_: &Survey, subject: &Subject, notes: &mut Notes) {
    if subject.user.uid == 0 {
        return;
    }
    if let Some((what, why)) = open_home(subject, notes) {
        let home = subject.user.home.display();
        let mend = format!("chown root:root {home} && chmod 755 {home}");
        notes.found(format!("{}: {why}", what.display())).at(home.to_string()).mend(mend);
    }
}

/// Files in a home that decide what the next login runs.
const STARTUP: &[&str] = &[
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".bash_aliases",
    ".profile",
    ".zshenv",
    ".zshrc",
    ".zprofile",
    ".cshrc",
    ".tcshrc",
    ".login",
    ".kshrc",
    ".mkshrc",
    ".config/fish/config.fish",
    ".pam_environment",
    ".ssh/rc",
    ".ssh/environment",
    ".forward",
    ".config/systemd/user",
];

/// Those that are there and not root's alone.
fn startup(subject: &Subject) -> Vec<(PathBuf, Facts)> {
    let others = |facts: &Facts| facts.uid != 0 || facts.mode & 0o022 != 0;
    let at = |name: &&str| {
        let path = subject.user.home.join(name);
        let facts = facts::of(&path).ok().flatten()?;
        others(&facts).then_some((path, facts))
    };
    STARTUP.iter().filter_map(at).collect()
}

fn startup_files(_: &Survey, subject: &Subject, notes: &mut Notes) {
    for (path, facts) in startup(subject) {
        let mend = format!("rm {}", path.display());
        notes.found(format!("owner {}, mode {:04o}", facts.uid, facts.mode)).at(path.display().to_string()).mend(mend);
    }
}

fn home_missing(_: &Survey, subject: &Subject, notes: &mut Notes) {
    if facts::of(&subject.user.home).is_ok_and(|facts| facts.is_none_or(|facts| !facts.is_folder())) {
        let home = subject.user.home.display().to_string();
        notes.found(home.clone()).at(place(subject)).mend(format!("install -d -m 755 {home}"));
    }
}

/// What shadow(5) says, or a word that it was not readable.
fn password(survey: &Survey, subject: &Subject, notes: &mut Notes) -> Password {
    let password = survey.accounts.password(&subject.user.name);
    if password == Password::Unknown && !survey.accounts.knows_passwords() {
        notes.blind("/etc/shadow is readable for root alone");
    }
    password
}

fn password_set(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if subject.user.uid != 0 && password(survey, subject, notes) == Password::Set {
        notes.found("some password fits").at(format!("/etc/shadow ({})", subject.user.name));
    }
}

fn password_empty(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if password(survey, subject, notes) == Password::Empty {
        notes.found("no password is asked for").at(format!("/etc/shadow ({})", subject.user.name));
    }
}

fn password_locked(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if password(survey, subject, notes) == Password::Locked && !survey.uses_pam() {
        notes.found("the password field begins with `!`, and UsePAM is no").at(format!("/etc/shadow ({})", subject.user.name));
    }
}

fn password_expired(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    password(survey, subject, notes);
    if survey.accounts.ageing(&subject.user.name).is_some_and(|ageing| ageing.password_expired(survey.today)) {
        notes.found("it must be changed at the next login").at(format!("/etc/shadow ({})", subject.user.name));
    }
}

fn account_expired(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    password(survey, subject, notes);
    if survey.accounts.ageing(&subject.user.name).is_some_and(|ageing| ageing.account_expired(survey.today)) {
        notes.found("its last day is over").at(format!("/etc/shadow ({})", subject.user.name));
    }
}

fn alias_uid(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    let names: Vec<&str> = survey.accounts.aliases(subject.user.uid).iter().map(|user| user.name.as_str()).collect();
    if names.len() > 1 {
        notes.found(format!("uid {}: {}", subject.user.uid, names.join(", "))).at(place(subject));
    }
}

/// Groups whose members become root, or read and write what root can.
const STRONG: &[&str] = &["root", "sudo", "wheel", "admin", "docker", "podman", "lxd", "incus-admin", "libvirt", "disk", "shadow", "kmem"];

fn strong_groups(_: &Survey, subject: &Subject, notes: &mut Notes) {
    if subject.user.uid == 0 {
        return;
    }
    for group in subject.groups.iter().filter(|group| STRONG.contains(&group.as_str())) {
        notes.found(format!("`{group}`")).at("/etc/group").mend(format!("gpasswd --delete {} {group}", subject.user.name));
    }
}

const CRONTABS: &[&str] = &["/var/spool/cron/crontabs", "/var/spool/cron"];

fn own_jobs(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if subject.user.uid == 0 {
        return;
    }
    if !survey.root {
        notes.blind("crontabs are readable for root alone");
        return;
    }
    for folder in CRONTABS {
        let path = Path::new(folder).join(&subject.user.name);
        if facts::of(&path).is_ok_and(|facts| facts.is_some_and(|facts| facts.is_file())) {
            notes.found("it is there").at(path.display().to_string());
        }
    }
}

fn pam_environment(survey: &Survey, notes: &mut Notes) {
    if survey.sshd.is_none() || !survey.uses_pam() {
        return;
    }
    match &survey.pam {
        Some(stack) => {
            for line in stack.user_environment() {
                notes.found(format!("{} {}", line.module, line.arguments.join(" "))).at(line.place());
            }
        }
        None => notes.blind("PAM's stack for sshd cannot be read"),
    }
}

/// What pam_env reads where nothing else is said (pam_env(8)).
const ENVIRONMENT: &[&str] = &["/etc/environment", "/etc/default/locale", "/etc/security/pam_env.conf"];
const CHANGES: &[&str] = &["LD_", "BASH_ENV", "ENV", "GLIBC_TUNABLES", "SHELLOPTS", "IFS", "HOME", "SSH_"];

fn environment_files(survey: &Survey, notes: &mut Notes) {
    if survey.sshd.is_none() || !survey.uses_pam() {
        return;
    }
    for file in ENVIRONMENT {
        let path = Path::new(file);
        let text = match facts::text(path, 1 << 18) {
            Ok(Some(text)) => text,
            Ok(None) => continue,
            Err(error) => {
                notes.blind(with_hint(&error));
                continue;
            }
        };
        if let Ok(Some((what, why))) = open_to_others(path) {
            notes.found(format!("{}: {why}", what.display())).at(*file);
        }
        for (at, line) in text.lines().enumerate() {
            let line = line.trim().trim_start_matches("export ");
            let name = line.split(['=', ' ', '\t']).next().unwrap_or("");
            let changes = CHANGES.iter().any(|known| if known.ends_with('_') { name.starts_with(known) } else { name == *known });
            let relative = name == "PATH"
                && line.split_once('=').is_some_and(|(_, value)| {
                    value
                        .trim_matches(['"', '\''])
                        .split(':')
                        .any(|folder| !folder.starts_with('/') && !folder.starts_with('$') && !folder.starts_with('@'))
                });
            if !line.starts_with('#') && (changes || relative) {
                notes.found(format!("`{line}`")).at(format!("{file}:{}", at + 1));
            }
        }
    }
}
