//! Open files: one pinned object for a sequence of operations. What may be done with one was asked when it was opened, and is asked again once other
//! policies are in force.

use super::file_read::{Read, RedactedRead, text};
use super::file_write::{Content, Create, NEW_FILE, Write, allow_new};
use super::function::{Call, Example, Function, Host, param, with1, with2};
use super::source::sight;
use super::value::{Dynamic, FromScript, IntoScript, name_value, plain_type};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Action, Effect, Resource, Site, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::handle::{Mode, Opened};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub const FUNCTIONS: &[Function] = &[OPEN, READ, READ_LINE, LINES, READ_BYTES, WRITE_LINE, SEEK, PATH, LOCK, CLOSE];

/// An open file, as scripts hold it; a copy is the same open file.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

struct Inner {
    file: File,
    host: Arc<Host>,
    /// Where it was opened.
    line: u32,
    column: u32,
    state: Mutex<State>,
}

struct State {
    /// Nothing once it is closed.
    opened: Option<Opened>,
    began: Instant,
    writes: u64,
    bytes: u64,
    failed: Option<Kind>,
}

impl std::fmt::Display for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "File({:?})", self.path().shown())
    }
}

impl FromScript for Handle {
    const TYPE: &'static str = "an open file";
    fn from_script(value: Dynamic) -> Result<Self> {
        let name = value.type_name();
        value.try_cast::<Self>().ok_or_else(|| {
            let error = bad_argument(format!("expected {}, got {}", Self::TYPE, plain_type(name)));
            if name == "string" { error.with_hint("`open(path)` gives an open file; `cat(path)` reads a path at once") } else { error }
        })
    }
}
impl IntoScript for Handle {
    fn into_script(self) -> Dynamic {
        Dynamic::from(self)
    }
}

/// A path or an open file.
pub enum Target {
    Path(AbsPath),
    Open(Handle),
}

impl FromScript for Target {
    const TYPE: &'static str = "an absolute path or an open file";
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is::<Handle>() {
            return Handle::from_script(value).map(Self::Open);
        }
        if value.is_string() || value.is_blob() {
            return AbsPath::from_script(value).map(Self::Path);
        }
        Err(bad_argument(format!("expected {}, got {}", Self::TYPE, plain_type(value.type_name()))))
    }
}

