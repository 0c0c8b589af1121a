//! The reader against files that systemd-journald 252 wrote (compact and keyed; keyed; neither) and what `journalctl -o json --all` says about them; and against damage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use serde_json::Value;
use std::io::Write as _;

const COMPACT: (&[u8], &[u8]) = (include_bytes!("testdata/compact.journal.zst"), include_bytes!("testdata/compact.json.zst"));
const KEYED: (&[u8], &[u8]) = (include_bytes!("testdata/keyed.journal.zst"), include_bytes!("testdata/keyed.json.zst"));
const PLAIN: (&[u8], &[u8]) = (include_bytes!("testdata/plain.journal.zst"), include_bytes!("testdata/plain.json.zst"));
const ALL: [(&[u8], &[u8]); 3] = [COMPACT, KEYED, PLAIN];

fn bytes(packed: &[u8]) -> Vec<u8> {
    zstd::stream::decode_all(packed).unwrap()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn journal(packed: &[&[u8]]) -> Journal {
    Journal::of_files(packed.iter().map(|packed| file(&bytes(packed))).collect())
}

fn expected(packed: &[u8]) -> Vec<Value> {
    String::from_utf8(bytes(packed)).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn read(journal: &Journal, query: &Query) -> Vec<Entry> {
    let found = journal.read(query, &|| Ok(())).unwrap();
    assert_eq!(found.faults, 0);
    found.entries
}

fn with(filters: Vec<Filter>) -> Query {
    Query { filters, ..Query::default() }
}

/// The one value of a field, as text.
fn text(entry: &Entry, name: &str) -> String {
    entry.fields.iter().find(|(field, _)| field == name).map_or_else(String::new, |(_, value)| String::from_utf8_lossy(value).into_owned())
}

fn cursors(values: &[Value], holds: impl Fn(&Value) -> bool) -> Vec<String> {
    values.iter().filter(|value| holds(value)).map(|value| value["__CURSOR"].as_str().unwrap().to_owned()).collect()
}

fn cursors_of(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.cursor.to_string()).collect()
}

/// A field of journalctl's JSON as bytes: a string, or numbers where it is not text.
fn json_bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(numbers) => numbers.iter().map(|number| number.as_u64().unwrap() as u8).collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn every_entry_and_every_field_is_as_journalctl_shows_it() {
    for (packed, json) in ALL {
        let (entries, expected) = (read(&journal(&[packed]), &Query::default()), expected(json));
        assert_eq!(entries.len(), expected.len());
        for (entry, expected) in entries.iter().zip(&expected) {
            let expected = expected.as_object().unwrap();
            assert_eq!(entry.cursor.to_string(), expected["__CURSOR"].as_str().unwrap());
            assert_eq!(entry.realtime_us.to_string(), expected["__REALTIME_TIMESTAMP"].as_str().unwrap());
            assert_eq!(entry.monotonic_us.to_string(), expected["__MONOTONIC_TIMESTAMP"].as_str().unwrap());
            assert_eq!(Value::String(entry.boot_id.clone()), expected["_BOOT_ID"]);
            let own = expected.keys().filter(|name| !name.starts_with("__")).count();
            let names: std::collections::BTreeSet<_> = entry.fields.iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), own);
            for (name, value) in &entry.fields {
                if entry.fields.iter().filter(|(other, _)| other == name).count() == 1 {
                    assert_eq!(*value, json_bytes(&expected[name.as_str()]), "{name}");
                }
            }
            assert!(entry.cut.is_empty());
        }
    }
}

#[test]
fn the_log_of_a_unit_is_what_it_wrote_and_what_pid_1_says_but_nothing_forged() {
    for (packed, json) in ALL {
        let unit = "rextest-ok.service";
        let entries = read(&journal(&[packed]), &with(vec![Filter::unit(unit)]));
        let wanted = cursors(&expected(json), |value| value["_SYSTEMD_UNIT"] == unit || (value["_PID"] == "1" && value["UNIT"] == unit));
        assert_eq!(cursors_of(&entries), wanted);
        let messages: Vec<_> = entries.iter().map(|entry| text(entry, "MESSAGE")).collect();
        assert!(messages.iter().any(|message| message == "started"), "{messages:?}");
        assert!(messages.iter().any(|message| message.starts_with("Started rextest-ok.service")), "{messages:?}");
        assert!(messages.iter().all(|message| message != "forged"), "another process wrote UNIT= itself");
        assert!(read(&journal(&[packed]), &Query::default()).iter().any(|entry| text(entry, "MESSAGE") == "forged"), "it is there");
    }
}

