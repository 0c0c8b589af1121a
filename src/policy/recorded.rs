//! Questions as records tell them: who asked, for what, in which circumstances, and how much of that is known.

use super::schema;
use super::words::{Attribute, Object, Value};
use serde_json::{Map, Value as Json};

/// Who asked, as the first record of a run tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub run: String,
    pub principal: String,
    /// None: not on record, since the beginning of the run is not among the records.
    pub told: Option<Told>,
    pub uid: u32,
    pub host: String,
    pub script: Option<String>,
    pub client: Option<String>,
    pub evidence: String,
}

/// What only the first record of a run tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub groups: Vec<String>,
    /// Attributes of the caller, as `rex whoami` shows them.
    pub facts: Map<String, Json>,
    pub layers: Vec<String>,
}

/// One question to the policy, as a record tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Namespace and name of the verb.
    pub action: (String, String),
    /// Entity type and id of the resource.
    pub resource: (String, String),
    /// The verb's own circumstances.
    pub context: Map<String, Json>,
    /// What else is on record of the resource.
    pub attributes: Map<String, Json>,
    /// Something of the record was cut, so that circumstances that are not there may have been.
    pub cut: bool,
    /// When, in milliseconds since the epoch.
    pub time: i64,
}

/// An entity in Cedar notation (`Type::"id"`), as records have it, taken apart again. None when it is not whole: records cut what is long.
#[must_use]
pub fn entity(text: &str) -> Option<(String, String)> {
    let (kind, rest) = text.split_once("::\"")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if kind.is_empty() || !kind.chars().all(legal) {
        return None;
    }
    let mut id = String::with_capacity(rest.len());
    let mut rest = rest.strip_suffix('"')?.chars();
    while let Some(c) = rest.next() {
        match c {
            // The quote at the end was the one that ends it, or else one stands where none can.
            '"' => return None,
            '\\' => id.push(escaped(&mut rest)?),
            c => id.push(c),
        }
    }
    Some((kind.to_owned(), id))
}

/// What follows a backslash: the escapes of Rust and of Cedar.
fn escaped(rest: &mut std::str::Chars<'_>) -> Option<char> {
    Some(match rest.next()? {
        c @ ('"' | '\\' | '\'') => c,
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '0' => '\0',
        'u' => {
            let (hex, after) = rest.as_str().strip_prefix('{')?.split_once('}')?;
            if hex.is_empty() || hex.len() > 6 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            *rest = after.chars();
            char::from_u32(u32::from_str_radix(hex, 16).ok()?)?
        }
        _ => return None,
    })
}

/// An action in Cedar notation: namespace and name.
#[must_use]
pub fn action(text: &str) -> Option<(String, String)> {
    let (kind, name) = entity(text)?;
    Some((kind.strip_suffix("::Action")?.to_owned(), name))
}

/// Whether a record cut this text (`…(+N bytes)`), or shows `***` for a part of it. Something that only looks so counts too.
#[must_use]
pub fn incomplete(text: &str) -> bool {
    let cut = || text.strip_suffix(" bytes)").and_then(|text| text.rsplit_once("…(+")).is_some();
    let masked = || text.split(' ').any(|word| word == "***");
    cut() || masked()
}

/// A value of a record as one of the policy language, when it is whole and of this type (Cedar schema notation).
pub(super) fn value(json: &Json, cedar: &'static str) -> Option<Value> {
    let name = cedar.trim();
    let name = name.strip_prefix("__cedar::").unwrap_or(name);
    let value = match json {
        Json::Bool(bool) if name == "Bool" => Value::Bool(*bool),
        Json::Number(number) if name == "Long" => Value::Long(number.as_i64()?),
        Json::String(text) if incomplete(text) => return None,
        Json::String(text) if name == "String" => Value::String(text.clone()),
        Json::String(text) if name == "ipaddr" => Value::Ip(text.clone()),
        Json::Array(items) => {
            let inner = name.strip_prefix("Set<")?.strip_suffix('>')?;
            let whole = |item: &Json| item.as_str().is_none_or(|text| !text.starts_with("…(+"));
            Value::Set(items.iter().map(|item| value(item, inner).filter(|_| whole(item))).collect::<Option<_>>()?)
        }
        Json::Object(map) => {
            let fields = schema::fields(name.strip_prefix('{')?.strip_suffix('}')?);
            let pairs = map.iter().map(|(key, item)| {
                let (field, _, cedar) = fields.iter().find(|(field, ..)| field == key)?;
                Some((*field, value(item, cedar)?))
            });
            Value::Record(pairs.collect::<Option<_>>()?)
        }
        _ => return None,
    };
    schema::fits(&value, cedar).then_some(value)
}

