//! Tests of reading lines: ends of line, limits, the last lines of files that grow or cannot be read backwards, counting.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use std::io::Write as _;

fn go() -> Result<()> {
    Ok(())
}

fn all(text: &[u8]) -> Vec<String> {
    let mut lines = Lines::new(text, 100);
    let mut found = Vec::new();
    while let Some(line) = lines.next_line().unwrap() {
        found.push(String::from_utf8(line.to_vec()).unwrap());
    }
    found
}

fn file(text: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file
}

fn strings(lines: Vec<Vec<u8>>) -> Vec<String> {
    lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
}

/// Gives one byte at a time, as a slow pipe does.
struct Drip<'a>(&'a [u8]);
impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = buffer.len().min(1);
        self.0.read(&mut buffer[..len])
    }
}

/// A reader that never ends and never gives a newline; it panics when more was read than a limit could need.
struct Endless(usize);
impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        assert!(self.0 < 64 << 20, "read on and on");
        buffer.fill(b'x');
        self.0 += buffer.len();
        Ok(buffer.len())
    }
}

#[test]
fn the_last_line_needs_no_newline_and_empty_lines_count() {
    assert_eq!(all(b""), [""; 0]);
    assert_eq!(all(b"\n"), [""]);
    assert_eq!(all(b"a\n\nb"), ["a", "", "b"]);
    assert_eq!(all(b"a\nb\n"), ["a", "b"]);
}

#[test]
fn carriage_returns_are_kept_unless_unwanted() {
    assert_eq!(all(b"a\r\nb\r"), ["a\r", "b\r"]);
    let mut lines = Lines::new(&b"a\r\nb"[..], 100).without_carriage_returns();
    assert_eq!(lines.next_line().unwrap(), Some(&b"a"[..]));
    assert_eq!(lines.next_line().unwrap(), Some(&b"b"[..]));
}

#[test]
fn lines_come_whole_from_a_reader_that_drips() {
    let mut lines = Lines::new(Drip(b"one\ntwo\nthree"), 100);
    assert_eq!(lines.next_line().unwrap(), Some(&b"one"[..]));
    assert_eq!(lines.skip_lines(1).unwrap(), 1);
    assert_eq!(lines.next_line().unwrap(), Some(&b"three"[..]));
    assert_eq!(lines.number(), 3);
    assert_eq!(lines.next_line().unwrap(), None);
}

#[test]
fn a_line_of_exactly_the_limit_is_read_and_one_byte_more_is_too_large() {
    let text = [vec![b'x'; 200_000], b"\nnext\n".to_vec()].concat();
    let mut lines = Lines::new(&text[..], 200_000);
    assert_eq!(lines.next_line().unwrap().unwrap().len(), 200_000);
    assert_eq!(lines.next_line().unwrap(), Some(&b"next"[..]));
    let error = Lines::new(&text[..], 199_999).next_line().unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (Kind::TooLarge, "line 1 is longer than 199999 bytes"));
}

#[test]
fn a_line_without_end_is_an_error_and_not_a_flood_of_memory() {
    let mut lines = Lines::new(Endless(0), MAX_LINE);
    assert_eq!(lines.next_line().unwrap_err().kind, Kind::TooLarge);
    assert!(lines.buffer.len() <= MAX_LINE + 2 * BLOCK, "{} bytes held", lines.buffer.len());
    assert_eq!(last(Endless(0), 1, Bounds::default(), &go).unwrap_err().kind, Kind::TooLarge);
}

#[test]
fn lines_that_are_skipped_may_be_of_any_length() {
    let text = [vec![b'x'; 300_000], b"\nshort".to_vec()].concat();
    let bounds = Bounds { max_line: 10, ..Bounds::default() };
    assert_eq!(strings(range(&text[..], 2, 2, bounds, &go).unwrap()), ["short"]);
}

#[test]
fn a_range_has_both_ends_and_ends_with_the_file() {
    let text = b"1\n2\n3\n4";
    let lines = |from, to| strings(range(&text[..], from, to, Bounds::default(), &go).unwrap());
    assert_eq!(lines(2, 3), ["2", "3"]);
    assert_eq!(lines(4, u64::MAX), ["4"]);
    assert_eq!(lines(5, u64::MAX), [""; 0]);
    assert_eq!(lines(3, 2), [""; 0]);
    assert_eq!(range(&text[..], 0, 2, Bounds::default(), &go).unwrap_err().kind, Kind::BadArgument);
}

#[test]
fn tail_gives_the_last_lines_of_a_small_and_of_a_large_file() {
    assert_eq!(strings(tail(&file(b"a\nb\nc"), 2, Bounds::default(), &go).unwrap()), ["b", "c"]);
    assert_eq!(strings(tail(&file(b"a\nb\nc\n"), 2, Bounds::default(), &go).unwrap()), ["b", "c"]);
    let large = file((0..200_000).map(|n| format!("line {n}\n")).collect::<String>().as_bytes());
    assert_eq!(strings(tail(&large, 2, Bounds::default(), &go).unwrap()), ["line 199998", "line 199999"]);
    assert_eq!(tail(&large, 150_000, Bounds::default(), &go).unwrap()[0], b"line 50000");
    assert_eq!(tail(&large, 0, Bounds::default(), &go).unwrap().len(), 0);
}

