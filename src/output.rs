//! What a run says while it runs: printed text, log lines, alarms, metrics and records, streamed or kept as the format demands.

use crate::error::{Error, Kind, Result};
use crate::limits::{Stop, Watch};
use crate::os::terminal::{steers, steers_nothing};
use serde_json::{Map, Value, json};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard};

/// The form of what comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text, streamed; logs and errors to stderr.
    Human,
    /// One document at the end.
    Json,
    /// The same, indented.
    PrettyJson,
    /// A stream of one-line documents.
    Ndjson,
}

/// A log line of the script.
#[derive(Clone, Debug)]
pub struct Log {
    pub level: &'static str,
    pub message: String,
    pub fields: Map<String, Value>,
    pub line: u32,
    pub function: Option<&'static str>,
    /// RFC 3339, UTC.
    pub time: String,
}

/// What was said so far and is still to be reported.
#[derive(Debug, Default)]
pub struct Said {
    /// What was printed (json forms only; in the human form it is on stdout already).
    pub printed: String,
    pub logs: Vec<Log>,
    pub logs_dropped: u64,
    pub alarms: Vec<Value>,
    pub metrics: Vec<Value>,
    /// Whether something was left out because a limit was reached.
    pub truncated: bool,
}

/// Where a run speaks. Shared by the script's thread and the supervisor.
pub struct Output {
    form: Form,
    verbose: bool,
    watch: Arc<Watch>,
    stdout_is_tty: bool,
    /// Whether errors may be coloured: on a terminal that is known to do it.
    colours: bool,
    said: Mutex<Said>,
    /// Held while a line is written: lines of branches do not mix.
    line: Mutex<()>,
}

/// Log lines kept for a result; more are counted and dropped.
const MAX_LOGS: usize = 10_000;
/// Bytes of one log line.
const MAX_LOG: usize = 8 << 10;

impl Output {
    #[must_use]
    pub fn new(form: Form, verbose: bool, watch: Arc<Watch>) -> Self {
        let stdout_is_tty = rustix::termios::isatty(rustix::stdio::stdout());
        Self { form, verbose, watch, stdout_is_tty, colours: false, said: Mutex::new(Said::default()), line: Mutex::new(()) }
    }
    /// With colours, or without.
    #[must_use]
    pub fn coloured(self, colours: bool) -> Self {
        Self { colours, ..self }
    }
    #[must_use]
    pub fn has_colours(&self) -> bool {
        self.colours
    }
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }
    /// What was said, for the report.
    pub fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
    /// Prints text followed by a line end.
    ///
    /// # Errors
    /// When the output limit is reached or the caller is gone.
    pub fn print(&self, text: &str) -> Result<()> {
        self.watch.count_output(text.len() as u64 + 1).inspect_err(|_| self.said().truncated = true)?;
        match self.form {
            Form::Human if self.stdout_is_tty => self.write(rustix::stdio::stdout(), neutralise(text).as_bytes(), b"\n"),
            Form::Human => self.write(rustix::stdio::stdout(), text.as_bytes(), b"\n"),
            Form::Ndjson => self.frame(&json!({"type": "output", "text": text})),
            Form::Json | Form::PrettyJson => {
                let _memory = crate::limits::exempt();
                let mut said = self.said();
                said.printed.push_str(text);
                said.printed.push('\n');
                Ok(())
            }
        }
    }
    /// A record of the script's own (`emit`), as a frame or a line of JSON.
    ///
    /// # Errors
    /// As [`Output::print`].
    pub fn emit(&self, value: &Value) -> Result<()> {
        if self.form == Form::Ndjson {
            let frame = json!({"type": "record", "value": value});
            self.watch.count_output(frame.to_string().len() as u64)?;
            return self.frame(&frame);
        }
        self.print(&value.to_string())
    }
    /// A log line.
    ///
    /// # Errors
    /// As [`Output::print`].
    pub fn log(&self, mut log: Log) -> Result<()> {
        if log.message.len() > MAX_LOG {
            let cut = (0..=MAX_LOG).rev().find(|at| log.message.is_char_boundary(*at)).unwrap_or(0);
            log.message.truncate(cut);
            log.message.push_str("… (cut)");
        }
        let fields: usize = log.fields.iter().map(|(key, value)| key.len() + value.to_string().len() + 4).sum();
        self.watch.count_output((log.message.len() + fields) as u64 + 32).inspect_err(|_| self.said().truncated = true)?;
        match self.form {
            Form::Human => {
                let fields: String = log.fields.iter().map(|(key, value)| format!(" {key}={value}")).collect();
                let at = if self.verbose { format!(" line {}", log.line) } else { String::new() };
                let text = format!("{}{at}: {}{fields}", log.level.to_ascii_lowercase(), log.message);
                // The levels below info are for -v, except in results, which keep all.
                if self.verbose || !matches!(log.level, "DEBUG" | "TRACE") {
                    self.write(rustix::stdio::stderr(), neutralise(&text).as_bytes(), b"\n")?;
                }
            }
            Form::Ndjson => self.frame(&log_frame(&log))?,
            Form::Json | Form::PrettyJson => {}
        }
        self.keep(log);
        Ok(())
    }
    /// A line of rex's own beside what the script says. It counts for no limit, and nobody waits for it.
    ///
    /// False: it could not be written just now.
    pub fn notice(&self, log: &Log) -> bool {
        let (to, text) = match self.form {
            Form::Human => (rustix::stdio::stderr(), format!("{}: {}\n", log.level.to_ascii_lowercase(), neutralise(&log.message))),
            Form::Ndjson => (rustix::stdio::stdout(), format!("{}\n", log_frame(log))),
            Form::Json | Form::PrettyJson => {
                self.keep(log.clone());
                return true;
            }
        };
        {
            // Who holds it may be waiting for a reader.
            let Ok(_line) = self.line.try_lock() else { return false };
            let mut fds = [rustix::event::PollFd::new(&to, rustix::event::PollFlags::OUT)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            // What can be written to takes a line whole (pipe(7): PIPE_BUF).
            if rustix::event::poll(&mut fds, Some(&now)) != Ok(1)
                || !matches!(rustix::io::write(to, text.as_bytes()), Ok(count) if count > 0)
            {
                return false;
            }
        }
        self.keep(log.clone());
        true
    }
    fn keep(&self, log: Log) {
        let _memory = crate::limits::exempt();
        let mut said = self.said();
        if said.logs.len() < MAX_LOGS {
            said.logs.push(log);
        } else {
            said.logs_dropped += 1;
        }
    }
    /// How far a long piece of work is: a frame in ndjson, a bar on a terminal, else nothing.
    ///
    /// # Errors
    /// As [`Output::print`].
    pub fn progress(&self, done: i64, total: i64, text: &str) -> Result<()> {
        match self.form {
            Form::Ndjson => {
                self.watch.count_output(64 + text.len() as u64)?;
                self.frame(&json!({"type": "progress", "done": done, "total": total, "text": text}))
            }
            Form::Human if rustix::termios::isatty(rustix::stdio::stderr()) => {
                self.watch.count_output(16 + text.len() as u64)?;
                let percent = if total > 0 { done.saturating_mul(100) / total } else { 0 };
                let line = format!("\r{:>3}% {}\x1b[K", percent.clamp(0, 100), neutralise(text));
                self.write(rustix::stdio::stderr(), line.as_bytes(), if done >= total { b"\n" } else { b"" })
            }
            _ => Ok(()),
        }
    }
    /// Keeps an alarm for the result.
    pub fn alarm(&self, alarm: Value) -> Result<()> {
        self.watch.count_output(alarm.to_string().len() as u64)?;
        if self.form == Form::Ndjson {
            self.frame(&json!({"type": "alarm", "alarm": alarm}))?;
        }
        self.said().alarms.push(alarm);
        Ok(())
    }
    /// Keeps a metric for the result.
    pub fn metric(&self, metric: Value) -> Result<()> {
        self.watch.count_output(metric.to_string().len() as u64)?;
        if self.form == Form::Ndjson {
            self.frame(&json!({"type": "metric", "metric": metric}))?;
        }
        self.said().metrics.push(metric);
        Ok(())
    }
    fn frame(&self, value: &Value) -> Result<()> {
        self.write(rustix::stdio::stdout(), value.to_string().as_bytes(), b"\n")
    }
    fn write(&self, to: BorrowedFd<'_>, text: &[u8], end: &[u8]) -> Result<()> {
        let whole = [text, end].concat();
        let _line = self.line.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        write_all(to, &whole).inspect_err(|error| {
            if error.kind == Kind::Cancelled {
                self.watch.stop(Stop::Gone);
            }
        })
    }
}

