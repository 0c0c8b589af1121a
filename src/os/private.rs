//! A file that sshd made for this login alone, opened without trusting its name.

use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat};

use super::trusted::read_up_to;
use crate::error::{Error, Kind, Result};

/// The content of a file that must be regular, belong to `uid`, have mode 0600 and one name, and hold at most `max` bytes.
/// Nothing that the name may point at can block, be followed, or be read beyond `max`.
///
/// # Errors
/// [`Kind::Denied`], saying what is odd about it. Whatever is odd, the answer is the same: this is no evidence.
pub fn read(path: &Path, uid: u32, max: u64) -> Result<Vec<u8>> {
    let odd = |what: &str| Error::new(Kind::Denied, format!("the file named by SSH_USER_AUTH {what}"));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| odd(&format!("cannot be opened (errno {})", errno.raw_os_error())))?;
    let stat = fstat(&fd).map_err(|_| odd("cannot be looked at"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(odd("is not a regular file"));
    }
    if stat.st_uid != uid {
        return Err(odd("belongs to another user"));
    }
    if stat.st_mode & 0o7777 != 0o600 {
        return Err(odd(&format!("has mode {:04o}, sshd makes it 0600", stat.st_mode & 0o7777)));
    }
    if stat.st_nlink != 1 {
        return Err(odd("has more than one name"));
    }
    let bytes = read_up_to(&fd, max.saturating_add(1)).map_err(|_| odd("cannot be read"))?;
    if bytes.len() as u64 > max {
        return Err(odd(&format!("is larger than {max} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Case {
        dir: tempfile::TempDir,
        uid: u32,
    }

    impl Case {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), uid: rustix::process::geteuid().as_raw() }
        }
        fn file(&self, name: &str, content: &[u8], mode: u32) -> std::path::PathBuf {
            let path = self.dir.path().join(name);
            let _earlier = fs::remove_file(&path);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }
        fn refusal(&self, path: &Path) -> String {
            let error = read(path, self.uid, 100).unwrap_err();
            assert_eq!(error.kind, Kind::Denied);
            error.message
        }
    }

    #[test]
    fn a_file_as_sshd_makes_it_is_read() {
        let case = Case::new();
        assert_eq!(read(&case.file("a", b"password\n", 0o600), case.uid, 9).unwrap(), b"password\n");
    }

    #[test]
    fn another_owner_is_refused() {
        let case = Case::new();
        let path = case.file("a", b"x", 0o600);
        assert!(read(&path, case.uid + 1, 100).unwrap_err().message.contains("belongs to another user"));
    }

    #[test]
    fn every_other_mode_is_refused() {
        let case = Case::new();
        for mode in [0o644, 0o660, 0o700, 0o400, 0o4600] {
            assert!(case.refusal(&case.file("a", b"x", mode)).contains("mode"), "{mode:o}");
        }
    }

    #[test]
    fn a_second_name_is_refused() {
        let case = Case::new();
        let path = case.file("a", b"x", 0o600);
        fs::hard_link(&path, case.dir.path().join("b")).unwrap();
        assert!(case.refusal(&path).contains("more than one name"));
    }

    #[test]
    fn symlink_fifo_folder_device_and_nothing_are_refused_without_waiting() {
        let case = Case::new();
        let path = case.file("a", b"x", 0o600);
        let link = case.dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(case.refusal(&link).contains("cannot be opened"));
        let fifo = case.dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(case.refusal(&fifo).contains("not a regular file"));
        assert!(case.refusal(case.dir.path()).contains("not a regular file"));
        assert!(case.refusal(Path::new("/dev/zero")).contains("not a regular file"));
        assert!(case.refusal(&case.dir.path().join("missing")).contains("cannot be opened"));
    }

    #[test]
    fn one_byte_too_many_is_refused_and_a_sparse_gigabyte_too() {
        let case = Case::new();
        assert_eq!(read(&case.file("a", &[b'x'; 100], 0o600), case.uid, 100).unwrap().len(), 100);
        assert!(case.refusal(&case.file("b", &[b'x'; 101], 0o600)).contains("larger"));
        let big = case.file("c", b"", 0o600);
        fs::OpenOptions::new().write(true).open(&big).unwrap().set_len(1 << 30).unwrap();
        assert!(case.refusal(&big).contains("larger"));
    }
}
