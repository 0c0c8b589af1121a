//! Functions on the journal that wait for entries or make room.

use super::function::{Call, Example, Function, param, with1, with2};
use super::journal::{Choice, Level, Moment, ReadLog, Wanted, warn};
use super::value::{Dynamic, FnPtr, FromScript, IntoScript, Map, OptionRow, record};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, ask};
use crate::resource::journal::{LOG, Log};
use crate::sys::journal::{Bounds, Cursor, Query, vacuum};
use std::time::{Duration, Instant};

pub const FUNCTIONS: &[Function] = &[JOURNAL_FOLLOW, JOURNAL_VACUUM];

/// `journal::Action::"vacuum"`: remove old entries.
pub enum Vacuum {}
impl Action for Vacuum {
    type On = Log;
    const NAMESPACE: &'static str = "journal";
    const NAME: &'static str = "vacuum";
    const APPLIES_TO: &'static [&'static str] = &[LOG.name];
    // What is in the journal is evidence, rex's own records too: no policy about all that changes things gives it away by the way.
    const GROUPS: &'static [&'static str] = &[];
    const DOC: &'static str = "Remove the oldest entries, with every log that is in them, to make room.";
    const ACCESS: Access = Access::Change;
}

/// The shortest time between two looks.
const SHORTEST_POLL: Duration = Duration::from_millis(50);
/// Entries taken at a time.
const AT_ONCE: usize = 1000;

options! {
    /// Options of `journal_follow`.
    JournalFollowOptions {
        unit: Vec<String> = Vec::new(), "The log of this unit, or of these; `nginx` means `nginx.service`. Not an alias.";
        kernel: bool = false, "The kernel's log.";
        priority: Option<Level> = None, "Only entries at least so important.";
        grep: Option<String> = None, "Only entries in whose message this regular expression is found; `(?i)` in front ignores case.";
        pid: Option<u64> = None, "Only from this process.";
        identifier: Vec<String> = Vec::new(), "Only with this syslog identifier (which a program chooses itself).";
        fields: Vec<String> = Vec::new(), "Also give these fields as they are, in `fields` of each entry; `*` gives all.";
        seconds: Duration = Duration::from_secs(10), "How long; it must fit in the time that the run has left.";
        lines: u64 = 0, "Begin with so many of the last entries that are there.";
        cursor: Option<String> = None, "Begin after the entry with this cursor instead.";
        max_entries: Option<u64> = None, "End after so many entries.";
        poll: Duration = Duration::from_millis(250), "How often to look when nothing happens, in seconds; at least 0.05.";
    }
}

/// The first argument of `journal_follow`: `journal_follow(|entry| …)` leaves the options out.
enum How {
    Options(Box<JournalFollowOptions>),
    Each(FnPtr),
}

impl FromScript for How {
    const TYPE: &'static str = JournalFollowOptions::TYPE;
    const OPTIONS: Option<&'static [OptionRow]> = JournalFollowOptions::OPTIONS;
    fn absent() -> Option<Self> {
        JournalFollowOptions::absent().map(|options| Self::Options(Box::new(options)))
    }
    fn from_script(value: Dynamic) -> Result<Self> {
        match value.clone().try_cast::<FnPtr>() {
            Some(each) => Ok(Self::Each(each)),
            None => JournalFollowOptions::from_script(value).map(|options| Self::Options(Box::new(options))),
        }
    }
}

const JOURNAL_FOLLOW: Function = Function {
    name: "journal_follow",
    doc: "Waits for entries of the journal and gives each to the closure, as `journalctl -f` does.\n\nEntries are maps as [journal] gives them, and the policy is asked as by [journal], when it begins and whenever the policies change. It ends after `seconds`, after `max_entries`, or when the closure returns `false`.\n\nA map: `entries` (how many), `stopped` (`seconds`, `limit` or `closure`), and `cursor`, from which another call goes on without a gap.",
    body: &with2(journal_follow, [param("options", ""), param("each", "Called with each entry; ends the call by returning `false`.")]),
    asks: &[ask::<ReadLog>()],
    fails: &[Kind::Permission, Kind::Unsupported],
    examples: &[
        Example {
            given: &[],
            script: r#"journal_follow(#{unit: "dbus", lines: 1, seconds: 0.1}, |entry| { print(entry.message); }).stopped"#,
            gives: "",
        },
        Example { given: &[], script: "journal_follow(#{priority: \"err\", seconds: 0.1}).entries", gives: "" },
    ],
};

options! {
    /// Options of `journal_vacuum`.
    JournalVacuumOptions {
        size: Option<u64> = None, "Until archived files take no more than so many bytes.";
        before: Option<Moment> = None, "Files whose first entry is older than this moment.";
        files: Option<u64> = None, "Until there are no more than so many archived files.";
    }
}

const JOURNAL_VACUUM: Function = Function {
    name: "journal_vacuum",
    doc: "Makes room by removing archived files of the journal, the oldest first, as `journalctl --vacuum-…` does.\n\nAt least one option is needed; with several all of them hold afterwards. Files that journald is writing stay, so the newest entries do. What is removed is gone for every log, rex's own records in the journal too.\n\nA map: `changed`, `files` and `bytes` (removed), `left_files` and `left_bytes` (archived files that are left). Asks for `vacuum` on `journal::Log::\"system\"`.",
    body: &with1(journal_vacuum, [param("options", "")]),
    asks: &[ask::<Vacuum>()],
    fails: &[Kind::Permission, Kind::Unsupported, Kind::ReadOnly],
    examples: &[Example { given: &[], script: "journal_vacuum(#{files: 1000000}).changed", gives: "" }],
};

