//! From the hull of the policies to what the kernel is told: plain data, so that a test can show what each policy comes to.

use crate::policy::{Bound, Policies};
use crate::resource::path::from_id;
use rustix::thread::CapabilitySet;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What may be done below a path, in the terms of landlock(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u16);

impl Rights {
    pub const READ_FILE: Self = Self(1);
    pub const READ_DIR: Self = Self(2);
    /// Change and cut off contents.
    pub const WRITE: Self = Self(4);
    /// Make files, links, FIFOs, sockets.
    pub const MAKE_FILE: Self = Self(8);
    pub const MAKE_DIR: Self = Self(16);
    pub const REMOVE_FILE: Self = Self(32);
    pub const REMOVE_DIR: Self = Self(64);
    /// Move and link between folders.
    pub const REFER: Self = Self(128);
    /// Start it as a program.
    pub const EXECUTE: Self = Self(256);

    pub const READ: Self = Self(1 | 2);
    pub const MAKE: Self = Self(8 | 16);
    pub const REMOVE: Self = Self(32 | 64);

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Kinds of system calls that only some permitted operation needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Write, make, remove, move anything at all.
    pub change: bool,
    /// Modes with set-user-id and the like, and of files that rex did not make.
    pub chmod: bool,
    pub chown: bool,
    /// Moves: to another filesystem owner, mode and times go with it, those of links too.
    pub moves: bool,
    /// Extended attributes.
    pub xattr: bool,
    /// Talks to the system bus, over a connection that is there before the fence. Programs may connect to it, and to whatever else is a Unix socket.
    pub unix_sockets: bool,
    /// Signals to other processes.
    pub signals: bool,
    /// Sockets of the internet.
    pub network: bool,
    /// Questions to name servers.
    pub names: bool,
    /// Asks the kernel about its interfaces, routes and neighbours (rtnetlink(7)).
    pub interfaces: bool,
    /// Connects to sockets of this host that policy names.
    pub local: bool,
    /// Looks at other processes, which is done beside the fence ([`crate::sys::proc::inspector`]).
    pub inspects: bool,
    /// Asks the broker to start programs.
    pub programs: bool,
    /// Looks at stacks, of processes or in core dumps: gdb is started beside the fence ([`crate::sys::debugger`]).
    pub debugs: bool,
    /// Where in the kernel other processes are.
    pub stacks: bool,
    /// Asks for filesystems to be unmounted, which is done beside the fence ([`crate::sys::unmount`]).
    pub unmounts: bool,
    /// Unmounts them itself.
    pub unmounting: bool,
    /// Reads how the clock is kept (adjtimex(2)). What sets it takes a capability that no run has.
    pub clock: bool,
    /// Opens stream sockets of this host and connects them: processes beside the fence that are there for it.
    pub connects: bool,
}

/// What the fence lets through.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What may be done below each path.
    pub paths: BTreeMap<PathBuf, Rights>,
    /// Files that policy names one by one, with what may be done to the contents: what takes their place is opened by [`crate::sys::opener`].
    pub named: BTreeMap<PathBuf, Rights>,
    pub calls: Calls,
    /// The ports that connections may go to; nothing where policy does not bound them.
    pub ports: Option<BTreeSet<u16>>,
    /// What root keeps.
    pub powers: CapabilitySet,
}

/// Files that rex itself reads while a script runs, besides those of the host that every run may need.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own<'a> {
    /// The folder of rex.toml: policies are looked at again, libraries are loaded.
    pub config: Option<&'a Path>,
    /// Where the rules of redacted reading may be.
    pub dictionaries: &'a [PathBuf],
    /// Verbs, by namespace and name, that no policy permits in this run: those that change something, in a dry run.
    pub without: &'a [(&'static str, &'static str)],
}

/// Names of users and groups, zones.
const EVERY_RUN: &[&str] = &["/etc/passwd", "/etc/group", "/etc/localtime", "/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/proc/self"];
/// How names are looked up.
const NAME_SERVICE: &[&str] = &["/etc/hosts", "/etc/resolv.conf"];
/// The port of name servers.
const DNS: u16 = 53;
/// Verbs about processes that take a look at what the kernel hides behind Landlock.
const INSPECTED: &[&str] = &["list", "list_fds", "trace", "list_environment", "read_environment"];
/// The journal reads these, in any order of boots (systemd-journald.service(8)).
const JOURNAL: &[&str] = &["/var/log/journal", "/run/log/journal", "/etc/machine-id"];
/// Where its files are.
const JOURNAL_FILES: &[&str] = &["/var/log/journal", "/run/log/journal"];

