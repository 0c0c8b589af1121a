//! Functions that extract archives. They ask for [`Read`] of the archive, and for [`Create`] and [`Write`] of each thing that is made of it; for
//! [`Chmod`] and [`Chown`] where the archive's special bits and owners are to be kept.
//!
//! The archive is read twice. The first time every member is judged, by its form and by the policy, and nothing is made; the second time each is
//! judged again as it is found then, and made in a pinned folder. Nothing that an archive says is believed, and no link is ever followed.

mod plan;

use super::archive::Skipped;
use super::attributes::{Chmod, Chown};
use super::compress::located;
use super::file_read::Read;
use super::file_stat::Stat;
use super::file_write::{Create, Write};
use super::function::{Call, Example, Function, param, with3};
use super::handle::Target;
use super::value::{IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Action, Answer, Ask, Granted, Walk, ask};
use crate::resource::file::{DIR, FILE, File};
use crate::resource::path::{AbsPath, to_id};
use crate::sys;
use crate::sys::archive::{Bounds, Data, Form, Member, What};
use crate::sys::decompress::Caps;
use crate::sys::extract::{Identity, identity};
use crate::sys::fresh::{Birth, Sink};
use plan::{Circumstances, Placed, Plan, birth, special};
use rustix::fs::FileType;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;

pub const FUNCTIONS: &[Function] = &[TAR_EXTRACT, ZIP_EXTRACT];

/// Bytes of the names of directories that are held until their times are set.
const MOST_NAMES: usize = 64 << 20;
/// The deepest folder: one handle is open for each on the way.
const DEEPEST: usize = 200;
/// Headers of members, which count for the stream but not for `max_bytes`.
const HEADERS: u64 = 4096;

options! {
    /// Options of `tar_extract` and `zip_extract`.
    ExtractOptions {
        members: Vec<String> = Vec::new(), "Only members that fit this glob (or one of these), and what is below them. One that fits nothing is the error `not_found`.";
        strip_components: u64 = 0, "Take so many folders away from the front of each name; what has no more than these is left out.";
        preserve_permissions: bool = true, "Give new files and directories the permission bits of the archive (set-user-id, set-group-id and sticky only with `set_id`); else 0o644, or 0o755 for programs and directories.", flags &["preserve_permissions"];
        set_id: bool = false, "Give new files and directories the set-user-id, set-group-id and sticky bits of the archive too. Asks `chmod` for each that has one, with the bits wanted. Not for zip.";
        preserve_ownership: bool = false, "Give what is new the owner and group of the archive: by their names where this host knows them, else by their numbers. Asks `chown` for each. Not for zip.", flags &["preserve_ownership"];
        preserve_timestamps: bool = true, "Give them the times of the archive.", flags &["preserve_timestamps"];
        overwrite: bool = false, "Replace files that are there already; they keep their owner and permission bits.";
        keep_going: bool = false, "Leave out what is denied, there already, or may not be extracted, and tell it in `skipped`, instead of making nothing.";
        max_bytes: u64 = 16 << 30, "Fail with `too_large` when more than this is to be written; looked at before anything is made.";
        max_members: u64 = 1_000_000, "Fail with `too_large` when the archive has more members.";
        max_ratio: u64 = 20_000, "Fail with `too_large` when it unpacks to so many times its size (looked at from 1 MiB on).";
    }
}

const ASKS: &[Ask] = &[ask::<Read>(), ask::<Create>(), ask::<Write>()];
const ASKS_TAR: &[Ask] = &[ask::<Read>(), ask::<Create>(), ask::<Write>(), ask::<Chmod>(), ask::<Chown>()];
const FAILS: &[Kind] = &[
    Kind::NotFound,
    Kind::Exists,
    Kind::NotADirectory,
    Kind::NotAFile,
    Kind::BadData,
    Kind::TooLarge,
    Kind::Unsupported,
    Kind::Permission,
    Kind::NoSpace,
    Kind::ReadOnly,
    Kind::Changed,
];
const PARAMS: [super::function::Param; 3] = [
    param("path", "The archive, or an open file."),
    param("dir", "The directory to extract to. It is made if it is not there; the folder it is in must be."),
    param("options", ""),
];

