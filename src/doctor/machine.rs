//! The program itself, and the kernel below it.

use super::Severity::{Critical, High, Info, Low, Medium};
use super::survey::{Survey, open_to_others, with_hint};
use super::{Check, Notes};
use crate::config::layer_word;
use crate::error::{Error, Result};
use crate::os::{facts, trusted};
use std::path::{Path, PathBuf};

pub(super) const CHECKS: &[Check] = &[
    Check::host(
        "program-writable",
        Critical,
        [
            "somebody else than root can write rex, or a folder above it",
            "puts another program in its place, and every session runs that",
            "chown root:root FILE && chmod 755 FILE",
        ],
        writable,
    ),
    Check::host(
        "program-set-id",
        High,
        ["rex is set-user-id or set-group-id", "whoever starts it has the rights of its owner; rex is not made for that", "chmod 755 FILE"],
        set_id,
    ),
    Check::host(
        "program-dynamic",
        Medium,
        [
            "rex is not linked statically",
            "a variable that reaches it (LD_PRELOAD) loads code into it, before any policy",
            "install the program as it is released, or build it with the tree's own settings",
        ],
        dynamic,
    ),
    Check::host(
        "layer-missing",
        Medium,
        [
            "the kernel lacks a layer of the fence",
            "what a fault of rex gives away is held by fewer layers",
            "a kernel of 5.13 or later with CONFIG_SECURITY_LANDLOCK, and `landlock` in lsm=",
        ],
        missing,
    ),
    Check::host(
        "layer-required",
        Critical,
        [
            "`require_layers` lists a layer that the kernel lacks",
            "nothing runs (exit 69)",
            "take it out of require_layers, or use a kernel that has it",
        ],
        required,
    )
    .refuses(),
    Check::host(
        "landlock-old",
        Low,
        [
            "the kernel's Landlock is an early one",
            "before version 3 files that may be read can be cut off, before 6 signals and abstract sockets are not held by it",
            "a kernel of 6.12 or later",
        ],
        old,
    ),
    Check::host(
        "audit-sessions",
        Info,
        [
            "the kernel numbers no login sessions",
            "`record` cannot tell one login from another",
            "a kernel with CONFIG_AUDIT, not started with audit=0",
        ],
        sessions,
    ),
    Check::host(
        "ptrace-scope",
        Low,
        [
            "processes of one uid may trace one another",
            "a process of the account looks into its other processes (rex itself forbids it for its own)",
            "sysctl kernel.yama.ptrace_scope=1",
        ],
        ptrace,
    ),
    Check::host(
        "clock",
        Low,
        [
            "nothing keeps the clock right",
            "certificates are taken after their end, rules about time decide wrongly, records cannot be put beside those of other hosts",
            "apt-get install systemd-timesyncd, or chrony",
        ],
        clock,
    ),
];

/// The files of rex that sessions start: those of the owner's lines, and this program.
fn programs(survey: &Survey) -> Vec<PathBuf> {
    let lines = survey.subjects.iter().flat_map(|subject| {
        let shell = subject.shell_is_rex().then(|| subject.user.shell.clone());
        subject.rex_lines().into_iter().map(|line| line.program).chain(shell)
    });
    let mut all: Vec<PathBuf> = lines.filter(|path| path.is_absolute()).collect();
    all.extend(crate::sys::inherit::own_program());
    let mut seen: Vec<PathBuf> = Vec::new();
    for path in all {
        // What is not there is a finding of its own.
        if facts::of(&path).is_ok_and(|facts| facts.is_some()) && !seen.contains(&path) {
            seen.push(path);
        }
    }
    seen
}

fn writable(survey: &Survey, notes: &mut Notes) {
    for path in programs(survey) {
        match open_to_others(&path) {
            Ok(Some((what, why))) => {
                notes.found(format!("{}: {why}", what.display())).at(path.display().to_string());
            }
            Ok(None) => {}
            Err(error) => notes.blind(with_hint(&error)),
        }
    }
}

fn set_id(survey: &Survey, notes: &mut Notes) {
    for path in programs(survey) {
        if let Some(facts) = facts::of(&path).ok().flatten().filter(|facts| facts.mode & 0o6000 != 0) {
            notes.found(format!("mode {:04o}", facts.mode)).at(path.display().to_string()).mend(format!("chmod 755 {}", path.display()));
        }
    }
}