impl Plan {
    #[must_use]
    pub fn of(policies: &Policies, own: Own<'_>) -> Self {
        let mut plan = Self::nothing();
        EVERY_RUN.iter().for_each(|path| plan.allow(Path::new(path), Rights::READ));
        plan.allow(Path::new("/dev/null"), Rights::READ_FILE.and(Rights::WRITE));
        if let Some(folder) = own.config {
            plan.allow(folder, Rights::READ);
        }
        let of = |namespace: &str, name: &str| {
            if own.without.contains(&(namespace, name)) { Vec::new() } else { policies.hull(namespace, name) }
        };
        let hull = |name: &str| of("file_system", name);
        if !hull("redacted_read").is_empty() {
            own.dictionaries.iter().for_each(|path| plan.allow(path, Rights::READ_FILE));
        }
        let (read, redacted, write, create) = (hull("read"), hull("redacted_read"), hull("write"), hull("create"));
        let (delete, moved) = (hull("delete"), hull("move"));
        plan.things(&read, Rights::READ);
        plan.things(&redacted, Rights::READ_FILE);
        // A file that is changed may have to be read for it (opened for both).
        plan.things(&write, Rights::WRITE.and(Rights::READ_FILE));
        plan.name(&[&read, &redacted], Rights::READ_FILE);
        plan.name(&[&write], Rights::WRITE.and(Rights::READ_FILE));
        // What is made may be written and read by whoever made it; with it, contents are replaced in one step.
        let made = Rights::MAKE.and(Rights::WRITE).and(Rights::READ);
        let made = if write.is_empty() { made } else { made.and(Rights::REMOVE_FILE) };
        plan.folders(&create, made);
        plan.folders_within(&write, made);
        plan.folders(&delete, Rights::REMOVE);
        if !moved.is_empty() {
            // A move gains nothing for what is moved: source and destination have the same rights, or the kernel refuses it (landlock(7)).
            let moves = Rights::READ.and(Rights::WRITE).and(Rights::MAKE).and(Rights::REMOVE).and(Rights::REFER);
            plan.folders(&moved, moves);
            plan.folders(&create, moves);
        } else if !create.is_empty() && !write.is_empty() {
            // A hard link is another name of a file that may be written.
            plan.folders(&create, Rights::REFER);
            plan.folders(&write, Rights::REFER);
        }
        let some = |namespace: &str, name: &str| !of(namespace, name).is_empty();
        let any = |namespace: &str| policies.verbs().any(|(space, name)| space == namespace && some(space, name));
        // To be asked about, a process has to be seen, in a dry run too.
        let asked = policies.verbs().any(|(space, name)| space == "process_system" && !policies.hull(space, name).is_empty());
        if asked || any("sysinfo") || any("sysctl") {
            plan.allow(Path::new("/proc"), Rights::READ);
            plan.allow(Path::new("/sys"), Rights::READ);
            ["/etc/os-release", "/usr/lib/os-release", "/etc/hostname", "/etc/timezone", "/run/utmp", "/run/mount"]
                .iter()
                .chain(&["/run/reboot-required", "/run/reboot-required.pkgs", "/usr/lib/modules", "/lib/modules"])
                .for_each(|path| plan.allow(Path::new(path), Rights::READ));
        }
        if any("journal") {
            JOURNAL.iter().for_each(|path| plan.allow(Path::new(path), Rights::READ));
        }
        if any("package_system") {
            crate::sys::packages::FILES.iter().for_each(|path| plan.allow(Path::new(path), Rights::READ));
            crate::sys::packages::logs().for_each(|path| plan.allow(Path::new(&path), Rights::READ_FILE));
        }
        let vacuums = some("journal", "vacuum");
        if vacuums {
            JOURNAL_FILES.iter().for_each(|path| plan.allow(Path::new(path), Rights::REMOVE_FILE));
        }
        let changes = |name: &str| !hull(name).is_empty();
        plan.calls = Calls {
            change: vacuums || ["write", "create", "delete", "move"].into_iter().any(changes),
            chmod: changes("chmod"),
            chown: changes("chown"),
            moves: changes("move"),
            inspects: INSPECTED.iter().any(|verb| some("process_system", verb)),
            debugs: some("process_system", "trace") || changes("core_dump"),
            stacks: some("process_system", "trace"),
            unmounts: changes("unmount"),
            unmounting: false,
            clock: any("sysinfo"),
            programs: changes("execute"),
            connects: false,
            xattr: changes("set_x_attr"),
            unix_sockets: any("systemd"),
            network: any("network"),
            names: any("network") || some("sysinfo", "resolve_hostname"),
            interfaces: some("sysinfo", "list"),
            local: changes("connect"),
            signals: some("process_system", "kill") || some("process_system", "interrupt"),
        };
        if plan.calls.names {
            plan.ports = plan.ports_of(policies, &some);
        }
        let reads = ["read", "redacted_read", "write", "create", "move"].into_iter().any(changes);
        plan.powers = powers(plan.calls, reads);
        // Asked for as `/proc/mounts`, read where the kernel says more of the same; what is mounted where is looked up before it is unmounted, too.
        if plan.calls.unmounts || read.iter().any(|bound| matches!(bound, Bound::Exactly(id) if id == "/proc/mounts")) {
            let own = rustix::process::getpid().as_raw_nonzero();
            plan.allow(Path::new(&format!("/proc/{own}/mountinfo")), Rights::READ_FILE);
        }
        // The kernel's messages, where `kernel.dmesg_restrict` is set (syslog(2)).
        if read.iter().any(|bound| holds(bound, Path::new("/dev/kmsg"))) {
            plan.powers |= CapabilitySet::SYSLOG;
        }
        plan
    }

