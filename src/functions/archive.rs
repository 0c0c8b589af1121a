//! Functions that make archives and tell what is in them. They ask for [`Read`] and [`Stat`] of what goes in, [`Write`] (and [`Create`]) of the archive.

use super::compress::{allow, located};
use super::datetime::DateTime;
use super::file_read::Read;
use super::file_stat::Stat;
use super::file_write::{Create, Write};
use super::function::{Call, Example, Function, param, with2, with3};
use super::handle::Target;
use super::value::{Array, Dynamic, IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Walk, ask};
use crate::resource::file::{File, names};
use crate::resource::path::{AbsPath, to_id};
use crate::sys;
use crate::sys::archive::{Bounds, Data, Form, Member, What};
use crate::sys::compress::{Packer, Packing};
use crate::sys::decompress::{Caps, Format};
use crate::sys::fresh::{Birth, Sink};
use crate::sys::tar::Writer;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::fs::FileType;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;

pub const FUNCTIONS: &[Function] = &[TAR_CREATE, TAR_LIST, ZIP_LIST];

/// Members that were left out and are told one by one; further ones are counted.
const MOST_SKIPPED: usize = 1000;
/// Members of an archive, unless `max_members` says otherwise.
const MOST_MEMBERS: u64 = 1_000_000;

/// What was left out, for results.
#[derive(Default)]
pub struct Skipped {
    told: Array,
    pub count: u64,
}

impl Skipped {
    pub fn add(&mut self, path: &[u8], kind: &str, reason: &str) {
        self.count += 1;
        if self.told.len() < MOST_SKIPPED {
            self.told.push(Dynamic::from_map(record([
                ("path", name_value(path)),
                ("kind", kind.into_script()),
                ("reason", reason.into_script()),
            ])));
        }
    }
    /// The entries for a result: the first of them, and how many there are.
    pub fn put_in(self, map: &mut Map) {
        map.insert("skipped".into(), Dynamic::from_array(self.told));
        map.insert("skipped_count".into(), self.count.into_script());
    }
}

/// Globs on names in archives: `*` stays within a folder, `**` crosses folders. They fit a name, or a folder that it is in.
pub struct Globs {
    set: GlobSet,
    /// What fitted something; only counted, so that a pattern for nothing can be told.
    pub hit: Vec<bool>,
}

impl Globs {
    /// # Errors
    /// [`Kind::BadArgument`] for what is no glob.
    pub fn new(option: &str, patterns: &[String]) -> Result<Option<Self>> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let mut set = GlobSetBuilder::new();
        let bad = |error: globset::Error| bad_argument(format!("option `{option}`: not a glob: {}", error.kind()));
        for pattern in patterns {
            let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
            set.add(GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build().map_err(bad)?);
        }
        Ok(Some(Self { set: set.build().map_err(bad)?, hit: vec![false; patterns.len()] }))
    }
    /// Whether this path or a folder above it fits; with `names` also by the last name alone.
    pub fn fits(&mut self, path: &[u8], by_name: bool) -> bool {
        let mut any = false;
        let mut part = Some(path);
        while let Some(name) = part.filter(|name| !name.is_empty()) {
            let cut = name.iter().rposition(|byte| *byte == b'/');
            let last = name.get(cut.map_or(0, |cut| cut + 1)..).filter(|last| by_name && last.len() < name.len());
            for candidate in [Some(name), last].into_iter().flatten() {
                for at in self.set.matches(std::ffi::OsStr::from_bytes(candidate)) {
                    any = true;
                    if let Some(hit) = self.hit.get_mut(at) {
                        *hit = true;
                    }
                }
            }
            part = cut.and_then(|cut| name.get(..cut));
        }
        any
    }
}

options! {
    /// Options of `tar_create`.
    CreateOptions {
        compress: Option<String> = None, "`gz`, `zst`, `xz` or `none`; left out, by the name of the archive.";
        level: Option<u64> = None, "1 to 9 (`zst`: to 19); left out, what the format's program takes.";
        exclude: Vec<String> = Vec::new(), "Leave out what fits one of these globs: by its name, or by its path in the archive; and what is below it.";
        relative_to: Option<AbsPath> = None, "Names in the archive begin below this folder. Left out, they are the whole paths without the `/` in front.";
        dereference: bool = false, "Put in what links lead to, instead of the links.";
        force: bool = false, "Replace an archive that is there already.", flags &["force", "f"];
        keep_going: bool = false, "Leave out what is denied or cannot be read and tell it in `skipped`, instead of making nothing.";
        max_members: u64 = MOST_MEMBERS, "Fail with `too_large` when there is more than this to put in.";
    }
}