#[test]
fn tail_agrees_with_itself_forwards_and_backwards_at_every_count() {
    let text: Vec<u8> = (0..30_000u32).flat_map(|n| vec![b'a' + (n % 26) as u8; (n % 7) as usize].into_iter().chain([b'\n'])).collect();
    assert!(text.len() > BLOCK, "so that it is read backwards");
    let file = file(&text);
    for count in [1, 2, 3, 9_999, 29_999, 30_000, 30_001, u64::MAX] {
        assert_eq!(tail(&file, count, Bounds::default(), &go).unwrap(), last(&text[..], count, Bounds::default(), &go).unwrap());
    }
}

#[test]
fn tail_of_an_absurd_number_of_lines_is_the_whole_file_and_no_panic() {
    assert_eq!(tail(&file(b"a\nb"), u64::MAX, Bounds::default(), &go).unwrap().len(), 2);
}

#[test]
fn tail_is_what_the_file_was_when_asked_though_it_grows() {
    let file = file("old line\n".repeat(20_000).as_bytes());
    let grown = std::cell::Cell::new(false);
    let check = || {
        if !grown.replace(true) {
            let mut end = &file;
            std::io::Seek::seek(&mut end, std::io::SeekFrom::End(0)).unwrap();
            end.write_all(&b"new line\n".repeat(20_000)).unwrap();
        }
        Ok(())
    };
    assert_eq!(strings(tail(&file, 3, Bounds::default(), &check).unwrap()), ["old line"; 3]);
}

#[test]
fn tail_reads_pipes_and_files_of_the_kernel_too() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"1\n2\n3\n").unwrap();
    drop(writer);
    let pipe = File::from(std::os::fd::OwnedFd::from(reader));
    assert_eq!(strings(tail(&pipe, 2, Bounds::default(), &go).unwrap()), ["2", "3"]);
    assert_eq!(tail(&File::open("/proc/self/status").unwrap(), 1, Bounds::default(), &go).unwrap().len(), 1);
    if let Ok(file) = File::open("/sys/kernel/mm/transparent_hugepage/enabled") {
        assert_eq!(tail(&file, 5, Bounds::default(), &go).unwrap().len(), 1);
    }
}

#[test]
fn more_text_than_allowed_is_an_error_in_every_direction() {
    let bounds = Bounds { max_bytes: 1000, ..Bounds::default() };
    let text = b"0123456789\n".repeat(50);
    assert_eq!(range(&text[..], 1, u64::MAX, bounds, &go).unwrap_err().kind, Kind::TooLarge);
    assert_eq!(tail(&file(&text), 50, bounds, &go).unwrap_err().kind, Kind::TooLarge);
    assert_eq!(tail(&file(&text), 5, bounds, &go).unwrap().len(), 5);
    assert_eq!(range(&b"\n".repeat(1000)[..], 1, u64::MAX, bounds, &go).unwrap_err().kind, Kind::TooLarge);
}

#[test]
fn a_stop_ends_every_way_of_reading() {
    let stop = || Err(Error::new(Kind::Deadline, "late"));
    let text = b"a\n".repeat(100_000);
    assert_eq!(range(&text[..], 1, 5, Bounds::default(), &stop).unwrap_err().kind, Kind::Deadline);
    assert_eq!(tail(&file(&text), 5, Bounds::default(), &stop).unwrap_err().kind, Kind::Deadline);
    assert_eq!(count(&text[..], &stop).unwrap_err().kind, Kind::Deadline);
}

#[test]
fn reading_twice_from_one_file_sees_the_same_though_the_first_time_failed() {
    // The reference leaves the offset where a failed read stopped (files.md D8).
    let file = file(&[b"good\n".repeat(3000), b"\xff\n".to_vec(), b"good\n".to_vec()].concat());
    let read = || {
        let whole = At { file: &file, at: 0, end: file.metadata().unwrap().len() };
        range(whole, 1, u64::MAX, Bounds::default(), &go).unwrap()
    };
    assert!(read().into_iter().map(|line| to_text(line, false, 1)).any(|line| line.is_err()));
    assert_eq!(count(At { file: &file, at: 0, end: file.metadata().unwrap().len() }, &go).unwrap().lines, 3002);
    assert_eq!(read().len(), 3002);
}

#[test]
fn text_is_strict_unless_asked_otherwise() {
    assert_eq!(to_text("grün".into(), false, 1).unwrap(), "grün");
    let error = to_text(b"a\xffb".to_vec(), false, 7).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (Kind::NotText, "bytes that are not UTF-8 in line 7"));
    assert_eq!(to_text(b"a\xffb".to_vec(), true, 7).unwrap(), "a\u{fffd}b");
}

#[test]
fn counts_are_those_of_wc() {
    let text = "one  two\tthree\n\n grün\u{b}x\r\nlast".as_bytes();
    assert_eq!(count(text, &go).unwrap(), Counts { lines: 3, words: 6, bytes: 30, chars: 29 });
    assert_eq!(count(&b""[..], &go).unwrap(), Counts::default());
}

proptest::proptest! {
    #[test]
    fn counts_do_not_depend_on_how_the_bytes_arrive(text in "[a-cü \n\t]{0,600}") {
        let whole = count(text.as_bytes(), &go).unwrap();
        proptest::prop_assert_eq!(whole, count(Drip(text.as_bytes()), &go).unwrap());
        proptest::prop_assert_eq!(whole.words, text.split_ascii_whitespace().count() as u64);
        proptest::prop_assert_eq!(whole.chars, text.chars().count() as u64);
        proptest::prop_assert_eq!(whole.lines, text.matches('\n').count() as u64);
    }
}