    /// What connections need: the files that say how names are looked up and whose certificates are good; and where they may go.
    fn ports_of(&mut self, policies: &Policies, some: &impl Fn(&str, &str) -> bool) -> Option<BTreeSet<u16>> {
        let bundles = if self.calls.network { crate::sys::net::tls::BUNDLES } else { &[] };
        for path in NAME_SERVICE.iter().chain(bundles) {
            // All of these are links on some hosts, and a rule is about the thing itself.
            if let Ok(path) = std::fs::canonicalize(path) {
                self.allow(&path, Rights::READ_FILE);
            }
        }
        // What does not fit into a datagram is asked for over a connection.
        let mut ports = BTreeSet::from([DNS]);
        let verbs = policies.verbs().filter(|(space, name)| *space == "network" && some(space, name));
        for (_, name) in verbs {
            ports.extend(policies.ports(name)?);
        }
        Some(ports)
    }

    /// Of the process that looks at others: no path of its own, no call that changes anything.
    pub(super) fn of_inspector(stacks: bool) -> Self {
        // The kernel's own stacks are for who administers the machine (proc_pid_stack(5)).
        let more = if stacks { CapabilitySet::SYS_ADMIN } else { CapabilitySet::empty() };
        Self { powers: CapabilitySet::DAC_READ_SEARCH | CapabilitySet::SYS_PTRACE | more, ..Self::nothing() }
    }

    /// Of the process that unmounts.
    pub(super) fn of_unmount() -> Self {
        let calls = Calls { unmounting: true, programs: true, ..Calls::default() };
        Self { powers: CapabilitySet::DAC_READ_SEARCH | CapabilitySet::SYS_ADMIN, calls, ..Self::nothing() }
    }

    /// Of gdb: no path of its own.
    pub(super) fn of_debugger() -> Self {
        Self { calls: Calls { debugs: true, ..Calls::default() }, ..Self::nothing() }
    }

    /// Of the process that opens files which policy names one by one: contents of what is beside them, since that is where the next one will be.
    pub(super) fn of_opener(named: &BTreeMap<PathBuf, Rights>, powers: CapabilitySet) -> Self {
        let mut plan = Self { powers, ..Self::nothing() };
        // Descriptors are handed over by sendmsg(2).
        plan.calls.programs = true;
        plan.allow(Path::new("/proc/self"), Rights::READ);
        for (path, rights) in named {
            path.parent().into_iter().for_each(|folder| plan.allow(folder, *rights));
        }
        plan
    }

    /// Of the process that speaks to the container engine: its socket has a path, which Landlock lets be connected to.
    pub(super) fn of_connector() -> Self {
        let calls = Calls { connects: true, ..Calls::default() };
        Self { calls, ..Self::nothing() }
    }

    /// Of the process that asks getent(1): the sockets that name services need.
    pub(super) fn of_naming() -> Self {
        let calls = Calls { network: true, unix_sockets: true, ..Calls::default() };
        Self { calls, ..Self::nothing() }
    }

    fn nothing() -> Self {
        Self { paths: BTreeMap::new(), named: BTreeMap::new(), calls: Calls::default(), ports: None, powers: CapabilitySet::empty() }
    }

    /// Lets programs that run start these too.
    #[must_use]
    pub fn starting(mut self, programs: &[Bound]) -> Self {
        self.things(programs, Rights::READ_FILE.and(Rights::EXECUTE));
        self
    }

    pub(super) fn allow(&mut self, path: &Path, rights: Rights) {
        let known = self.paths.entry(path.to_path_buf()).or_default();
        *known = known.and(rights);
    }

