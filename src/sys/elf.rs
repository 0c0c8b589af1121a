//! ELF files (gABI and its GNU and Linux extensions): what a program needs, and what a core dump is of. Nothing in them is believed.
//!
//! Only headers, notes and a few strings are read, with limits, by read(2): a mapped file that somebody truncates would kill the reader.

use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use crate::sys::stream::from_io;
use std::os::unix::fs::FileExt as _;

/// Bytes of one table of headers, of one string table, of all notes.
const MAX_TABLE: u64 = 16 << 20;
/// Bytes of one string.
const MAX_STRING: usize = 4096;
/// Entries of the dynamic section that are looked at, and libraries.
const MAX_DYNAMIC: usize = 4096;

/// What an ELF file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// 32 or 64.
    pub class: u8,
    pub big_endian: bool,
    /// `executable`, `pie`, `shared_object`, `object`, `core`, or the number.
    pub kind: String,
    /// `x86_64`, `aarch64` …, or the number.
    pub machine: String,
    pub entry: u64,
    /// The program that loads it.
    pub interpreter: Option<Vec<u8>>,
    pub soname: Option<Vec<u8>>,
    pub needed: Vec<Vec<u8>>,
    pub runpath: Option<Vec<u8>>,
    pub build_id: Option<String>,
    pub stripped: bool,
    pub debug_info: bool,
    /// Whether its stack cannot be executed.
    pub nx_stack: bool,
    /// `none`, `partial` or `full`.
    pub relro: &'static str,
    pub core: Option<Core>,
}

/// What a core dump says of the process that left it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Core {
    /// The path by which the program was started.
    pub execfn: Option<Vec<u8>>,
    pub platform: Option<Vec<u8>>,
    pub name: Option<Vec<u8>>,
    pub arguments: Option<Vec<u8>>,
    pub pid: Option<u32>,
    /// The signal that ended it.
    pub signal: Option<u16>,
}

/// Looks at a granted file.
///
/// # Errors
/// [`Kind::BadData`] for what is no ELF file or contradicts itself; as [`super::file::open`]; that the run has to stop.
pub fn look<A: Action<On = File>>(granted: &Granted<A>, check: &dyn Fn() -> Result<()>) -> Result<Elf> {
    let file = super::file::open(granted)?;
    let size = file.metadata().map_err(from_io)?.len();
    let read = |place: u64, buffer: &mut [u8]| {
        check()?;
        file.read_exact_at(buffer, place).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => bad("it ends too early"),
            _ => from_io(error),
        })
    };
    Image { read: &read, size, wide: false, big: false }.look()
}

fn bad(what: &str) -> Error {
    Error::new(Kind::BadData, format!("not a usable ELF file: {what}"))
}

struct Image<'a> {
    read: &'a dyn Fn(u64, &mut [u8]) -> Result<()>,
    size: u64,
    wide: bool,
    big: bool,
}

/// Bytes of a header, read field by field.
struct Record<'a> {
    bytes: &'a [u8],
    big: bool,
}

impl Record<'_> {
    fn number(&self, at: usize, length: usize) -> Result<u64> {
        let bytes = at.checked_add(length).and_then(|end| self.bytes.get(at..end)).ok_or_else(|| bad("a header is too short"))?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Ok(if self.big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    }
    fn half(&self, at: usize) -> Result<u16> {
        self.number(at, 2).map(|number| u16::try_from(number).unwrap_or(u16::MAX))
    }
    fn word(&self, at: usize) -> Result<u32> {
        self.number(at, 4).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
    }
}

/// A program header: how a part of the file gets into memory.
#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    length: u64,
}

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERP: u32 = 3;
const NOTE: u32 = 4;
const GNU_STACK: u32 = 0x6474_e551;
const GNU_RELRO: u32 = 0x6474_e552;

struct Section {
    name: u32,
    kind: u32,
    offset: u64,
    length: u64,
    link: u32,
    info: u32,
}

