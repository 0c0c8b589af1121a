//! Reads the system's journal: finds its files, merges their entries in time, and filters them by their own indexes.
//!
//! rex is linked statically and starts no program for this, so it reads the files itself (systemd's "Journal File Format").
//! Files may be in use by journald: what is read is the state of the moment they were opened in.

mod compress;
mod file;
mod filter;
mod hash;
mod vacuum;
#[cfg(test)]
mod tests;

pub(super) use compress::lz4_block;
pub use filter::Filter;
pub use vacuum::{Bounds, Removed, vacuum};

use crate::error::{Error, Kind, Result, bad_argument};
use crate::policy::{Action, Granted};
use crate::resource::journal::Log;
use file::{EntryHead, Pages, Source};
use filter::{Bound, Place, Way};
use std::cmp::Ordering;
use std::fmt;
use std::fs::File;
use std::path::Path;

/// The most files that are read together; journald keeps at most 100 of each kind by default.
const FILES_LIMIT: usize = 1000;

/// The journal files of a host.
pub struct Journal {
    sources: Vec<Source>,
    /// Files there were that could not be used: no journal files, or of a kind that is not known.
    pub unusable: u64,
    /// Files that this Unix user may not read.
    pub unreadable: u64,
    /// Bytes that the files occupy on disk.
    pub disk_bytes: u64,
}

/// Which entries, in which order, how much of them.
#[derive(Clone, Debug)]
pub struct Query {
    /// Only entries for which every one of these holds.
    pub filters: Vec<Filter>,
    /// Only entries from this moment on, in microseconds since the epoch.
    pub since_us: Option<u64>,
    /// Only entries earlier than this moment, in microseconds since the epoch.
    pub before_us: Option<u64>,
    /// Only entries in whose MESSAGE this is found.
    pub grep: Option<regex::bytes::Regex>,
    /// Only entries after this one (before it, with `reverse`).
    pub cursor: Option<Cursor>,
    /// The newest entry first.
    pub reverse: bool,
    /// At most so many entries: the first ones after a cursor, else the newest ones.
    pub lines: usize,
    /// Which fields to return; all when `None`.
    pub fields: Option<Vec<String>>,
    /// At most so many bytes of fields in all.
    pub max_bytes: usize,
    /// At most so many bytes of one field; what is longer is cut.
    pub max_field: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            filters: Vec::new(),
            since_us: None,
            before_us: None,
            grep: None,
            cursor: None,
            reverse: false,
            lines: 1000,
            fields: None,
            max_bytes: 8 << 20,
            max_field: 64 << 10,
        }
    }
}

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Microseconds since the epoch, as journald received it.
    pub realtime_us: u64,
    /// Microseconds since that boot.
    pub monotonic_us: u64,
    /// 32 hexadecimal digits.
    pub boot_id: String,
    pub cursor: Cursor,
    /// Names and values in the order of the file; a name may come several times. Values are free bytes.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Names of fields that were cut at [`Query::max_field`].
    pub cut: Vec<String>,
}

/// What a query found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub entries: Vec<Entry>,
    /// Whether it ended at [`Query::lines`] or [`Query::max_bytes`], so that there may be more.
    pub limited: bool,
    /// Damaged places that were passed over.
    pub faults: u64,
}

/// A start of the machine that left entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    pub id: String,
    pub first_us: u64,
    pub last_us: u64,
}

/// Names an entry across files and hosts; text form as journald's (`journalctl --show-cursor`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    seqnum_id: [u8; 16],
    seqnum: u64,
    boot: [u8; 16],
    monotonic: u64,
    realtime: u64,
    xor_hash: u64,
}

