//! Functions that change configuration files: one line, one key, one block, and nothing else. They ask for [`Read`] and [`Write`], and for
//! [`Create`] where something new is made.

mod diff;
mod keys;
mod lines;
mod toml;

use super::file_read::Read;
use super::file_write::{Bits, Create, NEW_FILE, Write, allow_new};
use super::function::{Call, Example, Function, param, with2, with4};
use super::value::{Dynamic, FnPtr, FromScript, ImmutableString, IntoScript, Map, name_value, plain_type, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Answer, Granted, Resource, ask};
use crate::resource::file::{FILE, File};
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::write::{Seen, Written};
pub(super) use diff::{for_record, unified};
use keys::{Form, KeyEdit, Quote, Which};
use lines::{BlockEdit, Edited, LineEdit};
use regex::bytes::{Regex, RegexBuilder};

pub const FUNCTIONS: &[Function] = &[EDIT_LINE, SET_KEY, REPLACE_BLOCK];

/// Names tried for a backup before it is given up.
const TRIES: u32 = 8;
/// The largest compiled pattern.
const LARGEST_PATTERN: usize = 4 << 20;

const FAILS: &[Kind] = &[
    Kind::NotFound,
    Kind::IsADirectory,
    Kind::NotAFile,
    Kind::BadData,
    Kind::NotText,
    Kind::TooLarge,
    Kind::Permission,
    Kind::NoSpace,
    Kind::ReadOnly,
    Kind::Exists,
    Kind::Changed,
];

options! {
    /// Options of `edit_line`.
    LineOptions {
        pattern: Option<String> = None, "A regular expression for the line, without its end.";
        line: Option<String> = None, "The line as it shall be. If `pattern` has groups, `$1`, `${1}` and `${name}` stand for what they matched and `$$` for a `$`.";
        state: Option<String> = None, "`present`, which is the default, or `absent`.";
        after: Option<String> = None, "A new line goes after the last one that matches this regular expression.";
        before: Option<String> = None, "A new line goes before the first one that matches this; an empty expression is the beginning of the file.";
        all: Option<bool> = None, "Every line that matches, or the last one only. The default is the last with `present`, all with `absent`.";
        create: bool = false, "Make the file if it is not there; its folder must be there.";
        mode: Option<Bits> = None, "Permission bits of a file that this makes, 0o644 if left out.";
        backup: bool = false, "Keep the old contents beside the file, under its name, the time and `~`.";
        check: Option<FnPtr> = None, "A closure that gets the new contents. If it gives false or throws, nothing is written.";
        dry_run: bool = false, "Write nothing; the result tells what would change. Asks to read only.";
        max_bytes: u64 = 16 << 20, "Refuse a file larger than this.";
    }
}

