//! Puts the function table into the engine: one raw fn per number of arguments, so that wrong calls get our messages and not "Function not found".

use super::names::Names;
use super::thrown::{Thrown, is_fatal};
use crate::error::{Error, Kind, bad_argument};
use crate::functions::convert;
use crate::functions::function::{Call, Function, Host};
use crate::functions::order;
use crate::functions::value::{Array, Dynamic, Map, OptionRow};
use rhai::{Engine, EvalAltResult, FuncRegistration, Module, NativeCallContext, Position};
use std::any::TypeId;
use std::sync::Arc;

/// Names that the language itself brings, for hints.
pub const LANGUAGE: &[&str] = &[
    "print",
    "debug",
    "exit",
    "type_of",
    "to_string",
    "to_int",
    "to_float",
    "parse_int",
    "parse_float",
    "len",
    "push",
    "pop",
    "insert",
    "remove",
    "keys",
    "values",
    "contains",
    "split",
    "trim",
    "replace",
    "sub_string",
    "starts_with",
    "ends_with",
    "to_upper",
    "to_lower",
    "index_of",
    "filter",
    "map",
    "reduce",
    "sort",
    "reverse",
    "some",
    "all",
    "range",
    "abs",
    "min",
    "max",
    "floor",
    "ceiling",
    "sqrt",
    "timestamp",
    "is_def_var",
];

/// A flag of the reference's command style, e.g. `grep::ignore_case` or `tail::n(5)`.
#[derive(Clone)]
struct Flag {
    function: &'static str,
    option: &'static str,
    value: Dynamic,
}

/// Registers every function of the table that the script can name, under every number of arguments that a caller might try.
pub fn functions(engine: &mut Engine, host: &Arc<Host>, thrown: &Arc<Thrown>, names: &Names<'_>) {
    let mut module = Module::new();
    for function in crate::functions::all() {
        // The reference's module for `find_files` is named `glob`.
        let namespace = if function.name == "find_files" { "glob" } else { function.name };
        if !names.may_call(function.name) && !names.may_enter(namespace) {
            continue;
        }
        let shape = Shape { least: function.arity().0, most: function.arity().1, options: function.options() };
        let func = raw(function, shape, host, thrown);
        let mut add = |types: &[TypeId]| {
            FuncRegistration::new(function.name).set_into_module_raw(&mut module, types, func.clone());
        };
        for count in 0..=shape.most + 2 {
            // `debug` with one argument is the language's own.
            if function.name == "debug" && count == 1 {
                continue;
            }
            add(&vec![TypeId::of::<Dynamic>(); count]);
        }
        // Rhai prefers exact types to `Dynamic`; these are where its packages have a function of the same name that ours replaces.
        if function.name == "to_json" {
            add(&[TypeId::of::<Map>()]);
        }
        if function.name == "sort" {
            sorted(&mut module, thrown);
        }
        if let Some(options) = shape.options.filter(|_| names.may_enter(namespace)) {
            flags(engine, function.name, namespace, options);
        }
    }
    engine.register_global_module(module.into());
}

/// What a call must look like, found out once: asking the table for it makes a list each time.
#[derive(Clone, Copy)]
struct Shape {
    least: usize,
    most: usize,
    options: Option<&'static [OptionRow]>,
}

