//! grep on an open reader: ripgrep's engine, with explicit limits and the run's check in the loop.

use crate::error::{Error, Kind, Result, bad_argument};
use crate::sys::stream::{Check, Checked, from_io, to_io};
use grep_matcher::Matcher as _;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, MmapChoice, Searcher, SearcherBuilder, Sink, SinkContext, SinkError, SinkMatch};
use std::io::Read;

/// Bytes that a compiled pattern may use, and again for its lazy automaton.
const PATTERN_SIZE: usize = 10 << 20;
/// Brackets in brackets of a pattern.
const PATTERN_NESTING: u32 = 100;
/// Bytes of a pattern as written.
const PATTERN_LENGTH: usize = 64 << 10;
/// Lines of context on each side.
pub const MAX_CONTEXT: usize = 10_000;
/// Bytes held for a line with the context before it.
const MAX_HEAP: usize = 32 << 20;

/// What is done with data that has NUL bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binary {
    /// Searched like any other: a log with a hole of NULs in it is still a log.
    #[default]
    Text,
    /// The search of this reader ends at the first NUL; [`Found::binary_at`] says where. For whole trees.
    Stop,
}

/// What is searched for and what comes back, in the words of grep(1).
#[derive(Clone, Debug)]
pub struct Options {
    /// The pattern is the text itself, not a regular expression.
    pub fixed: bool,
    /// Matches must begin and end at the edge of a word.
    pub word: bool,
    /// Unicode upper and lower case are the same.
    pub ignore_case: bool,
    /// Lines that do not match.
    pub invert: bool,
    /// Number the lines; costs a count of every newline.
    pub line_number: bool,
    /// Only count: no line is kept.
    pub count: bool,
    /// Stop at the first match: no line is kept.
    pub only_whether: bool,
    /// The matched parts instead of their lines.
    pub only_matching: bool,
    /// Matching lines after which the search ends.
    pub max_count: Option<u64>,
    /// Lines of context before and after, at most [`MAX_CONTEXT`].
    pub before: usize,
    pub after: usize,
    pub binary: Binary,
    /// Entries kept, context and all; at the next one [`Found::truncated`] is set and the search ends.
    pub max_results: usize,
    /// Bytes kept, likewise.
    pub max_bytes: usize,
    /// Bytes of one line; a longer one is the error `too_large`.
    pub max_line: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fixed: false,
            word: false,
            ignore_case: false,
            invert: false,
            line_number: false,
            count: false,
            only_whether: false,
            only_matching: false,
            max_count: None,
            before: 0,
            after: 0,
            binary: Binary::Text,
            max_results: 10_000,
            max_bytes: 16 << 20,
            max_line: 8 << 20,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    Match,
    Context,
}

/// A line that was found, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// 1-based, if asked for.
    pub line_number: Option<u64>,
    /// Where it begins in the reader.
    pub byte_offset: u64,
    pub kind: EntryKind,
    /// Whether lines lie between the entry before and this one; only with context.
    pub gap: bool,
    /// Without the end of line.
    pub bytes: Vec<u8>,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub entries: Vec<Entry>,
    /// Matching lines, also those not kept.
    pub matched: u64,
    /// Where the first NUL was that ended the search.
    pub binary_at: Option<u64>,
    /// Whether there was more than the limits let through.
    pub truncated: bool,
}

/// A compiled pattern with its options; searches any number of readers.
pub struct Query {
    matcher: RegexMatcher,
    searcher: Searcher,
    options: Options,
}

