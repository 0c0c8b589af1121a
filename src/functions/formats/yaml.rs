//! YAML: read with budgets against text that unfolds without end, and written.

use crate::error::{Error, Kind, Result};
use crate::functions::convert;
use crate::functions::value::{Array, Dynamic, IntoScript, Map};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_saphyr::Options;
use serde_saphyr::options::DuplicateKeyPolicy;

/// How deep collections may nest.
const MAX_DEPTH: usize = 100;
/// Values in all, after aliases are unfolded.
const MAX_NODES: usize = 4_000_000;
/// Values that come from aliases; anchors that are used again and again are what bombs are made of.
const MAX_REPLAYED: usize = 200_000;
/// Documents of one stream.
const MAX_DOCUMENTS: usize = 10_000;

/// Reads one document, or all of a stream as an array.
///
/// # Errors
/// [`Kind::BadData`] with the place, and none of the text.
pub fn parse(text: &str, all: bool) -> Result<Dynamic> {
    let result = if all {
        serde_saphyr::from_multiple_with_options::<Plain>(text, options())
            .map(|documents| documents.into_iter().map(|document| document.0).collect::<Array>().into_script())
    } else {
        serde_saphyr::from_str_with_options::<Plain>(text, options()).map(|document| document.0)
    };
    result.map_err(|error| refusal(&error))
}

fn options() -> Options {
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.strict_booleans = true;
    options.leading_zero_numbers_as_strings = true;
    options.underscored_numbers_as_strings = true;
    options.with_snippet = false;
    options.alias_limits.max_total_replayed_events = MAX_REPLAYED;
    options.alias_limits.max_replay_stack_depth = MAX_DEPTH;
    if let Some(budget) = &mut options.budget {
        budget.max_depth = MAX_DEPTH;
        budget.max_nodes = MAX_NODES;
        budget.max_events = 2 * MAX_NODES;
        budget.max_documents = MAX_DOCUMENTS;
        budget.max_total_scalar_bytes = 256 << 20;
    }
    options
}

fn refusal(error: &serde_saphyr::Error) -> Error {
    use serde_saphyr::Error as E;
    let place = error.location().map(|place| format!(": line {}, column {}", place.line(), place.column())).unwrap_or_default();
    let hint = match error.without_snippet() {
        E::MultipleDocuments { .. } => "there is more than one document: pass #{all: true}",
        E::DuplicateMappingKey { .. } => "a key is there twice",
        E::UnknownAnchor { .. } => "an alias has no anchor",
        E::Budget { .. }
        | E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. } => "it nests too deep, or unfolds to too much",
        E::Eof { .. } => "the text ends before the document does",
        E::Message { msg, .. } if msg == KEY => KEY,
        _ => "the text is not well-formed YAML there",
    };
    Error::new(Kind::BadData, format!("not YAML{place}")).with_hint(hint)
}

const KEY: &str = "a list or a map is no key";

/// A value of the script, read.
struct Plain(Dynamic);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Dynamic;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, flag: bool) -> std::result::Result<Dynamic, E> {
        Ok(flag.into_script())
    }
    fn visit_i64<E>(self, int: i64) -> std::result::Result<Dynamic, E> {
        Ok(int.into_script())
    }
    fn visit_u64<E>(self, int: u64) -> std::result::Result<Dynamic, E> {
        #[allow(clippy::cast_precision_loss, reason = "numbers that fit no int become floats, as from JSON")]
        Ok(i64::try_from(int).map_or_else(|_| (int as f64).into_script(), IntoScript::into_script))
    }
    fn visit_i128<E>(self, int: i128) -> std::result::Result<Dynamic, E> {
        #[allow(clippy::cast_precision_loss, reason = "numbers that fit no int become floats, as from JSON")]
        Ok(i64::try_from(int).map_or_else(|_| (int as f64).into_script(), IntoScript::into_script))
    }
    fn visit_u128<E>(self, int: u128) -> std::result::Result<Dynamic, E> {
        #[allow(clippy::cast_precision_loss, reason = "numbers that fit no int become floats, as from JSON")]
        Ok(i64::try_from(int).map_or_else(|_| (int as f64).into_script(), IntoScript::into_script))
    }
    fn visit_f64<E>(self, float: f64) -> std::result::Result<Dynamic, E> {
        Ok(float.into_script())
    }
    fn visit_str<E>(self, text: &str) -> std::result::Result<Dynamic, E> {
        Ok(text.into_script())
    }
    fn visit_bytes<E>(self, bytes: &[u8]) -> std::result::Result<Dynamic, E> {
        Ok(bytes.to_vec().into_script())
    }
    fn visit_unit<E>(self) -> std::result::Result<Dynamic, E> {
        Ok(Dynamic::UNIT)
    }
    fn visit_none<E>(self) -> std::result::Result<Dynamic, E> {
        Ok(Dynamic::UNIT)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Dynamic, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Dynamic, A::Error> {
        let mut array = Array::new();
        while let Some(Plain(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(array.into_script())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> std::result::Result<Dynamic, A::Error> {
        let mut map = Map::new();
        while let Some(Plain(key)) = fields.next_key()? {
            let key = match key {
                key if key.is_unit() => "null".to_owned(),
                key if key.is_array() || key.is_map() || key.is_blob() => return Err(serde::de::Error::custom(KEY)),
                key => convert::display(&key),
            };
            let Plain(value) = fields.next_value()?;
            // Two keys of different types can be one as text: `1` and `"1"`.
            if map.insert(key.into(), value).is_some() {
                return Err(serde::de::Error::custom("a key is there twice"));
            }
        }
        Ok(map.into_script())
    }
}

/// Any value as YAML.
///
/// # Errors
/// [`Kind::BadData`] when it nests too deep.
pub fn write(value: &Dynamic) -> Result<String> {
    convert::check_depth(value)?;
    serde_saphyr::to_string(&Shown(value)).map_err(|_| Error::new(Kind::BadData, "the value has no form in YAML"))
}

/// A value of the script, to be written.
struct Shown<'a>(&'a Dynamic);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let value = self.0;
        if let Ok(float) = value.as_float() {
            return serializer.serialize_f64(float);
        }
        if let Ok(items) = value.as_array_ref() {
            let mut sequence = serializer.serialize_seq(Some(items.len()))?;
            items.iter().try_for_each(|item| sequence.serialize_element(&Shown(item)))?;
            return sequence.end();
        }
        if let Ok(fields) = value.as_map_ref() {
            let mut map = serializer.serialize_map(Some(fields.len()))?;
            fields.iter().try_for_each(|(key, item)| map.serialize_entry(key.as_str(), &Shown(item)))?;
            return map.end();
        }
        convert::to_json(value).serialize(serializer)
    }
}