const TAR_EXTRACT: Function = Function {
    name: "tar_extract",
    doc: "Extracts a tar archive: plain, or packed with gzip, zstd, bzip2 or xz, whatever its name.\n\n\
          Every member is judged before anything is made: `create` of each directory, link and file that is new, `write` of each file. One that is denied is an error, and nothing has been made then. \
          So is a member that has no place below `dir`: an absolute name, a name with `..` or through a link, a link that leads out of `dir` (absolute, or with `..` past it), a hard link to what the archive does not hold, a FIFO, a device. These are the error `bad_data`, whose `path` is the name. With `keep_going` they are left out and told in `skipped`. \
          An archive that is cut short or damaged is found out in this way too, before anything is made.\n\n\
          Links that lie in `dir` already are never followed: what would go through one is the error `not_a_directory`. Each file gets its name when it is complete. \
          The owner is whoever runs rex, and no file gets set-user-id, unless `preserve_ownership` and `set_id` ask for it; extended attributes and access lists in the archive are not extracted. Of members with the same name the last one counts.\n\n\
          A map: `changed`, `path` (of `dir`), `files`, `dirs`, `links`, `bytes`, `skipped` (maps with `path`, `kind`, `reason`), `skipped_count`.",
    body: &with3(tar_extract, PARAMS),
    asks: ASKS_TAR,
    fails: FAILS,
    examples: &[
        Example {
            given: &[("d/a", "1"), ("d/sub/b", "22")],
            script: r#"tar_create(dir + "/x.tar.gz", dir + "/d", #{relative_to: dir}); let r = tar_extract(dir + "/x.tar.gz", dir + "/out"); [r.files, r.dirs, cat(dir + "/out/d/sub/b")]"#,
            gives: r#"[2, 3, "22"]"#,
        },
        Example {
            given: &[("d/a", "1"), ("d/sub/b", "22")],
            script: r#"tar_create(dir + "/x.tar", dir + "/d", #{relative_to: dir}); tar_extract(dir + "/x.tar", dir + "/out", #{members: "d/sub", strip_components: 2}).files"#,
            gives: "1",
        },
        Example {
            given: &[("x.tar", "this is no archive")],
            script: r#"let k = (); try { tar_extract(dir + "/x.tar", dir + "/out") } catch (e) { if e.kind == "denied" { throw e } k = e.kind; } [k, exists(dir + "/out")]"#,
            gives: r#"["bad_data", false]"#,
        },
        Example {
            given: &[("d/a", "1")],
            script: r#"chmod(dir + "/d/a", 0o1640); tar_create(dir + "/x.tar", dir + "/d/a", #{relative_to: dir + "/d"}); tar_extract(dir + "/x.tar", dir + "/out", #{set_id: true}); stat(dir + "/out/a").mode == 0o1640"#,
            gives: "true",
        },
        Example {
            given: &[("d/a", "1")],
            script: r#"let s = stat(dir + "/d/a"); tar_create(dir + "/x.tar", dir + "/d", #{relative_to: dir}); tar_extract(dir + "/x.tar", dir + "/out", #{preserve_ownership: true}); stat(dir + "/out/d/a").uid == s.uid"#,
            gives: "true",
        },
    ],
};

const ZIP_EXTRACT: Function = Function {
    name: "zip_extract",
    doc: "Extracts a zip archive.\n\nThe rules, options and result are those of `tar_extract`. Members that are stored or deflated are extracted; encrypted ones and other methods are the error `unsupported`. Times have no zone in zip archives and are taken for UTC. An archive whose members overlap is the error `bad_data`, and so is a name with a backslash, which other systems would take for a folder.",
    body: &with3(zip_extract, PARAMS),
    asks: ASKS,
    fails: FAILS,
    examples: &[
        Example {
            given: &[("x.zip", "PK\u{5}\u{6}\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")],
            script: r#"zip_extract(dir + "/x.zip", dir + "/out").files"#,
            gives: "0",
        },
        Example {
            given: &[("x.zip", ONE_FILE)],
            script: r#"zip_extract(dir + "/x.zip", dir + "/out"); cat(dir + "/out/a")"#,
            gives: r#""13""#,
        },
    ],
};

