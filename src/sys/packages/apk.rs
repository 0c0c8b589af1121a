//! apk's database, `/lib/apk/db/installed`: a paragraph for each package, a letter and a colon before each value.

use super::{Check, Digest, Installed, Kinds, text};
use crate::error::{Error, Kind, Result};
use base64::Engine as _;

/// The lines of each package.
fn packages(database: &[u8]) -> impl Iterator<Item = Vec<(u8, &[u8])>> {
    let lines = database.split(|byte| *byte == b'\n').chain(std::iter::once(&b""[..]));
    let mut own: Vec<(u8, &[u8])> = Vec::new();
    lines.filter_map(move |line| match line {
        [] if own.is_empty() => None,
        [] => Some(std::mem::take(&mut own)),
        [letter, b':', value @ ..] => {
            own.push((*letter, value));
            None
        }
        _ => None,
    })
}

fn value(lines: &[(u8, &[u8])], letter: u8) -> String {
    lines.iter().find(|(known, _)| *known == letter).map_or_else(String::new, |(_, value)| text(value))
}

pub(super) fn installed(database: &[u8], check: Check<'_>) -> Result<Vec<Installed>> {
    let mut all = Vec::new();
    for lines in packages(database) {
        check()?;
        let name = value(&lines, b'P');
        if name.is_empty() {
            return Err(Error::new(Kind::BadData, "the database of apk has a package without a name"));
        }
        let list = |letter| value(&lines, letter).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        // What begins with `!` must not be there.
        let (depends, conflicts): (Vec<String>, Vec<String>) = list(b'D').into_iter().partition(|item| !item.starts_with('!'));
        let conflicts = conflicts.iter().map(|item| item.trim_start_matches('!').to_owned()).collect();
        let relations = [("depends", depends), ("conflicts", conflicts), ("provides", list(b'p')), ("replaces", list(b'r'))];
        let origin = value(&lines, b'o');
        all.push(Installed {
            version: value(&lines, b'V'),
            architecture: value(&lines, b'A'),
            status: "installed".to_owned(),
            maintainer: value(&lines, b'm'),
            homepage: value(&lines, b'U'),
            source: if origin == name { String::new() } else { origin },
            bytes: value(&lines, b'I').parse().ok(),
            summary: value(&lines, b'T'),
            relations: relations.into_iter().filter(|(_, list)| !list.is_empty()).collect(),
            name,
            ..Installed::default()
        });
    }
    Ok(all)
}

/// Folders and files with the digests that apk has of them, in the order of the database.
fn contents(lines: &[(u8, &[u8])]) -> Vec<(Vec<u8>, Option<String>)> {
    let mut all: Vec<(Vec<u8>, Option<String>)> = Vec::new();
    let mut folder: Vec<u8> = Vec::new();
    for (letter, value) in lines {
        match letter {
            b'F' => {
                folder = [b"/", *value].concat();
                if folder.len() > 1 {
                    all.push((folder.clone(), None));
                    folder.push(b'/');
                }
            }
            b'R' => all.push(([folder.as_slice(), value].concat(), None)),
            b'Z' => {
                if let Some((_, digest)) = all.last_mut() {
                    *digest = sha1(value);
                }
            }
            _ => {}
        }
    }
    all
}

/// `Q1` and base64 of SHA-1, in hex.
fn sha1(value: &[u8]) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(value.strip_prefix(b"Q1")?).ok()?;
    (bytes.len() == 20).then(|| crate::os::digest::hex(&bytes))
}

fn of<'d>(database: &'d [u8], name: &str) -> Vec<(u8, &'d [u8])> {
    packages(database).find(|lines| value(lines, b'P') == name).unwrap_or_default()
}

pub(super) fn files(database: &[u8], name: &str) -> Vec<Vec<u8>> {
    contents(&of(database, name)).into_iter().map(|(path, _)| path).collect()
}

pub(super) fn digests(database: &[u8], name: &str) -> Vec<Digest> {
    let digest = |(path, digest): (Vec<u8>, Option<String>)| {
        // apk keeps what is changed below /etc (apk-upgrade(8)).
        let conffile = path.starts_with(b"/etc/");
        digest.map(|digest| Digest { path, kind: Kinds::Sha1, digest, conffile })
    };
    contents(&of(database, name)).into_iter().filter_map(digest).collect()
}

pub(super) fn owners(database: &[u8], path: &[u8]) -> Vec<(String, String)> {
    let has = |lines: &Vec<(u8, &[u8])>| contents(lines).iter().any(|(known, _)| known == path);
    packages(database).filter(has).map(|lines| (value(&lines, b'P'), value(&lines, b'A'))).collect()
}
