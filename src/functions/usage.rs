//! What takes the room on disks: directories ([`Stat`] and [`Read`]), inodes of filesystems, removed files that are still open ([`ListFds`]).

use super::dir::Room;
use super::file_read::Read;
use super::file_stat::Stat;
use super::function::{Call, Example, Function, param, with1, with2};
use super::machine::{DfOptions, mounts};
use super::processes::{JUDGED, resource_of, user_name};
use super::value::{Array, IntoScript, Map, name_value, record};
use super::walker::{Bounds, Entered, Seen, Step, Walker};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, Answer, Weighed, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::resource::process::Process;
use crate::sys::proc::mounts as kernel_mounts;
use crate::sys::proc::process as kernel;
use rustix::fs::{FileType, Stat as Facts};
use std::collections::{HashMap, HashSet};

pub const FUNCTIONS: &[Function] = &[DU, INODES, DELETED_BUT_OPEN];

/// `process_system::Action::"list_fds"`: see what a process has open.
pub enum ListFds {}
impl Action for ListFds {
    type On = Process;
    const NAMESPACE: &'static str = "process_system";
    const NAME: &'static str = "list_fds";
    const APPLIES_TO: &'static [&'static str] = &["process_system::Process"];
    const GROUPS: &'static [&'static str] = &["ProcessAction", "view"];
    const DOC: &'static str = "See what it has open.";
    const ACCESS: Access = Access::ReadOnly;
}

options! {
    /// Options of `du`.
    DuOptions {
        summarize: bool = false, "Only the path itself.", flags &["summarize", "s"];
        all: bool = false, "List files too, not only directories.", flags &["all_files", "a"];
        max_depth: Option<u64> = None, "List nothing deeper than this; it is counted all the same. 0 is the path itself.", flags &["max_depth", "d"];
        apparent: bool = false, "Count the lengths of files and links, as they would be on another disk, not the blocks that they take.", flags &["apparent_size"];
        one_file_system: bool = false, "Leave out what is on another filesystem than the path.", flags &["one_file_system", "x"];
        count_hard_links: bool = false, "Count a file once for each of its names.", flags &["count_hard_links", "l"];
        top: Option<u64> = None, "Only so many of the entries, the largest first.";
        limit: Option<u64> = None, "List so many entries at most (the totals are whole). Without it more than 100,000 are an error (`too_large`).";
    }
}

const DU: Function = Function {
    name: "du",
    doc: "How much room a directory and what is below it take, as du(1) counts it.\n\nA map: `entries`, an array of maps with `path`, `size_bytes`, `inode_count`, each directory with all that is below it and after what is in it; `total_size_bytes` and `total_inode_count` of the path itself; `denied`, the paths that could not be counted because looking at them is denied, and `denied_count`, for the array ends at 1000. Everything is counted: links, FIFOs and sockets too. A file with several names is counted once. With `apparent`, directories count nothing. Of a file, the one entry of that file.",
    body: &with2(du, [param("path", "A directory or file."), param("options", "")]),
    asks: &[ask::<Read>(), ask::<Stat>()],
    fails: &[Kind::NotFound, Kind::NotADirectory, Kind::Permission],
    examples: &[
        Example { given: &[("a/x", "12345"), ("b", "123")], script: "du(dir, #{apparent: true}).total_size_bytes", gives: "8" },
        Example {
            given: &[("a/x", "12345"), ("b", "123")],
            script: "du(dir, #{apparent: true, all: true}).entries.map(|e| [basename(e.path), e.size_bytes, e.inode_count]).len()",
            gives: "4",
        },
        Example {
            given: &[("small/x", "1"), ("large/x", "12345")],
            script: "du(dir, #{apparent: true, top: 2}).entries.map(|e| e.size_bytes)",
            gives: "[6, 5]",
        },
    ],
};

/// Paths of denied things that a result lists.
const LISTED: usize = 1000;

/// What a directory and everything below it take.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    bytes: u64,
    inodes: u64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
    }
}

