//! `rex audit verify`: checks the chains of files of records, and that nothing is missing between the records of a run.
//!
//! Chains show records that were changed, removed or put in. They have no key: who can write the whole file can write new chains. What the host's log got
//! meanwhile, the anchors, then differs: see [`Verifier::expect`].

use super::chain::{Link, parse_end};
use super::read::{Line, Record, count, every_line, parse, quoted, text};
use super::record::visible;
use crate::error::Result;
use crate::os::digest::hex_sha256;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::io::BufRead;

/// Most bytes that are kept to compare them with what the next writer noted; it notes no more.
const KEPT: usize = 64 << 10;

/// Something in a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    /// From 1; 0: the file as a whole.
    pub line: u64,
    pub what: String,
}

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub records: u64,
    /// Records that are linked to the one before them in their file.
    pub linked: u64,
    pub runs: u64,
    /// Runs without their last record, and the number of their process: still going, killed, or cut off.
    pub unfinished: Vec<(String, i64)>,
    /// What was changed, removed or put in.
    pub problems: Vec<Finding>,
    /// What a crash, a full disk or a rotation left, and a writer noted.
    pub notes: Vec<Finding>,
    /// Anchors that were found in the files.
    pub anchored: u64,
    /// Anchors from before the first record of the files.
    pub older_anchors: u64,
    /// Records after the last one that an anchor vouches for.
    pub unanchored: u64,
}

/// What the host's log got to know of a file.
#[derive(Clone, Debug)]
pub struct Known {
    pub link: String,
    pub n: u64,
    pub run: String,
    pub file: String,
    pub time: Option<jiff::Timestamp>,
}

/// Reads the anchors out of records, or of the text of a log that quotes them.
///
/// # Errors
/// When input cannot be read.
pub fn anchors(input: impl BufRead) -> Result<Vec<Known>> {
    let mut found = Vec::new();
    every_line(input, |line| {
        if let Some(bytes) = line.bytes.filter(|bytes| memchr::memmem::find(bytes, b"\"event\":\"anchor\"").is_some())
            && let Ok(record) = parse(quoted(bytes.trim_ascii_end()))
            && text(&record, "event") == "anchor"
        {
            found.push(Known {
                link: text(&record, "link").to_owned(),
                n: count(&record, "n"),
                run: text(&record, "run").to_owned(),
                file: text(&record, "file").to_owned(),
                time: text(&record, "time").parse().ok(),
            });
        }
        Ok(())
    })?;
    Ok(found)
}

/// Where the check of one run stands.
#[derive(Default)]
struct Run {
    next: u64,
    chain: String,
    ended: bool,
    pid: i64,
    /// The account of its records; nothing while none of them was seen.
    uid: Option<u64>,
}

/// Where the check of one file stands.
#[derive(Default)]
struct File {
    name: String,
    last: Option<Link>,
    /// Bytes since the last linked record, the first [`KEPT`] of them, and how many there were.
    rest: Vec<u8>,
    rest_bytes: u64,
    /// What is wrong with the lines in them; it is one finding if the next writer noted them.
    pending: Vec<(u64, String)>,
    /// Records of runs that began elsewhere are expected.
    continued: bool,
}

/// A check under way.
#[derive(Default)]
pub struct Verifier {
    verdict: Verdict,
    runs: HashMap<String, Run>,
    /// The beginnings of the links seen: as many bits as nobody meets by trying.
    seen: HashSet<u64>,
    /// Links that files say they follow, and whether nothing else tells of the records before.
    follows: Vec<(Finding, Link)>,
    expected: Vec<Known>,
    wanted: HashMap<String, bool>,
    first: Option<jiff::Timestamp>,
}

/// Checks one file, or several that come one after another in `input`, with nothing to compare it to.
///
/// # Errors
/// When input cannot be read.
pub fn verify(input: impl BufRead) -> Result<Verdict> {
    let mut verifier = Verifier::default();
    verifier.file("", input)?;
    Ok(verifier.finish())
}

impl Verifier {
    /// Adds what the host's log knows. Comes before the files.
    pub fn expect(&mut self, anchors: Vec<Known>) {
        self.wanted.extend(anchors.iter().map(|anchor| (anchor.link.clone(), false)));
        self.expected.extend(anchors);
    }

