//! dpkg's database: `/var/lib/dpkg/status`, and for each package lists of its files and of their digests in `info/`.

use super::{Check, Digest, Installed, Kinds, folder_at, names, read, read_in, text};
use crate::error::{Error, Kind, Result};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::Path;

/// Kinds of relation: the key that scripts see, and dpkg's field (deb-control(5)).
const RELATIONS: &[(&str, &str)] = &[
    ("depends", "Depends"),
    ("pre_depends", "Pre-Depends"),
    ("recommends", "Recommends"),
    ("suggests", "Suggests"),
    ("enhances", "Enhances"),
    ("breaks", "Breaks"),
    ("conflicts", "Conflicts"),
    ("replaces", "Replaces"),
    ("provides", "Provides"),
];

/// One paragraph of a file in the notation of deb822(5): names, and values with their lines.
pub(super) struct Paragraph<'t>(Vec<(&'t str, String)>);

impl Paragraph<'_> {
    /// Empty where there is none. Names are the same in capital letters.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
    fn owned(&self, name: &str) -> String {
        self.get(name).to_owned()
    }
}

pub(super) fn paragraph(text: &str) -> Paragraph<'_> {
    let mut fields: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line.get(1..).unwrap_or(""));
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name, value.trim().to_owned()));
        }
    }
    Paragraph(fields)
}

/// The paragraphs of a text, which empty lines part.
pub(super) fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").filter(|part| !part.trim().is_empty())
}

/// Every package that the database has files or configuration of.
pub(super) fn installed(status: &[u8], states: Option<&[u8]>, check: Check<'_>) -> Result<Vec<Installed>> {
    let automatic = states.map(|states| automatic(&text(states)));
    let status = text(status);
    let mut all = Vec::new();
    for part in paragraphs(&status) {
        check()?;
        let fields = paragraph(part);
        let (name, state) = (fields.owned("Package"), fields.get("Status"));
        let mut words = state.split_whitespace();
        let (Some(want), Some(_), Some(status)) = (words.next(), words.next(), words.next()) else { continue };
        if name.is_empty() || status == "not-installed" {
            continue;
        }
        let architecture = fields.owned("Architecture");
        let (summary, description) = described(fields.get("Description"));
        all.push(Installed {
            version: fields.owned("Version"),
            status: status.to_owned(),
            held: want == "hold",
            essential: fields.get("Essential") == "yes",
            automatic: automatic.as_ref().map(|automatic| {
                automatic.contains(&(name.clone(), architecture.clone())) || automatic.contains(&(name.clone(), String::new()))
            }),
            section: fields.owned("Section"),
            priority: fields.owned("Priority"),
            maintainer: fields.owned("Maintainer"),
            homepage: fields.owned("Homepage"),
            source: fields.get("Source").split_whitespace().next().unwrap_or("").to_owned(),
            bytes: fields.get("Installed-Size").parse::<u64>().ok().map(|kib| kib.saturating_mul(1024)),
            summary,
            description,
            relations: RELATIONS.iter().map(|(key, field)| (*key, list(fields.get(field)))).filter(|(_, list)| !list.is_empty()).collect(),
            conffiles: fields.get("Conffiles").lines().filter_map(conffile).collect(),
            name,
            architecture,
        });
    }
    if all.is_empty() && !status.trim().is_empty() {
        return Err(Error::new(Kind::BadData, "the database of dpkg has no package in it"));
    }
    Ok(all)
}

/// What apt says came along with others: name and architecture.
fn automatic(states: &str) -> HashSet<(String, String)> {
    let marked = |part: &str| {
        let fields = paragraph(part);
        // An architecture that is `all` is written as the host's own.
        (fields.get("Auto-Installed") == "1").then(|| (fields.owned("Package"), String::new()))
    };
    paragraphs(states).filter_map(marked).collect()
}

/// The first line, and the rest with empty lines as such (deb-control(5)).
fn described(text: &str) -> (String, String) {
    let (summary, rest) = text.split_once('\n').unwrap_or((text, ""));
    let lines: Vec<&str> = rest.lines().map(|line| if line.trim() == "." { "" } else { line }).collect();
    (summary.to_owned(), lines.join("\n"))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|item| item.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|item| !item.is_empty()).collect()
}

/// ` /etc/x digest [obsolete|remove-on-upgrade]`.
fn conffile(line: &str) -> Option<Digest> {
    let mut words = line.split_whitespace();
    let (path, digest) = (words.next()?, words.next()?);
    let sound = path.starts_with('/') && digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    (sound && words.next() != Some("obsolete")).then(|| Digest {
        path: path.as_bytes().to_vec(),
        kind: Kinds::Md5,
        digest: digest.to_owned(),
        conffile: true,
    })
}

/// The architecture of this host: the first that dpkg knows, or that of dpkg itself.
pub(super) fn native(root: &Path) -> Option<String> {
    let status = read(root, "var/lib/dpkg/status").ok()??;
    let status = text(&status);
    let own = paragraphs(&status).find(|part| part.starts_with("Package: dpkg\n"))?;
    Some(paragraph(own).owned("Architecture"))
}

