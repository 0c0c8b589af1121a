//! What functions on text read: a file, an open file, an array of lines or text itself ([`Source`]), line by line ([`Feed`]).
//!
//! This is the one road from a path to its text, so that what the policy says about reading holds for every function on it.

use super::file_read::{Read, RedactedRead};
use super::function::Call;
use super::handle::Handle;
use super::value::{Array, Dynamic, FromScript, ImmutableString, Map, plain_type};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::policy::{Ask, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::stream::to_io;
use crate::sys::text::Lines;
use std::io;

/// What a function on text asks for: `read`, or, where that is denied, `redacted_read`.
pub const READS: &[Ask] = &[ask::<Read>(), ask::<RedactedRead>()];

/// What text is read from.
pub enum Source {
    Path(AbsPath),
    Open(Handle),
    /// Lines without their ends.
    Lines(Array),
    Text(ImmutableString),
}

impl FromScript for Source {
    const TYPE: &'static str = "an absolute path, an open file, an array of lines, or text (#{text: …} where it could be taken for a path)";
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is::<Handle>() {
            return Handle::from_script(value).map(Self::Open);
        }
        if value.is_array() {
            return Array::from_script(value).map(Self::Lines);
        }
        if value.is_blob() {
            return AbsPath::from_script(value).map(Self::Path);
        }
        if let Some(map) = value.read_lock::<Map>().map(|map| map.clone()) {
            return match (map.len(), map.get("text")) {
                (1, Some(text)) => ImmutableString::from_script(text.clone()).map(Self::Text),
                _ => Err(bad_argument(format!("expected {}, got a map", Self::TYPE))),
            };
        }
        match value.into_immutable_string() {
            // Text has lines, and a path is one absolute name; what is neither is text too.
            Ok(text) if text.starts_with('/') && !text.contains('\n') => AbsPath::new(text.as_bytes()).map(Self::Path),
            Ok(text) => Ok(Self::Text(text)),
            Err(name) => Err(bad_argument(format!("expected {}, got {}", Self::TYPE, plain_type(name)))),
        }
    }
}

impl Source {
    /// Asks the policy where that is needed, and opens it.
    ///
    /// # Errors
    /// As [`Call::permit`] and [`sys::file::open`].
    pub fn feed<'c>(self, call: &'c Call<'_>, max_line: usize) -> Result<Feed<'c>> {
        Ok(match self {
            Self::Path(path) => {
                let contents = contents(call, File::locate(&path)?)?;
                Feed { from: Road::Reader(Lines::new(contents, max_line)), path: Some(path), line: Vec::new(), max_line }
            }
            Self::Open(handle) => Feed { path: Some(handle.path().clone()), from: Road::Open(handle), line: Vec::new(), max_line },
            Self::Lines(lines) => Feed { from: Road::Array(lines.into_iter()), path: None, line: Vec::new(), max_line },
            Self::Text(text) => Feed {
                from: Road::Reader(Lines::new(
                    Contents { reader: Box::new(io::Cursor::new(Text(text))), check: Box::new(|| call.check()) },
                    max_line,
                )),
                path: None,
                line: Vec::new(),
                max_line,
            },
        })
    }
}

/// A string of the script as bytes, not copied.
struct Text(ImmutableString);
impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The contents of a granted file as the policy lets them be seen, read in pieces between which the run can be stopped.
pub struct Contents<'c> {
    reader: Box<dyn io::Read + 'c>,
    check: Box<dyn Fn() -> Result<()> + 'c>,
}

impl io::Read for Contents<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            (self.check)().map_err(to_io)?;
            match self.reader.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

/// Asks for the contents of a file and opens them.
///
/// # Errors
/// As [`Call::permit`] and [`sys::file::open`].
pub fn contents<'c>(call: &'c Call<'_>, file: File) -> Result<Contents<'c>> {
    let file = call.permit::<Read>(file)?;
    Ok(Contents { reader: Box::new(sys::file::open(&file)?), check: Box::new(|| call.check()) })
}

/// Lines, one at a time, without their `\n`; a `\r` before it is kept.
pub struct Feed<'c> {
    from: Road<'c>,
    path: Option<AbsPath>,
    line: Vec<u8>,
    max_line: usize,
}

enum Road<'c> {
    Reader(Lines<Contents<'c>>),
    Open(Handle),
    Array(std::vec::IntoIter<Dynamic>),
}

impl Feed<'_> {
    /// The file it reads, for errors.
    #[must_use]
    pub fn path(&self) -> Option<&AbsPath> {
        self.path.as_ref()
    }
    /// The next line, or nothing at the end.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] for a line over the limit; [`Kind::BadArgument`] where an array holds something else than strings; what read(2) reports.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>> {
        let path = &self.path;
        let place = |error: Error| match path {
            Some(path) if error.path.is_none() => error.with_path(path.shown()),
            _ => error,
        };
        match &mut self.from {
            Road::Reader(lines) => lines.next_line().map_err(place),
            Road::Open(handle) => match handle.next_line(self.max_line)? {
                None => Ok(None),
                Some(line) => {
                    self.line = line;
                    Ok(Some(&self.line))
                }
            },
            Road::Array(lines) => match lines.next() {
                None => Ok(None),
                Some(line) => {
                    self.line = ImmutableString::from_script(line)
                        .map_err(|error| bad_argument(format!("a line: {}", error.message)))?
                        .as_bytes()
                        .to_vec();
                    if self.line.len() > self.max_line {
                        return Err(Error::new(Kind::TooLarge, format!("a line is longer than {} bytes", self.max_line)));
                    }
                    Ok(Some(&self.line))
                }
            },
        }
    }
}
