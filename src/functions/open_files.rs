//! Who has what open: open_files (lsof), processes_using (fuser). They ask for [`ListFds`] per process, and for [`Stat`] on a path that is named.

use super::dir::Room;
use super::file_stat::Stat;
use super::function::{Call, Example, Function, param, with1, with2};
use super::processes::{JUDGED, resource_of, user_name};
use super::usage::ListFds;
use super::value::{Array, IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result};
use crate::options;
use crate::policy::{Action, Answer, Granted, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::resource::process::Process;
use crate::sys::proc::fds::{self, Hold, Open};
use crate::sys::proc::process as kernel;
use std::collections::HashMap;

pub const FUNCTIONS: &[Function] = &[OPEN_FILES, PROCESSES_USING];

options! {
    /// Options of `open_files`.
    OpenFilesOptions {
        pid: Option<Vec<i64>> = None, "Only what these processes have open.";
        path: Option<AbsPath> = None, "Only this file or directory, whatever name it was opened by.";
        below: bool = false, "With `path`: also what is below that directory.", flags &["include_subdir"];
        kind: Option<Vec<String>> = None, "Only these kinds: `REG`, `DIR`, `SOCK`, `FIFO`, `CHR`, `BLK`, `ANON_INODE`, `UNK`.";
        mapped: bool = true, "Also files that are mapped into memory, such as libraries.";
        limit: Option<u64> = None, "Return so many at most. Without it more than 100,000 are an error (`too_large`).";
    }
}

const OPEN_FILES: Function = Function {
    name: "open_files",
    doc: "What processes have open, as lsof(8) tells it: an array of maps.\n\nEach has `pid`, `process_name`, `user`, `fd` (a number, or `cwd`, `root`, `exe`, `mapped`), `type` (`REG`, `DIR`, `SOCK`, `FIFO`, `CHR`, `BLK`, `ANON_INODE`, `UNK`), `access` (`r`, `w`, `rw`, or `()`), `path` (for sockets and the like the kernel's own word, e.g. `socket:[1234]`), `deleted` (no name leads to it any more), `size` and `position` (bytes), `device`, `inode`. The reference's names `command`, `file_path` and `file_type` are there as well. It asks for `list_fds` on each process, and for `stat` on `path`; processes that are denied, or that the kernel does not show to this user, are left out; if the policy shows none at all, that is a denial.",
    body: &with1(open_files, [param("options", "")]),
    asks: &[ask::<ListFds>(), ask::<Stat>()],
    fails: &[Kind::NotFound, Kind::Unsupported],
    examples: &[
        Example { given: &[], script: r#"open_files(#{path: "/bin"}).all(|f| f.pid > 0)"#, gives: "true" },
        Example { given: &[("f", "x")], script: r#"open_files(#{path: dir + "/f"}).len()"#, gives: "0" },
        Example { given: &[], script: r#"open_files(#{kind: "DIR"}).some(|f| f.fd == "cwd")"#, gives: "true" },
    ],
};

fn open_files(call: &Call<'_>, options: OpenFilesOptions) -> Result<Array> {
    let target = options.path.as_ref().map(|path| Target::locate(call, path)).transpose()?;
    let room = Room::of(options.limit);
    let mut result = Array::new();
    each_process(call, options.pid.as_deref(), |process, files| {
        for file in files {
            let wanted = target.as_ref().is_none_or(|target| target.is(&file, options.below))
                && options.kind.as_ref().is_none_or(|kinds| kinds.contains(&file.kind))
                && (options.mapped || file.hold != Hold::Mapped);
            if !wanted {
                continue;
            }
            if !room.for_more_than(result.len())? {
                return Ok(false);
            }
            result.push(row(process, file).into_script());
        }
        Ok(true)
    })?;
    Ok(result)
}

options! {
    /// Options of `processes_using`.
    UsingOptions {
        below: bool = false, "Also what is below that directory.";
        mount: bool = false, "Whatever is on the same filesystem, e.g. what keeps it from being unmounted.", flags &["mount", "m"];
    }
}

const PROCESSES_USING: Function = Function {
    name: "processes_using",
    doc: "Which processes use a file, directory or filesystem, as fuser(1) tells it: an array of maps, by process id.\n\nEach has `pid`, `command` (the name of the process), `user`, `access` (an array of words: `cwd`, `root`, `exe`, `mapped`, `read`, `write`, `open`), `fds` (numbers). It asks for `stat` on the path and for `list_fds` on each process; processes that are denied, or that the kernel does not show to this user, are left out; if the policy shows none at all, that is a denial.",
    body: &with2(processes_using, [param("path", "The file or directory."), param("options", "")]),
    asks: &[ask::<ListFds>(), ask::<Stat>()],
    fails: &[Kind::NotFound, Kind::Unsupported],
    examples: &[
        Example { given: &[("f", "x")], script: r#"processes_using(dir + "/f").len()"#, gives: "0" },
        Example { given: &[], script: r#"processes_using("/", #{mount: true}).all(|p| p.access.len() > 0)"#, gives: "true" },
    ],
};

fn processes_using(call: &Call<'_>, path: AbsPath, options: UsingOptions) -> Result<Array> {
    let target = Target::locate(call, &path)?;
    let mut result = Array::new();
    each_process(call, None, |process, files| {
        let used: Vec<Open> = files
            .into_iter()
            .filter(|file| if options.mount { target.on_same_filesystem(file) } else { target.is(file, options.below) })
            .collect();
        if used.is_empty() {
            return Ok(true);
        }
        let mut words: Vec<&str> = used.iter().map(access_word).collect();
        words.sort_unstable();
        words.dedup();
        let number = |file: &Open| if let Hold::Fd(fd) = file.hold { Some(fd) } else { None };
        let fds: Vec<i64> = used.iter().filter_map(number).collect();
        result.push(
            record([
                ("pid", process.pid.into_script()),
                ("command", process.name.as_str().into_script()),
                ("user", process.user.as_str().into_script()),
                ("access", words.into_iter().map(IntoScript::into_script).collect::<Array>().into_script()),
                ("fds", fds.into_script()),
            ])
            .into_script(),
        );
        Ok(true)
    })?;
    Ok(result)
}

fn access_word(file: &Open) -> &'static str {
    match (file.hold, file.access.as_deref()) {
        (Hold::Cwd, _) => "cwd",
        (Hold::Root, _) => "root",
        (Hold::Program, _) => "exe",
        (Hold::Mapped, _) => "mapped",
        (Hold::Fd(_), Some("r")) => "read",
        (Hold::Fd(_), Some(_)) => "write",
        (Hold::Fd(_), None) => "open",
    }
}

/// What is looked for.
struct Target {
    place: Vec<u8>,
    device: u64,
    inode: u64,
}

impl Target {
    fn locate(call: &Call<'_>, path: &AbsPath) -> Result<Self> {
        let file = call.permit::<Stat>(File::locate(path)?)?;
        let file = file.resource();
        let gone = || Error::new(Kind::NotFound, "no such file or directory").with_path(path.shown());
        let stat = file.stat().ok_or_else(gone)?;
        Ok(Self { place: file.place().to_vec(), device: stat.st_dev, inode: stat.st_ino })
    }
    fn is(&self, file: &Open, below: bool) -> bool {
        let same = (file.device, file.inode) == (self.device, self.inode);
        let folder = self.place.strip_suffix(b"/").unwrap_or(&self.place);
        same || (below && file.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/")))
    }
    fn on_same_filesystem(&self, file: &Open) -> bool {
        file.device == self.device && file.inode != 0
    }
}

/// A process that may be looked at.
struct Looked {
    pid: i64,
    name: String,
    user: String,
}

/// Gives what each permitted process has open to `with`, until that says no.
fn each_process(call: &Call<'_>, pids: Option<&[i64]>, mut with: impl FnMut(&Looked, Vec<Open>) -> Result<bool>) -> Result<()> {
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
        if pids.is_some_and(|pids| !pids.contains(&i64::from(pid))) {
            continue;
        }
        let Some(process) = table.read(pid, &wanted)? else { continue };
        let user = users.entry(process.uid).or_insert_with(|| user_name(process.uid)).clone();
        processes.push((resource_of(&process, &user), process.name, user));
    }
    // A number that nobody has is asked about too, so that who may look at nothing learns nothing.
    if processes.is_empty()
        && let Some(pid) = pids.and_then(|pids| pids.first())
    {
        drop(call.permit::<ListFds>(Process::absent(*pid))?);
        return Ok(());
    }
    // The walk is recorded with the first process that may be seen as its root; where there is none, the first one's denial is the answer.
    let root = processes.iter().position(|(process, ..)| call.host.gate.would::<ListFds>(process) == Answer::Yes).unwrap_or(0);
    let Some((first, ..)) = processes.get(root) else { return Ok(()) };
    let walk = call.walk::<ListFds>(first)?;
    for (process, name, user) in processes {
        call.check()?;
        let granted: Granted<ListFds> = match walk.permit(process) {
            Err(error) if error.kind == Kind::Denied => continue,
            granted => granted?,
        };
        let files = match fds::open_by(&table, &granted, &check) {
            Err(error) if error.kind == Kind::Permission => continue,
            files => files?,
        };
        let looked = Looked { pid: granted.resource().pid, name, user };
        if !with(&looked, files)? {
            break;
        }
    }
    walk.finish()
}

fn row(process: &Looked, file: Open) -> Map {
    let fd = match file.hold {
        Hold::Fd(fd) => fd.into_script(),
        Hold::Cwd => "cwd".into_script(),
        Hold::Root => "root".into_script(),
        Hold::Program => "exe".into_script(),
        Hold::Mapped => "mapped".into_script(),
    };
    let deleted = file.path.starts_with(b"/") && file.path.ends_with(b" (deleted)");
    let path = name_value(&file.path);
    record([
        ("pid", process.pid.into_script()),
        ("process_name", process.name.as_str().into_script()),
        ("command", process.name.as_str().into_script()),
        ("user", process.user.as_str().into_script()),
        ("fd", fd),
        ("type", file.kind.as_str().into_script()),
        ("file_type", file.kind.as_str().into_script()),
        ("access", file.access.into_script()),
        ("path", path.clone()),
        ("file_path", path),
        ("deleted", deleted.into_script()),
        ("size", file.size.into_script()),
        ("position", file.position.into_script()),
        ("device", file.device.into_script()),
        ("inode", file.inode.into_script()),
    ])
}