/// A zip archive of one stored file `a` with the contents `13`.
const ONE_FILE: &str = "PK\x03\x04\x0a\0\0\0\0\0\x03\x18!X[tT8\x02\0\0\0\x02\0\0\0\x01\0\0\0a13PK\x01\x02\x0a\0\x0a\0\0\0\0\0\x03\x18!X[tT8\x02\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0aPK\x05\x06\0\0\0\0\x01\0\x01\0/\0\0\0!\0\0\0\0\0";

fn tar_extract(call: &Call<'_>, archive: Target, dir: AbsPath, options: ExtractOptions) -> Result<Map> {
    extract(call, archive, &dir, &options, Form::Tar)
}

fn zip_extract(call: &Call<'_>, archive: Target, dir: AbsPath, options: ExtractOptions) -> Result<Map> {
    extract(call, archive, &dir, &options, Form::Zip)
}

fn extract(call: &Call<'_>, archive: Target, dir: &AbsPath, options: &ExtractOptions, form: Form) -> Result<Map> {
    if options.set_id && !options.preserve_permissions {
        return Err(bad_argument("`set_id` without `preserve_permissions`: the bits are those of the archive, or they are not"));
    }
    if form == Form::Zip && (options.preserve_ownership || options.set_id) {
        return Err(bad_argument("options `preserve_ownership` and `set_id`: of zip archives neither owners nor set-user-id are read"));
    }
    let mut plan = Plan::new(options, form)?;
    let archive = located(archive)?;
    // What comes out of it is on record as of any walk: the archive, each denial, each change, and how much was allowed.
    let walk = call.walk::<Read>(&archive)?;
    let archive = walk.permit(archive)?;
    let shown = to_id(archive.resource().asked().as_bytes());
    let caps = Caps {
        // What is passed over is unpacked too.
        max_bytes: options.max_bytes.saturating_add(options.max_members.saturating_mul(HEADERS)),
        max_ratio: options.max_ratio,
        ..Caps::default()
    };
    let bounds = Bounds { members: options.max_members, caps };
    let check = || call.check();
    let place = |error: Error| if error.path.is_some() { error } else { error.with_path(shown.clone()) };

    let mut judge = Judge {
        call,
        options,
        root: File::locate_dir(dir)?,
        stack: Stack::default(),
        planned: HashMap::new(),
        hasher: RandomState::new(),
        judged: false,
    };
    judge.folder_itself()?;
    sys::archive::each(sys::file::open(&archive)?, form, bounds, &check, &mut |member, _| {
        if let Some(placed) = plan.place(member, None)? {
            match judge.member(member, &placed) {
                Err(error) if passes(options, &error) => {}
                judged => {
                    judged.map_err(|error| named(error, &member.path))?;
                    judge.judged = true;
                }
            }
        }
        Ok(true)
    })
    .map_err(place)?;
    plan.all_were_found()?;
    judge.may_know()?;
    if judge.root.exists() && !judge.root.is_dir() {
        return Err(Error::new(Kind::NotADirectory, "is not a directory").with_path(dir.shown()));
    }

    let mut plan = Plan::new(options, form)?;
    let mut skipped = Skipped::default();
    let mut maker = Maker::new(call, &walk, options, dir)?;
    let mut done = maker.folder_itself();
    if done.is_ok() {
        done = sys::archive::each(sys::file::open(&archive)?, form, bounds, &check, &mut |member, data| {
            let made = match plan.place(member, Some(&mut skipped)) {
                Ok(None) => return Ok(true),
                Ok(Some(placed)) => maker.member(member, &placed, data),
                Err(error) => Err(error),
            };
            match made {
                Err(error) if !maker.broken && passes(options, &error) => skipped.add(&member.path, error.kind.name(), &error.message),
                made => made.map_err(|error| named(error, &member.path))?,
            }
            Ok(true)
        })
        .map_err(place);
    }
    let settled = maker.settle(&mut skipped);
    let (files, dirs, links) = (maker.count.files, maker.count.dirs, maker.count.links);
    if let Err(error) = done.and(settled) {
        if files + dirs + links == 0 {
            return Err(error);
        }
        let message = format!("{} (after {files} files, {dirs} directories and {links} links were made)", error.message);
        return Err(Error { message, ..error });
    }
    let mut map = record([
        ("changed", (files + dirs + links > 0).into_script()),
        ("path", name_value(dir.as_bytes())),
        ("files", files.into_script()),
        ("dirs", dirs.into_script()),
        ("links", links.into_script()),
        ("bytes", maker.count.bytes.into_script()),
    ]);
    skipped.put_in(&mut map);
    drop(maker);
    walk.finish()?;
    Ok(map)
}