impl Query {
    /// Compiles patterns, of which a line must match one.
    ///
    /// # Errors
    /// `bad_argument` for a pattern that is no regular expression, spans lines or is too large, and for options that contradict each other.
    pub fn new(patterns: &[&str], options: Options) -> Result<Self> {
        if patterns.iter().map(|pattern| pattern.len()).sum::<usize>() > PATTERN_LENGTH {
            return Err(bad_argument(format!("the pattern is longer than {PATTERN_LENGTH} bytes")));
        }
        if options.before > MAX_CONTEXT || options.after > MAX_CONTEXT {
            return Err(bad_argument(format!("`before` and `after` are at most {MAX_CONTEXT}")));
        }
        if options.fixed && patterns.iter().any(|pattern| pattern.contains('\n')) {
            return Err(bad_argument("a pattern is matched line by line and cannot contain a newline"));
        }
        let matcher = RegexMatcherBuilder::new()
            .fixed_strings(options.fixed)
            .word(options.word)
            .case_insensitive(options.ignore_case)
            .line_terminator(Some(b'\n'))
            .size_limit(PATTERN_SIZE)
            .dfa_size_limit(PATTERN_SIZE)
            .nest_limit(PATTERN_NESTING)
            .build_many(patterns)
            .map_err(|error| no_pattern(&error))?;
        // Counting, asking whether, and cutting out parts have no use for the lines around.
        let plain = options.count || options.only_whether || options.only_matching;
        let searcher = SearcherBuilder::new()
            .line_number(options.line_number && !options.count && !options.only_whether)
            .invert_match(options.invert)
            .before_context(if plain { 0 } else { options.before })
            .after_context(if plain { 0 } else { options.after })
            .max_matches(if options.only_whether { Some(1) } else { options.max_count })
            .binary_detection(detection(options.binary))
            // A mapped file that another process truncates kills the process that reads it.
            .memory_map(MmapChoice::never())
            .heap_limit(Some(options.max_line.saturating_mul(2).max(MAX_HEAP)))
            // Bytes are matched as they are: GNU grep looks for no byte order mark either.
            .bom_sniffing(false)
            .build();
        Ok(Self { matcher, searcher, options })
    }

    /// For the searches that follow: how many results may be kept, and what is done with NUL bytes.
    pub fn limit(&mut self, max_results: usize, binary: Binary) {
        self.options.max_results = max_results;
        self.searcher.set_binary_detection(detection(binary));
    }

    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Searches a reader to its end, or as far as the options say.
    ///
    /// # Errors
    /// `too_large` for a line over the limit, what the reader reports, and the check's reason.
    pub fn search(&mut self, reader: impl Read, check: Check<'_>) -> Result<Found> {
        let reader = LineGuard { inner: Checked::new(reader, check), max_line: self.options.max_line, run: 0 };
        let mut collector = Collector {
            matcher: &self.matcher,
            options: &self.options,
            found: Found::default(),
            bytes: 0,
            gap: false,
            since_check: 0,
            check,
        };
        self.searcher.search_reader(&self.matcher, reader, &mut collector)?;
        Ok(collector.found)
    }

    /// Whether a text matches.
    ///
    /// # Errors
    /// `internal`, when the engine gives up.
    pub fn matches(&self, text: &[u8]) -> Result<bool> {
        let hit = self.matcher.is_match(text).map_err(|_| Error::new(Kind::Internal, "the search engine gave up"))?;
        Ok(hit != self.options.invert)
    }
}

fn detection(binary: Binary) -> BinaryDetection {
    match binary {
        Binary::Text => BinaryDetection::none(),
        Binary::Stop => BinaryDetection::quit(0),
    }
}

/// Why a pattern cannot be used, on one line, with the regular expression engine's reason.
fn no_pattern(error: &grep_regex::Error) -> Error {
    use grep_regex::ErrorKind;
    match error.kind() {
        ErrorKind::NotAllowed(_) | ErrorKind::InvalidLineTerminator(_) => {
            bad_argument("a pattern is matched line by line and cannot contain a newline")
        }
        _ => {
            // The engine draws the pattern with a caret over several lines; its last line is the reason.
            let text = error.to_string();
            let reason = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let reason = reason.trim().trim_start_matches("error: ");
            bad_argument(format!("not a regular expression: {reason}")).with_hint("`fixed: true` searches for the text as it is")
        }
    }
}

impl SinkError for Error {
    fn error_message<T: std::fmt::Display>(message: T) -> Self {
        Self::new(Kind::Internal, format!("the search failed: {message}"))
    }
    fn error_io(error: std::io::Error) -> Self {
        let other = error.kind() == std::io::ErrorKind::Other && error.raw_os_error().is_none();
        if other && !error.get_ref().is_some_and(|inner| inner.is::<Self>()) {
            // The engine's only error of its own while reading: its buffer is full. Lines have their own limit, so it is the context.
            return Self::new(Kind::TooLarge, format!("a line with its context is more than {} bytes", MAX_HEAP));
        }
        from_io(error)
    }
}

