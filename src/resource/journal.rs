//! `journal::Log`: a part of the system's journal that a policy can name.

use crate::error::Result;
use crate::policy::{Attribute, Noun, Resource, Value};

const fn attribute(name: &'static str, doc: &'static str) -> Attribute {
    Attribute { name, cedar: "String", required: true, fixed: true, doc }
}

pub const LOG: Noun = Noun {
    name: "journal::Log",
    parents: &["journal::Log"],
    attributes: &[attribute("name", "Its id."), attribute("kind", "unit, kernel or system.")],
    doc: "A part of the system's journal. The log of a unit has the unit's full name as its id, e.g. `nginx.service`; the kernel's is `kernel`; both are in `system`, the whole journal. A permission for `system` alone shows everything but the logs that some policy forbids.",
};

/// A part of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Log {
    /// The log of the unit with this full name.
    Unit(String),
    Kernel,
    /// All of it.
    System,
}

impl Resource for Log {
    const NOUNS: &'static [Noun] = &[LOG];
    fn noun(&self) -> &'static Noun {
        &LOG
    }
    fn id(&self) -> &str {
        match self {
            Self::Unit(name) => name,
            Self::Kernel => "kernel",
            Self::System => "system",
        }
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        if *self != Self::System {
            visit(LOG.name, "system");
        }
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        Ok(match name {
            "name" => Some(Value::String(self.id().to_owned())),
            "kind" => Some(Value::String(
                match self {
                    Self::Unit(_) => "unit",
                    Self::Kernel => "kernel",
                    Self::System => "system",
                }
                .to_owned(),
            )),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn every_log_but_the_whole_is_in_the_whole() {
        let above = |log: Log| {
            let mut above = Vec::new();
            log.each_ancestor(&mut |kind, id| above.push(format!("{kind} {id}")));
            above
        };
        assert_eq!(above(Log::Unit("a.service".to_owned())), ["journal::Log system"]);
        assert_eq!(above(Log::Kernel), ["journal::Log system"]);
        assert!(above(Log::System).is_empty());
    }
}
