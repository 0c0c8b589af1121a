//! JSON as values and back; needs no permission.

use super::convert;
use super::function::{Call, Example, Function, param, with1, with2};
use super::value::Dynamic;
use crate::error::{Error, Kind, Result};
use crate::options;

pub const FUNCTIONS: &[Function] = &[PARSE_JSON, TO_JSON];

const PARSE_JSON: Function = Function {
    name: "parse_json",
    doc: "JSON text as a value.\n\nObjects become maps, arrays arrays, null nothing.",
    body: &with1(parse_json, [param("text", "One JSON document.")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[Example { given: &[], script: r#"parse_json(`{"a": [1, 2.5, null, "x"]}`)"#, gives: r#"#{a: [1, 2.5, (), "x"]}"# }],
};

fn parse_json(_: &Call<'_>, text: String) -> Result<Dynamic> {
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
        Error::new(Kind::BadData, format!("not JSON: line {}, column {}", error.line(), error.column())).with_hint(plain(&error))
    })?;
    convert::from_json(&value)
}

/// What is wrong with the text, in words that hold none of it.
fn plain(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    match error.classify() {
        Category::Eof => "the text ends before the document does".to_owned(),
        Category::Syntax | Category::Data => "the text is not well-formed JSON there".to_owned(),
        Category::Io => "the text could not be read".to_owned(),
    }
}

options! {
    /// Options of `to_json`.
    ToJsonOptions {
        pretty: bool = false, "Indent it.";
    }
}

const TO_JSON: Function = Function {
    name: "to_json",
    doc: "Any value as JSON text.\n\nBytes become base64, points in time RFC 3339, floats that JSON lacks (infinite, or no number) null.",
    body: &with2(to_json, [param("value", "Any value."), param("options", "")]),
    asks: &[],
    fails: &[Kind::BadData],
    examples: &[Example { given: &[], script: r#"to_json(#{a: [1, 2.5, (), "x"]})"#, gives: r#"`{"a":[1,2.5,null,"x"]}`"# }],
};

fn to_json(_: &Call<'_>, value: Dynamic, options: ToJsonOptions) -> Result<String> {
    convert::check_depth(&value)?;
    let value = convert::to_json(&value);
    let text = if options.pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
    text.map_err(|error| Error::new(Kind::BadData, format!("no JSON: {error}")))
}
