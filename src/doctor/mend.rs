//! `rex doctor --fix`: the few mends that cannot lock anybody out. Each is shown; a file that is changed is kept as it was beside it. sshd is not touched.

use super::owners::{cache_of, shared_folders};
use super::survey::{GROUP, Survey};
use super::{Finding, Report};
use crate::error::{Error, Kind, Result};
use crate::os::{facts, replace, rights, shared};
use std::path::{Path, PathBuf};

/// Mends what a finding is about; gives a line, or a difference, for each change.
pub type Fix = fn(&Survey, &Finding) -> Result<Vec<String>>;

/// Largest file that is changed.
const MAX_FILE: u64 = 1 << 18;
/// What a changed file is kept as.
const SAVED: &str = ".rex-saved";

/// Mends everything that can be mended; gives what was done, and what could not be.
#[must_use]
pub fn all(survey: &Survey, report: &Report) -> (Vec<String>, Vec<String>) {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for finding in &report.findings {
        let Some(fix) = finding.check.fix else { continue };
        match fix(survey, finding) {
            Ok(lines) => {
                lines.into_iter().filter(|line| !done.contains(line)).collect::<Vec<_>>().into_iter().for_each(|line| done.push(line))
            }
            Err(error) => failed.push(format!("{}: {}", finding.check.id, super::survey::with_hint(&error))),
        }
    }
    (done, failed)
}

fn place(finding: &Finding) -> Result<PathBuf> {
    let place = finding.place.as_deref().ok_or_else(|| Error::new(Kind::Internal, "a finding without a place"))?;
    Ok(PathBuf::from(place))
}

/// Whether a path is rex's own: below the folder of a rex.toml, or in its cache. Folders above those are the owner's business.
fn is_own(survey: &Survey, path: &Path) -> bool {
    survey.owners.iter().any(|owners| {
        let folder = owners.files.folder();
        // `/` and the like are no folder of rex's.
        folder.components().count() > 2 && path.starts_with(&folder) || path.starts_with(cache_of(owners))
    })
}

/// Owner root, and nobody else writes.
pub(super) fn ownership(survey: &Survey, finding: &Finding) -> Result<Vec<String>> {
    let path = place(finding)?;
    if !is_own(survey, &path) {
        return Err(Error::new(Kind::Unsupported, "it is not rex's own; mend it yourself").with_path(path.display().to_string()));
    }
    rights::owned(&path, 0, None, |mode| mode & !0o022)
}

/// The folders of tmpfiles.d.
pub(super) fn run_folders(survey: &Survey, finding: &Finding) -> Result<Vec<String>> {
    let path = place(finding)?;
    let wanted = survey.owners.iter().flat_map(shared_folders).find(|(folder, _)| *folder == path);
    let (Some((folder, mode)), Some(group)) = (wanted, survey.accounts.group(GROUP)) else {
        return Err(Error::new(Kind::NotFound, format!("there is no group {GROUP}")));
    };
    if facts::of_link(&folder)?.is_none() {
        shared::make(&folder, mode, Some(group.gid))
            .map_err(|errno| Error::os("make", errno.raw_os_error()).with_path(path.display().to_string()))?;
        return Ok(vec![format!("{}: made, root:{GROUP}, mode {mode:04o}", folder.display())]);
    }
    rights::owned(&folder, 0, Some(group.gid), |_| mode)
}