    /// Files by path alone. What the kernel itself shows as files nobody replaces.
    fn name(&mut self, bounds: &[&[Bound]], rights: Rights) {
        for bound in bounds.iter().copied().flatten().filter(|bound| matches!(bound, Bound::Exactly(_))) {
            if let Some(path) = thing(bound).filter(|path| !path.starts_with("/proc") && !path.starts_with("/sys")) {
                let known = self.named.entry(path).or_default();
                *known = known.and(rights);
            }
        }
    }

    /// Rights on the things themselves and on what is in them.
    fn things(&mut self, bounds: &[Bound], rights: Rights) {
        for bound in bounds {
            if let Some(path) = thing(bound) {
                self.allow(&path, rights);
                // A rule on one of these holds nothing: the kernel makes its inode anew at every look.
                if path.starts_with("/proc/net") && rights.has(Rights::READ_FILE) {
                    self.allow(Path::new("/proc"), Rights::READ);
                }
            }
        }
    }

    /// Rights that belong to the folder that a thing is in: its name is made, removed or moved there.
    fn folders(&mut self, bounds: &[Bound], rights: Rights) {
        for bound in bounds {
            let Some(path) = thing(bound) else { continue };
            match (bound, path.parent()) {
                (Bound::Exactly(_), Some(folder)) => self.allow(folder, rights),
                (Bound::Within(..), Some(folder)) => {
                    self.allow(&path, rights);
                    // The folder itself is in it too, and may be removed or moved. (If it is not there yet, what makes it is allowed where it is to be.)
                    if rights.has(Rights::REMOVE_DIR) {
                        let moves = if rights.has(Rights::REFER) { Rights::REFER } else { Rights::default() };
                        self.allow(folder, Rights::REMOVE_DIR.and(moves));
                    }
                }
                _ => self.allow(&path, rights),
            }
        }
    }

    /// The same where a whole folder is meant; one file alone does not open its folder.
    fn folders_within(&mut self, bounds: &[Bound], rights: Rights) {
        let whole: Vec<Bound> = bounds.iter().filter(|bound| !matches!(bound, Bound::Exactly(_))).cloned().collect();
        self.things(&whole, rights);
    }
}

/// Whether a path can be within a bound.
fn holds(bound: &Bound, path: &Path) -> bool {
    match bound {
        Bound::Anything => true,
        Bound::Kind(kind) => kind == "file_system::File",
        Bound::Exactly(_) => thing(bound).is_some_and(|exact| exact == path),
        Bound::Within(..) => thing(bound).is_some_and(|folder| path.starts_with(folder)),
        Bound::Begins(id) => path.to_str().is_some_and(|path| path.starts_with(id.as_str())),
    }
}

/// The path that a bound is about: of a beginning, the folder that it lies in. None for what is no file.
fn thing(bound: &Bound) -> Option<PathBuf> {
    let path = |id: &str| {
        use std::os::unix::ffi::OsStringExt as _;
        id.starts_with('/').then(|| PathBuf::from(std::ffi::OsString::from_vec(from_id(id))))
    };
    match bound {
        Bound::Anything => Some(PathBuf::from("/")),
        Bound::Kind(kind) => kind.starts_with("file_system::").then(|| PathBuf::from("/")),
        Bound::Exactly(id) => path(id),
        Bound::Within(kind, id) => kind.starts_with("file_system::").then(|| path(id)).flatten(),
        Bound::Begins(id) => {
            let folder = id.rfind('/').and_then(|cut| id.get(..cut.max(1)));
            // One that says nothing of the folder may be anywhere.
            Some(folder.and_then(path).unwrap_or_else(|| PathBuf::from("/")))
        }
    }
}

/// The capabilities that permitted operations of root need (capabilities(7)); everything else goes.
fn powers(calls: Calls, reads: bool) -> CapabilitySet {
    let mut powers = CapabilitySet::empty();
    // Files of other users.
    if reads {
        powers |= CapabilitySet::DAC_READ_SEARCH;
    }
    if calls.change {
        // A replaced file takes over owner, group, mode and attributes of the old one.
        powers |= CapabilitySet::DAC_OVERRIDE | CapabilitySet::CHOWN | CapabilitySet::FOWNER | CapabilitySet::FSETID;
    }
    if calls.chmod {
        powers |= CapabilitySet::FOWNER | CapabilitySet::FSETID;
    }
    if calls.chown {
        powers |= CapabilitySet::CHOWN | CapabilitySet::FOWNER;
    }
    if calls.xattr {
        powers |= CapabilitySet::FOWNER | CapabilitySet::SYS_ADMIN | CapabilitySet::SETFCAP;
    }
    if calls.signals {
        powers |= CapabilitySet::KILL;
    }
    powers
}