    /// Checks a file; older ones come first.
    ///
    /// # Errors
    /// When input cannot be read.
    pub fn file(&mut self, name: &str, input: impl BufRead) -> Result<()> {
        let mut file = File { name: name.to_owned(), ..File::default() };
        every_line(input, |line| {
            self.line(&mut file, line);
            Ok(())
        })?;
        self.flush(&mut file);
        Ok(())
    }

    fn line(&mut self, file: &mut File, line: &Line<'_>) {
        let bytes = line.bytes;
        let empty = bytes.is_some_and(|bytes| bytes.trim_ascii().is_empty());
        let record = if empty { Err(String::new()) } else { parse(bytes) };
        self.verdict.records += u64::from(!empty);
        let place = bytes.filter(|_| record.is_ok()).and_then(parse_end);
        match (&record, place) {
            (Ok(record), Some((body, link))) => {
                let body = bytes.and_then(|bytes| bytes.get(..body)).unwrap_or(&[]);
                self.linked(file, line.number, record, body, link);
            }
            (Ok(_), None) if file.last.is_some() => {
                file.pending.push((line.number, "the record has no link to the one before it in the file".to_owned()));
                file.keep(line);
            }
            (Ok(_), None) => {}
            (Err(why), _) => {
                if !empty {
                    file.pending.push((line.number, format!("not a record: {why}")));
                }
                file.keep(line);
            }
        }
        if let Ok(record) = &record {
            let time = text(record, "time").parse::<jiff::Timestamp>().ok();
            self.first = [self.first, time].into_iter().flatten().min();
            self.of_run(file, line, record);
        }
    }

    /// A record with a place in the chain of its file.
    fn linked(&mut self, file: &mut File, number: u64, record: &Record, body: &[u8], link: Link) {
        self.verdict.linked += 1;
        let after = record.get("after").and_then(Value::as_object);
        let what = after.map_or("", |after| text(after, "what"));
        let named = after.and_then(|after| {
            let digest = text(after, "last").to_owned();
            (digest.len() == 64).then(|| Link { n: count(after, "last_n"), digest })
        });
        let name = file.name.clone();
        let here = |what: String| Finding { file: name.clone(), line: number, what };
        let mut problems = Vec::new();
        let first = file.last.is_none();
        if !first && matches!(what, "start" | "rotation" | "unlinked") {
            problems.push(here("a new chain begins here, though the file has records before it".to_owned()));
        }
        let before = match what {
            "start" | "unlinked" => None,
            "rotation" => {
                let from = after.map_or("", |after| text(after, "file"));
                match &named {
                    Some(named) => {
                        let what =
                            format!("the file goes on from record {} of {}, which is not among those read here", named.n, visible(from));
                        self.follows.push((here(what), named.clone()));
                    }
                    None => self.verdict.notes.push(here(format!(
                        "the file comes after {}, which could not be read then: there is no link to its last record",
                        visible(from)
                    ))),
                }
                named
            }
            "truncated" => {
                let bytes = after.map_or(0, |after| count(after, "bytes"));
                let what = if bytes == 0 { "emptied".to_owned() } else { format!("cut to {bytes} bytes") };
                let n = named.as_ref().map_or(0, |named| named.n);
                problems.push(here(format!("the file was {what} while a run went on: records up to {n} had been there")));
                file.continued = true;
                if let Some(named) = named.as_ref().filter(|named| bytes == 0 && self.seen.contains(&beginning(&named.digest))) {
                    // They are all in a copy that was read before: what `copytruncate` of logrotate does when nothing falls in between.
                    problems.pop();
                    self.verdict.notes.push(here(format!("the file was emptied after record {}, which is in a file read before", named.n)));
                }
                named
            }
            _ if first => {
                problems.push(here("records before this one are missing: it does not say that it is the first of its file".to_owned()));
                None
            }
            _ => file.last.clone(),
        };
        match what {
            "unlinked" if first => {
                self.verdict.notes.push(here("the chain begins here; what stands before it was written without one".to_owned()));
            }
            "torn" | "foreign" => {
                let same = after.is_some_and(|after| file.is_rest(count(after, "bytes"), text(after, "sha256")));
                if same && what == "torn" && file.looks_like_a_record() {
                    let bytes = file.rest_bytes - 1;
                    let line = file.pending.first().map_or(number, |(line, _)| *line);
                    let what = format!("{bytes} bytes of a record that was cut: a crash or a full disk. The next writer noted them");
                    self.verdict.notes.push(Finding { line, ..here(what) });
                    file.forget();
                } else if same {
                    problems.push(here(format!(
                        "{} bytes before this record are no linked records: something else wrote them",
                        file.rest_bytes
                    )));
                } else {
                    problems.push(here("what stands before this record is not what was there when it was written".to_owned()));
                }
            }
            _ => {}
        }
        self.flush(file);
        // Numbers are whatever somebody wrote.
        let next = |before: &Link| before.n.saturating_add(1);
        let gap = before.as_ref().is_some_and(|before| link.n != next(before));
        if let Some(before) = before.as_ref().filter(|_| gap) {
            problems.push(here(match link.n.checked_sub(next(before)) {
                Some(missing) if missing > 0 => format!("{missing} records are missing before this one, number {}", link.n),
                _ => format!("record {} was expected, this is {}", next(before), link.n),
            }));
        }
        // After a gap the link before is unknown, so only the gap is reported.
        let known = !gap && (before.is_some() || matches!(what, "start" | "unlinked" | "rotation"));
        let previous = before.as_ref().map_or("", |before| &before.digest);
        if known && std::str::from_utf8(body).map(|body| super::link(previous, body)) != Ok(link.digest.clone()) {
            problems.push(here(format!("record {} was changed, or the one before it in the file", link.n)));
        }
        self.verdict.problems.append(&mut problems);
        self.verdict.unanchored += 1;
        if let Some(found) = self.wanted.get_mut(&link.digest) {
            *found = true;
            self.verdict.unanchored = 0;
        }
        self.seen.insert(beginning(&link.digest));
        file.last = Some(link);
    }

