//! Names for completing a path at a prompt: what `ls` would list, asked and recorded in the same way. No function of scripts.

use super::dir::LS;
use super::file_read::Read;
use super::function::{Call, Function, Host, with0};
use super::walker::{Bounds, Step, Walker};
use crate::error::{Error, Kind, Result};
use crate::policy::ask;
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use rustix::fs::FileType;
use std::sync::Arc;

/// Names that are read of one folder.
const MOST: usize = 10_000;

/// What asks, as the records have it.
const COMPLETE: Function = Function {
    name: "completion",
    doc: "Names of a folder, for completing a path at a prompt.",
    body: &with0(nothing, []),
    asks: &[ask::<Read>()],
    fails: LS.fails,
    examples: &[],
};

fn nothing(_: &Call<'_>) -> Result<()> {
    Err(Error::new(Kind::Unsupported, "completion is no function of scripts"))
}

/// A name in a folder, and whether it is a folder itself.
pub type Entry = (String, bool);

/// The names in a folder, sorted: those that are text.
///
/// # Errors
/// The denial, which is on record; what stands in the way; that the run has to stop.
pub fn names(host: &Arc<Host>, folder: &str) -> Result<Vec<Entry>> {
    let call = Call::new(host, &COMPLETE, None);
    let path = AbsPath::new(folder.as_bytes())?;
    let found = File::locate_dir(&path)?;
    let mut walker = Walker::new(&call, &found, Bounds { max_depth: Some(1), ..Bounds::default() })?;
    walker.enter_root(found)?;
    let mut names = Vec::new();
    while let Step::Name(name) = walker.step()? {
        let folder = name.kind == FileType::Directory;
        if let Ok(text) = String::from_utf8(name.bytes) {
            names.push((text, folder));
        }
        if names.len() >= MOST {
            break;
        }
    }
    walker.finish()?;
    Ok(names)
}