#[test]
fn filters_hold_together_and_a_value_that_never_occurs_finds_nothing() {
    for (packed, json) in ALL {
        let journal = journal(&[packed]);
        let priority = Filter::Any((0..=3).map(|level| Filter::has("PRIORITY", level)).collect());
        let entries = read(&journal, &with(vec![priority.clone(), Filter::has("SYSLOG_IDENTIFIER", "app1")]));
        let low = |value: &Value| value["PRIORITY"].as_str().is_some_and(|level| level <= "3");
        let wanted = cursors(&expected(json), |value| low(value) && value["SYSLOG_IDENTIFIER"] == "app1");
        assert_eq!(cursors_of(&entries), wanted);
        assert!(wanted.len() >= 5);
        assert!(read(&journal, &with(vec![priority, Filter::has("SYSLOG_IDENTIFIER", "nobody")])).is_empty());
    }
}

#[test]
fn the_newest_lines_come_in_the_order_asked_for() {
    for (packed, json) in ALL {
        let (journal, all) = (journal(&[packed]), cursors(&expected(json), |_| true));
        let last = |count: usize, reverse| cursors_of(&read(&journal, &Query { lines: count, reverse, ..Query::default() }));
        assert_eq!(last(5, false), all[all.len() - 5..]);
        let mut backwards = all[all.len() - 5..].to_vec();
        backwards.reverse();
        assert_eq!(last(5, true), backwards);
        assert!(journal.read(&Query { lines: 5, ..Query::default() }, &|| Ok(())).unwrap().limited);
        assert!(!journal.read(&Query { lines: all.len(), ..Query::default() }, &|| Ok(())).unwrap().limited);
    }
}

#[test]
fn a_cursor_goes_on_where_the_last_page_ended() {
    for (packed, json) in ALL {
        let (journal, all) = (journal(&[packed]), cursors(&expected(json), |_| true));
        for reverse in [false, true] {
            let mut wanted = all.clone();
            let start = Cursor::parse(&all[if reverse { all.len() - 1 } else { 0 }]).unwrap();
            if reverse {
                wanted.reverse();
            }
            let (mut cursor, mut seen) = (start, vec![start.to_string()]);
            loop {
                let page = read(&journal, &Query { cursor: Some(cursor), reverse, lines: 7, ..Query::default() });
                let Some(last) = page.last() else { break };
                assert!(page.len() <= 7);
                cursor = last.cursor;
                seen.extend(cursors_of(&page));
            }
            assert_eq!(seen, wanted);
        }
    }
}

#[test]
fn since_counts_and_before_does_not() {
    for (packed, json) in ALL {
        let (journal, values) = (journal(&[packed]), expected(json));
        let time = |value: &Value| value["__REALTIME_TIMESTAMP"].as_str().unwrap().parse::<u64>().unwrap();
        let (since, before) = (time(&values[10]), time(&values[30]));
        let entries = read(&journal, &Query { since_us: Some(since), before_us: Some(before), ..Query::default() });
        assert_eq!(cursors_of(&entries), cursors(&values, |value| (since..before).contains(&time(value))));
        assert!(read(&journal, &Query { since_us: Some(before + 1_000_000_000), ..Query::default() }).is_empty());
        assert!(read(&journal, &Query { before_us: Some(1), ..Query::default() }).is_empty());
    }
}

#[test]
fn several_files_are_one_journal_in_time_and_doubles_are_one() {
    let order = |entries: &[Entry]| entries.iter().map(|entry| entry.realtime_us).collect::<Vec<_>>();
    let merged = read(&journal(&[PLAIN.0, COMPACT.0, KEYED.0]), &Query::default());
    assert_eq!(merged.len(), ALL.iter().map(|(_, json)| expected(json).len()).sum::<usize>());
    assert!(order(&merged).is_sorted());
    assert_eq!(read(&journal(&[PLAIN.0, PLAIN.0]), &Query::default()), read(&journal(&[PLAIN.0]), &Query::default()));
}

#[test]
fn messages_are_searched_whole_even_when_their_field_is_not_returned() {
    for (packed, _) in ALL {
        let journal = journal(&[packed]);
        let grep = |pattern: &str| Query {
            grep: Some(regex::bytes::Regex::new(pattern).unwrap()),
            fields: Some(vec!["NUMBER".to_owned()]),
            ..Query::default()
        };
        let entries = read(&journal, &grep("^line 1[0-9] of 40$"));
        assert_eq!(
            entries.iter().map(|entry| text(entry, "NUMBER")).collect::<Vec<_>>(),
            (10..20).map(|n| n.to_string()).collect::<Vec<_>>()
        );
        assert!(entries.iter().all(|entry| entry.fields.len() == 1));
        assert_eq!(read(&journal, &grep("(abcdefghij){500}$")).len(), 1, "a compressed field");
    }
}