/// The names of members are data, so they are never in messages.
fn named(error: Error, member: &[u8]) -> Error {
    if error.path.is_some() { error } else { error.with_path(to_id(member)) }
}

/// Whether this error only means that a member is left out.
fn passes(options: &ExtractOptions, error: &Error) -> bool {
    use Kind::{BadArgument, BadData, Changed, Denied, Exists, IsADirectory, NotADirectory, NotAFile, NotFound, Permission, Unsupported};
    options.keep_going
        && matches!(
            error.kind,
            Denied
                | Exists
                | BadData
                | BadArgument
                | Unsupported
                | Permission
                | NotADirectory
                | NotAFile
                | IsADirectory
                | NotFound
                | Changed
        )
}

fn bad(what: &str) -> Error {
    Error::new(Kind::BadData, what)
}

/// The folders on the way to where the last member went, pinned.
#[derive(Default)]
struct Stack {
    levels: Vec<(Vec<u8>, File)>,
}

/// How far there are folders.
enum Reach {
    /// All the way.
    Whole,
    /// This one is missing.
    Missing(usize),
    /// Something else stands here: a link, a file.
    Blocked(usize),
}

impl Stack {
    fn top<'s>(&'s self, root: &'s File) -> &'s File {
        self.levels.last().map_or(root, |(_, folder)| folder)
    }
    /// Goes as far as there are folders. No link is followed.
    fn go(&mut self, root: &File, names: &[Vec<u8>]) -> Result<Reach> {
        let same = self.levels.iter().zip(names).take_while(|((have, _), want)| have == *want).count();
        self.levels.truncate(same);
        for (at, name) in names.iter().enumerate().skip(same) {
            let entry = match File::entry(self.top(root), name) {
                Err(error) if error.kind == Kind::NotFound => return Ok(Reach::Missing(at)),
                entry => entry?,
            };
            if !entry.is_dir() {
                return Ok(Reach::Blocked(at));
            }
            self.levels.push((name.clone(), entry));
        }
        Ok(Reach::Whole)
    }
}

fn blocked(kind: Option<FileType>) -> Error {
    Error::new(
        Kind::NotADirectory,
        if kind == Some(FileType::Symlink) {
            "a symbolic link stands where a folder is needed; it is not followed"
        } else {
            "something else stands where a folder is needed"
        },
    )
}

fn exists() -> Error {
    Error::new(Kind::Exists, "it is there already").with_hint("`overwrite: true` replaces files")
}

/// Whether the caller may know that this directory is there: may make it, look at it or list it. Else an archive that holds one of its name
/// would tell.
fn is_known(call: &Call<'_>, dir: &File) -> bool {
    let gate = &call.host.gate;
    gate.would::<Create>(dir) == Answer::Yes || gate.would::<Stat>(dir) == Answer::Yes || gate.would::<Read>(dir) == Answer::Yes
}

/// The first round: judges, and makes nothing.
struct Judge<'c, 'h> {
    call: &'c Call<'h>,
    options: &'c ExtractOptions,
    root: File,
    stack: Stack,
    /// What the archive makes, by the hash of its path, with a hash of its target: a hundred thousand names would not fit in little memory.
    planned: HashMap<u64, (What, u64)>,
    hasher: RandomState,
    /// Something below the directory was permitted, so that the caller may know of it.
    judged: bool,
}

impl Judge<'_, '_> {
    /// Denies as the second round would, on record, but allows silently: what is done is on record there.
    fn ask<A: Action<On = File>>(&self, file: File) -> Result<()> {
        if self.call.host.gate.would::<A>(&file) == Answer::Yes {
            return Ok(());
        }
        if self.options.keep_going {
            return Err(Error::new(Kind::Denied, "it is not allowed"));
        }
        self.call.permit::<A>(file).map(drop)
    }

    /// The same for the special bits and the owner that what is new shall have.
    fn ask_special(&self, member: &Member, file: File) -> Result<()> {
        let (mode, owner) = special(&birth(self.options, member)?, &file, member.what);
        let file = match mode {
            Some(mode) => self.ask_with::<Chmod>(file, mode)?,
            None => file,
        };
        owner.map_or(Ok(()), |owner| self.ask_with::<Chown>(file, owner).map(drop))
    }