fn raw(function: &'static Function, shape: Shape, host: &Arc<Host>, thrown: &Arc<Thrown>) -> rhai::RhaiFunc {
    let (host, thrown) = (Arc::clone(host), Arc::clone(thrown));
    let Shape { least, most, .. } = shape;
    let body = move |context: Option<NativeCallContext>, args: &mut [&mut Dynamic]| {
        let call = Call::new(&host, function, context.as_ref());
        let position = context.as_ref().map_or(Position::NONE, NativeCallContext::call_position);
        let result = call.check().and_then(|()| {
            // Values of variables stay with the script: a function works on copies, cheap for strings and handles.
            let mut values: Vec<Dynamic> = args.iter_mut().map(|arg| arg.flatten_clone()).collect();
            take_flags(function, shape, &mut values)?;
            if values.len() < least || values.len() > most {
                return Err(bad_argument(format!(
                    "{}: takes {}, got {}: {}",
                    function.name,
                    count_words(least, most),
                    values.len(),
                    function.signature()
                )));
            }
            let result = function.body.call(&call, &mut values);
            match result {
                // A dry run goes on with what the call would have given, as far as that is known.
                Err(error) if error.kind == Kind::DryRun => Ok(withheld(&error)),
                result => result.map_err(|error| explained(function, error)),
            }
        });
        result.map_err(|error| {
            // A closure's own error goes on as it was thrown.
            if let Some(original) = call.thrown.borrow_mut().take() {
                return original;
            }
            raise(error, &thrown, (call.line, call.column), position)
        })
    };
    rhai::RhaiFunc::Method { func: Arc::new(body), has_context: true, is_pure: true, is_volatile: true }
}

/// The result of a call that a dry run ended before its first change.
fn withheld(error: &Error) -> Dynamic {
    let mut map = Map::new();
    map.insert("dry_run".into(), Dynamic::TRUE);
    map.insert("changed".into(), Dynamic::TRUE);
    if let Some(path) = &error.path {
        map.insert("path".into(), path.clone().into());
    }
    Dynamic::from_map(map)
}

/// An error of a function, with what the function itself does not know of its call.
fn explained(function: &Function, mut error: Error) -> Error {
    if error.kind == Kind::BadArgument && error.message.starts_with("option `") {
        error.message = format!("{}: {}", function.name, error.message);
    }
    if error.kind == Kind::NotFound && error.hint.is_none() && error.path.as_ref().is_some_and(|path| path.contains(['*', '?'])) {
        error.hint = Some(format!("paths are literal: `for p in glob(…) {{ {}(p) }}`", function.name));
    }
    error
}

/// `sort(array)` and `array.sort()`: as the language sorts an array where it is, and the sorted array is its value too, so that it can be used in an
/// expression. An array that may not be changed (a constant) is left as it is.
fn sorted(module: &mut Module, thrown: &Arc<Thrown>) {
    let thrown = Arc::clone(thrown);
    let body = move |context: Option<NativeCallContext>, args: &mut [&mut Dynamic]| -> Result<Dynamic, Box<EvalAltResult>> {
        let position = context.as_ref().map_or(Position::NONE, NativeCallContext::call_position);
        let Some(list) = args.first_mut() else { return Ok(Dynamic::UNIT) };
        let constant = list.is_read_only();
        let mut items = list.as_array_ref().map(|items| items.clone()).unwrap_or_default();
        if let Err(error) = order::sort_values(&mut items) {
            let number = |n: Option<usize>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            return Err(raise(error, &thrown, (number(position.line()), number(position.position())), position));
        }
        if !constant && let Ok(mut whole) = list.as_array_mut() {
            whole.clone_from(&items);
        }
        Ok(Dynamic::from_array(items))
    };
    FuncRegistration::new("sort").set_into_module_raw(
        module,
        [TypeId::of::<Array>()],
        rhai::RhaiFunc::Method { func: Arc::new(body), has_context: true, is_pure: true, is_volatile: true },
    );
}

/// The engine's form of an error: catchable, or not for limits.
pub(super) fn raise(error: Error, thrown: &Thrown, at: (u32, u32), position: Position) -> Box<EvalAltResult> {
    if is_fatal(error.kind) {
        thrown.set_fatal(error);
        return EvalAltResult::ErrorTerminated(Dynamic::UNIT, position).into();
    }
    EvalAltResult::ErrorRuntime(thrown.throw(error, at), position).into()
}

fn count_words(least: usize, most: usize) -> String {
    let plural = |n| if n == 1 { "1 argument".to_owned() } else { format!("{n} arguments") };
    if least == most { plural(least) } else { format!("{least} to {}", plural(most)) }
}

