//! Ways into an account: whether every one of them ends in rex, and whether what the owner's line says can be relied on.

use super::Severity::{Critical, High, Info, Low, Medium};
use super::survey::{Subject, Survey, open_to_others, shown, unreadable, with_hint};
use super::{Check, Line, Notes};
use crate::config::Evidence;
use crate::host::accounts::Password;
use crate::host::keys::KeyLine;
use crate::os::facts;
use std::path::Path;

pub(super) const CHECKS: &[Check] = &[
    Check::account(
        "no-gate",
        Critical,
        [
            "nothing leads this account to rex by force",
            "whoever logs in gets a shell or any program, and no policy is asked; a Subsystem alone is no gate",
            "in sshd_config, under Match Group: ForceCommand exec /usr/bin/rex session",
        ],
        no_gate,
    ),
    Check::account(
        "key-unforced",
        Critical,
        [
            "a key without rex's forced command, beside one that has it",
            "whoever has that key gets a shell as the same account, and can be any principal: `rex session --principal ANYBODY`",
            "put restrict,command=\"exec /usr/bin/rex session --principal NAME\" before the key, or a ForceCommand in sshd_config",
        ],
        key_unforced,
    ),
    Check::account(
        "alias-escapes",
        Critical,
        [
            "a second login name of the same uid is not forced to rex",
            "logs in by the other name, with the same rights and no gate",
            "put both names in the group of the Match block, or remove the second: userdel NAME",
        ],
        alias_escapes,
    ),
    Check::account(
        "force-command-by-connection",
        Critical,
        [
            "only some connections are forced to rex",
            "comes from another address, or to another port, and gets a shell",
            "take Address, Host, LocalAddress and LocalPort out of the Match line",
        ],
        by_connection,
    ),
    Check::account(
        "argument-unsound",
        Critical,
        [
            "`identity` lists `argument`, and this account can be entered without the owner's line",
            "starts `rex session --principal ANYBODY` and is that principal, with all that policies permit to it",
            "force every way into the account, with /bin/sh as its shell, or take `argument` out of `identity` in rex.toml",
        ],
        argument_unsound,
    ),
    Check::account(
        "force-command-match-user",
        High,
        [
            "ForceCommand stands in a Match User block",
            "logs in by a second name of the same uid, which Match User does not fit",
            "use a group: Match Group rexusers",
        ],
        match_user,
    ),
    Check::account(
        "force-command-relative",
        High,
        [
            "the line names rex without an absolute path",
            "whoever can set PATH (PAM, a start-up file) has another program run in its place",
            "ForceCommand exec /usr/bin/rex session",
        ],
        relative,
    ),
    Check::account(
        "force-command-program",
        High,
        [
            "the program of the line is not there, or cannot be started",
            "nothing runs: every session ends with 126 or 127",
            "install -m 755 rex /usr/bin/rex",
        ],
        program,
    )
    .refuses(),
    Check::account(
        "force-command-shell",
        Medium,
        [
            "the shell in front of rex makes something of the line",
            "variables, substitutions and further commands in the line are taken with the account's environment",
            "ForceCommand exec /usr/bin/rex session, without $ ` ; & | and the like",
        ],
        for_the_shell,
    ),
    Check::account(
        "force-command-no-exec",
        Low,
        [
            "the line does not begin with `exec`",
            "the shell stays in between: a killed session looks like exit 137, and signals end the shell instead of rex",
            "ForceCommand exec /usr/bin/rex session",
        ],
        no_exec,
    ),
    Check::account(
        "rexsh-options",
        High,
        [
            "rex is the login shell, and its forced command has options",
            "every session is refused (exit 78), because a client could type the same",
            "usermod --shell /bin/sh ACCOUNT",
        ],
        rexsh_options,
    )
    .refuses(),
    Check::account(
        "internal-sftp",
        Critical,
        [
            "rex is the login shell, and the subsystem sftp needs none",
            "`sftp` reads and writes every file of the account: sshd does that itself, rex is never started",
            "ForceCommand exec /usr/bin/rex session in a Match Group block, or Subsystem sftp /usr/lib/openssh/sftp-server",
        ],
        internal_sftp,
    ),
    Check::account(
        "keys-writable",
        High,
        [
            "somebody else than root can write the file of keys, or a folder above it",
            "adds a key of their own, without a forced command where sshd_config has none",
            "in the Match block: AuthorizedKeysFile /etc/rex/keys/%u, with files and folders of root",
        ],
        keys_writable,
    ),
    Check::account(
        "authorized-keys2",
        Medium,
        [
            "authorized_keys2 is on the list of key files",
            "a file that nobody looks at lets a key in",
            "in the Match block: AuthorizedKeysFile /etc/rex/keys/%u",
        ],
        keys2,
    ),
    Check::account(
        "keys-unreadable",
        Medium,
        [
            "the account cannot read its own file of keys",
            "nobody can log in: sshd reads the file as the account",
            "chmod 644 FILE, and 755 for the folders above it",
        ],
        keys_unreadable,
    ),
    Check::account(
        "keys-missing",
        Info,
        ["there is no key for this account", "nobody can log in", "install -m 644 NAME.pub /etc/rex/keys/NAME"],
        keys_missing,
    ),
    Check::account(
        "key-twice",
        Medium,
        [
            "the same key stands in two lines that say different things",
            "the first line counts, and the one that was meant may be the second",
            "remove one of the lines",
        ],
        key_twice,
    ),
    Check::account(
        "key-ignored",
        Low,
        [
            "sshd ignores a line of keys",
            "an option that sshd does not know makes it skip the whole line",
            "correct the option, see authorized_keys(5)",
        ],
        key_ignored,
    ),
    Check::account(
        "ca-no-principals",
        Critical,
        [
            "a cert-authority line without principals=",
            "before OpenSSH 10.3 a certificate of that authority without principals opens every such account",
            "put principals=\"NAME\" before the authority's key",
        ],
        ca_principals,
    ),
    Check::account(
        "shared-uid",
        Medium,
        [
            "several principals share this uid, told apart by `auth-info`",
            "processes of one uid can rewrite sshd's account of the key, so one of these principals can be another",
            "one account for each principal, or `identity = [\"record\"]`",
        ],
        shared_uid,
    ),
    Check::account(
        "other-methods",
        Medium,
        [
            "sshd takes other proofs than a key for this account",
            "guesses a password, or comes from a host that is trusted; no key tells who it was",
            "in the Match block: AuthenticationMethods publickey",
        ],
        other_methods,
    ),
    Check::account(
        "root-login",
        Medium,
        [
            "root may log in otherwise than by a forced command",
            "a key of root without a forced command is a root shell",
            "PermitRootLogin forced-commands-only",
        ],
        root_login,
    ),
];