    fn ask_with<A: Action<On = File>>(&self, file: File, context: Circumstances) -> Result<File> {
        if self.call.host.gate.would_with::<A>(&file, &context) == Answer::Yes {
            return Ok(file);
        }
        if self.options.keep_going {
            return Err(Error::new(Kind::Denied, "it is not allowed"));
        }
        self.call.permit_with::<A>(file, context).map(Granted::into_resource)
    }

    /// Without the directory itself nothing can go on, whatever may be left out.
    fn folder_itself(&self) -> Result<()> {
        if self.root.exists() {
            return Ok(());
        }
        let absent = File::locate_dir(self.root.asked())?;
        if self.call.host.gate.would::<Create>(&absent) == Answer::Yes {
            return Ok(());
        }
        self.call.permit::<Create>(absent).map(drop)
    }

    /// An archive of which nothing is extracted does not tell whether the directory is there.
    fn may_know(&self) -> Result<()> {
        if self.judged || !self.root.exists() || is_known(self.call, &self.root) {
            return Ok(());
        }
        self.call.permit::<Create>(File::locate_dir(self.root.asked())?).map(drop)
    }

    fn plan(&mut self, path: &[u8], what: What, target: &[u8]) -> Result<bool> {
        let target = self.hasher.hash_one(target);
        match self.planned.insert(self.hasher.hash_one(path), (what, target)) {
            None => Ok(true),
            Some((before, _)) if before == what && matches!(what, What::File | What::Dir) => Ok(false),
            Some((before, to)) if before == what && to == target => Ok(false),
            Some(_) => Err(bad("two different members have the same name")),
        }
    }

    fn member(&mut self, member: &Member, placed: &Placed) -> Result<()> {
        let path = placed.path();
        let Some((leaf, folders)) = placed.names.split_last() else { return Ok(()) };
        let folders = if member.what == What::Dir { placed.names.as_slice() } else { folders };
        let reach = if self.root.is_dir() { self.stack.go(&self.root, folders)? } else { Reach::Missing(0) };
        if let Reach::Blocked(at) = reach {
            // First whether the caller may know.
            self.ask::<Create>(File::absent_below(&self.root, &path, if member.what == What::Dir { &DIR } else { &FILE })?)?;
            let kind = folders.get(at).and_then(|name| File::entry(self.stack.top(&self.root), name).ok()).and_then(|entry| entry.kind());
            return Err(blocked(kind));
        }
        let missing = if let Reach::Missing(at) = reach { at } else { folders.len() };
        for (at, _) in folders.iter().enumerate() {
            let part = folders.get(..=at).unwrap_or_default().join(&b'/');
            if let Some((what, _)) = self.planned.get(&self.hasher.hash_one(part.as_slice()))
                && *what != What::Dir
            {
                return Err(bad("a member lies below another one that is no directory"));
            }
            if at >= missing && self.plan(&part, What::Dir, b"")? {
                self.ask::<Create>(File::absent_below(&self.root, &part, &DIR)?)?;
            }
        }
        if member.what == What::Dir {
            let dir = self.stack.top(&self.root);
            if missing < folders.len() || !self.root.is_dir() {
                self.ask_special(member, File::absent_below(&self.root, &path, &DIR)?)?;
            } else if !is_known(self.call, dir) {
                self.ask::<Create>(File::absent_below(&self.root, &path, &DIR)?)?;
            }
            return Ok(());
        }
        let absent = || File::absent_below(&self.root, &path, &FILE);
        let here = if missing < folders.len() || !self.root.is_dir() {
            None
        } else {
            match File::entry(self.stack.top(&self.root), leaf) {
                Err(error) if error.kind == Kind::NotFound => None,
                entry => Some(entry?),
            }
        };
        match (member.what, here) {
            (What::Symlink, None) => {
                self.ask::<Create>(absent()?)?;
                self.ask_special(member, absent()?)?;
            }
            (What::Symlink, Some(entry)) => {
                // Whether it is the same link is seen by who may make it.
                let kind = entry.kind();
                self.ask::<Create>(entry)?;
                if kind != Some(FileType::Symlink) {
                    return Err(exists());
                }
            }
            (_, None) => {
                self.ask::<Write>(absent()?)?;
                self.ask::<Create>(absent()?)?;
                if member.what == What::File {
                    self.ask_special(member, absent()?)?;
                }
            }
            (_, Some(entry)) => {
                let kind = entry.kind();
                self.ask::<Write>(entry)?;
                if kind != Some(FileType::RegularFile) || !self.options.overwrite {
                    return Err(exists());
                }
            }
        }
        if member.what == What::HardLink {
            let target = placed.target.join(&b'/');
            if self
                .planned
                .get(&self.hasher.hash_one(target.as_slice()))
                .is_none_or(|(what, _)| !matches!(what, What::File | What::HardLink))
            {
                return Err(bad("a hard link leads to a file that is not extracted before it"));
            }
            return self.plan(&path, What::HardLink, &target).map(drop);
        }
        self.plan(&path, member.what, &member.target).map(drop)
    }
}

