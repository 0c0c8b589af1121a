//! Who could have written a file decides whether it is read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

const SERVICE: Trusted = Trusted::new(Owner::RootOrSelf);

/// A folder of mode 0755 below the sticky /tmp, owned by whoever runs the test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        chmod(dir.path(), 0o755);
        Self(dir)
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }
    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        chmod(&path, 0o644);
        chmod(path.parent().unwrap(), 0o755);
        path
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn refusal(trusted: Trusted, path: &Path) -> Error {
    let error = trusted.read(path, 100).unwrap_err();
    assert_eq!(error.kind, Kind::Config, "{error}");
    error
}

#[test]
fn a_file_that_only_its_owner_can_write_is_read() {
    let folder = Folder::new();
    assert_eq!(SERVICE.read(&folder.file("a/b/c", "text"), 4).unwrap(), b"text");
}

#[test]
fn sessions_read_what_root_alone_can_write() {
    let bytes = Trusted::new(Owner::RootOnly).read(Path::new("/etc/passwd"), 1 << 20).unwrap();
    assert!(bytes.starts_with(b"root:"));
}

#[test]
fn sessions_refuse_a_sticky_folder_above_and_services_do_not() {
    let folder = Folder::new();
    let path = folder.file("a", "text");
    assert!(SERVICE.read(&path, 100).is_ok());
    let error = refusal(Trusted::new(Owner::RootOnly), &path);
    assert_eq!(error.path.as_deref(), Some("/tmp"));
    assert!(error.message.contains("1777") && error.hint.unwrap().contains("chmod go-w /tmp"));
}

#[test]
fn a_sticky_folder_is_no_place_for_the_policies_themselves() {
    let folder = Folder::new();
    folder.file("p/a.cedar", "x");
    chmod(&folder.path("p"), 0o1777);
    assert_eq!(SERVICE.read_dir(&folder.path("p"), ".cedar", 100).unwrap_err().kind, Kind::Config);
    chmod(&folder.path("p"), 0o755);
    assert_eq!(SERVICE.read_dir(&folder.path("p"), ".cedar", 100).unwrap().len(), 1);
}

#[test]
fn a_file_or_folder_writable_by_group_or_others_is_refused_with_the_mend() {
    let folder = Folder::new();
    let path = folder.file("a/b", "text");
    for mode in [0o664, 0o646, 0o622] {
        chmod(&path, mode);
        let error = refusal(SERVICE, &path);
        assert_eq!(error.path.as_deref(), path.to_str());
        assert!(error.message.contains(&format!("{mode:04o}")), "{error}");
        assert!(error.hint.unwrap().ends_with(&format!("chmod go-w {}", path.display())));
    }
    chmod(&path, 0o644);
    for mode in [0o775, 0o757, 0o2775] {
        chmod(&folder.path("a"), mode);
        assert_eq!(refusal(SERVICE, &path).path.as_deref(), folder.path("a").to_str());
    }
    chmod(&folder.path("a"), 0o755);
    assert!(SERVICE.read(&path, 100).is_ok());
}

#[test]
fn owners_other_than_those_named_are_refused() {
    assert_eq!(fault_of_owner(Owner::RootOnly, 0, 1000), None);
    assert!(fault_of_owner(Owner::RootOnly, 1000, 1000).is_some());
    assert_eq!(fault_of_owner(Owner::RootOrSelf, 1000, 1000), None);
    assert_eq!(fault_of_owner(Owner::RootOrSelf, 0, 1000), None);
    assert!(fault_of_owner(Owner::RootOrSelf, 1001, 1000).is_some());
    assert_eq!(fault_of_owner(Owner::Unchecked, 1001, 1000), None);
}

#[test]
fn a_foreign_owner_on_the_disk_is_refused_file_folder_and_link() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give files away; the rule itself is tested above.
    }
    let folder = Folder::new();
    let path = folder.file("a/b", "text");
    symlink(&path, folder.path("link")).unwrap();
    assert!(SERVICE.read(&folder.path("link"), 100).is_ok());
    for (name, asked) in [("a/b", "a/b"), ("a", "a/b"), ("link", "link")] {
        std::os::unix::fs::lchown(folder.path(name), Some(12345), None).unwrap();
        let error = refusal(SERVICE, &folder.path(asked));
        assert_eq!(error.path.as_deref(), folder.path(name).to_str());
        assert!(error.message.contains("12345") && error.hint.unwrap().starts_with("chown"));
        std::os::unix::fs::lchown(folder.path(name), Some(0), None).unwrap();
    }
    assert!(SERVICE.read(&folder.path("link"), 100).is_ok());
}

#[test]
fn an_access_control_list_that_grants_writing_is_refused() {
    let folder = Folder::new();
    let path = folder.file("a", "text");
    // linux/posix_acl_xattr.h: version 2, then (tag, permissions, id) each: owner rw, user 1234 rw, group r, mask rw, others r.
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [(1_u16, 6_u16, u32::MAX), (2, 6, 1234), (4, 4, u32::MAX), (0x10, 6, u32::MAX), (0x20, 4, u32::MAX)] {
        acl.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    match rustix::fs::setxattr(&path, "system.posix_acl_access", &acl, rustix::fs::XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP) => return, // A filesystem without ACLs cannot have this attack either.
        other => other.unwrap(),
    }
    let error = refusal(SERVICE, &path);
    assert!(error.message.contains("access control list") && error.hint.unwrap().starts_with("setfacl -b"));
}

