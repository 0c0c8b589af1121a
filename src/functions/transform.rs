//! Changing text: sed, replace_text, join_lines, and the numbers of seq.

use super::file_read::{Read, RedactedRead};
use super::file_write::{Create, Write, allow_new};
use super::function::{Call, Example, Function, param, with3, with4};
use super::lines::{Substitution, TextLines, as_text, split_end, too_much, whole};
use super::source::{READS, Source};
use super::value::{Array, Dynamic, FromScript, ImmutableString, IntoScript};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Answer, Granted, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;
use rustix::fs::FileType;

pub const FUNCTIONS: &[Function] = &[SED, REPLACE_TEXT, JOIN_LINES, SEQ];

options! {
    /// Options of `sed`.
    SedOptions {
        regex: bool = false, "The pattern is a regular expression; `$1` and `${name}` in the replacement stand for its groups, `$$` for a dollar sign.", flags &["regex"];
        all: bool = false, "Replace every match of a line, not only its first.", flags &["all", "g"];
        ignore_case: bool = false, "Upper and lower case are the same.";
        lines: Option<Vec<i64>> = None, "Only in these lines: a number, or `[first, last]`, counted from 1; -1 is the last line.";
        in_place: bool = false, "Write the new text to the file, in one step, if it differs.", flags &["in_place", "i"];
        backup: Option<String> = None, "With `in_place`: keep the old text in a file beside it, whose name has this at its end, e.g. `.bak`.";
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when the text, or the new text, is more than this.";
        lossy: bool = false, "Take bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`; not with `in_place`.";
    }
}

