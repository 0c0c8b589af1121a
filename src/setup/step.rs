//! The steps of a plan as plain data: what each is, what it would change, doing it and taking it back.

use super::accounts;
use crate::error::{Error, Kind, Result};
use crate::os::install::{self, Rights, Thing};
use crate::os::process::Names;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Ending of what the owner wrote into a file that rex made: it is kept under this name.
pub const SAVED: &str = ".rex-saved";

/// A file as it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    pub text: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// What becomes of a folder's contents when the folder goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contents {
    /// They are somebody's: the folder stays with them.
    Kept,
    /// rex makes them again by itself.
    MadeAgain,
}

/// One change of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Copies the running program.
    Program {
        path: PathBuf,
    },
    Link {
        path: PathBuf,
        target: PathBuf,
    },
    Folder {
        path: PathBuf,
        mode: u32,
        owner: String,
        group: String,
        contents: Contents,
    },
    /// Gives a folder or file that is there another owner and mode.
    Rights {
        path: PathBuf,
        mode: u32,
        owner: String,
        group: String,
        before: (u32, u32, u32),
    },
    /// Makes a file, or changes one. Owner and mode of one that is there stay.
    File {
        path: PathBuf,
        why: String,
        text: String,
        mode: u32,
        owner: String,
        group: String,
        before: Option<Before>,
    },
    Group {
        name: String,
    },
    User {
        name: String,
        home: PathBuf,
        shell: PathBuf,
        groups: Vec<String>,
    },
    Member {
        user: String,
        group: String,
    },
    Shell {
        user: String,
        shell: PathBuf,
        before: PathBuf,
    },
    /// A file that rex makes by itself once it runs, and that goes with the rest.
    Made {
        path: PathBuf,
    },
    /// Enables and starts a unit of systemd.
    Unit {
        name: String,
    },
}

/// What taking a step back came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    Done(String),
    /// There was nothing to take back.
    Nothing,
    /// It stays, or something of it does, for this reason.
    Kept(String),
}

/// A file of root that everybody reads.
#[must_use]
pub fn file(path: impl Into<PathBuf>, why: &str, text: impl Into<String>) -> Step {
    Step::File {
        path: path.into(),
        why: why.to_owned(),
        text: text.into(),
        mode: 0o644,
        owner: "root".to_owned(),
        group: "root".to_owned(),
        before: None,
    }
}