impl Handle {
    /// What the script wrote when it opened it.
    #[must_use]
    pub fn path(&self) -> &AbsPath {
        self.0.file.asked()
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Works with the open file; errors name its path.
    fn with<T>(&self, work: impl FnOnce(&mut Opened, &crate::limits::Watch) -> Result<T>) -> Result<T> {
        let mut state = self.state();
        let shown = || self.path().shown();
        let Some(opened) = &mut state.opened else { return Err(bad_argument("the file is closed").with_path(shown())) };
        work(opened, &self.0.host.watch).map_err(|error| if error.path.is_none() { error.with_path(shown()) } else { error })
    }
    /// The same for a change; what all changes came to is recorded when the file is closed.
    fn change<T>(&self, call: &Call<'_>, bytes: u64, work: impl FnOnce(&mut Opened, &crate::limits::Watch) -> Result<T>) -> Result<T> {
        call.check()?;
        self.0.still::<Write>()?;
        let result = self.with(work);
        let mut state = self.state();
        match &result {
            Ok(_) => {
                state.writes += 1;
                state.bytes += bytes;
            }
            // That it was not open for writing changed nothing.
            Err(error) if error.kind == Kind::BadArgument => {}
            Err(error) => state.failed = Some(error.kind),
        }
        result
    }
    /// Writes at its place.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] when it is closed or not open for writing; what write(2) reports.
    pub fn write(&self, call: &Call<'_>, bytes: &[u8]) -> Result<()> {
        self.change(call, bytes.len() as u64, |opened, watch| opened.write(bytes, watch))
    }
    /// Sets its size; whether that differs.
    ///
    /// # Errors
    /// As [`Handle::write`].
    pub fn truncate(&self, call: &Call<'_>, size: u64) -> Result<bool> {
        self.change(call, 0, |opened, _| opened.truncate(size))
    }
    /// The object again, to be judged and looked at anew.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] when it is closed.
    pub fn again(&self) -> Result<File> {
        let same = self.with(|opened, _| opened.same())?;
        File::of(self.path().clone(), same)
    }
    /// Whether it was opened for reading, and may be read still.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] when it was not, or is closed; [`Kind::Denied`] by policies that are in force since.
    pub fn readable(&self) -> Result<()> {
        let wrong = || bad_argument("this file was not opened for reading: open it with \"r\", \"r+\" or \"w+\"");
        let redacted = self.with(|opened, _| opened.mode().reads().then(|| opened.is_redacted()).ok_or_else(wrong))?;
        if redacted { self.0.still::<RedactedRead>() } else { self.0.still::<Read>() }
    }
    /// Works with the open file; after an error it is where it was before.
    ///
    /// # Errors
    /// Those of the work; [`Kind::BadArgument`] when it is closed or not open for reading.
    pub fn look<T>(&self, work: impl FnOnce(&mut Opened, &crate::limits::Watch) -> Result<T>) -> Result<T> {
        self.readable()?;
        self.with(|opened, watch| {
            let before = opened.place();
            let result = work(opened, watch);
            if result.is_err() {
                opened.return_to(before);
            }
            result
        })
    }
    /// Does work that reads it through copies of itself; after an error it is where it was before.
    ///
    /// # Errors
    /// Those of the work; [`Kind::BadArgument`] when it is closed or not open for reading.
    pub fn or_back<T>(&self, work: impl FnOnce(Self) -> Result<T>) -> Result<T> {
        self.readable()?;
        let before = self.with(|opened, _| Ok(opened.place()))?;
        work(self.clone()).inspect_err(|_| {
            let _ = self.with(|opened, _| {
                opened.return_to(before);
                Ok(())
            });
        })
    }
    /// The next line without its `\n`, in bytes; a `\r` before it is kept.
    ///
    /// # Errors
    /// As [`sys::handle::Opened::line`].
    pub fn next_line(&self, max_line: usize) -> Result<Option<Vec<u8>>> {
        self.with(|opened, watch| Ok(opened.line_as_it_is(max_line, watch)?.map(<[u8]>::to_vec)))
    }
    /// The next line as text.
    fn line(&self, max_line: usize, lossy: bool) -> Result<Option<String>> {
        let path = self.path();
        self.look(|opened, watch| match opened.line(max_line, watch)? {
            None => Ok(None),
            Some(line) => text(line.to_vec(), lossy, path).map(Some),
        })
    }
}

/// From its place on.
impl std::io::Read for Handle {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.with(|opened, watch| opened.some(buffer, watch)).map_err(crate::sys::stream::to_io)
    }
}

impl Inner {
    /// As whoever opened it.
    fn site(&self) -> Site<'static> {
        Site { function: OPEN.name, asks: OPEN.asks, line: self.line, column: self.column }
    }
    fn still<A: Action<On = File>>(&self) -> Result<()> {
        self.host.gate.still::<A>(&self.site(), &self.file)
    }
    /// Closes the file and puts on record what was changed through it.
    fn close(&self) -> Result<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.opened.take().is_none() {
            return Ok(false);
        }
        self.host.watch.file_closed();
        if state.writes > 0 || state.failed.is_some() {
            let effect = Effect {
                failed: state.failed,
                bytes: state.bytes,
                duration: state.began.elapsed(),
                detail: "changes through an open file",
            };
            self.host.gate.effect::<Write>(&self.site(), &self.file, effect)?;
        }
        Ok(true)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A record that fails here stops the next decision, whose record fails as well.
        let _ = self.close();
    }
}

impl FromScript for Mode {
    const TYPE: &'static str = "\"r\", \"r+\", \"w\", \"w+\", \"a\" or \"x\"";
    fn absent() -> Option<Self> {
        Some(Self::Read)
    }
    fn from_script(value: Dynamic) -> Result<Self> {
        let word = String::from_script(value)?;
        Self::of(&word).ok_or_else(|| {
            bad_argument(format!("expected {}, got `{}`", Self::TYPE, word.chars().take(20).collect::<String>().escape_debug()))
        })
    }
}