#[derive(Default)]
struct Count {
    files: u64,
    dirs: u64,
    links: u64,
    bytes: u64,
}

/// A directory that was made: it gets its mode and time at the end, when nothing more is put into it.
struct Pending {
    names: Vec<Vec<u8>>,
    made: Identity,
    birth: Birth,
}

/// The second round: judges what is there now, and makes.
struct Maker<'c, 'h> {
    call: &'c Call<'h>,
    walk: &'c Walk<'c, Read>,
    options: &'c ExtractOptions,
    dir: &'c AbsPath,
    root: File,
    stack: Stack,
    hasher: RandomState,
    /// Files that this call has made, by the hash of their path; and whether there was none of that name before, so that nothing of it is to be kept.
    files: HashMap<u64, (Identity, bool)>,
    pending: Vec<Pending>,
    /// Where in `pending` a directory is, by the hash of its path.
    dirs: HashMap<u64, usize>,
    held: usize,
    count: Count,
    /// The archive itself could not be read on.
    broken: bool,
    /// For the contents of members.
    buffer: Vec<u8>,
}

impl<'c, 'h> Maker<'c, 'h> {
    fn new(call: &'c Call<'h>, walk: &'c Walk<'c, Read>, options: &'c ExtractOptions, dir: &'c AbsPath) -> Result<Self> {
        Ok(Self {
            call,
            walk,
            options,
            dir,
            root: File::locate_dir(dir)?,
            stack: Stack::default(),
            hasher: RandomState::new(),
            files: HashMap::new(),
            pending: Vec::new(),
            dirs: HashMap::new(),
            held: 0,
            count: Count::default(),
            broken: false,
            buffer: vec![0; 128 << 10],
        })
    }

    fn folder_itself(&mut self) -> Result<()> {
        if !self.root.exists() {
            let absent = std::mem::replace(&mut self.root, File::locate_dir(self.dir)?);
            let made = self.make_dir(absent)?;
            self.root = File::locate_dir(self.dir)?;
            if identity(&self.root) != Some(made) {
                return Err(Error::new(Kind::Changed, "the directory was replaced after it was made").with_path(self.dir.shown()));
            }
            self.pend(Vec::new(), made);
        }
        if self.root.is_dir() { Ok(()) } else { Err(blocked(self.root.kind()).with_path(self.dir.shown())) }
    }

    fn make_dir(&mut self, absent: File) -> Result<Identity> {
        let granted = self.walk.permit_as::<Create>(absent)?;
        let made = self.call.effect(&granted, || sys::extract::make_dir(&granted), |_| (0, "directory"))?;
        self.count.dirs += 1;
        Ok(made)
    }

    fn pend(&mut self, names: Vec<Vec<u8>>, made: Identity) {
        self.held += names.iter().map(Vec::len).sum::<usize>();
        self.dirs.insert(self.hasher.hash_one(names.join(&b'/').as_slice()), self.pending.len());
        self.pending.push(Pending { names, made, birth: Birth::plain(0o755, None) });
    }