/// One `du` under way.
struct Count<'o> {
    options: &'o DuOptions,
    /// Files with several names that were counted.
    known: HashSet<(u64, u64)>,
    entries: Vec<(AbsPath, Sum)>,
    room: Room,
    denied: Array,
    denied_count: u64,
}

fn du(call: &Call<'_>, path: AbsPath, options: DuOptions) -> Result<Map> {
    if options.summarize && (options.all || options.max_depth.is_some()) {
        return Err(bad_argument("du: `summarize` lists the path alone; `all` and `max_depth` do not fit with it"));
    }
    let mut count = Count {
        options: &options,
        known: HashSet::new(),
        entries: Vec::new(),
        room: Room::of(options.limit),
        denied: Array::new(),
        denied_count: 0,
    };
    let root = call.permit::<Stat>(File::locate_dir(&path)?)?.into_resource();
    let total = if root.is_dir() { count.tree(call, root)? } else { root.stat().map(|stat| count.own(stat)).unwrap_or_default() };
    count.list(0, true, &path, total)?;
    if options.top.is_some() {
        count.shrink();
    }
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX).into_script();
    let entry = |(path, sum): (AbsPath, Sum)| {
        record([("path", name_value(path.as_bytes())), ("size_bytes", number(sum.bytes)), ("inode_count", number(sum.inodes))])
            .into_script()
    };
    Ok(record([
        ("entries", count.entries.into_iter().map(entry).collect::<Array>().into_script()),
        ("total_size_bytes", number(total.bytes)),
        ("total_inode_count", number(total.inodes)),
        ("denied", count.denied.into_script()),
        ("denied_count", number(count.denied_count)),
    ]))
}

impl Count<'_> {
    /// Everything at and below a directory.
    fn tree(&mut self, call: &Call<'_>, root: File) -> Result<Sum> {
        let bounds = Bounds { one_file_system: self.options.one_file_system, follow: false, max_depth: Some(u64::MAX) };
        let mut walker = Walker::new(call, &root, bounds)?;
        let mut total = root.stat().map(|stat| self.own(stat)).unwrap_or_default();
        // The directories on the way, each with what was counted in it so far.
        let mut sums: Vec<(AbsPath, Sum)> = Vec::new();
        let path = root.asked().clone();
        walker.enter_root(root)?;
        sums.push((path, Sum::default()));
        loop {
            let name = match walker.step()? {
                Step::Name(name) => name,
                Step::Done => break,
                Step::Left => {
                    let Some((path, sum)) = sums.pop() else { break };
                    match sums.last_mut() {
                        Some((_, above)) => {
                            above.add(sum);
                            self.list(sums.len() as u64, true, &path, sum)?;
                        }
                        None => total.add(sum),
                    }
                    continue;
                }
            };
            let entry = match walker.see(&name)? {
                Seen::There(entry) => *entry,
                Seen::Gone => continue,
                Seen::Shut => {
                    if let Some(folder) = walker.folder() {
                        self.refused(&folder.asked().below(&name.bytes));
                    }
                    continue;
                }
            };
            if walker.is_elsewhere(&entry) {
                continue;
            }
            let entry = match walker.walk.weigh::<Stat>(entry, true)? {
                Weighed::Granted(entry) => entry.into_resource(),
                Weighed::Denied(entry) => {
                    self.refused(entry.asked());
                    continue;
                }
            };
            let own = entry.stat().map(|stat| self.own(stat)).unwrap_or_default();
            let depth = sums.len() as u64;
            if entry.is_dir() {
                let path = entry.asked().clone();
                match walker.enter(entry)? {
                    Entered::Yes => {
                        sums.push((path, own));
                        continue;
                    }
                    Entered::Denied => self.refused(&path),
                    Entered::Outside | Entered::Gone => {}
                }
                self.list(depth, true, &path, own)?;
            } else {
                self.list(depth, false, entry.asked(), own)?;
            }
            if let Some((_, sum)) = sums.last_mut() {
                sum.add(own);
            }
        }
        walker.finish()?;
        Ok(total)
    }

    /// What one thing takes; nothing for another name of what was counted.
    fn own(&mut self, stat: &Facts) -> Sum {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory
            && stat.st_nlink > 1
            && !self.options.count_hard_links
            && !self.known.insert((stat.st_dev, stat.st_ino))
        {
            return Sum::default();
        }
        let bytes = if self.options.apparent {
            if matches!(kind, FileType::RegularFile | FileType::Symlink) { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 }
        } else {
            // Blocks of 512 bytes, whatever the blocks of the filesystem; see stat(2).
            u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
        };
        Sum { bytes, inodes: 1 }
    }

    /// Takes an entry into the result, if it is one of those that were asked for.
    fn list(&mut self, depth: u64, is_dir: bool, path: &AbsPath, sum: Sum) -> Result<()> {
        let deepest = if self.options.summarize { 0 } else { self.options.max_depth.unwrap_or(u64::MAX) };
        // The path itself is listed whatever it is; another name of what was counted is not.
        if depth > deepest || (depth > 0 && !is_dir && (!self.options.all || sum.inodes == 0)) {
            return Ok(());
        }
        match self.options.top {
            Some(top) => {
                self.entries.push((path.clone(), sum));
                if self.entries.len() as u64 >= top.saturating_mul(2).saturating_add(1024) {
                    self.shrink();
                }
            }
            None if self.room.for_more_than(self.entries.len())? => self.entries.push((path.clone(), sum)),
            None => {}
        }
        Ok(())
    }

    /// Keeps the largest entries.
    fn shrink(&mut self) {
        let top = usize::try_from(self.options.top.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        self.entries.sort_by(|(a, this), (b, other)| other.bytes.cmp(&this.bytes).then_with(|| a.as_bytes().cmp(b.as_bytes())));
        self.entries.truncate(top);
    }

    fn refused(&mut self, path: &AbsPath) {
        self.denied_count += 1;
        if self.denied.len() < LISTED {
            self.denied.push(name_value(path.as_bytes()));
        }
    }
}

