//! The circumstances of a test's question: the session, and what a verb's context holds besides. What follows from what is given is filled in.

use super::draft::{Fault, Pairs, gives};
use super::values::{Given, attributes, value};
use super::vocabulary::{Question, shown};
use crate::policy::arguments::{Arguments, environment};
use crate::policy::schema;
use crate::policy::words::Value;

/// `context.session` without `now`.
pub(super) fn session(given: &Pairs) -> Result<Vec<(&'static str, Value)>, Fault> {
    for (place, name, _) in given {
        match name.as_str() {
            "now" => return Err((*place, "the time is a key of the test, `now`".to_owned())),
            "run" => return Err((*place, "the id of a run is new for each; no test can know it".to_owned())),
            _ => {}
        }
    }
    let mut session = attributes(given, schema::SESSION, "the session")?;
    if !gives(&session, "mode") {
        session.push(("mode", Value::String("session".to_owned())));
    }
    if !gives(&session, "interactive") {
        session.push(("interactive", Value::Bool(false)));
    }
    Ok(session)
}

/// What the verb's context holds besides the session.
pub(super) fn context(
    question: &Question,
    given: &Pairs,
    principal: &[(&'static str, Value)],
) -> Result<Vec<(&'static str, Value)>, Fault> {
    let ask = &question.ask;
    let whose = format!("the context of `{}::{}`", ask.namespace, ask.name);
    let (mut context, mut rest) = (Vec::new(), Vec::new());
    let execute = (ask.namespace, ask.name) == ("file_system", "execute");
    for (place, name, given) in given {
        let wrong = |wrong: String| (*place, format!("`{name}`: {wrong}"));
        match (name.as_str(), given) {
            ("argv", given) if execute => program(given, &mut context).map_err(wrong)?,
            ("arguments" | "argc", _) if execute => return Err((*place, format!("`{name}` follows from `argv`; give that"))),
            ("environment", given) if execute => context.push(("environment", variables(given).map_err(wrong)?)),
            ("destination", Given::Text(path) | Given::Word(path)) if ask.name == "move" => {
                context.push(("destination", destination(path).map_err(wrong)?));
            }
            ("xattr", Given::Text(text) | Given::Word(text)) if ask.name == "set_x_attr" => {
                context.push(("xattr", Value::Record(vec![("name", Value::String(text.clone()))])));
            }
            _ => rest.push((*place, name.clone(), given.clone())),
        }
    }
    context.extend(attributes(&rest, ask.context, &whose)?);
    match (ask.namespace, ask.name) {
        ("file_system", "execute") => like_exec(question, &mut context, principal),
        ("file_system", "chmod") => like_chmod(&mut context),
        ("journal", "read") => {
            let usual = [("priority", Value::Long(7)), ("fields", Value::Set(Vec::new())), ("all_fields", Value::Bool(false))];
            context.extend(usual.into_iter().filter(|(name, _)| !rest.iter().any(|(_, given, _)| given == name)).collect::<Vec<_>>());
        }
        _ => {}
    }
    Ok(context)
}

/// `argv`, and what follows from it, by the code that `exec` uses.
fn program(given: &Given, context: &mut Vec<(&'static str, Value)>) -> Result<(), String> {
    let wrong = || format!("expected a list of arguments, e.g. [\"-h\", [\"--name\", \"value\"]], not {}", given.shown());
    let words = match given {
        Given::List(items) => items.clone(),
        Given::Word(text) => crate::invocation::words::split(text).map_err(|error| error.message)?.into_iter().map(Given::Text).collect(),
        _ => return Err(wrong()),
    };
    let word = |given: &Given| match given {
        Given::Text(text) => Ok(text.clone()),
        Given::Int(int) => Ok(int.to_string()),
        _ => Err(wrong()),
    };
    let mut arguments = Arguments::default();
    for item in &words {
        match item {
            Given::List(parts) => match parts.as_slice() {
                [name, value] => arguments.pair(word(name)?, word(value)?),
                [single] => arguments.single(word(single)?),
                _ => return Err("a pair is `[name, value]`".to_owned()),
            },
            item => arguments.single(word(item)?),
        }
        .map_err(|error| error.message)?;
    }
    put(context, arguments);
    Ok(())
}

fn put(context: &mut Vec<(&'static str, Value)>, arguments: Arguments) {
    context.push(("argv", Value::String(arguments.quoted(&[]))));
    context.push(("argc", Value::Long(i64::try_from(arguments.len()).unwrap_or(i64::MAX))));
    context.push(("arguments", arguments.object()));
}

fn variables(given: &Given) -> Result<Value, String> {
    let Given::Map(pairs) = given else { return Err(format!("expected a table like {{ LANG = \"C\" }}, not {}", given.shown())) };
    let pairs = pairs.iter().map(|(name, given)| match given {
        Given::Text(text) => Ok((name.clone(), text.clone())),
        other => Err(format!("`{}`: expected a text, not {}", shown(name), other.shown())),
    });
    Ok(environment(pairs.collect::<Result<_, String>>()?))
}

fn destination(path: &str) -> Result<Value, String> {
    let (above, name) = path.rsplit_once('/').filter(|(_, name)| path.starts_with('/') && !name.is_empty()).ok_or("expected a path")?;
    let text = |text: &str| Value::String(text.to_owned());
    let above = if above.is_empty() { "/" } else { above };
    Ok(Value::Record(vec![("path", text(path)), ("name", text(name)), ("parent_path", text(above))]))
}

/// What `exec` without options gives.
fn like_exec(question: &Question, context: &mut Vec<(&'static str, Value)>, principal: &[(&'static str, Value)]) {
    if !gives(context, "argv") {
        put(context, Arguments::default());
    }
    let of = |name: &str| principal.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    let user = of("unix_user").zip(of("uid")).map(|(name, uid)| Value::Record(vec![("username", name), ("uid", uid)]));
    let usual = [
        ("argv0", Some(Value::String(question.id.clone()))),
        ("environment", Some(environment(Vec::new()))),
        ("user", user),
        ("capabilities", Some(Value::Set(Vec::new()))),
        ("cwd", Some(Value::String("/".to_owned()))),
        ("stdin", Some(Value::Bool(false))),
    ];
    for (name, value) in usual {
        if let Some(value) = value.filter(|_| !gives(context, name)) {
            context.push((name, value));
        }
    }
}

/// The flags that are in the bits.
fn like_chmod(context: &mut Vec<(&'static str, Value)>) {
    let Some(Value::Long(mode)) = context.iter().find(|(name, _)| *name == "mode").map(|(_, value)| value.clone()) else { return };
    for (name, bit) in [("set_uid", 0o4000), ("set_gid", 0o2000), ("sticky", 0o1000), ("world_writable", 0o002)] {
        if !gives(context, name) {
            context.push((name, Value::Bool(mode & bit != 0)));
        }
    }
}

/// The attributes of a thing that follow from what is given: whether anyone may write it, from its mode; that a folder is one.
pub(super) fn follows(noun: &str, given: &[(&'static str, Value)], name: &str) -> Option<Value> {
    match (noun, name) {
        ("file_system::File" | "file_system::Dir", "world_writable") => given.iter().find_map(|(known, mode)| match mode {
            Value::Long(mode) if *known == "mode" => Some(Value::Bool(mode & 0o002 != 0)),
            _ => None,
        }),
        ("file_system::Dir", "kind") => value(&Given::Text("dir".to_owned()), "String").ok(),
        _ => None,
    }
}
