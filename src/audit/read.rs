//! Records read back: the lines of a file, plain or packed, and of a log that quotes them.

use super::record::visible;
use crate::error::Result;
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader, Read};

/// The longest line that is looked at; records are shorter than 8 KiB.
const LONGEST: u64 = 1 << 20;

/// The largest window that a packed file may ask for, as a power of two; zstd(1) writes up to 27 unless told otherwise.
const WINDOW: u32 = 27;

/// A record, its fields in the order of the file.
pub type Record = Map<String, Value>;

/// A reader of lines from a file of records, also one that rotation has packed with gzip or zstd.
///
/// # Errors
/// When the file cannot be read.
pub fn reader<'a>(file: impl Read + 'a) -> Result<Box<dyn BufRead + 'a>> {
    let mut file = BufReader::new(file);
    let head = file.fill_buf()?;
    // RFC 1952 §2.3.1.
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file))));
    }
    // RFC 8878 §3.1.1.
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
        decoder.window_log_max(WINDOW)?;
        return Ok(Box::new(BufReader::new(decoder)));
    }
    Ok(Box::new(file))
}

/// One line as it stands in the file.
pub(super) struct Line<'a> {
    /// From 1.
    pub number: u64,
    /// The bytes without the newline; `None`: longer than 1 MiB.
    pub bytes: Option<&'a [u8]>,
}

/// Calls `each` with every line.
pub(super) fn every_line(mut input: impl BufRead, mut each: impl FnMut(&Line<'_>) -> Result<()>) -> Result<u64> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        if (&mut input).take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(number);
        }
        number += 1;
        let whole = line.last() == Some(&b'\n');
        if !whole && line.len() as u64 >= LONGEST {
            each(&Line { number, bytes: None })?;
            while line.last() != Some(&b'\n') {
                line.clear();
                if (&mut input).take(LONGEST).read_until(b'\n', &mut line)? == 0 {
                    break;
                }
            }
            continue;
        }
        let bytes = Some(line.strip_suffix(b"\n").unwrap_or(&line));
        each(&Line { number, bytes })?;
    }
}

/// Calls `each` with the number and bytes of every line that is not empty, `None` for one that is too long.
pub(super) fn lines(input: impl BufRead, mut each: impl FnMut(u64, Option<&[u8]>) -> Result<()>) -> Result<u64> {
    every_line(input, |line| match line.bytes.map(<[u8]>::trim_ascii_end) {
        Some([]) => Ok(()),
        bytes => each(line.number, bytes),
    })
}

/// A line as a record, or what is wrong with it.
pub(super) fn parse(line: Option<&[u8]>) -> std::result::Result<Record, String> {
    let line = line.ok_or("longer than 1 MiB")?;
    let record: Record = serde_json::from_slice(line).map_err(|error| format!("no JSON object: {error}"))?;
    match record.get("schema").and_then(Value::as_str) {
        Some(super::record::SCHEMA) => Ok(record),
        Some(other) => Err(format!("unknown schema `{}`", visible(other))),
        None => Err("no schema".to_string()),
    }
}

/// Calls `each` with the number of every line and the record that it is, or what is wrong with it; gives the number of lines.
///
/// # Errors
/// When input cannot be read, and those of `each`.
pub fn each_record(input: impl BufRead, mut each: impl FnMut(u64, std::result::Result<Record, String>) -> Result<()>) -> Result<u64> {
    lines(input, |number, line| each(number, parse(line)))
}

/// The record that a line of the system's log quotes, as the text files of rsyslog have it: from its first field to the end of the line.
pub(super) fn quoted(line: &[u8]) -> Option<&[u8]> {
    const HEAD: &[u8] = b"{\"schema\":\"rex.audit/";
    memchr::memmem::find(line, HEAD).and_then(|at| line.get(at..))
}

/// Calls `each` with every record that a file holds, or that the lines of a log quote, and adds the number of lines to `count`. Other lines are passed over: `show` and `verify` tell of them.
///
/// # Errors
/// When input cannot be read.
pub(super) fn records(input: impl BufRead, count: &mut u64, mut each: impl FnMut(&Record) -> Result<()>) -> Result<()> {
    *count += lines(input, |_, line| parse(line.and_then(quoted)).map_or(Ok(()), |record| each(&record)))?;
    Ok(())
}

/// When the first record of a file was written, so that files can be put in order.
///
/// # Errors
/// When input cannot be read.
pub fn begins(mut input: impl BufRead) -> Result<Option<jiff::Timestamp>> {
    // In a file of records it is the first line, and a log that quotes them is not searched for ever.
    let mut head = Vec::new();
    (&mut input).take(LONGEST).read_to_end(&mut head)?;
    let first = head.split(|byte| *byte == b'\n').find_map(|line| parse(quoted(line)).ok());
    Ok(first.and_then(|record| text(&record, "time").parse().ok()))
}

/// A text field of a record; empty where there is none.
pub(super) fn text<'a>(record: &'a Record, name: &str) -> &'a str {
    record.get(name).and_then(Value::as_str).unwrap_or("")
}

/// A number of a record; 0 where there is none.
pub(super) fn count(record: &Record, name: &str) -> u64 {
    record.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// The record of a denial that `reference` names, the newest where several runs have come to the same reference; only one of `principal` if that is
/// given. Reads records from a file ([`reader`]), or the text of a log that quotes them. Other lines cost a search for the reference, no more.
///
/// # Errors
/// When input cannot be read.
pub fn find_denial(input: impl BufRead, reference: &str, principal: Option<&str>) -> Result<Option<Record>> {
    let finder = memchr::memmem::Finder::new(reference.as_bytes());
    let mut found = None;
    lines(input, |_, line| {
        if let Some(line) = line.filter(|line| finder.find(line).is_some())
            && let Ok(record) = parse(quoted(line))
            && is_denial(&record, reference, principal)
        {
            found = Some(record);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The first record of a run: who asked, in which groups.
///
/// # Errors
/// When input cannot be read.
pub fn find_start(input: impl BufRead, run: &str) -> Result<Option<Record>> {
    let finder = memchr::memmem::Finder::new(run.as_bytes());
    let mut found = None;
    lines(input, |_, line| {
        if found.is_none()
            && let Some(line) = line.filter(|line| finder.find(line).is_some())
            && let Ok(record) = parse(quoted(line))
            && text(&record, "event") == "run_start"
            && text(&record, "run") == run
        {
            found = Some(record);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Whether this is the record of that denial: the decision, not that the script caught it. For records that come from elsewhere, as the `REX_RECORD` of
/// entries in the journal.
#[must_use]
pub fn is_denial(record: &Record, reference: &str, principal: Option<&str>) -> bool {
    text(record, "event") == "decision"
        && text(record, "ref") == reference
        && principal.is_none_or(|principal| text(record, "principal") == principal)
}
