//! Functions with regular expressions on text: finding, taking apart, replacing, splitting. They need no permission.

use super::function::{Call, Example, Function, param, with3, with4};
use super::value::{Array, Dynamic, ImmutableString, IntoScript, Map};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use regex::{Captures, Regex, RegexBuilder};
use std::cell::RefCell;
use std::collections::VecDeque;

pub const FUNCTIONS: &[Function] = &[REGEX_MATCH, REGEX_FIND, REGEX_FIND_ALL, REGEX_CAPTURES, REGEX_REPLACE, REGEX_SPLIT];

/// Bytes that one compiled expression may take, and so many again for what it learns while it searches.
const MAX_COMPILED: usize = 4 << 20;
/// How deep groups may nest.
const MAX_NESTED: u32 = 100;
/// Compiled expressions kept, so that loops do not compile the same one again and again.
const KEPT: usize = 32;

/// How an expression is to be understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mode {
    ignore_case: bool,
    multi_line: bool,
    dot_all: bool,
}

thread_local! {
    /// The latest used first. The script of a run has a thread of its own.
    static COMPILED: RefCell<VecDeque<(ImmutableString, Mode, Regex)>> = const { RefCell::new(VecDeque::new()) };
}

/// An expression, compiled now or before.
fn compiled(pattern: &ImmutableString, mode: Mode) -> Result<Regex> {
    COMPILED.with_borrow_mut(|kept| {
        if let Some(at) = kept.iter().position(|(text, how, _)| *how == mode && text == pattern) {
            if at > 0
                && let Some(used) = kept.remove(at)
            {
                kept.push_front(used);
            }
            if let Some((_, _, regex)) = kept.front() {
                return Ok(regex.clone());
            }
        }
        let regex = RegexBuilder::new(pattern)
            .case_insensitive(mode.ignore_case)
            .multi_line(mode.multi_line)
            .dot_matches_new_line(mode.dot_all)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .nest_limit(MAX_NESTED)
            .build()
            .map_err(|error| refusal(&error))?;
        kept.truncate(KEPT - 1);
        kept.push_front((pattern.clone(), mode, regex.clone()));
        Ok(regex)
    })
}

/// An expression for another topic, compiled as these are.
///
/// # Errors
/// [`Kind::BadArgument`] with the place of the mistake.
pub(super) fn expression(pattern: &ImmutableString) -> Result<Regex> {
    compiled(pattern, Mode::default())
}

/// What is wrong with an expression, and where. The crate says it in several lines with a caret under the place.
fn refusal(error: &regex::Error) -> Error {
    let text = match error {
        regex::Error::CompiledTooBig(limit) => {
            return bad_argument(format!("the regular expression is too large (over {limit} bytes when compiled)"));
        }
        other => other.to_string(),
    };
    let what = text.lines().rev().find_map(|line| line.trim().strip_prefix("error: ")).unwrap_or("it is not well-formed");
    let caret = text.lines().find(|line| line.contains('^') && line.trim_matches([' ', '^']).is_empty());
    // The pattern stands four columns in.
    let place = caret.and_then(|line| line.find('^')).map(|at| format!(" at character {}", at.saturating_sub(4) + 1)).unwrap_or_default();
    let hint = if what.starts_with("look-around") || what.starts_with("backreferences") {
        "searching takes linear time here, which look-around and backreferences would not"
    } else {
        ""
    };
    bad_argument(format!("the regular expression is wrong{place}: {what}")).with_hint(hint)
}

options! {
    /// Options of functions that look for one expression.
    RegexOptions {
        ignore_case: bool = false, "Upper and lower case are the same.";
        multi_line: bool = false, "`^` and `$` stand for beginnings and ends of lines, not of the text alone.";
        dot_all: bool = false, "`.` stands for line ends too.";
    }
}

macro_rules! mode {
    ($options:expr) => {
        Mode { ignore_case: $options.ignore_case, multi_line: $options.multi_line, dot_all: $options.dot_all }
    };
}

