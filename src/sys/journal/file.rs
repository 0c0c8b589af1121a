//! One journal file: its header and objects, read with pread(2) and believed only after a check.
//!
//! Layout: systemd's "Journal File Format" document. Nothing is mapped: a file that shrinks under a mapping would kill
//! rex with SIGBUS. Every offset and size is checked against the file, every chain has to go upwards, so that a damaged or
//! hostile file costs a counted fault and never a loop, a panic or a large allocation.

use super::compress::Compression;
use super::hash::{lookup3, siphash24};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

const INCOMPATIBLE_KNOWN: u32 = 0b1_1111;
const KEYED_HASH: u32 = 4;
const COMPACT: u32 = 16;

/// "Object types" of the format.
const DATA: u8 = 1;
const FIELD: u8 = 2;
const ENTRY: u8 = 3;
const ENTRY_ARRAY: u8 = 6;

/// Objects of one hash bucket that are looked at before the file is taken to be damaged; journald itself rotates long before.
const CHAIN_LIMIT: u32 = 100_000;
/// journald writes at most 1024 fields in an entry.
const FIELDS_LIMIT: u64 = 4096;
/// The most of a compressed payload that is read to unpack it.
const STORED_LIMIT: u64 = 16 << 20;

const PAGE: u64 = 8 << 10;
const PAGES: usize = 512;

/// Recently read pages of all open files together: a bound on memory however many files there are.
pub struct Pages {
    slots: RefCell<Vec<Option<Page>>>,
}

struct Page {
    file: u32,
    number: u64,
    bytes: Vec<u8>,
}

impl Pages {
    pub fn new() -> Rc<Self> {
        Rc::new(Self { slots: RefCell::new((0..PAGES).map(|_| None).collect()) })
    }
    /// Calls `with` with the bytes of a page from `start` on (fewer at the end of the file).
    fn with<T>(&self, file: u32, handle: &File, offset: u64, with: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let (number, start) = (offset / PAGE, (offset % PAGE) as usize);
        let slot = (number ^ u64::from(file).wrapping_mul(0x9e37_79b9)) as usize % PAGES;
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(slot)?;
        if !slot.as_ref().is_some_and(|page| page.file == file && page.number == number) {
            let mut bytes = slot.take().map_or_else(Vec::new, |page| page.bytes);
            bytes.resize(PAGE as usize, 0);
            let mut filled = 0;
            while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
                match handle.read_at(room, number * PAGE + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => return None,
                }
            }
            bytes.truncate(filled);
            *slot = Some(Page { file, number, bytes });
        }
        with(slot.as_ref()?.bytes.get(start..)?)
    }
}

/// What the file's header says ("Header" of the format).
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub file_id: [u8; 16],
    pub machine_id: [u8; 16],
    pub seqnum_id: [u8; 16],
    pub online: bool,
    keyed: bool,
    compact: bool,
    size: u64,
    data_hash_table: (u64, u64),
    field_hash_table: (u64, u64),
    entry_array: u64,
    entries: u64,
}

/// The fixed part of an entry object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHead {
    pub offset: u64,
    pub seqnum: u64,
    pub realtime: u64,
    pub monotonic: u64,
    pub boot: [u8; 16],
    pub xor_hash: u64,
    items: u64,
}

/// The fixed part of a data object.
#[derive(Clone, Copy, Debug)]
pub struct DataHead {
    hash: u64,
    next_in_bucket: u64,
    next_of_field: u64,
    entry: u64,
    entry_array: u64,
    entries: u64,
    payload: u64,
    stored: u64,
    compression: Compression,
}

/// A list of entries in the order of the file: all of them, or those that hold one data object. Read lazily, bisected by index.
#[derive(Clone, Debug, Default)]
pub struct EntryList {
    first: Option<u64>,
    /// (index of its first item, offset of its first item), ascending.
    arrays: Vec<(u64, u64)>,
    len: u64,
}

pub struct Source {
    number: u32,
    file: File,
    len: u64,
    pages: Rc<Pages>,
    pub header: Header,
    faults: Cell<u64>,
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.iter().skip(at).take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn id(bytes: &[u8], at: usize) -> [u8; 16] {
    bytes.get(at..at + 16).and_then(|id| id.try_into().ok()).unwrap_or_default()
}

impl Source {
    /// `None` when it is no journal file, or needs an ability this reader does not have.
    pub fn open(number: u32, file: File, pages: Rc<Pages>) -> Option<Self> {
        let len = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        let mut bytes = [0; 208];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let incompatible = le64(&bytes, 12) as u32;
        let size = le64(&bytes, 88);
        if !bytes.starts_with(b"LPKSHHRH") || incompatible & !INCOMPATIBLE_KNOWN != 0 || size < 208 || size > len {
            return None;
        }
        let header = Header {
            file_id: id(&bytes, 24),
            machine_id: id(&bytes, 40),
            seqnum_id: id(&bytes, 72),
            online: bytes.get(16) == Some(&1),
            keyed: incompatible & KEYED_HASH != 0,
            compact: incompatible & COMPACT != 0,
            size,
            data_hash_table: (le64(&bytes, 104), le64(&bytes, 112)),
            field_hash_table: (le64(&bytes, 120), le64(&bytes, 128)),
            entry_array: le64(&bytes, 176),
            entries: le64(&bytes, 152),
        };
        Some(Self { number, file, len, pages, header, faults: Cell::new(0) })
    }

