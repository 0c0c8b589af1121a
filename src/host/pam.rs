//! The PAM stack of a service (pam.conf(5)), included files in their places: what is run at a login, and what it lets the user decide.

use crate::error::{Error, Kind, Result};
use crate::os::facts;
use std::path::{Path, PathBuf};

/// Where stacks are: the owner's first, then the distribution's.
const FOLDERS: &[&str] = &["/etc/pam.d", "/usr/lib/pam.d", "/usr/share/pam.d"];
const MAX_FILE: u64 = 1 << 18;
const MAX_LINES: usize = 10_000;
/// As deep as Linux-PAM goes (PAM_SUBSTACK_MAX_LEVEL).
const DEPTH: usize = 16;

/// One line of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub file: PathBuf,
    pub number: usize,
    /// `auth`, `account`, `password` or `session`.
    pub kind: String,
    /// `required`, `[success=ok …]` …, as it is written.
    pub control: String,
    /// As it is written: `pam_env.so`, or with a path.
    pub module: String,
    pub arguments: Vec<String>,
}

impl Line {
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.number)
    }
    /// Whether it is this module (`pam_env`), whatever folder it is taken from.
    #[must_use]
    pub fn is(&self, module: &str) -> bool {
        let name = self.module.rsplit('/').next().unwrap_or("");
        name.strip_suffix(".so").unwrap_or(name) == module
    }
    /// The value of `name=value` among the arguments; the last one counts, as modules read them in order.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.iter().rev().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The stack of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    pub lines: Vec<Line>,
    /// Every file that it is made of; the service's own first.
    pub files: Vec<PathBuf>,
}

impl Stack {
    /// The lines of a module, in the order of the stack.
    pub fn of<'a>(&'a self, module: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.is(module))
    }
    /// Lines that let the user set any variable of the session, with `~/.pam_environment` (pam_env(8)).
    pub fn user_environment(&self) -> impl Iterator<Item = &Line> {
        // As pam_env reads it, with atoi(3): what is no number is 0.
        let on = |value: &str| {
            value.trim_start().trim_start_matches(['+', '-']).bytes().take_while(u8::is_ascii_digit).any(|digit| digit != b'0')
        };
        self.of("pam_env")
            .filter(move |line| matches!(line.kind.as_str(), "auth" | "session") && line.argument("user_readenv").is_some_and(on))
    }
    /// The line that gives a session the login uid and the kernel's audit session.
    #[must_use]
    pub fn login_uid(&self) -> Option<&Line> {
        self.of("pam_loginuid").find(|line| line.kind == "session")
    }
    /// The programs that the session phase starts.
    pub fn programs(&self) -> impl Iterator<Item = &Line> {
        self.of("pam_exec").filter(|line| line.kind == "session")
    }
}

/// The stack of a service on this host; that of `other` where the service has none, as Linux-PAM does.
///
/// # Errors
/// [`Kind::NotFound`] where there is no stack at all; [`Kind::BadData`] for files that include one another without end.
pub fn stack(service: &str) -> Result<Stack> {
    stack_in(&FOLDERS.iter().map(PathBuf::from).collect::<Vec<_>>(), service)
}

fn stack_in(folders: &[PathBuf], service: &str) -> Result<Stack> {
    for name in [service, "other"] {
        if let Some(file) = place(folders, name)? {
            let mut stack = Stack::default();
            add(&mut stack, folders, &file, None, 0)?;
            return Ok(stack);
        }
    }
    Err(Error::new(Kind::NotFound, format!("PAM has no stack for `{}`", service.escape_debug())))
}

