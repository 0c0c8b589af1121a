//! Databases of dpkg and apk as they lie on hosts, made by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use std::fs;

fn go() -> Result<()> {
    Ok(())
}

fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    root
}

const STATUS: &str = "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21\n\n\
Package: tool\nEssential: yes\nStatus: hold ok installed\nInstalled-Size: 12\nSource: tools (2.0)\nArchitecture: amd64\nVersion: 2.0-1\n\
Depends: libc6 (>= 2.36),  libz1 | libz2\nConffiles:\n /etc/tool.conf 0123456789abcdef0123456789abcdef\n /etc/old 0123456789abcdef0123456789abcdef obsolete\n\
Description: a tool\n Does things.\n .\n And more.\n\n\
Package: libx\nStatus: install ok installed\nArchitecture: i386\nVersion: 1\n\n\
Package: libx\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2\n\n\
Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n\n\
Package: never\nStatus: unknown ok not-installed\n";

fn dpkg() -> tempfile::TempDir {
    host(&[
        ("var/lib/dpkg/status", STATUS),
        ("var/lib/dpkg/info/tool.list", "/.\n/usr\n/usr/bin\n/usr/bin/tool\n/bin/t\n/etc/tool.conf\n"),
        ("var/lib/dpkg/info/libx:amd64.list", "/.\n/usr\n/usr/lib/libx.so\n"),
        ("var/lib/dpkg/info/libx:i386.list", "/.\n/usr\n/usr/lib/i386/libx.so\n"),
        (
            "var/lib/dpkg/info/tool.md5sums",
            "00000000000000000000000000000001  usr/bin/tool\n00000000000000000000000000000002  usr/share/two words\n",
        ),
        ("var/lib/dpkg/diversions", "/usr/bin/tool\n/usr/bin/tool.real\nother\n"),
        ("var/lib/dpkg/info/other.list", "/.\n/usr/bin/tool\n"),
        (
            "var/lib/apt/extended_states",
            "Package: libx\nArchitecture: amd64\nAuto-Installed: 1\n\nPackage: tool\nArchitecture: amd64\nAuto-Installed: 0\n",
        ),
    ])
}

#[test]
fn the_status_of_dpkg_is_read_as_dpkg_reads_it() {
    let root = dpkg();
    let packages = Packages::below(root.path(), &go).unwrap();
    assert_eq!(packages.manager(), Manager::Dpkg);
    let names: Vec<&str> = packages.all().iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["dpkg", "tool", "libx", "libx", "gone"]);
    let tool = &packages.all()[1];
    assert!(tool.held && tool.essential && tool.automatic == Some(false) && packages.all()[2].automatic == Some(true));
    assert_eq!((tool.bytes, tool.source.as_str(), tool.summary.as_str()), (Some(12 * 1024), "tools", "a tool"));
    assert_eq!(tool.description, "Does things.\n\nAnd more.");
    assert_eq!(tool.relations, [("depends", vec!["libc6 (>= 2.36)".to_owned(), "libz1 | libz2".to_owned()])]);
    assert_eq!(tool.conffiles.len(), 1);
    assert_eq!(packages.all()[4].status, "config-files");
}

#[test]
fn of_several_architectures_the_hosts_own_is_meant_unless_another_is_named() {
    let root = dpkg();
    let one = |name: &str| Packages::below(root.path(), &go).unwrap().one(&Package::of(name).unwrap());
    assert_eq!(one("libx").unwrap().about().unwrap().version, "2");
    assert_eq!(one("libx:i386").unwrap().about().unwrap().version, "1");
    assert_eq!(one("libx:i386").unwrap().files().unwrap(), [b"/usr".to_vec(), b"/usr/lib/i386/libx.so".to_vec()]);
    assert_eq!(one("libx:arm64").unwrap_err().kind, Kind::NotFound);
    assert_eq!(one("never").unwrap_err().kind, Kind::NotFound);
}