#[test]
fn the_target_of_a_symlink_is_judged_like_a_file() {
    let folder = Folder::new();
    let target = folder.file("there/file", "text");
    symlink("there", folder.path("relative")).unwrap();
    symlink(folder.path("there"), folder.path("absolute")).unwrap();
    symlink("../x/../relative/./file", folder.path("there/up")).unwrap();
    folder.file("x/y", "");
    for name in ["relative/file", "absolute/file", "there/up", "relative/../there/file"] {
        assert_eq!(SERVICE.read(&folder.path(name), 100).unwrap(), b"text", "{name}");
    }
    chmod(&target, 0o666);
    for name in ["relative/file", "absolute/file", "there/up"] {
        assert_eq!(refusal(SERVICE, &folder.path(name)).path.as_deref(), target.to_str());
    }
    chmod(&target, 0o644);
    chmod(&folder.path("there"), 0o777);
    for name in ["relative/file", "absolute/file", "there/up"] {
        assert_eq!(refusal(SERVICE, &folder.path(name)).path.as_deref(), folder.path("there").to_str());
    }
}

#[test]
fn a_loop_of_symlinks_ends() {
    let folder = Folder::new();
    symlink("b", folder.path("a")).unwrap();
    symlink("a", folder.path("b")).unwrap();
    assert!(refusal(SERVICE, &folder.path("a")).message.contains("40 symlinks"));
}

#[test]
fn fifo_folder_device_and_socket_are_refused_without_waiting() {
    let folder = Folder::new();
    let fifo = folder.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let socket = folder.path("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for rule in [SERVICE, Trusted::new(Owner::Unchecked)] {
        assert!(refusal(rule, &fifo).message.contains("FIFO"));
        assert!(refusal(rule, &socket).message.contains("socket"));
        assert!(refusal(rule, &folder.path(".")).message.contains("folder"));
        assert!(refusal(rule, Path::new("/dev/null")).message.contains("device"));
    }
    assert!(refusal(SERVICE, Path::new("/")).message.contains("folder"));
}

#[test]
fn what_is_missing_is_not_found_and_a_file_is_no_folder() {
    let folder = Folder::new();
    folder.file("a", "");
    for rule in [SERVICE, Trusted::new(Owner::Unchecked)] {
        assert_eq!(rule.read(&folder.path("none"), 1).unwrap_err().kind, Kind::NotFound);
        assert_eq!(rule.read(&folder.path("none/x"), 1).unwrap_err().kind, Kind::NotFound);
        for error in [rule.read(&folder.path("a/x"), 1).unwrap_err(), rule.read_dir(&folder.path("a"), "", 1).unwrap_err()] {
            assert_eq!((error.kind, error.errno), (Kind::Config, Some(libc::ENOTDIR)));
        }
    }
}

#[test]
fn a_relative_path_is_refused_where_it_must_be_checked() {
    assert!(refusal(SERVICE, Path::new("etc/passwd")).message.contains("relative"));
}

#[test]
fn exactly_the_size_limit_is_read_and_one_byte_more_is_refused() {
    let folder = Folder::new();
    assert_eq!(SERVICE.read(&folder.file("a", "1234"), 4).unwrap().len(), 4);
    let error = SERVICE.read(&folder.path("a"), 3).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (Kind::Config, "larger than 3 bytes"));
}

#[test]
fn a_folder_gives_its_files_sorted_without_hidden_ones_and_other_suffixes() {
    let folder = Folder::new();
    for name in ["p/b.cedar", "p/a.cedar", "p/c.txt", "p/.#a.cedar", "p/d.cedar~"] {
        folder.file(name, name);
    }
    for rule in [SERVICE, Trusted::new(Owner::Unchecked)] {
        let files = rule.read_dir(&folder.path("p"), ".cedar", 100).unwrap();
        let names: Vec<_> = files.iter().map(|(path, bytes)| (path.file_name().unwrap().to_str().unwrap(), bytes.as_slice())).collect();
        assert_eq!(names, [("a.cedar", b"p/a.cedar".as_slice()), ("b.cedar", b"p/b.cedar")]);
    }
    chmod(&folder.path("p/b.cedar"), 0o666);
    assert_eq!(SERVICE.read_dir(&folder.path("p"), ".cedar", 100).unwrap_err().kind, Kind::Config);
    chmod(&folder.path("p/b.cedar"), 0o644);
    fs::create_dir(folder.path("p/x.cedar")).unwrap();
    assert!(SERVICE.read_dir(&folder.path("p"), ".cedar", 100).unwrap_err().message.contains("folder"));
}

#[test]
fn the_operators_own_file_is_read_whoever_can_write_it() {
    let folder = Folder::new();
    let path = folder.file("a", "text");
    chmod(&path, 0o666);
    assert_eq!(Trusted::new(Owner::Unchecked).read(&path, 100).unwrap(), b"text");
    assert_eq!(refusal(SERVICE, &path).kind, Kind::Config);
}
