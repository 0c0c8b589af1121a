//! Copying files and trees of them: cp. It asks for [`Read`] of the source and for [`Create`] and [`Write`] of the copy.

use super::attributes::tree::{Refusals, is_of_one, may_enter};
use super::attributes::{Chmod, Chown, must_exist, wanted_mode, wanted_owner};
use super::file_read::Read;
use super::file_stat::Stat;
use super::file_write::{Create, Write};
use super::function::{Call, Example, Function, param, with3};
use super::value::{Dynamic, FromScript, IntoScript, Map, name_value, record};
use super::xattrs::{SetXAttr, wanted_xattr};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Action, Answer, Granted, Resource, Value, Walk, ask};
use crate::resource::file::{DIR, FILE, File};
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::attributes::Time;
use crate::sys::copy::{Copied, Plan, own_ids};
use rustix::fs::FileType;

pub const FUNCTIONS: &[Function] = &[CP];

/// What of a source's own bits a copy gets without `preserve`: nobody but the owner may write it, nobody gets its rights.
const PLAIN: u32 = 0o755;
const SET_ID: u32 = 0o6000;

/// What `preserve` keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preserve {
    mode: bool,
    owner: bool,
    times: bool,
    xattr: bool,
}

impl Preserve {
    const ALL: Self = Self { mode: true, owner: true, times: true, xattr: true };
    fn any(self) -> bool {
        self != Self::default()
    }
}

impl FromScript for Preserve {
    const TYPE: &'static str = "true, or an array of `mode`, `owner`, `times`, `xattr`";
    fn from_script(value: Dynamic) -> Result<Self> {
        if let Ok(all) = value.as_bool() {
            return Ok(if all { Self::ALL } else { Self::default() });
        }
        let words = Vec::<String>::from_script(value).map_err(|_| bad_argument(format!("expected {}", Self::TYPE)))?;
        let mut keep = Self::default();
        for word in words {
            match word.as_str() {
                "mode" => keep.mode = true,
                "owner" | "ownership" => keep.owner = true,
                "times" | "timestamps" => keep.times = true,
                "xattr" => keep.xattr = true,
                "all" => keep = Self::ALL,
                _ => return Err(bad_argument(format!("expected {}, got `{}`", Self::TYPE, word.escape_debug()))),
            }
        }
        Ok(keep)
    }
}

options! {
    /// Options of `cp`.
    CpOptions {
        recursive: bool = false, "Copy a directory with everything in it; links in it are copied as links.", flags &["recursive", "r", "R"];
        force: bool = false, "Replace a file that is there and not empty.", flags &["force", "f"];
        preserve: Option<Preserve> = None, "`true`, or an array of what to keep: `mode` (permission bits and access list), `owner`, `times`, `xattr` (`user.` attributes).", flags &["preserve=all", "p=all"];
        onto: bool = false, "The second path is the copy itself, also where it is a directory that is there: a tree is merged into it.", flags &["onto", "T"];
        keep_going: bool = false, "Go on after what is refused, and report it in `refused`; without it nothing is copied unless everything may be.";
        fsync: Option<bool> = None, "Return when it is on the disk. The default is true for a file that replaces another, else false.";
    }
}

