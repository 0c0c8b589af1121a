//! The places of the records: whether there is one that accounts cannot change, whether each takes a record now, and whether accounts can write there.

use super::Severity::{Critical, High, Low, Medium};
use super::owners::used;
use super::survey::{Owners, Subject, Survey, gids, may, with_hint};
use super::{Check, Notes, mend};
use crate::audit::{Audit, Event, Note, RunInfo};
use crate::config::{AuditSettings, Config, OnFailure};
use crate::os::facts;
use std::path::{Path, PathBuf};

/// Less room than this for the file of records is told.
const ROOM: u64 = 100 << 20;

pub(super) const CHECKS: &[Check] = &[
    Check::host(
        "audit-refuses",
        Critical,
        [
            "a place of the records takes none",
            "nothing runs: what cannot be recorded is not done",
            "see the finding; docs/operations.md, Records",
        ],
        refuses,
    )
    .refuses(),
    Check::host(
        "audit-allow",
        High,
        [
            "sessions go on where records are lost",
            "whoever fills the disk or the log acts unseen",
            "on_audit_failure = \"deny\" in rex.toml",
        ],
        allow,
    ),
    Check::host(
        "audit-file-alone",
        Medium,
        [
            "records go to a file alone, which the accounts write themselves",
            "whoever breaks out of a run removes what tells of it",
            "run a syslog daemon or journald, and leave `syslog` and `journald` at \"auto\"",
        ],
        file_alone,
    ),
    Check::account(
        "audit-folder",
        High,
        [
            "the account cannot write the file of the records",
            "its sessions are refused: what cannot be recorded is not done",
            "chown root:rexusers FOLDER && chmod 2770 FOLDER",
        ],
        folder,
    )
    .refuses()
    .fixed_by(mend::audit_folder),
    Check::host(
        "audit-readable",
        Medium,
        [
            "everybody on this host can read the records, or write them",
            "reads who did what, and from where; or puts in what nobody did",
            "chmod 660 FILE, and 2770 for its folder",
        ],
        readable,
    )
    .fixed_by(mend::audit_modes),
    Check::host(
        "audit-space",
        Medium,
        [
            "there is little room for the file of the records",
            "when it is full nothing runs any more",
            "make room, and rotate: config/logrotate.d/rex",
        ],
        space,
    ),
    Check::host(
        "audit-chain",
        Low,
        ["records are not linked to one another", "a record that was changed or removed is not found out", "chain = true in [audit]"],
        chain,
    ),
];

/// The places of a configuration, each by itself: its name, and settings with that place alone.
fn places(config: &Config) -> Vec<(String, AuditSettings)> {
    use crate::config::Switch::{Auto, Off, On};
    let audit = &config.audit;
    let none = AuditSettings { syslog: Off, journald: Off, file: String::new(), ..audit.clone() };
    let mut places = Vec::new();
    for (switch, socket, settings) in [
        (audit.journald, &audit.journald_socket, AuditSettings { journald: On, ..none.clone() }),
        (audit.syslog, &audit.syslog_socket, AuditSettings { syslog: On, ..none.clone() }),
    ] {
        let there = facts::of(Path::new(socket)).is_ok_and(|facts| facts.is_some());
        if switch == On || switch == Auto && there {
            places.push((socket.clone(), settings));
        }
    }
    if !audit.file.is_empty() {
        places.push((config.beside(&audit.file).display().to_string(), AuditSettings { file: audit.file.clone(), ..none }));
    }
    places
}

/// The file of records of a configuration.
fn file_of(owners: &Owners) -> Option<PathBuf> {
    let config = owners.config.as_ref().ok()?;
    (!config.audit.file.is_empty()).then(|| config.beside(&config.audit.file))
}