const TAR_CREATE: Function = Function {
    name: "tar_create",
    doc: "Packs files and directory trees into a tar archive.\n\nEvery member is asked for before anything is made: `stat` of each, `read` of each file and directory; one that is denied is an error, and there is no archive then. `keep_going` leaves it out instead. The order is by name. Links are stored as links, files with several names once; FIFOs, sockets and devices are left out and told in `skipped`. The archive gets its name when it is complete; what is there already is the error `exists`, or replaced with `force`. The archive itself is never a member.\n\nA map: `changed`, `created`, `path`, `files` (members), `bytes` (size of the archive), `skipped` (maps with `path`, `kind`, `reason`), `skipped_count`.",
    body: &with3(
        tar_create,
        [
            param("archive", "The archive to make: `.tar`, `.tar.gz`, `.tgz`, `.tar.zst`, `.tar.xz`."),
            param("paths", "A file or directory, or an array of them."),
            param("options", ""),
        ],
    ),
    asks: &[ask::<Read>(), ask::<Stat>(), ask::<Write>(), ask::<Create>()],
    fails: &[Kind::NotFound, Kind::Exists, Kind::TooLarge, Kind::Permission, Kind::NoSpace, Kind::ReadOnly, Kind::Changed],
    examples: &[
        Example {
            given: &[("d/a", "1"), ("d/b", "22")],
            script: r#"let r = tar_create(dir + "/x.tar.gz", dir + "/d", #{relative_to: dir}); [r.files, tar_list(dir + "/x.tar.gz").map(|m| m.path)]"#,
            gives: r#"[3, ["d", "d/a", "d/b"]]"#,
        },
        Example {
            given: &[("d/a", "1"), ("d/b.tmp", "22")],
            script: r#"tar_create(dir + "/x.tar", dir + "/d", #{exclude: ["*.tmp"]}).files"#,
            gives: "2",
        },
        Example { given: &[("a", "1")], script: r#"tar_create(dir + "/x.tar", dir + "/a").skipped_count"#, gives: "0" },
    ],
};

fn packing(archive: &AbsPath, options: &CreateOptions) -> Result<Packing> {
    let name = archive.as_bytes();
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix.as_bytes()));
    let format = match options.compress.as_deref() {
        Some("gz" | "gzip") => Format::Gzip,
        Some("zst" | "zstd") => Format::Zstd,
        Some("xz") => Format::Xz,
        Some("none") => Format::Plain,
        Some(_) => return Err(bad_argument("tar_create: option `compress`: expected `gz`, `zst`, `xz` or `none`")),
        None if ends(&[".gz", ".tgz"]) => Format::Gzip,
        None if ends(&[".zst", ".tzst"]) => Format::Zstd,
        None if ends(&[".xz", ".txz"]) => Format::Xz,
        None if ends(&[".bz2", ".tbz", ".tbz2", ".zip"]) => {
            return Err(bad_argument("tar_create: this form of archive is not made: use `.tar.gz`, `.tar.zst` or `.tar.xz`")
                .with_path(archive.shown()));
        }
        None => Format::Plain,
    };
    let usual = Packing::usual(format);
    let Some(level) = options.level else { return Ok(usual) };
    let most = match format {
        Format::Plain => return Err(bad_argument("tar_create: option `level`: the archive is not compressed")),
        Format::Zstd => 19,
        _ => 9,
    };
    let level = u32::try_from(level)
        .ok()
        .filter(|level| (1..=most).contains(level))
        .ok_or_else(|| bad_argument(format!("tar_create: option `level`: expected 1 to {most}")))?;
    Ok(Packing { level, ..usual })
}

