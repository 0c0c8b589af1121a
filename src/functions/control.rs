//! How a script goes on: asserting what has to hold, trying again, doing several things at one time, and what it may still use.

use super::function::{Call, Example, Function, param, with0, with2, with3};
use super::value::{Array, Dynamic, FnPtr, FromScript, IntoScript, Map, OptionRow, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::limits::{Amount, MAX_BRANCHES, Spent};
use crate::options;
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[ASSERT, RETRY, PARALLEL, LIMITS_LEFT];

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

options! {
    /// Options of `parallel`.
    ParallelOptions {
        max: u64 = 4, "How many run at one time, 1 to 16.";
        keep_going: bool = false, "Run all whatever fails, and give a map for each.";
    }
}

const PARALLEL: Function = Function {
    name: "parallel",
    doc: "Calls closures side by side and gives what they return, in their order.\n\nFor what waits: probes of hosts and services, pauses. Each \
closure is asked for and recorded as everywhere else, and the limits are those of the run, together.\n\nWhen one fails no further closure begins; \
those that run go on to their end, and then the first error, in their order, goes on as it was thrown. With `keep_going` every closure runs, and gives \
`#{ok: true, value: …}` or `#{ok: false, error: …}`, where the error is what `catch` would get. A limit, or `exit` in a closure, ends the run.\n\nA \
closure works on copies of the variables that it captures, as they are when `parallel` is called. They are constants in it: return what is found out. The variable of a `for` loop is one for all turns; make closures \
in a loop with `map`, or from a variable inside it. \
An open file is no copy: closures that share one take turns.\n\nAt most 16 closures of a run work at one time. Inside a closure `parallel` may be called \
again; when the 16 are in use, its closures run one after the other.",
    body: &with2(parallel, [param("closures", "An array of closures that take no arguments."), param("options", "")]),
    asks: &[],
    fails: &[],
    examples: &[
        Example { given: &[], script: "parallel([|| 1 + 1, || \"two\".len()])", gives: "[2, 3]" },
        Example {
            given: &[],
            script: "let hosts = [\"a\", \"b\", \"c\"];\nparallel(hosts.map(|host| || { sleep(0.01); host + \" is up\" }), #{max: 3})",
            gives: r#"["a is up", "b is up", "c is up"]"#,
        },
        Example {
            given: &[],
            script: "let all = parallel([|| 7, || parse_json(\"{\")], #{keep_going: true});\n[all[0].value, all[1].ok, all[1].error.kind]",
            gives: r#"[7, false, "bad_data"]"#,
        },
        Example {
            given: &[],
            script: "let why = ();\ntry { parallel([|| 1, || throw \"no\"]) } catch (e) { why = e }\nwhy",
            gives: r#""no""#,
        },
    ],
};

fn parallel(call: &Call<'_>, closures: Array, options: ParallelOptions) -> Result<Dynamic> {
    let most = u32::try_from(options.max).ok().filter(|most| (1..=MAX_BRANCHES).contains(most));
    let Some(most) = most else {
        return Err(bad_argument(format!("parallel: option `max`: expected 1 to {MAX_BRANCHES}, got {}", options.max)));
    };
    let closure = |(at, value): (usize, Dynamic)| {
        FnPtr::from_script(value).map_err(|error| bad_argument(format!("parallel: closures: item {at}: {}", error.message)))
    };
    let closures: Vec<FnPtr> = closures.into_iter().enumerate().map(closure).collect::<Result<_>>()?;
    let results = call.invoke_side_by_side(&closures, most, options.keep_going)?;
    let shown = results.into_iter().map(|result| match result {
        Ok(value) if options.keep_going => record([("ok", true.into_script()), ("value", value)]).into_script(),
        Err(error) => record([("ok", false.into_script()), ("error", error)]).into_script(),
        Ok(value) => value,
    });
    Ok(Dynamic::from_array(shown.collect()))
}

const LIMITS_LEFT: Function = Function {
    name: "limits_left",
    doc: "The limits of the run, and what is left of each.\n\nA map with one entry for each limit of rex.toml, and each is `#{limit, used, left}`: `wall` and \
`cpu` in seconds as a float; `memory`, `output`, `script` and `file_size` in bytes; `operations`, `depth`, `open_files`, `children` and `denials` as a number of them.\n\n\
`used` is what is used now, of `memory` by the script or by its programs, whichever is more; of `file_size` it is the largest file written so far, and of \
`depth` the deepest nesting at which a function was called. What programs use is up to a tenth of a second old.\n\n`warnings` names the limits of which \
more than 80 % were used at some time; the caller is told of them too. Long work can look here and stop in order, since reaching a limit ends the run and cannot be caught.",
    body: &with0(limits_left, []),
    asks: &[],
    fails: &[],
    examples: &[
        Example {
            given: &[],
            script: "let wall = limits_left().wall;\n[wall.left > 0.0, wall.left < wall.limit, wall.used + wall.left <= wall.limit + 0.001]",
            gives: "[true, true, true]",
        },
        Example { given: &[], script: "limits_left().warnings", gives: "[]" },
        Example {
            given: &[],
            script: "let done = 0;\nfor n in 0..1000 {\n    if limits_left().wall.left < 5.0 { break }\n    done += 1\n}\ndone",
            gives: "1000",
        },
    ],
};

#[allow(clippy::unnecessary_wraps, reason = "the form of every function")]
fn limits_left(call: &Call<'_>) -> Result<Map> {
    call.host.watch.settle();
    let limits = crate::sys::spent::all(&call.host.watch);
    let amount = |amount: Amount| match amount {
        Amount::Seconds(seconds) => seconds.into_script(),
        Amount::Count(count) => i64::try_from(count).unwrap_or(i64::MAX).into_script(),
    };
    let left = |spent: &Spent| match (spent.limit, spent.now) {
        (Amount::Count(limit), Amount::Count(used)) => Amount::Count(limit.saturating_sub(used)),
        (limit, used) => Amount::Seconds((limit.number() - used.number()).max(0.0)),
    };
    let mut map = record([]);
    for spent in &limits {
        let entry = record([("limit", amount(spent.limit)), ("used", amount(spent.now)), ("left", amount(left(spent)))]);
        map.insert(spent.name.into(), entry.into_script());
    }
    let near: Array = limits.iter().filter(|spent| spent.is_near()).map(|spent| spent.name.into_script()).collect();
    map.insert("warnings".into(), Dynamic::from_array(near));
    Ok(map)
}