/// Values of these attributes that a record tells, and the names of those that it does not tell and that may be there all the same.
/// `whole`: what is optional and not on record was not there.
pub(super) fn known(map: &Map<String, Json>, attributes: &[Attribute], whole: bool) -> (Vec<(&'static str, Value)>, Vec<&'static str>) {
    let (mut values, mut unknown) = (Vec::new(), Vec::new());
    for attribute in attributes {
        match map.get(attribute.name) {
            Some(json) => match value(json, attribute.cedar) {
                Some(value) => values.push((attribute.name, value)),
                None => unknown.push(attribute.name),
            },
            None if attribute.required || !whole => unknown.push(attribute.name),
            None => {}
        }
    }
    (values, unknown)
}

/// Values of these attributes that a record tells whole. What it cut, and what is another thing by now, is left out.
#[must_use]
pub fn told_values(map: &Map<String, Json>, attributes: &[Attribute]) -> Vec<(&'static str, Value)> {
    known(map, attributes, true).0
}

/// The environment of a program, of which only the names are on record; and these names.
#[must_use]
pub fn told_environment(context: &Map<String, Json>) -> Option<(Value, Value)> {
    let names = value(context.get("environment")?.get("names")?, "Set<String>")?;
    let attributes = vec![("names", names.clone())];
    let object = Object { noun: "file_system::Environment", id: "environment".into(), attributes, tags: Vec::new() };
    Some((Value::Object(Box::new(object)), names))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_cedar_notation_says_is_read_back_exactly(id in any::<String>()) {
            let text = crate::policy::values::written("file_system::File", &id);
            prop_assert_eq!(entity(&text), Some(("file_system::File".to_owned(), id)));
        }
    }

    #[test]
    fn what_was_cut_or_is_no_entity_is_nothing() {
        for text in [
            "",
            "x",
            "User::\"a",
            "User::\"a…(+7 bytes)",
            "User::\"a\"b\"",
            "User::\"\\\"",
            "User::\"\\u{110000}\"",
            "a b::\"c\"",
            "::\"\"",
        ] {
            assert_eq!(entity(text), None, "{text}");
        }
        assert_eq!(entity("User::\"\"").unwrap().1, "");
        assert_eq!(action("file_system::Action::\"read\"").unwrap(), ("file_system".to_owned(), "read".to_owned()));
        assert_eq!(action("file_system::File::\"read\""), None);
    }

    #[test]
    fn what_is_cut_or_masked_is_not_known() {
        for text in ["abc…(+12 bytes)", "*** -x", "-p ***", "***"] {
            assert!(incomplete(text), "{text}");
        }
        for text in ["'***'", "a***", "…(+1", ""] {
            assert!(!incomplete(text), "{text}");
        }
        const ATTRIBUTES: &[Attribute] = &[
            Attribute { name: "argv", cedar: "String", required: true, fixed: true, doc: "" },
            Attribute { name: "user", cedar: "{ username: String, uid: Long }", required: true, fixed: true, doc: "" },
            Attribute { name: "names", cedar: "Set<String>", required: false, fixed: true, doc: "" },
        ];
        let of = |text: &str, whole| known(serde_json::from_str::<Json>(text).unwrap().as_object().unwrap(), ATTRIBUTES, whole);
        let (values, unknown) = of(r#"{"argv":"-t","user":{"username":"x","uid":7}}"#, true);
        assert_eq!(values[1].1, Value::Record(vec![("username", Value::String("x".into())), ("uid", Value::Long(7))]));
        assert!(unknown.is_empty());
        assert_eq!(of(r#"{"argv":"***","user":{"uid":7},"names":[1]}"#, true).1, ["argv", "user", "names"]);
        assert_eq!(of("{}", false).1, ["argv", "user", "names"]);
    }
}
