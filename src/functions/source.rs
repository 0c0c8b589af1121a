//! What functions on text read: a file, an open file, an array of lines or text itself ([`Source`]), line by line ([`Feed`]).
//!
//! This is the one road from a path to its text, so that what the policy says about reading holds for every function on it.

use super::compress::other_format;
use super::file_read::{Read, RedactedRead};
use super::function::Call;
use super::handle::Handle;
use super::value::{Array, Dynamic, FromScript, ImmutableString, Map, plain_type};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::policy::{Action, Answer, Ask, Granted, Resource, Walk, Weighed, ask};
use crate::resource::file::{FILE, File};
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::decompress::{Caps, Format, Plain};
use crate::sys::handle::Opened;
use crate::sys::redact::{Redacted, Rules};
use crate::sys::stream::to_io;
use crate::sys::text::{Bounds, Lines, to_text};
use std::io;
use std::sync::Arc;

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
            Ok(text) if ["./", "../", "~/"].iter().any(|start| text.starts_with(start)) && !text.contains(['\n', ' ']) => {
                Err(bad_argument("paths are absolute, this looks like a relative one").with_hint("text is `#{text: …}`"))
            }
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
        let feed = |from, path| Feed { from, path, line: Vec::new(), max_line };
        Ok(match self {
            Self::Path(path) => {
                let contents = contents(call, File::locate(&path)?)?;
                feed(Road::Reader(Lines::new(contents, max_line)), Some(path))
            }
            Self::Open(handle) => {
                let path = handle.path().clone();
                feed(Road::Open(handle), Some(path))
            }
            Self::Lines(lines) => feed(Road::Array(lines.into_iter()), None),
            Self::Text(text) => feed(Road::Reader(Lines::new(Contents::new(call, io::Cursor::new(Text(text))), max_line)), None),
        })
    }

    /// The same as bytes: of an open file from its place on, of lines with a `\n` behind each.
    ///
    /// # Errors
    /// As [`Source::feed`].
    pub fn contents<'c>(self, call: &'c Call<'_>) -> Result<Contents<'c>> {
        Ok(match self {
            Self::Path(path) => contents(call, File::locate(&path)?)?,
            Self::Open(handle) => {
                handle.readable()?;
                Contents::new(call, handle)
            }
            Self::Lines(lines) => Contents::new(call, Joined { lines: lines.into_iter(), line: Vec::new(), used: 0 }),
            Self::Text(text) => Contents::new(call, io::Cursor::new(Text(text))),
        })
    }

    /// Works on its contents; an open file is where it was before if that fails.
    ///
    /// # Errors
    /// As [`Source::feed`]; those of the work, with the path.
    pub fn with_contents<T>(self, call: &Call<'_>, work: impl FnOnce(Contents<'_>) -> Result<T>) -> Result<T> {
        let path = self.path().map(AbsPath::shown);
        let result = match self {
            Self::Open(handle) => handle.or_back(|handle| work(Contents::new(call, handle))),
            other => other.contents(call).and_then(work),
        };
        result.map_err(|error| match path {
            Some(path) if error.path.is_none() => error.with_path(path),
            _ => error,
        })
    }

    /// The file that it is from, for errors.
    #[must_use]
    pub fn path(&self) -> Option<&AbsPath> {
        match self {
            Self::Path(path) => Some(path),
            Self::Open(handle) => Some(handle.path()),
            Self::Lines(_) | Self::Text(_) => None,
        }
    }
}

/// An array of lines as a text.
struct Joined {
    lines: std::vec::IntoIter<Dynamic>,
    line: Vec<u8>,
    used: usize,
}

impl io::Read for Joined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.line.len() {
            let Some(line) = self.lines.next() else { return Ok(0) };
            self.line = line_of(line).map_err(to_io)?;
            self.line.push(b'\n');
            self.used = 0;
        }
        let ready = self.line.get(self.used..).unwrap_or_default();
        let count = ready.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), ready.get(..count)) {
            to.copy_from_slice(from);
        }
        self.used += count;
        Ok(count)
    }
}

/// An item of an array of lines.
fn line_of(item: Dynamic) -> Result<Vec<u8>> {
    let line = ImmutableString::from_script(item).map_err(|error| bad_argument(format!("a line: {}", error.message)))?;
    Ok(line.as_bytes().to_vec())
}