/// A line of rex's own on stderr, beside what runs. That nobody reads it is no error.
pub fn aside(line: &str) {
    let _ = write_all(rustix::stdio::stderr(), format!("{}\n", neutralise(line)).as_bytes());
}

/// Writes all of it; waits while a reader is slow.
///
/// # Errors
/// [`Kind::Cancelled`] when nobody reads any more, else [`Kind::Communication`].
pub fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(0) => return Err(Error::new(Kind::Communication, "the output could not be written")),
            Ok(count) => bytes = bytes.get(count..).unwrap_or(&[]),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let mut fds = [rustix::event::PollFd::new(&to, rustix::event::PollFlags::OUT)];
                let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
                let _ = rustix::event::poll(&mut fds, Some(&second));
            }
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::IO | rustix::io::Errno::CONNRESET) => {
                return Err(Error::new(Kind::Cancelled, "nobody reads the output any more"));
            }
            Err(errno) => return Err(Error { kind: Kind::Communication, ..Error::os("write", errno.raw_os_error()) }),
        }
    }
    Ok(())
}

/// A log line in the shape of results: all values strings, as scripts for the reference expect them.
#[must_use]
pub fn log_value(log: &Log) -> Value {
    let mut attributes = Map::new();
    attributes.insert("timestamp".into(), log.time.clone().into());
    attributes.insert("level".into(), log.level.into());
    attributes.insert("message".into(), log.message.clone().into());
    attributes.insert("line_number".into(), log.line.to_string().into());
    if let Some(function) = log.function {
        attributes.insert("rhai_api_name".into(), function.into());
    }
    if !log.fields.is_empty() {
        attributes.insert("fields".into(), Value::Object(log.fields.clone()));
    }
    json!({ "attributes": attributes })
}

/// The same as a frame of ndjson.
fn log_frame(log: &Log) -> Value {
    let mut frame = log_value(log);
    if let Some(object) = frame.as_object_mut() {
        object.insert("type".into(), "log".into());
    }
    frame
}

/// Text in which no character can steer a terminal: C0 and C1 controls but tab and line end, and bidirectional overrides, are shown as escapes.
#[must_use]
pub fn neutralise(text: &str) -> String {
    if steers_nothing(text) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// Whether this descriptor leads to a terminal.
#[must_use]
pub fn is_tty(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}