const EDIT_LINE: Function = Function {
    name: "edit_line",
    doc: "Makes sure that a line is in a file as it shall be, or is not in it.\n\n\
          `present`: the last line that matches `pattern` becomes `line`. If none matches and no line is `line` already, it is added, at the end or where \
          `after` or `before` says; if these match nothing that is the error `bad_data`. Without a `pattern` the line is added unless it is there. `absent`: the \
          lines that match `pattern`, or that are `line`, go. The rest of the file stays byte for byte: other lines, line ends (new lines end as the others do), \
          a missing end of the last line, bytes that are not UTF-8.\n\n\
          Nothing is written if nothing changes. What is written is complete first, seen by `check`, and put in the place of the old as `write` with `replace` \
          does, links followed; if the file has been changed since it was read, that is the error `changed`. The difference is on record, without the values of \
          keys that are named like secrets. A map: `changed`, `created`, `path`, `line` (the number of the line as it is now, or was), `diff`, `backup` (its path, \
          or nothing), `atomic`.",
    body: &with2(edit_line, [param("path", "The file."), param("options", "")]),
    asks: &[ask::<Read>(), ask::<Write>(), ask::<Create>()],
    fails: FAILS,
    examples: &[
        Example {
            given: &[("hosts", "127.0.0.1 localhost\n10.0.0.5 db\n")],
            script: r#"let done = edit_line(dir + "/hosts", #{pattern: "\\sdb$", line: "10.0.0.6 db"}); [done.changed, done.line, cat(dir + "/hosts")]"#,
            gives: r#"[true, 2, "127.0.0.1 localhost\n10.0.0.6 db\n"]"#,
        },
        Example {
            given: &[("hosts", "10.0.0.5 db\n")],
            script: r#"edit_line(dir + "/hosts", #{line: "10.0.0.5 db"}).changed"#,
            gives: "false",
        },
        Example {
            given: &[("conf", "a\nb\n")],
            script: r#"edit_line(dir + "/conf", #{pattern: "^a", state: "absent", backup: true}); [cat(dir + "/conf"), ls(dir).len()]"#,
            gives: r#"["b\n", 2]"#,
        },
        Example {
            given: &[("conf", "  listen 80;\n")],
            script: r#"edit_line(dir + "/conf", #{pattern: "^(\\s*)listen .*", line: "$1listen 8080;", check: |text| text.contains("listen")}); cat(dir + "/conf")"#,
            gives: r#""  listen 8080;\n""#,
        },
        Example { given: &[], script: r#"edit_line(dir + "/new", #{line: "x", create: true}).created"#, gives: "true" },
    ],
};

fn edit_line(call: &Call<'_>, path: AbsPath, options: LineOptions) -> Result<Map> {
    let absent = match options.state.as_deref() {
        None | Some("present") => false,
        Some("absent") => true,
        Some(_) => return Err(bad_argument("edit_line: option `state`: expected \"present\" or \"absent\"")),
    };
    let line = options.line.as_deref();
    let wrong = match (absent, line, &options.pattern) {
        (false, None, _) => "`line` is missing: what the line shall be",
        (true, None, None) => "`pattern` or `line` is missing: which lines shall go",
        (true, Some(_), Some(_)) => "`pattern` and `line` exclude each other with `absent`",
        (true, ..) if options.after.is_some() || options.before.is_some() || options.create => {
            "`after`, `before` and `create` are for lines that shall be there"
        }
        (false, _, None) if options.all.is_some() => "`all` needs a `pattern`",
        _ if line.is_some_and(|line| line.contains(['\n', '\r', '\0'])) => {
            "`line` is one line, without its end; `replace_block` is for several"
        }
        _ => "",
    };
    if !wrong.is_empty() {
        return Err(bad_argument(format!("edit_line: {wrong}")));
    }
    let edit = LineEdit {
        pattern: expression("pattern", options.pattern.as_deref())?,
        line,
        absent,
        after: expression("after", options.after.as_deref())?,
        before: expression("before", options.before.as_deref())?,
        all: options.all,
    };
    let how = How {
        create: options.create,
        mode: options.mode,
        backup: options.backup,
        check: options.check.as_ref(),
        dry_run: options.dry_run,
        max_bytes: options.max_bytes,
        secret: false,
    };
    change(call, &path, &how, |bytes| lines::edit_line(bytes, &edit))
}

fn expression(option: &str, pattern: Option<&str>) -> Result<Option<Regex>> {
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .size_limit(LARGEST_PATTERN)
            .build()
            .map_err(|_| bad_argument(format!("option `{option}`: not a regular expression, or too large a one")))
    };
    pattern.map(build).transpose()
}

options! {
    /// Options of `set_key`.
    KeyOptions {
        section: Option<Section> = None, "The section: its name; for `toml` also an array of names, where `a.b` is `[\"a\", \"b\"]`; for `ssh` the whole line that begins a block. Without it, what stands before the first.";
        format: Option<String> = None, "`env`, `ini`, `unit` (of systemd), `conf`, `ssh` or `toml`; `auto`, the default, tells it from the path.";
        separator: Option<String> = None, "What stands between a new key and its value, such as `=` or ` = `, where the file shows nothing else. Only lines with this sign are read.";
        quote: Option<String> = None, "`none`, `single` or `double`; `auto`, the default, is what the old value has, and for `env` what the value needs.";
        duplicates: Option<String> = None, "`first`, `last` or `all`: which line is changed if several have the key. The default is `last` for `env`, else an error.";
        comment: bool = true, "Put a new key behind a line that is the same key commented out.";
        create: bool = false, "Make the file if it is not there; its folder must be there.";
        mode: Option<Bits> = None, "Permission bits of a file that this makes, 0o644 if left out.";
        backup: bool = false, "Keep the old contents beside the file, under its name, the time and `~`.";
        check: Option<FnPtr> = None, "A closure that gets the new contents. If it gives false or throws, nothing is written.";
        dry_run: bool = false, "Write nothing; the result tells what would change. Asks to read only.";
        max_bytes: u64 = 16 << 20, "Refuse a file larger than this.";
    }
}