/// A leading array of flags, as scripts for the reference write it, becomes the trailing map of options.
fn take_flags(function: &Function, shape: Shape, values: &mut Vec<Dynamic>) -> Result<(), Error> {
    let Some(rows) = shape.options else { return Ok(()) };
    // `head(path, 3)` is what everybody tries first.
    if matches!(function.name, "head" | "tail")
        && let [_, last] = values.as_mut_slice()
        && last.is_int()
    {
        let n = std::mem::take(last);
        *last = Dynamic::from_map(std::iter::once(("n".into(), n)).collect());
        return Ok(());
    }
    let Some(first) = values.first().filter(|value| value.is_array()) else { return Ok(()) };
    let flags: Array = first.as_array_ref().map(|array| array.clone()).unwrap_or_default();
    // An empty array is a list of no flags only where a command's own first argument is no array, and no options follow at the end.
    let options_follow = values.last().is_some_and(Dynamic::is_map);
    let is_flags = |flags: &Array| {
        flags.iter().all(|flag| flag.is::<Flag>()) && (!flags.is_empty() || (values.len() > shape.least && !options_follow))
    };
    if !is_flags(&flags) {
        return Ok(());
    }
    let mut options = Map::new();
    for flag in flags.into_iter().filter_map(|flag| flag.try_cast::<Flag>()) {
        if flag.function != function.name && !rows.iter().any(|row| row.name == flag.option) {
            return Err(bad_argument(format!("{}: a flag of `{}` does not fit here", function.name, flag.function)));
        }
        options.insert(flag.option.into(), flag.value);
    }
    drop(values.remove(0));
    values.push(Dynamic::from_map(options));
    Ok(())
}

/// `tail::n(5)`, `grep::ignore_case`: a module of constants and functions named like the function.
fn flags(engine: &mut Engine, function: &'static str, namespace: &str, options: &'static [OptionRow]) {
    let mut module = Module::new();
    let mut any = false;
    for row in options {
        for flag in row.flags {
            any = true;
            let option = row.name;
            let make = move |value: Dynamic| Flag { function, option, value };
            if row.kind == <bool as crate::functions::value::FromScript>::TYPE {
                module.set_var(*flag, Dynamic::from(make(Dynamic::TRUE)));
            } else if let Some((name, value)) = flag.split_once('=') {
                module.set_var(name, Dynamic::from(make(value.to_owned().into())));
            } else {
                module.set_native_fn(*flag, move |value: Dynamic| Ok(make(value)));
                module.set_native_fn(*flag, move |a: Dynamic, b: Dynamic| Ok(make(Dynamic::from_array(vec![a, b]))));
            }
        }
    }
    if any {
        engine.register_static_module(namespace, module.into());
    }
}

/// What is not in the table because Rhai treats it specially: print, debug, exit, and the text of errors.
pub fn language(engine: &mut Engine, host: &Arc<Host>, thrown: &Arc<Thrown>) {
    super::datetime::register(engine);
    super::handle::register(engine, thrown);
    engine.register_type_with_name::<Flag>("Flag");
    let printer = Arc::clone(host);
    let failed = Arc::clone(thrown);
    engine.on_print(move |text| {
        if let Err(error) = printer.out.print(text) {
            failed.set_fatal(error);
        }
    });
    let logger = Arc::clone(host);
    let failed = Arc::clone(thrown);
    engine.on_debug(move |text, _, position| {
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let line = position.line().and_then(|line| u32::try_from(line).ok()).unwrap_or(0);
        let log = crate::output::Log {
            level: "DEBUG",
            message: text.to_owned(),
            fields: serde_json::Map::new(),
            line,
            function: None,
            time: crate::sys::clock::now_rfc3339(),
        };
        if let Err(error) = logger.out.log(log) {
            failed.set_fatal(error);
        }
    });
    for count in 0..=1 {
        let thrown = Arc::clone(thrown);
        engine.register_raw_fn(
            "exit",
            vec![TypeId::of::<Dynamic>(); count],
            move |context: NativeCallContext, args: &mut [&mut Dynamic]| -> Result<Dynamic, Box<EvalAltResult>> {
                let code = args.first().map_or(Some(0), |code| code.as_int().ok());
                thrown.set_exit(code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code <= 125).unwrap_or(1));
                Err(EvalAltResult::ErrorTerminated(Dynamic::UNIT, context.call_position()).into())
            },
        );
    }
    entries(engine, thrown);
    numbers(engine, thrown);
    engine.register_fn("to_string", |map: &mut Map| convert::display_map(map));
    engine.register_fn("print", |map: &mut Map| convert::display_map(map));
    engine.register_fn("to_string", |array: &mut Array| convert::display(&Dynamic::from_array(array.clone())));
    engine.register_fn("print", |array: &mut Array| convert::display(&Dynamic::from_array(array.clone())));
}