fn tar_create(call: &Call<'_>, archive: AbsPath, paths: Vec<AbsPath>, options: CreateOptions) -> Result<Map> {
    let packing = packing(&archive, &options)?;
    if paths.is_empty() {
        return Err(bad_argument("tar_create: paths: there is none"));
    }
    let mut collector = Collector::new(call, &options)?;
    // Everything is judged before anything is made. What `keep_going` leaves out is told by the second round.
    collector.round(&paths, None)?;
    let target = allow(call, &archive, options.force, None)?;
    collector.avoid = sys::extract::identity(target.resource());
    (collector.skipped, collector.count) = (Skipped::default(), 0);
    let collector = std::cell::RefCell::new(collector);
    let bytes = call.effect(
        &target,
        || {
            sys::fresh::make(&target, Birth::plain(0o644, None), |sink| {
                let mut collector = collector.borrow_mut();
                collector.own = Some(sink.identity()?);
                let mut writer = Writer::new(Packer::new(sink, &packing)?);
                collector.round(&paths, Some(&mut writer))?;
                Ok(writer.finish()?.finish()?.bytes())
            })
        },
        |bytes| (*bytes, format!("archive of {} members", collector.borrow().count)),
    )?;
    let collector = collector.into_inner();
    let mut map = record([
        ("changed", true.into_script()),
        ("created", (!target.resource().exists()).into_script()),
        ("path", name_value(archive.as_bytes())),
        ("files", collector.count.into_script()),
        ("bytes", bytes.into_script()),
    ]);
    collector.skipped.put_in(&mut map);
    Ok(map)
}

/// Where members are written.
type Out<'a, 's> = Writer<Packer<&'a mut Sink<'s>>>;

/// Goes through what is to be put in: once to judge it, once to write it.
struct Collector<'c, 'h> {
    call: &'c Call<'h>,
    options: &'c CreateOptions,
    exclude: Option<Globs>,
    skipped: Skipped,
    count: u64,
    /// Files with several names that are in the archive already.
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// The archive itself: the one that is there, and the one that is being written.
    avoid: Option<(u64, u64)>,
    own: Option<(u64, u64)>,
    /// For the contents of members.
    buffer: Vec<u8>,
}

/// A directory on the way: its names still to be visited, and its own name in the archive.
struct Level {
    dir: File,
    todo: Vec<Vec<u8>>,
    name: Vec<u8>,
}

impl<'c, 'h> Collector<'c, 'h> {
    fn new(call: &'c Call<'h>, options: &'c CreateOptions) -> Result<Self> {
        Ok(Self {
            call,
            options,
            exclude: Globs::new("exclude", &options.exclude)?,
            skipped: Skipped::default(),
            count: 0,
            linked: HashMap::new(),
            avoid: None,
            own: None,
            buffer: Vec::new(),
        })
    }