/// sshd's answers, or a word that they are missing.
pub(super) fn known(subject: &Subject, notes: &mut Notes) -> bool {
    if let Some(why) = &subject.unknown {
        notes.blind(why.clone());
    }
    subject.unknown.is_none()
}

/// Whether the account has something to do with rex by its keys.
fn by_keys(subject: &Subject) -> bool {
    subject.rex_keys().next().is_some()
}

/// Key files that this process could not read.
fn unread(subject: &Subject, notes: &mut Notes) {
    for file in &subject.key_files {
        if let Err(error) = &file.lines {
            notes.blind(with_hint(error));
        }
    }
}

fn no_gate(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    unread(subject, notes);
    let some_way = subject.ways.iter().any(|(_, effective)| effective.forced().and_then(Line::parse).is_some());
    if subject.shell_is_rex() || by_keys(subject) || some_way {
        return;
    }
    let forced = subject.effective().and_then(|effective| effective.forced()).map(str::to_owned);
    let alone = subject.effective().is_some_and(|effective| effective.subsystems().any(|(_, line)| Line::parse(line).is_some()));
    let detail = match (forced, alone) {
        (Some(other), _) => format!("ForceCommand is `{other}`, which is not rex"),
        (None, true) => "there is a Subsystem of rex, and no ForceCommand, no key with rex's command, no rexsh as shell".to_owned(),
        (None, false) => "no ForceCommand, no key with rex's command, no rexsh as shell".to_owned(),
    };
    let found = notes.found(detail);
    if let Some(place) = survey.place("forcecommand") {
        found.at(place);
    }
}

/// Lines that let somebody in without rex, for an account that only its keys lead there.
fn free_keys(subject: &Subject) -> impl Iterator<Item = &KeyLine> {
    let only_keys = !subject.is_gated() && by_keys(subject);
    subject.key_lines().filter(move |line| only_keys && line.value("command").and_then(Line::parse).is_none())
}

fn key_unforced(_: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    for line in free_keys(subject) {
        let what = line.value("command").map_or_else(|| "has no command=".to_owned(), |other| format!("starts `{other}`"));
        notes.found(format!("the key {} {} {what}", line.kind, line.comment)).at(line.place());
    }
}

