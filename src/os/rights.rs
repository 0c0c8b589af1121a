//! Owner, group and mode of one thing set for the host's owner, through a handle that is no link.

use crate::error::{Error, Kind, Result};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fstat};
use std::path::Path;

/// Sets the owner, the group where one is given, and the mode that `mode` makes of the present one. Gives a line about it; none where all was so already.
///
/// # Errors
/// [`Kind::Unsupported`] for links and for what is neither file nor folder, or has a second name; the system's own.
pub fn owned(path: &Path, uid: u32, gid: Option<u32>, mode: impl Fn(u32) -> u32) -> Result<Vec<String>> {
    let failed =
        |what: &'static str| move |errno: rustix::io::Errno| Error::os(what, errno.raw_os_error()).with_path(path.display().to_string());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(path, flags, Mode::empty()).map_err(failed("open"))?;
    let stat = fstat(&handle).map_err(failed("look at"))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    // A second name of a file could be one of somebody else's choice.
    if kind != FileType::Directory && (kind != FileType::RegularFile || stat.st_nlink > 1) {
        return Err(Error::new(Kind::Unsupported, "it is no folder and no file with one name; mend it yourself")
            .with_path(path.display().to_string()));
    }
    let (old, new) = (stat.st_mode & 0o7777, mode(stat.st_mode & 0o7777));
    let group = gid.unwrap_or(stat.st_gid);
    if (stat.st_uid, stat.st_gid, old) == (uid, group, new) {
        return Ok(Vec::new());
    }
    if (stat.st_uid, stat.st_gid) != (uid, group) {
        rustix::fs::fchown(&handle, Some(Uid::from_raw(uid)), Some(Gid::from_raw(group))).map_err(failed("change the owner of"))?;
    }
    // Also where it is the same: a change of owner takes set-group-id away.
    rustix::fs::fchmod(&handle, Mode::from_raw_mode(new)).map_err(failed("change the mode of"))?;
    Ok(vec![format!("{}: owner {} to {uid}, group {} to {group}, mode {old:04o} to {new:04o}", path.display(), stat.st_uid, stat.st_gid)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn modes_are_set_and_links_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
        let me = rustix::process::geteuid().as_raw();
        assert_eq!(owned(&file, me, None, |mode| mode & !0o022).unwrap().len(), 1);
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o644);
        assert!(owned(&file, me, None, |mode| mode & !0o022).unwrap().is_empty());
        symlink("f", dir.path().join("l")).unwrap();
        assert!(owned(&dir.path().join("l"), me, None, |_| 0o600).is_err());
        std::fs::hard_link(&file, dir.path().join("h")).unwrap();
        assert_eq!(owned(&file, me, None, |_| 0o600).unwrap_err().kind, Kind::Unsupported);
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o644);
    }
}
