//! Functions that make, move and remove files, directories and links. They ask for [`Create`], [`Delete`] and [`Move`] of each thing they touch.

mod moving;
mod tree;

use super::file_read::Read;
use super::file_stat::Stat;
use super::file_write::{Bits, Content, Create, Write};
use super::function::{Call, Example, Function, param, with1, with2, with3};
use super::value::{Dynamic, IntoScript, Map, name_value, record};
use crate::error::{Class, Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, Answer, Ask, Attribute, Effect, Granted, ask};
use crate::resource::file::{DIR, FILE, File};
use crate::resource::path::AbsPath;
use crate::sys;
use rustix::fs::FileType;
use tree::{Step, Tree, again};

pub const FUNCTIONS: &[Function] = &[MKDIR, RMDIR, RM, moving::MV, LN, MKTEMP];

/// The permission bits of a directory that is made, unless `mode` says otherwise.
const NEW_DIR: u32 = 0o755;
/// Refusals that a result lists; further ones are counted.
const LISTED: usize = 1000;
/// Paths of one call that stay pinned between judging and removing.
const PINNED: usize = 32;
/// How often a random name may be taken already.
const TRIES: u32 = 16;

/// `file_system::Action::"delete"`: remove a file, directory or link.
pub enum Delete {}
impl Action for Delete {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "delete";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File", "file_system::Dir"];
    const GROUPS: &'static [&'static str] = &["SafeIO", "edit"];
    const DOC: &'static str = "Remove a file, directory or link.";
    const ACCESS: Access = Access::Change;
    const NEEDS_OPEN: bool = true;
}

/// `file_system::Action::"move"`: give a thing another name or folder.
pub enum Move {}
impl Action for Move {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "move";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File", "file_system::Dir"];
    const GROUPS: &'static [&'static str] = &["SafeIO", "edit"];
    const DOC: &'static str = "Rename a file, directory or link, or move it elsewhere.";
    const ACCESS: Access = Access::Change;
    const NEEDS_OPEN: bool = true;
    const CONTEXT: &'static [Attribute] = &[Attribute {
        name: "destination",
        cedar: "{ path: String, name: String, parent_path: String }",
        required: true,
        fixed: true,
        doc: "Where to: the canonical path, its last component, and the folder.",
    }];
}

/// A path whose last name is meant, and not what it may lead to.
struct Named {
    path: AbsPath,
    /// The path said so by a `/` or `/.` at its end.
    directory: bool,
}

impl Named {
    /// The kernel follows a link before a `/` at the end of a path (path_resolution(7)): that `/` is taken off, and remembered.
    fn of(path: &AbsPath) -> Result<Self> {
        let bytes = path.as_bytes();
        let last = bytes.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if !matches!(last, b"" | b"." | b"..") {
            return Ok(Self { path: path.clone(), directory: false });
        }
        Ok(Self { path: joined(&components(bytes))?, directory: true })
    }
    /// That it is a directory, where the path says so. Asked after the policy.
    fn check(&self, file: &File) -> Result<()> {
        if self.directory && file.exists() && !file.is_dir() {
            let error = Error::new(Kind::NotADirectory, "is not a directory").with_path(self.path.shown());
            return Err(error.with_hint("without the `/` at its end the path means the thing itself"));
        }
        Ok(())
    }
}

/// The names of a path, `..` taken as it is written, as for every path.
fn components(path: &[u8]) -> Vec<&[u8]> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names
}

fn joined(names: &[&[u8]]) -> Result<AbsPath> {
    let path: Vec<u8> = names.iter().flat_map(|name| [b"/".as_slice(), *name]).flatten().copied().collect();
    AbsPath::new(if path.is_empty() { b"/".to_vec() } else { path })
}

fn exists(path: &AbsPath) -> Error {
    Error::new(Kind::Exists, "it is there already").with_path(path.shown())
}

/// Whether a call goes on after this error where it is told to do what it can.
fn is_about_one_thing(error: &Error) -> bool {
    matches!(error.kind.class(), Class::AccessDenied | Class::Script) && !matches!(error.kind, Kind::Script | Kind::DryRun)
}

