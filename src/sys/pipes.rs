//! The pipes of programs under way: input in, output out, bounded, and never waited for longer than the program lives.

use crate::error::{Error, Kind, Result};
use crate::sys::broker::{Ended, Running};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How often it is looked whether the run has to stop.
const TICK: Duration = Duration::from_millis(50);
/// What a program gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
const BLOCK: usize = 64 << 10;

/// A pipe: its reading end first, both closed at exec.
///
/// # Errors
/// When the kernel gives none.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

/// Which output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Stdout,
    Stderr,
}

/// Programs that belong together, and this side of their pipes.
pub struct Set<'a> {
    pub running: &'a [Running],
    /// What goes into the first.
    pub input: Option<(OwnedFd, &'a [u8])>,
    pub outputs: Vec<(Output, OwnedFd)>,
    /// When they have to be done.
    pub deadline: Instant,
}

/// How they ended.
pub struct Done {
    pub ended: Vec<Ended>,
    pub timed_out: bool,
}

/// Feeds and empties the pipes until every program has ended. What a descendant that is about to be killed still holds open is not waited for.
/// `take` gets the output as it comes; when it says no more, the programs are asked to end.
///
/// # Errors
/// Those of `check` and `take`, after which the programs have to be dropped; that the broker is gone.
pub fn drive(set: Set<'_>, check: &dyn Fn() -> Result<()>, take: &mut dyn FnMut(Output, &[u8]) -> Result<bool>) -> Result<Done> {
    let Set { running, mut input, outputs, deadline } = set;
    let mut outputs: Vec<Option<(Output, OwnedFd)>> = outputs.into_iter().map(Some).collect();
    let mut ended: Vec<Option<Ended>> = running.iter().map(|_| None).collect();
    let (mut timed_out, mut asked): (bool, Option<Instant>) = (false, None);
    if let Some((fd, _)) = &input {
        rustix::io::ioctl_fionbio(fd, true)?;
    }
    for (_, fd) in outputs.iter().flatten() {
        rustix::io::ioctl_fionbio(fd, true)?;
    }
    let mut buffer = Vec::with_capacity(BLOCK);
    loop {
        check()?;
        if ended.iter().all(Option::is_some) {
            for slot in &mut outputs {
                while let Some(true) = slot.as_ref().map(|(which, fd)| drain(*which, fd, &mut buffer, take)).transpose()? {}
            }
            return Ok(Done { ended: ended.into_iter().flatten().collect(), timed_out });
        }
        let now = Instant::now();
        if asked.is_none() && now >= deadline {
            timed_out = true;
            running.iter().for_each(|program| program.stop(false));
            asked = Some(now);
        }
        if asked.is_some_and(|since| since.elapsed() >= GRACE) {
            running.iter().for_each(|program| program.stop(true));
            asked = Some(now + Duration::from_secs(3600));
        }
        let (into, out, over) = wait(running, &ended, input.as_ref(), &outputs);
        for at in over {
            if let (Some(program), Some(slot)) = (running.get(at), ended.get_mut(at)) {
                *slot = Some(program.ended()?);
            }
        }
        if into && !feed(&mut input)? {
            input = None;
        }
        for at in out {
            let Some(slot) = outputs.get_mut(at) else { continue };
            let Some((which, fd)) = slot.as_ref() else { continue };
            buffer.clear();
            match rustix::io::read(fd, rustix::buffer::spare_capacity(&mut buffer)) {
                Ok(0) => *slot = None,
                Ok(_) => {
                    if !take(*which, &buffer)? && asked.is_none() {
                        running.iter().for_each(|program| program.stop(false));
                        asked = Some(Instant::now());
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(Error::os("read", errno.raw_os_error())),
            }
        }
    }
}

/// One piece of what is there already; whether there may be more.
fn drain(which: Output, fd: &OwnedFd, buffer: &mut Vec<u8>, take: &mut dyn FnMut(Output, &[u8]) -> Result<bool>) -> Result<bool> {
    buffer.clear();
    match rustix::io::read(fd, rustix::buffer::spare_capacity(buffer)) {
        Ok(0) | Err(Errno::AGAIN) => Ok(false),
        Ok(_) => {
            let _ = take(which, buffer)?;
            Ok(true)
        }
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(Error::os("read", errno.raw_os_error())),
    }
}

/// Writes what fits; whether there is more.
fn feed(input: &mut Option<(OwnedFd, &[u8])>) -> Result<bool> {
    let Some((fd, rest)) = input else { return Ok(false) };
    match rustix::io::write(&*fd, rest.get(..rest.len().min(BLOCK)).unwrap_or_default()) {
        Ok(count) => {
            *rest = rest.get(count..).unwrap_or_default();
            Ok(!rest.is_empty())
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(true),
        // It does not want to read.
        Err(Errno::PIPE) => Ok(false),
        Err(errno) => Err(Error::os("write", errno.raw_os_error())),
    }
}

type Ready = (bool, Vec<usize>, Vec<usize>);

fn wait(running: &[Running], ended: &[Option<Ended>], input: Option<&(OwnedFd, &[u8])>, outputs: &[Option<(Output, OwnedFd)>]) -> Ready {
    enum Of {
        Input,
        Output(usize),
        Program(usize),
    }
    let mut fds = Vec::new();
    let mut of = Vec::new();
    if let Some((fd, _)) = input {
        fds.push(PollFd::new(fd, PollFlags::OUT));
        of.push(Of::Input);
    }
    for (at, (_, fd)) in outputs.iter().enumerate().filter_map(|(at, slot)| slot.as_ref().map(|slot| (at, slot))) {
        fds.push(PollFd::new(fd, PollFlags::IN));
        of.push(Of::Output(at));
    }
    for (at, program) in running.iter().enumerate().filter(|(at, _)| ended.get(*at).is_some_and(Option::is_none)) {
        fds.push(PollFd::from_borrowed_fd(program.fd(), PollFlags::IN));
        of.push(Of::Program(at));
    }
    let time = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
    let _ = rustix::event::poll(&mut fds, Some(&time));
    let mut ready: Ready = (false, Vec::new(), Vec::new());
    for (fd, of) in fds.iter().zip(of).filter(|(fd, _)| !fd.revents().is_empty()) {
        let _ = fd;
        match of {
            Of::Input => ready.0 = true,
            Of::Output(at) => ready.1.push(at),
            Of::Program(at) => ready.2.push(at),
        }
    }
    ready
}

/// The error for a time limit.
#[must_use]
pub fn too_long(time: Duration) -> Error {
    Error::new(Kind::Timeout, format!("the program did not end within {} s and was killed", time.as_secs_f64()))
}