fn journal_follow(call: &Call<'_>, how: How, each: Option<FnPtr>) -> Result<Map> {
    let (options, each) = match (how, each) {
        (How::Options(options), each) => (*options, each),
        (How::Each(each), None) => (JournalFollowOptions::default(), Some(each)),
        (How::Each(_), Some(_)) => return Err(bad_argument("journal_follow: options: expected a map of options, got closure")),
    };
    let left = call.host.watch.remaining();
    if options.seconds > left {
        return Err(bad_argument(format!(
            "journal_follow: option `seconds`: {} is more than the run has left ({:.1})",
            options.seconds.as_secs_f64(),
            left.as_secs_f64()
        )));
    }
    if options.cursor.is_some() && options.lines > 0 {
        return Err(bad_argument("journal_follow: `lines` and `cursor` exclude each other"));
    }
    let end = Instant::now() + options.seconds;
    let choice = Choice {
        unit: &options.unit,
        kernel: options.kernel,
        priority: options.priority,
        grep: options.grep.as_deref(),
        pid: options.pid,
        identifier: &options.identifier,
        fields: &options.fields,
    };
    let mut following = Following {
        wanted: Wanted::ask(call, &choice)?,
        call,
        each,
        most: options.max_entries.unwrap_or(u64::MAX),
        cursor: options.cursor.as_deref().map(Cursor::parse).transpose()?,
        entries: 0,
        faults: 0,
    };
    let stopped = following.run(options.lines, options.poll, end)?;
    warn(call, "damaged places in the journal passed over", following.faults)?;
    Ok(record([
        ("entries", following.entries.into_script()),
        ("stopped", stopped.into_script()),
        ("cursor", following.cursor.map(|cursor| cursor.to_string()).into_script()),
    ]))
}

/// One `journal_follow` under way.
struct Following<'c, 'h> {
    call: &'c Call<'h>,
    wanted: Wanted,
    each: Option<FnPtr>,
    most: u64,
    /// The last entry that was looked at, whether or not it was wanted.
    cursor: Option<Cursor>,
    entries: u64,
    faults: u64,
}

impl Following<'_, '_> {
    /// Why it ended.
    fn run(&mut self, lines: u64, poll: Duration, end: Instant) -> Result<&'static str> {
        if self.most == 0 {
            return Ok("limit");
        }
        if self.cursor.is_none()
            && let Some(why) = self.begin(lines)?
        {
            return Ok(why);
        }
        loop {
            self.wanted.still(self.call)?;
            if let Some(why) = self.look()? {
                return Ok(why);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok("seconds");
            }
            self.call.host.watch.sleep(poll.max(SHORTEST_POLL).min(left))?;
        }
    }

    /// The entries that are there already, and where it goes on from.
    fn begin(&mut self, lines: u64) -> Result<Option<&'static str>> {
        let journal = self.wanted.open()?;
        self.cursor = journal.tip(&|| self.call.check())?;
        if lines == 0 {
            return Ok(None);
        }
        let query = Query { lines: usize::try_from(lines).unwrap_or(usize::MAX), ..self.wanted.query() };
        let found = self.wanted.read(self.call, &journal, &query)?;
        self.faults += found.faults;
        for entry in &found.entries {
            if let Some(why) = self.give(entry)? {
                self.cursor = Some(entry.cursor);
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    /// What came since the last look. The files are opened anew each time: journald rotates them.
    fn look(&mut self) -> Result<Option<&'static str>> {
        let journal = self.wanted.open()?;
        let tip = journal.tip(&|| self.call.check())?;
        loop {
            let query = Query { cursor: self.cursor, lines: AT_ONCE, ..self.wanted.query() };
            let found = self.wanted.read(self.call, &journal, &query)?;
            self.faults += found.faults;
            for entry in &found.entries {
                self.cursor = Some(entry.cursor);
                if let Some(why) = self.give(entry)? {
                    return Ok(Some(why));
                }
            }
            if !found.limited {
                break;
            }
        }
        // What was passed over because it is not wanted is not looked at again.
        if let Some(tip) = tip
            && self.cursor.is_none_or(|cursor| cursor.is_before(&tip))
        {
            self.cursor = Some(tip);
        }
        Ok(None)
    }

    fn give(&mut self, entry: &crate::sys::journal::Entry) -> Result<Option<&'static str>> {
        self.entries += 1;
        let answer = match &self.each {
            Some(each) => self.call.invoke(each, vec![self.wanted.show(entry)])?,
            None => Dynamic::UNIT,
        };
        Ok(match () {
            () if matches!(answer.as_bool(), Ok(false)) => Some("closure"),
            () if self.entries >= self.most => Some("limit"),
            () => None,
        })
    }
}

fn journal_vacuum(call: &Call<'_>, options: JournalVacuumOptions) -> Result<Map> {
    let bounds = Bounds { bytes: options.size, since_us: options.before.map(|moment| moment.0), files: options.files };
    if bounds.bytes.is_none() && bounds.since_us.is_none() && bounds.files.is_none() {
        return Err(bad_argument("journal_vacuum: one of `size`, `before` and `files` is needed: else nothing says what may stay"));
    }
    let granted = call.permit::<Vacuum>(Log::System)?;
    let check = || call.check();
    let done = call.effect(&granted, || vacuum(&granted, bounds, &check), |done| (done.bytes, format!("{} files removed", done.files)))?;
    Ok(record([
        ("changed", (done.files > 0).into_script()),
        ("files", done.files.into_script()),
        ("bytes", done.bytes.into_script()),
        ("left_files", done.left_files.into_script()),
        ("left_bytes", done.left_bytes.into_script()),
    ]))
}
