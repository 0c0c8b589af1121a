//! Large sets of policies and principals: kept as found out once, and never believed when stale, damaged or somebody else's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Account, Rex, Run, is_root};
use rexsh::identity::Principals;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

/// `count` principals u0, u1 …, without those that `leave_out` names.
fn people(count: u32, leave_out: &[u32]) -> String {
    let mut text = "default = \"refuse\"\n".to_owned();
    for number in (0..count).filter(|number| !leave_out.contains(number)) {
        let _ = write!(text, "[[principal]]\nname = \"u{number}\"\ngroups = [\"g{}\"]\n", number % 50);
    }
    text
}

fn policies(count: u32) -> String {
    let mut text = String::new();
    for number in 0..count {
        let _ = writeln!(
            text,
            "@id(\"p{number}\") permit(principal == User::\"u{number}\", action == file_system::Action::\"read\", resource == file_system::File::\"{{data}}/f{number}\");"
        );
    }
    text
}

fn host(principals: &str) -> Rex {
    Rex::new()
        .config("identity = [\"argument\"]\n")
        .principals(principals)
        .policy(&policies(2000))
        .file("f7", "seven")
        .file("f8", "eight")
        .own_program()
}

fn read(rex: &Rex, account: Option<&Account>, who: &str, file: &str) -> Run {
    rex.session(account, &["--principal", who], Some(&format!("rex -e 'cat(\"{}\")'", rex.path(file))), "")
}

/// The entry of the cache that begins so.
fn entry(rex: &Rex, kind: &str) -> PathBuf {
    let mut found = fs::read_dir(rex.root().join("etc/cache")).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(kind)).expect("an entry of the cache")
}

#[test]
fn thousands_of_principals_and_policies_each_with_their_own() {
    if !is_root() {
        return;
    }
    let account = Account::new();
    let rex = host(&people(3000, &[])).account(&account);
    fs::set_permissions(rex.data(), fs::Permissions::from_mode(0o755)).unwrap();
    // The first of root's makes the cache, which sessions of accounts then use.
    for (who, round) in [(None, 1), (None, 2), (Some(&account), 3)] {
        let allowed = read(&rex, who, "u7", "f7");
        assert_eq!((allowed.code, allowed.stdout.trim()), (0, "seven"), "round {round}: {}", allowed.stderr);
        read(&rex, who, "u7", "f8").ends(77);
        read(&rex, who, "u8", "f7").ends(77);
        read(&rex, who, "nobody-here", "f7").ends(77);
    }
    entry(&rex, "principals-");
    entry(&rex, "policies-");
}

#[test]
fn who_is_taken_out_is_out_at_once() {
    if !is_root() {
        return;
    }
    let rex = host(&people(3000, &[]));
    read(&rex, None, "u7", "f7").ends(0);
    fs::write(rex.root().join("etc/principals.toml"), people(3000, &[7])).unwrap();
    read(&rex, None, "u7", "f7").ends(77);
    read(&rex, None, "u8", "f8").ends(0);
    // And back: the entry of the first text still holds for the first text.
    fs::write(rex.root().join("etc/principals.toml"), people(3000, &[])).unwrap();
    read(&rex, None, "u7", "f7").ends(0);
}

#[test]
fn a_damaged_entry_is_as_good_as_none() {
    if !is_root() {
        return;
    }
    let rex = host(&people(3000, &[7]));
    read(&rex, None, "u8", "f8").ends(0);
    for kind in ["principals-", "policies-"] {
        let path = entry(&rex, kind);
        let whole = fs::read(&path).unwrap();
        for damaged in [Vec::new(), whole[..whole.len() / 2].to_vec(), [&whole[..], b"x"].concat(), b"nonsense".repeat(1000)] {
            fs::write(&path, damaged).unwrap();
            read(&rex, None, "u8", "f8").ends(0);
            read(&rex, None, "u7", "f7").ends(77);
        }
    }
}

#[test]
fn an_entry_that_somebody_else_could_have_written_is_not_believed() {
    if !is_root() {
        return;
    }
    let account = Account::new();
    let rex = host(&people(3000, &[7]));
    read(&rex, None, "u7", "f7").ends(77);
    let path = entry(&rex, "principals-");
    let genuine = fs::read(&path).unwrap();
    let start = genuine.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let key: [u8; 32] = genuine[start..start + 32].try_into().unwrap();
    // What somebody would write who can: the right key, and themselves in it.
    let forged = Principals::parse(&people(3000, &[]), "forged").unwrap().pack(&key);
    let put = |owner: u32, mode: u32| {
        fs::write(&path, &forged).unwrap();
        chown(&path, Some(owner), None).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    put(account.uid, 0o644);
    read(&rex, None, "u7", "f7").ends(77);
    put(0, 0o666);
    read(&rex, None, "u7", "f7").ends(77);
    // The folder counts too.
    put(0, 0o644);
    let folder = rex.root().join("etc/cache");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    read(&rex, None, "u7", "f7").ends(77);
    // So it is these checks that keep it out: as root's own it would be believed.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    put(0, 0o644);
    read(&rex, None, "u7", "f7").ends(0);
}
