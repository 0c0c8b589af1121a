//! Which records are wanted: what `rex audit show`, `follow` and `stats` ask of them.

use super::read::{Record, text};
use crate::error::{Error, Kind, Result};
use serde_json::Value;
use std::collections::HashSet;

/// Which records are wanted; what is `None` is not asked about.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The id of a run, or how it begins.
    pub run: Option<String>,
    pub principal: Option<String>,
    /// Runs of callers in this group. Their first record says so, so what is read has to begin with it.
    pub group: Option<String>,
    /// An action in Cedar notation, or its last word (`read`).
    pub action: Option<String>,
    /// How the resource begins: in Cedar notation, or its id (`/etc/`).
    pub resource: Option<String>,
    /// `allow` or `deny`.
    pub decision: Option<String>,
    pub event: Option<String>,
    /// The reference of a denial, `d-…`.
    pub reference: Option<String>,
    /// Records at this time or later.
    pub since: Option<jiff::Timestamp>,
    /// Records before this time.
    pub until: Option<jiff::Timestamp>,
}

/// A filter at work. It remembers which runs are of the wanted group.
pub struct Sieve<'a> {
    filter: &'a Filter,
    of_group: HashSet<String>,
}

impl<'a> Sieve<'a> {
    #[must_use]
    pub fn new(filter: &'a Filter) -> Self {
        Self { filter, of_group: HashSet::new() }
    }

    /// Whether this record is wanted; records come in the order they were written.
    pub fn wants(&mut self, record: &Record) -> bool {
        let filter = self.filter;
        let in_group = filter.group.as_ref().is_none_or(|group| {
            let has = |groups: &Vec<Value>| groups.iter().any(|one| one.as_str() == Some(group));
            if record.get("groups").and_then(Value::as_array).is_some_and(has) {
                self.of_group.insert(text(record, "run").to_owned());
            }
            self.of_group.contains(text(record, "run"))
        });
        let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| text(record, name) == wanted);
        let action = |wanted: &String| {
            let action = text(record, "action");
            action == wanted || action.ends_with(&format!("::\"{wanted}\""))
        };
        let resource = |wanted: &String| {
            let resource = text(record, "resource");
            resource.starts_with(wanted.as_str()) || id_of(resource).starts_with(wanted.as_str())
        };
        let time = || text(record, "time").parse::<jiff::Timestamp>().ok();
        in_group
            && is(&filter.principal, "principal")
            && is(&filter.decision, "decision")
            && is(&filter.event, "event")
            && is(&filter.reference, "ref")
            && filter.run.as_ref().is_none_or(|run| text(record, "run").starts_with(run.as_str()))
            && filter.action.as_ref().is_none_or(action)
            && filter.resource.as_ref().is_none_or(resource)
            && filter.since.is_none_or(|since| time().is_some_and(|time| time >= since))
            && filter.until.is_none_or(|until| time().is_some_and(|time| time < until))
    }
}

/// The type of an entity in Cedar notation, as written there.
pub(super) fn type_of(entity: &str) -> &str {
    entity.split_once("::\"").map_or("", |(kind, _)| kind)
}

/// The id of an entity in Cedar notation, as written there.
pub(super) fn id_of(entity: &str) -> &str {
    entity.split_once("::\"").map_or(entity, |(_, id)| id.strip_suffix('"').unwrap_or(id))
}

/// A moment: RFC 3339 (`2026-01-31T14:00:00Z`), a day (`2026-01-31`, its beginning in UTC), or so long before `now` (`1h` or `-1h`).
///
/// # Errors
/// [`Kind::Usage`] when it is none of these.
pub fn moment(text: &str, now: jiff::Timestamp) -> Result<jiff::Timestamp> {
    let wrong = || {
        let text = text.escape_debug();
        Error::new(
            Kind::Usage,
            format!(
                "`{text}` is no time; give one such as 2026-01-31T14:00:00Z, 2026-01-31, 90s, 15m, 1h, 2d or 1w (ago; `-1h` is the same)"
            ),
        )
    };
    // `1d` is as good as `-1d`: a number and a unit is no date.
    let ago = text.strip_prefix('-').or_else(|| {
        let number = text.get(..text.len().checked_sub(1)?)?;
        (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) && !text.ends_with(|last: char| last.is_ascii_digit()))
            .then_some(text)
    });
    if let Some(span) = ago {
        let unit = match span.chars().last() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some('w') => 7 * 86_400,
            _ => return Err(wrong()),
        };
        let number: i64 =
            span.get(..span.len() - 1).and_then(|number| number.parse().ok()).filter(|number| *number >= 0).ok_or_else(wrong)?;
        let seconds = number.checked_mul(unit).ok_or_else(wrong)?;
        return now.checked_sub(jiff::SignedDuration::from_secs(seconds)).map_err(|_| wrong());
    }
    if text.len() == 10 {
        return format!("{text}T00:00:00Z").parse().map_err(|_| wrong());
    }
    text.parse().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn moments_are_absolute_or_before_now() {
        let now: jiff::Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        for (text, is) in [
            ("2026-01-31T14:00:00Z", "2026-01-31T14:00:00Z"),
            ("2026-01-31T14:00:00+02:00", "2026-01-31T12:00:00Z"),
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("-90s", "2026-11-24T11:58:30Z"),
            ("-15m", "2026-11-24T11:45:00Z"),
            ("15m", "2026-11-24T11:45:00Z"),
            ("-1h", "2026-11-24T11:00:00Z"),
            ("-2d", "2026-11-22T12:00:00Z"),
            ("-1w", "2026-11-17T12:00:00Z"),
            ("-0s", "2026-11-24T12:00:00Z"),
        ] {
            assert_eq!(moment(text, now).unwrap().to_string(), is, "{text}");
        }
        for text in [
            "",
            "-",
            "-h",
            "--1h",
            "-1",
            "-1y",
            "1y",
            "h",
            "-99999999999999999999s",
            "-9000000000000000000s",
            "2026-13-01",
            "yesterday",
            "-1é",
        ] {
            assert_eq!(moment(text, now).unwrap_err().kind, Kind::Usage, "{text}");
        }
    }
}