options! {
    /// Options of `mkdir`.
    MkdirOptions {
        parents: bool = false, "Make the folders above it too where they are missing; a directory that is there is no error.", flags &["parents", "p"];
        mode: Option<Bits> = None, "Permission bits, 0o755 if left out. Folders made above it have 0o755.";
    }
}

const MKDIR: Function = Function {
    name: "mkdir",
    doc: "Makes a directory.\n\nLinks on the way are followed, and the place that they lead to is judged. `create` is asked for each directory that is missing, \
          and nothing is made before all are permitted. The permission bits are exactly those of `mode`; a set-group-id bit of the folder is handed on.\n\n\
          A map: `changed`, `path`, and `created`, the paths of the directories made.",
    body: &with2(mkdir, [param("path", "The directory."), param("options", "")]),
    asks: &[ask::<Create>()],
    fails: &[Kind::NotFound, Kind::Exists, Kind::NotADirectory, Kind::Permission, Kind::NoSpace, Kind::ReadOnly, Kind::Changed],
    examples: &[
        Example { given: &[], script: r#"mkdir(dir + "/new").changed"#, gives: "true" },
        Example {
            given: &[("a/", "")],
            script: r#"mkdir(dir + "/a/b/c", #{parents: true, mode: 0o700}).created.map(|made| made.sub_string(dir.len()))"#,
            gives: r#"["/a/b", "/a/b/c"]"#,
        },
        Example { given: &[("a/", "")], script: r#"mkdir([mkdir::parents], dir + "/a").changed"#, gives: "false" },
    ],
};

fn mkdir(call: &Call<'_>, path: AbsPath, options: MkdirOptions) -> Result<Map> {
    let wanted = options.mode.map_or(NEW_DIR, |bits| bits.0);
    let found = File::locate_dir(&path)?;
    if found.exists() {
        // The same question as of a directory that is not there: the answer tells nobody that it is.
        let directory = found.is_dir();
        if !directory {
            let error = call.permit::<Create>(found.taken_for_a_directory()).map(|_| exists(&path)).unwrap_or_else(|error| error);
            return Err(if error.kind == Kind::NotADirectory { exists(&path) } else { error });
        }
        drop(call.permit::<Create>(found)?);
        return if options.parents { Ok(made(&path, Vec::new())) } else { Err(exists(&path)) };
    }
    if found.spot().is_some() {
        let granted = call.permit::<Create>(found)?;
        return match call.effect(&granted, || sys::name::make_dir(&granted, wanted), |()| (0, "directory made")) {
            // Somebody was faster.
            Err(error) if error.kind == Kind::Exists && options.parents => {
                let there = File::locate_dir(&path)?;
                if there.is_dir() { Ok(made(&path, Vec::new())) } else { Err(error) }
            }
            Err(error) => Err(error),
            Ok(()) => Ok(made(&path, vec![granted.place().to_vec()])),
        };
    }
    if !options.parents {
        let granted = call.permit::<Create>(found)?;
        return Err(Error::new(Kind::NotFound, "there is no such folder")
            .with_path(granted.asked().shown())
            .with_hint("`parents: true` makes the folders above it too"));
    }
    // Every level that is missing is judged before any is made: the innermost first, by the name that the script gave it.
    let found = call.permit::<Create>(found)?.into_resource();
    let (mut folder, names) = missing_levels(call, &path, &found)?;
    let last = names.len().saturating_sub(1);
    let mut judged: Option<File> = None;
    for name in names.iter().take(last) {
        let level = match &judged {
            None => File::absent_entry(&folder, name, &DIR)?,
            Some(above) => File::absent_below(above, name, &DIR)?,
        };
        judged = Some(call.permit::<Create>(level)?.into_resource());
    }
    let mut created = Vec::new();
    for (at, name) in names.iter().enumerate() {
        call.check()?;
        let granted = call.permit::<Create>(File::absent_entry(&folder, name, &DIR)?)?;
        let mode = if at == last { wanted } else { NEW_DIR };
        match call.effect(&granted, || sys::name::make_dir(&granted, mode), |()| (0, "directory made")) {
            Ok(()) => created.push(granted.place().to_vec()),
            Err(error) if error.kind == Kind::Exists => {}
            Err(error) => return Err(error),
        }
        folder = File::entry(&folder, name)?;
        if !folder.is_dir() {
            return Err(Error::new(Kind::Changed, "something else got the name of a folder above it").with_path(granted.asked().shown()));
        }
    }
    Ok(made(&path, created))
}

fn made(path: &AbsPath, created: Vec<Vec<u8>>) -> Map {
    let changed = !created.is_empty();
    let created: Vec<Dynamic> = created.iter().map(|place| name_value(place)).collect();
    record([("changed", changed.into_script()), ("path", name_value(path.as_bytes())), ("created", created.into_script())])
}

/// The deepest folder above a missing place that is there, and the names below it.
fn missing_levels(call: &Call<'_>, path: &AbsPath, found: &File) -> Result<(File, Vec<Vec<u8>>)> {
    let blocked = || Error::new(Kind::NotADirectory, "something on the way is not a directory").with_path(path.shown());
    let mut folder = File::locate_dir(&AbsPath::new("/")?)?;
    let mut names: Vec<Vec<u8>> = found.place().split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    names.reverse();
    while let Some(name) = names.last() {
        call.check()?;
        match File::entry(&folder, name) {
            Ok(next) if next.is_dir() => folder = next,
            Ok(_) => return Err(blocked()),
            Err(error) if error.kind == Kind::NotFound => break,
            Err(error) => return Err(error.with_path(path.shown())),
        }
        names.pop();
    }
    names.reverse();
    // In the script's own spelling, where its path ends with these names: a denial tells nobody where a link leads.
    let spelt = components(path.as_bytes());
    if let Some(above) = spelt.len().checked_sub(names.len())
        && spelt.iter().skip(above).zip(&names).all(|(spelt, name)| spelt == name)
    {
        let handle = folder.handle().ok_or_else(blocked)?.try_clone()?;
        folder = File::of(joined(spelt.get(..above).unwrap_or_default())?, handle)?;
    }
    Ok((folder, names))
}

const RMDIR: Function = Function {
    name: "rmdir",
    doc: "Removes an empty directory.\n\nA link to a directory is not followed and is no directory. A map: `changed`, `path`.",
    body: &with1(rmdir, [param("path", "The directory.")]),
    asks: &[ask::<Delete>()],
    fails: &[Kind::NotFound, Kind::NotADirectory, Kind::NotEmpty, Kind::Busy, Kind::Permission, Kind::ReadOnly, Kind::Changed],
    examples: &[Example { given: &[("old/", "")], script: r#"rmdir(dir + "/old").changed"#, gives: "true" }],
};

fn rmdir(call: &Call<'_>, path: AbsPath) -> Result<Map> {
    let named = Named::of(&path)?;
    let granted = call.permit::<Delete>(File::locate_name(&named.path)?)?;
    if !granted.is_dir() {
        return Err(Error::new(Kind::NotADirectory, "is not a directory").with_path(path.shown()));
    }
    if sys::name::is_mount_point(&granted)? {
        return Err(sys::name::busy(&granted));
    }
    call.effect(&granted, || sys::name::remove(&granted), |()| (0, "directory removed"))?;
    Ok(record([("changed", true.into_script()), ("path", name_value(path.as_bytes()))]))
}

options! {
    /// Options of `rm`.
    RmOptions {
        recursive: bool = false, "Remove directories with everything in them.", flags &["recursive", "r"];
        force: bool = false, "That there is nothing is no error.", flags &["force", "f"];
        keep_going: bool = false, "Remove what can be removed, and list the rest in `refused`, instead of removing nothing.";
        one_file_system: bool = false, "Leave what is mounted below a directory, and list it in `refused`, instead of failing with `busy`.";
    }
}

const RM: Function = Function {
    name: "rm",
    doc: "Removes files and links; with `recursive`, directories and everything in them.\n\nA link is removed and never followed; FIFOs, sockets and devices are \
          removed without being opened. `delete` is asked for each thing, and `read` for each directory whose names are looked at. Everything is judged before \
          anything is removed: with one denial nothing is, unless `keep_going` is set. What is replaced between the two is left alone. The root directory, and \
          directories that something is mounted on, are refused; a tree may be as deep as paths can be long (4,095 bytes).\n\nA map: `changed`, `removed` (how many names), `refused` (maps of `path`, `kind` and `message`, the first 1000) and \
          `refused_count`. A directory stays, without a refusal of its own, where something in it stays.",
    body: &with2(rm, [param("path", "The file, or an array of them."), param("options", "")]),
    asks: &[ask::<Delete>(), ask::<Read>()],
    fails: &[
        Kind::NotFound,
        Kind::IsADirectory,
        Kind::NotADirectory,
        Kind::NotEmpty,
        Kind::Busy,
        Kind::Permission,
        Kind::ReadOnly,
        Kind::Changed,
    ],
    examples: &[
        Example { given: &[("old", "")], script: r#"rm(dir + "/old").changed"#, gives: "true" },
        Example { given: &[("old/a/b", ""), ("old/c", "")], script: r#"rm(dir + "/old", #{recursive: true}).removed"#, gives: "4" },
        Example { given: &[("a", "")], script: r#"rm([dir + "/a", dir + "/gone"], #{force: true}).removed"#, gives: "1" },
    ],
};

fn rm(call: &Call<'_>, paths: Vec<AbsPath>, options: RmOptions) -> Result<Map> {
    let paths = paths.iter().map(Named::of).collect::<Result<Vec<Named>>>()?;
    let mut removal = Removal { call, options, removed: 0, refused: Vec::new(), refused_count: 0 };
    // What was judged stays pinned where that takes few descriptors, so that nothing else can have taken its name.
    let mut pinned: Vec<Option<Granted<Delete>>> = Vec::new();
    if !removal.options.keep_going {
        for named in &paths {
            let root = removal.judge(named)?;
            pinned.push(if paths.len() <= PINNED { root } else { None });
        }
    }
    let keep_going = removal.options.keep_going;
    let mut pinned = pinned.into_iter();
    for named in &paths {
        call.check()?;
        let done = match pinned.next() {
            Some(Some(root)) => removal.remove(root),
            // It was not there when all was judged.
            Some(None) if paths.len() <= PINNED => Ok(()),
            _ => removal.find(named).and_then(|root| root.map_or(Ok(()), |root| removal.remove(root))),
        };
        match done {
            // One of the paths was below another, or somebody else removed it.
            Err(error) if error.kind == Kind::NotFound && !keep_going => {}
            Err(error) => removal.refuse(&named.path, error)?,
            Ok(()) => {}
        }
    }
    Ok(record([
        ("changed", (removal.removed > 0).into_script()),
        ("removed", removal.removed.into_script()),
        ("refused", removal.refused.into_script()),
        ("refused_count", removal.refused_count.into_script()),
    ]))
}

/// One call of `rm`.
struct Removal<'a, 'c> {
    call: &'a Call<'c>,
    options: RmOptions,
    removed: u64,
    refused: Vec<Map>,
    refused_count: u64,
}

impl Removal<'_, '_> {
    /// The thing, permitted to be removed; none where it may be missing and is.
    fn find(&self, named: &Named) -> Result<Option<Granted<Delete>>> {
        let root = match self.call.permit::<Delete>(File::locate_name(&named.path)?) {
            Err(error) if self.options.force && matches!(error.kind, Kind::NotFound | Kind::NotADirectory) => return Ok(None),
            answer => answer?,
        };
        named.check(&root)?;
        if root.is_dir() && !self.options.recursive {
            let error = Error::new(Kind::IsADirectory, "is a directory").with_path(named.path.shown());
            return Err(error.with_hint("`recursive: true` removes it with everything in it, `rmdir` if it is empty"));
        }
        if sys::name::is_mount_point(&root)? {
            return Err(sys::name::busy(&root));
        }
        Ok(Some(root))
    }

    fn judge(&mut self, named: &Named) -> Result<Option<Granted<Delete>>> {
        let root = self.find(named)?;
        if let Some(root) = root.as_ref().filter(|root| root.is_dir()) {
            self.walk(root, false)?;
        }
        Ok(root)
    }

    /// Removes what was judged, and puts on record how far that went.
    fn remove(&mut self, root: Granted<Delete>) -> Result<()> {
        if root.held() {
            return self.withhold(&root);
        }
        let began = std::time::Instant::now();
        let before = self.removed;
        let done = self.remove_all(&root);
        let count = self.removed - before;
        let failed = done.as_ref().err().map(|error| error.kind);
        let detail = if count == 1 { "1 name removed".to_owned() } else { format!("{count} names removed") };
        let effect = Effect { failed, bytes: 0, duration: began.elapsed(), detail: &detail };
        self.call.host.gate.effect::<Delete>(&self.call.site(), &root, effect)?;
        done.map_err(|error| {
            if count == 0 {
                return error;
            }
            Error { message: format!("{} (after {detail} below {})", error.message, root.asked().shown().escape_debug()), ..error }
        })
    }

    /// In a dry run: judges what is below it, unless that was done, and counts.
    fn withhold(&mut self, root: &Granted<Delete>) -> Result<()> {
        if root.is_dir() && self.options.keep_going {
            self.walk(root, false)?;
        }
        self.removed += 1;
        let detail = if root.is_dir() { "with everything in it" } else { "" };
        self.call.withhold(root, detail, None).map(drop)
    }

    fn remove_all(&mut self, root: &Granted<Delete>) -> Result<()> {
        if root.is_dir() && self.walk(root, true)? {
            return Ok(());
        }
        sys::name::remove(root)?;
        self.removed += 1;
        Ok(())
    }

    /// Lists an error where the call goes on after it, or gives it back.
    fn refuse(&mut self, path: &AbsPath, error: Error) -> Result<()> {
        if !self.options.keep_going || !is_about_one_thing(&error) {
            return Err(error);
        }
        self.list(path, &error);
        Ok(())
    }

    fn list(&mut self, path: &AbsPath, error: &Error) {
        self.refused_count += 1;
        if self.refused.len() < LISTED {
            self.refused.push(record([
                ("path", name_value(path.as_bytes())),
                ("kind", error.kind.name().into_script()),
                ("message", error.message.clone().into_script()),
            ]));
        }
    }

    /// Goes through everything below a directory and judges it, and with `act` removes it. Whether something stays.
    fn walk(&mut self, root: &Granted<Delete>, act: bool) -> Result<bool> {
        let watch = &self.call.host.watch;
        let folder = again(root)?;
        let walk = self.call.walk::<Read>(&folder)?;
        let mut tree = Tree::new();
        tree.enter(walk.permit(folder)?, watch)?;
        while let Some(step) = tree.next()? {
            self.call.check()?;
            let (entry, end) = match step {
                Step::End { kept: true, .. } => continue,
                Step::End { dir, .. } => (dir, true),
                Step::Entry(entry) => (entry, false),
            };
            if end && !act {
                self.removed += u64::from(root.held());
                continue;
            }
            let asked = entry.asked().clone();
            let done = walk.permit_as::<Delete>(entry).and_then(|granted| {
                if sys::name::is_mount_point(&granted)? {
                    return if self.options.one_file_system { Ok(Below::Mounted) } else { Err(sys::name::busy(&granted)) };
                }
                if granted.is_dir() && !end {
                    tree.enter(walk.permit(granted.into_resource())?, watch)?;
                    return Ok(Below::Entered);
                }
                if act {
                    sys::name::remove(&granted)?;
                }
                Ok(Below::Done)
            });
            match done {
                Ok(Below::Done) => self.removed += u64::from(act || root.held()),
                Ok(Below::Entered) => {}
                Ok(Below::Mounted) => {
                    if act {
                        self.list(&asked, &Error::new(Kind::Busy, "something is mounted on it"));
                    }
                    tree.keep();
                }
                // Somebody else removed it.
                Err(error) if error.kind == Kind::NotFound => {}
                Err(error) => {
                    self.refuse(&asked, error)?;
                    tree.keep();
                }
            }
        }
        walk.finish()?;
        Ok(tree.keeps())
    }
}

/// What became of something below a directory.
enum Below {
    Done,
    Entered,
    Mounted,
}

options! {
    /// Options of `ln`.
    LnOptions {
        symbolic: bool = false, "Make a symbolic link.", flags &["symbolic", "s"];
        force: bool = false, "Put it in the place of what has the name, in one step; never of a directory.", flags &["force", "f"];
    }
}

const LN: Function = Function {
    name: "ln",
    doc: "Makes a link: one more name for a file, or with `symbolic` a symbolic link.\n\nThe text of a symbolic link is free, and the policy does not judge it: it judges \
          what is reached through the link whenever something is done there. A new name for a file could open a way around the policy, which speaks of paths. So a hard \
          link needs `read` and `write` on the file, besides `create` on the new name, and it is refused where the policy may allow something under the new name \
          that it does not plainly allow under the old one. Links in the path of the file are followed.\n\nA link that is there is not followed: with `force` it is replaced, \
          which needs `delete` too.\n\nA map: `changed`, `path`, `replaced`.",
    body: &with3(
        ln,
        [
            param("target", "The file; for a symbolic link any text, e.g. a relative path."),
            param("link", "The new name."),
            param("options", ""),
        ],
    ),
    asks: &[ask::<Create>(), ask::<Delete>(), ask::<Read>(), ask::<Write>()],
    fails: &[
        Kind::NotFound,
        Kind::Exists,
        Kind::IsADirectory,
        Kind::NotADirectory,
        Kind::NotAFile,
        Kind::Permission,
        Kind::NoSpace,
        Kind::ReadOnly,
        Kind::Changed,
    ],
    examples: &[
        Example { given: &[("file", "")], script: r#"ln("file", dir + "/link", #{symbolic: true}).changed"#, gives: "true" },
        Example {
            given: &[("file", "text"), ("old", "")],
            script: r#"ln(dir + "/file", dir + "/old", #{force: true}).replaced"#,
            gives: "true",
        },
        Example { given: &[("file", "text")], script: r#"ln(dir + "/file", dir + "/name"); cat(dir + "/name")"#, gives: r#""text""# },
    ],
};

fn ln(call: &Call<'_>, target: Content, link: AbsPath, options: LnOptions) -> Result<Map> {
    let text = target.as_bytes();
    let existing = if options.symbolic {
        if text.is_empty() || text.contains(&0) || text.len() > 4095 {
            return Err(bad_argument("ln: target: expected 1 to 4095 bytes without NUL"));
        }
        None
    } else {
        let path = AbsPath::new(text)?;
        let file = call.permit::<Read>(File::locate(&path)?)?.into_resource();
        let file = call.permit::<Write>(file)?;
        match file.kind() {
            Some(FileType::RegularFile) => {}
            Some(FileType::Directory) => return Err(Error::new(Kind::IsADirectory, "is a directory").with_path(path.shown())),
            _ => {
                return Err(crate::policy::Resource::obstacle(file.resource())
                    .unwrap_or_else(|| Error::new(Kind::NotAFile, "is not a regular file").with_path(path.shown())));
            }
        }
        Some(file)
    };
    let named = Named::of(&link)?;
    if named.directory {
        return Err(bad_argument("ln: link: expected the new name, got a path with `/` at its end"));
    }
    let new = call.permit::<Create>(File::locate_name(&link)?)?;
    if let Some(existing) = &existing
        && let Err(refusal) = widens_nothing(call, existing, &new)
    {
        call.tell(&new, std::time::Instant::now(), Some(refusal.kind), "")?;
        return Err(refusal);
    }
    let result = |changed: bool, replaced: bool| {
        record([("changed", changed.into_script()), ("path", name_value(link.as_bytes())), ("replaced", replaced.into_script())])
    };
    if !new.exists() {
        call.effect(
            &new,
            || existing.as_ref().map_or_else(|| sys::name::make_link(&new, text), |existing| sys::name::hard_link(existing, &new)),
            |()| (0, if options.symbolic { "symbolic link made" } else { "hard link made" }),
        )?;
        return Ok(result(true, false));
    }
    if !options.force {
        return Err(exists(&link));
    }
    let old = call.permit::<Delete>(new.into_resource())?;
    if old.is_dir() {
        return Err(Error::new(Kind::IsADirectory, "is a directory").with_path(link.shown()));
    }
    // What a link says is told to nobody who may not look at it; such a caller gets a new one in any case.
    if call.host.gate.would::<Stat>(&old) == Answer::Yes {
        let same = match &existing {
            Some(existing) => tree::identity(existing) == tree::identity(&old),
            None => old.kind() == Some(FileType::Symlink) && sys::dir::link_target(&old)? == text,
        };
        if same {
            return Ok(result(false, false));
        }
    }
    call.effect(
        &old,
        || existing.as_ref().map_or_else(|| sys::name::make_link_over(&old, text), |existing| sys::name::hard_link_over(existing, &old)),
        |()| (0, "replaced by a link"),
    )?;
    Ok(result(true, true))
}

/// That the policy allows nothing under a file's new name which it does not plainly allow under the old one.
fn widens_nothing(call: &Call<'_>, existing: &File, new: &File) -> Result<()> {
    use crate::policy::Resource;
    const VERBS: [(&str, Access); 8] = [
        ("read", Access::ReadOnly),
        ("redacted_read", Access::ReadOnly),
        ("stat", Access::ReadOnly),
        ("write", Access::Change),
        ("chmod", Access::Change),
        ("chown", Access::Change),
        ("set_x_attr", Access::Change),
        ("execute", Access::Change),
    ];
    let base = const { ask::<Create>() };
    for (name, access) in VERBS {
        let ask = Ask { name, access, context: &[], ..base };
        let under = |file: &File| call.host.gate.would_ask(&ask, true, &FILE, file.id());
        let wider = match under(new) {
            Answer::No(_) => false,
            _ => under(existing) != Answer::Yes,
        };
        if wider {
            let message = format!("the policy may allow `{name}` under the new name, and does not plainly allow it under the old one");
            return Err(Error::new(Kind::Denied, message).with_path(new.asked().shown()));
        }
    }
    Ok(())
}

options! {
    /// Options of `mktemp`.
    MktempOptions {
        dir: Option<AbsPath> = None, "The folder, `/tmp` if left out.";
        prefix: String = "tmp.".to_owned(), "How the name begins.";
        suffix: String = "".to_owned(), "How the name ends.";
        directory: bool = false, "Make a directory.";
        mode: Option<Bits> = None, "Permission bits; if left out 0o600, of a directory 0o700.";
    }
}

const MKTEMP: Function = Function {
    name: "mktemp",
    doc: "Makes an empty file, or a directory, with a name that nobody guesses, for this account alone; its path.\n\nThe name is from the kernel's random numbers, and the file is new for certain.",
    body: &with1(mktemp, [param("options", "")]),
    asks: &[ask::<Create>()],
    fails: &[Kind::NotFound, Kind::NotADirectory, Kind::Exists, Kind::Permission, Kind::NoSpace, Kind::ReadOnly, Kind::Changed],
    examples: &[
        Example { given: &[], script: r#"is_file(mktemp(#{dir: dir, prefix: "report-", suffix: ".txt"}))"#, gives: "true" },
        Example { given: &[], script: r#"mktemp(#{dir: dir, directory: true}).starts_with(dir + "/tmp.")"#, gives: "true" },
    ],
};

fn mktemp(call: &Call<'_>, options: MktempOptions) -> Result<Dynamic> {
    for (name, part) in [("prefix", &options.prefix), ("suffix", &options.suffix)] {
        if part.contains(['/', '\0']) {
            return Err(bad_argument(format!("mktemp: {name}: a name cannot hold `/` or NUL")));
        }
    }
    let mode = options.mode.map_or(if options.directory { 0o700 } else { 0o600 }, |bits| bits.0);
    let mut last = None;
    for _ in 0..TRIES {
        call.check()?;
        let mut path = options.dir.as_ref().map_or_else(|| b"/tmp".to_vec(), |dir| dir.as_bytes().to_vec());
        path.push(b'/');
        path.extend_from_slice(options.prefix.as_bytes());
        path.extend_from_slice(sys::name::random_letters(16)?.as_bytes());
        path.extend_from_slice(options.suffix.as_bytes());
        let path = AbsPath::new(path)?;
        let found = if options.directory { File::locate_dir(&path)? } else { File::locate(&path)? };
        let granted = call.permit::<Create>(found)?;
        let done = call.effect(
            &granted,
            || {
                if options.directory {
                    sys::name::make_dir(&granted, mode)
                } else {
                    sys::write::create(&granted, mode, rustix::fs::OFlags::WRONLY).map(drop)
                }
            },
            |()| (0, if options.directory { "directory made" } else { "created" }),
        );
        match done {
            Ok(()) => return Ok(name_value(path.as_bytes())),
            // The name that it would have had, as far as that goes.
            Err(error) if error.kind == Kind::DryRun => return Ok(name_value(path.as_bytes())),
            Err(error) if error.kind == Kind::Exists => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::new(Kind::Exists, "every name is taken")))
}

#[cfg(test)]
mod tests;
