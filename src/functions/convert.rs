//! Script values as JSON and as text, and JSON as script values.

use super::value::{Array, Dynamic, Map};
use crate::error::{Error, Kind, Result};
use serde_json::Value;

/// How deep values may nest on their way in or out.
pub(super) const MAX_DEPTH: usize = 128;

/// A script value as JSON. Bytes become base64; floats that JSON lacks become null; what has no JSON form, its text.
#[must_use]
pub fn to_json(value: &Dynamic) -> Value {
    convert(value, 0)
}

fn convert(value: &Dynamic, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::String("…".to_owned());
    }
    if value.is_unit() {
        Value::Null
    } else if let Ok(flag) = value.as_bool() {
        flag.into()
    } else if let Ok(int) = value.as_int() {
        int.into()
    } else if let Ok(float) = value.as_float() {
        float.into()
    } else if let Ok(text) = value.as_immutable_string_ref() {
        text.as_str().into()
    } else if let Ok(array) = value.as_array_ref() {
        array.iter().map(|item| convert(item, depth + 1)).collect()
    } else if let Ok(blob) = value.as_blob_ref() {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(&*blob).into()
    } else if let Ok(map) = value.as_map_ref() {
        Value::Object(map.iter().map(|(key, item)| (key.to_string(), convert(item, depth + 1))).collect())
    } else {
        text_of_other(value).into()
    }
}

/// That a value nests too deep for any format.
#[must_use]
pub fn too_deep() -> Error {
    Error::new(Kind::BadData, format!("the value nests deeper than {MAX_DEPTH} levels"))
}

/// Refuses what [`to_json`] would cut.
///
/// # Errors
/// [`Kind::BadData`] when it nests too deep.
pub fn check_depth(value: &Dynamic) -> Result<()> {
    check_depth_at(value, 0)
}

fn check_depth_at(value: &Dynamic, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    if let Ok(array) = value.as_array_ref() {
        return array.iter().try_for_each(|item| check_depth_at(item, depth + 1));
    }
    if let Ok(map) = value.as_map_ref() {
        return map.values().try_for_each(|item| check_depth_at(item, depth + 1));
    }
    Ok(())
}

/// JSON as a script value. Numbers that fit no int become floats.
///
/// # Errors
/// [`Kind::BadData`] when it nests too deep or holds an int beyond 64 bits.
pub fn from_json(value: &Value) -> Result<Dynamic> {
    from_json_at(value, 0)
}

fn from_json_at(value: &Value, depth: usize) -> Result<Dynamic> {
    if depth > MAX_DEPTH {
        return Err(Error::new(Kind::BadData, format!("JSON nests deeper than {MAX_DEPTH} levels")));
    }
    Ok(match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Dynamic::from_int(int),
            (None, Some(float)) => Dynamic::from_float(float),
            _ => return Err(Error::new(Kind::BadData, "a number that is neither an int nor a float")),
        },
        Value::String(text) => text.clone().into(),
        Value::Array(items) => Dynamic::from_array(items.iter().map(|item| from_json_at(item, depth + 1)).collect::<Result<Array>>()?),
        Value::Object(fields) => {
            let map: Result<Map> = fields.iter().map(|(key, item)| Ok((key.as_str().into(), from_json_at(item, depth + 1)?))).collect();
            Dynamic::from_map(map?)
        }
    })
}

/// A value as people read it: text as it is, structures in the notation of the language.
#[must_use]
pub fn display(value: &Dynamic) -> String {
    if let Ok(text) = value.as_immutable_string_ref() {
        return text.as_str().to_owned();
    }
    let mut out = String::new();
    write(value, &mut out, 0);
    out
}

/// A map as people read it. Errors that scripts caught read as their class and sentence.
#[must_use]
pub fn display_map(map: &Map) -> String {
    let text = |key: &str| map.get(key).and_then(|value| value.as_immutable_string_ref().ok().map(|text| text.as_str().to_owned()));
    if let (Some(kind), Some(message)) = (text("kind"), text("message"))
        && let Some(kind) = Kind::all().find(|known| known.name() == kind)
        && (map.contains_key("at") || map.contains_key("ref") || map.contains_key("errno"))
    {
        let path = text("path").map(|path| format!(": {}", path.escape_debug())).unwrap_or_default();
        return format!("{}: {message}{path}", kind.class().name());
    }
    let mut out = String::new();
    write_map(map, &mut out, 0);
    out
}

fn write(value: &Dynamic, out: &mut String, depth: usize) {
    if depth > MAX_DEPTH {
        out.push('…');
    } else if value.is_unit() {
        out.push_str("()");
    } else if let Ok(text) = value.as_immutable_string_ref() {
        quote(text.as_str(), out);
    } else if let Ok(array) = value.as_array_ref() {
        out.push('[');
        for (at, item) in array.iter().enumerate() {
            if at > 0 {
                out.push_str(", ");
            }
            write(item, out, depth + 1);
        }
        out.push(']');
    } else if let Ok(map) = value.as_map_ref() {
        write_map(&map, out, depth);
    } else {
        out.push_str(&text_of_other(value));
    }
}

fn write_map(map: &Map, out: &mut String, depth: usize) {
    out.push_str("#{");
    for (at, (key, item)) in map.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        quote(key, out);
        out.push_str(": ");
        write(item, out, depth + 1);
    }
    out.push('}');
}

/// A string literal of the language.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn text_of_other(value: &Dynamic) -> String {
    if let Ok(blob) = value.as_blob_ref() {
        return format!("[{} bytes]", blob.len());
    }
    if let Some(time) = value.read_lock::<super::datetime::DateTime>() {
        return time.to_string();
    }
    if value.is_fnptr() {
        return "closure".to_owned();
    }
    value.to_string()
}

/// The sentence for a value that a script threw itself.
#[must_use]
pub fn thrown_message(value: &Dynamic) -> String {
    let text = match value.as_map_ref() {
        Ok(map) => map.get("message").map(display).unwrap_or_else(|| display_map(&map)),
        Err(_) => display(value),
    };
    let mut line: String = text.chars().take(1024).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line
}
