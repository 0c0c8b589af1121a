//! Unmounting. Behind Landlock no process changes what is mounted (landlock(7)), so a small process forked before the fence does it: it is told a path, the
//! number of the mount there, and whether to be lazy, and holds to the list of what policy could permit.

use super::beside::Beside;
use super::broker::wire;
use super::fence;
use super::proc::mounts::{self, Mount};
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Bound, Granted};
use crate::resource::file::File;
use crate::resource::path::to_id;
use crate::sys::stream::Check;
use crate::sys::write::Changes;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::net::SocketType;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The way to it; none where nothing that policy permits needs it.
static UNMOUNT: OnceLock<Arc<Beside>> = OnceLock::new();

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    /// Canonical.
    path: Vec<u8>,
    /// The number of the mount (proc_pid_mountinfo(5)), which names it while it is there.
    id: u64,
    lazy: bool,
}

/// Forks it. No thread may run yet.
///
/// # Errors
/// When the kernel gives no process or socket.
pub fn start(permitted: Vec<Bound>) -> Result<()> {
    let beside = Beside::start(c"rex unmount", SocketType::SEQPACKET, move |socket| serve(socket, &permitted))?;
    let _ = UNMOUNT.set(beside);
    Ok(())
}

fn serve(socket: &OwnedFd, permitted: &[Bound]) {
    let mut armed = false;
    while let Ok(Some((bytes, _))) = wire::packet(socket) {
        if !armed {
            if fence::arm_for_unmounting().is_err() {
                return;
            }
            armed = true;
        }
        let Ok(request) = serde_json::from_slice::<Request>(&bytes) else { return };
        let id = to_id(&request.path);
        let done =
            if permitted.iter().any(|bound| bound.may_hold("file_system::Dir", &id)) { unmount(&request) } else { Err(Errno::ACCESS) };
        wire::tell(socket, &done.err().map_or(0, |errno| errno.raw_os_error()));
    }
}

fn unmount(request: &Request) -> rustix::io::Result<()> {
    let path = Path::new(OsStr::from_bytes(&request.path));
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::BUSY) };
    // The folder is held and the name looked up in it, without a link on the way: a handle on the mount itself would keep it busy.
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let folder = rustix::fs::openat2(rustix::fs::CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    // No file server is asked: that it does not answer may be why it is unmounted.
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(&folder, name, flags, StatxFlags::MNT_ID)?;
    // Before Linux 5.8 the kernel does not tell, and the path alone decides.
    if stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 && stat.stx_mnt_id != request.id {
        return Err(Errno::STALE);
    }
    rustix::process::fchdir(&folder)?;
    let lazy = if request.lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    let done = rustix::mount::unmount(name, UnmountFlags::NOFOLLOW | lazy);
    rustix::process::chdir("/")?;
    done
}

/// What is mounted at a path: the last of those that lie on one another. Reads the kernel's table, and touches no filesystem.
///
/// # Errors
/// What reading the table reports.
pub fn at<A: Action<On = File>>(granted: &Granted<A>) -> Result<Option<Mount>> {
    let place = Path::new(OsStr::from_bytes(granted.resource().place())).to_path_buf();
    Ok(mounts::own_mounts()?.into_iter().rfind(|mount| mount.mount_point == place))
}

/// Unmounts what was found at a granted path, if it is still that.
///
/// # Errors
/// [`Kind::Busy`], [`Kind::Changed`] when something else is mounted there now, [`Kind::NotFound`], [`Kind::Permission`], [`Kind::Timeout`]; the check's reason.
pub fn now<A: Action<On = File>>(granted: &Granted<A>, mount: &Mount, lazy: bool, timeout: Duration, check: Check<'_>) -> Result<()> {
    let () = Changes::<A>::OK;
    granted.to_be_done()?;
    let shown = || granted.resource().asked().shown();
    let gone = || Error::new(Kind::Unavailable, "the process that unmounts is gone");
    let beside = UNMOUNT.get().ok_or_else(|| Error::new(Kind::Unsupported, "nothing is unmounted in this way of running a script"))?;
    let request = Request { path: granted.resource().place().to_vec(), id: mount.id, lazy };
    let text = serde_json::to_vec(&request).map_err(|_| Error::new(Kind::Internal, "a request that cannot be written"))?;
    if text.len() > wire::SHORT {
        return Err(Error::os("unmount", libc::ENAMETOOLONG).with_path(shown()));
    }
    let socket = beside.socket();
    wire::send(&socket, &text, &[]).map_err(|_| gone())?;
    let until = Instant::now() + timeout;
    let tick = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while rustix::event::poll(&mut [PollFd::new(&*socket, PollFlags::IN)], Some(&tick)) == Ok(0) {
        let stop = check().err().or_else(|| {
            let late = Instant::now() >= until;
            late.then(|| Error::new(Kind::Timeout, "it was not unmounted in time; that may still happen").with_path(shown()))
        });
        if let Some(stop) = stop {
            // A later question must not get this answer.
            let _ = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Both);
            return Err(stop);
        }
    }
    let Some((errno, _)) = wire::receive::<i32>(&socket)? else { return Err(gone()) };
    if errno == 0 {
        return Ok(());
    }
    match Errno::from_raw_os_error(errno) {
        Errno::STALE => Err(Error::new(Kind::Changed, "something else is mounted there by now; nothing was done").with_path(shown())),
        Errno::INVAL => Err(Error::new(Kind::NotFound, "nothing is mounted there").with_path(shown())),
        Errno::BUSY => Err(Error::new(Kind::Busy, "it is in use").with_path(shown()).with_hint(
            "`processes_using(path, #{mount: true})` tells by whom; `lazy: true` takes it away from sight now and lets go of it later",
        )),
        errno => Err(Error::os("unmount", errno.raw_os_error()).with_path(shown())),
    }
}
