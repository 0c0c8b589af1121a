//! Our values as Cedar's: no text is ever parsed, except by Cedar's own constructors of addresses and times.

use super::words::{Object, Value};
use cedar_policy_core::FromNormalizedStr as _;
use cedar_policy_core::ast::{self, Eid, EntityType, EntityUID, Name, RestrictedExpr};
use cedar_policy_core::evaluator::RestrictedEvaluator;
use cedar_policy_core::extensions::Extensions;
use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, RwLock};

/// A name that is written as Cedar writes it itself. Its grammar has no part in that: to build the first parser takes longer than a hundred decisions.
pub(super) fn name(text: &str) -> Option<Name> {
    Name::from_normalized_str(text).ok()
}

/// An entity type by name. Read once per process; the names come from nouns and from policies, never from outside.
pub(super) fn entity_type(name: &str) -> Option<EntityType> {
    static KNOWN: LazyLock<RwLock<HashMap<String, EntityType>>> = LazyLock::new(RwLock::default);
    if let Some(known) = KNOWN.read().ok().and_then(|known| known.get(name).cloned()) {
        return Some(known);
    }
    let made = self::name(name).map(EntityType::from)?;
    if let Ok(mut known) = KNOWN.write() {
        known.insert(name.to_owned(), made.clone());
    }
    Some(made)
}

pub(super) fn uid(kind: &str, id: &str) -> Option<EntityUID> {
    Some(EntityUID::from_components(entity_type(kind)?, Eid::new(id), None))
}

/// `Type::"id"` as Cedar writes it.
pub(super) fn written(kind: &str, id: &str) -> String {
    format!("{kind}::\"{}\"", id.escape_debug())
}

/// The value, and the objects inside it, which have to be among the entities.
pub(super) fn value(value: &Value, objects: &mut Vec<ast::Entity>) -> Option<ast::Value> {
    Some(match value {
        Value::Bool(bool) => (*bool).into(),
        Value::Long(long) => (*long).into(),
        Value::String(string) => string.as_str().into(),
        Value::Masked(string, _) => string.as_str().into(),
        Value::Set(items) => ast::Value::set(items.iter().map(|item| self::value(item, objects)).collect::<Option<Vec<_>>>()?, None),
        Value::Record(pairs) => record(pairs, objects)?,
        Value::Datetime(milliseconds) => call("datetime", &datetime(*milliseconds)?)?,
        Value::Ip(text) => call("ip", text)?,
        Value::Entity(kind, id) => uid(kind, id)?.into(),
        Value::Object(object) => {
            let entity = entity(object, objects)?;
            let uid = entity.uid().clone();
            objects.push(entity);
            uid.into()
        }
    })
}

pub(super) fn record(pairs: &[(&'static str, Value)], objects: &mut Vec<ast::Entity>) -> Option<ast::Value> {
    let pairs: Option<Vec<_>> = pairs.iter().map(|(name, item)| Some((*name, value(item, objects)?))).collect();
    Some(ast::Value::record(pairs?, None))
}

fn entity(object: &Object, objects: &mut Vec<ast::Entity>) -> Option<ast::Entity> {
    let attributes: Option<Vec<_>> =
        object.attributes.iter().map(|(name, item)| Some(((*name).into(), value(item, objects)?.into()))).collect();
    let tags: Vec<_> = object.tags.iter().map(|(name, tag)| (name.as_str().into(), ast::Value::from(tag.as_str()).into())).collect();
    Some(ast::Entity::new_with_attr_partial_value(uid(object.noun, &object.id)?, attributes?, HashSet::new(), HashSet::new(), tags))
}

fn call(function: &str, argument: &str) -> Option<ast::Value> {
    static NAMES: LazyLock<HashMap<&'static str, Name>> =
        LazyLock::new(|| ["datetime", "ip"].into_iter().filter_map(|name| Some((name, self::name(name)?))).collect());
    let call = RestrictedExpr::call_extension_fn(NAMES.get(function)?.clone(), [RestrictedExpr::val(argument)]);
    RestrictedEvaluator::new(Extensions::all_available()).interpret(call.as_borrowed()).ok()
}

/// Cedar's text form of a time; None outside the years 0 to 9999, which it cannot write.
fn datetime(milliseconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(milliseconds).ok()?;
    let civil = jiff::tz::TimeZone::UTC.to_datetime(time);
    (0..=9999).contains(&civil.year()).then(|| {
        let (date, clock) = (civil.date(), civil.time());
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            date.year(),
            date.month(),
            date.day(),
            clock.hour(),
            clock.minute(),
            clock.second(),
            clock.millisecond()
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn times_become_cedars_times() {
        assert_eq!(datetime(0).unwrap(), "1970-01-01T00:00:00.000Z");
        assert_eq!(datetime(-1).unwrap(), "1969-12-31T23:59:59.999Z");
        assert_eq!(datetime(i64::MAX), None);
        assert!(value(&Value::Datetime(1_795_500_000_123), &mut Vec::new()).is_some());
    }

    #[test]
    fn addresses_must_be_addresses() {
        assert!(value(&Value::Ip("2001:db8::1".into()), &mut Vec::new()).is_some());
        assert!(value(&Value::Ip("10.0.0.0/8".into()), &mut Vec::new()).is_some());
        assert!(value(&Value::Ip("example.org".into()), &mut Vec::new()).is_none());
    }

    #[test]
    fn ids_are_data() {
        for id in ["a\"b", "a\nb", "x::\"y\"", "\\", "\0", ""] {
            assert_eq!(uid("file_system::File", id).unwrap().eid().as_ref() as &str, id);
        }
        assert_eq!(written("User", "a\"b\n"), "User::\"a\\\"b\\n\"");
    }
}