    /// Places where the file was not as it should be, so far.
    pub fn faults(&self) -> u64 {
        self.faults.get()
    }
    fn fault<T>(&self) -> Option<T> {
        self.faults.set(self.faults.get().saturating_add(1));
        None
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Option<()> {
        let mut filled = 0;
        while let Some(room) = into.get_mut(filled..).filter(|room| !room.is_empty()) {
            filled += self.pages.with(self.number, &self.file, offset.checked_add(filled as u64)?, |bytes| {
                let count = room.len().min(bytes.len());
                room.get_mut(..count)?.copy_from_slice(bytes.get(..count)?);
                (count > 0).then_some(count)
            })?;
        }
        Some(())
    }

    /// The first `N` bytes of an object of this type, with its size and flags.
    fn object<const N: usize>(&self, offset: u64, kind: u8) -> Option<([u8; N], u64)> {
        let mut bytes = [0; N];
        if !offset.is_multiple_of(8) || offset < self.header.size || self.read(offset, &mut bytes).is_none() {
            return self.fault();
        }
        let size = le64(&bytes, 8);
        let end = offset.checked_add(size);
        if bytes.first() != Some(&kind) || size < N as u64 || end.is_none_or(|end| end > self.len) {
            self.fault()
        } else {
            Some((bytes, size))
        }
    }

    pub fn entry(&self, offset: u64) -> Option<EntryHead> {
        let (bytes, size) = self.object::<64>(offset, ENTRY)?;
        Some(EntryHead {
            offset,
            seqnum: le64(&bytes, 16),
            realtime: le64(&bytes, 24),
            monotonic: le64(&bytes, 32),
            boot: id(&bytes, 40),
            xor_hash: le64(&bytes, 56),
            items: ((size - 64) / if self.header.compact { 4 } else { 16 }).min(FIELDS_LIMIT),
        })
    }

    /// Offsets of the data objects of an entry.
    pub fn items(&self, entry: &EntryHead) -> impl Iterator<Item = u64> + '_ {
        let (start, count, width) = (entry.offset + 64, entry.items, if self.header.compact { 4 } else { 16 });
        (0..count).filter_map(move |at| self.offset_at(start + at * width)).filter(|offset| *offset != 0)
    }

    /// An offset as lists of this file hold it.
    fn offset_at(&self, at: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        let width = if self.header.compact { 4 } else { 8 };
        match bytes.get_mut(..width).and_then(|room| self.read(at, room)) {
            Some(()) => Some(u64::from_le_bytes(bytes)),
            None => self.fault(),
        }
    }

    pub fn data(&self, offset: u64) -> Option<DataHead> {
        let (bytes, size) = self.object::<64>(offset, DATA)?;
        // The compact form holds two 32-bit numbers more before the payload.
        let head = if self.header.compact { 72 } else { 64 };
        let Some(compression) = Compression::of_flags(bytes.get(1).copied()?) else { return self.fault() };
        let Some(stored) = size.checked_sub(head) else { return self.fault() };
        Some(DataHead {
            hash: le64(&bytes, 16),
            next_in_bucket: le64(&bytes, 24),
            next_of_field: le64(&bytes, 32),
            entry: le64(&bytes, 40),
            entry_array: le64(&bytes, 48),
            entries: le64(&bytes, 56),
            payload: offset + head,
            stored,
            compression,
        })
    }

    /// At most `limit` bytes of the payload, `FIELD=value`.
    pub fn payload(&self, data: &DataHead, limit: usize) -> Option<Vec<u8>> {
        if data.compression == Compression::None {
            let mut bytes = vec![0; usize::try_from(data.stored).unwrap_or(usize::MAX).min(limit)];
            return if self.read(data.payload, &mut bytes).is_some() { Some(bytes) } else { self.fault() };
        }
        let mut stored = vec![0; data.stored.min(STORED_LIMIT) as usize];
        let unpacked = self.read(data.payload, &mut stored).and_then(|()| data.compression.unpack(&stored, limit));
        if unpacked.is_some() { unpacked } else { self.fault() }
    }