/// Other login names of the uid that nothing forces.
fn free_aliases(survey: &Survey, subject: &Subject, notes: &mut Notes) -> Vec<String> {
    let Some(sshd) = &survey.sshd else { return Vec::new() };
    let mut free = Vec::new();
    for alias in survey.accounts.aliases(subject.user.uid).into_iter().filter(|alias| alias.name != subject.user.name) {
        match sshd.effective(&crate::host::sshd::Connection::of(&alias.name)) {
            Ok(effective) if effective.forced().and_then(Line::parse).is_some() || super::line::is_rex(&alias.shell) => {}
            Ok(_) => free.push(alias.name.clone()),
            Err(error) => notes.blind(with_hint(&error)),
        }
    }
    free
}

fn alias_escapes(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) || !subject.is_gated() {
        return;
    }
    for name in free_aliases(survey, subject, notes) {
        notes.found(format!("`{name}` has uid {} too, and no ForceCommand of rex", subject.user.uid)).at(format!("/etc/passwd ({name})"));
    }
}

fn by_connection(_: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) || subject.shell_is_rex() || subject.is_forced() {
        return;
    }
    let (forced, free): (Vec<_>, Vec<_>) =
        subject.ways.iter().partition(|(_, effective)| effective.forced().and_then(Line::parse).is_some());
    if let (Some(_), Some((connection, effective))) = (forced.first(), free.first()) {
        notes.found(format!(
            "from {} ({}) to {} port {}: ForceCommand {}",
            connection.address,
            connection.host,
            connection.local_address,
            connection.local_port,
            effective.forced().unwrap_or("none")
        ));
    }
}

fn argument_unsound(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    let listed = survey.evidence(Evidence::Argument);
    let named = subject.rex_lines().iter().any(|line| line.principal.is_some());
    if !listed || !known(subject, notes) {
        return;
    }
    if named && subject.shell_is_rex() {
        notes.found("rex is the login shell, where no option counts").mend("usermod --shell /bin/sh ACCOUNT");
    }
    let mut free: Vec<String> = free_keys(subject).map(|line| format!("the key at {} is not forced", line.place())).collect();
    // A key that is in no file of this account can be a certificate: those options are the authority's.
    let gated = subject.is_gated();
    if !gated && by_keys(subject) {
        free.extend(free_aliases(survey, subject, notes).iter().map(|name| format!("`{name}` has the same uid")));
        let password = matches!(survey.accounts.password(&subject.user.name), Password::Set | Password::Empty);
        let takes = subject.ways.iter().any(|(_, effective)| other_method(effective).is_some());
        if password && takes {
            free.push("it has a password, and sshd takes that".to_owned());
        }
        let authority = subject.ways.iter().any(|(_, effective)| !effective.is("trustedusercakeys", "none"));
        if authority {
            free.push("certificates of TrustedUserCAKeys are taken, with whatever command they have".to_owned());
        }
    }
    if !gated && !by_keys(subject) {
        free.push("nothing forces it to rex".to_owned());
    }
    for why in free {
        notes.found(why);
    }
}

fn match_user(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) || !subject.is_forced() {
        return;
    }
    let lines: Vec<_> = survey.text.of("forcecommand").filter(|line| Line::parse(&line.rest).is_some()).collect();
    for line in &lines {
        let of_user = line.blocks.iter().find(|block| {
            block.criteria.iter().any(|(name, list)| {
                name == "user"
                    && list.split(',').any(|pattern| crate::host::sshd_text::fits(pattern, &subject.user.name) && !pattern.starts_with('*'))
            })
        });
        let otherwise = lines.iter().any(|other| {
            other.is_global()
                || other.blocks.iter().all(|block| !block.has("user"))
                    && other.blocks.iter().any(|block| {
                        block.has("all")
                            || block.criteria.iter().any(|(name, list)| {
                                name == "group"
                                    && subject
                                        .groups
                                        .iter()
                                        .any(|group| list.split(',').any(|pattern| crate::host::sshd_text::fits(pattern, group)))
                            })
                    })
        });
        if let (Some(block), false) = (of_user, otherwise) {
            notes.found(format!("Match {}", shown(block))).at(line.place());
        }
    }
}