/// The name of a section, or the names on the way to it.
#[derive(Clone, Debug)]
pub struct Section(Vec<String>);

impl FromScript for Section {
    const TYPE: &'static str = "a string, or an array of strings";
    fn from_script(value: Dynamic) -> Result<Self> {
        Vec::<String>::from_script(value).map(Self)
    }
}

const SET_KEY: Function = Function {
    name: "set_key",
    doc: "Sets one key of a configuration file, or takes it out, and changes nothing else.\n\n\
          The value is a string, number or bool, for `toml` an array or map too; `()` takes the key out, in all lines that have it. Comments, order, spacing, quotes, line ends and \
          everything else stay. A key that is not there goes behind the line where it is commented out, else to the end of its section; a section that is not there \
          goes to the end.\n\n\
          `auto` takes `.toml` for `toml`; `.env`, `environment`, `os-release` and files in `/etc/default` and `/etc/sysconfig` for `env`; `ssh_config`, `sshd_config` and their \
          folders for `ssh`; `.service` and the other units for `unit`; `.ini`, `.cfg`, `.cnf`, `.repo` and whatever has a `section` for `ini`; the rest for `conf`, which is \
          `key = value`, `key: value` or `key value` as most lines of the file are. YAML and JSON are not changed by this function. Keys are compared \
          exactly, those of `ssh` without regard to case. In `toml`, `server.port` is also `port` of the table `server`, if that is there. What would not be read back as the value is not written; an INI value that may go on in the next line and a key \
          that several lines have are errors `bad_data`.\n\n\
          Writes, checks and records as [edit_line] does, and gives the same map.",
    body: &with4(
        set_key,
        [param("path", "The file."), param("key", "The key."), param("value", "Its value; `()` takes the key out."), param("options", "")],
    ),
    asks: &[ask::<Read>(), ask::<Write>(), ask::<Create>()],
    fails: FAILS,
    examples: &[
        Example {
            given: &[("app.env", "# the port\nPORT=80 # plain\nNAME=\"web\"\n")],
            script: r#"set_key(dir + "/app.env", "PORT", 8080); cat(dir + "/app.env")"#,
            gives: r##""# the port\nPORT=8080 # plain\nNAME=\"web\"\n""##,
        },
        Example {
            given: &[("app.ini", "[web]\nport = 80\n\n[db]\n")],
            script: r#"set_key(dir + "/app.ini", "workers", 4, #{section: "web"}); cat(dir + "/app.ini")"#,
            gives: r#""[web]\nport = 80\nworkers = 4\n\n[db]\n""#,
        },
        Example {
            given: &[("app.toml", "[web]\nport = 80 # plain\n")],
            script: r#"set_key(dir + "/app.toml", "port", 8080, #{section: "web", check: |text| text.contains("[web]")}).diff.contains("+port = 8080 # plain")"#,
            gives: "true",
        },
        Example {
            given: &[("sshd_config", "#PermitRootLogin prohibit-password\nX11Forwarding no\n")],
            script: r#"set_key(dir + "/sshd_config", "PermitRootLogin", "no", #{backup: true}); head(dir + "/sshd_config", #{n: 2})"#,
            gives: r##"["#PermitRootLogin prohibit-password", "PermitRootLogin no"]"##,
        },
        Example {
            given: &[("conf", "a = 1\nb = 2\n")],
            script: r#"set_key(dir + "/conf", "a", ()); cat(dir + "/conf")"#,
            gives: r#""b = 2\n""#,
        },
        Example {
            given: &[],
            script: r#"set_key(dir + "/new.env", "A", "b c", #{create: true}); cat(dir + "/new.env")"#,
            gives: r#""A=\"b c\"\n""#,
        },
    ],
};

