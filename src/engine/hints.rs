//! What to write instead: for names, values and notations of other languages and tools.

use super::register::LANGUAGE;
use crate::error::{Error, Kind, bad_argument};
use crate::functions;
use crate::functions::function::Function;
use crate::functions::value::{nearest, plain_type};
use rhai::{EvalAltResult, LexError, ParseErrorType};

/// What functions are called elsewhere, and what there is here.
const FOREIGN: &[(&[&str], &str)] = &[
    (&["rename", "move", "move_file", "rename_file"], "`mv(from, to)`"),
    (&["copy", "copy_file", "copyfile"], "`cp(from, to)`"),
    (&["join"], "`join_lines(list, \", \")`; of paths `join_path`"),
    (&["get", "getitem", "get_or", "getOrDefault"], "`map[key] ?? default`"),
    (
        &["system", "run", "popen", "spawn", "shell", "sh", "bash", "subprocess", "command", "sudo"],
        "`exec(\"/usr/bin/program\", [\"argument\", …])` runs a program, without a shell",
    ),
    (&["wget", "fetch", "download", "request", "get_url"], "`http_get(url)`, `http_post(url, #{…})`, or `http(method, url, #{…})`"),
    (&["dig", "nslookup", "lookup", "gethostbyname", "resolve_hostname"], "`resolve(name)`"),
    (&["nc", "telnet", "connect", "port_open", "tcp_connect"], "`tcp_check(host, port)`"),
    (&["log", "logger", "console_log"], "`info(message)`, `warn`, `error`"),
    (&["read_file", "readfile", "read_to_string", "file_get_contents", "slurp", "read_text"], "`cat(path)`"),
    (&["write_file", "writefile", "write_text", "file_put_contents"], "`write(path, text, #{replace: true})`"),
    (&["append_file", "append_to_file"], "`write(path, text)` adds at the end"),
    (&["append"], "`list += item`, or `list.push(item)`"),
    (&["sum"], "`list.reduce(|sum, item| sum + item, 0)`"),
    (&["sorted", "sort_by"], "`sort(list, #{})`, with the options `by` and `reverse` where they are needed"),
    (&["symlink", "link", "ln_s"], "`ln(target, link, #{symbolic: true})`"),
    (&["env", "getenv", "environ", "get_env"], "a run has no environment; its arguments are constants of the script"),
    (&["format", "sprintf", "printf"], "text is put together in backticks: `` `${name}: ${value}` ``; times by `strftime`"),
    (&["println", "echo", "puts", "print_line", "eprintln"], "`print(text)`"),
    (&["string", "str", "String", "tostring", "toString"], "`to_string(value)`"),
    (&["int", "integer", "Int", "parseInt", "to_i"], "`to_int(number)`, or `parse_int(text)`"),
    (&["float", "double", "parseFloat"], "`to_float(number)`, or `parse_float(text)`"),
    (&["unlink", "delete", "remove_file", "del", "rmfile", "remove_path"], "`rm(path)`"),
    (&["rmtree", "rm_rf", "remove_dir_all"], "`rm(path, #{recursive: true})`"),
    (&["makedirs", "mkdirs", "mkdir_p", "create_dir_all", "create_dir"], "`mkdir(path, #{parents: true})`"),
    (&["listdir", "readdir", "read_dir", "list_dir", "dir", "list_files"], "`ls(path)`, or `find(path, #{})` for a tree"),
    (&["file_size", "filesize", "getsize", "size_of"], "`stat(path).size`"),
    (&["getmtime", "mtime", "last_modified"], "`stat(path).mtime`"),
    (&["path_exists", "file_exists"], "`exists(path)`"),
    (&["md5sum"], "`md5(path)`"),
    (&["sha256sum"], "`sha256(path)`"),
    (&["sha512sum"], "`sha512(path)`"),
    (&["time", "date", "today", "datetime"], "`now()`, and `strftime(now(), \"%Y-%m-%d\")` for text"),
    (&["regex", "re_match", "match", "matches", "regexp", "preg_match"], "`regex_match(text, pattern)`"),
    (&["re_sub", "gsub"], "`regex_replace(text, pattern, new)`"),
    (&["json", "json_decode", "from_json", "loads", "json_parse"], "`parse_json(text)`, of a file `parse_json(cat(path))`"),
    (&["json_encode", "dumps", "stringify"], "`to_json(value)`"),
    (&["yaml", "from_yaml", "load_yaml", "yaml_load"], "`parse_yaml(text)`"),
    (&["toml", "from_toml", "load_toml"], "`parse_toml(text)`"),
    (&["length", "size", "count"], "`value.len()`; lines of a file are counted by `wc`"),
    (&["upper", "uppercase", "toUpperCase"], "`text.to_upper()`"),
    (&["lower", "lowercase", "toLowerCase"], "`text.to_lower()`"),
    (&["strip"], "`text.trim()`, which changes a variable in its place"),
    (&["substr", "substring", "slice"], "`text.sub_string(start, length)`; of a list `list.extract(start, count)`"),
    (&["pkill", "killall", "kill_process"], "`kill(pgrep(\"^name$\"))`"),
    (&["uname_info"], "`uname()`"),
    (&["getpwnam", "getpwuid", "getent"], "`user(name)`, `group(name)`"),
    (&["has", "has_key", "hasKey", "contains_key"], "`key in map`"),
    (&["typeof", "type"], "`type_of(value)`"),
];