impl Cursor {
    fn of(source: &Source, entry: &EntryHead) -> Self {
        Self {
            seqnum_id: source.header.seqnum_id,
            seqnum: entry.seqnum,
            boot: entry.boot,
            monotonic: entry.monotonic,
            realtime: entry.realtime,
            xor_hash: entry.xor_hash,
        }
    }
    /// The text form, read.
    ///
    /// # Errors
    /// [`Kind::BadArgument`] when it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || bad_argument("cursor: expected one that an earlier entry carries, like `s=…;i=…;b=…;m=…;t=…;x=…`");
        let mut parts = text.split(';');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).ok_or_else(bad);
        let number = |text: &str| u64::from_str_radix(text, 16).map_err(|_| bad());
        let cursor = Self {
            seqnum_id: parse_id(part("s=")?).ok_or_else(bad)?,
            seqnum: number(part("i=")?)?,
            boot: parse_id(part("b=")?).ok_or_else(bad)?,
            monotonic: number(part("m=")?)?,
            realtime: number(part("t=")?)?,
            xor_hash: number(part("x=")?)?,
        };
        if parts.next().is_some() { Err(bad()) } else { Ok(cursor) }
    }
    /// Whether the other entry came later.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        self.order(other) == Ordering::Less
    }
    /// Order in time, as journald sees it: by sequence number where both come from one series, by the monotonic clock within one boot, else by the
    /// wall clock.
    fn order(&self, other: &Self) -> Ordering {
        if self.seqnum_id == other.seqnum_id && self.seqnum != other.seqnum {
            return self.seqnum.cmp(&other.seqnum);
        }
        let clock = if self.boot == other.boot { self.monotonic.cmp(&other.monotonic) } else { Ordering::Equal };
        clock.then(self.realtime.cmp(&other.realtime)).then(self.xor_hash.cmp(&other.xor_hash))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seqnum, monotonic, realtime, xor_hash, .. } = self;
        let (series, boot) = (hex_id(&self.seqnum_id), hex_id(&self.boot));
        write!(f, "s={series};i={seqnum:x};b={boot};m={monotonic:x};t={realtime:x};x={xor_hash:x}")
    }
}

fn hex_id(id: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}

/// 32 hexadecimal digits, with or without the dashes of a UUID.
#[must_use]
pub fn parse_id(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let plain = digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)).flatten()
}

impl Journal {
    /// The journal of this host.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] when there is none, [`Kind::Permission`] when there are files but none that may be read.
    pub fn open<A: Action<On = Log>>(_: &Granted<A>) -> Result<Self> {
        Self::of_host(Path::new("/"))
    }