    /// A record as a part of its run.
    fn of_run(&mut self, file: &File, line: &Line<'_>, record: &Record) {
        // Anchors are about the file, not the run.
        let Some(seq) = record.get("seq").and_then(Value::as_u64) else { return };
        let mut wrong = |what: String| self.verdict.problems.push(Finding { file: file.name.clone(), line: line.number, what });
        let id = text(record, "run");
        let new = !self.runs.contains_key(id);
        let run = self.runs.entry(id.to_string()).or_default();
        if text(record, "how") == super::record::UNKNOWN {
            // Another process wrote it, with a chain of its own, which has this one link.
            if line.bytes.and_then(chained).is_some_and(|(body, chain)| super::link("", body) != chain) {
                wrong(format!("run {}: the record of its unknown end was changed", visible(id)));
            }
            // An account can have such a record made of any id, so it counts for runs of that account only.
            let uid = record.get("uid").and_then(Value::as_u64);
            if run.uid.is_none() || run.uid == uid {
                run.ended = true;
            } else {
                wrong(format!("run {}: the record of its unknown end is of another account", visible(id)));
            }
            return;
        }
        // The run goes on from a file that was emptied: its first records are where that went.
        let gap = seq != run.next && !(new && file.continued);
        if gap {
            wrong(format!("run {}: record {} was expected, this is {seq}", visible(id), run.next));
        }
        if let Some((body, chain)) = line.bytes.and_then(chained) {
            // After a gap the link before is unknown, so only the gap is reported.
            if seq == run.next && super::link(&run.chain, body) != chain {
                wrong(format!("run {}: record {seq} was changed, or the one before it", visible(id)));
            }
            run.chain = chain.to_string();
        } else if !run.chain.is_empty() {
            wrong(format!("run {}: record {seq} has no link to the one before it", visible(id)));
        }
        run.next = seq.saturating_add(1);
        run.uid = record.get("uid").and_then(Value::as_u64);
        run.pid = record.get("pid").and_then(Value::as_i64).unwrap_or(0);
        run.ended |= match text(record, "event") {
            "run_end" | "refused" | "note" => true,
            // The owner's change is one record; a run that sees one goes on.
            "policy_change" => text(record, "what") != "seen",
            _ => false,
        };
    }

    /// What is wrong with lines that nobody noted.
    fn flush(&mut self, file: &mut File) {
        let name = &file.name;
        self.verdict.problems.extend(file.pending.drain(..).map(|(line, what)| Finding { file: name.clone(), line, what }));
        file.forget();
    }

