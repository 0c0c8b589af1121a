//! The fence of a program that policy permits: the hull of the run, and what the program, its interpreter and its libraries need to start.

use super::calls;
use super::paths;
use super::plan::{Plan, Rights};
use crate::error::{Error, Kind, Result};
use landlock::RulesetCreated;
use rustix::fs::OFlags;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// What the loader of shared libraries reads (ld.so(8)).
const LIBRARIES: &[&str] = &[
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
];
/// What every program expects to be there.
const BASICS: &[&str] = &["/usr/share", "/etc/localtime", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group"];
/// What programs that may use the network read about it.
const NETWORK: &[&str] =
    &["/etc/hosts", "/etc/host.conf", "/etc/resolv.conf", "/etc/services", "/etc/protocols", "/etc/gai.conf", "/etc/ssl", "/etc/pki"];
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// Interpreters of interpreters; the kernel follows at most four (fs/exec.c).
const DEPTH: usize = 4;

/// The fence of one program file, ready to be put in force in any process that becomes it.
pub(in crate::sys) struct Ready {
    paths: RulesetCreated,
    /// Whether it is a script, whose interpreter opens it once more.
    pub script: bool,
}

impl Ready {
    pub(in crate::sys) fn for_program(plan: &Plan, program: &OwnedFd) -> Result<Self> {
        let mut plan = plan.clone();
        // A program ends no process that is not its own, whatever a script may: the broker is one of them.
        plan.calls.signals = false;
        let script = needs(&mut plan, program)?;
        Ok(Self { paths: paths::prepare(&plan)?, script })
    }
    /// The paths, and the own folder in /proc of the process that asks.
    pub(in crate::sys) fn with_own_process(&self) -> Result<RulesetCreated> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Its name is a link that only the process itself can follow.
        let own = rustix::fs::open("/proc/self", flags, rustix::fs::Mode::empty());
        paths::and_read(&self.paths, own.ok())
    }
    /// The same with these files to be read, whatever their paths; whether the kernel has it.
    pub(in crate::sys) fn restrict_with(&self, files: &[BorrowedFd<'_>]) -> Result<bool> {
        let rules = files.iter().try_fold(self.with_own_process()?, |rules, file| paths::and_read_file(rules, *file))?;
        paths::restrict(rules)
    }
    /// Arms it in the process that is about to become the program.
    pub(in crate::sys) fn restrict(&self, paths: RulesetCreated) -> Result<()> {
        paths::restrict(paths).map(drop)
    }
}

/// Takes every system call away that no program of this run gets. Whoever starts the programs arms it for itself once, since it needs none of them
/// either, and each of them has it from there (seccomp(2)): compiling it for each took longer than anything else about a start.
///
/// # Errors
/// When the kernel has the layer and does not take the filter.
pub(in crate::sys) fn refuse_calls_of_programs(plan: &Plan) -> Result<()> {
    rustix::thread::set_no_new_privs(true).map_err(|errno| Error::new(Kind::Layer, format!("no-new-privs: {errno}")))?;
    calls::restrict_program(&calls::of_program(plan)?).map(drop)
}

/// Adds what this program needs to start; whether it is a script.
fn needs(plan: &mut Plan, program: &OwnedFd) -> Result<bool> {
    let network: &[&str] = if plan.calls.network { NETWORK } else { &[] };
    for path in LIBRARIES.iter().chain(BASICS).chain(network) {
        // /lib and /etc/localtime are links on many hosts, and a rule is about the thing itself.
        if let Ok(path) = std::fs::canonicalize(path) {
            plan.allow(&path, Rights::READ);
        }
    }
    for path in DEVICES {
        plan.allow(Path::new(path), Rights::READ_FILE.and(Rights::WRITE));
    }
    let mut next = Some(again(program)?);
    let mut script = false;
    for step in 0..=DEPTH {
        let Some(file) = next.take() else { break };
        let path = place(&file)?;
        plan.allow(&path, Rights::READ_FILE.and(Rights::EXECUTE));
        let mut head = Vec::new();
        std::fs::File::from(file).take(64 << 10).read_to_end(&mut head).map_err(Error::from)?;
        if let Some(interpreter) = interpreter(&head) {
            script |= step == 0 && head.starts_with(b"#!");
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            next = Some(
                rustix::fs::open(&interpreter, flags, rustix::fs::Mode::empty())
                    .map_err(|errno| Error::os("open the interpreter", errno.raw_os_error()))?,
            );
        }
    }
    Ok(script)
}

/// Where an open file is. Not by [`crate::resource::path`], whose handle on /proc is that of the process that forked this one.
pub(in crate::sys) fn place(file: &OwnedFd) -> Result<PathBuf> {
    // The folder once, since the way to it is most of the price of a look.
    static OWN: std::sync::OnceLock<Option<OwnedFd>> = std::sync::OnceLock::new();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = OWN.get_or_init(|| rustix::fs::open("/proc/self/fd", flags, rustix::fs::Mode::empty()).ok());
    let own = own.as_ref().ok_or_else(|| Error::new(Kind::Internal, "/proc is needed and is not usable here"))?;
    let path = rustix::fs::readlinkat(own, file.as_raw_fd().to_string(), Vec::with_capacity(256))
        .map_err(|errno| Error::os("readlink", errno.raw_os_error()))?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes())))
}

fn again(file: &OwnedFd) -> Result<OwnedFd> {
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(name, flags, rustix::fs::Mode::empty()).map_err(|errno| Error::os("read the program", errno.raw_os_error()))
}

/// What runs a program: the first line of a script (execve(2)), or the loader that an ELF file names (elf(5)).
fn interpreter(head: &[u8]) -> Option<PathBuf> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let name = line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
        return Some(PathBuf::from(std::ffi::OsString::from_vec(name.to_vec())));
    }
    let elf = object::read::elf::FileHeader::parse(head).ok().map(|header: &object::elf::FileHeader64<object::Endianness>| header)?;
    loader(elf, head)
}

fn loader(elf: &object::elf::FileHeader64<object::Endianness>, head: &[u8]) -> Option<PathBuf> {
    use object::read::elf::{FileHeader as _, ProgramHeader as _};
    let endian = elf.endian().ok()?;
    let segment = elf.program_headers(endian, head).ok()?.iter().find(|header| header.p_type(endian) == object::elf::PT_INTERP)?;
    let name = segment.data(endian, head).ok()?;
    let name = name.split(|byte| *byte == 0).next().filter(|name| !name.is_empty())?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(name.to_vec())))
}
