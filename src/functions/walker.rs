//! The way through a tree of directories that `ls`, `find`, `du`, `tree` and `glob` share. Each directory is asked for before it is listed; only
//! the innermost ones are held open, so that a deep tree needs no more handles than a flat one.

use super::dir::is_passed_over;
use super::file_read::Read;
use super::function::Call;
use crate::error::{Error, Kind, Result};
use crate::policy::Walk;
use crate::resource::file::File;
use crate::sys;
use crate::sys::dir::{Listing, Name};
use std::collections::HashSet;

/// Directories on the way that are held open.
const HELD: usize = 64;
/// How deep a walk goes where the caller did not say.
pub const DEEPEST: u64 = 2000;

/// Which directories a walk leaves out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Stay on the filesystem of the root.
    pub one_file_system: bool,
    /// Links to directories are followed, so that a directory may be met again: each is entered once.
    pub follow: bool,
    /// Below this depth no directory is entered; None: [`DEEPEST`], and deeper ones are an error.
    pub max_depth: Option<u64>,
}

/// What became of going into a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    Yes,
    /// Listing it is denied, by the policy or to the Unix user.
    Denied,
    /// It is on another filesystem, was entered already, or is deeper than was asked for.
    Outside,
    /// It vanished or was replaced.
    Gone,
}

/// The next thing of a walk.
#[derive(Debug)]
pub enum Step {
    /// A name in the directory where the walk is, see [`Walker::folder`].
    Name(Name),
    /// The directory has been gone through and left.
    Left,
    Done,
}

/// What is behind a name.
pub enum Seen {
    There(Box<File>),
    /// It vanished between listing and looking.
    Gone,
    /// The Unix user may list the directory but not look at what is in it.
    Shut,
}

struct Level {
    dir: File,
    todo: Listing,
    /// Names that come again after all others.
    later: Listing,
    again: bool,
}

/// A walk under way.
pub struct Walker<'c, 'h> {
    call: &'c Call<'h>,
    pub walk: Walk<'c, Read>,
    levels: Vec<Level>,
    bounds: Bounds,
    device: Option<u64>,
    seen: HashSet<(u64, u64)>,
    /// Names that begin with a dot are left out.
    pub hide: bool,
}

impl<'c, 'h> Walker<'c, 'h> {
    /// Begins a walk: the root is asked for, and has to be permitted.
    ///
    /// # Errors
    /// The denial, or what stands in the way.
    pub fn new(call: &'c Call<'h>, root: &File, bounds: Bounds) -> Result<Self> {
        Ok(Self {
            call,
            walk: call.walk::<Read>(root)?,
            levels: Vec::new(),
            bounds,
            device: root.stat().map(|stat| stat.st_dev),
            seen: HashSet::new(),
            hide: false,
        })
    }

