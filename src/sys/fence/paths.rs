//! Landlock: which paths this process can open, make, remove and move, in all ways that the kernel knows.

use super::plan::{Plan, Rights};
use crate::error::{Error, Kind, Result};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// Everything of it that is known here; on an older kernel what that has (best effort), and the name of the layer only if it has any.
const KNOWN: ABI = ABI::V7;

/// The ruleset, ready to be put in force. Its rules hold the folders by handle, opened while that is still possible.
pub(super) fn prepare(plan: &Plan) -> Result<RulesetCreated> {
    let mut scopes = BitFlags::from(Scope::AbstractUnixSocket);
    if !plan.calls.signals {
        scopes |= Scope::Signal;
    }
    // Connections where policy permits them and does not say which ports are no business of Landlock; waiting for some never is permitted.
    let network = match (&plan.ports, plan.calls.names) {
        (None, true) => AccessNet::BindTcp.into(),
        _ => AccessNet::from_all(KNOWN),
    };
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|rules| rules.handle_access(network))
        .and_then(|rules| rules.scope(scopes))
        .and_then(Ruleset::create)
        .map_err(failed)?;
    for (path, rights) in &plan.paths {
        let Some((handle, is_dir)) = nearest(path, *rights) else { continue };
        let mut access = of(*rights);
        if !is_dir {
            access &= AccessFs::from_file(KNOWN);
        }
        if access.is_empty() {
            continue;
        }
        rules = rules.add_rule(PathBeneath::new(handle, access)).map_err(failed)?;
    }
    for port in plan.ports.iter().flatten() {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp)).map_err(failed)?;
    }
    Ok(rules)
}

/// The version that the kernel has, 0 for none. What is armed is that, and no more than [`KNOWN`].
pub(super) fn abi() -> u32 {
    #[expect(unsafe_code, reason = "the crate does not tell the version")]
    // SAFETY: with LANDLOCK_CREATE_RULESET_VERSION (1) the call takes no memory and changes nothing.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, 1u32) };
    u32::try_from(version).unwrap_or(0)
}

/// The same rules and one more: what is in a folder may be read. The rules that it is made of get it too.
pub(super) fn and_read(rules: &RulesetCreated, folder: Option<OwnedFd>) -> Result<RulesetCreated> {
    let rules = rules.try_clone().map_err(Error::from)?;
    match folder {
        Some(handle) => rules.add_rule(PathBeneath::new(handle, of(Rights::READ))).map_err(failed),
        None => Ok(rules),
    }
}

/// The same rules and one more: this file may be read.
pub(super) fn and_read_file(rules: RulesetCreated, file: BorrowedFd<'_>) -> Result<RulesetCreated> {
    rules.add_rule(PathBeneath::new(file, of(Rights::READ_FILE))).map_err(failed)
}

/// Whether the kernel holds it.
pub(super) fn restrict(rules: RulesetCreated) -> Result<bool> {
    let status = rules.restrict_self().map_err(failed)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

fn failed(error: landlock::RulesetError) -> Error {
    Error::new(Kind::Layer, format!("the layer `landlock` cannot be armed: {error}"))
}

/// The thing, or where it may be made the nearest folder above it: a rule is about what is there now. What is missing and may not be made is left out,
/// else a permit for a file that is not there would open its folder. A link is not what policies mean, since they are about canonical paths.
fn nearest(path: &Path, rights: Rights) -> Option<(OwnedFd, bool)> {
    for (steps, place) in path.ancestors().enumerate() {
        let opened = rustix::fs::openat2(
            rustix::fs::CWD,
            place,
            OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
            ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS,
        );
        match opened {
            Ok(handle) => {
                let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&handle).ok()?.st_mode);
                let is_dir = kind == rustix::fs::FileType::Directory;
                if kind == rustix::fs::FileType::Symlink || (steps > 0 && !is_dir) {
                    return None;
                }
                return Some((handle, is_dir));
            }
            Err(rustix::io::Errno::NOENT) if rights.has(Rights::MAKE_FILE) || rights.has(Rights::MAKE_DIR) => {}
            // A link on the way, a file in place of a folder: nothing canonical lies there.
            Err(_) => return None,
        }
    }
    None
}

fn of(rights: Rights) -> BitFlags<AccessFs> {
    let mut access = BitFlags::empty();
    let mut add = |right: Rights, what: BitFlags<AccessFs>| {
        if rights.has(right) {
            access |= what;
        }
    };
    add(Rights::READ_FILE, AccessFs::ReadFile.into());
    add(Rights::READ_DIR, AccessFs::ReadDir.into());
    add(Rights::WRITE, AccessFs::WriteFile | AccessFs::Truncate);
    add(Rights::MAKE_FILE, AccessFs::MakeReg | AccessFs::MakeSym | AccessFs::MakeFifo | AccessFs::MakeSock);
    add(Rights::MAKE_DIR, AccessFs::MakeDir.into());
    add(Rights::REMOVE_FILE, AccessFs::RemoveFile.into());
    add(Rights::REMOVE_DIR, AccessFs::RemoveDir.into());
    add(Rights::REFER, AccessFs::Refer.into());
    add(Rights::EXECUTE, AccessFs::Execute.into());
    access
}
