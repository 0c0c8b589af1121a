//! Where `rex audit` reads records from: files, what rotation has put away, the system's journal.

use super::args::Sources;
use crate::audit::{Filter, reader, rotated};
use crate::error::{Error, Kind, Result};
use crate::os::trusted::{Owner, open_any};
use crate::sys::journal::{Cursor, Filter as JournalFilter, Journal, Query};
use crate::terms::OwnersFiles;
use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Entries of the journal that are read at once.
const PAGE: usize = 1000;

/// Lines of records, and what they are called in messages.
pub struct Input {
    pub name: String,
    pub lines: Box<dyn BufRead>,
}

impl Input {
    fn file(path: &Path) -> Result<Self> {
        let failed = |error: Error| Error::new(error.kind, format!("{}: {}", path.display(), error.message));
        Ok(Self { name: path.display().to_string(), lines: reader(open_any(path)?).map_err(failed)? })
    }
}

/// The file of records that rex.toml names.
pub fn configured(config: Option<&Path>) -> Result<PathBuf> {
    let config = OwnersFiles::new(config, Owner::Unchecked).config()?;
    if config.audit.file.is_empty() {
        return Err(Error::new(Kind::Usage, "no file of records: `audit.file` of rex.toml is empty")
            .with_hint("name a file, or read the system's log with --journal"));
    }
    Ok(PathBuf::from(&config.audit.file))
}

impl Sources {
    /// The files, the older ones first.
    pub fn paths(&self, with_rotated: bool) -> Result<Vec<PathBuf>> {
        let named = if self.files.is_empty() { vec![configured(self.config.as_deref())?] } else { self.files.clone() };
        if !with_rotated {
            return Ok(named);
        }
        let mut all = Vec::new();
        for path in named {
            for path in rotated(&path).into_iter().chain([path]) {
                if !all.contains(&path) {
                    all.push(path);
                }
            }
        }
        Ok(all)
    }

    /// Every place, opened when its turn comes. Of the journal only what the filter can want.
    pub fn inputs(&self, filter: &Filter) -> Result<Box<dyn Iterator<Item = Result<Input>>>> {
        if self.journal {
            return Ok(Box::new(std::iter::once(Ok(journal(filter)?))));
        }
        Ok(Box::new(self.paths(self.rotated)?.into_iter().map(|path| Input::file(&path))))
    }

    /// The files in the order their records began.
    pub fn in_order(&self) -> Result<Vec<Input>> {
        if self.journal {
            return Ok(vec![journal(&Filter::default())?]);
        }
        let mut paths = Vec::new();
        for path in self.paths(self.rotated || self.files.is_empty())? {
            paths.push((crate::audit::begins(Input::file(&path)?.lines)?, path));
        }
        paths.sort_by_key(|(begins, _)| *begins);
        paths.into_iter().map(|(_, path)| Input::file(&path)).collect()
    }
}

/// The records of the journal.
///
/// # Errors
/// When there is no journal, or this user may not read it.
pub fn journal(filter: &Filter) -> Result<Input> {
    let foreign = Rc::new(Cell::new(0));
    let entries = Entries::open(filter, Rc::clone(&foreign))?;
    Ok(Input { name: "journal".to_owned(), lines: Box::new(BufReader::new(entries)) })
}

/// The entries of rex in the journal, as lines of records.
struct Entries {
    journal: Journal,
    query: Query,
    lines: Vec<u8>,
    at: usize,
    done: bool,
    /// Entries that claim another user than the one the journal vouches for: anybody can send such.
    foreign: Rc<Cell<u64>>,
}

impl Entries {
    fn open(filter: &Filter, foreign: Rc<Cell<u64>>) -> Result<Self> {
        let micros = |time: jiff::Timestamp| u64::try_from(time.as_microsecond()).unwrap_or(0);
        let mut filters = vec![JournalFilter::has("SYSLOG_IDENTIFIER", "rex")];
        // Whole values only; the rest is sieved afterwards.
        for (field, value) in [("REX_REF", &filter.reference), ("REX_EVENT", &filter.event)] {
            filters.extend(value.as_ref().map(|value| JournalFilter::has(field, value)));
        }
        // A cursor that matches no entry orders by time alone: it makes the journal be read forward, page by page.
        let zeros = "0".repeat(32);
        let begin = Cursor::parse(&format!("s={zeros};i=0;b={zeros};m=0;t=0;x=0"))?;
        let query = Query {
            filters,
            // Records are written before the journal stamps them.
            since_us: filter.since.map(micros),
            // A filter by group needs the first records of runs.
            before_us: None,
            cursor: Some(begin),
            lines: PAGE,
            fields: Some(vec!["REX_RECORD".to_owned(), "_UID".to_owned()]),
            ..Query::default()
        };
        Ok(Self { journal: Journal::of_this_host()?, query, lines: Vec::new(), at: 0, done: false, foreign })
    }

    fn page(&mut self) -> Result<()> {
        self.lines.clear();
        self.at = 0;
        let found = self.journal.read(&self.query, &|| Ok(()))?;
        let Some(last) = found.entries.last() else {
            self.done = true;
            if self.foreign.get() > 0 {
                let foreign = self.foreign.get();
                crate::command::say(&format!(
                    "rex: {foreign} entries of the journal are left out: they claim another user than their sender"
                ));
            }
            return Ok(());
        };
        self.query.cursor = Some(last.cursor);
        for entry in &found.entries {
            let field = |name: &str| entry.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_slice());
            let Some(record) = field("REX_RECORD") else { continue };
            let uid = field("_UID").and_then(|uid| std::str::from_utf8(uid).ok()).unwrap_or("");
            let claimed = serde_json::from_slice::<serde_json::Value>(record).ok().and_then(|record| record.get("uid")?.as_u64());
            if claimed.is_some_and(|claimed| claimed.to_string() == uid) && !record.contains(&b'\n') {
                self.lines.extend_from_slice(record);
                self.lines.push(b'\n');
            } else {
                self.foreign.set(self.foreign.get() + 1);
            }
        }
        Ok(())
    }
}

impl Read for Entries {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.at >= self.lines.len() && !self.done {
            self.page().map_err(|error| std::io::Error::other(error.message))?;
        }
        let rest = self.lines.get(self.at..).unwrap_or(&[]);
        let most = rest.len().min(into.len());
        if let (Some(into), Some(rest)) = (into.get_mut(..most), rest.get(..most)) {
            into.copy_from_slice(rest);
        }
        self.at += most;
        Ok(most)
    }
}
