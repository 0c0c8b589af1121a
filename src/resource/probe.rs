//! `probe_system::Probe` and `probe_system::Probes`: checks that the owner declares in rex.toml.

use crate::error::{Result, bad_argument};
use crate::policy::{Attribute, Noun, Resource, Value};

pub const PROBE: Noun = Noun {
    name: "probe_system::Probe",
    parents: &["probe_system::Probes"],
    attributes: &[Attribute { name: "name", cedar: "String", required: true, fixed: true, doc: "Its name." }],
    doc: "A check that rex.toml declares as `[probes.NAME]`. Its id is its name.",
};
pub const PROBES: Noun =
    Noun { name: "probe_system::Probes", parents: &[], attributes: &[], doc: "All checks that rex.toml declares; its id is `local`." };

/// A check, declared or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    name: String,
}

impl Probe {
    /// # Errors
    /// [`crate::error::Kind::BadArgument`] when nothing can be declared by that name.
    pub fn of(name: &str) -> Result<Self> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.is_empty() || name.len() > 100 || !name.chars().all(legal) {
            let shown: String = name.chars().take(60).collect();
            return Err(bad_argument(format!("`{}` is no name of a probe: letters, digits and `_-.` are", shown.escape_debug())));
        }
        Ok(Self { name: name.to_owned() })
    }
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Resource for Probe {
    const NOUNS: &'static [Noun] = &[PROBE];
    fn noun(&self) -> &'static Noun {
        &PROBE
    }
    fn id(&self) -> &str {
        &self.name
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        visit(PROBES.name, "local");
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        Ok((name == "name").then(|| Value::String(self.name.clone())))
    }
}

/// All of them.
#[derive(Clone, Copy, Debug)]
pub struct Probes;

impl Resource for Probes {
    const NOUNS: &'static [Noun] = &[PROBES];
    fn noun(&self) -> &'static Noun {
        &PROBES
    }
    fn id(&self) -> &'static str {
        "local"
    }
    fn each_ancestor(&self, _: &mut dyn FnMut(&'static str, &str)) {}
    fn attribute(&self, _: &str) -> Result<Option<Value>> {
        Ok(None)
    }
}