const REGEX_MATCH: Function = Function {
    name: "regex_match",
    doc: "Whether a regular expression is found in a text.\n\nAnchor it with `^` and `$` for the whole text. The syntax is that of Rust's regex crate: Perl's without look-around and backreferences, so that a search takes linear time.",
    body: &with3(regex_match, [param("text", "The text."), param("pattern", "A regular expression."), param("options", "")]),
    asks: &[],
    fails: &[],
    examples: &[
        Example { given: &[], script: r#"regex_match("sshd[4711]: error", `\[\d+\]`)"#, gives: "true" },
        Example { given: &[], script: r#"regex_match("Error", "^error$", #{ignore_case: true})"#, gives: "true" },
    ],
};

fn regex_match(_: &Call<'_>, text: ImmutableString, pattern: ImmutableString, options: RegexOptions) -> Result<bool> {
    Ok(compiled(&pattern, mode!(options))?.is_match(&text))
}

const REGEX_FIND: Function = Function {
    name: "regex_find",
    doc: "The first part of a text that a regular expression stands for, or nothing.",
    body: &with3(regex_find, [param("text", "The text."), param("pattern", "A regular expression."), param("options", "")]),
    asks: &[],
    fails: &[],
    examples: &[
        Example { given: &[], script: r#"regex_find("took 35 ms", `\d+`)"#, gives: r#""35""# },
        Example { given: &[], script: r#"regex_find("took long", `\d+`)"#, gives: "()" },
    ],
};

fn regex_find(_: &Call<'_>, text: ImmutableString, pattern: ImmutableString, options: RegexOptions) -> Result<Option<String>> {
    Ok(compiled(&pattern, mode!(options))?.find(&text).map(|found| found.as_str().to_owned()))
}

options! {
    /// Options of functions that find many.
    RegexManyOptions {
        ignore_case: bool = false, "Upper and lower case are the same.";
        multi_line: bool = false, "`^` and `$` stand for beginnings and ends of lines, not of the text alone.";
        dot_all: bool = false, "`.` stands for line ends too.";
        limit: Option<u64> = None, "So many at most.";
    }
}

fn most(limit: Option<u64>) -> usize {
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

const REGEX_FIND_ALL: Function = Function {
    name: "regex_find_all",
    doc: "All parts of a text that a regular expression stands for, from left to right, none overlapping another.",
    body: &with3(regex_find_all, [param("text", "The text."), param("pattern", "A regular expression."), param("options", "")]),
    asks: &[],
    fails: &[],
    examples: &[Example {
        given: &[],
        script: r#"regex_find_all("10.0.0.1 -> 10.0.0.2", `\d+\.\d+\.\d+\.\d+`)"#,
        gives: r#"["10.0.0.1", "10.0.0.2"]"#,
    }],
};

fn regex_find_all(call: &Call<'_>, text: ImmutableString, pattern: ImmutableString, options: RegexManyOptions) -> Result<Array> {
    let regex = compiled(&pattern, mode!(options))?;
    gather(call, regex.find_iter(&text).take(most(options.limit)).map(|found| found.as_str().into_script()))
}

fn gather(call: &Call<'_>, items: impl Iterator<Item = Dynamic>) -> Result<Array> {
    let mut array = Array::new();
    for item in items {
        if array.len().is_multiple_of(1024) {
            call.check()?;
        }
        array.push(item);
    }
    Ok(array)
}

options! {
    /// Options of `regex_captures`.
    RegexCapturesOptions {
        all: bool = false, "Give an array with a map for every match.";
        ignore_case: bool = false, "Upper and lower case are the same.";
        multi_line: bool = false, "`^` and `$` stand for beginnings and ends of lines, not of the text alone.";
        dot_all: bool = false, "`.` stands for line ends too.";
        limit: Option<u64> = None, "With `all`: so many at most.";
    }
}

const REGEX_CAPTURES: Function = Function {
    name: "regex_captures",
    doc: "What the groups of a regular expression hold in the first match: a map, or nothing.\n\nIts keys are the numbers of the groups as text (`\"0\"` is the whole match) and the names of those that have one (`(?<name>…)`). A group that took no part holds nothing.",
    body: &with3(regex_captures, [param("text", "The text."), param("pattern", "A regular expression."), param("options", "")]),
    asks: &[],
    fails: &[],
    examples: &[
        Example {
            given: &[],
            script: r#"regex_captures("sshd[4711]: error", `^(?<name>\w+)\[(\d+)\]`)"#,
            gives: r#"#{"0": "sshd[4711]", "1": "sshd", "2": "4711", name: "sshd"}"#,
        },
        Example {
            given: &[],
            script: r#"regex_captures("a=1 b=2", `(?<k>\w)=(?<v>\d)`, #{all: true}).map(|m| m.k + m.v)"#,
            gives: r#"["a1", "b2"]"#,
        },
    ],
};

fn groups(regex: &Regex, captures: &Captures<'_>) -> Map {
    let value = |at: usize| captures.get(at).map(|found| found.as_str()).into_script();
    let named = regex.capture_names().enumerate().filter_map(|(at, name)| Some((name?.into(), value(at))));
    (0..captures.len()).map(|at| (at.to_string().into(), value(at))).chain(named).collect()
}

fn regex_captures(call: &Call<'_>, text: ImmutableString, pattern: ImmutableString, options: RegexCapturesOptions) -> Result<Dynamic> {
    let regex = compiled(&pattern, mode!(options))?;
    if !options.all {
        if options.limit.is_some() {
            return Err(bad_argument("regex_captures: option `limit` goes with `all`"));
        }
        return Ok(regex.captures(&text).map(|captures| groups(&regex, &captures)).into_script());
    }
    let all = regex.captures_iter(&text).take(most(options.limit));
    gather(call, all.map(|captures| groups(&regex, &captures).into_script())).map(IntoScript::into_script)
}

options! {
    /// Options of `regex_replace`.
    RegexReplaceOptions {
        all: bool = true, "Replace every match; otherwise the first alone.";
        literal: bool = false, "Take the replacement as it is: `$` has no meaning.";
        ignore_case: bool = false, "Upper and lower case are the same.";
        multi_line: bool = false, "`^` and `$` stand for beginnings and ends of lines, not of the text alone.";
        dot_all: bool = false, "`.` stands for line ends too.";
        max_bytes: u64 = 64 << 20, "Fail with `too_large` when the new text is more than this.";
    }
}

const REGEX_REPLACE: Function = Function {
    name: "regex_replace",
    doc: "A text with what a regular expression stands for replaced.\n\nIn the replacement `$1` and `${name}` are what a group holds, `$$` is a dollar.",
    body: &with4(
        regex_replace,
        [
            param("text", "The text."),
            param("pattern", "A regular expression."),
            param("replacement", "What to put there."),
            param("options", ""),
        ],
    ),
    asks: &[],
    fails: &[Kind::TooLarge],
    examples: &[
        Example { given: &[], script: r#"regex_replace("2026-01-31", `(\d+)-(\d+)-(\d+)`, "$3.$2.$1")"#, gives: r#""31.01.2026""# },
        Example { given: &[], script: r#"regex_replace("a b c", " ", "$", #{all: false, literal: true})"#, gives: r#""a$b c""# },
    ],
};

fn regex_replace(
    call: &Call<'_>,
    text: ImmutableString,
    pattern: ImmutableString,
    replacement: ImmutableString,
    options: RegexReplaceOptions,
) -> Result<String> {
    let regex = compiled(&pattern, mode!(options))?;
    let mut new = String::new();
    let mut from = 0;
    let limit = if options.all { usize::MAX } else { 1 };
    let literal = options.literal || !replacement.contains('$');
    for (count, captures) in regex.captures_iter(&text).take(limit).enumerate() {
        if count % 1024 == 0 {
            call.check()?;
        }
        let Some(whole) = captures.get(0) else { continue };
        new.push_str(text.get(from..whole.start()).unwrap_or(""));
        if literal {
            new.push_str(&replacement);
        } else {
            captures.expand(&replacement, &mut new);
        }
        from = whole.end();
        bounded(&new, options.max_bytes)?;
    }
    new.push_str(text.get(from..).unwrap_or(""));
    bounded(&new, options.max_bytes)?;
    Ok(new)
}

fn bounded(text: &str, max_bytes: u64) -> Result<()> {
    if text.len() as u64 > max_bytes {
        return Err(Error::new(Kind::TooLarge, format!("the new text is larger than `max_bytes` ({max_bytes})")));
    }
    Ok(())
}

const REGEX_SPLIT: Function = Function {
    name: "regex_split",
    doc: "The parts of a text between what a regular expression stands for.\n\n`limit` is the number of parts: the last one is the rest. A match at the beginning or end gives an empty part there.",
    body: &with3(regex_split, [param("text", "The text."), param("pattern", "A regular expression."), param("options", "")]),
    asks: &[],
    fails: &[],
    examples: &[
        Example { given: &[], script: r#"regex_split("a,  b,c", `,\s*`)"#, gives: r#"["a", "b", "c"]"# },
        Example { given: &[], script: r#"regex_split("a b c", " ", #{limit: 2})"#, gives: r#"["a", "b c"]"# },
    ],
};

fn regex_split(call: &Call<'_>, text: ImmutableString, pattern: ImmutableString, options: RegexManyOptions) -> Result<Array> {
    let regex = compiled(&pattern, mode!(options))?;
    gather(call, regex.splitn(&text, most(options.limit)).map(IntoScript::into_script))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::functions::rig::{Rig, options};

    fn call<const N: usize>(name: &str, args: [&str; N]) -> Result<Dynamic> {
        Rig::new("permit(principal, action, resource);").call(name, args.map(IntoScript::into_script))
    }

    #[test]
    fn a_wrong_expression_is_refused_with_its_place() {
        for (pattern, says) in
            [("a(b", "at character 2: unclosed group"), ("äö[z-a]", "at character 4"), ("(?=x)", "look-around"), ("a{2,1}", "")]
        {
            let error = call("regex_match", ["x", pattern]).unwrap_err();
            assert_eq!(error.kind, Kind::BadArgument);
            assert!(error.message.contains(says) && !error.message.contains('\n'), "{error:?}");
        }
    }

    #[test]
    fn an_expression_cannot_take_the_memory_of_the_host() {
        for pattern in [r"(?:\w{1000}){1000}".to_owned(), format!("{}{}", "(".repeat(200), ")".repeat(200)), "(".repeat(100_000)] {
            assert_eq!(call("regex_match", ["x", &pattern]).unwrap_err().kind, Kind::BadArgument);
        }
    }

    #[test]
    fn compiled_expressions_are_kept_but_not_without_end() {
        for at in 0..100 {
            compiled(&format!("a{at}").into(), Mode::default()).unwrap();
        }
        let mode = Mode { ignore_case: true, ..Mode::default() };
        assert!(compiled(&"a99".into(), mode).unwrap().is_match("A99"));
        assert!(!compiled(&"a99".into(), Mode::default()).unwrap().is_match("A99"));
        COMPILED.with_borrow(|kept| assert_eq!(kept.len(), KEPT));
        COMPILED.with_borrow(|kept| assert!(kept[0].0 == "a99" && kept[0].1 == Mode::default()));
    }

    #[test]
    fn groups_that_took_no_part_are_nothing() {
        let map = call("regex_captures", ["b", "(a)|(?<x>b)"]).unwrap().cast::<Map>();
        assert!(map["1"].is_unit() && map["x"].to_string() == "b" && map["2"].to_string() == "b");
        assert!(call("regex_captures", ["c", "(a)|(b)"]).unwrap().is_unit());
    }

    #[test]
    fn replacing_stops_at_the_limit() {
        let rig = Rig::new("permit(principal, action, resource);");
        let args = ["aaaa".into_script(), "a".into_script(), "$0$0$0$0".into_script(), options([("max_bytes", 10i64.into_script())])];
        assert_eq!(rig.call("regex_replace", args).unwrap_err().kind, Kind::TooLarge);
        assert_eq!(call("regex_replace", ["ab", "", "-"]).unwrap().to_string(), "-a-b-");
        assert_eq!(call("regex_replace", ["ab", "(?<n>a)", "${n}1$$"]).unwrap().to_string(), "a1$b");
    }
}