/// Names of values of other languages.
const VALUES: &[(&[&str], &str)] = &[
    (&["null", "nil", "None", "NULL", "undefined"], "nothing is written `()`"),
    (&["True", "TRUE"], "`true`"),
    (&["False", "FALSE"], "`false`"),
    (&["and"], "`&&`"),
    (&["or"], "`||`"),
    (&["not"], "`!`"),
];

fn in_table(table: &[(&[&str], &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(names, _)| names.contains(&name)).map(|(_, hint)| *hint)
}

/// `name (i64, map)` → an error that says what there is.
pub fn unknown_function(signature: &str) -> Error {
    let name: String = signature.split([' ', '(']).next().unwrap_or("").chars().take(64).collect();
    if let Some(function) = functions::by_name(&name) {
        return bad_argument(format!("{name}: these arguments do not fit: {}", function.signature()));
    }
    let types = signature.split_once('(').map_or("", |(_, types)| types.trim_end().strip_suffix(')').unwrap_or(types));
    let types: Vec<&str> = types
        .split(", ")
        .filter(|kind| !kind.is_empty())
        .map(|kind| if kind.contains("ImmutableString") { "string" } else { plain_type(kind) })
        .collect();
    if LANGUAGE.contains(&name.as_str()) {
        let error = Error::new(Kind::Script, format!("`{name}` is not for ({})", types.join(", ")));
        return match types.first() {
            Some(&"Lines") => error.with_hint("`for line in file.lines() { … }`; `read_lines(path)` gives an array"),
            Some(&"nothing") => error.with_hint("the value is nothing, `()`"),
            _ => error,
        };
    }
    if let Some((module, _)) = name.split_once("::") {
        let error = Error::new(Kind::Script, format!("unknown function `{}`", name.escape_debug()));
        return match flag_hint(&name) {
            Some(hint) => error.with_hint(hint),
            None if functions::by_name(module).is_some() => error.with_hint(format!("`{module}` takes options in a map, or none")),
            None => error,
        };
    }
    let error = Error::new(Kind::Script, format!("unknown function `{}`", name.escape_debug()));
    if let Some(hint) = in_table(FOREIGN, &name) {
        return error.with_hint(hint);
    }
    let known = functions::all().map(|function| function.name).chain(LANGUAGE.iter().copied());
    match nearest(&name, known) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None if !types.is_empty() => Error { message: format!("{} for ({})", error.message, types.join(", ")), ..error },
        None => error,
    }
}

/// The flags of a function, without their values.
fn flags(function: &Function) -> Vec<&'static str> {
    let rows = function.options().unwrap_or_default();
    rows.iter().flat_map(|row| row.flags).map(|flag| flag.split_once('=').map_or(*flag, |(name, _)| name)).collect()
}