#[test]
fn files_that_are_put_aside_are_found_where_they_are() {
    let root = dpkg();
    let packages = Packages::below(root.path(), &go).unwrap();
    let owners = |path: &str| -> Vec<String> { packages.owners(path.as_bytes(), &go).unwrap().into_iter().map(|(name, _)| name).collect() };
    assert_eq!(owners("/usr/bin/tool"), ["other"]);
    assert_eq!(owners("/usr/bin/tool.real"), ["tool"]);
    assert_eq!(owners("/usr/bin/t"), ["tool"]);
    assert_eq!(owners("/usr"), ["libx", "libx", "tool"]);
    assert!(owners("/nowhere").is_empty());
    let tool = Packages::below(root.path(), &go).unwrap().one(&Package::of("tool").unwrap()).unwrap();
    let digests = tool.digests().unwrap();
    let paths: Vec<String> = digests.iter().map(|digest| text(&digest.path)).collect();
    assert_eq!(paths, ["/usr/bin/tool.real", "/usr/share/two words", "/etc/tool.conf"]);
    assert_eq!(digests.iter().map(|digest| digest.conffile).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn newer_versions_come_from_the_lists_of_the_sources_however_they_are_packed() {
    let list = "Package: tool\nArchitecture: amd64\nVersion: 2.0-2\n\nPackage: libx\nArchitecture: amd64\nVersion: 1.9\n\nPackage: libx\nArchitecture: i386\nVersion: 1:0\n";
    let root = dpkg();
    let packages = Packages::below(root.path(), &go).unwrap();
    assert_eq!(packages.upgradable(&go).unwrap_err().kind, Kind::Unsupported);
    let lists = root.path().join("var/lib/apt/lists");
    fs::create_dir_all(&lists).unwrap();
    let gz = || {
        use std::io::Write as _;
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(list.as_bytes()).unwrap();
        packer.finish().unwrap()
    };
    // A frame of one block that is stored as it is; real ones are in tests/packages.rs.
    let lz4 = || {
        let mut frame = [MAGIC_OF_LZ4.to_vec(), vec![0x40, 0x40, 0]].concat();
        frame.extend((list.len() as u32 | 0x8000_0000).to_le_bytes());
        frame.extend(list.as_bytes());
        frame.extend([0; 4]);
        frame
    };
    for (name, bytes) in [("a_Packages", list.as_bytes().to_vec()), ("a_Packages.gz", gz()), ("a_Packages.lz4", lz4())] {
        fs::write(lists.join(name), bytes).unwrap();
        assert_eq!(packages.upgradable(&go).unwrap(), [(1, "2.0-2".to_owned()), (2, "1:0".to_owned())], "{name}");
        fs::remove_file(lists.join(name)).unwrap();
    }
    fs::write(lists.join("a_Packages.lz4"), &lz4()[..40]).unwrap();
    assert_eq!(packages.upgradable(&go).unwrap_err().kind, Kind::BadData);
}

const MAGIC_OF_LZ4: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// As an Alpine host has it.
const APK: &str = "C:Q1pnRnSFYRmRxj5UBEbIfDvzzVOVk=\nP:musl\nV:1.2.5-r0\nA:x86_64\nS:402154\nI:667648\nT:the musl c library (libc) implementation\n\
U:https://musl.libc.org/\nL:MIT\no:musl\nm:Timo <t@example.com>\nt:1709313541\nc:12345\np:so:libc.musl-x86_64.so.1=1\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\n\
Z:Q1/kOHKPe4APpWrNqqVBSUqKDDHv4=\nR:libc.musl-x86_64.so.1\na:0:0:777\nZ:Q17yJ3JFNypA4mxhJJr0ou6CzsJVI=\n\n\
P:busybox\nV:1.36\nA:x86_64\nI:100\nT:small tools\no:busybox-tools\nD:so:libc.musl-x86_64.so.1 !uutils\nF:\nF:bin\nR:busybox\nZ:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nF:etc\nR:securetty\nZ:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

#[test]
fn the_database_of_apk_is_read_too() {
    let root = host(&[("lib/apk/db/installed", APK)]);
    let packages = Packages::below(root.path(), &go).unwrap();
    assert_eq!(packages.manager(), Manager::Apk);
    let (musl, busybox) = (&packages.all()[0], &packages.all()[1]);
    assert_eq!((musl.name.as_str(), musl.version.as_str(), musl.bytes, musl.source.as_str()), ("musl", "1.2.5-r0", Some(667_648), ""));
    assert_eq!((busybox.source.as_str(), busybox.automatic), ("busybox-tools", None));
    assert_eq!(busybox.relations[0], ("depends", vec!["so:libc.musl-x86_64.so.1".to_owned()]));
    assert_eq!(busybox.relations[1], ("conflicts", vec!["uutils".to_owned()]));
    assert_eq!(packages.owners(b"/bin/busybox", &go).unwrap(), [("busybox".to_owned(), "x86_64".to_owned())]);
    assert_eq!(packages.steps(&go).unwrap_err().kind, Kind::Unsupported);
    assert_eq!(packages.upgradable(&go).unwrap_err().kind, Kind::Unsupported);
    let busybox = packages.one(&Package::of("busybox").unwrap()).unwrap();
    assert_eq!(busybox.files().unwrap(), [b"/bin".to_vec(), b"/bin/busybox".to_vec(), b"/etc".to_vec(), b"/etc/securetty".to_vec()]);
    let digests = busybox.digests().unwrap();
    assert_eq!(digests.len(), 2);
    assert_eq!((digests[0].digest.as_str(), digests[0].conffile, digests[1].conffile), ("0".repeat(40).as_str(), false, true));
}

#[test]
fn a_host_of_another_package_manager_says_so() {
    for (files, says) in [(vec![("var/lib/rpm/rpmdb.sqlite", "x")], "rpm"), (vec![("etc/x", "")], "no database")] {
        let error = Packages::below(host(&files).path(), &go).unwrap_err();
        assert!(error.kind == Kind::Unsupported && error.message.contains(says), "{error}");
    }
}

#[test]
fn a_link_in_the_place_of_a_list_is_not_followed() {
    let root = dpkg();
    let list = root.path().join("var/lib/dpkg/info/tool.list");
    fs::remove_file(&list).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &list).unwrap();
    let tool = Packages::below(root.path(), &go).unwrap().one(&Package::of("tool").unwrap()).unwrap();
    assert!(tool.files().unwrap().is_empty());
}