impl Image<'_> {
    fn look(&mut self) -> Result<Elf> {
        let mut ident = [0; 16];
        if self.size < 16 {
            return Err(bad("it is too short"));
        }
        (self.read)(0, &mut ident)?;
        let [0x7f, b'E', b'L', b'F', class, order, ..] = ident else { return Err(bad("it does not begin as one")) };
        self.wide = match class {
            1 => false,
            2 => true,
            _ => return Err(bad("it is neither of 32 nor of 64 bits")),
        };
        self.big = match order {
            1 => false,
            2 => true,
            _ => return Err(bad("its byte order is unknown")),
        };
        let bytes = self.part(0, if self.wide { 64 } else { 52 })?;
        let header = Record { bytes: &bytes, big: self.big };
        let place = |wide: usize, narrow: usize| if self.wide { header.number(wide, 8) } else { header.number(narrow, 4) };
        let (kind, machine) = (header.half(16)?, header.half(18)?);
        let (entry, segments_at, sections_at) = (place(24, 24)?, place(32, 28)?, place(40, 32)?);
        let counts = if self.wide { 54 } else { 42 };
        let field = |at: usize| header.half(counts + 2 * at);
        let (segment_size, segment_count, section_size, section_count, names) = (field(0)?, field(1)?, field(2)?, field(3)?, field(4)?);
        let sections = self.sections(sections_at, section_size, section_count.into())?;
        let first = sections.first();
        // More segments than fit in 16 bits: section 0 holds the number (elf(5), PN_XNUM).
        let segment_count = if segment_count == 0xffff { first.map_or(0, |first| first.info) } else { segment_count.into() };
        let names = if names == 0xffff { first.map_or(0, |first| first.link) } else { names.into() };
        let segments = self.segments(segments_at, segment_size, segment_count)?;
        let mut elf = Elf {
            class: if self.wide { 64 } else { 32 },
            big_endian: self.big,
            machine: machine_word(machine),
            entry,
            stripped: !sections.iter().any(|section| section.kind == 2),
            relro: "none",
            ..Elf::default()
        };
        elf.debug_info = self.has_debug_info(&sections, names)?;
        let mut flags = Flags::default();
        for segment in &segments {
            match segment.kind {
                INTERP => elf.interpreter = Some(cut(self.some(segment.offset, segment.length.min(MAX_STRING as u64))?)),
                GNU_STACK => elf.nx_stack = segment.flags & 1 == 0,
                GNU_RELRO => elf.relro = "partial",
                DYNAMIC => flags = self.dynamic(segment, &segments, &mut elf)?,
                _ => {}
            }
        }
        if elf.relro == "partial" && flags.bind_now {
            elf.relro = "full";
        }
        elf.kind = match kind {
            1 => "object".to_owned(),
            2 => "executable".to_owned(),
            3 if elf.interpreter.is_some() || flags.pie => "pie".to_owned(),
            3 => "shared_object".to_owned(),
            4 => "core".to_owned(),
            other => other.to_string(),
        };
        if kind == 4 {
            elf.core = Some(Core::default());
        }
        self.notes(&segments, &mut elf)?;
        Ok(elf)
    }

    /// Bytes of the file, all of which must be there.
    fn part(&self, place: u64, length: u64) -> Result<Vec<u8>> {
        if length > MAX_TABLE {
            return Err(bad("a table in it is too large"));
        }
        if place.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(bad("it ends too early"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        (self.read)(place, &mut bytes)?;
        Ok(bytes)
    }

    /// As many of these bytes as there are.
    fn some(&self, place: u64, length: u64) -> Result<Vec<u8>> {
        self.part(place.min(self.size), length.min(self.size.saturating_sub(place)))
    }

    fn segments(&self, at: u64, size: u16, count: u32) -> Result<Vec<Segment>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let wide = self.wide;
        if usize::from(size) < if wide { 56 } else { 32 } {
            return Err(bad("its program headers are too short"));
        }
        let table = self.part(at, u64::from(size) * u64::from(count))?;
        let segment = |bytes: &[u8]| {
            let record = Record { bytes, big: self.big };
            let number = |wide_at: usize, narrow_at: usize| if wide { record.number(wide_at, 8) } else { record.number(narrow_at, 4) };
            Ok(Segment {
                kind: record.word(0)?,
                flags: record.word(if wide { 4 } else { 24 })?,
                offset: number(8, 4)?,
                address: number(16, 8)?,
                length: number(32, 16)?,
            })
        };
        table.chunks_exact(size.into()).map(segment).collect()
    }

    fn sections(&self, at: u64, size: u16, count: u64) -> Result<Vec<Section>> {
        if at == 0 {
            return Ok(Vec::new());
        }
        let wide = self.wide;
        if usize::from(size) < if wide { 64 } else { 40 } {
            return Err(bad("its section headers are too short"));
        }
        let section = |bytes: &[u8]| {
            let record = Record { bytes, big: self.big };
            let number = |wide_at: usize, narrow_at: usize| if wide { record.number(wide_at, 8) } else { record.number(narrow_at, 4) };
            Ok(Section {
                name: record.word(0)?,
                kind: record.word(4)?,
                offset: number(24, 16)?,
                length: number(32, 20)?,
                link: record.word(if wide { 40 } else { 24 })?,
                info: record.word(if wide { 44 } else { 28 })?,
            })
        };
        // More sections than fit in 16 bits: the first of them holds the number.
        let count = if count == 0 { section(&self.part(at, size.into())?)?.length } else { count };
        let table = self.part(at, u64::from(size).checked_mul(count).ok_or_else(|| bad("a table in it is too large"))?)?;
        table.chunks_exact(size.into()).map(section).collect()
    }

    fn has_debug_info(&self, sections: &[Section], names: u32) -> Result<bool> {
        let Some(table) = usize::try_from(names).ok().and_then(|at| sections.get(at)) else { return Ok(false) };
        let strings = self.some(table.offset, table.length.min(MAX_TABLE))?;
        let name = |section: &Section| strings.get(usize::try_from(section.name).unwrap_or(usize::MAX)..).unwrap_or_default();
        Ok(sections.iter().any(|section| [&b".debug_info\0"[..], b".zdebug_info\0"].iter().any(|word| name(section).starts_with(word))))
    }

    /// The place in the file of an address in memory, and how much follows it there.
    fn place_of(&self, address: u64, segments: &[Segment]) -> Option<(u64, u64)> {
        segments.iter().filter(|segment| segment.kind == LOAD).find_map(|segment| {
            let within = address.checked_sub(segment.address).filter(|within| *within < segment.length)?;
            Some((segment.offset.checked_add(within)?, segment.length - within))
        })
    }

    fn string_at(&self, address: u64, segments: &[Segment]) -> Result<Option<Vec<u8>>> {
        let Some((place, length)) = self.place_of(address, segments) else { return Ok(None) };
        Ok(Some(cut(self.some(place, length.min(MAX_STRING as u64))?)).filter(|text| !text.is_empty()))
    }

    fn dynamic(&self, segment: &Segment, segments: &[Segment], elf: &mut Elf) -> Result<Flags> {
        let size: usize = if self.wide { 16 } else { 8 };
        let table = self.some(segment.offset, segment.length.min((MAX_DYNAMIC * size) as u64))?;
        let mut entries = Vec::new();
        for bytes in table.chunks_exact(size) {
            let record = Record { bytes, big: self.big };
            let (tag, value) = (record.number(0, size / 2)?, record.number(size / 2, size / 2)?);
            if tag == 0 {
                break;
            }
            entries.push((tag, value));
        }
        let value = |wanted: u64| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let flags = Flags {
            // DT_BIND_NOW, DF_BIND_NOW in DT_FLAGS, DF_1_NOW in DT_FLAGS_1.
            bind_now: value(24).is_some() || value(30).unwrap_or(0) & 8 != 0 || value(0x6fff_fffb).unwrap_or(0) & 1 != 0,
            pie: value(0x6fff_fffb).unwrap_or(0) & 0x0800_0000 != 0,
        };
        // DT_STRTAB and DT_STRSZ.
        let Some((place, room)) = value(5).and_then(|address| self.place_of(address, segments)) else { return Ok(flags) };
        let strings = self.some(place, room.min(value(10).unwrap_or(room)).min(MAX_TABLE))?;
        let string = |at: u64| {
            let rest = usize::try_from(at).ok().and_then(|at| strings.get(at..))?;
            Some(cut(rest.get(..MAX_STRING.min(rest.len())).unwrap_or_default().to_vec()))
        };
        elf.needed = entries.iter().filter(|(tag, _)| *tag == 1).filter_map(|(_, at)| string(*at)).collect();
        elf.soname = value(14).and_then(string);
        elf.runpath = value(29).or_else(|| value(15)).and_then(string);
        Ok(flags)
    }

    fn notes(&self, segments: &[Segment], elf: &mut Elf) -> Result<()> {
        let mut left = MAX_TABLE;
        for segment in segments.iter().filter(|segment| segment.kind == NOTE) {
            let bytes = self.some(segment.offset, segment.length.min(left))?;
            left -= bytes.len() as u64;
            let mut at = 0_usize;
            while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= 12) {
                let record = Record { bytes: rest, big: self.big };
                let length = |at| record.word(at).map(|length| usize::try_from(length).unwrap_or(usize::MAX));
                let (name_length, length, kind) = (length(0)?, length(4)?, record.word(8)?);
                let padded = |length: usize| length.checked_next_multiple_of(4);
                let Some(begin) = padded(name_length).and_then(|name| name.checked_add(12)) else { break };
                let Some(end) = begin.checked_add(length) else { break };
                let (Some(name), Some(content)) = (rest.get(12..12 + name_length), rest.get(begin..end)) else { break };
                self.note(name, kind, content, segments, elf)?;
                let Some(next) = padded(end).and_then(|end| end.checked_add(at)) else { break };
                at = next;
            }
        }
        Ok(())
    }

    fn note(&self, name: &[u8], kind: u32, content: &[u8], segments: &[Segment], elf: &mut Elf) -> Result<()> {
        let record = Record { bytes: content, big: self.big };
        match (name.strip_suffix(b"\0").unwrap_or(name), kind, &mut elf.core) {
            (b"GNU", 3, None) if content.len() <= 64 => elf.build_id = Some(content.iter().map(|byte| format!("{byte:02x}")).collect()),
            // NT_PRSTATUS: the first is of the thread that got the signal; `pr_cursig`.
            (b"CORE", 1, Some(core)) if core.signal.is_none() => core.signal = record.half(12).ok().filter(|signal| *signal != 0),
            // NT_PRPSINFO: four chars, `pr_flag`, two ids of 16 or 32 bits, four pids, 16 bytes of name, 80 of arguments.
            (b"CORE", 3, Some(core)) => {
                let (pid, text) = match (self.wide, content.len()) {
                    (true, 136..) => (24, 40),
                    (false, 128..) => (16, 32),
                    (false, 124..) => (12, 28),
                    _ => return Ok(()),
                };
                core.pid = Some(record.word(pid)?);
                core.name = content.get(text..text + 16).map(|bytes| cut(bytes.to_vec()));
                let arguments = content.get(text + 16..text + 96).map(|bytes| cut(bytes.to_vec()));
                core.arguments = arguments.map(|bytes| bytes.trim_ascii_end().to_vec());
            }
            // NT_AUXV.
            (b"CORE", 6, Some(_)) => {
                let half = if self.wide { 8 } else { 4 };
                for bytes in content.chunks_exact(2 * half).take(MAX_DYNAMIC) {
                    let record = Record { bytes, big: self.big };
                    let (tag, value) = (record.number(0, half)?, record.number(half, half)?);
                    // AT_EXECFN, AT_PLATFORM.
                    let text = if tag == 31 || tag == 15 { self.string_at(value, segments)? } else { continue };
                    if let Some(core) = &mut elf.core {
                        if tag == 31 { core.execfn = text } else { core.platform = text }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[derive(Default)]
struct Flags {
    bind_now: bool,
    pie: bool,
}

/// A string up to its NUL.
fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = memchr::memchr(0, &bytes).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn machine_word(number: u16) -> String {
    let word = match number {
        3 => "i386",
        8 => "mips",
        20 => "ppc",
        21 => "ppc64",
        22 => "s390x",
        40 => "arm",
        43 => "sparc64",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv",
        247 => "bpf",
        258 => "loongarch",
        other => return other.to_string(),
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn of(bytes: &[u8]) -> Result<Elf> {
        let read = |place: u64, buffer: &mut [u8]| {
            let from = usize::try_from(place).unwrap();
            buffer.copy_from_slice(bytes.get(from..from + buffer.len()).ok_or_else(|| bad("short"))?);
            Ok(())
        };
        Image { read: &read, size: bytes.len() as u64, wide: false, big: false }.look()
    }

    /// A core dump of 64 bits, of either byte order, with a process, its auxiliary vector and the memory that this points into.
    fn core(big: bool) -> Vec<u8> {
        let put = |bytes: &mut Vec<u8>, value: u64, length: usize| {
            let little = value.to_le_bytes();
            let part = &little[..length];
            if big { bytes.extend(part.iter().rev()) } else { bytes.extend(part) }
        };
        let mut notes = Vec::new();
        let note = |notes: &mut Vec<u8>, kind: u64, content: &[u8]| {
            for number in [5, content.len() as u64, kind] {
                put(notes, number, 4);
            }
            notes.extend(b"CORE\0\0\0\0");
            notes.extend(content);
            notes.resize(notes.len().next_multiple_of(4), 0);
        };
        let mut status = vec![0; 12];
        put(&mut status, 11, 2);
        note(&mut notes, 1, &status);
        let mut info = vec![0; 24];
        put(&mut info, 4242, 4);
        info.resize(40, 0);
        info.extend(b"daemon\0\0\0\0\0\0\0\0\0\0");
        info.extend(b"daemon --flag ");
        info.resize(136, 0);
        note(&mut notes, 3, &info);
        let mut vector = Vec::new();
        for number in [31, 0x1000, 15, 0x1010, 0, 0] {
            put(&mut vector, number, 8);
        }
        note(&mut notes, 6, &vector);
        let memory = b"/usr/bin/daemon\0x86_64\0";
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, if big { 2 } else { 1 }, 1];
        file.resize(16, 0);
        for (value, length) in [(4, 2), (62, 2), (1, 4), (0, 8), (64, 8), (0, 8), (0, 4), (64, 2), (56, 2), (2, 2), (64, 2), (0, 2), (0, 2)]
        {
            put(&mut file, value, length);
        }
        let notes_at = 64 + 2 * 56;
        for (kind, place, address, length) in
            [(NOTE, notes_at, 0, notes.len() as u64), (LOAD, notes_at + notes.len() as u64, 0x1000, memory.len() as u64)]
        {
            put(&mut file, kind.into(), 4);
            put(&mut file, 4, 4);
            for number in [place, address, 0, length, length, 1] {
                put(&mut file, number, 8);
            }
        }
        file.extend(notes);
        file.extend(memory);
        file
    }

    #[test]
    fn a_core_dump_tells_its_process_in_either_byte_order() {
        for big in [false, true] {
            let elf = of(&core(big)).unwrap();
            assert_eq!((elf.class, elf.kind.as_str(), elf.machine.as_str(), elf.big_endian), (64, "core", "x86_64", big));
            let core = elf.core.unwrap();
            assert_eq!(core.execfn.as_deref(), Some(&b"/usr/bin/daemon"[..]));
            assert_eq!(core.platform.as_deref(), Some(&b"x86_64"[..]));
            assert_eq!((core.pid, core.signal), (Some(4242), Some(11)));
            assert_eq!(core.name.as_deref(), Some(&b"daemon"[..]));
            assert_eq!(core.arguments.as_deref(), Some(&b"daemon --flag"[..]));
        }
    }

    #[test]
    fn the_test_program_itself_is_understood() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let elf = of(&bytes).unwrap();
        assert_eq!(usize::from(elf.class), usize::BITS as usize);
        assert!(elf.kind == "pie" || elf.kind == "executable", "{elf:?}");
        assert!(!elf.stripped && elf.nx_stack && elf.core.is_none());
        assert_eq!(elf.interpreter.is_some(), elf.needed.iter().any(|name| name.starts_with(b"libc.")));
    }

    #[test]
    fn what_is_no_elf_file_is_bad_data() {
        let core = core(false);
        for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\necho hello\n", &core[..40], &core[..100]] {
            assert_eq!(of(bytes).unwrap_err().kind, Kind::BadData);
        }
    }

    #[test]
    fn damaged_files_are_errors_or_answers_and_never_panics() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        let small = |bytes: &[u8]| bytes[..bytes.len().min(64 << 10)].to_vec();
        let mut state = 88_172_645_463_325_252_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 8).unwrap()
        };
        for seed in [core(false), core(true), small(&program)] {
            for _ in 0..20_000 {
                let mut bytes = seed.clone();
                for _ in 0..1 + random() % 6 {
                    // Mostly in the headers, where numbers lead elsewhere.
                    let at = random() % if random() % 4 == 0 { bytes.len() } else { bytes.len().min(512) };
                    bytes[at] = [0, 1, 0xff, 0x7f, 0x80, u8::try_from(random() % 256).unwrap()][random() % 6];
                }
                if random() % 8 == 0 {
                    bytes.truncate(random() % bytes.len());
                }
                if let Err(error) = of(&bytes) {
                    assert_eq!(error.kind, Kind::BadData, "{error}");
                }
            }
        }
    }
}