/// The file of a package in `info/`: its name alone, or where several architectures can be there with that.
fn info(root: &Path, package: &Installed, kind: &str) -> Result<Option<Vec<u8>>> {
    let names = [format!("{}:{}.{kind}", package.name, package.architecture), format!("{}.{kind}", package.name)];
    for name in names {
        if let Some(bytes) = read(root, &format!("var/lib/dpkg/info/{name}"))? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

pub(super) fn files(root: &Path, package: &Installed) -> Result<Vec<Vec<u8>>> {
    let list = info(root, package, "list")?.unwrap_or_default();
    Ok(lines(&list).filter(|path| *path != b"/.").map(<[u8]>::to_vec).collect())
}

/// What files should contain, configuration last; where another package has put a file aside, the place it has now.
pub(super) fn digests(root: &Path, package: &Installed) -> Result<Vec<Digest>> {
    let sums = info(root, package, "md5sums")?.unwrap_or_default();
    let aside = diversions(root)?;
    let mut all = Vec::new();
    for line in lines(&sums) {
        let (Some(digest), Some(path)) = (line.get(..32), line.get(34..)) else {
            return Err(Error::new(Kind::BadData, format!("the list of digests of `{}` has a line that is none", package.name)));
        };
        let mut path = [b"/", path].concat();
        if let Some(to) = aside.get(&path).filter(|diversion| diversion.by != package.name) {
            path.clone_from(&to.to);
        }
        all.push(Digest { path, kind: Kinds::Md5, digest: text(digest), conffile: false });
    }
    all.extend(package.conffiles.iter().cloned());
    Ok(all)
}

/// Where a file of other packages is because of one.
struct Diversion {
    to: Vec<u8>,
    by: String,
}

fn diversions(root: &Path) -> Result<HashMap<Vec<u8>, Diversion>> {
    let bytes = read(root, "var/lib/dpkg/diversions")?.unwrap_or_default();
    let lines: Vec<&[u8]> = lines(&bytes).collect();
    Ok(lines
        .chunks_exact(3)
        .filter_map(|three| match three {
            [from, to, by] => Some((from.to_vec(), Diversion { to: to.to_vec(), by: text(by) })),
            _ => None,
        })
        .collect())
}

/// The other name of a path where folders of the root are links into /usr: packages list either.
fn other_name(path: &[u8]) -> Option<Vec<u8>> {
    const MERGED: &[&[u8]] = &[b"/bin/", b"/sbin/", b"/lib/", b"/lib32/", b"/lib64/", b"/libx32/"];
    if let Some(rest) = path.strip_prefix(b"/usr")
        && MERGED.iter().any(|folder| rest.starts_with(folder))
    {
        return Some(rest.to_vec());
    }
    MERGED.iter().any(|folder| path.starts_with(folder)).then(|| [b"/usr", path].concat())
}

/// Every package whose list has the path, under either of its names.
pub(super) fn owners(root: &Path, installed: &[Installed], path: &[u8], check: Check<'_>) -> Result<Vec<(String, String)>> {
    let aside = diversions(root)?;
    let mut wanted: Vec<(Vec<u8>, Option<String>, bool)> = Vec::new();
    for name in [Some(path.to_vec()), other_name(path)].into_iter().flatten() {
        // What is at the place that a diversion leads to is of the packages that have the other place in their lists, all but the one that diverts.
        if let Some((from, diversion)) = aside.iter().find(|(_, diversion)| diversion.to == name) {
            wanted.push((from.clone(), Some(diversion.by.clone()), false));
        }
        // And what is where it leads away from is of that one alone.
        let by = aside.get(&name).map(|diversion| diversion.by.clone()).filter(|by| by != ":");
        wanted.push((name, by, true));
    }
    let Some(folder) = folder_at(&root.join("var/lib/dpkg/info"))? else { return Ok(Vec::new()) };
    let mut owners = Vec::new();
    for name in names(&folder)?.iter().filter(|name| name.ends_with(".list")) {
        check()?;
        let Some(list) = read_in(&folder, OsStr::new(name))? else { continue };
        let (package, architecture) = of_list(name, installed);
        let counts = |line: &[u8]| {
            wanted.iter().any(|(path, by, only_by)| line == path.as_slice() && by.as_ref().is_none_or(|by| (*by == package) == *only_by))
        };
        if lines(&list).any(counts) {
            owners.push((package, architecture));
        }
    }
    owners.sort();
    Ok(owners)
}

/// The package of `name.list` or `name:architecture.list`.
fn of_list(name: &str, installed: &[Installed]) -> (String, String) {
    let stem = name.strip_suffix(".list").unwrap_or(name);
    match stem.split_once(':') {
        Some((name, architecture)) => (name.to_owned(), architecture.to_owned()),
        None => {
            let known = installed.iter().find(|package| package.name == stem).map(|package| package.architecture.clone());
            (stem.to_owned(), known.unwrap_or_default())
        }
    }
}
