//! Things that are known by their name only: the folder of a thing, and what somebody asks about beforehand.

use crate::error::{Error, Kind, Result};
use crate::policy::kinds;
use crate::policy::slice::Thing;
use crate::policy::words::{Attribute, Noun, Value};

/// The folder as far as its path tells: all that a question about `open` on it may need.
pub(super) const FOLDER: Noun = Noun {
    name: "file_system::Dir",
    parents: &["file_system::Dir"],
    attributes: &[Attribute { name: "path", cedar: "String", required: true, fixed: true, doc: "Its canonical path." }],
    doc: "The folder of the thing in question.",
};

/// The folder that a thing is in, with what is above it.
pub(super) fn folder_of(thing: &dyn Thing) -> Option<(Vec<String>, String)> {
    let mut folders = Vec::new();
    thing.each_ancestor(&mut |kind, id| {
        if kind == FOLDER.name {
            folders.push(id.to_owned());
        }
    });
    let mut folders = folders.into_iter();
    let nearest = folders.next()?;
    Some((folders.collect(), nearest))
}

pub(super) struct Folder<'a> {
    pub(super) id: &'a str,
    pub(super) above: &'a [String],
}

impl Thing for Folder<'_> {
    fn noun(&self) -> &'static Noun {
        &FOLDER
    }
    fn id(&self) -> &str {
        self.id
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        self.above.iter().for_each(|id| visit(FOLDER.name, id));
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        if name == "path" {
            return Ok(Some(Value::String(self.id.to_owned())));
        }
        Err(Error::new(Kind::Internal, "only the path of a folder is known"))
    }
    fn complete(&self) -> bool {
        false
    }
}

/// A thing that is only named.
pub(super) struct Named<'a> {
    pub(super) noun: &'static Noun,
    pub(super) id: &'a str,
}

impl Named<'_> {
    /// What the name alone tells.
    pub(super) fn value(&self, name: &str) -> Option<Value> {
        if self.noun.name == "network::url" {
            return crate::policy::url::told_by_id(self.id, name);
        }
        let own = matches!((self.noun.name, name), ("file_system::File" | "file_system::Dir", "path") | ("sysinfo::Hostname", "hostname"))
            || (name == "name" && kinds::is_name(self.noun.name));
        own.then(|| Value::String(self.id.to_owned()))
    }
}

impl Thing for Named<'_> {
    fn noun(&self) -> &'static Noun {
        self.noun
    }
    fn id(&self) -> &str {
        self.id
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        if let Some((kind, id)) = kinds::whole_of(self.noun.name, self.id) {
            return visit(kind, id);
        }
        if !self.noun.parents.contains(&FOLDER.name) {
            return;
        }
        let mut rest = self.id;
        while let Some((above, _)) = rest.rsplit_once('/').filter(|_| rest != "/") {
            visit(FOLDER.name, if above.is_empty() { "/" } else { above });
            if above.is_empty() {
                break;
            }
            rest = above;
        }
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        Ok(self.value(name))
    }
}