/// Each line of the owner for this account once, with its place.
fn lines(survey: &Survey, subject: &Subject) -> Vec<(Line, Option<String>)> {
    let mut all: Vec<(Line, Option<String>)> = Vec::new();
    for line in subject.forced() {
        let place = survey.place_with("forcecommand", &line.text);
        if !all.iter().any(|(known, _)| *known == line) {
            all.push((line, place));
        }
    }
    // A forced command of sshd_config goes before that of a key.
    if !subject.is_forced() {
        all.extend(subject.rex_keys().map(|(key, line)| (line, Some(key.place()))));
    }
    all
}

fn each_line(survey: &Survey, subject: &Subject, notes: &mut Notes, wrong: impl Fn(&Line) -> Option<String>) {
    if !known(subject, notes) {
        return;
    }
    for (line, place) in lines(survey, subject) {
        if let Some(detail) = wrong(&line) {
            let found = notes.found(detail);
            if let Some(place) = place {
                found.at(place);
            }
        }
    }
}

fn relative(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    each_line(survey, subject, notes, |line| (!line.program.is_absolute()).then(|| format!("`{}`", line.text)));
}

fn program(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    // In a root of its own the path means another file.
    let root = subject.effective().and_then(|effective| effective.get("chrootdirectory")).filter(|root| !root.eq_ignore_ascii_case("none"));
    let root = root.map(|root| crate::host::keys::unfold(root, &subject.user));
    each_line(survey, subject, notes, |line| {
        if !line.program.is_absolute() {
            return None;
        }
        let path = match &root {
            Some(root) => Path::new(root).join(line.program.strip_prefix("/").unwrap_or(&line.program)),
            None => line.program.clone(),
        };
        match facts::of(&path) {
            Ok(Some(facts)) if !facts.is_file() => Some(format!("{} is no file", path.display())),
            Ok(Some(facts)) if facts.mode & 0o111 == 0 => Some(format!("{} cannot be executed (mode {:04o})", path.display(), facts.mode)),
            Ok(Some(_)) => unreadable_program(survey, subject, &path).map(|what| format!("{} may not get at {what}", subject.user.name)),
            Ok(None) => Some(format!("{} is not there", path.display())),
            Err(_) => None,
        }
    });
}

/// A folder that the account may not enter.
fn unreadable_program(survey: &Survey, subject: &Subject, path: &Path) -> Option<String> {
    unreadable(survey, subject, path).ok().flatten().map(|what| what.display().to_string())
}

fn for_the_shell(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if subject.shell_is_rex() {
        return;
    }
    each_line(survey, subject, notes, |line| line.for_the_shell().map(|c| format!("`{c}` in `{}`", line.text)));
}

fn no_exec(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if subject.shell_is_rex() {
        return;
    }
    each_line(survey, subject, notes, |line| (!line.exec).then(|| format!("`{}`", line.text)));
}

fn rexsh_options(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !subject.shell_is_rex() {
        return;
    }
    each_line(survey, subject, notes, |line| line.has_options().then(|| format!("`{}`", line.text)));
}

fn internal_sftp(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) || !subject.shell_is_rex() || subject.is_forced() {
        return;
    }
    let internal = |(_, line): &(&str, &str)| line.split_ascii_whitespace().next() == Some("internal-sftp");
    if let Some((name, line)) = subject.effective().and_then(|effective| effective.subsystems().find(internal)) {
        let found = notes.found(format!("Subsystem {name} {line}"));
        if let Some(place) = survey.place_with("subsystem", "internal-sftp") {
            found.at(place);
        }
    }
}

fn keys_writable(_: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    for file in &subject.key_files {
        // Root's own folder is root's.
        match open_to_others(&file.path) {
            Ok(Some((what, why))) => {
                let missing = if file.exists { "" } else { ", where the file can be made" };
                notes.found(format!("{}: {why}{missing}", what.display())).at(file.path.display().to_string());
            }
            Ok(None) => {}
            Err(error) => notes.blind(with_hint(&error)),
        }
    }
}

fn keys2(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    for file in subject.key_files.iter().filter(|file| file.path.to_string_lossy().ends_with("authorized_keys2")) {
        let there = if file.exists { "it is there" } else { "it is not there now" };
        let place = survey.place("authorizedkeysfile").unwrap_or_else(|| file.path.display().to_string());
        notes.found(format!("{}: {there}", file.path.display())).at(place);
    }
}

fn keys_unreadable(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    for file in subject.key_files.iter().filter(|file| file.exists) {
        match unreadable(survey, subject, &file.path) {
            Ok(Some(what)) => {
                notes.found(format!("{} may not get at {}", subject.user.name, what.display())).at(file.path.display().to_string());
            }
            Ok(None) => {}
            Err(error) => notes.blind(with_hint(&error)),
        }
    }
}

