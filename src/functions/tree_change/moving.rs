//! `mv`: renames, and where that cannot be, copies, compares and only then removes.

use super::tree::{Step, Tree, again};
use super::{Delete, Move, Named, exists};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::functions::file_read::Read;
use crate::functions::file_stat::Stat;
use crate::functions::file_write::{Create, Write};
use crate::functions::function::{Call, Example, Function, param, with3};
use crate::functions::value::{IntoScript, Map, name_value, record};
use crate::options;
use crate::output::Log;
use crate::policy::{Answer, Granted, Noun, Value, Walk, ask};
use crate::resource::file::{DIR, FILE, File};
use crate::resource::path::{self, AbsPath};
use crate::sys;
use crate::sys::transfer::{Copied, Staging};

/// Numbers tried for the name of a backup.
const BACKUPS: u32 = 1000;

options! {
    /// Options of `mv`.
    MvOptions {
        force: bool = false, "Put it in the place of a file that has the name already.";
        backup: bool = false, "Do so, and keep that file as `name~`, or as `name.~1~` and so on where that is taken.", flags &["backup", "b"];
        verbose: bool = false, "Log what was moved.", flags &["verbose", "v"];
    }
}

pub(super) const MV: Function = Function {
    name: "mv",
    doc: "Renames or moves a file, link or directory.\n\nWhere the destination is a directory, it goes into it under its own name. `move` is asked for the source with the place \
          where it goes, and `create` for that place; of a directory, `read` for it and both for each thing in it, before anything happens. A link is moved and not followed.\n\n\
          What has the name already is an error (`exists`), unless `force` or `backup` says otherwise: a file is then replaced in one step. `force` needs `delete` and `write` on it, `backup` needs \
          `move` on it and `create` on the backup's name. A directory is never replaced.\n\nTo another filesystem everything is copied under a name of its own, compared, \
          and given its name; only then the source is removed. Owner, mode, times, access lists and extended attributes are kept, as with a rename. FIFOs, sockets and devices cannot be \
          moved there: that is found before anything happens.\n\nA map: `changed`, `path` (where it is now), `replaced`, `copied` (to another filesystem), `backup` (its path, if one was made).",
    body: &with3(mv, [param("source", "What to move."), param("destination", "The new path, or a directory."), param("options", "")]),
    asks: &[ask::<Move>(), ask::<Create>(), ask::<Delete>(), ask::<Write>(), ask::<Read>()],
    fails: &[
        Kind::NotFound,
        Kind::Exists,
        Kind::IsADirectory,
        Kind::NotADirectory,
        Kind::Busy,
        Kind::Permission,
        Kind::NoSpace,
        Kind::ReadOnly,
        Kind::Changed,
        Kind::Unsupported,
        Kind::Io,
    ],
    examples: &[
        Example { given: &[("a", "text")], script: r#"mv(dir + "/a", dir + "/b").path == dir + "/b""#, gives: "true" },
        Example { given: &[("a", "new"), ("b", "old")], script: r#"mv(dir + "/a", dir + "/b", #{force: true}).replaced"#, gives: "true" },
        Example {
            given: &[("a", "new"), ("b", "old")],
            script: r#"let moved = mv([mv::backup], dir + "/a", dir + "/b"); [cat(dir + "/b"), cat(moved.backup)]"#,
            gives: r#"["new", "old"]"#,
        },
        Example { given: &[("d/x", "text"), ("e/", "")], script: r#"mv(dir + "/d", dir + "/e").path == dir + "/e/d""#, gives: "true" },
    ],
};

/// What stands where the source shall be.
enum Place {
    Free(Granted<Create>),
    Replaced(Granted<Delete>),
    Kept { old: Box<Granted<Move>>, backup: Box<Granted<Create>> },
}

/// What a walk over the source found that only matters where it has to be copied.
#[derive(Default)]
struct Survey {
    /// Something that cannot be made there.
    special: Option<AbsPath>,
    /// A folder whose names this account cannot take away.
    unwritable: Option<AbsPath>,
}

fn mv(call: &Call<'_>, source: AbsPath, destination: AbsPath, options: MvOptions) -> Result<Map> {
    let named = Named::of(&source)?;
    let source = File::locate_name(&named.path)?;
    let noun = if source.is_dir() { &DIR } else { &FILE };
    let goal = goal(call, &source, &destination, noun)?;
    let source = call.permit_with::<Move>(source, going_to(&goal))?;
    named.check(&source)?;
    let goal = call.permit::<Create>(goal)?;
    if sys::name::is_mount_point(&source)? {
        return Err(sys::name::busy(&source));
    }
    if source.place() == goal.place() {
        return Err(bad_argument("mv: source and destination are the same").with_path(goal.asked().shown()));
    }
    if source.is_dir() && goal.place().strip_prefix(source.place()).is_some_and(|rest| rest.first() == Some(&b'/')) {
        return Err(bad_argument("mv: a directory cannot be moved into itself").with_path(goal.asked().shown()));
    }
    let (path, asked) = (goal.place().to_vec(), goal.asked().clone());
    let place = settle(call, &source, goal, &options)?;
    let mut survey = Survey::default();
    if !sys::name::may_leave(&source) {
        survey.unwritable = Some(source.asked().clone());
    }
    if source.is_dir() {
        judge_tree(call, &source, &place, &mut survey)?;
    } else if !sys::transfer::can_copy(source.kind()) {
        survey.special = Some(source.asked().clone());
    }
    let copied = carry_out(call, &source, &place, &survey)?;
    let (replaced, backup) = match &place {
        Place::Free(_) => (false, None),
        Place::Replaced(_) => (true, None),
        Place::Kept { backup, .. } => (true, Some(name_value(backup.place()))),
    };
    if options.verbose {
        said(call, &source, &asked)?;
    }
    Ok(record([
        ("changed", true.into_script()),
        ("path", name_value(&path)),
        ("replaced", replaced.into_script()),
        ("copied", copied.into_script()),
        ("backup", backup.into_script()),
    ]))
}

fn said(call: &Call<'_>, source: &File, destination: &AbsPath) -> Result<()> {
    call.host.out.log(Log {
        level: "INFO",
        message: format!("{} -> {}", source.asked().shown(), destination.shown()),
        fields: serde_json::Map::new(),
        line: call.line,
        function: Some("mv"),
        time: sys::clock::now_rfc3339(),
    })
}

/// Where the source will be: in a directory under its own name, else the path itself, whose last link is not followed.
fn goal(call: &Call<'_>, source: &File, destination: &AbsPath, noun: &'static Noun) -> Result<File> {
    let named = Named::of(destination)?;
    let folder = File::locate_dir(destination)?;
    if !folder.exists() || !folder.is_dir() {
        if named.directory && (folder.exists() || noun.name != DIR.name) {
            return Err(no_directory(call, folder));
        }
        let found = File::locate_name(&named.path)?;
        if found.exists() || noun.name == FILE.name {
            return Ok(found);
        }
        // What will be there is a directory, and is judged as one.
        return File::locate_dir(&named.path);
    }
    // Whoever may neither look at that directory nor put anything into it is not told that it is one.
    let inside = match File::entry_named(&folder, source.name()) {
        Err(error) if error.kind == Kind::NotFound => File::absent_entry(&folder, source.name(), noun)?,
        found => found?,
    };
    let gate = &call.host.gate;
    if gate.would::<Stat>(&folder) != Answer::Yes && gate.would::<Create>(&inside) != Answer::Yes {
        if named.directory && noun.name != DIR.name {
            return Err(no_directory(call, folder));
        }
        let plain = if noun.name == DIR.name { File::locate_dir(destination)? } else { File::locate_name(&named.path)? };
        let context = going_to(&plain);
        if gate.would_with::<Move>(source, &context) != Answer::Yes || gate.would::<Create>(&plain) != Answer::Yes {
            return Ok(plain);
        }
    }
    Ok(inside)
}

/// `name/` can only be a directory, and is none, or so it is told to who may not make it.
fn no_directory(call: &Call<'_>, folder: File) -> Error {
    let none = |found: Granted<Create>| Error::new(Kind::NotADirectory, "is not a directory").with_path(found.asked().shown());
    call.permit::<Create>(folder.taken_for_a_directory()).map_or_else(|error| error, none)
}

/// The circumstances of `move`: where to.
fn going_to(goal: &File) -> Vec<(&'static str, Value)> {
    let place = goal.place();
    let cut = place.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let text = |bytes: &[u8]| Value::String(path::to_id(bytes));
    let destination =
        vec![("path", text(place)), ("name", text(goal.name())), ("parent_path", text(place.get(..cut.max(1)).unwrap_or_default()))];
    vec![("destination", Value::Record(destination))]
}

/// What becomes of a thing that has the name already.
fn settle(call: &Call<'_>, source: &File, goal: Granted<Create>, options: &MvOptions) -> Result<Place> {
    if !goal.exists() {
        return Ok(Place::Free(goal));
    }
    let asked = goal.asked().clone();
    if !options.force && !options.backup {
        return Err(exists(&asked).with_hint("`force: true` replaces a file, `backup: true` keeps it under another name"));
    }
    if goal.is_dir() {
        return Err(exists(&asked).with_hint("a directory is never replaced"));
    }
    if source.is_dir() {
        return Err(Error::new(Kind::NotADirectory, "a directory cannot take the place of a file").with_path(asked.shown()));
    }
    if sys::name::is_mount_point(&goal)? {
        return Err(sys::name::busy(&goal));
    }
    let old = goal.into_resource();
    if !options.backup {
        let old = call.permit::<Write>(old)?.into_resource();
        return Ok(Place::Replaced(call.permit::<Delete>(old)?));
    }
    let above = |file: &File| file.place().len() - file.name().len();
    for number in 0..BACKUPS {
        call.check()?;
        let mut path = asked.as_bytes().to_vec();
        path.extend_from_slice(if number == 0 { "~".to_owned() } else { format!(".~{number}~") }.as_bytes());
        let backup = File::locate_name(&AbsPath::new(path)?)?;
        if backup.exists() {
            continue;
        }
        if backup.place().get(..above(&backup)) != old.place().get(..above(&old)) {
            return Err(Error::new(Kind::Changed, "its folder was replaced; nothing was done").with_path(asked.shown()));
        }
        let old = call.permit_with::<Move>(old, going_to(&backup))?;
        return Ok(Place::Kept { old: Box::new(old), backup: Box::new(call.permit::<Create>(backup)?) });
    }
    Err(exists(&asked).with_hint("every name for a backup is taken"))
}

/// Judges everything below a directory, each thing with the place where it goes.
fn judge_tree(call: &Call<'_>, source: &Granted<Move>, place: &Place, survey: &mut Survey) -> Result<()> {
    let Place::Free(goal) = place else { return Err(Error::new(Kind::Internal, "a directory has no place to go to")) };
    if !sys::name::may_empty(source) {
        survey.unwritable.get_or_insert_with(|| source.asked().clone());
    }
    each_below(call, source, goal, &mut |below| {
        match below {
            Below::Folder(from, _) => {
                if !sys::name::may_empty(from) {
                    survey.unwritable.get_or_insert_with(|| from.asked().clone());
                }
            }
            Below::Thing(from, _) => {
                if !sys::transfer::can_copy(from.kind()) {
                    survey.special.get_or_insert_with(|| from.asked().clone());
                }
            }
            Below::End(..) => {}
        }
        Ok(())
    })
}

/// Something below the source, granted, and its place.
enum Below<'a> {
    /// A directory, before what is in it.
    Folder(&'a Granted<Move>, &'a Granted<Create>),
    Thing(&'a Granted<Move>, &'a Granted<Create>),
    /// The same directory, after it.
    End(&'a Granted<Move>),
}

/// Walks over everything below a directory, the directory itself left out; asks for each thing, and hands it on.
fn each_below(
    call: &Call<'_>,
    source: &Granted<Move>,
    goal: &Granted<Create>,
    visit: &mut dyn FnMut(Below<'_>) -> Result<()>,
) -> Result<()> {
    let folder = again(source)?;
    let walk = call.walk::<Read>(&folder)?;
    let mut tree = Tree::new();
    tree.enter(walk.permit(folder)?, &call.host.watch)?;
    let mut goals: Vec<File> = Vec::new();
    while let Some(step) = tree.next()? {
        call.check()?;
        match step {
            Step::End { dir, .. } => {
                let to = goals.pop().ok_or_else(|| Error::new(Kind::Internal, "a walk lost its way"))?;
                let (from, _) = permit_both(&walk, dir, to)?;
                visit(Below::End(&from))?;
            }
            Step::Entry(entry) => {
                let noun = if entry.is_dir() { &DIR } else { &FILE };
                let above = goals.last().unwrap_or_else(|| goal.resource());
                let to = File::absent_below(above, entry.name(), noun)?;
                let (from, to) = permit_both(&walk, entry, to)?;
                if sys::name::is_mount_point(&from)? {
                    return Err(sys::name::busy(&from));
                }
                if !from.is_dir() {
                    visit(Below::Thing(&from, &to))?;
                    continue;
                }
                let inside = walk.permit(again(&from)?)?;
                visit(Below::Folder(&from, &to))?;
                goals.push(to.into_resource());
                tree.enter(inside, &call.host.watch)?;
            }
        }
    }
    walk.finish()
}

fn permit_both(walk: &Walk<'_, Read>, from: File, to: File) -> Result<(Granted<Move>, Granted<Create>)> {
    let from = walk.permit_with::<Move>(from, &going_to(&to))?;
    Ok((from, walk.permit_as::<Create>(to)?))
}

/// Renames, or copies and removes. Whether it was copied.
fn carry_out(call: &Call<'_>, source: &Granted<Move>, place: &Place, survey: &Survey) -> Result<bool> {
    let deed = || {
        let renamed = put(place, &mut |way| match way {
            Way::Free(goal) => sys::name::rename(source, goal),
            Way::Freed(old) => sys::name::rename(source, old),
            Way::Over(old) => sys::name::rename_over(source, old),
            Way::OverKept(old) => sys::name::rename_over(source, old),
        });
        match renamed {
            Err(error) if error.errno == Some(libc::EXDEV) => transfer(call, source, place, survey).map(Some),
            done => done.map(|()| None),
        }
    };
    let tell = |copied: &Option<u64>| match copied {
        Some(bytes) => (*bytes, "copied to another filesystem, compared and removed"),
        None if matches!(place, Place::Free(_)) => (0, "renamed"),
        None if matches!(place, Place::Replaced(_)) => (0, "renamed over another file"),
        None => (0, "renamed over another file, which was kept as a backup"),
    };
    call.effect(source, deed, tell).map(|copied| copied.is_some())
}

/// A way to get something to its place.
enum Way<'a> {
    /// Nothing has the name.
    Free(&'a Granted<Create>),
    /// The same, now that this has another name.
    Freed(&'a Granted<Move>),
    Over(&'a Granted<Delete>),
    /// Over this, which has another name too.
    OverKept(&'a Granted<Move>),
}

/// Brings something to its place; a backup that was made for that is taken back when it fails.
fn put(place: &Place, deed: &mut dyn FnMut(Way<'_>) -> Result<()>) -> Result<()> {
    match place {
        Place::Free(goal) => deed(Way::Free(goal)),
        Place::Replaced(old) => deed(Way::Over(old)),
        Place::Kept { old, backup } => {
            // A second name first, so that the name leads to the old file or the new one at any time. Some filesystems and kernels refuse that.
            if sys::name::keep_as(old, backup)? {
                deed(Way::OverKept(old)).inspect_err(|_| sys::name::unkeep(old, backup))
            } else {
                sys::name::rename(old, backup)?;
                deed(Way::Freed(old)).inspect_err(|_| sys::name::rename_back(old, backup))
            }
        }
    }
}

/// Copies all of the source, gives the copy its name when it is whole, and removes what was copied. How many bytes.
fn transfer(call: &Call<'_>, source: &Granted<Move>, place: &Place, survey: &Survey) -> Result<u64> {
    if let Some(special) = &survey.special {
        let error = Error::new(Kind::Unsupported, "a FIFO, socket or device cannot be moved to another filesystem; nothing was done");
        return Err(error.with_path(special.shown()));
    }
    if let Some(folder) = &survey.unwritable {
        let error = Error::new(Kind::Permission, "it could be copied to the other filesystem, but not removed here; nothing was done");
        return Err(error.with_path(folder.shown()));
    }
    let watch = &call.host.watch;
    let mut staging = match place {
        Place::Free(goal) => Staging::new(goal)?,
        Place::Replaced(old) => Staging::new(old)?,
        Place::Kept { old, .. } => Staging::new(old)?,
    };
    match place {
        Place::Free(goal) if source.is_dir() => {
            staging.enter(source, goal)?;
            each_below(call, source, goal, &mut |below| match below {
                Below::Folder(from, to) => staging.enter(from, to),
                Below::Thing(from, to) => staging.put(from, to, watch),
                Below::End(from) => staging.leave(from),
            })?;
            staging.leave(source)?;
        }
        Place::Free(goal) => staging.put(source, goal, watch)?,
        Place::Replaced(old) => staging.put(source, old, watch)?,
        Place::Kept { old, .. } => staging.put(source, old, watch)?,
    }
    put(place, &mut |way| match way {
        Way::Free(goal) => staging.publish(goal),
        Way::Freed(old) => staging.publish(old),
        Way::Over(old) => staging.publish_over(old),
        Way::OverKept(old) => staging.publish_over(old),
    })?;
    let copied = staging.copied();
    let bytes = copied.bytes;
    remove_source(call, source, place, &copied).map_err(|error| {
        let message = format!("the copy is whole and in its place, but the source is not removed: {}", error.message);
        Error { message, ..error }
    })?;
    Ok(bytes)
}

/// Removes what was copied, and nothing that came or changed since.
fn remove_source(call: &Call<'_>, source: &Granted<Move>, place: &Place, copied: &Copied) -> Result<()> {
    let newer = |file: &File| Error::new(Kind::Changed, "it is new or was written to after it was copied").with_path(file.asked().shown());
    let Place::Free(goal) = place else { return remove_one(source, copied) };
    if !source.is_dir() {
        return remove_one(source, copied);
    }
    let mut left: Option<Error> = None;
    each_below(call, source, goal, &mut |below| {
        let done = match below {
            Below::Folder(..) => Ok(()),
            Below::Thing(from, _) => remove_one(from, copied),
            Below::End(from) => sys::name::remove(from).map_err(|error| if error.kind == Kind::NotEmpty { newer(from) } else { error }),
        };
        match done {
            Err(error) if matches!(error.kind, Kind::Changed) => drop(left.get_or_insert(error)),
            Err(error) if error.kind == Kind::NotFound => {}
            done => done?,
        }
        Ok(())
    })?;
    match left {
        Some(error) => Err(error),
        None => sys::name::remove(source).map_err(|error| if error.kind == Kind::NotEmpty { newer(source) } else { error }),
    }
}

fn remove_one(from: &Granted<Move>, copied: &Copied) -> Result<()> {
    if !copied.holds(&again(from)?) {
        return Err(Error::new(Kind::Changed, "it is new or was written to after it was copied").with_path(from.asked().shown()));
    }
    sys::name::remove(from)
}