/// The folder of the file of records, for the group; and the file.
pub(super) fn audit_folder(survey: &Survey, finding: &Finding) -> Result<Vec<String>> {
    let path = place(finding)?;
    let group = survey.accounts.group(GROUP).ok_or_else(|| Error::new(Kind::NotFound, format!("there is no group {GROUP}")))?;
    let member = finding.account.as_ref().is_some_and(|name| {
        survey.subjects.iter().any(|subject| subject.user.name == *name && subject.groups.iter().any(|of| of == GROUP))
    });
    if !member {
        return Err(Error::new(Kind::Unsupported, format!("the account is not in the group {GROUP}, which writes the records")));
    }
    let files = survey.owners.iter().filter_map(|owners| {
        let config = owners.config.as_ref().ok()?;
        (!config.audit.file.is_empty()).then(|| config.beside(&config.audit.file))
    });
    for file in files {
        let Some(folder) = file.parent() else { continue };
        if path == file || path == folder {
            // /var/log and the like hold more than rex's records.
            if folder.components().count() < 4 {
                return Err(Error::new(Kind::Unsupported, "the folder is not rex's own; give the records one")
                    .with_path(folder.display().to_string()));
            }
            let mut done = if facts::of_link(folder)?.is_none() {
                shared::make(folder, 0o2770, Some(group.gid))
                    .map_err(|errno| Error::os("make", errno.raw_os_error()).with_path(folder.display().to_string()))?;
                vec![format!("{}: made, root:{GROUP}, mode 2770", folder.display())]
            } else {
                rights::owned(folder, 0, Some(group.gid), |_| 0o2770)?
            };
            if facts::of_link(&file)?.is_some() {
                done.extend(rights::owned(&file, facts::of_link(&file)?.map_or(0, |facts| facts.uid), Some(group.gid), |_| 0o660)?);
            }
            return Ok(done);
        }
    }
    Err(Error::new(Kind::Unsupported, "it is not the folder of the records; mend it yourself").with_path(path.display().to_string()))
}

/// No rights for others on the file of records.
pub(super) fn audit_modes(_: &Survey, finding: &Finding) -> Result<Vec<String>> {
    let path = place(finding)?;
    let owner = facts::of_link(&path)?.map_or(0, |facts| facts.uid);
    rights::owned(&path, owner, None, |mode| mode & !0o007)
}

/// `user_readenv=0` in the line that is named.
pub(super) fn pam_environment(_: &Survey, finding: &Finding) -> Result<Vec<String>> {
    let wrong = || Error::new(Kind::Internal, "a finding without a line");
    let (file, number) = finding.place.as_deref().and_then(|place| place.rsplit_once(':')).ok_or_else(wrong)?;
    let number: usize = number.parse().map_err(|_| wrong())?;
    let path = Path::new(file);
    let old = facts::text(path, MAX_FILE)?.ok_or_else(|| Error::new(Kind::NotFound, "there is no such file").with_path(file))?;
    let new: String = old
        .split_inclusive('\n')
        .enumerate()
        .map(|(at, line)| if at + 1 == number { switched_off(line) } else { line.to_owned() })
        .collect();
    if new == old {
        return Err(Error::new(Kind::Unsupported, "the line goes over several lines of text; mend it yourself").with_path(file));
    }
    let saved = PathBuf::from(format!("{file}{SAVED}"));
    if facts::of_link(&saved)?.is_none() {
        crate::os::trusted::NewFile::create(&saved)?.fill(&old)?;
    }
    replace::replace(path, old.as_bytes(), new.as_bytes())?;
    Ok(vec![difference(file, &old, &new)])
}

/// Every `user_readenv=` of a line at 0.
fn switched_off(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("user_readenv=") {
        let (before, after) = rest.split_at(at + "user_readenv=".len());
        out.push_str(before);
        out.push('0');
        rest = after.trim_start_matches(|c: char| !c.is_whitespace());
    }
    out.push_str(rest);
    out
}

/// As `diff -u` prints it.
fn difference(file: &str, old: &str, new: &str) -> String {
    similar::TextDiff::from_lines(old, new).unified_diff().context_radius(1).header(&format!("{file}{SAVED}"), file).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_is_turned_and_the_rest_of_the_line_stays() {
        let line = "session    required     pam_env.so user_readenv=1 envfile=/etc/default/locale # user_readenv=1\n";
        assert_eq!(switched_off(line), "session    required     pam_env.so user_readenv=0 envfile=/etc/default/locale # user_readenv=0\n");
        assert_eq!(switched_off("nothing\n"), "nothing\n");
        assert!(difference("/f", "a\nb\n", "a\nc\n").contains("-b\n+c\n"));
    }
}