/// The first folder that has the name; a path is itself.
fn place(folders: &[PathBuf], name: &str) -> Result<Option<PathBuf>> {
    if name.is_empty() || name.contains("..") {
        return Ok(None);
    }
    for folder in folders {
        let path = folder.join(name);
        if facts::of(&path)?.is_some_and(|facts| facts.is_file()) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Adds the lines of a file; `only`: those of one kind, which an `include` line asked for.
fn add(stack: &mut Stack, folders: &[PathBuf], file: &Path, only: Option<&str>, depth: usize) -> Result<()> {
    if depth > DEPTH {
        return Err(Error::new(Kind::BadData, "files of PAM include one another without end").with_path(file.display().to_string()));
    }
    let text = facts::text(file, MAX_FILE)?.unwrap_or_default();
    stack.files.push(file.to_path_buf());
    for (number, line) in joined(&text) {
        let words = words(&line);
        if let [include, name] = words.as_slice()
            && include == "@include"
        {
            if let Some(next) = place(folders, name)? {
                add(stack, folders, &next, only, depth + 1)?;
            }
            continue;
        }
        let [kind, control, module, arguments @ ..] = words.as_slice() else { continue };
        // `-session`: no word in the log where the module is missing.
        let kind = kind.trim_start_matches('-').to_ascii_lowercase();
        if only.is_some_and(|only| only != kind) {
            continue;
        }
        if matches!(control.as_str(), "include" | "substack") {
            if let Some(next) = place(folders, module)? {
                add(stack, folders, &next, Some(&kind), depth + 1)?;
            }
            continue;
        }
        stack.lines.push(Line {
            file: file.to_path_buf(),
            number,
            kind,
            control: control.clone(),
            module: module.clone(),
            arguments: arguments.to_vec(),
        });
        if stack.lines.len() > MAX_LINES {
            return Err(Error::new(Kind::TooLarge, format!("more than {MAX_LINES} lines of PAM")).with_path(file.display().to_string()));
        }
    }
    Ok(())
}

/// Lines without comments, those that end in a backslash put together, each with the number of its first.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        let (line, goes_on) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
        match lines.last_mut() {
            Some((_, whole)) if open => {
                whole.push(' ');
                whole.push_str(line);
            }
            _ => lines.push((at + 1, line.to_owned())),
        }
        open = goes_on;
    }
    lines.retain(|(_, line)| !line.trim().is_empty());
    lines
}

/// Words; one that begins with `[` goes to its `]`, which `\]` is not. The brackets of controls are kept, those of arguments are not.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('[') {
            Some(inside) => {
                let end = inside.match_indices(']').map(|(at, _)| at).find(|at| !inside[..*at].ends_with('\\')).unwrap_or(inside.len());
                let (word, after) = inside.split_at(end);
                let word = word.replace("\\]", "]");
                (if words.len() == 1 { format!("[{word}]") } else { word }, after.strip_prefix(']').unwrap_or(""))
            }
            None => {
                let (word, after) = rest.split_at(rest.find([' ', '\t']).unwrap_or(rest.len()));
                (word.to_owned(), after)
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn given(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let folders = vec![dir.path().join("no"), dir.path().to_path_buf()];
        (dir, folders)
    }

    #[test]
    fn included_files_stand_in_their_places() {
        let (dir, folders) = given(&[
            (
                "sshd",
                "# the stack\n@include common\nsession [success=ok ignore=ignore] pam_selinux.so close\naccount include only\n-session required /lib/security/pam_env.so \\\n  user_readenv=1 [envfile=/etc/a b]\n",
            ),
            ("common", "session required pam_loginuid.so\n"),
            ("only", "session optional pam_no.so\naccount required pam_unix.so\n"),
        ]);
        let stack = stack_in(&folders, "sshd").unwrap();
        let names: Vec<(&str, &str, usize)> =
            stack.lines.iter().map(|line| (line.kind.as_str(), line.module.as_str(), line.number)).collect();
        assert_eq!(
            names,
            [
                ("session", "pam_loginuid.so", 1),
                ("session", "pam_selinux.so", 3),
                ("account", "pam_unix.so", 2),
                ("session", "/lib/security/pam_env.so", 5)
            ]
        );
        assert_eq!(stack.login_uid().unwrap().place(), format!("{}/common:1", dir.path().display()));
        let line = stack.user_environment().next().unwrap();
        assert_eq!((line.number, line.arguments.as_slice()), (5, ["user_readenv=1".to_owned(), "envfile=/etc/a b".to_owned()].as_slice()));
        assert_eq!(stack.lines.get(1).unwrap().control, "[success=ok ignore=ignore]");
        assert_eq!(stack.files.len(), 3);
    }

    #[test]
    fn the_users_environment_counts_where_it_is_switched_on_last() {
        for (line, on) in [
            ("session required pam_env.so", false),
            ("session required pam_env.so user_readenv=0", false),
            ("session required pam_env.so user_readenv=1 user_readenv=0", false),
            ("session required pam_env.so user_readenv=0 user_readenv=1", true),
            ("auth required pam_env.so user_readenv=1", true),
            ("account required pam_env.so user_readenv=1", false),
            ("session required pam_env.so user_readenv=yes", false),
            ("session required pam_other.so user_readenv=1", false),
        ] {
            let (_dir, folders) = given(&[("other", line)]);
            assert_eq!(stack_in(&folders, "sshd").unwrap().user_environment().count() == 1, on, "{line}");
        }
    }

    #[test]
    fn files_that_include_one_another_end_and_none_is_none() {
        let (_dir, folders) = given(&[("a", "@include b\n"), ("b", "@include a\n")]);
        assert_eq!(stack_in(&folders, "a").unwrap_err().kind, Kind::BadData);
        assert_eq!(stack_in(&folders, "c").unwrap_err().kind, Kind::NotFound);
    }
}
