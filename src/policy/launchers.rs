//! Programs that run other programs, or whatever text they are given: a permit for one of them is a permit for much. `rex policy check` says so.

use super::slice::{Reach, Rule, Uid};

/// By their file names. A name is also that of `NAME` with a version behind it (`python3.11`).
const LAUNCHERS: &[&str] = &[
    // Shells and interpreters.
    "sh",
    "ash",
    "bash",
    "csh",
    "dash",
    "fish",
    "ksh",
    "mksh",
    "rbash",
    "tcsh",
    "zsh",
    "busybox",
    "toybox",
    "python",
    "perl",
    "ruby",
    "lua",
    "luajit",
    "php",
    "node",
    "nodejs",
    "deno",
    "bun",
    "java",
    "jshell",
    "tclsh",
    "expect",
    "guile",
    "gawk",
    "awk",
    "mawk",
    "nawk",
    "sed",
    "jq",
    "gdb",
    "lldb",
    "m4",
    "make",
    "cmake",
    "gcc",
    "cc",
    "go",
    "cargo",
    // Editors and pagers, which have commands that start a shell.
    "vi",
    "vim",
    "vim.basic",
    "vim.tiny",
    "nvim",
    "view",
    "ex",
    "ed",
    "emacs",
    "nano",
    "pico",
    "less",
    "more",
    "most",
    "man",
    "info",
    // Programs that are told which program to run.
    "env",
    "find",
    "xargs",
    "parallel",
    "nohup",
    "nice",
    "ionice",
    "chrt",
    "taskset",
    "timeout",
    "time",
    "stdbuf",
    "setsid",
    "script",
    "watch",
    "flock",
    "strace",
    "ltrace",
    "perf",
    "unshare",
    "nsenter",
    "chroot",
    "setpriv",
    "capsh",
    "su",
    "sudo",
    "doas",
    "pkexec",
    "runuser",
    "sg",
    "newgrp",
    "start-stop-daemon",
    "run-parts",
    "at",
    "batch",
    "crontab",
    "systemd-run",
    "systemctl",
    "machinectl",
    "busctl",
    "dbus-send",
    "screen",
    "tmux",
    "byobu",
    "ld.so",
    "ldconfig",
    // Programs with an option for it.
    "tar",
    "bsdtar",
    "zip",
    "cpio",
    "rsync",
    "scp",
    "sftp",
    "ssh",
    "git",
    "hg",
    "svn",
    "curl",
    "wget",
    "openssl",
    "tcpdump",
    "nmap",
    "socat",
    "nc",
    "ncat",
    "mount",
    "mysql",
    "psql",
    "sqlite3",
    "redis-cli",
    "mail",
    "mutt",
    "logrotate",
    "dpkg",
    "apt",
    "apt-get",
    "rpm",
    "yum",
    "dnf",
    "apk",
    "pip",
    "pip3",
    "npm",
    "gem",
    "docker",
    "podman",
    "nerdctl",
    "ctr",
    "kubectl",
    "ansible",
    "ansible-playbook",
    "salt-call",
    "puppet",
    "chef-client",
];
/// Where hosts keep such programs.
const FOLDERS: &[&str] = &["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// A few that everybody knows.
const AMONG: &str = "sh, python3, find, tar, env";

/// What a policy lets run with whatever arguments, in a sentence; nothing where it looks at them, or names nothing that is known.
pub(super) fn warning(rule: &Rule) -> Option<String> {
    let execute = |verb: &Uid| verb.kind == "file_system::Action" && matches!(verb.id.as_str(), "execute" | "SafeIO");
    if !rule.permit || rule.needs.context || !rule.verbs.as_ref().is_none_or(|verbs| verbs.iter().any(execute)) {
        return None;
    }
    match &rule.reach {
        Reach::Exactly(kind, path) if kind == "file_system::File" => {
            let name = launcher(path)?;
            Some(format!("permits `{name}`, a program that can run others, with any arguments"))
        }
        Reach::Within(kind, path) | Reach::KindWithin(_, kind, path) if kind == "file_system::Dir" => {
            let within = |folder: &&str| {
                path == "/" || *folder == path.as_str() || folder.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'))
            };
            let folder = FOLDERS.iter().find(|folder| within(folder))?;
            Some(format!("permits every program in {folder} with any arguments, among them {AMONG}, which can run others"))
        }
        _ => None,
    }
}

/// The name of a program of the list, without folder and version.
pub(super) fn launcher(path: &str) -> Option<&str> {
    let file = path.rsplit('/').next()?;
    let versionless = file.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
    LAUNCHERS.iter().any(|known| *known == file || *known == versionless).then_some(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_and_folders_do_not_hide_a_name() {
        for path in ["/usr/bin/python3.11", "/opt/x/bash", "/bin/sh", "/usr/bin/lua5.4", "/usr/bin/php8.2", "/usr/bin/vim.basic"] {
            assert!(launcher(path).is_some(), "{path}");
        }
        for path in ["/usr/sbin/nginx", "/usr/bin/sha256sum", "/usr/bin/df", "/usr/bin/[", "/"] {
            assert_eq!(launcher(path), None, "{path}");
        }
    }

    #[test]
    fn no_name_stands_in_the_list_twice() {
        let mut names = LAUNCHERS.to_vec();
        names.sort_unstable();
        assert_eq!(names.windows(2).find(|pair| pair.first() == pair.get(1)), None);
    }
}
