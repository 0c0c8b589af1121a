//! A directory tree, depth first, each thing pinned with its folder, with few descriptors however deep it is.

use crate::error::{Error, Kind, Result};
use crate::functions::file_read::Read;
use crate::limits::Watch;
use crate::policy::Granted;
use crate::resource::file::File;
use crate::resource::path::{self, AbsPath};
use crate::sys;
use crate::sys::dir::Name;

/// Directories on the way that stay pinned; those above are found again, and must be the same, when the walk comes back to them.
const HELD: usize = 32;

/// A walk below a directory. What is in a directory comes before the end of the directory itself.
pub(super) struct Tree {
    levels: Vec<Level>,
    kept: bool,
}

struct Level {
    folder: Option<File>,
    asked: AbsPath,
    place: Vec<u8>,
    id: Option<(u64, u64)>,
    todo: Vec<Name>,
    kept: bool,
}

/// What a walk comes to.
pub(super) enum Step {
    /// Something in the present directory, pinned by its name.
    Entry(File),
    /// The end of a directory below the root, pinned again by its name. `kept`: something in it stays.
    End { dir: File, kept: bool },
}

/// Filesystem and number of what is pinned.
pub(super) fn identity(file: &File) -> Option<(u64, u64)> {
    #[allow(clippy::unnecessary_cast, reason = "other integers on other architectures")]
    file.stat().map(|stat| (stat.st_dev as u64, stat.st_ino as u64))
}

/// The same thing once more, for another question about it.
pub(super) fn again(file: &File) -> Result<File> {
    let handle = file.handle().ok_or_else(|| Error::new(Kind::NotFound, "no such file or directory").with_path(file.asked().shown()))?;
    File::of(file.asked().clone(), handle.try_clone()?)
}

fn changed(asked: &AbsPath) -> Error {
    Error::new(Kind::Changed, "it was moved or replaced while the tree was walked").with_path(asked.shown())
}

impl Level {
    fn folder(&mut self) -> Result<&File> {
        if self.folder.is_none() {
            // Any name will do to find the folder: its own place is what is looked up.
            let mut inside = self.place.clone();
            inside.extend_from_slice(b"/.");
            let (handle, _) = path::parent_of(&inside).map_err(|_| changed(&self.asked))?;
            let found = File::of(self.asked.clone(), handle)?;
            if identity(&found) != self.id || found.place() != self.place || !found.exists() {
                return Err(changed(&self.asked));
            }
            self.folder = Some(found);
        }
        self.folder.as_ref().ok_or_else(|| changed(&self.asked))
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { levels: Vec::new(), kept: false }
    }

    /// Goes into a directory.
    pub(super) fn enter(&mut self, dir: Granted<Read>, watch: &Watch) -> Result<()> {
        let (mut todo, _) = sys::dir::names(&dir, usize::MAX, watch)?;
        // Taken from the end.
        todo.sort_unstable_by(|a, b| b.bytes.cmp(&a.bytes));
        let dir = dir.into_resource();
        let level =
            Level { asked: dir.asked().clone(), place: dir.place().to_vec(), id: identity(&dir), todo, kept: false, folder: Some(dir) };
        self.levels.push(level);
        if let Some(above) = self.levels.len().checked_sub(HELD + 1).and_then(|at| self.levels.get_mut(at)) {
            above.folder = None;
        }
        Ok(())
    }

    /// That something in the present directory stays, so that the directory and those above it stay too.
    pub(super) fn keep(&mut self) {
        match self.levels.last_mut() {
            Some(level) => level.kept = true,
            None => self.kept = true,
        }
    }

    /// Whether something stays, once the walk is at its end.
    pub(super) fn keeps(&self) -> bool {
        self.kept
    }

    /// The next thing; what vanished meanwhile is passed over. The end of the root is the end of the walk.
    pub(super) fn next(&mut self) -> Result<Option<Step>> {
        while let Some(level) = self.levels.last_mut() {
            if let Some(name) = level.todo.pop() {
                match File::entry_named(level.folder()?, &name.bytes) {
                    Ok(entry) => return Ok(Some(Step::Entry(entry))),
                    Err(error) if error.kind == Kind::NotFound => continue,
                    Err(error) => return Err(error),
                }
            }
            let Some(done) = self.levels.pop() else { break };
            let Some(above) = self.levels.last_mut() else {
                self.kept |= done.kept;
                break;
            };
            above.kept |= done.kept;
            let name = done.place.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            match File::entry_named(above.folder()?, name) {
                Ok(dir) if identity(&dir) == done.id => return Ok(Some(Step::End { dir, kept: done.kept })),
                Ok(_) => return Err(changed(&done.asked)),
                Err(error) if error.kind == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
