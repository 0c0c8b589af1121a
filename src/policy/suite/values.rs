//! Values as tests write them, made into those of the policy language by the type that the schema says.

use super::vocabulary::shown;
use crate::policy::words::{Attribute, Value};
use crate::policy::{schema, values};
use std::borrow::Cow;
use toml::de::DeValue;

/// A value as it stands in a test.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    Text(String),
    Int(i64),
    Bool(bool),
    /// A date of TOML, as text.
    Time(String),
    List(Vec<Given>),
    Map(Vec<(String, Given)>),
    /// From a line, where the schema alone says what it is.
    Word(String),
}

impl Given {
    /// # Errors
    /// A number that no policy can hold.
    pub(super) fn of(value: &DeValue<'_>) -> Result<Self, String> {
        Ok(match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Boolean(flag) => Self::Bool(*flag),
            DeValue::Datetime(time) => Self::Time(time.to_string()),
            DeValue::Integer(number) => {
                Self::Int(i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| format!("`{}` is too large", number.as_str()))?)
            }
            DeValue::Float(number) => return Err(format!("`{}`: policies know whole numbers only", number.as_str())),
            DeValue::Array(items) => Self::List(items.iter().map(|item| Self::of(item.get_ref())).collect::<Result<_, _>>()?),
            DeValue::Table(pairs) => Self::Map(
                pairs
                    .iter()
                    .map(|(key, item)| Ok((key.get_ref().to_string(), Self::of(item.get_ref())?)))
                    .collect::<Result<_, String>>()?,
            ),
        })
    }

    /// What it is, for messages.
    pub(super) fn shown(&self) -> Cow<'static, str> {
        match self {
            Self::Text(text) | Self::Time(text) | Self::Word(text) => format!("`{}`", shown(text)).into(),
            Self::Int(number) => format!("`{number}`").into(),
            Self::Bool(flag) => format!("`{flag}`").into(),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a table".into(),
        }
    }
}

/// A whole number, also `0o…` and `0x…`.
fn number(word: &str) -> Option<i64> {
    if let Some(octal) = word.strip_prefix("0o") {
        return i64::from_str_radix(octal, 8).ok();
    }
    word.strip_prefix("0x").map_or_else(|| word.parse().ok(), |hex| i64::from_str_radix(hex, 16).ok())
}

/// Milliseconds since the epoch.
///
/// # Errors
/// What would be right.
pub(super) fn time(given: &Given) -> Result<i64, String> {
    let wrong = || format!("expected a time with its zone, e.g. 2026-12-01T23:00:00Z, not {}", given.shown());
    match given {
        Given::Text(text) | Given::Time(text) | Given::Word(text) => {
            text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}

/// The value of this type.
///
/// # Errors
/// What would be right.
pub(super) fn value(given: &Given, cedar: &'static str) -> Result<Value, String> {
    let plain = cedar.trim().strip_prefix("__cedar::").unwrap_or(cedar.trim());
    let wrong = || Err(format!("expected {}, not {}", expected(plain), given.shown()));
    match (plain, given) {
        ("Bool", Given::Bool(flag)) => Ok(Value::Bool(*flag)),
        ("Bool", Given::Word(word)) => word.parse().map(Value::Bool).or_else(|_| wrong()),
        ("Long", Given::Int(int)) => Ok(Value::Long(*int)),
        ("Long", Given::Word(word)) => number(word).map_or_else(wrong, |int| Ok(Value::Long(int))),
        ("String", Given::Text(text) | Given::Word(text)) => Ok(Value::String(text.clone())),
        ("datetime", given) => time(given).map(Value::Datetime),
        ("ipaddr", Given::Text(text) | Given::Word(text)) => {
            Some(Value::Ip(text.clone())).filter(|value| values::value(value, &mut Vec::new()).is_some()).map_or_else(wrong, Ok)
        }
        (set, given) if set.starts_with("Set<") => {
            let Some(inner) = set.strip_prefix("Set<").and_then(|rest| rest.strip_suffix('>')) else { return wrong() };
            match given {
                Given::List(items) => items.iter().map(|item| value(item, inner)).collect::<Result<_, _>>().map(Value::Set),
                Given::Word(word) => {
                    let items = word.split(',').filter(|item| !item.is_empty());
                    items.map(|item| value(&Given::Word(item.to_owned()), inner)).collect::<Result<_, _>>().map(Value::Set)
                }
                _ => wrong(),
            }
        }
        (record, Given::Map(pairs)) => {
            let Some(inner) = record.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else { return wrong() };
            let fields = schema::fields(inner);
            let mut made = Vec::new();
            for (name, given) in pairs {
                let Some((name, _, cedar)) = fields.iter().find(|(field, ..)| field == name) else {
                    return Err(format!("there is no `{}` in it; {}", shown(name), expected(record)));
                };
                made.push((*name, value(given, cedar).map_err(|wrong| format!("`{name}`: {wrong}"))?));
            }
            match fields.iter().find(|(name, required, _)| *required && made.iter().all(|(known, _)| known != name)) {
                Some((missing, ..)) => Err(format!("it lacks `{missing}`")),
                None => Ok(Value::Record(made)),
            }
        }
        _ => wrong(),
    }
}

fn expected(plain: &str) -> String {
    match plain {
        "Bool" => "true or false".to_owned(),
        "Long" => "a whole number".to_owned(),
        "String" => "a text".to_owned(),
        "ipaddr" => "an address, e.g. \"192.0.2.7\"".to_owned(),
        set if set.starts_with("Set<String") => "a list of texts".to_owned(),
        other => format!("a table like {}", other.replace("__cedar::", "")),
    }
}

/// The attributes of these names, each of its type.
///
/// # Errors
/// The place of what is wrong, and a sentence.
pub(super) fn attributes(
    given: &[(usize, String, Given)],
    known: &[Attribute],
    whose: &str,
) -> Result<Vec<(&'static str, Value)>, (usize, String)> {
    let mut made: Vec<(&'static str, Value)> = Vec::new();
    for (place, name, given) in given {
        let Some(attribute) = known.iter().find(|attribute| attribute.name == name) else {
            let near = known.iter().map(|known| known.name).min_by_key(|known| strsim::damerau_levenshtein(known, name));
            let near = near.filter(|near| strsim::damerau_levenshtein(near, name) <= 2);
            let help = near.map_or_else(
                || match known.iter().map(|known| format!("`{}`", known.name)).collect::<Vec<_>>() {
                    none if none.is_empty() => "it has none".to_owned(),
                    some => format!("it has {}", some.join(", ")),
                },
                |near| format!("did you mean `{near}`?"),
            );
            return Err((*place, format!("{whose} has no attribute `{}`; {help}", shown(name))));
        };
        if made.iter().any(|(known, _)| known == name) {
            return Err((*place, format!("`{name}` is given twice")));
        }
        made.push((attribute.name, value(given, attribute.cedar).map_err(|wrong| (*place, format!("`{name}`: {wrong}")))?));
    }
    Ok(made)
}