const SED: Function = Function {
    name: "sed",
    doc: "Replaces text line by line, and gives the new text; of an array of lines, an array.\n\nThe pattern is the text itself, or with `regex` a regular expression (Rust's syntax, linear time) that is matched against each line without its end, \
          so that `^` and `$` are the ends of the line. The first match of each line is replaced, with `all` every one. Line ends stay as they are, `\\r\\n` too, and a last line without one stays without. An open file is read on from its place. \
          (What spans lines is for [replace_text].) \
          With `in_place` the file is replaced as by [write] with `replace`: owner, group, mode, access lists and attributes stay, readers see the old text or the new, and a file in which nothing matches is not touched. \
          That needs `read` and `write`; where only `redacted_read` is permitted it is denied, as what is not shown would be lost. Text that somebody else writes meanwhile is not overwritten: the error is then `changed`.",
    body: &with4(
        sed,
        [
            param("pattern", "The text to replace, or a regular expression."),
            param("replacement", "What takes its place."),
            param("source", "A file, an open file, an array of lines, or text."),
            param("options", ""),
        ],
    ),
    asks: &[ask::<Read>(), ask::<RedactedRead>(), ask::<Write>(), ask::<Create>()],
    fails: &[
        Kind::NotFound,
        Kind::Exists,
        Kind::IsADirectory,
        Kind::NotAFile,
        Kind::TooLarge,
        Kind::NotText,
        Kind::Permission,
        Kind::NoSpace,
        Kind::ReadOnly,
        Kind::Changed,
    ],
    examples: &[
        Example { given: &[("f", "a.a\nb.b\n")], script: r#"sed(".", "-", dir + "/f")"#, gives: r#""a-a\nb-b\n""# },
        Example {
            given: &[("f", "port = 80\nport = 81\n")],
            script: r#"sed("^port = (\\d+)$", "listen ${1};", dir + "/f", #{regex: true, lines: 2})"#,
            gives: r#""port = 80\nlisten 81;\n""#,
        },
        Example {
            given: &[("f", "a a\n")],
            script: r#"sed([sed::g, sed::i], "a", "b", dir + "/f"); cat(dir + "/f")"#,
            gives: r#""b b\n""#,
        },
        Example { given: &[("f", "x\n")], script: r#"sed("x", "y", dir + "/f", #{in_place: true, backup: ".bak"})"#, gives: r#""y\n""# },
        Example { given: &[], script: r#"sed("a", "b", ["a", "ca"])"#, gives: r#"["b", "cb"]"# },
    ],
};

/// Which lines are changed.
#[derive(Clone, Copy)]
enum Address {
    All,
    Range(u64, u64),
    Last,
}

impl Address {
    fn new(lines: Option<&[i64]>) -> Result<Self> {
        let form = || bad_argument("sed: option `lines`: expected a line number from 1, `[first, last]`, or -1 for the last line");
        let number = |line: i64| u64::try_from(line).ok().filter(|line| *line > 0).ok_or_else(form);
        match lines {
            None => Ok(Self::All),
            Some([-1] | [-1, -1]) => Ok(Self::Last),
            Some([line]) => number(*line).map(|line| Self::Range(line, line)),
            Some([first, -1]) => number(*first).map(|first| Self::Range(first, u64::MAX)),
            Some([first, last]) => match (number(*first)?, number(*last)?) {
                (first, last) if first <= last => Ok(Self::Range(first, last)),
                _ => Err(form()),
            },
            Some(_) => Err(form()),
        }
    }
    fn has(self, number: u64, is_last: bool) -> bool {
        match self {
            Self::All => true,
            Self::Range(first, last) => (first..=last).contains(&number),
            Self::Last => is_last,
        }
    }
}

fn sed(call: &Call<'_>, pattern: ImmutableString, replacement: ImmutableString, source: Source, options: SedOptions) -> Result<Dynamic> {
    if pattern.contains('\n') {
        return Err(bad_argument("sed: the pattern is matched line by line and cannot contain a newline")
            .with_hint("`replace_text(text, old, new)` can"));
    }
    let substitution = Substitution::new(&pattern, &replacement, options.regex, options.ignore_case)
        .map_err(|error| Error { message: format!("sed: {}", error.message), ..error })?;
    let address = Address::new(options.lines.as_deref())?;
    if options.backup.is_some() && !options.in_place {
        return Err(bad_argument("sed: `backup` goes with `in_place`"));
    }
    let edit = Edit { call, substitution, address, options: &options };
    match source {
        Source::Path(path) if options.in_place => edit.in_place(&path).map(IntoScript::into_script),
        _ if options.in_place => Err(bad_argument("sed: `in_place` is for a path")),
        Source::Lines(lines) => edit.lines(lines).map(IntoScript::into_script),
        source => {
            let text = whole(call, source, options.max_bytes, options.lossy)?;
            edit.text(&text).map(|(text, _)| text.into_script())
        }
    }
}

/// One `sed` under way.
struct Edit<'c, 'h> {
    call: &'c Call<'h>,
    substitution: Substitution,
    address: Address,
    options: &'c SedOptions,
}

impl Edit<'_, '_> {
    /// The new text, and how many matches were replaced.
    fn text(&self, text: &str) -> Result<(String, u64)> {
        let max_bytes = self.options.max_bytes;
        let mut out = String::with_capacity(text.len());
        let mut count = 0;
        let mut lines = text.split_inclusive('\n').zip(1_u64..).peekable();
        while let Some((line, number)) = lines.next() {
            if number % 4096 == 0 {
                self.call.check()?;
            }
            let (body, end) = split_end(line);
            if self.address.has(number, lines.peek().is_none()) {
                count += self.substitution.apply(self.call, body, self.options.all, &mut out, max_bytes)?;
            } else {
                out.push_str(body);
            }
            out.push_str(end);
            if out.len() as u64 > max_bytes {
                return Err(too_much(max_bytes));
            }
        }
        Ok((out, count))
    }

    fn lines(&self, lines: Array) -> Result<Array> {
        let count = lines.len();
        let mut out = Array::with_capacity(count);
        let mut bytes = 0_u64;
        for (line, number) in lines.into_iter().zip(1_u64..) {
            if number % 4096 == 0 {
                self.call.check()?;
            }
            let line = ImmutableString::from_script(line).map_err(|error| bad_argument(format!("sed: a line: {}", error.message)))?;
            let mut new = String::new();
            if self.address.has(number, number == count as u64) {
                let left = self.options.max_bytes.saturating_sub(bytes);
                self.substitution.apply(self.call, &line, self.options.all, &mut new, left).map_err(|error| match error.kind {
                    Kind::TooLarge => too_much(self.options.max_bytes),
                    _ => error,
                })?;
            } else {
                new.push_str(&line);
            }
            bytes += new.len() as u64;
            out.push(new.into_script());
        }
        Ok(out)
    }

    /// Replaces a file by its new text. Everything is asked before anything is written.
    fn in_place(&self, path: &AbsPath) -> Result<String> {
        let Self { call, options, .. } = self;
        if options.lossy {
            return Err(bad_argument("sed: `lossy` does not go with `in_place`: the bytes that are no text would be lost"));
        }
        let place = |error: Error| if error.path.is_none() { error.with_path(path.shown()) } else { error };
        // The whole file as it is, so `read` and nothing less.
        let file = call.permit::<Read>(File::locate(path)?)?;
        let bytes = sys::file::read(&file, 0, None, options.max_bytes, &call.host.watch).map_err(place)?;
        let file = call.permit::<Write>(file.into_resource())?;
        let old = as_text(bytes, false).map_err(place)?;
        let (new, _) = self.text(&old).map_err(place)?;
        if new == old {
            return Ok(new);
        }
        let backup = match &options.backup {
            Some(suffix) => Some(self.allow_backup(file.resource(), suffix)?),
            None => None,
        };
        if file.held() {
            let diff = super::edit::unified(old.as_bytes(), new.as_bytes(), &path.shown());
            call.withhold(&file, "", Some(&diff))?;
            return Ok(new);
        }
        if let Some(backup) = backup {
            let mode = file.resource().stat().map_or(0o600, |stat| stat.st_mode & 0o777);
            call.effect(
                &backup,
                || sys::write::replace(&backup, old.as_bytes(), mode, true, &call.host.watch),
                |written| (written.bytes, "backup"),
            )?;
        }
        call.effect(
            &file,
            || {
                if !sys::file::is_as_pinned(&file)? {
                    return Err(Error::new(Kind::Changed, "it was written by somebody else after it was read; nothing was done")
                        .with_path(path.shown()));
                }
                sys::write::replace(&file, new.as_bytes(), 0o600, true, &call.host.watch)
            },
            |written| (written.bytes, if written.atomic { "replaced" } else { "replaced in place" }),
        )?;
        Ok(new)
    }

    /// A place for the old text: a new file, or one that shows it to nobody who may not see the file itself.
    fn allow_backup(&self, file: &File, suffix: &str) -> Result<Granted<Write>> {
        let call = self.call;
        if suffix.is_empty() || suffix.contains(['/', '\0']) {
            return Err(bad_argument("sed: option `backup`: expected the end of a name, such as `.bak`"));
        }
        let mut path = file.place().to_vec();
        path.extend_from_slice(suffix.as_bytes());
        let path = AbsPath::new(path)?;
        let place = File::locate_with(&path, false)?;
        if !place.exists() {
            return allow_new(call, place);
        }
        if call.host.gate.would::<Write>(&place) == Answer::Yes
            && let (Some(there), Some(own)) = (place.stat(), file.stat())
        {
            let plain = FileType::from_raw_mode(there.st_mode) == FileType::RegularFile;
            if !plain || there.st_uid != own.st_uid || there.st_mode & 0o777 & !own.st_mode != 0 {
                return Err(
                    Error::new(Kind::Exists, "something of another kind, owner or mode has the name of the backup").with_path(path.shown())
                );
            }
        }
        call.permit::<Write>(place)
    }
}

options! {
    /// Options of `replace_text`.
    ReplaceOptions {
        regex: bool = false, "`old` is a regular expression; `$1` and `${name}` in `new` stand for its groups, `$$` for a dollar sign.", flags &["regex"];
        all: bool = false, "Replace every match, not only the first.", flags &["all", "g"];
        ignore_case: bool = false, "Upper and lower case are the same.";
        is_regex: bool = false, "Another name of `regex`.", flags &["is_regex"];
        replace_all: bool = false, "Another name of `all`.", flags &["replace_all"];
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when the new text is more than this.";
    }
}

const REPLACE_TEXT: Function = Function {
    name: "replace_text",
    doc: "Replaces the first match in a text, or all of them, and gives the new text.\n\nThe text is one piece: a pattern may span lines, and `^` and `$` are its ends; `(?m)` at the beginning of a regular expression makes them the ends of lines. \
          For a file line by line there is [sed].",
    body: &with4(
        replace_text,
        [
            param("text", "A string."),
            param("old", "The text to replace, or a regular expression."),
            param("new", "What takes its place."),
            param("options", ""),
        ],
    ),
    asks: &[],
    fails: &[Kind::TooLarge],
    examples: &[
        Example { given: &[], script: r#"replace_text("a-b-c", "-", "+")"#, gives: r#""a+b-c""# },
        Example {
            given: &[],
            script: r#"replace_text("k=1 l=2", "(\\w)=(\\d)", "${2}=$1", #{regex: true, all: true})"#,
            gives: r#""1=k 2=l""#,
        },
        Example { given: &[], script: r#"replace_text("a\nb\n", "a\nb", "c")"#, gives: r#""c\n""# },
    ],
};

fn replace_text(
    call: &Call<'_>,
    text: ImmutableString,
    old: ImmutableString,
    new: ImmutableString,
    options: ReplaceOptions,
) -> Result<String> {
    let substitution = Substitution::new(&old, &new, options.regex || options.is_regex, options.ignore_case)
        .map_err(|error| Error { message: format!("replace_text: {}", error.message), ..error })?;
    let mut out = String::new();
    substitution.apply(call, &text, options.all || options.replace_all, &mut out, options.max_bytes)?;
    Ok(out)
}

options! {
    /// Options of `join_lines`.
    JoinOptions {
        max_bytes: u64 = 16 << 20, "Fail with `too_large` when the result is more than this.";
        lossy: bool = false, "Take bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
    }
}

const JOIN_LINES: Function = Function {
    name: "join_lines",
    doc: "All lines as one string, with the separator between them.\n\nLine ends, `\\n` or `\\r\\n`, are not part of the lines.",
    body: &with3(
        join_lines,
        [
            param("source", "A file, an open file, an array of lines, or text."),
            param("separator", "What stands between two lines."),
            param("options", ""),
        ],
    ),
    asks: READS,
    fails: &[Kind::NotFound, Kind::IsADirectory, Kind::NotAFile, Kind::TooLarge, Kind::NotText, Kind::Permission],
    examples: &[
        Example { given: &[("hosts", "a\nb\nc\n")], script: r#"join_lines(dir + "/hosts", ",")"#, gives: r#""a,b,c""# },
        Example { given: &[], script: r#"join_lines(["a", "b"], "\n")"#, gives: r#""a\nb""# },
    ],
};

fn join_lines(call: &Call<'_>, source: Source, separator: ImmutableString, options: JoinOptions) -> Result<String> {
    let mut lines = TextLines::new(call, source, options.max_bytes, options.lossy)?;
    let mut out = String::new();
    let mut first = true;
    while let Some(line) = lines.next_line()? {
        let separator = if first { "" } else { separator.as_str() };
        first = false;
        if out.len() as u64 + line.len() as u64 + separator.len() as u64 > options.max_bytes {
            return Err(too_much(options.max_bytes));
        }
        out.push_str(separator);
        out.push_str(&line);
    }
    Ok(out)
}

options! {
    /// Options of `seq`.
    SeqOptions {
        step: i64 = 1, "From one number to the next; negative to go down, not 0.", flags &["step", "n"];
    }
}

/// Numbers that `seq` gives at most.
const MOST_NUMBERS: u64 = 100_000;

const SEQ: Function = Function {
    name: "seq",
    doc: "The ints from one to another, both included, as an array.\n\nMore than 100,000 are the error `too_large`; a loop needs no array: `for n in range(a, b + 1, step)`. Where the step leads away from the end, there are none.",
    body: &with3(seq, [param("first", "The first number."), param("last", "No number past this one."), param("options", "")]),
    asks: &[],
    fails: &[Kind::TooLarge],
    examples: &[
        Example { given: &[], script: "seq(1, 4)", gives: "[1, 2, 3, 4]" },
        Example { given: &[], script: "seq(10, 1, #{step: -4})", gives: "[10, 6, 2]" },
        Example { given: &[], script: "seq([seq::step(2)], 1, 6)", gives: "[1, 3, 5]" },
    ],
};

fn seq(_: &Call<'_>, first: i64, last: i64, options: SeqOptions) -> Result<Vec<i64>> {
    let step = options.step;
    if step == 0 {
        return Err(bad_argument("seq: option `step`: a step of 0 leads nowhere"));
    }
    if (step > 0) != (last >= first) && first != last {
        return Ok(Vec::new());
    }
    let count = first.abs_diff(last) / step.unsigned_abs();
    if count >= MOST_NUMBERS {
        return Err(Error::new(Kind::TooLarge, format!("seq: more than {MOST_NUMBERS} numbers"))
            .with_hint("`for n in range(a, b + 1, step)` needs no array"));
    }
    // No number is past `last`, so none of these can overflow.
    Ok((0..=count)
        .scan(first, |next, _| {
            let number = *next;
            *next = number.wrapping_add(step);
            Some(number)
        })
        .collect())
}

#[cfg(test)]
mod tests;