fn set_key(call: &Call<'_>, path: AbsPath, key: ImmutableString, value: Dynamic, options: KeyOptions) -> Result<Map> {
    let form = form(options.format.as_deref(), &path, options.section.is_some())?;
    let secret = diff::is_secret(&key) || options.section.iter().flat_map(|section| &section.0).any(|name| diff::is_secret(name));
    let how = How {
        create: options.create,
        mode: options.mode,
        backup: options.backup,
        check: options.check.as_ref(),
        dry_run: options.dry_run,
        max_bytes: options.max_bytes,
        secret,
    };
    let section = options.section.unwrap_or(Section(Vec::new())).0;
    if value.is_unit() && options.create {
        return Err(bad_argument("set_key: `create` is for a key that shall be there"));
    }
    let Some(form) = form else {
        if options.separator.is_some() || options.quote.is_some() || options.duplicates.is_some() {
            return Err(bad_argument("set_key: `separator`, `quote` and `duplicates` are not for TOML, which has one way to write a key"));
        }
        let value = if value.is_unit() { None } else { Some(toml::value(&value)?) };
        return change(call, &path, &how, |bytes| toml::set_key(bytes, &section, &key, value.as_ref(), options.comment));
    };
    let value = if value.is_unit() { None } else { Some(scalar(value)?) };
    if section.len() > 1 {
        return Err(bad_argument("set_key: option `section`: an array is for TOML; this format has one name"));
    }
    let edit = KeyEdit {
        form,
        section: section.first().map(String::as_str),
        key: &key,
        value: value.as_deref(),
        separator: options.separator.as_deref(),
        quote: match options.quote.as_deref() {
            None | Some("auto") => Quote::Auto,
            Some("none") => Quote::None,
            Some("single") => Quote::Single,
            Some("double") => Quote::Double,
            Some(_) => return Err(bad_argument("set_key: option `quote`: expected \"auto\", \"none\", \"single\" or \"double\"")),
        },
        which: match options.duplicates.as_deref() {
            None => None,
            Some("first") => Some(Which::First),
            Some("last") => Some(Which::Last),
            Some("all") => Some(Which::All),
            Some(_) => return Err(bad_argument("set_key: option `duplicates`: expected \"first\", \"last\" or \"all\"")),
        },
        comment: options.comment,
    };
    change(call, &path, &how, |bytes| keys::set_key(bytes, &edit))
}

/// A value as text.
fn scalar(value: Dynamic) -> Result<String> {
    let name = value.type_name();
    if value.is_int() || value.is_float() || value.is_bool() {
        return Ok(value.to_string());
    }
    value
        .into_string()
        .map_err(|_| bad_argument(format!("set_key: value: expected a string, number, bool or (), got {}", plain_type(name))))
}

/// Kinds of units of systemd.
const UNITS: &[&str] = &[
    "service",
    "socket",
    "timer",
    "target",
    "mount",
    "automount",
    "swap",
    "path",
    "slice",
    "scope",
    "network",
    "netdev",
    "link",
    "desktop",
];

/// The form of a file; nothing for TOML.
fn form(format: Option<&str>, path: &AbsPath, section: bool) -> Result<Option<Form>> {
    Ok(Some(match format {
        Some("env") => Form::Env,
        Some("ini") => Form::Ini,
        Some("unit") => Form::Unit,
        Some("conf") => Form::Conf,
        Some("ssh") => Form::Ssh,
        Some("toml") => return Ok(None),
        None | Some("auto") => return form_of(path, section),
        Some(_) => {
            return Err(bad_argument(
                "set_key: option `format`: expected \"auto\", \"env\", \"ini\", \"unit\", \"conf\", \"ssh\" or \"toml\"",
            ));
        }
    }))
}

