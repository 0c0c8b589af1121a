//! Arguments for a script: `name=value` with the type read off the text, `name:=JSON`, and JSON objects, all without silent loss.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::words::shown;
use crate::error::{Error, Kind, Result};

/// The value of one argument; the script sees it as a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Json(Value),
}

/// Words that the script language keeps for itself, so that no constant can have such a name. In order.
pub const RESERVED: &[&str] = &[
    "Fn",
    "as",
    "async",
    "await",
    "break",
    "call",
    "case",
    "catch",
    "const",
    "continue",
    "curry",
    "debug",
    "default",
    "do",
    "else",
    "eval",
    "export",
    "false",
    "fn",
    "for",
    "go",
    "goto",
    "if",
    "import",
    "in",
    "is",
    "is_def_fn",
    "is_def_var",
    "is_shared",
    "let",
    "loop",
    "match",
    "module",
    "new",
    "nil",
    "null",
    "package",
    "print",
    "private",
    "protected",
    "public",
    "return",
    "shared",
    "spawn",
    "static",
    "super",
    "switch",
    "sync",
    "this",
    "thread",
    "throw",
    "true",
    "try",
    "type_of",
    "until",
    "use",
    "var",
    "void",
    "while",
    "with",
    "yield",
];

fn wrong(message: impl Into<String>) -> Error {
    Error::new(Kind::Arguments, message)
}

/// Checks that a script can have a constant of this name: a letter, then letters, digits and `_`, at most 64, and no reserved word.
///
/// # Errors
/// [`Kind::Arguments`] otherwise.
pub fn name(name: &str) -> Result<()> {
    let mut characters = name.chars();
    if !characters.next().is_some_and(|first| first.is_ascii_alphabetic())
        || !characters.all(|character| character.is_ascii_alphanumeric() || character == '_')
        || name.len() > 64
    {
        return Err(wrong(format!("`{}` is no name for an argument: a letter, then letters, digits and `_`, at most 64", shown(name))));
    }
    if RESERVED.binary_search(&name).is_ok() {
        return Err(wrong(format!("`{name}` is a word of the script language and cannot name an argument")));
    }
    Ok(())
}

/// One word `name=value` or `name:=JSON`.
///
/// A plain value that is a number as JSON writes it is an int (if it fits 64 bits) or, with a point, a float; `true` and `false` are
/// bools; anything else is text as it stands, such as `007`, `1e5`, `10.0.0.1` or nothing at all. To force text: `name:='"1.10"'`.
///
/// # Errors
/// [`Kind::Arguments`] for a wrong name and for wrong JSON. The value is never repeated: it may be a secret.
pub fn argument(word: &str) -> Result<(String, Argument)> {
    let Some((left, value)) = word.split_once('=') else {
        return Err(wrong(format!("`{}` is no argument: expected `name=value` or `name:=JSON`", shown(word))));
    };
    if let Some(left) = left.strip_suffix(':') {
        name(left)?;
        let value = json(value).map_err(|error| wrong(format!("argument `{left}`: {}", error.message)))?;
        return Ok((left.to_owned(), Argument::Json(value)));
    }
    name(left)?;
    Ok((left.to_owned(), typed(value)))
}

fn typed(value: &str) -> Argument {
    match value {
        "true" => return Argument::Bool(true),
        "false" => return Argument::Bool(false),
        _ => {}
    }
    let digits = value.strip_prefix('-').unwrap_or(value).as_bytes();
    let whole = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    // JSON's grammar of numbers: no sign but a minus, no zero in front of other digits.
    if whole == 0 || (whole > 1 && digits.first() == Some(&b'0')) {
        return Argument::Text(value.to_owned());
    }
    if whole == digits.len() {
        return value.parse().map_or_else(|_| Argument::Text(value.to_owned()), Argument::Int);
    }
    // Without the point `1e5` would be a float, and so would many an abbreviated commit. Rust reads more than JSON does (`1.`, `1.e5`).
    let fraction = digits.get(whole) == Some(&b'.') && digits.get(whole + 1).is_some_and(u8::is_ascii_digit);
    match value.parse::<f64>() {
        Ok(float) if fraction && float.is_finite() => Argument::Float(float),
        _ => Argument::Text(value.to_owned()),
    }
}