/// Numbers from text: as the language has them, but with errors that have a `kind` where they are caught.
fn numbers(engine: &mut Engine, thrown: &Arc<Thrown>) {
    fn raised(thrown: &Thrown, context: &NativeCallContext, name: &str, text: &str, what: &str) -> Box<EvalAltResult> {
        let position = context.call_position();
        let number = |n: Option<usize>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let shown: String = text.chars().take(40).collect();
        let wrong = Error::new(Kind::Script, format!("{name}: `{}` is not {what}", shown.escape_debug()));
        raise(wrong, thrown, (number(position.line()), number(position.position())), position)
    }
    let failed = Arc::clone(thrown);
    engine.register_fn("parse_int", move |context: NativeCallContext, text: &str| -> Result<i64, Box<EvalAltResult>> {
        text.trim().parse().map_err(|_| raised(&failed, &context, "parse_int", text, "a whole number"))
    });
    let failed = Arc::clone(thrown);
    engine.register_fn("parse_int", move |context: NativeCallContext, text: &str, radix: i64| -> Result<i64, Box<EvalAltResult>> {
        let base = u32::try_from(radix).ok().filter(|base| (2..=36).contains(base));
        let number = base.and_then(|base| i64::from_str_radix(text.trim(), base).ok());
        number.ok_or_else(|| raised(&failed, &context, "parse_int", text, &format!("a whole number to the base {radix}")))
    });
    let failed = Arc::clone(thrown);
    engine.register_fn("parse_float", move |context: NativeCallContext, text: &str| -> Result<f64, Box<EvalAltResult>> {
        text.trim().parse().map_err(|_| raised(&failed, &context, "parse_float", text, "a number"))
    });
}

/// For scripts that were written for a map from name to entry, as the reference's `ls` gives: the names, the entries, and an entry by its name, of
/// an array of entries.
fn entries(engine: &mut Engine, thrown: &Arc<Thrown>) {
    let name_of = |entry: &Dynamic| entry.read_lock::<Map>().and_then(|map| map.get("name").cloned());
    let failed = Arc::clone(thrown);
    engine.register_fn("keys", move |context: NativeCallContext, array: &mut Array| -> Result<Array, Box<EvalAltResult>> {
        let names: Option<Array> = array.iter().map(name_of).collect();
        names.ok_or_else(|| {
            let position = context.call_position();
            let number = |n: Option<usize>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            let wrong = bad_argument("keys: of an array, only one of entries with a `name`, as `ls` gives it, has keys");
            raise(wrong, &failed, (number(position.line()), number(position.position())), position)
        })
    });
    engine.register_fn("values", |array: &mut Array| array.clone());
    engine.register_fn("get", move |array: &mut Array, name: rhai::ImmutableString| {
        let is = |entry: &&Dynamic| name_of(entry).is_some_and(|known| known.as_immutable_string_ref().is_ok_and(|known| *known == name));
        array.iter().find(is).cloned().unwrap_or(Dynamic::UNIT)
    });
}