impl Step {
    /// What it does, as a line of the plan.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Program { path } => format!("copy this program to {}", path.display()),
            Self::Link { path, target } => format!("make {} a link to {}", path.display(), target.display()),
            Self::Folder { path, mode, owner, group, .. } => format!("make the folder {} ({owner}:{group}, {mode:04o})", path.display()),
            Self::Rights { path, mode, owner, group, .. } => format!("give {} to {owner}:{group}, {mode:04o}", path.display()),
            Self::File { path, why, before: Some(_), .. } => format!("change {}: {why}", path.display()),
            Self::File { path, why, mode, owner, group, .. } => {
                format!("write {} ({owner}:{group}, {mode:04o}): {why}", path.display())
            }
            Self::Group { name } => format!("make the group `{name}`"),
            Self::User { name, home, shell, groups } => {
                let groups = if groups.is_empty() { String::new() } else { format!(", in {}", groups.join(", ")) };
                format!("make the account `{name}`: no password, shell {}, home {}{groups}", shell.display(), home.display())
            }
            Self::Member { user, group } => format!("put `{user}` into the group `{group}`"),
            Self::Shell { user, shell, before } => {
                format!("make {} the login shell of `{user}` instead of {}", shell.display(), before.display())
            }
            Self::Made { path } => format!("rex makes {} by itself", path.display()),
            Self::Unit { name } => format!("enable and start {name}"),
        }
    }

    /// The difference that it makes to a file, as diff -u writes it.
    #[must_use]
    pub fn diff(&self) -> Option<String> {
        let Self::File { path, text, before, .. } = self else { return None };
        let old = before.as_ref().map_or("", |before| before.text.as_str());
        let from = if before.is_some() { path.display().to_string() } else { "/dev/null".to_owned() };
        let diff = similar::TextDiff::from_lines(old, text.as_str());
        Some(diff.unified_diff().context_radius(3).header(&from, &path.display().to_string()).to_string())
    }

    /// Whether sshd has to read its configuration again after it.
    #[must_use]
    pub fn concerns_sshd(&self) -> bool {
        matches!(self, Self::File { path, .. } if path.starts_with("/etc/ssh"))
    }

    /// Whether systemd has to read its units again after it.
    #[must_use]
    pub fn concerns_systemd(&self) -> bool {
        matches!(self, Self::File { path, .. } if path.starts_with("/etc/systemd"))
    }

    /// Does it.
    ///
    /// # Errors
    /// The system's own, or a tool's; [`Kind::Changed`] when the host is not as it was when the plan was made. Then nothing of it is done.
    pub fn apply(&self) -> Result<()> {
        match self {
            Self::Program { path } => install::copy_program(path, rights(0o755, "root", "root")?),
            Self::Link { path, target } => install::link(path, target),
            Self::Folder { path, mode, owner, group, .. } => install::make_folder(path, rights(*mode, owner, group)?),
            Self::File { path, text, mode, owner, group, before, .. } => {
                let changed = || {
                    Err(Error::new(Kind::Changed, "somebody changed it while the plan was shown; nothing was done to it")
                        .with_path(path.display().to_string()))
                };
                let rights = match (install::look(path)?, before) {
                    (Thing::Nothing, None) => rights(*mode, owner, group)?,
                    (Thing::File(found), Some(before)) if found.content == before.text.as_bytes() => {
                        Rights { mode: found.mode, uid: found.uid, gid: found.gid }
                    }
                    _ => return changed(),
                };
                install::put(path, text.as_bytes(), rights)
            }
            Self::Rights { path, mode, owner, group, .. } => install::give(path, rights(*mode, owner, group)?),
            Self::Group { name } => accounts::add_group(name),
            Self::User { name, home, shell, groups } => accounts::add_user(name, home, shell, groups),
            Self::Member { user, group } => accounts::add_member(user, group),
            Self::Shell { user, shell, .. } => accounts::set_shell(user, shell),
            Self::Made { .. } => Ok(()),
            Self::Unit { name } => accounts::enable(name),
        }
    }

    /// Takes it back, whether it was done, or begun, or not.
    ///
    /// # Errors
    /// The system's own, or a tool's.
    pub fn undo(&self) -> Result<Undone> {
        match self {
            Self::Program { path } => undo_program(path),
            Self::Link { path, target } => match install::look(path)? {
                Thing::Link(now) if now == *target => removed(path, install::remove(path)?),
                Thing::Nothing => Ok(Undone::Nothing),
                _ => Ok(Undone::Kept(format!("{} is not the link that rex made", path.display()))),
            },
            Self::Folder { path, contents, .. } => undo_folder(path, *contents),
            Self::File { path, text, before, .. } => undo_file(path, text, before.as_ref()),
            Self::Rights { path, before: (mode, uid, gid), .. } => {
                let before = Rights { mode: *mode, uid: *uid, gid: *gid };
                match install::look(path) {
                    Ok(Thing::Nothing) => Ok(Undone::Nothing),
                    Ok(Thing::Folder(now)) if now == before => Ok(Undone::Nothing),
                    _ => install::give(path, before).map(|()| Undone::Done(format!("gave {} back its owner and mode", path.display()))),
                }
            }
            Self::Group { name } => accounts::remove_group(name),
            Self::User { name, home, .. } => accounts::remove_user(name, home),
            Self::Member { user, group } => accounts::remove_member(user, group),
            Self::Shell { user, shell, before } => accounts::restore_shell(user, shell, before),
            Self::Made { path } => removed(path, install::remove(path)?),
            Self::Unit { name } => accounts::disable(name),
        }
    }
}

fn rights(mode: u32, owner: &str, group: &str) -> Result<Rights> {
    let names = Names::of_host();
    let unknown = |what: &str, name: &str| Error::new(Kind::NotFound, format!("there is no {what} `{name}` on this host"));
    let uid = if owner == "root" { 0 } else { names.uid_of(owner).ok_or_else(|| unknown("account", owner))? };
    // By number: on some hosts the group of root has another name.
    let gid = if group == "root" { 0 } else { names.gid_of(group).ok_or_else(|| unknown("group", group))? };
    Ok(Rights { mode, uid, gid })
}

fn removed(path: &Path, was_there: bool) -> Result<Undone> {
    Ok(if was_there { Undone::Done(format!("removed {}", path.display())) } else { Undone::Nothing })
}

fn undo_program(path: &Path) -> Result<Undone> {
    install::sweep(path);
    match install::look(path) {
        Ok(Thing::Nothing) => return Ok(Undone::Nothing),
        Ok(Thing::File(_)) => {}
        // A program is larger than what is looked at as a file.
        Err(error) if error.kind == Kind::TooLarge => {}
        _ => return Ok(Undone::Kept(format!("{} is not the program that rex put there", path.display()))),
    }
    // The one that was put there may be this one, running; another one came from somewhere else since, such as a package.
    let same = install::digest(path)? == install::digest(Path::new("/proc/self/exe"))?;
    if same { removed(path, install::remove(path)?) } else { Ok(Undone::Kept(format!("{} is another program by now", path.display()))) }
}

fn undo_folder(path: &Path, contents: Contents) -> Result<Undone> {
    match install::look(path)? {
        Thing::Nothing => return Ok(Undone::Nothing),
        Thing::Folder(rights) if rights.gid == 0 && contents == Contents::Kept => {
            if install::remove_folder(path)? {
                return removed(path, true);
            }
            return Ok(Undone::Kept(format!("{} is not empty", path.display())));
        }
        Thing::Folder(_) => {}
        _ => return Ok(Undone::Kept(format!("{} is no folder any more", path.display()))),
    }
    if contents == Contents::MadeAgain {
        install::remove_made(path)?;
        return removed(path, true);
    }
    if install::remove_folder(path)? {
        return removed(path, true);
    }
    // The group that could use it goes, and the number of it may be another's one day.
    install::give(path, Rights { mode: 0o700, uid: 0, gid: 0 })?;
    Ok(Undone::Kept(format!("{} with what is in it; only root can enter it now", path.display())))
}