const OPEN: Function = Function {
    name: "open",
    doc: "Opens a file for a sequence of operations on one and the same object.\n\nModes: `r` read; `r+` read and write; `w` write, empty at first; `w+` the same and read; `a` write at the end; `x` make it, or fail with `exists`. \
          `w`, `w+`, `a` and `x` make a file that is not there (mode 0o644). Nothing is emptied or made before the policy has allowed everything that the mode needs: `read`, `write`, `create`. \
          Where `read` is denied and `redacted_read` permitted, a file opened with `r` shows redacted text, and places and lines are those of that text. \
          The file is closed by `close`, or when nothing holds it any more.",
    body: &with2(open, [param("path", "The file."), param("mode", "How; `r` if left out.")]),
    asks: &[ask::<Read>(), ask::<RedactedRead>(), ask::<Write>(), ask::<Create>()],
    fails: &[Kind::NotFound, Kind::Exists, Kind::IsADirectory, Kind::NotAFile, Kind::Permission, Kind::ReadOnly, Kind::Changed],
    examples: &[
        Example { given: &[("log", "a\nb\n")], script: r#"let n = 0; for line in open(dir + "/log").lines() { n += 1; } n"#, gives: "2" },
        Example {
            given: &[],
            script: r#"let f = open(dir + "/new", "x"); f.write_line("one"); f.close(); cat(dir + "/new")"#,
            gives: r#""one\n""#,
        },
        Example {
            given: &[("old", "abc")],
            script: r#"let f = open(dir + "/old", "r+"); f.seek(1); f.write("X"); f.seek(0); f.read()"#,
            gives: r#""aXc""#,
        },
    ],
};

fn open(call: &Call<'_>, path: AbsPath, mode: Mode) -> Result<Handle> {
    call.host.watch.file_opened()?;
    open_counted(call, &path, mode).inspect_err(|_| call.host.watch.file_closed())
}

fn open_counted(call: &Call<'_>, path: &AbsPath, mode: Mode) -> Result<Handle> {
    let file = File::locate(path)?;
    let handle = |file: File, opened, writes| {
        let state = State { opened: Some(opened), began: Instant::now(), writes, bytes: 0, failed: None };
        Handle(Arc::new(Inner { file, host: Arc::clone(call.host), line: call.line, column: call.column, state: Mutex::new(state) }))
    };
    if mode == Mode::Read {
        let sight = sight(call, file)?;
        let opened = sight.opened()?;
        return Ok(handle(sight.into_file(), opened, 0));
    }
    let absent = !file.exists();
    let file = if !mode.reads() {
        file
    } else if absent {
        allow_reading_new(call, path, &file)?;
        file
    } else {
        call.permit::<Read>(file)?.into_resource()
    };
    let file = if absent && mode.creates() { allow_new(call, file)? } else { call.permit::<Write>(file)? };
    if absent && !mode.creates() {
        return Err(file.resource().obstacle().unwrap_or_else(|| Error::new(Kind::NotFound, "no such file").with_path(path.shown())));
    }
    if !absent && mode == Mode::New {
        return Err(Error::new(Kind::Exists, "it is there already").with_path(path.shown()));
    }
    if file.held() {
        return Err(call.withhold(&file, "opened for writing", None)?);
    }
    let opened = if absent { Opened::made(&file, mode, NEW_FILE) } else { Opened::to_write(&file, mode) };
    match opened {
        Ok(opened) => {
            let emptied = u64::from(absent || matches!(mode, Mode::Write | Mode::WriteRead));
            let file = if absent { File::of(path.clone(), opened.pinned()?)? } else { file.into_resource() };
            Ok(handle(file, opened, emptied))
        }
        Err(error) => Err(error),
    }
}

/// Whether a file that is not there yet may be read once it is.
fn allow_reading_new(call: &Call<'_>, path: &AbsPath, file: &File) -> Result<()> {
    let again = File::locate(path)?;
    if again.place() != file.place() {
        return Err(Error::new(Kind::Changed, "the path leads elsewhere now; nothing was done").with_path(path.shown()));
    }
    match call.permit::<Read>(again) {
        // Allowed, and not there: what the gate says only after an allow.
        Err(error) if error.kind == Kind::NotFound => Ok(()),
        answer => answer.map(drop),
    }
}

options! {
    /// Options of `read`.
    ReadOptions {
        max_bytes: u64 = 16 << 20, "Refuse to return more than this.";
        lossy: bool = false, "Show bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const READ: Function = Function {
    name: "read",
    doc: "The text of an open file from its place to its end.",
    body: &with2(read, [param("file", "An open file."), param("options", "")]),
    asks: &[],
    fails: &[Kind::TooLarge, Kind::NotText, Kind::Io],
    examples: &[Example {
        given: &[("two", "a\nb\n")],
        script: r#"let f = open(dir + "/two"); f.read_line(); f.read()"#,
        gives: r#""b\n""#,
    }],
};

fn read(call: &Call<'_>, file: Handle, options: ReadOptions) -> Result<String> {
    call.check()?;
    // When it is no text nothing is used up, so that bytes can be read instead.
    file.look(|opened, watch| text(opened.bytes(None, options.max_bytes, watch)?, options.lossy, file.path()))
}

options! {
    /// Options of `read_line` and `lines`.
    LineOptions {
        max_line: u64 = 1 << 20, "Refuse a line of more bytes than this.";
        lossy: bool = false, "Show bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const READ_LINE: Function = Function {
    name: "read_line",
    doc: "The next line of an open file, or nothing `()` at its end.\n\nThe line end, `\\n` or `\\r\\n`, is not part of it.",
    body: &with2(read_line, [param("file", "An open file."), param("options", "")]),
    asks: &[],
    fails: &[Kind::TooLarge, Kind::NotText, Kind::Io],
    examples: &[Example {
        given: &[("one", "a\r\n")],
        script: r#"let f = open(dir + "/one"); [f.read_line(), f.read_line()]"#,
        gives: r#"["a", ()]"#,
    }],
};

fn read_line(call: &Call<'_>, file: Handle, options: LineOptions) -> Result<Option<String>> {
    call.check()?;
    file.line(usize::try_from(options.max_line).unwrap_or(usize::MAX), options.lossy)
}

/// The lines of an open file from its place on, one at a time; a copy goes on where the other is.
#[derive(Clone)]
pub struct Lines {
    file: Handle,
    max_line: usize,
    lossy: bool,
    /// After an error there is no further line: a loop without a body does not look at what it gets, and would go on for ever.
    failed: bool,
    /// Where the script asked for them.
    pub line: u32,
    pub column: u32,
}

impl std::fmt::Display for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lines({:?})", self.file.path().shown())
    }
}
impl Iterator for Lines {
    type Item = Result<Dynamic>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let line = self.file.line(self.max_line, self.lossy);
        self.failed = line.is_err();
        line.map(|line| line.map(IntoScript::into_script)).transpose()
    }
}
impl IntoScript for Lines {
    fn into_script(self) -> Dynamic {
        Dynamic::from(self)
    }
}