fn dynamic(survey: &Survey, notes: &mut Notes) {
    for path in programs(survey) {
        match has_interpreter(&path) {
            Ok(true) => {
                notes.found("it names a program that loads it").at(path.display().to_string());
            }
            Ok(false) => {}
            Err(error) => notes.blind(with_hint(&error)),
        }
    }
}

/// Whether an ELF file names an interpreter (PT_INTERP): the kernel then starts that, which reads LD_*.
fn has_interpreter(path: &Path) -> Result<bool> {
    let file = trusted::open_any(path)?;
    let head = trusted::read_up_to(&file, 16 << 10).map_err(|errno| Error::os("read", errno.raw_os_error()))?;
    Ok(interpreter_in(&head))
}

/// The program headers lie right behind the first one in every program that a linker made.
fn interpreter_in(head: &[u8]) -> bool {
    let (wide, little) = match head.get(..6) {
        Some([0x7f, b'E', b'L', b'F', class, order]) => (*class == 2, *order == 1),
        // A script has an interpreter.
        _ => return true,
    };
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = head.get(at..at.checked_add(size)?)?;
        let fold = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
        Some(if little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
    };
    let (offset, entry, count) =
        if wide { (number(32, 8), number(54, 2), number(56, 2)) } else { (number(28, 4), number(42, 2), number(44, 2)) };
    let (Some(offset), Some(entry), Some(count)) = (offset, entry, count) else { return true };
    (0..count).any(|at| offset.checked_add(at * entry).and_then(|place| number(place, 4)).is_none_or(|kind| kind == 3))
}

/// Names of layers that the kernel lacks.
fn lacking(survey: &Survey) -> Vec<&'static str> {
    let has = [("landlock", survey.kernel.landlock.is_some()), ("seccomp", survey.kernel.seccomp)];
    has.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect()
}

fn missing(survey: &Survey, notes: &mut Notes) {
    for layer in lacking(survey) {
        notes.found(format!("`{layer}`, on kernel {}", survey.kernel.release));
    }
}

fn required(survey: &Survey, notes: &mut Notes) {
    for owners in &survey.owners {
        for layer in owners.settings().require_layers.iter().map(|layer| layer_word(*layer)).filter(|layer| lacking(survey).contains(layer))
        {
            notes.found(format!("`{layer}`")).at(owners.files.config.display().to_string());
        }
    }
}

fn old(survey: &Survey, notes: &mut Notes) {
    if let Some(version) = survey.kernel.landlock.filter(|version| *version < 6) {
        notes.found(format!("version {version}, kernel {}", survey.kernel.release));
    }
}

fn sessions(survey: &Survey, notes: &mut Notes) {
    if !survey.kernel.numbers_sessions {
        notes.found("there is no /proc/self/sessionid");
    }
}

fn ptrace(survey: &Survey, notes: &mut Notes) {
    if survey.kernel.ptrace_scope.is_none_or(|scope| scope == 0) {
        notes.found(survey.kernel.ptrace_scope.map_or("the kernel has no Yama", |_| "kernel.yama.ptrace_scope is 0"));
    }
}

fn clock(survey: &Survey, notes: &mut Notes) {
    match survey.kernel.clock_synchronised {
        Some(true) => {}
        Some(false) => {
            notes.found("the kernel was told by nothing that its clock is right");
        }
        None => notes.blind("the kernel does not tell about its clock"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn static_programs_are_told_from_others() {
        let sh = has_interpreter(&trusted::real_path("/bin/sh".into())).unwrap();
        assert!(sh, "this host's shell is not static");
        assert!(interpreter_in(b"#!/bin/sh\n") && interpreter_in(b"\x7fELF"));
        // A header of a 64-bit file with one PT_LOAD.
        let mut head = vec![0_u8; 120];
        head.splice(..6, *b"\x7fELF\x02\x01");
        head.splice(32..33, [64]);
        head.splice(54..57, [56, 0, 1]);
        head.splice(64..65, [1]);
        assert!(!interpreter_in(&head));
        head.splice(64..65, [3]);
        assert!(interpreter_in(&head));
    }
}