    /// The name in the archive of a path that was asked for; empty for `relative_to` itself, whose contents are the members then.
    fn name_of(&self, path: &AbsPath) -> Result<Vec<u8>> {
        let clean = |path: &AbsPath| -> Result<Vec<Vec<u8>>> {
            let names: Vec<Vec<u8>> =
                path.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec).collect();
            if names.iter().any(|name| name == b"..") {
                return Err(bad_argument("tar_create: paths with `..` have no name in an archive").with_path(path.shown()));
            }
            Ok(names)
        };
        let names = clean(path)?;
        let Some(base) = &self.options.relative_to else { return Ok(names.join(&b'/')) };
        let base_names = clean(base)?;
        names
            .strip_prefix(base_names.as_slice())
            .map(|names| names.join(&b'/'))
            .ok_or_else(|| bad_argument("tar_create: a path is not below `relative_to`").with_path(path.shown()))
    }

    fn round(&mut self, paths: &[AbsPath], mut out: Option<&mut Out<'_, '_>>) -> Result<()> {
        for path in paths {
            let name = self.name_of(path)?;
            let root = File::locate_with(path, self.options.dereference || name.is_empty())?;
            // The paths themselves are on record one by one, what is below them as counts.
            let root = match self.call.permit::<Stat>(root) {
                Err(error) if self.passes(&error) => {
                    self.skipped.add(path.as_bytes(), error.kind.name(), &error.message);
                    continue;
                }
                root => root?.into_resource(),
            };
            if !root.is_dir() {
                let walk = self.call.walk::<Stat>(&root)?;
                self.member(&walk, root, name, out.as_deref_mut())?;
                walk.finish()?;
                continue;
            }
            match self.call.walk::<Read>(&root) {
                Err(error) if self.passes(&error) => self.skipped.add(path.as_bytes(), error.kind.name(), &error.message),
                walk => {
                    let walk = walk?;
                    self.tree(&walk, root, name, out.as_deref_mut())?;
                    walk.finish()?;
                }
            }
        }
        Ok(())
    }

    /// Whether this error only means that something is left out.
    fn passes(&self, error: &Error) -> bool {
        self.options.keep_going && matches!(error.kind, Kind::Denied | Kind::Permission | Kind::NotFound | Kind::Changed)
    }

    fn tree(&mut self, walk: &Walk<'_, Read>, root: File, name: Vec<u8>, mut out: Option<&mut Out<'_, '_>>) -> Result<()> {
        let mut levels = Vec::new();
        levels.extend(self.directory(walk, root, name, out.as_deref_mut(), &[])?);
        while let Some(level) = levels.last_mut() {
            self.call.check()?;
            let Some(next) = level.todo.pop() else {
                levels.pop();
                continue;
            };
            let name = if level.name.is_empty() { next.clone() } else { [level.name.as_slice(), b"/", &next].concat() };
            if self.exclude.as_mut().is_some_and(|exclude| exclude.fits(&name, true)) {
                continue;
            }
            // To judge it, it is only looked at.
            let mut entry = match if out.is_some() { File::entry(&level.dir, &next) } else { File::glimpse(&level.dir, &next) } {
                Err(error) if error.kind == Kind::NotFound || self.passes(&error) => continue,
                entry => entry?,
            };
            if self.options.dereference && entry.kind() == Some(FileType::Symlink) {
                let followed = File::locate_with(entry.asked(), true)?;
                if followed.exists() {
                    entry = followed;
                }
            }
            let identity = sys::extract::identity(&entry);
            if identity.is_some() && (identity == self.avoid || identity == self.own) {
                continue;
            }
            if entry.is_dir() {
                let more = self.directory(walk, entry, name, out.as_deref_mut(), &levels)?;
                levels.extend(more);
            } else {
                self.member(walk, entry, name, out.as_deref_mut())?;
            }
        }
        Ok(())
    }

    /// Puts a directory in, and lists it.
    fn directory(
        &mut self,
        walk: &Walk<'_, Read>,
        dir: File,
        name: Vec<u8>,
        out: Option<&mut Out<'_, '_>>,
        above: &[Level],
    ) -> Result<Option<Level>> {
        let shown = dir.asked().clone();
        let identity = sys::extract::identity(&dir);
        if above.iter().any(|level| sys::extract::identity(&level.dir) == identity) {
            self.skipped.add(shown.as_bytes(), "loop", "a link leads back to a folder above it");
            return Ok(None);
        }
        let looked = || -> Result<(File, Vec<Vec<u8>>)> {
            let dir = walk.permit_as::<Stat>(dir)?.into_resource();
            let dir = walk.permit(dir)?;
            let (listed, _) = sys::dir::names(&dir, usize::MAX, &self.call.host.watch)?;
            let mut todo: Vec<Vec<u8>> = listed.into_iter().map(|name| name.bytes).collect();
            todo.sort_unstable_by(|a, b| b.cmp(a));
            Ok((dir.into_resource(), todo))
        };
        let (dir, todo) = match looked() {
            Err(error) if self.passes(&error) => {
                self.skipped.add(shown.as_bytes(), error.kind.name(), &error.message);
                return Ok(None);
            }
            looked => looked?,
        };
        if !name.is_empty() {
            self.counted()?;
            if let (Some(out), Some(mut member)) = (out, describe(&dir, What::Dir, &name)) {
                member.path.push(b'/');
                member.size = 0;
                out.begin(&member)?;
                out.end_member()?;
            }
        }
        Ok(Some(Level { dir, todo, name }))
    }

    fn counted(&mut self) -> Result<()> {
        self.count += 1;
        if self.count > self.options.max_members {
            return Err(Error::new(Kind::TooLarge, format!("more than {} members", self.options.max_members))
                .with_hint("raise `max_members`, or leave something out with `exclude`"));
        }
        Ok(())
    }

    /// Puts in anything but a directory.
    fn member<A: crate::policy::Action<On = File>>(
        &mut self,
        walk: &Walk<'_, A>,
        entry: File,
        name: Vec<u8>,
        out: Option<&mut Out<'_, '_>>,
    ) -> Result<()> {
        let path = entry.asked().clone();
        let done = self.member_of(walk, entry, &name, out);
        match done {
            Err(error) if self.passes(&error) => {
                self.skipped.add(path.as_bytes(), error.kind.name(), &error.message);
                Ok(())
            }
            done => done.map_err(|error| if error.path.is_some() { error } else { error.with_path(path.shown()) }),
        }
    }

    fn member_of<A: crate::policy::Action<On = File>>(
        &mut self,
        walk: &Walk<'_, A>,
        entry: File,
        name: &[u8],
        out: Option<&mut Out<'_, '_>>,
    ) -> Result<()> {
        let granted = walk.permit_as::<Stat>(entry)?;
        match granted.resource().kind() {
            Some(FileType::Symlink) => {
                self.counted()?;
                let Some(out) = out else { return Ok(()) };
                let Some(mut member) = describe(granted.resource(), What::Symlink, name) else { return Ok(()) };
                member.target = sys::dir::link_target(&granted)?;
                member.size = 0;
                out.begin(&member)?;
                out.end_member()
            }
            Some(FileType::RegularFile) => {
                let granted = walk.permit_as::<Read>(granted.into_resource())?;
                self.counted()?;
                let Some(out) = out else { return Ok(()) };
                self.file(&granted, name, out)
            }
            other => {
                let word = other.map_or("unknown", crate::resource::file::kind_word);
                self.skipped.add(granted.resource().asked().as_bytes(), word, "FIFOs, sockets and devices are not put into archives");
                Ok(())
            }
        }
    }

    fn file(&mut self, granted: &crate::policy::Granted<Read>, name: &[u8], out: &mut Out<'_, '_>) -> Result<()> {
        let file = granted.resource();
        let Some(mut member) = describe(file, What::File, name) else { return Ok(()) };
        let identity = sys::extract::identity(file);
        if let Some(first) = identity.and_then(|identity| self.linked.get(&identity)) {
            member.what = What::HardLink;
            member.target.clone_from(first);
            member.size = 0;
            out.begin(&member)?;
            return out.end_member();
        }
        let source = sys::file::open(granted)?;
        member.size = source.metadata().map_err(Error::from)?.len();
        out.begin(&member)?;
        if let Some(identity) = identity.filter(|_| file.stat().is_some_and(|stat| stat.st_nlink > 1)) {
            self.linked.insert(identity, name.to_vec());
        }
        let check = || self.call.check();
        // What is added to it meanwhile is not put in.
        let done = sys::fresh::pour_through(&mut self.buffer, &mut std::io::Read::take(source, member.size), out, &check)?;
        if done < member.size && self.options.keep_going {
            self.skipped.add(
                file.asked().as_bytes(),
                Kind::Changed.name(),
                "it became shorter while it was read; zeros stand in for its end",
            );
            sys::fresh::pour_through(&mut self.buffer, &mut std::io::Read::take(std::io::repeat(0), member.size - done), out, &check)?;
        }
        out.end_member()
    }
}

