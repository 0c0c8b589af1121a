//! `sysinfo::Sysinfo`: this machine, as far as it tells its names, load and processors.

use crate::error::Result;
use crate::policy::{Noun, Resource, Value};

pub const SYSINFO: Noun = Noun { name: "sysinfo::Sysinfo", parents: &[], attributes: &[], doc: "This machine; its id is `local`." };

/// This machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine;

impl Resource for Machine {
    const NOUNS: &'static [Noun] = &[SYSINFO];

    fn noun(&self) -> &'static Noun {
        &SYSINFO
    }
    fn id(&self) -> &str {
        "local"
    }
    fn each_ancestor(&self, _: &mut dyn FnMut(&'static str, &str)) {}
    fn attribute(&self, _: &str) -> Result<Option<Value>> {
        Ok(None)
    }
}