    /// How far below the root the names that come next are: 1 directly in it.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.levels.len() as u64
    }

    /// The directory where the walk is.
    #[must_use]
    pub fn folder(&self) -> Option<&File> {
        self.levels.last().map(|level| &level.dir)
    }

    /// Whether there are more names where the walk is.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.levels.last().is_some_and(|level| !level.todo.is_empty())
    }

    /// Lets a name come again after all others of its directory, see [`Walker::is_again`].
    ///
    /// # Errors
    /// As [`Listing::push`].
    pub fn put_off(&mut self, name: &Name) -> Result<()> {
        self.levels.last_mut().map_or(Ok(()), |level| level.later.push(&name.bytes, name.kind))
    }

    /// Whether the name that came last is one that was put off.
    #[must_use]
    pub fn is_again(&self) -> bool {
        self.levels.last().is_some_and(|level| level.again)
    }

    /// Goes into the root. It has to be readable; below it, what is not is left out.
    ///
    /// # Errors
    /// The denial, or what the kernel reports.
    pub fn enter_root(&mut self, root: File) -> Result<()> {
        if self.bounds.follow
            && let Some(stat) = root.stat()
        {
            self.seen.insert((stat.st_dev, stat.st_ino));
        }
        self.open(root)
    }

    /// Whether a directory at the depth of the names that come next may be gone into.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] where the caller set no depth and this is too deep.
    fn within_depth(&self) -> Result<bool> {
        match self.bounds.max_depth {
            Some(most) => Ok(self.depth() < most),
            None if self.depth() < DEEPEST => Ok(true),
            None => Err(Error::new(Kind::TooLarge, format!("there are directories more than {DEEPEST} deep"))
                .with_hint("set `max_depth` to go deeper, or to leave them out")),
        }
    }

    /// Whether the walk would go into something found here, as far as depth goes.
    #[must_use]
    pub fn may_enter(&self) -> bool {
        self.bounds.max_depth.is_none_or(|most| self.depth() < most)
    }

    /// Goes into a directory, unless there is a reason not to.
    ///
    /// # Errors
    /// That the run has to stop, that it is too deep, or what the kernel reports and is no reason to go on without it.
    pub fn enter(&mut self, dir: File) -> Result<Entered> {
        let Some(stat) = dir.stat() else { return Ok(Entered::Gone) };
        if self.bounds.one_file_system && self.device.is_some_and(|device| device != stat.st_dev) {
            return Ok(Entered::Outside);
        }
        let id = (stat.st_dev, stat.st_ino);
        if self.bounds.follow && self.seen.contains(&id) {
            return Ok(Entered::Outside);
        }
        if !self.within_depth().map_err(|error| error.with_path(dir.asked().shown()))? {
            return Ok(Entered::Outside);
        }
        if self.bounds.follow {
            self.seen.insert(id);
        }
        match self.open(dir) {
            Ok(()) => Ok(Entered::Yes),
            Err(error) if matches!(error.kind, Kind::Denied | Kind::Permission) => Ok(Entered::Denied),
            Err(error) if is_passed_over(error.kind) || error.kind == Kind::Changed => Ok(Entered::Gone),
            Err(error) => Err(error),
        }
    }

    /// Whether a thing is on another filesystem than the root, and those are left out.
    #[must_use]
    pub fn is_elsewhere(&self, file: &File) -> bool {
        self.bounds.one_file_system && file.stat().is_some_and(|stat| self.device.is_some_and(|device| device != stat.st_dev))
    }

    fn open(&mut self, dir: File) -> Result<()> {
        let dir = self.walk.permit(dir)?;
        let mut todo = sys::dir::list(&dir, &self.call.host.watch)?;
        if self.hide {
            todo.retain(|name, _| !name.starts_with(b"."));
        }
        todo.sort_to_pop();
        let mut dir = dir.into_resource();
        dir.settle();
        if let Some(above) = self.levels.len().checked_sub(HELD).and_then(|at| self.levels.get_mut(at)) {
            above.dir.let_go();
        }
        self.levels.push(Level { dir, todo, later: Listing::default(), again: false });
        Ok(())
    }

    /// The next name, or that a directory was left.
    ///
    /// # Errors
    /// That the run has to stop; [`Kind::Changed`] when the way back up is lost.
    pub fn step(&mut self) -> Result<Step> {
        self.call.check()?;
        let Some(level) = self.levels.last_mut() else { return Ok(Step::Done) };
        if level.todo.is_empty() && !level.later.is_empty() {
            level.todo = std::mem::take(&mut level.later);
            level.todo.reverse();
            level.again = true;
        }
        if let Some(name) = level.todo.pop() {
            return Ok(Step::Name(name));
        }
        let left = self.levels.pop();
        if let (Some(left), Some(level)) = (left, self.levels.last_mut())
            && !level.dir.exists()
        {
            level.dir.held_again(Some(&left.dir))?;
        }
        Ok(Step::Left)
    }

    /// What has this name where the walk is, seen and not followed.
    ///
    /// # Errors
    /// What the kernel reports, but that it vanished or may not be looked at.
    pub fn see(&self, name: &Name) -> Result<Seen> {
        let Some(folder) = self.folder() else { return Ok(Seen::Gone) };
        match File::glimpse(folder, &name.bytes) {
            Ok(entry) => Ok(Seen::There(Box::new(entry))),
            Err(error) if error.kind == Kind::NotFound => Ok(Seen::Gone),
            Err(error) if error.kind == Kind::Permission => Ok(Seen::Shut),
            Err(error) => Err(error.with_path(folder.asked().below(&name.bytes).shown())),
        }
    }

    /// Records what the walk did.
    ///
    /// # Errors
    /// [`Kind::Audit`] when that is not possible.
    pub fn finish(self) -> Result<()> {
        self.walk.finish()
    }
}