    /// Goes to a folder, making what is missing on the way.
    fn folder(&mut self, names: &[Vec<u8>]) -> Result<()> {
        loop {
            match self.stack.go(&self.root, names)? {
                Reach::Whole => return Ok(()),
                Reach::Blocked(at) => {
                    let kind =
                        names.get(at).and_then(|name| File::entry(self.stack.top(&self.root), name).ok()).and_then(|entry| entry.kind());
                    return Err(blocked(kind));
                }
                Reach::Missing(at) => {
                    let Some(name) = names.get(at) else { return Ok(()) };
                    let absent = File::absent_entry(self.stack.top(&self.root), name, &DIR)?;
                    let made = self.make_dir(absent)?;
                    let entry = File::entry(self.stack.top(&self.root), name)?;
                    if identity(&entry) != Some(made) {
                        return Err(Error::new(Kind::Changed, "a directory was replaced after it was made"));
                    }
                    self.stack.levels.push((name.clone(), entry));
                    self.pend(names.get(..=at).unwrap_or_default().to_vec(), made);
                    if self.held > MOST_NAMES {
                        return Err(Error::new(Kind::TooLarge, "the names of the directories are too long to be held"));
                    }
                }
            }
        }
    }

    /// Asks for the special bits and the owner of what is new.
    fn permit_special(&self, birth: &Birth, file: File, what: What) -> Result<File> {
        let (mode, owner) = special(birth, &file, what);
        let file = match mode {
            Some(mode) => self.call.permit_with::<Chmod>(file, mode)?.into_resource(),
            None => file,
        };
        Ok(match owner {
            Some(owner) => self.call.permit_with::<Chown>(file, owner)?.into_resource(),
            None => file,
        })
    }

    /// Asks for both verbs that a new file needs, in the order of [`super::file_write::allow_new`].
    fn allow_new(&self, file: File) -> Result<Granted<Write>> {
        if self.call.host.gate.would::<Write>(&file) != Answer::Yes {
            return self.walk.permit_as::<Write>(file);
        }
        let file = self.walk.permit_as::<Create>(file)?.into_resource();
        self.walk.permit_as::<Write>(file)
    }

    fn member(&mut self, member: &Member, placed: &Placed, data: &mut dyn Data) -> Result<()> {
        let Some((leaf, folders)) = placed.names.split_last() else { return Ok(()) };
        let key = self.hasher.hash_one(placed.path().as_slice());
        if member.what == What::Dir {
            if matches!(self.stack.go(&self.root, &placed.names)?, Reach::Whole) && !self.dirs.contains_key(&key) {
                let dir = self.stack.top(&self.root);
                if !is_known(self.call, dir) {
                    drop(self.walk.permit_as::<Create>(File::absent_below(&self.root, &placed.path(), &DIR)?)?);
                }
                return Ok(());
            }
            let birth = birth(self.options, member)?;
            drop(self.permit_special(&birth, File::absent_below(&self.root, &placed.path(), &DIR)?, What::Dir)?);
            self.folder(&placed.names)?;
            if let Some(pending) = self.dirs.get(&key).and_then(|at| self.pending.get_mut(*at)) {
                pending.birth = birth;
            }
            return Ok(());
        }
        let old = if member.what == What::HardLink { Some(self.linked(&placed.target)?) } else { None };
        self.folder(folders)?;
        let folder = self.stack.top(&self.root);
        let here = match File::entry_named(folder, leaf) {
            Err(error) if error.kind == Kind::NotFound => None,
            entry => Some(entry?),
        };
        let absent = || File::absent_entry(folder, leaf, &FILE);
        if member.what == What::Symlink {
            let there = here.is_some();
            let granted = self.walk.permit_as::<Create>(if let Some(entry) = here { entry } else { absent()? })?;
            if there {
                let same = granted.resource().kind() == Some(FileType::Symlink) && sys::dir::link_target(&granted)? == member.target;
                return if same { Ok(()) } else { Err(exists()) };
            }
            let birth = birth(self.options, member)?;
            drop(self.permit_special(&birth, granted.resource().twin()?, What::Symlink)?);
            self.call.effect(&granted, || sys::extract::make_symlink(&granted, &member.target, birth), |()| (0, "symbolic link"))?;
            self.count.links += 1;
            return Ok(());
        }
        let mut birth = birth(self.options, member)?;
        let granted = match here {
            None => {
                let granted = self.allow_new(absent()?)?;
                if member.what == What::File {
                    drop(self.permit_special(&birth, absent()?, What::File)?);
                }
                granted
            }
            Some(entry) => {
                let own = self.files.get(&key).filter(|(made, _)| identity(&entry) == Some(*made));
                let is_own = own.is_some();
                birth.anew = own.is_some_and(|(_, new)| *new);
                let entry = if birth.anew && member.what == What::File { self.permit_special(&birth, entry, What::File)? } else { entry };
                let granted = self.walk.permit_as::<Write>(entry)?;
                if granted.resource().kind() != Some(FileType::RegularFile) || !(self.options.overwrite || is_own) {
                    return Err(exists());
                }
                granted
            }
        };
        match old {
            Some((old, made)) => self.link(&granted, &old, made, key),
            None => self.file(&granted, birth, data, key),
        }
    }

