//! Formats of configuration and tables as values and back: YAML, TOML, INI, CSV, and keys with values. They work on text and need no permission.

use super::convert;
use super::datetime::DateTime;
use super::function::{Call, Example, Function, param, with1, with2};
use super::value::{Array, Dynamic, ImmutableString, IntoScript, Map};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;

mod pairs;
mod yaml;

pub const FUNCTIONS: &[Function] = &[PARSE_YAML, TO_YAML, PARSE_TOML, TO_TOML, PARSE_INI, PARSE_CSV, TO_CSV, PARSE_KV];

/// Data that is not in its form. The message tells the place only: what the text holds may be secret.
fn not_in_form(form: &str, line: u64, column: Option<u64>) -> Error {
    let column = column.map(|column| format!(", column {column}")).unwrap_or_default();
    Error::new(Kind::BadData, format!("not {form}: line {line}{column}"))
}

options! {
    /// Options of `parse_yaml`.
    ParseYamlOptions {
        all: bool = false, "The text is a stream of documents: give an array of them.";
    }
}

const PARSE_YAML: Function = Function {
    name: "parse_yaml",
    doc: "YAML text as a value.\n\nThe rules are those of YAML 1.2: only `true` and `false` are booleans, so `yes`, `no`, `on` and `off` stay text, and so does a number with leading zeros such as `0644`. \
          Keys that are no text become text. A key that is there twice is an error, and so is text that unfolds to far more than it is (aliases).",
    body: &with2(parse_yaml, [param("text", "One document, or several with `all`."), param("options", "")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[
        Example {
            given: &[],
            script: r#"parse_yaml("port: 8080\nhosts: [a, b]\nmode: 0644\n")"#,
            gives: r#"#{port: 8080, hosts: ["a", "b"], mode: "0644"}"#,
        },
        Example { given: &[], script: r#"parse_yaml("a: 1\n---\na: 2\n", #{all: true})"#, gives: "[#{a: 1}, #{a: 2}]" },
    ],
};

fn parse_yaml(_: &Call<'_>, text: ImmutableString, options: ParseYamlOptions) -> Result<Dynamic> {
    yaml::parse(&text, options.all)
}

const TO_YAML: Function = Function {
    name: "to_yaml",
    doc: "Any value as YAML text.\n\nBytes become base64, points in time RFC 3339. Text that would be read as something else is quoted.",
    body: &with1(to_yaml, [param("value", "Any value.")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[Example {
        given: &[],
        script: r#"to_yaml(#{hosts: ["a", "b"], on: true})"#,
        gives: r#""hosts:\n- a\n- b\n\"on\": true\n""#,
    }],
};

fn to_yaml(_: &Call<'_>, value: Dynamic) -> Result<String> {
    yaml::write(&value)
}

const PARSE_TOML: Function = Function {
    name: "parse_toml",
    doc: "TOML text as a map.\n\nA date with time and offset becomes a DateTime, dates and times without an offset their text.",
    body: &with1(parse_toml, [param("text", "One document.")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[Example {
        given: &[],
        script: r#"parse_toml("retries = 3\n[net]\nports = [80, 443]\n")"#,
        gives: "#{retries: 3, net: #{ports: [80, 443]}}",
    }],
};

fn parse_toml(_: &Call<'_>, text: ImmutableString) -> Result<Map> {
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
        let line = before.matches('\n').count() as u64 + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() as u64 + 1;
        not_in_form("TOML", line, Some(column))
    })?;
    table.into_iter().map(|(key, value)| Ok((key.into(), from_toml(value)?))).collect()
}

fn from_toml(value: toml::Value) -> Result<Dynamic> {
    use toml::Value;
    Ok(match value {
        Value::String(text) => text.into_script(),
        Value::Integer(int) => int.into_script(),
        Value::Float(float) => float.into_script(),
        Value::Boolean(flag) => flag.into_script(),
        Value::Datetime(time) => {
            let text = time.to_string();
            match time.offset {
                Some(_) => DateTime::parse(&text, None)?.into_script(),
                None => text.into_script(),
            }
        }
        Value::Array(items) => items.into_iter().map(from_toml).collect::<Result<Array>>()?.into_script(),
        Value::Table(table) => {
            table.into_iter().map(|(key, value)| Ok((key.into(), from_toml(value)?))).collect::<Result<Map>>()?.into_script()
        }
    })
}

const TO_TOML: Function = Function {
    name: "to_toml",
    doc: "A map as TOML text.\n\nTOML has no word for nothing: keys whose value is nothing are left out, and in an array it is an error. Bytes become base64.",
    body: &with1(to_toml, [param("value", "A map.")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[Example {
        given: &[],
        script: "to_toml(#{retries: 3, net: #{ports: [80, 443]}})",
        gives: r#""retries = 3\n\n[net]\nports = [80, 443]\n""#,
    }],
};

fn to_toml(_: &Call<'_>, value: Map) -> Result<String> {
    let table = table(&value, 0)?;
    toml::to_string(&table).map_err(|_| Error::new(Kind::BadData, "the value has no form in TOML"))
}

fn table(map: &Map, depth: usize) -> Result<toml::Table> {
    let kept = map.iter().filter(|(_, value)| !value.is_unit());
    kept.map(|(key, value)| Ok((key.to_string(), to_toml_value(value, depth + 1)?))).collect()
}

fn to_toml_value(value: &Dynamic, depth: usize) -> Result<toml::Value> {
    if depth > convert::MAX_DEPTH {
        return Err(convert::too_deep());
    }
    if value.is_unit() {
        return Err(bad_argument("to_toml: an array holds nothing (`()`), for which TOML has no word"));
    }
    if let Ok(map) = value.as_map_ref() {
        return table(&map, depth).map(toml::Value::Table);
    }
    if let Ok(items) = value.as_array_ref() {
        return items.iter().map(|item| to_toml_value(item, depth + 1)).collect::<Result<Vec<_>>>().map(toml::Value::Array);
    }
    if let Some(time) = value.read_lock::<DateTime>().map(|time| *time)
        && let Ok(time) = time.to_string().parse()
    {
        return Ok(toml::Value::Datetime(time));
    }
    Ok(match convert::to_json(value) {
        serde_json::Value::Bool(flag) => flag.into(),
        // A float that JSON lacks.
        serde_json::Value::Null => value.as_float().unwrap_or(f64::NAN).into(),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) if value.is_int() => int.into(),
            (_, Some(float)) => float.into(),
            _ => return Err(Error::new(Kind::BadData, "a number that has no form in TOML")),
        },
        serde_json::Value::String(text) => text.into(),
        _ => return Err(Error::new(Kind::BadData, "the value has no form in TOML")),
    })
}

options! {
    /// Options of `parse_ini`.
    ParseIniOptions {
        delim: String = "=".to_owned(), "What stands between a key and its value.";
        all: bool = false, "Every value is an array of all values that its key has in its section, as in unit files of systemd; without it the last one counts.";
        bare_keys: bool = false, "Lines without a delimiter are keys whose value is nothing, as in `my.cnf`; without it they are an error.";
        unquote: bool = false, "Take a pair of quotes around a value away.";
        continued: bool = false, "A line that ends in a backslash goes on in the next one, as in unit files of systemd.";
    }
}

const PARSE_INI: Function = Function {
    name: "parse_ini",
    doc: "INI text as a map of sections, each a map of text.\n\nKeys before the first section are under `\"\"`. Lines that begin with `#` or `;` are comments; spaces around keys and values are not part of them. Sections of the same name are one.",
    body: &with2(parse_ini, [param("text", "The text."), param("options", "")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[
        Example {
            given: &[],
            script: r#"parse_ini("top = 1\n[net]\n; the usual\nport = 80\n")"#,
            gives: r##"#{"": #{top: "1"}, net: #{port: "80"}}"##,
        },
        Example {
            given: &[],
            script: r#"parse_ini("[Service]\nExecStartPre=/bin/a\nExecStartPre=/bin/b\n", #{all: true}).Service.ExecStartPre"#,
            gives: r#"["/bin/a", "/bin/b"]"#,
        },
    ],
};

fn parse_ini(call: &Call<'_>, text: ImmutableString, options: ParseIniOptions) -> Result<Map> {
    if options.delim.is_empty() {
        return Err(bad_argument("parse_ini: option `delim` is empty"));
    }
    pairs::ini(call, &text, &options)
}

options! {
    /// Options of `parse_kv`.
    ParseKvOptions {
        delim: String = "=".to_owned(), "What stands between a key and its value.";
        separator: String = "lines".to_owned(), "What stands between the pairs: `lines` or `spaces` (logfmt).";
        quotes: bool = true, "Quotes and backslashes in values have the meaning that a shell gives them.";
    }
}

const PARSE_KV: Function = Function {
    name: "parse_kv",
    doc: "Keys with values as a map of text: files such as `/etc/os-release`, or a line of logfmt.\n\nBy lines: `export ` before a key and lines that begin with `#` are passed over, and after spaces so is a `#` with what follows; quotes may hold line ends; nothing is expanded. \
          By spaces: a key without a value is `true`, and in quotes `\\n`, `\\t`, `\\\"` and `\\\\` are what they are in JSON. A key that is there again replaces the one before.",
    body: &with2(parse_kv, [param("text", "The text."), param("options", "")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[
        Example {
            given: &[],
            script: "parse_kv(\"NAME='a b'\\nexport ID=debian # the name\\n\")",
            gives: r#"#{NAME: "a b", ID: "debian"}"#,
        },
        Example {
            given: &[],
            script: r#"parse_kv(`level=info msg="it is up" took=3ms dry`, #{separator: "spaces"})"#,
            gives: r#"#{level: "info", msg: "it is up", took: "3ms", dry: true}"#,
        },
        Example { given: &[], script: r#"parse_kv("MemTotal:  12 kB\n", #{delim: ":"})"#, gives: r#"#{MemTotal: "12 kB"}"# },
    ],
};

fn parse_kv(call: &Call<'_>, text: ImmutableString, options: ParseKvOptions) -> Result<Map> {
    if options.delim.is_empty() || options.delim.contains(['"', '\'', '\n']) {
        return Err(bad_argument("parse_kv: option `delim`: expected text without quotes and line ends"));
    }
    match options.separator.as_str() {
        "lines" => pairs::lines(call, &text, &options.delim, options.quotes),
        "spaces" => pairs::logfmt(&text, &options.delim, options.quotes),
        _ => Err(bad_argument("parse_kv: option `separator`: expected `lines` or `spaces`")),
    }
}

/// A line of logfmt, for `parse_log`.
///
/// # Errors
/// [`Kind::BadData`] when quotes do not close or a pair has no key.
pub(super) fn logfmt(line: &str) -> Result<Map> {
    pairs::logfmt(line, "=", true)
}

options! {
    /// Options of `parse_csv`.
    ParseCsvOptions {
        headers: bool = true, "The first row names the columns, and each row is a map; without it each row is an array.";
        columns: Option<Vec<String>> = None, "Names of the columns instead: the first row is data then.";
        delim: String = ",".to_owned(), "What stands between fields: one ASCII character, `\\t` for tabs.";
        quote: String = "\"".to_owned(), "What stands around fields that hold delimiters: one ASCII character, empty for none.";
        limit: Option<u64> = None, "So many rows at most.";
    }
}

const PARSE_CSV: Function = Function {
    name: "parse_csv",
    doc: "CSV text as an array of maps, or of arrays.\n\nFields are text. A row with more or fewer fields than the first is an error, and so are two columns of one name. Quoted fields may hold delimiters, line ends and doubled quotes (RFC 4180).",
    body: &with2(parse_csv, [param("text", "The text."), param("options", "")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[
        Example { given: &[], script: r#"parse_csv("name,note\na,\"x, y\"\n")"#, gives: r#"[#{name: "a", note: "x, y"}]"# },
        Example { given: &[], script: r#"parse_csv("1;2\n3;4\n", #{headers: false, delim: ";"})"#, gives: r#"[["1", "2"], ["3", "4"]]"# },
    ],
};

/// One ASCII character of an option.
fn character(text: &str, option: &str) -> Result<u8> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Ok(*byte),
        _ => Err(bad_argument(format!("option `{option}`: expected one ASCII character"))),
    }
}

fn parse_csv(call: &Call<'_>, text: ImmutableString, options: ParseCsvOptions) -> Result<Array> {
    let mut builder = csv::ReaderBuilder::new();
    builder.has_headers(false).delimiter(character(&options.delim, "delim")?);
    match options.quote.as_str() {
        "" => builder.quoting(false),
        quote => builder.quote(character(quote, "quote")?),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut reader = builder.from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    let mut next = move |record: &mut csv::StringRecord| {
        reader.read_record(record).map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            let error_of = not_in_form("CSV", line, None);
            match error.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    error_of.with_hint(format!("the row has {len} fields, the first one {expected_len}"))
                }
                _ => error_of,
            }
        })
    };
    let names: Option<Vec<ImmutableString>> = match options.columns {
        Some(columns) => Some(columns.into_iter().map(Into::into).collect()),
        None if options.headers => match next(&mut record)? {
            true => Some(record.iter().map(Into::into).collect()),
            false => return Ok(Array::new()),
        },
        None => None,
    };
    if let Some(names) = &names {
        let mut seen = std::collections::HashMap::new();
        for (at, name) in names.iter().enumerate() {
            if let Some(first) = seen.insert(name.as_str(), at) {
                return Err(Error::new(Kind::BadData, format!("columns {} and {} have the same name", first + 1, at + 1))
                    .with_hint("give names with `columns`, or arrays with #{headers: false}"));
            }
        }
    }
    let limit = options.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let mut rows = Array::new();
    while rows.len() < limit && next(&mut record)? {
        if rows.len().is_multiple_of(256) {
            call.check()?;
        }
        let Some(names) = &names else {
            rows.push(record.iter().map(IntoScript::into_script).collect::<Array>().into_script());
            continue;
        };
        if names.len() != record.len() {
            let line = record.position().map_or(0, csv::Position::line);
            return Err(not_in_form("CSV", line, None).with_hint(format!(
                "the row has {} fields for {} columns",
                record.len(),
                names.len()
            )));
        }
        let row: Map = names.iter().zip(record.iter()).map(|(name, field)| (name.as_str().into(), field.into_script())).collect();
        rows.push(row.into_script());
    }
    Ok(rows)
}

options! {
    /// Options of `to_csv`.
    ToCsvOptions {
        headers: bool = true, "Begin with a row of names where rows are maps.";
        columns: Option<Vec<String>> = None, "Which keys, in which order; without it those of all rows, sorted.";
        delim: String = ",".to_owned(), "What stands between fields: one ASCII character.";
    }
}

const TO_CSV: Function = Function {
    name: "to_csv",
    doc: "Rows as CSV text.\n\nEach row is a map (or an array). Nothing is an empty field, an array or a map its JSON. Fields are quoted where they have to be.",
    body: &with2(to_csv, [param("rows", "An array of maps or arrays."), param("options", "")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[Example {
        given: &[],
        script: r#"to_csv([#{name: "a", note: "x, y"}, #{name: "b"}])"#,
        gives: r#""name,note\na,\"x, y\"\nb,\n""#,
    }],
};

fn to_csv(call: &Call<'_>, rows: Array, options: ToCsvOptions) -> Result<String> {
    let wrong = |at: usize, what: &str| bad_argument(format!("to_csv: row {at} is {what}"));
    let maps = rows.first().is_none_or(Dynamic::is_map);
    let columns: Vec<String> = match options.columns {
        Some(_) if !maps => return Err(bad_argument("to_csv: option `columns` is for rows that are maps")),
        Some(columns) => columns,
        None if maps => {
            let mut names = std::collections::BTreeSet::new();
            for (at, row) in rows.iter().enumerate() {
                let row = row.as_map_ref().map_err(|_| wrong(at, "no map"))?;
                for key in row.keys().filter(|key| !names.contains(key.as_str())).map(ToString::to_string).collect::<Vec<_>>() {
                    names.insert(key);
                }
            }
            names.into_iter().collect()
        }
        None => Vec::new(),
    };
    let mut writer = csv::WriterBuilder::new().delimiter(character(&options.delim, "delim")?).flexible(true).from_writer(Vec::new());
    let failed = |_| Error::new(Kind::BadData, "the rows have no form in CSV");
    if maps && options.headers && !columns.is_empty() {
        writer.write_record(&columns).map_err(failed)?;
    }
    for (at, row) in rows.iter().enumerate() {
        if at % 256 == 0 {
            call.check()?;
        }
        let fields: Vec<String> = if maps {
            let row = row.as_map_ref().map_err(|_| wrong(at, "no map"))?;
            columns.iter().map(|name| row.get(name.as_str()).map(field).unwrap_or_default()).collect()
        } else {
            row.as_array_ref().map_err(|_| wrong(at, "no array"))?.iter().map(field).collect()
        };
        // A row of no fields would read as no row.
        if !fields.is_empty() {
            writer.write_record(&fields).map_err(failed)?;
        }
    }
    let bytes = writer.into_inner().map_err(|_| Error::new(Kind::BadData, "the rows have no form in CSV"))?;
    String::from_utf8(bytes).map_err(|_| Error::new(Kind::Internal, "CSV that is not text"))
}

fn field(value: &Dynamic) -> String {
    if value.is_unit() {
        String::new()
    } else if value.is_array() || value.is_map() || value.is_blob() {
        match convert::to_json(value) {
            serde_json::Value::String(text) => text,
            json => json.to_string(),
        }
    } else {
        convert::display(value)
    }
}

#[cfg(test)]
mod tests;
