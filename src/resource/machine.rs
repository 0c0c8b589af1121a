//! `sysinfo::Sysinfo`: this machine, as far as it tells its names, load and processors; `sysctl::Sysctl`: the settings of its kernel.

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

pub const SYSCTL: Noun =
    Noun { name: "sysctl::Sysctl", parents: &[], attributes: &[], doc: "The kernel's settings as a whole; their id is `local`." };

/// The settings of the kernel as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Settings;

impl Resource for Settings {
    const NOUNS: &'static [Noun] = &[SYSCTL];

    fn noun(&self) -> &'static Noun {
        &SYSCTL
    }
    fn id(&self) -> &str {
        "local"
    }
    fn each_ancestor(&self, _: &mut dyn FnMut(&'static str, &str)) {}
    fn attribute(&self, _: &str) -> Result<Option<Value>> {
        Ok(None)
    }
}
