//! `systemd::Service`, `systemd::Unit` and `systemd::Systemd`: what the service manager manages, and itself.

use crate::error::{Error, Result, bad_argument};
use crate::policy::{Attribute, Noun, Resource, Value};
use std::borrow::Cow;

const fn attribute(name: &'static str, doc: &'static str) -> Attribute {
    Attribute { name, cedar: "String", required: true, fixed: true, doc }
}
const ATTRIBUTES: &[Attribute] = &[
    attribute("name", "Its full name, e.g. `nginx.service`."),
    attribute("kind", "service, socket, target, timer, mount … (systemd.unit(5))."),
];

pub const SERVICE: Noun = Noun {
    name: "systemd::Service",
    parents: &[],
    attributes: ATTRIBUTES,
    doc: "A service. Its id is its full name, e.g. `nginx.service`; an alias means the unit it stands for.",
};
pub const UNIT: Noun = Noun {
    name: "systemd::Unit",
    parents: &[],
    attributes: ATTRIBUTES,
    doc: "A unit that is no service: a target, socket, timer, mount … So a permission for services in general is none for `reboot.target`.",
};
pub const SYSTEMD: Noun = Noun { name: "systemd::Systemd", parents: &[], attributes: &[], doc: "The service manager; its id is `local`." };

/// The kinds of unit (systemd.unit(5)), as the last part of a name.
pub const KINDS: &[&str] = &["service", "socket", "target", "device", "mount", "automount", "swap", "timer", "path", "slice", "scope"];

/// The longest name of a unit (systemd's UNIT_NAME_MAX, 256 with the final NUL).
const LONGEST: usize = 255;

/// The full name of a unit: `foo` is `foo.service`, as for systemctl(1).
///
/// # Errors
/// [`crate::error::Kind::BadArgument`] when it cannot be the name of a unit. Paths and patterns are no names.
pub fn unit_name(text: &str) -> Result<String> {
    let shown: String = text.chars().take(60).collect();
    let legal = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if text.is_empty() || !text.chars().all(legal) {
        return Err(bad_argument(format!("`{}` is no name of a unit: letters, digits and `:-_.\\@` are", shown.escape_debug())));
    }
    let name =
        if text.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind)) { text.to_owned() } else { format!("{text}.service") };
    let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
    if name.len() > LONGEST || stem.is_empty() || stem.starts_with('@') {
        return Err(bad_argument(format!(
            "`{}` is no name of a unit: it has to be like `name.service`, at most {LONGEST} letters",
            shown.escape_debug()
        )));
    }
    Ok(name)
}

/// The kind of a full name: `service` of `foo.service`.
#[must_use]
pub fn kind(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, kind)| kind)
}

/// A unit, found by the service manager under its own name.
#[derive(Debug)]
pub struct Service {
    asked: String,
    id: String,
    /// The object that stands for it on the bus.
    path: String,
    why_not: Option<Error>,
}

impl Service {
    /// The unit `id` that the service manager found for the name `asked`; `path` is its object.
    #[must_use]
    pub fn found(asked: String, id: String, path: String) -> Self {
        Self { asked, id, path, why_not: None }
    }
    /// The unit that this full name would be, and why it cannot be used. The policy is asked first, and told nothing.
    #[must_use]
    pub fn absent(name: String, why_not: Error) -> Self {
        Self { asked: name.clone(), id: name, path: String::new(), why_not: Some(why_not) }
    }
    /// Its own full name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.id
    }
    #[must_use]
    pub fn kind(&self) -> &str {
        kind(&self.id)
    }
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Resource for Service {
    const NOUNS: &'static [Noun] = &[SERVICE, UNIT];
    fn noun(&self) -> &'static Noun {
        if self.kind() == "service" { &SERVICE } else { &UNIT }
    }
    fn id(&self) -> &str {
        &self.id
    }
    fn shown(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.asked)
    }
    fn each_ancestor(&self, _: &mut dyn FnMut(&'static str, &str)) {}
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        Ok(match name {
            "name" => Some(Value::String(self.id.clone())),
            "kind" => Some(Value::String(self.kind().to_owned())),
            _ => None,
        })
    }
    fn obstacle(&self) -> Option<Error> {
        self.why_not.clone()
    }
}

/// The service manager of this host.
#[derive(Debug)]
pub struct Manager;

impl Resource for Manager {
    const NOUNS: &'static [Noun] = &[SYSTEMD];
    fn noun(&self) -> &'static Noun {
        &SYSTEMD
    }
    fn id(&self) -> &'static str {
        "local"
    }
    fn each_ancestor(&self, _: &mut dyn FnMut(&'static str, &str)) {}
    fn attribute(&self, _: &str) -> Result<Option<Value>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_name_without_a_kind_is_a_service() {
        for (given, full) in [
            ("sshd", "sshd.service"),
            ("sshd.service", "sshd.service"),
            ("getty@tty1", "getty@tty1.service"),
            ("reboot.target", "reboot.target"),
            ("dev-disk-by\\x2dlabel-data.mount", "dev-disk-by\\x2dlabel-data.mount"),
            ("python3.11", "python3.11.service"),
        ] {
            assert_eq!(unit_name(given).unwrap(), full);
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        for bad in ["", "a b", "../x", "/etc/x.service", "x*", "[a]", "ü", ".service", "@x.service", "a\0", "a\n", &"a".repeat(260)] {
            assert_eq!(unit_name(bad).unwrap_err().kind, crate::error::Kind::BadArgument, "{bad:?}");
        }
    }

    #[test]
    fn only_a_service_is_a_service() {
        let noun = |name: &str| Service::found(name.to_owned(), name.to_owned(), String::new()).noun().name;
        assert_eq!(noun("sshd.service"), "systemd::Service");
        assert_eq!(noun("reboot.target"), "systemd::Unit");
    }

    #[test]
    fn an_alias_is_judged_as_the_unit_it_stands_for_and_shown_as_asked() {
        let unit = Service::found("harmless.service".to_owned(), "database.service".to_owned(), String::new());
        assert_eq!((unit.id(), &*unit.shown()), ("database.service", "harmless.service"));
    }
}