    /// The same for the commands of the host's owner, which no policy is asked about: the system alone says who may read it.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn of_this_host() -> Result<Self> {
        Self::of_host(Path::new("/"))
    }

    /// The journal of a host: the files of its machine id under `/run/log/journal` and `/var/log/journal`, below `root`.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] when there is none, [`Kind::Permission`] when there are files but none that may be read.
    fn of_host(root: &Path) -> Result<Self> {
        let machine = std::fs::read_to_string(root.join("etc/machine-id")).ok().and_then(|text| parse_id(text.trim()));
        let Some(machine) = machine.map(|id| hex_id(&id)) else {
            return Err(Error::new(Kind::Unsupported, "this host has no machine id, so no journal"));
        };
        let (mut files, mut unreadable, mut denied) = (Vec::new(), 0, false);
        for place in ["run/log/journal", "var/log/journal"] {
            match std::fs::read_dir(root.join(place).join(&machine)) {
                Ok(folder) => {
                    let names = folder.flatten().map(|entry| entry.path());
                    let journals =
                        names.filter(|path| path.to_str().is_some_and(|name| name.ends_with(".journal") || name.ends_with(".journal~")));
                    for path in journals.take(FILES_LIMIT) {
                        match open(&path) {
                            Ok(file) => files.push(file),
                            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                            Err(_) => unreadable += 1,
                        }
                    }
                }
                Err(error) => denied |= error.kind() == std::io::ErrorKind::PermissionDenied,
            }
        }
        if files.is_empty() && (unreadable > 0 || denied) {
            return Err(Error::new(Kind::Permission, "the journal may not be read by this Unix user")
                .with_hint("members of the group `systemd-journal` may read it"));
        }
        if files.is_empty() {
            return Err(Error::new(Kind::Unsupported, "this host has no journal files"));
        }
        let mut journal = Self::of_files(files);
        journal.unreadable = unreadable;
        Ok(journal)
    }

    /// The journal that these files make up. Those that are no journal files are counted in `unusable`.
    fn of_files(files: Vec<File>) -> Self {
        let pages = Pages::new();
        let mut journal = Self { sources: Vec::new(), unusable: 0, unreadable: 0, disk_bytes: 0 };
        for (number, file) in (0..).zip(files) {
            use std::os::unix::fs::MetadataExt as _;
            journal.disk_bytes += file.metadata().map_or(0, |meta| meta.blocks().saturating_mul(512));
            match Source::open(number, file, pages.clone()) {
                Some(source) => journal.sources.push(source),
                None => journal.unusable += 1,
            }
        }
        journal
    }

    /// How many files are being read.
    #[must_use]
    pub fn files(&self) -> usize {
        self.sources.len()
    }

    fn faults(&self) -> u64 {
        self.sources.iter().map(Source::faults).sum()
    }

    /// # Errors
    /// Those of `check`, which is asked at least once per entry looked at.
    pub fn read(&self, query: &Query, check: &dyn Fn() -> Result<()>) -> Result<Found> {
        self.read_where(query, &mut |_| true, check)
    }

    /// The same of the entries that `keep` keeps: it comes before [`Query::grep`], [`Query::lines`] and [`Query::max_bytes`], so that nothing in
    /// the result depends on what another entry says.
    ///
    /// # Errors
    /// As [`Journal::read`].
    pub fn read_where(&self, query: &Query, keep: &mut dyn FnMut(&Entry) -> bool, check: &dyn Fn() -> Result<()>) -> Result<Found> {
        let faults = self.faults();
        // Without a cursor the newest entries are wanted whatever their order in the result: so it goes backwards from the end.
        let way = if query.cursor.is_some() && !query.reverse { Way::Forward } else { Way::Backward };
        let mut streams = Vec::new();
        for source in &self.sources {
            check()?;
            if let Some(mut stream) = Stream::start(source, query, way) {
                stream.advance(check)?;
                streams.push(stream);
            }
        }
        let mut found = Found::default();
        let (mut bytes, mut last) = (0_usize, None);
        while let Some(best) = nearest(&mut streams, way) {
            check()?;
            let Some(head) = best.head.take() else { break };
            let cursor = Cursor::of(best.source, &head);
            // The same entry can be in two files, while journald moves them from /run to /var.
            if last != Some(cursor) && query.range_holds(&head) {
                last = Some(cursor);
                let (entry, matched) = entry_of(best.source, &head, query);
                if keep(&entry) && matched {
                    bytes = entry.fields.iter().fold(bytes, |sum, (name, value)| sum.saturating_add(name.len() + value.len() + 64));
                    if found.entries.len() >= query.lines || (bytes > query.max_bytes && !found.entries.is_empty()) {
                        found.limited = true;
                        break;
                    }
                    found.entries.push(entry);
                }
            }
            best.next(way);
            best.advance(check)?;
        }
        if way == Way::Backward && !query.reverse {
            found.entries.reverse();
        }
        found.faults = self.faults().saturating_sub(faults);
        Ok(found)
    }

    /// The last entry of all, as a place to go on from. Nothing of what it says is read.
    ///
    /// # Errors
    /// Those of `check`.
    pub fn tip(&self, check: &dyn Fn() -> Result<()>) -> Result<Option<Cursor>> {
        let query = Query { lines: 1, fields: Some(Vec::new()), ..Query::default() };
        Ok(self.read(&query, check)?.entries.last().map(|entry| entry.cursor))
    }

    /// The starts of the machine that left entries, the oldest first.
    ///
    /// # Errors
    /// Those of `check`.
    pub fn boots(&self, check: &dyn Fn() -> Result<()>) -> Result<Vec<Boot>> {
        let mut boots: Vec<Boot> = Vec::new();
        for source in &self.sources {
            check()?;
            let mut stop = Ok(());
            source.each_of_field("_BOOT_ID", &mut |data| {
                stop = check();
                let id = source.payload(data, 64).and_then(|payload| String::from_utf8(payload).ok());
                let id = id.as_deref().and_then(|text| text.strip_prefix("_BOOT_ID=")).and_then(parse_id).map(|id| hex_id(&id));
                let list = source.entries_of(data);
                let at = |index: u64| source.entry(source.nth(&list, index)).map(|head| head.realtime);
                if let (Some(id), Some(first), Some(last)) = (id, at(0), list.len().checked_sub(1).and_then(at)) {
                    match boots.iter_mut().find(|boot| boot.id == id) {
                        Some(boot) => (boot.first_us, boot.last_us) = (boot.first_us.min(first), boot.last_us.max(last)),
                        None => boots.push(Boot { id, first_us: first, last_us: last }),
                    }
                }
                stop.is_ok()
            });
            stop?;
        }
        boots.sort_by_key(|boot| boot.first_us);
        Ok(boots)
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // Not through a link, and not waiting if somebody put a FIFO there; `Source::open` takes regular files only.
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)
}

impl Query {
    fn range_holds(&self, head: &EntryHead) -> bool {
        self.since_us.is_none_or(|since| head.realtime >= since) && self.before_us.is_none_or(|before| head.realtime < before)
    }
}

/// A walk through the wanted entries of one file.
struct Stream<'a> {
    source: &'a Source,
    bound: Bound,
    /// Where to look next, and the last place to look at.
    at: u64,
    end: u64,
    way: Way,
    head: Option<EntryHead>,
}