const INODES: Function = Function {
    name: "inodes",
    doc: "How many inodes the filesystems have and have left: an array of maps.\n\nEach has `device`, `kind`, `mounted_on`, `inodes`, `used`, `free`, `use_percent` (rounded up; `()` where the filesystem has no fixed number of them). With a path, the one that holds it. The filesystems are those that [df] shows; it asks to read `/proc/mounts`, and for `stat` on each mount point, and leaves out what is denied.",
    body: &with1(inodes, [param("path", "Only the filesystem that holds this path.")]),
    asks: &[ask::<Read>(), ask::<Stat>()],
    fails: &[Kind::NotFound, Kind::Unsupported],
    examples: &[
        Example { given: &[], script: "inodes(dir).len()", gives: "1" },
        Example { given: &[], script: "let i = inodes(dir)[0]; i.inodes == i.used + i.free", gives: "true" },
    ],
};

fn inodes(call: &Call<'_>, path: Option<AbsPath>) -> Result<Array> {
    let rows = mounts(call, &DfOptions { path, ..DfOptions::default() })?;
    let row = |(mount, answer): (kernel_mounts::Mount, kernel_mounts::Answer)| {
        use std::os::unix::ffi::OsStrExt as _;
        let usage = if let kernel_mounts::Answer::Usage(usage) = &answer { Some(usage) } else { None };
        record([
            ("device", name_value(&mount.device)),
            ("kind", mount.kind.as_str().into_script()),
            ("mounted_on", name_value(mount.mount_point.as_os_str().as_bytes())),
            ("inodes", usage.map(|usage| usage.inodes).into_script()),
            ("used", usage.map(|usage| usage.inodes_used).into_script()),
            ("free", usage.map(|usage| usage.inodes_free).into_script()),
            ("use_percent", usage.and_then(|usage| usage.inodes_use_percent).into_script()),
            ("timed_out", matches!(answer, kernel_mounts::Answer::TimedOut).into_script()),
        ])
        .into_script()
    };
    Ok(rows.into_iter().map(row).collect())
}

