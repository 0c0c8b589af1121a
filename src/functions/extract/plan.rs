//! What is extracted of an archive, to where, and with which bits and owner.

use super::super::archive::{Globs, Skipped};
use super::super::attributes::{wanted_mode, wanted_owner};
use super::{DEEPEST, ExtractOptions, bad, named, passes};
use crate::error::{Error, Kind, Result};
use crate::policy::Value;
use crate::resource::file::{File, names};
use crate::sys::archive::{Form, Member, What};
use crate::sys::fresh::Birth;

/// Where a member goes: the names below the directory, none of them empty, `.` or `..`.
pub struct Placed {
    pub names: Vec<Vec<u8>>,
    /// Of a hard link: where what it is another name of went.
    pub target: Vec<Vec<u8>>,
}

impl Placed {
    pub fn path(&self) -> Vec<u8> {
        self.names.join(&b'/')
    }
}

/// Which members are extracted, to where; the same in both rounds.
pub struct Plan<'c> {
    options: &'c ExtractOptions,
    form: Form,
    members: Option<Globs>,
    bytes: u64,
}

impl<'c> Plan<'c> {
    pub fn new(options: &'c ExtractOptions, form: Form) -> Result<Self> {
        Ok(Self { options, form, members: Globs::new("members", &options.members)?, bytes: 0 })
    }

    /// The names of a path in the archive.
    fn names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        if path.first() == Some(&b'/') {
            return Err(bad("a member has an absolute name"));
        }
        if self.form == Form::Zip && path.contains(&b'\\') {
            return Err(bad("a member has a backslash in its name"));
        }
        let names: Vec<Vec<u8>> =
            path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec).collect();
        if names.iter().any(|name| name == b"..") {
            return Err(bad("a member has `..` in its name"));
        }
        if names.iter().any(|name| name.contains(&0)) {
            return Err(bad("a member has a NUL in its name"));
        }
        if names.len() > DEEPEST {
            return Err(bad("a member lies in too many folders"));
        }
        Ok(names)
    }

    /// Where a member goes, or nothing where it was not asked for. What cannot be extracted is an error, or with `keep_going` noted.
    pub fn place(&mut self, member: &Member, skipped: Option<&mut Skipped>) -> Result<Option<Placed>> {
        match self.place_of(member) {
            Err(error) if passes(self.options, &error) => {
                if let Some(skipped) = skipped {
                    skipped.add(&member.path, error.kind.name(), &error.message);
                }
                Ok(None)
            }
            placed => placed.map_err(|error| named(error, &member.path)),
        }
    }

    fn place_of(&mut self, member: &Member) -> Result<Option<Placed>> {
        let whole = member.path.strip_prefix(b"./").unwrap_or(&member.path);
        let trimmed = whole.strip_suffix(b"/").unwrap_or(whole);
        if self.members.as_mut().is_some_and(|members| !members.fits(trimmed, false)) {
            return Ok(None);
        }
        let strip = usize::try_from(self.options.strip_components).unwrap_or(usize::MAX);
        let cut = |mut names: Vec<Vec<u8>>| if names.len() > strip { names.split_off(strip) } else { Vec::new() };
        let names = cut(self.names(&member.path)?);
        if names.is_empty() {
            return Ok(None);
        }
        if let Some(obstacle) = member.obstacle {
            return Err(Error::new(Kind::Unsupported, format!("a member cannot be extracted: {obstacle}")));
        }
        let mut target = Vec::new();
        match member.what {
            What::File => {
                self.bytes = self.bytes.saturating_add(member.size);
                if self.bytes > self.options.max_bytes {
                    return Err(Error::new(Kind::TooLarge, format!("more than {} bytes are to be written", self.options.max_bytes))
                        .with_hint("raise `max_bytes`, or choose with `members`"));
                }
            }
            What::Dir => {}
            What::Symlink => stays_inside(&member.target, names.len() - 1)?,
            What::HardLink => {
                target = cut(self.names(&member.target).map_err(|_| bad("a hard link leads out of the directory"))?);
                if target.is_empty() || target == names {
                    return Err(bad("a hard link leads to nothing"));
                }
            }
            What::Fifo => return Err(bad("a member is a FIFO")),
            What::CharDevice | What::BlockDevice => return Err(bad("a member is a device")),
            What::Other => return Err(bad("a member is of a type that cannot be extracted")),
        }
        Ok(Some(Placed { names, target }))
    }

    pub fn all_were_found(&self) -> Result<()> {
        let Some(members) = &self.members else { return Ok(()) };
        match members.hit.iter().position(|hit| !hit).and_then(|at| self.options.members.get(at)) {
            None => Ok(()),
            Some(pattern) => Err(Error::new(Kind::NotFound, format!("nothing in the archive fits `{}`", pattern.escape_debug()))),
        }
    }
}

/// Whether a symbolic link in a folder so deep leads to a place below the directory. `..` may only stand in front, where it goes up through
/// real folders: behind a name it would go up from wherever that name, itself a link perhaps, leads to.
fn stays_inside(target: &[u8], depth: usize) -> Result<()> {
    if target.is_empty() || target.contains(&0) {
        return Err(bad("a symbolic link leads to nothing"));
    }
    if target.first() == Some(&b'/') {
        return Err(bad("a symbolic link leads out of the directory: it is absolute"));
    }
    let names = target.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    let (mut up, mut down) = (0, false);
    for name in names {
        if name != b".." {
            down = true;
        } else if down {
            return Err(bad("a symbolic link has `..` behind a name"));
        } else {
            up += 1;
        }
    }
    if up > depth { Err(bad("a symbolic link leads out of the directory")) } else { Ok(()) }
}

/// The bits that a member is made with.
fn bits(options: &ExtractOptions, member: &Member) -> u32 {
    let program = member.what == What::Dir || member.mode & 0o100 != 0;
    match options.preserve_permissions {
        true if options.set_id => member.mode & 0o7777,
        true => member.mode & 0o777,
        false if program => 0o755,
        false => 0o644,
    }
}

/// The owner and group that a member is made with, where these are to be kept: their names count, as for tar(1).
fn owner(options: &ExtractOptions, member: &Member) -> Result<Option<(u32, u32)>> {
    if !options.preserve_ownership {
        return Ok(None);
    }
    let number =
        |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| bad("the owner of a member is no possible one"));
    let name = |name: &[u8]| std::str::from_utf8(name).ok().filter(|name| !name.is_empty()).map(str::to_owned);
    let uid = name(&member.owner).and_then(|name| names().uid_of(&name)).map_or_else(|| number(member.uid), Ok)?;
    let gid = name(&member.group).and_then(|name| names().gid_of(&name)).map_or_else(|| number(member.gid), Ok)?;
    Ok(Some((uid, gid)))
}

pub fn birth(options: &ExtractOptions, member: &Member) -> Result<Birth> {
    let mtime = member.mtime.filter(|_| options.preserve_timestamps);
    Ok(Birth { mode: bits(options, member), owner: owner(options, member)?, mtime, anew: false })
}

/// The questions about a new file or directory besides that it is made: its special bits, and its owner.
pub fn special(birth: &Birth, file: &File, what: What) -> (Option<Circumstances>, Option<Circumstances>) {
    let bits = Some(birth.mode).filter(|mode| mode & 0o7000 != 0 && what != What::Symlink);
    (bits.map(wanted_mode), birth.owner.map(|(uid, gid)| wanted_owner(file, Some(uid), Some(gid))))
}

pub type Circumstances = Vec<(&'static str, Value)>;