/// Lines of a source, without their ends (`\n` or `\r\n`), as `work` takes them from an open file: a path is opened, an open file is read from its
/// place, and left where the work leaves it.
///
/// # Errors
/// As [`Source::feed`]; those of the work; [`Kind::NotText`] unless `lossy`, after which an open file is where it was.
pub fn lines_of(call: &Call<'_>, source: Source, lossy: bool, part: Part, bounds: Bounds) -> Result<Vec<String>> {
    let path = source.path().cloned();
    let place = |error: Error| match &path {
        Some(path) if error.path.is_none() => error.with_path(path.shown()),
        _ => error,
    };
    let texts = |lines: Vec<Vec<u8>>| {
        let first = part.first();
        let numbered = lines.into_iter().enumerate();
        numbered.map(|(at, line)| to_text(line, lossy, if first == 0 { 0 } else { first + at as u64 })).collect::<Result<Vec<String>>>()
    };
    match source {
        Source::Path(path) => {
            let sight = sight(call, File::locate(&path)?)?;
            part.take(&mut sight.opened()?, bounds, &call.host.watch).and_then(texts).map_err(place)
        }
        Source::Open(handle) => handle.look(|opened, watch| part.take(opened, bounds, watch).and_then(texts)),
        Source::Lines(_) | Source::Text(_) => {
            let check = || call.check();
            let mut lines = match part {
                Part::From(skipped, count) => {
                    let last = skipped.saturating_add(count);
                    if count == 0 {
                        Vec::new()
                    } else {
                        sys::text::range(source.contents(call)?, skipped.saturating_add(1), last, bounds, &check)?
                    }
                }
                Part::Last(skipped, count) => {
                    let mut reader = Lines::new(source.contents(call)?, bounds.max_line);
                    let _ = reader.skip_lines(skipped)?;
                    sys::text::last_of(reader, count, bounds)?
                }
            };
            for line in &mut lines {
                if line.ends_with(b"\r") {
                    let _ = line.pop();
                }
            }
            texts(lines)
        }
    }
}

/// Which lines.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// So many behind the first so many.
    From(u64, u64),
    /// The last so many of those behind the first so many.
    Last(u64, u64),
}