/// A reader that ends in an error when a line is too long, before anybody holds it.
struct LineGuard<R> {
    inner: R,
    max_line: usize,
    /// Bytes since the last newline.
    run: usize,
}

impl<R: Read> Read for LineGuard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(buffer)?;
        let new = buffer.get(..got).unwrap_or_default();
        self.run = memchr::memrchr(b'\n', new).map_or(self.run.saturating_add(got), |at| got - at - 1);
        if self.run > self.max_line {
            return Err(to_io(Error::new(Kind::TooLarge, format!("a line is longer than {} bytes", self.max_line))));
        }
        Ok(got)
    }
}

/// Takes what the engine finds.
struct Collector<'a> {
    matcher: &'a RegexMatcher,
    options: &'a Options,
    found: Found,
    bytes: usize,
    gap: bool,
    since_check: usize,
    check: Check<'a>,
}

impl Collector<'_> {
    /// Keeps an entry; false when there is no room left.
    fn keep(&mut self, line_number: Option<u64>, byte_offset: u64, kind: EntryKind, bytes: &[u8]) -> bool {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.found.entries.len() >= self.options.max_results || self.bytes > self.options.max_bytes {
            self.found.truncated = true;
            return false;
        }
        let gap = std::mem::take(&mut self.gap);
        self.found.entries.push(Entry { line_number, byte_offset, kind, gap, bytes: bytes.to_vec() });
        true
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

impl Sink for Collector<'_> {
    type Error = Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool> {
        self.found.matched += 1;
        if self.options.count {
            return Ok(true);
        }
        if self.options.only_whether {
            return Ok(false);
        }
        let line = without_end(found.bytes());
        if !self.options.only_matching {
            return Ok(self.keep(found.line_number(), found.absolute_byte_offset(), EntryKind::Match, line));
        }
        if self.options.invert {
            return Ok(true);
        }
        self.since_check += line.len();
        if self.since_check > 4 << 20 {
            self.since_check = 0;
            (self.check)()?;
        }
        let matcher = self.matcher;
        let mut room = true;
        matcher
            .find_iter(line, |part| {
                if !part.is_empty() {
                    let bytes = line.get(part.start()..part.end()).unwrap_or_default();
                    room = self.keep(found.line_number(), found.absolute_byte_offset() + part.start() as u64, EntryKind::Match, bytes);
                }
                room
            })
            .map_err(|_| Error::new(Kind::Internal, "the search engine gave up"))?;
        Ok(room)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> Result<bool> {
        let line = without_end(context.bytes());
        Ok(self.keep(context.line_number(), context.absolute_byte_offset(), EntryKind::Context, line))
    }

    fn context_break(&mut self, _: &Searcher) -> Result<bool> {
        self.gap = true;
        Ok(true)
    }

    fn binary_data(&mut self, _: &Searcher, offset: u64) -> Result<bool> {
        self.found.binary_at.get_or_insert(offset);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn go() -> Result<()> {
        Ok(())
    }
    fn find(pattern: &str, options: Options, text: &[u8]) -> Found {
        Query::new(&[pattern], options).unwrap().search(text, &go).unwrap()
    }
    fn lines(pattern: &str, options: Options, text: &str) -> Vec<String> {
        let found = find(pattern, options, text.as_bytes());
        found.entries.into_iter().map(|entry| String::from_utf8(entry.bytes).unwrap()).collect()
    }
    fn with(set: impl FnOnce(&mut Options)) -> Options {
        let mut options = Options::default();
        set(&mut options);
        options
    }
    const LOG: &str = "start\nERROR disk full\nok\nerror again\nend ERROR";

    #[test]
    fn lines_that_match_come_back_without_their_end() {
        assert_eq!(lines("ERROR", Options::default(), LOG), ["ERROR disk full", "end ERROR"]);
        assert_eq!(lines("^e", Options::default(), LOG), ["error again", "end ERROR"]);
        assert_eq!(lines("nothing", Options::default(), LOG), [""; 0]);
        assert_eq!(lines("", Options::default(), "a\n\nb"), ["a", "", "b"]);
    }

    #[test]
    fn case_inversion_words_and_fixed_text_are_those_of_grep() {
        assert_eq!(lines("error", with(|o| o.ignore_case = true), LOG).len(), 3);
        assert_eq!(lines("ERROR", with(|o| o.invert = true), LOG), ["start", "ok", "error again"]);
        assert_eq!(lines("en", with(|o| o.word = true), "end\nen\nthe en.\n"), ["en", "the en."]);
        assert_eq!(lines("a.c", with(|o| o.fixed = true), "abc\na.c\n"), ["a.c"]);
        assert_eq!(lines("größe", with(|o| o.ignore_case = true), "GRÖSSE\nGRÖßE\n"), ["GRÖßE"]);
    }

    #[test]
    fn line_numbers_and_offsets_say_where() {
        let found = find("ERROR", with(|o| o.line_number = true), LOG.as_bytes());
        let places: Vec<_> = found.entries.iter().map(|entry| (entry.line_number, entry.byte_offset)).collect();
        assert_eq!(places, [(Some(2), 6), (Some(5), 37)]);
        assert_eq!(find("ERROR", Options::default(), LOG.as_bytes()).entries[0].line_number, None);
    }

    #[test]
    fn counting_and_asking_whether_keep_no_line() {
        let found = find("(?i)error", with(|o| o.count = true), LOG.as_bytes());
        assert_eq!((found.matched, found.entries.len()), (3, 0));
        let found = find("(?i)error", with(|o| o.only_whether = true), LOG.as_bytes());
        assert_eq!((found.matched, found.entries.len()), (1, 0));
    }

    #[test]
    fn the_search_ends_with_the_count_that_was_asked_for_and_reads_no_further() {
        // The reference applies the limit after a full scan with every line in memory (files.md E7).
        let text = "hit\n".repeat(1_000_000);
        let mut reader = text.as_bytes();
        let found = Query::new(&["hit"], with(|o| o.max_count = Some(2))).unwrap().search(&mut reader, &go).unwrap();
        assert_eq!((found.entries.len(), found.truncated), (2, false));
        assert!(reader.len() > 3_800_000, "only {} bytes left unread", reader.len());
    }

    #[test]
    fn inverting_reads_once() {
        // The reference reads the file twice for it, once whole (files.md E7).
        let (reader, writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut &writer, b"a\nb\n").unwrap();
        drop(writer);
        let found = Query::new(&["a"], with(|o| o.invert = true)).unwrap().search(reader, &go).unwrap();
        assert_eq!(found.entries[0].bytes, b"b");
    }

    #[test]
    fn context_comes_in_order_and_gaps_are_marked() {
        let text = "1\n2\nhit\n4\n5\n6\n7\nhit\n9\n";
        let found = find("hit", with(|o| (o.before, o.after, o.line_number) = (1, 1, true)), text.as_bytes());
        let got: Vec<_> =
            found.entries.iter().map(|entry| (entry.line_number.unwrap(), entry.kind == EntryKind::Match, entry.gap)).collect();
        assert_eq!(got, [(2, false, false), (3, true, false), (4, false, false), (7, false, true), (8, true, false), (9, false, false)]);
        let found = find("hit", with(|o| (o.after, o.max_count) = (2, Some(1))), text.as_bytes());
        assert_eq!(found.entries.iter().map(|entry| entry.bytes[0]).collect::<Vec<_>>(), b"h45");
    }

    #[test]
    fn only_matching_gives_every_part_of_every_line() {
        let found = find(r"\d+", with(|o| o.only_matching = true), b"a1 b22\nnone\nc333");
        let got: Vec<_> = found.entries.iter().map(|entry| (entry.byte_offset, entry.bytes.as_slice())).collect();
        assert_eq!(got, [(1, &b"1"[..]), (4, b"22"), (13, b"333")]);
        assert_eq!(find(r"\d*", with(|o| o.only_matching = true), b"a1").entries.len(), 1);
        assert_eq!(find("x", with(|o| (o.only_matching, o.invert) = (true, true)), b"a1").entries.len(), 0);
    }

    #[test]
    fn too_many_results_or_bytes_are_marked_and_end_the_search() {
        let text = b"hit\n".repeat(100);
        let found = find("hit", with(|o| o.max_results = 10), &text);
        assert_eq!((found.entries.len(), found.truncated), (10, true));
        let found = find("hit", with(|o| o.max_bytes = 31), &text);
        assert_eq!((found.entries.len(), found.truncated), (10, true));
        let found = find("hit", with(|o| o.max_results = 100), &text);
        assert_eq!((found.entries.len(), found.truncated), (100, false));
    }

    #[test]
    fn nul_bytes_are_text_or_the_end_as_asked() {
        let text = b"hit one\n\0\0\nhit two\n";
        assert_eq!(find("hit", Options::default(), text).entries.len(), 2);
        let found = find("hit two", with(|o| o.binary = Binary::Stop), text);
        assert_eq!((found.binary_at.is_some(), found.entries.len()), (true, 0));
    }

    #[test]
    fn bytes_that_are_not_utf8_end_no_search() {
        // The reference aborts at such a line, or ends silently in compressed data (files.md D7).
        let found = find("hit", Options::default(), b"\xff\xfe\nhit \xff\nhit\n");
        assert_eq!(found.entries.len(), 2);
        assert_eq!(found.entries[0].bytes, b"hit \xff");
    }

    #[test]
    fn a_line_without_end_is_an_error_and_not_a_flood_of_memory() {
        let text = std::io::repeat(b'x').take(1 << 30);
        let error = Query::new(&["y"], with(|o| o.max_line = 1 << 20)).unwrap().search(text, &go).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (Kind::TooLarge, "a line is longer than 1048576 bytes"));
    }

    #[test]
    fn context_cannot_flood_memory_either() {
        let text = [b"x".repeat(999), b"\n".to_vec()].concat().repeat(60_000);
        let result = Query::new(&["y"], with(|o| o.before = MAX_CONTEXT)).unwrap().search(&text[..], &go);
        assert_eq!(result.unwrap().entries.len(), 0);
        let text = [b"x".repeat(99_999), b"\n".to_vec()].concat().repeat(600);
        let result = Query::new(&["y"], with(|o| o.before = MAX_CONTEXT)).unwrap().search(&text[..], &go);
        assert_eq!(result.unwrap_err().kind, Kind::TooLarge);
    }

    #[test]
    fn the_check_ends_a_search_of_endless_data() {
        let left = std::cell::Cell::new(20);
        let check = || {
            left.set(left.get() - 1);
            if left.get() == 0 { Err(Error::new(Kind::Deadline, "late")) } else { Ok(()) }
        };
        struct Empty;
        impl Read for Empty {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                buffer.fill(b'\n');
                Ok(buffer.len())
            }
        }
        assert_eq!(Query::new(&["y"], Options::default()).unwrap().search(Empty, &check).unwrap_err().kind, Kind::Deadline);
    }

    #[test]
    fn a_bad_pattern_says_what_is_wrong_with_it() {
        let error = |pattern: &str, options| Query::new(&[pattern], options).err().unwrap();
        assert_eq!(error("(a", Options::default()).message, "not a regular expression: unclosed group");
        assert_eq!(error("a\nb", Options::default()).kind, Kind::BadArgument);
        assert_eq!(error("a\nb", with(|o| o.fixed = true)).message, error("a\nb", Options::default()).message);
        for huge in ["(a{1000}){1000}", &"(".repeat(10_000), &"a".repeat(100_000)] {
            assert_eq!(error(huge, Options::default()).kind, Kind::BadArgument, "{}", &huge[..10]);
        }
        assert_eq!(error("a", with(|o| o.before = MAX_CONTEXT + 1)).kind, Kind::BadArgument);
    }

    #[test]
    fn several_patterns_match_where_one_of_them_does() {
        let found = Query::new(&["disk", "again"], Options::default()).unwrap().search(LOG.as_bytes(), &go).unwrap();
        assert_eq!(found.entries.len(), 2);
    }
}