/// The header of a member.
fn describe(file: &File, what: What, name: &[u8]) -> Option<Member> {
    let stat = file.stat()?;
    let mut member = Member::new(what);
    member.path = name.to_vec();
    member.size = u64::try_from(stat.st_size).unwrap_or(0);
    member.mode = stat.st_mode & 0o7777;
    (member.uid, member.gid) = (stat.st_uid.into(), stat.st_gid.into());
    member.owner = names().user(stat.st_uid).unwrap_or_default().into_bytes();
    member.group = names().group(stat.st_gid).unwrap_or_default().into_bytes();
    member.mtime = Some((stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)));
    Some(member)
}

options! {
    /// Options of `tar_list` and `zip_list`.
    ListOptions {
        pattern: Vec<String> = Vec::new(), "Only members that fit this glob (or one of these), or are in a folder that does.";
        limit: Option<u64> = None, "Stop after so many. Without it more than 100,000 are the error `too_large`.";
        max_bytes: u64 = 16 << 30, "Fail with `too_large` when the archive unpacks to more than this.";
        max_ratio: u64 = 20_000, "Fail with `too_large` when it unpacks to so many times its size (looked at from 1 MiB on).";
    }
}

/// Entries of a list where the script sets no limit.
const MOST_LISTED: usize = 100_000;

macro_rules! lister {
    ($const:ident $fn:ident $name:literal $form:ident $doc:literal $examples:expr) => {
        const $const: Function = Function {
            name: $name,
            doc: $doc,
            body: &with2($fn, [param("path", "The archive, or an open file."), param("options", "")]),
            asks: &[ask::<Read>()],
            fails: &[
                Kind::NotFound,
                Kind::IsADirectory,
                Kind::NotAFile,
                Kind::BadData,
                Kind::TooLarge,
                Kind::Unsupported,
                Kind::Permission,
            ],
            examples: $examples,
        };
        fn $fn(call: &Call<'_>, target: Target, options: ListOptions) -> Result<Array> {
            list(call, target, &options, Form::$form)
        }
    };
}