fn undo_file(path: &Path, text: &str, before: Option<&Before>) -> Result<Undone> {
    install::sweep(path);
    let found = match install::look(path)? {
        Thing::File(found) => found,
        Thing::Nothing => return Ok(if before.is_some() { gone(path) } else { Undone::Nothing }),
        _ => return Ok(Undone::Kept(format!("{} is no file any more", path.display()))),
    };
    let Some(before) = before else {
        if found.content == text.as_bytes() {
            return removed(path, install::remove(path)?);
        }
        return save(path);
    };
    if found.content == before.text.as_bytes() {
        return Ok(Undone::Nothing);
    }
    let now = String::from_utf8_lossy(&found.content);
    let rights = Rights { mode: found.mode, uid: found.uid, gid: found.gid };
    match taken_back(&now, text, &before.text) {
        Some(restored) => {
            install::put(path, restored.as_bytes(), rights)?;
            Ok(Undone::Done(format!("restored {}", path.display())))
        }
        None => Ok(Undone::Kept(format!("{} was changed since where rex had changed it; it is left as it is now", path.display()))),
    }
}

fn gone(path: &Path) -> Undone {
    Undone::Kept(format!("{} was there before and is gone by now", path.display()))
}

/// What was written into a file of ours since is the owner's.
fn save(path: &Path) -> Result<Undone> {
    let name = path.file_name().unwrap_or_default();
    for number in 0..100 {
        let mut saved = OsString::from(name);
        saved.push(SAVED);
        if number > 0 {
            saved.push(format!(".{number}"));
        }
        match install::rename(path, &saved) {
            Ok(kept) => {
                return Ok(Undone::Kept(format!("{} was changed since; what it holds is kept as {}", path.display(), kept.display())));
            }
            Err(error) if error.kind == Kind::Exists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Undone::Kept(format!("{} was changed since, and there are many copies beside it already", path.display())))
}

/// `now` without the change that made `old` into `new`. Where others changed the file elsewhere meanwhile, their changes stay; `None` where what was
/// changed is not there any more, or not there once.
#[must_use]
pub fn taken_back(now: &str, new: &str, old: &str) -> Option<String> {
    if now == new {
        return Some(old.to_owned());
    }
    let mut text = now.to_owned();
    let diff = similar::TextDiff::from_lines(old, new);
    // From the end, so that what stands above keeps its place.
    for group in diff.grouped_ops(0).iter().rev() {
        let lines = |wanted: similar::ChangeTag| -> String {
            let changes = group.iter().flat_map(|op| diff.iter_changes(op));
            changes.filter(|change| change.tag() == wanted).map(|change| change.to_string_lossy().into_owned()).collect()
        };
        let (inserted, deleted) = (lines(similar::ChangeTag::Insert), lines(similar::ChangeTag::Delete));
        // Only what was there is known by its text; where lines were taken away and none put in, their place is lost.
        let at = whole_lines(&text, &inserted)?;
        text.replace_range(at..at + inserted.len(), &deleted);
    }
    Some(text)
}

/// Where these lines stand, if they do so exactly once.
fn whole_lines(text: &str, lines: &str) -> Option<usize> {
    if lines.is_empty() {
        return None;
    }
    let mut places =
        text.match_indices(lines).map(|(at, _)| at).filter(|at| *at == 0 || text.get(..*at).is_some_and(|above| above.ends_with('\n')));
    match (places.next(), places.next()) {
        (Some(at), None) => Some(at),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_change_is_taken_back_and_later_changes_of_others_stay() {
        let (old, new) = ("a\nb\nc\n", "a\nB\nc\nd\n");
        assert_eq!(taken_back(new, new, old).unwrap(), old);
        assert_eq!(taken_back("0\na\nB\nc\nd\ne\n", new, old).unwrap(), "0\na\nb\nc\ne\n");
        // What was changed is not there any more, or twice.
        assert_eq!(taken_back("a\nX\nc\nd\n", new, old), None);
        assert_eq!(taken_back("a\nB\nc\nd\nB\n", new, old), None);
        // A block at the end of a file without a last line end.
        assert_eq!(taken_back("a\n\n[[x]]\n", "a\n\n[[x]]\n", "a").unwrap(), "a");
    }

    #[test]
    fn a_plan_says_what_it_does_and_shows_the_difference() {
        let step = file("/etc/rex/rex.toml", "settings", "a\n");
        assert_eq!(step.describe(), "write /etc/rex/rex.toml (root:root, 0644): settings");
        assert_eq!(step.diff().unwrap(), "--- /dev/null\n+++ /etc/rex/rex.toml\n@@ -0,0 +1 @@\n+a\n");
        assert!(!step.concerns_sshd() && file("/etc/ssh/sshd_config.d/rex.conf", "x", "").concerns_sshd());
    }
}