fn form_of(path: &AbsPath, section: bool) -> Result<Option<Form>> {
    let shown = String::from_utf8_lossy(path.as_bytes());
    let (folder, name) = shown.rsplit_once('/').unwrap_or(("", &shown));
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    let folder_name = folder.rsplit('/').next().unwrap_or("");
    Ok(Some(match extension.as_str() {
        "toml" => return Ok(None),
        "yaml" | "yml" | "json" => {
            return Err(bad_argument("set_key: YAML and JSON are not changed by this function").with_hint(
                "`edit_line` or `replace_block`, with `check: |text| parse_yaml(text)` or `parse_json(text)`; or name the `format`",
            ));
        }
        _ if matches!(name, "ssh_config" | "sshd_config") || matches!(folder_name, "ssh_config.d" | "sshd_config.d") => Form::Ssh,
        "env" => Form::Env,
        _ if matches!(name, "environment" | "os-release" | "locale.conf" | "vconsole.conf")
            || name.starts_with(".env")
            || matches!(folder, "/etc/default" | "/etc/sysconfig")
            || folder_name == "environment.d" =>
        {
            Form::Env
        }
        unit if UNITS.contains(&unit) => Form::Unit,
        "conf" if folder.starts_with("/etc/systemd") || folder_name.ends_with(".service.d") => Form::Unit,
        "ini" | "cfg" | "cnf" | "repo" => Form::Ini,
        _ if section => Form::Ini,
        _ => Form::Conf,
    }))
}

options! {
    /// Options of `replace_block`.
    BlockOptions {
        after: Option<String> = None, "A new block goes after the last line that matches this regular expression.";
        before: Option<String> = None, "A new block goes before the first one that matches this; an empty expression is the beginning of the file.";
        comment: Option<String> = None, "What begins a comment in this file, `#` if left out.";
        comment_end: Option<String> = None, "What ends one, such as `-->`, if something does.";
        create: bool = false, "Make the file if it is not there; its folder must be there.";
        mode: Option<Bits> = None, "Permission bits of a file that this makes, 0o644 if left out.";
        backup: bool = false, "Keep the old contents beside the file, under its name, the time and `~`.";
        check: Option<FnPtr> = None, "A closure that gets the new contents. If it gives false or throws, nothing is written.";
        dry_run: bool = false, "Write nothing; the result tells what would change. Asks to read only.";
        max_bytes: u64 = 16 << 20, "Refuse a file larger than this.";
    }
}

const REPLACE_BLOCK: Function = Function {
    name: "replace_block",
    doc: "Makes sure that a block of lines is in a file, between two lines that mark it.\n\n\
          The marks are `# BEGIN name` and `# END name`. The block that they enclose is replaced; a new one goes to the end, or where `after` or `before` says. Text `()` \
          takes the block and its marks out. Marks that are not one pair are the error `bad_data`. \
          Writes, checks and records as [edit_line] does, and gives the same map.",
    body: &with4(
        replace_block,
        [
            param("path", "The file."),
            param("name", "The name of the block, one line."),
            param("text", "Its lines; `()` takes it out."),
            param("options", ""),
        ],
    ),
    asks: &[ask::<Read>(), ask::<Write>(), ask::<Create>()],
    fails: FAILS,
    examples: &[
        Example {
            given: &[("hosts", "127.0.0.1 localhost\n")],
            script: r#"replace_block(dir + "/hosts", "cluster", "10.0.0.1 a\n10.0.0.2 b\n"); cat(dir + "/hosts")"#,
            gives: r##""127.0.0.1 localhost\n# BEGIN cluster\n10.0.0.1 a\n10.0.0.2 b\n# END cluster\n""##,
        },
        Example {
            given: &[("hosts", "# BEGIN cluster\nold\n# END cluster\n127.0.0.1 localhost\n")],
            script: r#"let path = dir + "/hosts"; replace_block(path, "cluster", "new"); [replace_block(path, "cluster", "new").changed, cat(path)]"#,
            gives: r##"[false, "# BEGIN cluster\nnew\n# END cluster\n127.0.0.1 localhost\n"]"##,
        },
        Example {
            given: &[("hosts", "a\n# BEGIN cluster\nold\n# END cluster\nb\n")],
            script: r#"replace_block(dir + "/hosts", "cluster", (), #{backup: true}); cat(dir + "/hosts")"#,
            gives: r#""a\nb\n""#,
        },
        Example {
            given: &[],
            script: r#"replace_block(dir + "/page", "x", "<p>", #{comment: "<!--", comment_end: "-->", create: true}); cat(dir + "/page")"#,
            gives: r#""<!-- BEGIN x -->\n<p>\n<!-- END x -->\n""#,
        },
    ],
};