const CP: Function = Function {
    name: "cp",
    doc: "Copies a file, or with `recursive` a directory with everything in it.\n\nInto a directory that is there, under the name that the source has. Links in the two paths are followed; links within a tree are copied as links (as new ones, also with `preserve`), and nothing is ever \
          written through one that lies in the copy's way. A copy appears when it is whole, holes stay holes, and a failure leaves no part of a file. A file that is there and not empty is replaced with \
          `force` only; it keeps its owner, bits and access list. One that holds the same already is left alone, where the caller may read it: to copy again is safe.\n\nA new file gets \
          the bits of the source without those that let others write it and without set-user-id, set-group-id and sticky. `preserve` keeps them; bits other than those, and any of a source with an access list, are a \
          `chmod` to the policy, another owner a `chown`, each extended attribute a `set_x_attr`. File capabilities and labels are not copied. A tree is judged whole before anything is made; FIFOs, sockets and devices \
          in it are errors.\n\nA map: `changed`, `path` (of the copy), `bytes`, `files`, `dirs`, `links` (how many were made or replaced), `refused` (maps with `path`, `kind`, `message`, `action`; the first 1,000) and `refused_count`.",
    body: &with3(
        cp,
        [param("source", "The file or directory."), param("destination", "The copy, or a directory to put it in."), param("options", "")],
    ),
    asks: &[ask::<Read>(), ask::<Stat>(), ask::<Create>(), ask::<Write>(), ask::<Chmod>(), ask::<Chown>(), ask::<SetXAttr>()],
    fails: &[
        Kind::NotFound,
        Kind::Exists,
        Kind::IsADirectory,
        Kind::NotADirectory,
        Kind::NotAFile,
        Kind::TooLarge,
        Kind::Permission,
        Kind::NoSpace,
        Kind::ReadOnly,
        Kind::Unsupported,
        Kind::Changed,
    ],
    examples: &[
        Example { given: &[("a", "one\n")], script: r#"cp(dir + "/a", dir + "/b"); cat(dir + "/b")"#, gives: r#""one\n""# },
        Example { given: &[("a", "one\n"), ("b", "two\n")], script: r#"cp([cp::force], dir + "/a", dir + "/b").bytes"#, gives: "4" },
        Example {
            given: &[("web/index", "hi\n"), ("web/css/main", "")],
            script: r#"let c = cp(dir + "/web", dir + "/old", #{recursive: true}); [c.files, c.dirs, is_file(dir + "/old/css/main")]"#,
            gives: "[2, 2, true]",
        },
        Example {
            given: &[("tool", "#!/bin/sh\n")],
            script: r#"chmod(dir + "/tool", 0o2775); cp(dir + "/tool", dir + "/copy", #{preserve: ["mode", "times"]}); stat(dir + "/copy").mode == 0o2775"#,
            gives: "true",
        },
        Example {
            given: &[("data", "x")],
            script: r#"xattr_set(dir + "/data", "user.note", "kept"); cp(dir + "/data", dir + "/copy", #{preserve: true}); xattr_get(dir + "/copy", "user.note")"#,
            gives: r#""kept""#,
        },
        Example {
            given: &[("data", "x")],
            script: r#"chown(dir + "/data", "65534:65534"); cp(dir + "/data", dir + "/copy", #{preserve: true}); stat(dir + "/copy").uid"#,
            gives: "",
        },
    ],
};

/// How one copy is asked for: alone, each question is recorded; in a tree, denials are, the rest as counts.
enum Road<'w, 'h> {
    One(&'w Call<'h>),
    Many(&'w Walk<'w, Read>),
}

impl Road<'_, '_> {
    fn permit<A: Action<On = File>>(&self, file: File, context: Vec<(&'static str, Value)>) -> Result<Granted<A>> {
        match self {
            Self::One(call) => call.permit_with::<A>(file, context),
            Self::Many(walk) => walk.permit_with::<A>(file, &context),
        }
    }
}

/// What was copied so far.
#[derive(Default)]
struct Totals {
    bytes: u64,
    files: u64,
    dirs: u64,
    links: u64,
    refused: Refusals,
}

impl Totals {
    fn changed(&self) -> bool {
        self.files + self.dirs + self.links > 0
    }
}

/// One `cp`.
struct Copier<'c, 'h> {
    call: &'c Call<'h>,
    options: &'c CpOptions,
    keep: Preserve,
    /// The folder that the copy of a tree is in, by device and inode: it must not be within the source.
    container: Option<(u64, u64)>,
}

/// A directory of the walk, and its copy.
struct Level {
    from: Granted<Read>,
    to: File,
    todo: Vec<sys::dir::Name>,
    /// What is to be given to the copy when everything is in it, where this call made it.
    plan: Option<Plan>,
}

fn cp(call: &Call<'_>, source: AbsPath, destination: AbsPath, options: CpOptions) -> Result<Map> {
    let mut copier = Copier { call, keep: options.preserve.unwrap_or_default(), options: &options, container: None };
    let from = File::locate(&source)?;
    let tree = options.recursive && from.is_dir();
    let (path, to) = copier.target(&source, &from, &destination, tree)?;
    let mut totals = Totals::default();
    if tree {
        copier.container = match to.exists() {
            true => identity(&to),
            false => to.folder().ok().as_ref().and_then(identity),
        };
        if !options.keep_going {
            copier.tree(&source, from.twin()?, to, false, &mut Totals::default())?;
            let to = File::locate_dir(&path)?;
            copier.tree_told(&source, from, to, &mut totals)?;
        } else {
            copier.tree_told(&source, from, to, &mut totals)?;
        }
    } else {
        copier.file(&Road::One(call), from, to, true, &mut totals)?;
    }
    let mut map = record([
        ("changed", totals.changed().into_script()),
        ("path", name_value(path.as_bytes())),
        ("bytes", totals.bytes.into_script()),
        ("files", totals.files.into_script()),
        ("dirs", totals.dirs.into_script()),
        ("links", totals.links.into_script()),
    ]);
    totals.refused.tell(&mut map);
    Ok(map)
}

fn identity(file: &File) -> Option<(u64, u64)> {
    file.stat().map(|stat| (stat.st_dev, stat.st_ino))
}

fn same_thing(one: &File, other: &File) -> bool {
    identity(one).is_some() && identity(one) == identity(other)
}

fn at(path: &AbsPath, kind: Kind, message: &str) -> Error {
    Error::new(kind, message).with_path(path.shown())
}

impl Copier<'_, '_> {
    /// Where the copy goes: the path itself, or into the directory that it is.
    fn target(&self, source: &AbsPath, from: &File, destination: &AbsPath, tree: bool) -> Result<(AbsPath, File)> {
        let locate = |path: &AbsPath| if tree { File::locate_dir(path) } else { File::locate(path) };
        let to = locate(destination)?;
        if !to.is_dir() || self.options.onto {
            return Ok((destination.clone(), to));
        }
        let last = source.as_bytes().rsplit(|byte| *byte == b'/').find(|name| !name.is_empty()).unwrap_or_default();
        let name = if matches!(last, b"" | b"." | b"..") { from.name() } else { last };
        if name.is_empty() {
            return Err(bad_argument("cp: the root directory has no name to be copied under").with_hint("set `onto`"));
        }
        let mut inner = destination.as_bytes().to_vec();
        if inner.last() != Some(&b'/') {
            inner.push(b'/');
        }
        inner.extend_from_slice(name);
        let inner = AbsPath::new(inner)?;
        let within = locate(&inner)?;
        let gate = &self.call.host.gate;
        let granted = if tree { gate.would::<Create>(&within) } else { gate.would::<Write>(&within) } == Answer::Yes;
        if !granted && gate.would::<Stat>(&to) != Answer::Yes && gate.would::<Read>(&to) != Answer::Yes {
            // Whoever may not look at it is not told that it is a directory: what was named is denied, after the source as ever.
            drop(self.allow_source(&Road::One(self.call), from.twin()?)?);
            if tree {
                drop(self.call.permit::<Create>(to)?);
            } else {
                drop(self.call.permit::<Write>(to)?);
            }
        }
        Ok((inner, within))
    }

    /// What a copy of this source gets, and the questions that it takes. `to` comes back for the last of them.
    fn plan(&self, road: &Road<'_, '_>, from: &Granted<Read>, mut to: File) -> Result<(Plan, File)> {
        let keep = self.keep;
        let Some(source) = from.resource().stat() else { return Ok((Plan::default(), to)) };
        let bits = source.st_mode & 0o7777;
        let there = to.stat().filter(|_| to.exists()).copied();
        let own = there.map_or(bits & PLAIN, |stat| stat.st_mode & 0o7777 & !SET_ID);
        let sync = self.options.fsync.unwrap_or(there.is_some());
        let mut plan = Plan { mode: there.is_none().then_some(own), sync, ..Plan::default() };
        if keep.mode || keep.xattr {
            let names = sys::attributes::xattrs(from)?;
            if keep.mode {
                let list = names.iter().any(|name| name == b"system.posix_acl_access");
                if bits != own || list {
                    to = road.permit::<Chmod>(to, wanted_mode(bits))?.into_resource();
                }
                plan.mode = Some(bits);
                plan.list = true;
            }
            for name in names.into_iter().filter(|name| keep.xattr && name.starts_with(b"user.")) {
                to = road.permit::<SetXAttr>(to, wanted_xattr(&name))?.into_resource();
                plan.xattrs.push(name);
            }
        }
        if keep.owner {
            let now = there.map_or_else(own_ids, |stat| (stat.st_uid, stat.st_gid));
            let (uid, gid) = (source.st_uid, source.st_gid);
            if (uid, gid) != now {
                let context = wanted_owner(&to, Some(uid), Some(gid));
                to = road.permit::<Chown>(to, context)?.into_resource();
            }
            plan.owner = Some((uid, gid));
        }
        if keep.times {
            let time = |seconds: i64, nanos: u64| Time::At(seconds, u32::try_from(nanos).unwrap_or(0));
            plan.times = Some((time(source.st_atime, source.st_atime_nsec), time(source.st_mtime, source.st_mtime_nsec)));
        }
        Ok((plan, to))
    }

    /// Asks for the source: `read`, and `stat` too where the copy will show what it is like.
    fn allow_source(&self, road: &Road<'_, '_>, mut from: File) -> Result<Granted<Read>> {
        if self.keep.any() {
            from = road.permit::<Stat>(from, Vec::new())?.into_resource();
        }
        road.permit::<Read>(from, Vec::new())
    }

    /// Copies one file, or with `act` false only judges it.
    fn file(&self, road: &Road<'_, '_>, from: File, to: File, act: bool, totals: &mut Totals) -> Result<()> {
        let from = self.allow_source(road, from)?;
        let gate = &self.call.host.gate;
        // As for a file that is there first, so that a denial does not tell which of the two it is.
        let mut to = to;
        if !to.exists() && gate.would::<Write>(&to) == Answer::Yes {
            to = road.permit::<Create>(to, Vec::new())?.into_resource();
        }
        let to = road.permit::<Write>(to, Vec::new())?.into_resource();
        let (source, target) = (from.resource().asked().clone(), to.asked().clone());
        match from.resource().kind() {
            Some(FileType::RegularFile) => {}
            Some(FileType::Directory) => {
                return Err(at(&source, Kind::IsADirectory, "is a directory").with_hint("set `recursive` to copy it with everything in it"));
            }
            _ => return Err(at(&source, Kind::NotAFile, "is not a regular file (a FIFO, socket or device)")),
        }
        match to.kind().filter(|_| to.exists()) {
            None => may_be_made(&to)?,
            Some(FileType::RegularFile) => {}
            Some(FileType::Directory) => return Err(at(&target, Kind::IsADirectory, "is a directory")),
            Some(FileType::Symlink) => return Err(at(&target, Kind::Exists, "a symbolic link is in the way")),
            Some(_) => return Err(at(&target, Kind::NotAFile, "is not a regular file (a FIFO, socket or device)")),
        }
        if same_thing(from.resource(), &to) {
            return Err(bad_argument("cp: source and destination are the same file").with_path(target.shown()));
        }
        if to.exists() {
            if self.is_there_already(road, &from, &to)? {
                return Ok(());
            }
            let full = to.stat().is_some_and(|stat| stat.st_size > 0);
            if full && !self.options.force {
                return Err(at(&target, Kind::Exists, "it is there already and not empty").with_hint("set `force` to replace it"));
            }
        }
        let (plan, to) = self.plan(road, &from, to)?;
        let to = road.permit::<Write>(to, Vec::new())?;
        if act {
            let told = |copied: &Copied| {
                let how = match copied {
                    Copied { created: true, .. } => "copied",
                    Copied { atomic: true, .. } => "copied over it",
                    _ => "copied over it in place",
                };
                (copied.bytes, format!("{how} from {}", source.shown()))
            };
            let copied = self.call.effect(&to, || sys::copy::file(&from, &to, &plan, &self.call.host.watch), told)?;
            totals.bytes += copied.bytes;
            totals.files += 1;
        } else {
            // What this user may not read is found before anything is made.
            sys::file::may_read(&from)?;
        }
        Ok(())
    }

    /// Whether a copy would change nothing. Told only to who may read what is there.
    fn is_there_already(&self, road: &Road<'_, '_>, from: &Granted<Read>, to: &File) -> Result<bool> {
        let (Some(source), Some(target)) = (from.resource().stat(), to.stat()) else { return Ok(false) };
        let keep = self.keep;
        let alike = source.st_size == target.st_size
            && (!keep.mode || source.st_mode == target.st_mode)
            && (!keep.owner || (source.st_uid, source.st_gid) == (target.st_uid, target.st_gid))
            && (!keep.times || (source.st_mtime, source.st_mtime_nsec) == (target.st_mtime, target.st_mtime_nsec));
        if !alike || self.call.host.gate.would::<Read>(to) != Answer::Yes {
            return Ok(false);
        }
        let there = road.permit::<Read>(to.twin()?, Vec::new())?;
        if keep.xattr || keep.mode {
            for name in sys::attributes::xattrs(from)?.iter().chain(&sys::attributes::xattrs(&there)?) {
                let concerns = (keep.xattr && name.starts_with(b"user.")) || (keep.mode && name == b"system.posix_acl_access");
                if concerns && sys::attributes::xattr(from, name)? != sys::attributes::xattr(&there, name)? {
                    return Ok(false);
                }
            }
        }
        match sys::copy::same_contents(from, &there, &self.call.host.watch) {
            // What this user may write but not read is replaced.
            Err(error) if error.kind == Kind::Permission => Ok(false),
            done => done,
        }
    }

    /// Copies a link as a link.
    fn link(&self, road: &Road<'_, '_>, from: File, to: File, act: bool, totals: &mut Totals) -> Result<()> {
        let from = self.allow_source(road, from)?;
        let target = sys::dir::link_target(&from)?;
        let path = to.asked().clone();
        let to = road.permit::<Create>(to, Vec::new())?;
        if to.resource().exists() {
            if to.resource().kind() == Some(FileType::Symlink) && self.call.host.gate.would::<Read>(to.resource()) == Answer::Yes {
                let there = road.permit::<Read>(to.into_resource(), Vec::new())?;
                if sys::dir::link_target(&there)? == target {
                    return Ok(());
                }
            }
            return Err(at(&path, Kind::Exists, "something is in the way of a symbolic link"));
        }
        may_be_made(to.resource())?;
        if act {
            self.call.effect(&to, || sys::copy::make_link(&to, &target), |()| (0, "linked"))?;
            totals.links += 1;
        }
        Ok(())
    }

    /// The second walk; its errors say how much was copied before.
    fn tree_told(&self, source: &AbsPath, from: File, to: File, totals: &mut Totals) -> Result<()> {
        self.tree(source, from, to, true, totals).map_err(|error| {
            if !totals.changed() {
                return error;
            }
            let Totals { files, dirs, links, .. } = totals;
            Error { message: format!("{} (after {files} files, {dirs} directories and {links} links were copied)", error.message), ..error }
        })
    }

    /// Judges a whole tree, or with `act` judges each thing again and copies it.
    fn tree(&self, source: &AbsPath, from: File, to: File, act: bool, totals: &mut Totals) -> Result<()> {
        let walk = self.call.walk::<Read>(&from)?;
        let road = Road::Many(&walk);
        let mut levels = vec![self.enter(&road, from, to, act, totals)?];
        loop {
            let depth = levels.len();
            let Some(level) = levels.last_mut() else { break };
            self.call.check()?;
            let Some(name) = level.todo.pop() else {
                if let Some(level) = levels.pop() {
                    self.leave(&road, level, act, totals)?;
                }
                continue;
            };
            let folder = level.from.resource();
            // To judge it, it is only looked at.
            let entry = match if act { File::entry(folder, &name.bytes) } else { File::glimpse(folder, &name.bytes) } {
                Ok(entry) => entry,
                // It went meanwhile.
                Err(error) if error.kind == Kind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let shown = entry.asked().clone();
            let done = Self::opposite(&level.to, &name.bytes, &entry).and_then(|to| match entry.kind() {
                Some(FileType::Directory) => {
                    may_enter(depth, &shown)?;
                    self.enter(&road, entry, to, act, totals).map(Some)
                }
                Some(FileType::Symlink) => self.link(&road, entry, to, act, totals).map(|()| None),
                _ => self.file(&road, entry, to, act, totals).map(|()| None),
            });
            match done {
                Ok(next) => levels.extend(next),
                Err(error) if self.options.keep_going && is_of_one(error.kind) => totals.refused.add(&shown, &error),
                Err(error) => return Err(error),
            }
        }
        walk.finish().map_err(|error| error.with_path(source.shown()))
    }

    /// The name in the copy that belongs to this entry.
    fn opposite(to: &File, name: &[u8], entry: &File) -> Result<File> {
        let noun = if entry.is_dir() { &DIR } else { &FILE };
        if !to.exists() {
            return File::absent_below(to, name, noun);
        }
        match File::entry(to, name) {
            Err(error) if error.kind == Kind::NotFound => File::absent_entry(to, name, noun),
            found => found,
        }
    }

    /// Begins with a directory: asks for it, and makes its copy.
    fn enter(&self, road: &Road<'_, '_>, from: File, to: File, act: bool, totals: &mut Totals) -> Result<Level> {
        let source = from.asked().clone();
        let from = self.allow_source(road, from)?;
        if self.container.is_some() && identity(from.resource()) == self.container {
            return Err(bad_argument("cp: a directory cannot be copied into itself").with_path(source.shown()));
        }
        let (mut todo, _) = sys::dir::names(&from, usize::MAX, &self.call.host.watch)?;
        todo.sort_by(|a, b| b.bytes.cmp(&a.bytes));
        if to.exists() && to.is_dir() {
            return Ok(Level { from, to, todo, plan: None });
        }
        let to = road.permit::<Create>(to, Vec::new())?.into_resource();
        if to.exists() {
            return Err(at(to.asked(), Kind::NotADirectory, "is there and is not a directory"));
        }
        may_be_made(&to)?;
        let (plan, to) = self.plan(road, &from, to)?;
        let path = to.asked().clone();
        let to = road.permit::<Create>(to, Vec::new())?;
        if !act {
            return Ok(Level { from, to: to.into_resource(), todo, plan: None });
        }
        // So that it can be filled; the rest when it is.
        let bits = plan.mode.unwrap_or(PLAIN) & PLAIN | 0o700;
        let made = self.call.effect(&to, || sys::copy::make_dir(&to, bits), |_| (0, "made"))?;
        totals.dirs += 1;
        let made = File::of(path, made)?;
        must_exist(&made)?;
        Ok(Level { from, to: made, todo, plan: Some(plan) })
    }

    /// Ends with a directory.
    fn leave(&self, road: &Road<'_, '_>, level: Level, act: bool, totals: &mut Totals) -> Result<()> {
        let Level { from, to, plan: Some(mut plan), .. } = level else { return Ok(()) };
        if !act {
            return Ok(());
        }
        if !self.keep.mode {
            // What its folder handed on to it stays.
            let bits = plan.mode.unwrap_or(PLAIN) | 0o700;
            plan.mode = plan.mode.filter(|mode| *mode != bits).map(|mode| mode | to.stat().map_or(0, |stat| stat.st_mode & 0o2000));
        }
        let shown = to.asked().clone();
        let done = road.permit::<Create>(to, Vec::new()).and_then(|to| sys::copy::finish_dir(&from, &to, &plan));
        match done {
            Err(error) if self.options.keep_going && is_of_one(error.kind) => {
                totals.refused.add(&shown, &error);
                Ok(())
            }
            done => done,
        }
    }
}

/// Whether the name is in a folder that is there (or will be made first).
fn may_be_made(to: &File) -> Result<()> {
    match to.obstacle() {
        Some(error) if error.kind != Kind::NotFound => Err(error),
        _ if to.asked().as_bytes().ends_with(b"/") && to.noun().name == FILE.name => {
            Err(at(to.asked(), Kind::NotFound, "there is no such folder"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