#[test]
fn long_fields_are_cut_and_the_cut_is_said() {
    for (packed, _) in ALL {
        let query = Query { max_field: 100, filters: vec![Filter::has("SYSLOG_IDENTIFIER", "long")], ..Query::default() };
        let entries = read(&journal(&[packed]), &query);
        assert_eq!(text(&entries[0], "MESSAGE").len(), 100);
        assert_eq!(entries[0].cut, ["MESSAGE"]);
        let few = journal(&[packed]).read(&Query { max_bytes: 3000, ..Query::default() }, &|| Ok(())).unwrap();
        assert!(few.limited && !few.entries.is_empty() && few.entries.len() < 20);
    }
}

#[test]
fn boots_are_listed_from_the_index() {
    for (packed, json) in ALL {
        let values = expected(json);
        let time = |value: &Value| value["__REALTIME_TIMESTAMP"].as_str().unwrap().parse::<u64>().unwrap();
        let boots = journal(&[packed]).boots(&|| Ok(())).unwrap();
        let boot = Boot {
            id: values[0]["_BOOT_ID"].as_str().unwrap().to_owned(),
            first_us: time(&values[0]),
            last_us: time(values.last().unwrap()),
        };
        assert_eq!(boots, [boot]);
    }
}

#[test]
fn a_run_that_has_to_stop_ends_the_reading() {
    let stop = || Err(Error::new(Kind::Deadline, "over"));
    assert_eq!(journal(&[PLAIN.0]).read(&Query::default(), &stop).unwrap_err().kind, Kind::Deadline);
    assert_eq!(journal(&[PLAIN.0]).boots(&stop).unwrap_err().kind, Kind::Deadline);
}

#[test]
fn cursors_are_read_whole_or_refused() {
    let good = "s=0123456789abcdef0123456789abcdef;i=1f;b=0123456789abcdef0123456789abcdef;m=2;t=3;x=4";
    assert_eq!(Cursor::parse(good).unwrap().to_string(), good);
    for bad in ["", "s=1", &good[1..], &format!("{good};y=1"), &good.replace("i=1f", "i=xyz"), &good.replace("i=1f", "i=-1")] {
        assert_eq!(Cursor::parse(bad).unwrap_err().kind, Kind::BadArgument, "{bad}");
    }
}

#[test]
fn what_is_no_journal_file_is_counted_and_passed_over() {
    let whole = bytes(COMPACT.0);
    let mut unknown = whole.clone();
    unknown[12] |= 0x40;
    let journal = Journal::of_files(vec![file(b""), file(b"hello"), file(&[0; 4096]), file(&unknown), file(&whole)]);
    assert_eq!((journal.files(), journal.unusable), (1, 4));
    assert_eq!(read(&journal, &Query::default()).len(), expected(COMPACT.1).len());
}

/// Everything a reader does, on a file that may be damaged in any way: it has to end, within bounds, without a panic.
fn use_all(bytes: &[u8]) -> (usize, u64) {
    let journal = Journal::of_files(vec![file(bytes)]);
    let steps = std::cell::Cell::new(0_u64);
    let check = || {
        steps.set(steps.get() + 1);
        if steps.get() > 200_000 { Err(Error::new(Kind::Internal, "it does not end")) } else { Ok(()) }
    };
    let all = journal.read(&Query::default(), &check).unwrap();
    for query in [
        with(vec![Filter::unit("rextest-ok.service")]),
        Query { reverse: true, since_us: Some(1), before_us: Some(u64::MAX), ..Query::default() },
    ] {
        journal.read(&query, &check).unwrap();
    }
    if let Some(entry) = all.entries.first() {
        journal.read(&Query { cursor: Some(entry.cursor), ..Query::default() }, &check).unwrap();
    }
    journal.boots(&check).unwrap();
    (all.entries.len(), all.faults)
}

#[test]
fn a_file_that_is_cut_short_gives_what_is_left_and_counts_the_rest() {
    for (packed, json) in ALL {
        let whole = bytes(packed);
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
        let total = expected(json).len();
        let (few, faults) = use_all(&whole[..used * 3 / 4]);
        assert!(few < total && faults > 0, "{few} of {total}, {faults} faults");
        for cut in [0, 100, 207, 208, 300, 4096, used / 2] {
            use_all(&whole[..cut]);
        }
    }
}

#[test]
fn no_damage_makes_the_reader_loop_or_panic() {
    // A small generator of the same numbers each time (Knuth's MMIX).
    let mut state = 42_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for (packed, _) in ALL {
        let whole = bytes(packed);
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
        let objects = used - used / 50;
        for round in 0..40 {
            let mut damaged = whole[..used + 1].to_vec();
            for _ in 0..(1 << (round % 8)) {
                // Half of it in the header and near the end, where the objects are.
                let at = if random(4) == 0 { random(272) } else { objects + random(used - objects) };
                damaged[at] = if random(2) == 0 { random(256) as u8 } else { damaged[at] ^ (1 << random(8)) };
            }
            damaged[..8].copy_from_slice(b"LPKSHHRH");
            use_all(&damaged);
        }
    }
}
