//! How a script goes on: asserting what has to hold, and trying again.

use super::function::{Call, Example, Function, param, with2, with3};
use super::value::{Dynamic, FnPtr, FromScript, OptionRow};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[ASSERT, RETRY];

const ASSERT: Function = Function {
    name: "assert",
    doc: "Goes on when a condition holds, and fails with the kind `script` when it does not.",
    body: &with2(assert, [param("condition", "What has to be true."), param("message", "What to say when it is not.")]),
    asks: &[],
    fails: &[Kind::Script],
    examples: &[
        Example { given: &[], script: "assert(1 + 1 == 2)", gives: "()" },
        Example {
            given: &[],
            script: "let why = ();\ntry { assert(1 > 2, \"one is less\") } catch (e) { why = [e.kind, e.message] }\nwhy",
            gives: r#"["script", "one is less"]"#,
        },
    ],
};

fn assert(_: &Call<'_>, condition: bool, message: Option<String>) -> Result<()> {
    if condition { Ok(()) } else { Err(Error::new(Kind::Script, message.unwrap_or_else(|| "an assertion does not hold".to_owned()))) }
}

options! {
    /// Options of `retry`.
    RetryOptions {
        delay: Duration = Duration::from_secs(1), "Seconds to wait before the second try.";
        backoff: f64 = 2.0, "Each wait is so many times the one before.";
        max_delay: Duration = Duration::from_secs(60), "No wait is longer than this.";
        on: Option<Vec<String>> = None, "Kinds of errors after which to try again; without it all but those that the same call would meet again, such as `denied` and `bad_argument`.";
    }
}

/// The second argument of `retry`: `retry(3, || …)` leaves the options out.
enum How {
    Options(RetryOptions),
    Do(FnPtr),
}

impl FromScript for How {
    const TYPE: &'static str = RetryOptions::TYPE;
    const OPTIONS: Option<&'static [OptionRow]> = RetryOptions::OPTIONS;
    fn from_script(value: Dynamic) -> Result<Self> {
        match value.clone().try_cast::<FnPtr>() {
            Some(closure) => Ok(Self::Do(closure)),
            None => RetryOptions::from_script(value).map(Self::Options),
        }
    }
}

const RETRY: Function = Function {
    name: "retry",
    doc: "Calls a closure until it does not fail, so many times at most, and gives what it returns.\n\nWrite `retry(n, || …)` or `retry(n, #{delay: 2}, || …)`. When the last try fails too its error goes on as it was thrown. A wait ends at once when the run has to.",
    body: &with3(
        retry,
        [
            param("tries", "How many times at most, at least 1."),
            param("options", ""),
            param("closure", "What to do; it takes no arguments."),
        ],
    ),
    asks: &[],
    fails: &[],
    examples: &[
        Example { given: &[], script: "let n = 0;\nretry(3, #{delay: 0}, || { n += 1; if n < 3 { throw \"not yet\" } n })", gives: "3" },
        Example { given: &[], script: "retry(2, || 7)", gives: "7" },
        Example {
            given: &[],
            script: "let n = 0;\ntry { retry(3, #{delay: 0}, || { n += 1; parse_json(\"{\") }) } catch (e) { n = [n, e.kind] }\nn",
            gives: r#"[1, "bad_data"]"#,
        },
        Example {
            given: &[],
            script: "let n = 0;\ntry { retry(3, #{delay: 0, on: [\"bad_data\"]}, || { n += 1; parse_json(\"{\") }) } catch (e) { n = [n, e.kind] }\nn",
            gives: r#"[3, "bad_data"]"#,
        },
    ],
};

/// Errors that the same call meets again, however often it is made.
const LASTING: &[Kind] = &[
    Kind::Denied,
    Kind::NeedsApproval,
    Kind::BadArgument,
    Kind::NotText,
    Kind::BadData,
    Kind::TooLarge,
    Kind::Unsupported,
    Kind::ReadOnly,
    Kind::Permission,
];

fn retry(call: &Call<'_>, tries: i64, how: How, closure: Option<FnPtr>) -> Result<Dynamic> {
    let (options, closure) = match (how, closure) {
        (How::Options(options), Some(closure)) => (options, closure),
        (How::Do(closure), None) => (RetryOptions::default(), closure),
        (How::Options(_), None) => return Err(bad_argument("retry: `closure` is missing: expected a closure")),
        (How::Do(_), Some(_)) => return Err(bad_argument("retry: options: expected a map of options, got closure")),
    };
    if tries < 1 {
        return Err(bad_argument(format!("retry: tries: expected at least 1, got {tries}")));
    }
    if !(options.backoff.is_finite() && options.backoff >= 0.0) {
        return Err(bad_argument("retry: option `backoff`: expected a number of 0 or more"));
    }
    if let Some(unknown) = options.on.iter().flatten().find(|name| !Kind::all().any(|kind| kind.name() == name.as_str())) {
        let near = super::value::nearest(unknown, Kind::all().map(Kind::name)).map(|near| format!("did you mean `{near}`?"));
        return Err(bad_argument("retry: option `on`: expected kinds of errors, e.g. `timeout`").with_hint(near.unwrap_or_default()));
    }
    let mut wait = options.delay.min(options.max_delay);
    let mut left = tries;
    loop {
        left -= 1;
        let error = match call.invoke(&closure, Vec::new()) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        // A limit, `exit`, a run that is to end: never again, whatever kinds are named.
        call.check()?;
        let kind = call.thrown_kind();
        let again = match (&options.on, kind.as_deref()) {
            (_, None) => false,
            (Some(kinds), Some(kind)) => kinds.iter().any(|name| name == kind),
            (None, Some(kind)) => !LASTING.iter().any(|lasting| lasting.name() == kind),
        };
        if left == 0 || !again {
            return Err(error);
        }
        *call.thrown.borrow_mut() = None;
        call.host.watch.sleep(wait)?;
        wait = Duration::try_from_secs_f64(wait.as_secs_f64() * options.backoff).unwrap_or(options.max_delay).min(options.max_delay);
    }
}