/// For `ls::bogus`, `tail::n` without a value, `df::human`: what there is.
pub fn flag_hint(name: &str) -> Option<String> {
    let (module, flag) = name.split_once("::")?;
    let module = module.trim();
    let function = functions::by_name(if module == "glob" { "find_files" } else { module })?;
    let known = flags(function);
    if known.is_empty() {
        return Some(match function.options() {
            Some(rows) => {
                let options: Vec<&str> = rows.iter().map(|row| row.name).collect();
                format!("`{module}` takes options in a map, `#{{…}}`: {}", options.join(", "))
            }
            None => format!("`{module}` has no options"),
        });
    }
    let flag = flag.trim();
    if known.contains(&flag) {
        return Some(format!("`{module}::{flag}` takes a value: `{module}::{flag}(5)`"));
    }
    Some(format!("the flags of `{module}` are: {}", known.join(", ")))
}

/// What helps with an error of the language, if something does.
pub fn of_run(error: &EvalAltResult) -> Option<String> {
    use EvalAltResult as E;
    match error {
        E::ErrorDataRace(..) => {
            Some("the closure uses the variable that the call begins with: `let ks = m.keys(); ks.map(|k| m[k])`, or a loop".to_owned())
        }
        E::ErrorFor(..) => Some("of a map `for k in m.keys()`, of a number `for i in range(0, n)`".to_owned()),
        E::ErrorVariableNotFound(name, _) => flag_hint(name).or_else(|| in_table(VALUES, name).map(str::to_owned)),
        E::ErrorModuleNotFound(name, _) => flag_hint(&format!("{name}::")),
        E::ErrorDotExpr(text, _) if text.contains("'()'") => {
            let name = text.split('\'').nth(1).filter(|name| *name != "()").unwrap_or("name");
            Some(format!("the value before the dot is nothing, `()`; `value?.{name}` is nothing then too"))
        }
        _ => None,
    }
}

/// What helps with a script that does not compile, if something does: `script`, and the line and column to blame.
pub fn of_compile(kind: &ParseErrorType, script: &str, at: Option<(u32, u32)>) -> Option<String> {
    let line = at.and_then(|(line, _)| script.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)).unwrap_or("");
    let column = at.map_or(0, |(_, column)| usize::try_from(column).unwrap_or(1).saturating_sub(1));
    let cut = line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let (before, from) = line.split_at_checked(cut).unwrap_or((line, ""));
    match kind {
        ParseErrorType::VariableUndefined(name) => {
            // A letter before a text, as Python has it.
            let text_follows = from.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(['"', '`', '\'']));
            match name.as_str() {
                "f" if text_follows => return Some("text with values in it is written in backticks: `…${name}…`".to_owned()),
                "r" if text_follows => return Some("text in which a backslash is itself is written in backticks: `…`".to_owned()),
                _ => {}
            }
            return flag_hint(name).or_else(|| in_table(VALUES, name).map(str::to_owned)).or_else(|| {
                functions::by_name(name).map(|function| format!("a function is called with parentheses: `{}`", function.signature()))
            });
        }
        ParseErrorType::MismatchedType(wanted, _) if wanted.contains("iterable") => {
            return Some("of a map `for k in m.keys()`, of a number `for i in range(0, n)`".to_owned());
        }
        ParseErrorType::ModuleUndefined(name) => return flag_hint(&format!("{name}::")),
        ParseErrorType::BadInput(LexError::MalformedChar(_)) => return Some("text is written in double quotes: \"…\"".to_owned()),
        ParseErrorType::BadInput(LexError::MalformedEscapeSequence(_)) => {
            return Some("a backslash is written `\\\\` in quotes (`\"\\\\[\"`), and as it is in backticks".to_owned());
        }
        _ => {}
    }
    let sign: String = from.chars().take(2).collect();
    let either = |signs: [&str; 2]| signs.contains(&sign.as_str()) || signs.iter().any(|sign| before.trim_end().ends_with(sign));
    if either(["++", "--"]) {
        return Some("`t += 1`, `t -= 1`".to_owned());
    }
    if from.starts_with('?') || before.trim_end().ends_with('?') {
        return Some("there is no `a ? b : c`: `if a { b } else { c }`".to_owned());
    }
    if from.starts_with(':') && before.contains('{') && before.trim_end().ends_with(['"', '\'']) {
        return Some("a map is written `#{a: 1}`".to_owned());
    }
    let word: String = from.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    in_table(VALUES, &word).map(str::to_owned)
}

#[cfg(test)]
mod tests;