    /// The verdict over all files.
    #[must_use]
    pub fn finish(mut self) -> Verdict {
        for (finding, link) in self.follows {
            if !self.seen.contains(&beginning(&link.digest)) {
                self.verdict.notes.push(finding);
            }
        }
        for anchor in &self.expected {
            if self.wanted.get(&anchor.link) == Some(&true) {
                self.verdict.anchored += 1;
            } else if self.first.is_none() || anchor.time.is_none() || anchor.time >= self.first {
                let time = anchor.time.map_or_else(String::new, |time| format!(" of {time}"));
                let what = format!(
                    "the anchor{time} (run {}, record {}) is not in it: that record or one before it was removed or changed",
                    visible(&anchor.run),
                    anchor.n
                );
                self.verdict.problems.push(Finding { file: visible(&anchor.file), line: 0, what });
            } else {
                self.verdict.older_anchors += 1;
            }
        }
        let mut verdict = self.verdict;
        verdict.runs = self.runs.len() as u64;
        verdict.unfinished = self.runs.into_iter().filter(|(_, run)| !run.ended).map(|(id, run)| (visible(&id), run.pid)).collect();
        verdict.unfinished.sort();
        verdict
    }
}

impl File {
    fn keep(&mut self, line: &Line<'_>) {
        let bytes = line.bytes.unwrap_or(&[]);
        self.rest_bytes += bytes.len() as u64 + 1;
        if line.bytes.is_some() && self.rest.len() + bytes.len() < KEPT {
            self.rest.extend_from_slice(bytes);
            self.rest.push(b'\n');
        } else {
            // Longer than what any writer notes.
            self.rest_bytes += KEPT as u64;
        }
    }
    fn forget(&mut self) {
        self.pending.clear();
        self.rest.clear();
        self.rest_bytes = 0;
    }
    /// Whether these are the bytes that a writer noted; where no newline ended them it added one.
    fn is_rest(&self, bytes: u64, sha256: &str) -> bool {
        let noted = usize::try_from(bytes).ok().and_then(|bytes| self.rest.get(..bytes));
        (self.rest_bytes == bytes || self.rest_bytes == bytes + 1) && noted.is_some_and(|noted| hex_sha256(noted) == sha256)
    }
    /// Whether all of it is the beginning of one record.
    fn looks_like_a_record(&self) -> bool {
        const HEAD: &[u8] = b"{\"schema\":\"rex.audit/";
        let line = self.rest.strip_suffix(b"\n").unwrap_or(&self.rest);
        let same = line.len().min(HEAD.len());
        !line.contains(&b'\n') && line.get(..same) == HEAD.get(..same)
    }
}

fn beginning(digest: &str) -> u64 {
    digest.get(..16).and_then(|head| u64::from_str_radix(head, 16).ok()).unwrap_or(0)
}

/// A line's text before the link of its run, and that link.
fn chained(line: &[u8]) -> Option<(&str, &str)> {
    let line = std::str::from_utf8(line).ok()?;
    let (body, rest) = line.rsplit_once(",\"chain\":\"")?;
    let (chain, rest) = rest.split_at_checked(64)?;
    // What follows is what the file adds.
    (rest.starts_with("\"}") || rest.starts_with("\",\"after\":") || rest.starts_with("\",\"n\":")).then_some((body, chain))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unknown_end_counts_for_runs_of_its_own_account_only() {
        let record = |run: &str, seq: u64, event: &str, uid: u32, more: &str| {
            format!("{{\"schema\":\"rex.audit/1\",\"seq\":{seq},\"event\":\"{event}\",\"run\":\"{run}\",\"pid\":7,\"uid\":{uid}{more}}}\n")
        };
        let start = record("r-1", 0, "run_start", 1000, "") + record("r-1", 1, "decision", 1000, "").as_str();
        let end = |uid| record("r-1", 0, "run_end", uid, ",\"how\":\"unknown\",\"found_by\":\"r-2\"");
        let verdict = |text: String| verify(text.as_bytes()).unwrap();
        let own = verdict(start.clone() + end(1000).as_str());
        assert!(own.unfinished.is_empty() && own.problems.is_empty(), "{own:?}");
        let forged = verdict(start + end(1001).as_str());
        assert_eq!((forged.unfinished.len(), forged.problems.len()), (1, 1));
        // Its start may have been rotated away.
        let alone = verdict(end(1001));
        assert!(alone.unfinished.is_empty() && alone.problems.is_empty(), "{alone:?}");
    }
}