/// No key is listed for the account, and nothing but keys lets anybody in. What could not be read may hold one.
pub(super) fn nobody_logs_in(subject: &Subject) -> bool {
    let elsewhere = subject.ways.iter().any(|(_, effective)| {
        ["authorizedkeyscommand", "trustedusercakeys"].iter().any(|keyword| !effective.is(keyword, "none"))
            || other_method(effective).is_some()
    });
    !elsewhere && subject.key_files.iter().all(|file| file.lines.as_ref().is_ok_and(Vec::is_empty))
}

fn keys_missing(_: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    unread(subject, notes);
    if nobody_logs_in(subject) {
        let files: Vec<String> = subject.key_files.iter().map(|file| file.path.display().to_string()).collect();
        notes.found(format!("no key in {}", files.join(", ")));
    }
}

fn key_twice(_: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    let lines: Vec<&KeyLine> = subject.key_lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if let Some(first) = lines.iter().take(at).find(|first| first.key == line.key && first.options != line.options) {
            notes.found(format!("{} counts, this one does not", first.place())).at(line.place());
        }
    }
}

fn key_ignored(_: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    for line in subject.key_files.iter().filter_map(|file| file.lines.as_ref().ok()).flatten() {
        if let Some(option) = line.unknown_option() {
            notes.found(format!("`{option}` is no option")).at(line.place());
        }
    }
}

fn ca_principals(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    let fixed = survey.version.as_ref().is_some_and(|version| !version.is_before(10, 3));
    for line in subject.key_lines().filter(|line| line.has("cert-authority") && line.value("principals").is_none()) {
        if !fixed {
            let version = survey.version.as_ref().map_or("an unknown version of sshd", |version| version.text.as_str());
            notes.found(format!("with {version} a certificate without principals is taken")).at(line.place());
        }
    }
}

fn shared_uid(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !survey.evidence(Evidence::AuthInfo) || !known(subject, notes) {
        return;
    }
    for owners in &survey.owners {
        let Ok(principals) = &owners.principals else { continue };
        let named = subject.key_lines().filter(|line| !line.has("cert-authority")).filter_map(KeyLine::fingerprint);
        let mut people: Vec<String> =
            named.filter_map(|fingerprint| principals.of_key(&fingerprint).map(|person| person.name.clone())).collect();
        people.sort();
        people.dedup();
        if people.len() > 1 {
            notes.found(people.join(", ")).at(owners.files.folder().join("principals.toml").display().to_string());
        }
    }
}

/// A proof other than a key that is enough for a login.
pub(super) fn other_method(effective: &crate::host::sshd::Effective) -> Option<String> {
    let on = |method: &str| match method.split(':').next().unwrap_or(method) {
        "password" => effective.is("passwordauthentication", "yes"),
        "keyboard-interactive" => effective.is("kbdinteractiveauthentication", "yes"),
        "hostbased" => effective.is("hostbasedauthentication", "yes"),
        "gssapi-with-mic" => effective.is("gssapiauthentication", "yes"),
        _ => false,
    };
    let all = ["password", "keyboard-interactive", "hostbased", "gssapi-with-mic"];
    for list in effective.words("authenticationmethods") {
        if list.eq_ignore_ascii_case("any") {
            return all.iter().find(|method| on(method)).map(|method| (*method).to_owned());
        }
        let methods: Vec<&str> = list.split(',').collect();
        if !methods.iter().any(|method| method.starts_with("publickey")) && methods.iter().all(|method| on(method)) {
            return Some(list.to_owned());
        }
    }
    None
}

fn other_methods(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if !known(subject, notes) {
        return;
    }
    if let Some(method) = subject.ways.iter().find_map(|(_, effective)| other_method(effective)) {
        let found = notes.found(format!("`{method}` alone is enough"));
        if let Some(place) = survey.place("authenticationmethods") {
            found.at(place);
        }
    }
}

fn root_login(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    if subject.user.uid != 0 || !known(subject, notes) || subject.is_forced() {
        return;
    }
    let login = subject.effective().and_then(|effective| effective.get("permitrootlogin")).unwrap_or("");
    if !["forced-commands-only", "no"].contains(&login) {
        let found = notes.found(format!("PermitRootLogin is {login}"));
        if let Some(place) = survey.place("permitrootlogin") {
            found.at(place);
        }
    }
}
