//! What a path leads to on this host, for the owner who writes policies: links, kind, and who can change it. Nothing is opened to be read.

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// As many links as the kernel itself follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;
const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path without links, dots and doubled slashes, as far as something is there; the rest as it is.
    pub real: String,
    pub exists: bool,
    pub folder: bool,
    /// The first thing on the way that users other than root can change: where what is there can be put or replaced.
    pub open: Option<String>,
}

/// Looks at each component of an absolute path over handles, as path_resolution(7) says. None where the host does not tell, or the path is no UTF-8 text.
#[must_use]
pub fn look(path: &str) -> Option<Place> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut todo: VecDeque<String> = components(path);
    let root = rustix::fs::open("/", PATH_ONLY | OFlags::DIRECTORY, Mode::empty()).ok()?;
    let mut open = others_write(&fstat(&root).ok()?, todo.is_empty()).then(|| "/".to_owned());
    let mut above: Vec<(OwnedFd, String)> = vec![(root, String::new())];
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            if above.len() > 1 {
                above.pop();
            }
            continue;
        }
        let (parent, so_far) = above.last()?;
        let here = format!("{so_far}/{name}");
        let handle = match openat(parent, &name, PATH_ONLY, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => {
                let rest: String = todo.iter().map(|part| format!("/{part}")).collect();
                return Some(Place { real: format!("{here}{rest}"), exists: false, folder: false, open });
            }
            Err(_) => return None,
        };
        let stat = fstat(&handle).ok()?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                let target = readlinkat(&handle, "", Vec::new()).ok()?.into_string().ok()?;
                if target.starts_with('/') {
                    above.truncate(1);
                }
                for part in components(&target).into_iter().rev() {
                    todo.push_front(part);
                }
            }
            FileType::Directory => {
                if open.is_none() && others_write(&stat, todo.is_empty()) {
                    open = Some(here.clone());
                }
                above.push((handle, here));
            }
            _ if todo.is_empty() => {
                if open.is_none() && others_write(&stat, true) {
                    open = Some(here.clone());
                }
                return Some(Place { real: here, exists: true, folder: false, open });
            }
            // A file is no folder: nothing is there.
            _ => {
                let rest: String = todo.iter().map(|part| format!("/{part}")).collect();
                return Some(Place { real: format!("{here}{rest}"), exists: false, folder: false, open });
            }
        }
    }
    let (_, real) = above.pop()?;
    let real = if real.is_empty() { "/".to_owned() } else { real };
    Some(Place { real, exists: true, folder: true, open })
}

/// Whether users other than root can change the thing. In a sticky folder they can make new things, but not replace what is there (unlink(2)).
fn others_write(stat: &Stat, last: bool) -> bool {
    let sticky = stat.st_mode & 0o1000 != 0;
    let bits = stat.st_mode & 0o002 != 0 || stat.st_mode & 0o020 != 0 && stat.st_gid != 0;
    stat.st_uid != 0 || bits && (last || !sticky)
}

fn components(path: &str) -> VecDeque<String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_and_what_is_missing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let root = root.to_str().unwrap();
        std::fs::create_dir(format!("{root}/real")).unwrap();
        std::fs::write(format!("{root}/real/file"), "").unwrap();
        symlink("real", format!("{root}/link")).unwrap();
        symlink("loop", format!("{root}/loop")).unwrap();
        let real = |path: &str| look(&format!("{root}/{path}")).map(|place| (place.real.replace(root, ""), place.exists, place.folder));
        assert_eq!(real("link/file"), Some(("/real/file".into(), true, false)));
        assert_eq!(real("link/../real//./file"), Some(("/real/file".into(), true, false)));
        assert_eq!(real("link"), Some(("/real".into(), true, true)));
        assert_eq!(real("link/gone/deeper"), Some(("/real/gone/deeper".into(), false, false)));
        assert_eq!(real("real/file/deeper"), Some(("/real/file/deeper".into(), false, false)));
        assert_eq!(real("loop"), None);
        assert_eq!(look("relative"), None);
        assert_eq!(look("/").map(|place| (place.real, place.folder)), Some(("/".into(), true)));
    }

    #[test]
    fn a_folder_that_all_can_write_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let open = root.join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        std::fs::write(open.join("tool"), "").unwrap();
        assert!(look(open.join("tool").to_str().unwrap()).unwrap().open.is_some());
    }
}