    fn hash(&self, payload: &[u8]) -> u64 {
        if self.header.keyed { siphash24(&self.header.file_id, payload) } else { lookup3(payload) }
    }

    /// The first object of the hash table's bucket for this hash; 0 when there is none.
    fn bucket(&self, table: (u64, u64), hash: u64) -> Option<u64> {
        let (offset, size) = table;
        let buckets = size / 16;
        if buckets == 0 {
            return Some(0);
        }
        let at = offset.checked_add(hash % buckets * 16)?;
        let mut bytes = [0; 8];
        if at < self.header.size || self.read(at, &mut bytes).is_none() { self.fault() } else { Some(u64::from_le_bytes(bytes)) }
    }

    /// The data object `FIELD=value`, if any entry has it.
    pub fn find(&self, payload: &[u8]) -> Option<DataHead> {
        let hash = self.hash(payload);
        let mut offset = self.bucket(self.header.data_hash_table, hash)?;
        for _ in 0..CHAIN_LIMIT {
            if offset == 0 {
                return None;
            }
            let data = self.data(offset)?;
            if data.hash == hash && self.payload(&data, payload.len() + 1).as_deref() == Some(payload) {
                return Some(data);
            }
            if data.next_in_bucket != 0 && data.next_in_bucket <= offset {
                return self.fault();
            }
            offset = data.next_in_bucket;
        }
        self.fault()
    }

    /// Every data object of a field; stops when `visit` says `false`.
    pub fn each_of_field(&self, name: &str, visit: &mut dyn FnMut(&DataHead) -> bool) -> Option<()> {
        let hash = self.hash(name.as_bytes());
        let mut offset = self.bucket(self.header.field_hash_table, hash)?;
        for _ in 0..CHAIN_LIMIT {
            if offset == 0 {
                return Some(());
            }
            let (bytes, size) = self.object::<40>(offset, FIELD)?;
            let next = le64(&bytes, 24);
            let mut found = vec![0; (size - 40).min(256) as usize];
            self.read(offset + 40, &mut found)?;
            if le64(&bytes, 16) == hash && found == name.as_bytes() {
                let mut data = le64(&bytes, 32);
                // This list is newest first, so it goes downwards.
                while data != 0 {
                    let head = self.data(data)?;
                    if !visit(&head) {
                        return Some(());
                    }
                    if head.next_of_field >= data {
                        return self.fault();
                    }
                    data = head.next_of_field;
                }
                return Some(());
            }
            if next != 0 && next <= offset {
                return self.fault();
            }
            offset = next;
        }
        self.fault()
    }

    /// All entries of the file, as many as there were when it was opened.
    pub fn all(&self) -> EntryList {
        self.list(None, self.header.entry_array, self.header.entries)
    }
    /// The entries that hold this data object.
    pub fn entries_of(&self, data: &DataHead) -> EntryList {
        self.list(Some(data.entry).filter(|entry| *entry != 0), data.entry_array, data.entries)
    }

    fn list(&self, first: Option<u64>, array: u64, len: u64) -> EntryList {
        let mut list = EntryList { first, arrays: Vec::new(), len: 0 };
        let mut index = u64::from(first.is_some());
        let mut offset = array;
        let width = if self.header.compact { 4 } else { 8 };
        // Each array is about twice as long as the one before, so this ends soon; that they go upwards keeps it from turning in a circle.
        while offset != 0 && index < len {
            let Some((bytes, size)) = self.object::<24>(offset, ENTRY_ARRAY) else { break };
            let next = le64(&bytes, 16);
            let items = (size - 24) / width;
            if items > 0 {
                list.arrays.push((index, offset + 24));
            }
            index = index.saturating_add(items);
            if next != 0 && next <= offset {
                self.fault::<()>();
                break;
            }
            offset = next;
        }
        list.len = len.min(index);
        list
    }

    /// The offset of the `index`th entry of a list. A slot that is not written yet counts as past every entry.
    pub fn nth(&self, list: &EntryList, index: u64) -> u64 {
        let slot = match list.first {
            Some(first) if index == 0 => Some(first),
            _ => {
                let array = list.arrays.partition_point(|(start, _)| *start <= index).checked_sub(1).and_then(|at| list.arrays.get(at));
                let width = if self.header.compact { 4 } else { 8 };
                array.and_then(|(start, items)| self.offset_at(items + (index - start) * width))
            }
        };
        slot.filter(|offset| *offset != 0).unwrap_or(u64::MAX)
    }
}

impl EntryList {
    pub fn len(&self) -> u64 {
        self.len
    }
    /// The first index in `from..len` for which `before` no longer holds; `before` must hold for a leading part only.
    pub fn partition(&self, from: u64, mut before: impl FnMut(u64) -> bool) -> u64 {
        let (mut low, mut high) = (from, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }
}