const LINES: Function = Function {
    name: "lines",
    doc: "The lines of an open file from its place on, for a `for` loop: one of them is held at a time.\n\nAs with `read_line`, line ends are not part of them.",
    body: &with2(lines, [param("file", "An open file."), param("options", "")]),
    asks: &[],
    fails: &[Kind::TooLarge, Kind::NotText, Kind::Io],
    examples: &[Example {
        given: &[("log", "a\nb\nc\n")],
        script: r#"let all = ""; for line in open(dir + "/log").lines() { if line == "c" { break; } all += line; } all"#,
        gives: r#""ab""#,
    }],
};

fn lines(call: &Call<'_>, file: Handle, options: LineOptions) -> Result<Lines> {
    file.readable()?;
    Ok(Lines {
        file,
        max_line: usize::try_from(options.max_line).unwrap_or(usize::MAX),
        lossy: options.lossy,
        failed: false,
        line: call.line,
        column: call.column,
    })
}

options! {
    /// Options of `read_bytes`.
    BytesOptions {
        offset: Option<u64> = None, "Begin at this byte; an open file else begins at its place.";
        length: Option<u64> = None, "Read this many bytes at most.";
        max_bytes: u64 = 16 << 20, "Refuse to return more than this.";
    }
}

const READ_BYTES: Function = Function {
    name: "read_bytes",
    doc: "The bytes of a file as a blob, whatever they are: all, or a part.",
    body: &with2(read_bytes, [param("path", "The file, or an open file."), param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::Permission],
    examples: &[
        Example {
            given: &[("five", "12345")],
            script: r#"read_bytes(dir + "/five", #{offset: 1, length: 2}).as_string()"#,
            gives: r#""23""#,
        },
        Example { given: &[("five", "12345")], script: r#"read_bytes(dir + "/five").len()"#, gives: "5" },
    ],
};

fn read_bytes(call: &Call<'_>, target: Target, options: BytesOptions) -> Result<Vec<u8>> {
    match target {
        Target::Path(path) => {
            let file = call.permit::<Read>(File::locate(&path)?)?;
            sys::file::read(&file, options.offset.unwrap_or(0), options.length, options.max_bytes, &call.host.watch)
        }
        Target::Open(file) => {
            if file.look(|opened, _| Ok(opened.is_redacted()))? {
                // Bytes are not redacted, so they need `read`; that it is denied is why the file shows redacted text.
                let _ = call.permit::<Read>(file.again()?)?;
                return Err(bad_argument("this file was opened when only redacted reading was permitted: open it again")
                    .with_path(file.path().shown()));
            }
            file.look(|opened, watch| {
                if let Some(offset) = options.offset {
                    opened.go_to(offset);
                }
                opened.bytes(options.length, options.max_bytes, watch)
            })
        }
    }
}

const WRITE_LINE: Function = Function {
    name: "write_line",
    doc: "Writes a line to an open file: the text and a line end. The bytes written.",
    body: &with2(write_line, [param("file", "An open file."), param("line", "The text, without its line end.")]),
    asks: &[],
    fails: &[Kind::NoSpace, Kind::Io],
    examples: &[Example {
        given: &[],
        script: r#"let f = open(dir + "/new", "w"); f.write_line("a"); f.write_line("b"); cat(dir + "/new")"#,
        gives: r#""a\nb\n""#,
    }],
};

fn write_line(call: &Call<'_>, file: Handle, line: Content) -> Result<u64> {
    let mut bytes = line.as_bytes().to_vec();
    bytes.push(b'\n');
    file.write(call, &bytes)?;
    Ok(bytes.len() as u64)
}

const SEEK: Function = Function {
    name: "seek",
    doc: "Goes to a place in an open file: so many bytes from its start, or, if negative, from its end. The place, from the start.",
    body: &with2(seek, [param("file", "An open file."), param("position", "Bytes from the start; negative: from the end.")]),
    asks: &[],
    fails: &[],
    examples: &[Example {
        given: &[("five", "12345")],
        script: r#"let f = open(dir + "/five"); [f.seek(-2), f.read()]"#,
        gives: r#"[3, "45"]"#,
    }],
};

fn seek(_: &Call<'_>, file: Handle, position: i64) -> Result<u64> {
    file.with(|opened, watch| opened.seek(position, watch))
}

const PATH: Function = Function {
    name: "path",
    doc: "The path by which an open file was opened.",
    body: &with1(path, [param("file", "An open file.")]),
    asks: &[],
    fails: &[],
    examples: &[Example { given: &[("a", "")], script: r#"path(open(dir + "/a")) == dir + "/a""#, gives: "true" }],
};

fn path(_: &Call<'_>, file: Handle) -> Result<Dynamic> {
    Ok(name_value(file.path().as_bytes()))
}

options! {
    /// Options of `lock`.
    LockOptions {
        exclusive: bool = true, "Nobody else may hold it; false: others may who do not want it alone.";
        timeout: Duration = Duration::from_secs(10), "Seconds to wait for it.";
    }
}

const LOCK: Function = Function {
    name: "lock",
    doc: "Takes the lock of an open file, flock(2); it is given back when the file is closed.\n\nOnly programs that ask for the lock too respect it. A lock that is held is waited for; then it is the error `timeout`.",
    body: &with2(lock, [param("file", "An open file."), param("options", "")]),
    asks: &[],
    fails: &[Kind::Timeout, Kind::Io],
    examples: &[Example { given: &[("state", "")], script: r#"let f = open(dir + "/state", "r+"); f.lock(); f.close()"#, gives: "true" }],
};

fn lock(call: &Call<'_>, file: Handle, options: LockOptions) -> Result<()> {
    call.check()?;
    file.with(|opened, watch| opened.lock(options.exclusive, options.timeout, watch))
}

const CLOSE: Function = Function {
    name: "close",
    doc: "Closes an open file now. Whether it was open.",
    body: &with1(close, [param("file", "An open file.")]),
    asks: &[],
    fails: &[],
    examples: &[Example { given: &[("a", "")], script: r#"let f = open(dir + "/a"); [f.close(), f.close()]"#, gives: "[true, false]" }],
};

fn close(_: &Call<'_>, file: Handle) -> Result<bool> {
    file.0.close()
}

#[cfg(test)]
mod tests;