fn replace_block(
    call: &Call<'_>,
    path: AbsPath,
    name: ImmutableString,
    text: Option<ImmutableString>,
    options: BlockOptions,
) -> Result<Map> {
    let comment = options.comment.as_deref().unwrap_or("#");
    let one_line = |text: &str| !text.contains(['\n', '\r', '\0']);
    if name.trim().is_empty() || !one_line(&name) || !one_line(comment) || !options.comment_end.as_deref().is_none_or(one_line) {
        return Err(bad_argument("replace_block: the name and the signs of comments are one line each, and the name is not empty"));
    }
    if text.is_none() && (options.create || options.after.is_some() || options.before.is_some()) {
        return Err(bad_argument("replace_block: `create`, `after` and `before` are for a block that shall be there"));
    }
    if text.as_ref().is_some_and(|text| text.contains('\0')) {
        return Err(bad_argument("replace_block: the text has a NUL byte"));
    }
    let mark = |word: &str| format!("{comment} {word} {name} {}", options.comment_end.as_deref().unwrap_or("")).trim().to_owned();
    let edit = BlockEdit {
        begin: mark("BEGIN"),
        end: mark("END"),
        text: text.as_deref(),
        after: expression("after", options.after.as_deref())?,
        before: expression("before", options.before.as_deref())?,
    };
    let how = How {
        create: options.create,
        mode: options.mode,
        backup: options.backup,
        check: options.check.as_ref(),
        dry_run: options.dry_run,
        max_bytes: options.max_bytes,
        secret: diff::is_secret(&name),
    };
    change(call, &path, &how, |bytes| lines::replace_block(bytes, &edit))
}

/// What the three functions have in common.
struct How<'a> {
    create: bool,
    mode: Option<Bits>,
    backup: bool,
    check: Option<&'a FnPtr>,
    dry_run: bool,
    max_bytes: u64,
    /// The record shows nothing of the values.
    secret: bool,
}

/// What became of it.
struct Outcome {
    written: Option<Written>,
    backup: Option<AbsPath>,
}

/// Reads, works the new contents out, has them checked, and only then writes.
fn change(call: &Call<'_>, path: &AbsPath, how: &How<'_>, edit: impl Fn(&[u8]) -> Result<Edited>) -> Result<Map> {
    if how.mode.is_some() && !how.create {
        return Err(bad_argument("option `mode` is for a file that `create` makes; one that is there keeps its own"));
    }
    let with_path = |error: Error| if error.path.is_none() { error.with_path(path.shown()) } else { error };
    let file = File::locate(path)?;
    let seen = if file.exists() { Ok(call.permit::<Read>(file)?) } else { Err(absent(call, file, how.create)?) };
    let (seen, file) = match seen {
        Ok(file) => (Some(Seen::of(&file, how.max_bytes, &call.host.watch)?), file.into_resource()),
        Err(file) => (None, file),
    };
    let old = seen.as_ref().map_or(&b""[..], Seen::bytes);
    let granted = match (how.dry_run, &seen) {
        (true, _) => None,
        (false, Some(_)) => Some(call.permit::<Write>(file)?),
        (false, None) => Some(allow_new(call, file)?),
    };
    let edited = edit(old).map_err(with_path)?;
    let changed = seen.is_none() || edited.bytes != old;
    if changed {
        approved(call, how.check, &edited.bytes).map_err(with_path)?;
    }
    let difference = || diff::unified(old, &edited.bytes, &path.shown());
    let outcome = match granted {
        Some(granted) if changed && granted.held() => {
            if how.backup && seen.is_some() {
                drop(backup_place(call, granted.resource())?);
            }
            call.withhold(&granted, &diff::for_record(old, &edited.bytes, how.secret), Some(&difference()))?;
            Outcome { written: None, backup: None }
        }
        Some(granted) if changed => write(call, &granted, how, seen.as_ref(), &edited.bytes)?,
        _ => Outcome { written: None, backup: None },
    };
    Ok(record([
        ("changed", changed.into_script()),
        ("created", seen.is_none().into_script()),
        ("path", name_value(path.as_bytes())),
        ("line", edited.line.and_then(|line| i64::try_from(line).ok()).into_script()),
        ("diff", difference().into_script()),
        ("backup", outcome.backup.map_or(Dynamic::UNIT, |path| name_value(path.as_bytes()))),
        ("atomic", outcome.written.map(|written| written.atomic).into_script()),
    ]))
}

