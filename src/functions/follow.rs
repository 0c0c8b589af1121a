//! Following a file that grows, through rotations: follow.

use super::file_read::Read;
use super::function::{Call, Example, Function, param, with3};
use super::lines::{pattern, shown, size};
use super::value::{Dynamic, FnPtr, FromScript, IntoScript, Map, OptionRow, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Granted, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys::follow::{Growing, Look};
use regex::Regex;
use std::time::{Duration, Instant};

pub const FUNCTIONS: &[Function] = &[FOLLOW];

/// The shortest time between two looks.
const SHORTEST_POLL: Duration = Duration::from_millis(10);

options! {
    /// Options of `follow`.
    FollowOptions {
        seconds: Duration = Duration::from_secs(10), "How long; it must fit in the time that the run has left.";
        stop_at: Option<String> = None, "End after a line that this regular expression matches.";
        from_end: u64 = 0, "Begin so many lines before the end that the file has now.";
        max_lines: Option<u64> = None, "End after so many lines.";
        poll: Duration = Duration::from_millis(150), "How often to look when nothing happens, in seconds; at least 0.01.";
        max_line: u64 = 1 << 20, "Fail with `too_large` when a line is more bytes than this.";
        lossy: bool = false, "Show bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

/// The second argument of `follow`: `follow(path, |line| …)` leaves the options out.
enum How {
    Options(Box<FollowOptions>),
    Each(FnPtr),
}

impl FromScript for How {
    const TYPE: &'static str = FollowOptions::TYPE;
    const OPTIONS: Option<&'static [OptionRow]> = FollowOptions::OPTIONS;
    fn absent() -> Option<Self> {
        FollowOptions::absent().map(|options| Self::Options(Box::new(options)))
    }
    fn from_script(value: Dynamic) -> Result<Self> {
        match value.clone().try_cast::<FnPtr>() {
            Some(each) => Ok(Self::Each(each)),
            None => FollowOptions::from_script(value).map(|options| Self::Options(Box::new(options))),
        }
    }
}

const FOLLOW: Function = Function {
    name: "follow",
    doc: "Waits for lines that are added to a file and gives each to the closure, as `tail -F` does.\n\nIt ends after `seconds`, after `max_lines`, after a line that `stop_at` matches, or when the closure returns `false`. \
          A file that is renamed or replaced is read to its end, then the new one of that name from its beginning, once the policy has permitted `read` on it; where it does not, the call ends with that. \
          A file that gets shorter is read from its beginning. A last line without an end is held until its end comes, or the call ends. Lines come without their ends, `\\n` or `\\r\\n`.\n\n\
          A map: `lines` (how many), `stopped` (`seconds`, `limit`, `stop_at` or `closure`), `rotations`, and `last`, the last line.",
    body: &with3(
        follow,
        [param("path", "The file."), param("options", ""), param("each", "Called with each line; ends the call by returning `false`.")],
    ),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::NotText, Kind::Permission, Kind::Io],
    examples: &[
        Example {
            given: &[("log", "a\nb\nready\n")],
            script: r#"follow(dir + "/log", #{from_end: 3, stop_at: "^ready"}).last"#,
            gives: r#""ready""#,
        },
        Example {
            given: &[("log", "a\nb\nc\n")],
            script: r#"let seen = []; follow(dir + "/log", #{from_end: 2, seconds: 5}, |line| { seen.push(line); line != "c" }); seen"#,
            gives: r#"["b", "c"]"#,
        },
        Example {
            given: &[("log", "a\n")],
            script: r#"follow(dir + "/log", #{seconds: 0.1})"#,
            gives: r#"#{lines: 0, stopped: "seconds", rotations: 0, last: ()}"#,
        },
    ],
};

fn follow(call: &Call<'_>, path: AbsPath, how: How, each: Option<FnPtr>) -> Result<Map> {
    let (options, each) = match (how, each) {
        (How::Options(options), each) => (*options, each),
        (How::Each(each), None) => (FollowOptions::default(), Some(each)),
        (How::Each(_), Some(_)) => return Err(bad_argument("follow: options: expected a map of options, got closure")),
    };
    let left = call.host.watch.remaining();
    if options.seconds > left {
        return Err(bad_argument(format!(
            "follow: option `seconds`: {} is more than the run has left ({:.1})",
            options.seconds.as_secs_f64(),
            left.as_secs_f64()
        )));
    }
    let stop_at = options
        .stop_at
        .as_deref()
        .map(|text| pattern(text, true, false))
        .transpose()
        .map_err(|error| Error { message: format!("follow: option `stop_at`: {}", error.message), ..error })?;
    let place = |error: Error| if error.path.is_none() { error.with_path(path.shown()) } else { error };
    let file = call.permit::<Read>(File::locate(&path)?)?;
    let check = || call.check();
    let growing = Growing::open(&file, Some(options.from_end), size(options.max_line), &check).map_err(place)?;
    let end = Instant::now() + options.seconds;
    let mut following =
        Following { call, path: &path, options: &options, each, stop_at, file, growing, lines: 0, rotations: 0, last: None };
    let stopped = following.run(end).map_err(place)?;
    Ok(record([
        ("lines", following.lines.into_script()),
        ("stopped", stopped.into_script()),
        ("rotations", following.rotations.into_script()),
        ("last", following.last.into_script()),
    ]))
}

/// One `follow` under way.
struct Following<'c, 'h> {
    call: &'c Call<'h>,
    path: &'c AbsPath,
    options: &'c FollowOptions,
    each: Option<FnPtr>,
    stop_at: Option<Regex>,
    file: Granted<Read>,
    growing: Growing,
    lines: u64,
    rotations: u64,
    last: Option<String>,
}

impl Following<'_, '_> {
    /// Why it ended.
    fn run(&mut self, end: Instant) -> Result<&'static str> {
        if self.options.max_lines == Some(0) {
            return Ok("limit");
        }
        loop {
            match self.drain(end)? {
                Some("seconds") => break,
                Some(why) => return Ok(why),
                None => {}
            }
            if let Some(next) = self.replaced()? {
                // What was written to the old one until it was left.
                match self.drain(end)? {
                    Some("seconds") | None => {}
                    Some(why) => return Ok(why),
                }
                if let Some(why) = self.unfinished()? {
                    return Ok(why);
                }
                self.rotations += 1;
                let file = self.call.permit::<Read>(next)?;
                self.growing = Growing::open(&file, None, size(self.options.max_line), &|| self.call.check())?;
                self.file = file;
                if Instant::now() >= end {
                    break;
                }
                // Whoever replaces it all the time gets no more looks at it for that.
                self.call.host.watch.sleep(SHORTEST_POLL)?;
                continue;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.call.host.watch.sleep(self.options.poll.max(SHORTEST_POLL).min(left))?;
        }
        Ok(self.unfinished()?.unwrap_or("seconds"))
    }

    /// Without any time what is there already is read all the same, unless it grows faster than that.
    fn longer(&self) -> Duration {
        if self.options.seconds.is_zero() { Duration::from_secs(1) } else { Duration::ZERO }
    }

    /// Takes a last line without an end for a line.
    fn unfinished(&mut self) -> Result<Option<&'static str>> {
        match self.growing.unfinished() {
            Some(line) => self.line(&line),
            None => Ok(None),
        }
    }

    /// Reads what is there; whether that ends it. A file that grows faster than it is read ends with the time.
    fn drain(&mut self, end: Instant) -> Result<Option<&'static str>> {
        let mut lines = Vec::new();
        loop {
            self.call.check()?;
            self.call.host.gate.still::<Read>(&self.call.site(), &self.file)?;
            let look = self.growing.look(&mut lines);
            for line in lines.drain(..) {
                if let Some(why) = self.line(&line)? {
                    return Ok(Some(why));
                }
            }
            match look? {
                Look::Nothing => return Ok(None),
                Look::More | Look::Cut if Instant::now() >= end + self.longer() => return Ok(Some("seconds")),
                Look::More => {}
                // What was cut off in the middle of a line is a line all the same.
                Look::Cut => {
                    if let Some(why) = self.unfinished()? {
                        return Ok(Some(why));
                    }
                }
            }
        }
    }

    /// The file that has the name now, if that is another one; while none has it, the old one is it.
    fn replaced(&self) -> Result<Option<File>> {
        let now = File::locate(self.path)?;
        Ok(Some(now).filter(|now| now.exists() && !self.growing.is(now)))
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<&'static str>> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = shown(line, self.options.lossy)
            .ok_or_else(|| Error::new(Kind::NotText, "a line with bytes that are not UTF-8").with_hint("`lossy: true` replaces them"))?;
        self.lines += 1;
        let matched = self.stop_at.as_ref().is_some_and(|pattern| pattern.is_match(&text));
        self.last = Some(text.clone().into_owned());
        let answer = match &self.each {
            Some(each) => self.call.invoke(each, vec![text.into_owned().into_script()])?,
            None => Dynamic::UNIT,
        };
        Ok(match () {
            () if matched => Some("stop_at"),
            () if matches!(answer.as_bool(), Ok(false)) => Some("closure"),
            () if self.options.max_lines.is_some_and(|most| self.lines >= most) => Some("limit"),
            () => None,
        })
    }
}

#[cfg(test)]
mod tests;
