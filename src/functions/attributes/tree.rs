//! A change of everything at and below a path: a first walk judges all of it, a second one judges again and changes it.

use crate::error::{Class, Error, Kind, Result};
use crate::functions::file_read::Read;
use crate::functions::function::Call;
use crate::functions::value::{Array, Dynamic, IntoScript, Map, name_value, record};
use crate::policy::{Action, Granted, Value, Walk};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;
use rustix::fs::{FileType, Stat};

/// Refusals that a result lists; further ones are counted.
const LISTED: usize = 1000;

/// How deep a tree may be: each directory on the way is held open, twice.
const DEEPEST: usize = 480;

/// Whether one more directory may be entered below so many.
///
/// # Errors
/// [`Kind::TooLarge`].
pub fn may_enter(depth: usize, path: &AbsPath) -> Result<()> {
    if depth < DEEPEST {
        return Ok(());
    }
    // The path itself is too long to be read.
    let end = path.shown().chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect::<String>();
    Err(Error::new(Kind::TooLarge, format!("the tree is deeper than {DEEPEST} directories")).with_path(format!("…{end}")))
}

/// What a call that keeps going did not do, and why.
#[derive(Default)]
pub struct Refusals {
    list: Array,
    count: u64,
}

impl Refusals {
    pub fn add(&mut self, path: &AbsPath, error: &Error) {
        self.count += 1;
        if self.list.len() >= LISTED {
            return;
        }
        let mut map = record([
            ("path", name_value(path.as_bytes())),
            ("kind", error.kind.name().into_script()),
            ("message", error.message.clone().into_script()),
        ]);
        if let Some(denial) = &error.denial {
            map.insert("action".into(), denial.action.clone().into_script());
        }
        self.list.push(Dynamic::from_map(map));
    }
    /// Adds `refused` (the first thousand) and `refused_count` to a result.
    pub fn tell(self, map: &mut Map) {
        map.insert("refused".into(), Dynamic::from_array(self.list));
        map.insert("refused_count".into(), self.count.into_script());
    }
}

/// Whether a call that keeps going goes on after this: it is about one thing, not about all that follow.
#[must_use]
pub fn is_of_one(kind: Kind) -> bool {
    let of_all = matches!(
        kind,
        Kind::NoSpace | Kind::ReadOnly | Kind::DryRun | Kind::Audit | Kind::Internal | Kind::Cancelled | Kind::NeedsApproval
    );
    !of_all && !matches!(kind.class(), Class::Limit | Class::Internal | Class::Validation)
}

/// What a walk came to.
#[derive(Default)]
pub struct Done {
    pub changed: u64,
    pub skipped: u64,
    pub refused: Refusals,
    /// What the path itself is now.
    pub after: Option<Stat>,
}

impl Done {
    /// Of a path that is no tree.
    ///
    /// # Errors
    /// What fstat(2) reports.
    pub fn of_one<A: Action<On = File>>(granted: &Granted<A>, changed: bool) -> Result<Self> {
        Ok(Self { changed: changed.into(), after: Some(sys::attributes::stat(granted)?), ..Self::default() })
    }
}

/// One verb on everything at and below a directory.
pub struct Tree<'t, A: Action<On = File>> {
    pub path: &'t AbsPath,
    /// Whether links within the tree are changed themselves, or left out.
    pub links: bool,
    pub keep_going: bool,
    /// The circumstances of the question about a thing.
    pub context: &'t dyn Fn(&File) -> Vec<(&'static str, Value)>,
    /// The deed; whether it changed anything.
    pub deed: &'t dyn Fn(&Granted<A>) -> Result<bool>,
}

/// A directory on the way: what is still to be done in it, and then to it.
struct Level<A: Action> {
    dir: Granted<Read>,
    todo: Vec<sys::dir::Name>,
    own: Option<Granted<A>>,
}