lister! { TAR_LIST tar_list "tar_list" Tar
    "What is in a tar archive: plain, or packed with gzip, zstd, bzip2 or xz, whatever its name.\n\nAn array of maps: `path` (as it is stored, without `/` at the end), `name` (its last part), `type` (file, dir, symlink, hard_link, fifo, char_device, block_device), `size`, `mode`, `owner`, `group`, `uid`, `gid`, `mtime`, and `target` of links. A name that is not UTF-8 is a blob. An archive that is damaged or cut short is the error `bad_data`."
    &[
        Example {
            given: &[("d/a", "1"), ("d/b", "22")],
            script: r#"tar_create(dir + "/x.tar", dir + "/d", #{relative_to: dir}); tar_list(dir + "/x.tar", #{pattern: "**/b"}).map(|m| [m.path, m.name, m.type, m.size])"#,
            gives: r#"[["d/b", "b", "file", 2]]"#,
        },
        Example {
            given: &[("x.tar", "this is no archive")],
            script: r#"let k = (); try { tar_list(dir + "/x.tar") } catch (e) { if e.kind == "denied" { throw e } k = e.kind; } k"#,
            gives: r#""bad_data""#,
        },
    ]
}
lister! { ZIP_LIST zip_list "zip_list" Zip
    "What is in a zip archive.\n\nThe same maps as of `tar_list`, with `obstacle` (why) for members that cannot be extracted. Times in zip archives have no zone; they are taken for UTC."
    &[Example {
        given: &[("x.zip", "this is no archive")],
        script: r#"let k = (); try { zip_list(dir + "/x.zip") } catch (e) { if e.kind == "denied" { throw e } k = e.kind; } k"#,
        gives: r#""bad_data""#,
    }]
}

fn list(call: &Call<'_>, target: Target, options: &ListOptions, form: Form) -> Result<Array> {
    let mut pattern = Globs::new("pattern", &options.pattern)?;
    let file = call.permit::<Read>(located(target)?)?;
    let check = || call.check();
    let caps = Caps { max_bytes: options.max_bytes, max_ratio: options.max_ratio, ..Caps::default() };
    let limit = options.limit.map_or(MOST_LISTED, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut found = Array::new();
    let mut visit = |member: &Member, _: &mut dyn Data| -> Result<bool> {
        let mut path = member.path.as_slice();
        while path.len() > 1 && path.ends_with(b"/") {
            path = path.get(..path.len() - 1).unwrap_or_default();
        }
        if pattern.as_mut().is_some_and(|pattern| !pattern.fits(path.strip_prefix(b"./").unwrap_or(path), false)) {
            return Ok(true);
        }
        if found.len() == limit {
            if options.limit.is_some() {
                return Ok(false);
            }
            return Err(Error::new(Kind::TooLarge, format!("more than {MOST_LISTED} members")).with_hint("`limit` sets another limit"));
        }
        found.push(Dynamic::from_map(entry(member, path)));
        Ok(true)
    };
    sys::archive::each(sys::file::open(&file)?, form, Bounds { members: u64::MAX, caps }, &check, &mut visit)
        .map_err(|error| if error.path.is_some() { error } else { error.with_path(to_id(file.resource().asked().as_bytes())) })?;
    Ok(found)
}

fn entry(member: &Member, path: &[u8]) -> Map {
    let id = |id: u64| if id == u64::MAX { Dynamic::UNIT } else { id.into_script() };
    let name = path.strip_suffix(b"/").unwrap_or(path);
    let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
    let mut map = record([
        ("path", name_value(path)),
        ("name", name_value(name)),
        ("type", member.what.word().into_script()),
        ("size", member.size.into_script()),
        ("mode", member.mode.into_script()),
        ("owner", name_value(&member.owner)),
        ("group", name_value(&member.group)),
        ("uid", id(member.uid)),
        ("gid", id(member.gid)),
        (
            "mtime",
            member
                .mtime
                .and_then(|(seconds, nanos)| DateTime::from_epoch(seconds, nanos.into()).ok())
                .map_or(Dynamic::UNIT, IntoScript::into_script),
        ),
    ]);
    if matches!(member.what, What::Symlink | What::HardLink) {
        map.insert("target".into(), name_value(&member.target));
    }
    if let Some(obstacle) = member.obstacle {
        map.insert("obstacle".into(), obstacle.into_script());
    }
    map
}