options! {
    /// Options of `deleted_but_open`.
    DeletedOptions {
        pid: Option<Vec<i64>> = None, "Only what these processes have open.";
        limit: Option<u64> = None, "Return the largest so many. Without it more than 100,000 are an error (`too_large`).";
    }
}

const DELETED_BUT_OPEN: Function = Function {
    name: "deleted_but_open",
    doc: "Files that were removed but take their room until a process closes them: an array of maps, the largest first.\n\nEach has `pid`, `command` (the name of the process), `user`, `fd`, `path` (where it was), `size`, `allocated` (what it takes on the disk), both in bytes, and `shared` where an earlier row is about the same file. It asks for `list_fds` on each process; those that are denied, or that the kernel does not show to this user, are left out; if the policy shows none at all, that is a denial. Files that are mapped into memory only are not seen.",
    body: &with1(deleted_but_open, [param("options", "")]),
    asks: &[ask::<ListFds>()],
    fails: &[Kind::Unsupported],
    examples: &[Example { given: &[], script: "deleted_but_open().all(|f| f.size >= 0)", gives: "true" }],
};

fn deleted_but_open(call: &Call<'_>, options: DeletedOptions) -> Result<Array> {
    let check = || call.check();
    if call.host.gate.policies().hull(ListFds::NAMESPACE, ListFds::NAME).is_empty() {
        // Then the kernel keeps processes from this one too, and there is none to ask about but itself.
        drop(call.permit::<ListFds>(Process::this())?);
    }
    let table = kernel::Table::open()?;
    let wanted = kernel::Wanted { max_command: JUDGED, ..kernel::Wanted::default() };
    let mut users: HashMap<i64, String> = HashMap::new();
    let mut processes = Vec::new();
    for pid in table.pids(&check)? {
        call.check()?;
        if options.pid.as_ref().is_some_and(|pids| !pids.contains(&i64::from(pid))) {
            continue;
        }
        let Some(process) = table.read(pid, &wanted)? else { continue };
        let user = users.entry(process.uid).or_insert_with(|| user_name(process.uid)).clone();
        processes.push((resource_of(&process, &user), process.name, user));
    }
    // The walk is recorded with the first process that may be seen as its root; where there is none, the first one's denial is the answer.
    let root = processes.iter().position(|(process, ..)| call.host.gate.would::<ListFds>(process) == Answer::Yes).unwrap_or(0);
    let Some((first, ..)) = processes.get(root) else { return Ok(Array::new()) };
    let walk = call.walk::<ListFds>(first)?;
    let mut rows = Vec::new();
    for (process, name, user) in processes {
        let granted = match walk.permit(process) {
            Err(error) if error.kind == Kind::Denied => continue,
            granted => granted?,
        };
        let files = match table.removed_files(&granted, &check) {
            Err(error) if error.kind == Kind::Permission => continue,
            files => files?,
        };
        rows.extend(files.into_iter().map(|file| (granted.resource().pid, name.clone(), user.clone(), file)));
    }
    walk.finish()?;
    rows.sort_by(|(a_pid, .., a), (b_pid, .., b)| b.allocated.cmp(&a.allocated).then(a_pid.cmp(b_pid)).then(a.fd.cmp(&b.fd)));
    let room = Room::of(options.limit);
    let mut known = HashSet::new();
    let mut result = Array::new();
    for (pid, name, user, file) in rows {
        if !room.for_more_than(result.len())? {
            break;
        }
        let shared = !known.insert(file.file);
        result.push(
            record([
                ("pid", pid.into_script()),
                ("command", name.into_script()),
                ("user", user.into_script()),
                ("fd", file.fd.into_script()),
                ("path", name_value(&file.path)),
                ("size", file.size.into_script()),
                ("allocated", file.allocated.into_script()),
                ("shared", shared.into_script()),
            ])
            .into_script(),
        );
    }
    Ok(result)
}

#[cfg(test)]
mod tests;