impl Part {
    /// The number of the first line, where that is known.
    fn first(self) -> u64 {
        match self {
            Self::From(skipped, _) => skipped.saturating_add(1),
            Self::Last(..) => 0,
        }
    }
    fn take(self, opened: &mut Opened, bounds: Bounds, watch: &crate::limits::Watch) -> Result<Vec<Vec<u8>>> {
        match self {
            Self::From(skipped, count) => opened.first_lines(skipped, count, bounds, watch),
            Self::Last(skipped, count) => opened.last_lines(skipped, count, bounds, watch),
        }
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

impl<'c> Contents<'c> {
    fn new(call: &'c Call<'_>, reader: impl io::Read + 'c) -> Self {
        Self { reader: Box::new(reader), check: Box::new(|| call.check()) }
    }
}

/// A file as the policy lets its text be seen. The one place where that is decided: what reads text reads it through this.
pub enum Sight {
    Whole(Granted<Read>),
    /// Only as the owner's rules show it.
    Redacted(Granted<RedactedRead>, Arc<Rules>),
}

/// Asks how much of the text of a file may be seen.
///
/// # Errors
/// As [`Call::permit`]: where neither is permitted, `read` is what was denied. [`Kind::Config`] where the owner's rules cannot be used.
pub fn sight(call: &Call<'_>, file: File) -> Result<Sight> {
    if only_redacted(call, &file) { redacted(call, call.permit(file)?) } else { call.permit(file).map(Sight::Whole) }
}

/// The same for a file met on a walk.
///
/// # Errors
/// As [`sight`].
pub fn sight_on_walk(call: &Call<'_>, walk: &Walk<'_, Read>, file: File) -> Result<Sight> {
    // Asked once in the usual case; a denial is recorded only when it is known what is denied.
    match walk.weigh::<Read>(file, false)? {
        Weighed::Granted(file) => Ok(Sight::Whole(file)),
        Weighed::Denied(file) if only_redacted(call, &file) => redacted(call, walk.permit_as(file)?),
        Weighed::Denied(file) => walk.permit(file).map(Sight::Whole),
    }
}

/// Whether `read` is denied where `redacted_read` is permitted.
fn only_redacted(call: &Call<'_>, file: &File) -> bool {
    let gate = &call.host.gate;
    let declared = call.function.asks.iter().any(|ask| ask.namespace == RedactedRead::NAMESPACE && ask.name == RedactedRead::NAME);
    let is_file = Resource::noun(file).name == FILE.name;
    declared && is_file && gate.would::<Read>(file) != Answer::Yes && gate.would::<RedactedRead>(file) == Answer::Yes
}

fn redacted(call: &Call<'_>, file: Granted<RedactedRead>) -> Result<Sight> {
    match call.host.redaction.rules() {
        Ok(rules) => Ok(Sight::Redacted(file, rules)),
        // Nothing can be shown without rules; that this is why nothing was shown goes on record.
        Err(error) => call.effect(&file, || Err(error), |_: &Sight| (0, "")),
    }
}

impl Sight {
    #[must_use]
    pub fn file(&self) -> &File {
        match self {
            Self::Whole(file) => file.resource(),
            Self::Redacted(file, _) => file.resource(),
        }
    }
    #[must_use]
    pub fn into_file(self) -> File {
        match self {
            Self::Whole(file) => file.into_resource(),
            Self::Redacted(file, _) => file.into_resource(),
        }
    }
    /// Opens it, to go about in it.
    ///
    /// # Errors
    /// As [`sys::file::open`].
    pub fn opened(&self) -> Result<Opened> {
        match self {
            Self::Whole(file) => Opened::to_read(file),
            Self::Redacted(file, rules) => Opened::to_read_redacted(file, Arc::clone(rules)),
        }
    }
    /// Opens it, to read it from its beginning on.
    ///
    /// # Errors
    /// As [`sys::file::open`].
    pub fn contents<'c>(&self, call: &'c Call<'_>) -> Result<Contents<'c>> {
        Ok(match self {
            Self::Whole(file) => Contents::new(call, sys::file::open(file)?),
            Self::Redacted(file, rules) => Contents::new(call, Redacted::new(sys::file::open(file)?, Arc::clone(rules))),
        })
    }
    /// The text of a gzip file, of nothing else.
    ///
    /// # Errors
    /// As [`Sight::unpacked`]; [`Kind::BadData`] for what is packed in another way, or not at all.
    pub fn gunzipped<'c>(&self, call: &'c Call<'_>, caps: Caps) -> Result<Contents<'c>> {
        self.unpacked_as(call, caps, Some(Format::Gzip))
    }
    /// The same, unpacked if it is packed: what may not be seen is replaced in what was unpacked.
    ///
    /// # Errors
    /// As [`sys::file::open`]; what the packed data has wrong.
    pub fn unpacked<'c>(&self, call: &'c Call<'_>, caps: Caps) -> Result<Contents<'c>> {
        self.unpacked_as(call, caps, None)
    }
    fn unpacked_as<'c>(&self, call: &'c Call<'_>, caps: Caps, only: Option<Format>) -> Result<Contents<'c>> {
        let plain = |packed, caps| {
            let plain = Plain::new(Contents::new(call, packed), caps)?;
            match only.filter(|only| *only != plain.format()) {
                Some(only) => Err(other_format(plain.format(), only)),
                None => Ok(plain),
            }
        };
        Ok(match self {
            Self::Whole(file) => Contents::new(call, plain(sys::file::open(file)?, caps)?),
            Self::Redacted(file, rules) => {
                // A script's own limit is held to what it sees: the number of bytes that are hidden is nothing it may find out by trying limits.
                let usual = Caps::default();
                let bounded = Caps { max_bytes: caps.max_bytes.max(usual.max_bytes), max_ratio: usual.max_ratio, ..caps };
                let plain = plain(sys::file::open(file)?, bounded)?;
                let most = if plain.format() == Format::Plain { u64::MAX } else { caps.max_bytes };
                Contents::new(call, Capped { inner: Redacted::new(plain, Arc::clone(rules)), most, seen: 0 })
            }
        })
    }
}

/// No more than so many bytes.
struct Capped<R> {
    inner: R,
    most: u64,
    seen: u64,
}

impl<R: io::Read> io::Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.seen = self.seen.saturating_add(count as u64);
        if self.seen > self.most {
            return Err(to_io(Error::new(Kind::TooLarge, format!("unpacked it is more than {} bytes", self.most))));
        }
        Ok(count)
    }
}

/// Asks for the contents of a file and opens them.
///
/// # Errors
/// As [`sight`] and [`sys::file::open`].
pub fn contents<'c>(call: &'c Call<'_>, file: File) -> Result<Contents<'c>> {
    sight(call, file)?.contents(call)
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
                    self.line = line_of(line)?;
                    if self.line.len() > self.max_line {
                        return Err(Error::new(Kind::TooLarge, format!("a line is longer than {} bytes", self.max_line)));
                    }
                    Ok(Some(&self.line))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