impl<A: Action<On = File>> Tree<'_, A> {
    /// Judges everything, and then changes it; with `keep_going` in one walk, what may not be changed is reported.
    ///
    /// # Errors
    /// [`Kind::Denied`] before anything was changed; what the kernel reports, with how much was changed before.
    pub fn change(&self, call: &Call<'_>, root: &File) -> Result<Done> {
        if !self.keep_going {
            self.walk(call, root.twin()?, false)?;
        }
        self.walk(call, root.twin()?, true)
    }

    fn walk(&self, call: &Call<'_>, root: File, act: bool) -> Result<Done> {
        let mut done = Done::default();
        let result = self.steps(call, root, act, &mut done);
        match result {
            Ok(()) => Ok(done),
            Err(error) if done.changed > 0 => {
                Err(Error { message: format!("{} (after {} things were changed)", error.message, done.changed), ..error })
            }
            Err(error) => Err(error),
        }
    }

    fn steps(&self, call: &Call<'_>, root: File, act: bool, done: &mut Done) -> Result<()> {
        let walk = call.walk::<Read>(&root)?;
        let own = root.twin()?;
        let mut levels: Vec<Level<A>> = Vec::new();
        // The path itself is what the call is about: it keeps going only below it.
        let own = walk.permit_with::<A>(own, &(self.context)(&root))?;
        levels.push(Self::open(call, &walk, root, Some(own))?);
        while let Some(level) = levels.last_mut() {
            call.check()?;
            let Some(name) = level.todo.pop() else {
                // A directory comes after what is in it: without its old rights that might be out of reach.
                if let Some(Level { own: Some(own), .. }) = levels.pop() {
                    self.apply(&own, act, done)?;
                    if levels.is_empty() {
                        done.after = Some(sys::attributes::stat(&own)?);
                    }
                }
                continue;
            };
            let entry = match File::entry(level.dir.resource(), &name.bytes) {
                Ok(entry) => entry,
                // It went meanwhile.
                Err(error) if error.kind == Kind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if entry.kind() == Some(FileType::Symlink) && !self.links {
                done.skipped += u64::from(act);
                continue;
            }
            let shown = entry.asked().clone();
            let inside = if entry.is_dir() { Some(entry.twin()?) } else { None };
            let context = (self.context)(&entry);
            let own = match walk.permit_with::<A>(entry, &context) {
                Ok(own) => Some(own),
                Err(error) => self.refuse(&shown, error, done).map(|()| None)?,
            };
            match inside {
                Some(inside) => match may_enter(levels.len(), &shown).and_then(|()| Self::open(call, &walk, inside, None)) {
                    Ok(level) => levels.push(Level { own, ..level }),
                    Err(error) => {
                        self.refuse(&shown, error, done)?;
                        if let Some(own) = own {
                            self.apply(&own, act, done)?;
                        }
                    }
                },
                None => {
                    if let Some(own) = own {
                        self.apply(&own, act, done)?;
                    }
                }
            }
        }
        walk.finish()
    }

    fn open(call: &Call<'_>, walk: &Walk<'_, Read>, dir: File, own: Option<Granted<A>>) -> Result<Level<A>> {
        let dir = walk.permit(dir)?;
        let (mut todo, _) = sys::dir::names(&dir, usize::MAX, &call.host.watch)?;
        todo.sort_by(|a, b| b.bytes.cmp(&a.bytes));
        Ok(Level { dir, todo, own })
    }

    fn apply(&self, own: &Granted<A>, act: bool, done: &mut Done) -> Result<()> {
        if !act {
            return Ok(());
        }
        match (self.deed)(own) {
            Ok(changed) => {
                done.changed += u64::from(changed);
                Ok(())
            }
            Err(error) => self.refuse(&own.resource().asked().clone(), error, done),
        }
    }

    /// Goes on after a refusal where that was asked for.
    fn refuse(&self, path: &AbsPath, error: Error, done: &mut Done) -> Result<()> {
        if !self.keep_going || !is_of_one(error.kind) {
            return Err(error);
        }
        done.refused.add(path, &error);
        Ok(())
    }
}