impl<'a> Stream<'a> {
    /// `None` when the file has nothing that is wanted.
    fn start(source: &'a Source, query: &Query, way: Way) -> Option<Self> {
        let all = source.all();
        // The first entry at or after some damaged place that can be read decides for it.
        let head = |index: u64| (index..all.len().min(index + 64)).find_map(|index| source.entry(source.nth(&all, index)));
        let mut low = query.since_us.map_or(0, |since| all.partition(0, |index| head(index).is_some_and(|head| head.realtime < since)));
        let mut high =
            query.before_us.map_or(all.len(), |before| all.partition(low, |index| head(index).is_some_and(|head| head.realtime < before)));
        if let Some(cursor) = &query.cursor {
            let side = |index: u64| head(index).map(|head| Cursor::of(source, &head).order(cursor));
            match way {
                Way::Forward => low = all.partition(low, |index| side(index).is_some_and(|order| order != Ordering::Greater)),
                Way::Backward => high = high.min(all.partition(low, |index| side(index) == Some(Ordering::Less))),
            }
        }
        if low >= high {
            return None;
        }
        let bound = match Filter::All(query.filters.clone()).bind(source) {
            Bound::Never => return None,
            Bound::All(parts) if parts.is_empty() => Bound::In(Place::new(all.clone())),
            bound => bound,
        };
        let (first, last) = (source.nth(&all, low), source.nth(&all, high - 1));
        let (at, end) = if way == Way::Forward { (first, last) } else { (last, first) };
        Some(Self { source, bound, at, end, way, head: None })
    }

    /// Moves past the entry found last.
    fn next(&mut self, way: Way) {
        self.at = match way {
            Way::Forward => self.at.saturating_add(1),
            Way::Backward => self.at.saturating_sub(1),
        };
    }

    /// Finds the next entry that can be read.
    fn advance(&mut self, check: &dyn Fn() -> Result<()>) -> Result<()> {
        self.head = None;
        while let Some(offset) = self.bound.seek(self.source, self.at, self.way, check)? {
            let past = if self.way == Way::Forward { offset > self.end } else { offset < self.end };
            if past || self.at == 0 {
                break;
            }
            check()?;
            self.at = offset;
            self.head = self.source.entry(offset);
            if self.head.is_some() {
                break;
            }
            self.next(self.way);
        }
        Ok(())
    }
}

/// The stream whose entry comes next.
fn nearest<'s, 'a>(streams: &'s mut [Stream<'a>], way: Way) -> Option<&'s mut Stream<'a>> {
    let mut best: Option<(Cursor, &'s mut Stream<'a>)> = None;
    for stream in streams {
        let Some(head) = &stream.head else { continue };
        let cursor = Cursor::of(stream.source, head);
        let sooner = best
            .as_ref()
            .is_none_or(|(other, _)| cursor.order(other) == if way == Way::Forward { Ordering::Less } else { Ordering::Greater });
        if sooner {
            best = Some((cursor, stream));
        }
    }
    best.map(|(_, stream)| stream)
}

/// The entry, and whether its message is one that is looked for.
fn entry_of(source: &Source, head: &EntryHead, query: &Query) -> (Entry, bool) {
    let mut entry = Entry {
        realtime_us: head.realtime,
        monotonic_us: head.monotonic,
        boot_id: hex_id(&head.boot),
        cursor: Cursor::of(source, head),
        fields: Vec::new(),
        cut: Vec::new(),
    };
    let mut matched = query.grep.is_none();
    for offset in source.items(head) {
        // Names are at most 64 bytes long; journald refuses others.
        let limit = query.max_field.saturating_add(65);
        let Some(mut payload) = source.data(offset).and_then(|data| source.payload(&data, limit.saturating_add(1))) else { continue };
        let Some(split) = payload.iter().take(65).position(|byte| *byte == b'=') else { continue };
        let mut value = payload.split_off(split + 1);
        payload.truncate(split);
        let Some(name) = String::from_utf8(payload).ok().filter(|name| is_field_name(name)) else { continue };
        if name == "MESSAGE" && query.grep.as_ref().is_some_and(|regex| regex.is_match(&value)) {
            matched = true;
        }
        if query.fields.as_ref().is_some_and(|fields| !fields.contains(&name)) {
            continue;
        }
        if value.len() > query.max_field {
            value.truncate(query.max_field);
            entry.cut.push(name.clone());
        }
        entry.fields.push((name, value));
    }
    (entry, matched)
}

/// Names as journald accepts them: capital letters, digits, underscores, at most 64, not starting with a digit.
#[must_use]
pub fn is_field_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    plain && !name.is_empty() && name.len() <= 64 && !name.starts_with(|c: char| c.is_ascii_digit())
}