fn refuses(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        let Ok(config) = &owners.config else { continue };
        let places = places(config);
        if places.is_empty() {
            notes.found("there is no syslog, no journald, and `audit.file` is empty").at(owners.files.config.display().to_string());
        }
        if !survey.root {
            notes.blind("whether records are taken is tried by root alone");
            continue;
        }
        let others = survey.subjects.iter().any(|subject| subject.user.uid != 0);
        for (place, settings) in places {
            // The file would be made for root alone, and every session of an account be refused. That they cannot write there is found by `audit-folder`.
            let above = Path::new(&place).parent().and_then(|folder| facts::of(folder).ok().flatten());
            let missing = !settings.file.is_empty() && facts::of(Path::new(&place)).is_ok_and(|facts| facts.is_none());
            if missing && others && above.is_some_and(|folder| folder.mode & 0o2000 == 0) {
                continue;
            }
            let info = RunInfo { run: crate::run::new_id(), uid: 0, ..RunInfo::default() };
            let message = "rex doctor looks whether records are taken here";
            let taken = Audit::open(&settings, OnFailure::Deny, info)
                .and_then(|audit| audit.record(&Event::Note(Note { what: "doctor", message })));
            if let Err(error) = taken {
                notes.found(with_hint(&error)).at(place);
            }
        }
    }
}

fn allow(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        if owners.config.as_ref().is_ok_and(|config| config.on_audit_failure == OnFailure::Allow) {
            notes.found("on_audit_failure is allow").at(owners.files.config.display().to_string());
        }
    }
}

fn file_alone(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        let Ok(config) = &owners.config else { continue };
        let places = places(config);
        if !config.audit.file.is_empty() && places.len() == 1 {
            notes.found("no syslog and no journald takes them too").at(config.beside(&config.audit.file).display().to_string());
        }
    }
}

fn folder(survey: &Survey, subject: &Subject, notes: &mut Notes) {
    for owners in used(survey, subject) {
        let Some(file) = file_of(owners) else { continue };
        let gids = gids(survey, subject);
        let Some(above) = file.parent() else { continue };
        let wanted = match facts::of(&file) {
            // The chain is read from its end.
            Ok(Some(facts)) => {
                (!may(&facts, &subject.user, &gids, 2) || !may(&facts, &subject.user, &gids, 4)).then(|| (file.clone(), facts))
            }
            Ok(None) => match facts::of(above) {
                Ok(Some(facts)) => (!may(&facts, &subject.user, &gids, 2)).then(|| (above.to_path_buf(), facts)),
                Ok(None) => {
                    notes.found("there is no such folder").at(above.display().to_string());
                    continue;
                }
                Err(error) => {
                    notes.blind(with_hint(&error));
                    continue;
                }
            },
            Err(error) => {
                notes.blind(with_hint(&error));
                continue;
            }
        };
        let closed =
            above.ancestors().find(|folder| facts::of(folder).ok().flatten().is_some_and(|facts| !may(&facts, &subject.user, &gids, 1)));
        if let Some((what, facts)) = wanted {
            let said =
                format!("{} may not write it (owner {}, group {}, mode {:04o})", subject.user.name, facts.uid, facts.gid, facts.mode);
            notes.found(said).at(what.display().to_string());
        } else if let Some(closed) = closed {
            notes.found(format!("{} may not enter it", subject.user.name)).at(closed.display().to_string());
        }
    }
}

fn readable(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        let Some(file) = file_of(owners) else { continue };
        match facts::of(&file) {
            Ok(Some(facts)) if facts.mode & 0o007 != 0 => {
                // Nobody gets at it in a folder that is closed to others.
                let closed =
                    file.ancestors().skip(1).any(|folder| facts::of(folder).ok().flatten().is_some_and(|facts| facts.mode & 0o001 == 0));
                if !closed {
                    notes.found(format!("mode {:04o}", facts.mode)).at(file.display().to_string());
                }
            }
            Ok(_) => {}
            Err(error) => notes.blind(with_hint(&error)),
        }
    }
}

fn space(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        let Some(file) = file_of(owners) else { continue };
        let Some(room) = file.parent().and_then(facts::room) else { continue };
        let place = file.display().to_string();
        if room.read_only {
            notes.found("its filesystem is read-only").at(place);
        } else if room.free < ROOM && room.free < room.total / 20 {
            notes.found(format!("{} MiB of {} MiB are free", room.free >> 20, room.total >> 20)).at(place);
        } else if room.files.is_some_and(|files| files < 100) {
            notes.found("its filesystem can make hardly any more files").at(place);
        }
    }
}

fn chain(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        if owners.config.as_ref().is_ok_and(|config| !config.audit.chain) {
            notes.found("chain is false").at(owners.files.config.display().to_string());
        }
    }
}