    /// What a hard link is another name of: a file that this call has made.
    fn linked(&mut self, target: &[Vec<u8>]) -> Result<(File, Identity)> {
        let gone = || bad("a hard link leads to a file that is not extracted before it");
        let (made, _) = *self.files.get(&self.hasher.hash_one(target.join(&b'/').as_slice())).ok_or_else(gone)?;
        let (leaf, folders) = target.split_last().ok_or_else(gone)?;
        if !matches!(self.stack.go(&self.root, folders)?, Reach::Whole) {
            return Err(gone());
        }
        Ok((File::entry_named(self.stack.top(&self.root), leaf)?, made))
    }

    fn link(&mut self, granted: &Granted<Write>, old: &File, made: Identity, key: u64) -> Result<()> {
        if identity(granted.resource()) == Some(made) {
            return Ok(());
        }
        self.call.effect(granted, || sys::extract::make_link(granted, old, made), |()| (0, "hard link"))?;
        self.files.insert(key, (made, false));
        self.count.links += 1;
        Ok(())
    }

    fn file(&mut self, granted: &Granted<Write>, birth: Birth, data: &mut dyn Data, key: u64) -> Result<()> {
        let check = || self.call.check();
        let mut broken = false;
        let buffer = &mut self.buffer;
        let (made, bytes) = self
            .call
            .effect(
                granted,
                || {
                    sys::fresh::make(granted, birth, |sink| {
                        fill(sink, data, buffer, &check, &mut broken)?;
                        Ok((sink.identity()?, sink.bytes()))
                    })
                },
                |(_, bytes)| (*bytes, if granted.resource().exists() { "replaced" } else { "created" }),
            )
            .inspect_err(|_| self.broken |= broken)?;
        self.files.insert(key, (made, birth.anew || !granted.resource().exists()));
        self.count.files += 1;
        self.count.bytes += bytes;
        Ok(())
    }

    /// Gives the directories that were made their modes and times, the innermost first.
    fn settle(&mut self, skipped: &mut Skipped) -> Result<()> {
        let mut first = Ok(());
        while let Some(Pending { names, made, birth }) = self.pending.pop() {
            let mut settle = || -> Result<()> {
                let found = match names.split_last() {
                    None => File::locate_dir(self.dir)?,
                    Some((leaf, folders)) => match self.stack.go(&self.root, folders)? {
                        Reach::Whole => File::entry(self.stack.top(&self.root), leaf)?,
                        _ => return Err(Error::new(Kind::Changed, "a directory was replaced after it was made")),
                    },
                };
                let found = self.permit_special(&birth, found, What::Dir)?;
                let granted = self.walk.permit_as::<Create>(found)?;
                sys::extract::settle(&granted, made, birth)
            };
            match settle() {
                Err(error) if passes(self.options, &error) => skipped.add(&names.join(&b'/'), error.kind.name(), &error.message),
                Err(error) if first.is_ok() => first = Err(named(error, &names.join(&b'/'))),
                _ => {}
            }
        }
        first
    }
}

/// Puts the data of a member into a file, its holes as holes. `broken` tells errors of the archive from those of the file.
fn fill(sink: &mut Sink<'_>, data: &mut dyn Data, buffer: &mut [u8], check: &dyn Fn() -> Result<()>, broken: &mut bool) -> Result<()> {
    loop {
        check()?;
        let zeros = data.hole();
        if zeros > 0 {
            sink.skip(zeros)?;
        }
        let count = match data.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.map_err(|error| {
                *broken = true;
                sys::stream::from_io(error)
            })?,
        };
        if count == 0 {
            return Ok(());
        }
        sink.write_all(buffer.get(..count).unwrap_or_default()).map_err(sys::stream::from_io)?;
    }
}