/// A file that is not there, for making it. Who may not read it is told what they would be told of one that is there.
fn absent(call: &Call<'_>, file: File, create: bool) -> Result<File> {
    if create && file.spot().is_some() && call.host.gate.would::<Read>(&file) == Answer::Yes {
        return Ok(file);
    }
    let missing = Error::new(Kind::NotFound, "no such file").with_path(file.asked().shown());
    let file = call.permit::<Read>(file)?;
    Err(file.resource().obstacle().unwrap_or(missing))
}

fn approved(call: &Call<'_>, check: Option<&FnPtr>, bytes: &[u8]) -> Result<()> {
    let Some(check) = check else { return Ok(()) };
    let answer = call.invoke(check, vec![name_value(bytes)])?;
    if answer.as_bool() == Ok(false) {
        return Err(Error::new(Kind::BadData, "the check refused the new contents; nothing was written"));
    }
    Ok(())
}

fn write(call: &Call<'_>, granted: &Granted<Write>, how: &How<'_>, seen: Option<&Seen>, new: &[u8]) -> Result<Outcome> {
    let watch = &call.host.watch;
    let old = seen.map_or(&b""[..], Seen::bytes);
    let tell = |written: &Written| (written.bytes, diff::for_record(old, new, how.secret));
    let Some(seen) = seen else {
        let mode = how.mode.map_or(NEW_FILE, |bits| bits.0);
        let written = call.effect(granted, || sys::write::create_with(granted, new, mode, true, watch), tell)?;
        return Ok(Outcome { written: Some(written), backup: None });
    };
    let place = if how.backup { Some(backup_place(call, granted.resource())?) } else { None };
    let mut backup = None;
    if let Some(place) = &place {
        let made =
            call.effect(place, || sys::write::create_like(place, seen, true, watch), |made| (made.bytes, "backup before a change"))?;
        backup = Some(made);
    }
    match call.effect(granted, || sys::write::replace_seen(granted, seen, new, true, watch), tell) {
        Ok(written) => Ok(Outcome { written: Some(written), backup: place.map(|place| place.resource().asked().clone()) }),
        Err(error) => {
            // Of a change that was not made no backup is needed. Once the new contents stand there it is kept, whatever went wrong.
            if let Some(backup) = backup.filter(|_| error.kind != Kind::Audit) {
                backup.take_back();
            }
            Err(error)
        }
    }
}

/// The place for the old contents, beside the file, permitted but not made yet.
fn backup_place(call: &Call<'_>, file: &File) -> Result<Granted<Write>> {
    let folder = file.folder()?;
    let time: String = sys::clock::now_rfc3339().chars().filter(char::is_ascii_digit).take(14).collect();
    for number in 0..TRIES {
        let again = if number == 0 { String::new() } else { format!("-{number}") };
        let name = [file.name(), format!(".{time}{again}~").as_bytes()].concat();
        match File::entry(&folder, &name) {
            Err(error) if error.kind == Kind::NotFound => return allow_new(call, File::absent_entry(&folder, &name, &FILE)?),
            Err(error) => return Err(error),
            Ok(_) => call.check()?,
        }
    }
    Err(Error::new(Kind::Exists, "there are too many backups of this second").with_path(file.asked().shown()))
}

#[cfg(test)]
mod tests;