/// Reads one JSON document without loss: a key that occurs twice and a whole number outside 64 bits are errors, where most readers would
/// take the last and round. At most 128 levels deep.
///
/// # Errors
/// [`Kind::Arguments`], with the place.
pub fn json(text: &str) -> Result<Value> {
    let value = serde_json::from_str::<Lossless>(text).map_err(|error| wrong(format!("not valid JSON: {error}")))?.0;
    whole_numbers_fit(text)?;
    Ok(value)
}

/// Reads `--arguments-json`: an object whose keys are names of arguments.
///
/// # Errors
/// [`Kind::Arguments`].
pub fn json_object(text: &str) -> Result<Map<String, Value>> {
    match json(text)? {
        Value::Object(object) => {
            object.keys().try_for_each(|key| name(key))?;
            Ok(object)
        }
        _ => Err(wrong("expected a JSON object such as `{\"name\": \"value\"}`")),
    }
}

/// serde_json gives a whole number beyond 64 bits as a rounded float, which cannot be told from a float any more; so look at the text,
/// which is known to be JSON.
fn whole_numbers_fit(text: &str) -> Result<()> {
    let mut in_string = false;
    let mut rest = text.bytes().enumerate().peekable();
    while let Some((start, byte)) = rest.next() {
        match byte {
            b'\\' if in_string => _ = rest.next(),
            b'"' => in_string = !in_string,
            b'-' | b'0'..=b'9' if !in_string => {
                let mut end = start + 1;
                while rest.next_if(|(_, byte)| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')).is_some() {
                    end += 1;
                }
                let number = text.get(start..end).unwrap_or_default();
                if !number.contains(['.', 'e', 'E']) && number.parse::<i64>().is_err() {
                    return Err(wrong(format!("the whole number at column {} does not fit 64 bits", start + 1)));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A [`Value`] whose reading refuses a repeated key.
struct Lossless(Value);

impl<'de> Deserialize<'de> for Lossless {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(LosslessVisitor).map(Self)
    }
}

struct LosslessVisitor;

impl<'de> Visitor<'de> for LosslessVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }
    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }
    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_string<E>(self, value: String) -> std::result::Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> std::result::Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Lossless(element)) = elements.next_element()? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{}` occurs twice", shown(&key))));
            }
            let Lossless(value) = entries.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json as value;

    fn text(text: &str) -> Argument {
        Argument::Text(text.to_owned())
    }

    #[test]
    fn a_value_has_the_type_that_its_text_shows() {
        for (word, argument_) in [
            ("a=1", Argument::Int(1)),
            ("a=-0", Argument::Int(0)),
            ("a=9223372036854775807", Argument::Int(i64::MAX)),
            ("a=-9223372036854775808", Argument::Int(i64::MIN)),
            ("a=9223372036854775808", text("9223372036854775808")),
            ("a=1.5", Argument::Float(1.5)),
            ("a=-0.25", Argument::Float(-0.25)),
            ("a=1.5e3", Argument::Float(1500.0)),
            ("a=true", Argument::Bool(true)),
            ("a=false", Argument::Bool(false)),
            ("a=True", text("True")),
            ("a=", text("")),
            ("a=007", text("007")),
            ("a=00.5", text("00.5")),
            ("a=1e5", text("1e5")),
            ("a=1.", text("1.")),
            ("a=.5", text(".5")),
            ("a=1.e5", text("1.e5")),
            ("a=1.0e999", text("1.0e999")),
            ("a=+1", text("+1")),
            ("a= 1", text(" 1")),
            ("a=-", text("-")),
            ("a=inf", text("inf")),
            ("a=NaN", text("NaN")),
            ("a=0x10", text("0x10")),
            ("a=1_000", text("1_000")),
            ("a=10.0.0.1", text("10.0.0.1")),
            ("a=b=c", text("b=c")),
            ("a=$(id)", text("$(id)")),
            ("a=() { :;}; touch X", text("() { :;}; touch X")),
            ("a:=1", Argument::Json(value!(1))),
            ("a:=\"1\"", Argument::Json(value!("1"))),
            ("a:=[1, {\"b\": null}]", Argument::Json(value!([1, {"b": null}]))),
        ] {
            assert_eq!(argument(word).unwrap(), ("a".to_owned(), argument_), "{word}");
        }
    }

    #[test]
    fn a_name_that_no_constant_can_have_is_refused() {
        for name_ in ["", "1a", "_a", "a-b", "a.b", "ä", "a b", "--x", "let", "this", "eval", "$x", "a\u{202e}", &"a".repeat(65)] {
            for word in [format!("{name_}=1"), format!("{name_}:=1")] {
                assert_eq!(argument(&word).unwrap_err().kind, Kind::Arguments, "{word}");
            }
        }
        for name_ in ["a", "A9_", "letter", "global", &"a".repeat(64)] {
            assert!(name(name_).is_ok(), "{name_}");
        }
    }

    #[test]
    fn the_reserved_words_are_in_order_so_that_they_are_found() {
        assert!(RESERVED.is_sorted());
        assert!(RESERVED.iter().all(|word| name(word).is_err()));
    }

    #[test]
    fn a_wrong_value_is_not_repeated_for_it_may_be_a_secret() {
        for word in ["password:=hunter2", "password:={\"a\": hunter2}", "password:=99999999999999999999912345", "password:=\"hunter2"] {
            let error = argument(word).unwrap_err();
            assert!(error.message.starts_with("argument `password`: "), "{}", error.message);
            assert!(!error.message.contains("hunter2") && !error.message.contains("12345"), "{}", error.message);
        }
    }

    #[test]
    fn json_that_others_would_read_with_loss_is_refused() {
        for (text, message) in [
            ("{\"a\":1,\"a\":2}", "the key `a` occurs twice"),
            ("[{\"b\":{\"a\":1,\"\\u0061\":2}}]", "the key `a` occurs twice"),
            ("9223372036854775808", "the whole number at column 1 does not fit 64 bits"),
            ("[1, -9223372036854775809]", "the whole number at column 5 does not fit 64 bits"),
            ("{\"a\": 18446744073709551616}", "the whole number at column 7 does not fit 64 bits"),
            ("1e999", "number out of range"),
            ("{} {}", "trailing characters"),
            ("{\"a\":1,}", "trailing comma"),
            ("'a'", "expected value"),
            ("NaN", "expected value"),
            ("01", "invalid number"),
            ("", "EOF"),
        ] {
            let error = json(text).unwrap_err();
            assert_eq!(error.kind, Kind::Arguments);
            assert!(error.message.contains(message), "{text}: {}", error.message);
        }
        assert_eq!(json(r#"["99999999999999999999", "\"99999999999999999999", 1e20, -1]"#).unwrap()[2], value!(1e20));
    }

    #[test]
    fn json_nested_without_end_is_refused_and_overflows_no_stack() {
        assert!(json(&format!("{}{}", "[".repeat(100), "]".repeat(100))).is_ok());
        assert!(json(&"[".repeat(60_000)).is_err());
        assert!(json(&"{\"a\":".repeat(10_000)).is_err());
    }

    #[test]
    fn arguments_as_json_are_an_object_with_names_of_arguments() {
        assert_eq!(json_object(r#"{"b":1,"a":[2]}"#).unwrap().keys().collect::<Vec<_>>(), ["b", "a"]);
        for text in ["[]", "1", "null", "\"a\"", r#"{"not an ident!":1}"#, r#"{"_x":1}"#, r#"{"":1}"#] {
            assert_eq!(json_object(text).unwrap_err().kind, Kind::Arguments, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_word_is_an_argument_or_an_error(word in any::<String>()) {
            _ = argument(&word);
            _ = json(&word);
        }

        #[test]
        fn every_whole_number_and_every_text_arrives_as_it_was(int in any::<i64>(), string in any::<String>()) {
            prop_assert_eq!(argument(&format!("a={int}")).unwrap().1, Argument::Int(int));
            prop_assert_eq!(argument(&format!("a=x{string}")).unwrap().1, Argument::Text(format!("x{string}")));
            prop_assert_eq!(argument(&format!("a:={}", Value::from(string.as_str()))).unwrap().1, Argument::Json(Value::from(string)));
        }

        #[test]
        fn whatever_is_read_as_a_number_is_that_number(value in "-?[0-9.eE+]{1,12}") {
            match argument(&format!("a={value}")).unwrap().1 {
                Argument::Int(int) => prop_assert_eq!(value.parse::<i64>().unwrap(), int),
                Argument::Float(float) => {
                    prop_assert_eq!(value.parse::<f64>().unwrap(), float);
                    prop_assert!(value.contains('.') && serde_json::from_str::<f64>(&value).is_ok(), "JSON has no such number");
                }
                other => prop_assert_eq!(other, Argument::Text(value)),
            }
        }
    }
}
